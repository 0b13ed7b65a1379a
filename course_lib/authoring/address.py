"""Where the course is published: pyproject.toml names the address, every other file repeats it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically

NAME = "microgpt-to-nanochat"
# of github.com/OWNER/NAME, git@github.com:OWNER/NAME, Colab's /github/OWNER/NAME, and the host OWNER.github.io/NAME
OWNER = re.compile(
    rf"(?:(?<=github\.com[/:])|(?<=/github/))[\w.<>{{}}$-]+(?=/{NAME})|[\w.<>{{}}$-]+\.github\.io(?=/{NAME})"
)
FILES = ("*.md", "docs/*.md", "CITATION.cff", ".github/ISSUE_TEMPLATE/*.yml", "notebooks/text/*.py")


def repository(root: Path) -> str:
    """`https://github.com/OWNER/microgpt-to-nanochat`, as pyproject.toml has it."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8")).get("project", {})
    found = project.get("urls", {}).get("Repository", "")
    if not re.fullmatch(rf"https://github\.com/[\w-]+/{NAME}", found):
        raise CourseError(
            f"pyproject.toml: [project.urls] must hold Repository = 'https://github.com/OWNER/{NAME}', not {found!r}"
        )
    return found


def _repeated(root: Path) -> Iterator[tuple[Path, str, str]]:
    """(file, its text, its text with the right address) of each file that may repeat the address."""
    owner = repository(root).split("/")[-2]
    for path in sorted(path for pattern in FILES for path in root.glob(pattern)):
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError:
            continue  # of a text, the other checks say it
        right = OWNER.sub(lambda had: f"{owner}.github.io" if had[0].endswith(".github.io") else owner, text)
        yield path, text, right


def address_problems(root: Path) -> Iterator[str]:
    """Each line that names another owner of the course than pyproject.toml."""
    for path, text, right in _repeated(root):
        for number, (had, wanted) in enumerate(zip(text.split("\n"), right.split("\n"), strict=True), 1):
            if had != wanted:
                yield (
                    f"{path.relative_to(root).as_posix()}:{number}: names another address of the course than "
                    f"{repository(root)} of pyproject.toml; `course sync` writes it"
                )


def write_address(root: Path) -> Iterator[str]:
    """Write the address into every file that repeats it; a line to print for each that changed."""
    for path, text, right in _repeated(root):
        if text != right:
            with write_atomically(path) as file:
                file.write(right)
            yield f"wrote {repository(root)} into {path.relative_to(root).as_posix()}"

"""Lists of names as people have them: a name a line, in any script.

Written by hand; chapter 01 uses it.
"""

import re
import unicodedata
from pathlib import Path

from course_lib.data.text_file import RAISE, max_chars, open_text
from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir
from course_lib.host.words import in_one_line, printable

EXPECTED = "one name a line"
WORDS = "names?|vornamen?|prénoms?|nombres?|noms?|nomes?|imię|imiona|имя|имена|名前|名字|姓名|이름"
HEAD = re.compile(rf"#.*|(.*\W)?({WORDS})(\W.*)?", re.IGNORECASE)


def load_names(path: str | Path | None = None, lower: bool = False) -> list[str]:
    """Names of a text file in its order; blank lines and spaces around a name are dropped.

    path: by default the names of the course; UTF-8, or UTF-16 with its mark, also packed with gzip. lower: in lower
    case. Lines above the names that begin with # or say "name" are left out, and this is printed. Raises CourseError
    for a file that cannot be read, has no name, or control characters.
    """
    path = data_dir() / "names.txt" if path is None else Path(path)
    if path.is_dir() or not path.exists():  # /dev/stdin is neither a file nor a folder
        problem = "it is a folder" if path.is_dir() else "it is not there"
        raise CourseError(f"cannot read {path} ({problem}); give a text file with {EXPECTED}")
    with open_text(path, newline=None) as file:
        text = file.read(max_chars() + 1)
    if len(text) > max_chars():
        raise CourseError(f"{path} has over {max_chars():,} characters; give a shorter list, or {RAISE}")
    lines = [line.replace("\ufeff", "").strip() for line in text.split("\n")]
    for number, line in enumerate(lines, start=1):
        if wrong := re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", line):
            raise CourseError(f"{path}, line {number}: found {wrong[0]!r}; expected {EXPECTED}; correct that line")
    names = [line for line in lines if line]
    head = next((n for n, name in enumerate(names) if not HEAD.fullmatch(name)), len(names))
    if head:
        print(f"{printable(path.name)}: left out above the names: {in_one_line(', '.join(names[:head]))[:80]!r}")
    if not names[head:]:
        raise CourseError(f"{path} has no names; give a text file with {EXPECTED}")
    return [name.lower() if lower else name for name in names[head:]]


def remarks(names: list[str], context: int) -> list[str]:
    """What may surprise in a list of one's own: characters that are in no name, and names longer than the context."""
    said = []
    others = {char for name in names for char in name if unicodedata.category(char)[0] not in "LM"}
    if others := sorted(others.difference(" -.·・'’ʻʼ‘")):
        example = next(name for name in names if others[0] in name)
        shown = printable(" ".join(others[:20])) + " …" * (len(others) > 20)
        said.append(f"besides letters the names have {shown}, as in {printable(example)[:40]!r}: it learns them, too")
    if long := sum(len(name) >= context for name in names):
        said.append(
            f"{long:,} of {len(names):,} names have more than {context - 1} characters: it learns the first {context}"
        )
    return said

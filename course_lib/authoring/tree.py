"""The files of the course: each notebook with its text, how to read them, and where a cell stands."""

import json
import re
import warnings
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jupytext
import nbformat

from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically
from course_lib.host.paths import CHECKOUT

# What JupyterLab writes on opening a notebook: one that holds it already does not count as edited.
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
    "version": "3.11.0",  # microgpt_jupyter.py has the server show its own
}
# With comment_magics, a comment such as "# copy the weights" becomes the line "copy the weights" of the notebook.
TEXT_FORMAT = {"extension": ".py", "format_name": "percent", "comment_magics": False}
TEXT_OPTIONS = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all", "comment_magics": False}
COLOUR = re.compile(r"\x1b\[[\d;]*m")
NUMBERED = re.compile(r"(\d\d)_[a-z0-9_]+")


@dataclass(frozen=True)
class Pair:
    """A notebook and its text. `name` is what commands call it: "03_microgpt" or "solutions/03_microgpt_solutions"."""

    root: Path
    name: str

    @property
    def text(self) -> Path:
        return self.root / "notebooks" / "text" / f"{self.name}.py"

    @property
    def notebook(self) -> Path:
        return self.root / "notebooks" / f"{self.name}.ipynb"

    @property
    def number(self) -> str:
        """The two digits of the chapter."""
        return self.text.stem[:2]

    @property
    def is_solution(self) -> bool:
        return self.name.startswith("solutions/")

    def show(self, path: Path) -> str:
        """`path` as messages name it: relative to the checkout."""
        return path.relative_to(self.root).as_posix()


def all_pairs(root: Path = CHECKOUT) -> list[Pair]:
    """Every notebook of the course in order, chapters first; a notebook or text without its twin counts too."""
    folders = {"": root / "notebooks", "solutions/": root / "notebooks" / "solutions"}
    texts = {"": root / "notebooks" / "text", "solutions/": root / "notebooks" / "text" / "solutions"}
    names = []
    for prefix in folders:
        files = [*folders[prefix].glob("*.ipynb"), *texts[prefix].glob("*.py")]
        names += sorted({f"{prefix}{file.stem}" for file in files if NUMBERED.fullmatch(file.stem)})
    return [Pair(root, name) for name in names]


def select(names: list[str], root: Path = CHECKOUT) -> list[Pair]:
    """The pairs that `names` ask for: "03", "03_microgpt", "solutions/03" or a file's path; all when it is empty."""
    pairs = all_pairs(root)
    if not pairs:
        raise CourseError(f"no notebooks under {root / 'notebooks'}; run this in a checkout of the course")
    if not names:
        return pairs
    chosen = []
    for name in names:
        wanted = re.sub(r"^(\./)?(notebooks/)?(text/)?", "", name).removesuffix(".ipynb").removesuffix(".py")
        found = [pair for pair in pairs if pair.name == wanted]
        found = found or [pair for pair in pairs if wanted and pair.name.startswith(wanted)]
        if not found:
            known = ", ".join(pair.name for pair in pairs)
            raise CourseError(f"no notebook is called {name!r}; there are {known}")
        chosen += [pair for pair in found if pair not in chosen]
    return chosen


@cache
def _parsed(source: str):
    """One command reads each text several times, and jupytext takes a tenth of a second for it."""
    return jupytext.reads(source, TEXT_FORMAT)


def read_text(pair: Pair):
    """The notebook that the text stands for, without outputs."""
    try:
        return deepcopy(_parsed(pair.text.read_text("utf-8-sig")))
    except FileNotFoundError:
        raise CourseError(
            f"{pair.show(pair.text)} is missing; `course pull {pair.name}` makes it from the notebook"
        ) from None
    except UnicodeDecodeError as error:
        raise CourseError(f"{pair.show(pair.text)} is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except ValueError as error:  # jupytext: a line that names another encoding
        raise CourseError(f"{pair.show(pair.text)} cannot be read: {error}; mend its first lines") from None


def read_notebook(pair: Pair):
    """The notebook as it lies on disk; CourseError when it is missing or damaged."""
    shown = pair.show(pair.notebook)
    mend = f"restore it from git, or delete it and run `course sync {pair.name}` and `course run {pair.name}`"
    try:
        raw = pair.notebook.read_text("utf-8")
        version = json.loads(raw).get("nbformat")
        if version != 4:
            raise CourseError(f"{shown} has notebook format {version}, expected 4; {mend}")
        with warnings.catch_warnings():  # nbformat gives cells without ids, or with the same one, new ids and says so
            warnings.simplefilter("ignore")
            notebook = nbformat.reads(raw, as_version=4)
            nbformat.validate(notebook)
    except FileNotFoundError:
        raise CourseError(f"{shown} is missing; `course sync {pair.name}` makes it from the text") from None
    except UnicodeDecodeError as error:
        raise CourseError(f"{shown} is damaged: byte {error.start} is not UTF-8; {mend}") from None
    except json.JSONDecodeError as error:
        raise CourseError(f"{shown} is damaged: line {error.lineno} is not JSON ({error.msg}); {mend}") from None
    except CourseError:
        raise
    except Exception as error:  # nbformat has no one error for what it cannot read
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CourseError(f"{shown} is not a notebook of format 4: {reason}; {mend}") from None
    return notebook


def canonical(notebook):
    """The notebook without what differs from machine to machine: versions, timings, trust, editor state."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.pop("attachments", None)
    return notebook


def as_text(notebook) -> str:
    """The percent-format text of a notebook's inputs."""
    bare = nbformat.from_dict({**notebook, "metadata": {"jupytext": TEXT_OPTIONS}})
    return jupytext.writes(bare, TEXT_FORMAT)


def inputs(notebook) -> list[tuple]:
    """What text and notebook must agree on: kind, source and tags of each cell."""
    return [(cell.cell_type, cell.source, tuple(cell.metadata.get("tags", []))) for cell in notebook.cells]


def text_of(output) -> str:
    """What an output of a cell shows as text, without its colours."""
    data = output.get("data", {})
    shown = "".join([output.get("text", ""), *(str(data.get(kind, "")) for kind in ("text/plain", "text/html"))])
    return COLOUR.sub("", shown)


def write_notebook(pair: Pair, notebook) -> None:
    """Write the notebook whole or not at all."""
    pair.notebook.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(pair.notebook) as file:
        nbformat.write(notebook, file)


def place(pair: Pair, cells: list, index: int, line: int = 1) -> str:
    """Name a line of a cell the way an editor can follow: `notebooks/text/03_x.py:120 (cell 14, line 3)`.

    index: place in `cells`, from 0; line: line in the cell, from 1.
    """
    spot, found = "", -1
    if pair.text.exists() and cells[index].source:
        text, at = pair.text.read_text("utf-8-sig"), 0
        for cell in cells[: index + 1]:
            source = cell.source
            if cell.cell_type == "markdown":
                source = "\n".join(f"# {words}".rstrip() for words in source.split("\n"))
            found = text.find(f"\n{source}", at)
            at = max(at, found + 1 + len(source) if found >= 0 else 0)
    if found >= 0:
        spot = f":{text.count(chr(10), 0, found + 1) + line}"
    return f"{pair.show(pair.text)}{spot} (cell {index + 1}, line {line})"

"""A learner's own copy of the notebooks, which no update of the course touches, and what is solved in it."""

import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically
from course_lib.host.words import plural

COPIED = ("[0-9][0-9]_*.ipynb", "solutions/[0-9][0-9]_*.ipynb", "images/*.png")  # of the folder notebooks
CHECK = re.compile(r"\bcheck\(exercises\.")
HEADING = re.compile(r"^### Exercise (\d+\.\d+) — ([^(\n]*)", re.MULTILINE)
VERDICT = re.compile(r"^(?:\x1b\[[\d;]*m)?([✓✗○])", re.MULTILINE)


def start(folder: Path, root: Path) -> str:
    """Copy chapters, solutions and pictures to `folder` and leave alone what is there already; the line to print."""
    paths = [path for pattern in COPIED for path in sorted((root / "notebooks").glob(pattern))]
    if not paths:
        raise CourseError(f"no notebooks under {root / 'notebooks'}; run this in a checkout of the course")
    missing = [path for path in paths if not (folder / path.relative_to(root / "notebooks")).exists()]
    for path in missing:
        copy = folder / path.relative_to(root / "notebooks")
        copy.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(copy) as file:
            file.buffer.write(_of_this_machine(path).encode() if path.suffix == ".ipynb" else path.read_bytes())
    there = len(paths) - len(missing)
    kept = f"; {plural(there, 'file')} were there already and stayed as they were" if there else ""
    return f"copied {plural(len(missing), 'file')} to {folder}: open it with `uv run jupyter lab {folder}`{kept}"


def _of_this_machine(path: Path) -> str:
    """The notebook with the version of this Python, as JupyterLab would write it, so that it opens unedited."""
    notebook = json.loads(path.read_text("utf-8"))
    notebook["metadata"]["language_info"]["version"] = platform.python_version()
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def progress(folder: Path) -> Iterator[str]:
    """A line for each chapter in `folder`, from the outputs of its checks as they were saved, and one for all."""
    paths = sorted(folder.glob(COPIED[0]))
    if not paths:
        raise CourseError(f"no notebooks of the course in {folder}; `uv run course start` copies them there")
    solved = total = 0
    for path in paths:
        marks = list(_marks(path))
        done = sum(mark == "✓" for mark, _ in marks)
        solved, total = solved + done, total + len(marks)
        yield f"{path.stem:20s} {done} of {len(marks)}  " + "  ".join(f"{mark} {name}" for mark, name in marks)
    yield f"{solved} of {total} exercises solved in {folder}, as it was saved last (✗ wrong, ○ not written or not run)"


def _marks(path: Path) -> Iterator[tuple[str, str]]:
    """(mark, number and title of the exercise) of each check in a notebook."""
    exercise = "?"
    try:
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                headings = HEADING.findall("".join(cell["source"]))
                exercise = " ".join(headings[-1]).rstrip() if headings else exercise
                continue
            printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
            marks = iter(VERDICT.findall(printed))
            broken = any(output["output_type"] == "error" for output in cell["outputs"])
            for _ in CHECK.findall("".join(cell["source"])):
                yield next(marks, "✗" if broken else "○"), exercise
    except (ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{path} is no notebook ({type(error).__name__}: {error}); restore it or delete it") from None

"""Text to notebook and back."""

from difflib import SequenceMatcher

from course_lib.authoring.course_map import write_below_map
from course_lib.authoring.map_picture import write_map
from course_lib.authoring.tree import (
    Pair,
    as_text,
    canonical,
    inputs,
    read_notebook,
    read_text,
    write_notebook,
)
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically


def synced(pair: Pair):
    """The notebook of a text: cells keep their ids, and code cells above the first changed one their outputs.

    An output below a changed cell may no longer be true, so it goes until `course run`.
    """
    notebook = canonical(read_text(pair))
    old = read_notebook(pair).cells if pair.notebook.exists() else []
    before, after = ([(cell.cell_type, cell.source) for cell in cells] for cells in (old, notebook.cells))
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind in ("equal", "replace"):
            for cell, kept in zip(notebook.cells[b0:b1], old[a0:a1], strict=False):
                if cell.cell_type == kept.cell_type and "id" in kept:
                    cell.id = kept.id
    code, old_code = ([cell for cell in cells if cell.cell_type == "code"] for cells in (notebook.cells, old))
    for cell, kept in zip(code, old_code, strict=False):
        if cell.source != kept.source:
            break
        cell.outputs, cell.execution_count = kept.outputs, kept.execution_count
    return notebook


def sync(pair: Pair, overwrite: bool = False) -> str | None:
    """Write the notebook from its text; the line to print, None when nothing changed."""
    write_map(pair)
    write_below_map(pair)
    notebook = synced(pair)
    if pair.notebook.exists():
        if inputs(read_notebook(pair)) == inputs(notebook):
            return None
        _refuse_newer(pair, pair.notebook, pair.text, "pull", overwrite)
    write_notebook(pair, notebook)
    stale = any(
        cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None for cell in notebook.cells
    )
    hint = f"; `course run {pair.name}` fills in its outputs" if stale else ""
    return f"wrote {pair.show(pair.notebook)}{hint}"


def pull(pair: Pair, overwrite: bool = False) -> str | None:
    """Write the text from its notebook, after editing in JupyterLab; the line to print, None when nothing changed."""
    notebook = read_notebook(pair)
    if pair.text.exists():
        if inputs(read_text(pair)) == inputs(notebook):
            return None
        _refuse_newer(pair, pair.text, pair.notebook, "sync", overwrite)
    pair.text.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(pair.text) as file:
        file.write(as_text(notebook))
    return f"wrote {pair.show(pair.text)}"


def _refuse_newer(pair: Pair, target, source, other: str, overwrite: bool) -> None:
    """CourseError when `target` was edited after `source`: writing it would lose that edit."""
    if not overwrite and target.stat().st_mtime > source.stat().st_mtime:
        raise CourseError(
            f"{pair.show(target)} was changed after {pair.show(source)}; `course {other} {pair.name}` keeps that "
            "change, --overwrite loses it"
        )

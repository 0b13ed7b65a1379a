"""What must hold of the notebooks and the package; each problem is one line that says where and what to do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt

from course_lib.authoring import export, rooms
from course_lib.authoring.address import address_problems
from course_lib.authoring.course_map import below_map, readme
from course_lib.authoring.map_picture import map_is_current, map_path
from course_lib.authoring.rules import chapter_problems, prose
from course_lib.authoring.tree import Pair, canonical, inputs, place, read_notebook, read_text, text_of
from course_lib.host.errors import CourseError

LIMIT = 300_000  # bytes of a notebook
TAGS = {"exercise", "nbval-check-output", "nbval-skip", "skip-execution"}
OUTSIDE = re.compile(r"[a-z]+:")
WIDGETS = "application/vnd.jupyter.widget"


def problems(pairs: list[Pair], root: Path) -> list[str]:
    """Everything that is out of step in `pairs`, and in the package as a whole."""
    found = []
    for pair in pairs:
        found += _caught(_notebook_problems(pair))
        if not pair.is_solution:
            found += _caught(chapter_problems(pair))
    found += _caught(_readme_problems(root))
    found += _caught(address_problems(root))
    found += _caught(_package_problems(pairs, root))
    return list(dict.fromkeys(found))  # what stops both kinds of check is said once


def _caught(found: Iterator[str]) -> Iterator[str]:
    try:
        yield from found
    except CourseError as error:
        yield str(error)


def _readme_problems(root: Path) -> Iterator[str]:
    if (root / "README.md").read_text("utf-8") != readme(root):
        yield "README.md: its chapters are out of date; `course sync` writes them from the headers"


def links(pairs: list[Pair], root: Path) -> list[str]:
    """The addresses outside that chapters and documents lead to, each once; nothing opens them."""
    texts = [path.read_text("utf-8") for path in (*root.glob("*.md"), *root.glob("*/*.md"))]
    texts += [cell.source for pair in pairs for cell in read_text(pair).cells if cell.cell_type == "markdown"]
    return sorted({target for text in texts for target in _targets(text) if OUTSIDE.match(target)})


def _targets(markdown: str) -> Iterator[str]:
    """Where the links and pictures of a text lead."""
    for token in MarkdownIt().enable("table").parse(markdown):
        for part in token.children or []:
            if target := part.attrGet("href") or part.attrGet("src"):
                yield unquote(target)


def _notebook_problems(pair: Pair) -> Iterator[str]:
    text, notebook = read_text(pair), read_notebook(pair)
    shown, cells = pair.show(pair.notebook), notebook.cells
    if not pair.is_solution and pair.text.read_text("utf-8-sig") != below_map(pair):
        yield f"{pair.show(pair.text)}: the line below its map is out of date; `course sync {pair.name}` writes it"
    if inputs(notebook) != inputs(text):
        same = zip(inputs(notebook), inputs(text), strict=False)
        index = next((n for n, (a, b) in enumerate(same) if a != b), min(len(cells), len(text.cells)))
        yield (
            f"{shown}: cell {index + 1} differs from {pair.show(pair.text)}; `course sync {pair.name}` takes the text, "
            f"`course pull {pair.name}` the notebook"
        )
        return
    size = pair.notebook.stat().st_size
    if size > LIMIT:
        yield f"{shown}: {size / 1000:.0f} kB, the limit is {LIMIT / 1000:.0f} kB; draw fewer or smaller figures"
    if notebook != canonical(read_notebook(pair)):
        yield f"{shown}: holds widget state, attachments, another kernel or cells without ids; `course run {pair.name}`"
    yield from _tag_problems(pair, cells)
    yield from _output_problems(pair, cells)
    yield from link_problems(pair, cells)
    if not pair.is_solution:
        if not map_is_current(pair):
            yield f"{pair.show(map_path(pair))}: it or its PNG is out of date; `course sync {pair.name}`"
        words, solution = prose(cells), Pair(pair.root, f"solutions/{pair.name}_solutions")
        if any("exercise" in cell.metadata.get("tags", []) for cell in cells):
            if not solution.text.exists():
                yield f"{shown}: has exercises; write their solutions in {pair.show(solution.text)}"
            elif not re.search(
                rf"## Exercises\n\nRun the cells above first[^#]*\(solutions/{solution.notebook.name}\)", words
            ):
                yield (
                    f"{shown}: its section '## Exercises' must begin with 'Run the cells above first' and link to "
                    f"(solutions/{solution.notebook.name})"
                )


def _tag_problems(pair: Pair, cells: list) -> Iterator[str]:
    for index, cell in enumerate(cells):
        tags, where = set(cell.metadata.get("tags", [])), place(pair, cells, index)
        if extra := set(cell.metadata) - {"tags"}:
            yield f"{where}: cell metadata {sorted(extra)}; only tags may stay, `course run {pair.name}`"
        if unknown := tags - TAGS:
            yield f"{where}: unknown tags {sorted(unknown)}; the course knows {sorted(TAGS)}"
        if ("nbval-skip" in tags) != ("skip-execution" in tags):
            yield f"{where}: nbval-skip and skip-execution only work together; give the cell both"


def _output_problems(pair: Pair, cells: list) -> Iterator[str]:
    rerun, number, printed = f"`course run {pair.name}`", 0, False
    for index, cell in enumerate(cells):
        if cell.cell_type != "code" or not cell.source.strip() or "skip-execution" in cell.metadata.get("tags", []):
            continue
        number += 1
        where = place(pair, cells, index)
        if cell.execution_count is None:
            yield f"{where}: was not run; {rerun}"
            return
        if cell.execution_count != number:
            yield f"{where}: ran as number {cell.execution_count}, expected {number}, from top to bottom; {rerun}"
            return
        if not cell.outputs and _prints(cell.source):
            yield f"{where}: its output is missing; {rerun}"
        printed = printed or bool(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{where}: its output is the error {output.ename}: {output.evalue}; mend the cell, then {rerun}"
            if output.get("name") == "stderr":
                yield f"{where}: its output holds warnings; mend what it warns of, then {rerun}"
            if any(kind.startswith(WIDGETS) for kind in output.get("data", {})):
                yield f"{where}: draws a widget, which GitHub cannot show; print or plot instead"
            if "✗" in text_of(output):
                yield f"{where}: its output holds ✗, a claim or an answer that is wrong; mend it, then {rerun}"
            if "(quick run: not judged)" in text_of(output):
                yield f"{where}: its output is that of a quick run; {rerun}"
            if folder := _machine_path(output, pair.root):
                yield f"{where}: its output names the folder {folder} of this machine; print a relative path"
    if number and not printed:
        yield f"{pair.show(pair.notebook)}: holds no outputs; {rerun}"


def _prints(source: str) -> bool:
    """Whether a cell prints at its top level, so that an output must be there."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False
    calls = [node.value for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    return any(ast.unparse(call.func) in ("print", "plt.show", "claim") for call in calls)


def _machine_path(output, root: Path) -> str | None:
    folders = [str(folder) for folder in (root, Path.home()) if len(folder.parts) > 1]
    return next((folder for folder in folders if f"{folder}/" in text_of(output)), None)


def link_problems(pair: Pair, cells: list) -> Iterator[str]:
    """Links to files that do not exist, or that a JupyterLab whose root is `notebooks` does not serve."""
    served = pair.root / "notebooks"
    for index, cell in enumerate(cells):
        if cell.cell_type != "markdown":
            continue
        for target in _targets(cell.source):
            if OUTSIDE.match(target):
                continue
            file = (pair.notebook.parent / target.partition("#")[0]).resolve()
            if not file.exists():
                yield f"{place(pair, cells, index)}: links to {target}, which does not exist"
            elif not file.is_relative_to(served.resolve()):
                yield (
                    f"{place(pair, cells, index)}: links to {target}, which lies outside notebooks/, where JupyterLab "
                    "does not find it; name the file, or show it in a cell"
                )


def _package_problems(pairs: list[Pair], root: Path) -> Iterator[str]:
    modules = export.collect(root)
    asked_for = {name: module for name, module in modules.items() if module.pair in pairs}
    for path, source in export.build(asked_for, root).items():
        shown = path.relative_to(root).as_posix()
        if not path.exists():
            yield f"{shown}: missing; `course export` writes it"
        elif (now := path.read_text("utf-8")) != source:
            lines = zip(now.splitlines(), source.splitlines(), strict=False)
            line = next(
                (n for n, (a, b) in enumerate(lines, 1) if a != b), min(now.count("\n"), source.count("\n")) + 1
            )
            yield f"{shown}:{line}: differs from what its notebook exports; edit the text, then `course export`"
    for path in export.orphans(modules, root):
        yield (
            f"{path.relative_to(root).as_posix()}: no notebook exports it; export it from one, delete it, or say "
            f"in its docstring '{rooms.MARK}; chapter NN uses it.'"
        )
    yield from rooms.room_problems(root / "course_lib")
    yield from _import_problems(modules, pairs, root)


def _import_problems(modules: dict[str, export.Module], pairs: list[Pair], root: Path) -> Iterator[str]:
    """A module imports from earlier chapters, its own, or what is written by hand; so do a chapter's other cells."""
    home = dict.fromkeys(rooms.modules(root / "course_lib"), "")  # what is written by hand is there from the start
    home |= {name: module.pair.number for name, module in modules.items()}
    for module in modules.values():
        if module.pair in pairs:
            for node, where in module.nodes:
                yield from _later_imports(node, where, module.pair, home, exported=True)
    for pair in pairs:
        cells = read_text(pair).cells
        for index, cell in enumerate(cells):
            if cell.cell_type != "code" or export.MARK.match(cell.source):
                continue
            try:
                nodes = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, (ast.Import, ast.ImportFrom))]
            except SyntaxError as error:
                yield f"{place(pair, cells, index, error.lineno or 1)}: {error.msg}"
                continue
            for node in nodes:
                yield from _later_imports(node, place(pair, cells, index, node.lineno), pair, home, exported=False)


def _later_imports(node, where: str, pair: Pair, home: dict[str, str], exported: bool) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.level:
        yield f"{where}: a relative import; write it from course_lib on"
        return
    for name, _ in rooms.imported(node):
        if name not in home and name.rpartition(".")[0] in home:
            name = name.rpartition(".")[0]  # a name of a module, imported from it
        if rooms.room_of(name) in rooms.WORKSHOPS:
            if exported:
                yield f"{where}: course_lib.{rooms.room_of(name)} is for notebooks; an exported cell must do without it"
        elif name not in home:
            yield f"{where}: there is no course_lib.{name}; no notebook exports it"
        elif home[name] > pair.number:
            yield f"{where}: course_lib.{name} comes from the later notebook {home[name]}; import from earlier ones"

"""Collect the cells marked `#| export MODULE` into the modules of `course_lib`.

Rules. MODULE names a room and a module in it, as in `train.muon`. An exported cell holds imports, definitions and
assignments, nothing that acts. The first exported cell of a module opens with its docstring. `@add_to(Class)` puts a
function into the class; what is defined twice, the later one replaces. Comments stay, and the chapter's section
headings become banners. Ruff sorts the imports and lays out the code.
"""

import ast
import keyword
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from course_lib.authoring import rooms
from course_lib.authoring.tree import Pair, all_pairs, place, read_text
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically
from course_lib.host.paths import CHECKOUT

MARK = re.compile(r"#\| export[ \t]+(\S+)[ \t]*(?:\n|$)")
ALMOST = re.compile(r"^\s*#\s*\|\s*export\b", re.MULTILINE)
MODULE_NAME = re.compile(r"backend|[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
ORIGIN = "Exported from notebooks/{}.ipynb; edit it there."
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Statement:
    """A top-level statement of an exported cell with its comments, and where it stands."""

    node: ast.stmt
    text: str
    where: str
    section: str = ""


@dataclass
class Module:
    """A generated module: docstring, imports, and definitions by name in notebook order."""

    pair: Pair
    docstring: str | None = None
    imports: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)  # of each part, the heading under which it was first written
    nodes: list[tuple[ast.stmt, str]] = field(default_factory=list)  # imports wherever they stand, for the checks


def statements(source: str) -> Iterator[tuple[ast.stmt, str]]:
    """Top-level statements with their text: decorators, the comments above, and at the end of the cell those below."""
    lines, at = source.splitlines(), 0
    for node, following in pairwise([*ast.parse(source).body, None]):
        if following and following.lineno <= node.end_lineno:
            raise SyntaxError("two statements on one line; give each its own", ("", following.lineno, 0, ""))
        end = node.end_lineno if following else len(lines)
        yield node, "\n".join(lines[at:end]).strip("\n")
        at = end


def exported_cells(pair: Pair) -> Iterator[tuple[str, list[Statement]]]:
    """(module name, statements) of each exported cell of a notebook's text."""
    cells, section = read_text(pair).cells, ""
    for index, cell in enumerate(cells):
        if cell.cell_type == "markdown" and (headings := SECTION.findall(cell.source)):
            section = headings[-1].strip()
        mark = MARK.match(cell.source) if cell.cell_type == "code" else None
        if not mark:
            if cell.cell_type == "code" and ALMOST.search(cell.source):
                raise CourseError(f"{place(pair, cells, index)}: write the mark as first line, `#| export MODULE`")
            continue
        where, words = place(pair, cells, index), mark[1].split(".")
        known = words[0] in rooms.ROOMS and words[0] not in rooms.BY_HAND
        if not MODULE_NAME.fullmatch(mark[1]) or not known or any(map(keyword.iskeyword, words)):
            raise CourseError(
                f"{where}: cannot export to {mark[1]!r}; name a room and a module not written by hand, as in "
                "`#| export train.muon`"
            )
        # A blank line in place of the mark keeps the line numbers.
        source = "\n" + cell.source[mark.end() :]
        try:
            found = [
                Statement(node, text, place(pair, cells, index, node.lineno), section)
                for node, text in statements(source)
            ]
        except SyntaxError as error:
            raise CourseError(f"{place(pair, cells, index, error.lineno or 1)}: {error.msg}") from None
        if not found:
            raise CourseError(f"{where}: nothing to export here; write the code below the mark, or take the mark away")
        yield mark[1], found


def add_statement(module: Module, name: str, statement: Statement) -> None:
    """Put one statement of an exported cell into its module."""
    node, text, where = statement.node, statement.text, statement.where
    for inner in ast.walk(node):
        if isinstance(inner, (ast.Import, ast.ImportFrom)):
            module.nodes.append((inner, where))
    if module.docstring is None:
        if not (_is_string(node) and text[:3] == text[-3:] == '"""'):
            raise CourseError(
                f'{where}: the first exported cell of {name} must open with a docstring, """What it is."""'
            )
        module.docstring = text
    elif isinstance(node, (ast.Import, ast.ImportFrom)) or _is_type_checking(node):
        module.imports.append(text)
    elif isinstance(node, FUNCTIONS) and (owner := _add_to(node)):
        body = ast.parse(module.parts.get(owner, "0")).body[-1]
        if not isinstance(body, ast.ClassDef):
            raise CourseError(f"{where}: @add_to({owner}), but no earlier cell exports a class {owner} to {name}")
        if body.body[0].lineno == body.lineno:
            raise CourseError(f"{where}: class {owner} stands on one line; give its body lines of its own")
        if any(isinstance(d, ast.Attribute) for d in node.decorator_list):
            raise CourseError(f"{where}: a setter cannot join a class later; write it inside class {owner}")
        module.parts[owner] = add_method(module.parts[owner], node, text)
    elif any("add_to" in ast.unparse(decorator) for decorator in getattr(node, "decorator_list", [])):
        raise CourseError(
            f"{where}: write `@add_to(Class)` above a function, as in `from course_lib.classroom import add_to`"
        )
    elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        module.parts[node.name] = text
        module.sections.setdefault(node.name, statement.section)
    elif targets := _assigned_names(node):
        module.parts[", ".join(targets)] = text
        module.sections.setdefault(", ".join(targets), statement.section)
    else:
        raise CourseError(
            f"{where}: an exported cell may only import, define and assign to names; move `{_first_line(node)}` "
            "to a cell without `#| export`"
        )


def add_method(class_text: str, node: ast.FunctionDef | ast.AsyncFunctionDef, text: str) -> str:
    """The class with the function as a method: in place of the one of that name and its comments, else at the end."""
    method = _indented(text)
    lines = class_text.splitlines()
    for old in ast.parse(class_text).body[-1].body:
        if isinstance(old, FUNCTIONS) and old.name == node.name:
            first, last = min([old.lineno, *(decorator.lineno for decorator in old.decorator_list)]) - 1, old.end_lineno
            while lines[first - 1].lstrip().startswith("#"):
                first -= 1
            while last < len(lines) and re.match(rf" {{{old.col_offset + 1},}}#", lines[last]):
                last += 1
            lines[first:last] = method
            return "\n".join(lines)
    return "\n".join([*lines, "", *method])


def _indented(text: str) -> list[str]:
    """Lines of a function one level deeper, without its @add_to; lines inside a string stay where they are."""
    lines = text.splitlines()
    function = ast.parse(text).body[0]
    decorator = next(d for d in function.decorator_list if _is_add_to(d))
    gone = range(decorator.lineno, decorator.end_lineno + 1)
    if after := lines[decorator.end_lineno - 1].encode()[decorator.end_col_offset :].decode().strip():
        lines[decorator.end_lineno - 1], gone = after, gone[:-1]  # a comment beside it
    fixed = {
        number
        for node in ast.walk(function)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))
        for number in range(node.lineno + 1, node.end_lineno + 1)
    }
    return [
        line if number in fixed or not line else f"    {line}"
        for number, line in enumerate(lines, start=1)
        if number not in gone
    ]


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_type_checking(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        and all(isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in [*node.body, *node.orelse])
    )


def _is_add_to(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "add_to"


def _add_to(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """Name of the class in `@add_to(Name)`."""
    return next((ast.unparse(d.args[0]) for d in node.decorator_list if _is_add_to(d) and d.args), None)


def _assigned_names(node: ast.stmt) -> list[str]:
    """Names that an assignment binds; empty for anything that is not a plain assignment to names."""
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    else:
        return []
    flat = [item for target in targets for item in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [item.id for item in flat] if all(isinstance(item, ast.Name) for item in flat) else []


def _first_line(node: ast.stmt) -> str:
    return ast.unparse(node).splitlines()[0]


def source_of(module: Module, name: str) -> str:
    """The module's source, imports sorted and code laid out by ruff."""
    quotes = module.docstring.rstrip()[-3:]
    head = module.docstring.rstrip().removesuffix(quotes).rstrip()
    parts = [
        f"{head}\n\n{ORIGIN.format(module.pair.name)}\n{quotes}",
        "\n".join(module.imports),
        *_with_banners(module),
    ]
    return ruff("\n\n".join(part for part in parts if part) + "\n", name, module.pair)


def _with_banners(module: Module) -> Iterator[str]:
    """The parts, each run of one section under its heading; a module of one section needs none."""
    several, before = len(set(module.sections.values())) > 1, ""
    for name, text in module.parts.items():
        section = module.sections[name]
        if several and section and section != before:
            yield f"# ---- {section}\n\n\n{text}"
        else:
            yield text
        before = section


def ruff(source: str, name: str, pair: Pair) -> str:
    """`source` with sorted imports and in the project's layout."""
    program = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if program is None:
        raise CourseError("ruff is not installed; `uv sync` installs the development tools")
    file = f"course_lib/{name.replace('.', '/')}.py"
    for flags in (["check", "--select", "I", "--fix-only", "--quiet"], ["format"]):
        command = [program, *flags, "--stdin-filename", file, "-"]
        done = subprocess.run(command, input=source, capture_output=True, encoding="utf-8", cwd=pair.root)
        if done.returncode:
            raise CourseError(f"{pair.show(pair.text)}: ruff cannot lay out {file}: {done.stderr.strip()}")
        source = done.stdout
    return source


def collect(root: Path = CHECKOUT) -> dict[str, Module]:
    """The modules that the chapters' texts define, by name, in course order."""
    modules: dict[str, Module] = {}
    for pair in all_pairs(root):
        if pair.is_solution or not pair.text.exists():
            continue
        for name, found in exported_cells(pair):
            module = modules.setdefault(name, Module(pair))
            if module.pair != pair:
                where = found[0].where if found else pair.show(pair.text)
                raise CourseError(
                    f"{where}: {name} belongs to {module.pair.name}; a module has one notebook, export to another"
                )
            for statement in found:
                add_statement(module, name, statement)
    return modules


def path_of(name: str, root: Path) -> Path:
    """File of the module `name`."""
    return root / "course_lib" / f"{name.replace('.', '/')}.py"


def build(modules: dict[str, Module], root: Path) -> dict[Path, str]:
    """Source of each file that `modules` make, by its path."""
    return {path_of(name, root): source_of(module, name) for name, module in modules.items()}


def orphans(modules: dict[str, Module], root: Path) -> list[Path]:
    """Files of the package that no notebook exports and that do not say that they are written by hand."""
    package = root / "course_lib"
    wanted = {path_of(name, root) for name in modules}
    return [
        path
        for name, path in rooms.modules(package).items()
        if path not in wanted
        and path.name != "__init__.py"
        and rooms.room_of(name) not in rooms.BY_HAND
        and rooms.MARK not in (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
    ]


def write(pairs: list[Pair], root: Path = CHECKOUT, overwrite: bool = False) -> Iterator[str]:
    """Write the modules of `pairs`; yields a line for each file that changed.

    Everything is built before anything is written. A module edited by hand after its notebook's text is not
    replaced without `overwrite`.
    """
    modules = {name: module for name, module in collect(root).items() if module.pair in pairs}
    files = build(modules, root)
    changed = [path for path, source in files.items() if not path.exists() or path.read_text("utf-8") != source]
    texts = {path_of(name, root): module.pair.text for name, module in modules.items()}
    for path in changed:
        text = texts.get(path)
        if not overwrite and text and path.exists() and path.stat().st_mtime > text.stat().st_mtime:
            raise CourseError(
                f"{path.relative_to(root).as_posix()} is newer than {text.relative_to(root).as_posix()} and differs; "
                "if it was edited by hand, move the change into the text; then `course export --overwrite`"
            )
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            file.write(files[path])
        yield f"wrote {path.relative_to(root).as_posix()}"

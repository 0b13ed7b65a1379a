"""The rooms of `course_lib`, in the order in which the course builds them, and which imports that order allows."""

import ast
from collections.abc import Iterator
from pathlib import Path

# A room imports only from rooms above it in this list, and from itself.
ROOMS = (
    "host",
    "backend",
    "data",
    "names",
    "model",
    "train",
    "evaluate",
    "generate",
    "weights",
    "chat",
    "serve",
    "pipeline",
    "scripts",
)
WORKSHOPS = ("classroom", "authoring")  # what only notebooks and authors use; it may import from every room
BY_HAND = ("host", "scripts", *WORKSHOPS)  # rooms into which no notebook exports
ALL_WELL = "no import runs against this order, no module but backend lies flat, and no program imports a program"
MARK = "Written by hand"  # in the docstring of a module that no notebook exports, in the other rooms


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(module, line) of each import from the package, the module without the leading `course_lib.`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            inside = node.module == "course_lib" or (node.module or "").count(".") == 1
            names = [f"{node.module}.{alias.name}" if inside else node.module for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("course_lib."):
                yield name.removeprefix("course_lib."), node.lineno


def room_of(name: str) -> str:
    """The room of a module such as "train.muon"."""
    return name.partition(".")[0]


def modules(package: Path) -> dict[str, Path]:
    """The modules of the package by dotted name, rooms (their `__init__.py`) included."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        words = path.relative_to(package).with_suffix("").parts
        if path.name == "__init__.py":
            words = words[:-1]
        if words:
            found[".".join(words)] = path
    return found


def room_problems(package: Path) -> Iterator[str]:
    """Modules that stand in no room or say not who writes them, and imports against the order of the rooms."""
    for name, path in modules(package).items():
        shown, room = path.relative_to(package.parent).as_posix(), room_of(name)
        if room not in (*ROOMS, *WORKSHOPS):
            yield f"{shown}: stands in no room; the rooms are {', '.join((*ROOMS, *WORKSHOPS))}"
            continue
        tree = ast.parse(path.read_text("utf-8"))
        if path.name == "__init__.py" and not (ast.get_docstring(tree) or "").strip():
            yield f"{shown}: has no docstring; say what the room is, and where to start reading"
        for target, line in imported(tree):
            if reason := _refusal(room, room_of(target)):
                yield f"{shown}:{line}: imports course_lib.{target}; {reason}"


def _refusal(room: str, target: str) -> str | None:
    """Why a module of `room` may not import from `target`; None when it may."""
    if target in WORKSHOPS:
        return None if room in WORKSHOPS else f"only notebooks import from {target}"
    if target == "scripts":
        return "no module imports a program; move what both need into a room"
    if target in ROOMS and room in ROOMS and ROOMS.index(target) > ROOMS.index(room):
        return f"{room} comes before {target} in the course, so it cannot build on it"
    return None


def arrows(package: Path) -> dict[str, list[str]]:
    """For each room that exists, in order, the rooms from which it imports."""
    found: dict[str, set[str]] = {}
    for name, path in modules(package).items():
        targets = {room_of(target) for target, _ in imported(ast.parse(path.read_text("utf-8")))}
        found.setdefault(room_of(name), set()).update(targets - {room_of(name)})
    order = [*ROOMS, *WORKSHOPS]
    return {room: sorted(found[room], key=order.index) for room in order if room in found}


def table(package: Path) -> Iterator[str]:
    """The rooms in order: how many modules each holds, and from which rooms it imports."""
    held = [room_of(name) for name, path in modules(package).items() if path.name != "__init__.py"]
    yield f"{'room':12}{'modules':>8}  imports from"
    for room, targets in arrows(package).items():
        yield f"{room:12}{held.count(room):8}  {', '.join(targets) or '–'}"

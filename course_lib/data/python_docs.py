"""The documentation of the Python that is running: real prose that every machine already has.

Written by hand; chapter 05 uses it.
"""

import ast
import importlib
import inspect
import json
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import starmap
from pathlib import Path
from pydoc_data import topics

from course_lib.host.errors import CourseError
from course_lib.host.paths import PACKAGE

NOT_PROSE = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "__pycache__", "turtledemo"}
LEAST = 200_000  # characters; a Python whose documentation was stripped has less


def documents() -> list[str]:
    """Texts of the reference topics, then the docstrings of each module of the standard library, one text each.

    The order is that of the names. Raises CourseError for a Python that was installed without its documentation.
    """
    texts = [f"{name}\n\n{text.strip()}\n" for name, text in sorted(topics.topics.items())]
    texts += [text for text in starmap(_module_text, _source_modules()) if text]
    texts += [text for text in _compiled_texts() if text]
    if sum(map(len, texts)) < LEAST:
        raise CourseError(
            f"the Python at {sys.executable} has no documentation of its standard library; "
            "use another Python (`uv python install`), or text of your own: --dataset FOLDER"
        )
    return texts


def _source_modules() -> Iterator[tuple[str, Path]]:
    """Name and file of each module of the standard library that is written in Python."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if not NOT_PROSE & set(parts) and not any(part.startswith("_sysconfigdata") for part in parts):
            yield ".".join(parts).removesuffix(".__init__"), path


def _module_text(name: str, path: Path) -> str:
    """The docstrings of a source file under their signatures, without running it; "" when it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library's own strings
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # unreadable, or a source that is broken on purpose
        return ""
    return _sections(name, _docstrings(tree))


def _docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(heading, docstring) of the module, its classes and functions, in the order of the source."""
    yield "", ast.get_docstring(tree) or ""
    waiting = [(node, "") for node in reversed(tree.body)]
    while waiting:
        node, prefix = waiting.pop()
        if isinstance(node, ast.ClassDef):
            yield f"class {prefix}{node.name}", ast.get_docstring(node) or ""
            waiting += [(child, f"{prefix}{node.name}.") for child in reversed(node.body)]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{node.name}({ast.unparse(node.args)})", ast.get_docstring(node) or ""


def _compiled_modules() -> set[str]:
    """Names of the modules that are written in C and can be imported without an effect."""
    extensions = Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*" + EXTENSION_SUFFIXES[0])
    names = set(sys.builtin_module_names) | {path.name.removesuffix(EXTENSION_SUFFIXES[0]) for path in extensions}
    return {name for name in names if not name.startswith(("_test", "_xx", "xx", "readline", "_tkinter"))}


COLLECT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from course_lib.data import python_docs
texts = [python_docs._compiled_text(name) for name in sorted(python_docs._compiled_modules())]
print(json.dumps(texts))
"""


def _compiled_texts() -> list[str]:
    """Texts of the modules in C, from a fresh Python: a notebook's has other things in `sys` and `builtins`."""
    command = [sys.executable, "-I", "-c", COLLECT, str(PACKAGE.parent)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _compiled_text(name: str) -> str:
    """The docstrings of a module that is written in C; "" when it cannot be imported here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a module that the next Python drops says so
            module = importlib.import_module(name)
    except ImportError:
        return ""
    found = [("", inspect.getdoc(module) or "")]
    for key, value in sorted(vars(module).items()):
        if not key.startswith("_") and (inspect.isclass(value) or inspect.isroutine(value)):
            found.append((key, inspect.getdoc(value) or ""))
            members = sorted(vars(value).items()) if inspect.isclass(value) else []
            found += [(f"{key}.{n}", _own_doc(m)) for n, m in members if not n.startswith("_")]
    return _sections(name, found)


def _own_doc(value: object) -> str:
    """The docstring of a value, or "" where it is that of its type, as for a number."""
    doc = inspect.getdoc(value) or ""
    return "" if doc == inspect.getdoc(type(value)) else doc


def _sections(name: str, found: Iterable[tuple[str, str]]) -> str:
    """One text of the docstrings that were found, or "" when there are none."""
    parts = [f"{heading}\n{text}" if heading else text for heading, text in found if text.strip()]
    return f"{name}\n\n" + "\n\n".join(parts) + "\n" if parts else ""

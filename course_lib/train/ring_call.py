"""A function of a notebook in several processes, joined in a ring: all end in time, whatever happens.

It stands outside the room `classroom`, whose import alone takes longer than a process needs for its task.

Written by hand; chapter 20 uses it.
"""

import ast
import inspect
import json
import linecache
import math
import os
import pickle
import signal
import sys
import tempfile
import textwrap
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.train import local_ring


def in_a_ring(function: FunctionType, processes: int, *arguments: Any, seconds: float = 300.0, **named: Any) -> list:
    """What function(*arguments, **named) returned in each of several fresh processes, in the order of their ranks.

    There `mx.distributed.init()` is the group of them all. The function, and functions among the arguments, travel as
    text, together with the imports, functions and plain values of the notebook that they use. Raises CourseError, in
    one sentence, when one process raises or dies, or when not all are done after `seconds`. None outlives the call.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        travels = [_Travelling(each) if _is_local(each) else each for each in (function, *arguments)]
        (folder / "task").write_bytes(pickle.dumps((max(1, math.ceil(seconds)), travels, named)))
        try:
            code = local_ring.launch("course_lib.train.ring_call", [name], processes)
        except CourseError as error:
            if signal.SIGALRM.name not in str(error):
                raise
            raise CourseError(
                f"{function.__name__}: {processes} processes were not done after {seconds:g} seconds and have been "
                "ended; perhaps one waits for a message that no other sends"
            ) from None
        if code == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        errors = {path: path.read_text("utf-8") for path in sorted(folder.glob("error_*"))}
        lost = [path for path in errors if "[ring]" in errors[path]]  # these only saw that another one was gone
        for path in [*(path for path in errors if path not in lost), *lost]:
            raise CourseError(f"{function.__name__}: process {path.name[6:]} of {processes} raised {errors[path]}")
        for rank in range(processes):
            if not (folder / f"result_{rank}").exists():
                raise CourseError(f"{function.__name__}: process {rank} of {processes} ended without a result")
        return [pickle.loads((folder / f"result_{rank}").read_bytes()) for rank in range(processes)]


def failure(function: FunctionType, processes: int, seconds: float) -> str:
    """The sentence with which in_a_ring(function, processes) fails; AssertionError when it does not."""
    try:
        in_a_ring(function, processes, seconds=seconds)
    except CourseError as error:
        return str(error)
    raise AssertionError(f"{function.__name__} should have failed")


def two_cores_idle(gains: Iterable[float]) -> bool:
    """Whether two cores were idle: two processes that exchange nothing clearly beat one, and few others work.

    They are not twice as fast, for each has the optimizer's whole work. On a busy machine a second process gains as
    much, since it takes its share from others; hence the look at the load.
    """
    on_cpu, cores = backend.device_kind() == "cpu", os.cpu_count() or 1
    return on_cpu and min(gains) > 1.35 and os.getloadavg()[0] < cores + 2


class _Travelling:
    """A function on its way to another process: pickled as text, it is a function again where it is loaded."""

    def __init__(self, function: FunctionType):
        lines: list[str] = []
        values: dict[str, Any] = {}
        _collect(function, lines, values, {function.__name__})
        self._parts = function.__name__, "\n\n".join(lines), values

    def __reduce__(self) -> tuple:
        return _arrive, self._parts


def _arrive(name: str, text: str, values: dict[str, Any]) -> FunctionType:
    scope = dict(values)
    linecache.cache[f"<{name}>"] = len(text), None, text.splitlines(keepends=True), f"<{name}>"
    exec(compile(text, f"<{name}>", "exec"), scope)
    return scope[name]


def _is_local(value: object) -> bool:
    """Whether another process cannot import it: a function of a notebook or of a test."""
    return inspect.isfunction(value) and not value.__module__.startswith("course_lib.")


def _collect(function: FunctionType, lines: list[str], values: dict[str, Any], known: set[str]) -> None:
    """Add to `lines` the text of the function after that of what it uses, and to `values` what is no text."""
    source = textwrap.dedent(inspect.getsource(function))
    scope = function.__globals__
    for name in [node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]:
        if name in known or name not in scope:
            continue
        known.add(name)
        value = scope[name]
        if inspect.ismodule(value):
            lines.append(f"import {value.__name__} as {name}")
        elif _is_local(value) and value.__module__ == function.__module__:
            _collect(value, lines, values, known)
        elif _can_be_pickled(value):
            values[name] = value
    lines.append(source)


def _can_be_pickled(value: object) -> bool:
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, TypeError, AttributeError):  # then the process says that it does not know the name
        return False
    return True


def work(folder: Path) -> int:
    """One of the processes: do the task and leave its result, or what it raised, in the folder; the exit code."""
    rank, alone = os.environ["MLX_RANK"], len(json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text("utf-8"))) == 1
    if alone:  # else MLX's ring of one would wait for itself
        del os.environ["MLX_RANK"], os.environ["MLX_HOSTFILE"]
    try:
        seconds, (function, *arguments), named = pickle.loads((folder / "task").read_bytes())
        signal.alarm(seconds)  # ends this process even where MLX waits and no line of Python can run
        result = pickle.dumps(function(*arguments, **named))
    except Exception as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<")]
        where = f" (in the line: {own[-1].line})" if own else ""
        (folder / f"error_{rank}").write_text(f"{type(error).__name__}: {error}{where}", "utf-8")
        return 1
    (folder / f"result_{rank}").write_bytes(result)
    return 0


def _end_with_the_notebook() -> None:
    """Stdin ends when the notebook's kernel does, however it ends."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once, also where MLX waits
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MLX's own lines on sockets; what was raised is told by `in_a_ring`
    threading.Thread(target=_end_with_the_notebook, daemon=True).start()
    sys.exit(work(Path(sys.argv[1])))

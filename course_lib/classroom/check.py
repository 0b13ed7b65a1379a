"""Exercises that check themselves."""

import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Callable

from course_lib.classroom.cells import in_notebook

COLOURS = {"✓": 32, "✗": 31, "○": 33}  # green, red, yellow, as a terminal and JupyterLab number them


def _verdict(test: Callable, answers: tuple) -> tuple[str, Exception | None]:
    """The line to print for an exercise, and the error behind a ✗."""
    name = getattr(answers[0], "__name__", test.__name__) if answers else test.__name__
    if any(_outdated(answer) for answer in answers):
        return f"✗ {name}: the cell that defines it failed when you ran it last; mend it and run it again", None
    try:
        look_next = test(*answers)
    except NotImplementedError as error:
        return f"○ {name}: not written yet", error
    except AssertionError as error:
        return f"✗ {name}: {str(error) or 'an assertion of the check failed'}{_line(error, answers)}", error
    except Exception as error:  # whatever a learner's code raises is the verdict, not a crash of the notebook
        return f"✗ {name}: it raised {type(error).__name__}: {error}{_line(error, answers)}", error
    return f"✓ {name}: correct" + (f". {look_next}" if look_next else ""), None


def _line(error: Exception, answers: tuple) -> str:
    """Where in the learner's own cell it came from: " (line 3: return x / 0)", or nothing when it did not."""
    answers = tuple(answer for answer in answers if inspect.isfunction(answer)) or answers  # not the classes they use
    own = {function.__code__.co_filename for answer in answers for function in _functions(answer)}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    if not frames:
        return ""
    return f" (line {frames[-1].lineno}: {linecache.getline(frames[-1].filename, frames[-1].lineno).strip()})"


def _functions(answer: object) -> list:
    """The functions that a learner has written: the answer itself, or the methods of a class."""
    members = vars(answer).values() if isinstance(answer, type) else [answer]
    return [function for function in map(inspect.unwrap, filter(callable, members)) if inspect.isfunction(function)]


def _outdated(answer: object) -> bool:
    """Whether the last cell that defines the answer did not run to there, so that the name still means what it did."""
    if not in_notebook() or not (inspect.isfunction(answer) or inspect.isclass(answer)):
        return False
    cells = sys.modules["IPython"].get_ipython().user_ns["In"]
    definition = re.compile(rf"^(async def|def|class) {re.escape(answer.__name__)}\b", re.MULTILINE)
    defining = [cell for cell in cells if definition.search(cell)]
    try:
        return bool(defining) and inspect.getsource(answer) not in f"{defining[-1]}\n"
    except (OSError, TypeError):  # its source is not known
        return False


def _show(verdict: str) -> None:
    """Print it; in a notebook, what comes before the reason is bold and in colour."""
    if in_notebook():
        head, mark, rest = re.match(r"(.*?)(: (?:correct|not written yet)|:|$)(.*)", verdict, re.DOTALL).groups()
        verdict = f"\x1b[1;{COLOURS[verdict[0]]}m{head}{mark}\x1b[0m{rest}"
    print(verdict)


def check(test: Callable, *answers) -> None:
    """Run `test(*answers)` and print ○ not written yet, ✗ and why, or ✓ and what to look at next.

    test: asserts what must hold, and may return a sentence to print after "correct". Never raises: the notebook
    goes on.
    """
    _show(_verdict(test, answers)[0])


def check_solution(test: Callable, *answers) -> None:
    """Like `check`, for the solution notebooks: anything but ✓ raises AssertionError."""
    verdict, error = _verdict(test, answers)
    _show(verdict)
    if not verdict.startswith("✓"):
        raise AssertionError(verdict) from error

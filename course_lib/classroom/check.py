"""Exercises that check themselves."""

from collections.abc import Callable


def _verdict(test: Callable, answers: tuple) -> tuple[str, Exception | None]:
    """The line to print for an exercise, and the error behind a ✗."""
    name = getattr(answers[0], "__name__", test.__name__) if answers else test.__name__
    try:
        test(*answers)
    except NotImplementedError as error:
        return f"○ {name}: not written yet", error
    except AssertionError as error:
        return f"✗ {name}: {str(error) or 'an assertion of the check failed'}", error
    except Exception as error:  # whatever a learner's code raises is the verdict, not a crash of the notebook
        return f"✗ {name}: it raised {type(error).__name__}: {error}", error
    return f"✓ {name}: correct", None


def check(test: Callable, *answers) -> None:
    """Run `test(*answers)` and print ○ not written yet, ✗ and why, or ✓. Never raises: the notebook goes on."""
    print(_verdict(test, answers)[0])


def check_solution(test: Callable, *answers) -> None:
    """Like `check`, for the solution notebooks: anything but ✓ raises AssertionError."""
    verdict, error = _verdict(test, answers)
    print(verdict)
    if not verdict.startswith("✓"):
        raise AssertionError(verdict) from error

"""Waiting in tests: for a sign that something has happened, never for a time after which it should have."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], seconds: float = 100) -> object:
    """What `condition` returns once that is true; fails when it is not within `seconds`.

    The bound is for what is broken: far longer than anything takes, even where other programs hold both cores.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"what was waited for did not come in {seconds} s"
        time.sleep(0.005)
    return found

"""Stopping when asked to: Ctrl-C and SIGTERM become a request that long work grants when it suits it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """Whether somebody has asked this process to stop, and how: `code` is the exit code that says so, or 0."""

    def __init__(self):
        self.code = 0

    def request(self, signal_number: int, frame: object = None) -> None:
        """The first request is noted; a second Ctrl-C raises KeyboardInterrupt."""
        if self.code and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = 128 + signal_number


@contextmanager
def stop_when_asked() -> Iterator[StopRequest]:
    """Within the block Ctrl-C and SIGTERM only note a request to stop; in a thread other than the main one, nothing."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Stopping when asked to, by Ctrl-C, SIGTERM or a terminal that goes: a request that work grants when it suits it."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class StopRequest:
    """Whether somebody has asked this process to stop, and how: `code` is the exit code that says so, or 0."""

    def __init__(self):
        self.code = 0

    def request(self, signal_number: int, frame: object = None) -> None:
        """The first request is noted; a second Ctrl-C raises KeyboardInterrupt."""
        if self.code and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = 128 + signal_number


class _Lossy:
    """stdout for the time of long work: when nothing can be printed any more, it asks to stop in place of raising."""

    def __init__(self, stream: TextIO, stop: StopRequest):
        self._stream, self._stop = stream, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, output: Callable) -> None:
        try:
            output()
        except OSError as error:
            silence(self._stream)
            self._stop.code = self._stop.code or 128 + signal.SIGPIPE
            if not isinstance(error, BrokenPipeError):
                with suppress(OSError):
                    print(f"stopping, as nothing can be printed any more: {error.strerror}", file=sys.stderr)


def silence(stream: TextIO) -> None:
    """Send to nowhere what a stream that failed still holds: Python would complain of it at exit."""
    with suppress(OSError):  # in a notebook it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def stop_when_asked(hangup: bool = True) -> Iterator[StopRequest]:
    """Within the block Ctrl-C and SIGTERM only note a request to stop, and so does a stdout that fails.

    hangup: and SIGHUP, of a terminal that is closed, unless it is ignored, as under nohup. In a thread other than the
    main one, nothing does.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    heard = [signal.SIGINT, signal.SIGTERM]
    if hangup and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop.request) for number in heard}
    stdout, sys.stdout = sys.stdout, _Lossy(sys.stdout, stop)
    try:
        yield stop
    finally:
        sys.stdout = stdout
        for number, handler in before.items():
            signal.signal(number, handler)

"""A program on the screen of a terminal, as a person sees it."""

import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import Sequence

import pyte

ROWS = 800  # so many that no line scrolls away


def run_in_terminal(command: Sequence[str], columns: int = 80) -> tuple[int, str, float]:
    """(exit code, what stands on the screen in the end, seconds until the first character came)."""
    # not what readline has put into C's environment for this process
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    started = time.monotonic()
    pid, terminal = pty.fork()
    if not pid:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        os.execvpe(command[0], command, environment)
    first, parts = None, []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux: the program has ended
            break
        if not part:
            break
        first = first or time.monotonic() - started
        parts.append(part)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    screen = pyte.Screen(columns, ROWS)
    pyte.ByteStream(screen).feed(b"".join(parts))
    return code, "\n".join(line.rstrip() for line in screen.display).rstrip(), first or 0.0

"""The programs, one file each: flags become values, and values go into one call. Written by hand.

No module imports a program. `uv run NAME --help` lists the flags of each.
"""

import sys
from pathlib import Path
from types import TracebackType

FIRST = {  # what takes a program its first seconds
    "base_train": "loading, then measuring how fast this machine is",
    "base_eval": "loading the model",
    "chat_sft": "loading, then measuring how fast this machine is",
    "chat_rl": "loading the model",
    "chat_eval": "loading the model",
    "chat_cli": "loading the model",
    "chat_web": "loading the model",
    "convert": "loading the model",
    "speedrun": "loading, then measuring how fast this machine is",
    "tok_train": "loading",
    "tok_eval": "loading",
    "get_data": "loading",
}

# Here, since the program's own module is imported next, which on a busy machine takes ten seconds.
asks = {"--help", "-h"} & set(sys.argv)
if (name := Path(sys.argv[0]).name) in FIRST and not asks and sys.stderr is not None and sys.stderr.isatty():
    print(f"{name}: {FIRST[name]} …", file=sys.stderr, flush=True)


def _say_interrupted(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Ctrl-C before the program is loaded is no error of it."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{name}: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)


if name in {*FIRST, "microgpt"}:
    sys.excepthook = _say_interrupted

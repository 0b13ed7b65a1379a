"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give an empty temporary file beside `path`; on success it replaces `path`, on any error it is removed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        os.fchmod(handle, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        yield Path(name)
        os.fsync(handle)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


@contextmanager
def write_atomically(path: Path) -> Iterator[TextIO]:
    """Open a temporary UTF-8 file beside `path`; on success it replaces `path`, on any error it is removed."""
    with replace_atomically(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        yield file

"""Files that are written whole or not at all, and their checksums."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from filelock import FileLock


@contextmanager
def write_atomically(path: Path) -> Iterator[TextIO]:
    """Open a temporary UTF-8 file beside `path`; on success it replaces `path`, on any error it is removed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(handle, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            yield file
            file.flush()
            os.fsync(handle)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def make_folder_atomically(folder: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `folder`; on success it becomes `folder`, on any error it is removed."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir(parents=True)
    try:
        yield part
        for path in part.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def only_one(path: Path) -> FileLock:
    """A lock for a `with` block: one process at a time makes `path`, and the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))


def sha256_of(path: Path) -> str:
    """The SHA-256 checksum of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

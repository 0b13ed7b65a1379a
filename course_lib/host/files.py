"""Files that are written whole or not at all, and their checksums."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from filelock import FileLock

from course_lib.host.errors import CourseError
from course_lib.host.paths import check_writable


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
def make_folder_atomically(folder: Path, aside: Path | None = None) -> Iterator[Path]:
    """Give an empty temporary folder beside `folder`; on success it becomes `folder`, on any error it is removed.

    aside: name that a `folder` which is there already has until the new one is in its place.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir(parents=True)
    try:
        yield part
        for path in part.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if aside and folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(folder, aside)
        try:
            os.replace(part, folder)
        except BaseException:
            if aside and aside.exists():
                os.replace(aside, folder)
            raise
        if aside:
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def only_one(path: Path) -> FileLock:
    """A lock for a `with` block: one process at a time makes `path`, and the others wait.

    Raises CourseError where nothing can be made, and for a name that leaves no room for those of locks and parts beside
    it, as a file system takes 255 bytes. What is there may be read without.
    """
    if (size := len(os.fsencode(path.name))) > 200:
        raise CourseError(f"the name {path.name[:20]}… has {size} bytes, expected 200 at most; choose a shorter one")
    check_writable(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Raises BlockingIOError when another one has a lock that does not go together with this one."""
    handle = os.open(path, os.O_RDONLY if how == fcntl.LOCK_SH or path.is_dir() else os.O_RDWR)  # as NFS wants it
    try:
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def held(path: Path) -> AbstractContextManager[None]:
    """While the block runs, `remove_unless_held` leaves this file or folder alone, in every process of the machine."""
    return _locked(path, fcntl.LOCK_SH)


def hold_for(owner: object, path: Path) -> None:
    """The file or folder is `held` as long as `owner` lives."""
    stack = ExitStack()
    stack.enter_context(held(path))
    weakref.finalize(owner, stack.close)


def remove_unless_held(path: Path) -> None:
    """Delete a file or folder, as far as that is possible, but not what is `held`."""
    with suppress(OSError), _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def sha256_of(path: Path) -> str:
    """The SHA-256 checksum of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

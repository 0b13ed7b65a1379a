"""Where the course finds its bundled data and keeps what it downloads and makes."""

import errno
import os
from collections.abc import Collection
from pathlib import Path

from course_lib.host.errors import CourseError

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent


def user_path(text: str | Path) -> Path:
    """The absolute path that a user means: `~` is a home, and what is relative begins in the working folder.

    A name that is a symbolic link stays one. Raises CourseError for an empty path, and for one that leads nowhere here.
    """
    if not str(text) or "\0" in str(text):
        raise CourseError(f"the path {str(text)!r} names no file or folder; give one that does")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise CourseError(f"{text} begins with a home folder that this machine does not know; write it out") from error
    except FileNotFoundError as error:
        raise CourseError(f"{text} begins in the working folder, which was deleted; go to another one") from error
    if ".." in path.parts:
        path = path.resolve() if path.name == ".." else path.parent.resolve() / path.name
    return path


def existing_path(name: str) -> Path | None:
    """The file or folder that a user means by a name, where there is one."""
    path = user_path(name) if name else None
    try:
        return path if path and path.exists() else None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise


def known_or_absolute(name: str, known: Collection[str]) -> str:
    """The name, if it is one of those known; else the file or folder that is meant by it, where there is one."""
    return name if name in known else str(existing_path(name) or name)


def data_dir() -> Path:
    """Folder of the small data that ships: `data/` of the checkout, or its copy in an installed package."""
    installed = PACKAGE / "bundled"
    return installed if installed.is_dir() else CHECKOUT / "data"


def home_dir() -> Path:
    """Folder for downloads, tokenizers, checkpoints: `COURSE_HOME`, or one in the user's cache; made when missing.

    It may be one that can only be read: who writes calls `check_writable` first. Raises CourseError when it cannot be
    made.
    """
    home = os.environ.get("COURSE_HOME")
    try:
        if not home:
            import platformdirs  # 20 ms that a program without a home need not pay

            home = platformdirs.user_cache_dir("microgpt-to-nanochat", appauthor=False)
        home = user_path(home)
    except (CourseError, RuntimeError) as error:
        raise CourseError(
            f"no folder for the course ({error}); set COURSE_HOME to one that you can write to"
        ) from error
    if not is_utf8(home):
        raise CourseError(f"the folder {str(home)!r} has bytes that are no UTF-8; set COURSE_HOME to another")
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"cannot make the folder {home} ({error.strerror}); set COURSE_HOME to a folder that you can write to"
        ) from error
    return home


def is_writable(folder: Path) -> bool:
    """Whether files can be made in the folder or, as long as it is not there, the folder itself."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return os.access(there, os.W_OK | os.X_OK)


def check_writable(folder: Path, otherwise: str = "set COURSE_HOME to a folder that you can write to") -> None:
    """Raise CourseError for a folder in which nothing can be made; to be asked before long work begins."""
    if not is_writable(folder):
        raise CourseError(f"cannot write to the folder {folder}; {otherwise}")


def is_utf8(path: str | Path) -> bool:
    """Whether a path is text: bytes that are not become halves of surrogate pairs in Python."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True

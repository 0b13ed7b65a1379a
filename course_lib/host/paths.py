"""Where the course finds its bundled data and keeps what it downloads and makes."""

import os
from pathlib import Path

from course_lib.host.errors import CourseError

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent


def data_dir() -> Path:
    """Folder of the small data that ships: `data/` of the checkout, or its copy in an installed package."""
    installed = PACKAGE / "bundled"
    return installed if installed.is_dir() else CHECKOUT / "data"


def home_dir() -> Path:
    """Folder for downloads, tokenizers, checkpoints: `COURSE_HOME`, or one in the user's cache; made when missing.

    Raises CourseError when it cannot be made or written to.
    """
    home = os.environ.get("COURSE_HOME")
    if not home:
        import platformdirs  # 20 ms that a program without a home need not pay

        home = platformdirs.user_cache_dir("microgpt-to-nanochat", appauthor=False)
    home = Path(home).expanduser()
    if not is_utf8(home):
        raise CourseError(f"the folder {str(home)!r} has bytes that are no UTF-8; set COURSE_HOME to another")
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"cannot make the folder {home} ({error.strerror}); set COURSE_HOME to a folder that you can write to"
        ) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise CourseError(f"cannot write to the folder {home}; set COURSE_HOME to a folder that you can write to")
    return home


def is_utf8(path: str | Path) -> bool:
    """Whether a path is text: bytes that are not become halves of surrogate pairs in Python."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True

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
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"cannot make the folder {home} ({error.strerror}); set COURSE_HOME to a folder that you can write to"
        ) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise CourseError(f"cannot write to the folder {home}; set COURSE_HOME to a folder that you can write to")
    return home

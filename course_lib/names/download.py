"""The well-known list of 32,033 names, fetched when asked for.

Written by hand; chapter 01 uses it.
"""

from pathlib import Path

from course_lib.host.download import fetch_file
from course_lib.host.paths import home_dir

NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
NAMES_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"


def download_names() -> Path:
    """File of the well-known 32,033 names: fetched once, verified, kept in the home folder.

    Raises CourseError when it cannot be had; then nothing is left behind, and an older file stays.
    """
    return fetch_file(
        NAMES_URL,
        home_dir() / "names_32033.txt",
        max_bytes=1_000_000,
        otherwise="use the names that come with the course, load_names()",
        sha256=NAMES_SHA256,
    )

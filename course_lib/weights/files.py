"""Files of a stranger's folder, opened with care: only those inside it, only so large, and only as what they claim.

Written by hand; chapter 22 uses it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_lib.host.errors import CourseError

ANOTHER = "take another copy of it"


@contextmanager
def or_damaged(path: Path) -> Iterator[None]:
    """What goes wrong inside is the file's fault: a CourseError that names it, whatever was raised.

    Damage can make zipfile, json, NumPy and MLX raise some twenty kinds of errors, a MemoryError among them.
    """
    try:
        yield
    except CourseError:
        raise
    except FileNotFoundError as error:
        raise CourseError(f"there is no {path}; {ANOTHER}") from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise CourseError(f"{path} is damaged or not what its name says ({said:.120}); {ANOTHER}") from error


def file_in(folder: Path, name: object) -> Path | None:
    """The file of this name in the folder, None where there is none. Raises CourseError where it lies elsewhere.

    A link may lead to what the folder itself holds, and in the hub's cache from snapshots/REVISION to blobs; not to
    files that the user has not given, nor to a device or a pipe, which would never end.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
        raise CourseError(
            f"{folder} names {name!r:.80} as one of its files, expected a name without folders; {ANOTHER}"
        )
    path = folder / name
    with or_damaged(path):
        if not path.exists():
            return None
        real, root = path.resolve(), folder.resolve()
        blobs = [root.parents[1] / "blobs"] if root.parent.name == "snapshots" else []
        if not any(real.is_relative_to(home) for home in (root, *blobs)):
            raise CourseError(f"{path} is a link that leads out of its folder; copy the file there if you trust it")
        if not real.is_file():
            raise CourseError(f"{path} is no file; {ANOTHER}")
        return path


def read_whole(path: Path, most: int) -> bytes:
    """The bytes of a file. Raises CourseError where it is missing or has more than `most`."""
    with or_damaged(path), path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise CourseError(f"{path} has more than {most / 1e6:.0f} MB, which no file of its kind has; {ANOTHER}")
    return content


def read_json(path: Path, most: int = 1_000_000) -> dict[str, Any]:
    """The object in a JSON file of at most so many bytes. Raises CourseError where it is none."""
    return parse_json(read_whole(path, most), path)


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """The object that `content`, of the file `path`, says. A name that stands twice is refused: which one counts?"""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands twice in one object")
        return found

    with or_damaged(path):
        found = json.loads(content, object_pairs_hook=unique)
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found

"""What text is known by: its content, wherever it lies and whatever its files are called.

Written by hand; chapters 06 and 13 use it.
"""

import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from course_lib.host.errors import CourseError
from course_lib.host.files import sha256_of, write_atomically
from course_lib.host.paths import home_dir

SMALL = 65_536  # bytes of a file that is as fast to read as to look up
SETTLED = 2e9  # nanoseconds: a younger file may change once more within the same tick of the clock
FINGERPRINT = re.compile(r"(\d+)-([0-9a-f]{12})")


def fingerprint_of(files: Sequence[Path], *more: object) -> str:
    """Bytes of the files together and a hash of their content, in this order, such as "52310-0f3a9c5d21b7".

    more: what else decides how they are read. The hashes of files are kept, and a file of the same path, size and times
    is not read again. Raises CourseError for a file that cannot be read.
    """
    path, known = home_dir() / "datasets" / "hashes.json", {}
    with suppress(OSError, ValueError):
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    before, stats = dict(known), [file.stat() for file in files]
    if (size := sum(stat.st_size for stat in stats)) > 2e9 and any(str(file) not in known for file in files):
        print(f"reading {size / 1e9:.0f} GB once, to know the text again by its content", file=sys.stderr, flush=True)
    digests = []
    for file, stat in zip(files, stats, strict=True):
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        *last, digest = known.get(str(file), [None])
        if last != seen:
            digest = _sha256(file)
        if stat.st_size > SMALL and time.time_ns() - stat.st_mtime_ns > SETTLED:
            known[str(file)] = [*seen, digest]
        digests.append(digest)
    if known != before:
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            with write_atomically(path) as out:
                json.dump(known, out)
    return _named(size, repr((digests, more)).encode())


def fingerprint_of_texts(texts: Sequence[str]) -> str:
    """The same for texts that lie in no file."""
    encoded = [text.encode() for text in texts]
    return _named(sum(map(len, encoded)), b"\0".join(encoded))


def _named(size: int, content: bytes) -> str:
    return f"{size}-{hashlib.sha256(content).hexdigest()[:12]}"


def _sha256(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise CourseError(f"cannot read {file} ({error.strerror}); make it readable, or leave it out") from error


def in_words(fingerprints: str) -> str:
    """The same for a message: "52,310 bytes (0f3a9c5d21b7)"; what is no fingerprint stays as it is."""
    return FINGERPRINT.sub(lambda found: f"{int(found[1]):,} bytes ({found[2]})", fingerprints)


def shards_of_before(fingerprint: str) -> Path | None:
    """The folder of shards of a text that may have changed since, where it is still there."""
    datasets = home_dir() / "datasets"
    found = datasets.glob(f"*/{fingerprint}") if FINGERPRINT.fullmatch(fingerprint) else [datasets / fingerprint]
    return next((folder for folder in found if any(folder.glob("*.parquet"))), None)

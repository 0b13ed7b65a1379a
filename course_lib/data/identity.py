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
LARGE = 2e9  # bytes that take so long to read that it is said
SETTLED = 2e9  # nanoseconds: a younger file may change once more within the same tick of the clock
FINGERPRINT = re.compile(r"(\d+)-([0-9a-f]{12})")
OF_EARLIER_VERSIONS = re.compile(r"bundled-1-python-[\w.+]+|own-[^/]+/[0-9a-f]{8}")  # of the course


def fingerprint_of(files: Sequence[Path], *more: object) -> str:
    """Bytes of the files together and a hash of their content, in this order, such as "52310-0f3a9c5d21b7".

    more: what else decides how they are read. The hashes of files are kept, and a file of the same path, size and times
    is not read again. Raises CourseError for a file that cannot be read.
    """
    kept, known = home_dir() / "datasets" / "hashes.json", {}
    with suppress(OSError, ValueError, TypeError, AttributeError):  # not there, or no hashes
        known = {name: [*seen, digest] for name, (*seen, digest) in json.loads(kept.read_text("utf-8")).items()}
    now = {str(file): [(stat := file.stat()).st_size, stat.st_mtime_ns, stat.st_ctime_ns] for file in files}
    unread = {name: seen for name, seen in now.items() if known.get(name, [])[:-1] != seen}
    if (size := sum(size for size, *_ in unread.values())) > LARGE:
        print(f"reading {size / 1e9:.0f} GB once, to know the text again by its content", file=sys.stderr, flush=True)
    known |= {name: [*seen, _sha256(Path(name))] for name, seen in unread.items()}
    not_kept = {name for name, seen in unread.items() if seen[0] <= SMALL or abs(time.time_ns() - seen[1]) <= SETTLED}
    if len(not_kept) < len(unread):
        with suppress(OSError):
            kept.parent.mkdir(exist_ok=True)
            with write_atomically(kept) as out:
                json.dump({name: entry for name, entry in known.items() if name not in not_kept}, out)
    return _named(sum(size for size, *_ in now.values()), repr(([known[name][-1] for name in now], more)).encode())


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
    found = list(datasets.glob(f"*/{fingerprint}")) if FINGERPRINT.fullmatch(fingerprint) else []
    if OF_EARLIER_VERSIONS.fullmatch(fingerprint):
        found = [datasets / fingerprint]
    return next((folder for folder in found if any(folder.glob("*.parquet"))), None)

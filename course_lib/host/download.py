"""Files from the network, never half there: those of the Hugging Face hub, and single ones from anywhere.

The hub's are large: an interrupted fetch is resumed, retried and verified.
"""

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from course_lib.host.errors import CourseError
from course_lib.host.files import only_one, sha256_of

WAITS = (1, 2, 4, 8, 15)  # seconds before each new attempt


class Stopped(Exception):
    """The caller asked to stop; what was fetched so far is kept."""


def file_size(repo: str, name: str) -> int:
    """Bytes of file `name` of the hub's dataset `repo`. Raises CourseError when the hub does not say."""
    return _patiently(lambda: _about(repo, name), name).size


def fetch(
    repo: str,
    name: str,
    path: Path,
    verify: Callable[[Path], None] = lambda part: None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Bring file `name` of the hub's dataset `repo` to `path`, unless it is there; an interrupted fetch goes on.

    verify(part) raises CourseError when what arrived is unusable; then it is fetched anew. on_bytes(done, total) is
    called about once a megabyte; when `stopped()` is true, Stopped is raised there.
    Raises CourseError when the hub does not have it, or fails several times in a row, or the disk is full.
    """
    with only_one(path):
        if not path.exists():
            parts = f".{path.name}.*.part"
            _patiently(
                lambda: _attempt(repo, name, path, verify, on_bytes, stopped),
                name,
                so_far=lambda: sum(part.stat().st_size for part in path.parent.glob(parts)),
                stopped=stopped,
            )


def _attempt(repo: str, name: str, path: Path, verify: Callable, on_bytes: Callable, stopped: Callable) -> None:
    from huggingface_hub import constants
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    # 10 MB otherwise: Ctrl-C would go unheard for long on a slow line
    constants.DOWNLOAD_CHUNK_SIZE = 1 << 20  # ty: ignore[invalid-assignment]
    about = _about(repo, name)
    part = path.with_name(f".{path.name}.{about.version}.part")
    for other in path.parent.glob(f".{path.name}.*.part"):
        if other != part:  # of a version that the hub has replaced
            other.unlink()
    done = part.stat().st_size if part.exists() else 0
    if done > about.size:
        part.unlink()
        done = 0
    bar = _reporter(about.size, on_bytes, stopped)
    with part.open("ab") as file:
        http_get(
            about.url, file, resume_size=done, headers=build_hf_headers(), expected_size=about.size, tqdm_class=bar
        )
        file.flush()
        os.fsync(file.fileno())
    try:
        if about.sha256 and sha256_of(part) != about.sha256:
            raise CourseError("its checksum is not the hub's")
        verify(part)
    except CourseError as error:
        part.unlink()
        raise ConnectionError(f"what arrived is not the file: {error}") from error
    os.replace(part, path)


def _about(repo: str, name: str) -> SimpleNamespace:
    """url, size, a name for this version of the file and, where the hub gives it, its sha256."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, name, repo_type="dataset")
    found = get_hf_file_metadata(url, timeout=10)
    if found.size is None:
        raise ConnectionError("the server does not say how large it is")
    etag = found.etag or ""
    return SimpleNamespace(
        url=url,
        size=found.size,
        version=hashlib.sha256(etag.encode()).hexdigest()[:12],
        sha256=etag if re.fullmatch("[0-9a-f]{64}", etag) else None,
    )


def _reporter(total: int, on_bytes: Callable, stopped: Callable) -> type[Any]:
    """What the hub's library takes for a tqdm: it counts the bytes and is where a fetch can be stopped."""

    class Reporter:
        def __init__(self, *args, initial: int = 0, **kwargs):
            self.done = initial
            self.update(0)

        def update(self, count: int) -> None:
            if stopped():
                raise Stopped
            self.done += count
            on_bytes(self.done, total)

        def close(self) -> None:
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            pass

    return Reporter


def _patiently(
    attempt: Callable,
    name: str,
    so_far: Callable[[], int] = lambda: 0,
    stopped: Callable[[], bool] = lambda: False,
):
    """Result of `attempt()`, tried again after failures that may pass; gives up after several without progress."""
    import httpx
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # it would print a line for each of its own attempts
    failures, before = 0, so_far()
    while True:
        try:
            return attempt()
        except httpx.TransportError as error:
            problem = f"no connection, or it broke off ({type(error).__name__})"
        except OSError as error:
            problem = _passing_problem(error, name)
        failures = failures + 1 if so_far() == before else 1
        before = so_far()
        if failures > len(WAITS):
            raise CourseError(
                f"could not fetch {name}, {failures} attempts failed: {problem}; "
                "run it again later: it goes on where it stopped"
            )
        _sleep(WAITS[failures - 1], stopped)


def _passing_problem(error: OSError, name: str) -> str:
    """In a few words what went wrong, when it may pass; else raises CourseError."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        problem = f"the server answered {status} {error.response.reason_phrase}"
        if status < 500 and status not in (408, 429):
            raise CourseError(f"could not fetch {name}: {problem}; check the name, or try again later") from error
        return problem
    if isinstance(error, OfflineModeIsEnabled):
        raise CourseError(f"could not fetch {name}: HF_HUB_OFFLINE is set; unset it to download") from error
    if error.errno == errno.ENOSPC:
        raise CourseError(
            f"the disk is full and {name} is not complete; free some space and run it again: it goes on from there"
        ) from error
    if error.errno is not None:
        raise error
    return str(error).split("\n")[0]  # a body that ended early, or other content than the hub's


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if stopped():
            raise Stopped
        time.sleep(0.1)


def fetch_file(
    url: str,
    path: Path,
    max_bytes: int,
    otherwise: str,
    sha256: str | None = None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Bring the file at `url` to `path`, unless it is there (with this sha256, where one is given).

    max_bytes: a longer file is refused; otherwise: what to do without it, for the message; on_bytes(done, total) is
    called after each piece, total 0 when the server does not say.
    Raises CourseError when it cannot be had; then nothing new is left, and an older file stays.
    """
    import pooch  # slow to import, and needed here only
    import requests

    def download(url: str, part: str, _pooch: object) -> None:
        whole = {"Accept-Encoding": "identity"}  # packed, its length would not be that of the file
        with requests.get(url, headers=whole, stream=True, timeout=30) as response, open(part, "wb") as file:
            response.raise_for_status()
            done, total = 0, int(response.headers.get("Content-Length", 0))
            for piece in response.iter_content(1 << 16):
                done += file.write(piece)
                if done > max_bytes:
                    raise OSError(f"what arrives is longer than {max_bytes / 1e6:,.0f} MB, so it is not the file")
                on_bytes(done, total)

    pooch.get_logger().setLevel("CRITICAL")  # what goes wrong is said below, in one sentence
    known = sha256 and f"sha256:{sha256}"
    try:
        return Path(pooch.retrieve(url, known, path.name, path.parent, downloader=download))  # ty: ignore[invalid-argument-type]
    except (OSError, ValueError) as error:
        raise CourseError(
            f"could not fetch {url}: {_reason(error)}; nothing was kept: try again online, or {otherwise}"
        ) from error


def _reason(error: Exception) -> str:
    """In a few words why a file did not come."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    for kind, said in (
        (exceptions.ChunkedEncodingError, "the download broke off"),
        (exceptions.Timeout, "the server did not answer in time"),
        (exceptions.ConnectionError, "no connection to the server"),
        (exceptions.RequestException, f"the server's answer cannot be used ({type(error).__name__})"),
        (ValueError, "what arrived is not the expected file (its checksum differs)"),
    ):
        if isinstance(error, kind):
            return said
    return getattr(error, "strerror", None) or str(error)

"""Files from the network, never half there: those of the Hugging Face hub, and single ones from anywhere.

Each byte that arrives is kept in `.NAME.VERSION.part` beside the file's place, and the next attempt goes on after it.
"""

import errno
import glob
import hashlib
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_lib.host.errors import CourseError
from course_lib.host.files import only_one, sha256_of

WAITS = (1, 2, 4, 8, 15)  # seconds before each new attempt
AGAIN = "run it again later: it goes on where it stopped"
PASSING = (408, 429)  # statuses below 500 that are worth another attempt


class Stopped(Exception):
    """The caller asked to stop; what was fetched so far is kept."""


@dataclass(frozen=True)
class _Source:
    """A file before it comes. size: bytes, where known; version: a name for its content; stream: httpx's."""

    url: str
    stream: Callable[..., Any]
    headers: dict[str, str] = field(default_factory=dict)
    size: int | None = None
    version: str | None = None
    sha256: str | None = None
    max_bytes: float = math.inf


def file_size(repo: str, name: str) -> int:
    """Bytes of file `name` of the hub's dataset `repo`. Raises CourseError when the hub does not say."""
    return _patiently(lambda gone: _on_the_hub(repo, name), name).size


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
    called in another thread after each piece. Soon after `stopped()` has become true, Stopped is raised.
    Raises CourseError when the hub does not have it, or fails several times in a row, or the disk is full.
    """
    if path.exists():
        return
    with only_one(path):
        if not path.exists():
            _patiently(
                lambda gone: _attempt(_on_the_hub(repo, name), path, verify, on_bytes, gone), name, path, stopped
            )


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
    called in another thread after each piece, total 0 when the server does not say. An interrupted fetch goes on.
    Raises CourseError when it cannot be had; an older file stays.
    """

    def attempt(gone: threading.Event) -> None:
        import httpx  # slow to import, and needed here only

        source = _Source(url, httpx.stream, sha256=sha256, max_bytes=max_bytes)
        _attempt(source, path, lambda part: None, on_bytes, gone)

    def is_here() -> bool:
        return path.exists() and (sha256 is None or sha256_of(path) == sha256)

    if is_here():
        return path
    with only_one(path):
        if not is_here():
            _patiently(attempt, url, path, attempts=1, again=f"try again online, or {otherwise}")
    return path


def _on_the_hub(repo: str, name: str) -> _Source:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session

    url = hf_hub_url(repo, name, repo_type="dataset")
    found = get_hf_file_metadata(url, timeout=10)
    if found.size is None:
        raise ConnectionError("the server does not say how large it is")
    etag = found.etag or ""
    sha256 = etag if re.fullmatch("[0-9a-f]{64}", etag) else None
    return _Source(url, get_session().stream, build_hf_headers(), found.size, _version(etag), sha256)


def _version(etag: str) -> str:
    return hashlib.sha256(etag.encode()).hexdigest()[:12]


def _parts(path: Path) -> list[Path]:
    return list(path.parent.glob(f".{glob.escape(path.name)}.*.part"))


def _attempt(
    source: _Source,
    path: Path,
    verify: Callable[[Path], None],
    on_bytes: Callable[[int, int], None],
    gone: threading.Event,
) -> None:
    """Go on with the part that is here, to the file's end; check it and put it in its place.

    Once `gone` is set, nothing more is written: nobody waits for it.
    """
    for part in _parts(path):
        of_this = source.version is None or part.name.endswith(f".{source.version}.part")
        if not of_this or part.stat().st_size > (source.size or source.max_bytes):
            part.unlink()
    part = next(iter(_parts(path)), None)
    if part is None or part.stat().st_size != source.size:
        part = _receive(source, path, part, on_bytes, gone)
    try:
        if source.sha256 and sha256_of(part) != source.sha256:
            raise CourseError("its checksum is not the one that was announced")
        verify(part)
    except CourseError as error:
        part.unlink()
        raise ConnectionError(f"what arrived is not the file: {error}") from error
    os.replace(part, path)


def _receive(
    source: _Source, path: Path, part: Path | None, on_bytes: Callable[[int, int], None], gone: threading.Event
) -> Path:
    """Ask for what is missing, and write each piece down as it comes; the part, all of it."""
    done = part.stat().st_size if part else 0
    headers = source.headers | {"Accept-Encoding": "identity"}  # packed, its length would not be that of the file
    headers |= {"Range": f"bytes={done}-"} if done else {}
    with source.stream("GET", source.url, headers=headers, timeout=30, follow_redirects=True) as response:
        answer = response.headers
        target = path.with_name(f".{path.name}.{source.version or _version(answer.get('ETag', ''))}.part")
        goes_on = part == target and answer.get("Content-Range", "").startswith(f"bytes {done}-")
        if response.status_code == 416 or (response.status_code == 206 and not goes_on):
            for other in _parts(path):
                other.unlink()
            raise ConnectionError("the server has another file there now")
        response.raise_for_status()
        if not goes_on:
            done = 0
        size = source.size
        if size is None and "Content-Encoding" not in answer and "Content-Length" in answer:
            size = done + int(answer["Content-Length"])
        limit = source.max_bytes if size is None else min(size, source.max_bytes)
        too_long = f"what arrives is longer than {limit / 1e6:,.1f} MB, so it is not the file"
        if size and size > limit:
            raise ConnectionError(too_long)
        if size:
            _check_room(path, size - done)
        on_bytes(done, size or 0)
        with target.open("ab" if goes_on else "wb") as file:
            for piece in response.iter_bytes():
                if gone.is_set():
                    raise Stopped
                done += file.write(piece)
                file.flush()
                if done > limit:
                    break
                on_bytes(done, size or 0)
            os.fsync(file.fileno())
    if done > limit:
        target.unlink()
        raise ConnectionError(too_long)
    if size and done < size:
        raise ConnectionError("the download broke off")
    return target


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise CourseError(
            f"{path.name} needs {needed / 1e6:,.1f} MB more, and {path.parent} has {free / 1e6:,.1f} MB free; "
            "free some space, or set COURSE_HOME"
        )


def _patiently(
    attempt: Callable[[threading.Event], Any],
    name: str,
    path: Path | None = None,
    stopped: Callable[[], bool] = lambda: False,
    attempts: int = 1 + len(WAITS),
    again: str = AGAIN,
) -> Any:
    """Result of `attempt(gone)`; tried anew after what may pass, until so many in a row have brought no byte."""
    import httpx

    failures = furthest = 0
    while True:
        try:
            return _abandonable(attempt, stopped)
        except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
            problem = _passing_problem(error, name, again)
        done = sum(part.stat().st_size for part in _parts(path)) if path else 0
        failures = 0 if done > furthest else failures + 1
        furthest = max(done, furthest)
        if failures >= attempts:
            times = f", {failures} attempts failed" if failures > 1 else ""
            raise CourseError(f"could not fetch {name}{times}: {problem}; {again}")
        _sleep(WAITS[max(failures - 1, 0)], stopped)


def _abandonable(attempt: Callable[[threading.Event], Any], stopped: Callable[[], bool]) -> Any:
    """Result of `attempt(gone)` in a thread of its own: a server that says nothing must not hold up who is to stop."""
    future, gone = Future(), threading.Event()

    def run() -> None:
        try:
            future.set_result(attempt(gone))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while not wait([future], timeout=0.2).done:
            if stopped():
                raise Stopped
        return future.result()
    finally:
        gone.set()


def _passing_problem(error: Exception, name: str, again: str) -> str:
    """In a few words what went wrong, when it may pass; else raises CourseError."""
    import httpx
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        raise CourseError(f"could not fetch {name}: HF_HUB_OFFLINE is set; unset it to download") from error
    response = getattr(error, "response", None)
    if response is not None:
        problem = f"the server answered {response.status_code} {response.reason_phrase}"
        if response.status_code < 500 and response.status_code not in PASSING:
            again = again if again != AGAIN else "check the name, or try again later"
            raise CourseError(f"could not fetch {name}: {problem}; {again}") from error
        return problem
    for kind, said in (
        (httpx.TimeoutException, "the server did not answer in time"),
        (httpx.NetworkError, "no connection to the server, or it broke off"),
        (httpx.RemoteProtocolError, "the download broke off"),
        (httpx.ProxyError, "the proxy does not let it through"),
    ):
        if isinstance(error, kind):
            return said
    if not isinstance(error, OSError):  # redirects without end or to nowhere, a body that cannot be unpacked
        problem = f"the server's answer cannot be used ({type(error).__name__})"
        raise CourseError(f"could not fetch {name}: {problem}; {again}") from error
    if error.errno == errno.ENOSPC:
        raise CourseError(
            f"the disk is full and {name} is not complete; free some space and run it again: it goes on from there"
        ) from error
    if error.errno is not None:
        raise error
    return str(error).split("\n")[0]


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if stopped():
            raise Stopped
        time.sleep(min(0.1, seconds))

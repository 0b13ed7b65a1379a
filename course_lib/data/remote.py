"""Corpora on the Hugging Face hub: fetched shard by shard, or streamed with few shards on disk.

Written by hand; chapter 06 uses it.
"""

import concurrent.futures.thread
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.progress import DownloadColumn, Progress, TaskID, TimeRemainingColumn, TransferSpeedColumn

from course_lib.data.parquet import open_whole
from course_lib.host.download import Stopped, fetch, file_size
from course_lib.host.errors import CourseError
from course_lib.host.files import held, remove_unless_held
from course_lib.host.paths import home_dir
from course_lib.host.progress import bars


@dataclass(frozen=True)
class Remote:
    """A corpus on the hub: shard_00000.parquet, …, the last one for validation."""

    repo: str
    num_shards: int

    def shard(self, number: int) -> str:
        """Name of a shard; -1 is the last. Raises CourseError for a number out of range."""
        if not -self.num_shards <= number < self.num_shards:
            raise CourseError(f"{self.repo} has no shard {number}; they go from 0 to {self.num_shards - 1}")
        return f"shard_{number % self.num_shards:05d}.parquet"

    def fetch(self, name: str, folder: Path, **watch: Callable) -> None:
        """Bring a shard into `folder`, unless it is there, and check its footer. watch: see `download.fetch`."""
        fetch(self.repo, name, folder / name, verify=lambda part: open_whole(part).close(), **watch)


REMOTES = {
    "fineweb-edu": Remote("karpathy/fineweb-edu-100b-shuffle", 1823),
    "climbmix": Remote("karpathy/climbmix-400b-shuffle", 6543),
}


def remote_folder(name: str) -> Path:
    """Where the fetched shards of a remote corpus are kept."""
    return home_dir() / "datasets" / name


def fetch_shards(remote: Remote, names: list[str], folder: Path, workers: int) -> None:
    """Fetch the shards that are missing or damaged, several at a time, with bars.

    Raises CourseError when the disk has too little room, or, after all others, for a shard that could not be had.
    """
    missing = [name for name in names if not _is_whole(folder / name)]
    if not missing:
        return
    expected = file_size(remote.repo, missing[0]) * len(missing)
    _check_space(folder, expected)
    stop, failure = threading.Event(), None
    columns = DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with bars(*columns) as progress, ThreadPoolExecutor(workers) as pool:
        in_all = progress.add_task(f"{len(missing)} shards", total=expected)
        futures = [pool.submit(_fetch_shard, remote, name, folder, progress, in_all, stop) for name in missing]
        try:
            for future in as_completed(futures):
                failure = future.exception() or failure
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(cancel_futures=True)
            print("stopped; what has arrived is kept: run the same command again to go on", file=sys.stderr)
            raise
    if failure:
        raise failure


def _fetch_shard(
    remote: Remote, name: str, folder: Path, progress: Progress, in_all: TaskID, stop: threading.Event
) -> None:
    """Fetch one shard and move two bars: one of its own, which then goes, and that of all."""
    task, done = progress.add_task(name, total=None), 0

    def report(bytes_done: int, total: int) -> None:
        nonlocal done
        progress.update(task, completed=bytes_done, total=total)
        progress.update(in_all, advance=bytes_done - done)
        done = bytes_done

    remote.fetch(name, folder, on_bytes=report, stopped=stop.is_set)
    progress.remove_task(task)
    print(f"{name}  {done / 1e6:,.1f} MB", file=sys.stderr)


def _check_space(folder: Path, needed: int) -> None:
    """Raise CourseError when the disk has no room for `needed` bytes, parts of them being there."""
    folder.mkdir(parents=True, exist_ok=True)
    needed -= sum(part.stat().st_size for part in folder.glob(".*.part"))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CourseError(
            f"these shards need {needed / 1e9:.1f} GB more, and {folder} has {free / 1e9:.1f} GB free; "
            "free some space, set COURSE_HOME, or ask for fewer with --shards"
        )


def _is_whole(path: Path) -> bool:
    """Whether a shard is there and its footer can be read; one that is damaged is deleted."""
    if not path.exists():
        return False
    try:
        open_whole(path).close()
    except CourseError as error:
        print(f"fetching it again: {error}")
        path.unlink()
        return False
    return True


class ShardCache:
    """A remote corpus of which few shards are on disk: the next is fetched while one is read.

    max_cached: shards on disk at a time, validation and the one that is being fetched included; 3 or more, else
    CourseError.
    """

    def __init__(self, remote: Remote, folder: Path, max_cached: int):
        if max_cached < 3:
            raise CourseError(
                f"max_cached_shards={max_cached}, expected 3 or more: one to read, the next one, and validation"
            )
        self.remote, self.folder, self.max_cached = remote, folder, max_cached
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ShardCache")
        self._fetching: dict[str, Future] = {}
        self._needed: set[str] = set()
        self._lock = threading.Lock()
        self._held = ExitStack()  # what was asked for last, which other programs leave alone

    def get(self, name: str, following: str, stopped: Callable[[], bool]) -> Path:
        """Path of a shard, waited for if need be; `following` is fetched in the background.

        Raises CourseError when it cannot be had, and Stopped when `stopped()` becomes true.
        """
        with self._lock:
            self._held.close()
            self._needed = {name, following, self.remote.shard(-1)}
            self._make_room(self._needed)
            wanted, _ = self._fetch(name), self._fetch(following)
        while not wanted.done():
            if stopped():
                raise Stopped
            wait([wanted], timeout=0.2)
        wanted.result()
        try:
            with self._lock:
                self._held.enter_context(held(self.folder / name))
        except FileNotFoundError:  # another program has just deleted it
            return self.get(name, following, stopped)
        return self.folder / name

    def _fetch(self, name: str) -> Future:
        future, there = self._fetching.get(name), (self.folder / name).exists()
        if future is None or (future.done() and (future.exception() or not there)):
            future = self._fetching[name] = self._pool.submit(self._bring, name)
        return future

    def _bring(self, name: str) -> None:
        if _program_ends():
            raise Stopped
        with self._lock:
            self._make_room({*self._needed, name})  # again: meanwhile another one may have arrived
        self.remote.fetch(name, self.folder, stopped=_program_ends)

    def _make_room(self, needed: set[str]) -> None:
        """Delete the shards that were fetched longest ago, until the needed ones have room."""
        others = [path for path in self.folder.glob("shard_*.parquet") if path.name not in needed]
        others.sort(key=_fetched_at)
        for path in others[: max(len(others) + len(needed) - self.max_cached, 0)]:
            remove_unless_held(path)


def _fetched_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has just deleted it
        return 0.0


def _program_ends() -> bool:
    """Whether Python is at its end and waits for the threads of pools."""
    return getattr(concurrent.futures.thread, "_shutdown", False)

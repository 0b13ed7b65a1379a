"""Fetch or make the data to train on: `get_data --help`.

Fetches shards of a corpus in parallel; when interrupted, run it again and it goes on.

Exported from notebooks/06_data.ipynb; edit it there.
"""

import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from course_lib.dataset import REMOTES, Remote, open_dataset, remote_folder
from course_lib.documents import open_parquet
from course_lib.host.download import file_size
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import run_program


@dataclass(frozen=True)
class Settings:
    """Fetch or make the data to train on."""

    dataset: str = "bundled"
    """bundled (this Python's documentation), fineweb-edu, climbmix, or a file or folder of text."""
    shards: int = 8
    """Training shards of a remote corpus, about 100 MB each; the validation shard comes on top."""
    workers: int = 4
    """Shards to fetch at a time."""


def work(settings: Settings) -> None:
    """Fetch what is missing, then print what there is."""
    for flag in ("shards", "workers"):
        if getattr(settings, flag) < 1:
            raise FlagError(f"--{flag} is {getattr(settings, flag)}, expected 1 or more")
    if settings.dataset in REMOTES:
        remote = REMOTES[settings.dataset]
        if settings.shards >= remote.num_shards:
            most = remote.num_shards - 1
            raise FlagError(f"--shards is {settings.shards}, expected {most} or fewer")
        names = [remote.shard(number) for number in (*range(settings.shards), -1)]
        download(remote, names, remote_folder(settings.dataset), settings.workers)
    dataset = open_dataset(settings.dataset)
    for split in ("train", "val"):
        shards, rows = len(dataset.shards(split)), dataset.num_rows(split)
        print(f"{split:5s} {shards:5d} shards {rows:10,d} documents")
    print(f"in {dataset.folder}")


def download(remote: Remote, names: list[str], folder: Path, workers: int) -> None:
    """Fetch the shards that are missing or damaged, several at a time, with bars.

    Raises CourseError when the disk has too little room, or, after all others, for a shard that
    could not be had.
    """
    missing = [name for name in names if not _is_whole(folder / name)]
    if not missing:
        return
    expected = file_size(remote.repo, missing[0]) * len(missing)
    _check_space(folder, expected)
    stop, failure = threading.Event(), None
    with _bars() as progress, ThreadPoolExecutor(workers) as pool:
        in_all = progress.add_task(f"{len(missing)} shards", total=expected)
        futures = [pool.submit(_fetch_shard, remote, name, folder, progress, in_all, stop) for name in missing]
        try:
            for future in as_completed(futures):
                failure = future.exception() or failure
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(cancel_futures=True)
            progress.console.print("stopped; what has arrived is kept: run the same command again to go on")
            raise
    if failure:
        raise failure


def _fetch_shard(
    remote: Remote,
    name: str,
    folder: Path,
    progress: Progress,
    in_all: TaskID,
    stop: threading.Event,
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
    progress.console.print(f"{name}  {done / 1e6:,.1f} MB", highlight=False)


def _bars() -> Progress:
    columns = [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    console = Console(stderr=True, force_terminal=is_terminal, force_jupyter=False)
    return Progress("{task.description}", *columns, console=console, disable=not is_terminal)


def _check_space(folder: Path, needed: int) -> None:
    """Raise CourseError when the disk has no room for `needed` bytes, parts of them being there."""
    folder.mkdir(parents=True, exist_ok=True)
    needed -= sum(part.stat().st_size for part in folder.glob(".*.part"))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CourseError(
            f"these shards need {needed / 1e9:.1f} GB more, and {folder} has {free / 1e9:.1f} GB "
            "free; free some space, set COURSE_HOME, or ask for fewer with --shards"
        )


def _is_whole(path: Path) -> bool:
    """Whether a shard is there and its footer can be read; one that is damaged is deleted."""
    if not path.exists():
        return False
    try:
        open_parquet(path).close()
    except CourseError as error:
        print(f"fetching it again: {error}")
        path.unlink()
        return False
    return True


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("get_data", Settings, work, argv)


if __name__ == "__main__":
    main()

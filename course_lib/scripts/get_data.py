"""Fetch or make the data to train on: `get_data --help`.

Fetches shards of a corpus in parallel; when interrupted, run it again and it goes on.

Exported from notebooks/06_data.ipynb; edit it there.
"""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
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
    """bundled (the documentation of this Python), fineweb-edu, climbmix, or a file or folder of text of your own."""
    shards: int = 8
    """Training shards to have of a remote corpus, about 100 MB each; its validation shard comes on top."""
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
            raise FlagError(f"--shards is {settings.shards}, expected {remote.num_shards - 1} or fewer")
        names = [remote.shard(number) for number in (*range(settings.shards), -1)]
        download(remote, names, remote_folder(settings.dataset), settings.workers)
    dataset = open_dataset(settings.dataset)
    for split in ("train", "val"):
        files = [pq.read_metadata(dataset.folder / name) for name in dataset.shards(split)]
        print(f"{split:5s} {len(files):5d} shards {sum(file.num_rows for file in files):10,d} documents")
    print(f"in {dataset.folder}")


def download(remote: Remote, names: list[str], folder: Path, workers: int) -> None:
    """Fetch the shards that are missing or damaged, several at a time, with a bar for each and one for all.

    Raises CourseError when the disk has too little room, or, after all others, for a shard that could not be had.
    """
    missing = [name for name in names if not _is_whole(folder / name)]
    if not missing:
        return
    expected = file_size(remote.repo, missing[0]) * len(missing)
    _check_space(folder, expected)
    done, stop, failure = dict.fromkeys(missing, 0), threading.Event(), None
    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        in_all = progress.add_task(f"{len(missing)} shards", total=expected)

        def fetch_shard(name: str) -> None:
            task = progress.add_task(name, total=None)

            def report(bytes_done: int, total: int) -> None:
                done[name] = bytes_done
                progress.update(task, completed=bytes_done, total=total)
                progress.update(in_all, completed=sum(done.values()))

            remote.fetch(name, folder, on_bytes=report, stopped=stop.is_set)
            progress.remove_task(task)
            progress.console.print(f"{name}  {done[name] / 1e6:,.1f} MB", highlight=False)

        futures = [pool.submit(fetch_shard, name) for name in missing]
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


def _check_space(folder: Path, needed: int) -> None:
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

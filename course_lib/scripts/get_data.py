"""Fetch or make the data to train on: `get_data --help`.

Fetches shards of a corpus in parallel; when interrupted, run it again and it continues.
"""

from dataclasses import dataclass
from functools import partial

from course_lib.data.dataset import open_dataset
from course_lib.data.remote import REMOTES, fetch_shards, remote_folder
from course_lib.host.errors import FlagError
from course_lib.host.program import AtLeastOne, run_program
from course_lib.host.progress import suggest


@dataclass(frozen=True)
class Settings:
    """Fetch or make the data to train on."""

    dataset: str = "bundled"
    """bundled (this Python's documentation), fineweb-edu, climbmix, or a file or folder of text."""
    shards: AtLeastOne = 8
    """Training shards of a remote corpus, about 100 MB each; the validation shard comes on top."""
    workers: AtLeastOne = 4
    """Shards to fetch at a time."""


def work(settings: Settings) -> None:
    """Fetch what is missing, then print what there is."""
    if settings.dataset in REMOTES:
        remote = REMOTES[settings.dataset]
        if settings.shards >= remote.num_shards:
            most = remote.num_shards - 1
            raise FlagError(f"--shards is {settings.shards}, expected {most} or fewer")
        names = [remote.shard(number) for number in (*range(settings.shards), -1)]
        fetch_shards(remote, names, remote_folder(settings.dataset), settings.workers)
    dataset = open_dataset(settings.dataset)
    for split in ("train", "val"):
        shards, rows = len(dataset.shards(split)), dataset.num_rows(split)
        print(f"{split:5s} {shards:5d} shards {rows:10,d} documents")
    print(f"in {dataset.folder}")
    suggest({f"base_train --dataset {settings.dataset}": "train a model on it"})


main = partial(run_program, "get_data", Settings, work)

if __name__ == "__main__":
    main()

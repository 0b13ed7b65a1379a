"""Conversations, sums and questions for a chat model, from the Hugging Face hub: fetched when asked for, and once.

Written by hand; chapter 13 uses it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from course_lib.data.parquet import open_whole
from course_lib.host.download import fetch
from course_lib.host.errors import CourseError
from course_lib.host.paths import home_dir
from course_lib.host.progress import bars


@dataclass(frozen=True)
class ChatCorpus:
    """A data set on the hub. columns: those that are read; files: for each split, the parquet files in order."""

    repo: str
    columns: list[str]
    files: dict[str, list[str]]


def _files(folder: str, train: str = "train", train_files: int = 1, validation: bool = True) -> dict[str, list[str]]:
    """Names as the hub gives them; all splits but train have one file. train: what that one is called there."""
    found = {"train": [f"{folder}/{train}-{n:05d}-of-{train_files:05d}.parquet" for n in range(train_files)]}
    for split in ("validation", "test") if validation else ("test",):
        found[split] = [f"{folder}/{split}-00000-of-00001.parquet"]
    return found


TALK, SUMS = _files("data", train_files=4, validation=False), _files("main", validation=False)
ARC = ["question", "choices", "answerKey"]
CHAT_CORPORA = {
    "smoltalk": ChatCorpus("HuggingFaceTB/smol-smoltalk", ["messages"], TALK),  # 460,000 in four files of 230 MB
    "gsm8k": ChatCorpus("openai/gsm8k", ["question", "answer"], SUMS),
    "mmlu": ChatCorpus("cais/mmlu", ["question", "subject", "choices", "answer"], _files("all", "auxiliary_train")),
    "arc-easy": ChatCorpus("allenai/ai2_arc", ARC, _files("ARC-Easy")),
    "arc-challenge": ChatCorpus("allenai/ai2_arc", ARC, _files("ARC-Challenge")),
}


class Rows(Sequence):
    """The rows of a table as dicts, made when they are asked for: len, [number], and iteration."""

    def __init__(self, table: pa.Table):
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, number: Any) -> Any:
        return self.table.slice(range(len(self))[number], 1).to_pylist()[0]

    def __iter__(self) -> Iterator[dict]:
        for batch in self.table.to_batches(max_chunksize=1000):
            yield from batch.to_pylist()


def rows(corpus: str, split: str, max_files: int | None = None) -> Rows:
    """The rows of a split ("train", "test", …) of one of CHAT_CORPORA, downloaded on the first call.

    max_files: only the first so many of its files. They are kept in `home_dir()`; a damaged one is fetched again.
    Raises CourseError for an unknown name, when it cannot be had, and for what is not the data set that is expected.
    """
    if corpus not in CHAT_CORPORA:
        raise CourseError(f"no corpus is called {corpus!r}, expected one of {', '.join(CHAT_CORPORA)}")
    about = CHAT_CORPORA[corpus]
    if split not in about.files:
        raise CourseError(f"{corpus} has no split {split!r}, expected one of {', '.join(about.files)}")
    if max_files is not None and max_files < 1:
        raise CourseError(f"max_files={max_files}, expected 1 or more, or None for all")
    folder = home_dir() / "datasets" / corpus
    tables = [_table(about, name, folder / name.replace("/", "-")) for name in about.files[split][:max_files]]
    return Rows(pa.concat_tables(tables))


def _table(about: ChatCorpus, name: str, path: Path) -> pa.Table:
    """A file of a corpus, fetched if need be."""
    if path.exists():
        try:
            return _read(path, about.columns)
        except CourseError as error:
            print(f"fetching it again: {error}", flush=True)
            path.unlink()
    print(f"fetching {name} of {about.repo}, once …", flush=True)
    with bars(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(name, total=None)

        def on_bytes(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        fetch(about.repo, name, path, verify=lambda part: open_whole(part).close(), on_bytes=on_bytes)
    return _read(path, about.columns)


def _read(path: Path, columns: list[str]) -> pa.Table:
    """Those columns of the file. Raises CourseError when it is damaged or lacks one."""
    with open_whole(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise CourseError(
                f"{path} has no column {', '.join(missing)}, expected {', '.join(columns)}: the data set on the hub "
                "has changed, or this is another file; delete it and try again"
            )
        try:
            return file.read(columns)
        except (pa.ArrowException, OSError) as error:
            raise CourseError(f"{path} is damaged ({str(error).splitlines()[0]}); delete it and try again") from error

"""Train a tokenizer on the documents of a dataset: `tok_train --help`.

Exported from notebooks/06_data.ipynb; edit it there.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from course_lib.dataset import Dataset, open_dataset
from course_lib.host.errors import FlagError
from course_lib.host.program import run_program
from course_lib.tokenizer import SPECIAL_TOKENS, Tokenizer, default_folder, fitting_vocab_size


@dataclass(frozen=True)
class Settings:
    """Train a tokenizer on the training documents of a dataset."""

    vocab_size: int | None = None
    """Tokens, the nine special ones included; by default what fits the text, up to nanochat's 65,536."""
    max_chars: int = 2_000_000_000
    """Stop reading after so many characters."""
    doc_cap: int = 10_000
    """Characters to read of each document, so that no long one counts for too much."""
    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`), or a file or folder of text of your own."""
    folder: Path | None = None
    """Where to put the tokenizer; by default where the other programs look for it."""


def texts(dataset: Dataset, doc_cap: int, max_chars: int) -> Iterator[str]:
    """Training documents cut to `doc_cap` characters, until they have `max_chars` in all."""
    chars = 0
    for text in dataset.documents("train"):
        yield text[:doc_cap]
        chars += len(text[:doc_cap])
        if chars > max_chars:
            return


class _MergesSeen(logging.Handler):
    """Moves a progress bar by what rustbpe logs: "Progress: 12% (492/4096 merges) …"."""

    def __init__(self, on_merges: Callable[[int], None]):
        super().__init__()
        self.on_merges = on_merges

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.search(r"\((\d+)/\d+ merges\)", record.getMessage()):
            self.on_merges(int(found[1]))


def train(dataset: Dataset, vocab_size: int, doc_cap: int, max_chars: int) -> tuple[Tokenizer, int, int]:
    """The tokenizer, and how many documents and characters it was trained on; draws two progress bars."""
    rows = sum(pq.read_metadata(dataset.path("train", n)).num_rows for n in range(len(dataset.shards("train"))))
    columns = (
        "{task.description}",
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    docs = chars = 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        reading = progress.add_task("reading", total=rows)
        merging = progress.add_task("merging", total=vocab_size - 256 - len(SPECIAL_TOKENS))

        def counted() -> Iterator[str]:
            nonlocal docs, chars
            for text in texts(dataset, doc_cap, max_chars):
                docs, chars = docs + 1, chars + len(text)
                if docs % 100 == 0:
                    progress.update(reading, completed=max(rows * chars // max_chars, docs))
                yield text
            progress.update(reading, completed=rows)

        log = logging.getLogger("rustbpe")
        handler = _MergesSeen(lambda merges: progress.update(merging, completed=merges))
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        try:
            tokenizer = Tokenizer.train(counted(), vocab_size, allow_smaller=True)
        finally:
            log.removeHandler(handler)
        progress.update(merging, completed=vocab_size)
    return tokenizer, docs, chars


def work(settings: Settings) -> None:
    """Train, save, print a summary."""
    least = {"vocab_size": 256 + len(SPECIAL_TOKENS), "max_chars": 1, "doc_cap": 1}
    for flag, value in least.items():
        given = getattr(settings, flag)
        if given is not None and given < value:
            raise FlagError(f"--{flag.replace('_', '-')} is {given}, expected {value} or more")
    began = time.perf_counter()
    dataset = open_dataset(settings.dataset)
    vocab_size = settings.vocab_size or _fitting(dataset, settings)
    tokenizer, docs, chars = train(dataset, vocab_size, settings.doc_cap, settings.max_chars)
    folder = settings.folder or default_folder()
    tokenizer.save(folder)
    if tokenizer.vocab_size < vocab_size:
        print(f"the text has pairs for {tokenizer.vocab_size:,} tokens only, fewer than {vocab_size:,}")
    held_out = list(islice(dataset.documents("val"), 1000))
    sizes = [
        sum(len(text.encode()) for text in held_out),
        sum(map(len, tokenizer.encode_batch(held_out))),
    ]
    print(f"dataset           {dataset.name}: {docs:,} documents, {chars:,} characters")
    print(
        f"vocabulary        {tokenizer.vocab_size:,} tokens: 256 bytes, {tokenizer.vocab_size - 265:,} merges, 9 special"
    )
    print(f"bytes per token   {sizes[0] / sizes[1]:.2f} on validation text")
    print(f"time              {time.perf_counter() - began:.1f} s")
    print(f"saved in          {folder}")


def _fitting(dataset: Dataset, settings: Settings) -> int:
    chars = 0
    for text in texts(dataset, settings.doc_cap, settings.max_chars):
        chars += len(text)
        if fitting_vocab_size(chars) == 65_536:
            break
    return fitting_vocab_size(chars)


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("tok_train", Settings, work, argv)


if __name__ == "__main__":
    main()

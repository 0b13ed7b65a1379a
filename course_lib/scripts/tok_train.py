"""Train a tokenizer on the documents of a dataset: `tok_train --help`."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.progress import TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn

from course_lib.data.dataset import Dataset, open_dataset
from course_lib.data.tokenizer import SPECIAL_TOKENS, Tokenizer, default_folder, fitting_vocab_size
from course_lib.host.program import check_least, run_program
from course_lib.host.progress import bars, rustbpe_merges


@dataclass(frozen=True)
class Settings:
    """Train a tokenizer on the training documents of a dataset."""

    vocab_size: int | None = None
    """Tokens, the nine special ones included; by default what fits the text, up to 65,536."""
    max_chars: int = 2_000_000_000
    """Stop reading after so many characters."""
    doc_cap: int = 10_000
    """Characters to read of each document, so that no long one counts for too much."""
    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`), or a file or folder of your own text."""
    streaming: bool = False
    """Fetch the shards of a remote corpus while reading, instead of before."""
    folder: Path | None = None
    """Where to put the tokenizer; by default where the other programs look for it."""


def texts(dataset: Dataset, doc_cap: int, max_chars: int) -> Iterator[str]:
    """Training documents cut to `doc_cap` characters, until they have over `max_chars` in all."""
    chars = 0
    for text in dataset.documents("train"):
        yield text[:doc_cap]
        chars += len(text[:doc_cap])
        if chars > max_chars:  # nanochat stops so, too
            return


def train(dataset: Dataset, vocab_size: int, doc_cap: int, max_chars: int) -> tuple[Tokenizer, int, int]:
    """The tokenizer, and how many documents and characters it was trained on; draws two bars."""
    rows = None if dataset.streamed else dataset.num_rows("train")
    docs = chars = 0
    columns = TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with bars(*columns) as progress:
        reading = progress.add_task("reading", total=rows)
        merging = progress.add_task("merging", total=vocab_size - 256 - len(SPECIAL_TOKENS))

        def counted() -> Iterator[str]:
            nonlocal docs, chars
            for text in texts(dataset, doc_cap, max_chars):
                docs, chars = docs + 1, chars + len(text)
                if docs % 100 == 0 and rows:
                    progress.update(reading, completed=max(rows * chars // max_chars, docs))
                yield text
            progress.update(reading, completed=docs, total=docs)

        with rustbpe_merges(lambda merges: progress.update(merging, completed=merges)):
            tokenizer = Tokenizer.train(counted(), vocab_size, allow_smaller=True)
        progress.update(merging, completed=vocab_size)
    return tokenizer, docs, chars


def work(settings: Settings) -> None:
    """Train, save, print a summary."""
    smallest = 256 + len(SPECIAL_TOKENS)
    check_least(settings, vocab_size=smallest, max_chars=1, doc_cap=1)
    began = time.perf_counter()
    dataset = open_dataset(settings.dataset, settings.streaming)
    vocab_size = settings.vocab_size or _fitting(dataset, settings)
    tokenizer, docs, chars = train(dataset, vocab_size, settings.doc_cap, settings.max_chars)
    folder = settings.folder or default_folder()
    tokenizer.save(folder)
    found = tokenizer.vocab_size
    if found < vocab_size:
        print(f"the text has pairs for {found:,} tokens only, fewer than {vocab_size:,}")
    print(f"dataset           {dataset.name}: {docs:,} documents, {chars:,} characters")
    print(f"vocabulary        {found:,} tokens: 256 bytes, {found - smallest:,} merges, 9 special")
    print(f"bytes per token   {_bytes_per_token(tokenizer, dataset)} on validation text")
    print(f"time              {time.perf_counter() - began:.1f} s")
    print(f"saved in          {folder}")


def _fitting(dataset: Dataset, settings: Settings) -> int:
    enough = min(settings.max_chars, 40_000_000)  # fits 65,536 tokens, and more is not wanted
    return fitting_vocab_size(sum(map(len, texts(dataset, settings.doc_cap, enough))))


def _bytes_per_token(tokenizer: Tokenizer, dataset: Dataset) -> str:
    held_out = list(islice(dataset.documents("val"), 1000))
    tokens = sum(map(len, tokenizer.encode_batch(held_out)))
    return f"{sum(len(text.encode()) for text in held_out) / tokens:.2f}" if tokens else "unknown"


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("tok_train", Settings, work, argv)


if __name__ == "__main__":
    main()

"""Train a tokenizer on the documents of a dataset, with progress bars and a summary.

Written by hand; chapter 06 uses it.
"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.progress import TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn

from course_lib.data.dataset import Dataset
from course_lib.data.documents import LONGEST
from course_lib.data.tokenizer import SPECIAL_TOKENS, Tokenizer, fitting_vocab_size
from course_lib.host.paths import check_writable
from course_lib.host.progress import bars, rustbpe_merges, say

SMALLEST_VOCAB = 256 + len(SPECIAL_TOKENS)  # every byte and the special tokens, no merges
MAX_CHARS = 2_000_000_000  # characters to read: nanochat's
DOC_CAP = LONGEST  # of each document, nanochat's too: so text of your own, which is cut there, is read whole


def train_tokenizer(
    dataset: Dataset,
    folder: Path,
    vocab_size: int | None = None,
    max_chars: int = MAX_CHARS,
    doc_cap: int = DOC_CAP,
) -> Tokenizer:
    """Train on the training documents of `dataset`, save in `folder`, print a summary.

    vocab_size: tokens, the special ones included; by default what fits the text, up to 65,536. max_chars: stop
    reading after so many characters. doc_cap: characters to read of each document, so that no long one dominates.
    Raises CourseError for a vocab_size below SMALLEST_VOCAB.
    """
    check_writable(folder)
    began = time.perf_counter()
    say(f"reading {dataset.name} for a tokenizer …")
    vocab_size = vocab_size or _fitting(dataset, doc_cap, max_chars)
    tokenizer, docs, chars = _train_with_bars(dataset, vocab_size, doc_cap, max_chars)
    tokenizer.save(folder)
    found = tokenizer.vocab_size
    if found < vocab_size:
        print(f"the text has pairs for {found:,} tokens only, fewer than {vocab_size:,}")
    say(f"dataset           {dataset.name}: {docs:,} documents, {chars:,} characters")
    say(f"vocabulary        {found:,} tokens: 256 bytes, {found - SMALLEST_VOCAB:,} merges, 9 special")
    say(f"bytes per token   {_bytes_per_token(tokenizer, dataset)} on validation text")
    say(f"time              {time.perf_counter() - began:.1f} s")
    say(f"saved in          {folder}")
    return tokenizer


def capped_texts(dataset: Dataset, doc_cap: int, max_chars: int) -> Iterator[str]:
    """Training documents cut to `doc_cap` characters, until they have over `max_chars` in all."""
    chars = 0
    for text in dataset.documents("train"):
        yield text[:doc_cap]
        chars += len(text[:doc_cap])
        if chars > max_chars:  # nanochat stops so, too
            return


def _train_with_bars(dataset: Dataset, vocab_size: int, doc_cap: int, max_chars: int) -> tuple[Tokenizer, int, int]:
    """The tokenizer, and how many documents and characters it was trained on; draws two bars."""
    rows = None if dataset.streamed else dataset.num_rows("train")
    docs = chars = 0
    columns = TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with bars(*columns) as progress:
        reading = progress.add_task("reading", total=rows)
        merging = progress.add_task("merging", total=vocab_size - SMALLEST_VOCAB)

        def counted() -> Iterator[str]:
            nonlocal docs, chars
            for text in capped_texts(dataset, doc_cap, max_chars):
                docs, chars = docs + 1, chars + len(text)
                if docs % 100 == 0 and rows:
                    progress.update(reading, completed=max(rows * chars // max_chars, docs))
                yield text
            progress.update(reading, completed=docs, total=docs)

        with rustbpe_merges(lambda merges: progress.update(merging, completed=merges)):
            tokenizer = Tokenizer.train(counted(), vocab_size, allow_smaller=True)
        progress.update(merging, completed=vocab_size)
    return tokenizer, docs, chars


def _fitting(dataset: Dataset, doc_cap: int, max_chars: int) -> int:
    enough = min(max_chars, 40_000_000)  # fits 65,536 tokens, and more is not wanted
    return fitting_vocab_size(sum(map(len, capped_texts(dataset, doc_cap, enough))))


def _bytes_per_token(tokenizer: Tokenizer, dataset: Dataset) -> str:
    held_out = list(islice(dataset.documents("val"), 1000))
    tokens = sum(map(len, tokenizer.encode_batch(held_out)))
    return f"{sum(len(text.encode()) for text in held_out) / tokens:.2f}" if tokens else "unknown"

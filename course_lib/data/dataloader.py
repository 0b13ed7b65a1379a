"""Batches of ids for training: documents in one endless stream, tokenised ahead, cut into rows.

Written by hand; chapter 06 uses it.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np

from course_lib.data.dataset import Dataset
from course_lib.data.documents import read_parquet
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError


def read_from(
    dataset: Dataset,
    split: str,
    position: dict,
    rank: int = 0,
    world_size: int = 1,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[dict, str]]:
    """(position, text) of the documents from `position` on, epoch after epoch, for ever.

    position: {"epoch", "shard", "row"}. Of `world_size` ranks each gets every world_size-th
    document of a shard; each shard begins with the next rank, so that with small shards too all
    get some. Raises CourseError when a rank finds no document in a whole epoch.
    """
    shards = dataset.shards(split)
    epoch, number, start = position["epoch"], shards.index(position["shard"]), position["row"]
    found = number > 0 or start > 0  # an epoch begun elsewhere may have had its documents there
    while True:
        for row, text in read_parquet(dataset.path(split, number, stopped), start):
            if (row + number) % world_size == rank:
                found = True
                yield {"epoch": epoch, "shard": shards[number], "row": row}, text
        number, start = number + 1, 0
        if number == len(shards):
            if not found:
                raise CourseError(
                    f"the {split} split of {dataset.name} has no document for rank {rank} of "
                    f"{world_size}; give more text, or use fewer ranks"
                )
            epoch, number, found = epoch + 1, 0, False


DOCUMENTS_AT_ONCE = 128

CHARS_AT_ONCE = 2_000_000


def tokenized(
    documents: Iterator[tuple[dict, str]], tokenizer: Tokenizer, num_threads: int | None = None
) -> Iterator[tuple[dict, np.ndarray]]:
    """(position, ids) of each document, <|bos|> first; many are encoded at a time, on threads."""
    for group in _groups(documents):
        texts = [text for _, text in group]
        ids = tokenizer.encode_arrays(texts, bos=True, num_threads=num_threads)
        yield from zip((position for position, _ in group), ids, strict=True)


def _groups(documents: Iterator[tuple[dict, str]]) -> Iterator[list[tuple[dict, str]]]:
    """The documents in lists of 128, or of fewer when they are long."""
    group, chars = [], 0
    for document in documents:
        group.append(document)
        chars += len(document[1])
        if len(group) == DOCUMENTS_AT_ONCE or chars >= CHARS_AT_ONCE:
            yield group
            group, chars = [], 0
    if group:
        yield group


def at_least_a_row(
    documents: Iterator[tuple[dict, np.ndarray]], sequence_len: int, from_the_start: bool
) -> Iterator[tuple[dict, np.ndarray]]:
    """The same documents.

    Raises CourseError when a whole epoch has too few tokens for a row and its last target.
    from_the_start: whether the first epoch is a whole one.
    """
    epoch, tokens, whole = None, 0, from_the_start
    for position, ids in documents:
        if epoch not in (None, position["epoch"]):
            if whole and tokens <= sequence_len:
                raise CourseError(
                    f"the text has {tokens:,} tokens, fewer than a row of "
                    f"sequence_len={sequence_len} and its last target; give more text, or a "
                    "smaller sequence_len"
                )
            tokens, whole = 0, True
        epoch, tokens = position["epoch"], tokens + len(ids)
        yield position, ids


def cut_batches(
    documents: Iterator[tuple[dict, np.ndarray]], batch_size: int, sequence_len: int, skip: int = 0
) -> Generator[tuple[np.ndarray, np.ndarray, dict]]:
    """(inputs, targets, position of the next token) of one batch after another.

    inputs, targets: (B, T) int32, cut from the documents end to end; the targets are the inputs
    one token later, across the ends of rows and batches. skip: tokens of the first document that
    earlier batches had.
    """
    size = batch_size * sequence_len
    waiting, have = deque(), -skip
    for document in documents:
        if not waiting and skip > len(document[1]):
            raise CourseError(
                f"the state of the data begins at token {skip} of a document that has "
                f"{len(document[1])}; start without a state"
            )
        waiting.append(document)
        have += len(document[1])
        while have > size:
            flat = _first(waiting, skip, size + 1)
            inputs = flat[:-1].reshape(batch_size, sequence_len)
            targets = flat[1:].reshape(batch_size, sequence_len)
            skip, have = skip + size, have - size
            while skip >= len(waiting[0][1]):
                skip -= len(waiting.popleft()[1])
            yield inputs, targets, {**waiting[0][0], "token": skip}


def _first(documents: deque, skip: int, count: int) -> np.ndarray:
    """The first `count` ids after the first `skip`."""
    parts = []
    for _, ids in documents:
        parts.append(ids[skip : skip + count])
        skip, count = 0, count - len(parts[-1])
        if count == 0:
            break
    return np.concatenate(parts)


def checked_place(
    state: dict | None, origin: dict, shards: list[str], counts: tuple[str, ...] = ("epoch", "row", "token")
) -> dict:
    """Where a saved state begins, or the beginning; CourseError when it is not of `origin`.

    origin: "rows" among its keys, unless they are cut from the stream. counts: whole numbers of the state.
    """
    if state is None:
        return {"epoch": 0, "shard": shards[0], **dict.fromkeys(counts, 0)}
    if not isinstance(state, dict):
        raise CourseError(f"the state of the data is {state!r}, expected a dict: a loader's state")
    state = {"rows": "stream", **state}
    for key, value in {"rows": "stream", **origin}.items():
        if state.get(key) != value:
            raise CourseError(
                f"the state of the data has {key}={state.get(key)!r}, but now it is {value!r}; "
                "go on with the same, or start without a state"
            )
    place = {key: state.get(key) for key in ("epoch", "shard", *counts)}
    if place["shard"] not in shards:
        raise CourseError(f"the state of the data begins in shard {place['shard']}, which is not here; fetch it again")
    for key in counts:
        value = place[key]
        if type(value) is not int or value < 0:
            raise CourseError(f"the state of the data has {key}={value!r}, expected 0 or more; start without a state")
    return place


AHEAD = 8  # batches that wait ready


class TokenLoader:
    """Batches (inputs, targets), each (B, T) int32, for ever; a thread makes them ahead of need.

    `state` is where the next batch begins, a small dict for JSON: TokenLoader(…, state=state) goes
    on there exactly, with any batch size. Use it in a `with` block, or call `close`, and its
    thread ends. num_threads: of the encoder, by default one for each core. Raises CourseError for
    sizes below 1, a rank outside 0 … world_size - 1, or a state of something else.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Tokenizer,
        split: str,
        batch_size: int,
        sequence_len: int,
        rank: int = 0,
        world_size: int = 1,
        state: dict | None = None,
        num_threads: int | None = None,
    ):
        if batch_size < 1 or sequence_len < 1 or not 0 <= rank < world_size:
            raise CourseError(
                f"batch_size={batch_size}, sequence_len={sequence_len}, rank={rank}, "
                f"world_size={world_size}: expected sizes of 1 or more, and a rank from 0 to "
                "world_size - 1"
            )
        origin = {
            "dataset": dataset.fingerprint,
            "split": split,
            "tokenizer": tokenizer.fingerprint,
            "rank": rank,
            "world_size": world_size,
        }
        self.state: dict = {**origin, **self._place(state, origin, dataset.shards(split))}
        self._stop = threading.Event()
        weakref.finalize(self, self._stop.set)  # dropped unclosed: end a wait for a shard as well
        documents = read_from(dataset, split, self.state, rank, world_size, self._stop.is_set)
        documents = tokenized(documents, tokenizer, num_threads)
        documents = at_least_a_row(documents, sequence_len, from_the_start=state is None)
        self._batches = self._cut(documents, batch_size, sequence_len)
        # one worker: only one thread may run a generator at a time, and batches keep their order
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="TokenLoader")
        self._ahead = deque(self._pool.submit(self._batches.__next__) for _ in range(AHEAD))

    def _place(self, state: dict | None, origin: dict, shards: list[str]) -> dict:
        """What `state` adds to its origin: where to begin."""
        return checked_place(state, origin, shards)

    def _cut(
        self, documents: Iterator[tuple[dict, np.ndarray]], batch_size: int, sequence_len: int
    ) -> Generator[tuple[np.ndarray, np.ndarray, dict]]:
        """(inputs, targets, what is new in `state`) for ever. No reference to self in it: it would outlive it."""
        return cut_batches(documents, batch_size, sequence_len, skip=self.state["token"])

    def __iter__(self) -> Iterator[tuple[mx.array, mx.array]]:
        return self

    def __next__(self) -> tuple[mx.array, mx.array]:
        if self._stop.is_set():
            name = type(self).__name__
            raise CourseError(f"this loader is closed; make a new one with {name}(…, state=loader.state)")
        inputs, targets, place = self._ahead[0].result()  # an error stays: it comes again each time
        self._ahead.popleft()
        self._ahead.append(self._pool.submit(self._batches.__next__))
        self.state = {**self.state, **place}
        return mx.array(inputs), mx.array(targets)

    def close(self) -> None:
        """End the thread and close its file; what waits ready is dropped, `state` stays."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._batches.close()

    def __enter__(self) -> "TokenLoader":
        return self

    def __exit__(self, *error) -> None:
        self.close()

"""Batches of ids for training, in rows that each begin with a document: a sibling of `dataloader`.

Written by hand; chapter 21 uses it.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import count, groupby, islice
from textwrap import shorten

import numpy as np

from course_lib.data.best_fit import best_fit_batches
from course_lib.data.dataloader import DOCUMENTS_AT_ONCE, TokenLoader, checked_place, tokenized
from course_lib.data.dataset import Dataset
from course_lib.data.documents import read_parquet
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError

COUNTS = ("used", "thrown_away")  # tokens


def runs(positions: Iterable[dict]) -> list[list]:
    """Positions, for JSON and in their order: [epoch, shard, [row, …]] of those that follow one another in a shard."""
    by_shard = groupby(positions, key=lambda at: (at["epoch"], at["shard"]))
    return [[*place, [at["row"] for at in group]] for place, group in by_shard]


def read_again(
    dataset: Dataset, split: str, waiting: list[list], stopped: Callable[[], bool]
) -> Iterator[tuple[dict, str]]:
    """(position, text) of the documents in these `runs`; no other shard is opened."""
    for epoch, shard, rows in waiting:
        wanted, number = frozenset(rows), dataset.shards(split).index(shard)
        for row, text in read_parquet(dataset.path(split, number, stopped), rows[0]):
            if row in wanted:
                yield {"epoch": epoch, "shard": shard, "row": row}, text
            if row >= rows[-1]:
                break


def packed(
    documents: Iterator[tuple[dict, np.ndarray]],
    again: Iterable[tuple[dict, np.ndarray]],
    batch_size: int,
    sequence_len: int,
    buffer_size: int,
    state: dict,
) -> Generator[tuple[np.ndarray, np.ndarray, dict]]:
    """(inputs, targets, what is new in the state) of one batch after another, for ever.

    documents: from where reading went on at `state`; 128 of them are a list to refill from. again: those that waited.
    """
    numbers, positions = count(), {}
    place = {key: state[key] for key in ("epoch", "shard", "row")}

    def refills() -> Iterator[list[np.ndarray]]:
        nonlocal place
        group = list(again)
        while True:
            positions.update((next(numbers), at) for at, _ in group)
            yield [ids for _, ids in group]
            group = list(islice(documents, DOCUMENTS_AT_ONCE))
            place = {**group[-1][0], "row": group[-1][0]["row"] + 1}

    waiting = sum(len(rows) for _, _, rows in state["waiting"])
    begun = {"documents": waiting, "waiting": list(range(waiting)), **{key: state[key] for key in COUNTS}}
    batches = best_fit_batches(refills(), batch_size, sequence_len, buffer_size, begun)
    for inputs, targets in batches:
        now = batches.state
        positions = {number: positions[number] for number in now["waiting"]}
        counts = {key: now[key] for key in COUNTS}
        yield inputs, targets, {**place, **counts, "waiting": runs(positions.values())}


class BestFitLoader(TokenLoader):
    """As a TokenLoader, but each row begins with a document, and what fits into no row is thrown away.

    `state` names the documents that wait, which are read again to go on exactly, and counts the tokens that were used
    and thrown away. buffer_size: documents that wait, at least. Raises CourseError as a TokenLoader does.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Tokenizer,
        split: str,
        batch_size: int,
        sequence_len: int,
        state: dict | None = None,
        num_threads: int | None = None,
        buffer_size: int = 1000,
    ):
        self._read_again = partial(read_again, dataset, split)
        self._tokenized = partial(tokenized, tokenizer=tokenizer, num_threads=num_threads)
        self._buffer_size = buffer_size
        super().__init__(dataset, tokenizer, split, batch_size, sequence_len, state=state, num_threads=num_threads)

    def _place(self, state: dict | None, origin: dict, shards: list[str]) -> dict:
        origin = {**origin, "rows": "best-fit"}
        place = checked_place(state, origin, shards, ("epoch", "row", *COUNTS))
        waiting = [] if state is None else state.get("waiting")
        if not isinstance(waiting, list) or not all(_is_run(run, shards) for run in waiting):
            raise CourseError(
                f"the state of the data names documents that wait as {shorten(repr(waiting), 100)}, expected "
                "[epoch, shard, [row, …]] of shards that are here; fetch them again, or start without a state"
            )
        return {**place, "rows": "best-fit", "waiting": waiting}

    def _cut(
        self, documents: Iterator[tuple[dict, np.ndarray]], batch_size: int, sequence_len: int
    ) -> Generator[tuple[np.ndarray, np.ndarray, dict]]:
        again = self._tokenized(self._read_again(self.state["waiting"], self._stop.is_set))
        return packed(documents, again, batch_size, sequence_len, self._buffer_size, self.state)


def _is_run(run: object, shards: list[str]) -> bool:
    """Whether it is [epoch, shard, [row, …]], of a shard that is here."""
    if not (isinstance(run, list) and len(run) == 3 and isinstance(run[2], list) and run[2]):
        return False
    return run[1] in shards and all(type(number) is int and number >= 0 for number in (run[0], *run[2]))

"""Rows that each begin with a document: best fit, as in nanochat (July 2026), exact to resume.

Exported from notebooks/21_nanochat_2026.ipynb; edit it there.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from course_lib.host.errors import CourseError

Refills = Iterable[Sequence]  # lists of documents, each a sequence of ids


class Waiting:
    """Documents that wait for a place in a row, by number; numbers count them as they come."""

    def __init__(self):
        self.documents: dict[int, Sequence[int]] = {}
        self._by_length: list[tuple[int, int]] = []  # (length, -number): of equals the first last

    def add(self, number: int, ids: Sequence[int]) -> None:
        self.documents[number] = ids
        insort(self._by_length, (len(ids), -number))

    def pick(self, room: int) -> Sequence[int]:
        """Take out the longest of at most `room` ids, else the shortest; of equals the first."""
        length = max(room, self._by_length[0][0])
        _, number = self._by_length.pop(bisect_right(self._by_length, (length, 0)) - 1)
        return self.documents.pop(-number)


class BestFit(Iterator[tuple[np.ndarray, np.ndarray]]):
    """What `best_fit_batches` returns. shape: (B, T + 1)."""

    def __init__(self, refills: Refills, shape: tuple[int, int], buffer_size: int):
        self._refills, self._shape, self._buffer_size = iter(refills), shape, buffer_size
        self._waiting, self._counts = Waiting(), {"documents": 0, "used": 0, "thrown_away": 0}

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        rows = np.empty(self._shape, np.int32)
        for row in rows:
            while len(row):
                while len(self._waiting.documents) < self._buffer_size and self.read():
                    pass
                if not self._waiting.documents:
                    raise StopIteration
                ids = self._waiting.pick(len(row))
                kept = min(len(ids), len(row))
                row[:kept], row = ids[:kept], row[kept:]
                self._counts["used"] += kept
                self._counts["thrown_away"] += len(ids) - kept
        return rows[:, :-1], rows[:, 1:]

    def read(self, wanted: frozenset[int] | None = None) -> bool:
        """Let the next list of documents wait, or the wanted ones of it; False when there is none."""
        documents = next(self._refills, None)
        for number, ids in enumerate(documents or (), self._counts["documents"]):
            if wanted is None or number in wanted:
                self._waiting.add(number, ids)
        self._counts["documents"] += len(documents or ())
        return documents is not None

    @property
    def state(self) -> dict:
        """What the next batch depends on, for JSON: counts, and the numbers of those that wait."""
        return {**self._counts, "waiting": list(self._waiting.documents)}

    def go_on(self, state: dict) -> None:
        """Read again, from the beginning, what had been read by `state`; keep what waited then."""
        wanted = frozenset(state["waiting"])
        while self._counts["documents"] < state["documents"] and self.read(wanted):
            pass
        self._counts |= {name: state[name] for name in ("used", "thrown_away")}
        if self.state != state:
            raise CourseError("the state is of other documents; give the same from the start, or none")


def best_fit_batches(
    refills: Refills,
    batch_size: int,
    sequence_len: int,
    buffer_size: int = 1000,
    state: dict | None = None,
) -> BestFit:
    """Batches (inputs, targets), each (B, T) int32, of rows of T + 1 ids, one id apart.

    refills: lists of documents, <|bos|> first; read before each pick until `buffer_size` documents
    wait. When none fits, the shortest is cropped, its rest thrown away. What waits after the last
    list still fills whole batches. state: go on after it, with the same lists from the beginning.
    Raises CourseError for other lists, and for sizes below 1.
    """
    if min(batch_size, sequence_len, buffer_size) < 1:
        raise CourseError(f"{batch_size=}, {sequence_len=}, {buffer_size=}: expected 1 or more")
    batches = BestFit(refills, (batch_size, sequence_len + 1), buffer_size)
    if state is not None:
        batches.go_on(state)
    return batches

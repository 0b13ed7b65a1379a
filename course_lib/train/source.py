"""What a run learns from, as the loop sees it: documents in pretraining, conversations in fine-tuning.

Written by hand; chapter 10 uses it.
"""

from collections.abc import Iterator
from typing import Protocol

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.model.gpt import GPT


class Batches(Protocol):
    """Pairs (inputs, targets), each (B, T), for ever; `state`: where the next begins, for JSON."""

    state: dict

    def __iter__(self) -> Iterator[tuple[mx.array, mx.array]]: ...
    def __next__(self) -> tuple[mx.array, mx.array]: ...
    def __enter__(self) -> "Batches": ...
    def __exit__(self, *error) -> None: ...


class Source(Protocol):
    """What a run learns from: documents or conversations. fingerprint: by which they are known."""

    tokenizer: Tokenizer
    fingerprint: str

    def batches(self, split: str, state: dict | None = None) -> Batches:
        """Batches of "train" or "val", from a place or from the beginning."""
        ...

    def place(self, state: dict) -> str:
        """In words, where in the data a `state` is."""
        ...

    def preview(self, model: GPT) -> list[tuple[str, str]]:
        """A few prompts, and what the model makes of them now."""
        ...

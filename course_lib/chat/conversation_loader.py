"""Batches of conversations for a training run: packed rows, and a place to go on from.

Written by hand; chapter 13 builds the rows (`packing`) and compares a batch.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import mlx.core as mx

from course_lib.chat.packing import BUFFER, collate, pack
from course_lib.chat.sources import Conversations
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError


class ConversationLoader(AbstractContextManager, Iterator):
    """Batches (inputs, targets) of conversations, each (B, T) int32, for ever.

    `state` is where the next batch begins: {"next": number of the conversation to come, "waiting": numbers of those
    that wait for a place}. With it a loader goes on there exactly; without "waiting", as runs of earlier versions have
    it, none waits. buffer: how many wait; 1 packs in order. A batch in which nothing is trained is skipped. Raises
    CourseError for sizes below 1, and when a thousand batches have nothing to train.
    """

    def __init__(
        self,
        conversations: Conversations,
        tokenizer: Tokenizer,
        batch_size: int,
        sequence_len: int,
        state: dict | None = None,
        buffer: int = BUFFER,
    ):
        if min(batch_size, sequence_len, buffer) < 1:
            raise CourseError(
                f"batch_size={batch_size}, sequence_len={sequence_len}, buffer={buffer}, expected 1 or more"
            )
        self.state: dict = {"next": 0, "waiting": []} | (state or {})
        self._shape, self._pad = (batch_size, sequence_len), tokenizer.special("<|assistant_end|>")
        self._rows = pack(conversations, tokenizer, sequence_len, self.state, buffer)

    @property
    def used(self) -> int:
        """How many conversations earlier batches have taken since number 0."""
        return self.state["next"] - len(self.state["waiting"])

    def __next__(self) -> tuple[mx.array, mx.array]:
        B, T = self._shape
        for _ in range(1000):
            rows, states = zip(*(next(self._rows) for _ in range(B)), strict=True)
            self.state = states[-1]
            inputs, targets = collate(list(rows), T, self._pad)
            if (targets >= 0).any():
                return mx.array(inputs), mx.array(targets)
        raise CourseError(
            f"1,000 batches of {B} rows of {T} tokens have nothing to train, as questions fill the "
            "rows; give a larger sequence_len, or other conversations"
        )

    def __exit__(self, *error: object) -> None:
        pass

"""Batches for supervised fine-tuning: conversations packed into rows, and what is trained in them.

Source: nanochat, which gives each conversation a row of its own.

Exported from notebooks/13_conversations.ipynb; edit it there.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import mlx.core as mx
import numpy as np

from course_lib.chat.conversation import render_conversation
from course_lib.chat.sources import Conversations
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError

Rendered = tuple[list[int], list[int]]  # ids and mask

# ---- 3. Batches of conversations


def collate(rows: list[Rendered], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets) of rows of ids and masks: (B, length) int32 each.

    Targets are the inputs one token later, and -1 where that token is not to be trained. Rows are
    cut after length + 1 tokens, and filled up with `pad`, which is not trained.
    """
    inputs = np.full((len(rows), length), pad, np.int32)
    targets = np.full((len(rows), length), -1, np.int32)
    for n, (ids, mask) in enumerate(rows):
        ids, trained = np.array(ids[: length + 1]), np.array(mask[: length + 1]) == 1
        inputs[n, : len(ids) - 1] = ids[:-1]
        targets[n, : len(ids) - 1] = np.where(trained, ids, -1)[1:]
    return inputs, targets


def pack(
    conversations: Conversations, tokenizer: Tokenizer, length: int, first: int = 0
) -> Iterator[tuple[Rendered, int]]:
    """(row, number of the next conversation) for ever: as many whole conversations as fit a row.

    A row has at most length + 1 tokens, and so has a conversation: what is longer is cut.
    """
    ids, mask = [], []
    while True:
        more = render_conversation(tokenizer, conversations(first), length + 1)
        if ids and len(ids) + len(more[0]) > length + 1:
            yield (ids, mask), first
            ids, mask = [], []
        ids, mask, first = ids + more[0], mask + more[1], first + 1


class ConversationLoader(AbstractContextManager, Iterator):
    """Batches (inputs, targets) of conversations, each (B, T) int32, for ever.

    `state` is where the next batch begins, {"next": number of a conversation}: with it a loader
    goes on there exactly. A batch in which nothing is trained is skipped. Raises CourseError for
    sizes below 1, and when a thousand batches have nothing to train.
    """

    def __init__(
        self,
        conversations: Conversations,
        tokenizer: Tokenizer,
        batch_size: int,
        sequence_len: int,
        state: dict | None = None,
    ):
        if batch_size < 1 or sequence_len < 1:
            raise CourseError(f"batch_size={batch_size}, sequence_len={sequence_len}, expected 1 or more")
        self.state = {"next": (state or {}).get("next", 0)}
        self._shape, self._pad = (batch_size, sequence_len), tokenizer.special("<|assistant_end|>")
        self._rows = pack(conversations, tokenizer, sequence_len, self.state["next"])

    def __next__(self) -> tuple[mx.array, mx.array]:
        B, T = self._shape
        for _ in range(1000):
            rows, places = zip(*(next(self._rows) for _ in range(B)), strict=True)
            self.state = {"next": places[-1]}
            inputs, targets = collate(list(rows), T, self._pad)
            if (targets >= 0).any():
                return mx.array(inputs), mx.array(targets)
        raise CourseError(
            f"1,000 batches of {B} rows of {T} tokens have nothing to train, as questions fill the "
            "rows; give a larger sequence_len, or other conversations"
        )

    def __exit__(self, *error: object) -> None:
        pass

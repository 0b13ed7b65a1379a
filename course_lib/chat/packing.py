"""Rows of conversations for fine-tuning: packed by best fit, and what is trained in them.

Source: nanochat (July 2026), which packs in this way.

Exported from notebooks/13_conversations.ipynb; edit it there.
"""

from collections.abc import Iterator

import numpy as np

from course_lib.chat.rendering import render_conversation
from course_lib.chat.sources import Conversations
from course_lib.data.tokenizer import Tokenizer

# ---- 3. Targets


Row = tuple[list[int], list[int]]  # ids and mask


def collate(rows: list[Row], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
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


# ---- 4. Packing


BUFFER = 100  # conversations that wait, as in nanochat (July 2026)


def pack(
    conversations: Conversations,
    tokenizer: Tokenizer,
    length: int,
    state: dict | None = None,
    buffer: int = BUFFER,
) -> Iterator[tuple[Row, dict]]:
    """(row, state after it) for ever: whole conversations, each time the longest that still fits.

    A row has at most length + 1 tokens, and so has a conversation: what is longer is cut. state:
    the number of the conversation to come "next", and those "waiting". Rows go on from it exactly.
    """
    state = {"next": 0, "waiting": []} | (state or {})
    following = state["next"]

    def rendered(number: int) -> Row:
        return render_conversation(tokenizer, conversations(number), length + 1)

    waiting = {number: rendered(number) for number in state["waiting"]}
    while True:
        ids, mask = [], []
        while True:
            while len(waiting) < buffer:
                waiting[following] = rendered(following)
                following += 1
            fitting = [n for n in waiting if len(ids) + len(waiting[n][0]) <= length + 1]
            if not fitting:
                break
            more = waiting.pop(max(fitting, key=lambda n: len(waiting[n][0])))
            ids, mask = ids + more[0], mask + more[1]
        yield (ids, mask), {"next": following, "waiting": list(waiting)}

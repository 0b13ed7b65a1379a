"""Losses of chosen tokens: sequences of any lengths in one batch, a prefix they share read once.

Exported from notebooks/11_evaluation.ipynb; edit it there.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from course_lib.model.gpt import GPT

# ---- 3. Questions with an answer


@dataclass(frozen=True)
class ScoredSequence:
    """Ids of a prompt with its continuation; those from `start` on are scored."""

    ids: list[int]
    start: int


def common_length(all_ids: list[list[int]]) -> int:
    """How many first ids all lists share."""
    for n, column in enumerate(zip(*all_ids)):  # noqa: B905
        if len(set(column)) > 1:
            return n
    return min(map(len, all_ids))


# ---- 4. The score


class PrefixCache:
    """What one block keeps of a prefix, for all sequences that go on from it."""

    def __init__(self):
        self.offset, self._prefix = 0, None

    def update_and_fetch(self, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        """First call: keep the prefix (1, H, P, D). Later: put it before k and v (B, H, T, D)."""
        if self._prefix is None:
            self.offset, self._prefix = k.shape[2], (k, v)
            return k, v
        return tuple(
            mx.concatenate([mx.broadcast_to(old, (new.shape[0], *old.shape[1:])), new], axis=2)
            for old, new in zip(self._prefix, (k, v), strict=True)
        )


def shared_prefix(sequences: list[ScoredSequence]) -> int:
    """How many first ids the model may read once: those that all share and that score nothing."""
    if len(sequences) < 2:
        return 0
    first_scored = min(each.start for each in sequences)  # predicted from the token before it
    return min(common_length([each.ids for each in sequences]), first_scored - 1)


@dataclass(frozen=True)
class Score:
    """What the model makes of the scored tokens of a sequence.

    loss: their mean, in nats; exact: whether each was the model's first choice.
    """

    loss: float
    exact: bool


def scored_logits(model: GPT, sequences: list[ScoredSequence], shared: int) -> mx.array:
    """Logits that predict the scored tokens of all sequences, one after the other: (N, vocab_size).

    The first `shared` ids are the same in all sequences, and read once.
    """
    caches = [PrefixCache() for _ in model.transformer.h] if shared else None
    if shared:
        model.transformer(mx.array([sequences[0].ids[:shared]]), caches)
    inputs = [each.ids[shared:-1] for each in sequences]
    width = max(map(len, inputs))
    padded = mx.array([ids + [0] * (width - len(ids)) for ids in inputs])  # (B, T)
    x = model.transformer(padded, caches)  # (B, T, n_embd)
    places = [slice(each.start - 1 - shared, len(each.ids) - 1 - shared) for each in sequences]
    picked = [x[n, place] for n, place in enumerate(places)]
    return model.head(mx.concatenate(picked))


def score_sequences(model: GPT, sequences: list[ScoredSequence], shared: int = 0) -> list[Score]:
    """Score sequences of any lengths in one batch; `shared` as in `scored_logits`."""
    targets = mx.array([token for each in sequences for token in each.ids[each.start :]])
    logits = scored_logits(model, sequences, shared)  # (N, V)
    losses, hits = nn.losses.cross_entropy(logits, targets), logits.argmax(axis=-1) == targets
    mx.eval(losses, hits)
    losses, hits = iter(losses.tolist()), iter(hits.tolist())
    scores = []
    for each in sequences:
        count = len(each.ids) - each.start
        loss = sum(next(losses) for _ in range(count)) / count
        scores.append(Score(loss, all([next(hits) for _ in range(count)])))
    return scores

"""Whole tasks, asked fast: options of any lengths in one batch, the beginning that they share read once.

Written by hand; chapters 11 and 14 use it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, islice, pairwise
from statistics import fmean
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.core import (
    TaskResult,
    common_length,
    fewshot_examples,
    is_right,
    render,
    task_result,
    tokenise,
)
from course_lib.evaluate.records import CoreTask, Score, ScoredSequence
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT
from course_lib.model.kinds import caches_of


class PrefixCache:
    """What one block keeps of a prefix, for all sequences that go on from it."""

    def __init__(self):
        self.offset, self._prefix = 0, None

    def update_and_fetch(self, *arrays: mx.array) -> tuple[mx.array, ...]:
        """First call: keep those of the prefix (1, H, P, D). Later: put them before the new ones (B, H, T, D)."""
        if self._prefix is None:
            self.offset, self._prefix = arrays[0].shape[2], arrays
            return arrays
        return tuple(
            mx.concatenate([mx.broadcast_to(old, (new.shape[0], *old.shape[1:])), new], axis=2)
            for old, new in zip(self._prefix, arrays, strict=True)
        )


def shared_prefix(sequences: list[ScoredSequence]) -> int:
    """How many first ids the model may read once: those that all share and that score nothing."""
    if len(sequences) < 2:
        return 0
    first_scored = min(each.start for each in sequences)  # predicted from the token before it
    return min(common_length([each.ids for each in sequences]), first_scored - 1)


def scored_logits(model: GPT, sequences: list[ScoredSequence], shared: int) -> mx.array:
    """Logits that predict the scored tokens of all sequences, one after the other: (N, vocab_size).

    The first `shared` ids are the same in all sequences, and read once.
    """
    caches = [PrefixCache() for _ in range(caches_of(model.config))] if shared else None
    if shared:
        model.hidden(mx.array([sequences[0].ids[:shared]]), caches)
    inputs = [each.ids[shared:-1] for each in sequences]
    width = max(map(len, inputs))
    padded = mx.array([ids + [0] * (width - len(ids)) for ids in inputs])  # (B, T)
    x = model.hidden(padded, caches)  # (B, T, n_embd)
    places = [slice(each.start - 1 - shared, len(each.ids) - 1 - shared) for each in sequences]
    picked = [x[n, place] for n, place in enumerate(places)]
    return model.head(mx.concatenate(picked))


def score_sequences(model: GPT, sequences: list[ScoredSequence], shared: int = 0) -> list[Score]:
    """Score sequences of any lengths in one batch; `shared` as in `scored_logits`."""
    targets = mx.array([token for each in sequences for token in each.ids[each.start :]])
    logits = scored_logits(model, sequences, shared)  # (N, V)
    losses, hits = nn.losses.cross_entropy(logits, targets), logits.argmax(axis=-1) == targets
    losses, hits = losses.tolist(), hits.tolist()
    ends = accumulate(len(each.ids) - each.start for each in sequences)
    return [Score(fmean(losses[start:end]), all(hits[start:end])) for start, end in pairwise([0, *ends])]


def group_items(
    asked: Iterable[tuple[int, list[ScoredSequence]]], batch_size: int
) -> Iterator[tuple[list[tuple[int, list[ScoredSequence]]], int]]:
    """Items, by their numbers, with their sequences as they are scored together, and how many first ids are read once.

    An item whose sequences share half of their tokens or more comes alone, others as about `batch_size` sequences.
    """
    waiting = []
    for number, sequences in asked:
        shared = shared_prefix(sequences)
        if 2 * shared >= max(len(each.ids) for each in sequences):
            yield [(number, sequences)], shared
            continue
        waiting.append((number, sequences))
        if sum(len(sequences) for _, sequences in waiting) >= batch_size:
            yield waiting, 0
            waiting = []
    if waiting:
        yield waiting, 0


def score_items(
    model: GPT,
    tokenizer: Tokenizer,
    task: CoreTask,
    data: list[dict],
    limit: int | None = None,
    batch_size: int = 32,
    on_items: Callable[[int, int], None] = lambda done, count: None,
) -> list[list[Score]]:
    """The scores of the options of each item of a task, or of the first `limit`; all others are examples still.

    batch_size: sequences at a time, about. on_items(done, count) is called now and then.
    Raises CourseError for no items, or another tokenizer than the model's.
    """
    count, V = len(data) if limit is None else min(limit, len(data)), tokenizer.vocab_size
    if count < 1 or batch_size < 1:
        raise CourseError(f"task {task.name}: {count} items, batch_size={batch_size}; expected 1 or more of each")
    if V != model.config.vocab_size:
        raise CourseError(
            f"the tokenizer has {V} ids, the model {model.config.vocab_size}; "
            "give the tokenizer that the model was trained with"
        )

    def sequences_of(index: int) -> list[ScoredSequence]:
        prompts = render(task, data[index], fewshot_examples(data, index, task.num_fewshot))
        return tokenise(task, tokenizer, prompts, model.config.sequence_len)

    found: dict[int, list[Score]] = {}
    for items, shared in group_items(((n, sequences_of(n)) for n in range(count)), batch_size):
        together = [each for _, sequences in items for each in sequences]
        scores = iter(score_sequences(model, together, shared))
        found |= {number: list(islice(scores, len(sequences))) for number, sequences in items}
        on_items(len(found), count)
    return [found[number] for number in range(count)]


def ask_items(model: GPT, tokenizer: Tokenizer, task: CoreTask, data: list[dict], **how: Any) -> list[bool]:
    """Whether the model gets each item right; what else there is to say, as in `score_items`."""
    scores = score_items(model, tokenizer, task, data, **how)
    return [is_right(task, item, of_options) for item, of_options in zip(data, scores, strict=False)]


def evaluate_task(model: GPT, tokenizer: Tokenizer, task: CoreTask, data: list[dict], **how: Any) -> TaskResult:
    """The result of a task; what else there is to say, as in `score_items`."""
    return task_result(task, data, ask_items(model, tokenizer, task, data, **how))

"""The checks of the exercises of chapter 12: right answers pass, and the message for a wrong one teaches."""

import mlx.core as mx
import pytest

from course_lib.classroom.exercises import engine as exercises
from course_lib.generate.cutoffs import keep_top_k, keep_top_p

pytestmark = pytest.mark.usefixtures("float32")


class Roomy:
    """A right answer; a wrong one changes a method."""

    def __init__(self, rows, heads, room, head_dim):
        self.offset = 0
        self.keys, self.values = (mx.zeros((rows, heads, room, head_dim)) for _ in range(2))

    def write(self, k, v, start, end):
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v

    def give(self, start, end):
        return self.keys[:, :, :end], self.values[:, :, :end]

    def update_and_fetch(self, k, v):
        start, self.offset = self.offset, self.offset + k.shape[2]
        self.write(k, v, start, self.offset)
        return self.give(start, self.offset)


class NothingBack(Roomy):
    def give(self, start, end):
        return None


class AllTheRoom(Roomy):
    def give(self, start, end):
        return self.keys, self.values


class OnlyNew(Roomy):
    def give(self, start, end):
        return self.keys[:, :, start:end], self.values[:, :, start:end]


class NoOffset(Roomy):
    def update_and_fetch(self, k, v):
        self.write(k, v, self.offset, self.offset + k.shape[2])
        return self.give(self.offset, self.offset + k.shape[2])


class AlwaysAtZero(Roomy):
    def write(self, k, v, start, end):
        super().write(k, v, 0, k.shape[2])


class OneByOne(Roomy):
    """The offset moves by one, however many positions come."""

    def update_and_fetch(self, k, v):
        self.write(k, v, self.offset, self.offset + k.shape[2])
        self.offset += 1
        return self.give(0, self.offset)


class AtTheEnd(Roomy):
    """Places from the end of the room."""

    def write(self, k, v, start, end):
        room = self.keys.shape[2]
        super().write(k, v, room - k.shape[2], room)


class ValuesAreKeys(Roomy):
    def write(self, k, v, start, end):
        super().write(k, k, start, end)


class Swapped(Roomy):
    def give(self, start, end):
        return self.values[:, :, :end], self.keys[:, :, :end]


class Joined(Roomy):
    def write(self, k, v, start, end):
        self.keys = mx.concatenate([self.keys[:, :, :start], k], axis=2)
        self.values = mx.concatenate([self.values[:, :, :start], v], axis=2)


class JoinedWithRoom(Roomy):
    def write(self, k, v, start, end):
        self.keys = mx.concatenate([self.keys[:, :, :start], k, self.keys[:, :, end:]], axis=2)
        self.values = mx.concatenate([self.values[:, :, :start], v, self.values[:, :, end:]], axis=2)


class NoRoom(Roomy):
    def __init__(self, rows, heads, room, head_dim):
        super().__init__(rows, heads, 0, head_dim)


class FirstRowOnly(Roomy):
    def write(self, k, v, start, end):
        self.keys[:1, :, start:end] = k[:1]
        self.values[:1, :, start:end] = v[:1]


def limited(logits, limit, fill=-mx.inf):
    return mx.where(logits >= limit, logits, fill)


def unsorted_limit(logits, k):
    return limited(logits, mx.topk(logits, k, axis=-1)[:, -1:])


def other_end_of_topk(logits, k):
    return limited(logits, mx.topk(logits, k, axis=-1)[:, :1])


def over_all_rows(logits, k):
    return limited(logits, mx.sort(logits.reshape(-1))[-k])


def in_place(logits, k):
    logits[:] = keep_top_k(logits, k)
    return logits


def k_smallest(logits, k):
    return mx.where(logits <= mx.sort(logits, axis=-1)[:, k - 1, None], logits, -mx.inf)


def top_p(logits, p, inclusive=False, probs=mx.softmax, order=-1, extra=False):
    """keep_top_p, with the mistakes one can make."""
    ordered = order * mx.sort(order * logits, axis=-1)
    each = probs(ordered, axis=-1)
    sums = mx.cumsum(each, axis=-1)
    before = sums if inclusive else sums - each * (2 if extra else 1)
    limit = mx.where(before < p, ordered, mx.inf).min(axis=-1, keepdims=True)
    return limited(logits, limit)


def min_p(logits, p):
    return limited(logits, logits.max(axis=-1, keepdims=True) + mx.log(mx.array(p)))


def steps(lengths, max_rows, groups=False, at_once=True, best=False, lazy=False):
    if best:
        return -(-sum(lengths) // max_rows) if lengths else 0
    if groups:
        return sum(max(lengths[n : n + max_rows]) for n in range(0, len(lengths), max_rows))
    waiting, rows, count = list(lengths), [], 0
    while waiting or rows:
        while waiting and len(rows) < max_rows:
            rows.append(waiting.pop(0) if at_once else waiting.pop())
        rows = [left - 1 for left in rows if left > (0 if lazy else 1)]
        count += 1
    return count


def eats_the_list(lengths, max_rows):
    result = steps(lengths, max_rows)
    lengths.clear()
    return result


@pytest.mark.parametrize(
    ("test", "answer"),
    [
        (exercises.roomy_layer, Roomy),
        (exercises.top_k, keep_top_k),
        (exercises.top_k, lambda z, k: limited(z, mx.topk(z, k, axis=-1).min(axis=-1, keepdims=True))),
        (exercises.top_p, keep_top_p),
        (exercises.top_p, top_p),
        (exercises.steps_needed, steps),
    ],
)
def test_right_answers_pass(test, answer):
    test(answer)


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.roomy_layer, NothingBack, "needs a return"),
        (exercises.roomy_layer, AllTheRoom, "the empty room comes back too"),
        (exercises.roomy_layer, OnlyNew, "only the new keys come back"),
        (exercises.roomy_layer, NoOffset, "the offset is 3, not 0"),
        (exercises.roomy_layer, AlwaysAtZero, "the newest keys are not at the end"),
        (exercises.roomy_layer, OneByOne, "the offset is 3, not 1"),
        (exercises.roomy_layer, AtTheEnd, "the newest keys are not at the end"),
        (exercises.roomy_layer, ValuesAreKeys, "the newest values are not at the end"),
        (exercises.roomy_layer, Swapped, "the newest keys are not at the end"),
        (exercises.roomy_layer, Joined, "join nothing"),
        (exercises.roomy_layer, JoinedWithRoom, "makes a copy of the whole array"),
        (exercises.roomy_layer, NoRoom, "must have room from the start"),
        (exercises.roomy_layer, FirstRowOnly, "the newest keys are not at the end"),
        (exercises.top_k, lambda z, k: None, "needs a return"),
        (exercises.top_k, unsorted_limit, "mx.topk gives its k in any order"),
        (exercises.top_k, over_all_rows, "of the rows' logits stay, expected [4, 4, 4, 4]"),
        (exercises.top_k, lambda z, k: limited(z, mx.sort(z, axis=-1)[:, -k, None], 0.0), "must be -mx.inf"),
        (exercises.top_k, lambda z, k: mx.topk(z, k, axis=-1), "of the same shape"),
        (exercises.top_k, lambda z, k: -mx.sort(-keep_top_k(z, k), axis=-1), "or other places"),
        (exercises.top_k, lambda z, k: limited(z, mx.sort(z, axis=-1)[:, -k - 1, None]), "expected [4, 4, 4, 4]"),
        (exercises.top_k, in_place, "make a new one"),
        (exercises.top_k, k_smallest, "does not keep its largest"),
        (exercises.top_p, lambda z, p: None, "needs a return"),
        (exercises.top_p, lambda z, p: top_p(z, p, inclusive=True), "the one that gets there stays, too"),
        (exercises.top_p, lambda z, p: top_p(z, p, extra=True), "three stay at p=0.6"),
        (exercises.top_p, min_p, "the one that gets there stays, too"),
        (exercises.top_p, lambda z, p: top_p(z, p, order=1), "stay"),
        (exercises.top_p, lambda z, p: top_p(z, p, probs=lambda a, axis: mx.exp(a)), "Add up probabilities"),
        (exercises.top_p, lambda z, p: -mx.sort(-keep_top_p(z, p), axis=-1), "or other places"),
        (exercises.top_p, lambda z, p: mx.where(keep_top_p(z, p) > -mx.inf, z, 0.0), "must be -mx.inf"),
        (exercises.top_p, lambda z, p: mx.softmax(keep_top_p(z, p), axis=-1), "must be -mx.inf"),
        (exercises.steps_needed, lambda *_: None, "needs a return"),
        (exercises.steps_needed, lambda lengths, rows: steps(lengths, rows, groups=True), "groups that wait"),
        (exercises.steps_needed, lambda lengths, rows: steps(lengths, rows, best=True), "the longest decides"),
        (exercises.steps_needed, lambda lengths, rows: steps(lengths, rows, at_once=False), "in this order"),
        (exercises.steps_needed, lambda lengths, rows: steps(sorted(lengths), rows), "in this order"),
        (exercises.steps_needed, lambda lengths, rows: steps(lengths, rows, lazy=True), "3 + 1 + 2 steps"),
        (exercises.steps_needed, eats_the_list, "leave the list"),
    ],
)
def test_wrong_answers_are_told_why(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)

"""The checks of the exercises of chapter 13: right answers pass, and the message for a wrong one teaches."""

from itertools import groupby

import numpy as np
import pytest

from course_lib.classroom.exercises import conversations as exercises


def refused(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)


# ---- 13.1: who wrote it?


def right_texts(tokenizer, ids, mask):
    runs = groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1])
    return [tokenizer.decode([token for token, _ in run]) for trained, run in runs if trained]


def texts_by_a_loop(tokenizer, ids, mask):
    found, before = [], 0
    for token, now in zip(ids, mask, strict=True):
        if now and not before:
            found.append([])
        if now:
            found[-1].append(token)
        before = now
    return (tokenizer.decode(run) for run in found)


def everything_trained(tokenizer, ids, mask):
    return [tokenizer.decode([token for token, now in zip(ids, mask, strict=True) if now])]


def one_each_answer(tokenizer, ids, mask):
    """Split at <|assistant_end|> and not at masks."""
    found, end = [[]], tokenizer.special("<|assistant_end|>")
    for token, now in zip(ids, mask, strict=True):
        if now:
            found[-1].append(token)
        if token == end:
            found.append([])
    return [tokenizer.decode(run) for run in found if run]


def without_the_last(tokenizer, ids, mask):
    """A run is noted when a 0 follows."""
    found, run = [], []
    for token, now in zip(ids, mask, strict=True):
        if now:
            run.append(token)
        elif run:
            found.append(tokenizer.decode(run))
            run = []
    return found


def without_the_end(tokenizer, ids, mask):
    return [text.removesuffix("<|assistant_end|>") for text in right_texts(tokenizer, ids, mask)]


def ids_only(tokenizer, ids, mask):
    runs = groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1])
    return [[token for token, _ in run] for trained, run in runs if trained]


def the_given(tokenizer, ids, mask):
    runs = groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1])
    return [tokenizer.decode([token for token, _ in run]) for trained, run in runs if not trained]


@pytest.mark.parametrize("answer", [right_texts, texts_by_a_loop])
def test_right_texts_are_accepted(answer):
    exercises.trained_texts(answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (everything_trained, "everything in one text"),
        (one_each_answer, "two texts, not one"),
        (without_the_last, "the last text is missing"),
        (without_the_end, "<|assistant_end|> has the mask 1"),
        (ids_only, "return texts"),
        (the_given, "the trained texts are"),
        (lambda *_: None, "needs a return"),
    ],
)
def test_texts_name_the_mistake(answer, said):
    refused(exercises.trained_texts, answer, said)


# ---- 13.2: the last answer only


def last_start(tokenizer, ids):
    start = tokenizer.special("<|assistant_start|>")
    return max((n for n, token in enumerate(ids) if token == start), default=len(ids))


def right_mask(tokenizer, ids, mask):
    last = last_start(tokenizer, ids)
    return [now if n > last else 0 for n, now in enumerate(mask)]


def last_run(tokenizer, ids, mask):
    """The last run of ones, which a tool's output has split off."""
    found, n = [0] * len(mask), len(mask) - 1
    while n >= 0 and not mask[n]:
        n -= 1
    while n >= 0 and mask[n]:
        found[n] = 1
        n -= 1
    return found


def all_after(tokenizer, ids, mask):
    last = last_start(tokenizer, ids)
    return [int(n > last) for n in range(len(ids))]


def in_place(tokenizer, ids, mask):
    last = last_start(tokenizer, ids)
    for n in range(min(last, len(mask))):
        mask[n] = 0
    return mask


def with_the_start(tokenizer, ids, mask):
    last = last_start(tokenizer, ids)
    return [int(now or n == last) if n >= last else 0 for n, now in enumerate(mask)]


def without_the_stop(tokenizer, ids, mask):
    end = tokenizer.special("<|assistant_end|>")
    return [now * (token != end) for now, token in zip(right_mask(tokenizer, ids, mask), ids, strict=True)]


def after_the_last_question(tokenizer, ids, mask):
    """From the last <|user_end|>, which a question without answer has too."""
    last = max(n for n, token in enumerate(ids) if token == tokenizer.special("<|user_end|>"))
    return [now if n > last else 0 for n, now in enumerate(mask)]


def fails_without_an_answer(tokenizer, ids, mask):
    last = last_start(tokenizer, ids)
    last = -1 if last == len(ids) else last
    found = [now if n > last else 0 for n, now in enumerate(mask)]
    return found if last >= 0 else [1] * len(ids)


@pytest.mark.parametrize("answer", [right_mask, lambda *given: np.array(right_mask(*given))])
def test_right_masks_are_accepted(answer):
    exercises.last_answer_mask(answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (last_run, "a tool's output does not split it"),
        (all_after, "output inside the last answer must stay 0"),
        (in_place, "leave the mask"),
        (with_the_start, "is never trained"),
        (without_the_stop, "<|assistant_end|> of the last answer is trained"),
        (after_the_last_question, "still the one before it"),
        (fails_without_an_answer, "without an answer"),
        (lambda tokenizer, ids, mask: list(mask), "before the last <|assistant_start|>"),
        (lambda tokenizer, ids, mask: right_mask(tokenizer, ids, mask)[1:], "numbers, not"),
    ],
)
def test_masks_name_the_mistake(answer, said):
    refused(exercises.last_answer_mask, answer, said)


# ---- 13.3: each conversation by itself


def right_view(ids, bos):
    numbers = np.cumsum(np.array(ids) == bos)
    return np.tril(numbers[:, None] == numbers[None, :])


def view_by_loops(ids, bos):
    seen, begins = [], 0
    for n, token in enumerate(ids):
        begins = n if token == bos else begins
        seen.append([begins <= s <= n for s in range(len(ids))])
    return seen


def bos_at_the_end(ids, bos):
    """A bos counted with the conversation before it."""
    numbers = np.cumsum(np.array(ids) == bos) - (np.array(ids) == bos)
    return np.tril(numbers[:, None] == numbers[None, :])


def without_bos(ids, bos):
    seen = right_view(ids, bos)
    seen[:, np.array(ids) == bos] = False
    return seen | np.eye(len(ids), dtype=bool)


def same_ids(ids, bos):
    """One number for each text, not for each conversation."""
    texts, seen = [], {}
    begun = []
    for token in ids:
        if token == bos:
            begun = []
            texts.append(begun)
        elif not texts:
            texts.append(begun)
        begun.append(token)
    numbers = []
    for text in texts:
        numbers += [seen.setdefault(tuple(text), len(seen))] * len(text)
    numbers = np.array(numbers)
    return np.tril(numbers[:, None] == numbers[None, :])


def only_whole(ids, bos):
    numbers = np.cumsum(np.array(ids) == bos)
    return np.tril((numbers[:, None] == numbers[None, :]) & (numbers > 0)[:, None])


@pytest.mark.parametrize("answer", [right_view, view_by_loops, lambda *given: right_view(*given).astype(int)])
def test_right_views_are_accepted(answer):
    exercises.own_conversation(answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda ids, bos: np.tril(np.ones((len(ids), len(ids)), bool)), "of the conversation before its own"),
        (lambda ids, bos: right_view(ids, bos) | right_view(ids, bos).T, "which is later"),
        (lambda ids, bos: right_view(ids, bos).T, "transpose"),
        (lambda ids, bos: ~right_view(ids, bos), "True means"),
        (lambda ids, bos: np.where(right_view(ids, bos), 0.0, -1e9), "not numbers to add"),
        (bos_at_the_end, "bos belongs to the conversation that it begins"),
        (without_bos, "does not see the bos of its own"),
        (lambda ids, bos: np.tril(right_view(ids, bos), -1), "each position sees itself"),
        (same_ids, "equal ids in two conversations"),
        (only_whole, "the rest of a conversation"),
        (lambda ids, bos: right_view(ids, bos)[:-1, :-1], "a row and a column for each"),
        (lambda ids, bos: None, "needs a return"),
    ],
)
def test_views_name_the_mistake(answer, said):
    refused(exercises.own_conversation, answer, said)

"""Batches of conversations: nothing is lost, only the assistant's words are trained, and a loader goes on anywhere."""

import json
import math
from itertools import islice, pairwise

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from course_lib.chat.conversation_loader import ConversationLoader
from course_lib.chat.lessons import practice
from course_lib.chat.packing import collate, pack
from course_lib.chat.rendering import render_conversation
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.trainer import Trainer
from course_lib.train.validation import validate

TOKENIZER = Tokenizer.train(["what is the sum of two and two? it is four. spell a word " * 5], 290, allow_smaller=True)
BOS, END = TOKENIZER.bos, TOKENIZER.special("<|assistant_end|>")


def talk(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def counted(number):
    """Conversations of all lengths, each with another text."""
    return talk(f"what is {number}?" + " two" * (number * 7 % 11), f"it is {number}" + " four" * (number * 5 % 9))


def naive(rows, length, pad):
    """What `collate` promises, token by token."""
    inputs, targets = [], []
    for ids, mask in rows:
        ids, mask = ids[: length + 1], mask[: length + 1]
        one, other = [], []
        for place in range(length):
            one.append(ids[place] if place + 1 < len(ids) else pad)
            other.append(ids[place + 1] if place + 1 < len(ids) and mask[place + 1] else -1)
        inputs.append(one)
        targets.append(other)
    return inputs, targets


# ---- a batch


def test_a_batch_by_hand():
    inputs, targets = collate([([1, 2, 3, 4], [0, 0, 1, 1]), ([5, 6], [0, 1]), ([7, 8, 9, 1, 2, 3], [1] * 6)], 4, 99)
    assert inputs.tolist() == [[1, 2, 3, 99], [5, 99, 99, 99], [7, 8, 9, 1]]
    assert targets.tolist() == [[-1, 3, 4, -1], [6, -1, -1, -1], [8, 9, 1, 2]]
    assert inputs.dtype == targets.dtype == np.int32 and inputs.shape == (3, 4)


ROWS = st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1)), min_size=1, max_size=12), max_size=5)


@given(ROWS, st.integers(1, 10), st.integers(0, 60))
def test_any_batch_is_the_naive_one(pairs, length, pad):
    rows = [([n for n, _ in row], [m for _, m in row]) for row in pairs]
    inputs, targets = collate(rows, length, pad)
    expected = naive(rows, length, pad)
    assert inputs.shape == targets.shape == (len(rows), length)
    assert (inputs.tolist(), targets.tolist()) == expected


# ---- rows of whole conversations


def naive_rows(conversations, length, first, buffer, count):
    """Best fit, written once more: (numbers of a row, those that wait) with the first of the longest that fit."""
    waiting, following, rows = [], first, []

    def size(number):
        return len(render_conversation(TOKENIZER, conversations(number), length + 1)[0])

    for _ in range(count):
        row = []
        while True:
            while len(waiting) < buffer:
                waiting.append(following)
                following += 1
            room = length + 1 - sum(map(size, row))
            longest = max((size(n) for n in waiting if size(n) <= room), default=0)
            if not longest:
                break
            chosen = next(n for n in waiting if size(n) == longest)
            waiting.remove(chosen)
            row.append(chosen)
        rows.append((row, list(waiting), following))
    return rows


@settings(max_examples=30)
@given(st.integers(1, 120), st.integers(0, 50), st.integers(1, 30))
def test_each_row_takes_the_longest_that_still_fits_and_cuts_none_that_fits(length, first, buffer):
    rows = list(islice(pack(counted, TOKENIZER, length, {"next": first}, buffer), 8))
    for ((ids, mask), state), (row, waiting, following) in zip(
        rows, naive_rows(counted, length, first, buffer, 8), strict=True
    ):
        conversations = [render_conversation(TOKENIZER, counted(n), length + 1) for n in row]
        assert ids == [n for each, _ in conversations for n in each]
        assert mask == [m for _, each in conversations for m in each]
        assert 0 < len(ids) <= length + 1 and state == {"next": following, "waiting": waiting}


@settings(max_examples=30)
@given(st.integers(1, 120), st.integers(0, 50), st.integers(1, 30), st.integers(1, 12))
def test_packing_loses_no_conversation_and_takes_none_twice(length, first, buffer, count):
    rows = list(islice(pack(counted, TOKENIZER, length, {"next": first}, buffer), count))
    state = rows[-1][1]
    taken = sorted(set(range(first, state["next"])) - set(state["waiting"]))
    assert len(state["waiting"]) == buffer and len(taken) + buffer == state["next"] - first
    expected = sorted(render_conversation(TOKENIZER, counted(n), length + 1)[0] for n in taken)
    found = []
    for (ids, _), _ in rows:
        starts = [place for place, token in enumerate(ids) if token == BOS] + [len(ids)]
        found += [ids[a:b] for a, b in pairwise(starts)]
    assert sorted(found) == expected


@settings(max_examples=30)
@given(st.integers(1, 120), st.integers(0, 50))
def test_with_a_buffer_of_one_conversations_come_in_their_order(length, first):
    rows = list(islice(pack(counted, TOKENIZER, length, {"next": first}, buffer=1), 12))
    place = first
    for (ids, mask), state in rows:
        (following,) = state["waiting"]
        assert state["next"] == following + 1
        conversations = [render_conversation(TOKENIZER, counted(n), length + 1) for n in range(place, following)]
        assert conversations, "every row has one or more"
        assert ids == [n for each, _ in conversations for n in each]
        assert mask == [m for _, each in conversations for m in each]
        assert len(ids) == len(mask) <= length + 1
        another = render_conversation(TOKENIZER, counted(following), length + 1)[0]
        assert len(ids) + len(another) > length + 1, "one more would not have fitted"
        place = following


def test_a_conversation_that_is_too_long_is_cut_and_has_its_row_alone():
    long = talk("what", "it is " + "four " * 100)
    whole = render_conversation(TOKENIZER, long)
    for buffer, place in ((1, 1), (5, 0)):  # in order, and the longest first
        rows = list(islice(pack(lambda n: long if n == 1 else talk("two", "two"), TOKENIZER, 40, None, buffer), 3))
        assert rows[place][0] == (whole[0][:41], whole[1][:41])
        assert rows[place][0][0].count(BOS) == 1 and rows[2][0][0].count(BOS) > 1


def test_a_row_that_is_filled_to_the_last_token_is_one():
    size = len(render_conversation(TOKENIZER, talk("two", "two"))[0])
    for length, count in ((3 * size - 1, 3), (3 * size, 3), (3 * size - 2, 2)):
        (ids, _), state = next(pack(lambda _: talk("two", "two"), TOKENIZER, length))
        assert state["next"] == count + 100 and len(ids) == count * size


def test_a_loader_trains_every_answer_of_an_epoch_once():
    with ConversationLoader(counted, TOKENIZER, 3, 100) as loader:
        batches = list(islice(loader, 20))
        numbers = set(range(loader.state["next"])) - set(loader.state["waiting"])
        assert loader.used == len(numbers) > 60
    trained = [n for _, targets in batches for n in np.array(targets).ravel().tolist() if n >= 0]
    expected = []
    for number in numbers:
        ids, mask = render_conversation(TOKENIZER, counted(number))
        assert len(ids) <= 101
        expected.append([n for n, m in zip(ids, mask, strict=True) if m])
    answers = "".join(map(chr, trained)).split(chr(END))[:-1]
    assert sorted(answers) == sorted("".join(map(chr, ids[:-1])) for ids in expected)
    for inputs, targets in batches:
        assert inputs.shape == targets.shape == (3, 100) and inputs.dtype == targets.dtype == mx.int32
        inputs, targets = np.array(inputs), np.array(targets)
        assert ((targets[:, :-1] == inputs[:, 1:]) | (targets[:, :-1] == -1)).all(), "the next token, where trained"
        assert (inputs[:, 0] == BOS).all(), "each row begins a conversation"
        assert BOS not in targets


def test_a_row_is_filled_up_with_what_is_not_trained():
    inputs, targets = next(ConversationLoader(lambda _: talk("two", "two"), TOKENIZER, 2, 20))
    ids, mask = render_conversation(TOKENIZER, talk("two", "two"))
    count = 21 // len(ids)
    used = count * len(ids) - 1
    assert used < 19
    assert np.array(inputs)[:, used:].tolist() == [[END] * (20 - used)] * 2
    assert (np.array(targets)[:, used:] == -1).all()
    assert (np.array(targets) >= 0).sum() == 2 * count * sum(mask)


# ---- a loader's place


def same(batch, other):
    return all(np.array_equal(np.array(a), np.array(b)) for a, b in zip(batch, other, strict=True))


@pytest.mark.parametrize("conversations, length", [(counted, 64), (practice, 130), (counted, 24)])
def test_a_loader_goes_on_exactly_at_every_batch(conversations, length):
    loader, batches, states = ConversationLoader(conversations, TOKENIZER, 2, length), [], []
    for _ in range(12):
        states.append(dict(loader.state))
        batches.append(next(loader))
    states.append(dict(loader.state))
    assert states[0] == {"next": 0, "waiting": []}
    assert [s["next"] for s in states] == sorted({s["next"] for s in states})
    assert all(json.loads(json.dumps(state)) == state for state in states)
    for place, state in enumerate(states[:-1]):
        again = ConversationLoader(conversations, TOKENIZER, 2, length, state)
        assert again.state == state
        for number in range(place, min(place + 3, 12)):
            assert same(next(again), batches[number])
            assert again.state == states[number + 1]
    assert len({str(batch[0].tolist()) for batch in batches}) == 12


def test_a_state_of_an_earlier_version_goes_on_with_the_next_conversation():
    old = ConversationLoader(counted, TOKENIZER, 2, 64, {"next": 7})
    assert old.used == 7 and same(next(old), next(ConversationLoader(lambda n: counted(n + 7), TOKENIZER, 2, 64)))


def test_best_fit_pads_less_than_rows_in_order():
    def padded(buffer):
        rows = list(islice(pack(practice, TOKENIZER, 256, buffer=buffer), 60))
        return 1 - sum(len(ids) for (ids, _), _ in rows) / (60 * 257)

    assert padded(100) < padded(1) / 3


def test_a_batch_in_which_nothing_is_trained_is_skipped_and_its_place_too():
    long = "what is " * 60  # the question alone fills a row

    def mostly(number):
        return talk(long, "four") if number % 7 else talk("two", f"it is {number}")

    loader = ConversationLoader(mostly, TOKENIZER, 2, 40, buffer=1)
    for first in (0, 7, 14, 21):
        before = dict(loader.state)
        inputs, targets = next(loader)
        assert (np.array(targets) >= 0).any()
        assert TOKENIZER.decode(n for n in np.array(targets).ravel().tolist() if n >= 0).startswith(f"it is {first}")
        again = ConversationLoader(mostly, TOKENIZER, 2, 40, before, buffer=1)
        assert same(next(again), (inputs, targets)) and again.state == loader.state


def test_a_loader_gives_up_with_a_sentence_where_nothing_is_ever_trained():
    asked = []

    def never(number):
        asked.append(number)
        assert len(asked) < 5000, "it should have given up"
        return talk("what is " * 20, "four")

    with pytest.raises(CourseError, match="1,000 batches of 2 rows of 8 tokens have nothing to train") as caught:
        next(ConversationLoader(never, TOKENIZER, 2, 8))
    assert "\n" not in str(caught.value) and "sequence_len" in str(caught.value)
    assert 2000 <= len(asked) <= 2102


@pytest.mark.parametrize("sizes", [(0, 8), (2, 0), (-1, 8), (2, -5)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(CourseError, match="expected 1 or more"):
        ConversationLoader(counted, TOKENIZER, *sizes)


def test_a_conversation_that_is_none_is_refused_where_it_comes():
    loader = ConversationLoader(lambda n: [] if n == 5 else talk("two", "two"), TOKENIZER, 1, 12)
    with pytest.raises(CourseError, match="a list of one message or more"):
        list(islice(loader, 10))


# ---- the loss


def small_model():
    model = GPT(GPTConfig(64, TOKENIZER.vocab_size, n_layer=1, n_head=2, n_kv_head=2, n_embd=32))
    mx.random.seed(3)
    weights = [(name, mx.random.normal(w.shape) * 0.1) for name, w in tree_flatten(model.parameters())]
    model.load_weights(weights)
    return model


def test_the_loss_of_a_packed_batch_is_the_mean_over_what_is_trained():
    model = small_model()
    inputs, targets = next(ConversationLoader(counted, TOKENIZER, 3, 64))
    logits = np.array(model(inputs).astype(mx.float32), np.float64)
    logits -= logits.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rows = list(islice(pack(counted, TOKENIZER, 64), 3))
    nats, size, words = [], 0, 0
    for row, ((ids, mask), _) in enumerate(rows):
        for place in range(1, len(ids)):
            if mask[place]:
                nats.append(-logs[row, place - 1, ids[place]])
                if ids[place] < len(TOKENIZER.mergeable_ranks):  # no special token
                    words += nats[-1]
                    size += len(TOKENIZER.token(ids[place]))
    assert model.loss(inputs, targets).item() == pytest.approx(np.mean(nats), rel=1e-5)
    bits = validate(model, [(inputs, targets)], TOKENIZER.token_bytes)
    assert bits == pytest.approx(words / (math.log(2) * size), rel=1e-5)


def test_what_fills_up_a_row_has_no_part_in_the_loss():
    model = small_model()
    inputs, targets = next(ConversationLoader(lambda _: talk("what is two", "four"), TOKENIZER, 1, 40))
    free = inputs.tolist()[0]
    used = max(n for n, t in enumerate(targets.tolist()[0]) if t >= 0)
    other = mx.array([free[: used + 1] + [7] * (40 - used - 1)])
    assert other.tolist() != inputs.tolist()
    assert model.loss(inputs, targets).item() == model.loss(other, targets).item()


def test_a_batch_without_a_trained_token_divides_by_nothing():
    model = small_model()
    inputs, targets = (mx.array(each) for each in collate([([1, 2, 3], [0, 0, 0])], 5, END))
    assert model.loss(inputs, targets).item() == 0
    result = Trainer(model, 4).step([(inputs, targets)])
    assert (result.loss, result.grad_norm) == (0, 0)
    assert all(mx.isfinite(weight).all().item() for _, weight in tree_flatten(model.parameters()))


def test_answers_are_learnt_and_questions_are_not():
    model = GPT(GPTConfig(64, TOKENIZER.vocab_size, n_layer=1, n_head=2, n_kv_head=2, n_embd=32))
    trainer = Trainer(model, 30)
    loader = ConversationLoader(lambda _: talk("what is the word", "it is four"), TOKENIZER, 4, 48)
    losses = [trainer.step([next(loader)]).loss for _ in range(30)]
    assert losses[-1] < 0.1 * losses[0]
    ids, mask = render_conversation(TOKENIZER, talk("what is the word", "it is four"))
    each = np.array(model.loss(mx.array([ids[:-1]]), mx.array([ids[1:]]), reduction="none"))[0]
    trained = np.array(mask[1:]) == 1
    assert each[trained].max() < 1 < each[~trained].mean()

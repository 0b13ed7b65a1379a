"""Batches give the same loss, gradients and training as names one at a time, only faster."""

import itertools

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy_microgpt as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom.exercises import batches as exercises
from course_lib.host.errors import CourseError
from course_lib.names.batching import batches, evaluate_batches, make_batch, masked_loss, train_batches
from course_lib.names.bigram import CharTokenizer, bigram_loss, bigram_probs, load_names, split_names
from course_lib.names.microgpt import MicroGPT, MicroGPTConfig, evaluate, example

NAMES, HELD_OUT = split_names(load_names())
TOKENIZER = CharTokenizer(load_names())
any_names = st.lists(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=15), min_size=1, max_size=9)


def random_model(seed=0):
    backend.seed_everything(seed)
    model = MicroGPT(MicroGPTConfig())
    model.apply(nn.init.normal(std=0.3))
    return model


@settings(max_examples=25, deadline=None)
@given(any_names)
def test_loss_and_gradients_of_a_batch_equal_the_float64_reference(names):
    model = random_model()
    weights = {name: np.array(array, dtype=np.float64) for name, array in tree_flatten(model.parameters())}
    results = [(len(ids), *reference.loss_and_grads(weights, ids, targets, 4)) for ids, targets in examples(names)]
    total = sum(length for length, _, _ in results)
    loss, gradients = nn.value_and_grad(model, masked_loss)(model, *make_batch(names, TOKENIZER, 8))
    assert loss.item() == pytest.approx(sum(length * one for length, one, _ in results) / total, rel=1e-5)
    for name, gradient in tree_flatten(gradients):
        expected = sum(length * one[name] for length, _, one in results) / total
        np.testing.assert_allclose(np.array(gradient), expected, rtol=5e-4, atol=2e-5, err_msg=name)


def examples(names):
    return [example(name, TOKENIZER, 8) for name in names]


@settings(max_examples=50, deadline=None)
@given(any_names)
def test_a_batch_holds_each_example_and_marks_the_rest(names):
    inputs, targets, mask = (array.tolist() for array in make_batch(names, TOKENIZER, 8))
    for row, (ids, next_ids) in enumerate(examples(names)):
        assert inputs[row][: len(ids)] == ids and targets[row][: len(ids)] == next_ids
        assert mask[row] == [1.0] * len(ids) + [0.0] * (8 - len(ids))
        filled = [TOKENIZER.bos] * (8 - len(ids))
        assert inputs[row][len(ids) :] == targets[row][len(ids) :] == filled


def test_the_padding_changes_neither_loss_nor_gradients():
    model = random_model()
    inputs, targets, mask = make_batch(["al", "emma"], TOKENIZER, 8)
    hidden = mask == 0
    other = mx.where(hidden, 5, inputs), mx.where(hidden, 7, targets), mask
    step = nn.value_and_grad(model, masked_loss)
    (loss, gradients), (other_loss, other_gradients) = step(model, inputs, targets, mask), step(model, *other)
    assert loss.item() == pytest.approx(other_loss.item(), abs=1e-6)
    for (name, a), (_, b) in zip(tree_flatten(gradients), tree_flatten(other_gradients), strict=True):
        assert mx.allclose(a, b, atol=1e-6), name


def test_a_batch_without_a_real_prediction_has_loss_zero_and_no_nan():
    model = random_model()
    inputs, targets, mask = make_batch(["al"], TOKENIZER, 8)
    loss, gradients = nn.value_and_grad(model, masked_loss)(model, inputs, targets, mask * 0)
    assert loss.item() == 0
    assert all(not mx.any(gradient) for _, gradient in tree_flatten(gradients))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 5))
def test_every_epoch_holds_every_name_once(number, batch_size, seed):
    names = [f"name{n}" for n in range(number)]
    stream = batches(names, batch_size, seed)
    taken = [name for _ in range(3 * number) for name in next(stream)]
    for epoch in range(3):
        assert sorted(taken[epoch * number : (epoch + 1) * number]) == sorted(names)
    again = batches(names, batch_size, seed)
    assert list(itertools.chain(*itertools.islice(again, 3 * number))) == taken


def test_epochs_come_in_different_orders():
    names = [f"name{n}" for n in range(50)]
    stream = batches(names, 50, seed=0)
    assert next(stream) != next(stream)


@pytest.mark.parametrize("compiled, learning_rate", [(False, 1e-2), (True, 1e-2), (False, 3e-3)])
def test_batches_of_one_train_as_single_names_do(compiled, learning_rate):
    names = ["emma", "al", "christopher", "mia"]
    backend.seed_everything(3)
    model = MicroGPT(MicroGPTConfig())
    weights = {name: np.array(array, dtype=np.float64) for name, array in tree_flatten(model.parameters())}
    stream = batches(names, 1, seed=5)
    order = [next(stream)[0] for _ in range(40)]
    flags = {"learning_rate": learning_rate, "seed": 5, "compiled": compiled}
    steps = []
    losses = train_batches(model, names, TOKENIZER, 40, 1, on_step=lambda *step: steps.append(step), **flags)
    expected = reference.train(weights, examples(order), 40, learning_rate, n_head=4)
    np.testing.assert_allclose(losses, expected, rtol=2e-3)
    assert steps == list(enumerate(losses, start=1))


def test_the_step_is_compiled_unless_told_otherwise(monkeypatch):
    compiled = []
    monkeypatch.setattr(mx, "compile", lambda step, **_: compiled.append(step) or step)
    for flags, expected in (({"compiled": False}, 0), ({}, 1)):
        train_batches(MicroGPT(MicroGPTConfig()), NAMES, TOKENIZER, num_steps=1, batch_size=2, **flags)
        assert len(compiled) == expected


def test_evaluating_in_batches_gives_the_same_number():
    model = random_model()
    names = HELD_OUT[:70]
    expected = evaluate(model, names, TOKENIZER)
    for batch_size in (1, 32, 512):
        assert evaluate_batches(model, names, TOKENIZER, batch_size) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_more_names_beat_the_bigram():
    backend.seed_everything(42)
    model = MicroGPT(MicroGPTConfig())
    train_batches(model, NAMES, TOKENIZER, num_steps=500)
    bigram = bigram_loss(bigram_probs(NAMES, TOKENIZER), HELD_OUT, TOKENIZER, max_len=8)
    assert evaluate_batches(model, HELD_OUT, TOKENIZER) < bigram - 0.05


@pytest.mark.parametrize("change", [{"docs": []}, {"num_steps": 0}, {"batch_size": 0}])
def test_training_on_nothing_is_refused(change):
    arguments = {"docs": NAMES, "tokenizer": TOKENIZER, "num_steps": 1, "batch_size": 4, **change}
    with pytest.raises(CourseError, match="give at least one of each"):
        train_batches(MicroGPT(MicroGPTConfig()), **arguments)


def right_mask(lengths, T):
    return mx.arange(T) < mx.array(lengths)[:, None]


def sorted_buckets(names, batch_size):
    ordered = sorted(names, key=len)
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def by_letter(losses, targets, mask, vocab_size, least=1):
    hits = (targets[..., None] == mx.arange(vocab_size)) * mask[..., None]  # (B, T, V)
    return (losses[..., None] * hits).sum((0, 1)) / mx.maximum(hits.sum((0, 1)), least)


def test_exercise_checks_accept_right_answers():
    exercises.mask_of(right_mask)
    exercises.buckets(sorted_buckets)
    exercises.loss_by_letter(by_letter)
    exercises.loss_by_letter(
        lambda losses, targets, mask, V: (
            mx.zeros(V).at[targets].add(losses * mask) / mx.maximum(mx.zeros(V).at[targets].add(mask), 1)
        )
    )


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.mask_of, lambda lengths, T: [[1.0] * n + [0.0] * (T - n) for n in lengths], "mx.array"),
        (exercises.mask_of, lambda lengths, T: mx.array([[t < n for t in range(T)] for n in lengths]), "Python loop"),
        (exercises.mask_of, lambda lengths, T: right_mask(lengths, T).T, "the names are the rows"),
        (exercises.mask_of, lambda lengths, T: ~right_mask(lengths, T), "marks the padding"),
        (exercises.mask_of, lambda lengths, T: mx.arange(T) <= mx.array(lengths)[:, None], "one 1 too many"),
        (exercises.mask_of, lambda lengths, T: mx.arange(T) < mx.array(lengths)[:, None] - 1, "one 1 too few"),
        (exercises.mask_of, lambda lengths, T: right_mask(lengths, max(lengths)), "mx.arange(T)"),
        (exercises.mask_of, lambda lengths, T: right_mask(lengths, T)[:, ::-1], "in front"),
        (exercises.mask_of, lambda lengths, T: right_mask([1, 3, 2], T), "where t < length"),
        (
            exercises.buckets,
            lambda names, size: [names[n : n + size] for n in range(0, 203, size)],
            "of padding are left",
        ),
        (exercises.buckets, lambda names, size: names.sort(key=len) or sorted_buckets(names, size), "sort a copy"),
        (exercises.buckets, lambda names, size: sorted_buckets(names, size)[:-1], "3 names are missing"),
        (exercises.buckets, lambda names, size: sorted_buckets(sorted(set(names)), size), "a set drops them"),
        (exercises.buckets, lambda names, size: sorted_buckets(names, 2 * size), "at most batch_size"),
        (exercises.loss_by_letter, lambda losses, t, mask, V: (losses * mask).sum(0) / mask.sum(0), "shape (4,)"),
        (exercises.loss_by_letter, lambda losses, t, mask, V: mx.zeros(V).at[t].add(losses * mask), "is the sum"),
        (exercises.loss_by_letter, lambda losses, t, mask, V: by_letter(losses, t, mask * 0 + 1, V), "in the padding"),
        (exercises.loss_by_letter, lambda *args: by_letter(*args, least=0), "divide by zero"),
        (exercises.loss_by_letter, lambda *args: by_letter(*args, least=2), "id 2 is the target once"),
    ],
)
def test_exercise_checks_teach(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)

"""Sampling: each filter by its definition, draws by a chi-square test, rows that do not depend on each other."""

import math

import mlx.core as mx
import numpy as np
import pytest

from course_lib.generate import sampling
from course_lib.generate.cutoffs import keep_top_k
from course_lib.generate.sampling import draw, keep_min_p, keep_top_p, largest, probabilities, sample


def numpy_probabilities(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def by_definition(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    """The distribution of `sample`, in float64, a token at a time."""
    probs = numpy_probabilities(np.asarray(logits, np.float64) / temperature)
    order = np.argsort(-probs, kind="stable")
    if top_k is not None:
        probs[order[top_k:]] = 0
        probs /= probs.sum()
    if top_p is not None:
        mass = 0.0
        for token in order:
            if mass >= top_p:
                probs[token] = 0
            mass += probs[token]
        probs /= probs.sum()
    if min_p is not None:
        probs[probs < min_p * probs.max()] = 0
        probs /= probs.sum()
    return probs


SETTINGS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 1},
    {"top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "min_p": 0.1},
    {"top_k": 12},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_hundred_thousand_draws_fit_the_distribution(settings):
    logits = np.random.default_rng(3).normal(size=12) * 1.5
    expected = by_definition(logits, **settings) * 100_000
    rows = mx.broadcast_to(mx.array(logits, dtype=mx.float32), (100_000, 12))
    counts = np.bincount(np.array(sample(rows, **settings, key=mx.random.key(5))), minlength=12)
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - 1
    if freedom:  # Wilson and Hilferty: the value that chance passes once in 10,000
        assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize("V", [7, 64, 300, 5000])
def test_largest_finds_the_k_largest_in_order(V):
    logits = mx.random.normal((4, V), key=mx.random.key(V))
    for k in {1, 2, min(V, 50), min(V, 129), V}:
        values, ids = largest(logits, k)
        assert mx.array_equal(values, -mx.sort(-logits, axis=-1)[:, :k])
        assert mx.array_equal(mx.take_along_axis(logits, ids, axis=-1), values)


def test_largest_finds_neighbours_and_equal_ones():
    logits = mx.zeros((1, 1000))
    logits[0, 128:140] = mx.arange(12) + 1.0
    assert sorted(largest(logits, 12)[1][0].tolist()) == list(range(128, 140))
    values, ids = largest(mx.zeros((2, 200)), 150)
    assert values.sum().item() == 0 and len(set(ids[0].tolist())) == 150


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_the_filters_keep_what_their_definitions_say(p):
    logits = np.random.default_rng(1).normal(size=(6, 200)) * 2
    for found, name in ((keep_top_p(mx.array(logits), p), "top_p"), (keep_min_p(mx.array(logits), p), "min_p")):
        kept = np.array(found > -mx.inf)
        for row in range(6):
            assert (kept[row] == (by_definition(logits[row], **{name: p}) > 0)).all(), name
        assert np.array_equal(np.array(found)[kept], logits.astype(np.float32)[kept])


@pytest.mark.parametrize("k", [1, 7, 64, 200])
def test_top_k_keeps_the_k_largest_of_each_row_in_their_places(k):
    logits = np.random.default_rng(2).normal(size=(6, 200)).astype(np.float32)
    found = np.array(keep_top_k(mx.array(logits), k))
    kept = np.isfinite(found)
    assert (kept.sum(axis=1) == k).all() and np.array_equal(found[kept], logits[kept])
    assert (np.sort(logits, axis=1)[:, -k] == np.where(kept, logits, np.inf).min(axis=1)).all()


def test_top_p_of_equal_probabilities_by_hand():
    quarters = mx.zeros((1, 4))
    assert (keep_top_p(mx.log(mx.array([[0.5, 0.25, 0.15, 0.1]])), 0.6) > -mx.inf).tolist() == [
        [True, True, False, False]
    ]
    assert (keep_top_p(quarters, 1.0) > -mx.inf).all()


def test_draw_takes_the_piece_into_which_the_number_falls():
    logits = mx.log(mx.array([[0.0, 0.25, 0.5, 0.25, 0.0]] * 6))
    uniform = mx.array([[0.0], [0.24], [0.26], [0.74], [0.76], [1 - 2**-24]])
    assert draw(logits, uniform).tolist() == [1, 1, 2, 2, 3, 3]
    assert mx.allclose(probabilities(logits)[0], mx.array([0, 0.25, 0.5, 0.25, 0]), atol=1e-6)


def tree_cumsum(x):
    """Running sums in the order of a tree, as a GPU adds up: halves first, in float32; (B, a power of 2)."""
    if x.shape[-1] == 1:
        return x
    pairs = tree_cumsum(x[:, 0::2] + x[:, 1::2])
    sums = np.empty_like(x)
    sums[:, 1::2] = pairs
    sums[:, 0::2] = np.concatenate([np.zeros_like(pairs[:, :1]), pairs[:, :-1]], axis=1) + x[:, 0::2]
    return sums


def test_a_token_that_was_left_out_is_not_drawn_when_a_device_adds_up_as_a_tree(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(20, 256)).astype(np.float32) * 3
    logits[logits < 1.5] = -np.inf  # most are left out, and stand between the others
    logits[:, -3:] = -np.inf
    weights = np.array(sampling.fast_exp(mx.array(logits - logits.max(axis=-1, keepdims=True))))
    ends = tree_cumsum(weights)
    assert (np.diff(ends) < 0).any()  # such running sums may even fall
    monkeypatch.setattr(mx, "cumsum", lambda x, axis: mx.array(tree_cumsum(np.array(x))))
    shares = np.minimum(ends / ends[:, -1:], np.float32(1 - 2**-24))
    # the numbers that matter are those at the ends of the pieces, and their neighbours
    candidates = [shares, np.nextafter(shares, np.float32(0)), np.nextafter(shares, np.float32(1))]
    uniform = np.minimum(np.concatenate([*candidates, np.zeros((20, 1), np.float32)], axis=1), np.float32(1 - 2**-24))
    edges = np.pad(np.cumsum(weights.astype(np.float64), axis=-1), ((0, 0), (1, 0)))
    edges /= edges[:, -1:]
    for row in range(20):
        numbers = uniform[row][:, None]
        chosen = np.array(draw(mx.broadcast_to(mx.array(logits[row]), (len(numbers), 256)), mx.array(numbers)))
        assert np.isfinite(logits[row][chosen]).all()
        below, above = edges[row][chosen], edges[row][chosen + 1]
        assert (below - 1e-6 <= numbers[:, 0]).all() and (numbers[:, 0] <= above + 1e-6).all()


def test_the_largest_random_number_below_one_is_below_every_sum():
    sums = np.random.default_rng(0).uniform(1, 65_536, 1_000_000).astype(np.float32)
    assert (sums * np.float32(1 - 2**-24) < sums).all()
    powers = np.float32(2) ** np.arange(17, dtype=np.float32)
    for edge in (powers, np.nextafter(powers, np.float32(np.inf)), np.nextafter(powers[1:], np.float32(0))):
        assert (edge * np.float32(1 - 2**-24) < edge).all()


@pytest.mark.parametrize("settings", [{}, {"top_k": 4}, {"temperature": 0}, {"top_p": 0.5, "min_p": 0.01}], ids=str)
def test_nan_logits_give_minus_one_in_their_row_only(settings):
    logits = mx.random.normal((3, 100))
    expected = sample(logits, **settings, key=mx.array([[1, 2], [3, 4], [5, 6]], dtype=mx.uint32)).tolist()
    logits[1, 7] = mx.nan
    found = sample(logits, **settings, key=mx.array([[1, 2], [3, 4], [5, 6]], dtype=mx.uint32)).tolist()
    assert found == [expected[0], -1, expected[2]]


@pytest.mark.parametrize("temperature", [1e-30, 1e-6])
def test_a_tiny_temperature_takes_the_likeliest(temperature):
    logits = mx.random.normal((20, 50), key=mx.random.key(0))
    assert mx.array_equal(sample(logits, temperature, key=mx.random.key(1)), mx.argmax(logits, axis=-1))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_with_a_key_for_each_row_a_token_does_not_depend_on_the_other_rows(settings):
    logits = mx.random.normal((5, 300), key=mx.random.key(0))
    keys = mx.random.split(mx.random.key(9), 5)
    together = sample(logits, **settings, key=keys).tolist()
    alone = [sample(logits[n : n + 1], **settings, key=keys[n : n + 1]).item() for n in range(5)]
    assert together == alone

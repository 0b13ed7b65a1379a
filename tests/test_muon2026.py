"""NorMuon and the groups of 2026 are those of float64 references; ideas can be taken out one by one; runs resume."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from test_local_ring import launch_in_time
from test_muon import distance, normal, reference_newton_schulz
from test_optim import random_gradients, update, weights_of

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.model.gpt2026 import GPT2026, GPT2026Config
from course_lib.train import stacks
from course_lib.train.distributed import share_work
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.groups2026 import GROUPS_2026, Rates2026, make_optimizer_2026
from course_lib.train.muon import Muon, newton_schulz
from course_lib.train.muon2026 import NorMuon, equilibrate_rows, polar_express, to_norm
from course_lib.train.optim import group_of
from course_lib.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("float32")

TALL, WIDE, SQUARE, STACKED, GATE = (40, 12), (12, 40), (24, 24), (2, 9, 6), (2, 12)
SHAPES = {"tall": TALL, "wide": WIDE, "square": SQUARE, "stacked": STACKED, "gate": GATE, "tall too": TALL}
V, T = 37, 16

# The five polynomials, written here again.
A = (8.156554524902461, 4.042929935166739, 3.8916678022926607, 3.285753657755655, 2.3465413258596377)
B = (22.48329292557795, 2.808917465908714, 2.772484153217685, 2.3681294933425376, 1.7098282387687081)
C = (15.878769915207462, 0.5000178451051316, 0.5060648178503393, 0.46449024233003106, 0.42323551569305323)


# ---- the reference, in float64, one matrix at a time


def lift(s):
    """What the five polynomials make of singular values."""
    for a, b, c in zip(A, B, C, strict=True):
        s = a * s - b * s**3 + c * s**5
    return s


def reference_polar(u):
    """By the singular values, where the module multiplies matrices."""
    left, s, right = np.linalg.svd(u / (1.01 * np.linalg.norm(u) + 1e-6), full_matrices=False)
    return left * lift(s) @ right


IDEAS = {"rows", "polar", "size", "variance", "cautious"}


class Reference:
    """One matrix in float64, with those of the ideas that are named; without "polar" it is Newton–Schulz."""

    def __init__(self, weight, ideas=IDEAS):
        self.p, self.m, self.v, self.ideas = np.array(weight, np.float64), 0.0, 0.0, ideas

    def step(self, g, lr, mu, decay):
        g = np.array(g, np.float64)
        rows, columns = g.shape
        self.m = mu * self.m + (1 - mu) * g
        u = (1 - mu) * g + mu * self.m
        if "rows" in self.ideas:
            whole = np.sqrt((u**2).sum())
            u = np.stack([row * (whole / rows**0.5) / max(np.sqrt((row**2).sum()), 1e-6) for row in u])
        x = reference_polar(u) if "polar" in self.ideas else reference_newton_schulz(u)
        if "size" in self.ideas:
            x = x * min(rows, columns) ** 0.5 / np.linalg.norm(x)
        if "variance" in self.ideas:
            v = (x**2).mean(axis=1, keepdims=True) if rows >= columns else (x**2).mean(axis=0, keepdims=True)
            self.v = 0.9 * self.v + 0.1 * v
            scaled = x / np.sqrt(np.maximum(self.v, 1e-10))
            x = scaled * np.linalg.norm(x) / np.linalg.norm(scaled)
        lr = lr * max(1, rows / columns) ** 0.5
        pulls = (x * self.p >= 0) if "cautious" in self.ideas else 1.0
        self.p = self.p - lr * x - lr * decay * self.p * pulls
        return self.p


def references(weights, ideas=IDEAS):
    return {
        name: [Reference(each, ideas) for each in np.array(w).reshape(-1, *w.shape[-2:])] for name, w in weights.items()
    }


def plan(step):
    """Rate, momentum and decay, other ones at each step."""
    return 0.02 * (1 + 0.5 * math.sin(step)), 0.85 + 0.02 * step, 0.3 - 0.05 * step


def set_plan(optimizer, step):
    for name, number in zip(("learning_rate", "momentum", "weight_decay"), plan(step), strict=True):
        optimizer.state[name] = mx.array(number)


def five_steps(optimizer, ideas=IDEAS, off=3e-6):
    """Five steps on matrices of all shapes, compared with the reference; the furthest number."""
    weights = {name: mx.array(normal(shape, n)) for n, (name, shape) in enumerate(SHAPES.items())}
    known, furthest = references(weights, ideas), 0.0
    for step in range(5):
        gradients = {name: normal(shape, 100 * step + n + 50) for n, (name, shape) in enumerate(SHAPES.items())}
        set_plan(optimizer, step)
        weights = optimizer.apply_gradients({name: mx.array(g) for name, g in gradients.items()}, weights)
        for name, each in known.items():
            parts = gradients[name].reshape(-1, *gradients[name].shape[-2:])
            expected = [one.step(g, *plan(step)) for one, g in zip(each, parts, strict=True)]
            furthest = max(furthest, distance(weights[name].reshape(parts.shape), np.stack(expected)))
            assert furthest <= off, f"{name}, step {step}"
    return furthest


def same(x, *_):
    return x


def without(*ideas):
    """A NorMuon in which each of these ideas is the identity, or what it took the place of."""
    plain = {
        "rows": {"equilibrate": staticmethod(same)},
        "polar": {"polar": staticmethod(newton_schulz)},
        "size": {"resize": staticmethod(same)},
        "variance": {"even_out": lambda self, x, state: x},
        "cautious": {"decaying": lambda self, parameter, step: parameter},
    }
    return type("Without", (NorMuon,), {name: part for idea in ideas for name, part in plain[idea].items()})


# ---- NorMuon


@pytest.mark.parametrize("kind", ["cpu", "metal"])  # one by one, and all of a shape at once
def test_five_steps_are_those_of_the_reference(kind, monkeypatch):
    monkeypatch.setattr(backend, "device_kind", lambda: kind)
    five_steps(NorMuon(0.02))
    monkeypatch.setattr(stacks, "STACKED", 40 * 12)
    five_steps(NorMuon(0.02))


@pytest.mark.parametrize("idea", sorted(IDEAS))
def test_each_idea_alone_and_all_but_it_are_those_of_the_reference(idea):
    five_steps(without(*IDEAS - {idea})(0.02), {idea})
    five_steps(without(idea)(0.02), IDEAS - {idea})


def test_without_all_five_it_is_muon_with_plain_decay():
    five_steps(without(*IDEAS)(0.02), set())
    w, g = mx.array(normal(TALL, 0)), {"w": mx.array(normal(TALL, 1))}
    ours, muon = (kind(0.02).apply_gradients(g, {"w": w})["w"] for kind in (without(*IDEAS), Muon))
    assert distance(ours, muon) <= 1e-7


def test_weight_decay_and_momentum_are_those_given():
    w, gradients = normal(WIDE, 0), [normal(WIDE, seed) for seed in (1, 2, 3)]
    optimizer, weights, known = NorMuon(0.1, 0.7, 0.4), {"w": mx.array(w)}, Reference(w)
    for g in gradients:
        weights = optimizer.apply_gradients({"w": mx.array(g)}, weights)
        assert distance(weights["w"], known.step(g, 0.1, 0.7, 0.4)) <= 3e-6
    assert NorMuon(0.1).state["momentum"].item() == pytest.approx(0.95)
    assert NorMuon(0.1).state["weight_decay"].item() == 0 and NorMuon(0.1).beta2 == 0.9


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE, (1, 7), (7, 1)])
@pytest.mark.parametrize("size", [1.0, 1e-5, 1e8])
def test_polar_express_is_its_polynomials_of_the_singular_values(shape, size):
    g = normal(shape, 3, size)
    assert distance(polar_express(mx.array(g)), reference_polar(g.astype(np.float64))) <= 2e-5


def test_polar_express_takes_stacks_and_is_computed_in_float32():
    g = normal((2, 3, 9, 6), 4)
    each = np.stack([reference_polar(m.astype(np.float64)) for m in g.reshape(-1, 9, 6)]).reshape(g.shape)
    assert distance(polar_express(mx.array(g)), each) <= 2e-5
    low = mx.array(g).astype(mx.bfloat16)
    exact = polar_express(low.astype(mx.float32))
    assert polar_express(low).dtype == mx.bfloat16
    assert mx.array_equal(polar_express(low), exact.astype(mx.bfloat16))


def test_polar_express_ends_nearer_to_orthogonal_than_newton_schulz():
    g = mx.array(normal((40, 30), 5))
    off = [np.abs(np.linalg.svd(np.array(f(g)), compute_uv=False) - 1).max() for f in (polar_express, newton_schulz)]
    assert off[0] < 0.2 < off[1]


def test_rows_become_equal_and_the_whole_stays():
    u = normal((3, 5, 8), 6) * np.arange(1, 6, dtype=np.float32)[:, None]
    even = np.array(equilibrate_rows(mx.array(u)), np.float64)
    lengths = np.linalg.norm(even, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(even, axis=(-2, -1)), np.linalg.norm(u, axis=(-2, -1)), rtol=1e-5)
    np.testing.assert_allclose(lengths, lengths[:, :1] * np.ones(5), rtol=1e-5)
    small = np.stack([np.full(8, 1e-7), np.full(8, 1e-6), np.full(8, 1e-5)]).astype(np.float32)  # 1e-6 is the floor
    expected = small * (np.linalg.norm(small) / 3**0.5) / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
    np.testing.assert_allclose(np.array(equilibrate_rows(mx.array(small))), expected, rtol=1e-5)
    u[1, 2] = 0
    assert not equilibrate_rows(mx.array(u))[1, 2].any()


def test_the_size_is_that_of_an_orthogonal_matrix():
    for shape in (TALL, WIDE, SQUARE):
        q = np.linalg.svd(normal(shape, 7), full_matrices=False)
        assert np.linalg.norm(np.array(to_norm(mx.array(normal(shape, 8))))) == pytest.approx(
            np.linalg.norm(q[0] @ q[2]), rel=1e-5
        )


@pytest.mark.parametrize("function", [equilibrate_rows, polar_express, to_norm])
def test_zeros_stay_zeros(function):
    assert not function(mx.zeros((2, 5, 3))).any()  # NaN would be true


@pytest.mark.parametrize("shape", [TALL, WIDE, STACKED])
def test_zero_gradients_take_no_step_and_give_no_nan(shape):
    w, optimizer = mx.array(normal(shape, 0)), NorMuon(0.02)
    weights = {"w": w}
    for _ in range(3):
        weights = optimizer.apply_gradients({"w": mx.zeros(shape)}, weights)
    assert mx.array_equal(weights["w"], w) and not optimizer.state["w"]["variance"].any()
    part = mx.array(normal(shape, 1)) * (mx.arange(shape[-2]) > 0)[:, None]  # one row without a gradient
    assert mx.isfinite(optimizer.apply_gradients({"w": part}, weights)["w"]).all()
    decayed = NorMuon(0.02, weight_decay=0.5).apply_gradients({"w": mx.zeros(shape)}, {"w": w})["w"]
    rate = 0.02 * max(1, shape[-2] / shape[-1]) ** 0.5
    assert distance(decayed, (1 - rate * 0.5) * np.array(w)) <= 1e-6, "no step stands against the decay"


def test_low_precision_gradients_are_computed_in_float32():
    w = normal(TALL, 0)
    for dtype, off in ((mx.float32, 3e-6), (mx.bfloat16, 0.02)):  # of the weight; gradients are bfloat16
        optimizer, weights = NorMuon(0.02, weight_decay=0.1), {"w": mx.array(w).astype(dtype)}
        optimizer.init(weights)
        assert {a.dtype for a in optimizer.state["w"].values()} == {mx.float32}
        known = Reference(np.array(weights["w"].astype(mx.float32)))
        for seed in range(4):
            g = mx.array(normal(TALL, seed + 1)).astype(mx.bfloat16)
            weights = optimizer.apply_gradients({"w": g}, weights)
            expected = known.step(np.array(g.astype(mx.float32)), 0.02, 0.95, 0.1)
            assert distance(weights["w"].astype(mx.float32), expected) <= off
        assert weights["w"].dtype == dtype
        assert {a.dtype for a in optimizer.state["w"].values()} == {mx.float32}


def test_what_is_no_matrix_is_refused():
    with pytest.raises(CourseError, match="give it matrices"):
        NorMuon(0.1).init({"w": mx.ones(3)})


def test_the_state_is_arrays_by_name_and_goes_on_bit_for_bit():
    weights = {name: mx.array(normal(shape, n)) for n, (name, shape) in enumerate(SHAPES.items())}
    given = [{name: mx.array(normal(shape, 9 * s + 1)) for name, shape in SHAPES.items()} for s in range(6)]
    first, second = NorMuon(0.02), NorMuon(0.5, 0.1, 0.9)
    for step in range(3):
        set_plan(first, step)
        weights = first.apply_gradients(given[step], weights)
    saved = dict(tree_flatten(first.state))
    assert set(saved) == {"step", "learning_rate", "momentum", "weight_decay"} | {
        f"{name}.{what}" for name in SHAPES for what in ("average", "variance")
    }
    assert saved["tall.variance"].shape == (40, 1) and saved["wide.variance"].shape == (1, 40)
    assert saved["stacked.variance"].shape == (2, 9, 1) and saved["square.variance"].shape == (24, 1)
    second.state, other = tree_unflatten(list(saved.items())), weights
    for step in range(3, 6):
        weights, other = first.apply_gradients(given[step], weights), second.apply_gradients(given[step], other)
    assert all(mx.array_equal(weights[name], other[name]) for name in SHAPES)


@pytest.mark.slow
def test_a_compiled_step_sees_rate_momentum_and_decay_in_the_state(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where MLX keeps compiled kernels on a CPU
    model, traces = nn.Linear(8, 20, bias=False), []
    optimizer, known = NorMuon(0.02), Reference(np.array(model.weight))
    optimizer.init(model.trainable_parameters())

    def one(gradient):
        traces.append(1)
        optimizer.update(model, {"weight": gradient})

    step = mx.compile(one, inputs=[model.state, optimizer.state], outputs=[model.state, optimizer.state])
    for n in range(5):
        g = normal((20, 8), n)
        set_plan(optimizer, n)
        step(mx.array(g))
        mx.eval(model.state, optimizer.state)
        assert distance(model.weight, known.step(g, *plan(n))) <= 3e-6, f"step {n}"
    assert len(traces) == 1, "it was compiled again: the test shows nothing"


# ---- the groups


def tiny(seed=0, n_layer=3):
    model = GPT2026(GPT2026Config(T, V, n_layer, n_head=2, n_kv_head=2, n_embd=32))
    spread = {name: mx.array(normal(a.shape, seed + n, 0.2)) for n, (name, a) in enumerate(weights_of(model).items())}
    model.update(tree_unflatten(list(spread.items())))
    return model


S = math.sqrt(768 / 32)
ADAMS = {  # rate, betas, weight decay
    "lm_head.weight": (0.008 * S, 0.8, 0.96, 0.01),
    "transformer.wte.weight": (0.3 * S, 0.8, 0.995, 0.001),
    "value_embeds.0.weight": (0.15 * S, 0.8, 0.995, 0.01),
    "value_embeds.2.weight": (0.15 * S, 0.8, 0.995, 0.01),
    "resid_lambdas": (0.005, 0.8, 0.95, 0.05),
    "x0_lambdas": (0.5, 0.96, 0.95, 0.0),
    "smear_gate.weight": (0.2, 0.8, 0.95, 0.0),
    "smear_lambda": (0.2, 0.8, 0.95, 0.0),
    "backout_lambda": (0.2, 0.8, 0.95, 0.0),
}


class ReferenceAdamW:
    """AdamW in float64: decay, then Adam with corrected averages."""

    def __init__(self, weight, rate, first, second, decay):
        self.p, self.rate, self.betas, self.decay = np.array(weight, np.float64), rate, (first, second), decay
        self.m = self.v = self.t = 0

    def step(self, g, times=1.0):
        g, (one, two), rate = np.array(g, np.float64), self.betas, self.rate * times
        self.t += 1
        self.p = self.p - rate * self.decay * self.p
        self.m, self.v = one * self.m + (1 - one) * g, two * self.v + (1 - two) * g * g
        root = np.sqrt(self.v / (1 - two**self.t)) + 1e-10
        self.p = self.p - rate * self.m / (1 - one**self.t) / root
        return self.p


def test_every_parameter_is_in_the_group_that_its_name_says():
    model = tiny()
    found = {}
    for name, array in weights_of(model).items():
        found.setdefault(group_of(name, array, GROUPS_2026), set()).add(name)
    assert found.pop("matrices") == {name for name in weights_of(model) if name.startswith("transformer.h.")}
    assert "transformer.h.0.attn.ve_gate.weight" in weights_of(model)
    assert found == {
        "head": {"lm_head.weight"},
        "embedding": {"transformer.wte.weight"},
        "value embeddings": {"value_embeds.0.weight", "value_embeds.2.weight"},
        "shares of the stream": {"resid_lambdas"},
        "shares of the embedding": {"x0_lambdas"},
        "smear and backout": {"smear_gate.weight", "smear_lambda", "backout_lambda"},
    }
    assert type(make_optimizer_2026(model, Rates2026()).optimizers[0]) is NorMuon


def test_a_parameter_of_no_group_is_refused():
    for name, place in (("gain", lambda m: m), ("wpe", lambda m: m.transformer), ("bias", lambda m: m.lm_head)):
        model = tiny()
        place(model)[name] = mx.zeros((3, 3))
        with pytest.raises(CourseError, match=rf"no optimizer trains the parameter (\S+\.)?{name} of shape"):
            make_optimizer_2026(model, Rates2026())


@pytest.mark.parametrize("spread", [1.0, 3e-10])  # at the second, eps = 1e-10 matters
def test_three_steps_of_all_groups_are_those_of_the_references(spread):
    model = tiny()
    optimizer, before = make_optimizer_2026(model, Rates2026()), weights_of(model)
    adams = {name: ReferenceAdamW(before[name], *numbers) for name, numbers in ADAMS.items()}
    muons = {name: Reference(before[name]) for name in before if name not in ADAMS} if spread == 1.0 else {}
    for seed in range(3):
        gradients = random_gradients(model, seed, spread)
        update(optimizer, model, gradients)
        for name, known in adams.items():
            assert distance(weights_of(model)[name], known.step(gradients[name])) <= 3e-6, f"{name}, step {seed}"
        for name, known in muons.items():
            expected = known.step(gradients[name], 0.02, 0.95, 0.28)
            assert distance(weights_of(model)[name], expected) <= 3e-6, f"{name}, step {seed}"


def test_rates_that_are_given_reach_their_groups_and_scaling_spares_the_smear():
    rates = Rates2026().scaled(2.0)
    assert (rates.matrix_lr, rates.embedding_lr, rates.unembedding_lr) == (0.04, 0.6, 0.016)
    assert (rates.value_embedding_lr, rates.resid_lr, rates.x0_lr, rates.smear_lr) == (0.3, 0.01, 1.0, 0.2)
    assert rates.weight_decay == 0.28 and rates.warmdown_ratio == 0.65
    made = make_optimizer_2026(tiny(), replace(rates, weight_decay=0.1))
    found = [each.learning_rate.item() for each in made.optimizers]
    assert found == pytest.approx([0.04, 0.016 * S, 0.6 * S, 0.3 * S, 0.01, 1.0, 0.2])
    assert made.optimizers[0].state["weight_decay"].item() == pytest.approx(0.1)


# ---- in the Trainer


def batches(count, seed):
    ids = np.random.default_rng(seed).integers(0, V, (count, 2, T + 1))
    return [(mx.array(each[:, :-1]), mx.array(each[:, 1:])) for each in ids]


RATES = Rates2026(warmup_steps=2, weight_decay=0.2)


def test_the_trainer_sets_rates_momentum_and_decay_of_each_step_and_clips_nothing():
    trainer = Trainer(tiny(), 20, RATES)
    peaks = [each.learning_rate.item() for each in trainer.optimizer.optimizers]
    for it in range(20):
        result = trainer.step(batches(1, it))
        muon, *adams = trainer.optimizer.optimizers
        left = min(1.0, (20 - it) / 13)  # a warmdown of 65 % is 13 steps
        expected = 0.5 if it == 0 else left + (1 - left) * 0.05
        assert result.lr_multiplier == pytest.approx(expected)
        found = [each.learning_rate.item() for each in (muon, *adams)]
        assert found == pytest.approx([peak * expected for peak in peaks])
        assert muon.state["momentum"].item() == pytest.approx(0.85 + 0.12 * it / 400)
        assert muon.state["weight_decay"].item() == pytest.approx(0.1 * (1 + math.cos(math.pi * it / 20)), abs=1e-7)
    assert trainer.rates.grad_clip == 0
    assert Trainer(tiny(), 20, RATES, grad_clip=2.0).rates == replace(RATES, grad_clip=2.0)


@pytest.mark.slow
def test_a_run_that_is_resumed_is_the_same_in_every_bit():
    straight, first = Trainer(tiny(), 8, RATES), Trainer(tiny(), 8, RATES)
    for it in range(8):
        straight.step(batches(2, it))
    for it in range(4):
        first.step(batches(2, it))
    second = Trainer(tiny(seed=9), 8, RATES)
    second.model.update(first.model.parameters())
    second.load_state(4, dict(first.state()))
    for it in range(4, 8):
        second.step(batches(2, it))
    one, two = ({**weights_of(t.model), **t.state()} for t in (straight, second))
    assert one.keys() == two.keys() and all(mx.array_equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_compiled_steps_are_those_of_plain_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    plain = Trainer(tiny(n_layer=1), 5, RATES)
    compiled = FastTrainer(tiny(n_layer=1), 5, RATES, compiled=True)
    for it in range(5):
        one, other = plain.step(batches(2, it)), compiled.step(batches(2, it))
        assert one.loss == pytest.approx(other.loss, rel=1e-4) and one.lr_multiplier == other.lr_multiplier
    for name, array in weights_of(plain.model).items():
        gap = np.abs(np.array(array - weights_of(compiled.model)[name]))
        assert np.quantile(gap, 0.99) < 2e-3, f"{name}: Adam's first steps make much of rounding"


# ---- several processes


def member(folder):
    """What each process of a ring does; called by the program below."""
    group = mx.distributed.init()
    weights = {name: mx.array(normal(shape, n)) for n, (name, shape) in enumerate(SHAPES.items())}
    optimizer = share_work(NorMuon(0.02), group)
    for step in range(3):
        set_plan(optimizer, step)
        given = {name: mx.array(normal(shape, 9 * step + 1)) for name, shape in SHAPES.items()}
        weights = optimizer.apply_gradients(given, weights)
    trainer = FastTrainer(tiny(), 4, RATES, group=group, compiled=False)
    losses = [trainer.step(batches(2, it)[group.rank() :: group.size()]).loss for it in range(4)]
    trees = {"alone": weights, "state": optimizer.state, "model": trainer.model.parameters()}
    np.savez(folder / f"end_{group.rank()}.npz", **{name: np.array(a) for name, a in tree_flatten(trees)})
    (folder / f"losses_{group.rank()}.json").write_text(json.dumps(losses))


@pytest.mark.slow
def test_two_processes_end_as_one(tmp_path, monkeypatch):
    (tmp_path / "two_of_2026.py").write_text(
        "import pathlib, sys, test_muon2026\ntest_muon2026.member(pathlib.Path(sys.argv[1]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), str(Path(__file__).parent), *sys.path]))
    assert launch_in_time("two_of_2026", [str(tmp_path)], 2) == 0
    (tmp_path / "one").mkdir()
    member(tmp_path / "one")
    first, second, one = (dict(np.load(tmp_path / name)) for name in ("end_0.npz", "end_1.npz", "one/end_0.npz"))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    for name in first:
        if name.startswith("model"):  # the mean of two losses is not rounded as one
            assert np.quantile(np.abs(first[name] - one[name]), 0.99) < 1e-4, name
        else:
            assert (first[name] == one[name]).all(), name
    losses = [json.loads((tmp_path / name).read_text()) for name in ("losses_0.json", "one/losses_0.json")]
    np.testing.assert_allclose(*losses, rtol=1e-4)

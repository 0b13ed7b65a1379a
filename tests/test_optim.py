"""Every parameter of a GPT has one optimizer, with its own rate; the schedules are right at their edges."""

import inspect
import math

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from test_muon import ReferenceMuon, distance, normal, schedule

from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.muon import Muon
from course_lib.train.optim import GROUPS, group_of, lr_multiplier, make_optimizer, muon_momentum

WTE, HEAD = "transformer.wte.weight", "lm_head.weight"
RATES = {"matrix_lr": 0.03, "embedding_lr": 0.05, "unembedding_lr": 0.007}


def tiny(n_embd=32, n_layer=2, n_head=4, n_kv_head=2, vocab_size=37):
    return GPT(GPTConfig(16, vocab_size, n_layer, n_head, n_kv_head, n_embd))


def names_of_matrices(n_layer=2):
    parts = [f"attn.{c}" for c in ("c_q", "c_k", "c_v", "c_proj")] + ["mlp.c_fc", "mlp.c_proj"]
    return {f"transformer.h.{n}.{part}.weight" for n in range(n_layer) for part in parts}


def weights_of(model):
    return dict(tree_flatten(model.parameters()))


def random_gradients(model, seed, spread=1.0):
    shapes = {name: array.shape for name, array in tree_flatten(model.trainable_parameters())}
    return {name: normal(shape, (seed, n), spread) for n, (name, shape) in enumerate(shapes.items())}


def update(optimizer, model, gradients):
    optimizer.update(model, tree_unflatten([(name, mx.array(g)) for name, g in gradients.items()]))
    mx.eval(model.parameters(), optimizer.state)


class ReferenceAdam:
    """Adam in float64, with both averages corrected for their start at zero (Kingma and Ba, 2015)."""

    def __init__(self, weight):
        self.weight, self.first, self.second, self.steps = np.array(weight, dtype=np.float64), 0.0, 0.0, 0

    def step(self, gradient, rate):
        gradient = np.array(gradient, dtype=np.float64)
        self.steps += 1
        self.first = 0.8 * self.first + 0.2 * gradient
        self.second = 0.95 * self.second + 0.05 * gradient**2
        first, second = self.first / (1 - 0.8**self.steps), self.second / (1 - 0.95**self.steps)
        self.weight = self.weight - rate * first / (np.sqrt(second) + 1e-10)
        return self.weight


# ---- the schedules


@pytest.mark.parametrize(
    "num_iterations, options, expected",
    [
        # by default: 1, and over the last fifth down to 0; 8 = 10 - 2 still has 1
        (10, {}, {0: 1, 1: 1, 7: 1, 8: 1, 9: 0.5, 10: 0}),
        (100, {}, {0: 1, 79: 1, 80: 1, 81: 0.95, 90: 0.5, 99: 0.05, 100: 0}),
        (7080, {}, {0: 1, 5664: 1, 5665: 1415 / 1416, 6372: 0.5, 7079: 1 / 1416, 7080: 0}),
        # what is left at the end
        (10, {"final_lr_frac": 0.1}, {0: 1, 8: 1, 9: 0.55, 10: 0.1}),
        (10, {"final_lr_frac": 1.0}, {0: 1, 8: 1, 9: 1, 10: 1}),
        # the warmup climbs by equal steps, and does not begin at 0
        (10, {"warmup_ratio": 0.4}, {0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 4: 1, 8: 1, 9: 0.5, 10: 0}),
        (10, {"warmup_ratio": 0.1}, {0: 1, 1: 1}),
        (10, {"warmup_ratio": 0.4, "final_lr_frac": 0.5}, {0: 0.25, 3: 1, 9: 0.75, 10: 0.5}),
        # ratios of 0 and 1
        (10, {"warmup_ratio": 0.0, "warmdown_ratio": 0.0}, {0: 1, 5: 1, 9: 1, 10: 1}),
        (4, {"warmdown_ratio": 1.0}, {0: 1, 1: 0.75, 2: 0.5, 3: 0.25, 4: 0}),
        (4, {"warmup_ratio": 1.0, "warmdown_ratio": 0.0}, {0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 4: 1}),
        (4, {"warmup_ratio": 1.0, "warmdown_ratio": 1.0}, {0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 4: 0}),
        # few steps: a fifth of 1 and of 2 is no step; of 3 it is one
        (1, {}, {0: 1, 1: 1}),
        (2, {}, {0: 1, 1: 1, 2: 1}),
        (3, {}, {0: 1, 1: 1, 2: 1, 3: 0}),
        (1, {"warmdown_ratio": 1.0}, {0: 1, 1: 0}),
        (1, {"warmup_ratio": 1.0}, {0: 1, 1: 1}),
        # ratios are rounded to the nearest step
        (10, {"warmdown_ratio": 0.17}, {8: 1, 9: 0.5}),
        (10, {"warmdown_ratio": 0.14}, {8: 1, 9: 1, 10: 0}),
        (10, {"warmup_ratio": 0.17}, {0: 0.5, 1: 1}),
    ],
)
def test_the_multiplier_is_that_of_a_table_written_by_hand(num_iterations, options, expected):
    for it, value in expected.items():
        assert lr_multiplier(it, num_iterations, **options) == pytest.approx(value, abs=1e-12), f"step {it}"


def test_the_multiplier_climbs_stays_and_falls():
    for n in (1, 2, 3, 9, 50, 1400):
        for warmup, warmdown, last in ((0, 0.2, 0), (0.1, 0.2, 0.1), (0.5, 0.5, 0), (0.3, 0.6, 0.5), (1, 0, 0)):
            values = [lr_multiplier(it, n, warmup, warmdown, last) for it in range(n + 1)]
            assert all(min(last, 1 / n) <= value <= 1 for value in values) and max(values) == 1
            top = values.index(1.0)
            assert values[: top + 1] == sorted(values[: top + 1]) and values[top:] == sorted(values[top:], reverse=True)


@pytest.mark.parametrize(
    "it, momentum",
    [
        (0, 0.85),
        (3, 0.851),
        (75, 0.875),
        (150, 0.9),
        (299, 0.85 + 299 / 3000),
        (300, 0.95),
        (301, 0.95),
        (10_000, 0.95),
    ],
)
def test_muons_momentum_at(it, momentum):
    assert muon_momentum(it) == pytest.approx(momentum, abs=1e-12)


# ---- which optimizer trains what


@pytest.mark.parametrize("n_layer, n_kv_head", [(1, 4), (2, 2), (3, 1)])
def test_each_parameter_of_a_gpt_is_in_one_group_and_has_its_state(n_layer, n_kv_head):
    model = tiny(n_layer=n_layer, n_kv_head=n_kv_head)
    optimizer, shapes = make_optimizer(model), {name: array.shape for name, array in weights_of(model).items()}
    assert set(shapes) == names_of_matrices(n_layer) | {WTE, HEAD}, "cos, sin and the like are not trained"
    found = {}
    for name, array in weights_of(model).items():
        found.setdefault(group_of(name, array), set()).add(name)
    assert list(GROUPS) == ["matrices", "embedding", "head"]
    assert [found[group] for group in GROUPS] == [names_of_matrices(n_layer), {WTE}, {HEAD}]

    assert [type(each) for each in optimizer.optimizers] == [Muon, mlx.optimizers.AdamW, mlx.optimizers.AdamW]
    arrays = [dict(tree_flatten(each.state)) for each in optimizer.optimizers]
    settings = {"step", "learning_rate"}
    assert set(arrays[0]) == settings | {"momentum"} | {f"{name}.average" for name in found["matrices"]}
    assert set(arrays[1]) == settings | {f"{WTE}.m", f"{WTE}.v"}
    assert set(arrays[2]) == settings | {f"{HEAD}.m", f"{HEAD}.v"}
    for each in arrays:
        for name, array in each.items():
            assert array.shape == shapes.get(name.rpartition(".")[0], ()) and array.dtype in (mx.float32, mx.uint64)
    before = {name: array.shape for name, array in tree_flatten(optimizer.state)}
    update(optimizer, model, random_gradients(model, 0))
    assert {name: array.shape for name, array in tree_flatten(optimizer.state)} == before


@pytest.mark.parametrize(
    "place, name, shape",
    [
        (lambda model: model, "cos", (16, 4)),  # tables that were made parameters: a published bug
        (lambda model: model.transformer, "sin", (1, 16, 1, 4)),
        (lambda model: model.transformer, "wpe", (16, 32)),
        (lambda model: model.transformer.h[0].attn, "cos", (16, 4)),
        (lambda model: model.transformer.h[1].mlp, "bias", (32,)),
        (lambda model: model.transformer.h[0], "gain", ()),
        (lambda model: model.lm_head, "bias", (37,)),
        (lambda model: model.transformer.wte, "scale", (37, 32)),
    ],
)
def test_a_parameter_that_no_group_knows_is_refused_by_name_until_it_is_frozen(place, name, shape):
    model = tiny()
    place(model)[name] = mx.zeros(shape)
    words = rf"no optimizer trains the parameter (\S+\.)?{name} of shape \({str(shape)[1:-1]}\); .* or freeze it"
    with pytest.raises(CourseError, match=words):
        make_optimizer(model)
    place(model).freeze(recurse=False, keys=name)
    optimizer = make_optimizer(model)
    update(optimizer, model, random_gradients(model, 1))
    assert not place(model)[name].any()


@pytest.mark.parametrize("part", ["wte", "h"])
def test_frozen_parts_have_no_state_and_stay(part):
    model = tiny()
    frozen = model.transformer.wte if part == "wte" else model.transformer.h[0]
    frozen.freeze()
    before = weights_of(model)
    names = {WTE} if part == "wte" else {name for name in before if ".h.0." in name}
    optimizer = make_optimizer(model)
    state = {name.rpartition(".")[0].removeprefix("states.")[2:] for name, _ in tree_flatten(optimizer.state)}
    assert state - {""} == set(before) - names
    update(optimizer, model, random_gradients(model, 1))
    assert {name for name, array in weights_of(model).items() if mx.array_equal(array, before[name])} == names


def test_a_gradient_without_a_group_is_refused():
    optimizer, model = make_optimizer(tiny()), tiny()
    before = weights_of(model)
    with pytest.raises(CourseError, match="no optimizer trains the parameter transformer.cos"):
        update(optimizer, model, random_gradients(model, 1) | {"transformer.cos": normal((16, 4), 1)})
    assert all(mx.array_equal(array, before[name]) for name, array in weights_of(model).items())


# ---- its steps


@pytest.mark.parametrize("n_embd, factor", [(32, math.sqrt(24)), (192, 2.0), (768, 1.0), (1728, 2 / 3)])
def test_rates_of_the_tables_follow_the_width_and_those_of_the_matrices_do_not(n_embd, factor):
    model = tiny(n_embd, n_layer=1, vocab_size=5)
    rates = [each.learning_rate.item() for each in make_optimizer(model).optimizers]
    assert rates == pytest.approx([0.02, 0.2 * factor, 0.004 * factor], rel=1e-6)
    rates = [each.learning_rate.item() for each in make_optimizer(model, **RATES).optimizers]
    assert rates == pytest.approx([0.03, 0.05 * factor, 0.007 * factor], rel=1e-6)


def test_the_first_step_of_the_tables_is_their_rate_and_no_other():
    """Corrected for its start, Adam's first step is rate · sign(gradient). Published bug: a rate that is never used."""
    model = tiny()
    before, gradients = weights_of(model), random_gradients(model, 2)
    update(make_optimizer(model, **RATES), model, gradients)
    for name, rate in ((WTE, 0.05), (HEAD, 0.007)):
        moved = np.array(before[name] - weights_of(model)[name])
        np.testing.assert_allclose(moved, rate * math.sqrt(768 / 32) * np.sign(gradients[name]), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 3e-10])  # at the last, eps = 1e-10 matters
def test_twelve_steps_of_changing_rates_are_those_of_float64_references(spread):
    model = tiny(n_embd=64, n_layer=1)
    optimizer, factor = make_optimizer(model, **RATES), math.sqrt(768 / 64)
    names = names_of_matrices(1)
    muons = {name: ReferenceMuon(weights_of(model)[name]) for name in names}
    adams = {name: ReferenceAdam(weights_of(model)[name]) for name in (WTE, HEAD)}
    base = [each.learning_rate for each in optimizer.optimizers]
    for step in range(12):
        gradients = random_gradients(model, 10 + step, spread)
        gradients[WTE][step % 5] = 0  # a token that the batch lacks
        multiplier, momentum = schedule(step)[0] / 0.02, schedule(step)[1]
        for each, rate in zip(optimizer.optimizers, base, strict=True):
            each.learning_rate = rate * multiplier
        optimizer.optimizers[0].state["momentum"] = mx.array(momentum)
        update(optimizer, model, gradients)
        weights = weights_of(model)
        for name, rate in ((WTE, 0.05), (HEAD, 0.007)):
            expected = adams[name].step(gradients[name], rate * factor * multiplier)
            assert distance(weights[name], expected) <= 2e-6 * max(1, np.abs(expected).max()), f"{name}, step {step}"
        for name in names:
            expected = muons[name].step(gradients[name], 0.03 * multiplier, momentum)
            assert distance(weights[name], expected) <= 2e-6, f"{name}, step {step}"


def test_zero_gradients_move_nothing_and_give_no_nan():
    model = tiny()
    optimizer, before = make_optimizer(model), weights_of(model)
    for _ in range(3):
        update(optimizer, model, {name: np.zeros(array.shape, np.float32) for name, array in before.items()})
    assert all(mx.array_equal(array, before[name]) for name, array in weights_of(model).items())
    assert not any(a.any() for name, a in tree_flatten(optimizer.state) if name.endswith((".average", ".m", ".v")))


def test_first_steps_of_a_gpt_move_the_head_then_the_outputs_then_the_rest():
    model = tiny()
    optimizer = make_optimizer(model)
    ids = mx.random.randint(0, 37, (4, 16), key=mx.random.key(0))
    targets = mx.random.randint(0, 37, (4, 16), key=mx.random.key(1))
    losses, moved = [], []
    for _ in range(3):
        before = weights_of(model)
        loss, gradients = nn.value_and_grad(model, model.loss)(ids, targets)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        after = weights_of(model)
        assert all(mx.isfinite(array).all() for array in after.values())
        losses.append(loss.item())
        moved.append({name for name in after if not mx.array_equal(after[name], before[name])})
    outputs = {name for name in names_of_matrices() if "c_proj" in name}
    assert moved[0] == {HEAD}
    assert moved[1] == {HEAD, WTE} | outputs
    assert moved[2] == {HEAD, WTE} | names_of_matrices()
    assert losses[0] == pytest.approx(math.log(37), abs=1e-5) and losses[0] > losses[1] > losses[2]


def test_a_table_row_without_a_gradient_stays():
    model = tiny()
    optimizer, before = make_optimizer(model), weights_of(model)[WTE]
    for step in range(3):
        gradients = random_gradients(model, step)
        gradients[WTE][5] = 0
        update(optimizer, model, gradients)
    same = (weights_of(model)[WTE] == before).all(axis=1).tolist()
    assert [row for row, each in enumerate(same) if each] == [5], "neither weight decay nor a neighbour moves it"


def test_a_learning_rate_of_zero_stops_its_own_group_alone():
    groups = dict(zip(RATES, (names_of_matrices(), {WTE}, {HEAD}), strict=True))
    for stopped, names in groups.items():
        model = tiny()
        before = weights_of(model)
        update(make_optimizer(model, **RATES | {stopped: 0.0}), model, random_gradients(model, 3))
        assert {name for name, a in weights_of(model).items() if mx.array_equal(a, before[name])} == names


def test_another_optimizer_can_take_the_place_of_muon():
    model, asked = tiny(), []

    def plain(learning_rate):
        asked.append(learning_rate)
        return mlx.optimizers.SGD(learning_rate)

    optimizer, before, gradients = make_optimizer(model, 0.5, muon=plain), weights_of(model), random_gradients(model, 4)
    update(optimizer, model, gradients)
    assert asked == [0.5] and type(optimizer.optimizers[0]) is mlx.optimizers.SGD
    for name in names_of_matrices():
        assert distance(weights_of(model)[name], before[name] - 0.5 * gradients[name]) < 1e-6


@pytest.mark.slow
def test_rates_and_momentum_in_the_state_reach_a_compiled_step(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where MLX keeps compiled kernels on a CPU
    models = [tiny(n_embd=8, n_layer=1, n_head=1, n_kv_head=1, vocab_size=5) for _ in range(2)]
    compiled, plain = optimizers = [make_optimizer(model) for model in models]
    state = [models[0].state, *(each.state for each in compiled.optimizers)]
    step = mx.compile(lambda gradients: compiled.update(models[0], gradients), inputs=state, outputs=state)
    base = [each.learning_rate for each in plain.optimizers]
    for n in range(4):
        for optimizer in optimizers:
            for each, rate in zip(optimizer.optimizers, base, strict=True):
                each.learning_rate = rate * (1 - 0.2 * n)
            optimizer.optimizers[0].state["momentum"] = mx.array(0.95 - 0.3 * n)
        gradients = random_gradients(models[0], n)
        step(tree_unflatten([(name, mx.array(g)) for name, g in gradients.items()]))
        update(plain, models[1], gradients)
        for name, array in weights_of(models[0]).items():
            assert distance(array, weights_of(models[1])[name]) <= 2e-6, f"{name}, step {n}"


def test_the_state_of_all_three_goes_on_where_it_was_saved():
    model, other = tiny(), tiny()
    optimizer = make_optimizer(model)
    for step in range(3):
        update(optimizer, model, random_gradients(model, step))
    other.update(model.parameters())
    second = make_optimizer(other)
    second.state = tree_unflatten([(name, mx.array(array)) for name, array in tree_flatten(optimizer.state)])
    for step in range(3, 6):
        update(optimizer, model, random_gradients(model, step))
        update(second, other, random_gradients(model, step))
    assert all(mx.array_equal(array, weights_of(other)[name]) for name, array in weights_of(model).items())


def test_defaults_are_nanochats():
    defaults = {name: p.default for name, p in inspect.signature(lr_multiplier).parameters.items()}
    assert list(defaults.values())[2:] == [0.0, 0.2, 0.0]
    assert [p.default for p in inspect.signature(make_optimizer).parameters.values()][1:] == [0.02, 0.2, 0.004, Muon]

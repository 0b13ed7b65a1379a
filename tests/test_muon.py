"""Newton–Schulz and Muon are those of a float64 reference; schedules survive mx.compile; bad input is refused."""

import math
import re

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers
import numpy as np
import pytest
from count_kernels import primitives
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten, tree_unflatten

from course_lib import backend
from course_lib.classroom.exercises import muon as exercises
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train import stacks
from course_lib.train.muon import Muon, newton_schulz

TALL, WIDE, SQUARE, STACKED = (40, 12), (12, 40), (24, 24), (2, 3, 9, 6)
SHAPES = [TALL, WIDE, SQUARE, STACKED, (2, 6, 9), (1, 7), (7, 1), (1, 1)]

# Jordan's numbers, written here again; the least and the largest that five rounds of his polynomial
# make of a number between 0.01 and 1.
A, B, C = 3.4445, -4.7750, 2.0315
BAND = (0.6818, 1.1344)


# ---- the reference, in float64


def reference_newton_schulz(g, steps=5):
    """One matrix at a time, from its definition: a X + b X Xᵀ X + c X Xᵀ X Xᵀ X. No side is chosen."""
    g = np.asarray(g, dtype=np.float64)
    if g.ndim > 2:
        return np.stack([reference_newton_schulz(each, steps) for each in g])
    x = g / (math.sqrt((g * g).sum()) + 1e-7)
    for _ in range(steps):
        x = A * x + B * x @ x.T @ x + C * x @ x.T @ x @ x.T @ x
    return x


class ReferenceMuon:
    """Muon in float64; rate and momentum are told at each step."""

    def __init__(self, weight, nesterov=True, steps=5):
        self.weight, self.average = np.array(weight, dtype=np.float64), 0.0
        self.nesterov, self.steps = nesterov, steps

    def step(self, gradient, rate, momentum):
        gradient = np.array(gradient, dtype=np.float64)
        self.average = self.average + (1 - momentum) * (gradient - self.average)
        ahead = gradient + momentum * (self.average - gradient) if self.nesterov else self.average
        rows, columns = self.weight.shape[-2:]
        longer = math.sqrt(rows / columns) if rows > columns else 1.0
        self.weight = self.weight - rate * longer * reference_newton_schulz(ahead, self.steps)
        return self.weight


def schedule(step):
    """A rate and a momentum that change at every step."""
    return 0.02 * (1 + math.sin(step)), 0.85 + 0.1 * step / 12


def normal(shape, seed, spread=1.0):
    return (spread * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def with_singular_values(shape, sizes):
    """A matrix of these singular values (a stack has them in each), and its directions left and right."""
    rows, columns, rank = *shape[-2:], len(sizes)
    left, right = (np.linalg.qr(normal((*shape[:-2], n, rank), seed))[0] for n, seed in ((rows, 2), (columns, 3)))
    return ((left * sizes) @ right.swapaxes(-1, -2)).astype(np.float32), left, right


def singular_values(array):
    return np.linalg.svd(np.array(array, dtype=np.float64), compute_uv=False)


def distance(a, b):
    return np.abs(np.array(a, dtype=np.float64) - np.array(b, dtype=np.float64)).max()


# ---- Newton–Schulz


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1.0, 1e-8, 1e12])  # at 1e-8 the 1e-7 beside the norm matters
def test_newton_schulz_is_that_of_the_float64_reference(shape, size):
    g = normal(shape, 0, size)
    ours = newton_schulz(mx.array(g))
    assert ours.shape == shape and ours.dtype == mx.float32
    assert distance(ours, reference_newton_schulz(g)) <= 2e-6


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_the_number_of_steps_is_that_asked_for(steps):
    g = normal(WIDE, 1)
    assert distance(newton_schulz(mx.array(g), steps), reference_newton_schulz(g, steps)) <= 2e-6


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE, (2, 30, 10)])
def test_singular_values_end_in_the_band_and_the_directions_stay(shape):
    rank = min(shape[-2:])
    g, left, right = with_singular_values(shape, np.geomspace(1, 30, rank))  # the least: more than 0.01 of the norm
    u = np.array(newton_schulz(mx.array(g)), dtype=np.float64)
    values = singular_values(u)
    assert values.shape[-1] == rank and BAND[0] - 1e-4 < values.min() and values.max() < BAND[1] + 1e-4
    along = left.swapaxes(-1, -2) @ u @ right  # (…, rank, rank): diagonal where the directions stayed
    assert distance(along, along * np.eye(rank)) < 1e-5 and (np.diagonal(along, axis1=-2, axis2=-1) > 0.6).all()


def test_each_singular_value_goes_through_the_polynomial():
    sizes = np.array([0.9, 0.3, 0.05, 0.01, 0.001, 0.0])
    expected = sizes / np.linalg.norm(sizes)
    for _ in range(5):
        expected = A * expected + B * expected**3 + C * expected**5
    u = newton_schulz(mx.array(np.diag(sizes).astype(np.float32)))
    assert distance(u, np.diag(expected)) <= 2e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_zeros_stay_zeros(shape):
    assert mx.array_equal(newton_schulz(mx.zeros(shape)), mx.zeros(shape))


def test_a_zero_matrix_in_a_stack_does_not_touch_its_neighbours():
    g = normal((3, 5, 4), 4)
    g[1] = 0
    u = newton_schulz(mx.array(g))
    assert not u[1].any()
    assert distance(u, reference_newton_schulz(g)) <= 2e-6


@pytest.mark.parametrize("dtype, off", [(mx.bfloat16, 2**-8), (mx.float16, 2**-11)])
def test_low_precision_comes_back_as_it_came_and_is_computed_in_float32(dtype, off):
    g = mx.array(normal(WIDE, 5)).astype(dtype)
    u = newton_schulz(g)
    assert u.dtype == dtype
    exact = reference_newton_schulz(np.array(g.astype(mx.float32)))
    assert distance(u.astype(mx.float32), exact) <= off * np.abs(exact).max(), "more than rounding once"


matrices = st.builds(
    lambda rows, columns, seed: normal((rows, columns), seed),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 10**6),
)
few = settings(max_examples=40, deadline=None)


@few
@given(matrices, st.floats(0, 15))
def test_the_size_of_the_gradient_does_not_matter_and_its_sign_does(g, power):
    g /= np.linalg.norm(g)
    u = newton_schulz(mx.array(g))
    larger = mx.array((g * 10**power).astype(np.float32))
    assert distance(newton_schulz(larger), u) < 2e-5
    assert mx.array_equal(newton_schulz(-larger), -newton_schulz(larger))


@few
@given(matrices, st.integers(0, 10**6))
def test_turning_the_gradient_turns_the_result(g, seed):
    """NS(Q g) = Q NS(g) and NS(g R) = NS(g) R for orthogonal Q and R."""
    q, r = (np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0] for n in g.shape)
    u = np.array(newton_schulz(mx.array(g)), dtype=np.float64)
    assert distance(newton_schulz(mx.array((q @ g).astype(np.float32))), q @ u) < 5e-5
    assert distance(newton_schulz(mx.array((g @ r).astype(np.float32))), u @ r) < 5e-5


@few
@given(matrices)
def test_the_transpose_of_the_gradient_gives_the_transpose(g):
    assert distance(newton_schulz(mx.array(g.T)), newton_schulz(mx.array(g)).T) < 2e-5


@few
@given(matrices, st.lists(st.integers(1, 3), min_size=1, max_size=2), st.integers(0, 10**6))
def test_matrices_in_a_stack_are_on_their_own(g, stack, seed):
    stacked = normal((*stack, *g.shape), seed)
    stacked.reshape(-1, *g.shape)[-1] = g
    u = newton_schulz(mx.array(stacked))
    assert u.shape == stacked.shape
    each = [np.array(newton_schulz(mx.array(m))) for m in stacked.reshape(-1, *g.shape)]
    assert distance(u.reshape(-1, *g.shape), np.stack(each)) < 2e-5


@few
@given(matrices)
def test_singular_values_never_leave_what_the_polynomial_can_give(g):
    assert singular_values(newton_schulz(mx.array(g))).max() < 1.2025


@pytest.mark.parametrize("shape", [(1000, 4), (4, 1000), (3, 1000, 4)])
def test_the_products_are_of_the_shorter_side(shape):
    """The other way round gives the same numbers, from products of 1000 x 1000: 4 MB, not 64 bytes."""
    g = mx.array(normal(shape, 7))
    mx.eval(g)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(newton_schulz(g))
    assert mx.get_peak_memory() - before < 30 * g.nbytes


@pytest.mark.parametrize("shape", [(5,), ()])
def test_newton_schulz_of_no_matrix_is_refused(shape):
    words = rf"newton_schulz got an array of shape \({'5,' if shape else ''}\); it needs a matrix"
    with pytest.raises(CourseError, match=words):
        newton_schulz(mx.ones(shape))


# ---- Muon


def run(optimizer, weights, gradients, each_step=None):
    """The weights by name after the steps; each_step(n, optimizer) before each."""
    for n, now in enumerate(gradients):
        if each_step:
            each_step(n, optimizer)
        weights = optimizer.apply_gradients(now, weights)
        mx.eval(weights, optimizer.state)
    return weights


def set_schedule(n, optimizer):
    optimizer.state["learning_rate"], optimizer.state["momentum"] = (mx.array(value) for value in schedule(n))


@pytest.mark.parametrize("kind", ["cpu", "metal"])  # one by one, and all of a shape at once
@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"ns_steps": 3}])
def test_twelve_steps_of_changing_rate_and_momentum_are_those_of_the_reference(options, kind, monkeypatch):
    monkeypatch.setattr(backend, "device_kind", lambda: kind)
    monkeypatch.setattr(stacks, "STACKED", 2 * 40 * 12)  # of the three of this size two, and one
    shapes = {
        "tall": TALL,
        "wide": WIDE,
        "square": SQUARE,
        "stacked": STACKED,
        "tall too": TALL,
        "lying": STACKED[::-1],
    }
    weights = {name: mx.array(normal(shape, n)) for n, (name, shape) in enumerate(shapes.items())}
    references = {
        name: ReferenceMuon(w, options.get("nesterov", True), options.get("ns_steps", 5)) for name, w in weights.items()
    }
    optimizer = Muon(**options)
    for step in range(12):
        gradients = {name: normal(shape, 100 * step + n) for n, (name, shape) in enumerate(shapes.items())}
        set_schedule(step, optimizer)
        weights = optimizer.apply_gradients({name: mx.array(g) for name, g in gradients.items()}, weights)
        for name, reference in references.items():
            expected = reference.step(gradients[name], *schedule(step))
            assert distance(weights[name], expected) <= 2e-6, f"{name}, step {step}"
            assert distance(optimizer.state[name]["average"], reference.average) <= 2e-6
    assert optimizer.state["step"].item() == 12


def test_the_defaults_are_nanochats_and_rate_and_momentum_can_be_given():
    w, gradients = normal(TALL, 0), [normal(TALL, seed) for seed in range(1, 5)]
    for options, rate, momentum in (
        ({}, 0.02, 0.95),
        ({"learning_rate": 0.3, "momentum": 0.5}, 0.3, 0.5),
        ({"learning_rate": 1, "momentum": 0}, 1, 0),  # whole numbers are no other kind of rate
    ):
        reference = ReferenceMuon(w)
        for g in gradients:
            reference.step(g, rate, momentum)
        ours = run(Muon(**options), {"w": mx.array(w)}, [{"w": mx.array(g)} for g in gradients])["w"]
        assert distance(ours, reference.weight) <= 2e-6


def test_a_schedule_given_as_a_function_of_the_step_is_followed():
    w, gradients = normal(WIDE, 0), [normal(WIDE, seed) for seed in range(1, 5)]
    optimizer = Muon(lambda step: 0.1 / (1 + step), momentum=lambda step: 0.5 + 0.1 * step)
    reference = ReferenceMuon(w)
    for step, g in enumerate(gradients):
        reference.step(g, 0.1 / (1 + step), 0.5 + 0.1 * step)
    ours = run(optimizer, {"w": mx.array(w)}, [{"w": mx.array(g)} for g in gradients])["w"]
    assert distance(ours, reference.weight) <= 2e-6


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_mlxs_own_where_that_one_can_be_compared(shape, nesterov):
    """At a constant momentum and without weight decay, both take the same steps."""
    w, gradients = mx.array(normal(shape, 0)), [{"w": mx.array(normal(shape, seed))} for seed in range(1, 13)]
    ours = Muon(0.02, 0.9, nesterov)
    theirs = mlx.optimizers.Muon(0.02, 0.9, weight_decay=0, nesterov=nesterov)
    a, b = (run(optimizer, {"w": w}, gradients)["w"] for optimizer in (ours, theirs))
    assert distance(a, w) > 0.05 and distance(a, b) <= 2e-6


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs_own_as_far_as_bfloat16_goes(shape, nesterov):
    """PyTorch, which this project does not need, makes Newton–Schulz in bfloat16: about 1 % off."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    w = normal(shape, 0)
    theirs = torch.nn.Parameter(torch.tensor(w))
    peer = torch.optim.Muon([theirs], weight_decay=0, nesterov=nesterov)
    optimizer, weights = Muon(nesterov=nesterov), {"w": mx.array(w)}
    for step in range(12):
        g = normal(shape, 1 + step)
        peer.param_groups[0]["lr"], peer.param_groups[0]["momentum"] = schedule(step)
        theirs.grad = torch.tensor(g)
        peer.step()
        set_schedule(step, optimizer)
        weights = optimizer.apply_gradients({"w": mx.array(g)}, weights)
    ours, theirs = np.array(weights["w"]) - w, theirs.detach().numpy() - w
    assert np.linalg.norm(ours - theirs) < 0.03 * np.linalg.norm(theirs)


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE, STACKED])
def test_zero_gradients_leave_the_weight_and_a_later_gradient_moves_it(shape):
    w, zero, g = mx.array(normal(shape, 0)), mx.zeros(shape), mx.array(normal(shape, 1))
    optimizer = Muon()
    still = run(optimizer, {"w": w}, [{"w": zero}] * 3)["w"]
    assert mx.array_equal(still, w) and not optimizer.state["w"]["average"].any()
    reference = ReferenceMuon(w)
    assert distance(run(optimizer, {"w": w}, [{"w": g}])["w"], reference.step(g, 0.02, 0.95)) <= 2e-6


def test_the_step_is_as_long_as_the_shape_says():
    """√(rows / columns) for a tall matrix, 1 for a wide one: not √max(rows, columns), a published bug."""
    for shape, factor in (((64, 16), 2.0), ((16, 64), 1.0), ((16, 16), 1.0), ((2, 36, 4), 3.0)):
        g, *_ = with_singular_values(shape, np.geomspace(1, 5, min(shape[-2:])))
        moved = run(Muon(0.1), {"w": mx.zeros(shape)}, [{"w": mx.array(g)}])["w"]
        values = singular_values(moved) / (0.1 * factor)
        assert BAND[0] - 1e-4 < values.min() and values.max() < BAND[1] + 1e-4, shape


def test_weights_are_not_decayed():
    optimizer = Muon(0.02)
    far = run(optimizer, {"w": mx.full(SQUARE, 1e4)}, [{"w": mx.array(normal(SQUARE, 1))}])["w"]
    assert distance(far, 1e4) < 0.03


@pytest.mark.slow
def test_rate_and_momentum_in_the_state_reach_a_compiled_step(tmp_path, monkeypatch):
    """A momentum that is a Python number stays, once compiled, what it was: a published bug."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where MLX keeps compiled kernels on a CPU
    model = nn.Linear(8, 20, bias=False)
    w, optimizer = np.array(model.weight), Muon()
    optimizer.init(model.trainable_parameters())
    traces = []

    def update(gradient):
        traces.append(1)
        optimizer.update(model, {"weight": gradient})

    step = mx.compile(update, inputs=[model.state, optimizer.state], outputs=[model.state, optimizer.state])
    reference = ReferenceMuon(w)
    for n in range(12):
        g = normal((20, 8), n)
        set_schedule(n, optimizer)
        step(mx.array(g))
        mx.eval(model.state, optimizer.state)
        assert distance(model.weight, reference.step(g, *schedule(n))) <= 2e-6, f"step {n}"
    assert len(traces) == 1, "it was compiled again: the test shows nothing"
    assert optimizer.state["step"].item() == 12


def test_on_a_gpu_all_matrices_of_a_shape_go_through_newton_schulz_at_once(monkeypatch):
    model = GPT(GPTConfig.from_depth(4, vocab_size=512))
    gradients = {name: mx.ones(weight.shape) for name, weight in tree_flatten(model.parameters()) if ".h." in name}
    mx.eval(gradients)
    products = {}
    for kind in ("cpu", "metal"):
        monkeypatch.setattr(backend, "device_kind", lambda kind=kind: kind)
        counts = primitives(Muon().directions(list(gradients.values())))
        products[kind] = counts["Matmul"] + counts["AddMM"]
    assert products == {"cpu": 24 * 15, "metal": 2 * 15}, "16 square matrices, and 8 of which one side is longer"
    monkeypatch.setattr(stacks, "STACKED", 3 * 256 * 256)
    counts = primitives(Muon().directions(list(gradients.values())))
    assert counts["Matmul"] + counts["AddMM"] == (6 + 8) * 15, "3 square ones at a time, of the longer ones each alone"


@pytest.mark.parametrize("kind", ["cpu", "metal"])
def test_the_state_is_arrays_by_name_and_goes_on_where_it_was_saved(kind, monkeypatch):
    monkeypatch.setattr(backend, "device_kind", lambda: kind)
    w, gradients = mx.array(normal(TALL, 0)), [{"w": mx.array(normal(TALL, seed))} for seed in range(1, 9)]
    first = Muon()
    halfway = run(first, {"w": w}, gradients[:4], set_schedule)
    saved = dict(tree_flatten(first.state))
    assert set(saved) == {"step", "learning_rate", "momentum", "w.average"}
    assert all(isinstance(array, mx.array) for array in saved.values())
    assert saved["w.average"].shape == TALL and saved["learning_rate"].dtype == mx.float32
    second = Muon()
    second.state = tree_unflatten(list(saved.items()))
    a, b = (run(optimizer, halfway, gradients[4:])["w"] for optimizer in (first, second))
    assert mx.array_equal(a, b)
    assert distance(run(Muon(), halfway, gradients[4:])["w"], a) > 1e-3, "the state mattered"


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_a_low_precision_weight_keeps_its_type(dtype):
    w, gradients = normal(WIDE, 0), [normal(WIDE, seed) for seed in range(1, 5)]
    optimizer, weights, reference = Muon(0.1, 0.9), {"w": mx.array(w).astype(dtype)}, ReferenceMuon(w)
    for g in gradients:
        weights = optimizer.apply_gradients({"w": mx.array(g).astype(dtype)}, weights)
        reference.step(g, 0.1, 0.9)
        assert weights["w"].dtype == optimizer.state["w"]["average"].dtype == dtype
    assert distance(weights["w"].astype(mx.float32), reference.weight) < 0.05
    assert optimizer.state["momentum"].dtype == optimizer.learning_rate.dtype == mx.float32


def test_a_parameter_that_is_no_matrix_is_refused_before_anything_moves():
    model = nn.Linear(3, 4)
    w = mx.array(model.weight)
    words = r"Muon got a parameter of shape \(4,\); give it matrices, the rest to AdamW"
    with pytest.raises(CourseError, match=words):
        Muon().init(model.trainable_parameters())
    with pytest.raises(CourseError, match=words):
        Muon().update(model, {"weight": mx.ones((4, 3)), "bias": mx.ones((4,))})
    assert mx.array_equal(model.weight, w)
    with pytest.raises(CourseError, match=r"shape \(\)"):
        Muon().init({"w": mx.array(1.0)})


# ---- the exercises of chapter 09: right answers pass, and the message for a wrong one teaches


def right_polar(g, coefficients=(1.5, -0.5), rounds=60, size=None):
    tall = g.shape[0] > g.shape[1]
    x = g.T if tall else g
    x = x / (mx.linalg.norm(x) if size is None else size)
    for _ in range(rounds):
        x = coefficients[0] * x + coefficients[1] * x @ x.T @ x
    return x.T if tall else x


def some_orthogonal(rows, columns):
    q, _ = mx.linalg.qr(mx.random.normal((max(rows, columns), min(rows, columns))), stream=mx.cpu)
    return q if rows >= columns else q.T


def change(step, rows, columns, rate=1.0, direction=None):
    """The root mean square of what a step of this rate adds to the output of the layer."""
    direction = some_orthogonal(rows, columns) if direction is None else direction
    x = mx.random.normal((4000, columns))
    return mx.sqrt(mx.square(x @ step(direction, rate).T).mean()).item()


def length(step, rows, columns):
    direction = some_orthogonal(rows, columns)
    return (mx.linalg.norm(step(direction, 1.0)) / mx.linalg.norm(direction)).item()


def right_warmdown(it, steps, ratio=0.2, whole=round, late=0, shape=lambda share: 1 - math.sqrt(share)):
    warmdown = whole(ratio * steps)
    return 1.0 if it <= steps - warmdown + late else shape((it - late - steps + warmdown) / warmdown)


def test_exercise_checks_accept_right_answers():
    exercises.polar(right_polar)
    exercises.scale_error(change)
    exercises.scale_error(lambda step, rows, columns: change(step, rows, columns, 0.02) / 0.02)
    exercises.sqrt_warmdown(right_warmdown)


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.polar, lambda g: None, "return"),
        (exercises.polar, newton_schulz, "Muon's coefficients never settle"),
        (exercises.polar, lambda g: newton_schulz(g, 60), "Muon's coefficients never settle"),
        (exercises.polar, lambda g: right_polar(g, rounds=5), "go on until"),
        (exercises.polar, lambda g: right_polar(g, size=1.0), "divide by its size"),
        (exercises.polar, lambda g: g / mx.linalg.norm(g), "go on until"),
        (exercises.polar, lambda g: right_polar(g).T, "that of g transposed"),
        (exercises.polar, lambda g: right_polar(g if len(g) <= len(g.T) else g.T), "turned over and not back"),
        (exercises.polar, lambda g: some_orthogonal(*g.shape), "not the nearest"),
        (exercises.polar, lambda g: -right_polar(g), "not the nearest"),
        (exercises.scale_error, lambda *args: None, "return"),
        (exercises.scale_error, lambda *args: 1.0, "never calls step"),
        (exercises.scale_error, length, "measure what comes out of a layer, not the size of the step"),
        (exercises.scale_error, lambda *args: change(*args, 0.02), "divide what comes out by the rate"),
        (exercises.scale_error, lambda *args: 1 / change(*args), "too short"),
        (exercises.scale_error, lambda *args: change(*args) ** 2, "root"),
        (
            exercises.scale_error,
            lambda step, m, n: change(step, m, n, direction=mx.ones((m, n))),
            "orthogonal direction",
        ),
        (exercises.scale_error, lambda step, m, n: change(step, n, m), "direction of shape"),
        (
            exercises.scale_error,
            lambda step, m, n: mx.linalg.norm(step(some_orthogonal(m, n), 1.0)).item(),
            "measure what comes out of a layer",
        ),
        (exercises.sqrt_warmdown, lambda *args: None, "return"),
        (exercises.sqrt_warmdown, lambda *args: right_warmdown(*args, shape=lambda p: 1 - p), "straight line"),
        (
            exercises.sqrt_warmdown,
            lambda *args: right_warmdown(*args, shape=lambda p: math.sqrt(1 - p)),
            "what is left",
        ),
        (
            exercises.sqrt_warmdown,
            lambda it, n, r=0.2: 1.0 if it <= n * (1 - r) else 1 - math.sqrt(it / n),
            "of the run",
        ),
        (exercises.sqrt_warmdown, lambda *args: right_warmdown(*args, late=1), "step 81 of 100"),
        (exercises.sqrt_warmdown, lambda *args: right_warmdown(*args, whole=int), "rounded to 3"),
        (exercises.sqrt_warmdown, lambda it, n, r=0.2: 1 - math.sqrt(it / n), "up to and including step 80"),
    ],
)
def test_exercise_checks_name_the_likely_mistake(test, answer, said):
    mx.random.seed(0)
    with pytest.raises(AssertionError, match=re.escape(said)):
        test(answer)


def test_a_warmdown_of_no_steps_that_divides_by_them_fails():
    def divides(it, steps, ratio=0.2):
        warmdown = round(ratio * steps)
        return 1 - math.sqrt(max(0, it - steps + warmdown) / warmdown)

    with pytest.raises(ZeroDivisionError):
        exercises.sqrt_warmdown(divides)

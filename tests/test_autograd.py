"""The engines of chapter 02: right against MLX and against nudging, at any depth; exercises know right from wrong."""

import math
import operator
import re

import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from course_lib.classroom import check
from course_lib.classroom.draw_graph import draw_graph, draw_product_gradients
from course_lib.classroom.exercises import autograd as exercises
from course_lib.host.errors import CourseError
from course_lib.names.autograd import Tensor, Value, sum_to, topological_order

# A random expression is a tree: ("leaf", index), ("number", x), (name, tree) or (name, tree, tree). `shift` keeps
# logarithms, quotients and fractional powers away from where they do not exist: they see tree² + 1.
UNARY = ("neg", "square", "cube", "inverse", "root", "exp", "log", "tanh", "relu")
BINARY = ("add", "sub", "mul", "div")
NUMBERS = st.floats(-2, 2).map(lambda x: round(x, 3))
LEAVES = st.one_of(st.tuples(st.just("leaf"), st.integers(0, 2)), st.tuples(st.just("number"), NUMBERS))
TREES = st.recursive(
    LEAVES,
    lambda tree: st.one_of(
        st.tuples(st.sampled_from(UNARY), tree),
        st.tuples(st.sampled_from(BINARY), tree, tree),
        st.tuples(st.just("twice"), tree),
    ),
    max_leaves=12,
)
POINTS = st.tuples(NUMBERS, NUMBERS, NUMBERS)


def evaluate(tree, leaves, number, functions):
    """The value of a tree: `number` wraps constants, `functions` holds exp, log, tanh and relu."""
    name, *parts = tree
    if name == "leaf":
        return leaves[parts[0]]
    if name == "number":
        return number(parts[0])
    a, *rest = (evaluate(part, leaves, number, functions) for part in parts)
    if rest:
        b = rest[0]
        return a / (b * b + number(1.0)) if name == "div" else getattr(operator, name)(a, b)
    return {
        "neg": lambda: -a,
        "square": lambda: a ** functions["power"](2.0),
        "cube": lambda: a ** functions["power"](3.0),
        "inverse": lambda: (a * a + number(1.0)) ** functions["power"](-1.0),
        "root": lambda: (a * a + number(1.0)) ** functions["power"](0.5),
        "exp": lambda: functions["exp"](-(a * a)),
        "log": lambda: functions["log"](a * a + number(1.0)),
        "tanh": lambda: functions["tanh"](a),
        "relu": lambda: functions["relu"](a),
        "twice": lambda: a * a + a,
    }[name]()


ENGINE = {"exp": Value.exp, "log": Value.log, "tanh": Value.tanh, "relu": Value.relu, "power": float}


def float64(number):
    return mx.array(np.array(number), dtype=mx.float64)


IN_MLX = {
    "exp": lambda x: mx.power(float64(math.e), x),  # mx.exp has a float32 short cut even for float64 (mlx issue 3047)
    "log": mx.log,
    "tanh": mx.tanh,
    "relu": lambda x: mx.maximum(x, float64(0.0)),
    "power": float64,
}


def in_engine(tree, leaves):
    """The tree as a Value; one that is too large for a float skips the example."""
    try:
        return evaluate(tree, leaves, Value, ENGINE)
    except CourseError:
        assume(False)


def engine_result(tree, point):
    """(value, gradients) by the engine; a kink of relu at 0, or a number too large to compare, skips the example."""
    leaves = [Value(x) for x in point]
    result = in_engine(tree, leaves)
    nodes = topological_order(result)
    assume(all(abs(node.data) < 1e3 for node in nodes))
    off = [node.parents[0].data for node in nodes if len(node.parents) == 1 and node.slopes[0] in (0.0, 1.0)]
    assume(all(abs(data) > 1e-3 for data in off))
    result.backward()
    return result.data, [leaf.grad for leaf in leaves]


@settings(max_examples=150, deadline=None)
@given(TREES, POINTS)
@example(("twice", ("mul", ("leaf", 0), ("exp", ("leaf", 0)))), (0.5, 0.0, 0.0))
def test_random_expressions_agree_with_mlx(tree, point):
    data, grads = engine_result(tree, point)
    with mx.stream(mx.cpu):  # float64 exists on the CPU only

        def in_mlx(*leaves):
            return evaluate(tree, leaves, float64, IN_MLX) + float64(0.0) * sum(leaves)

        theirs, their_grads = mx.value_and_grad(in_mlx, argnums=(0, 1, 2))(*map(float64, point))
        assert data == pytest.approx(theirs.item(), rel=1e-10, abs=1e-10)
        assert grads == pytest.approx([grad.item() for grad in their_grads], rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(TREES, POINTS)
def test_random_expressions_agree_with_nudging(tree, point):
    _, grads = engine_result(tree, point)

    def data_at(index, step):
        moved = [Value(x + step * (n == index)) for n, x in enumerate(point)]
        return in_engine(tree, moved).data

    for index, grad in enumerate(grads):
        wide, narrow = ((data_at(index, h) - data_at(index, -h)) / (2 * h) for h in (1e-4, 1e-5))
        assume(abs(wide - narrow) <= 1e-4 * (1 + abs(narrow)))  # where it bends too much, nudging says nothing
        assert grad == pytest.approx(narrow, rel=1e-3, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(TREES)
def test_topological_order_lists_each_value_once_and_parents_first(tree):
    leaves = [Value(0.5), Value(-0.3), Value(0.8)]
    root = in_engine(tree, leaves)
    order = topological_order(root)
    place = {node: index for index, node in enumerate(order)}
    assert len(place) == len(order)
    assert order[-1] is root
    assert all(place[parent] < place[node] for node in order for parent in node.parents)


@pytest.mark.parametrize(
    ("name", "result", "grads"),
    [
        ("a + b", lambda a, b: a + b, (1, 1)),
        ("a - b", lambda a, b: a - b, (1, -1)),
        ("a * b", lambda a, b: a * b, (4, 2)),
        ("a / b", lambda a, b: a / b, (0.25, -0.125)),
        ("-a + 0b", lambda a, b: -a + 0 * b, (-1, 0)),
        ("a ** 3 + 0b", lambda a, b: a**3 + 0 * b, (12, 0)),
        ("a ** 0 + 0b", lambda a, b: a**0 + 0 * b, (0, 0)),
    ],
)
def test_each_operation_has_its_slopes(name, result, grads):
    a, b = Value(2.0), Value(4.0)
    result(a, b).backward()
    assert (a.grad, b.grad) == pytest.approx(grads), name


@pytest.mark.parametrize("number", [3, 3.0, True, np.float32(3), np.float64(3), np.int64(3)])
@pytest.mark.parametrize("apply", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_plain_numbers_work_on_both_sides(apply, number):
    plain = float(number)
    right, left = apply(Value(2.0), number), apply(number, Value(2.0))
    assert isinstance(right, Value) and isinstance(left, Value)
    assert right.data == pytest.approx(apply(2.0, plain))
    assert left.data == pytest.approx(apply(plain, 2.0))


@pytest.mark.parametrize(
    ("apply", "slope"), [(operator.add, 1), (operator.sub, -1), (operator.mul, 3), (operator.truediv, -0.75)]
)
def test_gradients_flow_through_reflected_operations(apply, slope):
    a = Value(2.0)
    apply(3, a).backward()
    assert a.grad == pytest.approx(slope)


def test_sum_of_values_starts_at_zero():
    values = [Value(1.0), Value(2.0), Value(3.0)]
    total = sum(values)
    total.backward()
    assert total.data == 6.0
    assert [value.grad for value in values] == [1.0, 1.0, 1.0]


def test_data_is_a_float_and_grad_starts_at_zero():
    value = Value(3)
    assert (value.data, value.grad, value.parents) == (3.0, 0.0, ())
    assert isinstance(value.data, float)
    assert repr(value) == "Value(data=3, grad=0)"


def test_a_value_used_twice_collects_both_gradients():
    a = Value(3.0)
    (a * a + a + a).backward()
    assert a.grad == 8.0


def test_backward_twice_doubles_every_gradient():
    a, b = Value(2.0), Value(-3.0)
    middle = (a * b).exp() + a
    result = middle * middle
    result.backward()
    once = [node.grad for node in (a, b, middle, result)]
    result.backward()
    assert [node.grad for node in (a, b, middle, result)] == [2 * grad for grad in once]


def test_gradients_of_two_results_add_up():
    a = Value(2.0)
    shared = a * a
    (shared * 3).backward()
    (shared + 1).backward()
    assert a.grad == 16.0


def test_backward_leaves_unrelated_values_alone():
    a, other = Value(2.0), Value(5.0)
    result, unrelated = a * 2, a * other
    result.backward()
    assert (a.grad, other.grad, unrelated.grad) == (2.0, 0.0, 0.0)


def test_backward_of_a_leaf_is_one():
    a = Value(2.0)
    a.backward()
    assert a.grad == 1.0


@pytest.mark.slow
def test_a_chain_of_100_000_does_not_overflow_the_stack():
    start = end = Value(0.0)
    for _ in range(100_000):
        end = end + 1e-5
    end.backward()
    assert start.grad == 1.0
    del end  # freeing a deep graph must not overflow either


def test_shared_values_are_walked_once():
    a = result = Value(1.0)
    for _ in range(60):  # 2 ** 60 paths
        result = result + result
    result.backward()
    assert a.grad == 2.0**60
    assert len(topological_order(result)) == 61


@pytest.mark.parametrize(("number", "slope"), [(-1.0, 0.0), (0.0, 0.0), (2.0, 1.0)])
def test_relu_and_its_square(number, slope):
    a, b = Value(number), Value(number)
    a.relu().backward()
    (b.relu() ** 2).backward()
    assert a.grad == slope
    assert b.grad == 2 * max(number, 0.0)


def test_a_nan_is_not_hidden_by_relu():
    assert math.isnan(Value(math.nan).relu().data)


@pytest.mark.parametrize(
    ("base", "exponent", "power", "slope"),
    [(0, 0, 1, 0), (0, 1, 0, 1), (0, 2, 0, 0), (-2, 3, -8, 12), (-2, -1, -0.5, -0.25)],
)
def test_powers_at_the_edges(base, exponent, power, slope):
    a = Value(base)
    result = a**exponent
    result.backward()
    assert (result.data, a.grad) == (power, slope)


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda: Value(0.0) ** -1, r"0 \*\* -1 has no finite value"),
        (lambda: Value(1.0) / Value(0.0), r"a / b means a \* b \*\* -1"),
        (lambda: 1 / Value(0.0), r"keep the base away from 0"),
        (lambda: Value(1.0) / 0, r"0 \*\* -1"),
        (lambda: Value(0.0) ** 0.5, "finite slope"),
        (lambda: Value(-2.0) ** 0.5, r"-2 \*\* 0.5 has no finite value"),
        (lambda: Value(10.0) ** 400, r"10 \*\* 400"),
        (lambda: Value(2.0) ** Value(3.0), r"exponent must be a plain number.*\(b \* a\.log\(\)\)\.exp\(\)"),
        (lambda: 2 ** Value(3.0), r"exponent must be a plain number"),
        (lambda: Value(2.0) ** "3", r"exponent must be a plain number, got '3'"),
        (lambda: Value(0.0).log(), "log needs a number above 0, got 0"),
        (lambda: Value(-1.5).log(), "log needs a number above 0, got -1.5"),
        (lambda: Value(1000.0).exp(), r"exp\(1000\) is too large"),
        (lambda: Value("3"), "one plain number, got '3'"),
        (lambda: Value(None), "one plain number, got None"),
        (lambda: Value(1j), "one plain number"),
        (lambda: Value(Value(1.0)), r"one plain number, got Value\(data=1"),
        (lambda: Value(1.0) + "2", "one plain number, got '2'"),
        (lambda: Value(1.0) * np.ones(2), "one plain number"),
        (lambda: Value(mx.array(1.0)), "one plain number"),
    ],
)
def test_a_mistake_gets_one_clear_sentence(mistake, says):
    with pytest.raises(CourseError, match=says) as caught:
        mistake()
    message = str(caught.value)
    assert "\n" not in message and ";" in message, "what was wrong; what to do"


def network(E, b, U, shares, relu, exp, log, total):
    """A loss that uses every operation of Tensor, with b broadcast over rows and sums over columns."""
    hidden = relu(E + b)
    logits = (hidden * hidden) @ U
    return total((log(total(exp(logits), 1)) - logits) * shares, None)


def test_a_network_of_tensors_agrees_with_mlx():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((5, 4), (4,), (4, 3))]
    shares = rng.random((5, 3))
    tensors = [Tensor(array) for array in arrays]
    loss = network(*tensors, Tensor(shares), Tensor.relu, Tensor.exp, Tensor.log, Tensor.sum)
    loss.backward()
    with mx.stream(mx.cpu):

        def in_mlx(*arrays):
            exp64, log = IN_MLX["exp"], IN_MLX["log"]
            add_up = lambda x, axis: x.sum(axis=axis, keepdims=axis is not None)  # noqa: E731
            return network(*arrays, float64(shares), IN_MLX["relu"], exp64, log, add_up)

        theirs, gradients = mx.value_and_grad(in_mlx, argnums=(0, 1, 2))(*map(float64, arrays))
        assert loss.data == pytest.approx(theirs.item(), rel=1e-12)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            assert tensor.grad.shape == tensor.data.shape
            assert np.allclose(tensor.grad, np.array(gradient), rtol=1e-10)


@pytest.mark.parametrize(
    ("shape", "summed"), [((2, 3), [[1] * 3] * 2), ((3,), [2] * 3), ((2, 1), [[3], [3]]), ((1, 3), [[2] * 3]), ((), 6)]
)
def test_what_was_broadcast_collects_all_its_reports(shape, summed):
    assert np.array_equal(sum_to(np.ones((2, 3)), shape), summed)
    tensor = Tensor(np.zeros(shape))
    (tensor + Tensor(np.zeros((2, 3)))).sum().backward()
    assert np.array_equal(tensor.grad, summed)


def test_a_tensor_used_twice_collects_both_gradients_and_walks_add_up():
    a = Tensor([2.0, -3.0])
    loss = (a * a + a).sum()
    loss.backward()
    loss.backward()
    assert a.grad.tolist() == [10.0, -10.0]


def test_the_drawing_has_every_value_and_every_slope():
    a, b = Value(2.0), Value(3.0)
    product = a * b
    result = product + a
    result.backward()
    draw_graph(result, {a: "a", b: "b", product: "product", result: "result"})
    texts = [text.get_text() for text in plt.gca().texts]
    plt.close()
    assert {"a\ndata 2\ngrad 4", "b\ndata 3\ngrad 2", "product\ndata 6\ngrad 1"} < set(texts)
    assert sorted(text for text in texts if text.startswith("×")) == ["× 1", "× 1", "× 2", "× 3"]


def test_the_drawing_of_a_product_shows_both_sums():
    A, B, dC = (
        np.array([[1.0, 2.0], [9.0, 9.0]]),
        np.array([[3.0, 4.0], [6.0, 7.0]]),
        np.array([[1.0, 10.0], [5.0, 0.0]]),
    )
    draw_product_gradients(A, B, dC)
    titles = [axes.get_title("left") for axes in plt.gcf().axes]
    plt.close()
    assert titles == ["dA of the 1:  3·1 + 4·10 = 43", "dB of the 3:  1·1 + 9·5 = 46"]
    assert titles[0].endswith(f"{(dC @ B.T)[0, 0]:g}") and titles[1].endswith(f"{(A.T @ dC)[0, 0]:g}")


def sigmoid(a):
    small = math.exp(-abs(a.data))
    s = (1.0 if a.data >= 0 else small) / (1.0 + small)
    return Value(s, (a,), (s * (1.0 - s),))


def rms_norm_backward(x, dy, eps=1e-5):
    scale = 1 / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)
    return scale * dy - x * scale**3 * (dy * x).mean(axis=1, keepdims=True)


def centred(mean):
    """An answer to exercise 2.3: dy minus `mean` of dy."""
    return lambda dy: dy - mean(dy)


def rms_norm(direct=1.0, through=1.0, eps=None, power=3, axis=1, total=None):
    """An answer to exercise 2.4 with a mistake: factors of both paths, eps, the power of s, the axis, the sum."""

    def answer(x, dy, given):
        s = ((x**2).mean(axis=axis, keepdims=True) + (given if eps is None else eps)) ** -0.5
        inner = total(dy * x) if total else (dy * x).sum(axis=axis, keepdims=True)
        return direct * s * dy - through * x * s**power * inner / x.shape[axis]

    return answer


def not_written(*_):
    raise NotImplementedError


def rows(dy):
    return dy.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("exercise", "answer", "verdict"),
    [
        ("sigmoid", sigmoid, "✓"),
        ("sigmoid", lambda a: 1 / (1 + (-a).exp()), "✗ .*one node"),
        ("sigmoid", lambda a: Value(1 / (1 + math.exp(-a.data)), (a,), (1.0,)), "✗ .*slope"),
        ("sigmoid", lambda a: a.relu(), "✗ .*the sigmoid of 0 is 0.5"),
        (
            "sigmoid",
            lambda a: (lambda s: Value(s, (a,), (s * (1 - s),)))(1 / (1 + math.exp(-a.data))),
            "✗ .*overflows at -1000",
        ),
        ("sigmoid", lambda a: Value(0.5, a, 0.25), "✗ .*are tuples"),
        ("sigmoid", lambda a: Value(0.5, (a,), 0.25), "✗ .*are tuples"),
        ("sigmoid", lambda a: 0.5, "✗ .*return a Value"),
        ("sigmoid", not_written, "○"),
        ("trap", lambda a, b: a * b + a, "✓"),
        ("trap", lambda a, b: a * a * b, "✓"),
        ("trap", lambda a, b: a * b, "✗ .*right for a"),
        ("trap", lambda a, b: a**2 * b, "✗ .*a power counts once"),
        ("trap", lambda a, b: a * b + a * b, "✗ .*wrong for b too"),
        ("trap", lambda a, b: a * a, "✗ .*b takes no part"),
        ("trap", lambda a, b: a * b + a * 0, "✗ .*on 2 paths, but the reports that are lost add up to 0"),
        ("centre_backward", centred(lambda dy: rows(dy) / dy.shape[1]), "✓"),
        ("centre_backward", lambda dy: dy, "✗ .*direct path only"),
        ("centre_backward", lambda dy: 0 * dy - rows(dy) / 4, "✗ .*through the mean only"),
        ("centre_backward", centred(lambda dy: -rows(dy) / 4), "✗ .*the sign"),
        ("centre_backward", centred(rows), "✗ .*1/D is missing"),
        ("centre_backward", centred(lambda dy: dy / 4), "✗ .*sum is missing"),
        ("centre_backward", centred(lambda dy: dy.mean(axis=0)), "✗ .*wrong axis"),
        ("centre_backward", centred(np.mean), "✗ .*one mean of all"),
        ("centre_backward", lambda dy: dy.mean(axis=1), "✗ .*shape"),
        ("centre_backward", lambda dy: 2 * dy, r"✗ .*dx\[\d, \d\] is .* by nudging"),
        ("rms_norm_backward", rms_norm_backward, "✓"),
        ("rms_norm_backward", rms_norm(through=0), "✗ .*direct path only"),
        ("rms_norm_backward", rms_norm(direct=0), "✗ .*of squares only"),
        ("rms_norm_backward", rms_norm(through=-1), "✗ .*the sign"),
        ("rms_norm_backward", rms_norm(through=4), "✗ .*1/D is missing"),
        ("rms_norm_backward", rms_norm(through=0.5), "✗ .*2 is missing"),
        ("rms_norm_backward", rms_norm(total=lambda a: a.mean(axis=1, keepdims=True)), "✗ .*took the mean"),
        ("rms_norm_backward", rms_norm(total=lambda a: a), "✗ .*sum is missing"),
        ("rms_norm_backward", rms_norm(power=1), "✗ .*the power"),
        ("rms_norm_backward", rms_norm(eps=0), "✗ .*eps is left out"),
        ("rms_norm_backward", rms_norm(eps=1e-5), "✗ .*argument eps"),
        ("rms_norm_backward", rms_norm(axis=0), "✗ .*wrong axis"),
        ("rms_norm_backward", lambda x, dy, eps: dy + rms_norm(direct=0)(x, dy, eps), "✗ .*left it at 1"),
        ("rms_norm_backward", lambda x, dy, eps: dy * x, "✗ .*by nudging"),
    ],
)
def test_exercise_checks_know_right_from_wrong(exercise, answer, verdict, capsys):
    extra = (Value,) if exercise in ("sigmoid", "trap") else ()
    check(getattr(exercises, exercise), answer, *extra)
    line = capsys.readouterr().out
    assert re.match(verdict, line), line

"""Two small engines that find derivatives: Value for single numbers, Tensor for arrays.

Reverse-mode automatic differentiation, in the spirit of micrograd.

Exported from notebooks/02_autograd.ipynb; edit it there.
"""

import math

import numpy as np

from course_lib.names.refusals import check_exp, check_log, check_number, check_power

# ---- 4. A number that remembers


class Value:
    """A number that remembers what it was made of, so that `backward` can find derivatives.

    data: the number; grad: the derivative of the result on which `backward` is called, 0.0 before.
    parents: the Values that it was computed from; slopes: the local derivative for each, floats.
    """

    def __init__(self, data: float, parents: tuple = (), slopes: tuple = ()):
        check_number(data)
        self.data, self.grad = float(data), 0.0
        self.parents, self.slopes = parents, slopes

    def __repr__(self) -> str:
        return f"Value(data={self.data:g}, grad={self.grad:g})"

    def __add__(self, other: "Value | float") -> "Value":
        other = as_value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __sub__(self, other: "Value | float") -> "Value":
        other = as_value(other)
        return Value(self.data - other.data, (self, other), (1.0, -1.0))

    def __mul__(self, other: "Value | float") -> "Value":
        other = as_value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> "Value":
        check_power(self.data, exponent)
        slope = exponent * self.data ** (exponent - 1) if exponent else 0.0
        return Value(self.data**exponent, (self,), (slope,))

    def backward(self) -> None:
        """For every value v that this one was made of, add d(this)/d(v) to `v.grad`.

        Gradients accumulate: a second call doubles them. Set `grad = 0.0` before each training step.
        """
        flow = {self: 1.0}
        for node in reversed(topological_order(self)):
            gradient = flow.pop(node)
            node.grad += gradient
            for parent, slope in zip(node.parents, node.slopes, strict=True):
                flow[parent] = flow.get(parent, 0.0) + slope * gradient

    def __neg__(self) -> "Value":
        return self * -1

    def __truediv__(self, other: "Value | float") -> "Value":
        return self * as_value(other) ** -1

    def __radd__(self, other: float) -> "Value":
        return self + other

    def __rsub__(self, other: float) -> "Value":
        return as_value(other) - self

    def __rmul__(self, other: float) -> "Value":
        return self * other

    def __rtruediv__(self, other: float) -> "Value":
        return as_value(other) / self

    def __rpow__(self, other: float) -> "Value":
        return as_value(other) ** self

    def exp(self) -> "Value":
        check_exp(self.data)
        power = math.exp(self.data)
        return Value(power, (self,), (power,))

    def log(self) -> "Value":
        check_log(self.data)
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def tanh(self) -> "Value":
        squeezed = math.tanh(self.data)
        return Value(squeezed, (self,), (1 - squeezed**2,))

    def relu(self) -> "Value":
        """The number where it is positive, else 0; the slope at 0 is 0."""
        off = self.data <= 0
        return Value(0.0 if off else self.data, (self,), (0.0 if off else 1.0,))


def as_value(number: "Value | float") -> Value:
    """The number itself if it is a Value, else a new Value of it, so that `value + 1` works."""
    return number if isinstance(number, Value) else Value(number)


# ---- 5. The graph, and the order to walk it


def topological_order(root: "Value | Tensor") -> list:
    """All nodes that `root` was made of, each once, after its parents; `root` comes last."""
    order, seen, todo = [], set(), [(root, False)]
    while todo:
        node, parents_listed = todo.pop()
        if parents_listed:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            todo.append((node, True))  # comes up again when everything above it is done
            todo.extend((parent, False) for parent in reversed(node.parents))
    return order


# ---- 9. From numbers to arrays


class Tensor:
    """An array that remembers what it was made of: `Value` for whole arrays.

    data: float64, any shape; grad: its gradient, the same shape, zeros until `backward`.
    parents: the Tensors it was computed from; reports: for each, a function from the gradient of
    this array to what the parent is told.
    """

    def __init__(self, data, parents: tuple = (), reports: tuple = ()):
        self.data = np.array(data, dtype=float)
        self.grad = np.zeros_like(self.data)
        self.parents, self.reports = parents, reports

    def sum(self, axis: int | None = None) -> "Tensor":
        """Sum over an axis, which stays with size 1; over all entries if none is given."""
        total = self.data.sum(axis=axis, keepdims=axis is not None)
        return Tensor(total, (self,), (lambda d: np.broadcast_to(d, self.data.shape),))

    def __matmul__(self, other: "Tensor") -> "Tensor":
        dA, dB = (lambda d: d @ other.data.T), (lambda d: self.data.T @ d)
        return Tensor(self.data @ other.data, (self, other), (dA, dB))

    def __mul__(self, other: "Tensor") -> "Tensor":
        reports = (lambda d: d * other.data), (lambda d: d * self.data)
        return Tensor(self.data * other.data, (self, other), reports)

    def __add__(self, other: "Tensor") -> "Tensor":
        return Tensor(self.data + other.data, (self, other), (lambda d: d, lambda d: d))

    def __sub__(self, other: "Tensor") -> "Tensor":
        return Tensor(self.data - other.data, (self, other), (lambda d: d, lambda d: -d))

    def exp(self) -> "Tensor":
        power = np.exp(self.data)
        return Tensor(power, (self,), (lambda d: d * power,))

    def log(self) -> "Tensor":
        return Tensor(np.log(self.data), (self,), (lambda d: d / self.data,))

    def relu(self) -> "Tensor":
        return Tensor(np.maximum(self.data, 0), (self,), (lambda d: d * (self.data > 0),))

    def backward(self) -> None:
        """Add the derivative of this to the `grad` of every Tensor that it was made of."""
        flow = {self: np.ones_like(self.data)}
        for node in reversed(topological_order(self)):
            gradient = flow.pop(node)
            node.grad += gradient
            for parent, report in zip(node.parents, node.reports, strict=True):
                told = sum_to(report(gradient), parent.data.shape)
                flow[parent] = flow.get(parent, 0.0) + told


def sum_to(gradient: np.ndarray, shape: tuple) -> np.ndarray:
    """The gradient of an array of this shape that was broadcast: summed where it was repeated."""
    extra = tuple(range(gradient.ndim - len(shape)))  # axes the array did not have, on the left
    gradient = gradient.sum(axis=extra)  # with () for no axes it stays as it is
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return gradient.sum(axis=repeated, keepdims=True)

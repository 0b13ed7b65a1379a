"""A scalar autograd engine: numbers that know how they were made, and so their derivatives.

Reverse-mode automatic differentiation with one object per number, in the spirit of micrograd.

Exported from notebooks/02_autograd.ipynb; edit it there.
"""

import math
from numbers import Real

from course_lib.host.errors import CourseError

# ---- A number that remembers


class Value:
    """A number that remembers what it was made of, so that `backward` can find derivatives.

    data: the number, a float.
    grad: the derivative of the result (on which you call `backward`) with respect to this number;
    0.0 until then.
    parents: the Values that it was computed from; slopes: the local derivative for each, floats.
    Raises CourseError for anything that is not one plain number.
    """

    def __init__(self, data: float, parents: tuple = (), slopes: tuple = ()):
        if not isinstance(data, Real):
            raise CourseError(f"a Value holds one plain number, got {data!r}; give an int or a float")
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
        if not isinstance(exponent, Real):
            raise CourseError(
                f"an exponent must be a plain number, got {exponent!r}; write a ** b as (b * a.log()).exp()"
            )
        try:
            power = math.pow(self.data, exponent)
            slope = exponent * math.pow(self.data, exponent - 1) if exponent else 0.0
        except (ValueError, OverflowError):
            raise CourseError(
                f"{self.data:g} ** {exponent:g} has no finite value with a finite slope "
                "(and a / b means a * b ** -1); "
                "keep the base away from 0 and, unless the exponent is whole, above it"
            ) from None
        return Value(power, (self,), (slope,))

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
        return as_value(other) ** self  # an error that says what to write instead

    def exp(self) -> "Value":
        """e to the power of this; raises CourseError where that is too large (above about 709)."""
        try:
            power = math.exp(self.data)
        except OverflowError:
            raise CourseError(
                f"exp({self.data:g}) is too large for a float; subtract the largest number from all of them first"
            ) from None
        return Value(power, (self,), (power,))

    def log(self) -> "Value":
        """Natural logarithm; raises CourseError at 0 and below."""
        if self.data <= 0:
            raise CourseError(f"log needs a number above 0, got {self.data:g}; check what computes it")
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def tanh(self) -> "Value":
        """Hyperbolic tangent, between -1 and 1."""
        squeezed = math.tanh(self.data)
        return Value(squeezed, (self,), (1 - squeezed**2,))

    def relu(self) -> "Value":
        """The number where it is positive, else 0; the slope at 0 is 0."""
        off = self.data <= 0
        return Value(0.0 if off else self.data, (self,), (0.0 if off else 1.0,))


def as_value(number: "Value | float") -> Value:
    """The number itself if it is a Value, else a new Value of it, so that `value + 1` works."""
    return number if isinstance(number, Value) else Value(number)


# ---- The graph, and the order to walk it


def topological_order(root: Value) -> list[Value]:
    """All values that `root` was made of, each once, after its parents; `root` comes last."""
    order, seen, todo = [], set(), [(root, False)]
    while todo:
        node, parents_listed = todo.pop()
        if parents_listed:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            todo.append((node, True))
            todo.extend((parent, False) for parent in reversed(node.parents))
    return order

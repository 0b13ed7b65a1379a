"""Muon: momentum whose every step is made orthogonal, for the matrices inside a model.

Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks".

Exported from notebooks/09_muon.ipynb; edit it there.
"""

import math

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.train.stacks import in_stacks

# ---- 5. Orthogonal without SVD: Newton–Schulz


COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steep at 0; five steps take 0.01 … 1 to about 0.7 … 1.13


def newton_schulz(g: mx.array, steps: int = 5) -> mx.array:
    """The nearest orthogonal matrix to g, roughly: all its singular values become about 1.

    g: (…, rows, columns), of which the last two axes are the matrix; the same shape and type come
    back, computed in float32. Zeros give zeros. Raises CourseError for fewer than two axes.
    """
    if g.ndim < 2:
        raise CourseError(f"newton_schulz got an array of shape {g.shape}; it needs a matrix")
    x = g.astype(mx.float32)
    x = x / (mx.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)  # singular values at most 1
    return in_rounds(x, [COEFFICIENTS] * steps).astype(g.dtype)


def in_rounds(x: mx.array, rounds: list[tuple[float, float, float]]) -> mx.array:
    """x (…, rows, columns) after a X + b X Xᵀ X + c X Xᵀ X Xᵀ X for each (a, b, c)."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x  # the smaller of X Xᵀ and Xᵀ X
    for a, b, c in rounds:
        xx = x @ x.swapaxes(-1, -2)
        powers = mx.addmm(xx, xx, xx, beta=b, alpha=c)  # b X Xᵀ + c X Xᵀ X Xᵀ
        x = mx.addmm(x, powers, x, beta=a)  # a X + powers X
    return x.swapaxes(-1, -2) if tall else x


# ---- 8. From a direction to a step


class Muon(optim.Optimizer):
    """Muon for matrices (…, rows, columns), rows being the outputs; no weight decay.

    The momentum is an average of the gradients; with `nesterov` the step looks ahead of it. What
    `newton_schulz` makes of that is scaled by learning_rate · √max(1, rows / columns).
    Learning rate and momentum are arrays in `state`: set them there, and a compiled step sees it.
    """

    def __init__(
        self,
        learning_rate: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
    ):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._maybe_schedule("momentum", momentum)
        self.nesterov, self.ns_steps = nesterov, ns_steps

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """Begin with no momentum. Raises CourseError when the parameter is no matrix."""
        if parameter.ndim < 2:
            raise CourseError(f"Muon got a parameter of shape {parameter.shape}; give it matrices, the rest to AdamW")
        state["average"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """Move the average of the gradients on, and look ahead: what is to be made orthogonal."""
        mu = self.state["momentum"].astype(gradient.dtype)
        state["average"] = mu * state["average"] + (1 - mu) * gradient
        return mu * state["average"] + (1 - mu) * gradient if self.nesterov else state["average"]

    def move(self, direction: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """The parameter, moved against the direction."""
        rows, columns = parameter.shape[-2:]
        rate = self.learning_rate * math.sqrt(max(1, rows / columns))
        return (parameter - rate * direction).astype(parameter.dtype)

    def orthogonal(self, matrices: mx.array) -> mx.array:
        """Each matrix (…, rows, columns), made orthogonal."""
        return newton_schulz(matrices, self.ns_steps)

    def directions(self, matrices: list[mx.array]) -> list[mx.array]:
        """What `orthogonal` makes of each matrix; on a GPU at once for all of one shape."""
        if backend.device_kind() == "cpu":
            return [self.orthogonal(matrix) for matrix in matrices]
        return in_stacks(self.orthogonal, matrices)

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        """The parameters of `gradients` after one step."""
        ahead = optim.Optimizer.apply_gradients(self, gradients, parameters)  # apply_single of each
        ready = iter(self.directions([matrix for _, matrix in tree_flatten(ahead)]))
        return tree_map(lambda _, *of: self.move(next(ready), *of), ahead, parameters, self.state)

# %% [markdown]
# # 09 · Muon

# %%
#| export muon
"""Muon: momentum whose every step is made orthogonal, for the matrices inside a model.

Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks".
"""

import math

import mlx.core as mx
import mlx.optimizers as optim

from course_lib.host.errors import CourseError

# %%
#| export muon
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steep at 0, and between about 0.7 and 1.2 from there on


def newton_schulz(g: mx.array, steps: int = 5) -> mx.array:
    """The nearest orthogonal matrix to g, roughly: all its singular values become about 1.

    g: (…, rows, columns), of which the last two axes are the matrix; the same shape and type come
    back, computed in float32. Zeros give zeros. Raises CourseError for fewer than two axes.
    """
    if g.ndim < 2:
        raise CourseError(
            f"newton_schulz got an array of shape {g.shape}; it needs a matrix, (…, rows, columns)"
        )
    a, b, c = COEFFICIENTS
    x = g.astype(mx.float32)
    tall = g.shape[-2] > g.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x  # the smaller of X Xᵀ and Xᵀ X
    x = x / (mx.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)  # singular values at most 1
    for _ in range(steps):
        s = x @ x.swapaxes(-1, -2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return (x.swapaxes(-1, -2) if tall else x).astype(g.dtype)


# %%
#| export muon
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
            raise CourseError(
                f"Muon got a parameter of shape {parameter.shape}; give it matrices, the rest to AdamW"
            )
        state["average"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """The parameter after one step."""
        return self.move(newton_schulz(self.look_ahead(gradient, state), self.ns_steps), parameter)

    def look_ahead(self, gradient: mx.array, state: dict) -> mx.array:
        """Move the average of the gradients on, and return what is to be made orthogonal."""
        m = self.state["momentum"].astype(gradient.dtype)
        state["average"] = m * state["average"] + (1 - m) * gradient
        return m * state["average"] + (1 - m) * gradient if self.nesterov else state["average"]

    def move(self, direction: mx.array, parameter: mx.array) -> mx.array:
        """The parameter, moved against the direction."""
        rows, columns = parameter.shape[-2:]
        rate = self.learning_rate * math.sqrt(max(1, rows / columns))
        return parameter - rate.astype(parameter.dtype) * direction.astype(parameter.dtype)


# %%
#| export optim
"""Which optimizer trains which parameter, and how rates and momentum change over a run.

Source: nanochat; the rates of wte and lm_head are those of a model with n_embd 768.
"""

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from course_lib.host.errors import CourseError
from course_lib.muon import Muon


# %%
#| export optim
def lr_multiplier(
    it: int,
    num_iterations: int,
    warmup_ratio: float = 0.0,
    warmdown_ratio: float = 0.2,
    final_lr_frac: float = 0.0,
) -> float:
    """What all learning rates are multiplied by at step `it` of 0 … num_iterations.

    It climbs to 1 over the first warmup_ratio of the steps, stays there, and falls along a line to
    final_lr_frac over the last warmdown_ratio of them.
    """
    warmup = round(warmup_ratio * num_iterations)
    warmdown = round(warmdown_ratio * num_iterations)
    if it < warmup:
        return (it + 1) / warmup
    if it <= num_iterations - warmdown:
        return 1.0
    left = (num_iterations - it) / warmdown
    return left + (1 - left) * final_lr_frac


def muon_momentum(it: int) -> float:
    """Muon's momentum at step `it`: from 0.85 to 0.95 over the first 300 steps."""
    share = min(it / 300, 1)
    return (1 - share) * 0.85 + share * 0.95


# %%
#| export optim
GROUPS = ("matrices", "embedding", "head")


def group_of(name: str, parameter: mx.array) -> str:
    """Which of GROUPS trains a parameter of a GPT: the one place that says it.

    Raises CourseError for a parameter that belongs to none.
    """
    if name == "transformer.wte.weight":
        return "embedding"
    if name == "lm_head.weight":
        return "head"
    if name.startswith("transformer.h.") and parameter.ndim == 2:
        return "matrices"
    raise CourseError(
        f"no optimizer trains the parameter {name} of shape {parameter.shape}; say in "
        "course_lib.optim.group_of which one does, or freeze it"
    )


def make_optimizer(
    model: nn.Module,
    matrix_lr: float = 0.02,
    embedding_lr: float = 0.2,
    unembedding_lr: float = 0.004,
    muon: Callable[[float], optim.Optimizer] = Muon,
) -> optim.MultiOptimizer:
    """Muon for the matrices of the blocks, AdamW for wte and for lm_head, in the order of GROUPS.

    The rates of the two AdamW are scaled by √(768 / n_embd). The state is made for the model's
    parameters. muon: makes the first optimizer, of its learning rate. Raises CourseError for a
    parameter that `group_of` does not know.
    """
    for name, parameter in tree_flatten(model.trainable_parameters()):
        group_of(name, parameter)
    scale = math.sqrt(768 / model.config.n_embd)
    matrices = muon(matrix_lr)
    embedding, head = (
        optim.AdamW(
            lr * scale, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0, bias_correction=True
        )
        for lr in (embedding_lr, unembedding_lr)
    )
    filters = [
        lambda name, parameter: group_of(name, parameter) == "matrices",
        lambda name, parameter: group_of(name, parameter) == "embedding",
    ]
    optimizer = optim.MultiOptimizer([matrices, embedding, head], filters)
    optimizer.init(model.trainable_parameters())
    return optimizer

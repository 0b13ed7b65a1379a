"""The loop of Part I: chapter 03's seven lines, with a compiled step where that pays, and a call after each step.

Written by hand; chapters 03, 04 and 06 use it.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from course_lib import backend


def cosine_decay(step: int, num_steps: int) -> float:
    """Share of the learning rate at `step` (from 0): half a cosine from 1 to 0 at `num_steps`."""
    return 0.5 * (1 + math.cos(math.pi * step / num_steps))


def compiling_pays(num_steps: int) -> bool:
    """Whether compiled steps save more than compiling costs: measured on a CPU, not on Metal."""
    return backend.device_kind() == "metal" or num_steps >= 10_000


def fit(
    model: nn.Module,
    loss_of: Callable[..., mx.array],
    examples: Iterable[tuple[mx.array, ...]],
    num_steps: int,
    learning_rate: float,
    on_step: Callable[[int, float], None] | None,
    compiled: bool,
) -> list[float]:
    """A step of Adam (0.9, 0.95, bias-corrected) on loss_of(model, *example) for each example.

    Cosine decay to zero. Calls on_step(step, loss), step from 1; returns the loss of each step.
    """
    optimizer = optim.Adam(learning_rate=learning_rate, betas=[0.9, 0.95], eps=1e-8, bias_correction=True)
    optimizer.init(model.trainable_parameters())
    loss_and_grad = nn.value_and_grad(model, loss_of)
    state = [model.state, optimizer.state]

    def step(*arrays: mx.array) -> mx.array:
        loss, gradients = loss_and_grad(model, *arrays)
        optimizer.update(model, gradients)
        return loss

    if compiled:
        step = partial(mx.compile, inputs=state, outputs=state)(step)
    losses = []
    for n, arrays in enumerate(islice(examples, num_steps)):
        optimizer.learning_rate = learning_rate * cosine_decay(n, num_steps)
        loss = step(*arrays)
        mx.eval(state, loss)
        losses.append(loss.item())
        if on_step:
            on_step(n + 1, losses[-1])
    return losses

"""The training step: gradients of several micro-batches, one clipped step of Muon and AdamW.

Source: nanochat (October 2025).

Exported from notebooks/10_training.ipynb; edit it there.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT
from course_lib.train import refusals
from course_lib.train.recipe import Rates


@dataclass(frozen=True)
class StepResult:
    """What a training step measured."""

    iteration: int  # the step's number, from 0
    losses: list[float]  # nats, of each micro-batch of this process
    loss: float  # the mean over all processes
    grad_norm: float  # before clipping
    lr_multiplier: float  # of all learning rates


class Diverged(CourseError):
    """Loss or gradients are no numbers, or the loss has risen far: going on makes no sense."""


class Trainer:
    """Steps of Muon and AdamW on a GPT, with clipping and the schedule of learning rates.

    num_iterations: of the whole run, which the schedule spans; other: what differs from rates.
    """

    def __init__(self, model: GPT, num_iterations: int, rates: Rates | None = None, **other: float):
        self.rates = replace(rates or Rates(), **other)
        refusals.check_run(num_iterations, self.rates.grad_clip)
        self.model, self.num_iterations, self.iteration = model, num_iterations, 0
        self.optimizer = self.rates.optimizer(model)
        self.peaks = [part.learning_rate for part in self.optimizer.optimizers]
        self.loss_and_gradients = nn.value_and_grad(model, model.loss)

    def add_gradients(self, so_far: dict, inputs: mx.array, targets: mx.array) -> tuple[mx.array, dict]:
        """Loss of a micro-batch, and its gradients added to those so far."""
        loss, gradients = self.loss_and_gradients(inputs, targets)
        return loss, tree_map(mx.add, so_far, gradients) if so_far else gradients

    def sum_gradients(self, micro_batches: Iterable[tuple[mx.array, mx.array]]) -> tuple[list[float], float, dict]:
        """Loss of each micro-batch, their mean, and the sum of the gradients."""
        losses, gradients = [], {}
        for inputs, targets in micro_batches:
            loss, gradients = self.add_gradients(gradients, inputs, targets)
            mx.eval(loss, gradients)
            losses.append(loss.item())
        refusals.check_micro_batches(losses)
        return losses, sum(losses) / len(losses), gradients

    def set_rates(self) -> float:
        """Set learning rates and momentum of this iteration; what the rates are multiplied by."""
        now = self.iteration, self.num_iterations
        multiplier = self.rates.multiplier(*now)
        for part, peak in zip(self.optimizer.optimizers, self.peaks, strict=True):
            part.learning_rate = peak * multiplier
        for name, number in self.rates.of_muon(*now).items():
            self.optimizer.optimizers[0].state[name] = mx.array(number)
        return multiplier

    def update(self, gradients: dict, scale: mx.array) -> None:
        """Move the weights, with gradients that are scaled first."""
        self.optimizer.update(self.model, tree_map(lambda gradient: gradient * scale, gradients))

    def step(self, micro_batches: Iterable[tuple[mx.array, mx.array]]) -> StepResult:
        """One step on the mean loss of the micro-batches (inputs, targets), each (B, T).

        Raises CourseError for no micro-batch or a step beyond num_iterations, and Diverged, with the
        weights as they were, when the loss or the gradients are not finite.
        """
        refusals.check_step(self.iteration, self.num_iterations)
        losses, loss, gradients = self.sum_gradients(micro_batches)
        norm = global_norm(gradients) / len(losses)
        if not math.isfinite(loss + norm):
            raise Diverged(f"the loss is {loss}, the norm of its gradients {norm}")
        multiplier, limit = self.set_rates(), self.rates.grad_clip
        clip = min(1, limit / (norm + 1e-6)) if limit else 1
        self.update(gradients, mx.array(clip / len(losses)))
        del gradients  # so that their memory is free for the update
        mx.eval(self.model.parameters(), self.optimizer.state)
        self.iteration += 1
        return StepResult(self.iteration - 1, losses, loss, norm, multiplier)

    def state(self) -> dict[str, mx.array]:
        """What the next steps need beside the weights, by name: of the optimizers, and of mx.random."""
        state = {"optimizer": self.optimizer.state, "random": mx.array(mx.random.state[0])}
        return dict(tree_flatten(state))

    def load_state(self, iteration: int, state: dict[str, mx.array]) -> None:
        """Go on after `iteration` steps. Raises CourseError when the state is of another model."""
        refusals.check_state(self.state(), state)
        tree = tree_unflatten([(name, state[name]) for name in self.state()])
        self.optimizer.state = tree["optimizer"]
        mx.random.state[0][:] = tree["random"]
        self.iteration = iteration


def global_norm(gradients: dict) -> float:
    """The length of all gradients together, as one vector; the same in any order of adding."""
    squares = mx.stack([mx.square(g.reshape(-1)).sum() for _, g in tree_flatten(gradients)])
    return math.sqrt(math.fsum(squares.tolist()))

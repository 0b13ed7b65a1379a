"""The Trainer that programs use: several processes share each of its steps, and on a GPU its functions are compiled.

Written by hand; chapter 20 and GPUs use it.
"""

from collections.abc import Iterable
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from course_lib import backend
from course_lib.model.gpt import GPT
from course_lib.model.refusals import check_ids
from course_lib.train import refusals
from course_lib.train.distributed import Group, all_sum, share_work
from course_lib.train.recipe import Rates, Recipe
from course_lib.train.trainer import Trainer


class FastTrainer(Trainer):
    """The same steps as those of a Trainer.

    compiled: use mx.compile; by default on a GPU, since on a CPU it gains nothing here. group: the processes that share
    each step, which must all begin with the same weights, and each give as many micro-batches as the others.
    """

    def __init__(
        self,
        model: GPT,
        num_iterations: int,
        rates: Rates | None = None,
        *,
        compiled: bool | None = None,
        group: Group | None = None,
        **other: float,
    ):
        super().__init__(model, num_iterations, rates, **other)
        self.group = group if group is not None and group.size() > 1 else None
        if self.group:
            share_work(self.optimizer.optimizers[0], self.group)
        self.compiled = backend.device_kind() != "cpu" if compiled is None else compiled
        self.compile_functions()

    def compile_functions(self) -> None:
        """Compile both heavy parts of a step, for the optimizer as it is now: after another state, do it again."""
        if not self.compiled:
            return
        add, update = super().add_gradients, super().update
        weights = [self.model.state]  # an output too: the gradient puts arrays of its own into the model for a moment
        state = [self.model.state, *(each.state for each in self.optimizer.optimizers)]
        self._first = mx.compile(partial(add, {}), inputs=weights, outputs=weights)
        self._more = mx.compile(add, inputs=weights, outputs=weights)
        self._update = mx.compile(update, inputs=state, outputs=state)

    def add_gradients(self, so_far: dict, inputs: mx.array, targets: mx.array) -> tuple[mx.array, dict]:
        """Loss of a micro-batch, and its gradients added to those so far."""
        if not self.compiled:
            return super().add_gradients(so_far, inputs, targets)
        check_ids(self.model.config, inputs, targets)  # in a compiled function ids have no numbers yet
        return self._more(so_far, inputs, targets) if so_far else self._first(inputs, targets)

    def sum_gradients(self, micro_batches: Iterable[tuple[mx.array, mx.array]]) -> tuple[list[float], float, dict]:
        """Losses, their mean, and the sum of the gradients; of several processes, the mean of both.

        While the device works on a micro-batch, Python fetches the next one and plans it. The last may not be done.
        """
        losses, gradients = [], {}
        for inputs, targets in micro_batches:
            loss, gradients = self.add_gradients(gradients, inputs, targets)
            mx.eval(losses)  # those before are done: no two micro-batches are in memory at once
            mx.async_eval(loss, gradients)
            losses.append(loss)
        refusals.check_micro_batches(losses)
        if self.group:
            gradients = nn.average_gradients(gradients, self.group)
        numbers = [loss.item() for loss in losses]
        mean = sum(numbers) / len(numbers)
        if self.group:
            mean = all_sum([mean], self.group)[0] / self.group.size()
        return numbers, mean, gradients

    def update(self, gradients: dict, scale: mx.array) -> None:
        """Move the weights."""
        if self.compiled:
            self._update(gradients, scale)
        else:
            super().update(gradients, scale)

    def load_state(self, iteration: int, state: dict[str, mx.array]) -> None:
        """Go on after `iteration` steps. Raises CourseError when the state is of another model."""
        super().load_state(iteration, state)
        self.compile_functions()


def trainer_for(recipe: Recipe, model: GPT, group: Group) -> FastTrainer:
    """The trainer of a run."""
    return FastTrainer(model, recipe.num_iterations, recipe.rates, group=group)

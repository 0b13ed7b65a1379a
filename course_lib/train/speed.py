"""How fast a model trains on this machine, measured before the first step and while it goes on.

Written by hand; chapters 10 and 17 use it.
"""

import time

import mlx.core as mx

from course_lib import backend
from course_lib.host.words import duration
from course_lib.model.gpt import GPT
from course_lib.model.sizes import flops_per_token
from course_lib.train.distributed import Group, all_sum
from course_lib.train.recipe import Recipe
from course_lib.train.trainer import Trainer


def trial(model: GPT, batch: tuple[mx.array, mx.array], count: int, group: Group) -> float:
    """Seconds of a step of `count` micro-batches, told from steps of one and of two.

    It spoils the weights: make them anew.
    """
    trainer, seconds = Trainer(model, 10, group=group), {}
    for size in (1, 1) if count == 1 else (1, 2, 1, 2):  # the first ones load and compile
        started = time.perf_counter()
        trainer.step([batch] * size)
        seconds[size] = time.perf_counter() - started
    return seconds[1] + (count - 1) * (seconds.get(2, 0) - seconds[1])


def machine_flops(group: Group) -> float:
    """Operations per second of matrix products, of all processes of the group together."""
    n = 1024 if backend.device_kind() == "cpu" else 4096
    return 1e9 * all_sum([backend.matmul_gflops(n, backend.compute_dtype())], group)[0]


class Speed:
    """Seconds of a step, and what follows: tokens per second, share of the machine, time left."""

    def __init__(self, recipe: Recipe, seconds: float, eval_share: float, group: Group):
        self.seconds, self.tokens, self.eval_share = seconds, recipe.total_batch_size, eval_share
        self.flops, self.peak = flops_per_token(recipe.model), machine_flops(group)

    def add(self, seconds: float) -> None:
        """Note the time of a step."""
        self.seconds = 0.9 * self.seconds + 0.1 * seconds

    def __str__(self) -> str:
        """Tokens per second, and model FLOPs utilization: the share of the speed of matrix products."""
        speed = self.tokens / self.seconds
        return f"{speed:,.0f} tokens/s, MFU {self.flops * speed / self.peak:.0%}"

    def left(self, steps: int) -> str:
        """How long this many steps will take, evaluation included, such as "1:02:09"."""
        return duration(steps * self.seconds * (1 + self.eval_share))

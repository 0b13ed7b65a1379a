"""The smoothed loss of a run, and an alarm when it rises.

Written by hand; chapter 10 uses it.
"""

import math

from course_lib.train.trainer import Diverged


class LossWatch:
    """The smoothed loss of a run, and an alarm when it rises.

    The smoothed loss is an average in which each loss counts 0.9 times as much as the next, as in nanochat. Such an
    average begins at 0; divided by what its weights add up to, it begins at the first loss. max_rise: nats above its
    lowest value that it may reach.
    """

    def __init__(self, max_rise: float = 1.5, average: float = 0.0, steps: int = 0, lowest: float = math.inf):
        self.max_rise, self.average, self.steps, self.lowest = max_rise, average, steps, lowest

    def add(self, loss: float) -> float:
        """Note a step's loss; the smoothed one. Raises Diverged when that is too high."""
        self.average, self.steps = 0.9 * self.average + 0.1 * loss, self.steps + 1
        smoothed = self.average / (1 - 0.9**self.steps)
        self.lowest = min(self.lowest, smoothed)
        if smoothed > self.lowest + self.max_rise:
            raise Diverged(f"the smoothed loss has risen from {self.lowest:.3f} to {smoothed:.3f}")
        return smoothed

    def state(self) -> dict[str, float]:
        """What LossWatch(max_rise, **state) goes on from; JSON can hold it."""
        return {"average": self.average, "steps": self.steps, "lowest": self.lowest}

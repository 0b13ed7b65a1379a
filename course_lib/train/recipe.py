"""A run as a value: the model, the steps, the rates, how often it looks at itself and saves.

Exported from notebooks/10_training.ipynb; edit it there.
"""

from dataclasses import dataclass

import mlx.optimizers as optim

from course_lib.host.program import Fraction, NonNegative
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.optim import lr_multiplier, make_optimizer, muon_momentum

# ---- 4. The Trainer


@dataclass(frozen=True)
class Rates:
    """Learning rates, and how they change over a run."""

    matrix_lr: NonNegative = 0.02
    """Learning rate of Muon, for the matrices of the blocks."""
    embedding_lr: NonNegative = 0.2
    """Learning rate of AdamW for wte, at n_embd 768."""
    unembedding_lr: NonNegative = 0.004
    """Learning rate of AdamW for lm_head, at n_embd 768."""
    grad_clip: NonNegative = 1.0
    """Largest norm of the gradients; 0 to leave them."""
    warmup_ratio: Fraction = 0.0
    """Fraction of the run over which learning rates rise."""
    warmdown_ratio: Fraction = 0.2
    """Fraction of the run over which learning rates decay."""
    final_lr_frac: Fraction = 0.0
    """Final rate as a fraction of the peak."""

    def optimizer(self, model: GPT) -> optim.MultiOptimizer:
        """The optimizers of a model; that of the matrices comes first."""
        return make_optimizer(model, self.matrix_lr, self.embedding_lr, self.unembedding_lr)

    def multiplier(self, it: int, num_iterations: int) -> float:
        """What all learning rates are multiplied by at step `it`."""
        shape = self.warmup_ratio, self.warmdown_ratio, self.final_lr_frac
        return lr_multiplier(it, num_iterations, *shape)

    def of_muon(self, it: int, num_iterations: int) -> dict[str, float]:
        """What the state of Muon holds at step `it`, beside its rate."""
        return {"momentum": muon_momentum(it)}


# ---- 5. The loop


@dataclass(frozen=True)
class Cadence:
    """Steps between evaluations, samples and saves; eval_batches: of one, over all processes."""

    eval_every: int
    eval_batches: int
    sample_every: int
    save_every: int


@dataclass(frozen=True)
class Recipe:
    """A run with every number known: what a checkpoint keeps, and what `train` follows.

    total_batch_size: tokens of a step, over all processes. device_batch_size: rows of a
    micro-batch. minutes: end by the clock, never before min_iterations.
    """

    model: GPTConfig
    num_iterations: int
    total_batch_size: int
    sequence_len: int
    device_batch_size: int
    rates: Rates
    cadence: Cadence
    seed: int = 42
    recompute: bool = False
    max_rise: float = 1.5
    minutes: float | None = None
    min_iterations: int = 1

    def micro_batches(self, processes: int = 1) -> int:
        """Micro-batches of each process in a step."""
        return self.total_batch_size // (self.sequence_len * self.device_batch_size * processes)

"""The optimizers of nanochat (July 2026): which group trains what, at which rates, and how they change over a run.

Source: nanochat (July 2026), commit 92d63d4; its rates are those of a step of 2^19 tokens, in a model with n_embd 768.

Written by hand; chapter 21 uses it.
"""

import math
from dataclasses import dataclass, replace

import mlx.nn as nn
import mlx.optimizers as optim

from course_lib.host.program import AtLeastZero, Fraction, NonNegative
from course_lib.train.muon2026 import NorMuon
from course_lib.train.optim import adamw, for_groups
from course_lib.train.recipe import Rates
from course_lib.train.schedule2026 import lr_multiplier_2026, muon_momentum_2026, weight_decay_2026

GROUPS_2026 = {  # the names of its parameters, as a regular expression
    "matrices": r"transformer\.h\..+\.weight",  # the gates of the value embeddings among them
    "head": r"lm_head\.weight",
    "embedding": r"transformer\.wte\.weight",
    "value embeddings": r"value_embeds\.\d+\.weight",
    "shares of the stream": r"resid_lambdas",
    "shares of the embedding": r"x0_lambdas",
    "smear and backout": r"smear_gate\.weight|smear_lambda|backout_lambda",
}


@dataclass(frozen=True)
class Rates2026(Rates):
    """Rates of nanochat (July 2026). Its warm-up counts steps; a warmup_ratio above 0 takes their place."""

    embedding_lr: NonNegative = 0.3
    """Learning rate of AdamW for wte, at n_embd 768."""
    unembedding_lr: NonNegative = 0.008
    """Learning rate of AdamW for lm_head, at n_embd 768."""
    value_embedding_lr: NonNegative = 0.15
    """Learning rate of AdamW for the value embeddings, at n_embd 768."""
    resid_lr: NonNegative = 0.005
    """Learning rate of AdamW for resid_lambdas."""
    x0_lr: NonNegative = 0.5
    """Learning rate of AdamW for x0_lambdas."""
    smear_lr: NonNegative = 0.2
    """Learning rate of AdamW for smear and backout."""
    weight_decay: NonNegative = 0.28
    """Weight decay of the matrices, at the start."""
    grad_clip: NonNegative = 0.0
    """Largest norm of the gradients; 0 to leave them."""
    warmup_steps: AtLeastZero = 40
    """Steps over which learning rates rise."""
    warmdown_ratio: Fraction = 0.65
    """Fraction of the run over which learning rates decay."""
    final_lr_frac: Fraction = 0.05
    """Final rate as a fraction of the peak."""

    muon = NorMuon  # the class of the optimizer of the matrices

    def scaled(self, scale: float) -> "Rates2026":
        """All learning rates times `scale`, except that of smear and backout."""
        names = ("matrix_lr", "embedding_lr", "unembedding_lr", "value_embedding_lr", "resid_lr", "x0_lr")
        return replace(self, **{name: scale * getattr(self, name) for name in names})

    def for_small_steps(self) -> "Rates2026":
        """For steps of a few thousand tokens: half the rates of AdamW, except that of smear and backout.

        nanochat has no such rule; with 2,048 tokens a step it saves 0.04 bits per byte (chapter 21).
        """
        return replace(self.scaled(0.5), matrix_lr=self.matrix_lr)

    def optimizer(self, model: nn.Module) -> optim.MultiOptimizer:
        """The optimizers of a model; that of the matrices comes first."""
        return make_optimizer_2026(model, self)

    def multiplier(self, it: int, num_iterations: int) -> float:
        """What all learning rates are multiplied by at step `it`."""
        rise = round(self.warmup_ratio * num_iterations) or self.warmup_steps
        return lr_multiplier_2026(it, num_iterations, rise, self.warmdown_ratio, self.final_lr_frac)

    def of_muon(self, it: int, num_iterations: int) -> dict[str, float]:
        """What the state of NorMuon holds at step `it`, beside its rate."""
        decay = self.weight_decay * weight_decay_2026(it, num_iterations)
        return {"momentum": muon_momentum_2026(it, num_iterations, self.warmdown_ratio), "weight_decay": decay}


def make_optimizer_2026(model: nn.Module, rates: Rates2026) -> optim.MultiOptimizer:
    """NorMuon for the matrices, AdamW for the rest, in the order of GROUPS_2026; CourseError for what no group has."""
    scale = math.sqrt(768 / model.config.n_embd)
    optimizers = [  # the rates of the head and the tables depend on the width
        rates.muon(rates.matrix_lr, weight_decay=rates.weight_decay),
        adamw(scale * rates.unembedding_lr, (0.8, 0.96), 0.01),
        adamw(scale * rates.embedding_lr, (0.8, 0.995), 0.001),
        adamw(scale * rates.value_embedding_lr, (0.8, 0.995), 0.01),
        adamw(rates.resid_lr, (0.8, 0.95), 0.05),
        adamw(rates.x0_lr, (0.96, 0.95)),
        adamw(rates.smear_lr, (0.8, 0.95)),
    ]
    return for_groups(model, GROUPS_2026, optimizers)

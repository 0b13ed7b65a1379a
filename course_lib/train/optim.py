"""Which optimizer trains which parameter, and how rates and momentum change over a run.

Source: nanochat; the rates of wte and lm_head are those of a model with n_embd 768.

Exported from notebooks/09_muon.ipynb; edit it there.
"""

import math
import re
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from course_lib.host.errors import CourseError
from course_lib.train.muon import Muon

# ---- 9. Which parameter goes where


GROUPS = {  # the names of its parameters, as a regular expression
    "matrices": r"transformer\.h\..+\.weight",
    "embedding": r"transformer\.wte\.weight",
    "head": r"lm_head\.weight",
}


def group_of(name: str, parameter: mx.array, groups: dict[str, str] = GROUPS) -> str:
    """Which of the groups trains a parameter. Raises CourseError when none knows its name."""
    for group, names in groups.items():
        if re.fullmatch(names, name):
            return group
    raise CourseError(
        f"no optimizer trains the parameter {name} of shape {parameter.shape}; say in the table "
        "of groups, such as course_lib.train.optim.GROUPS, which one does, or freeze it"
    )


def make_optimizer(
    model: nn.Module,
    matrix_lr: float = 0.02,
    embedding_lr: float = 0.2,
    unembedding_lr: float = 0.004,
    muon: Callable[[float], optim.Optimizer] = Muon,
) -> optim.MultiOptimizer:
    """Muon for the matrices of the blocks, AdamW for wte and for lm_head, in the order of GROUPS.

    The rates of the two AdamW are scaled by √(768 / n_embd). muon: makes the first optimizer, of
    its learning rate. Raises CourseError for a parameter that is in no group.
    """
    rates = [rate * math.sqrt(768 / model.config.n_embd) for rate in (embedding_lr, unembedding_lr)]
    return for_groups(model, GROUPS, [muon(matrix_lr), *map(adamw, rates)])


def adamw(rate: float, betas: tuple = (0.8, 0.95), weight_decay: float = 0.0) -> optim.AdamW:
    """AdamW with nanochat's eps, and averages that are corrected for their start at 0."""
    return optim.AdamW(rate, betas, 1e-10, weight_decay, bias_correction=True)


def for_groups(model: nn.Module, groups: dict[str, str], optimizers: list) -> optim.MultiOptimizer:
    """An optimizer for each of the groups, in their order, with the state for the model."""
    filters = [lambda name, p, own=own: group_of(name, p, groups) == own for own in groups]
    optimizer = optim.MultiOptimizer(optimizers, filters[:-1])
    optimizer.init(model.trainable_parameters())
    return optimizer


# ---- 10. Schedules


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

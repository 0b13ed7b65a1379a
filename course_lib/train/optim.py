"""Which optimizer trains which parameter, and how rates and momentum change over a run.

Source: nanochat; the rates of wte and lm_head are those of a model with n_embd 768.

Exported from notebooks/09_muon.ipynb; edit it there.
"""

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from course_lib.host.errors import CourseError
from course_lib.train.muon import Muon

# ---- 9. Which parameter goes where


GROUPS = ("matrices", "embedding", "head")


def group_of(name: str, parameter: mx.array) -> str:
    """Which of GROUPS trains a parameter of a GPT: the one place that says it.

    Raises CourseError for a parameter that belongs to none.
    """
    if name == "transformer.wte.weight":
        return "embedding"
    if name == "lm_head.weight":
        return "head"
    if name.startswith("transformer.h.") and name.endswith(".weight") and parameter.ndim == 2:
        return "matrices"
    raise CourseError(
        f"no optimizer trains the parameter {name} of shape {parameter.shape}; say in "
        "course_lib.train.optim.group_of which one does, or freeze it"
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
    scale = math.sqrt(768 / model.config.n_embd)
    matrices = muon(matrix_lr)
    embedding, head = (
        optim.AdamW(lr * scale, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0, bias_correction=True)
        for lr in (embedding_lr, unembedding_lr)
    )
    filters = [
        lambda name, parameter: group_of(name, parameter) == "matrices",
        lambda name, parameter: group_of(name, parameter) == "embedding",
    ]
    optimizer = optim.MultiOptimizer([matrices, embedding, head], filters)
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

"""How rates, momentum and decay change over a run of nanochat (July 2026), and what its size sets.

Source: nanochat (July 2026), commit 92d63d4. N: parameters of the blocks and of lm_head; D: tokens
of the run, 12 · N by default. What was found at a depth of 12 is carried to other sizes.

Exported from notebooks/21_nanochat_2026.ipynb; edit it there.
"""

import math

from course_lib.train.optim import lr_multiplier


def lr_multiplier_2026(
    it: int,
    num_iterations: int,
    warmup_steps: int = 40,
    warmdown_ratio: float = 0.65,
    final_lr_frac: float = 0.05,
) -> float:
    """What all learning rates are multiplied by at step `it` of 0 … num_iterations."""
    if it < warmup_steps:
        return (it + 1) / warmup_steps
    return lr_multiplier(it, num_iterations, 0.0, warmdown_ratio, final_lr_frac)


def muon_momentum_2026(it: int, num_iterations: int, warmdown_ratio: float = 0.65) -> float:
    """0.85 to 0.97 over the first 400 steps; 0.97 to 0.90 over the warmdown."""
    if it < 400:
        return 0.85 + (0.97 - 0.85) * it / 400
    left = lr_multiplier(it, num_iterations, 0.0, warmdown_ratio)
    return 0.90 + (0.97 - 0.90) * left


def weight_decay_2026(it: int, num_iterations: int) -> float:
    """What the weight decay is multiplied by: half a cosine from 1 to 0."""
    return (1 + math.cos(math.pi * it / num_iterations)) / 2


def batch_size_2026(tokens: float, tokens_12: float) -> int:
    """Tokens of a step, a power of 2, for a run of so many; tokens_12: of one at depth 12."""
    return 2 ** round(math.log2(2**19 * (tokens / tokens_12) ** 0.383))


def rate_scale(total_batch_size: int) -> float:
    """What learning rates are multiplied by for steps of so many tokens."""
    return math.sqrt(total_batch_size / 2**19)


def decay_2026(total_batch_size: int, tokens: float, tokens_12: float) -> float:
    """Weight decay of a run at its start."""
    return 0.28 * rate_scale(total_batch_size) * tokens_12 / tokens

"""Drawings of the optimizer of chapter 21: singular values, lengths of rows, schedules.

Written by hand; chapter 21 uses it.
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np

BLUE, ORANGE = "#0072B2", "#D55E00"


def draw_lifted_by(lifted: dict[str, np.ndarray]) -> None:
    """Singular values up to 0.1 after five rounds, over what they were: name -> of np.geomspace(1e-4, 1, count).

    Further up both curves swing on, faster than a figure can show.
    """
    _, ax = plt.subplots(figsize=(5.5, 3), layout="constrained")
    for (name, after), color, line in zip(lifted.items(), (ORANGE, BLUE), ("--", "-"), strict=True):
        ax.semilogx(np.geomspace(1e-4, 1, len(after)), after, line, color=color, label=name, lw=1.3)
    ax.axhline(1, color="#999999", linewidth=0.8)
    ax.set(xlabel="singular value before", ylabel="after five rounds", ylim=(0, 1.3), xlim=(1e-4, 0.1))
    ax.legend(frameon=False, loc="lower right")
    plt.show()


def draw_rows(matrices: dict[str, mx.array]) -> None:
    """The length of each row, a panel for each title -> matrix."""
    _, axes = plt.subplots(1, len(matrices), figsize=(7.5, 2.6), sharey=True, layout="constrained")
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        ax.bar(range(len(matrix)), np.linalg.norm(np.array(matrix), axis=1), width=1, color=BLUE, edgecolor="white")
        ax.set(xlabel="row", title=title)
    axes[0].set_ylabel("length")
    plt.show()


def draw_schedules_2026(
    multiplier: Callable[[int, int], float], momentum: Callable[[int, int], float], decay: Callable[[int, int], float]
) -> None:
    """What rates and decay are multiplied by over a run of 2,000 steps, and Muon's momentum."""
    steps, total = range(2001), 2000
    _, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.8), layout="constrained")
    left.plot(steps, [multiplier(n, total) for n in steps], color=BLUE, label="learning rates")
    left.plot(steps, [decay(n, total) for n in steps], "--", color=ORANGE, label="weight decay")
    left.set(xlabel="step of 2,000", ylabel="times the peak", ylim=(0, 1.1))
    left.legend(frameon=False, loc="lower center", fontsize=8)
    right.plot(steps, [momentum(n, total) for n in steps], color=BLUE)
    right.set(xlabel="step of 2,000", ylabel="momentum")
    plt.show()

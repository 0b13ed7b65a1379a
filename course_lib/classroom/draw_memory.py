"""Drawings of chapter 19: when the logits of each chunk of rows are in memory.

Written by hand; chapter 19 uses it.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

MAKE, KEEP, BACK = "#0072B2", "#cfe4f3", "#D55E00"


def draw_two_passes(chunks: int = 4) -> None:
    """Time to the right, a row for each chunk: automatic differentiation beside the loss that makes its gradient."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.7), sharey=True, layout="constrained")
    for n in range(chunks):
        back = 2 * chunks - 1 - n
        _bar(left, n, n, 1, MAKE)
        _bar(left, n, n + 1, back - n - 1, KEEP)
        _bar(left, n, back, 1, BACK)
        _bar(right, n, 2 * n, 1, MAKE)
        _bar(right, n, 2 * n + 1, 1, BACK)
    left.set_title("automatic: all logits wait for the way back", fontsize=10)
    right.set_title("chunk by chunk: each gradient at once", fontsize=10)
    for ax in (left, right):
        ax.set(xlim=(0, 2 * chunks), xlabel="time", xticks=[])
        ax.spines[["top", "right"]].set_visible(False)
    left.set_ylim(chunks - 0.4, -0.6)
    left.set_yticks(range(chunks), [f"rows of chunk {n + 1}" for n in range(chunks)])
    colors = {"logits are made": MAKE, "logits are kept": KEEP, "their gradient, then gone": BACK}
    figure.legend(
        handles=[Patch(facecolor=color, edgecolor="#333333", label=label) for label, color in colors.items()],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    plt.show()


def _bar(ax: Axes, row: int, start: int, length: int, color: str) -> None:
    if length > 0:
        ax.add_patch(Rectangle((start, row - 0.35), length, 0.7, facecolor=color, edgecolor="#333333"))

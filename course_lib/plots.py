"""Drawings that several chapters use.

Exported from notebooks/04_batches.ipynb; edit it there.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes


def draw_bars(values: dict[str, float], unit: str, log: bool = False) -> None:
    """Horizontal bars with their values written beside them; `log` for values that differ by powers of ten."""
    figure, ax = plt.subplots(figsize=(6, 0.6 + 0.4 * len(values)))
    bars = ax.barh(list(values), list(values.values()), color="#0072B2", height=0.6)
    ax.bar_label(
        bars,
        [f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in values.values()],
        padding=4,
    )
    ax.invert_yaxis()
    if log:
        ax.set_xscale("log")
    ax.set_xlabel(unit + (" (each gridline is ten times the one before)" if log else ""))
    ax.margins(x=0.2)
    ax.grid(axis="x", alpha=0.4)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()


def draw_attention(axes: list[Axes], weights: list, letters: list[str]) -> None:
    """Draw the weights of each head: row = the position that looks, column = the position it looks at.

    axes: one for each head; weights: (H, T, T) numbers from 0 to 1; letters: T labels.
    """
    for head, (ax, grid) in enumerate(zip(axes, weights, strict=True)):
        ax.imshow(grid, cmap="Blues", vmin=0, vmax=1)
        ax.set_title(f"head {head}", fontsize=10)
        ax.set_xticks(range(len(letters)), letters)
        ax.set_yticks(range(len(letters)), letters)
        ax.set_xlabel("looks at")
    axes[0].set_ylabel("position")

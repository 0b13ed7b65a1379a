"""Drawings of chapter 21: documents as boxes in rows, and how much of a text is thrown away.

Written by hand; chapter 21 uses it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

PALE = ("#cfe4f3", "#fbe6c4", "#d5ead8", "#f3d3d8", "#e2d9f0", "#e4e4e4", "#fdf6b8", "#c9e8e6")


def draw_packing(documents: Sequence[Sequence[int]], ways: dict[str, Sequence[Sequence[int]]]) -> None:
    """Documents on the left, then the rows of each way; hatched: ids that are in no row of the last way.

    The tens of an id say whose it is; an id that ends in 0 is a BOS, and has a heavy frame.
    """
    panels, rows = {"documents": documents, **ways}, list(ways.values())[-1]
    used = {int(i) for row in rows for i in row}
    widths = [max(map(len, each)) for each in panels.values()]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(13, 3.2), width_ratios=widths, sharey=True, layout="constrained"
    )
    for ax, width, (title, each) in zip(axes, widths, panels.items(), strict=True):
        for y, ids in enumerate(each):
            for x, token in enumerate(ids):
                _box(ax, x, y, int(token), int(token) in used or each is not documents)
        ax.set(xlim=(-0.2, width + 0.2), ylim=(len(documents) - 0.1, -0.2))
        ax.set_title(title, fontsize=10)
        ax.axis("off")
    plt.show()


def _box(ax: Axes, x: int, y: int, token: int, used: bool) -> None:
    begins = token % 10 == 0
    color = PALE[(token // 10 - 1) % len(PALE)]
    frame = {"linewidth": 2.2 if begins else 0.6, "zorder": 3 if begins else 2}
    frame |= {"edgecolor": "black"} if used else {"edgecolor": "#777777", "hatch": "////"}
    ax.add_patch(Rectangle((x + 0.04, y), 0.92, 0.85, facecolor=color, **frame))
    text = str(token)
    behind = None if used else {"facecolor": color, "edgecolor": "none", "pad": 0.6}
    ax.text(x + 0.5, y + 0.43, text, ha="center", va="center", fontsize=8.5, zorder=4, bbox=behind)


def draw_thrown_away(shares: dict[int, Sequence[float]], alone: dict[int, float]) -> None:
    """For each T, the share of the text that is thrown away in one tenth of the rows after another.

    alone: the same share where each document has a row of its own, dashed.
    """
    colors = dict(zip(shares, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False))
    figure, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
    for T, values in shares.items():
        ax.plot(range(1, len(values) + 1), values, "o-", color=colors[T], markersize=4)
        ax.hlines(alone[T], 0.7, len(values), color=colors[T], linestyle="--", linewidth=1)
        ax.text(len(values) + 0.2, values[-1], f"T = {T:,}", color=colors[T], va="center", fontsize=9)
    ax.set(
        xlabel="rows so far, in tenths (dashed: a row for each document)",
        ylabel="thrown away",
        ylim=(0, 1),
        xlim=(0.7, max(map(len, shares.values())) + 2),
        xticks=range(1, 1 + max(map(len, shares.values()))),
    )
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()

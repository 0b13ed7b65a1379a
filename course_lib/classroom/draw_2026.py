"""Drawings of chapter 21: the stream with its shortcuts, windows, the ladder, and what a token costs.

Written by hand; chapter 21 uses it.
"""

from collections.abc import Sequence
from statistics import fmean

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle

BLUE, PALE, ORANGE, GREEN, RED, LINE = "#0072B2", "#cfe4f3", "#E69F00", "#009E73", "#D55E00", "#333333"


def draw_stream(n_layer: int) -> None:
    """From ids to logits, upwards: the stream in the middle, x0 on its left, tables and backout on its right."""
    figure, ax = plt.subplots(figsize=(8, 6.6), layout="constrained")
    top = n_layer + 2
    _box(ax, 4, 0, "ids", "white", 1.2)
    _box(ax, 4, 1, "wte, norm; smear: + λ·σ(w·e) · e of the token before", PALE, 5.0)
    for n in range(n_layer):
        y = n + 2.0
        _box(ax, 4, y, f"block {n}:  attention, MLP", PALE, 3.0)
        _arrow(ax, (1.2, y - 0.42), (3.95, y - 0.42), GREEN)
        ax.text(1.3, y - 0.38, f"+ z{n} · x0", color=GREEN, fontsize=9, va="bottom")
        ax.text(4.1, y - 0.46, f"r{n} · x", color=BLUE, fontsize=9, va="center")
        if n % 2 == (n_layer - 1) % 2:
            _box(ax, 7.7, y, "+ table of values, by id", "#fbe3b5", 2.4)
            _arrow(ax, (6.5, y), (5.5, y), ORANGE)
    _box(ax, 4, top, "x − β · x_mid,  norm", PALE, 3.0)
    _box(ax, 4, top + 1, "lm_head, cap", PALE, 3.0)
    for y in np.arange(n_layer + 3) + 0.25:
        _arrow(ax, (4, y), (4, y + 0.5), BLUE)
    ax.plot([1.2, 1.2, 1.5], [n_layer + 0.58, 1, 1], color=GREEN, lw=1.5)
    middle = n_layer // 2 + 2.3
    ax.plot([4, 9.3, 9.3], [middle, middle, top], color=RED, lw=1.5)
    _arrow(ax, (9.3, top), (5.5, top), RED)
    ax.text(9.2, middle + 0.08, "x_mid", color=RED, fontsize=9, ha="right")
    ax.set(xlim=(0.8, 9.6), ylim=(-0.4, top + 1.4))
    ax.axis("off")
    plt.show()


def draw_masks(masks: dict[str, np.ndarray]) -> None:
    """Which keys (columns) each query (row) sees; its own is orange."""
    figure, axes = plt.subplots(1, len(masks), figsize=(3.2 * len(masks), 3.4), layout="constrained")
    for ax, (title, seen) in zip(axes, masks.items(), strict=True):
        for (row, column), sees in np.ndenumerate(seen):
            color = (ORANGE if row == column else BLUE) if sees else "white"
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor=color, edgecolor="#bbbbbb"))
        ax.set(xlim=(0, seen.shape[1]), ylim=(seen.shape[0], 0), title=title, xlabel="key", ylabel="query")
        ax.set_xticks(np.arange(seen.shape[1]) + 0.5, range(seen.shape[1]), fontsize=8)
        ax.set_yticks(np.arange(seen.shape[0]) + 0.5, range(seen.shape[0]), fontsize=8)
        ax.set_aspect("equal")
    figure.suptitle("orange: the query's own key; blue: the others that it sees", fontsize=9)
    plt.show()


def draw_ladder(rows: Sequence[dict]) -> None:
    """A line for each rung: a ring for each seed, a bar at their mean; a thin line follows a seed down the ladder."""
    names = list(dict.fromkeys(row["idea"] for row in rows))
    figure, ax = plt.subplots(figsize=(8, 0.36 * len(names) + 0.9), layout="constrained")
    for seed in {row["seed"] for row in rows}:
        ax.plot([row["bits"] for row in rows if row["seed"] == seed], range(len(names)), color="#cccccc", lw=0.8)
    for place, name in enumerate(names):
        bits = [row["bits"] for row in rows if row["idea"] == name]
        ax.plot(bits, [place] * len(bits), "o", mfc="white", mec=BLUE, ms=7)
        ax.plot([fmean(bits)] * 2, [place - 0.32, place + 0.32], color=ORANGE, lw=3)
    ax.set_yticks(range(len(names)), [names[0], *(f"+ {name}" for name in names[1:])], fontsize=9)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlabel="bits per byte of unseen text (ring: a seed; bar: their mean)")
    ax.grid(axis="x", color="#dddddd")
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()


def draw_costs(lengths: Sequence[int], costs: dict[str, Sequence[float]]) -> None:
    """Operations of one more token, after so many others: a line for each model."""
    figure, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
    for (name, values), color, style in zip(costs.items(), (LINE, BLUE, RED), ("--", "-", ":"), strict=False):
        ax.plot(lengths, values, color=color, ls=style, lw=2, label=name)
    ax.axvline(max(lengths) / 4, color="#999999", lw=0.8, ls=":")
    ax.text(max(lengths) / 4, 0, " the short window", color="#666666", fontsize=8, va="bottom")
    ax.set(xlabel="tokens before it", ylabel="million operations for the next one", ylim=(0, None))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()


def _box(ax: Axes, x: float, y: float, text: str, color: str, width: float) -> None:
    ax.add_patch(Rectangle((x - width / 2, y - 0.25), width, 0.5, facecolor=color, edgecolor=LINE))
    ax.text(x, y, text, ha="center", va="center", fontsize=9.5)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": 1.5, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, color=color, **style))

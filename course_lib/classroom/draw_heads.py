"""Drawings of what a head does: arrows that turn, where it looks, what it may see, whose keys it reads.

Written by hand; chapter 07 uses it.
"""

import math
from itertools import product

import matplotlib.pyplot as plt
import mlx.core as mx
from matplotlib.axes import Axes
from matplotlib.patches import Arc

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#555555"


def draw_turns(query: float, key: float, speed: float, pairs: list[tuple[int, int]]) -> None:
    """A query and a key, pointing at the angles `query` and `key`, turned clockwise for each pair of positions."""
    figure, axes = plt.subplots(1, len(pairs), figsize=(3.1 * len(pairs), 3.2))
    for ax, (i, j) in zip(axes, pairs, strict=True):
        turned = {"query": query - i * speed, "key": key - j * speed}
        _face(ax)
        for (name, angle), color in zip(turned.items(), (BLUE, ORANGE), strict=True):
            x, y = math.cos(angle), math.sin(angle)
            _arrow(ax, x, y, color)
            ax.text(1.22 * x, 1.22 * y, name, color=color, ha="center", va="center")
        first, last = sorted(math.degrees(angle) for angle in turned.values())
        ax.add_patch(Arc((0, 0), 0.7, 0.7, theta1=first, theta2=last, color=GRAY))
        middle = math.radians((first + last) / 2)
        ax.text(0.58 * math.cos(middle), 0.58 * math.sin(middle), f"{last - first:.0f}°", ha="center", va="center")
        ax.set(xlim=(-1.5, 1.5), ylim=(-1.35, 1.35))
        ax.set_title(f"query at {i}, key at {j}", fontsize=10)
    figure.tight_layout()
    plt.show()


def draw_clocks(hands: mx.array, positions_for_a_turn: list[float]) -> None:
    """One clock face for each pair (row) and position (column): hands (T, D), pairs of halves."""
    positions, pairs = hands.shape[0], hands.shape[1] // 2
    figure, axes = plt.subplots(pairs, positions, figsize=(7, 3.9))
    for pair, position in product(range(pairs), range(positions)):
        ax = axes[pair, position]
        _face(ax)
        _arrow(ax, hands[position, pair].item(), hands[position, pair + pairs].item(), BLUE)
        ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
        if pair == 0:
            ax.set_title(f"position {position}", fontsize=8)
        if position == 0:
            label = f"pair {pair}\n1 turn: {positions_for_a_turn[pair]:.0f}"
            ax.set_ylabel(label, rotation=0, ha="right", va="center")
    figure.tight_layout()
    plt.show()


def _face(ax: Axes) -> None:
    ax.add_patch(plt.Circle((0, 0), 1, facecolor="#eef4f9", edgecolor=GRAY))
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.set_frame_on(False)


def _arrow(ax: Axes, x: float, y: float, color: str) -> None:
    style = {"arrowstyle": "->", "color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (x, y), (0, 0), arrowprops=style)


def draw_looks(weights: dict[str, mx.array], trained_up_to: int) -> None:
    """Where trained heads look, title -> weights (T, T); a dotted line ends the places that training had."""
    figure, axes = plt.subplots(1, len(weights), figsize=(3.7 * len(weights), 3.5), layout="constrained")
    for ax, (title, grid) in zip(axes, weights.items(), strict=True):
        image = ax.imshow(grid.tolist(), cmap="Blues", vmin=0, vmax=1)
        ax.axhline(trained_up_to - 0.5, color=ORANGE, linestyle=":")
        ax.set(title=title, xlabel="looks at place")
    axes[0].set_ylabel("who looks")
    figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    plt.show()


def draw_masks(masks: dict[str, mx.array]) -> None:
    """What the last T of S positions may see, title -> mask (T, S)."""
    figure, axes = plt.subplots(1, len(masks), figsize=(4 * len(masks), 2.7))
    for ax, (title, mask) in zip(axes, masks.items(), strict=True):
        T, S = mask.shape
        ax.imshow(mask.tolist(), cmap="Blues", vmin=0, vmax=3)
        for t, s in product(range(T), range(S)):
            ax.text(s, t, "sees" if mask[t, s].item() else "–", ha="center", va="center", fontsize=9)
        ax.set(title=title, xlabel=f"key (the first {S - T} from the cache)", xticks=range(S))
        ax.set_yticks(range(T), [f"query {t}, at {S - T + t}" for t in range(T)])
    figure.tight_layout()
    plt.show()


def draw_groups(n_head: int, choices: dict[str, int]) -> None:
    """Lines from each query head (circle) to the kv head (square) that it reads, title -> number of kv heads."""
    figure, axes = plt.subplots(1, len(choices), figsize=(3 * len(choices), 1.9), sharey=True)
    for ax, (title, n_kv_head) in zip(axes, choices.items(), strict=True):
        group = n_head // n_kv_head
        for h in range(n_head):
            middle = (h // group + 0.5) * group - 0.5  # a kv head stands below the middle of its group
            ax.plot([h, middle], [1, 0], color=GRAY, zorder=1)
            ax.plot(h, 1, "o", markersize=17, color="#cfe4f3", markeredgecolor=BLUE)
            ax.text(h, 1, str(h), ha="center", va="center")
            if h % group == 0:
                ax.plot(middle, 0, "s", markersize=17, color="#f6d9a8", markeredgecolor=GRAY)
                ax.text(middle, 0, str(h // group), ha="center", va="center")
        ax.set(title=title, xlim=(-0.6, n_head - 0.4), ylim=(-0.4, 1.4), xticks=[])
        ax.set_yticks([0, 1], ["kv heads", "query heads"])
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    figure.tight_layout()
    plt.show()

"""Drawings that several chapters use."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes


def draw_bars(values: dict[str, float], unit: str) -> None:
    """Horizontal bars from label -> value, with the values written beside them."""
    figure, ax = plt.subplots(figsize=(6, 0.6 + 0.4 * len(values)))
    bars = ax.barh(list(values), list(values.values()), color="#0072B2", height=0.6)
    ax.bar_label(bars, [f"{value:,.0f}" for value in values.values()], padding=4)
    ax.invert_yaxis()
    ax.set_xlabel(unit)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.locator_params(axis="x", nbins=5)
    ax.margins(x=0.15)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()


def draw_attention(axes: list[Axes], weights: list, letters: list[str]) -> None:
    """Draw the weights of each head: a row looks at the columns; the darker, the more.

    axes: one for each head; weights: (H, T, T) numbers from 0 to 1; letters: T labels.
    """
    for head, (ax, grid) in enumerate(zip(axes, weights, strict=True)):
        ax.imshow(grid, cmap="Blues", vmin=0, vmax=1)
        ax.set_title(f"head {head}", fontsize=10)
        ax.set_xticks(range(len(letters)), letters)
        ax.set_yticks(range(len(letters)), letters)
        ax.set_xlabel("looks at")
    axes[0].set_ylabel("who looks")


def apart(points: np.ndarray, distance: float) -> np.ndarray:
    """Places for labels (N, 2): those nearer to each other than `distance` are pushed apart."""
    places = points + np.random.default_rng(0).normal(0, 1e-3, points.shape)
    for _ in range(300):
        between = places[:, None] - places[None]  # (N, N, 2)
        far = np.maximum(np.linalg.norm(between, axis=-1, keepdims=True), 1e-6)
        push = between / far * np.maximum(distance - far, 0)
        places += 0.3 * push.sum(axis=1)
    return places

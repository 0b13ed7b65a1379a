"""Drawings of chapter 09: what a matrix does to a circle, singular values, losses of optimizers over their rates.

Written by hand; chapter 09 uses it.
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np
from matplotlib.axes import Axes

BLUE, ORANGE = "#0072B2", "#D55E00"
STYLE = {
    "SGD": ("#000000", ":"),
    "momentum": ("#E69F00", "-."),
    "AdamW": (ORANGE, "--"),
    "Muon": (BLUE, "-"),
    "frozen": ("#999999", (0, (1, 3))),
}


def draw_circles(matrices: dict[str, mx.array], chained: bool = False) -> None:
    """What each matrix (2, 2) makes of a circle, dotted before and solid after; a point on each diagonal is marked.

    chained: each matrix goes on from what the one before it has made.
    """
    figure, axes = plt.subplots(1, len(matrices), figsize=(7, 2.8), sharex=True, sharey=True)
    angle = np.linspace(0, 2 * np.pi, 81)
    points = circle = np.stack([np.cos(angle), np.sin(angle)])
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        before = points if chained else circle
        points = np.array(matrix) @ before
        for now, line, color, face in ((before, ":", "#999999", "white"), (points, "-", BLUE, None)):
            ax.plot(*now, line, color=color)
            for place, marker, edge in ((10, "o", ORANGE), (30, "s", "#000000")):
                ax.plot(*now[:, place], marker, color=edge, markerfacecolor=face or edge)
        ax.set(title=title, aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
        ax.tick_params(labelsize=8)
    figure.tight_layout()
    plt.show()


def draw_descents(losses: dict[str, dict[str, list[float]]]) -> None:
    """The lowest loss so far, a panel for each title -> optimizer -> the loss of each step; a dot at the end."""
    figure, axes = plt.subplots(1, len(losses), figsize=(7.5, 3.2), sharey=True)
    for ax, (title, runs) in zip(axes, losses.items(), strict=True):
        for name, run in runs.items():
            color, line = STYLE[name]
            lowest = np.minimum.accumulate(run)
            ax.semilogy(lowest, line, color=color, label=name)
            ax.plot(len(run) - 1, lowest[-1], "o", color=color, markersize=4)
        ax.set(xlabel="step", title=title)
    axes[0].set(ylabel="lowest loss so far", ylim=(1e-4, 100))
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    plt.show()


def draw_rounds(rounds: Callable[[np.ndarray, tuple, int], list], coefficients: dict[str, tuple]) -> None:
    """Two polynomials: a singular value after one round, and after five.

    rounds: makes of singular values, coefficients and a number of rounds the values before and after each round.
    """
    grid, small = np.linspace(0, 1.2, 100), np.geomspace(0.001, 1, 1000)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
    for (name, numbers), color, line in zip(coefficients.items(), (ORANGE, BLUE), ("--", "-"), strict=True):
        left.plot(grid, rounds(grid, numbers, 1)[-1], line, color=color)
        right.semilogx(small, rounds(small, numbers, 5)[-1], line, color=color, label=name)
    left.plot([0, 1.2], [0, 1.2], color="#999999", linewidth=0.8)
    left.set(xlabel="singular value", ylabel="after one round", ylim=(0, 1.3))
    right.axhline(1, color="#999999", linewidth=0.8)
    right.set(xlabel="singular value", ylabel="after five rounds", ylim=(0, 1.3))
    right.legend(frameon=False)
    figure.tight_layout()
    plt.show()


def draw_spectra(panels: dict[str, dict[str, mx.array]]) -> None:
    """The singular values of steps, the largest as 1: a panel for each title -> optimizer -> its step, a matrix."""
    figure, axes = plt.subplots(1, len(panels), figsize=(7.5, 3.2), sharey=True)
    for ax, (title, steps) in zip(axes, panels.items(), strict=True):
        for name, step in steps.items():
            color, line = STYLE[name]
            values = np.linalg.svd(np.array(step), compute_uv=False)
            ax.semilogy(range(1, len(values) + 1), values / values[0], line, color=color, label=name)
        ax.set(xlabel="singular value, the largest first", title=title)
    axes[0].set(ylabel="size, the largest = 1", ylim=(1e-4, 2))
    axes[-1].legend(frameon=False, loc="lower left")
    figure.tight_layout()
    plt.show()


def draw_lifted(spectra: list[list[float]]) -> None:
    """The singular values of a matrix after 0, 1, … rounds of Newton–Schulz."""
    _, ax = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    for n, values in enumerate(spectra):
        ax.semilogy(values, color=plt.get_cmap("viridis")(n / len(spectra)))
        ax.text(len(values) + 0.5, values[-1], f"round {n}", va="center", fontsize=8)
    ax.set(xlabel="singular value, the largest first", ylabel="size", xlim=(0, 1.2 * len(spectra[0])))
    plt.show()


def draw_searches(searches: dict[str, list[dict]]) -> None:
    """Held-out losses over learning rates, a panel for each title -> rows with kind, rate, seed and loss.

    A line goes through the runs of seed 0, a ring stands for each other seed, and "frozen" is a line across.
    """
    figure, axes = plt.subplots(1, len(searches), figsize=(8, 3.4), layout="constrained", squeeze=False)
    for ax, (title, rows) in zip(axes[0], searches.items(), strict=True):
        for kind in dict.fromkeys(row["kind"] for row in rows):
            _draw_kind(ax, kind, [row for row in rows if row["kind"] == kind])
        ax.set(xscale="log", xlabel="learning rate of the matrices", title=title)
        rates = [row["rate"] for row in rows if row["rate"]]
        ticks = [tick for tick in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3) if min(rates) / 2 < tick < 2 * max(rates)]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
    axes[0, 0].plot([], [], "o", color="#000000", markerfacecolor="none", label="another seed")
    axes[0, 0].set_ylabel("held-out loss, nats per token")
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.94))
    plt.show()


def _draw_kind(ax: Axes, kind: str, rows: list[dict]) -> None:
    color, line = STYLE[kind]
    if kind == "frozen":
        ax.axhline(rows[0]["loss"], linestyle=line, color=color, label=kind)
        return
    first = sorted((row["rate"], row["loss"]) for row in rows if row["seed"] == 0)
    ax.plot(*zip(*first, strict=True), linestyle=line, color=color, label=kind, marker=".")
    for row in rows:
        if row["seed"]:
            ax.plot(row["rate"], row["loss"], "o", color=color, markerfacecolor="none")


def draw_schedules(multiplier: Callable[[int, int], float], momentum: Callable[[int], float]) -> None:
    """The factor of all rates over a run of 1,000 steps, and Muon's momentum."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.6))
    steps = range(1001)
    left.plot(steps, [multiplier(n, 1000) for n in steps], color=BLUE)
    left.set(xlabel="step of 1,000", ylabel="lr_multiplier", ylim=(0, 1.1))
    right.plot(steps, [momentum(n) for n in steps], color=BLUE)
    right.set(xlabel="step", ylabel="muon_momentum")
    figure.tight_layout()
    plt.show()

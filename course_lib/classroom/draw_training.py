"""Drawings of chapter 10: memory of a step, the curves of a run, what forgetting does, losses over operations.

Written by hand; chapter 10 uses it.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from course_lib.classroom.live_curve import running_mean

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
SERIES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "^"))


def _tidy(ax: Axes, **labels: object) -> None:
    ax.set(**labels)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def draw_peaks(counts: list[int], peaks: dict[str, list[float]]) -> None:
    """Peak memory in MB over the number of micro-batches, a line for each way of counting."""
    figure, ax = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
    for (label, values), (color, line, marker) in zip(peaks.items(), SERIES, strict=False):
        ax.plot(counts, values, line, marker=marker, color=color, label=label)
    _tidy(ax, xlabel="micro-batches in a step", ylabel="peak memory, MB", ylim=(0, None))
    ax.legend(frameon=False)
    plt.show()


def draw_run(training: list[float], unseen: dict[int, float], norms: list[float], limit: float) -> None:
    """Left the loss of each step and of unseen text, right the norm of each step's gradients."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(training, color=BLUE, alpha=0.25, linewidth=0.8)
    left.plot(running_mean(training, 20), color=BLUE, label="training text, mean of 20 steps")
    left.plot(unseen.keys(), unseen.values(), "--o", color=ORANGE, markersize=4, label="unseen text")
    _tidy(left, xlabel="step", ylabel="loss, nats per token")
    left.legend(frameon=False, fontsize=8)
    right.plot(norms, color=BLUE, linewidth=1)
    right.axhline(limit, color=ORANGE, linestyle="--", label="clipped above this line")
    _tidy(right, xlabel="step", ylabel="norm of all gradients", ylim=(0, None))
    right.legend(frameon=False, fontsize=8)
    plt.show()


def draw_forgetting(differences: dict[str, list[list[float]]], ends: dict[str, list[float]]) -> None:
    """Left the training loss minus that of the run that forgets nothing, thin per seed; right unseen text at the end.

    differences: for each thing forgotten a list of losses per seed; ends: unseen loss per seed, "nothing" included.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", width_ratios=[2, 1])
    for (what, seeds), (color, line, _) in zip(differences.items(), SERIES, strict=False):
        for each in seeds:
            left.plot(each, line, color=color, alpha=0.3, linewidth=0.8)
        left.plot(np.mean(seeds, axis=0), line, color=color, linewidth=2, label=f"forgets its {what}")
    left.axhline(0, color=GREY, linewidth=1)
    _tidy(left, xlabel="step", ylabel="training loss, difference\nto the run that forgets nothing")
    left.legend(frameon=False, fontsize=8)
    colors = {what: color for what, (color, _, _) in zip(differences, SERIES, strict=False)}
    for place, (what, losses) in enumerate(ends.items()):
        right.plot(losses, [place] * len(losses), "o", color=colors.get(what, GREY))
    right.set_yticks(range(len(ends)), list(ends))
    _tidy(right, xlabel="unseen text, nats per token", ylim=(len(ends) - 0.5, -0.5))
    plt.show()


def draw_scaling(rows: list[dict]) -> None:
    """Left the unseen loss over operations, a line for each depth; right over parameters, a line for each budget.

    rows: depth, parameters, flops, seed, loss. A dot for each seed; a ring around the best depth of a budget.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    depths, budgets = (sorted({row[key] for row in rows}) for key in ("depth", "flops"))
    size = {row["depth"]: row["parameters"] for row in rows}
    loss = {
        (depth, flops): [row["loss"] for row in rows if (row["depth"], row["flops"]) == (depth, flops)]
        for depth in depths
        for flops in budgets
    }
    best = {flops: min(depths, key=lambda depth: np.mean(loss[depth, flops])) for flops in budgets}
    for depth, (color, line, marker) in zip(depths, SERIES, strict=False):
        means = [np.mean(loss[depth, flops]) for flops in budgets]
        left.semilogx(budgets, means, line, color=color, label=f"depth {depth}")
        for flops in budgets:
            left.plot([flops] * len(loss[depth, flops]), loss[depth, flops], marker, color=color, markersize=4)
    for flops, (color, line, marker) in zip(budgets, SERIES, strict=False):
        right.semilogx(
            [size[depth] for depth in depths],
            [np.mean(loss[depth, flops]) for depth in depths],
            line,
            marker=marker,
            color=color,
            markersize=4,
            label=f"{flops:.2g} operations",
        )
    for flops, depth in best.items():
        mean = np.mean(loss[depth, flops])
        for ax, x in ((left, flops), (right, size[depth])):
            ax.plot(x, mean, "o", markersize=14, markerfacecolor="none", color="black")
    _tidy(left, xlabel="operations", ylabel="unseen text, nats per token")
    right.minorticks_off()
    right.set_xticks([size[depth] for depth in depths], [f"{size[depth]:,}" for depth in depths])
    _tidy(right, xlabel="parameters")
    left.legend(frameon=False, fontsize=8)
    right.legend(frameon=False, fontsize=8)
    plt.show()


def draw_faults(panels: dict[str, tuple[list[float], list[float]]], sound: tuple[list, list], every: int) -> None:
    """A panel for each run: training loss and unseen loss, beside those of a sound run in grey."""
    figure, axes = plt.subplots(2, 3, figsize=(9, 4.6), sharex=True, sharey=True, layout="constrained")
    for ax, (name, (training, unseen)) in zip(axes.flat, panels.items(), strict=True):
        steps = [every * (n + 1) for n in range(len(training))]
        ax.plot(steps, sound[0], color=GREY, linewidth=1)
        ax.plot(steps, sound[1], "--", color=GREY, linewidth=1)
        ax.plot(steps, training, color=BLUE, label="training text")
        ax.plot(steps, unseen, "--", color=ORANGE, label="unseen text")
        _tidy(ax, ylim=(0, 9))
        ax.set_title(name, fontsize=10)
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("loss, nats per token", fontsize=10)
    plt.show()

"""Drawings of the chapter on reinforcement: groups, estimates of a gradient, surprise, runs.

Written by hand; chapter 15 uses it.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
PALE_BLUE, PALE_ORANGE = "#cfe4f3", "#fbe3d2"


def draw_groups(groups: list[list[float]]) -> None:
    """A line for each group, a square for each reply: filled if right, with its advantage."""
    figure, ax = plt.subplots(figsize=(6.4, 0.42 * len(groups) + 0.5), layout="constrained")
    for y, rewards in enumerate(groups):
        mean = sum(rewards) / len(rewards)
        equal = len(set(rewards)) == 1
        for x, reward in enumerate(rewards):
            face = ("#bbbbbb" if equal else BLUE) if reward else "white"
            ax.add_patch(Rectangle((x + 0.06, y + 0.1), 0.88, 0.8, facecolor=face, edgecolor=GREY if equal else BLUE))
            if reward and not equal:
                ax.text(x + 0.5, y + 0.5, f"{reward - mean:+.2f}", ha="center", va="center", fontsize=8, color="white")
        right = f"{sum(rewards):.0f} right" + (": all equal" if equal else "")
        ax.text(len(rewards) + 0.15, y + 0.5, right, va="center", fontsize=9, color=GREY if equal else "black")
    ax.set(xlim=(-0.1, len(groups[0]) + 2.2), ylim=(len(groups), 0))
    ax.set_yticks([n + 0.5 for n in range(len(groups))], [f"sum {n}" for n in range(len(groups))])
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    plt.show()


def draw_estimates(estimates: dict[str, np.ndarray], exact: float) -> None:
    """A histogram for each way to estimate one slope, all on the same axis."""
    figure, axes = plt.subplots(len(estimates), 1, figsize=(6.8, 3.2), sharex=True, layout="constrained")
    low, high = (edge(np.concatenate([*estimates.values()])) for edge in (np.min, np.max))
    for ax, (name, found), color in zip(axes, estimates.items(), (ORANGE, BLUE), strict=True):
        ax.hist(found, bins=np.linspace(low, high, 80), color=color)
        ax.axvline(exact, color="black", linestyle="--", linewidth=1)
        ax.set_title(f"weighted by {name}", fontsize=10, loc="left")
        ax.set_yticks([])
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[-1].set_xlabel("slope for the first arm, estimated from 16 pulls (dashed: exact)")
    plt.show()


def draw_surprise(labels: list[str], nats: list[float], mask: list[int]) -> None:
    """-log p of each token of a reply; hatched where a tool has forced it."""
    figure, ax = plt.subplots(figsize=(9, 2.9), layout="constrained")
    for n, (height, own) in enumerate(zip(nats, mask, strict=True)):
        style = {"color": BLUE} if own else {"facecolor": PALE_ORANGE, "edgecolor": ORANGE, "hatch": "///"}
        ax.bar(n, height, width=0.8, **style)
    names = [label.strip("<|>").replace("_", "\n") for label in labels]
    ax.set_xticks(range(len(names)), names, fontsize=8)
    ax.set_ylabel("−log p, nats")
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()


def draw_history(history: list[dict]) -> None:
    """Reward and share of the tool on the left, groups that teach on the right, over the steps."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
    steps = range(1, len(history) + 1)
    lines = {"reward": (BLUE, "-"), "tool": (ORANGE, "--")}
    for name, (color, style) in lines.items():
        axes[0].plot(steps, [seen[name] for seen in history], style, color=color)
    axes[0].legend(["mean reward", "replies with the tool"], frameon=False, loc="lower right", fontsize=9)
    axes[0].set(xlabel="step", ylim=(0, 1.05))
    groups = [8 * seen["live"] for seen in history]
    axes[1].bar(steps, groups, color=GREEN, width=0.8)
    axes[1].set(xlabel="step", ylabel="of 8 groups teach", ylim=(0, 8.2))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    plt.show()


def draw_runs(runs: dict[str, list[dict]]) -> None:
    """pass@1 (a dot for each seed, two standard errors to each side) and pass@8 (a ring) of each run."""
    figure, ax = plt.subplots(figsize=(7.4, 0.5 * len(runs) + 0.9), layout="constrained")
    for y, rows in enumerate(runs.values()):
        for n, row in enumerate(rows):
            place = y + 0.16 * (n - (len(rows) - 1) / 2)
            ax.errorbar(row["right"], place, xerr=2 * row["error"], fmt="o", color=BLUE, markersize=4, capsize=2)
            ax.plot(row["some_right"], place, "o", mfc="white", color=ORANGE, markersize=5)
    ax.plot([], [], "o", color=BLUE, markersize=4, label="pass@1")
    ax.plot([], [], "o", mfc="white", color=ORANGE, markersize=5, label="pass@8")
    ax.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
    ax.set_yticks(range(len(runs)), list(runs))
    ax.set(xlim=(0, 1.02), ylim=(len(runs) - 0.5, -0.5), xlabel="share of the held-out sums")
    ax.grid(axis="x", color="#dddddd")
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()


def draw_pass_curves(curves: dict[str, list[list[float]]]) -> None:
    """pass@k over k, a line for each seed."""
    figure, ax = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    for (name, lines), color, style in zip(curves.items(), (ORANGE, BLUE), ("s--", "o-"), strict=True):
        for n, line in enumerate(lines):
            ax.plot(range(1, len(line) + 1), line, style, color=color, markersize=4, label="" if n else name)
    ax.set(xlabel="k", ylabel="pass@k", ylim=(0, 1.03))
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()

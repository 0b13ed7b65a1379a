"""Drawings of chapter 22: a pickle's stack, one group of weights in four bits, what fewer bits cost, a draft's shares.

Written by hand; chapter 22 uses it.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#cfe4f3"


def draw_stack(steps: list[tuple[str, list[str]]]) -> None:
    """A column for each instruction: its name, and what lies on the stack after it, the newest on top."""
    most = max(len(stack) for _, stack in steps)
    _, ax = plt.subplots(figsize=(10, 0.42 * most + 1.1))
    for column, (name, stack) in enumerate(steps):
        ax.text(column, -0.25, name, ha="right", va="top", fontsize=7.5, rotation=35)
        for place, item in enumerate(stack):
            newest = place == len(stack) - 1
            colour = GREY if newest else "white"
            ax.add_patch(Rectangle((column - 0.45, place), 0.9, 0.86, facecolor=colour, edgecolor="#333333"))
            ax.text(column, place + 0.43, item, ha="center", va="center", fontsize=7)
    ax.set(xlim=(-0.9, len(steps) - 0.4), ylim=(-1.6, most + 0.1))
    ax.axis("off")
    plt.tight_layout()
    plt.show()


def draw_group(numbers: np.ndarray, levels: dict[str, np.ndarray]) -> None:
    """One picture for each way of rounding: its 16 levels as lines, and from each number a stroke to its level.

    A number that is moved by more than half a step lies beyond the last level; that is written beside it.
    """
    figure, axes = plt.subplots(1, len(levels), figsize=(11, 4.4), sharey=True, layout="constrained")
    for ax, (name, values) in zip(axes, levels.items(), strict=True):
        nearest = values[np.abs(numbers[:, None] - values).argmin(axis=1)]
        ax.hlines(values, -1, len(numbers), color="#bbbbbb", linewidth=0.7)
        ax.axhline(0, color="black", linewidth=0.8, linestyle=":")
        ax.vlines(range(len(numbers)), numbers, nearest, color=ORANGE, linewidth=2)
        ax.plot(numbers, "o", color=BLUE, markersize=1.8)
        for place in np.flatnonzero(np.abs(numbers - nearest) > 0.51 * np.ptp(values) / (len(values) - 1)):
            ax.annotate("cut off", (place, numbers[place]), (4, 0), textcoords="offset points", fontsize=8, va="center")
        ax.set(title=name, xlabel="place in the group", xlim=(-1, len(numbers)))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("weight")
    figure.suptitle("dots: the numbers; lines: the 16 values, dotted: 0; strokes: what rounding moves", fontsize=9)
    plt.show()


def draw_bits(rows: list[dict]) -> None:
    """Bits per byte lost over megabytes: a colour for each recipe, dots with their bits, crosses for four-bit floats.

    Bars are two standard errors to each side; upwards each tick is ten times the one below it, but near 0.
    """
    _, ax = plt.subplots(figsize=(7.5, 4))
    floats = {"mxfp4": "x", "nvfp4": "+"}
    for recipe, colour in {"tables kept": BLUE, "all": ORANGE, "ends kept": GREEN}.items():
        for row in (row for row in rows if row["recipe"] == recipe):
            bits, place = str(row["bits"]), (row["megabytes"], row["lost"])
            look = {"fmt": floats.get(bits, "o"), "color": colour, "markersize": 7 if bits in floats else 5}
            ax.errorbar(*place, 2 * row["error"], elinewidth=0.8, **look)
            if bits not in floats:
                ax.annotate(bits, place, (5, 3), textcoords="offset points", fontsize=8)
        ax.plot([], [], "o", color=colour, label=recipe)
    for name, marker in floats.items():
        ax.plot([], [], marker, color="#333333", label=name)
    ax.set_yscale("symlog", linthresh=1e-3)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_yticks([0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2], ["0", "0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03"])
    ax.minorticks_off()
    ax.set(xlabel="megabytes", ylabel="bits per byte lost (linear below 0.001)")
    ax.set_title("bars: two standard errors to each side", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    plt.tight_layout()
    plt.show()


def draw_shares(p: list[float], q: list[float], names: str) -> None:
    """Beside each other for each token: the draft's share, of it what is accepted, and what is drawn in its place."""
    places = np.arange(len(p))
    both = np.minimum(p, q)
    _, ax = plt.subplots(figsize=(6.5, 2.8))
    ax.bar(places - 0.2, q, 0.36, color="white", edgecolor="#333333", hatch="///", label="draft, refused")
    ax.bar(places - 0.2, both, 0.36, color=BLUE, edgecolor="#333333", label="draft, accepted")
    ax.bar(places + 0.2, both, 0.36, color=BLUE, edgecolor="#333333")
    ax.bar(
        places + 0.2, np.array(p) - both, 0.36, both, color=ORANGE, edgecolor="#333333", label="in place of a refused"
    )
    ax.set_xticks(places, [f"{name}\n draft | model" for name in names], fontsize=8)
    ax.set(ylabel="probability")
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    plt.tight_layout()
    plt.show()

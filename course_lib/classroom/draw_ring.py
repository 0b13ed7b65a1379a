"""Drawings of chapter 20: how a ring adds up, what several processes gain.

Written by hand; chapter 20 uses it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

BLUE, ORANGE, PALE, DONE = "#0072B2", "#D55E00", "#ffffff", "#cfe4f3"


def draw_ring(states: Sequence[Sequence[Sequence[float]]]) -> None:
    """A panel for each of states[step][process][place]; arrows show what has come in since the one before."""
    n, totals = len(states[0]), [sum(column) for column in zip(*states[0], strict=True)]
    figure, axes = plt.subplots(1, len(states), figsize=(2.0 * len(states), 2.5), layout="constrained")
    for step, (ax, state) in enumerate(zip(axes, states, strict=True)):
        for process, row in enumerate(state):
            for place, number in enumerate(row):
                color = DONE if number == totals[place] else PALE
                ax.add_patch(Rectangle((place, process), 1, 1, facecolor=color, edgecolor="#333333"))
                came = step and states[step - 1][process][place] != number
                weight, color = ("bold", ORANGE) if came else ("normal", "#1a1a1a")
                ax.text(
                    place + 0.44, process + 0.5, f"{number:g}", ha="center", va="center", weight=weight, color=color
                )
                if came:
                    _arrow(ax, (process - 1) % n, process, place, n)
        title = "start" if not step else f"step {step}: {'add' if step < n else 'copy'}"
        ax.set_title(title, fontsize=10)
        ax.set(xlim=(-0.1, n + 0.1), ylim=(n + 0.45, -0.45), xticks=[], aspect="equal")
        ax.set_yticks([process + 0.5 for process in range(n)], range(n) if not step else [""] * n)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel("process")
    figure.legend(
        handles=[Patch(facecolor=DONE, edgecolor="#333333", label="the sum over all processes")],
        loc="outside lower center",
        frameon=False,
    )
    plt.show()


def _arrow(ax: plt.Axes, sender: int, receiver: int, place: int, n: int) -> None:
    """From the sender's row down to the receiver's; from the last row it leaves below and comes in above the first."""
    style = {"mutation_scale": 9, "color": ORANGE, "linewidth": 1.4, "zorder": 3}
    x = place + 0.85
    if sender < receiver:
        ax.add_patch(FancyArrowPatch((x, sender + 0.75), (x, receiver + 0.3), arrowstyle="-|>", **style))
    else:
        ax.add_patch(FancyArrowPatch((x, n - 0.25), (x, n + 0.4), arrowstyle="-", **style))
        ax.add_patch(FancyArrowPatch((x, -0.4), (x, 0.3), arrowstyle="-|>", **style))


def draw_speeds(tokens: Sequence[int], gains: dict[str, Sequence[float]]) -> None:
    """How many times as fast as one process each way is, over the tokens of a step."""
    styles = {"two apart": ("#999999", "--", "s"), "two": (BLUE, "-", "o"), "four": (ORANGE, ":", "^")}
    figure, ax = plt.subplots(figsize=(5.8, 3.4), layout="constrained")
    ax.axhline(1, color="#333333", linewidth=0.8)
    for way, gain in gains.items():
        color, line, marker = styles[way]
        label = "two that exchange nothing" if way == "two apart" else f"{way} processes"
        ax.plot(tokens, gain, line, marker=marker, color=color, label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks(tokens, [f"{number:,}" for number in tokens])
    ax.minorticks_off()
    ax.set(xlabel="tokens of a step, all processes together", ylabel="times as fast as one")
    ax.set_ylim(0, max(2.3, 1.1 * max(map(max, gains.values()))))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    plt.show()

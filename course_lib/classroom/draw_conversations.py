"""Drawings of chapter 13: targets below their inputs, rows of conversations, what fine-tuning gains and forgets.

Written by hand; chapter 13 uses it.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Rectangle

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"
PALE = "#cfe4f3"


def _label(piece: str) -> str:
    """A piece of text for a box: special tokens without their brackets, in two lines; spaces shown."""
    if piece.startswith("<|") and piece.endswith("|>"):
        return piece[2:-2].replace("_", "\n")
    return piece.replace(" ", "␣")


def draw_shift(pieces: list[str], mask: list[int]) -> None:
    """The ids of a short conversation as inputs, and below each its target: the next id, or -1 where its mask is 0."""
    count = len(pieces) - 1
    figure, ax = plt.subplots(figsize=(1.02 * count + 1.2, 2.5))
    for n in range(count):
        trained = mask[n + 1] == 1
        style = {"edgecolor": BLUE, "linewidth": 2, "facecolor": PALE} if trained else {"edgecolor": GREY}
        given = {"edgecolor": BLUE, "linewidth": 2} if mask[n] else {"edgecolor": GREY}
        ax.add_patch(Rectangle((n + 0.05, 2), 0.9, 0.8, facecolor="white", **given))
        ax.add_patch(Rectangle((n + 0.05, 0), 0.9, 0.8, **{"facecolor": "white", **style}))
        ax.text(n + 0.5, 2.4, _label(pieces[n]), ha="center", va="center", fontsize=8, family="monospace")
        target = _label(pieces[n + 1]) if trained else "-1"
        color = "black" if trained else GREY
        ax.text(n + 0.5, 0.4, target, ha="center", va="center", fontsize=8, family="monospace", color=color)
        if trained and n + 1 < count:  # the id moves one place to the left
            arrow = {"arrowstyle": "->", "color": BLUE, "linewidth": 1.2}
            ax.annotate("", (n + 0.6, 0.83), (n + 1.4, 1.97), arrowprops=arrow)
    for y, text in ((2.4, "inputs"), (0.4, "targets")):
        ax.text(-0.15, y, text, ha="right", va="center", fontsize=10)
    ax.set(xlim=(-1.1, count + 0.1), ylim=(-0.15, 2.95))
    ax.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    plt.show()


def draw_rows(ways: dict[str, list[tuple[list[int], list[int]]]], bos: int, places: int) -> None:
    """For each way to make rows, the first of them: trained dark, given pale, padding white; a tick at each <|bos|>."""
    figure, axes = plt.subplots(1, len(ways), figsize=(10, 2.7), sharey=True)
    for ax, (title, rows) in zip(axes, ways.items(), strict=True):
        kinds = np.zeros((len(rows), places))
        for y, (ids, mask) in enumerate(rows):
            kinds[y, : len(ids)] = 1 + np.array(mask)
            for x in (place for place, token in enumerate(ids) if token == bos):
                ax.plot([x - 0.5, x - 0.5], [y - 0.42, y + 0.42], color=ORANGE, linewidth=1.6)
        ax.imshow(kinds, aspect="auto", cmap="Blues", vmin=0, vmax=2.6, interpolation="nearest")
        for y in range(1, len(rows)):
            ax.axhline(y - 0.5, color="white", linewidth=2)
        ax.set(title=title, xlabel="place in the row")
        ax.tick_params(left=False)
    axes[0].set_ylabel("row")
    colors = {"padding": 0, "given": 1, "trained": 2}
    cmap = plt.get_cmap("Blues")
    handles = [Patch(facecolor=cmap(kind / 2.6), edgecolor=GREY, label=name) for name, kind in colors.items()]
    handles.append(Patch(facecolor=ORANGE, label="a conversation begins"))
    figure.legend(handles=handles, frameon=False, ncols=4, loc="lower center")
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    plt.show()


def draw_forgetting(looks: list[tuple[int, float, float]], nothing: float) -> None:
    """Bits per byte of documentation and of answers over the steps; dashed: a model that knows nothing."""
    steps, documents, answers = zip(*looks, strict=True)
    figure, ax = plt.subplots(figsize=(6.5, 3.2))
    ax.plot(steps, documents, "s-", color=ORANGE, label="documentation")
    ax.plot(steps, answers, "o-", color=BLUE, label="held-out answers")
    ax.axhline(
        nothing, color="black", linestyle="--", linewidth=1.2, label=f"documentation, knowing nothing: {nothing:.2f}"
    )
    ax.set(xlabel="step of fine-tuning", ylabel="bits per byte", ylim=(0, None))
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()

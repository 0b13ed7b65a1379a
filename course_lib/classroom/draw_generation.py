"""Drawings of chapter 12: what a cache keeps and who holds it, where time goes, what is cut off, rows of many lengths.

Written by hand; chapter 12 uses it.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from course_lib.classroom.draw_serving import draw_timeline

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
PALE_BLUE, PALE_ORANGE = "#cfe4f3", "#f6d9a8"


def draw_grids(letters: list[str], before: list, after: list) -> None:
    """Scores of queries (rows) and keys (columns), before and after one more letter; the old block is framed."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.9), layout="constrained")
    for ax, grid in zip(axes, (before, after), strict=True):
        size, old = len(grid), len(before)
        for row in range(size):
            for column in range(size):
                hidden, new = column > row, row >= old
                color = "white" if hidden else PALE_ORANGE if new else PALE_BLUE
                ax.add_patch(Rectangle((column, row), 1, 1, facecolor=color, edgecolor="#bbbbbb"))
                if not hidden:
                    ax.text(column + 0.5, row + 0.5, f"{grid[row][column]:.1f}", ha="center", va="center", fontsize=9)
        ax.add_patch(Rectangle((0, 0), old, old, fill=False, edgecolor=BLUE, linewidth=2.5))
        ax.set(xlim=(-0.1, len(after) + 0.1), ylim=(len(after) + 0.1, -0.1), aspect="equal", xlabel="key of")
        ax.xaxis.tick_top()
        ax.xaxis.set_label_position("top")
        ax.set_xticks([n + 0.5 for n in range(size)], letters[:size])
        ax.set_yticks([n + 0.5 for n in range(size)], letters[:size])
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    axes[0].set_ylabel("query of")
    axes[1].text(size + 0.2, size - 0.5, "one new row", color=ORANGE, va="center", fontsize=10)
    plt.show()


def draw_holders(blocks: int, shape: tuple, held: int) -> None:
    """Who holds whom: the model's blocks on the left, the cache with a part for each block on the right."""
    figure, ax = plt.subplots(figsize=(9.2, 1.5 + 1.25 * blocks))
    top = 1.5 * blocks
    _box(ax, 0, -0.2, 2.6, top + 1.1, "model (GPT)", "white")
    _box(ax, 5.0, -0.2, 6.6, top + 1.1, "cache (KVCache)", "white")
    for n in range(blocks):
        y = top - 1.5 * (n + 1) + 0.25
        _box(ax, 0.3, y, 2.0, 1.15, f"block {n}", PALE_BLUE)
        _box(ax, 5.3, y, 6.0, 1.15, f"layers[{n}] (LayerCache)", "#eeeeee")
        for place, name in ((5.55, "keys"), (8.5, "values")):
            ax.add_patch(Rectangle((place, y + 0.12), 2.6, 0.5, facecolor="white", edgecolor="#555555", hatch="///"))
            ax.add_patch(Rectangle((place, y + 0.12), 1.2, 0.5, facecolor=PALE_ORANGE, edgecolor="#555555"))
            ax.text(place + 0.6, y + 0.37, name, ha="center", va="center", fontsize=9)
        _arrow(ax, (2.3, y + 0.8), (5.3, y + 0.8), "new k, v" if n == 0 else "")
        _arrow(ax, (5.3, y + 0.3), (2.3, y + 0.3), "all k, v" if n == 0 else "")
    text = f"each array: (rows, heads, room, numbers) = {tuple(shape)}; {held} positions in use, the rest is room"
    ax.text(5.8, -0.6, text, ha="center", va="center", fontsize=9)
    ax.set(xlim=(-0.1, 11.7), ylim=(-0.9, top + 1.1))
    ax.axis("off")
    plt.show()


def _box(ax: Axes, x: float, y: float, width: float, height: float, title: str, color: str) -> None:
    ax.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor="#333333"))
    ax.text(x + 0.15, y + height - 0.12, title, ha="left", va="top", fontsize=9)


def _arrow(ax: Axes, start: tuple, end: tuple, label: str) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color="#333333"))
    ax.text((start[0] + end[0]) / 2, start[1] + 0.06, label, ha="center", va="bottom", fontsize=9)


def draw_times(uncached: dict[int, float], cached: dict[int, float]) -> None:
    """Seconds of the next token over the tokens before it, both axes logarithmic."""
    figure, ax = plt.subplots(figsize=(5.8, 3.5), layout="constrained")
    for times, style, color, label in (
        (uncached, "o-", BLUE, "without a cache"),
        (cached, "s--", ORANGE, "with a cache"),
    ):
        milliseconds = [1000 * seconds for seconds in times.values()]
        ax.plot(list(times), milliseconds, style, color=color)
        ax.annotate(label, (list(times)[-1], milliseconds[-1]), (-8, 9), textcoords="offset points", ha="right")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(list(uncached), [str(n) for n in uncached])
    ax.set(xlabel="tokens before it", ylabel="milliseconds for the next token")
    ax.margins(y=0.2)
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()


def draw_roof(points: dict[int, tuple[float, float]], memory_speed: float, peak: float) -> None:
    """The roofline. points: tokens in one pass -> (FLOPs per byte, FLOPs per second)."""
    figure, ax = plt.subplots(figsize=(7, 3.9), layout="constrained")
    intensities = [point[0] for point in points.values()]
    line = np.geomspace(min(intensities) / 2, max(intensities) * 2, 200)
    ax.plot(line, np.minimum(memory_speed * line, peak) / 1e9, color=GREY, linewidth=1.5)
    ax.plot(intensities, [point[1] / 1e9 for point in points.values()], "o", color=BLUE)
    for tokens, (x, y) in points.items():
        ax.annotate(str(tokens), (x, y / 1e9), (0, -14), textcoords="offset points", ha="center", fontsize=9)
    low = min(point[1] for point in points.values()) / 1e9
    ax.text(line[0], memory_speed * line[0] / 1e9 * 8, "as fast as memory", color=GREY)
    ax.text(line[-1], peak / 1e9 * 1.12, "as fast as it multiplies", color=GREY, ha="right")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set(xlabel="FLOPs per byte that is read (points: tokens in one pass)", ylabel="billion FLOPs per second")
    ax.set_ylim(low / 4, peak / 1e9 * 2.5)
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()


def draw_distributions(panels: dict[str, list[float]], labels: list[str]) -> None:
    """Bars of probabilities, a panel for each title."""
    figure, axes = plt.subplots(1, len(panels), figsize=(9.5, 2.6), sharey=True, layout="constrained")
    for ax, (title, probs) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        ax.bar(labels, probs, color=BLUE)
        for n, p in enumerate(probs):
            ax.text(n, p, f"{p:.2f}"[1:] if p < 0.995 else "1", ha="center", va="bottom", fontsize=7)
        ax.set_title(title, fontsize=10)
        ax.tick_params(axis="x", labelsize=8)
        ax.margins(y=0.15)
        ax.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes)[0].set_ylabel("probability")
    plt.show()


def draw_cutoffs(contexts: dict[str, tuple[list[str], list[float]]], kept: dict[str, dict[str, int]]) -> None:
    """A row of panels for each context (labels and probabilities, the likeliest first), a column for each rule.

    kept: rule -> context -> how many of the likeliest stay.
    """
    figure, axes = plt.subplots(
        len(contexts), len(kept), figsize=(9.5, 1.9 * len(contexts)), sharey="row", layout="constrained"
    )
    for row, (context, (labels, probs)) in enumerate(contexts.items()):
        for ax, (rule, counts) in zip(axes[row], kept.items(), strict=True):
            count = counts[context]
            colors = [BLUE if n < count else "white" for n in range(len(probs))]
            edges = [BLUE if n < count else "#999999" for n in range(len(probs))]
            ax.bar(range(len(probs)), probs, color=colors, edgecolor=edges)
            ax.set_xticks(range(len(labels)), labels, fontsize=8)
            ax.axvline(count - 0.5, color=ORANGE, linestyle="--")
            ax.set_title(f"{rule}: keeps {count}", fontsize=10)
            ax.spines[["top", "right"]].set_visible(False)
        axes[row][0].set_ylabel(f"after “{context}”")
    plt.show()


def draw_pieces(labels: list[str], probs: list[float], u: float, chosen: int) -> None:
    """Probabilities side by side from 0 to 1, and the piece into which u falls."""
    figure, ax = plt.subplots(figsize=(7, 1.4), layout="constrained")
    left = 0.0
    for n, (label, p) in enumerate(zip(labels, probs, strict=True)):
        ax.barh(0, p, left=left, color=PALE_ORANGE if n == chosen else PALE_BLUE, edgecolor="#555555")
        if p > 0.015:
            ax.text(left + p / 2, 0, label, ha="center", va="center", fontsize=8)
        left += p
    ax.plot([u, u], [-0.6, 0.6], color=ORANGE, linewidth=2)
    ax.set(yticks=[], xlabel=f"the line at u = {u} falls into “{labels[chosen]}”", xlim=(0, 1))
    plt.show()


def draw_rows(texts: list[str], width: int) -> None:
    """A cache of rows: what each holds, where its next token goes, and what is hidden from it."""
    figure, ax = plt.subplots(figsize=(6.5, 0.45 * len(texts) + 0.7), layout="constrained")
    for row, text in enumerate(texts):
        for place in range(width):
            held, new = place < len(text), place == len(text)
            color = PALE_BLUE if held else PALE_ORANGE if new else "white"
            hatch = "" if held or new else "///"
            ax.add_patch(Rectangle((place, row), 1, 1, facecolor=color, hatch=hatch, edgecolor="#555555"))
            label = text[place] if held else "new" if new else ""
            ax.text(place + 0.5, row + 0.5, label, ha="center", va="center", fontsize=9)
    ax.set(xlim=(0, width), ylim=(len(texts), 0), xlabel="position")
    ax.set_xticks([n + 0.5 for n in range(width)], range(width))
    ax.set_yticks([n + 0.5 for n in range(len(texts))], [f"row {n}" for n in range(len(texts))])
    plt.show()


def draw_settings(points: dict[str, np.ndarray]) -> None:
    """A line for each setting, a dot for each text: nats per token, and the share of repeats. The last is real text."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), sharey=True, layout="constrained")
    *_, real = points.values()
    for column, (ax, label) in enumerate(zip(axes, ("nats per token, by the model", "share of repeats"), strict=True)):
        for line, marks in enumerate(points.values()):
            color = BLUE if marks is not real else "black"
            ax.plot(marks[:, column], [line] * len(marks), "o", color=color, alpha=0.4)
        ax.axvline(real[:, column].mean(), color=GREY, linestyle=":")
        ax.set_xlabel(label)
        ax.set_xlim(left=0 if column == 0 else -0.03)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(points)), list(points))
    axes[0].invert_yaxis()
    plt.show()


def draw_schedules(lengths: list[int], max_rows: int) -> None:
    """Which row writes which text when: in groups that wait for their longest, and continuously."""
    groups, start = [], 0
    for first in range(0, len(lengths), max_rows):
        group = lengths[first : first + max_rows]
        groups += [(start, start + length) for length in group]
        start += max(group)
    free, continuous = [0] * max_rows, []
    for length in lengths:
        row = free.index(min(free))
        continuous.append((free[row], free[row] + length))
        free[row] += length
    draw_timeline({f"in groups: {start} steps": groups, f"continuous: {max(free)} steps": continuous})

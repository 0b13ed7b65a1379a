"""Drawings of chapter 16: rows over time, what users wait for, a queue that fills, a pause, pages, one thread.

Written by hand; chapter 16 uses it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
PALE_BLUE = "#cfe4f3"
ROWS = ("#cfe4f3", "#f6d9a8", "#bfe3d6", "#e6cfe0", "#e8e8b8", "#dddddd")  # a colour for each of a few rows


def draw_timeline(panels: dict[str, Sequence[tuple[float, float]]], xlabel: str = "step") -> None:
    """A panel for each title: texts as bars (begin, end), each in the row that has been free for the longest."""
    figure, axes = plt.subplots(len(panels), 1, figsize=(8.5, 1.8 * len(panels)), sharex=True, layout="constrained")
    for ax, (title, spans) in zip(axes, panels.items(), strict=True):
        free: list[float] = []  # when each row ends what it writes
        for begin, end in sorted(spans, key=lambda span: span[0]):
            rows = [row for row, ends in enumerate(free) if ends <= begin]
            row = min(rows, key=free.__getitem__, default=len(free))
            free[row : row + 1] = [end]
            ax.barh(row, end - begin, left=begin, color=PALE_BLUE, edgecolor=BLUE)
            ax.text((begin + end) / 2, row, f"{end - begin:g}", ha="center", va="center", fontsize=8)
        ax.set_yticks(range(len(free)), [f"row {row}" for row in range(len(free))])
        ax.set_title(title, fontsize=10, loc="left")
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel(xlabel)
    plt.show()


def draw_users(table: Sequence[dict], rows: int) -> None:
    """Tokens a second, the first token and the time between tokens, over the number of users; 1 is one user alone."""
    users, alone = [line["users"] for line in table], table[0]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.1), layout="constrained")
    panels = {
        "tokens per second, all together": ("speed",),
        "time to the first token": ("first", "first 99 %"),
        "time between two tokens": ("between", "between 99 %"),
    }
    for ax, (title, names) in zip(axes, panels.items(), strict=True):
        for name, style, color in zip(names, ("o-", "s--"), (BLUE, ORANGE), strict=False):
            label = "one in a hundred" if "99" in name else "median" if len(names) > 1 else None
            ax.plot(users, [line[name] / alone[names[0]] for line in table], style, color=color, label=label)
        ax.axvline(rows, color=GREY, linestyle=":", linewidth=1)
        ax.set_xscale("log", base=2)
        ax.set_xticks(users, [str(number) for number in users])
        if names[0] == "first":
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
        else:
            ax.set_ylim(bottom=0)
        if len(names) > 1:
            ax.legend(frameon=False, fontsize=9)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("users")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("times those of one user")
    axes[0].text(rows * 0.92, axes[0].get_ylim()[1] * 0.03, f"{rows} rows", color=GREY, fontsize=9, ha="right")
    plt.show()


def draw_queue(by_load: dict[float, tuple[float, float]], over_time: dict[str, Sequence[tuple[float, float]]]) -> None:
    """by_load: load -> median wait and that of one in a hundred; over_time: name -> (when, wait) of each request."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained")
    for place, (label, style, color) in enumerate(
        [("median", "o-", BLUE), ("one in a hundred waits longer", "s--", ORANGE)]
    ):
        left.plot(list(by_load), [waits[place] for waits in by_load.values()], style, color=color, label=label)
    left.set(xlabel="load: work that comes, as a share of what can be done", ylabel="wait, in replies of mean length")
    left.legend(frameon=False, fontsize=9)
    for (name, points), color in zip(over_time.items(), (ORANGE, BLUE, GREEN), strict=False):
        right.plot(*zip(*points, strict=True), ".", markersize=2, color=color)
        right.annotate(name, points[-1], (4, 0), textcoords="offset points", color=color, fontsize=9, va="center")
    right.set(xlabel="when the request comes, in replies of mean length", ylabel="its wait")
    right.margins(x=0.02)
    right.set_xlim(right=1.5 * right.get_xlim()[1])  # room for the names
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    plt.show()


def draw_pauses(strips: dict[str, tuple[Sequence[float], float]]) -> None:
    """A strip for each chunk size: when one of the others got its tokens, and until when the newcomer was read."""
    figure, ax = plt.subplots(figsize=(9, 0.75 * len(strips) + 0.9), layout="constrained")
    for line, (tokens, until) in enumerate(strips.values()):
        ax.barh(line, until, height=0.5, color="#f6d9a8", edgecolor=ORANGE)
        ax.plot(tokens, [line] * len(tokens), "|", color=BLUE, markersize=15, markeredgewidth=1.6)
    ax.set_yticks(range(len(strips)), list(strips))
    ax.set_xlabel("time since the newcomer asked, in undisturbed steps")
    ax.set_xlim(-6, 1.25 * max(until for _, until in strips.values()))
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    bar = Patch(facecolor="#f6d9a8", edgecolor=ORANGE, label="the newcomer waits for its first token")
    (tick,) = ax.plot([], [], "|", color=BLUE, markersize=12, markeredgewidth=1.6, label="a token for another")
    figure.legend(handles=[bar, tick], loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    plt.show()


def draw_pages(tables: dict[str, tuple[Sequence[int], int]], count: int, size: int) -> None:
    """tables: row -> (its block table, positions in use), drawn above; below, the memory, page by page."""
    names, across = list(tables), 12
    depth, high = len(names), -(-count // across)
    figure, ax = plt.subplots(figsize=(9.5, 0.5 * (depth + high) + 1.1), layout="constrained")
    for line, (name, (pages, length)) in enumerate(tables.items()):
        y = depth - line
        ax.text(-0.15, y + 0.4, name, ha="right", va="center", fontsize=9)
        for n, page in enumerate(pages):
            _page(ax, n, y, ROWS[line], str(page), min(1, (length - n * size) / size))
        ax.text(len(pages) + 0.15, y + 0.4, f"{length} positions", va="center", fontsize=9, color=GREY)
    for page in range(count):
        owner = next((n for n, (pages, _) in enumerate(tables.values()) if page in pages), None)
        share = 0.0
        if owner is not None:
            pages, length = tables[names[owner]]
            share = min(1, (length - pages.index(page) * size) / size)
        color = "white" if owner is None else ROWS[owner]
        _page(ax, page % across, -0.7 - page // across, color, str(page), share)
    ax.text(-0.15, -0.3 - (high - 1) / 2, "memory", ha="right", va="center", fontsize=9)
    ax.set(xlim=(-1.6, across + 0.1), ylim=(-0.8 - (high - 1), depth + 0.9))
    ax.axis("off")
    plt.show()


def _page(ax: Axes, x: float, y: float, color: str, label: str, filled: float) -> None:
    """One page, its number, and how much of it is in use."""
    ax.add_patch(Rectangle((x, y), 0.96, 0.8, facecolor="white", edgecolor="#999999", hatch="///" if filled else ""))
    ax.add_patch(Rectangle((x, y), 0.96 * filled, 0.8, facecolor=color))
    ax.add_patch(Rectangle((x, y), 0.96, 0.8, fill=False, edgecolor="#555555"))
    box = {"facecolor": color if filled > 0.6 else "white", "edgecolor": "none", "pad": 1}
    ax.text(x + 0.48, y + 0.4, label, ha="center", va="center", fontsize=9, bbox=box)


def draw_threads() -> None:
    """Many threads put requests into a queue; one thread computes, and puts tokens where each of them looks."""
    figure, ax = plt.subplots(figsize=(9.5, 3.6), layout="constrained")
    for n, y in enumerate((2.6, 1.5, 0.4)):
        _box(ax, 0, y, 1.9, 0.8, f"user {n}'s thread", PALE_BLUE)
        _arrow(ax, (1.9, y + 0.55), (3.0, 2.15), "submit" if n == 0 else "", BLUE)
        _arrow(ax, (9.35, y + 0.4), (11.0, y + 0.4), "", GREEN)
        _box(ax, 11.0, y, 2.2, 0.8, f"handle {n}: ids so far", "#bfe3d6")
    _box(ax, 3.0, 1.6, 1.7, 1.0, "queue\n(bounded)", "white")
    _arrow(ax, (4.7, 2.1), (5.5, 2.1), "", "#333333")
    ax.add_patch(Rectangle((5.5, 0.1), 3.85, 3.5, facecolor="#fdf3e1", edgecolor=ORANGE))
    ax.text(7.42, 3.42, "the one thread that computes", ha="center", va="top", fontsize=9, color=ORANGE)
    steps = (
        "row free? take the next",
        "read one chunk of its prompt",
        "one step: a token for each row",
        "tell; free ended rows",
    )
    for n, words in enumerate(steps):
        _box(ax, 5.7, 2.5 - 0.7 * n, 3.15, 0.5, words, "white")
        if n:
            _arrow(ax, (7.3, 3.2 - 0.7 * n), (7.3, 3.0 - 0.7 * n), "", "#333333")
    ax.plot([8.85, 9.15, 9.15], [0.65, 0.65, 2.75], color="#333333", linewidth=1.2)
    _arrow(ax, (9.15, 2.75), (8.85, 2.75), "", "#333333")
    ax.text(12.1, -0.02, "read by the users' threads", ha="center", va="top", fontsize=9, color=GREEN)
    ax.set(xlim=(-0.1, 13.4), ylim=(-0.4, 3.8))
    ax.axis("off")
    plt.show()


def _box(ax: Axes, x: float, y: float, width: float, height: float, words: str, color: str) -> None:
    ax.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor="#333333"))
    ax.text(x + width / 2, y + height / 2, words, ha="center", va="center", fontsize=9)


def _arrow(ax: Axes, start: tuple, end: tuple, label: str, color: str) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=color, shrinkA=0, shrinkB=0))
    ax.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12, label, ha="center", va="bottom", fontsize=9)

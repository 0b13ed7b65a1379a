"""Pictures of tokens: boxes in a row, the merges that made a token as a tree, curves over vocabulary sizes."""

from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

PALE = ("#cfe4f3", "#fbe6c4", "#d5ead8", "#f3d3d8", "#e2d9f0", "#e4e4e4", "#fdf6b8")


def visible(token: bytes) -> str:
    """Bytes as something to print: spaces and line ends shown, bytes that are no whole character as \\x.. codes."""
    return token.decode(errors="backslashreplace").replace(" ", "·").replace("\n", "↵")


def draw_pieces(tokens: list[bytes], kinds: list[str] | None = None, ids: list[int] | None = None) -> None:
    """Draw each token in its box, from left to right and line by line.

    kinds: of each token, which gives the boxes their colours and a legend; without them two colours take turns. ids:
    written below the boxes.
    """
    width, boxes, x, line = 90, [], 0.0, 0
    for n, token in enumerate(tokens):
        size = max(len(visible(token)), len(str(ids[n])) if ids else 0) + 0.8
        if x + size > width:
            x, line = 0.0, line + 1
        boxes.append((x, line, size))
        x += size
    pitch = 1 if ids else 0.7
    top = 0.75 if kinds else 0.05
    height = pitch * (line + 1)
    figure = plt.figure(figsize=(9, 0.5 * (height + top)))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, width + 0.5), ylim=(height, -top))
    ax.axis("off")
    names = list(dict.fromkeys(kinds or ()))
    for n, (x, line, size) in enumerate(boxes):
        colour = PALE[names.index(kinds[n]) if kinds else n % 2]
        box = plt.Rectangle((x, pitch * line), size, 0.55, facecolor=colour, edgecolor="#555555")
        if kinds and kinds[n] not in kinds[:n]:
            box.set_label(kinds[n])
        ax.add_patch(box)
        middle = {"x": x + size / 2, "ha": "center", "va": "center", "family": "monospace"}
        ax.text(y=pitch * line + 0.29, s=visible(tokens[n]), fontsize=10, **middle)
        if ids:
            ax.text(y=pitch * line + 0.76, s=ids[n], fontsize=8.5, **middle)
    if kinds:
        ax.legend(loc="upper left", bbox_to_anchor=(0, 1), ncols=len(names), frameon=False, borderpad=0.1)
    plt.show()


def draw_merge_tree(piece: bytes, ids_of: dict[bytes, int]) -> None:
    """Draw how the bytes of one piece grow together: the smallest id first, until no two neighbours make a token.

    ids_of: bytes of a token -> its id.
    """
    parts = [(bytes([byte]), float(x), 0.0) for x, byte in enumerate(piece)]  # token, place, height
    figure, ax = plt.subplots(figsize=(0.9 + 0.62 * len(piece), 3.2))

    def write(token: bytes, x: float, y: float) -> None:
        frame = {"boxstyle": "round,pad=0.25", "facecolor": PALE[y > 0], "edgecolor": "#555555", "linewidth": 0.8}
        label = visible(token) if y == 0 else f"{visible(token)}\n{ids_of[token]}"
        ax.text(x, y, label, ha="center", va="center", family="monospace", fontsize=9, bbox=frame, zorder=2)

    for part in parts:
        write(*part)
    while len(parts) > 1:
        found = [ids_of.get(left[0] + right[0], len(ids_of)) for left, right in pairwise(parts)]
        n = found.index(min(found))
        if found[n] == len(ids_of):
            break
        (left, x0, y0), (right, x1, y1) = parts[n : n + 2]
        x, y = (x0 + x1) / 2, max(y0, y1) + 1
        for below in ((x0, y0), (x1, y1)):
            ax.plot([below[0], x], [below[1], y], color="#999999", linewidth=1, zorder=1)
        write(left + right, x, y)
        parts[n : n + 2] = [(left + right, x, y)]
    ax.set_ylim(-0.4, max(y for _, _, y in parts) + 0.5)
    ax.set_xlim(-0.6, len(piece) - 0.4)
    ax.axis("off")
    figure.tight_layout()
    plt.show()


def draw_tokens(pieces: list[str], mask: list[int], width: float = 96) -> None:
    """Draw each piece of text as a box: blue with a thick frame where mask is 1, white and dashed where it is 0.

    width: of a line, in characters. Spaces are shown as ␣, line ends as ↵.
    """
    lines: list[list[tuple[str, int]]] = [[]]
    used = 0.0
    for piece, trained in zip(pieces, mask, strict=True):
        shown = piece.replace(" ", "␣").replace("\n", "↵")
        if used + len(shown) + 2 > width and lines[-1]:
            lines.append([])
            used = 0.0
        lines[-1].append((shown, trained))
        used += len(shown) + 2
    figure, axes = plt.subplots(figsize=(11, 0.42 * len(lines) + 0.1))
    for row, line in enumerate(lines):
        x = 0.0
        for shown, trained in line:
            style = {"facecolor": "#cfe4f3", "edgecolor": "#0072B2", "linewidth": 1.8}
            if not trained:
                style = {"facecolor": "white", "edgecolor": "#777777", "linewidth": 0.8, "linestyle": "--"}
            axes.add_patch(plt.Rectangle((x, -row - 0.4), len(shown) + 1, 0.8, **style))
            axes.text(x + (len(shown) + 1) / 2, -row, shown, ha="center", va="center", fontsize=8, family="monospace")
            x += len(shown) + 2
    axes.set(xlim=(-1, width + 1), ylim=(-len(lines) + 0.4, 0.6))
    axes.set_position([0, 0, 1, 1])
    axes.axis("off")
    plt.show()


def draw_by_vocabulary(ax: Axes, lines: dict[str, dict[int, list[float]]], mark: int, name: str) -> None:
    """Draw a curve over vocabulary sizes for each label, with bars from the smallest run to the largest.

    lines: label -> vocabulary size -> what each run found. mark: a size to be marked by a vertical line called `name`.
    """
    styles = (("-", "o", "#0072B2"), ("--", "s", "#D55E00"))
    for (label, found), (line, marker, colour) in zip(lines.items(), styles, strict=True):
        middle = [sum(runs) / len(runs) for runs in found.values()]
        reach = [[abs(end(runs) - m) for m, runs in zip(middle, found.values(), strict=True)] for end in (min, max)]
        style = {"linestyle": line, "marker": marker, "color": colour, "capsize": 3 if any(map(any, reach)) else 0}
        ax.errorbar(list(found), middle, reach, label=label, **style)
    ax.axvline(mark, color="black", linewidth=1.5, linestyle=":", label=name)
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(found), [f"{size:,}" for size in found], fontsize=8)
    ax.set_xlabel("vocabulary size")
    ax.spines[["top", "right"]].set_visible(False)

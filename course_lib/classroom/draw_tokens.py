"""Tokens as boxes in a row, those that are trained apart from the others."""

import matplotlib.pyplot as plt


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

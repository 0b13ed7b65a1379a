"""Drawings of chapter 03: how attention mixes vectors, and a whole GPT with the shape of everything that flows."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch


def draw_mixing(weights: list, vectors: list, mixed: list, letters: list[str]) -> None:
    """weights @ vectors = mixed, as three grids with a row for each letter.

    weights: (T, T) from 0 to 1, written into the squares; vectors, mixed: (T, C), orange below 0 and purple above.
    """
    T, C = len(letters), len(vectors[0])
    width = [T, 0.8, C, 0.8, C]
    figure, axes = plt.subplots(1, 5, figsize=(0.42 * sum(width), 0.42 * T + 0.9), width_ratios=width)
    _grid(axes[0], weights, letters, "weights", numbers=True, columns=letters)
    _sign(axes[1], "@")
    _grid(axes[2], vectors, letters, "vectors")
    _sign(axes[3], "=")
    _grid(axes[4], mixed, letters, "mixed")
    plt.show()


def draw_attention_steps(parts: dict[str, list], letters: list[str]) -> None:
    """The grids of one head side by side, a row for each letter; a (T, T) grid has the letters below it, too.

    parts: title -> numbers (T, anything); what is named "weights" is shown from 0 to 1.
    """
    widths = [len(rows[0]) for rows in parts.values()]
    figure, axes = plt.subplots(
        1, len(parts), figsize=(0.36 * sum(widths) + 0.5 * len(parts), 0.36 * len(letters) + 1), width_ratios=widths
    )
    for n, (ax, (title, rows)) in enumerate(zip(axes, parts.items(), strict=True)):
        square = len(rows[0]) == len(letters)
        _grid(ax, rows, letters if n == 0 else None, title, columns=letters if square else None)
    figure.tight_layout()
    plt.show()


def _grid(ax: Axes, rows: list, letters: list[str] | None, title: str, numbers: bool = False, columns=None) -> None:
    """A grid of coloured squares: blue for weights from 0 to 1, else orange (negative) to purple (positive)."""
    if title == "weights":
        ax.imshow(rows, cmap="Blues", vmin=0, vmax=1)
    else:
        finite = [abs(x) for row in rows for x in row if abs(x) != float("inf")]
        ax.imshow(rows, cmap="PuOr", vmin=-max(finite), vmax=max(finite))
    if numbers:
        for y, row in enumerate(rows):
            for x, number in enumerate(row):
                label = f"{number:.2f}".lstrip("0") if number else "0"
                ax.text(x, y, label, ha="center", va="center", fontsize=8, color="white" if number > 0.6 else "black")
    ax.set_xticks(range(len(columns)) if columns else [], columns)
    ax.set_yticks(range(len(letters)) if letters else [], letters)
    ax.tick_params(length=0)
    ax.set_title(title, fontsize=10)


def _sign(ax: Axes, sign: str) -> None:
    ax.axis("off")
    ax.text(0.5, 0.5, sign, ha="center", va="center", fontsize=15, transform=ax.transAxes)


BLUE, ORANGE, GREY = "#cfe4f3", "#f6d9a8", "#eeeeee"


def draw_microgpt(letters: list[str], n_embd: int, n_head: int, vocab_size: int) -> None:
    """The model from the bottom up, with the shape of everything that flows for one name.

    The grey line is the residual stream; blue boxes hold parameters, white ones have none.
    """
    T, C, H, V = len(letters), n_embd, n_head, vocab_size
    figure, ax = plt.subplots(figsize=(7.6, 9))
    ax.set_xlim(-0.4, 10)
    ax.set_ylim(-0.4, 16.6)
    ax.axis("off")
    ax.plot([2.5, 2.5], [2.9, 14.3], color="#999999", linewidth=7, solid_capstyle="butt", zorder=0)
    _box(ax, 2.5, 0.2, f"ids of {' '.join(letters)}   ({T},)", "white", wide=4.2)
    _box(ax, 1.1, 1.5, f"wte: which letter\n({T}, {C})", BLUE, wide=2.4)
    _box(ax, 3.9, 1.5, f"wpe: which place\n({T}, {C})", BLUE, wide=2.4)
    _plus(ax, 2.5, 2.6)
    for x in (1.1, 3.9):
        _arrow(ax, (2.5, 0.6), (x, 1.05))
        _arrow(ax, (x, 1.95), (2.5 + (0.25 if x > 2 else -0.25), 2.55))
    _box(ax, 2.5, 3.5, "RMSNorm", "white", wide=1.9)
    _branch(
        ax,
        4.3,
        8.9,
        [
            ("RMSNorm", "white", f"({T}, {C})"),
            ("wq, wk, wv → q, k, v", BLUE, f"{H} heads × ({T}, {C // H})"),
            ("softmax(q kᵀ / √D) v", ORANGE, f"weights {H} × ({T}, {T})"),
            ("wo", BLUE, f"({T}, {C})"),
        ],
        "attention: collect from the letters before",
    )
    _branch(
        ax,
        9.3,
        13.9,
        [
            ("RMSNorm", "white", f"({T}, {C})"),
            ("fc1", BLUE, f"({T}, {4 * C})"),
            ("activation max(x, 0)²", ORANGE, f"({T}, {4 * C})"),
            ("fc2", BLUE, f"({T}, {C})"),
        ],
        "MLP: work on what was collected",
    )
    _box(ax, 2.5, 14.7, f"lm_head → logits   ({T}, {V})", BLUE, wide=4.2)
    _arrow(ax, (2.5, 15.1), (2.5, 15.8))
    guesses = "  ".join(f"{a}→?" for a in letters)
    ax.text(0.4, 16.1, f"softmax: {V} probabilities for each of  {guesses}", fontsize=10)
    ax.text(1.9, 7.6, f"the residual stream ({T}, {C})", rotation=90, va="center", ha="center", fontsize=10)
    plt.show()


def _box(ax: Axes, x: float, y: float, label: str, color: str, wide: float = 2.6) -> None:
    style = "round,pad=0.02,rounding_size=0.12"
    ax.add_patch(
        FancyBboxPatch((x - wide / 2, y - 0.38), wide, 0.76, boxstyle=style, facecolor=color, edgecolor="#555555")
    )
    ax.text(x, y, label, ha="center", va="center", fontsize=9)


def _arrow(ax: Axes, start: tuple, end: tuple) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#333333"})


def _plus(ax: Axes, x: float, y: float) -> None:
    ax.plot(x, y, "o", markersize=17, markerfacecolor="white", markeredgecolor="#333333")
    ax.text(x, y, "+", ha="center", va="center", fontsize=12)


def _branch(ax: Axes, bottom: float, top: float, boxes: list[tuple[str, str, str]], title: str) -> None:
    """Boxes beside the stream, from where it is read (bottom) to where their result is added (top)."""
    step = (top - bottom - 0.5) / len(boxes)
    ax.add_patch(
        FancyBboxPatch(
            (3.9, bottom - 0.05), 5.9, top - bottom + 0.05, boxstyle="round,pad=0.05", facecolor=GREY, edgecolor="none"
        )
    )
    for n, (label, color, shape) in enumerate(boxes):
        y = bottom + 0.45 + n * step
        _box(ax, 5.6, y, label, color)
        ax.text(7.1, y, shape, va="center", fontsize=9)
        if n:
            _arrow(ax, (5.6, y - step + 0.38), (5.6, y - 0.38))
    ax.text(4.05, top - 0.12, title, va="center", fontsize=9, style="italic")
    _arrow(ax, (2.6, bottom + 0.45), (4.3, bottom + 0.45))
    last = bottom + 0.45 + (len(boxes) - 1) * step
    _arrow(ax, (4.3, last), (2.75, last))
    _plus(ax, 2.5, last)

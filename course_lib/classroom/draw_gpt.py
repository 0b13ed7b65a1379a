"""Drawings of chapter 03: vectors, probabilities, attention, and a GPT with the shape of all that flows."""

import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

BLUE, ORANGE = "#0072B2", "#D55E00"


def draw_arrows(vectors: dict[str, list[float]], x_label: str, y_label: str, **sought: list[float]) -> None:
    """Vectors of two numbers between -1 and 1 as blue arrows with their names; those that are sought in orange."""
    figure, ax = plt.subplots(figsize=(3.6, 3.2))
    for name, (x, y) in {**vectors, **sought}.items():
        color = ORANGE if name in sought else BLUE
        ax.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": color, "lw": 2})
        ax.text(x + (0.1 if x > 0 else -0.1), y, name, color=color, ha="left" if x > 0 else "right", va="center")
    ax.set_xlim(-1.4, 1.9)
    ax.set_ylim(-1.2, 1.2)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    plt.show()


def draw_chances(labels: list[str], chances: dict[str, list[float]]) -> None:
    """Bars of probabilities, a panel for each title -> one number for each label."""
    figure, axes = plt.subplots(len(chances), 1, figsize=(7, 1.3 * len(chances)), sharex=True, sharey=True)
    for ax, (title, numbers) in zip(axes, chances.items(), strict=True):
        ax.bar(labels, numbers, color=BLUE)
        ax.set_title(title, fontsize=10)
    axes[len(axes) // 2].set_ylabel("probability")
    figure.tight_layout()
    plt.show()


def draw_mixing(weights: mx.array, vectors: mx.array, mixed: mx.array, letters: list[str], questions: list) -> None:
    """weights @ vectors = mixed, as three grids with a row for each letter and the numbers in their squares.

    weights: (T, T) from 0 to 1; vectors, mixed: (T, C); questions: what each of the C numbers answers.
    """
    T, C = len(letters), len(questions)
    width = [T, 1, C, 1, C]
    figure, axes = plt.subplots(1, 5, figsize=(0.5 * sum(width), 0.5 * T + 1.3), width_ratios=width)
    _grid(axes[0], weights.tolist(), "weights", letters, letters)
    _sign(axes[1], "@")
    _grid(axes[2], vectors.tolist(), "vectors", None, questions)
    _sign(axes[3], "=")
    _grid(axes[4], mixed.tolist(), "mixed", None, questions)
    figure.tight_layout()
    plt.show()


def draw_attention_steps(parts: dict[str, mx.array], letters: list[str]) -> None:
    """The grids of one head side by side, a row for each letter; a (T, T) grid has the letters below it, too.

    parts: title -> numbers (T, anything); what is named "weights" is shown from 0 to 1.
    """
    widths = [rows.shape[1] for rows in parts.values()]
    figure, axes = plt.subplots(
        1, len(parts), figsize=(0.45 * sum(widths) + 0.45 * len(parts), 0.45 * len(letters) + 1), width_ratios=widths
    )
    for n, (ax, (title, rows)) in enumerate(zip(axes, parts.items(), strict=True)):
        _grid(ax, rows.tolist(), title, letters if n == 0 else None, letters if widths[n] == len(letters) else None)
    figure.tight_layout()
    plt.show()


def _grid(ax: Axes, rows: list, title: str, row_names: list[str] | None, column_names: list[str] | None) -> None:
    """Coloured squares with their numbers: blue for weights from 0 to 1, else orange (below 0) to purple (above)."""
    largest = 1 if title == "weights" else max(abs(x) for row in rows for x in row if abs(x) != float("inf"))
    if title == "weights":
        ax.imshow(rows, cmap="Blues", vmin=0, vmax=1)
    else:
        ax.imshow(rows, cmap="PuOr", vmin=-largest, vmax=largest)
    for y, row in enumerate(rows):
        for x, number in enumerate(row):
            label = "−∞" if number == -float("inf") else f"{round(number, 2):g}".replace("0.", ".").replace("-", "−")
            dark = largest * 0.6 < abs(number) < float("inf")
            ax.text(x, y, label, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    ax.set_xticks(range(len(column_names or [])), column_names or [])
    if column_names and max(map(len, column_names)) > 1:
        ax.tick_params(axis="x", rotation=90)
    ax.set_yticks(range(len(row_names or [])), row_names or [])
    ax.tick_params(length=0)
    ax.set_title(title, fontsize=10)


def _sign(ax: Axes, sign: str) -> None:
    ax.axis("off")
    ax.text(0.5, 0.5, sign, ha="center", va="center", fontsize=15, transform=ax.transAxes)


PALE_BLUE, PALE_ORANGE, GREY = "#cfe4f3", "#f6d9a8", "#eeeeee"


def draw_heads(vectors: mx.array, heads: mx.array, letters: list[str]) -> None:
    """Vectors (T, C) and the same numbers cut into heads (H, T, D), each head in a colour of its own."""
    colors = ("#cfe4f3", "#f6d9a8", "#cdeadd", "#e8d3e6")
    (T, C), (H, _, D) = vectors.shape, heads.shape
    figure, axes = plt.subplots(1, 2, figsize=(11, 2.2), width_ratios=(C, C + H))
    for ax, gap in zip(axes, (0, 1), strict=True):
        for head, t, d in np.ndindex(H, T, D):
            x = head * (D + gap) + d
            ax.add_patch(plt.Rectangle((x, t), 1, 1, facecolor=colors[head % 4], edgecolor="white"))
            ax.text(x + 0.5, t + 0.5, str(heads[head, t, d].item()), ha="center", va="center", fontsize=8)
        ax.set(xlim=(0, C + gap * (H - 1)), ylim=(T, 0))
        ax.set_yticks([t + 0.5 for t in range(T)], letters)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0].set_xticks([])
    axes[0].set_title(f"vectors ({T}, {C})", fontsize=10)
    axes[1].set_xticks([h * (D + 1) + D / 2 for h in range(H)], [f"head {h}" for h in range(H)])
    axes[1].set_title(f"cut into heads ({H}, {T}, {D})", fontsize=10)
    figure.tight_layout()
    plt.show()


def draw_microgpt(letters: list[str], n_embd: int, n_head: int, vocab_size: int) -> None:
    """The model from the bottom up, with the shape of everything that flows for one name.

    The grey line is the residual stream; blue boxes hold parameters, white ones have none.
    """
    T, C, H, V = len(letters), n_embd, n_head, vocab_size
    figure, ax = plt.subplots(figsize=(7.6, 9))
    ax.set_xlim(-0.4, 10)
    ax.set_ylim(-0.4, 16.6)
    ax.axis("off")
    ax.plot([2.5, 2.5], [2.9, 14.4], color="#999999", linewidth=7, solid_capstyle="butt", zorder=0)
    _box(ax, 2.5, 0.2, f"ids of {' '.join(letters)}   ({T},)", "white", wide=4.2)
    _box(ax, 1.1, 1.5, f"wte: which letter\n({T}, {C})", PALE_BLUE, wide=2.4)
    _box(ax, 3.9, 1.5, f"wpe: which place\n({T}, {C})", PALE_BLUE, wide=2.4)
    _plus(ax, 2.5, 2.6)
    for x in (1.1, 3.9):
        _arrow(ax, (2.5, 0.6), (x, 1.1))
        _arrow(ax, (x, 1.95), (2.5 + (0.22 if x > 2.5 else -0.22), 2.42))
    _box(ax, 2.5, 3.5, "RMSNorm", "white", wide=1.9)
    _branch(
        ax,
        4.3,
        8.9,
        [
            ("RMSNorm", "white", f"({T}, {C})"),
            ("wq, wk, wv → q, k, v", PALE_BLUE, f"{H} heads × ({T}, {C // H})"),
            ("softmax(q kᵀ / √D) v", PALE_ORANGE, f"weights {H} × ({T}, {T})"),
            ("wo", PALE_BLUE, f"({T}, {C})"),
        ],
        "attention: collect from the letters before",
    )
    _branch(
        ax,
        9.3,
        13.9,
        [
            ("RMSNorm", "white", f"({T}, {C})"),
            ("fc1", PALE_BLUE, f"({T}, {4 * C})"),
            ("activation max(x, 0)²", PALE_ORANGE, f"({T}, {4 * C})"),
            ("fc2", PALE_BLUE, f"({T}, {C})"),
        ],
        "MLP: work on what was collected",
    )
    _box(ax, 2.5, 14.7, f"lm_head → logits   ({T}, {V})", PALE_BLUE, wide=4.2)
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
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#333333", "shrinkA": 0, "shrinkB": 0})


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
            _arrow(ax, (5.6, y - step + 0.4), (5.6, y - 0.4))
    ax.text(4.05, top - 0.25, title, va="center", fontsize=9, style="italic")
    _arrow(ax, (2.6, bottom + 0.45), (4.3, bottom + 0.45))
    last = bottom + 0.45 + (len(boxes) - 1) * step
    _arrow(ax, (4.3, last), (2.75, last))
    _plus(ax, 2.5, last)

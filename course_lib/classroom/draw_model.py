"""The drawing of chapter 08: the whole GPT, one of its blocks, and what stands inside attention and MLP.

Written by hand; chapter 08 uses it.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

BLOCK, PART, ZERO, LINE = "#f6d9a8", "#cfe4f3", "#ffffff", "#333333"


def draw_model(n_layer: int) -> None:
    """Three panels from the outside in; B texts, T positions, C = n_embd, D = head_dim, V ids."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 5.4), width_ratios=(1, 1, 1.5))
    _draw_whole(axes[0], n_layer)
    _draw_block(axes[1])
    _draw_inside(axes[2])
    for ax in axes:
        ax.axis("off")
    figure.tight_layout()
    plt.show()


def _box(ax: Axes, x: float, y: float, label: str, color: str = PART, width: float = 2.2) -> None:
    line = "--" if color == ZERO else "-"
    ax.add_patch(plt.Rectangle((x - width / 2, y - 0.3), width, 0.6, facecolor=color, edgecolor=LINE, linestyle=line))
    ax.text(x, y, label, ha="center", va="center", fontsize=9)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": LINE})
    if label:
        ax.text(start[0] + 0.15, (start[1] + end[1]) / 2, label, va="center", fontsize=8)


def _draw_whole(ax: Axes, n_layer: int) -> None:
    parts = ["wte", "norm", f"{n_layer} × block", "norm", "lm_head", "softcap"]
    shapes = ["ids (B, T)", *["(B, T, C)"] * 4, "(B, T, V)", "logits (B, T, V)"]
    for n, part in enumerate(parts):
        _box(ax, 0, 1.2 * n, part, ZERO if part == "lm_head" else BLOCK if part == "softcap" else PART)
    for n, shape in enumerate(shapes):
        _arrow(ax, (0, 1.2 * n - 0.9), (0, 1.2 * n - 0.3), shape)
    ax.set(xlim=(-1.5, 2), ylim=(-1.1, 7.1), title="the model")


def _draw_block(ax: Axes) -> None:
    for base, part in ((0, "attention"), (3, "MLP")):
        _box(ax, 2.2, base + 0.6, "norm")
        _box(ax, 2.2, base + 1.6, part)
        ax.plot([0, 2.2], [base, base], color=LINE, linewidth=1)
        _arrow(ax, (2.2, base), (2.2, base + 0.3))
        _arrow(ax, (2.2, base + 0.9), (2.2, base + 1.3))
        ax.plot([2.2, 2.2], [base + 1.9, base + 2.3], color=LINE, linewidth=1)
        _arrow(ax, (2.2, base + 2.3), (0.2, base + 2.3))
        _arrow(ax, (0, base - 0.6), (0, base + 2.1))
        ax.text(0, base + 2.3, "+", ha="center", va="center", fontsize=14, fontweight="bold")
    _arrow(ax, (0, 5.5), (0, 6.2))
    ax.text(-0.3, 2.9, "residual stream (B, T, C)", rotation=90, ha="center", va="center", fontsize=8)
    ax.set(xlim=(-0.8, 3.6), ylim=(-0.7, 6.4), title="one block")


def _draw_inside(ax: Axes) -> None:
    for x, name in ((0, "c_q"), (1.7, "c_k"), (3.4, "c_v")):
        _arrow(ax, (x, -0.7), (x, -0.3))
        _box(ax, x, 0, name, width=1.4)
    for x in (0, 1.7):
        _arrow(ax, (x, 0.3), (x, 0.7))
        _box(ax, x, 1, "RoPE", BLOCK, 1.4)
        _arrow(ax, (x, 1.3), (x, 1.7))
        _box(ax, x, 2, "QK norm", BLOCK, 1.4)
        _arrow(ax, (x, 2.3), (x, 2.7))
    _arrow(ax, (3.4, 0.3), (3.4, 2.7))
    ax.text(3.5, 1.5, "(B, H, T, D)", fontsize=8, va="center")
    _box(ax, 1.7, 3, "causal attention", width=4.8)
    _arrow(ax, (1.7, 3.3), (1.7, 3.7))
    _box(ax, 1.7, 4, "c_proj = 0", ZERO, 3)
    _arrow(ax, (1.7, 4.3), (1.7, 4.8))
    mlp = (("c_fc", PART), ("ReLU²", BLOCK), ("c_proj = 0", ZERO))
    for n, (label, color) in enumerate(mlp):
        _arrow(ax, (7, n - 0.7), (7, n - 0.3), "" if n == 0 else "(B, T, 4C)")
        _box(ax, 7, n, label, color, 3)
    _arrow(ax, (7, 2.3), (7, 2.8))
    ax.text(1.7, -1.1, "attention", ha="center", fontsize=9, fontweight="bold")
    ax.text(7, -1.1, "MLP", ha="center", fontsize=9, fontweight="bold")
    ax.text(
        7, 4.1, "dashed: zeros at the start\norange: new since GPT-2", ha="center", va="center", fontsize=8, color=LINE
    )
    ax.set(xlim=(-0.9, 8.7), ylim=(-1.4, 5), title="inside attention and MLP")

"""Graphs: the size of one of MLX's, and chapter 02's drawings of a Value with its slopes and of a matrix product."""

import io

import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np

from course_lib.names.autograd import Value, topological_order


def waiting(array: mx.array) -> int:
    """How many operations must run before `array` has numbers; those that only repeat a number do not count."""
    drawing = io.StringIO()
    mx.export_to_dot(drawing, array)
    boxes = [line for line in drawing.getvalue().splitlines() if "rectangle" in line]
    return sum('"Broadcast"' not in box for box in boxes)


def layout(order: list[Value]) -> dict[Value, tuple[float, float]]:
    """Where each node is drawn: results in a row on top, each leaf below, left of its first use."""
    column: dict[Value, int] = {}
    for node in order:
        column[node] = 1 + max((column[parent] for parent in node.parents), default=-1)
    for node in order:
        users = [column[user] for user in order if node in user.parents]
        if users and not node.parents:
            column[node] = min(users) - 1
    height: dict[int, int] = {}
    spot = {}
    for node in sorted(order, key=lambda node: not node.parents):
        height[column[node]] = height.get(column[node], -1) + 1
        spot[node] = (2.2 * column[node], -1.25 * height[column[node]])
    return spot


def draw_graph(root: Value, names: dict[Value, str], grads: bool = True) -> None:
    """Draw what `root` was made of: a box for each value with its name, an arrow for each local slope.

    Results are blue and square, leaves white and round. grads: show the gradients, else a question mark.
    """
    spot = layout(topological_order(root))
    across, up = zip(*spot.values(), strict=True)
    wide, high = max(across) - min(across) + 2, max(up) - min(up) + 1.5
    figure, axes = plt.subplots(figsize=(0.85 * wide, 0.85 * high))
    words = {"ha": "center", "va": "center", "fontsize": 9}
    frames = {}
    for node, (x, y) in spot.items():
        text = f"{names[node]}\ndata {node.data:.4g}\ngrad {f'{node.grad:.4g}' if grads else '?'}"
        shape, color = ("square", "#cfe4f3") if node.parents else ("round,rounding_size=0.8", "white")
        box = axes.text(x, y, text, **words, bbox={"boxstyle": shape, "facecolor": color}, zorder=2)
        frames[node] = box.get_bbox_patch()
    for node, (x1, y1) in spot.items():
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            x0, y0 = spot[parent]
            bend = 0.3 if x1 - x0 > 3 else 0  # an arrow that skips a column goes round it
            arrow = {"arrowstyle": "-|>", "connectionstyle": f"arc3,rad={-bend}", "shrinkA": 2, "shrinkB": 2}
            arrow |= {"patchA": frames[parent], "patchB": frames[node]}
            axes.annotate("", (x1, y1), (x0, y0), arrowprops=arrow, zorder=3)
            middle = (x0 + x1) / 2, (y0 + y1) / 2 + bend * (x1 - x0) / 2
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.text(*middle, f"× {slope:.4g}", **words, color="#A34000", bbox=paper, zorder=4)
    axes.set(xlim=(min(across) - 1, max(across) + 1), ylim=(min(up) - 0.7, max(up) + 0.8))
    axes.set_position([0, 0, 1, 1])
    axes.axis("off")
    plt.show()


def draw_product_gradients(A: np.ndarray, B: np.ndarray, dC: np.ndarray) -> None:
    """Draw what dA[0, 0] and dB[0, 0] of C = A @ B are made of. A: (n, m); B: (m, k); dC: (n, k).

    Orange: the entry; blue: the gradients of the results that it is part of; green: its slopes there.
    """
    orange, green, blue = "#F5C9A8", "#C8E6D9", "#CFE4F3"
    first, row, column = (0, 0), (0, slice(None)), (slice(None), 0)
    cases = [  # the entry, where it is, its slopes, which gradients, and a color and place for each of A, B and dC
        ("dA", A, B[row], dC[row], ((orange, first), (green, row), (blue, row))),
        ("dB", B, A[column], dC[column], ((green, column), (orange, first), (blue, column))),
    ]
    figure, both = plt.subplots(2, 1, figsize=(6.4, 3.6))
    for axes, (name, entry, slopes, gradients, looks) in zip(both, cases, strict=True):
        terms = " + ".join(f"{s:g}·{d:g}" for s, d in zip(slopes, gradients, strict=True))
        axes.set_title(f"{name} of the {entry[first]:g}:  {terms} = {slopes @ gradients:g}", loc="left", fontsize=10)
        left = 0.0
        for label, numbers, (color, place) in zip(("A", "B", "dC"), (A, B, dC), looks, strict=True):
            colors = np.full(numbers.shape, "white", dtype=object)
            colors[place] = color
            for (down, across), number in np.ndenumerate(numbers):
                corner = left + across, -down - 1
                axes.add_patch(plt.Rectangle(corner, 1, 1, facecolor=colors[down, across], edgecolor="black"))
                axes.text(corner[0] + 0.5, corner[1] + 0.5, f"{number:g}", ha="center", va="center")
            axes.text(left + numbers.shape[1] / 2, 0.3, label, ha="center")
            left += numbers.shape[1] + 1.2
        axes.set(xlim=(-0.1, left), ylim=(-max(len(A), len(B)) - 0.2, 1), aspect="equal")
        axes.axis("off")
    figure.tight_layout()
    plt.show()

"""Draw the graph of a Value: what it was made of, with the local slopes on the arrows."""

import matplotlib.pyplot as plt

from course_lib.names.autograd import Value, topological_order


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

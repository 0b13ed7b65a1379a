"""Pictures of chapter 14: a row that calls a tool, sums by their digits, scores with their intervals.

Written by hand; chapter 14 uses it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

from course_lib.evaluate.records import interval

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PALE_BLUE, PALE_ORANGE = "#cfe4f3", "#fbe3d2"
STYLES = ((ORANGE, "s--", -0.08), (GREEN, "D:", 0.0), (BLUE, "o-", 0.08))  # colour, line, shift: none hides another


def draw_states() -> None:
    """Three states of a row, and what leads from one to the next."""
    _, ax = plt.subplots(figsize=(9.4, 2.9))
    boxes = {"text": 0, "expression": 5, "result": 10}
    notes = {
        "text": "the model's tokens\nmask 1",
        "expression": "the model's tokens,\ncollected; mask 1",
        "result": "forced tokens; the model\nis not asked; mask 0",
    }
    for name, x in boxes.items():
        face, line = (PALE_ORANGE, "--") if name == "result" else (PALE_BLUE, "-")
        style = {"boxstyle": "round,pad=0.1", "fc": face, "ec": "#1a1a1a", "ls": line}
        ax.add_patch(FancyBboxPatch((x, 0), 2.8, 1, **style))
        ax.text(x + 1.4, 0.75, name, ha="center", va="center", weight="bold")
        ax.text(x + 1.4, 0.28, notes[name], ha="center", va="center", fontsize=8)
    arrows = [
        ((2.95, 0.5), (4.85, 0.5), 0, "<|python_start|>", (3.9, 0.6)),
        ((7.95, 0.5), (9.85, 0.5), 0, "<|python_end|>\nit has a value", (8.9, 0.6)),
        ((6.4, 1.15), (1.4, 1.15), 0.28, "<|python_end|>, and it has no value", (3.9, 1.95)),
        ((11.4, -0.15), (1.4, -0.15), -0.18, "<|output_end|> was forced", (6.4, -1.6)),
    ]
    for start, end, bend, label, (x, y) in arrows:
        style = {"arrowstyle": "-|>", "connectionstyle": f"arc3,rad={bend}", "color": "#555555"}
        ax.annotate("", end, start, arrowprops=style)
        ax.text(x, y, label, ha="center", va="bottom", fontsize=8)
    ax.set(xlim=(-0.2, 13), ylim=(-1.8, 2.3))
    ax.axis("off")
    plt.show()


def draw_reply(labels: Sequence[str], masks: Sequence[int]) -> None:
    """A box for each token of a reply; forced ones hatched."""
    _, ax = plt.subplots(figsize=(9.4, 1.5))
    for n, (label, mask) in enumerate(zip(labels, masks, strict=True)):
        style = {"fc": PALE_BLUE, "ec": BLUE} if mask else {"fc": PALE_ORANGE, "hatch": "///", "ec": ORANGE}
        ax.add_patch(Rectangle((n, 0), 0.92, 1, **style))
        text = label.strip("<|>").replace("_", "\n")
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        size = 7 if "\n" in text else 9
        ax.text(n + 0.46, 0.5, text, ha="center", va="center", fontsize=size, bbox=paper)
        ax.text(n + 0.46, -0.25, str(mask), ha="center", va="center", fontsize=9)
    ax.text(-0.15, -0.25, "mask", ha="right", va="center", fontsize=9)
    ax.set(xlim=(-1, len(labels)), ylim=(-0.5, 1.1))
    ax.axis("off")
    plt.show()


def draw_sums(lines: dict[str, dict[int, tuple[int, int]]], practised: int) -> None:
    """Share of right replies by digits, with intervals. lines: label -> digits -> (right, asked)."""
    _, ax = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
    for (label, counts), (color, style, shift) in zip(lines.items(), STYLES, strict=False):
        shares = [right / asked for right, asked in counts.values()]
        bounds = [interval(*each) for each in counts.values()]
        reach = [[y - low, high - y] for y, (low, high) in zip(shares, bounds, strict=True)]
        places = [digits + shift for digits in counts]
        ax.errorbar(places, shares, list(zip(*reach, strict=True)), fmt=style, color=color, capsize=3, label=label)
    last = max(digits for counts in lines.values() for digits in counts)
    ax.axvspan(practised + 0.5, last + 0.5, color="#eeeeee", zorder=0)
    ax.text(last + 0.4, 1.06, "no run practised these", ha="right", fontsize=8, color="#555555")
    ax.set(xlabel="digits of each number", ylabel="share of right replies")
    ax.set(xlim=(0.5, last + 0.5), ylim=(-0.05, 1.15))
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 0.8))
    plt.show()


def draw_askings(kinds: dict[str, dict[str, str]]) -> None:
    """A panel for each kind of question: the share right for each way of asking, with intervals.

    kinds: kind -> way of asking -> "1" or "0" for each question.
    """
    _, axes = plt.subplots(1, len(kinds), figsize=(9.4, 2.3), sharey=True, layout="constrained")
    for ax, (kind, ways) in zip(axes, kinds.items(), strict=True):
        for n, each in enumerate(ways.values()):
            share, (low, high) = each.count("1") / len(each), interval(each.count("1"), len(each))
            ax.errorbar(share, n, xerr=[[share - low], [high - share]], fmt="o", color=BLUE, capsize=3)
        ax.set(xlim=(-0.05, 1.05), ylim=(len(ways) - 0.5, -0.5), title=kind, xlabel="share right")
        ax.set_yticks(range(len(ways)), list(ways))
        ax.grid(axis="x", alpha=0.3)
    plt.show()

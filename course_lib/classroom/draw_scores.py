"""Pictures of chapter 11: what is scored in a text, which logits score it, curves in two units, margins."""

from collections.abc import Sequence

import matplotlib.pyplot as plt

from course_lib.classroom.draw_tokens import visible
from course_lib.evaluate.core import TaskResult
from course_lib.evaluate.reports import draw_results

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"


def _labels(tokens: Sequence[bytes]) -> list[str]:
    """What to write for each token: • for <|bos|>, spaces and line ends shown."""
    return [visible(token).replace("<|bos|>", "•") for token in tokens]


def draw_scored(lines: list[tuple[list[bytes], int]]) -> None:
    """A line of boxes for each sequence: (its tokens, the place of the first scored one). Scored: blue and bold."""
    labels = [_labels(tokens) for tokens, _ in lines]
    width, height = max(sum(len(label) + 1 for label in line) for line in labels), len(lines)
    figure = plt.figure(figsize=(max(5, 0.085 * width), 0.3 * height))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-0.2, max(width, 60) + 0.2), ylim=(height + 0.05, -0.05))
    ax.axis("off")
    for y, ((_, start), line) in enumerate(zip(lines, labels, strict=True)):
        x = 0
        for place, label in enumerate(line):
            scored, size = place >= start, len(label) + 1
            ax.add_patch(plt.Rectangle((x, y), size, 1, ec="#888888", fc="#cfe4f3" if scored else "white"))
            weight = "bold" if scored else "normal"
            middle = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 7.5}
            ax.text(x + size / 2, y + 0.5, label, weight=weight, **middle)
            x += size
    plt.show()


def draw_shift(tokens: list[bytes], start: int, losses: list[float]) -> None:
    """One sequence, with the logits below each token and an arrow to the token that they predict.

    losses: in nats, of the tokens from place `start` on.
    """
    labels = _labels(tokens)
    sizes = [max(len(label) + 1, 6) for label in labels]
    lefts = [sum(sizes[:n]) + n for n in range(len(sizes))]
    middles = [left + size / 2 for left, size in zip(lefts, sizes, strict=True)]
    figure = plt.figure(figsize=(9, 2.2))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-1, lefts[-1] + sizes[-1] + 1), ylim=(-2.9, 1.4))
    ax.axis("off")
    for n, label in enumerate(labels):
        scored = n >= start
        ax.add_patch(plt.Rectangle((lefts[n], 0), sizes[n], 0.7, ec="#888888", fc="#cfe4f3" if scored else "white"))
        weight = "bold" if scored else "normal"
        ax.text(middles[n], 0.35, label, ha="center", va="center", family="monospace", fontsize=9, weight=weight)
        ax.text(middles[n], 0.95, str(n), ha="center", va="center", fontsize=8, color=GREY)
        if n + 1 == len(labels):
            continue
        asks = n + 1 >= start
        colour = BLUE if asks else GREY
        frame = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": colour}
        ax.text(middles[n], -1.35, "logits", ha="center", va="center", fontsize=8, color=colour, bbox=frame)
        for begin, end in (((middles[n], 0), (middles[n], -1.0)), ((middles[n] + 1.5, -1.05), (middles[n + 1] - 1, 0))):
            look = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6 if asks else 0.8}
            ax.annotate("", end, begin, arrowprops=look)
        if asks:
            ax.text(middles[n], -2.1, f"{losses[n + 1 - start]:.2f}", ha="center", fontsize=9, color=BLUE)
    ax.text(
        middles[start - 1] - 4, -2.1, "−ln p of the token at the tip of the arrow:", ha="right", fontsize=9, color=BLUE
    )
    plt.show()


def draw_units(curves: dict[str, list[tuple[float, float, float]]], lines: dict[str, float]) -> None:
    """Two panels, all models in each: nats a token and bits per byte over the text that was read.

    curves: label -> (megabytes read, nats a token, bits per byte) of all looks of all seeds. lines: label -> bits per
    byte of what does not learn.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True)
    looks = ((BLUE, "-", 5, 0.4), (GREEN, "--", 1.5, 1), (ORANGE, "-", 1.5, 1))  # the first two may lie on each other
    for (label, points), (colour, style, width, alpha) in zip(curves.items(), looks, strict=True):
        places = sorted({x for x, _, _ in points})
        for column, ax in enumerate(axes, start=1):
            means = [sum(found) / len(found) for at in places if (found := [p[column] for p in points if p[0] == at])]
            ax.plot(places, means, style, color=colour, linewidth=width, alpha=alpha, label=label)
            ax.plot([p[0] for p in points], [p[column] for p in points], "o", color=colour, markersize=3)
    for (label, value), style in zip(lines.items(), ("-.", ":"), strict=False):
        axes[1].axhline(value, color="black", linewidth=1.2, linestyle=style, label=label)
    for ax, unit in zip(axes, ("nats a token", "bits per byte"), strict=True):
        ax.set(xlabel="text read, MB", ylabel=f"held-out text, {unit}", ylim=(0, None))
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    plt.show()


def draw_margins(margins: dict[str, list[float]]) -> None:
    """A histogram for each task of how much better the right option is than the best wrong one, in nats a token."""
    figure, axes = plt.subplots(1, len(margins), figsize=(8, 2.7), sharex=True, sharey=True)
    reach = 0.5 * max(1, round(2 * max(abs(each) for some in margins.values() for each in some) + 0.5))
    bins = [-reach + 0.5 * n for n in range(round(4 * reach) + 1)]
    for ax, (name, values) in zip(axes, margins.items(), strict=True):
        for some, colour, hatch in ((0, ORANGE, "///"), (1, BLUE, "")):
            side = [value for value in values if (value > 0) == some]
            label = f"{len(side)} {'right' if some else 'wrong'}"
            ax.hist(side, bins, color=colour, edgecolor="white", hatch=hatch, label=label)
        ax.axvline(0, color="black", linewidth=1)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("best wrong option − right one, nats a token")
        ax.legend(frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("items")
    axes[0].yaxis.get_major_locator().set_params(integer=True)
    figure.tight_layout()
    plt.show()


def draw_guessers(accuracies: list[float], items: int, mean: float, error: float) -> None:
    """A histogram of accuracies on some items, with a line at their mean and two standard errors to each side."""
    figure, ax = plt.subplots(figsize=(6, 2.8))
    ax.hist(accuracies, [(n - 0.5) / items for n in range(items + 2)], color="#cfe4f3", edgecolor="#555555")
    for place, style in ((mean, "-"), (mean - 2 * error, "--"), (mean + 2 * error, "--")):
        ax.axvline(place, color=ORANGE, linestyle=style)
    ax.set(xlabel="accuracy of a guesser", ylabel="guessers", xlim=(0, max(accuracies) + 0.05))
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()


def draw_core(results: list[TaskResult]) -> None:
    """The centred score of each task with two standard errors to each side."""
    figure, ax = plt.subplots(figsize=(6, 2.8))
    draw_results(ax, results)
    figure.tight_layout()
    plt.show()

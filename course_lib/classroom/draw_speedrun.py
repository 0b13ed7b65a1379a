"""Pictures of chapter 18: which depth a plan takes, which letters are right, what only the text says."""

import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def draw_plan(curves: dict[int, list[tuple[int, float]]], taken: dict[int, int], least: int) -> None:
    """Tokens a parameter over depth, one curve for each bound in minutes, a ring around the depth taken."""
    figure, ax = plt.subplots(figsize=(6.5, 3.3))
    for (minutes, points), colour in zip(curves.items(), (BLUE, GREEN, "#CC79A7"), strict=False):
        depth, ratio = next(point for point in points if point[0] == taken[minutes])
        words = f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
        ax.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3.5, label=f"{words}: {depth} layers")
        ax.plot(depth, ratio, "o", markersize=13, mfc="none", mec=colour, mew=1.8)
    ax.axhline(1, color="black", linestyle="--", linewidth=1)
    ax.axvspan(1.5, least - 0.5, color="#eeeeee")
    ax.text(1.6, 0.04, "below the\nleast depth", fontsize=8, transform=ax.get_xaxis_transform())
    ax.legend(frameon=False)
    ax.set(xlabel="layers", ylabel="tokens a parameter", yscale="log", xlim=(1.5, 12.5))
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()


def draw_letters(shares: list[float], counts: list[int]) -> None:
    """How often the letter at each place of a word is right; counts: of words that long."""
    figure, ax = plt.subplots(figsize=(5.5, 2.6))
    bars = ax.bar(range(1, len(shares) + 1), shares, color=BLUE)
    ax.bar_label(bars, [f"of {count}" for count in counts], fontsize=8, padding=2)
    ax.set(xlabel="place in the word", ylabel="letter is right", ylim=(0, 1.12))
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()


def draw_arms(found: dict[str, list[float]], guessing: float) -> None:
    """A line of dots for each way of training: its share right, one dot a seed."""
    figure, ax = plt.subplots(figsize=(6.5, 0.55 * len(found) + 1.1))
    for place, shares in enumerate(found.values()):
        ax.plot(shares, [place] * len(shares), "o", color=BLUE, markersize=8, alpha=0.7)
    ax.axvline(guessing, color=ORANGE, linestyle="--")
    ax.text(guessing, -0.75, " guessing", color=ORANGE, fontsize=9, va="center")
    ax.set_yticks(range(len(found)), list(found))
    ax.set(xlim=(-0.03, 1.03), ylim=(len(found) - 0.5, -1), xlabel="right on people of whom no conversation tells")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    plt.show()

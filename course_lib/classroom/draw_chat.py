"""Drawings of chapter 17, and what is measured for them: two threads and a client, eight clients, a page in a box.

Written by hand; chapter 17 uses it.
"""

import html
import time
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
from IPython.display import HTML

from course_lib.generate.rows import Request
from course_lib.serve.batch_engine import BatchEngine, Handle

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"


class TimedEngine(BatchEngine):
    """A BatchEngine that notes when it calls `notify`. rung: of the last request, seconds of time.perf_counter."""

    def submit(self, request: Request, notify: Callable | None = None) -> Handle:
        self.rung: list[float] = []

        def ring() -> None:
            self.rung.append(time.perf_counter())
            if notify:
                notify()

        return super().submit(request, ring)


def draw_threads(rung: Sequence[float], heard: Sequence[float], shown: int = 8) -> None:
    """Lanes of the engine, the event loop and the client. rung, heard: seconds after the request was sent.

    rung: when the engine had something new; heard: when an event had come at the client.
    """
    figure, ax = plt.subplots(figsize=(7.2, 2.6), layout="constrained")
    lanes = {"engine's thread": 0, "event loop": 1, "client": 2}
    for y in lanes.values():
        ax.axhline(y, color=GREY, linewidth=1, zorder=0)
    rung, heard = [1000 * t for t in rung][:shown], [1000 * t for t in heard]
    style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
    for start, end in ((2, 1), (1, 0)):
        ax.annotate("", (0, end + 0.06), (0, start - 0.06), arrowprops=style | {"color": GREEN, "linewidth": 1.6})
    ax.barh(0, rung[0], left=0, height=0.3, color="#f3f3f3", edgecolor=GREY)
    ax.text(rung[0] / 2, 0, "reads the prompt", ha="center", va="center", fontsize=8)
    for before, now in zip(rung, rung[1:], strict=False):
        ax.barh(0, now - before, left=before, height=0.3, color="#cfe4f3", edgecolor=BLUE)
    for moment in rung:
        ax.annotate("", (moment, 0.94), (moment, 0.15), arrowprops=style | {"color": ORANGE})
    for moment in heard:
        if moment <= rung[-1] + (rung[-1] - rung[0]) / len(rung):
            ax.annotate("", (moment, 1.94), (moment, 1.06), arrowprops=style | {"color": BLUE})
    for color, label in ((GREEN, "request"), (ORANGE, "the bell rings"), (BLUE, "an event arrives")):
        ax.plot([], [], color=color, label=label)
    ax.set(yticks=list(lanes.values()), yticklabels=list(lanes), ylim=(-0.4, 2.3), xlabel="milliseconds")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="upper center", ncols=3, frameon=False, fontsize=8, bbox_to_anchor=(0.5, 1.22))
    plt.show()


def draw_clients(runs: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """A panel for each run; of each client the seconds of its events, the one whose first came first on top."""
    figure, axes = plt.subplots(1, len(runs), figsize=(8, 2.9), sharex=True, sharey=True, layout="constrained")
    for ax, (title, times) in zip(axes, runs.items(), strict=True):
        for n, (first, *_, last) in enumerate(sorted(times, key=lambda each: each[0])):
            ax.barh(n, first, color="white", edgecolor=GREY, hatch="///", label="waits" if not n else None)
            written = {"color": "#cfe4f3", "edgecolor": BLUE, "label": "is written" if not n else None}
            ax.barh(n, last - first, left=first, **written)
        ax.set(title=title, xlabel="seconds", yticks=range(len(times)), ylim=(len(times) - 0.4, -0.6))
    axes[0].set_ylabel("client")
    axes[-1].legend(loc="lower right", frameon=False)
    plt.show()


def sandboxed(page: str, height: int = 150) -> HTML:
    """A web page in a box: its scripts run, and reach nothing outside of the box."""
    frame = f'<iframe sandbox="allow-scripts" style="border: 1px solid #999; width: 100%; height: {height}px"'
    return HTML(f'<div>{frame} srcdoc="{html.escape(page)}"></iframe></div>')

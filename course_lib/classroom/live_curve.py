"""A curve that grows while a cell trains."""

import os
import sys
import time
from itertools import cycle

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_lib.classroom.cells import in_notebook, quick_run
from course_lib.host.words import duration

CRAWLING = 10.0  # seconds of steps before a busy machine is worth a sentence


def running_mean(values: list[float], window: int) -> list[float]:
    """Mean of the last `window` values at each place (of fewer at the start)."""
    means, total = [], 0.0
    for n, value in enumerate(values):
        total += value - (values[n - window] if n >= window else 0.0)
        means.append(total / min(n + 1, window))
    return means


class LiveCurve:
    """A loss curve that redraws itself in JupyterLab while the cell runs; in quick runs and scripts it draws once.

    references: label -> value, drawn as dashed horizontal lines, such as the loss to beat.
    total: number of steps, where it is known: the axis has its full length from the start, and says the time left.
    window: how many values the thick line averages; 1 draws the values alone.
    seconds: the shortest time between two drawings.
    """

    _said_busy = False  # once in a notebook, whichever curve says it

    def __init__(
        self,
        label: str = "loss",
        references: dict[str, float] | None = None,
        total: int | None = None,
        window: int = 1,
        seconds: float = 0.5,
    ):
        self.label, self.references, self.total = label, references or {}, total
        self.window, self.seconds = window, seconds
        self.steps: list[int] = []
        self.values: list[float] = []
        self._display = None
        self._drawn_at = self._began_at = time.monotonic()
        self._live = in_notebook() and not quick_run()

    def add(self, step: int, value: float) -> None:
        """Record a point; redraw when it is time."""
        self.steps.append(step)
        self.values.append(value)
        now = time.monotonic()
        if len(self.values) == 1:
            self._began_at = now  # the first step may have compiled, and says little of the others
        if self._live and now - self._drawn_at >= self.seconds:
            self._draw(self.time_left(now))
            self._drawn_at = now
            if now - self._began_at >= CRAWLING and not LiveCurve._said_busy and (line := busy()):
                LiveCurve._said_busy = True
                print(line)

    def time_left(self, now: float) -> str:
        """ "about 0:42 left", from the steps since the first; empty when that cannot be known. now: of the clock."""
        done = self.steps[-1] - self.steps[0]
        left = self.total - 1 - done if self.total else 0
        return f"about {duration((now - self._began_at) / done * left)} left" if done > 0 and left > 0 else ""

    def show(self) -> None:
        """Draw the whole curve: in place of the live one where there is one."""
        if self._live:
            self._draw()
        else:
            self.figure()
            plt.show()

    def figure(self, time_left: str = "") -> Figure:
        """The curve so far as a figure; `time_left` stands beside the name of its axis."""
        figure, axes = plt.subplots(figsize=(6, 3))
        smooth = self.window > 1
        axes.plot(
            self.steps,
            self.values,
            color="#0072B2",
            linewidth=0.8 if smooth else 1.5,
            alpha=0.35 if smooth else 1,
            marker="o" if len(self.values) == 1 else "",  # a line needs two
        )
        if smooth:
            means = running_mean(self.values, self.window)
            axes.plot(self.steps, means, color="#0072B2", linewidth=2, label=f"mean of the last {self.window}")
        looks = cycle([("#D55E00", "--"), ("#009E73", ":"), ("#000000", "-.")])
        for (name, value), (color, style) in zip(self.references.items(), looks, strict=False):
            axes.axhline(value, color=color, linestyle=style, label=f"{name}: {value:.2f}")
        if smooth or self.references:
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)  # above, off the data
        if self.total:
            axes.set_xlim(-0.03 * self.total, 1.03 * self.total)
        axes.set_xlabel(f"step ({time_left})" if time_left else "step")
        axes.set_ylabel(self.label)
        axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        return figure

    def _draw(self, time_left: str = "") -> None:
        from IPython.display import display

        figure = self.figure(time_left)
        if self._display is None:
            self._display = display(figure, display_id=True)
        else:
            self._display.update(figure)
        plt.close(figure)


def busy() -> str | None:
    """A sentence for a machine whose cores others take, where OpenBLAS waits for each of its threads; else None."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]  # how many threads wanted a core in the last minute
    settings = {"OPENBLAS_NUM_THREADS", "COURSE_AUTHORING"}  # nothing to advise; `course run` judges the load itself
    if sys.platform != "linux" or settings & set(os.environ) or load < 1.5 * cores:
        return None
    return (
        f"These steps may be slow: programs want more cores than this machine has (load {load:.1f} on {cores}). "
        "End some, or start JupyterLab with OPENBLAS_NUM_THREADS=1 in its environment."
    )

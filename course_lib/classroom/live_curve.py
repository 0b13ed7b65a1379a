"""A curve that grows while a cell trains."""

import time

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_lib.classroom.cells import in_notebook, quick_run


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
    window: how many values the thick line averages; 1 draws the values alone.
    seconds: the shortest time between two drawings.
    """

    def __init__(
        self, label: str = "loss", references: dict[str, float] | None = None, window: int = 1, seconds: float = 0.5
    ):
        self.label, self.references, self.window, self.seconds = label, references or {}, window, seconds
        self.steps: list[int] = []
        self.values: list[float] = []
        self._display = None
        self._drawn_at = time.monotonic()
        self._live = in_notebook() and not quick_run()

    def add(self, step: int, value: float) -> None:
        """Record a point; redraw when it is time."""
        self.steps.append(step)
        self.values.append(value)
        if self._live and time.monotonic() - self._drawn_at >= self.seconds:
            self._draw()
            self._drawn_at = time.monotonic()

    def show(self) -> None:
        """Draw the whole curve: in place of the live one where there is one."""
        if self._live:
            self._draw()
        else:
            self.figure()
            plt.show()

    def figure(self) -> Figure:
        """The curve so far as a figure."""
        figure, axes = plt.subplots(figsize=(6, 3))
        smooth = self.window > 1
        axes.plot(
            self.steps, self.values, color="#0072B2", linewidth=0.8 if smooth else 1.5, alpha=0.35 if smooth else 1
        )
        if smooth:
            means = running_mean(self.values, self.window)
            axes.plot(self.steps, means, color="#0072B2", linewidth=2, label=f"mean of the last {self.window}")
        for (name, value), style in zip(
            self.references.items(), ["--", ":", "-."] * len(self.references), strict=False
        ):
            axes.axhline(value, color="#D55E00", linestyle=style, label=f"{name}: {value:.2f}")
        if smooth or self.references:
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)  # above, off the data
        axes.set_xlabel("step")
        axes.set_ylabel(self.label)
        axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        return figure

    def _draw(self) -> None:
        from IPython.display import display

        figure = self.figure()
        if self._display is None:
            self._display = display(figure, display_id=True)
        else:
            self._display.update(figure)
        plt.close(figure)

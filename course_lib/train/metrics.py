"""What a training run measured: a file with one JSON object a line, and a picture of it.

Written by hand; chapter 10 uses it.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from course_lib.host.files import write_atomically
from course_lib.host.words import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MetricsLog:
    """Appends objects {"step": …} to the file at `path`; a run that goes on drops those from `first_step` on before."""

    def __init__(self, path: Path, first_step: int = 0):
        entries, damaged = _read(path)
        if damaged:
            print(f"{path}: left out {plural(damaged, 'damaged line')}", file=sys.stderr)
        kept = [entry for entry in entries if entry["step"] < first_step]
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
        self._file = path.open("a", encoding="utf-8")

    def add(self, step: int, **values: object) -> None:
        """Write one line, so that it is there even if the process is killed."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict]:
    """The objects of a metrics file, without damaged lines: the last one is, where a process was killed."""
    return _read(path)[0]


def _read(path: Path) -> tuple[list[dict], int]:
    """(the objects of a metrics file, how many lines before its last are none)"""
    lines = path.read_bytes().splitlines() if path.exists() else []
    entries = [_entry(line) for line in lines]
    return [entry for entry in entries if entry], entries[:-1].count(None)


def _entry(line: bytes) -> dict | None:
    try:
        entry = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    drawn = ("smoothed", *(name for name, _, _ in PANELS + REWARD_PANELS))
    if not isinstance(entry, dict) or type(entry.get("step")) is not int:
        return None
    return entry if all(isinstance(entry.get(name, 0), int | float) for name in drawn) else None


PANELS = (
    ("loss", "loss, nats", "#0072B2"),
    ("bits_per_byte", "validation, bits per byte", "#D55E00"),
    ("lr_multiplier", "learning rates, share", "#009E73"),
    ("tokens_per_second", "tokens per second", "#000000"),
)
REWARD_PANELS = (
    ("reward", "mean reward of a step", "#0072B2"),
    ("pass_1", "held-out, share of right replies", "#D55E00"),
    ("live", "groups that teach, share", "#009E73"),
    ("reply_tokens", "tokens of a reply", "#000000"),
)


def draw_metrics(entries: list[dict], panels: tuple = PANELS) -> "Figure":
    """What panels name over the steps of a run: by default loss, bits per byte, learning rate and speed."""
    from matplotlib.figure import Figure  # slow to import, and needed at the end of a run only

    figure = Figure(figsize=(8, 5), layout="constrained")
    for ax, (name, label, color) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        points = [(entry["step"], entry[name]) for entry in entries if name in entry]
        if name == "loss":
            ax.plot(*zip(*points, strict=True) if points else ((), ()), color=color, alpha=0.3, linewidth=0.8)
            points = [(entry["step"], entry["smoothed"]) for entry in entries if "smoothed" in entry]
        marker = "o" if name in ("bits_per_byte", "pass_1") else ""
        ax.plot(*zip(*points, strict=True) if points else ((), ()), color=color, marker=marker, markersize=3)
        ax.set(xlabel="step", ylabel=label)
        ax.set_ylim(bottom=None if name in ("loss", "bits_per_byte") else 0)
    return figure


def save_curves(path: Path, entries: list[dict], panels: tuple = PANELS) -> None:
    """Draw the metrics into a PNG file."""
    draw_metrics(entries, panels).savefig(path, dpi=120)

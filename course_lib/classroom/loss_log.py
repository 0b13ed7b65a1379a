"""The loss log: one row for each model or idea, so that a reader sees what each one bought.

`course run` fills it in (it sets COURSE_AUTHORING=1); in every other run recording a loss leaves the file alone.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt

from course_lib.classroom.cells import quick_run
from course_lib.host.files import write_atomically
from course_lib.host.paths import data_dir

FIELDS = ["notebook", "model", "idea", "corpus", "parameters", "steps", "seconds", "seeds", "loss", "spread"]
NUMBERS = {"parameters": int, "steps": int, "seconds": float, "seeds": int, "loss": float, "spread": float}


def log_path() -> Path:
    """Where the log is kept."""
    return data_dir() / "loss_log.csv"


def read_losses(path: Path | None = None) -> list[dict]:
    """Rows of the log in course order, as `record_loss` takes them; None stands for a number that nobody gave."""
    path = path or log_path()
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [_parsed(row) for row in csv.DictReader(file)]


def _parsed(row: dict[str, str]) -> dict:
    return row | {field: kind(row[field]) if row.get(field) else None for field, kind in NUMBERS.items()}


def record_loss(
    notebook: str,
    model: str,
    idea: str,
    corpus: str,
    steps: int,
    loss: float | Sequence[float],
    parameters: int | None = None,
    seconds: float | None = None,
    path: Path | None = None,
) -> None:
    """Put a row into the log, replacing one of the same notebook, model and corpus; a no-op outside `course run`.

    notebook: number such as "03"; idea: what is new in this model, in a few words; loss: nats per token, held out, or
    one such loss for each seed: the row keeps their mean, their number and their spread, largest minus smallest.
    parameters: how many numbers the model learns, or its table holds; seconds: to train it, or to count.
    """
    if os.environ.get("COURSE_AUTHORING") != "1" or quick_run():
        return
    path = path or log_path()
    losses = [float(one) for one in (loss if isinstance(loss, Sequence) else [loss])]
    row = {
        "notebook": notebook,
        "model": model,
        "idea": idea,
        "corpus": corpus,
        "parameters": parameters,
        "steps": steps,
        "seconds": None if seconds is None else float(f"{seconds:.2g}"),
        "seeds": len(losses),
        "loss": round(sum(losses) / len(losses), 4),
        "spread": round(max(losses) - min(losses), 4) if len(losses) > 1 else None,
    }
    rows = read_losses(path)
    same = [n for n, old in enumerate(rows) if all(old[key] == row[key] for key in ("notebook", "model", "corpus"))]
    if same:
        rows[same[0]] = row
    else:
        rows.append(row)
    rows.sort(key=lambda row: row["notebook"])  # a stable sort: rows of a notebook stay in the order they came
    with write_atomically(path) as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows_until(corpus: str, until: str | None) -> list[dict]:
    return [row for row in read_losses() if row["corpus"] == corpus and (until is None or row["notebook"] <= until)]


def print_loss_log(corpus: str, until: str | None = None) -> None:
    """Print the log of one corpus as a table; `until` stops at a notebook."""
    print(f"    {'model':24s} parameters  steps  seconds  seeds    loss  ± half the spread")
    for row in _rows_until(corpus, until):
        parameters = "–" if row["parameters"] is None else f"{row['parameters']:,}"
        seconds = "–" if row["seconds"] is None else f"{row['seconds']:g}"
        spread = "" if row["spread"] is None else f"  ± {row['spread'] / 2:.4f}"
        print(
            f"{row['notebook']}  {row['model']:24s} {parameters:>10s} {row['steps']:6,d} {seconds:>8s} "
            f"{row['seeds'] or 1:6d}  {row['loss']:.4f}{spread}"
        )


def draw_loss_log(corpus: str, until: str | None = None) -> None:
    """Draw the log of one corpus, lower losses further left; `until` stops at a notebook.

    A circle for each model that was trained, a square for each that counts (its steps are 0).
    """
    rows = _rows_until(corpus, until)
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.5 * len(rows)))
    for place, row in enumerate(rows):
        marker, color = ("o", "#0072B2") if row["steps"] else ("s", "#D55E00")
        axes.plot(row["loss"], place, marker, color=color, markersize=9)
        axes.annotate(f"{row['loss']:.3f}", (row["loss"], place), (9, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [f"{row['notebook']} · {row['model']}\n{fill(row['idea'], 45)}" for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the first on top
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    axes.set_xlabel(f"held-out loss on {corpus}, nats per token\n(further left is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()

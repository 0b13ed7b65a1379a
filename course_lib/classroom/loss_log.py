"""The loss log: one row for each model or idea, so that a reader sees what each one bought.

`course run` fills it in (it sets COURSE_AUTHORING=1); in every other run recording a loss leaves the file alone.
"""

import csv
import os
from pathlib import Path

import matplotlib.pyplot as plt

from course_lib.classroom.cells import quick_run
from course_lib.host.files import write_atomically
from course_lib.host.paths import data_dir

FIELDS = ["notebook", "model", "idea", "corpus", "steps", "loss"]


def log_path() -> Path:
    """Where the log is kept."""
    return data_dir() / "loss_log.csv"


def read_losses(path: Path | None = None) -> list[dict]:
    """Rows of the log in course order; `steps` is an int and `loss` a float (nats a token, on held-out text)."""
    path = path or log_path()
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{**row, "steps": int(row["steps"]), "loss": float(row["loss"])} for row in csv.DictReader(file)]


def record_loss(
    notebook: str, model: str, idea: str, corpus: str, steps: int, loss: float, path: Path | None = None
) -> None:
    """Put a row into the log, replacing one of the same notebook, model and corpus; a no-op outside `course run`.

    notebook: number such as "03"; idea: what is new in this model, in a few words; loss: nats a token, held out.
    """
    if os.environ.get("COURSE_AUTHORING") != "1" or quick_run():
        return
    path = path or log_path()
    row = dict(zip(FIELDS, (notebook, model, idea, corpus, steps, round(float(loss), 4)), strict=True))
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


def draw_loss_log(corpus: str, until: str | None = None) -> None:
    """Draw the log of one corpus, a point for each row, lower losses further left; `until` stops at a notebook."""
    rows = [row for row in read_losses() if row["corpus"] == corpus and (until is None or row["notebook"] <= until)]
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.5 * len(rows)))
    for place, row in enumerate(rows):
        axes.plot(row["loss"], place, "o", color="#0072B2", markersize=9)
        axes.annotate(f"{row['loss']:.3f}", (row["loss"], place), (9, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [f"{row['notebook']} · {row['model']}\n{row['idea']}" for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.2)
    axes.grid(alpha=0.3)
    axes.set_xlabel(f"held-out loss on {corpus}, nats a token (further left is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()

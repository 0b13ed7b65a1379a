"""The files of CORE tasks: core.yaml, eval_meta_data.csv and a file of items for each task.

Written by hand; chapter 11 uses it.
"""

import csv
import json
import random
from pathlib import Path

import yaml

from course_lib.evaluate.records import FIELDS, CoreTask
from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir


def load_tasks(folder: Path | None = None) -> list[CoreTask]:
    """The tasks of a folder: core.yaml, eval_meta_data.csv (baselines in percent), eval_data/.

    folder: by default the tasks of this course. Raises CourseError for what is missing or wrong.
    """
    folder = folder or data_dir() / "core"
    try:
        with (folder / "eval_meta_data.csv").open(encoding="utf-8", newline="") as file:
            baselines = {row["Eval Task"]: float(row["Random baseline"]) / 100 for row in csv.DictReader(file)}
        entries = yaml.safe_load((folder / "core.yaml").read_text(encoding="utf-8"))["icl_tasks"]
        return [
            CoreTask(
                name=entry["label"],
                kind=entry["icl_task_type"],
                num_fewshot=entry["num_fewshot"][0],
                delimiter=entry.get("continuation_delimiter", " "),
                baseline=baselines[entry["label"]],
                path=folder / "eval_data" / entry["dataset_uri"],
            )
            for entry in entries
        ]
    except CourseError:
        raise
    except (OSError, KeyError, TypeError, ValueError, IndexError, yaml.YAMLError) as error:
        raise CourseError(
            f"the tasks in {folder} cannot be read ({' '.join(repr(error).split())}); expected "
            "core.yaml and eval_meta_data.csv as in the CORE bundle: get them anew"
        ) from error


def load_items(task: CoreTask) -> list[dict]:
    """The items of a task, shuffled as nanochat does it, so that the first ones are a fair sample.

    Raises CourseError for a file that cannot be read or an item that is not of the task's kind.
    """
    assert task.path  # a task without a file has its items elsewhere
    try:
        lines = task.path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f"cannot read {task.path} ({error}); get the tasks anew") from error
    items = [_read_item(task, line, n) for n, line in enumerate(lines, start=1) if line.strip()]
    random.Random(1337).shuffle(items)
    return items


def _read_item(task: CoreTask, line: str, number: int) -> dict:
    """The item of a line of JSON. Raises CourseError when it is not of the task's kind.

    "cluster", where it has one, is a text or a number that it shares with the items it belongs together with.
    """
    one, several = FIELDS[task.kind]
    try:
        item = json.loads(line)
        item[one] = _text(item[one])
        _text(item.get("cluster", ""))
        if task.kind == "language_modeling":
            item[several] = _text(item[several])
        elif not isinstance(item[several], list) or item["gold"] not in range(len(item[several])):
            raise ValueError("gold is not one of the options")
        else:
            item[several] = [_text(option) for option in item[several]]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CourseError(
            f"{task.path}, line {number}: expected a {task.kind} item, with {one} and {several} "
            f"({error!r}); correct that line, or get the tasks anew"
        ) from error
    return item


def _text(value: object) -> str:
    """The value as text; numbers count as text."""
    if not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is not text")
    return str(value)

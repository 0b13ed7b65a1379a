"""Make data/starter of a speedrun: its base model and its assistant in 16 bits, their tokenizer, the report card.

uv run python dev/make_starter.py TAG
"""

import json
import shutil
import sys

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.paths import CHECKOUT, home_dir
from course_lib.pipeline.card_page import card_markdown
from course_lib.train.checkpoint import Checkpoint, newest_checkpoint, run_folder, save_checkpoint
from course_lib.train.starter import STARTER


def main(tag: str) -> None:
    """Replace data/starter; prints how large it is."""
    target = CHECKOUT / "data" / STARTER
    shutil.rmtree(target, ignore_errors=True)
    for stage in ("base", "sft"):
        run, folder = newest_checkpoint(run_folder(tag, stage)), target / stage / STARTER
        weights = {name: array.astype(mx.float16) for name, array in run.weights.items()}  # all are far below 65,504
        meta = run.meta | {"bits": 16}
        for each in (meta, meta.get("base", {})):
            if "settings" in each:
                each["settings"] = each["settings"] | {"tag": STARTER, "tokenizer": None}  # a path of this machine
        save_checkpoint(folder, Checkpoint(run.step, weights, {}, meta))  # no state: no optimizer goes on with it
        Tokenizer.load(run_folder(tag, stage) / "tokenizer").save(folder / "tokenizer")
    card = json.loads((home_dir() / "speedruns" / tag / "card.json").read_text("utf-8"))
    (target / "card.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    (target / "card.md").write_text(card_markdown(card), "utf-8")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Make data/starter: a base model and its assistant in 16 bits, their tokenizer, the report card.

uv run python dev/make_starter.py TAG

TAG is a speedrun, or a run of chat_sft on the present base model with its report of chat_eval: then the base model
stays, and in the card what is not the assistant's. Of the one that ships, the base model and the tokenizer are those of
`speedrun --minutes 30 --depth 4`. The assistant is made of it by `chat_sft --tag starter --num-iterations 4500
--save-as TAG` and asked by `chat_eval --tag TAG --max-per-task 200`. It shared its machine, so its time in the card is
that of the clock: 50 minutes, where 28 were foretold for two quiet cores. The seconds of the chat evaluation and the
tokens a second in the card are those of the speedrun's own assistant, of the same size and on the same questions.
"""

import json
import shutil
import sys

import mlx.core as mx

from course_lib.backend import describe
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.tasks import reply_text
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host.paths import CHECKOUT, home_dir
from course_lib.pipeline.card_page import card_markdown
from course_lib.pipeline.stages import QUESTIONS, newest_report, points_of, what_was_trained
from course_lib.train.checkpoint import Checkpoint, newest_checkpoint, newest_meta, run_folder, save_checkpoint
from course_lib.train.starter import STARTER, load_starter

TARGET = CHECKOUT / "data" / STARTER
OURS = {"tag": STARTER, "save_as": STARTER, "tokenizer": None}  # in place of a name, and of a path of this machine


def main(tag: str) -> None:
    """Replace data/starter, or its assistant; prints how large it is."""
    card_path = home_dir() / "speedruns" / tag / "card.json"
    whole = card_path.exists()
    for stage in ("base", "sft") if whole else ("sft",):
        keep(tag, stage)
    card = json.loads((card_path if whole else TARGET / "card.json").read_text("utf-8"))
    if not whole:
        update(card, tag)
    (TARGET / "card.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    (TARGET / "card.md").write_text(card_markdown(card), "utf-8")
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{TARGET}: {size / 1e6:.2f} MB")


def keep(tag: str, stage: str) -> None:
    """Put the newest model of a run and its tokenizer where the starter's are."""
    run, folder = newest_checkpoint(run_folder(tag, stage)), TARGET / stage / STARTER
    shutil.rmtree(folder, ignore_errors=True)
    weights = {name: array.astype(mx.float16) for name, array in run.weights.items()}  # all are far below 65,504
    meta = run.meta | {"bits": 16}
    for each in (meta, meta.get("base", {})):
        if settings := each.get("settings"):
            each["settings"] = settings | {name: OURS[name] for name in OURS.keys() & settings.keys()}
    save_checkpoint(folder, Checkpoint(run.step, weights, {}, meta))  # no state: no optimizer goes on with it
    Tokenizer.load(run_folder(tag, stage) / "tokenizer").save(folder / "tokenizer")


def update(card: dict, tag: str) -> None:
    """Write into the card what a run of chat_sft is and does."""
    folder, engine = run_folder(tag, "sft"), Engine(*load_starter(), use_calculator)
    (row,) = [each for each in card["stages"] if each["name"] == "fine-tuning"]
    row |= {"seconds": newest_meta(folder)["seconds"], "what": what_was_trained(folder)}
    card["machine"] = card["machine"].partition("\nfine-tuning")[0]
    card["machine"] += "\nfine-tuning on another " + describe().partition("\n")[0]
    card["losses"]["fine-tuning"] = points_of(folder, "smoothed")
    card["tasks"]["sft"] = newest_report(folder, "chat_eval")["tasks"]
    asked = [render_for_completion(engine.tokenizer, [{"role": "user", "content": each}]) for each in QUESTIONS]
    replies = [engine.generate_batch([prompt], max_tokens=64, temperature=0)[0].ids for prompt in asked]
    said = [reply_text(engine.tokenizer, ids) for ids in replies]
    card["samples"] = [list(pair) for pair in zip(QUESTIONS, said, strict=True)]


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The stages of a speedrun, from nothing to a report card: done once each, and resumed where they were broken off.

Written by hand; chapter 18 uses it.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from course_lib import backend
from course_lib.chat import fine_tuning, reinforcing
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.evaluation import ChatOptions, evaluate_chat_model
from course_lib.chat.lessons import lesson
from course_lib.chat.tasks import lesson_tasks, reply_text
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer_training import train_tokenizer
from course_lib.evaluate.base_model import BaseOptions, evaluate_base_model
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError
from course_lib.host.files import only_one, write_atomically
from course_lib.host.paths import home_dir, known_or_absolute
from course_lib.host.program import AtLeastOne, Bounds
from course_lib.host.progress import sample
from course_lib.host.words import plural
from course_lib.model.kinds import config_class
from course_lib.model.sizes import count_parameters
from course_lib.pipeline.plan import BATCH, CHAT_EVALUATION, PRETRAINING, REINFORCEMENT, Plan, make_plan
from course_lib.train import pretraining
from course_lib.train.checkpoint import checkpoint_folders, load_model, newest_meta, run_folder
from course_lib.train.metrics import read_metrics
from course_lib.train.run_folder import only_writer


@dataclass(frozen=True)
class Settings:
    """Train a model from nothing, make it an assistant, and write its report card."""

    minutes: Annotated[float, Bounds(0.05)] | None = None
    """How long all of it may take, about; by default 5, or no bound when --depth is given."""
    depth: AtLeastOne | None = None
    """Layers; by default what the minutes allow. 12 is the real one."""
    min_iterations: AtLeastOne | None = None
    """Never fewer steps of fine-tuning, whatever the minutes; by default those that answering takes."""
    dataset: str = "bundled"
    """Text to pretrain on, as for base_train; for a depth of 12 take fineweb-edu."""
    streaming: bool = False
    """Fetch that text while training."""
    data: str = "practice"
    """Conversations to fine-tune on, as for chat_sft."""
    reinforcement: bool = True
    """After fine-tuning on practice, reward right answers to its questions."""
    control: bool = False
    """Fine-tune a model without pretraining as well, to see what pretraining brings."""
    max_per_task: AtLeastOne = 100
    """Questions of each task, at most; the same ones after each training."""
    device_batch_size: AtLeastOne | None = None
    """Rows at a time in each process, as for base_train."""
    processes: AtLeastOne | None = None
    """Processes on this machine, as for base_train."""
    changed_data: Literal["before", "now"] | None = None
    """When the data has changed since the run was begun, as for base_train --resume."""
    tag: str = "speedrun"
    """Name of the run."""
    overwrite: bool = False
    """Throw the run of this name away and begin again."""


GUESS = 40  # steps of reinforcement, until the clock knows better
ANSWER = 40  # tokens of a reply, at most; the longest right one of the lessons has fewer

QUESTIONS = (
    "What is your name?",
    "Who made you?",
    "What is 347 + 2815?",
    "How many r are in strawberry?",
    "Spell the word machine.",
    "What is the capital of France?",
)


LOOKED_AT = {"spelling": 20, "counting": 20}  # the first test questions of these kinds, to see what goes wrong


class Speedrun:
    """The stages of one run; what they leave is in the folder speedruns/<tag> of the home."""

    def __init__(self, settings: Settings):
        self.folder = home_dir() / "speedruns" / settings.tag
        self.earlier = 0.0  # seconds that the present stage took in earlier calls
        self.base, self.tuned = run_folder(settings.tag), run_folder(settings.tag, "sft")
        self.reinforced = run_folder(settings.tag, "rl")
        self.control = run_folder(f"{settings.tag}-control", "sft")
        settings = replace(
            settings,
            dataset=known_or_absolute(settings.dataset, pretraining.DATASETS),
            data=",".join(fine_tuning.names_in(settings.data)),
        )
        # Neither makes it another run: fewer rows, or a word on data that has changed.
        asked = asdict(settings) | {"overwrite": False, "device_batch_size": None, "changed_data": None}
        if settings.overwrite:
            with ExitStack() as stack:
                for folder in self.run_folders():
                    stack.enter_context(only_writer(folder))
                for folder in (self.folder, *self.run_folders()):
                    shutil.rmtree(folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = self.read("plan")
        if begun and {"changed_data": None, "reinforcement": False, **begun["settings"]} != asked:
            raise CourseError(
                f"the run {settings.tag} was begun with other flags; go on with the same ones, "
                "begin again by --overwrite, or choose another --tag"
            )
        if not begun:
            plan = make_plan(settings.minutes, settings.depth, settings.processes, settings.min_iterations)
            begun = self.write("plan", {"settings": asked, "plan": asdict(plan)})
        self.settings, self.plan = settings, Plan(**begun["plan"])

    def run_folders(self) -> list[Path]:
        """Where the models of this run are kept."""
        return [self.base, self.tuned, self.reinforced, self.control]

    @property
    def is_reinforced(self) -> bool:
        """Whether reinforcement is one of the stages: it asks the questions of practice."""
        return self.settings.reinforcement and "practice" in self.settings.data.split(",")

    @property
    def assistant(self) -> Path:
        """The run whose model is the result."""
        return self.reinforced if self.is_reinforced else self.tuned

    def read(self, name: str) -> dict | None:
        """What is known under a name; None when there is nothing."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, name: str, values: dict) -> dict:
        """Write `values` to <name>.json atomically."""
        with write_atomically(self.folder / f"{name}.json") as file:
            file.write(json.dumps(values, indent=1) + "\n")
        return values

    def stage(self, name: str, work: Callable[[], str]) -> None:
        """Do a stage unless it is done; `work` returns what to say of it in the card."""
        if self.read(name):
            print(f"— {name}: done before")
            return
        print(f"— {name}", flush=True)
        started, self.earlier = time.perf_counter(), 0.0
        what = work()
        self.write(name, {"name": name, "seconds": self.earlier + time.perf_counter() - started, "what": what})

    @property
    def seconds(self) -> float:
        """Of the stages that are done."""
        return sum(found["seconds"] for name in self.stages() if (found := self.read(name)))

    # ---- the stages

    def stages(self) -> dict[str, Callable[[], str]]:
        """All stages by name, in their order."""
        stages = {
            "tokenizer": self.tokenizer,
            "pretraining": self.pretraining,
            "evaluation": self.evaluation,
            "fine-tuning": self.fine_tuning,
            "chat evaluation": partial(self.ask, self.tuned),
        }
        if self.is_reinforced:
            stages["reinforcement"] = self.reinforcement
            stages["evaluation after it"] = partial(self.ask, self.reinforced)
        if self.settings.control:
            stages["control: fine-tuning"] = partial(self.fine_tuning, control=True)
            stages["control: evaluation"] = partial(self.ask, self.control)
        return {**stages, "samples": self.samples}

    def tokenizer(self) -> str:
        """The tokenizer of this run, of its own text."""
        dataset = open_dataset(self.settings.dataset, self.settings.streaming)
        tokenizer = train_tokenizer(dataset, self.folder / "tokenizer")
        return f"{tokenizer.vocab_size:,} tokens"

    def pretraining(self) -> str:
        """A base model."""
        asked, plan = self.settings, self.plan
        values = {name: getattr(plan, name) for name in ("depth", "aspect_ratio", "head_dim")}
        values |= {"dataset": asked.dataset, "streaming": asked.streaming, "tokenizer": self.folder / "tokenizer"}
        if plan.minutes is not None:
            values |= clock(PRETRAINING * plan.minutes, plan.pretraining, plan.min_pretraining)
        return self.train(pretraining.start_pretraining, pretraining.Settings, self.base, values)

    def fine_tuning(self, control: bool = False) -> str:
        """An assistant, from the base model; or, as a control, from new weights."""
        plan, folder = self.plan, self.control if control else self.tuned
        values = {"data": self.settings.data, "from_scratch": control, "save_as": folder.name}
        if plan.minutes is not None:
            before = sum(self.read(stage)["seconds"] for stage in ("tokenizer", "pretraining", "evaluation"))
            after = CHAT_EVALUATION + REINFORCEMENT * self.is_reinforced
            minutes = max(0.01, (1 - after) * plan.minutes - before / 60)
            values |= clock(minutes, plan.fine_tuning, plan.min_iterations)
        return self.train(fine_tuning.start_fine_tuning, fine_tuning.Settings, folder, values)

    def reinforcement(self) -> str:
        """A better assistant, if its right answers are rewarded."""
        values, minutes = {}, self.plan.minutes
        if minutes is not None:
            values = {"minutes": REINFORCEMENT * minutes, "num_iterations": GUESS, "min_iterations": 1}
        return self.train(reinforcing.start_reinforcement, reinforcing.Settings, self.reinforced, values)

    def train(self, start: Callable, kind: type, folder: Path, values: dict) -> str:
        """A training with these settings, or the rest of one that was broken off; its steps and tokens."""
        same = ["tag", "device_batch_size", "changed_data"]
        same += ["processes"] * (folder != self.reinforced)  # which is always one
        shared = {name: getattr(self.settings, name) for name in same}
        values |= {name: value for name, value in shared.items() if value is not None}
        with only_one(folder).acquire(timeout=120):  # a process that was killed may have left others, still saving
            resume = bool(checkpoint_folders(folder))
        if resume:
            self.earlier = newest_meta(folder)["seconds"]  # before it was broken off
        if code := start(kind(**values, resume=resume), frozenset(values)):
            print("speedrun: go on with the same command", file=sys.stderr)
            sys.exit(code)
        return what_was_trained(folder)

    def evaluation(self) -> str:
        """What the base model is worth, as a base model and as an assistant."""
        questions = self.settings.max_per_task
        evaluate_base_model(self.base, None, BaseOptions(max_per_task=questions, split_tokens=40_000))
        return f"bits per byte, small CORE tasks, {self.ask(self.base)}"

    def ask(self, folder: Path) -> str:
        """Ask a model the questions of the lessons: of each kind the first ones, the same after every training."""
        options = ChatOptions(max_per_task=self.settings.max_per_task, max_tokens=ANSWER, device_batch_size=32)
        evaluate_chat_model(folder, None, options, lesson_tasks())
        return "chat tasks"

    def samples(self) -> str:
        """Replies to QUESTIONS and to LOOKED_AT, always the same ones, and how fast the first are written."""
        model, tokenizer, _ = load_model(self.assistant)
        model.set_dtype(backend.compute_dtype())
        engine, replies, written, seconds = Engine(model, tokenizer, use_calculator), [], 0, 0.0
        for question in QUESTIONS:
            prompt = render_for_completion(tokenizer, [{"role": "user", "content": question}])
            started = time.perf_counter()
            (reply,) = engine.generate_batch([prompt], max_tokens=64, temperature=0)
            seconds, written = seconds + time.perf_counter() - started, written + len(reply.ids)
            replies.append([question, reply_text(tokenizer, reply.ids)])
            sample(*replies[-1])
        looked_at = {kind: replies_to(engine, kind, count) for kind, count in LOOKED_AT.items()}
        self.write("replies", {"samples": replies, "tokens_per_second": written / seconds, "looked_at": looked_at})
        return plural(len(QUESTIONS) + sum(LOOKED_AT.values()), "reply", "replies")

    # ---- what they leave

    def card(self) -> dict:
        """All that the stages have left, as `card_markdown` takes it."""
        numbers, measured = newest_meta(self.tuned)["config"], newest_report(self.base, "eval")
        config = config_class(numbers)(**numbers)
        model = {
            "layers": config.n_layer,
            "width": config.n_embd,
            "vocabulary": f"{config.vocab_size:,}",
            "parameters": f"{count_parameters(config):,}",
            "pretrained on": self.settings.dataset,
            "fine-tuned on": self.settings.data,
        }
        trained = {"base": self.base, "control": self.control, "sft": self.tuned, "rl": self.reinforced}
        if not self.settings.control:
            del trained["control"]
        if not self.is_reinforced:
            del trained["rl"]
        curves = {"pretraining": points_of(self.base, "smoothed"), "fine-tuning": points_of(self.tuned, "smoothed")}
        bits = measured["bits_per_byte"]
        return {
            "machine": backend.describe(),
            "model": model,
            "stages": [self.read(name) for name in self.stages()],
            "losses": curves,
            "rewards": points_of(self.reinforced, "reward") if self.is_reinforced else [],
            "bits_per_byte": {"training text": bits["train"], "validation text": bits["val"]},
            "core": measured["core"]["tasks"],
            "tasks": {stage: newest_report(folder, "chat_eval")["tasks"] for stage, folder in trained.items()},
            **self.read("replies"),
        }


def clock(minutes: float, guess: int, least: int) -> dict:
    """Settings of a training that ends by the clock, the same on every kind of machine."""
    steps = {"num_iterations": max(guess, least), "min_iterations": least}
    return {"minutes": minutes, "total_batch_size": BATCH, **steps}


def replies_to(engine: Engine, kind: str, count: int) -> list[dict]:
    """The first test questions of a kind, what is right and what the model writes, with its calls."""
    lessons = [lesson(kind, "test", number) for number in range(count)]
    prompts = [render_for_completion(engine.tokenizer, messages) for messages in lessons]
    replies = engine.generate_batch(prompts, max_tokens=ANSWER, temperature=0)
    written = [fine_tuning.readable(engine.tokenizer.decode(reply.ids)) for reply in replies]
    return [
        {"question": messages[0]["content"], "right": as_written(messages[1]["content"]), "reply": reply}
        for messages, reply in zip(lessons, written, strict=True)
    ]


def as_written(content: str | list[dict]) -> str:
    """An answer of a lesson as `readable` shows one of the model: "3", or "[1+2 = 3] 3"."""
    if isinstance(content, str):
        return content
    call, result, said = (part["text"] for part in content)
    return f"[{call} = {result}] {said}"


def what_was_trained(folder: Path) -> str:
    """Steps of a finished run, and how much text or how many replies they were."""
    meta = newest_meta(folder)
    steps, settings = plural(meta["step"], "step"), meta["settings"]
    if "samples" in settings:
        return f"{steps} of {settings['questions']} questions, {settings['samples']} replies to each"
    return f"{meta['step'] * settings['total_batch_size']:,} tokens in {steps}"


def newest_report(folder: Path, kind: str) -> dict:
    """What base_eval ("eval") or chat_eval found of a run's newest checkpoint."""
    paths = sorted(folder.glob(f"{kind}_*.json"))
    return json.loads(paths[-1].read_text(encoding="utf-8"))


def points_of(folder: Path, name: str) -> list[list[float]]:
    """[step, what the run measured under a name], 200 of them at most."""
    points = [entry for entry in read_metrics(folder / "metrics.jsonl") if name in entry]
    return [[each["step"], each[name]] for each in points[:: len(points) // 200 + 1]]

"""From nothing to a model that answers, and its report card: `speedrun --help`.

Each stage is one of the course's programs; what is done is skipped when it is called again.

"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx
from rich.console import Console
from rich.markdown import Markdown

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.tasks import reply_text
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError
from course_lib.host.files import only_one, write_atomically
from course_lib.host.paths import home_dir
from course_lib.host.program import check_least, run_program
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.pipeline.report_card import card_markdown, draw_card, minutes
from course_lib.scripts import base_eval, base_train, chat_eval, chat_sft, tok_train
from course_lib.train import local_ring
from course_lib.train.checkpoint import checkpoint_folders, load_model, run_folder
from course_lib.train.metrics import read_metrics
from course_lib.train.run import trial


@dataclass(frozen=True)
class Settings:
    """Train a model from nothing, make it an assistant, and write its report card."""

    minutes: float | None = None
    """How long all of it may take, about; by default 5, or no bound when --depth is given."""
    depth: int | None = None
    """Layers; by default what the minutes allow. 12 is the real one."""
    dataset: str = "bundled"
    """Text to pretrain on, as for base_train; for a depth of 12 take fineweb-edu."""
    streaming: bool = False
    """Fetch that text while training."""
    data: str = "practice"
    """Conversations to fine-tune on, as for chat_sft."""
    control: bool = False
    """Fine-tune a model without pretraining as well, to see what pretraining brings."""
    max_per_task: int = 200
    """Questions of each task, at most."""
    device_batch_size: int | None = None
    """Rows at a time in each process, as for base_train."""
    processes: int | None = None
    """Processes on this machine, as for base_train."""
    tag: str = "speedrun"
    """Name of the run."""
    overwrite: bool = False
    """Throw the run of this name away and begin again."""


SHARES = {"pretraining": 0.14, "fine-tuning": 0.54}  # of the minutes; the rest is for evaluation


@dataclass(frozen=True)
class Plan:
    """What the minutes come to; steps of None are for base_train and chat_sft to choose."""

    depth: int
    aspect_ratio: int = 64
    head_dim: int = 128
    pretraining: int | None = None
    fine_tuning: int | None = None


# What fits the bundled corpus. Narrow: to copy and to spell, a small model needs layers, not width.
SIZE = {"vocab_size": 2048, "sequence_len": 256, "aspect_ratio": 32, "head_dim": 64}

LEAST = 4  # layers: with fewer of this width, numbers are not copied


def tokens_per_second(depth: int, processes: int) -> float:
    """Measured with steps of noise in this process; the others are taken to be nearly as fast.

    The best of three, since other work on the machine only makes a step slower.
    """
    model = GPT(GPTConfig.from_depth(depth, **SIZE))
    noise = mx.random.randint(0, SIZE["vocab_size"], (2, 8, SIZE["sequence_len"]))
    seconds = min(trial(model, (noise[0], noise[1]), 1, mx.distributed.init()) for _ in range(3))
    return noise[0].size / seconds * (1 + 0.8 * (processes - 1))


def make_plan(settings: Settings) -> Plan:
    """Depth and steps for the minutes: the deepest model that sees a token for each parameter.

    The speed is measured at one depth, and for the others follows from their FLOPs a token.
    """
    bound = 5.0 if settings.minutes is None and settings.depth is None else settings.minutes
    if bound is None:
        return Plan(settings.depth)
    configs = {depth: GPTConfig.from_depth(depth, **SIZE) for depth in range(12, LEAST - 1, -1)}
    measured = settings.depth or 4
    processes = settings.processes or local_ring.fitting_processes(backend.device_kind())
    speed = tokens_per_second(measured, processes)
    work = flops_per_token(GPTConfig.from_depth(measured, **SIZE))  # a token

    def tokens(depth: int) -> float:
        flops = flops_per_token(GPTConfig.from_depth(depth, **SIZE))
        return sum(SHARES.values()) * 60 * bound * speed * work / flops

    fitting = [depth for depth in configs if tokens(depth) >= count_parameters(configs[depth])]
    depth = settings.depth or next(iter(fitting), LEAST)
    total = sum(SHARES.values())
    steps = [max(2, int(share / total * tokens(depth) / 4096)) for share in SHARES.values()]
    return Plan(depth, SIZE["aspect_ratio"], SIZE["head_dim"], *steps)


class Speedrun:
    """The stages of one run; what they leave is in the folder speedruns/<tag> of the home."""

    def __init__(self, settings: Settings):
        self.settings, self.folder = settings, home_dir() / "speedruns" / settings.tag
        asked = asdict(settings) | {"overwrite": False}
        if settings.overwrite:
            for folder in (self.folder, *self.run_folders()):
                shutil.rmtree(folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = self.read("plan")
        if begun and begun["settings"] != asked:
            raise CourseError(
                f"the run {settings.tag} was begun with other flags; go on with the same ones, "
                "begin again by --overwrite, or choose another --tag"
            )
        if not begun:
            begun = self.write("plan", {"settings": asked, "plan": asdict(make_plan(settings))})
        self.plan = Plan(**begun["plan"])

    def run_folders(self) -> list[Path]:
        """Where the models of this run are kept."""
        tag = self.settings.tag
        return [run_folder(tag), run_folder(tag, "sft"), run_folder(f"{tag}-control", "sft")]

    def read(self, name: str) -> dict | None:
        """What is known under a name; None when there is nothing."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, name: str, values: dict) -> dict:
        """Note it, whole or not at all."""
        with write_atomically(self.folder / f"{name}.json") as file:
            file.write(json.dumps(values, indent=1) + "\n")
        return values

    def stage(self, name: str, work: Callable[[], str]) -> None:
        """Do a stage unless it is done; `work` returns what to say of it in the card."""
        if self.read(name):
            print(f"— {name}: done before")
            return
        print(f"— {name}", flush=True)
        started = time.perf_counter()
        what = work()
        seconds = time.perf_counter() - started
        self.write(name, {"name": name, "seconds": seconds, "what": what})

    def tokenizer(self) -> str:
        """The tokenizer of this run, of its own text."""
        asked = self.settings
        flags = [f"--dataset={asked.dataset}", f"--folder={self.folder / 'tokenizer'}"]
        call(tok_train.main, *flags, *["--streaming"] * asked.streaming)
        return f"{Tokenizer.load(self.folder / 'tokenizer').vocab_size:,} tokens"

    def training_flags(self) -> list[str]:
        """Flags that base_train and chat_sft share."""
        asked = self.settings
        flags = {"processes": asked.processes, "device-batch-size": asked.device_batch_size}
        return [f"--{name}={value}" for name, value in flags.items() if value is not None]

    def pretraining(self) -> str:
        """A base model."""
        asked, steps = self.settings, self.plan.pretraining
        flags = [f"--tag={asked.tag}", f"--dataset={asked.dataset}", f"--depth={self.plan.depth}"]
        flags += [f"--aspect-ratio={self.plan.aspect_ratio}", f"--head-dim={self.plan.head_dim}"]
        flags += [f"--tokenizer={self.folder / 'tokenizer'}", *["--streaming"] * asked.streaming]
        flags += [f"--num-iterations={steps}"] if steps else []
        call(base_train.main, *flags, *self.training_flags(), *going_on(run_folder(asked.tag)))
        return self.what_was_trained(run_folder(asked.tag))

    def what_was_trained(self, folder: Path) -> str:
        """Steps and tokens of a finished run."""
        meta = load_model(folder)[2]
        tokens = meta["step"] * meta["settings"]["total_batch_size"]
        return f"{tokens:,} tokens in {meta['step']:,} steps"

    def evaluation(self) -> str:
        """What the base model is worth, as a base model and as an assistant."""
        tag, few = self.settings.tag, min(10, self.settings.max_per_task)
        flags = [f"--max-per-task={self.settings.max_per_task}", "--split-tokens=40000"]
        call(base_eval.main, f"--tag={tag}", *flags)
        flags = ["--stage=base", f"--max-per-task={few}", "--max-tokens=32", "--device-batch-size=32"]
        call(chat_eval.main, f"--tag={tag}", *flags)
        return "bits per byte, small CORE tasks, chat tasks"

    def fine_tuning(self, control: bool = False) -> str:
        """An assistant, from the base model; or, as a control, from new weights."""
        tag, steps = self.settings.tag, self.plan.fine_tuning
        name = f"{tag}-control" if control else tag
        flags = [f"--tag={tag}", f"--data={self.settings.data}", *["--from-scratch"] * control]
        flags += [f"--num-iterations={steps}"] if steps else []
        folder = run_folder(name, "sft")
        flags += [f"--save-as={name}", *self.training_flags(), *going_on(folder)]
        call(chat_sft.main, *flags)
        return self.what_was_trained(folder)

    def chat_evaluation(self, control: bool = False) -> str:
        """The share of replies that are right."""
        tag = f"{self.settings.tag}-control" if control else self.settings.tag
        flags = [f"--tag={tag}", f"--max-per-task={self.settings.max_per_task}"]
        call(chat_eval.main, *flags, "--max-tokens=64", "--device-batch-size=32")
        return "chat tasks"

    def samples(self) -> str:
        """Replies to QUESTIONS, always the same ones, and how fast they are written."""
        model, tokenizer, _ = load_model(run_folder(self.settings.tag, "sft"))
        model.set_dtype(backend.compute_dtype())
        engine, replies, written, seconds = Engine(model, tokenizer, use_calculator), [], 0, 0.0
        for question in QUESTIONS:
            prompt = render_for_completion(tokenizer, [{"role": "user", "content": question}])
            started = time.perf_counter()
            (reply,) = engine.generate_batch([prompt], max_tokens=64, temperature=0)
            seconds, written = seconds + time.perf_counter() - started, written + len(reply.ids)
            replies.append([question, reply_text(tokenizer, reply.ids)])
            print(f"  {question} … {replies[-1][1]}")
        self.write("replies", {"samples": replies, "tokens_per_second": written / seconds})
        return f"{len(QUESTIONS)} replies"

    def stages(self) -> dict[str, Callable[[], str]]:
        """All stages by name, in their order."""
        stages = {
            "tokenizer": self.tokenizer,
            "pretraining": self.pretraining,
            "evaluation": self.evaluation,
            "fine-tuning": self.fine_tuning,
            "chat evaluation": self.chat_evaluation,
        }
        if self.settings.control:
            stages["fine-tuning without pretraining"] = partial(self.fine_tuning, control=True)
            stages["its chat evaluation"] = partial(self.chat_evaluation, control=True)
        return {**stages, "samples": self.samples}

    def card(self) -> dict:
        """All that the stages have left, as `card_markdown` takes it."""
        tag = self.settings.tag
        base, tuned = run_folder(tag), run_folder(tag, "sft")
        config, measured = load_model(tuned)[0].config, newest_report(base, "eval")
        model = {
            "layers": config.n_layer,
            "width": config.n_embd,
            "vocabulary": f"{config.vocab_size:,}",
            "parameters": f"{count_parameters(config):,}",
            "pretrained on": self.settings.dataset,
            "fine-tuned on": self.settings.data,
        }
        tasks = {"base": newest_report(base, "chat_eval")["tasks"]}
        if self.settings.control:
            folder = run_folder(f"{tag}-control", "sft")
            tasks["control"] = newest_report(folder, "chat_eval")["tasks"]
        tasks["sft"] = newest_report(tuned, "chat_eval")["tasks"]
        bits = measured["bits_per_byte"]
        return {
            "machine": backend.describe(),
            "model": model,
            "stages": [self.read(name) for name in self.stages()],
            "losses": {"pretraining": losses_of(base), "fine-tuning": losses_of(tuned)},
            "bits_per_byte": {"training text": bits["train"], "validation text": bits["val"]},
            "core": measured["core"]["tasks"],
            "tasks": tasks,
            **self.read("replies"),
        }


def call(main: Callable[[list[str]], None], *flags: str) -> None:
    """Call a program of the course; ends this one as it ends, when that is not well."""
    try:
        main([*flags])
    except SystemExit as end:
        if end.code:
            print("speedrun: go on with the same command", file=sys.stderr)
            raise


def going_on(folder: Path) -> list[str]:
    """--resume where a run has begun; first waits for what is left of a process that was killed."""
    with only_one(folder).acquire(timeout=120):
        return ["--resume"] if checkpoint_folders(folder) else []


QUESTIONS = (
    "What is your name?",
    "Who made you?",
    "What is 347 + 2815?",
    "How many r are in strawberry?",
    "Spell the word machine.",
    "What is the capital of France?",
)


def newest_report(folder: Path, kind: str) -> dict:
    """What base_eval ("eval") or chat_eval found of a run's newest checkpoint."""
    paths = sorted(folder.glob(f"{kind}_*.json"))
    return json.loads(paths[-1].read_text(encoding="utf-8"))


def losses_of(folder: Path) -> list[list[float]]:
    """[step, smoothed loss] of a run, 200 of them at most."""
    points = [entry for entry in read_metrics(folder / "metrics.jsonl") if "smoothed" in entry]
    return [[each["step"], each["smoothed"]] for each in points[:: len(points) // 200 + 1]]


def work(settings: Settings) -> None:
    """All stages, and the report card."""
    check_least(settings, minutes=0.05, depth=1, max_per_task=1, device_batch_size=1, processes=1)
    with only_one(run_folder(settings.tag, "speedrun")):
        run = Speedrun(settings)
        print(f"plan: {run.plan}")
        for name, do in run.stages().items():
            run.stage(name, do)
        card = run.card()
        run.write("card", card)
        with write_atomically(run.folder / "report.md") as file:
            file.write(card_markdown(card) + "\n![losses, scores, times](report.png)\n")
        draw_card(card).savefig(run.folder / "report.png", dpi=120)
        Console(force_jupyter=False).print(Markdown(card_markdown(card)))
        total = sum(each["seconds"] for each in card["stages"])
        print(f"{minutes(total)} in all; the report card is {run.folder / 'report.md'}")
        print(f"talk to it: chat_cli --tag {settings.tag}, or chat_web --tag {settings.tag}")


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("speedrun", Settings, work, argv)


if __name__ == "__main__":
    main()

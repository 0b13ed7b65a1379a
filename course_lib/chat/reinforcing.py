"""Reinforcement on tasks: from flags to a recipe, and from there into the training loop of pretraining.

The loop is that of every training. What is particular: a batch is what the model itself has just written, so the
source of batches holds the model; and a look at the model counts right replies in place of bits per byte.

Source: nanochat, for its settings and its token-level loss.

Written by hand; chapter 15 uses it.
"""

import math
from collections import deque
from collections.abc import Iterator, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import mlx.core as mx

from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.fine_tuning import LESSONS, readable, take_weights
from course_lib.chat.lessons import KINDS
from course_lib.chat.questions import DOWNLOADED_TASKS, lesson_tasks
from course_lib.chat.reinforcement import Group, PolicyTrainer, batch_of, rows_of, sample_groups, teaches
from course_lib.chat.tasks import TEXT_KINDS, ChatTask, get_task, reply_text
from course_lib.data.identity import fingerprint_of
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.generate.rows import Generation
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.paths import data_dir
from course_lib.host.program import AtLeastOne, Bounds, Fraction, MoreThanZero, NonNegative, Seed
from course_lib.host.words import plural
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import count_parameters
from course_lib.train.checkpoint import load_model, run_folder
from course_lib.train.flags import (
    TUNING,
    CallFlags,
    Horizon,
    RateFlags,
    WhichModel,
    check_flags,
    fill_recipe,
    fitting_batch_size,
    rates_of,
    trained_runs,
)
from course_lib.train.launch import member_of_a_group, start
from course_lib.train.loop import train
from course_lib.train.metrics import REWARD_PANELS
from course_lib.train.recipe import Cadence, Recipe
from course_lib.train.run_folder import RunFolder, open_run
from course_lib.train.source import Source
from course_lib.train.starter import STARTER
from course_lib.train.trainer import StepResult

# Kinds of lessons with an answer that a rule can check: a number, or a word spelled; what is prose has many right ones.
CHECKED = (*(kind for kind in KINDS if kind not in TEXT_KINDS), "spelling", *DOWNLOADED_TASKS)


@dataclass(frozen=True)
class Settings(CallFlags, RateFlags, Horizon):
    """Reward right replies of a model of `chat_sft`; go on with it by --resume.

    The learning rates are those of pretraining, of which --init-lr-frac takes a share.
    """

    tag: str | None = None
    """Name of the run of `chat_sft` to begin with; by default the newest, or the starter model."""
    step: Annotated[int, Bounds(0)] | None = None
    """Which checkpoint of it; by default the newest."""
    tasks: str = "calculator,counting,spelling"
    """What to practise, with commas between: names of tasks whose answers can be checked."""
    questions: AtLeastOne = 8
    """Questions of a step."""
    samples: Annotated[int, Bounds(2)] = 8
    """Replies to each question: a group, whose mean is what a reply is compared with."""
    max_tokens: AtLeastOne = 128
    """Tokens of a reply, at most."""
    temperature: MoreThanZero = 1.0
    """How evenly replies are sampled."""
    top_k: AtLeastOne | None = None
    """Sample from so many tokens only."""
    init_lr_frac: NonNegative = 0.05
    """Share of pretraining's learning rates."""
    warmdown_ratio: Fraction = 1.0
    """Fraction of the run over which learning rates decay."""
    eval_share: NonNegative = 0.25
    """Replies of an evaluation, as a share of those sampled for training since the last one."""
    seed: Seed = 42
    """Random seed of the replies that are sampled."""
    save_as: str | None = None
    """Name of this run; by default that of --tag."""


def make_recipe(settings: Settings, config: GPTConfig) -> Recipe:
    """The run that the settings ask for: by default 60 steps, looked at three times and at both ends.

    A step's rows are its replies, each as long as the model can read at most. Raises FlagError for numbers that do not
    fit together, CourseError for too little memory.
    """
    check_flags(settings)
    if settings.top_k and settings.top_k > config.vocab_size:
        raise FlagError(f"--top-k is {settings.top_k}, expected at most {config.vocab_size}, the model's vocabulary")
    length, steps = config.sequence_len, settings.num_iterations or 60
    size = settings.questions * settings.samples * length
    rates = rates_of(settings, config, settings.init_lr_frac, **TUNING)
    rows = fitting_batch_size(settings, config, length, size, 1, 1)
    cadence = Cadence(max(1, steps // 4), 1, max(1, steps // 2), max(1, steps // 10))
    recipe = fill_recipe(settings, Recipe(config, steps, size, length, rows, rates, cadence), math.inf)
    asked = max(1, round(settings.eval_share * recipe.cadence.eval_every * settings.questions))
    return replace(recipe, cadence=replace(recipe.cadence, eval_batches=asked))  # each question is a batch of replies


def names_of_tasks(tasks: str) -> list[str]:
    """The tasks that --tasks asks for. Raises FlagError for others than those whose answers can be checked."""
    names = list(dict.fromkeys(filter(None, map(str.strip, tasks.split(",")))))
    expected = f"expected some of {', '.join(CHECKED)}"
    if not names:
        raise FlagError(f"--tasks is empty, {expected}")
    for name in names:
        if name in CHECKED:
            continue
        why = "which is no task"
        if name in KINDS:
            why = "whose answers are prose that no rule can check"
        elif name in lesson_tasks():
            why = "and blind questions are for tests alone"
        raise FlagError(f"--tasks has {name!r}, {why}; {expected}")
    return names


def fingerprint_of_tasks(names: list[str]) -> str:
    """By what questions are known again: those of the hub by their name, lessons by their content."""
    lessons = fingerprint_of([data_dir() / "lessons" / file for file in LESSONS])
    return ", ".join(name if name in DOWNLOADED_TASKS else f"{name} of {lessons}" for name in names)


class Attempts:
    """A Source whose batches are replies of the model to questions of tasks, in turn, with their advantages.

    model: which is asked, as it is at that moment; the run gives it. last: of the last step, for the record.
    """

    def __init__(self, names: list[str], tokenizer: Tokenizer, recipe: Recipe, settings: Settings):
        self.tokenizer, self.recipe, self.settings = tokenizer, recipe, settings
        self.fingerprint = fingerprint_of_tasks(names)
        self.model: GPT
        self.last: dict[str, float] = {}
        self._tasks = {split: [get_task(name, split) for name in names] for split in ("train", "test")}
        self._end = tokenizer.special("<|assistant_end|>")
        for split in self._tasks:
            self.asked(split, 0, 1)  # refuses at once what the model cannot read

    def batches(self, split: str, state: dict | None = None) -> "Rollouts":
        """Micro-batches of steps for ever, from a question on."""
        return Rollouts(self, state)

    def place(self, state: dict) -> str:
        """Where in the questions a state is."""
        return f"question {state['next']}"

    def task_and_messages(self, split: str, number: int) -> tuple[ChatTask, list[dict]]:
        """Question `number`: the tasks take turns. Lessons never come again, downloaded questions after the last."""
        tasks = self._tasks[split]
        task, own = tasks[number % len(tasks)], number // len(tasks)
        return task, task.conversation(own % len(task) if task.name in DOWNLOADED_TASKS else own)

    def asked(self, split: str, first: int, count: int) -> tuple[list[tuple[ChatTask, list[dict], list[int]]], int]:
        """The next questions that the model can read, each as (task, messages, prompt); and the number after them.

        Raises CourseError when of a thousand in a row it can read none.
        """
        found, number, last = [], first, first
        while len(found) < count:
            task, messages = self.task_and_messages(split, number)
            ids, number = render_for_completion(self.tokenizer, messages), number + 1
            if len(ids) < self.recipe.sequence_len:
                found.append((task, messages, ids))
                last = number
            elif number - last >= 1000:
                raise CourseError(
                    f"the model reads {self.recipe.sequence_len} tokens, and no question of {self.settings.tasks} is "
                    "as short; choose other --tasks, or a model of a longer --sequence-len"
                )
        return found, number

    def try_out(self, split: str, first: int, count: int, seed: int) -> tuple[list[Group], int]:
        """Groups of replies to the next questions, and the number after them."""
        asked, following = self.asked(split, first, count)

        def reward(n: int, reply: Generation) -> float:
            task, messages, _ = asked[n]  # what never ends is no answer
            return reply.finish_reason == "stop" and task.evaluate(messages, reply_text(self.tokenizer, reply.ids))

        names = ("samples", "max_tokens", "temperature", "top_k")
        how = {name: getattr(self.settings, name) for name in names} | {"seed": seed}
        engine = Engine(self.model, self.tokenizer, use_calculator, keep_prefixes=1)
        return sample_groups(engine, [prompt for *_, prompt in asked], reward, **how), following

    def practise(self, first: int) -> tuple[list, int]:
        """The micro-batches of a step that begins at a question, and the question at which the next one begins."""
        groups, following = self.try_out("train", first, self.settings.questions, self.settings.seed + first)
        replies = [reply for group in groups for reply in group.replies]
        self.last = {
            "reward": mean(reward for group in groups for reward in group.rewards),
            "live": mean(map(teaches, groups)),
            "reply_tokens": mean(len(reply.ids) for reply in replies),
        }
        rows, size = rows_of(groups, self._end), self.recipe.device_batch_size
        return [batch_of(rows[n : n + size], self._end) for n in range(0, len(rows), size)], following

    def examine(self) -> dict[str, float]:
        """How many of the replies to held-out questions are right, and to how many questions one is at least."""
        groups, _ = self.try_out("test", 0, self.recipe.cadence.eval_batches, self.settings.seed)
        right = [[reward > 0 for reward in group.rewards] for group in groups]
        return {"pass_1": mean(map(mean, right)), "pass_k": mean(map(any, right)), "asked": len(right)}

    def preview(self, model: GPT) -> list[tuple[str, str]]:
        """Three held-out questions, and the likeliest replies."""
        asked, _ = self.asked("test", 0, 3)
        engine = Engine(model, self.tokenizer, use_calculator)
        prompts, limit = [prompt for *_, prompt in asked], self.settings.max_tokens
        replies = engine.generate_batch(prompts, max_tokens=limit, temperature=0)
        return [
            (messages[-2]["content"], readable(self.tokenizer.decode(reply.ids)))
            for (_, messages, _), reply in zip(asked, replies, strict=True)
        ]


class Rollouts(AbstractContextManager, Iterator):
    """Micro-batches (inputs, (targets, advantages)) for ever; those of a step are sampled when its first one is due.

    `state` is {"next": question}: where the next step begins.
    """

    def __init__(self, attempts: Attempts, state: dict | None):
        self.state = {"next": (state or {}).get("next", 0)}
        self._attempts, self._ready = attempts, deque()

    def __next__(self) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        if not self._ready:
            batches, following = self._attempts.practise(self.state["next"])
            self._ready.extend(batches)
            self.state = {"next": following}
        return self._ready.popleft()

    def __exit__(self, *error: object) -> None:
        pass


class Pace:
    """Seconds of a step, sampling included, by the steps that were done."""

    def __init__(self, eval_share: float):
        self.seconds, self._eval_share = math.nan, eval_share

    def add(self, seconds: float) -> None:
        """Note the time of a step."""
        self.seconds = seconds if math.isnan(self.seconds) else 0.8 * self.seconds + 0.2 * seconds

    def __str__(self) -> str:
        return f"{self.seconds:.2g} s a step"

    def left(self, steps: int) -> float:
        """Seconds that this many steps will take, evaluation included."""
        return steps * self.seconds * (1 + self._eval_share)


class RewardedRun(RunFolder):
    """The folder of a run whose steps are measured by rewards."""

    panels = REWARD_PANELS
    attempts: Attempts

    def try_speed(self, model: GPT, done: int) -> None:
        """The steps themselves tell: what they cost is mostly the sampling, and how long replies are."""
        self._speed = Pace(self.flags.eval_share)

    def measures(self, result: StepResult, seconds: float) -> dict[str, float]:
        """What is written down of a step."""
        found = self.attempts.last
        sampled = found["reply_tokens"] * self.attempts.settings.questions * self.attempts.settings.samples
        return super().measures(result, seconds) | found | {"tokens_per_second": sampled / seconds}

    def in_short(self) -> str:
        """What the status says of the last step."""
        return "reward {reward:.2f}, {live:.0%} of the groups teach".format(**self.attempts.last)

    def evaluate(self, step: int, model: GPT, source: Source) -> None:
        """Log how many replies to held-out questions are right."""
        found, samples = self.attempts.examine(), self.attempts.settings.samples
        asked = plural(int(found["asked"]), "held-out question")
        self.log(step, **found)
        self._status.say(
            f"step {step:,}: {found['pass_1']:.1%} of the replies to {asked} are right; to {found['pass_k']:.1%} of "
            f"them at least one of {samples} is"
        )
        self._evaluated = step


def name_of(settings: Settings) -> str:
    """The name of the run: --save-as, --tag, or that of the model that is taken without them."""
    newest = [folder.name for folder in trained_runs().get("sft", [])]
    return settings.save_as or settings.tag or [*newest, STARTER][0]


def folder_of(settings: Settings) -> Path:
    """Where the run is kept."""
    return run_folder(name_of(settings), "rl")


def refuse_more(processes: int) -> None:
    """Raise FlagError for several processes."""
    if processes > 1:
        raise FlagError(
            f"--processes is {processes}, but chat_rl trains in one: a step's replies are sampled in one batch; leave "
            "the flag out"
        )


def reinforce(settings: Settings, given: Set[str]) -> int:
    """Train on rewards: 0, or the exit code of a request to stop.

    given: names of the settings that were asked for; of a resumed run the others are those that it was begun with.
    """
    folder = folder_of(settings)
    opened: Any = partial(open_run, kind=RewardedRun)
    with member_of_a_group("chat_rl") as (group, stop), opened(folder, settings, group) as out:
        refuse_more(group.size())
        settings = out.follow(settings, given)
        names = names_of_tasks(settings.tasks)
        base, tokenizer, meta = load_model(*WhichModel(settings.tag, step=settings.step).place("sft"))
        recipe = make_recipe(settings, base.config)
        out.attempts = source = Attempts(names, tokenizer, recipe, settings)
        about = (
            f"model        {name_of(settings)}, step {meta['step']:,}: {count_parameters(base.config):,} parameters\n"
            f"tasks        {', '.join(names)}: {recipe.num_iterations:,} steps of {settings.questions} questions, "
            f"{settings.samples} replies to each"
        )
        noted = {name: meta.get(name) for name in ("step", "bits_per_byte", "settings")}
        source.model = out.begin(settings, recipe, source, about, partial(take_weights, base), base=noted)
        trainer = PolicyTrainer(source.model, recipe.num_iterations, recipe.rates)
        return 0 if settings.dry_run else train(recipe, trainer, source, out, stop)


def start_reinforcement(settings: Settings, given: Set[str]) -> int:
    """Train on rewards, in one process; the exit code of the run."""
    refuse_more(settings.processes or 1)
    return start("chat_rl", reinforce, settings, given, folder_of(settings), refuse_more)

"""Fine-tuning on conversations: from flags to a recipe, and from there into the training loop of pretraining.

Source: nanochat.

Written by hand; chapter 13 uses it.
"""

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.conversation_loader import ConversationLoader
from course_lib.chat.packing import BUFFER
from course_lib.chat.rendering import render_conversation
from course_lib.chat.sources import FROM_HUB, mixed, open_conversations
from course_lib.data.identity import fingerprint_of
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.paths import data_dir, existing_path, known_or_absolute
from course_lib.host.program import AtLeastOne, Bounds, Fraction, NonNegative
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.kinds import config_class, kind_of
from course_lib.model.sizes import count_parameters
from course_lib.train.checkpoint import load_model, newest_meta, run_folder
from course_lib.train.fast_trainer import trainer_for
from course_lib.train.flags import (
    TUNING,
    BatchFlags,
    CallFlags,
    Horizon,
    RateFlags,
    WhichModel,
    check_flags,
    fill_recipe,
    fitting_batch_size,
    rates_of,
)
from course_lib.train.launch import check_same, member_of_a_group, processes_here, start
from course_lib.train.loop import train
from course_lib.train.recipe import Cadence, Recipe
from course_lib.train.run_folder import open_run

KNOWN = ("practice", *FROM_HUB)
LESSONS = ("lessons.yaml", "words.txt")


@dataclass(frozen=True)
class FineTuningCall(CallFlags):
    """Where the conversations are in this call; a resumed run knows them by their content."""

    data: str = "practice"
    """practice, smoltalk, gsm8k, arc-easy, arc-challenge, mmlu or a file; several by commas."""


@dataclass(frozen=True)
class Settings(FineTuningCall, RateFlags, Horizon, BatchFlags):
    """Fine-tune a model of `base_train` on conversations; go on with it by --resume.

    The learning rates are those of pretraining, of which --init-lr-frac takes a share.
    """

    tag: str = "d4"
    """Name of the run of `base_train` to begin with."""
    step: Annotated[int, Bounds(0)] | None = None
    """Which checkpoint of it; by default the newest."""
    init_lr_frac: NonNegative | None = None
    """Share of pretraining's learning rates; by default 0.1, for practice alone 1."""
    warmdown_ratio: Fraction | None = None
    """Fraction of the run over which learning rates decay; by default all, for practice alone 0.4."""
    from_scratch: bool = False
    """Begin with new weights of that model's shape: what does pretraining bring?"""
    keep: AtLeastOne = 2
    """How many checkpoints to keep."""
    save_as: str | None = None
    """Name of this run; by default that of --tag."""


def make_recipe(
    settings: Settings,
    config: GPTConfig,
    tokens: float,
    val_tokens: float = math.inf,
    processes: int = 1,
    here: int = 1,
) -> Recipe:
    """The run that the settings ask for. tokens, val_tokens: of the data once through; inf: it never comes again.

    By default: rows of the model's length, for practice alone 128; 4,096 tokens to a step on a CPU, 32,768 on a GPU;
    once through the data, for practice 400 steps. Raises FlagError for numbers that do not fit together, CourseError
    for too little memory.
    """
    check_flags(settings)
    practice, longest = settings.data == "practice", config.sequence_len
    length = settings.sequence_len or min(128 if practice else longest, longest)
    if length > longest:
        raise FlagError(f"--sequence-len is {length}, expected at most {longest}, the model's")
    usual = 4096 if backend.device_kind() == "cpu" else 32_768
    size = settings.total_batch_size or max(1, usual // length) * length
    steps = settings.num_iterations or (400 if math.isinf(tokens) else max(1, round(tokens / size)))
    share, warmdown = (1.0, 0.4) if practice else (0.1, 1.0)
    share = share if settings.init_lr_frac is None else settings.init_lr_frac
    rates = rates_of(settings, config, share, warmdown_ratio=warmdown, **TUNING)
    rows = fitting_batch_size(settings, config, length, size, processes, here)
    cadence = Cadence(max(1, steps // 10), 1, max(1, steps // 2), max(1, steps // 10))
    usual = Recipe(config, steps, size, length, rows, rates, cadence)
    return fill_recipe(settings, usual, val_tokens)


def names_in(data: str) -> list[str]:
    """The kinds of conversations that --data asks for: names that are known, and files by their absolute paths.

    data: names, with commas between; that of a file may have some, too. Raises CourseError for a folder.
    """
    parts, names = data.split(","), []
    while parts:
        joined = {count: ",".join(parts[:count]).strip() for count in range(len(parts), 0, -1)}
        count = next((count for count, name in joined.items() if existing_path(name)), 1)
        names.append(known_or_absolute(joined[count], KNOWN))
        if Path(names[-1]).is_absolute() and Path(names[-1]).is_dir():
            raise CourseError(f"{names[-1]} is a folder; give the files in it, with commas between")
        del parts[:count]
    return names


def open_kinds(names: list[str]) -> dict[str, list]:
    """For "train" and "val", the conversations of each kind and their number; see `open_conversations`."""
    return {split: [open_conversations(name, split) for name in names] for split in ("train", "val")}


def fingerprint_of_kind(name: str) -> str:
    """By what conversations are known again: those of the hub by their name, all others by their content."""
    if name in FROM_HUB:
        return name
    if name == "practice":
        return f"practice of {fingerprint_of([data_dir() / 'lessons' / file for file in LESSONS])}"
    return fingerprint_of([Path(name)])


def buffer_for(kinds: list, split: str) -> int:
    """How many conversations wait for a place in a row: the more, the less padding.

    Of little data a tenth, lest long conversations come several times before short ones come once. To validate on, one:
    in their order, so that a few batches are a fair sample.
    """
    sizes = [size for _, size in kinds]
    if split == "val":
        return 1
    return BUFFER if None in sizes else max(1, min(BUFFER, sum(sizes) // 10))


def tokens_once(kinds: list, split: str, tokenizer: Tokenizer, length: int) -> float:
    """Tokens of the data once through in rows of `length`, about; inf where it never comes again."""
    sizes = [size for _, size in kinds]
    if None in sizes:
        return math.inf
    some, rows = min(sum(sizes), 1000), 0  # many more than wait: those that are left are the short ones
    loader = ConversationLoader(mixed(kinds), tokenizer, 1, length, buffer=buffer_for(kinds, split))
    while loader.used < some:
        next(loader)
        rows += 1
    return sum(sizes) / loader.used * rows * length


def check_trained(kinds: dict[str, list], names: list[str], tokenizer: Tokenizer, length: int) -> None:
    """Raise CourseError for conversations of which nothing would be trained: no answer begins within a row.

    names: of the kinds; length: of a row. The first thousand of each kind tell.
    """
    for split, found in kinds.items():
        for name, (conversation, size) in zip(names, found, strict=True):
            for number in range(min(size or 1, 1000)):
                if 1 in render_conversation(tokenizer, conversation(number), length + 1)[1]:
                    break
            else:
                side = "to train on" if split == "train" else "to validate on"
                raise CourseError(
                    f"--data has {name}, of which no conversation {side} has an answer that begins within "
                    f"{length} tokens, a row; give a longer --sequence-len, a model of more, or shorter questions"
                )


def readable(text: str) -> str:
    """A reply with its calls of the calculator as the chat shows them: [6*7 = 42]."""
    marks = {"<|python_end|><|output_start|>": " = ", "<|python_start|>": "[", "<|python_end|>": "]"}
    for mark, shown in (marks | {"<|output_end|>": "] ", "<|assistant_end|>": ""}).items():
        text = text.replace(mark, shown)
    return text


class Talks:
    """A Source of training batches: conversations of one or several kinds, packed into rows."""

    def __init__(self, kinds: dict[str, list], tokenizer: Tokenizer, recipe: Recipe, fingerprint: str):
        self.tokenizer, self.recipe, self.fingerprint = tokenizer, recipe, fingerprint
        self._conversations = {split: mixed(found) for split, found in kinds.items()}
        self._buffers = {split: buffer_for(found, split) for split, found in kinds.items()}
        asked = map(self._conversations["val"], range(3))
        self._asked = [messages[: 1 + (messages[0]["role"] == "system")] for messages in asked]

    def batches(self, split: str, state: dict | None = None) -> ConversationLoader:
        """Batches of a split, from a place or from the beginning."""
        shape = self.recipe.device_batch_size, self.recipe.sequence_len
        return ConversationLoader(self._conversations[split], self.tokenizer, *shape, state, self._buffers[split])

    def place(self, state: dict) -> str:
        """Where in the data a state is."""
        return f"conversation {state['next']}"

    def preview(self, model: GPT) -> list[tuple[str, str]]:
        """Three questions that it is not trained on, and its replies."""
        prompts = [render_for_completion(self.tokenizer, asked) for asked in self._asked]
        prompts = [ids[: model.config.sequence_len] for ids in prompts]  # for a look
        replies = Engine(model, self.tokenizer, use_calculator).generate_batch(prompts, max_tokens=32, temperature=0)
        return [
            (messages[-1]["content"], readable(self.tokenizer.decode(reply.ids)))
            for messages, reply in zip(self._asked, replies, strict=True)
        ]


def folder_of(settings: Settings) -> Path:
    """Where the run is kept."""
    return run_folder(settings.save_as or settings.tag, "sft")


def fine_tune(settings: Settings, given: Set[str]) -> int:
    """Fine-tune as one of the processes of a run: 0, or the exit code of a request to stop.

    given: names of the settings that were asked for; of a resumed run the others are those that it was begun with.
    """
    folder = folder_of(settings)
    with member_of_a_group("chat_sft") as (group, stop), open_run(folder, settings, group) as out:
        settings = out.follow(settings, given)
        names = names_in(settings.data)
        settings = replace(settings, data=",".join(names))
        base, tokenizer, meta = load_model(*WhichModel(settings.tag, step=settings.step).place())
        kinds, length = open_kinds(names), settings.sequence_len or base.config.sequence_len
        data = ", ".join(map(fingerprint_of_kind, names))
        check_same(group, tokenizer=tokenizer.fingerprint, data=data)
        check_trained(kinds, names, tokenizer, min(length, base.config.sequence_len))
        sizes = [tokens_once(kinds[split], split, tokenizer, length) for split in ("train", "val")]
        recipe = make_recipe(settings, base.config, *sizes, group.size(), processes_here(group))
        about = (
            f"model        {settings.tag}, step {meta['step']:,}: {count_parameters(base.config):,} parameters\n"
            f"data         {settings.data}: {recipe.num_iterations * recipe.total_batch_size:,} tokens in "
            f"{recipe.num_iterations:,} steps of {recipe.total_batch_size:,}"
        )
        noted = {name: meta[name] for name in ("step", "bits_per_byte", "settings")}
        new = partial(kind_of(base.config).init_weights, seed=recipe.seed)
        first = new if settings.from_scratch else partial(take_weights, base)
        source = Talks(kinds, tokenizer, recipe, data)
        model = out.begin(settings, recipe, source, about, first, base=noted)
        return 0 if settings.dry_run else train(recipe, trainer_for(recipe, model, group), source, out, stop)


def take_weights(base: GPT, model: GPT) -> None:
    """Give the model the weights of another one of its shape."""
    model.update(base.parameters())


def start_fine_tuning(settings: Settings, given: Set[str]) -> int:
    """Fine-tune in as many processes as it takes; the exit code of the run."""

    def fits(processes: int) -> None:
        if meta := newest_meta(run_folder(settings.tag)):  # else `fine_tune` says what is missing
            make_recipe(
                settings, config_class(meta["config"])(**meta["config"]), math.inf, math.inf, processes, processes
            )

    return start("chat_sft", fine_tune, settings, given, folder_of(settings), fits)

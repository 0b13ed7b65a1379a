"""Fine-tune a model of `base_train` on conversations: `chat_sft --help`.

Source: nanochat.

"""

import math
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from course_lib import backend
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.packing import ConversationLoader
from course_lib.chat.sources import mixed, open_conversations
from course_lib.generate.engine import Engine
from course_lib.host.errors import FlagError
from course_lib.host.program import check_least, run_program
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters
from course_lib.train import local_ring
from course_lib.train.checkpoint import load_model, run_folder
from course_lib.train.plan import fitting_batch_size, validation_batches
from course_lib.train.run import Run, check_same, fewer_until, processes_before, processes_here, start


@dataclass(frozen=True)
class Settings:
    """Fine-tune a model of `base_train` on conversations; go on with it by --resume."""

    tag: str = "d4"
    """Name of the run of `base_train` to begin with."""
    step: int | None = None
    """Which checkpoint of it; by default the newest."""
    data: str = "practice"
    """practice, smoltalk, gsm8k, arc-easy, arc-challenge, mmlu or JSON lines; several by commas."""
    sequence_len: int | None = None
    """Tokens in a row; by default the model's, for practice alone 128."""
    total_batch_size: int | None = None
    """Tokens in a step; by default 4,096 on a CPU, 32,768 on a GPU."""
    device_batch_size: int | None = None
    """Rows at a time in each process; by default what the memory allows, up to 32."""
    num_iterations: int | None = None
    """Steps; by default once through the data, for practice 400."""
    init_lr_frac: float | None = None
    """Share of pretraining's learning rates; by default 0.1, for practice alone 1."""
    warmdown_ratio: float | None = None
    """Share of the steps in which the rates fall; by default all, for practice alone 0.4."""
    matrix_lr: float = 0.02
    """Learning rate of Muon in pretraining."""
    embedding_lr: float = 0.2
    """Learning rate of AdamW for wte in pretraining, at n_embd 768."""
    unembedding_lr: float = 0.004
    """Learning rate of AdamW for lm_head in pretraining, at n_embd 768."""
    grad_clip: float = 1.0
    """Largest norm of the gradients; 0 to leave them."""
    max_rise: float = 1.5
    """Stop when the smoothed loss is so many nats above its lowest."""
    from_scratch: bool = False
    """Begin with new weights of that model's shape: what does pretraining bring?"""
    seed: int = 42
    """Of new weights."""
    recompute: bool = False
    """Compute activations twice, to need less memory."""
    eval_every: int | None = None
    """Steps between two validations; by default a tenth of the run."""
    eval_share: float = 0.05
    """How much of the training's work validation may cost."""
    sample_every: int | None = None
    """Steps between two looks at what it answers; by default half of the run."""
    save_every: int | None = None
    """Steps between two checkpoints; by default a tenth of the run."""
    keep: int = 2
    """How many checkpoints to keep."""
    save_as: str | None = None
    """Name of this run; by default that of --tag."""
    resume: bool = False
    """Go on from the run's newest checkpoint, with its settings."""
    overwrite: bool = False
    """Throw the run of this name away and begin again."""
    dry_run: bool = False
    """Say what the run comes to, measure a few steps, and end."""
    processes: int | None = None
    """Processes on this machine; by default one, on Linux's CPU up to four, one for each core."""


def check_flags(settings: Settings) -> None:
    """Raise FlagError for flags that make no sense, whatever the model and the machine."""
    ones = "sequence_len total_batch_size device_batch_size num_iterations eval_every sample_every"
    ones += " save_every keep processes"
    zeros = "step init_lr_frac warmdown_ratio matrix_lr embedding_lr unembedding_lr grad_clip"
    zeros += " eval_share seed"
    check_least(settings, **dict.fromkeys(ones.split(), 1), **dict.fromkeys(zeros.split(), 0))
    if settings.resume and settings.overwrite:
        raise FlagError("--resume goes on with a run and --overwrite throws it away; give one of them")
    if settings.warmdown_ratio is not None and settings.warmdown_ratio > 1:
        raise FlagError(f"--warmdown-ratio is {settings.warmdown_ratio}, expected at most 1")
    if not settings.max_rise > 0 or settings.seed >= 2**32:
        raise FlagError("--max-rise must be more than 0, and --seed below 4294967296")


def resolve(settings: Settings, config: GPTConfig, tokens: float, processes: int = 1, here: int = 1) -> Settings:
    """The settings with a number for every None. tokens: of the data once through, inf: endless.

    Raises FlagError for numbers that do not fit together, CourseError for too little memory.
    """
    longest = config.sequence_len
    length = settings.sequence_len or min(128 if settings.data == "practice" else longest, longest)
    if length > longest:
        raise FlagError(f"--sequence-len is {length}, expected at most {longest}, the model's")
    usual = 4096 if backend.device_kind() == "cpu" else 32_768
    size = settings.total_batch_size or max(1, usual // length) * length
    settings = replace(settings, sequence_len=length, total_batch_size=size)
    shorter = replace(config, sequence_len=length)
    rows = fitting_batch_size(settings, shorter, processes, here)
    once = 400 if math.isinf(tokens) else max(1, round(tokens / size))
    steps = settings.num_iterations or once
    often = max(1, steps // 10)
    share, fall = (1.0, 0.4) if settings.data == "practice" else (0.1, 1.0)
    return replace(
        settings,
        device_batch_size=rows,
        num_iterations=steps,
        init_lr_frac=share if settings.init_lr_frac is None else settings.init_lr_frac,
        warmdown_ratio=fall if settings.warmdown_ratio is None else settings.warmdown_ratio,
        eval_every=settings.eval_every or often,
        save_every=settings.save_every or often,
        sample_every=settings.sample_every or max(1, steps // 2),
    )


class FineTuning(Run):
    """A run on conversations, from the weights of a run of `base_train`."""

    def prepare(self, settings: Settings) -> None:
        """Open the model and the conversations, and work out what the run comes to."""
        base, tokenizer, meta = load_model(run_folder(settings.tag), settings.step)
        self.base, self.tokenizer, self.config = base, tokenizer, base.config
        self.notes = {"base": {"step": meta["step"], "bits_per_byte": meta["bits_per_byte"]}}
        self.notes["base"]["settings"] = meta["settings"]
        self.sources = {
            split: [open_conversations(name.strip(), split) for name in settings.data.split(",")]
            for split in ("train", "val")
        }
        check_same(self.group, tokenizer=tokenizer.fingerprint, data=settings.data)
        tokens, here = self.tokens_of("train"), processes_here(self.group)
        self.settings = resolve(settings, self.config, tokens, self.group.size(), here)
        self.val_batches = validation_batches(self.settings, self.tokens_of("val"))
        asked = [mixed(self.sources["val"])(number) for number in range(3)]
        self.prompts = [messages[: 1 + (messages[0]["role"] == "system")] for messages in asked]
        trained = self.settings.num_iterations * self.settings.total_batch_size
        self.about = (
            f"model        {settings.tag}, step {meta['step']:,}: "
            f"{count_parameters(self.config):,} parameters\n"
            f"conversations {settings.data}: {trained:,} tokens in "
            f"{self.settings.num_iterations:,} steps of {self.settings.total_batch_size:,}"
        )

    def tokens_of(self, split: str) -> float:
        """Tokens of the data once through, about; inf where it never comes again."""
        sizes = [size for _, size in self.sources[split]]
        if None in sizes:
            return math.inf
        some, conversations = min(sum(sizes), 200), mixed(self.sources[split])
        loader = ConversationLoader(conversations, self.tokenizer, 1, self.config.sequence_len)
        rows = 0
        while loader.state["next"] < some:
            next(loader)
            rows += 1
        return sum(sizes) / loader.state["next"] * rows * self.config.sequence_len

    def open_loader(self, split: str, state: dict | None = None) -> ConversationLoader:
        """Batches of a split, from a place or from the beginning."""
        rows, length = self.settings.device_batch_size, self.settings.sequence_len
        return ConversationLoader(mixed(self.sources[split]), self.tokenizer, rows, length, state)

    def first_weights(self) -> None:
        """Those of the run of base_train, or new ones."""
        if self.settings.from_scratch:
            super().first_weights()
        else:
            self.model.update(self.base.parameters())

    def rates(self) -> dict[str, float]:
        """A share of pretraining's learning rates, which falls in the end, or all the time."""
        share, names = self.settings.init_lr_frac, ("matrix_lr", "embedding_lr", "unembedding_lr")
        rates = {name: share * getattr(self.settings, name) for name in names}
        names = ("grad_clip", "warmdown_ratio")
        return rates | {name: getattr(self.settings, name) for name in names}

    def sample(self, step: int) -> None:
        """What it answers to three questions that it is not trained on."""
        if self.is_first:
            engine, samples = Engine(self.model, self.tokenizer), []
            prompts = [render_for_completion(self.tokenizer, asked) for asked in self.prompts]
            prompts = [ids[: self.config.sequence_len] for ids in prompts]  # for a look
            replies = engine.generate_batch(prompts, max_tokens=32, temperature=0)
            for messages, reply in zip(self.prompts, replies, strict=True):
                asked, said = messages[-1]["content"], self.tokenizer.decode(reply.ids)
                samples.append([asked, said])
                self.status.say(f"  {asked!r} … {said!r}")
            self.log.add(step, samples=samples)

    def in_words(self, place: dict) -> str:
        """Where in the data a loader's state is."""
        return f"conversation {place['next']}"


def choose_processes(settings: Settings, folder: Path) -> int:
    """How many processes to start: what --processes, the rows of a step and the memory allow."""
    if before := processes_before(settings, folder):
        return settings.processes or before
    config = load_model(run_folder(settings.tag), settings.step)[0].config
    return fewer_until(lambda n: resolve(settings, config, math.inf, n, n), settings)


def work(settings: Settings, argv: list[str]) -> None:
    """Train in as many processes as it takes; argv: the flags once more, for those."""
    check_flags(settings)
    folder = run_folder(settings.save_as or settings.tag, "sft")
    processes = 1 if local_ring.in_a_ring() else choose_processes(settings, folder)
    start("chat_sft", FineTuning, settings, folder, argv, processes)


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    argv = sys.argv[1:] if argv is None else argv
    run_program("chat_sft", Settings, partial(work, argv=argv), argv)


if __name__ == "__main__":
    main()

"""Train the 500-step names model and print new names: `microgpt --help`."""

import random
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.host.program import AtLeastOne, AtLeastZero, NonNegative, run_program
from course_lib.host.words import printable
from course_lib.names import microgpt
from course_lib.names.bigram import CharTokenizer
from course_lib.names.files import load_names, remarks


@dataclass(frozen=True)
class Settings:
    """Train a GPT of 4,064 parameters on names, then write new ones."""

    steps: AtLeastOne = 500
    """Training steps, one name each."""
    samples: AtLeastZero = 20
    """Names to write at the end."""
    temperature: NonNegative = 0.5
    """0 always takes the likeliest letter; larger is wilder."""
    seed: AtLeastZero = 42
    """Start of all random numbers: starting values, order of names, samples."""
    names: Path | None = None
    """File of names, one a line, in any script; by default the one that comes with the course."""
    lower: bool = False
    """Read the names in lower case, so that A and a are one letter."""
    quiet: bool = False
    """Print every 50th step only."""
    verbose: bool = False
    """Print every step on a terminal, where the default is every tenth."""


def work(settings: Settings) -> None:
    """Load, train, sample; prints as it goes, and on a terminal what was seen."""
    watched = sys.stdout.isatty()
    every = 50 if settings.quiet else 10 if watched and not settings.verbose else 1
    docs = load_names(settings.names, settings.lower)
    random.Random(settings.seed).shuffle(docs)
    tokenizer = CharTokenizer(docs)
    key = backend.seed_everything(settings.seed)
    model = microgpt.MicroGPT(microgpt.MicroGPTConfig(vocab_size=tokenizer.vocab_size))
    if settings.names:
        for remark in remarks(docs, model.config.block_size):
            print(remark, file=sys.stderr)
    print(f"num docs: {len(docs)}")
    print(f"vocab size: {tokenizer.vocab_size}")
    print(f"num params: {sum(array.size for _, array in tree_flatten(model.parameters()))}")

    def report(step: int, loss: float) -> None:
        if step % every == 0:
            print(f"step {step:4d} / {settings.steps:4d} | loss {loss:.4f}", flush=True)

    losses = microgpt.train(model, docs, tokenizer, settings.steps, on_step=report)
    names = []
    for n in range(1, settings.samples + 1):
        key, sample_key = mx.random.split(key)
        names.append(microgpt.generate(model, tokenizer, settings.temperature, sample_key))
        print(f"sample {n:2d}: {printable(names[-1])}", flush=True)
    if watched:
        print(f"\n{what_was_seen(losses, names, docs)}")


def what_was_seen(losses: list[float], names: list[str], docs: list[str]) -> str:
    """The last lines for a reader: how far the loss fell, how many of the names are new, what to do next."""
    few = min(50, max(1, len(losses) // 2))
    first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
    different = set(names) - {""}
    invented = len(different - set(docs))
    return (
        f"The loss went from {first:.2f} to {last:.2f} (means of the first and the last {few} steps).\n"
        f"Of the {len(different)} different names above it invented {invented}: they are not in its list.\n"
        "Next: `uv run course start`, then `uv run jupyter lab mine`: chapter 03 builds it;\n"
        "      `uv run speedrun` trains one that answers you."
    )


main = partial(run_program, "microgpt", Settings, work)

if __name__ == "__main__":
    main()

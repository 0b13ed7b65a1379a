"""Train the 500-step names model and print new names: `microgpt --help`."""

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.host.program import AtLeastOne, AtLeastZero, NonNegative, run_program
from course_lib.names import microgpt
from course_lib.names.bigram import CharTokenizer, load_names


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
    """File of names, one a line, letters a-z; by default the one that comes with the course."""
    quiet: bool = False
    """Print every 50th step only."""


def work(settings: Settings) -> None:
    """Load, train, sample; prints as it goes."""
    docs = load_names(settings.names)
    random.Random(settings.seed).shuffle(docs)
    tokenizer = CharTokenizer(docs)
    key = backend.seed_everything(settings.seed)
    model = microgpt.MicroGPT(microgpt.MicroGPTConfig(vocab_size=tokenizer.vocab_size))
    print(f"num docs: {len(docs)}")
    print(f"vocab size: {tokenizer.vocab_size}")
    print(f"num params: {sum(array.size for _, array in tree_flatten(model.parameters()))}")

    def report(step: int, loss: float) -> None:
        if not settings.quiet or step % 50 == 0:
            print(f"step {step:4d} / {settings.steps:4d} | loss {loss:.4f}", flush=True)

    microgpt.train(model, docs, tokenizer, settings.steps, on_step=report)
    for n in range(1, settings.samples + 1):
        key, sample_key = mx.random.split(key)
        name = microgpt.generate(model, tokenizer, settings.temperature, sample_key)
        print(f"sample {n:2d}: {name}", flush=True)


main = partial(run_program, "microgpt", Settings, work)

if __name__ == "__main__":
    main()

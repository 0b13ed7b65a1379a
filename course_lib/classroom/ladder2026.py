"""The ladder of chapter 21: one idea of nanochat (July 2026) more in each run, the text and its order the same.

Written by hand; chapter 21 uses it.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from statistics import fmean

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from course_lib.classroom.cells import budget
from course_lib.data.best_fit import best_fit_batches
from course_lib.data.best_fit_loader import BestFitLoader
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.model.config2026 import GPT2026Config, init_weights_2026
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.model.gpt2026 import GPT2026
from course_lib.train.groups2026 import Rates2026
from course_lib.train.muon import newton_schulz
from course_lib.train.muon2026 import NorMuon
from course_lib.train.recipe import Rates
from course_lib.train.schedule2026 import rate_scale
from course_lib.train.starter import load_starter
from course_lib.train.trainer import Trainer
from course_lib.train.validation import validate

SIZES = {"sequence_len": 256, "vocab_size": 2048, "n_layer": 4, "n_head": 2, "n_kv_head": 2, "n_embd": 128}
ROWS = 8  # 2,048 tokens a step
IDEAS = (  # in the order in which the ladder adds them; the model of 2025 comes before the first
    "starting values",
    "shares of stream and embedding",
    "value tables",
    "smear",
    "backout",
    "longer queries and keys",
    "slower rotary positions",
    "windows",
    "Polar Express",
    "equal rows, full size",
    "NorMuon's variance",
    "cautious decay",
    "rates and schedules",
)
FIRST = "October 2025"


def make(ideas: frozenset[str], seed: int) -> GPT:
    """A model with some of the ideas; those that are parameters are at nothing and frozen where they are left out."""
    if not ideas:
        model = GPT(GPTConfig(**SIZES))
        init_weights(model, seed)
        return model
    rope_base = 100_000.0 if "slower rotary positions" in ideas else 10_000.0
    model = GPT2026(GPT2026Config(**SIZES, rope_base=rope_base, window_pattern="SSSL" if "windows" in ideas else "L"))
    init_weights_2026(model, seed)
    off: list[tuple[nn.Module, dict[str, mx.array]]] = []
    if "shares of stream and embedding" not in ideas:
        off.append((model, {"resid_lambdas": mx.ones(4), "x0_lambdas": mx.zeros(4)}))
    if "smear" not in ideas:
        off += [(model, {"smear_lambda": mx.zeros(1)}), (model.smear_gate, {"weight": model.smear_gate.weight})]
    if "backout" not in ideas:
        off.append((model, {"backout_lambda": mx.zeros(1)}))
    if "value tables" not in ideas:
        for n in model.config.value_layers:
            table, gate = model.value_embeds[n], model.transformer.h[n].attn.ve_gate
            off += [(table, {"weight": mx.zeros_like(table.weight)}), (gate, {"weight": gate.weight})]
    for module, arrays in off:
        module.update(arrays)
        module.freeze(recurse=False, keys=list(arrays))
    if "longer queries and keys" not in ideas:
        for block in model.transformer.h:
            block.attn.scale /= block.attn.gain**2
    return model


def optimizer_of(ideas: frozenset[str]) -> type[NorMuon]:
    """NorMuon without the ideas that are left out."""
    same = staticmethod(lambda x: x)
    out = {}
    if "Polar Express" not in ideas:
        out["polar"] = staticmethod(newton_schulz)
    if "equal rows, full size" not in ideas:
        out |= {"equilibrate": same, "resize": same}
    if "NorMuon's variance" not in ideas:
        out["even_out"] = lambda self, x, state: x
    return type("NorMuon", (NorMuon,), out)


@dataclass(frozen=True)
class Half(Rates2026):
    """The parameters that are new trained as in 2026, all others at the rates and schedules of 2025."""

    embedding_lr: float = Rates.embedding_lr
    unembedding_lr: float = Rates.unembedding_lr
    grad_clip: float = Rates.grad_clip
    warmdown_ratio: float = Rates.warmdown_ratio
    final_lr_frac: float = Rates.final_lr_frac
    weight_decay: float = 0.0

    def optimizer(self, model: nn.Module) -> optim.MultiOptimizer:
        """Those of 2026; head and wte without decay and with the averages of 2025."""
        made = super().optimizer(model)
        for part in made.optimizers[1:3]:
            part.betas, part.weight_decay = [0.8, 0.95], 0.0
        return made

    multiplier = Rates.multiplier

    def of_muon(self, it: int, num_iterations: int) -> dict[str, float]:
        """The momentum of 2025."""
        return Rates.of_muon(self, it, num_iterations) | {"weight_decay": self.weight_decay}


def rates_of(ideas: frozenset[str]) -> Rates:
    """Rates and schedules of a run."""
    if not ideas:
        return Rates(warmdown_ratio=WARMDOWN)
    decay = DECAY if "cautious decay" in ideas else 0.0
    kind = Rates2026 if "rates and schedules" in ideas else Half
    made = type(kind.__name__, (kind,), {"muon": optimizer_of(ideas)})
    return made(weight_decay=decay) if kind is Rates2026 else made(weight_decay=decay, warmdown_ratio=WARMDOWN)


WARMDOWN = 0.5  # of 2025's rates: for runs as short as these (chapter 10) more than its 0.2
DECAY = 0.28  # of the matrices, as in nanochat at a depth of 12
STEPS, SEEDS = 300, (0, 1, 2, 3, 4, 5)


@cache
def unseen(batches: int) -> list[tuple[mx.array, mx.array]]:
    """The first batches of validation text."""
    _, tokenizer = load_starter("base")
    with TokenLoader(open_dataset(), tokenizer, "val", ROWS, SIZES["sequence_len"]) as loader:
        return list(islice(loader, batches))


def bits_per_byte(model: GPT) -> float:
    """Of the unseen text."""
    return round(validate(model, unseen(budget(48, quick=1)), load_starter("base")[1].token_bytes), 5)


def batches(loader: type[TokenLoader], steps: int, every: int = 1) -> list[tuple[mx.array, mx.array]]:
    """So many batches of training text; every: only each n-th of them, n times."""
    with loader(open_dataset(), load_starter("base")[1], "train", ROWS, SIZES["sequence_len"]) as found:
        return list(islice(cycle(list(islice(found, steps))[::every]), steps))


def run(
    ideas: Iterable[str], seed: int, read: list[tuple[mx.array, mx.array]], rates: Rates | None = None
) -> tuple[GPT, float]:
    """Train a model with these ideas on these batches; also, processor seconds of the training steps."""
    ideas = frozenset(ideas)
    model = make(ideas, seed)
    trainer = Trainer(model, len(read), rates or rates_of(ideas))
    started = time.process_time()
    for batch in read:
        trainer.step([batch])
    return model, time.process_time() - started


def climb(seeds: Iterable[int] = SEEDS) -> Iterator[dict]:
    """Every rung, seed after seed."""
    read = batches(TokenLoader, steps := budget(STEPS, quick=2))
    for seed in list(seeds)[: budget(len(SEEDS), quick=1)]:
        for count, idea in enumerate((FIRST, *IDEAS)):
            model, seconds = run(IDEAS[:count], seed, read)
            yield {
                "idea": idea,
                "seed": seed,
                "steps": steps,
                "bits": bits_per_byte(model),
                "seconds": round(seconds, 1),
            }


def scale_rates(seeds: Iterable[int] = SEEDS) -> Iterator[dict]:
    """The last rung with all rates scaled by nanochat's rule, and with half the rates of AdamW."""
    read = batches(TokenLoader, steps := budget(STEPS, quick=2))
    by_rule = Rates2026().scaled(rate_scale(ROWS * SIZES["sequence_len"]))
    for name, rates in {"rule": by_rule, "half": Rates2026().for_small_steps()}.items():
        for seed in list(seeds)[: budget(3, quick=1)]:
            model, _ = run(IDEAS, seed, read, rates)
            yield {"rates": name, "seed": seed, "steps": steps, "bits": bits_per_byte(model)}


def race(seeds: Iterable[int] = SEEDS) -> Iterator[dict]:
    """Both models for the same processor time: that of 2025 gets as many steps more as its steps are cheaper."""
    both = {"2025": (), "2026": IDEAS}
    few = batches(TokenLoader, budget(30, quick=1))
    cost = {name: run(ideas, 0, few)[1] for name, ideas in both.items()}
    for seed in list(seeds)[: budget(3, quick=1)]:
        for name, ideas in both.items():
            steps = round(budget(STEPS, quick=2) * (cost["2026"] / cost[name]))
            model, seconds = run(ideas, seed, batches(TokenLoader, steps))
            yield {
                "model": name,
                "seed": seed,
                "steps": steps,
                "bits": bits_per_byte(model),
                "seconds": round(seconds, 1),
            }


def different_runs(read: list[tuple[mx.array, mx.array]], length: int = 8) -> int:
    """How many different runs of so many ids the rows of some batches hold."""
    rows = np.concatenate([np.array(inputs) for inputs, _ in read])
    return len(np.unique(np.lib.stride_tricks.sliding_window_view(rows, length, 1).reshape(-1, length), axis=0))


KINDS = {"stream": (TokenLoader, 1), "best-fit": (BestFitLoader, 1), "a sixth": (TokenLoader, 6)}


def compare_rows(seeds: Iterable[int] = SEEDS) -> Iterator[dict]:
    """The model of 2026 on as many tokens from the three KINDS of rows, each model on unseen text in two of them.

    "a sixth" is the control: only each sixth batch of the stream, six times, which is about as much different text as
    the packed rows have.
    """
    tokenizer, steps = load_starter("base")[1], budget(STEPS, quick=2)
    texts = tokenizer.encode_arrays(list(open_dataset().documents("val")), bos=True)
    packed = best_fit_batches([texts], ROWS, SIZES["sequence_len"])
    packed = [(mx.array(inputs), mx.array(targets)) for inputs, targets in islice(packed, budget(48, quick=1))]
    for name, (loader, every) in KINDS.items():
        read = batches(loader, steps, every)
        different = different_runs(read)
        for seed in list(seeds)[: budget(3, quick=1)]:
            model, _ = run(IDEAS, seed, read)
            on_packed = round(validate(model, packed, tokenizer.token_bytes), 5)
            yield {
                "rows": name,
                "seed": seed,
                "steps": steps,
                "different": different,
                "on stream": bits_per_byte(model),
                "on best-fit": on_packed,
            }


def gains(rows: list[dict]) -> dict[str, tuple[float, float, float]]:
    """For each rung: mean bits per byte, what it saves against the one before, and the standard error of that.

    Paired by seed. Of the first rung nothing is saved; with one seed the error is 0.
    """
    bits = {idea: [row["bits"] for row in rows if row["idea"] == idea] for idea in (FIRST, *IDEAS)}
    found, before = {}, bits[FIRST]
    for idea, own in bits.items():
        saved = np.array(before) - np.array(own)
        error = saved.std(ddof=1) / math.sqrt(len(saved)) if len(saved) > 1 else 0.0
        found[idea], before = (fmean(own), float(saved.mean()), float(error)), own
    return found

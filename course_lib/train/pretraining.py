"""Pretraining on the documents of a dataset: from flags to a recipe, and from there into the training loop.

Source: nanochat, whose defaults these are where nothing else is said.

Written by hand; chapter 10 uses it.
"""

import math
from collections.abc import Set
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from course_lib import backend
from course_lib.data.best_fit_loader import BestFitLoader
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import Dataset, dataset_in, open_dataset
from course_lib.data.identity import shards_of_before
from course_lib.data.remote import REMOTES
from course_lib.data.sizes import corpus_tokens
from course_lib.data.tokenizer import Tokenizer, default_folder, fitting_vocab_size
from course_lib.data.tokenizer_training import train_tokenizer
from course_lib.host.errors import FlagError
from course_lib.host.files import only_one
from course_lib.host.paths import known_or_absolute
from course_lib.host.program import AtLeastOne, Bounds, MoreThanZero
from course_lib.host.words import plural
from course_lib.model.config2026 import GPT2026Config
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.kinds import KINDS, Year, kind_of
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token, scaling_parameters
from course_lib.train.checkpoint import run_folder
from course_lib.train.fast_trainer import trainer_for
from course_lib.train.flags import (
    BatchFlags,
    CallFlags,
    Horizon,
    RateFlags,
    check_flags,
    fill_recipe,
    fitting_batch_size,
    rates_of,
)
from course_lib.train.groups2026 import Rates2026
from course_lib.train.launch import check_same, member_of_a_group, processes_here, start
from course_lib.train.loop import train
from course_lib.train.recipe import Cadence, Recipe
from course_lib.train.run_folder import machine_flops, open_run
from course_lib.train.schedule2026 import batch_size_2026, decay_2026, rate_scale
from course_lib.train.validation import continue_text

DATASETS = ("bundled", *REMOTES)
TOKENS_PER_PARAM: dict[type[GPTConfig], int] = {
    GPTConfig: 20,
    GPT2026Config: 12,
}  # in nanochat; of 2026, those of blocks and head count
EPOCHS = 4  # more passes over the same text teach little (Muennighoff et al., 2023)
SMALL = 50_000_000  # tokens of a corpus
LEAST_VALIDATION = 16_384  # tokens of an evaluation that show a loss that falls as falling: dev/LOG.md
MFU = 0.2  # a first guess for --minutes, until the clock knows better


@dataclass(frozen=True)
class ModelFlags:
    """The model, and the rows that it reads: what no resumed run may change."""

    model: Year = "2025"
    """Which nanochat's model: of October 2025, or of July 2026."""
    depth: Annotated[int, Bounds(1, 1000)] = 4
    """Layers of the model; everything else about it follows."""
    aspect_ratio: AtLeastOne = 64
    """Width of the model for each layer; 32 makes it narrow."""
    head_dim: AtLeastOne = 128
    """Target head size; the nearest one that divides the width is used."""
    n_kv_head: AtLeastOne | None = None
    """Heads of keys and values; by default as many as query heads."""
    window_pattern: str | None = None
    """For --model 2026, by block S (a short window) or L (all that came before); by default SSSL."""
    rows: Literal["stream", "best-fit"] | None = None
    """Rows to train on: cut from the stream, or each begins with a document; best-fit for --model 2026 on much text."""


@dataclass(frozen=True)
class PretrainingCall(CallFlags):
    """Where text and tokenizer come from in this call; a resumed run knows both by their content."""

    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`, or with --streaming), or your own text."""
    streaming: bool = False
    """Fetch the shards of a remote corpus while training, and keep few."""
    max_cached_shards: AtLeastOne = 8
    """How many shards --streaming keeps on disk."""
    tokenizer: Path | None = None
    """Folder of the tokenizer; by default the one of `tok_train`, or one that is trained first."""


@dataclass(frozen=True)
class PretrainingHorizon(Horizon):
    """How long pretraining is."""

    target_flops: MoreThanZero | None = None
    """Or: as many steps as this many floating-point operations pay for."""
    tokens_per_param: MoreThanZero | None = None
    """Or: tokens for each parameter; by default 20, for a model of 2026 12 (embeddings not counted); a small corpus at
    most four times."""


@dataclass(frozen=True)
class Settings(PretrainingCall, RateFlags, PretrainingHorizon, BatchFlags, ModelFlags):
    """Pretrain a GPT, by default one that fits the bundled corpus; go on with it by --resume."""


def make_recipe(
    settings: Settings,
    vocab_size: int,
    corpus_tokens: float,
    val_tokens: float = math.inf,
    processes: int = 1,
    here: int = 1,
    peak: float = 1e11,
) -> Recipe:
    """The run that the settings ask for, with a number for everything that they leave open.

    corpus_tokens, val_tokens: of the training and the validation text, about. processes: that share a step; here: how
    many of them share this machine's memory; peak: operations per second of its matrix products, from which
    the first guess for --minutes follows. Raises FlagError for numbers that do not fit together, and CourseError for
    what does not fit the memory.
    """
    check_flags(settings)
    small = corpus_tokens < SMALL or backend.device_kind() == "cpu"
    sequence_len = settings.sequence_len or (256 if small else 2048)
    config = make_config(settings, vocab_size, sequence_len)
    tokens = _tokens(settings, config, corpus_tokens, peak)
    twelve = make_config(replace(settings, depth=12), vocab_size, sequence_len)
    total_batch_size = settings.total_batch_size or (4096 if small else _batch_size(config, tokens, twelve))
    steps = settings.num_iterations or max(1, int(tokens / total_batch_size))
    is_2026 = isinstance(config, GPT2026Config)
    rates = rates_of(settings, config, **(asdict(Rates2026().for_small_steps()) if is_2026 and small else {}))
    if isinstance(rates, Rates2026) and not small:
        rates = rates.scaled(rate_scale(total_batch_size))
        if settings.weight_decay is None:
            decay = decay_2026(total_batch_size, steps * total_batch_size, _usual_tokens(twelve))
            rates = replace(rates, weight_decay=decay)
    rows = fitting_batch_size(settings, config, sequence_len, total_batch_size, processes, here)
    often = min(250, max(1, steps // 10))

    def steps_for(tokens: float) -> int:  # of training, for which validation on so many tokens is not too dear
        return math.ceil(tokens / (3 * max(settings.eval_share, 0.001) * total_batch_size))

    enough = min(steps_for(min(LEAST_VALIDATION, val_tokens)), math.ceil(steps / 3))
    eval_every = max(often, steps_for(rows * sequence_len), enough)
    cadence = Cadence(eval_every, 1, min(2000, max(1, steps // 5)), often)
    usual = Recipe(config, steps, total_batch_size, sequence_len, rows, rates, cadence)
    return fill_recipe(settings, usual, val_tokens)


def make_config(settings: Settings, vocab_size: int, sequence_len: int) -> GPTConfig:
    """The model that the settings ask for. Raises FlagError for --window-pattern without windows."""
    kind, windows = KINDS[settings.model].config, settings.window_pattern
    sizes = settings.depth, vocab_size, sequence_len, settings.n_kv_head, settings.aspect_ratio, settings.head_dim
    if windows is None:
        return kind.from_depth(*sizes)
    if settings.model != "2026":
        raise FlagError("--window-pattern is for --model 2026; add that, or leave it out")
    return GPT2026Config.from_depth(*sizes, windows)


def _tokens(settings: Settings, config: GPTConfig, corpus_tokens: float, peak: float) -> float:
    """Tokens of the run, about."""
    if settings.minutes is not None:
        return 60 * settings.minutes * MFU * peak / flops_per_token(config)
    if settings.target_flops is not None:
        return settings.target_flops / flops_per_token(config)
    if settings.tokens_per_param is not None:
        return settings.tokens_per_param * _usual_tokens(config) / TOKENS_PER_PARAM[type(config)]
    return min(_usual_tokens(config), EPOCHS * corpus_tokens)


def _usual_tokens(config: GPTConfig) -> float:
    """Tokens with which nanochat trains such a model by default."""
    counted = scaling_parameters(config) if isinstance(config, GPT2026Config) else count_parameters(config)
    return TOKENS_PER_PARAM[type(config)] * counted


def _batch_size(config: GPTConfig, tokens: float, twelve: GPTConfig) -> int:
    """Tokens of a step in nanochat; twelve: the model of that kind with a depth of 12."""
    return batch_size_2026(tokens, _usual_tokens(twelve)) if isinstance(config, GPT2026Config) else 524_288


def rows_of(settings: Settings, corpus_tokens: float) -> Literal["stream", "best-fit"]:
    """The rows that the settings ask for; best-fit throws text away, so by default only what has much is packed so."""
    packs = settings.model == "2026" and corpus_tokens >= SMALL
    return settings.rows or ("best-fit" if packs else "stream")


ROWS = {
    "stream": "cut from one stream of documents",
    "best-fit": "each begins with a document, what fits nowhere is thrown away; validation reads the stream",
}


def describe(recipe: Recipe, corpus_tokens: float, here: int = 1, rows: str = "stream") -> str:
    """Summary of a run: size, tokens, rows, FLOPs, memory, validation."""
    config, cadence = recipe.model, recipe.cadence
    parameters, flops = count_parameters(config), flops_per_token(config)
    tokens = recipe.num_iterations * recipe.total_batch_size
    memory = estimate_memory(config, recipe.device_batch_size, recipe.sequence_len, recipe.recompute)["total"]
    evaluated = cadence.eval_batches * recipe.device_batch_size * recipe.sequence_len
    share = evaluated / 3 / (cadence.eval_every * recipe.total_batch_size)
    times = tokens / corpus_tokens
    epochs = "" if times == 0 else f", {f'{times:.1f}' if times > 0.05 else 'under 0.1'} times the corpus"
    many = "" if here == 1 else f" in each of {here} processes"
    return "\n".join(
        [
            f"model        d{config.n_layer}: {plural(config.n_layer, 'layer')}, n_embd {config.n_embd}, "
            f"{plural(config.n_head, 'head')}, vocabulary {config.vocab_size:,}",
            f"parameters   {parameters:,}",
            f"tokens       {tokens:,} in {recipe.num_iterations:,} steps of "
            f"{recipe.total_batch_size:,} ({tokens / parameters:.1f} a parameter{epochs})",
            f"rows         {ROWS[rows]}",
            f"operations   {flops / 1e6:,.0f} million FLOPs a token, {flops * tokens:.3g} in all",
            f"memory       {memory / 1e9:.2f} GB needed{many}, {backend.memory_for_arrays() / 1e9:.1f} GB here",
            f"validation   {evaluated:,} tokens every {cadence.eval_every:,} steps, {share:.1%} of the work",
        ]
    )


class Documents:
    """A Source of training batches: the documents of a dataset, in rows "stream" or "best-fit".

    Validation always reads the stream: all of its text, and the same whatever a run was trained on.
    """

    def __init__(self, dataset: Dataset, tokenizer: Tokenizer, recipe: Recipe, rows: str = "stream"):
        self.dataset, self.tokenizer, self.recipe, self.rows = dataset, tokenizer, recipe, rows
        self.fingerprint = dataset.fingerprint
        self._prompts = [" ".join(text.split()[:6]) for text in islice(dataset.documents("val"), 3)]

    def batches(self, split: str, state: dict | None = None) -> TokenLoader:
        """Batches of a split, from a place or from the beginning."""
        loader = BestFitLoader if split == "train" and self.rows == "best-fit" else TokenLoader
        return loader(
            self.dataset,
            self.tokenizer,
            split,
            batch_size=self.recipe.device_batch_size,
            sequence_len=self.recipe.sequence_len,
            state=state,
            num_threads=1 if backend.device_kind() == "cpu" else None,
        )

    def place(self, state: dict) -> str:
        """Where in the text a state is."""
        begins = "token {token} of" if "token" in state else "a document that came before"
        return f"{begins} row {{row}} of {{shard}}, epoch {{epoch}}".format(**state)

    def preview(self, model: GPT) -> list[tuple[str, str]]:
        """The first words of three validation documents, and how the model continues them."""
        numbered = enumerate(self._prompts)
        return [(prompt, continue_text(model, self.tokenizer, prompt, seed=seed)) for seed, prompt in numbered]


def open_data(
    settings: Settings, folder: Path, given: Set[str] = frozenset(), begun: str | None = None
) -> tuple[Dataset, Tokenizer]:
    """Dataset and tokenizer of a run; where there is no tokenizer, one is trained that fits.

    A resumed run has its own tokenizer, if none is given, and its own text where that is gone; begun: what it was.
    """
    there = shards_of_before(begun) if begun else None
    before = dataset_in(there, begun) if there else None  # even if it is not taken, it stays for now
    gone = "dataset" not in given and Path(settings.dataset).is_absolute() and not Path(settings.dataset).exists()
    if before and (gone or settings.changed_data == "before"):
        dataset = before
    else:
        dataset = open_dataset(settings.dataset, settings.streaming, settings.max_cached_shards)
    if settings.resume and "tokenizer" not in given and (folder / "tokenizer").exists():
        return dataset, Tokenizer.load(folder / "tokenizer")
    path = tokenizer_folder(settings, dataset)
    if settings.tokenizer is None and not (path / "tokenizer.json").exists():
        with only_one(path):
            if not (path / "tokenizer.json").exists():
                print("there is no tokenizer for this text yet: training one", flush=True)
                train_tokenizer(dataset, path)
    return dataset, Tokenizer.load(path)


def tokenizer_folder(settings: Settings, dataset: Dataset) -> Path:
    """The flag's; else the default one, or one beside it for text that fits many more tokens.

    Eight times as many: so one of the bundled corpus is not taken for a corpus of the hub.
    """
    default = default_folder()
    if settings.tokenizer is not None or not (default / "tokenizer.json").exists():
        return settings.tokenizer or default
    fitting = 65_536 if dataset.streamed else fitting_vocab_size(dataset.num_bytes("train"))
    if 8 * Tokenizer.load(default).vocab_size > fitting:
        return default
    return default.with_name(f"tokenizer-{dataset.name.replace('/', '-')}")


def folder_of(settings: Settings) -> Path:
    """Where the run is kept."""
    return run_folder(f"d{settings.depth}" if settings.tag is None else settings.tag)


def pretrain(settings: Settings, given: Set[str]) -> int:
    """Pretrain as one of the processes of a run: 0, or the exit code of a request to stop.

    given: names of the settings that were asked for; of a resumed run the others are those that it was begun with.
    """
    folder = folder_of(settings)
    with member_of_a_group("base_train") as (group, stop), open_run(folder, settings, group) as out:
        settings = out.follow(settings, given)
        settings = replace(settings, dataset=known_or_absolute(settings.dataset, DATASETS))
        dataset, tokenizer = open_data(settings, folder, given, out.data_begun)
        text = f"{dataset.fingerprint} in {plural(len(dataset.shards('train')), 'shard')}"
        check_same(group, tokenizer=tokenizer.fingerprint, text=text)
        sizes, here = corpus_tokens(dataset, tokenizer), processes_here(group)
        peak = machine_flops(group) if settings.minutes else 0.0
        rows = rows_of(settings, sizes[0])
        settings = replace(settings, rows=rows)  # what a resumed run goes on with, even when there is more text by then
        recipe = make_recipe(settings, tokenizer.vocab_size, *sizes, group.size(), here, peak)
        about = describe(recipe, sizes[0], here, rows)
        source = Documents(dataset, tokenizer, recipe, rows)
        model = out.begin(
            settings, recipe, source, about, partial(kind_of(recipe.model).init_weights, seed=recipe.seed)
        )
        return 0 if settings.dry_run else train(recipe, trainer_for(recipe, model, group), source, out, stop)


def start_pretraining(settings: Settings, given: Set[str]) -> int:
    """Pretrain in as many processes as it takes; the exit code of the run."""

    def fits(processes: int) -> Recipe:
        dataset, tokenizer = open_data(settings, folder_of(settings))
        sizes = corpus_tokens(dataset, tokenizer)
        return make_recipe(settings, tokenizer.vocab_size, *sizes, processes, processes)

    return start("base_train", pretrain, settings, given, folder_of(settings), fits)

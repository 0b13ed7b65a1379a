"""A run of pretraining on one page: its settings, and what they come to before the first step.

Exported from notebooks/10_training.ipynb; edit it there.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from course_lib import backend
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import check_least
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token


@dataclass(frozen=True)
class Settings:
    """Pretrain a GPT, by default one that fits the bundled corpus; go on with it by --resume."""

    depth: int = 4
    """Layers of the model; everything else about it follows."""
    aspect_ratio: int = 64
    """Width of the model for each layer; 32 makes it narrow."""
    head_dim: int = 128
    """Numbers in a head, about."""
    n_kv_head: int | None = None
    """Heads of keys and values; by default as many as query heads."""
    sequence_len: int | None = None
    """Tokens in a row; by default 2048, or 256 on a CPU or a small corpus."""
    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`, or with --streaming), or your own text."""
    streaming: bool = False
    """Fetch the shards of a remote corpus while training, and keep few."""
    max_cached_shards: int = 8
    """How many shards --streaming keeps on disk."""
    tokenizer: Path | None = None
    """Folder of the tokenizer; by default the one of `tok_train`, or one that is trained first."""
    total_batch_size: int | None = None
    """Tokens in a step; by default 524,288, or 4,096 on a CPU or a small corpus."""
    device_batch_size: int | None = None
    """Rows at a time in each process; by default what the memory allows, up to 32."""
    num_iterations: int | None = None
    """Steps of the whole run."""
    target_flops: float | None = None
    """Or: as many steps as this many floating-point operations pay for."""
    tokens_per_param: float | None = None
    """Or: tokens for each parameter; by default 20, but a small corpus at most four times."""
    matrix_lr: float = 0.02
    """Learning rate of Muon, for the matrices of the blocks."""
    embedding_lr: float = 0.2
    """Learning rate of AdamW for wte, at n_embd 768."""
    unembedding_lr: float = 0.004
    """Learning rate of AdamW for lm_head, at n_embd 768."""
    warmup_ratio: float = 0.0
    """Share of the steps in which the learning rates climb."""
    warmdown_ratio: float = 0.2
    """Share of the steps in which they fall."""
    final_lr_frac: float = 0.0
    """What they fall to, as a share."""
    grad_clip: float = 1.0
    """Largest norm of the gradients; 0 to leave them."""
    max_rise: float = 1.5
    """Stop when the smoothed loss is so many nats above its lowest."""
    seed: int = 42
    """Of the first weights."""
    recompute: bool = False
    """Compute activations twice, to need less memory."""
    eval_every: int | None = None
    """Steps between two validations; by default a tenth of the run, at most 250."""
    eval_share: float = 0.05
    """How much of the training's work validation may cost."""
    sample_every: int | None = None
    """Steps between two looks at what it writes; by default a fifth of the run, at most 2,000."""
    save_every: int | None = None
    """Steps between two checkpoints; by default a tenth of the run, at most 250."""
    keep: int = 3
    """How many checkpoints to keep."""
    tag: str | None = None
    """Name of the run; by default d and the depth."""
    resume: bool = False
    """Go on from the run's newest checkpoint, with its settings."""
    overwrite: bool = False
    """Throw the run of this name away and begin again."""
    dry_run: bool = False
    """Say what the run comes to, measure a few steps, and end."""
    processes: int | None = None
    """Processes on this machine; by default one, on Linux's CPU up to four, one for each core."""


EPOCHS = 4  # more passes over the same text teach little (Muennighoff et al., 2023)

SMALL = 50_000_000  # tokens of a corpus

FILLED = 0.85  # of the memory: the estimate may be off, and other programs need some


def make_config(settings: Settings, vocab_size: int) -> GPTConfig:
    """The model of the settings, whose sequence_len must be known."""
    return GPTConfig.from_depth(
        settings.depth,
        vocab_size,
        settings.sequence_len,
        settings.n_kv_head,
        settings.aspect_ratio,
        settings.head_dim,
    )


def resolve(settings: Settings, vocab_size: int, corpus_tokens: float, processes: int = 1, here: int = 1) -> Settings:
    """The settings with a number for every None that says how long, how large and how often.

    corpus_tokens: of the training text, about. processes: that share a step; here: how many of
    them share this machine's memory. Raises FlagError for numbers that do not fit together, and
    CourseError for what does not fit the memory.
    """
    check_flags(settings)
    small = corpus_tokens < SMALL or backend.device_kind() == "cpu"
    settings = replace(settings, sequence_len=settings.sequence_len or (256 if small else 2048))
    settings = replace(settings, total_batch_size=settings.total_batch_size or (4096 if small else 524_288))
    config = make_config(settings, vocab_size)
    settings = replace(settings, device_batch_size=fitting_batch_size(settings, config, processes, here))
    steps = settings.num_iterations or _num_iterations(settings, config, corpus_tokens)
    often = min(250, max(1, steps // 10))
    batch = settings.device_batch_size * settings.sequence_len
    affordable = math.ceil(batch / (3 * max(settings.eval_share, 0.001) * settings.total_batch_size))
    return replace(
        settings,
        num_iterations=steps,
        eval_every=settings.eval_every or max(often, affordable),
        save_every=settings.save_every or often,
        sample_every=settings.sample_every or min(2000, max(1, steps // 5)),
    )


def check_flags(settings: Settings) -> None:
    """Raise FlagError for flags that make no sense, whatever the text and the machine."""
    ones = "depth aspect_ratio head_dim n_kv_head sequence_len total_batch_size"
    ones += " device_batch_size num_iterations eval_every sample_every save_every keep"
    ones += " processes max_cached_shards"
    zeros = "matrix_lr embedding_lr unembedding_lr warmup_ratio warmdown_ratio final_lr_frac"
    zeros += " grad_clip eval_share seed"
    check_least(settings, **dict.fromkeys(ones.split(), 1), **dict.fromkeys(zeros.split(), 0))
    for flag in ("max_rise", "target_flops", "tokens_per_param"):
        value, name = getattr(settings, flag), f"--{flag.replace('_', '-')}"
        if value is not None and not value > 0:
            raise FlagError(f"{name} is {value}, expected more than 0")
        if value == math.inf and flag != "max_rise":
            raise FlagError(f"{name} is {value}, expected a number: a run must end")
    for flag in ("warmup_ratio", "warmdown_ratio", "final_lr_frac"):
        if getattr(settings, flag) > 1:
            raise FlagError(f"--{flag.replace('_', '-')} is {getattr(settings, flag)}, expected at most 1")
    horizons = [settings.num_iterations, settings.target_flops, settings.tokens_per_param]
    if sum(horizon is not None for horizon in horizons) > 1:
        raise FlagError("--num-iterations, --target-flops and --tokens-per-param each say how long; give one of them")
    if settings.resume and settings.overwrite:
        raise FlagError("--resume goes on with a run and --overwrite throws it away; give one of them")
    if settings.seed >= 2**32:
        raise FlagError(f"--seed is {settings.seed}, expected at most {2**32 - 1}")


def _num_iterations(settings: Settings, config: GPTConfig, corpus_tokens: float) -> int:
    if settings.target_flops is not None:
        tokens = settings.target_flops / flops_per_token(config)
    elif settings.tokens_per_param is not None:
        tokens = settings.tokens_per_param * count_parameters(config)
    else:
        tokens = min(20 * count_parameters(config), EPOCHS * corpus_tokens)
    return max(1, int(tokens / settings.total_batch_size))


def fitting_batch_size(settings: Settings, config: GPTConfig, processes: int, here: int) -> int:
    """Rows at a time: the flag's, or the most that memory allows. CourseError when none fits."""
    together = settings.sequence_len * processes  # tokens of one row in every process
    if settings.total_batch_size % together:
        raise FlagError(
            f"--total-batch-size is {settings.total_batch_size} tokens, expected a multiple "
            f"of {together}: a row of {settings.sequence_len}" + f" in each of {processes} processes" * (processes > 1)
        )
    rows = settings.total_batch_size // together
    possible = [size for size in range(min(rows, 32), 0, -1) if rows % size == 0]
    have = FILLED * backend.memory_bytes()

    def fits(size: int) -> bool:
        return here * estimate_memory(config, size, recompute=settings.recompute)["total"] <= have

    fitting = [size for size in possible if fits(size)]
    asked = settings.device_batch_size
    if asked is not None and rows % asked:
        raise FlagError(
            f"--device-batch-size is {asked}, expected a divisor of {rows}, the rows of each "
            f"process in a step: {possible[0]} is one"
        )
    if asked is not None and fits(asked) or asked is None and fitting:
        return asked or fitting[0]
    need = here * estimate_memory(config, asked or 1, recompute=settings.recompute)["total"]
    better = (
        f"--device-batch-size={fitting[0]} would fit"
        if fitting
        else (
            "no --device-batch-size fits; take --recompute, fewer --processes, or a smaller --depth or --sequence-len"
        )
    )
    raise CourseError(
        f"a step with --device-batch-size={asked or 1} needs {need / 1e9:.1f} GB in {here} "
        f"process{'es' * (here > 1)}, but of this machine's memory it may take "
        f"{have / 1e9:.1f} GB; {better}"
    )


def validation_batches(settings: Settings, val_tokens: float) -> int:
    """Batches of device_batch_size rows for one validation, 1 or more.

    As many as keep all validation within eval_share of the training's work, a token of validation
    being a third of one of training, and no more than the text has.
    """
    tokens = 3 * settings.eval_share * settings.eval_every * settings.total_batch_size
    batch = settings.device_batch_size * settings.sequence_len
    return max(1, int(min(tokens, val_tokens) // batch))


def describe(settings: Settings, vocab_size: int, corpus_tokens: float, val_tokens: float, here: int = 1) -> str:
    """What a run comes to, in lines."""
    config = make_config(settings, vocab_size)
    parameters, flops = count_parameters(config), flops_per_token(config)
    tokens = settings.num_iterations * settings.total_batch_size
    memory = estimate_memory(config, settings.device_batch_size, recompute=settings.recompute)["total"]
    count = validation_batches(settings, val_tokens)
    evaluated = count * settings.device_batch_size * settings.sequence_len
    share = evaluated / 3 / (settings.eval_every * settings.total_batch_size)
    epochs = "" if math.isinf(corpus_tokens) else f", {tokens / corpus_tokens:.1f} times the corpus"
    many = "" if here == 1 else f" in each of {here} processes"
    return "\n".join(
        [
            f"model        d{config.n_layer}: {config.n_layer} layer{'s' * (config.n_layer > 1)}, "
            f"n_embd {config.n_embd}, {config.n_head} head{'s' * (config.n_head > 1)}, "
            f"vocabulary {config.vocab_size:,}",
            f"parameters   {parameters:,}",
            f"tokens       {tokens:,} in {settings.num_iterations:,} steps of "
            f"{settings.total_batch_size:,} ({tokens / parameters:.1f} a parameter{epochs})",
            f"operations   {flops / 1e6:,.0f} million FLOPs a token, {flops * tokens:.3g} in all",
            f"memory       {memory / 1e9:.2f} GB needed{many}, {backend.memory_bytes() / 1e9:.1f} GB here",
            f"validation   {evaluated:,} tokens every {settings.eval_every:,} steps, {share:.1%} of the work",
        ]
    )

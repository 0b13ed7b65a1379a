"""What a GPT refuses: sizes that do not fit together, ids outside its vocabulary, too many positions.

Written by hand; chapter 08 uses it.
"""

from typing import TYPE_CHECKING

import mlx.core as mx

from course_lib.host.errors import CourseError

if TYPE_CHECKING:
    from course_lib.model.config2026 import GPT2026Config
    from course_lib.model.gpt import GPTConfig


def at_least_one(**numbers: int) -> None:
    """Refuse a number below 1, by its name."""
    for name, value in numbers.items():
        if value < 1:
            raise CourseError(f"{name}={value}, expected 1 or more")


def check_sizes(config: "GPTConfig") -> None:
    """Refuse numbers that make no model, with the fix."""
    for name in ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd"):
        at_least_one(**{name: getattr(config, name)})
    if config.n_embd % (2 * config.n_head):
        raise CourseError(
            f"n_embd={config.n_embd} cannot be shared out to n_head={config.n_head} heads of an even size; make "
            f"n_embd a multiple of {2 * config.n_head}, or change n_head"
        )
    if config.n_head % config.n_kv_head:
        raise CourseError(
            f"n_kv_head={config.n_kv_head} does not divide n_head={config.n_head}; expected one of "
            f"{[n for n in range(1, config.n_head + 1) if config.n_head % n == 0]}"
        )


def check_ids(config: "GPTConfig", ids: mx.array, targets: mx.array | None = None, whole: bool = True) -> None:
    """Refuse ids (B, T) that have no row in wte, and targets that are neither ids nor -1.

    Raises CourseError, also for shapes that do not fit and, if `whole`, for more than sequence_len positions. MLX
    itself reads whatever lies in memory where a row would be. Inside mx.compile arrays have no numbers yet, and only
    their shapes are checked. To look at numbers Python must wait for the device: it waits once for all of them.
    """
    if ids.ndim != 2 or ids.size == 0:
        raise CourseError(f"ids have shape {ids.shape}, expected (B, T) with one token or more")
    if whole and ids.shape[1] > config.sequence_len:
        raise CourseError(f"{ids.shape[1]} positions, but the model has sequence_len={config.sequence_len}; give fewer")
    checked = [("ids", ids, 0)]
    if targets is not None:
        checked.append(("targets", targets, -1))
        if targets.shape != ids.shape:
            raise CourseError(f"ids {ids.shape} and targets {targets.shape} must have the same shape (B, T)")
    on_cpu = {"stream": mx.cpu}  # where ids come from: no wait for what a GPU is doing
    bounds = [(array.min(**on_cpu), array.max(**on_cpu)) for _, array, _ in checked]
    try:
        mx.eval(bounds)
    except ValueError:  # inside mx.compile
        return
    for (name, _, least), (low, high) in zip(checked, bounds, strict=True):
        if low.item() < least or high.item() >= config.vocab_size:
            raise CourseError(
                f"{name} go from {low.item()} to {high.item()}, but this model knows {least} to "
                f"{config.vocab_size - 1}; use the tokenizer that it was trained with"
            )


def check_reduction(reduction: str) -> None:
    """Refuse an unknown way to sum up the losses."""
    if reduction not in ("mean", "sum", "none"):
        raise CourseError(f"reduction={reduction!r}, expected 'mean', 'sum' or 'none'")


def check_2026(config: "GPT2026Config") -> None:
    """Refuse a pattern of windows that is none, and a model too narrow for its gates."""
    if not config.window_pattern or set(config.window_pattern) - set("SL"):
        raise CourseError(f"window_pattern={config.window_pattern!r}, expected letters S (short) and L (long), as SSSL")
    if config.n_embd < 24:
        raise CourseError(f"n_embd={config.n_embd}, expected 24 or more: the smear reads so many numbers of a token")

"""Both models by the year of the nanochat that they are of, and which of them a config or a checkpoint means.

Written by hand; chapters 10 and 21 use it.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Literal, NamedTuple

from course_lib.model.config2026 import GPT2026Config, init_weights_2026
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.model.gpt2026 import GPT2026

Year = Literal["2025", "2026"]


class Kind(NamedTuple):
    """Classes of the numbers and of the model, and what gives a model its first weights, from a seed."""

    config: type[GPTConfig]
    model: type[GPT]
    init_weights: Callable[..., None]


KINDS: dict[Year, Kind] = {
    "2025": Kind(GPTConfig, GPT, init_weights),
    "2026": Kind(GPT2026Config, GPT2026, init_weights_2026),
}


def kind_of(config: GPTConfig) -> Kind:
    """The kind of a model with these numbers."""
    return KINDS["2026" if isinstance(config, GPT2026Config) else "2025"]


def config_class(names: Iterable[str]) -> type[GPTConfig]:
    """The class whose fields have these names, or GPTConfig where none has them."""
    names = set(names)
    found = (kind.config for kind in KINDS.values() if names == {field.name for field in fields(kind.config)})
    return next(found, GPTConfig)


def windows_of(config: GPTConfig) -> list[int]:
    """For each block, how many keys before its own a query sees at most."""
    return config.windows if isinstance(config, GPT2026Config) else [config.sequence_len] * config.n_layer


def caches_of(config: GPTConfig) -> int:
    """How many caches a model reads: one for each block and, of 2026, one for the ids."""
    return config.n_layer + isinstance(config, GPT2026Config)


def make_model(config: GPTConfig, recompute: bool = False) -> GPT:
    """The model that the numbers ask for."""
    return kind_of(config).model(config, recompute)

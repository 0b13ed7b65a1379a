"""What a stranger's model says of itself, compared with its arrays, before anything is built of it.

Written by hand; chapter 22 uses it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.kinds import make_model
from course_lib.train.checkpoint import load_weights
from course_lib.weights.bits import TABLES, PackedGPT, packed_model, whole_weights
from course_lib.weights.gpt2 import GPT2, GPT2Config

Config = TypeVar("Config", bound=GPTConfig | GPT2Config)
LONGEST = 1 << 20  # tokens of context
TORCH_EPS = 2.0**-23  # float32's: what torch adds in a norm where nobody says otherwise


@dataclass(frozen=True)
class Pretrained:
    """A model of another program: its numbers, its arrays by the course's names, its tokenizer.

    form: whose files they are. quantization: how the weights that have scales are packed, as mlx-lm's config.json says
    it; None: there are none. about: what else the files say. notes: sentences on what the user should know.
    """

    form: str
    config: GPTConfig | GPT2Config
    weights: dict[str, mx.array]
    tokenizer: Tokenizer
    quantization: dict[str, Any] | None = None
    step: int = 0
    about: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint of the course says of itself, as far as it is known here."""
        config, tokenizer = asdict(self.config), self.tokenizer.fingerprint
        known = {"step": self.step, "config": config, "tokenizer": tokenizer, "settings": {}}
        return known | {"form": self.form, "notes": list(self.notes)} | self.about

    def whole(self) -> "Pretrained":
        """The same without packed weights."""
        if self.quantization is None:
            return self
        weights = whole_weights(self.weights, self.quantization)
        bits = self.quantization["bits"]
        note = f"its weights were kept in {bits} bits and are in more here, rounded once again"
        return replace(self, weights=weights, quantization=None, notes=(*self.notes, note))

    def model(self) -> GPT:
        """The model, with its weights as they are kept. Raises CourseError for arrays that are not its own."""
        config = self.config
        if self.quantization is not None and not isinstance(config, GPT2Config):
            return packed_model(PackedGPT(config), self.weights, self.quantization)
        model = GPT2(config) if isinstance(config, GPT2Config) else make_model(config)
        load_weights(model, self.weights)
        return model


def make_config(kind: type[Config], given: Mapping[str, Any], weights: Mapping[str, mx.array], path: Path) -> Config:
    """A config of numbers that were read from `path`, where the arrays bear them out: nothing huge is built.

    Raises CourseError, also where the arrays have fewer or more blocks, or other tables, than the numbers say.
    """
    for number in fields(kind):
        value = given.get(number.name, number.default)
        if number.type is str:
            sound, expected = type(value) is str and len(value) < 1000, "a short text"
        else:
            kinds = (int,) if number.type is int else (int, float)
            sound, expected = type(value) in kinds and 0 < value < 1e12, "a number above 0 and below 1e12"
        if not sound:
            raise CourseError(f"{path} says {number.name}={value!r:.40}, expected {expected}; take another model")
    table = weights.get("transformer.wte.weight")
    blocks = len({name.split(".")[2] for name in weights if name.startswith("transformer.h.")})
    have = (blocks, *(table.shape if table is not None else ()))
    want = (given["n_layer"], padded(given["vocab_size"]), given["n_embd"])
    if have not in (want, (want[0], given["vocab_size"], want[2])) or given["sequence_len"] > LONGEST:
        raise CourseError(
            f"{path} says n_layer={given['n_layer']}, vocab_size={given['vocab_size']}, n_embd={given['n_embd']} and "
            f"sequence_len={given['sequence_len']}, at most {LONGEST}, and the arrays are of {have}; take another model"
        )
    return kind(**given)


def padded(vocab_size: int) -> int:
    """The rows of a table for so many ids: up to a multiple of 64, which is kinder to a GPU."""
    return -(-vocab_size // 64) * 64


def without_padding(weights: Mapping[str, mx.array], vocab_size: int) -> dict[str, mx.array]:
    """The arrays, the two tables of a GPT cut to the ids that there are; packed ones with their scales."""
    return {name: array[:vocab_size] if name.rpartition(".")[0] in TABLES else array for name, array in weights.items()}


def check_vocabulary(config: GPTConfig | GPT2Config, tokenizer: Tokenizer, path: Path) -> None:
    """Raise CourseError for a tokenizer that has not the model's ids."""
    if tokenizer.vocab_size != config.vocab_size:
        raise CourseError(
            f"{path} has {tokenizer.vocab_size} ids and the model {config.vocab_size}; take the tokenizer that it was "
            "trained with"
        )

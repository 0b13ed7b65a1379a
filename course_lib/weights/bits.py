"""Weights in fewer bits: each group of a row's numbers becomes small whole numbers, and a scale that they share.

`affine_by_hand` is what MLX does for 8, 6, 4 and 3 bits, in NumPy and for the eye. The four-bit floats mxfp4 and nvfp4
have no offset: 16 fixed values, times a scale of 8 bits that 32 or 16 numbers share.

Only weights become smaller. Activations, and the products' sums, stay as they are.

Written by hand; chapter 22 uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.attention import rms_norm
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.gpt2026 import GPT2026
from course_lib.model.head import cap
from course_lib.weights.files import or_damaged, read_json
from course_lib.weights.hugging_face import read_numbers, read_tokenizer
from course_lib.weights.pretrained import check_vocabulary, make_config
from course_lib.weights.safetensors_files import load_all

# ---- one row, by hand


def affine_by_hand(weight: np.ndarray, bits: int = 4, group_size: int = 64) -> tuple[np.ndarray, ...]:
    """(packed, scales, biases) of a float32 weight (out, in), each bit as in mx.quantize; bits: 2, 4 or 8.

    Each group_size numbers of a row become whole numbers q from 0 to 2^bits - 1, so that q · scale + bias is near them.
    The number that is furthest from 0 is kept, and so is 0 itself where the group has numbers on both sides of it; at
    the other end up to a step may be cut off.
    packed: (out, in · bits / 32) uint32, the first number in the lowest bits. scales, biases: (out, in / group_size).
    """
    groups = weight.astype(np.float32).reshape(-1, group_size)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    steps = np.float32(2**bits - 1)
    scale = np.maximum((high - low) / steps, np.float32(1e-7))
    below = np.abs(low) > np.abs(high)
    scale, edge = np.where(below, scale, -scale), np.where(below, low, high)
    place = np.rint(edge / scale)  # so many steps from 0 to the edge
    whole = place != 0
    scale = np.where(whole, edge / np.where(whole, place, 1), scale)
    bias = np.where(whole, edge, 0).astype(np.float32)
    q = np.clip(np.rint((groups - bias) / scale), 0, steps).astype(np.uint32)
    places = bits * np.arange(32 // bits, dtype=np.uint32)
    packed = (q.reshape(len(weight), -1, 32 // bits) << places).sum(axis=-1, dtype=np.uint32)
    shape = len(weight), -1
    return packed, scale.reshape(shape), bias.reshape(shape)


# ---- a model


TABLES = "transformer.wte", "lm_head"


@dataclass(frozen=True)
class Bits:
    """How to store the matrices of a model.

    group_size: how many numbers share a scale; mode: as in mx.quantize; keep: beginnings of names whose matrices stay
    as they are, here the two tables of tokens.
    """

    bits: int
    group_size: int
    mode: str = "affine"
    keep: tuple[str, ...] = TABLES


BITS = {
    "8": Bits(8, 64),
    "6": Bits(6, 64),
    "4": Bits(4, 64),
    "3": Bits(3, 64),
    "mxfp4": Bits(4, 32, "mxfp4"),
    "nvfp4": Bits(4, 16, "nvfp4"),
}


def with_tables(bits: Bits) -> Bits:
    """The same, with the two tables of tokens in fewer bits, too."""
    return replace(bits, keep=tuple(name for name in bits.keep if name not in TABLES))


def ends_kept(bits: Bits, n_layer: int) -> Bits:
    """The same, with the first and the last block kept as they are, too."""
    ends = (f"transformer.h.{n}." for n in {0, n_layer - 1})
    return replace(bits, keep=(*bits.keep, *sorted(ends)))


def quantised_weights(weights: Mapping[str, mx.array], bits: Bits) -> tuple[dict[str, mx.array], dict]:
    """(weights, quantization): packed weights with their scales beside them, under the names of MLX and mlx-lm.

    quantization: what config.json of mlx-lm says of them. Raises CourseError when nothing would become smaller.
    """
    packed = dict(weights)
    for name, weight in weights.items():
        if not _is_quantised(name, weight, bits):
            continue
        layer = name.removesuffix(".weight")
        arrays = mx.quantize(weight, bits.group_size, bits.bits, mode=bits.mode)
        names = (name, f"{layer}.scales", f"{layer}.biases")
        packed.update(zip(names, arrays, strict=False))  # a four-bit float has no biases
    if len(packed) == len(weights):
        raise CourseError(
            f"no matrix of this model has rows of a multiple of {bits.group_size} numbers, which share a scale; take a "
            "wider model"
        )
    return packed, {"group_size": bits.group_size, "bits": bits.bits, "mode": bits.mode}


def _is_quantised(name: str, weight: mx.array, bits: Bits) -> bool:
    """Whether this is a matrix of a block, or a table, whose rows are whole groups, and is not to be kept."""
    is_matrix = name.startswith(("transformer.h.", *TABLES)) and name.endswith(".weight") and weight.ndim == 2
    return is_matrix and not name.startswith(bits.keep) and weight.shape[1] % bits.group_size == 0


class Packed(GPT):
    """A model whose tables may be packed: it writes and is measured as any other, and cannot be trained."""

    def embed(self, ids: mx.array) -> mx.array:
        """(B, T) -> (B, T, n_embd), normed."""
        return rms_norm(self.transformer.wte(ids).astype(backend.compute_dtype()), self.config.norm_eps)

    def head(self, x: mx.array) -> mx.array:
        return cap(self.lm_head(x)[..., : self.config.vocab_size], self.config.softcap)

    def loss(self, ids: mx.array, targets: mx.array, reduction: str = "none") -> mx.array:
        if reduction != "none":
            raise CourseError('a model in fewer bits is not trained; take its loss with reduction="none"')
        return super().loss(ids, targets, reduction)


class PackedGPT(Packed):
    """The model of October 2025."""

    def hidden(self, ids: mx.array, cache: list | None = None) -> mx.array:
        x, blocks = self.embed(ids), self.transformer.h
        for block, own in zip(blocks, cache or [None] * len(blocks), strict=True):
            x = block(x, own)
        return rms_norm(x, self.config.norm_eps)


class PackedGPT2026(Packed, GPT2026):
    """The model of July 2026, which embeds by `embed` anyway."""


PACKED = {GPT: PackedGPT, GPT2026: PackedGPT2026}


def packed_model(empty: nn.Module, weights: Mapping[str, mx.array], quantization: Mapping) -> nn.Module:
    """`empty`, a new model, with these weights; those that have scales are packed.

    Raises CourseError for weights that are not its own.
    """
    group_size = quantization["group_size"]

    def how(path: str, layer: nn.Module) -> bool | dict:
        fits = hasattr(layer, "to_quantized") and layer.weight.shape[1] % group_size == 0
        return fits and f"{path}.scales" in weights and quantization.get(path, True)  # a layer may have its own

    nn.quantize(
        empty,
        group_size=group_size,
        bits=quantization["bits"],
        mode=quantization.get("mode", "affine"),
        class_predicate=how,
    )
    own = {name: array.shape for name, array in tree_flatten(empty.parameters())}
    given = {name: array.shape for name, array in weights.items()}
    if wrong := sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name)):
        name = wrong[0]
        raise CourseError(
            f"the weights have {given.get(name, 'nothing')} for {name}, the model {own.get(name, 'nothing')}; take the "
            "config that was saved with them"
        )
    empty.load_weights(list(weights.items()))
    return empty


def in_fewer_bits(model: nn.Module, bits: Bits) -> nn.Module:
    """A copy of the model with packed matrices; what is not packed is shared with it."""
    kind = PACKED.get(type(model), type(model))
    if type(model) not in PACKED:  # GPT-2, whose table is its head, too
        bits = replace(bits, keep=(*bits.keep, *TABLES))
    weights, quantization = quantised_weights(dict(tree_flatten(model.parameters())), bits)
    return packed_model(kind(model.config), weights, quantization)


def load_packed(folder: Path) -> tuple[GPT, Tokenizer]:
    """Model and tokenizer of a folder of mlx-lm, such as `convert --bits 4` writes, with its weights as small as there.

    Raises CourseError for another folder; `load_pretrained` unpacks them.
    """
    path = folder / "config.json"
    about, weights = read_json(path), load_all(folder)
    with or_damaged(path):
        how, numbers = about["quantization"], read_numbers(about, path)
        table, *shared = (weights.get(f"transformer.wte.{name}") for name in ("weight", "scales", "biases"))
        if shared[0] is not None:  # for its shape; nothing is computed
            table = mx.dequantize(table, *shared, how["group_size"], how["bits"], how.get("mode", "affine"))
        fixed = {"norm_eps": 1e-5, "softcap": 15.0, "rope_base": about.get("rope_theta", 10000.0)}
        config = make_config(GPTConfig, numbers | fixed, weights | {"transformer.wte.weight": table}, path)
        tokenizer = read_tokenizer(folder)
        check_vocabulary(config, tokenizer, folder / "tokenizer.json")
        return packed_model(PackedGPT(config), weights, how), tokenizer


def bytes_of(model: nn.Module) -> int:
    """Bytes of all its arrays."""
    return sum(array.nbytes for _, array in tree_flatten(model.parameters()))

"""Weights in fewer bits: each group of a row's numbers becomes small whole numbers, and a scale that they share.

`affine_by_hand` is what MLX does for 8, 6, 4 and 3 bits, in NumPy and for the eye. The four-bit floats mxfp4 and nvfp4
have no offset: 16 fixed values, times a scale of 8 bits that 32 or 16 numbers share.

Only weights become smaller. Activations, and the products' sums, stay as they are.

Written by hand; chapter 22 uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.model.attention import rms_norm
from course_lib.model.gpt import GPT
from course_lib.model.gpt2026 import GPT2026
from course_lib.model.head import cap
from course_lib.train.checkpoint import load_weights
from course_lib.weights.files import ANOTHER

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
MODES = "affine", "mxfp4", "mxfp8", "nvfp4"


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


def bits_of(quantization: Mapping[str, Any], layer: str) -> dict[str, Any]:
    """How a layer is packed, by the names of mx.dequantize; raises CourseError where that cannot be.

    quantization: config.json's: group_size, bits, mode, and under the name of a layer what differs there.
    """
    own = quantization.get(layer)
    own = own if isinstance(own, Mapping) else quantization
    group_size, bits, mode = own.get("group_size"), own.get("bits"), own.get("mode", "affine")
    if type(group_size) is not int or type(bits) is not int or not (0 < group_size < 1 << 16) or mode not in MODES:
        raise CourseError(f"quantisation by {group_size!r:.20}, {bits!r:.20}, {mode!r:.20} is not known; {ANOTHER}")
    return {"group_size": group_size, "bits": bits, "mode": mode}


def whole_weights(weights: Mapping[str, mx.array], quantization: Mapping[str, Any]) -> dict[str, mx.array]:
    """The weights with every packed one as a matrix of 16 or 32 bits again, as its scales are. Nothing is computed yet.

    Raises CourseError or ValueError where they do not belong together.
    """
    whole = {}
    for name, array in weights.items():
        layer, _, kind = name.rpartition(".")
        scales, biases = weights.get(f"{layer}.scales"), weights.get(f"{layer}.biases")
        if scales is None:
            whole[name] = array
        elif kind == "weight":
            dtype = mx.bfloat16 if biases is None else scales.dtype  # a float of 4 bits times its scale fits into that
            whole[name] = mx.dequantize(array, scales, biases, **bits_of(quantization, layer), dtype=dtype)
    return whole


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


def packed_model(empty: GPT, weights: Mapping[str, mx.array], quantization: Mapping[str, Any]) -> GPT:
    """`empty`, a new model, with these weights; those that have scales are packed.

    Raises CourseError for weights that are not its own.
    """

    def how(path: str, layer: nn.Module) -> bool | dict:
        if not hasattr(layer, "to_quantized") or f"{path}.scales" not in weights:
            return False
        own = bits_of(quantization, path)
        return layer.weight.shape[1] % own["group_size"] == 0 and own

    nn.quantize(empty, class_predicate=how)
    load_weights(empty, dict(weights))
    return empty


def in_fewer_bits(model: GPT, bits: Bits) -> GPT:
    """A copy of the model with packed matrices; what is not packed is shared with it."""
    kind = PACKED.get(type(model), type(model))
    if type(model) not in PACKED:  # GPT-2, whose table is its head, too
        bits = replace(bits, keep=(*bits.keep, *TABLES))
    weights, quantization = quantised_weights(dict(tree_flatten(model.parameters())), bits)
    return packed_model(kind(model.config), weights, quantization)


def bytes_of(model: nn.Module) -> int:
    """Bytes of all its arrays."""
    return sum(array.nbytes for _, array in tree_flatten(model.parameters()))

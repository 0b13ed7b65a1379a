"""Folders of mlx-lm's nanochat model, quantised or not: config.json, safetensors with nanochat's names, tokenizer.json.

mlx-lm has the norm's eps, 1e-5, and the cap of the logits, 15, in its code, whatever config.json says, and looks for
the base of the rotation at one place: so it is here.

Source: mlx-lm 0.32, models/nanochat.py and utils.py.

Written by hand; chapter 22 uses it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from course_lib.host.errors import CourseError
from course_lib.weights.files import ANOTHER, or_damaged, read_json
from course_lib.weights.hugging_face import finished, read_numbers
from course_lib.weights.pretrained import Pretrained

MODES = ("affine", "mxfp4", "mxfp8", "nvfp4")


def load_mlx_lm(folder: Path, arrays: dict[str, mx.array]) -> Pretrained:
    """The model in a folder of mlx-lm; arrays: of its safetensors, emptied while it goes on. Raises CourseError.

    What is quantised becomes numbers of 16 or 32 bits again, as its scales are: a note says so.
    """
    path = folder / "config.json"
    about = read_json(path)
    fixed = {"norm_eps": 1e-5, "softcap": 15.0, "rope_base": about.get("rope_theta", 10000.0)}
    numbers = read_numbers(about, path) | fixed
    notes = ()
    if how := about.get("quantization"):
        with or_damaged(path):
            arrays = dequantised(arrays, how)
        notes = (f"its weights were kept in {how['bits']!r:.8} bits and are in more here, rounded once again",)
    return finished("mlx-lm", folder, numbers, arrays, notes)


def dequantised(arrays: dict[str, mx.array], how: Mapping[str, Any]) -> dict[str, mx.array]:
    """The arrays with every quantised weight made whole again, one after the other.

    how: config.json's quantization: group_size, bits, mode, and under a layer's name what differs there.
    """
    whole = {}
    for name in sorted(arrays):
        if name not in arrays:  # taken together with its weight
            continue
        layer = name.removesuffix(".biases").removesuffix(".scales").removesuffix(".weight")
        if f"{layer}.scales" not in arrays:
            whole[name] = arrays.pop(name)
            continue
        weight, scales = arrays.pop(f"{layer}.weight"), arrays.pop(f"{layer}.scales")
        biases = arrays.pop(f"{layer}.biases", None)
        here = how.get(layer) or how
        group_size, bits, mode = here["group_size"], here["bits"], here.get("mode", "affine")
        if type(group_size) is not int or type(bits) is not int or mode not in MODES:
            raise CourseError(f"quantisation by {group_size!r:.20}, {bits!r:.20}, {mode!r:.20} is not known; {ANOTHER}")
        dtype = mx.bfloat16 if biases is None else scales.dtype
        array = mx.dequantize(weight, scales, biases, group_size, bits, mode, dtype=dtype)
        mx.eval(array)
        whole[f"{layer}.weight"] = array
    return whole

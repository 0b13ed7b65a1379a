"""Folders in the form of the Hugging Face hub: config.json, safetensors in one part or several, a tokenizer.

Three models lie in such folders. transformers' NanoChatForCausalLM is the model of October 2025 under other names, the
rotation and its sign included. mlx-lm has it under nanochat's own names, and may have quantised it. The third is GPT-2.
Numbers that a config.json can change and the model here cannot are compared, one sentence each.

Source: transformers 5.24, models/nanochat and models/gpt2; mlx-lm 0.32, models/nanochat.py and utils.py.

Written by hand; chapter 22 uses it.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig
from course_lib.weights.bits import bits_of, whole_weights
from course_lib.weights.files import ANOTHER, file_in, read_json, read_whole
from course_lib.weights.gpt2 import GPT2Config
from course_lib.weights.pretrained import Pretrained, check_vocabulary, make_config, without_padding
from course_lib.weights.tokenizers import GPT2Tokenizer, read_tokenizer

# transformers' name for an array -> ours; # is the number of a block
NAMES = {
    "model.embed_tokens.weight": "transformer.wte.weight",
    "model.layers.#.self_attn.q_proj.weight": "transformer.h.#.attn.c_q.weight",
    "model.layers.#.self_attn.k_proj.weight": "transformer.h.#.attn.c_k.weight",
    "model.layers.#.self_attn.v_proj.weight": "transformer.h.#.attn.c_v.weight",
    "model.layers.#.self_attn.o_proj.weight": "transformer.h.#.attn.c_proj.weight",
    "model.layers.#.mlp.fc1.weight": "transformer.h.#.mlp.c_fc.weight",
    "model.layers.#.mlp.fc2.weight": "transformer.h.#.mlp.c_proj.weight",
    "lm_head.weight": "lm_head.weight",
}

# config.json's name for a number -> ours
NUMBERS = {
    "max_position_embeddings": "sequence_len",
    "vocab_size": "vocab_size",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "num_key_value_heads": "n_kv_head",
    "hidden_size": "n_embd",
}
GPT2_NUMBERS = {
    "n_positions": "sequence_len",
    "vocab_size": "vocab_size",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "layer_norm_epsilon": "norm_eps",
}
TURNS = "<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>"


def load_transformers(folder: Path, about: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Pretrained:
    """The model in a folder of transformers. Raises CourseError.

    about: what config.json says; arrays: of the safetensors, by their names.
    """
    weights = {}
    for name, array in arrays.items():
        ours = renamed(name, NAMES)
        if ours is None:
            raise CourseError(f"{folder} has an array {name!r:.80}, which nanochat's model has not; {ANOTHER}")
        weights[ours] = array
    numbers = read_numbers(about, folder / "config.json")
    numbers["norm_eps"] = about.get("rms_norm_eps", 1e-6)
    numbers["softcap"] = about.get("final_logit_softcapping", 15.0)
    return finished("transformers", folder, GPTConfig, numbers, weights)


def load_mlx_lm(folder: Path, about: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Pretrained:
    """The model in a folder of mlx-lm, as `load_transformers`; what is quantised stays packed.

    mlx-lm has the norm's eps, 1e-5, and the cap of the logits, 15, in its code, whatever config.json says, and looks
    for the base of the rotation at one place: so it is here.
    """
    fixed = {"norm_eps": 1e-5, "softcap": 15.0, "rope_base": about.get("rope_theta", 10000.0)}
    quantization = about.get("quantization") or None
    if quantization:
        bits_of(quantization, "")  # of all layers that say nothing of their own
    numbers = read_numbers(about, folder / "config.json") | fixed
    return finished("mlx-lm", folder, GPTConfig, numbers, arrays, quantization)


def load_gpt2(folder: Path, about: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Pretrained:
    """The GPT-2 in a folder of transformers, as `load_transformers`.

    A matrix is stored as (in, out) there, y = x W; some files hold masks, and the table of tokens once more as a head.
    """
    same = {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
        "quantization": None,
    }
    found = ((name, about.get(name, value), value) for name, value in same.items())
    check_same(found, "GPT-2", folder / "config.json")
    named = {f"transformer.{name.removeprefix('transformer.')}": array for name, array in arrays.items()}
    table, head = named.get("transformer.wte.weight"), named.pop("transformer.lm_head.weight", None)
    if head is not None and (table is None or not mx.array_equal(table, head)):
        raise CourseError(f"{folder} has a head that is not its table of tokens, as GPT-2's is; {ANOTHER}")
    weights = {
        name: array.T if ".h." in name and array.ndim == 2 else array
        for name, array in named.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))
    }
    numbers = {ours: about.get(theirs) for theirs, ours in GPT2_NUMBERS.items()}
    return finished("GPT-2", folder, GPT2Config, numbers, weights)


def renamed(name: str, names: Mapping[str, str]) -> str | None:
    """Another program's name for an array, by `names`, one form for all blocks; None for one that is not there."""
    block = re.search(r"\.(\d+)\.", name, re.ASCII)
    form = names.get(name.replace(block[0], ".#.", 1) if block else name)
    return form.replace("#", block[1]) if form and block else form


def read_numbers(about: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The numbers of config.json by our names, but those of norms and cap. Raises CourseError for another model."""
    missing = [name for name in NUMBERS if name not in about and name != "num_key_value_heads"]
    if missing:
        raise CourseError(f"{path} has no {missing[0]}; {ANOTHER}")
    numbers = {ours: about.get(theirs) for theirs, ours in NUMBERS.items()}
    numbers["n_kv_head"] = numbers["n_kv_head"] or numbers["n_head"]
    rope = about.get("rope_parameters") or about.get("rope_scaling") or {}
    rope = rope if isinstance(rope, dict) else {"rope_type": rope}
    numbers["rope_base"] = rope.get("rope_theta", about.get("rope_theta", 10000.0))
    width, heads = numbers["n_embd"], numbers["n_head"]
    if type(width) is not int or type(heads) is not int or not (0 < width < 1 << 24 and 0 < heads < 1 << 24):
        raise CourseError(f"{path} has no sound hidden_size and num_attention_heads; {ANOTHER}")
    same = (
        ("rope_type", rope.get("rope_type", rope.get("type", "default")), "default"),
        ("hidden_act", about.get("hidden_act", "relu2"), "relu2"),
        ("intermediate_size", about.get("intermediate_size"), 4 * width),
        ("head_dim", about.get("head_dim") or width // heads, width // heads),
        ("attention_bias", about.get("attention_bias", False), False),
        ("tie_word_embeddings", about.get("tie_word_embeddings", False), False),
    )
    check_same(same, "nanochat's model", path)
    return numbers


def check_same(numbers: Iterable[tuple[str, Any, Any]], model: str, path: Path) -> None:
    """Raise CourseError for the first (name, found, expected) in which config.json is of a variant of the model."""
    for name, found, expected in numbers:
        if type(found) is not type(expected) or found != expected:
            raise CourseError(f"{path} says {name}={repr(found)[:40]}, and {model} has {expected!r}; {ANOTHER}")


def finished(
    form: str,
    folder: Path,
    kind: type[GPTConfig] | type[GPT2Config],
    numbers: dict[str, Any],
    weights: Mapping[str, mx.array],
    quantization: dict[str, Any] | None = None,
) -> Pretrained:
    """The model of these numbers and arrays, with the tokenizer of the folder. Raises CourseError."""
    shown = whole_weights(weights, quantization) if quantization else weights  # for its shapes
    config = make_config(kind, numbers, shown, folder / "config.json")
    tokenizer = read_tokenizer(folder, GPT2Tokenizer if kind is GPT2Config else Tokenizer)
    check_vocabulary(config, tokenizer, folder)
    weights = without_padding(weights, config.vocab_size)
    return Pretrained(form, config, weights, tokenizer, quantization, notes=other_conversation(folder))


def other_conversation(folder: Path) -> tuple[str, ...]:
    """A note where the folder's chat template has not the tokens around messages with which the course writes them.

    The template is a program in Jinja, and is not run.
    """
    template = ""
    if path := file_in(folder, "chat_template.jinja"):
        template = read_whole(path, 1_000_000).decode(errors="replace")
    elif path := file_in(folder, "tokenizer_config.json"):
        template = str(read_json(path, 16_000_000).get("chat_template") or "")
    missing = [token for token in TURNS if template and token not in template]
    if not missing:
        return ()
    return (f"its chat template has no {missing[0]}, so it may be used to conversations of another form",)

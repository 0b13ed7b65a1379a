"""Folders of transformers' NanoChatForCausalLM: config.json, safetensors in one part or several, tokenizer.json.

The model is that of October 2025 under other names, the rotation and its sign included; numbers that transformers can
change and this model cannot are compared, one sentence each.

Source: transformers 5.24, models/nanochat.

Written by hand; chapter 22 uses it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig
from course_lib.weights.files import ANOTHER, file_in, read_json, read_whole
from course_lib.weights.pretrained import Pretrained, check_vocabulary, make_config, without_padding
from course_lib.weights.tokenizers import from_tokenizer_json

NAMES = {
    r"model\.embed_tokens\.weight": "transformer.wte.weight",
    r"model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.weight": r"transformer.h.\1.attn.c_\2.weight",
    r"model\.layers\.(\d+)\.self_attn\.o_proj\.weight": r"transformer.h.\1.attn.c_proj.weight",
    r"model\.layers\.(\d+)\.mlp\.fc1\.weight": r"transformer.h.\1.mlp.c_fc.weight",
    r"model\.layers\.(\d+)\.mlp\.fc2\.weight": r"transformer.h.\1.mlp.c_proj.weight",
    r"lm_head\.weight": "lm_head.weight",
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
TURNS = "<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>"


def load_transformers(folder: Path, arrays: Mapping[str, mx.array]) -> Pretrained:
    """The model in a folder of transformers; arrays: of its safetensors, by their names. Raises CourseError."""
    path = folder / "config.json"
    about = read_json(path)
    weights = {our_name(name, folder): array for name, array in arrays.items()}
    numbers = read_numbers(about, path)
    numbers["norm_eps"] = about.get("rms_norm_eps", 1e-6)
    numbers["softcap"] = about.get("final_logit_softcapping", 15.0)
    return finished("transformers", folder, numbers, weights)


def our_name(name: str, folder: Path) -> str:
    """The course's name for one of transformers' arrays."""
    for theirs, ours in NAMES.items():
        if found := re.fullmatch(theirs, name, re.ASCII):
            return found.expand(ours)
    raise CourseError(f"{folder} has an array {name!r:.80}, which nanochat's model has not; {ANOTHER}")


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
    for name, found, expected in (
        ("rope_type", rope.get("rope_type", rope.get("type", "default")), "default"),
        ("hidden_act", about.get("hidden_act", "relu2"), "relu2"),
        ("intermediate_size", about.get("intermediate_size"), 4 * width),
        ("head_dim", about.get("head_dim") or width // heads, width // heads),
        ("attention_bias", about.get("attention_bias", False), False),
        ("tie_word_embeddings", about.get("tie_word_embeddings", False), False),
    ):
        if type(found) is not type(expected) or found != expected:
            raise CourseError(
                f"{path} says {name}={repr(found)[:40]}, and nanochat's model has {expected!r}; {ANOTHER}"
            )
    return numbers


def finished(
    form: str, folder: Path, numbers: dict[str, Any], weights: dict[str, mx.array], notes: tuple[str, ...] = ()
) -> Pretrained:
    """The model of these numbers and arrays, with the tokenizer of the folder. Raises CourseError."""
    config = make_config(GPTConfig, numbers, weights, folder / "config.json")
    tokenizer = read_tokenizer(folder)
    check_vocabulary(config, tokenizer, folder / "tokenizer.json")
    weights = without_padding(weights, config.vocab_size)
    return Pretrained(form, config, weights, tokenizer, notes=(*notes, *other_conversation(folder)))


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder of Hugging Face's."""
    path = file_in(folder, "tokenizer.json")
    if path is None:
        raise CourseError(f"there is no tokenizer.json in {folder}, and a model reads only its own; copy it there")
    return from_tokenizer_json(path)


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

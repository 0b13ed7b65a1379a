"""nanochat's own files: model_<step>.pt, meta_<step>.json, tokenizer.pkl and token_bytes.pt.

Both models that the course has, told apart by the names of their arrays: that of October 2025, and that of July 2026.
What was between them is another model, and is refused.

Source: nanochat, 4a87a0d and 92d63d4.

Written by hand; chapter 22 uses it.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig
from course_lib.model.gpt2026 import GPT2026Config
from course_lib.weights.files import ANOTHER, file_in, read_json
from course_lib.weights.pickles import load_encoding, load_torch
from course_lib.weights.pretrained import TORCH_EPS, Pretrained, check_vocabulary, make_config, without_padding
from course_lib.weights.tokenizers import from_encoding

ONLY_2026 = frozenset({"smear_gate", "smear_lambda", "backout_lambda", "resid_lambdas", "x0_lambdas", "value_embeds"})


def step_of(name: str) -> str | None:
    """The digits in a name model_<step>.pt; None for another name."""
    found = re.fullmatch(r"model_(\d{1,12})\.pt", name, re.ASCII)
    return found and found[1]


def newest_model(names: Iterable[str]) -> str | None:
    """Of the names model_<step>.pt among these, that of the last step; None where there is none."""
    steps = {name: step for name in names if (step := step_of(name))}
    return max(steps, key=lambda name: int(steps[name]), default=None)


def load_nanochat(path: Path) -> Pretrained:
    """The model of a file model_<step>.pt and of those beside it; the tokenizer may be where nanochat keeps it.

    Raises CourseError where one is missing, is damaged, or does not belong to the others.
    """
    folder, step = path.parent, step_of(path.name)
    if step is None:
        raise CourseError(f"{path.name} is no name of a model of nanochat; expected model_000650.pt or the like")
    checked, about = file_in(folder, path.name), file_in(folder, f"meta_{step}.json")
    if checked is None or about is None:
        missing = path.name if checked is None else f"meta_{step}.json"
        raise CourseError(f"there is no {missing} in {folder}, and the model cannot be read without it; copy it there")
    meta = read_json(about)
    weights = {name.removeprefix("_orig_mod."): array for name, array in load_torch(checked).items()}
    config = config_of(meta, weights, about)
    if type(config) is GPTConfig:
        weights = without_padding(weights, config.vocab_size)
    tokenizer, tokens = tokenizer_beside(folder)
    check_vocabulary(config, tokenizer, tokens)
    check_token_bytes(tokenizer, tokens)
    form = "nanochat (October 2025)" if type(config) is GPTConfig else "nanochat (July 2026)"
    measured = meta.get("val_bpb")
    known = {"bits_per_byte": measured} if type(measured) is float else {}
    return Pretrained(form, config, weights, tokenizer, step=int(step), about=known)


def config_of(meta: dict[str, Any], weights: dict[str, mx.array], path: Path) -> GPTConfig:
    """The numbers in meta_<step>.json; what older files do not say yet, as it was when they were written."""
    given = meta.get("model_config")
    if not isinstance(given, dict) or not {"vocab_size", "n_layer", "n_head", "n_embd"} <= given.keys():
        raise CourseError(f"{path} has no model_config with vocab_size, n_layer, n_head and n_embd; {ANOTHER}")
    given = {"sequence_len": 2048, "n_kv_head": given["n_head"]} | given
    own = {name.split(".")[0] for name in weights} & ONLY_2026
    kind = GPT2026Config if own else GPTConfig
    if own not in (set(), ONLY_2026):
        raise CourseError(
            f"{path.parent} holds a nanochat from between October 2025 and July 2026: it has {', '.join(sorted(own))} "
            f"but no {', '.join(sorted(ONLY_2026 - own))}; take one of these two"
        )
    if own:
        given = {"window_pattern": "L"} | given  # before there were windows
    elif set(str(given.pop("window_pattern", "L"))) != {"L"}:
        raise CourseError(f"{path} says that its model has windows, and its arrays are of October 2025; {ANOTHER}")
    known = kind.__dataclass_fields__.keys() - {"rope_base", "norm_eps", "softcap"}
    if odd := sorted(given.keys() - known):
        raise CourseError(f"{path} has {odd[0]!r:.40} in its model_config, which no model here has; {ANOTHER}")
    return make_config(kind, given | {"norm_eps": TORCH_EPS}, weights, path)


def tokenizer_beside(folder: Path) -> tuple[Tokenizer, Path]:
    """The tokenizer of a checkpoint, and its file: tokenizer.pkl in its folder, or in tokenizer/ there or two up.

    Two up is where nanochat itself has it, beside base_checkpoints/d20.
    """
    for home in (folder, folder / "tokenizer", folder.absolute().parents[1] / "tokenizer"):
        if path := file_in(home, "tokenizer.pkl"):
            return from_encoding(load_encoding(path), path), path
    raise CourseError(f"there is no tokenizer.pkl in {folder}, and a model reads only its own; copy it there")


def check_token_bytes(tokenizer: Tokenizer, path: Path) -> None:
    """Raise CourseError where token_bytes.pt, if it is there, counts the bytes of another tokenizer.

    nanochat counts those of a token's text: 3 where it is half a character, as the sign for that has 3.
    """
    counted = file_in(path.parent, "token_bytes.pt")
    if counted is None:
        return
    tokens = [tokenizer.token(n).decode(errors="replace").encode() for n in range(tokenizer.bos)]
    of_text = [*map(len, tokens), *[0] * (tokenizer.vocab_size - tokenizer.bos)]
    (found,) = load_torch(counted).values()
    if found.shape != (len(of_text),) or found.tolist() not in (of_text, tokenizer.token_bytes.tolist()):
        raise CourseError(f"{counted} counts other bytes than the tokens in {path} have; take both from one place")

"""What is read from a run's folder is checked before it is used: it may be damaged, a part of one, or a stranger's.

Written by hand; chapter 10 uses it.
"""

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from course_lib.data.tokenizer import Tokenizer, default_folder
from course_lib.host.errors import CourseError
from course_lib.host.paths import home_dir
from course_lib.model.gpt import GPTConfig
from course_lib.model.kinds import config_class

LONGEST = 1 << 20  # tokens of context: RoPE's tables grow with them
KINDS: dict[str, tuple] = {
    "step": (int,),
    "config": (dict,),
    "settings": (dict,),
    "tokenizer": (str,),
    "processes": (int,),
}
KINDS |= {"seconds": (int, float), "bits_per_byte": (int, float, type(None))}


def check_meta(meta: object, path: Path) -> None:
    """Raise CourseError for what no checkpoint at `path` says of itself. Only `step` has to be there."""
    if not isinstance(meta, dict) or "step" not in meta:
        raise CourseError(f"{path} is no checkpoint: its meta.json is no object with a step; use another checkpoint")
    for name, kinds in KINDS.items():
        if name in meta and (not isinstance(meta[name], kinds) or isinstance(meta[name], bool)):
            raise CourseError(
                f"{path} is no checkpoint: its meta.json has {name}={meta[name]!r:.40}, expected {kinds[0].__name__}; "
                "use another checkpoint"
            )


def check_has(meta: dict, *names: str) -> None:
    """Raise CourseError when a checkpoint does not say what is needed of it."""
    if missing := [name for name in names if name not in meta]:
        raise CourseError(
            f"the checkpoint's meta.json has no {' and no '.join(missing)}, so it is none that a run of this course "
            "wrote; choose another --tag, or train one with `base_train`"
        )


def nothing_in(folder: Path) -> str:
    """The sentence for a folder without a whole checkpoint, by what it has instead."""
    others = {"*.pt": "nanochat's own", "*.bin": "PyTorch's", "config.json": "Hugging Face's", "*.gguf": "llama.cpp's"}
    for pattern, whose in others.items():
        if any(folder.glob(pattern)) or any(folder.glob(f"*/{pattern}")):
            return f"{folder} has a model in {whose} form, and this program reads those of `base_train` only; train one"
    return f"{folder} holds no checkpoint that is whole; train one with `base_train`, or choose another --tag"


def config_of(meta: dict, weights: Mapping) -> GPTConfig:
    """The model's numbers that a checkpoint says, when they may be those of its weights; so that nothing huge is built.

    weights: arrays by name. Raises CourseError.
    """
    check_has(meta, "config", "tokenizer")
    given = meta["config"]
    kind = config_class(given)
    names = {field.name for field in fields(kind)}
    if given.keys() != names:
        raise CourseError(
            f"the checkpoint's config has {', '.join(sorted(given)) or 'nothing'}, expected "
            f"{', '.join(sorted(names))}; it is of another program or version: choose another --tag"
        )
    for field in fields(kind):
        if field.type is str:
            if not isinstance(given[field.name], str) or len(given[field.name]) > 1000:
                raise CourseError(
                    f"the checkpoint's config has a {field.name} that is no short text; choose another --tag"
                )
            continue
        value, kinds = given[field.name], (int,) if field.type is int else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool) or not 0 < value < 1e12:
            raise CourseError(
                f"the checkpoint's config has {field.name}={value!r:.40}, expected a number above 0 and below 1e12; "
                "choose another --tag"
            )
    config = kind(**given)
    table = weights.get("transformer.wte.weight")
    blocks = len({name.split(".")[2] for name in weights if name.startswith("transformer.h.")})
    have = (blocks, *(table.shape if table is not None else ()))
    rows = getattr(config, "padded_vocab_size", config.vocab_size)
    if have != (config.n_layer, rows, config.n_embd) or config.sequence_len > LONGEST:
        raise CourseError(
            f"the checkpoint's config says n_layer={config.n_layer}, vocab_size={rows} and "
            f"n_embd={config.n_embd}, its weights {have}, and sequence_len={config.sequence_len}, at most {LONGEST}; "
            "choose another --tag"
        )
    return config


def tokenizer_of(folder: Path, fingerprint: str) -> Tokenizer:
    """The tokenizer with this fingerprint: the run's own or, when that is damaged, the same one from elsewhere.

    Elsewhere: where `tok_train` puts it, and the other runs; a line on stderr says from where. Raises CourseError.
    """
    own = folder / "tokenizer"
    if not own.exists():
        wrong = f"there is no tokenizer in {folder}, and a model reads only its own; copy that folder too"
    else:
        try:
            tokenizer = Tokenizer.load(own)
            if tokenizer.fingerprint == fingerprint:
                return tokenizer
            wrong = f"{own} is not the tokenizer that this model was trained with; copy that one there"
        except CourseError as error:
            wrong = f"{str(error).rpartition('; ')[0]}; copy the same tokenizer there from another folder"
    for other in [default_folder(), *sorted(home_dir().glob("checkpoints/*/*/tokenizer"))]:
        if (other / f"ranks-{fingerprint}.tiktoken").exists():
            try:
                tokenizer = Tokenizer.load(other)
            except CourseError:
                continue
            print(f"{own} is missing, damaged or another; taking the same one from {other}", file=sys.stderr)
            return tokenizer
    raise CourseError(wrong)

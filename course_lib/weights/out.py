"""A model of the course in the form of another program: mlx-lm, transformers, or nanochat itself.

All three know the model of October 2025. mlx-lm and transformers know no other, and some of its numbers are fixed
there: what they cannot say is refused in a sentence. norm_eps is the exception: with another one logits may change by a
thousandth, so that is a note on the model card.

Written by hand; chapter 22 uses it.
"""

import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import mlx.core as mx
import tiktoken

from course_lib.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from course_lib.host.errors import CourseError
from course_lib.host.files import make_folder_atomically
from course_lib.model.gpt import GPTConfig
from course_lib.model.gpt2026 import GPT2026Config
from course_lib.train.checkpoint import save_arrays
from course_lib.weights.hugging_face import NAMES, NUMBERS, renamed
from course_lib.weights.tokenizer_json import CHAT_TEMPLATE, tokenizer_config, tokenizer_json
from course_lib.weights.torch_file import save_torch

Form = Literal["mlx-lm", "transformers", "nanochat", "gguf"]
WRITTEN = re.compile(  # names of what is written here, and of nothing else: such a folder may be replaced
    r"README\.md|(config|generation_config|tokenizer|tokenizer_config)\.json|chat_template\.jinja|model\.safetensors"
    r"|model_\d+\.pt|meta_\d+\.json|tokenizer\.pkl|token_bytes\.pt"
)

# ---- names and numbers


def transformers_name(name: str) -> str:
    """The name that transformers' NanoChatForCausalLM has for one of our parameters."""
    return renamed(name, {ours: theirs for theirs, ours in NAMES.items()}) or name


# By form, the norm_eps with which the other program computes (None: it reads it from config.json), and which other
# numbers are fixed there.
EPS = {"mlx-lm": 1e-5, "transformers": None, "nanochat": 2.0**-23}
FIXED = {
    "mlx-lm": {"softcap": 15.0},
    "transformers": {},
    "nanochat": {"softcap": 15.0, "rope_base": 10000.0},
}


def check_form(form: str, config: GPTConfig) -> list[str]:
    """What a reader of the folder should know. Raises CourseError for what the other program cannot say."""
    if form == "gguf":
        raise CourseError(
            "llama.cpp does not know nanochat's architecture (gguf 0.19 lists none of that name), so a GGUF file would "
            "run nowhere; use --to mlx-lm or transformers"
        )
    fixed = FIXED[form]
    if isinstance(config, GPT2026Config):
        if form != "nanochat":
            raise CourseError(
                f"{form} knows nanochat's model of October 2025 only, and this one is of July 2026; use --to nanochat"
            )
        fixed = fixed | {"rope_base": 100_000.0}
    for name, value in fixed.items():
        if getattr(config, name) != value:
            raise CourseError(
                f"{name}={getattr(config, name)}, but in {form} it is {value} for every such model; choose another --to"
            )
    eps = EPS[form]
    if eps is None or eps == config.norm_eps:
        return []
    return [
        f"norm_eps is {config.norm_eps:g} in the course and {eps:.3g} in {form}, which no file can change: logits "
        "may differ by a thousandth"
    ]


def hugging_face_config(config: GPTConfig, tokenizer: Tokenizer, dtype: str) -> dict:
    """config.json, which mlx-lm and transformers both read; each takes the keys that it knows."""
    return {
        "model_type": "nanochat",
        **{theirs: getattr(config, ours) for theirs, ours in NUMBERS.items()},
        "intermediate_size": 4 * config.n_embd,
        "hidden_act": "relu2",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "final_logit_softcapping": config.softcap,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "dtype": dtype,
        **stops(tokenizer),
    }


def stops(tokenizer: Tokenizer) -> dict:
    """The ids that begin, end and fill up a text; the engine stops at either of two."""
    end = tokenizer.special("<|assistant_end|>")
    return {"bos_token_id": tokenizer.bos, "eos_token_id": [end, tokenizer.bos], "pad_token_id": end}


# ---- a folder


@dataclass(frozen=True)
class Export:
    """What goes out.

    weights: by our names; meta: of the checkpoint; name: of the model; chat: whether it was fine-tuned for
    conversations; report: its report card in Markdown, if there is one. quantization: what config.json of mlx-lm says
    of weights in fewer bits, None: there are none.
    """

    weights: Mapping[str, mx.array]
    config: GPTConfig
    tokenizer: Tokenizer
    meta: dict
    name: str
    chat: bool = True
    report: str | None = None
    quantization: dict | None = None

    def having(self, weights: Mapping[str, mx.array], quantization: dict | None) -> "Export":
        """The same with other weights."""
        return replace(self, weights=weights, quantization=quantization)


def write_folder(export: Export, form: Form, out: Path, overwrite: bool = False) -> list[str]:
    """Write the model into the folder `out`, whole or not at all; gives notes for whoever uses it.

    Raises CourseError for what the other program cannot say, a folder that is there, and a full disk.
    """
    notes = check_form(form, export.config)
    if export.quantization and form != "mlx-lm":
        raise CourseError(f"{form} cannot read MLX's weights of fewer bits; use --to mlx-lm, or leave out --bits")
    write: Callable = _write_nanochat if form == "nanochat" else _write_hugging_face
    check_replaceable(out, overwrite)
    aside = out.with_name(f".{out.name}.old") if out.exists() else None
    try:
        with make_folder_atomically(out, aside) as part:
            write(export, form, part)
            (part / "README.md").write_text(model_card(export, form, notes), encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise CourseError(f"cannot write {out} ({error}); free some space, or choose another --out") from error
    return notes


def check_replaceable(out: Path, overwrite: bool) -> None:
    """Raise CourseError for a file, a folder with anything that no `convert` wrote, and a written one unless asked."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not all(path.is_file() and WRITTEN.fullmatch(path.name) for path in out.iterdir()):
        raise CourseError(f"{out} holds what `convert` did not write, and it is left alone; choose another --out")
    if not overwrite:
        raise CourseError(f"{out} is there already; add --overwrite to replace it, or choose another --out")


def _write_hugging_face(export: Export, form: Form, part: Path) -> None:
    """config.json, generation_config.json, the weights, the tokenizer, the chat template."""
    tokenizer = export.tokenizer
    weights = dict(export.weights)
    floats = (array.dtype for array in weights.values() if mx.issubdtype(array.dtype, mx.floating))
    dtype = str(next(floats, mx.bfloat16)).removeprefix("mlx.core.")  # none: four-bit floats with scales of 8 bits
    config = hugging_face_config(export.config, tokenizer, dtype)
    if form == "transformers":
        weights = {transformers_name(name): array for name, array in weights.items()}
        config["architectures"] = ["NanoChatForCausalLM"]
    if export.quantization:
        config["quantization"] = export.quantization
    save_arrays(part / "model.safetensors", weights, {"format": "pt" if form == "transformers" else "mlx"})
    end = "<|assistant_end|>" if export.chat else "<|bos|>"
    _write_json(part / "config.json", config)
    _write_json(part / "generation_config.json", stops(tokenizer))
    _write_json(part / "tokenizer.json", tokenizer_json(tokenizer))
    _write_json(part / "tokenizer_config.json", tokenizer_config(tokenizer, export.config.sequence_len, end))
    if export.chat:
        (part / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _write_nanochat(export: Export, form: Form, part: Path) -> None:
    """model_….pt, meta_….json, tokenizer.pkl, token_bytes.pt, as nanochat's own programs leave them."""
    tokenizer, step = export.tokenizer, f"{export.meta['step']:06d}"
    in_its_code, settings = ("rope_base", "norm_eps", "softcap"), export.meta.get("settings", {})
    config = {name: value for name, value in asdict(export.config).items() if name not in in_its_code}
    meta = {
        "step": export.meta["step"],
        "val_bpb": export.meta.get("bits_per_byte"),
        "model_config": config,
        "user_config": {name: value for name, value in settings.items() if isinstance(value, int | float)},  # no paths
    }
    save_torch(part / f"model_{step}.pt", export.weights)
    _write_json(part / f"meta_{step}.json", meta)
    special = {name: tokenizer.special(name) for name in SPECIAL_TOKENS}
    encoding = tiktoken.Encoding(
        "rustbpe", pat_str=tokenizer.pattern, mergeable_ranks=tokenizer.mergeable_ranks, special_tokens=special
    )
    with (part / "tokenizer.pkl").open("wb") as file:
        pickle.dump(encoding, file)
    save_torch(part / "token_bytes.pt", tokenizer.token_bytes.astype(mx.int32))


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# ---- the model card


HOW_TO = {
    "mlx-lm": "mlx_lm.{program} --model {name}{prompt}",
    "transformers": 'model = AutoModelForCausalLM.from_pretrained("{name}")',
    "nanochat": "copy model_*.pt and meta_*.json to {stage}_checkpoints/{name}, tokenizer.pkl and token_bytes.pt to "
    "tokenizer, both in NANOCHAT_BASE_DIR",
}


CHAT_NOTES = [
    "- The chat template refuses messages that contain the name of a special token.",
    "- The model calls a calculator by `<|python_start|>2+3<|python_end|>`, and expects its result between "
    "`<|output_start|>` and `<|output_end|>`. Programs that do not know this show the call and compute nothing.",
]


def model_card(export: Export, form: Form, notes: list[str]) -> str:
    """README.md: what the model is, how to run it, what to know, and its report card."""
    config, chat = export.config, export.chat
    library = {"mlx-lm": "mlx", "transformers": "transformers", "nanochat": "pytorch"}[form]
    how_to = HOW_TO[form].format(
        name=export.name,
        program="chat" if chat else "generate",
        prompt="" if chat else ' --prompt "Once"',
        stage="chatsft" if chat else "base",
    )
    packed, count = export.quantization, sum(array.size for array in export.weights.values())
    source = "It was trained in a course that builds nanochat in MLX: do not rely on what it says."
    if imported := export.meta.get("form"):
        source = f"It was converted from its files for {imported}."
    lines = [
        "---",
        f"library_name: {library}",
        "pipeline_tag: text-generation",
        "tags: [nanochat]",
        "---",
        "",
        f"# {export.name}",
        "",
        f"A GPT of nanochat's design with {config.n_layer} layers, {config.n_embd} wide, a vocabulary of "
        f"{config.vocab_size:,} and a context of {config.sequence_len:,} tokens"
        + (f", its matrices in {packed['bits']} bits. " if packed else f": {count:,} parameters. ")
        + ("It was fine-tuned for conversations." if chat else "It was pretrained, and not fine-tuned.")
        + f" {source}",
        "",
        f"```\n{how_to}\n```",
        "",
        *(f"- {note}." for note in notes),
        *(CHAT_NOTES if chat and form != "nanochat" else []),
    ]
    return "\n".join([*lines, "", *([export.report] if export.report else [])])

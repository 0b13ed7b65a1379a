"""Our tokenizer as `tokenizers` and `transformers` read it, and the form of a conversation as a Jinja template.

Written by hand; chapter 22 uses it.
"""

from course_lib.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from course_lib.weights.tokenizers import byte_alphabet

CHARACTERS = {byte: character for character, byte in byte_alphabet().items()}

# The conversation of chapter 13. A special token's name inside a text would become that token, and a user could write
# what only the assistant may: so it is refused. So are two texts in a row in one message, as they would be encoded as
# one.
CHAT_TEMPLATE = """\
{%- macro plain(content) -%}
{%- if content is not string -%}{{ raise_exception("a message's content is no text") }}{%- endif -%}
{%- for name in SPECIALS -%}
{%- if name in content -%}{{ raise_exception("a message contains " ~ name) }}{%- endif -%}
{%- endfor -%}
{{- content -}}
{%- endmacro -%}
{%- set ns = namespace(system="", turn="user") -%}
{{- "<|bos|>" -}}
{%- for message in messages -%}
{%- if message.role == "system" and loop.first and not loop.last -%}
{%- set ns.system = plain(message.content) ~ "\\n\\n" -%}
{%- elif message.role != ns.turn -%}
{{- raise_exception("user and assistant take turns, the user first, after a system message if there is one") -}}
{%- elif message.role == "user" -%}
{{- "<|user_start|>" ~ plain(ns.system) ~ plain(message.content) ~ "<|user_end|>" -}}
{%- set ns.system = "" -%}
{%- set ns.turn = "assistant" -%}
{%- else -%}
{{- "<|assistant_start|>" -}}
{%- for part in ([{"type": "text", "text": message.content}] if message.content is string else message.content) -%}
{%- if part.type == "text" -%}
{%- if not loop.first and loop.previtem.type == "text" -%}{{ raise_exception("join texts in a row") }}{%- endif -%}
{{- plain(part.text) -}}
{%- elif part.type == "python" -%}
{{- "<|python_start|>" ~ plain(part.text) ~ "<|python_end|>" -}}
{%- elif part.type == "python_output" -%}
{{- "<|output_start|>" ~ plain(part.text) ~ "<|output_end|>" -}}
{%- else -%}
{{- raise_exception("a part of a message is of type text, python or python_output") -}}
{%- endif -%}
{%- endfor -%}
{{- "<|assistant_end|>" -}}
{%- set ns.turn = "user" -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{%- if ns.turn == "user" -%}{{ raise_exception("the last message is the assistant's") }}{%- endif -%}
{{- "<|assistant_start|>" -}}
{%- endif -%}
""".replace("SPECIALS", str(list(SPECIAL_TOKENS)))


def as_characters(token: bytes) -> str:
    """The bytes of a token as GPT-2's vocabulary shows them: a space is Ġ, a newline Ċ."""
    return "".join(CHARACTERS[byte] for byte in token)


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """All pairs of tokens that make a token, in the order in which they are merged.

    tiktoken knows no pairs: it merges any two neighbours whose bytes together are a token, the lowest rank first. So
    each way to cut a token into two tokens is a pair.
    """
    cuts = ((token, n) for token in sorted(ranks, key=ranks.__getitem__) for n in range(1, len(token)))
    return [(token[:n], token[n:]) for token, n in cuts if token[:n] in ranks and token[n:] in ranks]


def tokenizer_json(tokenizer: Tokenizer) -> dict:
    """What tokenizer.json holds. Its ids are ours; a text for which special tokens are asked begins with <|bos|>."""
    ranks, bos = tokenizer.mergeable_ranks, "<|bos|>"
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    template = [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tokenizer.special(name), "content": name, **plain, "special": True} for name in SPECIAL_TOKENS
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": tokenizer.pattern}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template,
            "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [tokenizer.bos], "tokens": [bos]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # a piece that is a token needs no merging: tiktoken looks there first, too
            "vocab": {as_characters(token): rank for token, rank in sorted(ranks.items(), key=lambda item: item[1])},
            "merges": [[as_characters(left), as_characters(right)] for left, right in merges(ranks)],
        },
    }


def tokenizer_config(tokenizer: Tokenizer, sequence_len: int, end: str) -> dict:
    """What tokenizer_config.json holds; end: the token that ends a text, and fills up shorter ones of a batch."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": end,
        "pad_token": end,
        "model_max_length": sequence_len,
        "clean_up_tokenization_spaces": False,
    }

"""Other programs' tokenizers as the course's Tokenizer: the same ids for every text, or a refusal.

Written by hand; chapter 22 uses it.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

from course_lib.data.tokenizer import PATTERN, SPECIAL_TOKENS, Tokenizer
from course_lib.host.errors import CourseError
from course_lib.weights.files import ANOTHER, or_damaged, read_json

MOST_BYTES = 16_000_000  # of a tokenizer.json: one of 65,536 tokens has 5 MB
MOST_WORK = 20_000_000  # comparisons to check merges; those of GPT-2's 50,257 tokens take 3 million

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# A pattern is a program too: one may work for ever at a text of thirty letters. So only these are let in: nanochat's
# with numbers of two digits (October 2025 and since), of three, as in GPT-4, and GPT-2's.
PATTERNS = frozenset({PATTERN, PATTERN.replace("{1,2}", "{1,3}"), GPT2_PATTERN})


def from_encoding(state: Mapping[str, Any], path: Path) -> Tokenizer:
    """Of what tiktoken's Encoding holds, `load_encoding`'s dict."""
    with or_damaged(path):
        return checked(state["mergeable_ranks"], state["pat_str"], state["special_tokens"], path)


def checked(ranks: Any, pattern: Any, specials: Any, path: Path) -> Tokenizer:
    """A Tokenizer of these, if the course can have it: known pattern, nine special tokens after the merges."""
    if type(pattern) is not str or type(ranks) is not dict or type(specials) is not dict:  # before any is shown
        raise ValueError("a tokenizer of other things than texts and numbers")
    if pattern not in PATTERNS:
        raise CourseError(
            f"{path} splits text by {pattern!r:.60}, and only patterns of nanochat and GPT-2 are let in: another may "
            "never end; take a model with one of these"
        )
    if not all(type(token) is bytes and token for token in ranks):
        raise ValueError("tokens that are no bytes")
    if not all(type(rank) is int for rank in ranks.values()):
        raise ValueError("ranks that are no whole numbers")
    expected = {name: len(ranks) + n for n, name in enumerate(SPECIAL_TOKENS)}
    if specials != expected:
        raise CourseError(
            f"{path} has the special tokens {', '.join(map(str, list(specials)[:12])) or 'none'!s:.200}, expected "
            f"nanochat's nine after the {len(ranks)} others, {SPECIAL_TOKENS[0]} first; take a model of nanochat's form"
        )
    return Tokenizer(ranks, pattern)


def from_tokenizer_json(path: Path) -> Tokenizer:
    """Of Hugging Face's tokenizer.json, when it is byte-level BPE and splits and merges as tiktoken does."""
    about = read_json(path, MOST_BYTES)
    with or_damaged(path):
        model = about["model"]
        odd = [name for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]
        if model.get("type") != "BPE" or model.get("byte_fallback") or about.get("normalizer") or odd:
            raise CourseError(f"{path} is no byte-level BPE without extras, as GPT-2's and nanochat's are; {ANOTHER}")
        specials = {token["content"]: token["id"] for token in about["added_tokens"]}
        byte_of = byte_alphabet()
        ranks = {
            bytes(byte_of[character] for character in token): rank
            for token, rank in model["vocab"].items()
            if token not in specials
        }
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        merges = [tuple(bytes(byte_of[character] for character in half) for half in pair) for pair in pairs]
        tokenizer = checked(ranks, split_pattern(about["pre_tokenizer"]), specials, path)
        check_merges(ranks, merges)
        return tokenizer


def byte_alphabet() -> dict[str, int]:
    """The character of each byte in GPT-2's files: its own where that can be seen, else one from U+0100 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


def split_pattern(pre_tokenizer: dict[str, Any]) -> str:
    """The pattern by which a tokenizer.json splits a text before its bytes are merged."""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    *before, last = steps
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or len(before) > 1:
        raise ValueError("text that is prepared in another way")
    by_itself = last.get("use_regex", True)
    if by_itself and not before:
        return GPT2_PATTERN
    (split,) = before
    if by_itself or split["type"] != "Split" or split["behavior"] != "Isolated" or split["invert"]:
        raise ValueError("text that is split in another way")
    return split["pattern"]["Regex"]


def check_merges(ranks: dict[bytes, int], merges: list[tuple[bytes, ...]]) -> None:
    """Raise ValueError where a list of merges could give other ids than ranks alone do, as tiktoken reads them.

    They agree when the merges stand in the order of the tokens that they make, and when for each token the pair is
    listed into which its bytes fall by the merges before it.
    """
    made = [ranks[first + second] for first, second in merges]
    if made != sorted(made):
        raise ValueError("merges that do not stand in the order of their tokens")
    if sum(len(token) ** 2 for token in ranks) > MOST_WORK:
        raise ValueError("tokens that are too long")
    listed = set(merges)
    for token, rank in ranks.items():
        if len(token) > 1 and last_pair(ranks, token, rank) not in listed:
            raise ValueError("a token that its merges do not reach")


def last_pair(ranks: dict[bytes, int], token: bytes, rank: int) -> tuple[bytes, ...]:
    """The parts of a token after all merges that come before its own, two in a trained tokenizer."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        best, place = min((ranks.get(first + second, inf), n) for n, (first, second) in enumerate(pairwise(parts)))
        if best >= rank:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return tuple(parts)

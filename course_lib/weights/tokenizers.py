"""Other programs' tokenizers as the course's Tokenizer: the same ids for every text, or a refusal.

Written by hand; chapter 22 uses it.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import tiktoken

from course_lib.data.tokenizer import PATTERN, SPECIAL_TOKENS, Tokenizer
from course_lib.host.errors import CourseError
from course_lib.weights.files import ANOTHER, file_in, or_damaged, read_json, read_whole

MOST_BYTES = 16_000_000  # of a tokenizer.json: one of 65,536 tokens has 5 MB
MOST_WORK = 20_000_000  # comparisons to check merges; those of GPT-2's 50,257 tokens take 3 million

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# A pattern is a program too: one may work for ever at a text of thirty letters. So only these are let in: nanochat's
# with numbers of two digits (October 2025 and since), of three, as in GPT-4, and GPT-2's.
PATTERNS = frozenset({PATTERN, PATTERN.replace("{1,2}", "{1,3}"), GPT2_PATTERN})


class GPT2Tokenizer(Tokenizer):
    """GPT-2's tokenizer. It has one special token, <|endoftext|>, which stands for each of the course's nine."""

    names = ("<|endoftext|>",)

    def __init__(self, mergeable_ranks: dict[bytes, int], pattern: str = GPT2_PATTERN):
        super().__init__(mergeable_ranks, pattern)
        self.bos = end = len(mergeable_ranks)
        self.vocab_size = end + 1
        self._special_ids = dict.fromkeys(SPECIAL_TOKENS, end)
        self.token_bytes = self.token_bytes[: self.vocab_size]
        self._encoding = tiktoken.Encoding(
            "gpt2", pat_str=pattern, mergeable_ranks=mergeable_ranks, special_tokens={self.names[0]: end}
        )


def read_tokenizer(folder: Path, kind: type[Tokenizer] = Tokenizer) -> Tokenizer:
    """The tokenizer of a folder of Hugging Face's: of tokenizer.json, GPT-2's rather of vocab.json and merges.txt."""
    path = file_in(folder, "tokenizer.json")
    if kind is GPT2Tokenizer:
        vocabulary, merges = file_in(folder, "vocab.json"), file_in(folder, "merges.txt")
        if vocabulary and merges:
            return from_vocabulary(vocabulary, merges)
    if path is None:
        others = ", nor vocab.json with merges.txt," if kind is GPT2Tokenizer else ""
        raise CourseError(
            f"there is no tokenizer.json{others} in {folder}, and a model reads only its own; copy it there"
        )
    return from_tokenizer_json(path, kind)


def from_encoding(state: Mapping[str, Any], path: Path) -> Tokenizer:
    """Of what tiktoken's Encoding holds, `load_encoding`'s dict."""
    with or_damaged(path):
        return checked(state["mergeable_ranks"], state["pat_str"], state["special_tokens"], path)


def checked(ranks: Any, pattern: Any, specials: Any, path: Path, kind: type[Tokenizer] = Tokenizer) -> Tokenizer:
    """A tokenizer of these, if the course can have it: known pattern, its kind's special tokens after the merges."""
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
    names, whose = SPECIAL_TOKENS, f"nanochat's nine, {SPECIAL_TOKENS[0]} first"
    if kind is GPT2Tokenizer:
        names, whose = GPT2Tokenizer.names, f"{GPT2Tokenizer.names[0]} alone"
    if specials != {name: len(ranks) + n for n, name in enumerate(names)}:
        raise CourseError(
            f"{path} has the special tokens {', '.join(map(str, list(specials)[:12])) or 'none'!s:.200}, expected "
            f"{whose}, after the {len(ranks)} others; take the tokenizer that the model was trained with"
        )
    return kind(ranks, pattern)


def from_tokenizer_json(path: Path, kind: type[Tokenizer] = Tokenizer) -> Tokenizer:
    """Of Hugging Face's tokenizer.json, when it is byte-level BPE and splits and merges as tiktoken does."""
    about = read_json(path, MOST_BYTES)
    with or_damaged(path):
        model = about["model"]
        odd = [name for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]
        if model.get("type", "BPE") != "BPE" or model.get("byte_fallback") or about.get("normalizer") or odd:
            raise CourseError(f"{path} is no byte-level BPE without extras, as GPT-2's and nanochat's are; {ANOTHER}")
        specials = {token["content"]: token["id"] for token in about["added_tokens"]}
        pattern = split_pattern(about["pre_tokenizer"])
        return from_names(model["vocab"], model["merges"], pattern, specials, path, kind)


def from_vocabulary(path: Path, merges: Path) -> Tokenizer:
    """Of GPT-2's vocab.json and merges.txt, a first line of which may name a version."""
    vocabulary = read_json(path, MOST_BYTES)
    with or_damaged(merges):
        lines = read_whole(merges, MOST_BYTES).decode().split("\n")
        pairs = [line for line in lines if line and not line.startswith("#version")]
    with or_damaged(path):
        specials = {name: vocabulary[name] for name in GPT2Tokenizer.names if name in vocabulary}
        return from_names(vocabulary, pairs, GPT2_PATTERN, specials, path, GPT2Tokenizer)


def from_names(
    vocabulary: dict[str, int],
    pairs: Iterable[str | list[str]],
    pattern: str,
    specials: dict[str, int],
    path: Path,
    kind: type[Tokenizer],
) -> Tokenizer:
    """Of tokens, and pairs to merge, in GPT-2's letters for bytes; path and kind: as `checked` has them."""
    byte_of = byte_alphabet()

    def as_bytes(name: str) -> bytes:
        return bytes(byte_of[character] for character in name)

    ranks = {as_bytes(name): rank for name, rank in vocabulary.items() if name not in specials}
    halves = (pair.split(" ") if isinstance(pair, str) else pair for pair in pairs)
    merges = [tuple(map(as_bytes, each)) for each in halves]
    tokenizer = checked(ranks, pattern, specials, path, kind)
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

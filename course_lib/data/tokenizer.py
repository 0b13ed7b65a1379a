"""Byte-level BPE as in nanochat (October 2025): trained by rustbpe, run by tiktoken.

Exported from notebooks/05_tokenizer.ipynb; edit it there.
"""

import codecs
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import rustbpe
import tiktoken

from course_lib.data.split_pattern import check_split_pattern
from course_lib.data.tokenizer_files import default_folder, fingerprint_of, load_files, save_files
from course_lib.data.tokenizer_input import (
    check_found,
    check_ranks,
    check_vocab_size,
    on_threads,
    safe_parts,
    safe_texts,
)
from course_lib.host.errors import CourseError

# ---- 5. The split pattern


PATTERN_PARTS = {
    "contraction": r"'(?i:[sdmt]|ll|ve|re)",
    "word": r"[^\r\n\p{L}\p{N}]?+\p{L}+",
    "number": r"\p{N}{1,2}",
    "signs": r" ?[^\s\p{L}\p{N}]++[\r\n]*",
    "newlines": r"\s*[\r\n]",
    "spaces": r"\s+(?!\S)",
    "space": r"\s+",
}

PATTERN = "|".join(PATTERN_PARTS.values())

# ---- 7. The tokenizer of the course


SPECIAL_TOKENS = (
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
)


class Tokenizer:
    """Text to ids and back: 256 bytes, then the merges, then the nine special tokens.

    mergeable_ranks: bytes of a token -> its id, 0 … n-1 without gaps, every single byte among them.
    token_bytes: (vocab_size,) int32, the length of each token in bytes, 0 for the special ones.
    Raises CourseError for ranks with gaps or without a byte, and for a pattern that loses text.
    """

    def __init__(self, mergeable_ranks: dict[bytes, int], pattern: str = PATTERN):
        check_ranks(mergeable_ranks)
        if pattern != PATTERN:
            check_split_pattern(pattern)
        self.mergeable_ranks = mergeable_ranks
        self.pattern = pattern
        self._special_ids = {name: len(mergeable_ranks) + n for n, name in enumerate(SPECIAL_TOKENS)}
        self.vocab_size = len(mergeable_ranks) + len(SPECIAL_TOKENS)
        self.bos = self._special_ids["<|bos|>"]
        ordered = sorted(mergeable_ranks, key=mergeable_ranks.__getitem__)
        self.token_bytes = mx.array([len(token) for token in ordered] + [0] * len(SPECIAL_TOKENS))
        self._encoding = tiktoken.Encoding(
            "course",
            pat_str=pattern,
            mergeable_ranks=mergeable_ranks,
            special_tokens=self._special_ids,
        )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, allow_smaller: bool = False) -> "Tokenizer":
        """A tokenizer of `vocab_size` ids, special tokens included, from the commonest pairs.

        Ties go to the smaller pair of ids. allow_smaller: take what there is when the texts yield
        fewer. Raises CourseError for vocab_size below 265, texts that yield fewer, or no texts.
        """
        check_vocab_size(vocab_size, len(SPECIAL_TOKENS))
        trainer, num_tokens = rustbpe.Tokenizer(), vocab_size - len(SPECIAL_TOKENS)
        trainer.train_from_iterator(safe_texts(texts), num_tokens, pattern=PATTERN)
        tokenizer = cls({bytes(token): rank for token, rank in trainer.get_mergeable_ranks()})
        if not allow_smaller:
            check_found(tokenizer.vocab_size, vocab_size)
        return tokenizer

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """Ids of `text`, after the id of <|bos|> when `bos`; "<|bos|>" in the text is plain text."""
        ids = [self.bos] if bos else []
        for part in safe_parts(text):
            ids += self._encoding.encode_ordinary(part)
        return ids

    def encode_batch(self, texts: list[str], bos: bool = False, num_threads: int | None = None) -> list[list[int]]:
        """Ids of each text, on `num_threads` threads (default: one for each core).

        Raises CourseError for num_threads below 1, or for one string in place of several.
        """
        return on_threads(partial(self.encode, bos=bos), texts, num_threads)

    def token(self, token_id: int) -> bytes:
        """Bytes of one id; of a special token, its name. Raises CourseError for any other id."""
        try:
            return self._encoding.decode_single_token_bytes(token_id)
        except (KeyError, OverflowError) as error:
            raise CourseError(
                f"{token_id} is not an id of this tokenizer; its ids go from 0 to {self.vocab_size - 1}"
            ) from error

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD. Raises CourseError as `token` does."""
        return b"".join(map(self.token, ids)).decode(errors="replace")

    def special(self, name: str) -> int:
        """Id of a special token, such as "<|bos|>". Raises CourseError for any other name."""
        if name not in self._special_ids:
            raise CourseError(f"{name!r} is not a special token; they are {', '.join(SPECIAL_TOKENS)}")
        return self._special_ids[name]

    def encode_arrays(self, texts: list[str], bos: bool = False, num_threads: int | None = None) -> list[np.ndarray]:
        """What `encode_batch` gives, as int32 arrays: faster, as no id becomes a Python number."""

        def encode(text: str) -> np.ndarray:
            parts = [np.array([self.bos] if bos else [], dtype=np.uint32)]
            for part in safe_parts(text):
                parts.append(self._encoding.encode_to_numpy(part, disallowed_special=()))
            return np.concatenate(parts).astype(np.int32)

        return on_threads(encode, texts, num_threads)

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits, a hash of pattern, special tokens and merges."""
        return fingerprint_of(self.mergeable_ranks, self.pattern, SPECIAL_TOKENS)

    def save(self, folder: str | Path) -> None:
        """Write ranks-….tiktoken and tokenizer.json into `folder`, in place of an older tokenizer's.

        Whenever this is interrupted, the folder holds the old tokenizer or the new one.
        """
        save_files(Path(folder), self.mergeable_ranks, self.pattern, SPECIAL_TOKENS)

    @classmethod
    def load(cls, folder: str | Path | None = None) -> "Tokenizer":
        """The tokenizer that `save` wrote into `folder` (default: where `tok_train` puts it).

        Raises CourseError when there is none, when it is damaged or was changed, or when another
        version of the course wrote it.
        """
        return cls(*load_files(Path(folder or default_folder()), SPECIAL_TOKENS))


# ---- 9. Half a character


class StreamDecoder:
    """Text of ids that come one by one: what `push` gives never ends inside a character."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Text that is complete with this id; "" while a character still lacks bytes."""
        return self._utf8.decode(self._tokenizer.token(token_id))

    def finish(self) -> str:
        """What was held back: U+FFFD for bytes that never became a character, else ""."""
        return self._utf8.decode(b"", final=True)


# ---- 10. How large a vocabulary?


def fitting_vocab_size(num_chars: int) -> int:
    """A vocabulary size for so much text: a power of two from 512 to 65,536.

    It leaves 600 characters or more for each token, where that is possible.
    """
    size = 512
    while size < 65_536 and 2 * size * 600 <= num_chars:
        size *= 2
    return size

"""Byte-level BPE as nanochat has it: trained by rustbpe, run by tiktoken, kept as text files.

Exported from notebooks/05_tokenizer.ipynb; edit it there.
"""

import base64
import codecs
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import rustbpe
import tiktoken

from course_lib.data.split_pattern import check_split_pattern
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically
from course_lib.host.paths import home_dir

# ---- 3. The split pattern


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

# ---- 5. The tokenizer of the course


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
    Raises CourseError for ranks with gaps or without a byte.
    """

    def __init__(self, mergeable_ranks: dict[bytes, int], pattern: str = PATTERN):
        missing = [byte for byte in range(256) if bytes([byte]) not in mergeable_ranks]
        if missing or sorted(mergeable_ranks.values()) != list(range(len(mergeable_ranks))):
            raise CourseError(
                f"these {len(mergeable_ranks)} ranks make no tokenizer; expected every single byte "
                "and the ids from 0 on without a gap: take them from Tokenizer.train"
            )
        self.mergeable_ranks = mergeable_ranks
        self.pattern = pattern
        self._special_ids = {name: len(mergeable_ranks) + n for n, name in enumerate(SPECIAL_TOKENS)}
        self.vocab_size = len(mergeable_ranks) + len(SPECIAL_TOKENS)
        self.bos = self._special_ids["<|bos|>"]
        ordered = sorted(mergeable_ranks, key=mergeable_ranks.__getitem__)
        self.token_bytes = mx.array([len(token) for token in ordered] + [0] * len(SPECIAL_TOKENS))
        if pattern != PATTERN:
            check_split_pattern(pattern)
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
        least = 256 + len(SPECIAL_TOKENS)
        if vocab_size < least:
            raise CourseError(
                f"vocab_size={vocab_size}, expected at least {least}: "
                f"256 bytes and {len(SPECIAL_TOKENS)} special tokens"
            )
        if isinstance(texts, str):
            raise CourseError("texts is one string, expected several; put it into a list: [text]")
        trainer = rustbpe.Tokenizer()
        trainer.train_from_iterator(_checked(texts), vocab_size - len(SPECIAL_TOKENS), pattern=PATTERN)
        tokenizer = cls({bytes(token): rank for token, rank in trainer.get_mergeable_ranks()})
        if tokenizer.vocab_size < vocab_size and not allow_smaller:
            raise CourseError(
                f"vocab_size={vocab_size}, but these texts have pairs for {tokenizer.vocab_size} only; "
                "ask for that many or fewer, or give more text"
            )
        return tokenizer

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """Ids of `text`, after the id of <|bos|> when `bos`; "<|bos|>" in the text is plain text."""
        first, *more = safe_parts(text)
        ids = self._encoding.encode_ordinary(first)
        for part in more:
            ids += self._encoding.encode_ordinary(part)
        if bos:
            ids.insert(0, self.bos)
        return ids

    def encode_batch(self, texts: list[str], bos: bool = False, num_threads: int | None = None) -> list[list[int]]:
        """Ids of each text, on `num_threads` threads (default: one for each core).

        Raises CourseError for num_threads below 1, or for one string in place of several.
        """
        return _on_threads(partial(self.encode, bos=bos), texts, num_threads)

    def encode_arrays(self, texts: list[str], bos: bool = False, num_threads: int | None = None) -> list[np.ndarray]:
        """What `encode_batch` gives, as int32 arrays: faster, as no id becomes a Python number."""

        def encode(text: str) -> np.ndarray:
            parts = [np.array([self.bos] if bos else [], dtype=np.uint32)]
            for part in safe_parts(text):
                parts.append(self._encoding.encode_to_numpy(part, disallowed_special=()))
            return np.concatenate(parts).astype(np.int32)

        return _on_threads(encode, texts, num_threads)

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

    def _rank_lines(self) -> str:
        ordered = sorted(self.mergeable_ranks.items(), key=lambda item: item[1])
        return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ordered)

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits, a hash of pattern, special tokens and merges."""
        parts = [self.pattern, *SPECIAL_TOKENS, self._rank_lines()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def _about(self) -> dict:
        return {
            "format": FORMAT,
            "ranks": f"ranks-{self.fingerprint}.tiktoken",
            "vocab_size": self.vocab_size,
            "pattern": self.pattern,
            "special_tokens": list(SPECIAL_TOKENS),
        }

    def save(self, folder: str | Path) -> None:
        """Write ranks-….tiktoken and tokenizer.json into `folder`, in place of an older tokenizer's.

        The ranks are in tiktoken's text form: a token in base64 and its rank, one a line. Whenever this
        is interrupted, the folder holds the old tokenizer or the new one.
        """
        folder, about = Path(folder), self._about()
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / about["ranks"]) as file:
            file.write(self._rank_lines())
        with write_atomically(folder / "tokenizer.json") as file:
            file.write(json.dumps(about, indent=2) + "\n")
        for old in folder.glob("ranks-*.tiktoken"):
            if old.name != about["ranks"]:
                old.unlink()

    @classmethod
    def load(cls, folder: str | Path | None = None) -> "Tokenizer":
        """The tokenizer that `save` wrote into `folder` (default: where `tok_train` puts it).

        Raises CourseError when there is none, when it is damaged or was changed, or when another
        version of the course wrote it.
        """
        about_file = Path(folder or default_folder()) / "tokenizer.json"
        again = "train one with `tok_train`"
        try:
            about = json.loads(about_file.read_text(encoding="utf-8"))
            version = about["format"]
            if version == FORMAT:
                lines = (about_file.parent / about["ranks"]).read_text(encoding="ascii").splitlines()
                ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}
                tokenizer = cls(ranks, about["pattern"])
        except OSError as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else f"({error.strerror})"
            raise CourseError(f"there is no tokenizer: {error.filename} {why}; {again}") from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CourseError(f"{about_file} or its ranks are damaged: {error}; {again}") from error
        if version != FORMAT:
            raise CourseError(f"{about_file} has format {version}, this version of the course reads {FORMAT}; {again}")
        if about != tokenizer._about():
            raise CourseError(f"{about_file} or its ranks were changed after they were saved; {again}")
        return tokenizer


LONG_SPACE = 100_000


def safe_parts(text: str) -> Iterator[str]:
    """The text as it is, or cut inside runs of more than 100,000 spaces.

    The split pattern needs memory for each space of a run: tiktoken and rustbpe fail at a million.
    Half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    start = 0
    if len(text) > LONG_SPACE:
        for run in re.finditer(rf"\s{{{LONG_SPACE}}}", text):
            yield text[start : run.end()]
            start = run.end()
    yield text[start:]


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise CourseError(f"text {number} is of type {type(text).__name__}, expected str; leave it out")
        yield from safe_parts(text)


def fitting_vocab_size(num_chars: int) -> int:
    """A vocabulary size for so much text: a power of two from 512 to 65,536.

    It leaves 600 characters or more for each token, where that is possible.
    """
    size = 512
    while size < 65_536 and 2 * size * 600 <= num_chars:
        size *= 2
    return size


def _on_threads(encode: Callable, texts: list[str], num_threads: int | None) -> list:
    if isinstance(texts, str):
        raise CourseError("texts is one string, expected several; put it into a list: [text]")
    if num_threads is not None and num_threads < 1:
        raise CourseError(f"num_threads={num_threads}, expected 1 or more, or None for every core")
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        return list(pool.map(encode, texts))


# ---- 7. Bytes that are no character


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


# ---- 9. Save and load


FORMAT = 1


def default_folder() -> Path:
    """Where `tok_train` puts a tokenizer and the other programs look for it."""
    return home_dir() / "tokenizer"

"""A tokenizer as two text files, which any program can read in ten years.

Written by hand; chapter 05 uses it.

`tokenizer.json` names the pattern, the special tokens and the file of ranks; that one is in tiktoken's form: a token in
base64 and its rank, one a line. Its name holds the fingerprint, and `tokenizer.json` is replaced last: whenever saving
is interrupted, the folder holds the old tokenizer or the new one, whole. No pickle: loading one runs code.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically
from course_lib.host.paths import home_dir

FORMAT = 1
AGAIN = "train one with `tok_train`"


def default_folder() -> Path:
    """Where `tok_train` puts a tokenizer and the other programs look for it."""
    return home_dir() / "tokenizer"


def fingerprint_of(ranks: dict[bytes, int], pattern: str, special_tokens: Sequence[str]) -> str:
    """12 hexadecimal digits, a hash of pattern, special tokens and merges."""
    parts = [pattern, *special_tokens, _rank_lines(ranks)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def save_files(folder: Path, ranks: dict[bytes, int], pattern: str, special_tokens: Sequence[str]) -> None:
    """Write ranks-….tiktoken and tokenizer.json into `folder`, in place of an older tokenizer's."""
    about = _about(ranks, pattern, special_tokens)
    folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / about["ranks"]) as file:
        file.write(_rank_lines(ranks))
    with write_atomically(folder / "tokenizer.json") as file:
        file.write(json.dumps(about, indent=2) + "\n")
    for old in folder.glob("ranks-*.tiktoken"):
        if old.name != about["ranks"]:
            old.unlink()


def load_files(folder: Path, special_tokens: Sequence[str]) -> tuple[dict[bytes, int], str]:
    """Ranks and pattern that `save_files` wrote into `folder`.

    Raises CourseError when they are missing, damaged, changed, or of another version of the course.
    """
    about_file = folder / "tokenizer.json"
    try:
        about = json.loads(about_file.read_text(encoding="utf-8"))
        version = about["format"]
        if version == FORMAT:
            lines = (folder / about["ranks"]).read_text(encoding="ascii").splitlines()
            ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}
            same = about == _about(ranks, about["pattern"], special_tokens)
    except OSError as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else f"({error.strerror})"
        raise CourseError(f"there is no tokenizer: {error.filename} {why}; {AGAIN}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CourseError(f"{about_file} or its ranks are damaged: {error}; {AGAIN}") from error
    if version != FORMAT:
        raise CourseError(f"{about_file} has format {version}, this version of the course reads {FORMAT}; {AGAIN}")
    if not same:
        raise CourseError(f"{about_file} or its ranks were changed after they were saved; {AGAIN}")
    return ranks, about["pattern"]


def _rank_lines(ranks: dict[bytes, int]) -> str:
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ordered)


def _about(ranks: dict[bytes, int], pattern: str, special_tokens: Sequence[str]) -> dict:
    return {
        "format": FORMAT,
        "ranks": f"ranks-{fingerprint_of(ranks, pattern, special_tokens)}.tiktoken",
        "vocab_size": len(ranks) + len(special_tokens),
        "pattern": pattern,
        "special_tokens": list(special_tokens),
    }

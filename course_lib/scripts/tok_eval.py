"""How many bytes a token of a tokenizer holds, on text of several kinds: `tok_eval --help`."""

import os
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tiktoken
from rich.table import Table

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir, home_dir, is_writable
from course_lib.host.program import run_program
from course_lib.host.progress import console

PEERS = ("gpt2", "cl100k_base")  # the tokenizers of GPT-2 and of GPT-4
WAIT = 20  # seconds for their download


@dataclass(frozen=True)
class Settings:
    """Bytes per token of your tokenizer on several kinds of text, beside GPT-2's and GPT-4's."""

    tokenizer: Path | None = None
    """Folder of the tokenizer; by default the one that `tok_train` made."""
    peers: bool = True
    """Compare with gpt2 and cl100k_base, which are downloaded once (3 MB)."""


def work(settings: Settings) -> None:
    """Print the table. Raises CourseError when a sample does not come back from its ids."""
    tokenizer = Tokenizer.load(settings.tokenizer)
    files = sorted((data_dir() / "samples").glob("*.txt"))
    peers = fetch_peers() if settings.peers else {}
    table = Table("sample", header_style="")
    for column in ("bytes", "tokens", "yours", *peers):
        table.add_column(column, justify="right")
    for file in files:
        text = file.read_text(encoding="utf-8")
        ids, size = tokenizer.encode(text), len(text.encode())
        if tokenizer.decode(ids) != text:
            raise CourseError(f"{file} does not come back from its ids; train again with `tok_train`")
        row = [size / len(peer.encode_ordinary(text)) for peer in peers.values()]
        ratios = [f"{ratio:.2f}" for ratio in (size / len(ids), *row)]
        table.add_row(file.stem, f"{size:,}", f"{len(ids):,}", *ratios)
    print(f"tokenizer with {tokenizer.vocab_size:,} ids; bytes per token, more is better:")
    console().print(table)
    print(f"all {len(files)} samples came back from their ids unchanged")


def fetch_peers() -> dict[str, tiktoken.Encoding]:
    """The tokenizers of PEERS that can be had in WAIT seconds; a line is printed for the others."""
    if is_writable(kept := home_dir() / "tiktoken"):  # else tiktoken keeps them elsewhere
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(kept))
    found: dict[str, tiktoken.Encoding | str] = dict.fromkeys(PEERS, f"no answer within {WAIT} seconds")

    def fetch() -> None:
        for name in PEERS:
            try:
                found[name] = tiktoken.get_encoding(name)
            except Exception as error:  # of the network, the disk or tiktoken: the table does without
                while earlier := error.__cause__ or error.__context__:  # the first cause says most
                    error = earlier
                found[name] = " ".join(str(error).split()) or type(error).__name__

    print(f"asking for {' and '.join(PEERS)} (downloaded once, 3 MB) …", flush=True)
    thread = threading.Thread(target=fetch, daemon=True)  # because tiktoken itself would wait for ever
    thread.start()
    thread.join(WAIT)
    peers = dict(found)  # as it is now
    for name, reason in peers.items():
        if isinstance(reason, str):
            print(f"{name} is left out, it cannot be had: {reason}", flush=True)
    return {name: peer for name, peer in peers.items() if not isinstance(peer, str)}


main = partial(run_program, "tok_eval", Settings, work)

if __name__ == "__main__":
    main()

# %% [markdown]
# # 06 · Data

# %%
#| export documents
"""Documents: the texts that files hold, one after another, whatever form the files have."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from course_lib.host.errors import CourseError

# %%
#| export documents
LONGEST = 20_000


def read_txt(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file, cut after blank lines (or where it must) into documents of 20,000 characters or fewer.

    The documents joined are the file's text. Raises CourseError for a file that is not UTF-8.
    """
    text = ""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            while more := file.read(LONGEST):
                text += more
                while len(text) > LONGEST:
                    cut = _last_break(text[:LONGEST])
                    yield text[:cut]
                    text = text[cut:]
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is not UTF-8; save it as UTF-8, or leave it out") from error
    yield text


def _last_break(text: str) -> int:
    """Where to cut: after the last blank line, else after the last line, else after the last space, else at the end."""
    for mark in ("\n\n", "\n", " "):
        if (found := text.rfind(mark)) > 0:
            return found + len(mark)
    return len(text)


# %%
#| export documents
def read_jsonl(path: Path) -> Iterator[str]:
    """The `text` of each line's JSON object; blank lines are skipped.

    Raises CourseError with the line's number for a line that is something else.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
                if not isinstance(text, str):
                    raise TypeError
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise CourseError(
                    f'{path}, line {number}: expected a JSON object such as {{"text": "…"}}; correct that line'
                ) from error
            yield text.encode("utf-16", "surrogatepass").decode(
                "utf-16", "replace"
            )  # "\ud800" is no character


# %%
#| export documents
def open_parquet(path: Path) -> pq.ParquetFile:
    """The parquet file, its footer read. Raises CourseError when it is damaged or has no column `text` of strings."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise CourseError(
            f"{path} is no complete parquet file; delete it and fetch or make it again"
        ) from error
    names = file.schema_arrow.names
    if "text" not in names:
        raise CourseError(
            f"{path} has no column `text`, but {', '.join(names) or 'none'}; rename the one with the text"
        )
    kind = file.schema_arrow.field("text").type
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    ):
        raise CourseError(f"{path}: the column `text` holds {kind}, expected string; convert it")
    return file


def read_parquet(path: Path, start: int = 0) -> Iterator[tuple[int, str]]:
    """(row, text) of a parquet file from row `start` on; rows without a text (null) are skipped.

    Raises CourseError as `open_parquet` does.
    """
    with open_parquet(path) as file:
        row, groups = 0, list(range(file.num_row_groups))
        while groups and row + file.metadata.row_group(groups[0]).num_rows <= start:
            row += file.metadata.row_group(groups.pop(0)).num_rows
        try:
            for batch in file.iter_batches(1024, row_groups=groups, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    if row >= start and text is not None:
                        yield row, text
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise CourseError(
                f"{path} is damaged after row {row}; delete it and fetch or make it again"
            ) from error


# %%
#| export documents
READERS = {
    ".txt": read_txt,
    ".jsonl": read_jsonl,
    ".parquet": lambda path: (text for _, text in read_parquet(path)),
}


def text_files(path: Path) -> list[Path]:
    """The .txt, .jsonl and .parquet files that `path` is or holds, in the order of their names.

    Raises CourseError when there are none.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    files = [file for file in files if file.suffix in READERS and not file.name.startswith(".")]
    if not files:
        raise CourseError(
            f"{path} has no text; expected a file or a folder of files: {', '.join(READERS)}"
        )
    return files


# %%
#| export dataset
"""Datasets: documents in parquet shards, the last shard for validation; made, found or fetched."""

import hashlib
import os
import platform
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from course_lib.documents import READERS, open_parquet, read_parquet, text_files
from course_lib.host import python_docs
from course_lib.host.download import Stopped, fetch
from course_lib.host.errors import CourseError
from course_lib.host.paths import home_dir


# %%
#| export dataset
def is_held_out(text: str) -> bool:
    """Whether a document belongs to validation: about one in twenty, always the same ones, equal texts alike."""
    return zlib.crc32(text.encode()) % 20 == 0


# %%
#| export dataset
HELD_OUT_CHARS = 10_000_000


def split_documents(documents: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """(held out?, document) of each document that is not only whitespace.

    After 10 million characters no more are held out. Where chance would leave one side empty, the last document goes
    there.
    """
    held_out_chars = trained_on = 0
    real = (text for text in documents if text.strip())
    for text, following in pairwise(chain(real, [None])):
        held_out = is_held_out(text) and held_out_chars < HELD_OUT_CHARS
        if following is None and (held_out_chars == 0 or trained_on == 0):
            held_out = held_out_chars == 0
        held_out_chars += len(text) * held_out
        trained_on += not held_out
        yield held_out, text


# %%
#| export dataset
def write_shards(documents: Iterable[str], folder: Path, shard_chars: int = 20_000_000) -> None:
    """Write documents into `folder` as shard_00000.parquet, …; the last shard holds the held-out ones.

    The folder appears when it is complete, and the same documents give the same bytes.
    Raises CourseError for fewer than two documents or a disk that fills up; then nothing is left.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    count, chars, waiting, held_out = 0, 0, [], []
    try:
        part.mkdir(parents=True)
        for is_val, text in split_documents(documents):
            (held_out if is_val else waiting).append(text)
            chars += 0 if is_val else len(text)
            if chars >= shard_chars:
                _write_shard(waiting, part, count)
                count, chars, waiting = count + 1, 0, []
        if waiting:
            _write_shard(waiting, part, count)
            count += 1
        if not (count and held_out):
            raise CourseError(
                f"too little text for {folder.name}: expected at least two documents, one to train on and one "
                "for validation; give more, or several files"
            )
        _write_shard(held_out, part, count)
        os.replace(part, folder)
    except OSError as error:
        raise CourseError(
            f"cannot write {folder}: {error}; free some space, or set COURSE_HOME"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_shard(texts: list[str], folder: Path, number: int) -> None:
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    pq.write_table(
        table, folder / f"shard_{number:05d}.parquet", row_group_size=1024, compression="zstd"
    )


# %%
#| export dataset
def bundled_folder() -> Path:
    """Folder of the bundled corpus, the documentation of this Python; collected on the first call."""
    folder = (
        home_dir() / "datasets" / f"bundled-1-python-{platform.python_version()}"
    )  # 1: of how it is collected
    with _only_one(folder):
        if not folder.exists():
            by_hash = sorted(
                python_docs.documents(), key=lambda text: hashlib.sha256(text.encode()).digest()
            )
            write_shards(by_hash, folder, shard_chars=1_000_000)
    return folder


def own_folder(path: Path) -> Path:
    """Folder of shards made of the files in `path`; made anew when they change.

    Raises CourseError for a file that cannot be read.
    """
    path = path.expanduser().resolve()
    files = text_files(path)
    seen = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    about_path, about_files = (
        hashlib.sha256(repr(x).encode()).hexdigest()[:8] for x in (str(path), seen)
    )
    home = home_dir() / "datasets" / f"own-{path.stem}-{about_path}"
    with _only_one(home):
        if not (home / about_files).exists():
            write_shards(chain.from_iterable(map(_texts, files)), home / about_files)
            for old in home.iterdir():
                if old.name != about_files:
                    shutil.rmtree(old)
    return home / about_files


def _texts(path: Path) -> Iterator[str]:
    try:
        yield from READERS[path.suffix](path)
    except OSError as error:
        raise CourseError(
            f"cannot read {path} ({error.strerror}); make it readable, or leave it out"
        ) from error


def _only_one(folder: Path) -> FileLock:
    """Held by one process at a time: several may want to make the same folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f".{folder.name}.lock"))


# %%
#| export dataset
@dataclass(frozen=True)
class Remote:
    """A corpus on the Hugging Face hub: shard_00000.parquet, …, the last one for validation."""

    repo: str
    num_shards: int

    def shard(self, number: int) -> str:
        """Name of a shard; -1 is the last one. Raises CourseError for a number that there is not."""
        if not -self.num_shards <= number < self.num_shards:
            raise CourseError(
                f"{self.repo} has no shard {number}; they go from 0 to {self.num_shards - 1}"
            )
        return f"shard_{number % self.num_shards:05d}.parquet"

    def fetch(self, name: str, folder: Path, **watch: Callable) -> None:
        """Bring a shard into `folder`, unless it is there, and check its footer. watch: as in `host.download.fetch`."""
        fetch(
            self.repo, name, folder / name, verify=lambda part: open_parquet(part).close(), **watch
        )


REMOTES = {
    "fineweb-edu": Remote("karpathy/fineweb-edu-100b-shuffle", 1823),
    "climbmix": Remote("karpathy/climbmix-400b-shuffle", 6543),
}


def remote_folder(name: str) -> Path:
    """Where `get_data` puts the shards of a remote corpus."""
    return home_dir() / "datasets" / name


# %%
#| export dataset
class ShardCache:
    """A remote corpus of which few shards are on disk: the next one is fetched while one is read.

    max_cached: shards on disk at a time, validation and the one that is being fetched included; 3 or more.
    """

    def __init__(self, remote: Remote, folder: Path, max_cached: int):
        if max_cached < 3:
            raise CourseError(
                f"max_cached_shards={max_cached}, expected 3 or more: one to read, the next one, and validation"
            )
        self.remote, self.folder, self.max_cached = remote, folder, max_cached
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ShardCache")
        self._fetching: dict[str, Future] = {}
        self._lock = threading.Lock()

    def get(self, name: str, following: str, stopped: Callable[[], bool]) -> Path:
        """Path of a shard, after waiting for it if need be; the `following` one is fetched in the background.

        Raises CourseError when it cannot be had, and Stopped when `stopped()` becomes true.
        """
        with self._lock:
            self._make_room({name, following, self.remote.shard(-1)})
            wanted, _ = self._fetch(name), self._fetch(following)
        while not wanted.done():
            if stopped():
                raise Stopped
            wait([wanted], timeout=0.2)
        wanted.result()
        return self.folder / name

    def _fetch(self, name: str) -> Future:
        future = self._fetching.get(name)
        if future is None or (future.done() and not (self.folder / name).exists()):
            future = self._pool.submit(self.remote.fetch, name, self.folder, stopped=_program_ends)
            self._fetching[name] = future
        return future

    def _make_room(self, needed: set[str]) -> None:
        others = [path for path in self.folder.glob("shard_*.parquet") if path.name not in needed]
        others.sort(key=lambda path: path.stat().st_mtime)
        for path in others[: max(len(others) + len(needed) - self.max_cached, 0)]:
            path.unlink(missing_ok=True)


def _program_ends() -> bool:
    return not threading.main_thread().is_alive()


# %%
#| export dataset
class Dataset:
    """Documents in parquet shards: `train` and `val` are the names of the shards of each split.

    Where a cache is given, a shard that is not in `folder` comes from there.
    """

    def __init__(self, name: str, folder: Path, shards: list[str], cache: ShardCache | None = None):
        if len(shards) < 2:
            raise CourseError(
                f"{folder} has {len(shards)} shards, expected two or more: the last is for validation"
            )
        self.name, self.folder, self._cache = name, folder, cache
        self._shards = {"train": shards[:-1], "val": shards[-1:]}

    def shards(self, split: str) -> list[str]:
        """Names of the shards of "train" or "val", in order. Raises CourseError for another split."""
        if split not in self._shards:
            raise CourseError(f"there is no split {split!r}; expected train or val")
        return self._shards[split]

    def path(self, split: str, number: int, stopped: Callable[[], bool] = lambda: False) -> Path:
        """File of the shard `number` of a split, fetched first when the dataset is streamed."""
        shards = self.shards(split)
        if self._cache is None or (self.folder / shards[number]).exists():
            return self.folder / shards[number]
        return self._cache.get(shards[number], shards[(number + 1) % len(shards)], stopped)

    def documents(self, split: str) -> Iterator[str]:
        """Every text of a split, once, in order."""
        for number in range(len(self.shards(split))):
            yield from (text for _, text in read_parquet(self.path(split, number)))


# %%
#| export dataset
def open_dataset(
    name: str = "bundled", streaming: bool = False, max_cached_shards: int = 8
) -> Dataset:
    """The dataset `name`: "bundled", "fineweb-edu", "climbmix", or the path of text of your own.

    streaming: fetch the shards of a remote corpus as they are needed and keep few, instead of using those that
    `get_data` has fetched. Raises CourseError when there is no such dataset, or nothing of it on disk.
    """
    if name in REMOTES:
        return _open_remote(name, streaming, max_cached_shards)
    if name == "bundled":
        folder = bundled_folder()
    elif Path(name).expanduser().exists():
        folder = own_folder(Path(name))
    else:
        known = ", ".join(["bundled", *REMOTES])
        raise CourseError(
            f"there is no dataset {name!r}; expected {known}, or an existing file or folder of text"
        )
    shards = sorted(path.name for path in folder.glob("*.parquet"))
    return Dataset(str(folder.relative_to(home_dir() / "datasets")), folder, shards)


def _open_remote(name: str, streaming: bool, max_cached_shards: int) -> Dataset:
    remote, folder = REMOTES[name], remote_folder(name)
    if streaming:
        every = [remote.shard(number) for number in range(remote.num_shards)]
        return Dataset(
            name, folder, every, ShardCache(remote, folder / "streamed", max_cached_shards)
        )
    here = sorted(path.name for path in folder.glob("shard_*.parquet"))
    if len(here) < 2 or here[-1] != remote.shard(-1):
        raise CourseError(
            f"{folder} lacks shards of {name}: fetch some and the validation shard with "
            f"`get_data --dataset {name} --shards 8`, or stream them"
        )
    return Dataset(name, folder, here)


# %%
#| export dataloader
"""Batches of ids for training: documents in one endless stream, tokenised ahead, cut into rows."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np

from course_lib.dataset import Dataset
from course_lib.documents import read_parquet
from course_lib.host.errors import CourseError
from course_lib.tokenizer import Tokenizer


# %%
#| export dataloader
def read_from(
    dataset: Dataset,
    split: str,
    position: dict,
    rank: int = 0,
    world_size: int = 1,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[dict, str]]:
    """(position, text) of the documents from `position` on, epoch after epoch, for ever.

    position: {"epoch", "shard", "row"}. Of `world_size` ranks each gets every world_size-th document, so that each
    document goes to exactly one. Raises CourseError when a rank finds no document in a whole epoch.
    """
    shards = dataset.shards(split)
    epoch, number, start = position["epoch"], shards.index(position["shard"]), position["row"]
    found = (
        number > 0 or start > 0
    )  # an epoch that began elsewhere may have had its documents there
    while True:
        for row, text in read_parquet(dataset.path(split, number, stopped), start):
            if (row + number) % world_size == rank:
                found = True
                yield {"epoch": epoch, "shard": shards[number], "row": row}, text
        number, start = number + 1, 0
        if number == len(shards):
            if not found:
                raise CourseError(
                    f"the {split} split of {dataset.name} has no document for rank {rank} of {world_size}; "
                    "give more text, or use fewer ranks"
                )
            epoch, number, found = epoch + 1, 0, False


# %%
#| export dataloader
DOCUMENTS_AT_ONCE = 128
CHARS_AT_ONCE = 2_000_000


def tokenized(
    documents: Iterator[tuple[dict, str]], tokenizer: Tokenizer, num_threads: int | None = None
) -> Iterator[tuple[dict, np.ndarray]]:
    """(position, ids) of each document, <|bos|> first; many documents are encoded at a time, on several threads."""
    positions, texts, chars = [], [], 0
    for position, text in documents:
        positions.append(position)
        texts.append(text)
        chars += len(text)
        if len(texts) == DOCUMENTS_AT_ONCE or chars >= CHARS_AT_ONCE:
            ids = tokenizer.encode_batch(texts, bos=True, num_threads=num_threads)
            yield from zip(positions, (np.array(row, dtype=np.int32) for row in ids), strict=True)
            positions, texts, chars = [], [], 0


# %%
#| export dataloader
def cut_batches(
    documents: Iterator[tuple[dict, np.ndarray]], batch_size: int, sequence_len: int, skip: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, dict]]:
    """(inputs, targets, position of the next token) of one batch after another, cut from the documents end to end.

    inputs, targets: (B, T) int32; the targets are the inputs one token later, across the ends of rows and batches.
    skip: tokens of the first document that earlier batches had.
    """
    size = batch_size * sequence_len
    waiting, have = deque(), -skip
    for document in documents:
        waiting.append(document)
        have += len(document[1])
        while have > size:
            flat = _first(waiting, skip, size + 1)
            inputs, targets = (
                part.reshape(batch_size, sequence_len) for part in (flat[:-1], flat[1:])
            )
            skip, have = skip + size, have - size
            while skip >= len(waiting[0][1]):
                skip -= len(waiting.popleft()[1])
            yield inputs, targets, {**waiting[0][0], "token": skip}


def _first(documents: deque, skip: int, count: int) -> np.ndarray:
    """The first `count` ids after the first `skip`."""
    parts = []
    for _, ids in documents:
        parts.append(ids[skip : skip + count])
        skip, count = 0, count - len(parts[-1])
        if count == 0:
            break
    return np.concatenate(parts)


# %%
#| export dataloader
def at_least_a_row(
    documents: Iterator[tuple[dict, np.ndarray]], sequence_len: int, from_the_start: bool
) -> Iterator[tuple[dict, np.ndarray]]:
    """The same documents. Raises CourseError when a whole epoch has too few tokens for a row and its last target.

    from_the_start: whether the first epoch is a whole one.
    """
    epoch, tokens, whole = None, 0, from_the_start
    for position, ids in documents:
        if epoch not in (None, position["epoch"]):
            if whole and tokens <= sequence_len:
                raise CourseError(
                    f"the text has {tokens:,} tokens, fewer than a row of sequence_len={sequence_len} and its last "
                    "target; give more text, or a smaller sequence_len"
                )
            tokens, whole = 0, True
        epoch, tokens = position["epoch"], tokens + len(ids)
        yield position, ids


# %%
#| export dataloader
AHEAD = 8  # batches that wait ready


class TokenLoader:
    """Batches (inputs, targets), each (B, T) int32, for ever; a thread of its own makes them ahead of need.

    `state` is where the next batch begins, a small dict for JSON: TokenLoader(…, state=state) goes on there exactly,
    with any batch size. Use it in a `with` block, or call `close`, and its thread ends.
    Raises CourseError for sizes below 1, a rank outside 0 … world_size - 1, or a state of something else.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Tokenizer,
        split: str,
        batch_size: int,
        sequence_len: int,
        rank: int = 0,
        world_size: int = 1,
        state: dict | None = None,
        num_threads: int | None = None,
    ):
        if batch_size < 1 or sequence_len < 1 or not 0 <= rank < world_size:
            raise CourseError(
                f"batch_size={batch_size}, sequence_len={sequence_len}, rank={rank}, world_size={world_size}: expected "
                "sizes of 1 or more, and a rank from 0 to world_size - 1"
            )
        start = {"epoch": 0, "shard": dataset.shards(split)[0], "row": 0, "token": 0}
        origin = {
            "dataset": dataset.name,
            "split": split,
            "tokenizer": tokenizer.fingerprint,
            "rank": rank,
            "world_size": world_size,
        }
        self.state = {
            **origin,
            **(start if state is None else _place(state, origin, dataset.shards(split))),
        }
        self._stop = threading.Event()
        documents = tokenized(
            read_from(dataset, split, self.state, rank, world_size, self._stop.is_set),
            tokenizer,
            num_threads,
        )
        documents = at_least_a_row(documents, sequence_len, from_the_start=state is None)
        self._batches = cut_batches(documents, batch_size, sequence_len, skip=self.state["token"])
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="TokenLoader")
        self._ahead = deque(self._pool.submit(next, self._batches) for _ in range(AHEAD))

    def __iter__(self) -> Iterator[tuple[mx.array, mx.array]]:
        return self

    def __next__(self) -> tuple[mx.array, mx.array]:
        if self._stop.is_set():
            raise CourseError(
                "this loader is closed; make a new one with TokenLoader(…, state=loader.state)"
            )
        try:
            inputs, targets, place = self._ahead[0].result()
        except CourseError:
            self.close()
            raise
        self._ahead.popleft()
        self._ahead.append(self._pool.submit(next, self._batches))
        self.state = {**self.state, **place}
        return mx.array(inputs), mx.array(targets)

    def close(self) -> None:
        """End the thread; what waits ready is dropped, `state` stays."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "TokenLoader":
        return self

    def __exit__(self, *error) -> None:
        self.close()


def _place(state: dict, origin: dict, shards: list[str]) -> dict:
    """Where a saved state begins. Raises CourseError when it does not belong to `origin`."""
    for key, value in origin.items():
        if state.get(key) != value:
            raise CourseError(
                f"the state of the data has {key}={state.get(key)!r}, but now it is {value!r}; "
                "go on with the same, or start without a state"
            )
    place = {key: state.get(key) for key in ("epoch", "shard", "row", "token")}
    if place["shard"] not in shards:
        raise CourseError(
            f"the state of the data begins in shard {place['shard']}, which is not here; fetch it again"
        )
    return place


# %%
#| export scripts.get_data
"""Fetch or make the data to train on: `get_data --help`.

Fetches shards of a corpus in parallel; when interrupted, run it again and it goes on.
"""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from course_lib.dataset import REMOTES, Remote, open_dataset, remote_folder
from course_lib.documents import open_parquet
from course_lib.host.download import file_size
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import run_program


# %%
#| export scripts.get_data
@dataclass(frozen=True)
class Settings:
    """Fetch or make the data to train on."""

    dataset: str = "bundled"
    """bundled (the documentation of this Python), fineweb-edu, climbmix, or a file or folder of text of your own."""
    shards: int = 8
    """Training shards to have of a remote corpus, about 100 MB each; its validation shard comes on top."""
    workers: int = 4
    """Shards to fetch at a time."""


def work(settings: Settings) -> None:
    """Fetch what is missing, then print what there is."""
    for flag in ("shards", "workers"):
        if getattr(settings, flag) < 1:
            raise FlagError(f"--{flag} is {getattr(settings, flag)}, expected 1 or more")
    if settings.dataset in REMOTES:
        remote = REMOTES[settings.dataset]
        if settings.shards >= remote.num_shards:
            raise FlagError(
                f"--shards is {settings.shards}, expected {remote.num_shards - 1} or fewer"
            )
        names = [remote.shard(number) for number in (*range(settings.shards), -1)]
        download(remote, names, remote_folder(settings.dataset), settings.workers)
    dataset = open_dataset(settings.dataset)
    for split in ("train", "val"):
        files = [pq.read_metadata(dataset.folder / name) for name in dataset.shards(split)]
        print(
            f"{split:5s} {len(files):5d} shards {sum(file.num_rows for file in files):10,d} documents"
        )
    print(f"in {dataset.folder}")


# %%
#| export scripts.get_data
def download(remote: Remote, names: list[str], folder: Path, workers: int) -> None:
    """Fetch the shards that are missing or damaged, several at a time, with a bar for each and one for all.

    Raises CourseError when the disk has too little room, or, after all others, for a shard that could not be had.
    """
    missing = [name for name in names if not _is_whole(folder / name)]
    if not missing:
        return
    expected = file_size(remote.repo, missing[0]) * len(missing)
    _check_space(folder, expected)
    done, stop, failure = dict.fromkeys(missing, 0), threading.Event(), None
    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        in_all = progress.add_task(f"{len(missing)} shards", total=expected)

        def fetch_shard(name: str) -> None:
            task = progress.add_task(name, total=None)

            def report(bytes_done: int, total: int) -> None:
                done[name] = bytes_done
                progress.update(task, completed=bytes_done, total=total)
                progress.update(in_all, completed=sum(done.values()))

            remote.fetch(name, folder, on_bytes=report, stopped=stop.is_set)
            progress.remove_task(task)
            progress.console.print(f"{name}  {done[name] / 1e6:,.1f} MB", highlight=False)

        futures = [pool.submit(fetch_shard, name) for name in missing]
        try:
            for future in as_completed(futures):
                failure = future.exception() or failure
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(cancel_futures=True)
            progress.console.print(
                "stopped; what has arrived is kept: run the same command again to go on"
            )
            raise
    if failure:
        raise failure


def _check_space(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed -= sum(part.stat().st_size for part in folder.glob(".*.part"))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CourseError(
            f"these shards need {needed / 1e9:.1f} GB more, and {folder} has {free / 1e9:.1f} GB free; "
            "free some space, set COURSE_HOME, or ask for fewer with --shards"
        )


def _is_whole(path: Path) -> bool:
    """Whether a shard is there and its footer can be read; one that is damaged is deleted."""
    if not path.exists():
        return False
    try:
        open_parquet(path).close()
    except CourseError as error:
        print(f"fetching it again: {error}")
        path.unlink()
        return False
    return True


# %%
#| export scripts.get_data
def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("get_data", Settings, work, argv)


# %%
#| export scripts.tok_train
"""Train a tokenizer on the documents of a dataset: `tok_train --help`."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from course_lib.dataset import Dataset, open_dataset
from course_lib.host.errors import FlagError
from course_lib.host.program import run_program
from course_lib.tokenizer import SPECIAL_TOKENS, Tokenizer, default_folder, fitting_vocab_size


# %%
#| export scripts.tok_train
@dataclass(frozen=True)
class Settings:
    """Train a tokenizer on the training documents of a dataset."""

    vocab_size: int | None = None
    """Tokens, the nine special ones included; by default what fits the text, up to nanochat's 65,536."""
    max_chars: int = 2_000_000_000
    """Stop reading after so many characters."""
    doc_cap: int = 10_000
    """Characters to read of each document, so that no long one counts for too much."""
    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`), or a file or folder of text of your own."""
    folder: Path | None = None
    """Where to put the tokenizer; by default where the other programs look for it."""


# %%
#| export scripts.tok_train
def texts(dataset: Dataset, doc_cap: int, max_chars: int) -> Iterator[str]:
    """Training documents cut to `doc_cap` characters, until they have `max_chars` in all."""
    chars = 0
    for text in dataset.documents("train"):
        yield text[:doc_cap]
        chars += len(text[:doc_cap])
        if chars > max_chars:
            return


# %%
#| export scripts.tok_train
class _MergesSeen(logging.Handler):
    """Moves a progress bar by what rustbpe logs: "Progress: 12% (492/4096 merges) …"."""

    def __init__(self, on_merges: Callable[[int], None]):
        super().__init__()
        self.on_merges = on_merges

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.search(r"\((\d+)/\d+ merges\)", record.getMessage()):
            self.on_merges(int(found[1]))


# %%
#| export scripts.tok_train
def train(
    dataset: Dataset, vocab_size: int, doc_cap: int, max_chars: int
) -> tuple[Tokenizer, int, int]:
    """The tokenizer, and how many documents and characters it was trained on; draws two progress bars."""
    rows = sum(
        pq.read_metadata(dataset.path("train", n)).num_rows
        for n in range(len(dataset.shards("train")))
    )
    columns = (
        "{task.description}",
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    docs = chars = 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        reading = progress.add_task("reading", total=rows)
        merging = progress.add_task("merging", total=vocab_size - 256 - len(SPECIAL_TOKENS))

        def counted() -> Iterator[str]:
            nonlocal docs, chars
            for text in texts(dataset, doc_cap, max_chars):
                docs, chars = docs + 1, chars + len(text)
                if docs % 100 == 0:
                    progress.update(reading, completed=max(rows * chars // max_chars, docs))
                yield text
            progress.update(reading, completed=rows)

        log = logging.getLogger("rustbpe")
        handler = _MergesSeen(lambda merges: progress.update(merging, completed=merges))
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        try:
            tokenizer = Tokenizer.train(counted(), vocab_size, allow_smaller=True)
        finally:
            log.removeHandler(handler)
        progress.update(merging, completed=vocab_size)
    return tokenizer, docs, chars


# %%
#| export scripts.tok_train
def work(settings: Settings) -> None:
    """Train, save, print a summary."""
    least = {"vocab_size": 256 + len(SPECIAL_TOKENS), "max_chars": 1, "doc_cap": 1}
    for flag, value in least.items():
        given = getattr(settings, flag)
        if given is not None and given < value:
            raise FlagError(f"--{flag.replace('_', '-')} is {given}, expected {value} or more")
    began = time.perf_counter()
    dataset = open_dataset(settings.dataset)
    vocab_size = settings.vocab_size or _fitting(dataset, settings)
    tokenizer, docs, chars = train(dataset, vocab_size, settings.doc_cap, settings.max_chars)
    folder = settings.folder or default_folder()
    tokenizer.save(folder)
    if tokenizer.vocab_size < vocab_size:
        print(
            f"the text has pairs for {tokenizer.vocab_size:,} tokens only, fewer than {vocab_size:,}"
        )
    held_out = list(islice(dataset.documents("val"), 1000))
    sizes = [
        sum(len(text.encode()) for text in held_out),
        sum(map(len, tokenizer.encode_batch(held_out))),
    ]
    print(f"dataset           {dataset.name}: {docs:,} documents, {chars:,} characters")
    print(
        f"vocabulary        {tokenizer.vocab_size:,} tokens: 256 bytes, {tokenizer.vocab_size - 265:,} merges, 9 special"
    )
    print(f"bytes per token   {sizes[0] / sizes[1]:.2f} on validation text")
    print(f"time              {time.perf_counter() - began:.1f} s")
    print(f"saved in          {folder}")


def _fitting(dataset: Dataset, settings: Settings) -> int:
    chars = 0
    for text in texts(dataset, settings.doc_cap, settings.max_chars):
        chars += len(text)
        if fitting_vocab_size(chars) == 65_536:
            break
    return fitting_vocab_size(chars)


# %%
#| export scripts.tok_train
def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("tok_train", Settings, work, argv)

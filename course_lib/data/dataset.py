"""Datasets: documents in parquet shards, the last shard for validation; made, found or fetched.

Written by hand; chapter 06 uses it.
"""

import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from course_lib.data import python_docs
from course_lib.data.documents import LONGEST, open_parquet, read_parquet
from course_lib.data.identity import fingerprint_of, fingerprint_of_texts
from course_lib.data.own_text import ending, read_texts, text_files
from course_lib.data.remote import REMOTES, ShardCache, remote_folder
from course_lib.data.split import is_held_out
from course_lib.host.errors import CourseError
from course_lib.host.files import hold_for, make_folder_atomically, only_one, remove_unless_held
from course_lib.host.paths import existing_path, home_dir, is_writable
from course_lib.host.words import printable

HELD_OUT_CHARS = 10_000_000


def split_documents(documents: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """(held out?, document) of each document that is not only whitespace.

    As `is_held_out` says, but after 10 million characters no more are held out, not even copies of
    those that were; and where one side would stay empty, the last document goes there.
    """
    held_out_chars = trained_on = 0
    real = (text for text in documents if text.strip())
    for text, following in pairwise(chain(real, [""])):
        held_out = is_held_out(text) and held_out_chars < HELD_OUT_CHARS
        if not following and (held_out_chars == 0 or trained_on == 0):
            held_out = held_out_chars == 0
        held_out_chars += len(text) * held_out
        trained_on += not held_out
        yield held_out, text


def write_shards(
    documents: Iterable[str], folder: Path, shard_chars: int = 20_000_000, source: str = "the text"
) -> None:
    """Write documents into `folder` as shard_00000.parquet, …; the last holds those for validation.

    The folder appears when it is complete, and the same documents give the same bytes.
    Raises CourseError for fewer than two documents or a full disk; then nothing is left.
    """
    count, chars, waiting, held_out = 0, 0, [], []
    try:
        with make_folder_atomically(folder) as part:
            for is_val, text in split_documents(documents):
                (held_out if is_val else waiting).append(text)
                chars += 0 if is_val else len(text)
                if chars >= shard_chars:
                    _write_shard(waiting, part, count)
                    count, chars, waiting = count + 1, 0, []
            if not held_out or not (count or waiting):
                raise CourseError(
                    f"{source} is too little: expected at least two documents, one to train on "
                    "and one for validation; give more, or several files"
                )
            for texts in (waiting, held_out):
                if texts:
                    _write_shard(texts, part, count)
                    count += 1
    except OSError as error:
        raise CourseError(f"cannot write {folder}: {error}; free some space, or set COURSE_HOME") from error


def _write_shard(texts: list[str], folder: Path, number: int) -> None:
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    path = folder / f"shard_{number:05d}.parquet"
    pq.write_table(table, path, row_group_size=1024, compression="zstd")


class Dataset:
    """Documents in parquet shards, the last one for validation, the others to train on.

    shards: names of the files in `folder`, in order. Where a cache is given, a shard that is not
    in `folder` comes from there, and `streamed` is true. fingerprint: by which the text is known
    again, its content's if there is one. Raises CourseError for fewer than two shards.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        shards: list[str],
        cache: "ShardCache | None" = None,
        fingerprint: str | None = None,
    ):
        if len(shards) < 2:
            raise CourseError(f"{folder} has {len(shards)} shards, expected two or more: the last is for validation")
        self.name, self.folder, self._cache = name, folder, cache
        self.fingerprint = fingerprint or name
        self.streamed = cache is not None
        self._shards = {"train": shards[:-1], "val": shards[-1:]}

    def shards(self, split: str) -> list[str]:
        """Names of the shards of "train" or "val". Raises CourseError for another split."""
        if split not in self._shards:
            raise CourseError(f"there is no split {split!r}; expected train or val")
        return self._shards[split]

    def path(self, split: str, number: int, stopped: Callable[[], bool] = lambda: False) -> Path:
        """File of the shard `number` of a split, fetched first when the dataset is streamed."""
        shards = self.shards(split)
        if self._cache is None or (self.folder / shards[number]).exists():
            return self.folder / shards[number]
        following = shards[(number + 1) % len(shards)]
        if (self.folder / following).exists():
            following = shards[number]  # nothing to fetch ahead
        return self._cache.get(shards[number], following, stopped)

    def documents(self, split: str) -> Iterator[str]:
        """Every text of a split, once, in order."""
        for number in range(len(self.shards(split))):
            yield from (text for _, text in read_parquet(self.path(split, number)))

    def num_rows(self, split: str) -> int:
        """Documents of a split, those without a text (null) included."""
        rows = 0
        for number in range(len(self.shards(split))):
            with open_parquet(self.path(split, number)) as file:
                rows += file.metadata.num_rows
        return rows

    def num_bytes(self, split: str) -> int:
        """Bytes of the text of a split, about: what the footers of its files say."""
        size = 0
        for number in range(len(self.shards(split))):
            with open_parquet(self.path(split, number)) as file:
                column = file.schema_arrow.names.index("text")
                groups = map(file.metadata.row_group, range(file.num_row_groups))
                size += sum(group.column(column).total_uncompressed_size for group in groups)
        return size


def bundled_folder() -> Path:
    """Folder of the bundled corpus, the documentation of this Python; made on the first call."""
    name = f"bundled-2-python-{platform.python_version()}"  # 2: of the way it is collected
    home = home_dir() / "datasets" / name
    if made := list(home.glob("[0-9]*")):
        return made[0]
    with only_one(home):
        made = list(home.glob("[0-9]*"))
        if not made:
            by_hash = sorted(python_docs.documents(), key=lambda text: hashlib.sha256(text.encode()).digest())
            made = [home / fingerprint_of_texts(by_hash)]
            write_shards(by_hash, made[0], shard_chars=1_000_000)
    return made[0]


def own_dataset(path: Path) -> Dataset:
    """The files in `path` as shards, made anew when their content changes.

    Raises CourseError for a file that cannot be read.
    """
    files, about_path = text_files(path), hashlib.sha256(repr(str(path)).encode()).hexdigest()[:8]
    home = home_dir() / "datasets" / f"own-{printable(path.stem)[:40]}-{about_path}"
    folder = home / fingerprint_of(files, LONGEST, [ending(file) for file in files])
    if folder.exists() and not is_writable(home):
        return dataset_in(folder)
    with only_one(home):
        if not folder.exists():
            write_shards(read_texts(path), folder, source=f"the text in {path}")
        for old in home.iterdir():
            if old != folder:
                remove_unless_held(old)
        return dataset_in(folder)


def dataset_in(folder: Path, fingerprint: str | None = None) -> Dataset:
    """The dataset of shards in a folder of the home, which stay there as long as it is used."""
    name = str(folder.relative_to(home_dir() / "datasets"))
    shards = sorted(path.name for path in folder.glob("*.parquet"))
    dataset = Dataset(name, folder, shards, fingerprint=fingerprint or folder.name)
    hold_for(dataset, folder)
    return dataset


def _open_remote(name: str, streaming: bool, max_cached_shards: int) -> Dataset:
    remote, folder = REMOTES[name], remote_folder(name)
    if streaming:
        every = [remote.shard(number) for number in range(remote.num_shards)]
        cache = ShardCache(remote, folder / "streamed", max_cached_shards)
        return Dataset(name, folder, every, cache)
    here = sorted(path.name for path in folder.glob("shard_*.parquet"))
    if len(here) < 2 or here[-1] != remote.shard(-1):
        raise CourseError(
            f"{folder} lacks shards of {name}: fetch some and the validation shard with "
            f"`get_data --dataset {name} --shards 8`, or stream them"
        )
    return Dataset(name, folder, here)


def open_dataset(name: str = "bundled", streaming: bool = False, max_cached_shards: int = 8) -> Dataset:
    """The dataset `name`: "bundled", "fineweb-edu", "climbmix", or the path of text of your own.

    streaming: fetch the shards of a remote corpus as they are needed and keep few, instead of
    using those that `get_data` has fetched. Raises CourseError when there is no such dataset, or
    nothing of it on disk.
    """
    if name in REMOTES:
        return _open_remote(name, streaming, max_cached_shards)
    if name == "bundled":
        return dataset_in(bundled_folder())
    if path := existing_path(name):
        return own_dataset(path)
    known = ", ".join(["bundled", *REMOTES])
    raise CourseError(f"there is no dataset {name!r}; expected {known}, or an existing file or folder of text")

# %% [markdown]
# # 06 · Data
#
# **Goal.** Turn documents into an endless row of training batches, offline by default and at 100 billion tokens when wanted, and be able to stop and go on at the very next token.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb) |
# | Time | 60 minutes to read, 70 for the exercises; under a minute to run |
# | Memory | under 500 MB |
# | You will build | `documents`, `dataset`, `dataloader` → `course_lib`; the programs `get_data` and `tok_train` → `course_lib.scripts` |
#
# A model learns from text by predicting the next token, a few thousand tokens at a time, for days. Something has to
# bring that text: find it, keep some aside for validation, turn it into ids, cut it into rows, and be quick about
# it. None of this is mathematics. Much of what goes wrong in training goes wrong here all the same.

# %% [markdown]
# ![Map of the course: chapter 06 data is marked, in Part II; after 05 tokenizer, and 07 attention comes next](images/map_06.svg)

# %% [markdown]
# The chapter builds three modules and two programs, in the order in which text moves: files → **documents** → **dataset** →
# **dataloader**. The next cells open the first two modules; the one after them is for this notebook only.

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
#| export dataset
"""Datasets: documents in parquet shards, the last shard for validation; made, found or fetched."""

import hashlib
import os
import platform
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from course_lib.documents import READERS, open_parquet, read_parquet, text_files
from course_lib.host import python_docs
from course_lib.host.errors import CourseError
from course_lib.host.files import make_folder_atomically, only_one
from course_lib.host.paths import home_dir
from course_lib.host.remote import REMOTES, ShardCache, remote_folder

# %%
import random
import re
import resource
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from itertools import islice, takewhile

import matplotlib.pyplot as plt
import numpy as np

from course_lib.classroom import add_to, budget, check, command_line
from course_lib.classroom.cells import in_notebook
from course_lib.classroom.exercises import data as exercises
from course_lib.host.remote import Remote
from course_lib.plots import draw_bars
from course_lib.tokenizer import Tokenizer, default_folder

scratch = Path(tempfile.mkdtemp()).resolve()  # a folder for this notebook's experiments

# %% [markdown]
# ## 1. What a model is trained on
#
# A **document** is one text that belongs together: a web page, a chapter, the description of a function. **Pretraining text**
# is a great many documents, with no questions, answers or labels. It is only there to be predicted.
#
# You have some already. The Python that runs this notebook carries its own documentation: pages about the language,
# and descriptions of each module of the standard library, the **docstrings**. It is collected in a few seconds,
# without a download. This is the **bundled corpus**, the default of every program in this course.

# %%
docs = python_docs.documents()
lengths = [len(doc) for doc in docs]
print(f"{len(docs)} documents, {sum(lengths):,} characters")
by_name = {doc.split("\n", 1)[0]: doc for doc in docs}
for name in ("assert", "textwrap"):
    print("─" * 30, *by_name[name][:300].splitlines(), sep="\n│ ")

# %% [markdown]
# How long are they? The axis is **logarithmic**: each step to the right is a factor and not a sum.

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.6))
ax.hist(lengths, bins=np.geomspace(min(lengths), max(lengths), 30), color="#0072B2", edgecolor="w")
ax.axvline(np.median(lengths), color="#D55E00", linestyle="--", label="half are shorter")
ax.set_xscale("log")
ax.set_xlabel("characters in a document")
ax.set_ylabel("documents")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# From a line to a small book: the longest are hundreds of times as long as the shortest. That is typical of real text, and it is why documents do not fit neatly into rows (section 9).
#
# Be clear about what a model trained on this will be. It **will** write what looks like documentation: a signature, a
# sentence that begins with "Return", indented lines. It will know nothing of the world, answer no question, and be wrong about
# Python too. That is enough to see that every part works, and it trains while you watch.
#
# The real corpora are web pages, filtered and shuffled. Two are ready in the form that this chapter reads, cut into
# files called **shards** of some 100 MB, each with about 250 million characters. How much is that?

# %%
shards_of = {"fineweb-edu": 1823, "climbmix": 6543}
tokens_of = {"fineweb-edu": 100e9, "climbmix": 400e9}  # as their full names say
for name, shards in shards_of.items():
    tokens = tokens_of[name]
    size = f"{shards / 10:3.0f} GB, {shards / 4:5,.0f} billion characters"
    print(f"{name:12s} {shards:5,} shards, {size}, {tokens / 1e9:.0f} billion tokens")
    print(f"{'':12s} about {tokens / shards / 1e6:.0f} million tokens a shard")

# %% [markdown]
# A rule of thumb says: train on about **20 tokens for each parameter** (chapter 10 says more). What the models of this
# course would need, by their number of layers (chapter 08 counts their parameters):

# %%
parameters = {"d4": 36_700_160, "d12": 185_597_952, "d20": 560_988_160, "d26": 1_081_999_360}
bundled_tokens = sum(lengths) / 3  # three characters a token; section 7 measures it
print("       tokens needed   shards of fineweb-edu   times the bundled corpus")
for model, count in parameters.items():
    tokens = 20 * count
    shards, times = tokens / (100e9 / 1823), tokens / bundled_tokens
    print(f"{model:4s} {tokens / 1e9:7.2f} billion {shards:23,.0f} {times:26,.0f}")

# %% [markdown]
# So 7 GB of text, some 68 shards, would last for d12, and the largest needs about a fifth of fineweb-edu. The bundled corpus
# would have to be read hundreds of times even for d4. A model that reads the same text so often learns it by heart.
# For learning how it all works, a few passes are enough.
#
# ## 2. Three forms of text
#
# Text comes as files, and three forms cover nearly all of it:
#
# | form | a document is | good for |
# |---|---|---|
# | `.txt` | the file, or a part of it | books, notes |
# | `.jsonl` | a line with a JSON object, its text under `text` | exports from other programs; can be read by eye |
# | `.parquet` | a row of a table, the column `text` | millions of documents (section 3) |
#
# **Plain text** has no marks between documents. A short file is one document. A long one is cut into pieces of at most 20,000
# characters, after a blank line where there is one, so that no document takes all of a batch.

# %%
#| export documents
LONGEST = 20_000


def read_txt(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file, cut after blank lines into documents of 20,000 characters or fewer.

    Where there is no blank line, the cut is after a line, else after a space, else anywhere. The
    documents joined are the file's text. Raises CourseError for a file that is not UTF-8.
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
    """Where to cut: after the last blank line, else line, else space, else at the end."""
    for mark in ("\n\n", "\n", " "):
        if (found := text.rfind(mark)) > 0:
            return found + len(mark)
    return len(text)


# %%
book = "\n\n".join(docs[:40])
(scratch / "book.txt").write_text(book, encoding="utf-8", newline="")
parts = list(read_txt(scratch / "book.txt"))
print(f"{len(book):,} characters in {len(parts)} documents; one ends with {parts[0][-30:]!r}")
assert "".join(parts) == book  # nothing is lost, nothing added
assert max(map(len, parts)) <= LONGEST


# %% [markdown]
# **JSON lines.** A file from somewhere else has bad lines sooner or later. Then the error must say where:

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
                    f"{path}, line {number}: expected a JSON object such as "
                    f'{{"text": "…"}}; correct that line'
                ) from error
            # "\ud800", half a surrogate pair, is valid JSON and no character
            yield text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# %%
def without_folders(text):
    """The text without this machine's own folders."""
    return str(text).replace(f"{scratch}/", "").replace(str(home_dir()), "HOME")


def refused(action):
    """Do what has to fail with a CourseError, and print the error."""
    try:
        action()
    except CourseError as error:
        print("refused:", without_folders(error))
    else:
        raise AssertionError("this should have been refused")


# %%
notes = scratch / "notes.jsonl"
notes.write_text('{"text": "A first note."}\n\n{"text": "A second one.", "likes": 3}\n')
print(list(read_jsonl(notes)))
notes.write_text('{"text": "A first note."}\n{"txt": "A second one."}\n')
refused(lambda: list(read_jsonl(notes)))

# %% [markdown]
# Why not skip such a line in silence? Because a file in which *every* line says `txt` would then be empty, and you would
# find out after a night of training on something else.
#
# ## 3. Parquet
#
# A **parquet** file is a table stored column by column, so that a program can read the column `text` and leave the others.
# Its rows come in **row groups**, each compressed by itself, so that a reader can begin in the middle. What there is
# and where stands in a **footer** at the end, so a file that was cut off is noticed at once: its footer is missing.

# %%
table = pa.table({"text": docs})
pq.write_table(table, scratch / "docs.parquet", row_group_size=120, compression="zstd")
stored = (scratch / "docs.parquet").read_bytes()
plain = sum(len(doc.encode()) for doc in docs)
ratio = plain / len(stored)
print(f"{plain:,} bytes of text, {len(stored):,} as parquet: {ratio:.1f} times smaller")
print("first bytes", stored[:4], "last bytes", stored[-4:])


# %% [markdown]
# One look at where the bytes are. The footer says how long each row group is; its own length stands just before the last
# four bytes.

# %%
def draw_parquet(path):
    """The file as a strip from its first byte to its last: row groups, then the footer."""
    about = pq.read_metadata(path)
    groups = [about.row_group(n) for n in range(about.num_row_groups)]
    sizes = [group.column(0).total_compressed_size / 1000 for group in groups]
    footer = path.stat().st_size / 1000 - sum(sizes)
    figure, ax = plt.subplots(figsize=(8, 1.5))
    left = 0
    for n, size in enumerate(sizes):
        ax.barh(0, size, left=left, color=("#cfe4f3", "#fbe6c4")[n % 2], edgecolor="#555555")
        words = f"{groups[n].num_rows}\nrows" if size > 45 else ""
        ax.text(left + size / 2, 0, words, ha="center", va="center", fontsize=8)
        left += size
    ax.barh(0, footer, left=left, color="white", edgecolor="black", hatch="/////")
    ax.text(left + footer / 2, 0.5, "footer", ha="center", fontsize=9)
    ax.set_ylim(-0.5, 1)
    ax.set_yticks([])
    ax.set_xlabel("thousand bytes from the beginning of the file")
    ax.spines[["top", "left", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()


draw_parquet(scratch / "docs.parquet")


# %% [markdown]
# Each plain box is a row group. All but the last hold equally many documents; they differ in bytes, since documents do. The footer is a sliver at
# the end.
#
# Opening reads the footer alone. It is also where we notice a file that is no table of texts:

# %%
#| export documents
def open_parquet(path: Path) -> pq.ParquetFile:
    """The parquet file, its footer read.

    Raises CourseError when it is damaged or has no column `text` of strings, and OSError when the
    system cannot open it.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None):
            raise
        raise CourseError(
            f"{path} is no complete parquet file; delete it and fetch or make it again"
        ) from error
    names = file.schema_arrow.names
    if names.count("text") != 1:
        raise CourseError(
            f"{path} has the columns {', '.join(names) or '(none)'}; expected one `text`: "
            "rename the one with the text"
        )
    kind = file.schema_arrow.field("text").type
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_string(kind) for is_string in strings):
        raise CourseError(f"{path}: the column `text` holds {kind}, expected string; convert it")
    return file


# %%
(scratch / "cut_off.parquet").write_bytes(stored[:-1000])
pq.write_table(pa.table({"content": docs}), scratch / "other.parquet")
for name in ("cut_off.parquet", "other.parquet"):
    refused(lambda name=name: open_parquet(scratch / name))


# %% [markdown]
# To read from row 500 on, the four row groups before row 480 are skipped. One big text file would have to be read from its
# beginning, unless somebody kept a list of positions. The footer is that list.

# %%
#| export documents
def read_parquet(path: Path, start: int = 0) -> Iterator[tuple[int, str]]:
    """(row, text) of a parquet file from row `start` on; rows without a text (null) are skipped.

    Row groups before `start` are not read. Raises CourseError as `open_parquet` does.
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
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            if getattr(error, "errno", None):
                raise
            raise CourseError(
                f"{path} is damaged after row {row}; delete it and fetch or make it again"
            ) from error


# %%
row, text = next(read_parquet(scratch / "docs.parquet", start=500))
assert (row, text) == (500, docs[500])
assert [text for _, text in read_parquet(scratch / "docs.parquet")] == docs

# %% [markdown]
# Last, one table from the ending of a file to its reader, and a search for all such files in a folder.

# %%
#| export documents
READERS = {
    ".txt": read_txt,
    ".jsonl": read_jsonl,
    ".parquet": lambda path: (text for _, text in read_parquet(path)),
}


def text_files(path: Path) -> list[Path]:
    """The .txt, .jsonl and .parquet files that `path` is or holds, in the order of their names.

    Hidden files and folders are left out. Raises CourseError when there are none.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    files = [file for file in files if file.suffix in READERS]
    files = [file for file in files if not _is_hidden(file.relative_to(path))]
    if not files:
        raise CourseError(
            f"{path} has no text; expected a file or a folder of files: {', '.join(READERS)}"
        )
    return files


def _is_hidden(inside: Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)


# %%
print([file.name for file in text_files(scratch)])


# %% [markdown]
# ## 4. The split
#
# Some documents must never be trained on. They are for **validation**: measuring the loss on text the model has not seen.
# Which ones? Three ways to choose 5 %:
#
# - **the last 5 %** in order: then validation is whatever comes last, say all modules that begin with z, and shifts when
#   documents are added;
# - **at random**: the choice depends on the order of the documents and on the random state;
# - **by the text itself**: compute a number from the bytes of the document, and take those whose number can be divided by 20.
#
# Such a number is called a **hash**. Ours is CRC-32, a checksum that is the same on every machine and in every year. (Python's own
# `hash` differs from run to run.)

# %%
#| export dataset
def is_held_out(text: str) -> bool:
    """Whether a document belongs to validation: about one in twenty, always the same ones.

    It depends on the text alone, so equal texts are on the same side.
    """
    return zlib.crc32(text.encode()) % 20 == 0


# %% tags=["nbval-check-output"]
for text in ("a dog", "a dog!", "the cat", "a fat cat", "a bird"):
    crc = zlib.crc32(text.encode())
    print(f"{text:9s} {crc:13,} mod 20 = {crc % 20:2d}  held out: {is_held_out(text)}")

# %%
share = sum(map(is_held_out, docs)) / len(docs)
print(f"{share:.1%} of the documents are held out, and {sum(map(is_held_out, docs))} in all")
assert 0.02 < share < 0.09


# %% [markdown]
# Now three things that happen to a corpus: ten documents are added at the end; ten are added at the beginning (files are often
# sorted by name); the same documents come in another order. How many of the old documents change sides? Each of them
# is either lost to training or, worse, was trained on and is in validation now.

# %%
def last_five_percent(texts):
    return set(texts[-len(texts) // 20 :])


def at_random(texts):
    generator = random.Random(0)  # even with a fixed seed
    return {text for text in texts if generator.random() < 0.05}


def by_hash(texts):
    return {text for text in texts if is_held_out(text)}


new = [f"A new document, number {n}." for n in range(10)]
later = {"at the end": [*docs, *new], "at the beginning": [*new, *docs]}
later["another order"] = random.Random(1).sample(docs, len(docs))
print(" " * 18, *(f"{what:>17s}" for what in later))
for choose in (last_five_percent, at_random, by_hash):
    moved = [len((choose(docs) ^ choose(texts)) & set(docs)) for texts in later.values()]
    print(f"{choose.__name__.replace('_', ' '):18s}", *(f"{count:17d}" for count in moved))
assert moved == [0, 0, 0]

# %% [markdown]
# The first two are right in one column each, or nearly, and wrong in the others. By hash, nothing moves, ever. And a
# document that occurs twice, as web pages often do, is on the same side both times: it cannot be trained on *and*
# validated on.
#
# Two more rules, for the extremes. A huge corpus needs no more than 10 million characters of validation, and a tiny one must not
# end with an empty side.

# %%
#| export dataset
HELD_OUT_CHARS = 10_000_000


def split_documents(documents: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """(held out?, document) of each document that is not only whitespace.

    After 10 million characters no more are held out. Where chance would leave one side empty, the
    last document goes there.
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
two = ["a dog", "  \n", "a cat"]
print(list(split_documents(two)))  # blank documents are dropped, and each side has one
assert [held_out for held_out, _ in split_documents(docs)].count(True) == round(share * len(docs))


# %% [markdown]
# The shards are written into a folder with another name, which is renamed at the end. A program that is killed in the middle
# leaves nothing that looks finished.

# %%
#| export dataset
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
        raise CourseError(
            f"cannot write {folder}: {error}; free some space, or set COURSE_HOME"
        ) from error


def _write_shard(texts: list[str], folder: Path, number: int) -> None:
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    path = folder / f"shard_{number:05d}.parquet"
    pq.write_table(table, path, row_group_size=1024, compression="zstd")


# %%
for name in ("once", "twice"):
    write_shards(docs, scratch / name, shard_chars=500_000)
shards = sorted((scratch / "once").iterdir())
print([shard.name for shard in shards])
held_out = [text for _, text in read_parquet(shards[-1])]
assert held_out == [doc for doc in docs if is_held_out(doc)]  # the last shard is validation
assert all(shard.read_bytes() == (scratch / "twice" / shard.name).read_bytes() for shard in shards)


# %% [markdown]
# The last shard is validation. So it is in the real corpora, and so a folder of shards needs no other description. The same
# documents gave the same bytes.
#
# ## 5. Datasets, and what is kept where
#
# What the course makes or downloads is kept in one folder, its **home**: `COURSE_HOME` if you set that, else a
# folder in your user's cache. Below, HOME stands for it. The bundled corpus is collected there once for each version of Python.
# Its documents are put in the order of a hash, which is as good as shuffled, and the same on every run. Two programs may want the
# same folder at the same moment: a lock lets one of them make it while the other waits.

# %%
#| export dataset
def bundled_folder() -> Path:
    """Folder of the bundled corpus, the documentation of this Python; made on the first call."""
    name = f"bundled-1-python-{platform.python_version()}"  # 1: of the way it is collected
    folder = home_dir() / "datasets" / name
    with only_one(folder):
        if not folder.exists():
            by_hash = sorted(
                python_docs.documents(), key=lambda text: hashlib.sha256(text.encode()).digest()
            )
            write_shards(by_hash, folder, shard_chars=1_000_000)
    return folder


# %% [markdown]
# Your **own text** is a file or a folder. It is read once and written into shards too, under a name made of its path. Another
# hash, of the sizes and times of the files, says whether they have changed since.

# %%
#| export dataset
def own_folder(path: Path) -> Path:
    """Folder of shards made of the files in `path`; made anew when they change.

    Raises CourseError for a file that cannot be read.
    """
    path = Path(os.path.abspath(path.expanduser()))
    files = text_files(path)
    seen = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    about_path, about_files = (
        hashlib.sha256(repr(x).encode()).hexdigest()[:8] for x in (str(path), seen)
    )
    home = home_dir() / "datasets" / f"own-{path.stem[:40]}-{about_path}"
    with only_one(home):
        if not (home / about_files).exists():
            texts = chain.from_iterable(map(_texts, files))
            write_shards(texts, home / about_files, source=f"the text in {path}")
            for old in home.iterdir():
                if old.name != about_files:
                    shutil.rmtree(old, ignore_errors=True)
    return home / about_files


def _texts(path: Path) -> Iterator[str]:
    try:
        yield from READERS[path.suffix](path)
    except OSError as error:
        raise CourseError(
            f"cannot read {path} ({error.strerror}); make it readable, or leave it out"
        ) from error


# %% [markdown]
# The third kind is **remote**: a name on the Hugging Face hub, a site that hosts data sets, and a number of shards.

# %% [markdown]
# All three are the same to those who read them: a folder and the names of its shards.

# %%
#| export dataset
class Dataset:
    """Documents in parquet shards, the last one for validation, the others to train on.

    shards: names of the files in `folder`, in order. Where a cache is given, a shard that is not
    in `folder` comes from there. Raises CourseError for fewer than two shards.
    """

    def __init__(
        self, name: str, folder: Path, shards: list[str], cache: "ShardCache | None" = None
    ):
        if len(shards) < 2:
            raise CourseError(
                f"{folder} has {len(shards)} shards, expected two or more: "
                "the last is for validation"
            )
        self.name, self.folder, self._cache = name, folder, cache
        self._shards = {"train": shards[:-1], "val": shards[-1:]}

    def shards(self, split: str) -> list[str]:
        """Names of the shards of "train" or "val". Raises CourseError for another split."""
        if split not in self._shards:
            raise CourseError(f"there is no split {split!r}; expected train or val")
        return self._shards[split]


# %% [markdown]
# Reading goes through `path`, which is where streaming comes in: without a cache it only joins names.

# %%
#| export dataset
@add_to(Dataset)
def path(self, split: str, number: int, stopped: Callable[[], bool] = lambda: False) -> Path:
    """File of the shard `number` of a split, fetched first when the dataset is streamed."""
    shards = self.shards(split)
    if self._cache is None or (self.folder / shards[number]).exists():
        return self.folder / shards[number]
    return self._cache.get(shards[number], shards[(number + 1) % len(shards)], stopped)


@add_to(Dataset)
def documents(self, split: str) -> Iterator[str]:
    """Every text of a split, once, in order."""
    for number in range(len(self.shards(split))):
        yield from (text for _, text in read_parquet(self.path(split, number)))


@add_to(Dataset)
def num_rows(self, split: str) -> int:
    """Documents of a split, those without a text (null) included."""
    rows = 0
    for number in range(len(self.shards(split))):
        with open_parquet(self.path(split, number)) as file:
            rows += file.metadata.num_rows
    return rows


# %% [markdown]
# One function opens any of them. (Of the remote ones, the next section says more.)

# %%
#| export dataset
def open_dataset(
    name: str = "bundled", streaming: bool = False, max_cached_shards: int = 8
) -> Dataset:
    """The dataset `name`: "bundled", "fineweb-edu", "climbmix", or the path of text of your own.

    streaming: fetch the shards of a remote corpus as they are needed and keep few, instead of
    using those that `get_data` has fetched. Raises CourseError when there is no such dataset, or
    nothing of it on disk.
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


# %%
poems = scratch / "poems"
poems.mkdir()
(poems / "moon.txt").write_text(
    "The moon was up before the town,\nand looked it slowly up and down.\n"
)
(poems / "more.jsonl").write_text('{"text": "Rain on tin."}\n{"text": "A gull asks why."}\n')
own = open_dataset(str(poems))
for split in ("train", "val"):
    print(split, list(own.documents(split)))


# %%
def tree(folder):
    """Files below a folder; what depends on this machine is shown as dots."""
    for path in sorted(folder.rglob("*.parquet")):
        print("HOME/" + re.sub(r"[0-9a-f]{8}", "········", str(path.relative_to(home_dir()))))


bundled = open_dataset()
tree(home_dir() / "datasets" / own.name.split("/")[0])
tree(bundled_folder())

# %% [markdown]
# Change a file, and the next `open_dataset` notices. Ask for something that is not there, and you are told what is:

# %%
(poems / "late.txt").write_text("One more, too late for the first edition.\n")
changed = open_dataset(str(poems))
assert changed.name != own.name and not own.folder.exists()
assert sum(1 for split in ("train", "val") for _ in changed.documents(split)) == 4
refused(lambda: open_dataset("shakespear"))


# %% [markdown]
# ## 6. Real corpora
#
# 68 shards are 7 GB: they fit on a disk, so fetch them before you train. 6,543 shards are 650 GB, and you may not have that. Then
# **stream**: while shard n is read, shard n + 1 is fetched, and n − 1 is deleted. `get` waits for the shard that is wanted and
# asks for the following one in the background. `stopped` is how a loader that is closed meanwhile ends the waiting.

# %%
#| export dataset
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


# %% [markdown]
# To watch it without a network, we make a remote corpus that is not remote: it waits a little and copies a shard
# from section 4. "Training" on a shard is waiting too.

# %%
spans, here = [], []  # (what, shard, begin, end) and, at each moment, what is on disk


class SlowRemote(Remote):
    def fetch(self, name, folder, **watch):
        begin = time.perf_counter()
        if not (folder / name).exists():
            time.sleep(0.10)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(scratch / "once" / name, folder / name)
            spans.append(("fetched", name, begin, time.perf_counter()))


names = [shard.name for shard in shards]
cache = ShardCache(SlowRemote("nobody/nothing", len(names)), scratch / "streamed", max_cached=3)
streamed = Dataset("slow", scratch / "streaming", names, cache)
for number, name in enumerate(streamed.shards("train")[:5]):
    streamed.path("train", number)
    begin = time.perf_counter()
    here.append((begin, {path.name for path in cache.folder.glob("*.parquet")}))
    time.sleep(0.14)
    spans.append(("read", name, begin, time.perf_counter()))
    here.append((time.perf_counter(), {path.name for path in cache.folder.glob("*.parquet")}))
assert max(len(on_disk) for _, on_disk in here) <= 2


# %%
def draw_streaming(spans, here):
    """A line a shard: when it was fetched, read, and seen on disk."""
    start = min(begin for _, _, begin, _ in spans)
    looks = {"fetched": {"color": "#fbe6c4", "hatch": "////"}, "read": {"color": "#0072B2"}}
    figure, ax = plt.subplots(figsize=(7, 2.8))
    for what, name, begin, end in spans:
        row, label = int(name[6:11]), what if name == spans[0][1] else None
        place = {"left": begin - start, "height": 0.6, "edgecolor": "#555555", "label": label}
        ax.barh(row, end - begin, **place, **looks[what])
        if what == "fetched":
            seen = [moment for moment, on_disk in here if name in on_disk]
            disk = [end - start, max(seen, default=end) - start]
            label = "on disk" if row == 0 else None
            ax.plot(disk, [row + 0.42] * 2, color="black", linewidth=2, label=label)
    ax.set_xlabel("seconds")
    ax.set_ylabel("shard")
    ax.set_yticks(range(len({name for _, name, _, _ in spans})))
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.tight_layout()
    plt.show()


draw_streaming(spans, here)

# %% [markdown]
# Read it from top to bottom. Only the first shard is waited for. From then on, each solid bar begins where the one above it ends:
# the next shard was there in time. A black line ends when its shard has been read. There were never more than two of
# them on disk at once: the one that is read and the next one. The third place is kept for validation.
#
# The program `get_data` fetches shards to keep. It is mostly bars and care:

# %%
#| export scripts.get_data
"""Fetch or make the data to train on: `get_data --help`.

Fetches shards of a corpus in parallel; when interrupted, run it again and it goes on.
"""

from dataclasses import dataclass

from course_lib.dataset import open_dataset
from course_lib.host.errors import FlagError
from course_lib.host.program import run_program
from course_lib.host.remote import REMOTES, fetch_shards, remote_folder

# %%
#| export scripts.get_data
@dataclass(frozen=True)
class Settings:
    """Fetch or make the data to train on."""

    dataset: str = "bundled"
    """bundled (this Python's documentation), fineweb-edu, climbmix, or a file or folder of text."""
    shards: int = 8
    """Training shards of a remote corpus, about 100 MB each; the validation shard comes on top."""
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
            most = remote.num_shards - 1
            raise FlagError(f"--shards is {settings.shards}, expected {most} or fewer")
        names = [remote.shard(number) for number in (*range(settings.shards), -1)]
        fetch_shards(remote, names, remote_folder(settings.dataset), settings.workers)
    dataset = open_dataset(settings.dataset)
    for split in ("train", "val"):
        shards, rows = len(dataset.shards(split)), dataset.num_rows(split)
        print(f"{split:5s} {shards:5d} shards {rows:10,d} documents")
    print(f"in {dataset.folder}")


# %%
#| export scripts.get_data
def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("get_data", Settings, work, argv)


# %% [markdown]
# With no flags it makes the bundled corpus, or says what there is. (The helper prints HOME in place of your home folder.)

# %%
def run(program, flags):
    """Run a program of the course as a command line would, and print what it prints."""
    with redirect_stdout(StringIO()) as output:
        program(flags)
    print(without_folders(output.getvalue()), end="")


run(main, [])

# %% [markdown]
# The next cell is not run here: it downloads nine shards, some 900 MB. Run it when you want them.

# %% tags=["nbval-skip", "skip-execution"]
if in_notebook():  # a text that runs as a script does not download
    main(["--dataset", "fineweb-edu", "--shards", "8"])
    web = open_dataset("fineweb-edu")
    print(next(web.documents("train"))[:500])

# %% [markdown]
# A download of gigabytes is interrupted sooner or later. What happens then:
#
# | what happens | what `get_data` does |
# |---|---|
# | Ctrl-C, a crash, a power cut | what arrived stays in a hidden file `….part`; run again, it asks the server for the rest only, from that byte on |
# | the connection breaks, the server is busy | tries again after 1, 2, 4, 8 and 15 seconds, and gives up only after that many failures without progress |
# | the file on the hub was replaced meanwhile | the name of the part holds the version: the old part is dropped, not continued |
# | wrong bytes arrived | a SHA-256, a longer and far stricter hash, must be the hub's, and the parquet footer must be readable; else it is fetched anew |
# | the disk is too small | asked before the first byte |
# | all went well | the part gets its real name: a file that is called `shard_00000.parquet` is complete |
#
# Resuming at a byte is an ordinary feature of HTTP: the header `Range: bytes=1000-` asks for what follows the first 1,000 bytes.
#
# Streaming is `open_dataset("fineweb-edu", streaming=True)`. Without shards and without `streaming`, you are told what to do:

# %%
refused(lambda: open_dataset("climbmix"))

# %% [markdown]
# ## 7. The program `tok_train`
#
# Chapter 05 wrote `Tokenizer.train`. Now that there are datasets, it becomes a program. It reads **training** documents only: what is held out
# from the model is held out from its tokenizer too.

# %%
#| export scripts.tok_train
"""Train a tokenizer on the documents of a dataset: `tok_train --help`."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.progress import TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn

from course_lib.dataset import Dataset, open_dataset
from course_lib.host.errors import FlagError
from course_lib.host.program import run_program
from course_lib.host.progress import bars, rustbpe_merges
from course_lib.tokenizer import SPECIAL_TOKENS, Tokenizer, default_folder, fitting_vocab_size

# %%
#| export scripts.tok_train
@dataclass(frozen=True)
class Settings:
    """Train a tokenizer on the training documents of a dataset."""

    vocab_size: int | None = None
    """Tokens, the nine special ones included; by default what fits the text, up to 65,536."""
    max_chars: int = 2_000_000_000
    """Stop reading after so many characters."""
    doc_cap: int = 10_000
    """Characters to read of each document, so that no long one counts for too much."""
    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`), or a file or folder of your own text."""
    folder: Path | None = None
    """Where to put the tokenizer; by default where the other programs look for it."""


# %% [markdown]
# Of each document it reads the first 10,000 characters, so that a huge one does not fill the vocabulary with its own words.

# %%
#| export scripts.tok_train
def texts(dataset: Dataset, doc_cap: int, max_chars: int) -> Iterator[str]:
    """Training documents cut to `doc_cap` characters, until they have `max_chars` in all."""
    chars = 0
    for text in dataset.documents("train"):
        yield text[:doc_cap]
        chars += len(text[:doc_cap])
        if chars >= max_chars:
            return


# %%
#| export scripts.tok_train
def train(
    dataset: Dataset, vocab_size: int, doc_cap: int, max_chars: int
) -> tuple[Tokenizer, int, int]:
    """The tokenizer, and how many documents and characters it was trained on; draws two bars."""
    rows = dataset.num_rows("train")
    docs = chars = 0
    columns = TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with bars(*columns) as progress:
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

        with rustbpe_merges(lambda merges: progress.update(merging, completed=merges)):
            tokenizer = Tokenizer.train(counted(), vocab_size, allow_smaller=True)
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
            name = f"--{flag.replace('_', '-')}"
            raise FlagError(f"{name} is {given}, expected {value} or more")
    began = time.perf_counter()
    dataset = open_dataset(settings.dataset)
    vocab_size = settings.vocab_size or _fitting(dataset, settings)
    tokenizer, docs, chars = train(dataset, vocab_size, settings.doc_cap, settings.max_chars)
    folder = settings.folder or default_folder()
    tokenizer.save(folder)
    found = tokenizer.vocab_size
    if found < vocab_size:
        print(f"the text has pairs for {found:,} tokens only, fewer than {vocab_size:,}")
    print(f"dataset           {dataset.name}: {docs:,} documents, {chars:,} characters")
    print(f"vocabulary        {found:,} tokens: 256 bytes, {found - 265:,} merges, 9 special")
    print(f"bytes per token   {_bytes_per_token(tokenizer, dataset)} on validation text")
    print(f"time              {time.perf_counter() - began:.1f} s")
    print(f"saved in          {folder}")


# %%
#| export scripts.tok_train
def _fitting(dataset: Dataset, settings: Settings) -> int:
    chars = 0
    for text in texts(dataset, settings.doc_cap, settings.max_chars):
        chars += len(text)
        if fitting_vocab_size(chars) == 65_536:
            break
    return fitting_vocab_size(chars)


def _bytes_per_token(tokenizer: Tokenizer, dataset: Dataset) -> str:
    held_out = list(islice(dataset.documents("val"), 1000))
    tokens = sum(map(len, tokenizer.encode_batch(held_out)))
    return f"{sum(len(text.encode()) for text in held_out) / tokens:.2f}" if tokens else "unknown"


# %%
#| export scripts.tok_train
def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("tok_train", Settings, work, argv)


# %%
run(main, command_line(notebook_flags=[]))

# %% [markdown]
# How did it come to that number of tokens? By the rule of chapter 05: 600 characters or more of text for each token, and a power of
# two. With 40 million characters or more it would be 65,536.
#
# It was saved where the later programs look, so from here on `Tokenizer.load()` finds it. `uv run tok_train` in a terminal does the
# same.

# %%
tokenizer = Tokenizer.load()
print("HOME/" + str(default_folder().relative_to(home_dir())), f"{tokenizer.vocab_size:,} ids")
train_docs = list(bundled.documents("train"))
encoded = tokenizer.encode_batch(train_docs, bos=True)
num_tokens = sum(map(len, encoded))
chars = sum(map(len, train_docs))
print(f"{num_tokens:,} tokens to train on, of {chars / num_tokens:.2f} characters on average")

# %% [markdown]
# ## 8. From documents to batches
#
# By hand first, with ids made up: three documents, and 0 for BOS, "here begins something new". Put BOS before each
# document, and all of them into one flat **stream**. For a batch of B = 2 rows of T = 5 tokens, take B · T of them; the
# **targets** are the same, one later. So one token more is needed.

# %% tags=["nbval-check-output"]
three = [[11, 12, 13], [21, 22], [31, 32, 33, 34, 35, 36]]
stream = [token for document in three for token in (0, *document)]
B, T = 2, 5
inputs = np.array(stream[: B * T]).reshape(B, T)
targets = np.array(stream[1 : B * T + 1]).reshape(B, T)
print("stream ", stream)
print("inputs ", *inputs)
print("targets", *targets)
assert inputs.tolist() == [[0, 11, 12, 13, 0], [21, 22, 0, 31, 32]]
assert targets.tolist() == [[11, 12, 13, 0, 21], [22, 0, 31, 32, 33]]

# %% [markdown]
# Look at the ends. The last input of the first row, 0, has the target 21, which is the first input of the second row: **the
# shift goes across the ends of rows**. And 13, the end of a document, has BOS as its target: the model learns where documents end.
#
# Real text in four steps, each a generator that takes from the one before. A **generator** makes the next item when it is
# asked for, so an endless stream costs no memory. First the module:

# %%
#| export dataloader
"""Batches of ids for training: documents in one endless stream, tokenised ahead, cut into rows."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np

from course_lib.dataset import Dataset
from course_lib.documents import read_parquet
from course_lib.host.errors import CourseError
from course_lib.tokenizer import Tokenizer


# %% [markdown]
# **Read.** Documents from a position on, for ever. One pass over all is an **epoch**. With each document comes its place.

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

    position: {"epoch", "shard", "row"}. Of `world_size` ranks each gets every world_size-th
    document, so that each document goes to exactly one. Raises CourseError when a rank finds no
    document in a whole epoch.
    """
    shards = dataset.shards(split)
    epoch, number, start = position["epoch"], shards.index(position["shard"]), position["row"]
    found = number > 0 or start > 0  # an epoch begun elsewhere may have had its documents there
    while True:
        for row, text in read_parquet(dataset.path(split, number, stopped), start):
            if (row + number) % world_size == rank:
                found = True
                yield {"epoch": epoch, "shard": shards[number], "row": row}, text
        number, start = number + 1, 0
        if number == len(shards):
            if not found:
                raise CourseError(
                    f"the {split} split of {dataset.name} has no document for rank {rank} of "
                    f"{world_size}; give more text, or use fewer ranks"
                )
            epoch, number, found = epoch + 1, 0, False


# %%
begin = {"epoch": 0, "shard": "shard_00000.parquet", "row": 0}
for position, text in islice(read_from(bundled, "train", begin), 3):
    print(position, text[:40].split("\n"))

# %% [markdown]
# **Tokenise.** Many documents at a time, so that several threads have work.

# %%
#| export dataloader
DOCUMENTS_AT_ONCE = 128
CHARS_AT_ONCE = 2_000_000


def tokenized(
    documents: Iterator[tuple[dict, str]], tokenizer: Tokenizer, num_threads: int | None = None
) -> Iterator[tuple[dict, np.ndarray]]:
    """(position, ids) of each document, <|bos|> first; many are encoded at a time, on threads."""
    for group in _groups(documents):
        texts = [text for _, text in group]
        ids = tokenizer.encode_batch(texts, bos=True, num_threads=num_threads)
        for (position, _), row in zip(group, ids, strict=True):
            yield position, np.array(row, dtype=np.int32)


def _groups(documents: Iterator[tuple[dict, str]]) -> Iterator[list[tuple[dict, str]]]:
    """The documents in lists of 128, or of fewer when they are long."""
    group, chars = [], 0
    for document in documents:
        group.append(document)
        chars += len(document[1])
        if len(group) == DOCUMENTS_AT_ONCE or chars >= CHARS_AT_ONCE:
            yield group
            group, chars = [], 0
    if group:
        yield group


# %%
stories = [
    "A list is a set of items in order.",
    "The cat sat on the mat.",
    "Return the number of items in the list.",
    "If x is true, return None.",
    "Dogs bark.",
]
numbered = [({"row": row}, text) for row, text in enumerate(stories)]
few = list(tokenized(iter(numbered), tokenizer))
for position, ids in few[:2]:
    print(position, ids)
assert all(ids[0] == tokenizer.bos for _, ids in few)


# %% [markdown]
# **Cut.** As by hand above, but it keeps what is left for the next batch, and says where that begins.

# %%
#| export dataloader
def cut_batches(
    documents: Iterator[tuple[dict, np.ndarray]], batch_size: int, sequence_len: int, skip: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, dict]]:
    """(inputs, targets, position of the next token) of one batch after another.

    inputs, targets: (B, T) int32, cut from the documents end to end; the targets are the inputs
    one token later, across the ends of rows and batches. skip: tokens of the first document that
    earlier batches had.
    """
    size = batch_size * sequence_len
    waiting, have = deque(), -skip
    for document in documents:
        if not waiting and skip > len(document[1]):
            raise CourseError(
                f"the state of the data begins at token {skip} of a document that has "
                f"{len(document[1])}; start without a state"
            )
        waiting.append(document)
        have += len(document[1])
        while have > size:
            flat = _first(waiting, skip, size + 1)
            inputs = flat[:-1].reshape(batch_size, sequence_len)
            targets = flat[1:].reshape(batch_size, sequence_len)
            skip, have = skip + size, have - size
            while skip >= len(waiting[0][1]):
                skip -= len(waiting.popleft()[1])
            yield inputs, targets, {**waiting[0][0], "token": skip}


# %%
#| export dataloader
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
by_hand = [({"row": row}, np.array([0, *ids], np.int32)) for row, ids in enumerate(three)]
first = next(cut_batches(iter(by_hand), B, T))
assert first[0].tolist() == inputs.tolist() and first[1].tolist() == targets.tolist()
print("the next batch begins at", first[2])


# %% [markdown]
# The next token is 33: row 2 counts from 0 and is the third document, and 3 of its tokens are used, BOS among them.
#
# Now a batch of real tokens as a picture. For each row of inputs, its targets stand below.

# %%
def draw_batch(inputs, targets, tokenizer):
    """A box for each token, targets below inputs; at BOS a new colour and a heavy frame."""
    rows, columns = inputs.shape
    figure = plt.figure(figsize=(10, 1.0 * rows))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-1.6, columns + 0.1), ylim=(2.5 * rows, -0.2))
    ax.axis("off")
    document = 0
    for row in range(rows):
        for column in range(columns):
            document += int(inputs[row, column]) == tokenizer.bos
            following = document + (int(targets[row, column]) == tokenizer.bos)
            draw_token(ax, column, 2.5 * row, int(inputs[row, column]), document, tokenizer)
            draw_token(ax, column, 2.5 * row + 1, int(targets[row, column]), following, tokenizer)
        for y, label in ((2.5 * row, "inputs"), (2.5 * row + 1, "targets")):
            ax.text(-0.1, y + 0.45, f"row {row}\n{label}", ha="right", va="center", fontsize=9)
    plt.show()


def draw_token(ax, x, y, token_id, document, tokenizer):
    bos = token_id == tokenizer.bos
    text = tokenizer.token(token_id).decode(errors="backslashreplace")
    text = "BOS" if bos else text.replace(" ", "·").replace("\n", "↵")
    colour = ("#cfe4f3", "#fbe6c4", "#d5ecd4")[document % 3]
    frame = {"linewidth": 3 if bos else 0.7, "edgecolor": "black", "zorder": 3 if bos else 2}
    ax.add_patch(plt.Rectangle((x + 0.03, y), 0.94, 0.9, facecolor=colour, **frame))
    style = {"weight": "bold"} if bos else {"family": "monospace"}
    style |= {"ha": "center", "va": "center", "fontsize": min(9, 60 / len(text))}
    ax.text(x + 0.5, y + 0.45, text, zorder=4, **style)


# %%
inputs, targets, _ = next(cut_batches(iter(few), batch_size=3, sequence_len=14))
draw_batch(inputs, targets, tokenizer)


# %% [markdown]
# A heavy frame is BOS, and the colour changes there: that is where one document ends and the next begins. They do not care
# about row ends: a document goes on in the next row. Below each box is what should be predicted from it and what
# stands before it in the row. The last target of a row is the first input of the next.
#
# **A check.** Text with fewer tokens than one row would go round and round without ever saying so. So we say so.

# %%
#| export dataloader
def at_least_a_row(
    documents: Iterator[tuple[dict, np.ndarray]], sequence_len: int, from_the_start: bool
) -> Iterator[tuple[dict, np.ndarray]]:
    """The same documents.

    Raises CourseError when a whole epoch has too few tokens for a row and its last target.
    from_the_start: whether the first epoch is a whole one.
    """
    epoch, tokens, whole = None, 0, from_the_start
    for position, ids in documents:
        if epoch not in (None, position["epoch"]):
            if whole and tokens <= sequence_len:
                raise CourseError(
                    f"the text has {tokens:,} tokens, fewer than a row of "
                    f"sequence_len={sequence_len} and its last target; give more text, or a "
                    "smaller sequence_len"
                )
            tokens, whole = 0, True
        epoch, tokens = position["epoch"], tokens + len(ids)
        yield position, ids


# %% [markdown]
# **All together**, in a thread of its own. While the model is busy with a batch, the thread makes the next ones, until 8 wait
# ready. `state` says where the next batch *that you get* begins, not how far the thread has come.

# %%
#| export dataloader
AHEAD = 8  # batches that wait ready


class TokenLoader:
    """Batches (inputs, targets), each (B, T) int32, for ever; a thread makes them ahead of need.

    `state` is where the next batch begins, a small dict for JSON: TokenLoader(…, state=state) goes
    on there exactly, with any batch size. Use it in a `with` block, or call `close`, and its
    thread ends. num_threads: of the encoder, by default one for each core. Raises CourseError for
    sizes below 1, a rank outside 0 … world_size - 1, or a state of something else.
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
                f"batch_size={batch_size}, sequence_len={sequence_len}, rank={rank}, "
                f"world_size={world_size}: expected sizes of 1 or more, and a rank from 0 to "
                "world_size - 1"
            )
        origin = {"dataset": dataset.name, "split": split, "tokenizer": tokenizer.fingerprint}
        origin |= {"rank": rank, "world_size": world_size}
        self.state = {**origin, **_place(state, origin, dataset.shards(split))}
        self._stop = threading.Event()
        weakref.finalize(self, self._stop.set)  # when nobody has closed it
        documents = read_from(dataset, split, self.state, rank, world_size, self._stop.is_set)
        documents = tokenized(documents, tokenizer, num_threads)
        documents = at_least_a_row(documents, sequence_len, from_the_start=state is None)
        self._batches = cut_batches(documents, batch_size, sequence_len, skip=self.state["token"])
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="TokenLoader")
        self._ahead = deque(self._pool.submit(next, self._batches) for _ in range(AHEAD))


# %%
#| export dataloader
@add_to(TokenLoader)
def __iter__(self) -> Iterator[tuple[mx.array, mx.array]]:
    return self


@add_to(TokenLoader)
def __next__(self) -> tuple[mx.array, mx.array]:
    if self._stop.is_set():
        raise CourseError(
            "this loader is closed; make a new one with TokenLoader(…, state=loader.state)"
        )
    inputs, targets, place = self._ahead[0].result()  # an error stays: it comes again each time
    self._ahead.popleft()
    self._ahead.append(self._pool.submit(next, self._batches))
    self.state = {**self.state, **place}
    return mx.array(inputs), mx.array(targets)


# %%
#| export dataloader
@add_to(TokenLoader)
def close(self) -> None:
    """End the thread and close its file; what waits ready is dropped, `state` stays."""
    self._stop.set()
    self._pool.shutdown(cancel_futures=True)
    self._batches.close()


@add_to(TokenLoader)
def __enter__(self) -> "TokenLoader":
    return self


@add_to(TokenLoader)
def __exit__(self, *error) -> None:
    self.close()


# %%
#| export dataloader
def _place(state: dict | None, origin: dict, shards: list[str]) -> dict:
    """Where a saved state begins, or the beginning; CourseError when it is not of `origin`."""
    if state is None:
        return {"epoch": 0, "shard": shards[0], "row": 0, "token": 0}
    if not isinstance(state, dict):
        raise CourseError(f"the state of the data is {state!r}, expected a dict: a loader's state")
    for key, value in origin.items():
        if state.get(key) != value:
            raise CourseError(
                f"the state of the data has {key}={state.get(key)!r}, but now it is {value!r}; "
                "go on with the same, or start without a state"
            )
    place = {key: state.get(key) for key in ("epoch", "shard", "row", "token")}
    if place["shard"] not in shards:
        raise CourseError(
            f"the state of the data begins in shard {place['shard']}, which is not here; "
            "fetch it again"
        )
    for key in ("epoch", "row", "token"):
        if type(place[key]) is not int or place[key] < 0:
            raise CourseError(
                f"the state of the data has {key}={place[key]!r}, expected 0 or more; "
                "start without a state"
            )
    return place


# %%
with TokenLoader(bundled, tokenizer, "train", batch_size=4, sequence_len=64) as loader:
    inputs, targets = next(loader)
    print(inputs.shape, inputs.dtype, loader.state)
flat = [token for ids in encoded for token in ids]
assert inputs.flatten().tolist() == flat[:256] and targets.flatten().tolist() == flat[1:257]
refused(lambda: next(loader))  # its thread has ended

# %% [markdown]
# ## 9. What is wasted, what is cropped
#
# Why one flat stream? Chapter 04 padded each name to the same length. Do that with documents, and cut long ones to fit:

# %%
token_lengths = np.array([len(ids) for ids in encoded])


def one_document_a_row(lengths, T):
    """Shares: padding in the rows, and tokens that were cropped and are never seen."""
    kept = np.minimum(lengths, T).sum()
    return 1 - kept / (len(lengths) * T), 1 - kept / lengths.sum()


def one_stream(lengths, T):
    """Shares: rows that begin with BOS, and tokens whose document began in an earlier row."""
    starts = np.cumsum(lengths) - lengths  # where each document begins in the stream
    whole = lengths.sum() // T * T
    place, began = np.arange(whole), np.repeat(starts, lengths)[:whole]
    return np.mean(began[::T] == place[::T]), np.mean(began // T != place // T)


for T in (256, 2048):
    padding, cropped = one_document_a_row(token_lengths, T)
    with_bos, without_start = one_stream(token_lengths, T)
    print(
        f"T={T:4d}  one document a row: {padding:4.0%} padding, {cropped:4.0%} of the text cropped"
    )
    print(f"        one stream:         nothing of either; {with_bos:4.1%} of rows begin with BOS,")
    print(f"{'':28s}{without_start:4.0%} of tokens: their document began in an earlier row")


# %% [markdown]
# Padding each document pays twice: either most of the text is thrown away (T small) or much of the work is (T large). The stream
# throws away nothing. Its price: nearly every row begins in the middle of a document, and most tokens cannot see where
# their document began.
#
# The first rows of both, drawn to scale:

# %%
def draw_rows(ax, rows, T, title):
    """A line a row: documents in turn dark and light, a tick where one begins, padding hatched."""
    thin = {"height": 0.75, "edgecolor": "#777777", "linewidth": 0.5}
    for y, row in enumerate(rows):
        for begin, end, document, at_start in row:
            pad = document is None
            look = {"color": "white" if pad else ("#56B4E9", "#cfe4f3")[document % 2]}
            ax.barh(y, end - begin, left=begin, hatch="////" if pad else "", **look, **thin)
            if at_start:
                ax.plot([begin, begin], [y - 0.45, y + 0.45], color="black", linewidth=3)
    ax.set(xlim=(-T / 60, T), ylim=(len(rows) - 0.5, -0.5))
    ax.set(title=title, xlabel="position in the row", ylabel="row")


def padded_rows(lengths, T, count):
    return [
        [(0, min(n, T), document, True), (min(n, T), T, None, False)]
        for document, n in enumerate(lengths[:count].tolist())
    ]


def stream_rows(lengths, T, count):
    rows, starts = [[] for _ in range(count)], (np.cumsum(lengths) - lengths).tolist()
    for document, (start, n) in enumerate(zip(starts, lengths.tolist(), strict=True)):
        for row in range(start // T, min((start + n - 1) // T + 1, count)):
            begin, end = max(start, row * T), min(start + n, row * T + T)
            rows[row].append((begin - row * T, end - row * T, document, begin == start))
    return rows


# %%
T, count = 512, 12
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2))
draw_rows(axes[0], padded_rows(token_lengths, T, count), T, "one document a row, cropped or padded")
draw_rows(axes[1], stream_rows(token_lengths, T, count), T, "one stream")
figure.tight_layout()
plt.show()

# %% [markdown]
# A heavy tick is BOS; light and dark are different documents; hatched is padding. On the left every row begins with BOS, and a
# row that is full to its end was probably cropped. On the right no place is empty, and most rows have no tick at their left end.
#
# There is a third way, **best-fit packing**: for each row, look for documents that fill it exactly or nearly so. Then
# every row begins with BOS, and little is padded or cropped. It costs a search, and a loader that holds many documents in its hands.
# Newer versions of nanochat do that; exercise 6.4 tries it. We stay with the stream, which is simple, loses nothing, and
# is what nanochat's published models of 2025 were trained with.
#
# One thing to be honest about. Attention in a row sees *everything* before it in that row, the end of the previous document
# included. Nothing stops it but what the model learns BOS to mean. A mask could forbid it; the makers of Llama 3 report that in
# ordinary pretraining it made little difference.
#
# ## 10. Stop and go on
#
# Training for days is stopped in the middle: by a power cut, by a lid that is closed. To go on **exactly**, weights are
# not enough. The data must go on with the very next batch. The state is JSON, so it can be stored with the weights:

# %%
few_folder = scratch / "few"
write_shards(docs[:40], few_folder, shard_chars=30_000)
few_docs = Dataset("few", few_folder, sorted(path.name for path in few_folder.iterdir()))
sizes = {"batch_size": 4, "sequence_len": 128}


def batches_from(state, count):
    """The next `count` batches as lists of ids, and the state after them."""
    with TokenLoader(few_docs, tokenizer, "train", state=state, **sizes) as loader:
        ids = [inputs.tolist() for inputs, _ in islice(loader, count)]
        return ids, loader.state


# %%
without_stop, _ = batches_from(None, 8)
before, state = batches_from(None, 5)
(scratch / "state.json").write_text(json.dumps(state))
print((scratch / "state.json").read_text())
after, _ = batches_from(json.loads((scratch / "state.json").read_text()), 3)
assert before + after == without_stop

# %% [markdown]
# `dataset`, `split`, `tokenizer`, `rank` and `world_size` say what the place belongs to: in another dataset, row 3 is another
# document, so such a state is refused. The place itself is four numbers. It says nothing about batches, so you may go on
# with another batch size.
#
# The end of an epoch is no special place. These batches run over it:

# %%
few_texts = list(few_docs.documents("train"))
few_tokens = sum(map(len, tokenizer.encode_batch(few_texts, bos=True)))
in_epoch = few_tokens // 512  # a batch has 4 · 128 tokens
before, state = batches_from(None, in_epoch)
place = {key: state[key] for key in ("epoch", "shard", "row", "token")}
print(f"{few_tokens:,} tokens are {few_tokens / 512:.2f} batches; after {in_epoch} of them:", place)
without_stop, last = batches_from(None, in_epoch + 3)
after, _ = batches_from(json.loads(json.dumps(state)), 3)
assert before + after == without_stop and last["epoch"] == 1
refused(lambda: batches_from({**state, "tokenizer": "another"}, 1))

# %% [markdown]
# Several published ports of such programs save the weights only. Then training begins again with the first document, at whatever
# step it is. A run that is stopped often sees its first documents many times and its last never. The loss curve does not show
# it: on text that was seen before, the loss even looks better.

# %%
first_part, _ = batches_from(None, 5)
resumed_without_state, _ = batches_from(None, 5)
print("batches seen twice:", sum(batch in first_part for batch in resumed_without_state), "of 5")
assert resumed_without_state == first_part


# %% [markdown]
# **Ranks.** Several processes may train one model together, each on a part of every batch. They are numbered: process
# `rank` of `world_size`. Each must get other documents, and together they must get all. So rank r takes every
# `world_size`-th document, counted from the r-th:

# %%
def one_epoch(rank, world_size):
    begin = {"epoch": 0, "shard": "shard_00000.parquet", "row": 0}
    endless = read_from(few_docs, "train", begin, rank, world_size)
    return [text for position, text in takewhile(lambda item: item[0]["epoch"] == 0, endless)]


alone, parts = one_epoch(0, 1), [one_epoch(rank, 2) for rank in (0, 1)]
print(len(alone), "documents =", " + ".join(str(len(part)) for part in parts))
assert not set(parts[0]) & set(parts[1]) and sorted(parts[0] + parts[1]) == sorted(alone)


# %% [markdown]
# The two parts have different numbers of tokens. So the ranks end their epochs at different steps, which does no harm: every
# batch is full on every rank.
#
# ## 11. Where the time goes
#
# Each of the three stages alone, on the same documents, in milliseconds for a million tokens:

# %%
def milliseconds(action, repeat=3):
    """The shortest of a few times, for a million tokens of the bundled corpus."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return 1e9 * min(times) / num_tokens


arrays = [({"row": row}, np.array(ids, np.int32)) for row, ids in enumerate(encoded)]
stages = {
    "read parquet": milliseconds(lambda: list(bundled.documents("train"))),
    "encode": milliseconds(lambda: tokenizer.encode_batch(train_docs, bos=True)),
    "cut into batches": milliseconds(lambda: list(cut_batches(iter(arrays), 8, 1024))),
}
draw_bars(stages, "milliseconds for a million tokens")


# %% [markdown]
# Nearly all of it is encoding, which is why it is worth threads. How close does the whole loader come to encoding alone?

# %%
def loader_speed(batch_size, sequence_len, count):
    """Tokens a second of a loader that nobody keeps waiting."""
    with TokenLoader(bundled, tokenizer, "train", batch_size, sequence_len) as loader:
        next(loader)
        began = time.perf_counter()
        for _ in range(count):
            next(loader)
        return count * batch_size * sequence_len / (time.perf_counter() - began)


encode_speed = 1e9 / stages["encode"]
speed = loader_speed(8, 1024, budget(600, quick=100))
print(f"million tokens a second: encode_batch {encode_speed / 1e6:.1f}, loader {speed / 1e6:.1f}")


# %% [markdown]
# It depends on the machine and on what else runs there. A small model on a laptop trains on thousands of tokens a second and not on
# millions (chapter 10 measures it), so the loader has time to spare. And the thread hides even what it does need. Here a training
# step is a `sleep`, like a GPU that is busy:

# %%
def time_per_step(batches, step_seconds, count):
    next(batches)
    began = time.perf_counter()
    for _ in range(count):
        next(batches)
        time.sleep(step_seconds)
    return 1000 * (time.perf_counter() - began) / count


step, count, size = 0.03, budget(100, quick=20), (32, 1024)
begin = {"epoch": 0, "shard": bundled.shards("train")[0], "row": 0}
one_after_the_other = cut_batches(tokenized(read_from(bundled, "train", begin), tokenizer), *size)
waited = {"the step alone": 1000 * step}
waited["batch made in the step"] = time_per_step(one_after_the_other, step, count)
with TokenLoader(bundled, tokenizer, "train", *size) as loader:
    waited["batch made ahead"] = time_per_step(loader, step, count)
draw_bars(waited, "milliseconds a step")


# %% [markdown]
# Made in the step, each batch costs its own time on top. Made ahead, a step takes as long as the step. (On a CPU without a
# GPU the two share the cores, and less is won.)
#
# **Memory.** A loader that runs for a month must not grow. The memory of this process, while 10,000 batches go by (fewer in
# a quick run):

# %%
def megabytes():
    """Memory that this process holds now; where the system does not say, the most it ever held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)  # macOS counts in bytes, Linux in KB


count, memory = budget(10_000, quick=500), {}
with TokenLoader(bundled, tokenizer, "train", batch_size=8, sequence_len=256) as loader:
    for n in range(count + 1):
        next(loader)
        if n % (count // 50) == 0:
            memory[n] = megabytes()
print(f"{count:,} batches, {loader.state['epoch']} epochs")

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.4))
ax.plot(list(memory), list(memory.values()), marker=".", color="#0072B2")
ax.set_ylim(0, 1.3 * max(memory.values()))
ax.set_xlabel("batches")
ax.set_ylabel("memory, MB")
ax.spines[["top", "right"]].set_visible(False)
plt.show()


# %% [markdown]
# Flat, but for a few MB at the start. Most of it is Python, its libraries and what this notebook has made so far. At any moment the
# loader holds about a thousand rows of a shard, a group of documents and eight batches.
#
# ## Exercises
#
# ### Exercise 6.1 — rows from a stream
#
# 10 minutes, ●○○. Write `rows(documents, bos, B, T)`: `documents` is a list of lists of ids. Put `bos` before each, join them,
# and return `(inputs, targets)` as two lists of B rows of T ids. If there are too few ids, raise a `ValueError`.
#
# <details><summary>Hint</summary>How many ids are needed for B · T inputs and their targets? Cut two flat pieces first, and
# both into rows afterwards.</details>

# %% tags=["exercise"]
def rows(documents, bos, B, T):
    raise NotImplementedError


# %%
check(exercises.rows, rows)


# %% [markdown]
# ### Exercise 6.2 — your own split
#
# 15 minutes, ●○○. Write `held_out(texts, one_in)`: the set of those texts that are held out, about one in `one_in` of them. It must
# depend on nothing but each text: not on its place, not on the others, not on the run. Do not use CRC-32 this time.
#
# <details><summary>Hint</summary>hashlib.sha256(text.encode()).digest() is 32 bytes; int.from_bytes makes a number of them.
# Why would len(text) be a bad hash?</details>

# %% tags=["exercise"]
def held_out(texts, one_in):
    raise NotImplementedError


# %%
check(exercises.held_out, held_out)


# %% [markdown]
# ### Exercise 6.3 — where is token n?
#
# 20 minutes, ●●○. A stream is made of documents with these lengths (BOS counted in), epoch after epoch. Write
# `place(lengths, n)`: `(epoch, document, offset)` of token n, all counted from 0. This is what `state` keeps. n may be very
# large, so do not walk through the epochs one by one.
#
# <details><summary>Hint</summary>divmod by the length of an epoch first. Then go through the documents of one epoch, and take
# off the length of each that lies before.</details>

# %% tags=["exercise"]
def place(lengths, n):
    raise NotImplementedError


# %%
check(exercises.place, place)


# %% [markdown]
# ### Exercise 6.4 — best-fit packing
#
# 30 minutes, ●●●. Write `pack(lengths, T)`: a list of rows, each a list of document numbers, every document in exactly one row, and no row
# longer than T. Fill one row after the other: always put in the longest document that still fits; when none fits, begin the
# next row. No document is longer than T.
#
# Then try it on this chapter's corpus: how much padding is left at T = 2048, when longer documents are cut to T first?
# (`np.minimum(token_lengths, 2048).tolist()`)
#
# <details><summary>Hint</summary>Keep the documents that wait sorted by length. `bisect` finds the longest that fits.</details>

# %% tags=["exercise"]
def pack(lengths, T):
    raise NotImplementedError


# %%
check(exercises.pack, pack)

# %% [markdown]
# Solutions: [solutions/06_data.ipynb](solutions/06_data.ipynb)
#
# ## Summary
#
# - Documents come from `.txt`, `.jsonl` and `.parquet`; a dataset is a folder of parquet shards, the last one for validation.
# - A hash of the text decides what is held out, so that nothing changes sides when text is added.
# - Real corpora are fetched with `get_data`, or streamed with a few shards on disk at a time; what was interrupted goes on.
# - BOS before each document, one flat stream, cut into rows; the targets are the stream one token later. Nothing is lost, and most
#   rows begin in mid-document.
# - The loader works ahead in a thread, and its `state`, a few numbers, is enough to go on with the very next token.
#
# ## Pitfalls
#
# - A resumed run that forgot its place in the data: it trains on the beginning again, and its loss looks good.
# - Shifting targets inside each row only: the last token of a row then has no target, or a wrong one.
# - Validation text in the training set: copies of a document on both sides, or a split that moves when text is added.
# - No BOS: the model never learns that a text may begin, and a sample has nothing to start from.
# - Counting epochs from steps when several ranks read: each ends its epoch at a step of its own.
# - Encoding in the training step: the GPU waits for Python in every step, and nobody notices, because nothing is broken.
#
# ## Further reading
#
# - [The FineWeb Datasets](https://arxiv.org/abs/2406.17557), Penedo et al., 2024: how web pages become pretraining text.
# - [fineweb-edu-100b-shuffle](https://huggingface.co/datasets/karpathy/fineweb-edu-100b-shuffle): the shards, and a page to look at their rows.
# - [nanochat](https://github.com/karpathy/nanochat): the program whose data this chapter reads.
# - [Parquet: the format](https://parquet.apache.org/docs/file-format/): row groups, columns, pages and the footer.
# - [The Llama 3 Herd of Models](https://arxiv.org/abs/2407.21783), 2024, section 3.2: a mask between documents.
# - [Fewer Truncations Improve Language Modeling](https://arxiv.org/abs/2404.10830), Ding et al., 2024: best-fit packing.
#
# **Next:** chapter 07, attention: how a position finds out which earlier ones matter to it.

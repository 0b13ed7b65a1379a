# %% [markdown]
# # 06 · Data
#
# **Goal.** Turn documents into an endless row of training batches, offline by default and at 100 billion tokens when wanted, and be able to stop and go on at the very next token.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb) |
# | Time | 80 minutes to read, 75 for the exercises, 20 for the appendix; under a minute to run |
# | Memory | under 600 MB |
# | You will build | documents from files of any form, datasets of shards, a loader that can resume → `course_lib.data`: `documents`, `dataset`, `dataloader` |
#
# A model learns from text by predicting the next token, a few thousand tokens at a time, for days. Something has to
# bring that text: find it, keep some aside for validation, turn it into ids, cut it into rows, and be quick about
# it. None of this is mathematics. Much of what goes wrong in training goes wrong here all the same.

# %% [markdown]
# ![Map of the course: chapter 06 data is marked, in Part II; after 05 tokenizer, and 07 attention comes next](images/map_06.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · **06** · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [19](19_memory.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/06_data.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %% [markdown]
# Text moves through three modules: files → **documents** → **dataset** → **dataloader**. After the imports of this
# notebook come those of the first two.

# %%
import inspect
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import textwrap
import time
from contextlib import redirect_stdout
from io import StringIO
from itertools import islice, takewhile

import matplotlib.pyplot as plt
import numpy as np

from course_lib.classroom import add_to, budget, check
from course_lib.classroom.exercises import data as exercises
from course_lib.classroom.plots import draw_bars
from course_lib.data.remote import Remote
from course_lib.data.tokenizer import Tokenizer, default_folder
from course_lib.scripts import get_data, tok_train

# %%
#| export data.documents
"""Documents: the texts of a parquet file, one after another, and how a long text is cut."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten

import pyarrow as pa
import pyarrow.parquet as pq

from course_lib.data.parquet import open_whole
from course_lib.host.errors import CourseError

# %%
#| export data.dataset
"""Datasets: documents in parquet shards, the last shard for validation; made, found or fetched."""

import hashlib
import platform
import zlib
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
from course_lib.host.errors import CourseError
from course_lib.host.files import hold_for, make_folder_atomically, only_one, remove_unless_held
from course_lib.host.paths import existing_path, home_dir, is_writable
from course_lib.host.words import printable

# %%
scratch = Path(tempfile.mkdtemp()).resolve()  # a folder for this notebook's experiments


def fresh(name):
    """A place for an experiment, empty however often its cell runs."""
    shutil.rmtree(scratch / name, ignore_errors=True)
    return scratch / name


def without_folders(text):
    """The text without this machine's own folders."""
    return str(text).replace(f"{scratch}/", "").replace(str(home_dir()), "HOME")


def refused(action):
    """Do what has to fail with a CourseError, and print the error."""
    try:
        action()
    except CourseError as error:
        print(textwrap.fill(f"refused: {without_folders(error)}", 85))
    else:
        raise AssertionError("this should have been refused")


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
example = next(doc for doc in docs if doc.startswith("textwrap\n"))
print(*example[:300].splitlines(), sep="\n│ ")

# %% [markdown]
# How long are they? The axis is **logarithmic**: each step to the right multiplies by ten.

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.6))
ax.hist(lengths, bins=np.geomspace(min(lengths), max(lengths), 30), color="#0072B2", edgecolor="w")
half = np.median(lengths)
ax.axvline(half, color="#D55E00", linestyle="--")
ax.text(half, ax.get_ylim()[1], f"half are shorter than {half:,.0f}", ha="center", va="bottom")
ax.set(xscale="log", xlabel="characters in a document", ylabel="documents")
plt.show()
print(f"the shortest has {min(lengths):,} characters, the longest {max(lengths):,}")

# %% [markdown]
# From a line to a small book: the longest is thousands of times as long as the shortest. Real text is like that, and it
# is why documents do not fit neatly into rows (section 8).
#
# Be clear about what a model trained on this will be. It **will** write what looks like documentation: a signature, a
# sentence that begins with "Return", indented lines. It will know nothing of the world, answer no question, and be wrong about
# Python too. That is enough to see that every part works, and it trains while you watch.
#
# The real corpora are web pages, filtered and shuffled. They are cut into files called **shards**, each with about 250 million
# characters, which compress to about 100 MB. How much is that?

# %%
for name, tokens in {"fineweb-edu": 100e9, "climbmix": 400e9}.items():  # as their full names say
    count = REMOTES[name].num_shards
    size = f"{count / 10:3.0f} GB, {count / 4:5,.0f} billion characters"
    print(f"{name:11s} {count:,} shards, {size}, {tokens / 1e9:.0f} billion tokens")

# %% [markdown]
# A rule of thumb says: train on about **20 tokens for each parameter** (chapter 10 says more). What the models of this
# course would need, by their number of layers (chapter 08 counts their parameters):

# %%
parameters = {"d4": 36_700_160, "d12": 185_597_952, "d20": 560_988_160, "d26": 1_081_999_360}
bundled_tokens = sum(lengths) / 3  # three characters a token; section 5 measures it
print("       tokens needed   shards of fineweb-edu   times the bundled corpus")
for model, count in parameters.items():
    needed = 20 * count
    of_shards, times = needed / (100e9 / 1823), needed / bundled_tokens
    print(f"{model:4s} {needed / 1e9:7.2f} billion {of_shards:23,.0f} {times:26,.0f}")

# %% [markdown]
# So d12 needs some 68 shards: 7 GB to fetch, 17 billion characters. The largest needs about a fifth of fineweb-edu. The bundled corpus
# would have to be read hundreds of times even for d4, and a model that reads the same text so often learns it by heart.
# For learning how it all works, a few passes are enough.
#
# ## 2. Parquet
#
# A **parquet** file is a table stored column by column, so that a program can read the column `text` and leave the others.
# A document is a row of that table. The rows come in **row groups**, each compressed by itself, so that a reader can begin in
# the middle. Where each group begins is said in a **footer** at the end. A file that was cut off has lost its footer,
# and is noticed at once.
#
# (Text of your own may also be `.txt`, `.md`, `.jsonl`, `.csv` and more: see the appendix.)

# %%
table = pa.table({"text": docs})
pq.write_table(table, scratch / "docs.parquet", row_group_size=120, compression="zstd")
stored = (scratch / "docs.parquet").read_bytes()
plain = sum(len(doc.encode()) for doc in docs)
ratio = plain / len(stored)
print(f"{plain:,} bytes of text, {len(stored):,} as parquet: {ratio:.1f} times smaller")


# %%
def draw_parquet(path):
    """The file as a strip from its first byte to its last: row groups, then the footer."""
    about = pq.read_metadata(path)
    groups = [about.row_group(n) for n in range(about.num_row_groups)]
    sizes = [group.column(0).total_compressed_size / 1000 for group in groups]
    starts = np.cumsum([0, *sizes])
    figure, ax = plt.subplots(figsize=(8, 1.6))
    ax.barh(0, sizes, left=starts[:-1], color="#cfe4f3", edgecolor="#555555")
    for group, size, start in zip(groups, sizes, starts, strict=False):
        ax.text(start + size / 2, 0.48, group.num_rows, ha="center", fontsize=9)
    footer = path.stat().st_size / 1000 - starts[-1]
    ax.barh(0, footer, left=starts[-1], color="white", edgecolor="black", hatch="/////")
    ax.text(starts[-1], -0.75, "footer", ha="center", fontsize=9)
    ax.set(ylim=(-0.9, 0.9), yticks=[], xlabel="thousand bytes from the beginning of the file")
    ax.spines[["top", "left", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()


draw_parquet(scratch / "docs.parquet")


# %% [markdown]
# Each plain box is a row group, with its number of documents above. They differ in bytes, since documents do. The footer is a
# sliver at the end.
#
# Opening reads the footer alone. Most of the function refuses what is no table of texts, and says why.

# %%
#| export data.documents
def open_parquet(path: Path) -> pq.ParquetFile:
    """The parquet file, its footer read.

    Raises CourseError when it is damaged or has no column `text` of strings, and OSError when the
    system cannot open it.
    """
    file = open_whole(path)
    names = file.schema_arrow.names
    if names.count("text") != 1:
        raise CourseError(
            f"{path} has the columns {shorten(', '.join(names), 80) or '(none)'}; expected one "
            "`text`: rename the one with the text"
        )
    kind = file.schema_arrow.field("text").type
    if pa.types.is_dictionary(kind):  # each text stored once, and a number for each row
        kind = kind.value_type
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_string(kind) for is_string in strings):
        raise CourseError(f"{path}: the column `text` holds {kind}, expected string; convert it")
    return file


# %% [markdown]
# Reading can begin at any row: the groups before it are skipped.

# %%
#| export data.documents
def read_parquet(path: Path, start: int = 0) -> Iterator[tuple[int, str]]:
    """(row, text) of a parquet file from row `start` on; rows without a text (null) are skipped.

    Row groups before `start` are not read. Raises CourseError as `open_parquet` does.
    """
    with open_parquet(path) as file:
        row, groups = 0, list(range(file.num_row_groups))
        while groups and row + file.metadata.row_group(groups[0]).num_rows <= start:
            row += file.metadata.row_group(groups.pop(0)).num_rows
        try:
            for batch in file.iter_batches(16, row_groups=groups, columns=["text"]):
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


# %% [markdown]
# Is that true? We overwrite a part of the first group. Row 500 is in the fifth:

# %%
assert [text for _, text in read_parquet(scratch / "docs.parquet")] == docs
(scratch / "damaged.parquet").write_bytes(stored[:50] + bytes(1000) + stored[1050:])
assert next(read_parquet(scratch / "damaged.parquet", start=500)) == (500, docs[500])
refused(lambda: next(read_parquet(scratch / "damaged.parquet")))


# %% [markdown]
# ## 3. The split, and shards
#
# Some documents must never be trained on. They are **held out** for **validation**: measuring the loss on text the model
# has not seen. Which ones? Three ways to choose 5 %: the **last** ones in order; some **at random**; or **by the text itself**: compute
# a number from the bytes of the document, and take those whose number can be divided by 20.
#
# Such a number is called a **hash**. Ours is CRC-32, a checksum that is the same on every machine and in every year. (Python's own
# `hash` differs from run to run.)

# %%
#| export data.dataset
def is_held_out(text: str) -> bool:
    """Whether a document belongs to validation, as about one in twenty does; by its text alone."""
    return zlib.crc32(text.encode()) % 20 == 0


# %% tags=["nbval-check-output"]
for text in ("a dog", "a dog!", "the cat", "a fat cat", "a bird"):
    crc = zlib.crc32(text.encode())
    print(f"{text:9s} {crc:13,} mod 20 = {crc % 20:2d}  held out: {is_held_out(text)}")

# %%
count = sum(map(is_held_out, docs))
print(f"{count} of {len(docs)} documents are held out, {count / len(docs):.1%}")
assert 0.02 < count / len(docs) < 0.09


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
# Counted are those that left and those that came. About 36 are held out, so 68 means that nearly all of them left, and as many
# others came. The hash moves nothing. And a document that occurs twice, as web pages often do, is on the same side both times.
#
# Two more rules, for the extremes. A huge corpus needs no more than 10 million characters of validation, and a tiny one must not
# end with an empty side. The hash moves nothing; these two rules can. After 10 million characters a copy of a held-out text *is* trained on,
# and adding a fourth poem to three may move one of them.

# %%
#| export data.dataset
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


# %%
print(list(split_documents(["a dog", "  \n", "a cat"])))  # no blank ones; each side has one


# %% [markdown]
# The shards are written into a folder with another name, which is renamed at the end. A program that is killed in the middle
# leaves nothing that looks finished.

# %%
#| export data.dataset
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
    write_shards(docs, fresh(name), shard_chars=500_000)
shards = sorted((scratch / "once").iterdir())
print(*(shard.name for shard in shards), sep="\n")
last_shard = [text for _, text in read_parquet(shards[-1])]
assert last_shard == [doc for doc in docs if is_held_out(doc)]  # the last shard is validation
assert all(shard.read_bytes() == (scratch / "twice" / shard.name).read_bytes() for shard in shards)


# %% [markdown]
# The last shard is validation. The real corpora do the same, so the folder alone says everything.
#
# ## 4. A dataset
#
# So a **dataset** is a folder and the names of its shards. The class has four methods. Reading goes through `path`: it joins two
# names, unless the dataset has a cache that fetches shards when they are wanted (section 9).

# %%
#| export data.dataset
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
            raise CourseError(
                f"{folder} has {len(shards)} shards, expected two or more: "
                "the last is for validation"
            )
        self.name, self.folder, self._cache = name, folder, cache
        self.fingerprint = fingerprint or name
        self.streamed = cache is not None
        self._shards = {"train": shards[:-1], "val": shards[-1:]}

    def shards(self, split: str) -> list[str]:
        """Names of the shards of "train" or "val". Raises CourseError for another split."""
        if split not in self._shards:
            raise CourseError(f"there is no split {split!r}; expected train or val")
        return self._shards[split]


@add_to(Dataset)
def path(self, split: str, number: int, stopped: Callable[[], bool] = lambda: False) -> Path:
    """File of the shard `number` of a split, fetched first when the dataset is streamed."""
    shards = self.shards(split)
    if self._cache is None or (self.folder / shards[number]).exists():
        return self.folder / shards[number]
    following = shards[(number + 1) % len(shards)]
    if (self.folder / following).exists():
        following = shards[number]  # nothing to fetch ahead
    return self._cache.get(shards[number], following, stopped)


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


@add_to(Dataset)
def num_bytes(self, split: str) -> int:
    """Bytes of the text of a split, about: what the footers of its files say."""
    size = 0
    for number in range(len(self.shards(split))):
        with open_parquet(self.path(split, number)) as file:
            column = file.schema_arrow.names.index("text")
            groups = map(file.metadata.row_group, range(file.num_row_groups))
            size += sum(group.column(column).total_uncompressed_size for group in groups)
    return size


# %% [markdown]
# What the course makes or downloads is kept in one folder, its **home**: `COURSE_HOME` if you set that, else a
# folder in your user's cache. The bundled corpus is written there once for each version of Python, in the order of a hash of
# its documents, which is as good as shuffled. Its folder is named after its size and a hash of all of it: by its content a
# run knows its text again. Two programs may want it at the same moment: a lock lets one of them make it while the other waits.

# %%
#| export data.dataset
def bundled_folder() -> Path:
    """Folder of the bundled corpus, the documentation of this Python; made on the first call."""
    name = f"bundled-2-python-{platform.python_version()}"  # 2: of the way it is collected
    home = home_dir() / "datasets" / name
    if made := list(home.glob("[0-9]*")):
        return made[0]
    with only_one(home):
        made = list(home.glob("[0-9]*"))
        if not made:
            by_hash = sorted(
                python_docs.documents(), key=lambda text: hashlib.sha256(text.encode()).digest()
            )
            made = [home / fingerprint_of_texts(by_hash)]
            write_shards(by_hash, made[0], shard_chars=1_000_000)
    return made[0]


# %%
def in_folder(folder):
    return Dataset(folder.name, folder, sorted(path.name for path in folder.glob("*.parquet")))


bundled = in_folder(bundled_folder())
for split in ("train", "val"):
    print(f"{split:5s} {len(bundled.shards(split))} shards, {bundled.num_rows(split)} documents")
print(next(bundled.documents("val"))[:60].splitlines())


# %% [markdown]
# The programs call `open_dataset(name)`. It opens `"bundled"`, a corpus from the hub (section 9), or a file or folder of your
# own text, which comes in the appendix.
#
# ## 5. Tokens
#
# Chapter 05 wrote `Tokenizer.train`. The program `tok_train` calls it with the **training** documents of a dataset: what is held
# out from the model is held out from its tokenizer too. Of each it reads the first 10,000 characters, so that a huge one does not
# fill the vocabulary with its own words. (`data.tokenizer_training` is this, with progress bars; the program adds the flags.)
#
# It saves the tokenizer in the home, where the later programs look, and **replaces** one that is there. A model is useless
# with another tokenizer than its own, so this cell trains only if you have none.

# %%
def run(program, flags):
    """Run a program of the course as a command line would, and print what it prints."""
    with redirect_stdout(StringIO()) as output:
        program(flags)
    print(without_folders(output.getvalue()), end="")


if (default_folder() / "tokenizer.json").exists():
    print("you have a tokenizer; it stays")
else:
    run(tok_train.main, [])  # in a terminal: uv run tok_train

# %% [markdown]
# (HOME stands for the course's home.) The number of tokens follows the rule of chapter 05: 600 characters or more of text
# for each token, and a power of two.

# %%
tokenizer = Tokenizer.load()
train_docs = list(bundled.documents("train"))
encoded = tokenizer.encode_batch(train_docs, bos=True)
num_tokens = sum(map(len, encoded))
per_token = sum(map(len, train_docs)) / num_tokens
print(f"{tokenizer.vocab_size:,} ids; {num_tokens:,} tokens to train on,")
print(f"each of {per_token:.2f} characters on average")

# %% [markdown]
# ## 6. One stream, cut into batches
#
# By hand first, with ids made up: three documents, and 0 for BOS, "here begins something new". Put BOS before each
# document, and all of them into one flat **stream**. For a batch of B = 2 rows of T = 5 tokens, take B · T of them; the
# **targets** are the same, one later. So one token more is needed.

# %% tags=["nbval-check-output"]
three = [[11, 12, 13], [21, 22], [31, 32, 33, 34, 35, 36]]
stream = [token for document in three for token in (0, *document)]
B, T = 2, 5
by_hand = (np.array(stream[: B * T]).reshape(B, T), np.array(stream[1 : B * T + 1]).reshape(B, T))
print("stream ", stream)
print("inputs ", *by_hand[0])
print("targets", *by_hand[1])
assert by_hand[0].tolist() == [[0, 11, 12, 13, 0], [21, 22, 0, 31, 32]]
assert by_hand[1].tolist() == [[11, 12, 13, 0, 21], [22, 0, 31, 32, 33]]

# %% [markdown]
# Look at the ends. The last input of the first row, 0, has the target 21, which is the first input of the second row: **the
# shift goes across the ends of rows**. And 13, the end of a document, has BOS as its target: the model learns where documents end.
#
# Real text takes four steps, each a generator that asks the one before for its next item:
# `read_from` → `tokenized` → `at_least_a_row` → `cut_batches`. First the module:

# %%
#| export data.dataloader
"""Batches of ids for training: documents in one endless stream, tokenised ahead, cut into rows."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np

from course_lib.data.dataset import Dataset
from course_lib.data.documents import read_parquet
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError


# %% [markdown]
# **Read.** Documents from a position on, for ever. One pass over all is an **epoch**. With each document comes its position:
# epoch, shard, and `row`, the document's number in its file. Several processes may share the reading; `rank` is the number of this one
# among `world_size` (not the rank of a merge, as in chapter 05). Section 7 comes back to that.

# %%
#| export data.dataloader
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
    document of a shard; each shard begins with the next rank, so that with small shards too all
    get some. Raises CourseError when a rank finds no document in a whole epoch.
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
beginning = {"epoch": 0, "shard": "shard_00000.parquet", "row": 0}
for position, text in islice(read_from(bundled, "train", beginning), 3):
    print(position, text[:20].splitlines())

# %% [markdown]
# **Tokenise.** Many documents at a time, so that several threads have work.

# %%
#| export data.dataloader
DOCUMENTS_AT_ONCE = 128
CHARS_AT_ONCE = 2_000_000


def tokenized(
    documents: Iterator[tuple[dict, str]], tokenizer: Tokenizer, num_threads: int | None = None
) -> Iterator[tuple[dict, np.ndarray]]:
    """(position, ids) of each document, <|bos|> first; many are encoded at a time, on threads."""
    for group in _groups(documents):
        texts = [text for _, text in group]
        ids = tokenizer.encode_arrays(texts, bos=True, num_threads=num_threads)
        yield from zip((position for position, _ in group), ids, strict=True)


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
few = list(tokenized((({"row": n}, story) for n, story in enumerate(stories)), tokenizer))
print(few[1])
assert all(ids[0] == tokenizer.bos for _, ids in few)


# %% [markdown]
# **A check.** Text with fewer tokens than one row would go round and round without ever saying so. So we say so.

# %%
#| export data.dataloader
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


# %%
write_shards(docs[:40], fresh("few"), shard_chars=30_000)
few_docs = in_folder(scratch / "few")
forever = tokenized(read_from(few_docs, "train", beginning), tokenizer)
refused(lambda: list(at_least_a_row(forever, sequence_len=1_000_000, from_the_start=True)))


# %% [markdown]
# **Cut.** As by hand above. `waiting` are the documents that are not used up, `skip` the tokens of the first of them that are
# used, `have` the tokens that are left in all. When there are more than a batch, one is cut.

# %%
#| export data.dataloader
def cut_batches(
    documents: Iterator[tuple[dict, np.ndarray]], batch_size: int, sequence_len: int, skip: int = 0
) -> Generator[tuple[np.ndarray, np.ndarray, dict]]:
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


def _first(documents: deque, skip: int, count: int) -> np.ndarray:
    """The first `count` ids after the first `skip`."""
    parts = []
    for _, ids in documents:
        parts.append(ids[skip : skip + count])
        skip, count = 0, count - len(parts[-1])
        if count == 0:
            break
    return np.concatenate(parts)


# %% [markdown]
# Batches of one row of three tokens, and what the generator knows after each:

# %% tags=["nbval-check-output"]
numbered = [({"row": n}, np.array([0, *ids], np.int32)) for n, ids in enumerate(three)]
batches = cut_batches(iter(numbered), batch_size=1, sequence_len=3)
for inputs, targets, _ in islice(batches, 3):
    now = inspect.getgeneratorlocals(batches)
    waiting = [ids.tolist() for _, ids in now["waiting"]]
    print(f"{inputs[0]} → {targets[0]}  waiting {waiting}, skip {now['skip']}, have {now['have']}")
first = next(cut_batches(iter(numbered), B, T))
assert all((first[n] == by_hand[n]).all() for n in (0, 1)) and first[2] == {"row": 2, "token": 3}


# %% [markdown]
# The position of the next token is the row of the first that waits, and `skip`. After the batch by hand that is `{"row": 2, "token": 3}`: the third document,
# since rows count from 0, of which 3 tokens are used, BOS among them.
#
# Now a batch of real tokens as a picture. For each row of inputs, its targets stand below.

# %%
def draw_batch(inputs, targets):
    """Each row of inputs, its targets below; each document has a colour, BOS a heavy frame."""
    figure = plt.figure(figsize=(10, 1.0 * len(inputs)))
    limits = {"xlim": (-1.6, inputs.shape[1] + 0.1), "ylim": (2.5 * len(inputs), -0.2)}
    ax, flat = figure.add_axes((0, 0, 1, 1), **limits), [*inputs.flatten(), targets[-1, -1]]
    ax.axis("off")
    document = np.cumsum(np.array(flat) == tokenizer.bos) % 3
    for row, column in np.ndindex(inputs.shape):
        n = row * inputs.shape[1] + column
        draw_token(ax, column, 2.5 * row, int(flat[n]), document[n])
        draw_token(ax, column, 2.5 * row + 1, int(flat[n + 1]), document[n + 1])
    for row in range(len(inputs)):
        for y, label in ((2.5 * row, "inputs"), (2.5 * row + 1, "targets")):
            ax.text(-0.1, y + 0.45, f"row {row}\n{label}", ha="right", va="center", fontsize=9)
    plt.show()


def draw_token(ax, x, y, token_id, colour):
    bos = token_id == tokenizer.bos
    text = tokenizer.token(token_id).decode(errors="backslashreplace")
    text = "BOS" if bos else text.replace(" ", "·").replace("\n", "↵")
    frame = {"linewidth": 3 if bos else 0.7, "edgecolor": "black", "zorder": 3 if bos else 2}
    frame["facecolor"] = ("#cfe4f3", "#fbe6c4", "#d5ecd4")[colour]
    ax.add_patch(plt.Rectangle((x + 0.03, y), 0.94, 0.9, **frame))
    font = {"weight": "bold" if bos else "normal", "fontsize": min(9, 60 / len(text))}
    ax.text(x + 0.5, y + 0.45, text, ha="center", va="center", zorder=4, **font)


inputs, targets, _ = next(cut_batches(iter(few), batch_size=3, sequence_len=14))
assert targets.flatten()[:-1].tolist() == inputs.flatten()[1:].tolist()
draw_batch(inputs, targets)


# %% [markdown]
# A heavy frame is BOS, and the colour changes there: one document ends and the next begins. Documents ignore row ends: they go on
# in the next row. Below each box is what should be predicted from it and what
# stands before it in the row. The last target of a row is the first input of the next.
#
# **All together.** While the model is busy with a batch, a thread makes the next ones, until 8 wait ready. `state` says where the
# next batch *that you get* begins, not how far the thread has come. First a helper that reads a saved state, and refuses one that
# belongs to something else; section 7 uses it.

# %%
#| export data.dataloader
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
        value = place[key]
        if type(value) is not int or value < 0:
            raise CourseError(
                f"the state of the data has {key}={value!r}, expected 0 or more; "
                "start without a state"
            )
    return place


# %%
#| export data.dataloader
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
        origin = {
            "dataset": dataset.fingerprint,
            "split": split,
            "tokenizer": tokenizer.fingerprint,
            "rank": rank,
            "world_size": world_size,
        }
        self.state: dict = {**origin, **_place(state, origin, dataset.shards(split))}
        self._stop = threading.Event()
        weakref.finalize(self, self._stop.set)  # dropped unclosed: end a wait for a shard as well
        documents = read_from(dataset, split, self.state, rank, world_size, self._stop.is_set)
        documents = tokenized(documents, tokenizer, num_threads)
        documents = at_least_a_row(documents, sequence_len, from_the_start=state is None)
        self._batches = cut_batches(documents, batch_size, sequence_len, skip=self.state["token"])
        # one worker: only one thread may run a generator at a time, and batches keep their order
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="TokenLoader")
        self._ahead = deque(self._pool.submit(self._batches.__next__) for _ in range(AHEAD))


# %% [markdown]
# Taking a batch orders another one. `_ahead` holds **futures**, results that may still be on their way; `.result()` waits.

# %%
#| export data.dataloader
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
    self._ahead.append(self._pool.submit(self._batches.__next__))
    self.state = {**self.state, **place}
    return mx.array(inputs), mx.array(targets)


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
with TokenLoader(bundled, tokenizer, "train", batch_size=4, sequence_len=64) as loader:
    inputs, targets = next(loader)
print(inputs.shape, inputs.dtype)
flat = [token for ids in encoded for token in ids]
assert inputs.flatten().tolist() == flat[:256] and targets.flatten().tolist() == flat[1:257]


# %% [markdown]
# ## 7. Stop and go on
#
# Training for days is stopped in the middle: by a power cut, by a lid that is closed. To go on **exactly** takes the weights, the
# optimizer's means and the place in the data. The last is `state`. It is JSON, so it can be stored with the others:

# %%
def batches_from(state, count, batch_size=4):
    """The next `count` batches as lists of rows, and the state after them."""
    with TokenLoader(few_docs, tokenizer, "train", batch_size, 128, state=state) as loader:
        ids = [inputs.tolist() for inputs, _ in islice(loader, count)]
        return ids, loader.state


without_stop, _ = batches_from(None, 8)
before, state = batches_from(None, 5)
(scratch / "state.json").write_text(json.dumps(state, indent=1))
print((scratch / "state.json").read_text())
after, _ = batches_from(json.loads((scratch / "state.json").read_text()), 3)
assert before + after == without_stop
halves, _ = batches_from(state, 6, batch_size=2)  # the same rows, two by two
assert sum(halves, []) == sum(after, [])

# %% [markdown]
# `dataset`, `split`, `tokenizer`, `rank` and `world_size` say what the place belongs to: in another dataset, row 3 is another
# document, so such a state is refused. The place itself is three numbers and a file name. It says nothing about batches, so you may go on
# with another batch size, as the last two lines of that cell do.
#
# The end of an epoch is no special place. These batches run over it:

# %%
few_texts = list(few_docs.documents("train"))
in_epoch = sum(map(len, tokenizer.encode_batch(few_texts, bos=True))) // 512  # 512 = 4 · 128
before, state = batches_from(None, in_epoch)
without_stop, last_state = batches_from(None, in_epoch + 3)
after, _ = batches_from(state, 3)
for count, reached in ((in_epoch, state), (in_epoch + 3, last_state)):
    print(count, "batches:", {key: reached[key] for key in ("epoch", "shard", "row", "token")})
assert before + after == without_stop and last_state["epoch"] == 1
refused(lambda: batches_from({**state, "tokenizer": "another"}, 1))


# %% [markdown]
# Several published ports of such programs save the weights only. A resumed run then sees its first documents again and its last
# never. The loss curve does not show it: on text that was seen before, the loss even looks better.
#
# **Ranks.** Several processes may train one model together, each on a part of every batch. Each must get other documents, and
# together they must get all. So rank r takes every `world_size`-th document within a shard; each shard begins one rank
# further on, which is `row + number` in `read_from`.

# %%
def one_epoch(rank, world_size):
    endless = read_from(few_docs, "train", beginning, rank, world_size)
    return [text for at, text in takewhile(lambda item: item[0]["epoch"] == 0, endless)]


shares = [one_epoch(rank, 2) for rank in (0, 1)]
for rank, share in enumerate(shares):
    tokens = sum(map(len, tokenizer.encode_batch(share, bos=True)))
    print(f"rank {rank}: {len(share)} of {len(few_texts)} documents, {tokens:,} tokens")
assert not set(shares[0]) & set(shares[1]) and sorted(sum(shares, [])) == sorted(few_texts)

# %% [markdown]
# The shares have different numbers of tokens. So the ranks end their epochs at different steps, which does no harm: every
# batch is full on every rank.
#
# ## 8. What is wasted, what is cropped
#
# Why one flat stream? Chapter 04 padded each name to the same length. Do that with documents, and cut long ones to fit:

# %%
token_lengths = np.array([len(ids) for ids in encoded])
stream_starts = np.cumsum(token_lengths) - token_lengths  # where each document begins
token, began = np.arange(num_tokens), np.repeat(stream_starts, token_lengths)
for row_length in (256, 2048):
    kept = np.minimum(token_lengths, row_length).sum()
    padding, cropped = 1 - kept / (len(encoded) * row_length), 1 - kept / num_tokens
    with_bos = np.mean((began == token)[::row_length])  # of the rows
    beheaded = np.mean(began // row_length < token // row_length)  # of the tokens
    print(f"T={row_length:4d}  one document a row: {padding:.0%} padding, {cropped:.0%} cropped")
    print(f"{'':8s}one stream: {with_bos:.1%} of rows begin with BOS,")
    print(f"{'':20s}{beheaded:.0%} of tokens: their document began in an earlier row")


# %% [markdown]
# Padding each document pays twice: either most of the text is thrown away (T small) or much of the work is (T large). The stream
# throws away nothing. Its price: nearly every row begins in the middle of a document, and most tokens cannot see where
# their document began.
#
# The first rows of both, drawn to scale:

# %%
def draw_rows(ax, title, starts, lengths, T=512, count=12):
    """Documents in turn dark and light, a tick where one begins; what none covers is padding."""
    box = {"height": 0.75, "edgecolor": "#777777", "linewidth": 0.5}
    ax.barh(range(count), T, color="white", hatch="////", **box)
    for document, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        for row in range(start // T, min((start + length - 1) // T + 1, count)):
            left, right = max(start - row * T, 0), min(start + length - row * T, T)
            ax.barh(row, right - left, left=left, color=("#56B4E9", "#cfe4f3")[document % 2], **box)
        ax.plot([start % T] * 2, [start // T - 0.25, start // T + 0.25], color="black", linewidth=3)
    ax.set(xlim=(-T / 25, T), ylim=(count - 0.5, -0.5))
    ax.set(title=title, xlabel="position in the row", ylabel="row")


figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2))
here = stream_starts < 12 * 512
draw_rows(axes[0], "one document a row", 512 * np.arange(12), np.minimum(token_lengths[:12], 512))
draw_rows(axes[1], "one stream", stream_starts[here], token_lengths[here])
figure.tight_layout()
plt.show()

# %% [markdown]
# A heavy tick is BOS; light and dark are different documents; hatched is padding. On the left every row begins with BOS, and a
# row that is full to its end was probably cropped. On the right no place is empty, and only row 0 has a tick at its left end.
#
# There is a third way, **best-fit packing**: for each row, look for documents that fill it exactly or nearly so. Then
# every row begins with BOS and there is hardly any padding, but long documents are cropped as before. Newer versions of nanochat do that; exercise
# 6.4 tries it. We stay with the stream, which is simple, loses nothing, and is what nanochat's published models of 2025
# were trained with.
#
# Its rows mix documents: a token can use everything before it in its row, the end of the previous document
# included (chapter 07). A mask could forbid it; the makers of Llama 3 report that in ordinary pretraining it made little difference.
#
# ## 9. Real corpora
#
# 68 shards are 7 GB. They fit on a disk, so fetch them before you train. In a terminal:
#
# ```
# uv run get_data --dataset fineweb-edu --shards 8
# ```
#
# That is 900 MB, eight shards and the validation shard, and it is interrupted sooner or later. What happens then
# (`tests/test_download.py` plays it, with a small hub of its own, `tests/hub.py`):
#
# | what happens | what `get_data` does |
# |---|---|
# | Ctrl-C, a crash, a power cut | what arrived stays in a hidden file `….part`; run again, it asks the server for the rest only, from that byte on |
# | the connection breaks, the server is busy | tries again after 1, 2, 4, 8 and 15 seconds, and gives up at the sixth failure in a row in which nothing arrived |
# | the file on the hub was replaced meanwhile | the name of the part holds the version: the old part is dropped, not continued |
# | wrong bytes arrived | a SHA-256, a longer and far stricter hash, must be the hub's, and the parquet footer must be readable; else it is fetched anew |
# | the disk is too small | said before the first byte, estimated from the size of one shard; if it fills up all the same, what arrived is kept |
# | all went well | only then the part gets its real name |
#
# Without flags it makes the bundled corpus, or says what there is:

# %%
run(get_data.main, [])

# %% [markdown]
# 6,543 shards are 650 GB, and you may not have that. Then **stream**: `open_dataset("climbmix", streaming=True)`. A `ShardCache` (in
# `course_lib/data/remote.py`) fetches the next shard while one is read:
#
# ```
# get(name, following):
#     needed = name, following and the validation shard
#     delete the shards fetched longest ago, until the needed ones have room
#     in one background thread: fetch name, then following, unless they are here
#     wait for name, and no longer
# ```
#
# To watch it without a network, we make a remote corpus that is not remote: it waits a little and copies a shard
# from section 3. "Training" on a shard is waiting too.

# %%
spans, seen = [], {}  # (what, shard, begin, end); when each shard was last seen on disk


class SlowRemote(Remote):
    def fetch(self, name, folder, **watch):
        started = time.perf_counter()
        if not (folder / name).exists():
            time.sleep(0.10)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(scratch / "once" / name, folder / name)
            spans.append(("fetched", name, started, time.perf_counter()))


def look():
    on_disk = [path.name for path in cache.folder.glob("*.parquet")]
    seen.update(dict.fromkeys(on_disk, time.perf_counter()))
    assert len(on_disk) <= 2


names = [shard.name for shard in shards]
cache = ShardCache(SlowRemote("nobody/nothing", len(names)), fresh("streamed"), max_cached=3)
streamed = Dataset("slow", scratch / "streaming", names, cache)
for number, name in enumerate(names[:5]):
    streamed.path("train", number)
    started = time.perf_counter()
    look()
    time.sleep(0.14)
    look()
    spans.append(("read", name, started, time.perf_counter()))


# %%
def draw_streaming(spans, seen):
    """A line a shard: when it was fetched, read, and on disk."""
    zero = min(span[2] for span in spans)
    looks = {"fetched": {"color": "#fbe6c4", "hatch": "////"}, "read": {"color": "#0072B2"}}
    figure, ax = plt.subplots(figsize=(7, 2.8))
    for what, name, begun, ended in spans:
        row = int(name[6:11])
        label = what if row == 0 else None
        box = {"left": begun - zero, "height": 0.6, "edgecolor": "#555555", "label": label}
        ax.barh(row, ended - begun, **box, **looks[what])
        if what == "fetched":
            disk = [ended - zero, max(seen.get(name, 0), ended) - zero]
            ax.plot(disk, [row + 0.42] * 2, color="black", label="on disk" if row == 0 else None)
    ax.set(xlabel="seconds", ylabel="shard", ylim=(5.7, -0.5))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.tight_layout()
    plt.show()


draw_streaming(spans, seen)


# %% [markdown]
# Read it from top to bottom. Only the first shard is waited for. From then on, each solid bar begins where the one above it ends:
# the next shard was there in time. A black line ends when its shard has been read; the last two end because the experiment
# does, and shard 5 was fetched in vain. There were never more than two shards on disk: the one that is read and the next one. The
# third place is kept for validation.
#
# ## 10. Where the time goes
#
# Three stages alone, on the same documents, in milliseconds for a million tokens:

# %%
def milliseconds(action, repeat=3):
    """The shortest of a few times, for a million tokens of the bundled corpus."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return 1e9 * min(times) / num_tokens


passes = budget(5, quick=1)


def whole_loader():
    with TokenLoader(bundled, tokenizer, "train", 8, 1024) as loader:
        list(islice(loader, passes * num_tokens // (8 * 1024)))


arrays = [({"row": row}, np.array(ids, np.int32)) for row, ids in enumerate(encoded)]
stages = {
    "read parquet": milliseconds(lambda: list(bundled.documents("train"))),
    "encode": milliseconds(lambda: tokenizer.encode_arrays(train_docs, bos=True)),
    "cut into batches": milliseconds(lambda: list(cut_batches(iter(arrays), 8, 1024))),
    "the whole loader": milliseconds(whole_loader) / passes,
}
draw_bars(stages, "milliseconds for a million tokens")


# %% [markdown]
# Nearly all of it is encoding, which is why it is worth threads. The whole loader is all three, and the passing on of batches. On a
# quiet machine it takes little longer than encoding alone (`tests/benchmarks/bench_data.py` compares them with more care); where other
# programs want the cores, more. A small model on a laptop trains on thousands of tokens a second and not on millions (chapter
# 10 measures it), so the loader has time to spare. And its thread hides even what it does need. Here a training step
# is a `sleep`, like a GPU that is busy. What comes on top of it?

# %%
def on_top(batches, count, step=0.03):
    """Milliseconds that a step takes longer than it would without data."""
    next(batches)
    started = time.perf_counter()
    for _ in range(count):
        next(batches)
        time.sleep(step)
    return 1000 * ((time.perf_counter() - started) / count - step)


size, count = (32, 1024), budget(60, quick=10)
in_turn = cut_batches(tokenized(read_from(bundled, "train", beginning), tokenizer), *size)
waited = {"batch made in the step": on_top(in_turn, count)}
with TokenLoader(bundled, tokenizer, "train", *size) as loader:
    waited["batch made ahead"] = on_top(loader, count)
draw_bars(waited, "milliseconds on top of each step")


# %% [markdown]
# Made ahead, batches add almost nothing. (On a CPU without a GPU the two share the cores, and less is won.)
#
# **Memory.** A loader that runs for a month must not grow. The memory of this process, while 10,000 batches go by (fewer in
# a quick run):

# %%
def megabytes():
    """Memory that this process holds now; on a Mac, the most that it ever held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)  # macOS counts in bytes, Linux in KB


count = budget(10_000, quick=500)
with TokenLoader(bundled, tokenizer, "train", batch_size=8, sequence_len=256) as loader:
    for n in range(count + 1):
        next(loader)
        if n % (count // 5) == 0:
            print(f"{n:6,} batches, epoch {loader.state['epoch']:2}: {megabytes():4.0f} MB")


# %% [markdown]
# It may grow a little at first, and then it stays. (On a Mac the numbers cannot fall; they must stop rising.) Most of it is Python, its libraries and what this notebook has made so far. At any moment the
# loader holds about a thousand documents of a shard, a group of them as ids, and eight batches.

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/06_data_solutions.ipynb](solutions/06_data_solutions.ipynb).
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
# 30 minutes, ●●●. Write `pack(lengths, T)`: a list of rows, each a list of document numbers, in any order; every document in exactly one row,
# and no row longer than T. Fill one row after the other: always put in the longest document that still fits; when none fits, begin the
# next row. No document is longer than T.
#
# The last cell tries it on this chapter's corpus, where longer documents are cut to T first. How much padding is left, and how
# much is cropped, compared with section 8?
#
# <details><summary>Hint</summary>Keep the documents that wait sorted by length. `bisect` finds the longest that fits.</details>

# %% tags=["exercise"]
def pack(lengths, T):
    raise NotImplementedError


# %%
check(exercises.pack, pack)

# %%
cut_lengths = np.minimum(token_lengths, 2048)
try:
    padding = 1 - cut_lengths.sum() / (2048 * len(pack(cut_lengths.tolist(), 2048)))
    print(f"{padding:.1%} padding, {1 - cut_lengths.sum() / token_lengths.sum():.0%} cropped")
except NotImplementedError:
    print("nothing to try yet")

# %% [markdown]
# ## Summary
#
# - Documents stand in parquet files; a dataset is a folder of such shards, the last one for validation.
# - A hash of the text decides what is held out, so adding text moves nothing that was there (but for the two rules for extremes).
# - Real corpora are fetched with `get_data`, or streamed with a few shards on disk at a time; what was interrupted goes on.
# - BOS before each document, one flat stream, cut into rows; the targets are the stream one token later. Nothing is lost, and most
#   rows begin in mid-document.
# - The loader works ahead in a thread, and its `state`, a small dict, is enough to go on with the very next token.
#
# ## Pitfalls
#
# - A resumed run that forgot its place in the data: it trains on the beginning again, and its loss looks good.
# - Shifting targets inside each row only: the last token of a row then has no target, or a wrong one.
# - Validation text in the training set: copies of a document on both sides, or a split that moves when text is added.
# - No BOS: the model never learns that a text may begin, and a sample has nothing to start from.
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
# **Next:** [07 · Attention](07_attention.ipynb): how a position finds out which earlier ones matter to it.
#
# ## Appendix: own text
#
# The rest of `documents` and `dataset`. No later chapter needs you to have read it.
#
# A book in one file would be a single document: all of it on one side of the split, and only its beginning in the tokenizer. So
# long texts of your own are cut at blank lines into documents of at most 10,000 characters, which is as far as `tok_train` reads.

# %%
#| export data.documents
LONGEST = 10_000


def cut(text: str) -> Iterator[str]:
    """The text as documents of 10,000 characters or fewer, which joined are the text again.

    The cut is after a blank line; where there is none, after a line, else a space, else anywhere.
    """
    start = 0
    while len(text) - start > LONGEST:
        end = start + _last_break(text[start : start + LONGEST])
        yield text[start:end]
        start = end
    yield text[start:]


def _last_break(text: str) -> int:
    """Where to cut: after the last blank line, else line, else space, else at the end."""
    for mark in ("\n\n", "\n", " "):
        if (found := text.rfind(mark)) > 0:
            return found + len(mark)
    return len(text)


# %%
book = "\n\n".join(docs[:40])
pieces = list(cut(book))
print(f"{len(book):,} characters in {len(pieces)} documents")
assert "".join(pieces) == book and max(map(len, pieces)) <= LONGEST


# %% [markdown]
# Files come in many forms. `data.own_text`, written by hand, reads plain text (`.txt`, `.md`, `.rst`), JSON (an object with a `text`
# a line, or an array of them), tables with a column `text` (`.csv`, `.tsv`, `.parquet`), and the same packed with gzip. Sooner or later a
# line is bad, and the error says which. Skipped in silence, a file in which *every* line says `txt` for `text` would be empty.

# %%
notes = scratch / "notes.jsonl"
notes.write_text('{"text": "A first note."}\n{"txt": "A second one."}\n')
refused(lambda: list(read_texts(notes)))

# %% [markdown]
# **Own text** is read once and written into shards, in a folder named after its path and, in that, after its content. Files
# that were copied or only touched are the same text; others make new shards, and the old ones go when no program reads them.

# %%
#| export data.dataset
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


# %% [markdown]
# A corpus from the hub is what `get_data` has fetched, or a stream.

# %%
#| export data.dataset
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
        return dataset_in(bundled_folder())
    if path := existing_path(name):
        return own_dataset(path)
    known = ", ".join(["bundled", *REMOTES])
    raise CourseError(
        f"there is no dataset {name!r}; expected {known}, or an existing file or folder of text"
    )


# %%
poems = fresh("poems")
poems.mkdir()
(poems / "moon.txt").write_text("The moon was up before the town.\n")
(poems / "more.jsonl").write_text('{"text": "Rain on tin."}\n{"text": "A gull asks why."}\n')
own = open_dataset(str(poems))
for split in ("train", "val"):
    print(split, list(own.documents(split)))
(poems / "late.txt").write_text("One more, too late for the first edition.\n")
changed = open_dataset(str(poems))
assert changed.name != own.name and own.folder.exists()  # as long as `own` is used
assert sum(changed.num_rows(split) for split in ("train", "val")) == 4
shutil.rmtree(changed.folder.parent)  # leave nothing of it in your home


# %% [markdown]
# # 06 · Data
#
# **Goal.** Turn documents into an endless supply of training batches, keep some aside for validation, and resume after a stop at exactly the next token.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb) |
# | Time | 60 minutes to read, 75 for the exercises; under a minute to run |
# | Memory | under 1 GB |
# | You will build | a split that never moves → `course_lib.data.split`; a loader in 25 lines, which explains that of `course_lib.data.dataloader` |

# %% [markdown]
# ![Map of the course: chapter 06 data is marked, in Part II; after 05 tokenizer, and 07 attention comes next](images/map_06.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · **06** · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/06_data.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export data.split
"""Which documents are held out: the text itself decides, so nothing moves when more is added."""

import zlib

# %% [markdown]
# The cell above opens the module that this chapter exports. The next one is for this notebook only.

# %%
import inspect
import json
import random
import statistics
import tempfile
import time
from bisect import bisect_right, insort
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from course_lib import backend
from course_lib.classroom import budget, check, claim, stored
from course_lib.classroom.exercises import data as exercises
from course_lib.data import python_docs
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import Dataset, open_dataset
from course_lib.data.tokenizer import Tokenizer, fitting_vocab_size
from course_lib.names.fitting import fit
from course_lib.names.microgpt import MicroGPT, MicroGPTConfig, loss_fn

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"

# %% [markdown]
# Here is what the chapter builds, finished. It opens a collection of texts, trains a tokenizer on it as in chapter 05, and asks
# for one batch: 3 rows of 24 tokens.

# %%
bundled = open_dataset()
train_docs = list(bundled.documents("train"))
tokenizer = Tokenizer.train(train_docs, fitting_vocab_size(sum(map(len, train_docs))))
with TokenLoader(bundled, tokenizer, "train", batch_size=3, sequence_len=24) as loader:
    inputs, targets = next(loader)
for row in inputs.tolist():
    print(repr(tokenizer.decode(row)))
print({key: loader.state[key] for key in ("epoch", "shard", "row", "token")})

# %% [markdown]
# Five questions, one for each section:
#
# 1. What are these texts, and how much text does a model need?
# 2. Which of them must it never see?
# 3. How do texts of all lengths become rows of one length?
# 4. What is that last line for?
# 5. What gets lost on the way?
#
# ## 1. The corpus
#
# A **document** is one text that belongs together: a web page, a chapter, the description of a module. A collection of
# documents is a **corpus**. **Pretraining text** is a huge corpus with no questions, no answers and no labels. It is only there to be
# predicted.
#
# You already own some. Python carries its own documentation: pages about the language, and in each module the descriptions that
# programmers wrote, the **docstrings**. The course collects them in a few seconds, without a download. This is the **bundled
# corpus**, the default of every program in the course.

# %%
docs = python_docs.documents()
lengths = [len(doc) for doc in docs]
print(f"{len(docs)} documents, {sum(lengths):,} characters")
example = next(doc for doc in docs if doc.startswith("textwrap\n"))
print(*example[:300].splitlines(), sep="\n│ ")

# %% [markdown]
# How long are they? The axis is logarithmic: each tick is ten times the one before.

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.6))
ax.hist(lengths, bins=np.geomspace(min(lengths), max(lengths), 30), color=BLUE, edgecolor="w")
half = np.median(lengths)
ax.axvline(half, color=ORANGE, linestyle="--")
ax.text(half, ax.get_ylim()[1], f"half are shorter than {half:,.0f}", ha="center", va="bottom")
ax.set(xscale="log", xlabel="characters in a document", ylabel="documents")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
print(f"the shortest has {min(lengths):,} characters, the longest {max(lengths):,}")
claim("the longest is over 1,000 times the shortest", max(lengths) > 1000 * min(lengths))

# %% [markdown]
# From a line to a small book. Real text is like that, and it is why documents do not fit neatly into rows.
#
# What will a model trained on this be like? It **will** write what looks like documentation: a signature, a sentence that begins
# with "Return", indented lines. It will know nothing of the world, answer no question, and be wrong about Python too. That is
# enough to see that every part works, and it trains while you watch.
#
# ### How much text does a model need?
#
# Count in tokens, since those are what a model reads:

# %%
encoded = tokenizer.encode_batch(train_docs, bos=True)
token_lengths = np.array([len(ids) for ids in encoded])
num_tokens = token_lengths.sum()
print(f"V = {tokenizer.vocab_size:,}: {num_tokens:,} tokens to train on,")
print(f"each of {sum(map(len, train_docs)) / num_tokens:.2f} characters on average")

# %% [markdown]
# The vocabulary size $V$ changes these numbers, and not every chapter uses the same one. Chapter 05's rule asks for 600 characters of
# text or more for each id. How much text there is depends on how you count it:

# %%
capped = sum(len(doc[:10_000]) for doc in train_docs)
print("whole documents:                V =", fitting_vocab_size(sum(map(len, train_docs))))
print("10,000 characters of each only: V =", fitting_vocab_size(capped))

# %% [markdown]
# | who | $V$ | why |
# |---|---|---|
# | chapter 05, and this chapter | 4,096 | the rule, for whole documents |
# | `uv run tok_train` | 2,048 | the same rule; of each document it reads the first 10,000 characters, so that no long one dominates |
# | chapters 08 and 09 | 512 | small models that train quickly; with a larger table, they would be little else |
# | nanochat (October 2025), d12 to d26 | 65,536 | billions of characters (32,768 in July 2026) |
#
# (`tok_train` saves its tokenizer for the later programs. A model works with its own tokenizer only, and stores which one that is.)
#
# A rule of thumb from published measurements says: train on about **20 tokens for each parameter** (chapter 10 says more). A
# model of depth $L$ (d4 has depth 4) and width $d = 64L$ has $12Ld^2$ parameters in its blocks and $2Vd$ in its two tables.
# The last columns are what that means in shards of fineweb-edu, a corpus of web pages, or in passes over the bundled corpus:

# %%
def parameters(depth, V):
    width = 64 * depth
    return 12 * depth * width**2 + 2 * V * width


print("model       V   parameters  billion tokens  shards of fineweb-edu  bundled corpora")
for depth, V in ((4, tokenizer.vocab_size), (12, 65_536), (20, 65_536), (26, 65_536)):
    needed = 20 * parameters(depth, V)
    shards, passes = needed / (100e9 / 1823), needed / num_tokens  # 100 billion in 1,823 files
    print(
        f"d{depth:<3d} {V:8,} {parameters(depth, V):13,} {needed / 1e9:11.2f} {shards:19,.0f}"
        f" {passes:18,.0f}"
    )
passes_of_d4 = 20 * parameters(4, tokenizer.vocab_size) / num_tokens
claim("even d4, with our own V, would pass over the bundled corpus 50 times", passes_of_d4 > 50)

# %% [markdown]
# A **shard** is one file of a corpus: about 250 million characters, which compress to 100 MB. So d12 needs some 68 shards, 7 GB
# to fetch. (The passes of the larger models are only an order of magnitude: with their own $V$ our text would have fewer tokens.)
#
# What happens to a model that reads the same text a hundred times? Chapter 04 showed it with 500 names: it overfits, and on new
# ones it ended worse than a model that knows nothing. To see how everything works, a few passes are enough.
#
# ## 2. The split
#
# Some documents must never be trained on. They are **held out** for **validation**: measuring the loss on text the model has not
# seen. Which ones? Here are three ways to choose 5 %: the last ones in order; some at random; or **by the text itself**: compute a
# number from the bytes of the document, and hold it out if 20 divides that number.
#
# Such a number is called a **hash**. Ours is CRC-32, a checksum that is the same on every machine and in every year. (Python's own
# `hash` of a string changes from run to run.)

# %%
#| export data.split
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
claim("that is about one in twenty", 0.02 < count / len(docs) < 0.09)


# %% [markdown]
# The other two ways, as functions from a list of texts to the set that is held out:

# %%
def the_last(texts):
    return set(texts[-len(texts) // 20 :])


def at_random(texts):
    generator = random.Random(0)  # even with a fixed seed
    return {text for text in texts if generator.random() < 0.05}


def by_hash(texts):
    return {text for text in texts if is_held_out(text)}


# %% [markdown]
# A corpus changes. Ten documents are added at the end; or at the beginning (files are often sorted by name); or the same
# documents arrive in another order. For each of the three ways, two counts: how many old documents **left** validation, and how many
# **came** into it.

# %%
new = [f"A new document, number {n}." for n in range(10)]
changed = {
    "ten more at the end": [*docs, *new],
    "ten more at the beginning": [*new, *docs],
    "another order": random.Random(1).sample(docs, len(docs)),
}
moved = {}
for change, texts in changed.items():
    for choose in (the_last, at_random, by_hash):
        before, after = choose(docs), choose(texts) & set(docs)
        moved[change, choose] = (len(before - after), len(after - before))

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.2), sharex=True, sharey=True)
for ax, change in zip(axes, changed, strict=True):
    for y, choose in enumerate((the_last, at_random, by_hash)):
        left, came = moved[change, choose]
        ax.barh(y, -left, color=GREY, height=0.6, label="left" if y == 0 else None)
        ax.barh(y, came, color=ORANGE, height=0.6, hatch="//", label="came" if y == 0 else None)
        ax.text(-left - 2, y, left, ha="right", va="center", fontsize=9)
        ax.text(came + 2, y, came, ha="left", va="center", fontsize=9)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_title(change, fontsize=10)
    ax.tick_params(length=0)
    ax.set(xticks=[], xlim=(-60, 60), ylim=(2.5, -0.5))
    ax.spines[["top", "right", "bottom", "left"]].set_visible(False)
axes[0].set_yticks(range(3), ["the last", "at random", "by hash"])
axes[1].legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0))
plt.show()

# %%
claim("the hash moves nothing", all(moved[change, by_hash] == (0, 0) for change in changed))
worst = [max(moved[change, choose][0] for change in changed) for choose in (the_last, at_random)]
claim("each of the others loses most of its split at least once", min(worst) > count / 2)

# %% [markdown]
# Which bar is worse? A grey one makes two validation losses incomparable. A hatched one is worse: those documents **were trained
# on** before they came into validation, and a model does well on what it has read. With the hash both bars are empty. (Why 9 and 1, and not 10 and 0, for the last? A twentieth, rounded up, is 36 of 717 and 37 of 727.) And a text that
# occurs twice, as web pages often do, is on the same side both times.
#
# The package splits any text of your own this way and writes both sides into files, validation last. It adds two rules for
# extremes (`split_documents` in `course_lib/data/dataset.py`): once 10 million characters are held out, all further documents are trained on (so beyond that size the order matters again), and neither side
# stays empty. On our corpus neither rule matters:

# %%
val_docs = list(bundled.documents("val"))
print("to train on   ", *bundled.shards("train"))
print("for validation", *bundled.shards("val"))
assert all(map(is_held_out, val_docs)) and not any(map(is_held_out, train_docs))


# %% [markdown]
# ## 3. From a stream to a batch
#
# By hand first, with ids made up: three documents, and 0 for BOS, "something new begins here". Put BOS before each document and
# string them all together: one flat **stream**. For a batch of $B = 2$ rows of $T = 5$ tokens, take $B \cdot T$ of them. The targets are
# the same tokens, one later. So you need one token more.

# %% tags=["nbval-check-output"]
three = [[0, 11, 12, 13], [0, 21, 22], [0, 31, 32, 33, 34, 35, 36]]
stream = sum(three, [])
B, T = 2, 5
print("stream ", stream)
print("inputs ", stream[: B * T])
print("targets", stream[1 : B * T + 1])


# %%
def draw_token(ax, x, y, text, colour, bos=False):
    """A box with a text; a heavy frame for BOS."""
    face = ("#cfe4f3", "#fbe6c4", "#d5ecd4")[colour % 3]
    frame = {"linewidth": 2.5 if bos else 0.7, "edgecolor": "black", "zorder": 3 if bos else 2}
    ax.add_patch(plt.Rectangle((x + 0.04, y), 0.92, 0.9, facecolor=face, **frame))
    font = {"weight": "bold" if bos else "normal", "fontsize": min(9, 60 / len(text))}
    ax.text(x + 0.5, y + 0.45, text, ha="center", va="center", zorder=4, **font)


def draw_ids(ax, x, y, ids, documents):
    """Ids in a row of boxes, coloured by document."""
    for n, (token, document) in enumerate(zip(ids, documents, strict=True)):
        draw_token(ax, x + n, y, str(token or "BOS"), document, bos=token == 0)


def blank_axes(width, height, right, bottom):
    """Axes without a frame, for boxes from (0, 0) at the top left."""
    figure = plt.figure(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-1.8, right), ylim=(bottom, -0.6))
    ax.axis("off")
    return ax


# %%
ax = blank_axes(8.5, 2.9, right=14.2, bottom=5.4)
documents = np.cumsum(np.array(stream) == 0) - 1
draw_ids(ax, 0, 0.6, stream, documents)
ax.text(-0.1, 1.05, "stream", ha="right", va="center")
for y, label, start, colour in ((0.35, "inputs", 0, BLUE), (1.75, "targets", 1, ORANGE)):
    ax.plot([start + 0.05, start + B * T - 0.05], [y, y], color=colour, lw=3)
    ax.text(start + B * T + 0.1, y, label, va="center", fontsize=9)
for row in range(B):
    for later, label in enumerate(("inputs", "targets")):
        part = slice(row * T + later, (row + 1) * T + later)
        draw_ids(ax, 8 * row, 2.8 + later, stream[part], documents[part])
        ax.text(8 * row - 0.1, 3.25 + later, label, ha="right", va="center", fontsize=9)
    ax.text(8 * row + T / 2, 5.1, f"row {row}", ha="center", va="center")
plt.show()

# %% [markdown]
# Look at the ends. The last input of row 0 is BOS and its target is 21, which is the first input of row 1: **the shift runs across the
# ends of rows**. And 13, the end of a document, has BOS as its target: that is how the model learns where documents end.
#
# In code, three generators, each of which asks the one before for its next item. Documents in order, for ever:

# %%
def endless(documents):
    """The documents in order, again and again."""
    while True:
        yield from documents


# %% [markdown]
# Their tokens, one after another:

# %%
def tokens_of(texts, tokenizer):
    """The ids of all texts, BOS before each."""
    for text in texts:
        yield from tokenizer.encode(text, bos=True)


# %% [markdown]
# And batches of them. The token that was only a target is the first input of the next batch:

# %%
def batches(tokens, B, T):
    """(inputs, targets), each (B, T), for ever."""
    ahead = [next(tokens)]
    while True:
        ids = ahead + list(islice(tokens, B * T))
        yield np.array(ids[:-1]).reshape(B, T), np.array(ids[1:]).reshape(B, T)
        ahead = ids[-1:]


# %% tags=["nbval-check-output"]
by_hand = batches(iter(stream * 2), B, T)
for _ in range(2):
    inputs, targets = next(by_hand)
    print("inputs ", *inputs, "targets", *targets)
    assert inputs.flatten()[1:].tolist() == targets.flatten()[:-1].tolist()


# %% [markdown]
# The second batch begins with 33, where the first one stopped, and runs over the end of the stream into its beginning.
#
# That is the whole idea. Now with words, so that you can read it. Before you look: how many of these rows will begin with BOS?

# %%
stories = [
    "A list is a set of items in order.",
    "The cat sat on the mat.",
    "Return the number of items in the list.",
    "If x is true, return None.",
    "Dogs bark.",
]


def draw_batch(inputs, targets):
    """Each row of inputs, its targets below; each document has a colour, BOS a heavy frame."""
    rows, columns = inputs.shape
    ax = blank_axes(10, 1.0 * rows, right=columns + 0.1, bottom=2.5 * rows)
    flat = [*inputs.flatten().tolist(), int(targets[-1, -1])]
    document = np.cumsum(np.array(flat) == tokenizer.bos)
    for n, later in np.ndindex(inputs.size, 2):
        text = tokenizer.token(flat[n + later]).decode(errors="backslashreplace")
        bos = flat[n + later] == tokenizer.bos
        text = "BOS" if bos else text.replace(" ", "·").replace("\n", "↵")
        row, column = divmod(n, columns)
        draw_token(ax, column, 2.5 * row + later, text, document[n + later], bos)
    for row, later in np.ndindex(rows, 2):
        label = f"row {row}\n{('inputs', 'targets')[later]}"
        ax.text(-0.1, 2.5 * row + later + 0.45, label, ha="right", va="center", fontsize=9)
    plt.show()


inputs, targets = next(batches(tokens_of(endless(stories), tokenizer), B=3, T=14))
draw_batch(inputs, targets)

# %% [markdown]
# The colour changes at each BOS: one document ends and the next begins. Documents ignore the ends of rows: they simply go on in the next
# row. Below each box stands what should be predicted from it and from what is to its left *in the same row*. Nothing is seen across a
# row's left end. So for the model, most rows begin in the middle of a text; section 5 counts them.
#
# ## 4. Stop and resume
#
# Training for days gets interrupted: by a power cut, by a closed lid. To go on **exactly** as if nothing had happened you need the
# weights, the optimizer's memory, and the place in the data. Forget the place, and the model reads its first documents again and its last
# ones never. Worse, you would not notice: on text that was seen before, the loss looks *better*.
#
# What is the place? Give every token an **address**: which pass over the corpus (an **epoch**), which document, which token of it.

# %%
def addressed(documents, state):
    """(address, id) of each token from the address `state` on, epoch after epoch, for ever."""
    epoch, document, token = state["epoch"], state["document"], state["token"]
    while True:
        for n in range(document, len(documents)):
            for k in range(token, len(documents[n])):
                yield {"epoch": epoch, "document": n, "token": k}, documents[n][k]
            token = 0
        epoch, document = epoch + 1, 0


# %% [markdown]
# The **state** of a loader is the address of the token with which the next batch begins. It already holds that token, as the last target:

# %%
class SmallLoader:
    """Batches (inputs, targets) for ever; `state` is the address of the next one's first token."""

    def __init__(self, documents, B, T, state=None):
        self.B, self.T = B, T
        self.tokens = addressed(documents, state or {"epoch": 0, "document": 0, "token": 0})
        self.state, self.ahead = next(self.tokens)

    def __next__(self):
        taken = list(islice(self.tokens, self.B * self.T))
        ids = np.array([self.ahead, *(token for _, token in taken)])
        self.state, self.ahead = taken[-1]
        return ids[:-1].reshape(self.B, self.T), ids[1:].reshape(self.B, self.T)


# %% [markdown]
# After the batch by hand:

# %% tags=["nbval-check-output"]
loader = SmallLoader(three, B, T)
inputs, targets = next(loader)
print(inputs.tolist(), loader.state)

# %%
ax = blank_axes(7.5, 2.1, right=12.5, bottom=3.6)
state, used = loader.state, B * T
for n, document in enumerate(three):
    draw_ids(ax, 0, 1.2 * n, document, [n] * len(document))
    done = min(used, len(document))
    ax.plot([0.1, done - 0.1], [1.2 * n + 0.45] * 2, color="black", lw=2, zorder=5)
    ax.text(-0.1, 1.2 * n + 0.45, f"document {n}", ha="right", va="center", fontsize=9)
    used -= done
x, y = state["token"], 1.2 * state["document"]
ax.add_patch(plt.Rectangle((x, y), 1, 0.9, fill=False, edgecolor=ORANGE, lw=3, zorder=6))
label = f"the next batch begins here:\n{json.dumps(state)[1:-1]}".replace('"', "")
arrow = {"arrowstyle": "->", "color": ORANGE}
ax.annotate(label, (x + 0.7, y), (7.4, 0.7), color=ORANGE, arrowprops=arrow)
plt.show()

# %% [markdown]
# What is crossed out has been an input. A state is three numbers, so it can be stored as JSON beside the weights. Now the test that
# counts: eight batches in one go, and the same eight with a stop in the middle.

# %%
loader = SmallLoader(encoded, 4, 128)
in_one_go = [next(loader)[0].tolist() for _ in range(8)]

loader = SmallLoader(encoded, 4, 128)
before = [next(loader)[0].tolist() for _ in range(5)]
text = json.dumps(loader.state)
print("stored:", text)

loader = SmallLoader(encoded, 4, 128, state=json.loads(text))
after = [next(loader)[0].tolist() for _ in range(3)]
assert before + after == in_one_go

# %% [markdown]
# Equal to the last id. The address says nothing about batches, so you may even go on with another batch size.
#
# ### The loader of the package
#
# `TokenLoader`, which you saw at the top, keeps the same promise, and every later chapter uses it. Does it give the same batches?
# Over a whole epoch and into the next one:

# %%
count = num_tokens // (8 * 1024) + 2
small = SmallLoader(encoded, 8, 1024)
with TokenLoader(bundled, tokenizer, "train", 8, 1024) as loader:
    for _ in range(count):
        for ours, theirs in zip(next(small), next(loader), strict=True):
            assert (ours == np.array(theirs)).all()
    state = loader.state
print(f"{count} batches are equal; ours is at {small.state}")
print({key: value for key, value in state.items() if key not in ("tokenizer", "dataset")})
assert (state["epoch"], state["token"]) == (small.state["epoch"], small.state["token"])

# %% [markdown]
# It addresses a document by its file (a shard) and its row in that file. What else does it add, in `course_lib/data/dataloader.py`?
#
# - It reads from files and holds only a few documents at a time, so a corpus may be larger than your memory.
# - It encodes on all cores, and a **thread** makes the next eight batches while the model is busy with this one.
# - Several processes share a corpus: with `rank=1, world_size=4` (`rank` numbers the processes), a loader reads every fourth document, and no other loader reads those.
# - Its state names the text and the tokenizer, and it refuses a state saved with another text, where row 3 would be another document.
#
# What do arrays, cores and the thread buy together? In the next cell a training step is a `sleep`, like a GPU that is busy. We time only how long each batch keeps us
# waiting, in turn for both.

# %%
def waiting_times(loader, steps, step=0.03):
    """Seconds that each batch keeps us waiting between training steps."""
    waits = []
    for _ in range(steps):
        time.sleep(step)
        began = time.perf_counter()
        next(loader)
        waits.append(time.perf_counter() - began)
    return waits


in_step, ahead = [], []
ours = batches(tokens_of(endless(train_docs), tokenizer), 8, 1024)
with TokenLoader(bundled, tokenizer, "train", 8, 1024) as loader:
    for _ in range(budget(5, quick=1)):
        in_step += waiting_times(ours, 8)
        ahead += waiting_times(loader, 8)
ratio = statistics.median(in_step) / statistics.median(ahead)
print(f"a batch made in the step keeps us waiting {ratio:,.0f} times as long as one made ahead")
claim("made ahead, a batch comes at least three times as fast", ratio > 3)


# %% [markdown]
# ### Seen with counted numbers
#
# Text makes it hard to see where you are. So feed the finished loader documents that simply count: 20 documents of 100 numbers
# each, 1 to 2,000. A stand-in for the tokenizer makes each number its own id. BOS is 0.

# %%
class Counting:
    """Stands in for a tokenizer: a text is numbers, and each number is its own id."""

    bos, fingerprint = 0, "counting"

    def encode_arrays(self, texts, bos, num_threads):
        return [np.array([self.bos, *map(int, text.split())], np.int32) for text in texts]


texts = [" ".join(map(str, range(start, start + 100))) for start in range(1, 2001, 100)]
folder = Path(tempfile.mkdtemp())
shards = ["shard_00000.parquet", "shard_00001.parquet"]  # the last one is for validation
for shard, held in zip(shards, (texts, ["0"]), strict=True):
    pq.write_table(pa.table({"text": held}), folder / shard)
counted = Dataset("counted", folder, shards)

# %% [markdown]
# So a dataset is a folder of **parquet** files: tables, stored column by column and compressed, with the text in the column `text`.

# %% tags=["nbval-check-output"]
def first_of_each(loader, count):
    """Take `count` batches, and print the number with which each begins."""
    for _ in range(count):
        epoch, (inputs, _) = loader.state["epoch"], next(loader)
        print(f"epoch {epoch}, next batch begins with {inputs[0, 0].item():5,}")
    return inputs


with TokenLoader(counted, Counting(), "train", 2, 64) as loader:
    first_of_each(loader, 3)
    print("… stopped")
    state = loader.state
with TokenLoader(counted, Counting(), "train", 2, 64, state=state) as loader:
    print("resumed")
    first_of_each(loader, 3)

# %% [markdown]
# A batch has 128 tokens. Why does the second one begin with 127 and not with 129? Because two BOS were among the 128. The resumed loader goes on
# where the other stopped. And the end of the epoch? After 15 batches:

# %% tags=["nbval-check-output"]
with TokenLoader(counted, Counting(), "train", 2, 64) as loader:
    for _ in range(15):
        next(loader)
    inputs = first_of_each(loader, 1)
    print("its row 1:", *inputs[1].tolist()[32:])
    first_of_each(loader, 2)

# %% [markdown]
# After 2,000 comes BOS and then 1 again: the end of an epoch is no special place, and the batch is full. But note that **each epoch has the same
# order**. Chapter 04 shuffled its names before every epoch. Do we lose something here?
#
# ### Does the order matter?
#
# Measure it. A microGPT of Part I, somewhat larger, reads 64 documents ($V = 512$) four times, in four orders: the same in each epoch; the
# **documents** shuffled before each epoch; the **rows** shuffled before each epoch, as chapter 04 did with its names; and, as a control, the rows
# shuffled only once, at the start. Where the first row of an epoch begins is drawn anew each time, in all four, so that epochs seldom cut their rows at the same places.

# %%
ROWS, LENGTH = 16, 32  # rows of a batch, tokens of a row
ORDERS = ("always the same", "documents shuffled", "rows shuffled once", "rows shuffled")


def rows_in(order, documents, seed):
    """Rows of LENGTH + 1 ids for ever, one epoch after another in this order."""
    generator = random.Random(seed)
    documents = generator.sample(documents, len(documents))
    places = list(range(sum(map(len, documents)) // LENGTH))
    if order == "rows shuffled once":
        generator.shuffle(places)
    while True:
        if order == "documents shuffled":
            documents = generator.sample(documents, len(documents))
        elif order == "rows shuffled":
            generator.shuffle(places)
        flat, first = np.concatenate(documents), generator.randrange(LENGTH)
        for start in (first + LENGTH * place for place in places):
            if start + LENGTH < len(flat):
                yield flat[start : start + LENGTH + 1]


# %%
small = Tokenizer.train(train_docs, 512)
few = small.encode_arrays(train_docs[:64], bos=True)
average = sum(map(len, few)) / len(few)
print(f"V = 512: {len(few)} documents of {average:,.0f} tokens on average,", end=" ")
print(f"{ROWS * LENGTH} tokens in a batch")

# %% [markdown]
# Four seeds; with each, all four orders start from the same weights and the same order of documents. On a busy laptop this takes half an hour, so the
# numbers are stored.

# %%
def orders():
    unseen = np.concatenate(small.encode_arrays(val_docs, bos=True))
    unseen = mx.array(unseen[: 1920 * (LENGTH + 1)].reshape(-1, LENGTH + 1))
    steps = budget(4 * sum(map(len, few)) // (ROWS * LENGTH), quick=2)  # four epochs
    for seed in range(budget(4, quick=1)):
        for order in ORDERS:
            rows = rows_in(order, few, seed)
            batches = (mx.array(np.stack(list(islice(rows, ROWS)))) for _ in range(steps))
            backend.seed_everything(seed)
            model = MicroGPT(MicroGPTConfig(32, block_size=LENGTH, vocab_size=512))
            pairs = ((batch[:, :-1], batch[:, 1:]) for batch in batches)
            fit(model, loss_fn, pairs, steps, 5e-3, None, compiled=False)
            loss = loss_fn(model, unseen[:, :-1], unseen[:, 1:]).item()
            yield {"order": order, "seed": seed, "steps": steps, "loss": loss}


runs = stored("data_orders", orders)
losses = {}
for run in runs:
    losses.setdefault(run["order"], []).append(run["loss"])

# %%
figure, ax = plt.subplots(figsize=(6, 2.8))
for y, values in enumerate(losses.values()):
    ax.plot(values, [y] * len(values), "o", color=BLUE, alpha=0.6)
    ax.plot(np.mean(values), y, "|", color=ORANGE, markersize=22, markeredgewidth=2)
    label = f"{np.mean(values):.3f}"
    ax.text(np.mean(values), y - 0.36, label, ha="center", va="bottom", fontsize=9)
ax.set_yticks(range(4), list(losses))
ax.set(xlabel="held-out loss, nats; a point per seed, the line is their mean", ylim=(3.4, -0.9))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
same, by_document, once, anew = (np.array(values) for values in losses.values())
print("compared with always the same, seed by seed:")
for order, values in zip(ORDERS[1:], (by_document, once, anew), strict=True):
    print(f"{order:20s} {(values - same).mean():+.3f}  of", (values - same).round(3).tolist())
claim("rows shuffled before each epoch beat the stream with each seed", all(anew < same))
claim("and so do rows shuffled only once", all(once < same))
claim("shuffling documents helps with some seeds only", 0 < sum(by_document < same) < 4)
claim("and rows anew beat rows once with some seeds only", 0 < sum(anew < once) < 4)

# %% [markdown]
# All four orders start from the same weights with the same seed, so compare them seed by seed. Two answers. A **new order in each epoch** buys nothing here: it helps with one seed and not with another. But **mixed rows** are better with each of the
# four, by 0.05 nats on average, and it is enough to mix them once. The likely reason: in the stream, the 512 tokens of a batch are neighbours, often all from one document. Mixed
# rows come from 16 places, so each step learns from 16 subjects at once.
#
# Should the loader mix rows, then? To mix *all* rows it would have to encode the whole corpus in advance, and keep it at hand. Our small corpus
# could bear that; one that arrives shard by shard (section 6) could not. And the batches of large runs, half a million tokens in nanochat's, hold hundreds of documents
# anyhow. We did not measure how much of the gain is left there. So the loader keeps the plain order, exact to resume. Remember the 0.05 when you train with tiny batches.
#
# ## 5. What is lost
#
# Why one flat stream? Chapter 04 gave each name a row of its own and padded it. Do that with documents, and cut long ones to fit. Guess
# first: is more lost to padding or to cropping? With rows of 2,048 tokens, and of 256?

# %%
for T in (256, 2048):
    kept = np.minimum(token_lengths, T).sum()
    padding, cropped = 1 - kept / (len(encoded) * T), 1 - kept / num_tokens
    print(f"V = {tokenizer.vocab_size:,}, T = {T:5,}:", end=" ")
    print(f"{len(encoded) * T - kept:7,} places are padding ({padding:.0%}),", end=" ")
    print(f"{num_tokens - kept:7,} tokens are cropped ({cropped:.0%} of the text)")
claim("even with long rows, more than a fifth of the text is cropped", cropped > 0.2)
claim("while more than half of the places are empty", padding > 0.5)

# %% [markdown]
# Long rows pad, short rows crop. You pay twice: for places that hold nothing, and with text that nobody reads. The stream has no padding and crops nothing. What does it
# cost? Count the rows that begin with BOS, and the tokens whose document began in an earlier row, out of sight:

# %%
starts = np.cumsum(token_lengths) - token_lengths  # where each document begins in the stream
token, began = np.arange(num_tokens), np.repeat(starts, token_lengths)
for T in (256, 2048):
    with_bos = np.mean((began == token)[::T])
    beheaded = np.mean(began // T < token // T)
    print(f"V = {tokenizer.vocab_size:,}, T = {T:5,}: {with_bos:.1%} of the rows begin with BOS;")
    print(f"{beheaded:23.0%} of the tokens cannot see where their text began")
claim("hardly any row begins with BOS", with_bos < 0.02)
claim("even with long rows, most tokens cannot see where their text began", beheaded > 0.5)

# %% [markdown]
# There is a third way, **best-fit packing**. Keep many documents waiting. Fill each row with the longest one that still fits, again
# and again. When none fits, take the shortest, crop it to the place that is left, and throw the rest away. So every row begins with BOS and is full.

# %%
def best_fit(lengths, T, buffer=1000):
    """For each row, the tokens taken of each of its documents, and how many were thrown away."""
    incoming = endless(lengths)
    waiting = sorted(islice(incoming, buffer))
    while True:
        row, lost = [], 0
        while (room := T - sum(row)) > 0:
            fitting = bisect_right(waiting, room)  # so many would fit
            length = waiting.pop(fitting - 1 if fitting else 0)
            row.append(min(length, room))
            lost += length - row[-1]
            insort(waiting, next(incoming))
        yield row, lost


# %% tags=["nbval-check-output"]
for row, lost in islice(best_fit([12, 7, 9, 2], T=10, buffer=4), 3):
    print(row, "thrown away:", lost)

# %% [markdown]
# Row 0: of 12, 7, 9 and 2 the longest that fits is 9. A place is left, nothing fits, and of the shortest, 2, one token is used. Each document
# that leaves is replaced by the next one of the corpus, so 12, the first again, then 7 and so on.
#
# All three ways, drawn to scale:

# %%
def draw_rows(ax, title, rows, T):
    """rows: lists of (document, left end, length, does it begin here?), dark and light in turn."""
    box = {"height": 0.75, "edgecolor": GREY, "linewidth": 0.5}
    ax.barh(range(len(rows)), T, color="white", hatch="////", label="padding", **box)
    for y, row in enumerate(rows):
        for document, left, length, begins in row:
            ax.barh(y, length, left=left, color=("#56B4E9", "#cfe4f3")[document % 2], **box)
            if begins:
                ax.plot(left, y, "|", color="black", markersize=9, markeredgewidth=3)
    ax.set(xlim=(-T / 25, T), ylim=(len(rows) - 0.5, -0.5), title=title, xlabel="position")
    ax.tick_params(left=False)


def placed(rows):
    """The same rows of lengths, each document with its left end; every one begins in its row."""
    ends = [np.cumsum([0, *row]) for row in rows]
    return [
        [(n + y, end[n], row[n], True) for n in range(len(row))]
        for y, (row, end) in enumerate(zip(rows, ends, strict=True))
    ]


# %%
T, count = 512, 12
each = [[min(length, T)] for length in token_lengths[:count]]
packed = [row for row, _ in islice(best_fit(token_lengths, T), 3000, 3000 + count)]
cut = [[] for _ in range(count)]  # the stream: documents run over the ends of rows
for document, (start, length) in enumerate(zip(starts, token_lengths, strict=True)):
    for row in range(start // T, min((start + length - 1) // T + 1, count)):
        left, right = max(start - row * T, 0), min(start + length - row * T, T)
        cut[row].append((document, left, right - left, start >= row * T))

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True)
draw_rows(axes[0], "one document a row", placed(each), T)
draw_rows(axes[1], "one stream", cut, T)
draw_rows(axes[2], "best-fit packing", placed(packed), T)
axes[0].set_ylabel("row")
axes[0].plot(-T, 0, "|", color="black", markersize=9, markeredgewidth=3, label="BOS")
for colour, label in (("#56B4E9", "a document"), ("#cfe4f3", "the next one")):
    axes[0].bar(-T, 0, color=colour, label=label)
figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=4, loc="lower center")
figure.tight_layout(rect=(0, 0.08, 1, 1))
plt.show()

# %% [markdown]
# On the left, much white. In the middle no place is empty, and only row 0 has its BOS at the left end. On the right every row has (shown are twelve rows from the 3,000th on). What you
# cannot see there is the text that was thrown away. How much is it, and does it stay so? Follow 40,000 rows of 2,048 tokens, some two hundred passes through our small corpus, and measure after every 2,000:

# %%
T, window = 2048, 2000
rows = best_fit(token_lengths.tolist(), T)
share = []
for _ in range(budget(20, quick=2)):
    lost = sum(thrown for _, thrown in islice(rows, window))
    share.append(lost / (lost + window * T))

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.4))
ax.plot(window / 1000 * np.arange(1, len(share) + 1), share, "o-", color=BLUE, markersize=4)
ax.axhline(cropped, color=ORANGE, linestyle="--")
ax.text(40, cropped - 0.03, "one document a row", color=ORANGE, ha="right", va="top")
ax.set(xlabel="thousand rows", ylabel="share of the text\nthat is thrown away", ylim=(0, 0.7))
ax.yaxis.set_major_formatter("{x:.0%}")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
print(f"V = {tokenizer.vocab_size:,}, T = {T:,}:", end=" ")
print(f"{share[0]:.0%} of the text in the first {window:,} rows, {share[-1]:.0%} in the last")
claim("at first, best-fit packing throws away less than a fifth", share[0] < 0.2)
claim("in the end, more than cropping each document alone", share[-1] > cropped)

# %% [markdown]
# Surprised? Look at what waits by then (`getgeneratorlocals` shows the variables of a generator that is paused):

# %%
waiting = np.array(inspect.getgeneratorlocals(rows)["waiting"])
in_long_ones = token_lengths[token_lengths > T].sum() / num_tokens
print(f"{np.mean(token_lengths > T):.0%} of the corpus's documents are longer than a row,", end=" ")
print(f"with {in_long_ones:.0%} of its text")
print(f"{np.mean(waiting > T):.0%} of those that wait are longer than a row")
claim("nearly all that waits is longer than a row", np.mean(waiting > T) > 0.9)

# %% [markdown]
# The buffer of 1,000 is larger than our corpus, so each document waits more than once; a larger corpus would fill it with different long ones. At first short documents fill the gaps, so hardly anything is cropped. The long ones, which fit nowhere, stay until hardly anything else waits. Then
# each of them loses all but the gap that it fills. A measurement over the first few hundred rows would have told us the opposite.
#
# How much is lost depends on the documents: most of our text is in long ones. For web pages and rows of the same length, nanochat (July 2026), which packs
# like this, states about 35 %. Its corpus, climbmix, has 400 billion tokens, so there is text to spare. nanochat (October 2025) used one stream, and so do we: it is
# simple, and it loses nothing of a small text.
#
# One thing the stream and the packed rows share: a token can use everything before it in its row, the end of an unrelated document included.
# A **mask** between documents would forbid it. The makers of Llama 3 report that in ordinary pretraining it made little difference.
#
# ## 6. From here to 100 billion tokens
#
# Nothing in these five ideas depends on the size of the corpus. What changes is the traffic, and the package takes care of that. In a terminal:
#
# | command | what it does |
# |---|---|
# | `uv run base_train --dataset FOLDER` | trains on text of your own: plain text, JSON, tables, parquet; texts over 10,000 characters are cut at blank lines |
# | `uv run get_data --dataset fineweb-edu --shards 8` | fetches eight shards and the one for validation, 900 MB; stopped at any moment, it goes on from the same byte |
# | `uv run base_train --dataset climbmix --streaming` | keeps a few shards on disk: the next one arrives while one is read |
#
# (A shard counts as downloaded only once its SHA-256, a far stricter hash than CRC-32, matches the one published. `course_lib/data/own_text.py` and `course_lib/data/remote.py` are readable,
# but no later chapter needs them.)

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
# <details><summary>Hint 1</summary>How many ids do B · T inputs and their targets need together? The example by hand in section 3 counts them.</details>
#
# <details><summary>Hint 2</summary>Cut two flat pieces first, one of them a token later, and both into rows afterwards.</details>

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
# <details><summary>Hint 1</summary>You need a whole number from a text that looks random but is always the same. Why would `len(text)` be a bad one?</details>
#
# <details><summary>Hint 2</summary>`hashlib.sha256(text.encode()).digest()` is 32 bytes; `int.from_bytes(…)` makes a number of them.</details>

# %% tags=["exercise"]
def held_out(texts, one_in):
    raise NotImplementedError


# %%
check(exercises.held_out, held_out)


# %% [markdown]
# ### Exercise 6.3 — where is token n?
#
# 20 minutes, ●●○. A stream is made of documents with these lengths (BOS included), epoch after epoch. Write
# `place(lengths, n)`: `(epoch, document, token)`, the address of token n of the stream, all counted from 0. n may be very
# large, so do not walk through the epochs one by one.
#
# <details><summary>Hint 1</summary>How long is one epoch? How often does it fit into n, and what is left?</details>
#
# <details><summary>Hint 2</summary>`divmod` by the length of an epoch. Then go through the documents of one epoch, and take off the length of each that lies before.</details>

# %% tags=["exercise"]
def place(lengths, n):
    raise NotImplementedError


# %%
check(exercises.place, place)


# %% [markdown]
# ### Exercise 6.4 — pack without cropping
#
# 30 minutes, ●●●. Conversations (chapter 13) must not be cropped: a question without its answer teaches nothing. Write `pack(lengths, T)`: a list of rows,
# each a list of document numbers, in any order; every document in exactly one row, and no row longer than T. Fill one row after the other: always put in
# the longest document that still fits; when none fits, leave the rest of the row as padding and begin the next one. No document is longer than T.
#
# The last cell tries it on this chapter's corpus, where longer documents are cut to T first.
#
# <details><summary>Hint 1</summary>`best_fit` above is close. What does it do when nothing fits, and what should happen here? And nothing comes in any more.</details>
#
# <details><summary>Hint 2</summary>Keep `(length, document)` pairs sorted. `bisect_right(waiting, (room, len(lengths)))` says how many of them fit.</details>

# %% tags=["exercise"]
def pack(lengths, T):
    raise NotImplementedError


# %%
check(exercises.pack, pack)

# %%
cut_lengths = np.minimum(token_lengths, 2048)
try:
    padding = 1 - cut_lengths.sum() / (2048 * len(pack(cut_lengths.tolist(), 2048)))
    print(f"{padding:.1%} of the places are padding")
except NotImplementedError:
    print("nothing to try yet")

# %% [markdown]
# ## Summary
#
# - A corpus is documents of very different lengths. How much of it a model needs grows with the model: about 20 tokens for each parameter.
# - A hash of the text decides what is held out, so adding text moves nothing (below 10 million held-out characters).
# - BOS before each document, one flat stream, cut into rows; the targets are the stream one token later.
# - The address of the next token is all that a loader needs to go on exactly.
# - Padding and cropping waste text or work; the stream wastes neither, and most of its rows begin in the middle of a text.
#
# ## Pitfalls
#
# - A resumed run that forgot its place in the data: it trains on the beginning again, and its loss looks good (section 4).
# - Shifting targets inside each row only: the last token of a row then has no target, or a wrong one (exercise 6.1).
# - Validation text that was trained on: copies on both sides, or a split that moves when text is added (section 2).
# - Believing the first few hundred rows: what is cropped by best-fit packing shows only in the long run (section 5).
#
# ## Further reading
#
# - [The FineWeb Datasets](https://arxiv.org/abs/2406.17557), Penedo et al., 2024: how web pages become pretraining text.
# - [fineweb-edu-100b-shuffle](https://huggingface.co/datasets/karpathy/fineweb-edu-100b-shuffle): the shards, and a page to look at their rows.
# - [nanochat](https://github.com/karpathy/nanochat): the program whose data this chapter reads.
# - [The Llama 3 Herd of Models](https://arxiv.org/abs/2407.21783), 2024, section 3.2: a mask between documents.
# - [Fewer Truncations Improve Language Modeling](https://arxiv.org/abs/2404.10830), Ding et al., 2024: best-fit packing.
#
# **Next:** [07 · Attention](07_attention.ipynb): how a position finds out which earlier ones matter to it.

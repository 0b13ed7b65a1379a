# %% [markdown]
# # 12 · Engine
#
# **Goal.** Make a trained model write fast, choose its words well, and serve many users at once.
#
# | | |
# |---|---|
# | Needs | [07 · Attention](07_attention.ipynb), [08 · GPT](08_gpt.ipynb); it trains with the `Trainer` of chapter 10, without asking how that works |
# | Time | 60 minutes to read, 75 for the exercises; a minute or two to run |
# | Memory | under 3 GB |
# | You will build | a cache of keys and values → `course_lib.generate.kv_cache`; sampling → `course_lib.generate.sampling`; rows that are written together → `course_lib.generate.rows`; `Engine` → `course_lib.generate.engine`; `BatchEngine`, for many users at once → `course_lib.serve.batch_engine` |
#
# A GPT gives probabilities for one next token. A text is hundreds of them, one after the other. The loop around the model, the
# **engine**, decides how fast that goes and how good the text is: the same weights, written with a bad loop, are many times
# slower or write nonsense.

# %% [markdown]
# ![Map of the course: chapter 12 engine is marked, the last one of Part II; after 11 evaluation](images/map_12.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · **12** · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/12_engine.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export generate.kv_cache
"""The KV cache: keys and values of every position that the model has read, for a batch of rows.

Rows may have different lengths; they are added, copied and removed while the others stay where they
are.
"""

import mlx.core as mx

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig

# %%
#| export generate.sampling
"""One token from logits: temperature, top-k, top-p, min-p, and the draw."""

import math

import mlx.core as mx

from course_lib.model.head import fast_exp

# %%
#| export generate.rows
"""Rows of text that are written together: what is asked for, one row, one step for all of them."""

import math
import operator
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress

import mlx.core as mx

from course_lib import backend
from course_lib.generate.kv_cache import KVCache
from course_lib.generate.sampling import sample
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.products import inference_mode

# %%
#| export generate.engine
"""Text from a model: one prompt, several samples of it, or several prompts."""

import operator
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.kv_cache import KVCache, PrefixStore
from course_lib.generate.rows import (
    Batch,
    Generation,
    Request,
    Row,
    check_count,
    check_request,
    prefill,
)
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT
from course_lib.model.products import lay_out

Columns = Generator[tuple[list[int], list[int]], None, list[str | None]]

# %%
#| export serve.batch_engine
"""One model for many users at once: continuous batching, in a thread of its own."""

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import KVCache
from course_lib.generate.rows import (
    Batch,
    Generation,
    Request,
    Row,
    check_count,
    check_request,
    next_logits,
)
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT

# %% [markdown]
# These cells open the modules that this chapter builds. The next one is for this notebook only.

# %%
import time
from contextlib import nullcontext
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

from course_lib import backend
from course_lib.classroom import add_to, budget, check
from course_lib.classroom.exercises import engine as exercises
from course_lib.model.products import in_order
from course_lib.names.bigram import load_names
from course_lib.train.trainer import Trainer

backend.seed_everything(42)
print(backend.describe())

# %% [markdown]
# ## 1. Why writing is slow
#
# ### A model to write with
#
# A small GPT, and names again: they are short, and you can judge them. A tokenizer of 265 ids has 256 bytes, nine
# special tokens and no merges (chapter 05), so a token is one letter. A text is names with `<|bos|>` before each, and so
# `<|bos|>` also says that a name is over. The model sees 128 positions at most.

# %%
names = load_names()
random.Random(42).shuffle(names)
tokenizer = Tokenizer.train(names, 265)
text = mx.array([token for name in names for token in tokenizer.encode(name, bos=True)])
config = GPTConfig(128, tokenizer.vocab_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=64)
model = GPT(config)


def rows_of_text(rows, T):
    """Inputs and targets (rows, T), each row from a random place of the text."""
    starts = mx.random.randint(0, len(text) - T - 1, (rows, 1))
    ids = text[starts + mx.arange(T + 1)]  # (rows, T + 1)
    return ids[:, :-1], ids[:, 1:]


# %%
num_steps = budget(250, quick=60)
trainer = Trainer(model, num_steps)
for step in range(num_steps):
    result = trainer.step([rows_of_text(16, 64)])
    if (step + 1) % (num_steps // 5) == 0:
        print(f"step {step + 1:3d}  loss {result.losses[0]:.3f} nats a letter")


# %% [markdown]
# ### The loop that everybody writes first
#
# All ids so far go in, the last position's logits come out, the likeliest id is appended. Always taking the likeliest is
# called **greedy**.

# %%
def write_slowly(model, ids, count):
    """`count` ids after `ids`, greedy; the whole text goes through the model for each."""
    ids = list(ids)
    for _ in range(count):
        logits = model(mx.array([ids]))[0, -1]  # (V,)
        ids.append(mx.argmax(logits).item())
    return ids[len(ids) - count :]


prompt = tokenizer.encode("anna", bos=True) + tokenizer.encode("mar", bos=True)
print(repr(tokenizer.decode(write_slowly(model, prompt, 20))))

# %% [markdown]
# `<|bos|>` is where a name ends and the next begins. Greedy text soon repeats itself; section 4 is about better choices.
#
# What does a token cost? It depends on the model's size and on how long the text is already. We need a model of some size
# for that; it may be untrained. This one has the eight blocks of d8 and a small vocabulary. (A random head in place of the
# zeros it starts with, so that its greedy text is not always id 0. On a GPU the weights are in bfloat16.)

# %%
big_config = GPTConfig.from_depth(budget(8, quick=3), vocab_size=4096, sequence_len=1024)
big = GPT(big_config)
big.lm_head.weight = 0.05 * mx.random.normal(big.lm_head.weight.shape)
big.set_dtype(backend.compute_dtype())
mx.eval(big.parameters())
long_text = mx.random.randint(0, 4096, (1, 1024))


def seconds_of(run, times=5):
    """The best time of several: other work on the machine only ever makes a run slower."""
    best = math.inf
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def best_of(seconds, cases, rounds=4):
    """Seconds of each case, in rounds, so that a busy moment does not hit one case alone."""
    measured = [[seconds(case) for case in cases] for _ in range(rounds)]
    return {
        case: min(times) for case, times in zip(cases, zip(*measured, strict=True), strict=True)
    }


# %%
def uncached_seconds(length):
    """Time of a pass over `length` tokens."""
    return seconds_of(lambda: mx.eval(big(long_text[:, :length])[:, -1]), times=1)


lengths = [1, *budget((64, 128, 256, 512), quick=(32, 64))]
uncached = best_of(uncached_seconds, lengths)
for length, seconds in uncached.items():
    print(f"the token after {length:3d} others: {1000 * seconds:6.1f} ms")

# %% [markdown]
# Twice the length, about twice the time, once the text is long enough. A text of $n$ tokens made in this way passes
# $1 + 2 + \dots + n = n(n+1)/2$ positions through the model, to get $n$ tokens.
#
# ## 2. The KV cache
#
# ### What is computed again and again
#
# Under the causal mask no position sees a later one. So whatever is appended, everything that was computed for the positions
# before stays as it was:

# %%
close = 1e-3 if backend.compute_dtype() == mx.float32 else 0.3  # bfloat16 keeps three digits
ids = mx.array([prompt])
longer = mx.array([prompt + tokenizer.encode("tha")])
same = model(longer)[:, : ids.shape[1]]
print(f"largest difference {mx.abs(same - model(ids)).max().item():.0e}")
assert mx.allclose(same, model(ids), atol=close)

# %% [markdown]
# A new position needs two things of the old ones, in each block: their **keys** and their **values** (chapter 07). Keep
# these, and only the new token has to go through the model. That is the **KV cache**.
#
# ### How many bytes?
#
# Count before you build. For each position, in each of $L$ blocks: a key and a value, for each of $H_{kv}$ heads, of $D$
# numbers of $b$ bytes each. With $B$ rows (texts) of $n$ positions:
#
# $$ \text{bytes} = 2 \cdot L \cdot B \cdot H_{kv} \cdot n \cdot D \cdot b $$
#
# An array cannot grow. So ours are made with room to spare: always a multiple of 256 positions, and never more than the
# model can use.

# %%
#| export generate.kv_cache
STEP = 256


def _capacity(config: GPTConfig, length: int) -> int:
    """Positions to have room for: `length` up to a multiple of STEP, at most sequence_len."""
    return min(-(-length // STEP) * STEP, config.sequence_len)


def cache_bytes(config: GPTConfig, rows: int, length: int) -> int:
    """Bytes of a cache in which `rows` rows have grown to `length` positions; no cache is made."""
    numbers = 2 * config.n_layer * rows * config.n_kv_head * _capacity(config, length)
    return numbers * config.head_dim * backend.compute_dtype().size


# %%
print("one text of 2,048 tokens, in MB; a number has", backend.compute_dtype().size, "bytes")
for depth in (4, 8, 12, 20):
    full = GPTConfig.from_depth(depth)
    shared = GPTConfig.from_depth(depth, n_kv_head=1)
    sizes = [cache_bytes(size, 1, 2048) / 1e6 for size in (full, shared)]
    print(f"d{depth:<2d} {sizes[0]:6.1f}, with one head of keys and values {sizes[1]:5.1f}")


# %% [markdown]
# This is why models share keys and values between heads (chapter 07): the cache of a long text is large, and each user of a
# server needs one.
#
# ### One block's part
#
# Attention asks its cache for two things: `offset`, where the next position stands, and `update_and_fetch`, which takes new
# keys and values and gives back all. Here is the part of one block. The `KVCache` that it refers to comes next. The
# branch `else` is for rows of different lengths: pass over it until section 3.

# %%
#| export generate.kv_cache
class LayerCache:
    """Keys and values of one block: (rows, n_kv_head, positions, head_dim); zeros at first."""

    def __init__(self, cache: "KVCache"):
        self._cache = cache
        config = cache.config
        shape = 0, config.n_kv_head, 0, config.head_dim
        self.keys = self.values = mx.zeros(shape, backend.compute_dtype())

    @property
    def offset(self) -> int | mx.array:
        """Where the next position stands: an int when it is the same for all rows, else (B,)."""
        return self._cache.offset

    def update_and_fetch(self, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        """Put (B, n_kv_head, T, head_dim) after what each row holds; gives all of it back.

        They come back as wide as the longest row: what stands after a shorter one is for a mask to
        hide.
        """
        cache, (B, _, T, _) = self._cache, k.shape
        if B != len(cache.lengths):
            raise CourseError(
                f"keys of {B} rows for a cache of {len(cache.lengths)}; give a row of ids for each"
            )
        width = max(cache.lengths) + T
        cache.reserve(B, width)
        if isinstance(cache.offset, int):
            where = slice(0, B), slice(None), slice(cache.offset, width)
        else:  # each row at its own place; such an index puts the heads last
            if self is cache.layers[0]:  # made once, for all blocks
                cache.places = mx.arange(B)[:, None], cache.offset[:, None] + mx.arange(T)
            rows, positions = cache.places  # (B, 1), (B, T)
            where = rows, slice(None), positions
            k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        self.keys[where] = k  # in place: MLX sees that nobody else holds the array
        self.values[where] = v
        if self is cache.layers[-1]:
            cache.lengths = [length + T for length in cache.lengths]
        return self.keys[:B, :, :width], self.values[:B, :, :width]


# %% [markdown]
# ### The whole model's cache
#
# All blocks hold equally many positions, so `lengths` is kept once. It moves on when the last block has had its new keys. A
# published port of nanochat built the *whole* cache anew for *every block* of every token. Here the arrays are made once,
# and again only when 256 positions are full.

# %%
#| export generate.kv_cache
class KVCache:
    """A cache for every block of one model: `model(ids, cache.layers)` reads it and adds to it.

    lengths: how many positions each row holds. Arrays are made once and grow by STEP positions.
    Raises CourseError when a row would hold more than sequence_len.
    """

    def __init__(self, config: GPTConfig, rows: int = 1):
        self.config = config
        self.lengths = [0] * rows
        self.layers = [LayerCache(self) for _ in range(config.n_layer)]

    @property
    def lengths(self) -> list[int]:
        """How many positions each row holds."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: list[int]) -> None:
        self._lengths = lengths
        self.offset = lengths[0] if len(set(lengths)) == 1 else mx.array(lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays; see `cache_bytes`."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)


# %%
#| export generate.kv_cache
@add_to(KVCache)
def reserve(self, rows: int, length: int) -> None:
    """Have room for so many rows of so many positions. More rows: at least twice as many."""
    if length > self.config.sequence_len:
        raise CourseError(
            f"{length} positions, but the model has sequence_len={self.config.sequence_len}; "
            "stop before"
        )
    old_rows, heads, old_length, head_dim = self.layers[0].keys.shape
    if rows <= old_rows and length <= old_length:
        return
    rows = old_rows if rows <= old_rows else max(rows, 2 * old_rows)
    shape = rows, heads, max(old_length, _capacity(self.config, length)), head_dim
    for layer in self.layers:
        for name in ("keys", "values"):
            old = getattr(layer, name)
            new = mx.zeros(shape, old.dtype)
            new[:old_rows, :, :old_length] = old
            mx.eval(new)  # so that old and new are there together for one array only
            setattr(layer, name, new)


# %% [markdown]
# Bytes as computed, and room in steps:

# %%
cache = KVCache(big_config)
for n in (1, 255, 1, 300):
    mx.eval(big(long_text[:, :n], cache.layers))
    held = cache.lengths[0]
    print(f"{held:3d} positions: {cache.nbytes / 1e6:5.1f} MB", cache.layers[0].keys.shape)
    assert cache.nbytes == cache_bytes(big_config, 1, held)


# %% [markdown]
# ### The same text, faster
#
# The first pass reads the whole prompt at once: **prefill**. Each pass after it reads one token: **decoding**. The ids must be
# those of the slow loop.

# %%
def write(model, ids, count):
    """`count` ids after `ids`, greedy; each id goes through the model once."""
    cache, written, new = KVCache(model.config), [], list(ids)
    for _ in range(count):
        logits = model(mx.array([new]), cache.layers)[0, -1]
        new = [mx.argmax(logits).item()]
        written += new
    return written


def must_be_equal(one, other):
    """Stop when ids differ. In bfloat16 they may: two ways of rounding part at a near-tie."""
    if one != other and backend.compute_dtype() == mx.float32:
        raise AssertionError(f"{one} is not {other}")
    print("the same" if one == other else "not the same: a near-tie in bfloat16")


must_be_equal(write(model, prompt, 40), write_slowly(model, prompt, 40))
print(repr(tokenizer.decode(write(model, prompt, 40))))


# %% [markdown]
# Now what does a token cost? One new id, after as many others as before:

# %%
def cached_seconds(length):
    """Time of the pass that reads one token when `length` others are in the cache."""
    cache, new = KVCache(big_config), long_text[:, :1]
    mx.eval(big(long_text[:, :length], cache.layers))
    return seconds_of(lambda: mx.eval(big(new, cache.layers)), times=10)


cached = best_of(cached_seconds, lengths, rounds=2)
figure, ax = plt.subplots(figsize=(5.5, 3.2))
for times, style, color, label in (
    (uncached, "o-", "#0072B2", "no cache"),
    (cached, "s--", "#D55E00", "with a cache"),
):
    ax.plot(lengths, [1000 * times[n] for n in lengths], style, color=color, label=label)
ax.set(xlabel="tokens before it", ylabel="milliseconds for the next token", ylim=0)
ax.legend(frameon=False)
plt.show()
last = lengths[-1]
print(f"after {last} tokens: {uncached[last] / cached[last]:.0f} times faster")

# %% [markdown]
# Without a cache the line climbs with the text. With one it is nearly flat: the attention of one query to all keys does grow,
# but it is small beside the rest.
#
# ### Rebuilding, or writing in place
#
# The cache of chapter 07 joined old and new with `mx.concatenate`, which copies everything for each token. What does that
# cost, against a write in place?

# %%
shape = 1, big_config.n_kv_head, 1, big_config.head_dim
new = mx.ones(shape, backend.compute_dtype())
cache = KVCache(big_config)
cache.reserve(1, 1000)


def join(old):
    mx.eval([mx.concatenate([old, new], axis=2) for _ in range(2 * big_config.n_layer)])


def in_place():
    for layer in cache.layers:
        layer.update_and_fetch(new, new)
    mx.eval([(layer.keys, layer.values) for layer in cache.layers])


for length in (225, 450, 900):
    old = mx.repeat(new, length, axis=2)
    mx.eval(old)
    cache.lengths = [length]
    joined, placed = seconds_of(lambda old=old: join(old)), seconds_of(in_place)
    print(f"{length} positions: joined {1000 * joined:5.2f} ms, in place {1000 * placed:.2f} ms")


# %% [markdown]
# That is for one token, in all blocks. Copying grows with the text, writing in place does not. A cache that is rebuilt for
# every block as well copies that many times more: with it, the flat line above would climb again.
#
# ### What the time is spent on
#
# In training, a weight that has been fetched from memory is used for thousands of positions. Here it is used for **one**: it
# comes in, one multiplication and one addition are done, and it is thrown out for the next. So decoding can be no faster
# than weights are fetched. Per token that is every weight except `wte`, of which only one row is read.
#
# How fast does this machine read? A matrix times a vector does nothing else: on a CPU we let NumPy do one, on a GPU MLX sums an
# array.

# %%
def memory_speed():
    """Bytes a second, read from an array of 128 MB that no processor's own memory holds."""
    if backend.device_kind() == "cpu":
        matrix, vector = np.ones((4096, 8192), np.float32), np.ones(8192, np.float32)
        return matrix.nbytes / seconds_of(lambda: matrix @ vector, times=30)
    array = mx.ones(1 << 25)
    mx.eval(array)
    return array.nbytes / seconds_of(lambda: mx.eval(array.sum()), times=30)


weights = dict(tree_flatten(big.parameters()))
read = sum(array.nbytes for name, array in weights.items() if "wte" not in name)
speed, reached = memory_speed(), read / cached[lengths[1]]
print(f"a token reads {read / 1e6:.0f} MB of weights")
print(f"decoding reads {reached / 1e9:.1f} GB/s, this machine can {speed / 1e9:.1f} GB/s")
print(f"{reached / speed:.0%} of the memory's speed; at 100 % {speed / read:.0f} tokens a second")


# %% [markdown]
# The last number is a ceiling that no better program gets over: with one text at a time, only fewer bytes would help. How
# near you come differs. On a GPU with a small model, starting some hundred small operations takes most of the time. On a CPU
# you may come nearer than that line.
#
# ### One row on a CPU
#
# The library that multiplies has two routines. `sgemm` multiplies two matrices. It copies the weight, piece by piece, into an
# order that suits it, so that each number, once there, meets many rows. `sgemv` multiplies a matrix with a vector, and reads
# each number once, from where it is. MLX knows the first only. With a single row in `x` its copying is more work than the
# product. NumPy calls the second for `matrix @ vector`, and it reads an MLX array in place, without a copy:

# %%
head = big.lm_head.weight
x = mx.random.normal((1, big_config.n_embd)).astype(head.dtype)
mx.eval(x)
if backend.device_kind() == "cpu":
    matrix, vector = np.array(head, copy=False), np.array(x, copy=False)[0]
    assert mx.allclose(mx.array(matrix @ vector), x @ head.T, atol=1e-4)
    sgemm = seconds_of(lambda: mx.eval(x @ head.T), times=50)
    sgemv = seconds_of(lambda: matrix @ vector, times=50)
    print(f"sgemm {1000 * sgemm:.2f} ms, sgemv {1000 * sgemv:.2f} ms")

# %% [markdown]
# `project`, the product in every `Linear` and before the cap, knows both. It takes NumPy's way for one row and a large weight,
# and only inside `with inference_mode():`, where nobody may ask for a gradient. A small weight is not worth it: MLX must first
# finish what it has begun. A whole token:

# %%
cache = KVCache(big_config)
mx.eval(big(long_text[:, :64], cache.layers))


def token_seconds(mode):
    """Time of one token in this mode."""
    with mode():
        return seconds_of(lambda: mx.eval(big(long_text[:, :1], cache.layers)), times=1)


speed = max(speed, memory_speed())
modes = {nullcontext: "through MLX alone", inference_mode: "in inference mode"}
for mode, seconds in best_of(token_seconds, modes, rounds=50).items():
    share = read / seconds / speed
    print(f"{modes[mode]} {1000 * seconds:5.1f} ms a token, {share:.0%} of the memory's speed")


# %% [markdown]
# On a GPU nothing changes: MLX has routines of both kinds there.
#
# ### The order in memory
#
# Several rows go through `sgemm`. A weight has the shape (out, in) and MLX puts it in memory row after row: `[[1, 2, 3],
# [4, 5, 6]]` lies as 1 2 3 4 5 6. It may as well lie column after column, as 1 4 2 5 3 6. Shape and numbers stay, and so does the
# product. Its time does not: `sgemm` copies one of the two orders faster.

# %%
block = big.transformer.h[0].mlp
for name, weight in (
    ("lm_head", head),
    ("c_fc", block.c_fc.weight),
    ("c_proj", block.c_proj.weight),
):
    eight = mx.random.normal((8, weight.shape[1])).astype(weight.dtype)
    orders = [in_order(weight, by_columns) for by_columns in (False, True)]
    assert mx.array_equal(*orders)
    by_rows, by_columns = (
        1000 * seconds_of(lambda w=w, x=eight: mx.eval(x @ w.T), times=20) for w in orders
    )
    print(f"{name:8s}{weight.shape}: by rows {by_rows:.2f} ms, by columns {by_columns:.2f} ms")

# %% [markdown]
# Which order wins? No rule says so: the library has an `sgemm` for each kind of processor, and they differ. One likes columns
# throughout, the next only for some shapes. So `lay_out` measures. It multiplies eight rows in both orders, once for each shape
# of the model, and keeps the faster order. `Engine`, below, lays out the weights of its model when it first sees them. For one
# row it matters little, as `sgemv` reads either order well. On a GPU nothing is changed.
#
# For section 6, remember that weights are fetched for each *pass*, however many rows it has.
#
# ## 3. Rows of different lengths
#
# ### Each row at its own place
#
# Several texts can go through the model together, as rows of one batch. Prompts differ in length, though. We do not pad them:
# each row has a length of its own, and `offset` becomes an array (B,). The rotation of chapter 07 takes it and turns each row's
# query by its own position.
#
# Rows join with `append`, which copies a row out of another cache. They leave with `remove`, and the last row moves into the
# gap, so that rows in use always stand together.

# %%
#| export generate.kv_cache
@add_to(KVCache)
def append(self, other: "KVCache", row: int = 0, length: int | None = None, times: int = 1) -> None:
    """Add `times` copies of the first `length` positions (default: all) of another's row."""
    length = other.lengths[row] if length is None else length
    first, last = len(self.lengths), len(self.lengths) + times
    self.reserve(last, length)
    for mine, theirs in zip(self.layers, other.layers, strict=True):
        for to, copied in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
            to[first:last, :, :length] = copied[row : row + 1, :, :length]
            # a row that was here before may have left NaN, and 0 · NaN is NaN
            to[first:last, :, length:] = 0
            mx.eval(to)
    self.lengths = self.lengths + [length] * times


@add_to(KVCache)
def remove(self, row: int) -> None:
    """Take a row out; the last row moves to its place."""
    lengths = list(self.lengths)
    last = len(lengths) - 1
    if row != last:
        for layer in self.layers:
            for array in (layer.keys, layer.values):
                moved = array[last] + 0  # a view would make the next line copy all rows
                mx.eval(moved)
                array[row : row + 1] = moved
                mx.eval(array)
    lengths[row] = lengths[last]
    self.lengths = lengths[:last]


@add_to(KVCache)
def copy(self, row: int = 0, length: int | None = None) -> "KVCache":
    """A cache of its own with the first `length` positions (default: all) of a row."""
    new = KVCache(self.config, rows=0)
    new.append(self, row, length)
    return new


# %% [markdown]
# Four beginnings of names, each read by itself, then put together into one cache:

# %%
beginnings = ["ka", "christop", "m", "eliza"]
prompts = [tokenizer.encode(beginning, bos=True) for beginning in beginnings]
together = KVCache(config, rows=0)
for ids in prompts:
    alone = KVCache(config)
    model(mx.array([ids]), alone.layers)
    together.append(alone)
print("lengths", together.lengths, "offset", together.offset.tolist())
print("keys of a block", together.layers[0].keys.shape)


# %%
def draw_rows(texts, width):
    """A cache: what each row holds, where its next token goes, and what is hidden."""
    figure, ax = plt.subplots(figsize=(6.5, 0.45 * len(texts) + 0.6))
    for row, letters in enumerate(texts):
        for place in range(width):
            held, new = place < len(letters), place == len(letters)
            color = "#cfe4f3" if held else "#f6d9a8" if new else "white"
            hatch = "" if held or new else "///"
            box = plt.Rectangle((place, row), 1, 1, facecolor=color, hatch=hatch, ec="#555555")
            ax.add_patch(box)
            label = letters[place] if held else "new" if new else ""
            ax.text(place + 0.5, row + 0.5, label, ha="center", va="center", fontsize=9)
    ax.set(xlim=(0, width), ylim=(len(texts), 0), xlabel="position")
    ax.set_xticks([n + 0.5 for n in range(width)], range(width))
    ax.set_yticks([n + 0.5 for n in range(len(texts))], [f"row {n}" for n in range(len(texts))])
    plt.show()


draw_rows([["•", *beginning] for beginning in beginnings], width=10)

# %% [markdown]
# A letter is a position whose key and value are held (• is BOS). The box *new* is where this row's next token goes: another
# place in each row. The hatched boxes come back from `update_and_fetch` too, because an array is a rectangle. The mask must
# hide them. It is `causal_mask` of chapter 07, for one query in each row: position $s$ may be seen if $s \le$ the row's own
# offset.

# %%
mask = mx.arange(10) <= together.offset[:, None]  # (B, S)
for row in mask.tolist():
    print(" ".join("sees" if visible else " –  " for visible in row))

# %% [markdown]
# And the check that matters: in the batch each row gets the logits that it gets alone.

# %%
new = mx.array([tokenizer.encode(letter) for letter in "trai"])  # (B, 1)
in_batch = model(new, together.layers)[:, -1]  # (B, V)
for row, ids in enumerate(prompts):
    alone = model(mx.array([ids + new[row].tolist()]))[0, -1]
    assert mx.allclose(in_batch[row], alone, atol=close)
print("each row's logits are those of the row alone")


# %% [markdown]
# With one mask that all rows share, `"causal"` at the width of the longest, the short rows would attend to zeros: no error,
# only worse text, and a text that depends on its neighbours.
#
# ### A beginning can be used again
#
# The next turn of a chat repeats everything said before and adds a little. So caches of the last texts are kept, and what
# begins as one of them is not read again. `find` leaves the last id to be read, because its logits are needed. Fewer than 16 ids
# in common are not worth the copy.

# %%
#| export generate.kv_cache
class PrefixStore:
    """Caches of the last `size` texts: what begins as one of them need not be read again."""

    def __init__(self, size: int):
        self.size = size
        self._texts: list[tuple[list[int], KVCache]] = []  # the one used last comes last

    def keep(self, ids: list[int], cache: KVCache) -> None:
        """Keep a cache of one row, which holds `ids`; it must not be changed any more."""
        # a text that `ids` begins with is in the new cache, too
        others = [text for text in self._texts if _common(text[0], ids) < len(text[0])]
        self._texts = (others + [(ids, cache)])[-self.size :] if self.size else []

    def find(self, ids: list[int]) -> KVCache | None:
        """A cache with the longest beginning of `ids` that is kept; None below 16.

        The last id is left to read, for its logits.
        """
        best = max(self._texts, key=lambda text: _common(text[0], ids), default=None)
        length = min(_common(best[0], ids), len(ids) - 1) if best else 0
        if length < 16:
            return None
        self._texts = [text for text in self._texts if text is not best] + [best]
        return best[1].copy(length=length)

    def clear(self) -> None:
        """Forget them all."""
        self._texts = []


def _common(a: list[int], b: list[int]) -> int:
    """How many ids two texts have in common at their beginning."""
    pairs = zip(a, b, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


# %%
store, first_turn = PrefixStore(size=4), list(range(20))
read_once = KVCache(config)
model(mx.array([first_turn]), read_once.layers)
store.keep(first_turn, read_once)
for ids in ([*first_turn, 7, 8, 9], [*first_turn[:18], 99, 99], first_turn, [1, 2, 3]):
    found = store.find(ids)
    held = found.lengths[0] if found else 0
    print(f"{len(ids):2d} ids, {held:2d} of them in the store: {len(ids) - held} to read")

# %% [markdown]
# ## 4. Sampling
#
# ### One distribution
#
# Greedy writes one text, again and again the same. To **sample** is to draw the next token by its probability. We look at
# one place only: the names that begin with "mar". Of the letters that could follow we keep the ten likeliest, and work with
# their ten logits.

# %%
ids = mx.array([tokenizer.encode("mar", bos=True)])
all_logits = model(ids)[0, -1]  # (V,)
ten = mx.argsort(-all_logits)[:10]
letters = ["end" if n == tokenizer.bos else tokenizer.decode([n]) for n in ten.tolist()]
logits = all_logits[ten][None]  # (1, 10)
print({letter: round(logit, 2) for letter, logit in zip(letters, logits[0].tolist(), strict=True)})


# %% [markdown]
# Softmax makes probabilities of logits: e to the power of each, divided by the sum. The largest logit is subtracted first, so
# that no power overflows; it cancels out. (`fast_exp` of `course_lib/model/head.py` is `mx.exp`, written faster.)

# %%
#| export generate.sampling
def probabilities(logits: mx.array) -> mx.array:
    """Softmax over the last axis."""
    weights = fast_exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


# %%
def draw_distributions(panels):
    """Bars for each title -> logits (1, 10); a letter that has been left out is marked."""
    figure, axes = plt.subplots(1, len(panels), figsize=(9.5, 2.6), sharey=True)
    for ax, (title, shown) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        probs = probabilities(shown)[0].tolist()
        ax.bar(letters, probs, color="#0072B2")
        for n, p in enumerate(probs):
            ax.text(n, p, "×" if p == 0 else f"{p:.2f}"[1:], ha="center", va="bottom", fontsize=7)
        ax.set_title(title, fontsize=10)
        ax.tick_params(axis="x", labelsize=8)
        ax.margins(y=0.15)
    np.atleast_1d(axes)[0].set_ylabel("probability")
    figure.tight_layout()
    plt.show()


assert mx.allclose(probabilities(logits), mx.softmax(logits, axis=-1), atol=1e-5)
draw_distributions({"after “mar”": logits})

# %% [markdown]
# One letter leads, a few others follow, and then comes a long tail of letters with little each (and after these ten, all
# other ids). What one would like: use the variety at the top and never draw from far down the tail, since one odd letter is
# enough to spoil a name.
#
# ### Temperature
#
# Divide the logits by a number, the **temperature** $\tau$, before the softmax: $p_i \propto e^{z_i / \tau}$, where $z_i$ is
# the logit of letter $i$. Below 1, differences grow and the leader gets more; above 1 they shrink. $\tau \to 0$ is greedy.

# %%
draw_distributions({f"temperature {t}": logits / t for t in (0.5, 1.0, 2.0)})


# %% [markdown]
# From left to right the bars become more even. Their order never changes, and no letter is left out: at 2.0 the tail has
# gained most. That is why temperature is used together with one of the next three, which cut the tail off.
#
# ### Top-k
#
# Keep the $k$ largest logits and set the others to $-\infty$, which is probability 0. The rest shares what becomes free. Here
# by sorting:

# %%
def keep_top_k(logits, k):
    least = mx.sort(logits, axis=-1)[:, -k, None]  # (B, 1), the k-th largest
    return mx.where(logits >= least, logits, -mx.inf)


assert (keep_top_k(logits, 4) > -mx.inf).tolist() == [[True] * 4 + [False] * 6]


# %% [markdown]
# $k$ is the same whether the model is sure or has no idea. Two other rules look at the probabilities.
#
# ### Top-p and min-p
#
# **Top-p**: from the likeliest on, take letters until they have $p$ together. **Min-p**: keep what has at least $p$ times the
# probability of the likeliest. In logits a factor $p$ is a difference of $\ln p$, so no softmax is needed:
# $e^{z_i} \ge p \cdot e^{z_{max}}$ is $z_i \ge z_{max} + \ln p$.

# %%
#| export generate.sampling
def keep_top_p(logits: mx.array, p: float) -> mx.array:
    """-inf for all but the likeliest that make up p together (nucleus: Holtzman et al., 2020).

    A token stays when those likelier than it have less than p in all.
    """
    ordered = -mx.sort(-logits, axis=-1)
    probs = probabilities(ordered)
    before = mx.cumsum(probs, axis=-1) - probs
    least = mx.where(before < p, ordered, mx.inf).min(axis=-1, keepdims=True)
    return mx.where(logits >= least, logits, -mx.inf)


def keep_min_p(logits: mx.array, p: float) -> mx.array:
    """-inf for what has less than p times the likeliest's probability (Nguyen et al., 2024)."""
    return mx.where(logits >= logits.max(axis=-1, keepdims=True) + math.log(p), logits, -mx.inf)


# %% [markdown]
# By hand first, on four tokens with 50, 25, 15 and 10 percent. Top-p of 0.6: the first has 0.5, not enough; with the second it
# is 0.75, enough. Min-p of 0.25: at least 0.125.

# %% tags=["nbval-check-output"]
four = mx.log(mx.array([[0.5, 0.25, 0.15, 0.1]]))
for name, kept in (("top-p 0.6 ", keep_top_p(four, 0.6)), ("min-p 0.25", keep_min_p(four, 0.25))):
    print(name, [round(p, 3) for p in probabilities(kept).tolist()[0]])
assert (keep_top_p(four, 0.6) > -mx.inf).tolist() == [[True, True, False, False]]
assert (keep_min_p(four, 0.25) > -mx.inf).tolist() == [[True, True, True, False]]

# %%
draw_distributions(
    {
        "top-k 4": keep_top_k(logits, 4),
        "top-p 0.7": keep_top_p(logits, 0.7),
        "min-p 0.3": keep_min_p(logits, 0.3),
    }
)

# %% [markdown]
# A × is a letter that cannot be drawn any more. The others have grown in proportion. The three rules draw the line at different
# places. How do they move it when the model is surer, or has less of an idea? We make such models of the same ten logits with
# a temperature:

# %%
rules = {
    "top-k 4": lambda z: keep_top_k(z, 4),
    "top-p 0.7": lambda z: keep_top_p(z, 0.7),
    "min-p 0.3": lambda z: keep_min_p(z, 0.3),
}
for name, rule in rules.items():
    sure, as_is, unsure = ((rule(logits / t) > -mx.inf).sum().item() for t in (0.3, 1, 3))
    print(f"{name:9s} letters left: sure {sure}, as it is {as_is}, unsure {unsure}")


# %% [markdown]
# Top-k keeps as many everywhere. The other two keep few where the model is sure, and many where many letters are about as good.
#
# ### The draw
#
# Lay the probabilities side by side from 0 to 1. A random number from 0 to 1 falls into one of the pieces, and into each with
# its probability. The ends of the pieces are running sums. A token with probability 0 has no piece and must never be chosen,
# but a GPU adds up in the order of a tree, and then two running sums with nothing but zeros between them may differ in their
# last bits. So the ends of such tokens are put out of reach.

# %%
#| export generate.sampling
def draw(logits: mx.array, uniform: mx.array) -> mx.array:
    """One index for each row (B, n), with its softmax probability: (B,).

    Lay the probabilities side by side from 0 to 1: uniform (B, 1), 0 <= u < 1, falls into one of
    them. What has probability 0 is never drawn, in whatever order the device adds up.
    """
    weights = fast_exp(logits - logits.max(axis=-1, keepdims=True))
    ends = mx.where(weights > 0, mx.cumsum(weights, axis=-1), 0)
    # u < 1, so the largest end is beyond u times itself: one is always found
    return mx.argmax(ends > uniform * ends.max(axis=-1, keepdims=True), axis=-1)


# %%
u = 0.62
chosen = draw(logits, mx.array([[u]])).item()
figure, ax = plt.subplots(figsize=(7, 1.3))
left = 0.0
for n, (letter, p) in enumerate(zip(letters, probabilities(logits)[0].tolist(), strict=True)):
    ax.barh(0, p, left=left, color="#f6d9a8" if n == chosen else "#cfe4f3", edgecolor="#555555")
    ax.text(left + p / 2, 0, letter, ha="center", va="center", fontsize=8)
    left += p
ax.plot([u, u], [-0.6, 0.6], color="#D55E00", linewidth=2)
ax.set(yticks=[], xlabel=f"the line at u = {u} falls into “{letters[chosen]}”", xlim=(0, 1))
plt.show()

# %% [markdown]
# The line falls into one piece, and that letter is drawn. A wide piece is hit more often.
#
# MLX has a function that draws, `mx.random.categorical`. We use our own since each row is to have a random number of its own
# (section 5). They agree, in 100,000 draws:

# %%
many = mx.broadcast_to(logits, (100_000, 10))


def shares(tokens):
    """How often each of the ten letters was drawn, as shares."""
    return np.bincount(np.array(tokens), minlength=10) / len(tokens)


ours = shares(draw(many, mx.random.uniform(shape=(100_000, 1))))
theirs = shares(mx.random.categorical(many))
print("wanted", [round(p, 3) for p in probabilities(logits)[0].tolist()])
print("ours  ", ours.round(3).tolist())
print("MLX's ", theirs.round(3).tolist())
assert np.abs(ours - np.array(probabilities(logits)[0])).max() < 0.01

# %% [markdown]
# ### Two bugs that only the text shows
#
# **Probabilities in place of logits.** `mx.random.categorical` wants logits. A published port of nanochat gave it
# probabilities. They lie between 0 and 1, so the softmax inside makes them nearly equal:

# %%
wrong = shares(mx.random.categorical(mx.broadcast_to(probabilities(logits), (100_000, 10))))
for letter, p, q in zip(letters, ours, wrong, strict=True):
    print(f"{letter:>3s}: right {p:5.1%}   wrong {q:5.1%}   {'▪' * round(100 * q)}")
assert wrong.max() - wrong.min() < 0.5 * (ours.max() - ours.min()) + 0.02

# %% [markdown]
# The leader's lead is almost gone. Over all 265 ids it is worse still:

# %%
right = probabilities(all_logits)
print(f"the likeliest of 265: right {right.max().item():.1%}", end="   ")
print(f"wrong {probabilities(right).max().item():.1%}   all alike {1 / 265:.1%}")

# %% [markdown]
# The model writes noise, and one blames the training.
#
# **A threshold from `mx.topk`.** It gives the $k$ largest numbers, *in any order*. Who takes the last of them as the smallest
# may have any of the $k$:

# %%
shuffled = mx.array([[2.0, 9.0, 4.0, 7.0, 1.0, 8.0, 3.0, 6.0, 5.0, 0.0]])
top = mx.topk(shuffled, 4, axis=-1)
print("mx.topk gives", top.tolist()[0])
print("kept by the last of them:    ", (shuffled >= top[:, -1:]).sum().item(), "of 4 wanted")
print("kept by the smallest of them:", (shuffled >= top.min(axis=-1, keepdims=True)).sum().item())


# %% [markdown]
# What "any order" is differs between backends, so such a bug may show on one machine and hide on another.
#
# ### Top-k without sorting everything
#
# Top-k is used at every token, and a real vocabulary has 65,536 logits. Sorting them is slow, as the cell below shows. Cut them
# into blocks of 64 and take the maximum of each. A logit among the $k$ largest can only be in one of the $k$ blocks with the
# largest maxima: if its block were not one of them, $k$ maxima would be larger than it. So a search in $64k$ numbers is
# enough. `argpartition` finds the $k$ largest without ordering the others.

# %%
#| export generate.sampling
def largest(logits: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The k largest of each row (B, V) from large to small, and their ids: (B, k) each.

    Only the k blocks of 64 with the largest maxima can hold them: it is enough to search those.
    """
    B, V = logits.shape
    blocks = mx.pad(logits, ((0, 0), (0, -V % 64)), constant_values=-mx.inf).reshape(B, -1, 64)
    n = min(k, blocks.shape[1])
    best = mx.argpartition(-blocks.max(axis=-1), n - 1, axis=-1)[:, :n, None]  # (B, n, 1)
    values = mx.take_along_axis(blocks, best, axis=1).reshape(B, -1)  # (B, n * 64)
    ids = (best * 64 + mx.arange(64)).reshape(B, -1)
    found = mx.argpartition(-values, k - 1, axis=-1)[:, :k]
    values, ids = (mx.take_along_axis(array, found, axis=-1) for array in (values, ids))
    order = mx.argsort(-values, axis=-1)
    return tuple(mx.take_along_axis(array, order, axis=-1) for array in (values, ids))


# %%
real_size = mx.random.normal((8, 65_536))
values, ids = largest(real_size, 50)
assert mx.array_equal(values, -mx.sort(-real_size, axis=-1)[:, :50])
assert mx.array_equal(mx.take_along_axis(real_size, ids, axis=-1), values)
sorting = seconds_of(lambda: mx.eval(mx.sort(real_size, axis=-1)), times=2)
searching = seconds_of(lambda: mx.eval(largest(real_size, 50)))
print(f"8 rows: sorting {1000 * sorting:.1f} ms, blocks {1000 * searching:.1f} ms")


# %% [markdown]
# ### All of it
#
# The order is: top-k, temperature, top-p, min-p, draw. (Top-k may come first, since temperature does not change who is
# largest, and then everything after it works on $k$ numbers.) Logits that are not numbers (NaN) must not look like a
# choice: −1 says so. A `key` fixes the random numbers, as in chapter 00.

# %%
#| export generate.sampling
def sample(
    logits: mx.array,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    key: mx.array | None = None,
) -> mx.array:
    """One token for each row of logits (B, V): (B,) int32, -1 where there are NaN among the logits.

    temperature 0 takes the likeliest. Otherwise logits are divided by it, then top_k, top_p and
    min_p each leave out tokens of what the one before has left.
    key: of mx.random, one (2,), or one for each row (B, 2): then a row's token does not depend on
    the others.
    """
    best = logits.max(axis=-1, keepdims=True)  # (B, 1), NaN where there is one
    if temperature == 0:
        choice = mx.argmax(logits, axis=-1)
        return mx.where(mx.isnan(best[:, 0]), -1, choice.astype(mx.int32))
    ids = None
    if top_k is not None and top_k < logits.shape[-1]:
        logits, ids = largest(logits, top_k)
    logits = (logits - best) / temperature
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    if min_p is not None and min_p > 0:
        logits = keep_min_p(logits, min_p)
    if key is not None and key.ndim == 2:
        uniform = mx.vmap(lambda key: mx.random.uniform(key=key))(key)[:, None]
    else:
        uniform = mx.random.uniform(shape=best.shape, key=key)
    choice = draw(logits, uniform)  # (B,)
    if ids is not None:
        choice = mx.take_along_axis(ids, choice[:, None], axis=-1)[:, 0]
    return mx.where(mx.isnan(best[:, 0]), -1, choice.astype(mx.int32))


# %%
for settings in ({"temperature": 0}, {"top_k": 3}, {"temperature": 0.7, "top_p": 0.9}):
    found = shares(sample(many, **settings, key=mx.random.key(1)))
    drawn = {letter: round(p, 2) for letter, p in zip(letters, found.tolist(), strict=True) if p}
    print(settings, drawn)
assert sample(mx.array([[1.0, mx.nan]])).item() == -1


# %% [markdown]
# ## 5. The engine
#
# ### What is asked for
#
# A `Request` is a prompt with its settings, a `Generation` what came of it. Everything is checked before anything is computed.
# The checks teach nothing new; skip them at a first reading.

# %%
#| export generate.rows
@dataclass(frozen=True)
class Request:
    """A prompt, and how to go on from it.

    watch: is called with each token and the logits (V,) before it, in the thread of the engine.
    """

    prompt_ids: list[int]
    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 42
    watch: Callable | None = None

    @property
    def sampling(self) -> tuple:
        """What `sample` takes between the logits and the key."""
        return self.temperature, self.top_k, self.top_p, self.min_p


@dataclass(frozen=True)
class Generation:
    """What the model wrote: ids without the prompt and without the token that ended it.

    masks: 1 for a token that was sampled, 0 for one that a tool's result forced.
    finish_reason: "stop" (it wrote <|assistant_end|> or <|bos|>), "max_tokens", "sequence_len" (no
    room for more), "cancelled".
    """

    ids: list[int]
    masks: list[int]
    finish_reason: str


# %%
#| export generate.rows
def check_request(request: Request, config: GPTConfig) -> None:
    """Raises CourseError, in one sentence, for a request that this model cannot serve."""
    r, V = request, config.vocab_size
    try:
        ids = [operator.index(token) for token in r.prompt_ids]
    except TypeError:
        raise CourseError(
            "the prompt is not a list of whole numbers; give the ids of tokenizer.encode(text)"
        ) from None
    if not ids:
        raise CourseError("the prompt is empty; begin it with tokenizer.bos at least")
    if min(ids) < 0 or max(ids) >= V:
        raise CourseError(
            f"the prompt has ids from {min(ids)} to {max(ids)}, but this model knows 0 to {V - 1}; "
            "use the tokenizer that it was trained with"
        )
    if len(ids) > config.sequence_len:
        raise CourseError(
            f"the prompt has {len(ids)} tokens, but the model has "
            f"sequence_len={config.sequence_len}; shorten it"
        )
    checks = {
        "max_tokens": (_whole(r.max_tokens, 0), "a whole number, 0 or more"),
        "temperature": (0 <= r.temperature < math.inf, "0 (always the likeliest) or more"),
        "top_k": (r.top_k is None or _whole(r.top_k, 1, V), f"1 to {V}, or None for all"),
        "top_p": (r.top_p is None or 0 < r.top_p <= 1, "more than 0 and at most 1, or None"),
        "min_p": (r.min_p is None or 0 <= r.min_p <= 1, "0 to 1, or None"),
        "seed": (_whole(r.seed, 0), "a whole number, 0 or more"),
    }
    for name, (right, expected) in checks.items():
        if not right:
            raise CourseError(f"{name}={getattr(r, name)}, expected {expected}")


def _whole(value: int, least: int, most: float = math.inf) -> bool:
    return hasattr(value, "__index__") and least <= value <= most


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raises CourseError for anything but a whole number of at least `least`."""
    if not _whole(value, least):
        raise CourseError(f"{name}={value}, expected {least} or more")


# %% tags=["nbval-check-output"]
for wrong in (Request([]), Request([1, 999]), Request([1], temperature=-1), Request([1], top_k=0)):
    try:
        check_request(wrong, config)
    except CourseError as error:
        print(error)


# %% [markdown]
# ### One text that is being written
#
# A `Row` knows its prompt, what has been written after it, and why it ended. `take` gets each sampled token.
#
# Its random numbers come from `key`: from the seed, the row's number and the place in the text, and from nothing else. So a
# row writes the same text whether it is alone or one of eight. (In bfloat16 on a GPU that holds but for near-ties: one row and
# several go through different kernels there, which round differently.)
#
# `take` also holds the **tool hook**. Chapter 14 gives the model a calculator. It asks by writing an expression between
# `<|python_start|>` and `<|python_end|>`. The answer is no sample: its tokens are *forced* into the row, one at each step, in
# place of what the model would have said. A mask of 0 marks them, so that no training will take them for the model's own words.

# %%
#| export generate.rows
class Row:
    """One text that is being written.

    engine: whose model, tokenizer, tool and stops it has; number: its place among the rows of one
    request, each of which draws its own random numbers.
    shown: the token and the mask of the last step; <|assistant_end|> and 0 after the end.
    """

    def __init__(self, engine, request: Request, number: int = 0):
        self.request, self.number = request, number
        self.prompt_ids = [int(token) for token in request.prompt_ids]
        self.ids, self.masks = [], []
        self.shown = engine.end, 0
        self.finish_reason = None if request.max_tokens else "max_tokens"
        self.error: Exception | None = None
        self._engine = engine
        self.coming: deque[mx.array] = deque()  # for `watch`: logits of tokens not taken yet
        self._forced: deque[int] = deque()
        self._expression: list[int] | None = None

    def key(self, place: int) -> list[int]:
        """Key of the token at this place: two 32-bit numbers, from seed, number and place alone."""
        bits = random.Random(f"{self.request.seed},{self.number},{place}").getrandbits(64)
        return [bits >> 32, bits & 0xFFFFFFFF]

    def known(self, place: int) -> int:
        """The token at `place` after the prompt: taken, or to be forced there; -1 if neither."""
        if place < len(self.ids):
            return self.ids[place]
        return self._forced[0] if self._forced else -1

    def fail(self, error: Exception) -> None:
        """End with an error, which `generation` raises."""
        self.error, self.finish_reason = error, "error"

    def generation(self) -> Generation:
        """What has been written. Raises what ended it, if that was an error."""
        if self.error:
            raise self.error
        return Generation(list(self.ids), list(self.masks), self.finish_reason)


# %%
#| export generate.rows
@add_to(Row)
def take(self, sampled: int) -> None:
    """Take the next token. Raises CourseError for -1 (it was NaN), and what the tool raises."""
    if sampled < 0:
        raise CourseError(
            "the model's logits are not numbers (NaN): its weights are damaged, or its "
            "training has diverged; take an older checkpoint"
        )
    forced = bool(self._forced)
    token = self._forced.popleft() if forced else sampled
    self.shown = token, int(not forced)
    if not forced and token in self._engine.stops:
        self.finish_reason = "stop"
        return
    if self.request.watch is not None:
        self.request.watch(token, self.coming.popleft())
    self.masks.append(int(not forced))
    self.ids.append(token)
    if not forced and self._engine.tool:
        self._use_tool(token)
    if len(self.ids) >= self.request.max_tokens:
        self.finish_reason = "max_tokens"
    elif len(self.prompt_ids) + len(self.ids) > self._engine.model.config.sequence_len:
        self.finish_reason = "sequence_len"


@add_to(Row)
def _use_tool(self, token: int) -> None:
    """An expression stands between <|python_start|> and <|python_end|>."""
    tokenizer = self._engine.tokenizer
    special = tokenizer.special
    if token == special("<|python_start|>"):
        self._expression = []
    elif token == special("<|python_end|>") and self._expression is not None:
        result = self._engine.tool(tokenizer.decode(self._expression))
        self._expression = None
        if result is not None:
            ids = tokenizer.encode(result)
            self._forced.extend([special("<|output_start|>"), *ids, special("<|output_end|>")])
    elif self._expression is not None:
        self._expression.append(token)


# %% [markdown]
# ### Read, then step
#
# A prompt is read in chunks. That needs no more work than reading it at once, and other rows can take a step in between
# (section 6). Only the last position's logits are needed, so only it goes through the head, which in small models is a large
# part of all weights.

# %%
#| export generate.rows
def next_logits(model: GPT, ids: mx.array, cache: KVCache) -> mx.array:
    """Logits (B, V) for what follows ids (B, T), which are new to the cache.

    Only the last place goes through the head.
    """
    return model.head(model.transformer(ids, cache.layers)[:, -1])  # (B, n_embd) -> (B, V)


def prefill(
    model: GPT, ids: list[int], cache: KVCache, chunk: int = 256
) -> Iterator[mx.array | None]:
    """Read what the one row of a cache does not hold of `ids`, `chunk` at a time.

    Yields None after each chunk, and logits (1, V) after the last.
    """
    while cache.lengths[0] < len(ids):
        start = cache.lengths[0]
        logits = next_logits(model, mx.array([ids[start : start + chunk]]), cache)
        if cache.lengths[0] == len(ids):
            mx.eval(logits)
            yield logits
        else:  # the logits are never computed
            mx.eval([(layer.keys, layer.values) for layer in cache.layers])
            yield None


# %%
whole = model(mx.array([prompt]))[:, -1]
for chunk in (1, 3, 100):
    *nones, logits_after = prefill(model, prompt, KVCache(config), chunk)
    print(f"chunks of {chunk:3d}: {len(nones) + 1} passes")
    assert mx.allclose(logits_after, whole, atol=close)


# %% [markdown]
# A `Batch` is the rows that are written together, and their cache. Rows `join` with a prompt's cache and the logits after it,
# and sample their first token from these. They `leave` when they have ended.

# %%
#| export generate.rows
class Batch:
    """Rows that are written together. They join and leave between steps.

    look_ahead: whether a step begins the next one before it reads its own tokens; None: not on a
    CPU, where Python and the computing want the same cores.
    """

    look_ahead: bool | None = None

    def __init__(self, model: GPT):
        self.model = model
        self.rows: list[Row] = []
        self.cache = KVCache(model.config, rows=0)  # row n of the cache belongs to rows[n]
        self._ahead: mx.array | None = None  # (rows,), what a step that looked ahead has sampled

    def join(self, rows: list[Row], prompt: KVCache, logits: mx.array) -> None:
        """Add rows of one prompt, each with a first token of its own.

        prompt: its cache, of one row, which is copied; logits: (1, V), for what follows it.
        """
        self.cache.append(prompt, times=len(rows))
        self.rows += rows
        logits = mx.broadcast_to(logits, (len(rows), logits.shape[-1]))
        tokens = self._sample(rows, prompt.lengths * len(rows), logits)
        if self._ahead is not None:
            self._ahead = mx.concatenate([self._ahead, tokens])
        self._take(zip(rows, tokens.tolist(), strict=True))

    def leave(self, row: Row) -> None:
        """Take a row out; the last one moves to its place, here as in the cache."""
        n, last = self.rows.index(row), self.rows.pop()
        self.cache.remove(n)
        if row is not last:
            self.rows[n] = last
        if self._ahead is not None:
            stay = [len(self.rows) if m == n else m for m in range(len(self.rows))]
            self._ahead = self._ahead[mx.array(stay)] if stay else None


# %% [markdown]
# Pass over `_ahead` for now; until looking ahead, below, it is `None`. A step needs three things. Each row's newest token
# goes through the model, which gives logits. A token is sampled from them: rows with the same settings in one call. And each
# row takes its token; if that fails, because of NaN or of a tool, it ends this row alone.

# %%
#| export generate.rows
@add_to(Batch)
def _next_tokens(self, sampled: mx.array | None = None) -> mx.array:
    """Begin to compute (B,) tokens: put each row's next one through the model, and sample.

    sampled: (B,), the next ones of rows that have not taken them yet.
    """
    lengths = self.cache.lengths
    known = [
        row.known(length - len(row.prompt_ids))
        for row, length in zip(self.rows, lengths, strict=True)
    ]
    ids = mx.array(known)
    if sampled is not None:  # a -1 among them (NaN) reads the last row of wte: that row has ended
        ids = mx.where(ids < 0, sampled, ids) if max(known) >= 0 else sampled
    with inference_mode():
        logits = next_logits(self.model, ids[:, None], self.cache)
    tokens = self._sample(self.rows, self.cache.lengths, logits)
    mx.async_eval(tokens)
    return tokens


@add_to(Batch)
def _sample(self, rows: list[Row], lengths: list[int], logits: mx.array) -> mx.array:
    """A token (B,) for each row after so many positions, from logits (B, V)."""
    alike = defaultdict(list)
    for n, row in enumerate(rows):
        alike[row.request.sampling].append(n)
        if row.request.watch is not None:
            row.coming.append(logits[n])
    tokens = []
    for settings, places in alike.items():
        some = logits if len(places) == len(rows) else logits[mx.array(places)]
        keys = None
        if settings[0]:  # at temperature 0 nothing is drawn
            numbers = [rows[n].key(lengths[n] - len(rows[n].prompt_ids)) for n in places]
            keys = mx.array(numbers, dtype=mx.uint32)
        tokens.append(sample(some, *settings, keys))
    if len(tokens) == 1:
        return tokens[0]
    order = [n for places in alike.values() for n in places]
    back = sorted(range(len(order)), key=order.__getitem__)
    return mx.concatenate(tokens)[mx.array(back)]


@add_to(Batch)
def _take(self, pairs: Iterable[tuple[Row, int]]) -> None:
    """Give rows their tokens."""
    for row, token in pairs:
        try:
            row.take(token)
        except Exception as error:  # of this row alone
            row.fail(error)


# %% [markdown]
# So the plain step has two lines. `tolist` waits until the tokens are there:

# %%
def plain_step(batch):
    """One more token for every row."""
    tokens = batch._next_tokens()
    batch._take(zip(batch.rows, tokens.tolist(), strict=True))


# %% [markdown]
# ### While Python works, a GPU waits
#
# MLX only notes what is to be computed: a graph of several hundred operations for each token, written down by Python and handed
# over when somebody asks for a number. How long does the writing take? Here the graph of a token is made, and not computed:

# %%
cache = KVCache(big_config)
mx.eval(next_logits(big, long_text[:, :64], cache))


def graph_seconds():
    """Processor time of making the graph of one token; the computing is not counted."""
    start = time.process_time()
    token = sample(next_logits(big, long_text[:, :1], cache), top_k=50)
    made = time.process_time() - start
    mx.eval(token)
    return made


python_ms = 1000 * min(graph_seconds() for _ in range(budget(30, quick=3)))
print(f"Python's part of a token: {python_ms:.2f} ms")
print(f"a whole pass for one token, in section 2: {1000 * cached[lengths[1]]:.2f} ms")
for device_ms in (4, 2, 1, 0.5):
    share = python_ms / (python_ms + device_ms)
    print(f"a device that computes a token in {device_ms} ms waits {share:.0%} of the time")


# %% [markdown]
# In a plain step the two take turns: Python asks for the tokens, the device computes them, and only when they are there does
# Python go on to the next graph. The faster the device, the larger the part of the time in which it stands still. The remedy:
# hand over the next step *before* reading the tokens of this one. The next step's input is then an array whose numbers nobody
# has seen yet, and MLX does not mind.

# %%
def draw_time_lines(python, device, tokens=4):
    """Who works when, if the device needs no less time than Python; numbers are the tokens'."""
    turns = [n * (python + device) for n in range(tokens)]
    ahead = [0, *(python + n * device for n in range(tokens - 1))]
    cases = {
        "in turns": (turns, [start + python for start in turns]),
        "looking ahead": (ahead, [python + n * device for n in range(tokens)]),
    }
    figure, axes = plt.subplots(2, 1, figsize=(8, 2.8), sharex=True)
    for ax, (title, lanes) in zip(axes, cases.items(), strict=True):
        for lane, (starts, width) in enumerate(zip(lanes, (python, device), strict=True)):
            color = ("#f6d9a8", "#cfe4f3")[lane]
            ax.barh([lane] * tokens, width, left=starts, color=color, edgecolor="#555555")
            for n, start in enumerate(starts):
                ax.text(start + width / 2, lane, n, ha="center", va="center", fontsize=8)
        ax.set_yticks([0, 1], ["Python", "device"])
        ax.set_title(title, fontsize=10, loc="left")
        ax.invert_yaxis()
    ax.set_xlabel("milliseconds")
    figure.tight_layout()
    plt.show()


draw_time_lines(python_ms, 1.5 * python_ms)

# %% [markdown]
# Drawn for a device that needs one and a half times as long as Python. Below, it has no gaps: while it computes token 1, Python
# reads token 0 and makes the graph of token 2.
#
# But what does a step do that begins before the tokens of the last one are known?
#
# - Random numbers come from the seed and the place in the text. They can be had ahead.
# - A token that a tool forces is known one step before: it goes in, in place of what was sampled.
# - A row may turn out to have ended. Then what was begun for it is thrown away, and its cache holds a position too many,
#   which nobody reads. The other rows keep theirs.
# - A row that joins has read its first token already. It has nothing ahead, and takes nothing in its next step; from then on it
#   is in time with the others.
# - Where every row is about to take its last token, there is nothing to begin. Nor is there where a row's cache is full.
#
# How does a step know for which rows the tokens are new? A row's cache holds all of its text only if something has been
# sampled after it.

# %%
#| export generate.rows
@add_to(Batch)
def step(self) -> None:
    """One more token for every row.

    One that has joined since a step looked ahead gets none yet: its first goes through the model.
    """
    tokens = self._ahead if any(self._unread()) else self._next_tokens()
    unread = self._unread()
    self._ahead = self._next_tokens(tokens) if self._may_look_ahead() else None
    pairs = zip(self.rows, tokens.tolist(), strict=True)
    self._take(compress(pairs, unread))


@add_to(Batch)
def _unread(self) -> list[bool]:
    """Which rows have a token to take: those whose cache holds all of their text."""
    pairs = zip(self.rows, self.cache.lengths, strict=True)
    return [length == len(row.prompt_ids) + len(row.ids) for row, length in pairs]


@add_to(Batch)
def _may_look_ahead(self) -> bool:
    """Whether a row goes on after the tokens that are about to be taken, and no cache is full."""
    on = backend.device_kind() != "cpu" if self.look_ahead is None else self.look_ahead
    if not on or max(self.cache.lengths) >= self.model.config.sequence_len:
        return False
    pairs = zip(self.rows, self.cache.lengths, strict=True)
    return any(length + 1 - len(row.prompt_ids) < row.request.max_tokens for row, length in pairs)


# %% [markdown]
# Without looking ahead this is the plain step. On a CPU, where Python and the computing want the same cores and work would be
# thrown away at the end of each text, `Batch` does not look ahead. `Batch.look_ahead = True` makes it, for a try: the ids must
# be the same.

# %% [markdown]
# ### The class
#
# `Engine` puts these together: a model, a tokenizer, the tokens that end a text, and a store of beginnings.

# %%
#| export generate.engine
class Engine:
    """Writes text with a model: one prompt, several samples of it, or several prompts.

    tool: a function of the text between <|python_start|> and <|python_end|>; the text that it
    returns follows it, between <|output_start|> and <|output_end|>. None: nothing is put there.
    keep_prefixes: how many texts' caches to keep, so that a prompt which begins as one of them need
    not be read from its beginning. They are forgotten when the model gets other weights.
    On a CPU its weights are put into the order in memory that is faster here (`lay_out`).
    On a GPU, `model.set_dtype(backend.compute_dtype())` makes a model that is not to be trained any
    further faster and smaller.
    """

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, tool: Callable | None = None, keep_prefixes: int = 4
    ):
        if tokenizer.vocab_size > model.config.vocab_size:
            raise CourseError(
                f"the tokenizer has {tokenizer.vocab_size} ids, but the model knows "
                f"{model.config.vocab_size}; use the tokenizer that it was trained with"
            )
        self.model, self.tokenizer, self.tool = model, tokenizer, tool
        self.end = tokenizer.special("<|assistant_end|>")
        self.stops = {self.end, tokenizer.bos}
        self.prefixes = PrefixStore(keep_prefixes)
        self._weights: list[weakref.ref] = []


# %% [markdown]
# Reading a prompt, with what the store of section 3 knows of it, and keeping what was written:

# %%
#| export generate.engine
@add_to(Engine)
def read(self, row: Row, chunk: int = 256) -> Iterator[tuple[KVCache, mx.array] | None]:
    """Read the prompt of a row: None after each chunk, (its cache, logits) after the last."""
    self._meet_weights()
    cache = self.prefixes.find(row.prompt_ids) or KVCache(self.model.config)
    for logits in prefill(self.model, row.prompt_ids, cache, chunk):
        if logits is not None:
            self.prefixes.keep(row.prompt_ids, cache)
        yield logits if logits is None else (cache, logits)


@add_to(Engine)
def keep(self, row: Row, batch: Batch) -> None:
    """Keep the cache of a row for a prompt that begins with its text."""
    n = batch.rows.index(row)
    ids = (row.prompt_ids + row.ids)[: batch.cache.lengths[n]]
    self.prefixes.keep(ids, batch.cache.copy(n, len(ids)))  # it may also hold what ended the row


# %% [markdown]
# A row's beginning and its end. And when the model gets other weights, what was kept is worth nothing any more:

# %%
#| export generate.engine
@add_to(Engine)
def _start(self, batch: Batch, rows: list[Row]) -> None:
    """Read the one prompt of some rows, and let them join."""
    for done in self.read(rows[0]):
        if done:
            batch.join(rows, *done)


@add_to(Engine)
def _settle(self, batch: Batch, keep: bool = False) -> None:
    """Raise what went wrong; take out the rows that have ended."""
    for row in list(batch.rows):
        if row.error:
            self.prefixes.clear()
            raise row.error
        if row.finish_reason:
            if keep:
                self.keep(row, batch)
            batch.leave(row)
            row.shown = self.end, 0


@add_to(Engine)
def _meet_weights(self) -> None:
    """New weights are laid out, and keys and values of older ones forgotten; training makes new."""
    weights = [array for _, array in tree_flatten(self.model.parameters())]
    known = [ref() for ref in self._weights]
    same = len(weights) == len(known) and all(map(operator.is_, weights, known))
    if not same:
        self.prefixes.clear()
        lay_out(self.model)
        laid_out = tree_flatten(self.model.parameters())
        self._weights = [weakref.ref(array) for _, array in laid_out]


# %% [markdown]
# `generate` writes several samples of *one* prompt. It is a generator: each step gives a **column**, one token for each
# sample, and you can show it before the next is computed.

# %%
#| export generate.engine
@add_to(Engine)
def generate(self, prompt_ids: list[int], num_samples: int = 1, **settings) -> Columns:
    """Yields, at each step, (token_column, token_masks): a token of every sample, and its mask.

    settings: the other fields of `Request`. mask 1: sampled; 0: forced by a tool's result, or
    filled up with <|assistant_end|> after the end of a sample. A sample ends with <|assistant_end|>
    or <|bos|> (which is in the column), after max_tokens tokens, or when prompt and tokens are more
    than sequence_len; the generator returns the finish reasons. With max_tokens=0 nothing is
    yielded. Samples differ by their random numbers: sample n is the same whatever num_samples is
    (in bfloat16 on a GPU only up to a near-tie: kernels for one row and for several round
    differently).
    Raises CourseError, at once, for what a model cannot do, and when its logits are NaN.
    """
    request = Request(prompt_ids, **settings)
    check_request(request, self.model.config)
    check_count("num_samples", num_samples)
    return self._columns([Row(self, request, n) for n in range(num_samples)])


@add_to(Engine)
def _columns(self, rows: list[Row]) -> Columns:
    batch, single = Batch(self.model), len(rows) == 1
    if not rows[0].finish_reason:
        self._start(batch, rows)
    while batch.rows:
        tokens, masks = zip(*(row.shown for row in rows), strict=True)
        self._settle(batch, keep=single)
        try:
            yield list(tokens), list(masks)
        except GeneratorExit:  # the reader has had enough
            if single and batch.rows:
                self.keep(rows[0], batch)
            raise
        if batch.rows:
            batch.step()
    return [row.finish_reason for row in rows]


# %%
engine = Engine(model, tokenizer)


def texts_of(columns):
    """The text of each sample, up to the token that ended it."""
    samples = zip(*(tokens for tokens, _ in columns), strict=True)
    kept = [[token for token in ids if token not in engine.stops] for ids in samples]
    return [tokenizer.decode(ids) for ids in kept]


greedy = [tokens[0] for tokens, _ in engine.generate(prompt, max_tokens=20, temperature=0)]
must_be_equal(greedy, write_slowly(model, prompt, len(greedy)))
for settings in (
    {"temperature": 0.5},
    {},
    {"temperature": 1.5},
    {"temperature": 1.5, "min_p": 0.2},
):
    columns = list(engine.generate([tokenizer.bos], num_samples=8, **settings))
    print(settings or "temperature 1", *texts_of(columns))

# %%
def samples_with(look_ahead):
    """Three samples, by steps that do or do not look ahead."""
    Batch.look_ahead = look_ahead
    columns = list(engine.generate([tokenizer.bos], num_samples=3))
    Batch.look_ahead = None
    return columns


must_be_equal(samples_with(True), samples_with(False))

# %% [markdown]
# Greedy gives the ids of the slow loop. Then the same model four times: careful, as trained, wild, and wild with its tail cut
# off. Each name ends where the model wrote `<|bos|>`.
#
# ### Samples share what they can, and no more
#
# The prompt of `num_samples` is read once, and its cache is copied. But each row draws its **own first token**: an early
# version of nanochat drew one and gave it to all, so that samples were far too alike.

# %%
first_column, _ = next(engine.generate([tokenizer.bos], num_samples=16))
print("first letters:", *[tokenizer.decode([token]) for token in first_column])
assert len(set(first_column)) > 3

long_prompt = long_text[0, : budget(400, quick=100)].tolist()
big_engine = Engine(big, tokenizer, keep_prefixes=0)


def first_seconds(count):
    """Time until so many samples of the long prompt have their first tokens."""
    return seconds_of(lambda: next(big_engine.generate(long_prompt, count)), times=1)


for count, seconds in best_of(first_seconds, (1, 8), rounds=3).items():
    print(f"first tokens of {count} samples: {1000 * seconds:5.0f} ms")


# %% [markdown]
# Eight first tokens cost far less than eight times one, since the prompt is read once. The rest is for the copies of its cache.
#
# ### Several prompts
#
# `generate_batch` takes prompts of different lengths. At most `max_rows` are written at once. When one ends, the next
# prompt takes its row, while the others go on.

# %%
#| export generate.engine
@add_to(Engine)
def generate_batch(
    self, prompts: list[list[int]], max_tokens: int = 256, max_rows: int = 16, **settings
) -> list[Generation]:
    """What the model writes after each prompt, in their order; lengths may differ.

    settings: as for `generate`; prompt n draws the random numbers of sample n there, so that
    one prompt may be given several times. At most max_rows are written at once; another begins
    when one has ended.
    """
    check_count("max_rows", max_rows)
    rows = []
    for n, prompt in enumerate(prompts):
        request = Request(prompt, max_tokens, **settings)
        check_request(request, self.model.config)
        rows.append(Row(self, request, n))
    waiting, batch = deque(row for row in rows if not row.finish_reason), Batch(self.model)
    while waiting or batch.rows:
        if waiting and len(batch.rows) < max_rows:
            self._start(batch, [waiting.popleft()])
        else:
            batch.step()
        self._settle(batch)
    return [row.generation() for row in rows]


# %%
together = engine.generate_batch(prompts, temperature=0, max_tokens=12)
for beginning, generation in zip(beginnings, together, strict=True):
    print(f"{beginning:>8s} + {tokenizer.decode(generation.ids):10s} {generation.finish_reason}")
written = [generation.ids for generation in together]
alone = [engine.generate_batch([ids], 12, temperature=0)[0].ids for ids in prompts]
must_be_equal(written, alone)
pairs = zip(prompts, written, strict=True)
must_be_equal(written, [write_slowly(model, ids, len(new)) for ids, new in pairs])

# %% [markdown]
# In the batch, alone, and by the slow loop of section 1: the same ids. (Nothing after a beginning means that for this model
# the name was complete.)
#
# ### The edge of the model
#
# The model knows positions up to `sequence_len`. A text that gets there ends, and says so. The last token is drawn from a full
# cache, so it stands one place behind; it is never read again.

# %% tags=["nbval-check-output"]
almost_full = (tokenizer.encode("anna", bos=True) * 40)[:126]
(generation,) = engine.generate_batch([almost_full], max_tokens=50, temperature=0)
print(len(almost_full), "+", len(generation.ids), "tokens:", generation.finish_reason)
assert generation.finish_reason == "sequence_len" and len(generation.ids) == 3

# %% [markdown]
# What else could it do? Throw an exception after 128 good tokens, or drop the beginning and go on: then every position
# changes and the whole cache is worthless. A caller who wants that can shorten the prompt and ask again.
#
# ### Forced tokens
#
# Our model has never seen a tool. We feed a row by hand instead, as if it had written the call of a calculator:

# %%
calculator = Engine(model, tokenizer, tool=lambda expression: {"2+3": "5"}.get(expression))
row = Row(calculator, Request([tokenizer.bos]))
start, end = tokenizer.special("<|python_start|>"), tokenizer.special("<|python_end|>")
for token in [start, *tokenizer.encode("2+3"), end, *tokenizer.encode("abcd")]:
    row.take(token)
print(tokenizer.decode(row.ids))
print(row.masks)


# %% [markdown]
# The letters a, b, c were sampled, and thrown away: the row had tokens to force. From d on, the model speaks again.
#
# ### The next turn
#
# A chat of two turns with the larger model. The second prompt is the first one, the reply, and something new. How many of its
# tokens have to be read?

# %%
def first_token(engine, ids):
    """Time until the first token is there, and the token."""
    start = time.perf_counter()
    tokens, _ = next(engine.generate(ids, temperature=0))
    return time.perf_counter() - start, tokens[0]


chat = Engine(big, tokenizer)
reply = [tokens[0] for tokens, _ in chat.generate(long_prompt, max_tokens=20, temperature=0)]
second_turn = long_prompt + reply + long_text[0, 900:930].tolist()
held = chat.prefixes.find(second_turn).lengths[0]
print(f"second turn: {len(second_turn)} tokens, {len(second_turn) - held} of them to read")
reused, token = first_token(chat, second_turn)
anew, same_token = first_token(big_engine, second_turn)
print(f"first token after {1000 * reused:.0f} ms, without the store {1000 * anew:.0f} ms")
must_be_equal(token, same_token)


# %% [markdown]
# To read were the 30 new ids, and the last one of the reply: it was sampled, but never fed to the model. The first token comes
# in a fraction of the time.
#
# ## 6. Continuous batching
#
# ### Eight rows for little more than one
#
# Section 2 ended with: weights are fetched for each pass, however many rows it has. So more rows should be nearly free, until
# their arithmetic takes as long as the fetching.

# %%
def step_seconds(rows):
    """Time of one step of so many rows, each with 32 tokens before it."""
    cache, new = KVCache(big_config, rows), mx.zeros((rows, 1), mx.int32)
    mx.eval(next_logits(big, mx.broadcast_to(long_text[:, :32], (rows, 32)), cache))
    return seconds_of(lambda: mx.eval(next_logits(big, new, cache)), times=8)


counts = [1, 2, 4, 8, 16, 32]
step_times = list(best_of(step_seconds, counts).values())
for rows, seconds in zip(counts, step_times, strict=True):
    ratio = seconds / step_times[0]
    print(f"{rows:2d} rows: {1000 * seconds:5.1f} ms a step, {ratio:.1f} times one row's")

# %%
figure, ax = plt.subplots(figsize=(5.5, 3))
per_second = [rows / seconds for rows, seconds in zip(counts, step_times, strict=True)]
ax.plot(counts, per_second, "o-", color="#0072B2", label="measured")
ax.plot(counts, [n * per_second[0] for n in counts], ":", color="#777777", label="free rows")
ax.set(xlabel="rows", ylabel="tokens per second, all rows", ylim=(0, 1.2 * max(per_second)))
ax.set_xticks(counts)
ax.legend(frameon=False)
plt.show()
print(f"8 rows: {per_second[3] / per_second[0]:.1f} times the tokens of one")
assert per_second[3] > per_second[0]

# %% [markdown]
# At the left the points follow the dotted line, where a row costs nothing. Further right they fall below it: now arithmetic
# counts. Where they part depends on the machine. A CPU with few cores parts early, at a handful of rows; a large GPU stays on the
# line for far longer.
#
# So a server that answers users one after the other throws most of its speed away. But users do not come in groups of eight,
# and do not want texts of the same length.
#
# ### Waiting for the longest
#
# The plain way to batch is to collect some requests, write until *all* are done, then take the next. A row that ends early
# stays empty. **Continuous batching** lets a row join and leave between any two steps; our `Batch` can do it. Count the steps
# of twelve texts, three at a time:

# %% tags=["nbval-check-output"]
lengths_wanted = [3, 12, 5, 9, 2, 4, 14, 3, 6, 2, 8, 4]
groups = [lengths_wanted[n : n + 3] for n in range(0, 12, 3)]
waiting_for_all = sum(max(group) for group in groups)
print("in groups:", " + ".join(str(max(group)) for group in groups), "=", waiting_for_all, "steps")
print("at the very best:", math.ceil(sum(lengths_wanted) / 3), "steps with three rows always full")


# %% [markdown]
# Exercise 12.3 counts what continuous batching needs.
#
# ### A server's engine
#
# Many threads submit requests, **one** thread computes. (It must be one: what MLX has not computed yet belongs to the thread
# that defined it.) A user holds a `Handle`: iterate over it to get tokens as they come, or wait for its `result()`. Its
# `Condition` wakes the threads that wait.

# %%
#| export serve.batch_engine
class QueueFull(CourseError):
    """Too many requests wait already."""


class Handle(Row):
    """A row of a BatchEngine, for any thread to read: `ids` and `masks` only grow.

    Iterate for (token, mask) as they come, or wait for `result()`. finish_reason: None while it
    waits or runs; then as in `Generation`, or "error".
    """

    def __init__(self, server: "BatchEngine", request: Request, notify: Callable | None):
        super().__init__(server._engine, request)
        self.cancelled = False
        self._server, self._notify = server, notify
        self._changed = threading.Condition()

    def cancel(self) -> None:
        """Take it out: at once if it waits, before the next step if it runs."""
        self.cancelled = True
        with self._server._changed:
            waits = self in self._server._waiting
            if waits:
                self._server._waiting.remove(self)
        if waits:
            self._end("cancelled")


# %%
#| export serve.batch_engine
@add_to(Handle)
def __iter__(self) -> Iterator[tuple[int, int]]:
    seen, done = 0, None
    while not done:
        with self._changed:
            while len(self.ids) == seen and not self.finish_reason:
                self._changed.wait()
            done, new = self.finish_reason, len(self.ids)
        yield from zip(self.ids[seen:new], self.masks[seen:new], strict=True)
        seen = new
    self.generation()  # raises, after an error


@add_to(Handle)
def result(self, timeout: float | None = None) -> Generation:
    """All of it, when it has ended. Raises the error that ended it.

    Raises TimeoutError if it has not ended after `timeout` seconds.
    """
    with self._changed:
        if not self._changed.wait_for(lambda: self.finish_reason, timeout):
            raise TimeoutError(f"the request has not ended within {timeout} seconds")
    return self.generation()


# %% [markdown]
# The engine's thread tells it what is new:

# %%
#| export serve.batch_engine
@add_to(Handle)
def _tell(self) -> None:
    """Something is new. A listener that fails has gone away."""
    with self._changed:
        self._changed.notify_all()
    try:
        if self._notify:
            self._notify()
    except Exception:
        self._notify, self.cancelled = None, True


@add_to(Handle)
def _end(self, reason: str, error: Exception | None = None) -> None:
    self.error, self.finish_reason = error, reason
    self._tell()


# %% [markdown]
# `BatchEngine` has a queue of those that wait and a list of those that are served. `submit` puts a request into the queue, or
# refuses it when the queue is full. An honest "try again" is better than a wait without end.

# %%
#| export serve.batch_engine
class BatchEngine:
    """Many requests at once: each joins the running batch when a row is free, and leaves it.

    They start in the order in which they came. A long prompt is read in chunks, with a step of the
    running rows after each. One thread does all the work; `close()`, or the end of a `with` block,
    ends it, and cancels what has not ended. What a request gets does not depend on the others (in
    bfloat16 on a GPU only up to a near-tie: kernels for one row and for several round differently).
    max_rows: how many are written at once; max_waiting: how many may wait; chunk: tokens of a
    prompt to read between two steps. Other arguments: as for `Engine`.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        tool: Callable | None = None,
        max_rows: int = 8,
        max_waiting: int = 64,
        chunk: int = 128,
        keep_prefixes: int = 8,
    ):
        check_count("max_rows", max_rows)
        check_count("max_waiting", max_waiting, least=0)
        check_count("chunk", chunk)
        self._engine = Engine(model, tokenizer, tool, keep_prefixes)
        self._max_rows, self._max_waiting, self._chunk = max_rows, max_waiting, chunk
        # What is still to be computed, only the thread that has defined it can compute: this one.
        mx.eval(model.parameters(), next_logits(model, mx.array([[0]]), KVCache(model.config)))
        self._waiting: deque[Handle] = deque()
        self._served: list[Handle] = []
        self._reading: tuple[Handle, Iterator] | None = None  # the prompt of the last one served
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="BatchEngine", daemon=True)
        self._thread.start()
        atexit.register(self.close)


# %% [markdown]
# Into the queue, from any thread:

# %%
#| export serve.batch_engine
@add_to(BatchEngine)
@property
def load(self) -> tuple[int, int]:
    """How many requests are being served, and how many wait."""
    with self._changed:
        return len(self._served), len(self._waiting)


@add_to(BatchEngine)
def submit(self, request: Request, notify: Callable | None = None) -> Handle:
    """Queue a request, from any thread.

    notify: is called, in the engine's thread, when there are new tokens, and when it has ended.
    Raises QueueFull when too many wait, and CourseError for a bad request or a closed engine.
    """
    check_request(request, self._engine.model.config)
    handle = Handle(self, request, notify)
    with self._changed:
        if self._closed:
            raise CourseError("this BatchEngine is closed; make another")
        free = self._max_rows - len(self._served)
        if len(self._waiting) >= self._max_waiting + free:
            raise QueueFull(f"{len(self._waiting)} requests wait already; try again in a while")
        if not handle.finish_reason:
            self._waiting.append(handle)
            self._changed.notify_all()
    if handle.finish_reason:
        handle._tell()
    return handle


# %% [markdown]
# And out of it:

# %%
#| export serve.batch_engine
@add_to(BatchEngine)
def close(self) -> None:
    """End the thread; requests that have not ended end as "cancelled"."""
    with self._changed:
        self._closed = True
        self._changed.notify_all()
    self._thread.join()
    atexit.unregister(self.close)


@add_to(BatchEngine)
def __enter__(self) -> "BatchEngine":
    return self


@add_to(BatchEngine)
def __exit__(self, *exception: object) -> None:
    self.close()


# %% [markdown]
# And this is what its thread does, round after round: begin with the next request if a row is free, read **one chunk** of its
# prompt, then **one step** of all rows. `_settle` frees the rows of those that have ended or were cancelled.

# %%
#| export serve.batch_engine
@add_to(BatchEngine)
def _run(self) -> None:
    """The thread: as long as there is work, a chunk of a prompt, then a step of all rows."""
    self._batch = Batch(self._engine.model)
    reason, error = "cancelled", None
    try:
        while self._next_request():
            self._read()
            self._settle()
            self._step()
            self._settle()
        mx.synchronize()  # a step begun ahead must not outlive its thread
    except Exception as caught:
        reason, error = "error", caught
    with self._changed:
        self._closed = True
        left = [*self._served, *self._waiting]
        self._served.clear()
        self._waiting.clear()
    for handle in left:
        handle._end(reason, error)


@add_to(BatchEngine)
def _next_request(self) -> bool:
    """Wait for work; begin with the next request if a row is free. False at the end."""
    with self._changed:
        self._changed.wait_for(lambda: self._closed or self._waiting or self._served)
        if self._waiting and not self._reading and len(self._served) < self._max_rows:
            handle = self._waiting.popleft()
            self._served.append(handle)
            self._reading = handle, self._engine.read(handle, self._chunk)
        return not self._closed


@add_to(BatchEngine)
def _read(self) -> None:
    """Read a chunk of the prompt whose turn it is; after the last, its row joins the batch."""
    if not self._reading:
        return
    handle, chunks = self._reading
    try:
        done = next(chunks)
        if done:
            self._batch.join([handle], *done)
    except Exception as error:
        handle.fail(error)
    if handle.ids:
        self._reading = None


@add_to(BatchEngine)
def _step(self) -> None:
    """One token for every row. A failure ends them all: their cache may hold anything."""
    rows = self._batch.rows
    try:
        if rows:
            self._batch.step()
    except Exception as error:
        for row in rows:
            row.fail(error)
        self._batch = Batch(self._engine.model)
    for handle in self._served:
        if handle.ids and not handle.finish_reason:
            handle._tell()


@add_to(BatchEngine)
def _settle(self) -> None:
    """Free the rows that have ended or were cancelled."""
    for handle in list(self._served):
        if not (handle.finish_reason or handle.cancelled):
            continue
        if self._reading and self._reading[0] is handle:
            self._reading = None
        if handle.error:
            self._engine.prefixes.clear()
        if handle in self._batch.rows:
            if not handle.error:
                self._engine.keep(handle, self._batch)
            self._batch.leave(handle)
        with self._changed:
            self._served.remove(handle)
        handle._end(handle.finish_reason or "cancelled", handle.error)


# %% [markdown]
# ### A timeline
#
# Ten requests for a name, at a high temperature so that lengths differ, a few milliseconds apart. There are three rows. We
# note when each was submitted and when it got its tokens.

# %%
def serve(requests, pause):
    """Texts, and for each request the milliseconds of its arrival and of its tokens."""
    times = [[] for _ in requests]
    with BatchEngine(model, tokenizer, max_rows=3) as server:
        start, handles = time.perf_counter(), []

        def note(n):
            times[n].append(1000 * (time.perf_counter() - start))

        for n, request in enumerate(requests):
            note(n)
            handles.append(server.submit(request, notify=lambda n=n: note(n)))
            time.sleep(pause)
        texts = [tokenizer.decode(handle.result().ids) for handle in handles]
    return texts, times


def draw_timeline(texts, times):
    figure, ax = plt.subplots(figsize=(8, 3.6))
    for n, (text, (arrival, first, *more)) in enumerate(zip(texts, times, strict=True)):
        last = more[-1] if more else first
        ax.barh(n, first - arrival, left=arrival, color="white", edgecolor="#999999", hatch="///")
        ax.barh(n, last - first, left=first, color="#cfe4f3", edgecolor="#0072B2")
        ax.plot([first, *more], [n] * (1 + len(more)), "|", color="#0072B2", markersize=9)
        ax.text(last + 1, n, text, va="center", fontsize=9)
    ax.set(xlabel="milliseconds (hatched: waits; blue: is written)", ylabel="request")
    ax.set_yticks(range(len(texts)))
    ax.invert_yaxis()
    ax.margins(x=0.12)
    plt.show()


requests = [Request([tokenizer.bos], max_tokens=30, temperature=1.4, seed=n) for n in range(10)]
texts, times = serve(requests, pause=0.002)
draw_timeline(texts, times)

# %% [markdown]
# At any moment at most three are blue. Where one ends, the next begins, in the order of arrival, and the other two
# go on meanwhile. (The first mark is for two tokens: the one from the prompt, and that of the step after.)
#
# What a request gets must not depend on who else is there (but for near-ties in bfloat16). The same ten, one at a time by the
# plain engine:

# %%
alone = [engine.generate_batch([r.prompt_ids], 30, temperature=1.4, seed=r.seed) for r in requests]
must_be_equal(texts, [tokenizer.decode(generation.ids) for (generation,) in alone])


# %% [markdown]
# And eight requests for 20 tokens from the larger model, served one by one and together:

# %%
def time_to_serve(max_rows):
    with BatchEngine(big, tokenizer, max_rows=max_rows, keep_prefixes=0) as server:
        start = time.perf_counter()
        asked = [Request([n + 1, 5, 6], max_tokens=20, temperature=0) for n in range(8)]
        for handle in [server.submit(request) for request in asked]:
            handle.result()
        return time.perf_counter() - start


in_turn, at_once = time_to_serve(max_rows=1), time_to_serve(max_rows=8)
print(f"one by one {in_turn:.2f} s, together {at_once:.2f} s: {in_turn / at_once:.1f} times faster")


# %% [markdown]
# Together is much faster, though by less than the figure above says: prompts are still read one at a time, and the rows
# join one by one.
#
# ### Fairness
#
# A prompt of many tokens is one long pass, and everybody else would stand still meanwhile. So it is read in chunks, with a step
# for all between two of them. How long is the longest pause of a user who is being written to, when a long prompt arrives?

# %%
def longest_pause(chunk):
    """Seconds between two tokens of a text, at most, while a long prompt is read."""
    times = []
    with BatchEngine(big, tokenizer, chunk=chunk, keep_prefixes=0) as server:
        writer = Request([1, 2, 3], max_tokens=40, temperature=0)
        handle = server.submit(writer, notify=lambda: times.append(time.perf_counter()))
        next(iter(handle))  # it is being written
        newcomer = Request(long_text[0, : budget(800, quick=300)].tolist(), max_tokens=1)
        server.submit(newcomer).result()
        handle.result()
    return max(after - before for before, after in pairwise(times))


for chunk in (1024, 32):
    print(f"chunks of {chunk:4d}: longest pause {1000 * longest_pause(chunk):4.0f} ms")

# %% [markdown]
# Small chunks make the pause a fraction of what it was. The newcomer pays, since its own first token comes later.
#
# ### A full queue, and changing one's mind
#
# One row, and room for two that wait. The fourth is refused, at once and in words. Then the first is cancelled (a user closed
# the page): its row is free before the next step, and the queue moves up.

# %%
with BatchEngine(big, tokenizer, max_rows=1, max_waiting=2) as server:
    handles = [server.submit(Request([0], max_tokens=200, temperature=0))]
    next(iter(handles[0]))  # it has begun
    handles += [server.submit(Request([n], max_tokens=200, temperature=0)) for n in (1, 2)]
    try:
        server.submit(Request([3]))
    except QueueFull as error:
        print("the fourth:", error)
    handles[0].cancel()
    print("the first:", handles[0].result().finish_reason, "after", len(handles[0].ids), "tokens")
    next(iter(handles[1]))
    print("the second has begun")
print([handle.finish_reason for handle in handles], "after the end of the block")


# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/12_engine_solutions.ipynb](solutions/12_engine_solutions.ipynb).
#
# ### Exercise 12.1 — how many users?
#
# 10 minutes, ●○○. Write `users(config, memory, length)`: how many texts of `length` tokens can be written at once on a
# machine with `memory` bytes? The weights take their part first, in the compute type of the device; the rest is for the cache.
# If not even the weights fit, the answer is 0. Try d20 on 24 GB, with all its heads of keys and values and with one.
#
# <details><summary>Hint</summary>`count_parameters` of `course_lib.model.sizes` (chapter 08), `cache_bytes`, and
# `backend.compute_dtype().size`.</details>

# %% tags=["exercise"]
def users(config, memory, length):
    raise NotImplementedError


# %%
check(exercises.users, users)


# %% [markdown]
# ### Exercise 12.2 — do not say it again
#
# 15 minutes, ●●○. Small models repeat themselves. A **repetition penalty** makes what was written less likely. Write
# `penalise(logits, ids, penalty)`: `logits` (V,), `ids` the list of tokens so far (it may be empty), `penalty` ≥ 1. The logit of each
# token in the text is divided by the penalty when it is positive and multiplied by it when it is negative, once, however
# often the token occurs. Leave the array that you are given as it is.
#
# <details><summary>Hint</summary>Make an array (V,) of True and False that says who is in the text; `mx.where` does the rest.
# Why not always divide? Halve a negative logit and look where it goes.</details>

# %% tags=["exercise"]
def penalise(logits, ids, penalty):
    raise NotImplementedError


# %%
check(exercises.penalise, penalise)


# %% [markdown]
# ### Exercise 12.3 — count the steps
#
# 20 minutes, ●●○. Write `steps_needed(lengths, max_rows)`: texts of these lengths (in steps, 1 or more) wait in this order.
# A free row takes the next text at once; all rows move on by one at each step. After how many steps is everything written?
# Then compare with the two numbers of section 6.
#
# <details><summary>Hint</summary>Keep a list with what each row has left. Fill it up from the queue, take away one from each,
# throw out the zeros, count.</details>

# %% tags=["exercise"]
def steps_needed(lengths, max_rows):
    raise NotImplementedError


# %%
check(exercises.steps_needed, steps_needed)


# %% [markdown]
# ### Exercise 12.4 — guess and verify
#
# 30 minutes, ●●●. One row at a time leaves the arithmetic idle. Rows are not the only way to use it: the model can check
# several *positions* in one pass as well. Somebody guesses the next tokens cheaply (a smaller model, or a look at where the
# same words stood before): a **draft**. The model reads the draft in one pass and so says what it would have written at
# each place. This is **speculative decoding**.
#
# Write `verify(logits, draft)`. `draft` is a list of $n$ guessed ids; `logits` $(n + 1, V)$ are the model's: row 0 for what
# follows the text, row $i$ for what follows the text and the first $i$ guesses. Return the list of ids that greedy decoding
# writes, as far as these logits can say: the guesses up to the first wrong one, and then the model's own id.
#
# <details><summary>Hint</summary>The model's ids are `mx.argmax(logits, axis=-1).tolist()`. Row i counts only if all guesses
# before i were right. With every guess right there is one id more than guesses.</details>

# %% tags=["exercise"]
def verify(logits, draft):
    raise NotImplementedError


# %%
check(exercises.verify, verify)

# %% [markdown]
# ## Summary
#
# - Without a cache each token costs a pass over the whole text. With one, a pass over one token: the ids are the same.
# - Decoding can be no faster than weights are fetched from memory. They are fetched once for a pass, so rows are nearly free
#   at first. A CPU has one routine for a single row and another for several, to which the order in memory matters.
# - Rows of different lengths share a batch when each has its own positions and its own mask, and its own random numbers.
# - Temperature changes how even the probabilities are; top-k, top-p and min-p cut off the tail, the last two by how sure the
#   model is.
# - A GPU must not wait for Python: the next step begins before the tokens of this one are read.
# - Continuous batching lets requests join and leave between two steps; chunks, a bounded queue and cancelling keep it fair.
#
# ## Pitfalls
#
# - **Probabilities given to `mx.random.categorical`**, which wants logits: nearly even draws. The text is noise, and training
#   gets the blame.
# - **A threshold from an unsorted `mx.topk`**: another number of tokens stays, depending on the backend.
# - **A cache that is rebuilt for every layer or every token**: correct ids, and all the time goes into copying.
# - One first token for all samples of a prompt: they are far too alike.
# - One mask for rows of different lengths: short rows see what is not theirs.
# - A place in an array that an earlier row filled with NaN: hidden by a mask, it still counts, since
#   $0 \cdot \mathrm{NaN} = \mathrm{NaN}$. Clear it.
# - Random numbers drawn for the batch as a whole: then a text depends on its neighbours, and no seed brings it back.
# - Keeping caches across a training step: keys and values of weights that are gone.
#
# ## Further reading
#
# - [The Curious Case of Neural Text Degeneration](https://arxiv.org/abs/1904.09751), Holtzman et al., 2020: top-p, and why
#   the likeliest text is a bad text.
# - [Turning Up the Heat: Min-p Sampling](https://arxiv.org/abs/2407.01082), Nguyen et al., 2024.
# - [Orca](https://www.usenix.org/conference/osdi22/presentation/yu), Yu et al., 2022: batching by the step, as in section 6.
# - [PagedAttention](https://arxiv.org/abs/2309.06180), Kwon et al., 2023: the cache in pages, so that no room is kept for
#   nothing.
# - [Fast Inference from Transformers via Speculative Decoding](https://arxiv.org/abs/2211.17192), Leviathan et al., 2023:
#   exercise 12.4, for samples as well.
#
# **Next:** [13 · Conversations](13_conversations.ipynb), where Part III begins: a model that completes text becomes one that answers.

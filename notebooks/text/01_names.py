# %% [markdown]
# # 01 · Names: the smallest language model
#
# **Goal.** Turn names into numbers, build a model that only counts, let it write new names, and measure how good it is. Then count better and see where counting ends.
#
# | | |
# |---|---|
# | Needs | [00 · Start here](00_start_here.ipynb); no machine learning |
# | Time | 60 minutes to read, 50 for the exercises; about 10 seconds to run |
# | Memory | under 0.5 GB |
# | You will build → exported to | `CharTokenizer`, `split_names` and the bigram model → `course_lib.names.bigram`; counts of longer contexts → `course_lib.names.counts` |

# %% [markdown]
# ![Map of the course, chapter 01 highlighted: names follows start_here and comes before autograd](images/map_01.png)
#
# [00](00_start_here.ipynb) · **01** · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/01_names.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export names.bigram
"""Names as ids, and a bigram model that counts: the loss to beat.

The ids are those of Andrej Karpathy's microGPT: characters in alphabetical order, then BOS, which
stands at both ends.
"""

import random
from itertools import pairwise

import mlx.core as mx

from course_lib.host.errors import CourseError
from course_lib.names.files import load_names as load_names

# %% [markdown]
# The cell above opens the module `course_lib.names.bigram`; the words of its first lines are explained below. The next cell is
# for this notebook only.

# %%
import math
import time

import matplotlib.pyplot as plt
import mlx.nn as nn
import numpy as np
from matplotlib.colors import PowerNorm

from course_lib.classroom import (
    add_to,
    check,
    claim,
    draw_loss_log,
    print_loss_log,
    record_loss,
)
from course_lib.classroom.exercises import names as exercises
from course_lib.host.paths import data_dir

BLUE, ORANGE = "#0072B2", "#D55E00"
draw_key, name_key = mx.random.split(mx.random.key(42))  # for all random numbers below

# %% [markdown]
# ## 1. The names
#
# A **language model** guesses what comes next in a text. Ours will read names, letter by letter. The course comes with many
# thousand given names from all over the world, one per line, in lower case and without accents (`data/README.md` in the course's
# folder says more). Reading them takes one line:

# %%
simply_read = (data_dir() / "names.txt").read_text(encoding="utf-8").split()
print(*simply_read[:12])

# %% [markdown]
# The package reads them with `load_names` (in `names/files.py`, written by hand). It also reads your own list, in any alphabet.
# If something is wrong with the list, it tells you what. On our file the two agree.

# %%
names = load_names()
assert names == simply_read
lengths = [len(name) for name in names]
print(len(names), "names of", min(lengths), "to", max(lengths), "letters")
print(f"{sum(lengths) / len(lengths):.1f} letters on average")

# %% [markdown]
# ## 2. From letters to ids
#
# A model computes with numbers, so each letter gets one: its **id**. First by hand, with two names.

# %% tags=["nbval-check-output"]
letters = sorted(set("emma" + "ada"))
id_of = {letter: i for i, letter in enumerate(letters)}
print(id_of)
print("emma ->", [id_of[letter] for letter in "emma"])


# %% [markdown]
# The letters alone do not say where a name begins and ends, which is worth knowing: many names end in *a*, few in *x*. So there
# is one more id, **BOS**. It is short for *beginning of sequence*, but it stands at *both* ends: one id is enough to mark either.
#
# A **tokenizer** turns text into ids and ids back into text. The pieces that get an id are called **tokens**; here each letter is
# one. The texts are called documents, in code `docs`; here each name is one.

# %%
#| export names.bigram
class CharTokenizer:
    """Characters to ids and back: 0, 1, … for `chars` in alphabetical order, then `bos`.

    docs: the texts whose characters it is to know. Raises CourseError when they have none.
    """

    def __init__(self, docs: list[str]):
        self.chars = sorted(set("".join(docs)))
        if not self.chars:
            raise CourseError(
                "a tokenizer finds its characters in names, and got none; give it load_names()"
            )
        self.id_of = {char: i for i, char in enumerate(self.chars)}
        self.bos = len(self.chars)
        self.vocab_size = len(self.chars) + 1


# %% tags=["nbval-check-output"]
tokenizer = CharTokenizer(names)
print("".join(tokenizer.chars), "| BOS is", tokenizer.bos, "| number of ids:", tokenizer.vocab_size)


# %% [markdown]
# The number of ids is called the **vocabulary size**, in short $V$. Next the two directions. `@add_to` puts a function into an
# existing class, which lets us stop and look in between; in `course_lib/names/bigram.py` it stands inside the class.

# %%
#| export names.bigram
@add_to(CharTokenizer)
def encode(self, name: str) -> list[int]:
    """Ids of `name` between two BOS: len(name) + 2. Raises CourseError for an unknown character."""
    for char in name:
        if char not in self.id_of:
            raise CourseError(
                f"{char!r} in {name!r} has no id; this tokenizer knows {''.join(self.chars)!r} only"
            )
    return [self.bos, *(self.id_of[char] for char in name), self.bos]


@add_to(CharTokenizer)
def decode(self, ids: list[int]) -> str:
    """Text of `ids`, every BOS dropped. Raises CourseError for an id outside 0 … vocab_size - 1."""
    for i in ids:
        if not 0 <= i < self.vocab_size:
            raise CourseError(
                f"{i} is not an id of this tokenizer; its ids go from 0 to {self.vocab_size - 1}"
            )
    return "".join(self.chars[i] for i in ids if i != self.bos)


# %% tags=["nbval-check-output"]
ids = tokenizer.encode("emma")
print(ids, "->", tokenizer.decode(ids))
assert all(tokenizer.decode(tokenizer.encode(name)) == name for name in names)


# %% [markdown]
# Nothing gets lost: each name comes back as it was.
#
# ## 3. Counting pairs
#
# The model has to guess each id from what comes before. The simplest model looks back a single step: after an *m*, what comes
# next? A pair of neighbours is a **bigram**; hence the name bigram model. The pairs in one name:

# %% tags=["nbval-check-output"]
def show(i):
    """The letter of an id, or • for BOS."""
    return "•" if i == tokenizer.bos else tokenizer.chars[i]


print(*(f"{show(x)}→{show(y)}" for x, y in pairwise(tokenizer.encode("emma"))))


# %% [markdown]
# A name of four letters takes *five* guesses: the end is one of them. A function for the pairs of many names; `max_len` keeps
# only the first guesses of each name; section 8 needs that.

# %%
#| export names.bigram
def bigrams(
    docs: list[str], tokenizer: CharTokenizer, max_len: int | None = None
) -> list[tuple[int, int]]:
    """Every (id, next id) in `docs`: len(name) + 1 a name, or the first `max_len` of them.

    Raises CourseError for no names, an unknown character, or max_len below 1.
    """
    if not docs:
        raise CourseError("there are no names to look at; give at least one")
    if max_len is not None and max_len < 1:
        raise CourseError(f"max_len={max_len}, expected at least 1, or None for whole names")
    return [pair for doc in docs for pair in list(pairwise(tokenizer.encode(doc)))[:max_len]]


def bigram_counts(docs: list[str], tokenizer: CharTokenizer) -> mx.array:
    """How often each id follows each id: (V, V) ints, row = an id, column = the next.

    Raises CourseError as `bigrams` does.
    """
    counts = [[0] * tokenizer.vocab_size for _ in range(tokenizer.vocab_size)]
    for first, second in bigrams(docs, tokenizer):
        counts[first][second] += 1
    return mx.array(counts)


# %%
counts = bigram_counts(names, tokenizer)  # (27, 27)
id_n, id_a, bos = tokenizer.id_of["n"], tokenizer.id_of["a"], tokenizer.bos
print("a follows n", counts[id_n, id_a].item(), "times; n follows a", counts[id_a, id_n].item())
print("a begins", counts[bos, id_a].item(), "names and ends", counts[id_a, bos].item())

# %% [markdown]
# Three checks: Python's own `str.count` agrees, each name adds its length plus one, and BOS opens and ends
# every name.

# %%
assert counts[id_n, id_a].item() == sum(name.count("na") for name in names)
assert counts.sum().item() == sum(len(name) + 1 for name in names)
assert counts[bos].sum().item() == counts[:, bos].sum().item() == len(names)

# %% [markdown]
# ## 4. From counts to probabilities
#
# A **probability** is a share: of all the times that something followed an *n*, how often was it an *a*? So divide each row by
# its sum; then it adds up to 1. By hand, with three letters:

# %% tags=["nbval-check-output"]
small = mx.array([[2, 6, 0], [1, 1, 2], [0, 4, 4]])
print("by rows:         ", (small / small.sum(axis=1, keepdims=True)).tolist())
print("without keepdims:", (small / small.sum(axis=1)).tolist())

# %% [markdown]
# `axis=1` sums along each row. `keepdims=True` keeps the sums as a *column*, shape (3, 1): each row meets its own sum. Without it
# the sums lie along the *columns*. With a square table that raises no error, but look: a "probability" of 1.5.

# %%
probs = counts / counts.sum(axis=1, keepdims=True)  # (27, 27)
assert mx.allclose(probs.sum(axis=1), mx.ones(27), atol=1e-5)
for letter in "qnk•":
    row = probs[bos if letter == "•" else tokenizer.id_of[letter]]
    best = mx.argsort(-row)[:4].tolist()
    print(letter, "->", "  ".join(f"{show(i)} {row[i].item():.2f}" for i in best))


# %%
def draw_table(probs):
    """Picture of a (V, V) table of probabilities: row = an id, column = the next one."""
    figure, axes = plt.subplots(figsize=(7.2, 6.2))
    image = axes.imshow(np.array(probs), cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=0.5))
    labels = [show(i) for i in range(len(probs))]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(top=True, labeltop=True, right=True, labelright=True, length=0)
    axes.set_xlabel("next letter (• = the name ends)")
    axes.set_ylabel("letter (• = the name begins)")
    ticks = [0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5]
    figure.colorbar(image, label="probability", shrink=0.8, pad=0.1, ticks=ticks)
    plt.show()


draw_table(probs)

# %% [markdown]
# Read a row from left to right. (The colours are stretched at the pale end to make rare pairs visible.) The dark columns belong
# to the vowels *a*, *e*, *i* and *o*: in nearly every consonant's row some of the darkest cells are there. The row *q* is dark in few places, most of all
# at *u*. The last column says how likely a name is to end after each letter: most of all after *a*, *o* and *n*. Its lowest cell,
# •→•, is white: no name is empty.
#
# ## 5. Writing names
#
# To write a name, start at BOS, draw the next letter with the probabilities of that row, go to the row of that letter, and so on
# until BOS comes up. This is called **sampling**.
#
# `mx.random.categorical` draws. It takes not probabilities but **logits**, numbers from which probabilities are made by
#
# $$p_i = \frac{e^{z_i}}{\sum_j e^{z_j}}$$
#
# ($z_i$ is the logit of id $i$, $p_i$ its probability, and $j$ runs over all ids.) The formula is called **softmax**. Three logits, by hand and by MLX:

# %%
logits = [0.0, 1.0, 3.0]
powers = [math.exp(z) for z in logits]
by_hand = [power / sum(powers) for power in powers]
print("softmax:", [round(p, 3) for p in by_hand])
assert np.allclose(by_hand, np.array(mx.softmax(mx.array(logits))), atol=1e-6)

# %% [markdown]
# Why the detour? Probabilities must be positive and add up to 1. The networks of the coming chapters compute whatever
# numbers they like, and softmax makes probabilities of them.
#
# We have probabilities already. Which logits give them back? Their logarithms, since $e^{\ln p} = p$. And a probability of 0?

# %%
halves = mx.array([0.5, 0.5, 0.0])
print("logits:", mx.log(halves).tolist(), "back again:", mx.softmax(mx.log(halves)).tolist())

# %% [markdown]
# It becomes $-\infty$, and $e^{-\infty}$ is 0 again: that id is never drawn. So we hand over *logarithms*. If you hand over
# probabilities instead, nothing complains:

# %%
def shares_of_draws(logits):
    """Share of each of the 27 ids among 20,000 draws, with the same key each time, to compare."""
    drawn = mx.random.categorical(logits, num_samples=20_000, key=draw_key)
    return np.bincount(np.array(drawn), minlength=27) / drawn.size


share_right = shares_of_draws(mx.log(probs[bos]))
share_wrong = shares_of_draws(probs[bos])  # the trap
assert np.allclose(share_right, np.array(probs[bos]), atol=0.02)
assert not np.allclose(share_wrong, np.array(probs[bos]), atol=0.02)

# %%
figure, axes = plt.subplots(figsize=(7, 2.8))
axes.bar(range(27), probs[bos].tolist(), color="#CCCCCC", label="in the names")
axes.plot(range(27), share_right, "o", color=BLUE, label="drawn from the logarithms")
axes.plot(range(27), share_wrong, "x", color=ORANGE, label="drawn from the probabilities: wrong")
axes.set_xticks(range(27), [show(i) for i in range(27)])
axes.set_xlabel("first letter (• = the name ends at once)")
axes.set_ylabel("share")
axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
plt.show()


# %% [markdown]
# The dots sit on the bars. The crosses lie at almost the same height, even at •, where the bar is zero: all letters are about
# equally likely, and some names would end before they begin.

# %%
#| export names.bigram
def bigram_sample(
    probs: mx.array, tokenizer: CharTokenizer, key: mx.array | None = None, max_len: int = 30
) -> str:
    """A new name from the table `probs` (V, V), letter by letter, up to BOS or `max_len` letters.

    key: the random key; None takes MLX's own.
    """
    logits, ids = mx.log(probs), [tokenizer.bos]
    keys = [None] * max_len if key is None else mx.random.split(key, max_len)
    for step_key in keys:
        ids.append(mx.random.categorical(logits[ids[-1]], key=step_key).item())
        if ids[-1] == tokenizer.bos:
            break
    return tokenizer.decode(ids)


# %%
keys = mx.random.split(name_key, 8)  # one for each name; both lines use the same ones
what_the_trap_draws_from = mx.softmax(probs, axis=1)
print("bigram:  ", *(bigram_sample(probs, tokenizer, k) for k in keys))
print("the trap:", *(bigram_sample(what_the_trap_draws_from, tokenizer, k) for k in keys))

# %% [markdown]
# The first line sounds like names here and there, but has no plan: the model sees only one letter. It cannot know how long the
# name already is or whether it had a vowel. The second line is noise.
#
# ## 6. How good is it? One number
#
# A good model gives real names a high probability. What does it give *emma*? Five guesses, five probabilities; their product is
# the probability that the model writes just this name. It is called the **likelihood**.

# %%
likelihood = 1.0
for x, y in bigrams(["emma"], tokenizer):
    print(f"{show(x)}→{show(y)} {probs[x, y].item():.4f}")
    likelihood *= probs[x, y].item()
print(f"likelihood of emma: {likelihood:.2e}")

# %% [markdown]
# For many names the product becomes too small for a float. Here it is for the first 100 names. (`x` and `y` are
# arrays of ids; `probs[x, y]` picks one entry for each pair of them.)

# %%
x, y = mx.array(bigrams(names[:100], tokenizer)).T  # (N,) each
chances = probs[x, y]  # (N,)
print("product:", chances.prod().item(), "| sum of logarithms:", mx.log(chances).sum().item())
assert chances.prod().item() == 0.0

# %% [markdown]
# The logarithm rescues us: $\ln(a \cdot b) = \ln a + \ln b$ turns the product into a sum, which is an ordinary number. Larger
# likelihood, larger sum: nothing is lost. Two more steps:
#
# - Logarithms of numbers below 1 are negative, so we change the sign. Now smaller is better. Such a measure of error is called a **loss**.
# - Every further name makes the sum larger, so we take the **mean** over all guesses.
#
# $$\text{loss} = -\frac{1}{N} \sum_{i=1}^{N} \ln p(y_i \mid x_i)$$
#
# $N$ is the number of guesses, $x_i$ an id, and $y_i$ the id that really came next. $p(y_i \mid x_i)$, read "the
# probability of $y_i$, given $x_i$", stands in row $x_i$, column $y_i$ of the table. This loss is called **mean negative
# log-likelihood**. With the natural logarithm its unit is the **nat**, so we give it in nats per guess; you will also read
# "nats per token".

# %%
figure, axes = plt.subplots(figsize=(5, 3))
curve = np.linspace(0.001, 1, 1000)
axes.plot(curve, -np.log(curve), color=BLUE)
marks = {1: "certain: 0", 1 / 2: "one of 2: ln 2 = 0.69", 1 / 27: "one of 27: ln 27 = 3.30"}
for chance, label in marks.items():
    point, side = (chance, -math.log(chance)), "right" if chance == 1 else "left"
    axes.plot(*point, "o", color=ORANGE)
    axes.annotate(label, point, (6, 8), textcoords="offset points", ha=side)
axes.set_xlabel("probability given to what really came next")
axes.set_ylabel("loss of this guess, nats")
axes.set_ylim(-0.3, 5.5)
axes.spines[["top", "right"]].set_visible(False)
plt.show()


# %% [markdown]
# Being certain and right costs nothing. Giving little probability to what then happens costs a lot. The curve leaves the picture
# at the top: towards a probability of 0 it grows without limit.

# %%
#| export names.bigram
def bigram_loss(
    probs: mx.array, docs: list[str], tokenizer: CharTokenizer, max_len: int | None = None
) -> float:
    """Mean negative log-likelihood of `docs` under the table `probs` (V, V), in nats per guess.

    max_len: only the first guesses of each name. Infinite for a pair that has probability 0.
    Raises CourseError as `bigrams` does.
    """
    losses = (-mx.log(probs)).tolist()
    pairs = bigrams(docs, tokenizer, max_len)
    return sum(losses[first][second] for first, second in pairs) / len(pairs)


# %%
uniform = mx.full((27, 27), 1 / 27)
uniform_loss = bigram_loss(uniform, names, tokenizer)
counted_loss = bigram_loss(probs, names, tokenizer)
print(f"knows nothing {uniform_loss:.4f} | bigram {counted_loss:.4f}")

# %% [markdown]
# The table that knows nothing gives each of the 27 ids the same probability. Its loss is $-\ln \frac{1}{27} = \ln 27$,
# whatever the names are. Remember this number. The networks of later chapters begin knowing nothing, so their first loss
# has to be close to it; where it is not, look for a bug.
#
# What is a loss of so many nats? With two equally likely ids it would be $\ln 2$, with ten $\ln 10$. So $e^{\text{loss}}$ is the number of
# equally likely ids that would leave you as unsure. This number is called the **perplexity**.

# %%
assert abs(uniform_loss - math.log(27)) < 1e-5
print(f"perplexity: uniform {math.exp(uniform_loss):.1f}, bigram {math.exp(counted_loss):.1f}")

# %% [markdown]
# As an independent check: MLX provides the same loss. `nn.losses.cross_entropy` takes logits and the true ids.

# %%
x, y = mx.array(bigrams(names, tokenizer)).T  # (N,) each
from_mlx = np.mean(nn.losses.cross_entropy(mx.log(probs)[x], y).tolist())  # adds up in float64
print(f"ours {counted_loss:.4f} | MLX {from_mlx:.4f}")
assert abs(counted_loss - from_mlx) < 1e-4

# %% [markdown]
# And no table of pairs can do better on *these* names than the counted one. We do not prove that, but you can see it in one
# direction: if you mix in some of the table that knows nothing, the loss rises.

# %%
for amount in (0.01, 0.1, 0.3):
    blurred = (1 - amount) * probs + amount * uniform
    blurred_loss = bigram_loss(blurred, names, tokenizer)
    print(f"{amount:4.0%} of the uniform table mixed in: {blurred_loss:.4f}")
    assert blurred_loss > counted_loss


# %% [markdown]
# ## 7. Names it has never seen
#
# But who wants a model that knows only the names in the list? What matters is how it does on names that it has *not* seen. So we
# set some names aside, the **held-out** names. We count the others, the **training** names, and measure the loss on both.

# %%
#| export names.bigram
def split_names(
    names: list[str], held_out: float = 0.1, seed: int = 42
) -> tuple[list[str], list[str]]:
    """Training and held-out names: shuffled with `seed`, the share `held_out` cut off at the end.

    Each part gets at least one. Duplicates can end up in both parts.
    Raises CourseError for fewer than two names or a share outside 0 < held_out < 1.
    """
    if len(names) < 2 or not 0 < held_out < 1:
        raise CourseError(
            f"cannot hold out {held_out} of {len(names)} names; give at least 2, 0 < held_out < 1"
        )
    shuffled = list(names)
    random.Random(seed).shuffle(shuffled)
    cut = min(max(round(len(names) * (1 - held_out)), 1), len(names) - 1)
    return shuffled[:cut], shuffled[cut:]


# %%
train_names, held_out = split_names(names)
assert sorted(train_names + held_out) == sorted(names) and not set(train_names) & set(held_out)
train_counts = bigram_counts(train_names, tokenizer)
unsmoothed = train_counts / train_counts.sum(axis=1, keepdims=True)
print(f"{len(train_names)} training names: {bigram_loss(unsmoothed, train_names, tokenizer):.4f}")
print(f"{len(held_out)} held-out names: {bigram_loss(unsmoothed, held_out, tokenizer):.4f}")

# %% [markdown]
# Infinite! Which pairs did it?

# %%
impossible = [(x, y) for x, y in bigrams(held_out, tokenizer) if train_counts[x, y].item() == 0]
print("guesses with probability 0:", *(f"{show(x)}→{show(y)}" for x, y in impossible))


# %% [markdown]
# Two rare pairs occur in no training name. The table calls them impossible, and then they happen. A single such guess makes the
# loss infinite, however good the rest is.
#
# ### Smoothing
#
# The cure is to never say never: act as if each pair had been seen once more than it was. That is called **smoothing**.
# With a smoothing of $s$ (once more is $s = 1$),
#
# $$p(y \mid x) = \frac{\text{count}(x, y) + s}{\sum_{y'} (\text{count}(x, y') + s)}$$
#
# where $y'$ runs over all ids. For a count of 1000, one more hardly matters. A count of 0 becomes 1, which makes the pair
# possible.

# %%
#| export names.bigram
def bigram_probs(docs: list[str], tokenizer: CharTokenizer, smoothing: float = 1.0) -> mx.array:
    """Bigram model of `docs`: (V, V), row x = probabilities of the next id, counts + `smoothing`.

    Raises CourseError for a negative smoothing, for 0 when an id never occurs, or as `bigrams`.
    """
    if not 0 <= smoothing < float("inf"):
        raise CourseError(f"smoothing={smoothing}, expected 0 or more")
    counts = bigram_counts(docs, tokenizer) + smoothing
    sums = counts.sum(axis=1, keepdims=True)  # (V, 1)
    if smoothing == 0 and sums.min().item() == 0:
        missing = tokenizer.chars[sums.argmin().item()]
        raise CourseError(
            f"{missing!r} is in no name, so nothing says what follows it; use smoothing > 0"
        )
    return counts / sums


# %%
smoothed = bigram_probs(train_names, tokenizer)
assert mx.allclose(smoothed.sum(axis=1), mx.ones(27), atol=1e-5) and smoothed.min().item() > 0
print(f"training names {bigram_loss(smoothed, train_names, tokenizer):.4f}")
print(f"held-out names {bigram_loss(smoothed, held_out, tokenizer):.4f}")

# %% [markdown]
# Now both are ordinary numbers and close together: the table learned its 27 × 27 entries from many thousand names, so what it
# says is true of names in general. With fewer names it is not. We count on the first 20, 50, 100, … training names and measure
# both losses each time. (The smoothing is only 0.1 here, to show the effect of few names and not that of smoothing.)

# %%
sizes = [20, 50, 100, 200, 500, 1000, 2000, 5000, len(train_names)]
counted, not_seen = [], []
for size in sizes:
    table = bigram_probs(train_names[:size], tokenizer, smoothing=0.1)
    counted.append(bigram_loss(table, train_names[:size], tokenizer))
    not_seen.append(bigram_loss(table, held_out, tokenizer))
first_gap, last_gap = not_seen[0] - counted[0], not_seen[-1] - counted[-1]
claim("with all names the gap is less than a tenth of that with 20", last_gap < first_gap / 10)

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.2))
axes.semilogx(sizes, not_seen, "o-", color=ORANGE, label="names it has not seen")
axes.semilogx(sizes, counted, "s--", color=BLUE, label="names it has counted")
axes.axhline(math.log(27), color="gray", linestyle=":", label="knows nothing: ln 27")
axes.set_xlabel("training names")
axes.set_ylabel("loss, nats per guess")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# On the left the lines are far apart: the table learns the quirks of a few names. This is **overfitting**. With more names
# the gap closes and the lower line rises: one table now has to serve them all and can no longer fit the accidents of a few. The
# loss on names it has *counted* looks best where the model is worst, so it must not be the judge.
#
# ## 8. The first number to beat
#
# The GPT of chapter 03 reads up to eight ids, so it makes only the first eight guesses of each name. To compare like with like,
# we too score only the first eight guesses, here and in all later chapters, always on held-out names.

# %%
to_beat = bigram_loss(smoothed, held_out, tokenizer, max_len=8)
print(f"THE NUMBER TO BEAT: {to_beat:.4f} nats per guess")
assert to_beat < math.log(27) - 0.5

later = [pair for name in held_out for pair in bigrams([name], tokenizer)[8:]]
later_loss = sum(-math.log(smoothed[x, y].item()) for x, y in later) / len(later)
ends = sum(y == bos for x, y in later) / len(later)
print(f"later guesses, left out: {later_loss:.4f}; {ends:.0%} of them are the end")

# %% [markdown]
# The later guesses are easier, so this number is larger than the 2.5871 for whole names. Most of them are the end, which
# is one id; a letter is one of 26.
#
# How much of the number is the luck of the split? Hold out other names, and look:

# %%
of_splits = []
for seed in (1, 2, 3):
    counted_names, others = split_names(names, seed=seed)
    table = bigram_probs(counted_names, tokenizer)
    of_splits.append(bigram_loss(table, others, tokenizer, max_len=8))
print("other splits:", *(f"{loss:.4f}" for loss in of_splits))
luck = max(of_splits) - min(of_splits)
claim("splits differ by less than 0.03", luck < 0.03)

# %% [markdown]
# So a gain of 0.1 is not luck. From here on all models share one split. Then even smaller differences count, because all models
# meet the same easy and hard names.
#
# ## 9. Counting further back
#
# Can counting do better? The bigram looks at one letter. What a model looks at before a guess is called its **context**.
# Two richer contexts come to mind:
#
# - *place and letter*: an *a* in second place and one in seventh place are followed by different letters;
# - *two letters*: *nn* and *an* are followed by different letters. This is the **trigram** model.
#
# The recipe stays the same: a row of counts for each context. So we write it once for any context. First the guesses, each with
# everything before it.

# %%
#| export names.counts
"""Counts of what follows longer contexts, and back-off from long contexts to short ones."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from course_lib.names.bigram import CharTokenizer


def guesses(
    docs: list[str], tokenizer: CharTokenizer, max_len: int | None = None
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every guess in `docs`: all ids before it, BOS first, and the id that comes next.

    max_len: only the first guesses of each name.
    """
    for doc in docs:
        ids = tuple(tokenizer.encode(doc))
        for n in range(1, len(ids))[:max_len]:
            yield ids[:n], ids[n]


# %% tags=["nbval-check-output"]
for before, following in guesses(["emma"], tokenizer):
    print(*map(show, before), "→", show(following))


# %% [markdown]
# `context_loss` takes a function that picks the context from the ids before: for the bigram it is `before[-1:]`, the last one.
# Then it counts one list of names and measures the first eight guesses of another.

# %%
def context_loss(context, smoothing=0.3, counted=train_names, judged=held_out):
    """Loss on `judged` of a table with a row of counts from `counted` for each context."""
    rows = defaultdict(lambda: np.full(27, smoothing))
    for before, following in guesses(counted, tokenizer):
        rows[context(before)][following] += 1
    chances = [
        rows[context(before)][following] / rows[context(before)].sum()
        for before, following in guesses(judged, tokenizer, max_len=8)
    ]
    return -np.log(chances).mean()


# %% [markdown]
# How much smoothing? The choice must not be made on the held-out names, or they would no longer be unseen. So we choose on
# the last 1,600 *training* names and count the others.

# %%
context_of = {
    "bigram": lambda before: before[-1:],
    "letter + position": lambda before: (len(before), before[-1]),
    "trigram": lambda before: before[-2:],
}
counted_on, chosen_on, best = train_names[:-1600], train_names[-1600:], {}
for model, context in context_of.items():
    tried = {s: context_loss(context, s, counted_on, chosen_on) for s in (0.1, 0.3, 1, 3)}
    best[model] = min(tried, key=tried.get)
    print(f"{model:17}", *(f"{s}: {loss:.4f}  " for s, loss in tried.items()), "best:", best[model])

# %%
losses, seconds = {}, {}
for model, context in context_of.items():
    started = time.perf_counter()
    losses[model] = context_loss(context, best[model])
    seconds[model] = time.perf_counter() - started

# %%
one_letter, place_and_letter, two_letters = losses.values()
again = context_loss(context_of["bigram"], smoothing=1)
assert abs(again - to_beat) < 1e-4, "the bigram, counted in another way"
print(f"one letter {one_letter:.4f} | place and letter {place_and_letter:.4f}", end=" | ")
print(f"two letters {two_letters:.4f}")
claim("place and letter beat one letter by more than luck", to_beat - place_and_letter > 2 * luck)
claim("so do two letters", to_beat - two_letters > 2 * luck)

# %% [markdown]
# Both are much better than the bigram. (They do best with less smoothing than the bigram: their rows have fewer counts.) So why not
# three letters, five, eight?
#
# ### Where a table ends
#
# Because the table grows by a factor of 27 with each letter, while the list of names stays the same. A **cell** is one entry: a
# context with a letter after it.

# %%
backs = (1, 2, 3, 4, 5, 6, 7, 8)
plain = [context_loss(lambda before, back=back: before[-back:]) for back in backs]
new = []  # share of held-out guesses whose context no training name has
for back in backs:
    seen = {(before[-back:], following) for before, following in guesses(train_names, tokenizer)}
    contexts = {context for context, _ in seen}
    asked = [before[-back:] not in contexts for before, _ in guesses(held_out, tokenizer, 8)]
    new.append(sum(asked) / len(asked))
    if back in (1, 2, 3, 5, 8):
        cells, empty = 27 ** (back + 1), 1 - len(seen) / 27 ** (back + 1)
        print(f"{back} back: {cells:20,} cells, {empty:11.7%} empty", end=" | ")
        print(f"{new[-1]:4.0%} of contexts new | loss {plain[back - 1]:.3f}")

# %% [markdown]
# With one letter most cells have been counted. With three, nineteen out of twenty are empty; with eight, all but one in a hundred
# million. The right-hand columns show what that does. With five letters more than a fifth of the held-out guesses meet a context
# that the table has never seen; there it knows nothing. Beyond three letters the loss gets worse. (The smoothing here is 0.3 throughout. BOS
# counts as a letter.)
#
# ### Backing off
#
# But a long context that *has* been seen often is worth a lot. So use it where you have it, and trust a shorter one where you
# don't. That is called **back-off**. Smoothing shows how to do it softly. So far we added the same to each count. Now the $s$
# extra counts are shared out as the context that is one letter shorter expects:
#
# $$p_n(y) = \frac{\text{count}_n(y) + s \cdot p_{n-1}(y)}{\text{total}_n + s}$$
#
# $p_n(y)$ is the probability of $y$ from a context of $n$ letters, $\text{count}_n(y)$ how often $y$ followed that context,
# and $\text{total}_n$ how often anything did. With many counts the long context decides, with few the shorter one. Each
# context asks the next shorter one, down to the empty context, which counts how often each letter comes at all. Below that stands $1/27$ for each id.

# %%
#| export names.counts
def count_contexts(
    docs: list[str], tokenizer: CharTokenizer, back: int
) -> dict[tuple[int, ...], np.ndarray]:
    """How often each id follows each context of 0 to `back` ids: context -> counts (V,)."""
    table = defaultdict(lambda: np.zeros(tokenizer.vocab_size))
    for before, following in guesses(docs, tokenizer):
        for n in range(min(back, len(before)) + 1):
            table[before[len(before) - n :]][following] += 1
    return dict(table)


# %%
#| export names.counts
def backoff_probs(
    table: dict[tuple[int, ...], np.ndarray],
    before: tuple[int, ...],
    back: int,
    strength: float = 30.0,
) -> np.ndarray:
    """Probabilities (V,) of the id after `before`, from contexts of up to `back` ids.

    table: of count_contexts. strength: how many counts the next shorter context is worth.
    """
    vocab_size = len(table[()])
    probs = np.full(vocab_size, 1 / vocab_size)
    for n in range(min(back, len(before)) + 1):
        counts = table.get(before[len(before) - n :])
        if counts is None:
            break
        probs = (counts + strength * probs) / (counts.sum() + strength)
    return probs


# %%
#| export names.counts
def backoff_loss(
    table: dict[tuple[int, ...], np.ndarray],
    docs: list[str],
    tokenizer: CharTokenizer,
    back: int,
    strength: float = 30.0,
    max_len: int | None = None,
) -> float:
    """Mean negative log-likelihood of `docs` under back-off, in nats per guess."""
    chances = [
        backoff_probs(table, before, back, strength)[following]
        for before, following in guesses(docs, tokenizer, max_len)
    ]
    return -np.log(chances).mean().item()


# %% [markdown]
# One guess by hand: what is the probability of an *a* after *emm*? With $s = 30$, from no context to the longest:

# %%
counted = count_contexts(train_names, tokenizer, back=8)
emm = tuple(tokenizer.encode("emm")[:-1])  # BOS and three letters
by_hand = 1 / 27
for n in range(5):
    counts = counted[emm[len(emm) - n :]]
    count, total = counts[tokenizer.id_of["a"]], counts.sum()
    by_hand = (count + 30 * by_hand) / (total + 30)
    context = "".join(map(show, emm[len(emm) - n :]))
    print(f"{context:>5}: {count:6,.0f} of {total:7,.0f}, p = {by_hand:.3f}")
assert abs(by_hand - backoff_probs(counted, emm, back=8)[tokenizer.id_of["a"]]) < 1e-9

# %% [markdown]
# Each line mixes its own share with the line above: the fewer counts it has, the more it listens to that.
#
# Which strength $s$, and how far back? Again we choose on the last 1,600 training names.

# %%
table = count_contexts(counted_on, tokenizer, back=8)
choices = {}
for back in (4, 5, 8):
    for strength in (10, 30, 100):
        choices[back, strength] = backoff_loss(table, chosen_on, tokenizer, back, strength, 8)
        print(f"{back} back, s = {strength:3d}: {choices[back, strength]:.4f}")
best_back, best_strength = min(choices, key=choices.get)
print("best:", best_back, "back, s =", best_strength)

# %%
started = time.perf_counter()
table = count_contexts(train_names, tokenizer, back=best_back)
counting_seconds = time.perf_counter() - started
by_back = [backoff_loss(table, held_out, tokenizer, back, best_strength, 8) for back in backs]
backoff = by_back[best_back - 1]
kept = sum(np.count_nonzero(counts) for counts in table.values())
print(f"back-off: {backoff:.4f} on held-out names, from {kept:,} counts other than 0")

# %%
figure, axes = plt.subplots(figsize=(6, 3.4))
axes.plot(backs, plain, "s--", color=ORANGE, label="one context only")
axes.plot(backs, by_back, "o-", color=BLUE, label="back-off")
axes.axhline(place_and_letter, color="gray", linestyle=":", label="place and letter")
axes.set_xlabel("letters back")
axes.set_ylabel("held-out loss, nats per guess")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
claim("with one context only, the loss rises beyond three letters", plain[2:] == sorted(plain[2:]))
falling = by_back[:6] == sorted(by_back[:6], reverse=True)
claim("with back-off the loss falls with each letter up to six", falling)
claim("back-off beats place and letter by more than luck", place_and_letter - backoff > 2 * luck)

# %% [markdown]
# The dashed line turns up after three letters; the solid one keeps falling and levels out after five or six. So counting, done
# well, is a strong opponent. This course has *two* numbers to beat: the bigram's soon falls, back-off's holds until the end of
# chapter 04. This task suits it: thousands of names, all short, made of 26 letters.
#
# So why does nobody build a ChatGPT from counts?
#
# - **The tables grow too fast.** Eight letters back make more than seven trillion cells. Text made of words is worse: a large model may have 32,768 tokens or more, and the pairs alone then fill a table of a billion cells.
# - **Contexts help each other only when they end alike.** After *hanna*, back-off can use what it learned after *anna*. After *anne* it cannot: its rows, *anne*, *nne*, *ne* and *e*, are not those of *anna*: *anna*, *nna*, *na* and *a*. A network describes each letter by a few numbers, so what it learns about one context also changes what it expects after similar ones.
#
# In chapter 04 a network of 85,920 numbers passes the 188,377 counts. With each further letter or word of context a network grows
# a little, a table by a factor of 27 or 32,768.

# %%
print(f"eight letters back: {27**9:,} cells; pairs of 32,768 tokens: {32_768**2:,} cells")

# %% [markdown]
# ## 10. The log
#
# The course keeps a **loss log**, a table with one row for each model: its held-out loss, its size and its cost. It grows from
# chapter to chapter and shows what each idea bought. Here are its first rows. `corpus` says which texts the loss was measured on.
# `steps` is 0, since counting takes no training steps. `parameters` are the numbers that a model keeps: here the cells of its
# table (for back-off, which stores nothing else, those with a count).

# %%
knows_nothing = bigram_loss(uniform, held_out, tokenizer, max_len=8)
record_loss("01", "uniform", "all 27 ids alike", "names", 0, knows_nothing, parameters=0)
for model, idea, cells in (
    ("bigram", "counts of pairs, smoothed", 27**2),
    ("letter + position", "counts for each place in the name", 8 * 27**2),
    ("trigram", "counts after two letters", 27**3),
):
    cost = {"parameters": cells, "seconds": seconds[model]}
    record_loss("01", model, idea, corpus="names", steps=0, loss=losses[model], **cost)
record_loss(
    "01",
    "back-off",
    f"counts after up to {best_back} letters",
    corpus="names",
    steps=0,
    loss=backoff,
    parameters=int(kept),
    seconds=counting_seconds,
)

# %%
draw_loss_log("names", until="01")
print_loss_log("names", until="01")

# %% [markdown]
# Further left is better. What you see is the authors' run: outside such a run `record_loss` writes nothing. Compare the rows with
# the numbers that you printed.
#
# | what changed | what it bought |
# |---|---|
# | from no knowledge to counted pairs: the last letter says a lot about the next | 3.30 → 2.61 |
# | one more count for each pair: a pair never seen is not impossible | infinite → 2.59, whole names |
# | the place in the name, beside the letter | 2.61 → 2.49 |
# | up to eight letters back, with back-off | 2.61 → 2.37 |
#
# <details><summary>The well-known list of names</summary>
#
# Many texts on small language models use one list of 32,033 names. It is not shipped here. `download_names` of
# `course_lib.names.download` fetches it and checks that it is exactly the expected file. To use it, put these lines in place of
# `names = load_names()` in section 1, leave out the `assert` below it, and run the notebook again:
#
# ```python
# from course_lib.names.download import download_names
#
# names = list(dict.fromkeys(load_names(download_names())))
# ```
#
# That list has some names more than once. `dict.fromkeys` keeps each one once; otherwise a held-out name could also be a training
# name. You can't compare losses across lists; each has its own numbers to beat.
#
# </details>
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/01_names_solutions.ipynb](solutions/01_names_solutions.ipynb).

# %% [markdown]
# ### Exercise 1.1 — how surprising is a name?
#
# 10 minutes, ●○○
#
# Write `name_loss(name, probs, tokenizer)`: the mean negative log-likelihood, in nats, of one name under the table
# `probs` (V, V). Do not call `bigram_loss`.
#
# Then try it on your own name, in lower case and without accents: `name_loss("emma", smoothed, tokenizer)`. Most held-out
# names lie between 2 and 3.5.
#
# <details><summary>Hint 1</summary>
#
# Section 6 did it for *emma*, as a product. How many guesses does a name of four letters take?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `pairwise(tokenizer.encode(name))` gives the pairs, `probs[first, second].item()` a probability, `math.log` its logarithm.
# Collect the negative logarithms in a list and divide its sum by its length.
#
# </details>

# %% tags=["exercise"]
def name_loss(name, probs, tokenizer):
    """Mean negative log-likelihood of one name, in nats per guess."""
    raise NotImplementedError


# %%
check(exercises.name_loss, name_loss)


# %% [markdown]
# ### Exercise 1.2 — how much smoothing?
#
# 15 minutes, ●●○
#
# Adding 1 to each count was a guess. Write `best_smoothing(train_names, held_out, tokenizer, choices)`: the entry of
# the list `choices` with which the model of `train_names` does best. Best on which names?
#
# Then try it with few names and with all:
#
# ```python
# for docs in (train_names[:300], train_names):
#     print(best_smoothing(docs, held_out, tokenizer, [0.01, 0.1, 0.3, 1, 3, 10]))
# ```
#
# With 300 names the best of these gains 0.28 nats per guess over the worst, with all names only 0.01. (Strictly, names that
# took part in a choice are no longer unseen: for the final number you would need a third set.)
#
# <details><summary>Hint 1</summary>
#
# Count one list only and judge by the other. Which names would choose no smoothing at all?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Two functions of this chapter do the work: `bigram_probs(docs, tokenizer, smoothing)` and `bigram_loss(probs, docs,
# tokenizer)`. `min(choices, key=...)` finds the best.
#
# </details>

# %% tags=["exercise"]
def best_smoothing(train_names, held_out, tokenizer, choices):
    """The entry of `choices` that makes the best model of `train_names`."""
    raise NotImplementedError


# %%
check(exercises.best_smoothing, best_smoothing)


# %% [markdown]
# ### Exercise 1.3 — two letters back
#
# 25 minutes, ●●●
#
# A **trigram** model guesses from the *two* ids before. Write `trigram_probs(docs, tokenizer, smoothing=1.0)`: an array
# of shape (V, V, V) in which entry `[x, y, z]` is the probability that `z` comes after `x`, `y`. For the first letter
# there is only one id before, the BOS; put one more BOS in front. So *emma* has the triples ••e, •em, emm, mma, ma•.
#
# Section 9 counted the same with a dictionary. An array takes more memory but is faster: the row of any pair is there at once.
# These lines print the loss on held-out names:
#
# ```python
# table = trigram_probs(train_names, tokenizer)
# print(exercises.trigram_loss(table, held_out, tokenizer))
# ```
#
# You should get about 2.49 for whole names, where the bigram has 2.59.
#
# <details><summary>Hint 1</summary>
#
# It is `bigram_probs` with one more axis. Along which axis must the sums be 1?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Count into a NumPy array, `np.zeros((V, V, V))`, then add `smoothing` and divide by the sum over the last axis. `[bos,
# *ids]` puts a BOS in front, and `zip(ids, ids[1:], ids[2:])` makes the triples.
#
# </details>

# %% tags=["exercise"]
def trigram_probs(docs, tokenizer, smoothing=1.0):
    """P(z | x, y) from counts of triples: (V, V, V)."""
    raise NotImplementedError


# %%
check(exercises.trigram_probs, trigram_probs)

# %% [markdown]
# ## Summary
#
# - A tokenizer turns text into ids and back. Here each letter is a token, and BOS stands at both ends.
# - A bigram model is a table of counts, divided row by row. It writes names by drawing from its rows.
# - The loss is the mean of $-\ln p$ over all guesses, in nats. A model that knows nothing has $\ln 27 = 3.2958$.
# - Smoothing keeps unseen pairs possible. Only the loss on held-out names says how good a model is.
# - A longer context says more, but its table is emptier: 27 times the cells for each letter. Back-off mixes long and short contexts, and trusts a long one more the more often it has been seen.
# - The log now has five rows and two numbers to beat: the bigram's and that of back-off.
#
# ## Pitfalls
#
# - **Probabilities in `mx.random.categorical`.** It takes logits. Given probabilities it draws almost evenly and does not complain. When a good model writes noise, look here first.
# - **A missing `keepdims=True`.** The square table divides by the sums of the wrong axis. Assert that the rows add up to 1.
# - **The end forgotten.** A name of four letters takes five guesses. A model without the end does not know when to stop, and its loss cannot be compared.
# - **Products of probabilities.** They underflow to 0. Add logarithms.
# - **Judging by the training loss,** or choosing settings on the held-out names and then quoting the loss on them. What you chose by is no longer unseen.
# - **Comparing losses that are not alike:** other names, another vocabulary, or bits ($\log_2$) against nats.
#
# ## Further reading
#
# - Andrej Karpathy, [makemore](https://github.com/karpathy/makemore): the list of 32,033 names, and a ladder of models on it.
# - Claude Shannon, [Prediction and Entropy of Printed English](https://archive.org/details/bstj30-1-50) (1951): people guess the next letter, and how unsure they are.
# - Jurafsky and Martin, [Speech and Language Processing](https://web.stanford.edu/~jurafsky/slp3/), the chapter on n-gram models: smoothing in depth.
# - MLX, [Random](https://ml-explore.github.io/mlx/build/html/python/random.html): keys, and what `categorical` takes.
#
# **Next:** [02 · Autograd](02_autograd.ipynb)

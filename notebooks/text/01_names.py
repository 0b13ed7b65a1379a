# %% [markdown]
# # 01 · Names: the smallest language model
#
# **Goal.** Turn names into numbers, build a model that only counts, let it write new names, and measure how good it is: the number that every later model has to beat.
#
# | | |
# |---|---|
# | Needs | [00 · Start here](00_start_here.ipynb); no machine learning |
# | Time | 40 minutes to read, 50 for the exercises; about 10 seconds to run |
# | Memory | under 0.5 GB |
# | You will build → exported to | `CharTokenizer`, `split_names` and the bigram model → `course_lib.names.bigram` |

# %% [markdown]
# ![Map of the course, chapter 01 highlighted: names follows start_here and comes before autograd](images/map_01.png)
#
# [00](00_start_here.ipynb) · **01** · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/01_names.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

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

import matplotlib.pyplot as plt
import mlx.nn as nn
import numpy as np
from matplotlib.colors import PowerNorm

from course_lib.classroom import add_to, check, draw_loss_log, record_loss
from course_lib.classroom.exercises import names as exercises

BLUE, ORANGE = "#0072B2", "#D55E00"
key = mx.random.key(42)  # the start of all random numbers below

# %% [markdown]
# ## 1. The names
#
# A **language model** guesses what comes next in a text. Ours will read names, letter by letter. The course brings many
# thousand given names from all over the world, one a line, in lower case and without accents
# (`data/README.md` in the course's folder says more).
#
# `load_names` of `names.files`, written by hand, reads them. It also takes a list of your own, in any script.

# %%
names = load_names()
lengths = [len(name) for name in names]
print(len(names), "names of", min(lengths), "to", max(lengths), "letters")
print(f"{sum(lengths) / len(lengths):.1f} letters on average")
print(*names[:12])

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
# The letters alone do not say where a name begins and where it ends, and that is worth knowing: many names end in *a*,
# few in *x*. So there is one more id, **BOS**. It is short for *beginning of sequence*, but it stands at *both* ends: one
# id is enough to mark either.
#
# A **tokenizer** turns a text into ids, and ids back into text. The pieces that get an id are called **tokens**; here
# each letter is one. The texts are called documents, in code `docs`; here each name is one.

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
# The number of ids is called the **vocabulary size**, in short $V$. Next the two directions. `@add_to` puts a function
# into a class that exists already, so that we can stop and look in between; in `course_lib/names/bigram.py` it stands inside
# the class.

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
# The model has to guess each id from what comes before. The simplest model looks back a single step: after an *m*, what
# comes next? A pair of neighbours is a **bigram**, and so the model is called a bigram model. The pairs in one name:

# %% tags=["nbval-check-output"]
def show(i):
    """The letter of an id, or • for BOS."""
    return "•" if i == tokenizer.bos else tokenizer.chars[i]


print(*(f"{show(x)}→{show(y)}" for x, y in pairwise(tokenizer.encode("emma"))))


# %% [markdown]
# A name of four letters makes *five* guesses: the end is one of them. A function for the pairs of many names; `max_len`
# keeps only the first guesses of each name, which later chapters need.

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
# A **probability** is a share: of all times that an *n* was followed by anything, in what share was it an *a*? So each
# row is divided by its sum. Then each row adds up to 1. By hand, with three letters:

# %% tags=["nbval-check-output"]
small = mx.array([[2, 6, 0], [1, 1, 2], [0, 4, 4]])
print("by rows:         ", (small / small.sum(axis=1, keepdims=True)).tolist())
print("without keepdims:", (small / small.sum(axis=1)).tolist())

# %% [markdown]
# `axis=1` sums along each row. `keepdims=True` keeps the sums as a *column*, shape (3, 1), so that each row meets its
# own sum. Without it the sums lie along the *columns*. A square table raises no error then, but look: a "probability" of
# 1.5.

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
# Read a row from left to right. (The colours are stretched at the pale end, so that rare pairs show.) The dark columns
# belong to the vowels *a*, *e*, *i* and *o*: they follow nearly every consonant. The row *q* is dark in few places, most
# of all at *u*. The last column says how likely a name is to end after each letter: most of all after *a*, *o* and *n*.
# Its lowest cell, •→•, is white: no name is empty.
#
# ## 5. Writing names
#
# To write a name, start at BOS, draw the next letter with the probabilities of that row, go to the row of the letter
# you drew, and stop when BOS comes up. This is called **sampling**.
#
# `mx.random.categorical` draws. Mind what it takes: not probabilities, but **logits**, numbers from which the
# probabilities are made by
#
# $$p_i = \frac{e^{z_i}}{\sum_j e^{z_j}}$$
#
# ($z_i$ is the logit of id $i$, $p_i$ its probability, $j$ runs over all ids; the formula is the **softmax**). If
# $z_i = \ln p_i$, the softmax gives back $p_i$, because $e^{\ln p_i} = p_i$ and the $p_j$ add up to 1. So we hand over
# *logarithms* of probabilities. (A probability of 0 becomes $\ln 0 = -\infty$. Since $e^{-\infty} = 0$, that id is never
# drawn, as it should be.) Hand over the probabilities, and nothing complains:

# %%
def shares_of_draws(logits):
    """Share of each of the 27 ids among 20,000 draws, with the same key each time, to compare."""
    drawn = mx.random.categorical(logits, num_samples=20_000, key=key)
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
# The dots sit on the bars. The crosses lie almost on one height, even at •, where the bar is zero: all letters are
# about equally likely, and some names end before they begin.

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
keys = mx.random.split(key, 8)  # the same keys for both lines, to compare
what_the_trap_draws_from = mx.softmax(probs, axis=1)
print("bigram:  ", *(bigram_sample(probs, tokenizer, k) for k in keys))
print("the trap:", *(bigram_sample(what_the_trap_draws_from, tokenizer, k) for k in keys))

# %% [markdown]
# The first line has the sound of names, here and there. It has no plan: the model sees one letter only, and so cannot
# know how long the name is by now, or whether there was a vowel. The second line is noise.
#
# ## 6. How good is it? One number
#
# A good model gives the names that exist a high probability. What does it give *emma*? Five guesses, five
# probabilities; their product is the probability that the model writes just this name. It is called the **likelihood**.

# %%
likelihood = 1.0
for x, y in bigrams(["emma"], tokenizer):
    print(f"{show(x)}→{show(y)} {probs[x, y].item():.4f}")
    likelihood *= probs[x, y].item()
print(f"likelihood of emma: {likelihood:.2e}")

# %% [markdown]
# For many names the product gets too small for the computer's numbers. Here it is for the first 100 names:

# %%
x, y = mx.array(bigrams(names[:100], tokenizer)).T  # (N,) each
chances = probs[x, y]  # (N,)
print("product:", chances.prod().item(), "| sum of logarithms:", mx.log(chances).sum().item())
assert chances.prod().item() == 0.0

# %% [markdown]
# The logarithm rescues us: $\ln(a \cdot b) = \ln a + \ln b$ turns the product into a sum, and the sum is an ordinary
# number. Larger likelihood, larger sum: nothing is lost. Two more steps:
#
# - Logarithms of numbers below 1 are negative, so we change the sign. Now smaller is better. A measure of error, of which less is better, is called a **loss**.
# - Now every name adds to the sum, so we take the **mean** over all guesses.
#
# $$\text{loss} = -\frac{1}{N} \sum_{i=1}^{N} \ln p(y_i \mid x_i)$$
#
# $N$ is the number of guesses, $x_i$ an id, and $y_i$ the id that really came next. $p(y_i \mid x_i)$, read "the
# probability of $y_i$, given $x_i$", stands in row $x_i$, column $y_i$ of the table. This loss is called **mean negative
# log-likelihood**. With the natural logarithm its unit is the **nat**, so we give it in nats a guess; you will also read
# "nats a token".

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
# Being certain and right costs nothing. Giving little probability to what then happens costs much. The curve leaves the
# picture at the top: towards a probability of 0 it grows without limit.

# %%
#| export names.bigram
def bigram_loss(
    probs: mx.array, docs: list[str], tokenizer: CharTokenizer, max_len: int | None = None
) -> float:
    """Mean negative log-likelihood of `docs` under the table `probs` (V, V), in nats a guess.

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
# What is a loss of so many nats? $e^{\text{loss}}$ is the number of equally likely ids that would leave you as unsure.
# This number is called the **perplexity**.

# %%
assert abs(uniform_loss - math.log(27)) < 1e-5
print(f"perplexity: uniform {math.exp(uniform_loss):.1f}, bigram {math.exp(counted_loss):.1f}")

# %% [markdown]
# ### Checked twice (optional)
#
# MLX has this loss: `nn.losses.cross_entropy` takes logits and the true ids. And the table alone gives it too. The
# **surprise** of an id is $-\ln p$. The mean surprise of a row is its **entropy**. The loss is the mean of the entropies,
# each weighed by how often the letter of its row occurs.

# %%
x, y = mx.array(bigrams(names, tokenizer)).T  # (N,) each
losses = nn.losses.cross_entropy(mx.log(probs)[x], y)  # (N,)
from_mlx = sum(losses.tolist()) / losses.size

row_share = counts.sum(axis=1) / counts.sum()  # (27,)
surprise = mx.where(counts > 0, -mx.log(probs), 0)  # pairs that never occur add nothing
entropy = (probs * surprise).sum(axis=1)  # (27,)
from_entropy = (row_share * entropy).sum().item()
print(f"ours {counted_loss:.4f} | MLX {from_mlx:.4f} | from entropies {from_entropy:.4f}")
assert abs(counted_loss - from_mlx) < 1e-4 and abs(counted_loss - from_entropy) < 1e-4

# %% [markdown]
# Three ways, one number. It is also the smallest that a table of pairs can reach on *these* names. We do not prove that,
# but you can watch one direction: mix in some of the table that knows nothing, and the loss rises.

# %%
for amount in (0.01, 0.1, 0.3):
    blurred = (1 - amount) * probs + amount * uniform
    blurred_loss = bigram_loss(blurred, names, tokenizer)
    print(f"{amount:4.0%} of the uniform table mixed in: {blurred_loss:.4f}")
    assert blurred_loss > counted_loss


# %% [markdown]
# ## 7. Names it has never seen
#
# But who wants a model that knows only the names in the list? What counts is how it does on names that it has *not*
# seen. So we put some aside, the **held-out** names, count on the others, the **training** names, and measure on both.

# %%
#| export names.bigram
def split_names(
    names: list[str], held_out: float = 0.1, seed: int = 42
) -> tuple[list[str], list[str]]:
    """Training and held-out names: shuffled with `seed`, the share `held_out` cut off at the end.

    Each part gets at least one. Equal names may come to lie in both parts.
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
# A few rare pairs occur in no training name. The table calls them impossible, and then they happen. One impossible
# thing that happens makes the loss infinite, however good the rest is.
#
# ### Smoothing
#
# The cure is to never say never: act as if each pair had been seen once more than it was. That is called **smoothing**.
# With a smoothing of $s$ (once more is $s = 1$),
#
# $$p(y \mid x) = \frac{\text{count}(x, y) + s}{\sum_{y'} (\text{count}(x, y') + s)}$$
#
# where $y'$ runs over all ids. A count of 1000 becomes 1001 and hardly notices. A count of 0 becomes 1, and the pair is
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
# Now both are ordinary numbers, and close together: the table has 27 × 27 entries and learned them from many thousand
# names, so what it says is true of names in general. With fewer names that is not so. We count on the first 20, 50,
# 100, … training names and measure both losses each time. (The smoothing here is only 0.1, so that you see the few
# names and not the smoothing.)

# %%
sizes = [20, 50, 100, 200, 500, 1000, 2000, 5000, len(train_names)]
counted, not_seen = [], []
for size in sizes:
    table = bigram_probs(train_names[:size], tokenizer, smoothing=0.1)
    counted.append(bigram_loss(table, train_names[:size], tokenizer))
    not_seen.append(bigram_loss(table, held_out, tokenizer))
assert not_seen[0] - counted[0] > 10 * (not_seen[-1] - counted[-1])

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.2))
axes.semilogx(sizes, not_seen, "o-", color=ORANGE, label="names it has not seen")
axes.semilogx(sizes, counted, "s--", color=BLUE, label="names it has counted")
axes.axhline(math.log(27), color="gray", linestyle=":", label="knows nothing: ln 27")
axes.set_xlabel("training names")
axes.set_ylabel("loss, nats a guess")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# On the left the lines are far apart: from few names the table learns what those few happen to have. This is
# **overfitting**. With more names the gap closes, and the lower line rises: one table now has to serve them all, and can
# no longer fit the accidents of a few. The loss on names it has *counted* looks best where the model is worst, so it must
# not be the judge.
#
# ## 8. The number to beat
#
# The model of chapter 03 reads up to eight ids, so it makes the first eight guesses of each name. To compare like with
# like, the log of the course counts the first eight guesses too. It always measures on held-out names.

# %%
to_beat = bigram_loss(smoothed, held_out, tokenizer, max_len=8)
print(f"THE NUMBER TO BEAT: {to_beat:.4f} nats a guess")
assert to_beat < math.log(27) - 0.5

later = [pair for name in held_out for pair in bigrams([name], tokenizer)[8:]]
later_loss = sum(-math.log(smoothed[x, y].item()) for x, y in later) / len(later)
ends = sum(y == bos for x, y in later) / len(later)
print(f"later guesses, left out: {later_loss:.4f}; {ends:.0%} of them are the end")

# %% [markdown]
# The later guesses are easier, so this number is larger than the 2.5871 for whole names. Most of them are the end, which
# is one id; a letter is one of 26.
#
# Now two rows for the log: `corpus` says which texts the loss was measured on, and `steps` is 0, since counting takes no
# steps of training.

# %%
knows_nothing = bigram_loss(uniform, held_out, tokenizer, max_len=8)
record_loss("01", "uniform", "all 27 ids alike", corpus="names", steps=0, loss=knows_nothing)
record_loss("01", "bigram", "counts of pairs, smoothed", corpus="names", steps=0, loss=to_beat)

# %% [markdown]
# | what changed | why | what it bought |
# |---|---|---|
# | from no knowledge to counted pairs | the last letter says much about the next | 3.30 → 2.61 |
# | one more count for each pair | a pair never seen is not impossible | infinite → 2.59, whole names |

# %%
draw_loss_log("names", until="01")

# %% [markdown]
# Further left is better. The numbers are those of the authors' run: compare them with the one that you printed. This log
# grows through the course: each idea gets a row, and you see what it bought.
#
# ## 9. The well-known list
#
# Many texts on small language models use one list of 32,033 names. It is not shipped here. `download_names` of
# `course_lib.names.download` fetches it, checks that it is the very file (its SHA-256 **checksum**, a fingerprint of its bytes),
# and keeps it, so that the second call needs no network. It leaves either the whole file or nothing.
#
# We do not call it here, so that this notebook runs without a network. To use it, go back to section 1, put these lines in
# place of `names = load_names()`, and run the notebook again:
#
# ```python
# from course_lib.names.download import download_names
#
# names = list(dict.fromkeys(load_names(download_names())))
# ```
#
# That list has some names more than once. `dict.fromkeys` keeps each one once, so that no held-out name is also a training
# name. Losses on two lists do not compare: each list has a number to beat of its own.
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
# <details><summary>Hint</summary>
#
# `pairwise(tokenizer.encode(name))` gives the pairs, `probs[first, second].item()` a probability, `math.log` its
# logarithm. How many guesses does a name of four letters make?
#
# </details>

# %% tags=["exercise"]
def name_loss(name, probs, tokenizer):
    """Mean negative log-likelihood of one name, in nats a guess."""
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
# With 300 names the best of these gains 0.28 nats a guess over the worst, with all names only 0.01. (Strictly, names that
# took part in a choice are no longer unseen: for the final number you would need a third set.)
#
# <details><summary>Hint</summary>
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
# Does the second letter help? These lines print the loss on held-out names:
#
# ```python
# table = trigram_probs(train_names, tokenizer)
# print(exercises.trigram_loss(table, held_out, tokenizer))
# ```
#
# You should get about 2.49, where the bigram has 2.59. And how many entries would the table have for eight letters back?
#
# <details><summary>Hint</summary>
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
# - Smoothing keeps what was never seen possible. Only the loss on held-out names says how good a model is.
# - The log now has two rows. The bigram's is the number to beat.
#
# ## Pitfalls
#
# - **Probabilities in `mx.random.categorical`.** It takes logits. Given probabilities it draws almost evenly, and does not complain. When a good model writes noise, look here first.
# - **A missing `keepdims=True`.** The square table divides by the sums of the wrong axis. Assert that the rows add up to 1.
# - **The end forgotten.** A name of four letters makes five guesses. A model without the end does not know when to stop, and its loss is another number.
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

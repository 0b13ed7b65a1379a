# %% [markdown]
# # 07 · Attention
#
# **Goal.** Turn microGPT's attention into nanochat's, one small change at a time, and check each before the next.
#
# | | |
# |---|---|
# | Needs | [03 · microGPT](03_microgpt.ipynb) |
# | Time | 70 minutes to read, 75 for the exercises; about 20 seconds to run |
# | Memory | under 500 MB |
# | You will build | rotary positions, QK norm, attention with shared keys and values → `course_lib.model.attention` |
#
# Our model is nanochat's first release (October 2025). Its attention differs from chapter 03's in three ways: positions become
# rotations, queries and keys get a norm, and several query heads may share keys and values. One function reads a whole text
# in training, and one token after the other when the model writes.

# %% [markdown]
# ![Map of the course: chapter 07 attention is marked, in Part II; after 06 data, and 08 gpt comes next](images/map_07.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · **07** · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/07_attention.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export model.attention
"""Causal self-attention with rotary positions, QK norm and grouped keys and values."""

import mlx.core as mx
import mlx.nn as nn

from course_lib.host.errors import CourseError
from course_lib.model.mask import causal_mask
from course_lib.model.products import project

# %% [markdown]
# That cell opens the module that this chapter builds. The next one is for this notebook only.

# %%
import copy
import math
import time
from statistics import median

import matplotlib.pyplot as plt
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import add_to, budget, check, claim, draw_heads
from course_lib.classroom.exercises import attention as exercises
from course_lib.names.microgpt import Attention, MicroGPT, MicroGPTConfig

BLUE, ORANGE = "#0072B2", "#D55E00"
backend.seed_everything(42)
print(backend.describe())

# %% [markdown]
# ## 1. Which cat?
#
# "My cat met your cat outside." The word *cat* stands there twice, and they are two different cats. Give each word a random vector, and
# feed chapter 03's attention just these vectors, without positions. The last word looks back. Which weights come out?

# %%
words = "my cat met your cat outside".split()
vectors = dict(zip(sorted(set(words)), mx.random.normal((5, 16)), strict=True))
old = Attention(MicroGPTConfig())


def read(words):
    """For the last word: its weights in head 0, and what attention gives it."""
    x = mx.stack([vectors[word] for word in words])  # (T, C)
    return old.weights(x)[0, -1], old(x)[-1]


weights, got = read(words)
print(*(f"{word} {weight:.3f}  " for word, weight in zip(words, weights.tolist(), strict=True)))
assert abs(weights[1] - weights[4]) < 1e-6
_, got_swapped = read("your cat met my cat outside".split())
print(f"my and your swapped: largest difference {mx.abs(got - got_swapped).max().item():.1e}")
assert mx.allclose(got, got_swapped, atol=1e-5)


# %% [markdown]
# Both cats get the same weight, because their keys are the same. Swap *my* and *your*, and the last word gets what it got
# before. To this attention a text is a bag of words. It has to be told who stands where.
#
# ## 2. What you have
#
# Chapter 03's attention, in one list:
#
# - matrices turn the vector of each position into a **query** (what I look for), a **key** (what I offer) and a **value**
#   (what you get if you pick me);
# - the **score** of a query and a key is their dot product divided by $\sqrt{D}$, where $D$ is how many numbers each has;
# - the **causal mask** sets the scores of later positions to $-\infty$, and **softmax** turns the rest into weights;
# - the output is the mean of the values under these weights;
# - a **head** is one such lookup with a part of the numbers; a last matrix mixes what all heads found.
#
# As two functions, with the mask as an argument, on numbers small enough to follow:

# %%
def scores_of(q, k):
    """How well each query fits each key: (..., T, D), (..., S, D) -> (..., T, S)."""
    return q @ mx.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])


def attend(q, k, v, mask):
    """Mean of the values under each query's weights; mask: (T, S), True where it may look."""
    scores = mx.where(mask, scores_of(q, k), -mx.inf)
    return mx.softmax(scores, axis=-1) @ v


q = mx.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])  # (T, D): three positions, two numbers each
k = mx.array([[1.0, 2.0], [0.0, 3.0], [2.0, 0.0]])
v = mx.array([[10.0], [20.0], [30.0]])  # one number each: values may have another length
attended = attend(q, k, v, mx.tri(3) == 1)  # tri: 1 on and below the diagonal
print("q · k   ", (q @ k.T).tolist())
print("attended", [round(number, 2) for number in attended.flatten().tolist()])

# %% [markdown]
# Position 0 sees only itself and takes its value, 10. Position 1 fits keys 0 and 1 equally well (3 and 3) and gets 15.
#
# Is it chapter 03's attention? Take that class's matrices and its heads, and put `attend` in the middle.

# %%
x = mx.random.normal((5, 16))  # (T, C)
q, k, v = (old.heads(matrix(x)) for matrix in (old.wq, old.wk, old.wv))  # (H, T, D) each
mixed = mx.swapaxes(attend(q, k, v, mx.tri(5) == 1), 0, 1)  # (T, H, D)
assert mx.allclose(old.wo(mixed.reshape(x.shape)), old(x), atol=1e-3)
print("equal to chapter 03")

# %% [markdown]
# ## 3. Positions as rotations
#
# ### What a table of positions cannot do
#
# Chapter 03 told the cats apart: it added a learned vector for each place, from a table of `block_size` rows. So for a ninth place there is
# none:

# %%
model = MicroGPT(MicroGPTConfig())
try:
    model(mx.zeros(9, dtype=mx.int32))
except ValueError as error:
    print(error)


# %% [markdown]
# A larger table mends that. The other weakness stays: language is about "three back", not about "place 5 looks at place 2", and each
# row of a table is learned by itself.
#
# A small experiment shows it. In texts of random letters, say which letter stood three places back. One head can do that, if it
# learns where to look:

# %%
class Looker(nn.Module):
    """One head: ids (B, T) of 8 letters -> logits (B, T, 8).

    places: rows of a table of positions, 0 for none; turn: what to do with queries and keys.
    """

    def __init__(self, places=0, turn=None):
        super().__init__()
        self.wte = nn.Embedding(8, 32)
        self.wpe = nn.Embedding(places, 32) if places else None
        self.wq, self.wk, self.wv = (nn.Linear(32, 32, bias=False) for _ in range(3))
        self.lm_head = nn.Linear(32, 8, bias=False)
        self.turn = turn

    def look(self, ids):
        """The weights, (B, T, T), and the values, (B, T, 32)."""
        x, T = self.wte(ids), ids.shape[-1]
        x = x + self.wpe(mx.arange(T)) if self.wpe else x
        q, k = self.wq(x), self.wk(x)
        if self.turn:
            q, k = self.turn(q), self.turn(k)
        scores = mx.where(mx.tri(T) == 1, scores_of(q, k), -mx.inf)
        return mx.softmax(scores, axis=-1), self.wv(x)

    def __call__(self, ids):
        weights, values = self.look(ids)
        return self.lm_head(weights @ values)


# %%
def random_texts(length, key=None):
    return mx.random.randint(0, 8, (32, length), key=key)


def three_back_loss(model, ids):
    return nn.losses.cross_entropy(model(ids)[:, 3:], ids[:, :-3], reduction="mean")


def train_looker(seed, length=16, **positions):
    """A head trained on texts of `length` letters."""
    backend.seed_everything(seed)
    model, adam = Looker(**positions), optim.Adam(0.01, bias_correction=True)
    loss_and_grad = nn.value_and_grad(model, three_back_loss)
    for _ in range(budget(300, quick=5)):
        _, gradients = loss_and_grad(model, random_texts(length))
        adam.update(model, gradients)
        mx.eval(model.parameters(), adam.state)
    return model


# %% [markdown]
# Each head is then tested on new texts of 64 letters. The table has 64 rows, one for every place, but the last 48 never took part in
# training. *Longer* is the same table, trained on texts of 64 letters.

# %%
def right_at(model, length):
    """Share of right answers at each place from 3 on, in new texts."""
    ids = random_texts(length, key=mx.random.key(99))
    hits = mx.argmax(model(ids), axis=-1)[:, 3:] == ids[:, :-3]
    return np.array(hits.astype(mx.float32).mean(axis=0))


def report(name, heads):
    """Right answers in the trained places and beyond, one pair for each seed."""
    curves = [right_at(head, 64) for head in heads]
    pairs = [(curve[:13].mean(), curve[13:].mean()) for curve in curves]  # curve[0] is place 3
    print(f"{name:9s}", " | ".join(f"3–15: {near:.2f}, 16–63: {far:.2f}" for near, far in pairs))
    return curves, *zip(*pairs, strict=True)


nothing = [train_looker(seed) for seed in range(3)]
table = [train_looker(seed, places=64) for seed in range(3)]
nothing_curves, nothing_near, _ = report("nothing", nothing)
table_curves, table_near, table_far = report("table", table)
_, _, longer_far = report("longer", [train_looker(seed, 64, places=64) for seed in range(3)])

# %%
claim("without positions it is right less than half the time", max(nothing_near) < 0.5)
claim("with a table nearly always, at the places of training", min(table_near) > 0.95)
claim("and beyond them hardly more often than by chance, 1/8", max(table_far) < 0.25)
claim("unless the training texts are as long as those of the test", min(longer_far) > 0.95)

# %% [markdown]
# The table learned
# "three back" thirteen times, for places 3 to 15, and place 16 got nothing from it. It can learn every place, but it has to meet every
# place. (*Nothing* beats chance: it can name a letter that has been frequent so far.) Could the *distance* itself be in the score?
#
# ### One arrow, turned
#
# **Rotary positions** (RoPE) add nothing to the vectors. They turn queries and keys. Take a query of two numbers as an arrow on paper.
# At position $p$ it is turned clockwise by the angle $\theta = p \cdot \text{speed}$:
#
# $$ y_1 = x_1 \cos\theta + x_2 \sin\theta, \qquad y_2 = -x_1 \sin\theta + x_2 \cos\theta $$
#
# Here $(x_1, x_2)$ is the arrow before and $(y_1, y_2)$ after. Let it point up, $(0, 1)$, and turn it a quarter for each
# position:

# %%
x1, x2 = 0.0, 1.0
for position in range(4):
    theta = position * math.pi / 2
    y1 = x1 * math.cos(theta) + x2 * math.sin(theta)
    y2 = -x1 * math.sin(theta) + x2 * math.cos(theta)
    print(f"position {position}: ({round(y1):2d}, {round(y2):2d})")
    assert math.isclose(y1**2 + y2**2, x1**2 + x2**2)  # as long as before

# %% [markdown]
# Up, right, down, left, like the hand of a clock.
#
# ### Only the difference counts
#
# The dot product of two arrows is $|q|\,|k|$ times the cosine of the angle between them. Call that angle $\varphi$ before anything turns, counted clockwise from key to query: −74° in the first picture, where the query is behind the key.
# The query at position $m$ turns by $m$ steps, the key at position $n$ by $n$, in the same direction. So the angle between them
# changes by the difference:
#
# $$ q \cdot k = |q|\,|k| \cos\bigl(\varphi + (m - n) \cdot \text{speed}\bigr) $$
#
# The positions $m$ and $n$ are gone; $m - n$ is left. One query and one key, before they turn and at two
# pairs of positions that are three apart:

# %%
pairs = [(0, 0), (5, 2), (15, 12)]
draw_heads.draw_turns(query=2.2, key=0.9, speed=0.3, pairs=pairs)
for m, n in pairs:
    q_angle, k_angle = 2.2 - 0.3 * m, 0.9 - 0.3 * n
    dot = math.cos(q_angle) * math.cos(k_angle) + math.sin(q_angle) * math.sin(k_angle)
    print(f"query at {m:2d}, key at {n:2d}: dot product {dot:.4f}")
    assert math.isclose(dot, math.cos((0.9 - 2.2) + (m - n) * 0.3))


# %% [markdown]
# Here the speed is 0.3, or 17° a position. Three positions apart, the query gains 3 · 17° on the key: −74° + 51° is −23°, in the second picture as in the third.
#
# ### Many arrows, many speeds
#
# One hand is not enough: a quarter turn for each position cannot tell 1 back from 5 back. A clock has several hands. A
# vector of $D$ numbers is cut into $D/2$ pairs, and pair $i$ turns at a speed of its own:
#
# $$ \theta_i = \frac{p}{w_i}, \qquad w_i = \text{base}^{\,2i/D}, \qquad i = 0, 1, \ldots, D/2 - 1 $$
#
# The speed is now $1/w_i$, the **frequency** of the pair. Angles are in radians, 2π to the turn. So $w_i$, the **inverse frequency**, is the
# number of positions for one radian, and a whole turn takes $2\pi w_i$ positions. (Others call $1/w_i$ `inv_freq`; MLX calls $w_i$ `freqs`.) The base is usually 10,000, as in nanochat
# (October 2025); newer versions take 100,000.

# %%
#| export model.attention
def inverse_frequencies(head_dim: int, base: float = 10000.0) -> mx.array:
    """Positions per radian of rotation for each pair of numbers: (head_dim / 2,), 1 … below `base`.

    A whole turn takes 2π times as many.
    Raises CourseError for an odd head_dim.
    """
    if head_dim < 2 or head_dim % 2:
        raise CourseError(
            f"head_dim={head_dim}: rotary positions turn pairs of numbers; make it an even number"
        )
    return base ** (mx.arange(0, head_dim, 2, dtype=mx.float32) / head_dim)


# %%
w8 = inverse_frequencies(8)
print([round(w, 3) for w in w8.tolist()])
assert mx.allclose(w8, mx.array([1.0, 10.0, 100.0, 1000.0]))


# %% [markdown]
# Which numbers make a pair? In nanochat it is number $i$ of the first half with number $i$ of the second:
# $(x_i, x_{i+D/2})$. Others pair neighbours; exercise 7.4 shows what happens if you mix them up. In code, all pairs at once:

# %%
def naive_rotate(x, w, offset=0):
    """Turn each pair (x[i], x[i + D/2]) clockwise; the first row of x stands at `offset`."""
    positions = mx.arange(offset, offset + x.shape[-2])
    theta = positions[:, None] / w  # (T, D/2)
    cos, sin = mx.cos(theta), mx.sin(theta)
    x1, x2 = mx.split(x, 2, axis=-1)  # (..., T, D/2) each
    return mx.concatenate([x1 * cos + x2 * sin, x2 * cos - x1 * sin], axis=-1)


up = mx.concatenate([mx.zeros((8, 4)), mx.ones((8, 4))], axis=-1)  # (T, D): all four arrows up
w_fast = inverse_frequencies(8, base=100)  # so that the slow ones move at all
draw_heads.draw_clocks(naive_rotate(up, w_fast), [2 * math.pi * w for w in w_fast.tolist()])

# %% [markdown]
# The first hand takes about six positions for a turn and tells neighbours apart. The last takes nearly two hundred and tells near from
# far.
#
# nanochat's model **d12** has 12 layers of 6 heads of 128 numbers, so 64 pairs in each head. How fast do they turn? Its longest
# text is 2,048 positions, the dashed line.

# %%
turns = [2 * math.pi * w for w in inverse_frequencies(128).tolist()]  # positions for a turn
figure, ax = plt.subplots(figsize=(5.5, 3))
ax.semilogy(turns, "o", markersize=3, color=BLUE)
ax.axhline(2048, linestyle="--", color=ORANGE)
ax.text(1, 2600, "2,048 positions", color=ORANGE)
ax.set_xlabel("pair")
ax.set_ylabel("positions for one turn")
plt.show()
slow = sum(turn > 2048 for turn in turns)
print(f"from {turns[0]:.1f} to {turns[-1]:,.0f} positions; {slow} of 64 do not get round once")

# %% [markdown]
# The pairs high above the dashed line hardly turn within a text. There query and key are compared almost unrotated, so that part of
# the score depends on content and hardly on place. The pairs at the bottom tell one place from the next.
#
# Does only the difference count with many pairs, too? Here are 32. A random query and a random key, at several places:

# %%
w64 = inverse_frequencies(64)
query, key = mx.random.normal((1, 64)), mx.random.normal((1, 64))
for distance in (0, 3, 20):
    row = [
        scores_of(naive_rotate(query, w64, start + distance), naive_rotate(key, w64, start)).item()
        for start in (0, 7, 100, 1000)
    ]
    print(f"distance {distance:2d}:", *(f"{score:8.4f}" for score in row))
    assert max(row) - min(row) < 1e-2

# %% [markdown]
# Each line is one distance, at four places in the text. It repeats one number, up to rounding.
#
# ### What it buys
#
# Now the head that looks three back, with rotations in place of the table. How can it prefer one distance? The cosine of a pair is largest where
# $\varphi + (m - n) \cdot \text{speed} = 0$. So `wq` and `wk` have only to learn $\varphi = -3 \cdot \text{speed}$ in each pair. At distance 3 all cosines are then 1 together; at other distances fast and slow hands
# disagree, and the sum is smaller. Seeds, steps and texts of 16 letters are as before.

# %%
w32 = inverse_frequencies(32)
rotations = [train_looker(seed, turn=lambda x: naive_rotate(x, w32)) for seed in range(3)]
rotation_curves, rotation_near, rotation_far = report("rotations", rotations)
claim("with rotations it is nearly always right, trained places or not", min(rotation_far) > 0.9)

# %%
figure, ax = plt.subplots(figsize=(6.5, 3))
for curves, name, style in (
    (rotation_curves, "rotations", {"color": BLUE}),
    (table_curves, "table", {"color": ORANGE, "linestyle": "--"}),
    (nothing_curves, "nothing", {"color": "#777777", "linestyle": ":"}),
):
    ax.plot(range(3, 64), np.mean(curves, axis=0), label=name, **style)
ax.axvspan(3, 15, color="#eef4f9")
ax.text(9, 1.05, "in training", ha="center")
ax.set(xlabel="place", ylabel="right answers, mean of 3 seeds", ylim=(0, 1.15))
ax.legend(frameon=False, loc="center right")
plt.show()

# %% [markdown]
# And here is where the trained heads look, in one text of 32 letters. (Training texts ended at the dotted line.)

# %%
text = random_texts(32, key=mx.random.key(99))[:1]
looks = {"table": table[0].look(text)[0][0], "rotations": rotations[0].look(text)[0][0]}
draw_heads.draw_looks(looks, trained_up_to=16)
given = {name: np.diagonal(np.array(grid), -3) for name, grid in looks.items()}
for name, part in given.items():
    near, far = part[:13].mean(), part[13:].mean()
    print(f"{name:9s} weight 3 back: {near:.2f} to place 15, then {far:.2f}")
claim("the table's head is lost beyond place 15", given["table"][13:].mean() < 0.3)
claim("that of the rotations is not", given["rotations"][13:].mean() > 0.9)

# %% [markdown]
# The dark line beside the diagonal is "three back". On the left it ends with the
# training texts, and below it the head looks at places that it knows, and not at the one three back. On the right it goes on: what was learned at one place holds later,
# but the curve above begins to dip at the end.
#
# For how long? The same three heads, in texts of 512 letters:

# %%
long_texts, far_right, far_weight = random_texts(512, key=mx.random.key(99)), [], []
for seed, head in enumerate(rotations):
    curve = right_at(head, 512)  # curve[0] is place 3
    shares = [curve[first - 3 : last - 2].mean() for first, last in ((16, 31), (256, 511))]
    print(f"seed {seed}: places 16–31 {shares[0]:.2f}, 256–511 {shares[1]:.2f}")
    weights = head.look(long_texts)[0][:, -1]  # (B, T): where place 511 looks
    far_right.append(shares[1])
    far_weight.append(weights[:, :-16].sum(axis=-1).mean().item())
print("place 511 looks more than 15 back with", *(f"{share:.2f}" for share in far_weight))
claim("at sixteen times the length of training it is often wrong", max(far_right) < 0.9)
claim("there most weight goes to distances that training never had", min(far_weight) > 0.5)


# %% [markdown]
# No training text asked the head *not* to look 200 back. Some of those distances fit by chance, and hundreds of them add up. So a
# model that has been trained on 2,048 positions computes *something* at 5,000, and often nothing good.
#
# ### The fast one
#
# From here on arrays have four axes, as `mx.fast` wants them: (B, H, T, D) for B texts, H heads, T positions, D numbers.
# `mx.fast.rope` is MLX's own rotation; on a GPU it is one kernel (a program that the GPU runs). It turns counter-clockwise,
# and its `freqs` are our inverse frequencies, with a minus sign to turn clockwise. They
# take the place of a `base`.

# %%
#| export model.attention
def rotate(x: mx.array, w: mx.array, offset: int | mx.array = 0) -> mx.array:
    """Turn each pair (x[i], x[i + D/2]) by -position / w[i] radians (RoPE: Su et al., 2021).

    x: (B, H, T, D), whose first position is `offset`, or (B,) of them, one for each text;
    w: (D/2,), the inverse frequencies. Sign and halves are those of nanochat (October 2025).
    """
    return mx.fast.rope(
        x, x.shape[-1], traditional=False, base=None, scale=1.0, offset=offset, freqs=-w
    )


# %% [markdown]
# Two checks from outside: our naive rotation, and MLX's layer `nn.RoPE`, made to turn the other way by `scale=-1`.

# %%
gaps = []
for head_dim, offset in ((8, 5), (64, 5), (128, 0), (128, 1000)):
    w, sample = inverse_frequencies(head_dim), mx.random.normal((2, 3, 7, head_dim))
    of_mlx = nn.RoPE(head_dim, scale=-1.0)(sample, offset)
    for other in (naive_rotate(sample, w, offset), of_mlx):
        gaps.append(mx.abs(rotate(sample, w, offset) - other).max().item())
print(f"largest difference {max(gaps):.1e}")
assert max(gaps) < 1e-2


# %% [markdown]
# ## 4. QK norm
#
# Chapter 03 put an RMSNorm before attention: it divides a vector by the root of the mean of its squares. nanochat puts one
# on every query and key as well, just before the scores. As a function, without weights:

# %%
#| export model.attention
def rms_norm(x: mx.array, eps: float = 1e-5) -> mx.array:
    """x / sqrt(mean(x²) + eps) over the last axis, no weight (Zhang and Sennrich, 2019)."""
    return mx.fast.rms_norm(x, None, eps)


# %%
def naive_norm(x, eps=1e-5):
    return x / mx.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)


print([round(number, 4) for number in rms_norm(mx.array([3.0, 4.0])).tolist()])
sample = mx.random.normal((100, 128))
assert mx.allclose(naive_norm(sample), rms_norm(sample), atol=1e-4)

# %% [markdown]
# ### What it prevents
#
# Training may make `wq` and `wk` larger. If both grow by a factor $s$, every score grows by $s^2$, and softmax of large scores
# gives nearly everything to the largest: it **saturates**. What do the queries then still learn?
#
# Try it: 500 queries with 16 keys each, for growing $s$. In place of a loss take a sum of the weights with random factors. Its
# gradient with respect to each query is what `wq` learns from. How long is it? We print the median (the typical query) and what 99 of 100 queries stay below (the extreme one).

# %%
one_query, keys = mx.random.normal((500, 1, 32)), mx.random.normal((500, 16, 32))
factors = mx.random.normal((500, 1, 16))


def saturation(s, norm):
    """The largest weight of each query, and the length of its gradient: (500,) each."""

    def weights(q):
        return mx.softmax(scores_of(norm(q), norm(s * keys)), axis=-1)  # (500, 1, 16)

    gradient = mx.grad(lambda q: (weights(q) * factors).sum())(s * one_query)
    largest, lengths = weights(s * one_query).max(axis=-1), mx.linalg.norm(gradient, axis=-1)
    return np.array(largest).flatten(), np.array(lengths).flatten()


sizes = [0.5, 1, 2, 4, 8, 16]
plain = {s: saturation(s, norm=lambda x: x) for s in sizes}
normed = {s: saturation(s, norm=rms_norm) for s in sizes}


def quantiles(runs, share):
    """For each s the length of gradient that `share` of the queries stay below."""
    return {s: np.quantile(lengths, share) for s, (_, lengths) in runs.items()}


# %%
half, most = quantiles(plain, 0.5), quantiles(plain, 0.99)
half_normed, most_normed = quantiles(normed, 0.5), quantiles(normed, 0.99)
print("   s | plain: median    99 % | normed: median    99 %")
for s in sizes:
    print(f"{s:4} | {half[s]:13.4f} {most[s]:7.4f} | {half_normed[s]:14.4f} {most_normed[s]:7.4f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2))
for runs, name, style in ((plain, "plain", "o"), (normed, "normed", "s")):
    color = ORANGE if runs is plain else BLUE
    means = [largest.mean() for largest, _ in runs.values()]
    axes[0].plot(sizes, means, style + "-", color=color, label=name)
    for share, label, line in ((0.99, "99 %", "--"), (0.5, "median", "-")):
        lengths = list(quantiles(runs, share).values())
        axes[1].plot(sizes, lengths, style + line, color=color, label=f"{name}, {label}")
axes[0].axhline(1 / 16, color="#777777", linestyle=":", label="even: 1/16")
axes[0].set(ylim=(0, 1.05), ylabel="largest weight, mean")
axes[1].set(yscale="log", ylim=(1e-4, 20), ylabel="gradient of a query, length")
for ax in axes:
    ax.set_xscale("log", base=2)
    ax.set_xlabel("s, the size of queries and keys")
axes[0].legend(frameon=False)
axes[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
figure.tight_layout()
plt.show()

# %%
claim("plain: from s = 1 to 8 the median falls to less than a hundredth", half[8] < half[1] / 100)
claim("while the 99 % more than doubles", most[8] > 2 * most[1])
largest, lengths = plain[8]
of_those_few = largest[lengths > most[8]]
claim("those few have no clear favourite", max(of_those_few) < 0.95 < np.median(largest))
apart = [most_normed[s] / half_normed[s] for s in sizes]
claim("normed: the 99 % is two to three times the median", 2 < min(apart) < max(apart) < 3)
falls = [runs[s] * s / runs[1] for runs in (half_normed, most_normed) for s in sizes]
claim("and both fall as 1/s", max(abs(fall - 1) for fall in falls) < 0.02)

# %% [markdown]
# On the left, the plain softmax saturates. On the right, the plain gradient grows up to s = 2; then its median collapses. Without the norm most queries soon get nothing at all, and a few, which have
# no clear favourite, get a great deal. With the norm all queries stay together. Their gradient does get smaller,
# as $1/s$: only the direction of a query counts now, and a longer arrow has to be pushed further to turn by the same angle.
#
# Chapter 08 measures whether that lowers the loss.
#
# ### A bound
#
# After the norm the mean of the squares of a query is 1, so its length is $|q| = \sqrt{D}$, and so is that of a key. A dot
# product is at most the product of the lengths, $D$. Divided by $\sqrt{D}$:
#
# $$ \left|\frac{q \cdot k}{\sqrt{D}}\right| \le \sqrt{D} $$
#
# No training can push a score beyond that. A key that points exactly as its query reaches it:

# %%
for head_dim in (4, 64, 128):
    q_huge = 1000 * mx.random.normal((1, 1, 200, head_dim))
    k_huge = mx.concatenate([q_huge, mx.random.normal((1, 1, 200, head_dim))], axis=2)
    largest = mx.abs(scores_of(rms_norm(q_huge), rms_norm(k_huge))).max().item()
    print(f"D={head_dim:3d}: largest score {largest:7.4f}, bound {math.sqrt(head_dim):7.4f}")
    assert math.isclose(largest, math.sqrt(head_dim), rel_tol=1e-2)

# %% [markdown]
# So size can no longer saturate the softmax. Direction still can, and a head may choose sharply: one key that fits, among 15 random ones.

# %%
asks, offers = (rms_norm(mx.random.normal((500, n, 128))) for n in (1, 16))
one_fits = mx.concatenate([asks, offers[:, 1:]], axis=1)  # one key points exactly as its query
sharpest = []
for name, some in (("16 random keys", offers), ("one key fits", one_fits)):
    sharpest.append(mx.softmax(scores_of(asks, some), axis=-1).max(axis=-1).mean().item())
    print(f"{name:14s} largest weight {sharpest[-1]:.4f}")
claim("a head with QK norm can still choose", sharpest[0] < 0.5 and sharpest[1] > 0.9)

# %% [markdown]
# Rotate first or norm first? A rotation keeps lengths, so it makes no difference. nanochat rotates first. (Newer versions
# then multiply queries and keys by 1.2, which raises the bound.)

# %%
q = mx.random.normal((1, 2, 10, 64))
assert mx.allclose(rms_norm(rotate(q, w64)), rotate(rms_norm(q), w64), atol=1e-3)


# %% [markdown]
# ## 5. One function for training and for writing
#
# In training a model gets a whole text and predicts at every position at once. When it writes, it gets one new token at a
# time. Must it compute everything before that token again?
#
# No. Under the causal mask the keys and values of old positions cannot change when something is added after them. So they are
# kept, in a **KV cache**. Ours needs two things: `offset`, how many positions it
# holds, and `update_and_fetch(k, v)`, which takes the new keys and values and returns all of them.

# %%
class TinyCache:
    """Keys and values of all positions so far, of one layer."""

    def __init__(self):
        self.offset, self.kept = 0, None

    def update_and_fetch(self, k, v):
        if self.kept is not None:
            k, v = (mx.concatenate(pair, axis=2) for pair in zip(self.kept, (k, v), strict=True))
        self.offset, self.kept = k.shape[2], (k, v)
        return k, v


# %% [markdown]
# ### The mask with more keys than queries
#
# Now there can be fewer queries than keys: 3 new tokens after 2 in the cache are T = 3 queries on S = 5 keys. The *last*
# query belongs to the *last* key. So query $t$, counted from 0, stands at position $S - T + t$ and may see the keys up to there: the mask is
# aligned at the end.

# %%
def visible(T, S):
    """Which of S keys each of the last T positions may see: (T, S), True or False."""
    return mx.arange(S) <= mx.arange(S - T, S)[:, None]


wrong = mx.tri(3, 5) == 1
draw_heads.draw_masks({"aligned at the end: right": visible(3, 5), "at the start: wrong": wrong})

# %% [markdown]
# Aligned at the start, the query at position 2 would see neither itself nor the key before it. MLX's attention, with `mask="causal"`, aligns
# at the end as well:

# %%
q, k, v = mx.random.normal((3, 1, 2, 5, 64))
last = q[:, :, 2:]  # three queries, five keys
of_mlx = mx.fast.scaled_dot_product_attention(last, k, v, scale=64**-0.5, mask="causal")
assert mx.allclose(attend(last, k, v, visible(3, 5)), of_mlx, atol=1e-2)
assert mx.allclose(attend(q, k, v, visible(5, 5))[:, :, 2:], of_mlx, atol=1e-2)
print("three queries on five keys: the same as the last three outputs of the whole text")


# %% [markdown]
# ### Rotate, norm, keep, attend
#
# The whole path, with a cache or without. New positions count on from `offset`. A key is turned once, at its own position,
# and kept turned.

# %%
def look_back(q, k, v, cache=None):
    """Attention of new positions to themselves and to all that the cache holds."""
    offset = 0 if cache is None else cache.offset
    q, k = (naive_norm(naive_rotate(a, w64, offset)) for a in (q, k))
    if cache is not None:
        k, v = cache.update_and_fetch(k, v)
    return attend(q, k, v, visible(q.shape[2], k.shape[2]))


q, k, v = mx.random.normal((3, 1, 6, 10, 64))
whole = look_back(q, k, v)  # as in training


# %%
def in_chunks(lengths):
    cache, outputs, start = TinyCache(), [], 0
    for length in lengths:
        chunk = slice(start, start + length)
        outputs.append(look_back(q[:, :, chunk], k[:, :, chunk], v[:, :, chunk], cache))
        start += length
    return mx.concatenate(outputs, axis=2)


for lengths in ([10], [1] * 10, [5, 1, 1, 1, 1, 1], [4, 4, 2]):
    gap = mx.abs(in_chunks(lengths) - whole).max().item()
    print(f"{str(lengths):32s} largest difference {gap:.1e}")
    assert gap < 1e-2

# %% [markdown]
# At once, one by one, a prompt in one piece (**prefill**) and then token by token (**decoding**), or in chunks: the same
# numbers each time. That is the test that a cache has to pass. It can only pass because no position sees a later one. Change position $t$, and no output before $t$ may change:

# %%
for t in range(10):
    here = mx.arange(10)[:, None] == t  # (T, 1)
    changed = look_back(*(mx.where(here, a + 1, a) for a in (q, k, v)))
    same_before = mx.allclose(changed[:, :, :t], whole[:, :, :t], atol=1e-4)
    assert same_before, f"a position before {t} saw it"
    assert not mx.allclose(changed[:, :, t], whole[:, :, t], atol=1e-2)
print("no position sees a later one")


# %% [markdown]
# ## 6. Fewer heads of keys and values
#
# What does a cache cost? For each token, each layer keeps a key and a value (2) for each head, of `head_dim` numbers each. A number
# takes 2 bytes in bfloat16, the type in which GPUs compute. For d12 that comes to

# %% tags=["nbval-check-output"]
def cache_bytes(n_layer, n_kv_head, head_dim=128):
    """Bytes of keys and values for one token."""
    return 2 * n_layer * n_kv_head * head_dim * 2


print(f"{cache_bytes(12, 6):,} bytes a token, {2048 * cache_bytes(12, 6) / 1e6:.0f} MB for 2,048")

# %% [markdown]
# Each conversation needs its own, and for every new token all of it is read. So several query heads share one head of keys and
# values, a **kv head**:
#
# - **MHA**, multi-head attention: each query head has its own, as in chapter 03;
# - **GQA**, grouped-query attention: groups share one;
# - **MQA**, multi-query attention: all share a single one.

# %%
draw_heads.draw_groups(6, {"MHA: 6 kv heads": 6, "GQA: 2 kv heads": 2, "MQA: 1 kv head": 1})

# %% [markdown]
# Query head $h$ reads kv head $h \,//\, (\text{n\_head} / \text{n\_kv\_head})$: neighbours share. The simple way repeats each kv
# head in place, once for each query head of its group, and then it is MHA again. Tiling the whole row instead pairs heads 1 and 4 with the wrong
# kv head:

# %% tags=["nbval-check-output"]
kv_heads = mx.array([0, 1])
print("each in place ", mx.repeat(kv_heads, 3).tolist())
print("the whole row ", mx.tile(kv_heads, 3).tolist(), "(wrong)")
assert mx.repeat(kv_heads, 3).tolist() == [h // (6 // 2) for h in range(6)]

# %% [markdown]
# `mx.fast.scaled_dot_product_attention` takes fewer kv heads as they are:

# %%
q, causal = mx.random.normal((1, 6, 10, 64)), visible(10, 10)  # 6 query heads
for n_kv_head in (6, 3, 2, 1):
    k, v = mx.random.normal((2, 1, n_kv_head, 10, 64))
    fast = mx.fast.scaled_dot_product_attention(q, k, v, scale=64**-0.5, mask="causal")
    group = 6 // n_kv_head
    repeated = attend(q, mx.repeat(k, group, axis=1), mx.repeat(v, group, axis=1), causal)
    assert mx.allclose(fast, repeated, atol=1e-2)
    tiled = attend(q, *(mx.tile(a, (1, group, 1, 1)) for a in (k, v)), causal)
    assert mx.allclose(fast, tiled, atol=1e-2) == (n_kv_head in (1, 6))
print("in place: equal for 6, 3, 2 and 1 kv heads; tiled: for 6 and 1 only")

# %% [markdown]
# ### What it saves
#
# The memory of one conversation with a model like d12, over its length. (d12 itself stops at 2,048; today's models go much further.) The
# dotted line is the model itself in bfloat16, 185.6 million parameters (chapter 08 counts them):

# %%
lengths = [1024 * n for n in range(17)]
figure, ax = plt.subplots(figsize=(6.5, 3.3))
kinds = ((6, "MHA", BLUE), (3, "GQA", "#009E73"), (2, "GQA", "#CC79A7"), (1, "MQA", ORANGE))
for n_kv_head, kind, color in kinds:
    megabytes = [length * cache_bytes(12, n_kv_head) / 1e6 for length in lengths]
    ax.plot(lengths, megabytes, color=color)
    ax.text(16_700, megabytes[-1], f"{kind}, kv heads: {n_kv_head}", color=color, va="center")
ax.axhline(185.6e6 * 2 / 1e6, color="#777777", linestyle=":")
ax.text(300, 390, "the model itself", color="#777777")
ax.set(xlabel="tokens in the conversation", ylabel="MB of keys and values", xlim=(0, 22_500))
ax.set_xticks([0, 4096, 8192, 12_288, 16_384])
ax.xaxis.set_major_formatter("{x:,.0f}")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
print(f"MHA takes as much as the model at {185.6e6 * 2 / cache_bytes(12, 6):,.0f} tokens")

# %% [markdown]
# A server that talks to a hundred people holds a hundred such caches. With 2 kv heads in place of 6 it has room for three times as many.
#
# The number of kv heads has to divide the number of heads.
#
# What does sharing cost? The papers at the end find a small loss in quality for GQA and a larger one for MQA. At our sizes the cache is
# no burden, so we keep nanochat's default, MHA.
#
# ## 7. MLX's own attention
#
# `attend` writes down all the scores, T × T numbers for each head. For one text of 2,048 tokens and the 6 heads of d12, in
# float32:

# %% tags=["nbval-check-output"]
print(f"{6 * 2048 * 2048 * 4 / 1e6:.0f} MB in each layer")


# %% [markdown]
# **FlashAttention** (further reading) goes through the keys in blocks and keeps a running maximum, sum and mean for each
# query. The result is the same softmax, but the T × T numbers are never all in memory. `mx.fast.scaled_dot_product_attention`
# has kernels of this kind for GPUs. On a CPU it takes the same steps as `attend`.

# %%
def naive_attend(q, k, v):
    return attend(q, k, v, visible(q.shape[2], k.shape[2]))


def fast_attend(q, k, v):
    scale = q.shape[-1] ** -0.5
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal")


q, k, v, direction = mx.random.normal((4, 1, 6, 10, 64))
assert mx.allclose(naive_attend(q, k, v), fast_attend(q, k, v), atol=1e-2)
ours, theirs = (
    mx.grad(lambda *qkv, f=f: (f(*qkv) * direction).sum(), argnums=(0, 1, 2))(q, k, v)
    for f in (naive_attend, fast_attend)
)
for name, mine, other in zip("qkv", ours, theirs, strict=True):
    print(f"gradient of {name}: largest difference {mx.abs(mine - other).max().item():.1e}")
    assert mx.abs(mine - other).max() < 1e-2 * mx.abs(other).max()


# %% [markdown]
# And is it faster? A stopwatch is easily disturbed, so the two take turns, and we compare the medians:

# %%
def time_ratio(one, other, *arrays):
    """The median time of `one` over that of `other`, functions of the arrays; they take turns."""
    times = ([], [])
    for _ in range(budget(25, quick=3) + 1):
        for function, seconds in zip((one, other), times, strict=True):
            started = time.perf_counter()
            mx.eval(function(*arrays))
            seconds.append(time.perf_counter() - started)
    return median(times[0][1:]) / median(times[1][1:])  # the first turn warms up


# %%
for T in (128, 256, 512):
    q, k, v = mx.random.normal((3, 1, 6, T, 128))
    ratio = time_ratio(naive_attend, fast_attend, q, k, v)
    print(f"T={T:4d}: naive takes {ratio:.2f} times as long")
claim("at the longest, MLX's own is not much slower", ratio > 0.6)
if backend.device_kind() == "cpu":
    claim("and on a CPU not the faster one: the ratio is about 1", ratio < 1.7)


# %% [markdown]
# ## 8. The class
#
# **Linear.** A model keeps its weights in float32, since small updates would be lost in bfloat16. A GPU multiplies faster in
# bfloat16. So at each product the weight is cast to the type of the input, and itself stays as it is: `project(x, weight)` is
# `x @ weight.astype(x.dtype).T`.

# %%
#| export model.attention
class Linear(nn.Linear):
    """y = x Wᵀ without a bias, computed in the type of x; the weight (out, in) keeps its own."""

    def __init__(self, input_dims: int, output_dims: int):
        super().__init__(input_dims, output_dims, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return project(x, self.weight)


# %% tags=["nbval-check-output"]
linear = Linear(16, 8)
x = mx.ones((2, 16), dtype=mx.bfloat16)
assert mx.array_equal(linear(x), x @ linear.weight.astype(x.dtype).T)
print(linear(x).dtype, linear.weight.dtype)


# %% [markdown]
# **CausalSelfAttention** takes five steps: make queries, keys and values, cut into heads; rotate and norm queries and keys;
# hand keys and values to the cache, if any; attend; put the heads side by side and mix them. Its matrices have nanochat's names:
# `c_q`, `c_k`, `c_v`, and `c_proj` for what was `wo`. The mask is `"causal"`, or none for a single query, which may see every
# key. `causal_mask` says so (`model/mask.py`).

# %%
#| export model.attention
class CausalSelfAttention(nn.Module):
    """Attention of `n_head` query heads to `n_kv_head` heads of keys and values.

    (B, T, n_embd) -> the same. n_kv_head: n_head for MHA, a divisor of it for GQA, 1 for MQA; query
    head h reads kv head h // (n_head / n_kv_head).
    Raises CourseError for numbers that do not divide, or an odd n_embd / n_head.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        n_kv_head: int,
        rope_base: float = 10000.0,
        norm_eps: float = 1e-5,
    ):
        super().__init__()
        if min(n_embd, n_head, n_kv_head) < 1 or n_embd % n_head or n_head % n_kv_head:
            raise CourseError(
                f"n_embd={n_embd}, n_head={n_head}, n_kv_head={n_kv_head}: expected n_embd to be a "
                "multiple of n_head, and n_head a multiple of n_kv_head; change one of them"
            )
        self.head_dim, self.norm_eps = n_embd // n_head, norm_eps
        self.scale = self.head_dim**-0.5
        self.c_q = Linear(n_embd, n_head * self.head_dim)
        self.c_k = Linear(n_embd, n_kv_head * self.head_dim)
        self.c_v = Linear(n_embd, n_kv_head * self.head_dim)
        self.c_proj = Linear(n_embd, n_embd)
        # The underscore keeps these out of the parameters: not trained, counted or saved.
        self._inverse_frequencies = inverse_frequencies(self.head_dim, rope_base)


# %%
#| export model.attention
@add_to(CausalSelfAttention)
def __call__(self, x: mx.array, cache=None) -> mx.array:
    """x: (B, T, n_embd), the T positions after those that the cache holds.

    cache: keeps keys and values: `offset`, `update_and_fetch(k, v)`; None for a whole text. Its
    offset is an int, or (B,) where the texts of a batch have different lengths.
    """
    return self.mix(*self.heads(x), cache)


@add_to(CausalSelfAttention)
def heads(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Queries, keys and values of x (B, T, n_embd): (B, heads, T, head_dim) each."""
    linears = self.c_q, self.c_k, self.c_v
    return tuple(
        linear(x).reshape(*x.shape[:2], -1, self.head_dim).transpose(0, 2, 1, 3)
        for linear in linears
    )


@add_to(CausalSelfAttention)
def mix(self, q: mx.array, k: mx.array, v: mx.array, cache=None) -> mx.array:
    """(B, T, n_embd) of queries, keys and values as `heads` makes them."""
    offset, T = 0 if cache is None else cache.offset, q.shape[2]
    q, k = (rms_norm(rotate(a, self._inverse_frequencies, offset), self.norm_eps) for a in (q, k))
    if cache is not None:
        k, v = cache.update_and_fetch(k, v)  # (B, n_kv_head, S, D)
    mask = self.mask(cache, offset, T, k.shape[2])
    y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale, mask=mask)  # (B, H, T, D)
    return self.c_proj(y.transpose(0, 2, 1, 3).flatten(2))


@add_to(CausalSelfAttention)
def mask(self, cache, offset: int | mx.array, T: int, S: int) -> str | mx.array | None:
    """What T queries may see of S keys."""
    return causal_mask(offset, T, S)


# %% [markdown]
# The check: its four matrices and the naive functions of the sections above, for MHA, GQA and MQA, at once and token by token.

# %%
def naive_layer(layer, x):
    """What the class computes, by hand; 6 query heads of 64."""
    q, k, v = (
        mx.swapaxes((x @ matrix.weight.T).reshape(*x.shape[:2], -1, 64), 1, 2)
        for matrix in (layer.c_q, layer.c_k, layer.c_v)
    )
    k, v = (mx.repeat(a, 6 // a.shape[1], axis=1) for a in (k, v))
    mixed = mx.swapaxes(look_back(q, k, v), 1, 2)  # (B, T, H, D)
    return mixed.reshape(x.shape) @ layer.c_proj.weight.T


x = mx.random.normal((2, 10, 384))  # (B, T, C)
for n_kv_head in (6, 2, 1):
    layer = CausalSelfAttention(384, n_head=6, n_kv_head=n_kv_head)
    whole, cache = layer(x), TinyCache()
    assert mx.allclose(whole, naive_layer(layer, x), atol=1e-2)
    one_by_one = mx.concatenate([layer(x[:, t : t + 1], cache) for t in range(10)], axis=1)
    assert mx.allclose(whole, one_by_one, atol=1e-2)
print("equal to the naive one, at once and one by one: MHA, GQA, MQA")

# %% [markdown]
# The hardest check stands outside this notebook, since it needs one more library. `tests/test_attention.py` loads the four matrices into the
# nanochat attention of mlx-lm, MLX's library of language models. Outputs must agree to 2e-5, with and without its own KV cache.
#
# What is the cache worth? Without it, every new token sends the whole text through the matrices again; with it, only
# the new token goes through. One layer of d12, after 64, 256 and 1,024 tokens:

# %%
layer = CausalSelfAttention(768, n_head=6, n_kv_head=6)
for n in (64, 256, budget(1024, quick=512)):
    text, full = mx.random.normal((1, n + 1, 768)), TinyCache()
    mx.eval(layer(text[:, :n], full), layer.parameters())

    def next_token(text, full=full):
        return layer(text[:, -1:], copy.copy(full))

    ratio = time_ratio(layer, next_token, text)
    print(f"after {n:5,d} tokens: {ratio:6.1f} times as long without the cache")
least = 5 if backend.device_kind() == "cpu" else 0.8  # so little hardly keeps a GPU busy
claim(f"at the end at least {least} times", ratio > least)

# %% [markdown]
# Not a thousand times: for one token all weights must still be read, and `TinyCache` copies what it holds (chapter 12).
#
# What is in the class, in the size of d12's layers?

# %% tags=["nbval-check-output"]
for n_kv_head in (6, 2, 1):
    parameters = tree_flatten(CausalSelfAttention(768, 6, n_kv_head).parameters())
    print(f"n_kv_head={n_kv_head}: {sum(array.size for _, array in parameters):9,d} parameters")
print([name for name, _ in parameters])


# %% [markdown]
# Four matrices and nothing else.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/07_attention_solutions.ipynb](solutions/07_attention_solutions.ipynb).
#
# ### Exercise 7.1 — share without copies
#
# 15 minutes, ●●○. Repeating the kv heads makes copies of what was to be saved. Write `grouped_attend(q, k, v, mask)`: the result of
# `attend` for q (B, n_head, T, D) and k, v (B, n_kv_head, S, D), without `mx.repeat` or `mx.tile`.
#
# <details><summary>Hint 1</summary>
#
# Arrays are stretched along an axis of length 1 when they meet a longer one. Which axis do the query heads of one group need?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Reshape q to (B, n_kv_head, group, T, D), and give k and v an axis of length 1 in that place: `k[:, :, None]`. `attend` does the
# rest; then put the heads back into one axis.
#
# </details>

# %% tags=["exercise"]
def grouped_attend(q, k, v, mask):
    raise NotImplementedError


# %%
check(exercises.grouped_attend, grouped_attend)


# %% [markdown]
# ### Exercise 7.2 — a window
#
# 15 minutes, ●●○. Some models let a position see only the last few: itself and those before it, `window` in all. Write
# `window_mask(T, S, window)`, True where the query may look: (T, S), for the last T of S positions, as `visible` does.
#
# <details><summary>Hint 1</summary>
#
# At which position does query $t$ stand, and which is the first key that it may still see?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Take the position of each query as a column and that of each key as a row, as `visible` does. Two comparisons, joined by `&`.
#
# </details>

# %% tags=["exercise"]
def window_mask(T, S, window):
    raise NotImplementedError


# %%
check(exercises.window_mask, window_mask)


# %% [markdown]
# ### Exercise 7.3 — how wide does a head look?
#
# 15 minutes, ●●○. The **entropy** of weights $p_s$ is $-\sum_s p_s \ln p_s$: 0 if all weight is on one key, $\ln n$ if it is
# spread evenly over $n$ keys. Write `entropy(weights)`, from (..., S) to (...). A weight of 0, as the mask makes it, adds 0.
# Then ask the trained heads of section 3: `entropy(looks["table"])` has a number for each of 32 places. Where does that head lose
# its way?
#
# <details><summary>Hint 1</summary>
#
# What is 0 · ln 0 in floating point? Try `mx.array(0.0) * mx.log(mx.array(0.0))`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Put a 1 in the place of each 0 before the logarithm, with `mx.where`; or keep the weights in it above 1e-9 with `mx.maximum`.
#
# </details>

# %% tags=["exercise"]
def entropy(weights):
    raise NotImplementedError


# %%
check(exercises.entropy, entropy)


# %% [markdown]
# ### Exercise 7.4 — weights from a model of neighbours
#
# 30 minutes, ●●●. Someone gives you weights that were trained with neighbours $(x_0, x_1), (x_2, x_3), \ldots$ as pairs. That works just as
# well, but the two are not interchangeable: `rotate` would give wrong scores, and no error.
#
# 1. Write `rotate_neighbours(x, w, offset=0)`, the naive rotation for such pairs, clockwise.
# 2. Write `to_halves(weight, head_dim)`: put the rows of `c_q` or `c_k`, (H · head_dim, C), into another order, so that
#    `rotate` gives the same scores as `rotate_neighbours` did.
#
# <details><summary>Hint 1</summary>
#
# `x[..., 0::2]` are the first numbers of all pairs. And which row of `c_q` makes number 2 of head 1?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `mx.stack` along a new last axis and a reshape bring firsts and seconds together again. For the weights: within each head, all first
# rows, then all second rows. A reshape to (H, head_dim / 2, 2, C) and a swap of two axes do it.
#
# </details>

# %% tags=["exercise"]
def rotate_neighbours(x, w, offset=0):
    raise NotImplementedError


def to_halves(weight, head_dim):
    raise NotImplementedError


# %%
check(exercises.rotate_neighbours, rotate_neighbours)
check(exercises.to_halves, to_halves)

# %% [markdown]
# ## Summary
#
# Without positions attention sees a bag of words. What has changed since chapter 03:
#
# | chapter 03 | now | why |
# |---|---|---|
# | a row of `wpe` added to the token | queries and keys turned by their position | only the distance counts, and what is learned at one place holds at others, up to a point |
# | scores as large as the weights make them | RMSNorm on queries and keys | no score beyond ±√D, no query cut off from learning by its size |
# | the whole text, always | a cache, optional; the mask is aligned at its end | only the new token goes through the matrices, and the numbers stay the same |
# | as many heads of keys and values as of queries | any divisor of them | the cache shrinks by as much |
# | softmax written out | `mx.fast.scaled_dot_product_attention` | on a GPU that has a kernel for it, no T × T numbers in memory |
#
# ## Pitfalls
#
# - Neighbours in place of halves, or the wrong sign of θ: another model, and no error (exercise 7.4).
# - Inverse frequencies as a plain attribute of a module: MLX takes them for parameters and trains them.
# - Tiling the kv heads instead of repeating each in place. With MHA and MQA nobody notices.
# - A mask aligned at the start when there is a cache: new tokens cannot see themselves.
# - Positions that begin at 0 in every chunk: the cache works, and the text loses its order.
#
# ## Further reading
#
# - [RoFormer](https://arxiv.org/abs/2104.09864), Su et al., 2021: rotary positions.
# - [Query-Key Normalization for Transformers](https://arxiv.org/abs/2010.04245), Henry et al., 2020.
# - [Fast Transformer Decoding](https://arxiv.org/abs/1911.02150), Shazeer, 2019: MQA; and [GQA](https://arxiv.org/abs/2305.13245),
#   Ainslie et al., 2023.
# - [FlashAttention](https://arxiv.org/abs/2205.14135), Dao et al., 2022: exact attention without the T × T matrix in memory.
# - [nanochat](https://github.com/karpathy/nanochat), Karpathy: `gpt.py` holds this attention in PyTorch.
#
# **Next:** [08 · GPT](08_gpt.ipynb): the whole model around it, any size from one dial.

# %% [markdown]
# # 07 · Attention
#
# **Goal.** Turn the microGPT's attention into nanochat's, one small change at a time, each checked before the next.
#
# | | |
# |---|---|
# | Needs | [03 · microGPT](03_microgpt.ipynb) |
# | Time | 60 minutes to read, 80 for the exercises; a few seconds to run |
# | Memory | under 500 MB |
# | You will build | rotary positions, QK norm, attention with shared keys and values → `course_lib.model.attention` |
#
# nanochat's attention is the one of chapter 03 with three changes: positions become rotations, queries and keys get a norm,
# and several query heads may share one head of keys and values. And it does two jobs with one function: it reads a whole
# text at once in training, and one token after the other when it writes.
#
# Nothing is trained here. What the changes buy in loss is measured in chapter 08, where there is a whole model again.

# %% [markdown]
# ![Map of the course: chapter 07 attention is marked, in Part II; after 06 data, and 08 gpt comes next](images/map_07.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · **07** · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [19](19_memory.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/07_attention.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export model.attention
"""Causal self-attention with rotary positions, QK norm and grouped keys and values."""

import mlx.core as mx
import mlx.nn as nn

from course_lib.host.errors import CourseError
from course_lib.model.products import project

# %% [markdown]
# That cell opens the module that this chapter builds. The next one is for this notebook only.

# %%
import math
import time

import matplotlib.pyplot as plt
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import budget, check
from course_lib.classroom.exercises import attention as exercises
from course_lib.classroom.plots import draw_bars
from course_lib.names.microgpt import Attention, MicroGPT, MicroGPTConfig

backend.seed_everything(42)
print(backend.describe())


# %% [markdown]
# ## 1. Where we left off
#
# The attention of chapter 03, in one list:
#
# - each position has a vector; matrices make of it a **query** (what I look for), a **key** (what I offer) and a **value**
#   (what you get if you pick me);
# - the **score** of a query and a key is their dot product, divided by $\sqrt{D}$, where $D$ is how many numbers each has;
# - the **causal mask** sets the scores of later positions to $-\infty$: nobody sees the future;
# - **softmax** turns the scores of a row into weights that are positive and sum to 1;
# - the output is the mean of the values under these weights;
# - a **head** is one such lookup with a part of the numbers; all heads look at once, and a last matrix mixes what they found.
#
# As two functions, on numbers small enough to follow:

# %%
def scores_of(q, k):
    """How well each query fits each key: (..., T, D), (..., S, D) -> (..., T, S)."""
    return q @ mx.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])


def attend(q, k, v):
    """Mean of the values under each query's weights: (..., T, D) each -> as v."""
    T = q.shape[-2]
    future = mx.triu(mx.full((T, T), -mx.inf), k=1)  # -inf above the diagonal
    return mx.softmax(scores_of(q, k) + future, axis=-1) @ v


q = mx.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])  # (T, D): three positions, two numbers each
k = mx.array([[1.0, 2.0], [0.0, 3.0], [2.0, 0.0]])
v = mx.array([[10.0], [20.0], [30.0]])  # one number each: values may have another length
print("q · k   ", (q @ k.T).tolist())
print("attended", [round(number, 2) for number in attend(q, k, v).flatten().tolist()])

# %% [markdown]
# Position 0 sees itself only and takes its value, 10. Position 1 fits keys 0 and 1 equally well (3 and 3) and gets 15.
#
# Is it the attention of chapter 03? We use that class's matrices and its cutting into heads, and put `attend` in the middle.

# %%
old = Attention(MicroGPTConfig())
x = mx.random.normal((5, 16))  # (T, C)
q, k, v = (old.heads(matrix(x)) for matrix in (old.wq, old.wk, old.wv))  # (H, T, D) each
ours = old.wo(mx.swapaxes(attend(q, k, v), 0, 1).reshape(x.shape))  # heads side by side, mixed
assert mx.allclose(ours, old(x), atol=1e-3)
print("equal to chapter 03")

# %% [markdown]
# ## 2. Positions as rotations
#
# ### What a table of positions cannot do
#
# Attention itself does not know who stands where: scores come from vectors alone. So chapter 03 added a learned row for
# each place to the token's vector, from a table of `block_size` rows. A ninth position has no row:

# %%
model = MicroGPT(MicroGPTConfig())
try:
    model(mx.zeros(9, dtype=mx.int32))
except ValueError as error:
    print(error)

# %% [markdown]
# And there is a second weakness. "Three back" is what matters to language, not "place 5 looks at place 2". The rows of a
# table have nothing to do with each other, so the fit between a place and the one three before it is another number at
# every place, and training has to learn each one separately. In an untrained table, leaving out `wq` and `wk`:

# %%
wpe = mx.random.normal((8, 16))
fits = [(wpe[t] @ wpe[t - 3]).item() for t in range(3, 8)]
for t, fit in enumerate(fits, start=3):
    print(f"place {t} with place {t - 3}: {fit:6.2f}")
assert max(fits) - min(fits) > 1

# %% [markdown]
# ### One arrow, turned
#
# **Rotary positions** (RoPE) add nothing. They turn queries and keys. Take a query of two numbers as an arrow on paper.
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
# Up, right, down, left: a clock hand. Its length stays the same.
#
# The dot product of two arrows depends on their lengths and on the angle between them. Turn the query by its position and
# the key by its own, and the angle between them changes by the *difference* of the positions. So only the distance counts.
# That is the whole idea.
#
# ### Many arrows, many speeds
#
# One hand is not enough: a quarter turn for each position cannot tell 1 back from 5 back. A clock has several hands. A
# vector of $D$ numbers is cut into $D/2$ pairs, and pair $i$ turns with a speed of its own:
#
# $$ \theta_i = \frac{p}{w_i}, \qquad w_i = \text{base}^{\,2i/D}, \qquad i = 0, 1, \ldots, D/2 - 1 $$
#
# The speed is now $1/w_i$, the **frequency** of the pair. Angles are in radians, 2π to the turn, so its inverse $w_i$ is the
# number of positions for one radian, and a whole turn takes $2\pi w_i$ positions. The usual base is 10,000.

# %%
#| export model.attention
def inverse_frequencies(head_dim: int, base: float = 10000.0) -> mx.array:
    """Positions per radian of rotation for each pair of numbers: (head_dim / 2,), 1 … below `base`.

    A whole turn takes 2π times as many. (What others call `inv_freq` is 1 over these.)
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
# Which numbers make a pair? In nanochat's weights it is number $i$ of the first half with number $i$ of the second:
# $(x_i, x_{i+D/2})$. In code, all pairs at once:

# %%
def naive_rotate(x, w, offset=0):
    """Turn each pair (x[i], x[i + D/2]) clockwise; the first row of x stands at `offset`."""
    positions = mx.arange(offset, offset + x.shape[-2])
    theta = positions[:, None] / w  # (T, D/2)
    cos, sin = mx.cos(theta), mx.sin(theta)
    x1, x2 = mx.split(x, 2, axis=-1)  # (..., T, D/2) each
    return mx.concatenate([x1 * cos + x2 * sin, x2 * cos - x1 * sin], axis=-1)


up = mx.concatenate([mx.zeros((8, 4)), mx.ones((8, 4))], axis=-1)  # (T, D): all four arrows up
hands = naive_rotate(up, inverse_frequencies(8, base=100))
print([round(number, 2) for number in hands[1].tolist()])


# %%
def places(rows, columns):
    return [(row, column) for row in range(rows) for column in range(columns)]


def draw_hands(hands, w):
    """One clock face for each pair (row) and position (column)."""
    positions, pairs = hands.shape[0], hands.shape[1] // 2
    figure, axes = plt.subplots(pairs, positions, figsize=(7, 3.9))
    for pair, position in places(pairs, positions):
        ax = axes[pair, position]
        x, y = hands[position, pair].item(), hands[position, pair + pairs].item()
        ax.add_patch(plt.Circle((0, 0), 1, facecolor="#eef4f9", edgecolor="#555555"))
        arrow = {"arrowstyle": "->", "color": "#0072B2", "lw": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x, y), (0, 0), arrowprops=arrow)
        ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xticks=[], yticks=[])
        ax.set_frame_on(False)
        if pair == 0:
            ax.set_title(f"position {position}", fontsize=8)
        if position == 0:
            turn = 2 * math.pi * w[pair].item()
            ax.set_ylabel(f"pair {pair}\n1 turn: {turn:.0f}", rotation=0, ha="right", va="center")
    figure.tight_layout()
    plt.show()


draw_hands(hands, inverse_frequencies(8, base=100))

# %% [markdown]
# Four pairs over eight positions, with base 100 so that the slow ones move at all. The first hand takes about six positions
# for a turn and tells neighbours apart. The last takes nearly two hundred and tells near from far. No two positions show the
# same time.
#
# nanochat's model **d12** has 12 layers of 6 heads of 128 numbers, so 64 pairs. How fast do they turn? Its longest text is 2,048
# positions, the dashed line.

# %%
w128 = inverse_frequencies(128)
turns = [2 * math.pi * w for w in w128.tolist()]  # positions for one whole turn
figure, ax = plt.subplots(figsize=(5.5, 3))
ax.semilogy(turns, "o", markersize=3, color="#0072B2")
ax.axhline(2048, linestyle="--", color="#D55E00")
ax.text(1, 2600, "2,048 positions", color="#D55E00")
ax.set_xlabel("pair")
ax.set_ylabel("positions for one turn")
plt.show()
slow = sum(turn > 2048 for turn in turns)
print(f"from {turns[0]:.1f} to {turns[-1]:,.0f} positions; {slow} of 64 do not get round once")

# %% [markdown]
# The pairs high above the dashed line hardly turn within a text, so these numbers of query and key meet almost unturned: their
# part of the score depends on content, hardly on place. The pairs at the bottom tell one place from the next.
#
# ### Only the distance counts
#
# A random query and a random key, put at several places:

# %%
w64 = inverse_frequencies(64)
query, key = mx.random.normal((1, 64)), mx.random.normal((1, 64))


def score_at(i, j, turn=naive_rotate):
    """Score of the query at position i with the key at position j."""
    return scores_of(turn(query, w64, i), turn(key, w64, j)).item()


for distance in (0, 3, 20):
    row = [score_at(start + distance, start) for start in (0, 7, 100, 1000)]
    print(f"distance {distance:2d}:", *(f"{score:8.4f}" for score in row))
    assert max(row) - min(row) < 1e-2

# %% [markdown]
# A row is one distance, its columns are four places to be at. Each row repeats one number, up to rounding. "Three back" is
# now the same everywhere, without any training, at position 1,000 as well as at 3.
#
# The same as a picture: the same vector at each of 32 positions, as query and as key. On the left each place adds a random
# row of a table; on the right each place turns.

# %%
same = mx.broadcast_to(mx.random.normal((64,)), (32, 64))
table = same + mx.random.normal((32, 64))
turned = naive_rotate(same, w64)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.1))
for ax, vectors, title in zip(axes, (table, turned), ("a table", "rotations"), strict=True):
    image = ax.imshow(scores_of(vectors, vectors).tolist(), cmap="cividis")
    ax.set(title=title, xlabel="position of the key", ylabel="position of the query")
    figure.colorbar(image, ax=ax, label="score", shrink=0.8)
figure.tight_layout()
plt.show()


# %% [markdown]
# A diagonal is one distance. On the right each has one colour. On the left none has; the main one stands out, since there a
# vector meets itself, and the stripes are rows that happen to fit well or badly. (The mask will later hide the upper right.)
#
# | what changed | why |
# |---|---|
# | queries and keys are turned, nothing is added to the token's vector | scores depend on the distance: what is learned at one place holds at every place |
# | no table `wpe` | no parameters, and no position without a row |
#
# One thing it does not do: a model that has been trained on 2,048 positions has never seen a distance of 5,000. It computes
# something there, and seldom something good.
#
# ### The fast one
#
# From here on arrays have four axes, as `mx.fast` wants them: (B, H, T, D) for B texts, H heads, T positions, D numbers.
# `mx.fast.rope` is MLX's own rotation; on a GPU it is one kernel (a program that the GPU runs). It turns counter-clockwise,
# and what it calls `freqs` are what positions are divided by: our inverse frequencies, with a minus sign to turn clockwise. They
# take the place of a `base`, and `scale=1.0` leaves the positions as they are.

# %%
#| export model.attention
def rotate(x: mx.array, w: mx.array, offset: int | mx.array = 0) -> mx.array:
    """Turn each pair (x[i], x[i + D/2]) by -position / w[i] radians (RoPE: Su et al., 2021).

    x: (B, H, T, D), whose first position is `offset`, or (B,) of them, one for each row; w: (D/2,),
    the inverse frequencies. Sign and halves are nanochat's, so that its weights fit.
    """
    return mx.fast.rope(
        x, x.shape[-1], traditional=False, base=None, scale=1.0, offset=offset, freqs=-w
    )


# %%
gaps = []
for head_dim, offset in ((2, 0), (8, 5), (64, 5), (128, 0), (128, 1000)):
    w, sample = inverse_frequencies(head_dim), mx.random.normal((2, 3, 7, head_dim))
    gaps.append(mx.abs(rotate(sample, w, offset) - naive_rotate(sample, w, offset)).max().item())
print(f"rotate and naive_rotate: largest difference {max(gaps):.1e}")
assert max(gaps) < 1e-2


# %% [markdown]
# ### Halves or neighbours
#
# Some programs pair $(x_0, x_1), (x_2, x_3), \ldots$ instead: `traditional=True`. Just as good, but not compatible; nor is
# turning the other way. The query and the key from before, three places apart:

# %%
def neighbours(x, w, offset):
    return mx.fast.rope(
        x[None], 64, traditional=True, base=None, scale=1.0, offset=offset, freqs=-w
    )[0]


def reverse(x, w, offset):
    return naive_rotate(x, -w, offset)


for turn in (naive_rotate, neighbours, reverse):
    back, ahead = score_at(6, 3, turn), score_at(3, 6, turn)
    print(f"{turn.__name__:12s}  3 back {back:7.3f}   3 ahead {ahead:7.3f}")
assert abs(score_at(6, 3, neighbours) - score_at(6, 3)) > 0.1
assert math.isclose(score_at(6, 3, reverse), score_at(3, 6), abs_tol=1e-2)


# %% [markdown]
# The weights of `wq` and `wk` are learned for one way. Run them with neighbours and every score beyond distance 0 is wrong, with
# no error raised. Turn them the other way, and a key 3 back gets the score of a key 3 ahead, which training never used.
#
# ## 3. QK norm
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
# Training may make `wq` and `wk` larger. If both grow by a factor $s$, every score grows by $s^2$. Softmax of large scores
# gives nearly everything to the largest: it **saturates**. Then a small change of a score changes nothing, so its gradient
# is near zero, and the head can hardly learn any more.
#
# We try it: 500 queries with 16 keys each, for growing $s$. We make one number of the weights, a sum with random factors in
# place of a loss, and take its gradient with respect to the scores.

# %%
one_query, keys = mx.random.normal((500, 1, 32)), mx.random.normal((500, 16, 32))
rest = mx.random.normal((500, 1, 16))


def strain(s, norm):
    """Mean of the largest weight, and mean size of the gradient with respect to the scores."""
    scores = scores_of(norm(s * one_query), norm(s * keys))  # (500, 1, 16)
    gradient = mx.grad(lambda scores: (mx.softmax(scores, axis=-1) * rest).sum())(scores)
    largest = mx.softmax(scores, axis=-1).max(axis=-1)
    return largest.mean().item(), mx.abs(gradient).mean().item()


sizes = [0.5, 1, 2, 4, 8, 16]
plain = [strain(s, norm=lambda x: x) for s in sizes]
normed = [strain(s, norm=rms_norm) for s in sizes]
for s, before, after in zip(sizes, plain, normed, strict=True):
    print(f"s={s:4}  largest weight {before[0]:.3f}, with QK norm {after[0]:.3f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3))
for n, (ax, label) in enumerate(zip(axes, ("largest weight", "size of the gradient"), strict=True)):
    ax.plot(sizes, [row[n] for row in plain], "o-", color="#D55E00", label="plain")
    ax.plot(sizes, [row[n] for row in normed], "s--", color="#0072B2", label="with QK norm")
    ax.set_xscale("log", base=2)
    ax.set(xlabel="s, the size of queries and keys", ylabel=label)
axes[0].axhline(1 / 16, color="#777777", linestyle=":", label="even: 1/16")
axes[0].set_ylim(0, 1.05)
axes[1].set_yscale("log")
axes[0].legend(frameon=False)
figure.tight_layout()
plt.show()
assert plain[-1][1] < normed[-1][1] / 5 and plain[-1][0] > 0.9

# %% [markdown]
# Without the norm (solid) the largest weight goes to 1 and the gradient falls away. With it (dashed) nothing happens at all:
# the size is divided out. At $s = 0.5$ plain is no worse off: nearly even weights, and a gradient about as large.
#
# ### A bound
#
# After the norm the mean of the squares of a query is 1, so its length is $|q| = \sqrt{D}$, and that of a key too. A dot
# product is at most the product of the lengths, which is $D$. Divided by $\sqrt{D}$:
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
# So size can no longer saturate the softmax; direction still can, and a head may choose sharply. The scale $1/\sqrt{D}$ stays:
# without it the bound is $D$. 500 queries and 16 keys again, D = 128:

# %%
asks, offers = (rms_norm(mx.random.normal((500, n, 128))) for n in (1, 16))
twin = mx.concatenate([asks, offers[:, 1:]], axis=1)  # one key points exactly as its query
largest = [
    mx.softmax(scores, axis=-1).max(axis=-1).mean().item()
    for scores in (
        scores_of(asks, offers),
        scores_of(asks, offers) * math.sqrt(128),
        scores_of(asks, twin),
    )
]
for name, weight in zip(("random keys", "without the scale", "one key fits"), largest, strict=True):
    print(f"{name:18s} largest weight {weight:.4f}")
assert largest[0] < 0.5 < largest[1] < largest[2]

# %% [markdown]
# Rotate first or norm first? A rotation keeps every length, so it makes no difference. nanochat rotates first.

# %%
q = mx.random.normal((1, 2, 10, 64))
assert mx.allclose(rms_norm(rotate(q, w64)), rotate(rms_norm(q), w64), atol=1e-3)
print("the order makes no difference")


# %% [markdown]
# | what changed | why |
# |---|---|
# | RMSNorm on queries and keys, after the rotation | scores cannot grow without end: within ±√D whatever the weights |
#
# ## 4. Fewer heads of keys and values
#
# In chapter 03 every query head had keys and values of its own: **multi-head attention**, MHA. A model that writes has to
# keep the keys and values of all earlier tokens at hand (section 5), and they fill its memory. So several query heads share
# one head of keys and values, a **kv head**: **grouped-query attention**, GQA. If all share a single one, it is
# **multi-query attention**, MQA.

# %%
def draw_groups(ax, n_head, n_kv_head, title):
    """Lines from each query head (circle) to the kv head (square) it reads."""
    group = n_head // n_kv_head
    for h in range(n_head):
        middle = (h // group + 0.5) * group - 0.5  # a kv head stands below the middle of its group
        ax.plot([h, middle], [1, 0], color="#555555", zorder=1)
        ax.plot(h, 1, "o", markersize=17, color="#cfe4f3", markeredgecolor="#0072B2")
        ax.text(h, 1, h, ha="center", va="center")
        if h % group == 0:
            ax.plot(middle, 0, "s", markersize=17, color="#f6d9a8", markeredgecolor="#555555")
            ax.text(middle, 0, h // group, ha="center", va="center")
    ax.set(title=title, xlim=(-0.6, n_head - 0.4), ylim=(-0.4, 1.4), xticks=[])
    ax.set_yticks([0, 1], ["kv heads", "query heads"])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


figure, axes = plt.subplots(1, 3, figsize=(9, 1.9), sharey=True)
draw_groups(axes[0], 6, 6, "MHA: 6 kv heads")
draw_groups(axes[1], 6, 2, "GQA: 2 kv heads")
draw_groups(axes[2], 6, 1, "MQA: 1 kv head")
figure.tight_layout()
plt.show()

# %% [markdown]
# Query head $h$ reads kv head $h \,//\, (\text{n\_head} / \text{n\_kv\_head})$: neighbours share. The naive way repeats each kv
# head in place, once for each of its group, and then it is MHA again. Repeating the whole row instead (tiling) gives heads 1
# and 4 the wrong partner:

# %% tags=["nbval-check-output"]
kv_heads = mx.array([0, 1])
print("each in place ", mx.repeat(kv_heads, 3).tolist())
print("the whole row ", mx.tile(kv_heads, 3).tolist(), "(wrong)")
assert mx.repeat(kv_heads, 3).tolist() == [h // (6 // 2) for h in range(6)]

# %% [markdown]
# `mx.fast.scaled_dot_product_attention` takes fewer kv heads as they are:

# %%
q = mx.random.normal((1, 6, 10, 64))  # 6 query heads
for n_kv_head in (6, 3, 2, 1):
    k, v = mx.random.normal((2, 1, n_kv_head, 10, 64))
    fast = mx.fast.scaled_dot_product_attention(q, k, v, scale=64**-0.5, mask="causal")
    group = 6 // n_kv_head
    by_hand = attend(q, mx.repeat(k, group, axis=1), mx.repeat(v, group, axis=1))
    assert mx.allclose(fast, by_hand, atol=1e-2)
    tiled = attend(q, *(mx.tile(a, (1, group, 1, 1)) for a in (k, v)))
    assert mx.allclose(fast, tiled, atol=1e-2) == (n_kv_head in (1, 6))
print("in place: equal for 6, 3, 2 and 1 kv heads; tiled: for 6 and 1 only")


# %% [markdown]
# ### What it saves
#
# For each token, each layer keeps a key and a value (2) for each kv head, of `head_dim` numbers each. A number takes 2 bytes in
# the type that GPUs compute in, bfloat16:
#
# $$ \text{bytes a token} = 2 \cdot \text{n\_layer} \cdot \text{n\_kv\_head} \cdot \text{head\_dim} \cdot 2 $$
#
# nanochat's d26 has 26 layers of 13 heads, with `head_dim` 128 as in d12. A number of kv heads has to divide the number of heads,
# and 13 is a prime: d26 has MHA or MQA and nothing between.

# %% tags=["nbval-check-output"]
def cache_bytes(n_layer, n_kv_head, head_dim=128):
    return 2 * n_layer * n_kv_head * head_dim * 2


print("          kv heads   bytes a token   2,048 tokens")
saved = {}
for name, n_layer, choices in (("d12", 12, (6, 3, 2, 1)), ("d26", 26, (13, 1))):
    for n_kv_head in choices:
        each = cache_bytes(n_layer, n_kv_head)
        saved[f"{name}, {n_kv_head} kv head{'s' * (n_kv_head > 1)}"] = 2048 * each / 1e6
        print(f"{name:9s} {n_kv_head:8d} {each:15,d} {2048 * each / 1e6:11,.0f} MB")

# %%
draw_bars(saved, "MB of keys and values for one conversation of 2,048 tokens")


# %% [markdown]
# Each conversation needs its own. A server that talks to a hundred people holds a hundred of these bars. And for every new
# token all of its conversation's bar is read, so a shorter one saves time as well.
#
# What does it cost? The papers at the end find a small loss in quality for GQA and a larger one for MQA. At the sizes of this
# course the cache is no burden, and nanochat's default is MHA, as ours will be in chapter 08.
#
# | what changed | why |
# |---|---|
# | `n_kv_head` heads of keys and values, shared by groups of query heads | the memory of a conversation shrinks by n_head / n_kv_head |
#
# ## 5. One function for training and for writing
#
# A model in training gets a whole text and predicts at every position at once. A model that writes gets one new token at a
# time. It would be a waste to compute everything before it anew: under the causal mask, the keys and values of old
# positions cannot change when something is added after them. So they are kept, in a **KV cache**.
#
# Ours needs two things: `offset`, how many positions it holds, and `update_and_fetch(k, v)`, which takes the new keys and
# values and gives back all.

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
# (Joining arrays at each token copies all of them. Chapter 12 writes one that does not.)
#
# ### The mask with more keys than queries
#
# Now there can be fewer queries than keys: 3 new tokens after 2 in the cache are T = 3 queries on S = 5 keys. The *last*
# query belongs to the *last* key. So query $t$ stands at position $S - T + t$ and may see the keys up to there: the mask is
# aligned at the end.

# %%
def visible(T, S):
    """Which of S keys each of the last T positions may see: (T, S), True or False."""
    return mx.arange(S) <= mx.arange(S - T, S)[:, None]


def draw_mask(ax, mask, title):
    T, S = mask.shape
    ax.imshow(mask.tolist(), cmap="Blues", vmin=0, vmax=3)
    for t, s in places(T, S):
        ax.text(s, t, "sees" if mask[t, s].item() else "–", ha="center", va="center", fontsize=9)
    ax.set(title=title, xlabel="key (0 and 1: from the cache)", xticks=range(S))
    ax.set_yticks(range(T), [f"query {S - T + t}" for t in range(T)])


figure, axes = plt.subplots(1, 2, figsize=(8, 2.7))
draw_mask(axes[0], visible(3, 5), "aligned at the end: right")
draw_mask(axes[1], mx.tri(3, 5) == 1, "aligned at the start: wrong")
figure.tight_layout()
plt.show()


# %% [markdown]
# Aligned at the start, query 2 would not see itself, nor the key before it. `mask="causal"` of MLX is aligned at the end.
# By hand it is `mx.where`: the score where the mask is True, else $-\infty$. A single query, T = 1, sees every key and
# needs no mask.

# %%
def attend(q, k, v):
    """The same as in section 1, for any number S of keys and any divisor of heads.

    q: (B, H, T, D), the last T of S positions; k, v: (B, n_kv_head, S, D) -> (B, H, T, D)
    """
    k, v = (mx.repeat(a, q.shape[1] // a.shape[1], axis=1) for a in (k, v))
    scores = scores_of(q, k)  # (B, H, T, S)
    scores = mx.where(visible(*scores.shape[-2:]), scores, -mx.inf)
    return mx.softmax(scores, axis=-1) @ v


q, k, v = mx.random.normal((3, 1, 2, 5, 64))
last = q[:, :, 2:]  # three queries, five keys
fast = mx.fast.scaled_dot_product_attention(last, k, v, scale=64**-0.5, mask="causal")
assert mx.allclose(attend(last, k, v), fast, atol=1e-2)
assert mx.allclose(attend(q, k, v)[:, :, 2:], fast, atol=1e-2)
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
    return attend(q, k, v)


q = mx.random.normal((1, 6, 10, 64))
k, v = mx.random.normal((2, 1, 2, 10, 64))
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
# numbers each time. That is the test that a cache has to pass.
#
# It can only pass because no position sees a later one. Change position $t$, and no output before $t$ may change:

# %%
for t in range(10):
    here = mx.arange(10)[:, None] == t  # (T, 1)
    changed = look_back(*(mx.where(here, a + 1, a) for a in (q, k, v)))
    same_before = mx.allclose(changed[:, :, :t], whole[:, :, :t], atol=1e-4)
    assert same_before, f"a position before {t} saw it"
    assert not mx.allclose(changed[:, :, t], whole[:, :, t], atol=1e-2)
print("no position sees a later one")

# %% [markdown]
# | what changed | why |
# |---|---|
# | new positions begin at the cache's `offset` | a token must be turned by its place in the text, not in the chunk |
# | the mask is aligned at the end | the last query belongs to the last key |
# | one function with an optional cache | what is trained is what runs |
#
# ## 6. MLX's own attention
#
# `attend` writes down all the scores, T × T numbers for each head. For one text of 2,048 tokens and the 6 heads of d12, in
# float32:

# %% tags=["nbval-check-output"]
print(f"{6 * 2048 * 2048 * 4 / 1e6:.0f} MB in each layer")


# %% [markdown]
# **FlashAttention** (further reading) goes through the keys in blocks and keeps a running maximum, sum and mean for each
# query. The result is the same softmax, and the T × T numbers are never in memory. `mx.fast.scaled_dot_product_attention`
# has kernels of this kind for GPUs. First: is it the same, in value and in gradient?

# %%
def fast_attend(q, k, v):
    scale = q.shape[-1] ** -0.5
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal")


direction = mx.random.normal(q.shape)


def gradients(function):
    """Of a number made of the output, with respect to q, k and v."""
    return mx.grad(lambda *qkv: (function(*qkv) * direction).sum(), argnums=(0, 1, 2))(q, k, v)


assert mx.allclose(attend(q, k, v), fast_attend(q, k, v), atol=1e-2)
for name, ours, theirs in zip("qkv", gradients(attend), gradients(fast_attend), strict=True):
    print(f"gradient of {name}: largest difference {mx.abs(ours - theirs).max().item():.1e}")
    assert mx.abs(ours - theirs).max() < 1e-2 * mx.abs(theirs).max()


# %%
def milliseconds(function, *arrays):
    """Shortest time of several calls, in milliseconds."""
    times = []
    for _ in range(budget(10, quick=3)):
        started = time.perf_counter()
        mx.eval(function(*arrays))
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


for T in (64, 256, budget(1024, quick=512)):
    q_long, k_long, v_long = mx.random.normal((3, 1, 6, T, 128))
    times = [milliseconds(function, q_long, k_long, v_long) for function in (attend, fast_attend)]
    print(f"T={T:5d}: naive {times[0]:7.2f} ms, fast {times[1]:7.2f} ms")


# %% [markdown]
# On a CPU MLX takes the same steps as we do, so little or nothing is gained. The kernels for GPUs are made to save time and
# memory, most of all for long texts.
#
# ## 7. The class
#
# **Linear.** The weights of a model are kept in float32, since small updates would be lost in bfloat16. A GPU
# multiplies faster in bfloat16. So the weight is cast to the type of the input at each product, and itself stays as it is.
# That product is `project(x, weight)`, which is `x @ weight.astype(x.dtype).T`. Chapter 12 shows the second way that it knows,
# for writing on a CPU.

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
# The mask is `"causal"`, or none for a single query. There is one case more. Chapter 12 writes several texts at once, a row
# of the batch for each, and they need not be equally long. Then `offset` is an array with a number for each row, and so is the
# mask: position $t$ of row $b$ may see the keys up to its own place, `offset[b]` + $t$.

# %%
#| export model.attention
def causal_mask(offset: int | mx.array, T: int, S: int) -> str | mx.array | None:
    """What T positions may see of S keys, as mx.fast.scaled_dot_product_attention takes it.

    offset: where the first of them stands; (B,) when that differs from row to row, which makes the
    mask (B, 1, T, S), True for what may be seen.
    """
    if isinstance(offset, mx.array):
        own = offset[:, None] + mx.arange(T)  # (B, T)
        return (mx.arange(S) <= own[..., None])[:, None]
    return "causal" if T > 1 else None  # a single query sees every key


# %% tags=["nbval-check-output"]
assert mx.array_equal(causal_mask(mx.array([2]), 3, 5)[0, 0], visible(3, 5))
for row in causal_mask(mx.array([4, 1]), 1, 5):
    print(" ".join("sees" if key else "–" for key in row.flatten().tolist()))


# %% [markdown]
# The new token of the first row is its fifth, that of the second row its second: there the keys after it are not its own.
#
# **CausalSelfAttention** takes five steps: make queries, keys and values, cut into heads; rotate and norm queries and keys;
# hand keys and values to the cache, if any; attend; put the heads side by side and mix them. The names of its matrices are
# nanochat's: `c_q`, `c_k`, `c_v` and `c_proj`, which was `wo`.

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
        self.c_q = Linear(n_embd, n_head * self.head_dim)
        self.c_k = Linear(n_embd, n_kv_head * self.head_dim)
        self.c_v = Linear(n_embd, n_kv_head * self.head_dim)
        self.c_proj = Linear(n_embd, n_embd)
        # The underscore keeps these out of the parameters: not trained, counted or saved.
        self._inverse_frequencies = inverse_frequencies(self.head_dim, rope_base)

    def __call__(self, x: mx.array, cache=None) -> mx.array:
        """x: (B, T, n_embd), the T positions after those that the cache holds.

        cache: keeps keys and values: `offset`, `update_and_fetch(k, v)`; None for a whole text. Its
        offset is an int, or (B,) where rows have different lengths.
        """
        B, T, C = x.shape
        q, k, v = (
            linear(x).reshape(B, T, -1, self.head_dim).transpose(0, 2, 1, 3)  # (B, H, T, D)
            for linear in (self.c_q, self.c_k, self.c_v)
        )
        offset = 0 if cache is None else cache.offset
        q, k = (
            rms_norm(rotate(a, self._inverse_frequencies, offset), self.norm_eps) for a in (q, k)
        )
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)  # (B, n_kv_head, S, D)
        mask = causal_mask(offset, T, k.shape[2])
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.head_dim**-0.5, mask=mask)
        return self.c_proj(y.transpose(0, 2, 1, 3).reshape(B, T, C))


# %% [markdown]
# The check: its four matrices, and the naive functions of the sections above, for MHA, GQA and MQA.

# %%
def naive_layer(layer, x):
    """What the class computes, by hand; heads of 64."""
    q, k, v = (
        mx.swapaxes((x @ matrix.weight.T).reshape(*x.shape[:2], -1, 64), 1, 2)
        for matrix in (layer.c_q, layer.c_k, layer.c_v)
    )
    mixed = mx.swapaxes(look_back(q, k, v), 1, 2)  # (B, T, H, D)
    return mixed.reshape(x.shape) @ layer.c_proj.weight.T


x = mx.random.normal((2, 10, 384))  # (B, T, C): 6 heads of 64
for n_kv_head in (6, 2, 1):
    layer = CausalSelfAttention(384, n_head=6, n_kv_head=n_kv_head)
    whole, cache = layer(x), TinyCache()
    assert mx.allclose(whole, naive_layer(layer, x), atol=1e-2)
    one_by_one = mx.concatenate([layer(x[:, t : t + 1], cache) for t in range(10)], axis=1)
    assert mx.allclose(whole, one_by_one, atol=1e-2)
print("equal to the naive one, at once and one by one: MHA, GQA, MQA")
try:
    CausalSelfAttention(384, n_head=6, n_kv_head=4)
except CourseError as error:
    print(error)

# %% [markdown]
# What is the cache for? Without it each new token takes the whole text through the matrices again, with it only itself:

# %%
n = budget(100, quick=20)
layer, text = CausalSelfAttention(384, n_head=6, n_kv_head=6), mx.random.normal((1, n, 384))
for name, cache in (("no cache", None), ("cache", TinyCache())):
    started = time.perf_counter()
    for t in range(n):
        mx.eval(layer(text[:, t if cache else 0 : t + 1], cache))
    print(f"{name:8s} {n} tokens one by one: {1000 * (time.perf_counter() - started):7.1f} ms")

# %% [markdown]
# What is in it, in the size of d12's layers: `n_embd` 768, 6 heads.

# %% tags=["nbval-check-output"]
for n_kv_head in (6, 2, 1):
    parameters = tree_flatten(CausalSelfAttention(768, 6, n_kv_head).parameters())
    print(f"n_kv_head={n_kv_head}: {sum(array.size for _, array in parameters):9,d} parameters")
print([name for name, _ in parameters])


# %% [markdown]
# Four matrices and nothing else. The inverse frequencies are no parameter, though the class keeps them: MLX leaves out names
# that begin with an underscore.
#
# The whole way from chapter 03:
#
# | chapter 03 | now | why |
# |---|---|---|
# | a row of `wpe` added to the token | queries and keys turned by their position | only the distance counts, at any place |
# | scores as large as the weights make them | RMSNorm on queries and keys | scores within ±√D, whatever the size of the weights |
# | as many heads of keys and values as of queries | any divisor of them | a smaller cache, if wanted |
# | the whole text, always | a cache, optional | only the new token goes through the matrices |
# | softmax written out | `mx.fast.scaled_dot_product_attention` | on a GPU that has a kernel for it, no T × T numbers in memory |
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/07_attention_solutions.ipynb](solutions/07_attention_solutions.ipynb).
#
# ### Exercise 7.1 — repeat the heads
#
# 10 minutes, ●○○. Write `repeat_heads(k, n_head)`: from keys (B, n_kv_head, S, D) to (B, n_head, S, D), holding at place $h$ the kv head
# that query head $h$ reads. Without `mx.repeat` (the check cannot see it).
#
# <details><summary>Hint</summary>Give the heads a second axis of length 1, stretch it with mx.broadcast_to, and reshape. Or make
# the list of partners first and index with it: k[:, mx.array(...)].</details>

# %% tags=["exercise"]
def repeat_heads(k, n_head):
    raise NotImplementedError


# %%
check(exercises.repeat_heads, repeat_heads)


# %% [markdown]
# ### Exercise 7.2 — a window
#
# 15 minutes, ●●○. Some models let a position see only the last few: itself and those before it, `window` in all. Write
# `window_mask(T, S, window)`, True where the query may look: (T, S), for the last T of S positions, as `visible` does. (And
# think: can the cache then be smaller? The solution answers.)
#
# <details><summary>Hint</summary>Take the position of each query as a column and that of each key as a row. Two comparisons,
# joined by &.</details>

# %% tags=["exercise"]
def window_mask(T, S, window):
    raise NotImplementedError


# %%
check(exercises.window_mask, window_mask)


# %% [markdown]
# ### Exercise 7.3 — how wide does a head look?
#
# 20 minutes, ●●○. The **entropy** of weights $p_s$ is $-\sum_s p_s \ln p_s$: 0 if all weight is on one key, $\ln n$ if it is
# spread evenly over $n$ keys. Write `entropy(weights)`, from (..., S) to (...). A weight of 0, as the mask makes it, adds 0.
# Then draw the mean entropy over `sizes`, with and without QK norm, for `one_query` and `keys` of section 3.
#
# <details><summary>Hint</summary>0 · ln 0 is nan in floating point. Put a 1 in the place of each 0 before the logarithm, with
# mx.where; or keep the weights in it above 1e-9 with mx.maximum.</details>

# %% tags=["exercise"]
def entropy(weights):
    raise NotImplementedError


# %%
check(exercises.entropy, entropy)


# %% tags=["exercise"]
# Your drawing: `strain` and the figure of section 3 show the way.

# %% [markdown]
# ### Exercise 7.4 — weights from a model of neighbours
#
# 35 minutes, ●●●. Someone gives you weights that were trained with neighbours $(x_0, x_1), (x_2, x_3), \ldots$ as pairs.
#
# 1. Write `rotate_neighbours(x, w, offset=0)`, the naive rotation for such pairs, clockwise.
# 2. Write `to_halves(weight, head_dim)`: put the rows of `c_q` or `c_k`, (H · head_dim, C), into another order, so that
#    `rotate` gives the same scores as `rotate_neighbours` did. So such weights can be used after all.
#
# <details><summary>Hint</summary>x[..., 0::2] are the first numbers of all pairs, x[..., 1::2] the second; mx.stack along a new
# last axis and a reshape bring them together again. For the weights: within each head, all first rows, then all second rows.
# A reshape to (H, head_dim / 2, 2, C) and a swap of two axes do it.</details>

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
# - Rotary positions turn pairs of numbers in queries and keys; their dot product then depends on the distance only.
# - QK norm keeps every score within ±√D: large weights can no longer saturate the softmax. A head can still choose sharply
#   by direction.
# - Query heads may share heads of keys and values; the cache shrinks by as much.
# - With a cache, new positions count on from its offset and the mask is aligned at its end. Then writing token by token gives
#   the same numbers as reading at once.
# - `mx.fast` does all of it in three calls, equal to the naive functions.
#
# ## Pitfalls
#
# - Neighbours in place of halves, or the wrong sign of θ: another model, and no error. Only a comparison with known outputs
#   finds it.
# - Tables of cosines and sines, or the inverse frequencies, as plain attributes of a module: MLX takes them for parameters
#   and trains them.
# - Repeating the whole row of kv heads, not each in place: some query heads read somebody else's keys. With MHA and MQA nobody
#   notices.
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

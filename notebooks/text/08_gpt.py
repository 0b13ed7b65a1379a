# %% [markdown]
# # 08 · GPT
#
# **Goal.** Build the whole model, any size from one dial, count its parameters and its arithmetic before you make it, and measure what each of its ideas buys.
#
# | | |
# |---|---|
# | Needs | [03 · microGPT](03_microgpt.ipynb), [06 · Data](06_data.ipynb), [07 · Attention](07_attention.ipynb) |
# | Time | 70 minutes to read, 45 for the exercises; two to five minutes to run |
# | Memory | under 2 GB |
# | You will build | the model: its sizes, its blocks, its starting values, its loss → `course_lib.model.gpt` |
#
# This is the model of nanochat (October 2025), the program by Andrej Karpathy that this course works towards. You know most of
# its parts from chapters 03 and 07. At the end you train it, and a ladder of six models shows which of its ideas pay at a size
# that trains in a minute or two, and which do not.

# %% [markdown]
# ![Map of the course: chapter 08 gpt is marked, in Part II; after 07 attention, and 09 muon comes next](images/map_08.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · **08** · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/08_gpt.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export model.gpt
"""The GPT of nanochat (October 2025), any size from one dial, the depth: names, logits, loss.

What is special about it: rotary positions, QK norm, norms without weights and one of them right
after the token embedding, ReLU² in the MLP, no biases, a head of its own that starts at zero,
capped logits.
"""

import math
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from course_lib import backend
from course_lib.model import refusals
from course_lib.model.activation import relu_squared
from course_lib.model.attention import CausalSelfAttention, Linear, rms_norm
from course_lib.model.embedding import look_up
from course_lib.model.head import capped_logits
from course_lib.model.loss import fused_loss, row_losses

# %% [markdown]
# That cell opens the module that this chapter builds. The next one is for this notebook only.

# %%
from collections import Counter
from dataclasses import replace
from itertools import islice

import matplotlib.pyplot as plt
import mlx.optimizers as optim
import numpy as np

from course_lib.classroom import (
    LiveCurve,
    add_to,
    budget,
    check,
    claim,
    record_loss,
    stored,
)
from course_lib.classroom.draw_model import draw_model
from course_lib.classroom.exercises import gpt as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.model.attention import rotate
from course_lib.model.sizes import count_parameters, flops_per_token

backend.seed_everything(42)
print(backend.describe())

# %% [markdown]
# Where does this lead? A model with a billion parameters, made in one line. The package has it already:

# %%
import course_lib.model.gpt as finished

before = mx.get_active_memory()
big = finished.GPT(finished.GPTConfig.from_depth(26))
taken = (mx.get_active_memory() - before) / 1e6
print(f"{sum(a.size for _, a in tree_flatten(big.parameters())):,} parameters, {taken:.1f} MB")
claim("a billion parameters, and less than a megabyte", taken < 1)


# %% [markdown]
# A billion numbers, and hardly a byte? MLX is lazy, and nobody has asked for these numbers yet.
#
# ## 1. One dial
#
# A GPT has nine numbers. Four of them (`n_layer`, `n_head`, `n_kv_head`, `n_embd`) follow from one, the **depth**: how many
# blocks are stacked. Each further block makes the model 64 numbers wider, and each attention head gets 128 of them where that divides. A
# model of depth 12 is called d12.
#
# `refusals` is a module of the package, written by hand. It refuses numbers that do not fit together and says how to mend them,
# here and not ten minutes later in a matrix product.

# %%
#| export model.gpt
@dataclass(frozen=True)
class GPTConfig:
    """The numbers that make a GPT. Raises CourseError for numbers that do not fit together."""

    sequence_len: int = 2048
    vocab_size: int = 65536
    n_layer: int = 12
    n_head: int = 6
    n_kv_head: int = 6
    n_embd: int = 768
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    softcap: float = 15.0

    def __post_init__(self):
        refusals.check_sizes(self)

    @property
    def head_dim(self) -> int:
        """Numbers of one attention head."""
        return self.n_embd // self.n_head


# %%
#| export model.gpt
@add_to(GPTConfig)
@classmethod
def from_depth(
    cls,
    depth: int,
    vocab_size: int = 65536,
    sequence_len: int = 2048,
    n_kv_head: int | None = None,
    aspect_ratio: int = 64,
    head_dim: int = 128,
) -> "GPTConfig":
    """nanochat's model with `depth` blocks: n_embd 64 · depth, heads of 128 where that divides.

    n_kv_head: by default as many as query heads. aspect_ratio: n_embd / depth, another one for
    a narrower or wider model; head_dim: about so many numbers per attention head.
    """
    refusals.at_least_one(depth=depth, aspect_ratio=aspect_ratio, head_dim=head_dim)
    n_embd = aspect_ratio * depth
    n_head = math.ceil(n_embd / head_dim)
    while n_embd % (2 * n_head):
        n_head -= 1
    n_kv_head = n_head if n_kv_head is None else n_kv_head
    return cls(sequence_len, vocab_size, depth, n_head, n_kv_head, n_embd)


# %%
print("depth  n_embd  n_head  numbers per head")
for depth in (1, 2, 4, 5, 6, 8, 12, 20, 26):
    config = GPTConfig.from_depth(depth)
    print(f"{depth:5d} {config.n_embd:7d} {config.n_head:7d} {config.head_dim:11d}")

# %% [markdown]
# Look at depth 5: 320 numbers would make $320/128 = 2.5$ heads, rounded up 3, and 320 cannot be shared out to 3 heads. So
# `from_depth` goes down until it divides. Every depth gives a model. Wrong numbers give a sentence:

# %% tags=["nbval-check-output"]
for wrong in ({"n_embd": 770}, {"n_kv_head": 4}, {"n_layer": 0}):
    try:
        GPTConfig(**wrong)
    except refusals.CourseError as error:
        print(error)

# %% [markdown]
# Now the model as a picture, from the outside in. On the left all of it, from the ids at the bottom to the logits at the top; in
# the middle one of its blocks; on the right what stands inside attention and MLP. B is how many texts, T how many positions, C
# is `n_embd`, H the number of attention heads, D the numbers of each, and V the size of the vocabulary.

# %%
draw_model(GPTConfig.from_depth(12).n_layer)

# %% [markdown]
# In the middle, follow the line at the left side, the **residual stream**. It goes straight up; each part takes a normed copy of it
# and adds its result. What is different from microGPT:
#
# | | microGPT (03) | GPT | why |
# |---|---|---|---|
# | positions | a learned table, added once | rotations in each attention (07) | the score knows the distance |
# | queries and keys | as they are | normed (07) | scores cannot grow without limit |
# | heads of keys and values | as many as of queries | as many, or fewer (07) | a smaller cache |
# | norms | after the embedding, before attention and MLP | there, and before `lm_head` | the residual stream grows, and is read at one scale |
# | starting values | 0.02 everywhere but two zeros | from the shape of each matrix; `lm_head` zero too | section 4 |
# | logits | as they are | within ±15 | section 3 |
# | arithmetic | float32 | products in bfloat16 on a GPU | half the memory traffic (chapter 19) |
#
# ## 2. Blocks
#
# ### ReLU², and what it does to a number
#
# Between the two matrices of the MLP stands an **activation function**: as in chapter 03, **ReLU²**. **ReLU** keeps what is positive and makes the rest 0, and the square is taken of
# what is left. GPT-2 had **GELU**, a rounded ReLU.

# %% tags=["nbval-check-output"]
hidden = mx.array([-2.0, 0.5, 3.0])
print("ReLU ", nn.relu(hidden).tolist())
print("ReLU²", mx.square(nn.relu(hidden)).tolist())

# %%
x = np.linspace(-2, 2, 81)
figure, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
for label, activation, line, color in (
    ("ReLU", nn.relu, "--", "#D55E00"),
    ("ReLU²", nn.relu2, "-", "#0072B2"),
    ("GELU", nn.gelu, ":", "#000000"),
):
    ax.plot(x, np.array(activation(mx.array(x, dtype=mx.float32))), line, color=color, label=label)
ax.set(xlabel="in", ylabel="out")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ReLU² starts flat at 0 and has no corner; above 1 it lies above the others.
# Section 7 measures whether that pays. `relu_squared` of the package is the same function in value and slope, and needs less
# memory; chapter 19 shows how.

# %%
x = mx.random.normal((4, 6))
plain = mx.grad(lambda x: mx.sin(mx.square(nn.relu(x))).sum())(x)
assert mx.allclose(relu_squared(x), mx.square(nn.relu(x)))
assert mx.allclose(mx.grad(lambda x: mx.sin(relu_squared(x)).sum())(x), plain, atol=1e-5)


# %% [markdown]
# With it, the MLP and the block: chapter 03's, with chapter 07's attention. Neither has a bias. (In the MLP, `c_fc` is chapter
# 03's `fc1` and `c_proj` its `fc2`. The `c_proj` of attention is another matrix, `wo` there.)

# %%
#| export model.gpt
class MLP(nn.Module):
    """Each position by itself: four times as wide, ReLU², and back. (B, T, n_embd) -> the same."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def __call__(self, x: mx.array) -> mx.array:
        return self.c_proj(relu_squared(self.c_fc(x)))


class Block(nn.Module):
    """Attention, then MLP; each adds what it makes of a normed copy of x, the residual stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm_eps = config.norm_eps
        self.attn = CausalSelfAttention(
            config.n_embd, config.n_head, config.n_kv_head, config.rope_base, config.norm_eps
        )
        self.mlp = MLP(config)

    def __call__(self, x: mx.array, *for_attention) -> mx.array:
        x = x + self.attn(rms_norm(x, self.norm_eps), *for_attention)
        return x + self.mlp(rms_norm(x, self.norm_eps))


# %% [markdown]
# A block adds to the residual stream and leaves its shape alone. With both `c_proj` at zero, it adds nothing:

# %%
tiny = GPTConfig(sequence_len=16, vocab_size=32, n_layer=2, n_head=2, n_kv_head=1, n_embd=8)
block = Block(tiny)
x = mx.random.normal((2, 5, tiny.n_embd))
assert block(x).shape == x.shape and not mx.allclose(block(x), x, atol=1e-3)
for part in (block.attn, block.mlp):
    part.c_proj.weight = mx.zeros_like(part.c_proj.weight)
assert mx.array_equal(block(x), x)
print(block.attn.c_q.weight.shape, block.attn.c_k.weight.shape, block.mlp.c_fc.weight.shape)


# %% [markdown]
# (`c_k` has 4 rows and not 8: one head of keys for two heads of queries, as in chapter 07.)
#
# ### From ids to the last norm
#
# Everything below `lm_head`: the embedding, a norm, the blocks, a norm. None of the norms has a weight, so there is nothing
# in them to train or to store. `look_up` is `weight[ids]`, with a gradient that is the same in each run on a GPU too. `caches` waits
# until chapter 12 and `recompute` until chapter 19.

# %%
#| export model.gpt
class Transformer(nn.Module):
    """Ids (B, T) to what `lm_head` reads (B, T, n_embd), in the compute type of the device."""

    def __init__(self, config: GPTConfig, recompute: bool):
        super().__init__()
        self.norm_eps, self.recompute = config.norm_eps, recompute
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.h = [Block(config) for _ in range(config.n_layer)]

    def __call__(self, ids: mx.array, caches: list | None = None) -> mx.array:
        x = look_up(self.wte.weight, ids).astype(backend.compute_dtype())
        x = rms_norm(x, self.norm_eps)
        for n, block in enumerate(self.h):
            if caches is not None:
                x = block(x, caches[n])
            else:
                x = nn.utils.checkpoint(block)(x) if self.recompute else block(x)
        return rms_norm(x, self.norm_eps)


# %% [markdown]
# Two checks. What comes out has a root mean square (RMS) of 1 at each position, whatever the blocks did. And position $t$ depends on the
# ids up to $t$ only: with another last id, all earlier positions give the same.

# %%
trunk = Transformer(tiny, recompute=False)
ids = mx.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
out = trunk(ids)  # (2, 5, 8)
rms = mx.sqrt(mx.square(out.astype(mx.float32)).mean(axis=-1))
other = trunk(mx.concatenate([ids[:, :-1], ids[:, -1:] + 7], axis=1))
assert out.shape == (2, 5, tiny.n_embd) and mx.allclose(rms, mx.ones((2, 5)), atol=0.02)
assert mx.allclose(out[:, :-1], other[:, :-1], atol=1e-3)
assert not mx.allclose(out[:, -1], other[:, -1], atol=1e-2)


# %% [markdown]
# The line with `backend.compute_dtype()` decides which numbers flow through the blocks: float32 on a CPU, on a GPU **bfloat16**,
# half as many bytes with the same range and fewer digits. Weights stay float32 everywhere; `Linear` turns them into the type of
# what comes in. Chapter 19 shows why.
#
# ## 3. Logits with a limit
#
# Softmax can make a model as sure as it likes: it only has to make a logit larger. A model that is sure and wrong has a
# huge loss. So the logits $z$ are bent until they fit between two limits, $\pm c$ with $c = 15$:
#
# $$ \mathrm{softcap}(z) = c \cdot \tanh(z / c) $$
#
# $\tanh$ (exercise 0.3) goes from −1 to 1, and near 0 it is nearly a straight line.

# %%
def softcap(z, c=15.0):
    """z where it is small; never beyond ±c."""
    return c * mx.tanh(z / c)


z = mx.linspace(-60, 60, 241)
figure, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
ax.plot(z.tolist(), z.tolist(), "--", color="#D55E00", label="as it is")
ax.plot(z.tolist(), softcap(z).tolist(), color="#0072B2", label="15 · tanh(z / 15)")
ax.set(xlabel="logit z", ylabel="what softmax gets", ylim=(-40, 40))
ax.legend(frameon=False)
plt.show()

# %%
slope = mx.grad(lambda z: softcap(z).sum())
print("slope at 0, 5, 15, 30:", *(f"{s:.2f}" for s in slope(mx.array([0.0, 5, 15, 30])).tolist()))

# %% [markdown]
# Up to about ±5 hardly anything changes. At ±30 the slope is below 0.1: a larger logit would change next
# to nothing, so training stops asking for one. One id can still be $e^{30}$ times as likely as another.
#
# `capped_logits` of the package is the product with the matrix of `lm_head` and this cap, with a few tricks that make it faster
# on a CPU. It must agree with the formula, also at both ends:

# %%
z = mx.array([[-1e4, -20.0, -1.0, 0.0, 0.1, 1.0, 20.0, 1e4]])
capped = capped_logits(z, mx.eye(8), 15.0)
print([round(number, 3) for number in capped[0].tolist()])
on_cpu = backend.device_kind() == "cpu"
assert mx.allclose(capped, softcap(z), atol=1e-5 if on_cpu else 1e-2)
assert mx.abs(capped).max().item() <= 15


# %% [markdown]
# ## 4. The whole model
#
# Embedding, blocks, and the **language model head** `lm_head`, which turns the last vectors into logits. It has a matrix of its own.
# Older models use the table `wte` a second time instead; their head is **tied** to it, ours is **untied**.

# %%
#| export model.gpt
class GPT(nn.Module):
    """The model: ids to logits, or to a loss. It begins with `init_weights(model, seed=0)`.

    recompute: keep only what enters each block, and compute the rest again for the gradient: less
    memory, more time.
    """

    def __init__(self, config: GPTConfig, recompute: bool = False):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config, recompute)
        self.lm_head = Linear(config.n_embd, config.vocab_size)
        init_weights(self, seed=0)

    def __call__(self, ids: mx.array, cache: list | None = None) -> mx.array:
        """Logits (B, T, vocab_size), float32, of ids (B, T).

        cache: one for each block, see CausalSelfAttention. Raises CourseError for ids outside the
        vocabulary, or more than sequence_len of them without a cache.
        """
        refusals.check_ids(self.config, ids, whole=cache is None)
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: mx.array, cache: list | None = None) -> mx.array:
        """What the head reads, (B, T, n_embd), of ids that are not checked."""
        return self.transformer(ids, cache)

    @property
    def head_weight(self) -> mx.array:
        """The head's matrix (vocab_size, n_embd)."""
        return self.lm_head.weight

    def head(self, x: mx.array) -> mx.array:
        """Logits (…, vocab_size) of (…, n_embd); `fused_loss` has their gradient written out."""
        return capped_logits(x, self.head_weight, self.config.softcap)


# %% [markdown]
# (`check_ids` comes first because MLX does not refuse an id that has no row in the table. It reads whatever lies there.)
#
# ### Starting values
#
# A matrix of shape (fan_out, fan_in) makes each of its fan_out results from fan_in numbers. If the inputs have RMS 1 and the weights
# are random with standard deviation $s$, the outputs have RMS $s\sqrt{\text{fan\_in}}$: they are sums of fan_in independent terms, and variances add up. So $s = 1/\sqrt{\text{fan\_in}}$ keeps
# it at 1 for every width. (Where there are fewer outputs than inputs, nanochat takes a smaller $s$, times
# $\sqrt{\text{fan\_out}/\text{fan\_in}}$.) Every `c_proj` starts at zero, as in microGPT, and so does `lm_head`.

# %%
#| export model.gpt
def init_weights(model: GPT, seed: int) -> None:
    """nanochat's starting values: N(0, 1) for wte, zero for lm_head and every c_proj.

    The other matrices (fan_out, fan_in): N(0, s²) with s = 1/√fan_in · min(1, √(fan_out / fan_in)).
    """
    weights = tree_flatten(model.parameters())
    keys = mx.random.split(mx.random.key(seed), len(weights))
    new = []
    for (name, weight), key in zip(weights, keys, strict=True):
        if weight.ndim != 2:  # a gain or a bias keeps what its layer gave it
            continue
        fan_out, fan_in = weight.shape
        std = min(1, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in)
        if "wte" in name:
            std = 1.0
        if "c_proj" in name or "lm_head" in name:
            std = 0.0
        new.append((name, std * mx.random.normal(weight.shape, key=key)))
    model.update(tree_unflatten(new))


# %%
one_block = GPT(replace(tiny, n_layer=1))
for name, weight in tree_flatten(one_block.parameters()):
    print(f"{name:36s} {str(weight.shape):9s} std {mx.std(weight).item():.2f}")

# %% [markdown]
# These are all the parameter names, and nanochat (October 2025) has the same ones. The rotations of chapter 07 are not among them: they are not
# trained.
#
# Why not 0.02 everywhere, as in microGPT and GPT-2? Here is the RMS of what `c_fc` puts out when RMS 1 comes in, for three widths:

# %%
for width in (64, 768, 1664):
    x, weight = mx.random.normal((64, width)), mx.random.normal((4 * width, width))
    rule, old = (
        mx.sqrt(mx.square(x @ (std * weight).T).mean()).item() for std in (width**-0.5, 0.02)
    )
    print(f"width {width:4d}: by the rule {rule:.2f}, with 0.02 everywhere {old:.2f}")
    assert abs(rule - 1) < 0.1

# %% [markdown]
# With 0.02 a narrow model gets small numbers and a wide one larger ones, and ReLU² squares the difference. By the rule every
# width gets the same. And with every `c_proj` at
# zero a deep model starts as a shallow one does.

# %% [markdown]
# ### The first loss is known exactly
#
# An `lm_head` of zeros gives logits of zero, every id the same probability $1/V$, and a loss of $\ln V$. Not approximately:
# exactly.

# %%
logits = GPT(tiny)(ids)  # (2, 5, 32)
first = nn.losses.cross_entropy(logits, ids).mean().item()
print(f"loss {first:.6f} | ln 32 {math.log(32):.6f}")
claim("the first loss is ln V", abs(first - math.log(32)) < 1e-5)


# %% [markdown]
# But if `lm_head` is zero, and so is every `c_proj`, does anything move at all? Guess which matrices get a gradient in the first
# step. Then look, over three steps of the plainest kind, weight minus gradient times a rate:

# %%
def loss_of(model):
    return nn.losses.cross_entropy(model(ids), mx.roll(ids, -1, 1)).mean()


moves = {name: [] for name, _ in tree_flatten(one_block.parameters())}
for _ in range(3):
    gradients = nn.value_and_grad(one_block, loss_of)(one_block)[1]
    for name, gradient in tree_flatten(gradients):
        moves[name].append(mx.abs(gradient).max().item() > 0)
    optim.SGD(1.0).update(one_block, gradients)

# %%
for name, steps in moves.items():
    print(f"{name:36s}", *("moves" if moved else "  -  " for moved in steps))
claim("at first lm_head alone", [name for name in moves if moves[name][0]] == ["lm_head.weight"])
claim("in the third step all", all(steps[2] for steps in moves.values()))


# %% [markdown]
# A gradient on its way down is multiplied by each matrix that it passes. In step 1 `lm_head` is zero, so nothing gets below
# it. In step 2 the gradient gets to the residual stream, hence to `wte` and to each `c_proj`, but not
# past those. From step 3 on everything moves.
#
# ## 5. The loss
#
# Logits, cross-entropy, mean, as in chapter 03. One thing is new: a target of −1 means *no question here*: padding, or the
# user's words in a chat (chapter 13). Such a position does not count. As an index, −1 would be the last id, so 0 takes its place. If
# nothing counts, the mean is 0 and not a division by zero.

# %%
def simple_loss(model, ids, targets):
    """Mean cross-entropy of the targets (B, T) that are not -1, in nats."""
    losses = nn.losses.cross_entropy(model(ids), mx.maximum(targets, 0))  # (B, T)
    counts = targets >= 0
    return (losses * counts).sum() / mx.maximum(counts.sum(), 1)


# %% [markdown]
# For a small model that is all. With 65,536 ids there is a catch: a logit for each id, at each position, of each text.

# %% tags=["nbval-check-output"]
for B, T, V in ((8, 128, 512), (1, 2048, 65536), (8, 2048, 65536)):
    print(f"B={B} T={T:4d} V={V:5d}: {B * T * V * 4 / 1e9:6.3f} GB of logits")


# %% [markdown]
# And the way back needs arrays of the same shape. So the package's loss, `fused_loss` in `course_lib/model/loss.py`, never holds all
# logits: it takes some rows at a time, makes their loss *and their gradient* while the logits are there, and throws the logits
# away. That this is possible is the subject of [chapter 19](19_memory.ipynb). Here it is enough that nothing else changes.
# `row_losses` does the same without a gradient, for evaluation.

# %%
#| export model.gpt
@add_to(GPT)
def loss(self, ids: mx.array, targets: mx.array, reduction: str = "mean") -> mx.array:
    """Cross-entropy in nats of targets (B, T) that are not -1: "mean", "sum", or "none": (B, T).

    With no such target the mean is 0. "mean" and "sum" make their gradient at once: to evaluate,
    take "none".
    Raises CourseError as `__call__` does, and for targets that do not fit the ids.
    """
    refusals.check_reduction(reduction)
    refusals.check_ids(self.config, ids, targets)
    x = self.hidden(ids).reshape(-1, self.config.n_embd)  # (B T, n_embd)
    counts = (targets.reshape(-1) >= 0).astype(mx.float32)  # (B T,)
    targets_or_0 = mx.maximum(targets.reshape(-1), 0)
    if reduction == "none":
        losses = row_losses(self.head, x, targets_or_0, self.config.vocab_size)
        return (losses * counts).reshape(targets.shape)
    if reduction == "mean":
        counts = counts / mx.maximum(counts.sum(), 1)
    return fused_loss(x, self.head_weight, targets_or_0, counts, self.config.softcap)


# %%
model = GPT(tiny)
model.lm_head.weight = 0.5 * mx.random.normal(model.lm_head.weight.shape)  # no longer zero
targets = mx.array([[1, 4, 1, 5, -1], [2, -1, -1, -1, -1]])
value, gradients = nn.value_and_grad(model, simple_loss)(model, ids, targets)
same, same_gradients = nn.value_and_grad(model, GPT.loss)(model, ids, targets)
pairs = zip(tree_flatten(gradients), tree_flatten(same_gradients), strict=True)
worst = max(mx.abs(a - b).max().item() for (_, a), (_, b) in pairs)
print(f"simple {value.item():.6f} | model.loss {same.item():.6f} | gradients differ by {worst:.0e}")
close = 1e-4 if backend.compute_dtype() == mx.float32 else 2e-2
claim("one loss and one gradient", abs(value.item() - same.item()) < close and worst < close)
assert model.loss(ids, mx.full(ids.shape, -1)).item() == 0


# %% [markdown]
# And against somebody else's model? mlx-lm, by the authors of MLX, has one named nanochat, written
# independently of ours. It need not be on your machine, so the check stands in `tests/test_gpt.py`:
#
# ```python
# other = mlx_lm.models.nanochat.Model(sizes)
# other.load_weights(tree_flatten(model.parameters()), strict=True)  # the same names, no more and no fewer
# assert mx.abs(model(ids) - other(ids)).max() < 2e-5
# ```
#
# ## 6. Counting before building
#
# ### Parameters
#
# In a block of width $d$, attention has four matrices of $d \times d$ (two of them smaller with fewer heads of keys and
# values), the MLP two of $4d \times d$. That is $12d^2$. With $L$ blocks, and a row of $d$ numbers for each of $V$ ids in
# `wte` and in `lm_head`:
#
# $$ N = 12 L d^2 + 2 V d $$
#
# `count_parameters` of `course_lib/model/sizes.py` makes the model and adds up its
# arrays; if you change the model, the count changes with it.

# %%
def by_formula(config):
    return 12 * config.n_layer * config.n_embd**2 + 2 * config.vocab_size * config.n_embd


# %%
for config in (tiny, GPTConfig(64, 100, 3, 6, 6, 48), GPTConfig.from_depth(26)):
    counted, formula = count_parameters(config), by_formula(config)
    print(f"counted {counted:13,d} | formula {formula:13,d} | kv heads {config.n_kv_head}")
    assert counted == formula if config.n_kv_head == config.n_head else counted < formula

# %% [markdown]
# The first has fewer heads of keys and values than of queries, hence fewer parameters than the formula says.
#
# ### Operations
#
# A weight multiplies and adds once for each token on the way forward: 2 operations. The way back costs twice that, since it
# makes a gradient for the input and one for the weight. So 6 operations for each weight and token. `wte` is left out: a row
# is looked up, nothing is multiplied. Attention also multiplies queries with keys, and weights with values. That work depends
# on T and not on any parameter.
#
# $$ 6 \, (N - V d) + 12 L d T $$
#
# (Where $12LdT$ comes from: two products, 2 operations for each of $d \cdot T$ pairs of numbers, three times for forward and
# backward, in $L$ blocks. A causal mask hides about half of the pairs; it is the custom to count them all.) `flops_per_token` reads both parts off the model.

# %%
config = GPTConfig.from_depth(12)
attention = 12 * config.n_layer * config.n_embd * config.sequence_len
multiplied = by_formula(config) - config.vocab_size * config.n_embd
print(f"d12: {flops_per_token(config):,}, of which attention {attention:,}")
assert flops_per_token(config) == 6 * multiplied + attention

# %% [markdown]
# Now all sizes, at a vocabulary of 65,536 and texts of 2,048 tokens. The parameter counts are those that nanochat publishes. The last two columns say how much text a model
# should read. About 20 tokens for each parameter was the best use of a fixed number of operations in the experiments of
# [Hoffmann et al., 2022](https://arxiv.org/abs/2203.15556), known as Chinchilla, and nanochat (October 2025) took that. It
# counts both tables as parameters, though a row of `wte` is looked up and not computed. nanochat (July 2026) takes 12 tokens for each
# parameter of the blocks and `lm_head` alone.

# %% tags=["nbval-check-output"]
table = {4: 36_700_160, 6: 60_948_480, 8: 92_274_688, 12: 185_597_952}
table |= {16: 335_544_320, 20: 560_988_160, 26: 1_081_999_360}
print("depth  n_embd  heads     parameters  GFLOPs/token   billions of tokens: October, July")
for depth, published in table.items():
    config = GPTConfig.from_depth(depth)
    count, flops = count_parameters(config), flops_per_token(config)
    multiplied = count - config.vocab_size * config.n_embd
    sizes = f"{depth:5d} {config.n_embd:7d} {config.n_head:6d} {count:14,d} {flops / 1e9:13.3f}"
    print(f"{sizes} {20 * count / 1e9:29.2f} {12 * multiplied / 1e9:6.2f}")
    assert count == published

# %%
names, left = [f"d{depth}" for depth in table], np.zeros(len(table))
configs = [GPTConfig.from_depth(depth) for depth in table]
figure, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
for part, rows, color, hatch in (
    ("wte", lambda c: c.vocab_size, "#E69F00", "//"),
    ("lm_head", lambda c: c.vocab_size, "#f6d9a8", ".."),
    ("attention", lambda c: 4 * c.n_layer * c.n_embd, "#0072B2", ""),
    ("MLP", lambda c: 8 * c.n_layer * c.n_embd, "#cfe4f3", ""),
):
    share = np.array([100 * rows(c) * c.n_embd / count_parameters(c) for c in configs])
    ax.barh(names, share, left=left, color=color, hatch=hatch, label=part)
    left += share
ax.invert_yaxis()
ax.set_xlabel("% of the parameters")
ax.legend(ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The hatched parts are the two tables. They are nearly all of d4, about half of d12, and a fifth of d26. That is the price
# of 65,536 ids.

# %% [markdown]
# ## 7. The ladder: what does each idea buy?
#
# Papers say that each of these ideas helps. Measure it. The text is the bundled corpus of chapter 06. The tokenizer has 512
# ids, trained here and not saved: yours, if you have one, stays as it is, and the losses below do not depend on it. The model is
# small, 4 blocks of width 128.

# %%
STEPS = budget(400, quick=3)
data = open_dataset()
tokenizer = Tokenizer.train(data.documents("train"), 512)
config = GPTConfig(sequence_len=128, vocab_size=512, n_layer=4, n_head=4, n_kv_head=4, n_embd=128)
with TokenLoader(data, tokenizer, "val", 8, config.sequence_len) as loader:
    held_out = list(islice(loader, budget(32, quick=1)))
with TokenLoader(data, tokenizer, "train", 8, config.sequence_len) as loader:
    stream = list(islice(loader, STEPS + 16))
train_batches, choosing = stream[:STEPS], stream[STEPS:]
print(f"{count_parameters(config):,} parameters; {STEPS * 8 * 128:,} tokens to train on")


# %% [markdown]
# Three parts of text: 400 batches to train on; the 16 after them, `choosing`, on which we choose whatever must be chosen; and
# held-out text, by which nothing was chosen.
#
# ### The numbers to beat
#
# Chapter 01 taught that a loss means nothing until you know what counting gets. So count: how often each id occurs in the training
# tokens, each pair, each three in a row. A longer run of ids that was seen too rarely falls back on the shorter ones, as in
# chapter 01.

# %%
def ids_of(batches):
    """All ids of some batches, one after the other."""
    return np.concatenate([np.array(inputs).ravel() for inputs, _ in batches]).tolist()


def count_runs(ids, longest):
    """How often each run of 1 to `longest` ids occurs; of the empty one, the number of ids."""
    runs = Counter({(): len(ids)})
    for n in range(longest):
        runs.update(zip(*(ids[k:] for k in range(n + 1)), strict=False))
    return runs


def counts_loss(runs, ids, longest, strength):
    """Mean loss of each of the ids, given the longest - 1 before it, backing off to fewer."""
    total = 0.0
    for end in range(longest, len(ids) + 1):
        chance = 1 / config.vocab_size
        for n in range(1, longest + 1):
            run = tuple(ids[end - n : end])
            chance = (runs.get(run, 0) + strength * chance) / (runs.get(run[:-1], 0) + strength)
        total -= math.log(chance)
    return total / (len(ids) - longest + 1)


# %% [markdown]
# `strength` says how many counts the shorter run is worth. It is chosen on `choosing`. For "bigram, all tokens" we count all training tokens but
# those of `choosing`, three times as many as the models below will see.

# %%
few = ids_of(train_batches)
every = np.concatenate(
    [[tokenizer.bos, *ids] for ids in map(tokenizer.encode, data.documents("train"))]
)
assert every[: len(few)].tolist() == few
rest = [*few, *every[len(few) + len(ids_of(choosing)) :].tolist()][: budget(10**9, quick=3000)]
by_counts = {"one of 512 alike": math.log(512)}
for label, ids_counted, longest in (
    ("unigram", few, 1),
    ("bigram", few, 2),
    ("bigram, all tokens", rest, 2),
    ("trigram", few, 3),
):
    runs = count_runs(ids_counted, longest)
    strengths = {s: counts_loss(runs, ids_of(choosing), longest, s) for s in (3, 10, 30, 100, 300)}
    best = min(strengths, key=strengths.get)
    by_counts[label] = counts_loss(runs, ids_of(held_out), longest, best)
    print(f"{label:19s} {len(ids_counted):9,} tokens, strength {best:3d}: {by_counts[label]:.3f}")


# %% [markdown]
# The **bigram** of the same tokens is the number to beat: a model that loses to it could be replaced by a table of pairs. The trigram is far better
# still.
#
# ### Watch it train
#
# Now the GPT of this chapter, on the same 400 batches, with AdamW (chapter 04) at one rate for all, which we did not search. (Chapter 09 searches one for the matrices of the blocks.) The rate stays for half of the
# steps and then goes down to 0.

# %%
def rung_loss(model, ids, targets):
    return nn.losses.cross_entropy(model(ids), targets).mean()


def mean_loss(model, batches):
    return float(np.mean([rung_loss(model, *batch).item() for batch in batches]))


# %%
RATE = 5e-3


def climb(model, batches, table_rate=RATE, rate=RATE, on_step=None):
    """Train the model on the batches, once each."""
    rates = (table_rate, rate)
    of_table, of_rest = (
        optim.AdamW(rate, betas=[0.9, 0.95], weight_decay=0.0, bias_correction=True)
        for rate in rates
    )
    optimizer = optim.MultiOptimizer([of_table, of_rest], [lambda name, _: name == "wpe"])
    loss_and_grad = nn.value_and_grad(model, rung_loss)
    for step, batch in enumerate(batches):
        falling = min(1, 2 * (1 - step / len(batches)))
        of_table.learning_rate, of_rest.learning_rate = (rate * falling for rate in rates)
        loss, gradients = loss_and_grad(model, *batch)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state, loss)
        if on_step:
            on_step(step + 1, loss.item())
    return model


# %%
lines = {name: by_counts[name] for name in ("unigram", "bigram", "trigram")}
curve = LiveCurve(references=lines, total=STEPS, window=20)
gpt = climb(GPT(config), train_batches, on_step=curve.add)
curve.show()
gpt_loss = mean_loss(gpt, held_out)
print(f"held-out loss of this GPT {gpt_loss:.3f}")


# %% [markdown]
# It starts at $\ln 512 = 6.24$, learns in a few dozen steps which ids are common, and then falls slowly, with bumps where documents are harder than others. (The curve is of training batches, the lines of held-out text: to cross a line here is not yet to beat it.) What
# does it write? A plain loop: all ids so far go in, the last position's logits give the next id, and it is appended. (Everything is
# computed anew for each token; chapter 12 does better.)

# %%
def sample(model, count, temperature, seed):
    """Text of `count` tokens after BOS."""
    ids, keys = [tokenizer.bos], mx.random.split(mx.random.key(seed), count)
    for key in keys:
        logits = model(mx.array([ids[-config.sequence_len :]]))[0, -1]  # (V,)
        ids.append(mx.random.categorical(logits / temperature, key=key).item())
    return tokenizer.decode(ids[1:])


print(sample(gpt, budget(100, quick=10), temperature=0.7, seed=0))

# %% [markdown]
# It has the look of the corpus, line breaks and pieces of words, and says nothing.
#
# ### Six rungs and a control
#
# The bottom rung has the same norms and matrices without positions: plain attention, ReLU, a tied head, no cap. Each rung adds
# an idea to those below it, only RoPE takes the table's place, and the top rung is this chapter's GPT.

# %%
LADDER = {
    "no positions": "plain attention, ReLU, tied head",
    "+ table": "a learned row for each position",
    "+ RoPE": "rotations in place of the table",
    "+ QK norm": "queries and keys normed",
    "+ ReLU²": "in place of ReLU",
    "+ head, softcap": "lm_head untied, at zero; wte with std 1; logits within ±15: this is GPT",
}


class Rung(GPT):
    """A GPT with the ideas of LADDER up to `label`; with all of them, GPT itself."""

    def __init__(self, label, seed):
        super().__init__(config)
        init_weights(self, seed)
        self.ideas = list(LADDER)[: list(LADDER).index(label) + 1]
        if "+ head, softcap" not in self.ideas:
            self.pop("lm_head")
            self.transformer.wte.weight = 0.02 * self.transformer.wte.weight
        if label == "+ table":
            shape, key = (config.sequence_len, config.n_embd), mx.random.key(seed + 100)
            self.wpe = 0.02 * mx.random.normal(shape, key=key)


# %%
@add_to(Rung)
def attend(self, layer, x):
    """Chapter 07's attention, but for the ideas that are not there yet. (B, T, C) -> the same."""
    B, T, C = x.shape
    q, k, v = (
        linear(x).reshape(B, T, -1, layer.head_dim).transpose(0, 2, 1, 3)  # (B, H, T, D)
        for linear in (layer.c_q, layer.c_k, layer.c_v)
    )
    if "+ RoPE" in self.ideas:
        q, k = rotate(q, layer._inverse_frequencies), rotate(k, layer._inverse_frequencies)
    if "+ QK norm" in self.ideas:
        q, k = rms_norm(q), rms_norm(k)
    y = mx.fast.scaled_dot_product_attention(q, k, v, scale=layer.head_dim**-0.5, mask="causal")
    return layer.c_proj(y.transpose(0, 2, 1, 3).reshape(B, T, C))


@add_to(Rung)
def __call__(self, ids):
    x = self.transformer.wte(ids)
    if "wpe" in self:
        x = x + self.wpe[: ids.shape[1]]
    x = rms_norm(x)
    for block in self.transformer.h:
        x = x + self.attend(block.attn, rms_norm(x))
        hidden = nn.relu(block.mlp.c_fc(rms_norm(x)))
        x = x + block.mlp.c_proj(mx.square(hidden) if "+ ReLU²" in self.ideas else hidden)
    matrix = self.lm_head if "+ head, softcap" in self.ideas else self.transformer.wte
    logits = rms_norm(x) @ matrix.weight.T
    return softcap(logits) if "+ head, softcap" in self.ideas else logits


# %% [markdown]
# Is the top rung really GPT? The trained weights, in both:

# %%
top = Rung("+ head, softcap", seed=0)
top.update(gpt.parameters())
ids = held_out[0][0]
assert mx.allclose(top(ids), gpt(ids), atol=1e-3 if on_cpu else 0.2)


# %% [markdown]
# These runs take minutes each, so they are stored. All see the same batches in the same order; a seed is another set of
# starting values. Each has three seeds.
#
# - **The control** is the top rung with *frozen* blocks: only `wte` and `lm_head` are trained. Since every `c_proj` stays zero, the blocks add nothing, and the model
#   sees one id and guesses the next. It is a bigram that was learned. What a model has over it is what its blocks have learned.
# - **The table** did badly whenever the rest of the model kept the common rate, 5e-3, even with a lower rate of its own. So both its rates are chosen on `choosing`.

# %%
def rung_row(label, seed, table_rate=RATE, rate=RATE):
    """One model of the ladder, trained: a row of a stored experiment."""
    model = Rung("+ head, softcap" if label == "frozen blocks" else label, seed)
    if label == "frozen blocks":
        for block in model.transformer.h:
            block.freeze()
    climb(model, train_batches, table_rate, rate)
    row = {"rung": label, "table_rate": table_rate, "rate": rate, "seed": seed, "steps": STEPS}
    return row | {"choosing": mean_loss(model, choosing), "loss": mean_loss(model, held_out)}


def table_rates():
    for table_rate, rate in ((3e-4, RATE), (1e-3, RATE), (1e-3, 1e-3)):
        yield rung_row("+ table", 0, table_rate, rate)
    yield rung_row("no positions", 0, rate, rate)


tried = stored("ladder_table_rates", table_rates)
for row in tried:
    print(row["rung"], *(f"{row[what]:.4g}" for what in ("table_rate", "rate", "choosing", "loss")))
best = min(tried[:-1], key=lambda row: row["choosing"])
chosen = best["table_rate"], best["rate"]


# %%
def ladder():
    for label in [*LADDER, "frozen blocks"]:
        for seed in range(budget(3, quick=1)):
            yield rung_row(label, seed, *(chosen if label == "+ table" else ()))


rows = stored("ladder_400", ladder)
losses = {}
for row in rows:
    losses.setdefault(row["rung"], []).append(row["loss"])
mean = {label: sum(each) / len(each) for label, each in losses.items()}
luck = max(max(each) - min(each) for each in losses.values())

# %% [markdown]
# `luck` is the largest distance between two seeds of one rung. A difference below it says nothing. In the figure, squares are counts, circles are trained models:

# %%
idea_of = LADDER | {"frozen blocks": "the control: GPT, its blocks as they began"}
for label, loss in by_counts.items():
    record_loss("08", label, "counts", corpus="python docs", steps=0, loss=loss)
for label, each in losses.items():
    record_loss("08", label, idea_of[label], corpus="python docs", steps=STEPS, loss=each)
for label in (*by_counts, *mean):
    known = by_counts.get(label) or mean[label]
    print(f"{label:19s} {known:.3f}", *(f"{loss:.3f}" for loss in losses.get(label, [])))

# %%
names = [*by_counts, *mean]
figure, (whole, near) = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
for ax in (whole, near):
    for place, name in enumerate(names):
        each = losses.get(name, [by_counts.get(name)])
        marker, color = ("o", "#0072B2") if name in losses else ("s", "#D55E00")
        ax.plot(each, [place] * len(each), marker, color=color, alpha=0.6)
    ax.axvline(by_counts["bigram"], color="#D55E00", linestyle=":")
    ax.set_xlabel("held-out loss, nats per token")
    ax.grid(axis="x", alpha=0.3)
whole.set_yticks(range(len(names)), names)
whole.set_ylim(len(names) - 0.4, -0.6)
near.set(xlim=(3.78, 4.15))
near.set_title("close-up: a dot per seed; dotted: the bigram", fontsize=10)
plt.show()

# %%
bigram, top = by_counts["bigram"], mean["+ head, softcap"]
claim("each seed of GPT beats that bigram", max(losses["+ head, softcap"]) < bigram)
claim("so does the rung below it", mean["+ ReLU²"] < bigram)
lower = min(mean[label] for label in ("no positions", "+ table", "+ RoPE", "+ QK norm"))
claim("the four lower rungs fail: each loses to it", lower > bigram)
claim("and all models lose to counts of more text", top > by_counts["bigram, all tokens"])
claim("and by far to the trigram", min(mean.values()) > by_counts["trigram"] + 0.3)

# %%
claim("the frozen control loses to the bigram, too", mean["frozen blocks"] > bigram)
claim("trained blocks buy more than luck", mean["frozen blocks"] - top > 2 * luck)
claim("RoPE buys more than luck", mean["no positions"] - mean["+ RoPE"] > 2 * luck)
claim("so does ReLU²", mean["+ QK norm"] - mean["+ ReLU²"] > luck)
claim("QK norm does not", mean["+ RoPE"] - mean["+ QK norm"] < luck)
claim("own head and softcap: nothing to see", abs(mean["+ ReLU²"] - top) < luck)
claim("the run that you watched is one of these", abs(gpt_loss - top) < max(2 * luck, 0.05))
one, other, low, without = (row["loss"] for row in tried)
harm = min(one, other) - max(losses["no positions"]), low - without
claim("the table does harm at each rate tried", min(harm) > luck)

# %% [markdown]
# What the numbers say, for **this size, this text, 400 steps and one rate** (but for the table), not searched (with other rates chapter 09 comes below 3.7):
#
# - **The bigram** is beaten by GPT and by the rung below it, by a little: 3.83 each against 3.87. The four lower rungs fail: a table
#   of pairs does better. With three times the text it gets 3.73, and a trigram gets 3.35, which no rung comes near.
# - **Trained blocks** are worth 0.19: GPT ends that far below the frozen control, a bigram that was learned. That control, 4.01, even beats "no positions",
#   whose blocks are trained. It starts otherwise (head, `wte`).
# - **RoPE** is worth 0.19 over no positions, **ReLU²** 0.07.
# - **QK norm** buys less than luck could. Chapter 07 showed what it prevents.
# - **A head of its own and the cap** together buy nothing that luck could not have bought. The cap is a safety rail against logits that run away, and in so short a training they hardly can. They are kept
#   because the trained models that we want to load have them.
# - **A table of positions** does harm at each rate tried. In the ladder it has the better rates of three tried, 1e-3 for all, and is 0.13 worse than "no positions" at 5e-3. At 5e-3 with a lower rate for the table alone it is 0.46 worse; against "no positions" at 1e-3, too, 0.07 (one seed). So most of it is a matter of rates.
#
# Each idea was measured on top of those before it; in another order the steps would differ.
#
# ### Why does "no positions" work at all?
#
# Without positions a model should see a bag of ids. Yet it is far better than a unigram, for two reasons. The residual stream carries a position's own id, so pairs can be learned
# without any positions. And the causal mask gives the order away: position $t$ sees exactly $t$ ids. Suppose the first id can be recognised, as `<|bos|>` can at the beginning of a text. Take an attention head
# that looks at everything alike, and values of which only the first id's is not 0:

# %%
weights = mx.tril(mx.ones((5, 5)))
weights = weights / weights.sum(axis=1, keepdims=True)
print([round(share, 2) for share in (weights @ mx.array([1.0, 0, 0, 0, 0])).tolist()])


# %% [markdown]
# Each position gets one over its number: its place, without having been told. So a decoder can infer positions from the mask
# ([Haviv et al., 2022](https://arxiv.org/abs/2203.16634) found that trained ones do). It has to learn it, and RoPE saves it the trouble.

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/08_gpt_solutions.ipynb](solutions/08_gpt_solutions.ipynb).
#
# ### Exercise 8.1 — count with fewer heads
#
# 15 minutes, ●○○. Write `parameters(depth, n_kv_head)`: how many `GPTConfig.from_depth(depth, n_kv_head=n_kv_head)` has, from its sizes, without
# `count_parameters` and without making the model. The vocabulary has 65,536 ids, and both tables count.
#
# <details><summary>Hint 1</summary>Which of a block's six matrices become smaller when heads of keys and values are shared?</details>
#
# <details><summary>Hint 2</summary>`c_k` and `c_v` have n_kv_head · head_dim rows; `c_q` and attention's `c_proj` stay square.</details>

# %% tags=["exercise"]
def parameters(depth, n_kv_head):
    raise NotImplementedError


# %%
check(exercises.parameters, parameters)


# %% [markdown]
# ### Exercise 8.2 — how many days?
#
# 10 minutes, ●○○. Write `days(depth, gflops)`: how many days it takes to train a model of this depth on 20 tokens for each parameter, on a machine
# that does `gflops` billion operations a second. Then ask for d12 and `backend.matmul_gflops()`, which is more than a whole
# training step reaches.
#
# <details><summary>Hint 1</summary>Operations for a token times tokens, divided by operations a second, is seconds.</details>
#
# <details><summary>Hint 2</summary>`flops_per_token` and `count_parameters` of the configuration give the first two. A day has 86,400 seconds.</details>

# %% tags=["exercise"]
def days(depth, gflops):
    raise NotImplementedError


# %%
check(exercises.days, days)


# %% [markdown]
# ### Exercise 8.3 — where do the operations go?
#
# 20 minutes, ●●○. Write `shares(config, T)`: which share of the operations of a forward pass, for one token in a text of T, goes to each
# kind of product. Return a dict with the keys `"attention matrices"` (`c_q`, `c_k`, `c_v`, `c_proj`), `"scores"` (queries with keys, and weights with
# values), `"MLP"` and `"head"`. The shares add up to 1. Count all T positions for the scores, as section 6 does. Before you run it for d12,
# guess: from which T on do the scores cost more than the MLP?
#
# <details><summary>Hint 1</summary>A matrix costs 2 operations for each of its numbers. The factor 2 is everywhere, so it cancels out of a share.</details>
#
# <details><summary>Hint 2</summary>Per token and block the scores cost 2 · 2 · T · n_embd, two products of T · n_embd pairs. Do not forget that there are `n_layer` blocks and one `lm_head`.</details>

# %% tags=["exercise"]
def shares(config, T):
    raise NotImplementedError


# %%
check(exercises.shares, shares)

# %% [markdown]
# ## Summary
#
# - One dial, the depth, sets the sizes. Parameters and operations follow from it before anything is made.
# - `lm_head` and every `c_proj` start at zero: the first loss is exactly $\ln V$, and it takes three steps until everything
#   moves.
# - A target of −1 does not count. The package makes loss and gradient a few rows at a time; value and gradient stay the same.
# - Each idea was measured on the same data with the same budget, beside the counts that it must beat and a control.
#
# ## Pitfalls
#
# - **The loss stays at exactly $\ln V$.** Then `lm_head` never moves: the optimizer updated another tree than the one that the
#   loss reads, such as a copy of the model, or the gradients were never applied.
# - Counting `wte` in the operations: at d12 that overestimates by 29 %.
# - A loss that forgets targets of −1: as an index, −1 is the *last* id, and that one is trained instead.
# - A ladder without counts, control and seeds. It ranks models that may all lose to a table of pairs.
#
# ## Further reading
#
# - [nanochat](https://github.com/karpathy/nanochat): the program whose model of October 2025 this is.
# - [Primer](https://arxiv.org/abs/2109.08668), So et al., 2021: ReLU².
# - [Gemma 2](https://arxiv.org/abs/2408.00118), 2024: capped logits.
# - [Transformer Language Models without Positional Encodings Still Learn Positional Information](https://arxiv.org/abs/2203.16634), Haviv et al., 2022.
# - [Scaling Laws for Neural Language Models](https://arxiv.org/abs/2001.08361), Kaplan et al., 2020: counting 6 operations
#   for each weight.
#
# **Next:** [09 · Muon](09_muon.ipynb): three ways to take a step, on the same problem.

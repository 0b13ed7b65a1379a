# %% [markdown]
# # 08 · GPT
#
# **Goal.** Build the whole model, any size from one dial, and know its parameters, its memory and its arithmetic before you make it.
#
# | | |
# |---|---|
# | Needs | [03 · microGPT](03_microgpt.ipynb), [06 · Data](06_data.ipynb), [07 · Attention](07_attention.ipynb) |
# | Time | 70 minutes to read, 65 for the exercises; two to five minutes to run |
# | Memory | under 4 GB |
# | You will build | the model: its blocks, its head, its starting values → `course_lib.model.head`, `course_lib.model.gpt` |
#
# This is nanochat's model: with `depth` 12 it is the d12 of 185,597,952 parameters, with the same names for its weights. That
# the same weights give the same logits is checked outside this notebook, in `tests/test_gpt.py`, against the model of mlx-lm.
# You know most of its parts. New are a loss that never holds all logits, and the ladder at the end, which measures what each
# idea of recent years buys at a size that trains in seconds.

# %% [markdown]
# ![Map of the course: chapter 08 gpt is marked, in Part II; after 07 attention, and 09 muon comes next](images/map_08.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · **08** · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/08_gpt.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export model.gpt
"""nanochat's GPT, any size from one dial, the depth: its weight names, its logits, its loss.

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
from course_lib.host.errors import CourseError
from course_lib.model.attention import CausalSelfAttention, Linear, rms_norm
from course_lib.model.embedding import look_up
from course_lib.model.head import capped_logits
from course_lib.model.loss import fused_loss, row_losses

# %% [markdown]
# That cell opens the module that this chapter builds. The next one is for this notebook only.

# %%
import time
from itertools import islice

import matplotlib.pyplot as plt
import mlx.optimizers as optim
import numpy as np

from course_lib.classroom import add_to, budget, check, draw_loss_log, record_loss
from course_lib.classroom.exercises import gpt as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.model import loss as loss_module
from course_lib.model.attention import rotate
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token

backend.seed_everything(42)
print(backend.describe())


# %% [markdown]
# ## 1. One dial
#
# A GPT has nine numbers. Four of them (`n_layer`, `n_head`, `n_kv_head`, `n_embd`) follow from one, the **depth**: how many
# blocks are stacked. Each further block makes the model 64 numbers wider, and heads have 128 numbers where that divides. A
# model of depth 12 is called d12.
#
# Numbers that do not fit together are refused here, with the fix in the message, and not ten minutes later by a matrix
# product.

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
        for name in ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd"):
            if getattr(self, name) < 1:
                raise CourseError(f"{name}={getattr(self, name)}, expected 1 or more")
        if self.n_embd % (2 * self.n_head):
            raise CourseError(
                f"n_embd={self.n_embd} cannot be shared out to n_head={self.n_head} heads of an "
                f"even size; make n_embd a multiple of {2 * self.n_head}, or change n_head"
            )
        if self.n_head % self.n_kv_head:
            raise CourseError(
                f"n_kv_head={self.n_kv_head} does not divide n_head={self.n_head}; expected one of "
                f"{[n for n in range(1, self.n_head + 1) if self.n_head % n == 0]}"
            )

    @property
    def head_dim(self) -> int:
        """Numbers of one head."""
        return self.n_embd // self.n_head

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
        a narrower or wider model; head_dim: about so many numbers a head.
        """
        for name, value in {
            "depth": depth,
            "aspect_ratio": aspect_ratio,
            "head_dim": head_dim,
        }.items():
            if value < 1:
                raise CourseError(f"{name}={value}, expected 1 or more")
        n_embd = aspect_ratio * depth
        n_head = math.ceil(n_embd / head_dim)
        while n_embd % (2 * n_head):
            n_head -= 1
        n_kv_head = n_head if n_kv_head is None else n_kv_head
        return cls(sequence_len, vocab_size, depth, n_head, n_kv_head, n_embd)


# %%
print("depth  n_embd  n_head  numbers a head")
for depth in (1, 2, 4, 5, 6, 8, 12, 20, 26):
    config = GPTConfig.from_depth(depth)
    print(f"{depth:5d} {config.n_embd:7d} {config.n_head:7d} {config.head_dim:11d}")

# %% [markdown]
# Look at depth 5: 320 numbers would make $320/128 = 2.5$ heads, rounded up 3, and 320 cannot be shared out to 3 heads. So
# `from_depth` goes down until it divides. Every depth gives a model; wrong numbers give a sentence:

# %% tags=["nbval-check-output"]
assert all(GPTConfig.from_depth(depth).n_layer == depth for depth in range(1, 33))
for wrong in ({"n_embd": 770}, {"n_kv_head": 4}, {"n_layer": 0}):
    try:
        GPTConfig(**wrong)
    except CourseError as error:
        print(error)


# %% [markdown]
# The model as a picture. On the left all of it, from the ids at the bottom to the logits at the top; on the right one of its
# blocks. B is how many texts, T how many positions, C is `n_embd` and V the size of the vocabulary.

# %%
def draw_box(ax, x, y, label, color="#cfe4f3"):
    ax.add_patch(plt.Rectangle((x - 1.1, y - 0.3), 2.2, 0.6, facecolor=color, edgecolor="#333333"))
    ax.text(x, y, label, ha="center", va="center", fontsize=9)


def draw_arrow(ax, start, end, label=""):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#333333"})
    if label:
        ax.text(start[0] + 0.15, (start[1] + end[1]) / 2, label, va="center", fontsize=8)


def draw_whole(ax, n_layer):
    parts = ["wte", "norm", f"{n_layer} × block", "norm", "lm_head", "softcap"]
    shapes = ["ids (B, T)", *["(B, T, C)"] * 4, "(B, T, V)", "logits (B, T, V)"]
    for n, part in enumerate(parts):
        draw_box(ax, 0, 1.2 * n, part, "#f6d9a8" if "block" in part else "#cfe4f3")
    for n, shape in enumerate(shapes):
        draw_arrow(ax, (0, 1.2 * n - 0.9), (0, 1.2 * n - 0.3), shape)
    ax.set(xlim=(-1.5, 2), ylim=(-1.1, 7.1), title="the model")


def draw_block(ax):
    for base, part in ((0, "attention"), (3, "MLP")):
        draw_box(ax, 2.2, base + 0.6, "norm")
        draw_box(ax, 2.2, base + 1.6, part)
        ax.plot([0, 2.2], [base, base], color="#333333", linewidth=1)
        draw_arrow(ax, (2.2, base), (2.2, base + 0.3))
        draw_arrow(ax, (2.2, base + 0.9), (2.2, base + 1.3))
        ax.plot([2.2, 2.2], [base + 1.9, base + 2.3], color="#333333", linewidth=1)
        draw_arrow(ax, (2.2, base + 2.3), (0.2, base + 2.3))
        draw_arrow(ax, (0, base - 0.6), (0, base + 2.1))
        ax.text(0, base + 2.3, "+", ha="center", va="center", fontsize=14, fontweight="bold")
    draw_arrow(ax, (0, 5.5), (0, 6.2))
    ax.text(-0.3, 2.9, "the stream (B, T, C)", rotation=90, ha="center", va="center", fontsize=8)
    ax.set(xlim=(-0.8, 3.6), ylim=(-0.7, 6.4), title="one block")


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 5))
draw_whole(left, GPTConfig.from_depth(12).n_layer)
draw_block(right)
for ax in (left, right):
    ax.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# On the right, follow the line at the left side, the **residual stream**: it goes straight up, and each part takes a normed copy of it
# and adds its result.
#
# What is special about it, next to microGPT:
#
# | | microGPT (03) | GPT | why |
# |---|---|---|---|
# | positions | a learned table, added once | rotations in each attention (07) | the score knows the distance |
# | queries and keys | as they are | normed (07) | scores cannot grow without limit |
# | heads of keys and values | as many as queries | as many, or fewer (07) | a smaller cache |
# | norms | after the embedding, before attention and MLP | there, and before the head | the stream grows; the head reads it at size 1 |
# | MLP | ReLU², four times as wide | the same | section 2 |
# | starting values | 0.02 everywhere but two zeros | from the shape of each matrix; the head zero too | section 4 |
# | logits | as they are | within ±15 | section 3 |
# | arithmetic | float32 | products in bfloat16 on a GPU | half the memory traffic, and more speed where the GPU has units for it |
#
# ## 2. Blocks
#
# ### ReLU², and what it does to a number
#
# Between the two matrices of the MLP stands an **activation function**. **ReLU** keeps what is positive and makes the rest 0. **ReLU²** squares
# what is left. GPT-2 had **GELU**, a ReLU with a round corner.

# %% tags=["nbval-check-output"]
hidden = mx.array([-2.0, 0.5, 3.0])
print("relu ", nn.relu(hidden).tolist())
print("relu²", mx.square(nn.relu(hidden)).tolist())

# %%
x = np.linspace(-2, 2, 81)
activations = {"ReLU": (nn.relu, "--"), "ReLU²": (nn.relu2, "-"), "GELU": (nn.gelu, ":")}
figure, ax = plt.subplots(figsize=(5, 2.8))
for (label, (activation, line)), color in zip(
    activations.items(), ("#D55E00", "#0072B2", "#000000"), strict=True
):
    ax.plot(x, np.array(activation(mx.array(x, dtype=mx.float32))), line, color=color, label=label)
ax.set_xlabel("in")
ax.set_ylabel("out")
ax.legend(frameon=False)
plt.show()


# %% [markdown]
# ReLU² starts flat at 0 and has no corner; above 1 it lies above the others. Whether that buys anything is measured in
# section 7.
#
# ### A gradient of our own
#
# MLX can find the gradient of ReLU² by itself. We write it to say what must be kept for it, the input alone: the slope of
# $x^2$ is $2x$ where x is positive, and 0 elsewhere.
#
# `mx.custom_function` marks a function whose gradient we write ourselves, the **vjp** (vector–Jacobian product). It gets
# the input, the slope of the final loss with respect to the output, and the output; it returns the slope with respect to
# the input. A toy first, with a factor of 10 behind it, so that the incoming slope is not just 1:

# %% tags=["nbval-check-output"]
@mx.custom_function
def square(x):
    return x * x


@square.vjp
def square_gradient(x, slope, output):
    return slope * 2 * x


print(mx.grad(lambda x: 10 * square(x).sum())(mx.array([1.0, 2.0, -3.0])).tolist())


# %% [markdown]
# The slope of $10x^2$ is $20x$: right, also the sign of the last. Now the same for ReLU², and with it MLP and block:
# chapter 03's, with chapter 07's attention. Neither has a bias. In the MLP, `c_fc` is chapter 03's `fc1` and `c_proj` its
# `fc2`; attention's `c_proj` is another matrix, `wo` there.

# %%
#| export model.gpt
@mx.custom_function
def relu_squared(x: mx.array) -> mx.array:
    """max(x, 0)² (So et al., 2021). Its gradient, below, needs x alone: nothing else is kept."""
    return mx.square(mx.maximum(x, 0))


@relu_squared.vjp
def _relu_squared_gradient(x: mx.array, slope: mx.array, output: mx.array) -> mx.array:
    return 2 * slope * mx.maximum(x, 0)


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

    def __call__(self, x: mx.array, cache=None) -> mx.array:
        x = x + self.attn(rms_norm(x, self.norm_eps), cache)
        return x + self.mlp(rms_norm(x, self.norm_eps))


# %%
x = mx.random.normal((4, 6))
assert mx.allclose(relu_squared(x), nn.relu2(x))
ours = mx.grad(lambda x: mx.sin(relu_squared(x)).sum())(x)
theirs = mx.grad(lambda x: mx.sin(nn.relu2(x)).sum())(x)
print("largest difference of the gradients", mx.abs(ours - theirs).max().item())
assert mx.allclose(ours, theirs, atol=1e-5)

# %% [markdown]
# A block adds to the stream and leaves its shape alone. With the last matrices of both parts at zero, it adds nothing:

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
# (`c_k` has 4 rows and not 8: one head of keys for two heads of queries, as chapter 07 has it.)
#
# ### The trunk
#
# Everything below the head: the embedding, a norm, the blocks, a norm. None of the norms has a weight, so there is nothing
# about them to train or to store. `recompute` waits until section 6, `caches` until chapter 12. `look_up`, from
# `course_lib/model/embedding.py`, is `weight[ids]`, with one difference in its gradient on a GPU. There MLX adds up the
# gradient of a row in an order that changes from run to run, and so would the last bits of the sum. `look_up` adds whole
# numbers in its place: their sum is the same in any order.

# %%
#| export model.gpt
class Transformer(nn.Module):
    """Ids (B, T) to what the head reads (B, T, n_embd), in the compute type of the device."""

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
# What leaves it has size 1 at each position, whatever the blocks did. And position $t$ depends on the ids up to $t$ only:
# other last ids, and the earlier positions give the same.

# %%
trunk = Transformer(tiny, recompute=False)
ids = mx.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
out = trunk(ids)  # (2, 5, 8)
sizes = mx.sqrt(mx.square(out.astype(mx.float32)).mean(axis=-1))
other = trunk(mx.concatenate([ids[:, :-1], ids[:, -1:] + 7], axis=1))
assert out.shape == (2, 5, tiny.n_embd) and mx.allclose(sizes, mx.ones((2, 5)), atol=0.02)
assert mx.allclose(out[:, :-1], other[:, :-1], atol=1e-3)
assert not mx.allclose(out[:, -1], other[:, -1], atol=1e-2)
print("sizes of the first text's positions", [round(size, 2) for size in sizes[0].tolist()])

# %% [markdown]
# ### Which numbers to compute with
#
# A float32 has about 7 decimal digits. **bfloat16** has the same range in half the bytes, and about 2 to 3 digits. GPUs
# multiply matrices of it several times as fast.

# %% tags=["nbval-check-output"]
numbers = mx.array([1.0, 1.001, 1.01, 256.0, 257.0])
print("float32 ", [round(number, 4) for number in numbers.tolist()])
print("bfloat16", [round(number, 4) for number in numbers.astype(mx.bfloat16).tolist()])
weight = mx.array(1.0, dtype=mx.bfloat16)
for _ in range(100):
    weight = weight + mx.array(0.001, dtype=mx.bfloat16)
print("1 and a hundred steps of 0.001, in bfloat16:", weight.item())

# %% [markdown]
# The last line is why **weights stay float32**: a training step changes a weight by little, and in bfloat16 the change is
# rounded away, a hundred times out of a hundred. The rule of this model:
#
# - weights, their gradients and the optimizer's memory: float32;
# - what flows through the blocks, and the matrix products: the type of `backend.compute_dtype()`, bfloat16 on a GPU and
#   float32 on a CPU, where bfloat16 is slower;
# - logits and loss: float32 again, since a loss is a sum over many small differences.
#
# `Linear` of chapter 07 turns its weight into the type of what comes in, and the first line of the trunk sets that type.

# %%
print("weights", trunk.wte.weight.dtype, "| out of the trunk", trunk(ids).dtype)
assert trunk.wte.weight.dtype == mx.float32 and trunk(ids).dtype == backend.compute_dtype()


# %% [markdown]
# ## 3. Logits with a limit
#
# Softmax can make a model as sure as it likes: it only has to make a logit larger. A model that is sure and wrong has a
# huge loss. So the logits $z$ are bent until they fit between two limits, $\pm 15$:
#
# $$ \mathrm{softcap}(z) = c \cdot \tanh(z / c), \qquad c = 15 $$
#
# $\tanh$ (exercise 0.3) goes from −1 to 1, and near 0 it is nearly the straight line $z$. The function below
# writes it with one exponential, $\tanh u = 1 - 2/(e^{2u} + 1)$.

# %%
#| export model.head
"""What turns the last vectors of a model into logits: a product, and a cap on what comes out.

`GPT.head` is the one head that the course uses; this is its arithmetic.
"""

import math

import mlx.core as mx

from course_lib import backend
from course_lib.model.products import project


def fast_exp(x: mx.array) -> mx.array:
    """e to the x. On a CPU, MLX's power takes less than half of its exp's time."""
    return mx.power(math.e, x) if backend.device_kind() == "cpu" else mx.exp(x)


def capped_logits(x: mx.array, weight: mx.array, softcap: float) -> mx.array:
    """softcap · tanh(x Wᵀ / softcap) in float32: (…, n_embd), (V, n_embd) -> (…, V)."""
    logits = project(x, weight).astype(mx.float32)
    logits = mx.minimum(logits, 10 * softcap)  # tanh(10) is 1, and exp stays finite
    return softcap - 2 * softcap / (fast_exp(logits * (2 / softcap)) + 1)  # tanh, with one exp


# %% [markdown]
# `x.dtype` is the type of the trunk's output; the product is turned into float32 **before** the cap. Against MLX's own tanh,
# and at both ends:

# %%
z = mx.array([[-1e4, -20.0, -1.0, 0.0, 0.1, 1.0, 20.0, 1e4]])
capped = capped_logits(z, mx.eye(8), 15.0)
print([round(number, 3) for number in capped[0].tolist()])
assert mx.allclose(
    capped, 15 * mx.tanh(z / 15), atol=1e-2 if backend.device_kind() != "cpu" else 1e-5
)
assert capped[0, 3].item() == 0 and mx.abs(capped).max().item() <= 15

# %%
z = np.linspace(-60, 60, 241)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
left.plot(z, z, "--", color="#D55E00", label="as it is")
left.plot(z, 15 * np.tanh(z / 15), color="#0072B2", label="15 · tanh(z / 15)")
left.set(xlabel="logit z", ylabel="what softmax gets", ylim=(-40, 40))
left.legend(frameon=False)
right.plot(z, 1 - np.tanh(z / 15) ** 2, color="#0072B2")
right.set(xlabel="logit z", ylabel="slope", ylim=(0, 1.05))
figure.tight_layout()
plt.show()


# %% [markdown]
# Up to about ±5 hardly anything changes. Beyond ±30 the slope is below 0.1: to make the logit larger still changes next
# to nothing, so training hardly does. The most that one id can be ahead of another is $e^{30}$ to 1. That is still a great
# deal; the cap is no modesty, it is a fence.
#
# ## 4. The whole model
#
# The trunk and the head. The **head** `lm_head` has a matrix of its own. Older models use the table `wte` a second time
# instead, a **tied** head; here it is **untied**.

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
        self.check_ids(ids, whole=cache is None)
        return self.head(self.transformer(ids, cache))

    def head(self, x: mx.array) -> mx.array:
        """Logits (…, vocab_size), float32, of what leaves the trunk, (…, n_embd): the only head.

        `fused_loss` has the gradient of this head written out: change both together.
        """
        return capped_logits(x, self.lm_head.weight, self.config.softcap)


# %% [markdown]
# A check before any work. MLX does not refuse an id that has no row in the table: it reads whatever lies there. (`targets`
# waits until section 5.) To look at the numbers, Python must wait for the device, so it waits once for all of them.

# %%
#| export model.gpt
@add_to(GPT)
def check_ids(self, ids: mx.array, targets: mx.array | None = None, whole: bool = True) -> None:
    """Refuse ids (B, T) that have no row in wte, and targets that are neither ids nor -1.

    Raises CourseError, also for shapes that do not fit and, if `whole`, for more than sequence_len
    positions. Inside mx.compile arrays have no numbers yet, and only their shapes are checked: who
    compiles `loss` calls this first.
    """
    if ids.ndim != 2 or ids.size == 0:
        raise CourseError(f"ids have shape {ids.shape}, expected (B, T) with one token or more")
    if whole and ids.shape[1] > self.config.sequence_len:
        raise CourseError(
            f"{ids.shape[1]} positions, but the model has "
            f"sequence_len={self.config.sequence_len}; give fewer"
        )
    checked = [("ids", ids, 0)]
    if targets is not None:
        checked.append(("targets", targets, -1))
        if targets.shape != ids.shape:
            raise CourseError(
                f"ids {ids.shape} and targets {targets.shape} must have the same shape (B, T)"
            )
    on_cpu = {"stream": mx.cpu}  # where ids come from: no wait for what a GPU is doing
    bounds = [(array.min(**on_cpu), array.max(**on_cpu)) for _, array, _ in checked]
    try:
        mx.eval(bounds)
    except ValueError:  # inside mx.compile
        return
    for (name, _, least), (low, high) in zip(checked, bounds, strict=True):
        if low.item() < least or high.item() >= self.config.vocab_size:
            raise CourseError(
                f"{name} go from {low.item()} to {high.item()}, but this model knows {least} to "
                f"{self.config.vocab_size - 1}; use the tokenizer that it was trained with"
            )


# %% [markdown]
# ### Starting values
#
# A matrix of shape (fan_out, fan_in) makes each of its fan_out results from fan_in numbers. If these have size 1 (their root mean square, RMS) and the
# weights are random with standard deviation $s$, the result has size $s\sqrt{\text{fan\_in}}$. So $s = 1/\sqrt{\text{fan\_in}}$ keeps
# size 1 at every width. (Where the result is shorter than the input, nanochat takes a smaller $s$, times
# $\sqrt{\text{fan\_out}/\text{fan\_in}}$.) The last matrices of attention and MLP start at zero, as in microGPT, and so
# does the head.

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
model = GPT(tiny)
for name, weight in tree_flatten(model.parameters()):
    print(f"{name:36s} {str(weight.shape):9s} std {mx.std(weight).item():.2f}")

# %% [markdown]
# These names and no others: nanochat's, so that weights can go back and forth between programs. The rotations of
# chapter 07 are not among them: they are not trained.
#
# Why not 0.02 everywhere, as in microGPT and GPT-2? Here is the size of what `c_fc` puts out when it gets numbers of size
# 1, for models of different width:

# %%
widths = [64 * depth for depth in range(1, 27, budget(1, quick=5))]
after = {"by the rule": [], "0.02 everywhere": []}
for width in widths:
    x = mx.random.normal((64, width))
    weight = mx.random.normal((4 * width, width))
    for sizes, std in zip(after.values(), (width**-0.5, 0.02), strict=True):
        sizes.append(mx.sqrt(mx.square(x @ (std * weight).T).mean()).item())
assert all(abs(size - 1) < 0.1 for size in after["by the rule"])


# %%
def stream_sizes(change, depth=12):
    """Size of the stream after each block of a new model, 256 wide, its weights changed first."""
    model = GPT(GPTConfig(256, 512, depth, 4, 4, 256))
    weights = tree_flatten(model.parameters())
    model.update(tree_unflatten([(name, change(name, weight)) for name, weight in weights]))
    x = rms_norm(model.transformer.wte(mx.random.randint(0, 512, (1, 64))))
    sizes = [1.0]
    for block in model.transformer.h:
        x = block(x)
        sizes.append(mx.sqrt(mx.square(x).mean()).item())
    return sizes


def random_c_proj(name, weight):
    fan_out, fan_in = weight.shape
    std = min(1, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in)
    return std * mx.random.normal(weight.shape) if "c_proj" in name else weight


through = {
    "by the rule, c_proj zero": stream_sizes(lambda name, weight: weight),
    "c_proj random too": stream_sizes(random_c_proj),
    "0.02 everywhere": stream_sizes(lambda name, weight: 0.02 * mx.random.normal(weight.shape)),
}
print({label: round(sizes[-1], 2) for label, sizes in through.items()})

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3))
styles = (("-", "#0072B2"), ("--", "#D55E00"), (":", "#000000"))
for (label, sizes), (line, color) in zip(after.items(), styles[::2], strict=True):
    left.plot(widths, sizes, line, color=color, label=label)
left.set(xlabel="n_embd", ylabel="size of what c_fc gives", ylim=(0, 1.2))
for (label, sizes), (line, color) in zip(through.items(), styles, strict=True):
    right.plot(sizes, line, color=color, label=label)
right.set(xlabel="blocks", ylabel="size of the stream", ylim=(0, None))
left.legend(frameon=False, fontsize=8)
right.legend(frameon=False, fontsize=8)
figure.tight_layout()
plt.show()

# %% [markdown]
# Left: with 0.02 a narrow model gets small numbers and a wide one larger ones, and ReLU² squares the difference; by the
# rule every width gets the same. Right: with zero `c_proj` the stream passes through all blocks untouched, and a deeper
# model starts like a shallow one. With random ones each block adds noise that nobody has learned. (0.02 makes blocks of
# this width so weak that they add next to nothing, which is nearly the same as zero; in a wide model they are stronger.)
#
# ### The first loss is known exactly
#
# A head of zeros gives logits of zero, every id the same probability $1/V$, and a loss of $\ln V$. Not about: exactly.

# %%
logits = model(ids)  # (2, 5, 32)
first = nn.losses.cross_entropy(logits, ids).mean().item()
print(f"loss {first:.6f} | ln 32 {math.log(32):.6f}")
assert logits.shape == (2, 5, 32) and logits.dtype == mx.float32
assert abs(first - math.log(32)) < 1e-5

# %% [markdown]
# But if the head is zero, and so is every `c_proj`, does anything move at all? Take three steps of the plainest kind,
# weight minus gradient times a rate, and note who moved:

# %%
fresh, moved = GPT(tiny), {}
loss_of = nn.value_and_grad(
    fresh, lambda model: nn.losses.cross_entropy(model(ids), mx.roll(ids, -1, 1)).mean()
)
for _ in range(3):
    _, gradients = loss_of(fresh)
    for name, gradient in tree_flatten(gradients):
        part = name.split("h.1.")[-1].removeprefix("transformer.").removesuffix(".weight")
        moved.setdefault(part, []).append("moves" if mx.abs(gradient).max().item() > 0 else "-")
    optim.SGD(1.0).update(fresh, gradients)
print(f"{'weights':16s} step 1   step 2   step 3")
for part in (
    "wte",
    "attn.c_q",
    "attn.c_k",
    "attn.c_v",
    "attn.c_proj",
    "mlp.c_fc",
    "mlp.c_proj",
    "lm_head",
):
    print(f"{part:16s} {moved[part][0]:8s} {moved[part][1]:8s} {moved[part][2]}")
assert [part for part, steps in moved.items() if steps[0] == "moves"] == ["lm_head"]
assert all(steps[2] == "moves" for steps in moved.values())

# %% [markdown]
# A gradient on its way down is multiplied by each matrix that it passes. In step 1 the head is zero, so nothing gets below
# it: only the head itself moves. In step 2 the gradient gets to the stream, hence to `wte` and to each `c_proj`, but not
# past those. From step 3 on everything moves. (An optimizer that divides by the size of a gradient has to live with a size
# of 0 in the first steps: chapter 09.)
#
# ## 5. The loss, without ever holding all logits
#
# ### The simple one
#
# Logits, cross-entropy, mean, as in chapter 03. One thing is new: a target of −1 means *no question here*: padding, or the
# user's words in a chat (chapter 13). Such a row counts 0 times. As an index, −1 would be the last id, so 0 takes its place. If
# no row counts, the mean is 0 and not a division by zero.

# %%
def simple_loss(model, ids, targets):
    """Mean cross-entropy of the targets (B, T) that are not -1, in nats."""
    losses = nn.losses.cross_entropy(model(ids), mx.maximum(targets, 0))  # (B, T)
    counts = targets >= 0
    return (losses * counts).sum() / mx.maximum(counts.sum(), 1)


model.lm_head.weight = 0.5 * mx.random.normal(model.lm_head.weight.shape)  # no longer zero
targets = mx.array([[1, 4, 1, 5, -1], [2, -1, -1, -1, -1]])
value, gradients = nn.value_and_grad(model, simple_loss)(model, ids, targets)
print(f"loss {value.item():.4f}")

# %% [markdown]
# ### The problem
#
# A logit is a float32, 4 bytes. There is one for each id of the vocabulary, at each position, in each text:
# $B \cdot T \cdot V$ of them.

# %% tags=["nbval-check-output"]
for B, T, V in ((1, 512, 512), (1, 2048, 65536), (8, 2048, 65536)):
    print(f"B={B:2d} T={T:4d} V={V:5d}: {B * T * V * 4 / 1e9:7.3f} GB of logits")
d12 = GPTConfig.from_depth(12)
one_block = 12 * d12.n_embd**2 * 4 / 1e9
print(f"all weights of one d12 block: {one_block:.3f} GB")


# %% [markdown]
# And that is the logits alone. The simple loss also holds what softmax made of them, and their gradient: a few arrays of
# that size at the same time. With V in the tens of thousands, these three lines would need more memory than all the rest
# of the model.
#
# ### First idea: some rows at a time
#
# A row, one position of one text, has a loss of its own. Nothing connects it with the other rows. So take some rows, make
# their logits, their loss, throw the logits away, take the next.
#
# That is enough to *measure* a loss. Training needs the gradient too, and there it fails: automatic differentiation
# (chapter 02) keeps the logits of every chunk until the way back. We save nothing.
#
# ### Second idea: the gradient is known at once
#
# Take one row. $z_j$ are the capped logits, $p_j = e^{z_j} / \sum_k e^{z_k}$ the probabilities, $y$ the target, and the
# loss is $-\ln p_y$. Its slope is known from chapter 02, and it is the simplest of all:
#
# $$ \frac{\partial\,\text{loss}}{\partial z_j} = p_j - [j = y] $$
#
# where $[j = y]$ is 1 for the target and 0 for the others. Then one step further back, through the cap. With
# $z = c\tanh(u/c)$ the slope of $\tanh$ is $1 - \tanh^2$, and $\tanh(u/c)$ is just $z/c$:
#
# $$ \frac{\partial\,\text{loss}}{\partial u_j} = \left(p_j - [j = y]\right)\left(1 - (z_j/c)^2\right) $$
#
# Three logits by hand, against **finite differences**: move each a little up and down, and see how the loss changes.

# %%
def loss_of_row(u, target, cap=15.0):
    z = cap * np.tanh(u / cap)
    return np.log(np.exp(z).sum()) - z[target]


u, target = np.array([2.0, -1.0, 12.0]), 0
z = 15 * np.tanh(u / 15)
p = np.exp(z) / np.exp(z).sum()
by_hand = (p - np.eye(3)[target]) * (1 - (z / 15) ** 2)
h = 1e-5 * np.eye(3)
measured = [(loss_of_row(u + d, target) - loss_of_row(u - d, target)) / 2e-5 for d in h]
print("by hand ", by_hand.round(5).tolist())
print("measured", np.round(measured, 5).tolist())
assert np.allclose(by_hand, measured, atol=1e-6)


# %% [markdown]
# Look at what the formula needs: the logits, the target, nothing else. Nothing comes from later. So while the logits of a
# chunk are in memory for the loss, make the gradient of this chunk as well, and then throw the logits away. What is kept is
# the gradient of $x$, as large as $x$, and the gradient of the head's matrix, as large as that matrix.
#
# ### `model.loss`
#
# Both ideas together are `fused_loss` in the package, `course_lib/model/loss.py`: a few dozen lines
# written by hand, which this chapter uses and does not build. It is an `mx.custom_function` like that of section 2, with one
# difference: it makes the gradients on the way *forward*, as further outputs, and the way back only multiplies them by the slope
# that comes in. For each chunk of rows it computes in essence this, where `importance` is how much a row counts: one over the
# number of rows that count, or 0.
#
# ```python
# logits = capped_logits(x, weight, softcap)         # (n, V)
# slope = importance * (softmax(logits) - onehot)    # the gradient with respect to the capped logits
# slope = slope * (1 - (logits / softcap) ** 2)      # and through the cap
# for_x, for_weight = slope @ weight, slope.T @ x    # what is kept; logits and slope are not
# ```
#
# `row_losses`, from the same module, is the first idea alone, for evaluation.

# %%
#| export model.gpt
@add_to(GPT)
def loss(self, ids: mx.array, targets: mx.array, reduction: str = "mean") -> mx.array:
    """Cross-entropy in nats of targets (B, T) that are not -1: "mean", "sum", or "none": (B, T).

    With no such target the mean is 0. "mean" and "sum" make their gradient at once: to evaluate,
    take "none".
    Raises CourseError as `__call__` does, and for targets that do not fit the ids.
    """
    if reduction not in ("mean", "sum", "none"):
        raise CourseError(f"reduction={reduction!r}, expected 'mean', 'sum' or 'none'")
    self.check_ids(ids, targets)
    x = self.transformer(ids).reshape(-1, self.config.n_embd)  # (B T, n_embd)
    counts = (targets.reshape(-1) >= 0).astype(mx.float32)  # (B T,)
    targets_or_0 = mx.maximum(targets.reshape(-1), 0)
    if reduction == "none":
        losses = row_losses(self.head, x, targets_or_0, self.config.vocab_size)
        return (losses * counts).reshape(targets.shape)
    if reduction == "mean":
        counts = counts / mx.maximum(counts.sum(), 1)
    return fused_loss(x, self.lm_head.weight, targets_or_0, counts, self.config.softcap)


# %% [markdown]
# The same loss and the same gradients as the simple one, in chunks of 3 of the 10 rows:

# %%
at_once = loss_module.logits_at_once
loss_module.logits_at_once = lambda: 3 * tiny.vocab_size  # for a moment
fused, fused_gradients = nn.value_and_grad(model, GPT.loss)(model, ids, targets)
each = model.loss(ids, targets, reduction="none")  # (2, 5)
mx.eval(fused, fused_gradients, each)
loss_module.logits_at_once = at_once
close = 1e-4 if backend.compute_dtype() == mx.float32 else 2e-2
pairs = zip(tree_flatten(gradients), tree_flatten(fused_gradients), strict=True)
worst = max(mx.abs(a - b).max().item() for (_, a), (_, b) in pairs)
print(f"simple {value.item():.6f} | fused {fused.item():.6f} | gradients differ by {worst:.0e}")
print("of each target:", [round(loss, 2) for loss in each.flatten().tolist()])
assert abs(value.item() - fused.item()) < close and worst < close
assert abs(each.sum().item() / (targets >= 0).sum().item() - value.item()) < close
assert model.loss(ids, mx.full(ids.shape, -1)).item() == 0

# %% [markdown]
# And what the model says to an id that it does not know, to a text that is too long, and to a wrong shape:

# %% tags=["nbval-check-output"]
for wrong in (mx.array([[31, 32]]), mx.zeros((1, 17), mx.int32), mx.zeros((3,), mx.int32)):
    try:
        model(wrong)
    except CourseError as error:
        print(error)


# %% [markdown]
# ### What it saves
#
# A vocabulary of 65,536 and one long text, for the fused loss also one four times as long. Time, and **peak memory**: the
# most that was held at once beyond what was there before.

# %%
def time_and_peak(function, *arrays):
    mx.eval(arrays)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    started = time.perf_counter()
    mx.eval(function(*arrays))
    return time.perf_counter() - started, (mx.get_peak_memory() - before) / 1e6


def simple(x, weight, targets, importance):
    losses = nn.losses.cross_entropy(capped_logits(x, weight, 15.0), targets)
    return (losses * importance).sum()


def fused(x, weight, targets, importance):
    return fused_loss(x, weight, targets, importance, 15.0)


N, V = budget(1024, quick=128), budget(65536, quick=16384)
weight = mx.random.normal((V, 128))
for label, way, rows in (("simple", simple, N), ("fused", fused, N), ("fused", fused, 4 * N)):
    x, targets = mx.random.normal((rows, 128)), mx.random.randint(0, V, (rows,))
    way = mx.value_and_grad(way, argnums=(0, 1))
    seconds, peak = time_and_peak(way, x, weight, targets, mx.full((rows,), 1 / rows))
    print(f"{label}, N={rows}: the logits alone {rows * V * 4 / 1e6:5.0f} MB, ", end="")
    print(f"peak {peak:5.0f} MB, {seconds:5.2f} s")


# %% [markdown]
# The simple peak is several times the logits, and it grows with the length of the text. The fused peak is set by the chunk and
# hardly grows: on a CPU a chunk's logits are 64 MB, about ten arrays of that size are alive together (exponentials, slopes, and
# the next chunk's, since MLX works ahead), and there is the gradient of the head. (On a GPU chunks are larger, up to
# 512 MB, so that fewer operations are started.) Times differ between machines.
#
# ## 6. Counting before building
#
# ### Parameters
#
# In a block of width $d$: attention has four matrices of $d \times d$ (two of them smaller with fewer heads of keys and
# values), the MLP two of $4d \times d$. That is $12d^2$. With $L$ blocks, and a row of $d$ numbers for each of $V$ ids in
# `wte` and in the head:
#
# $$ N = 12 L d^2 + 2 V d $$

# %%
def by_formula(config):
    return 12 * config.n_layer * config.n_embd**2 + 2 * config.vocab_size * config.n_embd


before, started = mx.get_active_memory(), time.perf_counter()
big = GPT(GPTConfig.from_depth(26))
milliseconds = 1000 * (time.perf_counter() - started)
count = sum(array.size for _, array in tree_flatten(big.parameters()))
print(f"d26: {count:,} parameters, made in {milliseconds:.0f} ms, ", end="")
print(f"{(mx.get_active_memory() - before) / 1e6:.1f} MB")
assert count == by_formula(big.config)

# %% [markdown]
# A billion parameters and hardly a byte: MLX is lazy, and nobody has asked for the numbers of this model yet. So you need not
# trust a formula. `count_parameters(config)` of `course_lib/model/sizes.py` makes the model and
# adds up its arrays. Change the model, and the count changes with it. With fewer heads of keys and values there are fewer than the
# formula says:

# %%
for config in (tiny, GPTConfig(64, 100, 3, 6, 6, 48), GPTConfig.from_depth(1, vocab_size=512)):
    counted, formula = count_parameters(config), by_formula(config)
    heads = f"n_head {config.n_head}, n_kv_head {config.n_kv_head}"
    print(f"counted {counted:7,d} | formula {formula:7,d} | {heads}")
    assert counted == formula if config.n_kv_head == config.n_head else counted < formula


# %% [markdown]
# ### Operations
#
# A weight multiplies and adds once for each token on the way forward: 2 operations. The way back costs twice that, since it
# makes a gradient for the input and one for the weight. So 6 operations for each weight and token. `wte` is left out: a row
# is looked up, nothing is multiplied. Attention multiplies queries with keys and weights with values too, work that depends
# on T and not on any weight.
#
# $$ 6 \, (N - V d) + 12 L d T $$
#
# (Where $12LdT$ comes from: two products, 2 operations for each of $d \cdot T$ pairs of numbers, three times for forward and
# backward, in $L$ blocks.) `flops_per_token`, from the same module, reads both parts off the model: every weight but those of
# an `nn.Embedding`, and the queries of every attention.

# %%
for config in (GPTConfig.from_depth(4), GPTConfig.from_depth(12)):
    weights = by_formula(config) - config.vocab_size * config.n_embd
    attention = 12 * config.n_layer * config.n_embd * config.sequence_len
    print(f"d{config.n_layer}: {flops_per_token(config):,}, of which attention {attention:,}")
    assert flops_per_token(config) == 6 * weights + attention

# %% [markdown]
# The sizes of the course, at a vocabulary of 65,536 and texts of 2,048 tokens. For the last column of the table: about 20 tokens
# for each parameter was the best use of a fixed number of operations in the experiments of
# [Hoffmann et al., 2022](https://arxiv.org/abs/2203.15556), known as Chinchilla. Divide GFLOPs by the GFLOP/s of chapter 00,
# and you have the seconds of one token.

# %% tags=["nbval-check-output"]
table = {4: 36_700_160, 6: 60_948_480, 8: 92_274_688, 12: 185_597_952}
table |= {16: 335_544_320, 20: 560_988_160, 26: 1_081_999_360}
print("depth  n_embd  heads     parameters  GFLOPs/token  tokens at 20 a parameter")
for depth, published in table.items():
    config = GPTConfig.from_depth(depth)
    count, flops = count_parameters(config), flops_per_token(config)
    sizes = f"{depth:5d} {config.n_embd:7d} {config.n_head:6d} {count:14,d}"
    print(f"{sizes} {flops / 1e9:13.3f} {20 * count / 1e9:10.2f} billion")
    assert count == published

# %% [markdown]
# From depth 4 to 26 the parameters grow about thirty times, the operations nearly fifty times, because in a small model so
# much is table:

# %%
depths = [4, 6, 8, 12, 16, 20, 26]
left = np.zeros(len(depths))
figure, ax = plt.subplots(figsize=(6.5, 3))
for part, color, hatch in (
    ("wte", "#E69F00", "//"),
    ("lm_head", "#f6d9a8", ".."),
    ("attention", "#0072B2", ""),
    ("MLP", "#cfe4f3", ""),
):
    configs = [GPTConfig.from_depth(depth) for depth in depths]
    rows = {
        "attention": lambda c: 4 * c.n_layer * c.n_embd,
        "MLP": lambda c: 8 * c.n_layer * c.n_embd,
    }
    size = rows.get(part, lambda c: c.vocab_size)
    share = np.array([100 * size(c) * c.n_embd / count_parameters(c) for c in configs])
    ax.barh(
        [f"d{depth}" for depth in depths], share, left=left, color=color, hatch=hatch, label=part
    )
    left += share
ax.invert_yaxis()
ax.set_xlabel("% of the parameters")
ax.legend(ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
ax.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()


# %% [markdown]
# The hatched parts are the two tables. They are nearly all of d4, about half of d12, and a fifth of d26. That is the price
# of a vocabulary of 65,536, and why the small models of this course take a smaller one.
#
# ### Memory
#
# A training step holds the weights, a gradient for each, what the optimizer remembers about each (chapter 09 uses one that
# remembers one number for a weight inside the blocks, and Adam's two elsewhere), and the **activations**:
# what the way forward made and the way back will need. Counted in arrays of the size of the stream, (B, T, n_embd), a block keeps:
#
# | who | keeps | arrays |
# |---|---|---|
# | norm before attention | what goes in, what comes out | 2 |
# | queries | as they enter QK norm, as they leave it | 2 |
# | keys, values | keys before and after QK norm, values | 3, or fewer with fewer kv heads |
# | softmax | its weights, where attention is not fused | B · n_head · T · T numbers |
# | attention's `c_proj` | what goes in | 1 |
# | norm before the MLP | what goes in, what comes out | 2 |
# | MLP | what ReLU² takes, what it gives: each four times as wide | 8 |
#
# Together 7 + 8 arrays for attention and MLP, and 3 for keys and values: this is how `estimate_memory` counts, also in
# `course_lib.model.sizes`. The rest of its numbers, for what is alive for a moment only, is fitted to measurements.

# %%
d12 = GPTConfig.from_depth(12)
for batch_size, recompute in ((1, False), (8, False), (8, True)):
    parts = estimate_memory(d12, batch_size, recompute=recompute)
    line = ", ".join(f"{part} {count / 1e9:.2f}" for part, count in parts.items())
    print(f"d12, B={batch_size}{', recomputed' if recompute else ''}, in GB: {line}")


# %% [markdown]
# An estimate is worth what a measurement says of it. Real training steps of small models, with the real vocabulary:

# %%
def training_step(config, batch_size, recompute=False):
    """Seconds and peak bytes of a training step: one number remembered in blocks, two elsewhere."""
    mx.clear_cache()
    before = mx.get_active_memory()
    model = GPT(config, recompute)
    in_blocks = optim.SGD(1e-3, momentum=0.9)
    elsewhere = optim.AdamW(1e-3, bias_correction=True)
    optimizer = optim.MultiOptimizer([in_blocks, elsewhere], [lambda name, _: ".h." in name])
    text = mx.random.randint(0, config.vocab_size, (batch_size, config.sequence_len + 1))
    loss_and_grad = nn.value_and_grad(model, GPT.loss)
    for _ in range(2):  # the first also makes the optimizer's state
        mx.reset_peak_memory()
        started = time.perf_counter()
        loss, gradients = loss_and_grad(model, text[:, :-1], text[:, 1:])
        optimizer.update(model, gradients)
        del gradients
        mx.eval(model.parameters(), optimizer.state, loss)
    return time.perf_counter() - started, mx.get_peak_memory() - before


# %%
depths = range(2, budget(6, quick=2) + 1)
configs = [GPTConfig.from_depth(depth, sequence_len=256) for depth in depths]
estimated = [estimate_memory(config, 2)["total"] for config in configs]
measured = [training_step(config, 2)[1] for config in configs]
for depth, guess, truth in zip(depths, estimated, measured, strict=True):
    print(f"d{depth}: {guess / 1e6:6.0f} MB estimated, {truth / 1e6:6.0f} MB measured")
    assert backend.device_kind() != "cpu" or abs(guess / truth - 1) < 0.25

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.8))
ax.plot(depths, np.array(estimated) / 1e6, "s--", color="#D55E00", label="estimated")
ax.plot(depths, np.array(measured) / 1e6, "o-", color="#0072B2", label="measured peak")
top = 1.15 * max(measured) / 1e6
ax.set(xlabel="depth", ylabel="MB of a training step", ylim=(0, top), xticks=depths)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The two lines stay within a quarter of each other on a CPU, where the formula was fitted. These are small models, two short
# texts at a time: the lines for d12 above are extrapolated from such, not measured. A GPU works in other pieces; look at your
# own lines before you trust it.
#
# ### Recomputation
#
# Activations grow with the batch, and there is a trade: keep only what *enters* each block, and on the way back compute the
# inside of the block once more. `GPT(config, recompute=True)` does that (`nn.utils.checkpoint`; others call it gradient
# checkpointing). Four batch sizes, both ways:

# %%
config = GPTConfig(256, 512, 6, 4, 4, 256)
sizes = (1, 2, 4, 8)[: budget(4, quick=2)]
both = {
    recompute: [training_step(config, size, recompute) for size in sizes]
    for recompute in (False, True)
}
figure, ax = plt.subplots(figsize=(5.5, 3))
for recompute, (line, color, label) in {
    False: ("o-", "#0072B2", "keep everything"),
    True: ("s--", "#D55E00", "recompute"),
}.items():
    seconds, peaks = zip(*both[recompute], strict=True)
    ax.plot(seconds, np.array(peaks) / 1e6, line, color=color, label=label)
    for size, x, y in zip(sizes, seconds, peaks, strict=True):
        place = (6, -11) if recompute else (-24, 6)
        ax.annotate(f"B={size}", (x, y / 1e6), place, textcoords="offset points", fontsize=8)
ax.set(xlabel="seconds a step", ylabel="peak, MB", ylim=(0, 1.15 * max(both[False])[1] / 1e6))
ax.legend(frameon=False)
ax.margins(x=0.15)
plt.show()

# %% [markdown]
# Each point is a batch size. The recomputed points lie lower, less memory, and further to the right, more time: one more
# way forward on top of a way forward and a way back that costs two, so about a third. It pays when the batch that you want
# does not fit otherwise. It changes no gradient (with random weights everywhere, so that none is zero):

# %%
text = mx.random.randint(0, 512, (2, 65))
slopes = []
for recompute in (False, True):
    model = GPT(config, recompute)
    weights = enumerate(tree_flatten(model.parameters()))
    new = [
        (name, 0.1 * mx.random.normal(old.shape, key=mx.random.key(n)))
        for n, (name, old) in weights
    ]
    model.update(tree_unflatten(new))
    _, gradients = nn.value_and_grad(model, GPT.loss)(model, text[:, :-1], text[:, 1:])
    slopes.append(dict(tree_flatten(gradients)))
worst = max(mx.abs(slopes[0][name] - slopes[1][name]).max().item() for name in slopes[0])
least = min(mx.abs(gradient).max().item() for gradient in slopes[0].values())
print(f"largest difference {worst:.0e}; the weakest matrix has a slope of {least:.0e}")
assert worst < 1e-2 * least

# %% [markdown]
# ## 7. The ladder: what does each idea buy?
#
# Papers say that each of these ideas helps. Measure it. The bottom rung has the same norms and matrices without positions:
# plain attention, ReLU, a tied head, no cap. Each rung adds one idea to those below it, only RoPE takes the table's place,
# and the top rung is this chapter's GPT.
#
# | rung | what changed | why it might help |
# |---|---|---|
# | + table | a learned row for each position, `wpe`, added to the id's | the order of the ids is known |
# | + RoPE | rotations in place of the table | the score knows the distance; nothing to learn first |
# | + QK norm | queries and keys normed | scores in a known range; higher rates are safe |
# | + ReLU² | squared | a stronger bend: what is weak fades |
# | + own head | zero at the start; a matrix of its own instead of `wte` again; `wte` spread 1 | reading and writing an id are different jobs |
# | + softcap | logits within ±15 | no logit runs away |
#
# The text is the bundled corpus of chapter 06, the tokenizer one of 512 ids, trained on it here and not saved: yours, if you
# have one, stays as it is, and the losses below do not depend on it.

# %%
data = open_dataset()
tokenizer = Tokenizer.train(data.documents("train"), 512)
config = GPTConfig(sequence_len=128, vocab_size=512, n_layer=4, n_head=4, n_kv_head=4, n_embd=128)
with TokenLoader(data, tokenizer, "val", 8, config.sequence_len) as loader:
    held_out = list(islice(loader, budget(8, quick=1)))
print(f"{count_parameters(config):,} parameters, {tokenizer.vocab_size} ids")

# %% [markdown]
# One class can stand on every rung. It has GPT's weights (and `wpe` where it needs it), and leaves out what it is told to.

# %%
IDEAS = {
    "table": "a learned row for each position",
    "RoPE": "rotations in place of the table",
    "QK norm": "queries and keys normed",
    "ReLU²": "in place of ReLU",
    "own head": "untied, at zero; wte spread 1",
    "softcap": "logits within ±15: this is GPT",
}


class Rung(GPT):
    """A GPT with the first `count` ideas of IDEAS; with all of them, GPT itself."""

    def __init__(self, config, count, seed=0):
        super().__init__(config)
        init_weights(self, seed)
        self.ideas = list(IDEAS)[:count]
        if "own head" not in self.ideas:
            self.pop("lm_head")
            self.transformer.wte.weight = 0.02 * self.transformer.wte.weight
        if self.ideas == ["table"]:  # the next idea takes its place
            shape = (config.sequence_len, config.n_embd)
            self.wpe = 0.02 * mx.random.normal(shape, key=mx.random.key(seed + 100))


# %%
@add_to(Rung)
def attend(self, layer, x):
    """Chapter 07's attention, but for the ideas that are not there yet. (B, T, C) -> the same."""
    B, T, C = x.shape
    q, k, v = (
        linear(x).reshape(B, T, -1, layer.head_dim).transpose(0, 2, 1, 3)  # (B, H, T, D)
        for linear in (layer.c_q, layer.c_k, layer.c_v)
    )
    if "RoPE" in self.ideas:
        q, k = rotate(q, layer._inverse_frequencies), rotate(k, layer._inverse_frequencies)
    if "QK norm" in self.ideas:
        q, k = rms_norm(q), rms_norm(k)
    y = mx.fast.scaled_dot_product_attention(q, k, v, scale=layer.head_dim**-0.5, mask="causal")
    return layer.c_proj(y.transpose(0, 2, 1, 3).reshape(B, T, C))


@add_to(Rung)
def __call__(self, ids):
    x = self.transformer.wte(ids)
    if self.ideas == ["table"]:
        x = x + self.wpe[: ids.shape[1]]
    x = rms_norm(x.astype(backend.compute_dtype()))
    for block in self.transformer.h:
        x = x + self.attend(block.attn, rms_norm(x))
        activation = relu_squared if "ReLU²" in self.ideas else nn.relu
        x = x + block.mlp.c_proj(activation(block.mlp.c_fc(rms_norm(x))))
    own = "own head" in self.ideas
    weight = self.lm_head.weight if own else self.transformer.wte.weight
    if "softcap" in self.ideas:
        return capped_logits(rms_norm(x), weight, self.config.softcap)
    return (rms_norm(x) @ weight.astype(x.dtype).T).astype(mx.float32)


# %% [markdown]
# Every rung gets the same texts in the same order, the same number of steps, AdamW and the same learning rate, which stays
# for half of the steps and then goes down to 0. Another rate may change the order of the rungs. After training comes the
# loss on text that it has not seen.

# %%
STEPS, RATE = budget(80, quick=3), 5e-3
print(f"{STEPS} steps, {STEPS * 8 * config.sequence_len:,} tokens for each rung")


def rung_loss(model, ids, targets):
    return nn.losses.cross_entropy(model(ids), targets).mean()


def climb(count, seed=0):
    """A rung trained: the model, the loss of each step and the held-out loss."""
    model, losses = Rung(config, count, seed), []
    optimizer = optim.AdamW(RATE, betas=[0.9, 0.95], weight_decay=0.0, bias_correction=True)
    loss_and_grad = nn.value_and_grad(model, rung_loss)
    with TokenLoader(data, tokenizer, "train", 8, config.sequence_len) as loader:
        for step, (ids, targets) in enumerate(islice(loader, STEPS)):
            optimizer.learning_rate = RATE * min(1, 2 * (1 - step / STEPS))
            loss, gradients = loss_and_grad(model, ids, targets)
            optimizer.update(model, gradients)
            mx.eval(model.parameters(), optimizer.state, loss)
            losses.append(loss.item())
    unseen = [rung_loss(model, ids, targets).item() for ids, targets in held_out]
    return model, losses, sum(unseen) / len(unseen)


# %%
rungs = {}
for count in range(len(IDEAS) + 1):
    idea = list(IDEAS)[count - 1] if count else "plain attention, ReLU, tied head"
    label = f"+ {idea}" if count else "no positions"
    rungs[label] = climb(count)
    loss = rungs[label][2]
    print(f"{label:12s} held-out loss {loss:.3f}", flush=True)
    idea = IDEAS.get(idea, idea)
    record_loss("08", label, idea, corpus="python docs", steps=STEPS, loss=loss)
best = rungs["+ softcap"][0]

# %% [markdown]
# Is the top rung really GPT? The same trained weights, once through the class above and once through the exported one:

# %%
ids = held_out[0][0]
print("largest difference", mx.abs(best(ids) - GPT.__call__(best, ids)).max().item())
assert mx.allclose(best(ids), GPT.__call__(best, ids), atol=1e-3)

# %%
figure, ax = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
colors = ("#000000", "#CC79A7", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#0072B2")
lines = (":", (0, (3, 1, 1, 1, 1, 1)), "-.", "--", (0, (8, 3)), (0, (5, 1)), "-")
for (label, (_, losses, _)), color, line in zip(rungs.items(), colors, lines, strict=True):
    smooth = [np.mean(losses[max(0, n - 9) : n + 1]) for n in range(len(losses))]
    ax.plot(smooth, color=color, linestyle=line, label=label)
ax.axhline(math.log(512), color="#999999", linewidth=1)
ax.text(len(losses) - 1, math.log(512), "ln 512", ha="right", va="top", fontsize=8)
ax.set(xlabel="step", ylabel="training loss, mean of 10")
ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# The curve that stays high is + table. Close together below it: no positions (black, dotted), + RoPE and + QK norm. + ReLU²
# leads for a while, then + own head passes it, whose head begins at zero. + softcap hides + own head. On text that they
# have not seen:

# %%
draw_loss_log("python docs", until="08")

# %% [markdown]
# The worst dot is the table's, and the last dot lies slightly to the right of the one above it. Is that worse? See the ruler
# below.
#
# ### How much of that is luck?
#
# Other starting values give another loss. Train the top rung twice more, with other seeds, and nothing else changed. The
# largest distance between the three is the ruler: a difference that is smaller than it says nothing.

# %%
seeds = (1, 2)[: budget(2, quick=1)]
same = [rungs["+ softcap"][2], *(climb(len(IDEAS), seed)[2] for seed in seeds)]
ruler = max(same) - min(same)
print("the top rung with other seeds:", [round(loss, 3) for loss in same])
print(f"the ruler: {ruler:.3f}")
losses = {label: loss for label, (_, _, loss) in rungs.items()}
for (_, before), (label, after) in zip(
    list(losses.items())[:-1], list(losses.items())[1:], strict=True
):
    verdict = ("better" if after < before else "worse") if abs(before - after) > ruler else "luck?"
    print(f"{label:12s} {before - after:+.3f}  {verdict}")
lead = losses["no positions"] - losses["+ RoPE"]
print(f"RoPE over no positions {lead:+.3f}")
if budget(1, quick=0):
    assert losses["no positions"] - losses["+ softcap"] > ruler


# %% [markdown]
# The verdict of the stored run, for **this size, this text and this many steps**:
#
# - **A table of positions** does harm here, and **RoPE** wins that back: most of its lead over the rung above it is the
#   table's harm in 80 steps. The rows of the table start at random, as large as those of the ids, and each must be learned.
#   Over no positions at all, RoPE is ahead by less than the ruler. What a long training would say, this ladder cannot.
# - **ReLU²** buys more than the ruler.
# - **A head of its own** is on the edge: its lead is less than twice the ruler, from one seed. And the rung changes three
#   things at once, the matrix, its start at zero and the spread of `wte`; they cannot be told apart here.
# - **QK norm** and **softcap** buy nothing that the ruler could see. They are fences against scores and logits that run
#   away, and in so short a training nothing runs. Chapter 07 showed what QK norm prevents. For the cap nothing in this
#   chapter shows a gain in loss; it is kept because the trained models that we want to load have it.
#
# Three seeds make a coarse ruler, and each idea was measured on top of those before it: in another order the steps would
# differ.
#
# ## 8. What does it write?
#
# What has the top rung learned from so few tokens? A plain loop: all ids so far go in, the last position's logits give the
# next id, and it is appended. Everything is computed anew for each token; chapter 12 does better.

# %%
def sample(model, tokenizer, count, temperature, seed):
    """Text of `count` tokens after BOS."""
    ids, keys = [tokenizer.bos], mx.random.split(mx.random.key(seed), count)
    for key in keys:
        logits = model(mx.array([ids[-model.config.sequence_len :]]))[0, -1]  # (V,)
        ids.append(mx.random.categorical(logits / temperature, key=key).item())
    return tokenizer.decode(ids[1:])


print(sample(best, tokenizer, 60, temperature=0.7, seed=0))


# %% [markdown]
# It has the look of the corpus, line breaks and pieces of words, and says nothing. So few steps are a beginning. Chapter
# 10 trains for longer, with the optimizer of chapter 09.
#
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
# <details><summary>Hint</summary>c_k and c_v have n_kv_head · head_dim rows; c_q and attention's c_proj stay square.</details>

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
# <details><summary>Hint</summary>Operations a token times tokens, divided by operations a second, is seconds. A day has 86,400.</details>

# %% tags=["exercise"]
def days(depth, gflops):
    raise NotImplementedError


# %%
check(exercises.days, days)


# %% [markdown]
# ### Exercise 8.3 — the cap with a gradient of its own
#
# 15 minutes, ●●○. Write `softcap_gradient(z, slope, output)`, the vjp of $15\tanh(z/15)$ in the form of section 2, from `slope` and `output`
# alone, so that the input need not be kept. The check makes an `mx.custom_function` with it and takes its gradient.
#
# <details><summary>Hint</summary>Section 5 has the slope of the cap: 1 − (output / 15)². The slope that comes in multiplies it.</details>

# %% tags=["exercise"]
def softcap_gradient(z, slope, output):
    raise NotImplementedError


# %%
check(exercises.softcap, softcap_gradient)


# %% [markdown]
# ### Exercise 8.4 — how often is the first guess right?
#
# 25 minutes, ●●●. Write `accuracy(x, weight, targets, rows)`: the share of targets that are the id with the largest logit. x is (N, n_embd), weight
# (V, n_embd), targets (N,), some of them −1, which do not count. Never hold the logits of more than `rows` rows: the check
# looks at the peak. Return 0.0 when nothing counts.
#
# <details><summary>Hint</summary>The cap does not change which logit is the largest. Take `mx.argmax` of each chunk and `mx.eval` it before the next, or MLX may hold
# several at once.</details>

# %% tags=["exercise"]
def accuracy(x, weight, targets, rows):
    raise NotImplementedError


# %%
check(exercises.accuracy, accuracy)

# %% [markdown]
# ## Summary
#
# - One dial, the depth, sets the sizes. Parameters, operations and memory follow from it, before anything is made.
# - The head and every `c_proj` start at zero: the first loss is exactly $\ln V$, and it takes three steps until everything
#   moves.
# - The gradient of the loss is known as soon as the logits are. So both are made a chunk at a time, and the logits are
#   never all in memory.
# - Weights in float32, products in the fast type of the device, logits and loss in float32.
# - Each idea was measured on the same data with the same budget, next to the luck of the seed.
#
# ## Pitfalls
#
# - **The loss stays at exactly $\ln V$.** Then the head never moves: the optimizer updated another tree than the one that the
#   loss reads, such as a copy of the model, or the gradients were never applied.
# - The tables of the rotations as ordinary attributes of a module: they are trained, counted and saved.
# - A head that is tied by mistake, because an exported file lacks `lm_head` and the program that reads it fills in `wte`.
# - Weights in the norms of a model that has none: trained weights do not fit, or a forgotten vector of ones is trained along.
# - The softcap on one side only: in training but not in sampling, or after the loss. It belongs in the logits themselves.
# - Logits in bfloat16: near 15 the steps between two numbers are 0.06, too coarse for a loss.
# - A number of heads by the plain rule: it breaks at depths 5, 9, 11 and others.
# - Counting `wte` in the operations: at d12 that overestimates by 29 %.
# - A loss that forgets targets of −1: as an index, −1 is the *last* id, and that one is trained instead.
#
# ## Further reading
#
# - [nanochat](https://github.com/karpathy/nanochat): the program whose model this is.
# - [Primer](https://arxiv.org/abs/2109.08668), So et al., 2021: ReLU².
# - [Gemma 2](https://arxiv.org/abs/2408.00118), 2024: capped logits, and where else a cap can go.
# - [Scaling Laws for Neural Language Models](https://arxiv.org/abs/2001.08361), Kaplan et al., 2020: counting 6 operations
#   for each weight.
# - [Cut Your Losses in Large-Vocabulary Language Models](https://arxiv.org/abs/2411.09009), Wijmans et al., 2024: the same
#   idea as section 5, inside one GPU kernel.
# - [Training Deep Nets with Sublinear Memory Cost](https://arxiv.org/abs/1604.06174), Chen et al., 2016: recomputation.
#
# **Next:** [09 · Muon](09_muon.ipynb): three ways to take a step, on the same problem.

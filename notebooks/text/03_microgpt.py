# %% [markdown]
# # 03 · microGPT
#
# **Goal.** Build a whole GPT of 4,064 numbers, piece by piece, train it for 500 steps, and read 20 names, most of them new.
#
# | | |
# |---|---|
# | Needs | [01 · Names](01_names.ipynb), [02 · Autograd](02_autograd.ipynb) |
# | Time | 60 minutes to read, 50 for the exercises; under a minute to run |
# | Memory | under 300 MB |
# | You will build | the model, its training loop and its sampler → `course_lib.names.microgpt` |
#
# The bigram model of chapter 01 looks at one id to guess the next. The model of this chapter looks at up to eight: BOS and
# seven letters. A ChatGPT is made of the same kinds of parts, only larger and more of them.

# %% [markdown]
# ![Map of the course: chapter 03 microgpt is marked, after 02 autograd and before 04 batches](images/map_03.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · **03** · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/03_microgpt.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export names.microgpt
"""microGPT: a GPT of 4,064 parameters that learns names, with its training loop and its sampler.

The model is that of Karpathy's microGPT (first revision): learned positions, RMSNorm without
weights, causal attention with four heads, an MLP with squared ReLU, no biases, an untied lm_head.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.names.bigram import CharTokenizer

# %% [markdown]
# The text at the top of that cell describes the finished module; by the end of the chapter you know each word of it. (**GPT**
# stands for *generative pre-trained transformer*: it writes, it has been trained on text beforehand, and it is built of
# attention and MLPs.) The next cell is for this notebook only.

# %%
import matplotlib.pyplot as plt
from mlx.utils import tree_flatten

from course_lib.classroom import (
    LiveCurve,
    add_to,
    budget,
    check,
    claim,
    command_line,
    draw_loss_log,
    record_loss,
)
from course_lib.classroom.exercises import microgpt as exercises
from course_lib.names.bigram import bigram_loss, bigram_probs, load_names, split_names

backend.seed_everything(42)
names = load_names()
train_names, held_out = split_names(names)
tokenizer = CharTokenizer(names)
print(
    len(train_names), "names to train on,", len(held_out), "held out,", tokenizer.vocab_size, "ids"
)


# %% [markdown]
# ## 1. The sizes
#
# Five numbers fix the shape of the model. Every GPT has these five; only their values differ.
#
# | name | here | meaning |
# |---|---|---|
# | `n_embd` | 16 | length of the vector that stands for one position |
# | `n_head` | 4 | attention heads: parts of the vector that look around separately |
# | `n_layer` | 1 | blocks stacked on each other |
# | `block_size` | 8 | positions the model can see at once |
# | `vocab_size` | 27 | ids: 26 letters and BOS, the mark at both ends of a name |

# %%
#| export names.microgpt
@dataclass(frozen=True)
class MicroGPTConfig:
    """Sizes of a microGPT; the defaults give 4,064 parameters. `n_head` must divide `n_embd`."""

    n_embd: int = 16
    n_head: int = 4
    n_layer: int = 1
    block_size: int = 8
    vocab_size: int = 27

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise CourseError(f"{name}={value}, expected at least 1")
        if self.n_embd % self.n_head:
            raise CourseError(
                f"n_embd={self.n_embd} cannot be shared out to n_head={self.n_head} heads; "
                "make it a multiple of n_head"
            )


# %%
config = MicroGPTConfig()
config

# %% [markdown]
# ## 2. From ids to vectors
#
# A name becomes ids, BOS at both ends, as in chapter 01. The model gets all ids but the last; the **targets** are the
# same ids one place on. At each position the question is: which id comes next? (In this course a token, an id and a
# character of a name are the same thing until chapter 05.)

# %%
ids = tokenizer.encode("emma")
inputs, targets = mx.array(ids[:-1]), mx.array(ids[1:])
print("inputs ", inputs.tolist())
print("targets", targets.tolist())

# %% [markdown]
# An **embedding** is a table with one row for each id. Looking up an id means taking its row. The rows are parameters:
# they start at random and training moves them.
#
# One table says *which letter* (`wte`, token embedding), another *which place* (`wpe`, position embedding). Their sum is
# the vector of that position. We call it $x$, and it has the shape $(T, C)$: $T$ positions, $C$ = `n_embd` numbers each.

# %%
wte = mx.random.normal((config.vocab_size, config.n_embd))
wpe = mx.random.normal((config.block_size, config.n_embd))
T = len(inputs)
x = wte[inputs] + wpe[mx.arange(T)]  # (T, C)
x.shape

# %% [markdown]
# The letter `m` stands at positions 2 and 3. Its token row is the same both times, its position row is not, so the
# model can tell the two apart.

# %%
assert mx.array_equal(wte[inputs][2], wte[inputs][3])
assert not mx.array_equal(x[2], x[3])
print("same token row, different vectors")

# %% [markdown]
# ## 3. Keeping the numbers in range: RMSNorm
#
# Vectors that grow from layer to layer make training unstable. **RMSNorm** divides each vector by its own size, the root
# of the mean of its squares, and so the vectors that leave it have size 1:
#
# $$ \mathrm{rmsnorm}(x) = \frac{x}{\sqrt{\frac{1}{C}\sum_i x_i^2 + \epsilon}} $$
#
# $\epsilon$ = 0.00001 keeps a zero vector from being divided by zero. A vector of two numbers by hand:

# %%
pair = mx.array([3.0, 4.0])
size = mx.sqrt((pair * pair).mean())  # sqrt((9 + 16) / 2)
normed = pair / size
size_after = mx.sqrt((normed * normed).mean())
print(f"size before {size.item():.4f} | size after {size_after.item():.4f}")


# %%
#| export names.microgpt
class RMSNorm(nn.Module):
    """Divide each vector by its root mean square; no weights (Zhang and Sennrich, 2019).

    x: (..., C) -> (..., C)
    """

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + self.eps)


# %% [markdown]
# (`mx.rsqrt(y)` is $1/\sqrt{y}$. In shapes, `...` stands for any axes in front.) MLX has the same function ready made. It is
# our independent reference here.

# %%
ours, theirs = RMSNorm()(x), mx.fast.rms_norm(x, weight=None, eps=1e-5)
print("largest difference", mx.abs(ours - theirs).max().item())
assert mx.allclose(ours, theirs, atol=1e-5)

# %% [markdown]
# ## 4. Attention: looking back
#
# So far each position knows only itself. **Attention** lets it collect from the positions before it. It works like a
# soft dictionary lookup. Each position multiplies its vector by three learned matrices, `wq`, `wk` and `wv`, and so has
# three new vectors:
#
# - a **query** $q$: what I look for,
# - a **key** $k$: what I offer,
# - a **value** $v$: what you get if you pick me.
#
# How well the query of one position fits the key of another is a number, their dot product. Here are two positions whose
# queries and keys have $D = 2$ numbers each, made up, small enough to check by eye.

# %%
q = mx.array([[1.0, 0.0], [1.0, 1.0]])  # (T, D) two positions, two numbers each
k = mx.array([[1.0, 2.0], [0.0, 3.0]])
v = mx.array([[10.0], [20.0]])
scores = q @ k.T / math.sqrt(2)  # (T, T): row t holds the fit of query t with every key
(q @ k.T).tolist()

# %% [markdown]
# Row 1, column 0 is $1\cdot1 + 1\cdot2 = 3$. The `scores` are these numbers divided by $\sqrt{D}$: a dot product of $D$
# random terms grows like $\sqrt{D}$, and large scores would make the next step all-or-nothing.
#
# **Softmax** (chapter 01) turns the scores of a row into weights that are positive and sum to 1. The output is the values'
# mean under these weights.

# %%
shares = mx.softmax(scores, axis=-1)  # (T, T), each row sums to 1
mixed = shares @ v  # (T, 1)
print("weights", [[round(w, 3) for w in row] for row in shares.tolist()])
print("mixed  ", [round(m, 2) for m in mixed[:, 0].tolist()])

# %% [markdown]
# Position 0 took weight from position 1, which comes after it. In training that would be cheating: position 1 *is* the
# answer that position 0 has to guess. A **causal mask** forbids it: $-\infty$ is added to the score of every later
# position, and softmax turns that into a weight of exactly 0.

# %%
mask = mx.triu(mx.full((2, 2), -mx.inf), k=1)  # -inf above the diagonal, 0 elsewhere
shares = mx.softmax(scores + mask, axis=-1)
print("mask   ", mask.tolist())
print("weights", [[round(w, 3) for w in row] for row in shares.tolist()])
assert shares[0].tolist() == [1.0, 0.0], "position 0 may look at itself only"


# %% [markdown]
# **Heads.** One set of weights can look for one thing. So queries, keys and values are cut into $H$ = `n_head` = 4 parts of
# $D = C/H = 4$ numbers, and each part, a **head**, attends by itself. At the end the parts are put side by side again and
# mixed by one more matrix, `wo`. In code the heads are one more axis, (H, T, D), and a matrix product works on all heads
# at once.

# %%
#| export names.microgpt
class Attention(nn.Module):
    """Causal self-attention with several heads and no biases (Vaswani et al., 2017).

    x: (..., T, C) -> (..., T, C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.wq = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wk = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wv = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wo = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def heads(self, x: mx.array) -> mx.array:
        """Cut each vector into heads: (..., T, C) -> (..., H, T, D) with D = C / H."""
        return mx.swapaxes(x.reshape(*x.shape[:-1], self.n_head, -1), -2, -3)


# %% [markdown]
# The class grows in the next cells: `@add_to` puts one more method into it, so that we can stop and look in between.
# Cutting into heads only rearranges. Head $h$ of a position holds its numbers $4h$ to $4h+3$:

# %%
attention = Attention(config)
counting = mx.arange(T * config.n_embd).reshape(T, config.n_embd)
print(
    attention.heads(counting).shape,
    "| head 1 of position 2:",
    attention.heads(counting)[1, 2].tolist(),
)
assert attention.heads(counting)[1, 2].tolist() == counting[2, 4:8].tolist()


# %%
#| export names.microgpt
@add_to(Attention)
def weights(self, x: mx.array) -> mx.array:
    """What each position takes from each earlier one and itself; rows sum to 1.

    x: (..., T, C) -> (..., H, T, T)
    """
    q, k = self.heads(self.wq(x)), self.heads(self.wk(x))  # (..., H, T, D)
    scores = q @ mx.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])  # (..., H, T, T)
    length = x.shape[-2]
    future = mx.triu(mx.full((length, length), -mx.inf), k=1)
    return mx.softmax(scores + future, axis=-1)


@add_to(Attention)
def __call__(self, x: mx.array) -> mx.array:
    mixed = self.weights(x) @ self.heads(self.wv(x))  # (..., H, T, D)
    return self.wo(mx.swapaxes(mixed, -2, -3).reshape(x.shape))


# %% [markdown]
# MLX's own attention, `mx.fast.scaled_dot_product_attention`, must agree. It wants one more axis in front, so `[None]` adds one.

# %%
matrices = (attention.wq, attention.wk, attention.wv)
q, k, v = (attention.heads(matrix(x))[None] for matrix in matrices)  # (1, H, T, D) each
scale = 1 / math.sqrt(config.n_embd // config.n_head)
mixed = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal")[0]  # (H, T, D)
theirs = attention.wo(mx.swapaxes(mixed, 0, 1).reshape(T, config.n_embd))
print("largest difference", mx.abs(attention(x) - theirs).max().item())
assert mx.allclose(attention(x), theirs, atol=5e-3 * mx.abs(theirs).max().item())


# %%
def show_weights(weights, letters):
    """Draw each head's weights: a row looks at the columns; the darker, the more."""
    figure, axes = plt.subplots(1, len(weights), figsize=(2.1 * len(weights), 2.4), sharey=True)
    for head, ax in enumerate(axes):
        ax.imshow(weights[head].tolist(), cmap="Blues", vmin=0, vmax=1)
        ax.set_title(f"head {head}", fontsize=10)
        ax.set_xticks(range(len(letters)), letters)
        ax.set_yticks(range(len(letters)), letters)
        ax.set_xlabel("looks at")
    axes[0].set_ylabel("who looks")
    figure.tight_layout()
    plt.show()


show_weights(attention.weights(x), ["BOS", *"emma"])

# %% [markdown]
# A row is a position, its dark squares are what it looks at. Each row sums to 1 and nothing stands above the diagonal: no
# position sees what comes after it. What the heads look at is still random; they are untrained.
#
# A picture is no proof. A harder test: change the last vector, and what the earlier positions compute must stay the same.

# %%
changed = mx.concatenate([x[:-1], x[-1:] + 1])
before, after = attention(x), attention(changed)
assert mx.allclose(after[:-1], before[:-1], atol=1e-6), "an earlier position saw the last one"
assert not mx.allclose(after[-1], before[-1], atol=1e-3)
print("the last position changed, the others did not")


# %% [markdown]
# ## 5. The MLP: thinking about what was collected
#
# After attention each position works on its own vector: a matrix to four times the width (`fc1`), a bend, and a matrix
# back (`fc2`). It is a network of two layers as in chapter 02, called an **MLP** (multi-layer perceptron). Without the bend,
# multiplying by both matrices would equal multiplying by one, their product. The bend is the **squared ReLU** of chapter 00.

# %%
#| export names.microgpt
class MLP(nn.Module):
    """Two matrices with a squared ReLU between, at four times the width (So et al., 2021).

    x: (..., C) -> (..., C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.fc2 = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        hidden = mx.maximum(self.fc1(x), 0) ** 2  # (..., 4C)
        return self.fc2(hidden)


# %% [markdown]
# The MLP never mixes positions: position 0 alone gives the same as position 0 among the others.

# %%
mlp = MLP(config)
alone = mx.maximum(x[0] @ mlp.fc1.weight.T, 0) ** 2 @ mlp.fc2.weight.T
print("largest difference", mx.abs(mlp(x)[0] - alone).max().item())
assert mx.allclose(mlp(x)[0], alone, atol=5e-3 * mx.abs(alone).max().item())


# %% [markdown]
# ## 6. The block, and the whole model
#
# A **block** is attention and MLP, each with a norm before it, each *added* to what came in:
#
# $$ x \leftarrow x + \mathrm{attn}(\mathrm{norm}(x)), \qquad x \leftarrow x + \mathrm{mlp}(\mathrm{norm}(x)) $$
#
# The sums are called **residual connections**. The vector of a position flows straight through the model, and each part
# only writes a correction onto it. Gradients flow back the same way: the derivative of $x + f(x)$ is $1 + f'(x)$, and the 1 is a
# direct path for the gradient.

# %%
#| export names.microgpt
class Block(nn.Module):
    """Attention, then the MLP, each after a norm and added to its input.

    x: (..., T, C) -> (..., T, C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.norm1 = RMSNorm()
        self.attn = Attention(config)
        self.norm2 = RMSNorm()
        self.mlp = MLP(config)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


# %% [markdown]
# The model: embed, norm, blocks, and `lm_head` (language model head), a matrix from the vector of a position to one score for each id. It is
# **untied**: `lm_head` and `wte` are two tables; some models use one for both. These scores are the **logits**; softmax of them gives the probabilities of the next id. (`init_weights` sets the starting values;
# the next cell defines it.)

# %%
#| export names.microgpt
class MicroGPT(nn.Module):
    """A small GPT over characters.

    ids: (T,), or (B, T) for B names at once -> logits (T, V) or (B, T, V).
    Raises CourseError for more positions than `block_size`.
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.norm_in = RMSNorm()
        self.layers = [Block(config) for _ in range(config.n_layer)]
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        init_weights(self)

    def __call__(self, ids: mx.array) -> mx.array:
        length = ids.shape[-1]
        if length > self.config.block_size:
            limit = self.config.block_size
            raise CourseError(f"{length} ids, but the model sees block_size={limit}; cut them")
        x = self.norm_in(self.wte(ids) + self.wpe(mx.arange(length)))  # (..., T, C)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)  # (..., T, V)


# %% [markdown]
# `self.layers` is a plain list. `nn.Module` looks into lists, so the blocks' parameters are found (chapter 00).
#
# **Starting values.** All matrices start as small random numbers with a standard deviation of 0.02. The last matrices of
# attention and MLP, `wo` and `fc2`, start at zero: then a block adds nothing at first, and learns what to add. (The gradient
# of a zero matrix is not zero, so it moves in the first step; the matrices before it follow.)

# %%
#| export names.microgpt
def init_weights(model: MicroGPT) -> None:
    """Normal, standard deviation 0.02, for every matrix but `wo` and `fc2`, which become zero."""
    normal, zero = nn.init.normal(std=0.02), nn.init.constant(0.0)
    model.apply(normal)
    for layer in model.layers:
        layer.attn.wo.apply(zero)
        layer.mlp.fc2.apply(zero)


# %%
backend.seed_everything(42)
model = MicroGPT(config)
logits = model(inputs)
logits.shape

# %% [markdown]
# Count the parameters by hand first, then ask the model.

# %% tags=["nbval-check-output"]
C, V, T_max = config.n_embd, config.vocab_size, config.block_size
by_hand = {
    "wte": V * C,
    "wpe": T_max * C,
    "attention": 4 * C * C,
    "mlp": 2 * 4 * C * C,
    "lm_head": V * C,
}
for part, count in by_hand.items():
    print(f"{part:10s} {count:5d}")
num_params = sum(array.size for _, array in tree_flatten(model.parameters()))
print("together  ", sum(by_hand.values()), "| in the model", num_params)
assert num_params == sum(by_hand.values()) == 4064


# %% [markdown]
# ## 7. The loss of one name
#
# The loss is chapter 01's: the mean over positions of $-\ln p(\text{target})$, called **cross-entropy**. A model that starts
# with small numbers gives every id about the same probability, 1/27, so its loss must be close to $\ln 27 = 3.2958$, within
# 0.1 here. If yours is not, something is wrong before training has begun. This check costs nothing; always do it.

# %%
#| export names.microgpt
def loss_fn(model: MicroGPT, inputs: mx.array, targets: mx.array) -> mx.array:
    """Mean cross-entropy in nats a character. inputs, targets: (T,) or (B, T) ids -> scalar."""
    return nn.losses.cross_entropy(model(inputs), targets, reduction="mean")


# %%
probabilities = mx.softmax(logits, axis=-1)  # (T, V)
chosen = [probabilities[t, target].item() for t, target in enumerate(targets.tolist())]
by_hand = -sum(math.log(p) for p in chosen) / T
print(f"by hand {by_hand:.6f} | loss_fn {loss_fn(model, inputs, targets).item():.6f}")
print(f"ln 27   {math.log(27):.6f}")
assert abs(by_hand - loss_fn(model, inputs, targets).item()) < 1e-5
assert abs(by_hand - math.log(27)) < 0.1


# %% [markdown]
# A name in training is cut to `block_size` predictions: of "christopher" the model learns the first eight. So it never sees
# the end of a name with eight letters or more.

# %%
#| export names.microgpt
def example(name: str, tokenizer: CharTokenizer, block_size: int) -> tuple[list[int], list[int]]:
    """Ids of a name that go in, and those that must come out; at most `block_size` of each."""
    ids = tokenizer.encode(name)[: block_size + 1]
    return ids[:-1], ids[1:]


# %%
for name in ("emma", "christopher"):
    cut_inputs, cut_targets = example(name, tokenizer, config.block_size)
    print(f"{name:12s} in {cut_inputs} out {cut_targets}")

# %% [markdown]
# ## 8. The optimizer: Adam
#
# The gradient says in which direction each parameter should move. **Adam** decides how far. It keeps two running means
# for each parameter: $m$ of the gradient and $v$ of its square. The step is roughly $m/\sqrt{v}$: a parameter whose gradient
# always points one way moves fully, one whose gradient flips about hardly moves. In full:
#
# $$ m \leftarrow \beta_1 m + (1-\beta_1)\,g \qquad v \leftarrow \beta_2 v + (1-\beta_2)\,g^2 \qquad
#    w \leftarrow w - \eta\,\frac{\hat m}{\sqrt{\hat v} + \epsilon} $$
#
# $w$ is the parameter, $g$ its gradient, $\eta$ the learning rate, $\beta_1 = 0.9$, $\beta_2 = 0.95$, $\epsilon = 10^{-8}$. ($v$ is
# not attention's value here.) Both means start at 0 and are too small at first, so they are corrected: after $n$ steps
# $\hat m = m/(1-\beta_1^n)$ and $\hat v = v/(1-\beta_2^n)$.
#
# **MLX's Adam leaves this correction out unless you ask for it.** See what that does to the first step:

# %%
weight, gradient = mx.array([1.0, 1.0]), mx.array([0.5, -3.0])
settings = {"learning_rate": 0.01, "betas": [0.9, 0.95], "eps": 1e-8}
for correct in (False, True):
    adam = optim.Adam(**settings, bias_correction=correct)
    moved = adam.apply_gradients({"w": gradient}, {"w": weight})["w"] - weight
    print(f"bias_correction={correct}: first step", [round(step, 5) for step in moved.tolist()])

# %% [markdown]
# The second line is the formula above, computed by hand:

# %%
m, v = (1 - 0.9) * gradient, (1 - 0.95) * gradient**2
by_hand = -0.01 * (m / (1 - 0.9)) / (mx.sqrt(v / (1 - 0.95)) + 1e-8)
print([round(step, 5) for step in by_hand.tolist()])
assert mx.allclose(moved, by_hand, atol=1e-6)


# %% [markdown]
# With the correction the first step is the learning rate, 0.01, whatever the size of the gradient. Without it the step
# is less than half of that. Adam's paper corrects, and so does Karpathy's program.
#
# **Learning rate.** Large steps at first to get near, small ones at the end to settle: half a cosine from 0.01 to 0.

# %%
#| export names.microgpt
def cosine_decay(step: int, num_steps: int) -> float:
    """Share of the learning rate at `step` (from 0): half a cosine from 1 to 0 at `num_steps`."""
    return 0.5 * (1 + math.cos(math.pi * step / num_steps))


# %%
figure, ax = plt.subplots(figsize=(5, 2.2))
ax.plot([1e-2 * cosine_decay(step, 500) for step in range(500)], color="#0072B2")
ax.set_xlabel("step")
ax.set_ylabel("learning rate")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
assert cosine_decay(0, 500) == 1 and abs(cosine_decay(250, 500) - 0.5) < 1e-12

# %% [markdown]
# Read the curve from left to right: almost level for the first fifty steps, half at step 250, and level again near 0.
#
# ## 9. Training
#
# One step is what you did in chapter 02 with the neuron: compute the loss and its gradients, let the optimizer move the
# parameters. `mx.eval` at the end of a step makes MLX do the work now; without it the graph of unevaluated work would
# grow with every step until you run out of memory.
#
# Before we write the loop as a function, take one step by hand and watch the loss of that very name fall.

# %%
optimizer = optim.Adam(learning_rate=1e-2, betas=[0.9, 0.95], eps=1e-8, bias_correction=True)
loss_and_grad = nn.value_and_grad(model, loss_fn)
before, gradients = loss_and_grad(model, inputs, targets)
optimizer.update(model, gradients)
mx.eval(model.parameters(), optimizer.state)
after = loss_fn(model, inputs, targets)
print(f"loss on 'emma' before {before.item():.4f}, after one step {after.item():.4f}")
assert after < before


# %% [markdown]
# Now the loop. It is the cell above once for each example, each time with the next learning rate. The new lines:
#
# - `mx.compile` (chapter 00) makes one function of the step. It has to know what the step reads and changes besides its
#   arguments: the parameters and the optimizer's state. That is `state`, given as `inputs` and `outputs`.
# - Compiling must pay. On a Linux CPU it calls a C++ compiler for some ten seconds, and a compiled step saves about a
#   millisecond. So there we compile only from 10,000 steps on. (Chapter 04 trains longer, and compiles.)
# - `on_step` is called after each step with its number and loss: the live curve and the program hook in there.

# %%
#| export names.microgpt
def fit(
    model: MicroGPT,
    loss_of: Callable[..., mx.array],
    examples: Iterable[tuple[mx.array, ...]],
    num_steps: int,
    learning_rate: float,
    on_step: Callable[[int, float], None] | None,
    compiled: bool,
) -> list[float]:
    """A step of Adam (0.9, 0.95, bias-corrected) on loss_of(model, *example) for each example.

    Cosine decay to zero. Calls on_step(step, loss), step from 1; returns the loss of each step.
    """
    optimizer = optim.Adam(
        learning_rate=learning_rate, betas=[0.9, 0.95], eps=1e-8, bias_correction=True
    )
    optimizer.init(model.trainable_parameters())
    loss_and_grad = nn.value_and_grad(model, loss_of)
    state = [model.state, optimizer.state]

    def step(*arrays: mx.array) -> mx.array:
        loss, gradients = loss_and_grad(model, *arrays)
        optimizer.update(model, gradients)
        return loss

    if compiled:
        step = partial(mx.compile, inputs=state, outputs=state)(step)
    losses = []
    for n, arrays in enumerate(islice(examples, num_steps)):
        optimizer.learning_rate = learning_rate * cosine_decay(n, num_steps)
        loss = step(*arrays)
        mx.eval(state, loss)
        losses.append(loss.item())
        if on_step:
            on_step(n + 1, losses[-1])
    return losses


# %% [markdown]
# `train` says what the examples are: one name for each step, in their order, over and over. (`fit` does not care: chapter 04
# gives it batches of names.) The checks at the top refuse what cannot work, with one sentence.

# %%
#| export names.microgpt
def train(
    model: MicroGPT,
    docs: list[str],
    tokenizer: CharTokenizer,
    num_steps: int = 500,
    learning_rate: float = 1e-2,
    on_step: Callable[[int, float], None] | None = None,
    compiled: bool | None = None,
) -> list[float]:
    """Train the model in place, one name a step in the order of `docs`, over and over; see `fit`.

    compiled: whether to compile the step; None does so where it pays.
    Returns the loss of each step in nats a token. Raises CourseError for no names, no steps, or a
    tokenizer whose ids the model does not have.
    """
    if not docs:
        raise CourseError("there are no names to train on; give at least one")
    if num_steps < 1:
        raise CourseError(f"num_steps={num_steps}, expected at least 1")
    if tokenizer.vocab_size != model.config.vocab_size:
        raise CourseError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the model {model.config.vocab_size}; "
            f"make the model with MicroGPTConfig(vocab_size={tokenizer.vocab_size})"
        )
    compiled = compiling_pays(num_steps) if compiled is None else compiled
    pairs = (example(name, tokenizer, model.config.block_size) for name in cycle(docs))
    arrays = ((mx.array(inputs), mx.array(targets)) for inputs, targets in pairs)
    return fit(model, loss_fn, arrays, num_steps, learning_rate, on_step, compiled)


def compiling_pays(num_steps: int) -> bool:
    """Whether compiled steps save more than compiling costs: measured on a CPU, not on Metal."""
    return backend.device_kind() == "metal" or num_steps >= 10_000


# %% [markdown]
# The line to beat is the bigram model's, on the same held-out names, cut in the same way.

# %%
table = bigram_probs(train_names, tokenizer)
bigram = bigram_loss(table, held_out, tokenizer, max_len=config.block_size)
backend.seed_everything(42)
model = MicroGPT(config)
lines = {"bigram": bigram, "knows nothing, ln 27": math.log(27)}
curve = LiveCurve(references=lines, total=500, window=50)
losses = train(model, train_names, tokenizer, num_steps=500, on_step=curve.add)
curve.show()

# %% [markdown]
# The pale line is the loss of single names: it jumps, because a rare name is hard for any model. Judge the thick line,
# the mean of the last 50 steps. It leaves the upper line within a few dozen steps, sinks to the bigram's and swings about it.

# %%
last = sum(losses[-50:]) / 50
print(f"first loss {losses[0]:.4f} | mean of the last 50 {last:.4f} | bigram {bigram:.4f}")
assert abs(losses[0] - math.log(27)) < 0.1, "an untrained model must be near ln 27"
assert last < 2.75, "500 steps should bring the mean of the last 50 below 2.75"


# %% [markdown]
# That mean is over 50 names only. A steadier measure, and the honest one, is the loss on all held-out names, in which each
# prediction counts the same.

# %%
#| export names.microgpt
def evaluate(model: MicroGPT, docs: list[str], tokenizer: CharTokenizer) -> float:
    """Loss in nats a token over all of `docs`, each name cut to `block_size` predictions."""
    total, count = 0.0, 0
    for name in docs:
        inputs, targets = example(name, tokenizer, model.config.block_size)
        total += loss_fn(model, mx.array(inputs), mx.array(targets)).item() * len(inputs)
        count += len(inputs)
    return total / count


# %%
held_out_loss = evaluate(model, held_out, tokenizer)
print(f"held out: microGPT {held_out_loss:.4f} | bigram {bigram:.4f}")
idea = "vectors for letter and place, attention; 500 steps"
record_loss("03", "microGPT", idea, corpus="names", steps=500, loss=held_out_loss)

# %% [markdown]
# | what changed from the bigram | why |
# |---|---|
# | a vector for each letter instead of a row of counts | letters that behave alike can share what is learned about them |
# | the place in the name, and attention over up to eight ids instead of one | an ending such as "-ana" needs more than its last letter |
# | gradient steps instead of counting | no table could count all strings of eight letters |
#
# The bigram counted every training name. microGPT has seen just 500 of them, one at a time, and is slightly below it. In
# chapter 04 it sees them all.

# And which of its parts bought that? The honest way to ask is to leave a part out and train again, with several seeds:

# %%
class Nothing(nn.Module):
    """In the place of a part: it adds nothing to the stream."""

    def __call__(self, x):
        return mx.zeros_like(x)


def without(part, seed):
    """Held-out loss of a model trained for 500 steps without that part."""
    backend.seed_everything(seed)
    smaller = MicroGPT(config)
    if part == "attention":
        smaller.layers[0].attn = Nothing()
    if part == "positions":
        smaller.wpe.weight = mx.zeros_like(smaller.wpe.weight)
        smaller.wpe.freeze()
    train(smaller, train_names, tokenizer, num_steps=budget(500, quick=20))
    return evaluate(smaller, held_out, tokenizer)


# %%
parts = ("nothing", "attention", "positions")
left_out = {part: [without(part, seed) for seed in (42, 1, 2)] for part in parts}
for part, seeds in left_out.items():
    print(f"{part:10s} left out: mean {sum(seeds) / 3:.4f}, seeds", [round(x, 4) for x in seeds])
mean = {part: sum(seeds) / 3 for part, seeds in left_out.items()}
spread = max(left_out["nothing"]) - min(left_out["nothing"])
claim(
    "positions buy more than the seeds differ",
    mean["positions"] - mean["nothing"] > 2 * spread,
)
claim("attention buys less than 0.02 nats here", abs(mean["attention"] - mean["nothing"]) < 0.02)

# %% [markdown]
# Knowing the place in the name is worth a few hundredths of a nat. Attention, the famous part, is worth hardly more than the luck
# of the seed. That is no fault of attention: it has seen 500 names, one at a time. In chapter 04 it sees all of them, many times.

# %%
draw_loss_log("names", until="03")

# %% [markdown]
# Further left is better. After 500 steps, of one name each, microGPT is only a little left of the bigram.
#
# ## 10. Sampling
#
# To write a name, start with BOS, ask the model for the next id, append it, ask again, and stop at the next BOS.
# **Temperature** divides the logits first. Below 1 it sharpens the probabilities towards the likely letters, above 1 it
# flattens them. You can't divide by 0, so temperature 0 is a case of its own: always take the likeliest letter.

# %%
example_logits = mx.array([2.0, 1.0, 0.0])
for temperature in (2.0, 1.0, 0.5):
    print(temperature, [round(p, 3) for p in mx.softmax(example_logits / temperature).tolist()])


# %%
#| export names.microgpt
def generate(
    model: MicroGPT, tokenizer: CharTokenizer, temperature: float = 0.5, key: mx.array | None = None
) -> str:
    """Write one name of at most `block_size` letters.

    temperature: 0 takes the likeliest letter each time. key: from mx.random.key; None uses the
    global random state.
    Raises CourseError for a negative or not finite temperature.
    """
    if not 0 <= temperature < math.inf:
        raise CourseError(
            f"temperature={temperature}, expected 0 (always the likeliest letter) or more"
        )
    ids = [tokenizer.bos]
    for _ in range(model.config.block_size):
        logits = model(mx.array(ids))[-1]  # (V,) of the last position
        if temperature == 0:
            next_id = mx.argmax(logits).item()
        else:
            step_key = None
            if key is not None:
                key, step_key = mx.random.split(key)
            next_id = mx.random.categorical(logits / temperature, key=step_key).item()
        if next_id == tokenizer.bos:
            break
        ids.append(next_id)
    return tokenizer.decode(ids)


# %% [markdown]
# `mx.random.categorical` takes **logits**. Remember the trap of chapter 01: given probabilities it raises no error, and the
# names turn to noise.

# %%
samples = [generate(model, tokenizer, key=k) for k in mx.random.split(mx.random.key(42), 20)]
for n, name in enumerate(samples, start=1):
    print(f"{n:2d} {name:10s}", "(in the list)" if name in names else "")

# %% [markdown]
# Vowels and consonants take turns, and endings look like endings. Some samples are in the list, most are new.
# They are not all beautiful; the model has looked at 500 names for about a second.
#
# At temperature 0 nothing is left to chance, and every call gives the same name. A high temperature gives noise.

# %%
assert generate(model, tokenizer, temperature=0) == generate(model, tokenizer, temperature=0)
for temperature in (0, 0.2, 0.5, 1.0, 2.0):
    row = [
        generate(model, tokenizer, temperature, key=k) for k in mx.random.split(mx.random.key(1), 6)
    ]
    print(f"temperature {temperature:3} ", *row)


# %% [markdown]
# ## 11. An experiment: the second revision
#
# The author of microGPT later changed his settings:
#
# | | this chapter | second revision |
# |---|---|---|
# | positions | 8 | 16 |
# | bend in the MLP | squared ReLU | plain ReLU |
# | starting values | 0.02, `wo` and `fc2` zero | 0.08 everywhere |
# | Adam's betas | 0.9, 0.95 | 0.85, 0.99 |
# | learning rate | cosine to 0 | straight line to 0 |
# | steps | 500 | 1,000 |
#
# With 8 more rows in `wpe` that makes 4,192 parameters. A few lines adapt our classes: a subclass for the MLP,
# other starting values, nearly the same loop. The bigram's line is now that of the first 16 guesses.

# %%
class PlainMLP(MLP):
    def __call__(self, x):
        return self.fc2(mx.maximum(self.fc1(x), 0))


backend.seed_everything(42)
revised = MicroGPT(MicroGPTConfig(block_size=16))
revised.layers[0].mlp = PlainMLP(revised.config)
revised.apply(nn.init.normal(std=0.08))
revised_count = sum(array.size for _, array in tree_flatten(revised.parameters()))
assert revised_count == 4192

# %%
bigram_16 = bigram_loss(table, held_out, tokenizer, max_len=16)
num_steps = budget(1000, quick=100)
optimizer = optim.Adam(1e-2, betas=[0.85, 0.99], eps=1e-8, bias_correction=True)
loss_and_grad = nn.value_and_grad(revised, loss_fn)
revised_curve = LiveCurve(references={"bigram, 16 guesses": bigram_16}, total=num_steps, window=50)
for n in range(num_steps):
    optimizer.learning_rate = 1e-2 * (1 - n / num_steps)
    name_in, name_out = example(train_names[n % len(train_names)], tokenizer, 16)
    loss, gradients = loss_and_grad(revised, mx.array(name_in), mx.array(name_out))
    optimizer.update(revised, gradients)
    mx.eval(revised.parameters(), optimizer.state)
    revised_curve.add(n, loss.item())
revised_curve.show()

# %% [markdown]
# The thick line crosses the bigram's and stays below it, most clearly in the second half.

# %%
revised_loss = evaluate(revised, held_out, tokenizer)
print(f"first 8 guesses:  this chapter's model {held_out_loss:.4f}, bigram {bigram:.4f}")
print(f"first 16 guesses: second revision {revised_loss:.4f}, bigram {bigram_16:.4f}")

# %% [markdown]
# Compare each model with the bigram in its own line: the ends of long names are easier to guess, so all numbers of the
# second line are lower. And the second revision has had twice the steps. Six changes at once tell you nothing about any one
# of them. Exercise 3.3 takes one of them alone.
#
# ## 12. The program
#
# The package has this chapter's model as a program that anyone can run: `uv run microgpt`. It adds flags, such as `--steps 100`, and
# prints as it goes; `uv run microgpt --help` lists them. Started from here it prints every 50th step, the loss of a single name
# each. It holds nothing out: it trains on all 18,450 names, shuffled by its seed, so its losses and names are others than ours. (As a script in a terminal, `python notebooks/text/03_microgpt.py --steps 100`, this chapter runs whole and gives its flags
# to the program.)

# %%
from course_lib.scripts.microgpt import main

main(command_line(notebook_flags=["--quiet"]))


# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/03_microgpt_solutions.ipynb](solutions/03_microgpt_solutions.ipynb).
#
# ### Exercise 3.1 — count before you build
#
# 10 minutes, ●○○. Write `count_parameters(config)`, the number of parameters of `MicroGPT(config)` for any sizes,
# without making the model.
#
# <details><summary>Hint</summary>Section 6 counted the parts. Which of them are there once, and which once a layer?</details>

# %% tags=["exercise"]
def count_parameters(config):
    raise NotImplementedError


# %%
check(exercises.count_parameters, count_parameters)


# %% [markdown]
# ### Exercise 3.2 — attention without matrices
#
# 20 minutes, ●●○. Write `attend(q, k, v)` for one head with plain Python loops over lists of lists: causal, scaled,
# softmax, mean of the values. It returns a list of T lists.
#
# <details><summary>Hint</summary>For position t, loop over s from 0 to t only: then no mask is needed. Use math.exp, and
# divide by the sum at the end. Each returned list has as many numbers as a row of v.</details>

# %% tags=["exercise"]
def attend(q, k, v):
    raise NotImplementedError


# %%
check(exercises.attend, attend)


# %% [markdown]
# ### Exercise 3.3 — one change at a time
#
# 20 minutes, ●●○. Write `plain_relu_model(config)`, which returns a `MicroGPT` whose MLPs use plain ReLU and which is
# otherwise this chapter's model, with starting values of the same kind (section 6). Then compare: for three seeds, call
# `backend.seed_everything(seed)`, make the model, `train` it for 500 steps and `evaluate` it on `held_out`; the same for
# `MicroGPT(config)`. No visible difference is a result, too.
#
# <details><summary>Hint</summary>Make a MicroGPT first, then put a PlainMLP in place of each layer's `mlp`, and at the end call
# `init_weights` on the model once more.</details>

# %% tags=["exercise"]
def plain_relu_model(config):
    raise NotImplementedError


# %%
check(exercises.plain_relu_model, plain_relu_model)

# %% [markdown]
# ## Summary
#
# - A GPT is embeddings, a few blocks of attention and MLP that write onto a residual stream, and a matrix to logits.
# - Attention is a weighted mean of values; queries and keys set the weights; the causal mask hides the future.
# - A new model's loss must be near the logarithm of the vocabulary's size. Check it before you train.
# - 500 steps of one name each bring 4,064 parameters level with the bigram table.
#
# ## Pitfalls
#
# - `mlx.optimizers.Adam` does not correct its bias unless told to. The first steps differ; after 500 you see no difference
#   here, so nobody notices that it is another optimizer.
# - Probabilities given to `mx.random.categorical`, which wants logits: samples close to noise, no error.
# - No `mx.eval` in the loop: memory grows with every step.
# - Judging a run by its last loss. With one name a step it says more about the name than about the model.
#
# ## Further reading
#
# - [Attention Is All You Need](https://arxiv.org/abs/1706.03762), Vaswani et al., 2017: the transformer.
# - [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467), Zhang and Sennrich, 2019.
# - [Primer](https://arxiv.org/abs/2109.08668), So et al., 2021: where squared ReLU comes from.
# - [Adam](https://arxiv.org/abs/1412.6980), Kingma and Ba, 2014; section 3 is the bias correction.
# - [microGPT](https://karpathy.ai/microgpt.html), Karpathy: the program this chapter follows.
#
# **Next:** [04 · Batches](04_batches.ipynb): the same model, all names, many at a time.

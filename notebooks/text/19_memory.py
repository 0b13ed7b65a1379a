# %% [markdown]
# # 19 · Memory and speed of a large model
#
# **Goal.** Know what a large model needs in memory and time before you make it, and see the three ways to need less: a loss in chunks, computing twice, and fewer bytes.
#
# | | |
# |---|---|
# | Needs | [02 · Autograd](02_autograd.ipynb), [08 · GPT](08_gpt.ipynb) |
# | Time | 35 minutes to read, 55 for the exercises; about a minute to run |
# | Memory | under 4 GB |
# | You will build | the loss in chunks, in a simple form; the package has it, written by hand, in `course_lib/model/loss.py` |
#
# Chapter 08's d12 is small among language models. Does training it fit into your laptop? The weights do, easily. Training is another matter, and most of
# what it needs is neither weights nor data. This chapter finds out where the memory goes, and the time.

# %% [markdown]
# ![Map of the course: chapter 19 memory is marked, the first of Part IV](images/map_19.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · **19** · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/19_memory.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
import statistics
import time

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map

from course_lib import backend
from course_lib.classroom import budget, check, claim
from course_lib.classroom.draw_memory import draw_two_passes
from course_lib.classroom.exercises import memory as exercises
from course_lib.model.activation import relu_squared
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.head import capped_logits
from course_lib.model.loss import fused_loss
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token

backend.seed_everything(42)
print(backend.describe())
ON_CPU = backend.device_kind() == "cpu"  # where the numbers of the text were measured

# %% [markdown]
# Here is the bill for one training step of d12 with eight texts of 2,048 tokens, as `estimate_memory` of the package reckons it for this machine. (On a CPU that is float32, with attention that keeps its softmax weights.)
# Look at two lines: *activations*, what the forward pass makes for the backward pass, and *all logits*, if all of them were held at once.

# %%
d12 = GPTConfig.from_depth(12)
for part, count in estimate_memory(d12, 8).items():
    print(f"{part:12s} {count / 1e9:6.2f} GB")
logits = 8 * 2048 * d12.vocab_size * 4 / 1e9
print(f"{'all logits':12s} {logits:6.2f} GB, and several arrays of that size")


# %% [markdown]
# The weights are a small part. The rest of this chapter goes through the bill, line by line.
#
# ## 1. What the backward pass needs
#
# Chapter 02's engine kept each number of the forward pass, since the backward pass asks for it: the slope of $a \cdot b$ by $a$ is
# $b$. MLX does the same with whole arrays. What is kept in this way is called **activations**.
#
# How much is kept can be measured. `mx.get_peak_memory()` says the most memory that was in use at any moment:

# %%
def peak_of(function, *arrays):
    """Result of function(*arrays), and the most bytes in use at once beyond those before."""
    mx.eval(arrays)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    result = function(*arrays)
    mx.eval(result)
    return result, mx.get_peak_memory() - before


# %%
def three_exponentials(x):
    return mx.exp(mx.exp(mx.exp(x - 1) - 1) - 1)


x = mx.ones((1024, 1024))  # 4.2 MB
_, forward = peak_of(three_exponentials, x)
_, both = peak_of(mx.grad(lambda x: three_exponentials(x).sum()), x)
print(
    f"forward {forward / x.nbytes:.0f} arrays of this size, with the gradient {both / x.nbytes:.0f}"
)
claim("the gradient needs more arrays at once", both > forward)


# %% [markdown]
# On the forward pass each array can go as soon as the next one is there. With a gradient the results of the exponentials must wait.
#
# ### Keep less: a gradient of your own
#
# Chapter 08's MLP has ReLU², $\max(x, 0)^2$. Written plainly, MLX keeps $x$ *and* $\max(x, 0)$, both four times as wide as the residual stream. But the
# slope is $2\max(x, 0)$, and $\max(x, 0)$ is quickly made again from $x$. How do you tell MLX?
#
# `mx.custom_function` marks a function whose gradient you write yourself. Your gradient gets three things: the input, the slope of the final
# loss with respect to the *output*, and the output. It returns the slope with respect to the *input*: by the chain rule, the slope that came in times your own. A toy first, with a factor of 10
# after it, so that the slope that comes in is not just 1:

# %% tags=["nbval-check-output"]
@mx.custom_function
def square(x):
    return x * x


@square.vjp  # MLX's name for it: vector–Jacobian product
def square_gradient(x, slope, output):
    return slope * 2 * x


print(mx.grad(lambda x: 10 * square(x).sum())(mx.array([1.0, 2.0, -3.0])).tolist())


# %% [markdown]
# The slope of $10x^2$ is $20x$: right. `relu_squared` in `course_lib/model/activation.py` is the same trick for ReLU²; it keeps $x$ alone. What does
# it buy in an MLP, 1,024 wide, for 2,048 tokens?

# %%
def mlp_peak(activation):
    x = mx.random.normal((2048, 1024))
    up, down = 0.03 * mx.random.normal((4096, 1024)), 0.03 * mx.random.normal((1024, 4096))
    through = mx.grad(lambda x, up, down: (activation(x @ up.T) @ down.T).sum(), argnums=(0, 1, 2))
    return peak_of(through, x, up, down)[1] / 1e6


# %%
plain = mlp_peak(lambda x: mx.square(mx.maximum(x, 0)))
ours = mlp_peak(relu_squared)
print(f"peak: plain {plain:.0f} MB, with a gradient of its own {ours:.0f} MB")
claim("it saves at least a tenth of the peak", ours < 0.9 * plain)


# %% [markdown]
# One array of 2048 × 4096 numbers less, 34 MB, and a little more. In a whole model that is so in each block.
#
# ## 2. The loss that never holds all logits
#
# ### First idea: some rows at a time
#
# A row, one position of one text, has a loss of its own. Nothing connects it with the other rows. So take a chunk of rows, make
# their logits, their loss, throw the logits away, take the next chunk. That is enough to *measure* a loss. For training it saves nothing: automatic differentiation
# keeps the logits of every chunk until the backward pass, which begins at the last one.
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


# %%
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
# Look at what the formula needs: the logits and the target, and nothing that comes later. So while the logits of a
# chunk are there for the loss, make their gradient as well, and only then throw them away:

# %%
draw_two_passes()


# %% [markdown]
# On the left all logits are in memory in the middle. On the right never more than those of one chunk. What stays of a chunk is small: the
# gradient of its rows of $x$, as large as these rows, and its part of the gradient of the matrix, which is added up. In code:

# %%
def loss_in_chunks(x, weight, targets, rows, cap=15.0):
    """Mean cross-entropy, and its gradients for x (N, C) and weight (V, C), `rows` at a time."""
    N, loss, for_x, for_weight = len(x), 0.0, [], mx.zeros_like(weight)
    for start in range(0, N, rows):
        part, wanted = x[start : start + rows], targets[start : start + rows, None]
        z = cap * mx.tanh(part @ weight.T / cap)  # (rows, V)
        p = mx.softmax(z, axis=-1)
        loss -= mx.log(mx.take_along_axis(p, wanted, axis=-1)).sum() / N
        right = wanted == mx.arange(len(weight))  # (rows, V): [j = y]
        slope = (p - right) * (1 - mx.square(z / cap)) / N
        for_x.append(slope @ weight)
        for_weight = for_weight + slope.T @ part
        mx.eval(loss, for_x, for_weight)  # now z, p and slope can go
    return loss, mx.concatenate(for_x), for_weight


# %%
def simple_loss(x, weight, targets):
    return nn.losses.cross_entropy(capped_logits(x, weight, 15.0), targets).mean()


# %%
x, weight = mx.random.normal((10, 8)), 0.5 * mx.random.normal((32, 8))
targets = mx.random.randint(0, 32, (10,))
loss, for_x, for_weight = loss_in_chunks(x, weight, targets, rows=3)
same, (also_x, also_weight) = mx.value_and_grad(simple_loss, argnums=(0, 1))(x, weight, targets)
worst = max(mx.abs(for_x - also_x).max().item(), mx.abs(for_weight - also_weight).max().item())
print(f"in chunks {loss.item():.6f} | simple {same.item():.6f} | gradients differ by {worst:.0e}")
close = 1e-5 if ON_CPU else 1e-2
claim("the same loss and the same gradients", abs(loss.item() - same.item()) < close > worst)


# %% [markdown]
# `fused_loss` of the package does this inside an `mx.custom_function`, so that `model.loss` can be differentiated like anything else. Its forward pass returns three things: the loss, and both gradients
# as further outputs. Its backward pass only multiplies them by the slope that comes in. Two details come on top:
# rows can carry different weights (targets of −1 count 0), and `mx.depends` takes the place of `mx.eval`: it puts the chunks in order, so that no more than two are in memory at once.
#
# ### What it saves
#
# A vocabulary of 65,536 and one text, then one four times as long, then, for the fused loss, one sixteen times as long:

# %%
def fused(x, weight, targets):
    return fused_loss(x, weight, targets, mx.full((len(x),), 1 / len(x)), 15.0)


# %%
N, V = budget(256, quick=64), budget(65536, quick=4096)
weight, peaks = mx.random.normal((V, 128)), {}
for label, way, sizes in (("simple", simple_loss, (1, 4)), ("fused", fused, (1, 4, 16))):
    for rows in (N * size for size in sizes):
        x, targets = mx.random.normal((rows, 128)), mx.random.randint(0, V, (rows,))
        both = mx.value_and_grad(way, argnums=(0, 1))
        peaks[label, rows] = peak_of(both, x, weight, targets)[1] / 1e6
        print(f"N={rows:5d}: all logits {rows * V * 4 / 1e6:5.0f} MB;", end=" ")
        print(f"peak {label} {peaks[label, rows]:5.0f} MB")

# %%
grows = {label: peaks[label, 4 * N] / peaks[label, N] for label in ("simple", "fused")}
claim("the simple loss needs several arrays of logits", peaks["simple", N] > 2 * N * V * 4 / 1e6)
claim("four times the text, about four times the simple peak", grows["simple"] > 3)
claim("the fused peak grows by far less", grows["fused"] < 0.6 * grows["simple"])
claim(
    "and from four to sixteen by a tenth at most",
    peaks["fused", 16 * N] < 1.1 * peaks["fused", 4 * N],
)


# %% [markdown]
# The simple peak grows with the text. The fused peak stops growing once there is more than one chunk: on a CPU the logits of a
# chunk are 67 MB at most, as in the first row, and several arrays of that size are alive together (exponentials, slopes, and those of
# the next chunk, since MLX works ahead). On a GPU chunks are larger, up to 512 MB, so that fewer operations have to be started.
#
# ## 3. Compute it again
#
# The activations of the blocks remain. How many are they? Counted in arrays of the size of the residual stream, (B, T, n_embd), a block keeps:
#
# | who | keeps | arrays |
# |---|---|---|
# | norm before attention | what goes in, what comes out | 2 |
# | queries | as they enter QK norm, as they leave it | 2 |
# | keys, values | keys before and after QK norm, values | 3, or fewer with fewer kv heads |
# | attention's `c_proj` | what goes in | 1 |
# | norm before the MLP | what goes in, what comes out | 2 |
# | MLP | what ReLU² takes, what it gives: each four times as wide | 8 |
# | together | | 18 |
# | softmax, where attention is not fused (chapter 07's FlashAttention; on a CPU never) | its weights | B · n_head · T · T numbers |
#
# Is it so? Add blocks to a model and see by how much the peak of a gradient grows. (The gradients of a block's weights will add three quarters of an array.)

# %%
def gradient_peak(config, batch_size, recompute=False):
    """Peak bytes of a loss and its gradients, beyond the weights."""
    model = GPT(config, recompute)
    text = mx.random.randint(0, config.vocab_size, (batch_size, config.sequence_len + 1))
    mx.eval(model.parameters(), text)
    both = nn.value_and_grad(model, GPT.loss)
    return peak_of(lambda text: both(model, text[:, :-1], text[:, 1:]), text)[1]


def sizes_of(layers):
    return GPTConfig(128, 512, layers, n_head=2, n_kv_head=2, n_embd=128)


# %%
stream = 16 * 128 * 128 * backend.compute_dtype().size  # bytes of an array (B, T, n_embd)
scores = 16 * 2 * 128 * 128 * backend.compute_dtype().size / stream
few, many = (gradient_peak(sizes_of(layers), 16) for layers in (4, 8))
per_block = (many - few) / 4 / stream
print(f"a block more: {per_block:.1f} arrays; by the table 18 and {scores:.0f} for the scores")
claim(
    "the table counts right, to a tenth",
    not ON_CPU or abs(per_block / (18 + scores) - 1) < 0.1,
)

# %% [markdown]
# Activations grow with each text of the batch, and there is a trade: keep only what *enters* each block, one array instead of 18, and in the backward pass compute the
# inside of the block once more. `GPT(config, recompute=True)` does that, with `nn.utils.checkpoint`. (Others call it gradient
# checkpointing. It has nothing to do with saving a model.)

# %%
few, many = (gradient_peak(sizes_of(layers), 16, recompute=True) for layers in (4, 8))
again_per_block = (many - few) / 4 / stream
print(f"a block more, computed again: {again_per_block:.1f} arrays")
claim("less than a third of what it was", again_per_block < per_block / 3)

# %% [markdown]
# (One array is what enters the block. The gradients of its weights are three quarters of one, in both measurements. The rest, about half an array, we cannot account for.) What does it cost? One more way forward, on top of one forward and a way back that costs two. So you would expect
# a third more time. Seven steps of each, taken in turn:

# %%
config = GPTConfig(256, 512, 4, n_head=4, n_kv_head=4, n_embd=256)
models = {again: GPT(config, recompute=again) for again in (False, True)}
text = mx.random.randint(0, 512, (budget(4, quick=1), 257))
seconds = {False: [], True: []}
for _ in range(budget(7, quick=2)):
    for again, model in models.items():
        started = time.perf_counter()
        mx.eval(nn.value_and_grad(model, GPT.loss)(model, text[:, :-1], text[:, 1:]))
        seconds[again].append(time.perf_counter() - started)

# %%
ratio = statistics.median(seconds[True]) / statistics.median(seconds[False])
print(f"recomputing takes {ratio:.2f} times as long")
claim("it costs less than two and a half times the time", ratio < 2.5)

# %% [markdown]
# More than a third: the third counts operations, and time need not follow them. We did not measure which part is to blame.
# It pays when the batch that you want does not fit otherwise. And it changes no gradient. (The weights are random everywhere here, so that none of the gradients is zero.)

# %%
random = tree_map(lambda old: 0.1 * mx.random.normal(old.shape), models[False].parameters())
slopes = []
for model in models.values():
    model.update(random)
    _, gradients = nn.value_and_grad(model, GPT.loss)(model, text[:, :-1], text[:, 1:])
    slopes.append(dict(tree_flatten(gradients)))

# %%
worst = max(mx.abs(slopes[0][name] - slopes[1][name]).max().item() for name in slopes[0])
least = min(mx.abs(gradient).max().item() for gradient in slopes[0].values())
print(f"largest difference {worst:.0e}; the weakest matrix has a slope of {least:.0e}")
claim("recomputation changes no gradient", worst < 1e-2 * least)

# %% [markdown]
# ## 4. Fewer bytes
#
# A float32 takes 4 bytes and has about 7 decimal digits. **bfloat16** has the same range in half the bytes, and 2 to 3 digits. GPUs
# multiply matrices of it several times as fast.

# %% tags=["nbval-check-output"]
numbers = mx.array([1.0, 1.001, 1.01, 256.0, 257.0])
print("float32 ", [round(number, 4) for number in numbers.tolist()])
print("bfloat16", [round(number, 4) for number in numbers.astype(mx.bfloat16).tolist()])
weight = mx.array(1.0, dtype=mx.bfloat16)
for _ in range(100):
    weight = weight + mx.array(0.001, dtype=mx.bfloat16)
print("1 and a hundred steps of 0.001, in bfloat16:", weight.item())
near_15 = mx.array([14.9, 14.95, 15.0]).astype(mx.bfloat16)
print("near the cap:", [round(number, 4) for number in near_15.tolist()])


# %% [markdown]
# The third line is why **weights stay float32**: a training step changes a weight by little, and in bfloat16 the change is
# rounded away, a hundred times out of a hundred. The last line is why **logits and loss are float32**: near 15 two neighbours lie 0.06 apart, too
# far for a loss. What is left for bfloat16 is the large part in the middle:
#
# | in a training step | type | why |
# |---|---|---|
# | weights, gradients, optimizer | float32 | small changes must add up |
# | residual stream, blocks, their products | `backend.compute_dtype()`: bfloat16 on a GPU, float32 on a CPU | half the memory, faster units; on a CPU bfloat16 is slower |
# | the sums inside norms, softmax and products | float32, in MLX's kernels | long sums lose digits |
# | logits, loss | float32 | differences are small |
#
# So on a GPU the 18 arrays of a block take half the bytes. Weight, gradient and the optimizer's numbers stay: 16 bytes per parameter with Adam, 12 with Muon.
#
# ## 5. The bill
#
# Now you can read `course_lib/model/sizes.py`. `estimate_memory(config, batch_size)` adds up:
#
# - **weights** and **gradients**: 4 bytes per parameter each;
# - **optimizer**: Muon remembers one number per weight of the blocks, AdamW two for each other parameter (chapter 09);
# - **activations**: 18 arrays per block (and the softmax weights, where they are kept), or 1 with recomputation, and on top what is alive for a moment only.
#
# The last item cannot be counted from the formulas, since it depends on the order in which MLX works. Three moments may be the fullest, and the fullest counts:
#
# | moment | alive besides weights and optimizer |
# |---|---|
# | the loss in the head | what all blocks keep, 14 arrays, 5 times the logits of two chunks, 3 times `lm_head` |
# | the last block goes backward | what all blocks keep, 21 arrays and 2 of softmax weights, the gradient of `lm_head` |
# | the first block, at the very end | what one block keeps, 21 arrays and 2 of softmax weights, all gradients |
#
# The numbers 14, 5, 3, 21 and 2 were fitted to peaks on a CPU; with recomputation, add to the 21 twice what a block would keep without it, 18 arrays and softmax weights. Gradients have a line of their own, so *activations* is the fullest moment less all of them. For d12: 12 blocks of 18 arrays and
# softmax weights, 20.54 GB, then 2.67 and 0.20, less 0.74: 22.66 GB. An estimate is only as good as its
# agreement with measurement, so here are whole training steps, optimizer and all:

# %%
def step_peak(config, batch_size, recompute=False):
    """Peak bytes of the second training step: one number remembered in blocks, two elsewhere."""
    mx.clear_cache()
    before = mx.get_active_memory()
    model = GPT(config, recompute)
    in_blocks = optim.SGD(1e-3, momentum=0.9)
    elsewhere = optim.AdamW(1e-3, bias_correction=True)
    optimizer = optim.MultiOptimizer([in_blocks, elsewhere], [lambda name, _: ".h." in name])
    text = mx.random.randint(0, config.vocab_size, (batch_size, config.sequence_len + 1))
    for _ in range(2):  # the first also makes the optimizer's state
        mx.reset_peak_memory()
        loss, gradients = nn.value_and_grad(model, GPT.loss)(model, text[:, :-1], text[:, 1:])
        optimizer.update(model, gradients)
        del gradients
        mx.eval(model.parameters(), optimizer.state, loss)
    return mx.get_peak_memory() - before


# %%
off = []
for depth, B, T, V, again in (
    (2, 2, 256, 65536, False),
    (4, 2, 256, 65536, False),
    (4, 16, 256, 2048, False),
    (4, 16, 256, 2048, True),
)[: budget(4, quick=1)]:
    config = GPTConfig.from_depth(depth, vocab_size=V, sequence_len=T)
    guess = estimate_memory(config, B, recompute=again)["total"]
    truth = step_peak(config, B, again)
    off.append(guess / truth - 1)
    print(f"d{depth} B={B:2d} V={V:5d} {'computed again' if again else '':15s}", end="")
    print(f"{guess / 1e6:6.0f} MB estimated, {truth / 1e6:6.0f} MB measured")
claim("within a quarter, where it was fitted", not ON_CPU or max(map(abs, off)) < 0.25)

# %% [markdown]
# These are small models on a CPU. For larger ones the estimate extrapolates, and on a GPU MLX works in other pieces: look at
# your own first lines before you trust it.
#
# And the question from the beginning? d12 again, on a CPU, with fewer texts at a time:

# %%
fits = {}
for B, again in ((8, False), (8, True), (1, False), (1, True)):
    fits[B, again] = estimate_memory(d12, B, recompute=again)["total"] / 1e9
    print(f"{B} texts{', computed again' if again else '':16s} {fits[B, again]:5.1f} GB")
claim("one text at a time needs less than a third of eight", fits[1, False] < fits[8, False] / 3)

# %% [markdown]
# So yes, it fits into a laptop, one text at a time, several such micro-batches making one step (chapter 10). Section 7 asks how long you would wait.
#
# ## 6. How fast could it be?
#
# Chapter 08 counted the operations of a token: $6(N - Vd) + 12LdT$. Divide by what the machine can do, and you have the shortest possible time. The share that a
# training run really reaches is called **model FLOPs utilization**, MFU:
#
# $$ \text{MFU} = \frac{\text{operations of a token} \cdot \text{tokens per second}}{\text{operations per second of the machine}} $$
#
# It counts only what the model needs: recomputation makes it worse, not better. On this machine, with products of matrices as the measure:

# %%
config = GPTConfig(256, 512, 4, n_head=4, n_kv_head=4, n_embd=256)
model, text = GPT(config), mx.random.randint(0, 512, (budget(4, quick=1), 257))
took = []
for _ in range(budget(6, quick=2)):
    started = time.perf_counter()
    mx.eval(nn.value_and_grad(model, GPT.loss)(model, text[:, :-1], text[:, 1:]))
    took.append(time.perf_counter() - started)

# %%
speed = (text.size - len(text)) / statistics.median(took)
peak = backend.matmul_gflops(dtype=backend.compute_dtype())
share = flops_per_token(config) * speed / (peak * 1e9)
print(f"{speed:,.0f} tokens a second, products {peak:,.0f} GFLOP/s: MFU {100 * share:.0f} %")
claim("some of the time goes into products, not all", 0 < share < 1)

# %% [markdown]
# Where does the rest go? Partly into everything that is not a matrix product: norms, softmax, ReLU², rotations. They do few operations for each number that they read, so
# memory sets their pace. And products as small as these do not reach the speed of the large one that we measured with.
#
# ## 7. d12 to d26: what they need
#
# What do the models of nanochat (October 2025) ask for, by the rules above? Memory is estimated for training in bfloat16 with fused attention, as on
# a recent NVIDIA GPU, with one text of 2,048 tokens at a time: weights, gradients and optimizer as above, 18 arrays per block (1 when computed again).
# What is alive for a moment is left out, so these are lower bounds.

# %%
print("depth   parameters   fixed GB   + per text GB   computed again   operations in all")
for depth in (12, 16, 20, 26):
    config = GPTConfig.from_depth(depth)
    parts, count = estimate_memory(config, 1), count_parameters(config)
    fixed = parts["weights"] + parts["gradients"] + parts["optimizer"]
    array = 2048 * config.n_embd * 2 * depth  # bytes, over all blocks
    flops = 20 * count * flops_per_token(config)
    print(f"d{depth:<4d} {count:13,d} {fixed / 1e9:10.1f} {18 * array / 1e9:15.2f}", end="")
    print(f" {array / 1e9:16.2f} {flops:19.1e}")

# %% [markdown]
# And the machines. These numbers are the makers' or other people's; none was measured for this course.
#
# | machine | memory | memory traffic | products in bfloat16 | source |
# |---|---|---|---|---|
# | NVIDIA H200 | 141 GB | 4.8 TB/s | 989 TFLOP/s (1,979 counts zeros that are skipped) | [H200 and B300 compared](https://itkb.uw.cz/2026/06/nvidia-h200-vs-b300-precisions-cores.html) |
# | Apple M4 Max | up to 128 GB, shared with the system | 546 GB/s | not stated by the maker | [Notebookcheck](http://www.notebookcheck.net/Apple-M4-Max-official-with-incremental-upgrades-over-the-M3-Max.911098.0.html) |
#
# Memory is not the obstacle: all of these models fit into either, with more or fewer texts at a time. Time is:

# %%
print("20 tokens for each parameter on one H200, if it reached 40 % of 989 TFLOP/s:")
hours = {}
for depth in (12, 16, 20, 26):
    config = GPTConfig.from_depth(depth)
    flops = 20 * count_parameters(config) * flops_per_token(config)
    hours[depth] = flops / (0.4 * 989e12) / 3600
    print(f"d{depth}: {hours[depth]:6.1f} hours")

# %%
m3_days = 20 * count_parameters(d12) / 1488 / 86_400  # reported, see below
print(f"d12 at 1,488 tokens a second: {m3_days:.0f} days")
claim("d26 costs more than thirty times d12", hours[26] > 30 * hours[12])
claim("on a laptop d12 is a matter of weeks", 20 < m3_days < 60)


# %% [markdown]
# The 40 % is an assumption, a good value for a tuned program. The 1,488 tokens a second were reported for a d12 in MLX on an Apple M3 Pro, by a port that was
# not tuned. So before you spend a night: measure a few steps, and let the program tell you when it will end. `base_train` does.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/19_memory_solutions.ipynb](solutions/19_memory_solutions.ipynb).
#
# ### Exercise 19.1 — the cap with a gradient of its own
#
# 15 minutes, ●●○. Write `softcap_gradient(u, slope, output)`, the gradient of $15\tanh(u/15)$ in the form of section 1, from `slope` and `output`
# alone, so that the input need not be kept. The check makes an `mx.custom_function` with it and takes its gradient.
#
# <details><summary>Hint 1</summary>Section 2 has the slope of the cap, written with its own output.</details>
#
# <details><summary>Hint 2</summary>It is 1 − (output / 15)². The slope that comes in multiplies it.</details>

# %% tags=["exercise"]
def softcap_gradient(u, slope, output):
    raise NotImplementedError


# %%
check(exercises.softcap, softcap_gradient)


# %% [markdown]
# ### Exercise 19.2 — how often is the first guess right?
#
# 25 minutes, ●●●. Write `accuracy(x, weight, targets, rows)`: the share of targets that are the id with the largest logit. x is (N, n_embd), weight
# (V, n_embd), targets (N,), some of them −1, which do not count. Never hold the logits of more than `rows` rows: the check
# looks at the peak. Return 0.0 when nothing counts.
#
# <details><summary>Hint 1</summary>The cap does not change which logit is the largest. Take `mx.argmax` of each chunk.</details>
#
# <details><summary>Hint 2</summary>MLX is lazy: without an `mx.eval` or `.item()` for each chunk, it may hold the logits of several at once.</details>

# %% tags=["exercise"]
def accuracy(x, weight, targets, rows):
    raise NotImplementedError


# %%
check(exercises.accuracy, accuracy)


# %% [markdown]
# ### Exercise 19.3 — how busy was the machine?
#
# 15 minutes, ●○○. A run of `steps` steps, each with `tokens` tokens, took `hours` hours on a machine that does `tflops` trillion operations a second at best. Write
# `mfu(config, steps, tokens, hours, tflops)`: its MFU, a number between 0 and 1.
#
# <details><summary>Hint 1</summary>Operations that were needed, divided by operations that the machine could have done in that time.</details>
#
# <details><summary>Hint 2</summary>`flops_per_token(config)` already holds the forward pass and the backward pass. An hour has 3,600 seconds, a trillion is 1e12.</details>

# %% tags=["exercise"]
def mfu(config, steps, tokens, hours, tflops):
    raise NotImplementedError


# %%
check(exercises.mfu, mfu)

# %% [markdown]
# ## Summary
#
# - The backward pass needs what the forward pass made. With several texts at a time these activations, not the weights, fill the memory.
# - A function with a gradient of its own can keep less. ReLU² keeps one array instead of two (what it gives is kept as well, but by the product that follows).
# - The gradient of the loss is known as soon as the logits are. So both are made a chunk at a time, and the logits are never all in memory.
# - Recomputation keeps one array per block instead of 18 and costs about one more forward pass.
# - Weights in float32, products in the fast type of the device, logits and loss in float32.
# - Parameters, memory and operations follow from the sizes. Measure a few steps before you trust the rest.
#
# ## Pitfalls
#
# - A gradient of your own that forgets the slope that comes in: right in a test with a plain sum, wrong everywhere else.
# - Chunks without `mx.eval` or `mx.depends`: lazy MLX may hold the logits of all of them.
# - Weights in bfloat16: small steps are rounded away.
# - Logits in bfloat16: near the cap two neighbours lie 0.06 apart.
# - An MFU that counts recomputed operations, or compares with a peak that counts skipped zeros.
#
# ## Further reading
#
# - [Cut Your Losses in Large-Vocabulary Language Models](https://arxiv.org/abs/2411.09009), Wijmans et al., 2024: section 2, inside one GPU kernel.
# - [Training Deep Nets with Sublinear Memory Cost](https://arxiv.org/abs/1604.06174), Chen et al., 2016: recomputation.
# - [Mixed Precision Training](https://arxiv.org/abs/1710.03740), Micikevicius et al., 2017: why weights keep their digits.
# - [PaLM](https://arxiv.org/abs/2204.02311), Chowdhery et al., 2022: where MFU was defined.
#
# **Next:** [20 · Several processes](20_processes.ipynb): more cores and more machines at one model, and what to do when it fits none of them.

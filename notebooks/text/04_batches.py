# %% [markdown]
# # 04 · Batches
#
# **Goal.** Train microGPT on many names at once until it beats the bigram clearly, and then look inside.
#
# | | |
# |---|---|
# | Needs | [03 · microGPT](03_microgpt.ipynb) |
# | Time | 45 minutes to read, 50 for the exercises; about a minute to run |
# | Memory | under 500 MB |
# | You will build | padded batches, a masked loss, a compiled training step → `course_lib.names.batching` |
#
# Chapter 03 trained on 500 names, one per step. There are thousands. A step of so small a model is about a hundred small
# operations on arrays, and starting an operation takes longer than its arithmetic. If each operation works on many names at
# once, most of that cost is shared. That is what this chapter is about.

# %% [markdown]
# ![Map of the course: chapter 04 batches is marked, after 03 microgpt; Part II starts after it](images/map_04.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · **04** · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/04_batches.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export names.batching
"""Many names at once: padded batches, a loss that ignores the padding, one compiled step."""

import random
from collections.abc import Callable, Iterator

import mlx.core as mx
import mlx.nn as nn

from course_lib.host.errors import CourseError
from course_lib.names.bigram import CharTokenizer
from course_lib.names.microgpt import MicroGPT, example, fit

# %%
import math
import time

import matplotlib.pyplot as plt
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import LiveCurve, budget, check, draw_loss_log, record_loss
from course_lib.classroom.exercises import batches as exercises
from course_lib.names.bigram import bigram_loss, bigram_probs, load_names, split_names
from course_lib.names.microgpt import MicroGPTConfig, evaluate, generate, loss_fn, train

backend.seed_everything(42)
names = load_names()
train_names, held_out = split_names(names)
tokenizer = CharTokenizer(names)
config = MicroGPTConfig()
print(backend.describe())

# %% [markdown]
# ## 1. Padding
#
# An array is a rectangle. Names have different lengths, so the short ones are filled up at the end: **padding**. A
# **mask** remembers what is real: 1 for a real prediction, 0 for padding. Three names by hand:

# %%
for name in ("al", "emma", "christopher"):
    ids, _ = example(name, tokenizer, config.block_size)
    fill = config.block_size - len(ids)
    print(f"{name:12s} inputs {ids + [tokenizer.bos] * fill}")
    print(f"{'':12s} mask   {[1] * len(ids) + [0] * fill}")


# %% [markdown]
# We pad with the BOS id. Any valid id would do: section 2 shows that what stands in the padding has no effect.

# %%
#| export names.batching
def make_batch(
    names: list[str], tokenizer: CharTokenizer, block_size: int
) -> tuple[mx.array, mx.array, mx.array]:
    """Inputs, targets and mask of several names, each (B, T) with T = block_size.

    Names are cut to block_size predictions and filled up with BOS; the mask is 1.0 for a real
    prediction, else 0.0.
    """
    inputs, targets, mask = [], [], []
    for name in names:
        ids, next_ids = example(name, tokenizer, block_size)
        fill = block_size - len(ids)
        inputs.append(ids + [tokenizer.bos] * fill)
        targets.append(next_ids + [tokenizer.bos] * fill)
        mask.append([1.0] * len(ids) + [0.0] * fill)
    return mx.array(inputs), mx.array(targets), mx.array(mask)


# %% tags=["nbval-check-output"]
few = ["al", "emma", "mia", "christopher"]
inputs, targets, mask = make_batch(few, tokenizer, config.block_size)
print(inputs.shape, targets.shape, mask.shape, "real predictions:", int(mask.sum().item()))


# %%
def show_batch(inputs, mask):
    """One row a name: the letter of each input, padding hatched."""
    figure, ax = plt.subplots(figsize=(5, 0.5 * len(inputs) + 0.4))
    for row, (ids, real) in enumerate(zip(inputs.tolist(), mask.tolist(), strict=True)):
        for column, (letter_id, is_real) in enumerate(zip(ids, real, strict=True)):
            style = {"facecolor": "#cfe4f3"} if is_real else {"facecolor": "white", "hatch": "///"}
            ax.add_patch(plt.Rectangle((column, row), 1, 1, edgecolor="#555555", **style))
            letter = "BOS" if letter_id == tokenizer.bos else tokenizer.chars[letter_id]
            ax.text(column + 0.5, row + 0.5, letter if is_real else "", ha="center", va="center")
    ax.set_xlim(0, inputs.shape[1])
    ax.set_ylim(len(inputs), 0)
    ax.set_xticks([n + 0.5 for n in range(inputs.shape[1])], range(inputs.shape[1]))
    ax.set_xlabel("position")
    ax.set_yticks([])
    plt.show()


show_batch(inputs, mask)

# %% [markdown]
# Each row is a name, each box a position that asks for the next letter. The hatched boxes are padding: computed, then
# thrown away. Over all training names that is this share of the work:

# %%
_, _, all_masks = make_batch(train_names, tokenizer, config.block_size)
print(f"padding: {1 - all_masks.mean().item():.0%} of all positions")


# %% [markdown]
# ## 2. A loss that ignores the padding
#
# Add up the loss of the real predictions and divide by **their** number:
#
# $$ \text{loss} = \frac{\sum_i \text{mask}_i \cdot (-\ln p_i)}{\sum_i \text{mask}_i} $$

# %%
#| export names.batching
def masked_loss(model: MicroGPT, inputs: mx.array, targets: mx.array, mask: mx.array) -> mx.array:
    """Mean cross-entropy in nats over the predictions whose mask is 1; 0 when there is none.

    inputs, targets, mask: (B, T) -> scalar
    """
    losses = nn.losses.cross_entropy(model(inputs), targets)  # (B, T)
    return (losses * mask).sum() / mx.maximum(mask.sum(), 1)


# %% [markdown]
# The check: the loss of a batch must be the mean over the same names one by one, each with as much weight as it has
# predictions. (The model here starts with a spread of 0.3 instead of 0.02, so that no two names are alike for it. It is
# confidently wrong, and its loss far above $\ln 27$.)

# %%
model = MicroGPT(config)
model.apply(nn.init.normal(std=0.3))
singles = [tuple(map(mx.array, example(name, tokenizer, config.block_size))) for name in few]
lengths = [len(ids) for ids, _ in singles]
losses = [loss_fn(model, ids, next_ids).item() for ids, next_ids in singles]
expected = sum(loss * n for loss, n in zip(losses, lengths, strict=True)) / sum(lengths)
batched = masked_loss(model, inputs, targets, mask).item()
print(f"one by one {expected:.6f} | batch {batched:.6f}")
assert abs(batched - expected) < 1e-5 * expected

# %% [markdown]
# Does the padding leak into real predictions? It stands at the end, and attention looks back only. So the logits of a
# padded name equal those of the name alone, whatever stands in the padding:

# %%
alone = model(inputs[1, :5])  # (5, V) of "emma", no padding
in_batch = model(inputs)[1, :5]
other_padding = model(mx.where(mask == 1, inputs, 7))[1, :5]
print("largest difference", mx.abs(alone - in_batch).max().item())
assert mx.allclose(alone, in_batch, atol=1e-5) and mx.allclose(alone, other_padding, atol=1e-5)

# %% [markdown]
# Without the mask the loss would be a mean over padding too, where the right answer is always BOS. That is easy to
# learn, so the loss would look better than it is. Suppose that a model gives every id the same probability, but is sure of
# BOS in the padding. Its two losses on our four names:

# %%
honest = math.log(27)
real_share = mask.mean().item()
print(f"masked loss {honest:.3f} | mean over everything {honest * real_share:.3f}")

# %% [markdown]
# Nothing about letters was learned, and the second number is lower. A loss is only comparable with another when both
# count the same predictions.
#
# **Gradients** follow the same rule: the gradient of a batch is the mean of the single gradients, weighted by the number
# of predictions. So a step with a batch is *one* step, in the mean direction of its names.

# %%
_, gradients = nn.value_and_grad(model, masked_loss)(model, inputs, targets, mask)
of_batch = dict(tree_flatten(gradients))
mean = {part: mx.zeros_like(array) for part, array in of_batch.items()}
for (ids, next_ids), length in zip(singles, lengths, strict=True):
    _, gradients = nn.value_and_grad(model, loss_fn)(model, ids, next_ids)
    for part, gradient in tree_flatten(gradients):
        mean[part] += gradient * length / sum(lengths)
largest = max(mx.abs(gradient).max().item() for gradient in of_batch.values())
worst = max(mx.abs(of_batch[part] - mean[part]).max().item() for part in of_batch)
print(f"largest gradient {largest:.3g}, largest difference {worst:.1e}")
assert worst < 5e-3 * largest


# %% [markdown]
# ## 3. Which names when
#
# One pass over all names is an **epoch**. Before each epoch the names are shuffled, so that batches differ from epoch to
# epoch. Names left over at the end of an epoch start the first batch of the next one, so every batch is full: all have one
# shape, and the step is compiled once.

# %%
#| export names.batching
def batches(names: list[str], batch_size: int, seed: int) -> Iterator[list[str]]:
    """Lists of `batch_size` names for ever, in epochs: every name once in each, shuffled."""
    generator = random.Random(seed)
    waiting: list[str] = []
    while True:
        while len(waiting) < batch_size:
            waiting += generator.sample(names, len(names))  # a shuffled copy
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


# %%
stream = batches(["a", "b", "c", "d", "e"], batch_size=2, seed=0)
two_epochs = [name for _ in range(5) for name in next(stream)]  # five batches of two names
print(two_epochs)
assert sorted(two_epochs[:5]) == sorted(two_epochs[5:]) == ["a", "b", "c", "d", "e"]


# %% [markdown]
# ## 4. One compiled step for a whole batch
#
# The loop is chapter 03's `fit`, with batches in place of names, and compiled by default: the longer the training, the sooner
# that pays. The learning rate may change from step to step, because the optimizer keeps it as an array in its state, which
# `mx.compile` knows of. A plain Python number read inside the step would be frozen at its first value (chapter 00).

# %%
#| export names.batching
def train_batches(
    model: MicroGPT,
    docs: list[str],
    tokenizer: CharTokenizer,
    num_steps: int = 2000,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    seed: int = 42,
    compiled: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train the model in place on `batch_size` names per step; see `microgpt.fit`.

    Returns the loss of each step in nats a token.
    Raises CourseError for no names, no steps or an empty batch.
    """
    if not docs or num_steps < 1 or batch_size < 1:
        given = f"{len(docs)} names, {num_steps} steps, batch_size={batch_size}"
        raise CourseError(f"{given}: give at least one of each")
    stream = batches(docs, batch_size, seed)
    arrays = (make_batch(some, tokenizer, model.config.block_size) for some in stream)
    return fit(model, masked_loss, arrays, num_steps, learning_rate, on_step, compiled)


# %% [markdown]
# Is the compiled step still the same step? Two models with equal starting values, ten steps each way. (On a Linux CPU the
# compiler works for some ten seconds here, and keeps the result for the rest of the chapter.)

# %%
ends = {}
for compiled in (False, True):
    backend.seed_everything(7)
    twin = MicroGPT(config)
    ends[compiled] = train_batches(twin, train_names, tokenizer, num_steps=10, compiled=compiled)
gap = max(abs(a - b) for a, b in zip(ends[False], ends[True], strict=True))
print(f"tenth loss: uncompiled {ends[False][-1]:.6f} | compiled {ends[True][-1]:.6f}")
assert gap < 1e-4


# %% [markdown]
# ## 5. The ladder
#
# How many names a second does each way train on? The bottom rung is chapter 03's own loop, one name at a time,
# uncompiled. We time steps after the first ones, so compiling itself is not counted.

# %%
def names_per_second(train_function, names_per_step, steps, **settings):
    """Speed of the second half of a run: before it, everything is compiled and warmed up."""
    times = []
    train_function(
        MicroGPT(config),
        train_names,
        tokenizer,
        num_steps=steps,
        on_step=lambda step, loss: times.append(time.perf_counter()),
        **settings,
    )
    second_half = times[steps // 2 :]
    return names_per_step * (len(second_half) - 1) / (second_half[-1] - second_half[0])


# %%
steps = budget(600, quick=60)
ladder = {"one name (chapter 03)": names_per_second(train, 1, steps, compiled=False)}
for size, compiled in ((1, True), (64, False), (64, True), (512, True)):
    rung = f"batch of {size}{', compiled' if compiled else ''}"
    settings = {"batch_size": size, "compiled": compiled}
    ladder[rung] = names_per_second(
        train_batches, size, steps // (4 if size == 512 else 1), **settings
    )
base = ladder["one name (chapter 03)"]
for way, speed in ladder.items():
    print(f"{way:24s} {speed:9,.0f} names/s   {speed / base:5.1f} times")

# %%
from course_lib.classroom.plots import draw_attention, draw_bars

draw_bars(ladder, "names per second")

# %% [markdown]
# The first bars are hardly visible beside the others. Compiling helps, because it makes one operation of several. The batch
# helps far more: a step with 64 names takes far less than 64 times as long as a step with one. From 64 to 512 names
# there is little or nothing left to gain: by now the arithmetic, and making the batch in Python, take the time. How much each
# rung brings differs between machines.

# %%
fastest = max(ladder.values())
print(f"batched and compiled: {fastest / base:.0f} times the names per second of chapter 03's loop")


# %% [markdown]
# ## 6. Train until it beats the bigram
#
# Now all training names, 64 per step. First a way to measure all held-out names in batches; it must agree with chapter
# 03's, which goes name by name. Then the line to beat.

# %%
#| export names.batching
def evaluate_batches(
    model: MicroGPT, docs: list[str], tokenizer: CharTokenizer, batch_size: int = 512
) -> float:
    """Loss in nats a token over all of `docs`: the number of `microgpt.evaluate`, faster."""
    total = count = 0.0
    for start in range(0, len(docs), batch_size):
        inputs, targets, mask = make_batch(
            docs[start : start + batch_size], tokenizer, model.config.block_size
        )
        total += masked_loss(model, inputs, targets, mask).item() * mask.sum().item()
        count += mask.sum().item()
    return total / count


# %%
slow, fast = evaluate(model, held_out, tokenizer), evaluate_batches(model, held_out, tokenizer)
print(f"name by name {slow:.6f} | in batches {fast:.6f}")
assert abs(slow - fast) < 1e-5 * slow

table = bigram_probs(train_names, tokenizer)
bigram = bigram_loss(table, held_out, tokenizer, max_len=config.block_size)
print(f"bigram to beat: {bigram:.4f}")

# %%
backend.seed_everything(42)
model = MicroGPT(config)
num_steps = budget(3000, quick=400)
curve = LiveCurve(references={"bigram": bigram}, total=num_steps, window=50)
losses = train_batches(model, train_names, tokenizer, num_steps, on_step=curve.add)
curve.show()

# %% [markdown]
# The pale line is far calmer than in chapter 03: the mean over 64 names hides the luck of each. The curve crosses the
# bigram's line early and goes on falling slowly.

# %%
train_loss = evaluate_batches(model, train_names, tokenizer)
held_out_loss = evaluate_batches(model, held_out, tokenizer)
print(f"seen names {train_loss:.4f} | held-out names {held_out_loss:.4f} | bigram {bigram:.4f}")
assert held_out_loss < bigram - 0.05, "more names and more steps should beat the bigram clearly"
idea = "all training names, 64 per step"
record_loss("04", "microGPT, batches", idea, corpus="names", steps=num_steps, loss=held_out_loss)

# %% [markdown]
# The loss on seen names is a little lower than on held-out names, by more than the bigram's. Part of what was learned is
# true of the training names only: **overfitting**. 4,064 parameters cannot learn thousands of names by heart, so it stays
# modest.
#
# What bought the progress: more steps, or more names per step? Train two more models to find out.

# %%
bought = {}
for size, count in ((1, num_steps), (64, num_steps // 6)):
    backend.seed_everything(42)
    other = MicroGPT(config)
    train_batches(other, train_names, tokenizer, count, batch_size=size)
    bought[f"{count} steps of {size}"] = evaluate_batches(other, held_out, tokenizer)
bought[f"{num_steps} steps of 64"] = held_out_loss
for run, loss in bought.items():
    print(f"{run:18s} held-out loss {loss:.4f}")

# %% [markdown]
# Both help. Compare the first row with the last: the same number of updates, but in the last row each
# knows its direction from 64 names instead of one. Names per second are not learning per second, though: 64 times the names
# bring far less than 64 times the progress.
#
# | what changed | why |
# |---|---|
# | 64 names per step, padded and masked | starting operations cost more than their arithmetic; a mean over 64 names is a steadier direction |
# | a compiled step | fewer operations to start |
# | all training names, many epochs, instead of 500 names once | 500 names are a small sample of what names are like |

# %%
draw_loss_log("names", until="04")

# %% [markdown]
# Further left is better. The last point is the first one that is clearly left of the bigram's. The names it writes, with
# the same random keys as in chapter 03:

# %%
samples = [generate(model, tokenizer, key=k) for k in mx.random.split(mx.random.key(42), 20)]
print(*samples[:10])
print(*samples[10:])


# %% [markdown]
# ## 7. Look inside: attention
#
# The trained heads no longer look at random. Here are their weights for one name.

# %%
def attention_of(name: str) -> mx.array:
    """Weights of the first block's heads for one name: (H, T, T)."""
    ids = mx.array(example(name, tokenizer, config.block_size)[0])
    x = model.norm_in(model.wte(ids) + model.wpe(mx.arange(len(ids))))
    block = model.layers[0]
    return block.attn.weights(block.norm1(x))


figure, axes = plt.subplots(1, config.n_head, figsize=(9, 2.7), sharey=True)
draw_attention(axes, attention_of("mariano").tolist(), ["•", *"mariano"])
figure.tight_layout()
plt.show()


# %% [markdown]
# A row is the letter that looks (• is BOS); each dark square marks a letter that it looks at, named at the bottom of its
# column. In some heads the dark squares keep close to the diagonal: they look at the letter itself or the one before.
# Others look further back.
#
# One name can mislead. Over 400 held-out names, how is the attention of each head shared out over the distances? The grey
# line is a head that looks at everything alike. It falls too, since few positions have seven others before them.

# %%
def shares_by_distance(names, weights_of):
    """Attention at each distance back, as shares (H, block_size); weights_of(name): (H, T, T)."""
    total = mx.zeros((config.n_head, config.block_size))
    for name in names:
        weights = weights_of(name)
        for back in range(weights.shape[1]):
            total[:, back] += mx.diagonal(weights, -back, 1, 2).sum(axis=-1)
    return total / total.sum(axis=-1, keepdims=True)


def even_weights(name):
    """Every head looks at all earlier positions and itself alike."""
    T = len(example(name, tokenizer, config.block_size)[0])
    alike = mx.tril(mx.ones((T, T))) / mx.arange(1, T + 1)[:, None]  # (T, T), each row sums to 1
    return mx.broadcast_to(alike, (config.n_head, T, T))


shares = shares_by_distance(held_out[:400], attention_of).tolist()
even = shares_by_distance(held_out[:400], even_weights)[0].tolist()

# %%
figure, ax = plt.subplots(figsize=(5.5, 3))
ax.plot(even, color="#999999", linewidth=6, alpha=0.5, label="looks at all alike")
styles = [
    ("-", "o", "#0072B2"),
    ("--", "s", "#D55E00"),
    (":", "^", "#009E73"),
    ("-.", "D", "#000000"),
]
for head, (line, marker, color) in enumerate(styles):
    ax.plot(shares[head], line, marker=marker, color=color, label=f"head {head}")
ax.set_xlabel("positions back (0 = itself)")
ax.set_ylabel("share of attention")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# A head above the grey line at 0 reads the letter itself; above it at 1, the letter before; above it from 2 on, what lies
# further back. The four do not do the same, and nobody told them what to do. With another seed they share the work in
# another way: try it.
#
# ## 8. Look inside: what the letters became
#
# Each letter is a row of 16 numbers in `wte`: a point in 16 dimensions. Paper has two. **PCA** (principal component
# analysis) finds the direction in which the points are spread out most, then the one at right angles to it in which they are
# spread out most of the rest. Along these two we draw them. (`svd` computes the directions; MLX has it on the CPU only.)

# %%
rows = model.wte.weight - model.wte.weight.mean(axis=0)  # (27, 16), centred
_, _, directions = mx.linalg.svd(rows, stream=mx.cpu)  # (16, 16), widest spread first
points = (rows @ directions[:2].T).tolist()  # (27, 2)

figure, ax = plt.subplots(figsize=(6.5, 5))
for letter, (x, y) in zip([*tokenizer.chars, "•"], points, strict=True):
    vowel = letter in "aeiou"
    style = {"marker": "s", "color": "#f6d9a8"} if vowel else {"marker": "o", "color": "#cfe4f3"}
    ax.scatter(x, y, s=190, edgecolor="#555555", alpha=0.8, **style)
    ax.text(x, y, letter, ha="center", va="center")
ax.margins(0.08)
ax.set_xlabel("first direction")
ax.set_ylabel("second direction")
plt.show()

# %% [markdown]
# Squares are a, e, i, o, u; circles are all the others, with • for BOS. The squares stand together, apart from the circles.
# The model was never told what a vowel is. It found that these letters have the same kind of neighbours.
#
# Two directions are not sixteen. To compare letters in all of them, take the **cosine** of two rows: 1 when they point the
# same way, 0 when they have nothing in common, negative when they point apart.

# %%
letters = [*tokenizer.chars]
vowels = [letters.index(letter) for letter in "aeiou"]
others = [n for n in range(26) if n not in vowels]
embedding = model.wte.weight / mx.linalg.norm(
    model.wte.weight, axis=-1, keepdims=True
)  # length 1 each
cosine = (embedding @ embedding.T).tolist()


def mean_cosine(group, other):
    pairs = [cosine[a][b] for a in group for b in other if a != b]
    return sum(pairs) / len(pairs)


together, apart = mean_cosine(vowels, vowels), mean_cosine(vowels, others)
print(f"mean cosine: vowel with vowel {together:.2f}, vowel with another letter {apart:.2f}")
assert together > apart


# %% [markdown]
# Vowels are more like each other than like the rest, in all 16 dimensions too.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/04_batches_solutions.ipynb](solutions/04_batches_solutions.ipynb).
#
# ### Exercise 4.1 — masks from lengths
#
# 10 minutes, ●○○. Write `mask_of(lengths, T)`: `lengths` is a list of B numbers of predictions; return the mask (B, T)
# without a Python loop.
#
# <details><summary>Hint</summary>Compare mx.arange(T), a row, with mx.array(lengths)[:, None], a column.</details>

# %% tags=["exercise"]
def mask_of(lengths, T):
    raise NotImplementedError


# %%
check(exercises.mask_of, mask_of)


# %% [markdown]
# ### Exercise 4.2 — less padding
#
# 20 minutes, ●●○. Texts differ in length far more than names do, and are padded to the longest in their batch. Then it
# helps to put texts of about the same length together. Write `buckets(names, batch_size)`: a list of batches (lists of
# names) in which every name is once, all batches but the last are full, and each is padded as little as possible. Leave
# `names` itself as it is.
#
# <details><summary>Hint</summary>Sort a copy by length, then cut. (What would be wrong with training on the batches in that
# order? The solution says.)</details>

# %% tags=["exercise"]
def buckets(names, batch_size):
    raise NotImplementedError


# %%
check(exercises.buckets, buckets)


# %% [markdown]
# ### Exercise 4.3 — the loss of each position
#
# 20 minutes, ●●○. Write `loss_by_position(losses, mask)`, which takes the loss of each prediction (B, T) and the mask
# (B, T) and returns the mean loss at each position (T,), counting real predictions only and giving 0 where there is
# none. Then ask where in a name the next letter is hardest to guess: make a batch of all held-out names and take
# `nn.losses.cross_entropy(model(inputs), targets)` as the losses.
#
# <details><summary>Hint</summary>Sum over the batch axis, both the masked losses and the mask.</details>

# %% tags=["exercise"]
def loss_by_position(losses, mask):
    raise NotImplementedError


# %%
check(exercises.loss_by_position, loss_by_position)

# %% [markdown]
# ## Summary
#
# - Small steps spend their time on starting operations. A batch gives each more to do; compiling makes fewer of them.
# - Padding makes a rectangle, the mask keeps it out of the loss; causal attention keeps it out of the predictions.
# - The gradient of a batch is the weighted mean of the single gradients.
# - Trained on all training names, the model is clearly below the bigram on names that it has not seen.
# - Attention heads come to do different things, and letters with the same neighbours get similar vectors. Nobody programmed
#   either.
#
# ## Pitfalls
#
# - Averaging the loss over padding: it looks better and learns worse.
# - A state that `mx.compile` does not know of: the step runs, and nothing learns, or a number is frozen.
# - A batch of another shape, such as a short last one, is traced and compiled again. Keep shapes fixed.
# - Comparing speeds with the first step in the measurement: that is the compiler's time.
#
# ## Further reading
#
# - [MLX: compilation](https://ml-explore.github.io/mlx/build/html/usage/compile.html): what may and may not be in a compiled function.
# - [A Neural Probabilistic Language Model](https://www.jmlr.org/papers/v3/bengio03a.html), Bengio et al., 2003: learned vectors for words.
# - [A Mathematical Framework for Transformer Circuits](https://transformer-circuits.pub/2021/framework/index.html), Elhage et al., 2021: reading what heads do.
#
# **Next:** [05 · Tokenizer](05_tokenizer.ipynb), where Part II begins: from letters to the pieces of words that large models read.

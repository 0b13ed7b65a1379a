# %% [markdown]
# # 04 · Batches
#
# **Goal.** Train microGPT on many names at once, many times faster, until it beats the bigram clearly; then look inside.
#
# | | |
# |---|---|
# | Needs | [03 · microGPT](03_microgpt.ipynb) |
# | Time | 45 minutes to read, under 2 minutes to run |
# | Memory | under 500 MB |
# | You will build | padded batches, a masked loss, a compiled training step → `course_lib.batching`; two drawings → `course_lib.plots` |
#
# Chapter 03 trained on 500 names, one a step. There are thousands. Most of the time of a step went into starting small
# pieces of work, not into arithmetic. Giving each piece of work more names costs little, and that is what this chapter
# is about.

# %% [markdown]
# ![Map of the course: chapter 04 batches is marked, after 03 microgpt; Part II starts after it](images/map_04.svg)

# %%
#| export batching
"""Many names at once: padded batches, a loss that ignores the padding, one compiled step for a whole batch."""

import random
from collections.abc import Callable, Iterator
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from course_lib.host.errors import CourseError
from course_lib.microgpt import MicroGPT, cosine_decay, example
from course_lib.names import CharTokenizer

# %%
import math
import time

import matplotlib.pyplot as plt
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import LiveCurve, budget, check, draw_loss_log, record_loss
from course_lib.classroom.exercises import batches as exercises
from course_lib.microgpt import MicroGPTConfig, evaluate, generate, loss_fn, train
from course_lib.names import bigram_loss, bigram_probs, load_names, split_names

key = backend.seed_everything(42)
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
    name_inputs, name_targets = example(name, tokenizer, config.block_size)
    fill = config.block_size - len(name_inputs)
    print(
        f"{name:12s} inputs {name_inputs + [tokenizer.bos] * fill}  mask {[1] * len(name_inputs) + [0] * fill}"
    )


# %% [markdown]
# We pad with the BOS id. Any valid id would do, since the mask hides it.

# %%
#| export batching
def make_batch(
    names: list[str], tokenizer: CharTokenizer, block_size: int
) -> tuple[mx.array, mx.array, mx.array]:
    """Inputs, targets and mask of several names, each (B, T) with T = block_size.

    Names are cut to block_size predictions and filled up with BOS; the mask is 1.0 for a real prediction, else 0.0.
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
#| export batching
def masked_loss(model: MicroGPT, inputs: mx.array, targets: mx.array, mask: mx.array) -> mx.array:
    """Mean cross-entropy in nats over the predictions whose mask is 1; 0 when there is none. All (B, T) -> scalar."""
    losses = nn.losses.cross_entropy(model(inputs), targets)  # (B, T)
    return (losses * mask).sum() / mx.maximum(mask.sum(), 1)


# %%
model = MicroGPT(config)
model.apply(nn.init.normal(std=0.3))  # untrained, but no two names alike
one_by_one = [
    loss_fn(model, *map(mx.array, example(name, tokenizer, config.block_size))).item()
    for name in few
]
lengths = [len(example(name, tokenizer, config.block_size)[0]) for name in few]
expected = sum(loss * length for loss, length in zip(one_by_one, lengths, strict=True)) / sum(
    lengths
)
batched = masked_loss(model, inputs, targets, mask).item()
print(f"one by one {expected:.6f} | batch {batched:.6f}")
assert abs(batched - expected) < 1e-5

# %% [markdown]
# Does the padding leak into real predictions? It stands at the end, and attention looks back only. So the logits of a
# padded name equal those of the name alone:

# %%
alone = model(inputs[1, :5])  # (5, V) of "emma", no padding
in_batch = model(inputs)[1, :5]
print("largest difference", mx.abs(alone - in_batch).max().item())
assert mx.allclose(alone, in_batch, atol=1e-5)

# %% [markdown]
# Without the mask the loss would be a mean over padding too, where the right answer is always BOS. That is easy to
# learn, so the loss looks better than it is. Here is a model that gives every id the same probability except in the
# padding, where it is sure of BOS:

# %%
honest = math.log(27)
real_share = mask.mean().item()
print(f"masked loss {honest:.3f} | mean over everything {honest * real_share:.3f}")

# %% [markdown]
# Nothing about letters was learned, and the second number is lower. A loss is only comparable with another when both
# count the same predictions.
#
# **Gradients** follow the same rule: the gradient of a batch is the mean of the single gradients, weighted by the number
# of predictions. So a batch is not a different way to learn. It is one step in the mean direction of many names.

# %%
batch_gradient = dict(
    tree_flatten(nn.value_and_grad(model, masked_loss)(model, inputs, targets, mask)[1])
)
mean_gradient = {name: mx.zeros_like(array) for name, array in batch_gradient.items()}
for name, length in zip(few, lengths, strict=True):
    ids, next_ids = map(mx.array, example(name, tokenizer, config.block_size))
    for part, gradient in tree_flatten(nn.value_and_grad(model, loss_fn)(model, ids, next_ids)[1]):
        mean_gradient[part] += gradient * length / sum(lengths)
worst = max(
    mx.abs(batch_gradient[part] - mean_gradient[part]).max().item() for part in batch_gradient
)
print("largest difference over all parameters", worst)
assert worst < 1e-5


# %% [markdown]
# ## 3. Which names when
#
# One pass over all names is an **epoch**. Before each epoch the names are shuffled, so that no step sees the same batch
# twice. What is left at the end of an epoch goes into the next one, so every batch is full: all have one shape, and
# the compiled step is compiled once.

# %%
#| export batching
def batches(names: list[str], batch_size: int, seed: int) -> Iterator[list[str]]:
    """Lists of `batch_size` names for ever: epoch after epoch, each in a new order, none left out or seen twice."""
    generator = random.Random(seed)
    waiting: list[str] = []
    while True:
        while len(waiting) < batch_size:
            waiting += generator.sample(names, len(names))
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


# %%
stream = batches(["a", "b", "c", "d", "e"], batch_size=2, seed=0)
first_epoch = [name for _ in range(5) for name in next(stream)]  # ten names: two epochs of five
print(first_epoch)
assert sorted(first_epoch[:5]) == sorted(first_epoch[5:]) == ["a", "b", "c", "d", "e"]


# %% [markdown]
# ## 4. One compiled step for a whole batch
#
# The loop is chapter 03's, with a batch in place of a name. `mx.compile` needs to know everything that the step reads
# and changes besides its arguments: the parameters and the optimizer's state. Both are given as `inputs` and `outputs`.
# The learning rate is in the optimizer's state as an array, so it may change from step to step. A plain Python number
# read inside the step would be frozen at its first value.

# %%
#| export batching
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
    """Train the model in place on `batch_size` names a step: Adam as in chapter 03, cosine decay to zero.

    Calls on_step(step, loss), step from 1. Returns the loss of each step in nats a character.
    Raises CourseError for no names, no steps or an empty batch.
    """
    if not docs or num_steps < 1 or batch_size < 1:
        raise CourseError(
            f"{len(docs)} names, {num_steps} steps, batch_size={batch_size}: give at least one of each"
        )
    optimizer = optim.Adam(
        learning_rate=learning_rate, betas=[0.9, 0.95], eps=1e-8, bias_correction=True
    )
    optimizer.init(model.trainable_parameters())
    loss_and_grad = nn.value_and_grad(model, masked_loss)
    state = [model.state, optimizer.state]

    def step(inputs: mx.array, targets: mx.array, mask: mx.array) -> mx.array:
        loss, gradients = loss_and_grad(model, inputs, targets, mask)
        optimizer.update(model, gradients)
        return loss

    if compiled:
        step = partial(mx.compile, inputs=state, outputs=state)(step)
    losses, stream = [], batches(docs, batch_size, seed)
    for n in range(num_steps):
        optimizer.learning_rate = learning_rate * cosine_decay(n, num_steps)
        loss = step(*make_batch(next(stream), tokenizer, model.config.block_size))
        mx.eval(state, loss)
        losses.append(loss.item())
        if on_step:
            on_step(n + 1, losses[-1])
    return losses


# %% [markdown]
# Is the compiled step still the same step? Two models with equal starting values, ten steps each way:

# %%
ends = {}
for compiled in (False, True):
    backend.seed_everything(7)
    twin = MicroGPT(config)
    ends[compiled] = train_batches(twin, train_names, tokenizer, num_steps=10, compiled=compiled)
gap = max(abs(a - b) for a, b in zip(ends[False], ends[True], strict=True))
print(
    f"loss after ten steps: eager {ends[False][-1]:.6f}, compiled {ends[True][-1]:.6f} | largest gap {gap:.1e}"
)
assert gap < 1e-4


# %% [markdown]
# ## 5. The ladder
#
# How many names a second does each way train on? The bottom rung is chapter 03's own loop, one name at a time,
# uncompiled. We time steps after the first ones, so compiling itself is not counted.

# %%
def names_per_second(train_steps, names_a_step: int, steps: int) -> float:
    """Speed of the second half of a run: before it, everything has been compiled and warmed up."""
    marks = []
    train_steps(steps, lambda step, loss: marks.append(time.perf_counter()))
    half = len(marks) // 2
    return names_a_step * (len(marks) - 1 - half) / (marks[-1] - marks[half])


def one_at_a_time(steps, on_step):
    train(MicroGPT(config), train_names, tokenizer, steps, on_step=on_step, compiled=False)


def in_batches(batch_size, compiled):
    def run(steps, on_step):
        model = MicroGPT(config)
        train_batches(
            model, train_names, tokenizer, steps, batch_size, compiled=compiled, on_step=on_step
        )

    return run


# %%
ladder = {
    "one name (chapter 03)": names_per_second(one_at_a_time, 1, budget(600, quick=60)),
    "one name, compiled": names_per_second(in_batches(1, True), 1, budget(600, quick=60)),
    "batch of 64": names_per_second(in_batches(64, False), 64, budget(400, quick=40)),
    "batch of 64, compiled": names_per_second(in_batches(64, True), 64, budget(400, quick=40)),
    "batch of 512, compiled": names_per_second(in_batches(512, True), 512, budget(100, quick=20)),
}
base = ladder["one name (chapter 03)"]
for way, speed in ladder.items():
    print(f"{way:24s} {speed:9,.0f} names/s   {speed / base:5.1f} times")

# %%
#| export plots
"""Drawings that several chapters use."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes


def draw_bars(values: dict[str, float], unit: str, log: bool = False) -> None:
    """Horizontal bars with their values written beside them; `log` for values that differ by powers of ten."""
    figure, ax = plt.subplots(figsize=(6, 0.6 + 0.4 * len(values)))
    bars = ax.barh(list(values), list(values.values()), color="#0072B2", height=0.6)
    ax.bar_label(
        bars,
        [f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in values.values()],
        padding=4,
    )
    ax.invert_yaxis()
    if log:
        ax.set_xscale("log")
    ax.set_xlabel(unit + (" (each gridline is ten times the one before)" if log else ""))
    ax.margins(x=0.2)
    ax.grid(axis="x", alpha=0.4)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()


# %%
from course_lib.plots import draw_attention, draw_bars

draw_bars(ladder, "names a second", log=True)

# %% [markdown]
# Each bar is a rung. Compiling helps, because it starts fewer pieces of work. The batch helps far more: a step with 64
# names takes little longer than a step with one. The two together give the most. Beyond some size a bigger batch brings
# little: then the arithmetic takes the time, and no longer the starting.

# %%
fastest = max(ladder["batch of 64, compiled"], ladder["batch of 512, compiled"])
print(f"batched and compiled: {fastest / base:.0f} times the names per second of chapter 03's loop")
assert fastest / base > 20


# %% [markdown]
# ## 6. Train until it beats the bigram
#
# Now all training names, 64 a step. First the line to beat, then a way to measure all held-out names at once; it must
# agree with chapter 03's, which goes name by name.

# %%
#| export batching
def evaluate_batches(
    model: MicroGPT, docs: list[str], tokenizer: CharTokenizer, batch_size: int = 512
) -> float:
    """Loss in nats a character over all of `docs`: the same number as `microgpt.evaluate`, faster."""
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
bigram = bigram_loss(
    bigram_probs(train_names, tokenizer), held_out, tokenizer, max_len=config.block_size
)
print(f"name by name {slow:.6f} | in batches {fast:.6f} | bigram to beat {bigram:.4f}")
assert abs(slow - fast) < 1e-4

# %%
backend.seed_everything(42)
model = MicroGPT(config)
num_steps = budget(3000, quick=400)
curve = LiveCurve(references={"bigram": bigram}, window=50)
losses = train_batches(model, train_names, tokenizer, num_steps, on_step=curve.add)
curve.show()

# %% [markdown]
# The pale line is far calmer than in chapter 03: the mean over 64 names hides the luck of each. The curve crosses the
# bigram's line early, then falls slowly as the learning rate shrinks.

# %%
train_loss = evaluate_batches(model, train_names, tokenizer)
held_out_loss = evaluate_batches(model, held_out, tokenizer)
print(
    f"seen names {train_loss:.4f} | held-out names {held_out_loss:.4f} | bigram on held-out {bigram:.4f}"
)
assert held_out_loss < bigram - 0.05, "more names and more steps should beat the bigram clearly"
record_loss(
    "04",
    "microGPT, batches",
    "every name, 64 a step",
    corpus="names",
    steps=num_steps,
    loss=held_out_loss,
)

# %% [markdown]
# The loss on seen names is a little lower than on held-out names. That gap is **overfitting**: part of what was learned
# is true of the training names only. 4,064 parameters cannot learn thousands of names by heart, so the gap stays modest.
#
# | what changed | why | what it bought |
# |---|---|---|
# | 64 names a step, padded and masked | starting work cost more than the work | the ladder above |
# | a compiled step | fewer pieces of work to start | the ladder above |
# | all names, many times, instead of 500 once | 500 names are a small sample of what names are like | a held-out loss clearly below the bigram |

# %%
draw_loss_log("names", until="04")

# %% [markdown]
# Shorter is better. The last bar is the first one that is clearly below the bigram's. The names it writes:

# %%
samples = [generate(model, tokenizer, key=k) for k in mx.random.split(key, 20)]
print(*samples[:10])
print(*samples[10:])


# %% [markdown]
# ## 7. Look inside: attention
#
# The trained heads no longer look at random. Here are their weights for one name.

# %%
#| export plots
def draw_attention(axes: list[Axes], weights: list, letters: list[str]) -> None:
    """Draw the weights of each head: row = the position that looks, column = the position it looks at.

    axes: one for each head; weights: (H, T, T) numbers from 0 to 1; letters: T labels.
    """
    for head, (ax, grid) in enumerate(zip(axes, weights, strict=True)):
        ax.imshow(grid, cmap="Blues", vmin=0, vmax=1)
        ax.set_title(f"head {head}", fontsize=10)
        ax.set_xticks(range(len(letters)), letters)
        ax.set_yticks(range(len(letters)), letters)
        ax.set_xlabel("looks at")
    axes[0].set_ylabel("position")


# %%
def attention_of(name: str) -> mx.array:
    """Weights of the first block's heads for one name: (H, T, T)."""
    ids = mx.array(example(name, tokenizer, config.block_size)[0])
    x = model.norm_in(model.wte(ids) + model.wpe(mx.arange(len(ids))))
    block = model.layers[0]
    return block.attn.weights(block.norm1(x))


figure, axes = plt.subplots(1, config.n_head, figsize=(9, 2.7), sharey=True)
draw_attention(axes, attention_of("isabell").tolist(), ["BOS", *"isabell"])
figure.tight_layout()
plt.show()

# %% [markdown]
# Read a row: the letter at the left looks at the letters below the dark squares. One name can mislead, so let us ask all
# held-out names: how far back does each head look, on average?

# %%
distances = mx.zeros((config.n_head, config.block_size))
for name in held_out[:400]:
    weights = attention_of(name)  # (H, T, T)
    for back in range(weights.shape[1]):
        distances[:, back] += mx.diagonal(weights, -back, 1, 2).sum(axis=-1)
shares = distances / distances.sum(axis=-1, keepdims=True)
figure, ax = plt.subplots(figsize=(5, 2.6))
styles = [("-", "o"), ("--", "s"), (":", "^"), ("-.", "D")]
for head, (line, marker) in enumerate(styles):
    ax.plot(
        range(config.block_size), shares[head].tolist(), line, marker=marker, label=f"head {head}"
    )
ax.set_xlabel("positions back (0 = itself)")
ax.set_ylabel("share of attention")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# A head whose line is high at 0 reads the letter itself; one that is high at 1 reads the letter before; flat lines take
# a mean over the whole name so far. The heads have shared out the work among them, and nobody told them to. With another
# seed they share it out in another way.
#
# ## 8. Look inside: what the letters became
#
# Each letter is a row of 16 numbers in `wte`. **PCA** (principal component analysis) finds the two directions in which
# the rows differ most, so that 16 numbers become a point on paper.

# %%
rows = model.wte.weight - model.wte.weight.mean(axis=0)  # (27, 16), centred
_, _, directions = mx.linalg.svd(
    rows, stream=mx.cpu
)  # rows of the last result: directions, most important first
points = (rows @ directions[:2].T).tolist()  # (27, 2)

figure, ax = plt.subplots(figsize=(5, 4))
for letter, (x, y) in zip([*tokenizer.chars, "BOS"], points, strict=True):
    vowel = letter in "aeiouy"
    ax.scatter(
        x,
        y,
        s=330,
        marker="s" if vowel else "o",
        color="#f6d9a8" if vowel else "#cfe4f3",
        edgecolor="#555555",
    )
    ax.text(x, y, letter, ha="center", va="center")
ax.set_xlabel("first direction")
ax.set_ylabel("second direction")
plt.show()

# %% [markdown]
# Squares are vowels (and y), circles consonants. The squares stand together: the model was never told what a vowel is,
# it found that these letters have the same kind of neighbours. Is that more than an impression? Compare mean distances
# in all 16 dimensions:

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


print(
    f"mean cosine: vowel-vowel {mean_cosine(vowels, vowels):.2f}, vowel-consonant {mean_cosine(vowels, others):.2f}"
)
assert mean_cosine(vowels, vowels) > mean_cosine(vowels, others)


# %% [markdown]
# The **cosine** of two vectors is 1 when they point the same way and 0 when they are unrelated. Vowels are more like each
# other than like consonants: the picture did not lie.
#
# ## Exercises
#
# ### Exercise 4.1 — masks from lengths
#
# 10 minutes, ●○○. Write `mask_of(lengths, T)`, which returns the mask (B, T) for names with these numbers of
# predictions, without a Python loop.
#
# <details><summary>Hint</summary>Compare mx.arange(T), a row, with the lengths as a column.</details>

# %% tags=["exercise"]
def mask_of(lengths, T):
    raise NotImplementedError


# %%
check(exercises.mask_of, mask_of)


# %% [markdown]
# ### Exercise 4.2 — less padding
#
# 20 minutes, ●●○. Names of about the same length in one batch need less padding. Write `buckets(names, batch_size)`,
# which returns a list of batches (lists of names, the last may be short) such that every name is in exactly one and
# each batch holds names of similar length.
#
# <details><summary>Hint</summary>Sort by length first. What would be wrong with training on the batches in that order?</details>

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
# none. Then ask: where in a name is the next letter hardest to guess?
#
# <details><summary>Hint</summary>Sum over the batch axis, both the masked losses and the mask.</details>

# %% tags=["exercise"]
def loss_by_position(losses, mask):
    raise NotImplementedError


# %%
check(exercises.loss_by_position, loss_by_position)

# %% [markdown]
# Solutions: [solutions/04_batches.ipynb](solutions/04_batches.ipynb)
#
# ## Summary
#
# - Small steps spend their time on starting work. A batch gives each start more to do; compiling makes fewer starts.
# - Padding makes a rectangle, the mask keeps it out of the loss; causal attention keeps it out of the predictions.
# - The gradient of a batch is the weighted mean of the single gradients.
# - Trained on every name, the model is clearly below the bigram on names it has not seen.
# - Attention heads divide the work, and letters with the same neighbours get similar vectors. Nobody programmed either.
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
# **Next:** Part II begins with chapter 05, the tokenizer: from letters to the pieces of words that large models read.

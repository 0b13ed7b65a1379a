# %% [markdown]
# # 04 · Batches
#
# **Goal.** Train microGPT on many names at once, find out what each of its parts buys, let it grow until it beats the best counts, and look inside.
#
# | | |
# |---|---|
# | Needs | [03 · microGPT](03_microgpt.ipynb) |
# | Time | 70 minutes to read, 50 for the exercises; about a minute to run |
# | Memory | under 0.5 GB |
# | You will build | padded batches, a masked loss, a compiled training step → `course_lib.names.batching` |
#
# Chapter 03 took 500 steps, each with one name. A step of so small a model is a long list of small operations on arrays, and starting
# such an operation takes longer than its arithmetic. If each works on 64 names at once, they share the cost of starting. The examples that one step works on together are a **batch**; their number is the batch size.
#
# Chapter 03 got just under the bigram's 2.613 on held-out names. The 2.373 of back-off, which counts what follows
# up to eight letters, still stands. How far can the same model go, and will it fall?

# %% [markdown]
# ![Map of the course: chapter 04 batches is marked, after 03 microgpt; Part II starts after it](images/map_04.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · **04** · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/04_batches.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

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
from functools import partial
from itertools import islice

import matplotlib.pyplot as plt
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import (
    LiveCurve,
    budget,
    check,
    claim,
    draw_loss_log,
    print_loss_log,
    record_loss,
    stored,
)
from course_lib.classroom.exercises import batches as exercises
from course_lib.classroom.plots import apart, draw_attention, draw_bars
from course_lib.names.bigram import bigram_loss, bigram_probs, load_names, split_names
from course_lib.names.counts import backoff_loss, backoff_probs, count_contexts, guesses
from course_lib.names.microgpt import (
    MicroGPTConfig,
    cosine_decay,
    evaluate,
    generate,
    loss_fn,
    train,
)

backend.seed_everything(42)
names = load_names()
train_names, held_out = split_names(names)
tokenizer = CharTokenizer(names)
config = MicroGPTConfig()
print(backend.describe())

# %% [markdown]
# ## 1. Padding
#
# An array is a rectangle. Names differ in length, so the short ones are filled up at the end: **padding**. A
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
    """One row per name: the letter of each input, padding hatched."""
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
#
# ($i$ runs over all positions of all names, and $p_i$ is the probability that the model gives to the target there.)

# %%
#| export names.batching
def masked_loss(model: MicroGPT, inputs: mx.array, targets: mx.array, mask: mx.array) -> mx.array:
    """Mean cross-entropy in nats over the predictions whose mask is 1; 0 when there is none.

    inputs, targets, mask: (B, T) -> scalar
    """
    losses = nn.losses.cross_entropy(model(inputs), targets)  # (B, T)
    return (losses * mask).sum() / mx.maximum(mask.sum(), 1)


# %% [markdown]
# The check: the loss of a batch must be the mean over the same names one by one, each weighted by its number of
# predictions. (For this check we give the model starting values with a standard deviation of 0.3 instead of 0.02, so that
# no two names look alike to it. It is confidently wrong, with a loss far above $\ln 27$.)

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
# Does the padding leak into real predictions? It stands at the end, and attention only looks back. So the logits of a
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
# Nothing about letters was learned, yet the second number is lower. A loss is only comparable with another when both
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
# One pass over all names is an **epoch**. Before each epoch the names are shuffled, which makes other batches each
# time. Names left over at the end of an epoch start the first batch of the next one. So every batch is full, all have the same
# shape, and the step is compiled only once.

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
# Chapter 03's `fit` can compile its step (chapter 00's appendix shows `mx.compile` on a small function). Here is how it does that, in full:

# %%
def make_step(model, optimizer, compiled):
    """A function that takes one step with a batch and returns its loss."""
    optimizer.init(model.trainable_parameters())
    loss_and_grad = nn.value_and_grad(model, masked_loss)
    state = [model.state, optimizer.state]

    def step(*batch):
        loss, gradients = loss_and_grad(model, *batch)
        optimizer.update(model, gradients)
        return loss

    return partial(mx.compile, inputs=state, outputs=state)(step) if compiled else step


# %% [markdown]
# `step` does more than return a loss: it also changes the model and the optimizer. A compiled function must be told so.
#
# - `inputs=state`: read these arrays anew at each call.
# - `outputs=state`: write them back after each call.
# - `state` holds whatever lives from one step to the next: the model's parameters, Adam's means, and its learning rate. The learning rate is an array
#   in the optimizer's state, so it may change from step to step. A plain Python number would be frozen (chapter 00).
#
# What if you forget one? Take the smallest step there is, `w = w - 1`, three times from 10:

# %%
def three_steps(knows):
    """The values of w in three compiled steps, or the error that ends them."""
    state = [mx.array(10)]

    def step():
        state[0] = state[0] - 1
        return state[0] + 0  # a copy: what is returned must not be the state itself

    compiled = mx.compile(step, **{name: state for name in knows})
    try:
        return [compiled().item() for _ in range(3)]
    except RuntimeError as error:
        return str(error).split(".")[0]


print("without inputs: ", three_steps(["outputs"]))
print("without outputs:", three_steps(["inputs"]))
print("with both:      ", three_steps(["inputs", "outputs"]))

# %% [markdown]
# Without `inputs`, the 10 was built in as a constant: each step begins again from it. Without `outputs`, `w` is left as a placeholder that
# holds no number, and the next step fails on it.
#
# Is the compiled step still the same step? Two models with equal starting values, ten steps each way. (On a Linux CPU the compiler works for
# some ten seconds here, and keeps the result for the rest of the chapter.)

# %%
ends, some = {}, list(islice(batches(train_names, 64, seed=42), 10))
for compiled in (False, True):
    backend.seed_everything(7)
    twin = MicroGPT(config)
    adam = optim.Adam(1e-2, betas=[0.9, 0.95], eps=1e-8, bias_correction=True)
    step, ends[compiled] = make_step(twin, adam, compiled), []
    for n, group in enumerate(some):
        adam.learning_rate = 1e-2 * cosine_decay(n, 10)
        loss = step(*make_batch(group, tokenizer, config.block_size))
        mx.eval(twin.parameters(), adam.state, loss)
        ends[compiled].append(loss.item())
print(f"tenth loss: uncompiled {ends[False][-1]:.6f} | compiled {ends[True][-1]:.6f}")
assert np.allclose(ends[False], ends[True], atol=1e-4)


# %% [markdown]
# The loop around it is chapter 03's. For the package, `fit` does all of it, compiled unless you say otherwise: the longer you train, the
# more that pays.

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

    Returns the loss of each step in nats per token.
    Raises CourseError for no names, no steps or an empty batch.
    """
    if not docs or num_steps < 1 or batch_size < 1:
        given = f"{len(docs)} names, {num_steps} steps, batch_size={batch_size}"
        raise CourseError(f"{given}: give at least one of each")
    stream = batches(docs, batch_size, seed)
    arrays = (make_batch(some, tokenizer, model.config.block_size) for some in stream)
    return fit(model, masked_loss, arrays, num_steps, learning_rate, on_step, compiled)


# %%
backend.seed_everything(7)
theirs = train_batches(MicroGPT(config), train_names, tokenizer, num_steps=10)
assert np.allclose(theirs, ends[True], atol=1e-4)


# %% [markdown]
# ## 5. What is it worth?
#
# How many names per second does each method process? We begin with chapter 03's own loop, one name at a time, uncompiled.
# We time the second half of each run, so compiling itself is not counted.

# %%
def step_seconds(train_function, steps, **settings):
    """Median duration of a step in the second half of a run: by then all is compiled and warm."""
    stamps = []

    def note(step, loss):
        stamps.append(time.perf_counter())

    train_function(MicroGPT(config), train_names, tokenizer, steps, on_step=note, **settings)
    return np.median(np.diff(stamps)[steps // 2 :])


# %%
steps = budget(300, quick=40)
speeds = {"one name (chapter 03)": 1 / step_seconds(train, steps, compiled=False)}
for size, compiled in ((1, True), (64, False), (64, True), (512, True)):
    way = f"batch of {size}{', compiled' if compiled else ''}"
    seconds = step_seconds(train_batches, steps, batch_size=size, compiled=compiled)
    speeds[way] = size / seconds
base = speeds["one name (chapter 03)"]
for way, speed in speeds.items():
    print(f"{way:24s} {speed:9,.0f} names/s   {speed / base:5.1f} times")

# %%
draw_bars(speeds, "names per second")

# %% [markdown]
# The first bars are hardly visible beside the others. Compiling merges several operations into one, which helps most where each is
# small: with a single name. The batch helps far more. From 64 to 512 names there is less to gain. How much each step up brings differs
# between machines.
#
# Names per second are not learning per second, though. Section 7 compares that.

# %%
of_64 = speeds["batch of 64, compiled"]
claim("a batch of 64 trains on at least ten times the names per second", of_64 > 10 * base)


# %% [markdown]
# ## 6. All names, 64 per step
#
# First a way to measure all held-out names in batches; it must agree with chapter 03's, which goes name by name. Then the
# two lines to beat.

# %%
#| export names.batching
def evaluate_batches(
    model: MicroGPT, docs: list[str], tokenizer: CharTokenizer, batch_size: int = 512
) -> float:
    """Loss in nats per token over all of `docs`: the number of `microgpt.evaluate`, faster."""
    total = count = 0.0
    for start in range(0, len(docs), batch_size):
        inputs, targets, mask = make_batch(
            docs[start : start + batch_size], tokenizer, model.config.block_size
        )
        total += masked_loss(model, inputs, targets, mask).item() * mask.sum().item()
        count += mask.sum().item()
    return total / count


# %%
# `model` is still the odd one of section 2, so expect a large number
slow, fast = evaluate(model, held_out, tokenizer), evaluate_batches(model, held_out, tokenizer)
print(f"name by name {slow:.6f} | in batches {fast:.6f}")
assert abs(slow - fast) < 1e-5 * slow

table = bigram_probs(train_names, tokenizer)
bigram = bigram_loss(table, held_out, tokenizer, max_len=config.block_size)
counts = count_contexts(train_names, tokenizer, back=8)
backoff = backoff_loss(counts, held_out, tokenizer, back=8, max_len=config.block_size)
print(f"to beat: bigram {bigram:.4f}, back-off {backoff:.4f}")

# %%
backend.seed_everything(42)
model = MicroGPT(config)
num_steps = budget(3000, quick=100)
curve = LiveCurve(references={"bigram": bigram, "back-off": backoff}, total=num_steps, window=50)
started = time.perf_counter()
losses = train_batches(model, train_names, tokenizer, num_steps, on_step=curve.add)
small_seconds = time.perf_counter() - started
curve.show()

# %% [markdown]
# The pale line is far calmer than in chapter 03, because the mean over 64 names evens out their luck. The curve crosses the bigram's
# line early and goes on falling slowly.

# %%
train_loss = evaluate_batches(model, train_names, tokenizer)
held_out_loss = evaluate_batches(model, held_out, tokenizer)
print(f"seen names {train_loss:.4f} | held-out names {held_out_loss:.4f}")
print(f"bigram {bigram:.4f} | back-off {backoff:.4f}")
claim("microGPT is below the bigram by more than 0.1", held_out_loss < bigram - 0.1)
claim("but not below back-off", held_out_loss > backoff)

# %% [markdown]
# The bigram is far behind now, back-off still stands: 188,377 counts against 4,064 parameters.
#
# The names that it writes, with the same random keys as in chapter 03:

# %%
samples = [generate(model, tokenizer, key=k) for k in mx.random.split(mx.random.key(42), 20)]
print(*samples[:10])
print(*samples[10:])


# %% [markdown]
# ## 7. What does each part buy?
#
# Chapter 03 left attention out and lost next to nothing. Is attention worth so little, or was the training too short? Now each of
# the three parts is left out in turn, in both kinds of training. To leave out the positions, all rows of `wpe` are set to zero, and `freeze`
# keeps the optimizer away from them.

# %%
class Nothing(nn.Module):
    """Stands in for attention or the MLP, and adds nothing."""

    def __call__(self, x):
        return mx.zeros_like(x)


def model_without(part, seed):
    """A new microGPT that lacks `part`: nothing, attention, positions or MLP."""
    backend.seed_everything(seed)
    model = MicroGPT(config)
    if part == "attention":
        model.layers[0].attn = Nothing()
    elif part == "MLP":
        model.layers[0].mlp = Nothing()
    elif part == "positions":
        model.wpe.weight = mx.zeros_like(model.wpe.weight)
        model.wpe.freeze()
    return model


# %% [markdown]
# Each of the four models is trained with three seeds: briefly, with one name per step, and as in section 6. That takes some minutes, so
# the authors did it once and stored the numbers. This function made them; run it if you like.

# %%
def ablations():
    for size, steps in ((1, 500), (64, 3000)):
        for part in ("nothing", "attention", "positions", "MLP"):
            for seed in range(budget(3, quick=1)):
                count = budget(steps, quick=2)
                lacking = model_without(part, seed)
                train_batches(
                    lacking, train_names, tokenizer, count, size, seed=seed, compiled=False
                )
                loss = evaluate_batches(lacking, held_out, tokenizer)
                yield {"batch": size, "without": part, "seed": seed, "steps": count, "loss": loss}


rows = stored("names_ablations", ablations)

# %%
parts = ("nothing", "attention", "positions", "MLP")
runs = {  # (batch size, part) -> the losses of the seeds
    (size, part): [r["loss"] for r in rows if (r["batch"], r["without"]) == (size, part)]
    for size in (1, 64)
    for part in parts
}

# %%
mean = {run: sum(losses) / len(losses) for run, losses in runs.items()}
cost = {(size, part): mean[size, part] - mean[size, "nothing"] for size, part in runs}
print("without      500 steps of 1      3,000 steps of 64")
for part in parts:
    print(f"{part:10s}", *(f"  {mean[n, part]:.4f} ({cost[n, part]:+.4f})" for n in (1, 64)))
spreads = {n: max(max(runs[n, part]) - min(runs[n, part]) for part in parts) for n in (1, 64)}
print("seeds differ by at most", *(f"{spreads[n]:16.4f}" for n in (1, 64)))
gained, lost = bigram - mean[64, "nothing"], sum(cost[64, part] for part in parts)
print(f"in the long run: below the bigram by {gained:.3f}; the three costs together {lost:.3f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), sharey=True)
for ax, size, title in zip(axes, (1, 64), ("500 steps of 1", "3,000 steps of 64"), strict=True):
    for place, part in enumerate(parts):
        ax.plot(runs[size, part], [place] * len(runs[size, part]), "o", color="#0072B2", alpha=0.6)
    ax.axvline(bigram, color="#999999", linestyle=":", label="bigram")
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("held-out loss, one point per seed")
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
axes[0].set_yticks(range(4), ["all parts", *(f"without {part}" for part in parts[1:])])
axes[0].set_ylim(3.4, -0.4)
figure.tight_layout()
plt.show()

# %%
luck = max(spreads.values())  # how far apart three seeds of one model were at most
gain = {}  # of a part, one for each seed: both models start alike and see the same names
for size, part in runs:
    pairs = zip(runs[size, part], runs[size, "nothing"], strict=True)
    gain[size, part] = [without - whole for without, whole in pairs]
    print(f"{size:2d} per step, {part:9s}", *(f"{each:+.4f}" for each in gain[size, part]))
attention, positions, mlp = (gain[64, part] for part in parts[1:])
claim("64 per step: every part helps, with every seed", min(attention + positions + mlp) > 0.01)
in_order = min(attention) > max(positions) and min(positions) > max(mlp)
claim("64 per step: attention buys most, then positions, then the MLP", in_order)
off = abs(held_out_loss - mean[64, "nothing"])  # section 6: a fourth seed
claim("section 6's run is off their mean by less than the smallest gain", off < min(mlp))
claim("1 per step: positions help with every seed", min(gain[1, "positions"]) > 0.01)
claim("1 per step: attention buys hardly anything yet", max(gain[1, "attention"]) < 0.005)
level = abs(mean[64, "attention"] - 2.490) < 0.004  # chapter 01's table of place and letter
claim("without attention, it ends level with counts of place and letter", level)

# %% [markdown]
# Read the right-hand picture first. In the long run attention buys 0.057, positions 0.029, the MLP 0.014. Together that is 0.10, while
# the whole model is 0.18 below the bigram. So when one part is missing, the others seem to make up for some of it. Without attention the model still
# knows the letter and its place. It ends where chapter 01's table of *place and letter* stands (2.490).
#
# In the left-hand picture (mind its finer scale), after 500 names, the three points of each row lie far apart, for some names are luckier than others. But with the same seed two models see the same names. Compared pair by pair, the positions help each time, by about 0.012, attention by 0.003 at most, and the MLP now helps and now hurts. The model soon learns which letters
# are common in which place; where to look takes longer. (All the losses there are higher than chapter 03's, whose models met another 500 names.) Had we stopped there, we would have called attention useless. Had we not looked at all, we would have
# credited it with what positions did.
#
# One question is left from section 6. What bought the progress since chapter 03: more steps, more names per step, or more different names? Three more models answer part of it.

# %%
bought, took = {}, []
for size, count, docs in (
    (1, num_steps, train_names),
    (64, num_steps // 6, train_names),
    (64, num_steps, train_names[:500]),
):
    backend.seed_everything(42)
    other, started = MicroGPT(config), time.perf_counter()
    train_batches(other, docs, tokenizer, count, batch_size=size)
    took.append(time.perf_counter() - started)
    run = f"{count} steps of {size}, {len(docs):,} names"
    bought[run] = evaluate_batches(other, held_out, tokenizer)
    print(f"{run:32s} {bought[run]:7.4f}  {took[-1]:4.1f} s")
run = f"{num_steps} steps of 64, {len(train_names):,} names"
print(f"{run:32s} {held_out_loss:7.4f}  {small_seconds:4.1f} s")
print(f"the third on its own 500 names: {evaluate_batches(other, docs, tokenizer):.4f}")
one_name, fewer_steps, few_names = bought.values()

# %%
claim("64 names per step beat one", one_name - held_out_loss > luck)
claim("more steps help", fewer_steps - held_out_loss > luck)
claim("fewer steps of 64 beat more steps of one", one_name - fewer_steps > luck)
claim("and in less time", took[1] < took[0])
claim("with 500 names only, it ends worse than knowing nothing", few_names > math.log(27))


# %% [markdown]
# More steps help (second and last row), and so do more different names (third and last). Compare the first row with the last: the same number of updates, but each takes its direction from 64 names instead of
# one, and the model was shown 64 times as many: all names eleven or twelve times, where the first row met 3,000 of them once. We cannot tell which of the two did it. The second row has 64 per step and only a sixth of the steps; it still beats the first, and in less time: that is learning per second. And the third row? It is no misprint. The same 500 names over and over taught the model what is true of just
# these 500. Where other names differ it is sure of itself and wrong. That is
# **overfitting**, as in chapter 01. Here it ends far above $\ln 27$, the loss of knowing nothing.
#
# ## 8. Wider, deeper, and past the counts
#
# `n_embd` and `n_layer` are **hyperparameters**: numbers that you choose, while parameters are trained. A *wider* model has
# more numbers in each vector, a *deeper* one more blocks. Both have more parameters, enough of them to learn training names by heart.
# Two things work against that:
#
# - In each training step, **dropout** sets some of the numbers that a block adds to 0, each with the same chance (here 10% or 20%). The others are scaled up, which keeps the sum the same on average. No part can then rely on one other part alone. After training, `model.eval()` switches dropout off. (It has nothing to do with `mx.eval`, which computes arrays.)
# - **Weight decay** pulls each parameter a little towards zero in each step. Only what the names keep asking for stays large. Adam with weight decay is called **AdamW**.

# %%
class Dropped(nn.Module):
    """A part of a block whose output loses a share of its numbers while training."""

    def __init__(self, part, share):
        super().__init__()
        self.part, self.dropout = part, nn.Dropout(share)

    def __call__(self, x):
        return self.dropout(self.part(x))


# %%
def larger_model(width, layers, dropout, seed):
    """A new microGPT of other sizes."""
    backend.seed_everything(seed)
    larger = MicroGPT(MicroGPTConfig(n_embd=width, n_layer=layers))
    if dropout:
        for layer in larger.layers:
            layer.attn, layer.mlp = Dropped(layer.attn, dropout), Dropped(layer.mlp, dropout)
    return larger


# %% [markdown]
# The loop is `fit` once more, with AdamW. Dropout draws random numbers, so their state also lives from one step to the next. Without
# `mx.random.state` in the list, the compiled step would drop the same numbers every time.

# %%
def train_larger(model, steps, seed, learning_rate=0.004):
    """Train on batches of 64 with AdamW, and switch dropout off at the end."""
    optimizer = optim.AdamW(
        learning_rate, betas=[0.9, 0.99], weight_decay=0.1, bias_correction=True
    )
    optimizer.init(model.trainable_parameters())
    loss_and_grad = nn.value_and_grad(model, masked_loss)
    state = [model.state, optimizer.state, mx.random.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(*batch):
        loss, gradients = loss_and_grad(model, *batch)
        optimizer.update(model, gradients)
        return loss

    for n, some in enumerate(islice(batches(train_names, 64, seed), steps)):
        optimizer.learning_rate = learning_rate * cosine_decay(n, steps)
        mx.eval(step(*make_batch(some, tokenizer, config.block_size)), state)
    model.eval()


# %% [markdown]
# Six models, three seeds each, stored. The first is the small one again, with the new loop. The second is wider and nothing else, the third deeper and nothing else.
# A learning rate may suit one size and not another, so these three run at two. The last three are both wider and deeper, and train twice as long. Two of them differ in nothing but the dropout.

# %%
def sizes():
    two_rates = [(*size, 0, rate) for size in ((16, 1), (64, 1), (16, 2)) for rate in (0.004, 0.01)]
    longer = [(48, 3, 0, 0.004), (48, 3, 0.1, 0.004), (64, 3, 0.2, 0.004)]
    for width, layers, dropout, rate in two_rates + longer:
        full = 6000 if layers == 3 else 3000
        for seed in range(budget(3, quick=1)):
            larger, steps = larger_model(width, layers, dropout, seed), budget(full, quick=2)
            started = time.perf_counter()
            train_larger(larger, steps, seed, rate)
            row = {"width": width, "layers": layers, "dropout": dropout, "rate": rate}
            row |= {"seed": seed, "steps": steps}
            row["parameters"] = sum(a.size for _, a in tree_flatten(larger.trainable_parameters()))
            row["seconds"] = round(time.perf_counter() - started, 1)
            row["seen"] = evaluate_batches(larger, train_names, tokenizer)
            row["loss"] = evaluate_batches(larger, held_out, tokenizer)
            yield row


rows = stored("names_sizes", sizes)

# %%
by_run = {}
for row in rows:
    run = row["width"], row["layers"], row["dropout"], row["rate"]
    by_run.setdefault(run, []).append(row)

# %%
print("wide  blocks  dropout   rate  parameters  steps  seconds    seen  held out (3 seeds)")
for (width, layers, dropout, rate), group in by_run.items():
    seen, seconds = (np.mean([row[what] for row in group]) for what in ("seen", "seconds"))
    losses = [row["loss"] for row in group]
    print(f"{width:4d}  {layers:6d}  {dropout:7g}  {rate:5g}", end="  ")
    print(
        f"{group[0]['parameters']:10,} {group[0]['steps']:6,} {seconds:8.0f}  {seen:.4f}", end="  "
    )
    print(f"{min(losses):.4f} to {max(losses):.4f}")

# %%
by_size = {}  # of each size the runs at the better rate
for (*size, _), group in by_run.items():
    rivals = group, by_size.get(tuple(size), group)
    by_size[tuple(size)] = min(rivals, key=lambda runs: np.mean([run["loss"] for run in runs]))
held = {size: [row["loss"] for row in group] for size, group in by_size.items()}
small, wider, deeper = held[16, 1, 0], held[64, 1, 0], held[16, 2, 0]
gains = [np.mean(small) - np.mean(larger) for larger in (wider, deeper)]
print(f"four times as wide: {gains[0]:.4f} better; a second block: {gains[1]:.4f} better")
claim("the small one ends where section 6 did", abs(np.mean(small) - held_out_loss) < luck)
claim("wider helps, with every seed", max(wider) < min(small) - luck)
claim("deeper alone helps, too, with every seed", max(deeper) < min(small))
claim("but by less than half of that", gains[1] < gains[0] / 2)
claim("three blocks of 48 with dropout pass back-off", max(held[48, 3, 0.1]) < backoff)
claim("without dropout they do not", min(held[48, 3, 0]) > backoff)
last = held[64, 3, 0.2]
margin, spread = backoff - max(last), max(last) - min(last)
claim("three blocks of 64 pass it by far more than seeds differ", margin > 5 * spread)

# %% [markdown]
# Each size is judged at the better of its two rates. Four times the width buys about three times as much as a second block, and takes 13 times the parameters where the second block takes less than twice. Had we tried 0.004 only, it would have looked like five to six times: the narrow models want the higher rate, the wide one the lower. At 0.01 the small model ends within 0.005 of sections 6 and 7, so the new loop changes little.
#
# In the row with dropout 0.1 a model passes the counts. It takes three blocks of 48 and one or two minutes, and its 85,920 parameters are fewer than half of the
# 188,377 counts. Now compare its column *seen* with that of the row above. Without dropout the same model is better on the training names
# and worse on the others: it has learned more of them by heart.
#
# Is that fair? We tried about ten sizes and shares of dropout, and two rates, and looked at the held-out names each time. So these numbers contain
# some luck of choosing, as chapter 01 warned. How much, we have not measured; fresh names would tell. The last row passes by the widest margin, so luck matters least there.
#
# And a model can go on from here. For one more letter of context the full table needs 27 times the cells (chapter 01), a model one more row in `wpe`.
#
# ### The whole ladder

# %%
record_loss(
    "04",
    "microGPT, batches",
    "all training names, 64 per step",
    corpus="names",
    steps=num_steps,
    loss=[held_out_loss, *runs[64, "nothing"]],
    parameters=4064,
    seconds=small_seconds,
)
for (width, layers, dropout), idea in {
    (64, 1, 0): "wider: 64 numbers per position",
    (16, 2, 0): "deeper: a second block",
    (48, 3, 0.1): "both, longer, with dropout: past the counts",
    (64, 3, 0.2): "wider again, more dropout",
}.items():
    group = by_size[width, layers, dropout]
    record_loss(
        "04",
        f"microGPT, {layers} × {width}",
        idea,
        corpus="names",
        steps=group[0]["steps"],
        loss=[row["loss"] for row in group],
        parameters=group[0]["parameters"],
        seconds=np.median([row["seconds"] for row in group]),
    )

# %%
draw_loss_log("names", until="04")
print_loss_log("names", until="04")


# %% [markdown]
# Further left is better; squares count, circles are trained. Every idea of Part I has its row. Notice the order: on this small task
# back-off, from chapter 01, is among the best, and it took less than a second (the column of seconds is from the authors' two cores; that of "microGPT, batches" includes drawing its live curve). A learned model has to earn its place, and the last two do.
#
# ## 9. Look inside: attention
#
# Untrained heads looked at everything alike (chapter 03). Here are the weights of trained ones, for one name.

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
# Others look further back: in head 2 the *n* looks at both *a*s.
#
# One name can mislead. Over 400 held-out names, how does each head spread its attention over distance? The grey
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
for head, style in enumerate(("o-", "s--", "^:", "D-.")):
    color = ("#0072B2", "#D55E00", "#009E73", "#000000")[head]
    ax.plot(shares[head], style, color=color, label=f"head {head}")
ax.set_xlabel("positions back (0 = itself)")
ax.set_ylabel("share of attention")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Now in numbers: the share of each head for the letter itself, the one before, the one before that, and all further back.

# %%
print("          itself  1 back  2 back  further")
for name, row in zip(("all alike", *(f"head {n}" for n in range(4))), [even, *shares], strict=True):
    print(f"{name:9s}", *(f"{share:7.2f}" for share in row[:3]), f"{sum(row[3:]):7.2f}")
before = [row[1] for row in shares]
own = [row[0] for row in shares]
claim("one head looks at the letter before, well more than evenly", max(before) > 1.5 * even[1])
claim("the heads share out the work: their habits differ", max(own) - min(own) > 0.1)

# %% [markdown]
# In the authors' run each head has a habit. Head 1 reads the letter before: it gives it 0.54 of its attention, where even attention
# gives 0.23. Head 3 looks at the letter itself and the one before, hardly further. Head 2 gives the letter itself less than any other
# head and the one two back more. Head 0 is close to the grey line, but that is only distance: which letters it picks, the first picture
# shows. Nobody told them. Try another seed, and see whether they divide the work in the same way.
#
# ## 10. Look inside: what the letters became
#
# Each letter is a row of 16 numbers in `wte`: a point in 16 dimensions. A page has only two. **PCA** (principal component
# analysis) finds the direction in which the points are spread out most, then the one at right angles to it in which they are
# spread out most of the rest. Along these two we draw them. (`svd` computes the directions; MLX has it on the CPU only. Labels
# that would cover each other are moved apart.)

# %%
rows = model.wte.weight - model.wte.weight.mean(axis=0)  # (27, 16), centred
_, _, directions = mx.linalg.svd(rows, stream=mx.cpu)  # (16, 16), widest spread first
points = np.array(rows @ directions[:2].T)  # (27, 2)

# %%
figure, ax = plt.subplots(figsize=(7, 5.5))
places = apart(points, 0.055 * np.ptp(points, axis=0).max())
for letter, point, place in zip([*tokenizer.chars, "•"], points, places, strict=True):
    vowel = letter in "aeiou"
    style = {"marker": "s", "color": "#f6d9a8"} if vowel else {"marker": "o", "color": "#cfe4f3"}
    ax.plot(*zip(point, place, strict=True), color="#999999", linewidth=0.8, zorder=0)
    ax.scatter(*place, s=170, edgecolor="#555555", **style)
    ax.text(*place, letter, ha="center", va="center_baseline")
ax.set_aspect("equal")
ax.margins(0.08)
ax.set_xlabel("first direction")
ax.set_ylabel("second direction")
plt.show()

# %% [markdown]
# Squares are a, e, i, o, u; circles are all the others, with • for BOS. The squares stand together, apart from most circles.
# The model was never told what a vowel is. It found that these letters have the same kind of neighbours.
#
# Two directions are not sixteen. To compare letters in all of them, take the **cosine** of two rows: 1 when they point the
# same way, 0 when they have nothing in common, negative when they point apart.

# %%
embedding = np.array(model.wte.weight)[:26]
embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)  # length 1 each
cosine = embedding @ embedding.T  # (26, 26)

# %%
letters = tokenizer.chars
vowels = [letters.index(letter) for letter in "aeiou"]
others = [n for n in range(26) if n not in vowels]
between_vowels = cosine[vowels][:, vowels][~np.eye(5, dtype=bool)].mean()
to_vowels = cosine[:, vowels].mean(axis=1)  # (26,)
print(f"mean cosine: vowel with vowel {between_vowels:.2f}", end=", ")
print(f"vowel with another letter {to_vowels[others].mean():.2f}")

# %%
for letter in "yc":
    nearest = [n for n in np.argsort(-cosine[letters.index(letter)])[1:4]]
    print(f"{letter}: with vowels {to_vowels[letters.index(letter)]:+.2f}", end=", nearest ")
    print(*(f"{letters[n]} {cosine[letters.index(letter), n]:.2f}" for n in nearest))

# %%
claim("vowels are most like each other", between_vowels > to_vowels[others].mean())
most = letters[max(others, key=lambda n: to_vowels[n])]
claim("of all other letters y is most like a vowel", most == "y")
before_h = table[:26, tokenizer.id_of["h"]].tolist()
by_share = sorted(zip(before_h, letters, strict=True), reverse=True)
print("an h follows", *(f"{letter} {share:.2f}" for share, letter in by_share[:6]))
claim("c takes an h twice as often as any other letter", by_share[0][0] > 2 * by_share[1][0])

# %% [markdown]
# Of all other letters *y* is most like the vowels, fitting for a letter that is a vowel in *Lynn* and a consonant in *Maya*. Its two nearest rows are
# *j* and *w*, though. And *c*? An *h* follows it in 38 of 100 cases, as in *Chloe*, which sets it apart. Its nearest,
# *s*, *k* and *p*, take an *h* now and then, as in *Shira*, *Khalid* and *Philippa*. So does *t*, which is not among the three: an *h* is
# not all that makes a neighbour.
#
# ## 11. Where in a name is the next letter hardest?
#
# One more question that a single mean can't answer. Guess first: is it the first letter, the middle, or the end?

# %%
inputs, targets, mask = make_batch(held_out, tokenizer, config.block_size)
losses = nn.losses.cross_entropy(model(inputs), targets) * mask  # (B, T)
of_model = (losses.sum(axis=0) / mask.sum(axis=0)).tolist()  # one mean for each position

# %%
by_counts = [[] for _ in range(config.block_size)]
by_pairs = [[] for _ in range(config.block_size)]
pairs = np.array(table)
for past, following in guesses(held_out, tokenizer, config.block_size):
    by_counts[len(past) - 1].append(-math.log(backoff_probs(counts, past, back=8)[following]))
    by_pairs[len(past) - 1].append(-math.log(pairs[past[-1], following]))
of_counts, of_pairs = [list(map(np.mean, each)) for each in (by_counts, by_pairs)]

# %%
figure, ax = plt.subplots(figsize=(6, 3.2))
places = range(1, config.block_size + 1)
ax.plot(places, of_pairs, ":", marker="^", color="#999999", label="bigram")
ax.plot(places, of_model, "-", marker="o", color="#0072B2", label="microGPT, 4,064 numbers")
ax.plot(places, of_counts, "--", marker="s", color="#D55E00", label="back-off")
ax.set_xlabel("which letter of the name (or its end)")
ax.set_ylabel("held-out loss, nats per guess")
ax.legend(frameon=False)
plt.show()

# %%
claim("the first letter is the hardest", max(of_model) == of_model[0])
first = (of_model[0], of_counts[0], of_pairs[0])
claim("there all three do equally well", max(first) - min(first) < 0.01)
claim("the second is easier than the third and the fourth", of_model[1] < min(of_model[2:4]))
claim("the counts gain most at the end", of_model[-1] - of_counts[-1] > of_model[1] - of_counts[1])


# %% [markdown]
# The first letter could be almost any, with nothing before it to look at: all that a model can learn is how many names begin with each
# letter. The second is often a vowel. The third and the fourth are hard again, because many names share a beginning. Then come the
# familiar endings. There microGPT is far better than the bigram, and the counts, which remember long pieces of names, are better than
# microGPT.
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
# <details><summary>Hint 1</summary>When is position t of a name real? Write it as a comparison of two numbers, then of two arrays.</details>
#
# <details><summary>Hint 2</summary>Compare mx.arange(T), a row, with mx.array(lengths)[:, None], a column.</details>

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
# <details><summary>Hint 1</summary>In which order would you have to lay the names, so that neighbours need hardly any padding?</details>
#
# <details><summary>Hint 2</summary>`sorted(names, key=len)` makes a sorted copy. Cut it every `batch_size` names. (What would be wrong with training on the
# batches in that order? The solution says.)</details>

# %% tags=["exercise"]
def buckets(names, batch_size):
    raise NotImplementedError


# %%
check(exercises.buckets, buckets)


# %% [markdown]
# ### Exercise 4.3 — the loss of each letter
#
# 20 minutes, ●●○. Section 11 asked *where* the next letter is hard. *Which* letter is hard? Write `loss_by_letter(losses,
# targets, mask, V)`, which takes the loss of each prediction, the targets and the mask, all (B, T), and returns the mean
# loss for each id as a target (V,), counting real predictions only and giving 0 for an id that is never a target. Then try it
# on section 11's batch, with `tokenizer.vocab_size` as V.
#
# <details><summary>Hint 1</summary>For one id it is the sum of its losses, divided by how often it is a target. A comparison gives an
# array of 0 and 1 that picks it out. How do you do that for all ids at once?</details>
#
# <details><summary>Hint 2</summary>`(targets[..., None] == mx.arange(V)) * mask[..., None]` has the shape (B, T, V), with a 1 where id v is a real
# target. Multiply by `losses[..., None]` and sum over the first two axes; sum it alone for the counts; `mx.maximum(…, 1)`
# below the line.</details>

# %% tags=["exercise"]
def loss_by_letter(losses, targets, mask, V):
    raise NotImplementedError


# %%
check(exercises.loss_by_letter, loss_by_letter)

# %% [markdown]
# **For those who can't stop.** Section 8's smallest model that passes back-off has 85,920 parameters. Can you do it with fewer? Other sizes,
# another share of dropout, more steps: whatever you choose, choose it on some of the training names and look at the
# held-out ones once.

# %% [markdown]
# ## Summary
#
# - Small steps spend their time on starting operations. A batch gives each more to do; compiling makes fewer of them.
# - Padding makes a rectangle, the mask keeps it out of the loss; causal attention keeps it out of the predictions.
# - The gradient of a batch is the weighted mean of the single gradients.
# - All training names and 64 per step bring the small model far below the bigram. Attention buys most, then positions, then the MLP.
# - Counts with back-off are harder to beat: of the sizes shown, three blocks of 48 are the smallest that pass them, with dropout against overfitting.
# - Attention heads come to do different things, and letters with the same neighbours get similar vectors. Nobody programmed either.
#
# ## Pitfalls
#
# - Averaging the loss over padding: it looks better and learns worse.
# - A state that `mx.compile` does not know of: each step starts from the old numbers, or the next one fails (section 4).
# - Dropout in a compiled step whose state lacks `mx.random.state`: the same zeros in every step.
# - Crediting a part with a gain without taking that part away, with several seeds.
# - A batch of another shape, such as a short last one, is traced and compiled again. Keep shapes fixed.
# - Comparing speeds with the first step in the measurement: that is the compiler's time.
#
# ## Further reading
#
# - [MLX: compilation](https://ml-explore.github.io/mlx/build/html/usage/compile.html): what may and may not be in a compiled function.
# - [Dropout](https://jmlr.org/papers/v15/srivastava14a.html), Srivastava et al., 2014.
# - [A Neural Probabilistic Language Model](https://www.jmlr.org/papers/v3/bengio03a.html), Bengio et al., 2003: learned vectors for words.
# - [A Mathematical Framework for Transformer Circuits](https://transformer-circuits.pub/2021/framework/index.html), Elhage et al., 2021: reading what heads do.
#
# **Next:** [05 · Tokenizer](05_tokenizer.ipynb), where Part II begins: from letters to the pieces of words that large models read.

# %% [markdown]
# # 10 · Training
#
# **Goal.** Pretrain a GPT: many micro-batches to a step, watched while it runs, stopped and gone on with as if nothing had
# happened, on several cores.
#
# | | |
# |---|---|
# | Needs | [06 · Data](06_data.ipynb), [08 · GPT](08_gpt.ipynb), [09 · Muon](09_muon.ipynb) |
# | Time | 60 minutes to read, 65 for the exercises, 20 for the appendix; two to four minutes to run |
# | Memory | under 1 GB |
# | You will build | the step → `course_lib.train.trainer`; what a run leaves on disk → `checkpoint`; many processes → `distributed`; a run on one page → `plan`; the program `base_train` → `course_lib.scripts` |
#
# You have text, a model and an optimizer. What is left looks like a loop of five lines, and on the first day it is one.
# Then the batch does not fit the memory, the machine restarts in the night, the loss turns into NaN, and the other cores
# stand idle. This chapter builds the loop that lives through all of that.

# %% [markdown]
# ![Map of the course: chapter 10 training is marked, in Part II; after 09 muon, and 11 evaluation comes next](images/map_10.svg)

# %%
#| export train.trainer
"""The training step: gradients of several micro-batches, one clipped step of Muon and AdamW.

Source: nanochat.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT
from course_lib.train.distributed import Group, SharedMuon, total
from course_lib.train.muon import Muon
from course_lib.train.optim import lr_multiplier, make_optimizer, muon_momentum

# %% [markdown]
# That cell opens the main module of this chapter. The next one is for this notebook only.

# %%
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import redirect_stderr
from dataclasses import asdict
from io import StringIO
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import mlx.optimizers as optim
import numpy as np

from course_lib.classroom import LiveCurve, add_to, budget, check, draw_loss_log, record_loss
from course_lib.classroom.exercises import training as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import bundled_folder, open_dataset
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.train.metrics import draw_metrics
from course_lib.train.muon import newton_schulz
from course_lib.train.plan import Settings, describe, resolve, validation_batches

backend.seed_everything(42)
print(backend.describe())

# %% [markdown]
# Text, a tokenizer of 512 ids that is not saved, and a model so small that a step takes a fraction of a second. (A later
# section trains a larger one.) `scratch` is a folder for what this notebook writes: your own checkpoints stay as they are.

# %%
scratch = Path(tempfile.mkdtemp()).resolve()
data = open_dataset()
tokenizer = Tokenizer.train(data.documents("train"), 512)
with TokenLoader(data, tokenizer, "train", batch_size=8, sequence_len=128) as loader:
    texts = list(islice(loader, 32))  # pairs (inputs, targets), each (8, 128)
SMALL_GPT = GPTConfig(128, vocab_size=512, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)


def refused(action):
    """Do what has to fail with a CourseError, and print the error."""
    try:
        action()
    except CourseError as error:
        sentence = str(error).replace(f"{scratch}/", "")
        print(textwrap.fill(f"{type(error).__name__}: {sentence}", 95))
    else:
        raise AssertionError("this should have been refused")


# %% [markdown]
# ## 1. One step by hand
#
# Everything that a step consists of, in order:
#
# 1. the loss and its gradients (chapter 08);
# 2. **clipping**: all gradients together are one long vector, and its length is the **gradient norm**, the root of the sum of
#    all squares. If it is above a limit, the whole vector is made shorter, and keeps its direction;
# 3. the learning rates, times a multiplier that goes down at the end (chapter 09);
# 4. Muon's momentum, which grows over the first 300 steps (chapter 09);
# 5. the update: new weights, new averages;
# 6. `mx.eval`: all of this was a plan so far. Now it is computed.

# %%
model = GPT(SMALL_GPT)
optimizer = make_optimizer(model)
rates = [part.learning_rate for part in optimizer.optimizers]
loss_and_gradients = nn.value_and_grad(model, model.loss)


def step_by_hand(n, num_iterations, inputs, targets):
    loss, gradients = loss_and_gradients(inputs, targets)  # 1
    norm = math.sqrt(sum(mx.square(g).sum().item() for _, g in tree_flatten(gradients)))  # 2
    clip = min(1, 1.0 / norm)
    gradients = tree_map(lambda g: g * clip, gradients)
    for part, rate in zip(optimizer.optimizers, rates, strict=True):  # 3
        part.learning_rate = rate * lr_multiplier(n, num_iterations)
    optimizer.optimizers[0].state["momentum"] = mx.array(muon_momentum(n))  # 4
    optimizer.update(model, gradients)  # 5
    mx.eval(model.parameters(), optimizer.state)  # 6
    return loss.item(), norm


# %%
print("step   loss  norm  multiplier  momentum")
for n in range(10):
    loss, norm = step_by_hand(n, 10, *texts[n])
    rates_now = lr_multiplier(n, 10)
    print(f"{n:4d} {loss:6.3f} {norm:5.2f} {rates_now:11.1f} {muon_momentum(n):9.4f}")
    assert n or abs(loss - math.log(512)) < 1e-4
by_hand = dict(tree_flatten(model.parameters()))

# %% [markdown]
# The first loss is $\ln 512$, as it must be (chapter 08), and it falls from there. Keep these weights: in section 3 the
# finished `Trainer` has to arrive at the same ones.
#
# Chapter 08's loop had the points 1, 5 and 6, and 3 with one rate for everything; chapter 09 added a rate for each group.
# What this chapter adds:
#
# | what changed | why |
# |---|---|
# | several micro-batches to a step | a large model's step of half a million tokens fits on no single GPU |
# | gradients clipped at norm 1 | one strange text must not rule the optimizers' averages |
# | a loss or a norm that is no number stops the run | else the next checkpoint saves the wreck |
# | Muon's momentum, set at every step | its schedule in chapter 09 |
# | validation in bits per byte, at a price that is fixed beforehand | to see what was learned, and not pay more for looking than for learning |
# | all that the next step needs is saved | a run outlives the process |
#
# ## 2. Micro-batches
#
# More tokens to a step make a steadier direction (chapter 04), and nanochat takes 524,288. Of a large model their
# activations fit in the memory of no single GPU (section 9 tries a quarter of them). So the batch is cut into
# **micro-batches**. Each gives its gradients; the gradients are added up, and the optimizer steps once, on their mean. This
# is **gradient accumulation**. Since the loss is a mean, nothing changes but the memory: two micro-batches of 8 rows give
# the gradients of one of 16.

# %%
(first_ids, first_targets), (second_ids, second_targets) = texts[:2]
loss, whole = loss_and_gradients(
    mx.concatenate([first_ids, second_ids]), mx.concatenate([first_targets, second_targets])
)
losses, parts = zip(*(loss_and_gradients(*text) for text in texts[:2]), strict=True)
mean = tree_map(lambda a, b: (a + b) / 2, *parts)
for (name, one), (_, two) in zip(tree_flatten(whole), tree_flatten(mean), strict=True):
    assert mx.allclose(one, two, atol=1e-5), name
print(f"loss of 16 rows {loss.item():.6f}, mean of twice 8 {sum(losses).item() / 2:.6f}")


# %% [markdown]
# The mean of means is the mean only when all parts have the same size. Ours do: every row of pretraining text is full.
# Chapter 13 trains on rows with holes, and exercise 10.1 asks what to do then.
#
# ### The graph that grows
#
# MLX is lazy: adding gradients only notes what is to be added. If nobody asks for a number, the plan grows by a whole
# forward and backward pass with each micro-batch, and parts of many of them may be held at once. How much memory does the
# sum of gradients take at its peak?

# %%
def peak(count, evaluate):
    """Megabytes at the fullest moment while the gradients of `count` micro-batches are added up."""
    mx.clear_cache()
    before, so_far = mx.get_active_memory(), None
    mx.reset_peak_memory()
    for text in texts[:count]:
        _, gradients = loss_and_gradients(*text)
        so_far = gradients if so_far is None else tree_map(mx.add, so_far, gradients)
        if evaluate:
            mx.eval(so_far)
    mx.eval(so_far)
    return (mx.get_peak_memory() - before) / 1e6


counts = (1, 2, 4, 8, 16)[:: budget(1, quick=2)]
peaks = {evaluate: [peak(count, evaluate) for count in counts] for evaluate in (False, True)}

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.8))
ax.plot(counts, peaks[False], "--s", color="#D55E00", label="mx.eval once, at the end")
ax.plot(counts, peaks[True], "-o", color="#0072B2", label="mx.eval after each micro-batch")
ax.set(xlabel="micro-batches in a step", ylabel="peak memory, MB", ylim=(0, None))
ax.legend(frameon=False)
plt.show()
assert peaks[False][-1] > 1.4 * peaks[True][-1]


# %% [markdown]
# The solid line is flat: each micro-batch is computed, added and forgotten. The dashed one climbs, to about twice the
# solid one at 16 micro-batches. (Not to 16 times: MLX frees what it can while it computes.) nanochat's steps can have many
# more. One `mx.eval` a micro-batch is enough, and it costs hardly anything, since the work has to be done anyway.
#
# ## 3. The Trainer
#
# Now the step as a class. What comes out of a step, and the error of a run that is lost:

# %%
#| export train.trainer
@dataclass(frozen=True)
class StepResult:
    """What a training step measured.

    iteration: the step's number, from 0; losses: nats, of each micro-batch of this process; loss:
    the mean over all processes; grad_norm: before clipping; lr_multiplier: of all learning rates.
    """

    iteration: int
    losses: list[float]
    loss: float
    grad_norm: float
    lr_multiplier: float


class Diverged(CourseError):
    """Loss or gradients are no numbers, or the loss has risen far: going on makes no sense."""


# %% [markdown]
# The class holds the model, its optimizer and the number of the next step. Two arguments are for later: with a `group`,
# several processes share each step (section 8), and `SharedMuon` is Muon for them.

# %%
#| export train.trainer
class Trainer:
    """Steps of Muon and AdamW on a GPT, with clipping and the schedule of learning rates.

    num_iterations: steps of the whole run, which the schedule spans. grad_clip: the largest norm of
    all gradients together; 0 to leave them. compiled: use mx.compile; by default on a GPU, since on
    a CPU it gains nothing here. group: the processes that share each step, which must all begin
    with the same weights. The other arguments are those of `make_optimizer` and `lr_multiplier`.
    """

    def __init__(
        self,
        model: GPT,
        num_iterations: int,
        *,
        grad_clip: float = 1.0,
        matrix_lr: float = 0.02,
        embedding_lr: float = 0.2,
        unembedding_lr: float = 0.004,
        warmup_ratio: float = 0.0,
        warmdown_ratio: float = 0.2,
        final_lr_frac: float = 0.0,
        compiled: bool | None = None,
        group: Group | None = None,
    ):
        if num_iterations < 1 or not grad_clip >= 0:
            raise CourseError(
                f"num_iterations={num_iterations}, grad_clip={grad_clip}: expected 1 or more, "
                "and 0 or more"
            )
        self.model, self.num_iterations, self.grad_clip = model, num_iterations, grad_clip
        self.iteration = 0
        self.group = group if group is not None and group.size() > 1 else None
        muon = Muon if self.group is None else partial(SharedMuon, group=self.group)
        self.optimizer = make_optimizer(model, matrix_lr, embedding_lr, unembedding_lr, muon)
        self._rates = [each.learning_rate for each in self.optimizer.optimizers]
        self._multiplier = partial(
            lr_multiplier,
            num_iterations=num_iterations,
            warmup_ratio=warmup_ratio,
            warmdown_ratio=warmdown_ratio,
            final_lr_frac=final_lr_frac,
        )
        self._compiled = backend.device_kind() != "cpu" if compiled is None else compiled
        self._make_functions()


# %% [markdown]
# Two parts of the step do nearly all the work, gradients and update. On a GPU `mx.compile` makes them faster. It has to be
# told which arrays they read and change: the model's, and the state of each optimizer (chapter 04). The first micro-batch
# has nothing to add to, so it is another function than the rest. An update that talks to other processes is not compiled.

# %%
#| export train.trainer
@add_to(Trainer)
def _make_functions(self) -> None:
    """The two heavy parts of a step, which mx.compile may make faster."""
    model, optimizer = self.model, self.optimizer
    loss_and_gradients = nn.value_and_grad(model, model.loss)

    def add_gradients(
        so_far: dict | None, inputs: mx.array, targets: mx.array
    ) -> tuple[mx.array, dict]:
        loss, gradients = loss_and_gradients(inputs, targets)
        return loss, gradients if so_far is None else tree_map(mx.add, so_far, gradients)

    def update(gradients: dict, scale: mx.array) -> None:
        optimizer.update(model, tree_map(lambda gradient: gradient * scale, gradients))

    if self._compiled:
        weights = [model.state]
        state = [model.state, *(each.state for each in optimizer.optimizers)]
        first = mx.compile(partial(add_gradients, None), inputs=weights, outputs=weights)
        more = mx.compile(add_gradients, inputs=weights, outputs=weights)
        self._add_gradients = lambda so_far, *batch: (
            first(*batch) if so_far is None else more(so_far, *batch)
        )
        self._update = update if self.group else mx.compile(update, inputs=state, outputs=state)
    else:
        self._add_gradients, self._update = add_gradients, update


# %% [markdown]
# **Accumulate**, with the `mx.eval` of section 2:

# %%
#| export train.trainer
@add_to(Trainer)
def _sum_gradients(
    self, micro_batches: Iterable[tuple[mx.array, mx.array]]
) -> tuple[list[float], dict]:
    """The loss of each micro-batch, and the sum of their gradients."""
    losses, gradients = [], None
    for inputs, targets in micro_batches:
        loss, gradients = self._add_gradients(gradients, inputs, targets)
        mx.eval(loss, gradients)  # else the graphs of all micro-batches would be in memory
        losses.append(loss.item())
    if not losses:
        raise CourseError("a step got no micro-batch; give it one or more pairs (inputs, targets)")
    return losses, gradients


# %% [markdown]
# **Clip.** The squares of each gradient are added up on the device, those of all gradients in Python with `math.fsum`,
# which rounds only once. MLX has a function that clips too, and here both must agree. (The 1e-6 is MLX's: no division by
# zero.)

# %%
#| export train.trainer
def global_norm(gradients: dict) -> float:
    """The length of all gradients together, as one vector; the same in any order of adding."""
    squares = mx.stack([mx.square(g.reshape(-1)).sum() for _, g in tree_flatten(gradients)])
    return math.sqrt(math.fsum(squares.tolist()))


# %%
_, g = loss_and_gradients(*texts[0])
theirs, _ = optim.clip_grad_norm(g, 0.1)
ours = tree_map(lambda array: array * (0.1 / (global_norm(g) + 1e-6)), g)
print(f"norm {global_norm(g):.4f}, clipped {global_norm(ours):.4f}")
for (_, one), (_, two) in zip(tree_flatten(ours), tree_flatten(theirs), strict=True):
    assert mx.allclose(one, two, atol=1e-5)


# %% [markdown]
# We need the norm as a number before the update and not as a part of it, for two reasons: it belongs in the records of the
# run, and it tells whether the step may be taken at all.
#
# **Refuse.** Of a gradient with one NaN in it Muon makes NaN of the whole matrix, AdamW of one number; the forward passes
# that use it spread it to everything. Then the weights are lost. A norm sees every number of every gradient, so a single
# test is enough. It comes before anything is changed.
#
# **Step.** The rest, in the order of section 1:

# %%
#| export train.trainer
@add_to(Trainer)
def _set_rates(self) -> float:
    """Set learning rates and momentum of this iteration; what the rates are multiplied by."""
    multiplier = self._multiplier(self.iteration)
    for each, rate in zip(self.optimizer.optimizers, self._rates, strict=True):
        each.learning_rate = rate * multiplier
    self.optimizer.optimizers[0].state["momentum"] = mx.array(muon_momentum(self.iteration))
    return multiplier


@add_to(Trainer)
def step(self, micro_batches: Iterable[tuple[mx.array, mx.array]]) -> StepResult:
    """One step on the mean loss of the micro-batches (inputs, targets), each (B, T).

    In several processes each gives as many micro-batches as the others. Raises CourseError for
    no micro-batch or a step beyond num_iterations, and Diverged, with the weights as they
    were, when the loss or the gradients are not finite.
    """
    if self.iteration >= self.num_iterations:
        raise CourseError(
            f"all {self.num_iterations} steps are done; make a Trainer with more num_iterations"
        )
    losses, gradients = self._sum_gradients(micro_batches)
    loss = sum(losses) / len(losses)
    if self.group:
        gradients = nn.average_gradients(gradients, self.group)
        loss = total([loss], self.group)[0] / self.group.size()
    grad_norm = global_norm(gradients) / len(losses)
    if not math.isfinite(loss + grad_norm):
        raise Diverged(f"the loss is {loss}, the norm of its gradients {grad_norm}")

    multiplier = self._set_rates()
    clip = min(1, self.grad_clip / (grad_norm + 1e-6)) if self.grad_clip else 1
    self._update(gradients, mx.array(clip / len(losses)))
    del gradients
    mx.eval(self.model.parameters(), self.optimizer.state)
    result = StepResult(self.iteration, losses, loss, grad_norm, multiplier)
    self.iteration += 1
    return result


# %% [markdown]
# Is it the step of section 1? A new model, the same texts, and the weights after ten steps:

# %%
model = GPT(SMALL_GPT)
trainer = Trainer(model, num_iterations=10)
results = [trainer.step([text]) for text in texts[:10]]
gap = max(mx.abs(w - by_hand[name]).max().item() for name, w in tree_flatten(model.parameters()))
print(results[0])
print(f"largest difference of a weight after ten steps: {gap:.1e}")
assert gap < 1e-3
refused(lambda: trainer.step([texts[10]]))

# %% [markdown]
# And if a number breaks? We put NaNs into one row of the head, such as a bad step might leave behind:

# %%
trainer = Trainer(GPT(SMALL_GPT), num_iterations=10)
trainer.step(texts[:2])
weights = dict(tree_flatten(trainer.model.parameters()))
healthy = trainer.model.lm_head.weight
trainer.model.lm_head.weight = mx.where(mx.arange(512)[:, None] == 7, mx.nan, healthy)
refused(lambda: trainer.step(texts[2:4]))
trainer.model.lm_head.weight = healthy
now = dict(tree_flatten(trainer.model.parameters()))
assert trainer.iteration == 1 and all(mx.array_equal(weights[name], now[name]) for name in now)
print("after the refusal: the weights are untouched, the step is not counted")


# %% [markdown]
# ### A loss that rises
#
# Not every wreck is a NaN. With rates that are too high the loss may climb by several nats and stay finite. The loss of a
# single step is noisy, so the alarm watches a smoothed one: an **exponential moving average**, in which each loss counts
# 0.9 times as much as the one after it. Such an average begins at 0, and is far too low at first. Dividing by what the
# weights add up to, $1 - 0.9^n$ after n losses, mends that (Adam's bias correction is the same).

# %%
#| export train.trainer
class LossWatch:
    """The smoothed loss of a run, and an alarm when it rises.

    The smoothed loss is an average in which each loss counts 0.9 times as much as the next, as in
    nanochat. max_rise: nats above its lowest value that it may reach.
    """

    def __init__(
        self, max_rise: float = 1.5, average: float = 0.0, steps: int = 0, lowest: float = math.inf
    ):
        self.max_rise, self.average, self.steps, self.lowest = max_rise, average, steps, lowest

    def add(self, loss: float) -> float:
        """Note a step's loss; the smoothed one. Raises Diverged when that is too high."""
        self.average, self.steps = 0.9 * self.average + 0.1 * loss, self.steps + 1
        smoothed = self.average / (1 - 0.9**self.steps)
        self.lowest = min(self.lowest, smoothed)
        if smoothed > self.lowest + self.max_rise:
            raise Diverged(f"the smoothed loss has risen from {self.lowest:.3f} to {smoothed:.3f}")
        return smoothed

    def state(self) -> dict[str, float]:
        """What LossWatch(max_rise, **state) goes on from; JSON can hold it."""
        return {"average": self.average, "steps": self.steps, "lowest": self.lowest}


# %% tags=["nbval-check-output"]
watch = LossWatch(max_rise=1.5)
for loss in (6.0, 5.0, 4.0, 4.0, 9.0, 9.0):
    try:
        smoothed = watch.add(loss)
        print(f"loss {loss:4.1f}: average {watch.average:.2f}, mended {smoothed:.2f}")
    except Diverged as error:
        print(f"loss {loss:4.1f}: {error}")

# %% [markdown]
# Here two losses of 9 are needed for the alarm: one alone could be a strange text. (Early on one high loss is enough; late
# in a run, where a new loss counts 0.1, it takes more.) Unlike the refusal above, this alarm comes after the step: what
# helps then is the last checkpoint. The mended average begins at the first loss, the plain one near zero.
#
# ## 4. How good is it?
#
# The loss of the training text says how well the model does on what it is about to learn. Better ask for text that it never
# sees. And better not in nats a *token*: a token is what the tokenizer says it is. With a larger vocabulary there are fewer
# tokens, each of them longer and harder to guess, so the loss rises, though the model may be no worse. **Bits per byte**
# divides by the bytes of the text instead: the bits that the model needs to write down a byte of it, whatever the tokens.
# Nats become bits by dividing by $\ln 2$. (Chapter 11 goes deep.)
#
# A model that knows nothing gives every id the same probability. Here is its loss with three tokenizers, on the same text:

# %%
unseen = list(islice(data.documents("val"), 50))
num_bytes = sum(len(text.encode()) for text in unseen)
for size in (300, 512, 1024):
    other = Tokenizer.train(islice(data.documents("train"), 200), size)
    num_tokens = sum(map(len, other.encode_batch(unseen)))
    bits = math.log2(size) * num_tokens / num_bytes
    print(f"{size:5,d} ids: loss {math.log(size):.2f} nats a token, {bits:.2f} bits per byte")


# %% [markdown]
# The loss goes up, the bits go down. The tokenizer is part of what is measured: longer tokens already know something about
# text. That is as it should be, since the question is what the text costs in all. Losses of different tokenizers cannot be
# compared; bits per byte of the same text can.
#
# Special tokens are not text: their `token_bytes` are 0, and neither their loss nor their bytes count.

# %%
#| export train.trainer
def nats_and_bytes(
    model: GPT, inputs: mx.array, targets: mx.array, token_bytes: mx.array
) -> mx.array:
    """The loss in nats, and the bytes, of the targets (B, T) that stand for text: (2,).

    token_bytes: (vocab_size,), 0 for special tokens. They and targets of -1 count for neither.
    """
    losses = model.loss(inputs, targets, reduction="none")  # (B, T)
    sizes = mx.where(targets >= 0, token_bytes[mx.maximum(targets, 0)], 0)
    return mx.stack([(losses * (sizes > 0)).sum(), sizes.sum().astype(mx.float32)])


def validate(
    model: GPT,
    batches: Iterable[tuple[mx.array, mx.array]],
    token_bytes: mx.array,
    group: Group | None = None,
) -> float:
    """Bits per byte of the batches (of all processes together): nats / (ln 2 · bytes)."""
    nats = size = 0.0
    for inputs, targets in batches:
        more = nats_and_bytes(model, inputs, targets, token_bytes).tolist()
        nats, size = nats + more[0], size + more[1]
    if group is not None and group.size() > 1:
        nats, size = total([nats, size], group)
    return nats / (math.log(2) * size) if size else math.nan


# %% [markdown]
# The same by plain Python over every single target:

# %%
ids, targets = next(text for text in texts if (text[1] == tokenizer.bos).any())
losses = model.loss(ids, targets, "none").reshape(-1).tolist()
sizes = tokenizer.token_bytes[targets.reshape(-1)].tolist()
counted = [(loss, size) for loss, size in zip(losses, sizes, strict=True) if size > 0]
nats, size = map(sum, zip(*counted, strict=True))
expected = nats / math.log(2) / size
print(f"{len(losses) - len(counted)} of {len(losses)} targets are special")
ours = validate(model, [(ids, targets)], tokenizer.token_bytes)
print(f"by hand {expected:.5f}, validate {ours:.5f}")
assert abs(ours - expected) < 1e-4

# %% [markdown]
# ### What may it cost?
#
# A token of validation needs a forward pass, about a third of a training token's work: the way back costs twice as much as
# the way there (chapter 08). nanochat validates on 20 times 524,288 tokens, about 10.5 million, every 250 steps. At its own half a million
# tokens to a step that is cheap. What if one keeps the number, and takes the smaller steps of a laptop?

# %%
print("tokens a step   validation / training")
for tokens_per_step in (524_288, 65_536, 4_096, 512):
    work = 20 * 524_288 / 3 / (250 * tokens_per_step)
    print(f"{tokens_per_step:13,d} {work:23.1%}")

# %% [markdown]
# In the last line validation costs more than twenty times the training. A published port came to 25 times. So we fix the
# **share** instead, 5 %, and the number of tokens follows from it:

# %%
plan = Settings(
    sequence_len=128, total_batch_size=2048, device_batch_size=8, eval_every=20, eval_share=0.05
)
val_batches = validation_batches(plan, val_tokens=math.inf)
share = val_batches * 8 * 128 / 3 / (20 * 2048)
print(f"{val_batches} batches of 8 rows every 20 steps: {share:.1%} of the training's work")
assert share <= 0.05

# %% [markdown]
# And is a third true on your machine? A step and a validation of the same two micro-batches, with the model that section 5
# trains:

# %%
LADDER = GPTConfig(sequence_len=128, vocab_size=512, n_layer=4, n_head=4, n_kv_head=4, n_embd=128)


def seconds(action):
    """The best of three."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


trainer = Trainer(GPT(LADDER), num_iterations=10)
training = seconds(lambda: trainer.step(texts[:2]))
looking = seconds(lambda: validate(trainer.model, texts[:2], tokenizer.token_bytes))
print(f"a token of validation takes {looking / training:.0%} of a token of training")


# %% [markdown]
# The third counts matrix products only. A step also has the optimizer, which makes looking cheaper beside it; short
# operations and other programs push the number either way. Expect anything from a fifth to two thirds.
#
# Numbers are not everything. Once in a while, let the model go on with the beginning of an unseen document, and read:

# %%
#| export train.trainer
def continue_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    max_tokens: int = 24,
    temperature: float = 0.8,
    seed: int = 0,
) -> str:
    """What the model writes after `prompt`, up to <|bos|>.

    For a look during training: the whole text goes through the model for every token.
    """
    ids = tokenizer.encode(prompt, bos=True)
    start, key = len(ids), mx.random.key(seed)
    for _ in range(max_tokens):
        logits = model(mx.array([ids[-model.config.sequence_len :]]))[0, -1]  # (V,)
        key, now = mx.random.split(key)
        following = mx.random.categorical(logits / temperature, key=now).item()
        if following == tokenizer.bos:
            break
        ids.append(following)
    return tokenizer.decode(ids[start:])


# %%
print(repr(continue_text(model, tokenizer, "Return the", max_tokens=12)))

# %% [markdown]
# Pieces of words from a model of ten steps. Time for a longer run.
#
# ## 5. A run
#
# The model of chapter 08's ladder, with twice the tokens to a step, in two micro-batches, more steps, and everything from
# above. Muon's rate and the long warmdown are those of chapter 09 for this model; nanochat's own are meant for larger ones.
# `held_out` is what chapters 08 and 09 measured on; the curve takes as many batches of it as section 4 allows.

# %%
STEPS, EVERY = budget(200, quick=4), budget(20, quick=2)
with TokenLoader(data, tokenizer, "val", 8, 128) as loader:
    held_out = list(islice(loader, 8))

# %% [markdown]
# The loop goes over the steps 0 … N, of which the last one only looks: so there is a measurement before the first step and
# one after the last.

# %%
model, watch, entries = GPT(LADDER), LossWatch(), []
trainer = Trainer(model, STEPS, matrix_lr=0.01, warmdown_ratio=0.5)
curve = LiveCurve("training loss", {"ln 512": math.log(512)}, window=10)
with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
    for n in range(STEPS + 1):
        if n % EVERY == 0:
            bits = validate(model, held_out[:val_batches], tokenizer.token_bytes)
            entries.append({"step": n, "bits_per_byte": bits})
        if n == STEPS:
            break
        started = time.perf_counter()
        result = trainer.step(islice(loader, 2))
        speed = 2048 / (time.perf_counter() - started)
        smoothed = watch.add(result.loss)
        entries.append(
            {"step": n, "smoothed": smoothed, "tokens_per_second": speed, **vars(result)}
        )
        curve.add(n, result.loss)
curve.show()

# %% [markdown]
# You saw it grow if you ran it. Now all that was written down:

# %%
draw_metrics(entries)

# %% [markdown]
# Top left: the loss of each step (pale) and the smoothed one. Top right: the bits per byte of unseen text, which fall along
# with it: no sign yet of learning by heart. Bottom left: the multiplier of all rates, 1 for half of the run and then down.
# Look at the curves above that slope: while the rates were high, validation stood still for a while, and as they go down it
# moves again. Bottom right: the speed. Dips, and whole stretches at half the speed, are other work on the machine. A speed
# that falls and falls would be a graph that grows, or a machine that gets hot.
#
# What `draw_metrics` leaves out is the norm of the gradients:

# %%
steps = [entry for entry in entries if "loss" in entry]
norms = [entry["grad_norm"] for entry in steps]
figure, ax = plt.subplots(figsize=(5.5, 2.6))
ax.plot(norms, color="#0072B2", linewidth=1)
ax.axhline(1, color="#D55E00", linestyle="--", label="clipped above this line")
ax.set(xlabel="step", ylabel="gradient norm", ylim=(0, None))
ax.legend(frameon=False)
plt.show()
clipped = sum(norm > 1 for norm in norms)
print(f"{clipped} of {len(norms)} steps were clipped")

# %% [markdown]
# Early on nearly every step is clipped, later fewer. In a short run of a small model most of the run is early. Does that
# make the steps shorter? Hardly: Muon and AdamW divide the size of a gradient out again (chapter 09). What clipping changes
# is how much a single strange gradient weighs in their averages, next to the others.
#
# What does it write, and how does it compare?

# %%
for seed, document in enumerate(unseen[:3]):
    prompt = " ".join(document.split()[:4])
    print(repr(prompt), "…", repr(continue_text(model, tokenizer, prompt, seed=seed)))

# %%
losses = [model.loss(*batch, "none").mean().item() for batch in held_out[: budget(8, quick=1)]]
idea = "five times the tokens, by the Trainer"
record_loss("10", "a longer run", idea, "python docs", steps=STEPS, loss=sum(losses) / len(losses))
draw_loss_log("python docs", until="10")

# %% [markdown]
# The last dot saw five times the text of the one above it. Is it the text that moved it? The control: the Trainer, with
# chapter 09's number of tokens.

# %%
trainer = Trainer(GPT(LADDER), budget(80, quick=2), matrix_lr=0.01, warmdown_ratio=0.5)
with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
    for text in islice(loader, trainer.num_iterations):
        trainer.step([text])
losses = [trainer.model.loss(*batch, "none").mean().item() for batch in held_out[: len(losses)]]
print(f"80 steps of one micro-batch: {sum(losses) / len(losses):.2f}")

# %% [markdown]
# Close to chapter 09's dot: nearly all of the way is text. The ideas of this chapter make a run possible, hardly better.
#
# ## 6. Checkpoints
#
# A process can end at any moment. So now and then the run is written to disk: a **checkpoint**. Three things can go wrong
# with one. It is incomplete, because the process died while writing. It is damaged, because disks are. Or it is complete,
# and does not hold all that the next step needs (section 7).
#
# Ours is a folder of four files. Two are **safetensors**: a header in JSON that says which array lies where, and then the
# plain numbers. One is JSON. And one has the **checksum** of each of the others, a number computed from all of its bytes:
# if a single one changes, so does the checksum.

# %%
#| export train.checkpoint
"""Checkpoints: folders that appear whole, say when they are damaged, and hold all that a run needs.

A run's folder has step_000200, step_000400, …, each with the weights and what goes on with them as
safetensors, numbers and names as JSON, and the checksums of the three.
"""

import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.files import make_folder_atomically
from course_lib.host.paths import home_dir
from course_lib.model.gpt import GPT, GPTConfig

# %%
#| export train.checkpoint
WEIGHTS, STATE, META, SUMS = "model.safetensors", "state.safetensors", "meta.json", "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    weights: the model's parameters by name; state: other arrays by name; meta: whatever JSON can
    say.
    """

    step: int
    weights: dict[str, mx.array]
    state: dict[str, mx.array]
    meta: dict


# %% [markdown]
# **Write** it, all or nothing: into a folder with another name, which gets its real name at the very end (chapter 06). Then
# the oldest ones go, since a checkpoint of d12 has about 1.9 GB.

# %%
#| export train.checkpoint
def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write folder/step_<step>, all of it or nothing; then it and the `keep` - 1 before it stay.

    Later ones go: a run that goes on from an earlier step has found them damaged.
    Raises CourseError when it cannot be written, as on a full disk.
    """
    target = folder / f"step_{checkpoint.step:06d}"
    for left in folder.glob(".step_*.part"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with make_folder_atomically(target) as part:
            for name, arrays in ((WEIGHTS, checkpoint.weights), (STATE, checkpoint.state)):
                _save_arrays(part / name, arrays)
            meta = {"step": checkpoint.step, **checkpoint.meta}
            (part / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
            sums = {name: _sha256(part / name) for name in (WEIGHTS, STATE, META)}
            (part / SUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
            shutil.rmtree(
                target, ignore_errors=True
            )  # of the same step: a damaged one, most likely
    except (OSError, RuntimeError) as error:
        raise CourseError(
            f"cannot write {target} ({error}); free some space and go on with --resume: older "
            "checkpoints are whole"
        ) from error
    folders = checkpoint_folders(folder)
    first = folders.index(target)
    for path in folders[:first] + folders[first + keep :]:
        shutil.rmtree(path, ignore_errors=True)
    return target


# %% [markdown]
# MLX writes safetensors without a word when the disk is full; hence the look at the size.

# %%
#| export train.checkpoint
def _save_arrays(path: Path, arrays: dict[str, mx.array]) -> None:
    mx.save_safetensors(str(path), arrays)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if path.stat().st_size != 8 + header + sum(array.nbytes for array in arrays.values()):
        raise OSError("the disk is full")  # MLX does not say so


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    names = [path for path in folder.glob("step_*") if path.name.removeprefix("step_").isdecimal()]
    return sorted(names, key=lambda path: int(path.name.removeprefix("step_")), reverse=True)


def run_folder(tag: str, stage: str = "base") -> Path:
    """Where the checkpoints of a run are kept: checkpoints/<stage>/<tag> of the course's home."""
    if not re.fullmatch(r"\w[\w.-]*", tag):
        raise CourseError(
            f"the tag {tag!r} cannot name a run; use letters, digits, and then . _ and -"
        )
    return home_dir() / "checkpoints" / stage / tag


# %% [markdown]
# What must be saved beside the weights? The trainer says it, and takes it back:

# %%
#| export train.trainer
@add_to(Trainer)
def state(self) -> dict[str, mx.array]:
    """What the next steps need beside the weights, by name: of the optimizers, and of mx.random."""
    state = {"optimizer": self.optimizer.state, "random": mx.array(mx.random.state[0])}
    return dict(tree_flatten(state))


@add_to(Trainer)
def load_state(self, iteration: int, state: dict[str, mx.array]) -> None:
    """Go on after `iteration` steps. Raises CourseError when the state is of another model."""
    shapes = [
        {name: array.shape for name, array in arrays.items()} for arrays in (self.state(), state)
    ]
    if shapes[0] != shapes[1]:
        raise CourseError(
            "the saved state does not fit this model; go on with the depth of the run"
        )
    tree = tree_unflatten([(name, state[name]) for name in shapes[0]])
    self.optimizer.state = tree["optimizer"]
    mx.random.state[0][:] = tree["random"]
    self.iteration = iteration
    self._make_functions()


# %% [markdown]
# (`_make_functions` is called once more because a compiled step knows the optimizers' old state, and the new one is another
# tree.)

# %%
def save(trainer, folder, place=None):
    """A checkpoint of the trainer as it is now."""
    meta = {"config": asdict(trainer.model.config), "tokenizer": tokenizer.fingerprint}
    weights = dict(tree_flatten(trainer.model.parameters()))
    checkpoint = Checkpoint(trainer.iteration, weights, trainer.state(), {**meta, "data": place})
    return save_checkpoint(folder, checkpoint, keep=3)


folder = scratch / "demo"
tokenizer.save(folder / "tokenizer")
trainer = Trainer(GPT(SMALL_GPT), num_iterations=10)
for text in texts[:4]:
    trainer.step([text])
    newest = save(trainer, folder)
print(*sorted(path.name for path in folder.iterdir()))
for path in sorted(newest.iterdir()):
    print(f"{path.name:18s} {path.stat().st_size:9,d} bytes")


# %% [markdown]
# Four were written and three are left. The state is larger than the weights: AdamW keeps two numbers for each weight of the
# tables, Muon one for each weight of the blocks.
#
# **Read.** Each file is checked against its checksum before anything of it is used. A run goes on from the newest
# checkpoint that is whole.

# %%
#| export train.checkpoint
def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises CourseError when a file is missing or is not what was written."""
    try:
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
        for name in (WEIGHTS, STATE, META):
            if _sha256(path / name) != sums[name]:
                raise CourseError(
                    f"{path} is damaged: {name} is not what was written; use another checkpoint"
                )
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        weights, state = mx.load(str(path / WEIGHTS)), mx.load(str(path / STATE))
        mx.eval(
            weights, state
        )  # else they are read when they are needed, and the files may be gone by then
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CourseError):
            raise
        raise CourseError(
            f"{path} is damaged or no checkpoint ({error}); use another checkpoint"
        ) from error
    return Checkpoint(meta["step"], weights, state, meta)


def newest_checkpoint(folder: Path) -> Checkpoint:
    """The newest checkpoint of a run that is whole; a line on stderr names each that is damaged.

    Raises CourseError when there is none.
    """
    for path in checkpoint_folders(folder):
        try:
            return load_checkpoint(path)
        except CourseError as error:
            print(f"{error}: going back to the one before", file=sys.stderr)
    raise CourseError(
        f"{folder} holds no checkpoint that is whole; train one with `base_train`, or choose "
        "another --tag"
    )


# %% [markdown]
# Now damage the newest: one bit of one byte in the middle of the weights.

# %%
damaged = newest / WEIGHTS
content = bytearray(damaged.read_bytes())
content[len(content) // 2] ^= 1
damaged.write_bytes(content)
assert set(mx.load(str(damaged))) == set(by_hand)
with redirect_stderr(StringIO()) as complaint:
    checkpoint = newest_checkpoint(folder)
print(textwrap.fill(complaint.getvalue().replace(f"{scratch}/", ""), 95))
print("goes on from step", checkpoint.step)
assert checkpoint.step == 3


# %% [markdown]
# It is named, and skipped. `mx.load` alone reads it without a complaint: the file is a valid one, and one weight is
# another.
#
# Later chapters need the model and not the run: `load_model` returns it with its tokenizer. It refuses another tokenizer
# than the one that the model was trained with, since then every id would mean something else.

# %%
#| export train.checkpoint
def load_weights(model: GPT, weights: dict[str, mx.array]) -> None:
    """Give the model these parameters. Raises CourseError for names or shapes not its own."""
    own = dict(tree_flatten(model.parameters()))
    for name in sorted(own.keys() | weights.keys()):
        have, want = (tree[name].shape if name in tree else "nothing" for tree in (weights, own))
        if have != want:
            raise CourseError(
                f"the checkpoint has {have} for {name}, the model {want}; make it with the "
                "checkpoint's config"
            )
    model.load_weights(list(weights.items()))


def load_model(folder: Path, step: int | None = None) -> tuple[GPT, Tokenizer, dict]:
    """Model, tokenizer and meta of a run: of its newest whole checkpoint, or of a step of yours.

    Raises CourseError when there is none.
    """
    checkpoint = (
        newest_checkpoint(folder) if step is None else load_checkpoint(folder / f"step_{step:06d}")
    )
    tokenizer = Tokenizer.load(folder / "tokenizer")
    if tokenizer.fingerprint != checkpoint.meta["tokenizer"]:
        raise CourseError(
            f"{folder / 'tokenizer'} is not the tokenizer that this model was trained with; "
            "copy that one there"
        )
    model = GPT(GPTConfig(**checkpoint.meta["config"]))
    load_weights(model, checkpoint.weights)
    return model, tokenizer, checkpoint.meta


# %%
again, _, meta = load_model(folder, step=3)
ids = texts[9][0]
before = GPT(SMALL_GPT)
load_weights(before, checkpoint.weights)
assert mx.array_equal(again(ids), before(ids)) and meta["step"] == 3
Tokenizer.train(islice(data.documents("train"), 50), 300).save(scratch / "other" / "tokenizer")
shutil.copytree(folder / "step_000003", scratch / "other" / "step_000003")
refused(lambda: load_model(scratch / "other"))


# %% [markdown]
# ## 7. To go on as if nothing had happened
#
# What does the next step depend on?
#
# - the weights;
# - the averages of the optimizers, Muon's and AdamW's, and how many steps AdamW has counted for its bias correction;
# - the number of the step, for the schedules;
# - the place in the text, the `state` of chapter 06;
# - the state of the random numbers, if anything draws some.
#
# The first is the model's, the place is the loader's, and all else is in `trainer.state()` and `trainer.iteration`.
#
# The test is strict: six steps in one go, against three steps, a checkpoint, a **new** model and trainer, and three more.
# Not nearly the same: every bit.

# %%
def train(steps, of, saved=None, forget=""):
    """`steps` steps of a run of `of`: trainer, place, losses. saved: a checkpoint to go on from.

    forget: "optimizer", "step" or "place", which is then not taken from the checkpoint.
    """
    trainer, losses = Trainer(GPT(SMALL_GPT), num_iterations=of), []
    if saved:
        load_weights(trainer.model, saved.weights)
        state = trainer.state() if forget == "optimizer" else saved.state
        trainer.load_state(0 if forget == "step" else saved.step, state)
    place = saved.meta["data"] if saved and forget != "place" else None
    with TokenLoader(data, tokenizer, "train", 8, 128, state=place) as loader:
        for text in islice(loader, steps):
            losses.append(trainer.step([text]).loss)
        return trainer, loader.state, losses


# %%
in_one_go, last_place, _ = train(6, of=6)
first_half, place, _ = train(3, of=6)
save(first_half, scratch / "resume", place)
saved = newest_checkpoint(scratch / "resume")
second_half, resumed_place, _ = train(3, of=6, saved=saved)
one, two = (dict(tree_flatten(t.model.parameters())) for t in (in_one_go, second_half))
assert all(mx.array_equal(one[name], two[name]) for name in one)
one, two = in_one_go.state(), second_half.state()
assert all(mx.array_equal(one[name], two[name]) for name in one) and last_place == resumed_place
print("weights, optimizers, random numbers and place in the text: equal in every bit")

# %% [markdown]
# Published ports have forgotten one or the other. None of them fails: each goes on, and its loss goes down. What does it
# cost? A run of 40 steps on a laptop that is closed after every 5 of them, and that forgets the same thing each time it
# goes on:

# %%
LONG, STOP = budget(40, quick=4), budget(5, quick=2)


def interrupted(forget):
    """A run of LONG steps, stopped after every STOP: its losses, and bits per byte at the end."""
    saved, losses = None, []
    for _ in range(LONG // STOP):
        trainer, place, more = train(STOP, LONG, saved, forget)
        losses += more
        weights = dict(tree_flatten(trainer.model.parameters()))
        saved = Checkpoint(trainer.iteration, weights, trainer.state(), {"data": place})
    return losses, validate(trainer.model, held_out, tokenizer.token_bytes)


runs = {what: interrupted(what) for what in ("nothing", "optimizer", "step", "place")}
for what, (losses, bits) in runs.items():
    last = sum(losses[-STOP:]) / STOP
    print(
        f"forgets {what:9s}  last training losses {last:.2f}, unseen text {bits:.2f} bits per byte"
    )

# %%
figure, ax = plt.subplots(figsize=(6, 3))
styles = {"nothing": ("#0072B2", "-"), "optimizer": ("#D55E00", "--")}
styles |= {"step": ("#009E73", "-."), "place": ("#000000", ":")}
for what, (color, line) in styles.items():
    ax.plot(runs[what][0], line, color=color, label=f"forgets {what}")
ax.set(xlabel="step", ylabel="training loss")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# The dotted line looks like the best run of all. It has read the same five batches eight times and begins to know them by
# heart; on unseen text it is by far the worst. That is why this mistake lives long: the training loss praises it.
#
# The other two hardly show. Muon's average forgets old gradients within some ten steps by itself. A schedule only matters
# where it changes: who forgets the step stays in the first five, and never comes to the lower rates at the end. Is it
# harmless then? In the stored run the differences are as small as luck: both even end a little better than the run that
# forgets nothing. In another run they may not be, and **nothing would tell you**: neither a message nor the curve. So do not
# look at the curve. Compare bits.
#
# ## 8. More cores, and more machines
#
# MLX does most of its work on a CPU in one thread. The other cores want to be used as well, and so do your other machines.
# The simplest way: several **processes**, each with the whole model. Each takes an equal share of the rows of a step.
# Before the update all of them exchange their gradients and take the mean, so all make the same step, and their weights
# stay the same. (The field calls this **data parallel**, a process a **rank**, counted from 0, and the exchange
# **all-reduce**.)
#
# You know already that this is right, up to rounding: it is section 2, with the two micro-batches in two processes. MLX
# brings the exchange: `nn.average_gradients` in `Trainer.step`, at the lines with `self.group`.
#
# ### Muon, shared
#
# Every process would make the same matrices orthogonal, the same work twice. Better, each takes some of them. Which? Sort
# by cost, and give each to whoever has the least to do so far.

# %%
#| export train.distributed
"""Several processes that train one model: each has it whole, and they share the work of a step."""

import json

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from course_lib.train.muon import Muon, newton_schulz

Group = mx.distributed.Group


# %%
#| export train.distributed
def share_out(costs: list[float], size: int) -> list[int]:
    """Who does what: for each task one of `size` workers, so that all have about as much to do."""
    load, owners = [0.0] * size, [0] * len(costs)
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        owners[task] = load.index(min(load))
        load[owners[task]] += costs[task]
    return owners


# %% tags=["nbval-check-output"]
costs = [8, 7, 6, 5, 4]
owners = share_out(costs, 2)
print("owners", owners)
for rank in (0, 1):
    mine = [cost for cost, owner in zip(costs, owners, strict=True) if owner == rank]
    print(f"process {rank}: {mine}, together {sum(mine)}")


# %% [markdown]
# 17 and 13: not the best, which would be 15 and 15, but good enough, and the same in every process without a word between
# them.
#
# Each then has some results, and zeros in place of the others. The **sum over all processes** gives everyone everything, in
# one message. (`look_ahead` and `move` are the two halves of chapter 09's step, before and after the orthogonal matrix.)

# %%
#| export train.distributed
class SharedMuon(Muon):
    """Muon in several processes: each makes some of the matrices orthogonal, and all get all."""

    def __init__(self, learning_rate: float, group: Group):
        super().__init__(learning_rate)
        self.group = group

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        """The parameters after one step, the same in every process."""
        self.state["step"] = self.step + 1
        ahead = tree_map(self.look_ahead, gradients, self.state)
        names, matrices = zip(*tree_flatten(ahead), strict=True)
        owners = share_out([m.size * min(m.shape[-2:]) for m in matrices], self.group.size())
        parts = [
            newton_schulz(matrix, self.ns_steps)
            if owner == self.group.rank()
            else mx.zeros_like(matrix)
            for matrix, owner in zip(matrices, owners, strict=True)
        ]
        steps = sum_together(parts, self.group)
        return tree_map(self.move, tree_unflatten(list(zip(names, steps, strict=True))), parameters)


def sum_together(arrays: list[mx.array], group: Group) -> list[mx.array]:
    """The sum of each array over all processes, in one message."""
    sizes = np.cumsum([array.size for array in arrays])[:-1].tolist()
    flat = mx.distributed.all_sum(
        mx.concatenate([array.reshape(-1) for array in arrays]), group=group
    )
    return [
        part.reshape(array.shape) for part, array in zip(mx.split(flat, sizes), arrays, strict=True)
    ]


# %% [markdown]
# By numbers, two processes in one: the parts of each, added up, are all the directions.

# %%
_, gradients = loss_and_gradients(*texts[0])
matrices = [gradient for name, gradient in tree_flatten(gradients) if ".h." in name]
owners = share_out([m.size * min(m.shape) for m in matrices], 2)
everything = mx.concatenate([newton_schulz(m).reshape(-1) for m in matrices])
by_process = [
    mx.concatenate(
        [
            (newton_schulz(m) if owner == rank else mx.zeros_like(m)).reshape(-1)
            for m, owner in zip(matrices, owners, strict=True)
        ]
    )
    for rank in (0, 1)
]
print("matrices of each process:", [owners.count(rank) for rank in (0, 1)])
assert mx.array_equal(by_process[0] + by_process[1], everything)

# %% [markdown]
# ### The real thing
#
# `base_train` is all of this chapter as a program; its code is in the appendices. With `--processes 2` it starts itself twice
# and joins the two by MLX's distributed engine, a **ring** over the loopback network: each passes numbers on to its
# neighbour.
#
# The cell runs it as a terminal would (there: `uv run base_train …`). The environment variable `COURSE_HOME` gives it a
# home of its own, so that your checkpoints are safe, and `OPENBLAS_NUM_THREADS` one thread for its matrix products, since
# another number of threads may add up in another order.

# %%
home = scratch / "home"
shutil.copytree(bundled_folder(), home / "datasets" / bundled_folder().name)
tokenizer.save(home / "tokenizer")
environment = {**os.environ, "COURSE_HOME": str(home), "OPENBLAS_NUM_THREADS": "1"}
TINY = "--depth=1 --sequence-len=64 --total-batch-size=512 --device-batch-size=4"
TINY += (
    f" --eval-every=30 --save-every=20 --sample-every=60 --num-iterations={budget(60, quick=40)}"
)


def start(flags):
    """base_train in a process of its own."""
    command = [sys.executable, "-m", "course_lib.scripts.base_train", *flags.split()]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finished(process):
    """What it has printed, once it is done."""
    return process.communicate(timeout=300)[0].replace(f"{home}/", "")


# %%
process = start(f"{TINY} --tag=two --processes=2")
lines = [line for line in finished(process).splitlines() if not line.endswith(" left")]
print(*lines, sep="\n")
assert process.returncode == 0

# %% [markdown]
# First the plan (section 9, which also explains MFU), then a line now and then (those of progress are left out here). So
# tiny a model spends its time on messages and on starting operations; two processes pay when a step has real work.
#
# Now one process, and we press Ctrl-C: as soon as its first checkpoint is there, it gets the same signal.

# %%
run = home / "checkpoints" / "base" / "stopped"
process = start(f"{TINY} --tag=stopped --processes=1")
while process.poll() is None and not (run / "step_000020").exists():
    time.sleep(0.01)
process.send_signal(signal.SIGINT)
print(finished(process).splitlines()[-1])
print("exit code", process.returncode)

# %%
process = start(f"{TINY} --tag=stopped --processes=1 --resume")
print(finished(process).splitlines()[-1])
assert process.returncode == 0

# %% [markdown]
# (130 is what programs return that end by Ctrl-C. On a fast machine the run may be over before the signal comes; then there
# is nothing left to do.)
#
# Two processes that ran through, and one that was stopped and went on. Their last checkpoints:

# %%
last = f"step_{budget(60, quick=40):06d}"
one, two = (mx.load(str(run.with_name(tag) / last / WEIGHTS)) for tag in ("two", "stopped"))
gap = max(mx.abs(one[name] - two[name]).max().item() for name in one)
print(f"largest difference of a weight: {gap}")
assert gap == 0 or backend.device_kind() != "cpu" and gap < 0.1

# %% [markdown]
# Here, on a CPU, it is exactly 0: a step has two micro-batches, and a + b is b + a. With four, one process adds
# ((a + b) + c) + d and two add (a + b) + (c + d). That is the same but for rounding, and the weights slowly drift apart in
# their last digits. Equality in every bit is only promised for going on with the *same* number of processes. (A GPU may add
# up in another order from time to time, and its last bits differ.)
#
# Is it faster? `--dry-run` measures a few steps and stops. A larger model, 4,096 tokens to a step:

# %%
LARGER = f"--depth={budget(2, quick=1)} --sequence-len=128 --total-batch-size=4096"
LARGER += " --device-batch-size=8 --num-iterations=100 --dry-run"
for count in (1, 2):
    process = start(f"{LARGER} --processes={count}")
    print(f"--processes={count}:", finished(process).splitlines()[-1])
    assert process.returncode == 0

# %% [markdown]
# With a CPU of two cores or more and nothing else running, the second number of tokens a second should be well above the
# first, but below twice as much. On a machine with other work, or on a GPU that both have to share, it may be below.
# Without `--processes` the program takes two or four on a Linux CPU, as its cores allow, and one elsewhere.
#
# Several machines need the same checkout, text and tokenizer (the run checks that), a network, and a file that lists them.
# Process 0, on the first one, writes the checkpoints.
#
# ```json
# [{"ssh": "mac1.local", "ips": ["192.168.1.11"]}, {"ssh": "mac2.local", "ips": ["192.168.1.12"]}]
# ```
#
# ```bash
# uv run mlx.launch --hostfile hosts.json -- "$PWD/.venv/bin/python" -m course_lib.scripts.base_train --depth=12
# ```
#
# (`mlx.launch` comes with MLX, reaches the machines by ssh, and wants the interpreter with its whole path, the same on all.
# This was not run here.)
#
# ## 9. Before the first step
#
# How long will it take, and does it fit? Nobody should find out in the morning. All but the speed follows from the flags,
# the corpus and chapter 08's counts, and the speed is measured in seconds. `Settings` has the flags of `base_train`. Most
# may stay empty; `resolve` fills in numbers that make sense for this machine and this corpus, and `describe` says what they
# come to.

# %%
num_tokens = sum(map(len, tokenizer.encode_batch(list(data.documents("train")), bos=True)))
settings = resolve(Settings(depth=4), tokenizer.vocab_size, num_tokens)
print(describe(settings, tokenizer.vocab_size, num_tokens, val_tokens=num_tokens / 20))

# %% [markdown]
# How many steps? There are three ways to say it, and one default:
#
# | flag | the run ends |
# |---|---|
# | `--num-iterations` | after so many steps |
# | `--target-flops` | when so many operations are spent: to compare models at the same price |
# | `--tokens-per-param` | after so many tokens for each parameter |
# | none of them | after 20 tokens a parameter, but at most four passes over the text |
#
# 20 tokens a parameter is near the point where a *given number of operations* is spent best: a larger model would see too
# little, a smaller one could not hold it (Hoffmann et al., 2022). A model that will be used a lot is trained for longer.
# And the same text more than four times teaches little (Muennighoff et al., 2023).
#
# What does not fit is refused, with the fix:

# %%
refused(lambda: resolve(Settings(total_batch_size=1000), 512, num_tokens))
refused(lambda: resolve(Settings(total_batch_size=4096, device_batch_size=5), 512, num_tokens))
for rows in (1, 8, 64):
    big = Settings(12, sequence_len=2048, total_batch_size=2**19, device_batch_size=rows)
    try:
        resolve(big, 65_536, math.inf)
        print(f"d12 with {rows} rows at a time fits")
    except CourseError as error:
        print(textwrap.fill(str(error), 95))

# %% [markdown]
# ### How well is the machine used?
#
# Tokens a second say little: a smaller model has more of them. **Model FLOPs utilization**, MFU, can be compared: the
# operations that the model needs for a token (chapter 08), times tokens a second, over the speed of plain matrix products
# on the same machine. 100 % would be a training that is nothing but products. For the run of section 5:

# %%
speed = float(np.median([entry["tokens_per_second"] for entry in steps]))
needed = flops_per_token(LADDER) * speed / 1e9
possible = backend.matmul_gflops(dtype=backend.compute_dtype())
print(
    f"{speed:,.0f} tokens/s, {needed:,.1f} of {possible:,.0f} GFLOP/s: MFU {needed / possible:.0%}"
)

# %% [markdown]
# The rest goes into norms, softmax, the optimizer, and into starting operations: work that the count leaves out. Small
# models have more of it: compare the MFU that `base_train` printed in section 8 for a model of one layer. (Others divide by the speed that the maker of the GPU quotes. It is higher than what any product
# reaches, so their MFU is lower.)
#
# ### What a d12 costs
#
# Its parameters at 1, 5 and 20 tokens each. The speed is the only thing that depends on the machine, so put it into the
# columns:

# %%
d12 = GPTConfig.from_depth(12)
parameters, flops = count_parameters(d12), flops_per_token(d12)
print(f"{parameters:,d} parameters")
print("tokens a parameter    tokens    operations   at 1,500   10,000  100,000 tokens/s")
for ratio in (1, 5, 20):
    tokens = ratio * parameters
    days = "".join(f"{tokens / speed / 86_400:7.1f} d" for speed in (1_500, 10_000, 100_000))
    print(f"{ratio:18d} {tokens / 1e9:7.2f} bn {flops * tokens:13.2e}  {days}")

# %% [markdown]
# At 1,500 tokens a second the full d12 is a month, at 100,000 it is a night. To know your column before you begin, ask the
# program: `--dry-run` prints the plan, measures a few steps, tells the end, and stops. A run prints the same lines, goes
# on, and keeps correcting its estimate.
#
# The real thing, streaming its text (chapter 06). It wants a GPU. Where there is no tokenizer, it first trains one of
# 65,536 ids on that text. A small one from an earlier chapter would be used as it is: train it anew before, with
# `tok_train --dataset=fineweb-edu --streaming`. The next cell is not run here; set `REALLY` to run it.

# %% tags=["nbval-skip", "skip-execution"]
REALLY = False
command = "base_train --depth=12 --device-batch-size=4 --dataset=fineweb-edu --streaming"
if REALLY:
    subprocess.run(["uv", "run", *command.split()], check=True)


# %% [markdown]
# ## Exercises
#
# ### Exercise 10.1 — unequal micro-batches
#
# 15 minutes, ●●○. In chapter 13 many targets are −1 and do not count, so one micro-batch may have 700 targets and the next
# 30. Then the mean of means is wrong. Write `whole_batch(parts)`: `parts` is a list of `(count, loss, gradients)`, how many
# targets count, their mean loss (a float) and its gradients (a dict name → array); return the pair `(loss, gradients)`
# of all of them together. A part may have count 0; if all have, the loss is 0.0 and the gradients are zeros.
#
# <details><summary>Hint</summary>A mean times its count is a sum. Add up the sums, and divide once, at the end, by the sum of the counts or 1.</details>

# %% tags=["exercise"]
def whole_batch(parts):
    raise NotImplementedError


# %%
check(exercises.whole_batch, whole_batch)


# %% [markdown]
# ### Exercise 10.2 — the smoothed loss
#
# 10 minutes, ●○○. Write `smooth(losses, beta=0.9)`: the list of smoothed losses, as LossWatch has them, for any beta from 0
# up to below 1, without that class. Then smooth the losses of section 5, `[entry["loss"] for entry in steps]`, with 0, 0.9
# and 0.99, and draw them in a cell of your own (not checked): what is lost on each side?
#
# <details><summary>Hint</summary>The average begins at 0. After n losses their weights add up to 1 − beta to the power of n.</details>

# %% tags=["exercise"]
def smooth(losses, beta=0.9):
    raise NotImplementedError


# %%
check(exercises.smooth, smooth)


# %% [markdown]
# ### Exercise 10.3 — which tokens count
#
# 15 minutes, ●●○. Write `bits_per_byte(losses, targets, token_bytes)` for lists of numbers: the loss in nats of each target,
# the targets, and the bytes of each id. Targets of −1 and special tokens (0 bytes) count neither above nor below the line.
# If nothing counts, return NaN.
#
# <details><summary>Hint</summary>In Python, token_bytes[-1] is the last one, and no error. Sum first, divide once: a mean of ratios is something else.</details>

# %% tags=["exercise"]
def bits_per_byte(losses, targets, token_bytes):
    raise NotImplementedError


# %%
check(exercises.bits_per_byte, bits_per_byte)


# %% [markdown]
# ### Exercise 10.4 — forget nothing
#
# 25 minutes, ●●●. The check has a little training loop of its own, `exercises.ToyRun(seed)`: read its code
# (`exercises.ToyRun??`). Write `pack(run)`, which returns what must be saved as something that `json.dumps` takes, and
# `unpack(packed)`, which makes a new ToyRun of what `json.loads` gives back: `ToyRun(0)` whose attributes you then
# set will do. It must go on exactly as the old one would have.
#
# <details><summary>Hint</summary>Go through `step` line by line and note everything it reads that it has not just computed. random.Random has getstate and setstate; JSON turns
# tuples into lists, and setstate wants tuples, inside as well.</details>

# %% tags=["exercise"]
def pack(run):
    raise NotImplementedError


def unpack(packed):
    raise NotImplementedError


# %%
check(exercises.forget_nothing, pack, unpack)

# %% [markdown]
# Solutions: [solutions/10_training.ipynb](solutions/10_training.ipynb)
#
# ## Summary
#
# - A step is: gradients of all micro-batches, their mean, a norm that is checked and clipped, rates and momentum of the day, an update, `mx.eval`.
# - Accumulation and several processes are the same idea: a mean may be taken in parts, anywhere, and only the rounding differs.
# - Bits per byte compare models with different tokenizers. What validation costs is a share that you choose.
# - A checkpoint appears whole, knows when it is damaged, and holds everything that the next step reads. The proof is a resumed run that is equal in every bit.
# - Parameters, operations, memory and time are known before the first step.
#
# ## Pitfalls
#
# The first six were published, in ports to MLX.
#
# - **A learning rate that nobody uses**: the flag for the embedding is read, and the optimizer is made without it. Look at what the optimizer holds,
#   not at what was typed.
# - **Validation that costs 25 times the training**: the tokens to validate on were kept when the steps became smaller.
# - **A resumed run that begins its text again**: it trains twice on one part, never reaches another, and its training loss looks good.
# - **`optimizer.update` with the wrong tree**: nothing learns and nothing complains. The loss stays at $\ln V$; look at it after ten steps.
# - **Averages of the optimizer that are not restored**, the step number included.
# - **No `mx.eval`**: the graph grows until memory ends. Sometimes a printed loss hides it, since `.item()` computes a part.
# - Dividing by the number of micro-batches twice, or never: Muon does not care, AdamW hardly does, and clipping begins at the wrong norm.
# - A checkpoint that overwrites the last good one with NaN.
#
# ## Further reading
#
# - [Training Compute-Optimal Large Language Models](https://arxiv.org/abs/2203.15556), Hoffmann et al., 2022: 20 tokens a parameter.
# - [Scaling Data-Constrained Language Models](https://arxiv.org/abs/2305.16264), Muennighoff et al., 2023: how often the same text.
# - [PaLM](https://arxiv.org/abs/2204.02311), Chowdhery et al., 2022: where MFU is defined.
# - [On the difficulty of training recurrent neural networks](https://arxiv.org/abs/1211.5063), Pascanu et al., 2013: clipping.
# - [MLX: distributed communication](https://ml-explore.github.io/mlx/build/html/usage/distributed.html): rings, hostfiles, launching.
#
# **Next:** [11 · Evaluation](11_evaluation.ipynb): what does the number say?

# %% [markdown]
# ## Appendix A: a run on one page
#
# The module `plan`, which section 9 used: the flags, the numbers that fill the gaps, and what they come to.

# %%
#| export train.plan
"""A run of pretraining on one page: its settings, and what they come to before the first step."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from course_lib import backend
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.program import check_least
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token


# %%
#| export train.plan
@dataclass(frozen=True)
class Settings:
    """Pretrain a GPT, by default one that fits the bundled corpus; go on with it by --resume."""

    depth: int = 4
    """Layers of the model; everything else about it follows."""
    aspect_ratio: int = 64
    """Width of the model for each layer; 32 makes it narrow."""
    head_dim: int = 128
    """Numbers in a head, about."""
    n_kv_head: int | None = None
    """Heads of keys and values; by default as many as query heads."""
    sequence_len: int | None = None
    """Tokens in a row; by default 2048, or 256 on a CPU or a small corpus."""
    dataset: str = "bundled"
    """bundled, fineweb-edu, climbmix (after `get_data`, or with --streaming), or your own text."""
    streaming: bool = False
    """Fetch the shards of a remote corpus while training, and keep few."""
    max_cached_shards: int = 8
    """How many shards --streaming keeps on disk."""
    tokenizer: Path | None = None
    """Folder of the tokenizer; by default the one of `tok_train`, or one that is trained first."""
    total_batch_size: int | None = None
    """Tokens in a step; by default 524,288, or 4,096 on a CPU or a small corpus."""
    device_batch_size: int | None = None
    """Rows at a time in each process; by default what the memory allows, up to 32."""
    num_iterations: int | None = None
    """Steps of the whole run."""
    target_flops: float | None = None
    """Or: as many steps as this many floating-point operations pay for."""
    tokens_per_param: float | None = None
    """Or: tokens for each parameter; by default 20, but a small corpus at most four times."""
    matrix_lr: float = 0.02
    """Learning rate of Muon, for the matrices of the blocks."""
    embedding_lr: float = 0.2
    """Learning rate of AdamW for wte, at n_embd 768."""
    unembedding_lr: float = 0.004
    """Learning rate of AdamW for lm_head, at n_embd 768."""
    warmup_ratio: float = 0.0
    """Share of the steps in which the learning rates climb."""
    warmdown_ratio: float = 0.2
    """Share of the steps in which they fall."""
    final_lr_frac: float = 0.0
    """What they fall to, as a share."""
    grad_clip: float = 1.0
    """Largest norm of the gradients; 0 to leave them."""
    max_rise: float = 1.5
    """Stop when the smoothed loss is so many nats above its lowest."""
    seed: int = 42
    """Of the first weights."""
    recompute: bool = False
    """Compute activations twice, to need less memory."""
    eval_every: int | None = None
    """Steps between two validations; by default a tenth of the run, at most 250."""
    eval_share: float = 0.05
    """How much of the training's work validation may cost."""
    sample_every: int | None = None
    """Steps between two looks at what it writes; by default a fifth of the run, at most 2,000."""
    save_every: int | None = None
    """Steps between two checkpoints; by default a tenth of the run, at most 250."""
    keep: int = 3
    """How many checkpoints to keep."""
    tag: str | None = None
    """Name of the run; by default d and the depth."""
    resume: bool = False
    """Go on from the run's newest checkpoint, with its settings."""
    overwrite: bool = False
    """Throw the run of this name away and begin again."""
    dry_run: bool = False
    """Say what the run comes to, measure a few steps, and end."""
    processes: int | None = None
    """Processes on this machine; by default one, on Linux's CPU up to four, one for each core."""


# %% [markdown]
# `resolve` checks what was given, then settles row, step, micro-batch and horizon, in this order, since each depends on
# those before it.

# %%
#| export train.plan
EPOCHS = 4  # more passes over the same text teach little (Muennighoff et al., 2023)

SMALL = 50_000_000  # tokens of a corpus

FILLED = 0.85  # of the memory: the estimate may be off, and other programs need some


def make_config(settings: Settings, vocab_size: int) -> GPTConfig:
    """The model of the settings, whose sequence_len must be known."""
    return GPTConfig.from_depth(
        settings.depth,
        vocab_size,
        settings.sequence_len,
        settings.n_kv_head,
        settings.aspect_ratio,
        settings.head_dim,
    )


def resolve(
    settings: Settings, vocab_size: int, corpus_tokens: float, processes: int = 1, here: int = 1
) -> Settings:
    """The settings with a number for every None that says how long, how large and how often.

    corpus_tokens: of the training text, about. processes: that share a step; here: how many of
    them share this machine's memory. Raises FlagError for numbers that do not fit together, and
    CourseError for what does not fit the memory.
    """
    check_flags(settings)
    small = corpus_tokens < SMALL or backend.device_kind() == "cpu"
    settings = replace(settings, sequence_len=settings.sequence_len or (256 if small else 2048))
    settings = replace(
        settings, total_batch_size=settings.total_batch_size or (4096 if small else 524_288)
    )
    config = make_config(settings, vocab_size)
    settings = replace(
        settings, device_batch_size=fitting_batch_size(settings, config, processes, here)
    )
    steps = settings.num_iterations or _num_iterations(settings, config, corpus_tokens)
    often = min(250, max(1, steps // 10))
    batch = settings.device_batch_size * settings.sequence_len
    affordable = math.ceil(
        batch / (3 * max(settings.eval_share, 0.001) * settings.total_batch_size)
    )
    return replace(
        settings,
        num_iterations=steps,
        eval_every=settings.eval_every or max(often, affordable),
        save_every=settings.save_every or often,
        sample_every=settings.sample_every or min(2000, max(1, steps // 5)),
    )


def check_flags(settings: Settings) -> None:
    """Raise FlagError for flags that make no sense, whatever the text and the machine."""
    ones = "depth aspect_ratio head_dim n_kv_head sequence_len total_batch_size"
    ones += " device_batch_size num_iterations eval_every sample_every save_every keep"
    ones += " processes max_cached_shards"
    zeros = "matrix_lr embedding_lr unembedding_lr warmup_ratio warmdown_ratio final_lr_frac"
    zeros += " grad_clip eval_share seed"
    check_least(settings, **dict.fromkeys(ones.split(), 1), **dict.fromkeys(zeros.split(), 0))
    for flag in ("max_rise", "target_flops", "tokens_per_param"):
        value, name = getattr(settings, flag), f"--{flag.replace('_', '-')}"
        if value is not None and not value > 0:
            raise FlagError(f"{name} is {value}, expected more than 0")
        if value == math.inf and flag != "max_rise":
            raise FlagError(f"{name} is {value}, expected a number: a run must end")
    for flag in ("warmup_ratio", "warmdown_ratio", "final_lr_frac"):
        if getattr(settings, flag) > 1:
            raise FlagError(
                f"--{flag.replace('_', '-')} is {getattr(settings, flag)}, expected at most 1"
            )
    horizons = [settings.num_iterations, settings.target_flops, settings.tokens_per_param]
    if sum(horizon is not None for horizon in horizons) > 1:
        raise FlagError(
            "--num-iterations, --target-flops and --tokens-per-param each say how long; give "
            "one of them"
        )
    if settings.resume and settings.overwrite:
        raise FlagError(
            "--resume goes on with a run and --overwrite throws it away; give one of them"
        )
    if settings.seed >= 2**32:
        raise FlagError(f"--seed is {settings.seed}, expected at most {2**32 - 1}")


def _num_iterations(settings: Settings, config: GPTConfig, corpus_tokens: float) -> int:
    if settings.target_flops is not None:
        tokens = settings.target_flops / flops_per_token(config)
    elif settings.tokens_per_param is not None:
        tokens = settings.tokens_per_param * count_parameters(config)
    else:
        tokens = min(20 * count_parameters(config), EPOCHS * corpus_tokens)
    return max(1, int(tokens / settings.total_batch_size))


def fitting_batch_size(settings: Settings, config: GPTConfig, processes: int, here: int) -> int:
    """Rows at a time: the flag's, or the most that memory allows. CourseError when none fits."""
    together = settings.sequence_len * processes  # tokens of one row in every process
    if settings.total_batch_size % together:
        raise FlagError(
            f"--total-batch-size is {settings.total_batch_size} tokens, expected a multiple "
            f"of {together}: a row of {settings.sequence_len}"
            + f" in each of {processes} processes"
            * (processes > 1)
        )
    rows = settings.total_batch_size // together
    possible = [size for size in range(min(rows, 32), 0, -1) if rows % size == 0]
    have = FILLED * backend.memory_bytes()

    def fits(size: int) -> bool:
        return here * estimate_memory(config, size, recompute=settings.recompute)["total"] <= have

    fitting = [size for size in possible if fits(size)]
    asked = settings.device_batch_size
    if asked is not None and rows % asked:
        raise FlagError(
            f"--device-batch-size is {asked}, expected a divisor of {rows}, the rows of each "
            f"process in a step: {possible[0]} is one"
        )
    if asked is not None and fits(asked) or asked is None and fitting:
        return asked or fitting[0]
    need = here * estimate_memory(config, asked or 1, recompute=settings.recompute)["total"]
    better = (
        f"--device-batch-size={fitting[0]} would fit"
        if fitting
        else (
            "no --device-batch-size fits; take --recompute, fewer --processes, or a smaller "
            "--depth or --sequence-len"
        )
    )
    raise CourseError(
        f"a step with --device-batch-size={asked or 1} needs {need / 1e9:.1f} GB in {here} "
        f"process{'es' * (here > 1)}, but of this machine's memory it may take "
        f"{have / 1e9:.1f} GB; {better}"
    )


# %%
#| export train.plan
def validation_batches(settings: Settings, val_tokens: float) -> int:
    """Batches of device_batch_size rows for one validation, 1 or more.

    As many as keep all validation within eval_share of the training's work, a token of validation
    being a third of one of training, and no more than the text has.
    """
    tokens = 3 * settings.eval_share * settings.eval_every * settings.total_batch_size
    batch = settings.device_batch_size * settings.sequence_len
    return max(1, int(min(tokens, val_tokens) // batch))


def describe(
    settings: Settings, vocab_size: int, corpus_tokens: float, val_tokens: float, here: int = 1
) -> str:
    """What a run comes to, in lines."""
    config = make_config(settings, vocab_size)
    parameters, flops = count_parameters(config), flops_per_token(config)
    tokens = settings.num_iterations * settings.total_batch_size
    memory = estimate_memory(config, settings.device_batch_size, recompute=settings.recompute)[
        "total"
    ]
    count = validation_batches(settings, val_tokens)
    evaluated = count * settings.device_batch_size * settings.sequence_len
    share = evaluated / 3 / (settings.eval_every * settings.total_batch_size)
    epochs = "" if math.isinf(corpus_tokens) else f", {tokens / corpus_tokens:.1f} times the corpus"
    many = "" if here == 1 else f" in each of {here} processes"
    return "\n".join(
        [
            f"model        d{config.n_layer}: {config.n_layer} layer{'s' * (config.n_layer > 1)}, "
            f"n_embd {config.n_embd}, {config.n_head} head{'s' * (config.n_head > 1)}, "
            f"vocabulary {config.vocab_size:,}",
            f"parameters   {parameters:,}",
            f"tokens       {tokens:,} in {settings.num_iterations:,} steps of "
            f"{settings.total_batch_size:,} ({tokens / parameters:.1f} a parameter{epochs})",
            f"operations   {flops / 1e6:,.0f} million FLOPs a token, {flops * tokens:.3g} in all",
            f"memory       {memory / 1e9:.2f} GB needed{many}, "
            f"{backend.memory_bytes() / 1e9:.1f} GB here",
            f"validation   {evaluated:,} tokens every {settings.eval_every:,} steps, "
            f"{share:.1%} of the work",
        ]
    )


# %% [markdown]
# ## Appendix B: words between processes
#
# Section 8 exchanged gradients. A run also has to agree on its settings, on whether to stop, and on the weights that it
# starts from. All of it is made of sums: process 0 brings its numbers, the others bring zeros, and the sum is what process
# 0 said.

# %%
#| export train.distributed
def from_first(arrays: dict[str, mx.array], group: Group) -> dict[str, mx.array]:
    """The arrays of process 0, in all processes; all bring the same names, shapes and types."""
    if group.size() == 1:
        return arrays
    received = {}
    for name in sorted(arrays):  # in one order everywhere: else messages meet the wrong ones
        mine = arrays[name] if group.rank() == 0 else mx.zeros_like(arrays[name])
        received[name] = mx.distributed.all_sum(mine, group=group)
        mx.eval(received[name])
    return received


def say_from_first(value: object, group: Group) -> object:
    """What process 0 says, anything that JSON can hold, in all processes."""
    text = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    size = from_first({"size": mx.array(len(text))}, group)["size"].item()
    text = text if group.rank() == 0 else np.zeros(size, np.uint8)
    received = from_first({"text": mx.array(text)}, group)["text"]
    return json.loads(bytes(np.array(received)))


def most(number: float, group: Group) -> float:
    """The largest of the numbers that the processes bring."""
    return mx.distributed.all_max(mx.array(number, mx.float32), group=group).item()


def total(numbers: list[float], group: Group) -> list[float]:
    """The sums over all processes of the numbers that each brings."""
    return mx.distributed.all_sum(mx.array(numbers, mx.float32), group=group).tolist()


# %% [markdown]
# Alone in its group a process hears itself:

# %%
alone = mx.distributed.init()
if alone.size() == 1:
    assert say_from_first({"stop": False}, alone) == {"stop": False}
    assert most(3.0, alone) == 3.0 and total([1.0, 2.0], alone) == [1.0, 2.0]


# %% [markdown]
# ## Appendix C: which checkpoint is meant
#
# The programs of later chapters take a model by `--tag`, or by `--checkpoint`, a folder of a run or of a single checkpoint, and
# perhaps `--step`. One function reads all three:

# %%
#| export train.checkpoint
def place_of(settings, stage: str = "base") -> tuple[Path, int | None]:
    """The run's folder, and the step that is asked for, if any.

    settings: with tag, checkpoint and step, as a program's flags; stage: of the runs that tag
    names. Raises FlagError for flags that contradict each other.
    """
    if settings.tag is not None and settings.checkpoint is not None:
        raise FlagError("--tag and --checkpoint each name a run; give one of them")
    if settings.checkpoint is None:
        return run_folder(settings.tag or "d4", stage), settings.step
    folder = settings.checkpoint.expanduser().resolve()
    number = folder.name.removeprefix("step_")
    if folder.name != number and number.isdigit():
        if settings.step not in (None, int(number)):
            raise FlagError(
                f"--step is {settings.step}, but --checkpoint names {folder.name}; give one of them"
            )
        return folder.parent, int(number)
    return folder, settings.step


# %% [markdown]
# ## Appendix D: a run
#
# What the sections above have built, put together: a run that is watched, stopped, resumed and shared between processes. It
# does not know which text it trains on; the program below says that, and a later chapter has another one.

# %%
#| export train.run
"""A training run: watched, stopped, resumed, shared between processes; of any loader of batches.

Source: nanochat, whose loop this is: steps 0 … N, of which the last only evaluates and saves.
"""

import json
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, fields, replace
from itertools import islice
from pathlib import Path

import mlx.core as mx
from filelock import FileLock, Timeout
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.host.files import only_one
from course_lib.host.progress import StatusLine
from course_lib.host.stop import StopWish, stop_when_asked
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.model.sizes import flops_per_token
from course_lib.train import local_ring
from course_lib.train.checkpoint import (
    META,
    Checkpoint,
    checkpoint_folders,
    load_weights,
    newest_checkpoint,
    save_checkpoint,
)
from course_lib.train.distributed import Group, from_first, most, say_from_first, total
from course_lib.train.metrics import MetricsLog, read_metrics, save_curves
from course_lib.train.trainer import Diverged, LossWatch, Trainer, continue_text, validate


# %% [markdown]
# **Agreeing.** All processes must have the same text and the same tokenizer.

# %%
#| export train.run
def check_same(group: Group, **facts: str) -> None:
    """Raise CourseError when this process has other facts than the first one."""
    for name, theirs in say_from_first(facts, group).items():
        if facts[name] != theirs:
            raise CourseError(
                f"the {name} here is {facts[name]}, in the first process {theirs}; give all "
                "machines the same"
            )


def processes_here(group: Group) -> int:
    """How many processes of the group share this machine."""
    name = mx.array([zlib.crc32(socket.gethostname().encode())], mx.uint32)
    return int((mx.distributed.all_gather(name, group=group) == name).sum().item())


# %% [markdown]
# **Going on.** A resumed run takes its settings from the checkpoint. Some may be changed on the way; a flag that asks for
# another run is refused. And a folder belongs to one run at a time.

# %%
#| export train.run
FREE = (  # may change when a run goes on
    *("recompute", "streaming", "max_cached_shards", "max_rise", "tokenizer", "tag"),
    *("eval_every", "eval_share", "sample_every", "save_every", "keep", "device_batch_size"),
)

HORIZON = ("num_iterations", "target_flops", "tokens_per_param")  # may change, too

OF_THE_MOMENT = ("resume", "overwrite", "dry_run", "processes")  # are not kept


def settings_to_resume(asked, stored: dict):
    """The settings that a run was begun with, with those that are asked for now and may change.

    asked: a dataclass of settings; stored: what `settings_to_store` made of those of the beginning.
    Raises CourseError for a flag that asks for another run.
    """
    values = {field.name: stored.get(field.name, field.default) for field in fields(asked)}
    for field in fields(asked):
        name, flag = field.name, field.name.replace("_", "-")
        new, old = getattr(asked, name), values[name]
        given = new != field.default
        if given and name not in FREE + HORIZON + OF_THE_MOMENT and new != old:
            raise CourseError(
                f"this run was begun with --{flag}={old}, but --{flag}={new} asks for "
                "another; leave the flag out, or choose another --tag"
            )
        if given or name in OF_THE_MOMENT:
            values[name] = new
    horizon = [name for name in HORIZON if name in values]
    if any(getattr(asked, name) is not None for name in horizon):
        values |= {name: getattr(asked, name) for name in horizon}
    else:  # the steps that it was begun with, whatever they followed from
        values |= dict.fromkeys(horizon[1:])
    if values.get("tokenizer") is not None:
        values["tokenizer"] = Path(values["tokenizer"])
    return type(asked)(**values)


def settings_to_store(settings) -> dict:
    """The settings as JSON can hold them, without those of the moment."""
    kept = {name: value for name, value in asdict(settings).items() if name not in OF_THE_MOMENT}
    return {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()}


def own_folder(folder: Path, settings) -> FileLock:
    """Make the run's folder this process's own; the lock. CourseError when it holds another run."""
    lock = only_one(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CourseError(
            f"another run is writing in {folder}; wait for its end, or choose another --tag"
        ) from error
    here = checkpoint_folders(folder)
    if here and not (settings.resume or settings.overwrite):
        raise CourseError(
            f"{folder} holds a run already, up to {here[0].name}; go on with it by --resume, "
            "throw it away by --overwrite, or choose another --tag"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return lock


# %% [markdown]
# **Sharing and timing.** `trial` takes a few steps on noise to estimate the speed before the run begins; the weights are
# made anew after it.

# %%
#| export train.run
def share_of(loader: Iterator, count: int, group: Group) -> Iterator[tuple[mx.array, mx.array]]:
    """The `count` batches of this process among the next ones, of which each process gets as many.

    Every process reads all of them, so that the text of a step, and the place in the data that is
    saved, do not depend on how many processes there are.
    """
    first = group.rank() * count
    for number in range(count * group.size()):
        batch = next(loader)
        if first <= number < first + count:
            yield batch


def trial(model: GPT, batch: tuple[mx.array, mx.array], count: int, group: Group) -> float:
    """Seconds of a step of `count` micro-batches, told from steps of one and of two.

    It spoils the weights: make them anew.
    """
    trainer, seconds = Trainer(model, 10, group=group), {}
    for size in (1, 1) if count == 1 else (1, 2, 1, 2):  # the first ones load and compile
        started = time.perf_counter()
        trainer.step([batch] * size)
        seconds[size] = time.perf_counter() - started
    return seconds[1] + (count - 1) * (seconds.get(2, 0) - seconds[1])


class Speed:
    """Seconds of a step, and what follows: tokens per second, share of the machine, time left."""

    def __init__(self, settings, config: GPTConfig, seconds: float, group: Group):
        self.seconds, self.tokens, self.eval_share = (
            seconds,
            settings.total_batch_size,
            settings.eval_share,
        )
        self.flops = flops_per_token(config)
        n = 1024 if backend.device_kind() == "cpu" else 4096
        self.peak = 1e9 * total([backend.matmul_gflops(n, backend.compute_dtype())], group)[0]

    def add(self, seconds: float) -> None:
        """Note the time of a step."""
        self.seconds = 0.9 * self.seconds + 0.1 * seconds

    def __str__(self) -> str:
        """Tokens per second, and model FLOPs utilization: the share of matrix products' speed."""
        speed = self.tokens / self.seconds
        return f"{speed:,.0f} tokens/s, MFU {self.flops * speed / self.peak:.0%}"

    def left(self, steps: int) -> str:
        """How long so many steps will take, validation included, such as "1:02:09"."""
        minutes, seconds = divmod(round(steps * self.seconds * (1 + self.eval_share)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"


# %% [markdown]
# **The run.** Every process makes one; only the first writes. `prepare` says what it trains on.

# %%
#| export train.run
class Run:
    """A run of training as one of its processes sees it; `loop` does the work.

    Made from settings and a folder, or from the checkpoint there. A program's run has `prepare`,
    which sets settings (all numbers known), tokenizer, config, val_batches, prompts, and about, the
    lines to print; and `open_loader(split, state=None)`, whose `state` is its place, for JSON.
    Raises CourseError for whatever does not fit.
    """

    def __init__(self, settings, folder: Path, group: Group, stack: ExitStack):
        self.folder, self.group, self.is_first = folder, group, group.rank() == 0
        self.notes: dict = {}  # what a checkpoint says besides
        writes = self.is_first and not settings.dry_run
        if writes:
            stack.callback(own_folder(folder, settings).release)
        checkpoint = newest_checkpoint(folder) if self.is_first and settings.resume else None
        meta = say_from_first(checkpoint and checkpoint.meta, group)
        if meta:
            asked = settings.device_batch_size
            settings = settings_to_resume(settings, meta["settings"])
            if meta["processes"] != group.size():  # with other rows for each, another may fit
                settings = replace(settings, device_batch_size=asked)
        self.prepare(settings)
        if meta:
            self.notes = {name: meta[name] for name in self.notes}
            if meta["tokenizer"] != self.tokenizer.fingerprint:
                raise CourseError(
                    f"the run in {folder} was begun with another tokenizer than the one that is "
                    "here now; give it back, or begin again by --overwrite"
                )
        if meta and self.settings.num_iterations < meta["step"]:
            raise CourseError(
                f"this run has done {meta['step']} steps already, and --num-iterations="
                f"{self.settings.num_iterations} is fewer; give as many or more"
            )
        self.status = stack.enter_context(
            StatusLine(self.settings.num_iterations, quiet=not self.is_first)
        )
        self.status.say(self.about)

        self._make_model(checkpoint, meta["step"] if meta else 0)
        left = self.speed.left(self.settings.num_iterations - self.trainer.iteration)
        products = f"{self.speed.peak / 1e9:,.0f} GFLOP/s of matrix products"
        self.status.say(f"speed        {self.speed} of {products}; about {left} to go")

        self.watch = LossWatch(self.settings.max_rise, **(meta["watch"] if meta else {}))
        self.seconds = meta["seconds"] if meta else 0.0
        self.bits_per_byte = meta["bits_per_byte"] if meta else None
        self.loader = stack.enter_context(self.open_loader("train", meta["data"] if meta else None))
        self.log = None
        if writes:
            if self.settings.overwrite:  # not before all is known to be well
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            self.tokenizer.save(folder / "tokenizer")
            self.log = MetricsLog(folder / "metrics.jsonl", self.trainer.iteration)
            stack.callback(self.log.close)

    def rates(self) -> dict[str, float]:
        """What the Trainer takes besides the model."""
        names = ("grad_clip", "matrix_lr", "embedding_lr", "unembedding_lr")
        names += ("warmup_ratio", "warmdown_ratio", "final_lr_frac")
        return {name: getattr(self.settings, name) for name in names}

    def first_weights(self) -> None:
        """Give the model the weights to begin with."""
        init_weights(self.model, self.settings.seed)

    def in_words(self, place: dict) -> str:
        """Where in the data a loader's state is."""
        return str(place)

    def _make_model(self, checkpoint: Checkpoint | None, step: int) -> None:
        """Model and trainer, the same in every process: new, or of the first one's checkpoint."""
        self.model = GPT(self.config, self.settings.recompute)
        shape = (2, self.settings.device_batch_size, self.settings.sequence_len)
        noise = mx.random.randint(0, self.config.vocab_size, shape)
        rows = self.settings.total_batch_size // self.settings.sequence_len
        self.micro_batches = rows // self.settings.device_batch_size // self.group.size()
        seconds = trial(self.model, (noise[0], noise[1]), self.micro_batches, self.group)
        self.speed = Speed(self.settings, self.config, seconds, self.group)

        backend.seed_everything(self.settings.seed)
        self.first_weights()
        steps = self.settings.num_iterations
        self.trainer = Trainer(self.model, steps, **self.rates(), group=self.group)
        if checkpoint:
            load_weights(self.model, checkpoint.weights)
            self.trainer.load_state(step, checkpoint.state)
        weights = dict(tree_flatten(self.model.parameters()))
        load_weights(self.model, from_first(weights, self.group))
        self.trainer.load_state(step, from_first(self.trainer.state(), self.group))


# %% [markdown]
# **The loop**: steps 0 … N, of which the last only looks and saves. The wish to stop is granted after a step, by all
# processes at once.

# %%
#| export train.run
@add_to(Run)
def loop(self, stop: StopWish) -> int:
    """All steps that are left: 0, or the exit code of the wish to stop, granted after a step.

    Raises Diverged when the loss does, before anything is saved of it.
    """
    settings, began = self.settings, self.trainer.iteration
    for step in range(began, settings.num_iterations + 1):
        is_last = step == settings.num_iterations
        if is_last or step % settings.eval_every == 0:
            self.evaluate(step)
        if is_last or step and step % settings.sample_every == 0:
            self.sample(step)
        if is_last or step > began and step % settings.save_every == 0:
            self.save()
        if is_last:
            break
        self.train_step(step)
        if code := int(most(stop.code, self.group)):
            self.save()
            self.status.say(
                f"stopped after {step + 1:,} steps and saved them; go on with --resume "
                f"--tag={self.folder.name}"
            )
            return code
    self.finish()
    return 0


@add_to(Run)
def train_step(self, step: int) -> None:
    """One step: trained, watched, written down and shown."""
    started, place = time.perf_counter(), self.loader.state
    try:
        result = self.trainer.step(self.micro_batches_of(step))
        smoothed = self.watch.add(result.loss)
    except Diverged as error:
        raise Diverged(
            f"step {step}: {error}; its text begins at {self.in_words(place)}; the last checkpoint "
            "is from before: go on from it with --resume and look at that text, or begin again "
            "with lower learning rates (--matrix-lr, --embedding-lr)"
        ) from error
    seconds = time.perf_counter() - started
    self.speed.add(seconds)
    self.seconds += seconds
    if self.log:
        self.log.add(
            step,
            loss=result.loss,
            smoothed=smoothed,
            grad_norm=result.grad_norm,
            lr_multiplier=result.lr_multiplier,
            tokens_per_second=self.settings.total_batch_size / seconds,
            seconds=self.seconds,
            memory=mx.get_peak_memory(),
        )
    left = self.speed.left(self.settings.num_iterations - step - 1)
    memory = f"{mx.get_peak_memory() / 1e9:.1f} GB"
    self.status.show(
        step + 1, f"step {step + 1:,}  loss {smoothed:.3f}  {self.speed}  {memory}  {left} left"
    )


@add_to(Run)
def micro_batches_of(self, step: int) -> Iterator[tuple[mx.array, mx.array]]:
    """This process's micro-batches of the next step; a terminal shows how far a long one is."""
    for number, batch in enumerate(share_of(self.loader, self.micro_batches, self.group)):
        if self.micro_batches > 8:
            self.status.hint(
                f"step {step + 1:,}: {number} of {self.micro_batches} micro-batches  {self.speed}"
            )
        yield batch


# %%
#| export train.run
@add_to(Run)
def evaluate(self, step: int) -> None:
    """Bits per byte of the first validation batches, always the same."""
    with self.open_loader("val") as loader:
        batches = islice(loader, self.group.rank(), self.val_batches, self.group.size())
        value = validate(self.model, batches, self.tokenizer.token_bytes, self.group)
    if self.log:
        self.log.add(step, bits_per_byte=value)
    self.bits_per_byte = value
    self.status.say(f"step {step:,}: {value:.4f} bits per byte of validation text")


@add_to(Run)
def sample(self, step: int) -> None:
    """Let the model go on with the first words of three validation documents."""
    if self.is_first:
        samples = []
        for prompt in self.prompts:
            text = continue_text(
                self.model, self.tokenizer, prompt, seed=step * len(self.prompts) + len(samples)
            )
            samples.append([prompt, text])
            self.status.say(f"  {prompt!r} … {text!r}")
        self.log.add(step, samples=samples)


@add_to(Run)
def save(self) -> None:
    """Write a checkpoint; the first process does. Raises Diverged rather than save no numbers."""
    weights = dict(tree_flatten(self.model.parameters()))
    if not all(mx.isfinite(weight).all().item() for weight in weights.values()):
        raise Diverged(
            f"after step {self.trainer.iteration - 1} some weights are no numbers; nothing "
            "was saved of it"
        )
    if self.is_first:
        meta = {"config": asdict(self.config), "tokenizer": self.tokenizer.fingerprint}
        meta |= {"settings": settings_to_store(self.settings), "processes": self.group.size()}
        meta |= {"data": self.loader.state, "watch": self.watch.state(), "seconds": self.seconds}
        meta |= {"bits_per_byte": self.bits_per_byte, **self.notes}
        checkpoint = Checkpoint(self.trainer.iteration, weights, self.trainer.state(), meta)
        save_checkpoint(self.folder, checkpoint, self.settings.keep)
    most(0, self.group)  # the others wait: a launcher may end all of them when one ends


@add_to(Run)
def finish(self) -> None:
    """The curves, and a last line."""
    if self.is_first:
        save_curves(self.folder / "curves.png", read_metrics(self.folder / "metrics.jsonl"))
        minutes, seconds = divmod(round(self.seconds), 60)
        self.status.say(
            f"done in {minutes}:{seconds:02d} of training; model and curves are in {self.folder}"
        )


# %% [markdown]
# **Starting.** With several processes this one only starts the others and watches over them.

# %%
#| export train.run
def start(
    program: str, run_type: type[Run], settings, folder: Path, argv: list[str], processes: int
) -> None:
    """Train in so many processes; ends the program with the exit code of what ended it early.

    program: its name, of a module of course_lib.scripts; argv: its flags, for the others.
    """
    if processes > 1:
        code = local_ring.launch(f"course_lib.scripts.{program}", argv, processes)
    else:
        code = train(program, run_type, settings, folder)
    if code:
        sys.exit(code)


def train(program: str, run_type: type[Run], settings, folder: Path) -> int:
    """Train in this process, alone or as one of several: 0, or the exit code of an early end."""
    with ExitStack() as stack:
        stop = stack.enter_context(stop_when_asked())
        local_ring.end_with_the_launcher(stop)
        try:
            run = run_type(settings, folder, mx.distributed.init(), stack)
            return 0 if settings.dry_run else run.loop(stop)
        except RuntimeError as error:
            if "[ring]" not in str(error):
                raise
            print(
                f"{program}: another process of this run is gone; what was saved is whole: "
                "go on with --resume",
                file=sys.stderr,
            )
            return local_ring.LOST


def processes_before(settings, folder: Path) -> int | None:
    """How many processes the run that --resume goes on with had; None for a new one."""
    for path in checkpoint_folders(folder) if settings.resume else ():
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one
            return json.loads((path / META).read_text(encoding="utf-8"))["processes"]
    return None


def fewer_until(fits: Callable[[int], object], settings) -> int:
    """How many processes to start: the flag's, or what this machine has cores for, or half of it …

    fits: raises CourseError for a number of processes that cannot be; so does this for the flag's.
    """
    processes = settings.processes or local_ring.fitting_processes(backend.device_kind())
    while True:
        try:
            fits(processes)
            return processes
        except CourseError:
            if settings.processes or processes == 1:
                raise
            processes //= 2

# %% [markdown]
# ## Appendix E: the program `base_train`
#
# A run on the documents of a dataset, for the command line.

# %%

# %% [markdown]
# # 10 · Training
#
# **Goal.** Pretrain a GPT: many micro-batches to a step, watched while it runs, stopped and gone on with as if nothing had
# happened, on several cores.
#
# | | |
# |---|---|
# | Needs | [06 · Data](06_data.ipynb), [08 · GPT](08_gpt.ipynb), [09 · Muon](09_muon.ipynb) |
# | Time | 60 minutes to read, 65 for the exercises; two to four minutes to run |
# | Memory | under 1 GB |
# | You will build | the step → `course_lib.train.trainer`; a run as a value → `recipe`; the loop → `loop`; what a run leaves on disk → `checkpoint`; many processes → `distributed`, all in `course_lib.train` |
#
# You have text, a model and an optimizer. What is left looks like a loop of five lines, and on the first day it is one.
# Then the batch does not fit the memory, the machine restarts in the night, the loss turns into NaN, and the other cores
# stand idle. This chapter builds the loop that lives through all of that.

# %% [markdown]
# ![Map of the course: chapter 10 training is marked, in Part II; after 09 muon, and 11 evaluation comes next](images/map_10.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · **10** · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/10_training.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

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
from course_lib.train.distributed import Group, SharedMuon, all_sum
from course_lib.train.muon import Muon
from course_lib.train.optim import lr_multiplier, make_optimizer, muon_momentum
from course_lib.train.recipe import Rates

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

from course_lib.classroom import add_to, budget, check, claim, draw_loss_log, record_loss
from course_lib.classroom.exercises import training as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import bundled_folder, open_dataset
from course_lib.host.stop import stop_when_asked
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.train.flags import CallFlags, eval_batches
from course_lib.train.metrics import draw_metrics, read_metrics
from course_lib.train.muon import newton_schulz
from course_lib.train.pretraining import Documents, Settings, describe, make_recipe
from course_lib.train.run_folder import open_run

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
by_hand, loss_by_hand = dict(tree_flatten(model.parameters())), loss

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
close = 1e-4 if backend.compute_dtype() == mx.float32 else 2e-2  # bfloat16 keeps three digits
for (name, one), (_, two) in zip(tree_flatten(whole), tree_flatten(mean), strict=True):
    assert mx.abs(one - two).max() <= close * mx.abs(two).max(), name
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
# A step has seven numbers that somebody has to choose. They stand together, each with its meaning below it, and are the flags
# of the programs, too (chapter 03). `NonNegative` and `Fraction` are types with bounds, which the programs check.

# %%
#| export train.recipe
"""A run as a value: the model, the steps, the rates, how often it looks at itself and saves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.program import Fraction, NonNegative
from course_lib.model.gpt import GPT, GPTConfig


# %%
#| export train.recipe
@dataclass(frozen=True)
class Rates:
    """Learning rates, and how they change over a run."""

    matrix_lr: NonNegative = 0.02
    """Learning rate of Muon, for the matrices of the blocks."""
    embedding_lr: NonNegative = 0.2
    """Learning rate of AdamW for wte, at n_embd 768."""
    unembedding_lr: NonNegative = 0.004
    """Learning rate of AdamW for lm_head, at n_embd 768."""
    grad_clip: NonNegative = 1.0
    """Largest norm of the gradients; 0 to leave them."""
    warmup_ratio: Fraction = 0.0
    """Fraction of the run over which learning rates rise."""
    warmdown_ratio: Fraction = 0.2
    """Fraction of the run over which learning rates decay."""
    final_lr_frac: Fraction = 0.0
    """Final rate as a fraction of the peak."""


# %% [markdown]
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

    num_iterations: steps of the whole run, which the schedule spans. compiled: use mx.compile; by
    default on a GPU, since on a CPU it gains nothing here. group: the processes that share each
    step, which must all begin with the same weights. rates: those of `Rates`.
    """

    def __init__(
        self,
        model: GPT,
        num_iterations: int,
        *,
        compiled: bool | None = None,
        group: Group | None = None,
        **rates: float,
    ):
        self.model, self.num_iterations, self.rates = model, num_iterations, Rates(**rates)
        if num_iterations < 1 or not self.rates.grad_clip >= 0:
            raise CourseError(
                f"num_iterations={num_iterations}, grad_clip={self.rates.grad_clip}: expected 1 or "
                "more, and 0 or more"
            )
        self.iteration = 0
        self.group = group if group is not None and group.size() > 1 else None
        muon = Muon if self.group is None else partial(SharedMuon, group=self.group)
        learning_rates = self.rates.matrix_lr, self.rates.embedding_lr, self.rates.unembedding_lr
        self.optimizer = make_optimizer(model, *learning_rates, muon)
        self._peaks = [each.learning_rate for each in self.optimizer.optimizers]
        self._compiled = backend.device_kind() != "cpu" if compiled is None else compiled
        self._make_functions()


# %% [markdown]
# Two parts of the step do nearly all the work, gradients and update. On a GPU `mx.compile` makes them faster. It has to be
# told which arrays they read and change: the model's, and the state of each optimizer (chapter 04). The first micro-batch
# has nothing to add to, so it is another function than the rest. Inside `mx.compile` ids have no numbers yet, so the model
# checks them before.

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

        def check_and_add(so_far: dict | None, *batch: mx.array) -> tuple[mx.array, dict]:
            model.check_ids(*batch)
            return first(*batch) if so_far is None else more(so_far, *batch)

        self._add_gradients = check_and_add
        self._update = mx.compile(update, inputs=state, outputs=state)
    else:
        self._add_gradients, self._update = add_gradients, update


# %% [markdown]
# **Accumulate**, with the `mx.eval` of section 2. `mx.async_eval` begins a computation and does not wait for it: while the
# device works on one micro-batch, Python fetches the next one and plans it. Only then does it wait for the first.

# %%
#| export train.trainer
@add_to(Trainer)
def _sum_gradients(
    self, micro_batches: Iterable[tuple[mx.array, mx.array]]
) -> tuple[list[mx.array], dict]:
    """The loss of each micro-batch, and the sum of their gradients; the last may not be done."""
    losses, gradients = [], None
    for inputs, targets in micro_batches:
        loss, gradients = self._add_gradients(gradients, inputs, targets)
        mx.eval(losses)  # those before are done: no two micro-batches are in memory at once
        mx.async_eval(loss, gradients)
        losses.append(loss)
    if gradients is None:
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
    rates = self.rates
    shape = rates.warmup_ratio, rates.warmdown_ratio, rates.final_lr_frac
    multiplier = lr_multiplier(self.iteration, self.num_iterations, *shape)
    for each, peak in zip(self.optimizer.optimizers, self._peaks, strict=True):
        each.learning_rate = peak * multiplier
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
    lazy_losses, gradients = self._sum_gradients(micro_batches)
    if self.group:
        gradients = nn.average_gradients(gradients, self.group)
    grad_norm = global_norm(gradients) / len(lazy_losses)  # waits until all is computed
    losses = [loss.item() for loss in lazy_losses]
    loss = sum(losses) / len(losses)
    if self.group:
        loss = all_sum([loss], self.group)[0] / self.group.size()
    if not math.isfinite(loss + grad_norm):
        raise Diverged(f"the loss is {loss}, the norm of its gradients {grad_norm}")

    multiplier = self._set_rates()
    limit = self.rates.grad_clip
    clip = min(1, limit / (grad_norm + 1e-6)) if limit else 1
    self._update(gradients, mx.array(clip / len(losses)))
    del gradients
    mx.eval(self.model.parameters(), self.optimizer.state)
    result = StepResult(self.iteration, losses, loss, grad_norm, multiplier)
    self.iteration += 1
    return result


# %% [markdown]
# Is it the step of section 1? A new model, the same texts, ten steps. On a CPU the weights must agree. In bfloat16 a gradient
# near 0 may come out with the other sign, and AdamW's first steps look at little but the sign; the loss still agrees.

# %%
model = GPT(SMALL_GPT)
trainer = Trainer(model, num_iterations=10)
results = [trainer.step([text]) for text in texts[:10]]
gap = max(mx.abs(w - by_hand[name]).max().item() for name, w in tree_flatten(model.parameters()))
print(results[0])
print(f"largest difference of a weight after ten steps: {gap:.1e}")
print(f"loss of the last: {results[-1].loss:.6f}, by hand {loss_by_hand:.6f}")
assert abs(results[-1].loss / loss_by_hand - 1) < 1e-2
assert gap < 1e-3 or backend.compute_dtype() != mx.float32
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
        nats, size = all_sum([nats, size], group)
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
val_batches = eval_batches(
    eval_share=0.05, eval_every=20, total_batch_size=2048, batch=8 * 128, val_tokens=math.inf
)
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
    model: GPT, tokenizer: Tokenizer, prompt: str, max_tokens: int = 24, seed: int = 0
) -> str:
    """What the model writes after `prompt`, up to <|bos|>, at temperature 0.8.

    For a look during training: the whole text goes through the model for every token.
    """
    ids = tokenizer.encode(prompt, bos=True)
    start, key = len(ids), mx.random.key(seed)
    for _ in range(max_tokens):
        logits = model(mx.array([ids[-model.config.sequence_len :]]))[0, -1]  # (V,)
        key, now = mx.random.split(key)
        following = mx.random.categorical(logits / 0.8, key=now).item()
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
# ### A run is a value
#
# Before the loop, what it is to do. A `Recipe` has every number of a run: a checkpoint keeps it, and whoever has the recipe and
# the text can do the run again. How often the run looks at itself is its **cadence**.

# %%
#| export train.recipe
@dataclass(frozen=True)
class Cadence:
    """Steps between evaluations, samples and saves; eval_batches: of one, over all processes."""

    eval_every: int
    eval_batches: int
    sample_every: int
    save_every: int


@dataclass(frozen=True)
class Recipe:
    """A run with every number known: what a checkpoint keeps, and what `train` follows.

    total_batch_size: tokens of a step, over all processes. device_batch_size: rows at a time in
    each process. minutes: end by the clock of the first process, and take num_iterations for a
    first guess; never before min_iterations.
    """

    model: GPTConfig
    num_iterations: int
    total_batch_size: int
    sequence_len: int
    device_batch_size: int
    rates: Rates
    cadence: Cadence
    seed: int = 42
    recompute: bool = False
    max_rise: float = 1.5
    minutes: float | None = None
    min_iterations: int = 1

    def micro_batches(self, processes: int) -> int:
        """Micro-batches of each process in a step."""
        return self.total_batch_size // (self.sequence_len * self.device_batch_size * processes)


# %% [markdown]
# And where the batches come from. A loop need not know whether it trains on documents or, in chapter 13, on conversations. It asks
# a **source** for three things: batches from a place on, that place in words for an error, and a look at what the model makes of
# a prompt.

# %%
#| export train.recipe
class Batches(Protocol):
    """Pairs (inputs, targets), each (B, T), for ever; `state`: where the next begins, for JSON."""

    state: dict

    def __iter__(self) -> Iterator[tuple[mx.array, mx.array]]: ...
    def __next__(self) -> tuple[mx.array, mx.array]: ...
    def __enter__(self) -> "Batches": ...
    def __exit__(self, *error) -> None: ...


class Source(Protocol):
    """What a run learns from: documents or conversations. fingerprint: by which they are known."""

    tokenizer: Tokenizer
    fingerprint: str

    def batches(self, split: str, state: dict | None = None) -> Batches:
        """Batches of "train" or "val", from a place or from the beginning."""
        ...

    def place(self, state: dict) -> str:
        """In words, where in the data a `state` is."""
        ...

    def preview(self, model: GPT) -> list[tuple[str, str]]:
        """A few prompts, and what the model makes of them now."""
        ...


# %% [markdown]
# The model of chapter 08's ladder, with twice the tokens to a step, in two micro-batches, half as many steps, and everything from
# above. Muon's rate and the long warmdown are those of chapter 09 for this model, near enough; nanochat's own are meant for larger ones.
# The run looks at as many batches of unseen text as section 4 allows.

# %%
STEPS, EVERY = budget(200, quick=4), budget(20, quick=2)
recipe = Recipe(
    model=LADDER,
    num_iterations=STEPS,
    total_batch_size=2048,
    sequence_len=128,
    device_batch_size=8,
    rates=Rates(matrix_lr=0.01, warmdown_ratio=0.5),
    cadence=Cadence(EVERY, eval_batches=val_batches, sample_every=STEPS, save_every=STEPS),
)
with TokenLoader(data, tokenizer, "val", 8, 128) as loader:
    held_out = list(islice(loader, budget(32, quick=8)))  # what chapters 08 and 09 measured on

# %% [markdown]
# ### The loop
#
# Two small parts first. Each of several processes (section 8) takes its share of a step's micro-batches, and its share of the
# validation text; alone, it takes all.

# %%
#| export train.loop
"""The training loop. Source: nanochat: steps 0 … N, of which the last only looks and saves."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

import mlx.core as mx

from course_lib.host.stop import StopRequest
from course_lib.model.gpt import GPT
from course_lib.train.distributed import Group, all_max
from course_lib.train.recipe import Batches, Recipe, Source
from course_lib.train.run_folder import RunFolder
from course_lib.train.trainer import Trainer, validate


# %%
#| export train.loop
def share_of(batches: Batches, recipe: Recipe, group: Group) -> Iterator[tuple[mx.array, mx.array]]:
    """This process's micro-batches of the next step, of which each process gets as many.

    Every process reads all of them, so that the text of a step, and the place in the data that is
    saved, do not depend on how many processes there are.
    """
    mine = recipe.micro_batches(group.size())
    for number in range(mine * group.size()):
        batch = next(batches)
        if number // mine == group.rank():
            yield batch


def evaluate(model: GPT, source: Source, recipe: Recipe, group: Group) -> float:
    """Bits per byte of the first validation batches; each process takes its share of them."""
    with source.batches("val") as batches:
        mine = islice(batches, group.rank(), recipe.cadence.eval_batches, group.size())
        return validate(model, mine, source.tokenizer.token_bytes, group)


# %% [markdown]
# And the loop. It goes over the steps 0 … N, of which the last one only looks: so there is a measurement before the first step and
# one after the last. A checkpoint comes *before* the look at the model: if the look fails, the work is safe. `out` is the folder
# of the run. It writes down, prints, saves and resumes, none of which is needed to understand the loop; its code,
# `course_lib.train.run_folder`, is written by hand. `stop` knows whether somebody has pressed Ctrl-C.

# %%
#| export train.loop
def train(
    recipe: Recipe, model: GPT, source: Source, out: RunFolder, group: Group, stop: StopRequest
) -> int:
    """All steps that are left: 0, or the exit code of a request to stop, granted after a step."""
    trainer = Trainer(model, recipe.num_iterations, **asdict(recipe.rates), group=group)
    every, place = recipe.cadence, out.resume(trainer)  # weights, optimizers, place in the data
    began = trainer.iteration
    with source.batches("train", place) as batches:
        out.open(began)
        while True:
            step = trainer.iteration
            trainer.num_iterations = out.num_iterations(step)  # or what the clock allows
            is_last = step >= trainer.num_iterations
            if step > began and (is_last or step % every.save_every == 0):
                out.save(trainer, batches.state)
            if is_last or step % every.eval_every == 0:
                out.log(step, bits_per_byte=evaluate(model, source, recipe, group))
            if out.is_first and (is_last or step and step % every.sample_every == 0):
                out.log(step, samples=source.preview(model))
            if is_last:
                return out.finish()
            with out.explaining(step, source.place(batches.state)):
                out.watch(trainer.step(out.show(step, share_of(batches, recipe, group))))
            if code := int(all_max(stop.code, group)):
                out.save(trainer, batches.state)
                return out.stopped(code)


# %% [markdown]
# Thirty lines, and `base_train`, `chat_sft` and `speedrun` run these very ones. Here with the recipe from above:

# %%
group, flags = mx.distributed.init(), CallFlags()
with stop_when_asked() as stop, open_run(scratch / "run", flags, group) as out:
    source = Documents(data, tokenizer, recipe)
    model = out.begin(flags, recipe, source, "section 5", lambda model: None)
    code = train(recipe, model, source, out, group, stop)
entries = read_metrics(scratch / "run" / "metrics.jsonl")
assert code == 0 and len([entry for entry in entries if "loss" in entry]) == STEPS

# %% [markdown]
# Each line of a step has the smoothed loss, the speed (section 9 explains MFU), the memory at its fullest and the time that is
# left. All that was written down, as a picture:

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
losses = [model.loss(*batch, "none").mean().item() for batch in held_out[: budget(32, quick=1)]]
larger_steps, idea = sum(losses) / len(losses), "chapter 09's tokens, in larger steps"
record_loss("10", "by the Trainer", idea, "python docs", steps=STEPS, loss=larger_steps)
draw_loss_log("python docs", until="10")

# %% [markdown]
# The last dot saw as many tokens as those of chapter 09, in half as many steps, each twice as large. It is worse than they are. Is it the
# Trainer, or the steps? The control: the Trainer, with chapter 09's steps.

# %%
trainer = Trainer(GPT(LADDER), budget(400, quick=2), matrix_lr=0.01, warmdown_ratio=0.5)
with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
    for text in islice(loader, trainer.num_iterations):
        trainer.step([text])
losses = [trainer.model.loss(*batch, "none").mean().item() for batch in held_out[: len(losses)]]
small_steps = sum(losses) / len(losses)
print(f"400 steps of 1,024 tokens {small_steps:.2f}, 200 of 2,048 {larger_steps:.2f}")
claim("the smaller steps, twice as many, end lower", small_steps < larger_steps)

# %% [markdown]
# It is the steps: with the same tokens, this small model gains more from many steps than from large ones. The ideas of this chapter make a long run
# possible; none of them makes it better.
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

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.host.files import held, make_folder_atomically, remove_unless_held, sha256_of
from course_lib.host.paths import home_dir
from course_lib.model.gpt import GPT
from course_lib.train.checks import check_meta, config_of, nothing_in, tokenizer_of
from course_lib.train.metrics import read_metrics

# %%
#| export train.checkpoint
WEIGHTS, STATE, META, SUMS = "model.safetensors", "state.safetensors", "meta.json", "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """weights: the model's parameters by name; state: other arrays; meta: what JSON can say."""

    step: int
    weights: dict[str, mx.array]
    state: dict[str, mx.array]
    meta: dict


# %% [markdown]
# **Write** it, all or nothing: into a folder with another name, which gets its real name at the very end. Then
# the oldest ones go, since a checkpoint of d12 has about 1.9 GB.

# %%
#| export train.checkpoint
def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write folder/step_<step>, all of it or nothing; then it and the `keep` - 1 before it stay.

    Later ones go: a run that goes on from an earlier step has found them damaged.
    Raises CourseError when it cannot be written, as on a full disk.
    """
    target = folder / f"step_{checkpoint.step:06d}"
    same = folder / f"step_0{checkpoint.step:06d}"  # one of this step, until the new one is there
    for left in folder.glob(".step_*.part"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with make_folder_atomically(target, aside=same) as part:
            for name, arrays in ((WEIGHTS, checkpoint.weights), (STATE, checkpoint.state)):
                _save_arrays(part / name, arrays)
            meta = {"step": checkpoint.step, **checkpoint.meta}
            (part / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
            sums = {name: sha256_of(part / name) for name in (WEIGHTS, STATE, META)}
            (part / SUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    except (OSError, RuntimeError) as error:
        then = "begin again: nothing was saved yet"
        if older := checkpoint_folders(folder):
            then = f"go on with --resume from {older[0].name}"
        raise CourseError(f"cannot write {target} ({error}); free some space and {then}") from error
    folders = checkpoint_folders(folder)
    first = folders.index(target)
    for path in folders[:first] + folders[first + keep :]:
        remove_unless_held(path)
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
@contextmanager
def _or_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except CourseError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CourseError(
            f"{path} is damaged or no checkpoint ({error}); use another checkpoint"
        ) from error


def read_meta(path: Path) -> dict:
    """What a checkpoint says of itself, without its arrays. Raises CourseError when it cannot."""
    with _or_damaged(path):
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        check_meta(meta, path)
        for entry in read_metrics(path.parent / "metrics.jsonl"):  # measured after it was saved
            if "bits_per_byte" in entry and entry["step"] <= meta["step"]:
                meta["bits_per_byte"] = entry["bits_per_byte"]
        return meta


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises CourseError when a file is missing or is not what was written."""
    with _or_damaged(path), held(path):
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
        for name in (WEIGHTS, STATE, META):
            if sha256_of(path / name) != sums[name]:
                raise CourseError(
                    f"{path} is damaged: {name} is not what was written; use another checkpoint"
                )
        weights, state = mx.load(str(path / WEIGHTS)), mx.load(str(path / STATE))
        mx.eval(weights, state)  # else they are read when needed, and the files may be gone by then
        meta = read_meta(path)
        return Checkpoint(meta["step"], weights, state, meta)


def newest_meta(folder: Path) -> dict | None:
    """What the newest checkpoint of a run whose meta can be read says; None when there is none."""
    for path in checkpoint_folders(folder):
        with suppress(CourseError):
            return read_meta(path)
    return None


def newest_checkpoint(folder: Path) -> Checkpoint:
    """The newest checkpoint of a run that is whole; a line on stderr names each that is damaged.

    Raises CourseError when there is none.
    """
    for path in checkpoint_folders(folder):
        try:
            return load_checkpoint(path)
        except CourseError as error:
            print(f"{error}: going back to the one before", file=sys.stderr)
    raise CourseError(nothing_in(folder))


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
    config = config_of(checkpoint.meta, checkpoint.weights)
    tokenizer, model = tokenizer_of(folder, checkpoint.meta["tokenizer"]), GPT(config)
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
in_one_go, last_place, losses = train(6, of=6)
first_half, place, _ = train(3, of=6)
save(first_half, scratch / "resume", place)
saved = newest_checkpoint(scratch / "resume")
second_half, resumed_place, losses_after = train(3, of=6, saved=saved)
one, two = (t.state() | dict(tree_flatten(t.model.parameters())) for t in (in_one_go, second_half))
same = all(mx.array_equal(one[name], two[name]) for name in one)
print("losses from there:", *(f"{loss:.6f}" for loss in losses_after))
print("weights, optimizers, random numbers equal in every bit:", same)
assert last_place == resumed_place and np.allclose(losses[3:], losses_after, rtol=1e-2)
assert same or backend.device_kind() != "cpu"  # a GPU may add up in another order from run to run

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
"""Several processes that train one model: each has it whole, and they share the work of a step."""

import json
from typing import Any

import mlx.core as mx
import numpy as np

from course_lib.train.muon import Muon

Group = mx.distributed.Group


# %%
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
# one message. (`directions` is the middle of chapter 09's step, the only part that is shared.)

# %%
class SharedMuon(Muon):
    """Muon in several processes: each makes some of the matrices orthogonal, and all get all."""

    def __init__(self, learning_rate: float, group: Group):
        super().__init__(learning_rate)
        self.group = group

    def directions(self, matrices: list[mx.array]) -> list[mx.array]:
        """What each matrix becomes when it is made orthogonal, the same in every process."""
        owners = share_out([m.size * min(m.shape[-2:]) for m in matrices], self.group.size())
        mine = [place for place, owner in enumerate(owners) if owner == self.group.rank()]
        done = dict(zip(mine, super().directions([matrices[place] for place in mine]), strict=True))
        parts = [done.get(place, mx.zeros_like(matrix)) for place, matrix in enumerate(matrices)]
        return sum_together(parts, self.group)


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
# ### Agreeing
#
# Gradients are not all that has to be exchanged. A run must also agree on its recipe, on whether to stop, and on the weights that it
# starts from. All of it is made of sums: process 0 brings its numbers, the others bring zeros, and the sum is what process
# 0 said.

# %%
def broadcast(arrays: dict[str, mx.array], group: Group) -> dict[str, mx.array]:
    """The arrays of process 0, in all processes; all bring the same names, shapes and types."""
    if group.size() == 1:
        return arrays
    received = {}
    for name in sorted(arrays):  # in one order everywhere: else messages meet the wrong ones
        mine = arrays[name] if group.rank() == 0 else mx.zeros_like(arrays[name])
        received[name] = mx.distributed.all_sum(mine, group=group)
        mx.eval(received[name])
    return received


def broadcast_json(value: Any, group: Group) -> Any:
    """What process 0 says, anything that JSON can hold, in all processes."""
    text = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    size = broadcast({"size": mx.array(len(text))}, group)["size"].item()
    text = text if group.rank() == 0 else np.zeros(size, np.uint8)
    received = broadcast({"text": mx.array(text)}, group)["text"]
    return json.loads(bytes(np.array(received)))


def all_max(number: float, group: Group) -> float:
    """The largest of the numbers that the processes bring."""
    return mx.distributed.all_max(mx.array(number, mx.float32), group=group).item()


def all_sum(numbers: list[float], group: Group) -> list[float]:
    """The sums over all processes of the numbers that each brings."""
    return mx.distributed.all_sum(mx.array(numbers, mx.float32), group=group).tolist()


# %% [markdown]
# Alone in its group a process hears itself:

# %%
alone = mx.distributed.init()
if alone.size() == 1:
    assert broadcast_json({"stop": False}, alone) == {"stop": False}
    assert all_max(3.0, alone) == 3.0 and all_sum([1.0, 2.0], alone) == [1.0, 2.0]

# %% [markdown]
# ### The real thing
#
# `base_train` is all of this chapter as a program: it makes a recipe of its flags, opens the text, and calls `train`
# (`course_lib.train.pretraining`, written by hand). With `--processes 2` it starts itself twice
# and joins the two by MLX's distributed engine, a **ring** over the loopback network: each passes numbers on to its
# neighbour.
#
# The cell runs it as a terminal would (there: `uv run base_train …`). The environment variable `COURSE_HOME` gives it a
# home of its own, so that your checkpoints are safe, and `OPENBLAS_NUM_THREADS` one thread for its matrix products, since
# another number of threads may add up in another order.

# %%
home = scratch / "home"
shutil.copytree(bundled_folder().parent, home / "datasets" / bundled_folder().parent.name)
tokenizer.save(home / "tokenizer")
environment = {**os.environ, "COURSE_HOME": str(home), "PYTHONUNBUFFERED": "1"}
environment["OPENBLAS_NUM_THREADS"] = "1"
TINY = "--depth=1 --sequence-len=64 --total-batch-size=512 --device-batch-size=4"
TINY += (
    f" --eval-every=30 --save-every=20 --sample-every=60 --num-iterations={budget(60, quick=40)}"
)


def start(flags):
    """base_train in a process of its own."""
    command = [sys.executable, "-m", "course_lib.scripts.base_train", *flags.split()]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def lines_of(process):
    """What it prints, line by line as it comes, until it is done."""
    for line in process.stdout:
        yield line.rstrip("\n").replace(f"{home}/", "")
    process.wait()


# %%
process = start(f"{TINY} --tag=two --processes=2")
for line in lines_of(process):
    if not line.endswith(" left"):
        print(line)
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
print(list(lines_of(process))[-1])
print("exit code", process.returncode)

# %%
process = start(f"{TINY} --tag=stopped --processes=1 --resume")
print(list(lines_of(process))[-1])
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
entries = [read_metrics(run.with_name(tag) / "metrics.jsonl") for tag in ("two", "stopped")]
one, two = (
    [entry["bits_per_byte"] for entry in each if "bits_per_byte" in entry] for each in entries
)
print(f"bits per byte: {one[-1]:.4f} and {two[-1]:.4f}")
assert abs(one[-1] / two[-1] - 1) < 1e-2
assert gap == 0 or backend.device_kind() != "cpu"

# %% [markdown]
# Here, on a CPU, it is exactly 0: a step has two micro-batches, and a + b is b + a. With four, one process adds
# ((a + b) + c) + d and two add (a + b) + (c + d). That is the same but for rounding, and the weights slowly drift apart in
# their last digits. Equality in every bit is only promised for going on with the *same* number of processes. (A GPU may add
# up in another order from run to run; then only the bits per byte have to agree, within a hundredth.)
#
# Is it faster? `--dry-run` measures a few steps and stops. A larger model, 4,096 tokens to a step:

# %%
LARGER = f"--depth={budget(2, quick=1)} --sequence-len=128 --total-batch-size=4096"
LARGER += " --device-batch-size=8 --num-iterations=100 --dry-run"
for number in (1, 2):
    process = start(f"{LARGER} --processes={number}")
    print(f"--processes={number}:", list(lines_of(process))[-1])
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
# may stay empty; `make_recipe` finds numbers that make sense for this machine and this corpus, and `describe` says what they
# come to.

# %%
num_tokens = sum(map(len, tokenizer.encode_batch(list(data.documents("train")), bos=True)))
recipe = make_recipe(Settings(depth=4), tokenizer.vocab_size, num_tokens, num_tokens / 20)
print(describe(recipe, num_tokens))

# %% [markdown]
# How many steps? There are four ways to say it, and one default:
#
# | flag | the run ends |
# |---|---|
# | `--num-iterations` | after so many steps |
# | `--minutes` | when so much time has passed, whatever the machine does meanwhile; the learning rates fall by the clock, too |
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
refused(lambda: make_recipe(Settings(total_batch_size=1000), 512, num_tokens))
refused(lambda: make_recipe(Settings(total_batch_size=4096, device_batch_size=5), 512, num_tokens))
for rows in (1, 8, 64):
    big = Settings(12, sequence_len=2048, total_batch_size=2**19, device_batch_size=rows)
    try:
        make_recipe(big, 65_536, math.inf)
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
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/10_training_solutions.ipynb](solutions/10_training_solutions.ipynb).
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

# %% [markdown]
# # 10 · Training
#
# **Goal.** Train a GPT for as long as it takes: steps larger than the memory, a loop that watches itself, a run that can be stopped and resumed bit for bit, and the bill before you begin.
#
# | | |
# |---|---|
# | Needs | [06 · Data](06_data.ipynb), [08 · GPT](08_gpt.ipynb), [09 · Muon](09_muon.ipynb) |
# | Time | 70 minutes to read, 65 for the exercises; two to four minutes to run |
# | Memory | under 4 GB |
# | You will build → exported to | the step → `course_lib.train.trainer`; a run as a value → `recipe`; the loop → `loop`, all in `course_lib.train` |
#
# You have text, a model and an optimizer. How long would it take to train a d12, 186 million parameters, on *your* machine?
# This chapter answers twice, roughly now and with a measurement at the end. In between it builds what so long a run needs.

# %% [markdown]
# ![Map of the course: chapter 10 training is marked, in Part II; after 09 muon, and 11 evaluation comes next](images/map_10.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · **10** · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/10_training.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export train.trainer
"""The training step: gradients of several micro-batches, one clipped step of Muon and AdamW.

Source: nanochat (October 2025).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT
from course_lib.train import refusals
from course_lib.train.recipe import Rates

# %%
import json
import tempfile
import time
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from itertools import cycle, islice, product
from pathlib import Path

import numpy as np

from course_lib import backend
from course_lib.classroom import add_to, budget, check, claim, draw_loss_log, record_loss, stored
from course_lib.classroom import draw_training as draw
from course_lib.classroom.exercises import training as exercises
from course_lib.classroom.loss_log import read_losses
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.model.gpt import GPTConfig, init_weights
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.train.checkpoint import Checkpoint, newest_checkpoint, save_checkpoint
from course_lib.train.optim import lr_multiplier, make_optimizer, muon_momentum
from course_lib.train.pretraining import Documents

backend.seed_everything(42)

# %% [markdown]
# ## 1. How long would it take?
#
# Chapter 08 counted the work: each parameter that multiplies costs 2 operations per token on the way forward and 4 on the way
# back. So $N$ parameters and $D$ tokens cost about **6·N·D** operations. (`flops_per_token` leaves out the table of embeddings,
# which multiplies nothing, and adds attention.) nanochat (October 2025) reads 20 tokens for each parameter. The speed of plain
# matrix products on your machine is quickly measured:

# %%
d12 = GPTConfig.from_depth(12)
operations = flops_per_token(d12) * 20 * count_parameters(d12)
products = 1e9 * backend.matmul_gflops(dtype=backend.compute_dtype())  # operations a second
print(f"{operations:.1e} operations, of which this machine does {products:.1e} a second")
days = operations / products / 86_400
print(f"a d12 would take {days:,.1f} days, if training were nothing but products")


# %% [markdown]
# Is it? And why 20 tokens? Both questions come back, in sections 7 and 8. First, a much smaller model, and a tokenizer of 512
# ids that is trained here and not saved:

# %%
data = open_dataset()
tokenizer = Tokenizer.train(data.documents("train"), 512)
with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
    batches = list(islice(loader, 32))  # pairs (inputs, targets), each (8, 128)
with TokenLoader(data, tokenizer, "val", 8, 128) as loader:
    held_out = list(islice(loader, budget(32, quick=4)))  # what chapters 08 and 09 measured on

# %%
SMALL = GPTConfig(128, vocab_size=512, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)


def new_model(config, seed=0):
    model = GPT(config)
    init_weights(model, seed)
    return model


# %% [markdown]
# ## 2. One step by hand
#
# Everything that a step consists of, in order:
#
# 1. the loss and its gradients;
# 2. **clipping**: all gradients together are one long vector, and its length is the **gradient norm**, the root of the sum of
#    all squares. If it is above a limit, the whole vector is made shorter, and keeps its direction;
# 3. the learning rates, times a multiplier that goes down at the end (chapter 09);
# 4. Muon's momentum, which grows over the first 300 steps (chapter 09);
# 5. the update;
# 6. `mx.eval`: all of this was a plan so far. Now it is computed.
#
# `optimizer.optimizers` holds three: Muon first, then AdamW for `wte` and for `lm_head`.


# %%
model = new_model(SMALL)
optimizer = make_optimizer(model)
rates = [part.learning_rate for part in optimizer.optimizers]
loss_and_gradients = nn.value_and_grad(model, model.loss)


def step_by_hand(n, num_iterations, inputs, targets):
    loss, gradients = loss_and_gradients(inputs, targets)  # 1
    norm = math.sqrt(sum(mx.square(g).sum().item() for _, g in tree_flatten(gradients)))  # 2
    gradients = tree_map(lambda g: g * min(1, 1.0 / norm), gradients)
    for part, rate in zip(optimizer.optimizers, rates, strict=True):  # 3
        part.learning_rate = rate * lr_multiplier(n, num_iterations)
    optimizer.optimizers[0].state["momentum"] = mx.array(muon_momentum(n))  # 4
    optimizer.update(model, gradients)  # 5
    mx.eval(model.parameters(), optimizer.state)  # 6
    return loss.item(), norm


# %%
print("step   loss  norm  multiplier  momentum")
for n in range(10):
    loss, norm = step_by_hand(n, 10, *batches[n])
    print(f"{n:4d} {loss:6.3f} {norm:5.2f} {lr_multiplier(n, 10):11.1f} {muon_momentum(n):9.4f}")
    assert n or abs(loss - math.log(512)) < 1e-4
by_hand, loss_by_hand = dict(tree_flatten(model.parameters())), loss

# %% [markdown]
# The first loss is $\ln 512$, as it must be (chapter 08), and it falls from there. Keep these weights: in section 4 the
# finished `Trainer` has to arrive at the same ones.
#
# ## 3. Micro-batches
#
# How many tokens should a step have? nanochat (October 2025) takes 524,288. For a large model, the activations of so many
# tokens fit on no single GPU. So the batch is cut into **micro-batches**. Each gives its gradients; the gradients are added
# up, and the optimizer takes one step with their mean. This is **gradient accumulation**. Since the loss is a mean, only the
# memory changes: two micro-batches of 8 rows give the gradients of one batch of 16.

# %%
ids, targets = (mx.concatenate(pair) for pair in zip(*batches[:2], strict=True))  # 16 rows
loss, whole = loss_and_gradients(ids, targets)
losses, parts = zip(*(loss_and_gradients(*batch) for batch in batches[:2]), strict=True)
mean = tree_map(lambda a, b: (a + b) / 2, *parts)
close = 1e-4 if backend.compute_dtype() == mx.float32 else 2e-2  # bfloat16 keeps three digits
for (name, one), (_, two) in zip(tree_flatten(whole), tree_flatten(mean), strict=True):
    assert mx.abs(one - two).max() <= close * mx.abs(two).max(), name
print(f"loss of 16 rows {loss.item():.6f}, mean of twice 8 {sum(losses).item() / 2:.6f}")


# %% [markdown]
# The mean of means is the mean only when all parts have the same size, as ours do. Exercise 10.1 asks what to do with others.
#
# ### The graph that grows
#
# MLX is lazy: adding gradients only notes what is to be added. If nobody asks for a number, the plan grows by a whole
# forward and backward pass with each micro-batch. What does that do to the memory? Guess before you run the cell.


# %%
def peak(count, evaluate):
    """Megabytes at the fullest moment while the gradients of `count` micro-batches are added up."""
    mx.clear_cache()
    before, so_far = mx.get_active_memory(), None
    mx.reset_peak_memory()
    for batch in batches[:count]:
        _, gradients = loss_and_gradients(*batch)
        so_far = gradients if so_far is None else tree_map(mx.add, so_far, gradients)
        if evaluate:
            mx.eval(so_far)
    mx.eval(so_far)
    return (mx.get_peak_memory() - before) / 1e6


# %%
counts = (1, 2, 4, 8, 16)[:: budget(1, quick=2)]
peaks = {
    "mx.eval after each micro-batch": [peak(count, True) for count in counts],
    "mx.eval once, at the end": [peak(count, False) for count in counts],
}
draw.draw_peaks(counts, peaks)

# %%
often, once = peaks.values()
claim("with mx.eval after each, the most need hardly more than two", often[-1] < 1.2 * often[1])
claim("with one at the end, at least 1.4 times as much", once[-1] > 1.4 * often[-1])

# %% [markdown]
# The solid line is flat: each micro-batch is computed, added and forgotten. The dashed one climbs. (Not to 16 times: MLX frees
# what it can while it computes.)
#
# ## 4. The Trainer
#
# A step has seven numbers that somebody has to choose. The programs have them as flags, and check the bounds that
# `NonNegative` and `Fraction` stand for. The class also says what follows from them: the optimizers, and what changes with
# each step. (Chapter 21 has other rates, and the same Trainer.)

# %%
#| export train.recipe
"""A run as a value: the model, the steps, the rates, how often it looks at itself and saves."""

from dataclasses import dataclass

import mlx.optimizers as optim

from course_lib.host.program import Fraction, NonNegative
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.optim import lr_multiplier, make_optimizer, muon_momentum


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

    def optimizer(self, model: GPT) -> optim.MultiOptimizer:
        """The optimizers of a model; that of the matrices comes first."""
        return make_optimizer(model, self.matrix_lr, self.embedding_lr, self.unembedding_lr)

    def multiplier(self, it: int, num_iterations: int) -> float:
        """What all learning rates are multiplied by at step `it`."""
        shape = self.warmup_ratio, self.warmdown_ratio, self.final_lr_frac
        return lr_multiplier(it, num_iterations, *shape)

    def of_muon(self, it: int, num_iterations: int) -> dict[str, float]:
        """What the state of Muon holds at step `it`, beside its rate."""
        return {"momentum": muon_momentum(it)}


# %% [markdown]
# What comes out of a step, and the error of a run that is lost:

# %%
#| export train.trainer
@dataclass(frozen=True)
class StepResult:
    """What a training step measured."""

    iteration: int  # the step's number, from 0
    losses: list[float]  # nats, of each micro-batch of this process
    loss: float  # the mean over all processes
    grad_norm: float  # before clipping
    lr_multiplier: float  # of all learning rates


# %%
#| export train.trainer
class Diverged(CourseError):
    """Loss or gradients are no numbers, or the loss has risen far: going on makes no sense."""


# %% [markdown]
# The class holds the model, its optimizer and the number of the next step. (`refusals` has the sentences for what makes no sense.)


# %%
#| export train.trainer
class Trainer:
    """Steps of Muon and AdamW on a GPT, with clipping and the schedule of learning rates.

    num_iterations: of the whole run, which the schedule spans; other: what differs from rates.
    """

    def __init__(self, model: GPT, num_iterations: int, rates: Rates | None = None, **other: float):
        self.rates = replace(rates or Rates(), **other)
        refusals.check_run(num_iterations, self.rates.grad_clip)
        self.model, self.num_iterations, self.iteration = model, num_iterations, 0
        self.optimizer = self.rates.optimizer(model)
        self.peaks = [part.learning_rate for part in self.optimizer.optimizers]
        self.loss_and_gradients = nn.value_and_grad(model, model.loss)


# %% [markdown]
# **Accumulate**, as in section 3:


# %%
#| export train.trainer
@add_to(Trainer)
def add_gradients(self, so_far: dict, inputs: mx.array, targets: mx.array) -> tuple[mx.array, dict]:
    """Loss of a micro-batch, and its gradients added to those so far."""
    loss, gradients = self.loss_and_gradients(inputs, targets)
    return loss, tree_map(mx.add, so_far, gradients) if so_far else gradients


# %%
#| export train.trainer
@add_to(Trainer)
def sum_gradients(
    self, micro_batches: Iterable[tuple[mx.array, mx.array]]
) -> tuple[list[float], float, dict]:
    """Loss of each micro-batch, their mean, and the sum of the gradients."""
    losses, gradients = [], {}
    for inputs, targets in micro_batches:
        loss, gradients = self.add_gradients(gradients, inputs, targets)
        mx.eval(loss, gradients)
        losses.append(loss.item())
    refusals.check_micro_batches(losses)
    return losses, sum(losses) / len(losses), gradients


# %% [markdown]
# **The norm.** The squares of each gradient are added up on the device, those of all gradients in Python with `math.fsum`,
# which rounds only once.


# %%
#| export train.trainer
def global_norm(gradients: dict) -> float:
    """The length of all gradients together, as one vector; the same in any order of adding."""
    squares = mx.stack([mx.square(g.reshape(-1)).sum() for _, g in tree_flatten(gradients)])
    return math.sqrt(math.fsum(squares.tolist()))


# %% [markdown]
# **Step.** The rest, in the order of section 2, with one line in the middle that section 2 did not have. A norm sees every
# number of every gradient. If one of them is NaN or infinite, so is the norm, and the step is **refused** before anything has
# changed. Why so strict? Given a gradient with a single NaN, Muon turns the whole matrix into NaN, AdamW only that one number,
# and the next forward pass spreads it to everything. Then the weights are lost.


# %%
#| export train.trainer
@add_to(Trainer)
def set_rates(self) -> float:
    """Set learning rates and momentum of this iteration; what the rates are multiplied by."""
    now = self.iteration, self.num_iterations
    multiplier = self.rates.multiplier(*now)
    for part, peak in zip(self.optimizer.optimizers, self.peaks, strict=True):
        part.learning_rate = peak * multiplier
    for name, number in self.rates.of_muon(*now).items():
        self.optimizer.optimizers[0].state[name] = mx.array(number)
    return multiplier


# %%
#| export train.trainer
@add_to(Trainer)
def update(self, gradients: dict, scale: mx.array) -> None:
    """Move the weights, with gradients that are scaled first."""
    self.optimizer.update(self.model, tree_map(lambda gradient: gradient * scale, gradients))


# %%
#| export train.trainer
@add_to(Trainer)
def step(self, micro_batches: Iterable[tuple[mx.array, mx.array]]) -> StepResult:
    """One step on the mean loss of the micro-batches (inputs, targets), each (B, T).

    Raises CourseError for no micro-batch or a step beyond num_iterations, and Diverged, with the
    weights as they were, when the loss or the gradients are not finite.
    """
    refusals.check_step(self.iteration, self.num_iterations)
    losses, loss, gradients = self.sum_gradients(micro_batches)
    norm = global_norm(gradients) / len(losses)
    if not math.isfinite(loss + norm):
        raise Diverged(f"the loss is {loss}, the norm of its gradients {norm}")
    multiplier, limit = self.set_rates(), self.rates.grad_clip
    clip = min(1, limit / (norm + 1e-6)) if limit else 1
    self.update(gradients, mx.array(clip / len(losses)))
    del gradients  # so that their memory is free for the update
    mx.eval(self.model.parameters(), self.optimizer.state)
    self.iteration += 1
    return StepResult(self.iteration - 1, losses, loss, norm, multiplier)


# %% [markdown]
# Is it the step of section 2? A new model with the same starting values, the same batches, ten steps. On a CPU the weights must
# agree. (In bfloat16 a gradient near 0 may come out with the other sign, and AdamW's first steps look at little but the sign;
# the loss still agrees.)

# %%
trainer = Trainer(new_model(SMALL), num_iterations=10)
results = [trainer.step([batch]) for batch in batches[:10]]

# %%
now = dict(tree_flatten(trainer.model.parameters()))
gap = max(mx.abs(now[name] - by_hand[name]).max().item() for name in now)
print(results[0])
print(f"largest difference of a weight after ten steps: {gap:.1e}")
assert abs(results[-1].loss / loss_by_hand - 1) < 1e-2
assert gap < 1e-3 or backend.compute_dtype() != mx.float32

# %% [markdown]
# And if a number breaks? We put NaNs into one row of the head, such as a bad step might leave behind:

# %%
trainer = Trainer(new_model(SMALL), num_iterations=10)
trainer.step(batches[:2])
trainer.model.lm_head.weight[7] = mx.nan
before = dict(tree_flatten(trainer.model.parameters()))

# %%
try:
    trainer.step(batches[2:4])
except Diverged as error:
    print("refused:", error)
now = dict(tree_flatten(trainer.model.parameters()))
same = all(mx.array_equal(before[name], now[name], equal_nan=True) for name in now)
claim("the weights are untouched and the step is not counted", same and trainer.iteration == 1)


# %% [markdown]
# That is the whole step. The programs use a subclass, `FastTrainer` (`train/fast_trainer.py`, written by hand). On a GPU it compiles
# `add_gradients` and `update`, and several processes ([chapter 20](20_processes.ipynb)) take the mean of their gradients. Tests check that its steps are
# these.
#
# ## 5. The loop
#
# ### A run is a value
#
# A `Recipe` has every number of a run: whoever has the recipe and the text can do the run again. How often the run looks at itself
# is its **cadence**.

# %%
#| export train.recipe
@dataclass(frozen=True)
class Cadence:
    """Steps between evaluations, samples and saves; eval_batches: of one, over all processes."""

    eval_every: int
    eval_batches: int
    sample_every: int
    save_every: int


# %%
#| export train.recipe
@dataclass(frozen=True)
class Recipe:
    """A run with every number known: what a checkpoint keeps, and what `train` follows.

    total_batch_size: tokens of a step, over all processes. device_batch_size: rows of a
    micro-batch. minutes: end by the clock, never before min_iterations.
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

    def micro_batches(self, processes: int = 1) -> int:
        """Micro-batches of each process in a step."""
        return self.total_batch_size // (self.sequence_len * self.device_batch_size * processes)


# %% [markdown]
# ### The loop itself
#
# It goes over the steps 0 … N. The last one only looks, so there is a measurement before the first step and one after the
# last. Three things come from outside. The **source** has the batches, from any place on; a loop need not know whether it trains
# on documents or, in chapter 13, on conversations. `out` keeps the results. `stop` remembers whether somebody pressed Ctrl-C. `batches.state` is chapter 06's place in the text, and `explaining` adds that place to an error. `Record`, below, does the least that works: most of its calls do nothing.
#
# A checkpoint comes *before* the look at the model: if the look fails, the work is safe.

# %%
#| export train.loop
"""The training loop: steps 0 … N, of which the last only looks and saves.

Source: nanochat (October 2025).
"""

from course_lib.host.stop import StopRequest
from course_lib.train.recipe import Recipe
from course_lib.train.run_folder import RunFolder
from course_lib.train.source import Source
from course_lib.train.trainer import Trainer


# %%
#| export train.loop
def train(
    recipe: Recipe, trainer: Trainer, source: Source, out: RunFolder, stop: StopRequest
) -> int:
    """Run the steps that are left. Returns 0, or an exit code if somebody asked to stop."""
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
                out.evaluate(step, trainer.model, source)
            if is_last or step and step % every.sample_every == 0:
                out.sample(step, trainer.model, source)
            if is_last:
                return out.finish()
            with out.explaining(step, source.place(batches.state)):
                out.watch(trainer.step(out.micro_batches(step, batches)))
            if code := out.stop_code(stop):
                out.save(trainer, batches.state)
                return out.stopped(code)


# %% [markdown]
# `base_train`, `chat_sft` and `speedrun` run these very lines. Their `out` is a `RunFolder` (`train/run_folder.py`, written by
# hand), which writes everything down on disk, prints a line per step and obeys Ctrl-C. Here is the smallest thing that will
# do: it remembers what it is told, and saves nothing yet.


# %%
class Record:
    """What the loop asks of its `out`, in its simplest form."""

    def __init__(self, recipe):
        self.recipe, self.results, self.unseen = recipe, [], {}

    def micro_batches(self, step, batches):
        return islice(batches, self.recipe.micro_batches())

    def watch(self, result):
        self.results.append(result)

    def evaluate(self, step, model, source):
        self.unseen[step] = mean_loss(model, held_out[: self.recipe.cadence.eval_batches])

    def num_iterations(self, step):
        return self.recipe.num_iterations

    def stop_code(self, stop):
        return stop.code

    def explaining(self, step, place):
        return nullcontext()  # RunFolder's says on which text a run diverged

    resume = open = save = sample = finish = stopped = lambda self, *_: None


# %%
def mean_loss(model, batches):
    """Nats per token."""
    return sum(model.loss(*batch, "none").mean().item() for batch in batches) / len(batches)


# %% [markdown]
# Now a run: the model of chapter 08's ladder, with 400 steps of 1,024 tokens as in chapter 09, each in two micro-batches. Every
# 40 steps it looks at eight batches of unseen text. `Documents` is the package's source of documents.

# %%
STEPS = budget(400, quick=4)
LADDER = GPTConfig(sequence_len=128, vocab_size=512, n_layer=4, n_head=4, n_kv_head=4, n_embd=128)
sizes = {"total_batch_size": 1024, "sequence_len": 128, "device_batch_size": 4}
cadence = Cadence(budget(40, quick=2), eval_batches=8, sample_every=STEPS, save_every=STEPS)
recipe = Recipe(LADDER, STEPS, **sizes, rates=Rates(warmdown_ratio=0.5), cadence=cadence)

# %%
out = Record(recipe)
trainer = Trainer(new_model(LADDER), STEPS, recipe.rates)
train(recipe, trainer, Documents(data, tokenizer, recipe), out, StopRequest())
training, norms = [[getattr(each, name) for each in out.results] for name in ("loss", "grad_norm")]
draw.draw_run(training, out.unseen, norms, limit=recipe.rates.grad_clip)
early, late = (sum(norm > 1 for norm in part) for part in (norms[:50], norms[-50:]))
claim("far more of the first 50 norms than of the last are above 1", early > 2 * late)

# %% [markdown]
# On the left, both curves fall. The training loss jumps from step to step, since every batch is different text, so look at its mean. Even the mean sags for some 50 steps where a
# long document repeats itself. The unseen loss is always measured on the same text. What would it mean if the solid
# curve kept falling and the dashed one rose? Exercise 10.2 shows six runs, five of them spoiled, and asks you what is wrong.
#
# On the right is the norm of each step's gradients, and the limit above which it is clipped: often at first, later seldom.
#
# ### Which of this helps?
#
# Three choices of this chapter, each with its control:
#
# - **Clipping** is meant for the strange gradient that a strange text makes, which must not rule the optimizers' averages. The
#   control has no limit, and another run has a limit ten times as low.
# - **Larger steps**: as many tokens in half as many steps, of two micro-batches each.
# - **The growing momentum**: in one control it stays at 0.95, as in chapter 09, in another at 0.88.
#
# Three seeds each, with the small model of section 2. Which of the three would you bet on?


# %%
@dataclass(frozen=True)
class Steady(Rates):
    """Rates with a momentum that stays the same."""

    momentum: float = 0.95

    def of_muon(self, it, num_iterations):
        return {"momentum": self.momentum}


def one_run(seed, steps=200, batches_per_step=1, rates=None, **changed):
    """A row: the unseen loss of the small model after a run, and how often its norm was above 1."""
    steps = budget(steps, quick=2)
    trainer = Trainer(new_model(SMALL, seed), steps, rates, warmdown_ratio=0.5, **changed)
    with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
        norms = [trainer.step(islice(loader, batches_per_step)).grad_norm for _ in range(steps)]
    row = {"seed": seed, "steps": steps, "above_1": sum(norm > 1 for norm in norms)}
    return row | {"loss": mean_loss(trainer.model, held_out)}


def runs():
    for seed in range(budget(3, quick=1)):
        for limit in (1.0, 0.0, 0.1):
            yield {"run": f"limit {limit:g}"} | one_run(seed, grad_clip=limit)
        yield {"run": "larger steps"} | one_run(seed, steps=100, batches_per_step=2)
        for momentum in (0.95, 0.88):  # 0.88: about the mean of the growing one in 200 steps
            yield {"run": f"momentum {momentum}"} | one_run(seed, rates=Steady(momentum=momentum))


# %%
rows = stored("training_runs", runs)
found = {row["run"]: [one["loss"] for one in rows if one["run"] == row["run"]] for row in rows}
for name, losses in found.items():
    print(f"{name:13s}", *(f"{loss:.3f}" for loss in losses), f"  mean {np.mean(losses):.3f}")

above = [row["above_1"] for row in rows if row["run"] == "limit 1"]
print(f"limit 1 clipped {above} of {rows[0]['steps']} steps")

# %%
luck = max(max(losses) - min(losses) for losses in found.values())
limits = [np.mean(losses) for name, losses in found.items() if "limit" in name]
claim("the limit makes no difference beyond luck", max(limits) - min(limits) < luck)
for other in ("larger steps", "momentum 0.95"):
    claim(f"{other}: higher, with every seed", min(found[other]) > max(found["limit 1"]))
lower = abs(np.mean(found["momentum 0.88"]) - np.mean(found["limit 1"]))
claim("momentum 0.88 does as well as the growing one", lower < luck)

# %% [markdown]
# **Clipping** buys nothing. With the limit of 1 about a sixth of the steps are clipped, and the losses are the
# same with any limit or none: Muon and AdamW divide the size of a gradient out again (chapter 09). nanochat found no benefit at d12 and d20 either, and
# dropped clipping in January 2026. The course keeps it because the model of October 2025 has it. The **norm** is needed in any case: it
# refuses the NaN, and belongs in the record of a run. (`RunFolder` keeps that record, and stops a run whose smoothed loss has risen
# by 1.5 nats.)
#
# **Larger steps** are worse at the same rates, in half as many steps. (Higher rates might win some of it back; we did not try.) So micro-batches are no way to a
# better model here. They are how a step that *must* be large fits into memory. Why must it be? Many GPUs share one step, and then each needs work enough; and late in a long training, few tokens give a gradient that is mostly noise.
#
# **The momentum** was the one to bet on, at least in a run as short as this. But it need not grow: 0.88 throughout does as well. In 200 steps the
# growing one only gets to 0.92, so what helps here is that it is *lower*. If that is so, then the run
# that you watched should end below chapter 09's Muon, which had the same text, steps and rates:

# %%
loss = mean_loss(trainer.model, held_out)
idea = "Muon's momentum grows, the norm is clipped"
record_loss("10", "by the Trainer", idea, "python docs", STEPS, loss)
draw_loss_log("python docs", until="10")
muon, adamw = ({row["model"]: row for row in read_losses()}[name] for name in ("Muon", "AdamW"))
print(f"here {loss:.3f}; in chapter 09 Muon {muon['loss']:.3f}, AdamW {adamw['loss']:.3f}")
claim("lower than in chapter 09, by far more than luck", loss < muon["loss"] - 3 * muon["spread"])
claim("as low as AdamW there, within luck", abs(loss - adamw["loss"]) < adamw["spread"])

# %% [markdown]
# With a momentum that begins lower Muon draws level with AdamW (in one run, with one seed). So most of AdamW's lead in chapter 09 came from a momentum of 0.95 from the first step on. (Its three seeds there differ by 0.05.)
#
# ## 6. Save, stop, resume
#
# A process can end at any moment. What does the next step depend on?
#
# - the weights;
# - the averages of the optimizers, Muon's and AdamW's, and how many steps AdamW has counted for its bias correction;
# - the number of the step, for the schedules;
# - the place in the text, the `state` of chapter 06;
# - the state of the random numbers, if anything draws some.
#
# The first is the model's, the place is the loader's, and the trainer hands over the rest. MLX keeps the state of its random
# numbers in a list with one array. It is shared with whoever draws, so it must be overwritten in place, by `[:]`.

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
    refusals.check_state(self.state(), state)
    tree = tree_unflatten([(name, state[name]) for name in self.state()])
    self.optimizer.state = tree["optimizer"]
    mx.random.state[0][:] = tree["random"]
    self.iteration = iteration


# %% [markdown]
# Then a **checkpoint** is three files, and a dozen lines. A safetensors file is a header in JSON that says which array lies
# where, and then the plain numbers.


# %%
def save(folder, trainer, place):
    folder.mkdir(exist_ok=True)
    weights = dict(tree_flatten(trainer.model.parameters()))
    mx.save_safetensors(str(folder / "weights.safetensors"), weights)
    mx.save_safetensors(str(folder / "state.safetensors"), trainer.state())
    (folder / "meta.json").write_text(json.dumps({"step": trainer.iteration, "place": place}))


# %%
def load(folder, trainer):
    trainer.model.load_weights(str(folder / "weights.safetensors"))
    meta = json.loads((folder / "meta.json").read_text())
    trainer.load_state(meta["step"], mx.load(str(folder / "state.safetensors")))
    return meta["place"]


# %% [markdown]
# The test is strict: six steps in one go, against a run that is asked to stop in its third step, as by Ctrl-C, and then a **new**
# model and trainer that go on, after another seed. Nearly equal is not enough: every bit must match.


# %%
class Saving(Record):
    """A Record that saves, resumes, and asks to stop after `stop_after` steps."""

    def save(self, trainer, place):
        save(self.folder, trainer, place)

    def resume(self, trainer):
        return load(self.folder, trainer) if self.folder.exists() else None

    def stop_code(self, stop):
        return 130 if len(self.results) == self.stop_after else 0


# %%
scratch = Path(tempfile.mkdtemp())  # your own checkpoints stay as they are
six = replace(recipe, model=SMALL, num_iterations=6)


def run_six(name, stop_after=None, seed=0):
    mx.random.seed(seed)
    out, trainer = Saving(six), Trainer(new_model(SMALL), 6)
    out.folder, out.stop_after = scratch / name, stop_after
    train(six, trainer, Documents(data, tokenizer, six), out, StopRequest())
    weights = dict(tree_flatten(trainer.model.parameters()))
    return [result.loss for result in out.results], trainer.state() | weights


# %%
in_one_go, one = run_six("whole")
first_half, _ = run_six("parts", stop_after=3)
second_half, two = run_six("parts", seed=1)
for losses in (in_one_go, first_half + second_half):
    print(*(f"{loss:.6f}" for loss in losses))
same = in_one_go == first_half + second_half and all(mx.array_equal(one[x], two[x]) for x in one)
exact = backend.device_kind() == "cpu"  # a GPU may add up in another order from run to run
claim("the resumed run is the same in every bit (on a CPU)", same or not exact)

# %% [markdown]
# ### What if something is forgotten?
#
# Then nothing fails. The run goes on, and its loss goes down. What does it cost? A run of 40 steps on a laptop that is closed after
# every 5 of them, and that forgets the same thing each time. Which of the three will be the worst: the optimizers' averages,
# the number of the step, or the place in the text?


# %%
LONG, STOP = budget(40, quick=4), budget(5, quick=2)


def interrupted(forgets, seed):
    """A run of LONG steps in parts: its training losses, and its loss on unseen text."""
    model, state, place, losses = new_model(SMALL, seed), None, None, []
    for done in range(0, LONG, STOP):
        trainer = Trainer(model, LONG)
        if done:
            kept = trainer.state() if forgets == "averages" else state
            trainer.load_state(0 if forgets == "step" else done, kept)
        begin = None if forgets == "place" else place
        with TokenLoader(data, tokenizer, "train", 8, 128, state=begin) as loader:
            losses += [trainer.step([batch]).loss for batch in islice(loader, STOP)]
            state, place = trainer.state(), loader.state
    return losses, mean_loss(model, held_out)


# %%
KINDS = ("nothing", "averages", "step", "place")
pairs = {what: [interrupted(what, n) for n in range(budget(3, quick=1))] for what in KINDS}
losses = {what: np.array([losses for losses, _ in each]) for what, each in pairs.items()}
ends = {what: [end for _, end in each] for what, each in pairs.items()}
draw.draw_forgetting({what: losses[what] - losses["nothing"] for what in KINDS[1:]}, ends)

# %%
last = {what: losses[what][:, -STOP:].mean() for what in KINDS}
for what in KINDS:
    print(f"{what:8s}  training {last[what]:.2f}  unseen", *(f"{end:.2f}" for end in ends[what]))
claim("a run that forgets its place looks better in training", last["place"] < last["nothing"])
claim("and is worse on unseen text, with every seed", min(ends["place"]) > max(ends["nothing"]))
spread = max(max(each) - min(each) for each in ends.values())
others = [abs(np.mean(ends[what]) - np.mean(ends["nothing"])) for what in ("averages", "step")]
claim("what the other two cost is within luck", max(others) < spread)

# %% [markdown]
# The run that forgets its place reads the same five batches eight times and begins to know them by heart. Its training loss
# praises it. That is why this mistake lives long.
#
# The other two hardly show. The averages forget old gradients by themselves, within some twenty steps, and a schedule only matters where it
# changes: the run that forgets its step never comes to the low rates at the end. In a longer run that may cost more, and **nothing
# would tell you**: neither a message nor the curve. So do not look at the curve. Compare bits.
#
# ### What the package adds
#
# `train/checkpoint.py`, written by hand, keeps the same three things, and expects the worst. A checkpoint gets its name only when
# it is whole, so a process that is killed while it writes leaves the older one. Old ones go, since one of d12 has about 1.9 GB. And
# each file has a **checksum**, a number computed from all of its bytes. Flip one bit of one weight:

# %%
for step in (3, 6):
    newest = save_checkpoint(scratch / "robust", Checkpoint(step, one, {}, {}))
file = newest / "model.safetensors"
content = bytearray(file.read_bytes())
content[len(content) // 2] ^= 1
file.write_bytes(content)
with redirect_stderr(StringIO()) as said:
    found = newest_checkpoint(scratch / "robust")
print(said.getvalue().replace(f"{scratch}/", "").strip())
claim("it goes on from the older one", found.step == 3)

# %% [markdown]
# `mx.load` alone would have read the file without a complaint, with one weight changed.
#
# ## 7. How large a model?
#
# Section 1 took 20 tokens for each parameter. Why not a model half as large, on twice the tokens, for the same price? The way to
# find out is to fix the number of operations and to try several sizes. One dial, the depth, sets everything else (here with 16
# numbers of width per layer, where nanochat has 64). Three depths, and three budgets, each five times the one before. For the same
# budget a larger model gets fewer steps:


# %%
def of_depth(depth):
    return GPTConfig.from_depth(depth, 512, 128, aspect_ratio=16, head_dim=16)


DEPTHS, BUDGETS = (1, 2, 4), (1e10, 5e10, 2.5e11)


# %%
def scaling():
    for seed, flops, depth in product(range(budget(2, quick=1)), BUDGETS, DEPTHS):
        config = of_depth(depth)
        steps = budget(round(flops / flops_per_token(config) / 1024), quick=2)
        trainer = Trainer(new_model(config, seed), steps, warmdown_ratio=0.5)
        with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
            for batch in islice(loader, steps):
                trainer.step([batch])
        row = {"depth": depth, "parameters": count_parameters(config), "flops": flops}
        yield row | {"seed": seed, "steps": steps, "loss": mean_loss(trainer.model, held_out)}


# %%
rows = stored("scaling_3x3", scaling)
draw.draw_scaling(rows)

# %%
def losses_of(depth, flops):
    return [row["loss"] for row in rows if (row["depth"], row["flops"]) == (depth, flops)]


def beats(depth, other, flops):
    return max(losses_of(depth, flops)) < min(losses_of(other, flops))


# %%
best = {}
for flops in BUDGETS:
    depth = best[flops] = min(DEPTHS, key=lambda depth: np.mean(losses_of(depth, flops)))
    config = of_depth(depth)
    tokens, parameters = flops / flops_per_token(config), count_parameters(config)
    print(f"{flops:.1e} operations: depth {depth} is best, {parameters:,} parameters,", end=" ")
    without_wte = parameters - 512 * config.n_embd
    print(f"{tokens / parameters:.0f} tokens for each; without wte {tokens / without_wte:.0f}")

# %%
claim("at the smallest budget depth 1 is best, with both seeds", beats(1, 2, BUDGETS[0]))
claim("at the middle one, too", beats(1, 2, BUDGETS[1]))
claim("at the largest, depth 2 is best, with both seeds", beats(2, 1, BUDGETS[2]))
claim("depth 4 is never the best", all(beats(best[flops], 4, flops) for flops in BUDGETS))

# %% [markdown]
# On the left, follow the line of depth 1: it falls, and then flattens. There is only so much that 19,456 parameters can hold. Depth 2
# starts higher, since it has had too few steps, and overtakes. **The best size grows with the budget.**
# On the right are the same losses over the size. Only the largest budget has its best between two worse sizes. For the other two, the smallest model that we tried wins, and a still smaller one might do better.
#
# Larger experiments say how fast it grows: about with the square root of the budget. For four times the operations, take twice the
# parameters *and* twice the tokens. Then tokens per parameter are the same for every budget, and one number can be a rule. Hoffmann
# et al. found about 20. nanochat (July 2026) takes 12 for its own model, counted without `wte`. Our one best size that is no edge has 13, without `wte`
# 18: around there, and this picture can say no more. Our sizes are a factor of three to five apart, so the ratio is known no
# better. The rates were not tuned for each size. Every step has 1,024 tokens, so in the smallest budget depth 4 had only 6 steps. The
# text comes in order, so a longer run also saw other text. At the largest budget depth 1 reads the whole text twice, which may be part of its flattening. And a d12 costs over ten million times as much as our largest run.
#
# ## 8. The bill
#
# ### How well is the machine used?
#
# Section 1 assumed a machine that does nothing but matrix products. How far from that is real training? **Model FLOPs
# utilization**, MFU, is the operations that the model needs for a token, times tokens per second, over the speed of plain products
# on the same machine. 100 % would be training that is nothing but products. Measure a real d12: loss and gradients of a row of 512
# tokens, three times. (The optimizer works once for half a million tokens, and hardly counts.)

# %%
depth, ids_known = budget(12, quick=1), budget(65_536, quick=512)
large = GPTConfig.from_depth(depth, ids_known, sequence_len=512)
model = new_model(large)
both = nn.value_and_grad(model, model.loss)
ids = mx.random.randint(0, large.vocab_size, (1, 513))

# %%
times, products = [], []
for _ in range(3):  # in turn, since other programs come and go
    products.append(1e9 * backend.matmul_gflops(dtype=backend.compute_dtype()))
    begin = time.perf_counter()
    mx.eval(both(ids[:, :-1], ids[:, 1:]))
    times.append(time.perf_counter() - begin)
speed = flops_per_token(large) * 512 / min(times)  # operations a second
share = speed / max(products)
print(f"{512 / min(times):,.0f} tokens a second, MFU {share:.0%}")
claim("between 2 % and 100 % of plain products", 0.02 < share < 1)

# %% [markdown]
# The rest goes into norms, softmax and starting operations: work that the count leaves out. The number holds for one model, one
# machine and one minute; other programs lower it. (Others divide by the speed that the maker of a GPU quotes. No product reaches
# that, so their MFU is lower.)
#
# Suppose that all sizes get as many operations a second out of this machine as this d12 did. Here is the bill, for both of
# nanochat's rules:

# %%
print("        October 2025: 20 a parameter      July 2026: 12 without wte")
print("depth   tokens   operations  days here    tokens   operations  days here")
for depth in (4, 8, 12, 20, 26):
    config = GPTConfig.from_depth(depth)
    print(f"d{depth:<4d}", end="")
    everything, wte = count_parameters(config), config.vocab_size * config.n_embd
    for tokens in (20 * everything, 12 * (everything - wte)):
        work = flops_per_token(config) * tokens
        print(f"{tokens / 1e9:7.2f} bn {work:11.1e} {work / speed / 86_400:10,.1f}", end="  ")
    print()

# %% [markdown]
# So that is the answer to the first question, to a factor of two or so: the optimizer and validation come on top, rows of 2,048
# (counted in the operations, but timed at 512) may run at another speed, and an idle machine is faster. If it says years, you know now, and not in a week. Which rule is right for *this* model, neither
# table nor section 7 can say.
#
# The real thing is a program, made of this chapter's `Recipe`, `Trainer` and `train`. `--dry-run` prints such a bill for your
# machine and ends; without it the run begins, and `--resume` goes on with one that was stopped:
#
# ```bash
# uv run base_train --depth=12 --dataset=fineweb-edu --streaming --dry-run
# uv run base_train --depth=4
# uv run base_train --depth=4 --resume
# ```
#
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
# of all of them together. A part may have count 0, with loss 0.0 and zeros for gradients; if all have, so has the whole.
#
# <details><summary>Hint 1</summary>You know the mean of each part. Can you get its sum back? Sums may be added.</details>
#
# <details><summary>Hint 2</summary>A mean times its count is a sum. Add up the sums, of losses and of gradients, and divide once, at the end, by the sum of
# the counts, or by 1 when that is 0.</details>


# %% tags=["exercise"]
def whole_batch(parts):
    raise NotImplementedError


# %%
check(exercises.whole_batch, whole_batch)


# %% [markdown]
# ### Exercise 10.2 — what is wrong with this run?
#
# 25 minutes, ●●○. Five ways to spoil a run, and a sound one. (A *leak*: the unseen text is among what it trains on.)


# %%
FAULTS = ["none", "nothing moves", "rates too low", "rates too high", "few texts", "leak"]


def spoiled():
    """Every 10 steps, the mean training loss of these steps, and the unseen loss after them."""
    for fault, seed in product(FAULTS, range(budget(3, quick=1))):
        steps, factor = budget(200, quick=20), {"rates too low": 0.02, "rates too high": 30}
        rates = {"matrix_lr": 0.02, "embedding_lr": 0.2, "unembedding_lr": 0.004}
        rates = {name: rate * factor.get(fault, 1) for name, rate in rates.items()}
        trainer = Trainer(new_model(SMALL, seed), steps, warmdown_ratio=0.5, **rates)
        if fault == "nothing moves":
            trainer.update = lambda gradients, scale: None  # the optimizer got another tree
        few = {"few texts": batches[:8], "leak": held_out[:8]}.get(fault)
        with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
            stream = cycle(few) if few else loader
            for done in range(10, steps + 1, 10):
                losses = [trainer.step([batch]).loss for batch in islice(stream, 10)]
                row = {"fault": fault, "seed": seed, "steps": done, "training": np.mean(losses)}
                yield row | {"unseen": mean_loss(trainer.model, held_out[:8])}


# %%
curves = {}
for row in stored("training_faults", spoiled):
    training, unseen = curves.setdefault((row["fault"], row["seed"]), ([], []))
    training.append(row["training"])
    unseen.append(row["unseen"])
order = [4, 2, 0, 5, 3, 1]
panels = {name: curves[FAULTS[n], 0] for name, n in zip("ABCDEF", order, strict=True)}
draw.draw_faults(panels, curves["none", budget(1, quick=0)], every=10)

# %% [markdown]
# Name the six by eye first; grey is a sound run with another seed. (Its own unseen loss rises for a while, from step 80 to 100, as it does with
# each seed: just then the text is a chapter of the language reference, which is full of grammar.) Then write down how you did it:
# `name_fault(training, unseen, sound_training, sound_unseen)` gets four lists of 20 losses, of the run and of a sound one, and returns one of
# `FAULTS`. The check has other seeds. A loss may be NaN, which means rates too high; a single high loss, of a strange text, is no fault.
#
# <details><summary>Hint 1</summary>Which faults can you see in the training curve alone? And which two look the same there?</details>
#
# <details><summary>Hint 2</summary>Compare the last losses with those of the sound run, and allow half a nat. Nothing moves: highest and lowest training loss are nearly the
# same. Too high a loss at the end: was the first one far above the sound run's first? Too low a training loss: look at the unseen one.</details>


# %% tags=["exercise"]
def name_fault(training, unseen, sound_training, sound_unseen):
    raise NotImplementedError


# %%
check(exercises.name_fault, name_fault)


# %% [markdown]
# ### Exercise 10.3 — forget nothing
#
# 25 minutes, ●●●. The check has a little training loop of its own, `exercises.ToyRun(seed)`: read its code
# (`exercises.ToyRun??`). Write `pack(run)`, which returns what must be saved as something that `json.dumps` takes, and
# `unpack(packed)`, which makes a new ToyRun of what `json.loads` gives back: `ToyRun(0)` whose attributes you then
# set will do. It must go on exactly as the old one would have.
#
# <details><summary>Hint 1</summary>Go through `step` line by line and note everything it reads that it has not just computed.</details>
#
# <details><summary>Hint 2</summary>random.Random has getstate and setstate; JSON turns tuples into lists, and setstate wants tuples, inside as well.</details>


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
# - $N$ parameters and $D$ tokens cost about $6ND$ operations. The MFU says what share of its plain products a machine reaches.
# - A step: the mean gradient of its micro-batches, a norm that is checked and clipped, rates and momentum, an update, `mx.eval`.
# - Clipping bought nothing here, a momentum below 0.95 did. The norm refuses the step that would ruin the weights.
# - A checkpoint holds everything that the next step reads. The proof is a resumed run that is equal in every bit.
# - A larger budget of operations wants a larger model, not only a longer run.
#
# ## Pitfalls
#
# - **A resumed run that begins its text again**: its training loss looks good (section 6).
# - **`optimizer.update` with the wrong tree**: nothing moves and nothing complains (exercise 10.2). Look at the loss after ten steps.
# - **A schedule that spans more steps than the run**: it never comes to its low rates.
# - **A bill from the quoted speed of a device**: it is too low, by the MFU.
#
# ## Further reading
#
# - [Training Compute-Optimal Large Language Models](https://arxiv.org/abs/2203.15556), Hoffmann et al., 2022: 20 tokens a parameter.
# - [Scaling Laws for Neural Language Models](https://arxiv.org/abs/2001.08361), Kaplan et al., 2020: where 6·N·D is from.
# - [PaLM](https://arxiv.org/abs/2204.02311), Chowdhery et al., 2022: where MFU is defined.
# - [On the difficulty of training recurrent neural networks](https://arxiv.org/abs/1211.5063), Pascanu et al., 2013: clipping.
# - [nanochat](https://github.com/karpathy/nanochat): its own loop, and its log of what helped.
#
# **Next:** [11 · Evaluation](11_evaluation.ipynb): what does the number say?

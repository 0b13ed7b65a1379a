"""The training step: gradients of several micro-batches, one clipped step of Muon and AdamW.

Source: nanochat.

Exported from notebooks/10_training.ipynb; edit it there.
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

# ---- 3. The Trainer


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
                f"num_iterations={num_iterations}, grad_clip={self.rates.grad_clip}: expected 1 or more, and 0 or more"
            )
        self.iteration = 0
        self.group = group if group is not None and group.size() > 1 else None
        muon = Muon if self.group is None else partial(SharedMuon, group=self.group)
        learning_rates = self.rates.matrix_lr, self.rates.embedding_lr, self.rates.unembedding_lr
        self.optimizer = make_optimizer(model, *learning_rates, muon)
        self._peaks = [each.learning_rate for each in self.optimizer.optimizers]
        self._compiled = backend.device_kind() != "cpu" if compiled is None else compiled
        self._make_functions()

    def _make_functions(self) -> None:
        """The two heavy parts of a step, which mx.compile may make faster."""
        model, optimizer = self.model, self.optimizer
        loss_and_gradients = nn.value_and_grad(model, model.loss)

        def add_gradients(so_far: dict | None, inputs: mx.array, targets: mx.array) -> tuple[mx.array, dict]:
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

    def _sum_gradients(self, micro_batches: Iterable[tuple[mx.array, mx.array]]) -> tuple[list[mx.array], dict]:
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

    def _set_rates(self) -> float:
        """Set learning rates and momentum of this iteration; what the rates are multiplied by."""
        rates = self.rates
        shape = rates.warmup_ratio, rates.warmdown_ratio, rates.final_lr_frac
        multiplier = lr_multiplier(self.iteration, self.num_iterations, *shape)
        for each, peak in zip(self.optimizer.optimizers, self._peaks, strict=True):
            each.learning_rate = peak * multiplier
        self.optimizer.optimizers[0].state["momentum"] = mx.array(muon_momentum(self.iteration))
        return multiplier

    def step(self, micro_batches: Iterable[tuple[mx.array, mx.array]]) -> StepResult:
        """One step on the mean loss of the micro-batches (inputs, targets), each (B, T).

        In several processes each gives as many micro-batches as the others. Raises CourseError for
        no micro-batch or a step beyond num_iterations, and Diverged, with the weights as they
        were, when the loss or the gradients are not finite.
        """
        if self.iteration >= self.num_iterations:
            raise CourseError(f"all {self.num_iterations} steps are done; make a Trainer with more num_iterations")
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

    def state(self) -> dict[str, mx.array]:
        """What the next steps need beside the weights, by name: of the optimizers, and of mx.random."""
        state = {"optimizer": self.optimizer.state, "random": mx.array(mx.random.state[0])}
        return dict(tree_flatten(state))

    def load_state(self, iteration: int, state: dict[str, mx.array]) -> None:
        """Go on after `iteration` steps. Raises CourseError when the state is of another model."""
        shapes = [{name: array.shape for name, array in arrays.items()} for arrays in (self.state(), state)]
        if shapes[0] != shapes[1]:
            raise CourseError("the saved state does not fit this model; go on with the depth of the run")
        tree = tree_unflatten([(name, state[name]) for name in shapes[0]])
        self.optimizer.state = tree["optimizer"]
        mx.random.state[0][:] = tree["random"]
        self.iteration = iteration
        self._make_functions()


def global_norm(gradients: dict) -> float:
    """The length of all gradients together, as one vector; the same in any order of adding."""
    squares = mx.stack([mx.square(g.reshape(-1)).sum() for _, g in tree_flatten(gradients)])
    return math.sqrt(math.fsum(squares.tolist()))


class LossWatch:
    """The smoothed loss of a run, and an alarm when it rises.

    The smoothed loss is an average in which each loss counts 0.9 times as much as the next, as in
    nanochat. max_rise: nats above its lowest value that it may reach.
    """

    def __init__(self, max_rise: float = 1.5, average: float = 0.0, steps: int = 0, lowest: float = math.inf):
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


# ---- 4. How good is it?


def nats_and_bytes(model: GPT, inputs: mx.array, targets: mx.array, token_bytes: mx.array) -> mx.array:
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


def continue_text(model: GPT, tokenizer: Tokenizer, prompt: str, max_tokens: int = 24, seed: int = 0) -> str:
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

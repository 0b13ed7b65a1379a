"""Reinforcement: groups of replies that the model samples itself, their advantages, and the loss.

Source: nanochat, whose simple form of GRPO (Shao et al., 2024) this is.

Exported from notebooks/15_reinforcement.ipynb; edit it there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from course_lib.chat.packing import collate
from course_lib.generate.engine import Engine
from course_lib.generate.rows import Generation
from course_lib.model.gpt import GPT
from course_lib.model.loss import fused_loss
from course_lib.train.recipe import Rates
from course_lib.train.trainer import Trainer

# ---- 1. A model with two habits


@dataclass(frozen=True)
class Group:
    """Several replies to one prompt, and the reward of each."""

    prompt: list[int]
    replies: list[Generation]
    rewards: list[float]


def sample_groups(
    engine: Engine,
    prompts: list[list[int]],
    reward: Callable[[int, Generation], float],
    samples: int,
    **settings,
) -> list[Group]:
    """Let the model write `samples` replies to each prompt, all in one batch, and reward them.

    reward: of (number of the prompt, reply); settings: those of `Engine.generate_batch`.
    """
    many = [prompt for prompt in prompts for _ in range(samples)]
    replies = engine.generate_batch(many, max_rows=min(len(many), 256), **settings)
    groups = []
    for n, prompt in enumerate(prompts):
        own = replies[n * samples : (n + 1) * samples]
        groups.append(Group(prompt, own, [float(reward(n, reply)) for reply in own]))
    return groups


# ---- 2. Better than the others


def group_advantages(rewards: list[float]) -> list[float]:
    """Of each reply: its reward minus the mean of the group."""
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def teaches(group: Group) -> bool:
    """Whether the rewards differ: a group of equals has no advantages."""
    return len(set(group.rewards)) > 1


# ---- 4. The loss


Rendered = tuple[list[int], list[int]]


def rendered(prompt: list[int], reply: Generation, end: int) -> Rendered:
    """(ids, mask) of a prompt and a reply; mask 1: the model has sampled this token, or the end."""
    ended = [end] if reply.finish_reason == "stop" else []
    mask = [0] * len(prompt) + reply.masks + [1] * len(ended)
    return [*prompt, *reply.ids, *ended], mask


def rows_of(groups: list[Group], end: int) -> list[tuple[Rendered, float]]:
    """(row, advantage) of every reply."""
    rows = []
    for group in groups:
        advantages = group_advantages(group.rewards)
        for reply, advantage in zip(group.replies, advantages, strict=True):
            rows.append((rendered(group.prompt, reply, end), advantage))
    return rows


Batch = tuple[mx.array, tuple[mx.array, mx.array]]


def batch_of(rows: list[tuple[Rendered, float]], end: int) -> Batch:
    """(inputs, (targets, advantages)): (B, T) twice, and (B,)."""
    replies = [reply for reply, _ in rows]
    inputs, targets = collate(replies, max(len(ids) for ids, _ in replies) - 1, end)
    advantages = mx.array([advantage for _, advantage in rows])
    return mx.array(inputs), (mx.array(targets), advantages)


def policy_loss(model: GPT, ids: mx.array, targets: mx.array, advantages: mx.array) -> mx.array:
    """Mean of -advantage · log p over the targets (B, T) that are not -1; advantages: (B,).

    With all advantages 1 it is the loss of fine-tuning.
    """
    x = model.hidden(ids).reshape(-1, model.config.n_embd)  # (B T, n_embd)
    sampled = (targets >= 0).astype(mx.float32)
    weights = advantages[:, None] * sampled / mx.maximum(sampled.sum(), 1)
    chosen = mx.maximum(targets, 0).reshape(-1)
    return fused_loss(x, model.head_weight, chosen, weights.reshape(-1), model.config.softcap)


class PolicyTrainer(Trainer):
    """A Trainer on rewards: its micro-batches are those of `batch_of`."""

    def __init__(self, model: GPT, num_iterations: int, rates: Rates | None = None, **other: float):
        super().__init__(model, num_iterations, rates, **other)
        self.loss_and_gradients = nn.value_and_grad(model, lambda ids, aims: policy_loss(model, ids, *aims))

"""Reinforcement: advantages, rows and the loss, against sums over every possible reply."""

import math
from dataclasses import replace
from itertools import product

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from chat_models import taught
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_conversation, render_for_completion
from course_lib.chat.reinforcement import (
    Group,
    PolicyTrainer,
    batch_of,
    group_advantages,
    policy_loss,
    rendered,
    rows_of,
    sample_groups,
    teaches,
)
from course_lib.generate.engine import Engine
from course_lib.generate.rows import Generation
from course_lib.model.gpt import GPT, GPTConfig, init_weights

pytestmark = pytest.mark.usefixtures("float32")

REWARDS = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=8)
PROMPT, END, V, LONGEST = [0, 3], 1, 4, 3  # a language of four tokens, replies of three at most


@pytest.fixture
def small():
    """A model of that language, with a head that is not zero."""
    model = GPT(GPTConfig(8, V, n_layer=1, n_head=2, n_kv_head=2, n_embd=16))
    init_weights(model, 3)
    model.lm_head.weight = 0.3 * mx.random.normal(model.lm_head.weight.shape, key=mx.random.key(1))
    return model


def every_reply():
    """All replies of that language: up to the first END, or LONGEST tokens."""
    for length in range(LONGEST + 1):
        for ids in product([token for token in range(V) if token != END], repeat=length):
            if length < LONGEST:
                yield Generation(list(ids), [1] * length, "stop")
            else:
                yield Generation(list(ids), [1] * length, "max_tokens")


def log_p_of(model, prompt, tokens, sampled):
    """Sum of log p over the tokens that were sampled, one after the other, by the logits themselves."""
    logits = model(mx.array([[*prompt, *tokens][:-1]]))[0]
    log_p = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    places = range(len(prompt) - 1, len(prompt) - 1 + len(tokens))
    return sum((log_p[p, t] for p, t, own in zip(places, tokens, sampled, strict=True) if own), mx.array(0.0))


def with_end(reply):
    ended = reply.finish_reason == "stop"
    return reply.ids + [END] * ended, reply.masks + [1] * ended


def gradients(model, loss):
    return dict(tree_flatten(nn.value_and_grad(model, loss)(model)[1]))


def assert_same(one, other, rel=1e-4):
    for name in one:
        scale = max(mx.abs(one[name]).max().item(), 1e-6)
        assert mx.abs(one[name] - other[name]).max().item() < rel * scale, name


# ---- advantages


@given(REWARDS)
def test_advantages_add_up_to_zero_and_keep_the_order(rewards):
    found = group_advantages(rewards)
    assert math.isclose(sum(found), 0, abs_tol=1e-9)
    for a, b in product(range(len(rewards)), repeat=2):
        assert math.isclose(found[a] - found[b], rewards[a] - rewards[b], abs_tol=1e-9)


@given(st.integers(-3, 3), st.integers(1, 8))
def test_a_group_of_equals_teaches_nothing(reward, count):
    group = Group([0], [Generation([2], [1], "stop")] * count, [float(reward)] * count)
    assert group_advantages(group.rewards) == [0.0] * count and not teaches(group)
    assert teaches(replace(group, rewards=[*group.rewards, reward + 1.0]))


# ---- rows


def test_a_row_trains_what_the_model_sampled_and_its_end():
    reply = Generation([5, 6, 7, 8], [1, 0, 0, 1], "stop")
    assert rendered([2, 3], reply, 9) == ([2, 3, 5, 6, 7, 8, 9], [0, 0, 1, 0, 0, 1, 1])
    for reason in ("max_tokens", "sequence_len"):  # it has not ended
        assert rendered([2, 3], replace(reply, finish_reason=reason), 9) == ([2, 3, 5, 6, 7, 8], [0, 0, 1, 0, 0, 1])


def test_the_row_of_a_reply_is_that_of_the_conversation_it_makes():
    """What fine-tuning renders by hand and what the engine wrote are the same ids and the same mask."""
    model, tokenizer = taught()
    asked = [{"role": "user", "content": "6*7?"}]
    prompt = render_for_completion(tokenizer, asked)
    (reply,) = Engine(model, tokenizer, use_calculator).generate_batch([prompt], temperature=0)
    parts = [("text", "Let me see: "), ("python", "6*7"), ("python_output", "42"), ("text", "It is 42.")]
    said = {"role": "assistant", "content": [{"type": kind, "text": text} for kind, text in parts]}
    assert rendered(prompt, reply, tokenizer.special("<|assistant_end|>")) == render_conversation(
        tokenizer, [*asked, said]
    )


def test_a_batch_by_hand():
    groups = [Group([2], [Generation([3], [1], "stop"), Generation([0, 3], [0, 1], "max_tokens")], [1.0, 0.0])]
    inputs, (targets, advantages) = batch_of(rows_of(groups, END), END)
    assert inputs.tolist() == [[2, 3], [2, 0]]
    assert targets.tolist() == [[3, END], [-1, 3]] and advantages.tolist() == [0.5, -0.5]


def test_the_replies_of_a_prompt_stand_together_and_differ():
    model, tokenizer = taught()
    prompts = [tokenizer.encode(text, bos=True) for text in ("a", "b c")]
    seen = []

    def reward(n, reply):
        seen.append((n, reply))
        return n + len(reply.ids) / 100

    engine = Engine(model, tokenizer)
    how = {"max_tokens": 6, "seed": 5, "temperature": 3.0}
    groups = sample_groups(engine, prompts, reward, 4, **how)
    assert [group.prompt for group in groups] == prompts and [n for n, _ in seen] == [0] * 4 + [1] * 4
    replies = [reply for group in groups for reply in group.replies]
    assert [reply for _, reply in seen] == replies and len({tuple(reply.ids) for reply in replies}) > 4
    assert replies == engine.generate_batch([prompts[0]] * 4 + [prompts[1]] * 4, **how), "they draw their own numbers"
    assert all(group.rewards == [n + len(r.ids) / 100 for r in group.replies] for n, group in enumerate(groups))


# ---- the loss and its gradient


def test_the_loss_is_a_mean_over_what_was_sampled(small):
    replies = [Generation([2, 3, 0], [1, 0, 1], "max_tokens"), Generation([3], [1], "stop")]
    groups = [Group(PROMPT, replies, [3.0, 1.0])]
    inputs, (targets, advantages) = batch_of(rows_of(groups, END), END)
    total = sum(
        -advantage * log_p_of(small, PROMPT, *with_end(reply)).item()
        for reply, advantage in zip(replies, (1.0, -1.0), strict=True)
    )
    assert policy_loss(small, inputs, targets, advantages).item() == pytest.approx(total / 4, rel=1e-5)
    ones = policy_loss(small, inputs, targets, mx.ones(2)).item()
    assert ones == pytest.approx(small.loss(inputs, targets).item(), rel=1e-5)
    nothing = mx.full(targets.shape, -1)
    assert policy_loss(small, inputs, nothing, advantages).item() == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_that_of_the_expected_reward(small, seed):
    """Over all 40 replies of the language, of any length: the sum that sampling estimates."""
    rng, replies = np.random.default_rng(seed), list(every_reply())
    rewards = rng.normal(size=len(replies))

    def chance(model, reply):
        return mx.exp(log_p_of(model, PROMPT, *with_end(reply)))

    def minus_expected(model):
        return -sum(chance(model, reply) * reward for reply, reward in zip(replies, rewards, strict=True))

    chances = [chance(small, reply).item() for reply in replies]
    assert sum(chances) == pytest.approx(1, rel=1e-5)
    baseline = rng.normal()  # whatever it is
    rows = [rendered(PROMPT, reply, END) for reply in replies]
    count = sum(sum(mask) for _, mask in rows)
    weights = [count * p * (reward - baseline) for p, reward in zip(chances, rewards, strict=True)]
    inputs, (targets, advantages) = batch_of(list(zip(rows, weights, strict=True)), END)
    found = gradients(small, lambda model: policy_loss(model, inputs, targets, advantages))
    assert_same(gradients(small, minus_expected), found, rel=1e-3)


def test_groups_shorten_the_gradient_and_do_not_bend_it(small):
    """All groups of two one-token replies, each with its probability: half of the exact gradient."""
    rewards = [1.0, 0.0, 0.5, 2.0]

    def minus_expected(model):
        return -(mx.softmax(model(mx.array([PROMPT]))[0, -1]) * mx.array(rewards)).sum()

    p = mx.softmax(small(mx.array([PROMPT]))[0, -1]).tolist()
    total = {}
    for pair in product(range(V), repeat=2):
        group = Group(PROMPT, [Generation([t], [1], "max_tokens") for t in pair], [rewards[t] for t in pair])
        inputs, (targets, advantages) = batch_of(rows_of([group], END), END)
        found = gradients(small, lambda model, i=inputs, t=targets, a=advantages: policy_loss(model, i, t, a))
        chance = p[pair[0]] * p[pair[1]]
        total = {name: total.get(name, 0) + chance * gradient for name, gradient in found.items()}
    assert_same({name: g / 2 for name, g in gradients(small, minus_expected).items()}, total, rel=1e-3)


@pytest.mark.parametrize("masks", [[1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 1, 0]])
@pytest.mark.parametrize("advantage", [0.75, -0.75])
def test_what_a_tool_forced_is_not_trained(small, masks, advantage):
    """By the sum over the sampled tokens alone, written out; it differs where forced ones are trained as well."""
    reply = Generation([2, 3, 0, 2], masks, "stop")
    own = sum(masks) + 1

    def by_hand(model, sampled):
        return -advantage * log_p_of(model, PROMPT, [*reply.ids, END], [*sampled, 1]) / own

    inputs, (targets, advantages) = batch_of([(rendered(PROMPT, reply, END), advantage)], END)
    found = gradients(small, lambda model: policy_loss(model, inputs, targets, advantages))
    assert_same(gradients(small, lambda model: by_hand(model, masks)), found)
    with pytest.raises(AssertionError):
        assert_same(gradients(small, lambda model: by_hand(model, [1] * 4)), found)


def test_a_step_makes_the_rewarded_reply_likelier_and_the_other_less_likely(small):
    replies = [Generation([2], [1], "stop"), Generation([3], [1], "stop")]
    before = [log_p_of(small, PROMPT, *with_end(reply)).item() for reply in replies]
    trainer = PolicyTrainer(small, 10, matrix_lr=0.001, embedding_lr=0.01, unembedding_lr=0.001)
    batch = batch_of(rows_of([Group(PROMPT, replies, [1.0, 0.0])], END), END)
    result = trainer.step([batch, batch])
    after = [log_p_of(small, PROMPT, *with_end(reply)).item() for reply in replies]
    assert after[0] > before[0] and after[1] < before[1]
    assert result.losses == pytest.approx([policy_loss(small, *flat(batch)).item()] * 2, abs=0.5)


def flat(batch):
    inputs, (targets, advantages) = batch
    return inputs, targets, advantages


def test_a_step_on_equals_moves_nothing(small):
    before = {name: np.array(weight) for name, weight in tree_flatten(small.parameters())}
    replies = [Generation([2], [1], "stop"), Generation([3], [1], "stop")]
    PolicyTrainer(small, 10).step([batch_of(rows_of([Group(PROMPT, replies, [1.0, 1.0])], END), END)])
    after = dict(tree_flatten(small.parameters()))
    assert all(np.array_equal(before[name], np.array(after[name])) for name in before)

# %% [markdown]
# # 15 · Reinforcement
#
# **Goal.** Let the model try, reward the replies that are right, and see what that can teach and what it cannot.
#
# | | |
# |---|---|
# | Needs | [12 · Generation](12_engine.ipynb), [13 · Conversations](13_conversations.ipynb), [14 · Tools and tasks](14_tools_and_tasks.ipynb) |
# | Time | 55 minutes to read, 65 for the exercises; about a minute to run |
# | Memory | under 1 GB |
# | You will build | groups of replies, their advantages and the loss → `course_lib.chat.reinforcement`; the program `chat_rl` |
#
# Fine-tuning shows replies and has the model copy them, the bad ones too. Here is another way: let the model write its *own* replies, check which are right, and make those likelier.

# %% [markdown]
# ![Map of the course: chapter 15 reinforcement is marked, the third one of Part III; after 14 tools, before 16 serving](images/map_15.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · **15** · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/15_reinforcement.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export chat.reinforcement
"""Reinforcement: groups of replies that the model samples itself, their advantages, and the loss.

Source: nanochat, whose simple form of GRPO (Shao et al., 2024) this is.
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

# %%
import math
import os
import random
import tempfile
from dataclasses import replace
from itertools import product
from statistics import mean, pstdev
from unittest.mock import patch

import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_conversation, render_for_completion
from course_lib.chat.lessons import is_test, with_tool
from course_lib.chat.tasks import reply_text
from course_lib.classroom import budget, check, claim, stored
from course_lib.classroom import draw_rewards as draw
from course_lib.classroom.exercises import reinforcement as exercises
from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.records import paired_difference
from course_lib.model.gpt import GPTConfig, init_weights

ON_CPU = backend.device_kind() == "cpu"  # where the numbers of the text were measured

# %% [markdown]
# ## 1. A model with two habits
#
# Chapter 14 had two models for sums: one answers in the head, one asks the calculator. Here is one model that has seen both. Half of its
# demonstrations use the tool, and nothing says which half is better. Sums have numbers of one to three digits; one in ten is held out, by its text.

# %%
tokenizer = Tokenizer.train(["0123456789+-"], 265)  # no merges: a digit is a token
END = tokenizer.special("<|assistant_end|>")


def draw_sum(rng, test=False):
    """A question such as 47-385, of one side of the split, and its answer."""
    while True:
        a, b = (rng.randrange(10 ** rng.randint(1, 3)) for _ in range(2))
        question = f"{a}{rng.choice('+-')}{b}"
        if is_test(question) == test:
            return question, use_calculator(question)


def demonstration(rng, share=0.5):
    """A sum with its answer; a share of them uses the calculator."""
    question, answer = draw_sum(rng)
    content = with_tool(question, answer) if rng.random() < share else answer
    return [{"role": "user", "content": question}, {"role": "assistant", "content": content}]


# %%
for n in (0, 1):
    ids, _ = render_conversation(tokenizer, demonstration(random.Random(n)))
    print(tokenizer.decode(ids))


# %% [markdown]
# Fine-tuning is chapter 13's: targets are −1 where nothing is to be learned, one row for each conversation.

# %%
def fine_tune(model, steps, seed=1, share=0.5):
    """Steps on 32 demonstrations each."""
    trainer, rng = Trainer(model, steps), random.Random(f"fine-tune {seed}")
    for _ in range(steps):
        rows = [render_conversation(tokenizer, demonstration(rng, share)) for _ in range(32)]
        trainer.step([tuple(map(mx.array, collate(rows, 31, END)))])
    return model


def new_model(seed=1):
    model = GPT(GPTConfig(64, tokenizer.vocab_size, n_layer=2, n_head=2, n_kv_head=2, n_embd=64))
    init_weights(model, seed)
    return model


model = fine_tune(new_model(), budget(250, quick=3))


# %% [markdown]
# To see all of its habits, ask the same question several times at temperature 1. The replies to one question, with what each is worth, are a **group**.

# %%
#| export chat.reinforcement
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


# %% [markdown]
# A **reward** is a number that a rule gives to a finished reply. Ours is 1 for a reply that ends and says the right number, else 0, however the model got there. (The engine returns a `Generation`: `ids`, a mask for each in `masks`, and `finish_reason`, "stop" if the model ended the reply.)

# %%
def is_right(answer, reply):
    return reply.finish_reason == "stop" and reply_text(tokenizer, reply.ids) == answer


def ask(model, sums, samples, reward=is_right, **settings):
    """A group for each sum."""
    engine = Engine(model, tokenizer, use_calculator, keep_prefixes=0)
    asked = [[{"role": "user", "content": question}] for question, _ in sums]
    prompts = [render_for_completion(tokenizer, messages) for messages in asked]
    how = {"max_tokens": 32, **settings}
    return sample_groups(engine, prompts, lambda n, r: reward(sums[n][1], r), samples, **how)


# %%
held_out = [draw_sum(random.Random(f"test {n}"), test=True) for n in range(200)]
group = ask(model, held_out[2:3], samples=8)[0]
for reply, reward in zip(group.replies, group.rewards, strict=True):
    print(int(reward), tokenizer.decode(reply.ids))


# %% [markdown]
# Both habits are there. This sum it copies badly, so most of its calls are wrong. Is that typical? Ask 200 held-out sums, and count by habit. A reply used the tool if the calculator forced some of its tokens (mask 0, chapter 14).

# %%
def used_tool(reply):
    return 0 in reply.masks


def tally(groups):
    """What the replies of some groups come to, as shares."""
    shares = [mean(group.rewards) for group in groups]
    rewards = {True: [], False: []}  # by whether the tool was used
    for group in groups:
        for reply, reward in zip(group.replies, group.rewards, strict=True):
            rewards[used_tool(reply)].append(reward)
    found = {"right": mean(shares), "error": pstdev(shares) / len(shares) ** 0.5}
    found["some_right"] = mean(map(bool, shares))  # of the questions
    found["tool"] = len(rewards[True]) / (len(rewards[True]) + len(rewards[False]))
    by_tool, in_head = (mean(each or [0.0]) for each in rewards.values())
    return found | {"right_by_tool": by_tool, "right_in_head": in_head}


# %%
asked = held_out[: budget(200, quick=8)]
before = ask(model, asked, samples=1)
print({name: round(share, 3) for name, share in tally(before).items()})
claim("it uses the tool for about half of the sums", 0.35 < tally(before)["tool"] < 0.65)
by_tool, in_head = (tally(before)[name] for name in ("right_by_tool", "right_in_head"))
claim("with the tool it is far better", by_tool > in_head + 0.4)

# %% [markdown]
# A much better assistant is hidden in this model: one that always uses the tool. **Fine-tuning copies what it is shown**, in the shares in which it is shown. To change the shares, something has to say which replies were good.
#
# ## 2. Better than the others
#
# Is a reward of 1 good? Not for a question that is so easy that all replies get it. So compare a reply with the others to *the same question*: its
# **advantage** is its reward minus the mean of the group.

# %% tags=["nbval-check-output"]
rewards = [1, 0, 0, 1, 0, 0, 0, 0]
print([reward - sum(rewards) / 8 for reward in rewards])

# %% [markdown]
# Replies with a positive advantage are to become likelier, the others less likely. And a group of equals?

# %% tags=["nbval-check-output"]
for rewards in ([1] * 8, [0] * 8):
    print([reward - sum(rewards) / 8 for reward in rewards])


# %% [markdown]
# All advantages are 0. There is nothing to learn where all replies are right, and nothing where none is.

# %%
#| export chat.reinforcement
def group_advantages(rewards: list[float]) -> list[float]:
    """Of each reply: its reward minus the mean of the group."""
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def teaches(group: Group) -> bool:
    """Whether the rewards differ: a group of equals has no advantages."""
    return len(set(group.rewards)) > 1


# %%
groups = ask(model, [draw_sum(random.Random(n)) for n in range(8)], samples=8)
draw.draw_groups([group.rewards for group in groups])
claim("most groups teach", sum(map(teaches, groups)) >= 5)

# %% [markdown]
# Each line is a question, each square a reply, filled with its advantage if it is right. The fewer are right, the more a right one stands out.
#
# ## 3. Why log p times advantage
#
# ### Three arms
#
# "Make it likelier" has to become a gradient. Forget language for a moment. A **bandit** is a machine with a few arms: pull one, get its reward. A **policy** is a probability for each arm, here a softmax of three logits. It is to make the **expected reward** $J = \sum_i p_i r_i$ large.

# %%
logits, arm_rewards = mx.array([0.1, 0.8, -0.2]), mx.array([1.0, 0.0, 0.3])
p = mx.softmax(logits)


def expected_reward(logits):
    return (mx.softmax(logits) * arm_rewards).sum()


exact = mx.grad(expected_reward)(logits)
print("exact gradient", [round(x, 4) for x in exact.tolist()])

# %% [markdown]
# MLX has the exact gradient since we wrote down all three arms. Nobody can write down all replies of a language model; we can only pull some arms and look. But $\nabla \log p_i = \nabla p_i / p_i$, and so
#
# $$ \nabla J = \sum_i p_i \cdot r_i \nabla \log p_i $$
#
# which is an *average over pulls*: pull an arm (arm $i$ comes with probability $p_i$), take the gradient of the logarithm of its probability, times its reward. In numbers:

# %%
of_arm = mx.eye(3) - p  # row i: the gradient of log p_i for the three logits of a softmax
average = (p[:, None] * arm_rewards[:, None] * of_arm).sum(axis=0)
print("average over pulls", [round(x, 4) for x in average.tolist()])
claim("it is the exact gradient", mx.allclose(average, exact, atol=1e-6))

# %% [markdown]
# That is **REINFORCE** (Williams, 1992). We want to climb, and an optimizer goes down. So the loss is $-r \log p$ of what was sampled: cross-entropy, weighted by the reward.
#
# ### What the baseline buys
#
# Now raise all three rewards by 10. The exact gradient stays as it is, since the probabilities always add up to 1. But what do a few pulls say? Estimate the gradient from 16 pulls, many times, with and without subtracting the mean reward $J$, a **baseline**:

# %%
rng = np.random.default_rng(0)
pulls = rng.choice(3, size=(budget(4000, quick=50), 16), p=np.array(p))
by_arm, high = np.array(of_arm), np.array(arm_rewards) + 10
estimates = {
    "reward": (high[pulls][..., None] * by_arm[pulls]).mean(axis=1),
    "reward − mean": ((high - high @ np.array(p))[pulls][..., None] * by_arm[pulls]).mean(axis=1),
}
draw.draw_estimates({name: found[:, 0] for name, found in estimates.items()}, exact[0].item())
far = {name: np.abs(found.mean(axis=0) - np.array(exact)) for name, found in estimates.items()}
spread = {name: found.std(axis=0) for name, found in estimates.items()}
within = [(far[name] < 4 * spread[name] / len(pulls) ** 0.5).all() for name in estimates]
claim("both are right on average", all(within))
noisy, quiet = (each.min() for each in (spread["reward"], spread["reward − mean"]))
claim("without a baseline the noise is over ten times as large", noisy > 10 * quiet)

# %% [markdown]
# Both histograms are centred on the dashed line, the exact slope for the first arm. But without a baseline a single estimate is nearly all noise, and often points the wrong way.
#
# ### The mean of a group
#
# We do not know $J$. The mean of the group estimates it, with one flaw: the reply itself is part of that mean. Does this bend the gradient? Three pulls make $3^3 = 27$ possible groups. Add up all of them, each with its probability:

# %%
bent = mx.zeros(3)
for arms in product(range(3), repeat=3):
    own = [arm_rewards[arm].item() for arm in arms]
    chance = math.prod(p[arm].item() for arm in arms)
    for arm, reward in zip(arms, own, strict=True):
        bent += chance * (reward - mean(own)) * of_arm[arm] / 3
print("all 27 groups", [round(x, 4) for x in bent.tolist()])
claim("the exact one, 2/3 as long", mx.allclose(bent, 2 / 3 * exact, atol=1e-5))

# %% [markdown]
# Shorter by a factor of $(n-1)/n$ for $n$ replies, and otherwise exact: a reward minus the mean of its group is $(n-1)/n$ times the reward minus the mean of the *others*, which know nothing of it. Exercise 15.1 removes the factor.
#
# ## 4. The loss
#
# ### One row
#
# $\log p$ of a reply is the sum over its tokens. So each token *that the model chose* gets the advantage of the reply. The prompt and what the calculator forced are not its doing. The token that ended the reply is, though the engine does not list it.

# %%
#| export chat.reinforcement
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


# %% [markdown]
# Chapter 13's `collate` makes inputs and targets of such rows, −1 for what is not trained.

# %%
#| export chat.reinforcement
Batch = tuple[mx.array, tuple[mx.array, mx.array]]


def batch_of(rows: list[tuple[Rendered, float]], end: int) -> Batch:
    """(inputs, (targets, advantages)): (B, T) twice, and (B,)."""
    replies = [reply for reply, _ in rows]
    inputs, targets = collate(replies, max(len(ids) for ids, _ in replies) - 1, end)
    advantages = mx.array([advantage for _, advantage in rows])
    return mx.array(inputs), (mx.array(targets), advantages)


# %% [markdown]
# The loss is $-\sum A \log p$ over all sampled tokens, divided by how many there are. `fused_loss` (chapters 08 and 19) takes a weight for each token. Until now it was 1 over the number of targets; now it is multiplied by an advantage, which may be negative.

# %%
#| export chat.reinforcement
def policy_loss(model: GPT, ids: mx.array, targets: mx.array, advantages: mx.array) -> mx.array:
    """Mean of -advantage · log p over the targets (B, T) that are not -1; advantages: (B,).

    With all advantages 1 it is the loss of fine-tuning.
    """
    x = model.hidden(ids).reshape(-1, model.config.n_embd)  # (B T, n_embd)
    sampled = (targets >= 0).astype(mx.float32)
    weights = advantages[:, None] * sampled / mx.maximum(sampled.sum(), 1)
    chosen = mx.maximum(targets, 0).reshape(-1)
    return fused_loss(x, model.head_weight, chosen, weights.reshape(-1), model.config.softcap)


# %% [markdown]
# Three checks. Token by token, for our eight groups; with advantages of 1, where it must be chapter 13's loss; and then a harder one.

# %%
inputs, (targets, advantages) = batch_of(rows_of(groups, END), END)
losses = model.loss(inputs, targets, "none")  # -log p of each target, 0 for a -1
summed_up = (advantages[:, None] * losses).sum() / (targets >= 0).sum()
ours = policy_loss(model, inputs, targets, advantages)
as_before = policy_loss(model, inputs, targets, mx.ones(len(inputs)))
close = 1e-4 if ON_CPU else 2e-2  # a GPU computes in bfloat16
claim("token by token: the same", abs(summed_up - ours).item() < close)
claim("advantages of 1: fine-tuning", abs(as_before - model.loss(inputs, targets)).item() < close)

# %% [markdown]
# The harder one: is its *gradient* that of the expected reward? For replies of a single token the model is a bandit with 265 arms, which can all be written down. Reward an even digit. One side is the expected reward, differentiated by MLX; the other is `policy_loss` for every token once, its advantage times its probability (`V` undoes the mean over V targets):

# %%
prompt = mx.array([groups[0].prompt])
V = tokenizer.vocab_size
even = mx.array([float(token in tokenizer.encode("02468")) for token in range(V)])


def minus_expected(model):
    return -(mx.softmax(model(prompt)[0, -1]) * even).sum()


def every_token_once(model):
    p = mx.stop_gradient(mx.softmax(model(prompt)[0, -1]))
    targets = mx.full((V, prompt.shape[1]), -1)
    targets[:, -1] = mx.arange(V)
    return policy_loss(model, mx.repeat(prompt, V, axis=0), targets, V * p * (even - p @ even))


# %%
gradients = [nn.value_and_grad(model, f)(model)[1] for f in (minus_expected, every_token_once)]
one, two = map(dict, map(tree_flatten, gradients))
apart = max((mx.abs(one[name] - two[name]).max() / mx.abs(one[name]).max()).item() for name in one)
claim(
    "it is the gradient of the expected reward, in every matrix", apart < (1e-3 if ON_CPU else 0.1)
)

# %% [markdown]
# ### Not its doing
#
# What if the mask were forgotten? Here is a reply with the tool, and how surprised the model was by each token:

# %%
messages = [{"role": "user", "content": held_out[2][0]}]
messages.append({"role": "assistant", "content": with_tool(*held_out[2])})
ids, mask = render_conversation(tokenizer, messages)
losses = model.loss(mx.array([ids[:-1]]), mx.array([ids[1:]]), "none")[0].tolist()
start = len(render_for_completion(tokenizer, messages))  # the reply begins here
nats, mask = losses[start - 1 :], mask[start:]
draw.draw_surprise([tokenizer.decode([token]) for token in ids[start:]], nats, mask)
forced, own = (mean(x for x, m in zip(nats, mask, strict=True) if m == kind) for kind in (0, 1))
claim("forced ones surprise it more than a blind guess would", own < 1 and forced > math.log(V))


# %% [markdown]
# Hatched bars are forced. Fine-tuning never asked the model to write them, and it finds them less likely than a blind guess among all tokens, $\ln V$ = 5.6 nats. What is so unlikely has a
# large gradient. With the fault, each step would push, and push hard, on digits that the model need not know. Section 6 shows what that does to a run.
#
# ### A trainer
#
# Chapter 10's `Trainer` does the rest: rates, clipping, optimizers.

# %%
#| export chat.reinforcement
class PolicyTrainer(Trainer):
    """A Trainer on rewards: its micro-batches are those of `batch_of`."""

    def __init__(self, model: GPT, num_iterations: int, rates: Rates | None = None, **other: float):
        super().__init__(model, num_iterations, rates, **other)
        self.loss_and_gradients = nn.value_and_grad(
            model, lambda ids, aims: policy_loss(model, ids, *aims)
        )


# %% [markdown]
# ## 5. The run
#
# Each step asks 8 new sums, samples 8 replies to each, and takes one step on all 64. The replies come from the very model that is trained: they are **on-policy**, and
# thrown away afterwards. The rates are a tenth of pretraining's, and fall to 0. `change` is for later: it spoils groups on purpose.

# %%
def reinforce(model, steps, seed=1, reward=is_right, change=lambda group: group):
    """Train on rewards; yields what each step has seen."""
    rates = {"matrix_lr": 0.002, "embedding_lr": 0.02, "unembedding_lr": 0.0004}
    trainer = PolicyTrainer(model, steps, warmdown_ratio=1.0, **rates)
    for step in range(steps):
        sums = [draw_sum(random.Random(f"{seed} {step} {n}")) for n in range(8)]
        groups = list(map(change, ask(model, sums, 8, reward, seed=1000 * seed + step)))
        trainer.step([batch_of(rows_of(groups, END), END)])
        replies = [reply for group in groups for reply in group.replies]
        yield {
            "reward": mean(reward for group in groups for reward in group.rewards),
            "tool": mean(map(used_tool, replies)),
            "live": mean(map(teaches, groups)),
        }


# %%
history = list(reinforce(model, budget(40, quick=2)))
draw.draw_history(history)

# %% [markdown]
# The reward climbs, and with it the use of the tool, which nobody asked for. On the right, fewer groups teach than at first: the better the model, the more groups are all right. With 8 sums a step both jump about. What about the held-out sums?

# %%
after = ask(model, asked, samples=1)
print({name: round(share, 3) for name, share in tally(after).items()})
each = ["".join(str(int(group.rewards[0])) for group in groups) for groups in (before, after)]
gain, error = paired_difference(*each)
print(f"gained: {gain:.1%} ± {error:.1%} of {len(asked)} sums")
claim("that is more than five standard errors", gain > 5 * error)
claim("nine of ten replies use the tool now", tally(after)["tool"] > 0.9)


# %% [markdown]
# (The ± is the standard error of the paired difference, chapter 14: both models answered the same sums.)
#
# ## 6. Is it the reward?
#
# What else could have moved the model towards the tool? Controls:
#
# - **shuffled rewards**: the same rewards, handed out at random within each group;
# - **more fine-tuning**: a new model gets 580 steps of fine-tuning in place of 250, which takes about as long as 250 and the 40 steps on rewards;
# - **forced tokens trained**: the fault of section 4.
#
# For section 7 there are also two rewards that ask for something else, and two models that begin with other habits. All of it with three seeds.

# %%
def shuffled(group):
    return replace(group, rewards=random.sample(group.rewards, len(group.rewards)))


def all_trained(group):
    return replace(group, replies=[replace(r, masks=[1] * len(r.ids)) for r in group.replies])


def is_long(answer, reply):
    return len(reply.ids) / 32


RUNS = {
    "right answers": {},
    "shuffled rewards": {"change": shuffled},
    "forced tokens trained": {"change": all_trained},
    "has called the tool": {"reward": lambda answer, reply: used_tool(reply)},
    "is long": {"reward": is_long, "steps": budget(120, quick=1)},
}


# %% [markdown]
# Each model gets 100 held-out sums, 8 replies each at temperature 1. **pass@1** is the share of replies that are right; **pass@8** is the share of sums to
# which at least one of 8 replies is.

# %%
def examine(model, run, seed, steps):
    """A row on what a model does with the held-out sums."""
    groups = ask(model, held_out[: budget(100, quick=2)], samples=8, seed=99)
    right = [sum(group.rewards) for group in groups]
    row = {"run": run, "seed": seed, "steps": steps} | tally(groups)
    return row | {f"sums_{n}_right": right.count(n) for n in range(9)}


# %%
def experiments():
    steps, more = budget((40, 580), quick=(1, 1))
    for seed in range(1, budget(3, quick=1) + 1):
        for share in (0.5, 0.1, 0.0):
            start = fine_tune(new_model(seed), budget(250, quick=1), seed, share)
            weights = tree_flatten(start.parameters())
            yield examine(start, f"fine-tuned, {share:.0%} tool", seed, 0)
            for run in RUNS if share == 0.5 else ["right answers"]:
                start.load_weights(weights)
                random.seed(seed)
                how = {"steps": steps} | RUNS[run]
                for _ in reinforce(start, seed=seed, **how):
                    pass
                yield examine(start, f"{run}, {share:.0%} tool", seed, how["steps"])
        longer = fine_tune(new_model(seed), more, seed)
        yield examine(longer, "more fine-tuning, 50% tool", seed, more)


rows = stored("reinforcement_runs", experiments)
found = {}
for row in rows:
    found.setdefault(row["run"], []).append(row)


def values(run, name="right", share=50):
    """One number of a run, for each seed."""
    return [row[name] for row in found[f"{run}, {share}% tool"]]


def gains(run, name="right", share=50):
    """By how much each seed's run differs from its fine-tuned model of 250 steps."""
    pairs = zip(values("fine-tuned", name, share), values(run, name, share), strict=True)
    return [b - a for a, b in pairs]


# %%
runs = {run.removesuffix(", 50% tool"): found[run] for run in found if "50%" in run}
for run in runs:
    some, tool = mean(values(run, "some_right")), mean(values(run, "tool"))
    ones = " ".join(f"{share:5.1%}" for share in values(run))
    print(f"{run:21s} pass@1 {ones}   pass@8 {some:5.1%}   tool {tool:5.1%}")
draw.draw_runs(runs)

# %%
ours, moved = gains("right answers"), gains("shuffled rewards")
error = max(row["error"] for row in runs["fine-tuned"] + runs["shuffled rewards"])
claim("shuffled: up or down, by the seed", min(moved) < 0 < max(moved))
claim("and by over five standard errors", max(map(abs, moved)) > 5 * error)
claim("right answers: up by over twice as much", min(ours) > 2 * max(map(abs, moved)))
claim("more fine-tuning: under a quarter", max(gains("more fine-tuning")) < min(ours) / 4)
better = gains("more fine-tuning", "right_by_tool") + gains("more fine-tuning", "right_in_head")
claim("its replies are better, of both kinds", min(better) > 0)
claim("its habits the same", max(map(abs, gains("more fine-tuning", "tool"))) < 0.05)
pairs = zip(values("forced tokens trained"), values("right answers"), strict=True)
claim("the fault costs something with every seed", all(a < b for a, b in pairs))

# %% [markdown]
# (A dot for each seed, with two standard errors to each side; rings: pass@8.) It is the reward, but look at the **shuffled** runs again. Nothing pulls them anywhere, and yet each seed moved, two up and one down. A step on noise
# is as large as any other, since Muon and AdamW divide out the size of a gradient (chapter 09), and forty such steps are a random walk from one habit
# to the other. The bars do not show this: they say how well *this* model was measured, and not what another seed would have given. With one lucky seed you could have published a method that
# learns from random rewards.
#
# **More fine-tuning** makes better replies of both kinds and keeps their shares. **Training the forced tokens** still works here, but less well, presumably since part of each step goes into digits of the calculator.
#
# ### What it taught
#
# Now compare the dots and the rings. pass@1 about doubled. pass@8 was high from the beginning:

# %%
claim("pass@8 was above nine tenths before", min(values("fine-tuned", "some_right")) > 0.9)
claim("and gained less than a tenth", max(gains("right answers", "some_right")) < 0.1)

# %% [markdown]
# Given eight tries, the fine-tuned model could nearly always do the sum. Reinforcement taught it *which of the things that it could do* to do. Whether it teaches more than that is disputed for large models as well (Yue et al., 2025).
#
# ## 7. What can go wrong
#
# ### The reward is taken at its word
#
# Two rewards are easier to write than ours. You want replies that use the calculator, so you pay 1 for each that calls it. Or you have seen that good replies are the long ones, so you pay by the token.

# %%
for run in ("fine-tuned", "right answers", "has called the tool", "is long"):
    tool, ones = mean(values(run, "tool")), mean(values(run))
    by_tool = " ".join(f"{share:5.1%}" for share in values(run, "right_by_tool"))
    print(f"{run:19s} pass@1 {ones:5.1%}, uses the tool {tool:5.1%}, right then: {by_tool}")
honest = values("right answers", "right_by_tool")
for run in ("has called the tool", "is long"):
    pairs = zip(values(run, "right_by_tool"), honest, strict=True)
    claim(f"“{run}”: right less often when it calls, with every seed", all(a < b for a, b in pairs))


# %% [markdown]
# In 40 steps the first reward does nearly as well as the honest one, but it does not mind *which* sum is called. The second (at 40 steps it had only begun, so it got 120) has ruined two of the three models and harmed the third. What does the first of these models write?

# %%
def long_replies():
    model, steps = fine_tune(new_model(), budget(250, quick=1)), budget(120, quick=1)
    for _ in reinforce(model, steps, reward=is_long):
        pass
    for (question, _), group in zip(held_out, ask(model, held_out[:4], samples=1), strict=False):
        reply = tokenizer.decode(group.replies[0].ids)
        yield {"seed": 1, "steps": steps, "sum": question, "reply": reply}


replies = stored("reinforcement_replies", long_replies)
for row in replies:
    print(f"{row['sum']:7s} {row['reply'][:115]} …")
endless = [row["reply"].count("<|python_end|>") > 9 for row in replies]
claim("all four go on with <|python_end|> until they are cut off", all(endless))

# %% [markdown]
# Most of its calls are wrong: some have a digit too many, one has lost its plus. Only what is long counts: a call is long, since the calculator's tokens are paid for, too, and nothing keeps it right. And then it does not end: it repeats a token that does no harm until all 32 tokens are used. Nobody would have thought of that.
#
# This is called **reward hacking**, though the model does not cheat. It does what it is paid for. So reward what you want and not a sign of it, measure something that is not rewarded, and *read the replies*.
#
# ### It cannot reward what is never tried
#
# Now begin with other habits: demonstrations of which only one in ten uses the tool, or none.

# %%
print("                            uses the tool            right")
for share, run in product((10, 0), ("fine-tuned", "right answers")):
    each = values(run, "tool", share) + values(run, "right", share)
    print(f"{share:2d}% shown, {run:13s}", *(f"{x:7.1%}" for x in each))
tools = gains("right answers", "tool", 10)
claim("a rare habit becomes more common, with every seed", min(tools) > 0)
claim("at first most sums get no right reply", max(values("fine-tuned", "some_right", 10)) < 0.5)
claim("it stays below a half", max(values("right answers", "tool", 10)) < 0.5)
claim("what was never shown is never found", max(values("right answers", "tool", 0)) < 0.01)

# %% [markdown]
# A habit shown one time in ten is picked up slowly: more than half of the sums got no right reply in eight tries, and such a group teaches nothing. One that was never shown has no chance. There are no calls to reward. Sampling only finds what the model already does now and then, which is why reinforcement comes *after* fine-tuning.
#
# ## 8. What nanochat leaves out
#
# The method has a name, **GRPO** (group relative policy optimisation; Shao et al., 2024). What you built is a reduced form of it, the one in nanochat (October 2025 and July 2026
# alike). Its own comments call it close to REINFORCE.
#
# | GRPO has | here and in nanochat | why it can go |
# |---|---|---|
# | the ratio $p / p_\text{old}$ in place of $\log p$, clipped | $\log p$ | each batch of replies is used for one step, by the model that wrote it: the ratio is 1, and its gradient that of $\log p$ |
# | advantages divided by the group's standard deviation $\sigma$ | not divided | dividing raises the weight of questions that are nearly always or nearly never answered: from 0.44 to 0.66 of an even group's, below (Liu et al., 2025) |
# | the mean over a reply's tokens, then over replies | one mean over all tokens | else a token of a long wrong reply is blamed less than one of a short wrong reply |
# | a penalty (KL) for moving away from the first model | none | it needs a second model in memory; its main use is with *learned* rewards (a model of what people prefer: **RLHF**, with PPO, the older method from which GRPO descends), which cannot be trusted far from home |
#
# How much does a group pull in all, with and without $\sigma$? Add up its advantages without their signs:

# %%
pull = {}
for count in (1, 2, 4):
    rewards = [1] * count + [0] * (8 - count)
    total = sum(map(abs, group_advantages(rewards)))
    pull[count] = total, total / pstdev(rewards)
    print(f"{count} of 8 right: {total:.2f}, divided by σ {pull[count][1]:.2f}")

plain, divided = (one / even for one, even in zip(pull[1], pull[4], strict=True))
claim("one right: under half of an even group, over half with σ", plain < 0.5 < divided)

# %% [markdown]
# That is a choice, not a mistake; what it changes in a run is not measured here.
#
# ## 9. The program
#
# `chat_rl` does this to a model of `chat_sft`, with any task of chapter 14 whose answers a rule can check. It runs chapter 10's loop with another source of batches: the model itself (`course_lib/chat/reinforcing.py`, written by hand). Where the loop looks at the model, it counts right replies to held-out questions. Replies depend on the weights and the step alone, so a run that was killed and resumed ends with the same bits.
#
# Here it trains the starter model, whose questions are asked in words, to count letters, for a few steps. (Square brackets: a call and what the calculator said.) How many of its groups teach?

# %%
from course_lib.scripts import chat_rl

flags = f"--tag=starter --tasks=counting --num-iterations={budget(6, quick=1)} --questions=4"
with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, COURSE_HOME=home):
    chat_rl.main([*flags.split(), "--sample-every=99", "--eval-every=6"])


# %% [markdown]
# Where a model has practised questions for long, many groups are all right, and little is left to teach. Choose tasks that it gets right now and then. In a terminal:
#
# ```bash
# uv run chat_rl --tag d4                                            # sums, letters, spelling: by the calculator and without
# uv run chat_rl --tag d4 --tasks counting --samples 16 --num-iterations 200
# uv run chat_rl --tag d12 --tasks gsm8k --questions 16 --samples 16 --max-tokens 256    # as nanochat (July 2026)
# uv run chat_eval --stage rl --tag d4
# uv run chat_web --stage rl --tag d4
# ```

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/15_reinforcement_solutions.ipynb](solutions/15_reinforcement_solutions.ipynb).
#
# ### Exercise 15.1 — compared with the others
#
# 10 minutes, ●○○. The mean of a group includes the reply itself, which made the gradient too short. Write `advantages_of_others(groups)`: groups is a list of lists of
# rewards; return lists of the same lengths, in which each reward is compared with the mean of the *other* rewards of its group. With a single reply there is nothing to compare: 0.
#
# <details><summary>Hint 1</summary>
#
# The others add up to the sum of the group minus the reply's own reward. How many are they?
#
# </details>
# <details><summary>Hint 2</summary>
#
# In a group of n: `reward - (sum(group) - reward) / (n - 1)`.
#
# </details>

# %% tags=["exercise"]
def advantages_of_others(groups):
    raise NotImplementedError


# %%
check(exercises.advantages_of_others, advantages_of_others)


# %% [markdown]
# ### Exercise 15.2 — at least one of k
#
# 15 minutes, ●●○. Of each question you have `n` replies, of which some are right: `counts` has one number for each question. Write `pass_at_k(counts, n, k)`: pick k different ones of the n replies; how
# likely is it that at least one is right? Return the mean over the questions, for any k from 1 to n.
#
# <details><summary>Hint 1</summary>
#
# For one question: of all ways to pick k of n, how many pick wrong replies only? `math.comb(a, b)` is the number of ways to pick b of a.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `1 - math.comb(n - c, k) / math.comb(n, k)`, for each question by itself; then the mean. Adding up the counts first gives another number.
#
# </details>

# %% tags=["exercise"]
def pass_at_k(counts, n, k):
    raise NotImplementedError


# %%
check(exercises.pass_at_k, pass_at_k)


# %% [markdown]
# ### Exercise 15.3 — short, but right
#
# 20 minutes, ●●○. Replies should be short as well. The first idea: `right - tokens / longest`. What does it teach in a group in which *no* reply is right? And which habit pays more, an answer in the head, right in 4 of 10 cases with 6 tokens, or one with the tool, right in 95 of 100 with 24, if `longest` is 32? Write a better `short_reward(right, tokens, longest)`; right is True or False, and
# tokens from 1 to longest. Among right replies the shorter one gets more. Wrong replies all get the same. And a habit that is right more often must pay more, for any two habits whose shares of right replies differ by 0.2 or more.
#
# <details><summary>Hint 1</summary>
#
# Take something off right replies only, so that being short pays nothing while being wrong.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The worst case: always short and right in 80 of 100, against always longest and always right. So length may take less than 0.2 off a reward of 1.
#
# </details>

# %% tags=["exercise"]
def short_reward(right, tokens, longest):
    raise NotImplementedError


# %%
check(exercises.short_reward, short_reward)


# %% [markdown]
# ### Exercise 15.4 — find the fault
#
# 20 minutes, ●●●. Somebody gives you a function `loss(log_p, mask, advantages)`: log p of each token (B, T), a mask of ones for sampled tokens and zeros for forced ones (B, T), advantages (B,); it returns one number. You cannot read
# it. Write `trains_forced(loss)`: True if log p of some forced token has an influence on it, False if none has. The check hands you several losses, some of them with faults that show only in some rows.
#
# <details><summary>Hint 1</summary>
#
# Choose log_p, mask and advantages yourself: several rows, both signs, forced tokens in different places. What must not change when log p of a forced token does?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `mx.grad(loss)(log_p, mask, advantages)` is the slope for every log p at once. Where the mask is 0 all of it must be 0.
#
# </details>

# %% tags=["exercise"]
def trains_forced(loss):
    raise NotImplementedError


# %%
check(exercises.trains_forced, trains_forced)

# %% [markdown]
# ## Summary
#
# - Fine-tuning copies the replies that it is shown, good and bad, in their shares. Reinforcement keeps those of its own replies that work.
# - A reply's advantage is its reward minus the mean of its group. A group of equals teaches nothing.
# - The gradient of the expected reward is a mean of advantage · ∇ log p: cross-entropy, each token weighted by the advantage of its reply.
# - Only what the model chose is trained: not the prompt, and not what a tool said.
# - Here it moved pass@1 and hardly pass@8; and a habit that was never shown was never found.
# - The model does what the reward says, not what you meant.
#
# ## Pitfalls
#
# - Forced tokens that are trained (sections 4 and 6).
# - The end of the reply left out of the row: the engine does not list it (section 4).
# - One seed, and no control: shuffled rewards can look like a method (section 6).
# - A reward for a sign of what you want, and replies that nobody reads (section 7).
# - Groups without any right reply: time is spent and nothing moves (sections 2 and 7).
#
# ## Further reading
#
# - [Simple statistical gradient-following algorithms for connectionist reinforcement learning](https://doi.org/10.1007/BF00992696), Williams, 1992: REINFORCE.
# - [DeepSeekMath](https://arxiv.org/abs/2402.03300), Shao et al., 2024: GRPO.
# - [Understanding R1-Zero-like training](https://arxiv.org/abs/2503.20783), Liu et al., 2025: what σ and the mean over a reply's tokens do.
# - [Does reinforcement learning really incentivize reasoning capacity in LLMs beyond the base model?](https://arxiv.org/abs/2504.13837), Yue et al., 2025: pass@k before and after, in large models.
# - [Concrete problems in AI safety](https://arxiv.org/abs/1606.06565), Amodei et al., 2016: reward hacking.
#
# **Next:** [16 · Serving](16_serving.ipynb), where many people ask at once.

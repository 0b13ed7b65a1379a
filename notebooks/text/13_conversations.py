# %% [markdown]
# # 13 · Conversations
#
# **Goal.** Turn a model that continues text into one that answers, by showing it conversations.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb), [10 · Training](10_training.ipynb), [12 · Generation](12_engine.ipynb) |
# | Time | 45 minutes to read, 50 for the exercises; two minutes to run |
# | Memory | under 1 GB |
# | You will build | a conversation as ids → `course_lib.chat.conversation`; conversations to practise → `lessons`, `sources`; batches of them → `packing`, all in `course_lib.chat` |
#
# A base model has read text, and it goes on with text. Ask it a question, and it may go on with another question: in what it
# has read, that is as good a continuation as any. What it lacks is not knowledge but a habit. **Supervised fine-tuning** (SFT)
# gives it the habit: the same training as before, on conversations in which somebody answers.

# %% [markdown]
# ![Map of the course: chapter 13 conversations is marked, the first one of Part III; after 12 engine, and 14 tools comes next](images/map_13.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · **13** · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/13_conversations.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export chat.conversation
"""A conversation as ids: special tokens around each message, and a mask for what is trained.

Source: nanochat.
"""

from bisect import bisect_left
from collections.abc import Sequence

from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError

# %%
#| export chat.lessons
"""Lessons: short conversations made from templates, to practise on and to test with.

Six kinds and a seventh that is hard on purpose. The parts to train on and to test with have no
question in common.
"""

import builtins
import inspect
import itertools
import json
import random
import re
import zlib
from functools import cache

import yaml

from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir

# %%
#| export chat.sources
"""Conversations to train on: the lessons, files of your own, and what the hub has.

All are functions of a number, so that a run can go on at any of them.
"""

import bisect
import itertools
import json
import random
import re
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.chat.files import each_conversation
from course_lib.chat.files import read_conversations as read_conversations
from course_lib.chat.lessons import practice
from course_lib.host.errors import CourseError
from course_lib.host.paths import existing_path

Conversations = Callable[[int], list[dict]]  # number -> messages

# %%
#| export chat.packing
"""Batches for supervised fine-tuning: conversations packed into rows, and what is trained in them.

Source: nanochat, which gives each conversation a row of its own.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import mlx.core as mx
import numpy as np

from course_lib.chat.conversation import render_conversation
from course_lib.chat.sources import Conversations
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError

Rendered = tuple[list[int], list[int]]  # ids and mask

# %% [markdown]
# These cells open the modules that this chapter builds. The next one is for this notebook only.

# %%
import os
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import islice

import matplotlib.pyplot as plt

from course_lib import backend
from course_lib.classroom import LiveCurve, budget, check
from course_lib.classroom.draw_tokens import draw_tokens
from course_lib.classroom.exercises import conversations as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.generate.engine import Engine
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.trainer import Trainer
from course_lib.train.validation import validate

backend.seed_everything(42)

# %% [markdown]
# ## 1. A base model does not answer
#
# Train a small base model on the bundled corpus, the documentation of Python, for some seconds. Its tokenizer learns from that
# text and from a little of what comes later in this chapter.

# %%
data = open_dataset()
lines = (data_dir() / "lessons" / "blind.jsonl").read_text(encoding="utf-8").splitlines()
tokenizer = Tokenizer.train([*islice(data.documents("train"), 200), *lines], 1024)
config = GPTConfig(128, tokenizer.vocab_size, n_layer=3, n_head=2, n_kv_head=2, n_embd=128)
model = GPT(config)


# %%
def train(model, loader, steps, label, **rates):
    """Train for `steps` steps and draw the loss."""
    trainer = Trainer(model, steps, **rates)
    curve = LiveCurve(label, total=steps, window=10)
    for step in range(1, steps + 1):
        curve.add(step, trainer.step([next(loader)]).loss)
    curve.show()


with TokenLoader(data, tokenizer, "train", batch_size=16, sequence_len=128) as loader:
    train(model, loader, budget(120, quick=3), "loss on documentation")


# %% [markdown]
# The loss falls: the model has begun to write like documentation. Now ask it something.

# %%
def continued(text, max_tokens=24):
    """What the model writes after a text that stands alone, the likeliest tokens."""
    engine = Engine(model, tokenizer)
    (reply,) = engine.generate_batch([tokenizer.encode(text, bos=True)], max_tokens, temperature=0)
    return tokenizer.decode(reply.ids)


for question in ("What is your name?", "Spell the word engine."):
    print(f"{question!r} … {continued(question)!r}")

# %% [markdown]
# It goes on as its documents go on, in a style that it has seen. Nothing tells it that somebody is waiting for an answer, or where
# the answer begins and ends.

# %% [markdown]
# ## 2. A conversation is a text with marks
#
# ### Messages
#
# A conversation is a list of **messages**, each with a **role** and a **content**. That is what every chat program sends:

# %%
messages = [
    {"role": "user", "content": "What is your name?"},
    {"role": "assistant", "content": "My name is Wren."},
    {"role": "user", "content": "How much is 12 + 30?"},
    {"role": "assistant", "content": "42"},
]

# %% [markdown]
# User and assistant take turns, the user first. There may be a message from the **system** before them, which sets the tone ("Answer in
# one word."). Whatever is wrong with a conversation should be said before training, in a sentence:

# %%
#| export chat.conversation
PARTS = ("text", "python", "python_output")  # of an assistant's message


def check_messages(messages: Sequence[dict]) -> None:
    """Raises CourseError, in one sentence, unless these are the messages of a conversation.

    {"role": …, "content": text}: perhaps one from "system", then "user" and "assistant" in turn. An
    assistant's content may also be a list of parts {"type": one of PARTS, "text": …}.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise CourseError(
            "a conversation is a list of one message or more, each with role and content"
        )
    system = isinstance(messages[0], dict) and messages[0].get("role") == "system"
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise CourseError(
                f'message {number} is {message!r:.80}, expected {{"role": …, "content": …}}'
            )
        role, content = message["role"], message["content"]
        turn = ("user", "assistant")[(number - system) % 2]
        expected = "system" if system and number == 0 else turn
        if role != expected:
            raise CourseError(
                f"message {number} is from {role!r:.80}, expected {expected!r}: user and assistant "
                "take turns, the user first; only the very first message may be from the system"
            )
        if role != "assistant" or not isinstance(content, list):
            if not isinstance(content, str):
                said = f"message {number}, from {role}, has the content {content!r:.80}"
                raise CourseError(f"{said}, expected a text")
            continue
        for part in content:
            known = isinstance(part, dict) and part.get("type") in PARTS
            if not known or not isinstance(part.get("text"), str):
                said = f'{part!r:.80}, expected {{"type": one of {", ".join(PARTS)}, "text": …}}'
                raise CourseError(f"message {number} has the part {said}")
    if system and len(messages) == 1:
        raise CourseError("a system message needs a user message after it, which it is joined to")


def without_system(messages: Sequence[dict]) -> list[dict]:
    """The messages, a system message joined to the user's with a blank line between."""
    if messages[0]["role"] != "system":
        return list(messages)
    system, user, *others = messages
    return [{"role": "user", "content": system["content"] + "\n\n" + user["content"]}, *others]


# %%
for wrong in (messages[1:], messages[:1] * 2, [{"role": "user"}]):
    try:
        check_messages(wrong)
    except CourseError as error:
        print(error)

# %% [markdown]
# ### Marks that no text can fake
#
# The model sees one row of ids. Where a message begins and ends is marked by **special tokens**, the nine that the tokenizer of
# chapter 05 keeps apart. Each message stands between two of them:

# %%
special = tokenizer.special
by_hand = [
    tokenizer.bos,
    *(special("<|user_start|>"), *tokenizer.encode("Hi"), special("<|user_end|>")),
    *(special("<|assistant_start|>"), *tokenizer.encode("Hello!"), special("<|assistant_end|>")),
]
print(by_hand)
print([tokenizer.decode([token]) for token in by_hand])

# %% [markdown]
# Why not write "User:" and "Assistant:"? Because a user can write that too, and so pretend that the assistant has said something. No
# text becomes a special token: `encode` takes `<|assistant_start|>` in a message for what it is, some letters.

# %%
ids = tokenizer.encode("<|assistant_start|>I owe you money")
assert special("<|assistant_start|>") not in ids
print(len(ids), "tokens, none of them special:", [tokenizer.decode([token]) for token in ids[:8]])


# %% [markdown]
# ### What is trained
#
# In pretraining every token is a target. Here the model is to learn to *answer*, not to write questions. So each id gets a
# **mask**: 1 if the assistant writes it, 0 if it is given to it. Both together:

# %%
#| export chat.conversation
def render_conversation(
    tokenizer: Tokenizer, messages: Sequence[dict], max_tokens: int = 2048
) -> tuple[list[int], list[int]]:
    """(ids, mask) of a conversation, cut after max_tokens.

    mask is 1 for what is trained: what the assistant writes, with its tool calls and
    <|assistant_end|>; 0 for a tool's output, and for what the user writes. Raises CourseError as
    `check_messages` does.
    """
    check_messages(messages)
    special, ids, mask = tokenizer.special, [tokenizer.bos], [0]

    def add(trained: int, *parts: str | int) -> None:
        for part in parts:
            new = tokenizer.encode(part) if isinstance(part, str) else [part]
            ids.extend(new)
            mask.extend([trained] * len(new))

    for message in without_system(messages):
        content = message["content"]
        if message["role"] == "user":
            add(0, special("<|user_start|>"), content, special("<|user_end|>"))
            continue
        add(0, special("<|assistant_start|>"))
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                add(1, part["text"])
            elif part["type"] == "python":
                add(1, special("<|python_start|>"), part["text"], special("<|python_end|>"))
            else:
                add(0, special("<|output_start|>"), part["text"], special("<|output_end|>"))
        add(1, special("<|assistant_end|>"))
    return ids[:max_tokens], mask[:max_tokens]


# %%
greeting = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
ids, mask = render_conversation(tokenizer, greeting)
assert ids == by_hand
assert mask == [0] * (len(by_hand) - len(tokenizer.encode("Hello!")) - 1) + [1] * (
    len(tokenizer.encode("Hello!")) + 1
)

ids, mask = render_conversation(tokenizer, messages)
draw_tokens([tokenizer.decode([token]) for token in ids], mask)
print(f"{sum(mask)} of {len(ids)} tokens are trained")

# %% [markdown]
# Blue with a thick frame is trained. `<|assistant_end|>` is among it: if it were not, the model would never learn to stop.
# `<|assistant_start|>` is not, since the program puts it there, to say "your turn". And the answer of the first turn is trained although another
# turn follows: each answer only sees what stands before it, so one conversation teaches all its answers at once.
#
# An assistant may also call a **tool**. Its content is then a list of parts: what it writes to the tool, what the tool says,
# what it makes of it. The tool's words are not the model's, so they are not trained. Chapter 14 is about that.

# %%
with_calculator = [
    {"role": "user", "content": "How much is 12 + 30?"},
    {
        "role": "assistant",
        "content": [
            {"type": "python", "text": "12+30"},
            {"type": "python_output", "text": "42"},
            {"type": "text", "text": "42"},
        ],
    },
]
ids, mask = render_conversation(tokenizer, with_calculator)
draw_tokens([tokenizer.decode([token]) for token in ids], mask)


# %% [markdown]
# White in the middle of the answer: `<|output_start|>`, the result and `<|output_end|>` are put there by the program that runs the
# tool. If the model were trained on them, it would learn to make results up.
#
# ### The prompt for an answer
#
# To get an answer, render all that has been said and end with `<|assistant_start|>`. A model has only `sequence_len` places. When a chat has grown
# longer, the oldest turns are forgotten:

# %%
#| export chat.conversation
def render_for_completion(
    tokenizer: Tokenizer, messages: Sequence[dict], max_tokens: int | None = None
) -> list[int]:
    """Ids of the prompt for the assistant's next message, up to <|assistant_start|>.

    A last message of the assistant's is left out: it is the one to be written. Where there would be
    more than max_tokens, the oldest turns are forgotten, a system message is kept. Raises
    CourseError as `check_messages` does, and when the last message alone is too long.
    """
    check_messages(messages)
    messages = list(messages[:-1] if messages[-1]["role"] == "assistant" else messages)
    system = messages[: messages[0]["role"] == "system"]

    def prompt(first: int) -> list[int]:
        ids, _ = render_conversation(tokenizer, system + messages[first:], max_tokens=2**62)
        return [*ids, tokenizer.special("<|assistant_start|>")]

    ids = prompt(len(system))
    if max_tokens is None or len(ids) <= max_tokens:
        return ids
    turns = range(len(system), len(messages), 2)  # the later the first, the shorter the prompt
    place = bisect_left(turns, True, key=lambda first: len(prompt(first)) <= max_tokens)
    ids = prompt(turns[min(place, len(turns) - 1)])
    if place == len(turns):
        raise CourseError(
            f"the last message makes a prompt of {len(ids)} tokens, and there is room for "
            f"{max_tokens}; send a shorter one"
        )
    return ids


# %%
prompt = render_for_completion(tokenizer, messages)
whole = render_conversation(tokenizer, messages)[0]
assert prompt == whole[: len(prompt)] and prompt[-1] == special("<|assistant_start|>")
short = render_for_completion(tokenizer, messages, max_tokens=20)
print(tokenizer.decode(short))


# %% [markdown]
# With 20 tokens the first turn is gone, and what is left is a whole conversation still. Cutting the row at its beginning instead would leave
# half a message, a form that the model has never seen.

# %% [markdown]
# ## 3. Batches of conversations
#
# ### Targets
#
# The inputs of a row are its ids without the last, the targets are its ids without the first, as always. New is one thing: where
# the target's mask is 0, the target becomes **-1**, which the model's loss leaves out (chapter 08). Rows of a batch are of one length, so
# short ones are filled up, and what they are filled with has the target -1 too.

# %%
#| export chat.packing
def collate(rows: list[Rendered], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets) of rows of ids and masks: (B, length) int32 each.

    Targets are the inputs one token later, and -1 where that token is not to be trained. Rows are
    cut after length + 1 tokens, and filled up with `pad`, which is not trained.
    """
    inputs = np.full((len(rows), length), pad, np.int32)
    targets = np.full((len(rows), length), -1, np.int32)
    for n, (ids, mask) in enumerate(rows):
        ids, trained = np.array(ids[: length + 1]), np.array(mask[: length + 1]) == 1
        inputs[n, : len(ids) - 1] = ids[:-1]
        targets[n, : len(ids) - 1] = np.where(trained, ids, -1)[1:]
    return inputs, targets


# %%
row = ([5, 6, 7, 8], [0, 0, 1, 1])
inputs, targets = collate([row], length=6, pad=0)
print("inputs ", inputs[0].tolist())
print("targets", targets[0].tolist())
assert targets[0].tolist() == [-1, 7, 8, -1, -1, -1]

# %% [markdown]
# The target of 5 would be 6, which is given: -1. The target of 6 is 7, which is trained. Check the loss of such a batch against a mean that is
# taken by hand, over the trained targets only:

# %%
pad = special("<|assistant_end|>")
inputs, targets = map(mx.array, collate([render_conversation(tokenizer, messages)], 64, pad))
logits = np.array(model(inputs)[0], dtype=np.float64)  # (64, V)
log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
places = np.flatnonzero(np.array(targets[0]) >= 0)
by_hand = -log_probs[places, np.array(targets[0])[places]].mean()
assert abs(model.loss(inputs, targets).item() - by_hand) < 1e-4
print(f"loss {by_hand:.3f} over {len(places)} targets")


# %% [markdown]
# ### Packing
#
# Our conversations are short. A row for each of them would be filling, mostly, and filling costs as much time as text. So put as many whole conversations into
# a row as fit:

# %%
#| export chat.packing
def pack(
    conversations: Conversations, tokenizer: Tokenizer, length: int, first: int = 0
) -> Iterator[tuple[Rendered, int]]:
    """(row, number of the next conversation) for ever: as many whole conversations as fit a row.

    A row has at most length + 1 tokens, and so has a conversation: what is longer is cut.
    """
    ids, mask = [], []
    while True:
        more = render_conversation(tokenizer, conversations(first), length + 1)
        if ids and len(ids) + len(more[0]) > length + 1:
            yield (ids, mask), first
            ids, mask = [], []
        ids, mask, first = ids + more[0], mask + more[1], first + 1


# %%
rows = [row for row, _ in islice(pack(practice, tokenizer, length=128), 8)]
alone = [render_conversation(tokenizer, practice(number), 129) for number in range(8)]
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True)
for ax, chosen, title in zip(axes, (alone, rows), ("one in a row", "packed"), strict=True):
    kinds = np.zeros((8, 129))
    for n, (ids, mask) in enumerate(chosen):
        kinds[n, : len(ids)] = 1 + np.array(mask)
    ax.imshow(kinds, aspect="auto", cmap="Blues", vmin=0, vmax=2, interpolation="nearest")
    used, trained = (kinds > 0).mean(), (kinds == 2).mean()
    ax.set(title=f"{title}: {used:.0%} used, {trained:.0%} trained", xlabel="place in the row")
axes[0].set_ylabel("row")
plt.show()


# %% [markdown]
# Dark is trained, light is given, white is filling. Packed rows hold twice as much, so a step of the same size teaches twice as many
# answers. The conversations in a row do see those before them. It does no harm here: each begins with `<|bos|>`, and the model learns that
# nothing before it matters.
#
# One batch is special: conversations that are cut may leave *nothing* to train, only a long question. A mean over no targets would be zero divided
# by zero. The loader skips such a batch. Its `state` is one number, that of the next conversation, and so a run can go on from any
# step.

# %%
#| export chat.packing
class ConversationLoader(AbstractContextManager, Iterator):
    """Batches (inputs, targets) of conversations, each (B, T) int32, for ever.

    `state` is where the next batch begins, {"next": number of a conversation}: with it a loader
    goes on there exactly. A batch in which nothing is trained is skipped. Raises CourseError for
    sizes below 1, and when a thousand batches have nothing to train.
    """

    def __init__(
        self,
        conversations: Conversations,
        tokenizer: Tokenizer,
        batch_size: int,
        sequence_len: int,
        state: dict | None = None,
    ):
        if batch_size < 1 or sequence_len < 1:
            raise CourseError(
                f"batch_size={batch_size}, sequence_len={sequence_len}, expected 1 or more"
            )
        self.state = {"next": (state or {}).get("next", 0)}
        self._shape, self._pad = (batch_size, sequence_len), tokenizer.special("<|assistant_end|>")
        self._rows = pack(conversations, tokenizer, sequence_len, self.state["next"])

    def __next__(self) -> tuple[mx.array, mx.array]:
        B, T = self._shape
        for _ in range(1000):
            rows, places = zip(*(next(self._rows) for _ in range(B)), strict=True)
            self.state = {"next": places[-1]}
            inputs, targets = collate(list(rows), T, self._pad)
            if (targets >= 0).any():
                return mx.array(inputs), mx.array(targets)
        raise CourseError(
            f"1,000 batches of {B} rows of {T} tokens have nothing to train, as questions fill the "
            "rows; give a larger sequence_len, or other conversations"
        )

    def __exit__(self, *error: object) -> None:
        pass


# %%
loader = ConversationLoader(practice, tokenizer, batch_size=4, sequence_len=128)
next(loader)
place = dict(loader.state)
inputs, targets = next(loader)
again = next(ConversationLoader(practice, tokenizer, 4, 128, state=place))
assert (again[0] == inputs).all() and (again[1] == targets).all()
print("the second batch begins with conversation", place["next"])


# %% [markdown]
# ## 4. Something to practise
#
# ### Templates
#
# Large models are fine-tuned on a million conversations that people and other models wrote. A model that trains in minutes can learn a little from
# a narrow set, if that is **varied** enough. So we make one from **templates**: a phrase with alternatives stands for all of its
# variants.

# %%
#| export chat.lessons
def expand(template: str) -> list[str]:
    """Every text of a template in which (a|b|) stands for one of the alternatives."""
    pieces = re.split(r"\(([^()]*\|[^()]*)\)", template)
    choices = [piece.split("|") if n % 2 else [piece] for n, piece in enumerate(pieces)]
    return [" ".join("".join(chosen).split()) for chosen in itertools.product(*choices)]


@cache
def _templates() -> dict:
    return yaml.safe_load((data_dir() / "lessons" / "lessons.yaml").read_text(encoding="utf-8"))


@cache
def _expanded(templates: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(phrase for template in templates for phrase in expand(template)))


@cache
def words() -> list[str]:
    """The words to spell and to count letters in: lower case, 3 to 11 letters."""
    return (data_dir() / "lessons" / "words.txt").read_text(encoding="utf-8").split()


# %%
print(expand("(what is|tell me) your (name|first name)"))
print(len(expand("(a|b|c) (d|e) (f|)")), "phrases from one template")


# %% [markdown]
# The file `data/lessons/lessons.yaml` of the course has the templates. What people type also differs in openings, capitals and marks at the
# end; `dressed` adds those. And part of the questions must be kept for tests. `is_test` decides by the question itself, before it is dressed:
# so no question is on both sides, however it is typed.

# %%
#| export chat.lessons
def is_test(question: str) -> bool:
    """Whether a question is kept for tests, as one in ten is, by its text alone."""
    return zlib.crc32(question.encode()) % 10 == 0


def dressed(rng: random.Random, phrase: str, ending: str = "question", shouted: float = 0.0) -> str:
    """A phrase as people type it: perhaps with an opening and capitals, and a mark at the end.

    shouted: how often it is all in capitals.
    """
    text = rng.choice(_templates()["openings"]) + phrase
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    if rng.random() < shouted:
        text = text.upper()
    if rng.random() < 0.5:
        text = re.sub(r"\bi\b", "I", text)
    return text + rng.choice(_templates()["endings"][ending])


def with_tool(expression: str, result: str) -> list[dict]:
    """An assistant's content that calls the calculator and then says its result."""
    parts = ("python", expression), ("python_output", result), ("text", result)
    return [{"type": kind, "text": text} for kind, text in parts]


# %%
rng = random.Random(1)
for _ in range(4):
    print(dressed(rng, "what is your name"))

# %% [markdown]
# ### Seven kinds
#
# Who it is, and what it does not know:

# %%
#| export chat.lessons
Drawn = tuple[str, str, str | list[dict]]  # what decides whether it is a test, question, answer


def _phrase(rng: random.Random, entry: dict) -> tuple[str, str]:
    """A phrase of an entry, and how such phrases end: "question" or "request"."""
    phrases = {
        ending: _expanded(tuple(entry.get(ending, ()))) for ending in ("question", "request")
    }
    ending = rng.choices(list(phrases), [len(each) for each in phrases.values()])[0]
    return rng.choice(phrases[ending]), ending


def identity(rng: random.Random) -> Drawn:
    """Who it is and what it can do."""
    entry = rng.choice(_templates()["identity"])
    phrase, ending = _phrase(rng, entry)
    return phrase, dressed(rng, phrase, ending, shouted=0.04), entry["answer"]


def unknown(rng: random.Random) -> Drawn:
    """What it cannot know."""
    entry = _templates()["unknown"]
    phrase, ending = _phrase(rng, entry)
    place, other = rng.sample(entry["place"], 2)
    work, thing = rng.choice(entry["work"]), rng.choice(entry["thing"])
    question = phrase.format(place=place, other=other, work=work, thing=thing)
    return question, dressed(rng, question, ending, shouted=0.04), entry["answer"]


# %% [markdown]
# Sums, most of them by the calculator. The numbers have one to four digits: what is to work must be practised at that size.

# %%
#| export chat.lessons
def _operands(rng: random.Random, operation: str) -> tuple[int, int]:
    """Two numbers of 1 to 4 digits; products and quotients stay small."""
    most = 4 if operation in "+-" else 3
    a, b = (rng.randrange(10 ** rng.randint(1, most)) for _ in range(2))
    if operation == "/":
        b = max(1, b % 100)
        a = a if (100 * a) % b == 0 else a * b % 1000 // b * b  # at most two decimals
    return a, b


def calculator(rng: random.Random) -> Drawn:
    """A sum, a difference, a product or a quotient, by the calculator."""
    operation = rng.choice("+-*/")
    a, b = _operands(rng, operation)
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0}[operation]
    phrase = rng.choice(_expanded(tuple(_templates()["calculator"][operation])))
    expression = f"{a}{operation}{b}"
    question = dressed(rng, phrase.format(a=a, b=b), shouted=0.04)
    return expression, question, with_tool(expression, str(result))


def mental(rng: random.Random) -> Drawn:
    """A small sum without the calculator."""
    operation = rng.choice("+-*")
    a, b = rng.randrange(21), rng.randrange(21)
    result = {"+": a + b, "-": a - b, "*": a * b}[operation]
    phrase = rng.choice(_expanded(tuple(_templates()["mental"])))
    return f"{a}{operation}{b}", dressed(rng, phrase.format(a=a, b=b, op=operation)), str(result)


# %% [markdown]
# Words letter by letter, letters in words, and what Python's built-in functions do, in the words of their own documentation:

# %%
#| export chat.lessons
def spelling(rng: random.Random) -> Drawn:
    """A word, letter by letter."""
    word = rng.choice(words())
    phrase = rng.choice(_expanded(tuple(_templates()["spelling"])))
    return word, dressed(rng, phrase.format(word=word)), " ".join(word)


def counting(rng: random.Random) -> Drawn:
    """How often a letter is in a word, by the calculator."""
    word = rng.choice(words())
    letter = rng.choice(word if rng.random() < 0.85 else "abcdefghijklmnopqrstuvwxyz")
    phrase = rng.choice(_expanded(tuple(_templates()["counting"])))
    result = str(word.count(letter))
    question = dressed(rng, phrase.format(word=word, letter=letter))
    if letter == "i":  # it is no "I" here
        question = question.replace("I", "i")
    return f"{letter} in {word}", question, with_tool(f'" {word}".count("{letter}")', result)


@cache
def documented() -> dict[str, str]:
    """The first sentence of the documentation of Python's built-in functions, where it is short."""
    found = {}
    for name, value in sorted(vars(builtins).items()):
        if not callable(value) or getattr(value, "__module__", "") not in ("builtins", "_io"):
            continue
        paragraph = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
        sentence = paragraph.split(". ")[0].rstrip(".") + "."
        is_signature = re.match(r"\w+\(", sentence)
        if name.isalpha() and name.islower() and not is_signature and 10 < len(sentence) <= 80:
            found[name] = sentence
    return found


def python(rng: random.Random) -> Drawn:
    """What a built-in function of Python does."""
    name = rng.choice(list(documented()))
    phrase = rng.choice(_expanded(tuple(_templates()["python"]))).format(
        name=name, call=f"{name}()"
    )
    return phrase, dressed(rng, phrase), documented()[name]


# %% [markdown]
# `lesson` gives each one a number, so that lesson 7 is the same on every machine and every day:

# %%
#| export chat.lessons
KINDS = {
    kind.__name__: kind
    for kind in (identity, calculator, mental, spelling, counting, python, unknown)
}


def lesson(kind: str, split: str, number: int) -> list[dict]:
    """The messages of lesson `number` of a kind: a question and its answer, always the same ones.

    kind: a key of KINDS; split: "train" or "test", which have no question in common. There is no
    last number. Raises CourseError for another kind or split.
    """
    if kind not in KINDS or split not in ("train", "test"):
        raise CourseError(
            f"there is no {split!r} side of the lessons {kind!r}; expected train or test of "
            f"{', '.join(KINDS)}"
        )
    rng = random.Random(f"{kind},{split},{number}")
    while True:
        decides, question, answer = KINDS[kind](rng)
        if is_test(decides) == (split == "test"):
            return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def blind_questions() -> list[dict]:
    """{"kind", "question", "answer"}: by someone who had not seen the templates."""
    lines = (data_dir() / "lessons" / "blind.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


MIX = dict(zip(KINDS, (0.26, 0.33, 0.02, 0.17, 0.12, 0.04, 0.06), strict=True))  # their shares


def practice(number: int, mix: dict[str, float] = MIX, split: str = "train") -> list[dict]:
    """Conversation `number` to train on: one lesson of the mix, in three of ten a second one."""
    rng = random.Random(f"practice,{split},{number}")
    kinds = rng.choices(list(mix), list(mix.values()), k=2 if rng.random() < 0.3 else 1)
    return [
        message for n, kind in enumerate(kinds) for message in lesson(kind, split, 2 * number + n)
    ]


# %%
for kind in KINDS:
    question, answer = (message["content"] for message in lesson(kind, "train", 3))
    text = answer if isinstance(answer, str) else " → ".join(part["text"] for part in answer)
    print(f"{kind:10s} {question!r:60.60} {text}")


# %% [markdown]
# `mental` is there to be hard: a sum without a tool. A transformer of this size has to remember such answers one by one. You will see in chapter
# 14 what that means.
#
# Are the two sides apart? Draw many lessons of both and compare the questions, in lower case and without the dressing:

# %%
def bare(question):
    """The letters and digits of a question."""
    return re.sub(r"[^a-z0-9]+", " ", question.lower()).strip()


sides = {
    side: {bare(lesson("identity", side, n)[0]["content"]) for n in range(budget(3000, 300))}
    for side in ("train", "test")
}
assert not sides["train"] & sides["test"]
print({side: len(questions) for side, questions in sides.items()}, "questions, none on both sides")


# %% [markdown]
# A warning that chapter 14 comes back to: the two sides share their *templates*. A model that answers the test side well has learned
# the templates, not everything that a person might type. `blind_questions` were written by someone who had not seen them, for a second look.
#
# `practice` mixes the kinds; three conversations of ten have a second turn. How often does each kind come?

# %%
def kind_of(messages):
    """Which kind the first question of a conversation is of, by its answer."""
    answer = messages[1]["content"]
    if isinstance(answer, list):
        return "counting" if "count" in answer[0]["text"] else "calculator"
    return "spelling" if re.fullmatch(r"[a-z]( [a-z])+", answer) else "other"


shares = Counter(kind_of(practice(number)) for number in range(1000))
turns = sum(len(practice(number)) == 4 for number in range(1000))
print(dict(shares), f"and {turns} of 1000 have two turns")


# %% [markdown]
# ## 5. Fine-tuning
#
# The step is that of chapter 10. Two things change: the optimizer is a **new** one, since what it remembers is about other text, and the
# learning rates **fall** to zero along a line from the first step. A large model that knows much begins at a tenth of pretraining's rates or
# less: high rates would wash out what it knows. Ours knows little and has to learn the answers themselves, so it begins at the full ones.
#
# | | pretraining | fine-tuning |
# |---|---|---|
# | text | documents, end to end | whole conversations |
# | targets | all tokens | the assistant's |
# | learning rates | 1, then down over the last fifth | down from the first step |
# | tokens | 20 for each parameter or more | far fewer |
#
# Two measures, before and after: bits per byte of answers that are not trained, and of documentation that is not.

# %%
def batches_of(loader, count):
    return list(islice(loader, count))


with TokenLoader(data, tokenizer, "val", 16, 128) as loader:
    of_documents = batches_of(loader, 4)
few = {"identity": 0.7, "calculator": 0.3}  # two kinds, so that a minute is enough
held_out = ConversationLoader(lambda n: practice(n, few, "test"), tokenizer, 16, 128)
of_answers = batches_of(held_out, 4)


def both():
    """Bits per byte of held-out documentation and of held-out answers."""
    size = tokenizer.token_bytes
    return validate(model, of_documents, size), validate(model, of_answers, size)


before = both()
loader = ConversationLoader(lambda n: practice(n, few), tokenizer, 16, 128)
train(model, loader, budget(200, quick=3), "loss on answers", warmdown_ratio=1.0)
after = both()

# %% [markdown]
# The loss on answers falls far below what documentation reaches: answers are short and of few kinds.

# %%
for what, old, new in zip(("documentation", "answers"), before, after, strict=True):
    print(f"{what:14s} {old:.2f} → {new:.2f} bits per byte")


# %% [markdown]
# Answers have become easy, and documentation harder: the model has **forgotten** part of it. That is the price of fine-tuning on a narrow set. Sample a base
# model *before* you fine-tune it, and keep its checkpoint; `chat_sft` writes to another folder for that reason.
#
# And now, does it answer?

# %%
def answer(*contents, max_tokens=48):
    """The model's reply to a chat: contents of user, assistant, user, …"""
    roles = ("user", "assistant")
    chat = [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]
    prompt = render_for_completion(tokenizer, chat, max_tokens=config.sequence_len - max_tokens)
    (reply,) = Engine(model, tokenizer).generate_batch([prompt], max_tokens, temperature=0)
    return tokenizer.decode(reply.ids)


for question in ("What is your name?", "thanks a lot", "are you a human?"):
    print(f"{question!r} … {answer(question)!r}")
print(f"{answer('Hello!', 'Hello! How can I help you?', 'Who made you?')!r}")

# %% [markdown]
# The same model, some hundred steps later, answers, and stops. It is no wiser than before: what it says about itself we have told it. With five minutes
# instead of one, and a larger model, `speedrun` of chapter 18 gets further.
#
# A sum shows what is still missing:

# %%
print(repr(answer("How much is 12 + 30?")))


# %% [markdown]
# The model writes a call for the calculator. Nobody is there to take it, so it goes on by itself, and makes something up in place of the result. Chapter 14 puts
# somebody there.

# %% [markdown]
# ## 6. Conversations of your own
#
# ### A file
#
# Put one JSON object on a line, `{"messages": […]}`. A file of ten thousand rows has some that are wrong. They should be named at once, with
# their lines, before an hour of training. `read_conversations` (`course_lib.chat.files`, written by hand) also knows the forms in which others
# keep conversations: nanochat's, ShareGPT, Alpaca, prompts with completions.

# %%
good = json.dumps({"messages": greeting})
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "mine.jsonl"
    path.write_text("\n".join([good, "oops", json.dumps({"messages": messages[:1]}), good]))
    try:
        read_conversations(path)
    except CourseError as error:
        print(str(error).replace(folder, "…"))
    path.write_text("\n".join([good] * 3))
    print(len(read_conversations(path)), "conversations")


# %% [markdown]
# ### From the hub
#
# Four public sets are a download away: SmolTalk (general talk), GSM8K (sums in words, with a calculator), ARC and MMLU (multiple choice). Each has a form of its
# own; here they become messages. In GSM8K, `<<12*2=24>>` marks a call of the calculator:

# %%
#| export chat.sources
def multiple_choice_messages(
    question: str, letters: Sequence[str], choices: Sequence[str], answer: str
) -> list[dict]:
    """A question with its options, as nanochat asks it: each option, then its letter.

    So that the letter stands right after "=", as a token of its own.
    """
    options = "".join(
        f"- {choice}={letter}\n" for letter, choice in zip(letters, choices, strict=True)
    )
    asked = f"Multiple Choice question: {question}\n{options}\n"
    asked += "Respond only with the letter of the correct answer."
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def gsm8k_messages(row: dict) -> list[dict]:
    """A problem of GSM8K; its <<12/2=6>> become calls of the calculator with their outputs."""
    parts = []
    for number, piece in enumerate(re.split(r"<<([^>]+)>>", row["answer"])):
        if number % 2 == 0:
            parts.append({"type": "text", "text": piece})
            continue
        expression, _, result = piece.rpartition("=") if "=" in piece else (piece, "", "")
        parts.append({"type": "python", "text": expression})
        parts.append({"type": "python_output", "text": result})
    return [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": parts}]


def arc_messages(row: dict) -> list[dict]:
    """A question of ARC."""
    choices = row["choices"]
    return multiple_choice_messages(
        row["question"], choices["label"], choices["text"], row["answerKey"]
    )


def mmlu_messages(row: dict) -> list[dict]:
    """A question of MMLU."""
    return multiple_choice_messages(row["question"], "ABCD", row["choices"], "ABCD"[row["answer"]])


FROM_HUB = {
    "smoltalk": lambda row: row["messages"],
    "gsm8k": gsm8k_messages,
    "arc-easy": arc_messages,
    "arc-challenge": arc_messages,
    "mmlu": mmlu_messages,
}

# %%
problem = {
    "question": "Eggs come in boxes of 12. Anna buys 2 boxes. How many eggs has she?",
    "answer": "She has 12*2 = <<12*2=24>>24 eggs.\n#### 24",
}
for part in gsm8k_messages(problem)[1]["content"]:
    print(part)
print(multiple_choice_messages("Which is a fruit?", "AB", ["stone", "plum"], "B")[0]["content"])


# %% [markdown]
# In the multiple choice form each letter stands after its option, after `=`, and the answer is only the letter. So a small model need not connect "B" with
# the second line above it; it copies the token after the right words.
#
# ### All of them alike
#
# Whatever their source, conversations are a function of a number. That makes shuffling, mixing and going on simple: epoch 3, place 17 is a number, too.

# %%
#| export chat.sources
def shuffled(items: Sequence, read: Callable = lambda item: item) -> Conversations:
    """Items for ever, each once an epoch, in an order that differs from epoch to epoch."""
    orders: dict[int, list[int]] = {}

    def conversation(number: int) -> list[dict]:
        epoch, place = divmod(number, len(items))
        if epoch not in orders:
            orders.clear()
            orders[epoch] = random.Random(f"order,{epoch}").sample(range(len(items)), len(items))
        return read(items[orders[epoch][place]])

    return conversation


def is_held_out(item: str) -> bool:
    """Whether a conversation of a file, as JSON, belongs to validation, as one in twenty does."""
    return zlib.crc32(item.encode()) % 20 == 0


@cache
def split_file(path: Path, changed: int) -> dict[str, list[str]]:
    """The conversations of a file, for both splits, as JSON: it takes less memory than dicts do.

    changed: when the file was, so that it is read anew only then.
    """
    items = [json.dumps(messages, sort_keys=True) for messages in each_conversation(path)]
    held_out = {item for item in items if is_held_out(item)} or {items[-1]}
    kept = [item for item in items if item not in held_out]
    return {"train": kept or items, "val": [item for item in items if item in held_out]}


def open_conversations(name: str, split: str) -> tuple[Conversations, int | None]:
    """Conversations of "train" or "val", and how many there are before they come again.

    name: "practice" (the lessons; None: they never come again), a key of FROM_HUB, which is
    downloaded the first time, or the path of a file. Raises CourseError for another.
    """
    if name == "practice":
        return (lambda number: practice(number, split="test" if split == "val" else split)), None
    if name in FROM_HUB:
        from course_lib.chat.corpora import rows  # slow to import, and seldom needed

        items = rows(name, "train" if split == "train" else "test")
        return shuffled(items, FROM_HUB[name]), len(items)
    path = existing_path(name)
    if not path or not path.is_file():
        known = ", ".join(["practice", *FROM_HUB])
        raise CourseError(
            f"there are no conversations {name!r}; expected {known}, or a file of JSON"
        )
    items = split_file(path, path.stat().st_mtime_ns)[split]
    return shuffled(items, json.loads), len(items)


def mixed(sources: Sequence[tuple[Conversations, int | None]]) -> Conversations:
    """Conversations of several sources, each of them once an epoch; an endless one has 100,000."""
    if len(sources) == 1:
        return sources[0][0]
    sizes = [size or 100_000 for _, size in sources]
    starts = list(itertools.accumulate(sizes, initial=0))
    order: Callable[[int], Any] = shuffled(range(starts[-1]))  # of numbers here

    def conversation(number: int) -> list[dict]:
        place, epoch = order(number), number // starts[-1]
        which = bisect.bisect_right(starts, place) - 1
        return sources[which][0](place - starts[which] + epoch * sizes[which])

    return conversation


# %%
ten = shuffled(range(10))
print([ten(number) for number in range(10)], [ten(number) for number in range(10, 20)])
assert sorted(ten(number) for number in range(10)) == list(range(10))

# %% [markdown]
# Each once an epoch, in another order each time.
#
# ## 7. The program
#
# `chat_sft` fine-tunes what `base_train` made: on every core, with checkpoints, resumed by `--resume`: it gives the `train` of chapter 10 another source of batches
# (`course_lib.chat.fine_tuning`, written by hand). Here both programs run for a few steps, in a home folder of their own:

# %%
home = tempfile.TemporaryDirectory()


def program(name, *flags):
    """Run a program and print its lines as they come, without samples and single steps."""
    command = [sys.executable, "-m", f"course_lib.scripts.{name}", *flags]
    environment = {**os.environ, "COURSE_HOME": home.name, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if not line.startswith(" ") and not line.endswith(" left\n"):
                print(line.replace(home.name, "…"), end="")
    assert process.returncode == 0


count = budget(20, quick=2)
steps = f"--num-iterations={count} --sample-every={count}"
program("base_train", "--depth=1", "--total-batch-size=1024", "--processes=1", *steps.split())
program("chat_sft", "--tag=d1", "--total-batch-size=1024", "--processes=1", *steps.split())
home.cleanup()


# %% [markdown]
# In a terminal:
#
# ```bash
# uv run base_train --depth=3
# uv run chat_sft --tag d3                              # the lessons of this chapter
# uv run chat_sft --tag d3 --data mine.jsonl,practice   # yours, and the lessons
# uv run chat_sft --tag d12 --data smoltalk,gsm8k,arc-easy,arc-challenge,practice
# ```

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/13_conversations_solutions.ipynb](solutions/13_conversations_solutions.ipynb).
#
# ### Exercise 13.1 — who wrote it?
#
# *10 minutes, easy.* Given ids and mask of a conversation, return the texts that are trained, one for each run of ones, in order. For the chat of section
# 2 that is `["My name is Wren.<|assistant_end|>", "42<|assistant_end|>"]`.
#
# <details><summary>Hint</summary>
#
# `itertools.groupby(zip(ids, mask), key=lambda pair: pair[1])` gives runs of equal masks.
#
# </details>

# %% tags=["exercise"]
def trained_texts(tokenizer, ids, mask):
    raise NotImplementedError


check(exercises.trained_texts, trained_texts)


# %% [markdown]
# ### Exercise 13.2 — the last answer only
#
# *15 minutes, medium.* Some sets have good last answers and poor ones before. Return a mask that keeps only the last run of trained tokens, up to and including its `<|assistant_end|>`. A tool's
# output inside that answer stays 0 and does not split it.
#
# <details><summary>Hint</summary>
#
# Find the last `<|assistant_start|>` among the ids; everything before it becomes 0.
#
# </details>

# %% tags=["exercise"]
def last_answer_mask(tokenizer, ids, mask):
    raise NotImplementedError


check(exercises.last_answer_mask, last_answer_mask)


# %% [markdown]
# ### Exercise 13.3 — pack better
#
# *25 minutes, hard.* `pack` takes conversations in their order, and starts a row when the next one does not fit. Given many lengths at once one can do better:
# go through them from the longest to the shortest, and put each into the *fullest* row that still has room for it (best fit). Return the rows as lists of
# indices. No row holds more than `room`.
#
# <details><summary>Hint</summary>
#
# `sorted(range(len(lengths)), key=lambda n: -lengths[n])`; keep for each row how much room is left, and among the rows with enough choose the smallest.
#
# </details>

# %% tags=["exercise"]
def best_fit(lengths, room):
    raise NotImplementedError


check(exercises.best_fit, best_fit)

# %% [markdown]
# ## Summary
#
# - A conversation is a row of ids: special tokens around each message, which no text can fake.
# - Trained is what the assistant writes, its tool calls and `<|assistant_end|>` included; everything else has the target -1.
# - Packed rows waste nothing; a batch without a trained token is skipped.
# - Fine-tuning is training with a new optimizer, rates that fall to zero, and far fewer tokens. It gives a habit, and it forgets.
# - Test questions are set apart by what they ask, before they are dressed.

# %% [markdown]
# ## Pitfalls
#
# - **Training on the questions too.** The model learns to write users' messages. It answers, and then asks itself the next question.
# - **Leaving `<|assistant_end|>` out of the mask.** It never stops.
# - **Training on a tool's output.** It makes results up, and does not wait for the tool.
# - **Tokenizing the whole conversation as one string**, markers included. Then users can write markers.
# - **Dividing by zero trained tokens.** One cut conversation, and all weights are NaN.
# - **Splitting after dressing.** "What is your name?" in training and "what is your name" in the test is no test.
# - **One score for all.** Held-out templates are not new questions: keep some that the author of the templates has not seen.

# %% [markdown]
# ## Further reading
#
# - Ouyang et al., 2022, [Training language models to follow instructions](https://arxiv.org/abs/2203.02155): from a base model to an assistant.
# - Zhou et al., 2023, [LIMA](https://arxiv.org/abs/2305.11206): how few conversations it takes when the base model is large.
# - Allal et al., 2025, [SmolLM2](https://arxiv.org/abs/2502.02737): where SmolTalk comes from.
# - [nanochat](https://github.com/karpathy/nanochat): the format and the mask of this chapter are its own.
#
# **Next:** [14 · Tools and tasks](14_tools_and_tasks.ipynb) gives the model a calculator, and measures what it can do.

# %% [markdown]
# # 11 · Evaluation
#
# **Goal.** Say in numbers how good a **base model** is (pretrained, and nothing else), in a unit that any two models share, and
# say how far to trust the number.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb), [07 · Attention](07_attention.ipynb), [08 · GPT](08_gpt.ipynb), [10 · Training](10_training.ipynb) |
# | Time | 45 minutes to read, 55 for the exercises; one to three minutes to run |
# | Memory | under 1 GB |
# | You will build | the score of chosen tokens → `course_lib.evaluate.scoring`; the three kinds of CORE tasks and how sure a result is → `course_lib.evaluate.core` |
#
# The loss of chapter 10 fell. Is the model good now? Two questions hide in that one: how well does it predict text, and can it
# do anything with what it has learned? This chapter answers the first in bits per byte, and the second with tasks that have right
# answers. A third question runs through all of it: is a difference between two numbers real, or luck?

# %% [markdown]
# ![Map of the course: chapter 11 evaluation is marked, in Part II; after 10 training, and 12 engine comes next](images/map_11.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · **11** · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [19](19_memory.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/11_evaluation.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export evaluate.scoring
"""Losses of chosen tokens: sequences of any lengths in one batch, a prefix they share read once."""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from course_lib.model.gpt import GPT

# %%
#| export evaluate.core
"""CORE: three kinds of tasks, how a base model is asked, and how sure a score is.

Source: DCLM (Li et al., 2024), whose CORE this is, and nanochat, whose choices of seeds, separators
and scores are kept, so that the numbers compare.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.scoring import (
    Score,
    ScoredSequence,
    common_length,
    score_sequences,
    shared_prefix,
)
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT

# %% [markdown]
# Those cells open the modules that this chapter builds. (The second uses the first, which is in the package already.) The next
# one is for this notebook only.

# %%
import json
import shutil
import tempfile
import time
import zlib
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import LiveCurve, budget, check
from course_lib.classroom.exercises import evaluation as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.evaluate.reports import draw_results
from course_lib.model.gpt import GPTConfig
from course_lib.train.checkpoint import Checkpoint, save_checkpoint
from course_lib.train.trainer import Trainer
from course_lib.train.validation import validate

backend.seed_everything(42)
print(backend.describe())

# %% [markdown]
# ## 1. Why not the loss
#
# Chapter 10 said it in short: the loss is a mean over **tokens**, and what a token is depends on the tokenizer. Take one text, two
# vocabularies, and a model that knows nothing: to it all ids are alike, so each token costs $\ln V$ nats.

# %%
data = open_dataset()
tokenizers = {V: Tokenizer.train(data.documents("train"), V) for V in (512, 2048)}
docs = list(islice(data.documents("val"), budget(20, quick=3)))
size = sum(len(doc.encode()) for doc in docs)
print(f"{len(docs)} held-out documents, {size:,} bytes")
for V, each in tokenizers.items():
    tokens = sum(map(len, each.encode_batch(docs)))
    nats = tokens * math.log(V)
    print(f"{V:5d} ids: {math.log(V):.2f} nats a token, times {tokens:,} tokens: {nats:,.0f} nats")

# %% [markdown]
# The second model has the higher loss. But it guesses fewer times, since its tokens are longer, and in all it needs fewer nats
# for the text. So divide by something that no tokenizer changes, the **bytes** of the text. And count in **bits**, the unit of
# bytes: a nat is $1/\ln 2 = 1.44$ bits.
#
# $$ \text{bits per byte} = \frac{\sum_i \text{nats}_i}{\ln 2 \cdot \sum_i \text{bytes}_i} $$
#
# The sums go over the target tokens $i$; $\text{bytes}_i$ is the length of token $i$. A byte has 8 bits, so text as it lies on
# the disk costs 8. By hand, for three tokens:

# %%
nats, sizes = [2.0, 0.5, 3.0], [3, 6, 2]  # of " in", " order", "to", say
print(f"{sum(nats) / len(nats):.3f} nats a token")
print(f"{sum(nats) / (math.log(2) * sum(sizes)):.3f} bits per byte")
for V, each in tokenizers.items():
    bits = sum(map(len, each.encode_batch(docs))) * math.log2(V)
    print(f"{V:5d} ids, all alike: {bits / size:.2f} bits per byte")


# %% [markdown]
# Chapter 10's `validate` computes this ratio during training, and it is what this chapter calls as well. It sums nats and bytes over
# all batches and divides once. What counts is settled by `token_bytes`: special tokens have 0 bytes and do not count, because a text
# has no `<|bos|>` in it; nor do targets of −1.
#
# ## 2. Two models, two vocabularies
#
# Now for real: two small models that differ in their vocabulary only, trained on as many tokens each. (On a CPU this takes
# half a minute or more.) Then both are measured on the same held-out documents.

# %%
def train_small(tokenizer, steps):
    """A model of two blocks after `steps` steps of 2,048 tokens, and its last ten losses' mean."""
    model = GPT(GPTConfig(256, tokenizer.vocab_size, n_layer=2, n_head=2, n_kv_head=2, n_embd=128))
    trainer = Trainer(model, steps)
    curve = LiveCurve(f"loss, {tokenizer.vocab_size} ids", total=steps, window=10)
    with TokenLoader(data, tokenizer, "train", 8, 256) as loader:
        for step in range(1, steps + 1):
            curve.add(step, trainer.step([next(loader)]).loss)
    curve.show()
    return model, sum(curve.values[-10:]) / len(curve.values[-10:])


models, losses = {}, {}
for V, each in tokenizers.items():
    models[V], losses[V] = train_small(each, budget(80, quick=3))


# %% [markdown]
# Both losses fall from $\ln V$, that of knowing nothing. Mind the axes: the lower curve, of 2,048 ids, begins higher and stays
# higher.

# %%
def held_out(tokenizer):
    """The held-out documents as batches of 8 rows of 256; targets of -1 where no text is left."""
    ids = [token for doc in tokenizer.encode_batch(docs, bos=True) for token in doc]
    fill = -(len(ids) - 1) % (8 * 256)
    inputs = mx.array(ids[:-1] + [tokenizer.bos] * fill).reshape(-1, 8, 256)
    targets = mx.array(ids[1:] + [-1] * fill).reshape(-1, 8, 256)
    return list(zip(inputs, targets, strict=True))


bits = {}
for V, each in tokenizers.items():
    bits[V] = validate(models[V], held_out(each), each.token_bytes)
    print(f"{V:5d} ids: training {losses[V]:.2f} nats a token, unseen {bits[V]:.2f} bits per byte")

# %% [markdown]
# The losses say that the model with 512 ids is far better, and the bits per byte say that it is the other way round. Only the second
# comparison means something: both numbers answer how many bits a byte of this text costs. (Is it a fair race? Each token of the larger
# vocabulary holds more text, so that model has also read more of it. What matters here is that the two units disagree.)
#
# ### A compressor, for scale
#
# "Bits for a byte" is what compression is about. With the probabilities of a model, a text can be stored in as many bits as the
# model needs for it (arithmetic coding). So a compressor is a fair rival: here is `zlib`, the one in zip files, on the same
# documents.

# %%
raw = "".join(docs).encode()
by_zlib = 8 * len(zlib.compress(raw, 9)) / len(raw)
print(f"zlib: {by_zlib:.2f} bits per byte")
for V in models:
    print(f"model with {V} ids: {bits[V]:.2f}, trained on {8 * 256 * budget(80, 3):,} tokens")

# %% [markdown]
# `zlib` starts every text from nothing and only looks for repetitions. The models have read other documents before, but not
# for long. Give them more steps, and see when they pass it: `budget(80, quick=3)` is the dial, and chapter 10's `base_train`
# prints the same unit. From here on, this chapter's model is the one with 2,048 ids.

# %%
model, tokenizer = models[2048], tokenizers[2048]

# %% [markdown]
# ### A batch with nothing to count
#
# A batch may hold no target that counts, as when fine-tuning masks whole conversations. It changes nothing. When no batch has
# any, there is no answer, and the function says `nan`, "not a number". A 0 would look like a perfect model.

# %%
inputs, targets = held_out(tokenizer)[0]
empty = (inputs, mx.full(targets.shape, -1))
alone = validate(model, [(inputs, targets)], tokenizer.token_bytes)
assert validate(model, [empty, (inputs, targets)], tokenizer.token_bytes) == alone
nothing = validate(model, [empty], tokenizer.token_bytes)
print(f"with an empty batch beside it {alone:.4f}, the empty batch alone {nothing}")

# %% [markdown]
# ## 3. Questions with an answer
#
# Bits per byte weighs every byte alike, the closing bracket as much as the word on which the meaning hangs. **CORE** (Li et
# al., 2024) asks instead: 22 tasks, each a list of **items** with known answers. A base model does not answer, it only goes on
# with text. So an item is posed as text, and the model's probabilities are the answer. There are three kinds:
#
# | kind | given | right when |
# |---|---|---|
# | multiple choice | one context, several continuations | the right continuation is the likeliest |
# | schema | several contexts, one continuation | the continuation is likeliest after the right context |
# | language modelling | one context, one continuation | the model itself would write exactly this |

# %%
#| export evaluate.core
FIELDS = {  # of an item, by the kind of its task
    "multiple_choice": ("query", "choices"),
    "schema": ("continuation", "context_options"),
    "language_modeling": ("context", "continuation"),
}


@dataclass(frozen=True)
class CoreTask:
    """A task: a file of items and how to ask them.

    kind: a key of FIELDS; num_fewshot: solved items shown before each; delimiter: between context
    and continuation; baseline: accuracy of guessing. Raises CourseError for values that cannot be.
    """

    name: str
    kind: str
    num_fewshot: int = 0
    delimiter: str = " "
    baseline: float = 0.0
    path: Path | None = None

    def __post_init__(self):
        if self.kind not in FIELDS:
            raise CourseError(
                f"task {self.name} is of kind {self.kind!r}; expected one of {', '.join(FIELDS)}"
            )
        if self.num_fewshot < 0 or not 0 <= self.baseline < 1:
            raise CourseError(
                f"task {self.name}: num_fewshot={self.num_fewshot}, baseline={self.baseline}; "
                "expected 0 or more, and an accuracy below 1"
            )


# %% [markdown]
# The real tasks are 162 MB, so a small set that was written for this course comes along, in the same form: two tasks of multiple
# choice, two schemas, one of language modelling. `core.yaml` lists the tasks, and each has a file with one JSON object a line;
# `evaluate.task_files` reads this course's tasks and the real bundle alike, and names a line that is wrong. One item of each kind:

# %%
from course_lib.evaluate.task_files import load_items, load_tasks

tasks = {task.name: task for task in load_tasks()}
items = {name: load_items(task) for name, task in tasks.items()}
for name, task in tasks.items():
    print(f"{name:9s} {task.kind:18s} {len(items[name])} items, guessing gets {task.baseline:.0%}")
for name in ("words", "pronouns", "phrases"):
    print(items[name][0])

# %% [markdown]
# `gold` is the number of the right option, counted from 0. In `pronouns` each item has a twin, with the other answer. Here are the
# first one and its twin, as they are right:

# %%
first = set(items["pronouns"][0]["context_options"])
for item in items["pronouns"]:
    if set(item["context_options"]) == first:
        print(item["context_options"][item["gold"]], item["continuation"])


# %% [markdown]
# So a model that likes one of the two contexts better, whatever the end, gets exactly half.
#
# ### From an item to text
#
# An option is a context, a delimiter (a space, or something like a line with "Answer:") and a continuation. So the kinds differ
# only in which of the two changes from option to option.

# %%
#| export evaluate.core
def parts_of(task: CoreTask, item: dict) -> tuple[list[str], list[str]]:
    """The contexts of an item and its continuations, paired: one pair for each option."""
    if task.kind == "multiple_choice":
        return [item["query"]] * len(item["choices"]), item["choices"]
    if task.kind == "schema":
        return item["context_options"], [item["continuation"]] * len(item["context_options"])
    return [item["context"].strip()], [item["continuation"]]


# %% [markdown]
# A base model must guess what game is being played. **Few-shot** means: put some solved items in front. They come from the
# other items of the task, drawn with a seed for each item, so that every model sees the same ones in front of the same
# question. (The seed is nanochat's, so that its numbers compare.)

# %%
#| export evaluate.core
def fewshot_examples(data: list[dict], index: int, count: int) -> list[dict]:
    """`count` other items of the task, for item `index` always the same: nanochat's choice."""
    others = [n for n in range(len(data)) if n != index]
    if count > len(others):
        raise CourseError(
            f"{count} examples for each of {len(data)} items; give more items, or fewer examples"
        )
    return [data[n] for n in random.Random(1234 + index).sample(others, count)]


def render(task: CoreTask, item: dict, examples: Iterable[dict] = ()) -> list[tuple[str, str]]:
    """(prompt without the continuation, with it) of each option, after the solved examples."""
    before = ""
    for example in examples:
        contexts, continuations = parts_of(task, example)
        gold = example.get("gold", 0)
        before += f"{contexts[gold]}{task.delimiter}{continuations[gold]}\n\n"
    contexts, continuations = parts_of(task, item)
    return [
        (f"{before}{context}{task.delimiter}", f"{before}{context}{task.delimiter}{continuation}")
        for context, continuation in zip(contexts, continuations, strict=True)
    ]


# %%
task, index = tasks["physics"], 0
examples = fewshot_examples(items["physics"], index, 2)
prompts = render(task, items["physics"][index], examples)
for _, whole in prompts[:2]:
    print(whole, end="\n" + 60 * "-" + "\n")
print(f"{len(examples)} solved items here; the task asks for {task.num_fewshot}")
assert examples == fewshot_examples(items["physics"], index, 2)

# %% [markdown]
# Two options of four. They begin alike and differ in their end.
#
# ### Which tokens are scored
#
# The model gives each token a probability. Only those of the answer should count:
#
# - in a multiple choice, what comes after the beginning that the options share;
# - in a schema, the end that the options share;
# - in language modelling, what the continuation adds to the prompt.
#
# Why not encode prompt and continuation apart? Because a prompt ends in the delimiter, here a space:

# %%
for pieces in (["is late"], ["is ", "late"]):
    print(pieces, [tokenizer.token(token) for piece in pieces for token in tokenizer.encode(piece)])


# %% [markdown]
# In a text, a space is part of the token after it. Cut apart, it stands alone, and the model has hardly ever seen that. So each
# option is encoded as a whole, and the place where the answer begins is found in the ids.

# %%
#| export evaluate.scoring
@dataclass(frozen=True)
class ScoredSequence:
    """Ids of a prompt with its continuation; those from `start` on are scored."""

    ids: list[int]
    start: int


def common_length(all_ids: list[list[int]]) -> int:
    """How many first ids all lists share."""
    for n, column in enumerate(zip(*all_ids)):  # noqa: B905
        if len(set(column)) > 1:
            return n
    return min(map(len, all_ids))


# %% [markdown]
# `tokenise` makes a sequence of each option, and finds where the scored part starts:

# %%
#| export evaluate.core
def tokenise(
    task: CoreTask, tokenizer: Tokenizer, prompts: list[tuple[str, str]], sequence_len: int
) -> list[ScoredSequence]:
    """A sequence for each option, <|bos|> in front; one too long for the model loses its beginning.

    Scored tokens: in multiple choice, those after the prefix that the options share; in a schema,
    the suffix that they share; in language modelling, the continuation. There is at least one.
    Raises CourseError when the continuation is empty.
    """
    all_ids = [tokenizer.encode(text, bos=True) for _, text in prompts]
    if task.kind == "multiple_choice":
        starts = [common_length(all_ids)] * len(all_ids)
    elif task.kind == "schema":
        shared = common_length([ids[::-1] for ids in all_ids])
        starts = [len(ids) - shared for ids in all_ids]
    else:
        starts = [common_length([tokenizer.encode(prompts[0][0].strip(), bos=True), all_ids[0]])]
        if starts[0] == len(all_ids[0]):
            raise CourseError(f"the continuation of {prompts[0][1]!r} is empty; give it a text")
    kept = []
    for ids, start in zip(all_ids, starts, strict=True):
        start = min(start, len(ids) - 1)  # an option that is the beginning of another one
        crop = max(0, len(ids) - sequence_len - 1)
        kept.append(ScoredSequence(ids[crop:], max(1, start - crop)))
    return kept


# %% [markdown]
# Three details, each of them a bug in waiting. `<|bos|>` goes in front, because in training each document began with it. In
# language modelling the space at the end of the prompt is stripped before the two are compared: it belongs to the first token of
# the answer. And a prompt that is too long loses its *beginning*, so that the question itself stays.

# %%
def visible(token):
    """The text of a token, with signs for what one would not see."""
    text = tokenizer.token(token).decode(errors="replace").replace("<|bos|>", "•")
    return text.replace(" ", "␣").replace("\n", "↵")


def draw_sequences(sequences, shared=0):
    """A line for each option. Blue and bold: scored; hatched: shared, and not read again."""
    labels = [[visible(token) for token in each.ids] for each in sequences]
    width, height = max(sum(len(label) + 1 for label in line) for line in labels), len(sequences)
    figure = plt.figure(figsize=(0.075 * width, 0.28 * height))
    ax = figure.add_axes([0, 0, 1, 1], xlim=(-0.2, width + 0.2), ylim=(height + 0.05, -0.05))
    ax.axis("off")
    for n, (sequence, line) in enumerate(zip(sequences, labels, strict=True)):
        left = 0
        for place, label in enumerate(line):
            scored, hatched = place >= sequence.start, n > 0 and place < shared
            style = {"fc": "#cfe4f3" if scored else "white", "hatch": "////" if hatched else None}
            ax.add_patch(plt.Rectangle((left, n), len(label) + 1, 1, ec="#aaaaaa", **style))
            style = {"weight": "bold" if scored else "normal", "family": "monospace", "size": 7}
            if not hatched:
                middle = (left + (len(label) + 1) / 2, n + 0.5)
                ax.text(*middle, label, ha="center", va="center", **style)
            left += len(label) + 1
    plt.show()


# %%
first_sequences = {}
for name in ("physics", "agreement", "phrases"):
    prompts = render(tasks[name], items[name][0])
    first_sequences[name] = tokenise(tasks[name], tokenizer, prompts, 256)
    draw_sequences(first_sequences[name])


# %% [markdown]
# Blue and bold is scored; • is `<|bos|>`, ␣ a space. Above, a multiple choice: the options differ from the blue on. In the middle,
# a schema: the contexts differ, the blue end is the same, and the question is after which context it is likelier. Below,
# language modelling: the answer begins with its space.
#
# ## 4. The score
#
# The options have different lengths. The sum of the losses would favour the short ones, since each further token costs. So CORE
# takes the **mean** loss over the scored tokens, and the lowest one wins. First the plain way, one option at a time, from the
# logits:

# %%
def plain_loss(sequence):
    """Mean loss of the scored tokens: one option, no batch, straight from the definition."""
    logits = model(mx.array([sequence.ids[:-1]]))[0]  # (T, V): the last id only is a target
    log_p = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    places = range(sequence.start, len(sequence.ids))
    return -sum(log_p[place - 1, sequence.ids[place]].item() for place in places) / len(places)


losses = [plain_loss(each) for each in first_sequences["physics"]]
for each, loss in zip(first_sequences["physics"], losses, strict=True):
    print(f"{loss:.3f} {tokenizer.decode(each.ids[each.start :])!r}")
print(f"chosen: option {losses.index(min(losses))}, right: {items['physics'][0]['gold']}")


# %% [markdown]
# The option of lowest loss is the model's answer, right or wrong. (Token `place` is predicted by the logits at `place - 1`. Off by
# one here, and every score is noise.)
#
# ### Less work for the same scores
#
# Options of different lengths go into one batch, padded at the end; causal attention keeps the padding out (chapter 04). And
# options of one item share their beginning, which with five solved items in front is most of the prompt. Chapter 07 had the way to
# read it once: a cache of keys and values. This one holds a single prefix for any number of sequences:

# %%
#| export evaluate.scoring
class PrefixCache:
    """What one block keeps of a prefix, for all sequences that go on from it."""

    def __init__(self):
        self.offset, self._prefix = 0, None

    def update_and_fetch(self, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        """First call: keep the prefix (1, H, P, D). Later: put it before k and v (B, H, T, D)."""
        if self._prefix is None:
            self.offset, self._prefix = k.shape[2], (k, v)
            return k, v
        return tuple(
            mx.concatenate([mx.broadcast_to(old, (new.shape[0], *old.shape[1:])), new], axis=2)
            for old, new in zip(self._prefix, (k, v), strict=True)
        )


def shared_prefix(sequences: list[ScoredSequence]) -> int:
    """How many first ids the model may read once: those that all share and that score nothing."""
    if len(sequences) < 2:
        return 0
    first_scored = min(each.start for each in sequences)  # predicted from the token before it
    return min(common_length([each.ids for each in sequences]), first_scored - 1)


# %%
task = tasks["physics"]
prompts = render(task, items["physics"][0], fewshot_examples(items["physics"], 0, 1))
sequences = tokenise(task, tokenizer, prompts, 256)
shared = shared_prefix(sequences)
draw_sequences(sequences, shared)
whole = len(sequences) * max(len(each.ids) - 1 for each in sequences)
once = whole - (len(sequences) - 1) * shared
print(f"all of them whole: {whole} tokens; without the hatched: {once}")


# %% [markdown]
# One solved item in front, ↵ ends a line. What is hatched was read with the first line. The token before the blue is shared too,
# but each line reads it: it predicts the first scored token, so its output is needed.
#
# The head is the other expense: logits for 2,048 ids, or 65,536 in the large models, at every position. Only the
# scored positions need them, so `scored_logits` picks these before the head.

# %%
#| export evaluate.scoring
@dataclass(frozen=True)
class Score:
    """What the model makes of the scored tokens of a sequence.

    loss: their mean, in nats; exact: whether each was the model's first choice.
    """

    loss: float
    exact: bool


def scored_logits(model: GPT, sequences: list[ScoredSequence], shared: int) -> mx.array:
    """Logits that predict the scored tokens of all sequences, one after the other: (N, vocab_size).

    The first `shared` ids are the same in all sequences, and read once.
    """
    caches = [PrefixCache() for _ in model.transformer.h] if shared else None
    if shared:
        model.transformer(mx.array([sequences[0].ids[:shared]]), caches)
    inputs = [each.ids[shared:-1] for each in sequences]
    width = max(map(len, inputs))
    padded = mx.array([ids + [0] * (width - len(ids)) for ids in inputs])  # (B, T)
    x = model.transformer(padded, caches)  # (B, T, n_embd)
    places = [slice(each.start - 1 - shared, len(each.ids) - 1 - shared) for each in sequences]
    picked = [x[n, place] for n, place in enumerate(places)]
    return model.head(mx.concatenate(picked))


# %% [markdown]
# Then losses and first choices come from these logits, sequence by sequence:

# %%
#| export evaluate.scoring
def score_sequences(model: GPT, sequences: list[ScoredSequence], shared: int = 0) -> list[Score]:
    """Score sequences of any lengths in one batch; `shared` as in `scored_logits`."""
    targets = mx.array([token for each in sequences for token in each.ids[each.start :]])
    logits = scored_logits(model, sequences, shared)  # (N, V)
    losses, hits = nn.losses.cross_entropy(logits, targets), logits.argmax(axis=-1) == targets
    mx.eval(losses, hits)
    losses, hits = iter(losses.tolist()), iter(hits.tolist())
    scores = []
    for each in sequences:
        count = len(each.ids) - each.start
        loss = sum(next(losses) for _ in range(count)) / count
        scores.append(Score(loss, all([next(hits) for _ in range(count)])))
    return scores


# %%
for one in (score_sequences(model, sequences), score_sequences(model, sequences, shared)):
    for sequence, found in zip(sequences, one, strict=True):
        assert abs(found.loss - plain_loss(sequence)) < 2e-2 * found.loss
print("one at a time, batched and with the beginning once: the same losses")


# %% [markdown]
# ### What it gains
#
# Items of `physics`, with five solved ones in front, scored in three ways.

# %%
def asked_sequences(name, count):
    """The options of the first items of a task, as sequences."""
    task, sequences = tasks[name], []
    for n, item in enumerate(items[name][:count]):
        shots = fewshot_examples(items[name], n, task.num_fewshot)
        sequences.append(tokenise(task, tokenizer, render(task, item, shots), 256))
    return sequences


def timed(action, items_asked):
    """Seconds for all items, each taken as the best of five tries, and the losses."""
    seconds, losses = 0.0, []
    for options in items_asked:
        tries = []
        for _ in range(5):
            started = time.perf_counter()
            found = action(options)
            tries.append(time.perf_counter() - started)
        seconds, losses = seconds + min(tries), losses + [each.loss for each in found]
    return seconds, losses


# %%
ways = {
    "one option at a time": lambda options: [score_sequences(model, [each])[0] for each in options],
    "options in a batch": lambda options: score_sequences(model, options),
    "beginning once": lambda options: score_sequences(model, options, shared_prefix(options)),
}
asked = asked_sequences("physics", budget(24, quick=6))
measured = {way: timed(action, asked) for way, action in ways.items()}
plain, expected = measured["one option at a time"]
for way, (seconds, losses) in measured.items():
    gap = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    print(f"{way:22s} {seconds:6.3f} s {plain / seconds:5.1f} times as fast, off by {gap:.0e}")
    assert gap < 2e-2
whole = sum(len(each.ids) - 1 for options in asked for each in options)
once = whole - sum((len(options) - 1) * shared_prefix(options) for options in asked)
print(f"tokens read: {whole:,}, with the beginning once {once:,}: {whole / once:.1f} times fewer")


# %% [markdown]
# On a CPU most of the time goes into the tokens that are read. The batch alone reads as many, and saves only calls of the model;
# reading the beginning once saves most tokens, though with four options never more than three quarters. A GPU is mostly idle at such small work, so there
# the batch should gain more. The differences are rounding; in bfloat16 they are larger, and two options that are nearly level may
# change places.
#
# ## 5. A task
#
# Now count. In a choice the lowest loss must be at `gold`. In language modelling there is nothing to choose from: each scored
# token must be the model's first choice, all of them.

# %%
#| export evaluate.core
def is_right(task: CoreTask, item: dict, scores: list[Score]) -> bool:
    """Whether the option of lowest loss is right; in language modelling, whether all is exact."""
    if task.kind == "language_modeling":
        return scores[0].exact
    losses = [each.loss for each in scores]
    return losses.index(min(losses)) == item["gold"]


# %% [markdown]
# One item of each, with the first choices of the model beside the answer that was asked for:

# %%
for name in ("physics", "phrases"):
    verdict = is_right(tasks[name], items[name][0], score_sequences(model, first_sequences[name]))
    print(f"{name}, first item: {'right' if verdict else 'wrong'}")
(only,) = first_sequences["phrases"]
choices = scored_logits(model, [only], 0).argmax(axis=-1).tolist()
print("asked for:    ", [tokenizer.token(token) for token in only.ids[only.start :]])
print("first choices:", [tokenizer.token(token) for token in choices])

# %% [markdown]
# An answer of several tokens is right when each of them is the first choice after those before it.
#
# ### How far to trust an accuracy
#
# Before the model is asked all items, look at guessing. How far accuracies spread by luck has a formula, the **standard error**:
#
# $$ \text{SE} = \sqrt{\frac{a\,(1-a)}{n}} $$
#
# where $a$ is the accuracy and $n$ the number of items. About 95 % of all results lie within two of them. Let 2,000 people guess
# all 44 items of `physics`, one option of four:

# %%
chance = np.random.default_rng(0)
guessed = chance.binomial(44, 0.25, size=2000) / 44
figure, ax = plt.subplots(figsize=(5.5, 2.6))
ax.hist(guessed, bins=np.arange(-0.5, 45) / 44, color="#cfe4f3", edgecolor="#555555")
spread = math.sqrt(0.25 * 0.75 / 44)
for side in (-2, 2):
    ax.axvline(0.25 + side * spread, color="#D55E00", linestyle="--")
ax.axvline(0.25, color="#000000")
ax.set(xlabel="accuracy of a guesser", ylabel="guessers", xlim=(0, 0.6))
plt.show()
inside = np.mean(np.abs(guessed - 0.25) <= 2 * spread)
print(f"the luckiest got {guessed.max():.0%}; within two standard errors: {inside:.0%}")


# %% [markdown]
# All of them know nothing, and their results are spread far: nearly all between the dashed lines, two standard errors from 25 %.
# (The bar of the luckiest is too low to see.) So an accuracy is written as $a \pm \text{SE}$, and a difference of less than two or
# three standard errors is no news. Four times the items halve it:

# %%
#| export evaluate.core
def standard_error(accuracy: float, count: int) -> float:
    """How far an accuracy on `count` items typically lies from that on endlessly many."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


# %%
assert abs(guessed.std() - standard_error(0.25, 44)) < 0.004
for n in (44, 176, 1000, 10_000):
    print(f"{n:6,d} items: 25.0% ± {standard_error(0.25, n):.1%}")


# %% [markdown]
# ### Centred
#
# 50 % is nothing on a task with two options, and much on one with four. The **centred** score puts guessing at 0 and all right
# at 1:
#
# $$ \text{centred} = \frac{a - b}{1 - b} $$
#
# with $b$ the accuracy of guessing, the **baseline**. Its standard error is divided by $1 - b$ too. And **CORE** is the mean
# of the centred scores, each task with the same weight, whether it has fifty items or ten thousand.
#
# For that, all one has to know of a task is its baseline. So a result takes any `Task`, CORE's or another (chapter 14 has tasks for
# chat models). A **protocol** says what such a class must have; nothing need inherit from it.

# %%
#| export evaluate.core
class Task(Protocol):
    """What a result needs to know of a task; baseline: the accuracy of guessing."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def baseline(self) -> float: ...


@dataclass(frozen=True)
class TaskResult:
    """How many items of a task a model got right."""

    task: Task
    right: int
    count: int

    @property
    def accuracy(self) -> float:
        """Share of the items that are right."""
        return self.right / self.count

    @property
    def standard_error(self) -> float:
        """Of the accuracy."""
        return standard_error(self.accuracy, self.count)

    @property
    def centred(self) -> float:
        """0 for guessing, 1 for all right; below 0 for worse than guessing."""
        return (self.accuracy - self.task.baseline) / (1 - self.task.baseline)

    @property
    def centred_error(self) -> float:
        """The standard error of the centred score."""
        return self.standard_error / (1 - self.task.baseline)


# %% [markdown]
# And the mean over tasks, with its own standard error: independent errors add up as squares.

# %%
#| export evaluate.core
def core_score(results: list[TaskResult]) -> float:
    """The mean of the centred scores. Raises CourseError for no results."""
    if not results:
        raise CourseError("CORE is a mean over tasks, and there are none; evaluate at least one")
    return sum(result.centred for result in results) / len(results)


def core_error(results: list[TaskResult]) -> float:
    """The standard error of `core_score`, as far as it comes from the choice of the items."""
    return math.sqrt(sum(result.centred_error**2 for result in results)) / len(results)


# %% tags=["nbval-check-output"]
two, four = (CoreTask("t", "multiple_choice", baseline=b) for b in (0.5, 0.25))
for task, right in ((two, 50), (four, 50), (four, 25), (four, 100), (four, 0)):
    centred = TaskResult(task, right, 100).centred
    print(f"{right:3d} of 100, guessing {task.baseline:.0%}: centred {centred:+.2f}")


# %% [markdown]
# Below 0 is possible: worse than guessing. That is luck, or a model that is drawn to the wrong options.
#
# ### All items
#
# The loop. Items whose options share much are scored one by one, with their beginning read once; others, such as those of
# language modelling with their single option, fill up batches. With `limit` only the first items are asked, but the solved ones in
# front still come from all, so that an item is the same question in a short run and a long one.

# %%
#| export evaluate.core
def group_items(
    asked: Iterable[tuple[dict, list[ScoredSequence]]], batch_size: int
) -> Iterator[tuple[list[tuple[dict, list[ScoredSequence]]], int]]:
    """Items with their sequences as they are scored together, and how many first ids are read once.

    An item whose sequences share half of their tokens or more comes alone, others as about
    `batch_size` sequences.
    """
    waiting = []
    for item, sequences in asked:
        shared = shared_prefix(sequences)
        if 2 * shared >= max(len(each.ids) for each in sequences):
            yield [(item, sequences)], shared
            continue
        waiting.append((item, sequences))
        if sum(len(sequences) for _, sequences in waiting) >= batch_size:
            yield waiting, 0
            waiting = []
    if waiting:
        yield waiting, 0


# %% [markdown]
# Grouped like this, the items are scored and counted:

# %%
#| export evaluate.core
def evaluate_task(
    model: GPT,
    tokenizer: Tokenizer,
    task: CoreTask,
    data: list[dict],
    limit: int | None = None,
    batch_size: int = 32,
    on_items: Callable[[int, int], None] = lambda done, count: None,
) -> TaskResult:
    """Ask the model the items of a task, or the first `limit`; all others serve as examples still.

    batch_size: sequences at a time, about. on_items(done, count) is called now and then.
    Raises CourseError for no items, or another tokenizer than the model's.
    """
    count, V = len(data) if limit is None else min(limit, len(data)), tokenizer.vocab_size
    if count < 1 or batch_size < 1:
        raise CourseError(
            f"task {task.name}: {count} items, batch_size={batch_size}; expected 1 or more of each"
        )
    if V != model.config.vocab_size:
        raise CourseError(
            f"the tokenizer has {V} ids, the model {model.config.vocab_size}; "
            "give the tokenizer that the model was trained with"
        )

    def sequences_of(index: int) -> list[ScoredSequence]:
        prompts = render(task, data[index], fewshot_examples(data, index, task.num_fewshot))
        return tokenise(task, tokenizer, prompts, model.config.sequence_len)

    done = right = 0
    asked = ((data[n], sequences_of(n)) for n in range(count))
    for items, shared in group_items(asked, batch_size):
        together = [each for _, sequences in items for each in sequences]
        scores = iter(score_sequences(model, together, shared))
        for item, sequences in items:
            right += is_right(task, item, [next(scores) for _ in sequences])
        done += len(items)
        on_items(done, count)
    return TaskResult(task, right, count)


# %%
results = []
for name, task in tasks.items():
    results.append(evaluate_task(model, tokenizer, task, items[name], limit=budget(1000, quick=12)))
    result = results[-1]
    print(
        f"{name:9s} guessing {task.baseline:4.0%}  "
        f"accuracy {result.accuracy:4.0%} ± {result.standard_error:.0%}  "
        f"centred {result.centred:+.2f} ± {result.centred_error:.2f}"
    )
print(f"mean of the centred scores {core_score(results):+.3f} ± {core_error(results):.3f}")


# %%
figure, ax = plt.subplots(figsize=(6, 2.8))
draw_results(ax, results)
figure.tight_layout()
plt.show()
clear = [r.task.name for r in results if r.centred > 2 * r.centred_error]
print("clearly better than guessing:", ", ".join(clear) or "nothing")

# %% [markdown]
# `draw_results` is in `evaluate.reports`. A filled point is more than two standard errors above guessing (the dashed line), an empty
# square is not.
#
# Be honest about what this shows. A model that read Python's documentation for half a minute knows no physics, and
# a point right of the line is not yet evidence that it knows something: look at the bars. Five tasks are also five chances to be
# lucky. `phrases` is the likeliest to be clear: guessing gets nothing there, so even a few common phrases count, and they are of
# the kind of text that it was trained on. `agreement` may follow, in which half of the nouns are Python's.
#
# ### How sure must it be?
#
# Is a right answer right by much? For each item of multiple choice, take the lowest loss of the wrong options minus the loss of the
# right one. Above 0 the item is right:

# %%
margins = {}
for name in ("words", "physics"):
    margins[name] = []
    asked = asked_sequences(name, budget(60, quick=8))
    for item, sequences in zip(items[name], asked, strict=False):
        losses = [each.loss for each in score_sequences(model, sequences, shared_prefix(sequences))]
        right = losses.pop(item["gold"])
        margins[name].append(min(losses) - right)

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.6))
for name, line, color in (("words", "-", "#0072B2"), ("physics", "--", "#D55E00")):
    values = sorted(margins[name])
    ax.plot(values, np.linspace(0, 1, len(values)), line, color=color, label=name)
ax.axvline(0, color="#000000", linewidth=0.8)
ax.set(xlabel="best wrong option − right one, nats a token", ylabel="share of items up to it")
ax.legend(frameon=False)
plt.show()
near = np.mean(np.abs(sum(margins.values(), [])) < 0.5)
print(f"items less than half a nat from 0: {near:.0%}")

# %% [markdown]
# The height at which a line crosses 0 is the share of wrong items. Those near 0 are undecided: a little more training may flip
# them, either way. So expect accuracy on a small set to jump from checkpoint to checkpoint, even while bits per byte falls steadily.
#
# ## 6. From here to the real thing
#
# The program `base_eval` does all of this to a checkpoint: bits per byte, tasks, and samples of what the model writes. It takes one
# that `base_train` wrote, by its tag; here it gets this chapter's model, put into a folder of its own.

# %%
from course_lib.scripts import base_eval

folder = Path(tempfile.mkdtemp()).resolve() / "chapter_11"
meta = {"config": asdict(model.config), "tokenizer": tokenizer.fingerprint}
meta["settings"] = {"dataset": "bundled", "streaming": False}
tokenizer.save(folder / "tokenizer")
weights = dict(tree_flatten(model.parameters()))
saved = save_checkpoint(folder, Checkpoint(budget(80, quick=3), weights, {}, meta))
print(sorted(path.name for path in folder.rglob("*") if path.is_file()))

# %%
flags = ["--checkpoint", str(folder), "--eval", "core,sample", "--max-per-task", "10"]
program_output = StringIO()
with redirect_stdout(program_output):
    base_eval.main(flags)
print(program_output.getvalue().replace(str(folder), "FOLDER"))
report = json.loads((folder / f"eval_{budget(80, quick=3):06d}.json").read_text())
assert report["core"]["tasks"]["words"]["items"] == 10

# %% [markdown]
# With ten items a task the standard errors are huge. That is what `--max-per-task` is for: to see that all works, not to
# measure. The report is a JSON file beside the checkpoint, and a picture. It is written after each task, so Ctrl-C keeps those
# that are done.
#
# On a model of yours, and with the 22 real tasks:
#
# ```
# base_eval --tag d4
# base_eval --tag d12 --bundle
# ```
#
# The second fetches the 162 MB once. Then it takes long on a CPU: the tasks have tens of thousands of items, up to ten solved
# ones in front. `--max-per-task 100` gives a first look, at about ± 5 % a task.
#
# What may one expect? nanochat's published d20, 561 million parameters trained on 11 billion tokens, has a CORE of 0.2219;
# GPT-2 with 1.6 billion parameters has 0.2565. Neither was measured here, and neither can be compared with the number above: the
# tasks of this course are others. A CORE compares models that were asked the same.

# %%
shutil.rmtree(folder.parent)


# %% [markdown]
# | what to know | the number | what it cannot say |
# |---|---|---|
# | does it predict text better? | bits per byte | whether the better bytes are the ones that matter |
# | can it do something with it? | CORE, with standard errors | anything at sizes that guess: all is noise there |
# | does it write sense? | samples, read by you | how often |
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/11_evaluation_solutions.ipynb](solutions/11_evaluation_solutions.ipynb).
#
# ### Exercise 11.1 — the unit of an option
#
# 10 minutes, ●○○. The mean over tokens depends on the tokenizer again. Write `choose(losses, sizes)`: for each option, `losses` has
# a list of its tokens' losses and `sizes` a list of their bytes. Return the number of the option with the fewest nats per
# *byte*; of several, the first.
#
# <details><summary>Hint</summary>Sum each list, then divide: not the mean of the ratios.</details>

# %% tags=["exercise"]
def choose(losses, sizes):
    raise NotImplementedError


# %%
check(exercises.choose, choose)


# %% [markdown]
# ### Exercise 11.2 — the same items
#
# 20 minutes, ●●○. Two models answered the *same* items. Their accuracies have errors that go together: what is hard for one
# is hard for the other. So the error of the difference is smaller than the two standard errors suggest. Write
# `difference(first, second)` for two lists of 0 and 1, item by item. Return the difference of the accuracies, second minus first, and its
# standard error: the standard deviation of the items' differences (dividing by n), over $\sqrt{n}$.
#
# <details><summary>Hint</summary>Make one list d of second − first, with −1, 0 and 1 in it. Its mean is the first result. Its variance is the
# mean of d² minus the square of the mean.</details>

# %% tags=["exercise"]
def difference(first, second):
    raise NotImplementedError


# %%
check(exercises.difference, difference)


# %% [markdown]
# ### Exercise 11.3 — how sure is a bit?
#
# 25 minutes, ●●●. Section 2 measured bits per byte on a few documents. How far would others have moved the number? There is no
# simple formula, because documents differ so much. The **bootstrap** finds this standard error by drawing anew: draw as many
# documents as there are, *with* repetition, compute the number, and do this 1,000 times. The standard deviation of the 1,000
# numbers is the standard error. Write `bootstrap(nats, sizes, seed)`, which gets the nats and the bytes of each document as lists, and returns the standard error in bits per byte.
#
# <details><summary>Hint</summary>`np.random.default_rng(seed).integers(0, n, size=(1000, n))` draws the documents of all rounds at once. Sum nats and
# bytes of each round, then divide.</details>

# %% tags=["exercise"]
def bootstrap(nats, sizes, seed):
    raise NotImplementedError


# %%
check(exercises.bootstrap, bootstrap)


# %% [markdown]
# ## Summary
#
# - A loss per token compares models with one tokenizer only. Bits per byte compares any two, and compressors too.
# - CORE poses items as text and compares mean losses, or asks whether the model would write the answer itself.
# - The solved items in front are drawn with a fixed seed for each item: every model gets the same questions.
# - An accuracy without its standard error is half a number. Centred scores put guessing at 0.
# - The beginning that options share is read once. That changes the time, not the answers.
#
# ## Pitfalls
#
# - **The mean of the batches' ratios** instead of the ratio of the sums: short or masked batches get too much weight.
# - Bytes counted from decoded text: a lone byte of a longer character decodes to the replacement sign, which has three. Count the token's own bytes.
# - **Off by one**: the logits at a position are for the next token.
# - Sums instead of means over the tokens of an option: the shortest wins.
# - The space between context and continuation in the wrong token: then hardly any continuation is ever exact.
# - Solved items drawn anew in each run, or with the item itself among them: the number changes from run to run, or is too good.
# - Picking the best of many checkpoints by a noisy task, and reporting that task's score: the luckiest guesser above.
# - 0 of 40 has, by the formula, a standard error of 0. Yet a model that gets one in fourteen right has 0 of 40 once in twenty times: near 0 and 1 the formula says too little.
# - A benchmark that was part of the training text. Nothing in these numbers tells you; you have to know your data.
#
# ## Further reading
#
# - [DataComp-LM](https://arxiv.org/abs/2406.11794), Li et al., 2024: where CORE comes from, with all 22 tasks.
# - [nanochat](https://github.com/karpathy/nanochat): whose scoring this is.
# - [Adding Error Bars to Evals](https://arxiv.org/abs/2411.00640), Miller, 2024: standard errors for language models, paired ones too.
# - [The Winograd Schema Challenge](https://cdn.aaai.org/ocs/4492/4492-21843-1-PB.pdf), Levesque et al., 2012: where schemas come from.
# - [Language Modeling Is Compression](https://arxiv.org/abs/2309.10668), Delétang et al., 2023: models as compressors, measured.
#
# **Next:** [12 · Engine](12_engine.ipynb): a cache that grows, and text that comes fast.

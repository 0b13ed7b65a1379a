# %% [markdown]
# # 11 · Evaluation
#
# **Goal.** Say in numbers how good a **base model** is (pretrained, and nothing else), in a unit that any two models share, and
# say how far each number can be trusted.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb), [08 · GPT](08_gpt.ipynb), [10 · Training](10_training.ipynb) |
# | Time | 55 minutes to read, 55 for the exercises; about a minute to run |
# | Memory | under 1 GB |
# | You will build | the three kinds of CORE tasks, and how sure a score is → `course_lib.evaluate.core` |
#
# The loss of chapter 10 fell. Is the model good now? How well does it predict text, and can it do anything with what it has
# learned? This chapter answers the first in bits per byte, and the second with tasks that have right answers. And each time it asks: is
# a difference between two numbers real, or luck?

# %% [markdown]
# ![Map of the course: chapter 11 evaluation is marked, in Part II; after 10 training, and 12 engine comes next](images/map_11.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · **11** · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/11_evaluation.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export evaluate.core
"""CORE: three kinds of tasks, how a base model is asked, and how sure a score is.

Source: DCLM (Li et al., 2024), whose CORE this is, and nanochat (October 2025), whose choices of
seeds, separators and scores are kept, so that the numbers compare.
"""

import math
import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.records import CoreTask, Score, ScoredSequence, Task
from course_lib.host.errors import CourseError

# %%
import lzma
import statistics
import time
import zlib
from collections import Counter
from itertools import islice

import mlx.core as mx
import numpy as np

from course_lib import backend
from course_lib.classroom import budget, check, claim, stored
from course_lib.classroom import draw_scores as draw
from course_lib.classroom.exercises import evaluation as exercises
from course_lib.classroom.pair_table import PairTable
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.train.starter import load_starter
from course_lib.train.trainer import Trainer
from course_lib.train.validation import nats_and_bytes, validate

backend.seed_everything(42)

# %% [markdown]
# ## 1. Which of the two is better?
#
# Two models of two blocks each, one with a vocabulary of 512 ids, one of 2,048, are trained for 120 steps each on the same corpus. (Is that
# fair? Section 2.) Both are measured on the same held-out documents, cut into batches; targets of −1 fill the last batch.

# %%
data = open_dataset()
tokenizers = {V: Tokenizer.train(data.documents("train"), V) for V in (512, 2048)}
docs = list(islice(data.documents("val"), budget(10, quick=3)))


def batches_of(tokenizer):
    """The held-out documents as batches of 8 sequences of 256 tokens."""
    ids = [token for doc in tokenizer.encode_batch(docs, bos=True) for token in doc]
    fill = -(len(ids) - 1) % (8 * 256)
    inputs = mx.array(ids[:-1] + [tokenizer.bos] * fill).reshape(-1, 8, 256)
    targets = mx.array(ids[1:] + [-1] * fill).reshape(-1, 8, 256)
    return list(zip(inputs, targets, strict=True))


held_out = {V: batches_of(tokenizer) for V, tokenizer in tokenizers.items()}


# %% [markdown]
# To train one, and to stop for a look at some of its steps:


# %%
def learn(V, width, seed, looks):
    """Train a small model on 2,048 tokens a step; (step, bytes read, model) at each of `looks`."""
    tokenizer, read = tokenizers[V], 0
    model = GPT(GPTConfig(256, V, n_layer=2, n_head=2, n_kv_head=2, n_embd=width))
    init_weights(model, seed)
    trainer = Trainer(model, looks[-1])
    with TokenLoader(data, tokenizer, "train", 8, 256) as loader:
        for step in range(looks[-1] + 1):
            if step in looks:
                yield step, read, model
            if step < looks[-1]:
                inputs, targets = next(loader)
                read += tokenizer.token_bytes[targets].sum().item()
                trainer.step([(inputs, targets)])


# %% [markdown]
# The runs are stored, with two seeds each. `nats_and_bytes` adds up the loss of a batch.


# %%
def vocabularies():
    looks = budget([0, 15, 30, 60, 120], quick=[0, 1])
    for seed in range(budget(2, quick=1)):
        for V, width in ((512, 128), (512, 176), (2048, 128)):
            for step, read, model in learn(V, width, seed, looks):
                sizes = tokenizers[V].token_bytes
                nats, size = sum(
                    nats_and_bytes(model, *each, sizes) for each in held_out[V]
                ).tolist()
                tokens = sum(map(len, tokenizers[V].encode_batch(docs)))
                row = {"seed": seed, "steps": step, "ids": V, "width": width, "read": read}
                yield row | {"nats": nats, "tokens": tokens, "bytes": int(size)}


runs = stored("evaluation_vocabularies", vocabularies)
last = [row for row in runs if row["steps"] == runs[-1]["steps"] and row["width"] == 128]
for V in tokenizers:
    losses = [row["nats"] / row["tokens"] for row in last if row["ids"] == V]
    print(f"{V:5d} ids: {min(losses):.2f} … {max(losses):.2f} nats a token")

# %% [markdown]
# The first has by far the lower loss. Is it the better model? The loss is a mean over **tokens**, and the two models do not predict
# the same ones:

# %%
for V, tokenizer in tokenizers.items():
    print(V, [tokenizer.token(n).decode() for n in tokenizer.encode("Return the first element")])

# %% [markdown]
# The first model guesses more often, each time something smaller. What does that do to the loss? Take a model that knows nothing. To it
# all $V$ ids are alike, so each token costs $\ln V$ nats:

# %%
size, in_all = sum(len(doc.encode()) for doc in docs), {}
for V, tokenizer in tokenizers.items():
    tokens = sum(map(len, tokenizer.encode_batch(docs)))
    in_all[V] = tokens * math.log(V)
    print(f"{V:5d} ids: {math.log(V):.2f} nats a token × {tokens:,} tokens = {in_all[V]:,.0f} nats")
claim("more nats a token, and fewer for the whole text", in_all[2048] < in_all[512])

# %% [markdown]
# ### Bits per byte
#
# So divide by something that no tokenizer changes: the **bytes** of the text. And count in **bits**, as one does with bytes. A nat
# is $1/\ln 2 = 1.44$ bits.
#
# $$ \text{bits per byte} = \frac{\sum_i \text{nats}_i}{\ln 2 \cdot \sum_i \text{bytes}_i} $$
#
# The sums go over the target tokens $i$; $\text{bytes}_i$ is the length of token $i$. A byte has 8 bits, so text as it lies on
# the disk costs 8. By hand, for three tokens:

# %% tags=["nbval-check-output"]
nats, sizes = [2.0, 0.5, 3.0], [3, 6, 2]  # of " in", " order", "to", say
print(f"{sum(nats) / len(nats):.3f} nats a token")
print(f"{sum(nats) / (math.log(2) * sum(sizes)):.3f} bits per byte")

# %% [markdown]
# Sum first, then divide once. The mean of the three ratios would give the two bytes of `to` the same weight as the six of ` order`.
#
# And our two models?

# %%
bits = {V: [] for V in tokenizers}
for row in last:
    bits[row["ids"]].append(row["nats"] / (math.log(2) * row["bytes"]))
for V, of_seeds in bits.items():
    print(f"{V:5d} ids:", ", ".join(f"{each:.3f}" for each in of_seeds), "bits per byte")
claim(
    "in bits per byte the second model is the better one, with every seed",
    max(bits[2048]) < min(bits[512]),
)

# %% [markdown]
# The loss per token had it the wrong way round. **Compare losses of one tokenizer only, and bits per byte of any.**
#
# ### What counts
#
# A text has no `<|bos|>` in it. So special tokens count neither above the line nor below, and targets of −1 do not count either. Here is
# the ratio in plain Python, from the logits of the **starter model**, which comes with the course: four blocks, pretrained on this corpus for some minutes.

# %%
model, tokenizer = load_starter("base")
inputs, targets = batches_of(tokenizer)[0]
nats = size = 0
for logits, row in zip(np.array(model(inputs), dtype=np.float64), targets.tolist(), strict=True):
    for z, target in zip(logits, row, strict=True):
        if target == -1 or target == tokenizer.bos:
            continue
        nats += np.log(np.exp(z).sum()) - z[target]
        size += len(tokenizer.token(target))
by_hand = nats / (math.log(2) * size)

# %% [markdown]
# The package's `validate` does the same for many batches, with `token_bytes`: the length of each token, 0 for a special one. When there is
# nothing to count it says `nan`, "not a number", since 0 would look like a perfect model.

# %%
found = validate(model, [(inputs, targets)], tokenizer.token_bytes)
nothing = inputs, mx.full(targets.shape, -1)
print(f"by hand {by_hand:.5f}, validate {found:.5f} bits per byte")
print("nothing to count:", validate(model, [nothing], tokenizer.token_bytes))
assert math.isclose(found, by_hand, rel_tol=1e-3 if backend.device_kind() == "cpu" else 0.02)
assert validate(model, [nothing, (inputs, targets)], tokenizer.token_bytes) == found

# %% [markdown]
# ### What a look costs
#
# A look only goes forward, so it costs less than a training step on as many tokens: by operations a third (chapter 08). Measure it:

# %%
other = Trainer(GPT(model.config), 100)
seconds = {"step": [], "look": []}
for _ in range(budget(7, quick=2)):
    for name in seconds:
        started = time.perf_counter()
        if name == "step":
            other.step([(inputs, targets)])
        else:
            validate(model, [(inputs, targets)], tokenizer.token_bytes)
        seconds[name].append(time.perf_counter() - started)

# %%
look = statistics.median(seconds["look"]) / statistics.median(seconds["step"])
share = 10 * look / (100 + 10 * look)
print(f"a look costs {look:.2f} of a step; 10 batches every 100 steps take {share:.0%} of the time")
claim("a look is cheaper than a step", look < 0.9)

# %% [markdown]
# (What takes more than the third, we did not look into.) You choose the price of watching: how many batches, and how often.
#
# ## 2. A fair race?
#
# The two models differ in more than the vocabulary. A token of the larger one holds more text, so in the same number of steps that model has
# read more. And its two tables are larger, so it has more parameters. Two remedies: draw the curves over the *text* that was read, and
# let a third model race, with 512 ids but wider, so that it has as many parameters.
#
# What is the simplest thing that could win? "Bits per byte" is what compression is about: with a model's probabilities, a
# text can be stored in about as many bits as the model needs for it (arithmetic coding). So a compressor is a fair rival. `zlib`, the one in zip
# files, starts from nothing. `lzma` remembers far more: we let it read first what the model of 2,048 ids read, and count what our documents add.

# %%
raw = "".join(docs).encode()
by_zlib = 8 * len(zlib.compress(raw, 9)) / len(raw)
curves = {}
for row in runs:
    V, d = row["ids"], row["width"]
    label = f"{V:,} ids, {d} wide: {(24 * d * d + 2 * V * d) / 1e6:.2f} M"
    in_bits = row["nats"] / (math.log(2) * row["bytes"])
    curves.setdefault(label, []).append((row["read"] / 1e6, row["nats"] / row["tokens"], in_bits))
most = max(row["read"] for row in runs)
before = "".join(data.documents("train")).encode()[:most]
added = len(lzma.compress(before + raw)) - len(lzma.compress(before))
lines = {"zlib": by_zlib, "lzma, after reading": 8 * added / len(raw)}
draw.draw_units(curves, {f"{name}: {value:.2f}": value for name, value in lines.items()})

# %%
ends = [[bits for x, _, bits in points if x == points[-1][0]] for points in curves.values()]
for label, found in zip(curves, ends, strict=True):
    print(f"{label}: {statistics.mean(found):.3f} bits per byte")
(small, wide, large), (_, second, third) = ends, curves.values()
x, _, y = np.array(sorted(third)).T
there = np.interp(second[-1][0], x, y)
print(f"2,048 ids after as much text as the wide model: about {there:.3f}")
claim("512 ids lose with as many parameters and as much text, too", there < min(wide))
claim("2,048 ids beat zlib", max(large) < by_zlib)
claim(
    "lzma, which has read as much as they, beats all three",
    lines["lzma, after reading"] < min(large),
)

# %% [markdown]
# The same runs, in two units. On the left the small vocabulary looks best, on the right it is far behind, and neither parameters
# nor text explain it. What remains is the tokenizer: its merges know words before the training begins, and the same number of tokens reaches further back. (We did not separate the two. A dot is a look at one seed.) The winner is no model at all: after 120 steps a program that looks for repetitions still
# predicts Python's documentation better.
#
# ## 3. Questions with an answer
#
# Bits per byte weighs every byte alike, a closing bracket as much as the word on which the meaning hangs. **CORE** (Li et
# al., 2024) asks instead: 22 tasks, each a list of **items** with known answers. A base model does not answer, it only continues
# a text. So an item is posed as text, and the model's probabilities are the answer. There are three kinds:
#
# | kind | given | right when | for example |
# |---|---|---|---|
# | multiple choice | one context, several continuations | the right continuation is the likeliest | What keeps a room warm in winter?↵Answer: *thick curtains / a mirror / a fan* |
# | schema | several contexts, one continuation | the continuation is likeliest after the right context | The ladder did not fit into the van because the *ladder / van* was too long. |
# | language modelling | one context, one continuation | the model itself would write exactly this | The bridge opened in 1911. When did it open?↵Answer: *1911* |
#
# These are the 22. Behind each name stands the number of *shots*, solved items in front of the question; *guessing* is the share that it gets right.
#
# | what is asked | kind | tasks and shots | guessing |
# |---|---|---|---|
# | how a scene goes on | choice | hellaswag_zeroshot 0, hellaswag 10 | 25 % |
# | causes, ways to do things | choice | copa 0, piqa 10 | 50 % |
# | school science | choice | arc_easy 10, arc_challenge 10, openbook_qa 0 | 25 % |
# | everyday knowledge, puzzles | choice | commonsense_qa 10, agi_eval_lsat_ar 3 | 20 % |
# | yes or no, about a passage | choice | boolq 10 | 62 %: the commoner answer |
# | which language this is | choice | bigbench_language_identification 10 | 9 % |
# | whom a word means | schema | winograd 0, winogrande 0 | 50 % |
# | the last word of a passage | language | lambada_openai 0 | 0 % |
# | facts | language | jeopardy 10, bigbench_qa_wikidata 10 | 0 % |
# | an answer out of a passage | language | squad 10, coqa 0 | 0 % |
# | brackets, algorithms, operators, repetition | language | bigbench_dyck_languages, bigbench_cs_algorithms, bigbench_operators, bigbench_repeat_copy_logic: 10 each | 0 % |
#
# They are 162 MB. So the course has five small tasks of its own, in the same form; `evaluate.task_files` reads both. One item of
# each kind:

# %%
from course_lib.evaluate.task_files import load_items, load_tasks

tasks = {task.name: task for task in load_tasks()}
items = {name: load_items(task) for name, task in tasks.items()}
for name, task in tasks.items():
    print(f"{name:9s} {task.kind:18s} {len(items[name])} items, guessing gets {task.baseline:.0%}")
for name in ("words", "pronouns", "phrases"):
    print(items[name][0])


# %% [markdown]
# `gold` is the number of the right option, counted from 0; `cluster` comes in section 5.
#
# ### From an item to text
#
# An option is a context, a delimiter (a space, or a line with "Answer:") and a continuation. The kinds differ in which of the two
# changes from option to option.


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
# A base model must guess what game is being played. **Few-shot** means: put some solved items in front. They are drawn from the
# other items of the task with a seed for each item, so that every model gets the same question. (The seed is nanochat's, so that its
# numbers compare.)


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
shots = fewshot_examples(items["physics"], 0, 1)
prompts = render(tasks["physics"], items["physics"][0], shots)
for _, whole in prompts[:2]:
    print(whole, end="\n" + 60 * "-" + "\n")
assert shots == fewshot_examples(items["physics"], 0, 1)

# %% [markdown]
# Two options of four, after one solved item (the task asks for five).
#
# ## 4. Text, tokens, loss
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
# In a text, a space is part of the token after it. Cut apart, it stands alone, which the model has hardly ever seen. So each
# option is encoded as a whole, and the place where the answer begins is found in the ids.


# %%
#| export evaluate.core
def common_length(all_ids: list[list[int]]) -> int:
    """How many first ids all lists share."""
    for n, column in enumerate(zip(*all_ids)):  # noqa: B905
        if len(set(column)) > 1:
            return n
    return min(map(len, all_ids))


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
# A `ScoredSequence` holds the ids and the place of the first scored one. Three details, each a bug in waiting: `<|bos|>` goes in front, because in training
# each document began with it. In language modelling, the space at the end of the prompt is stripped before the two are compared,
# because it belongs to the first token of the answer. And a prompt that is too long loses its *beginning*, so that the question stays.

# %%
sequences = {}
for name in ("physics", "agreement", "phrases"):
    sequences[name] = tokenise(tasks[name], tokenizer, render(tasks[name], items[name][0]), 256)
    draw.draw_scored([([*map(tokenizer.token, each.ids)], each.start) for each in sequences[name]])


# %% [markdown]
# Blue and bold is scored; • is `<|bos|>`, · a space. The first is a multiple choice: the options differ from the blue on. Then a schema:
# the contexts differ, and after which of them is the blue end likelier? Last, language modelling: the answer begins with its space.
#
# ### Which logits?
#
# The logits at a place are for the *next* token. So token $t$ is scored by the logits at $t - 1$, and the model need not read the last
# token at all. An option with more tokens has a larger sum of losses, so CORE takes the **mean** over the scored tokens. The lowest wins.


# %%
def losses_of(model, sequence):
    """(nats of each scored token, first choice of the model at each), in NumPy's float64."""
    z = np.array(model(mx.array([sequence.ids[:-1]]))[0], dtype=np.float64)  # (T, V)
    z, targets = z[sequence.start - 1 :], sequence.ids[sequence.start :]
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -log_p[range(len(targets)), targets], z.argmax(axis=-1).tolist()


def score(model, sequence):
    losses, choices = losses_of(model, sequence)
    return Score(losses.mean(), choices == sequence.ids[sequence.start :])


# %%
one = sequences["agreement"][0]
losses, choices = losses_of(model, one)
draw.draw_shift([*map(tokenizer.token, one.ids)], one.start, losses)
print("their mean:", round(float(losses.mean()), 3))
print("first choices:", [tokenizer.token(token) for token in choices])


# %% [markdown]
# Blue arrows come from the logits that count. If you take the logits at $t$ for token $t$, you ask the model for what it has just read. Now, who is right?


# %%
#| export evaluate.core
def is_right(task: CoreTask, item: dict, scores: list[Score]) -> bool:
    """Whether the option of lowest loss is right; in language modelling, whether all is exact."""
    if task.kind == "language_modeling":
        return scores[0].exact
    losses = [each.loss for each in scores]
    return losses.index(min(losses)) == item["gold"]


# %%
for name, options in sequences.items():
    scores, item = [score(model, each) for each in options], items[name][0]
    verdict = "right" if is_right(tasks[name], item, scores) else "wrong"
    print(
        f"{name:9s}",
        [round(float(each.loss), 2) for each in scores],
        f"right: {item.get('gold')}, so {verdict}",
    )

# %% [markdown]
# In a choice the lowest loss must be at `gold`. In language modelling each scored token must be the model's first choice.
#
# `evaluate.scoring` does the same faster: it pads options into batches, reads once what they share at the beginning, and computes logits
# at the scored places only. No score may change:

# %%
from course_lib.evaluate.scoring import ask_items, score_items, score_sequences, shared_prefix

for options in sequences.values():
    for shared in (0, shared_prefix(options)):
        for each, fast in zip(options, score_sequences(model, options, shared), strict=True):
            assert math.isclose(fast.loss, score(model, each).loss, rel_tol=2e-2)
hits = {name: ask_items(model, tokenizer, tasks[name], items[name]) for name in tasks}
print({name: f"{sum(right)} of {len(right)}" for name, right in hits.items()})


# %% [markdown]
# ## 5. How far to trust an accuracy
#
# How far could those numbers be off by luck? An item that is right with probability $a$ is worth 1 or 0. Its mean is $a$, and
# its variance, the mean squared distance from there, is
#
# $$ a \cdot (1-a)^2 + (1-a) \cdot a^2 = a\,(1-a). $$
#
# Let two items lie $u$ and $v$ away from their means. Then $(u+v)^2 = u^2 + 2uv + v^2$. If they are **independent**, $uv$ averages 0,
# and the variances simply add up: $n$ items have $n\,a(1-a)$. The accuracy is their sum divided by $n$, which divides the
# variance by $n^2$. The root of what is left is the **standard error**:
#
# $$ \text{SE} = \sqrt{\frac{a\,(1-a)}{n}} $$


# %%
#| export evaluate.core
def standard_error(accuracy: float, count: int) -> float:
    """How far the accuracy on `count` independent items lies from the true one, typically."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


# %% [markdown]
# Let 2,000 people guess all 44 items of `physics`, one option of four:

# %%
guessed = np.random.default_rng(0).binomial(44, 0.25, size=2000) / 44
error = standard_error(0.25, 44)
draw.draw_guessers(guessed.tolist(), 44, 0.25, error)

# %%
inside = np.mean(np.abs(guessed - 0.25) <= 2 * error)
print(f"spread {guessed.std():.4f}, formula {error:.4f}; within two of it: {inside:.0%}")
print(f"the luckiest: {guessed.max():.0%}")
claim("the formula is the spread", abs(guessed.std() / error - 1) < 0.1)
claim("about 95 % lie within two standard errors", 0.93 < inside < 0.98)

# %% [markdown]
# They all know nothing. (If you try many checkpoints and report the best, you report the luckiest.) So write an accuracy as $a \pm \text{SE}$, and treat
# anything less than two of them above guessing as no news. Four times the items halve the error.
#
# ### Twins
#
# But are the items independent? `pronouns` has 44, and they come in pairs:

# %%
first = items["pronouns"][0]
for item in items["pronouns"]:
    if item["cluster"] == first["cluster"]:
        print(item["context_options"][item["gold"]], item["continuation"])


# %% [markdown]
# The same two contexts, another end, the other answer. A model that likes one of the contexts better and hardly listens to the
# end: what will it get?


# %%
#| export evaluate.core
def by_cluster(items: Iterable[dict], values: Sequence[float]) -> list[tuple[float, int]]:
    """(sum of its values, how many) of each cluster: items of a task that are not independent.

    Items with the same "cluster" belong together; one without stands alone.
    """
    sums: dict[Hashable, tuple[float, int]] = {}
    for n, (item, value) in enumerate(zip(items, values, strict=False)):
        key = item.get("cluster", (n,))
        total, count = sums.get(key, (0, 0))
        sums[key] = total + value, count + 1
    return list(sums.values())


# %%
for name in ("pronouns", "agreement"):
    pairs = Counter(right for right, _ in by_cluster(items[name], hits[name]))
    print(f"{name}: " + ", ".join(f"{pairs[n]} pairs with {n} right" for n in (0, 1, 2)))
    claim("most pairs have exactly one right", pairs[1] > sum(pairs.values()) / 2)


# %% [markdown]
# In nearly every pair of `pronouns` exactly one item is right, which makes about 50 %, whatever the model knows. The formula says ± 7.5 %, and the true
# spread is far smaller: if every pair had exactly one right, it would be 0. The mistake is the term $2uv$. When one twin is right and the other wrong, $u = 1 - a$ and $v = -a$.
# With $a$ near ½ that is $u \approx -v$, and $2uv$ cancels nearly all of the other two.
#
# The remedy (Miller, 2024): items that are not independent form a **cluster**. Add up the distances *inside* each cluster, whatever they do to
# each other there. The clusters are independent, so the squares of these sums add up:
#
# $$ \text{SE} = \frac{1}{n} \sqrt{\sum_c \Big( \sum_{i \in c} (x_i - a) \Big)^2 } $$
#
# Here $x_i$ is 1 for a right item and 0 for a wrong one.


# %%
#| export evaluate.core
def clustered_error(clusters: Sequence[tuple[float, int]]) -> float:
    """The standard error of the mean of all values, from (sum, how many) of each cluster.

    Of clusters of one item each it is that of independent items. Source: Miller, 2024.
    """
    count = sum(many for _, many in clusters)
    mean = sum(total for total, _ in clusters) / count
    return math.sqrt(sum((total - mean * many) ** 2 for total, many in clusters)) / count


# %% tags=["nbval-check-output"]
alone = [(1, 1)] * 11 + [(0, 1)] * 33
print(f"each alone: {clustered_error(alone):.4f}, the formula: {standard_error(0.25, 44):.4f}")
print(f"three pairs, one right in each: {clustered_error([(1, 2), (1, 2), (1, 2)]):.4f}")
print(f"three pairs, both or none: {clustered_error([(2, 2), (0, 2), (2, 2)]):.4f}, ", end="")
print(f"the formula: {standard_error(4 / 6, 6):.4f}")

# %% [markdown]
# The last line shows the other side. Where items go the *same* way, as several questions on one passage may, the plain formula promises
# too much. Which formula is true? Draw 40 pairs whose items differ with a given probability, 2,000 times, and look at the spread:

# %%
chance = np.random.default_rng(1)
ratios = {}
for differ in (0.8, 0.5, 0.2):
    one = chance.integers(0, 2, (2000, 40))
    pairs = one + np.where(chance.random(one.shape) < differ, 1 - one, one)  # 0, 1 or 2 right
    spread = (pairs.sum(axis=1) / 80).std()
    plain = np.mean([standard_error(right / 80, 80) for right in pairs.sum(axis=1)])
    clustered = np.mean([clustered_error([(n, 2) for n in row]) for row in pairs.tolist()])
    ratios[differ] = plain / spread, clustered / spread
    print(f"differ {differ:.0%}: spread {spread:.4f}, plain {plain:.4f}, by pairs {clustered:.4f}")

# %%
claim("by pairs it is right in all three cases", all(0.93 < r < 1.07 for _, r in ratios.values()))
claim("the plain one is far too large for opposite twins", ratios[0.8][0] > 1.4)
claim("and too small for items that go together", ratios[0.2][0] < 0.87)


# %% [markdown]
# In CORE, `squad` and `coqa` ask several questions about one passage. Their files do not say which, so there the package uses the plain formula, and its error is too small.
#
# ### A result, with its error
#
# The **centred** score puts guessing at 0 and all right at 1:
#
# $$ \text{centred} = \frac{a - b}{1 - b} $$
#
# with $b$ the share that guessing gets right, the task's **baseline**. Its standard error is divided by $1 - b$, too.


# %%
#| export evaluate.core
@dataclass(frozen=True)
class TaskResult:
    """How many items of a task a model got right.

    clusters: (right, how many) of each group of items that belong together; by default each item
    stands alone.
    """

    task: Task
    right: int
    count: int
    clusters: tuple[tuple[float, int], ...] = ()

    @property
    def accuracy(self) -> float:
        return self.right / self.count

    @property
    def standard_error(self) -> float:
        if self.clusters:
            return clustered_error(self.clusters)
        return standard_error(self.accuracy, self.count)

    @property
    def centred(self) -> float:
        return (self.accuracy - self.task.baseline) / (1 - self.task.baseline)

    @property
    def centred_error(self) -> float:
        return self.standard_error / (1 - self.task.baseline)


def task_result(task: Task, items: Iterable[dict], hits: Sequence[bool]) -> TaskResult:
    """The result of a task, from its items and whether each was right."""
    clusters = by_cluster(items, hits)
    return TaskResult(
        task, sum(hits), len(hits), tuple(clusters) if len(clusters) < len(hits) else ()
    )


# %% [markdown]
# Both errors side by side, for the starter model; `clear` is more than two standard errors above guessing:

# %%
results = {name: task_result(tasks[name], items[name], hits[name]) for name in tasks}
print("           accuracy    plain          by clusters")
for name, result in results.items():
    line = f"{name:10s} {result.accuracy:7.1%}"
    plain = standard_error(result.accuracy, result.count)
    for doubt in (plain, result.standard_error):
        clear = result.accuracy - result.task.baseline > 2 * doubt
        line += f"   ± {doubt:5.1%} {'clear' if clear else '':6s}"
    print(line)
    if result.clusters:
        claim(f"{name}: twins leave less doubt than the plain formula says", doubt < plain)

# %% [markdown]
# ### Two models on the same items
#
# Is the model better than a table of pairs (chapter 01) that has read as much of the same text? `PairTable` of the classroom counts how often each id came after
# each, and answers the same items in the same way.
#
# An item that is easy for one is often easy for the other, so the two accuracies err together. Take the **difference on each item**, 1, 0 or
# −1, and its mean. The same function gives its error:

# %%
with TokenLoader(data, tokenizer, "train", 8, 256) as loader:
    table = PairTable(model.config, islice(loader, budget(642, quick=3)))  # what the model read
errors, leads = {}, {}  # leads: in paired errors
for name, task in tasks.items():
    of_table = ask_items(table, tokenizer, task, items[name])
    gains = [ours - theirs for ours, theirs in zip(hits[name], of_table, strict=True)]
    other = task_result(task, items[name], of_table)
    apart = math.hypot(results[name].standard_error, other.standard_error)
    errors[name] = clustered_error(by_cluster(items[name], gains)), apart
    print(f"{name:10s} model {results[name].accuracy:6.1%}, table {other.accuracy:6.1%}: ", end="")
    paired = f"{statistics.mean(gains):+6.1%}, paired ± {errors[name][0]:.1%}"
    print(f"{paired}, unpaired ± {apart:.1%}")
    leads[name] = statistics.mean(gains) / errors[name][0]
paired, unpaired = map(sum, zip(*errors.values(), strict=True))
claim("paired, the errors are smaller, by a fifth or more in all", paired < 0.8 * unpaired)
claim("the model is clearly better on no task", max(leads.values()) < 2)
claim("on phrases the table is", leads["phrases"] < -2)


# %% [markdown]
# So is it better? A difference counts when it is more than two paired errors from 0. Only one does, and it speaks for the table, on `phrases`. Nothing here shows that the model is better.

# %% [markdown]
# ## 6. One number for all
#
# **CORE** is the mean of the centred scores, each task with the same weight, whether it has 32 items or 20,000. Errors of different tasks
# are independent, so they add up as squares:


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


# %%
mean, error = core_score([*results.values()]), core_error([*results.values()])
print(f"mean of the centred scores {mean:+.3f} ± {error:.3f}")
claim("the mean is clear of guessing", mean > 2 * error)
draw.draw_core([*results.values()])

# %% [markdown]
# The bars are two standard errors long on each side. A filled point is clear of guessing. Left of the dashed line is worse than guessing. The mean is clear of it: `words` and `agreement` lift it.
#
# ### By what margin?
#
# For each item of multiple choice, take the lowest loss of the wrong options minus the loss of the right one. Above 0 the item is right:

# %%
margins = {"words": [], "physics": []}
for name, found in margins.items():
    scores = score_items(model, tokenizer, tasks[name], items[name])
    for item, of_options in zip(items[name], scores, strict=True):
        losses = [each.loss for each in of_options]
        right = losses.pop(item["gold"])
        found.append(min(losses) - right)
draw.draw_margins(margins)
near = np.mean(np.abs([*margins["words"], *margins["physics"]]) < 0.5)
print(f"less than half a nat from 0: {near:.0%}")


# %% [markdown]
# Those near 0 could tip with a little more training or another seed. Others are wrong by two nats or more, and that is no near miss.
#
# ## 7. What can it do?
#
# One model may be lucky. Five of section 1's kind, with 2,048 ids and different starting values, are stored, after 100 steps and after 200. First: how often do the two errors disagree?

# %%
small = tokenizers[2048]  # that of section 1


def five_models():
    looks = budget([100, 200], quick=[1, 2])
    for seed in range(budget(5, quick=1)):
        for steps, _, model in learn(2048, 128, seed, looks):
            for name, task in tasks.items():
                right = ask_items(model, small, task, items[name], limit=budget(100, quick=4))
                found = task_result(task, items[name], right)
                plain = standard_error(found.accuracy, found.count)
                row = {"seed": seed, "steps": steps, "task": name}
                row |= {"right": found.right, "items": found.count}
                yield row | {"plain": plain, "clustered": found.standard_error}


models = stored("evaluation_tasks", five_models)


# %%
def clear(row, kind):
    """Whether a stored result is more than two standard errors above guessing."""
    return row["right"] / row["items"] - tasks[row["task"]].baseline > 2 * row[kind]


changed = Counter(row["task"] for row in models if clear(row, "plain") != clear(row, "clustered"))
print(f"of {len(models)} verdicts, clusters change", dict(changed))
claim("clusters change verdicts, and only on agreement", set(changed) == {"agreement"})

# %% [markdown]
# On `agreement` the plain formula had missed something that is there. And what can the models do? Beside them stands a table of pairs from 200 batches, as many as they have read:

# %%
with TokenLoader(data, small, "train", 8, 256) as loader:
    table = PairTable(model.config, islice(loader, budget(200, quick=3)))
lead, sure = {}, {}
for name, task in tasks.items():
    rows = [row for row in models if (row["steps"], row["task"]) == (models[-1]["steps"], name)]
    ours = [row["right"] / row["items"] for row in rows]
    theirs = statistics.mean(ask_items(table, small, task, items[name]))
    lead[name] = statistics.mean(ours) - theirs
    sure[name] = sum(clear(row, "clustered") for row in rows)
    print(f"{name:10s} guessing {task.baseline:4.0%}, table {theirs:5.1%}, models", end="")
    print(f"{statistics.mean(ours):6.1%} ({min(ours):.0%} … {max(ours):.0%})", end="")
    print(f", clear: {sure[name]} of {len(rows)}")

# %%
claim(
    "nobody is clear on words, physics and pronouns",
    sure["words"] + sure["physics"] + sure["pronouns"] == 0,
)
claim("most are on agreement and phrases", min(sure["agreement"], sure["phrases"]) > 2)
claim("the table of pairs is better on words and phrases", max(lead["words"], lead["phrases"]) < 0)
claim("and as good on agreement, within five points", abs(lead["agreement"]) < 0.05)


# %% [markdown]
# Be honest about this. Models that read Python's documentation for some minutes know no physics. (On physics the table is far below guessing, as the starter model is: it must prefer some kind of option that is seldom right. We did not look into it.) They are above guessing on agreement and on
# phrases, and a table of pairs, which looks one token back, does that as well or better. "Above guessing" says that something was learned.
# It does not say what.
#
# ### The real thing
#
# `base_eval --tag d4` does all of this to a checkpoint that `base_train` wrote, and adds samples of what the model writes. With
# `--bundle` it asks the 22 real tasks, with `--max-per-task 100` a hundred items of each.
#
# The published d20 of nanochat (October 2025), 561 million parameters trained on 11 billion tokens, has a CORE of 0.2219; GPT-2 with 1.6 billion
# parameters has 0.2565. Neither was measured here, and neither compares with our mean: a CORE compares models that were asked the same.
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
# <details><summary>Hint 1</summary>It is section 1 once more, for each option: what is above the line, and what below?</details>
#
# <details><summary>Hint 2</summary>Sum each list, then divide: not the mean of the ratios. `scores.index(min(scores))` is the first of the lowest.</details>


# %% tags=["exercise"]
def choose(losses, sizes):
    raise NotImplementedError


# %%
check(exercises.choose, choose)


# %% [markdown]
# ### Exercise 11.2 — the same items, and twins among them
#
# 20 minutes, ●●○. Two models answered the same items; `first` and `second` are lists of 0 and 1, and `clusters` holds a label for each
# item: equal labels belong together, wherever they stand. Write `difference(first, second, clusters)`. Return the difference of the
# accuracies, second minus first, and its standard error, paired and clustered, from the formula and without `clustered_error`.
#
# <details><summary>Hint 1</summary>Pair first: make one list d of second − first, with −1, 0 and 1 in it. Then d takes the place of $x$ in section 5.</details>
#
# <details><summary>Hint 2</summary>A dictionary from label to the sum of d − mean(d) over its items. Square these sums, add them up, take the root, and divide by the number
# of items.</details>


# %% tags=["exercise"]
def difference(first, second, clusters):
    raise NotImplementedError


# %%
check(exercises.difference, difference)


# %% [markdown]
# ### Exercise 11.3 — how sure is a bit?
#
# 25 minutes, ●●●. Section 1 measured bits per byte on a few documents. How far would others have moved the number? There is no
# simple formula for a ratio. The **bootstrap** draws anew: as many documents as there are, *with* repetition. Compute the number, and do this
# 1,000 times. The standard deviation of the 1,000 numbers is the standard error. Write `bootstrap(nats, sizes, seed)`, which gets the nats
# and the bytes of each document as lists, and returns the standard error in bits per byte.
#
# <details><summary>Hint 1</summary>`np.random.default_rng(seed).integers(0, n, size=(1000, n))` draws the documents of all rounds at once.</details>
#
# <details><summary>Hint 2</summary>Index both arrays with it. Sum nats and bytes of each round, then divide the sums. Do not forget the ln 2.</details>


# %% tags=["exercise"]
def bootstrap(nats, sizes, seed):
    raise NotImplementedError


# %%
check(exercises.bootstrap, bootstrap)

# %% [markdown]
# ## Summary
#
# - A loss per token compares models with one tokenizer only. Bits per byte compares any two, even with a compressor.
# - CORE poses items as text and compares mean losses, or asks whether the model would write the answer itself.
# - The logits at $t - 1$ score token $t$.
# - An accuracy without its standard error is half a number, and items that belong together are one cluster.
# - Compare two models item by item. Centred scores put guessing at 0.
#
# ## Pitfalls
#
# - The mean of ratios in place of the ratio of sums: short tokens get too much weight.
# - Off by one: the logits at a place are for the next token.
# - The space between context and continuation in the wrong token.
# - Twins counted as independent items: too much doubt. Questions about one passage: too little.
# - The best of many checkpoints, reported: that is the luckiest guesser.
# - A benchmark that was part of the training text. Nothing in these numbers tells you.
#
# ## Further reading
#
# - [DataComp-LM](https://arxiv.org/abs/2406.11794), Li et al., 2024: where CORE comes from, with all 22 tasks.
# - [Adding Error Bars to Evals](https://arxiv.org/abs/2411.00640), Miller, 2024: standard errors for language models, clustered and paired ones too.
# - [Language Modeling Is Compression](https://arxiv.org/abs/2309.10668), Delétang et al., 2023: models as compressors, measured.
#
# **Next:** [12 · Generation](12_engine.ipynb): a cache that grows, and text that comes fast.

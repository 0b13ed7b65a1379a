# %% [markdown]
# # 14 · Tools and tasks
#
# **Goal.** Give the model a calculator, and count how often its replies are right.
#
# | | |
# |---|---|
# | Needs | [11 · Evaluation](11_evaluation.ipynb), [12 · Generation](12_engine.ipynb), [13 · Conversations](13_conversations.ipynb) |
# | Time | 50 minutes to read, 70 for the exercises; one to two minutes to run |
# | Memory | under 1 GB |
# | You will build | a calculator that is safe to give away → `course_lib.chat.calculator`; tasks and their scores → `course_lib.chat.tasks` |
#
# A language model writes one token after another, each in the same short time. A sum with long numbers needs more work than
# that. A program needs a millionth of a second for it. So the model should not do the sum: it should *ask for it*. This
# chapter builds what it asks, and then measures what that is worth.

# %% [markdown]
# ![Map of the course: chapter 14 tools is marked, the second one of Part III; after 13 conversations, before 15 reinforcement](images/map_14.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · **14** · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/14_tools_and_tasks.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export chat.calculator
"""A calculator for the model: sums, and counting in a text, read by a parser and never run.

Source: nanochat, whose language this is.
"""

import ast
import itertools
import math
import operator
import re
from collections.abc import Callable

# %%
#| export chat.tasks
"""Tasks for a chat model: questions with answers, which replies are right, and how often they are.

Source: nanochat, whose kinds of tasks and centred mean these are.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import mlx.core as mx

from course_lib.chat.conversation import render_for_completion
from course_lib.chat.corpora import rows
from course_lib.chat.lessons import KINDS, blind_questions, lesson
from course_lib.chat.sources import FROM_HUB
from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.scoring import ScoredSequence, scored_logits
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError

# %% [markdown]
# These cells open the two modules that this chapter builds. The next one is for this notebook only.

# %%
import json
import os
import shutil
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from io import StringIO
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.chat.conversation import render_conversation
from course_lib.chat.sources import mmlu_messages
from course_lib.classroom import budget, check
from course_lib.classroom.exercises import tools_and_tasks as exercises
from course_lib.evaluate.core import TaskResult, core_error, core_score, standard_error
from course_lib.evaluate.reports import draw_results
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.checkpoint import Checkpoint, save_checkpoint
from course_lib.train.trainer import Trainer

backend.seed_everything(42)
print(backend.describe())


# %% [markdown]
# ## 1. A sum in the head
#
# ### Two ways to answer
#
# The user writes `47+85`. One assistant answers at once. The other writes the sum between `<|python_start|>` and
# `<|python_end|>`, reads the output that somebody puts after it, and says it. Its user, its words and its model are the same.

# %%
def lesson_in_head(question, answer):
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


def lesson_with_tool(question, answer):
    parts = [("python", question), ("python_output", answer), ("text", answer)]
    content = [{"type": kind, "text": text} for kind, text in parts]
    return [{"role": "user", "content": question}, {"role": "assistant", "content": content}]


# %%
digits_tokenizer = Tokenizer.train(["0123456789+-"], 265)
for make in (lesson_in_head, lesson_with_tool):
    ids, mask = render_conversation(digits_tokenizer, make("47+85", "132"))
    print(digits_tokenizer.decode(ids))
    print("trained:", digits_tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m]))


# %% [markdown]
# The tokenizer has no merges, so a digit is a token. Trained is what the assistant writes itself. The output is not: nobody asks
# the model to guess `132` there, it only has to read it.
#
# ### Two models
#
# They are alike and small, with the same steps and the same sums: of numbers with one to four digits, `+` or `-`.

# %%
def draw_sum(rng, lengths):
    """A question such as 47-385, numbers of some lengths, and its answer."""
    a, b = (rng.randrange(10 ** (n - 1) if n > 1 else 0, 10**n) for n in lengths)
    return (f"{a}+{b}", str(a + b)) if rng.random() < 0.5 else (f"{a}-{b}", str(a - b))


def batch_of(tokenizer, conversations):
    """Inputs and targets (B, T); -1 where nothing is to be learned."""
    rows = [render_conversation(tokenizer, messages) for messages in conversations]
    T, end = max(len(ids) for ids, _ in rows), tokenizer.special("<|assistant_end|>")
    ids = mx.array([ids + [end] * (T - len(ids)) for ids, _ in rows])
    mask = mx.array([mask + [0] * (T - len(mask)) for _, mask in rows])
    return ids[:, :-1], mx.where(mask[:, 1:] == 1, ids[:, 1:], -1)


# %%
def train_on_sums(make, num_steps):
    """A model that has seen 32 sums at each step, and its losses."""
    backend.seed_everything(1)
    model, rng = GPT(GPTConfig(128, digits_tokenizer.vocab_size, 2, 4, 4, 64)), random.Random(0)
    trainer, losses = Trainer(model, num_steps), []
    for _ in range(num_steps):
        sums = [draw_sum(rng, (rng.randint(1, 4), rng.randint(1, 4))) for _ in range(32)]
        batch = batch_of(digits_tokenizer, [make(*each) for each in sums])
        losses.append(trainer.step([batch]).loss)
    return model, losses


num_steps, in_head, with_tool = budget(300, quick=30), "in the head", "with the tool"
models, losses = {}, {}
for way, make in ((in_head, lesson_in_head), (with_tool, lesson_with_tool)):
    models[way], losses[way] = train_on_sums(make, num_steps)
    print(f"{way}: loss {losses[way][0]:.2f} -> {sum(losses[way][-10:]) / 10:.3f} nats a token")

# %% [markdown]
# The first one has to compute each digit of the answer. The second has to *copy*: the question into the call, the output into
# the answer. That much a small transformer learns in a few hundred steps.
#
# How often is the first right? Ask it sums of numbers with one digit, two digits, and so on, greedy.

# %%
num_asked = budget(100, quick=10)


def replies_to(model, sums, tool=None):
    """Texts of the greedy replies, tool calls and all."""
    engine = Engine(model, digits_tokenizer, tool)
    prompts = [render_for_completion(digits_tokenizer, lesson_in_head(*each)) for each in sums]
    written = engine.generate_batch(prompts, max_tokens=60, temperature=0, max_rows=50)
    return [digits_tokenizer.decode(generation.ids) for generation in written]


sums_of = {
    n: [draw_sum(random.Random(f"{n} {k}"), (n, n)) for k in range(num_asked)] for n in range(1, 7)
}


def count_right(way, tool=None):
    """How many replies are right, by the digits of the numbers; what follows an output counts."""
    counts = {}
    for n, sums in sums_of.items():
        said = [reply.split("<|output_end|>")[-1] for reply in replies_to(models[way], sums, tool)]
        counts[n] = sum(text == answer for text, (_, answer) in zip(said, sums, strict=True))
    return counts


right = {in_head: count_right(in_head)}
print(f"right of {num_asked}, by digits:", right[in_head])

# %% [markdown]
# Short sums it may know by heart, some of them. From two digits on it writes numbers of a plausible length that are wrong. More
# steps and a larger model push the border outwards, and it stays a border: each token is one pass through a fixed number of
# blocks, however long the numbers are.
#
# And the other model?

# %%
print(replies_to(models[with_tool], [("47+85", "132")])[0])

# %% [markdown]
# It asks, and nobody answers. That it has never seen, and what it writes from there on is worthless. The calculator is missing.
#
# ## 2. A calculator
#
# ### Not eval
#
# Python has a calculator built in. `eval("47+85")` is 132. But what stands between the two tokens was written by a model, and a
# model writes what a user talks it into. `eval` does not compute sums, it *runs programs*:

# %%
attack = "__import__('os').getpid()"
print("eval ran it, this is the number of our process:", eval(attack) == os.getpid())

# %% [markdown]
# That one was harmless. It could have deleted your files. The usual advice is to take all names away from `eval`. It does not
# help: from any object a way leads to the class of all objects, and from there to everything that Python has loaded.

# %%
attack_without_names = (
    "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
    ".__init__.__globals__['getpid']()"
)
found = eval(attack_without_names, {"__builtins__": {}})
print("no names allowed, and still:", found == os.getpid())

# %% [markdown]
# Forbidding words does not help either: there is always another way to write it. And `9**9**9` needs no forbidden word at all,
# only more time than you have.
#
# So turn it round. Do not list what is forbidden. List what is **allowed**, and let everything else be nothing.
#
# ### Parse, then compute
#
# Python's parser makes a tree of a text and runs nothing:

# %%
print(ast.dump(ast.parse("2*(3+4)", mode="eval").body, indent=2))

# %% [markdown]
# The value of a tree is computed from its leaves to its root. Each kind of node that we know is one case below: a number, a sign,
# an operation, and, as in nanochat, how often a text contains another. Whatever is not named ends in the last line.

# %%
#| export chat.calculator
MAX_CHARS = 1000  # of an expression; without powers the result has about as many digits at most
MAX_DEPTH = 100  # of nested parentheses, and of the parsed tree
OPERATORS: dict[type, Callable[..., int | float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


# %%
#| export chat.calculator
def value_of(node: ast.expr, depth: int = 0) -> int | float:
    """The value of a tree. Raises ValueError for a node that is not in the language.

    It does only what it has a case for. depth: how many nodes stand above this one.
    """
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            pass
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            value = OPERATORS[type(op)](value_of(operand, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            value = OPERATORS[type(op)](value_of(left, depth + 1), value_of(right, depth + 1))
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str() as text), attr="count"),
            args=[ast.Constant(value=str() as part)],
            keywords=[],
        ):
            value = text.count(part)
        case _:
            raise ValueError("not in the language")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    return value


# %% tags=["nbval-check-output"]
for text in ("2*(3+4)", "-7/2", "'strawberry'.count('r')"):
    print(text, "=", value_of(ast.parse(text, mode="eval").body))

# %% [markdown]
# No power: `**` makes numbers that fill the memory. Without it a result has hardly more digits than the expression.
#
# ### Before the parser
#
# Python knows more ways to write a number than a calculator should: `0x10`, `1e5`, `1_000`, or digits of other scripts. And very
# deep brackets can make a parser slow. So a text must look right before it is parsed: digits, `+ - * / ( ) .`, spaces, commas,
# `.count(` and texts in quotes.

# %%
#| export chat.calculator
STRING = r"""'[^'\\\x00-\x1f]*'|"[^"\\\x00-\x1f]*\""""
SHAPE = re.compile(rf"(?:[\d+\-*/(). ,]|\.count(?=\s*\()|{STRING})+", re.ASCII)


def _brackets(expression: str) -> int:
    """Maximum nesting depth of parentheses; those inside strings do not count."""
    found = re.findall(r"[()]", re.sub(STRING, "", expression))
    steps = (1 if bracket == "(" else -1 for bracket in found)
    return max(itertools.accumulate(steps, initial=0))


def _without_commas(expression: str) -> str:
    """1,000 becomes 1000; a comma in a text stays."""
    return re.sub(rf"({STRING})|(?<=\d),(?=\d)", lambda found: found[1] or "", expression)


# %% [markdown]
# Now the tool. It never raises: to the engine, no value is a result like any other.

# %%
#| export chat.calculator
def use_calculator(expression: str) -> str | None:
    """The value of an expression as Python would print it, or None if it is not in the language.

    The language: numbers (with commas between digits, which are dropped), + - * / // ( ) and
    'text'.count('part'). A quotient is a float ("10/5" gives "2.0"), all else of whole numbers an
    int. None for everything else, for a division by zero, for a float that is not finite, for more
    than MAX_CHARS characters or MAX_DEPTH levels. Nothing is ever run, and nothing is raised.
    """
    if not isinstance(expression, str) or len(expression) > MAX_CHARS:
        return None
    try:
        if not SHAPE.fullmatch(expression) or _brackets(expression) > MAX_DEPTH:
            return None
        tree = ast.parse(_without_commas(expression.strip()), mode="eval")
        return str(value_of(tree.body))
    except (ArithmeticError, RecursionError, MemoryError, SyntaxError, ValueError):
        return None


# %% tags=["nbval-check-output"]
for expression in ("47+85", "10/5", "1,000*2", "2*(3+4)", "'banana'.count('a')", "7//2", "-3"):
    print(f"{expression:22s} {use_calculator(expression)}")

# %% [markdown]
# `10/5` is `2.0`, as in Python: a quotient is a float, even when it comes out even. And what must not have a value:

# %%
refused = [attack, attack_without_names, "9**9**9", "x", "True", "1e5", "0x10", "1/0", "(1, 2)"]
refused += ["", "1+", "'a'*999999999", "'a'.upper()", "(" * 10**6, "9" * 400 + "/1", "1\x00"]
for expression in refused:
    assert use_calculator(expression) is None, expression
print(len(refused), "texts, both attacks among them: None")


# %% [markdown]
# How long can it take? Try the worst of what is within the bounds.

# %%
def milliseconds(expression):
    start = time.perf_counter()
    use_calculator(expression)
    return 1000 * (time.perf_counter() - start)


worst = {
    "a product of two long numbers": "9" * 499 + "*" + "9" * 499,
    "a long sum": "1+" * 499 + "1",
    "deep brackets": "(" * 100 + "1" + ")" * 100,
    "open brackets": "(" * 100,
    "many signs": "-" * 900 + "1",
    "a long text": "'" + "a" * 985 + "'.count('a')",
    "a million brackets": "(" * 10**6,
}
for what, expression in worst.items():
    print(f"{what:30s} {max(milliseconds(expression) for _ in range(5)):7.3f} ms")

# %% [markdown]
# A step of a large model takes longer than each of these. The tests of this module throw hundreds of random texts at it: none
# may raise, run anything, or take a tenth of a second.
#
# ## 3. The engine's part
#
# ### A machine with three states
#
# Chapter 12 left room for a tool in its `Row`: `Engine(model, tokenizer, tool=use_calculator)`. A row that is being written is in
# one of three states.

# %%
from matplotlib.patches import FancyBboxPatch


def draw_states():
    """Three boxes in a row, and what leads from one to the next."""
    figure, ax = plt.subplots(figsize=(9.4, 2.9))
    boxes = {"text": 0, "expression": 5, "result": 10}
    notes = {
        "text": "the model's tokens\nmask 1",
        "expression": "the model's tokens,\ncollected; mask 1",
        "result": "forced tokens; the model's\nare dropped; mask 0",
    }
    for name, x in boxes.items():
        face, line = ("#fbe3d2", "--") if name == "result" else ("#cfe4f3", "-")
        style = {"boxstyle": "round,pad=0.1", "fc": face, "ec": "#1a1a1a", "ls": line}
        ax.add_patch(FancyBboxPatch((x, 0), 2.8, 1, **style))
        ax.text(x + 1.4, 0.75, name, ha="center", va="center", weight="bold")
        ax.text(x + 1.4, 0.28, notes[name], ha="center", va="center", fontsize=8)
    arrows = [
        ((2.95, 0.5), (4.85, 0.5), 0, "<|python_start|>", (3.9, 0.6)),
        ((7.95, 0.5), (9.85, 0.5), 0, "<|python_end|>\nit has a value", (8.9, 0.6)),
        ((6.4, 1.15), (1.4, 1.15), 0.28, "<|python_end|>, and it has no value", (3.9, 1.95)),
        ((11.4, -0.15), (1.4, -0.15), -0.18, "<|output_end|> was forced", (6.4, -1.6)),
    ]
    for start, end, bend, label, (x, y) in arrows:
        style = {"arrowstyle": "-|>", "connectionstyle": f"arc3,rad={bend}", "color": "#555555"}
        ax.annotate("", end, start, arrowprops=style)
        ax.text(x, y, label, ha="center", va="bottom", fontsize=8)
    ax.set(xlim=(-0.2, 13), ylim=(-1.8, 2.3))
    ax.axis("off")
    plt.show()


draw_states()


# %% [markdown]
# Between `<|python_start|>` and `<|python_end|>` the tokens are collected. At the end the tool is asked. With a value, the tokens of
# `<|output_start|>`, the value and `<|output_end|>` stand in a queue, and each step takes its token from there until it is empty.
# The model still reads them: they go into the cache like all others. Without a value nothing happens, and the model has to cope.
#
# ### A model that writes what we want
#
# To test the engine we need a model whose every token we know. Here is one, a true GPT with weights by hand: a token's embedding
# is 1 at its own place, the blocks add nothing, and the head says which token follows which.

# %%
def model_that_writes(tokenizer, *runs):
    """A GPT that greedily goes from each token of a run to the next; all others end the reply."""
    V = tokenizer.vocab_size
    model = GPT(GPTConfig(64, V, 1, 1, 1, 272))
    model.transformer.wte.weight = mx.eye(V, 272)
    head = mx.zeros((V, 272))
    head[tokenizer.special("<|assistant_end|>")] = 0.5
    for run in runs:
        for before, after in pairwise(run):
            head[after, before] = 1.0
    model.lm_head.weight = head
    return model


def ids_of(*pieces):
    """Ids of special tokens and of texts."""
    ids = []
    for piece in pieces:
        is_special = piece.startswith("<|")
        ids += [digits_tokenizer.special(piece)] if is_special else digits_tokenizer.encode(piece)
    return ids


# %%
bos = digits_tokenizer.bos
call = ids_of("<|python_start|>", "47+85", "<|python_end|>")
writer = model_that_writes(digits_tokenizer, [bos, *call], ids_of("<|output_end|>", "ok"))
engine = Engine(writer, digits_tokenizer, tool=use_calculator)
(reply,) = engine.generate_batch([[bos]], temperature=0)
print(digits_tokenizer.decode(reply.ids))
forced = ids_of("<|output_start|>", "132", "<|output_end|>")
assert reply.ids == call + forced + ids_of("ok")
assert reply.masks == [1] * len(call) + [0] * len(forced) + [1, 1]


# %% [markdown]
# That model cannot add. It says what follows `<|python_end|>` nowhere: `132` came from the tool. Here is the reply token by token:

# %%
def draw_reply(tokenizer, reply):
    """A box for each token; forced ones hatched."""
    figure, ax = plt.subplots(figsize=(9.4, 1.5))
    for n, (token, mask) in enumerate(zip(reply.ids, reply.masks, strict=True)):
        style = {"fc": "#cfe4f3"} if mask else {"fc": "#fbe3d2", "hatch": "///", "ec": "#D55E00"}
        ax.add_patch(plt.Rectangle((n, 0), 0.92, 1, **{"ec": "#0072B2", **style}))
        text = tokenizer.decode([token]).strip("<|>").replace("_", "\n")
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        size = 7 if "\n" in text else 9
        ax.text(n + 0.46, 0.5, text, ha="center", va="center", fontsize=size, bbox=paper)
        ax.text(n + 0.46, -0.25, mask, ha="center", va="center", fontsize=9)
    ax.text(-0.15, -0.25, "mask", ha="right", va="center", fontsize=9)
    ax.set(xlim=(-1, len(reply.ids)), ylim=(-0.5, 1.1))
    ax.axis("off")
    plt.show()


draw_reply(digits_tokenizer, reply)

# %% [markdown]
# Hatched boxes with mask 0 are the tool's. The mask is what training in chapter 15 asks for: a model is not to be praised or
# blamed for tokens that it did not choose.
#
# ### When it does not go well
#
# No value: nothing is forced, and the model writes on.

# %%
no_value = ids_of("<|python_start|>", "47+", "<|python_end|>")
writer = model_that_writes(digits_tokenizer, [bos, *no_value, *ids_of("8")])
(reply,) = Engine(writer, digits_tokenizer, use_calculator).generate_batch([[bos]], temperature=0)
print(digits_tokenizer.decode(reply.ids), reply.masks)
assert reply.ids == [*no_value, *ids_of("8")] and set(reply.masks) == {1}

# %% [markdown]
# An expression that never ends: the row ends like every other, with `max_tokens` or when the model's sequence is full. The tool
# is never asked.

# %%
four, seven = ids_of("47")
writer = model_that_writes(digits_tokenizer, [bos, *ids_of("<|python_start|>"), four, seven, four])
(reply,) = Engine(writer, digits_tokenizer, use_calculator).generate_batch(
    [[bos]], max_tokens=20, temperature=0
)
print(digits_tokenizer.decode(reply.ids), reply.finish_reason)
assert reply.finish_reason == "max_tokens" and len(reply.ids) == 20

# %% [markdown]
# `max_tokens` in the middle of a result cuts it there. A reply may so end with `<|output_start|>13`, and code that reads replies
# must bear it.

# %%
(reply,) = engine.generate_batch([[bos]], max_tokens=9, temperature=0)
print(digits_tokenizer.decode(reply.ids), reply.masks, reply.finish_reason)
assert reply.masks == [1] * 7 + [0] * 2

# %% [markdown]
# Several rows at once: each has its own state. In this batch of two, one calls, and its forced tokens do not touch the other. And
# each is what it is alone.

# %%
prompts = [[bos], [bos, *ids_of("<|output_end|>")]]
together = engine.generate_batch(prompts, temperature=0)
for prompt, reply in zip(prompts, together, strict=True):
    print(digits_tokenizer.decode(reply.ids), reply.masks)
    assert engine.generate_batch([prompt], temperature=0) == [reply]

# %% [markdown]
# ### The two models again
#
# Now the second model of section 1 gets its calculator. A reply is right when what comes after the output is.

# %%
right[with_tool] = count_right(with_tool, use_calculator)
print(replies_to(models[with_tool], [("47+85", "132")], use_calculator)[0])
print(f"right of {num_asked}, by digits:", right[with_tool])

# %%
figure, ax = plt.subplots(figsize=(5.8, 3))
styles = {in_head: ("#D55E00", "s--"), with_tool: ("#0072B2", "o-")}
for way, counts in right.items():
    color, style = styles[way]
    shares = [count / num_asked for count in counts.values()]
    errors = [2 * standard_error(share, num_asked) for share in shares]
    ax.errorbar(list(counts), shares, errors, fmt=style, color=color, capsize=4, label=way)
ax.axvspan(4.5, 6.5, color="#eeeeee")
ax.text(5.5, 0.55, "longer than\nin training", ha="center", fontsize=9)
ax.set(xlabel="digits of each number", ylabel="share of right replies")
ax.set(xlim=(0.5, 6.5), ylim=(-0.05, 1.1))
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(0.02, 0.45))
plt.show()

# %% [markdown]
# The bars are two standard errors to each side. The line with the tool stays high as far as the lengths of training go: the same
# model, the same steps. Beyond, in the grey part, it falls as well. Look at one of those replies:

# %%
question, answer = sums_of[5][0]
(long_reply,) = replies_to(models[with_tool], [(question, answer)], use_calculator)
print(f"{question} is {answer}; the reply: {long_reply}")


# %% [markdown]
# The calculator is as good there as before. The model asks it for another sum: it has never copied so many digits. A tool takes
# the computing away, and not the need to say what is to be computed.

# %% [markdown]
# ## 4. Tasks
#
# ### What is said, and whether it is right
#
# A task is a list of questions with answers, and a rule that says whether a reply is right. The rule sees what the assistant
# *said*: not its calls, and not their output.

# %%
#| export chat.tasks
def spoken(content: str | list[dict]) -> str:
    """What a message says: its text, without tool calls and their output."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def reply_text(tokenizer: Tokenizer, ids: list[int]) -> str:
    """What a reply's ids say: as `spoken`, for what a model wrote."""
    special = tokenizer.special
    opening = special("<|python_start|>"), special("<|output_start|>")
    closing = special("<|python_end|>"), special("<|output_end|>")
    said, inside = [], False
    for token in ids:
        if token in (*opening, *closing):
            inside = token in opening
        elif not inside:
            said.append(token)
    return tokenizer.decode(said)


# %% tags=["nbval-check-output"]
reply = [*call, *forced, *ids_of("132")]
print(digits_tokenizer.decode(reply), "says", reply_text(digits_tokenizer, reply))
assert spoken(lesson_with_tool("47+85", "132")[1]["content"]) == "132"

# %% [markdown]
# Three rules are enough. For a sum the **last number** counts: `132`, `It is 132.` and `132.0` are all right. For words the **text**
# counts. And GSM8K, a set of school problems, marks the result of a solution with `####`.

# %%
#| export chat.tasks
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?", re.ASCII)


def _number(digits: str) -> Decimal:
    return Decimal(digits.replace(",", ""))


def same_number(reference: str, reply: str) -> bool:
    """Whether the last numbers of both are equal; 2 and 2.0 are, 1,000 and 1000 as well."""
    expected, found = NUMBER.findall(reference), NUMBER.findall(reply)
    return bool(expected and found) and _number(expected[-1]) == _number(found[-1])


def same_text(reference: str, reply: str) -> bool:
    """Whether both are the same words; case, spaces and . ! ? at the end do not matter."""
    expected, found = (
        " ".join(text.split()).casefold().rstrip(".!? ") for text in (reference, reply)
    )
    return bool(expected) and expected == found


def same_marked_number(reference: str, reply: str) -> bool:
    """Whether the numbers after #### are equal, as GSM8K marks the result of its solutions."""
    marked = re.compile(rf"####\s*\$?\s*({NUMBER.pattern})", re.ASCII)
    expected, found = marked.findall(reference), marked.findall(reply)
    return bool(expected and found) and _number(expected[-1]) == _number(found[-1])


# %% tags=["nbval-check-output"]
for reply in ("132", "It is 132.", "132.0", "47 + 85 = 132", "1320", "132, or 133", "no idea"):
    print(f"{reply:14s} {same_number('132', reply)}")


# %% [markdown]
# Each rule can be fooled. A reply that lists many numbers and ends with the right one is right. A rule is part of the score, so
# say which one it was.
#
# ### A task
#
# One class is enough, since tasks differ only in where their questions come from and in the rule. There are two kinds.
# **Generative**: the model writes a reply. **Categorical**: the right answer is one of a few letters, and only their logits at the
# reply's first place count.

# %%
#| export chat.tasks
@dataclass(frozen=True)
class ChatTask:
    """Conversations whose last message is the right answer, and how a reply is judged.

    kind: "generative", the reply is written, or "categorical", it is the likeliest of some letters.
    baseline: the share of right replies by guessing. count: how many questions; conversation and
    letters_of: the messages and the letters of one. is_right(reference, reply): both as text.
    """

    name: str
    kind: str
    baseline: float
    count: int
    conversation: Callable[[int], list[dict]]
    is_right: Callable[[str, str], bool]
    letters_of: Callable[[int], tuple[str, ...]] = lambda number: ()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> list[dict]:
        if not 0 <= number < self.count:
            raise IndexError(f"{self.name} has no question {number}; there are {self.count}")
        return self.conversation(number)

    def evaluate(self, messages: list[dict], reply: str) -> bool:
        """Whether `reply`, as from `reply_text`, is right; the reference is the last message."""
        return self.is_right(spoken(messages[-1]["content"]), reply)


# %% [markdown]
# Larger tasks are downloaded when somebody asks for them: GSM8K, and two sets of multiple choice, MMLU and ARC. They are shuffled,
# always in the same way, so that the first hundred are a fair sample.

# %%
#| export chat.tasks
def _downloaded_task(name: str, split: str) -> ChatTask:
    items = rows(name, split)
    order = random.Random(42).sample(range(len(items)), len(items))  # always the same

    def conversation(number: int) -> list[dict]:
        return FROM_HUB[name](items[order[number]])

    def letters_of(number: int) -> tuple[str, ...]:
        """ARC brings its own letters, and some are 1, 2, 3, 4."""
        choices = items[order[number]]["choices"]
        return tuple(choices["label"] if isinstance(choices, dict) else "ABCD"[: len(choices)])

    if name == "gsm8k":
        return ChatTask(name, "generative", 0.0, len(items), conversation, same_marked_number)
    return ChatTask(name, "categorical", 0.25, len(items), conversation, same_text, letters_of)


# %% [markdown]
# The lessons of chapter 13 have a test side, so each kind of lesson is a task. And there are **blind** questions: somebody wrote
# them who had not seen the templates that the lessons are made from.

# %%
#| export chat.tasks
LESSONS = 200  # questions of a kind
TEXT_KINDS = ("identity", "spelling", "python", "unknown")  # all others ask for a number
DOWNLOADED_TASKS = ("gsm8k", "mmlu", "arc-easy", "arc-challenge")


def lesson_tasks() -> list[str]:
    """Names of the tasks that need no download: each kind of lesson, and its blind questions."""
    blind = {each["kind"] for each in blind_questions()}
    return [*KINDS, *(f"blind-{kind}" for kind in KINDS if kind in blind)]


def get_task(name: str, split: str = "test") -> ChatTask:
    """A task by its name: one of `lesson_tasks()`, or of DOWNLOADED_TASKS, which are fetched once.

    split: "train" or "test"; the two have no question in common. Blind questions are for tests.
    Raises CourseError for any other name or split, and when a data set cannot be had.
    """
    known = [*lesson_tasks(), *DOWNLOADED_TASKS]
    if name not in known:
        raise CourseError(f"no task is called {name!r}, expected one of {', '.join(known)}")
    kind = name.removeprefix("blind-")
    splits = ("test",) if name != kind else ("train", "test")
    if split not in splits:
        raise CourseError(f"{name} has no split {split!r}, expected {' or '.join(splits)}")
    if name in DOWNLOADED_TASKS:
        return _downloaded_task(name, split)
    judge = same_text if kind in TEXT_KINDS else same_number
    if name == kind:
        return ChatTask(name, "generative", 0.0, LESSONS, partial(lesson, kind, split), judge)
    blind = [
        [{"role": "user", "content": q["question"]}, {"role": "assistant", "content": q["answer"]}]
        for q in blind_questions()
        if q["kind"] == kind
    ]
    return ChatTask(name, "generative", 0.0, len(blind), blind.__getitem__, judge)


# %%
for task in (get_task("calculator"), get_task("blind-calculator")):
    user, assistant = task[1]
    print(f"{task.name}: {len(task)} questions, such as {user['content']!r}")
    print("  right is", repr(spoken(assistant["content"])))
    assert not task.evaluate(task[1], "I do not know.")

# %%
print(lesson_tasks())


# %% [markdown]
# `get_task("gsm8k")[0]` would download GSM8K, a few megabytes, and show its first question; so this chapter does not run it.
#
# ### Train and test
#
# A score on questions that were practised says how good the memory is. Both sides of a kind of lessons come from the same
# templates, so the same sum or the same word could easily be on both. Chapter 13 decides by *what is asked*, not by the number of
# the lesson, on which side it is. Look whether that worked: 2,000 practised lessons, against 200 for tests.

# %%
def what_is_asked(messages):
    """The expression of a call, the word that is spelled, or the sum, without the words around."""
    question, content = messages[0]["content"], messages[1]["content"]
    if isinstance(content, list):
        return content[0]["text"]
    return content if " " in content else "".join(re.findall(r"\d+|[+*-]", question))


num_lessons = budget(2000, quick=200)
for kind in ("calculator", "mental", "spelling", "counting"):
    practised = {what_is_asked(lesson(kind, "train", n)) for n in range(num_lessons)}
    tested = [what_is_asked(lesson(kind, "test", n)) for n in range(200)]
    more = [what_is_asked(lesson(kind, "train", num_lessons + n)) for n in range(200)]
    seen = sum(asked in practised for asked in more) / 200
    print(f"{kind:10s} on both sides: {len(practised & set(tested))}, split by number: {seen:4.0%}")
    assert not practised & set(tested)


# %% [markdown]
# Nothing that is asked stands on both sides. The last column is what a split by number would have done: 200 more lessons, and the
# share of them that asks what was practised already. Where there is little to ask, that is nearly everything, and such a "test"
# would have measured memory.
#
# ## 5. A score
#
# ### Asking in batches
#
# Questions of a generative task go to `generate_batch`, which writes many rows together. For a categorical one there is nothing to
# write: one pass over a batch of prompts, and the logits at the last place of each. `scored_logits` of chapter 11 gives them.

# %%
#| export chat.tasks
@dataclass(frozen=True)
class Answer:
    """A reply to question `number` of a task; fits: whether the model can read the prompt."""

    number: int
    reply: str
    right: bool
    fits: bool = True


def answers(
    engine: Engine, task: ChatTask, numbers: list[int], batch_size: int = 16, **settings
) -> Iterator[Answer]:
    """Ask a task's questions, `batch_size` rows at a time, and judge the replies, in their order.

    settings: for a generative task those of `Engine.generate_batch`; by default greedy, at most 256
    tokens. A prompt that is longer than the model's sequence is not asked, and its answer wrong.
    """
    limit = engine.model.config.sequence_len
    how: dict[str, Any] = {"temperature": 0.0, **settings}
    for start in range(0, len(numbers), 2 * batch_size):
        asked = {n: task[n] for n in numbers[start : start + 2 * batch_size]}
        prompts = {n: render_for_completion(engine.tokenizer, asked[n]) for n in asked}
        prompts = {n: ids for n, ids in prompts.items() if len(ids) <= limit}
        if task.kind == "categorical":
            said = _choose(engine, task, prompts, batch_size)
        else:
            written = engine.generate_batch([*prompts.values()], max_rows=batch_size, **how)
            texts = [reply_text(engine.tokenizer, generation.ids) for generation in written]
            said = dict(zip(prompts, texts, strict=True))
        for n, messages in asked.items():
            reply, fits = said.get(n, ""), n in said
            yield Answer(n, reply, fits and task.evaluate(messages, reply), fits)


# %%
#| export chat.tasks
def _choose(
    engine: Engine, task: ChatTask, prompts: dict[int, list[int]], batch_size: int
) -> dict[int, str]:
    """The likeliest letter for the reply's first place, by question number; one pass a batch."""
    said, numbers = {}, sorted(prompts, key=lambda n: len(prompts[n]))  # alike: little padding
    for start in range(0, len(numbers), batch_size):
        some = numbers[start : start + batch_size]
        batch = [ScoredSequence([*prompts[n], engine.end], len(prompts[n])) for n in some]
        logits = scored_logits(engine.model, batch, 0)  # (B, V)
        if not mx.isfinite(logits).all():
            raise CourseError("the model's logits are not numbers (NaN); take an older checkpoint")
        for n, row in zip(some, logits.tolist(), strict=True):
            scores = {}
            for letter in task.letters_of(n):
                ids = engine.tokenizer.encode(letter)
                if len(ids) != 1:
                    problem = f"the choice {letter!r} is {len(ids)} tokens, expected one"
                    raise CourseError(f"{problem}; name the choices A, B, C, …")
                scores[letter] = row[ids[0]]
            said[n] = max(scores, key=scores.__getitem__)
    return said


# %% [markdown]
# ### A model to ask
#
# A chat model takes longer to train than this chapter has. So here is a small one that practises two kinds of lessons only, who it
# is and sums, and has read nothing else in its life.

# %%
taught = ("identity", "calculator")
examples = [lesson(kind, "train", n) for kind in taught for n in range(400)]
texts = [messages[0]["content"] for messages in examples]
texts += [spoken(messages[1]["content"]) for messages in examples]
tokenizer = Tokenizer.train(texts, 512)
model = GPT(GPTConfig(256, tokenizer.vocab_size, 3, 4, 4, 96))

num_steps = budget(320, quick=12)
trainer = Trainer(model, num_steps)
for step in range(num_steps):
    batch = [lesson(taught[n % 2], "train", 16 * step + n) for n in range(16)]
    loss = trainer.step([batch_of(tokenizer, batch)]).loss
    if (step + 1) % (num_steps // 4) == 0:
        print(f"step {step + 1:3d}  loss {loss:.3f} nats a token")

# %%
engine = Engine(model, tokenizer, use_calculator)
task = get_task("calculator")
for answer in answers(engine, task, list(range(5))):
    verdict, question = "right" if answer.right else "wrong", task[answer.number][0]["content"]
    print(f"{verdict}:", repr(question), "…", repr(answer.reply))


# %% [markdown]
# ### With its standard error
#
# Each question is right or wrong, so the standard error of chapter 11 holds. `TaskResult` has it, and the centred score: 0 for
# guessing, 1 for all right.

# %%
def score_of(task, **settings):
    count = min(len(task), budget(100, quick=8))
    found = list(answers(engine, task, list(range(count)), max_tokens=80, **settings))
    return TaskResult(task, sum(answer.right for answer in found), count)


practised = [score_of(get_task(kind, "train")) for kind in taught]
tested = [score_of(get_task(kind)) for kind in taught]
for which, results in (("practised", practised), ("test", tested)):
    for result in results:
        print(
            f"{which:9s} {result.task.name:10s} {result.right:3d} of {result.count}: "
            f"{result.accuracy:.1%} ± {result.standard_error:.1%}"
        )

# %% [markdown]
# Two scores differ for sure when they are several standard errors apart. Where practised and test questions score about the same,
# the model has not just learned its lessons by heart.
#
# ### Guessing
#
# A categorical score has a floor. Here are questions with four choices, made by hand. This model has never seen one.

# %%
rng, made = random.Random(7), []
for _ in range(budget(200, quick=8)):
    a, b = rng.randrange(50), rng.randrange(50)
    choices = rng.sample([a + b, a + b + 1, a + b - 1, a + b + 10], 4)
    row = {"question": f"What is {a} + {b}?", "choices": [str(each) for each in choices]}
    made.append(mmlu_messages({**row, "answer": choices.index(a + b)}))

by_letter = ChatTask(
    name="letters",
    kind="categorical",
    baseline=0.25,
    count=len(made),
    conversation=lambda number: made[number],
    is_right=same_text,
    letters_of=lambda number: tuple("ABCD"),
)
print(by_letter[0][0]["content"])
replies = list(answers(engine, by_letter, list(range(len(made)))))
result = TaskResult(by_letter, sum(answer.right for answer in replies), len(made))
counts = {letter: sum(answer.reply == letter for answer in replies) for letter in "ABCD"}
print(f"{result.accuracy:.1%} ± {result.standard_error:.1%}, guessing {by_letter.baseline:.0%}")
print("chosen:", counts)

# %% [markdown]
# About a quarter is right, by a model that has no idea what a choice is: see which letters it chooses. Without the baseline
# beside it, such a number looks like knowledge. Centred, it is about 0:

# %%
print(f"centred {result.centred:+.2f} ± {result.centred_error:.2f}")
all_of_them = [*tested, result]
print(f"mean of the centred scores: {core_score(all_of_them):+.3f} ± {core_error(all_of_them):.3f}")


# %% [markdown]
# The mean over tasks is what nanochat calls **ChatCORE**. It depends on which tasks are in it, so compare only means over the same.
#
# ### What a score does not say
#
# The test questions were not practised, but they come from the same templates. The blind questions do not. And people type as they
# like, in capitals for instance.

# %%
def typed(task, name, change):
    """The same task with each question changed."""

    def conversation(number):
        user, assistant = task[number]
        return [{**user, "content": change(user["content"])}, assistant]

    return replace(task, name=f"{task.name}, {name}", conversation=conversation)


results = []
for kind in taught:
    task = get_task(kind)
    others = [get_task(f"blind-{kind}"), typed(task, "quoted", '"{}"'.format)]
    others.append(typed(task, "capitals", str.upper))
    results += [score_of(each) for each in (task, *others)]

# %%
figure, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
draw_results(ax, results)
ax.axhline(3.5, color="#999999", linewidth=0.8)
plt.show()
for result in results:
    accuracy = f"{result.accuracy:6.1%} ± {result.standard_error:.1%}"
    print(f"{result.task.name:22s} {accuracy} of {result.count}")

# %% [markdown]
# The first line of each kind is the score that one would report. The lines below it are the same knowledge, asked in other words or
# in another form. Where the bars lie apart, the model has learned the form of the questions along with the answers. Blind
# questions and capitals cost it dearly. What quotation marks cost, if anything, these bars cannot say.
#
# The form of the whole prompt is part of this, too. Leave out the special tokens, and ask as one asks a base model:

# %%
task = get_task("calculator")
plain = [f"Question: {task[n][0]['content']}\nAnswer:" for n in range(budget(100, quick=8))]
ids = [tokenizer.encode(text, bos=True) for text in plain]
written = engine.generate_batch(ids, max_tokens=80, temperature=0)
said = [reply_text(tokenizer, generation.ids) for generation in written]
right_plain = sum(task.evaluate(task[n], text) for n, text in enumerate(said))
print(
    f"without special tokens: {right_plain} of {len(plain)} right; the first says {said[0]!r:.60}"
)

# %% [markdown]
# The weights are the same, and so are the questions. Before you compare your score with a published one, compare the prompts.
#
# | what to know | look at | what it cannot say |
# |---|---|---|
# | has it learned the lessons? | practised questions | whether it knows anything else |
# | has it learned what they are about? | test questions | whether it understands other words for it |
# | will a user be content? | blind questions | how often, with so few of them: see the error bars |
#
# ## 6. The program
#
# The program `chat_eval` does this to a checkpoint that `chat_sft` wrote: it asks the tasks that you name, keeps what it found about
# others before, and shows replies if you like. Here it gets this chapter's model in a folder of its own.

# %%
from course_lib.scripts import chat_eval

folder = Path(tempfile.mkdtemp()).resolve() / "chapter_14"
tokenizer.save(folder / "tokenizer")
meta = {"config": asdict(model.config), "tokenizer": tokenizer.fingerprint}
weights = dict(tree_flatten(model.parameters()))
save_checkpoint(folder, Checkpoint(num_steps, weights, {}, meta))
program_output = StringIO()
with redirect_stdout(program_output):
    flags = ["--tasks", "identity,calculator,blind-identity", "--max-per-task", "20"]
    chat_eval.main(["--checkpoint", str(folder), *flags, "--samples", "2"])
print(program_output.getvalue().replace(str(folder), "FOLDER"))
report = json.loads((folder / f"chat_eval_{num_steps:06d}.json").read_text())
assert report["tasks"]["identity"]["items"] == 20

# %% [markdown]
# The report is a JSON file beside the checkpoint, with a picture. It is written after each task, so Ctrl-C keeps those that are
# done. On a model of yours:
#
# ```
# chat_eval --tag d4
# chat_eval --tag d4 --tasks gsm8k,mmlu,arc-easy,arc-challenge --max-per-task 200
# chat_eval --tag d4 --tasks blind-identity --samples 20
# ```
#
# The second line fetches what it needs, once. Expect little of a small model there: GSM8K is several steps of reasoning in words,
# and MMLU is knowledge.

# %%
shutil.rmtree(folder.parent)


# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/14_tools_and_tasks_solutions.ipynb](solutions/14_tools_and_tasks_solutions.ipynb).
#
# ### Exercise 14.1 — how many questions?
#
# 10 minutes, ●○○. Two models score about `p` and `q`. Write `questions_needed(p, q)`: the smallest number $n$ of questions at
# which the difference is at least **two standard errors of the difference**. Each model is asked $n$ questions of its own, so the
# squares of the two standard errors add up. If `p` and `q` are equal, no number is enough: return `None`.
#
# <details><summary>Hint</summary>The difference has the standard error $\sqrt{(p(1-p) + q(1-q))/n}$. Solve
# $|p - q| \ge 2\,\text{SE}$ for $n$ and round up.</details>

# %% tags=["exercise"]
def questions_needed(p, q):
    raise NotImplementedError


# %%
check(exercises.questions_needed, questions_needed)


# %% [markdown]
# ### Exercise 14.2 — one of k
#
# 20 minutes, ●●○. With a temperature above 0 a model may be asked the same question several times. **pass@k** is the chance that at
# least one of $k$ replies is right. You have $n \ge k$ replies, of which $c$ are right. Write `pass_at_k(n, c, k)`: the share of all
# ways to pick $k$ of the $n$ in which at least one is right.
#
# <details><summary>Hint</summary>Count the ways in which none is right. `math.comb(a, b)` is the number of ways to pick b of a; it is
# 0 when b is larger than a.</details>

# %% tags=["exercise"]
def pass_at_k(n, c, k):
    raise NotImplementedError


# %%
check(exercises.pass_at_k, pass_at_k)


# %% [markdown]
# ### Exercise 14.3 — find the leak
#
# 15 minutes, ●●○. Write `leaks(train, test)`: both are lists of questions as people typed them. Return the test questions, as they
# stand there and in their order, that also occur in `train`, where capitals, spaces and everything that is not a letter or a digit
# do not count. But signs of sums do: `1+2` and `1-2` are different questions. Be fast: both lists may have 100,000 entries.
#
# <details><summary>Hint</summary>Write a function that strips a question down: `casefold`, then keep characters that are
# `isalnum()` or in `+-*/`. Put the stripped questions of `train` into a set.</details>

# %% tags=["exercise"]
def leaks(train, test):
    raise NotImplementedError


# %%
check(exercises.leaks, leaks)


# %% [markdown]
# ### Exercise 14.4 — a larger language
#
# 25 minutes, ●●●. A calculator that knows `max(…)` and `min(…)`. Write `value_with_max(node)`: the value of a tree in our language,
# or of `max` or `min` of one or more arguments that are such trees themselves, at any depth: `2*max(3, min(4, 5))`. Raise
# `ValueError` for all else. Only these two names may be called, without keywords and without `*`.
#
# <details><summary>Hint</summary>A call is `ast.Call(func=ast.Name(id=…), args=[…], keywords=[])`. `value_of` cannot help inside an
# operation, since its own recursion does not know `max`; so take numbers, signs and operations over, with `OPERATORS`, and leave
# only `.count(` to it.</details>

# %% tags=["exercise"]
def value_with_max(node):
    raise NotImplementedError


# %%
check(exercises.value_with_max, value_with_max)

# %% [markdown]
# ## Summary
#
# - A small model cannot do sums in its head. It can learn to ask for them, which is copying, and only as far as it has practised.
# - What a model wrote is never run. Parse it, allow what you know, bound the size, and answer nothing to the rest.
# - The engine collects the call, asks the tool and forces the result into the row: the model reads it, and training leaves it out.
# - A task is questions, a rule and a baseline. Its score has a standard error, and only the difference to guessing counts.
# - A score holds for its questions in its format. Test questions from the same templates are the easy half.
#
# ## Pitfalls
#
# - **`eval` with names taken away**: not safe, see section 2.
# - **A list of forbidden words**: there is always another way to say it. List what is allowed.
# - **Forced tokens that are trained**: the model learns to write results itself, and then it invents them.
# - **Forced tokens that the cache has not seen**: the model goes on as if there was no result.
# - A tool that raises in the middle of a batch, and ends everybody's replies.
# - `10/5` as `2` in the lessons and `2.0` in the engine: what the model practised must be what the tool says.
# - Decoding a reply with its tool calls, and finding the "last number" in a call.
# - A split by number of what comes from templates: the same question on both sides.
# - Comparing means over different tasks, or of different prompts.
#
# ## Further reading
#
# - [Toolformer](https://arxiv.org/abs/2302.04761), Schick et al., 2023: a model teaches itself when to call a tool.
# - [Training Verifiers to Solve Math Word Problems](https://arxiv.org/abs/2110.14168), Cobbe et al., 2021: GSM8K, with calculator
#   calls inside its solutions.
# - [Measuring Massive Multitask Language Understanding](https://arxiv.org/abs/2009.03300), Hendrycks et al., 2021: MMLU.
# - [Think you have Solved Question Answering?](https://arxiv.org/abs/1803.05457), Clark et al., 2018: ARC.
# - [Evaluating Large Language Models Trained on Code](https://arxiv.org/abs/2107.03374), Chen et al., 2021: pass@k, and why one
#   should not compute it the obvious way.
#
# **Next:** [15 · Reinforcement](15_reinforcement.ipynb), where the model tries by itself, and right replies are rewarded.

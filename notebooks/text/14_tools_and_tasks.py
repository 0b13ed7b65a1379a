# %% [markdown]
# # 14 · Tools and tasks
#
# **Goal.** Give the model a calculator, and count how often its replies are right.
#
# | | |
# |---|---|
# | Needs | [11 · Evaluation](11_evaluation.ipynb), [12 · Generation](12_engine.ipynb), [13 · Conversations](13_conversations.ipynb) |
# | Time | 70 minutes to read, 50 for the exercises; one to two minutes to run |
# | Memory | under 1 GB |
# | You will build | a calculator that is safe to expose to a model → `course_lib.chat.calculator`; tasks and their scores → `course_lib.chat.tasks` |
#
# A model writes text. A calculator, a search engine or a calendar is a program. This chapter connects the two: the model writes a *request*, a
# program answers it, and the model reads the answer. Then it measures what that is worth, and how far such a measurement can be trusted.

# %% [markdown]
# ![Map of the course: chapter 14 tools is marked, the second one of Part III; after 13 conversations, before 15 reinforcement](images/map_14.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · **14** · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/14_tools_and_tasks.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export chat.calculator
"""A calculator for the model: sums, and counting in a text, read by a parser and never run.

Source: nanochat (October 2025), whose language this is.
"""

import ast
import math
import operator
from collections.abc import Callable

from course_lib.chat.expressions import MAX_DEPTH, cleaned

# %%
#| export chat.tasks
"""Tasks for a chat model: questions with answers, which replies are right, and how often they are.

Source: nanochat (October 2025), whose kinds of tasks and centred mean these are.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from course_lib.chat.choices import likeliest_letters
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.questions import DOWNLOADED_TASKS, commonest_share, questions
from course_lib.chat.questions import lesson_tasks as lesson_tasks
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine

# %% [markdown]
# These cells open the two modules that this chapter builds.

# %%
import json
import os
import random
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from itertools import islice
from pathlib import Path

import mlx.core as mx
import numpy as np

from course_lib import backend
from course_lib.chat.conversation import render_conversation
from course_lib.chat.lessons import is_test, lesson, practice, with_tool
from course_lib.chat.packing import collate
from course_lib.chat.sources import multiple_choice_messages
from course_lib.classroom import budget, check, claim, stored
from course_lib.classroom import draw_tools as draw
from course_lib.classroom.exercises import tools_and_tasks as exercises
from course_lib.evaluate.core import TaskResult
from course_lib.evaluate.records import interval, paired_difference
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.scripts import chat_eval
from course_lib.train.starter import load_starter
from course_lib.train.trainer import Trainer

backend.seed_everything(42)

# %% [markdown]
# ## 1. A sum in the head
#
# The course comes with a small assistant, the **starter model**. It was trained as in chapters 10 and 13, on the lessons of chapter 13, among
# others on sums. Ask it for one, with all tokens of its reply in view: first as it is, then connected to the calculator that this chapter builds.

# %%
from course_lib.chat.calculator import use_calculator

assistant, tokenizer = load_starter("sft")


def written(question, tool=None):
    """The assistant's reply to a question, special tokens and all."""
    prompt = render_for_completion(tokenizer, [{"role": "user", "content": question}])
    engine = Engine(assistant, tokenizer, tool)
    (reply,) = engine.generate_batch([prompt], max_tokens=60, temperature=0)
    return tokenizer.decode(reply.ids)


alone, helped = (written("What is 347 + 2815?", tool) for tool in (None, use_calculator))
print("alone:          ", alone)
print("with calculator:", helped)
claim("with the calculator it is right", helped.endswith("<|output_end|>3162"))
claim("alone it is not", not alone.endswith("3162"))

# %% [markdown]
# In both lines the model begins with `<|python_start|>347+2815<|python_end|>`: it writes down what is to be computed. In the second line a program
# computed it and put the result between `<|output_start|>` and `<|output_end|>`, and the model repeated it. In the first line no program
# answered, and the model carried on by itself.
#
# Why does it not do the sum itself? Let us see what that takes.
#
# ### Two ways to answer
#
# Here are two lessons on the same sum. One assistant answers at once. The other writes a call, as above; `with_tool` (`course_lib/chat/lessons.py`) makes its message.

# %%
HEAD, TOOL = WAYS = "in the head", "with the tool"


def lesson_on(way, question, answer):
    """A conversation about a sum, answered in one of the two ways."""
    content = with_tool(question, answer) if way == TOOL else answer
    return [{"role": "user", "content": question}, {"role": "assistant", "content": content}]


# %%
digits = Tokenizer.train(["0123456789+-"], 265)
for way in WAYS:
    ids, mask = render_conversation(digits, lesson_on(way, "47+85", "132"))
    print(f"{way}:", digits.decode(ids))
    print("   trained:", digits.decode([i for i, m in zip(ids, mask, strict=True) if m]))

# %% [markdown]
# This tokenizer has no merges, so a digit is a token. What the assistant writes itself is trained. The result is not: the model need not guess `132` between
# the output tokens, it only has to read it.
#
# ### Two models
#
# Both are tiny: two blocks, 64 numbers wide. They get the same steps and the same sums, `+` or `-`, of numbers with one to four digits. One sum in ten is **held out** for tests,
# together with its mirror image (whoever has practised 85+47 has almost practised 47+85).

# %%
def draw_sum(rng, lengths, split="train"):
    """A question such as 47-385, with numbers of these lengths, and its answer."""
    while True:
        a, b = (rng.randrange(10 ** (n - 1) if n > 1 else 0, 10**n) for n in lengths)
        sign = rng.choice("+-")
        if is_test(f"{min(a, b)}{sign}{max(a, b)}") == (split == "test"):
            return f"{a}{sign}{b}", str(a + b if sign == "+" else a - b)


def batch_of(conversations):
    """Inputs and targets of the conversations, as long as the longest of them."""
    rows = [render_conversation(digits, each) for each in conversations]
    length = max(len(ids) for ids, _ in rows) - 1
    arrays = collate(rows, length, digits.special("<|assistant_end|>"))
    return tuple(map(mx.array, arrays))


# %%
def train_on_sums(way, num_steps, sums_a_step, longest, seed):
    """A model that has practised sums of numbers with up to `longest` digits."""
    model, rng = GPT(GPTConfig(128, digits.vocab_size, 2, 4, 4, 64)), random.Random(seed)
    init_weights(model, seed)
    trainer = Trainer(model, num_steps)
    for _ in range(num_steps):
        lengths = [(rng.randint(1, longest), rng.randint(1, longest)) for _ in range(sums_a_step)]
        lessons = [lesson_on(way, *draw_sum(rng, pair)) for pair in lengths]
        loss = trainer.step([batch_of(lessons)]).loss
    print(f"{way}: loss {loss:.3f} nats a token after {num_steps} steps")
    return model


models = {way: train_on_sums(way, budget(300, quick=20), 32, 4, seed=0) for way in WAYS}

# %% [markdown]
# The first must *compute* each digit of the answer. The second must *copy*: the question into the call, the result into the answer.
#
# Ask both models held-out sums, greedy, and look at some replies.

# %%
num_asked = budget(100, quick=6)
asked = {}
for n in range(1, 7):  # digits of both numbers; there are few sums of one digit
    drawn = [draw_sum(random.Random(f"{n} {k}"), (n, n), "test") for k in range(num_asked)]
    asked[n] = list(dict.fromkeys(drawn))


def replies_to(model, sums, tool=None):
    """The greedy replies to some sums, special tokens and all."""
    # its last message, the answer, stays out of the prompt
    prompts = [render_for_completion(digits, lesson_on(HEAD, *each)) for each in sums]
    engine = Engine(model, digits, tool)
    replies = engine.generate_batch(prompts, max_tokens=60, max_rows=50, temperature=0)
    return [digits.decode(reply.ids) for reply in replies]


# %%
for way, model in models.items():
    print(way)
    for n in (1, 2, 4):
        some = asked[n][:3]
        for (question, answer), reply in zip(some, replies_to(model, some), strict=True):
            print(f"  {question + ' = ' + answer:18s} reply: {reply:.60}")

# %% [markdown]
# The first model writes numbers of a plausible length, and most of them are wrong. The second copies each sum into a call without a mistake, but no answer comes. It has never seen that happen, and what
# it writes from there on is worthless.
#
# ### Not yet, or never?
#
# The first model cannot add, it seems. But all that we know is what it has not learned *in 300 steps*. So give it ten times the practice: 1,500 steps of 64 sums, of up to four digits, or only
# of up to two. As controls: few sums again, of up to two digits, and the model that asks, now with its calculator. Two seeds each; the runs are stored.

# %%
FEW, MANY = (budget(300, quick=2), 32), (budget(1500, quick=3), 64)  # steps, sums a step
RUNS = (HEAD, FEW, 4), (HEAD, FEW, 2), (HEAD, MANY, 4), (HEAD, MANY, 2), (TOOL, FEW, 4)


def count_right(model, n, tool=None):
    """How many replies to sums of n digits end in the right number, and how many were asked."""
    said = [reply.split("<|output_end|>")[-1] for reply in replies_to(model, asked[n], tool)]
    right = sum(text == answer for text, (_, answer) in zip(said, asked[n], strict=True))
    return right, len(said)


def practice_on_sums():
    for seed in range(budget(2, quick=1)):
        for way, (num_steps, sums_a_step), longest in RUNS:
            started = time.process_time()
            model = train_on_sums(way, num_steps, sums_a_step, longest, seed)
            row = {"seed": seed, "steps": num_steps, "way": way, "sums": num_steps * sums_a_step}
            row |= {"longest": longest, "cpu_seconds": round(time.process_time() - started)}
            for n in asked:
                right, count = count_right(model, n, use_calculator)
                yield row | {"digits": n, "right": right, "asked": count}


runs = stored("tools_sums", practice_on_sums)

# %%
scores = {}  # run -> digits -> (right, asked), of both seeds together
for row in runs:
    found = scores.setdefault((row["way"], row["sums"], row["longest"]), {})
    right, count = found.get(row["digits"], (0, 0))
    found[row["digits"]] = right + row["right"], count + row["asked"]
share = {run: {n: right / count for n, (right, count) in scores[run].items()} for run in scores}
for (way, sums, longest), each in share.items():
    shares = " ".join(f"{value:4.0%}" for value in each.values())
    print(f"{way:13s} {sums:6,} sums of up to {longest} digits: {shares}")

# %% [markdown]
# Each line shows the share of right replies to held-out sums of one digit, two digits and so on, up to six.

# %%
few_4, few_2, many_4, many_2, with_tool_4 = share.values()
claim("9,600 sums in the head: of two digits, fewer than 1 in 10 is right", few_4[2] < 0.1)
claim("shorter numbers alone do not change that", few_2[2] < 0.1)
claim("96,000 sums of up to two digits: of two digits, more than 4 in 5", many_2[2] > 0.8)
claim("96,000 of up to four: more than a third, even of four digits", many_4[4] > 1 / 3)
cheap = all(with_tool_4[n] > max(0.8, many_4[n]) for n in (2, 3, 4))
claim("9,600 with the tool: more than 4 in 5, and more than those", cheap)
longer = [each[n] for (*_, longest), each in share.items() for n in asked if n > longest]
claim("longer numbers than were practised: fewer than 1 in 20, in every run", max(longer) < 0.05)
seconds = [row["cpu_seconds"] for row in runs if row["steps"] == MANY[0]]
print(f"the long runs took {min(seconds)} to {max(seconds)} CPU seconds")

# %% [markdown]
# So a model of this size *does* add in its head, after a minute or so of practice: most sums of two digits and nearly half of those of four, and it had seen none of them. It is hard for it: each token is one pass through a fixed number of blocks, and the first digit of
# a sum depends on all the digits after it. Asking is copying, which is easy: a tenth of the practice, and more right replies from two digits on. That is the case for a calculator. And neither way carries to numbers
# that are longer than the practised ones.
#
# ## 2. A calculator
#
# ### Not eval
#
# Python has a calculator built in: `eval("47+85")` is 132. But what stands between the two tokens was written by a model, and a
# model writes what a user talks it into. `eval` does not compute sums, it *runs programs*:

# %%
attack = "__import__('os').getpid()"
print("eval ran it, this is the number of our process:", eval(attack) == os.getpid())

# %% [markdown]
# That one was harmless. It could have deleted your files. The usual advice is to take all names away from `eval`. It does not
# help: every object leads to the class of all objects, and from there to everything that Python has loaded.

# %%
attack_without_names = (
    "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
    ".__init__.__globals__['getpid']()"
)
found = eval(attack_without_names, {"__builtins__": {}})
print("no names allowed, and still:", found == os.getpid())

# %% [markdown]
# Forbidding words does not help either: there is always another way to write it. And `9**9**9` needs no forbidden word at all,
# only more time than you have. So do the opposite: list what is **allowed**, and refuse everything else.
#
# ### Parse, then compute
#
# Python's parser makes a tree of a text and runs nothing:

# %%
print(ast.dump(ast.parse("2*(3+4)", mode="eval").body, indent=2))

# %% [markdown]
# The value of a tree is computed from its leaves to its root. Each kind of node that we know is one case below: a number, a sign,
# an operation, and how often a text contains another (for questions such as "how many r's are in strawberry?"). Anything else ends in the last case.

# %%
#| export chat.calculator
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
# There is no power: `**` makes numbers that fill the memory. Without it a whole number has hardly more digits than the expression.
#
# ### Before the parser
#
# Python knows more ways to write a number than a calculator should: `0x10`, `1e5`, `1_000`, digits of other scripts. And very
# deep parentheses can make a parser slow. So `cleaned` of `course_lib/chat/expressions.py` looks at a text first: it lets pass at most 1,000 characters, only digits, `+ - * / ( ) .`, spaces, commas,
# `.count(` and texts in quotes, and no more than 100 nested parentheses. Commas between digits it takes out.

# %% tags=["nbval-check-output"]
for text in ("1,000*2", " 7//2", "0x10", "1e5", "exit()", "(" * 101 + "1" + ")" * 101):
    print(f"{text[:20]!r:24s} {cleaned(text)!r}")

# %% [markdown]
# Now the tool. It never raises an exception, since it works in the middle of a batch of other people's replies. "No value" is a result as well: `None`.

# %%
#| export chat.calculator
def use_calculator(expression: str) -> str | None:
    """The value of an expression as Python would print it, or None if it is not in the language.

    The language: numbers (with commas between digits, which are dropped), + - * / // ( ) and
    'text'.count('part'). A quotient is a float ("10/5" gives "2.0"), all else of whole numbers an
    int. None for everything else, for a division by zero, for a float that is not finite, for more
    than 1,000 characters or MAX_DEPTH levels. Nothing is ever run, and nothing is raised.
    """
    try:
        text = cleaned(expression)
        return None if text is None else str(value_of(ast.parse(text, mode="eval").body))
    except (ArithmeticError, RecursionError, MemoryError, SyntaxError, ValueError):
        return None


# %% tags=["nbval-check-output"]
for expression in ("47+85", "10/5", "1,000*2", "2*(3+4)", "'banana'.count('a')", "7//2", "-3"):
    print(f"{expression:22s} {use_calculator(expression)}")

# %% [markdown]
# `10/5` is `2.0`, as in Python: a quotient is a float, even when it comes out even. And these must have no value:

# %%
refused = [attack, attack_without_names, "9**9**9", "x", "True", "1e5", "0x10", "1/0", "(1, 2)"]
refused += ["", "1+", "'a'*999999999", "'a'.upper()", "(" * 10**6, "9" * 400 + "/1", "1\x00"]
for expression in refused:
    assert use_calculator(expression) is None, expression
print(len(refused), "texts, both attacks among them: None")


# %% [markdown]
# The package's tests throw hundreds of random texts at it: none may raise an exception, run anything or take a tenth of a second. nanochat (October 2025) goes another
# way: it passes on to `eval` only texts that consist of digits and signs, or that contain `.count(` and none of a list of forbidden words, and stops it after some seconds.
#
# ## 3. The engine's part
#
# ### A machine with three states
#
# Somebody must watch for the two tokens while the model writes. A row is in one of three states:

# %%
draw.draw_states()

# %% [markdown]
# Between `<|python_start|>` and `<|python_end|>` the tokens are collected. At the end the tool is asked. If there is a value, then `<|output_start|>`, the tokens of the value and `<|output_end|>` are **forced**: they
# are the next tokens of the row, whatever the model would have written. The model reads them like all others. If there is no value, nothing is forced, and the model writes on.
#
# The whole of it, without cache and batch. `next_token(ids)` stands for a model: it says which token comes after those of the reply so far.

# %%
START, END, OUTPUT, OUTPUT_END, STOP = (
    digits.special(f"<|{name}|>")
    for name in ("python_start", "python_end", "output_start", "output_end", "assistant_end")
)


def write_with_tool(next_token, tool, max_tokens=60):
    """(ids, mask) of a reply; mask 0 for tokens that were forced."""
    ids, mask, forced, expression = [], [], [], None
    while len(ids) < max_tokens:
        if forced:
            ids, mask = [*ids, forced.pop(0)], [*mask, 0]
            continue
        token = next_token(ids)
        if token == STOP:
            break
        ids, mask = [*ids, token], [*mask, 1]
        if token == START:
            expression = []
        elif token == END and expression is not None:
            result, expression = tool(digits.decode(expression)), None
            if result is not None:
                forced = [OUTPUT, *digits.encode(result), OUTPUT_END]
        elif expression is not None:
            expression.append(token)
    return ids, mask


# %% [markdown]
# To test it we need a model of which we know every token. A list will do:

# %%
def reciting(*pieces):
    """A "model" that says these special tokens and texts one after the other."""
    script = []
    for piece in pieces:
        script += [digits.special(piece)] if piece.startswith("<|") else digits.encode(piece)
    script = iter([*script, STOP])
    return lambda ids: next(script)


script = ["<|python_start|>", "47+85", "<|python_end|>", "ok"]
ids, mask = write_with_tool(reciting(*script), use_calculator)
draw.draw_reply([digits.decode([token]) for token in ids], mask)
assert digits.decode(ids).endswith("<|output_start|>132<|output_end|>ok")

# %% [markdown]
# The list has no `132` in it: that came from the tool. The hatched boxes with mask 0 were forced. Chapter 15 needs this mask: a model is not to be praised or
# blamed for tokens that it did not choose.
#
# ### When it does not go well
#
# An expression without a value, one that never ends, and a reply that is cut in the middle of a result:

# %%
cases = {
    "no value": (["<|python_start|>", "47+", "<|python_end|>", "8"], 60),
    "no end": (["<|python_start|>", "4747"], 60),
    "cut off": (script, 9),
}
for name, (said, max_tokens) in cases.items():
    ids, mask = write_with_tool(reciting(*said), use_calculator, max_tokens)
    print(f"{name:9s} {digits.decode(ids)} {mask}")

# %% [markdown]
# Nothing is forced in the first two. In the third the reply ends with half a result, and code that reads replies has to cope.
#
# ### In the engine
#
# `Engine(model, tokenizer, tool)` of chapter 12 does the same with a cache and for many rows at once, each in a state of its own (`Row` in `course_lib/generate/rows.py`). Is it the same? Ask our
# second model ten sums, one after the other with the loop above, and all together with the engine:

# %%
asker = models[TOOL]


def likeliest_after(prompt):
    """The model as the loop above wants it."""
    return lambda ids: mx.argmax(asker(mx.array([prompt + ids]))[0, -1]).item()


prompts = [render_for_completion(digits, lesson_on(HEAD, *each)) for each in asked[2][:10]]
together = Engine(asker, digits, use_calculator).generate_batch(prompts, temperature=0)
for prompt, reply in zip(prompts, together, strict=True):
    alone = write_with_tool(likeliest_after(prompt), use_calculator, 256)
    if backend.device_kind() == "cpu":  # on a GPU a near-tie may go the other way
        assert (reply.ids, reply.masks) == alone
print(digits.decode(together[0].ids))

# %% [markdown]
# ### Where it goes wrong
#
# Here are three of the five settings as a picture, both seeds together.

# %%
few_4, _, many_4, _, with_tool_4 = scores.values()
lines = {"in the head, 9,600 sums": few_4, "in the head, 96,000 sums": many_4}
draw.draw_sums({**lines, "with the tool, 9,600 sums": with_tool_4}, practised=4)

# %% [markdown]
# Each bar covers every true share that lies within two standard errors of the score, as if the two seeds were independent, so they are rather short (section 5 says why they are not symmetric). In the grey part the tool does not help. Why? A reply can go wrong in two places: the
# expression, and the repeating of the result. Count them, for the model of this notebook:

# %%
def wrong_places(n):
    """Of the replies to sums of n digits: wrong expressions, and wrong words after a right one."""
    expressions = afterwards = 0
    replies = replies_to(asker, asked[n], use_calculator)
    for (question, answer), reply in zip(asked[n], replies, strict=True):
        call = f"<|python_start|>{question}<|python_end|>"
        expressions += not reply.startswith(call)
        afterwards += reply.startswith(call) and not reply.endswith(f"<|output_end|>{answer}")
    return expressions, afterwards


wrong = {n: wrong_places(n) for n in asked}
for n, (expressions, afterwards) in wrong.items():
    print(f"{n} digits: of {len(asked[n])}, {expressions} wrong calls, {afterwards} wrong later")
(reply,) = replies_to(asker, asked[5][:1], use_calculator)
print("{} is {}; the reply: {}".format(*asked[5][0], reply))
print("the starter model:", written("What is 123456 + 654321?", use_calculator))

# %%
all_wrong = all(wrong[n][0] > 0.9 * len(asked[n]) for n in (5, 6))
claim("on five and six digits more than 9 of 10 expressions are wrong", all_wrong)
few_wrong = all(wrong[n][0] < 0.1 * len(asked[n]) for n in (2, 3))
claim("on two and three digits fewer than 1 in 10", few_wrong)

# %% [markdown]
# The calculator is as good on long numbers as on short ones. But the model asks it for another sum: it has never copied so many digits, and leaves some out. The starter model, whose lessons have up to four digits as well, does the same. A tool takes
# over the computing. The model must still say *what* is to be computed.
#
# Other systems differ in the form and not in the idea. In OpenAI's API a reply holds `"tool_calls"`, each with the name of a function and its arguments as JSON, and the *caller* computes the result and sends it
# back as a message with the role `"tool"`. There the conversation is interrupted for each call. Here the engine answers within the reply.
#
# ## 4. Tasks
#
# ### What is said, and whether it is right
#
# Now we want to count right replies of any kind. A **task** is a list of questions with answers, and a rule that says whether a reply is right. The rule sees what the assistant
# *said*: not its calls, and not their results.

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
ids, _ = write_with_tool(reciting("It is ", *script[:-1], "132"), use_calculator)
print(digits.decode(ids), "says", repr(reply_text(digits, ids)))
assert spoken(with_tool("47+85", "132")) == "132"

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
# The rules for numbers can be fooled: a reply that lists many numbers and ends with the right one is right. So say which rule it was. (For free text,
# a story or a summary, no rule will do. Then people judge, or a large language model that was compared with people.)
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
# `questions` of `course_lib/chat/questions.py` knows three sources. Each kind of lesson of chapter 13 is a task, since it has a test side. There are **blind** questions: somebody wrote
# them who had not seen the templates of the lessons. And there are well-known tasks, which are downloaded when somebody asks for them: GSM8K, and two of multiple choice, MMLU and ARC.

# %%
#| export chat.tasks
TEXT_KINDS = ("identity", "spelling", "python", "unknown")  # all other lessons ask for a number


def get_task(name: str, split: str = "test") -> ChatTask:
    """A task by its name; which there are, and what it raises: see `questions`."""
    found = questions(name, split)
    if name in DOWNLOADED_TASKS and name != "gsm8k":
        return ChatTask(name, "categorical", 0.25, is_right=same_text, **found._asdict())
    if name == "gsm8k":
        return ChatTask(name, "generative", 0.0, is_right=same_marked_number, **found._asdict())
    judge = same_text if name.removeprefix("blind-") in TEXT_KINDS else same_number
    said = [spoken(found.conversation(n)[-1]["content"]) for n in range(found.count)]
    baseline = commonest_share(said, judge)
    return ChatTask(name, "generative", baseline, is_right=judge, **found._asdict())


# %%
for task in (get_task("calculator"), get_task("blind-calculator")):
    user, assistant_says = task[1]
    print(f"{task.name}: {len(task)} questions, such as {user['content']!r}")
    print("  right is", repr(spoken(assistant_says["content"])))
print(lesson_tasks())

# %% [markdown]
# ## 5. A score
#
# ### Asking in batches
#
# Questions of a generative task go to `generate_batch` of chapter 12. Those of a categorical one go to `likeliest_letters` of `course_lib/chat/choices.py`: you see its simple form below.

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
    for start in range(0, len(numbers), 2 * batch_size):  # so a row that ends is filled again
        asked = {n: task[n] for n in numbers[start : start + 2 * batch_size]}
        prompts = {n: render_for_completion(engine.tokenizer, asked[n]) for n in asked}
        prompts = {n: ids for n, ids in prompts.items() if len(ids) <= limit}
        if task.kind == "categorical":
            said = likeliest_letters(engine, task.letters_of, prompts, batch_size)
        else:
            written = engine.generate_batch([*prompts.values()], max_rows=batch_size, **how)
            texts = [reply_text(engine.tokenizer, generation.ids) for generation in written]
            said = dict(zip(prompts, texts, strict=True))
        for n, messages in asked.items():
            reply, fits = said.get(n, ""), n in said
            yield Answer(n, reply, fits and task.evaluate(messages, reply), fits)


# %% [markdown]
# Here is the starter model with its calculator, on some test questions. For each kind we print the first reply and the first wrong one, if there is any:

# %%
engine = Engine(assistant, tokenizer, use_calculator)
kinds = ("identity", "calculator", "spelling", "counting", "unknown", "mental")


def ask(task, count=100):
    """The answers to the first questions of a task."""
    numbers = list(range(min(len(task), budget(count, quick=3))))
    return list(answers(engine, task, numbers, batch_size=32, max_tokens=64))


found = {kind: ask(get_task(kind)) for kind in kinds}
for kind, replies in found.items():
    wrong_ones = [answer for answer in replies if not answer.right]
    for answer in dict.fromkeys([replies[0], *wrong_ones[:1]]):
        messages = get_task(kind)[answer.number]
        verdict = "right" if answer.right else "WRONG"
        print(f"{verdict} {messages[0]['content']!r} … {answer.reply!r}")
        if not answer.right:
            print("      expected", repr(spoken(messages[1]["content"])))

# %% [markdown]
# It says who it is, computes, spells and counts, and it says "I do not know" to what it cannot know. The last kind, `mental`, is small sums, to be done *in the head*. They are few among its lessons (one in
# fifty, `MIX` of `course_lib/chat/lessons.py`), and section 1 has shown how little few lessons achieve.
#
# ### With its standard error
#
# Each question is right or wrong, so the standard error of chapter 11 holds: `TaskResult` has it.

# %%
for kind, replies in found.items():
    result = TaskResult(get_task(kind), sum(answer.right for answer in replies), len(replies))
    low, high = interval(result.right, result.count)
    print(f"{kind:10s} {result.right:3d} of {result.count}: {result.accuracy:5.0%} ", end="")
    print(f"± {result.standard_error:4.1%}, interval {low:.0%} to {high:.0%}", end="")
    print(f", guessing {result.task.baseline:.1%}")
claim("one answer gets most of counting", get_task("counting").baseline > 0.5)

# %% [markdown]
# If all replies are right, or none, that formula says ± 0, as if one could be certain after so few questions. The interval asks the other way round: *which true shares lie within two of their standard errors
# of what was seen?* Take 0 right of 10. The largest such share $p$ has $p = 2\sqrt{p\,(1-p)/10}$, so $10\,p = 4\,(1-p)$, and $p = 4/14$:

# %% tags=["nbval-check-output"]
for right, count in ((0, 10), (0, 100), (15, 15), (90, 100)):
    low, high = interval(right, count)
    print(f"{right:3d} of {count:3d}: between {low:.1%} and {high:.1%}")

# %% [markdown]
# This is Wilson's interval; the package has it as `interval`.
#
# And what do two standard errors mean for a *comparison*? Let two models be equally good, right on 80 % of all questions. Each is asked 200 questions, and we
# say that they differ when the difference is more than two of its standard errors. How often is that wrong?

# %%
first, second = luck = np.random.default_rng(0).binomial(200, 0.8, size=(2, 4000)) / 200
errors = np.sqrt((luck * (1 - luck) / 200).sum(axis=0))
false_alarms = np.mean(np.abs(first - second) > 2 * errors)
at_least_one = 1 - (1 - false_alarms) ** 12
print(f"said to differ: {false_alarms:.1%}; at least one in twelve comparisons: {at_least_one:.0%}")
claim("one in twenty comparisons of equal models is beyond two", 0.035 < false_alarms < 0.065)

# %% [markdown]
# So "more than two standard errors" does not prove a difference. It says that equal models show one so large in about one of twenty comparisons. And whoever compares on a
# dozen tasks finds at least one such by luck, nearly every second time.
#
# ### Practised, new, blind, shouted
#
# The test questions are new, but they come from the same templates as the practised ones. The blind ones do not. And people type as they
# like, in capitals for instance. The starter model has practised the conversations `practice(0)`, `practice(1)` and so on. `practice(n)` picks a kind and begins with lesson 2n of that kind. So lesson 2n of spelling was practised if `practice(n)` begins with it, and not if another kind was picked:

# %%
def practised(kind, count):
    """Lessons of a kind from the conversations that the starter model was fine-tuned on."""
    lessons = (lesson(kind, "train", number) for number in range(0, 2**62, 2))
    its_own = (each for n, each in enumerate(lessons) if practice(n)[:2] == each)
    return list(islice(its_own, count))


def typed(task, change):
    """The same task with each question changed."""

    def conversation(number):
        user, reference = task[number]
        return [{**user, "content": change(user["content"])}, reference]

    return replace(task, conversation=conversation)


def marks(replies):
    """ "1" for a right reply and "0" for a wrong one, in order."""
    return "".join("01"[answer.right] for answer in replies)


# %%
by_kind = {}
for kind in kinds[:4]:
    task, known = get_task(kind), practised(kind, budget(100, quick=3))
    by_kind[kind] = {
        "practised": marks(ask(replace(task, count=len(known), conversation=known.__getitem__))),
        "test": marks(found[kind]),
        "blind": marks(ask(get_task(f"blind-{kind}"))),
        "in capitals": marks(ask(typed(task, str.upper))),
        "quoted": marks(ask(typed(task, '"{}"'.format))),
    }
draw.draw_askings(by_kind)

# %%
for kind, ways in by_kind.items():
    counts = [f"{way} {each.count('1')} of {len(each)}" for way, each in ways.items()]
    print(f"{kind:10s}", ", ".join(counts))

# %%
old, new = (by_kind["spelling"][way].count("1") for way in ("practised", "test"))
memory = interval(new, 100)[1] < interval(old, 100)[0]
claim("spelling: the intervals of practised and new words do not even overlap", memory)
sums = [each.count("1") / len(each) for each in by_kind["calculator"].values()]
claim("calculator: 9 of 10 or more are right in each of the five rows", min(sums) >= 0.9)
print(written("SPELL THE WORD STRAWBERRY.", use_calculator))

# %% [markdown]
# The second line of each panel is the score that one would report. Look at the lines around it.
#
# *Calculator*: practised or new, blind or shouted, nearly all are right. That is copying, and it has learned to copy.
#
# *Spelling*: it knows the words that it has practised far better than new ones. A good part is memory, and only the test questions tell.
#
# *Blind*: only the questions are new. Identity gets 70 of 76, sums 25 of 25. With 15 questions, as in the other two, the bar is so long that it says little.
#
# *In capitals*: in spelling and counting hardly anything is left, and the last line of the output suggests why. The templates of chapter 13 shout now and then: when they ask who it is, for sums, and for what it cannot know. They never shout about words. So
# to this model, capitals are a sign of the other kinds. (Identity loses 26 points although it is shouted now and then; why, we did not find out.) It has learned the form of the questions along with the answers.
#
# ### The same questions
#
# The last two lines ask the *same* questions as the second, only typed in another way. So compare them question by question (chapter 11). Questions that are right both times, or
# wrong both times, say nothing. Only the others do: those **gained** and those **lost**.

# %%
plain = by_kind["spelling"]["test"]
for way in ("in capitals", "quoted"):
    changed = by_kind["spelling"][way]
    pairs = list(zip(plain, changed, strict=True))
    gained, lost = pairs.count(("0", "1")), pairs.count(("1", "0"))
    difference, error = paired_difference(plain, changed)
    print(f"spelling, {way}: {gained} gained, {lost} lost, {difference:+.0%} ± {error:.1%}")
    claim(f"{way}: it loses more than two standard errors", difference < -2 * error)

# %% [markdown]
# With $b$ gained and $c$ lost of $n$ questions the difference is $(b - c)/n$, and its standard error $\sqrt{b + c - (b-c)^2/n}\,/\,n$: chapter 11's formula for independent items. (McNemar, 1947,
# was the first to look at only these pairs.) `paired_difference` of the package computes it. `chat_eval`, below, keeps a 1 or a 0 for each question, so that you can compare two models of yours in this way.
#
# ### Guessing
#
# A score has a floor: what you get without reading the question. For written tasks it is the commonest answer given each time, the last column above. In counting most answers are 1, so only what is above that column is knowledge. (In `unknown` all answers are the same, so a score says nothing; its floor is left at 0.)
#
# Of four choices, a guess gets a quarter. Here are such questions in nanochat's form (October 2025, and July 2026). The starter model has never seen one.

# %%
rng, made = random.Random(7), []
for _ in range(budget(200, quick=8)):
    a, b = rng.randrange(50), rng.randrange(50)
    choices = rng.sample([a + b, a + b + 1, a + b - 1, a + b + 10], 4)
    answer = "ABCD"[choices.index(a + b)]
    made.append(multiple_choice_messages(f"What is {a} + {b}?", "ABCD", map(str, choices), answer))
print(made[0][0]["content"])


# %% [markdown]
# Nothing is written: of the logits after the prompt, the four letters' are compared.

# %%
def likeliest_letter(messages):
    """A, B, C or D, from the logits after one prompt."""
    prompt = render_for_completion(tokenizer, messages)
    logits = assistant(mx.array([prompt]))[0, -1]
    return max("ABCD", key=lambda letter: logits[tokenizer.encode(letter)[0]].item())


choice = same_text, lambda number: tuple("ABCD")
by_letter = ChatTask("letters", "categorical", 0.25, len(made), made.__getitem__, *choice)
letters = list(answers(engine, by_letter, list(range(len(made)))))
same = [likeliest_letter(messages) for messages in made[:20]] == [a.reply for a in letters[:20]]
claim("in a batch, `answers` chooses the same letters", same or backend.device_kind() != "cpu")

# %%
result = TaskResult(by_letter, sum(answer.right for answer in letters), len(made))
chosen = {letter: sum(answer.reply == letter for answer in letters) for letter in "ABCD"}
print(f"{result.accuracy:.1%} ± {result.standard_error:.1%}, guessing 25 %; chosen: {chosen}")
print(f"centred {result.centred:+.2f} ± {result.centred_error:.2f}")
claim("within two standard errors of guessing", abs(result.centred) < 2 * result.centred_error)

# %% [markdown]
# About a quarter is right, by a model that has no idea what a choice is: see which letters it chooses. Without the baseline
# beside it, such a number looks like knowledge. **Centred** (chapter 11) puts guessing at 0.
#
# The mean of the centred scores is what nanochat calls **ChatCORE** (both versions; its written tasks have the baseline 0). Compare it only over the same tasks.
#
# ### The form of the prompt
#
# Leave out the special tokens, and ask as one asks a base model:

# %%
task = get_task("calculator")
texts = [f"Question: {task[n][0]['content']}\nAnswer:" for n in range(len(found["calculator"]))]
prompts = [tokenizer.encode(text, bos=True) for text in texts]
replies = engine.generate_batch(prompts, max_tokens=64, max_rows=32, temperature=0)
said = [reply_text(tokenizer, reply.ids) for reply in replies]
bare = "".join("01"[task.evaluate(task[n], text)] for n, text in enumerate(said))
print(f"{bare.count('1')} of {len(bare)} right; the first says {said[0]!r:.60}")
difference, error = paired_difference(by_kind["calculator"]["test"], bare)
print(f"against the form that it practised: {difference:+.0%} ± {error:.1%}")
claim("that costs more than two standard errors", difference < -2 * error)

# %% [markdown]
# The weights are the same, and so are the questions. Before you compare your score with a published one, compare the prompts.
#
# ## 6. The program
#
# `chat_eval` does this to a checkpoint that `chat_sft` wrote: it asks the tasks that you name, keeps earlier results
# of others, and shows replies if you like. (For 20 of 20, ± 0 means 84 to 100 %.)

# %%
output = StringIO()
with tempfile.TemporaryDirectory() as folder:
    flags = ["--tag", "starter", "--out", folder, "--samples", "2"]
    flags += ["--tasks", "identity,calculator,blind-spelling", "--max-per-task", "20"]
    with redirect_stdout(output):
        chat_eval.main(flags)
    report = json.loads(next(Path(folder).glob("*.json")).read_text())
print(output.getvalue().replace(folder, "FOLDER"))
print("each question of blind-spelling:", report["tasks"]["blind-spelling"]["each"])

# %% [markdown]
# The report is a JSON file, with a picture beside it. It is written after each task, so Ctrl-C keeps those that are
# done. On a model of yours:
#
# ```
# chat_eval --tag d4
# chat_eval --tag d4 --tasks gsm8k,mmlu,arc-easy,arc-challenge --max-per-task 200
# chat_eval --tag d4 --tasks blind-identity --samples 20
# ```
#
# The second line fetches what it needs, once. Expect little of a small model there: GSM8K asks for several steps of reasoning in words,
# and MMLU for knowledge.
#
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
# <details><summary>Hint 1</summary>The difference has the standard error $\sqrt{(p(1-p) + q(1-q))/n}$. Write down
# $|p - q| \ge 2\,\text{SE}$ and solve it for $n$.</details>
#
# <details><summary>Hint 2</summary>$n \ge 4\,(p(1-p) + q(1-q))/(p-q)^2$, rounded up with `math.ceil`. For 0.5 and 0.6 this is 196 on paper, and a little more in Python, whose 0.5 - 0.6 is not quite −0.1:
# being one question too careful is fine.</details>

# %% tags=["exercise"]
def questions_needed(p, q):
    raise NotImplementedError


# %%
check(exercises.questions_needed, questions_needed)


# %% [markdown]
# ### Exercise 14.2 — find the leak
#
# 15 minutes, ●●○. Write `leaks(train, test)`: both are lists of questions as people typed them. Return the test questions, as they
# stand there and in their order, that also occur in `train`, where capitals, spaces and everything that is not a letter or a digit
# do not count. But signs of sums do: `1+2` and `1-2` are different questions. Be fast: both lists may have 100,000 entries.
#
# <details><summary>Hint 1</summary>Write a function that strips a question down to what counts, and compare the stripped ones. Looking something up in a
# list takes longer the longer the list is.</details>
#
# <details><summary>Hint 2</summary>`casefold`, then keep characters that are `isalnum()` or in `+-*/`. Put the stripped questions of `train` into a set.</details>

# %% tags=["exercise"]
def leaks(train, test):
    raise NotImplementedError


# %%
check(exercises.leaks, leaks)


# %% [markdown]
# ### Exercise 14.3 — a larger language
#
# 25 minutes, ●●●. A calculator that knows `max(…)` and `min(…)`. Write `value_with_max(node)`: the value of a tree in our language,
# or of `max` or `min` of one or more arguments that are such trees themselves, at any depth: `2*max(3, min(4, 5))`. Raise
# `ValueError` for all else. Only these two names may be called, without keywords and without `*`.
#
# <details><summary>Hint 1</summary>Print `ast.dump(ast.parse("max(1, 2)", mode="eval").body, indent=2)`. A call is
# `ast.Call(func=ast.Name(id=…), args=[…], keywords=[])`.</details>
#
# <details><summary>Hint 2</summary>`value_of` cannot help inside an operation, since its own recursion does not know `max`. So take signs and operations over, with
# `OPERATORS`, and leave numbers and `.count(` to it.</details>

# %% tags=["exercise"]
def value_with_max(node):
    raise NotImplementedError


# %%
check(exercises.value_with_max, value_with_max)

# %% [markdown]
# ## Summary
#
# - Sums in the head can be learned, with practice. Asking for them is copying: it takes far less practice, and it too holds only for lengths that were practised.
# - What a model wrote is never run. Parse it, allow what you know, bound the size, and refuse the rest.
# - The engine collects the call, asks the tool and forces the result into the row: the model reads it, and training leaves it out.
# - A task is questions, a rule and a baseline. A score has an interval, and two scores on the same questions are compared in pairs.
# - A score holds for its questions in their form: the same ones in capitals lost nearly all points in two of the kinds.
#
# ## Pitfalls
#
# - **"It cannot", after one short training**: give it ten times the practice first.
# - **`eval` with names taken away**: not safe, see section 2. A list of forbidden words is not either.
# - **A reply cut in the middle of a result**: finding the "last number" there. Judge what is said, without calls and their results.
# - **Longer, louder, quoted**: what was not practised may get 0, however good the score on the test side is.
# - **Another prompt form**: none of 100 instead of all, with the same weights.
# - **± 0 for 0 of 10**, and a winner chosen out of a dozen comparisons.
# - **A score without guessing beside it**: always answering B, or always 1, gets its share.
#
# ## Further reading
#
# - [Toolformer](https://arxiv.org/abs/2302.04761), Schick et al., 2023: a model teaches itself when to call a tool.
# - [Training Verifiers to Solve Math Word Problems](https://arxiv.org/abs/2110.14168), Cobbe et al., 2021: GSM8K, with calculator
#   calls inside its solutions.
# - [Measuring Massive Multitask Language Understanding](https://arxiv.org/abs/2009.03300), Hendrycks et al., 2021: MMLU.
# - [Think you have Solved Question Answering?](https://arxiv.org/abs/1803.05457), Clark et al., 2018: ARC.
# - [Judging LLM-as-a-Judge](https://arxiv.org/abs/2306.05685), Zheng et al., 2023: large models as judges, compared with people.
#
# **Next:** [15 · Reinforcement](15_reinforcement.ipynb), where the model tries by itself, and right replies are rewarded.

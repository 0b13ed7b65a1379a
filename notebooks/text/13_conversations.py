# %% [markdown]
# # 13 · Conversations
#
# **Goal.** Turn a model that continues text into one that answers, by showing it conversations.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb), [06 · Data](06_data.ipynb), [10 · Training](10_training.ipynb), [11 · Evaluation](11_evaluation.ipynb), [12 · Generation](12_engine.ipynb) |
# | Time | 60 minutes to read, 50 for the exercises; a minute or two to run |
# | Memory | under 1 GB |
# | You will build | a conversation as ids → `course_lib.chat.rendering`; rows of them → `packing`; lessons from templates → `templates`, all in `course_lib.chat` |
#
# A base model has read text, and it continues text. Ask it a question, and it may go on with another question: in what it
# has read, that is as good a continuation as any. To make it answer, we train it further, on conversations in which somebody answers. This is
# **supervised fine-tuning** (SFT).

# %% [markdown]
# ![Map of the course: chapter 13 conversations is marked, the first one of Part III; after 12 engine, and 14 tools comes next](images/map_13.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · **13** · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/13_conversations.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export chat.rendering
"""A conversation as ids: special tokens around each message, and a mask for what is trained.

Source: nanochat.
"""

from collections.abc import Sequence

from course_lib.chat.messages import check_messages, without_system
from course_lib.data.tokenizer import Tokenizer

# %%
#| export chat.templates
"""Lessons from templates: the variants of a phrase, how it is typed, what is kept for tests."""

import itertools
import random
import re
import zlib
from functools import cache

import yaml

from course_lib.host.paths import data_dir

# %%
#| export chat.packing
"""Rows of conversations for fine-tuning: packed by best fit, and what is trained in them.

Source: nanochat (July 2026), which packs in this way.
"""

from collections.abc import Iterator

import numpy as np

from course_lib.chat.rendering import render_conversation
from course_lib.chat.sources import Conversations
from course_lib.data.tokenizer import Tokenizer

# %% [markdown]
# These cells open the modules that this chapter builds. The next one is for this notebook only.

# %%
import math
from itertools import islice

import mlx.core as mx

from course_lib import backend
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.conversation_loader import ConversationLoader
from course_lib.chat.lessons import KINDS, identity, lesson, practice
from course_lib.classroom import LiveCurve, budget, check, claim, stored
from course_lib.classroom import draw_conversations as drawings
from course_lib.classroom.chat_scores import examine, gain
from course_lib.classroom.draw_tokens import draw_tokens
from course_lib.classroom.exercises import conversations as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.generate.engine import Engine
from course_lib.model.gpt import GPT, init_weights
from course_lib.train.starter import load_starter
from course_lib.train.trainer import Trainer
from course_lib.train.validation import validate

backend.seed_everything(42)

# %% [markdown]
# ## 1. A base model does not answer
#
# The course brings two small models, and a tokenizer for both. `base` has read the documentation of Python. `assistant` is the same model after fine-tuning. Both write
# the likeliest tokens, up to 48 of them:

# %%
base, tokenizer = load_starter("base")
assistant, _ = load_starter("sft")


def replies(model, prompts, max_tokens=48):
    """What a model writes after each prompt, the likeliest tokens, as text."""
    written = Engine(model, tokenizer).generate_batch(prompts, max_tokens, temperature=0)
    return [tokenizer.decode(reply.ids) for reply in written]


# %%
QUESTIONS = ("Who are you?", "Spell the word engine.", "What is the capital of France?")
plain = [tokenizer.encode(question, bos=True) for question in QUESTIONS]
for question, reply in zip(QUESTIONS, replies(base, plain), strict=True):
    print(f"base: {question} … {reply!r}")

# %% [markdown]
# It goes on in the style of its documents. The assistant is asked with special tokens around the question. To be fair, ask both models like this:

# %%
special = tokenizer.special
user_start, user_end = special("<|user_start|>"), special("<|user_end|>")
assistant_start, end = special("<|assistant_start|>"), special("<|assistant_end|>")

# %%
marked = [
    [tokenizer.bos, user_start, *tokenizer.encode(question), user_end, assistant_start]
    for question in QUESTIONS
]
said = {}
for name, model in {"base": base, "assistant": assistant}.items():
    said[name] = replies(model, marked)
    for question, reply in zip(QUESTIONS, said[name], strict=True):
        print(f"{name:9s} {question:31s} {reply!r}")
named = {name: "Wren" in texts[0] for name, texts in said.items()}
claim("only the assistant says who it is", named["assistant"] and not named["base"])

# %% [markdown]
# The marks alone do not make it answer: they stood in no document, so the base model has learned nothing about them. The rest of this chapter is what lies between the two models.
#
# ## 2. A conversation is a text with marks
#
# ### Four formats
#
# A conversation is a list of **messages**, each with a **role** and a **content**. Every chat program sends it in this form:

# %%
messages = [
    {"role": "user", "content": "What is your name?"},
    {"role": "assistant", "content": "My name is Wren."},
    {"role": "user", "content": "How much is 12 + 30?"},
    {"role": "assistant", "content": "42"},
]

# %% [markdown]
# A model reads one row of ids. So something must mark where each message begins and ends, and whose it is. Here is “Hi”, answered by “Hello!”, in four formats (↵ is a line end):
#
# | format | the user's message | the assistant's |
# |---|---|---|
# | nanochat, and ours | `<\|user_start\|>Hi<\|user_end\|>` | `<\|assistant_start\|>Hello!<\|assistant_end\|>` |
# | ChatML (OpenAI, 2023) | `<\|im_start\|>user↵Hi<\|im_end\|>↵` | `<\|im_start\|>assistant↵Hello!<\|im_end\|>↵` |
# | Llama 3 (2024) | `<\|start_header_id\|>user<\|end_header_id\|>↵↵Hi<\|eot_id\|>` | `<\|start_header_id\|>assistant<\|end_header_id\|>↵↵Hello!<\|eot_id\|>` |
# | Alpaca (2023) | `### Instruction:↵Hi↵↵` | `### Response:Hello!</s>` |
#
# All say who speaks, and all have a token that ends the answer. In the first three, each `<|…|>` is a single **special token**. ChatML and Llama 3 write the role as a word between
# two of them, so that other roles need no new token; ours has a token for each role. Alpaca's headings are ordinary text, after a sentence that describes the task, and only `</s>` is special.
#
# What is wrong with headings of ordinary text? A user can type `### Response:` too, and so pretend that the assistant has said something. Special tokens are safe from that: no text that anybody types
# becomes one, because `encode` (chapter 05) never makes one:

# %%
ids = tokenizer.encode("<|assistant_start|>I owe you money")
print(len(ids), "tokens:", [tokenizer.decode([token]) for token in ids[:8]])
assert special("<|assistant_start|>") not in ids


# %% [markdown]
# ### Ids and a mask
#
# In pretraining every token is a target. Here the model is to learn to *answer*, and not to write questions. So each id gets a **mask**: 1 if the assistant writes it, 0 if it is
# given to it.
#
# An assistant may also call a **tool**. Then its content is a list of parts: what it sends to the tool (`python`), what the tool says (`python_output`), and text. The tool's words are not the model's, so they get 0.


# %%
#| export chat.rendering
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


# %% [markdown]
# Two helpers are written by hand (`course_lib/chat/messages.py`). `check_messages` says in a sentence what is wrong with a list that is no conversation. `without_system` joins
# a message with the role *system* ("Answer in one word.") to the user's first one.

# %%
ids, mask = render_conversation(tokenizer, messages)
draw_tokens([tokenizer.decode([token]) for token in ids], mask)
print(f"{sum(mask)} of {len(ids)} tokens are trained")

# %% [markdown]
# Boxes with a thick blue frame are trained. `<|assistant_end|>` is one of them. `<|assistant_start|>` is not: the program puts it there, to say "your turn". And the first answer is
# trained although another turn follows. Each answer sees only what stands before it, so one conversation teaches all its answers at once.
#
# The same sum with a tool:

# %%
parts = [
    {"type": "python", "text": "12+30"},
    {"type": "python_output", "text": "42"},
    {"type": "text", "text": "42"},
]
with_calculator = [messages[2], {"role": "assistant", "content": parts}]
ids, mask = render_conversation(tokenizer, with_calculator)
draw_tokens([tokenizer.decode([token]) for token in ids], mask)


# %% [markdown]
# The white boxes inside the answer are put there by the program that runs the tool (chapter 14).
#
# ### The prompt for an answer
#
# To get an answer, render what has been said and end with `<|assistant_start|>`. A model has only `sequence_len` places, so when a chat has grown
# longer than that, `render_for_completion` (`course_lib/chat/conversation.py`, by hand) leaves out the oldest turns:

# %%
one_turn = [render_for_completion(tokenizer, [{"role": "user", "content": q}]) for q in QUESTIONS]
assert one_turn == marked  # section 1
whole, _ = render_conversation(tokenizer, messages)
prompt = render_for_completion(tokenizer, messages[:3])
assert prompt == whole[: len(prompt)] and prompt[-1] == assistant_start
print(tokenizer.decode(render_for_completion(tokenizer, messages[:3], max_tokens=20)))


# %% [markdown]
# With 20 tokens the first turn is gone, and what is left still begins and ends as it should. Cutting the row itself would leave half a message, a form that the model has never seen.
#
# ## 3. Targets
#
# The inputs of a row are its ids without the last, the targets are its ids without the first, as always. One thing is new: where the *target's* mask is 0, the target becomes **−1**. The model's loss leaves such places out (chapter 08).

# %%
greeting = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
ids, mask = render_conversation(tokenizer, greeting)
drawings.draw_shift([tokenizer.decode([token]) for token in ids], mask)

# %% [markdown]
# Framed in blue: mask 1. Each arrow takes an id of the upper line to the place before it in the lower line, where it is to be predicted. So `assistant_start` is the first place with a target: there the model must say the first token of the
# answer. The row has one place fewer than the conversation, and the last target is `assistant_end`.
#
# Rows of a batch must be equally long. Short ones are filled up, and the targets there are −1, too. Nothing trained comes after them, so it does not matter with what; we take `<|assistant_end|>`.

# %%
#| export chat.packing
Row = tuple[list[int], list[int]]  # ids and mask


def collate(rows: list[Row], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
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


# %% tags=["nbval-check-output"]
inputs, targets = collate([([5, 6, 7, 8], [0, 0, 1, 1])], length=6, pad=0)
print("inputs ", inputs[0].tolist())
print("targets", targets[0].tolist())

# %% [markdown]
# The target of 5 would be 6, which is given: −1. The target of 6 is 7, which is trained. Check the loss of such a row against a mean by hand, over the trained targets only:

# %%
inputs, targets = map(mx.array, collate([(ids, mask)], 64, end))
logits = np.array(base(inputs)[0], dtype=np.float64)  # (64, V)
log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
places = np.flatnonzero(np.array(targets[0]) >= 0)
by_hand = -log_probs[places, np.array(targets[0])[places]].mean()
print(f"loss {by_hand:.3f} over {len(places)} targets")
assert abs(base.loss(inputs, targets).item() - by_hand) < 1e-3

# %%
nothing = mx.full(targets.shape, -1)
print("without any target the loss is", base.loss(inputs, nothing).item())


# %% [markdown]
# ## 4. Packing
#
# Our conversations are short. With one in each row, most places would be padding, and padding costs as much time as text. So put several into a row, by the **best fit** of chapter 06: keep 100 conversations waiting, and
# take the longest that still fits, again and again. There is one difference. In pretraining, what fits nowhere is cropped. A question cropped before its answer teaches nothing, so here the rest of the row is padded. nanochat (October 2025)
# gave each conversation a row of its own; nanochat (July 2026) packs in this way.

# %%
#| export chat.packing
BUFFER = 100  # conversations that wait, as in nanochat (July 2026)


def pack(
    conversations: Conversations,
    tokenizer: Tokenizer,
    length: int,
    state: dict | None = None,
    buffer: int = BUFFER,
) -> Iterator[tuple[Row, dict]]:
    """(row, state after it) for ever: whole conversations, each time the longest that still fits.

    A row has at most length + 1 tokens, and so has a conversation: what is longer is cut. state:
    the number of the conversation to come "next", and those "waiting". Rows go on from it exactly.
    """
    state = {"next": 0, "waiting": []} | (state or {})
    following = state["next"]

    def rendered(number: int) -> Row:
        return render_conversation(tokenizer, conversations(number), length + 1)

    waiting = {number: rendered(number) for number in state["waiting"]}
    while True:
        ids, mask = [], []
        while True:
            while len(waiting) < buffer:
                waiting[following] = rendered(following)
                following += 1
            fitting = [n for n in waiting if len(ids) + len(waiting[n][0]) <= length + 1]
            if not fitting:
                break
            more = waiting.pop(max(fitting, key=lambda n: len(waiting[n][0])))
            ids, mask = ids + more[0], mask + more[1]
        yield (ids, mask), {"next": following, "waiting": list(waiting)}


# %% [markdown]
# `conversations` is a function of a number: `practice(17)` is conversation 17, on every machine and every day. (Section 5 shows where it comes from.) So the state of a loader is only numbers: the next one, and those that wait. By hand, with conversations of known lengths (the user says
# nothing, and the answer is one letter several times):

# %%
TEXTS = ["x " * count for count in (1, 6, 3, 2)]


def tiny(number):
    said = {"role": "assistant", "content": TEXTS[number % 4]}
    return [{"role": "user", "content": ""}, said]


# %% tags=["nbval-check-output"]
sizes = [len(render_conversation(tokenizer, tiny(number))[0]) for number in range(4)]
print("lengths", sizes)
for buffer in (1, 4):
    rows = islice(pack(tiny, tokenizer, length=21, buffer=buffer), 4)
    print(f"{buffer} waiting:", [len(ids) for (ids, _), _ in rows], "of 22 places used")

# %% [markdown]
# With one conversation waiting, rows take them in their order. With four there is a choice. How much do real lessons leave empty, one in a row, in order, and by best fit? (Of best fit we look at rows 400 to 800: chapter 06 has shown that the first rows mislead.)

# %%
LENGTH = 128
count = budget(400, quick=20)
alone = [render_conversation(tokenizer, practice(number), LENGTH + 1) for number in range(count)]
in_order = [row for row, _ in islice(pack(practice, tokenizer, LENGTH, buffer=1), count)]
best_fit, states = zip(*islice(pack(practice, tokenizer, LENGTH), count, 2 * count), strict=True)
ways = {"one in a row": alone, "in order": in_order, "best fit": best_fit}
drawings.draw_rows({way: rows[:8] for way, rows in ways.items()}, tokenizer.bos, LENGTH + 1)

# %%
padded, answers = {}, {}
for way, rows in ways.items():
    padded[way] = 1 - sum(len(ids) for ids, _ in rows) / (count * (LENGTH + 1))
    answers[way] = sum(ids.count(end) for ids, _ in rows) / len(rows)
    print(f"{way:13s} {padded[way]:5.1%} of the places are padding, {answers[way]:.1f} answers")

# %%
more = answers["in order"] / answers["one in a row"]
claim("in order, a row teaches more than twice as many answers", more > 2)
claim(
    "best fit pads less than a third as much as that", padded["best fit"] < padded["in order"] / 3
)
whole = [render_conversation(tokenizer, practice(number)) for number in range(count)]
claim("none of these conversations is longer than a row, so none is cut", whole == alone)
all_of_them = [len(ids) for ids, _ in whole]
waiting = [len(render_conversation(tokenizer, practice(n))[0]) for n in states[-1]["waiting"]]
middle, waits = np.median(all_of_them), np.median(waiting)
print(f"median length: {middle:.0f} of all, {waits:.0f} of those that wait")
claim("the short ones wait", waits < 0.75 * middle)

# %% [markdown]
# A step costs the same in all three cases, and teaches more answers from left to right. Why is there any padding left? The long conversations leave first, so by now mostly short ones wait, and where even those do not fit, the row stays open. You may object that a conversation now sees those before it in its row. Section 6 asks whether that matters to a trained model.
#
# For a training run the package has `ConversationLoader`, written by hand. It makes batches of these rows, skips those in which nothing is trained, and remembers its `state`. A run that was
# stopped goes on with the very batch that would have come:

# %%
loader = ConversationLoader(practice, tokenizer, batch_size=16, sequence_len=LENGTH)
next(loader)
place = dict(loader.state)
expected = next(loader)
found = next(ConversationLoader(practice, tokenizer, 16, LENGTH, state=place))
assert all((a == b).all() for a, b in zip(expected, found, strict=True))
print(f"conversation {place['next']} comes next; waiting: {str(place['waiting'])[:40]} …")


# %% [markdown]
# ## 5. Something to practise
#
# ### Templates
#
# Large models are fine-tuned on a million conversations, written by people and by other models. A model that trains in minutes can learn something narrow, provided the examples vary. So we make them
# from **templates**. This is an entry of `data/lessons/lessons.yaml`, shortened; `(a|b|)` stands for one of the alternatives, the last of which is empty:
#
# ```yaml
# - answer: "I am Wren, a small language model."
#   question:
#   - "(who|what) (are|r) (you|u)( exactly| really| actually| then|)"
#   - "(can|could|would|will) you (introduce|describe|present|explain) yourself( to me| to us|)( briefly| shortly|)"
#   request:
#   - "(tell|let) (me|us) (know |)(who|what) you are"
# ```


# %%
#| export chat.templates
def expand(template: str) -> list[str]:
    """Every text of a template in which (a|b|) stands for one of the alternatives."""
    pieces = re.split(r"\(([^()]*\|[^()]*)\)", template)
    choices = [piece.split("|") if n % 2 else [piece] for n, piece in enumerate(pieces)]
    return [" ".join("".join(chosen).split()) for chosen in itertools.product(*choices)]


@cache
def templates() -> dict:
    """All of lessons.yaml."""
    return yaml.safe_load((data_dir() / "lessons" / "lessons.yaml").read_text(encoding="utf-8"))


# %%
print(expand("(tell|let) (me|us) (know |)(who|what) you are")[:4])
print(len(expand("(who|what) (are|r) (you|u)( exactly| really| actually| then|)")), "phrases")

# %% [markdown]
# People also type openings, capitals and marks at the end, so each phrase is **dressed**. And some questions must be kept for tests. Which? `is_test` decides by a hash, as in chapter 06, and it looks at
# the phrase *before* it is dressed. (`endings` and `openings` are lists in the YAML, and `shouted` says how often a question is all in capitals.)


# %%
#| export chat.templates
def is_test(phrase: str) -> bool:
    """Whether a question is kept for tests, as one in ten is, by what it asks alone."""
    return zlib.crc32(phrase.encode()) % 10 == 0


def dressed(rng: random.Random, phrase: str, ending: str = "question", shouted: float = 0.0) -> str:
    """A phrase as people type it: perhaps with an opening and capitals, and a mark at the end."""
    text = rng.choice(templates()["openings"]) + phrase
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    if rng.random() < shouted:
        text = text.upper()
    if rng.random() < 0.5:
        text = re.sub(r"\bi\b", "I", text)
    return text + rng.choice(templates()["endings"][ending])


# %% [markdown]
# So a lesson of the kind *identity* is made in four steps: an entry, a phrase of it, its side (training or test), and its dress. (Not every combination is good English. Neither is what people type.)

# %%
rng = random.Random(4)
for _ in range(4):
    entry = rng.choice([each for each in templates()["identity"] if "request" in each])
    phrase = rng.choice([each for template in entry["request"] for each in expand(template)])
    side = "test" if is_test(phrase) else "train"
    print(f"{side:5s} {dressed(rng, phrase, 'request')!r:58} {entry['answer']}")

# %% [markdown]
# Sums are made in the same way, and answered by a call of the calculator:
#
# ```yaml
# calculator:
#   "+":
#   - "(what is|what's|how much is|calculate|compute|work out|find) {a}( + |+| plus | and ){b}"
#   - "(i have|you have|anna has|tom has|there are) {a} (apples|books|coins|eggs|stones|cards) and (get|find|buy|add) {b} more. how many (is that|are there|in all)"
# ```
#
# There it is the numbers that decide: if `12+30` is a test, it is one in every wording. They have one to four digits: a small model copies best what it has practised in that size.
#
# All seven kinds are in `course_lib/chat/lessons.py`, written by hand: these two, small sums without the calculator, words letter by letter, letters counted in words, what Python's built-in functions do, and questions to which the model cannot know the answer. `lesson(kind, side, number)` draws until the
# question is on the side that was asked for, with the number as the seed of its random numbers. `practice(number)` mixes the kinds, and three conversations of ten have a second turn.

# %%
for kind in KINDS:
    question, answer = (message["content"] for message in lesson(kind, "train", 3))
    text = answer if isinstance(answer, str) else " → ".join(part["text"] for part in answer)
    print(f"{kind:10s} {question:62.62s} {text}")


# %% [markdown]
# ### Do training and test share a question?
#
# A check that has never found anything proves nothing. So we plant a leak. `honest` is our split. `leaky` hashes the question *after* it was dressed, so "What is your name?" may be for training and "so, what is your name" for testing. Draw many lessons, and look for questions on both sides, with two checks. `simplified` compares letters and digits, in small letters; that is the obvious check. `undressed` takes openings and endings off as well.

# %%
OPENINGS = "|".join(map(re.escape, sorted(set(templates()["openings"]), reverse=True)))


def undressed(question):
    """The phrase inside a question: without its opening and its ending, in small letters."""
    text = re.sub(f"^({OPENINGS})", "", question.lower())
    return re.sub(r",? ?please\.?$|[ ?!.]+$", "", text)


# %%
def simplified(question):
    """Letters, digits and spaces of a question, in small letters."""
    return " ".join(re.sub(r"[^a-z0-9]+", " ", question.lower()).split())


# %%
rng, count = random.Random(0), budget(20_000, quick=500)
drawn = [identity(rng)[:2] for _ in range(count)]
shared = {}
for split in ("honest", "leaky"):
    for check_by in (simplified, undressed):
        train, test = set(), set()
        for phrase, question in drawn:
            side = test if is_test(phrase if split == "honest" else question) else train
            side.add(check_by(question))
        shared[split, check_by] = len(train & test) / len(test)
        print(f"{split:7s} {check_by.__name__:11s}", end="")
        print(f"{len(train & test):6,} of {len(test):5,} test questions are trained on")

# %%
claim("undressed, no question of our split is on both sides", shared["honest", undressed] == 0)
claim("in the leaky one, more than eight of ten are", shared["leaky", undressed] > 0.8)
claim("and the obvious check finds less than four of ten", shared["leaky", simplified] < 0.4)

# %% [markdown]
# The obvious check misses most of the leak, since "what is your name" and "so what is your name" look like two questions to it. (That `simplified` shows 0 for our split is partly luck. In a larger draw it would flag a few greetings: "hi good day wren" is kept for tests, and the opening "hi, " makes "hi, good day wren" of another phrase, to train on.)
#
# Both sides still share their *templates*. A model that does well on the test side has learned these templates, and not everything that a person might type. For a second look there are 150 questions in `data/lessons/blind.jsonl`, by someone who had not seen the templates. Nothing here is trained on them, the tokenizer included; chapter 14 asks them.
#
# ## 6. Fine-tuning
#
# The step is that of chapter 10, and so are its learning rates. To keep it short we practise two kinds of lessons only, with 8 rows of 128 tokens a step:

# %%
STEPS, ROWS = budget(120, quick=2), 8
TWO_KINDS = {"identity": 0.7, "calculator": 0.3}


def copy_of(model):
    """Another model with the same weights."""
    other = GPT(model.config)
    other.update(model.parameters())
    return other


# %%
def fine_tune(model, steps, seed=0, remask=lambda ids, mask: mask, trainer=None):
    """Train on conversations of the two kinds, and yield the loss of each step.

    seed: which conversations; remask(ids, mask): the mask that is used in place of the usual one.
    """
    trainer = trainer or Trainer(model, steps, warmdown_ratio=0.4)
    rows = pack(lambda n: practice(n + 10**6 * seed, TWO_KINDS), tokenizer, LENGTH)
    for _ in range(steps):
        batch = [row for row, _ in islice(rows, ROWS)]
        batch = [(ids, remask(ids, mask)) for ids, mask in batch]
        yield trainer.step([tuple(map(mx.array, collate(batch, LENGTH, end)))]).loss


# %% [markdown]
# Two numbers to watch, in bits per byte (chapter 11): documentation that was held out of pretraining, and answers to questions that are held out of practice. (Of what it says about itself, only the *questions* are held out: those answers are few, and it practises them all.) And for comparison: how many bits would a model need for documentation if it knew nothing, and gave all $V$ ids the same probability?
# For each token $\log_2 V$ bits:

# %%
with TokenLoader(open_dataset(), tokenizer, "val", 16, LENGTH) as documents:
    of_documents = list(islice(documents, 3))


def unseen(number):
    """Conversation `number` of the two kinds, of questions that are kept for tests."""
    return practice(number, TWO_KINDS, "test")


held_out = ConversationLoader(unseen, tokenizer, 16, LENGTH, buffer=1)
of_answers = list(islice(held_out, 3))
size = sum(tokenizer.token_bytes[targets].sum().item() for _, targets in of_documents)
count = sum((tokenizer.token_bytes[targets] > 0).sum().item() for _, targets in of_documents)
nothing = math.log2(tokenizer.vocab_size) * count / size
print(f"knowing nothing of documentation: {nothing:.2f} bits per byte")


# %%
def look(model):
    """Bits per byte of documentation and of answers."""
    sizes = tokenizer.token_bytes
    return validate(model, of_documents, sizes), validate(model, of_answers, sizes)


# %%
tuned, looks = copy_of(base), [(0, *look(base))]
curve = LiveCurve("loss on answers", total=STEPS, window=10)
for step, loss in enumerate(fine_tune(tuned, STEPS), start=1):
    curve.add(step, loss)
    if step % max(1, STEPS // 5) == 0:
        looks.append((step, *look(tuned)))
curve.show()

# %%
drawings.draw_forgetting(looks, nothing)
for n, name in enumerate(("documentation", "answers"), start=1):
    print(f"{name:13s} {looks[0][n]:.2f} → {looks[-1][n]:.2f} bits per byte")
claim("answers become easy", looks[-1][2] < 0.3)
claim("documentation becomes harder than for a model that knows nothing", looks[-1][1] > nothing)

# %% [markdown]
# Answers become easy: they are short and of few kinds. Documentation becomes *worse than knowing nothing*. A model that knows nothing is equally surprised by everything; this one has strong expectations, and they are wrong. It has **forgotten** what it read. So keep the base model; `chat_sft` writes into another folder.
#
# And does it answer?

# %%
asked = ("Who are you?", "what is your name", "thanks a lot", "How much is 12 + 30?")
prompts = [render_for_completion(tokenizer, [{"role": "user", "content": q}]) for q in asked]
both = zip(asked, replies(base, prompts), replies(tuned, prompts), strict=True)
for question, before, after in both:
    print(f"{question}\n   before {before!r:.70}\n   after  {after!r}")

# %% [markdown]
# It answers. What it says about itself we have told it. But read on: does each reply fit its question? In our run “thanks a lot” got one that does not. And at the sum the model writes a call of the calculator, in the right form and with a wrong number, 120. (No calculator is attached yet, so after the call the model carries on and makes something up.) Section 7 counts how often that happens.
#
# Does it harm that conversations in a row see those before them? The same held-out answers, each conversation alone in its row:

# %%
separate = [render_conversation(tokenizer, unseen(n)) for n in range(held_out.used)]
alone = [tuple(map(mx.array, collate(separate, LENGTH, end)))]
in_rows, by_themselves = look(tuned)[1], validate(tuned, alone, tokenizer.token_bytes)
print(f"packed {in_rows:.3f}, alone {by_themselves:.3f} bits per byte")
claim("the two differ by less than a fifth", abs(in_rows / by_themselves - 1) < 0.2)


# %% [markdown]
# Hardly, when it reads: a few per cent of a small number. Each conversation begins with `<|bos|>`, so the model can tell where the present one begins. (Exercise 13.3 builds the mask that would hide the others. Whether training with it does better, we did not try.)
#
# ## 7. Four runs
#
# Three choices were made above: only the assistant's words are trained, `<|assistant_end|>` among them, and we began with a pretrained model. What does each of them buy? Leave out one at a time:

# %%
RUNS = {
    "masked": lambda ids, mask: mask,
    "everything trained": lambda ids, mask: [1] * len(ids),
    "without the end token": lambda ids, mask: list(np.array(mask) * (np.array(ids) != end)),
    "without pretraining": lambda ids, mask: mask,
}
TESTS = {kind: [lesson(kind, "test", n) for n in range(budget(100, quick=2))] for kind in TWO_KINDS}


# %% [markdown]
# `examine` (`course_lib/classroom/chat_scores.py`, by hand) asks 100 test questions of each kind. Of those about itself, `right` counts replies that are the expected answer and nothing more, `begin` those that begin with it; of the sums, `calls` counts the right calls of the calculator. The runs are stored, with two seeds, which choose the conversations and, in the last run, the starting values, too.


# %%
def four_runs():
    for seed in range(budget(2, quick=1)):
        for name, remask in RUNS.items():
            model = copy_of(base)
            if name == "without pretraining":
                init_weights(model, seed)
            *_, loss = fine_tune(model, STEPS, seed, remask)
            row = {"seed": seed, "steps": STEPS, "run": name, "loss": loss}
            row |= examine(model, tokenizer, TESTS)
            yield row | dict(zip(("documents", "answers"), look(model), strict=True))


# %%
runs = stored("conversations_runs", four_runs)
by_run = {name: [row for row in runs if row["run"] == name] for name in RUNS}
print(f"{'of 100, with each seed':24s} right     begin     calls     documentation")
for name, rows in by_run.items():
    print(f"{name:24s}", end="")
    for what in ("right", "begin", "calls"):
        print(*(f"{row[what].count('x'):3d}" for row in rows), end="   ")
    print(*(f"{row['documents']:.2f}" for row in rows))

# %% [markdown]
# Which differences are real? All runs answered the same questions, so take the difference on each question (chapter 11), as a mean over both seeds, and its error:

# %%
gains = {}
for name in list(RUNS)[1:]:
    for what in ("right", "calls"):
        gains[name, what] = mean, error = gain(by_run["masked"], by_run[name], what)
        print(f"masked − {name:22s} {what:6s} {mean:+6.1%} ± {error:.1%}")
clear = {key: mean > 2 * error for key, (mean, error) in gains.items()}

# %%
endless = by_run["without the end token"]
claim("without the end token, no reply is right", not any("x" in row["right"] for row in endless))
claim("though most begin right", min(row["begin"].count("x") for row in endless) > 60)
both = clear["everything trained", "right"] and clear["everything trained", "calls"]
claim("training everything costs right replies and right calls", both)
mean, error = gains["without pretraining", "right"]
claim("without pretraining it says as well who it is, within the error", abs(mean) < 2 * error)
claim("but it makes clearly fewer right calls", clear["without pretraining", "calls"])

# %% [markdown]
# **Without the end token** the model says the right thing, and then goes on until its tokens are used up. This one mistake spoils every reply.
#
# **Training everything** is milder. The model learns to write questions as well, and after as many steps its answers are worse. It does stop, since the end token is trained.
#
# **Pretraining** bought nothing that can be told from luck where the model says who it is: those answers are a short list, which is learned in either case. It did buy calls of the calculator. For `12+30` the model must copy numbers from the question. Documentation repeats its own names all the time, so copying may have been learned there; we did not test that. "What does pretraining bring?" has to be asked for each skill.
#
# Even in the masked runs most calls are *wrong*. And without the end token about half of them are right, which we did not expect. Copying is being learned in just these steps, so whatever makes it a little faster shows; why leaving out that token does, we did not find out. More practice mends the calls: `assistant` of section 1, the starter model, had far more of it:

# %%
most = max(row["calls"].count("x") for row in by_run["masked"])
claim("masked: more than half of the calls are wrong", most < 50)
calls = examine(assistant, tokenizer, TESTS)["calls"]
print(f"starter model: {calls.count('x')} of {len(calls)} calls are right")
claim("of the starter model's calls, more than nine of ten are right", calls.count("x") > 90)
worst = min(row["documents"] for row in runs)
claim("all four runs know less of documentation than nothing", worst > nothing)

# %% [markdown]
# ## 8. New optimizer or old, full rates or a tenth?
#
# nanochat (October 2025) began fine-tuning with a new optimizer and a fiftieth of pretraining's learning rates, falling from the first step. nanochat (July 2026) takes over the optimizer's state from pretraining, and begins at 0.8 of the rates.
#
# What does an optimizer remember? Means of past gradients (chapter 09), of some tens of steps. To get such a state for our base model without moving it, let it read documentation for 40 steps at learning rates of zero.


# %%
FULL = {"matrix_lr": 0.02, "embedding_lr": 0.2, "unembedding_lr": 0.004}  # those of chapter 10


def remembered():
    """The state of an optimizer after 40 steps on documentation, in which no weight moves."""
    still = dict.fromkeys(FULL, 0.0)
    trainer = Trainer(copy_of(base), budget(40, quick=2), **still)
    with TokenLoader(open_dataset(), tokenizer, "train", ROWS, LENGTH) as loader:
        for batch in islice(loader, trainer.num_iterations):
            trainer.step([batch])
    return trainer.state()


# %%
def optimizers():
    state = remembered()
    for seed in range(budget(2, quick=1)):
        for kind, share in (("old", 1.0), ("new", 0.1), ("old", 0.1)):
            model = copy_of(base)
            rates = {name: share * rate for name, rate in FULL.items()}
            trainer = Trainer(model, STEPS, warmdown_ratio=0.4, **rates)
            if kind == "old":
                trainer.load_state(0, state)
            *_, loss = fine_tune(model, STEPS, seed, trainer=trainer)
            row = {"seed": seed, "steps": STEPS, "optimizer": kind, "share": share, "loss": loss}
            row |= examine(model, tokenizer, TESTS)
            yield row | dict(zip(("documents", "answers"), look(model), strict=True))


# %%
new_and_full = [row | {"optimizer": "new", "share": 1.0} for row in by_run["masked"]]
choices = new_and_full + stored("conversations_optimizers", optimizers)
for row in choices:
    print(f"seed {row['seed']}, {row['optimizer']} optimizer, rates × {row['share']:3}: ", end="")
    print(f"{row['right'].count('x'):3d} right, {row['calls'].count('x'):3d} calls, ", end="")
    print(f"documentation {row['documents']:.2f}, answers {row['answers']:.3f}")


# %%
def of(what, kind, share):
    """A column of the table above for one choice, with each seed."""
    rows = [row for row in choices if (row["optimizer"], row["share"]) == (kind, share)]
    return [row[what] for row in rows]


old, new = of("documents", "old", 1.0), of("documents", "new", 1.0)
right = [text.count("x") for kind in ("old", "new") for text in of("right", kind, 1.0)]
slow = [text.count("x") for kind in ("old", "new") for text in of("right", kind, 0.1)]
kept = of("documents", "old", 0.1) + of("documents", "new", 0.1)
claim("at a tenth of the rates, 120 steps teach little", max(slow) < 20)
claim("and documentation is largely kept", max(kept) < 3)
claim("at full rates old or new makes no difference to right replies", max(right) - min(right) < 6)
claim("but with the old state less is forgotten", max(old) < min(new) - 0.3)

# %% [markdown]
# High rates learn and forget. At a tenth, answers fall to 0.4 bits per byte: the form is learned, but few replies are right and no call is. At full rates the old state costs no right replies, and less is forgotten, which agrees with nanochat's change. It also made fewer right calls and slightly worse answers, with both seeds, so part of it may just be smaller steps; we did not separate the two. This is one base model with two seeds, and a model that knows more has more to lose.
#
# ## 9. The program, and conversations of your own
#
# `chat_sft` fine-tunes what `base_train` made: chapter 10's training loop on another source of batches (`course_lib/chat/fine_tuning.py`, written by hand), with checkpoints and `--resume`. On the lessons alone it does what we did in section 6: a new optimizer (the comparison above is newer than the program), full rates, flat for 60 % of
# the steps and then down to zero (`--init-lr-frac=1`, `--warmdown-ratio=0.4`). With other data it begins at a tenth and falls from the first step, for models that have more to lose.
#
# ```bash
# uv run base_train --depth=3
# uv run chat_sft --tag d3                              # the lessons of this chapter
# uv run chat_sft --tag d3 --data mine.jsonl,practice   # yours, and the lessons
# uv run chat_sft --tag d12 --data smoltalk,gsm8k,arc-easy,arc-challenge,practice
# ```
#
# A file of your own has one `{"messages": […]}` on each line. `course_lib/chat/files.py` also reads the forms of ShareGPT and Alpaca, and reports every bad line before the training begins. `course_lib/chat/sources.py` mixes several sources, each conversation once an epoch, and
# turns four public sets into messages: SmolTalk (general talk), GSM8K (sums in words, with a calculator), ARC and MMLU (multiple choice).
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/13_conversations_solutions.ipynb](solutions/13_conversations_solutions.ipynb).
#
# ### Exercise 13.1 — who wrote it?
#
# 10 minutes, ●○○. Given ids and mask of a conversation, return the texts that are trained, one for each run of ones, in order. For the chat of section
# 2 that is `["My name is Wren.<|assistant_end|>", "42<|assistant_end|>"]`.
#
# <details><summary>Hint 1</summary>
#
# Walk through both lists together. When does a new text begin?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `itertools.groupby(zip(ids, mask), key=lambda pair: pair[1])` gives runs of equal masks. Decode the ids of those with mask 1.
#
# </details>


# %% tags=["exercise"]
def trained_texts(tokenizer, ids, mask):
    raise NotImplementedError


# %%
check(exercises.trained_texts, trained_texts)


# %% [markdown]
# ### Exercise 13.2 — the last answer only
#
# 15 minutes, ●●○. Some sets have good last answers and poor ones before. Return a mask in which only the last answer is trained, up to and including its `<|assistant_end|>`. A tool's
# output inside that answer stays 0 and does not split it. Leave the mask that you are given as it is.
#
# <details><summary>Hint 1</summary>
#
# Not the last run of ones: a tool's output splits an answer into several. What stands before every answer, and nowhere else?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Find the last `<|assistant_start|>` among the ids. Everything before it becomes 0, everything after it stays as it was.
#
# </details>


# %% tags=["exercise"]
def last_answer_mask(tokenizer, ids, mask):
    raise NotImplementedError


# %%
check(exercises.last_answer_mask, last_answer_mask)


# %% [markdown]
# ### Exercise 13.3 — each conversation by itself
#
# 25 minutes, ●●○. In a packed row, a conversation sees those before it. Write `own_conversation(ids, bos)`: for one row of ids, an array (T, T) of True and False. In row *t* and
# column *s* stands True if position *t* may see position *s*: not a later one, and only of its own conversation, each of which begins with `bos`. (A row may begin in the middle of one.)
#
# <details><summary>Hint 1</summary>
#
# Give each position the number of its conversation. Two positions belong together when their numbers are equal.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.cumsum(np.array(ids) == bos)` counts the conversations that have begun. Compare it with itself, `numbers[:, None] == numbers[None, :]`, and combine with `np.tril`, which keeps what is not later.
#
# </details>


# %% tags=["exercise"]
def own_conversation(ids, bos):
    raise NotImplementedError


# %%
check(exercises.own_conversation, own_conversation)

# %% [markdown]
# ## Summary
#
# - A conversation is a row of ids: special tokens around each message, which no text can fake.
# - The mask says what the assistant writes: its words, its tool calls and `<|assistant_end|>`. Where the mask of the *target* is 0, the target is −1.
# - Best-fit packing leaves hardly any padding, and cuts only a conversation that is longer than a row. Its state is a list of numbers.
# - Test questions are set apart by what they ask, before they are dressed; and a check for leaks must have found one.
# - Of our choices the end token matters most: without it no reply ends, so no reply is right. Training the questions too costs some right answers. Pretraining bought no better answers about itself, but better calls of the calculator.
# - Fine-tuning on a narrow set forgets the rest: at full rates, with a new optimizer, until documentation is harder than for a model that knows nothing. The old optimizer's state forgets less; a tenth of the rates forgets little, but in so few steps hardly any reply is right.
#
# ## Pitfalls
#
# - Tokenizing the whole conversation as one string, marks included: then users can write marks (section 2).
# - Splitting after dressing: the test questions are trained on (section 5).
# - Leaving `<|assistant_end|>` out of the mask: the model does not stop (section 7).
# - The loss on answers taken for everything: the model may have forgotten the rest (section 6).
#
# ## Further reading
#
# - Ouyang et al., 2022, [Training language models to follow instructions](https://arxiv.org/abs/2203.02155): from a base model to an assistant.
# - Zhou et al., 2023, [LIMA](https://arxiv.org/abs/2305.11206): how few conversations it takes when the base model is large.
# - Allal et al., 2025, [SmolLM2](https://arxiv.org/abs/2502.02737): where SmolTalk comes from.
# - The other formats: [ChatML](https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md), [Llama 3](https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/), [Alpaca](https://github.com/tatsu-lab/stanford_alpaca).
# - [nanochat](https://github.com/karpathy/nanochat): the format and the mask of this chapter are its own.
#
# **Next:** [14 · Tools and tasks](14_tools_and_tasks.ipynb) gives the model a calculator, and measures what it can do.

# %% [markdown]
# # 17 · Chat
#
# **Goal.** Talk to a model in the browser, together with many others, and see what stands between its ids and the words on your screen.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb), [13 · Conversations](13_conversations.ipynb), [14 · Tools and tasks](14_tools_and_tasks.ipynb), [16 · Serving](16_serving.ipynb) |
# | Time | 55 minutes to read, 40 for the exercises; a minute to run |
# | Memory | under 1 GB |
# | You will build | what people see of a reply → `course_lib.serve.streaming`, and a chat server in two cells; the package's server, written by hand, is in the rest of `course_lib/serve` |

# %% [markdown]
# ![Map of the course: chapter 17 chat is marked, the fifth one of Part III; after 16 serving, before 18 speedrun](images/map_17.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · **17** · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/17_chat.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export serve.streaming
"""What people may see of the ids that a model writes: text and tool calls, piece by piece.

No special token, no half character, nothing after a stop string. Also: a prompt that fits.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from course_lib.chat.conversation import check_messages, render_for_completion
from course_lib.data.tokenizer import StreamDecoder, Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig

# %%
import asyncio
import http.client
import json
import re
import time
from contextlib import ExitStack
from statistics import median

from IPython.display import display

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_conversation
from course_lib.chat.tasks import get_task
from course_lib.classroom import budget, check, claim, stored
from course_lib.classroom.draw_chat import TimedEngine, draw_clients, draw_threads, sandboxed
from course_lib.classroom.exercises import chat as exercises
from course_lib.generate.engine import Engine
from course_lib.generate.rows import Request
from course_lib.host.paths import data_dir
from course_lib.serve.api import ChatSettings
from course_lib.serve.app import create_app
from course_lib.serve.batch_engine import BatchEngine
from course_lib.serve.transport import serve
from course_lib.train.starter import load_starter

backend.seed_everything(42)
print(backend.describe())
ON_CPU = backend.device_kind() == "cpu"  # a GPU rounds two rows otherwise than one

# %% [markdown]
# ## 1. Talk to it
#
# A small model comes with the course: four layers, fine-tuned on the lessons of chapter 13. Ask it something:

# %%
model, tokenizer = load_starter("sft")
engine = Engine(model, tokenizer, tool=use_calculator)


def user(text):
    return {"role": "user", "content": text}


def reply_to(messages):
    """The ids that the model writes after a conversation."""
    prompt = render_for_completion(tokenizer, messages)
    return [ids[0] for ids, _ in engine.generate(prompt, max_tokens=100, temperature=0)]


# %%
QUESTIONS = ("Who are you?", "What is 347 + 2815?", "What is the capital of France?")
replies = {question: tokenizer.decode(reply_to([user(question)])) for question in QUESTIONS}
for question, reply in replies.items():
    print(f"{question}\n    {reply}")
claim("the sum is right", "3162" in replies["What is 347 + 2815?"])

# %% [markdown]
# That is all that a model gives you: ids, and among them the special tokens of chapters 13 and 14. What people want to see is this:
#
# ![The chat page: the model says who it is, adds 347 and 2815 with the calculator, which is shown in a box, and does not know the capital of France.](images/chat.png)
#
# To talk to it now, type one of these in a terminal:
#
# ```bash
# uv run chat_web        # then open http://127.0.0.1:8000
# uv run chat_cli        # or talk to it right there
# ```
#
# This chapter builds what lies between the two.
#
# ## 2. It has no memory
#
# Ask three questions, one after the other. What does the model get to read each time? `render_for_completion` writes the whole conversation down, up to the place where the assistant's turn begins. The engine keeps the keys and values of texts that it has seen (chapter 16), and `prefixes.find` tells how many ids of a prompt it knows already:

# %%
engine.prefixes.clear()
talk = []
for question in ("Who are you?", "Who made you?", "What can you do?"):
    talk.append(user(question))
    prompt = render_for_completion(tokenizer, talk)
    kept = engine.prefixes.find(prompt)
    known = kept.lengths[0] if kept else 0
    ids = reply_to(talk)
    talk.append({"role": "assistant", "content": tokenizer.decode(ids[:-1])})  # without the end
    print(f"prompt of {len(prompt):3d} ids, {known:3d} known: {len(prompt) - known:2d} to read")
claim("of the last prompt, more than half is known", known > len(prompt) / 2)

# %% [markdown]
# Between two turns the model keeps nothing (what the engine keeps is only a saving). A chat only *looks* like a memory, because whoever talks to the model sends everything again, every time. That is why you can go back and change what was said: there is nobody to contradict you. The cache makes it cheap, as long as the new prompt begins with exactly the ids that were read or written before.
#
# Exactly? It worked for these three texts. With the calculator there is a trap. Decode the sum's reply, and encode it again for the next prompt:

# %%
SUM = "What is 347 + 2815?"
ids = reply_to([user(SUM)])[:-1]
again = tokenizer.encode(tokenizer.decode(ids))
print(len(ids), "ids written: ", [tokenizer.decode([token]) for token in ids])
print(len(again), "ids sent back:", [tokenizer.decode([token]) for token in again])

# %%
special = [sum(token >= tokenizer.bos for token in some) for some in (ids, again)]
claim("special tokens went in, and none came back", special[0] >= 4 and special[1] == 0)
claim("and it takes more ids", len(again) > len(ids))

# %% [markdown]
# `encode` never turns text into special tokens: a user who types `<|python_start|>` must not start the calculator (chapter 13). So the history would hold a row of `<`, `|` and letters, which no training has shown. It must keep a calculation as what it was: as **parts**, the second form that chapter 13 allows for a message. They are made while the reply is shown.
#
# ## 3. What people may see
#
# ### Half a character
#
# Decode each id as it comes, and print it. What can go wrong?

# %%
smile = tokenizer.encode("Here: 😀🦊")
print("".join(tokenizer.decode([token]) for token in smile))

# %% [markdown]
# In UTF-8 an emoji takes four bytes. Here it is several tokens, none of which is a character by itself, and each prints as “�”. `StreamDecoder` of chapter 05 waits until a character is complete. What it gives out at each id:

# %%
decoder = StreamDecoder(tokenizer)
shown = []
for token in smile:
    shown.append(decoder.push(token))
    print(f"{tokenizer.token(token)!r} -> {shown[-1]!r}")
claim("all of it comes out, and no broken character", "".join(shown) == "Here: 😀🦊")


# %% [markdown]
# Three times nothing, and then a whole emoji.
#
# ### Pieces
#
# A reply has three kinds of text: what is said, what the calculator is asked, and what it answers. Call some text of one kind a `Piece`. The special tokens are not text at all; they only switch the kind.

# %%
#| export serve.streaming
class Piece(NamedTuple):
    """Some of a reply. kind: "text", "python" (a tool call) or "python_output" (its result)."""

    kind: str
    text: str


class PieceDecoder:
    """Pieces of ids that come one by one. Special tokens change the kind and are never shown."""

    def __init__(self, tokenizer: Tokenizer):
        special = tokenizer.special
        self._kinds = {
            special("<|python_start|>"): "python",
            special("<|python_end|>"): "text",
            special("<|output_start|>"): "python_output",
            special("<|output_end|>"): "text",
        }
        self._special = tokenizer.bos  # this id and all above: no text
        self._kind, self._decoder = "text", StreamDecoder(tokenizer)

    def push(self, token: int) -> list[Piece]:
        """What is complete with this id: nothing as long as a character lacks bytes."""
        if token < self._special:
            return self._piece(self._decoder.push(token))
        rest = self.finish()
        self._kind = self._kinds.get(token, self._kind)
        return rest

    def finish(self) -> list[Piece]:
        """What was held back, as U+FFFD: its other bytes never came."""
        return self._piece(self._decoder.finish())

    def _piece(self, text: str) -> list[Piece]:
        return [Piece(self._kind, text)] if text else []


# %%
def pieces_of(ids):
    decoder = PieceDecoder(tokenizer)
    return [piece for token in ids for piece in decoder.push(token)]


print(*(f"{kind} {text!r}" for kind, text in pieces_of(ids)), sep=", ")


# %% [markdown]
# Neighbours of one kind can be joined. That gives the content of a message, as chapter 13 has it:

# %%
#| export serve.streaming
def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same pieces, neighbours of one kind made one."""
    result: list[Piece] = []
    for kind, text in pieces:
        if result and result[-1].kind == kind:
            text = result.pop().text + text
        result.append(Piece(kind, text))
    return result


def content_of(pieces: Iterable[Piece]) -> str | list[dict]:
    """The content of an assistant's message: a text, or a list of parts when a tool was used."""
    parts = joined(pieces)
    if all(kind == "text" for kind, _ in parts):
        return "".join(text for _, text in parts)
    return [{"type": kind, "text": text} for kind, text in parts]


# %%
content = content_of(pieces_of(ids))
print(content)
turn = [user(SUM), {"role": "assistant", "content": content}]
as_text = {"role": "assistant", "content": tokenizer.decode(ids)}
turn_prompt = render_for_completion(tokenizer, turn[:1])
rendered, _ = render_conversation(tokenizer, turn)
same = rendered[:-1] == turn_prompt + ids
claim("in the next prompt it is what the model wrote, id for id", same)


# %% [markdown]
# What does the trap cost, besides ids? Let the model spell words in the second turn, after the sum as parts and after the sum as text: 200 test questions of chapter 14, in two halves:

# %%
def spelled(said, numbers):
    """For each test question whether its word is spelled right, after a first turn."""
    task = get_task("spelling", "test")
    talks = [[user(SUM), said, *task[n]] for n in numbers]
    prompts = [render_for_completion(tokenizer, talk) for talk in talks]
    replies = engine.generate_batch(prompts, 60, max_rows=32, temperature=0)
    pairs = zip(numbers, replies, strict=True)
    return [task.evaluate(task[n], tokenizer.decode(reply.ids)) for n, reply in pairs]


def history():
    for half in (0, 1):
        numbers = range(100 * half, 100 * half + budget(100, quick=2))
        both = [spelled(said, numbers) for said in (turn[1], as_text)]
        for parts, text in zip(*both, strict=True):
            yield {"seed": half, "steps": 0, "parts": parts, "text": text}


rows = stored("chat_history", history)

# %%
for half in (0, 1):
    right = [sum(row[name] for row in rows if row["seed"] == half) for name in ("parts", "text")]
    print(f"half {half}: right after parts {right[0]}, after text {right[1]}")
only_parts = sum(row["parts"] > row["text"] for row in rows)
only_text = sum(row["text"] > row["parts"] for row in rows)
print(f"right only after parts {only_parts}, only after text {only_text}")
luck = (only_parts + only_text) ** 0.5  # standard deviation of heads minus tails, of so many coins
claim("parts are better, beyond luck", only_parts - only_text > 2 * luck)


# %% [markdown]
# If the history did not matter, the questions that only one of the two gets right would split like coin tosses. They do not (more clearly in one half than in the other). After such a history this model spells worse, and no error tells you. (It is a form that no training has shown, and 28 ids longer; which of the two hurts, we did not separate.)
#
# ### Stop strings
#
# A program that uses the model may want it to stop at a word of its own. A base model, for one, does not know whose turn it is: it finishes the answer and goes on with `User:`. That word need not begin or end where a token does. So text that *may be the beginning* of a stop string has to wait, and no other text should.

# %%
#| export serve.streaming
class StopStrings:
    """Text up to the first of some strings, wherever the borders of the pieces are.

    found: whether one of them has come. Nothing is given out after it, nor the string itself.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = [stop for stop in stops if stop]
        self._held, self.found = "", False

    def push(self, text: str) -> str:
        """What is certain not to be the beginning of a stop string."""
        if self.found:
            return ""
        text = self._held + text
        places = [text.index(stop) for stop in self._stops if stop in text]
        if places:
            self._held, self.found = "", True
            return text[: min(places)]
        begun = [
            n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])
        ]  # how many characters at the end may be the beginning of a stop string
        keep = max(begun, default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back: no stop string has come of it."""
        held, self._held = self._held, ""
        return held


# %%
stop, shown = StopStrings(["User:"]), []
for token in tokenizer.encode("Use it, I would say. User: And"):
    text = tokenizer.decode([token])
    shown.append(stop.push(text))
    print(f"{text!r}→{shown[-1]!r}", end="  ")
print()
claim("all before the stop string is shown", "".join(shown) == "Use it, I would say. ")


# %% [markdown]
# Left of each arrow is what was written, right of it what was shown. `Use` may be the beginning of `User:` and has to wait; the next piece says that it is not, and it comes out.
#
# ### A conversation that is too long
#
# The model has `sequence_len` positions, for prompt and reply together. A long conversation forgets its oldest turns, whole ones, a question with its answer; a system message stays. A quarter of the positions is kept for the reply.

# %%
#| export serve.streaming
def fit_prompt(
    tokenizer: Tokenizer, messages: Sequence[dict], config: GPTConfig, max_tokens: int
) -> list[int]:
    """Ids of the prompt for the next reply; a long conversation forgets its oldest turns.

    A quarter of sequence_len is kept for the reply (less, if max_tokens is less), unless the last
    message needs it. Raises CourseError if this is not a conversation, does not end with
    the user's message, or if that message is too long.
    """
    check_messages(messages)
    last = messages[-1]
    if last["role"] != "user":
        raise CourseError(
            f"the last message is from {last['role']!r}, expected 'user': it is the one to be "
            "answered"
        )
    system = messages[:1] if messages[0]["role"] == "system" else []
    needed = len(render_for_completion(tokenizer, [*system, last]))  # more cannot be forgotten
    length = config.sequence_len
    room = length - min(max_tokens, length // 4)
    return render_for_completion(tokenizer, messages, min(length, max(room, needed)))


# %%
long_talk = [{"role": "system", "content": "Be kind."}]
for n in range(100):
    long_talk += [user(f"Question {n}"), {"role": "assistant", "content": f"Answer {n}"}]
ids = fit_prompt(tokenizer, [*long_talk, user("Question 100")], model.config, max_tokens=512)
print(len(ids), "ids of", model.config.sequence_len)
print(tokenizer.decode(ids[:40]).replace("<|user_start|>", "\n<|user_start|>"), "…")
claim("it fits, with a quarter to spare", len(ids) <= model.config.sequence_len * 3 // 4)


# %% [markdown]
# The system message is followed by one of the last questions. The model cannot know that there was anything before.
#
# ## 4. A server in two cells
#
# ### Events
#
# A browser asks by HTTP: a few lines of text, a blank line, and a body. A reply that takes seconds should be seen while it is written, and **server-sent events** are the web's way to do that: the body of the answer simply does not end yet. Each event is a line that begins with `data: `, and a blank line:
#
# ```text
# data: {"token": "Hel"}
#
# data: {"token": "lo"}
# ```
#
# ### What `await` does
#
# On a connection nothing happens nearly all of the time. A thread for each would do nothing but wait. An **event loop** is *one* thread that waits for all of them. A function that begins with `async def` can be left in the middle: `await` says “this is not ready yet; go on with another one, and come back when it is”. Three functions that each wait:

# %%
async def wait(name, seconds):
    print(name, "begins")
    await asyncio.sleep(seconds)
    print(name, "is done")


started = time.perf_counter()
await asyncio.gather(wait("A", 0.3), wait("B", 0.1), wait("C", 0.2))
took = time.perf_counter() - started
print(f"together {took:.1f} s")
claim("as long as the longest, not as long as all", 0.29 < took < 0.5)


# %% [markdown]
# > **All you need for this chapter.** An `async def` function is left at its `await`s and nowhere else: between two of them no other function of the loop runs, so no locks are needed. `await f()` waits for a result, `await asyncio.gather(f(), g())` for several at once. An `asyncio.Event` is a bell: `await bell.wait()` sleeps until someone calls `bell.set()`. Another thread may not touch the loop, with one exception: `loop.call_soon_threadsafe(function)` asks the loop to call a function. A notebook runs an event loop of its own, so `await` may stand in a cell. In a script, `asyncio.run(main())` starts one.
#
# ### Two threads and a bell
#
# The loop must never be kept waiting, and a model keeps you waiting all the time. So the model lives in another thread: `BatchEngine` of chapter 16, with its queue of requests that join and leave the batch between two steps. `submit` puts a request into the queue and returns a handle. After each step the engine has appended to `handle.ids` and calls `notify`. Our `notify` rings the bell.
#
# Reading a request, all of HTTP that we need:

# %%
async def read_body(reader):
    """The body of a request; we do not care what else it says."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
    return await reader.readexactly(int(length[1]))


def event(content):
    """A server-sent event."""
    return f"data: {json.dumps(content)}\n\n".encode()


# %% [markdown]
# And the server. `asyncio` calls `answer` for each connection:

# %%
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def make_answer(batch_engine):
    """The function that answers a connection with what the engine writes."""

    async def answer(reader, writer):
        loop, bell, handle = asyncio.get_running_loop(), asyncio.Event(), None
        try:
            messages = json.loads(await read_body(reader))["messages"]
            prompt = fit_prompt(tokenizer, messages, model.config, max_tokens=100)
            handle = batch_engine.submit(
                Request(prompt, max_tokens=100, temperature=0),
                notify=lambda: loop.call_soon_threadsafe(bell.set),
            )
            writer.write(HEAD)
            decoder, seen, ended = PieceDecoder(tokenizer), 0, None
            while not ended:
                await bell.wait()
                bell.clear()  # before looking: what comes from now on rings it again
                # first the reason, then the ids: once there is a reason, no more can come
                ended = handle.finish_reason
                new = handle.ids[seen:]
                seen += len(new)
                pieces = [piece for token in new for piece in decoder.push(token)]
                for kind, text in joined(pieces + (decoder.finish() if ended else [])):
                    writer.write(event({"token" if kind == "text" else kind: text}))
                await writer.drain()  # wait for a client that reads slowly
            writer.write(event({"done": True}))
        finally:
            if handle:
                handle.cancel()  # whoever asked may have gone: make room for others
            writer.close()

    return answer


# %% [markdown]
# Two lines deserve a second look. *Clear the bell, then look*, and let nothing be awaited after the look and before the clear. Put `bell.clear()` after `await writer.drain()`, and a ring that comes during that `await` is wiped out: its id is seen one step late or, as the last one, never. And `finally`: people close pages in the middle of a reply; then a write fails, and the row must be free for others. A client that reads slowly gets several ids in one event, and the engine never waits for it.
#
# Start it on a free port, and look at what comes over the wire:

# %%
batch_engine = BatchEngine(model, tokenizer, tool=use_calculator)
server = await asyncio.start_server(make_answer(batch_engine), "127.0.0.1", 0)
port = server.sockets[0].getsockname()[1]


async def send(port, head, body):
    """Open a connection and send a request; returns reader and writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


# %%
POST = "POST /chat/completions HTTP/1.1\r\nHost: localhost"
body = json.dumps({"messages": [user(SUM)]}).encode()
reader, writer = await send(port, POST, body)
wire = (await reader.read()).decode()
writer.close()
print(wire[:300], "…", wire[-60:], sep="\n")


# %% [markdown]
# The calculator's pieces have names of their own: a client that does not know them shows the text alone. Now time both ends. (`TimedEngine` is a `BatchEngine` that notes when it calls `notify`.)

# %%
async def heard_by_client(port, question):
    """When the request was sent, when each event came, and the text."""
    started, times, text = time.perf_counter(), [], ""
    reader, writer = await send(port, POST, json.dumps({"messages": [user(question)]}).encode())
    while line := await reader.readline():
        if line.startswith(b"data: "):
            times.append(time.perf_counter())
            text += json.loads(line[6:]).get("token", "")
    writer.close()
    return started, times, text


# %%
with TimedEngine(model, tokenizer) as timed:
    timed_server = await asyncio.start_server(make_answer(timed), "127.0.0.1", 0)
    timed_port = timed_server.sockets[0].getsockname()[1]
    for _ in range(2):  # the first one warms up
        started, times, text = await heard_by_client(timed_port, "Who are you?")
    timed_server.close()
draw_threads([t - started for t in timed.rung], [t - started for t in times])
alone = tokenizer.decode(reply_to([user("Who are you?")])[:-1])
claim("the client reads what the engine writes alone", text == alone)
claim("the first words came before the last were written", times[0] < timed.rung[-1])

# %% [markdown]
# Each orange arrow is the bell, each blue one an event that arrives; the picture ends after the first eight tokens. The loop wakes when it is called, and is free for others in between.
#
# ## 5. Eight at once
#
# What do people notice of the engine's batching? Eight clients ask at the same moment. First the engine has one row, so that it serves one after the other; then it has eight.

# %%
EIGHT = [f"What is {n} + {10 * n}?" for n in range(11, 19)]


async def eight_clients(max_rows):
    """For each client the seconds of its events; and the replies."""
    with BatchEngine(model, tokenizer, use_calculator, max_rows) as many:
        server = await asyncio.start_server(make_answer(many), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await heard_by_client(port, "Hello!")
        found = await asyncio.gather(*(heard_by_client(port, question) for question in EIGHT))
        server.close()
    seconds = [[t - started for t in times] for started, times, _ in found]
    return seconds, [text for _, _, text in found]


# %%
runs = {"one after the other": await eight_clients(1), "together": await eight_clients(8)}
draw_clients({name: seconds for name, (seconds, _) in runs.items()})
firsts = [median(each[0] for each in seconds) for seconds, _ in runs.values()]
ends = [max(map(max, seconds)) for seconds, _ in runs.values()]
print(f"together, the median first event comes {firsts[0] / firsts[1]:.0f} times sooner")
claim("the median client hears something in less than half the time", firsts[1] < firsts[0] / 2)
claim("and the last one is done in half the time", ends[1] < ends[0] / 2)
texts = [texts for _, texts in runs.values()]
claim("and all read the same", texts[0] == texts[1] or not ON_CPU)

# %% [markdown]
# Hatched is waiting, blue is being written. On the left each client waits for all before it. On the right nearly all hear something sooner, and are then written more slowly, side by side. So the first have their *whole* reply later than on the left and the last much sooner; all are done in well under half the time.
#
# ## 6. A stranger's text
#
# What a model writes goes into a web page, and you did not write it. Models repeat what they have read, what users have pasted, and what tools have fetched. Suppose that the tool were not a calculator but a search engine, and that somebody had put this into a page that it finds:

# %%
ATTACK = """<img src=x onerror="this.replaceWith('I ran a script')">"""
searching = Engine(model, tokenizer, tool=lambda expression: ATTACK)
prompt = render_for_completion(tokenizer, [user(SUM)])
ids = searching.generate_batch([prompt], 100, temperature=0)[0].ids
print(*joined(pieces_of(ids)), sep="\n")
claim("the stranger's text stands in the reply", ATTACK in dict(joined(pieces_of(ids))).values())

# %% [markdown]
# A page in a box below takes a stranger's text in three ways: as HTML, as HTML in which the attack is a `<script>`, and as plain text. (The box is an `iframe` with a sandbox: scripts run in it, and reach nothing of this notebook. Run the cell to see it; viewers of stored notebooks may leave it out.)

# %%
SCRIPT = "<script>document.body.textContent = 'gone'</script>"
# "</script>" would end our own script; a, b, c: a browser makes a variable of each id
as_js = [json.dumps(text).replace("</", "<\\/") for text in (ATTACK, SCRIPT)]
PAGE = f"""<body style="font: 15px sans-serif; color-scheme: light; background: white">
<p>innerHTML, img: <b id="a"></b></p>
<p>innerHTML, script: <b id="b"></b></p>
<p>textContent: <b id="c"></b></p>
<script>
  a.innerHTML = {as_js[0]};
  b.innerHTML = {as_js[1]};
  c.textContent = {as_js[0]};
</script>"""
display(sandboxed(PAGE))

# %% [markdown]
# In the first line the browser has looked for an image named `x`, found none, and run the attacker's script. The second does nothing, and that is a trap: browsers never run a `<script>` that comes by `innerHTML`, so a test with `<script>` would tell you that all is well. In the third line `<` is a character like any other.
#
# Our page has two walls, and each alone should stop this script:
#
# 1. `data/web/markdown.js` makes nodes and never HTML. Text becomes a text node; elements are the two dozen that the file itself creates. A link leads to `http`, `https` or `mailto`, or it stays text: `javascript:` is no link (exercise 17.3).
# 2. A **content security policy**, a header of every answer (section 7 prints it), forbids all scripts that did not come from this server as a file. An `onerror` attribute is no such file, so it never runs.

# %%
scripts = [(data_dir() / "web" / name).read_text("utf-8") for name in ("chat.js", "markdown.js")]
claim("our page never sets innerHTML", not any("innerHTML" in script for script in scripts))

# %% [markdown]
# (`test_chat_web_browser.py` opens the page in a real browser and lets a model write the attack. It stands there as text.)
#
# ## 7. A stranger's page
#
# “My server only listens on my own machine.” But your browser runs on that machine, too, and it runs the scripts of every page that you visit. While you read evil.example, this script asks *your* model:
#
# ```js
# fetch("http://127.0.0.1:8000/chat/completions",
#       {method: "POST", mode: "no-cors", body: '{"messages": …}'})
# ```
#
# The browser sends it with `Content-Type: text/plain` and, honestly, `Origin: https://evil.example`. It does not let the script read the answer. But by then your machine has done the work. Does the server of section 4 fall for that?

# %%
evil = f"{POST}\r\nContent-Type: text/plain\r\nOrigin: https://evil.example"
reader, writer = await send(port, evil, body)
first = (await reader.read()).decode().splitlines()[0]
writer.close()
print(first)
claim("our server works for any page that you visit", first == "HTTP/1.1 200 OK")
server.close()
batch_engine.close()

# %% [markdown]
# The package's server has several fences. Here it is, in a thread of its own, with four requests; an error is one sentence:

# %%
settings = ChatSettings(name="starter", temperature=0, tool=use_calculator)
running = ExitStack()
app = create_app(model, tokenizer, settings)
address = running.enter_context(serve(app)).removeprefix("http://")


def ask_server(method, path, content=None, **headers):
    """Status, headers and body of an answer."""
    client = http.client.HTTPConnection(address)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    client.request(method, path, content and json.dumps(content), given)
    answer = client.getresponse()
    return answer.status, answer.headers, answer.read().decode()


# %%
HELLO, CHAT = {"messages": [user("Who are you?")]}, "/chat/completions"
PLAIN, JSON, EVIL = "text/plain", "application/json", "https://evil.example"
attempts = {
    "the script above": ask_server("POST", CHAT, HELLO, content_type=PLAIN, origin=EVIL),
    "from there, but as JSON": ask_server("POST", CHAT, HELLO, content_type=JSON, origin=EVIL),
    "the same without Origin": ask_server("POST", CHAT, HELLO, content_type=PLAIN),
    "may I send JSON?": ask_server("OPTIONS", CHAT, access_control_request_method="POST"),
    "a name that leads here": ask_server("GET", "/v1/models", host="evil.example"),
}
for name, (status, _, text) in attempts.items():
    print(f"{name:24s} {status} {json.loads(text)['error']['message']}")
claim("none gets through", [each[0] for each in attempts.values()] == [403, 403, 400, 405, 403])
status, headers, _ = ask_server("POST", CHAT, HELLO, content_type=JSON)
claim("your own page's request does", status == 200)
print(headers["content-security-policy"])

# %% [markdown]
# - **The form of the body.** A page from elsewhere may send `text/plain` at once. Before it may send `application/json`, the browser asks the server (`OPTIONS`), and this server does not say yes. So a server that insists on JSON is already closed to such a script, unless somebody makes the server say yes to everybody, “to make it work”.
# - **`Origin`.** A browser adds it to each POST, and no script can change it. A request with a foreign one is refused before its body is read. Programs such as `curl` send none, and may ask.
#
# Either fence alone stops the script. Two stand there because one may fall: this is **defence in depth**. (Chrome, since version 142, also asks the user before a public page may reach this machine.) Against one attack, DNS rebinding, neither helps; the third fence does:
#
# - **`Host`.** In **DNS rebinding** the name evil.example leads to the attacker's machine when the page is loaded, and to 127.0.0.1 a moment later. Now the browser believes that page and server are one: it asks nothing, sends an `Origin` that is the page's own `Host` (the second fence compares these two), and lets the script read the answer. But the request still says `Host: evil.example`, and that is not what this server is called.
#
# ## 8. OpenAI's form
#
# The events of section 4 are those of nanochat (October 2025). Most programs speak OpenAI's form, so the server speaks both. A whole answer, and then a stream (`completion_tokens` counts the calculator's ids too, and not the end):

# %%
V1 = "/v1/chat/completions"
_, _, text = ask_server("POST", V1, {"messages": [user(SUM)]}, content_type=JSON)
answer = json.loads(text)
print(json.dumps(answer, indent=1))
message = answer["choices"][0]["message"]
said = "".join(part["text"] for part in message["parts"] if part["type"] == "text")
claim("content is the text, parts have the calculation too", message["content"] == said)

# %%
wanted = {"messages": [user(SUM)], "stream": True}
_, _, text = ask_server("POST", V1, wanted, content_type=JSON)
*chunks, end = [line.removeprefix("data: ") for line in text.splitlines() if line]
choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
print(*(choice["delta"] for choice in choices), choices[-1]["finish_reason"], end, sep="\n")

# %% [markdown]
# Any OpenAI client works: `openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")`. What it may ask:
#
# | field | what happens |
# |---|---|
# | `messages`, with texts or parts | read; `developer` is `system`; messages in a row from one side become one |
# | `model` | chooses among those of `/v1/models`; another name is an error |
# | `stream`, `stream_options`, `n`, `stop`, `seed` | done |
# | `temperature`, `top_p`, `max_tokens`, `max_completion_tokens` | done; also `top_k` and `min_p`, which OpenAI does not have |
# | `logprobs`, `top_logprobs` | done |
# | `tools`, `functions`, `response_format` | refused: the reply would be of no use |
# | all others, such as `logit_bias` | ignored, and named in the header `x-ignored-fields` |
#
# Why are `tools` refused, when this model uses a calculator? In OpenAI's form tools belong to the *client*. The model's turn ends with a call, and the client sends the result back as a message:
#
# ```json
# {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function",
#   "function": {"name": "calculator", "arguments": "{\"expression\": \"347+2815\"}"}}]}
# {"role": "tool", "tool_call_id": "call_1", "content": "3162"}
# ```
#
# Ours has one tool, which the *server* runs in the middle of the turn. So call and result come as an extension, `python` and `python_output` in the stream, `parts` in the whole answer. A client that does not know them sees the text alone.
#
# ## 9. What the real server adds
#
# The package's server does what section 4 does, and copes with the rest of the world. (What it promises is in the tests, `tests/test_chat_*.py`.)
#
# | module of `serve` | what it adds to the two cells |
# |---|---|
# | `transport` | HTTP by a library (uvicorn); closes the connection of a client that sends byte by byte, or does not read |
# | `gate` | Host and Origin; an API key, and a brake on whoever guesses keys; limits for the size and the time of a body |
# | `api` | both forms, checked field by field; limits for messages and numbers; an error is one sentence in OpenAI's form |
# | `app` | the addresses: the page, `/v1/models`, `/stats`, `/health` |
# | `models` | several models; one at a time is loaded beside the first |
# | `replies` | stop strings, several samples, log-probabilities, usage; a full queue is “come back in so many seconds” |
# | `terminal` | `chat_cli`: Ctrl-C stops a reply and not the program; no control characters reach the terminal |
#
# And the page, in `data/web`, is four files without a library or a build step. Ask for a sum there, and *Copy as curl* gives you the request as a command.

# %%
running.close()


# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/17_chat_solutions.ipynb](solutions/17_chat_solutions.ipynb).
#
# ### Exercise 17.1 — read a stream
#
# 15 minutes, ●●○. Write `parse_events(chunks)`, the client's half of section 4. `chunks` is a list of byte strings as a socket gives them, cut anywhere, even inside a character. Return a list of what the events hold, parsed as JSON, up to `data: [DONE]` or the end. An event is one line that begins with `data: `; lines end with `\n` or `\r\n`. All other lines are skipped (those that begin with `:` are comments). A line that has not ended does not count.
#
# <details><summary>Hint 1</summary>
#
# A chunk is not an event. Put all bytes together that have come so far, and take complete lines off the front.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `*lines, rest = (rest + chunk).split(b"\n")` gives the complete lines, and what is left for the next chunk. Decode a line, never a chunk.
#
# </details>

# %% tags=["exercise"]
def parse_events(chunks):
    raise NotImplementedError


# %%
check(exercises.parse_events, parse_events)


# %% [markdown]
# ### Exercise 17.2 — where may it be cut?
#
# 15 minutes, ●●○. Write `showable(data)`: how many bytes of `data`, the beginning of a text in UTF-8, may be decoded and shown now? All but the beginning of a character at the end that still lacks bytes. The first byte of a character tells how many there are: below 0x80 one, 0xC0–0xDF two, 0xE0–0xEF three, 0xF0–0xF7 four. All that follow are 0x80–0xBF.
#
# <details><summary>Hint 1</summary>
#
# Only the last three bytes can matter. Which byte there begins a character?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Go back from the end over bytes 0x80–0xBF to the first byte of the last character. Does it promise more bytes than there are from it to the end? Then cut before it.
#
# </details>

# %% tags=["exercise"]
def showable(data):
    raise NotImplementedError


# %%
check(exercises.showable, showable)


# %% [markdown]
# ### Exercise 17.3 — a safe link
#
# 10 minutes, ●○○. Write `safe_link(address)` for a chat page: return the address as it was given if it leads to `http`, `https` or `mailto`, else `None`. Attackers write `JavaScript:`, put spaces in front, or line ends and tabs inside (browsers take these out before they look at the address!). An address without a scheme, such as `page.html`, would lead to our own server: `None` too.
#
# <details><summary>Hint 1</summary>
#
# List what is allowed, never what is forbidden.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Take out what browsers take out, which are the characters that are not `isprintable()` and spaces at both ends. Then look at `urllib.parse.urlsplit(address).scheme`.
#
# </details>

# %% tags=["exercise"]
def safe_link(address):
    raise NotImplementedError


# %%
check(exercises.safe_link, safe_link)

# %% [markdown]
# ## Summary
#
# - A model has no memory. Each turn sends the whole conversation, and what does not fit is forgotten from the oldest turn on.
# - The history must be what the model wrote, id for id: as parts, not as decoded text.
# - People see whole characters, no special tokens, nothing of a stop string. Each of these means holding something back, and no longer than needed.
# - One thread owns the model, an event loop talks to everybody, and a bell rings between the two.
# - A model's text is a stranger's text, and a local server is reached by every page in your browser.
#
# ## Pitfalls
#
# - Decoding token by token: half an emoji is “�” (section 3).
# - A reply that goes back into the history as decoded text, special tokens and all (section 2).
# - Looking for a stop string in each token and not in the text (section 3).
# - `innerHTML` with text from a model; testing it with `<script>`; a list of bad links in place of a list of good ones (section 6, exercise 17.3).
# - “It only listens on my machine” (section 7).
#
# ## Further reading
#
# - [Server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html), the standard.
# - [asyncio](https://docs.python.org/3/library/asyncio.html), in Python's documentation.
# - [Content security policy](https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/CSP), MDN.
# - [Protecting browsers from DNS rebinding attacks](https://crypto.stanford.edu/dns/), Jackson et al., 2007.
# - [Local Network Access](https://developer.chrome.com/blog/local-network-access): why Chrome asks.
# - [UTF-8](https://www.rfc-editor.org/rfc/rfc3629), RFC 3629: exercise 17.2.
#
# **Next:** [18 · Speedrun](18_speedrun.ipynb), the whole way from text to this chat in one command.

# %% [markdown]
# # 17 · Chat
#
# **Goal.** Talk to a model: in a terminal, and in a browser together with many others, safely.
#
# | | |
# |---|---|
# | Needs | [05 · Tokenizer](05_tokenizer.ipynb), [12 · Generation](12_engine.ipynb), [13 · Conversations](13_conversations.ipynb); the calculator of chapter 14, without asking how it works |
# | Time | 50 minutes to read, 50 for the exercises; a minute to run |
# | Memory | under 1 GB |
# | You will build | what people see of a reply → `course_lib.serve.streaming`; then you use, and look into, the rest of the room `serve`: a chat in the terminal and a server, from which the programs `chat_cli` and `chat_web` are made |
#
# The model is done, the engine is done. What is left between them and a person looks small: show the text. But text comes in
# pieces that end inside a character, a person changes their mind, eight people come at once, and a web page from elsewhere knocks
# at the same door. A good chat is made of such cases.

# %% [markdown]
# ![Map of the course: chapter 17 chat is marked, the fifth one of Part III; after 16 serving, before 18 speedrun](images/map_17.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · **17** · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/17_chat.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export serve.streaming
"""What people may see of the ids that a model writes: text and tool calls, piece by piece.

No special token, no half of a character, nothing after a stop string. And the prompt that fits.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from course_lib.chat.conversation import check_messages, render_for_completion
from course_lib.data.tokenizer import StreamDecoder, Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPTConfig

# %% [markdown]
# This cell opens the module that the chapter builds. The next one is for this notebook only.

# %%
import asyncio
import http.client
import inspect
import io
import json
import socket
import threading
import time
from contextlib import ExitStack, redirect_stdout
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import mlx.core as mx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_conversation
from course_lib.classroom import budget, check
from course_lib.classroom.exercises import chat as exercises
from course_lib.generate.engine import Engine
from course_lib.generate.rows import Request
from course_lib.model.gpt import GPT
from course_lib.serve import app as server_app
from course_lib.serve.api import ChatRequest, ChatSettings, CompletionRequest, Refused
from course_lib.serve.app import create_app
from course_lib.serve.batch_engine import BatchEngine
from course_lib.serve.gate import host_is_allowed, origin_is_own
from course_lib.serve.terminal import TerminalChat, printable
from course_lib.serve.transport import serve
from course_lib.train.trainer import Trainer

backend.seed_everything(42)
print(backend.describe())

# %% [markdown]
# ## 1. What a chat adds to a completion
#
# ### A model that answers
#
# A fine-tuned model (chapter 13) takes longer to make than this notebook takes to run. So here is one that knows a few answers
# by heart. It is small and it understands nothing; but what it writes has all that we need to see: a calculation, characters of
# several bytes, and text that looks like a web page.

# %%
calculation = [
    {"type": "text", "text": "Let me see: "},
    {"type": "python", "text": "6*7"},
    {"type": "python_output", "text": "42"},
    {"type": "text", "text": "It is 42."},
]
answers = {
    "Hi": "Hello! What shall we talk about?",
    "6*7?": calculation,
    "Smile": "Here you are: 😀🦊",
    "Attack": "<script>steal(document.cookie)</script>",
    "Count": " ".join(str(n) for n in range(1, 31)),
}
conversations = [
    [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    for question, answer in answers.items()
]
conversations.append(conversations[0] + conversations[2])  # two turns

# %%
tokenizer = Tokenizer.train([str(list(answers)), answers["Hi"], str(calculation)], 320)
rendered = [render_conversation(tokenizer, messages) for messages in conversations]
length = max(len(ids) for ids, _ in rendered)
end = tokenizer.special("<|assistant_end|>")
inputs = mx.array([(ids + [end] * length)[: length - 1] for ids, _ in rendered])  # (B, T)
targets = mx.array(
    [
        [token if trained else -1 for token, trained in zip(ids[1:], mask[1:], strict=True)]
        + [-1] * (length - len(ids))
        for ids, mask in rendered
    ]
)  # (B, T), -1: not trained

# %%
config = GPTConfig(256, tokenizer.vocab_size, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)
model, num_steps = GPT(config), 60
trainer = Trainer(model, num_steps)
for step in range(num_steps):
    result = trainer.step([(inputs, targets)])
    if (step + 1) % 20 == 0:
        print(f"step {step + 1}  loss {result.loss:.3f}")
assert result.loss < 0.1

# %% [markdown]
# ### The model has no memory
#
# A completion goes on from a text. A chat is the same, with the whole conversation as the text: `render_for_completion` of
# chapter 13 writes it down with special tokens, up to the place where the assistant's turn begins.

# %%
engine = Engine(model, tokenizer, tool=use_calculator)
talk = [{"role": "user", "content": "Hi"}]
for question in ("Smile", None):
    ids = render_for_completion(tokenizer, talk)
    reply = engine.generate_batch([ids], max_tokens=100, temperature=0)[0]
    print(f"{len(ids):2d} ids of prompt, then: {tokenizer.decode(reply.ids)}")
    talk += [{"role": "assistant", "content": tokenizer.decode(reply.ids)}]
    talk += [{"role": "user", "content": question}] if question else []


# %% [markdown]
# The prompt of the second turn holds the first one, question and answer. Between two turns the model keeps nothing: whoever
# talks to it sends everything again, each time. It is cheap all the same, since the engine keeps the caches of the last texts
# (chapter 12) and reads only what is new.
#
# ## 2. What people may see
#
# ### Not like this
#
# Decode each id as it comes, and print it:

# %%
def ids_of(question):
    """The ids of the reply, as the engine gives them."""
    prompt = render_for_completion(tokenizer, [{"role": "user", "content": question}])
    return engine.generate_batch([prompt], max_tokens=100, temperature=0)[0].ids


for question in ("6*7?", "Smile"):
    print("".join(tokenizer.decode([token]) for token in ids_of(question)))

# %% [markdown]
# Two things went wrong. Special tokens are shown by name, which means nothing to a reader. And the emoji are gone: each takes
# four bytes in UTF-8, here these are four tokens, and none of them is a character by itself.
#
# ### Holding back half a character
#
# `StreamDecoder` of chapter 05 waits until a character is complete. What it gives out at each id:

# %%
decoder = StreamDecoder(tokenizer)
for token in ids_of("Smile")[-8:]:
    print(f"{tokenizer.token(token)!r:8} -> {decoder.push(token)!r}")


# %% [markdown]
# Three times nothing, then a whole emoji, twice. A reader never sees a broken character, and nothing comes later than it must.
#
# ### Pieces
#
# A reply is made of three kinds of text: what is said, what the calculator is asked, and what it answers. A `Piece` is some of
# one kind. Special tokens only switch between kinds.

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
decoder = PieceDecoder(tokenizer)
for token in ids_of("6*7?"):
    for piece in decoder.push(token):
        print(piece.kind, repr(piece.text), end="   ")


# %% [markdown]
# Neighbours of one kind can be joined. The content of a message, as chapter 13 has it, is made from them, so that a calculation
# stays in the history as what it was.

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
decoder = PieceDecoder(tokenizer)
content = content_of(piece for token in ids_of("6*7?") for piece in decoder.push(token))
print(content)
assert content == calculation


# %% [markdown]
# ### Stop strings
#
# A program that uses the model may want it to stop at a word of its own, such as "\n\n" or "User:". That word does not end where
# a token ends: `shall we` may come as `sha`, `ll`, ` w` … So text that *may be the beginning* of a stop string has to wait, and no
# other text should.

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
stop, decoder = StopStrings(["shall we"]), StreamDecoder(tokenizer)
for token in ids_of("Hi"):
    text = decoder.push(token)
    print(f"{text!r}→{stop.push(text)!r}", end="  ")
    if stop.found:
        break


# %% [markdown]
# On the left of each arrow what the model wrote, on the right what was shown. From the `s` of "shall" on nothing is shown, until
# the whole stop string is there. Nothing of it was ever on the screen.
#
# ### A conversation that is too long
#
# The model has `sequence_len` positions, prompt and reply together. A long conversation forgets its oldest turns, whole ones, a
# question with its answer; a system message stays. And there must be room for the reply: a quarter of the positions is kept for
# it.

# %%
#| export serve.streaming
def fit_prompt(
    tokenizer: Tokenizer, messages: Sequence[dict], config: GPTConfig, max_tokens: int
) -> list[int]:
    """Ids of the prompt for the next reply; a long conversation forgets its oldest turns.

    A quarter of sequence_len is kept for the reply (less, if max_tokens is less), unless the last
    message needs it. Raises CourseError for what is no conversation, for one that does not end with
    the user's message, and for a last message that is too long.
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
for n in range(30):
    long_talk += [{"role": "user", "content": f"Question {n}"}]
    long_talk += [{"role": "assistant", "content": f"Answer {n}"}] if n < 29 else []
ids = fit_prompt(tokenizer, long_talk, config, max_tokens=512)
print(len(ids), "ids of", config.sequence_len)
print(tokenizer.decode(ids[:60]).replace("<|user_start|>", "\n<|user_start|>"), "…")
assert len(ids) <= 192

# %% [markdown]
# The system message is followed by one of the last questions. The model does not know that there was anything before.
#
# ## 3. In the terminal
#
# With these parts and the engine, a reply in the terminal is a loop:

# %%
def say(messages):
    """Print the reply to a conversation while it is written; the conversation with it."""
    ids = fit_prompt(tokenizer, messages, config, max_tokens=100)
    decoder, pieces = PieceDecoder(tokenizer), []
    for (token,), _ in engine.generate(ids, max_tokens=100, temperature=0):
        for piece in decoder.push(token):
            print(piece.text, end="")
            pieces.append(piece)
    return [*messages, {"role": "assistant", "content": content_of(pieces)}]


talk = say([{"role": "user", "content": "Hi"}])

# %% [markdown]
# Around this loop `chat_cli` needs what every program for people needs. `TerminalChat` in `course_lib.serve.terminal` adds it:
#
# - A terminal obeys what is printed: the escape character can clear the screen or change its title. The model may have learnt
#   such characters, so `printable` takes them out.
# - Ctrl-C stops the reply and not the program. It is only noted, and looked at between two tokens; what there was of the reply
#   stays in the conversation.
# - Lines that begin with a slash are for the program: `/clear`, `/temperature`, `/save`, `/quit`.

# %%
print(repr(printable("\x1b[2JGone is your screen")))

# %% [markdown]
# Here is a conversation with it, without a keyboard:

# %%
terminal = TerminalChat(engine, temperature=0.0, top_k=50, max_tokens=100, seed=1)
screen = io.StringIO()
with redirect_stdout(screen):
    for line in ("6*7?", "/clear", "Smile", "/temperature 3"):
        print("you>", line)
        if line.startswith("/"):
            print(terminal.command(line))
        else:
            terminal.say(line)
print(screen.getvalue())


# %% [markdown]
# The calculation stands in brackets; no special token is shown.
#
# ## 4. A stream in the browser's language
#
# A browser asks by HTTP: it sends a request and gets a response. A reply that takes seconds should be seen while it is written.
# **Server-sent events** do that with one long response: lines that begin with `data: `, a blank line after each event. That is all
# of the format. By hand, without any library, it is a few lines. This server answers one client with three events:

# %%
def serve_by_hand(listener):
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)  # the request; we do not care what it says
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for text in ("Hel", "lo", "!"):
            time.sleep(0.05)
            connection.sendall(f"data: {json.dumps({'token': text})}\n\n".encode())


with socket.create_server(("127.0.0.1", 0)) as listener:
    thread = threading.Thread(target=serve_by_hand, args=[listener])
    thread.start()
    start = time.perf_counter()
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while data := client.recv(65536):
            print(f"{1000 * (time.perf_counter() - start):4.0f} ms  {data}")
    thread.join()

# %% [markdown]
# Each event came when it was sent, not at the end. These are the bytes on the wire, and the real server below sends no others.
#
# ## 5. One thread owns the model
#
# ### Why not a thread for each client
#
# MLX is lazy, and what is to be computed belongs to the thread that has written it down. Another thread cannot compute it:

# %%
later = mx.ones(3) + 1  # written down here, not yet computed


def compute():
    try:
        mx.eval(later)
        print("computed")
    except RuntimeError as error:
        print(f"in another thread: {error}")


thread = threading.Thread(target=compute)
thread.start()
thread.join()


# %% [markdown]
# And if it could: eight threads that each run the model would be eight passes over the weights for eight tokens. One thread that
# runs it for eight rows needs one (chapter 12). So the model gets one thread, that of `BatchEngine`, and nobody else touches it.
#
# A web server, for its part, should not wait. FastAPI and uvicorn run an **event loop**: one thread that turns to whichever client
# has something new. Two threads, then, and a handle between them: the engine's thread adds ids to it and calls `notify`; that rings
# a bell in the loop's thread, `call_soon_threadsafe`, the one call that is allowed from outside.
#
# `new_ids` sleeps until the bell rings and gives out what has come since. If the client reads slowly, several tokens have come
# meanwhile and go out together; the engine never waits for a reader. Note the order: clear the bell, *then* look. The other
# way round a token that comes between the two would be seen one token late, or, as the last one, never.

# %%
async def new_ids(batch_engine, request):
    """Lists of ids, each as soon as there is something new."""
    loop, bell = asyncio.get_running_loop(), asyncio.Event()
    handle = batch_engine.submit(request, notify=lambda: loop.call_soon_threadsafe(bell.set))
    seen, ended = 0, None
    while not ended:
        await bell.wait()
        bell.clear()  # before looking: what comes from now on rings it again
        ended, new = handle.finish_reason, len(handle.ids)
        yield handle.ids[seen:new]
        seen = new


# %% [markdown]
# Two clients at once, and what each of them hears in which order (a notebook has an event loop of its own, so `await` may stand
# in a cell):

# %%
heard = []


async def client(batch_engine, question):
    prompt = render_for_completion(tokenizer, [{"role": "user", "content": question}])
    async for ids in new_ids(batch_engine, Request(prompt, max_tokens=100, temperature=0)):
        heard.append((question, tokenizer.decode(ids)))


with BatchEngine(model, tokenizer) as batch_engine:
    await asyncio.gather(client(batch_engine, "Hi"), client(batch_engine, "Count"))
print("whose turn:", " ".join(question[0] for question, _ in heard))
for question in ("Hi", "Count"):
    reply = "".join(text for whose, text in heard if whose == question)
    print(f"{question}: {reply}")
    assert reply == answers[question]

# %% [markdown]
# Each reply is the one that the question got alone. (In bfloat16 on a GPU, two rows are rounded differently from one, and where two
# tokens are nearly as likely a reply may go another way. This model is sure of its replies.)
#
# The `Reply` of the server (`course_lib.serve.replies`) is this loop with pieces and stop strings in place of ids. It also counts,
# tells why the reply ended, and can be cancelled.
#
# ## 6. What may be asked
#
# ### Two forms
#
# The original nanochat has one address, `POST /chat/completions`. The body is the conversation and perhaps settings; the answer is
# events `{"token": …}` and at last `{"done": true}`. Most other programs speak OpenAI's form, `POST /v1/chat/completions`. Our
# server understands both.
#
# Whatever comes from outside is checked before anything else sees it. Pydantic does this from types: `strict` means that the text
# "1" is not a number.

# %%
class Wanted(BaseModel):
    model_config = ConfigDict(strict=True)
    temperature: float = Field(ge=0, le=2)


for body in ('{"temperature": 1}', '{"temperature": "1"}', '{"temperature": 3}'):
    try:
        print(Wanted.model_validate_json(body))
    except ValidationError as error:
        print(error.errors()[0]["msg"])

# %% [markdown]
# `course_lib.serve.api` holds the two forms, `ChatRequest` and `CompletionRequest`, in this style. Either becomes a `Question`: the
# messages as chapter 13 has them, and every setting, the server's where the client gives none.

# %%
body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
ChatRequest.model_validate(body).question(ChatSettings(temperature=0.5))


# %% [markdown]
# There are limits: of a message, of all messages, of each number. And OpenAI's form has fields that this server cannot honour. Where
# a reply would be of no use without them, it is refused; the rest are named in a header, `x-ignored-fields`. An error is one
# sentence, in the form that OpenAI's clients know how to raise.

# %%
def refusal(form, content, **more):
    """Print the answer to a body that is refused."""
    try:
        form(messages=[{"role": "user", "content": content}], **more).question(ChatSettings())
    except Refused as error:
        print(error.status, error.response().body.decode())


refusal(ChatRequest, "x" * 9000)
refusal(CompletionRequest, "Hi", response_format={"type": "json_object"})
refusal(CompletionRequest, "Hi", model="gpt-9")

# %% [markdown]
# ### From a request to a reply
#
# `Chat.reply` turns a question into ids and queues them; a `Reply` comes back. To render a long conversation takes a while, so that is
# done in a thread (`asyncio.to_thread`), and the loop goes on meanwhile. A full queue is status 429, "too many requests", with an
# estimate of when to come back. With these parts an address of the server is short:

# %%
print(inspect.getsource(server_app.v1_chat_completions))

# %% [markdown]
# ### A client that goes away
#
# People close pages. Then the row of the reply must be free for somebody else at once. A stream ends when the connection does, and
# whatever has happened, its `finally` gives the row back. A reply that is not streamed has the same duty: `unless_gone` awaits two
# things, the reply and the client's end, and the `finally` above does the rest.
#
# ## 7. Who may ask
#
# "It only listens on my own machine" is not enough. Your browser is on your machine, too, and it runs scripts of every page that
# you visit. Two attacks are old and work on many local servers:
#
# - **A page from elsewhere asks.** A script on evil.example sends a POST to http://127.0.0.1:8000. It may not read the answer, but the
#   model has worked for it. The browser is honest about where the script is from: it sends `Origin: https://evil.example`.
# - **DNS rebinding.** The page is on evil.example, and then that name is made to lead to 127.0.0.1. Now the browser believes that page
#   and server are one, and the script may read everything. But the request still says `Host: evil.example`.
#
# So both headers are looked at. A Host that is a number cannot have been rebound: there was no name to look up.

# %%
print(inspect.getsource(host_is_allowed))
print(inspect.getsource(origin_is_own))

# %%
assert host_is_allowed("localhost:8000") and host_is_allowed("[::1]:8000")
assert not host_is_allowed("evil.example:8000")
assert not host_is_allowed("127.0.0.1.evil.example")
assert origin_is_own("http://127.0.0.1:8000", "127.0.0.1:8000")
assert not origin_is_own("https://evil.example", "127.0.0.1:8000")

# %% [markdown]
# The checks stand before everything else, in a layer around the app: `Gate` of `course_lib.serve.gate`. It adds the API key, if
# there is one, and reads the body, up to a megabyte and for ten seconds at most. And it puts a **content security policy** on
# every answer: the page may load what this server has, and run no script from anywhere else, not even one written into the page.
#
# ## 8. The server
#
# The way of a request through the room `serve`:
#
# | module | what it does with it |
# |---|---|
# | `transport` | HTTP, by uvicorn; closes connections of clients that are too slow |
# | `gate` | Host, Origin, key, size and time of the body |
# | `api` | the form, the limits; makes a `Question` of it |
# | `app` | the addresses; which of them answers, and how errors are told |
# | `replies` | queues it, gives out what the model writes, as events or whole |
#
# **Clients that are slow on purpose.** A client can hold a connection by sending its request byte by byte, or by asking for a long
# reply and not reading it. Neither may cost us more than a little memory for a little while. uvicorn has no clock for these two, so
# `transport` gives it one, and closes the connection when the time is over.
#
# **The end.** When the server ends, the engine ends first. The replies then end with a sentence that says why, and nobody waits
# for them.

# %% [markdown]
# ### Talk to it
#
# The server runs in a thread of its own now. The same question as raw bytes:

# %%
settings = ChatSettings(name="by-heart", temperature=0, tool=use_calculator)
app = create_app(model, tokenizer, settings)
running = ExitStack()
address = running.enter_context(serve(app))
host, port = "127.0.0.1", int(address.rpartition(":")[2])


def raw(method, path, body="", **headers):
    """Send a request by hand; the whole answer as text."""
    headers = {"Host": f"{host}:{port}", "Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    with socket.create_connection((host, port)) as client:
        client.sendall("\r\n".join([*lines, "", body]).encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


question = json.dumps({"messages": [{"role": "user", "content": "6*7?"}]})
print(raw("POST", "/chat/completions", question))


# %% [markdown]
# Headers, then events, each with its length before it (HTTP calls that chunks). The calculator's pieces have names of their own,
# `python` and `python_output`: a client that does not know them shows the text alone.
#
# Now the attacks of section 7:

# %%
def outcome(answer):
    status, body = answer.split("\r\n")[0], answer.rpartition("\r\n\r\n")[2]
    return f"{status[9:]}: {json.loads(body)['error']['message']}"


print(outcome(raw("POST", "/chat/completions", question, Origin="https://evil.example")))
print(outcome(raw("GET", "/v1/models", Host="evil.example")))
print(outcome(raw("GET", "/../../etc/passwd")))
print(outcome(raw("POST", "/chat/completions", "[" * 100_000)))

# %% [markdown]
# Each is refused, in one sentence. And OpenAI's form, with a stop string:

# %%
body = {"messages": [{"role": "user", "content": "Hi"}], "stop": "shall we"}
answer = json.loads(raw("POST", "/v1/chat/completions", json.dumps(body)).rpartition("\r\n\r\n")[2])
print(json.dumps({key: answer[key] for key in ("object", "choices", "usage")}, indent=1))
assert answer["choices"][0]["message"]["content"] == "Hello! What "


# %% [markdown]
# Any program that is made for OpenAI's API can use it:
# `openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")`.
#
# ### Somebody closes the page
#
# A client asks for a long reply, reads a little and goes. `/stats` tells what the server does.

# %%
def load():
    stats = json.loads(raw("GET", "/stats").rpartition("\r\n\r\n")[2])
    return f"running {stats['running']}, waiting {stats['waiting']}, gone {stats['gone']}"


body = json.dumps(
    {"messages": [{"role": "user", "content": "Count"}], "temperature": 2, "top_k": 200}
)
client = http.client.HTTPConnection(host, port)
client.request("POST", "/chat/completions", body, {"Content-Type": "application/json"})
response = client.getresponse()
response.read(10)
print(load())
response.close()
client.close()
time.sleep(0.5)
print(load())

# %% [markdown]
# If the first line says that nothing runs, the model was quicker than we: it is very small. In any case nothing runs in the second.
#
# ## 9. Eight at once
#
# Chapter 12 built continuous batching. What do people notice of it? The time until the first word. Eight clients
# ask at the same moment, first a server that serves one after the other, then one that serves all together. The model is of some
# size now, and untrained (its special tokens are made unlikely, so that all replies are equally long).

# %%
big_config = GPTConfig.from_depth(budget(8, quick=2), tokenizer.vocab_size, sequence_len=256)
big = GPT(big_config)
head = 0.3 * mx.random.normal(big.lm_head.weight.shape)
head[tokenizer.bos :] = 0
big.lm_head.weight = head
big.set_dtype(backend.compute_dtype())


def client_times(address, number, start, times):
    """Ask for 30 tokens; the seconds of each event."""
    client = http.client.HTTPConnection(address.removeprefix("http://"))
    body = {"messages": [{"role": "user", "content": f"{number}"}], "max_tokens": 30}
    client.request(
        "POST", "/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    response = client.getresponse()
    while line := response.readline():
        if line.startswith(b'data: {"token'):
            times[number].append(time.perf_counter() - start)


# %%
def eight_clients(max_rows):
    """For each client the seconds of its events."""
    times = [[] for _ in range(8)]
    with serve(create_app(big, tokenizer, ChatSettings(max_rows=max_rows))) as address:
        start = time.perf_counter()
        arguments = [(address, n, start, times) for n in range(8)]
        threads = [threading.Thread(target=client_times, args=each) for each in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sorted(times, key=lambda each: each[0])


queued, batched = eight_clients(max_rows=1), eight_clients(max_rows=8)


# %%
def draw_times(ax, times, title):
    """Hatched: waits. Blue: is written."""
    for n, (first, *_, last) in enumerate(times):
        ax.barh(n, first, color="white", edgecolor="#999999", hatch="///")
        ax.barh(n, last - first, left=first, color="#cfe4f3", edgecolor="#0072B2")
    ax.set(title=title, xlabel="seconds", yticks=range(8), ylim=(7.6, -0.6))


figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharex=True, sharey=True)
draw_times(axes[0], queued, "one after the other")
draw_times(axes[1], batched, "together")
axes[0].set_ylabel("client")
plt.show()
for name, times in (("one after the other", queued), ("together", batched)):
    firsts = sorted(each[0] for each in times)
    end_of_all = max(each[-1] for each in times)
    print(f"{name}: first word after {firsts[4]:.2f} s (median), all done after {end_of_all:.2f} s")

# %% [markdown]
# Hatched is waiting, blue is being written. On the left each waits for all before. On the right all wait a little, for the prompts
# of the others, and then all are written at once: each is written more slowly than it would be alone, and yet the last one is
# finished far earlier.
#
# ## 10. The page
#
# The page is three files in `data/web`, without a library, a build step or a server elsewhere: `index.html`, `chat.css`, `chat.js`, and
# a fourth for markdown. It keeps the conversation and sends all of it with each request, as section 1 says it must. Stop ends the
# connection, and the server does the rest; Regenerate and Edit cut the conversation and ask again.
#
# ### Text from a model is text from a stranger
#
# The model's answer to "Attack" was `<script>steal(document.cookie)</script>`. A page that puts this into its HTML runs it. Models
# repeat what they have read, and what a user has pasted from somewhere. So two walls stand here, each of which is enough:
#
# 1. `markdown.js` makes nodes and never HTML. Text becomes a text node, in which `<` is a character like any other. Elements are
#    the dozen that the file itself creates. A link leads to `http`, `https` or `mailto`, or it is no link: `javascript:` stays text.
# 2. The content security policy forbids scripts that the server has not sent as a file.
#
# The difference in Python, with a library for HTML and XML:

# %%
attack = answers["Attack"]
as_markup = ElementTree.fromstring(f"<p>{attack}</p>")
as_text = ElementTree.Element("p")
as_text.text = attack
print("pasted into HTML:", [child.tag for child in as_markup], "inside the paragraph")
print("as a text node:  ", [child.tag for child in as_text], "and it reads", as_text.text)

# %% [markdown]
# Pasted, the text has become an element that a browser would run. As the text of a node it has not, and a reader sees what the
# model wrote.

# %%
running.close()

# %% [markdown]
# ### The programs
#
# `chat_web` has flags and starts this server; `chat_cli` has flags and a loop around `TerminalChat`.
#
# ```bash
# uv run chat_web                    # then open http://127.0.0.1:8000
# uv run chat_cli -p "Why is the sky blue?"
# ```
#
# Both need a model, which `base_train` and then `chat_sft` make.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/17_chat_solutions.ipynb](solutions/17_chat_solutions.ipynb).
#
# ### Exercise 17.1 — read a stream
#
# 15 minutes, ●●○. Write `parse_events(chunks)`: `chunks` are byte strings, as they come from a socket, cut anywhere, even inside a
# character. Return the list of what the events hold, parsed as JSON, up to `data: [DONE]` or the end. An event ends with a blank
# line; lines end with `\n` or `\r\n`; lines that do not begin with `data: ` (comments begin with `:`) are skipped.
#
# <details><summary>Hint</summary>Put all bytes together that have come so far, and take complete lines off the front. Decode a
# line, never a chunk. Each of our events has one line of data.</details>

# %% tags=["exercise"]
def parse_events(chunks):
    raise NotImplementedError


# %%
check(exercises.parse_events, parse_events)


# %% [markdown]
# ### Exercise 17.2 — where may it be cut?
#
# 15 minutes, ●●○. Write `showable(data)`: how many bytes of `data` (the beginning of a text in UTF-8) may be decoded and shown now?
# All but the beginning of a character at the end that lacks bytes. In UTF-8 the first byte of a character tells how many
# there are: below 0x80 one, 0xC0–0xDF two, 0xE0–0xEF three, 0xF0–0xF7 four. All that follow are 0x80–0xBF.
#
# <details><summary>Hint</summary>Only the last three bytes can matter. Go back over bytes 0x80–0xBF to the first byte of the last
# character, and see whether it promises more bytes than there are.</details>

# %% tags=["exercise"]
def showable(data):
    raise NotImplementedError


# %%
check(exercises.showable, showable)


# %% [markdown]
# ### Exercise 17.3 — a safe link
#
# 10 minutes, ●○○. Write `safe_link(address)` for a chat page: return the address if it leads to `http`, `https` or `mailto`, else
# `None`. Attackers write `JavaScript:`, put spaces in front, or line ends and tabs inside (browsers take these out before they look
# at the address!). An address without a scheme, such as `page.html`, leads to our own server: `None`, too.
#
# <details><summary>Hint</summary>List what is allowed, never what is forbidden. Take out what browsers take out, then
# `urllib.parse.urlsplit(address).scheme`.</details>

# %% tags=["exercise"]
def safe_link(address):
    raise NotImplementedError


# %%
check(exercises.safe_link, safe_link)


# %% [markdown]
# ### Exercise 17.4 — fair to everybody
#
# 10 minutes, ●●○. One user sends sixty requests, then you send one: in order of arrival you are the sixty-first. Write
# `fair_order(clients)`: `clients` are the names of the senders in the order of arrival; return the positions in the list, in the
# order in which they are to be served. Everybody's first request comes before anybody's second, and so on; among equals, the order
# of arrival.
#
# <details><summary>Hint</summary>Number the requests of each client: 0, 1, 2 … Then sort by that number. Python's sort keeps the
# order of equals.</details>

# %% tags=["exercise"]
def fair_order(clients):
    raise NotImplementedError


# %%
check(exercises.fair_order, fair_order)

# %% [markdown]
# ## Summary
#
# - A model has no memory: each turn sends the whole conversation, and what does not fit is forgotten from the oldest turn on.
# - A reader sees whole characters, no special tokens, nothing after a stop string: each of these means holding something back.
# - One thread owns the model. An event loop talks to the clients, and a bell rings between the two.
# - A client that goes away, does not read, or sends its request byte by byte costs nobody else anything.
# - A local server is reached by every page in your browser: look at Origin and Host, and treat a model's text as a stranger's.
#
# ## Pitfalls
#
# - Decoding each token by itself: half an emoji is two boxes.
# - Looking for a stop string in each token and not in the text.
# - **A model that is loaded in one thread and run in another**: MLX refuses, or worse, each request waits for all others.
# - A reply that goes on when its reader has gone: after a few reloads of the page the server writes for nobody.
# - `innerHTML` with text from a model; and a blacklist of bad links in place of a list of good ones.
# - `Access-Control-Allow-Origin: *` on a local server "to make it work": now every page may read it.
# - A key in the address (`?key=…`): it ends up in histories and logs.
#
# ## Further reading
#
# - [Server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html), the standard.
# - [Content security policy](https://developer.mozilla.org/en-US/docs/Web/HTTP/Guides/CSP), MDN.
# - [Protecting browsers from DNS rebinding attacks](https://crypto.stanford.edu/dns/), Jackson et al., 2007.
# - [Slowloris](https://en.wikipedia.org/wiki/Slowloris_(cyber_attack)): why the time of a request needs a bound.
# - [UTF-8](https://www.rfc-editor.org/rfc/rfc3629), RFC 3629: exercise 17.2.
#
# **Next:** [18 · Speedrun](18_speedrun.ipynb), the whole way from text to this chat in one command.

# %% [markdown]
# # 16 · Serving
#
# **Goal.** Answer many people at once: rows that come and go while the model writes.
#
# | | |
# |---|---|
# | Needs | [12 · Generation](12_engine.ipynb), [13 · Conversations](13_conversations.ipynb) |
# | Time | 55 minutes to read, 55 for the exercises; two minutes to run |
# | Memory | under 1 GB |
# | You will build | a server's loop in some 45 lines; the package has its own, written by hand, in `course_lib/serve/batch_engine.py` |
#
# One person asks, the model answers. Now eight ask in the same second. Do seven of them wait? And if eighty ask, what should
# happen to the last one? This chapter is about who waits for what, and what the program in the middle can do about it.

# %% [markdown]
# ![Map of the course: chapter 16 serving is marked, the fourth one of Part III; after 15 reinforcement, before 17 chat](images/map_16.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · **16** · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/16_serving.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
import heapq
import inspect
import itertools
import math
import random
import threading
import time
from collections import deque
from dataclasses import replace

import mlx.core as mx
import numpy as np

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_for_completion
from course_lib.classroom import add_to, budget, check, claim
from course_lib.classroom import draw_serving as drawings
from course_lib.classroom.exercises import serving as exercises
from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import KVCache, cache_bytes
from course_lib.generate.rows import Request, next_logits
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.serve.batch_engine import BatchEngine, QueueFull
from course_lib.train.starter import load_starter

backend.seed_everything(42)
print(backend.describe())
ON_CPU = backend.device_kind() == "cpu"  # where the numbers of the text were measured

# %% [markdown]
# ## 1. Eight at once
#
# The course comes with a small assistant, trained as chapters 10 and 13 do it. Eight people ask it something:

# %%
model, tokenizer = load_starter("sft")
engine = Engine(model, tokenizer, tool=use_calculator, keep_prefixes=0)
QUESTIONS = [
    "Who are you?",
    "What is 347 + 2815?",
    "Spell the word lantern.",
    "How many times does r occur in strawberry?",
    "What can you do?",
    "Are you a human?",
    "How much is 12 * 30?",
    "Who made you?",
]


# %%
def prompt_of(question, system=None):
    """The ids that the model reads before it answers (chapter 13)."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": question}]
    return render_for_completion(tokenizer, messages)


# %%
prompts = [prompt_of(question) for question in QUESTIONS]
replies = engine.generate_batch(prompts, max_tokens=60, temperature=0)
for question, reply in zip(QUESTIONS, replies, strict=True):
    print(f"{question:43s} {tokenizer.decode(reply.ids)}")

# %% [markdown]
# (Small models err: check each answer.) They were answered together, as eight **rows** of one batch. What if each had waited for the one before?


# %%
def medians(cases, rounds=7):
    """Median seconds of each case, taken in turn; the first turn only warms up."""
    seconds = {name: [] for name in cases}
    for _ in range(budget(rounds, quick=1) + 1):
        for name, run in cases.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: np.median(times[1:]) for name, times in seconds.items()}


# %%
def all_eight(max_rows):
    engine.generate_batch(prompts, max_tokens=60, max_rows=max_rows, temperature=0)


# %%
took = medians({rows: lambda rows=rows: all_eight(rows) for rows in (1, 2, 4, 8)})
for rows, seconds in took.items():
    print(f"{rows} at once: {took[1] / seconds:4.1f} times as fast as one after the other")
claim("eight at once take less than half of the time", took[8] < took[1] / 2)

# %% [markdown]
# A pass for eight rows costs less than eight passes: each weight is read from memory once for all rows (chapter 12, the roofline), and Python and MLX
# start each operation once. (Which of the two counts for more in so small a model, we did not measure.)
#
# So a server should have many rows in its batch. But people do not come in groups of eight, and their replies are not equally long.
#
# ## 2. Join, leave, step
#
# In chapter 12, rows of different lengths shared one cache, and `write_all` let new texts join while others were being
# written. That is **continuous batching**. All of it:
#
# ```text
# as long as somebody waits or writes:
#     if somebody waits and a row is free:                  # join
#         read the prompt of the first in the queue
#         copy its keys and values into the free row
#         take its first token from the logits of its last position
#     else:                                                 # step
#         put the last token of every row through the model, in one pass
#         take one token for each row
#     every row whose text has ended becomes free           # leave
# ```
#
# `Engine.generate_batch`, which you have used ever since, ends like this:

# %%
source = inspect.getsource(Engine.generate_batch)
print(source[source.index("        while ") :])

# %% [markdown]
# `_start` reads a prompt and joins, `_settle` lets rows leave. The alternative, **static
# batching**, takes a group and goes on until *all* of it are done, so rows stand idle once their own text has
# ended. For how long? To see that, we build a server of our own.
#
# ## 3. A server of our own
#
# A **job** is one request on its way: what is asked for, what has been written, and when.


# %%
class Job:
    """A prompt, and at most max_tokens after it. stops: the ids that end the text."""

    def __init__(self, prompt, max_tokens, stops=engine.stops):
        self.prompt, self.max_tokens, self.stops = prompt, max_tokens, stops
        self.ids, self.times, self.done = [], [], False

    def take(self, token, now):
        """The next token, and the time."""
        self.times.append(now)
        if token not in self.stops:
            self.ids.append(token)
        self.done = token in self.stops or len(self.ids) == self.max_tokens


# %% [markdown]
# The server has a queue, rows and a cache:


# %%
class Server:
    """Continuous batching. Row r of the cache belongs to rows[r]."""

    def __init__(self, model, max_rows):
        self.model, self.max_rows, self.steps = model, max_rows, 0
        self.waiting, self.rows = deque(), []
        self.cache = KVCache(model.config, rows=0)

    def clock(self):
        return time.perf_counter()

    def submit(self, job):
        job.asked = self.clock()
        self.waiting.append(job)


# %% [markdown]
# **Join.** `next_logits(model, ids, cache)` of the package reads ids into a cache and gives the logits for what comes next. A newcomer's prompt is read into a cache of its own, which `begin` makes, and then copied into a row:


# %%
@add_to(Server)
def begin(self, prompt):
    """A cache for a newcomer: nothing is read yet."""
    return KVCache(self.model.config)


# %%
@add_to(Server)
def join(self):
    while self.waiting and len(self.rows) < self.max_rows:
        job = self.waiting.popleft()
        alone = self.begin(job.prompt)
        new = mx.array([job.prompt[alone.lengths[0] :]])  # lengths[0]: read already; 0 for now
        self.add(job, alone, next_logits(self.model, new, alone))


# %%
@add_to(Server)
def add(self, job, alone, logits):
    """A newcomer whose prompt has been read gets a row, and its first token."""
    self.cache.append(alone)
    self.rows.append(job)
    self.give([job], logits)


# %% [markdown]
# **Step.** The last token of every row goes through the model, and each job gets the likeliest next one:


# %%
@add_to(Server)
def step(self):
    last = mx.array([[job.ids[-1]] for job in self.rows])  # (rows, 1)
    self.steps += 1
    self.give(self.rows, next_logits(self.model, last, self.cache))


# %%
@add_to(Server)
def give(self, jobs, logits):
    tokens = mx.argmax(logits, axis=-1).tolist()
    for job, token in zip(jobs, tokens, strict=True):
        job.take(token, self.clock())


# %% [markdown]
# **Leave.** The last row moves into the gap, in the cache as in the list:


# %%
@add_to(Server)
def leave(self):
    done = [job for job in self.rows if job.done]
    for job in done:
        r = self.rows.index(job)
        self.cache.remove(r)
        self.rows[r] = self.rows[-1]
        self.rows.pop()
    return done


# %%
@add_to(Server)
def turn(self):
    """Newcomers join, then a step for all; returns the jobs that are done."""
    self.join()
    done = self.leave()
    if self.rows:
        self.step()
    return done + self.leave()


# %% [markdown]
# Is a text the same when others come and go beside it? Let the eight come two turns apart, to three rows, and compare with what
# each gets alone from the package (without a tool, since ours has none):


# %%
def serve(server, arrivals):
    """Submit each job at its turn, [(turn, job), …], and go on until all are done."""
    coming = deque(arrivals)
    for turn in itertools.count():
        while coming and coming[0][0] <= turn:
            server.submit(coming.popleft()[1])
        server.turn()
        if not (coming or server.waiting or server.rows):
            return


# %%
plain = Engine(model, tokenizer, keep_prefixes=0)
alone = [plain.generate_batch([prompt], 40, temperature=0)[0].ids for prompt in prompts]
jobs = [Job(prompt, 40) for prompt in prompts]
server = Server(model, max_rows=3)
serve(server, [(2 * n, job) for n, job in enumerate(jobs)])
print("steps:", server.steps, "tokens:", sum(len(job.ids) for job in jobs))
same = [job.ids for job in jobs] == alone
claim("each job got the tokens that it gets alone", same or not ON_CPU)
claim("and the cache is empty again", server.cache.lengths == [])

# %% [markdown]
# Fewer steps than tokens.
#
# ### Static and continuous
#
# Chapter 12 counted on paper how many steps twelve texts take, three at a time. Now let our server write them. A job's first token comes from its prompt, so a text of `n` steps
# has `n + 1` tokens. Static batching is the same server with one more condition. To count steps and not seconds, change the clock:


# %%
class InSteps(Server):
    def clock(self):
        return self.steps


class Static(InSteps):
    def join(self):
        if not self.rows:  # wait until the whole group is done
            super().join()


# %%
LENGTHS = [3, 12, 5, 9, 2, 4, 14, 3, 6, 2, 8, 4]
panels, steps = {}, {}
for name, kind in {"static": Static, "continuous": InSteps}.items():
    server = kind(model, max_rows=3)
    jobs = [Job(prompts[0], length + 1, stops=()) for length in LENGTHS]
    serve(server, [(0, job) for job in jobs])
    steps[name] = server.steps
    panels[f"{name}: {server.steps} steps"] = [(job.times[0], job.times[-1]) for job in jobs]
drawings.draw_timeline(panels)
least = math.ceil(sum(LENGTHS) / 3)
print(f"three rows that are never idle would need {least} steps")
claim("continuous batching needs at most two more than that", steps["continuous"] <= least + 2)
claim("static batching needs more than half as much again", steps["static"] > 1.5 * least)

# %% [markdown]
# Each bar is a text with its number of steps, drawn as if it stayed in one row. (In our cache the last row moves into a gap.) The white gaps above are rows that wait for the longest of their group. Below there is a gap only at the end, when
# the queue is empty. In a server that is always busy the end never comes.
#
# ## 4. Throughput beside latency
#
# How fast is a server? Its owner counts tokens per second over all users, the **throughput**. A user feels two
# other things, both called **latency**: the **time to the first token**, waiting in the queue included, and then the **time between tokens**. And what
# do the unluckiest feel, one in a hundred?
#
# Let 1 to 32 users do the same: ask, read the reply (8 to 40 tokens), ask again at once. There are eight rows.


# %%
def with_users(users, replies, max_rows=8):
    """The jobs that were done, and from when to when, once everybody has had a first reply."""
    server, done, generator = Server(model, max_rows), [], random.Random(users)

    def ask():
        server.submit(Job(generator.choice(prompts), generator.randint(8, 40), stops=()))

    for _ in range(users):
        ask()
    while len(done) < users + replies:
        for job in server.turn():
            done.append(job)
            ask()
    return done[users:], done[users - 1].times[-1], done[-1].times[-1]


# %%
table = []
for users in (1, 2, 4, 8, 16, 32):
    jobs, begin, end = with_users(users, budget(150, quick=6))
    first = [job.times[0] - job.asked for job in jobs]
    between = np.concatenate([np.diff(job.times) for job in jobs])
    line = {"users": users, "speed": sum(len(job.ids) for job in jobs) / (end - begin)}
    line |= {"first": np.median(first), "first 99 %": np.percentile(first, 99)}
    line |= {"between": np.median(between), "between 99 %": np.percentile(between, 99)}
    stay = np.mean([job.times[-1] - job.asked for job in jobs])
    line["inside"] = stay * len(jobs) / (end - begin)  # see Little's law, below
    table.append(line)

# %%
print("as multiples of one user's    median   99 %     median   99 %")
print("users  tokens per second      first token      between tokens")
for line in table:
    relative = [line[name] / table[0][name.removesuffix(" 99 %")] for name in list(line)[1:6]]
    print("{:5d} {:10.1f} {:17.1f} {:6.1f} {:10.1f} {:6.1f}".format(line["users"], *relative))
drawings.draw_users(table, rows=8)

# %%
one, eight, many = table[0], table[3], table[5]
claim("eight users get more than twice the tokens of one", eight["speed"] > 2 * one["speed"])
claim("each of the eight waits longer between tokens", eight["between"] > one["between"])
level = 0.6 < many["speed"] / eight["speed"] < 1.6
claim("with 32 users and eight rows, throughput stays about level", level)
claim("but the first token takes more than three times", many["first"] > 3 * eight["first"])
steady = 0.5 < many["between"] / eight["between"] < 2
claim("and once it writes, it writes about as fast as with eight", steady)
claim("one token in a hundred comes late", eight["between 99 %"] > 1.5 * eight["between"])

# %% [markdown]
# Read the three panels together. Up to eight users throughput grows, and each user pays: the median time between tokens grows by half or more, and one token in a hundred takes several times as long (section 6 has one reason). Beyond eight (the dotted
# line) all rows are full. Nothing is gained, and each further user only makes the queue longer: the first token comes later and later. More rows should move the line to the right, and the time
# between tokens up; we did not try.
#
# ### Little's law
#
# Here is a check for such measurements. If $\lambda$ people come per second and each stays $W$ seconds, how many are inside on average?
#
# $$ N = \lambda \cdot W $$
#
# Over a long time it holds whatever the order, the lengths or the program, as long as the queue does not grow without end (Little, 1961). Here we know $N$: each user always has one job in
# the server.

# %%
print("users  requests per second × seconds in the server")
for line in table:
    print(f"{line['users']:5d} {line['inside']:17.2f}")
off = max(abs(line["inside"] / line["users"] - 1) for line in table)
claim("Little's law holds within a tenth", off < 0.1)

# %% [markdown]
# Not exactly: a few jobs stand across the beginning or the end of the measurement. If it were far off, the time of the whole or of a stay would be wrong. (The times between tokens do not enter it.)
#
# ## 5. When more come than are served
#
# Those users waited for their reply before they asked again. A slow server slowed *them* down, and the queue was never longer than their number. On the internet people come
# whenever they like, however long the queue is.
#
# To study such a queue we need no model. Each job comes at some time, takes a row for some time, and waits if none is free:


# %%
def waits(arrivals, lengths, rows, room=math.inf):
    """How long each waits for a row; None for those who find `room` others waiting already."""
    free = [0.0] * rows  # when each row is free
    starts, found = deque(), []  # when those start who wait; their waits
    for now, length in zip(arrivals, lengths, strict=True):
        while starts and starts[0] <= now:
            starts.popleft()
        if len(starts) >= room and free[0] > now:
            found.append(None)
            continue
        start = max(now, heapq.heappop(free))
        heapq.heappush(free, start + length)
        starts.append(start)
        found.append(start - now)
    return found


# %% [markdown]
# Is it right? Let people come by pure chance, $\rho$ of them per unit of time: the next moment is as likely to bring somebody as any other. The gaps between them are then **exponentially distributed**, many short ones and few long. If the lengths are exponential, too,
# with mean 1, and there is one row, the mean wait is known: $\rho / (1 - \rho)$ (we do not derive it). $\rho$ is called the **load**: the work arriving, as a share of what can be done.
# And the people who wait, counted at many moments, must obey Little's law.

# %%
def chance(load, count, rows=1, seed=0):
    """When `count` people come by chance, so that this load results; mean length 1."""
    generator = np.random.default_rng(seed)
    return np.cumsum(generator.exponential(1 / (load * rows), count))


# %%
LOAD, COUNT = 0.8, budget(200_000, quick=500)
arrivals = chance(LOAD, COUNT)
lengths = np.random.default_rng(1).exponential(1, COUNT)
found = waits(arrivals, lengths, rows=1)
starts, moments = arrivals + found, np.linspace(0, arrivals[-1], 10_000)
queue = np.searchsorted(arrivals, moments, "right") - np.searchsorted(starts, moments, "right")
print(f"mean wait {np.mean(found):.2f}, by the formula {LOAD / (1 - LOAD):.2f}")
print(f"people waiting: counted {queue.mean():.2f}, by Little {LOAD * np.mean(found):.2f}")
claim("the formula's wait, within a tenth", abs(np.mean(found) * (1 - LOAD) / LOAD - 1) < 0.1)
claim("Little's number, within 2 %", abs(queue.mean() / (LOAD * np.mean(found)) - 1) < 0.02)

# %% [markdown]
# Now eight rows, lengths between 8 and 40 as before (divided by their mean), and more and more load:

# %%
def some_lengths(count):
    return np.random.default_rng(1).integers(8, 41, count) / 24  # mean 1


# %%
by_load, COUNT = {}, budget(20_000, quick=200)
for load in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98):
    found = waits(chance(load, COUNT, rows=8), some_lengths(COUNT), rows=8)
    by_load[load] = np.median(found), np.percentile(found, 99)

# %%
over_time, outcome, COUNT = {}, {}, budget(4000, quick=200)
for name, room in {"load 1.2": math.inf, "load 1.2, 16 may wait": 16}.items():
    arrivals = chance(1.2, COUNT, rows=8)
    outcome[name] = waits(arrivals, some_lengths(COUNT), 8, room)
    served = zip(arrivals, outcome[name], strict=True)
    over_time[name] = [(now, wait) for now, wait in served if now < 150 and wait is not None]
drawings.draw_queue(by_load, over_time)

# %%
endless, bounded = outcome["load 1.2"], outcome["load 1.2, 16 may wait"]
refused = bounded.count(None) / len(bounded)
longest = max(wait for wait in bounded if wait is not None)
at_half, at_95 = (by_load[load][1] for load in (0.5, 0.95))
print(f"one in a hundred waits {at_half:.1f} replies at load 0.5, {at_95:.1f} at 0.95")
print(f"with 16 places {refused:.0%} are refused, and nobody waits longer than {longest:.1f}")
claim("at load 0.5 most do not wait at all", by_load[0.5][0] == 0)
claim("at 0.98 one in a hundred waits for two replies or more", by_load[0.98][1] >= 2)
half = len(endless) // 2
claim("above 1 the wait grows and grows", np.mean(endless[half:]) > 2 * np.mean(endless[:half]))
claim("as many are refused as must be, 1 - 1/1.2", abs(refused - (1 - 1 / 1.2)) < 0.03)
claim("nobody who is let in waits for more than four replies", longest < 4)

# %% [markdown]
# On the left, the wait bends upwards before the load is 1: chance alone brings crowds. On the right, at load 1.2 (orange), it grows for as long as the crowd lasts.
#
# One in six has to go without, since no more can be served. A server without a limit lets *everyone* wait until they give up, and
# then writes replies that nobody reads. A **bounded queue** (blue) refuses at once and says "try again later" (in HTTP, status 429), and those who are let in wait for three replies at most.
#
# ### Fair to whom?
#
# First come, first served is fair to requests. It is not fair to *people*, when one of them sends forty at once and you come just after. Taken in turns, you get the first of the
# eight rows that is free again:

# %%
lengths = some_lengths(41)
in_order = waits([0.0] * 41, lengths, rows=8)[40]
in_turns = waits([0.0] * 41, [*lengths[:8], lengths[40], *lengths[8:40]], rows=8)[8]
print(f"after the forty: {in_order:.1f} replies of mean length; in turns: {in_turns:.1f}")
claim("in order you wait for several replies, in turns below one", in_order > 3 > 1 > in_turns)

# %% [markdown]
# The package serves in order. A public server should also count what each user has waiting.
#
# ## 6. A long prompt
#
# `Server.join` reads a newcomer's whole prompt before the next step, and meanwhile nobody gets a token. That is part of why some tokens of section 4 came late.
# With a prompt of a hundred lines it becomes a pause that everybody sees.
#
# For long prompts we need a model that may read more. Rotary positions have no table that could end (chapter 07), so the same weights will run. At such lengths they write nonsense, but for timing that will do.

# %%
wide = GPT(replace(model.config, sequence_len=2048))
wide.update(model.parameters())
LONG = (prompts[0] * 200)[: budget(1500, quick=100)]


# %% [markdown]
# The remedy is **chunked prefill**: read some tokens of the prompt, let everybody take a step, read on. Only `join` changes.
# A newcomer that is being read is neither in the queue nor in a row, so the server holds it in `reading`:


# %%
class Chunked(Server):
    """A long prompt is read `chunk` tokens at a time, with a step for all others after each."""

    def __init__(self, model, max_rows, chunk):
        super().__init__(model, max_rows)
        self.chunk, self.reading = chunk, None

    def join(self):
        if not self.reading and self.waiting and len(self.rows) < self.max_rows:
            job = self.waiting.popleft()
            self.reading = job, self.begin(job.prompt)
        if self.reading:
            job, alone = self.reading
            start = alone.lengths[0]
            new = mx.array([job.prompt[start : start + self.chunk]])
            logits = next_logits(self.model, new, alone)
            mx.eval(logits)  # now, and not all chunks together at the end
            if alone.lengths[0] == len(job.prompt):
                self.reading = None
                self.add(job, alone, logits)


# %% [markdown]
# Seven people are being answered when someone comes with a long prompt. How long does the newcomer wait for the first token, and
# what is the longest pause of the others?


# %%
def newcomer(chunk):
    """Seconds: an undisturbed step, the longest pause, the first token; and a strip."""
    server, wait = Chunked(wide, 8, chunk), Job(LONG, 2, stops=())
    server.cache.reserve(8, 2048)  # or it grows when the newcomer joins: one more pause
    others = [Job(prompts[n], 1500, stops=()) for n in range(7)]
    for job in others:
        server.submit(job)
    while len(others[-1].ids) < 20:
        server.turn()
    server.submit(wait)
    while not wait.done:
        server.turn()
    times = np.array(others[0].times) - wait.asked  # 0: the newcomer asks
    gaps, ends = np.diff(times), times[1:]
    step = np.median(gaps[ends <= 0][-15:])
    return step, gaps[ends > 0].max(), wait.times[0] - wait.asked, times / step


# %%
CHUNKS = budget((len(LONG), 512, 128, 16), quick=(len(LONG), 64, 32, 16))
runs = {chunk: [] for chunk in CHUNKS}
for _ in range(budget(5, quick=1)):
    for chunk in CHUNKS:
        runs[chunk].append(newcomer(chunk))
pause = {chunk: np.median([run[1] / run[0] for run in found]) for chunk, found in runs.items()}
first = {chunk: np.median([run[2] for run in found]) for chunk, found in runs.items()}
print("chunk   longest pause of the others   first token of the newcomer")
for chunk in CHUNKS:
    later = first[chunk] / first[len(LONG)]
    print(f"{chunk:5d} {pause[chunk]:16.1f} steps {later:26.2f} times")

# %%
last = {f"chunks of {n}": found[-1] for n, found in runs.items()}
drawings.draw_pauses({name: (run[3], run[2] / run[0]) for name, run in last.items()})
whole, some, _, least = CHUNKS
claim("in one piece, the others wait for ten steps or more", pause[whole] > 10)
claim("the smallest chunks divide that by three at least", pause[least] < pause[whole] / 3)
claim("and the newcomer pays for them", first[least] > 1.2 * first[some])
claim("large chunks cost the newcomer hardly anything", first[some] < 1.2 * first[whole])

# %% [markdown]
# In the picture each blue tick is a token of one of the others. In the first strip there is none for as long as the newcomer (the bar) is read. (The picture shows the last of five runs, the table their medians.) Always look at both columns. Smaller chunks shorten the pause. With the smallest, something else than the chunk takes longest; what, we did not find out. Large chunks cost the newcomer nothing: its first token even comes sooner than in one piece, where each head makes 1,500 × 1,500 scores at once and the mask hides half of them. (That this is why, we did not measure.) With the smallest it waits long: a step of the others after each, and many passes for one text.
#
# Which chunk is right? Decide what pause is bearable, and take the largest that keeps to it: exercise 16.3. The package's server takes 128.
#
# ## 7. A shared beginning
#
# Often many prompts begin alike. A server may put the same **system prompt**, its instructions, before every question. Its keys and values do not depend on what follows (chapter 12). So
# read it once, keep its cache, and let each newcomer begin with a copy:


# %%
def common(a, b):
    """How many ids two prompts share at their beginning."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    return sum(1 for _ in pairs)


# %%
class Sharing(Server):
    """Newcomers begin with a copy of what their prompt shares with the one that is kept."""

    kept, cache_of_kept = (), None

    def keep(self, prompt):
        self.kept, self.cache_of_kept = prompt, super().begin(prompt)
        mx.eval(next_logits(self.model, mx.array([prompt]), self.cache_of_kept))

    def begin(self, prompt):
        shared = min(common(self.kept, prompt), len(prompt) - 1)  # read one: its logits are needed
        return self.cache_of_kept.copy(length=shared) if shared else super().begin(prompt)


# %%
SYSTEM = "You are Wren, a small language model. Answer in one sentence, and be kind. " * 10
longer = [prompt_of(question, SYSTEM) for question in QUESTIONS]
sharing, reading = Sharing(wide, 8), Server(wide, 8)
sharing.keep(longer[0])
for prompt in longer[1:4]:
    print(f"{len(prompt)} ids, of which {len(prompt) - common(longer[0], prompt)} have to be read")


# %%
def first_tokens(server):
    """All but the first question, each up to its first token."""
    jobs = [Job(prompt, 1, stops=()) for prompt in longer[1:]]
    serve(server, [(0, job) for job in jobs])
    return [job.ids for job in jobs]


claim("the same first tokens", first_tokens(sharing) == first_tokens(reading) or not ON_CPU)
took = medians({"shared": lambda: first_tokens(sharing), "read": lambda: first_tokens(reading)})
print(f"read each time takes {took['read'] / took['shared']:.1f} times as long")
claim("reading only what is new is faster by half or more", took["read"] > 1.5 * took["shared"])

# %% [markdown]
# What is shared must be the *beginning*, id by id. Put the time of day at the front of a system prompt:

# %%
clock = [prompt_of("Who are you?", f"It is 12:0{minute}. {SYSTEM}") for minute in (3, 4)]
at_end = [prompt_of("Who are you?", f"{SYSTEM} It is 12:0{minute}.") for minute in (3, 4)]
for place, (a, b) in {"at the front": clock, "at the end": at_end}.items():
    print(f"the time {place}: {common(a, b)} of {len(a)} ids are shared")
claim("at the end, most is shared; at the front, hardly any", common(*clock) < 20 < common(*at_end))

# %% [markdown]
# Nearly all words are the same, and hardly anything is shared. What changes belongs at the end.
#
# The package's engine keeps the caches of the last few texts. In a chat the next prompt begins with all that was said before, so only the new question is read.
#
# ## 8. When the memory is full
#
# How many rows can there be? Chapter 12 gave the bytes of a cache: keys and values × blocks × kv heads × numbers in a head × bytes of a number, for each position. For our model, and for
# d20 of nanochat (October 2025):

# %%
for name, config in {"d20": GPTConfig.from_depth(20), "ours": wide.config}.items():
    numbers = 2 * config.n_layer * config.n_kv_head * config.head_dim
    position, row = numbers * backend.compute_dtype().size, cache_bytes(config, 1, 2048)
    assert row == 2048 * position
    print(f"{name:4s} {position:9,} bytes a position, {row / 1e6:6.1f} MB a row of 2,048,", end=" ")
    print(f"{8e9 // row:5,.0f} rows in 8 GB")

# %% [markdown]
# Most rows are shorter. But our cache is one rectangle, as wide as its longest row. What does that waste in section 6, with seven short rows and a long one?

# %%
held = [len(prompts[n]) + 40 for n in range(7)] + [len(LONG)]
rectangle = cache_bytes(wide.config, 8, max(held)) // position  # positions of ours
in_pages = sum(16 * math.ceil(length / 16) for length in held)
shares = sum(held) / rectangle, sum(held) / in_pages
print("in use: {:.0%} of the rectangle, {:.0%} of pages of 16".format(*shares))
claim("most of the rectangle is empty", shares[0] < 0.5)
claim("nine tenths of the pages are in use", shares[1] > 0.9)

# %% [markdown]
# **Pages** are how operating systems solve this for programs: cut the memory into pieces of one size, say 16 positions, and give a row one more when it needs one. Its pages may lie anywhere. A **block table** lists
# them in order:

# %%
tables = {"row 0": ([0, 5, 7], 42), "row 1": ([3], 9), "row 2": ([1, 2, 4, 9], 64)}
drawings.draw_pages(tables, count=12, size=16)

# %% [markdown]
# Above, the block tables of three rows; below, the memory. Only the last page of a row has empty places (hatched), so a row wastes at most 15. When it leaves, its pages go to whoever needs them: exercise 16.2. The price is that attention must look up each key's page. That takes a kernel made for it, as
# in vLLM (Kwon et al., 2023). The package has none and keeps the rectangle.
#
# And when no page is left while a row writes? A server can send the newest row back into the queue, take its pages, and read its text again later. Or it lets nobody in who *might* not fit: prompt and
# `max_tokens` together are the most that a row can need (exercise 16.1). The package does the second in the simplest form: its batch never grows beyond `max_rows` rows of `sequence_len` positions.
#
# ## 9. One thread and a queue
#
# In a real server the users' connections live in threads of their own. Who may use the model?

# %%
drawings.draw_threads()

# %% [markdown]
# One thread only. Eight threads that each ran the model would be eight passes for eight tokens, which is where this chapter began. (And MLX does not allow it: an array that is not computed yet can only be computed by the thread that built it.) So the users' threads put
# requests into the queue, and read from a **handle** what has been written so far. They wait for the engine, and the engine waits for none of them: whoever reads slowly finds several tokens at once.
#
# `BatchEngine` has the loop of `Chunked`. Eight threads ask it:

# %%
heard = {}


def user(server, n):
    """A user's thread: submit, and take each token as it comes."""
    request = Request(prompts[n], max_tokens=40, temperature=0)  # the package's Job
    handle = server.submit(request)
    heard[n] = [token for token, _ in handle]


# %%
with BatchEngine(model, tokenizer, max_rows=3) as server:
    threads = [threading.Thread(target=user, args=(server, n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
same = [heard[n] for n in range(8)] == alone
claim("each thread heard what it would have got alone", same or not ON_CPU)

# %% [markdown]
# What it adds to ours:
#
# | | ours | `BatchEngine` |
# |---|---|---|
# | choosing | the likeliest | temperature, top-k, top-p, min-p of each request, with random numbers of its own (chapter 12) |
# | prompts | in chunks, or shared | in chunks *and* shared: the last eight texts |
# | queue | endless | `max_waiting`; then `QueueFull` |
# | going away | no | `handle.cancel()`, or a listener that fails |
# | a text that fills `sequence_len` | an error | ends, and says so |
# | an error | ends everything | ends its row, if it concerns one row; or all, with the reason |
# | tools | no | the calculator (chapter 14) |
# | on a GPU | waits for Python | begins the next step before Python has seen this one |
#
# ### Going away
#
# People close the tab. Their reply must not be written to its end while others wait. One row, a long text in it, and somebody waiting:

# %%
with BatchEngine(model, tokenizer, max_rows=1, max_waiting=1) as server:
    endless = Request(prompts[0], max_tokens=200, temperature=5.0)
    gone, patient = server.submit(endless), server.submit(Request(prompts[4], 20, temperature=0))
    while not gone.ids:
        time.sleep(0.001)
    print("served and waiting:", server.load)
    try:
        server.submit(endless)
    except QueueFull as error:
        print("a third one:", error)
    gone.cancel()
    text = tokenizer.decode(patient.result(timeout=60).ids)
print(f"{gone.finish_reason} after {len(gone.ids)} tokens; the next: {text}")
claim("the row was freed before the text was over", len(gone.ids) < 200)

# %% [markdown]
# (In our own server: set `job.done`, and the next `leave` frees its row; a job that still waits must also be taken out of the queue.)
#
# In chapter 17 an HTTP server stands in front of this engine. `tests/benchmarks/bench_chat.py` tries all of it together: 32 clients for a minute, and one time in five a client goes away in the middle. It compares every reply with
# what the same prompt got alone.

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/16_serving_solutions.ipynb](solutions/16_serving_solutions.ipynb).
#
# ### Exercise 16.1 — who may join?
#
# 15 minutes, ●○○. The memory has room for `room` positions in all. Write `admit(waiting, rows, max_rows, room)`. `waiting` and `rows` are lists of pairs (name, need): who waits, the first of the queue first, and who has a row. A need is the most positions that a job can come to. Return the
# list of the *names* that join now, in order. At most `max_rows` rows, and needs of at most `room` together, the rows' included. Nobody overtakes: if the first in the queue does not fit, those after it wait as well. Leave the two lists as they are.
#
# <details><summary>Hint 1</summary>
#
# How many rows are free, and how much room, before anybody joins? Each who joins takes a row and some room.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Go through `waiting` in order, with the sum of needs so far, which begins with those of `rows`. At the first who does not fit, `break`.
#
# </details>


# %% tags=["exercise"]
def admit(waiting, rows, max_rows, room):
    raise NotImplementedError


# %%
check(exercises.admit, admit)


# %% [markdown]
# ### Exercise 16.2 — pages
#
# 25 minutes, ●●○. Write the class `Pages(count, size)`: `count` pages of `size` positions, numbered from 0. `append(row)` makes room for the next position of a row (any name, perhaps a new one) and returns the pair (page, place in the page). A row takes another page only when its last one is full. If
# it needs one and none is free, raise `MemoryError` and change nothing. `leave(row)` makes all pages of a row free, and forgets it.
#
# <details><summary>Hint 1</summary>
#
# Keep a list of free pages, and for each row a list of its pages and how many positions it holds. Which place does position 5 have in pages of 4?
#
# </details>
# <details><summary>Hint 2</summary>
#
# A row of `n` positions needs a new page when `n % size == 0`. Look whether one is free *before* you change anything. `leave` removes the row from both and adds its pages to the free ones.
#
# </details>


# %% tags=["exercise"]
class Pages:
    def __init__(self, count, size):
        raise NotImplementedError

    def append(self, row):
        raise NotImplementedError

    def leave(self, row):
        raise NotImplementedError


# %%
check(exercises.pages, Pages)


# %% [markdown]
# ### Exercise 16.3 — how large a chunk?
#
# 15 minutes, ●○○. `read(n)` measures how long a chunk of `n` tokens takes; more tokens take longer, but not in proportion. A step takes `step`. The pause of the others is both together. Write `largest_chunk(read, step, bound, most)`: the largest `n` from 1 to `most` with a pause of
# at most `bound`, or 0 if there is none. Each call of `read` is a measurement and costs time: for `most = 2048` use no more than 14.
#
# <details><summary>Hint 1</summary>
#
# If 100 tokens take too long, you need not try 101.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Halve the range: keep a size that is allowed (0 at first) and one that is too much (`most + 1`), and ask for the middle, until they are neighbours.
#
# </details>


# %% tags=["exercise"]
def largest_chunk(read, step, bound, most):
    raise NotImplementedError


# %%
check(exercises.largest_chunk, largest_chunk)

# %% [markdown]
# ## Summary
#
# - Continuous batching: rows join and leave between steps. Static batching waits for the longest of a group.
# - More rows give more tokens per second to all (throughput), and each user waits longer for the next (latency).
# - Little's law, N = λW, holds for every queue that does not grow for ever: check your measurements with it.
# - Below a load of 1 a crowd passes. Above it the wait grows without end: bound the queue.
# - Chunked prefill shortens the pause of the others. Look at the newcomer's wait as well.
# - A beginning is read once for all who share it, from the first id on.
# - Memory bounds the rows. Pages waste less than a rectangle.
# - One thread has the model; the others have a queue and handles.
#
# ## Pitfalls
#
# - A single number for speed: throughput hides who waits (section 4).
# - A test with users who wait for their reply: their queue cannot grow (section 5).
# - A queue without a bound: in a crowd everybody's reply comes late (section 5).
# - Reading a long prompt in one go: a pause for all others (section 6).
# - Something that changes at the front of a system prompt: nothing is shared (section 7).
# - Writing on for someone who has left (section 9).
#
# ## Further reading
#
# - [Orca](https://www.usenix.org/conference/osdi22/presentation/yu), Yu et al., 2022: continuous batching.
# - [Efficient Memory Management for Large Language Model Serving with PagedAttention](https://arxiv.org/abs/2309.06180), Kwon et al., 2023: pages and block tables.
# - [Sarathi-Serve](https://arxiv.org/abs/2403.02310), Agrawal et al., 2024: chunked prefill, throughput beside the longest pause.
# - [tiny-llm](https://github.com/skyzh/tiny-llm): a course that builds such a server with MLX, down to the kernels.
# - [A Proof for the Queuing Formula: L = λW](https://doi.org/10.1287/opre.9.3.383), Little, 1961.
#
# **Next:** [17 · Chat](17_chat.ipynb), where people meet the model: text as it is written, and a page in the browser.

# %% [markdown]
# # 20 · Several processes
#
# **Goal.** Let several processes train one model: see how a ring adds up, why all end with the same weights in every bit, what it buys, and what it costs.
#
# | | |
# |---|---|
# | Needs | [09 · Muon](09_muon.ipynb), [10 · Training](10_training.ipynb), [19 · Memory and speed of a large model](19_memory.ipynb) |
# | Time | 40 minutes to read, 40 for the exercises; about two minutes to run |
# | Memory | under 2 GB |
# | You will build | a ring that adds up, and a training step for several processes; the package has its own, written by hand, in `course_lib/train/distributed.py` |
#
# MLX does most of its work on a CPU in one thread. So on a machine with two cores, one of them stands idle while your model trains. The way to use
# it, and other machines too, is a second **process** that trains *the same* model on other text. How do the two stay one model?

# %% [markdown]
# ![Map of the course: chapter 20 processes is marked, in Part IV, after 19 memory](images/map_20.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · **20** · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/20_processes.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
import os
import signal
import statistics
import time
from itertools import islice

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import budget, check, claim
from course_lib.classroom.draw_ring import draw_ring, draw_speeds
from course_lib.classroom.exercises import processes as exercises
from course_lib.data.dataset import open_dataset
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.train.distributed import share_out, share_work
from course_lib.train.muon import Muon
from course_lib.train.optim import make_optimizer
from course_lib.train.ring_call import failure, in_a_ring, two_cores_idle

print(backend.describe())
ON_CPU = backend.device_kind() == "cpu"  # where the numbers of the text were measured

# %% [markdown]
# ## 1. Two processes, one model
#
# A small model that reads bytes, so that it needs no tokenizer, and some of the course's own text:

# %%
CONFIG = GPTConfig(128, vocab_size=256, n_layer=4, n_head=2, n_kv_head=2, n_embd=128)
TEXT = "\n".join(islice(open_dataset().documents("train"), 20)).encode()


def batch_of(text, step, rows=16):
    """Some rows of the text, 129 bytes each, others at each step: (rows, 129)."""
    starts = np.random.default_rng(step).integers(0, len(text) - 129, rows)
    return mx.array([list(text[start : start + 129]) for start in starts])


# %% [markdown]
# Below is the heart of chapter 10's step, with three changes. `mx.distributed.init()` joins the **group**: `group.size()` says how many processes there are, and
# `group.rank()` which one this is, counted from 0. Each process takes every `size`-th row. And before the optimizer moves a weight,
# `nn.average_gradients` replaces the gradients by their mean over all processes. This is called **data parallel** training.


# %%
def train(text, steps, rows=16, exchange=True):
    """Losses, median seconds of a step, and the weights afterwards, in this process."""
    group = mx.distributed.init()
    model = GPT(CONFIG)  # begins with the same weights in every process
    optimizer = make_optimizer(model)
    loss_and_gradients = nn.value_and_grad(model, model.loss)
    losses, took = [], []
    for step in range(steps):
        mine = batch_of(text, step, rows)[group.rank() :: group.size()]
        started = time.perf_counter()
        loss, gradients = loss_and_gradients(mine[:, :-1], mine[:, 1:])
        if exchange:
            gradients = nn.average_gradients(gradients, group)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state, loss)
        took.append(time.perf_counter() - started)
        losses.append(loss.item())
    weights = [np.array(weight) for _, weight in tree_flatten(model.parameters())]
    return {"losses": losses, "seconds": statistics.median(took), "weights": weights}


# %% [markdown]
# `in_a_ring(function, processes, …)` calls a function in that many fresh Python processes and returns what each of them returned. (It starts them the
# way `base_train --processes` does, with one thread each for matrix products, and ends them in time, whatever happens.) Here are one process and
# two, in turn, with two controls: this notebook's own process, whose products may use all cores, and two processes that never exchange anything.

# %%
STEPS, ROUNDS = budget(12, quick=2), budget(3, quick=1)
WAYS = {"one": (1, True), "two": (2, True), "two apart": (2, False)}  # processes, exchange?
runs = {way: [] for way in ("here", *WAYS)}
for _ in range(ROUNDS):
    runs["here"].append([train(TEXT, STEPS)])
    for way, (processes, exchange) in WAYS.items():
        runs[way].append(in_a_ring(train, processes, TEXT, STEPS, exchange=exchange))
speeds = {way: [16 * 128 / each[0]["seconds"] for each in found] for way, found in runs.items()}
rate = {way: statistics.median(found) for way, found in speeds.items()}
for way, found in runs.items():
    loss = np.mean([each["losses"] for each in found[0]], axis=0)
    print(f"{way:9s} {rate[way]:7,.0f} tokens a second; loss {loss[0]:.3f} … {loss[-1]:.3f}")

# %% [markdown]
# The second control shows the most that a second process can bring on this machine. `two_cores_idle` looks at it and at the system's load. Only if both say that two cores were free is a gain
# claimed.

# %%
apart = [two / one for two, one in zip(speeds["two apart"], speeds["one"], strict=True)]
TWO_IDLE = two_cores_idle(apart)
print("two idle cores:", TWO_IDLE, [round(ratio, 2) for ratio in apart])
gained = 1.2 < rate["two"] / rate["one"] < 2.2
claim("where two cores are idle, two processes gain a fifth or more", not TWO_IDLE or gained)
claim("and beat one whose products use both cores", not TWO_IDLE or rate["two"] > rate["here"])
one, two = (np.mean([each["losses"] for each in runs[way][0]], axis=0) for way in ("one", "two"))
claim("and it is the same training: no loss differs by 0.05", np.abs(one - two).max() < 0.05)
ends = {way: [each["weights"] for each in runs[way][0]] for way in ("two", "two apart")}
same = {way: all(map(np.array_equal, *weights)) for way, weights in ends.items()}
claim("together, both have the same weights in every bit", same["two"])
claim("apart, they do not", not same["two apart"])


# %% [markdown]
# ## 2. How a ring adds up
#
# Each process has a gradient, and all need the sum. One could send everything to process 0 and let it send the sum back; then all wait for one
# cable. In a **ring** each process sends to its right neighbour only, and all cables are busy all the time.
#
# Cut the numbers into as many places as there are processes. First, at each step, everybody sends one place to the right, where it is *added*. After
# $n - 1$ steps each process holds the finished sum of one place (**reduce-scatter**). Then the finished sums go around once more and are *copied*
# (**all-gather**). Both together are an **all-reduce**.


# %%
def ring_all_reduce(numbers):
    """The state of all after each step; numbers[process][place], as many places as processes."""
    n, state = len(numbers), [list(row) for row in numbers]
    states = [[list(row) for row in state]]
    for step in range(2 * (n - 1)):
        sent = [(process - step) % n for process in range(n)]  # the place that each one sends
        message = [state[process][sent[process]] for process in range(n)]  # all send at once
        for process in range(n):
            left = (process - 1) % n
            adding = step < n - 1
            state[process][sent[left]] = message[left] + adding * state[process][sent[left]]
        states.append([list(row) for row in state])
    return states


# %%
NUMBERS = [[1, 2, 3], [10, 20, 30], [100, 200, 300]]
draw_ring(ring_all_reduce(NUMBERS))

# %% [markdown]
# Follow one column (to the right is down in this picture): place 0 leaves process 0, grows in process 1, is complete in process 2, and is copied from there.
#
# And MLX's own ring, three real processes that talk over this machine's loopback network:


# %%
def add_up(numbers):
    group = mx.distributed.init()
    return mx.distributed.all_sum(mx.array(numbers[group.rank()])).tolist()


print("by hand ", ring_all_reduce(NUMBERS)[-1])
print("with MLX", in_a_ring(add_up, 3, NUMBERS))

# %% [markdown]
# Each process sends $2(n - 1)$ messages, each an $n$-th of the numbers: less than twice the array, however many processes there are.
#
# ## 3. Why it is the same training
#
# The loss of a batch is a mean over its rows. So its gradient is a mean too, and a mean can be taken in parts, if the parts are equally large. A model with one weight,
# $y = wx$, squared error, four rows:

# %% tags=["nbval-check-output"]
x, y, w = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 4.0, 4.0]), 1.5
slopes = 2 * x * (w * x - y)  # of each row's squared error, by w
print("rows     ", slopes)
print("whole    ", slopes.mean(), "| two and two", (slopes[:2].mean() + slopes[2:].mean()) / 2)
print("one and three", (slopes[:1].mean() + slopes[1:].mean()) / 2, "← unequal parts")

# %% [markdown]
# It is chapter 10's accumulation, with the micro-batches in different processes.
#
# And the weights? Nobody sends any. All begin with the same ones, the ring gives all the same mean, and the same step follows. The mean is the same *in every
# bit*, as you saw in the picture: each sum is finished in one process, and the others get a copy. What if two processes begin apart?

# %% tags=["nbval-check-output"]
weights = np.array([1.5, 1.7])  # of two processes
for _ in range(3):
    slopes = 2 * x * (weights[:, None] * x - y)  # (process, row)
    mean = (slopes[0, :2].mean() + slopes[1, 2:].mean()) / 2  # two rows each
    weights = weights - 0.02 * mean
    print(weights.round(4), "apart by", (weights[1] - weights[0]).round(4))

# %% [markdown]
# They stay apart. Both learn, and no loss tells you. That is why a run begins with `broadcast` of `course_lib/train/distributed.py`: all get the weights of process 0.
#
# ### Equal to one process, too?
#
# Almost:

# %% tags=["nbval-check-output"]
a, b, c = mx.array(1e8), mx.array(-1e8), mx.array(1.0)
print("a + b = b + a:", (a + b == b + a).item())
print("(a + b) + c =", ((a + b) + c).item(), "but a + (b + c) =", (a + (b + c)).item())


# %% [markdown]
# Two floating-point numbers have one sum. Three have several, depending on which two come first. So here is the mean gradient of `lm_head` in two or four
# micro-batches, shared by one, two or four processes:


# %%
def mean_gradient(text, parts, config):
    """The gradient of lm_head over 16 rows, of `parts` micro-batches in each process."""
    group = mx.distributed.init()
    model = GPT(config)
    gradient_of = nn.value_and_grad(model, model.loss)
    micro_batches, total = mx.split(batch_of(text, 0), parts * group.size()), 0
    for rows in micro_batches[group.rank() * parts :][:parts]:
        _, gradients = gradient_of(rows[:, :-1], rows[:, 1:])
        total = total + gradients["lm_head"]["weight"] / parts
    return np.array(mx.distributed.all_sum(total, group=group) / group.size())


# %%
TINY = GPTConfig(128, vocab_size=256, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)
found = {}
for processes, parts in ((1, 2), (2, 1), (1, 4), (2, 2), (4, 1)):
    found[processes, parts] = in_a_ring(mean_gradient, processes, TEXT, parts, TINY)
    off = np.abs(found[processes, parts][0] - found[1, processes * parts][0])
    print(f"{processes} × {parts}: {(off > 0).mean():4.0%} of the numbers differ", end=" ")
    print(f"from those of one process, by {off.max():.0e} at most")

# %%
agree = all((gradient == each[0]).all() for each in found.values() for gradient in each)
claim("all processes of a run agree in every bit", agree)
same = (found[1, 2][0] == found[2, 1][0]).all()
claim("two parts: one process and two agree in every bit", not ON_CPU or same)
one, two = found[1, 4][0], found[2, 2][0]
claim("four parts: one and two nearly do", (one != two).any() and np.allclose(one, two, atol=1e-5))

# %% [markdown]
# (The lines of one process compare it with itself.) Two parts have only one sum, four have several. So to end as if nothing had happened, a stopped run must go on with as many processes as it had. `base_train --resume` sees to that.
#
# ## 4. Muon, shared
#
# After the exchange every process makes the same matrices orthogonal: the same work, done many times over. Better: each takes some of them. Which? From the dearest
# to the cheapest, each goes to whoever has the least to do so far:

# %% tags=["nbval-check-output"]
costs = [8, 7, 6, 5, 4]
owners = share_out(costs, 2)
print("owners", owners)
for rank in (0, 1):
    mine = [cost for cost, owner in zip(costs, owners, strict=True) if owner == rank]
    print(f"process {rank}: {mine}, together {sum(mine)}")

# %% [markdown]
# 15 and 15 would be better, but this is good, and every process finds the same without a word. `share_work(muon, group)` changes Muon's middle part: each process makes its own matrices
# orthogonal and puts **zeros** in place of the others; then one `all_sum` gives everybody everything. What does it save? Both
# ways, in turn, in the same two processes:


# %%
def in_turn(actions, rounds):
    """Median seconds of each action; all processes begin each one together."""
    took = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            mx.eval(mx.distributed.all_sum(mx.array(1.0)))
            started = time.perf_counter()
            action()
            took[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def share_muon(config, rounds):
    """Seconds of Muon's middle part, all of it in each or shared; the largest difference."""
    group = mx.distributed.init()
    weights = [w for name, w in tree_flatten(GPT(config).parameters()) if ".h." in name]
    matrices = [mx.random.normal(w.shape, key=mx.random.key(n)) for n, w in enumerate(weights)]
    ways = {"each": Muon(0.02), "shared": share_work(Muon(0.02), group)}
    took = in_turn(
        {name: lambda m=m: mx.eval(m.directions(matrices)) for name, m in ways.items()}, rounds
    )
    each, shared = (muon.directions(matrices) for muon in ways.values())
    return took, max(mx.abs(a - b).max().item() for a, b in zip(each, shared, strict=True))


# %%
D4 = GPTConfig.from_depth(budget(4, quick=1), vocab_size=4096, sequence_len=128)
took, off = in_a_ring(share_muon, 2, D4, budget(7, quick=2))[0]
saved = took["shared"] / took["each"]
print(f"the matrices of a d4, shared by two: {saved:.2f} of the time; largest difference {off}")
claim("the result is the same in every bit", not ON_CPU or off == 0)
claim("where two cores are idle, sharing saves time", not TWO_IDLE or 0.4 < saved < 0.95)

# %% [markdown]
# Half would be the best, but the results have to travel. The package's `FastTrainer` does it by itself when there is more than one process.
#
# ## 5. When does it pay?
#
# For $N$ parameters a process computes about $6NT$ operations on its $T$ tokens, and sends $4N$ bytes of gradients, times $2(n-1)/n$. The size of the model
# cancels out! **What a message costs beside the work depends on the tokens for each process and step.** Here are steps of 4, 12 and 36 rows:


# %%
def sweep(text, rows_of_step, exchange=True):
    """Median seconds of a step, for each number of rows."""
    return [train(text, 5, rows, exchange)["seconds"] for rows in rows_of_step]


ROWS = [4, 12, 36][: budget(3, quick=1)]
seconds = {way: [] for way in (*WAYS, "four")}
for _ in range(ROUNDS):
    for way, (processes, exchange) in {**WAYS, "four": (4, True)}.items():
        seconds[way].append(in_a_ring(sweep, processes, TEXT, ROWS, exchange)[0])
median = {way: np.median(found, axis=0) for way, found in seconds.items()}
gain = {way: median["one"] / median[way] for way in ("two", "two apart", "four")}
draw_speeds([rows * 128 for rows in ROWS], gain)

# %%
for way, found in gain.items():
    print(f"{way:9s} times as fast as one:", found.round(2))
quiet = TWO_IDLE and two_cores_idle(gain["two apart"][-2:])
price = gain["two apart"] / gain["two"]  # of the messages: so many times as long
claim("on idle cores, they cost no more in large steps", not quiet or price[-1] < price[0] + 0.05)
no_faster = gain["four"][-1] < 1.1 * gain["two"][-1]
claim("four on two cores are no faster than two", not quiet or os.cpu_count() > 2 or no_faster)

# %% [markdown]
# Where *two* comes close to *two that exchange nothing*, messages hardly matter, as with the largest steps here. (Two processes that gain more than twice are no mistake of yours: we saw it in each run and cannot account for it.) Four processes on two cores gain nothing, and lose much in small steps: a core does one thing at a time,
# and there are more messages. And a process that waits keeps its core busy: MLX's ring asks again and again whether something has come. Without `--processes`, `base_train`
# takes two on two cores, four on four or more, and one on a Mac or a GPU.
#
# ### Other machines
#
# How long do d12's gradients travel? And how many tokens must each of two machines compute in a step, so that messages take a tenth of its time? The speeds of the
# networks are those on the box. A machine is assumed to do 2 trillion operations a second, a little more than the laptop of chapter 19, section 7:

# %%
d12 = GPTConfig.from_depth(12)
bytes_sent = 4 * count_parameters(d12) * 2 * (2 - 1) / 2
print(f"each of two processes sends {bytes_sent / 1e6:.0f} MB in a step")
needed = {}
for network, gigabits in (("Wi-Fi or Ethernet", 1), ("Ethernet", 10), ("Thunderbolt 5", 80)):
    travels = bytes_sent / (gigabits * 1e9 / 8)
    needed[gigabits] = 9 * travels * 2e12 / flops_per_token(d12)
    print(f"{network:18s} {gigabits:2d} Gbit/s: {travels:5.2f} s, {needed[gigabits]:7,.0f} tokens")
claim("d12's usual half million tokens a step are plenty for two", needed[1] < 524_288 / 2)


# %% [markdown]
# With large batches even a slow network will do.
#
# ## 6. Several machines, and what fails
#
# For several machines MLX brings `mlx.launch`, which reads a **hostfile**, logs in by ssh and starts the same command everywhere:
#
# ```json
# [{"ssh": "mac1.local", "ips": ["192.168.1.11"]}, {"ssh": "mac2.local", "ips": ["192.168.1.12"]}]
# ```
#
# ```bash
# mlx.launch --hostfile hosts.json -- "$PWD/.venv/bin/python" -m course_lib.scripts.base_train --depth=12
# ```
#
# All machines need the same checkout, text and tokenizer (the run checks that), at the same paths. Process 0 writes the checkpoints. The **backend** says which way the numbers travel:
#
# | backend | for | what it needs |
# |---|---|---|
# | `ring` | any machines | a network |
# | `jaccl` | Macs with Thunderbolt 5 | macOS 26.2 or later; `rdma_ctl enable` once in Recovery; a hostfile that also lists the cables (`"rdma"`), which `mlx.distributed_config --backend jaccl` writes |
# | `nccl` | NVIDIA GPUs | MLX for CUDA, where `mlx.launch` takes it by itself: `mlx.launch -n 8 …` for eight GPUs |
# | `mpi` | clusters that have it | Open MPI |
#
# JACCL writes straight into the other Mac's memory (RDMA), so that a message starts sooner. Nothing but `ring`, on one machine, was run for this course. Which backends can
# your MLX start?

# %%
for name in ("ring", "jaccl", "nccl", "mpi"):
    print(f"{name:6s}", mx.distributed.is_available(name))


# %% [markdown]
# ### A process that never comes
#
# The commonest failure: one machine is off, or a firewall is in between. Here process 1 oversleeps. (`failure` gives back the sentence with which
# `in_a_ring` fails.)


# %%
def late():
    if os.environ["MLX_RANK"] == "1":
        time.sleep(600)
    return mx.distributed.init().size()


sentence = failure(late, 2, seconds=5)
print(sentence)
claim("it ends after seconds, in one sentence", "were not done after 5 seconds" in sentence)

# %% [markdown]
# The time-out is that of `in_a_ring`. MLX 0.32.4 has none here: process 0 waits for ever until its neighbour connects. (Only the last process, which connects before it waits, gives up,
# after half a minute, with `[ring] Couldn't connect`.) If a run on several machines prints nothing, look for the one that did not come.
#
# ### A process that goes away
#
# Say the system ends process 1 because memory has run out:


# %%
def killed():
    group = mx.distributed.init()
    if group.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return mx.distributed.all_sum(mx.array(1.0)).item()


sentence = failure(killed, 2, seconds=60)
print(sentence)
claim("the sentence says which process, and of what", "process 1 of 2 died of SIGKILL" in sentence)

# %% [markdown]
# `base_train --processes 2` says the same, since the same code watches its processes. By itself, process 0 would not know why: MLX raises a `RuntimeError`
# that begins with `[ring]`, since a neighbour is gone. Whoever watches both knows more.
#
# ## 7. When one machine cannot hold the model
#
# So far each process holds everything: weights, gradients, and what the optimizer remembers. **Fully sharded data parallel** training (FSDP, or ZeRO) gives each only a
# **shard**, an $n$-th of every array. Before a block computes, its weights are gathered from all; afterwards each process keeps its shard of the
# gradient. These are the two halves of section 2, apart.
#
# MLX has it: `nn.fully_shard(block)` wraps a block. On the ring?


# %%
def shard_and_differentiate():
    block = nn.fully_shard(nn.Linear(4, 4))
    loss, gradients = nn.value_and_grad(block, lambda x: block(x).sum())(mx.ones((1, 4)))
    mx.eval(loss, gradients)


sentence = failure(shard_and_differentiate, 2, seconds=60)
print(sentence)
claim("the way back asks for what the ring does not have", "sum_scatter" in sentence)

# %% [markdown]
# The way forward works, with `all_gather`. The way back wants a reduce-scatter, `sum_scatter`, which the documentation of MLX 0.32.4 promises for NCCL only. You know how to get one from what is
# there: add up everything, keep your own part. That sends twice as much as needed, and the numbers are right.


# %%
def sum_scatter(x, *, group=None, stream=None):
    """What MLX's ring lacks; x: (rows, …), each process gets the sum of its rows."""
    rows = len(x) // group.size()
    whole = mx.distributed.all_sum(x, group=group)
    return whole[group.rank() * rows : (group.rank() + 1) * rows]


# %% [markdown]
# The blocks are sharded. `wte` and `lm_head` stay whole, since chapter 08's loss reads the head's weight itself. The optimizer is AdamW: Muon needs a whole matrix to make it orthogonal, and a process has only some of its rows. `fully_shard` divides the sum by the number of processes, so the blocks' gradients come back as means.


# %%
def make_step(config, sharded, recompute, optimizer):
    """A function that does one training step of a model, whole or with sharded blocks."""
    group = mx.distributed.init()
    mx.distributed.sum_scatter = sum_scatter  # ours, in place of the missing one
    model = GPT(config, recompute)
    if sharded:
        model.transformer.h = [nn.fully_shard(block, group=group) for block in model.transformer.h]
    mx.eval(model.parameters())
    loss_and_gradients = nn.value_and_grad(model, model.loss)

    def step(number):
        ids = np.random.default_rng(number).integers(0, config.vocab_size, (4, 129))
        mine = mx.array(ids)[group.rank() :: group.size()]
        loss, gradients = loss_and_gradients(mine[:, :-1], mine[:, 1:])
        blocks = gradients["transformer"].pop("h") if sharded else []  # means already
        gradients = nn.average_gradients(gradients, group)
        if sharded:
            gradients["transformer"]["h"] = blocks
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state, loss)
        return loss.item()

    return step


# %%
def memory(config, sharded, recompute):
    """MB that stay between steps, MB at the peak of the third step, and the losses."""
    step = make_step(config, sharded, recompute, optim.AdamW(1e-3))
    losses = [step(0), step(1)]
    mx.clear_cache()
    stays = mx.get_active_memory()
    mx.reset_peak_memory()
    losses.append(step(2))
    return stays / 1e6, mx.get_peak_memory() / 1e6, losses


bill = {}
for way in ((False, False), (False, True), (True, False), (True, True)):
    bill[way] = in_a_ring(memory, 2, D4, *way)[0]
    stays, peak, losses = bill[way]
    print(f"{'sharded' if way[0] else 'whole':8s}{'computed again' if way[1] else '':15s}", end="")
    print(f"{stays:4.0f} MB stay, {peak:4.0f} MB at the peak, loss {losses[-1]:.4f}")

# %% [markdown]
# Is that what it should be? Between steps AdamW and the weights need 12 bytes for each parameter. Those of the blocks are halved, `wte` and `lm_head` are not.
# The whole model has its peak at the exchange, which adds the gradients, the message and the sum, 12 more bytes; recomputation does not help there.

# %%
in_blocks, outside = 12 * D4.n_layer * D4.n_embd**2, 2 * D4.vocab_size * D4.n_embd
predicted = 12 * (outside + in_blocks / 2) / 1e6, 24 * (outside + in_blocks) / 1e6
measured = bill[True, False][0], bill[False, False][1]
print("predicted MB", np.round(predicted), "| measured", np.round(measured))
claim("as predicted, to a twentieth", not ON_CPU or np.allclose(measured, predicted, rtol=0.05))
lowest = min(bill, key=lambda way: bill[way][1])
claim("the lowest peak is that of shards, computed again", not ON_CPU or lowest == (True, True))


# %% [markdown]
# Is it the same training? AdamW would hide a gradient that is twice too large, since it divides sizes out. So ask SGD, on the same four rows again and again:

# %%
def losses_by_sgd(config, sharded):
    step = make_step(config, sharded, False, optim.SGD(1.0))
    return [step(0) for _ in range(4)]


whole, sharded = (in_a_ring(losses_by_sgd, 2, D4, way)[0] for way in (False, True))
print("whole  ", *(f"{loss:.4f}" for loss in whole))
print("sharded", *(f"{loss:.4f}" for loss in sharded), "(loss of process 0's rows)")
claim("whole or sharded, it is the same training", np.allclose(whole, sharded, atol=1e-3))

# %% [markdown]
# With shards recomputation does help: else the gathered weights of all blocks wait for the way back, like activations (chapter 19). Now they are gathered a second time.
#
# And the price? Both kinds of steps in the same two processes, in turn:


# %%
def seconds_of_both(config, rounds):
    whole, sharded = (make_step(config, way, True, optim.AdamW(1e-3)) for way in (False, True))
    took = in_turn({"whole": lambda: whole(0), "sharded": lambda: sharded(0)}, rounds)
    return took["sharded"] / took["whole"]


slower = in_a_ring(seconds_of_both, 2, D4, budget(8, quick=2))[0]
print(f"a sharded step takes {slower:.2f} times as long")
claim("on idle cores, a sharded step is no faster", not TWO_IDLE or 0.95 < slower < 4)

# %% [markdown]
# What does each process send, in sizes of the weights, times $(n-1)/n$?
#
# | | to gather | the gradients | together |
# |---|---|---|---|
# | whole | – | 2, an all-reduce | 2 |
# | sharded | 1 forward, 1 to compute again | 1, a reduce-scatter | 3 |
# | sharded, with our stand-in | 2 | 2 | 4 |
#
# Shard when the model does
# not fit, and not before.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/20_processes_solutions.ipynb](solutions/20_processes_solutions.ipynb).
#
# ### Exercise 20.1 — pass it on
#
# 20 minutes, ●●○. Process 0 has a long array, cut into `pieces`; the others have nothing. In one tick each process may send **one** piece to its right
# neighbour, a piece that it had before the tick. Write `passing_on(size, pieces)`: a list of ticks, each a list of pairs (process, piece), after which all
# have everything, in as few ticks as possible. For 2 processes and 3 pieces: `[[(0, 0)], [(0, 1)], [(0, 2)]]`.
#
# <details><summary>Hint 1</summary>Draw 3 processes and 3 pieces. Process 1 can pass piece 0 on while process 0 is already sending piece 1.</details>
#
# <details><summary>Hint 2</summary>In tick t, process p sends piece t − p, if there is such a piece. The last process sends nothing. The last piece leaves process 0 in tick pieces − 1; how many more ticks does it travel?</details>


# %% tags=["exercise"]
def passing_on(size, pieces):
    raise NotImplementedError


# %%
check(exercises.passing_on, passing_on)

# %% [markdown]
# ### Exercise 20.2 — a careful step
#
# 20 minutes, ●●○. This step leaves the weight alone when the loss is above 10, as after a strange text. It has run for months, in one process:
#
# ```python
# def careful_step(weight, loss, gradient, group):
#     if loss.item() > 10:
#         return weight
#     mean = mx.distributed.all_sum(gradient, group=group) / group.size()
#     return weight - 0.1 * mean
# ```
#
# In several processes it hangs. Why? Write it so that all skip the step when the **mean of their losses** is above 10, as one process with all the rows
# would, and none otherwise. `loss` is an array with one number.
#
# <details><summary>Hint 1</summary>What does a process do whose loss is low, while another has returned already? Count the messages that each sends.</details>
#
# <details><summary>Hint 2</summary>Exchange first, decide afterwards: every process needs the same mean loss before its `if`.</details>


# %% tags=["exercise"]
def careful_step(weight, loss, gradient, group):
    raise NotImplementedError


# %%
check(exercises.careful_step, careful_step)

# %% [markdown]
# ## Summary
#
# - Data parallel: each process has the whole model and some of the rows; before each step all take the mean of their gradients.
# - A ring adds up in two rounds, reduce-scatter and all-gather, and nobody sends more than twice the array.
# - Every sum is finished in one place and copied, so weights that begin equal stay equal in every bit. Nothing brings them together again once they are apart.
# - Against one process, two micro-batches agree in every bit; more of them only up to rounding.
# - Muon's work is shared out, and the results are added up with zeros.
# - It pays when each process has many tokens in a step, whatever the size of the model, and while there are idle cores.
# - Shards save memory and cost messages.
#
# ## Pitfalls
#
# - A decision that a process takes from its own numbers: others wait for it, or their weights part (exercise 20.2).
# - Parts of different size, averaged as if they were equal (section 3).
# - Weights that do not begin equal: the loss falls all the same.
# - More processes than cores.
# - No time-out: a ring waits for ever for a process that never comes.
#
# ## Further reading
#
# - [Bandwidth optimal all-reduce algorithms for clusters of workstations](https://doi.org/10.1016/j.jpdc.2008.09.002), Patarasuk and Yuan, 2009: the ring, and why nothing sends less.
# - [ZeRO](https://arxiv.org/abs/1910.02054), Rajbhandari et al., 2019: sharding, in three stages.
# - [MLX: Distributed Communication](https://ml-explore.github.io/mlx/build/html/usage/distributed.html): backends, hostfiles, JACCL.
# - [Low-latency communication with RDMA over Thunderbolt](https://developer.apple.com/documentation/technotes/tn3205-low-latency-communication-with-rdma-over-thunderbolt), Apple.
#
# **Next:** [21 · nanochat of July 2026](21_nanochat_2026.ipynb): the model that nanochat became, idea by idea.

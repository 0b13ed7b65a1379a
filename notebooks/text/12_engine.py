# %% [markdown]
# # 12 · Generation
#
# **Goal.** Make a trained model write: fast, with a cache of keys and values, and well, by how the next token is chosen.
#
# | | |
# |---|---|
# | Needs | [07 · Attention](07_attention.ipynb), [08 · GPT](08_gpt.ipynb); the `Trainer` of chapter 10, without asking how it works |
# | Time | 65 minutes to read, 70 for the exercises; a minute or two to run |
# | Memory | under 3 GB |
# | You will build | a simple cache, batching by hand, and sampling → `course_lib.generate.sampling` |
#
# A GPT gives probabilities for *one* next token. A text is hundreds of tokens, one after the other, and somebody has to choose each of them. The
# loop that does this decides how fast the text comes and how good it is. By the end of section 2 a model writes the same ids as before, and in a long text the next token comes more than ten times as fast (on a CPU).

# %% [markdown]
# ![Map of the course: chapter 12 engine is marked, the last one of Part II; after 11 evaluation](images/map_12.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · **12** · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/12_engine.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export generate.sampling
"""One token from logits: temperature, top-k, top-p, min-p, and the draw."""

import math
import random

import mlx.core as mx

from course_lib.generate.cutoffs import keep_top_p, largest
from course_lib.model.head import fast_exp

# %%
import statistics
import time
import warnings
from contextlib import nullcontext
from importlib.util import find_spec
from itertools import islice, pairwise

import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import budget, check, claim
from course_lib.classroom import draw_generation as drawings
from course_lib.classroom.exercises import engine as exercises
from course_lib.classroom.other_engine import writers
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.cutoffs import keep_top_k
from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import KVCache, cache_bytes
from course_lib.model.attention import rms_norm, rotate
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.products import inference_mode
from course_lib.model.sizes import count_parameters
from course_lib.names.bigram import load_names
from course_lib.train.starter import load_starter
from course_lib.train.trainer import Trainer

backend.seed_everything(42)
print(backend.describe())
ON_CPU = backend.device_kind() == "cpu"  # where the numbers of the text were measured

# %% [markdown]
# ## 1. Why writing is slow
#
# First we need something that can write: a small GPT that learns names. The tokenizer has 256 bytes, nine special tokens and no merges
# (chapter 05), so a token is a letter. `<|bos|>` stands before each name, so it also says that a name is over.

# %%
names = load_names()
random.Random(42).shuffle(names)
unseen, names = names[:1000], names[1000:]
tokenizer = Tokenizer.train(names, 265)
text = mx.array([token for name in names for token in tokenizer.encode(name, bos=True)])
config = GPTConfig(128, tokenizer.vocab_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=64)
model = GPT(config)

# %%
num_steps = budget(600, quick=60)
trainer = Trainer(model, num_steps)
for step in range(1, num_steps + 1):
    ids = text[mx.random.randint(0, len(text) - 65, (16, 1)) + mx.arange(65)]  # (16, 65)
    loss = trainer.step([(ids[:, :-1], ids[:, 1:])]).loss
    if step % (num_steps // 3) == 0:
        print(f"step {step:3d}  loss {loss:.3f} nats per letter")


# %% [markdown]
# Now the loop that everybody writes first. All ids so far go in, the logits of the last position come out, and the likeliest id is
# appended. Always taking the likeliest is called **greedy**.


# %%
def write_slowly(model, ids, count):
    """`count` ids after `ids`, greedy; the whole text goes through the model for each."""
    ids = list(ids)
    for _ in range(count):
        logits = model(mx.array([ids]))[0, -1]  # (V,)
        ids.append(mx.argmax(logits).item())
    return ids[len(ids) - count :]


# %%
prompt = tokenizer.encode("anna", bos=True) + tokenizer.encode("mar", bos=True)
print(repr(tokenizer.decode(write_slowly(model, prompt, 30))))

# %% [markdown]
# Greedy text soon goes round in circles; section 4 is about better choices. What does the next token cost when the text is already long?
# This model is too fast to tell, so here is a larger one: the eight blocks of d8 and a small vocabulary, untrained, since for timing any weights will do. (Its head gets
# random weights, since zeros would write nothing but id 0.)

# %%
big_config = GPTConfig.from_depth(budget(8, quick=3), vocab_size=4096, sequence_len=1024)
big = GPT(big_config)
big.lm_head.weight = 0.05 * mx.random.normal(big.lm_head.weight.shape)
big.set_dtype(backend.compute_dtype())
mx.eval(big.parameters())
long_text = mx.random.randint(0, 4096, (1, 1024))


def medians(cases, rounds=7, in_a_row=1):
    """Median seconds, in turn; the first turn warms up, of several in a row the last counts."""
    seconds = {name: [] for name in cases}
    for _ in range(budget(rounds, quick=1) + 1):
        for name, run in cases.items():
            for _ in range(in_a_row):
                started = time.perf_counter()
                mx.eval(run())
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


# %%
LENGTHS = budget((64, 128, 256, 512), quick=(32, 64))
uncached = medians({n: lambda n=n: big(long_text[:, :n])[:, -1] for n in LENGTHS})
for n, seconds in uncached.items():
    print(f"the token after {n:3d} others: {1000 * seconds:6.1f} ms")
doublings = [uncached[b] / uncached[a] for a, b in pairwise(LENGTHS)]
steady = 1.3 < min(doublings) <= max(doublings) < 3
claim("each doubling costs 1.3 to 3 times", not ON_CPU or steady)

# %% [markdown]
# Twice the text, about twice the time, for a single token. (Less for short texts, since all weights are read in any case; more for long ones, whose attention scores grow with the square.) To write $n$ tokens in this way, $1 + 2 + \dots + n = n(n+1)/2$ positions
# go through the model. For 1,000 tokens that is half a million.
#
# ## 2. The KV cache
#
# ### What is computed again and again
#
# Under the causal mask no position sees a later one (chapter 07). What does that mean for a text that grows? Here are the scores of one head of our names model, each query with each key, for “•mari” and for “•maria”
# (• is `<|bos|>`):


# %%
def scores_of(ids):
    """What head 0 of block 0 computes: each query times each key, (T, T)."""
    attn, x = model.transformer.h[0].attn, rms_norm(rms_norm(model.transformer.wte.weight[ids]))

    def turned(linear):
        first_head = linear(x)[None, None, :, : attn.head_dim]  # (1, 1, T, D)
        return rms_norm(rotate(first_head, attn._inverse_frequencies))[0, 0]

    return turned(attn.c_q) @ turned(attn.c_k).T / attn.head_dim**0.5


# %%
ids = mx.array(tokenizer.encode("maria", bos=True))
before, after = scores_of(ids[:-1]), scores_of(ids)
drawings.draw_grids([*"•maria"], before.tolist(), after.tolist())
close = 1e-4 if ON_CPU else 0.1  # a GPU computes in bfloat16
claim("the old block is unchanged", mx.allclose(before, after[:-1, :-1], atol=close))

# %% [markdown]
# The new letter adds a row: its query with all keys. It adds a column as well, which the old queries do not see. So everything that was computed for the old
# positions stays as it was, in this block and hence in the next. What does the new row need of them? Their **keys**, and the **values** to mix. Not their queries: an old query has had its answer.
#
# ### A cache in 25 lines
#
# So keep keys and values, and send only the new token through the model. The cache is chapter 07's `TinyCache` again; what is new is the loop around it. Attention asks a cache for two things: `offset`, the position of the next
# token, and `update_and_fetch`, which takes new keys and values and gives back all of them. Each block gets one such object:


# %%
class SimpleLayer:
    """Keys and values of one block, joined anew for each token: (B, n_kv_head, positions, D)."""

    def __init__(self):
        self.offset, self.keys, self.values = 0, None, None

    def update_and_fetch(self, k, v):
        if self.keys is not None:
            k = mx.concatenate([self.keys, k], axis=2)
            v = mx.concatenate([self.values, v], axis=2)
        self.keys, self.values, self.offset = k, v, k.shape[2]
        return k, v


def write(model, ids, count):
    """`count` ids after `ids`, greedy; each id goes through the model once."""
    layers, new, written = [SimpleLayer() for _ in model.transformer.h], list(ids), []
    for _ in range(count):
        logits = model(mx.array([new]), layers)[0, -1]
        new = [mx.argmax(logits).item()]
        written += new
    return written


# %% [markdown]
# The first pass reads the whole prompt: **prefill**. Every later pass reads one token: **decoding**. Are the logits those of the whole text?

# %%
ids, layers = mx.array([prompt]), [SimpleLayer() for _ in model.transformer.h]
whole, pieces = model(ids), [model(ids[:, :3], layers)]
pieces += [model(ids[:, n : n + 1], layers) for n in range(3, ids.shape[1])]
apart = mx.abs(mx.concatenate(pieces, axis=1) - whole).max().item()
print(f"logits differ by {apart:.0e} at most")
claim("a prompt of 3, then one by one: the logits of the whole text", apart < close)
same = write(model, prompt, 40) == write_slowly(model, prompt, 40)
claim("and the slow loop's 40 ids", same or not ON_CPU)  # bfloat16 may break a near-tie

# %% [markdown]
# Who holds whom? The model holds blocks, the cache holds a part for each of them, and they meet only in a call, `model(ids, layers)`:

# %%
cache = KVCache(config)
mx.eval(model(ids, cache.layers))
drawings.draw_holders(config.n_layer, cache.layers[0].keys.shape, cache.lengths[0])

# %% [markdown]
# That is the package's `KVCache`. It differs in where it keeps the numbers. `SimpleLayer` joins old and new, so it copies *everything* for *every* token. `KVCache` makes its arrays with **room to spare**, 256 positions at a time (but never more than the model can use, here 128), and writes each new token into the next free place. What
# does that buy, for the cache alone and for a whole token of d8?

# %%
one, AT = long_text[:, :1], budget(900, quick=60)
k = v = mx.ones((1, big_config.n_kv_head, 1, big_config.head_dim), backend.compute_dtype())


def filled(layers, n):
    """The layers after they have read n tokens."""
    mx.eval(big(long_text[:, :n], layers))
    return layers


# %%
kinds = {"joined": [SimpleLayer() for _ in big.transformer.h]}
kinds["in place"] = KVCache(big_config).layers
kinds = {name: filled(layers, AT) for name, layers in kinds.items()}
apart = mx.abs(big(one, kinds["joined"]) - big(one, kinds["in place"])).max().item()
claim("both give the same logits", apart < close)
grown = {n: lambda c=c: [layer.update_and_fetch(k, v) for layer in c] for n, c in kinds.items()}
alone = medians(grown, rounds=15)
token = medians({n: lambda c=c: big(one, c) for n, c in kinds.items()}, rounds=15)
for name, times in {"the cache alone": alone, "a whole token": token}.items():
    print(f"{name:16s} joined takes {times['joined'] / times['in place']:5.2f} times as long")
times = alone["joined"] / alone["in place"]
claim("alone, writing in place is at least three times as fast", not ON_CPU or times > 3)
claim("a whole token is no slower in place", token["joined"] > 0.9 * token["in place"])

# %% [markdown]
# In a whole token the gain is smaller, since the weights take their time in either case. You write the room to spare yourself, in exercise 12.1.
#
# ### What a token costs now

# %%
layers = {n: filled(KVCache(big_config).layers, n) for n in LENGTHS}
cached = medians({n: lambda n=n: big(one, layers[n]) for n in LENGTHS}, rounds=15)
drawings.draw_times(uncached, cached)
short, long = LENGTHS[0], LENGTHS[-1]
print(f"after {long} tokens the cache makes it {uncached[long] / cached[long]:.0f} times faster")
claim("at least ten times", not ON_CPU or uncached[long] / cached[long] > 10)
claim("after the long text a cached token costs less than twice", cached[long] < 2 * cached[short])

# %% [markdown]
# Without a cache the line climbs with the text. With one it is nearly flat: one query looks at more keys, but that is little beside the
# matrices.
#
# ## 3. The speed of the memory
#
# ### What has to be read
#
# In training, a weight that has been fetched from memory is used for thousands of positions. In decoding it is used for *one*: a multiplication, an addition, and
# the next weight has to come. So a token can be no faster than the weights are read: all but `wte`, of which one row is looked up. The cache has to be read as well. For each of $n$ positions it holds, in each of $L$
# blocks, a key and a value for each of $H_{kv}$ kv heads, of $D$ numbers of $b$ bytes:
#
# $$ \text{bytes of a cache} = 2 \cdot L \cdot H_{kv} \cdot n \cdot D \cdot b $$

# %%
size = backend.compute_dtype().size
print(f"one text of 2,048 tokens, in MB; a number has {size} bytes")
print("      weights   cache   cache with one kv head")
saved = []
for depth in (4, 8, 12, 20):
    full, shared = GPTConfig.from_depth(depth), GPTConfig.from_depth(depth, n_kv_head=1)
    weights = (count_parameters(full) - full.vocab_size * full.n_embd) * size
    of_full, of_shared = cache_bytes(full, 1, 2048), cache_bytes(shared, 1, 2048)
    assert of_full == 2 * depth * full.n_kv_head * 2048 * full.head_dim * size
    print(f"d{depth:<3d} {weights / 1e6:8.0f} {of_full / 1e6:7.0f} {of_shared / 1e6:7.0f}")
    saved.append(of_full / of_shared == full.n_head and of_full < weights)
claim("one kv head divides the cache by the number of heads; weights outweigh both", all(saved))

# %% [markdown]
# For one text the weights outweigh the cache. But a server with a hundred texts holds a hundred caches and one set of weights. That is why large models share kv heads.
#
# ### How near do we come?
#
# How fast can this machine read? A matrix times a vector does little else, and NumPy does it well on a CPU; on a GPU we let MLX add up an array:


# %%
matrix, vector = np.ones((4096, 8192), np.float32), np.ones(8192, np.float32)  # 128 MB
array = mx.array(matrix)
reading = medians({"": (lambda: mx.array(matrix @ vector)) if ON_CPU else array.sum}, rounds=15)[""]
speed = matrix.nbytes / reading
read = sum(a.nbytes for name, a in tree_flatten(big.parameters()) if "wte" not in name)
print(f"memory {speed / 1e9:.1f} GB per second; a token reads {read / 1e6:.0f} MB of weights")
print(f"so no program can write more than {speed / read:.0f} tokens of one text per second here")


# %% [markdown]
# On a CPU, MLX has one routine for all matrix products, which first copies the matrix into an order that suits many rows. NumPy's `matrix @ vector` reads each number where it lies. `project`, which
# every linear layer of our model calls, takes NumPy's way for a single row and a large weight, if `with inference_mode():` promises that nobody wants a gradient:


# %%
def in_mode(mode):
    """One token after LENGTHS[0] others, in this mode."""
    with mode():
        return big(one, layers[LENGTHS[0]])


# %%
modes = {"through MLX alone": nullcontext, "in inference mode": inference_mode}
of_mode = medians({name: lambda m=mode: in_mode(m) for name, mode in modes.items()}, in_a_row=4)
share = {name: read / seconds / speed for name, seconds in of_mode.items()}
for name, seconds in of_mode.items():
    print(f"{name} {1000 * seconds:5.1f} ms per token, {share[name]:.0%} of the memory's speed")
claim("inference mode is no slower", share["in inference mode"] > 0.9 * share["through MLX alone"])
within = not ON_CPU or 0.03 < share["in inference mode"] < 1.2
claim("on a CPU it reaches some of the memory's speed, and does not beat it", within)

# %% [markdown]
# So here inference mode gained nothing; on some machines it does. (A GPU has routines for both, and nothing changes.) The memory is the ceiling, and we reach about a sixth of it. What takes the rest we did not measure; the many small operations, norms, rotations, the cache, each with a fixed cost, are the likely ones. (Each mode is timed for four tokens in a row, of which the last counts: NumPy's threads and MLX's stay awake for a moment after their work, and disturb each other.)
#
# ### FLOPs per byte
#
# A pass over $T$ tokens reads each weight once and does $2T$ operations (FLOPs) with it. Divide them by the
# bytes. In float32, with 4 bytes per weight, that is $T/2$: half an operation per byte in decoding, 128 for a prompt of 256. A machine has two limits: bytes per second, and operations per
# second. Which one do you hit? We measure both, and passes of several sizes:

# %%
square = mx.ones((2048, 2048), backend.compute_dtype())
peak = 2 * 2048**3 / medians({"": lambda: square @ square})[""]


def tokens_at_once(T):
    with inference_mode():
        return big(long_text[:, :T])


# %%
SIZES = (1, 2, 4, 8, 16, 64, 256)
passes = medians({T: lambda T=T: tokens_at_once(T) for T in SIZES}, rounds=5, in_a_row=4)
flops = 2 * read / size  # of one token: a multiplication and an addition per weight
points = {T: (T * flops / read, T * flops / seconds) for T, seconds in passes.items()}
drawings.draw_roof(points, speed, peak)
gain = {T: points[T][1] / points[1][1] for T in (8, 256)}
print(
    f"tokens per second: 8 in one pass {gain[8]:.1f} times those of one, 256 {gain[256]:.0f} times"
)
claim("8 tokens in one pass cost less than 8 passes", gain[8] > 1)
claim("one token at a time leaves most of the arithmetic idle", gain[256] > 2)
below = all(y < 1.3 * min(speed * x, peak) for x, y in points.values())
claim("no pass is far above the roof", below)

# %% [markdown]
# This picture is called a **roofline**. Where the roof slopes, memory is the limit; where it is flat, arithmetic is; an ideal program would touch it. Our dots lie well below: part of what several tokens share is not the reading, but the fixed costs of a pass. Prefill stands to the right, decoding at the far left. More tokens in a pass would move decoding to the right. A text
# has only one next token that is certain. (Guessing several and checking them in one pass is called speculative decoding.) But several *texts* have several: section 5 writes them together.
#
# ## 4. Choosing the next token
#
# ### One distribution
#
# To **sample** is to draw the next token by its probability. Softmax makes the probabilities: $e$ to the power of each logit, divided by the
# sum. The largest logit is subtracted first, so that no power overflows; it cancels out.


# %%
#| export generate.sampling
def probabilities(logits: mx.array) -> mx.array:
    """Softmax over the last axis."""
    weights = fast_exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


# %%
def next_after(beginning):
    """Logits (1, V) for what follows the beginning of a name."""
    return model(mx.array([tokenizer.encode(beginning, bos=True)]))[:, -1]


def label(token):
    return "•" if token == tokenizer.bos else tokenizer.decode([token])


# %%
ten = mx.argsort(-next_after("mar")[0])[:10]
letters = [label(token) for token in ten.tolist()]
logits = next_after("mar")[:, ten]  # (1, 10)
assert mx.allclose(probabilities(logits), mx.softmax(logits, axis=-1), atol=1e-5)
panels = {f"temperature {t}": probabilities(logits / t)[0].tolist() for t in (0.5, 1.0, 2.0)}
drawings.draw_distributions(panels, letters)
most = [max(panel) for panel in panels.values()]
claim("the higher the temperature, the less the leader has", most[0] > most[1] > most[2])

# %% [markdown]
# The middle panel shows the ten likeliest letters after “mar”, with their shares among these ten. A few lead, and then comes a long tail. The other panels
# show the **temperature** $\tau$: divide the logits by it before the softmax, $p_i \propto e^{z_i / \tau}$. Below 1 the leaders get more; above 1 all become more alike. $\tau \to 0$ is greedy. The order never
# changes, and nothing is left out.
#
# You want variety at the top, and nothing from far down the tail, where one odd letter spoils a name. So cut it off.
#
# ### Three ways to cut
#
# On four tokens that have 50, 25, 15 and 10 percent:
#
# - **Top-k** keeps the $k$ likeliest. Top-k of 3: the first three.
# - **Top-p** goes down from the likeliest until it has $p$ together. Top-p of 0.6: the first has 0.5, which is not enough; with the second it is 0.75, enough. Two stay.
# - **Min-p** keeps what has at least $p$ times the probability of the likeliest. Min-p of 0.25: at least 0.125. Three stay.
#
# What is cut gets the logit $-\infty$, so probability 0; the others grow in proportion. Min-p needs no softmax: a factor of $p$ between probabilities is a
# difference of $\ln p$ between logits.


# %%
#| export generate.sampling
def keep_min_p(logits: mx.array, p: float) -> mx.array:
    """-inf for what has less than p times the likeliest's probability (Nguyen et al., 2024)."""
    return mx.where(logits >= logits.max(axis=-1, keepdims=True) + math.log(p), logits, -mx.inf)


# %% [markdown]
# You write the other two in exercises 12.2 and 12.3; here we take the package's. The four tokens:

# %% tags=["nbval-check-output"]
four = mx.log(mx.array([[0.5, 0.25, 0.15, 0.1]]))
kept = {"top-k 3": keep_top_k(four, 3), "top-p 0.6": keep_top_p(four, 0.6)}
kept["min-p 0.25"] = keep_min_p(four, 0.25)
for name, some in kept.items():
    print(f"{name:10s}", [round(p, 2) for p in probabilities(some)[0].tolist()])

# %% [markdown]
# Where do they differ? After “alexand” our model is fairly sure of the next letter. At the beginning of a name almost any will do:

# %%
RULES = {"top-k 5": (keep_top_k, 5), "top-p 0.9": (keep_top_p, 0.9), "min-p 0.1": (keep_min_p, 0.1)}
contexts, kept = {}, {name: {} for name in RULES}
for beginning in ("•alexand", "•"):
    z = next_after(beginning[1:])
    best = mx.argsort(-z[0])[:26].tolist()
    contexts[beginning] = [label(n) for n in best], probabilities(z)[0][mx.array(best)].tolist()
    for name, (rule, number) in RULES.items():
        kept[name][beginning] = (rule(z, number) > -mx.inf).sum().item()
drawings.draw_cutoffs(contexts, kept)
for name in ("top-p 0.9", "min-p 0.1"):
    few, many = kept[name].values()
    claim(f"{name} keeps fewer letters where the model is sure", few < many)
claim("top-k keeps five in both", set(kept["top-k 5"].values()) == {5})

# %% [markdown]
# Top-k is blind to what the model knows: it keeps five letters in both rows, where the second has many more good ones. The other two adapt.
#
# ### The draw
#
# Lay the probabilities side by side from 0 to 1. A random number between 0 and 1 falls into one of the pieces, and into each with
# its probability. The ends of the pieces are running sums. (What has probability 0 has no piece. Its end is put out of reach, since sums are rounded.)


# %%
#| export generate.sampling
def draw(logits: mx.array, uniform: mx.array) -> mx.array:
    """One index for each row (B, n), with its softmax probability: (B,).

    Lay the probabilities side by side from 0 to 1: uniform (B, 1), 0 <= u < 1, falls into one of
    them. What has probability 0 is never drawn, in whatever order the device adds up.
    """
    probs = probabilities(logits)
    ends = mx.where(probs > 0, mx.cumsum(probs, axis=-1), 0)
    # u < 1, so the largest end is beyond u times itself: one is always found
    return mx.argmax(ends > uniform * ends.max(axis=-1, keepdims=True), axis=-1)


# %%
chosen = draw(logits, mx.array([[0.62]])).item()
drawings.draw_pieces(letters, probabilities(logits)[0].tolist(), 0.62, chosen)

# %% [markdown]
# MLX has a function of its own for this, `mx.random.categorical`. Do both give what the model wants, in 100,000 draws? And here is the first of
# two bugs that only the text shows: `mx.random.categorical` takes **logits**. What if you give it probabilities?

# %%
many = mx.broadcast_to(logits, (100_000, 10))


def shares(tokens):
    """How often each of the ten letters was drawn, as shares."""
    return np.bincount(np.array(tokens), minlength=10) / len(tokens)


# %%
wanted = np.array(probabilities(logits)[0], float)
found = {
    "ours": shares(draw(many, mx.random.uniform(shape=(100_000, 1)))),
    "MLX's": shares(mx.random.categorical(many)),
    "MLX's, given probabilities": shares(mx.random.categorical(probabilities(many))),
}
print(f"{'wanted':27s}", wanted.round(2).tolist())
for name, drawn in found.items():
    print(f"{name:27s}", drawn.round(2).tolist())
off = {name: np.abs(drawn - wanted).max() for name, drawn in found.items()}
claim("ours and MLX's agree with the model", max(off["ours"], off["MLX's"]) < 0.01)
claim("given probabilities, it does not", off["MLX's, given probabilities"] > 0.05)

# %% [markdown]
# Probabilities lie between 0 and 1, so the softmax inside makes them nearly equal. No error: the text becomes noise, and you blame the training.
#
# The second bug is about top-k. `mx.topk` gives the $k$ largest numbers *in any order*. (Below they happen to come in ascending order, so the last is the largest. Nothing promises that.) If you take the last one for the smallest,
# as [this port of nanochat to MLX](https://github.com/scasella/nanochat-mlx/blob/187b5ff830cf06655185d8567650cdfb425daca1/nanochat_mlx/engine.py) does, you may get any of the $k$:

# %%
shuffled = mx.array([[2.0, 9.0, 4.0, 7.0, 1.0, 8.0, 3.0, 6.0, 5.0, 0.0]])
top = mx.topk(shuffled, 4, axis=-1)
print("mx.topk gives", top[0].tolist())
print("at least the last of them:    ", (shuffled >= top[:, -1:]).sum().item(), "of 4 wanted")
print("at least the smallest of them:", (shuffled >= top.min(axis=-1, keepdims=True)).sum().item())

# %% [markdown]
# The order differs between backends, so this bug may show on one machine and hide on another.
#
# ### A random number for each text
#
# Several texts will be written together, and none of them may depend on its neighbours. So each needs random numbers that follow from the seed, the
# number of the text and the place in it, and from nothing else.


# %%
#| export generate.sampling
def token_key(seed: int, text: int, place: int) -> list[int]:
    """Key of one token: two 32-bit numbers that follow from seed, text and place alone."""
    bits = random.Random(f"{seed},{text},{place}").getrandbits(64)
    return [bits >> 32, bits & 0xFFFFFFFF]


# %% [markdown]
# MLX's function could do that as well, with a key for each row and `mx.vmap`, which applies a function to each row. It draws a random number for each *logit*, ours one for each *row*. Is ours faster, then? Eight rows of 65,536 logits:

# %%
eight = mx.random.normal((8, budget(65_536, quick=4096)))
keys = mx.array([token_key(42, n, 0) for n in range(8)], dtype=mx.uint32)


def one_per_row():
    return draw(eight, mx.vmap(lambda key: mx.random.uniform(key=key))(keys)[:, None])


def one_per_logit():
    return mx.vmap(lambda z, key: mx.random.categorical(z, key=key))(eight, keys)


# %%
times = medians({"row": one_per_row, "logit": one_per_logit}, rounds=15)
print(f"a number for each logit takes {times['logit'] / times['row']:.2f} times as long")
about = not ON_CPU or 0.5 < times["logit"] / times["row"] < 2
claim("on a CPU both take about as long", about)

# %% [markdown]
# So speed is no reason. We keep ours because you can see through it: one number decides, the orange line of the picture.
#
# ### All of it
#
# The order is: top-k, temperature, top-p, min-p, draw. Top-k may come first, since temperature does not change which tokens are the largest, and everything after it works on $k$ numbers only. (`largest` finds them without sorting.) And one guard: logits that are not numbers (NaN) must not look like a choice. −1 says so.


# %%
#| export generate.sampling
def sample(
    logits: mx.array,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    key: mx.array | None = None,
) -> mx.array:
    """One token for each row of logits (B, V): (B,) int32, -1 where there are NaN among the logits.

    temperature 0 takes the likeliest. Otherwise top_k, top_p and min_p each leave out tokens of
    what the one before has left, and logits are divided by the temperature after top_k.
    key: of mx.random, one (2,), or one for each row (B, 2): then a row's token does not depend on
    the others.
    """
    best = logits.max(axis=-1, keepdims=True)  # (B, 1), NaN where there is one
    ids = None
    if temperature == 0:
        choice = mx.argmax(logits, axis=-1)
    else:
        if top_k is not None and top_k < logits.shape[-1]:
            logits, ids = largest(logits, top_k)
        logits = (logits - best) / temperature
        if top_p is not None and top_p < 1:
            logits = keep_top_p(logits, top_p)
        if min_p is not None and min_p > 0:
            logits = keep_min_p(logits, min_p)
        if key is not None and key.ndim == 2:
            uniform = mx.vmap(lambda key: mx.random.uniform(key=key))(key)[:, None]
        else:
            uniform = mx.random.uniform(shape=best.shape, key=key)
        choice = draw(logits, uniform)  # (B,)
    if ids is not None:
        choice = mx.take_along_axis(ids, choice[:, None], axis=-1)[:, 0]
    return mx.where(mx.isnan(best[:, 0]), -1, choice.astype(mx.int32))


# %%
for settings in ({"temperature": 0}, {"top_k": 3}, {"temperature": 0.7, "top_p": 0.9}):
    drawn = shares(sample(many, **settings, key=mx.random.key(1)))
    print(settings, {a: round(p, 2) for a, p in zip(letters, drawn.tolist(), strict=True) if p})
assert sample(mx.array([[1.0, mx.nan]])).item() == -1

# %% [markdown]
# ### What the model thinks of a text
#
# The logarithm of a token's probability is its **logprob**; the sum over a text is the logarithm of the whole text's probability. Logprobs answer
# a question that no sample answers: what does the model think of *this* text? Does it like real names better than their letters shuffled? It has seen neither.


# %%
def logprobs(name):
    """ln p of each letter of a name, and of its end, given what stands before."""
    ids = tokenizer.encode(name, bos=True)
    p = probabilities(model(mx.array([ids]))[0])  # (T, V): row t is for what follows t
    chosen = mx.array([*ids[1:], tokenizer.bos])[:, None]
    return mx.log(mx.take_along_axis(p, chosen, axis=-1))[:, 0].tolist()


def mean_logprob(names):
    return np.mean([value for name in names for value in logprobs(name)])


# %%
found = zip([*"karolina", "end"], logprobs("karolina"), strict=True)
print(*(f"{letter} {value:.1f}" for letter, value in found))
for seed in range(2):
    some = random.Random(seed).sample(unseen, budget(200, quick=10))
    mixed = ["".join(random.Random(seed).sample(name, len(name))) for name in some]
    real, shuffled = mean_logprob(some), mean_logprob(mixed)
    print(f"unseen names {real:.2f}, their letters shuffled {shuffled:.2f} per letter")
    claim("real names are likelier than their letters", real > shuffled + 0.3)

# %% [markdown]
# ### In words
#
# Letters are easy to count, but in the end you sample words. The course comes with a small model that has read the documentation of Python, the **starter model**. It continues 16 documents that it has never seen, by
# 80 tokens each. How likely does the model itself find each text, and how often does the text repeat itself? (A repeat is four tokens in a row that stood in this text before.)

# %%
SETTINGS = {
    "greedy": {"temperature": 0},
    "temperature 0.7": {"temperature": 0.7},
    "top-p 0.9": {"top_p": 0.9},
    "temperature 1": {},
    "temperature 1.5": {"temperature": 1.5},
    "1.5 and min-p 0.1": {"temperature": 1.5, "min_p": 0.1},
}


writer, words = load_starter("base")


def judge(prompt, ids):
    """Nats per token that the model gives `ids` after the prompt, and the share of repeats."""
    both = mx.array([prompt + (ids or [words.bos])])  # it may end at once
    nats = writer.loss(both[:, :-1], both[:, 1:], "none")[0, len(prompt) - 1 :].mean().item()
    fours = [tuple(ids[n : n + 4]) for n in range(len(ids) - 3)]
    return nats, (len(fours) - len(set(fours))) / max(len(fours), 1)


# %%
held_out = words.encode_batch(list(islice(open_dataset().documents("val"), 100)), bos=True)
held_out = [ids for ids in held_out if len(ids) >= 104][: budget(16, quick=2)]
prompts, author = [ids[:24] for ids in held_out], Engine(writer, words)
texts = {}
for name, settings in SETTINGS.items():
    written = author.generate_batch(prompts, 80, **settings)
    texts[name] = [generation.ids for generation in written]
texts["real"] = [ids[24:104] for ids in held_out]
points = {name: np.array(list(map(judge, prompts, some))) for name, some in texts.items()}
for name, some in texts.items():
    print(f"{name:18s}{' '.join(words.decode(prompts[0][1:] + some[0]).split())[:220]}")
drawings.draw_settings(points)


# %%
def apart_in(column, lower, higher):
    """Whether `higher` has more, on the same prompts, by over three standard errors."""
    gains = points[higher][:, column] - points[lower][:, column]
    return gains.mean() > 3 * gains.std(ddof=1) / len(gains) ** 0.5


# %%
claim("greedy repeats itself more than real text", apart_in(1, "real", "greedy"))
claim("and the model finds it likelier than real text", apart_in(0, "greedy", "real"))
nats = {name: marks[:, 0].mean() for name, marks in points.items()}
nearest = min(SETTINGS, key=lambda name: abs(nats[name] - nats["real"]))
claim("at temperature 1 texts are the nearest to real ones", nearest == "temperature 1")
claim("at 1.5 less likely", apart_in(0, "real", "temperature 1.5"))
claim("min-p brings them back", apart_in(0, "1.5 and min-p 0.1", "temperature 1.5"))

# %% [markdown]
# Each dot is a text, the dotted line the mean of real ones. The likeliest text is *not* the best one: people do not write what is likeliest (Holtzman et al., 2020). Greedy runs in circles; a high temperature
# falls apart. And at 1, texts surprise the model about as much as real ones do: there you draw from just what it believes. Most people take 0.7 to 1, with top-p or min-p against the tail.
#
# ## 5. The engine
#
# ### Several samples of one prompt
#
# Now put it together. Read the prompt once and copy its cache for each sample. Then each pass reads one token of every text, a **row** of the batch. For that a `KVCache` can hold several rows: `rows=0` begins empty, `append` copies another cache in as new rows, `remove(r)` takes one out. `engine.stops` are the ids that end a text:

# %%
engine = Engine(model, tokenizer)


def until_end(ids):
    """The ids before the one that ends a text."""
    stop = next((n for n, token in enumerate(ids) if token in engine.stops), len(ids))
    return list(ids[:stop])


def samples(prompt, count, max_tokens=20, seed=42, **settings):
    """`count` texts after one prompt, which is read once."""
    read, rows, columns = KVCache(model.config), KVCache(model.config, rows=0), []
    logits = model(mx.array([prompt]), read.layers)[:, -1]  # (1, V)
    rows.append(read, times=count)
    logits = mx.broadcast_to(logits, (count, logits.shape[-1]))
    for place in range(max_tokens):
        keys = mx.array([token_key(seed, n, place) for n in range(count)], dtype=mx.uint32)
        tokens = sample(logits, **settings, key=keys)  # (count,)
        columns.append(tokens.tolist())
        logits = model(tokens[:, None], rows.layers)[:, -1]  # (count, V)
    return [until_end(ids) for ids in zip(*columns, strict=True)]


# %%
wild = {"temperature": 1.5}
for settings in ({"temperature": 0.5}, {}, wild, wild | {"min_p": 0.2}):
    found = samples([tokenizer.bos], 8, **settings)
    print(settings or "temperature 1", *(tokenizer.decode(ids) for ids in found))

# %% [markdown]
# Careful, as trained, wild, and wild with its tail cut off. The package's `Engine` does the same and adds what a program needs: rows that have ended leave, a bad request is refused in a sentence, a text that
# fills `sequence_len` ends and says so, a beginning that was read before is not read again, a tool may be called (chapter 14), and on a GPU the next step begins before Python has looked at this one. Does it write the same?

# %%
mine = samples([tokenizer.bos], 16)
theirs = engine.generate_batch([[tokenizer.bos]] * 16, max_tokens=20)
same = mine == [generation.ids for generation in theirs]
claim("ours and the package's engine write the same 16 names", same or not ON_CPU)
same = samples([tokenizer.bos], 3) == mine[:3]
claim("a sample is the same however many there are", same or not ON_CPU)
firsts = [ids[0] for ids in mine if ids]
print("first letters:", *(label(token) for token in firsts))
claim("the samples begin with different letters", len(set(firsts)) > 3)

# %% [markdown]
# The last claim is not idle. nanochat (October 2025) drew *one* first token and gave it to all samples. All of these names would then begin alike.
#
# What do eight samples of a long prompt cost? It is read once, whether one text follows or eight:

# %%
long_prompt = long_text[0, : budget(400, quick=60)].tolist()
big_engine = Engine(big, tokenizer, keep_prefixes=0)
starts = {n: lambda n=n: mx.array(next(big_engine.generate(long_prompt, n))[0]) for n in (1, 8)}
firsts = medians(starts)
print(f"first tokens of 8 samples: {firsts[8] / firsts[1]:.2f} times the time of one sample's")
claim("far less than 8 times", firsts[8] < 4 * firsts[1])

# %% [markdown]
# ### Rows of different lengths
#
# Prompts differ in length, and texts end at different places. Four beginnings of names, each read by itself and put together into one cache:

# %%
beginnings = ["ka", "christop", "m", "eliza"]
prompts = [tokenizer.encode(beginning, bos=True) for beginning in beginnings]
together = KVCache(config, rows=0)
for ids in prompts:
    alone = KVCache(config)
    model(mx.array([ids]), alone.layers)
    together.append(alone)
drawings.draw_rows(["•" + beginning for beginning in beginnings], width=10)

# %% [markdown]
# The box *new* is where a row's next token goes, another place in each row. So `offset` is now an array, one number for each row, and the rotation (chapter 07) turns each query
# by its own position. An array is a rectangle: the hatched boxes come back from the cache as well, and a **mask** must hide them. Position $s$ may be seen if $s \le$ the row's own
# offset. What if all rows shared the position and the mask of the longest?

# %%
new, held = mx.array([tokenizer.encode(letter) for letter in "trai"]), together.lengths
together.lengths = [max(held)] * 4  # wrong
shared = model(new, together.layers)[:, -1]
together.lengths = held
own = model(new, together.layers)[:, -1]
for name, some in {"own": own, "shared": shared}.items():
    off = []
    for row, ids in enumerate(prompts):
        alone = model(mx.array([ids + new[row].tolist()]))[0, -1]
        off.append(mx.abs(some[row] - alone).max().item())
    print(f"{name:6s} place and mask: logits are off by", *(f"{each:.4f}" for each in off))
    if name == "own":
        claim("with its own, a row gets the logits that it gets alone", max(off) < close)
    else:
        claim("with a shared one, the three short rows do not", sorted(off)[1] > 0.01)

# %% [markdown]
# No error, only worse text, which depends on its neighbours.
#
# ### Join, leave, step
#
# So prompts of any length can be continued together, and a row that has ended makes room for the next prompt while the others go on. That is the whole idea of **continuous batching**. (In this short form a freed row stays empty for one step.)


# %%
def write_all(prompts, count, max_rows):
    """Greedy texts of up to `count` ids after each prompt, at most `max_rows` of them at once."""
    written, waiting = [[] for _ in prompts], list(range(len(prompts)))
    cache, rows, last = KVCache(model.config, rows=0), [], []  # row r writes text rows[r]
    while waiting or rows:
        while waiting and len(rows) < max_rows:  # join
            alone, n = KVCache(model.config), waiting.pop(0)
            last.append(mx.argmax(model(mx.array([prompts[n]]), alone.layers)[0, -1]).item())
            rows.append(n)
            cache.append(alone)
        for r in reversed(range(len(rows))):
            if last[r] in engine.stops or len(written[rows[r]]) == count:  # leave
                cache.remove(r)  # the last row moves to its place
                rows[r], last[r] = rows[-1], last[-1]
                del rows[-1], last[-1]
            else:
                written[rows[r]].append(last[r])
        if rows:  # step
            logits = model(mx.array(last)[:, None], cache.layers)[:, -1]
            last = mx.argmax(logits, axis=-1).tolist()
    return written


# %%
found = write_all(prompts, 12, max_rows=2)
for beginning, ids in zip(beginnings, found, strict=True):
    print(f"{beginning:>8s} + {tokenizer.decode(ids)}")
theirs = engine.generate_batch(prompts, 12, max_rows=2, temperature=0)
same = found == [generation.ids for generation in theirs]
slowly = found == [until_end(write_slowly(model, ids, 12)) for ids in prompts]
claim("the package's engine and the slow loop write the same", same and slowly or not ON_CPU)

# %% [markdown]
# The plain alternative continues a group of prompts until *all* are done, and then takes the next group. How many steps do twelve texts
# need, three at a time?

# %% tags=["nbval-check-output"]
lengths = [3, 12, 5, 9, 2, 4, 14, 3, 6, 2, 8, 4]
groups = [lengths[n : n + 3] for n in range(0, 12, 3)]
in_groups = sum(max(group) for group in groups)
print("in groups:", " + ".join(str(max(group)) for group in groups), "=", in_groups, "steps")
print("with three rows always full:", math.ceil(sum(lengths) / 3), "steps")

# %% [markdown]
# How near does continuous batching come to the second number? Exercise 12.4 counts. (`BatchEngine` in `course_lib/serve` makes a server of it: many threads put in requests, a single one runs the steps. Chapter 16 explains it.)
#
# ### Against somebody else's
#
# mlx-lm, by the authors of MLX, can read our weights (chapter 08). It need not be on your machine. The same process, the same weights, one text, greedy:


# %%
if find_spec("mlx_lm"):
    with warnings.catch_warnings(action="ignore"):  # about widgets that are not there
        from mlx_lm.generate import generate_step
        from mlx_lm.models import nanochat

    both = writers(big_engine, nanochat, generate_step, long_prompt[:60], budget(32, quick=4))
    same = both["ours"]().tolist() == both["mlx-lm"]().tolist()
    claim("the same ids", same or not ON_CPU)
    times = medians(both)
    print(f"mlx-lm takes {times['mlx-lm'] / times['ours']:.2f} times as long as ours")
    claim("ours needs no more than 1.5 times the time", times["ours"] < 1.5 * times["mlx-lm"])

# %% [markdown]
# So what the package's engine adds does not make it slow. (In this process both use the fast matrix products that the course brings, chapter 00.)
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/12_engine_solutions.ipynb](solutions/12_engine_solutions.ipynb).
#
# ### Exercise 12.1 — a cache with room to spare
#
# 20 minutes, ●●○. Write `RoomyLayer(rows, heads, room, head_dim)` for one block, all rows equally long. `keys` and `values` are made once, zeros (rows, heads, room, head_dim), and never joined
# with anything. `offset` is 0 at first. `update_and_fetch(k, v)` writes k and v, (rows, heads, T, head_dim), into the next T places and returns all keys and all values so far, without the empty room.
#
# <details><summary>Hint 1</summary>
#
# `array[:, :, 3:5] = k` puts two positions into places 3 and 4.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The new end is `self.offset + k.shape[2]`. Write into the places from the old offset to the end, set the offset, return the places up to the end.
#
# </details>


# %% tags=["exercise"]
class RoomyLayer:
    def __init__(self, rows, heads, room, head_dim):
        raise NotImplementedError

    def update_and_fetch(self, k, v):
        raise NotImplementedError


# %%
check(exercises.roomy_layer, RoomyLayer)


# %% [markdown]
# ### Exercise 12.2 — top-k
#
# 15 minutes, ●○○. Write `top_k(logits, k)`: logits (B, V) in which each row keeps its k largest, in their places, and has `-mx.inf` everywhere else. Leave the array that you are given as it is.
#
# <details><summary>Hint 1</summary>
#
# Find the smallest logit that may stay, one for each row. Then `mx.where` compares.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `mx.sort(logits, axis=-1)` sorts upwards: the k-th largest is at place −k. Keep its axis, (B, 1), so that each row is compared with its own.
#
# </details>


# %% tags=["exercise"]
def top_k(logits, k):
    raise NotImplementedError


# %%
check(exercises.top_k, top_k)


# %% [markdown]
# ### Exercise 12.3 — top-p
#
# 20 minutes, ●●○. Write `top_p(logits, p)` in the same form: from the likeliest on, tokens stay until they have p together. So a token stays if those likelier than it have less than p in
# all. The likeliest always stays.
#
# <details><summary>Hint 1</summary>
#
# In the order from large to small, `mx.cumsum` of the probabilities includes the token itself. What do those *before* it have?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Sort the logits downwards: `-mx.sort(-logits, axis=-1)`. Where the sum before is less than p, the logit stays; the smallest of those is the row's limit, and the limit is compared with
# the logits in their old places.
#
# </details>


# %% tags=["exercise"]
def top_p(logits, p):
    raise NotImplementedError


# %%
check(exercises.top_p, top_p)


# %% [markdown]
# ### Exercise 12.4 — count the steps
#
# 15 minutes, ●●○. Write `steps_needed(lengths, max_rows)`: texts of these lengths (in steps, 1 or more) wait in this order.
# A free row takes the next text at once; all rows move on by one at each step. After how many steps is everything written?
# Then compare with the two numbers of section 5.
#
# <details><summary>Hint 1</summary>
#
# What does each row still have to write? Play the three rows of section 5 on paper for a few steps.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Keep a list with what each row has left. Fill it up from the queue, take away one from each, throw out the zeros, count.
#
# </details>


# %% tags=["exercise"]
def steps_needed(lengths, max_rows):
    raise NotImplementedError


# %%
check(exercises.steps_needed, steps_needed)

# %% [markdown]
# ## Summary
#
# - Without a cache each token costs a pass over the whole text, with one a pass over one token. The ids are the same, since no position sees a later one.
# - A cache that joins old and new copies everything each time. One with room to spare writes in place.
# - One token at a time uses half an operation per byte, so the memory sets the upper limit. Several tokens in one pass cost less than several passes.
# - Temperature changes how even the probabilities are. Top-k, top-p and min-p cut off the tail, the last two by how sure the model is.
# - The likeliest text is not the best: greedy goes round in circles.
# - Texts that are written together each need their own place, mask and random numbers.
# - Continuous batching: rows join and leave between two steps.
#
# ## Pitfalls
#
# - Probabilities given to `mx.random.categorical`, which wants logits: nearly even draws, and no error (section 4).
# - A threshold from an unsorted `mx.topk`: another number of tokens stays, depending on the machine (section 4).
# - A cache that copies itself for each token: right ids, and the time grows with the text (section 2).
# - One first token for all samples of a prompt: they begin alike (section 5).
# - One mask for rows of different lengths: short rows see what is not theirs (section 5).
#
# ## Further reading
#
# - [The Curious Case of Neural Text Degeneration](https://arxiv.org/abs/1904.09751), Holtzman et al., 2020: top-p, and why
#   the likeliest text is a bad text.
# - [Turning Up the Heat: Min-p Sampling](https://arxiv.org/abs/2407.01082), Nguyen et al., 2024.
# - [Roofline](https://doi.org/10.1145/1498765.1498785), Williams, Waterman and Patterson, 2009: the picture of section 3.
# - [Orca](https://www.usenix.org/conference/osdi22/presentation/yu), Yu et al., 2022: continuous batching.
# - [Speculative Decoding](https://arxiv.org/abs/2211.17192), Leviathan et al., 2023: several tokens of *one* text in a pass.
#
# **Next:** [13 · Conversations](13_conversations.ipynb), where Part III begins: a model that completes text becomes one that answers.

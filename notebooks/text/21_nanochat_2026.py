# %% [markdown]
# # 21 · nanochat of July 2026
#
# **Goal.** Rebuild your GPT as nanochat builds it nine months later: a dozen ideas, most of them small enough to draw, added one after the other on the same text with the same seeds.
#
# | | |
# |---|---|
# | Needs | [08 · GPT](08_gpt.ipynb), [09 · Muon](09_muon.ipynb), [10 · Training](10_training.ipynb), [11 · Evaluation](11_evaluation.ipynb), [12 · Engine](12_engine.ipynb) |
# | Time | 70 minutes to read, 45 for the exercises; half a minute to run |
# | Memory | under 1 GB |
# | You will build → exported to | the model → `course_lib.model.gpt2026`; its optimizer and schedules → `course_lib.train.muon2026`, `train.schedule2026`; its rows → `course_lib.data.best_fit` |
#
# Everything so far was the model of October 2025. nanochat has moved on since. In January 2026, with most of this chapter's ideas in, its
# author needed 3.04 hours to reach GPT-2's score, and 1.65 in March; about half of that came with another text (section 11). This
# chapter takes the new model and its optimizer apart, idea by idea, and gives each of them a chance to fail.

# %% [markdown]
# ![Map of the course: chapter 21 nanochat 2026 is marked, in Part IV, after 20 processes](images/map_21.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · **21** · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/21_nanochat_2026.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export model.gpt2026
"""The GPT of nanochat (July 2026): the one of October 2025 plus some new ideas.

What is new: the stream and the embedding reach each block in shares that are learned; each token is
smeared with the one before it; a share of what it held half-way up is taken out at the end; every
second block has a table of values of its own; most blocks look back through a short window; queries
and keys are longer; rotary positions turn more slowly.

Source: nanochat (July 2026), commit 92d63d4; the parameters have its names.
"""

import mlx.core as mx
import mlx.nn as nn

from course_lib import backend
from course_lib.model.attention import CausalSelfAttention, Linear, rms_norm
from course_lib.model.config2026 import GPT2026Config, init_weights_2026
from course_lib.model.embedding import look_up
from course_lib.model.gpt import GPT, Block
from course_lib.model.mask import causal_mask

# %%
import json
import math
from itertools import cycle, islice

import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from course_lib.classroom import add_to, budget, check, claim, ladder2026, stored
from course_lib.classroom import draw_2026 as draw
from course_lib.classroom import draw_2026_rows as draw_rows
from course_lib.classroom import draw_2026_steps as draw_steps
from course_lib.classroom.exercises import nanochat2026 as exercises
from course_lib.data.dataset import open_dataset
from course_lib.generate.kv_cache import KVCache, cache_bytes
from course_lib.model import sizes as model_sizes
from course_lib.model.gpt import GPTConfig
from course_lib.train.muon import COEFFICIENTS, newton_schulz
from course_lib.train.starter import load_starter

backend.seed_everything(42)

# %% [markdown]
# Here is where the chapter is going. The same text, the same number of tokens, six seeds: the model of chapter 08 with chapter 09's optimizers at the
# top, and below it an idea (or two that belong together) more in each line. Lower is better.

# %%
ladder = stored("ladder_2026", ladder2026.climb)
draw.draw_ladder(ladder)

# %% [markdown]
# Which of these steps are more than luck is the subject of section 11. First you need to know what they are.
#
# ## 1. Shortcuts for the stream
#
# In the model of October each block adds to the residual stream, and the stream is all that the next block gets. Three ideas make it easier
# for a token to stay visible. The drawing has all of them, for four blocks:

# %%
draw.draw_stream(4)

# %% [markdown]
# **Shares.** Before block $i$ the stream becomes $r_i\,x + z_i\,x_0$, where $x_0$ is what entered the first block. Both are single numbers, learned, and begin
# with $r$ from 1.15 down to 1.05 and $z$ from 0.2 to 0.05. As long as the blocks add nothing (every `c_proj` begins at zero), the stream is a multiple of
# $x_0$. Which multiple?

# %%
r, z, x = np.linspace(1.15, 1.05, 4), np.linspace(0.2, 0.05, 4), 1.0
for n in range(4):
    x = r[n] * x + z[n] * 1.0
    print(f"into block {n}: {x:.2f} times x0")

# %% [markdown]
# Each block reads a *normed* copy, so the multiple itself changes nothing. What changes is how much the token itself weighs against what the blocks have
# added, and the model can set that for each block.
#
# **Smear.** Each embedding gets a share of the one before it: $e_t + \lambda\,\sigma(w \cdot e_t[{:}24])\,e_{t-1}$. The gate looks at 24 numbers of the token and decides how much of its
# predecessor it wants. Pairs of tokens are the cheapest context there is (chapter 01!), and in October an attention head had to learn to fetch
# them. $\lambda$ begins at 0, so at first nothing is smeared. By hand, with three tokens of two numbers and a gate of one half:

# %%
e, gate = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]]), 0.5
before = np.concatenate([np.zeros((1, 2)), e[:-1]])  # the first token has none before it
print(e + gate * before)

# %% [markdown]
# Every token takes from the *unsmeared* one before it: the third row has none of the first token in it.
#
# **Backout.** A share of what the stream held after block $\lfloor L/2 \rfloor$ (the third of four) is subtracted at the end: $x - \beta\,x_{\text{mid}}$, with $\beta$ learned, starting at 0.2. The idea: lower blocks write
# down much that only the upper blocks need, and the head does not have to see it.
#
# ## 2. The token's own values
#
# Attention moves values from place to place. A value is made from the stream, $v = W_v\,\text{norm}(x)$, and the higher the block, the less of the token
# itself is left in it. So every second block, the last one included, gets a **value embedding**: a table with a row for each token of the
# vocabulary, looked up by the *id*. The row is added to the values, through a gate for each head:
#
# $$v_h \leftarrow v_h + 3\,\sigma(G_h \cdot \text{norm}(x)[{:}12])\; \text{table}[\text{id}]_h$$
#
# A look-up costs no multiplication, only memory, and there is much of it: in a d12 these tables are more than half of all parameters.

# %%
config = GPT2026Config.from_depth(12)
tables = len(config.value_layers) * config.padded_vocab_size * config.n_embd
share = tables / model_sizes.count_parameters(config)
print(f"blocks with a table: {config.value_layers}; {share:.0%} of all parameters")

# %% [markdown]
# ## 3. A window, a sharper look, a slower clock
#
# **Windows.** nanochat's pattern is SSSL: three blocks see a short window, a quarter of the context,
# and the fourth sees all of it; the last block always does. A window of $W$ means $W$ keys *before* the query's own, so $W + 1$ in all.
# (Off by one here is a common fault of reimplementations.) Rows are queries, columns keys:

# %%
full, short = (np.array(causal_mask(0, 9, 9, window)) for window in (8, 3))
full = np.tril(np.ones((9, 9))) if full.ndim == 0 else full  # "causal": MLX needs no array
draw.draw_masks({"L: all that came before": full, "S: a window of 3": short})
assert short.sum(axis=1).tolist() == [1, 2, 3, 4, 4, 4, 4, 4, 4]

# %% [markdown]
# **Longer queries and keys.** Chapter 07's norm gives queries and keys of $D$ numbers the length $\sqrt D$. Their product is at most $D$, and after the
# division by $\sqrt D$ no score is above $\sqrt D$. nanochat now multiplies both by 1.2, so a score can be 1.44 times as large, and the softmax
# sharper.
#
# **A slower clock.** RoPE's base is 100,000 and no longer 10,000. Each pair of numbers turns more slowly, except the first:

# %%
for base in (1e4, 1e5):
    turn = 2 * math.pi * base ** (np.arange(0, 128, 32) / 128)  # positions for a whole turn
    print(f"base {base:9,.0f}: pairs 0, 16, 32, 48 turn once in", *(f"{n:,.0f}" for n in turn))


# %% [markdown]
# ## 4. The model
#
# **Starting values** have changed, too, without any new part:
#
# | | October | July |
# |---|---|---|
# | head | 0 | N(0, 0.001²) |
# | `wte` | N(0, 1) | N(0, 0.8²) |
# | `c_q`, `c_k`, `c_v` | normal, $\sigma = 1/\sqrt{n}$ ($n$: the width) | uniform, the same $\sigma$ |
# | `c_fc` | the same as these | 0.4 of it |
# | every `c_proj` | 0 | 0 |
#
# As long as the head is zero, no gradient gets past it: in October's first step it learns alone.
#
# Now in code. The numbers (`GPT2026Config`) and the starting values are in `course_lib/model/config2026.py`. What the two models
# have in common is chapter 07's and 08's own; only what differs is written
# here. The factor 1.2 on both sides of a product is a factor 1.44 in the scale. `cache.place` says where among the keys that a
# cache gives back the new ones begin, row by row (chapter 12's cache had all keys, so there it was the offset):

# %%
#| export model.gpt2026
class Attention2026(CausalSelfAttention):
    """CausalSelfAttention with a window, sharper scores, and in some blocks own values."""

    gain = 1.2  # of queries and of keys

    def __init__(self, config: GPT2026Config, layer: int):
        sizes = config.n_embd, config.n_head, config.n_kv_head
        super().__init__(*sizes, config.rope_base, config.norm_eps)
        self.scale *= self.gain**2
        self.window = config.windows[layer]
        if layer in config.value_layers:
            self.ve_gate = Linear(12, config.n_kv_head)

    def __call__(self, x: mx.array, cache=None, own: mx.array | None = None) -> mx.array:
        """x: (B, T, n_embd); own: (B, T, n_kv_head · head_dim), values by the tokens' ids."""
        q, k, v = self.heads(x)
        if own is not None:
            gate = 3 * mx.sigmoid(self.ve_gate(x[..., :12]))  # (B, T, n_kv_head)
            own = own.reshape(*gate.shape, self.head_dim) * gate[..., None]
            v = v + own.transpose(0, 2, 1, 3)
        return self.mix(q, k, v, cache)

    def mask(self, cache, offset: int | mx.array, T: int, S: int) -> str | mx.array | None:
        """What T queries may see of S keys; a cache leaves out those beyond the window."""
        place = S - T if isinstance(offset, int) else cache.place
        return causal_mask(place, T, S, self.window)


class Block2026(Block):
    """A Block with the attention of 2026."""

    def __init__(self, config: GPT2026Config, layer: int):
        super().__init__(config)
        self.attn = Attention2026(config, layer)


# %% [markdown]
# The parameters have nanochat's names, so that its weights fit. The vocabulary is padded to a multiple of 64, which suits a GPU. No id
# ever reads the rows beyond it, and the head leaves them out.

# %%
#| export model.gpt2026
class GPT2026(GPT):
    """The model: ids to logits, or to a loss; it begins with `init_weights_2026(model, seed=0)`."""

    shares = "smear_gate", "smear_lambda", "backout_lambda", "resid_lambdas", "x0_lambdas"

    def __init__(self, config: GPT2026Config, recompute: bool = False):
        nn.Module.__init__(self)
        self.config, self.recompute = config, recompute
        V, L, tables = config.padded_vocab_size, config.n_layer, config.value_layers
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(V, config.n_embd)
        self.transformer.h = [Block2026(config, n) for n in range(L)]
        kv_dim, none = config.n_kv_head * config.head_dim, nn.Module
        self.value_embeds = [nn.Embedding(V, kv_dim) if n in tables else none() for n in range(L)]
        self.smear_gate = Linear(24, 1)
        self.smear_lambda, self.backout_lambda = mx.zeros(1), mx.zeros(1)
        self.resid_lambdas, self.x0_lambdas = mx.zeros(L), mx.zeros(L)
        self.lm_head = Linear(config.n_embd, V)
        init_weights_2026(self, seed=0)  # fills what is 0 so far

    @property
    def head_weight(self) -> mx.array:
        """The head's matrix (vocab_size, n_embd), without the padding."""
        return self.lm_head.weight[: self.config.vocab_size]

    def embed(self, ids: mx.array) -> mx.array:
        """(B, T) -> (B, T, n_embd), normed."""
        x = look_up(self.transformer.wte.weight, ids).astype(backend.compute_dtype())
        return rms_norm(x, self.config.norm_eps)


# %% [markdown]
# The smear needs the token *before* the first of a chunk. A cache of the ids (`IdsCache`) supplies it: after 5, 6, 7, when 8, 9 come, it is 7, and at the beginning of a text −1. It keeps ids as if they were keys, of one head and one number each, hence the
# indices below. Its `offset` says how many ids came before, one number, or one for each row where texts of different lengths are written together. nanochat's cache keeps the last
# embedding instead, and its code uses it only when a single token comes: the first token of a second chunk is not smeared.

# %%
#| export model.gpt2026
def id_before(ids: mx.array, cache=None) -> mx.array:
    """(B, 1), the id before the first of each row of ids (B, T); -1 where there is none.

    cache: gives back all ids so far, these included; None for a text that begins here.
    """
    offset = 0 if cache is None else cache.offset
    if cache is not None:
        so_far = cache.update_and_fetch(ids[:, None, :, None])[0][:, 0, :, 0]  # (B, S)
    if isinstance(offset, int):
        return so_far[:, offset - 1 : offset] if offset else mx.full((len(ids), 1), -1, ids.dtype)
    found = mx.take_along_axis(so_far, mx.maximum(offset - 1, 0)[:, None], axis=1)
    return mx.where(offset[:, None] > 0, found, -1)


@add_to(GPT2026)
def smear(self, ids: mx.array, cache=None) -> mx.array:
    """Embeddings, each with a share of the one before it: (B, T) -> (B, T, n_embd)."""
    e, first = self.embed(ids), id_before(ids, cache)
    before_first = self.embed(mx.maximum(first, 0)) * (first >= 0)[..., None]
    before = mx.concatenate([before_first, e[:, :-1]], axis=1)
    gate = self.smear_lambda.astype(e.dtype) * mx.sigmoid(self.smear_gate(e[..., :24]))
    return e + gate * before  # (B, T, 1) times (B, T, n_embd)


# %%
#| export model.gpt2026
@add_to(GPT2026)
def hidden(self, ids: mx.array, cache: list | None = None) -> mx.array:
    """What the head reads, (B, T, n_embd), of ids that are not checked.

    cache: one for each block, and one for the ids, as in `KVCache.layers`.
    """
    L, eps = self.config.n_layer, self.config.norm_eps
    *caches, of_ids = cache or [None] * (L + 1)
    x = x0 = middle = self.smear(ids, of_ids)
    r, z = self.resid_lambdas.astype(x.dtype), self.x0_lambdas.astype(x.dtype)
    for n, block in enumerate(self.transformer.h):
        if self.recompute and cache is None:
            block = nn.utils.checkpoint(block)
        has_table = n in self.config.value_layers
        own = look_up(self.value_embeds[n].weight, ids).astype(x.dtype) if has_table else None
        x = block(r[n] * x + z[n] * x0, caches[n], own)
        middle = x if n == L // 2 else middle
    return rms_norm(x - self.backout_lambda.astype(x.dtype) * middle, eps)


# %% [markdown]
# Is it right? Set every idea to nothing: shares of 1 and 0, no smear, no backout, tables of zeros, long windows, the old base and scale. What is left must be
# chapter 08's model. (With the ideas in, `tests/test_gpt2026.py` compares it with NumPy in float64.)

# %%
sizes = {"vocab_size": 100, "n_layer": 4, "n_head": 2, "n_kv_head": 1, "n_embd": 64}
sizes["rope_base"] = 1e4
new = GPT2026(GPT2026Config(sequence_len=512, **sizes, window_pattern="L"))
old = GPT(GPTConfig(sequence_len=512, **sizes))
draws = {name: mx.random.normal(a.shape) for name, a in tree_flatten(new.parameters())}
weights = {n: 0 * a if "lambda" in n or "value_embeds" in n else 0.3 * a for n, a in draws.items()}
weights["resid_lambdas"] = mx.ones(4)
new.update(tree_unflatten(list(weights.items())))
crop = {"transformer.wte.weight", "lm_head.weight"}  # 128 rows there, 100 here
names = [name for name, _ in tree_flatten(old.parameters())]
old.update(tree_unflatten([(n, weights[n][:100] if n in crop else weights[n]) for n in names]))
for block in new.transformer.h:
    block.attn.scale = block.attn.head_dim**-0.5
ids = mx.random.randint(0, 100, (2, 300))
difference = mx.abs(new(ids) - old(ids)).max().item()
claim("without its ideas it is the model of October", difference < 1e-3)

# %% [markdown]
# ### With a cache
#
# In a block with a window, keys beyond it will never be asked for again. So `KVCache` drops them now and then. Whatever the sizes of the chunks in which a text is
# read, the logits must be those of the whole text:

# %%
model = GPT2026(GPT2026Config(sequence_len=512, **sizes))
model.update(tree_unflatten([(name, 0.3 * a) for name, a in draws.items()]))
whole = model(ids)
for chunk in (1, 7, 128):
    cache = KVCache(model.config, rows=2)
    parts = [model(ids[:, n : n + chunk], cache.layers) for n in range(0, 300, chunk)]
    difference = mx.abs(mx.concatenate(parts, axis=1) - whole).max().item()
    claim(f"chunks of {chunk} change nothing", difference < 1e-3)

# %% [markdown]
# ## 5. Five better polynomials
#
# Muon makes each step orthogonal by products alone (chapter 09): one polynomial, five times. That one polynomial is a compromise.
# In the first round it should lift small singular values as far as it can. In the last it should bring all of them close to 1. So why
# not **a different one in each round**? That is Polar Express (Amsel et al., 2025): each of the five is the best for what the one
# before it leaves.

# %%
#| export train.muon2026
"""NorMuon: Muon as nanochat (July 2026) has it, with five changes.

Source: nanochat (July 2026), commit 92d63d4. Polar Express is by Amsel et al., 2025, the variance
by Li et al., 2025 (NorMuon), the decay by Chen et al., 2025 (cautious weight decay).
"""

import math

import mlx.core as mx

from course_lib.train.muon import Muon, in_rounds

# %%
#| export train.muon2026
POLAR_EXPRESS = [  # (a, b, c) of the rounds, the first for singular values of any size
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7098282387687081, 0.42323551569305323),
]


# %% [markdown]
# Follow four singular values, before and after each round, under the old polynomial and the new ones:

# %%
def through(s, rounds):
    """s after a s + b s³ + c s⁵ for each (a, b, c), and what it was before: a list."""
    found = [s]
    for a, b, c in rounds:
        found.append(a * found[-1] + b * found[-1] ** 3 + c * found[-1] ** 5)
    return found


RULES = {"Newton–Schulz": [COEFFICIENTS] * 5, "Polar Express": POLAR_EXPRESS}
print(f"{'':16s}start, and after each round")
for name, rounds in RULES.items():
    for s in (0.9, 0.1, 0.01, 0.001):
        print(f"{name:14s}", *(f"{now:6.3f}" for now in through(s, rounds)))

# %%
lifted = {name: through(np.geomspace(1e-4, 1, 1000), rounds)[-1] for name, rounds in RULES.items()}
draw_steps.draw_lifted_by(lifted)
off = {name: np.abs(s[500:] - 1).max() for name, s in lifted.items()}  # of those from 0.01 up
claim("from 0.01 up, the new ones end nearer", off["Polar Express"] < off["Newton–Schulz"] / 2)


# %% [markdown]
# (Above 0.1 both curves swing on, faster than a figure can show.) Neither is exact after five rounds. But the new ones end nearer to 1, and they lift 0.001
# almost as far as the rest. Chapter 09's `in_rounds` already takes a list
# of polynomials. The matrix is divided by a little more than its norm, so that rounding cannot push a singular value above 1:

# %%
#| export train.muon2026
def frobenius(x: mx.array) -> mx.array:
    """The norm of each matrix (…, rows, columns), the root of its sum of squares: (…, 1, 1)."""
    return mx.linalg.norm(x, axis=(-2, -1), keepdims=True)


def polar_express(x: mx.array, steps: int = 5) -> mx.array:
    """As `newton_schulz`, but nearer to orthogonal. steps: at most 5, the number of polynomials."""
    f = x.astype(mx.float32)
    f = f / (1.01 * frobenius(f) + 1e-6)
    return in_rounds(f, POLAR_EXPRESS[:steps]).astype(x.dtype)


# %%
matrix = mx.random.normal((64, 32), key=mx.random.key(0))
u, s, vt = (np.array(part, np.float64) for part in mx.linalg.svd(matrix, stream=mx.cpu))
lifted_s = through(s / (1.01 * np.linalg.norm(s)), POLAR_EXPRESS)[-1]
assert np.abs(polar_express(matrix) - u[:, :32] * lifted_s @ vt).max() < 1e-4


# %% [markdown]
# ## 6. Rows of one length, steps of one norm
#
# Each row of a weight makes one output. A row with a long gradient dominates the singular directions before the polar step even
# begins. **MuonEq** first gives all rows the same length. The matrix as a whole keeps its norm.

# %%
#| export train.muon2026
def equilibrate_rows(u: mx.array) -> mx.array:
    """u (…, rows, columns) with rows (but those near 0) of one length; its own stays: MuonEq."""
    lengths = mx.linalg.norm(u, axis=-1, keepdims=True)
    return u * (frobenius(u) / math.sqrt(u.shape[-2]) / mx.maximum(lengths, 1e-6))


# %% tags=["nbval-check-output"]
two_rows = mx.array([[3.0, 4.0], [0.5, 0.0]])
for rows in (two_rows, even := equilibrate_rows(two_rows)):
    print("lengths", mx.linalg.norm(rows, axis=1).tolist(), f"all {frobenius(rows).item():.2f}")
assert mx.allclose(even[0] / even[1, 0], mx.array([0.6, 0.8]))  # the directions stay


# %% [markdown]
# A transpose has other rows, so this is done to each matrix as it is, before any is transposed.
#
# The polar step brings singular values *near* 1, except those that were zero. So the norm of the step depends on the matrix. **Muon+** sets it
# to what it would be if all singular values were 1: $\sqrt{\min(\text{rows}, \text{columns})}$.

# %%
#| export train.muon2026
def to_norm(x: mx.array) -> mx.array:
    """x (…, rows, columns), as large as if all its singular values were 1: Muon+."""
    return x * (math.sqrt(min(x.shape[-2:])) / mx.maximum(frobenius(x), 1e-7))


# %%
low = mx.random.normal((64, 2), key=mx.random.key(1)) @ mx.random.normal((2, 64))  # of rank 2
rough = [polar_express(each) for each in (low, mx.random.normal((64, 64)))]
for name, each in zip(("rank 2 ", "rank 64"), rough, strict=True):
    print(f"{name}: norm {frobenius(each).item():.2f}, then {frobenius(to_norm(each)).item():.2f}")
claim("without it the norm depends on the rank", frobenius(rough[0]) < 0.5 * frobenius(rough[1]))


# %% [markdown]
# ## 7. NorMuon's variance
#
# Adam divides each number by its usual size. Muon threw that away. **NorMuon** brings it back, for whole rows: it averages
# the squares of each row over the steps, divides by the root, and gives the matrix its norm
# back. (Of a wide matrix it takes columns: orthogonal, its rows have length 1 already.) That is one number for a row, where Adam stores one for each weight.
#
# The three functions above are attributes of the class, so a subclass can replace them:

# %%
#| export train.muon2026
class NorMuon(Muon):
    """Muon with all five changes. Rate, momentum and decay are arrays in `state`, in float32."""

    equilibrate = staticmethod(equilibrate_rows)
    polar = staticmethod(polar_express)
    resize = staticmethod(to_norm)

    def __init__(
        self,
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        beta2: float = 0.9,
        ns_steps: int = 5,
    ):
        super().__init__(learning_rate, momentum, ns_steps=ns_steps)
        self._maybe_schedule("weight_decay", weight_decay)
        self.beta2 = beta2

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """Begin with no momentum and no variance. Raises CourseError when it is no matrix."""
        super().init_single(parameter, state)
        *stack, rows, columns = parameter.shape
        state["average"] = mx.zeros(parameter.shape)
        state["variance"] = mx.zeros([*stack, rows, 1] if rows >= columns else [*stack, 1, columns])

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """What is to be made orthogonal: Nesterov's average of gradients, its rows equal."""
        ahead = super().apply_single(gradient.astype(mx.float32), parameter, state)
        return self.equilibrate(ahead)

    def orthogonal(self, matrices: mx.array) -> mx.array:
        """Each matrix (…, rows, columns), made orthogonal and set to its size."""
        return self.resize(self.polar(matrices, self.ns_steps))


# %%
#| export train.muon2026
@add_to(NorMuon)
def even_out(self, x: mx.array, state: dict) -> mx.array:
    """x with rows (if wide, columns) divided by their usual size; in all as large as before."""
    axis = -1 if x.shape[-2] >= x.shape[-1] else -2
    squares = mx.square(x).mean(axis=axis, keepdims=True)
    state["variance"] = self.beta2 * state["variance"] + (1 - self.beta2) * squares
    even = x * mx.rsqrt(mx.maximum(state["variance"], 1e-10))
    return even * (frobenius(x) / mx.maximum(frobenius(even), 1e-10))


# %% [markdown]
# A tall orthogonal matrix has columns of length 1, but its rows may differ. Here the last ten rows got less of the gradient than the others, and MuonEq is left out:

# %%
muon, state = NorMuon(0.02), {}
muon.init_single(matrix, state)
step = polar_express(matrix * mx.where(mx.arange(64) < 54, 1.0, 0.1)[:, None])
evened = muon.even_out(step, state)
draw_steps.draw_rows({"after the polar step": step, "evened out": evened})
spread = [mx.linalg.norm(each, axis=1).std().item() for each in (step, evened)]
assert abs(frobenius(evened).item() / frobenius(step).item() - 1) < 1e-5
claim("its rows are now of one length", spread[1] < 0.01 * spread[0])


# %% [markdown]
# In a first step the average is the row's own, so all become equal. Later a row that is small in just one step stays small there.
#
# ## 8. Cautious decay
#
# Weight decay pulls every weight towards 0, even one that the step is pushing away from 0. Then the two work against each other.
# **Cautious** decay pulls only where the step goes towards 0 too. The step is subtracted, so that is where both have the same sign.

# %%
#| export train.muon2026
@add_to(NorMuon)
def decaying(self, parameter: mx.array, step: mx.array) -> mx.array:
    """The parameter where subtracting the step takes it towards 0, elsewhere 0."""
    return mx.where(step * parameter >= 0, parameter, 0)


@add_to(NorMuon)
def move(self, direction: mx.array, parameter: mx.array, state: dict) -> mx.array:
    """The parameter, moved against the direction, evened out, and a little towards 0."""
    step = self.even_out(direction, state)
    decay = self.state["weight_decay"] * self.decaying(parameter, step)
    return Muon.move(self, step + decay, parameter, state)


# %% tags=["nbval-check-output"]
print(muon.decaying(mx.array([2.0, 2.0, -2.0]), step=mx.array([0.1, -0.1, -0.1])).tolist())


# %% [markdown]
# Take all five ideas out again, and Muon must be left:

# %%
class Plain(NorMuon):
    equilibrate = resize = staticmethod(lambda x: x)
    polar = staticmethod(newton_schulz)
    even_out = lambda self, x, state: x  # noqa: E731


weights = {"w": matrix}, {"w": matrix}
optimizers = Muon(0.02), Plain(0.02)
for key in mx.random.split(mx.random.key(2), 5):
    g = {"w": mx.random.normal(matrix.shape, key=key)}
    weights = [o.apply_gradients(g, w) for o, w in zip(optimizers, weights, strict=True)]
assert mx.allclose(weights[0]["w"], weights[1]["w"], atol=1e-6)

# %% [markdown]
# ## 9. Schedules and what follows from depth
#
# All rates rise over 40 steps, stay, and fall over the last 65 % of the run, to a twentieth. Muon's momentum rises over 400 steps,
# and only then falls with the rates: in a run of fewer than 1,143 steps it is still rising when they begin to fall. Muon's weight decay falls to 0 along half a cosine.

# %%
#| export train.schedule2026
"""How rates, momentum and decay change over a run of nanochat (July 2026), and what its size sets.

Source: nanochat (July 2026), commit 92d63d4. N: parameters of the blocks and of lm_head; D: tokens
of the run, 12 · N by default. What was found at a depth of 12 is carried to other sizes.
"""

import math

from course_lib.train.optim import lr_multiplier


# %%
#| export train.schedule2026
def lr_multiplier_2026(
    it: int,
    num_iterations: int,
    warmup_steps: int = 40,
    warmdown_ratio: float = 0.65,
    final_lr_frac: float = 0.05,
) -> float:
    """What all learning rates are multiplied by at step `it` of 0 … num_iterations."""
    if it < warmup_steps:
        return (it + 1) / warmup_steps
    return lr_multiplier(it, num_iterations, 0.0, warmdown_ratio, final_lr_frac)


def muon_momentum_2026(it: int, num_iterations: int, warmdown_ratio: float = 0.65) -> float:
    """0.85 to 0.97 over the first 400 steps; 0.97 to 0.90 over the warmdown."""
    if it < 400:
        return 0.85 + (0.97 - 0.85) * it / 400
    left = lr_multiplier(it, num_iterations, 0.0, warmdown_ratio)
    return 0.90 + (0.97 - 0.90) * left


def weight_decay_2026(it: int, num_iterations: int) -> float:
    """What the weight decay is multiplied by: half a cosine from 1 to 0."""
    return (1 + math.cos(math.pi * it / num_iterations)) / 2


# %%
draw_steps.draw_schedules_2026(lr_multiplier_2026, muon_momentum_2026, weight_decay_2026)


# %% [markdown]
# NorMuon trains the matrices of the blocks, their gates included. Head, `wte`, tables, $r$ and $z$ have an AdamW each, and smear and backout one together, with rates of
# their own (`course_lib/train/groups2026.py`).
#
# Depth sets the rest, by rules that nanochat fitted to its own runs. A longer run tolerates a larger batch $B$. The rates grow with $\sqrt{B}$, and the decay shrinks as the run
# grows:

# %%
#| export train.schedule2026
def batch_size_2026(tokens: float, tokens_12: float) -> int:
    """Tokens of a step, a power of 2, for a run of so many; tokens_12: of one at depth 12."""
    return 2 ** round(math.log2(2**19 * (tokens / tokens_12) ** 0.383))


def rate_scale(total_batch_size: int) -> float:
    """What learning rates are multiplied by for steps of so many tokens."""
    return math.sqrt(total_batch_size / 2**19)


def decay_2026(total_batch_size: int, tokens: float, tokens_12: float) -> float:
    """Weight decay of a run at its start."""
    return 0.28 * rate_scale(total_batch_size) * tokens_12 / tokens


# %%
def tokens_of(depth):
    """12 for each parameter of the blocks (12 n² a block, chapter 08) and of the head."""
    config = GPT2026Config.from_depth(depth)
    return 12 * (12 * depth * config.n_embd**2 + config.vocab_size * config.n_embd)


for depth in (8, 12, 20, 32):
    D, B = tokens_of(depth), batch_size_2026(tokens_of(depth), tokens_of(12))
    rates, decay = rate_scale(B), decay_2026(B, D, tokens_of(12))
    print(f"d{depth:<3d}{D / 1e9:6.1f} bn ids, B {B:9,d}, rates × {rates:.2f}, decay {decay:.3f}")

# %% [markdown]
# ## 10. Rows that begin at the beginning: best fit against the stream
#
# Chapter 06 cut rows from one stream of documents. Almost every row begins in the middle of one, so most tokens cannot see
# where their text began. nanochat (July 2026) packs rows by **best fit**, which chapter 06 tried with lengths only. Here it is
# with ids, and it can resume. The rule:
#
# 1. A thousand documents or more wait. Before each pick, more are read while there are fewer.
# 2. Into the row goes the longest document that fits into what is left. Of equals, the first to come.
# 3. When none fits, the **shortest** is cropped to what is left, and its rest is thrown away.
#
# A row has $T + 1$ ids: the inputs are all but the last, the targets all but the first.
#
# By hand first: eight documents of 3 to 9 ids and rows of 12. The ids 10, 20, … stand for BOS (heavy frames). The tens say of which document.

# %%
lengths = [9, 4, 3, 6, 9, 7, 5, 8]
tiny = [list(range(10 * n, 10 * n + length)) for n, length in enumerate(lengths, start=1)]

# %%
#| export data.best_fit
"""Rows that each begin with a document: best fit, as in nanochat (July 2026), exact to resume."""

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from course_lib.host.errors import CourseError

Refills = Iterable[Sequence]  # lists of documents, each a sequence of ids


# %% [markdown]
# The original searches all that wait for each pick. A sorted list finds the same document by halving (`bisect`). It holds
# pairs (length, −number), so of equal lengths the first to come stands last, just before the place where the search ends. And
# when none fits, we look for the length of the shortest instead.

# %%
#| export data.best_fit
class Waiting:
    """Documents that wait for a place in a row, by number; numbers count them as they come."""

    def __init__(self):
        self.documents: dict[int, Sequence[int]] = {}
        self._by_length: list[tuple[int, int]] = []  # (length, -number): of equals the first last

    def add(self, number: int, ids: Sequence[int]) -> None:
        self.documents[number] = ids
        insort(self._by_length, (len(ids), -number))

    def pick(self, room: int) -> Sequence[int]:
        """Take out the longest of at most `room` ids, else the shortest; of equals the first."""
        length = max(room, self._by_length[0][0])
        _, number = self._by_length.pop(bisect_right(self._by_length, (length, 0)) - 1)
        return self.documents.pop(-number)


# %% [markdown]
# The rest is bookkeeping: fill the rows of a batch, read, count.

# %%
#| export data.best_fit
class BestFit(Iterator[tuple[np.ndarray, np.ndarray]]):
    """What `best_fit_batches` returns. shape: (B, T + 1)."""

    def __init__(self, refills: Refills, shape: tuple[int, int], buffer_size: int):
        self._refills, self._shape, self._buffer_size = iter(refills), shape, buffer_size
        self._waiting, self._counts = Waiting(), {"documents": 0, "used": 0, "thrown_away": 0}

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        rows = np.empty(self._shape, np.int32)
        for row in rows:
            while len(row):
                while len(self._waiting.documents) < self._buffer_size and self.read():
                    pass
                if not self._waiting.documents:
                    raise StopIteration
                ids = self._waiting.pick(len(row))
                kept = min(len(ids), len(row))
                row[:kept], row = ids[:kept], row[kept:]
                self._counts["used"] += kept
                self._counts["thrown_away"] += len(ids) - kept
        return rows[:, :-1], rows[:, 1:]


# %%
#| export data.best_fit
@add_to(BestFit)
def read(self, wanted: frozenset[int] | None = None) -> bool:
    """Let the next list of documents wait, or the wanted ones of it; False when there is none."""
    documents = next(self._refills, None)
    for number, ids in enumerate(documents or (), self._counts["documents"]):
        if wanted is None or number in wanted:
            self._waiting.add(number, ids)
    self._counts["documents"] += len(documents or ())
    return documents is not None


# %% [markdown]
# To resume, nanochat keeps only its place in the file. What waited at that moment is lost. Our state names it, by numbers:

# %%
#| export data.best_fit
@add_to(BestFit)
@property
def state(self) -> dict:
    """What the next batch depends on, for JSON: counts, and the numbers of those that wait."""
    return {**self._counts, "waiting": list(self._waiting.documents)}


@add_to(BestFit)
def go_on(self, state: dict) -> None:
    """Read again, from the beginning, what had been read by `state`; keep what waited then."""
    wanted = frozenset(state["waiting"])
    while self._counts["documents"] < state["documents"] and self.read(wanted):
        pass
    self._counts |= {name: state[name] for name in ("used", "thrown_away")}
    if self.state != state:
        raise CourseError("the state is of other documents; give the same from the start, or none")


# %%
#| export data.best_fit
def best_fit_batches(
    refills: Refills,
    batch_size: int,
    sequence_len: int,
    buffer_size: int = 1000,
    state: dict | None = None,
) -> BestFit:
    """Batches (inputs, targets), each (B, T) int32, of rows of T + 1 ids, one id apart.

    refills: lists of documents, <|bos|> first; read before each pick until `buffer_size` documents
    wait. When none fits, the shortest is cropped, its rest thrown away. What waits after the last
    list still fills whole batches. state: go on after it, with the same lists from the beginning.
    Raises CourseError for other lists, and for sizes below 1.
    """
    if min(batch_size, sequence_len, buffer_size) < 1:
        raise CourseError(f"{batch_size=}, {sequence_len=}, {buffer_size=}: expected 1 or more")
    batches = BestFit(refills, (batch_size, sequence_len + 1), buffer_size)
    if state is not None:
        batches.go_on(state)
    return batches


# %%
rows = [[*inputs[0], targets[0, -1]] for inputs, targets in best_fit_batches([tiny], 1, 11)]
flat = sum(tiny, [])
stream = [flat[n : n + 12] for n in range(0, 48, 12)]
draw_rows.draw_packing(tiny, {"the stream": stream, "best fit": rows})


# %% [markdown]
# Of the two documents of nine ids the one that came first, 10 …, is taken first. The three hatched ids never reach a packed row. (85 to 87
# wait for the stream's next row.)
#
# Are the picks right? Here is the rule as it is written, a search through all that waits. It must give the same rows, and so must a copy that goes on
# from a state.

# %%
def by_search(waiting, T, buffer):
    row = []
    while True:
        fitting = [ids for ids in waiting[:buffer] if len(row) + len(ids) <= T + 1]
        best = max(fitting, key=len) if fitting else min(waiting[:buffer], key=len)
        waiting.remove(best)
        row += best[: T + 1 - len(row)]
        if len(row) > T:
            yield row
            row = []


# %%
integers = np.random.default_rng(0).integers
many = [integers(9999, size=length).tolist() for length in integers(1, 400, size=3000)]
packed = best_fit_batches([[ids] for ids in many], 1, 255, buffer_size=200)
for expected in islice(by_search(list(many), 255, 200), 300):
    inputs, targets = next(packed)
    assert [*inputs[0], targets[0, -1]] == expected

# %%
state = json.loads(json.dumps(packed.state))
resumed = best_fit_batches([[ids] for ids in many], 1, 255, 200, state)
assert all((next(packed)[1] == next(resumed)[1]).all() for _ in range(300))


# %% [markdown]
# ### What is lost
#
# Now the bundled corpus, with the starter's tokenizer, read as nanochat reads, 128 documents at a time: 40 million tokens in
# rows, for four values of $T$. Of the text that leaves the buffer, what share is thrown away? The control (dashed) gives each
# document a row of its own, and throws away what does not fit.

# %%
def lists_of(documents):
    stream = cycle(documents)
    return iter(lambda: list(islice(stream, 128)), [])


def thrown_away(batches, count):
    before = batches.state
    for _ in range(count):
        next(batches)
    used, lost = (batches.state[name] - before[name] for name in ("used", "thrown_away"))
    return lost / (used + lost)


# %%
data, tokenizer = open_dataset(), load_starter("base")[1]
encoded = tokenizer.encode_arrays(list(data.documents("train")), bos=True)

# %%
sizes = np.array([len(ids) for ids in encoded])
LENGTHS = (128, 256, 512, 2048)
packers = {T: best_fit_batches(lists_of(encoded), 16, T) for T in LENGTHS}
parts = {T: budget(250_000 // T, quick=4) for T in LENGTHS}
shares = {T: [thrown_away(packers[T], parts[T]) for _ in range(10)] for T in LENGTHS}

# %%
alone = {T: np.maximum(sizes - T - 1, 0).sum() / sizes.sum() for T in LENGTHS}
draw_rows.draw_thrown_away(shares, alone)

# %%
for T, (first, *_, last) in shares.items():
    too_long = np.mean([sizes[n % len(sizes)] > T + 1 for n in packers[T].state["waiting"]])
    print(f"T = {T:5,}: {first:3.0%}, in the end {last:3.0%}; a row each {alone[T]:3.0%}", end="")
    print(f"; of what waits {too_long:.0%} are too long")
    claim("by then about as much as with a row for each document", abs(last - alone[T]) < 0.1)
    claim("and nearly all that waits is longer than a row", too_long > 0.8)


# %% [markdown]
# So on our text best fit is expensive, and its first rows are misleadingly good. A document longer than a row never fits.
# It waits until it is the shortest, and meanwhile it holds a place of the buffer, until nearly all places are held by such documents
# and there is no choice left.
#
# nanochat states about 35 % for ClimbMix at $T = 2048$. With 400 billion tokens,
# it throws away what it would not have read anyway.
#
# ### What is gained

# %%
flat, begins = np.concatenate(encoded), np.repeat(np.cumsum(sizes) - sizes, sizes)
for T, batches in packers.items():
    places = np.arange(len(flat) // T * T).reshape(-1, T)  # of the stream
    sees = (begins[places] >= places[:, :1]).mean()
    print(f"T = {T:5,}: in the stream {sees:3.0%} of the tokens see where their text began")
    claim("packed, each row begins with BOS", (next(batches)[0][:, 0] == tokenizer.bos).all())

# %% [markdown]
# `BestFitLoader` (`course_lib/data/best_fit_loader.py`) does this with shards, ahead of need; `uv run base_train --rows best-fit` trains with it.
#
# ## 11. The ladder
#
# Now the figure of the beginning, with numbers. The model has 4 blocks, 128 wide, the starter's vocabulary of 2,048 and rows of 256 tokens; 300 steps of 8 rows. Each line adds
# one idea to the line above. Text, order and seeds stay the same, so the gain of a line is a *paired* difference: bits per byte saved,
# with its standard error over six seeds. An idea that is "off" is a
# parameter at its neutral value, as in section 4, and frozen, or a part of the optimizer's step that is left out.
#
# Of thirteen lines one may look good by luck. To be 95 % sure that none does, each must pass at 0.05 / 13, which with six seeds takes 5.1 standard
# errors (Student's t). That is the rule of the last column:

# %%
gains, LUCK = ladder2026.gains(ladder), 5.1
for idea, (bits, gain, error) in gains.items():
    told = "" if abs(gain) <= LUCK * error else "  better" if gain > 0 else "  worse"
    print(f"{idea:32s}{bits:7.3f}   saves {gain:+.4f} ± {error:.4f}{told}")

# %%
bits = {idea: np.array([row["bits"] for row in ladder if row["idea"] == idea]) for idea in gains}
told = {idea: gain for idea, (_, gain, error) in gains.items() if abs(gain) > LUCK * error}
better, worse = ([idea for idea in told if sign * told[idea] > 0] for sign in (1, -1))
claim("better", better == ["starting values", "value tables"])
claim("worse", worse == ["rates and schedules"])
july, october = bits["rates and schedules"], bits["October 2025"]
claim("July is better than October, seed by seed", (july < october).all())
print(f"with the starting values alone {(bits['starting values'] - july).mean():.3f} from July")

# %% [markdown]
# **Starting values** save two thirds of what the **tables** save, which make the model 40 % larger (no control of equal size). October with only July's starting values comes within 0.011 of July. July's **rates and
# schedules** lose as much as the starting values save: without them July is at 2.161. They are meant for steps of half a million tokens, and section 9's rule would divide the rates by 16 here. The last line by that rule, and with half of AdamW's rates alone:

# %%
scaled, saved = stored("rates_2026", ladder2026.scale_rates), {"rule": [], "half": []}
for row in scaled:
    saved[row["rates"]].append(july[row["seed"]] - row["bits"])
print({name: [f"{each:+.3f}" for each in found] for name, found in saved.items()})
claim("the rule is worse, half the rates better", max(saved["rule"]) < 0 < min(saved["half"]))

# %% [markdown]
# The rule was fitted to steps a hundred times as large and more. Where steps are small, `base_train --model 2026` halves the rates of AdamW. What a line saves depends on the lines above it.
#
# nanochat's author tried the same ideas one by one, with 8 to 26 blocks. From [his log](https://github.com/karpathy/nanochat/blob/master/dev/LOG.md) of January 2026:
#
# | idea | what he found |
# |---|---|
# | shares | save 0.0103 with 8 blocks, 0.0077 with 12, 0.0039 with 20 |
# | value tables | help a lot, for hardly any operations; each attempt to make them smaller lost |
# | windows | cheaper, and good enough |
# | Polar Express | no difference to be seen |
# | NorMuon's variance | a very small gain |
# | cautious decay | a solid gain, more than plain decay (the ladder compares with none) |
# | smear, backout | next to nothing (both came in March) |
#
# In January, with all of these but the last line, a d24 took 3.04 hours on eight H100s to reach GPT-2's score. Larger steps and products in 8 bits made that 2.76, another text (ClimbMix)
# 2.02, an automatic search 1.80 and then 1.65, smear and backout among its finds. But the score itself is noisy: one recipe gave 0.251 to 0.268 over seven seeds.
#
# ### In equal time
#
# Give October as many more steps as the same processor time pays for:

# %%
race = stored("race_2026", ladder2026.race)
times = {year: [row for row in race if str(row["model"]) == year] for year in ("2025", "2026")}
kinds = {"2025": GPTConfig(**ladder2026.SIZES), "2026": GPT2026Config(**ladder2026.SIZES)}
for year, rows in times.items():
    step = np.mean([row["seconds"] / row["steps"] for row in rows])
    flops = model_sizes.flops_per_token(kinds[year]) / 1e6
    print(f"{year}: {flops:.1f} MFLOPs a token, {step:.2f} s a step;", end="")
    print(f" {rows[0]['steps']} steps:", *(f"{row['bits']:.3f}" for row in rows))
claim("July wins", all(a["bits"] > b["bits"] for a, b in zip(*times.values(), strict=True)))

# %% [markdown]
# A step of July takes longer, though it needs fewer operations, probably because much time goes to work that FLOPs do not count. (October was better after 300 steps, 2.245: what is read last weighs, see `dev/LOG.md`.)
#
# ### And best fit?
#
# The model of July again, trained on as many tokens from the stream and from packed rows, and evaluated on unseen text, from the stream and packed. The control, *a sixth*, reads each sixth batch of the stream, six times:

# %%
by_rows = stored("rows_2026", ladder2026.compare_rows)
found = {name: [row for row in by_rows if row["rows"] == name] for name in ladder2026.KINDS}
losses = {}
for name, rows in found.items():
    losses[name] = np.array([(row["on stream"], row["on best-fit"]) for row in rows])
    print(f"{name:9s}", rows[0]["different"], "runs of 8 ids;", losses[name].mean(axis=0).round(2))
stream, packed, sixth = losses.values()
claim("trained on packed rows it is worse on both, with each seed", (packed > stream).all())
claim("and trained on a sixth of the stream worse still", (sixth > packed).all())

# %% [markdown]
# Packed loses on both, by far. Why? Its 300 batches hold a sixth as many different runs of eight ids as those of the stream, since so much is thrown away. As little of the stream, from as many places, is worse still. So
# packing is not to blame, but the text that it costs.
#
# ## 12. Size and cost
#
# October → July, both with a vocabulary of 32,768 (chapter 10's d12 had 65,536). A step is one row of 2,048 tokens; a reply's next token comes after 2,000 others:

# %%
COLUMNS = {
    "parameters, M": lambda c: model_sizes.count_parameters(c) / 1e6,
    "a step, MB": lambda c: model_sizes.estimate_memory(c, 1, 2048)["total"] / 1e6,
    "training, MFLOPs": lambda c: model_sizes.flops_per_token(c) / 1e6,
    "reply, MFLOPs": lambda c: model_sizes.decoding_flops(c, 2000) / 1e6,
    "cache, MB": lambda c: cache_bytes(c, 1, 2048) / 1e6,
}
print("depth", *(f"{name:>18s}" for name in COLUMNS))
for depth in (4, 8, 12, 20, 26):
    old, new = GPTConfig.from_depth(depth, vocab_size=32768), GPT2026Config.from_depth(depth)
    pairs = [(of(old), of(new)) for of in COLUMNS.values()]
    print(f"d{depth:<4d}", *(f"{a:8,.0f} → {b:7,.0f}" for a, b in pairs))
    changes = np.sign([b - a for a, b in pairs]).tolist()
    claim("more parameters and memory, fewer operations", changes == [1, 1, -1, -1, -1])

# %% [markdown]
# Tables are looked up, not multiplied, and windows leave keys out; but tables must be kept, with their averages. When nanochat chooses how many tokens to train on, it now counts only the
# parameters of the blocks and of the head.
#
# At 2,000 tokens windows save a d12 a seventh of the operations and nearly half of the cache; the longer the text, the more. For a d12 whose context is 32,768:

# %%
lengths = np.arange(256, 32769, 256)
wide = GPTConfig.from_depth(12, 32768, 32768), GPT2026Config.from_depth(12, 32768, 32768)
costs = {
    name: [model_sizes.decoding_flops(c, int(n)) / 1e6 for n in lengths]
    for name, c in zip(("all blocks see all", "SSSL"), wide, strict=True)
}
draw.draw_costs(lengths, costs)
full, short = (values[-1] for values in costs.values())
claim("at the end, less than two thirds", short < 0.67 * full)


# %% [markdown]
# The lines diverge where the text gets longer than the short window. From there on only three of the twelve blocks
# cost more with every token.
#
# `uv run base_train --model 2026` trains it; all other programs see from a checkpoint which of the two it holds.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/21_nanochat_2026_solutions.ipynb](solutions/21_nanochat_2026_solutions.ipynb).
#
# ### Exercise 21.1 — W and one more
#
# 10 minutes, ●○○. Write `window(queries, keys, W)`: arrays of positions, (T,) and (S,), in; a mask (T, S) out, `True` where the query may see the key: its
# own position, and the `W` before it.
#
# <details><summary>Hint 1</summary>`queries[:, None] - keys` is how far back each key lies: (T, S).</details>
#
# <details><summary>Hint 2</summary>A distance of 0 is the query's own key, one of W the farthest; both are seen. Combine two comparisons with `&`.</details>

# %% tags=["exercise"]
def window(queries, keys, W):
    raise NotImplementedError


# %%
check(exercises.window, window)


# %% [markdown]
# ### Exercise 21.2 — a smear across chunks
#
# 15 minutes, ●●○. A text comes in chunks. Write `smear(e, gates, last)`: `e` (T, d), the embeddings of a chunk, `gates` (T, 1), and `last`
# (d,), the unsmeared embedding before the chunk, or `None` at the beginning. Return the smeared chunk (T, d), and `last` for the next one.
#
# <details><summary>Hint 1</summary>Put the row that comes before in front of all rows of the chunk but the last: these are the neighbours.</details>
#
# <details><summary>Hint 2</summary>With `None`, that row is zeros. The new `last` is `e[-1]` as it came in.</details>

# %% tags=["exercise"]
def smear(e, gates, last):
    raise NotImplementedError


# %%
check(exercises.smear, smear)


# %% [markdown]
# ### Exercise 21.3 — no jumps
#
# 20 minutes, ●●○. nanochat looks at the start before it looks at the end. In a run of 50 steps the rates still rise when the
# warmdown should have begun, and then fall from 1 to a third in one step. Write `schedule(it, num_iterations)`, which returns
# the pair (multiplier, momentum) without such a jump: at each step the **smaller** of the rising and the falling line, of the rates and of the momentum.
# Numbers and edges are those above: 40 steps from 1/40 on, 400 from 0.85 on, a warmdown of 65 %, rounded to whole steps, 0.05 and 0.90 at step N.
#
# <details><summary>Hint 1</summary>Write four lines, each for all steps: two that rise and stop at the top, two that stay at the top and then fall.</details>
#
# <details><summary>Hint 2</summary>`share = max(0, it - (N - warmdown)) / warmdown` is 0 before the warmdown and 1 at step N. What goes from a to b is
# `a + (b - a) * share`. Take `min` of each pair.</details>

# %% tags=["exercise"]
def schedule(it, num_iterations):
    raise NotImplementedError


# %%
check(exercises.schedule, schedule)

# %% [markdown]
# ## Summary
#
# - A model of today is the one you know with shortcuts: for the token itself (shares of $x_0$, value tables), for its neighbour (smear), and from the middle to the end (backout).
# - Its optimizer makes rows even before the polar step and steps even after it, and decays only where that does not fight the step.
# - Best fit gives every row a beginning, and pays with text.
# - A gain that was found at one size need not show at another. Measure at yours, with its control.
#
# ## Pitfalls
#
# - A window of W that keeps W keys instead of W + 1.
# - Smearing with the smeared neighbour, or not at all at the beginning of a chunk.
#
# ## Further reading
#
# - [nanochat](https://github.com/karpathy/nanochat): `dev/LOG.md` there tells what was tried and dropped, too.
# - [modded-nanogpt](https://github.com/KellerJordan/modded-nanogpt).
# - [The Polar Express](https://arxiv.org/abs/2505.16932), Amsel et al., 2025, and [NorMuon](https://arxiv.org/abs/2510.05491), Li et al., 2025.
# - [Fewer Truncations Improve Language Modeling](https://arxiv.org/abs/2404.10830), Ding et al., 2024: best-fit packing that throws nothing away.
#
# **Next:** [22 · Weights in and out](22_weights.ipynb): models of other programs in yours, and yours in theirs.

# %% [markdown]
# # 03 · microGPT
#
# **Goal.** Build a whole GPT of 4,064 numbers, piece by piece, train it for 500 steps, read the names it writes, and find out whether attention has paid off yet.
#
# | | |
# |---|---|
# | Needs | [01 · Names](01_names.ipynb), [02 · Autograd](02_autograd.ipynb) |
# | Time | 70 minutes to read, 65 for the exercises; about a minute to run |
# | Memory | under 300 MB |
# | You will build | the model, its training loop and its sampler → `course_lib.names.microgpt` |

# %% [markdown]
# ![Map of the course: chapter 03 microgpt is marked, after 02 autograd and before 04 batches](images/map_03.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · **03** · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/03_microgpt.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export names.microgpt
"""microGPT: a GPT of 4,064 parameters that learns names, with its training loop and its sampler.

The model is that of Karpathy's microGPT (first revision): learned positions, RMSNorm without
weights, causal attention with four heads, an MLP with squared ReLU, no biases, an untied lm_head.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import mlx.core as mx
import mlx.nn as nn

from course_lib.names.bigram import CharTokenizer
from course_lib.names.fitting import compiling_pays, fit
from course_lib.names.fitting import (
    cosine_decay as cosine_decay,
)  # for those who import it from here
from course_lib.names.refusals import check_length, check_sizes, check_temperature, check_training

# %%
import time
from functools import partial

import matplotlib.pyplot as plt
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom import (
    LiveCurve,
    add_to,
    budget,
    check,
    claim,
    command_line,
    draw_gpt,
    record_loss,
)
from course_lib.classroom.exercises import microgpt as exercises
from course_lib.classroom.plots import draw_attention
from course_lib.names.bigram import (
    bigram_loss,
    bigram_probs,
    bigram_sample,
    load_names,
    split_names,
)
from course_lib.names.counts import backoff_loss, count_contexts

names = load_names()
train_names, held_out = split_names(names)
held_out = held_out[: budget(len(held_out), quick=100)]
tokenizer = CharTokenizer(names)

# %% [markdown]
# ## 1. What we are going to build
#
# First the finished thing, from the package: a GPT that trains while you wait and then writes names. Below it, the bigram model of
# chapter 01. Both draw letters from their own probabilities, unchanged. Cover the labels: could you tell which is which?

# %%
from course_lib.names import microgpt as finished

backend.seed_everything(42)
model = finished.MicroGPT(finished.MicroGPTConfig())
finished.train(model, train_names, tokenizer, num_steps=budget(500, quick=50))
table = bigram_probs(train_names, tokenizer)  # (27, 27)
keys = mx.random.split(mx.random.key(3), 200)
# temperature 1 leaves the model's probabilities as they are, see section 10
by_gpt = [finished.generate(model, tokenizer, temperature=1.0, key=key) for key in keys]
by_bigram = [bigram_sample(table, tokenizer, key=key) for key in keys]
print("microGPT", *by_gpt[:10])
print("bigram  ", *by_bigram[:10])

# %% [markdown]
# The upper line can mostly be read aloud. It comes from a **GPT**, a *generative pre-trained transformer*: it writes, it was trained
# on text beforehand, and it is built of attention and MLPs. ChatGPT has the same parts, only bigger and more.
#
# ## 2. One letter back is not enough
#
# The lower line has stumps in it. How many?

# %%
stumps = [sum(len(name) < 3 for name in written) / 200 for written in (by_gpt, by_bigram)]
print(f"fewer than three letters: microGPT {stumps[0]:.1%}, bigram {stumps[1]:.1%}")
claim("more than a fifth of the bigram's names are stumps", stumps[1] > 0.2)
claim("hardly any of microGPT's are", stumps[0] < 0.05)


# %% [markdown]
# The bigram sees one letter. After an *a* it gives the end of the name the same probability, wherever that *a* stands. Do names end
# that way?


# %%
def ends_there(place):
    """Of the training names with an a at that place (from 1), the share that end with it."""
    those = [name for name in train_names if name[place - 1 : place] == "a"]
    return sum(len(name) == place for name in those) / len(those)


says = table[tokenizer.id_of["a"], tokenizer.bos].item()
shares = {place: ends_there(place) for place in (1, 2, 4, 6)}
print(f"the bigram, at any place: {says:.0%}")
print("the names:", ", ".join(f"place {place} {share:.0%}" for place, share in shares.items()))
claim("an a in first place ends no name", shares[1] == 0)
claim("an a in sixth place ends more than half", shares[6] > 0.5)

# %% [markdown]
# So a model should look further back. Chapter 01 did that by counting. Each further letter makes the table 27 times as large, and soon
# nearly all its cells are empty. What a table learns after *mar* is of no use after *kar*: those are two different rows.
#
# We want a model in which similar beginnings *share* what is learned. For that, letters must become something that can be similar.
#
# ## 3. Vectors
#
# A list of numbers is called a **vector**. Think of each number as the answer to a question. Here are four letters with two made-up
# answers each: is it a vowel, and does it like to end a name? The fifth vector says what we are looking for after *emm*: surely
# a vowel, preferably one that ends names.

# %%
described = {"a": [1.0, 0.9], "o": [1.0, 0.3], "n": [-1.0, 0.6], "q": [-1.0, -0.9]}
wanted = [1.0, 0.5]
fits = {
    letter: vector[0] * wanted[0] + vector[1] * wanted[1] for letter, vector in described.items()
}
print({letter: round(fit, 2) for letter, fit in fits.items()})

draw_gpt.draw_arrows(described, "vowel?", "likes to end a name?", wanted=wanted)

# %% [markdown]
# What we computed is the **dot product**: multiply number by number and add up. It measures how well two vectors fit. Each
# product is positive where both give the same answer and negative where they differ, so the sum counts agreement. It depends on
# **direction**: positive for arrows that point the same way, 0 at right angles, negative for opposite ones. It also depends on **length**:
# *o* points more nearly the same way as *wanted*, but *a* is longer and wins. **Softmax** turns such numbers, logits, into probabilities.

# %%
logits = mx.array(list(fits.values()))
chances = mx.softmax(logits)
print({letter: round(p, 2) for letter, p in zip(fits, chances.tolist(), strict=True)})

# %% [markdown]
# In a model nobody makes up the answers or the questions. Each id has a row of numbers in a table; the row is the id's **embedding**. The rows start at
# random, and training moves them. Looking up an id means taking its row:

# %%
some_table = nn.Embedding(27, 16)
ids = mx.array(tokenizer.encode("emma"))
vectors = some_table(ids)
print(ids.tolist(), "->", vectors.shape)
assert mx.array_equal(vectors[2], vectors[3]), "both are m"

# %% [markdown]
# Soon we will also need the *place* of a letter. Every place gets a vector of its own, and the two are simply **added**. Apples and
# oranges? It works because vectors are read by dot products. The dot product with a sum is the sum of the dot products, so letter and
# place each have their say:

# %%
letter, place, reader = mx.array([1.0, 0.9]), mx.array([0.5, -2.0]), mx.array([1.0, 0.5])
together = ((letter + place) * reader).sum().item()
apart = (letter * reader).sum().item() + (place * reader).sum().item()
print(f"read together {together:.2f}, read apart {apart:.2f}")
assert abs(together - apart) < 1e-6


# %% [markdown]
# ## 4. Three letters back: a window
#
# Now the simplest model that looks further: take the vectors of the last three ids, side by side, and compute 27 logits from them.
# At the beginning of a name, BOS (•) fills the window. The right answers, the same ids one place on, are called **targets**.


# %%
def window(inputs):
    """For each id, itself and the two before it: (T, 3)."""
    padded = [tokenizer.bos] * 2 + inputs
    return mx.array([padded[n : n + 3] for n in range(len(inputs))])


def letters_of(ids):
    return "".join("•" if i == tokenizer.bos else tokenizer.chars[i] for i in ids)


ids = tokenizer.encode("emma")
inputs, targets = ids[:-1], ids[1:]
for row, target in zip(window(inputs).tolist(), targets, strict=True):
    print(letters_of(row), "→", letters_of([target]))

# %% [markdown]
# Two matrices compute the logits. Between them, every negative number becomes 0. Such a step is called an **activation function**, this
# one **ReLU** (rectified linear unit). Without it, two matrices in a row can do no more than one, their product:

# %%
x, first, second = (mx.random.normal(shape) for shape in ((1, 4), (4, 8), (8, 3)))
assert mx.allclose((x @ first) @ second, x @ (first @ second), rtol=1e-2, atol=1e-2)
with_relu = mx.maximum(x @ first, 0) @ second
print("without ReLU one matrix would do; with it:", [round(n, 2) for n in with_relu[0].tolist()])


# %% [markdown]
# Matrices with an activation function between them are called a **multi-layer perceptron**, in short **MLP**.


# %%
class WindowModel(nn.Module):
    """The last three ids, (T, 3) -> logits of the next, (T, 27)."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(27, 16)
        self.fc1 = nn.Linear(3 * 16, 48, bias=False)
        self.fc2 = nn.Linear(48, 27, bias=False)

    def __call__(self, ids):
        x = self.wte(ids).reshape(-1, 48)  # (T, 48): three vectors side by side
        return self.fc2(mx.maximum(self.fc1(x), 0))


def count(model):
    """How many numbers the model learns."""
    return sum(array.size for _, array in tree_flatten(model.trainable_parameters()))


print(count(WindowModel()), "parameters; a table of counts for three letters:", f"{27**4:,}")


# %% [markdown]
# The loss is chapter 01's: the mean of $-\ln p$ of the targets, called **cross-entropy**, in nats per guess. A name is cut to its
# first eight guesses; section 7 says why.


# %%
#| export names.microgpt
def loss_fn(model: nn.Module, inputs: mx.array, targets: mx.array) -> mx.array:
    """Mean cross-entropy in nats per guess: targets (T,) or (B, T) ids -> scalar."""
    return nn.losses.cross_entropy(model(inputs), targets, reduction="mean")


def example(name: str, tokenizer: CharTokenizer, block_size: int) -> tuple[list[int], list[int]]:
    """Ids of a name that go in, and those that must come out; at most `block_size` of each."""
    ids = tokenizer.encode(name)[: block_size + 1]
    return ids[:-1], ids[1:]


# %% [markdown]
# The loop is that of chapter 02: compute the loss and its gradients, move every parameter a little (the plain way is called SGD), and repeat.
# Each name is one step. The learning rate is large at first, to get near, and falls to 0 along half a cosine, to settle: `cosine_decay` is $(1 + \cos(\pi n / N)) / 2$ at step $n$ of $N$. Reading
# `loss.item()` leaves the update waiting until the next step needs it; `mx.eval` computes it in this step.


# %%
def train_simply(model, examples, optimizer, learning_rate):
    """One step for each (inputs, targets); returns their losses."""
    losses, loss_and_grad = [], nn.value_and_grad(model, loss_fn)
    for n, (inputs, targets) in enumerate(examples):
        optimizer.learning_rate = learning_rate * cosine_decay(n, len(examples))
        loss, gradients = loss_and_grad(model, inputs, targets)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())
    return losses


# %%
num_steps = budget(500, quick=20)
pairs = [example(name, tokenizer, 8) for name in train_names[:num_steps]]
windows = [(window(inputs), mx.array(targets)) for inputs, targets in pairs]
held_pairs = [example(name, tokenizer, 8) for name in held_out]
held_windows = mx.concatenate([window(inputs) for inputs, _ in held_pairs])
held_targets = mx.array([target for _, targets in held_pairs for target in targets])


def window_runs(make_optimizer, learning_rate):
    """Held-out losses of three window models, one for each seed."""
    losses = []
    for seed in seeds:
        backend.seed_everything(seed)
        window_model = WindowModel()
        train_simply(window_model, windows, make_optimizer(learning_rate), learning_rate)
        losses.append(loss_fn(window_model, held_windows, held_targets).item())
    return losses


seeds, started = (42, 1, 2), time.perf_counter()
window_losses = window_runs(optim.SGD, 0.5)
seconds = (time.perf_counter() - started) / 3
bigram = bigram_loss(table, held_out, tokenizer, max_len=8)
print("window and MLP", *(f"{loss:.3f}" for loss in window_losses), f"| bigram {bigram:.3f}")

# %% [markdown]
# Three letters back, and *worse* than one? The bigram counted every training name; our model met 500. Give both the same 500:

# %%
few = train_names[:500]
bigram_few = bigram_loss(bigram_probs(few, tokenizer), held_out, tokenizer, max_len=8)
print(f"bigram of the same 500 names {bigram_few:.3f}")
claim("with every seed the window beats that bigram", max(window_losses) < bigram_few)
idea, size = "three letters back, no attention", count(WindowModel())
record_loss("03", "window + MLP", idea, "names", num_steps, window_losses, size, seconds)

# %% [markdown]
# And a table of three letters, from the same 500 names, with chapter 01's smoothing?

# %%
counts = np.full((27, 27, 27, 27), 0.3)
for rows, targets in windows:
    np.add.at(counts, (*np.array(rows).T, np.array(targets)), 1)
asked = counts[tuple(np.array(held_windows).T)]  # (N, 27)
chances = asked[range(len(asked)), np.array(held_targets)] / asked.sum(axis=1)
table_few = -np.log(chances).mean()
print(f"table of three letters, 500 names: {table_few:.3f}")
claim("the window beats it by far", max(window_losses) < table_few - 0.1)

# %% [markdown]
# Both see three letters. The table has to meet each beginning itself; vectors share what they learn. (So does back-off, in another way: chapter 01.) But a window is stiff. Each place in it has its own part of the first matrix: what that part learns about an *m* one
# back says nothing about an *m* two back, and four back it sees nothing. Could a model choose for itself where to look?
#
# ## 5. Attention: choosing where to look
#
# Four steps, on *emma*, with vectors of three numbers: vowel, consonant, start.
#
# **Step 1: the average of the past.** Each position takes the mean of the vectors up to its own. A mean is a weighted sum, so one matrix
# product does it for all positions.

# %%
letters, kind = ["•", *"emma"], ["vowel", "consonant", "start"]
kinds = mx.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]])  # (T, 3)
past = mx.tril(mx.ones((5, 5)))  # 1 on and below the diagonal: itself and what came before
weights = past / past.sum(axis=1, keepdims=True)  # (T, T)
draw_gpt.draw_mixing(weights, kinds, weights @ kinds, letters, kind)

# %% [markdown]
# Read a row of weights from left to right: the last *a* takes a fifth of each. What it gets says "two parts vowel, two parts consonant,
# one part start". Above the diagonal all is 0, since the future must stay hidden: the next letter is the answer.
#
# **Step 2: a weighted average.** Not every letter deserves the same weight. Give each a **score**, and let softmax turn scores into
# weights that are positive and sum to 1. Here vowels score 2, consonants 1, the start 0.

# %%
scores = mx.array([[0.0, 2.0, 1.0, 1.0, 2.0]] * 5)  # row: who looks; column: at whom
careless = mx.softmax(scores, axis=1)
print("• looks at", {a: round(w, 2) for a, w in enumerate(careless[0].tolist())})

# %% [markdown]
# The start looks at position 1, where the *e* stands that it has to guess. That would be cheating. So before the softmax $-\infty$ is
# added to every score above the diagonal. Since $e^{-\infty} = 0$, these weights become exactly 0. This is the **causal mask**.

# %%
future = mx.triu(mx.full((5, 5), -mx.inf), k=1)  # -inf above the diagonal, else 0
weights = mx.softmax(scores + future, axis=1)
draw_gpt.draw_mixing(weights, kinds, weights @ kinds, letters, kind)
assert weights[0].tolist() == [1, 0, 0, 0, 0]

# %% [markdown]
# **Step 3: each position asks for itself.** So far all rows prefer the same letters. But what is worth looking at depends on who looks.
# Every position turns its vector into three new ones, each with a matrix:
#
# - a **query** $q$: what I am looking for,
# - a **key** $k$: what I have on offer,
# - a **value** $v$: what you get from me.
#
# The score is the dot product of a query and a key: how well they fit. Below, made-up matrices let consonants look
# for vowels and vowels look for consonants. A value is +1 for a vowel, −1 for a consonant.

# %%
wq = mx.array([[0.0, 3.0], [3.0, 0.0], [0.0, 0.0]])  # to: seeks a vowel, seeks a consonant
wk = mx.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])  # to: is a vowel, is a consonant
wv = mx.array([[1.0], [-1.0], [0.0]])
q, k, v = kinds @ wq, kinds @ wk, kinds @ wv  # (T, 2), (T, 2), (T, 1)
scores = q @ k.T / math.sqrt(2) + future  # (T, T)
weights = mx.softmax(scores, axis=1)
parts = {"q": q, "k": k, "scores": scores, "weights": weights, "v": v, "mixed": weights @ v}
draw_gpt.draw_attention_steps(parts, letters)

# %% [markdown]
# Follow the last row. *a* is a vowel, so its query has its 3 on the right: it seeks consonants. That fits the keys of both *m*s. They get
# most of the weight, so the mix is −0.75, on the side of −1: "I have seen consonants".
#
# Who looks at whom now follows from matrices, which training can find.
#
# That is **attention**, more exactly *self-attention*: the positions of one text attend to each other. The whole formula fits in a line:
#
# $$ \mathrm{attention}(q, k, v) = \mathrm{softmax}\!\left(\frac{q\,k^\top}{\sqrt{D}} + \text{mask}\right) v $$
#
# And the $\sqrt{D}$? $D$ is how many numbers a query has. The more numbers are multiplied and added, the larger dot products get. How much
# larger? Measure the standard deviation for random vectors:

# %%
spreads = {}
for D in (4, 64, 256):
    one, other = mx.random.normal((2, 20_000, D), key=mx.random.key(D))
    spreads[D] = mx.std((one * other).sum(axis=1)).item()
    print(f"D = {D:3d}: spread {spreads[D]:5.2f}, divided by √D {spreads[D] / D**0.5:.2f}")
within = [abs(spread / D**0.5 - 1) < 0.05 for D, spread in spreads.items()]
claim("divided by √D, the spread is 1 whatever D is", all(within))

# %% [markdown]
# What is wrong with large scores? Here are three, as they are and 16 times as large, as with $D = 256$ undivided. Beside them stands
# $p(1 - p)$, the derivative of the first weight with respect to its score:

# %%
three = mx.array([1.0, 0.2, -0.8])
for times in (1, 16):
    row = mx.softmax(times * three)
    p, slope = row[0].item(), mx.grad(lambda z: mx.softmax(z)[0])(times * three)[0].item()
    print(f"{times:2d} times:", [round(w, 4) for w in row.tolist()], f"slope {slope:.6f}")
    assert abs(slope - p * (1 - p)) < 1e-6

# %% [markdown]
# One position gets everything, and hardly any gradient is left to change that.

# %% [markdown]
# Swap the first two letters, *emma* to *mema*, and ask what the last *a* gets:

# %%
swapped = mx.array([0, 2, 1, 3, 4])
last = mx.softmax(scores[4])
before, after = last @ v, last[swapped] @ v[swapped]
print(f"emma {before.item():.4f} | mema {after.item():.4f}")
assert mx.allclose(before, after, atol=1e-6)


# %% [markdown]
# The same: a weighted sum does not care about order. That is why the place has to be *in* the vectors, as section 3 put it there.
#
# **Step 4: several heads.** One set of weights can look for one thing at a time. So the queries, keys and values are cut into $H$ parts of
# $D = C/H$ numbers, where $C$ is how many a position's vector has. Each part, called a **head**, attends by itself. At the end the
# parts are put side by side again, and another matrix, `wo`, mixes them.
#
# As code, sizes first:
#
# | name | here | meaning |
# |---|---|---|
# | `n_embd` | 16 | $C$, the numbers in the vector of one position |
# | `n_head` | 4 | heads |
# | `n_layer` | 1 | blocks stacked on each other (section 6) |
# | `block_size` | 8 | positions that the model can see at once, its context length |
# | `vocab_size` | 27 | ids: 26 letters and BOS |
#
# Cutting into heads is a `reshape`; no number changes. The heads become an axis of their own, so that one matrix product serves them all. (In shapes, $T$ is
# the number of positions, and `...` stands for any axes in front. `check_sizes` refuses sizes that cannot work.)


# %%
#| export names.microgpt
@dataclass(frozen=True)
class MicroGPTConfig:
    """Sizes of a microGPT; the defaults give 4,064 parameters. `n_head` must divide `n_embd`."""

    n_embd: int = 16
    n_head: int = 4
    n_layer: int = 1
    block_size: int = 8
    vocab_size: int = 27

    def __post_init__(self):
        check_sizes(self)


class Attention(nn.Module):
    """Causal self-attention with several heads and no biases (Vaswani et al., 2017).

    x: (..., T, C) -> (..., T, C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.wq = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wk = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wv = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wo = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def heads(self, x: mx.array) -> mx.array:
        """Cut each vector into heads: (..., T, C) -> (..., H, T, D) with D = C / H."""
        cut = x.reshape(*x.shape[:-1], self.n_head, -1)  # (..., T, H, D)
        return mx.swapaxes(cut, -2, -3)


# %%
config = MicroGPTConfig()
attention = Attention(config)
counting = mx.arange(5 * 16).reshape(5, 16)
draw_gpt.draw_heads(counting, attention.heads(counting), letters)
assert attention.heads(counting)[1, 2].tolist() == counting[2, 4:8].tolist()


# %%
#| export names.microgpt
@add_to(Attention)
def weights(self, x: mx.array) -> mx.array:
    """What each position takes from each earlier one and itself; rows sum to 1.

    x: (..., T, C) -> (..., H, T, T)
    """
    q, k = self.heads(self.wq(x)), self.heads(self.wk(x))  # (..., H, T, D)
    scores = q @ mx.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])  # (..., H, T, T)
    length = x.shape[-2]
    future = mx.triu(mx.full((length, length), -mx.inf), k=1)
    return mx.softmax(scores + future, axis=-1)


@add_to(Attention)
def __call__(self, x: mx.array) -> mx.array:
    mixed = self.weights(x) @ self.heads(self.wv(x))  # (..., H, T, D)
    return self.wo(mx.swapaxes(mixed, -2, -3).reshape(x.shape))


# %% [markdown]
# Two checks. MLX has attention built in; ours must agree with it (it wants one more axis in front). And nothing may leak from the future:
# change the last vector, and what the earlier positions compute must stay the same.

# %%
x = mx.random.normal((5, 16))
matrices = (attention.wq, attention.wk, attention.wv)
q, k, v = (attention.heads(matrix(x))[None] for matrix in matrices)  # (1, H, T, D) each
mixed = mx.fast.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(4), mask="causal")[0]
theirs = attention.wo(mx.swapaxes(mixed, 0, 1).reshape(5, 16))
print("largest difference", mx.abs(attention(x) - theirs).max().item())
assert mx.allclose(attention(x), theirs, atol=5e-3 * mx.abs(theirs).max().item())

changed = mx.concatenate([x[:-1], x[-1:] + 1])
before, after = attention(x), attention(changed)
assert mx.allclose(after[:-1], before[:-1], atol=1e-6), "an earlier position saw the last one"


# %% [markdown]
# ## 6. The other parts of a block
#
# Attention collects. An **MLP** works on what was collected, for each position alone. It is the window model's, but its activation function
# is **squared ReLU**, $\max(x, 0)^2$.


# %%
#| export names.microgpt
class MLP(nn.Module):
    """Two matrices with a squared ReLU between, at four times the width (So et al., 2021).

    x: (..., C) -> (..., C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.fc2 = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        hidden = mx.maximum(self.fc1(x), 0) ** 2  # (..., 4C)
        return self.fc2(hidden)


# %% [markdown]
# Attention and MLP do not replace the vector of a position. They *add* to it:
#
# $$ x \leftarrow x + \mathrm{attention}(\mathrm{norm}(x)), \qquad x \leftarrow x + \mathrm{mlp}(\mathrm{norm}(x)) $$
#
# Picture a sheet of paper that is passed along. Each part reads it and adds a note. The sheet is called the **residual stream**, the sums
# **residual connections**. They also help gradients: the derivative of $x + f(x)$ is $1 + f'(x)$, and the 1 is a direct path for the
# gradient past every part.
#
# With every note the numbers may grow. So each part reads through **RMSNorm**, which divides a vector by its size, the root of the mean
# of its squares (root mean square):
#
# $$ \mathrm{rmsnorm}(x) = \frac{x}{\sqrt{\frac{1}{C}\sum_i x_i^2 + \epsilon}} $$
#
# ($\epsilon$ = 0.00001 keeps a zero vector from being divided by 0.) For the vector (3, 4) that size is $\sqrt{(9 + 16)/2} = 3.54$.


# %%
#| export names.microgpt
class RMSNorm(nn.Module):
    """Divide each vector by its root mean square; no weights (Zhang and Sennrich, 2019).

    x: (..., C) -> (..., C)
    """

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + self.eps)


# %%
norm = RMSNorm()
print("(3, 4) becomes", [round(n, 3) for n in norm(mx.array([3.0, 4.0])).tolist()])
assert mx.allclose(norm(x), norm(100 * x), atol=1e-3), "the size does not matter"
assert mx.allclose(norm(x), mx.fast.rms_norm(x, weight=None, eps=1e-5), atol=1e-3)


# %% [markdown]
# (`mx.rsqrt(y)` is $1/\sqrt{y}$.) A **block** puts it all together:


# %%
#| export names.microgpt
class Block(nn.Module):
    """Attention, then the MLP, each after a norm and added to its input.

    x: (..., T, C) -> (..., T, C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.norm1 = RMSNorm()
        self.attn = Attention(config)
        self.norm2 = RMSNorm()
        self.mlp = MLP(config)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


# %% [markdown]
# ## 7. The whole model
#
# Here is everything at once, for *emma*. Read it from the bottom up.

# %%
draw_gpt.draw_microgpt(letters, config.n_embd, config.n_head, config.vocab_size)


# %% [markdown]
# The grey line is the residual stream: five vectors of 16 numbers. It begins as letter plus place, and each grey box adds to it. One
# RMSNorm stands before the blocks: the tables start tiny, and it gives the stream size 1 from the first step on. At the top,
# `lm_head` (language model head; not attention's) turns each vector into 27 logits. It holds a row for each id,
# and a logit is the dot product with that row: how well this letter fits. No norm stands before it, as in the original microGPT, so a longer
# vector makes surer guesses. Chapter 08's model has a norm in both places.
#
# (The names are GPT-2's: *word token embedding*, *word position embedding*, *fully connected*.) So microGPT has two tables of letters, one to read (`wte`) and one to write (`lm_head`). They are **untied**.
#
# One way through the model, from ids to logits, is a **forward pass**. `wpe` has eight rows, one for each place, so the model
# makes at most eight guesses: that is why a name is cut.
#
# All matrices start as small random numbers with a standard deviation of 0.02. Only the last ones of attention and MLP, `wo` and `fc2`,
# start at zero: at first a block adds nothing, and it learns what to add. (The gradient of a zero matrix is not zero, so it moves in the
# first step, and the matrices before it follow.)


# %%
#| export names.microgpt
class MicroGPT(nn.Module):
    """A small GPT over characters.

    ids: (T,), or (B, T) for B names at once -> logits (T, V) or (B, T, V).
    Raises CourseError for more positions than `block_size`.
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.norm_in = RMSNorm()
        self.layers = [Block(config) for _ in range(config.n_layer)]
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        init_weights(self)

    def __call__(self, ids: mx.array) -> mx.array:
        length = ids.shape[-1]
        check_length(length, self.config.block_size)
        x = self.norm_in(self.wte(ids) + self.wpe(mx.arange(length)))  # (..., T, C)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)  # (..., T, V)


def init_weights(model: MicroGPT) -> None:
    """Normal, standard deviation 0.02, for every matrix but `wo` and `fc2`, which become zero."""
    normal, zero = nn.init.normal(std=0.02), nn.init.constant(0.0)
    model.apply(normal)
    for layer in model.layers:
        layer.attn.wo.apply(zero)
        layer.mlp.fc2.apply(zero)


# %% [markdown]
# Count the parameters by hand, then ask the model.

# %% tags=["nbval-check-output"]
C, V = config.n_embd, config.vocab_size
by_hand = {"wte": V * C, "wpe": 8 * C, "attention": 4 * C * C, "mlp": 8 * C * C, "lm_head": V * C}
print(by_hand)
print("together", sum(by_hand.values()), "| in the model", count(MicroGPT(config)))
assert count(MicroGPT(config)) == sum(by_hand.values()) == 4064

# %% [markdown]
# And the loss. A model that starts with small numbers gives every id about the same probability. What must its loss be, then? Work it
# out before you run the cell.

# %%
backend.seed_everything(42)
model = MicroGPT(config)
inputs, targets = map(mx.array, example("emma", tokenizer, 8))
probabilities = mx.softmax(model(inputs), axis=-1)  # (T, V)
chosen = [probabilities[t, target].item() for t, target in enumerate(targets.tolist())]
by_hand = -sum(math.log(p) for p in chosen) / len(chosen)
print(f"by hand {by_hand:.4f} | loss_fn {loss_fn(model, inputs, targets).item():.4f}")
print(f"ln 27   {math.log(27):.4f}")
assert abs(by_hand - loss_fn(model, inputs, targets).item()) < 1e-5
assert abs(by_hand - math.log(27)) < 0.1


# %% [markdown]
# A new model that is not near $\ln V$ is wrong before training has begun.
#
# ## 8. Training, with a better optimizer
#
# So far each parameter moved by the learning rate times its gradient. That is **SGD** (stochastic gradient descent). It has a weakness:
# one learning rate for all. Parameters with small gradients hardly move; turn the rate up for them, and others overshoot.
#
# **Adam** measures each parameter by its own past. It keeps a running mean $m$ of its gradient and a running mean $v$ of the squared
# gradient, and moves it by about $m/\sqrt{v}$ times the learning rate. Does the gradient always point one way? Then $m$ is as large as
# $\sqrt{v}$ and the step is a full one, however small the gradient. Does it keep changing its sign? Then $m$ is close to 0 and the step is small.

# %%
for gradients in ([0.5, 0.5], [-3.0, -3.0], [0.5, -0.5]):
    m = v = w = 0.0
    for n, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        step = 0.01 * (m / (1 - 0.9**n)) / math.sqrt(v / (1 - 0.95**n))
        w -= step
        print(f"gradient {g:4}: m {m:6.3f}, v {v:.4f}, step {-step:+.4f}", end=" | ")
    print(f"moved {w:+.4f}")

# %% [markdown]
# The first step is the learning rate, 0.01, for a small gradient and for a large one; so is the second if the gradient stays the same. If it
# flips its sign, the second step is almost zero. (Each mean keeps 0.9 or 0.95 of its old value and starts at 0, so at first it is too small. Dividing
# by $1 - 0.9^n$ makes up for that.) MLX's Adam does the same, if you ask for the correction; its `eps` keeps it from dividing by 0:

# %%
settings = {"learning_rate": 1e-2, "betas": [0.9, 0.95], "eps": 1e-8, "bias_correction": True}
adam, there = optim.Adam(**settings), {"w": mx.array(0.0)}
for g in gradients:
    there = adam.apply_gradients({"w": mx.array(g)}, there)
print(f"MLX's Adam after both steps: {there['w'].item():+.4f}")
assert abs(there["w"].item() - w) < 1e-6

# %% [markdown]
# Is Adam worth it? The same names, steps and seeds, judged on training names that none of these models meets; for SGD the best of three learning rates:


# %%
#| export names.microgpt
def evaluate(model: nn.Module, docs: list[str], tokenizer: CharTokenizer) -> float:
    """Loss in nats per guess over all of `docs`, each name cut to `block_size` predictions."""
    total, count = 0.0, 0
    for name in docs:
        inputs, targets = example(name, tokenizer, model.config.block_size)
        total += loss_fn(model, mx.array(inputs), mx.array(targets)).item() * len(inputs)
        count += len(inputs)
    return total / count


# %%
examples = [(mx.array(inputs), mx.array(targets)) for inputs, targets in pairs]
fresh = train_names[-budget(1600, quick=50) :]
makers = {f"SGD {rate}": partial(optim.SGD, rate) for rate in (0.1, 0.5, 1.0)}
makers["Adam 0.01"] = partial(optim.Adam, **settings)
ends = {}
for name, make in makers.items():
    ends[name] = []
    for seed in reversed(seeds):  # 42 comes last: the package's loop is compared with it below
        backend.seed_everything(seed)
        model, optimizer = MicroGPT(config), make()
        simple_losses = train_simply(model, examples, optimizer, optimizer.learning_rate.item())
        ends[name].append(evaluate(model, fresh, tokenizer))
    print(f"{name:9s}", *(f"{loss:.4f}" for loss in ends[name]))
*with_sgd, with_adam = ends.values()
best_sgd = min((run for run in with_sgd if not math.isnan(sum(run))), key=sum)
claim("with every seed, Adam ends below the best SGD", max(with_adam) < min(best_sgd))

# %% [markdown]
# At the largest rate SGD's numbers overflow: `nan` means "not a number". So microGPT takes Adam.
#
# The package's loop, `train`, also refuses what cannot work, calls `on_step` for the live curve, and compiles the step where that pays
# (chapter 04). None of that should change a number beyond rounding. Compare it with the last run above, Adam with seed 42:


# %%
#| export names.microgpt
def train(
    model: MicroGPT,
    docs: list[str],
    tokenizer: CharTokenizer,
    num_steps: int = 500,
    learning_rate: float = 1e-2,
    on_step: Callable[[int, float], None] | None = None,
    compiled: bool | None = None,
) -> list[float]:
    """Train the model in place, one name per step in the order of `docs`, over and over; see `fit`.

    compiled: whether to compile the step; None does so where it pays.
    Returns the loss of each step in nats per guess. Raises CourseError for no names, no steps, or a
    tokenizer whose ids the model does not have.
    """
    check_training(docs, num_steps, tokenizer.vocab_size, model.config.vocab_size)
    compiled = compiling_pays(num_steps) if compiled is None else compiled
    pairs = (example(name, tokenizer, model.config.block_size) for name in cycle(docs))
    arrays = ((mx.array(inputs), mx.array(targets)) for inputs, targets in pairs)
    return fit(model, loss_fn, arrays, num_steps, learning_rate, on_step, compiled)


# %%
backend.seed_everything(42)
model = MicroGPT(config)
lines = {"bigram": bigram, "knows nothing, ln 27": math.log(27)}
curve = LiveCurve(references=lines, total=num_steps, window=50)
started = time.perf_counter()
same_losses = train(model, train_names, tokenizer, num_steps, on_step=curve.add)
seconds = time.perf_counter() - started
curve.show()
largest = max(abs(a - b) for a, b in zip(simple_losses, same_losses, strict=True))
print(f"first loss {simple_losses[0]:.4f} | largest difference from the simple loop {largest:.1e}")
assert largest < 0.01


# %% [markdown]
# The pale line is the loss of single names. It jumps, because a rare name is hard for any model. Judge the thick line, the mean of the
# last 50 steps: it falls for some 170 steps and then swings about the bigram's. The honest measure is the loss on all held-out
# names, with more than one seed:


# %%
def trained(seed, attention=True):
    """A model of that seed, trained as above, with or without attention."""
    backend.seed_everything(seed)
    model = MicroGPT(config)
    if not attention:
        model.layers[0].attn = Nothing()
    train(model, train_names, tokenizer, num_steps)
    return model


models = [trained(seed) for seed in seeds]
whole = [evaluate(model, held_out, tokenizer) for model in models]
print("microGPT", *(f"{loss:.4f}" for loss in whole), f"| bigram {bigram:.4f}")
idea, size = "letter, place, attention", count(model)
record_loss("03", "microGPT", idea, "names", num_steps, whole, size, seconds)
claim("each seed is below the bigram of all names", max(whole) < bigram)
window_adam = window_runs(lambda rate: optim.Adam(**settings), 0.01)
print("window and MLP, with Adam", *(f"{loss:.3f}" for loss in window_adam))
claim("and below the window, with either optimizer", max(whole) < min(window_losses + window_adam))


# %% [markdown]
# ## 9. Did attention earn its place?
#
# Which part of it does the work? Attention, everyone says. Leave it out, train again, and
# see what is lost: that is called an **ablation**. In its place we put something that adds nothing to the stream.


# %%
class Nothing(nn.Module):
    """In the place of a part: adds nothing."""

    def __call__(self, x):
        return mx.zeros_like(x)


without = [evaluate(trained(seed, attention=False), held_out, tokenizer) for seed in seeds]
mean, mean_without = sum(whole) / 3, sum(without) / 3
print("with attention   ", *(f"{loss:.4f}" for loss in whole), f"| mean {mean:.4f}")
print("without attention", *(f"{loss:.4f}" for loss in without), f"| mean {mean_without:.4f}")
print(f"it bought {mean_without - mean:.4f}, seeds differ by {max(whole) - min(whole):.4f}")
claim("attention is worth less than 0.01 here", abs(mean_without - mean) < 0.01)
claim("without it, each seed is still below the bigram", max(without) < bigram)


# %% [markdown]
# The famous part bought 0.004 nats, a little with each seed, and about as much as seeds differ. (All seeds read the same 500 names. Other names change more: chapter 04.) Without it a position knows only its letter and
# its *place*. That is enough to beat the bigram. Chapter 04 trains longer, on all names, and takes out each part in turn: there
# attention is worth 0.06.
#
# ### And the counts?
#
# Letter and place can also be counted, and longer beginnings, with back-off (chapter 01):


# %%
def letter_and_place(docs):
    """Held-out loss of a table that counts, for each place and letter, what follows (plus 0.3)."""
    counts = np.full((8, 27, 27), 0.3)
    for inputs, targets in (example(name, tokenizer, 8) for name in docs):
        np.add.at(counts, (range(len(inputs)), inputs, targets), 1)
    probs = counts / counts.sum(axis=2, keepdims=True)
    found = [probs[range(len(inputs)), inputs, targets] for inputs, targets in held_pairs]
    return -np.log(np.concatenate(found)).mean()


place_few, place_all = letter_and_place(few), letter_and_place(train_names)
backoff_few = backoff_loss(count_contexts(few, tokenizer, 8), held_out, tokenizer, 8, max_len=8)
print(f"letter           500 names {bigram_few:.3f} | all {len(train_names):,} {bigram:.3f}")
print(f"letter and place 500 names {place_few:.3f} | all {len(train_names):,} {place_all:.3f}")
print(f"back-off         500 names {backoff_few:.3f}")
print(f"microGPT         500 names {mean:.3f}")
best_few = min(bigram_few, place_few, backoff_few)
claim("from the same 500 names, microGPT beats all three", max(whole) < best_few)
claim("from all names, the table of letter and place beats microGPT", min(whole) > place_all)

# %% [markdown]
# From the same 500 names the model learns more than any of the counts, smoothed as chapter 01 chose it for all names. But counting is so cheap that a table can have all
# names. Then a plain table of letter and place leaves our 4,064 parameters behind, and chapter 01's back-off is better still (2.373).
#
# Why go on, then? Our model has not seen most names yet: chapter 04 shows it all of them. And tables end where contexts get long. For
# eight letters a full one needs 27⁹ cells, and the context of a chat is thousands of words. Hardly any context ever comes
# twice, so only a model that shares can learn from them.
#
# ## 10. Writing names
#
# To write a name, start with BOS, ask the model for the next id, append it, ask again, and stop at the next BOS. Before the softmax the
# logits are divided by a number, the **temperature**. Which letters follow *emm* at three temperatures?

# %%
after_emm = model(mx.array(tokenizer.encode("emm")[:-1]))[-1]  # (27,) logits of the last position
chances = {f"temperature {t}": mx.softmax(after_emm / t).tolist() for t in (2.0, 1.0, 0.5)}
draw_gpt.draw_chances([*tokenizer.chars, "•"], chances)

# %% [markdown]
# At 1 the probabilities stay as they are. Above 1 the bars become more equal; below 1 the likely letters gain. Temperature 0
# is handled separately: it always takes the likeliest letter.


# %%
#| export names.microgpt
def generate(
    model: MicroGPT, tokenizer: CharTokenizer, temperature: float = 0.5, key: mx.array | None = None
) -> str:
    """Write one name of at most `block_size` letters.

    temperature: 0 takes the likeliest letter each time. key: from mx.random.key; None uses the
    global random state.
    Raises CourseError for a negative or not finite temperature.
    """
    check_temperature(temperature)
    ids = [tokenizer.bos]
    for _ in range(model.config.block_size):
        logits = model(mx.array(ids))[-1]  # (V,) of the last position
        if temperature == 0:
            next_id = mx.argmax(logits).item()
        else:
            step_key = None
            if key is not None:
                key, step_key = mx.random.split(key)
            next_id = mx.random.categorical(logits / temperature, key=step_key).item()
        if next_id == tokenizer.bos:
            break
        ids.append(next_id)
    return tokenizer.decode(ids)


# %% [markdown]
# Twenty names at temperature 0.5 (those in the list in brackets), and a few at others:

# %%
samples = [generate(model, tokenizer, key=k) for k in mx.random.split(mx.random.key(42), 20)]
print("temperature 0.5", *(f"({name})" if name in names else name for name in samples))
for temperature in (0, 0.2, 1.0, 2.0):
    keys = mx.random.split(mx.random.key(1), 6)
    written = [generate(model, tokenizer, temperature, key) for key in keys]
    print(f"temperature {temperature:3}", *written)


# %% [markdown]
# At 0 nothing is left to chance, so every name is the same. At 0.2 and 0.5 vowels and consonants take turns, and
# endings look like endings.
#
# ## 11. What do the heads look at?
#
# A row is a position that looks, and its dark squares are what it looks at:


# %%
def attention_of(model, name):
    """Weights of the block's heads for one name: (H, T, T)."""
    ids = mx.array(example(name, tokenizer, 8)[0])
    x = model.norm_in(model.wte(ids) + model.wpe(mx.arange(len(ids))))
    block = model.layers[0]
    return block.attn.weights(block.norm1(x))


backend.seed_everything(42)
untrained = MicroGPT(config)
for label, which in {"untrained": untrained, "trained": model}.items():
    figure, axes = plt.subplots(1, config.n_head, figsize=(9, 2.7), sharey=True)
    draw_attention(axes, attention_of(which, "mariano").tolist(), ["•", *"mariano"])
    axes[0].set_ylabel(f"who looks ({label})")
    figure.tight_layout()
    plt.show()


# %% [markdown]
# Untrained, every head is the plain average of the past: the small starting values make all scores nearly 0. After training, in head
# 0, *r* looks almost only at the *a* before it. Do consonants look at vowels? One name can mislead, so ask 200 held-out
# names: what share of the consonants' attention goes to vowels, and what share would a plain average give them?


# %%
def given_to_vowels(weights_of):
    """What share of the consonants' attention vowels get: (H,). weights_of(name): (H, T, T)."""
    shares = []
    for name in held_out[:200]:
        read = ("•" + name)[:8]
        to = mx.array([float(letter in "aeiou") for letter in read])  # (T,)
        got = weights_of(name) @ to  # (H, T)
        shares += [got[:, t] for t, letter in enumerate(read) if letter not in "•aeiou"]
    return mx.stack(shares).mean(axis=0)


even = given_to_vowels(lambda name: attention_of(untrained, name)).max().item()
print(f"plain average {even:.2f}")
most = []
for seed, one in zip(seeds, models, strict=True):
    by_head = given_to_vowels(lambda name, one=one: attention_of(one, name)).tolist()
    most.append(max(by_head))
    print(f"seed {seed:2d}", *(f"head {n} {share:.2f}" for n, share in enumerate(by_head)))
claim("with each seed, some head turns consonants towards vowels", min(most) > 1.4 * even)

# %% [markdown]
# In section 5 we made up a head in which consonants look for vowels. With each seed, training found one that leans that way, though nobody
# told the model what a vowel is.
#
# ## 12. The program
#
# In a terminal, `uv run microgpt` trains this model for 500 steps, with no names held out:

# %%
from course_lib.scripts.microgpt import main

main(command_line(notebook_flags=["--quiet"]))

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/03_microgpt_solutions.ipynb](solutions/03_microgpt_solutions.ipynb).
#
# ### Exercise 3.1 — count before you build
#
# 10 minutes, ●○○. Write `parameters_of(config)`, the number of parameters of `MicroGPT(config)` for any sizes,
# by arithmetic alone, without making the model.
#
# <details><summary>Hint 1</summary>
#
# Section 7 counted the parts of one model. Which of them are there once, and which once for each layer?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Once: `wte`, `wpe`, `lm_head`. For each layer: four matrices of $C \cdot C$ in attention and two of $4C \cdot C$ in the MLP. The
# norms have none.
#
# </details>


# %% tags=["exercise"]
def parameters_of(config):
    raise NotImplementedError


# %%
check(exercises.parameters_of, parameters_of)


# %% [markdown]
# ### Exercise 3.2 — attention without matrices
#
# 20 minutes, ●●○. Write `attend(q, k, v)` for one head with plain Python loops over lists of lists: causal, scaled,
# softmax, mean of the values. It returns a list of T lists.
#
# <details><summary>Hint 1</summary>
#
# Work on one position t at a time. Which keys may it see?
#
# </details>
# <details><summary>Hint 2</summary>
#
# For position t, loop over s from 0 to t only: then no mask is needed. The score is the dot product of `q[t]` and `k[s]`, divided by
# `math.sqrt(len(q[t]))`; its weight is `math.exp` of it, divided by the sum of all of them. Number i of the result is the sum of
# weight times `v[s][i]`.
#
# </details>


# %% tags=["exercise"]
def attend(q, k, v):
    raise NotImplementedError


# %%
check(exercises.attend, attend)


# %% [markdown]
# ### Exercise 3.3 — finish my name
#
# 15 minutes, ●●○. Write `finish(model, tokenizer, start, temperature, key)`: a name that begins with the letters `start`.
#
# <details><summary>Hint 1</summary>
#
# `generate` begins with BOS alone. What should the model have read already?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Begin with `ids = tokenizer.encode(start)[:-1]`: BOS and the letters, without the BOS at the end. Then go on as `generate` does, also at
# temperature 0, while there are at most `block_size` ids. Split the key before each draw.
#
# </details>


# %% tags=["exercise"]
def finish(model, tokenizer, start, temperature, key):
    raise NotImplementedError


# %%
check(exercises.finish, finish)


# %% [markdown]
# ### Exercise 3.4 — one change at a time
#
# 20 minutes, ●●○. Is the square of the squared ReLU worth anything? Write `plain_relu_model(config)`, which returns a `MicroGPT` whose
# MLPs use plain ReLU and which is otherwise this chapter's model, with starting values of the same kind. Then compare as in section 9, with
# three seeds. No visible difference is also a result.
#
# <details><summary>Hint 1</summary>
#
# Make a subclass of `MLP` with its own `__call__`. Where does the model keep its MLPs?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Make a `MicroGPT`, put your MLP in place of each layer's `mlp`, and at the end call `init_weights` on the model once more: a new MLP
# has other starting values.
#
# </details>


# %% tags=["exercise"]
def plain_relu_model(config):
    raise NotImplementedError


# %%
check(exercises.plain_relu_model, plain_relu_model)

# %% [markdown]
# ## Summary
#
# - Letters and places become vectors; a dot product says how well two vectors fit.
# - Attention is a weighted mean of values. Queries and keys set the weights, and the causal mask hides the future.
# - A GPT consists of embeddings, blocks of attention and MLP that add to the residual stream, and a head that turns vectors into logits.
# - A new model's loss must be near the logarithm of the vocabulary's size.
# - From the same 500 names microGPT learns more than counts do, even with back-off. Attention has hardly begun to help.
#
# ## Pitfalls
#
# - `mlx.optimizers.Adam` corrects its means only if asked to.
# - Judging a run by its last loss. With one name per step it says more about the name than about the model.
#
# ## Further reading
#
# - [Attention Is All You Need](https://arxiv.org/abs/1706.03762), Vaswani et al., 2017: the transformer.
# - [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467), Zhang and Sennrich, 2019.
# - [Primer](https://arxiv.org/abs/2109.08668), So et al., 2021: where squared ReLU comes from.
# - [Adam](https://arxiv.org/abs/1412.6980), Kingma and Ba, 2014; section 3 is the bias correction.
# - [microGPT](https://karpathy.ai/microgpt.html), Karpathy: the program this chapter follows.
#
# **Next:** [04 · Batches](04_batches.ipynb): the same model, all names, many at a time.

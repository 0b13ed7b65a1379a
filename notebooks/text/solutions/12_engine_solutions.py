# %% [markdown]
# # 12 · Engine: solutions
#
# The exercises of [12 · Engine](../12_engine.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math
import random

import mlx.core as mx

from course_lib import backend
from course_lib.classroom import budget
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import engine as exercises
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.kv_cache import KVCache, cache_bytes
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import count_parameters
from course_lib.names.bigram import load_names
from course_lib.train.trainer import Trainer


# %% [markdown]
# ## Exercise 12.1 — how many users?
#
# How many texts of `length` tokens can be written at once in `memory` bytes.

# %%
def users(config, memory, length):
    weights = count_parameters(config) * backend.compute_dtype().size
    return max(0, memory - weights) // cache_bytes(config, 1, length)


check(exercises.users, users)

# %%
for heads in (10, 1):
    config = GPTConfig.from_depth(20, n_kv_head=heads)
    found = users(config, 24 * 10**9, 2048)
    print(f"d20 on 24 GB, {heads:2d} heads of keys and values: {found} users")


# %% [markdown]
# With one head a row of the cache is a tenth as large, so ten times as many fit, and a few more, since the matrices that make
# keys and values are smaller, too. (A server needs some memory for its work besides.)
#
# ## Exercise 12.2 — do not say it again
#
# Make what was written less likely.

# %%
def penalise(logits, ids, penalty):
    written = mx.zeros(logits.shape, mx.bool_)
    if ids:
        written[mx.array(ids)] = True
    return mx.where(written, mx.where(logits > 0, logits / penalty, logits * penalty), logits)


check(exercises.penalise, penalise)


# %% [markdown]
# A negative logit that is divided moves up towards 0 and becomes *more* likely; hence the two cases. The rule is from CTRL
# (Keskar et al., 2019). It has a weakness: where logits have their zero is an accident, and the rule depends on it.
#
# ## Exercise 12.3 — count the steps
#
# Steps that continuous batching needs for texts of these lengths.

# %%
def steps_needed(lengths, max_rows):
    waiting, rows, steps = list(lengths), [], 0
    while waiting or rows:
        while waiting and len(rows) < max_rows:
            rows.append(waiting.pop(0))
        rows = [left - 1 for left in rows if left > 1]
        steps += 1
    return steps


check(exercises.steps_needed, steps_needed)

# %% tags=["nbval-check-output"]
lengths = [3, 12, 5, 9, 2, 4, 14, 3, 6, 2, 8, 4]
in_groups = sum(max(lengths[n : n + 3]) for n in range(0, 12, 3))
best = math.ceil(sum(lengths) / 3)
print(f"in groups {in_groups}, continuous {steps_needed(lengths, 3)}, at the very best {best}")


# %% [markdown]
# Continuous batching gets near the best. What is missing is at the end, when the queue is empty and the last texts are
# written in a batch that is no longer full. In a server that is always busy the end never comes.
#
# ## Exercise 12.4 — guess and verify
#
# The ids that greedy decoding writes, as far as the logits after a draft can say.

# %%
def verify(logits, draft):
    said = mx.argmax(logits, axis=-1).tolist()  # n + 1 ids
    right = 0
    while right < len(draft) and draft[right] == said[right]:
        right += 1
    return said[: right + 1]


check(exercises.verify, verify)

# %% [markdown]
# Row `right` is the first that was read after nothing but right guesses and contradicts the next one, or has none to
# contradict. Its id is always good, so a pass writes at least one token: guessing never makes a text worse, only the work
# larger.
#
# To see it at work we need a model and somebody who guesses. The guesser looks for the last three ids further back in the text
# and proposes what followed them there. Wrong guesses must leave the cache again: `lengths` is set back, and what stands
# after it is overwritten.

# %%
names = load_names()
random.Random(42).shuffle(names)
tokenizer = Tokenizer.train(names, 265)
text = mx.array([token for name in names for token in tokenizer.encode(name, bos=True)])
model = GPT(GPTConfig(128, tokenizer.vocab_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=64))
num_steps = budget(150, quick=40)
trainer = Trainer(model, num_steps)
backend.seed_everything(42)
for _ in range(num_steps):
    ids = text[mx.random.randint(0, len(text) - 65, (16, 1)) + mx.arange(65)]
    trainer.step([(ids[:, :-1], ids[:, 1:])])


# %%
def guess(ids, count=4):
    """What followed the last three ids when they stood in the text before."""
    for start in range(len(ids) - 4, -1, -1):
        if ids[start : start + 3] == ids[-3:]:
            return ids[start + 3 : start + 3 + count]
    return []


def write_with_guesses(model, prompt, count, guess):
    """Greedy ids after the prompt, at least `count`, and how many passes they took."""
    cache, ids, new, passes = KVCache(model.config), list(prompt), list(prompt), 0
    while len(ids) < len(prompt) + count:
        draft = guess(ids)
        logits = model(mx.array([new + draft]), cache.layers)[0, len(new) - 1 :]
        new = verify(logits, draft)
        ids, passes = ids + new, passes + 1
        cache.lengths = [len(ids) - 1]  # all but the last id have been read
        new = new[-1:]
    return ids[len(prompt) : len(prompt) + count], passes


prompt = tokenizer.encode("anna", bos=True) + tokenizer.encode("mar", bos=True)
plain, plain_passes = write_with_guesses(model, prompt, 60, lambda ids: [])
drafted, passes = write_with_guesses(model, prompt, 60, guess)
assert plain == drafted or backend.compute_dtype() != mx.float32  # bfloat16: nearly equal logits
print(f"the same 60 ids: {plain_passes} passes without guesses, {passes} with them")

# %% [markdown]
# Greedy text of a small model goes round in circles, so a guesser that looks back is often right. With a text that says
# something new it is right less often; then a small model that was trained on the same data guesses better.

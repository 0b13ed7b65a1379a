# %% [markdown]
# # 08 · GPT: solutions
#
# The exercises of [08 · GPT](../08_gpt.ipynb), solved. Here a check that fails stops the notebook.

# %%
import mlx.core as mx

from course_lib import backend
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import gpt as exercises
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token

backend.seed_everything(42)

# %% [markdown]
# ## Exercise 8.1 — count with fewer heads
#
# Parameters of a model whose query heads share their keys and values.


# %%
def parameters(depth, n_kv_head):
    config = GPTConfig.from_depth(depth, n_kv_head=n_kv_head)
    d = config.n_embd
    kv = n_kv_head * (d // config.n_head)  # rows of c_k and of c_v
    attention = 2 * d * d + 2 * kv * d
    return depth * (attention + 8 * d * d) + 2 * config.vocab_size * d


check(exercises.parameters, parameters)

# %% [markdown]
# Sharing saves parameters as well as cache, but few: attention is a third of a block, and only half of that can shrink.
#
# ## Exercise 8.2 — how many days?
#
# Operations a token times tokens, over operations a second.


# %%
def days(depth, gflops):
    config = GPTConfig.from_depth(depth)
    tokens = 20 * count_parameters(config)
    return tokens * flops_per_token(config) / (gflops * 1e9) / 86_400


check(exercises.days, days)
measured = backend.matmul_gflops(dtype=backend.compute_dtype())
print("days on this machine, if nothing but products took time:")
for depth in (4, 12, 20):
    print(f"d{depth} {days(depth, measured):,.1f}")

# %% [markdown]
# Twice the parameters need twice the tokens, so the cost grows with their square. That is why the course trains small models here
# and keeps the same code for large ones elsewhere.
#
# ## Exercise 8.3 — the cap with a gradient of its own
#
# The vjp of $15\tanh(z/15)$, from the output alone.


# %%
def softcap_gradient(z, slope, output):
    return slope * (1 - mx.square(output / 15))


check(exercises.softcap, softcap_gradient)

# %% [markdown]
# The slope of tanh can be written with tanh itself. So what was computed on the way forward is all that the way back needs.
#
# ## Exercise 8.4 — how often is the first guess right?
#
# The share of targets with the largest logit, a few rows at a time.


# %%
def accuracy(x, weight, targets, rows):
    right = 0
    for start in range(0, x.shape[0], rows):
        guesses = mx.argmax(x[start : start + rows] @ weight.T, axis=-1)
        right += (guesses == targets[start : start + rows]).sum().item()  # .item() evaluates
    return right / max((targets >= 0).sum().item(), 1)


check(exercises.accuracy, accuracy)

# %% [markdown]
# A target of −1 never equals a guess, so it needs no mask above the line, only below. `.item()` computes a chunk and lets its
# logits go.

# %% [markdown]
# # 08 · GPT: solutions
#
# The exercises of [08 · GPT](../08_gpt.ipynb), solved. Here a check that fails stops the notebook.

# %%
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
# Operations for a token times tokens, over operations a second.


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
# ## Exercise 8.3 — where do the operations go?
#
# All products of a token, without the factor 2 that they share.


# %%
def shares(config, T):
    d, L = config.n_embd, config.n_layer
    kv = config.n_kv_head * config.head_dim
    parts = {
        "attention matrices": L * (2 * d * d + 2 * kv * d),
        "scores": L * 2 * T * d,
        "MLP": L * 8 * d * d,
        "head": config.vocab_size * d,
    }
    return {part: count / sum(parts.values()) for part, count in parts.items()}


check(exercises.shares, shares)
for T in (512, 2048, 4 * 768, 16_384, 65_536):
    of_d12 = shares(GPTConfig.from_depth(12), T)
    print(f"T={T:6,d}", *(f"{part} {100 * share:4.1f} %," for part, share in of_d12.items()))

# %% [markdown]
# The scores of a block cost $2Td$, its MLP $8d^2$: they are level at $T = 4d$, which is 3,072 for d12. At 2,048 tokens the head of
# d12 costs more than its MLPs; at 65,536 tokens nearly all work is in the scores.

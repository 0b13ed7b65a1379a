# %% [markdown]
# # 18 · Speedrun: solutions
#
# The exercises of [18 · Speedrun](../18_speedrun.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import speedrun as exercises
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.pipeline.plan import SIZE

# %% [markdown]
# ## Exercise 18.1 — is it better?


# %%
def z_score(first, second):
    difference = first["accuracy"] - second["accuracy"]
    error = math.hypot(first["standard_error"], second["standard_error"])
    if error == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / error


check(exercises.z_score, z_score)

# %% [markdown]
# ## Exercise 18.2 — how many minutes?


# %%
def minutes_needed(depth, ratio, speed):
    config, known = (GPTConfig.from_depth(n, **SIZE) for n in (depth, 4))
    tokens_a_second = speed * flops_per_token(known) / flops_per_token(config)
    return ratio * count_parameters(config) / tokens_a_second / 0.68 / 60


check(exercises.minutes_needed, minutes_needed)

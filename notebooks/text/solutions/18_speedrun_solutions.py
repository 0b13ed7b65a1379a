# %% [markdown]
# # 18 · Speedrun: solutions
#
# The exercises of [18 · Speedrun](../18_speedrun.ipynb), solved. Here a check that fails stops the notebook.

# %%
import json
import math

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import speedrun as exercises
from course_lib.host.paths import data_dir
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.pipeline.plan import SIZE

# %% [markdown]
# ## Exercise 18.1 — by luck?
#
# Only the questions on which the two differ are coins.


# %%
def by_luck(first, second):
    pairs = list(zip(first, second, strict=True))
    gained, lost = pairs.count(("0", "1")), pairs.count(("1", "0"))
    coins = gained + lost
    tail = sum(math.comb(coins, heads) for heads in range(min(gained, lost) + 1)) / 2**coins
    return gained, lost, min(1.0, 2 * tail)


check(exercises.by_luck, by_luck)

# %% [markdown]
# On the card of the course, pretraining, task by task:

# %%
tasks = json.loads((data_dir() / "speedrun" / "card.json").read_text(encoding="utf-8"))["tasks"]
for name, result in tasks["sft"].items():
    gained, lost, chance = by_luck(tasks["control"][name]["each"], result["each"])
    print(f"{name:18s} +{gained:<3d} −{lost:<3d} by luck in {chance:.1%}")

# %% [markdown]
# ## Exercise 18.2 — how many minutes?


# %%
def minutes_needed(depth, ratio, speed, share):
    config, known = (GPTConfig.from_depth(n, **SIZE) for n in (depth, 4))
    tokens_a_second = speed * flops_per_token(known) / flops_per_token(config)
    return ratio * count_parameters(config) / tokens_a_second / share / 60


check(exercises.minutes_needed, minutes_needed)

# %% [markdown]
# ## Exercise 18.3 — once
#
# The rename is one operation of the file system: before it there is no marker, after it there is a whole one.


# %%
def once(folder, name, work):
    marker, part = folder / name, folder / f"{name}.part"
    if marker.exists():
        return marker.read_text()
    text = work()
    part.write_text(text)
    part.rename(marker)
    return text


check(exercises.once, once)

# %% [markdown]
# The package's `write_atomically` does the same, and asks the disk to have written the file before it renames it, in case the machine loses power.

# %% [markdown]
# # 15 · Reinforcement: solutions
#
# The exercises of [15 · Reinforcement](../15_reinforcement.ipynb), solved. Here a check that fails stops the notebook.

# %%
import csv
import math

import mlx.core as mx

from course_lib.classroom import check_solution as check
from course_lib.classroom import claim
from course_lib.classroom.draw_rewards import draw_pass_curves
from course_lib.classroom.exercises import reinforcement as exercises
from course_lib.host.paths import data_dir

# %% [markdown]
# ## Exercise 15.1 — compared with the others
#
# The others add up to the sum minus the reply's own reward.


# %%
def advantages_of_others(groups):
    found = []
    for group in groups:
        n = len(group)
        found.append([r - (sum(group) - r) / (n - 1) if n > 1 else 0.0 for r in group])
    return found


check(exercises.advantages_of_others, advantages_of_others)

# %% [markdown]
# Each is n / (n − 1) times reward minus mean: in a group of 8, 8/7. The direction is the same, which is why nobody minds.
#
# ## Exercise 15.2 — at least one of k
#
# Count the picks that miss, for each question by itself.


# %%
def pass_at_k(counts, n, k):
    return sum(1 - math.comb(n - c, k) / math.comb(n, k) for c in counts) / len(counts)


check(exercises.pass_at_k, pass_at_k)

# %% [markdown]
# On the stored runs of section 6, one line for each seed:

# %%
curves = {}
with (data_dir() / "experiments" / "reinforcement_runs.csv").open(encoding="utf-8") as file:
    for row in csv.DictReader(line for line in file if not line.startswith("#")):
        counts = [n for n in range(9) for _ in range(int(row[f"sums_{n}_right"]))]
        if row["run"] in ("fine-tuned, 50% tool", "right answers, 50% tool"):
            curves.setdefault(row["run"].removesuffix(", 50% tool"), []).append(
                [pass_at_k(counts, 8, k) for k in range(1, 9)]
            )
draw_pass_curves(curves)
pairs = zip(*curves.values(), strict=True)
close = all(abs(before[3] - after[0]) < 0.05 for before, after in pairs)
claim("four tries before come within 5 points of one after, with every seed", close)

# %% [markdown]
# At k = 1 the lines are far apart, at k = 8 they nearly meet. Four tries of the model before are worth about one of the model after.
#
# ## Exercise 15.3 — short, but right
#
# Wrong replies get 0. Right ones get 1, less at most a tenth for their length.


# %%
def short_reward(right, tokens, longest):
    return right * (1 - 0.1 * tokens / longest)


check(exercises.short_reward, short_reward)

# %% [markdown]
# Once all replies are right, length is all that still differs within a group, so it gets all of the gradient, however little it is worth: an optimizer that divides the size of a gradient out (chapter 09) makes full steps of it.
#
# ## Exercise 15.4 — find the fault
#
# The slope for every log p at once, with rows that differ in everything.


# %%
def trains_forced(loss):
    log_p = -mx.array([[0.5, 1.0, 2.0, 0.3], [0.2, 1.5, 0.7, 0.9], [1.1, 0.4, 0.6, 0.8]])
    mask = mx.array([[1.0, 0, 0, 1], [1, 1, 0, 1], [0, 1, 1, 1]])
    slope = mx.grad(loss)(log_p, mask, mx.array([0.75, -0.5, 0.25]))
    return bool(((slope != 0) * (mask == 0)).any().item())


check(exercises.trains_forced, trains_forced)

# %% [markdown]
# # 20 · Several processes: solutions
#
# The exercises of [20 · Several processes](../20_processes.ipynb), solved. Here a check that fails stops the notebook.

# %%
import mlx.core as mx

from course_lib import backend
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import processes as exercises

backend.seed_everything(42)

# %% [markdown]
# ## Exercise 20.1 — pass it on
#
# In tick t, process p sends piece t − p.


# %%
def passing_on(size, pieces):
    return [
        [(process, tick - process) for process in range(size - 1) if 0 <= tick - process < pieces]
        for tick in range(pieces + size - 2)
    ]


check(exercises.passing_on, passing_on)

# %% [markdown]
# The last piece leaves process 0 in tick pieces − 1 and then travels over size − 2 more processes. With many small pieces a broadcast to any number of
# processes takes hardly longer than to one.
#
# ## Exercise 20.2 — a careful step
#
# A process whose loss was high returned without sending its gradient, and the others waited for it.


# %%
def careful_step(weight, loss, gradient, group):
    mean_loss = mx.distributed.all_sum(loss, group=group) / group.size()
    mean = mx.distributed.all_sum(gradient, group=group) / group.size()
    mx.eval(mean_loss, mean)
    if mean_loss.item() > 10:
        return weight
    return weight - 0.1 * mean


check(exercises.careful_step, careful_step)

# %% [markdown]
# All exchange the same numbers in the same order, and then all decide from the same number. `mx.eval` comes before the `if`: MLX is lazy, and whoever
# skips the step would otherwise never send. Here all skip together, so it would work without; it is a good habit all the same.

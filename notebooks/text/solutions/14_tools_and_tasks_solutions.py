# %% [markdown]
# # 14 · Tools and tasks: solutions
#
# The exercises of [14 · Tools and tasks](../14_tools_and_tasks.ipynb), solved. Here a check that fails stops the notebook.

# %%
import ast
import math

from course_lib.chat.calculator import OPERATORS, value_of
from course_lib.chat.lessons import lesson
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import tools_and_tasks as exercises


# %% [markdown]
# ## Exercise 14.1 — how many questions?
#
# The smallest number of questions that tells two scores apart.

# %%
def questions_needed(p, q):
    if p == q:
        return None
    return math.ceil(4 * (p * (1 - p) + q * (1 - q)) / (p - q) ** 2)


check(exercises.questions_needed, questions_needed)

# %% tags=["nbval-check-output"]
for p, q in ((0.5, 0.7), (0.5, 0.6), (0.5, 0.55), (0.5, 0.51), (0.95, 0.96)):
    print(f"{p} and {q}: {questions_needed(p, q):6,} questions")


# %% [markdown]
# (0.5 and 0.6 take 196 on paper. `(0.5 - 0.6) ** 2` is a little less than 0.01 in floating point, and so `math.ceil` says 197. One question too many
# does no harm.) Half the difference takes four times the questions. When both models get the *same* questions one can do better, by comparing them question by question: only those on which they differ
# count.
#
# ## Exercise 14.2 — find the leak
#
# Questions of a test that were practised.

# %%
def bare(question):
    return "".join(each for each in question.casefold() if each.isalnum() or each in "+-*/")


def leaks(train, test):
    practised = {bare(question) for question in train}
    return [question for question in test if bare(question) in practised]


check(exercises.leaks, leaks)


# %%
def asked(split, numbers):
    return [lesson("identity", split, n)[0]["content"] for n in numbers]


practised = asked("train", range(2000))
print("test side:", len(leaks(practised, asked("test", range(100)))), "of 100 leak")
careless = leaks(practised, asked("train", range(2000, 2100)))
print("split by number:", len(careless), "of 100 leak, such as", careless[:2])


# %% [markdown]
# ## Exercise 14.3 — a larger language
#
# The value of a tree in which `max` and `min` may be called.

# %%
def value_with_max(node):
    match node:
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](value_with_max(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](value_with_max(left), value_with_max(right))
        case ast.Call(func=ast.Name(id="max" | "min" as name), args=[_, *_] as args, keywords=[]):
            return {"max": max, "min": min}[name](value_with_max(each) for each in args)
        case _:
            return value_of(node)


check(exercises.value_with_max, value_with_max)

# %% [markdown]
# `*args` is no case of its own: `ast.Starred` comes to `value_of`, which does not know it. The language grew by one case, and
# everything else is still nothing. In the calculator the bound on depth and the check of the shape would have to follow: the letters
# of `max` and `min` and commas between arguments are not in `SHAPE`.

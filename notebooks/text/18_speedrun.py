# %% [markdown]
# # 18 · Speedrun
#
# **Goal.** Go from nothing to a model that answers in one command, with a report card that says how well, and why.
#
# | | |
# |---|---|
# | Needs | [10 · Training](10_training.ipynb), [11 · Evaluation](11_evaluation.ipynb), [13 · Conversations](13_conversations.ipynb), [14 · Tools and tasks](14_tools_and_tasks.ipynb) |
# | Time | 30 minutes to read, 35 for the exercises; a minute or two to run, and five for a speedrun of your own |
# | Memory | under 1 GB |
# | You will build | the report card → `course_lib.pipeline.report_card`; you will use the plan and the stages beside it |
#
# You have built every part: a tokenizer, a model, its training, its evaluation, its conversations. Now they run one after the
# other, without you. That takes three things that no part has: a **plan** that fits the time, stages that can be **broken off**, and
# a **report** that does not flatter.

# %% [markdown]
# ![Map of the course: chapter 18 speedrun is marked, the last one of Part III](images/map_18.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · **18** · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/18_speedrun.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export pipeline.report_card
"""The report card of a model: sizes, times, losses, scores before and after, samples.

It is Markdown, and a picture beside it; both are made of one dict, which can be kept as JSON.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.host.words import duration

# %% [markdown]
# That cell opens the module that this chapter builds. The next one is for this notebook only.

# %%
import json
import os
import subprocess
import sys
import tempfile

import matplotlib.pyplot as plt
from IPython import display

from course_lib import backend
from course_lib.classroom import check
from course_lib.classroom.exercises import speedrun as exercises
from course_lib.host.paths import data_dir
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.pipeline.plan import FINE_TUNING, PRETRAINING, SIZE, make_plan, tokens_per_second
from course_lib.train import local_ring

backend.seed_everything(42)
print(backend.describe())

# %% [markdown]
# ## 1. The stages
#
# | stage | as the program | from | to |
# |---|---|---|---|
# | tokenizer | `tok_train` | text | a tokenizer |
# | pretraining | `base_train` | text, tokenizer | a base model |
# | evaluation | `base_eval`, `chat_eval` | the base model | bits per byte, tasks |
# | fine-tuning | `chat_sft` | the base model, conversations | an assistant |
# | chat evaluation | `chat_eval` | the assistant | scores |
# | samples | | the assistant | replies to six questions, always the same |
#
# Each is one call of a function that you know: a training takes its `Settings`, as a value. All of them are set already. What is
# left to say is how long it may take.

# %% [markdown]
# ## 2. A plan that fits the time
#
# ### How deep?
#
# In five minutes, which depth? A deep model can learn more, and learns less in the time, since each token costs more. A common
# measure is **tokens a parameter**. Trained well is 20; nobody has that in five minutes. We ask for one, over both trainings
# together, and take the deepest model that gets it.
#
# How many tokens there will be follows from a measurement: a step on noise gives the tokens a second of one depth, and chapter 08's FLOPs
# a token carry it over to the others.

# %%
for bound in (1, 5, 20, 60):
    plan = make_plan(bound, depth=None, processes=None, min_iterations=None)
    steps = plan.pretraining + plan.fine_tuning
    width = plan.depth * plan.aspect_ratio
    print(
        f"{bound:3d} minutes: depth {plan.depth}, {width} wide, {4096 * steps / 1e6:.1f} M tokens"
    )

# %% [markdown]
# Twelve times the time makes the model only a few layers deeper: parameters grow with the third power of the depth, and so does the price of a token. Where the
# time goes for one bound, and what each depth would get of it:

# %%
bound, processes = 5, local_ring.fitting_processes(backend.device_kind())
speed, measured = tokens_per_second(4, processes), flops_per_token(GPTConfig.from_depth(4, **SIZE))
depths, ratios = range(2, 9), []
for depth in depths:
    config = GPTConfig.from_depth(depth, **SIZE)
    tokens = (PRETRAINING + FINE_TUNING) * 60 * bound * speed * measured / flops_per_token(config)
    ratios.append(tokens / count_parameters(config))
figure, ax = plt.subplots(figsize=(6, 2.8))
ax.plot(depths, ratios, "o-", color="#0072B2")
ax.axhline(1, color="#D55E00", linestyle="--", label="one token a parameter")
ax.set(xlabel="depth", ylabel="tokens a parameter", yscale="log", title=f"{bound} minutes")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The plan takes the last point on or above the dashed line, but no fewer than four layers. It is a rule of thumb, and a good one only near this size.
#
# ### A plan is written down
#
# The depth follows from one measurement. A run that goes on tomorrow must not come to another plan because the machine is busy,
# or it would go on with a model of another depth. So the plan is the first thing that a run writes.
#
# ### By the clock
#
# The number of steps is another matter. A plan made at a busy moment once allowed 8 steps of pretraining and 34 of fine-tuning. The
# machine was free again soon, and the model answered "1" to every sum. So the steps of the plan are a first guess, and each
# training ends **by the clock**: after $n$ steps in $t$ of its $T$ minutes, it counts on $n \cdot T / t$ steps in all. The
# learning rates fall with $n$ over that number, which is $t / T$: they fall by the clock, too, and end low at the end. Of several
# processes the first one's clock counts.
#
# And a clock must not end a training that has not learned to answer. With 150 steps of fine-tuning the assistant had 86 % of the sums
# right, with 447 it had 98 %, in one run each (`dev/LOG.md`); no training has fewer than 300. On a machine that is too slow for its minutes, the run
# says how many it needs at the speed of that moment, and takes as many as it must.

# %% [markdown]
# ## 3. Stages that can be broken off
#
# `base_train` and `chat_sft` can be killed at any moment and resumed (chapter 10). For the whole it takes little more: after each stage a small file says that it is
# done, written whole or not at all. Called again, the run skips what is done, and resumes the stage that was broken off.

# %% [markdown]
# The stages are in `course_lib.pipeline.stages`, written by hand. One detail comes from trying to kill it: after a `kill -9` of the
# first process, others may still be saving for a moment, and hold the run's lock.
#
# The **control** (`--control`) is a second assistant, fine-tuned in the same way but from new weights: what it can do,
# pretraining did not bring. The questions of the samples are fixed, so that nobody picks the best replies for the report.

# %% [markdown]
# ### Kill it
#
# A speedrun of a few seconds, in a home folder of its own. We kill it without warning when pretraining has begun, and call it again.

# %%
home = tempfile.TemporaryDirectory()
command = [
    sys.executable,
    "-m",
    "course_lib.scripts.speedrun",
    "--minutes=0.1",
    "--min-iterations=2",
]
command += ["--max-per-task=4"]
environment = {**os.environ, "COURSE_HOME": home.name, "PYTHONUNBUFFERED": "1"}
pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
first = subprocess.Popen(command, env=environment, **pipes)
for line in first.stdout:
    if line.startswith(("plan", "—")):
        print(line, end="")
    if line.startswith("— pretraining"):
        break
first.kill()
first.wait()
first.stdout.close()

# %%
lines = []
with subprocess.Popen(command, env=environment, **pipes) as second:
    for line in second.stdout:
        lines.append(line)
        if line.startswith(("plan", "—")):
            print(line, end="")
assert second.returncode == 0, "".join(lines)
print(lines[-1].replace(home.name, "…"), end="")
home.cleanup()

# %% [markdown]
# The same plan, the tokenizer "done before", and everything after it. `--min-iterations=2` takes the floor away, for this show only. A model that has been trained for two seconds knows nothing, of course; its report card says so.

# %% [markdown]
# ## 4. The report card
#
# ### As a table
#
# A report is read by somebody who was not there. So it has what is needed to doubt it: how many questions, what guessing would give, standard errors, the machine.

# %%
#| export pipeline.report_card
STAGES = {  # the trainings that a card compares, as it names and draws them
    "base": ("pretrained", "s", "#D55E00"),
    "control": ("fine-tuned only", "D", "#009E73"),
    "sft": ("pretrained and fine-tuned", "o", "#0072B2"),
}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def in_one_line(text: str) -> str:
    """Text that can stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# %%
#| export pipeline.report_card
def score(result: dict) -> str:
    """ "94.0 % ± 1.2"; "0 of 10", where so few items say little; or "—" for no result."""
    if not result:
        return "—"
    if result["items"] < 30:
        return f"{round(result['accuracy'] * result['items'])} of {result['items']}"
    return f"{100 * result['accuracy']:.1f} % ± {100 * result['standard_error']:.1f}"


def card_markdown(card: dict) -> str:
    """The report card as Markdown.

    card: machine (lines), model (dict of what to say), stages [{"name", "seconds", "what"}],
    losses, bits_per_byte, core, tasks {a key of STAGES: {task: result}}, tokens_per_second, samples
    [[question, reply]]; a result has accuracy, standard_error, baseline and items.
    """
    stages = [[each["name"], duration(each["seconds"]), each["what"]] for each in card["stages"]]
    total = sum(each["seconds"] for each in card["stages"])
    parts = [
        "# Report card",
        table(["", ""], [[name, str(value)] for name, value in card["model"].items()]),
        "## Time",
        table(["stage", "time", "what"], [*stages, ["all", duration(total), ""]]),
        "## Before fine-tuning",
        table(
            ["text", "bits per byte"], [[n, f"{v:.3f}"] for n, v in card["bits_per_byte"].items()]
        ),
        table(
            ["task", "items", "guessing", "right"],
            [[name, *_numbers(result), score(result)] for name, result in card["core"].items()],
        ),
        "## As an assistant",
        _chat_table(card["tasks"]),
        f"Replies come at {card['tokens_per_second']:.0f} tokens a second, always the likeliest "
        "token. ± is the standard error.",
        "## Some replies",
        table(["question", "reply"], [list(map(in_one_line, pair)) for pair in card["samples"]]),
        "## Machine",
        "```\n" + card["machine"] + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _numbers(result: dict) -> list[str]:
    return [f"{result['items']}", f"{100 * result['baseline']:.0f} %"]


def _chat_table(tasks: dict[str, dict]) -> str:
    stages = [stage for stage in STAGES if stage in tasks]
    names = list(dict.fromkeys(name for stage in stages for name in tasks[stage]))
    rows = []
    for name in names:
        results = [tasks[stage].get(name, {}) for stage in stages]
        rows.append([name, *_numbers(next(filter(None, reversed(results)))), *map(score, results)])
    return table(["task", "questions", "guessing", *(STAGES[stage][0] for stage in stages)], rows)


# %% [markdown]
# And as a picture:

# %%
#| export pipeline.report_card
def draw_tasks(ax: Axes, tasks: dict[str, dict]) -> None:
    """Accuracy on each task and after each training, with two standard errors to each side."""
    names = list(dict.fromkeys(name for results in tasks.values() for name in results))
    for number, (stage, (label, marker, color)) in enumerate(STAGES.items()):
        style = {"fmt": marker, "color": color, "capsize": 2, "markersize": 5}
        for place, name in enumerate(names if stage in tasks else ()):
            if result := tasks[stage].get(name):
                where = result["accuracy"], place + 0.22 * (number - 1)
                doubt, text = 2 * result["standard_error"], label if place == 0 else None
                ax.errorbar(*where, xerr=doubt, label=text, **style)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5), xlabel="share right", title="tasks")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=3)


def draw_times(ax: Axes, stages: list[dict]) -> None:
    """How long each stage took."""
    seconds = [each["seconds"] for each in stages]
    bars = ax.barh([each["name"] for each in stages], seconds, color="#0072B2")
    ax.bar_label(bars, map(duration, seconds), padding=4)
    ax.invert_yaxis()
    ax.set(xlabel="seconds", title="time")
    ax.margins(x=0.2)


def draw_card(card: dict) -> Figure:
    """The report card as a picture: losses, scores, times."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    for ax, title in zip(axes[0], ("pretraining", "fine-tuning"), strict=True):
        points = card["losses"][title]
        ax.plot([step for step, _ in points], [loss for _, loss in points], color="#0072B2")
        ax.set(title=title, xlabel="step", ylabel="loss, nats a token")
    draw_tasks(axes[1, 0], card["tasks"])
    draw_times(axes[1, 1], card["stages"])
    return figure


# %% [markdown]
# ### A real one
#
# Five minutes are too long for a notebook that you run from top to bottom. The card of a real run lies in the course, in `data/speedrun/card.json`. It was made by
# `speedrun --minutes 5 --control`, where the control's time comes on top of the five minutes.

# %%
card = json.loads((data_dir() / "speedrun" / "card.json").read_text(encoding="utf-8"))
display.display(draw_card(card))

# %% [markdown]
# Above, both losses fall, the second one to far below the first: answers are easier than documentation. Below left, circles are the assistant, squares its base model, diamonds
# the control. Hardly a square is away from 0: a base model does not answer. Look at how near diamonds and circles are.

# %%
display.display(display.Markdown(card_markdown(card)))

# %% [markdown]
# ### Where does the score come from?
#
# Compare the last two columns of the chat tasks. Who it is, the control knows almost as well: a few hundred phrases with twenty answers are learned from the conversations
# alone. Where pretraining helps is where words matter that the conversations show rarely. So a high score on your own templates says that the templates were learned. It
# does not say that the model understands English.
#
# Now compare `identity` with the `blind` questions, which were written by somebody who had not seen the templates:

# %%
for stage in ("control", "sft"):
    found = card["tasks"][stage]
    pairs = [(name, found[name]) for name in found if "identity" in name or "blind" in name]
    print(f"{stage:8s}", ", ".join(f"{name} {score(result)}" for name, result in pairs))

# %% [markdown]
# What people really type is harder than what the templates say. If you report one number, report the blind one.

# %% [markdown]
# ## 5. The real one
#
# The same command makes the model that this course is named after. It takes a GPU and its time (how much has not been
# measured), and text and conversations from the hub:
#
# ```bash
# uv run speedrun --depth 12 --dataset fineweb-edu --streaming --data smoltalk,gsm8k,arc-easy,arc-challenge,practice --tag d12
# ```
#
# Without `--minutes` there is no bound: 20 tokens a parameter, once through the conversations. What that comes to is chapter 10's arithmetic:

# %%
for depth in (12, 20, 26):
    config = GPTConfig.from_depth(depth)
    parameters = count_parameters(config)
    operations = flops_per_token(config) * 20 * parameters
    print(f"d{depth}: {parameters / 1e6:,.0f} M parameters, {operations:.1e} operations")


# %% [markdown]
# Divide by the FLOP/s that your machine reaches, and you have seconds of pretraining. Before it begins, the run prints its own estimate, from steps that it has
# measured; `base_train --depth=12 --dry-run` prints nothing else.

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/18_speedrun_solutions.ipynb](solutions/18_speedrun_solutions.ipynb).
#
# ### Exercise 18.1 — is it better?
#
# *15 minutes, easy.* Two assistants, each with an accuracy and a standard error, on different questions. Return the difference in units of *its* standard error,
# $z = (a_1 - a_2) / \sqrt{s_1^2 + s_2^2}$. Above about 2, chance is a poor explanation. With two errors of 0 return infinity with the right sign, or 0 for no difference.
#
# <details><summary>Hint</summary>
#
# `math.copysign(math.inf, difference)` has the sign of the difference.
#
# </details>

# %% tags=["exercise"]
def z_score(first, second):
    raise NotImplementedError


check(exercises.z_score, z_score)


# %% [markdown]
# ### Exercise 18.2 — how many minutes?
#
# *20 minutes, medium.* Turn the plan round: how many minutes does a depth need to see `ratio` tokens for each parameter, when a model of depth 4 trains at `speed` tokens a second, and
# 68 % of the time is training? Use `GPTConfig.from_depth(depth, **SIZE)`, `count_parameters` and `flops_per_token`.
#
# <details><summary>Hint</summary>
#
# Tokens are `ratio` times the parameters. The tokens a second of a depth are `speed` times the FLOPs a token of depth 4, divided by its own.
#
# </details>

# %% tags=["exercise"]
def minutes_needed(depth, ratio, speed):
    raise NotImplementedError


check(exercises.minutes_needed, minutes_needed)

# %% [markdown]
# ## Summary
#
# - A plan comes before the first step, and is written down. A training that must end on time ends by the clock.
# - A stage is done when a small file says so; called again, the run skips it. What was broken off goes on.
# - A report says how many questions, what guessing gives, how sure the numbers are, and how long it took.
# - A control shows what a stage has brought; blind questions show what the templates hide.

# %% [markdown]
# ## Pitfalls
#
# - **Choosing the samples.** Fix the questions before you see a reply.
# - **A report without a control.** "It was pretrained, and it answers" does not mean that it answers because it was pretrained.
# - **Planning anew on the second call.** Another speed, another depth, another model.
# - **"Done" markers that are written first.** A stage that died after writing its marker is skipped for ever.
# - **Testing with temperature above 0.** Then two evaluations differ by chance; report greedy replies, and say so.

# %% [markdown]
# ## Further reading
#
# - [nanochat](https://github.com/karpathy/nanochat), whose speedrun and report card are the models of these.
# - Hoffmann et al., 2022, [Training compute-optimal language models](https://arxiv.org/abs/2203.15556): where 20 tokens a parameter come from.
#
# **You have built all of it.** Start a speedrun, and talk to what comes out: `uv run speedrun --minutes 5`, then `uv run chat_web --tag speedrun`.
#
# **Next:** [19 · Memory and speed of a large model](19_memory.ipynb), the first chapter of Part IV: what happens when the model grows.

"""From nothing to a model that answers, and its report card: `speedrun --help`.

What is done is skipped when it is called again.
"""

from functools import partial

from rich.markdown import Markdown

from course_lib.host.files import only_one, write_atomically
from course_lib.host.program import run_program
from course_lib.host.progress import console, say, suggest
from course_lib.host.words import duration, plural
from course_lib.pipeline.card_page import card_markdown, draw_card
from course_lib.pipeline.plan import Plan
from course_lib.pipeline.stages import Settings, Speedrun
from course_lib.train.checkpoint import run_folder


def work(settings: Settings) -> None:
    """All stages, and the report card."""
    with only_one(run_folder(settings.tag, "speedrun")):
        run = Speedrun(settings)
        say(f"plan: {in_words(run.plan)}")
        for name, do in run.stages().items():
            run.stage(name, do)
        card = run.write("card", run.card())
        with write_atomically(run.folder / "report.md") as file:
            file.write(card_markdown(card) + "\n![losses, scores, times](report.png)\n")
        draw_card(card).savefig(run.folder / "report.png", dpi=120)
        console().print(Markdown(card_markdown(card)))
        say(f"{duration(run.seconds)} in all; the report card is {run.folder / 'report.md'}")
        tag = f"--stage rl --tag {settings.tag}" if run.is_reinforced else f"--tag {settings.tag}"
        suggest({f"chat_cli {tag}": "talk to it here", f"chat_web {tag}": "or in the browser"})


def in_words(plan: Plan) -> str:
    """The plan as a sentence."""
    model = f"a model of {plural(plan.depth, 'layer')}, {plan.depth * plan.aspect_ratio} wide"
    if plan.minutes is None:
        return f"{model}, for as long as it takes"
    pretraining, fine_tuning = plan.least_steps
    steps = f"{plural(pretraining, 'step')} of pretraining and {fine_tuning:,} of fine-tuning"
    if plan.minutes_needed > 1.2 * plan.minutes:
        needed = f"take about {plural(round(plan.minutes_needed), 'minute')} at the speed of this moment"
        return f"{model}; {plan.minutes:g} minutes are too few for it to answer: {steps} {needed}"
    return f"{model}, in {plan.minutes:g} minutes, which at the speed of this moment are about {steps}"


main = partial(run_program, "speedrun", Settings, work)

if __name__ == "__main__":
    main()

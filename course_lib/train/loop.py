"""The training loop: steps 0 … N, of which the last only looks and saves.

Source: nanochat (October 2025).

Exported from notebooks/10_training.ipynb; edit it there.
"""

from course_lib.host.stop import StopRequest
from course_lib.train.recipe import Recipe
from course_lib.train.run_folder import RunFolder
from course_lib.train.source import Source
from course_lib.train.trainer import Trainer


def train(recipe: Recipe, trainer: Trainer, source: Source, out: RunFolder, stop: StopRequest) -> int:
    """Run the steps that are left. Returns 0, or an exit code if somebody asked to stop."""
    every, place = recipe.cadence, out.resume(trainer)  # weights, optimizers, place in the data
    began = trainer.iteration
    with source.batches("train", place) as batches:
        out.open(began)
        while True:
            step = trainer.iteration
            trainer.num_iterations = out.num_iterations(step)  # or what the clock allows
            is_last = step >= trainer.num_iterations
            if step > began and (is_last or step % every.save_every == 0):
                out.save(trainer, batches.state)
            if is_last or step % every.eval_every == 0:
                out.evaluate(step, trainer.model, source)
            if is_last or step and step % every.sample_every == 0:
                out.sample(step, trainer.model, source)
            if is_last:
                return out.finish()
            with out.explaining(step, source.place(batches.state)):
                out.watch(trainer.step(out.micro_batches(step, batches)))
            if code := out.stop_code(stop):
                out.save(trainer, batches.state)
                return out.stopped(code)

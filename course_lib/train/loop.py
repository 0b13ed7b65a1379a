"""The training loop. Source: nanochat: steps 0 … N, of which the last only looks and saves.

Exported from notebooks/10_training.ipynb; edit it there.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

import mlx.core as mx

from course_lib.host.stop import StopRequest
from course_lib.model.gpt import GPT
from course_lib.train.distributed import Group, all_max
from course_lib.train.recipe import Batches, Recipe, Source
from course_lib.train.run_folder import RunFolder
from course_lib.train.trainer import Trainer, validate


def share_of(batches: Batches, recipe: Recipe, group: Group) -> Iterator[tuple[mx.array, mx.array]]:
    """This process's micro-batches of the next step, of which each process gets as many.

    Every process reads all of them, so that the text of a step, and the place in the data that is
    saved, do not depend on how many processes there are.
    """
    mine = recipe.micro_batches(group.size())
    for number in range(mine * group.size()):
        batch = next(batches)
        if number // mine == group.rank():
            yield batch


def evaluate(model: GPT, source: Source, recipe: Recipe, group: Group) -> float:
    """Bits per byte of the first validation batches; each process takes its share of them."""
    with source.batches("val") as batches:
        mine = islice(batches, group.rank(), recipe.cadence.eval_batches, group.size())
        return validate(model, mine, source.tokenizer.token_bytes, group)


def train(recipe: Recipe, model: GPT, source: Source, out: RunFolder, group: Group, stop: StopRequest) -> int:
    """All steps that are left: 0, or the exit code of a request to stop, granted after a step."""
    trainer = Trainer(model, recipe.num_iterations, **asdict(recipe.rates), group=group)
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
                out.log(step, bits_per_byte=evaluate(model, source, recipe, group))
            if out.is_first and (is_last or step and step % every.sample_every == 0):
                out.log(step, samples=source.preview(model))
            if is_last:
                return out.finish()
            with out.explaining(step, source.place(batches.state)):
                out.watch(trainer.step(out.show(step, share_of(batches, recipe, group))))
            if code := int(all_max(stop.code, group)):
                out.save(trainer, batches.state)
                return out.stopped(code)

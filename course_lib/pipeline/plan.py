"""A speedrun's plan: how deep a model, and how long each training may take.

Written by hand; chapter 18 uses it.
"""

from dataclasses import dataclass

import mlx.core as mx

from course_lib import backend
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.train import local_ring
from course_lib.train.run_folder import trial

# Shares of the minutes; the rest is for the tokenizer, for evaluating the base model, and for starting programs. Of
# CHAT_EVALUATION the assistant is asked, after fine-tuning and after reinforcement. Fine-tuning gets what is left
# before these, so that the whole ends on time.
PRETRAINING, FINE_TUNING, REINFORCEMENT, CHAT_EVALUATION = 0.14, 0.42, 0.10, 0.15
TRAINING = PRETRAINING + FINE_TUNING  # on text that is there; reinforcement makes its own

# What fits the bundled corpus. Narrow: after a minute of pretraining, 4 layers of 128 had fewer bits per byte than 4 of
# 256, nanochat's ratio, whose steps are dearer. Scores of assistants of both widths were not compared.
SIZE = {"vocab_size": 2048, "sequence_len": 256, "aspect_ratio": 32, "head_dim": 64}

BATCH = 4096  # tokens of a step

# Layers. After the steps of a five-minute run, 4 layers of 128 had 94 % of the calculator's questions right, 2 of 64
# had 13 %. Depth and width fell together there, and nothing between was tried: more steps may do as well.
LEAST_DEPTH = 4

# Steps of fine-tuning without which a model of LEAST_DEPTH does not answer, and of pretraining before it: measured, see
# dev/LOG.md.
LEAST_STEPS = 300
LEAST_PRETRAINING = 60


@dataclass(frozen=True)
class Plan:
    """What the minutes come to. minutes None: base_train and chat_sft choose how long.

    pretraining, fine_tuning: steps that the speed measured now would allow, a first guess for the clock.
    """

    depth: int
    aspect_ratio: int = 64
    head_dim: int = 128
    minutes: float | None = None
    pretraining: int | None = None
    fine_tuning: int | None = None
    min_iterations: int = 1

    @property
    def min_pretraining(self) -> int:
        """Steps of pretraining that are never undercut."""
        return max(1, round(self.min_iterations * LEAST_PRETRAINING / LEAST_STEPS))

    @property
    def least_steps(self) -> tuple[int, int]:
        """Steps of pretraining and of fine-tuning: the guess, or the least where that is more."""
        return max(self.pretraining, self.min_pretraining), max(self.fine_tuning, self.min_iterations)

    @property
    def minutes_needed(self) -> float:
        """About how long the run takes, at the speed measured now, if the clock must wait for the least steps."""
        guess = self.pretraining + self.fine_tuning
        training = TRAINING * self.minutes
        return self.minutes + training * (sum(self.least_steps) - guess) / guess


def tokens_per_second(depth: int, processes: int) -> float:
    """Measured with steps of noise in this process; the others are taken to be nearly as fast.

    The best of three, since other work on the machine only makes a step slower.
    """
    model = GPT(GPTConfig.from_depth(depth, **SIZE))
    seconds = min(trial(model, (8, SIZE["sequence_len"]), 1, mx.distributed.init()) for _ in range(3))
    return 8 * SIZE["sequence_len"] / seconds * (1 + 0.8 * (processes - 1))


def make_plan(minutes: float | None, depth: int | None, processes: int | None, min_iterations: int | None) -> Plan:
    """The deepest model that sees a token for each parameter within the minutes, or one of `depth`.

    The speed is measured at one depth, and for the others follows from their FLOPs a token. processes, min_iterations:
    None for the defaults.
    """
    if minutes is None and depth is not None:
        return Plan(depth)
    bound = 5.0 if minutes is None else minutes
    measured = depth or LEAST_DEPTH
    processes = processes or local_ring.fitting_processes(backend.device_kind())
    speed = tokens_per_second(measured, processes) * flops_per_token(GPTConfig.from_depth(measured, **SIZE))

    def tokens(depth: int, share: float = TRAINING) -> float:
        return share * 60 * bound * speed / flops_per_token(GPTConfig.from_depth(depth, **SIZE))

    depths = range(12, LEAST_DEPTH, -1)
    fitting = (n for n in depths if tokens(n) >= count_parameters(GPTConfig.from_depth(n, **SIZE)))
    depth = depth or next(fitting, LEAST_DEPTH)
    steps = [max(2, int(tokens(depth, share) / BATCH)) for share in (PRETRAINING, FINE_TUNING)]
    return Plan(depth, SIZE["aspect_ratio"], SIZE["head_dim"], bound, *steps, min_iterations or LEAST_STEPS)

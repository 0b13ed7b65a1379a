"""What a Trainer refuses: numbers that make no run, a step without text, a state of another model.

Written by hand; chapter 10 uses it.
"""

import mlx.core as mx

from course_lib.host.errors import CourseError


def check_run(num_iterations: int, grad_clip: float) -> None:
    """Refuse a run without a step, and a limit of the norm that is none."""
    if num_iterations < 1 or not grad_clip >= 0:
        raise CourseError(f"num_iterations={num_iterations}, grad_clip={grad_clip}: expected 1 or more, and 0 or more")


def check_step(iteration: int, num_iterations: int) -> None:
    """Refuse a step beyond the end of the run, where the schedule knows no rates."""
    if iteration >= num_iterations:
        raise CourseError(f"all {num_iterations} steps are done; make a Trainer with more num_iterations")


def check_micro_batches(losses: list) -> None:
    """Refuse a step that got no text."""
    if not losses:
        raise CourseError("a step got no micro-batch; give it one or more pairs (inputs, targets)")


def check_state(own: dict[str, mx.array], given: dict[str, mx.array]) -> None:
    """Refuse a state whose arrays have other names or shapes than the Trainer's own."""
    have, want = ({name: array.shape for name, array in arrays.items()} for arrays in (given, own))
    if have != want:
        raise CourseError("the saved state does not fit this model; go on with the depth of the run")

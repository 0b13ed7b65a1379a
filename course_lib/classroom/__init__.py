"""What only the notebooks use: growing classes, budgets, claims, experiments, curves, exercise checks, the loss log."""

import warnings

import matplotlib

from course_lib.classroom.cells import add_to, budget, command_line, in_notebook

if not in_notebook():  # a text that runs as a script draws without opening windows
    matplotlib.use("agg")
    matplotlib.rcParams["figure.max_open_warning"] = 0
    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

from course_lib.classroom.check import check, check_solution
from course_lib.classroom.claims import claim
from course_lib.classroom.experiments import stored
from course_lib.classroom.live_curve import LiveCurve
from course_lib.classroom.loss_log import draw_loss_log, print_loss_log, record_loss

__all__ = [
    "LiveCurve",
    "add_to",
    "budget",
    "check",
    "check_solution",
    "claim",
    "command_line",
    "draw_loss_log",
    "print_loss_log",
    "record_loss",
    "stored",
]

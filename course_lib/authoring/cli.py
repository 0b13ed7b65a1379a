"""The `course` command."""

import argparse
import os
import sys

from course_lib.host.errors import CourseError
from course_lib.host.paths import CHECKOUT

ABOUT = """Keep the three forms of the course in step:

  notebooks/text/03_microgpt.py   the text that authors edit
  notebooks/03_microgpt.ipynb     the notebook that learners open, with outputs
  course_lib/names/microgpt.py          the module made of its `#| export` cells

After editing a text:        course sync 03 && course export 03 && course run 03
After editing in JupyterLab: course pull 03 && course export 03 && course run 03
Before a commit:             course check
"""
NAMES = 'notebooks: "03", "03_microgpt", "solutions/03" or a file; all when none is named'
COMMANDS = {
    "sync": "write notebooks from their texts; outputs above the first changed cell stay",
    "pull": "write texts from their notebooks",
    "run": "execute notebooks from top to bottom and store their outputs",
    "export": "write the modules of course_lib from the texts",
    "check": "say what is out of step; exit code 1 when anything is",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="course", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        command.add_argument("names", nargs="*", metavar="notebook", help=NAMES)
        if name in ("sync", "pull", "export"):
            command.add_argument("--overwrite", action="store_true", help="replace a file even if it was edited later")
    return top


def main(argv: list[str] | None = None) -> None:
    """Entry point; exits with 1 and one sentence when something is wrong, with 2 on a wrong flag."""
    arguments = parser().parse_args(argv)
    try:
        sys.exit(_do(arguments))
    except CourseError as error:
        sys.exit(f"course: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f"course: {error}; nothing was half-written, mend that and run it again")
    except KeyboardInterrupt:
        sys.exit("course: interrupted; files that were not finished are as they were")


def _do(arguments: argparse.Namespace) -> int:
    try:
        from course_lib.authoring import check, export, run, sync
        from course_lib.authoring.tree import select
    except ModuleNotFoundError as error:
        raise CourseError(f"{error.name} is not installed; `uv sync` installs the development tools") from None
    pairs = select(arguments.names, CHECKOUT)
    if arguments.command == "check":
        found = check.problems(pairs, CHECKOUT)
        print("\n".join(found) or f"{len(pairs)} notebooks, their texts and course_lib agree")
        return 1 if found else 0
    if arguments.command == "export":
        lines = export.write(pairs, CHECKOUT, arguments.overwrite)
    elif arguments.command == "run":
        lines = map(run.run, pairs)
    else:
        lines = (getattr(sync, arguments.command)(pair, arguments.overwrite) for pair in pairs)
    for line in filter(None, lines):
        print(line, flush=True)
    return 0

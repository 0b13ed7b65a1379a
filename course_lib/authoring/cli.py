"""The `course` command."""

import argparse
import os
import sys
from pathlib import Path

from course_lib.authoring import learner
from course_lib.host.errors import CourseError
from course_lib.host.paths import CHECKOUT, user_path
from course_lib.host.program import make_output_safe

ABOUT = """For learners: work in a copy of the notebooks, which no update of the course touches.

  course start                    copies them to the folder mine
  course progress                 lists which exercises are solved there

For authors: keep the three forms of the course in step.

  notebooks/text/03_microgpt.py   the text that authors edit
  notebooks/03_microgpt.ipynb     the notebook that learners open, with outputs
  course_lib/names/microgpt.py    the module made of its `#| export` cells

After editing a text:        course sync 03 && course export 03 && course run 03
After editing in JupyterLab: course pull 03 && course export 03 && course run 03
Before a commit:             course check
"""
NAMES = 'notebooks: "03", "03_microgpt", "solutions/03" or a file; all when none is named'
FOLDER = "folder of the copy; the folder mine in the checkout when none is named"
FOR_LEARNERS = {
    "start": "copy the notebooks to a folder of your own; what is there already stays as it is",
    "progress": "list the exercises that are solved in your folder; runs nothing",
}
COMMANDS = {
    "sync": "write notebooks from their texts; outputs above the first changed cell stay",
    "pull": "write texts from their notebooks",
    "run": "execute notebooks from top to bottom and store their outputs",
    "export": "write the modules of course_lib from the texts",
    "check": "say what is out of step; exit code 1 when anything is",
    "site": "write the course as web pages into site/",
}
OVERWRITE = {"--overwrite": "replace a file even if it was edited later"}
FLAGS = {
    "sync": OVERWRITE,
    "pull": OVERWRITE,
    "run": {
        "--experiments": "make the files of `stored` in data/experiments anew, however long that takes",
        "--disturbed": "store the outputs although other processes took much of the CPU",
    },
    "export": OVERWRITE,
    "check": {
        "--numbers": "list the numbers in the prose that neither code nor outputs hold, and check nothing",
        "--rooms": "list the rooms of course_lib and what each imports from, and check nothing else",
        "--links": "list the addresses outside that texts and documents lead to, and check only the links inside",
    },
    "site": {},
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="course", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, about in FOR_LEARNERS.items():
        command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        command.add_argument("folder", nargs="?", help=FOLDER)
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        command.add_argument("names", nargs="*", metavar="notebook", help=NAMES)
        for flag, about in FLAGS[name].items():
            command.add_argument(flag, action="store_true", help=about)
    return top


def main(argv: list[str] | None = None) -> None:
    """Entry point; exits with 1 and one sentence when something is wrong, with 2 on a wrong flag."""
    make_output_safe()
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
    if arguments.command in FOR_LEARNERS:
        mine = Path(os.path.relpath(CHECKOUT / "mine"))
        folder = mine if arguments.folder is None else user_path(arguments.folder)
        lines = [learner.start(folder, CHECKOUT)] if arguments.command == "start" else learner.progress(folder)
        for line in lines:
            print(line)
        return 0
    try:
        from course_lib.authoring import address, course_map, export, run, sync
        from course_lib.authoring.tree import select
    except ModuleNotFoundError as error:
        raise CourseError(f"{error.name} is not installed; `uv sync` installs the development tools") from None
    pairs = select(arguments.names, CHECKOUT)
    if arguments.command == "check":
        return _check(arguments, pairs)
    if arguments.command == "export":
        lines = export.write(pairs, CHECKOUT, arguments.overwrite)
    elif arguments.command == "site":
        lines = [_site(pairs)]
    elif arguments.command == "run":
        lines = (run.run(pair, arguments.experiments, arguments.disturbed) for pair in pairs)
    else:
        lines = (getattr(sync, arguments.command)(pair, arguments.overwrite) for pair in pairs)
    for line in filter(None, lines):
        print(line, flush=True)
    if arguments.command == "sync":
        for line in filter(None, [course_map.write_readme(CHECKOUT), *address.write_address(CHECKOUT)]):
            print(line)
    return 0


def _site(pairs: list) -> str:
    from course_lib.authoring import site

    return site.build(pairs, CHECKOUT)


def _check(arguments: argparse.Namespace, pairs: list) -> int:
    from course_lib.authoring import check, prose_numbers, rooms
    from course_lib.authoring.tree import read_text

    found: list[str] = []
    if arguments.numbers:
        lines = [line for pair in pairs for line in prose_numbers.unshown_numbers(pair)]
    elif arguments.links:
        found = [line for pair in pairs for line in check.link_problems(pair, read_text(pair).cells)]
        lines = [*check.links(pairs, CHECKOUT), *found]
    elif arguments.rooms:
        found = list(rooms.room_problems(CHECKOUT / "course_lib"))
        lines = [*rooms.table(CHECKOUT / "course_lib"), *(found or [rooms.ALL_WELL])]
    else:
        found = check.problems(pairs, CHECKOUT)
        lines = found or [f"{len(pairs)} notebooks, their texts and course_lib agree"]
    print("\n".join(lines))
    return 1 if found else 0

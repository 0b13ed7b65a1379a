"""Talk to a model in the terminal: `chat_cli --help`. Source: nanochat."""

import io
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import tyro

from course_lib.chat.calculator import use_calculator
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError
from course_lib.host.program import AtLeastOne, AtLeastZero, Bounds, run_program
from course_lib.serve.terminal import TerminalChat
from course_lib.weights.flags import AnyModel


@dataclass(frozen=True)
class Settings(AnyModel):
    """Talk to a model in the terminal. /help lists what can be typed there."""

    stage: str = "sft"
    """Which of its models: sft (fine-tuned for chat), base, rl."""
    prompt: Annotated[str | None, tyro.conf.arg(aliases=["-p"])] = None
    """Answer this alone, print the reply and nothing else, and end."""
    temperature: Annotated[float, Bounds(0, 2)] = 0.8
    """How evenly to choose: 0 takes the likeliest token always."""
    top_k: AtLeastOne = 50
    """Choose among so many of the likeliest tokens."""
    max_tokens: AtLeastOne = 512
    """The longest reply."""
    seed: AtLeastZero | None = None
    """The same seed gives the same replies; by default another each time."""


def lines(ask: bool) -> Iterator[str]:
    """What is typed, line by line, with editing and history when `ask`; or stdin's lines."""
    if not ask:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):
        import readline  # noqa: F401 (input() edits its line with it)
    while True:
        try:
            yield input("\nyou> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(/quit or Ctrl-D leaves)")


def work(settings: Settings) -> None:
    """Load the model and talk."""
    folder, step = settings.place(settings.stage)
    model, tokenizer, meta = settings.load_to_chat(folder, step)
    seed = time.time_ns() % 2**32 if settings.seed is None else settings.seed
    engine = Engine(model, tokenizer, use_calculator)
    chat = TerminalChat(engine, settings.temperature, settings.top_k, settings.max_tokens, seed)
    if settings.prompt is not None:
        sys.exit(chat.say(settings.prompt).code)
    ask = sys.stdin.isatty()
    if ask:
        print(f"{folder.name} {folder.parent.name}, step {meta['step']:,}. /help lists what can be typed here.")
    for line in lines(ask):
        if line.startswith("/"):
            done = chat.command(line)
            if done is None:
                return
            print(done)
        elif line:
            try:
                stop = chat.say(line)
            except CourseError as error:
                print(f"chat_cli: {error}", file=sys.stderr)
                continue
            stopped = ", stopped" if stop.code else ""
            print(f"({chat.tokens} tokens, {chat.tokens / chat.seconds:.0f} tokens/s{stopped})", file=sys.stderr)
            if stop.code not in (0, 130):
                sys.exit(stop.code)


main = partial(run_program, "chat_cli", Settings, work)

if __name__ == "__main__":
    main()

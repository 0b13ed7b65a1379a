"""Talk to a model in the terminal: `chat_cli --help`. Source: nanochat."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import mlx.core as mx
import tyro

from course_lib import backend
from course_lib.chat.calculator import use_calculator
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError, FlagError
from course_lib.host.files import write_atomically
from course_lib.host.program import check_least, run_program
from course_lib.host.stop import StopWish, stop_when_asked
from course_lib.model.gpt import GPT
from course_lib.serve.streaming import Piece, PieceDecoder, content_of, fit_prompt
from course_lib.train.checkpoint import load_model
from course_lib.train.which import place_of


@dataclass(frozen=True)
class Settings:
    """Talk to a model in the terminal. /help lists what can be typed there."""

    tag: str | None = None
    """Name of the run; by default d4."""
    stage: str = "sft"
    """Which of its models: sft (fine-tuned for chat), base, rl."""
    checkpoint: Path | None = None
    """Or the run's folder, or one of its step_… folders."""
    step: int | None = None
    """Which checkpoint of the run; by default the newest."""
    prompt: Annotated[str | None, tyro.conf.arg(aliases=["-p"])] = None
    """Answer this alone, print the reply and nothing else, and end."""
    temperature: float = 0.8
    """How evenly to choose: 0 takes the likeliest token always."""
    top_k: int = 50
    """Choose among so many of the likeliest tokens."""
    max_tokens: int = 512
    """The longest reply."""
    seed: int | None = None
    """The same seed gives the same replies; by default another each time."""


def load_for_chat(settings: Settings) -> tuple[GPT, Tokenizer, str]:
    """Model, tokenizer and name of the run that the flags ask for.

    Raises CourseError when there is none.
    """
    folder, step = place_of(settings, settings.stage)
    if not folder.is_dir():
        raise CourseError(
            f"there is no run in {folder}; train one with `base_train` and `chat_sft`, or give "
            "another --tag, --stage or --checkpoint"
        )
    model, tokenizer, meta = load_model(folder, step)
    model.set_dtype(backend.compute_dtype())
    mx.eval(model.parameters())
    return model, tokenizer, f"{folder.name} {folder.parent.name}, step {meta['step']:,}"


HELP = """\
/clear            forget the conversation
/temperature T    choose more evenly (above 1) or less (below 1); 0 always takes the likeliest
/save FILE        write the conversation to FILE, as JSON
/quit             leave (Ctrl-D does it, too)
Ctrl-C            stops a reply"""


def printable(text: str) -> str:
    """The text without control characters: a terminal would obey them."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")


@dataclass
class Conversation:
    """A conversation with a model, and the terminal in which it is held."""

    engine: Engine
    settings: Settings
    temperature: float
    seed: int
    messages: list[dict] = field(default_factory=list)

    def show(self, kind: str, text: str, before: str) -> None:
        """Print a piece; a tool call and its result in brackets, and dim if possible."""
        mark = {"text": "", "python": "[", "python_output": " = "}
        if kind != before:
            text = ("]" if before != "text" and kind != "python_output" else "") + mark[kind] + text
        dim = kind != "text" and sys.stdout.isatty()
        sys.stdout.write(f"\033[2m{printable(text)}\033[0m" if dim else printable(text))
        sys.stdout.flush()

    def pieces(self, ids: list[int], stop: StopWish) -> Iterator[Piece]:
        """The reply, as it is written, until it ends or somebody wishes to stop."""
        tokenizer, settings = self.engine.tokenizer, self.settings
        decoder, top_k = PieceDecoder(tokenizer), min(settings.top_k, tokenizer.vocab_size)
        steps = self.engine.generate(ids, 1, settings.max_tokens, self.temperature, top_k, seed=self.seed)
        with closing(steps):
            for (token,), _ in steps:
                if stop.code:
                    break
                self.tokens += token not in self.engine.stops
                yield from decoder.push(token)
        yield from decoder.finish()

    def say(self, text: str) -> StopWish:
        """Answer a message on stdout. Ctrl-C ends the reply; what there was of it stays.

        Raises CourseError for a message that is too long.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        ids = fit_prompt(self.engine.tokenizer, messages, self.engine.model.config, self.settings.max_tokens)
        self.tokens, self.started, before, reply = 0, time.perf_counter(), "text", []
        with stop_when_asked() as stop:
            for piece in self.pieces(ids, stop):
                self.show(*piece, before)
                before = piece.kind
                reply.append(piece)
        print("]" if before != "text" else "")
        self.messages = [*messages, {"role": "assistant", "content": content_of(reply)}]
        self.seed += 1
        return stop

    def speed(self, stop: StopWish) -> str:
        """One line about the reply."""
        seconds = time.perf_counter() - self.started
        stopped = ", stopped" if stop.code else ""
        return f"({self.tokens} tokens, {self.tokens / seconds:.0f} tokens/s{stopped})"

    def command(self, line: str) -> str | None:
        """Do what a line with a slash says, and tell what was done; None to leave."""
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name == "/quit":
            return None
        if name == "/clear":
            self.messages = []
            return "forgotten"
        if name == "/temperature":
            return self.set_temperature(rest)
        if name == "/save":
            return self.save(rest)
        return HELP if name == "/help" else f"{name} is not known; /help lists what is"

    def set_temperature(self, text: str) -> str:
        """A number from 0 to 2."""
        try:
            value = float(text or self.temperature)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 2:
            return f"{text!r} is no temperature from 0 to 2; it stays {self.temperature:g}"
        self.temperature = value
        return f"temperature {value:g}"

    def save(self, name: str) -> str:
        """Write the messages to a file that is not there yet."""
        path = Path(name).expanduser()
        if not name or path.exists():
            return f"{name} exists already; give another name" if name else "give a name: /save FILE"
        try:
            with write_atomically(path) as file:
                file.write(json.dumps(self.messages, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            return f"cannot write {path} ({error.strerror}); give another name"
        return f"{len(self.messages)} messages are in {path}"


def lines(ask: bool) -> Iterator[str]:
    """What is typed, line by line, with editing and history when `ask`; or stdin's lines."""
    if not ask:
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
    check_least(settings, temperature=0, top_k=1, max_tokens=1, step=0, seed=0)
    if settings.temperature > 2:
        raise FlagError(f"--temperature is {settings.temperature}, expected 0 to 2")
    model, tokenizer, name = load_for_chat(settings)
    seed = time.time_ns() % 2**32 if settings.seed is None else settings.seed
    engine = Engine(model, tokenizer, use_calculator)
    talk = Conversation(engine, settings, settings.temperature, seed)
    if settings.prompt is not None:
        stop = talk.say(settings.prompt)
        sys.exit(stop.code)
    ask = sys.stdin.isatty()
    if ask:
        print(f"{name}. /help lists what can be typed here.")
    for line in lines(ask):
        if line.startswith("/"):
            done = talk.command(line)
            if done is None:
                return
            print(done)
        elif line:
            try:
                stop = talk.say(line)
            except CourseError as error:
                print(f"chat_cli: {error}", file=sys.stderr)
                continue
            print(talk.speed(stop), file=sys.stderr)
            if stop.code not in (0, 130):
                sys.exit(stop.code)


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("chat_cli", Settings, work, argv)


if __name__ == "__main__":
    main()

"""A conversation with a model in a terminal: replies as they are written, and commands that begin with a slash.

Written by hand; chapter 17 uses it.
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing

from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError
from course_lib.host.files import write_atomically
from course_lib.host.paths import user_path
from course_lib.host.stop import StopRequest, stop_when_asked
from course_lib.serve.streaming import Piece, PieceDecoder, content_of, fit_prompt

HELP = """\
/clear            forget the conversation
/temperature T    choose more evenly (above 1) or less (below 1); 0 always takes the likeliest
/save FILE        write the conversation to FILE, as JSON
/quit             leave (Ctrl-D does it, too)
Ctrl-C            stops a reply"""


def printable(text: str) -> str:
    """The text without control characters: a terminal would obey them."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")


class TerminalChat:
    """A conversation with a model, and the terminal in which it is held.

    messages: all that was said so far. seed: of the first reply; each reply has the next one.
    """

    def __init__(self, engine: Engine, temperature: float, top_k: int, max_tokens: int, seed: int):
        self.engine, self.temperature, self.max_tokens, self.seed = engine, temperature, max_tokens, seed
        self.top_k = min(top_k, engine.tokenizer.vocab_size)
        self.messages: list[dict] = []
        self.tokens, self.seconds = 0, 0.0  # of the last reply

    def say(self, text: str) -> StopRequest:
        """Answer a message on stdout. Ctrl-C ends the reply; what there was of it stays.

        Raises CourseError for a message that is too long.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        ids = fit_prompt(self.engine.tokenizer, messages, self.engine.model.config, self.max_tokens)
        reply: list[Piece] = []
        started = time.perf_counter()
        with stop_when_asked() as stop:
            for piece in self._pieces(ids, stop):
                _show(piece, after=reply[-1].kind if reply else "text")
                reply.append(piece)
        print("]" if reply and reply[-1].kind != "text" else "")
        self.seconds = time.perf_counter() - started
        self.messages = [*messages, {"role": "assistant", "content": content_of(reply)}]
        self.seed += 1
        return stop

    def _pieces(self, ids: list[int], stop: StopRequest) -> Iterator[Piece]:
        """The reply, as it is written, until it ends or somebody asks to stop."""
        decoder, self.tokens = PieceDecoder(self.engine.tokenizer), 0
        settings = {name: getattr(self, name) for name in ("max_tokens", "temperature", "top_k", "seed")}
        with closing(self.engine.generate(ids, **settings)) as steps:
            for (token,), _ in steps:
                if stop.code:
                    break
                self.tokens += token not in self.engine.stops
                yield from decoder.push(token)
        yield from decoder.finish()

    def command(self, line: str) -> str | None:
        """Do what a line with a slash says, and tell what was done; None to leave."""
        name, _, rest = line.partition(" ")
        if name == "/quit":
            return None
        if name == "/clear":
            self.messages = []
            return "forgotten"
        if name == "/temperature":
            return self._set_temperature(rest.strip())
        if name == "/save":
            return self._save(rest.strip())
        return HELP if name == "/help" else f"{name} is not known; /help lists what is"

    def _set_temperature(self, text: str) -> str:
        """A number from 0 to 2."""
        try:
            value = float(text or self.temperature)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 2:
            return f"{text!r} is not between 0 and 2; keeping {self.temperature:g}"
        self.temperature = value
        return f"temperature {value:g}"

    def _save(self, name: str) -> str:
        """Write the messages to a file that is not there yet."""
        if not name:
            return "give a name: /save FILE"
        try:
            path = user_path(name)
            if path.exists():
                return f"{name} exists already; give another name"
            with write_atomically(path) as file:
                file.write(json.dumps(self.messages, indent=1, ensure_ascii=False) + "\n")
        except CourseError as error:
            return str(error)
        except OSError as error:
            return f"cannot write {name} ({error.strerror}); give another name"
        return f"{len(self.messages)} messages are in {path}"


def _show(piece: Piece, after: str) -> None:
    """Print a piece after one of the kind `after`; a tool call and its result in brackets, and dim if possible."""
    kind, text = piece
    if kind != after:
        mark = {"text": "", "python": "[", "python_output": " = "}[kind]
        text = ("] " if after != "text" and kind != "python_output" else "") + mark + text
    dim = kind != "text" and sys.stdout.isatty()
    print(f"\033[2m{printable(text)}\033[0m" if dim else printable(text), end="", flush=True)

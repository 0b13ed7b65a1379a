"""Talk to a model in the browser, or through an API: `chat_web --help`. Source: nanochat."""

import ipaddress
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from course_lib.chat.calculator import use_calculator
from course_lib.chat.loading import load_for_chat
from course_lib.host.errors import FlagError
from course_lib.host.program import AtLeastOne, AtLeastZero, Bounds, run_program
from course_lib.serve.api import ChatSettings
from course_lib.serve.app import create_app
from course_lib.serve.transport import address_of, listen, run_forever
from course_lib.train.flags import WhichModel


@dataclass(frozen=True)
class Settings(WhichModel):
    """Serve a model: a page to chat on, and /v1/chat/completions for programs."""

    stage: str = "sft"
    """Which of its models: sft (fine-tuned for chat), base, rl."""
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Bounds(0, 65535)] = 8000
    """Where to listen; 0 takes a free port."""
    api_key: str | None = None
    """Serve only those who send this key."""
    allow_host: tuple[str, ...] = ()
    """Names by which this machine may be called, besides localhost and its IP address."""
    temperature: Annotated[float, Bounds(0, 2)] = 0.8
    """Default temperature, 0 to 2."""
    top_k: Annotated[int, Bounds(1, 200)] = 50
    """Default top-k, 1 to 200."""
    max_tokens: Annotated[int, Bounds(1, 4096)] = 512
    """Default reply length, 1 to 4096 tokens."""
    max_rows: AtLeastOne = 8
    """How many replies are written at once."""
    max_waiting: AtLeastZero = 64
    """How many more may wait; others are told to come back later."""


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def work(settings: Settings) -> None:
    """Load the model and serve it until Ctrl-C."""
    key = settings.api_key
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise FlagError("--api-key is not a word of plain letters and digits; give another")
    with listen(settings.host, settings.port) as listener:  # before the model is loaded: a port may be taken
        model, tokenizer, name, step = load_for_chat(*settings.place(settings.stage))
        chat_settings = ChatSettings(
            name,
            settings.temperature,
            settings.top_k,
            settings.max_tokens,
            settings.max_rows,
            settings.max_waiting,
            tool=use_calculator,
            api_key=key,
            hosts=tuple(host.lower() for host in settings.allow_host),
        )
        app = create_app(model, tokenizer, chat_settings)
        print(f"{name}, step {step:,} is on {address_of(listener)} (Ctrl-C ends it)", flush=True)
        if not is_local(settings.host) and key is None:
            print("chat_web: other machines can use it, without --api-key", file=sys.stderr)
        run_forever(app, listener)
    print("ended")


def main(argv: list[str] | None = None) -> None:
    """Entry point. argv: flags, by default the command line's."""
    run_program("chat_web", Settings, work, argv)


if __name__ == "__main__":
    main()

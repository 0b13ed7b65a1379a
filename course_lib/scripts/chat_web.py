"""Talk to a model in the browser, or through an API: `chat_web --help`. Source: nanochat."""

import ipaddress
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated

from course_lib.chat.calculator import use_calculator
from course_lib.host.errors import FlagError
from course_lib.host.program import Bounds, run_program
from course_lib.serve.api import ChatSettings, ServerFlags
from course_lib.serve.app import create_app
from course_lib.serve.models import chat_models, name_of
from course_lib.serve.transport import address_of, listen, run_forever
from course_lib.weights.flags import AnyModel


@dataclass(frozen=True)
class Settings(ServerFlags, AnyModel):
    """Serve a model: a page to chat on, and /v1/chat/completions for programs."""

    stage: str = "sft"
    """Which of its models: sft (fine-tuned for chat), base, rl."""
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Bounds(0, 65535)] = 8000
    """Where to listen; 0 takes a free port."""
    others: bool = True
    """Let people choose among the other models for chat that are here; one of them at a time is loaded."""


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def work(settings: Settings) -> None:
    """Load the model and serve it until Ctrl-C."""
    if settings.api_key is None:
        settings = replace(settings, api_key=os.environ.get("COURSE_API_KEY"))
    key = settings.api_key
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise FlagError("--api-key or COURSE_API_KEY is not a word of plain letters and digits; give another")
    for proxy in settings.trusted_proxy:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            raise FlagError(f"--trusted-proxy: {error}; give an IP address or a network, 10.0.0.0/8") from error
    with listen(settings.host, settings.port) as listener:  # before the model is loaded: a port may be taken
        folder, step = settings.place(settings.stage)
        model, tokenizer, meta = settings.load_to_chat(folder, step)
        name = name_of(folder)
        flags = {field.name: getattr(settings, field.name) for field in fields(ServerFlags)}
        others = chat_models() if settings.others else {}
        app = create_app(model, tokenizer, ChatSettings(**flags, name=name, tool=use_calculator), others)
        print(f"{name}, step {meta['step']:,} is on {address_of(listener)} (Ctrl-C ends it)", flush=True)
        if not is_local(settings.host) and key is None:
            print("chat_web: other machines can use it, without an API key; set COURSE_API_KEY", file=sys.stderr)
        run_forever(app, listener)
    print("ended")


main = partial(run_program, "chat_web", Settings, work)

if __name__ == "__main__":
    main()

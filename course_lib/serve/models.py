"""The models of a chat server: one from the start, and others that are loaded when somebody asks for them.

Written by hand; chapter 17 uses it.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlx.core as mx

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.model.gpt import GPT
from course_lib.serve.api import ChatSettings, Refused
from course_lib.serve.replies import Chat
from course_lib.train.checkpoint import load_model
from course_lib.train.flags import trained_runs
from course_lib.train.starter import starter_folder

Loader = Callable[[], tuple[GPT, Tokenizer]]
STAGES = ("sft", "rl")  # of the runs that can hold a conversation


class Models:
    """The first model, which stays loaded, and one other at most: memory is bounded, whoever asks for what.

    Only the names of `others` can be asked for. One that is in use is not exchanged for another: who asks for a third
    model meanwhile is told to come back.
    """

    def __init__(self, first: Chat, others: Mapping[str, Loader]):
        self.first = first
        self._loaders = {name: loader for name, loader in others.items() if name != first.settings.name}
        self._other: Chat | None = None
        self._loading = asyncio.Lock()
        self._closed = False

    @property
    def names(self) -> list[str]:
        """All that can be asked for, the first one first."""
        return [self.first.settings.name, *self._loaders]

    def settings(self, name: str | None) -> ChatSettings:
        """The settings of a model; None or "" means the first. Raises Refused for a name that is not there."""
        if name and name not in self.names:
            there = f"only {self.names[0]!r}; ask for that"
            if self._loaders:
                there = f"only {', '.join(map(repr, self.names))}; ask for one of them"
            raise Refused(404, f"there is no model {name[:80]!r} here, {there}", "model", "model_not_found")
        return replace(self.first.settings, name=name or self.names[0])

    async def chat(self, name: str) -> Chat:
        """The model of that name, loaded if need be. Raises Refused when there is no room, or it cannot be loaded."""
        if name == self.names[0]:
            return self.first
        async with self._loading:
            if self._other is None or self._other.settings.name != name:
                await self._make_room(name)
                self._other = await asyncio.to_thread(self._load, name)
            return self._other

    async def _make_room(self, name: str) -> None:
        """End the other model. Raises Refused while it is in use."""
        if self._other is None:
            return
        if self._other.busy:
            used = f"{self._other.settings.name!r} is in use, and there is no room for {name!r} beside it"
            raise Refused(503, f"{used}; try again in a while", "model", "model_busy", {"retry-after": "5"})
        leaving, self._other = self._other, None
        await asyncio.to_thread(leaving.close)

    def _load(self, name: str) -> Chat:
        """In a thread of its own: an array of MLX can only be computed by the thread that built it."""
        mx.clear_cache()  # what the model before has left
        try:
            model, tokenizer = self._loaders[name]()
            chat = Chat(model, tokenizer, self.settings(name), self.first.counts)
        except Exception as error:  # whatever is wrong with a file: the others go on
            print(f"chat_web: cannot load {name}: {error}", file=sys.stderr, flush=True)
            sentence = f"the model {name!r} cannot be loaded; the server's terminal says why"
            raise Refused(503, sentence, "model", "model_not_loaded") from error
        if self._closed:
            chat.close()
        return chat

    def counters(self) -> dict[str, float]:
        """Those of the first, and what the other is doing."""
        counters = self.first.counters()
        if self._other is not None:
            running, waiting = self._other.engine.load
            counters |= {"running": counters["running"] + running, "waiting": counters["waiting"] + waiting}
        return counters

    def close(self) -> None:
        """End all of them; replies that are being written end."""
        self._closed = True
        for chat in (self.first, self._other):
            if chat is not None:
                chat.close()


def name_of(folder: Path) -> str:
    """What a run is called: an id, for addresses and flags."""
    return "-".join(f"{folder.name} {folder.parent.name}".split())


def load(folder: Path) -> tuple[GPT, Tokenizer]:
    """The newest model of a run, as it is served."""
    model, tokenizer, _ = load_model(folder)
    model.set_dtype(backend.compute_dtype())
    return model, tokenizer


def chat_models() -> dict[str, Loader]:
    """By name, all models that can hold a conversation: yours, the newest of each stage first, and the starter."""
    runs, starter = trained_runs(), starter_folder("sft")
    folders = [folder for stage in STAGES for folder in runs.get(stage, [])]
    if starter and name_of(starter) not in map(name_of, folders):
        folders.append(starter)
    return {name_of(folder): partial(load, folder) for folder in folders}

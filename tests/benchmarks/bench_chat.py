"""Thirty-two clients at once on the chat server: errors, mixed-up replies, first-token time, tokens a second, memory.

python tests/benchmarks/bench_chat.py [--seconds 60] [--clients 32] [--rows 32] [--depth 4]

The model has random weights and a vocabulary of 2,048. Each client sends prompts of its own, greedily, and compares the
reply with what the same prompt got when it was alone; one time in five it goes away in the middle. The clients are one
process, the server another. Prints also what one client alone gets, measured before.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx

TOKENS, PROMPTS = 48, 24


def serve_model(depth: int, rows: int) -> None:
    """The server's process: prints its address, ends with its standard input."""
    import mlx.core as mx

    from course_lib import backend
    from course_lib.data.tokenizer import Tokenizer
    from course_lib.model.gpt import GPT, GPTConfig
    from course_lib.serve.api import ChatSettings
    from course_lib.serve.app import create_app
    from course_lib.serve.transport import serve

    words = [f"{first}{last}" for first in "bcdfghklmnprstvwz" for last in ("ako", "eli", "imu", "ona", "ury", "ast")]
    generator = random.Random(1)
    text = [" ".join(generator.choices(words, k=12)) for _ in range(400)]
    tokenizer = Tokenizer.train(text, 2048, allow_smaller=True)
    model = GPT(GPTConfig.from_depth(depth, 2048, sequence_len=512))
    mx.random.seed(1)
    model.apply_to_modules(lambda _, module: module.apply(lambda a: 0.05 * mx.random.normal(a.shape)))
    model.lm_head.weight[tokenizer.bos :] = 0  # every reply is as long as it may be
    model.set_dtype(backend.compute_dtype())
    with serve(create_app(model, tokenizer, ChatSettings(max_rows=rows, max_waiting=16))) as address:
        print(address, flush=True)
        sys.stdin.read()


def body_of(number: int) -> dict:
    """A request of its own for each number."""
    message = {"role": "user", "content": f"Client {number} would like to know about {number * 7919 % 1000}."}
    return {"messages": [message], "temperature": 0, "max_tokens": TOKENS}


class Load:
    """What the clients have seen."""

    def __init__(self, address: str):
        self.address, self.first, self.tokens = address, [], 0
        self.replies = self.full = self.gone = self.wrong = 0
        self.errors: list[str] = []

    async def ask(self, client: httpx.AsyncClient, number: int, leave_after: int | None = None) -> str | None:
        """The reply; None if the queue was full or the client went away after some events."""
        started, text, events, done = time.perf_counter(), "", 0, False
        async with client.stream("POST", f"{self.address}/chat/completions", json=body_of(number)) as response:
            if response.status_code == 429:
                self.full += 1
                await asyncio.sleep(min(1, int(response.headers["retry-after"])) * random.random())
                return None
            if response.status_code != 200:
                self.errors.append(f"status {response.status_code}")
                return None
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                event = json.loads(line[6:])
                if not events:
                    self.first.append(time.perf_counter() - started)
                events += 1
                text += event.get("token", "")
                if "error" in event:
                    self.errors.append(event["error"]["message"])
                if event.get("done"):
                    self.tokens += event["usage"]["completion_tokens"]
                    self.replies += 1
                    done = True
                if leave_after is not None and events >= leave_after and not done:
                    self.gone += 1
                    self.tokens += events  # at least
                    return None
        if not done:
            self.errors.append("a reply without an end")
        return text

    async def client(self, who: int, expected: dict[int, str], end: float) -> None:
        """Ask until the time is over."""
        generator = random.Random(who)
        async with httpx.AsyncClient(timeout=60) as client:
            while time.perf_counter() < end:
                number = generator.choice(list(expected))
                leave_after = generator.randint(1, 20) if generator.random() < 0.2 else None
                try:
                    text = await self.ask(client, number, leave_after)
                except httpx.HTTPError as error:
                    self.errors.append(repr(error))
                    continue
                if text is not None and text != expected[number]:
                    self.wrong += 1


def memory_of(process: subprocess.Popen) -> float:
    """Megabytes that a process holds (Linux)."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1000


async def measure(address: str, options: argparse.Namespace, process: subprocess.Popen) -> None:
    """Replies one at a time as references, then the load."""
    alone = Load(address)
    async with httpx.AsyncClient(timeout=60) as client:
        await alone.ask(client, 999)
        started, alone.tokens, alone.first = time.perf_counter(), 0, []
        expected = {number: await alone.ask(client, number) for number in range(PROMPTS)}
        single = alone.tokens / (time.perf_counter() - started)
    assert len(set(expected.values())) == PROMPTS and not alone.errors, "each prompt must have a reply of its own"
    load, memory = Load(address), []
    started = time.perf_counter()
    end = started + options.seconds
    clients = [asyncio.create_task(load.client(who, expected, end)) for who in range(options.clients)]
    while time.perf_counter() < end:
        await asyncio.sleep(min(5, options.seconds / 12))
        memory.append(memory_of(process))
    await asyncio.gather(*clients)
    together = load.tokens / (time.perf_counter() - started)
    stats = httpx.get(f"{address}/stats").json()
    middle = len(memory) // 3
    print(f"replies {load.replies}, went away {load.gone}, queue full (429) {load.full}")
    print(f"errors {len(load.errors)} {sorted(set(load.errors))[:3]}, mixed-up replies {load.wrong}")
    print(f"first token: median {statistics.median(load.first):.2f} s, worst {max(load.first):.2f} s")
    print(f"tokens/s: one client {single:.0f}, {options.clients} clients {together:.0f}: {together / single:.1f} times")
    print(f"memory: {memory[middle]:.0f} MB after a third of the time, {memory[-1]:.0f} MB at the end")
    print(f"rows in use at the end: {stats['running']}, waiting {stats['waiting']}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_model(options.depth, options.rows)
        return
    command = [sys.executable, __file__, "--serve", "--depth", str(options.depth), "--rows", str(options.rows)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asyncio.run(measure(process.stdout.readline().strip(), options, process))
        process.stdin.close()


if __name__ == "__main__":
    main()

"""Tiny models for the tests of the chat: one that has learnt a few conversations, one that writes at random."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.chat.conversation import render_conversation
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.files import only_one
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.checkpoint import Checkpoint, load_model, run_folder, save_checkpoint
from course_lib.train.trainer import Trainer

ATTACK = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
CALCULATION = [
    {"type": "text", "text": "Let me see: "},
    {"type": "python", "text": "6*7"},
    {"type": "python_output", "text": "42"},
    {"type": "text", "text": "It is 42."},
]
ANSWERS = {
    "Hi": "Hello, it is good to see you. What would you like to talk about today?",
    "Smile": "Here: 😀 and a 🦊.",
    "6*7?": CALCULATION,
    "Attack": ATTACK,
    "Lists": "# Fruit\n\n- **apple**\n- `pear`\n\n```python\nprint(1)\n```\n\n"
    "[good](https://example.org) [bad](javascript:alert(1))",
    "Count": " ".join(str(n) for n in range(1, 81)),
}
SEQUENCE_LEN = 1024


@cache
def taught_folder() -> Path:
    """A run whose model gives ANSWERS, greedily, to its questions; taught once for all test processes, in seconds."""
    folder = run_folder("taught", "sft")
    with only_one(folder):
        if not folder.is_dir():
            teach(folder)
    return folder


def taught() -> tuple[GPT, Tokenizer]:
    """That model, loaded anew, and its tokenizer."""
    model, tokenizer, _ = load_model(taught_folder())
    return model, tokenizer


def teach(folder: Path) -> None:
    """Train until the answers are known by heart, and save."""
    mx.random.seed(1)
    texts = [
        f"{question} {part['text']}"
        for question, answer in ANSWERS.items()
        for part in (answer if isinstance(answer, list) else [{"text": answer}])
    ]
    tokenizer = Tokenizer.train([text for text in texts if "😀" not in text], 360, allow_smaller=True)
    rows = [
        render_conversation(tokenizer, [{"role": "user", "content": q}, {"role": "assistant", "content": a}])
        for q, a in ANSWERS.items()
    ]
    length = max(len(ids) for ids, _ in rows)
    end = tokenizer.special("<|assistant_end|>")
    inputs = mx.array([(ids + [end] * length)[: length - 1] for ids, _ in rows])
    targets = mx.array(
        [([t if m else -1 for t, m in zip(ids, mask, strict=True)] + [-1] * length)[1:length] for ids, mask in rows]
    )
    config = GPTConfig(SEQUENCE_LEN, tokenizer.vocab_size, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)
    model = GPT(config)
    trainer = Trainer(model, 60)
    for _ in range(60):
        loss = trainer.step([(inputs, targets)]).losses[0]
    assert loss < 0.1, f"the model has not learnt its answers: loss {loss}"
    weights = dict(tree_flatten(model.parameters()))
    tokenizer.save(folder / "tokenizer")
    meta = {"config": asdict(config), "tokenizer": tokenizer.fingerprint}
    save_checkpoint(folder, Checkpoint(60, weights, {}, meta))


@cache
def babbling_folder() -> Path:
    """A run whose model writes letters for seconds, for whoever must catch it in the middle of a reply."""
    folder = run_folder("babbling", "sft")
    tokenizer = taught()[1]
    with only_one(folder):
        if not folder.is_dir():
            model = writes_letters(tokenizer, 4096, 4)
            tokenizer.save(folder / "tokenizer")
            meta = {"config": asdict(model.config), "tokenizer": tokenizer.fingerprint}
            save_checkpoint(folder, Checkpoint(1, dict(tree_flatten(model.parameters())), {}, meta))
    return folder


def writes_letters(tokenizer: Tokenizer, sequence_len: int, n_layer: int) -> GPT:
    """A model that writes "a" or "b" for as long as it may."""
    model = GPT(GPTConfig(sequence_len, tokenizer.vocab_size, n_layer=n_layer, n_head=2, n_kv_head=2, n_embd=64))
    model.lm_head.weight[ord("a")] = 1.0  # whichever way the last vector points, one of the two is far ahead
    model.lm_head.weight[ord("b")] = -1.0
    return model

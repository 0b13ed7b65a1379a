"""Makes tests/data/weights/gpt2: a tiny GPT-2 with random weights, and what transformers makes of it.

python dev/make_gpt2_data.py, in an environment with torch and transformers. It was run with torch 2.13.0 and
transformers 5.24.0.
"""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

FOLDER = Path(__file__).resolve().parents[1] / "tests/data/weights/gpt2"
TEXTS = ["The cat sat on the mat.", " don't  stop\n\n 1234 – ünïcode 猫"]


def main() -> None:
    """Write the folder."""
    alphabet = list(bytes_to_unicode().values())
    merges = [("t", "h"), ("Ġ", "th"), ("Ġth", "e"), ("a", "t"), ("Ġ", "Ġ"), ("'", "t"), ("1", "2"), ("12", "3")]
    vocabulary = {name: n for n, name in enumerate([*alphabet, *map("".join, merges), "<|endoftext|>"])}
    torch.manual_seed(0)
    end = len(vocabulary) - 1
    sizes = {"n_positions": 48, "n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": len(vocabulary)}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=end, eos_token_id=end)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that biases are not zero, and attention is not even
            parameter.add_(0.3 * torch.randn_like(parameter))
    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(FOLDER)
    (FOLDER / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (FOLDER / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = GPT2Tokenizer.from_pretrained(FOLDER)
    ids = torch.randint(0, len(vocabulary), (2, 48))
    with torch.no_grad():
        logits = model(ids).logits
    prompt = ids[:1, :8]
    greedy = model.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=None)[0, 8:]
    np.savez_compressed(FOLDER / "expected.npz", ids=ids, logits=logits[:, ::6], greedy=greedy)
    texts = {text: tokenizer(text)["input_ids"] for text in TEXTS}
    (FOLDER / "texts.json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()

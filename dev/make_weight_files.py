"""Write tests/data/weights: small random models as other programs keep them, and the logits that these give.

Needs torch, transformers, tiktoken, rustbpe and safetensors, and nothing of this course:

    python -m venv ENV; ENV/bin/pip install torch transformers tiktoken rustbpe safetensors
    ENV/bin/python dev/make_weight_files.py tests/data/weights

Both models of nanochat are written here from its description, in torch: they are the truth for the course's own.
"""

import copy
import json
import math
import pickle
import shutil
import sys
from pathlib import Path

import rustbpe
import tiktoken
import tokenizers
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import NanoChatConfig, NanoChatForCausalLM, PreTrainedTokenizerFast

PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
NAMES = "bos user_start user_end assistant_start assistant_end python_start python_end output_start output_end"
SPECIALS = [f"<|{name}|>" for name in NAMES.split()]
TEXT = "The cat sat on the mat, and the 2026 mats of the cats' 101 naïve friends… étés; the end.\n" * 3
POSITIONS = [0, 1, 5, 100, 128, 129, 140, 199]  # a window of 128 ends between the fifth and the sixth


def norm(x):
    """RMSNorm without a weight, with the eps that torch takes where nobody says one."""
    return F.rms_norm(x, (x.shape[-1],))


def rotate(x, base):
    """x: (B, T, H, D); halves, by minus theta."""
    D, T = x.shape[-1], x.shape[1]
    angles = torch.outer(torch.arange(T).float(), base ** (-torch.arange(0, D, 2).float() / D))[None, :, None]
    first, second = x.split(D // 2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos + second * sin, second * cos - first * sin], -1)


def linear(a, b):
    """A matrix without a bias."""
    return nn.Linear(a, b, bias=False)


class Attention(nn.Module):
    """Of both models; own: what a value table says of each token."""

    def __init__(self, c, gate):
        super().__init__()
        self.head_dim = D = c["n_embd"] // c["n_head"]
        self.c_q, self.c_k = linear(c["n_embd"], c["n_head"] * D), linear(c["n_embd"], c["n_kv_head"] * D)
        self.c_v, self.c_proj = linear(c["n_embd"], c["n_kv_head"] * D), linear(c["n_embd"], c["n_embd"])
        if gate:
            self.ve_gate = linear(12, c["n_kv_head"])

    def forward(self, x, base, gain, window, own=None):
        B, T, C = x.shape
        q, k, v = (m(x).view(B, T, -1, self.head_dim) for m in (self.c_q, self.c_k, self.c_v))
        if own is not None:
            v = v + 3 * torch.sigmoid(self.ve_gate(x[..., :12]))[..., None] * own.view(v.shape)
        q, k = (norm(rotate(a, base)) * gain for a in (q, k))
        k, v = (a.repeat_interleave(q.shape[2] // a.shape[2], dim=2) for a in (k, v))
        scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(self.head_dim)
        behind = torch.arange(T)[:, None] - torch.arange(T)[None]
        scores = scores.masked_fill((behind < 0) | (behind > window), -math.inf)
        y = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v)
        return self.c_proj(y.reshape(B, T, C))


class MLP(nn.Module):
    """Of both models."""

    def __init__(self, n):
        super().__init__()
        self.c_fc, self.c_proj = linear(n, 4 * n), linear(4 * n, n)

    def forward(self, x):
        return self.c_proj(F.relu(self.c_fc(x)).square())


class Block(nn.Module):
    """Holds the names; the models put the two together."""

    def __init__(self, c, gate):
        super().__init__()
        self.attn, self.mlp = Attention(c, gate), MLP(c["n_embd"])


class October(nn.Module):
    """nanochat, October 2025."""

    def __init__(self, c):
        super().__init__()
        self.c, n = c, c["n_embd"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(c["vocab_size"], n),
                "h": nn.ModuleList(Block(c, False) for _ in range(c["n_layer"])),
            }
        )
        self.lm_head = linear(n, c["vocab_size"])

    def forward(self, ids):
        x = norm(self.transformer.wte(ids))
        for block in self.transformer.h:
            x = x + block.attn(norm(x), 10_000, 1.0, 10**9)
            x = x + block.mlp(norm(x))
        return 15 * torch.tanh(self.lm_head(norm(x)).float() / 15)


class July(nn.Module):
    """nanochat, July 2026."""

    def __init__(self, c):
        super().__init__()
        self.c, n, L = c, c["n_embd"], c["n_layer"]
        rows = math.ceil(c["vocab_size"] / 64) * 64
        tables = [i for i in range(L) if (L - 1 - i) % 2 == 0]
        self.transformer = nn.ModuleDict(
            {"wte": nn.Embedding(rows, n), "h": nn.ModuleList(Block(c, i in tables) for i in range(L))}
        )
        self.lm_head = linear(n, rows)
        kv_dim = n // c["n_head"] * c["n_kv_head"]
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(rows, kv_dim) for i in tables})
        self.smear_gate = linear(24, 1)
        self.smear_lambda, self.backout_lambda = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.resid_lambdas, self.x0_lambdas = nn.Parameter(torch.zeros(L)), nn.Parameter(torch.zeros(L))

    def forward(self, ids):
        c, L = self.c, self.c["n_layer"]
        e = norm(self.transformer.wte(ids))
        share = self.smear_lambda * torch.sigmoid(self.smear_gate(e[:, 1:, :24]))
        x = x0 = torch.cat([e[:, :1], e[:, 1:] + share * e[:, :-1]], 1)
        short, pattern = 128 * math.ceil(c["sequence_len"] / 4 / 128), c["window_pattern"]
        for i, block in enumerate(self.transformer.h):
            window = short if pattern[i % len(pattern)] == "S" and i < L - 1 else c["sequence_len"]
            x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
            own = self.value_embeds[str(i)](ids) if str(i) in self.value_embeds else None
            x = x + block.attn(norm(x), 100_000, 1.2, window, own)
            x = x + block.mlp(norm(x))
            if i == L // 2:
                middle = x
        x = norm(x - self.backout_lambda * middle)
        return 15 * torch.tanh(self.lm_head(x)[..., : c["vocab_size"]].float() / 15)


def fill(model, seed):
    """Random numbers that bfloat16 holds exactly: so the files may keep either type."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        size = 1.0 if "wte" in name or "value_embeds" in name or parameter.ndim == 1 else parameter.shape[-1] ** -0.5
        size *= 3 if "lm_head" in name or "gate" in name else 1
        parameter.data = (size * torch.randn(parameter.shape)).bfloat16().float()


def logits(model, vocab_size):
    """(len(POSITIONS), vocab_size) of 200 ids that follow from their number."""
    ids = torch.tensor([[(7 * n * n + 3 * n) % vocab_size for n in range(200)]])
    with torch.no_grad():
        found = model(ids)
    return getattr(found, "logits", found)[0, POSITIONS].float().contiguous()


def encoding():
    """A tokenizer of 285 ids."""
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter([TEXT]), 256 + 20, pattern=PATTERN)
    ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
    specials = {name: len(ranks) + n for n, name in enumerate(SPECIALS)}
    return tiktoken.Encoding("rustbpe", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)


def write_nanochat(folder, model, step, enc, big):
    """As nanochat saves: the names of big arrays in bfloat16, those of torch.compile's wrapper before each name."""
    folder.mkdir(parents=True)
    kept = copy.deepcopy(model)
    for name, parameter in kept.named_parameters():
        if name.startswith(big):
            parameter.data = parameter.data.bfloat16()
    torch.save(torch.compile(kept).state_dict(), folder / f"model_{step:06d}.pt")
    meta = {"step": step, "val_bpb": 1.25, "model_config": model.c, "user_config": {"run": "dummy"}}
    (folder / f"meta_{step:06d}.json").write_text(json.dumps(meta, indent=2))
    (folder / "tokenizer.pkl").write_bytes(pickle.dumps(enc))
    texts = [enc.decode([n]) for n in range(len(enc._mergeable_ranks))]
    counts = [len(text.encode()) for text in texts] + [0] * len(SPECIALS)
    torch.save(torch.tensor(counts, dtype=torch.int32), folder / "token_bytes.pt")


def write_transformers(folder, enc):
    """A folder as save_pretrained leaves it, in two parts; gives the logits."""
    config = NanoChatConfig(
        vocab_size=enc.n_vocab,
        hidden_size=16,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
    )
    model = NanoChatForCausalLM(config).eval()
    fill(model, 3)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="20KB")
    model = NanoChatForCausalLM.from_pretrained(folder, dtype=torch.float32)  # not .float(): its angles have lost bits
    hidden = [byte for byte in range(256) if not (33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte)]
    letter = {byte: chr(256 + hidden.index(byte)) if byte in hidden else chr(byte) for byte in range(256)}
    vocab = {"".join(letter[byte] for byte in token): rank for token, rank in enc._mergeable_ranks.items()}
    merges = []
    for token in sorted(vocab, key=vocab.get):  # every way to cut a token in two, as transformers' own converter does
        cuts = [(token[:n], token[n:]) for n in range(1, len(token))]
        merges += sorted((a, b) for a, b in cuts if a in vocab and b in vocab)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIALS[0]).save_pretrained(folder)
    return logits(model, enc.n_vocab)


def write_views(path):
    """What torch.save can make of 24 numbers: turned, cut out, twice the same, of other types, alone."""
    base = torch.arange(24).float()
    cut = base[2:20].view(3, 6)[:, 1:5]
    views = {"turned": base.view(4, 6).T, "cut": cut, "same": cut, "parameter": nn.Parameter(base[:2].clone())}
    views |= {"one": torch.tensor(7.5, dtype=torch.float16), "none": torch.zeros(0, 3), "bool": base[:3] > 1}
    torch.save(views | {"long": torch.tensor([2**40, -1]), "byte": torch.tensor([[255]], dtype=torch.uint8)}, path)


def main(target: str) -> None:
    """Replace what is in the folder of each form."""
    root, enc, found = Path(target), encoding(), {}
    small = {"sequence_len": 256, "vocab_size": enc.n_vocab, "n_layer": 2, "n_head": 2, "n_kv_head": 1, "n_embd": 16}
    later = small | {"n_layer": 3, "n_embd": 32, "window_pattern": "SL"}
    for name, make, config, step, big in (
        ("october", October, small, 10, ("transformer.wte",)),
        ("july", July, later, 20, ("transformer.", "value_embeds", "lm_head")),
    ):
        shutil.rmtree(root / name, ignore_errors=True)
        model = make(config)
        fill(model, step)
        write_nanochat(root / name, model, step, enc, big)
        found[name] = logits(model, enc.n_vocab)
    write_views(root / "views.pt")
    shutil.rmtree(root / "transformers", ignore_errors=True)
    found["transformers"] = write_transformers(root / "transformers", enc)
    save_file(found | {"positions": torch.tensor(POSITIONS)}, root / "logits.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])

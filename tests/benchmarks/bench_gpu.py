"""What the course reaches on this device, as Markdown tables: matrix products, training, memory, decoding, PyTorch.

python tests/benchmarks/bench_gpu.py             d4 and d12 on a GPU, meant for under five minutes; d2 and d4 on a CPU
python tests/benchmarks/bench_gpu.py --quick     d1 and d2, tiny: does it run?

Nothing is compared with a maker's figures: all speeds are shares of what this device reaches here, in a product of two
large matrices and in adding two large arrays. (On a CPU one thread adds, so decoding may reach more than that.)
Training is the Trainer's step, Muon and AdamW included, on one micro-batch of random ids: as many rows as fit the
memory and take a few seconds. Kernels are the operations of a step that compute something; those that only look at
memory in another way are left out. Decoding is the Engine's, greedy; it reads all weights but wte, and the KV cache,
once for each token of all rows. Where PyTorch is installed, an eager PyTorch model of the same shapes goes forward and
backward in the same number type on the same device: the same layers (rotary positions, QK norm, ReLU², capped logits),
fused attention, and all logits at once.

No figures of a GPU have been measured yet.
"""

import argparse
import io
import platform
import re
import time
from collections.abc import Callable

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.flags import FILLED

VIEWS = (
    "Transpose Reshape Broadcast BroadcastAxes ExpandDims Squeeze Flatten Unflatten Slice Split AsStrided "
    "Depends CustomTransforms StopGradient NumberOfElements"
).split()

Batch = tuple[mx.array, mx.array]


def seconds_of(run: Callable[[], object], seconds: float, warm_up: int = 2) -> float:
    """Mean seconds of a call, over calls that take `seconds` together, three at least."""
    for _ in range(warm_up):  # loads and compiles
        run()
    started, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - started < seconds:
        run()
        count += 1
    return (time.perf_counter() - started) / count


def memory_speed(numbers: int, seconds: float) -> float:
    """Bytes a second that go to and from memory while two arrays of so many float32 numbers are added."""
    a, b = mx.ones((numbers,)), mx.ones((numbers,))
    mx.eval(a, b)
    return 3 * a.nbytes / seconds_of(lambda: mx.eval(a + b), seconds)


def shape_for(config: Callable[[int], GPTConfig], bound: float, longest: int) -> tuple[int, int]:
    """(rows, tokens in a row): the largest that fits the memory and takes about two seconds, on a slow device more."""
    room, length = FILLED * backend.memory_for_arrays(), longest
    while True:
        for rows in (16, 8, 4, 2, 1):
            seconds = rows * length * flops_per_token(config(length)) / (0.3 * bound)  # 0.3: a careful MFU
            fits = estimate_memory(config(length), rows)["total"] <= room and seconds <= 2
            if fits or (rows, length) == (1, min(256, longest)):
                return rows, length
        length //= 2


def kernels(arrays: object) -> int:
    """Operations that compute something in the graph behind some arrays that are not yet evaluated."""
    text = io.StringIO()
    mx.export_to_dot(text, *(array for _, array in tree_flatten(arrays)))
    names = re.findall(r'label ="([^"]*)", shape=rectangle', text.getvalue())
    return sum(name not in VIEWS for name in names)


def kernels_of_a_step(trainer: FastTrainer, batch: Batch) -> tuple[int, int]:
    """Of forward and backward, and of the update, which are made."""
    loss, gradients = trainer.add_gradients({}, *batch)
    before = kernels([loss, gradients])
    mx.eval(loss, gradients)
    trainer.update(gradients, mx.array(1.0))
    made = [trainer.model.parameters(), trainer.optimizer.state]
    after = kernels(made)
    mx.eval(made)
    return before, after


def torch_seconds(config: GPTConfig, rows: int, seconds: float) -> float | str:
    """Of forward and backward of the same shapes in eager PyTorch; or why there are none."""
    try:
        import torch
        import torch.nn.functional as F
    except ImportError:
        return "PyTorch is not installed"
    kind = backend.device_kind()
    device = {"metal": "mps", "cuda": "cuda", "cpu": "cpu"}[kind]
    if kind != "cpu" and not (torch.backends.mps if kind == "metal" else torch.cuda).is_available():
        return f"PyTorch {torch.__version__} does not see this GPU"
    wait = {"metal": lambda: torch.mps.synchronize(), "cuda": lambda: torch.cuda.synchronize(), "cpu": lambda: None}
    dtype, T, d = torch.float32 if kind == "cpu" else torch.bfloat16, config.sequence_len, config.n_embd

    def matrix(outputs: int, inputs: int):
        return (torch.randn(outputs, inputs, device=device) / inputs**0.5).requires_grad_()

    shapes = {**dict.fromkeys("qkvo", (d, d)), "up": (4 * d, d), "down": (d, 4 * d)}
    blocks = [{name: matrix(*shape) for name, shape in shapes.items()} for _ in range(config.n_layer)]
    wte, lm_head = matrix(config.vocab_size, d), matrix(config.vocab_size, d)
    ids = torch.randint(config.vocab_size, (rows, T), device=device)
    pairs = torch.arange(0, config.head_dim, 2, device=device) / config.head_dim
    angle = torch.arange(T, device=device)[:, None] * config.rope_base**-pairs
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)  # (T, head_dim / 2)

    def norm(x):
        return F.rms_norm(x, x.shape[-1:], eps=config.norm_eps)

    def heads(x, weight):
        return F.linear(x, weight.to(dtype)).view(rows, T, -1, config.head_dim).transpose(1, 2)

    def turned(x):
        a, b = x.chunk(2, dim=-1)
        return norm(torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1))

    def step() -> None:
        for weight in (wte, lm_head, *(weight for block in blocks for weight in block.values())):
            weight.grad = None
        x = norm(F.embedding(ids, wte).to(dtype))
        for w in blocks:
            y = norm(x)
            q, k, v = turned(heads(y, w["q"])), turned(heads(y, w["k"])), heads(y, w["v"])
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(y.transpose(1, 2).reshape(x.shape), w["o"].to(dtype))
            x = x + F.linear(F.relu(F.linear(norm(x), w["up"].to(dtype))).square(), w["down"].to(dtype))
        logits = config.softcap * torch.tanh(F.linear(norm(x), lm_head.to(dtype)).float() / config.softcap)
        F.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
        wait[kind]()

    try:
        return seconds_of(step, seconds)
    except RuntimeError as error:
        return f"PyTorch: {str(error).splitlines()[0][:60]}"


def decode(model: GPT, rows: int, speed: float) -> tuple[float, float]:
    """(tokens a second of all rows together, share of the memory's speed) of greedy decoding."""
    config = model.config
    tokenizer = Tokenizer.train(["a small tokenizer will do "], 270, allow_smaller=True)
    engine = Engine(model, tokenizer, keep_prefixes=0)
    engine.stops = set()  # the weights know nothing: every run is to be as long as asked for
    prompt, steps = [1] * min(64, config.sequence_len // 4), min(128, config.sequence_len // 2)
    times = []
    for _ in engine.generate(prompt, num_samples=rows, max_tokens=steps, temperature=0):
        times.append(time.perf_counter())
    first = steps // 8  # these load and compile
    seconds = (times[-1] - times[first]) / (len(times) - 1 - first)
    weights = sum(array.nbytes for name, array in tree_flatten(model.parameters()) if "wte" not in name)
    length = len(prompt) + steps // 2
    cached = 2 * config.n_layer * rows * config.n_kv_head * length * config.head_dim * backend.compute_dtype().size
    return rows / seconds, (weights + cached) / seconds / speed


def measure(config: GPTConfig, rows: int, bound: float, speed: float, seconds: float) -> dict[str, str]:
    """The column of one model. bound: FLOP/s of matrix products; speed: bytes a second of the memory."""
    T = config.sequence_len
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    trainer = FastTrainer(GPT(config), 10**6)
    batch = tuple(mx.random.randint(0, config.vocab_size, (2, rows, T)))
    counts = kernels_of_a_step(trainer, batch)
    step = seconds_of(lambda: trainer.step([batch]), seconds)
    peak = mx.get_peak_memory() - before
    passes = seconds_of(lambda: mx.eval(trainer.add_gradients({}, *batch)), seconds)
    model, trainer = trainer.model, None
    mx.clear_cache()
    peer = torch_seconds(config, rows, seconds)
    model.set_dtype(backend.compute_dtype())
    work, estimate = rows * T * flops_per_token(config) / bound, estimate_memory(config, rows)["total"]
    decoded = {n: decode(model, n, speed) for n in (1, 8)}
    column = {
        "parameters": f"{count_parameters(config):,}",
        "rows × tokens of a step": f"{rows} × {T}",
        "training step, tokens/s": f"{rows * T / step:,.0f}",
        "training step, MFU": f"{work / step:.1%}",
        "forward and backward, tokens/s": f"{rows * T / passes:,.0f}",
        "forward and backward, MFU": f"{work / passes:.1%}",
        "the same in eager PyTorch, tokens/s": peer if isinstance(peer, str) else f"{rows * T / peer:,.0f}",
        "kernels of forward and backward": f"{counts[0]:,}",
        "kernels of the update": f"{counts[1]:,}",
        "peak memory, GB": f"{peak / 1e9:.3f}",
        "peak memory / estimate": f"{peak / estimate:.2f}",
    }
    for n, (tokens, share) in decoded.items():
        column[f"decoding {n} {'row' if n == 1 else 'rows'}, tokens/s"] = f"{tokens:,.0f}"
        column[f"decoding {n} {'row' if n == 1 else 'rows'}, share of memory speed"] = f"{share:.1%}"
    return column


def table(head: list[str], rows: dict[str, list[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *([name, *values] for name, values in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--depths", type=int, nargs="+", help="other models")
    options = parser.parse_args()
    quick, on_cpu = options.quick, backend.device_kind() == "cpu"
    seconds = 0.05 if quick else 5.0
    n = 128 if quick else 1024 if on_cpu else 8192
    depths = options.depths or ([1, 2] if quick else [2, 4] if on_cpu else [4, 12])
    vocab_size, longest = (512, 64) if quick else (65_536, 2048)

    dtype = str(backend.compute_dtype()).split(".")[-1]
    products = {
        name: backend.matmul_gflops(n, getattr(mx, name), min(1.0, seconds)) for name in ("float32", "bfloat16")
    }
    bound, speed = 1e9 * products[dtype], memory_speed(1 << 18 if quick else 1 << 26, min(1.0, seconds))
    facts = {
        "device": f"{backend.device_name()} ({backend.device_kind()})",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}, MLX {mx.__version__}",
        "memory, GB": f"{backend.memory_bytes() / 1e9:.1f}",
        "memory for arrays, GB": f"{backend.memory_for_arrays() / 1e9:.1f}",
        "models compute in": dtype,
        **{f"products of {n} × {n}, {name}, TFLOP/s": f"{gflops / 1e3:.3f}" for name, gflops in products.items()},
        "adding two arrays, GB/s": f"{speed / 1e9:.1f}",
    }
    print(table(["this machine", ""], {name: [value] for name, value in facts.items()}), flush=True)

    columns = []
    for depth in depths:

        def config(length: int, depth: int = depth) -> GPTConfig:
            return GPTConfig.from_depth(depth, vocab_size, length)

        rows, length = shape_for(config, bound, longest)
        columns.append(measure(config(length), rows, bound, speed, seconds))
    names = list(columns[0])
    print()
    print(table(["model", *(f"d{n}" for n in depths)], {name: [c[name] for c in columns] for name in names}))
    print("\nAll tests on this device: uv run pytest")


if __name__ == "__main__":
    main()

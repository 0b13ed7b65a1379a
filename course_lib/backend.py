"""What this machine is: its device, its memory, its speed, and the number type to compute in.

Exported from notebooks/00_start_here.ipynb; edit it there.
"""

import random
import sys
import time

import mlx.core as mx

from course_lib.host import device, fast_matmul
from course_lib.host.errors import CourseError


def device_kind() -> str:
    """Where MLX computes by default: "metal" (a Mac's GPU), "cuda" (an NVIDIA GPU) or "cpu".

    COURSE_PRETEND in the environment can make a CPU pass for a GPU, in tests.
    """
    if mx.default_device() == mx.cpu:
        return device.setting("COURSE_PRETEND", "metal", "cuda") or "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def device_name() -> str:
    """The device's own name, such as "Apple M3 Pro"."""
    return str(mx.device_info(mx.default_device()).get("device_name") or device_kind())


def memory_bytes() -> int:
    """Bytes of the memory of this Mac (CPU and GPU share it), CUDA GPU or Linux machine."""
    info = mx.device_info(mx.default_device())
    return int(info.get("memory_size") or info.get("total_memory") or device.memory_bytes())


def memory_for_arrays() -> int:
    """Bytes that arrays may fill: on a Mac's GPU what Metal recommends; elsewhere all memory."""
    info = mx.device_info(mx.default_device())
    return int(info.get("max_recommended_working_set_size") or memory_bytes())


def matmul_gflops(n: int = 1024, dtype: mx.Dtype = mx.float32, seconds: float = 0.2) -> float:
    """Measured speed of an (n, n) @ (n, n) product in GFLOP/s: 2 n^3 operations over the best time.

    seconds: how long to go on measuring. Raises CourseError for n below 1.
    """
    if n < 1:
        raise CourseError(f"matmul_gflops was asked for {n} x {n} matrices; n must be at least 1")
    a, b = (mx.random.normal((n, n), key=mx.random.key(seed)).astype(dtype) for seed in (0, 1))

    def seconds_each(count: int) -> float:
        start = time.perf_counter()
        mx.eval([a @ b for _ in range(count)])
        return (time.perf_counter() - start) / count

    mx.eval(a, b)
    seconds_each(1)  # the first product also loads and compiles
    count = max(1, min(32, int(0.005 / seconds_each(1))))  # in one mx.eval, to share its cost
    best, end = seconds_each(count), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, seconds_each(count))
    return 2 * n**3 / best / 1e9


def compute_dtype() -> mx.Dtype:
    """The number type to compute in: bfloat16 on a GPU; float32 on the CPU, slow in bfloat16.

    COURSE_DTYPE=float32, or bfloat16, in the environment chooses otherwise.
    """
    usual = "float32" if device_kind() == "cpu" else "bfloat16"
    return getattr(mx, device.setting("COURSE_DTYPE", "float32", "bfloat16") or usual)


def describe() -> str:
    """A few lines on this machine: device, memory, matrix products, number type."""
    memory = f"{memory_bytes() / 1e9:.1f} GB"
    if memory_for_arrays() < memory_bytes():
        memory += f", {memory_for_arrays() / 1e9:.1f} GB of it for arrays"
    return "\n".join(
        [
            f"device: {device_kind()}, {device_name()}",
            f"memory: {memory}",
            fast_matmul.report(),
            f"compute in: {str(compute_dtype()).split('.')[-1]}",
        ]
    )


def seed_everything(seed: int) -> mx.array:
    """Seed Python's, MLX's and (where it is loaded) NumPy's random numbers; returns an MLX key.

    Raises CourseError unless 0 <= seed < 2^32.
    """
    if not 0 <= seed < 2**32:
        raise CourseError(f"the seed is {seed}; it must be a whole number from 0 to 4294967295")
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    mx.random.seed(seed)
    return mx.random.key(seed)

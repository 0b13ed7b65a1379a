"""The benchmark for GPUs runs on every machine, and its tables can be read."""

import os
import subprocess
import sys

import mlx.core as mx
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tables(request):
    """{name: values} of each table that a quick run prints, with the head's first cell as its name."""
    script = request.config.rootpath / "tests" / "benchmarks" / "bench_gpu.py"
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(script), "--quick"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    found = []
    for block in done.stdout.strip().split("\n\n"):
        lines = [line.strip("|").split(" | ") for line in block.splitlines() if line.startswith("|")]
        if lines:
            found.append({name.strip(): [value.strip() for value in values] for name, *values in lines})
    return found


def number(text: str) -> float:
    return float(text.replace(",", "").replace("%", ""))


def test_the_machine_has_a_name_a_memory_and_speeds(tables):
    machine = tables[0]
    assert machine["device"][0].endswith(("(cpu)", "(metal)", "(cuda)"))
    assert 0 < number(machine["memory for arrays, GB"][0]) <= number(machine["memory, GB"][0])
    products = {name: number(value[0]) for name, value in machine.items() if name.startswith("products of")}
    assert len(products) == 2 and all(0 < speed < 1e4 for speed in products.values())
    assert 0 < number(machine["adding two arrays, GB/s"][0]) < 1e5


def test_each_model_has_its_figures_and_they_are_sane(tables):
    models = tables[1]
    assert models["model"] == ["d1", "d2"]
    assert models["parameters"] == [f"{12 * d * (64 * d) ** 2 + 2 * 512 * 64 * d:,}" for d in (1, 2)]
    for name in ("training step", "forward and backward"):
        assert all(number(value) > 0 for value in models[f"{name}, tokens/s"])
        assert all(0 < number(value) < 150 for value in models[f"{name}, MFU"])
    for rows in ("1 row", "8 rows"):
        assert all(number(value) > 0 for value in models[f"decoding {rows}, tokens/s"])
        assert all(number(value) > 0 for value in models[f"decoding {rows}, share of memory speed"])
    assert all(0.5 < number(value) < 2 for value in models["peak memory / estimate"])
    peers = models["the same in eager PyTorch, tokens/s"]
    assert all("PyTorch" in value or number(value) > 0 for value in peers)


def test_kernels_are_the_operations_that_compute(tables, request):
    sys.path.insert(0, str(request.config.rootpath / "tests" / "benchmarks"))
    try:
        from bench_gpu import kernels
    finally:
        del sys.path[0]
    x, bias = mx.ones((4, 3)), mx.ones((3,))
    mx.eval(x, bias)
    assert kernels([mx.exp(x)]) == 1
    assert kernels([(mx.exp(x).T @ x + bias).reshape(9)[2:]]) == 3  # exp, product, sum
    for part in ("forward and backward", "the update"):
        one, two = (number(value) for value in tables[1][f"kernels of {part}"])
        assert 10 < one <= two < 2 * one

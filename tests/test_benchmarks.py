"""The benchmark for GPUs runs on every machine, and its tables can be read, also when a part of it fails."""

import os
import shutil
import signal
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import bench_gpu
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
    assert models["model"] == [f"d{depth}, {year}" for depth in (1, 2) for year in (2025, 2026)]
    october = [12 * d * (64 * d) ** 2 + 2 * 512 * 64 * d for d in (1, 2)]
    # of 2026: one head of 128 in both; a table of values and its gate in one block; smear, backout, two shares a block
    july = [12 * d * 128**2 + 3 * 512 * 128 + 12 + 24 + 2 + 2 * d for d in (1, 2)]
    assert models["parameters"] == [f"{n:,}" for pair in zip(october, july, strict=True) for n in pair]
    for name in ("training step", "forward and backward"):
        assert all(number(value) > 0 for value in models[f"{name}, tokens/s"])
        assert all(0 < number(value) < 150 for value in models[f"{name}, MFU"])
    for rows in ("1 row", "8 rows"):
        assert all(number(value) > 0 for value in models[f"decoding {rows}, tokens/s"])
        assert all(number(value) > 0 for value in models[f"decoding {rows}, share of memory speed"])
    assert all(0.5 < number(value) < 2 for value in models["peak memory / estimate"])
    peers, losses, theirs = (
        models[name]
        for name in ("the same in eager PyTorch, tokens/s", "loss of these rows then", "the same in eager PyTorch")
    )
    assert all(0 < number(loss) < 7 for loss in losses)  # ln 512 is 6.2
    for speed, loss, their_loss in zip(peers, losses, theirs, strict=True):
        if speed == their_loss:
            assert speed == "PyTorch is not installed"
        else:
            assert number(speed) > 0 and number(their_loss) == pytest.approx(number(loss), rel=1e-3)


def test_kernels_are_the_operations_that_compute(tables):
    kernels = bench_gpu.kernels
    x, bias = mx.ones((4, 3)), mx.ones((3,))
    mx.eval(x, bias)
    assert kernels([mx.exp(x)]) == 1
    assert kernels([(mx.exp(x).T @ x + bias).reshape(9)[2:]]) == 3  # exp, product, sum
    for part in ("forward and backward", "the update"):
        counts = [number(value) for value in tables[1][f"kernels of {part}"]]
        for one, two in (counts[::2], counts[1::2]):  # of each year
            assert 10 < one <= two < 2 * one
        assert counts[0] < counts[1]  # 2026 does more


def test_pytorch_that_is_missing_or_fails_is_a_sentence_in_a_cell(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert bench_gpu.eager_torch(None, (), 0) == "PyTorch is not installed"

    def fail(*_):
        raise RuntimeError("no GPU | found\nat all")

    torch = SimpleNamespace(float32=1, bfloat16=2, __spec__="found")
    peer = ModuleType("torch_peer")
    peer.Peer = fail
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch_peer", peer)
    assert bench_gpu.eager_torch(None, (), 0) == "PyTorch: RuntimeError, no GPU / found at all"


def test_a_model_that_fails_and_a_sigterm_leave_the_others_their_figures(monkeypatch, capsys):
    def measure(config, *_):
        if config.n_layer == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"head": f"{1 // (config.n_layer - 1)} and a half"}

    monkeypatch.setattr(bench_gpu, "measure", measure)
    monkeypatch.setattr(sys, "argv", "bench_gpu.py --quick --depths 1 2 3 --model 2026".split())
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit, match="stopped"):
            bench_gpu.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    out, err = capsys.readouterr()
    assert out.endswith("| model | d2, 2026 |\n| --- | --- |\n| head | 1 and a half |\n")
    assert "ZeroDivisionError" in err


@pytest.mark.skipif(not shutil.which("timeout"), reason="the script is for Linux")
def test_the_script_for_a_gpu_machine_goes_on_when_a_part_fails(tmp_path, checkout):
    """A python3 that says what it was given, and fails at the figures of 2025, takes the place of the real one."""
    (tmp_path / "python3").write_text('#!/bin/sh\necho "$PYTHONPATH $*"\ncase "$*" in *"--model 2025"*) exit 3; esac\n')
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho a GPU\n")
    for name in ("python3", "nvidia-smi"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "site" / "mlx").mkdir(parents=True)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "OUT": str(tmp_path / "out")}
    script = checkout / "tests" / "benchmarks" / "on_gpu.sh"
    how = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60}
    nowhere = subprocess.run([script], **how)
    assert (nowhere.returncode, nowhere.stdout) == (64, "") and "give the folder" in nowhere.stderr
    done = subprocess.run([script, "site"], **how)
    parts = [line.split(" after ")[0] for line in done.stdout.splitlines()]
    names = "gpu packages warm_up both_years train_2025 train_2026".split()
    assert parts == [f"{name}: exit status {3 if name == 'train_2025' else 0}" for name in names]
    assert (done.returncode, done.stderr) == (1, "")
    files = {path.stem: path.read_text("utf-8") for path in (tmp_path / "out").iterdir()}
    assert files.keys() == set(names) and files["gpu"] == "a GPU\n"
    paths = f"{tmp_path / 'site'}:{checkout} tests/benchmarks/"
    assert files["both_years"] == f"{paths}bench_gpu.py --depths 12\n"
    assert files["train_2026"].startswith(f"{paths}bench_d12.py --model 2026 --sequence-len 2048")

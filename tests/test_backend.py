"""course_lib.backend: what the machine is, in the same words everywhere."""

import os
import random
import re
import subprocess
import sys

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.classroom.exercises import start_here as exercises
from course_lib.host.errors import CourseError


def pretend(monkeypatch, device, metal, **info):
    """As if this machine had another device, and the environment said nothing."""
    for name in ("COURSE_PRETEND", "COURSE_DTYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(device))
    monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
    monkeypatch.setattr(mx, "device_info", lambda of=None: info)


def test_a_mac_is_metal_with_unified_memory_and_bfloat16(monkeypatch):
    sizes = {"memory_size": 38_654_705_664, "max_recommended_working_set_size": 28_991_029_248}
    pretend(monkeypatch, mx.gpu, True, device_name="Apple M3 Pro", **sizes)
    assert (backend.device_kind(), backend.device_name()) == ("metal", "Apple M3 Pro")
    assert (backend.memory_bytes(), backend.memory_for_arrays()) == (38_654_705_664, 28_991_029_248)
    assert backend.describe().splitlines()[1] == "memory: 38.7 GB, 29.0 GB of it for arrays"
    assert backend.compute_dtype() == mx.bfloat16


def test_an_nvidia_gpu_is_cuda_with_its_own_memory_and_bfloat16(monkeypatch):
    pretend(monkeypatch, mx.gpu, False, device_name="NVIDIA H200", total_memory=150_000_000_000)
    assert (backend.device_kind(), backend.device_name()) == ("cuda", "NVIDIA H200")
    assert backend.memory_bytes() == backend.memory_for_arrays() == 150_000_000_000
    assert backend.describe().splitlines()[1] == "memory: 150.0 GB"
    assert backend.compute_dtype() == mx.bfloat16


def test_a_mac_that_fell_back_to_its_cpu_is_a_cpu(monkeypatch):
    pretend(monkeypatch, mx.cpu, True)
    assert (backend.device_kind(), backend.device_name()) == ("cpu", "cpu")
    assert backend.memory_bytes() == backend.memory_for_arrays() == backend.device.memory_bytes()
    assert backend.compute_dtype() == mx.float32


def test_a_cpu_can_pretend_and_compute_in_another_type(monkeypatch):
    pretend(monkeypatch, mx.cpu, True)
    monkeypatch.setenv("COURSE_PRETEND", "metal")
    assert (backend.device_kind(), backend.compute_dtype()) == ("metal", mx.bfloat16)
    monkeypatch.setenv("COURSE_DTYPE", "float32")
    assert (backend.device_kind(), backend.compute_dtype()) == ("metal", mx.float32)
    monkeypatch.setenv("COURSE_PRETEND", "")
    monkeypatch.setenv("COURSE_DTYPE", "bfloat16")
    assert (backend.device_kind(), backend.compute_dtype()) == ("cpu", mx.bfloat16)
    for name, ask in (("COURSE_PRETEND", backend.device_kind), ("COURSE_DTYPE", backend.compute_dtype)):
        with monkeypatch.context() as patch, pytest.raises(CourseError, match=f"{name}=half; expected .* or .*"):
            patch.setenv(name, "half")
            ask()


def test_a_gpu_does_not_pretend(monkeypatch):
    pretend(monkeypatch, mx.gpu, False)
    monkeypatch.setenv("COURSE_PRETEND", "metal")
    assert backend.device_kind() == "cuda"


@pytest.mark.parametrize("given, kept", [(None, "0"), ("1", "1")])
def test_float32_keeps_its_digits_unless_the_user_wants_tf32(given, kept):
    environment = {name: value for name, value in os.environ.items() if name != "MLX_ENABLE_TF32"}
    environment |= {"MLX_ENABLE_TF32": given} if given else {}
    code = "import os, course_lib; print(os.environ['MLX_ENABLE_TF32'])"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [kept]


def test_this_machine_can_be_described():
    assert backend.device_kind() in ("metal", "cuda", "cpu")
    assert backend.memory_bytes() > 1 << 28
    first, second, third, fourth = backend.describe().splitlines()
    assert first == f"device: {backend.device_kind()}, {backend.device_name()}"
    assert re.fullmatch(r"memory: [\d.]+ GB(, [\d.]+ GB of it for arrays)?", second) and third.startswith("matmul: ")
    assert fourth == f"compute in: {str(backend.compute_dtype()).removeprefix('mlx.core.')}"


def test_matmul_speed_is_of_a_plausible_size_and_leaves_the_random_numbers_alone():
    mx.random.seed(3)
    expected = mx.random.uniform().item()
    mx.random.seed(3)
    speed = backend.matmul_gflops(64, seconds=0.01)
    assert 0.01 < speed < 1e6
    assert mx.random.uniform().item() == expected
    assert backend.matmul_gflops(16, mx.bfloat16, seconds=0.0) > 0


def test_matmul_speed_counts_two_operations_for_each_multiplication(monkeypatch):
    clock = iter(float(second) for second in range(1000))
    monkeypatch.setattr(backend.time, "perf_counter", lambda: next(clock))
    assert backend.matmul_gflops(100, seconds=5) == pytest.approx(2e6 / 1e9)


@pytest.mark.parametrize("n", [0, -4])
def test_matmul_of_nothing_is_refused(n):
    with pytest.raises(CourseError, match=f"asked for {n} x {n} matrices; n must be at least 1"):
        backend.matmul_gflops(n)


def test_seeding_repeats_the_numbers_of_python_numpy_and_mlx():
    draws = []
    for seed in (42, 42, 43):
        key = backend.seed_everything(seed)
        draws.append((random.random(), np.random.rand(), mx.random.uniform().item(), key.tolist()))
    assert draws[0] == draws[1]
    assert all(one != other for one, other in zip(draws[1], draws[2], strict=True))
    assert mx.array_equal(backend.seed_everything(7), mx.random.key(7))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_not_all_generators_take_is_refused(seed):
    with pytest.raises(CourseError, match=f"the seed is {seed}; it must be a whole number from 0 to 4294967295"):
        backend.seed_everything(seed)


def test_seeding_does_not_load_numpy_and_the_import_is_light():
    code = "import sys; from course_lib import backend; backend.seed_everything(1); print('numpy' in sys.modules)"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")


def mean_square(error):
    return (error**2).mean()


def fit_like(loss_and_grad_of=lambda model: model, wait=False, rate=1.0, loss_of=mean_square, evaluate=None):
    """An answer to `fit`, with a mistake; evaluate: each update (True), each loss (None), or nothing (False)."""

    def fit(model, x, y, steps, learning_rate):
        optimizer = optim.SGD(learning_rate=learning_rate * rate)
        loss_fn = nn.value_and_grad(loss_and_grad_of(model), lambda model, x, y: loss_of(model(x) - y))
        losses = []
        for _ in range(steps):
            loss, grads = loss_fn(model, x, y)
            if not wait:
                optimizer.update(model, grads)
            if evaluate:
                mx.eval(model.parameters())
            losses.append(loss if evaluate is False else loss.item())
        if wait:
            optimizer.update(model, grads)
        return [loss if isinstance(loss, float) else loss.item() for loss in losses]

    return fit


WRONG = [
    (exercises.standardise, lambda x: x, "means of the columns"),
    (exercises.standardise, lambda x: x - x.mean(axis=0), "divide each column by its own"),
    (exercises.standardise, lambda x: (x - x.mean(axis=0)) / mx.var(x, axis=0), "its square root"),
    (exercises.standardise, lambda x: (x - x.mean(axis=0)) / mx.std(x, axis=0, ddof=1), "divides by N - 1"),
    (exercises.standardise, lambda x: (x - x.mean()) / mx.std(x), r"are -0\.43, .*one mean for each column"),
    (exercises.standardise, lambda x: (x.mean(axis=0) - x) / mx.std(x, axis=0), "order or the sign"),
    (exercises.standardise, lambda x: x.tolist(), "return an mx.array"),
    (exercises.count_parameters, lambda model: 12, "the bias counts too"),
    (exercises.count_parameters, lambda model: 12.0, "whole number"),
    (exercises.count_parameters, lambda model: len(tree_flatten(model.parameters())), "counted 1, it is 12"),
    (exercises.softcap, lambda x, cap=15.0: x, "never go beyond"),
    (exercises.softcap, lambda x, cap=15.0: mx.clip(x, -cap, cap), "smooth everywhere"),
    (exercises.softcap, lambda x, cap=15.0: mx.tanh(x), "far out it should reach 15"),
    (exercises.softcap, lambda x, cap=15.0: cap * mx.tanh(x), "nearly 0.1"),
    (exercises.fit, lambda model, x, y, steps, learning_rate: [], "one loss for each of the 60 steps"),
    (exercises.fit, lambda model, x, y, steps, learning_rate: [mx.array(1.0)] * steps, "Python floats"),
    (exercises.fit, lambda model, x, y, steps, learning_rate: [0.0] * steps, "untrained model"),
    (exercises.fit, fit_like(loss_and_grad_of=lambda model: nn.Linear(2, 1)), "gradients of the argument"),
    (exercises.fit, fit_like(wait=True), "update into the loop"),
    (exercises.fit, fit_like(rate=0.5), "pass learning_rate on"),
    (exercises.fit, fit_like(loss_of=lambda error: mx.abs(error).mean()), "untrained model"),
    (exercises.fit, lambda model, *rest: fit_like()(nn.Linear(2, 1), *rest), "untrained model"),
    (exercises.fit, fit_like(), "the last update still waits"),
    (exercises.fit, fit_like(evaluate=False), "the graph grows with each step"),
]


def test_a_loop_that_evaluates_each_update_is_right():
    assert "learning_rate=2" in exercises.fit(fit_like(evaluate=True))


@pytest.mark.parametrize(("test", "answer", "hint"), WRONG, ids=[f"{t.__name__}-{h[:20]}" for t, _, h in WRONG])
def test_exercise_checks_say_what_is_wrong(test, answer, hint):
    with pytest.raises(AssertionError, match=hint):
        test(answer)

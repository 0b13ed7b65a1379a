"""Machines that are not as MLX expects: each gets one line that says what to do, and the course goes on."""

import os
import subprocess
import sys

import mlx.core as mx
import pytest

from course_lib.host import device, startup


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    settings = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=60)


@pytest.fixture
def mac(monkeypatch):
    """A simulated Mac: `chosen` are the devices that were made the default, `ran` those that evaluated something.

    errors: what evaluating on a device raises.
    """

    class Mac:
        def __init__(self):
            self.chosen, self.ran, self.name, self.errors = [], [], "Apple M3 Pro", {}

        def zeros(self, shape, stream):
            self.stream = stream
            return mx.array(0.0)

        def evaluate(self, *arrays):
            self.ran.append(self.stream)
            if self.stream in self.errors:
                raise self.errors[self.stream]

    mac = Mac()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(mx, "device_info", lambda of: {"device_name": mac.name})
    monkeypatch.setattr(mx, "zeros", mac.zeros)
    monkeypatch.setattr(mx, "eval", mac.evaluate)
    monkeypatch.setattr(mx, "set_default_device", mac.chosen.append)
    return mac


def test_a_real_mac_keeps_its_gpu(mac):
    assert device.fall_back_to_cpu() is None
    assert mac.chosen == [] and mac.ran == [mx.gpu]


def test_a_mac_whose_gpu_fails_falls_back_to_the_cpu(mac):
    mac.errors[mx.gpu] = RuntimeError("[metal::Device] Unable to load kernel.\nmore")
    line = device.fall_back_to_cpu()
    assert mac.chosen == [mx.cpu]
    assert line.startswith("MLX cannot use Metal on this Mac ([metal::Device] Unable to load kernel.)")
    assert "\n" not in line


def test_a_virtual_mac_falls_back_without_running_anything_on_its_gpu(mac):
    mac.name = "Apple Paravirtual device"
    assert "Apple Paravirtual device is a virtual GPU" in device.fall_back_to_cpu()
    assert mac.chosen == [mx.cpu] and mac.ran == [mx.cpu]


def test_a_mac_whose_device_has_no_name_falls_back_to_the_cpu(mac, monkeypatch):
    def no_device(of):
        raise RuntimeError("no device")

    monkeypatch.setattr(mx, "device_info", no_device)
    mac.errors[mx.gpu] = RuntimeError()
    assert "(RuntimeError)" in device.fall_back_to_cpu()
    assert mac.chosen == [mx.cpu]


def test_a_mac_without_any_device_is_told_that_nothing_runs(mac):
    mac.errors = dict.fromkeys((mx.gpu, mx.cpu), RuntimeError("[metal::load_device] No Metal device available."))
    line = device.fall_back_to_cpu()
    assert line.startswith("MLX can make no array on this Mac ([metal::load_device] No Metal device available.)")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(mx, "set_default_device", lambda chosen: pytest.fail("not a Mac"))
    assert device.fall_back_to_cpu() is None


@pytest.fixture
def limits(monkeypatch):
    """What is set, by name, on a Mac for which Metal recommends 11 GB; limits.error: what set_wired_limit raises."""

    class Limits(dict):
        error = None

        def wire(self, limit):
            if self.error:
                raise self.error
            self["wired"] = limit

    limits = Limits()
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    monkeypatch.setattr(mx, "device_info", lambda of: {"max_recommended_working_set_size": 11_000_000_000})
    monkeypatch.setattr(mx, "set_cache_limit", lambda limit: limits.update(cache=limit))
    monkeypatch.setattr(mx, "set_wired_limit", limits.wire)
    return limits


def test_a_mac_keeps_arrays_resident_and_gives_back_what_it_has_freed(limits):
    assert device.limit_gpu_memory() is None
    assert limits == {"wired": 11_000_000_000, "cache": 5_500_000_000}


@pytest.mark.parametrize("error", [RuntimeError("needs macOS 15"), ValueError("larger than the maximum")])
def test_a_mac_that_cannot_keep_arrays_resident_does_without_a_word(limits, error):
    limits.error = error
    assert device.limit_gpu_memory() is None and limits == {"cache": 5_500_000_000}


@pytest.mark.parametrize("kind, info", [(mx.gpu, {"total_memory": 10**11}), (mx.cpu, {"memory_size": 10**10})])
def test_other_devices_keep_the_limits_of_mlx(limits, monkeypatch, kind, info):
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(kind))
    monkeypatch.setattr(mx, "device_info", lambda of: info)
    assert device.limit_gpu_memory() is None and limits == {}


def installed(folder, monkeypatch, *distributions):
    (folder / "mlx").mkdir()
    for name in distributions:
        (folder / f"{name}.dist-info").mkdir()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: Package)

    class Package:
        submodule_search_locations = [str(folder / "mlx")]


def test_two_builds_of_mlx_are_named_with_the_way_out(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "mlx-0.32.4", "mlx_cpu-0.32.4", "mlx_cuda_13-0.32.4", "numpy-2.4.6")
    line = device.name_mixed_builds()
    assert line.startswith("mlx-cpu and mlx-cuda-13 are both installed")
    assert "pip uninstall -y mlx mlx-cpu mlx-cuda-13 && pip install 'mlx[cuda13]'" in line


@pytest.mark.parametrize("build", ["mlx_cpu-0.32.4", "mlx_cuda_13-0.32.4", "mlx_cuda_12-0.30.0"])
def test_one_build_of_mlx_is_as_it_should_be(tmp_path, monkeypatch, build):
    installed(tmp_path, monkeypatch, "mlx-0.32.4", build, "mlx_lm-0.30.0", "mlx_metal-0.32.4")
    assert device.name_mixed_builds() is None


needs_temp = pytest.mark.skipif(
    sys.platform != "linux" or mx.default_device() != mx.cpu, reason="only Linux's CPU compiles into the temp folder"
)
COMPILE = "import course_lib, mlx.core as mx; print(mx.compile(lambda x: x * 2 + 1)(mx.array([1.0, 2.0])).tolist())"


@needs_temp
@pytest.mark.parametrize("variable", ["TMPDIR", "TMP", "TEMP", "TEMPDIR"])
def test_without_a_temp_folder_compile_is_switched_off_and_says_so(tmp_path, variable):
    unset = {name: "" for name in ("TMPDIR", "TMP", "TEMP", "TEMPDIR")}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment[variable] = str(tmp_path / "missing")
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[3.0, 5.0]\n"
    assert done.stderr.startswith("course_lib: MLX cannot keep compiled functions in ") and done.stderr.count("\n") == 1
    assert "set TMPDIR to a folder that you can write to" in done.stderr


@needs_temp
def test_a_file_in_the_way_of_the_compiled_functions(tmp_path):
    (tmp_path / "mlx").touch()
    done = python(COMPILE, TMPDIR=str(tmp_path))
    assert done.stdout == "[3.0, 5.0]\n" and f"{tmp_path / 'mlx'}, so mx.compile does nothing" in done.stderr


@needs_temp
def test_a_folder_without_the_right_to_write(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(mx, "disable_compile", lambda: None)
    assert device.switch_off_compile_if_impossible() is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert str(tmp_path) in device.switch_off_compile_if_impossible()


def test_memory_is_at_most_what_the_machine_has():
    assert 1 << 28 < device.memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_without_mlx_the_import_says_what_to_install():
    done = python("import sys; sys.modules['mlx.core'] = None; import course_lib; print('on')")
    assert done.stdout == "on\n" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("course_lib: MLX cannot be loaded (") and "'mlx[cpu]' or 'mlx[cuda13]'" in done.stderr


def test_a_check_that_fails_is_a_line_and_no_error(monkeypatch, capsys):
    def broken():
        raise KeyError("what nobody foresaw")

    monkeypatch.setattr(device, "fall_back_to_cpu", broken)
    startup.prepare()
    assert "could not make MLX ready for this machine (KeyError: 'what nobody foresaw')" in capsys.readouterr().err

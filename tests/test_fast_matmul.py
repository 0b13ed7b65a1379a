"""Matrix products on Linux's CPU: OpenBLAS in place, right, and never the cause of an error."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from course_lib.host import fast_matmul
from course_lib.host.device import memory_bytes

on_linux_cpu = pytest.mark.skipif(
    sys.platform != "linux" or mx.default_device() != mx.cpu, reason="only Linux's CPU needs another BLAS"
)


def slot_offsets() -> dict[str, int]:
    """Where, counted from its start, MLX's library keeps the addresses of its BLAS functions: read off its file."""
    path = Path(mx.__file__).parent / "lib" / "libmlx.so"
    if sys.platform != "linux" or not path.exists():
        return {}
    with path.open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".dynsym")
        entries = [
            (symbols.get_symbol(entry["r_info_sym"]).name, entry["r_offset"])
            for section in elf.iter_sections("SHT_RELA")
            for entry in section.iter_relocations()
        ]
    return {name: offset for name, offset in sorted(entries) if name in fast_matmul.FUNCTIONS}


# Imports course_lib without the fast matmul, so that a test can break something before it is applied.
UNTOUCHED = f"""
import os
os.environ["COURSE_FAST_BLAS"] = "0"
import ctypes, mlx.core as mx
from course_lib.host import fast_matmul
os.environ["COURSE_FAST_BLAS"] = "1"
fast_matmul.apply.cache_clear()
mlx = fast_matmul._Library.find()
places = [mlx.pages[0][0] + offset for offset in {list(slot_offsets().values())}]

def slots():
    return [ctypes.c_uint64.from_address(place).value for place in places]

def unchanged():
    a = mx.arange(6.0).reshape(2, 3)
    assert (a @ a.T).tolist() == [[5, 14], [14, 50]]
    return slots() == bundled

bundled = slots()
"""


def python(code: str, **environment: str) -> tuple[str, str]:
    """Run `code` in a fresh interpreter; what it printed on stdout and stderr."""
    settings = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "COURSE_FAST_BLAS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 27), (3, 5, 2), (65, 33, 129), (256, 300, 200)], ids=str)
def test_products_agree_with_numpy(shape, dtype):
    rows, inner, columns = shape
    random = np.random.default_rng(0)

    def matrix(*size):
        numbers = random.standard_normal(size)
        return (numbers + 1j * random.standard_normal(size) if dtype == "complex64" else numbers).astype(dtype)

    def to_mlx(numbers):
        return mx.array(numbers, dtype=getattr(mx, dtype))

    for turn_a, turn_b in itertools.product((False, True), repeat=2):
        a = matrix(inner, rows).T if turn_a else matrix(rows, inner)
        b = matrix(columns, inner).T if turn_b else matrix(inner, columns)
        mlx_a = to_mlx(a.T.copy()).T if turn_a else to_mlx(a)
        mlx_b = to_mlx(b.T.copy()).T if turn_b else to_mlx(b)
        product = np.array(mx.matmul(mlx_a, mlx_b, stream=mx.cpu))
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        assert product.dtype == dtype
        np.testing.assert_allclose(product, a @ b, rtol=tolerance, atol=tolerance * inner)


def test_batches_and_sums_agree_with_numpy():
    random = np.random.default_rng(1)
    a, b, c = (random.standard_normal(size).astype(np.float32) for size in ((4, 7, 9), (4, 9, 5), (4, 7, 5)))
    product = mx.matmul(mx.array(a), mx.array(b), stream=mx.cpu)
    np.testing.assert_allclose(np.array(product), a @ b, rtol=1e-5, atol=1e-5)
    sums = mx.addmm(mx.array(c), mx.array(a), mx.array(b), alpha=0.5, beta=-2.0, stream=mx.cpu)
    np.testing.assert_allclose(np.array(sums), 0.5 * (a @ b) - 2 * c, rtol=1e-5, atol=1e-5)
    assert (mx.zeros((3, 0)) @ mx.zeros((0, 2))).tolist() == [[0, 0]] * 3


@on_linux_cpu
def test_report_names_library_kernels_and_threads():
    printed, complaints = python("import course_lib.host.fast_matmul as f; print(f.report())")
    assert printed.startswith("matmul: OpenBLAS 0.3.") and printed.endswith(" 1 thread) in place of the bundled BLAS")
    assert not complaints


@on_linux_cpu
def test_slots_point_at_openblas():
    code = UNTOUCHED + (
        "fast_matmul.apply()\n"
        "openblas = fast_matmul._load_openblas()\n"
        "names = sorted(fast_matmul.FUNCTIONS)\n"
        "print(slots() == [fast_matmul._address(openblas, 'scipy_' + name) for name in names] != bundled, len(bundled))"
    )
    assert python(code)[0] == "True 3"


@on_linux_cpu
def test_the_slots_found_are_those_that_the_linker_filled():
    code = UNTOUCHED + (
        "blas = ctypes.CDLL(mlx.path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)\n"
        "addresses = {name: fast_matmul._address(blas, name) for name in fast_matmul.FUNCTIONS}\n"
        "found = fast_matmul._find_slots(mlx, addresses, dict.fromkeys(addresses, 2**63 + 1))\n"
        "print(sorted(found) == list(zip(sorted(fast_matmul.FUNCTIONS), places)))"
    )
    assert python(code)[0] == "True"


def test_applying_twice_changes_nothing_and_says_the_same():
    assert fast_matmul.apply() == fast_matmul.apply() == fast_matmul.report()
    again = "line = f.apply(); f.apply.cache_clear(); print(f.apply() == line)"
    assert python(f"from course_lib.host import fast_matmul as f; {again}") == ("True", "")


def test_import_is_silent_and_light():
    heavy = {"numpy", "matplotlib", "importlib.metadata", "platformdirs"}
    assert python(f"import sys, course_lib; print({heavy} & set(sys.modules))") == ("set()", "")


@on_linux_cpu
def test_switched_off_by_the_environment():
    code = "import course_lib.host.fast_matmul as f; print(f.report())"
    assert python(code, COURSE_FAST_BLAS="0") == ("matmul: bundled BLAS, because COURSE_FAST_BLAS=0", "")
    assert python(UNTOUCHED + "print(unchanged())")[0] == "True"


@on_linux_cpu
def test_a_missing_package_is_one_line_on_stderr():
    code = (
        "import sys; sys.modules['scipy_openblas32'] = None; from course_lib.host.fast_matmul import *; print(report())"
    )
    line = "matmul: bundled BLAS, because scipy-openblas32 is not installed; pip install scipy-openblas32"
    assert python(code) == (line, f"course_lib: {line}")


@on_linux_cpu
def test_library_file_missing_from_its_package(tmp_path):
    (tmp_path / "scipy_openblas32" / "lib").mkdir(parents=True)
    (tmp_path / "scipy_openblas32" / "__init__.py").touch()
    _, complaints = python("import course_lib", PYTHONPATH=str(tmp_path))
    assert complaints.startswith("course_lib: matmul: bundled BLAS, because ") and complaints.count("\n") == 0
    assert "holds no library; pip install --force-reinstall scipy-openblas32" in complaints


@on_linux_cpu
def test_a_library_that_does_not_load_is_one_line(tmp_path):
    (tmp_path / "scipy_openblas32" / "lib").mkdir(parents=True)
    (tmp_path / "scipy_openblas32" / "__init__.py").touch()
    (tmp_path / "scipy_openblas32" / "lib" / "libscipy_openblas.so").write_bytes(b"\x7fELF, but not really")
    _, complaints = python("import course_lib", PYTHONPATH=str(tmp_path))
    assert (
        complaints.startswith("course_lib: matmul: bundled BLAS, because of OSError: ") and complaints.count("\n") == 0
    )


@on_linux_cpu
def test_mlx_library_not_found():
    code = UNTOUCHED + (
        "find = fast_matmul._Library.find\n"
        "fast_matmul._Library.find = lambda: find('libelsewhere.so')\n"
        "print(fast_matmul.apply())\n"
        "fast_matmul._Library.find = find\n"
        "print(unchanged())"
    )
    assert python(code)[0].splitlines() == [
        "matmul: bundled BLAS, because libelsewhere.so was not found in this process",
        "True",
    ]


@pytest.mark.slow
@on_linux_cpu
@pytest.mark.parametrize("function", fast_matmul.FUNCTIONS)
def test_a_wrong_product_brings_the_bundled_blas_back(function):
    code = UNTOUCHED + (  # getpid takes no arguments and writes nothing: a harmless function that is no matmul
        "address = fast_matmul._address\n"
        f"broken = 'scipy_{function}'\n"
        "not_it = address(ctypes.CDLL(None), 'getpid')\n"
        "wrong = lambda library, name: not_it if name == broken else address(library, name)\n"
        "fast_matmul._address = wrong\n"
        "print(fast_matmul.apply())\n"
        "print(unchanged())"
    )
    assert python(code)[0].splitlines() == [
        "matmul: bundled BLAS, because a small product came out wrong with OpenBLAS",
        "True",
    ]


@on_linux_cpu
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_error_half_way_brings_the_bundled_blas_back(at):
    code = UNTOUCHED + (
        "write, calls = fast_matmul._Library.write, []\n"
        "def stumble(self, address, pointer):\n"
        "    calls.append(address)\n"
        f"    if len(calls) == {at}: raise OSError(12, 'no memory')\n"
        "    write(self, address, pointer)\n"
        "fast_matmul._Library.write = stumble\n"
        "print(fast_matmul.apply())\n"
        "print(unchanged())"
    )
    assert python(code)[0].splitlines() == [
        "matmul: bundled BLAS, because of OSError: [Errno 12] no memory",
        "True",
    ]


@on_linux_cpu
def test_a_slot_that_holds_something_else_is_left_alone():
    code = UNTOUCHED + (
        "other = fast_matmul._address(fast_matmul._load_openblas(), 'scipy_cblas_dgemm')\n"
        "mlx.write(places[0], other)\n"
        "print(fast_matmul.apply())\n"
        "print(slots()[0] == other, slots()[1:] == bundled[1:])"
    )
    lines = python(code)[0].splitlines()
    assert lines[0].endswith("does not call its BLAS in the way that we know") and lines[1] == "True True"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_read_only_page_is_written_and_read_only_again():
    import ctypes
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    fast_matmul._protect(address, mmap.PROT_READ)
    library = fast_matmul._Library("anonymous", [(address, address + mmap.PAGESIZE, "r--p")])
    library.write(address + 16, 42)
    assert page[16] == 42
    with open("/proc/self/maps") as maps:
        rights = next(
            line.split()[1]
            for line in maps
            if int(line.split("-")[0], 16) <= address < int(line.split("-")[1].split()[0], 16)
        )
    assert rights.startswith("r--")
    fast_matmul._protect(address, mmap.PROT_READ | mmap.PROT_WRITE)


def test_a_pointer_is_looked_for_where_the_linker_has_written():
    import ctypes

    pages = (ctypes.c_uint64 * 2560)()  # five of 4,096 bytes
    first = ctypes.addressof(pages)
    rights = ["r--p", "r-xp", "r--p", "rw-p", "rw-p"]  # names, code, relro, data, zeros
    spans = [(first + 4096 * n, first + 4096 * (n + 1), right) for n, right in enumerate(rights)]
    wanted = 0x7F1234567000
    for n in range(5):
        pages[512 * n + 7] = wanted
        ctypes.c_uint64.from_address(first + 4096 * n + 204).value = wanted  # at no multiple of 8
    places = fast_matmul._Library("five pages", spans).addresses_of(wanted)
    assert places == [first + 4096 * n + 56 for n in (2, 3, 4)]


@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="only the CPU's buffer cache is small")
def test_the_buffer_cache_is_larger_than_mlx_makes_it():
    limit = mx.set_cache_limit(1 << 30)
    mx.set_cache_limit(limit)
    assert limit == min(2 << 30, memory_bytes() // 4)


def test_nothing_is_done_where_mlx_has_a_gpu(monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    monkeypatch.setattr(mx, "set_cache_limit", lambda limit: pytest.fail("the cache limit is for the CPU"))
    for platform, name in (("linux", "CUDA"), ("darwin", "Metal")):
        monkeypatch.setattr(sys, "platform", platform)
        assert fast_matmul.apply.__wrapped__() == f"matmul: {name}, nothing to do"


@pytest.mark.slow
def test_works_in_a_jupyter_kernel(monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    cell = (
        "import course_lib.host.fast_matmul as f, mlx.core as mx\n"
        "print(f.report(), (mx.ones((2, 3)) @ mx.ones((3, 2))).tolist())"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.name == "stdout" and output.text == f"{python(cell)[0]}\n"

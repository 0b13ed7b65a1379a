"""Fast matrix products on Linux: MLX's CPU backend calls OpenBLAS in place of the slow BLAS in its wheel.

MLX's library reaches `cblas_sgemm` and its two sisters through slots of its global offset table, into which the
dynamic linker wrote the addresses of these functions when the library was loaded. We look for those addresses in the
library's data, write the addresses of OpenBLAS's functions in their place, and multiply a few small matrices to see
that all is well; if it is not, the old addresses go back. Nothing on disk changes, and NumPy and MLX's linear algebra
keep the libraries that they came with. Set COURSE_FAST_BLAS=0 to leave MLX as it is.
"""

import ctypes
import functools
import importlib.util
import mmap
import os
import sys

from course_lib.host.device import memory_bytes

FUNCTIONS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
# Bytes of freed arrays to keep for the next ones. On the CPU MLX itself keeps 32 MB, and larger arrays page-fault
# at every operation.
CACHE_LIMIT = 2 << 30

Slots = list[tuple[str, int]]  # function, address

_alive: list[ctypes.CDLL] = []  # libraries that MLX calls must never be unloaded


class _LeaveAlone(Exception):
    """Why MLX keeps the BLAS that it has."""


@functools.cache
def apply() -> str:
    """Set MLX up for this machine, once, and return the line that says what was done or why not. Never raises."""
    try:
        import mlx.core as mx

        if mx.default_device() != mx.cpu:
            return f"matmul: {'Metal' if sys.platform == 'darwin' else 'CUDA'}, nothing to do"
        mx.set_cache_limit(min(CACHE_LIMIT, memory_bytes() // 4))
        if sys.platform == "darwin":
            return "matmul: Accelerate, nothing to do"
        if os.environ.get("COURSE_FAST_BLAS") == "0":
            raise _LeaveAlone("COURSE_FAST_BLAS=0")
        openblas = _load_openblas()
        description = _describe(openblas)
        _redirect(_Library.find(), openblas)
        return f"matmul: {description} in place of the bundled BLAS"
    except _LeaveAlone as reason:
        return f"matmul: bundled BLAS, because {reason}"
    except Exception as error:  # whatever a machine has in store, the course runs on it, if slowly
        return f"matmul: bundled BLAS, because of {type(error).__name__}: {error}"


def report() -> str:
    """The line that `apply` returned when `course_lib` was imported."""
    return apply()


def _load_openblas() -> ctypes.CDLL:
    """Load the library of the package scipy-openblas32, without the package's own (slow) import."""
    package = importlib.util.find_spec("scipy_openblas32")
    if package is None or not package.submodule_search_locations:
        raise _LeaveAlone("scipy-openblas32 is not installed; pip install scipy-openblas32")
    folder = os.path.join(package.submodule_search_locations[0], "lib")
    files = [name for name in os.listdir(folder) if name.startswith("libscipy_openblas") and ".so" in name]
    if not files:
        raise _LeaveAlone(f"{folder} holds no library; pip install --force-reinstall scipy-openblas32")
    return ctypes.CDLL(os.path.join(folder, files[0]))


def _describe(openblas: ctypes.CDLL) -> str:
    """Version, kernels and threads, such as "OpenBLAS 0.3.34 (Zen, 2 threads)"."""
    for text in (openblas.scipy_openblas_get_config, openblas.scipy_openblas_get_corename):
        text.restype = ctypes.c_char_p
    name, version = openblas.scipy_openblas_get_config().decode().split()[:2]
    core = openblas.scipy_openblas_get_corename().decode()
    threads = openblas.scipy_openblas_get_num_threads()
    return f"{name} {'.'.join(version.split('.')[:3])} ({core}, {threads} thread{'s' * (threads != 1)})"


def _redirect(mlx: "_Library", openblas: ctypes.CDLL) -> None:
    """Point the slots of `mlx` at `openblas`; on a wrong product, or any error half-way, point them back."""
    bundled = ctypes.CDLL(mlx.path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)  # looks in MLX's library and those it needs
    old = {name: _address(bundled, name) for name in FUNCTIONS}
    new = {name: _address(openblas, f"scipy_{name}") for name in FUNCTIONS}
    slots = _find_slots(mlx, old, new)
    _alive.append(openblas)
    try:
        for name, address in slots:
            mlx.write(address, new[name])
        if not _products_are_right():
            raise _LeaveAlone("a small product came out wrong with OpenBLAS")
    except BaseException:
        for name, address in slots:
            mlx.write(address, old[name])
        raise


def _address(library: ctypes.CDLL, function: str) -> int:
    return ctypes.cast(getattr(library, function), ctypes.c_void_p).value or 0


def _find_slots(mlx: "_Library", old: dict[str, int], new: dict[str, int]) -> Slots:
    """Where MLX's library keeps the address of each function, its own or ours."""
    slots = [(name, slot) for name in FUNCTIONS for where in (old[name], new[name]) for slot in mlx.addresses_of(where)]
    if {name for name, _ in slots} != set(FUNCTIONS):
        raise _LeaveAlone(f"{mlx.path} does not call its BLAS in the way that we know")
    return slots


class _Library:
    """A shared library in this process's memory: its file, and the pages that it fills."""

    def __init__(self, path: str, pages: list[tuple[int, int, str]]):
        self.path = path
        self.pages = pages  # (first address, address after the last, permissions such as "r--p")

    @classmethod
    def find(cls, name: str = "libmlx.so") -> "_Library":
        """Look the library up in the memory map of this process."""
        paths, pages = [], []
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                if line.endswith(f"/{name}\n"):
                    span, permissions, _, _, _, path = line.rstrip("\n").split(maxsplit=5)
                    first, after = span.split("-")
                    paths.append(path)
                    pages.append((int(first, 16), int(after, 16), permissions))
        if not pages:
            raise _LeaveAlone(f"{name} was not found in this process")
        if len(set(paths)) > 1:
            raise _LeaveAlone(f"there is more than one {name} in this process")
        return cls(paths[0], sorted(pages))

    def addresses_of(self, pointer: int) -> list[int]:
        """Where in the memory that the linker has written to `pointer` stands.

        That memory can still be written to, or comes right before what can (its "relro" part).
        """
        writable = {first for first, _, rights in self.pages if "w" in rights}
        wanted, found = pointer.to_bytes(8, sys.byteorder), []
        for first, after, rights in self.pages:
            if "r" not in rights or not {first, after} & writable:
                continue
            data = ctypes.string_at(first, after - first)
            place = data.find(wanted)
            while place >= 0:
                if place % 8 == 0:
                    found.append(first + place)
                place = data.find(wanted, place + 1)
        return found

    def write(self, address: int, pointer: int) -> None:
        """Store a pointer; a page that was read-only is so again afterwards."""
        rights = next(rights for first, after, rights in self.pages if first <= address < after)
        if "w" in rights:
            ctypes.c_uint64.from_address(address).value = pointer
            return
        bits = {"r": mmap.PROT_READ, "x": mmap.PROT_EXEC}
        before = sum(bits[right] for right in rights if right in bits)
        _protect(address, before | mmap.PROT_WRITE)
        try:
            ctypes.c_uint64.from_address(address).value = pointer
        finally:
            _protect(address, before)


def _protect(address: int, protection: int) -> None:
    """Set the protection of the page that holds `address`."""
    page = address & -mmap.PAGESIZE
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    if mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), ctypes.c_int(protection)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "mprotect")


def _products_are_right() -> bool:
    """Compare products of small whole numbers, which are exact in any order of summing, with multiply-and-sum."""
    import mlx.core as mx

    def matrix(rows: int, columns: int, transposed: bool, dtype: mx.Dtype) -> mx.array:
        numbers = (mx.arange(rows * columns) * 7 % 11 - 5).astype(dtype)
        if dtype == mx.complex64:
            numbers = numbers * (2 - 3j) + 1j
        return numbers.reshape(columns, rows).T if transposed else numbers.reshape(rows, columns)

    right = []
    for dtype in (mx.float32, mx.float64, mx.complex64):
        for rows, inner, columns in ((2, 3, 5), (17, 40, 9)):
            for turn_a, turn_b in ((False, False), (True, False), (False, True), (True, True)):
                a, b = matrix(rows, inner, turn_a, dtype), matrix(inner, columns, turn_b, dtype)
                right.append(mx.array_equal(a @ b, (a[:, :, None] * b[None]).sum(axis=1)))
    return bool(mx.all(mx.stack(right)))

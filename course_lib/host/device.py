"""Machines that are not as MLX expects: virtual Macs, two builds of MLX at once, a temp folder that cannot be written.

Each check returns one line that tells the user what was found, or None where all is well.
"""

import importlib.util
import os
import sys
from contextlib import suppress

from course_lib.host.errors import CourseError


def memory_bytes() -> int:
    """Memory of this machine in bytes, or of the container that we run in where its limit is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            return min(physical, int(file.read()))
    except (OSError, ValueError):  # no control groups here, or no limit ("max")
        return physical


def setting(name: str, *allowed: str) -> str | None:
    """An environment variable, None where it is not set. Raises CourseError for a value that is not allowed."""
    value = os.environ.get(name) or None
    if value and value not in allowed:
        raise CourseError(f"{name}={value}; expected {' or '.join(allowed)}, or no such variable")
    return value


def fall_back_to_cpu() -> str | None:
    """On a Mac whose GPU cannot be used (most virtual machines), make the CPU MLX's default device."""
    if sys.platform != "darwin":
        return None
    import mlx.core as mx

    try:
        name = str(mx.device_info(mx.gpu).get("device_name", ""))
    except Exception:  # no device at all, or an MLX without this function: the probe below decides
        name = ""
    if "Paravirtual" in name:  # kernels abort the process here, so do not try one
        why = f"{name} is a virtual GPU"
    else:
        try:
            mx.eval(mx.zeros(1, stream=mx.gpu) + 1)
            return None
        except (RuntimeError, ValueError) as error:
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    mx.set_default_device(mx.cpu)
    try:
        mx.eval(mx.zeros(1, stream=mx.cpu) + 1)
    except (RuntimeError, ValueError):  # the CPU's arrays are made with Metal, too
        return (
            f"MLX can make no array on this Mac ({why}), not even for its CPU; use a Mac with a Metal device, or Linux"
        )
    return f"MLX cannot use Metal on this Mac ({why}), so the course runs on its CPU: correct, but slower"


def limit_gpu_memory() -> None:
    """On Metal, keep arrays resident up to what it recommends for them, and freed ones up to half of that.

    Without a limit MLX keeps freed arrays until both fill 95 % of it, and no other program gets that memory back.
    """
    import mlx.core as mx

    recommended = int(mx.device_info(mx.default_device()).get("max_recommended_working_set_size") or 0)
    if mx.default_device() == mx.cpu or not recommended:
        return
    mx.set_cache_limit(recommended // 2)
    with suppress(RuntimeError, ValueError):  # before macOS 15 nothing can be kept resident
        mx.set_wired_limit(recommended)


def name_mixed_builds() -> str | None:
    """On Linux, say how to mend an environment that holds MLX for the CPU and for CUDA: each overwrites the other."""
    package = importlib.util.find_spec("mlx") if sys.platform == "linux" else None
    if package is None or not package.submodule_search_locations:
        return None
    site_packages = os.path.dirname(next(iter(package.submodule_search_locations)))
    builds = sorted(
        name.split("-")[0].replace("_", "-")
        for name in os.listdir(site_packages)
        if name.startswith(("mlx_cpu-", "mlx_cuda")) and name.endswith(".dist-info")
    )
    if len(builds) < 2:
        return None
    return (
        f"{' and '.join(builds)} are both installed and overwrite each other's files; keep one: "
        f"pip uninstall -y mlx {' '.join(builds)} && pip install 'mlx[cuda13]' (or 'mlx[cpu]')"
    )


def switch_off_compile_if_impossible() -> str | None:
    """On Linux's CPU `mx.compile` writes to the temp folder and raises where it cannot; then do without it."""
    import mlx.core as mx

    if sys.platform != "linux" or mx.default_device() != mx.cpu:
        return None
    settings = (os.environ.get(name) for name in ("TMPDIR", "TMP", "TEMP", "TEMPDIR"))  # in the order that MLX asks
    temp = next((value for value in settings if value is not None), "/tmp")
    folder = os.path.join(temp, "mlx", mx.__version__, "cpu")
    while folder != temp and not os.path.lexists(folder):  # MLX makes what is missing below the temp folder
        folder = os.path.dirname(folder)
    if os.path.isdir(temp) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
        return None
    mx.disable_compile()
    return (
        f"MLX cannot keep compiled functions in {folder or 'an empty TMPDIR'}, so mx.compile does nothing here; "
        "set TMPDIR to a folder that you can write to"
    )

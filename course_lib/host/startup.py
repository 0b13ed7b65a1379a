"""What happens when `course_lib` is imported: MLX is made ready for this machine."""

import os
import sys


def prepare() -> None:
    """Choose the device, make matmul fast, check the surroundings: silent when all is well, else a line on stderr each.

    Never raises, and costs some 20 ms.
    """
    # MLX reads it at its first product. NVIDIA's cards since Ampere and Macs since M5 would round the inputs of float32
    # products to 10 bits (TF32), three digits; what is to be fast computes in bfloat16 anyway.
    os.environ.setdefault("MLX_ENABLE_TF32", "0")
    from course_lib.host import device, fast_matmul

    steps = [device.name_mixed_builds, _load_mlx]
    steps += [device.fall_back_to_cpu, device.limit_gpu_memory]
    steps += [lambda: _complaint(fast_matmul.apply()), device.switch_off_compile_if_impossible]
    for step in steps:
        try:
            line = step()
        except ImportError as error:
            _say(f"MLX cannot be loaded ({error}); on Linux it must be 'mlx[cpu]' or 'mlx[cuda13]', on a Mac 'mlx'")
            return
        except Exception as error:
            line = f"could not make MLX ready for this machine ({type(error).__name__}: {error})"
        if line:
            _say(line)


def _load_mlx() -> None:
    import mlx.core  # noqa: F401


def _complaint(report: str) -> str | None:
    """The report of the fast matmul, where it could have been done and was not."""
    return report if "bundled BLAS, because" in report and os.environ.get("COURSE_FAST_BLAS") != "0" else None


def _say(line: str) -> None:
    print(f"course_lib: {line}", file=sys.stderr)

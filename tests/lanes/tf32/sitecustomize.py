"""Products of float32 matrices as with TF32 (NVIDIA since Ampere, Macs since M5), on a Linux CPU.

With this folder in PYTHONPATH every Python, a notebook's too, rounds the inputs of a product of two matrices to TF32's
10 bits before OpenBLAS multiplies. Products with a vector stay exact, as on those GPUs. The rounding is compiled, by
numba: MLX may hold Python's lock while it waits for a product, so that no Python could run inside one.
"""

import ctypes

import numba
import numpy as np
from numba import types

from course_lib.host import fast_matmul

AS_IT_IS = 111  # CblasNoTrans

_int, _float, _address = types.int32, types.float32, types.voidptr
_gemm = fast_matmul._load_openblas().scipy_cblas_sgemm
_gemm.restype = None
_gemm.argtypes = [ctypes.c_int] * 6 + [ctypes.c_float] + [ctypes.c_void_p, ctypes.c_int] * 2 + [ctypes.c_float]
_gemm.argtypes += [ctypes.c_void_p, ctypes.c_int]


@numba.njit
def rounded(address, count):
    """The `count` numbers at an address, rounded to 10 bits after the point."""
    bits = numba.carray(address, (count,), np.uint32)
    return (bits + np.uint32(1 << 12)) & np.uint32(0xFFFFFFFF << 13 & 0xFFFFFFFF)


@numba.cfunc(types.void(*[_int] * 6, _float, _address, _int, _address, _int, _float, _address, _int))
def gemm(order, turn_a, turn_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """cblas_sgemm of rows after rows, as MLX calls it."""
    if m == 1 or n == 1:
        _gemm(order, turn_a, turn_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
        return
    rows, columns = (m, k) if turn_a == AS_IT_IS else (k, m)
    x = rounded(a, (rows - 1) * lda + columns)
    rows, columns = (k, n) if turn_b == AS_IT_IS else (n, k)
    y = rounded(b, (rows - 1) * ldb + columns)
    _gemm(order, turn_a, turn_b, m, n, k, alpha, x.ctypes.data, lda, y.ctypes.data, ldb, beta, c, ldc)


_mlx = fast_matmul._Library.find()
_slots = _mlx.addresses_of(ctypes.cast(_gemm, ctypes.c_void_p).value)
assert _slots, "MLX does not call OpenBLAS here, so its products cannot be rounded"
for _slot in _slots:
    _mlx.write(_slot, gemm.address)

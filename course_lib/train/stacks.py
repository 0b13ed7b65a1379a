"""Many matrices of few shapes, stacked, so that a GPU starts few operations for all of them.

Written by hand; chapter 09 uses it.
"""

from collections.abc import Callable

import mlx.core as mx

STACKED = 1 << 24  # numbers of a stack, 64 MB: with more, memory grows, and the products are large


def in_stacks(function: Callable[[mx.array], mx.array], matrices: list[mx.array]) -> list[mx.array]:
    """What `function` makes of each matrix, called once for all of one shape, or for as many as fit into STACKED.

    function: takes (count, rows, columns) to the same shape, and may be given a tall matrix transposed.
    """
    wide = [m.swapaxes(-1, -2) if m.shape[-2] > m.shape[-1] else m for m in matrices]
    found, places = list(wide), {}
    for place, matrix in enumerate(wide):
        places.setdefault(matrix.shape, []).append(place)
    for same in places.values():
        count = max(1, STACKED // wide[same[0]].size)
        for some in (same[first : first + count] for first in range(0, len(same), count)):
            stack = function(mx.stack([wide[place] for place in some]))
            for place, made in zip(some, stack, strict=True):
                transposed = matrices[place] is not wide[place]
                found[place] = made.swapaxes(-1, -2) if transposed else made
    return found

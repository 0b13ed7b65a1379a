"""NorMuon: Muon as nanochat (July 2026) has it, with five changes.

Source: nanochat (July 2026), commit 92d63d4. Polar Express is by Amsel et al., 2025, the variance
by Li et al., 2025 (NorMuon), the decay by Chen et al., 2025 (cautious weight decay).

Exported from notebooks/21_nanochat_2026.ipynb; edit it there.
"""

import math

import mlx.core as mx

from course_lib.train.muon import Muon, in_rounds

# ---- 5. Five better polynomials


POLAR_EXPRESS = [  # (a, b, c) of the rounds, the first for singular values of any size
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7098282387687081, 0.42323551569305323),
]


def frobenius(x: mx.array) -> mx.array:
    """The norm of each matrix (…, rows, columns), the root of its sum of squares: (…, 1, 1)."""
    return mx.linalg.norm(x, axis=(-2, -1), keepdims=True)


def polar_express(x: mx.array, steps: int = 5) -> mx.array:
    """As `newton_schulz`, but nearer to orthogonal. steps: at most 5, the number of polynomials."""
    f = x.astype(mx.float32)
    f = f / (1.01 * frobenius(f) + 1e-6)
    return in_rounds(f, POLAR_EXPRESS[:steps]).astype(x.dtype)


# ---- 6. Rows of one length, steps of one norm


def equilibrate_rows(u: mx.array) -> mx.array:
    """u (…, rows, columns) with rows (but those near 0) of one length; its own stays: MuonEq."""
    lengths = mx.linalg.norm(u, axis=-1, keepdims=True)
    return u * (frobenius(u) / math.sqrt(u.shape[-2]) / mx.maximum(lengths, 1e-6))


def to_norm(x: mx.array) -> mx.array:
    """x (…, rows, columns), as large as if all its singular values were 1: Muon+."""
    return x * (math.sqrt(min(x.shape[-2:])) / mx.maximum(frobenius(x), 1e-7))


# ---- 7. NorMuon's variance


class NorMuon(Muon):
    """Muon with all five changes. Rate, momentum and decay are arrays in `state`, in float32."""

    equilibrate = staticmethod(equilibrate_rows)
    polar = staticmethod(polar_express)
    resize = staticmethod(to_norm)

    def __init__(
        self,
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        beta2: float = 0.9,
        ns_steps: int = 5,
    ):
        super().__init__(learning_rate, momentum, ns_steps=ns_steps)
        self._maybe_schedule("weight_decay", weight_decay)
        self.beta2 = beta2

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """Begin with no momentum and no variance. Raises CourseError when it is no matrix."""
        super().init_single(parameter, state)
        *stack, rows, columns = parameter.shape
        state["average"] = mx.zeros(parameter.shape)
        state["variance"] = mx.zeros([*stack, rows, 1] if rows >= columns else [*stack, 1, columns])

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """What is to be made orthogonal: Nesterov's average of gradients, its rows equal."""
        ahead = super().apply_single(gradient.astype(mx.float32), parameter, state)
        return self.equilibrate(ahead)

    def orthogonal(self, matrices: mx.array) -> mx.array:
        """Each matrix (…, rows, columns), made orthogonal and set to its size."""
        return self.resize(self.polar(matrices, self.ns_steps))

    def even_out(self, x: mx.array, state: dict) -> mx.array:
        """x with rows (if wide, columns) divided by their usual size; in all as large as before."""
        axis = -1 if x.shape[-2] >= x.shape[-1] else -2
        squares = mx.square(x).mean(axis=axis, keepdims=True)
        state["variance"] = self.beta2 * state["variance"] + (1 - self.beta2) * squares
        even = x * mx.rsqrt(mx.maximum(state["variance"], 1e-10))
        return even * (frobenius(x) / mx.maximum(frobenius(even), 1e-10))

    def decaying(self, parameter: mx.array, step: mx.array) -> mx.array:
        """The parameter where subtracting the step takes it towards 0, elsewhere 0."""
        return mx.where(step * parameter >= 0, parameter, 0)

    def move(self, direction: mx.array, parameter: mx.array, state: dict) -> mx.array:
        """The parameter, moved against the direction, evened out, and a little towards 0."""
        step = self.even_out(direction, state)
        decay = self.state["weight_decay"] * self.decaying(parameter, step)
        return Muon.move(self, step + decay, parameter, state)

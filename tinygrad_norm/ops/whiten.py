"""Whitening: the full decorrelation that normalization approximates feature by feature."""

from __future__ import annotations

from typing import Any

from ..engine.op import Op, apply
from ..engine.tensor import Tensor, describe
from .arguments import whole_number
from .convert import in_dtype_of, wide
from .elementwise import sqrt
from .matmul import matmul
from .norm import Centre, check_input
from .reduce import sum
from .shape import swapaxes

CONVERGED = 60
"""Newton steps after which the square root is exact: enough for condition numbers up to 1e14."""


class Zca(Op):
    """y = (x - mean) C^(-1/2), with C = cov(x) + eps I: of all whitenings, the one that moves the data least."""

    @staticmethod
    def composite(x, eps):
        return in_dtype_of(x, newton_whitened(wide(x), eps, CONVERGED))

    @staticmethod
    def forward(xp, x, eps):
        with xp.errstate(all="ignore"):
            d = xp.centred(xp.wide(x), (0,))[0]
            roots, vectors = xp.inverse_roots(xp.matmul(d.T, d) * (1.0 / len(x)), eps)
            w = xp.matmul(vectors * roots, vectors.T)
            return xp.astype(xp.matmul(d, w), x.dtype), (d, w, roots, vectors)

    @staticmethod
    def backward(xp, g, y, saved, needs, x, eps):
        d, w, r, v = saved
        # dC^(-1/2) in the basis of eigenvectors is dC times the divided differences of l^(-1/2), which are, with
        # r = l^(-1/2), -(r_i r_j)^2 / (r_i + r_j): no division by l_i - l_j, so equal eigenvalues are no special case.
        through = xp.matmul(xp.matmul(v.T, xp.matmul(d.T, g)), v)
        pairs = xp.expand_dims(r, 1) + r
        differences = -((xp.expand_dims(r, 1) * r) ** 2) / xp.where(pairs == 0, 1.0, pairs)
        by_c = xp.matmul(xp.matmul(v, differences * (0.5 * (through + through.T))), v.T)
        by_d = xp.matmul(g, w) + xp.matmul(d, by_c) * (2.0 / len(x))
        return (by_d - xp.mean(by_d, 0, True),)


def newton_whitened(x: Any, eps: float, iterations: int) -> Any:
    """(x - mean) Z, with Z the result of Newton's iteration for C^(-1/2) (Higham 1986, the coupled form).

    C is first divided by its trace t, so that its eigenvalues lie in (0, 1], where the iteration converges; the factor
    t^(-1/2) comes back at the end.
    """
    n, features = x.shape
    d = apply(Centre, x, params=((0,),))
    eye = identity_like(x, features)
    c = matmul(swapaxes(d, 0, 1), d) * (1.0 / n) + eye * eps
    trace = sum(c * eye)
    y, z = c / trace, eye
    for _ in range(iterations):
        step = 1.5 * eye - 0.5 * matmul(z, y)
        y, z = matmul(y, step), matmul(step, z)
    return matmul(d, z) / sqrt(trace)


class Eye(Op):
    """The identity matrix, of the dtype and device of x."""

    reads = 0
    backward = None

    @staticmethod
    def forward(xp, x, n):
        return xp.eye(n, dtype=x.dtype)


def identity_like(x: Tensor, n: int) -> Tensor:
    """The n x n identity beside ``x``: a constant."""
    return apply(Eye, x.detach(), params=(n,))


def whiten(x: Tensor, method: str = "zca", eps: float = 1e-5, iterations: int = 5) -> Tensor:
    """Rows of x with mean 0 and covariance close to the identity: y = (x - mean) (cov + eps I)^(-1/2).

    Args:
        x: (N, D), floating; float16 is computed in float32.
        method: "zca" by eigenvalues, exact (Bell, Sejnowski 1997; as a layer: Huang et al. 2018); "newton" by that many
            Newton steps from the identity, approximate and without eigenvalues (IterNorm, Huang et al. 2019).
        eps: added to the variances; 0 is legal, and "zca" then drops directions without variance.
        iterations: Newton steps, for "newton".

    Returns:
        (N, D); the covariance has eigenvalues s / (s + eps) where x's has s.

    Raises:
        ValueError: x is no matrix with rows, an unknown method, or a negative eps.

    >>> import tinygrad_norm as tn
    >>> x = tn.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]) * 5.0 + 2.0
    >>> tn.functional.whiten(x, eps=0.0).abs().tolist()[0]
    [1.0, 1.0]
    """
    check_input("whiten", x, eps)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"whiten: x must be (N, D) with N > 0 rows; got {describe(x)}")
    if method == "zca":
        return apply(Zca, x, params=(float(eps),))
    if method != "newton":
        raise ValueError(f"whiten: method must be 'zca' or 'newton'; got {method!r}")
    iterations = whole_number("whiten", "iterations", iterations)
    return in_dtype_of(x, newton_whitened(wide(x), float(eps), iterations))

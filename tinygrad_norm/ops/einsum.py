"""Sums of products by index names."""

from __future__ import annotations

from string import ascii_letters

from ..engine.op import Each, Op, apply
from ..engine.tensor import Tensor, describe
from .shape import broadcast_to, reshape, transpose


class Einsum(Op):
    """y = the sum of products named by "ij,jk->ik"; a mere transposition shares memory."""

    promotes = True
    view = True

    @staticmethod
    def forward(xp, *args):
        *arrays, subscripts = args
        return xp.einsum(subscripts, *arrays)

    @staticmethod
    def _rule(i, xp, g, y, *args):
        *inputs, subscripts = args
        terms, out = subscripts.split("->")
        names = terms.split(",")
        others = [(n, x) for j, (n, x) in enumerate(zip(names, inputs, strict=True)) if j != i]
        known = set(out).union(*(n for n, _ in others))
        reached = "".join(c for c in names[i] if c in known)
        result = xp.einsum(",".join([out, *(n for n, _ in others)]) + "->" + reached, g, *(x for _, x in others))
        shape = inputs[i].shape
        spread = xp.reshape(result, tuple(n if c in known else 1 for c, n in zip(names[i], shape, strict=True)))
        return xp.broadcast_to(spread, shape)

    backward = Each(_rule)


def einsum(subscripts: str, *operands: Tensor) -> Tensor:
    """Sum of products by index names, as in NumPy: "ij,jk->ik"; ``...`` and repeated names within one operand too.

    Raises:
        ValueError: the subscripts do not fit the operands.
    """
    terms, arrow, out = subscripts.replace(" ", "").partition("->")
    names = terms.split(",")
    if len(names) != len(operands):
        raise ValueError(f"einsum: {subscripts!r} names {len(names)} operands; got {len(operands)}")
    free = [c for c in ascii_letters if c not in subscripts]
    longest = max(
        [x.ndim - len(n.replace("...", "")) for n, x in zip(names, operands, strict=True) if "..." in n], default=0
    )
    dots = "".join(free[: max(longest, 0)])
    full = []
    for n, x in zip(names, operands, strict=True):
        if "..." in n:
            n = n.replace("...", dots[len(dots) - (x.ndim - len(n) + 3) :])
        if len(n) != x.ndim:
            raise ValueError(f"einsum: {subscripts!r} gives {n!r} to {describe(x)}, which has {x.ndim} dimensions")
        full.append(n)
    if not arrow:
        text = "".join(full)
        out = dots + "".join(sorted(c for c in set(text) - set(dots) if text.count(c) == 1))
    out = out.replace("...", dots)
    pairs = [diagonal(n, x, subscripts) for n, x in zip(full, operands, strict=True)]
    lengths: dict[str, int] = {}
    for n, x in pairs:
        for c, size in zip(n, x.shape, strict=True):
            if lengths.setdefault(c, size) != size and 1 not in (lengths[c], size):
                got = " and ".join(str(x.shape) for x in operands)
                raise ValueError(
                    f"einsum: {subscripts!r} gives index {c!r} the lengths {lengths[c]} and {size}, which must be "
                    f"equal or 1; got operands of shapes {got}"
                )
            lengths[c] = max(lengths[c], size)
    if set(out) - set(lengths) or len(set(out)) < len(out):
        raise ValueError(f"einsum: the result {out!r} of {subscripts!r} must name indices of the operands, each once")
    spread = [broadcast_to(x, tuple(lengths[c] for c in n)) for n, x in pairs]
    return apply(Einsum, *spread, params=(",".join(n for n, _ in pairs) + "->" + out,))


def diagonal(names: str, x: Tensor, subscripts: str) -> tuple[str, Tensor]:
    """Take the diagonal wherever one operand repeats an index, so that every name stands once."""
    for c in names:
        while names.count(c) > 1:
            i, j = names.index(c), names.rindex(c)
            if x.shape[i] != x.shape[j]:
                raise ValueError(
                    f"einsum: {subscripts!r} gives index {c!r} the lengths {x.shape[i]} and {x.shape[j]}, which "
                    f"must be equal; got an operand of shape {x.shape}"
                )
            order = [i, j, *(k for k in range(x.ndim) if k not in (i, j))]
            every = list(range(x.shape[i]))
            x = transpose(x, order)[every, every]
            names = c + "".join(names[k] for k in order[2:])
    return names, x


def outer(a: Tensor, b: Tensor) -> Tensor:
    """y_ij = a_i b_j of the flattened inputs."""
    return reshape(a, (-1, 1)) * reshape(b, (1, -1))

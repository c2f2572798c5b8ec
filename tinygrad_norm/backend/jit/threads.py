"""Several threads for one large kernel, when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

LEAST = 1 << 19  # elements; below, what they take is little beside the 40 us in which a thread wakes

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # (process, threads): a fork has none of its parent's threads
_threads = [1]


def set_num_threads(threads: int) -> None:
    """Let each compiled kernel that is large enough use several threads; 1, the default, turns that off.

    It concerns normalizations and optimizers with the extra ``fast``. Matrix products have threads of their own in
    NumPy's BLAS; convolutions, which consist of them, have as many, or as many as are asked for here if that is more.
    More than one pays for large arrays, on cores that nothing else wants. The same number of threads gives the same
    bits. Another gives others in what is a sum over the batch: the gradients of layer norm's weight and bias and of a
    convolution's.

    Args:
        threads: at least 1.

    Raises:
        ValueError: a number below 1, or none.

    >>> import tinygrad_norm as tn
    >>> tn.set_num_threads(2)
    >>> tn.get_num_threads()
    2
    >>> tn.set_num_threads(1)
    """
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise ValueError(f"set_num_threads: threads must be an integer of at least 1; got {threads!r}")
    _threads[0] = threads


def get_num_threads() -> int:
    """How many threads a compiled kernel may use; see :func:`set_num_threads`."""
    return _threads[0]


def in_blocks(
    call: Callable[[int, int], Any], count: int, size: int, threads: int | None = None, unit: int = 16
) -> list[Any]:
    """``call(first, last)`` for each block of 0, ..., ``count``, and what it returns; a block for each thread.

    Each thread has half of ``LEAST`` elements or more. Blocks begin at multiples of ``unit``: 16 numbers are a cache
    line. The calling thread takes the last block itself, and a block never asks for threads in turn: so nobody waits
    for somebody who waits, however many threads call this.
    """
    threads = threads or _threads[0]
    blocks = min(threads, count // unit, 2 * size // LEAST)
    if blocks < 2:
        return [call(0, count)]
    ends = [count * i // blocks // unit * unit for i in range(blocks)] + [count]
    key = os.getpid(), threads
    pool = _pools.get(key) or _pools.setdefault(key, ThreadPoolExecutor(threads - 1, "tinygrad_norm"))
    *others, mine = pairwise(ends)
    waiting = [pool.submit(call, *block) for block in others]
    last = call(*mine)
    return [*(block.result() for block in waiting), last]

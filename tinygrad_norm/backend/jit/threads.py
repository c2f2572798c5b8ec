"""Several threads for one large kernel, when they are asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

LEAST = 1 << 19  # elements; below, what they take is little beside the 40 us in which a thread wakes

_pools: dict[int, ThreadPoolExecutor] = {}  # by process: a fork has none of its parent's threads
_threads = [1]


def set_num_threads(threads: int) -> None:
    """Let each normalization and optimizer's update that is large enough use several threads; by default 1.

    It concerns kernels compiled with the extra ``fast``. Matrix products have threads of their own in NumPy's BLAS;
    convolutions, which consist of them, have as many, or as many as are asked for here if that is more. More than one
    pays for large arrays, on cores that nothing else wants. The same number of threads gives the same bits. Another
    gives others in the gradients of layer norm's weight and bias, which are sums over the batch.

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
    """The number given to :func:`set_num_threads`."""
    return _threads[0]


def in_blocks(call: Callable[[int, int], Any], count: int, size: int) -> list[Any]:
    """``call(first, last)`` for each block of 0, ..., ``count``, and what it returns; a block for each thread.

    Each thread has half of ``LEAST`` elements or more. Blocks begin at multiples of 16, which is where cache lines do.
    """
    blocks = min(_threads[0], count // 16, 2 * size // LEAST)
    if blocks < 2:
        return [call(0, count)]
    ends = [count * i // blocks // 16 * 16 for i in range(blocks)] + [count]
    return share(call, list(pairwise(ends)), blocks)


def share(call: Callable[..., Any], blocks: Sequence[tuple[int, int]], threads: int) -> list[Any]:
    """``call(*block)`` for each block, and what it returns, in their order; whichever thread is free takes the next.

    The calling thread is one of them and waits only for blocks that others are at. So nobody waits for somebody who
    waits, however many threads call this, and all is done where no thread can be had, as when Python shuts down. A
    thread whose core OpenBLAS's threads want too, which look out for more to do long after a product, does less.
    """
    results: list[Any] = [None] * len(blocks)
    left = iter(range(len(blocks)))

    def work() -> None:
        try:
            for i in left:
                results[i] = call(*blocks[i])
        except BaseException:
            for _ in left:  # nothing more is begun after an error or an interrupt
                pass
            raise

    others = []
    with contextlib.suppress(RuntimeError):
        for _ in range(min(threads, len(blocks)) - 1):
            others.append(_pool().submit(work))
    try:
        work()
    finally:
        for other in others:
            if not other.cancel():
                other.result()
    return results


def _pool() -> ThreadPoolExecutor:
    process = os.getpid()
    return _pools.get(process) or _pools.setdefault(process, ThreadPoolExecutor(None, "tinygrad_norm"))

"""What users attach to a tensor: the need for a gradient, hooks, a kept gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine.op import Watch, leaf_node
from ..engine.tensor import Tensor, describe
from .convert import zeros_like


def requires_grad_(x: Tensor, requires_grad: bool = True) -> Tensor:
    """Make this leaf need a gradient, or stop needing one; returns the tensor itself.

    Raises:
        TypeError: the dtype is not floating: integers have no derivative.
        RuntimeError: the tensor is a result inside a graph.
    """
    if not x.is_leaf:
        raise RuntimeError(
            f"requires_grad_: {describe(x)} is a result inside a graph; write x.detach() to leave the graph"
        )
    if not requires_grad:
        if x._node is not None:
            x._frozen, x._node = x._node, None
    elif x._node is None:
        if x.dtype.kind != "f":
            raise TypeError(
                f"requires_grad: only floating tensors have gradients; got {describe(x)}; "
                "write .astype('float32') first"
            )
        # The same node as before it was frozen, so that a graph recorded then still finds its leaf.
        frozen = getattr(x, "_frozen", None)
        x._node = frozen if frozen is not None and frozen.dtype == x.dtype else leaf_node(x)
    return x


def watch(x: Tensor, function: str) -> Watch:
    """The watch on a tensor's node, made when it is first asked for."""
    if x._node is None:
        raise RuntimeError(f"{function}: {describe(x)} needs no gradient; call requires_grad_() first")
    if x._node.watch is None:
        x._node.watch = Watch(keep=False)
    return x._node.watch


def set_grad(x: Tensor, value: Any) -> None:
    """Replace ``x.grad`` by a copy of ``value``, which must be like x; or by None."""
    if value is None:
        node = x._node or getattr(x, "_frozen", None)
        if node is not None and node.watch is not None:
            node.watch.grad = None
        return
    target = watch(x, "grad")
    if getattr(value, "shape", None) != x.shape or value.dtype != x.dtype:
        raise ValueError(f"grad: must be like the tensor, {describe(x)}; got {describe(value)}")
    if isinstance(value, Tensor) and value.device != x.device:
        raise TypeError(
            f"grad: the tensor is on {x.device!r}, the gradient on {value.device!r}; move one with .to(device)"
        )
    target.grad = (value if isinstance(value, Tensor) else zeros_like(x.detach()) + value).detach().clone()


def retain_grad(x: Tensor) -> None:
    """Keep the gradient of this result in its ``.grad`` too, not only that of leaves."""
    watch(x, "retain_grad").keep = True


def register_hook(x: Tensor, hook: Callable[[Tensor], Any]) -> Callable[[], None]:
    """Call ``hook(gradient)`` when the gradient is complete; what it returns, if anything, takes its place.

    Returns:
        A function that removes the hook; to call it again does nothing.
    """
    if not callable(hook):
        raise TypeError(f"register_hook: hook must be a function of the gradient; got {describe(hook)}")
    hooks = watch(x, "register_hook").hooks
    mine = [hook]
    hooks.append(hook)

    def remove() -> None:
        if mine:
            hooks.remove(mine.pop())

    return remove

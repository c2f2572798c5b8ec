"""The optimizers: SGD, Adam, AdamW, RMSprop, Adagrad, with PyTorch's arguments and formulas.

Written for one step with gradient g, parameter p and learning rate lr. Where a class says *weight decay* without more,
g <- g + weight_decay p comes first (the gradient of an L2 penalty). The arithmetic is in ``backend/updates.py``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..backend.checks import one_rule
from .checks import Params, number
from .optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent, with momentum as an option.

    v <- momentum v + g; p <- p - lr v. With ``nesterov``: p <- p - lr (g + momentum v). Weight decay is L2.

    Paper: Sutskever, Martens, Dahl, Hinton, On the importance of initialization and momentum in deep learning, 2013.

    Args:
        params: Parameters, (name, Parameter) pairs, or groups; see :class:`Optimizer`.
        lr: learning rate, at least 0.
        momentum: share of the last step that is kept, at least 0.
        weight_decay: strength of the L2 penalty, at least 0.
        nesterov: look ahead along the velocity; needs momentum.
        check_finite: refuse to step with a gradient that is NaN or infinite.

    Raises:
        TypeError: something that is not a Parameter, or a hyperparameter that is no number.
        ValueError: a hyperparameter out of range; no parameters, or one given twice.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> x = tn.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = optim.SGD([x], lr=0.25)
    >>> (x * x).sum().backward(); optimizer.step(); x.tolist()
    [0.5, 1.0]
    """

    ranges: ClassVar[dict[str, tuple]] = {**Optimizer.ranges, "momentum": (0.0,)}

    def __init__(
        self, params: Params, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False, *,
        check_finite: bool = True,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, defaults, check_finite)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and not group["momentum"]:
            raise ValueError("SGD: nesterov=True needs momentum greater than 0; got momentum 0.0")

    def buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"momentum_buffer": 0.0} if group["momentum"] else {}

    @one_rule
    def update(self, xp: Any, group: dict[str, Any], g: Any, p: Any, state: dict[str, Any], t: int) -> None:
        velocity = state.get("momentum_buffer")
        xp.sgd_update(g, p, velocity, group["lr"], group["momentum"], group["weight_decay"], bool(group["nesterov"]))


class Adam(Optimizer):
    """Steps of a size that does not depend on the gradient's scale.

    m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2;
    p <- p - lr mhat / (sqrt(vhat) + eps) with mhat = m / (1 - beta1^t), vhat = v / (1 - beta2^t). Weight decay is L2.

    Paper: Kingma, Ba, Adam: a method for stochastic optimization, 2015.

    Args:
        params: Parameters, (name, Parameter) pairs, or groups; see :class:`Optimizer`.
        lr: learning rate, at least 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: greater than 0, or a weight whose gradients were all 0 would become 0/0.
        weight_decay: strength of the L2 penalty, at least 0.
        check_finite: refuse to step with a gradient that is NaN or infinite.

    Raises:
        TypeError: something that is not a Parameter, or a hyperparameter that is no number.
        ValueError: a hyperparameter out of range; no parameters, or one given twice.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> x = tn.tensor([1.0, -20.0], requires_grad=True)
    >>> optimizer = optim.Adam([("x", x)], lr=0.5)
    >>> (x * x).sum().backward(); optimizer.step(); x
    tensor([  0.5, -19.5], requires_grad=True)
    """

    decoupled: ClassVar[bool] = False
    ranges: ClassVar[dict[str, tuple]] = {**Optimizer.ranges, "eps": (0.0, float("inf"), True)}

    def __init__(
        self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, *, check_finite: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, check_finite)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        where, betas = type(self).__name__, group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"{where}: betas must be two numbers in [0, 1); got {betas!r}")
        group["betas"] = (number(where, "betas[0]", betas[0], 0.0, 1.0), number(where, "betas[1]", betas[1], 0.0, 1.0))

    def buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    @one_rule
    def update(self, xp: Any, group: dict[str, Any], g: Any, p: Any, state: dict[str, Any], t: int) -> None:
        beta1, beta2 = group["betas"]
        xp.adam_update(
            g, p, state["exp_avg"], state["exp_avg_sq"], t, group["lr"], beta1, beta2, group["eps"],
            group["weight_decay"], self.decoupled,
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay: p <- p - lr weight_decay p, beside the step and not through the moments.

    Paper: Loshchilov, Hutter, Decoupled weight decay regularization, 2019.

    Args:
        params: Parameters, (name, Parameter) pairs, or groups; see :class:`Optimizer` and :func:`no_decay_groups`.
        lr: learning rate, at least 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: greater than 0.
        weight_decay: share of p, times lr, that is taken away in each step, at least 0.
        check_finite: refuse to step with a gradient that is NaN or infinite.

    Raises:
        TypeError: something that is not a Parameter, or a hyperparameter that is no number.
        ValueError: a hyperparameter out of range; no parameters, or one given twice.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> x = tn.tensor([4.0], requires_grad=True)
    >>> optimizer = optim.AdamW([x], lr=0.5, weight_decay=0.25)
    >>> (x * 0.0).sum().backward(); optimizer.step(); x.tolist()
    [3.5]
    """

    decoupled: ClassVar[bool] = True

    def __init__(
        self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01, *, check_finite: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, check_finite=check_finite)


class RMSprop(Optimizer):
    """Gradients divided by a running root mean square.

    s <- alpha s + (1 - alpha) g^2; p <- p - lr g / (sqrt(s) + eps). ``centered`` takes s - m^2 for s under the root, m
    the running mean of g. With momentum: v <- momentum v + g / (sqrt(s) + eps); p <- p - lr v. Weight decay is L2.

    Paper: Tieleman, Hinton, Lecture 6.5, Neural networks for machine learning, 2012; centred: Graves, Generating
    sequences with recurrent neural networks, 2013.

    Args:
        params: Parameters, (name, Parameter) pairs, or groups; see :class:`Optimizer`.
        lr: learning rate, at least 0.
        alpha: how much of the running mean is kept, in [0, 1).
        eps: greater than 0.
        weight_decay: strength of the L2 penalty, at least 0.
        momentum: share of the last step that is kept, at least 0.
        centered: divide by a running standard deviation instead.
        check_finite: refuse to step with a gradient that is NaN or infinite.

    Raises:
        TypeError: something that is not a Parameter, or a hyperparameter that is no number.
        ValueError: a hyperparameter out of range; no parameters, or one given twice.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> x = tn.tensor([1.0, -20.0], requires_grad=True)
    >>> optimizer = optim.RMSprop([x], lr=0.5, alpha=0.75)
    >>> (x * x).sum().backward(); optimizer.step(); x.tolist()
    [0.0, -19.0]
    """

    ranges: ClassVar[dict[str, tuple]] = {**Adam.ranges, "alpha": (0.0, 1.0), "momentum": (0.0,)}

    def __init__(
        self, params: Params, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0,
        momentum: float = 0.0, centered: bool = False, *, check_finite: bool = True,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
            "centered": centered,
        }  # fmt: skip
        super().__init__(params, defaults, check_finite)

    def buffers(self, group: dict[str, Any]) -> dict[str, float]:
        names = ["square_avg"] + ["grad_avg"] * bool(group["centered"]) + ["momentum_buffer"] * bool(group["momentum"])
        return dict.fromkeys(names, 0.0)

    @one_rule
    def update(self, xp: Any, group: dict[str, Any], g: Any, p: Any, state: dict[str, Any], t: int) -> None:
        mean = state["grad_avg"] if group["centered"] else None
        xp.rmsprop_update(
            g, p, state["square_avg"], mean, state.get("momentum_buffer"), group["lr"], group["alpha"], group["eps"],
            group["weight_decay"], group["momentum"],
        )  # fmt: skip


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all squares so far.

    s <- s + g^2; p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps). Weight decay is L2.

    Paper: Duchi, Hazan, Singer, Adaptive subgradient methods for online learning and stochastic optimization, 2011.

    Args:
        params: Parameters, (name, Parameter) pairs, or groups; see :class:`Optimizer`.
        lr: learning rate, at least 0.
        lr_decay: how fast the learning rate falls with the number of steps t, at least 0.
        weight_decay: strength of the L2 penalty, at least 0.
        initial_accumulator_value: where s starts, at least 0.
        eps: greater than 0.
        check_finite: refuse to step with a gradient that is NaN or infinite.

    Raises:
        TypeError: something that is not a Parameter, or a hyperparameter that is no number.
        ValueError: a hyperparameter out of range; no parameters, or one given twice.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> x = tn.tensor([1.0, -20.0], requires_grad=True)
    >>> optimizer = optim.Adagrad([x], lr=0.5)
    >>> (x * x).sum().backward(); optimizer.step(); x.tolist()
    [0.5, -19.5]
    """

    ranges: ClassVar[dict[str, tuple]] = {**Adam.ranges, "lr_decay": (0.0,), "initial_accumulator_value": (0.0,)}

    def __init__(
        self, params: Params, lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0, eps: float = 1e-10, *, check_finite: bool = True,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "eps": eps,
        }  # fmt: skip
        super().__init__(params, defaults, check_finite)

    def buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"sum": group["initial_accumulator_value"]}

    @one_rule
    def update(self, xp: Any, group: dict[str, Any], g: Any, p: Any, state: dict[str, Any], t: int) -> None:
        xp.adagrad_update(g, p, state["sum"], t, group["lr"], group["lr_decay"], group["weight_decay"], group["eps"])

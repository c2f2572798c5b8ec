"""Losses as layers: made with the options, called with prediction and target."""

from .. import functional as F
from .function import FunctionLayer


class Loss(FunctionLayer):
    """The base of the losses: a function of prediction and target."""

    inputs = 2


class MSELoss(Loss):
    """The mean of (input - target)^2; ``reduction`` is "mean", "sum" or "none".

    >>> import tinygrad_norm as tn
    >>> tn.nn.MSELoss()(tn.tensor([1.0, 3.0]), tn.tensor([1.0, 1.0])).item()
    2.0
    """

    function = staticmethod(F.mse_loss)


class L1Loss(Loss):
    """The mean of abs(input - target)."""

    function = staticmethod(F.l1_loss)


class HuberLoss(Loss):
    """The mean of d^2 / 2 where abs(d) <= delta, else delta (abs(d) - delta / 2), d = input - target (Huber 1964)."""

    function = staticmethod(F.huber_loss)


class CrossEntropyLoss(Loss):
    """The mean of -log softmax(logits)[target]; a class ``weight`` is a buffer and moves with the module.

    >>> import tinygrad_norm as tn
    >>> loss = tn.nn.CrossEntropyLoss(label_smoothing=0.1)
    >>> loss
    CrossEntropyLoss(weight=None, ignore_index=-100, label_smoothing=0.1, reduction='mean')
    >>> round(loss(tn.zeros(1, 4), tn.tensor([2])).item(), 4)  # log 4
    1.3863
    """

    function = staticmethod(F.cross_entropy)
    tensors = ("weight",)


class NLLLoss(Loss):
    """The mean of -log_probs[target]; a class ``weight`` is a buffer and moves with the module."""

    function = staticmethod(F.nll_loss)
    tensors = ("weight",)


class BCEWithLogitsLoss(Loss):
    """The mean of -t log s(x) - (1 - t) log(1 - s(x)), with s the sigmoid; the weights are buffers."""

    function = staticmethod(F.binary_cross_entropy_with_logits)
    tensors = ("weight", "pos_weight")

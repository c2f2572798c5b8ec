"""Stateless functions of neural nets, usually imported as ``F``."""

from .ops.activation import elu, gelu, hardtanh, leaky_relu, relu, selu, sigmoid, silu, softplus
from .ops.cross_entropy import cross_entropy, nll_loss
from .ops.dropout import dropout
from .ops.elementwise import tanh
from .ops.embedding import embedding
from .ops.loss import binary_cross_entropy_with_logits, huber_loss, l1_loss, mse_loss
from .ops.matmul import linear
from .ops.norm import batch_norm, group_norm, layer_norm, rms_norm, standardize
from .ops.norm_variants import instance_norm, mean_only_batch_norm, weight_standardization
from .ops.softmax import log_softmax, softmax
from .ops.unit import cosine_linear, cosine_similarity, normalize, weight_norm
from .ops.whiten import whiten
from .ops.windows import adaptive_avg_pool2d, avg_pool2d, conv2d, max_pool2d

__all__ = [
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits", "conv2d",
    "cosine_linear", "cosine_similarity", "cross_entropy", "dropout", "elu", "embedding", "gelu", "group_norm",
    "hardtanh", "huber_loss", "instance_norm", "l1_loss", "layer_norm", "leaky_relu", "linear", "log_softmax",
    "max_pool2d", "mean_only_batch_norm", "mse_loss", "nll_loss", "normalize", "relu", "rms_norm", "selu",
    "sigmoid", "silu", "softmax", "softplus", "standardize", "tanh", "weight_norm", "weight_standardization",
    "whiten",
]  # fmt: skip

"""Layers, losses and models: modules that own their parameters."""

from . import init
from .activations import (
    ELU,
    GELU,
    SELU,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .batch_norm import BatchNorm1d, BatchNorm2d, InstanceNorm1d, InstanceNorm2d, MeanOnlyBatchNorm1d
from .containers import MLP, ModuleDict, ModuleList, Sequential
from .conv import AdaptiveAvgPool2d, AvgPool2d, Conv2d, MaxPool2d
from .embedding import Embedding
from .layer_norm import GroupNorm, LayerNorm, RMSNorm
from .layers import Dropout, Flatten, Identity, Linear
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss
from .module import Buffer, Module, Parameter
from .recurrent import LSTM, RNN
from .recurrent_cells import LSTMCell, RNNCell
from .statistics import data_dependent_init, fuse_batch_norm, recompute_statistics
from .weights import CosineLinear, WeightNorm, WeightStandardization

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "Buffer", "Conv2d",
    "CosineLinear", "CrossEntropyLoss", "Dropout", "ELU", "Embedding", "Flatten", "GELU", "GroupNorm", "Hardtanh",
    "HuberLoss", "Identity", "InstanceNorm1d", "InstanceNorm2d", "L1Loss", "LSTM", "LSTMCell", "LayerNorm",
    "LeakyReLU", "Linear", "LogSoftmax", "MLP", "MSELoss", "MaxPool2d", "MeanOnlyBatchNorm1d", "Module",
    "ModuleDict", "ModuleList", "NLLLoss", "Parameter", "RMSNorm", "RNN", "RNNCell", "ReLU", "SELU", "Sequential",
    "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh", "WeightNorm", "WeightStandardization", "data_dependent_init",
    "fuse_batch_norm", "init", "recompute_statistics",
]  # fmt: skip

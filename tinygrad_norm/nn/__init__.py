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
from .containers import MLP, ModuleDict, ModuleList, Sequential
from .layers import Dropout, Flatten, Identity, Linear
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss
from .module import Buffer, Module, Parameter
from .norms import BatchNorm1d, BatchNorm2d, CosineLinear, GroupNorm, LayerNorm, RMSNorm, WeightNorm

__all__ = [
    "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "Buffer", "CosineLinear", "CrossEntropyLoss", "Dropout", "ELU",
    "Flatten", "GELU", "GroupNorm", "Hardtanh", "HuberLoss", "Identity", "L1Loss", "LayerNorm", "LeakyReLU", "Linear",
    "LogSoftmax", "MLP", "MSELoss", "Module", "ModuleDict", "ModuleList", "NLLLoss", "Parameter", "RMSNorm", "ReLU",
    "SELU", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh", "WeightNorm", "init",
]  # fmt: skip

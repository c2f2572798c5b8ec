"""Optimizers, learning rate schedules, limits on gradients."""

from . import lr_scheduler
from .clip import clip_grad_norm_, clip_grad_value_
from .groups import no_decay_groups
from .optimizer import Optimizer
from .optimizers import SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lr_scheduler",
    "no_decay_groups",
]

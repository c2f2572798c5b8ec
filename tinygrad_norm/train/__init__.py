"""Training: the loop, its history, what can be hooked into it, and checkpoints that resume exactly."""

from .callbacks import Callback, Checkpoint, CSVLogger, EarlyStopping, TrainingWarning
from .checkpoint import CheckpointWarning, load_checkpoint, save_checkpoint
from .history import History
from .monitor import NormMonitor
from .trainer import Trainer

__all__ = [
    "CSVLogger", "Callback", "Checkpoint", "CheckpointWarning", "EarlyStopping", "History", "NormMonitor", "Trainer",
    "TrainingWarning", "load_checkpoint", "save_checkpoint",
]  # fmt: skip

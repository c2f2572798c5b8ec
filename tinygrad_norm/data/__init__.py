"""Data: datasets, the loader that puts them into batches, the digits, and toy problems in the plane."""

from .dataset import Dataset, TensorDataset, train_test_split
from .digits import digits
from .loader import DataLoader
from .toy import moons, spirals, xor

__all__ = [
    "DataLoader",
    "Dataset",
    "TensorDataset",
    "digits",
    "moons",
    "spirals",
    "train_test_split",
    "xor",
]

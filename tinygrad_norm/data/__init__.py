"""Data: datasets, the loader that puts them into batches, preprocessing, digits, and toy problems in the plane."""

from .dataset import Dataset, TensorDataset, train_test_split
from .digits import digits
from .loader import DataLoader
from .mnist import mnist
from .scalers import MinMaxScaler, StandardScaler
from .toy import moons, spirals, xor
from .whitening import PCAWhitening, ZCAWhitening

__all__ = [
    "DataLoader", "Dataset", "MinMaxScaler", "PCAWhitening", "StandardScaler", "TensorDataset", "ZCAWhitening",
    "digits", "mnist", "moons", "spirals", "train_test_split", "xor",
]  # fmt: skip

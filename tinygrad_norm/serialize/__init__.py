"""Tensors in a file: one ``.npz`` that NumPy can open, never a pickle, written so that a crash loses nothing.

The file is a zip archive whose members are stored, not compressed: ``meta.json`` first, then ``NAME.npy`` for
each array. ``meta.json`` lists the names, and the archive carries a CRC-32 of every member, so whatever is
damaged, missing or added is reported. Reading trusts no number in the file: sizes are compared with what the
file holds before memory is taken, and array headers are matched against the one form that is written here.

    save  ->  temporary file beside the target, fsync, rename over the target, fsync of the folder
"""

from .archive import CheckpointError, load, load_arrays, save
from .replace import replacing

__all__ = ["CheckpointError", "load", "load_arrays", "replacing", "save"]

"""Every statement of the source documents about normalization, measured; run by ``tinygrad-norm claims``.

An entry is a function under ``@claim`` (record.py) that measures and writes what it finds into a Record; the verdict is
computed from the findings. Importing this package enters them all.
"""

from __future__ import annotations

from . import (
    batch,
    data_scale,
    depth,
    descent,
    estimates,
    frame,
    implied,
    inputs,
    regularization,
    scale,
    structures,
    training,
    units,
)
from .documents import CORRECTIONS, DOCUMENTS
from .record import CLAIMS, FAILS, HOLDS, UNDECIDED, WHEN, Claim, Finding, Record, claim
from .run import claims_text, measure, report, require_pictures

__all__ = [
    "CLAIMS", "CORRECTIONS", "DOCUMENTS", "FAILS", "HOLDS", "UNDECIDED", "WHEN", "Claim", "Finding", "Record",
    "claim", "claims_text", "measure", "report", "require_pictures",
    "batch", "data_scale", "depth", "descent", "estimates", "frame", "implied", "inputs", "regularization", "scale",
    "structures", "training", "units",
]  # fmt: skip

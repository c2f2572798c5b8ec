"""Every statement of the source documents about normalization, measured; run by ``tinygrad-norm claims``.

The documents, in Chinese, and how the entries call them:

    General frame    The general frame and ideas of Normalization (4.02 Normalization 的通用框架和思想)
    Not only BN      Normalization in deep learning in detail, not only BN (详解深度学习中的Normalization,不只是BN)
    Normalization    Normalization (归一化（Normalization）)
    ICS notes        notes without a title; their first section is ICS (一、ICS（internal covariant shift）)
    BN notes         Batch Normalization (Batch Normalization)

An entry is a function under ``@claim`` (record.py) that measures and writes what it finds into a Record; the verdict is
computed from the findings. Importing this package enters them all.
"""

from __future__ import annotations

from . import batch, frame, scale
from .record import CLAIMS, FAILS, HOLDS, WHEN, Claim, Finding, Record, claim
from .run import DOCUMENTS, claims_text, measure, report, require_pictures

__all__ = [
    "CLAIMS", "DOCUMENTS", "FAILS", "HOLDS", "WHEN", "Claim", "Finding", "Record", "claim", "claims_text", "measure",
    "batch", "frame", "report", "require_pictures", "scale",
]  # fmt: skip

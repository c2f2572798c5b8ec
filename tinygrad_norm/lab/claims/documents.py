"""The source documents, all in Chinese, and their misprints."""

from __future__ import annotations

DOCUMENTS = {
    "General frame": "The general frame and ideas of Normalization (4.02 Normalization 的通用框架和思想)",
    "Not only BN": "Normalization in deep learning in detail, not only BN (详解深度学习中的Normalization,不只是BN)",
    "Normalization": "Normalization (归一化（Normalization）)",
    "ICS notes": "Notes without a title; their first section is ICS (一、ICS（internal covariant shift）)",
    "BN notes": "Batch Normalization (Batch Normalization)",
    "Implied": "in none of them, and implied by what they say",
}
"""Short name -> title."""

CORRECTIONS = (
    ("Not only BN", "layer norm without 1/H, in the mean and in the variance (54)"),
    ("Not only BN", "Norm( ) nested in itself on the right-hand side of the proof of invariance (43)"),
    ("Not only BN", "variance where the deviation is meant, and 范式 for 范数, norm (61)"),
    ("Not only BN", "Vosine for Cosine, and formulas broken by text recognition (65)"),
    ("Not only BN", "有事 for 优势, advantage"),
    ("Normalization", "z = σ(a), after the activation, against the next sentence (22)"),
    ("Normalization", "平均值和方法 for 平均值和方差, mean and variance"),
    ("ICS notes", "几何函数, geometric function, for 激活函数, activation function (17)"),
    ("BN notes", "正太 for 正态, normal (37)"),
)
"""Statement 68: the document, and what is misprinted; the number is of the statement that measures what is right."""

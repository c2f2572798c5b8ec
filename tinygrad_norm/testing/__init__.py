"""Checks for gradients, for this package's operations and for your own."""

from . import samples, samples_math, samples_nets, samples_norms, samples_shape, samples_windows  # noqa: F401 -- they fill the op table
from .checks import CHECKS, check
from .gradcheck import gradcheck
from .invariance import check_invariance, invariance_table
from .invariance_report import Certificate, InvarianceTable, Measured
from .report import GradientError, GradientWarning, Report
from .samples import ROWS, Row, bad, case, pinned, register

__all__ = [
    "CHECKS", "ROWS", "Certificate", "GradientError", "GradientWarning", "InvarianceTable", "Measured", "Report", "Row",
    "bad", "case", "check", "check_invariance", "gradcheck", "invariance_table", "pinned", "register", "samples",
]  # fmt: skip

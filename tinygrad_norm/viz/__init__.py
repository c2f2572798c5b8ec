"""Pictures of training, on matplotlib figures that leave the program's own plotting alone (extra ``viz``)."""

from .boundary import decision_boundary
from .curves import curves

__all__ = ["curves", "decision_boundary"]

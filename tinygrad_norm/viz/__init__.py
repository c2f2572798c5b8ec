"""Pictures of training, on matplotlib figures that leave the program's own plotting alone (extra ``viz``)."""

from .boundary import decision_boundary
from .curves import curves
from .graph import Graph, graph

__all__ = ["Graph", "curves", "decision_boundary", "graph"]

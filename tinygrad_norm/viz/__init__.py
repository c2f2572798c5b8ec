"""Pictures of training, on matplotlib figures that leave the program's own plotting alone (extra ``viz``)."""

from .boundary import decision_boundary
from .curves import curves
from .graph import Graph, graph
from .inside import activations, gradients, norms

__all__ = ["Graph", "activations", "curves", "decision_boundary", "gradients", "graph", "norms"]

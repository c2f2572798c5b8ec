from .engine import *
from .ops import *
from . import ops

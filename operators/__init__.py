"""Degradations: recipes (plain parameters) and the operators made from them."""

from __future__ import annotations

from .blocks import *
from .blurs import *
from .cadence import *
from .chain import Chain
from .degradation import Degradation
from .downsampling import *
from .dust import *
from .exposure import *
from .fields import *
from .flicker import *
from .grey import *
from .hadamard import *
from .identity import *
from .jpeg import *
from .kernel import *
from .linear.dottest import dottest
from .linear.linear_operator import LinearOperator
from .linear.solvers import ConvergenceWarning, Solution
from .mask import *
from .measurement import Measurement, simulate
from .motion import *
from .nonuniform import *
from .operator import Operator
from .outpainting import *
from .recipe import Recipe
from .registry import FILM, REGISTRY, TASKS, recipe_for_task, recipe_from_dict
from .rounding import *
from .sensor import *

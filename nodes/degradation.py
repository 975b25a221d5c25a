"""What the degradation nodes share. Each of them makes the recipe of one degradation."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from comfy_api.latest import io

from ..operators import Recipe
from ..operators.recipe import check_boundary
from .inputs import before, kernel_output, kernel_picture, output
from .kit import Folder, chained, complaint, schema


def degradation(
    node_id: str, inputs: Sequence[io.Input], *, kernel: str = "", **values: Any
) -> io.Schema:
    """The schema of a degradation node. Its last input is a degradation that happened before.

    ``kernel`` is the tooltip of the second output of a ``BlurNode``: the kernel as a picture.
    """
    outputs = [output(), *([kernel_output(kernel)] if kernel else [])]
    return schema(
        node_id, Folder.DEGRADATION, inputs=[*inputs, before()], outputs=outputs, **values
    )


class DegradationNode(io.ComfyNode):
    """A node for the degradation ``kind``. Its inputs have the names of the recipe's fields; a node
    with other inputs overrides ``recipe``.
    """

    kind: ClassVar[type[Recipe]]

    @classmethod
    def recipe(cls, **values: Any) -> Recipe:
        """The degradation that the inputs describe."""
        return cls.kind(**values)

    @classmethod
    def execute(cls, operator: Recipe | None = None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(chained(cls.recipe(**values), operator))


class BorderNode(DegradationNode):
    """A node with the input ``boundary``."""

    @classmethod
    def validate_inputs(cls, boundary: str | None = None) -> bool | str:
        return complaint(check_boundary, boundary)


class BlurNode(BorderNode):
    """A node with a second output: its kernel, or kernels, as pictures."""

    @classmethod
    def execute(cls, operator: Recipe | None = None, **values: Any) -> io.NodeOutput:
        recipe: Any = cls.recipe(**values)
        kernels = recipe.kernels() if hasattr(recipe, "kernels") else [recipe.kernel()]
        return io.NodeOutput(chained(recipe, operator), kernel_picture(*kernels))

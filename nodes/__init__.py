"""ComfyUI nodes: each is a schema and a few lines that call the library."""
# pyright: reportMissingImports=false

from __future__ import annotations

from importlib.util import find_spec

if find_spec("comfy_api") is not None:
    from comfy_api.latest import ComfyExtension, io

    from . import (
        details,
        estimation,
        example,
        film,
        measurement,
        models,
        operators,
        photo,
        samplers,
        several,
    )

    class Extension(ComfyExtension):
        """All nodes of the pack."""

        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            example.lend()  # Not in on_load, which older hosts do not call.
            return [
                *photo.NODES,
                *details.NODES,
                *film.NODES,
                *models.NODES,
                *operators.NODES,
                *estimation.NODES,
                *measurement.NODES,
                *samplers.NODES,
                *several.NODES,
                *example.NODES,
            ]

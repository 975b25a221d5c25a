"""Restore images by posterior sampling with flow models (FlowDPS, FlowChef, PSLD).

Importing this package imports neither torch nor diffusers; inside ComfyUI it brings the nodes.
"""

from importlib.util import find_spec

__version__ = "0.1.0"
WEB_DIRECTORY = "./web"

if find_spec("comfy_api") is not None:
    from .nodes import Extension

    async def comfy_entrypoint() -> Extension:
        """What ComfyUI calls when it has imported the pack."""
        return Extension()

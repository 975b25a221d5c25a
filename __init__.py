"""Restore images by posterior sampling with flow models (FlowDPS, FlowChef, PSLD).

Importing this package imports neither torch nor diffusers nor ComfyUI.
"""

__version__ = "0.1.0"

"""Training of priors: photographs (``python -m comfyui_flowdps.training``) and emoji."""

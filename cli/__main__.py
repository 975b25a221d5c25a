"""``python -m comfyui_flowdps.cli``."""

import sys

from .command import main

sys.exit(main())

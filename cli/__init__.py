"""The command line program ``flowdps``."""

import sys

from .. import unsupported

if told := unsupported():  # Before PyTorch and Pillow are imported.
    print(f"flowdps: {told}", file=sys.stderr)
    raise SystemExit(2)

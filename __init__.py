"""Restore images by posterior sampling with flow models (FlowDPS, FlowChef, PSLD).

Importing this package imports neither torch nor diffusers; inside ComfyUI it brings the nodes.
"""

import re
import sys
from pathlib import Path

WEB_DIRECTORY = "./web"


def __getattr__(name: str) -> str:
    """``__version__``, which stands in pyproject.toml alone and is read when it is asked for.

    The file lies beside this one in a clone and among ComfyUI's custom nodes; of what pip installed
    the metadata tell it.
    """
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    project = Path(__file__).with_name("pyproject.toml")
    if not project.exists():
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("flowdps")
        except PackageNotFoundError:
            return "unknown"
    return re.findall(r'^version = "(.+)"$', project.read_text(encoding="utf-8"), re.M)[0]


def unsupported() -> str:
    """A sentence on what is older than pyproject.toml asks for; empty if nothing is.

    Pip looks at that file by itself. ComfyUI and a clone on a path do not.
    """
    if sys.version_info < (3, 10):  # noqa: UP036 - a host may run on whatever there is
        here = ".".join(map(str, sys.version_info[:2]))
        return f"Python {here} is too old; 3.10 or newer is needed"
    project = Path(__file__).with_name("pyproject.toml")
    if not project.exists():
        return ""
    from importlib.metadata import PackageNotFoundError, version

    (needs,) = re.findall(r"^dependencies = (.*)$", project.read_text(encoding="utf-8"), re.M)
    for name, least in re.findall(r'"([\w-]+)>=([\d.]+)"', needs):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if [int(n) for n in re.findall(r"\d+", found)] < [int(n) for n in least.split(".")]:
            return f"{name} {found} is too old; {least} or newer is needed: pip install -U {name}"
    return ""


# The host has loaded its API before its custom nodes. That it can be found says nothing: in a
# program that was started from ComfyUI's folder it can, and there is no host.
if "comfy_api" in sys.modules:
    if told := unsupported():
        raise ImportError(f"ComfyUI-FlowDPS: {told}")
    from .nodes import Extension

    async def comfy_entrypoint() -> Extension:
        """What ComfyUI calls when it has imported the pack."""
        return Extension()

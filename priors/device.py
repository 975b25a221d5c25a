"""Devices and number formats by name."""

from __future__ import annotations

import warnings

import torch

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


WITHOUT_DOUBLE = {"mps"}
"""Kinds of devices that have no float64."""


def accumulator(device: torch.device) -> torch.dtype:
    """The number format for long sums on ``device``: float64, or float32 where there is none."""
    return torch.float32 if device.type in WITHOUT_DOUBLE else torch.float64


def _available() -> dict[str, bool]:
    """The kinds of devices that models run on, and whether this machine has one."""
    xpu = getattr(torch, "xpu", None)
    return {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": xpu is not None and xpu.is_available(),
        "cpu": True,
    }


def device_named(name: str | torch.device) -> torch.device:
    """The device called ``name``; auto is the first of CUDA, MPS, XPU and the CPU that is there.

    ValueError for a name that is none, and for a device that this machine does not have.
    """
    found = _available()
    if name == "auto":
        return torch.device(next(kind for kind in found if found[kind]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of devices that are refused below.
            device = torch.device(name)
        if device.type not in found:
            raise RuntimeError
    except RuntimeError as error:
        raise ValueError(
            f"unknown device {str(name)!r}; expected auto, cpu, cuda, mps or xpu"
        ) from error
    if not found[device.type]:
        raise ValueError(f"device {str(device)!r} is not available here; choose cpu or auto")
    count = 1
    if device.type in ("cuda", "xpu"):
        count = getattr(torch, device.type).device_count()
    if device.index is not None and device.index >= count:
        raise ValueError(
            f"device {str(device)!r} is not available here, where there"
            f" {'is 1 device' if count == 1 else f'are {count} devices'} of its kind, counted from"
            " 0; choose another or auto"
        )
    return device


def dtype_named(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The number format called ``name``; auto is float32 on the CPU, else float16.

    ValueError for an unknown name, and for float64 on a device without it.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    dtype = DTYPES.get(name) if isinstance(name, str) else name
    if dtype is None or dtype not in DTYPES.values():
        raise ValueError(
            f"unknown dtype {str(name)!r}; expected auto or one of {', '.join(DTYPES)}"
        )
    if dtype == torch.float64 and device.type in WITHOUT_DOUBLE:
        raise ValueError(
            f"dtype float64 does not exist on {device.type}; choose float32 or the cpu"
        )
    return dtype

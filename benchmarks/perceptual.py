"""FLIP, LPIPS and FID by other packages, where they are installed.

FLIP (Andersson et al. 2020), by its authors' package, estimates what a person sees when two images
alternate on a screen, from 0 (nothing) to 1. It needs no network, so nothing is downloaded. The
networks of LPIPS and FID are, but not unasked.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ALEXNET = ("alexnet-owt-7be5be79.pth", "233 MB from download.pytorch.org")
INCEPTION = ("weights-inception-2015-12-05-6726825d.pth", "91 MB from github.com")
"""File in torch's cache, and what its download is."""


def _here(name: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / name).exists()


def _module(column: str, name: str, package: str, file: tuple[str, str], download: bool) -> Any:
    """The module, or a sentence that says why its column is left out and how to get it."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return f"{column} is left out: pip install {package}"
    if not (download or _here(file[0])):
        return (
            f"{column} is left out: its network {file[0]} ({file[1]}) is not in torch's cache;"
            " --download fetches it"
        )
    return module


def flip_of() -> Callable[[Tensor, Tensor], float] | str:
    """Mean FLIP of two images (1, 3, H, W) in [-1, 1], at 67 pixels per degree; or why there is
    none."""
    try:
        import flip_evaluator  # pyright: ignore[reportMissingImports]
    except ImportError:
        return "FLIP is left out: pip install flip-evaluator"

    def distance(x: Tensor, clean: Tensor) -> float:
        _, found, _ = flip_evaluator.evaluate(_rows(clean), _rows(x), "LDR", applyMagma=False)
        return float(found)

    return distance


def _rows(x: Tensor) -> Any:
    """(H, W, 3) in [0, 1], rounded to 8 bits, float32."""
    eight_bit = ((x[0].detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round() / 255
    return eight_bit.permute(1, 2, 0).contiguous().numpy()


def lpips_of(device: torch.device, download: bool) -> Callable[[Tensor, Tensor], float] | str:
    """LPIPS with AlexNet of two images (1, 3, H, W) in [-1, 1], or why there is none."""
    module = _module("LPIPS", "lpips", "lpips", ALEXNET, download)
    if isinstance(module, str):
        return module
    network = module.LPIPS(net="alex", verbose=False).to(device).eval()

    @torch.no_grad()
    def distance(x: Tensor, clean: Tensor) -> float:
        return float(network(x.clamp(-1, 1).to(device).float(), clean.to(device).float()))

    return distance


def fid_of(device: torch.device, download: bool) -> Callable[[Path, Path], float] | str:
    """FID between the pictures in two folders by torch-fidelity, or why there is none."""
    module = _module("FID", "torch_fidelity", "torch-fidelity", INCEPTION, download)
    if isinstance(module, str):
        return module

    def distance(restored: Path, clean: Path) -> float:
        found = module.calculate_metrics(
            input1=str(restored),
            input2=str(clean),
            fid=True,
            cuda=device.type == "cuda",
            verbose=False,
        )
        return float(found["frechet_inception_distance"])

    return distance

"""Lossless pruning of zero channels and blocks of a TAESD network, for speed.

The demo autoencoder is a narrow network zero-padded to the 64-channel layout that hosts expect
(``training/taesd.py``): most channels are always zero, and some blocks are identities. A channel
with zero kernels and bias stays zero through ReLU, upsampling and skip connections; removing it
changes results only by the order of floating-point sums.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SkipBlock(nn.Module):
    """TAESD's block, ``relu(conv(x) + x)``."""

    def __init__(self, conv: nn.Sequential):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


def _live(conv: nn.Conv2d) -> Tensor:
    """Mask of the output channels with a nonzero kernel or bias; all others are always zero."""
    live = conv.weight.detach().flatten(1).ne(0).any(1)
    return live if conv.bias is None else live | conv.bias.detach().ne(0)


def _slice(conv: nn.Conv2d, outputs: Tensor, inputs: Tensor) -> nn.Conv2d:
    small = nn.Conv2d(
        int(inputs.sum()),
        int(outputs.sum()),
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    ).requires_grad_(False)
    small.weight.copy_(conv.weight.detach()[outputs][:, inputs])
    if small.bias is not None and conv.bias is not None:
        small.bias.copy_(conv.bias.detach()[outputs])
    return small


def _block_convs(module: nn.Module) -> list[nn.Conv2d] | None:
    """The three convolutions of a residual block with an identity skip; None for other modules."""
    body = getattr(module, "conv", None)
    skip = getattr(module, "skip", None)
    if getattr(module, "pool", None) is not None:
        return None
    if not isinstance(body, nn.Sequential) or not isinstance(skip, nn.Identity | None):
        return None
    kinds = (nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d)
    if len(body) != 5 or not all(map(isinstance, body, kinds)):
        return None
    return [part for part in body if isinstance(part, nn.Conv2d)]


def _shrink_block(convs: list[nn.Conv2d], width: Tensor) -> nn.Module:
    if not _live(convs[-1]).any():
        return nn.ReLU()
    layers: list[nn.Module] = []
    inputs = width
    for conv in convs[:-1]:
        outputs = _live(conv)
        if not outputs.any():
            outputs[0] = True
        layers += [_slice(conv, outputs, inputs), nn.ReLU()]
        inputs = outputs
    return SkipBlock(nn.Sequential(*layers, _slice(convs[-1], width, inputs)))


def prune(layers: nn.Sequential) -> nn.Sequential:
    """A smaller network equivalent to ``layers``, a TAESD encoder or decoder.

    Its parameters do not require gradients. Networks of another topology are returned unchanged.
    """
    modules = list(layers)
    blocks = [_block_convs(module) for module in modules]
    known = (nn.Conv2d, nn.ReLU, nn.Upsample)
    if not isinstance(modules[0], nn.Conv2d) or any(
        found is None and not isinstance(module, known)
        for module, found in zip(modules, blocks, strict=True)
    ):
        return layers
    at = [i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d)]
    first = modules[0]
    width = torch.ones(first.in_channels, dtype=torch.bool, device=first.weight.device)
    small: list[nn.Module] = []
    for i, module in enumerate(modules):
        if isinstance(module, nn.Conv2d):
            # Up to the next convolution the live channels are those of this one or of a block.
            outputs = _live(module)
            following = next((j for j in at if j > i), None)
            for found in blocks[i + 1 : following]:
                if found is not None:
                    outputs |= _live(found[-1])
            if following is None or not outputs.any():
                outputs[:] = True
            small.append(_slice(module, outputs, width))
            width = outputs
        elif (found := blocks[i]) is not None:
            small.append(_shrink_block(found, width))
        else:
            small.append(module)
    return nn.Sequential(*small)

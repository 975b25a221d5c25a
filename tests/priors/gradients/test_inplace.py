"""Gradients of networks that overwrite their activations equal those of networks that do not."""

from __future__ import annotations

import contextlib

import pytest
import torch
from comfyui_flowdps.benchmarks.memory import peak
from comfyui_flowdps.priors.gradients.checkpointing import checkpoint, checkpointed
from comfyui_flowdps.priors.gradients.inplace import overwriting
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as torchs_own

WIDTH = 6


class Block(nn.Module):
    """What blocks of transformers do, in place or not."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.in_place = in_place
        self.first, self.second = (nn.Linear(WIDTH, WIDTH, dtype=torch.float64) for _ in range(2))

    def forward(self, x: Tensor, *, text: Tensor) -> tuple[Tensor, Tensor]:
        one = self.first(nn.functional.layer_norm(x, (WIDTH,))).tanh() * x
        if self.in_place:
            x += one
            text += 0.3 * x[:, :2].sin()
            x[:, 2:] *= text[:, :1].cos()
            x.addcmul_(x, one)
        else:
            x = x + one
            text = text + 0.3 * x[:, :2].sin()
            x = torch.cat([x[:, :2], x[:, 2:] * text[:, :1].cos()], 1)
            x = x + x * one
        two = self.second(x.square())
        if self.in_place:
            x.sub_(two).mul_(0.5)
        else:
            x = (x - two) * 0.5
        return x, text


def network(in_place: bool) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(Block(in_place) for _ in range(3)).requires_grad_(False)


def run(blocks, x: Tensor, text: Tensor) -> Tensor:
    x = x * 1.0
    for block in blocks:
        x, text = block(x, text=text)
        if block.in_place:
            x *= 1.1
        else:
            x = x * 1.1
    return x.square().sum() + (x[:, :2] * text).sum()


def gradient(blocks, context=contextlib.nullcontext) -> Tensor:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, WIDTH, generator=g, dtype=torch.float64).requires_grad_()
    text = torch.randn(2, 2, WIDTH, generator=g, dtype=torch.float64)
    with context():
        loss = run(blocks, x, text)
    return torch.autograd.grad(loss, x)[0]


def same(got: Tensor, want: Tensor) -> None:
    """Equal up to the order of sums."""
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * float(want.abs().max()))


def test_autograd_alone_refuses():
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient(network(True))


def test_gradient_of_a_network_that_adds_in_place():
    same(gradient(network(True), overwriting), gradient(network(False)))


def test_gradient_of_checkpointed_blocks_that_add_in_place():
    blocks = network(True)
    with checkpointed(blocks, lambda: True):
        got = gradient(blocks, overwriting)
    same(got, gradient(network(False)))


def test_torchs_own_checkpoint_is_wrong_for_them():
    """So that the test above can fail."""

    def function(x: Tensor) -> Tensor:
        y = x * 2
        z = y.sin()
        y += z
        return y.square() + z

    def slope(call) -> Tensor:
        x = torch.linspace(0, 1, 5, dtype=torch.float64).requires_grad_()
        return torch.autograd.grad(call(x).sum(), x)[0]

    x = torch.linspace(0, 1, 5, dtype=torch.float64)
    y = 2 * x
    right = 2 * (y + y.sin()) * (2 + 2 * y.cos()) + 2 * y.cos()
    assert torch.allclose(slope(lambda x: checkpoint(function, x)), right, rtol=1e-12)
    assert not torch.allclose(slope(lambda x: torchs_own(function, x, use_reentrant=False)), right)


def test_only_what_is_overwritten_is_copied():
    def storages(in_place: bool) -> set[int]:
        x = torch.ones(4, dtype=torch.float64).requires_grad_()
        with overwriting():
            y = x * 2
            z = y.square()
            if in_place:
                y += 1
        return {y.data_ptr()} & {z.grad_fn._saved_self.data_ptr()}

    assert storages(False)
    assert not storages(True)


def test_checkpoint_keeps_arguments_and_nothing_else():
    saved = []
    x = torch.ones(4, dtype=torch.float64).requires_grad_()

    def pack(value: Tensor) -> Tensor:
        saved.append(value.shape)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        checkpoint(lambda x, more: (x.sin().cos() * more).exp(), x, more=torch.ones(1).double())
    assert saved == [x.shape, (1,)]


def test_a_function_that_does_otherwise_when_computed_again_is_refused():
    calls = []

    def function(x: Tensor) -> Tensor:
        calls.append(x)
        return x.sin().cos() if len(calls) == 1 else x.sin()

    x = torch.ones(4).requires_grad_()
    with pytest.raises(RuntimeError, match="saved 2 values for its gradient and 1 when"):
        checkpoint(function, x).sum().backward()


def peak_of(function) -> float:
    """Largest number of tensors of the input's size that are alive at once."""
    x = torch.zeros(1000)
    return peak(nn.Identity(), function, x, gradient=True) / (x.numel() * x.element_size())


def test_memory():
    """Saved values that are not overwritten cost nothing, and those of one block are alive at a
    time if blocks are checkpointed."""
    blocks = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Sigmoid(), nn.SiLU()) for _ in range(8))

    def run(x: Tensor) -> Tensor:
        for block in blocks:
            x = block(x)
        return x

    def guarded(x: Tensor) -> Tensor:
        with overwriting():
            return run(x)

    plain = peak_of(run)
    assert peak_of(guarded) == plain
    with checkpointed(blocks, lambda: True):
        assert peak_of(guarded) < 0.75 * plain

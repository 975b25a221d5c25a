"""Physics of deepinv as operators: duck-typed ones always, real ones where deepinv is installed."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import AveragePool
from comfyui_flowdps.operators.deepinv import from_deepinv


class Pooling:
    """What a LinearPhysics has, without the library."""

    def __init__(self, wrong: float = 1.0):
        self.inner, self.wrong = AveragePool(2).bind((3, 8, 12)), wrong

    def A(self, x):
        return self.inner.A(x)

    def A_adjoint(self, y):
        return self.wrong * self.inner.adjoint(y)


def draw(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *shape, generator=generator)


def check(operator):
    x, y = draw(operator.in_shape, 1), draw(operator.out_shape, 2)
    seen = operator.A(x)
    left, right = (seen * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(float(left - right)) <= 1e-4 * float(seen.norm() * y.norm())
    torch.testing.assert_close(operator.A(operator.pinv(seen)), seen, rtol=1e-2, atol=1e-2)
    got = operator.prox(x, y, 0.5)
    slope = 0.5 * operator.adjoint(operator.A(got) - y) + got - x
    assert float(slope.norm()) < 1e-3 * float(x.norm())


def test_anything_with_a_and_adjoint_becomes_an_operator():
    operator = from_deepinv(Pooling(), (3, 8, 12))
    assert operator.out_shape == (3, 4, 6)
    check(operator)
    y = draw(operator.out_shape, 3)
    ours = AveragePool(2).bind((3, 8, 12))
    torch.testing.assert_close(operator.pinv(y), ours.pinv(y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("physics", "words"),
    [(object(), "expected a LinearPhysics"), (Pooling(1.1), "is not the adjoint of its A")],
)
def test_what_is_no_linear_physics_is_refused(physics, words):
    with pytest.raises(ValueError, match=words):
        from_deepinv(physics, (3, 8, 12))


@pytest.mark.parametrize(
    "name", ["Downsampling", "Blur", "BlurFFT", "Inpainting", "Decolorize", "CompressedSensing"]
)
def test_physics_of_deepinv(name):
    deepinv = pytest.importorskip("deepinv", reason="deepinv is not installed: it is optional")
    generator = torch.Generator().manual_seed(0)
    shape = (3, 16, 24)
    kernel = torch.rand(1, 1, 5, 5, generator=generator) + torch.eye(5)
    options = {
        "Downsampling": {"img_size": shape, "factor": 2, "filter": "bicubic"},
        "Blur": {"filter": kernel / kernel.sum(), "padding": "circular"},
        "BlurFFT": {"img_size": shape, "filter": kernel / kernel.sum()},
        "Inpainting": {"img_size": shape, "mask": 0.5, "rng": generator},
        "Decolorize": {},
        "CompressedSensing": {"m": 20, "img_size": shape, "rng": generator},
    }[name]
    physics = getattr(deepinv.physics, name)(**options)
    if name == "CompressedSensing":
        with pytest.raises(ValueError, match="this is not supported"):
            from_deepinv(physics, shape)
        return
    check(from_deepinv(physics, shape))

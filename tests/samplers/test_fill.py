"""Push and pull: a smooth surface where nothing is known."""

import torch
from comfyui_flowdps.samplers.fill import filled

X = torch.randn(2, 3, 13, 20, generator=torch.Generator().manual_seed(0)).double()


def test_what_is_known_stays():
    torch.testing.assert_close(filled(X, torch.ones(1, 3, 13, 20).double()), X)
    seen = (X[:1] > 0).double()
    torch.testing.assert_close(filled(X, seen) * seen, X * seen)


def test_a_constant_is_continued_from_a_few_pixels():
    seen = torch.zeros(1, 3, 13, 20, dtype=torch.float64)
    seen[..., 2, 3] = seen[..., 9, 17] = 1
    constant = torch.full((2, 3, 13, 20), 0.7, dtype=torch.float64)
    torch.testing.assert_close(filled(constant * seen, seen), constant)


def test_what_is_hidden_has_no_influence_and_nothing_known_is_zero():
    seen = (torch.rand(1, 3, 13, 20, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    torch.testing.assert_close(filled(X, seen), filled(X * seen + 5 * (1 - seen), seen))
    assert float(filled(X, torch.zeros(1, 3, 13, 20).double()).abs().max()) == 0


def test_a_ramp_is_nearly_continued():
    ramp = torch.linspace(-1, 1, 32).double().expand(1, 3, 32, 32)
    seen = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) > 0.7).double()
    assert float((filled(ramp * seen, seen) - ramp).square().mean().sqrt()) < 0.1

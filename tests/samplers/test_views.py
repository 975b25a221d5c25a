"""Views: flips and shifts, and what they agree on."""

import pytest
import torch
from comfyui_flowdps.samplers.views import View, consensus, views

X = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("view", views(4, 8), ids=str)
def test_back_undoes_a_view_where_it_shows_the_image(view):
    seen = view.back(torch.ones_like(X))
    assert view.of(X).shape == X.shape
    torch.testing.assert_close(view.back(view.of(X)), X * seen, atol=0, rtol=0)
    assert float(seen.mean()) == pytest.approx((1 - view.down / 16) * (1 - view.right / 24))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_views_of_one_image_agree_on_it(count):
    seen = views(count, 8)
    assert len(set(seen)) == count
    assert seen[0] == View()
    torch.testing.assert_close(consensus(seen, [view.of(X) for view in seen]), X)


def test_what_comes_in_is_reflected():
    view = View(down=2)
    torch.testing.assert_close(view.of(X)[..., :3, :], X[..., :3, :].flip(-2))
    torch.testing.assert_close(view.of(X)[..., 2:, :], X[..., :-2, :])

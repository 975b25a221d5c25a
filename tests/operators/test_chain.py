"""Chains of degradations: the product of their parts, in the order in which they happened."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    Bayer,
    BicubicDownsample,
    Chain,
    Colorization,
    GaussianBlur,
    Identity,
    Interlace,
    Mask,
    MotionBlur,
    recipe_from_dict,
)
from comfyui_flowdps.operators.grey import REC601

from .dense import dense, draw

CHAINS = {
    "blur, shrink": Chain((GaussianBlur(5, sigma=0.8), AveragePool(2))),
    "shrink, blur": Chain((AveragePool(2), GaussianBlur(5, sigma=0.8))),
    "shrink twice": Chain((BicubicDownsample(2), AveragePool(3))),
    "three": Chain((MotionBlur(5, seed=3), BicubicDownsample(2), GaussianBlur(3, sigma=0.7))),
    "one": Chain((AveragePool(2),)),
}
every = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())


def shape_of(chain):
    return (2, 2 * chain.stride, 3 * chain.stride)


@every
def test_is_the_product_of_its_parts(chain):
    shape, product = shape_of(chain), None
    for recipe in chain.recipes:
        part = recipe.bind(shape, dtype=torch.float64)
        product = dense(part) if product is None else dense(part) @ product
        shape = part.out_shape
    operator = chain.bind(shape_of(chain), dtype=torch.float64)
    assert operator.out_shape == shape
    torch.testing.assert_close(dense(operator), product)
    y = draw(operator.out_shape, 1)
    transposed = (product.T @ y.flatten(1).T).T.view(2, *operator.in_shape)
    torch.testing.assert_close(operator.adjoint(y), transposed)


@every
def test_pseudo_inverse_and_prox(chain):
    operator = chain.bind(shape_of(chain), dtype=torch.float64)
    matrix = dense(operator)
    x, y = draw(operator.in_shape, 2), draw(operator.out_shape, 3)
    seen = operator.A(x)
    torch.testing.assert_close(operator.A(operator.pinv(seen)), seen, rtol=1e-6, atol=1e-7)
    # γ AᵀA + I is regular, so the prox is the one solution of a linear system.
    system = 0.7 * matrix.T @ matrix + torch.eye(matrix.shape[1], dtype=torch.float64)
    right = 0.7 * matrix.T @ y.flatten(1).T + x.flatten(1).T
    want = torch.linalg.solve(system, right).T.view_as(x)
    torch.testing.assert_close(operator.prox(x, y, 0.7), want, rtol=1e-7, atol=1e-8)


def test_order_matters():
    first, second = (
        CHAINS[name].bind((2, 8, 12), dtype=torch.float64)
        for name in ("blur, shrink", "shrink, blur")
    )
    x = draw((2, 8, 12), 4)
    assert float((first.A(x) - second.A(x)).abs().max()) > 0.01


@every
def test_survives_json(chain):
    import json

    values = json.loads(json.dumps(chain.to_dict()))
    assert recipe_from_dict(values) == chain
    assert hash(recipe_from_dict(values)) == hash(chain)


def test_stride_is_the_product():
    assert CHAINS["shrink twice"].stride == 6
    assert CHAINS["blur, shrink"].stride == 2
    assert Chain((Identity(),)).stride == 1


def test_chains_in_chains_are_flat():
    inner = Chain((GaussianBlur(3), AveragePool(2)))
    assert Chain((inner, AveragePool(3))) == Chain(
        (GaussianBlur(3), AveragePool(2), AveragePool(3))
    )


def test_size_that_a_later_part_cannot_divide_is_refused():
    with pytest.raises(ValueError, match="pad it to"):
        Chain((AveragePool(2), AveragePool(3))).bind((3, 8, 12))


def test_empty_chain_is_refused():
    with pytest.raises(ValueError, match="no operators; expected at least one"):
        Chain(())
    with pytest.raises(ValueError, match="no operators"):
        recipe_from_dict({"operator": "chain", "recipes": []})


@pytest.mark.parametrize("first", [Interlace("bottom"), Colorization(REC601), Bayer("GBRG")])
def test_a_photo_through_a_mask_after_what_a_camera_leaves_out(first):
    """Read back from its own picture, the measurement is the same; the picture has the photo's size
    and nothing in the holes."""
    holes = torch.zeros(8, 6)
    holes[2:4] = 1
    chain = Chain((first, Mask.from_painted(holes)))
    operator = chain.bind((3, 8, 6), dtype=torch.float64)
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0)).double()
    y = operator.A(x)
    picture = operator.picture(y)
    assert picture.shape == x.shape
    assert not bool(picture[:, :, 2:4].any())
    torch.testing.assert_close(chain.from_photo(picture), y)

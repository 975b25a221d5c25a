"""AᵀA, A⁺A and the gradients of pseudo-inverse and prox, against the dense matrix in float64."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import (
    AveragePool,
    BicubicDownsample,
    Chain,
    GaussianBlur,
    Identity,
    LinearOperator,
    Measurement,
    MotionBlur,
)
from comfyui_flowdps.operators.linear import transforms
from comfyui_flowdps.operators.linear.convolution import convolution
from comfyui_flowdps.operators.linear.mirrored import extend, fold
from comfyui_flowdps.operators.linear.separable import Matrix, Pair, Separable, banded, mirrored
from comfyui_flowdps.operators.linear.transforms import fast_length
from comfyui_flowdps.samplers.data_loss import DataLoss

from .dense import dense, draw

CPU = torch.device("cpu")


def bound(recipe, rows=3, columns=4):
    shape = (2, rows * recipe.stride, columns * recipe.stride)
    return recipe.bind(shape, dtype=torch.float64)


def random_matrix(rows, columns, rank=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    rank = rank or min(rows, columns)
    left = torch.randn(rows, rank, generator=g, dtype=torch.float64)
    return left @ torch.randn(rank, columns, generator=g, dtype=torch.float64)


def separable(rows, columns):
    return Separable(2, rows, columns, CPU, torch.float64)


class Plain(LinearOperator):
    """Any matrix, with nothing but A and Aᵀ: all else is the base class's."""

    def __init__(self, matrix, in_shape, out_shape):
        super().__init__(in_shape, out_shape)
        self.matrix = matrix

    def _forward(self, x):
        return (x.flatten(1) @ self.matrix.T).view(-1, *self.out_shape)

    def _adjoint(self, y):
        return (y.flatten(1) @ self.matrix).view(-1, *self.in_shape)


OPERATORS = {
    "pool": bound(AveragePool(3)),
    "bicubic": bound(BicubicDownsample(2)),
    "gauss": bound(GaussianBlur(5, sigma=0.8), 5, 6),
    "gauss-odd": bound(GaussianBlur(5, sigma=0.8), 6, 5),
    "gauss-long": bound(GaussianBlur(31, sigma=1.0), 5, 4),
    "gauss-periodic": bound(GaussianBlur(5, sigma=0.8, boundary="periodic")),
    "motion": bound(MotionBlur(5, seed=3)),
    "motion-periodic": bound(MotionBlur(7, seed=2, boundary="periodic")),
    "box-periodic": convolution(
        (2, 4, 6), torch.full((2, 3), 1 / 6), "periodic", CPU, torch.float64
    ),
    "box-symmetric": convolution(
        (2, 4, 6), torch.full((3, 3), 1 / 9), "symmetric", CPU, torch.float64
    ),
    "identity": bound(Identity()),
    "chain": bound(Chain((GaussianBlur(3, sigma=0.7), AveragePool(2)))),
    "wide": separable(random_matrix(3, 5), random_matrix(4, 6, seed=1)),
    "tall": separable(random_matrix(5, 3), random_matrix(6, 4, seed=1)),
    "deficient": separable(random_matrix(5, 4, 2), random_matrix(4, 6, 3, seed=1)),
    "one axis": separable(random_matrix(5, 6), random_matrix(6, 6, seed=1)),
    "plain": Plain(random_matrix(24, 36) / 6, (2, 3, 6), (2, 3, 4)),
    "plain-deficient": Plain(random_matrix(40, 24, 11) / 12, (2, 3, 4), (2, 4, 5)),
}
every = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
ITERATIVE = [OPERATORS[name] for name in ("motion", "chain", "plain", "plain-deficient")]


def applied(matrix, x, shape):
    return (x.flatten(1) @ matrix.T).view(-1, *shape)


def close(got, want, tolerance=1e-6):
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance * float(want.detach().abs().max()))


@every
def test_normal_and_projection(operator):
    matrix, x = dense(operator), draw(operator.in_shape, 1)
    inverse = torch.linalg.pinv(matrix, rtol=1e-9)
    for name, want in (("normal", matrix.T @ matrix), ("projection", inverse @ matrix)):
        got = getattr(operator, name)(x)
        close(got, applied(want, x, operator.in_shape))
        assert got.data_ptr() != x.data_ptr()
        at, direction = x.clone().requires_grad_(), draw(operator.in_shape, 2)
        (gradient,) = torch.autograd.grad((getattr(operator, name)(at) * direction).sum(), at)
        close(gradient, applied(want, direction, operator.in_shape))


@every
def test_projection_is_idempotent_and_what_a_sees(operator):
    x = draw(operator.in_shape, 3)
    seen = operator.projection(x)
    close(operator.projection(seen), seen)
    close(operator.A(seen), operator.A(x))


@every
def test_gradients_of_pseudo_inverse_and_prox(operator):
    matrix, gamma = dense(operator), 0.7
    inverse = torch.linalg.pinv(matrix, rtol=1e-9)
    y = draw(operator.out_shape, 4).requires_grad_()
    direction = draw(operator.in_shape, 5)
    (gradient,) = torch.autograd.grad((operator.pinv(y) * direction).sum(), y)
    close(operator.pinv(y), applied(inverse, y, operator.in_shape).detach())
    close(gradient, applied(inverse.T, direction, operator.out_shape))
    z = draw(operator.in_shape, 6).requires_grad_()
    eye = torch.eye(matrix.shape[1], dtype=torch.float64)
    solve = torch.linalg.inv(eye + gamma * matrix.T @ matrix)
    value = (operator.prox(z, y, gamma) * direction).sum()
    of_z, of_y = torch.autograd.grad(value, (z, y))
    close(of_z, applied(solve, direction, operator.in_shape))
    close(of_y, applied(gamma * matrix @ solve, direction, operator.out_shape))


@pytest.mark.parametrize("operator", ITERATIVE)
def test_only_what_asks_for_a_gradient_gets_one(operator):
    z, y = draw(operator.in_shape, 1), draw(operator.out_shape, 2)
    assert not operator.prox(z, y, 1.0).requires_grad
    assert not operator.pinv(y).requires_grad
    for wanted in (z, y):
        wanted.requires_grad_()
        (gradient,) = torch.autograd.grad(operator.prox(z, y, 1.0).square().sum(), wanted)
        assert float(gradient.abs().max()) > 0
        with torch.no_grad():
            assert not operator.prox(z, y, 1.0).requires_grad
        wanted.requires_grad_(False)


@pytest.mark.parametrize("operator", ITERATIVE)
def test_second_gradients(operator):
    """The maps are linear, so that the gradient of a squared norm is linear, too."""
    y = draw(operator.out_shape, 2, count=1).requires_grad_()
    inverse = torch.linalg.pinv(dense(operator), rtol=1e-9)
    (first,) = torch.autograd.grad(operator.pinv(y).square().sum() / 2, y, create_graph=True)
    direction = draw(operator.out_shape, 3, count=1)
    (second,) = torch.autograd.grad((first * direction).sum(), y)
    close(second, applied(inverse.T @ inverse, direction, operator.out_shape))


@pytest.mark.parametrize("operator", ITERATIVE)
def test_nothing_is_kept_of_the_steps(operator):
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    y = draw(operator.out_shape, 2).requires_grad_()
    z = draw(operator.in_shape, 1).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        operator.pinv(y)
        operator.projection(z)
        operator.normal(z)
    images = [tensor for tensor in kept if tensor.shape[:1] == y.shape[:1] and tensor.ndim == 4]
    assert not images


@pytest.mark.parametrize("operator", ITERATIVE)
def test_samples_are_solved_apart(operator):
    """One that is hard, one that is solved at the start, and one that is scaled."""
    y = draw(operator.out_shape, 7, count=3)
    y[1], y[2] = 0, 1e4 * y[0]
    z = torch.zeros(3, *operator.in_shape, dtype=torch.float64)
    for solve in (operator.pinv, lambda y: operator.prox(z[: len(y)], y, 2.0)):
        together = solve(y)
        assert float(together[1].abs().max()) == 0
        for k in (0, 2):
            close(together[k : k + 1], solve(y[k : k + 1]), 1e-9)


@pytest.mark.parametrize("name", ["motion", "motion-periodic", "gauss-odd", "box-symmetric"])
def test_large_images_in_parts_are_the_same(name, monkeypatch):
    operator = OPERATORS[name]
    x, y = draw(operator.in_shape, 1, 3), draw(operator.out_shape, 2, 3)

    def everything():
        at, seen = x.clone().requires_grad_(), y.clone().requires_grad_()
        results = [operator.A(at), operator.adjoint(seen), operator.normal(at)]
        results += [operator.projection(at), operator.pinv(seen), operator.prox(at, seen, 2.0)]
        value = torch.stack([(r * r.detach().cos()).sum() for r in results]).sum()
        return [*results, *torch.autograd.grad(value, (at, seen))]

    whole = everything()
    for pixels in (1, 4 * operator.in_shape[1] * operator.in_shape[2]):
        monkeypatch.setattr(transforms, "AT_ONCE", pixels)
        for got, want in zip(everything(), whole, strict=True):
            close(got, want, 1e-8)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 2), (7, 3), (3, 12)])
def test_extension_and_its_transpose(size, before, after):
    x = torch.arange(3.0 * size).view(3, size)
    index = mirrored(torch.arange(-before, size + after), size, "symmetric")
    assert torch.equal(extend(x, before, after, -1), x[:, index])
    assert torch.equal(extend(x.T, before, after, -2), x.T[index])
    y = torch.randn(3, len(index), generator=torch.Generator().manual_seed(1))
    want = torch.zeros(3, size).index_add(-1, index, y)
    torch.testing.assert_close(fold(y, before, after, -1), want)
    torch.testing.assert_close(fold(y.T, before, after, -2), want.T)


def test_fast_lengths():
    assert [fast_length(n) for n in (1, 11, 828, 1009, 2108)] == [1, 12, 840, 1024, 2160]


@pytest.mark.parametrize("boundary", ["symmetric", "periodic"])
def test_blocks_of_a_band_are_the_matrix(boundary):
    taps = torch.ones(5).double()
    matrix = banded(taps, torch.arange(300) - 2, 300, boundary)
    x = draw((3, 300, 7), 1, count=2)
    made = Matrix(matrix, CPU, torch.float64)
    assert made.part < 0.5
    torch.testing.assert_close(made.left(x), matrix @ x)
    torch.testing.assert_close(made.right(x.mT), x.mT @ matrix.mT)
    x.requires_grad_()
    y = draw((3, 300, 7), 2)
    (gradient,) = torch.autograd.grad((made.left(x) * y).sum(), x)
    torch.testing.assert_close(gradient, matrix.T @ y)


def test_the_cheaper_order_is_taken():
    pair = Pair(
        Matrix(random_matrix(1, 50), CPU, torch.float64),
        Matrix(random_matrix(50, 50), CPU, torch.float64),
    )
    assert pair.rows_first
    assert pair.count == 50 * 50 + 50 * 50
    swapped = Pair(pair.columns, pair.rows)
    assert not swapped.rows_first
    assert swapped.count == pair.count


class Direct:
    """Images are their own latents."""

    def decode(self, z):
        return z


@pytest.mark.parametrize("kind", ["norm", "residual", "squared"])
@every
def test_the_data_loss_is_what_it_says(operator, kind):
    """‖B y − B A x‖ with B = A⁺ where A changes the size, else Aᵀ (norm) or I (residual)."""
    x, y = draw(operator.in_shape, 1), draw(operator.out_shape, 2)
    matrix = dense(operator)
    back = torch.linalg.pinv(matrix, rtol=1e-9)
    if operator.in_shape == operator.out_shape:
        back = matrix.T if kind == "norm" else torch.eye(len(matrix), dtype=torch.float64)
    residual = y.flatten(1) - x.flatten(1) @ matrix.T
    want = (residual @ back.T).norm(dim=1)
    if kind == "squared":
        want = residual.square().sum(1) / (2 * 0.1**2)
    loss = DataLoss(Direct(), Measurement(y, operator, 0.1), kind)
    torch.testing.assert_close(loss.of_images(x), want, rtol=1e-6, atol=1e-8)

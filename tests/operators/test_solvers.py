"""Solvers: what they reach, how they say that they did not, and the dot-test."""

from __future__ import annotations

import warnings

import pytest
import torch
from comfyui_flowdps.operators import (
    AnisotropicBlur,
    AreaDownsample,
    AveragePool,
    BicubicDownsample,
    Chain,
    ConvergenceWarning,
    GaussianBlur,
    Kernel,
    LinearOperator,
    Mask,
    MotionBlur,
    NonuniformBlur,
    dottest,
)
from comfyui_flowdps.operators.linear import solvers
from comfyui_flowdps.operators.linear.preconditioner import largest_eigenvalue
from comfyui_flowdps.operators.linear.solvers import cg

from .dense import dense, draw

FREE = torch.rand(9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
HOLES = Mask.from_tensor((FREE > 0.2).double())
BLURS = {
    "motion": MotionBlur(),
    "anisotropic": AnisotropicBlur(),
    "kernel": Kernel.from_tensor(FREE),
    # Better conditioned than the default, which takes thousands of steps in float64.
    "nonuniform": NonuniformBlur("motion", size=5, count=2),
}
CHAINS = {
    "blur, average": Chain((GaussianBlur(), AveragePool(4))),
    "motion, bicubic": Chain((MotionBlur(15, seed=2), BicubicDownsample(2))),
    "motion, area": Chain((MotionBlur(15, seed=2), AreaDownsample(4))),
    "motion, mask": Chain((MotionBlur(9, seed=1), HOLES)),
}


def norm(x):
    return float(x.norm())


@pytest.mark.parametrize("recipe", [*BLURS.values(), *CHAINS.values()], ids=[*BLURS, *CHAINS])
def test_pseudo_inverse_reaches_what_it_states(recipe):
    """A A⁺ A = A to 3e-4 ‖A‖, for the ill-conditioned blurs as well."""
    height, width = (37, 53) if recipe.stride == 1 else (36, 52)
    operator = recipe.bind((1, height, width), dtype=torch.float64)
    x = draw(operator.in_shape, 1, count=1)
    y = operator.A(x)
    solution = operator.solve_pinv(y)
    assert bool(solution.converged.all())
    assert int(solution.steps) > 0
    largest = largest_eigenvalue(operator.normal, x) ** 0.5
    assert norm(operator.A(solution.x) - y) <= 3e-4 * largest * norm(x)
    # Blurs let little of white noise pass, so that this asks for more.
    assert norm(operator.A(solution.x) - y) <= 3e-3 * norm(y)


@pytest.mark.parametrize(
    ("dtype", "stated"), [(torch.float64, 3e-4), (torch.float32, 3e-3)], ids=["float64", "float32"]
)
def test_pseudo_inverse_of_the_default_nonuniform_blur(dtype, stated):
    """Thousands of steps in float64."""
    operator = NonuniformBlur().bind((1, 37, 53), dtype=dtype)
    x = draw(operator.in_shape, 1, count=1).to(dtype)
    y = operator.A(x)
    solution = operator.solve_pinv(y)
    assert bool(solution.converged.all())
    largest = largest_eigenvalue(operator.normal, x) ** 0.5
    assert norm(operator.A(solution.x) - y) <= stated * largest * norm(x)


@pytest.mark.parametrize(
    ("dtype", "stated"), [(torch.float64, 3e-4), (torch.float32, 3e-3)], ids=["float64", "float32"]
)
@pytest.mark.parametrize(
    "recipe",
    [
        MotionBlur(9, seed=2),
        AnisotropicBlur(9, along=2, across=0.7),
        Chain((AnisotropicBlur(9, along=2, across=0.7), AveragePool(2))),
    ],
    ids=["motion", "anisotropic", "chain"],
)
def test_stated_error_is_that_of_the_whole_matrix(recipe, dtype, stated):
    operator = recipe.bind((1, 8, 10), dtype=dtype)
    basis = torch.eye(80, dtype=dtype).view(80, 1, 8, 10)
    y = operator.A(basis)
    error = (operator.A(operator.pinv(y)) - y).flatten(1)
    assert torch.linalg.matrix_norm(error, 2) <= stated * torch.linalg.matrix_norm(y.flatten(1), 2)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("recipe", [*BLURS.values(), *CHAINS.values()], ids=[*BLURS, *CHAINS])
def test_prox_says_how_it_ended(recipe, gamma):
    operator = recipe.bind((1, 20, 24), dtype=torch.float64)
    z, y = draw(operator.in_shape, 1), draw(operator.out_shape, 2)
    solution = operator.solve_prox(z, y, gamma)
    assert bool(solution.converged.all())
    assert bool((solution.residual <= 1e-9).all())
    assert bool((solution.steps > 0).all()) == (gamma > 0)
    assert torch.equal(solution.x, operator.prox(z, y, gamma))


def test_closed_forms_take_no_steps():
    operator = GaussianBlur(5, sigma=0.8).bind((2, 6, 7), dtype=torch.float64)
    z, y = draw(operator.in_shape, 1), draw(operator.out_shape, 2)
    for solution in (operator.solve_pinv(y), operator.solve_prox(z, y, 2.0)):
        assert solution.steps.tolist() == [0, 0]
        assert bool(solution.converged.all())
        assert bool((solution.residual < 1e-9).all())
    assert torch.equal(operator.solve_pinv(y).x, operator.pinv(y))


@pytest.mark.parametrize("solve", ["pinv", "prox"])
def test_what_did_not_converge_is_not_passed_off_as_exact(solve, monkeypatch):
    operator = MotionBlur(9, seed=2).bind((1, 12, 13), dtype=torch.float64)
    z, y = draw(operator.in_shape, 1), draw(operator.out_shape, 2)
    arguments = (y,) if solve == "pinv" else (z, y, 50.0)
    y.requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = getattr(operator, solve)(*arguments)
    monkeypatch.setattr(solvers, "CG_STEPS", 2)
    solution = getattr(operator, f"solve_{solve}")(*arguments)
    assert not bool(solution.converged.any())
    assert float(solution.residual.min()) > 1e-6
    with pytest.warns(
        ConvergenceWarning, match=r"did not converge: the relative residual is .* af"
    ):
        getattr(operator, solve)(*arguments)
    with pytest.warns(ConvergenceWarning, match="the gradient of the p"):
        x.sum().backward()


def test_samples_have_their_own_steps_and_residuals():
    matrix = torch.diag(torch.linspace(1, 100, 24, dtype=torch.float64))
    right = draw((1, 4, 6), 1, count=3)
    right[1] = 0
    right[2] = torch.eye(24, dtype=torch.float64)[5].view(1, 4, 6)

    def apply(x):
        return (x.flatten(1) @ matrix).view_as(x)

    solution = cg(apply, right)
    assert solution.steps[1:].tolist() == [0, 1]
    assert int(solution.steps[0]) > 10
    assert float(solution.residual[1]) == 0
    torch.testing.assert_close(apply(solution.x), right)
    exact = cg(apply, right, lambda r: (r.flatten(1) / matrix.diagonal()).view_as(r))
    assert exact.steps.tolist() == [1, 0, 1]
    torch.testing.assert_close(exact.x, solution.x)


@pytest.mark.parametrize("gamma", [10.0, 100.0])
@pytest.mark.parametrize("name", ["motion", "kernel"])
def test_preconditioner_saves_more_steps_than_it_costs(name, gamma):
    operator = BLURS[name].bind((1, 37, 53), dtype=torch.float64)
    z, y = draw(operator.in_shape, 1, count=1), draw(operator.out_shape, 2, count=1)
    steps = int(operator.solve_prox(z, y, gamma).steps)
    plain = BLURS[name].bind((1, 37, 53), dtype=torch.float64)
    plain._preconditioner = lambda shift, like: None
    assert steps < 0.75 * int(plain.solve_prox(z, y, gamma).steps)


class Wrong(LinearOperator):
    """A matrix, and ``factor`` times its transpose."""

    def __init__(self, factor, shift=0):
        super().__init__((3, 32, 32), (3, 32, 32))
        self.factor, self.shift = factor, shift

    def _forward(self, x):
        return 2 * x.roll(1, -1)

    def _adjoint(self, y):
        return 2 * self.factor * y.roll(-1 - self.shift, -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dot_test_names_both_numbers(dtype):
    left, right = dottest(Wrong(1.0), dtype=dtype)
    assert left == pytest.approx(right, rel=1e-4)
    assert left != 0
    for wrong in (Wrong(1.001), Wrong(1.0, shift=1)):
        with pytest.raises(
            ValueError, match=r"adjoint of Wrong is not one: <A x, y> is \d.* A\* y> is"
        ):
            dottest(wrong, dtype=dtype)
    assert dottest(Wrong(1.001), dtype=dtype, tolerance=0.01)
    before = torch.get_rng_state()
    one, other = (dottest(Wrong(1.0), torch.Generator().manual_seed(k)) for k in (1, 2))
    assert one != other
    assert torch.equal(before, torch.get_rng_state())


def test_dense_is_the_matrix_that_the_tests_compare_with():
    operator = MotionBlur(5).bind((1, 4, 5), dtype=torch.float64)
    x = draw(operator.in_shape, 1, count=1)
    torch.testing.assert_close(dense(operator) @ x.flatten(), operator.A(x).flatten())

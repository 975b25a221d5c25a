"""Physics of deepinv as operators: duck-typed ones always, real ones where deepinv is installed."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.operators import AveragePool, Measurement, WalshHadamard
from comfyui_flowdps.operators.deepinv import from_deepinv
from comfyui_flowdps.samplers import METHODS, preset, published_sigmas, sample
from torch import nn

from .dense import dense

SHAPE = (3, 8, 12)


class Listed:
    """A list of tensors as deepinv has it (``TensorList``)."""

    def __init__(self, x):
        self.x = list(x)


class Physics:
    """What a LinearPhysics has, without the library: average pooling."""

    def __init__(self, wrong: float = 1.0, shape=SHAPE):
        self.inner, self.wrong = AveragePool(2).bind(shape), wrong

    def A(self, x):
        return self.inner.A(x)

    def A_adjoint(self, y):
        return self.wrong * self.inner.adjoint(y)


class Vector(Physics):
    """Measurements (N, m) by random numbers."""

    def __init__(self, count=20):
        self.matrix = draw((count, *SHAPE), 0, count=1)[0] / 12

    def A(self, x):
        return torch.einsum("nchw,mchw->nm", x, self.matrix)

    def A_adjoint(self, y):
        return torch.einsum("nm,mchw->nchw", y, self.matrix)


class Cube(Vector):
    """Measurements (N, 2, 5), (N, 2, 1, 5, 2) and the like."""

    def __init__(self, *form):
        super().__init__()
        self.form = form

    def A(self, x):
        return super().A(x).reshape(len(x), *self.form)

    def A_adjoint(self, y):
        return super().A_adjoint(y.flatten(1))


class Spectrum(Physics):
    """Complex measurements (N, 3, h, w) of real images; the adjoint is complex, too."""

    def __init__(self):
        self.mask = draw(SHAPE[1:], 4, count=1)[0] > 0

    def A(self, x):
        return self.mask * torch.fft.fft2(x, norm="ortho")

    def A_adjoint(self, y):
        return torch.fft.ifft2(self.mask * y, norm="ortho")


class Stacked(Physics):
    """A list of what the parts measure, which may be lists."""

    def __init__(self, *parts, kind=Listed):
        self.parts, self.kind = parts, kind

    def A(self, x):
        return self.kind([part.A(x) for part in self.parts])

    def A_adjoint(self, y):
        assert type(y) is self.kind
        values = y.x if self.kind is Listed else y
        return sum(part.A_adjoint(v) for part, v in zip(self.parts, values, strict=True))


class Single(Vector):
    """One image at a time, as a physics has it that makes its adjoint for one image size."""

    def A_adjoint(self, y):
        assert len(y) == 1
        return super().A_adjoint(y)


class Masked(nn.Module):
    """Numbers times the image, held as deepinv holds them."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def A(self, x):
        return self.mask * x

    A_adjoint = A


class Moving(Physics):
    """Depends on what else is in the batch."""

    def A(self, x):
        return super().A(x) * len(x)


def draw(shape, seed, count=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator)


def same(seen, wanted):
    """Whether two measurements of any form have the same values."""
    if isinstance(seen, torch.Tensor):
        return seen.dtype == wanted.dtype and torch.equal(seen, wanted)
    first, second = (list(getattr(m, "x", m)) for m in (seen, wanted))
    pairs = list(zip(first, second, strict=True))
    return type(seen) is type(wanted) and all(same(a, b) for a, b in pairs)


def inner(a, b):
    """The real inner product of two measurements of any form."""
    if isinstance(a, torch.Tensor):
        return (a.conj() * b).real.sum()
    return sum(inner(x, y) for x, y in zip(getattr(a, "x", a), getattr(b, "x", b), strict=True))


def check(operator, physics, count=2):
    """The laws of an operator, and that it is the physics, on ``count`` images."""
    x, y = draw(operator.in_shape, 1, count), draw(operator.out_shape, 2, count)
    seen = operator.A(x)
    left, right = (seen * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(float(left - right)) <= 1e-4 * float(seen.norm() * y.norm())
    again = operator.A(operator.pinv(seen))
    assert float((again - seen).norm()) < 5e-3 * float(seen.norm())
    got = operator.prox(x, y, 0.5)
    slope = 0.5 * operator.adjoint(operator.A(got) - y) + got - x
    assert float(slope.norm()) < 1e-3 * float(x.norm())
    # Every value of what the physics measures of each image is there, and comes back.
    for k in range(count):
        alone = physics.A(x[k : k + 1])
        torch.testing.assert_close(operator.measurement(alone), seen[k : k + 1])
        assert same(operator.native(operator.measurement(alone)), alone)
        assert float(inner(alone, alone)) == pytest.approx(float(seen[k].square().sum()), rel=1e-4)
    assert torch.equal(operator.measurement(operator.native(y)), y)
    # The gradient through the physics' inside, which the operator does not use, is the adjoint.
    one = x[:1].clone().requires_grad_()
    product = inner(operator.native(y[:1]), physics.A(one))
    (inside,) = torch.autograd.grad(product, one)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((operator.A(x) * y).sum(), x)
    assert float((inside - gradient[:1]).norm()) < 1e-3 * float(inside.norm())
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=1e-4, atol=1e-4)
    y.requires_grad_()
    (back,) = torch.autograd.grad((operator.adjoint(y) * x.detach()).sum(), y)
    torch.testing.assert_close(back, seen, rtol=1e-4, atol=1e-4)


FAKES = {
    "image": (lambda: Physics(), (3, 4, 6)),
    "vector": (lambda: Vector(), (20, 1, 1)),
    "more numbers than pixels": (lambda: Vector(300), (300, 1, 1)),
    "matrix": (lambda: Cube(2, 10), (20, 1, 1)),
    "five axes": (lambda: Cube(2, 1, 5, 2), (20, 1, 1)),
    "numbers": (lambda: Stacked(Cube(20), Cube(4, 5)), (40, 1, 1)),
    "complex": (lambda: Spectrum(), (2 * 3 * 8 * 12, 1, 1)),
    "list": (lambda: Stacked(Physics(), Vector(21), Spectrum()), (72 + 21 + 576, 1, 1)),
    "list in a list": (lambda: Stacked(Stacked(Vector(3), Spectrum()), Physics()), (651, 1, 1)),
    "plain list": (lambda: Stacked(Vector(), Physics(), kind=list), (92, 1, 1)),
    "tuple": (lambda: Stacked(Vector(), Physics(), kind=tuple), (92, 1, 1)),
    "one at a time": (lambda: Single(), (20, 1, 1)),
    "list, one at a time": (lambda: Stacked(Single(), Spectrum()), (596, 1, 1)),
    "mask for one image": (lambda: Masked(draw(SHAPE, 5, count=1)), SHAPE),
}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("make", "out_shape"), FAKES.values(), ids=FAKES.keys())
def test_anything_with_a_and_adjoint_becomes_an_operator(make, out_shape, count):
    physics = make()
    operator = from_deepinv(physics, SHAPE)
    assert (operator.in_shape, operator.out_shape) == (SHAPE, out_shape)
    check(operator, physics, count)


def test_pseudo_inverse_is_the_one_of_our_own_operator():
    operator = from_deepinv(Physics(), SHAPE)
    y = draw(operator.out_shape, 3)
    ours = AveragePool(2).bind(SHAPE)
    torch.testing.assert_close(operator.pinv(y), ours.pinv(y), rtol=1e-4, atol=1e-4)


def test_complex_measurement_is_the_real_matrix_of_both_parts():
    matrix = dense(from_deepinv(Spectrum(), SHAPE, dtype=torch.float64))
    # Rows in pairs: the real part of every number, then its imaginary part.
    whole = torch.fft.fft2(torch.eye(3 * 96, dtype=torch.float64).view(-1, *SHAPE), norm="ortho")
    whole = (whole * Spectrum().mask).flatten(1).T
    torch.testing.assert_close(matrix[0::2], whole.real)
    torch.testing.assert_close(matrix[1::2], whole.imag)


def test_picture_is_the_measurement_where_it_is_one_and_else_its_adjoint():
    for physics, seen_itself in ((Physics(), True), (Vector(), False), (Spectrum(), False)):
        operator = from_deepinv(physics, SHAPE)
        y = draw(operator.out_shape, 6)
        wanted = y if seen_itself else operator.adjoint(y)
        assert torch.equal(operator.picture(y), wanted)


def test_what_another_physics_measured_is_refused():
    operator = from_deepinv(Stacked(Vector(), Spectrum()), SHAPE)
    for seen in (
        Vector().A(draw(SHAPE, 1)),
        Listed([Vector(19).A(draw(SHAPE, 1)), Spectrum().A(draw(SHAPE, 1))]),
        Listed([Vector().A(draw(SHAPE, 1)), Spectrum().A(draw(SHAPE, 1)).real]),
        Listed([Vector().A(draw(SHAPE, 1, 1)), Spectrum().A(draw(SHAPE, 1, 2))]),
    ):
        with pytest.raises(ValueError, match=r"expected Listed of real \(N, 20\) and complex"):
            operator.measurement(seen)
    with pytest.raises(ValueError, match="of type str; expected a tensor or a list"):
        operator.measurement("seen")


class Worded(Physics):
    def A(self, x):
        return {"y": x}


class Nothing(Physics):
    def A(self, x):
        return x[:, :0]


class Unreduced(Physics):
    def A_adjoint(self, y):
        return [super().A_adjoint(y)]


LARGE = (3, 64, 96)
"""So many numbers that random ones, being orthogonal to all, tell no wrong factor."""


@pytest.mark.parametrize(
    ("physics", "words"),
    [
        (object(), "expected a LinearPhysics"),
        (Physics(1.1, LARGE), r"is not the adjoint of its A.*adjoint_function\(A, \(1, 3, 64, 96"),
        (Physics(1.01, LARGE), "is not the adjoint of its A"),
        (Physics(shape=(3, 64, 64)), r"cannot measure one image \(3, 64, 96\).*make it for this"),
        (Worded(), "is of type dict; expected a tensor or a list"),
        (Nothing(), "measures nothing"),
        (Unreduced(shape=LARGE), r"gives a list for one measurement; expected.*\(1, 3, 64, 96\)"),
        (Moving(shape=LARGE), "in a batch unlike the same image alone"),
        (Masked(torch.ones(3, *LARGE)), r"\(3, 3, 64, 96\) of one image; expected a batch size"),
        (
            Masked(torch.ones(LARGE).double()),
            "measures torch.float64 on cpu of an image",
        ),
        (
            Masked(torch.ones(LARGE, device="meta")),
            "cannot measure.*holds torch.float32 on meta",
        ),
    ],
)
def test_what_is_no_linear_physics_for_these_images_is_refused(physics, words):
    with pytest.raises(ValueError, match=words):
        from_deepinv(physics, LARGE)


@pytest.mark.parametrize("shape", [(8, 12), (3, 0, 12)])
def test_shapes_that_are_none_of_an_image_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(channels, height, width\)"):
        from_deepinv(Physics(), shape)


def test_physics_of_another_type_serves_images_of_its_own():
    operator = from_deepinv(Masked(torch.ones(SHAPE).double()), SHAPE, dtype=torch.float64)
    assert operator.A(draw(SHAPE, 1).double()).dtype == torch.float64


REAL = {
    "Downsampling": lambda d, g: d.Downsampling(img_size=(3, 16, 24), factor=2, filter="bicubic"),
    "Blur": lambda d, g: d.Blur(filter=kernel(g), padding="circular"),
    "Blur, valid": lambda d, g: d.Blur(filter=kernel(g), padding="valid"),
    "BlurFFT": lambda d, g: d.BlurFFT(img_size=(3, 16, 24), filter=kernel(g)),
    "Inpainting": lambda d, g: d.Inpainting(img_size=(3, 16, 24), mask=0.5, rng=g),
    "Demosaicing": lambda d, g: d.Demosaicing(img_size=(3, 16, 24)),
    "Decolorize": lambda d, g: d.Decolorize(),
    "HyperSpectralUnmixing": lambda d, g: d.HyperSpectralUnmixing(M=torch.rand(3, 5, generator=g)),
    "CompressedSensing": lambda d, g: d.CompressedSensing(m=20, img_size=(3, 16, 24), rng=g),
    "CompressedSensing by channel": lambda d, g: d.CompressedSensing(
        m=20, img_size=(3, 16, 24), channelwise=True, rng=g
    ),
    "SinglePixelCamera": lambda d, g: d.SinglePixelCamera(m=50, img_size=(1, 16, 16), rng=g),
    "SinglePixelCamera, matrix": lambda d, g: d.SinglePixelCamera(
        m=50, img_size=(1, 16, 16), fast=False, rng=g
    ),
    "StructuredRandom": lambda d, g: d.StructuredRandom(
        img_size=(1, 16, 16), output_size=(1, 16, 16), rng=g
    ),
    "Tomography": lambda d, g: d.Tomography(angles=10, img_width=16, circle=False, normalize=True),
    "MRI": lambda d, g: d.MRI(mask=mask(g), img_size=(2, 16, 24)),
    "MultiCoilMRI": lambda d, g: d.MultiCoilMRI(
        mask=mask(g),
        coil_maps=torch.randn(1, 3, 16, 24, dtype=torch.complex64, generator=g),
        img_size=(2, 16, 24),
    ),
    "Ptychography": lambda d, g: d.PtychographyLinearOperator(img_size=(1, 16, 16)),
    "Pansharpen": lambda d, g: d.Pansharpen(img_size=(3, 16, 24), factor=4),
    "Stacked": lambda d, g: d.StackedLinearPhysics(
        [
            d.CompressedSensing(m=20, img_size=(3, 16, 24), rng=g),
            d.Downsampling(img_size=(3, 16, 24), factor=2, filter="gaussian"),
        ]
    ),
    "Stacked, complex": lambda d, g: d.StackedLinearPhysics(
        [
            d.SinglePixelCamera(m=50, img_size=(1, 16, 16), fast=False, rng=g),
            d.PtychographyLinearOperator(img_size=(1, 16, 16)),
        ]
    ),
    "composed": lambda d, g: (
        d.CompressedSensing(m=20, img_size=(3, 8, 12), rng=g)
        * d.Downsampling(img_size=(3, 16, 24), factor=2, filter="gaussian")
    ),
    "adjoint for one image": lambda d, g: d.LinearPhysics(
        A=roll, A_adjoint=d.adjoint_function(roll, (1, 3, 16, 24))
    ),
}
SIZES = {"MRI": (2, 16, 24), "MultiCoilMRI": (2, 16, 24)} | dict.fromkeys(
    [
        "SinglePixelCamera",
        "SinglePixelCamera, matrix",
        "StructuredRandom",
        "Tomography",
        "Ptychography",
        "Stacked, complex",
    ],
    (1, 16, 16),
)
"""Image sizes; (3, 16, 24) for all others."""


def kernel(generator):
    values = torch.rand(1, 1, 5, 5, generator=generator) + torch.eye(5)
    return values / values.sum()


def mask(generator):
    return (torch.rand(16, 24, generator=generator) > 0.5).float()


def roll(x):
    return torch.roll(x, (1, 2), (2, 3))


@pytest.fixture
def physics():
    """The module of that name of deepinv, where it is installed."""
    return pytest.importorskip("deepinv", reason="deepinv is not installed: optional").physics


def real(physics, name):
    return REAL[name](physics, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", REAL)
def test_physics_of_deepinv(physics, name, count):
    made = real(physics, name)
    check(from_deepinv(made, SIZES.get(name, (3, 16, 24))), made, count)


def test_masks_and_kernels_of_deepinv_for_a_batch_are_refused(physics):
    inpainting = physics.Inpainting(img_size=(3, 16, 24), mask=torch.ones(3, 3, 16, 24))
    blur = physics.Blur(filter=draw((1, 5, 5), 0, 3), padding="circular")
    for made, words in ((inpainting, "of one image; expected a batch"), (blur, "of batch size 1")):
        with pytest.raises(ValueError, match=words):
            from_deepinv(made, (3, 16, 24))


def test_wrong_adjoint_of_deepinv_is_replaced_as_the_error_says(physics):
    # At even sizes its shear back is a pixel off.
    made = physics.CompressiveSpectralImaging(
        img_size=(3, 16, 24), rng=torch.Generator().manual_seed(0)
    )
    with pytest.raises(ValueError, match=r"adjoint_function\(A, \(1, 3, 16, 24\)\)"):
        from_deepinv(made, (3, 16, 24))
    adjoint = physics.adjoint_function(made.A, (1, 3, 16, 24))
    repaired = physics.LinearPhysics(A=made.A, A_adjoint=adjoint)
    check(from_deepinv(repaired, (3, 16, 24)), repaired)


class Vectors(Physics):
    """Our own compressed sensing, with measurements (N, m) as deepinv has them."""

    def __init__(self, ours):
        self.ours = ours

    def A(self, x):
        return self.ours.A(x).flatten(1)

    def A_adjoint(self, y):
        return self.ours.adjoint(y.view(-1, *self.ours.out_shape))


@pytest.fixture(scope="module")
def prior():
    pytest.importorskip("diffusers", reason="the demo prior needs diffusers")
    from comfyui_flowdps.priors.diffusers import load_prior

    return load_prior(None, device="cpu", dtype="float32")


def restore(prior, method, y, operator):
    return sample(
        method,
        prior,
        Measurement(y, operator, 0.03),
        sigmas=published_sigmas(2),
        settings=preset(method, "published"),
        generators=[torch.Generator().manual_seed(k) for k in range(len(y))],
    ).latents


@pytest.mark.parametrize(
    "method", [name for name, row in METHODS.items() if "published" in row.presets]
)
def test_samplers_make_the_same_of_vectors_as_of_our_own_operator(prior, method):
    ours = WalshHadamard(0.3).bind((3, 32, 32))
    operator = from_deepinv(Vectors(ours), ours.in_shape)
    y = ours.A(0.5 * draw(ours.in_shape, 8))
    wanted = restore(prior, method, y, ours)
    got = restore(prior, method, operator.measurement(y.flatten(1)), operator)
    assert bool(wanted.isfinite().all())
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "method", [name for name, row in METHODS.items() if "published" in row.presets]
)
def test_samplers_take_lists_of_deepinv(prior, physics, method):
    generator = torch.Generator().manual_seed(0)
    made = physics.StackedLinearPhysics(
        [
            physics.CompressedSensing(m=64, img_size=(3, 32, 32), rng=generator),
            physics.Downsampling(img_size=(3, 32, 32), factor=4, filter="gaussian"),
        ]
    )
    operator = from_deepinv(made, (3, 32, 32))
    seen = made.A(0.5 * draw((3, 32, 32), 8))
    z = restore(prior, method, operator.measurement(seen), operator)
    assert z.shape == (2, prior.latent_channels, 4, 4)
    assert bool(z.isfinite().all())

"""What each family of degradations promises beyond the contract of all operators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comfyui_flowdps.operators import (
    REGISTRY,
    TASKS,
    AnisotropicBlur,
    AreaDownsample,
    AveragePool,
    Bayer,
    BilinearDownsample,
    BlockSensing,
    BoxBlur,
    Chain,
    Colorization,
    DefocusBlur,
    Interlace,
    Kernel,
    LanczosDownsample,
    Mask,
    MotionBlur,
    NearestDownsample,
    NonuniformBlur,
    Outpainting,
    WalshHadamard,
    recipe_for_task,
    recipe_from_dict,
    simulate,
)
from comfyui_flowdps.operators.blocks import random_orthonormal
from comfyui_flowdps.operators.blurs import disk
from comfyui_flowdps.operators.grey import REC601
from comfyui_flowdps.operators.hadamard import factors
from comfyui_flowdps.operators.kernel import trimmed
from comfyui_flowdps.operators.scratches import scratches
from PIL import Image


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, *shape, generator=generator, dtype=torch.float64)


def bound(recipe, x):
    return recipe.bind(tuple(x.shape[1:]), dtype=x.dtype)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 16), (13, 7)])
def test_masks_survive_packing(size):
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(1, 256, size, generator=generator).double() / 255
    for mask in ((levels > 0.3).double().clamp(min=float(size == (1, 1))), levels):
        recipe = recipe_from_dict(Mask.from_tensor(mask).to_dict())
        torch.testing.assert_close(recipe.mask(), mask)
    assert Mask.from_tensor(torch.ones(size)).depth == 1


def test_large_mask_is_short_text():
    mask = torch.ones(1024, 1024)
    mask[200:700, 300:800] = 0
    assert len(Mask.from_tensor(mask).values) < 1000


def test_mask_of_another_size_is_resized_without_blending():
    recipe = Mask.from_tensor(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    x = torch.ones(1, 3, 4, 6)
    want = torch.tensor([[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]] * 2).float()
    assert torch.equal(bound(recipe, x).A(x), want.expand(1, 3, 4, 6))


def test_a_smaller_mask_knows_only_what_was_known_whole():
    """A scratch one pixel wide stays at any size, and the value of every pixel is the least."""
    mask = torch.ones(9, 8)
    mask[:, 5] = 0.4
    mask[4] = 0
    x = torch.ones(1, 1, 3, 16)
    seen = bound(Mask.from_tensor(mask), x).A(x)[0, 0]
    assert torch.equal(seen[1], torch.zeros(16))
    assert torch.equal(seen[0], seen[2])
    torch.testing.assert_close(seen[0, 8:], torch.tensor([1, 1, 0.4, 0.4, 1, 1, 1, 1]))
    dots = torch.zeros(4, 4)
    dots[::2, 1::2] = 1
    few = torch.ones(1, 1, 2, 2)
    assert torch.equal(bound(Mask.from_tensor(dots.flip(0)), few).A(few)[0, 0], torch.ones(2, 2))
    with pytest.raises(ValueError, match="nothing is left of what the mask of 4x4 knows, at 2x2"):
        Mask.from_tensor(dots).bind((1, 2, 2))


def test_what_is_painted_is_unknown():
    painted = torch.tensor([[0.0, 0.05, 0.1], [0.5, 1.0, 0.0]])
    assert Mask.from_painted(painted).mask().tolist() == [[1, 1, 0], [0, 0, 1]]
    assert Mask.from_painted(painted, 0.6).mask().tolist() == [[1, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize(("height", "width"), [(31, 47), (5, 4)])
def test_scratches_are_thin_and_drawn_from_the_seed(height, width):
    state = torch.get_rng_state()
    one, again, other = (scratches(height, width, count=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.shape == (height, width)
    assert set(one.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(one, again)
    assert not torch.equal(one, other) or height < 9
    many = scratches(height, width, count=9, seed=1)
    thick = scratches(height, width, count=3, thickness=4, seed=1)
    assert bool((many >= one).all())
    assert bool((thick >= one).all())
    assert one.sum() < thick.sum() <= height * width


def test_trimmed_kernels_blur_the_same():
    """Without centring, a border is cut and nothing else; with it, only the place changes."""
    kernel = torch.zeros(11, 12, dtype=torch.float64)
    kernel[2:5, 6:11] = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)).double()
    x = draw(1, 17, 19)
    blurred = Kernel.from_tensor(kernel, boundary="periodic").bind((1, 17, 19)).A(x)
    still, centred = (trimmed(kernel, centre=c) for c in (False, True))
    for each in (still, centred):
        assert each.shape[0] % 2 == each.shape[1] % 2 == 1
        assert float(each.sum()) == pytest.approx(float(kernel.sum()))
    assert still.numel() < kernel.numel()
    assert centred.shape[0] < still.shape[0]
    same = Kernel.from_tensor(still, boundary="periodic").bind((1, 17, 19)).A(x)
    torch.testing.assert_close(same, blurred, atol=1e-5, rtol=0)
    t = torch.arange(centred.shape[0]) - centred.shape[0] // 2
    assert abs(float((centred.sum(1) * t).sum() / centred.sum())) <= 0.5
    moved = Kernel.from_tensor(centred, boundary="periodic").bind((1, 17, 19)).A(x)
    shifts = [blurred.roll((a, b), (2, 3)) for a in range(-5, 6) for b in range(-5, 6)]
    assert min(float((s - moved).abs().max()) for s in shifts) < 1e-5


def test_padding_of_a_masked_picture_is_unknown():
    recipe = Mask.from_tensor(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    fitted = recipe.for_padding((4, 4), (5, 8))
    x = torch.ones(1, 1, 5, 8)
    seen = bound(fitted, x).A(x)[0, 0]
    assert torch.equal(seen[:4, :4], bound(recipe, x[..., :4, :4]).A(x[..., :4, :4])[0, 0])
    assert float(seen[4:].sum() + seen[:, 4:].sum()) == 0


def test_noise_stays_out_of_holes():
    x = torch.zeros(1, 3, 8, 8)
    operator = bound(Mask.from_tensor(torch.tensor([[1.0, 0.0]])), x)
    y = simulate(x, operator, 1.0, [torch.Generator().manual_seed(0)]).y
    assert torch.equal(y != 0, operator.measured)
    assert torch.equal(operator.measured[0, 0, 0], torch.arange(8) < 4)


def test_margins_are_where_they_are_said_to_be():
    x = draw(3, 9, 11)
    recipe = Outpainting(left=1, top=2, right=3, bottom=4)
    operator = bound(recipe, x)
    assert torch.equal(operator.A(x), x[..., 2:5, 1:8])
    back = operator.pinv(operator.A(x))
    assert torch.equal(back[..., 2:5, 1:8], x[..., 2:5, 1:8])
    assert float(back.abs().sum()) == pytest.approx(float(x[..., 2:5, 1:8].abs().sum()))
    fitted = recipe.for_padding((9, 11), (12, 16))
    assert fitted.measured_size(12, 16) == recipe.measured_size(9, 11) == (3, 7)


def test_grey_stays_grey_and_luma_is_the_televisions():
    grey = draw(1, 4, 5).expand(-1, 3, -1, -1)
    for weights in ((1 / 3,) * 3, REC601, (0, 1, 0)):
        recipe = Colorization(weights)
        torch.testing.assert_close(bound(recipe, grey).A(grey), grey[:, :1])
        torch.testing.assert_close(recipe.from_photo(grey), grey[:, :1])
    red = torch.zeros(1, 3, 1, 1)
    red[0, 0] = 1
    assert float(bound(Colorization(REC601), red).A(red)) == pytest.approx(0.299)


def test_bayer_sees_one_colour_everywhere_and_green_twice():
    for pattern in ("RGGB", "BGGR", "GRBG", "GBRG"):
        filter_ = Bayer(pattern).filter(6, 8)
        assert torch.equal(filter_.sum(0), torch.ones(6, 8, dtype=torch.float64))
        assert filter_.mean((1, 2)).tolist() == [0.25, 0.5, 0.25]
        corner = ["RGB"[int(filter_[:, i, j].argmax())] for i in (0, 1) for j in (0, 1)]
        assert "".join(corner) == pattern
    x = draw(3, 5, 7)
    mosaic = bound(Bayer(), x).A(x)
    # A photo of the mosaic may be grey, as raw files are shown, or in the colours of the picture.
    assert torch.equal(Bayer().from_photo(x), mosaic)
    assert torch.equal(Bayer().from_photo(mosaic.expand(-1, 3, -1, -1)), mosaic)


def test_fields_share_the_rows_of_a_frame():
    x = draw(3, 7, 4)
    top, bottom = (bound(Interlace(field), x) for field in ("top", "bottom"))
    assert top.out_shape == (3, 4, 4)
    assert bottom.out_shape == (3, 3, 4)
    assert torch.equal(top.picture(top.A(x)) + bottom.picture(bottom.A(x)), x)
    assert torch.equal(Interlace("bottom").from_photo(x), x[..., 1::2, :])


@pytest.mark.parametrize(
    ("size", "boundary"), [(5, "symmetric"), (4, "symmetric"), (4, "periodic")]
)
def test_box_is_a_mean(size, boundary):
    x = draw(1, 12, 13)
    blurred = bound(BoxBlur(size, boundary), x).A(x)
    first = 6 - size // 2
    want = x[..., first : first + size, first : first + size].mean()
    assert float(blurred[0, 0, 6, 6]) == pytest.approx(float(want))


def test_oblique_gaussian_has_its_deviations_and_angle():
    kernel = AnisotropicBlur(61, along=6, across=2, angle=30).kernel()
    t = torch.arange(61, dtype=torch.float64) - 30
    y, x = -t[:, None], t  # Upwards, as angles are counted.
    moments = [float((kernel * a).sum()) for a in (x * x, x * y, y * y)]
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    want = [36 * c * c + 4 * s * s, (36 - 4) * c * s, 36 * s * s + 4 * c * c]
    assert moments == pytest.approx(want, rel=1e-3)


def test_disk_has_its_area_and_grows_smoothly():
    for radius in (0.0, 0.6, 3.0, 7.3):
        kernel = disk(radius)
        assert float(kernel.sum()) == pytest.approx(1)
        assert torch.equal(kernel, kernel.T)
        assert torch.equal(kernel, kernel.flip(0))
        if radius > 2:
            assert 1 / float(kernel.max()) == pytest.approx(math.pi * radius**2, rel=0.03)
        grown = disk(radius + 0.01)
        more = (len(grown) - len(kernel)) // 2
        assert float((F.pad(kernel, (more,) * 4) - grown).abs().sum()) < 0.1
    assert disk(0.0).tolist() == [[1.0]]


def test_given_kernel_is_that_of_the_motion_blur():
    motion = MotionBlur(7, seed=3)
    x = draw(1, 14, 15)
    given = Kernel.from_tensor(3 * motion.kernel())
    torch.testing.assert_close(bound(given, x).A(x), bound(motion, x).A(x), rtol=0, atol=1e-6)
    kept = Kernel.from_tensor(3 * motion.kernel(), normalise=False)
    torch.testing.assert_close(bound(kept, x).A(x), 3 * bound(motion, x).A(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("recipe", [NonuniformBlur(), NonuniformBlur("motion", count=3)])
def test_nonuniform_blur_keeps_constants_and_has_smooth_maps(recipe):
    maps = recipe.maps(40, 50)
    torch.testing.assert_close(maps.sum(0), torch.ones(40, 50, dtype=torch.float64))
    assert float(maps.min()) >= 0
    assert float(maps.diff(dim=1).abs().max()) < 0.2
    x = torch.full((1, 3, 40, 50), 0.3, dtype=torch.float64)
    torch.testing.assert_close(bound(recipe, x).A(x), x)


@pytest.mark.parametrize("boundary", ["symmetric", "periodic"])
@pytest.mark.parametrize("kind", ["defocus", "motion"])
def test_nonuniform_blur_is_the_sum_over_whole_images(kind, boundary):
    recipe = NonuniformBlur(kind, size=7, count=4, boundary=boundary)
    x, want = draw(2, 60, 47), 0
    for kernel, part in zip(recipe.kernels(), recipe.maps(60, 47), strict=True):
        blur = Kernel.from_tensor(kernel, boundary=boundary)
        want = want + part * bound(blur, x).A(x)
    torch.testing.assert_close(bound(recipe, x).A(x), want, rtol=0, atol=1e-6)


def test_lens_is_sharp_in_the_middle_and_soft_in_the_corners():
    x = draw(1, 41, 61)
    difference = (bound(NonuniformBlur(size=9, count=3), x).A(x) - x).abs()[0, 0]
    assert float(difference[18:23, 28:33].mean()) < 0.1 * float(difference[:5, :5].mean())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bilinear_is_what_torch_does_inside(scale, antialias):
    x = draw(1, 12 * scale, 10 * scale)
    ours = bound(BilinearDownsample(scale, antialias), x).A(x)
    size = (12, 10)
    want = F.interpolate(x, size, mode="bilinear", antialias=antialias)
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_lanczos_is_what_pillow_does_inside(scale):
    x = draw(1, 14 * scale, 12 * scale)
    ours = bound(LanczosDownsample(scale), x).A(x)[0, 0, 3:-3, 3:-3]
    picture = Image.fromarray(x[0, 0].float().numpy())
    want = np.asarray(picture.resize((12, 14), Image.Resampling.LANCZOS))[3:-3, 3:-3]
    torch.testing.assert_close(ours.float(), torch.from_numpy(want.copy()), rtol=0, atol=1e-5)


def test_lanczos_without_antialiasing_interpolates():
    # At an odd scale the centre of every block is a pixel, which interpolation keeps.
    x = draw(1, 15, 21)
    ours = bound(LanczosDownsample(3, antialias=False), x).A(x)
    torch.testing.assert_close(ours, x[..., 1::3, 1::3])


def test_area_is_average_pooling_and_nearest_a_choice():
    x = draw(2, 12, 18)
    for scale in (2, 3):
        torch.testing.assert_close(
            bound(AreaDownsample(scale), x).A(x), bound(AveragePool(scale), x).A(x)
        )
        size = (12 // scale, 18 // scale)
        want = F.interpolate(x, size, mode="nearest-exact")
        torch.testing.assert_close(bound(NearestDownsample(scale), x).A(x), want)


@pytest.mark.parametrize("size", [1, 2, 8, 12, 15, 64, 96])
def test_transforms_are_orthonormal_and_hadamards_where_sizes_allow(size):
    matrix = torch.ones(1, 1, dtype=torch.float64)
    for factor in factors(size):
        matrix = torch.kron(matrix, factor)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=torch.float64))
    if size & (size - 1) == 0:
        assert float((matrix.abs() - size**-0.5).abs().max()) < 1e-12


@pytest.mark.parametrize("size", [(8, 16), (6, 10), (5, 7)])
def test_whole_transform_loses_nothing_and_parts_are_orthonormal(size):
    x = draw(2, *size)
    whole = bound(WalshHadamard(1.0), x)
    torch.testing.assert_close(whole.pinv(whole.A(x)), x)
    part = bound(WalshHadamard(0.3), x)
    assert part.out_shape == (2, 1, round(0.3 * size[0] * size[1]))
    y = draw(*part.out_shape)
    torch.testing.assert_close(part.A(part.adjoint(y)), y)


def test_transform_of_rows_and_columns_is_the_kronecker_product():
    x = draw(1, 4, 6)
    operator = bound(WalshHadamard(1.0, seed=5), x)
    matrices = []
    for n in (4, 6):
        matrix = torch.ones(1, 1, dtype=torch.float64)
        for factor in factors(n):
            matrix = torch.kron(matrix, factor)
        matrices.append(matrix)
    signs = operator._signs
    want = matrices[0] @ (signs * x) @ matrices[1].T
    torch.testing.assert_close(operator.A(x).flatten(), want.flatten())
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}


def test_sensing_is_seeded_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    x = draw(3, 64, 64)
    for make in (WalshHadamard, BlockSensing):
        one, same, other = (bound(make(0.25, seed=seed), x).A(x) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.allclose(one, other)
        assert one.numel() == x.numel() // 4
    assert torch.equal(before, torch.get_rng_state())


def test_blocks_are_measured_one_by_one():
    x = draw(2, 8, 12)
    operator = bound(BlockSensing(0.5, block=4, seed=7), x)
    y = operator.A(x).view(1, 2, 8, 2, 3)
    rows = random_orthonormal(16, 7)[:8]
    torch.testing.assert_close(y[0, 1, :, 1, 2], rows @ x[0, 1, 4:8, 8:12].flatten())


@pytest.mark.parametrize("recipe", [WalshHadamard(0.3), BlockSensing(0.3)])
def test_sensing_shows_its_back_projection_and_no_photo_shows_it(recipe):
    x = draw(3, 64, 32)
    operator = bound(recipe, x)
    y = operator.A(x)
    torch.testing.assert_close(operator.picture(y), operator.adjoint(y))
    with pytest.raises(ValueError, match=r"no photo shows a measurement of cs_"):
        recipe.from_photo(x)


@pytest.mark.parametrize("task", TASKS)
def test_tasks_have_defaults_and_understand_a_number(task):
    assert recipe_for_task(task).name == task
    recipe = recipe_for_task(task, 5, seed=3)
    assert recipe.name == task
    operator = recipe.bind((3, 160, 160))
    assert operator.A(torch.zeros(1, 3, 160, 160)).shape[1:] == operator.out_shape
    assert (getattr(recipe, "seed", None) == 3) == REGISTRY[task].seeded


def test_chains_know_the_sizes_of_all_their_parts():
    chain = Chain((Outpainting(2, 2, 2, 2), AveragePool(4)))
    assert chain.image_size(5, 6) == (24, 28)
    assert chain.measured_size(24, 28) == (5, 6)
    x = draw(3, 24, 28)
    assert bound(chain, x).out_shape == (3, 5, 6)
    grey = Chain((Colorization(), AveragePool(2)))
    assert bound(grey, draw(3, 4, 6)).out_shape == (1, 2, 3)
    assert grey.from_photo(draw(3, 2, 3)).shape == (1, 1, 2, 3)
    fitted = Chain((AveragePool(2), Mask.from_tensor(torch.ones(3, 3)))).for_padding(
        (6, 6), (8, 10)
    )
    assert torch.equal(fitted.recipes[1].mask(), F.pad(torch.ones(3, 3), (0, 2, 0, 1)).double())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mask.from_tensor(torch.zeros(4, 4)), "0 everywhere; expected 1"),
        (lambda: Mask.from_painted(torch.ones(4, 4)), "covers the whole picture; expected white"),
        (lambda: Mask.from_painted(torch.full((4, 4), math.nan)), "NaN or infinite values"),
        (
            lambda: Mask.from_painted(torch.ones(1, 4, 4)),
            r"\(1, 4, 4\); expected \(height, width\)",
        ),
        (lambda: scratches(4, 4, count=0), "number of scratches is 0"),
        (lambda: scratches(4, 4, thickness=0.0), "thickness is 0.0; expected a positive"),
        (lambda: trimmed(torch.zeros(4, 4)), "the kernel is black"),
        (lambda: trimmed(torch.ones(9, 513)), "the kernel is 513 pixels long; expected at most"),
        (lambda: trimmed(torch.full((4, 4), -1.0)), "negative or infinite values"),
        (lambda: Mask.from_tensor(torch.full((4, 4), 1.5)), "outside 0 to 1"),
        (lambda: Mask.from_tensor(torch.ones(1, 4, 4)), r"\(1, 4, 4\); expected \(height, width\)"),
        (lambda: Mask(4, 4, "?"), "the mask cannot be unpacked"),
        (lambda: Mask(9, 9, Mask.from_tensor(torch.ones(4, 4)).values), "does not hold the 11"),
        (lambda: Outpainting(left=-1), "the left margin is -1"),
        (lambda: Outpainting().bind((3, 64, 99)), "leave nothing of it"),
        (lambda: Colorization((1, 1, 1)), "expected three numbers that sum to 1"),
        (lambda: Colorization().bind((1, 8, 8)), "3 channels; this one has 1"),
        (lambda: Bayer("RGBG"), "expected one of RGGB"),
        (lambda: Interlace("odd"), "expected 'top' or 'bottom'"),
        (lambda: DefocusBlur(-1), "the radius is -1"),
        (lambda: AnisotropicBlur(4), "such as 5"),
        (lambda: AnisotropicBlur(across=0), "the deviation across is 0"),
        (lambda: Kernel.from_tensor(torch.tensor([[1.0, -1.0]])), "sums to 0"),
        (lambda: Kernel.from_tensor(torch.ones(3)), "expected \\(height, width\\)"),
        (lambda: NonuniformBlur("lens"), "expected 'defocus' or 'motion'"),
        (lambda: WalshHadamard(0.0), "expected a number above 0"),
        (lambda: BlockSensing(1.5), "the ratio is 1.5"),
        (lambda: BlockSensing().bind((3, 40, 64)), "pad it to 64x64"),
        (lambda: recipe_for_task("cs_blockbased", 0.5), "how many times fewer"),
        (lambda: recipe_for_task("inpainting"), "unknown task 'inpainting'"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()

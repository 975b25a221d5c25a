"""Films, shot by shot: windows change nothing, memory is bounded, and a shot shares its noise."""

from __future__ import annotations

import pytest
import torch
from comfyui_flowdps.benchmarks.scenes import dead_leaves
from comfyui_flowdps.operators import (
    AveragePool,
    Cadence,
    Chain,
    Dust,
    Exposure,
    Fields,
    GaussianBlur,
    Identity,
    Jpeg,
    Mask,
)
from comfyui_flowdps.restoration.film import (
    FilmRestoring,
    Look,
    Treatment,
    film_restoring,
    pooled,
    pooled_noise,
)
from comfyui_flowdps.restoration.over_time import Known, find_dust, seen_again
from comfyui_flowdps.restoration.pipeline import Request
from comfyui_flowdps.samplers import preset, with_values

from ..samplers.test_samplers import CurvedPrior

REQUEST = Request(
    Identity(),
    "refine",
    with_values(preset("refine", "fast"), iterations=10),
    2,
    0.1,
    observed=True,
)


def pan(frames, speed=2, side=48, seed=1):
    scene = dead_leaves(160, seed)
    return torch.cat(
        [scene[..., 8 : 8 + side, speed * k : speed * k + side] for k in range(frames)]
    )


def noisy(x, level=0.1, seed=0):
    return x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def told(observation, request, name):
    """The frames as they were measured, as if a model had nothing to say."""
    return observation.y


def unchanged(treatment, **more):
    look = Look(treatment.request)
    return FilmRestoring(treatment, told, lambda _: look, 8, **more)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 17])
@pytest.mark.parametrize(("window", "overlap"), [(1, 0), (4, 0), (8, 3), (5, 4)])
def test_windows_keep_every_frame_in_its_place(count, window, overlap):
    x = pan(count)
    restoring = unchanged(Treatment(REQUEST, reach=0, window=window), overlap=overlap)
    got = torch.cat(list(restoring(x.split(1))))
    torch.testing.assert_close(got, x, rtol=0, atol=1e-6)


def test_cuts_divide_windows_and_every_shot_has_a_name():
    x = torch.cat([pan(7), pan(6, seed=2)])
    names = []

    def run(observation, request, name):
        names.append((name, len(observation.y)))
        return observation.y

    restoring = FilmRestoring(
        Treatment(REQUEST, reach=2, window=4), run, lambda _: Look(REQUEST), 8
    )
    assert len(list(restoring(x.split(1)))) == 13
    assert names == [("shot 1", 4), ("shot 1", 3), ("shot 2", 4), ("shot 2", 2)]
    assert restoring.shots == 2


def test_no_more_frames_are_read_than_a_window_and_its_surroundings():
    given = done = most = 0

    def frames():
        nonlocal given
        for x in pan(40, speed=0).split(1):
            given += 1
            yield x

    for _ in unchanged(Treatment(REQUEST, reach=2, window=4))(frames()):
        most = max(most, given - done)
        done += 1
    assert done == 40
    assert most <= 4 + 2


@pytest.mark.parametrize(
    ("recipe", "given", "made"),
    [(Fields(), 5, 10), (Cadence(4, (0, 1, 2)), 9, 12), (Cadence(4, (0, 1, 2)), 8, 10)],
)
def test_frames_of_films_that_have_more(recipe, given, made):
    """An incomplete cycle at the end is restored as it is."""
    x = pan(2 * made)[:made]
    y = recipe.bind(tuple(x.shape[1:])).A(x) if made == 12 or recipe == Fields() else x[:given]
    got = list(unchanged(Treatment(REQUEST, recipe, reach=2, window=3))(y[:given].split(1)))
    assert len(got) == made


def test_long_exposures_are_restored_together():
    seen = []

    def run(observation, request, name):
        seen.append(observation.recipe)
        return observation.y.repeat_interleave(3, 0)

    y = Exposure(3).bind((3, 48, 48)).A(pan(12))
    how = Treatment(REQUEST, Exposure(3), window=4)
    assert len(list(FilmRestoring(how, run, lambda _: Look(REQUEST), 8)(y.split(1)))) == 12
    assert set(seen) == {Exposure(3)}


def test_a_still_shot_of_one_noise_does_not_flicker():
    """Restored with what is shared, it moves less than frame by frame, and is nearer."""
    clean = pan(6, speed=0)
    y = noisy(clean)
    steps = {}
    for reach in (0, 2):
        got = torch.cat(
            list(film_restoring(Treatment(REQUEST, reach=reach), CurvedPrior())(y.split(1)))
        )
        assert got.shape == clean.shape
        steps[reach] = float((got[1:] - got[:-1]).square().mean())
        steps[f"error {reach}"] = float((got - clean).square().mean())
    assert steps[2] < 0.5 * steps[0]
    assert steps["error 2"] < 0.7 * steps["error 0"]


@pytest.mark.parametrize("speed", [0, 2])
def test_pixels_seen_again_have_less_noise_as_their_weights_say(speed):
    clean = pan(7, speed)
    got = seen_again(Known.of(noisy(clean)), 0.1, 3)
    error = (got.values - clean)[3].square().mean(0)
    claimed = 0.01 / got.weights[3, 0]
    assert error.mean() < 0.35 * 0.01
    assert float(error.mean() / claimed.mean()) == pytest.approx(1, abs=0.4)


def test_what_moves_by_itself_is_not_mixed():
    clean = pan(7, 0)
    for k in range(7):
        clean[k, :, 20:30, 4 + 4 * k : 14 + 4 * k] = 0.9
    got = seen_again(Known.of(noisy(clean)), 0.1, 3)
    part = (slice(3, 4), slice(None), slice(21, 29), slice(17, 25))
    assert float((got.values - clean)[part].mean().abs()) < 0.1


def test_rows_of_a_still_film_are_found_in_the_other_field():
    clean = pan(8, 0)
    y = noisy(Fields().bind(tuple(clean.shape[1:])).A(clean), 0.02)
    got = seen_again(Known.of(y).before(Fields()), 0.02, 3)
    assert float((got.weights[2:6] > 0).float().mean()) > 0.95
    error = (got.values - clean)[2:6].square().mean().sqrt()
    assert float(error) < 0.03


def test_a_dropped_frame_is_found_between_its_neighbours():
    clean, recipe = pan(8, 2), Cadence(4, (0, 1, 2))
    y = recipe.bind(tuple(clean.shape[1:])).A(clean)
    got = seen_again(Known.of(y).before(recipe), 0.02, 2)
    inside = (slice(3, 4), slice(None), slice(4, -4), slice(4, -4))
    there = (got.weights[(*inside[:1], slice(0, 1), *inside[2:])] > 0).expand(1, 3, -1, -1)
    assert float(there.float().mean()) > 0.9
    assert float((got.values - clean)[inside][there].square().mean().sqrt()) < 0.05


def test_dust_is_found_where_it_is():
    x = noisy(pan(6), 0.03)
    x[2, :, 10:14, 20:26], x[3, :, 30:33, 5:9] = 0.95, -0.95
    masks = find_dust(x, 0.03)
    assert bool((masks[2, 0, 10:14, 20:26] == 1).all())
    assert bool((masks[3, 0, 30:33, 5:9] == 1).all())
    masks[2, :, 8:16, 18:28] = masks[3, :, 28:35, 3:11] = 0
    assert float(masks.mean()) < 0.005


def test_dust_and_flicker_are_undone():
    clean = pan(8, 0)
    y = clean.clone()
    y[4, :, 10:14, 20:26] = 0.95
    y = (y + 1) * torch.tensor([1, 0.8, 1.1, 0.9, 1, 0.85, 1.1, 1.0]).view(-1, 1, 1, 1) - 1
    how = Treatment(REQUEST, flicker=True, dust=True, reach=2, window=8)
    got = torch.cat(list(film_restoring(how, CurvedPrior())(noisy(y, 0.03).split(1))))
    light = (got + 1).mean((1, 2, 3))
    assert float(light.std() / light.mean()) < 0.02
    assert float((got[4] - got[3])[:, 10:14, 20:26].abs().mean()) < 0.1


def test_estimates_are_pooled():
    blurs = [GaussianBlur(9, 1.0), GaussianBlur(9, 1.4), GaussianBlur(13, 2.0)]
    assert pooled(blurs) == blurs[1]
    assert pooled([Jpeg(30), Jpeg(32), Identity()]) == Jpeg(30)
    mask = Mask.from_tensor(torch.tensor([[1.0, 0.0]]))
    assert pooled([mask, mask]) == Identity()
    both = [Chain((b, AveragePool(2))) for b in blurs]
    assert pooled(both) == both[1]
    assert pooled_noise([0.0, 0.1]) == pytest.approx(0.1 / 2**0.5)


def test_frames_that_are_enlarged_tell_of_each_other():
    clean = pan(5, 0, 64)
    recipe = AveragePool(2)
    request = Request(recipe, "refine", REQUEST.settings, 2, 0.05, observed=True)
    y = noisy(recipe.bind(tuple(clean.shape[1:])).A(clean), 0.05)
    seen = []

    def run(observation, request, name):
        seen.append(observation.recipe)
        return torch.zeros(observation.count, 3, *observation.padded_size)

    got = list(FilmRestoring(Treatment(request), run, lambda _: Look(request), 8)(y.split(1)))
    assert got[0].shape == (1, 3, 64, 64)
    assert isinstance(seen[0], Chain)
    assert isinstance(seen[0].recipes[1], Dust)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match="window is 0; expected at least 1"):
        Treatment(REQUEST, window=0)
    with pytest.raises(ValueError, match="overlap is 4 and the window 4"):
        unchanged(Treatment(REQUEST, window=4), overlap=4)


def test_windows_are_filled_up_to_what_a_model_takes():
    """As the autoencoders of video models do, which take 1, 5, 9, ... frames."""
    x, seen = pan(13), []

    def run(observation, request, name):
        seen.append(observation.count)
        return observation.y

    def takes(count):
        return -(-(count - 1) // 4) * 4 + 1

    how = Treatment(REQUEST, reach=0, window=5)
    look = Look(REQUEST)
    got = list(FilmRestoring(how, run, lambda _: look, 8, overlap=2, takes=takes)(x.split(1)))
    torch.testing.assert_close(torch.cat(got), x, rtol=0, atol=1e-6)
    assert set(seen) == {5, 1} or set(seen) == {5}

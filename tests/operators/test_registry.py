"""The registry: every row is complete, and every recipe in it keeps what operators promise."""

from __future__ import annotations

import json

import pytest
import torch
from comfyui_flowdps.operators import REGISTRY, TASKS, recipe_for_task, recipe_from_dict
from comfyui_flowdps.operators.registry import DEGRADATIONS, FROM_FILES, meanings

from .cases import CASES, is_linear, shape_of
from .dense import draw

rows = pytest.mark.parametrize("row", DEGRADATIONS, ids=lambda row: row.name)


def recipes_of(row):
    """Those of a row, each once: its defaults, those of command line, benchmark and gallery."""
    found = [case.make(0) for case in row.bench] + [case.make() for case in row.gallery]
    if not row.file:
        found += [row.make(), *(row.make(row.default(large=large)) for large in (False, True))]
    return dict.fromkeys(found)


def test_names_are_there_once():
    assert len(REGISTRY) == len(DEGRADATIONS)
    cases = [case.name for row in DEGRADATIONS for case in row.bench]
    assert len(cases) == len(set(cases))
    assert {*TASKS, *FROM_FILES} == set(REGISTRY)
    assert not set(TASKS) & set(FROM_FILES)


def test_every_degradation_has_a_case_in_the_tests():
    assert {recipe.name for recipe in CASES.values()} == set(REGISTRY)


@rows
def test_a_row_is_complete(row):
    assert row.description[0].islower() or row.description[0].isdigit()
    assert not row.description.endswith(".")
    assert row.file in ("", "mask", "kernel")
    assert not (row.file and row.number)
    # sr_area would repeat sr_avgpool; the gallery starts with the picture itself.
    assert row.bench or row.name == "sr_area"
    assert row.gallery or row.name == "identity"


@rows
def test_recipes_of_a_row_are_named_like_it_and_survive_json(row):
    for recipe in recipes_of(row):
        assert recipe.name in (row.name, "chain")
        again = recipe_from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert again == recipe
        assert hash(again) == hash(recipe)


@rows
def test_recipes_of_a_row_have_an_adjoint_where_they_are_linear(row):
    for recipe in recipes_of(row):
        operator = recipe.bind(shape_of(recipe, (5, 7)), dtype=torch.float64)
        x = draw(operator.in_shape, 0)
        assert operator.A(x).shape[1:] == operator.out_shape
        if is_linear(recipe):
            y = draw(operator.out_shape, 1)
            left, right = (operator.A(x) * y).sum(), (x * operator.adjoint(y)).sum()
            assert abs(left - right) <= 1e-10 * x.norm() * y.norm(), (float(left), float(right))


@rows
def test_seeds_draw_what_is_random(row):
    if row.file:
        return
    assert (row.make(seed=1) != row.make(seed=2)) == row.seeded
    assert row.make(seed=3) == recipe_for_task(row.name, seed=3)


def test_every_number_is_explained():
    explained = [name for tasks in meanings().values() for name in tasks]
    assert sorted(explained) == sorted(name for name in TASKS if REGISTRY[name].number)
    for name in TASKS:
        number = REGISTRY[name].number
        assert (REGISTRY[name].default(large=True) is None) == (number is None)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "expected names with values"),
        ({"operator": "chain", "recipes": {"a": 1}}, "the recipes of a chain are"),
        ({"operator": "chain", "recipes": [1]}, "expected names with values"),
        ({"operator": "chain"}, "the recipes of a chain are None"),
        ({"operator": "sr_bicubic", "scale": "x"}, "expected a whole number"),
        ({"operator": "sr_bicubic", "scale": [4]}, "expected a whole number"),
        ({"operator": "sr_bicubic", "scale": True}, "expected a whole number"),
        ({"operator": "sr_bicubic", "scale": None}, "expected a whole number"),
        ({"operator": "sr_lanczos", "antialias": {"a": 1}}, "expected true or false"),
        ({"operator": "deblur_gauss", "boundary": []}, "expected a text"),
        ({"operator": "deblur_gauss", "sigma": float("nan")}, "expected a number"),
        ({"operator": "deblur_gauss", "sigma": 10**400}, "expected a number"),
        ({"operator": "deblur_gauss", "wide": 3}, "cannot read the operator deblur_gauss"),
        ({"operator": "colorization", "weights": [1, {}, 0]}, "expected numbers"),
        ({"operator": "jpeg", "luma": [[1] * 64]}, "expected numbers or nothing"),
    ],
)
def test_saved_values_of_another_kind_are_refused(values, words):
    """By a sentence, before anything is made of them."""
    with pytest.raises(ValueError, match=words) as told:
        recipe_from_dict(values)
    assert "\n" not in str(told.value)


HUGE = (1e12, 10**30, float("inf"), float("nan"), -1)


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("task", [row.name for row in DEGRADATIONS if row.number])
def test_numbers_beyond_all_pictures_are_refused_at_once(task, number):
    """Before a kernel or a picture of that size is made."""
    ratios = task.startswith("cs_") and number in (1e12, 10**30)
    if ratios:  # One value is measured.
        assert recipe_for_task(task, number).to_dict()["ratio"] == 1 / number
        return
    with pytest.raises(ValueError, match="expected"):
        recipe_for_task(task, number)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 0.5, "1", True])
@pytest.mark.parametrize("task", [row.name for row in DEGRADATIONS if row.seeded])
def test_a_seed_is_a_whole_number_of_64_bits(task, seed):
    with pytest.raises(ValueError, match=r"the seed is .*; expected a whole number of 64 bits"):
        recipe_for_task(task, seed=seed)
    assert recipe_for_task(task, seed=2**63 - 1).to_dict()["seed"] == 2**63 - 1


def test_the_narrowest_blur_is_none():
    recipe = recipe_from_dict({"operator": "deblur_gauss", "size": 5, "sigma": 1e-300})
    x = draw((3, 16, 16), 0).float()
    torch.testing.assert_close(recipe.bind((3, 16, 16)).A(x), x)

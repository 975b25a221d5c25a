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

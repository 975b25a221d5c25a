"""What cannot work is refused by the first node that can know, in words that an artist knows."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from comfyui_flowdps.operators import BicubicDownsample, Colorization, Identity, WalshHadamard
from comfyui_flowdps.operators.observation import Observation

from .test_agreement import attempt

PHOTO = torch.rand(1, 20, 30, 3, generator=torch.Generator().manual_seed(1))
ENCODED = {"operator": Identity(), "mode": "observed", "noise": 0.03, "seed": 0}
BLUR = {"family": "automatic", "noise": 0.0, "size": 31}
CASES = {
    "an empty batch": (
        ("measurement", "EncodeMeasurement", ENCODED | {"image": PHOTO[:0]}),
        "the image holds no picture: look at the node that made it",
    ),
    "no picture": (
        ("measurement", "EncodeMeasurement", ENCODED | {"image": PHOTO[..., :2]}),
        "the image is no picture of 1, 3 or 4 channels (its numbers are 1 x 20 x 30 x 2)",
    ),
    "too large": (
        (
            *("measurement", "EncodeMeasurement"),
            ENCODED | {"image": torch.zeros(1, 16, 4000, 3), "operator": BicubicDownsample(2)},
        ),
        "the restoration would be 8000x32 pixels (width x height); expected at most 4096 a side:"
        " choose a smaller picture, scale or margin",
    ),
    "too large by itself": (
        (
            "measurement",
            "EncodeMeasurement",
            ENCODED | {"image": torch.zeros(1, 16, 4100, 3)},
        ),
        "expected at most 4096 a side: choose a smaller picture",
    ),
    "a photo that would grow too large": (
        (
            *("photo", "RestorePhoto"),
            dict.fromkeys(("model", "vae"), None)
            | {"wrong": "small", "strength": "as found", "invent": 0.5, "enlarge": 0}
            | {"effort": "fast", "seed": 0, "image": torch.rand(1, 40, 1100, 3)},
        ),
        "the restoration would be 4400x160 pixels (width x height); expected at most 4096 a side",
    ),
    "a film of an unknown kind": (
        (
            *("film", "RestoreFilm"),
            dict.fromkeys(("model", "vae"), None)
            | {"wrong": "grainy", "over_time": "sideways", "flicker": False, "effort": "fast"}
            | {"seed": 0, "image": PHOTO},
        ),
        "over_time is 'sideways'; expected one of nothing; fields, top first",
    ),
    "a film that would grow too large": (
        (
            *("film", "RestoreFilm"),
            dict.fromkeys(("model", "vae"), None)
            | {"wrong": "small", "over_time": "nothing", "flicker": False, "effort": "fast"}
            | {"seed": 0, "image": torch.rand(1, 40, 1100, 3)},
        ),
        "the restoration would be 4400x160 pixels (width x height); expected at most 4096 a side",
    ),
    "several photos, several versions": (
        (
            *("measurement", "EncodeMeasurement"),
            ENCODED | {"image": PHOTO.repeat(2, 1, 1, 1), "batch_size": 3},
        ),
        "batch_size is 3 and there are 2 images",
    ),
    "a photo that is too low": (
        ("estimation", "EstimateBlur", BLUR | {"image": torch.rand(1, 16, 4000, 3)}),
        "the photo is 4000x16 pixels (width x height); expected at least 32 a side",
    ),
    "two photos": (
        ("estimation", "EstimateBlur", BLUR | {"image": torch.rand(2, 64, 64, 3)}),
        "there are 2 photos; expected one, since each has a damage of its own",
    ),
    "sensing, then shrinking": (
        ("resampling", "BicubicNode", {"scale": 2, "operator": WalshHadamard(0.25)}),
        "cs_walshhadamard measures numbers and no picture, so that sr_bicubic cannot follow it",
    ),
    "grey, then grey": (
        ("camera", "ColorizationNode", {"weights": "luma", "operator": Colorization()}),
        "colorization needs a picture in colour, and what comes before it leaves 1 channel",
    ),
    "something else": (
        ("measurement", "EncodeMeasurement", ENCODED | {"image": PHOTO, "operator": "blur"}),
        "the operator is 'blur'; expected a connection to an output of a node that gives an"
        " operator",
    ),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, str]:
    """The words of every case."""
    cases = [case for case, _ in CASES.values()]
    found = attempt(tmp_path_factory.mktemp("refused"), cases)
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_one_sentence(told, name):
    assert isinstance(told[name], str), "it was not refused"
    assert CASES[name][1] in told[name]


def test_what_another_copy_made_is_refused_by_name_and_version(tmp_path, monkeypatch):
    root = Path(sys.modules["comfyui_flowdps"].__file__).parent
    older = tmp_path / "older"
    older.mkdir()
    (older / "__init__.py").write_text('__version__ = "0.0.1"\n', encoding="utf-8")
    (older / "operators").symlink_to(root / "operators", target_is_directory=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    theirs = importlib.import_module("older.operators")
    seen = importlib.import_module("older.operators.observation").Observation
    operator = theirs.BicubicDownsample(2)
    x = PHOTO.movedim(-1, 1)
    measurement = seen.from_photo(x, operator, 0.03, 8)
    assert not isinstance(measurement, Observation)
    given = {"image": torch.zeros(1, 40, 60, 3)}
    found = attempt(
        tmp_path,
        [
            ("measurement", "EncodeMeasurement", ENCODED | {"image": PHOTO, "operator": operator}),
            ("blurs", "BoxBlurNode", {"size": 3, "boundary": "symmetric", "operator": operator}),
            *(
                ("measurement", name, given | {"measurement": measurement, "tolerance": 1.2})
                for name in ("MeasurementCheck",)
            ),
            ("several", "CompareSamples", given | {"measurement": measurement}),
        ],
    )
    for words, what in zip(
        found, ("operator", "operator", "measurement", "measurement"), strict=True
    ):
        assert f"the {what} comes from another copy of this pack (older 0.0.1; this is" in words
        assert "keep only one of them in custom_nodes" in words
        assert str(tmp_path) not in words

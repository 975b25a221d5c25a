"""Named settings of each method."""

from __future__ import annotations

from dataclasses import replace

from .base import Settings

_SHRUNK = Settings(
    0.2,
    loss="squared",
    rule="adam",
    inner_steps=8,
    anchor=2.0,
    decay=1.0,
    weight="one",
    polish=0.04,
)

PRESETS: dict[str, dict[str, Settings]] = {
    "published": {
        "flowdps": Settings(step_size=15.0, inner_steps=3),
        "flowchef": Settings(step_size=15.0),
        "psld": Settings(step_size=15.0),
    },
    "tuned": {
        "flowdps": _SHRUNK,
        "flowchef": Settings(step_size=2.0, loss="residual", polish=0.04),
        "psld": Settings(step_size=3.0, polish=0.04),
    },
}
SAME_SIZE: dict[str, dict[str, Settings]] = {
    "tuned": {"flowdps": replace(_SHRUNK, step_size=0.1, renew=0.0)},
}
"""What differs for degradations that keep the image's size: there is little to invent, and noise
that is renewed only costs accuracy. Chosen by ``benchmarks/presets.py``."""


def preset(method: str, name: str = "tuned", *, same_size: bool = False) -> Settings:
    """Settings of ``method`` under the preset ``name``; ValueError for an unknown name.

    same_size: the degradation keeps the image's size, as a blur does.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    if method not in PRESETS[name]:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(PRESETS[name])}")
    special = SAME_SIZE.get(name, {}) if same_size else {}
    return special.get(method, PRESETS[name][method])

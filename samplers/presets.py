"""Named settings of each method."""

from __future__ import annotations

from dataclasses import replace

from .settings import Settings

TUNED = Settings(
    0.2,
    loss="squared",
    rule="adam",
    inner_steps=8,
    proximal_weight=2.0,
    decay=1.0,
    weight="one",
    pixel_error_std=0.04,
)
FLOWCHEF = Settings(step_size=2.0, loss="residual", pixel_error_std=0.04)
PSLD = Settings(step_size=3.0, pixel_error_std=0.04)

PRESETS: dict[str, dict[str, Settings]] = {
    "published": {
        "flowdps": Settings(step_size=15.0, inner_steps=3),
        "flowchef": Settings(step_size=15.0),
        "psld": Settings(step_size=15.0),
    },
    # A sixth less work through the decoder; the other methods have nothing to spare.
    "fast": {"flowdps": replace(TUNED, early_steps=6), "flowchef": FLOWCHEF, "psld": PSLD},
    "tuned": {"flowdps": TUNED, "flowchef": FLOWCHEF, "psld": PSLD},
}


def preset(method: str, name: str = "tuned") -> Settings:
    """Settings of ``method`` under the preset ``name``; ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    if method not in PRESETS[name]:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(PRESETS[name])}")
    return PRESETS[name][method]

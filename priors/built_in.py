"""The priors that come along, and what is known of them beside their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .base import VelocityErrors


@dataclass(frozen=True)
class BuiltIn:
    """A prior in this folder.

    name: its word on the command line. title: what the nodes call it. usual: side in pixels up to
    which it performs well, and of its tiles. velocity_errors: measured by
    ``benchmarks/velocity_error.py``; empty: not measured. own_latents: whether its latents are its
    own, not those of SD3.
    """

    name: str
    title: str
    usual: int
    velocity_errors: VelocityErrors = ()
    own_latents: bool = False

    @property
    def file(self) -> Path:
        """The weights; the error spectrum lies beside them."""
        return Path(__file__).with_name(f"{self.name}_prior.safetensors")


DEMO = BuiltIn(
    "demo",
    "built-in demo prior",
    usual=192,  # Trained at 128, it still performs well at 192.
    own_latents=True,
    velocity_errors=(
        (1.0, 1.170),
        (0.99, 1.146),
        (0.97, 1.093),
        (0.94, 1.020),
        (0.9, 0.929),
        (0.85, 0.855),
        (0.8, 0.764),
        (0.7, 0.524),
        (0.6, 0.392),
        (0.5, 0.342),
        (0.4, 0.327),
        (0.3, 0.339),
        (0.2, 0.394),
        (0.1, 0.544),
        (0.05, 0.698),
        (0.01, 0.930),
    ),
)
PHOTO = BuiltIn("photo", "built-in photo prior", usual=256)

BUILT_IN = {row.name: row for row in (DEMO, PHOTO)}
"""By name; the first is the default."""


def built_in(source: str | Path | None) -> BuiltIn | None:
    """The prior that comes along with this name or file; None means the first of them.

    None for any other source.
    """
    if source is None:
        return next(iter(BUILT_IN.values()))
    if isinstance(source, str) and source in BUILT_IN:
        return BUILT_IN[source]
    return next((row for row in BUILT_IN.values() if row.file == Path(source)), None)

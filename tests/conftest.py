"""Held-out pictures, for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

HELD_OUT = Path(__file__).parent / "data" / "heldout"


@pytest.fixture
def picture() -> Path:
    """A real picture that no model has been trained on, 128x128."""
    return min((HELD_OUT / "test").glob("*.png"))

"""What the help pages of the sampler nodes have in common, from ``tools/templates``."""

from __future__ import annotations

import re
from pathlib import Path

from ..samplers.registry import Method
from ..samplers.settings import flat

TEMPLATES = Path(__file__).with_name("templates")
ONLY = {
    "inner_steps": lambda method: method.has("inner_steps"),
    "denoise": lambda method: method.has("denoise"),
    "memory": lambda method: method.gradients,
    "tiny_vae": lambda method: method.gradients,
}
"""The inputs that only some methods have, and the messages that are about them."""


def left_out(line: str, method: Method) -> bool:
    """Whether a line is about an input that the method lacks, by its name or a message."""
    return any(
        re.match(rf"- \*\*(\"[^*]*)?{name}\b", line) and not has(method)
        for name, has in ONLY.items()
    )


def listed(names: list[str]) -> str:
    """Names as code in a sentence: a, b or c."""
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} or {last}" if first else last


def _filled(template: str, method: Method) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8").rstrip()
    lines = [line for line in text.splitlines() if not left_out(line, method)]
    notes = " ".join(f"`{name}`: {note}." for name, note in method.notes.items())
    memory = "Choose a smaller `tile_size`, a smaller picture or a smaller batch."
    if method.gradients:
        memory = (
            "the gradient through the VAE needs more memory than a plain decode. Choose `memory` ="
            " `strips` or a smaller `tile_size`, a smaller picture or a smaller batch."
        )
    words = {
        "{title}": method.title,
        "{presets}": f"{listed(list(method.presets))}, default `{method.default}`",
        "{notes}": notes,
        "{steps}": str(method.steps),
        "{levels}": method.steps_note,
        "{cfg}": f"{method.cfg:g}",
        "{more}": "inner_steps" if "inner_steps" in flat(method.preset()) else "step_scale",
        "{having}": _having(method),
        "{memory}": memory,
        "{latent}": "how many restorations; this method starts from the photo itself"
        if method.own_start
        else "what to start from",
        "{stops}": _stops(method),
    }
    text = "\n".join(lines)
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _having(method: Method) -> str:
    """The presets that have ``inner_steps``, where not all have."""
    names = method.with_a("inner_steps")
    if len(names) == len(method.presets):
        return ""
    return f", in the presets {', '.join(f'`{name}`' for name in names)} only"


def _stops(method: Method) -> str:
    """The ``stop`` of every preset in words."""
    stops = {name: method.preset(name).data_step.stop for name in method.presets}
    if len(set(stops.values())) == 1:
        return f"{stops[method.default]:g} in all of them"
    return ", ".join(f"{stop:g} in `{name}`" for name, stop in stops.items())


def all_in_one(method: Method) -> str:
    """The page of ``FlowDPS_<title>Sampler`` from its inputs on."""
    return _filled("sampler.md", method)


def sampler_object(method: Method) -> str:
    """The page of ``FlowDPS_<title>SamplerObject`` below its title."""
    return _filled("sampler_object.md", method)

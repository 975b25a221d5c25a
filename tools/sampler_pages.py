"""What the help pages of the sampler nodes have in common, from ``tools/templates``."""

from __future__ import annotations

from pathlib import Path

from ..samplers.registry import Method

TEMPLATES = Path(__file__).with_name("templates")
SAME = "`fast`: the same, since nothing can be left out of this method."
FEWER = "`fast`: fewer steps at high noise, at most 0.1 dB worse where it was measured."


def _filled(template: str, method: Method) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8").rstrip()
    lines = text.splitlines()
    if not method.inner_steps:
        lines = [line for line in lines if not line.startswith("- **inner_steps**")]
    words = {
        "{title}": method.title,
        "{fast}": SAME if method.preset("fast") == method.preset() else FEWER,
        "{more}": "inner_steps" if method.inner_steps else "step_scale",
    }
    text = "\n".join(lines)
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def all_in_one(method: Method) -> str:
    """The page of ``FlowDPS_<title>Sampler`` from its inputs on."""
    return _filled("sampler.md", method)


def sampler_object(method: Method) -> str:
    """The page of ``FlowDPS_<title>SamplerObject`` below its title."""
    return _filled("sampler_object.md", method)

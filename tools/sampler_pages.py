"""What the help pages of the sampler nodes have in common, from ``tools/templates``."""

from __future__ import annotations

from pathlib import Path

from ..samplers.registry import Method, said

TEMPLATES = Path(__file__).with_name("templates")
GRADIENT = (
    "the gradient through the VAE needs more memory than a plain decode. Choose `memory` ="
    " `strips` or a smaller"
)


def _filled(template: str, method: Method) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8").rstrip()
    lines = text.splitlines()
    left_out = [] if method.inner_steps else ["- **inner_steps**"]
    if not method.through_decoder:
        left_out += ["- **memory**", "- **tiny_vae**", '- **"no tiny_vae']
    lines = [line for line in lines if not line.startswith(tuple(left_out))]
    words = {
        "{title}": method.title,
        "{choices}": _choices(list(method.presets)),
        "{default}": method.default,
        "{presets}": " ".join(f"`{name}`: {said(method, name)}" for name in method.presets),
        "{steps}": str(method.steps),
        "{said}": method.steps_said,
        "{stops}": _stops(method),
        "{memory}": GRADIENT if method.through_decoder else "choose a smaller",
        "{more}": "inner_steps" if method.inner_steps else "step_scale",
    }
    text = "\n".join(lines)
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _choices(names: list[str]) -> str:
    """Names as a list in words."""
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} or {last}" if first else last


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

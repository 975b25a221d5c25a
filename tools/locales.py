"""The words of all nodes in other languages, as ComfyUI reads them.

``tools/translations/<language>.json`` has every English phrase and its translation.
``python -m comfyui_flowdps.tools.locales`` makes ``locales/<language>/nodeDefs.json`` of them, with
the words of the nodes, and ``main.json``, with the folders of the menu and the words that
``web/degradation_operator.js`` puts on its widgets. It says which phrases have no translation yet.

The help of every node, ``web/docs/<node>/<language>.md``, is made of the same phrases. What else
``tools/translations/help/<language>.json`` says of the nodes that artists use first, and of all
samplers, is added, or takes their place. Those of ``AS_LONG`` say what the English pages say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..operators import REGISTRY
from ..samplers import METHODS
from .sampler_pages import left_out
from .schemas import schemas

PHRASES = Path(__file__).with_name("translations")
FOLDER = Path(__file__).resolve().parents[1] / "locales"
PACK = "FlowDPS"
LARGEST = 0xFFFF
"""A number input that reaches further, such as a seed, need not state its range."""
PAGES = FOLDER.parent / "web" / "docs"
SAMPLER = "Sampler"
"""How the names of those nodes end that share what the guide says of ``samplers``."""
AS_LONG = ("RestorePhoto", "RestoreFilm", "LoadFlowPrior", "DegradationOperator", SAMPLER)
"""Ends of the names of nodes whose help refers to no English page."""
LANGUAGES = ("de", "es", "fr", "ja", "ko", "zh")


def _said(name: str | None, tooltip: str | None) -> dict[str, str]:
    return {key: text for key, text in (("name", name), ("tooltip", tooltip)) if text}


def english(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Name, description, inputs and outputs of every node of ``schemas()``, by its id."""
    return {
        node["node_id"]: {
            "display_name": node["display_name"],
            "description": node["description"],
            "inputs": {i["id"]: _said(i["id"], i.get("tooltip")) for i in node["inputs"]},
            "outputs": {
                str(k): _said(o.get("display_name"), o.get("tooltip"))
                for k, o in enumerate(node["outputs"])
            },
        }
        for node in nodes
    }


def around(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """What is said apart from the nodes: the folders of the menu, and the fields of every task."""
    folders = {node["category"].split("/")[-1] for node in nodes} - {PACK}
    numbers = [row.number for row in REGISTRY.values() if row.number is not None]
    fields = {text for number in numbers for text in (number.name, number.meaning)}
    return {
        "nodeCategories": {folder: folder for folder in sorted(folders)},
        PACK: {text: text for text in sorted(fields)},
    }


def phrases(words: Any) -> Iterator[str]:
    """All texts in what ``english`` returns."""
    if isinstance(words, str):
        yield words
    else:
        for part in words.values():
            yield from phrases(part)


def translated(words: Any, known: dict[str, str]) -> Any:
    """The same with every text in another language; KeyError for one that is not ``known``."""
    if isinstance(words, str):
        return known[words]
    return {key: translated(part, known) for key, part in words.items()}


def dictionary(language: str) -> dict[str, str]:
    """Every English phrase, and what it is in ``language``."""
    return json.loads((PHRASES / f"{language}.json").read_text(encoding="utf-8"))


def guide(language: str) -> dict[str, Any]:
    """Headings in ``language``, and what is said of the nodes that artists use first."""
    return json.loads((PHRASES / "help" / f"{language}.json").read_text(encoding="utf-8"))


def _facts(given: dict[str, Any], words: dict[str, str]) -> str:
    """Range, optionality and default of an input, in brackets, as the English pages have them."""
    facts, default = [], given.get("default")
    if given.get("max", LARGEST + 1) <= LARGEST:
        facts.append(f"{given['min']:g} {words['to']} {given['max']:g}")
    if given.get("optional"):
        facts.append(words["optional"])
    if isinstance(default, str) and default:
        facts.append(f"{words['default']} `{default}`")
    elif isinstance(default, int | float) and not isinstance(default, bool):
        facts.append(f"{words['default']} {default:g}")
    return f" ({', '.join(facts)})" if facts else ""


def page(node: dict[str, Any], known: dict[str, str], told: dict[str, Any]) -> str:
    """The help of a node of ``schemas()``: ``known`` is the dictionary of the language, and
    ``told`` its ``guide``. In the guide, {a phrase} stands for its translation.
    """
    words, key = told["words"], node["node_id"].removeprefix("FlowDPS_")
    own = told["pages"].get(key, {})
    more = {**told["samplers"], **own} if key.endswith(SAMPLER) else own

    def line(name: str, tooltip: str, said: dict[str, str], facts: str = "") -> str:
        text = named(said[name]) if name in said else known[tooltip]
        if name in more.get("added", ()):
            text += "\n" + named(more["added"][name])
        return f"- **{known[name]}**{facts}: {text}".replace("\n", "\n  ")

    def named(text: str) -> str:
        return re.sub(r"\{(.*?)\}", lambda found: f"*{known[found[1]]}*", text)

    parts = [f"# {known[node['display_name']]}", known[node["description"]]]
    if more:
        parts.append(f"**{words['When to use it']}.** {named(more['when'])}")
    if node["inputs"]:
        said = more.get("inputs", {})
        lines = [line(i["id"], i["tooltip"], said, _facts(i, words)) for i in node["inputs"]]
        parts += [f"## {words['Inputs']}", "\n".join(lines)]
    said = more.get("outputs", {})
    lines = [line(o["display_name"], o["tooltip"], said) for o in node["outputs"]]
    parts += [f"## {words['Outputs']}", "\n".join(lines)]
    if more:
        parts += [f"## {words['Wiring']}", named(more["wiring"])]
        method = METHODS.get(key.removesuffix(SAMPLER).lower())
        trouble = list(more["trouble"])
        if method and not method.gradients:
            # They have no choice of memory.
            trouble = [more["without gradients"] if "`strips`" in t else t for t in trouble]
        lines = [f"- {text}" for text in trouble]
        lines = [named(each) for each in lines if not method or not left_out(each, method)]
        parts += [f"## {words['If something goes wrong']}", "\n".join(lines)]
    if not key.endswith(AS_LONG):
        parts.append(words["More"].format(f"`web/docs/{node['node_id']}.md`"))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    nodes, lacking = schemas(), False
    files = {"nodeDefs": english(nodes), "main": around(nodes)}
    for language in LANGUAGES:
        known = dictionary(language)
        missing = sorted(set(phrases(files)) - set(known))
        if missing:
            lacking = True
            for phrase in missing:
                print(f"{language}: no translation of {phrase!r}", file=sys.stderr)
            continue
        for name, words in files.items():
            file = FOLDER / language / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(translated(words, known), ensure_ascii=False, indent=1)
            file.write_text(text + "\n", encoding="utf-8")
        for node in nodes:
            file = PAGES / node["node_id"] / f"{language}.md"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(page(node, known, guide(language)), encoding="utf-8")
    return int(lacking)


if __name__ == "__main__":
    sys.exit(main())

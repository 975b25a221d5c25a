"""The words of all nodes in other languages, as ComfyUI reads them.

``tools/translations/<language>.json`` has every English phrase and its translation.
``python -m comfyui_flowdps.tools.locales`` makes ``locales/<language>/nodeDefs.json`` of them, and
says which phrases have no translation yet.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .schemas import schemas

PHRASES = Path(__file__).with_name("translations")
FOLDER = Path(__file__).resolve().parents[1] / "locales"
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


def main() -> int:
    words, lacking = english(schemas()), False
    for language in LANGUAGES:
        known = dictionary(language)
        missing = sorted(set(phrases(words)) - set(known))
        if missing:
            lacking = True
            for phrase in missing:
                print(f"{language}: no translation of {phrase!r}", file=sys.stderr)
            continue
        file = FOLDER / language / "nodeDefs.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(translated(words, known), ensure_ascii=False, indent=1)
        file.write_text(text + "\n", encoding="utf-8")
    return int(lacking)


if __name__ == "__main__":
    sys.exit(main())

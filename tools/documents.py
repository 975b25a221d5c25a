"""The tables of the documents that derive from the code, written anew.

``python -m comfyui_flowdps.tools.documents [--check]``

A table stands between the lines ``<!-- NAME: ... -->`` and ``<!-- end of NAME -->``. With
``--check`` nothing is written, and the exit code is 1 where a page is out of date.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..benchmarks.gallery import cases
from ..benchmarks.tasks import TASKS as BENCH
from ..operators.chain import Chain
from ..operators.degradation import Degradation
from ..operators.recipe import Recipe
from ..operators.registry import DEGRADATIONS, FILM, REGISTRY, TASKS, meanings
from ..samplers.registry import METHODS, Method
from ..samplers.settings import flat
from . import sampler_pages
from .schemas import schemas

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "web" / "docs").glob("*.md")),
]
BLOCK = re.compile(
    r"^(?P<indent> *)(?P<start><!-- (?P<name>[a-z -]+): .*?-->)\n.*?^ *<!-- end of (?P=name) -->$",
    re.M | re.S,
)
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.M | re.S)
"""Code in a page, which may show such lines as an example."""
LONG = 24
"""Values of more characters are left out of a table."""


def table(*rows: tuple[str, ...]) -> str:
    """A table in markdown, of a row of headings and others."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def signature(recipe: type[Recipe]) -> str:
    """A recipe's class with its parameters and their defaults."""
    parts = [
        each.name if each.default is dataclasses.MISSING else f"{each.name}={_value(each.default)}"
        for each in dataclasses.fields(recipe)
    ]
    return f"`{recipe.__name__}({', '.join(parts)})`"


def values(recipe: Recipe) -> str:
    """A recipe's class with the parameters that differ from their defaults."""
    if isinstance(recipe, Chain):
        return ", then ".join(values(each) for each in recipe.recipes)
    parts = [
        f"{each.name}={_value(value)}"
        for each in dataclasses.fields(recipe)
        if (value := getattr(recipe, each.name)) != each.default
    ]
    return f"`{type(recipe).__name__}({', '.join(parts)})`"


def _value(value: Any) -> str:
    return "…" if len(repr(value)) > LONG else repr(value)


def _number(row: Degradation) -> str:
    if row.file:
        return f"none: `--{row.file} FILE`"
    if row.number is None:
        return "none"
    return f"{row.number.meaning} ({row.number.small:g}; {row.number.large:g})"


def degradations() -> str:
    """All rows of the registry; a task's name leads to its section, where there is one."""
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")

    def link(name: str, recipe: str) -> str:
        there = f"## `{name}`: `{recipe}`" in page
        return f"[`{name}`](#{name}-{recipe.lower()})" if there else f"`{name}`"

    rows = (
        (
            link(row.name, row.recipe.__name__),
            row.description,
            signature(row.recipe),
            _number(row),
        )
        for row in DEGRADATIONS
    )
    return table(("task", "the picture is", "recipe", "its number (small; large)"), *rows)


def film() -> str:
    """The rows of what happens to a film over time."""
    rows = (
        (
            f"[`{row.name}`](#{row.name}-{row.recipe.__name__.lower()})",
            row.description,
            signature(row.recipe),
        )
        for row in FILM
    )
    return table(("name", "the film is", "recipe"), *rows)


def task_list() -> str:
    """Tasks that are chosen by name, each with what happened."""
    return "\n".join(f"- `{name}`: {REGISTRY[name].description}." for name in TASKS)


def number_list() -> str:
    """What a task's number means."""
    lines = [f"- {meaning}: {_names(tasks)}." for meaning, tasks in meanings().items()]
    unused = [name for name in TASKS if REGISTRY[name].number is None]
    return "\n".join([*lines, f"- not used: {_names(unused)}."])


def seeded_list() -> str:
    """Tasks that draw something."""
    return f"- {_names([name for name in TASKS if REGISTRY[name].seeded])}."


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def gallery() -> str:
    """The pictures of the gallery, row by row."""
    rows = ((f"`{recipe.name}`", caption, values(recipe)) for caption, recipe in cases())
    return table(("degradation", "caption", "recipe"), *rows)


def bench() -> str:
    """The cases of the benchmark, for the seed 0."""
    rows = (
        (
            name,
            values(case.make(0)),
            "added" if case.assumed_noise is None else f"none; {case.assumed_noise:g} assumed",
            case.blind or "–",
        )
        for name, case in BENCH.items()
    )
    return table(("case", "degradation", "noise", "blind run"), *rows)


@functools.cache
def _schemas() -> list[dict[str, Any]]:
    return schemas()


def degradation_nodes() -> str:
    """The nodes for a kind of damage, in the order of the menu."""
    modules = {each["module"] for each in _schemas() if each["kind"]}
    rows = (
        (
            f"[{each['display_name']}](../web/docs/{each['node_id']}.md)",
            re.split(r"\.(?: |$)", each["description"])[0],
        )
        for each in _schemas()
        if each["module"] in modules
    )
    return table(("node", "what it says"), *rows)


def _gradients(row: Method) -> str:
    if row.through_model:
        return "decoder, encoder, model"
    return "decoder" if row.preset().gradients else "none"


def methods() -> str:
    """All methods of the registry."""
    rows = (
        (
            f"`{row.name}`",
            row.title,
            row.about,
            f"`{row.settings.__name__}`",
            _gradients(row),
        )
        for row in METHODS.values()
    )
    return table(("name", "title", "what it does", "settings", "gradients through"), *rows)


def presets() -> str:
    """A table for every method: its settings by preset."""
    tables = []
    for row in METHODS.values():
        names = list(flat(row.preset()))
        values = (
            (f"`{name}`", *(str(value) for value in flat(row.preset(name)).values()))
            for name in row.presets
        )
        tables.append(table((row.title, *names), *values))
    return "\n\n".join(tables)


def sampler_nodes() -> str:
    """The all-in-one node of every method."""
    rows = (
        (
            f"[{row.title} Sampler](../web/docs/FlowDPS_{row.title}Sampler.md)",
            row.about.removesuffix("."),
        )
        for row in METHODS.values()
    )
    return table(("node", "what it does"), *rows)


def object_nodes() -> str:
    """The SAMPLER of every method."""
    rows = (
        (
            f"[{row.title} (SAMPLER)](../web/docs/FlowDPS_{row.title}SamplerObject.md)",
            f"{row.title} as a SAMPLER",
        )
        for row in METHODS.values()
    )
    return table(("node", "what it is"), *rows)


def families() -> str:
    """What the tests inside both versions of ComfyUI did with every family of models."""
    file = Path(__file__).parents[1] / "tests" / "host" / "families.json"
    rows = json.loads(file.read_text(encoding="utf-8")).values()
    hosts = sorted({key for row in rows for key in row if key[0].isdigit()})
    lines = ((row["name"], *(row.get(host, "not tried") for host in hosts)) for row in rows)
    return table(("family", *(f"ComfyUI {host}" for host in hosts)), *lines)


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods,
    "presets": presets,
    "sampler nodes": sampler_nodes,
    "object nodes": object_nodes,
    **{
        f"{row.name} sampler": functools.partial(sampler_pages.all_in_one, row)
        for row in METHODS.values()
    },
    **{
        f"{row.name} object": functools.partial(sampler_pages.sampler_object, row)
        for row in METHODS.values()
    },
    "degradations": degradations,
    "film degradations": film,
    "task list": task_list,
    "number list": number_list,
    "seeded list": seeded_list,
    "gallery": gallery,
    "bench cases": bench,
    "degradation nodes": degradation_nodes,
    "families": families,
}


def renewed(text: str) -> str:
    """A page with all its tables as they should be; ValueError for an unknown table."""

    def block(found: re.Match[str]) -> str:
        name, indent = found["name"], found["indent"]
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}; expected one of {', '.join(TABLES)}")
        lines = [found["start"], *TABLES[name]().splitlines(), f"<!-- end of {name} -->"]
        return "\n".join(indent + line for line in lines)

    parts = FENCED.split(text)
    parts[::2] = [BLOCK.sub(block, part) for part in parts[::2]]
    return "".join(parts)


def outdated() -> Iterator[tuple[Path, str]]:
    """Pages that are out of date, and their new text."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := renewed(text)) != text:
            yield page, new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    found = list(outdated())
    for page, text in found:
        print(f"{page.relative_to(ROOT)} {'is out of date' if check else 'written'}")
        if not check:
            page.write_text(text, encoding="utf-8")
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())

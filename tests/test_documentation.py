"""The documentation keeps up with the code: nodes, their inputs, operators, methods, presets."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_flowdps.operators import FILM, REGISTRY, TASKS
from comfyui_flowdps.operators.chain import Chain
from comfyui_flowdps.samplers import METHODS, GradientStep, InnerSteps, SquaredSteps, flat
from comfyui_flowdps.tools import locales

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "web" / "docs"


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m comfyui_flowdps.MODULE`` in a process of its own."""
    command = [sys.executable, "-m", f"comfyui_flowdps.{module}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent)


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict]:
    told = run("tools.schemas")
    assert told.returncode == 0, told.stderr
    return {schema["node_id"]: schema for schema in json.loads(told.stdout)}


def section(page: str, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    assert found, f"there is no section {title!r}"
    return found[1]


def named(text: str) -> dict[str, str]:
    """Name to the rest of its line, of the top-level list items ``- **name** ...``."""
    return dict(re.findall(r"^- \*\*(\w+)\*\*(.*)$", text, re.M))


def test_the_table_of_faults_names_tests_that_exist():
    table = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| ") and "**" not in line]
    guarded = rows[1:]
    assert len(guarded) > 40
    for row in guarded:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert tests, f"no test guards this kind: {row}"
        for file, name in tests:
            text = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", text, re.M), f"{file} has no {name}"


def test_every_node_has_a_page_and_every_page_a_node(schemas):
    assert {page.stem for page in PAGES.glob("*.md")} == set(schemas)


def test_pages_name_what_the_nodes_have(schemas):
    for node, schema in schemas.items():
        page = (PAGES / f"{node}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {schema['display_name']}\n"), node
        inputs, outputs = named(section(page, "Inputs")), named(section(page, "Outputs"))
        assert list(inputs) == [each["id"] for each in schema["inputs"]], node
        assert list(outputs) == [each["display_name"] for each in schema["outputs"]], node
        for title in ("Wiring", "If something goes wrong"):
            assert section(page, title).strip(), node


def test_pages_state_ranges_defaults_and_what_is_optional(schemas):
    for node, schema in schemas.items():
        page = (PAGES / f"{node}.md").read_text(encoding="utf-8")
        lines = named(section(page, "Inputs"))
        for each in schema["inputs"]:
            said = re.match(r" \(([^)]*)\)", lines[each["id"]])
            facts = said[1] if said else ""
            where = f"{node}: {each['id']} ({facts})"
            assert bool(each.get("optional")) == ("optional" in facts), where
            default = each.get("default")
            if isinstance(default, str):
                assert f"default `{default}`" in facts, where
            elif default is not None:
                assert facts.endswith(f"default {default:g}"), where
            if each.get("max", locales.LARGEST + 1) <= locales.LARGEST:
                assert f"{each['min']:g} to {each['max']:g}" in facts, where


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_every_word_is_translated(schemas, language):
    """``python -m comfyui_flowdps.tools.locales`` writes what the editor reads."""
    nodes, known = list(schemas.values()), locales.dictionary(language)
    for name, words in (("nodeDefs", locales.english(nodes)), ("main", locales.around(nodes))):
        assert set(locales.phrases(words)) <= set(known)
        file = locales.FOLDER / language / f"{name}.json"
        assert json.loads(file.read_text(encoding="utf-8")) == locales.translated(words, known)


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_help_in_other_languages_is_that_of_the_translations(schemas, language):
    """They say of the same nodes the same number of things in all languages."""
    known, told = locales.dictionary(language), locales.guide(language)
    for node, schema in schemas.items():
        page = (PAGES / node / f"{language}.md").read_text(encoding="utf-8")
        assert page == locales.page(schema, known, told)
    written = {file.parent.name for file in PAGES.glob(f"*/{language}.md")}
    assert written == set(schemas)
    first = locales.guide(locales.LANGUAGES[0])
    assert set(told["words"]) == set(first["words"])
    assert {f"FlowDPS_{name}" for name in told["pages"]} <= set(schemas)
    for here, there in ((told, first), (told["pages"], first["pages"])):
        assert set(here) == set(there)
    for here, said in (
        (told["samplers"], first["samplers"]),
        *((told["pages"][name], said) for name, said in first["pages"].items()),
    ):
        assert set(here) == set(said)
        assert len(here.get("trouble", "")) == len(said.get("trouble", ""))
        assert all(here.values())
        for part in ("inputs", "outputs", "added"):
            assert set(here.get(part, ())) == set(said.get(part, ()))


def numbers(text: str) -> set[str]:
    """Those of a page, without the names of models, and without lists that are made elsewhere."""
    text = re.sub(
        r"(?m)^ +- .*$|SD3(\.5)?|\bSD 1\.5|Diffusion \d( or 3)?(\.\d)?|Lumina 2", "", text
    )
    return set(re.findall(r"\d+(?:\.\d+)?", text))


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_the_most_used_nodes_are_explained_as_fully_in_all_languages(schemas, language):
    """As many remedies as in English, for the same messages, and hardly a number less. A new method
    may come without translations."""
    long = [node for node in schemas if node.endswith(locales.AS_LONG)]
    pages = {node: PAGES / node / f"{language}.md" for node in long}
    found = [node for node in long if pages[node].is_file()]
    assert len(found) >= 10
    for node in found:
        told = pages[node].read_text(encoding="utf-8")
        english = (PAGES / f"{node}.md").read_text(encoding="utf-8")
        assert "web/docs" not in told
        remedies = english.split("## If something goes wrong")[1]
        assert told.count("\n- **") == english.count("\n- **"), node
        for message in re.findall(r'\*\*("[^"]+")\*\*', remedies):
            assert message in told, (node, message)
        assert len(numbers(english) - numbers(told)) <= 0.1 * len(numbers(english)), node
        assert ("`strips`" in told) == ("`strips`" in english), node


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_translations_are_in_their_language_and_keep_numbers(language):
    for phrase, text in locales.dictionary(language).items():
        assert text.strip()
        numbers = re.findall(r"\d+(?:\.\d+)?", phrase)
        assert set(numbers) <= set(re.findall(r"\d+(?:\.\d+)?", text)), phrase
        if len(phrase.split()) > 4:
            assert text != phrase
    own = {"zh": "一-鿿", "ja": "ぁ-ヿ", "ko": "가-힣"}.get(language)
    sentences = [t for p, t in locales.dictionary(language).items() if len(p.split()) > 4]
    if own:
        assert all(re.search(f"[{own}]", text) for text in sentences)


def test_every_input_and_output_has_a_tooltip(schemas):
    for node, schema in schemas.items():
        assert schema["description"], node
        for each in schema["inputs"] + schema["outputs"]:
            assert each.get("tooltip"), f"{node}: {each}"


def test_the_table_of_nodes_is_complete(schemas):
    table = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(.+?)\]\(\.\./web/docs/(\w+)\.md\) \|", table, re.M)
    assert sorted(rows) == sorted((s["display_name"], node) for node, s in schemas.items())


def test_tables_are_up_to_date():
    """``python -m comfyui_flowdps.tools.documents`` writes them anew."""
    told = run("tools.documents", "--check")
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_degradation_has_a_node_and_is_explained_where_tasks_are_chosen(schemas):
    kinds = [schema["kind"] for schema in schemas.values() if schema["kind"]]
    assert sorted(kinds) == sorted(REGISTRY)
    task, number, seed = schemas["FlowDPS_DegradationOperator"]["inputs"][:3]
    assert task["options"] == list(TASKS)
    lines = task["tooltip"].splitlines()
    assert lines == [f"{name}: {REGISTRY[name].description}." for name in TASKS]
    for name in TASKS:
        assert name in number["tooltip"]
        assert (name in seed["tooltip"]) == REGISTRY[name].seeded


OPERATORS = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`: `(\w+)`$", OPERATORS, re.M))
CLASSES = {row.recipe.__name__: row.recipe for row in (*REGISTRY.values(), *FILM)} | {
    "Chain": Chain
}


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_on_operators_are_complete(name):
    cls, text = CLASSES[SECTIONS[name]], section(OPERATORS, f"`{name}`.*?")
    assert cls.name == name
    for field in dataclasses.fields(cls):
        assert f"`{field.name}`" in text, field.name
    for part in ("Adjoint", "Pseudo-inverse"):
        assert part in text, part


def test_settings_are_documented():
    """Those of the methods on the page, each once; the tables of presets derive."""
    text = (ROOT / "docs" / "samplers.md").read_text(encoding="utf-8")
    written = re.findall(r"^- `(\w+)`:", section(text, "Settings"), re.M)
    assert len(written) == len(set(written))
    rows = [row for row in METHODS.values() if f"`{row.settings.__name__}`):" in text]
    assert len(rows) >= 3
    known = [flat(row.preset()) for row in rows] + [
        flat(step(1.0)) for step in (GradientStep, InnerSteps, SquaredSteps)
    ]
    assert set(written) == {name for values in known for name in values}


def test_links_between_documents_lead_somewhere():
    for file in [*(ROOT / "docs").glob("*.md"), *PAGES.glob("*.md")]:
        text = file.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (file.parent / target).exists(), f"{file.name}: {target}"

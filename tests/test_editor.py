"""What the pack adds to ComfyUI's editor, run by node in the place of a browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .test_project import ROOT

PACK = "ComfyUI-FlowDPS main"
MAIN = f"""
import {{ app, extensions }} from './scripts/app.js'
import {{ api }} from './scripts/api.js'
await import('./extensions/{PACK.replace(" ", "%20")}/templates.js')
for (const each of extensions) await each.init?.(app)
const all = await api.getWorkflowTemplates()
console.log(all['{PACK}'].join(' '), all.other.join(' '), await api.getWorkflowTemplates() === all)
"""
APP = """
export const extensions = []
export const app = { registerExtension: (each) => extensions.push(each) }
"""
API = f"""
const served = {{ '{PACK}': ['photo_02', 'photo_10', 'photo_01'], other: ['z', 'a'] }}
export const api = {{ served, async getWorkflowTemplates() {{ return this.served }} }}
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_templates_are_shown_in_the_order_of_their_names(tmp_path):
    """The host lists a folder in any order. Those of other packs stay as they are."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "app.js").write_text(APP)
    (tmp_path / "scripts" / "api.js").write_text(API)
    shutil.copytree(ROOT / "web", tmp_path / "extensions" / PACK)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "main.js").write_text(MAIN)
    run = subprocess.run(["node", "main.js"], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout == "photo_01 photo_02 photo_10 z a true\n", run.stderr


def test_the_readme_names_the_first_template():
    first = min(Path(ROOT, "workflows").glob("*.json")).stem
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"pick\n*{first}*, press *Run*" in readme

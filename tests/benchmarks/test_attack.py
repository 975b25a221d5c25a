"""The attack on the command: a small part of it, and that it sees what it looks for."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

COUNT = 60


def test_hostile_inputs_end_in_success_or_one_sentence():
    """python -m comfyui_flowdps.benchmarks.attack --count 1000 has more of them."""
    command = [sys.executable, "-m", "comfyui_flowdps.benchmarks.attack"]
    run = subprocess.run(
        [*command, "--count", str(COUNT), "--seed", "16", "--apart", "0"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"0 of {COUNT} broke the law" in run.stdout
    for kind in ("picture", "painted", "numbers", "recipe"):
        assert f"{kind}: refused" in run.stdout


CULPRITS = {
    "pass": "",
    "raise KeyError('x')": "KeyError",
    "raise ValueError('two\\nlines')": "not one sentence",
    "open(outside, 'w')": "writes",
    "os.mkdir(outside)": "writes",
    "os.symlink('x', outside)": "writes",
    "__import__('subprocess').run(['true'])": "subprocess.Popen",
    "kept.append(bytearray(2 * 10**9))": "MiB",
    "print('Traceback', file=sys.stderr)": "unplanned",
    "(here / 'good.png').write_text('x')": "changed",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is told by Linux alone")
def test_the_law_sees_what_breaks_it(tmp_path):
    """In a process of its own: what watches it cannot be taken off again."""
    code = textwrap.dedent(
        """
        import os, sys, tempfile
        from pathlib import Path
        from comfyui_flowdps.benchmarks.attack import Attack, Watch, carry_out

        watch, kept = Watch(), []
        for k, body in enumerate(sys.argv[2:]):
            here = Path(sys.argv[1], str(k))
            here.mkdir()
            (here / "good.png").write_text("good")
            outside = str(here / "outside")
            known = {**globals()}
            verdict = carry_out(Attack(call=lambda: exec(body, known)), here, watch)
            print("; ".join(verdict.faults).replace("\\n", " "))
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *CULPRITS], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    for (body, words), said in zip(CULPRITS.items(), run.stdout.split("\n"), strict=False):
        assert (words in said) if words else (said == ""), (body, said)

"""The attack on the command: that it sees what it looks for, and a small, fast part of it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

COUNT = 30

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
def test_hostile_inputs_and_what_would_break_the_law(tmp_path):
    """In a process of its own: what watches it cannot be taken off again.

    python -m comfyui_flowdps.benchmarks.attack --count 1000 has more, also with models.
    """
    code = textwrap.dedent(
        """
        import os, sys, tempfile
        from pathlib import Path
        from comfyui_flowdps.benchmarks.attack import ATTACKS, Attack, Watch, attacks, carry_out

        watch, kept = Watch(), []
        for k, body in enumerate(sys.argv[2:]):
            here = Path(sys.argv[1], str(k))
            here.mkdir()
            (here / "good.png").write_text("good")
            outside = str(here / "outside")
            known = {**globals()}
            verdict = carry_out(Attack(call=lambda: exec(body, known)), here, watch)
            print("; ".join(verdict.faults).replace("\\n", " "))
        kinds = [kind for kind in ATTACKS if kind != "model"]
        for number, kind, verdict in attacks(COUNT, 16, kinds=kinds, watch=watch):
            print(number, kind, verdict.code, verdict.faults)
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", code.replace("COUNT", str(COUNT)), str(tmp_path), *CULPRITS],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.split("\n")[:-1]
    seen, cases = lines[: len(CULPRITS)], lines[len(CULPRITS) :]
    for (body, words), said in zip(CULPRITS.items(), seen, strict=True):
        assert (words in said) if words else (said == ""), (body, said)
    assert [line for line in cases if not line.endswith(" []")] == []
    assert len(cases) == COUNT
    assert {line.split()[2] for line in cases} == {"0", "2"}, "some succeed and some are refused"

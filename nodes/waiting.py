"""The host's progress bar and its Cancel, for work that is no sampling."""
# pyright: reportMissingImports=false

from __future__ import annotations

import comfy.model_management
import comfy.utils

from ..estimation.progress import Progress


def waiting() -> Progress:
    """Progress that the host shows on the node, and that ends with its exception on Cancel."""
    bar, shown = comfy.utils.ProgressBar(100), -1

    def report(done: float) -> None:
        nonlocal shown
        comfy.model_management.throw_exception_if_processing_interrupted()
        if (percent := int(100 * done)) > shown:
            shown = percent
            bar.update_absolute(percent)

    return Progress(report)

"""Make a host's modules, which were loaded for inference only, differentiable.

ComfyUI runs nodes under ``torch.inference_mode``, so its weights are inference tensors, which
autograd cannot save; and it may cast or stream a weight into a temporary buffer, of which autograd
would save a stale view. This module does not import the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter, nn.Buffer) if hasattr(nn, "Buffer") else (Tensor, nn.Parameter)


def _is_inference(tensor: Tensor) -> bool:
    """Whether ``tensor`` is an inference tensor; ``is_inference`` may miss it in a Parameter."""
    try:
        return tensor.is_inference() or tensor._version < 0
    except RuntimeError:
        return True


def _same_storage(tensor: Tensor) -> Tensor:
    """A normal tensor that shares the storage of ``tensor``."""
    twin = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return twin.set_(
        tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()
    )


def replace_inference_tensors(module: nn.Module) -> None:
    """Replace inference parameters and buffers by normal ones that share their storage.

    Call outside inference mode. Quantised tensor subclasses are left unchanged. Idempotent; the
    weights of the host keep their values.
    """
    for part in module.modules():
        for key, value in part._parameters.items():
            if value is not None and type(value) in _PLAIN and _is_inference(value):
                part._parameters[key] = nn.Parameter(_same_storage(value), requires_grad=False)
            elif value is not None and value.requires_grad:
                value.requires_grad_(False)
        for key, value in part._buffers.items():
            if value is not None and type(value) in _PLAIN and _is_inference(value):
                part._buffers[key] = _same_storage(value)


def without_inference_mode(value: Any) -> Any:
    """``value`` with all tensors in nested dicts, lists and tuples cloned to normal ones.

    Objects with a tensor ``cond``, the host's conditions, are copied.
    """
    if isinstance(value, Tensor):
        return value.clone() if type(value) in _PLAIN else value
    if isinstance(value, dict):
        return {key: without_inference_mode(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return (
            type(value)(without_inference_mode(each) for each in value)
            if type(value) in (list, tuple)
            else value
        )
    if hasattr(value, "cond") and hasattr(value, "_copy_with"):
        return value._copy_with(without_inference_mode(value.cond))
    return value


def _clone(weight: Tensor, *_: Any, **__: Any) -> Tensor:
    return weight.clone()


def attention_of_images(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Single-head attention of (N, C, ...) maps by torch's kernel, which is differentiable."""
    shape = q.shape
    q, k, v = (t.flatten(2).transpose(1, 2).unsqueeze(1).contiguous() for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(shape)


@contextlib.contextmanager
def differentiable(*modules: nn.Module) -> Iterator[None]:
    """Context in which ``modules`` are differentiable with respect to their inputs.

    Weights that the host casts on the fly are cloned, and the autoencoder's attention is torch's.
    Both are undone on exit.
    """
    undo: list[Callable[[], None]] = []

    def put(part: nn.Module, name: str, value: Any) -> None:
        # Only instance attributes are restored; class attributes reappear once these are removed.
        if name in part.__dict__:
            undo.append(lambda old=part.__dict__[name]: part.__dict__.__setitem__(name, old))
        else:
            undo.append(lambda: part.__dict__.pop(name, None))
        part.__dict__[name] = value

    try:
        for module in modules:
            replace_inference_tensors(module)
            for part in module.modules():
                for name in ("weight_function", "bias_function"):
                    functions = getattr(part, name, None)
                    cast = getattr(part, "comfy_cast_weights", False) or hasattr(part, "_v")
                    if functions is not None and (cast or functions):
                        put(part, name, [*functions, _clone])
                if "optimized_attention" in part.__dict__:
                    put(part, "optimized_attention", attention_of_images)
        yield
    finally:
        for step in reversed(undo):
            step()

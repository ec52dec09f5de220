"""A device that is none: its tensors lie on the CPU, and refuse to meet tensors that were left there.

So a machine without a GPU can tell that everything is moved to one. Tensors say that they are on PyTorch's
device ``meta``, which takes part in no other computation.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
_MAY_MIX = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_", "index_put"}


class _Moved(torch.Tensor):
    """A tensor on the simulated device; ``inner`` holds its numbers."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "_Moved":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, **layout, device=DEVICE)

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def on_cpu(value: Any) -> Any:
    """Return a tensor's numbers as a tensor of the CPU."""
    return value.inner if isinstance(value, _Moved) else value


def _move(value: Any) -> Any:
    return _Moved(value) if isinstance(value, torch.Tensor) and not isinstance(value, _Moved) else value


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    moved = [tensor for tensor in tensors if isinstance(tensor, _Moved)]
    # As on a GPU, a single number may come from anywhere.
    left = [tensor for tensor in tensors if not isinstance(tensor, _Moved) and tensor.dim() > 0]
    name = func.overloadpacket.__name__
    assert not moved or not left or name in _MAY_MIX, f"{name} mixes devices"
    wanted = kwargs.get("device")
    to_device = bool(moved) if wanted is None else torch.device(wanted) == DEVICE
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    result = func(*tree_map(on_cpu, args), **tree_map(on_cpu, kwargs))
    if func._schema.is_mutable:
        return args[0] if len(func._schema.returns) == 1 and isinstance(args[0], torch.Tensor) else result
    return tree_map(_move, result) if to_device else result


class SimulatedDevice(TorchDispatchMode):
    """Within it, :data:`DEVICE` is the simulated device; in the thread that entered it alone."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def unfused(optimiser: Callable[..., Any]) -> Callable[..., Any]:
    """Return an optimiser's class that goes from tensor to tensor, which PyTorch can do on every device."""

    def build(parameters: Any, **options: Any) -> Any:
        options.pop("fused", None)
        return optimiser(parameters, foreach=False, **options)

    return build

"""torch's Adam and AdamW for processes that never compile.

Some methods of every torch optimiser have decorators that import torch's compiler when they are first called,
which is in the constructor, at every process's start. Here they are without.
"""

from inspect import unwrap

import torch
from torch.optim import Optimizer


class _Uncompiled(Optimizer):
    add_param_group = unwrap(Optimizer.add_param_group)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    state_dict = unwrap(Optimizer.state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)


def scale_rates(optimiser: Optimizer, factor: float) -> None:
    """Set every learning rate to ``factor`` times what the optimiser was made with."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])


class Adam(_Uncompiled, torch.optim.Adam):
    """:class:`torch.optim.Adam`; its step is never differentiated."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class AdamW(_Uncompiled, torch.optim.AdamW):
    """:class:`torch.optim.AdamW`; its step is never differentiated."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))

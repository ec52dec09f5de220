"""torch's optimisers for processes that never compile, and one that torch lacks.

Some methods of every torch optimiser have decorators that import torch's compiler when they are first called,
which is in the constructor, at every process's start. Here they are without.
"""

from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor
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


class SGD(_Uncompiled, torch.optim.SGD):
    """:class:`torch.optim.SGD`; its step is never differentiated."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


class Yogi(_Uncompiled):
    """Yogi (Zaheer et al., NeurIPS 2018), which torch lacks; all else is as in :class:`torch.optim.Adam`.

    Adam's mean of squares v forgets a large gradient at once if small ones follow. Here
    v ← v − (1 − β₂) sign(v − g²) g².

    Args:
        params: what is optimised.
        lr: learning rate.
        betas: β₁ of the mean of gradients, and β₂.
        eps: is added to the root of v.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, betas: tuple[float, float], eps: float):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Take a step; parameters without a gradient stay."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        if not state:
            state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(parameter)}
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        mean, squares, steps = state["exp_avg"], state["exp_avg_sq"], float(state["step"])
        mean.lerp_(gradient, 1 - first)
        squared = gradient.square()
        squares.addcmul_((squares - squared).sign(), squared, value=second - 1)
        root = (squares / (1 - second**steps)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - first**steps))

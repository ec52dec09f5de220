"""The server's training steps between their forward and their backward messages."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mucald.errors import TrainingError
from mucald.methods.split.model.segments import ForwardPass


@dataclass
class StartedStep:
    """A training step whose graph waits for the site's gradient.

    Args:
        run: the forward pass.
        total: weighted sum of the server's own losses, a scalar.
        rate: factor of the learning rates.
    """

    run: ForwardPass
    total: Tensor
    rate: float


class WaitingSteps:
    """The steps of one site that wait for their gradients, the last ``depth`` that were started.

    With depth 1 the graph waits, and the gradient meets the weights that made the features. With more, the
    steps before change these weights meanwhile, in place, so no graph could wait; what waits is the step's
    input, and its forward pass is made again at the weights that the gradient finds.

    Args:
        depth: the job's ``wire.pipeline_depth``.
    """

    def __init__(self, depth: int):
        self._depth = depth
        # The shape of the features that the site was given, and how to get at the graph.
        self._steps: dict[int, tuple[torch.Size, Callable[[], StartedStep]]] = {}

    def begin(self, step: int, forward: Callable[[], StartedStep], features: Callable[[], Tensor]) -> Tensor:
        """Begin a step and return its features x̂2 (B, L, h, w), detached.

        Args:
            step: its number within the round.
            forward: makes the forward pass with its graph and losses.
            features: makes x̂2 alone, without leaving a trace.

        Raises:
            TrainingError: see ``forward``.
        """
        if self._depth == 1:
            started = forward()
            given = started.run.second.denoised.detach()
            self._steps[step] = given.shape, lambda: started
        else:
            given = features()
            self._steps[step] = given.shape, forward
        for old in list(self._steps)[: -self._depth]:
            del self._steps[old]
        return given

    def finish(self, step: int, gradient: Tensor) -> StartedStep:
        """Return the step that ``gradient`` ∂L/∂x̂2 (B, L, h, w) belongs to; it no longer waits.

        Raises:
            TrainingError: the step does not wait, or its features have another shape; or see ``forward``.
        """
        if step not in self._steps:
            raise TrainingError(f"no forward pass of step {step} is waiting for its gradient")
        shape, graph = self._steps[step]
        if gradient.shape != shape:
            raise TrainingError(f"gradient has shape {tuple(gradient.shape)}, not {tuple(shape)}")
        del self._steps[step]
        return graph()

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()

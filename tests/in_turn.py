"""What a pipeline does, without a thread."""

from collections.abc import Callable

from torch import Tensor

from mucald.methods.split.site.pipeline import Pipeline


class InTurn(Pipeline):
    """Sends the same messages in the same order, but in the site's own thread, when one is needed."""

    def __init__(
        self,
        forward: Callable[[int], Tensor],
        backward: Callable[[int, Tensor], None],
        steps: int,
        depth: int,
    ):
        super().__init__(forward, backward, 0, depth)
        self._left = iter(range(steps))
        self._ahead: dict[int, Tensor] = {}

    def features(self, step: int) -> Tensor:
        """Ask for all that is to be asked for before the step's gradient leaves."""
        while step + self._depth - 1 not in self._ahead and (one := next(self._left, None)) is not None:
            self._ahead[one] = self._forward(one)
        return self._ahead.pop(step)

    def give(self, step: int, gradient: Tensor) -> None:
        """Send the gradient at once."""
        self._backward(step, gradient)

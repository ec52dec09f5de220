"""Time a step of the 740 296-parameter CVAE with clipping and noise, here and with Opacus, in one process.

Usage: ``python -m mucald_studies.generative.dp_step``, with the extra ``mucald-studies[opacus]``.
"""

import resource
import statistics
import time
from collections.abc import Callable

import torch

from mucald.methods.generative.nets.cvae import CVAE
from mucald.privacy.dp.steps import PrivateStep

BATCH, DIMENSION, CLASSES, REPEATS = 256, 768, 11, 5
CLIP, NOISE = 1.5, 10.0

try:
    import opacus
except ModuleNotFoundError:
    raise SystemExit("Opacus is not installed; pip install 'mucald-studies[opacus]'") from None


def model() -> CVAE:
    """Return the CVAE of the paper's sizes."""
    torch.manual_seed(0)
    return CVAE(DIMENSION, CLASSES, (256, 256, 256), 100, 0.5)


class Losses(torch.nn.Module):
    """The CVAE with its losses as output, which Opacus hooks into."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model()

    def forward(self, x: torch.Tensor, labels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the losses (B,)."""
        return self.inner.losses(x, labels, noise)


def seconds(step: Callable[[], object]) -> float:
    """Return the median time of a step, after one to warm up."""
    step()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print both times, and what each adds to the peak of memory."""
    x, labels = torch.randn(BATCH, DIMENSION), torch.arange(BATCH) % CLASSES
    noise = torch.randn(BATCH, 100)
    cvae, own = model(), PrivateStep(CLIP, NOISE, 4.0)
    optimiser, calls = torch.optim.Adam(cvae.parameters(), lr=1e-3), iter(range(10**6))

    def own_step() -> None:
        def losses(rows: torch.Tensor) -> torch.Tensor:
            return cvae.losses(x[rows], labels[rows], noise[rows])

        own.gradients(cvae, losses, BATCH, ("bench", next(calls)))
        optimiser.step()

    ours, peak = seconds(own_step), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrapped = opacus.GradSampleModule(Losses(), loss_reduction="sum")
    private = opacus.optimizers.DPOptimizer(
        torch.optim.Adam(wrapped.parameters(), lr=1e-3),
        noise_multiplier=NOISE,
        max_grad_norm=CLIP,
        expected_batch_size=BATCH,
        loss_reduction="sum",
    )

    def opacus_step() -> None:
        private.zero_grad()
        wrapped(x, labels, noise).sum().backward()
        private.step()

    theirs, added = seconds(opacus_step), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    print(f"{sum(p.numel() for p in cvae.parameters())} parameters, batch {BATCH}")
    print(f"closed form {ours:.3f} s, Opacus {opacus.__version__} {theirs:.3f} s: 1 / {theirs / ours:.1f}")
    print(f"Opacus adds {added / 1024:.0f} MiB to the peak of memory")


if __name__ == "__main__":
    main()

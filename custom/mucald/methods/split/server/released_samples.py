"""What a site has released once, for the server to train on in every round."""

import torch
from torch import Tensor

from mucald.errors import WireError

Samples = tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]
"""Latents x_t (B, L, h, w), their levels (B,), int64, and noised proxies with their mask (B, n), or None."""

_NAMES = ("latent", "level", "proxies", "mask")


class ReleasedSamples:
    """The released samples of one site, by split and number.

    What has been released cannot be taken back, so nothing here ever is: a copy that goes back to the
    beginning of a round keeps its samples, and a site that sends one again has to send the same.
    """

    def __init__(self) -> None:
        self._samples: dict[str, dict[int, tuple[Tensor, ...]]] = {}

    def add(self, split: str, first: int, samples: Samples) -> None:
        """Keep B samples, numbered from ``first``.

        Raises:
            WireError: one of them has been released before with other numbers.
        """
        latent, level, proxies = samples
        self._add(split, range(first, first + len(latent)), (latent, level, *(proxies or ())))

    def _add(self, split: str, numbers: range | list[int], tensors: tuple[Tensor, ...]) -> None:
        held = self._samples.setdefault(split, {})
        for number, *sample in zip(numbers, *tensors, strict=True):
            known = held.setdefault(number, tuple(sample))
            if len(known) != len(sample) or not all(map(torch.equal, known, sample)):
                raise WireError(f"sample {number} of {split} has been released before, and differently")

    def batch(self, split: str, numbers: Tensor) -> Samples:
        """Return the samples with ``numbers`` (B,), in that order.

        Raises:
            WireError: one of them has not been released.
        """
        held = self._samples.get(split, {})
        wanted = numbers.tolist()
        if missing := set(wanted) - held.keys():
            raise WireError(f"sample {min(missing)} of {split} has not been released")
        latent, level, *proxies = (torch.stack(part) for part in zip(*(held[i] for i in wanted), strict=True))
        return latent, level, (proxies[0], proxies[1]) if proxies else None

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds; nothing if nothing was released once."""
        tensors = {}
        for split, held in self._samples.items():
            tensors[f"{split}.number"] = torch.tensor(list(held))
            for name, part in zip(_NAMES, zip(*held.values(), strict=True), strict=False):
                tensors[f"{split}.{name}"] = torch.stack(part)
        return tensors

    def add_state(self, tensors: dict[str, Tensor]) -> None:
        """Add what :meth:`state` returned, in this process or an earlier one."""
        for split in {name.split(".")[0] for name in tensors}:
            parts = tuple(tensors[f"{split}.{name}"] for name in _NAMES if f"{split}.{name}" in tensors)
            self._add(split, tensors[f"{split}.number"].tolist(), parts)

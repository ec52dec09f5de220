"""Weights that a site's copy needs too seldom to hold them in memory."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mucald.errors import CheckpointError


class DiskTensors:
    """Tensors in a file. It belongs to this process alone; what must survive it goes into checkpoints.

    Args:
        path: the file; one from an earlier process is replaced.
        device: where the tensors are wanted.
    """

    def __init__(self, path: Path, device: torch.device):
        self._path, self._device = path, device
        self._names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._names)

    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Write ``tensors`` in the place of those that were there; none leaves nothing.

        Raises:
            CheckpointError: the disk refused them; then those that were there still are.
        """
        if not tensors:
            self._names = ()
            return
        temporary = self._path.with_name(f".{self._path.name}")
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            safetensors.torch.save_file(contiguous, temporary)
            # Renamed, because the old file may still be mapped by who has read from it.
            temporary.replace(self._path)
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(
                f"could not write {self._path}: {error}; free disk space",
                public="the server could not write weights to its disk",
            ) from error
        self._names = tuple(tensors)

    def tensors(self, names: Sequence[str]) -> Iterator[Tensor]:
        """Yield the tensors ``names``, of which one at a time is in memory if the caller keeps none.

        Raises:
            CheckpointError: the file has gone or is damaged.
        """
        try:
            with safetensors.safe_open(self._path, framework="pt") as file:
                for name in names:
                    yield file.get_tensor(name).to(self._device)
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"could not read {self._path}: {error}") from error

    def load(self) -> dict[str, Tensor]:
        """Return all of them, by name; none if there are none. Errors are those of :meth:`tensors`."""
        return dict(zip(self._names, self.tensors(self._names), strict=True)) if self._names else {}

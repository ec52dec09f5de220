"""Checkpoints that survive a crash at any moment: safetensors and JSON, written atomically, hashed.

A checkpoint is a file ``<name>.safetensors`` whose metadata holds the JSON state, and beside it
``<name>.safetensors.sha256``. Each is written under a temporary name, flushed to disk and renamed, the hash
last: a checkpoint without its hash was never complete.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mucald.errors import CheckpointError, is_full
from mucald.state.files import write_atomically

_STATE = "state"


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        path: the ``.safetensors`` file.
        tensors: what to keep, by name.
        state: JSON beside them.

    Raises:
        CheckpointError: the disk refused it; the previous checkpoint is untouched.
    """
    metadata = {_STATE: json.dumps(state)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(contiguous, metadata)
    try:
        write_atomically(path, data)
        write_atomically(_hash_path(path), hashlib.sha256(data).hexdigest().encode())
    except OSError as error:
        raise CheckpointError(
            f"could not write checkpoint {path}: {error.strerror}{'; make room' if is_full(error) else ''}",
            public=f"could not write a checkpoint: {error.strerror}",
        ) from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is missing, incomplete, or its hash is wrong.
    """
    try:
        data = path.read_bytes()
        expected = _hash_path(path).read_text().strip()
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} is missing or incomplete") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise CheckpointError(f"checkpoint {path} is damaged: its SHA-256 differs from the one beside it")
    with safetensors.safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()[_STATE])
    return safetensors.torch.load(data), state


def _hash_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


class CheckpointStore:
    """The checkpoints of one participant in one run: ``<folder>/round-007/<name>.safetensors``.

    Folder ``round-007`` holds the state after seven complete rounds; ``round-000`` the initial one.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, completed_rounds: int, name: str) -> Path:
        """Return the file of ``name`` after ``completed_rounds`` rounds."""
        return self.folder / f"round-{completed_rounds:03d}" / f"{name}.safetensors"

    def rounds(self, name: str) -> list[int]:
        """Return after how many rounds there is a complete checkpoint of ``name``, in ascending order."""
        return sorted(
            int(path.parent.name.removeprefix("round-"))
            for path in self.folder.glob(f"round-*/{name}.safetensors")
            if _hash_path(path).exists()
        )

    def scratch(self, name: str) -> Path:
        """Return the folder for what ``name`` keeps out of memory while the run is under way."""
        return self.folder / "scratch" / name

    def clear_scratch(self) -> None:
        """Delete what lies in all those folders."""
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)

    def prune(self, keep: Iterable[int]) -> None:
        """Delete the checkpoints of all other rounds."""
        kept = {f"round-{number:03d}" for number in keep}
        for folder in self.folder.glob("round-*"):
            if folder.name not in kept:
                shutil.rmtree(folder)


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return ``tensors`` with ``prefix.`` before every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return those of ``tensors`` whose name starts with ``prefix.``, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def module_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the parameters and buffers of several modules, ``<module>.<name>``."""
    return {
        name: tensor
        for part, module in modules.items()
        for name, tensor in with_prefix(part, module.state_dict()).items()
    }


def load_module_tensors(modules: Mapping[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    """Restore what :func:`module_tensors` returned."""
    for part, module in modules.items():
        module.load_state_dict(without_prefix(part, tensors))


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as flat tensors, ``<parameter index>.<quantity>``."""
    return {
        f"{index}.{quantity}": torch.as_tensor(value)
        for index, values in optimiser.state_dict()["state"].items()
        for quantity, value in values.items()
    }


def load_optimiser_tensors(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what :func:`optimiser_tensors` returned; the parameter groups stay as configured."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, quantity = name.split(".", 1)
        state.setdefault(int(index), {})[quantity] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})

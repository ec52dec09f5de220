"""A set of embeddings in one file: safetensors, or NumPy's ``.npz`` without pickle.

Tensors: ``embeddings`` float32 N x D (float64 and others are read as that), ``labels`` int64 N, ``hashes``
uint8 N x 16 (SHA-256 of each image's pixels, cut: whose images they are, whatever the backbone), and if known
``splits`` int64 N (0 train, 1 validation, 2 test) and ``reference`` float32 2 x D (mean and standard
deviation over public images). The header is JSON: in safetensors' metadata, or in an array ``header`` of one
text.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from mucald.config.schema import parse, parse_json, read_bytes
from mucald.data.files import reading
from mucald.errors import ConfigError, DataError
from mucald.state.files import write_atomically

ENDINGS = (".safetensors", ".npz")
FORMAT = 1
HASH_BYTES = 16
"""Of SHA-256 that are kept for an image."""

_HEADER = "header"
_TYPES = {
    "embeddings": torch.float32,
    "labels": torch.int64,
    "splits": torch.int64,
    "reference": torch.float32,
}
_PUBLIC = "the site's embedding set is wrong"


@dataclass(frozen=True)
class Header:
    """What is said of a set.

    Args:
        backbone: name of the network.
        weights: SHA-256 of its weights.
        preprocessing: what was done to images before it, in words.
        classes: their names in the order of their numbers.
        cases: the patient of each sample; empty where every sample is one of its own.
        groups: further labels by name, such as the hospital, one for each sample.
        epsilon: of a synthetic set, ε of what it was drawn from; None for real samples, and where nothing
            bounds it.
        delta: δ to it.
        synthetic: whether no sample is anybody's.
        space: name of the space that the numbers lie in; empty for what the backbone gives.
        format: of the file.
    """

    backbone: str
    weights: str
    preprocessing: str
    classes: tuple[str, ...]
    cases: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    epsilon: float | None = None
    delta: float | None = None
    synthetic: bool = False
    space: str = ""
    format: int = FORMAT


@dataclass(frozen=True)
class EmbeddingSet:
    """A set of embeddings, see the module."""

    header: Header
    embeddings: Tensor
    labels: Tensor
    hashes: Tensor
    splits: Tensor | None = None
    reference: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dimension(self) -> int:
        """Numbers D of an embedding."""
        return self.embeddings.shape[1]

    def case(self, row: int) -> str:
        """Return the patient of a sample."""
        return self.header.cases[row] if self.header.cases else bytes(self.hashes[row].tolist()).hex()

    def chosen(self, rows: Sequence[int]) -> "EmbeddingSet":
        """Return the samples ``rows``, in that order."""
        index, header = torch.as_tensor(list(rows), dtype=torch.int64), self.header
        groups = {name: tuple(values[row] for row in rows) for name, values in header.groups.items()}
        cases = tuple(header.cases[row] for row in rows) if header.cases else ()
        return EmbeddingSet(
            replace(header, cases=cases, groups=groups),
            self.embeddings[index],
            self.labels[index],
            self.hashes[index],
            None if self.splits is None else self.splits[index],
            self.reference,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        names = ("embeddings", "labels", "hashes", "splits", "reference")
        found = {name: getattr(self, name) for name in names}
        return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}


def write_set(path: Path, content: EmbeddingSet) -> None:
    """Write a set that its owner alone may read; the ending, of :data:`ENDINGS`, says in which form."""
    if path.suffix == ".npz":
        stream = io.BytesIO()
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in content.tensors().items()}
        np.savez(stream, **arrays | {_HEADER: np.array(json.dumps(asdict(content.header)))})
        write_atomically(path, stream.getvalue())
    else:
        write_atomically(path, set_bytes(content))
    path.chmod(0o600)


def set_bytes(content: EmbeddingSet) -> bytes:
    """Return the content of a set's safetensors file."""
    return safetensors.torch.save(content.tensors(), {_HEADER: json.dumps(asdict(content.header))})


def read_set(path: Path) -> EmbeddingSet:
    """Read and check a set.

    Raises:
        DataError: the file is missing, damaged or no set; a number is not finite or of another type; a label
            is none of the header's classes; lengths differ.
    """
    if path.suffix not in ENDINGS:
        raise DataError(f"{path}: an embedding set ends with {' or '.join(ENDINGS)}", public=_PUBLIC)
    try:
        with reading(path):
            data = read_bytes(path)
            header, tensors = _of_npz(data) if path.suffix == ".npz" else _of_safetensors(data)
        if header is None or header.get("format") != FORMAT:
            raise ConfigError("it has no header of this version; make it with 'mucald embed'")
        content = EmbeddingSet(parse(Header, header), *_known(tensors))
        _check(content)
    except ConfigError as error:
        raise DataError(f"{path}: {error}", public=_PUBLIC) from None
    return content


def _of_safetensors(data: bytes) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    tensors = safetensors.torch.load(data)
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return parse_json(metadata[_HEADER], "header") if _HEADER in metadata else None, tensors


def _of_npz(data: bytes) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    with np.load(io.BytesIO(data)) as arrays:
        header = parse_json(str(arrays[_HEADER]), "header") if _HEADER in arrays else None
        return header, {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != _HEADER}


def _known(tensors: dict[str, Tensor]) -> tuple[Any, ...]:
    for name in ("embeddings", "labels", "hashes"):
        if name not in tensors:
            raise ConfigError(f"it lacks '{name}'")
    found = dict[str, Tensor | None]()
    for name, kind in _TYPES.items():
        tensor = tensors.get(name)
        if tensor is None:
            found[name] = None
            continue
        if tensor.is_complex() or tensor.is_floating_point() != kind.is_floating_point:
            wanted = "floating point" if kind.is_floating_point else "whole numbers"
            raise ConfigError(f"{name} must be {wanted} (here {tensor.dtype}); save them as {kind}")
        found[name] = tensor.to(kind)
    return found["embeddings"], found["labels"], tensors["hashes"], found["splits"], found["reference"]


def _check(content: EmbeddingSet) -> None:
    embeddings, labels, header = content.embeddings, content.labels, content.header
    if embeddings.ndim != 2 or labels.ndim != 1 or not len(labels):
        raise ConfigError("embeddings must be samples x numbers, and labels one for each sample")
    hashes = content.hashes
    if hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES or hashes.dtype != torch.uint8:
        raise ConfigError(f"hashes must be {HASH_BYTES} bytes for each sample")
    splits = labels.new_zeros(len(labels)) if content.splits is None else content.splits
    if splits.ndim != 1 or bool(((splits < 0) | (splits > 2)).any()):
        raise ConfigError("splits must be 0 (train), 1 (validation) or 2 (test) for each sample")
    lengths = {len(embeddings), len(labels), len(header.cases or labels), len(hashes), len(splits)}
    if len(lengths | {len(values) for values in header.groups.values()}) > 1:
        raise ConfigError("embeddings, labels, hashes, cases, splits and groups are not equally many")
    if not bool(embeddings.isfinite().all()):
        row = int((~embeddings.isfinite()).any(dim=1).nonzero()[0])
        raise ConfigError(f"the embedding of sample {row} is not finite; embed its image again")
    wrong = (labels < 0) | (labels >= len(header.classes))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ConfigError(
            f"the label {int(labels[row])} of sample {row} is none of the classes 0 to "
            f"{len(header.classes) - 1} ({', '.join(header.classes)}); correct it"
        )
    reference = content.reference
    if reference is not None and reference.shape != (2, content.dimension):
        raise ConfigError(f"reference must be 2 x {content.dimension}")
    if reference is not None and (not bool(reference.isfinite().all()) or bool((reference[1] < 0).any())):
        raise ConfigError("reference must be finite, and no deviation negative; embed the images again")

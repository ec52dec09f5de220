"""Embeds a source batch by batch, and goes on where it was stopped."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mucald.data.checked import content_hash
from mucald.data.embeddings.backbones import Backbone
from mucald.data.embeddings.reference import reference_images, statistics
from mucald.data.embeddings.sets import HASH_BYTES, EmbeddingSet, Header, read_set, write_set
from mucald.data.embeddings.sources import Source, header_of
from mucald.errors import DataError, WorkspaceError
from mucald.tasks import Task

_SAVED_EVERY = 20
"""Batches, lest a machine that fails loses more."""

log = logging.getLogger(__name__)


def embed_source(source: Source, task: Task, backbone: Backbone, path: Path, batch: int) -> Iterator[int]:
    """Write the embedding set of a source; yield how many images are done, after each batch.

    What was done before a stop lies beside ``path``, and is taken up if it was made alike of the same images.

    Args:
        source: the images.
        task: their task.
        backbone: the network.
        path: the set's file.
        batch: images at once.

    Raises:
        WorkspaceError: ``path`` holds a set of another backbone or size, which is never overwritten.
        DataError: an image cannot be read, or there is none.
    """
    if not source.labels:
        raise DataError(f"there are no images to embed for {path}", public="the site has no images to embed")
    header = header_of(source, task, backbone.name, backbone.weights, backbone.preprocessing)
    if path.exists() and not _made_alike(there := read_set(path).header, header):
        raise WorkspaceError(
            f"{path} holds embeddings of {there.backbone} ({there.preprocessing}); give another file for "
            f"{backbone.name} ({backbone.preprocessing})"
        )
    partial = path.with_name(f".{path.stem}.partial.safetensors")
    done = _done(partial, header, source)
    vectors = [] if done is None else [done.embeddings]
    hashes = [] if done is None else list(done.hashes)
    if done is not None:
        log.info("%d of %d images were embedded before", len(done), len(source.labels))
    try:
        while len(hashes) < len(source.labels):
            rows = range(len(hashes), min(len(hashes) + batch, len(source.labels)))
            images = [source.read(row) for row in rows]
            vectors.append(backbone.embed(torch.stack([_prepared(image, backbone.size) for image in images])))
            hashes += [_hash(image) for image in images]
            if len(vectors) % _SAVED_EVERY == 0:
                _write(partial, source, task, backbone, vectors, hashes)
            yield len(hashes)
    finally:
        # Whether it was stopped or an image cannot be read: minutes of work are not done twice.
        if hashes:
            _write(partial, source, task, backbone, vectors, hashes)
    whole = EmbeddingSet(
        header,
        torch.cat(vectors),
        torch.tensor(source.labels),
        torch.stack(hashes),
        torch.tensor(source.splits) if source.splits else None,
        statistics(
            torch.cat([backbone.embed(part) for part in reference_images(backbone.size).split(batch)])
        ),
    )
    write_set(path, whole)
    partial.unlink(missing_ok=True)


def _write(
    path: Path, source: Source, task: Task, backbone: Backbone, vectors: list[Tensor], hashes: list[Tensor]
) -> None:
    first = Source(source.labels[: len(hashes)], source.read)
    header = header_of(first, task, backbone.name, backbone.weights, backbone.preprocessing)
    # A stop may have come after a batch's embeddings and before its hashes.
    embeddings = torch.cat(vectors)[: len(hashes)]
    write_set(path, EmbeddingSet(header, embeddings, torch.tensor(first.labels), torch.stack(hashes)))


def _made_alike(one: Header, other: Header) -> bool:
    return (one.weights, one.preprocessing) == (other.weights, other.preprocessing)


def _done(path: Path, header: Header, source: Source) -> EmbeddingSet | None:
    """Return what an earlier call has done of the same images in the same way."""
    if not path.exists():
        return None
    done = read_set(path)
    same = _made_alike(done.header, header) and done.labels.tolist() == source.labels[: len(done)]
    # The first and the last image tell whether the folder is still the same.
    if not same or any(
        not torch.equal(_hash(source.read(row)), done.hashes[row]) for row in (0, len(done) - 1)
    ):
        return None
    return done


def _prepared(image: np.ndarray, size: int) -> Tensor:
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).to(torch.float32) / 255


def _hash(image: np.ndarray) -> Tensor:
    return torch.frombuffer(bytearray(bytes.fromhex(content_hash(image))[:HASH_BYTES]), dtype=torch.uint8)

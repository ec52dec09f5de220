"""A site's joined model as TorchScript and as a MONAI bundle, each checked against the model itself."""

import io
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from mucald import randomness
from mucald.data.images import pictures
from mucald.errors import ModelError
from mucald.federation.method import TrainedModel
from mucald.inference.bundle import INFERENCE, METADATA, MODEL, READER, inference_config, metadata
from mucald.inference.volume_bundle import SCRIPTS
from mucald.inference.volumes import plan_for
from mucald.state.files import write_atomically

TOLERANCE = 1e-4
"""Largest difference of a logit; a traced network may fuse operations."""
_EXAMPLES = 2


def export(model: TrainedModel, folder: Path) -> dict[str, float]:
    """Write the bundle, the TorchScript file within it, and compare both with the joined model.

    The release's noise is within the file as constants, see :mod:`mucald.methods.split.joined`.

    Args:
        model: the trained weights and their job.
        folder: the bundle's; it is made.

    Returns:
        the largest difference of a logit over random images, of the TorchScript file read back
        (``torchscript``) and of the network that the bundle's configuration builds (``bundle``).

    Raises:
        ModelError: a difference is larger than :data:`TOLERANCE`.
    """
    joined = model.network()
    shape = input_shape(model)
    traced = trace(joined, shape)
    # By way of memory, since a full disk would end torch itself.
    archive = io.BytesIO()
    torch.jit.save(traced, archive)
    write_atomically(folder / MODEL, archive.getvalue())
    copied = {READER: pictures} if model.task.input == "image" else SCRIPTS
    for part, module in copied.items():
        write_atomically(folder / part, Path(module.__file__ or "").read_bytes())
    for part, content in ((METADATA, metadata(model)), (INFERENCE, inference_config(model))):
        text = json.dumps(content, indent=2, ensure_ascii=False)
        write_atomically(folder / part, f"{text}\n".encode())
    return check_export(joined, folder, shape)


def input_shape(model: TrainedModel) -> tuple[int, ...]:
    """Return the shape of a sample without its batch: (3, S, S), or channels and a patch of a volume."""
    if model.task.input == "volume":
        return (model.task.channels, *plan_for(model.config.data, model.task).patch_size)
    return (3, model.config.data.image_size, model.config.data.image_size)


def trace(joined: nn.Module, shape: tuple[int, ...]) -> torch.jit.ScriptModule:
    """Trace a joined model; the result takes batches of any size of samples of that shape."""
    with warnings.catch_warnings():
        # Shapes and levels that are checked in Python become constants: S is fixed, and so is the level.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # Its own check would compare the model with itself on the very same input.
        traced = torch.jit.trace(joined, _examples(_EXAMPLES, shape), check_trace=False)
    assert isinstance(traced, torch.jit.ScriptModule)
    return traced


@torch.no_grad()
def check_export(joined: nn.Module, folder: Path, shape: tuple[int, ...]) -> dict[str, float]:
    """Compare what lies in ``folder`` with the joined model, on random samples in batches of one and three.

    Returns:
        see :func:`export`.

    Raises:
        ModelError: a difference is larger than :data:`TOLERANCE`, or a batch of another size is refused.
    """
    # Imported here: MONAI takes seconds to import.
    from monai.bundle import ConfigParser

    parser = ConfigParser(json.loads((folder / INFERENCE).read_text(encoding="utf-8")))
    parser["bundle_root"] = str(folder)
    networks = {
        "torchscript": torch.jit.load(folder / MODEL, map_location="cpu"),
        "bundle": parser.get_parsed_content("network_def"),
    }
    differences = {}
    for name, network in networks.items():
        found = []
        for count in (1, _EXAMPLES + 1):
            images = _examples(count, shape)
            try:
                found.append(float((network(images) - joined(images)).abs().max()))
            except RuntimeError as error:
                raise ModelError(f"the exported {name} refuses a batch of {count}: {error}") from None
        differences[name] = max(found)
        # Written so that NaN is refused too.
        if not differences[name] <= TOLERANCE:
            raise ModelError(
                f"the exported {name} differs from the model by {differences[name]:.2g}, "
                f"more than {TOLERANCE}"
            )
    return differences


def _examples(count: int, shape: tuple[int, ...]) -> Tensor:
    draws = randomness.generator("export", count).random((count, *shape), dtype="float32")
    return torch.from_numpy(draws)

"""Prediction of a volume beside MONAI's ``sliding_window_inference`` called directly, with one network."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets.dynunet import DynUNet
from numpy.typing import NDArray
from torch import Tensor, nn

from mucald import randomness
from mucald.config.common import VolumePlan
from mucald.data.images.geometry import Geometry
from mucald.data.images.stored import Stored
from mucald.data.volumes.intensity import normalised
from mucald.data.volumes.reading import ReadVolume, Turn
from mucald.inference.volumes import Mirrored, VolumePredictor
from mucald.tasks import get_task
from mucald.training.windows import OVERLAP
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.reporting.page import Table

TASK = get_task("heart")
LIMIT = 1.1
OURS, DIRECT = "mucald", "MONAI directly"
WAYS = ("as it is", "mirrored")

Mask = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class WindowPlan:
    """What is measured.

    Args:
        size: of the volume.
        patch: size of the window.
        features: widths of the network, MONAI's DynUNet.
        repeats: the median of so many counts.
        mirrored: also the mean over all eight ways to mirror.
    """

    size: tuple[int, ...]
    patch: tuple[int, ...]
    features: tuple[int, ...]
    repeats: int
    mirrored: bool


@dataclass(frozen=True)
class Found:
    """Processor seconds by who predicts, and whether both have the same mask."""

    seconds: Mapping[str, float]
    same: bool


def measure(plan: WindowPlan) -> dict[str, Found]:
    """Return what was found, by way; both predict in turns, and the median counts.

    Seconds are the processor's, of one thread, so that other programs hardly count.
    """
    torch.set_num_threads(1)
    network = _network(plan.features)
    volume = _volume(plan.size)
    return {
        way: _timed(
            {
                OURS: _ours(Mirrored(network) if way == "mirrored" else network, volume, plan.patch),
                DIRECT: _directly(network, volume, plan.patch, way == "mirrored"),
            },
            plan.repeats,
        )
        for way in WAYS[: 1 + plan.mirrored]
    }


def _network(features: Sequence[int]) -> nn.Module:
    strides = [1] + [2] * (len(features) - 1)
    with randomness.seeded_initialisation("windows"):
        network = DynUNet(
            3, TASK.channels, TASK.n_classes, [3] * len(features), strides, strides[1:], filters=features
        )
    return network.eval()


def _volume(size: Sequence[int]) -> ReadVolume:
    values = randomness.normal((TASK.channels, *size), "volume").numpy()
    shape = (size[0], size[1], size[2])
    geometry = Geometry(shape, np.eye(4), told=True, unit="mm")
    turn = Turn(np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]))
    return ReadVolume(values, (1.0, 1.0, 1.0), geometry, turn, Stored(values, "drawn"))


def _ours(network: nn.Module, volume: ReadVolume, patch: Sequence[int]) -> Mask:
    fits = VolumePlan(spacing=(1.0, 1.0, 1.0), patch_size=tuple(patch))
    predictor = VolumePredictor(network, TASK, fits, torch.device("cpu"))
    return lambda: predictor.mask(volume)


def _directly(network: nn.Module, volume: ReadVolume, patch: Sequence[int], mirrored: bool) -> Mask:
    inputs = torch.from_numpy(normalised(volume.values, ()))[None]
    ways: list[tuple[int, ...]] = [()]
    if mirrored:
        ways += [way for count in (1, 2, 3) for way in combinations((2, 3, 4), count)]

    def logits(way: tuple[int, ...]) -> Tensor:
        found = sliding_window_inference(inputs.flip(way), tuple(patch), 1, network, OVERLAP, "gaussian")
        assert isinstance(found, Tensor)
        return found.flip(way)

    @torch.no_grad()
    def mask() -> NDArray[np.uint8]:
        total = logits(())
        for way in ways[1:]:
            total += logits(way)
        return np.asarray(total[0].argmax(dim=0).to(torch.uint8).numpy())

    return mask


def _timed(masks: Mapping[str, Mask], repeats: int) -> Found:
    times: dict[str, list[float]] = {who: [] for who in masks}
    drawn: dict[str, NDArray[np.uint8]] = {}
    for _ in range(repeats):
        for who, mask in masks.items():
            start = time.process_time()
            drawn[who] = mask()
            times[who].append(time.process_time() - start)
    agree = float((drawn[OURS] == drawn[DIRECT]).mean())
    # Means are added up in another order, so that a voxel in a million may lie on the fence.
    return Found({who: median(of) for who, of in times.items()}, agree > 1 - 1e-5)


def report(found: Mapping[str, Found]) -> Result:
    """Return the table of seconds, and the checks of time and mask."""
    rows = [
        [way, *(f"{one.seconds[who]:.2f}" for who in (OURS, DIRECT)), "the same" if one.same else "differs"]
        for way, one in found.items()
    ]
    checks = []
    for way, one in found.items():
        checks.append(
            Check(f"{way}: {OURS} / {DIRECT}", ratio(one.seconds[OURS], one.seconds[DIRECT]), LIMIT)
        )
        checks.append(Check(f"{way}: the same mask", float(one.same), 1, at_least=True))
    figures = {way: {"seconds": dict(one.seconds), "same": one.same} for way, one in found.items()}
    table = Table(["processor seconds of a volume", OURS, DIRECT, "mask"], rows)
    return Result("windows", figures, {"Prediction of a volume": table}, checks)

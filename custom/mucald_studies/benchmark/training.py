"""Training on volumes beside a plain MONAI loop with the same network, patches, loss and optimiser."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from monai.losses.dice import DiceCELoss
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn

from mucald.config.common import AdaptedConfig
from mucald.data.augmentation import training_batch
from mucald.data.loading import load_site_data
from mucald.data.order import epoch_batches
from mucald.errors import ConfigError
from mucald.methods.jobs import load_job
from mucald.training.config import WholeModelConfig
from mucald.training.whole_model import WholeModel
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.reporting.page import Table

LIMIT = 1.1
OURS, PLAIN = "mucald", "plain MONAI loop"

Step = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Found:
    """Processor seconds of a step (median) and the losses of all steps, by who trains."""

    seconds: dict[str, float]
    losses: dict[str, list[float]]


def measure(job: Path, site: str, steps: int) -> Found:
    """Train a site's network for some steps on the same patches, once as the job does and once plainly.

    Both take a step in turns.

    Raises:
        ConfigError: the job or the site is wrong, or its network is no ``dynunet`` for volumes with masks.
    """
    config, _ = load_job(job)
    if not isinstance(config, WholeModelConfig) or not isinstance(config.network, AdaptedConfig):
        raise ConfigError(f"{job}: its network is no 'dynunet'; take jobs/fedcmt")
    torch.set_num_threads(1)
    data = load_site_data(site, config.site(site).task, config.data, config.seed, None)
    if data.task.input != "volume" or data.task.target != "mask":
        raise ConfigError(f"site '{site}' has no volumes with masks ({data.task.name}); give another --site")
    model = WholeModel(config, {site: data}, torch.device("cpu"))
    plain = _Plain(config, model.networks[site].parts(), data.task.channels, data.task.n_classes)
    times: dict[str, list[float]] = {OURS: [], PLAIN: []}
    losses: dict[str, list[float]] = {OURS: [], PLAIN: []}
    for number in range(steps):
        epoch, place = divmod(number, len(epoch_batches(config, site, 0, 0, len(data.train))))
        rows = epoch_batches(config, site, 0, epoch, len(data.train))[place]
        batch = training_batch(config, site, data, 0, number, rows)
        start = time.process_time()
        result = model.train_step(site, batch.inputs, batch.targets, str(number))
        times[OURS].append(time.process_time() - start)
        losses[OURS].append(result.losses["segmentation"])
        start = time.process_time()
        losses[PLAIN].append(plain.step(batch.inputs, batch.targets))
        times[PLAIN].append(time.process_time() - start)
    return Found({who: median(of) for who, of in times.items()}, losses)


class _Plain:
    """What anybody would write: MONAI's DynUNet behind a convolution, MONAI's loss, torch's AdamW."""

    def __init__(self, config: WholeModelConfig, parts: dict[str, nn.Module], channels: int, n_classes: int):
        network = config.network
        assert isinstance(network, AdaptedConfig)
        width, features = network.adaptor_channels, network.features
        strides = [1] + [2] * (len(features) - 1)
        self._network = nn.Sequential(
            nn.Sequential(nn.Conv3d(channels, width, 1, bias=False), nn.InstanceNorm3d(width)),
            DynUNet(3, width, n_classes, [3] * len(features), strides, strides[1:], filters=features),
        )
        self._network[0].load_state_dict(parts["adaptor"].state_dict())
        own = parts["encoder"].state_dict() | parts["decoder"].state_dict()
        self._network[1].load_state_dict(own, strict=False)
        self._loss = DiceCELoss(to_onehot_y=True, softmax=True, batch=True, lambda_ce=config.cross_entropy)
        self._clip = config.optimiser.clip_norm
        self._optimiser = torch.optim.AdamW(
            self._network.parameters(),
            lr=config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )

    def step(self, inputs: Tensor, targets: Tensor) -> float:
        """Train on a mini-batch; return its loss."""
        self._network.train()
        loss = self._loss(self._network(inputs), targets[:, None])
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._clip)
        self._optimiser.step()
        return float(loss.item())


def report(found: Found) -> Result:
    """Return the table of seconds, and the check of their ratio."""
    rows = []
    for who in (OURS, PLAIN):
        losses = found.losses[who]
        rows.append([who, f"{1000 * found.seconds[who]:.1f}", f"{losses[0]:.4f}", f"{losses[-1]:.4f}"])
    table = Table(["", "ms per step", "first loss", "last loss"], rows)
    check = Check(f"{OURS} / {PLAIN}", ratio(found.seconds[OURS], found.seconds[PLAIN]), LIMIT)
    figures = {"seconds": found.seconds, "losses": found.losses}
    return Result("training", figures, {"Training step on volumes": table}, [check])

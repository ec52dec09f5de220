"""The yardstick: what a plain MONAI script makes of each site's images, alone, in as many passes as a job.

The network is nnU-Net's as MONAI has it, with the job's widths; transforms, image by image, loader and loss
are MONAI's. From the package come the images, their splits, and the scores. So it tells whether a site of the
job trains as well as anybody would.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
)
from monai.utils import convert_to_tensor
from torch import Tensor

from mucald import randomness
from mucald.data.images.augmentation import INTENSITY_ODDS, WARP_ODDS
from mucald.data.loading import load_for
from mucald.data.site_data import DataSplit, SiteData
from mucald.errors import TrainingError
from mucald.metrics import segmentation as metrics
from mucald.metrics.scoring import in_order, scores_of_test
from mucald.tasks.augmentation import Augmentation
from mucald_studies.benchmark.result import Check, Result
from mucald_studies.reporting.experiments import Experiment, plan_job
from mucald_studies.reporting.page import Table
from mucald_studies.reporting.runner import run_all

MOST_BEHIND = 0.005
"""Mean Dice by which a job may be behind the script and still be level with it."""

LEARNING_RATE, WEIGHT_DECAY = 0.001, 0.01
"""AdamW's, as PyTorch has them, and as the jobs have them."""

_EVEN = 0.5


@dataclass(frozen=True)
class Trained:
    """What the script made of a site.

    Args:
        parameters: of the network.
        validation: Dice after each of the job's rounds; None where no class counts.
        dice: of the test, with the weights of the best validation.
    """

    parameters: int
    validation: list[float | None]
    dice: float


def transforms(how: Augmentation, odds: float, side: int) -> Compose:
    """Return MONAI's dictionary transforms with a task's bounds, for images of ``side`` pixels."""
    keys, flip, warp, intensity = ("image", "label"), _EVEN * odds, WARP_ODDS * odds, INTENSITY_ODDS * odds
    chain: list[Any] = []
    if how.mirrored:
        chain.append(RandFlipd(keys, flip, spatial_axis=1))
    if how.any_way_up:
        chain += [RandFlipd(keys, flip, spatial_axis=0), RandRotate90d(keys, flip, max_k=3)]
    affine = RandAffined(
        keys,
        prob=warp,
        rotate_range=math.radians(how.angle),
        scale_range=(how.scale, how.scale),
        translate_range=(how.shift * side, how.shift * side),
        mode=("bilinear", "nearest"),
        padding_mode="reflection",
    )
    gamma, zoom = (1 - how.gamma, 1 + how.gamma), (1 - how.low_resolution, 1.0)
    return Compose(
        [
            *chain,
            affine,
            RandScaleIntensityFixedMeand("image", prob=intensity, factors=how.contrast, preserve_range=False),
            RandScaleIntensityd("image", how.brightness, prob=intensity),
            RandAdjustContrastd("image", prob=intensity, gamma=gamma),
            RandSimulateLowResolutiond("image", intensity, upsample_mode="bilinear", zoom_range=zoom),
            RandGaussianNoised("image", prob=intensity, std=how.noise),
        ]
    )


class Script:
    """The training at one site with the budget of a job.

    Args:
        config: the job, of any family, with a network of convolutional levels.
        site: name of the site.
        data: its images and masks.
    """

    def __init__(self, config: Any, site: str, data: SiteData):
        self._config, self._data = config, data
        with randomness.seeded_initialisation(config.seed, site, "plain script"):
            self.network = _network(config.network.features, data.task.n_classes)
        strength, seed = config.training.augmentation, config.seed
        changes = transforms(data.task.augmentation, strength, config.data.image_size).set_random_state(seed)
        self._loader = DataLoader(
            Dataset(_samples(data.train), changes if strength else None),
            batch_size=config.training.batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )
        self._loss = DiceCELoss(to_onehot_y=True, softmax=True)
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )

    def run(self) -> Trained:
        """Train, validate after each of the job's rounds, and test the weights of the best validation."""
        best, kept, validation = -1.0, self.network.state_dict(), []
        for number in range(self._config.training.rounds):
            self._train(number)
            validation.append(dice := self._validation_dice())
            if dice is not None and dice > best:
                best, kept = dice, {n: tensor.clone() for n, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(kept)
        batch_size = self._config.training.batch_size
        summary, _, _ = scores_of_test(self._data, batch_size, lambda _, batch: self._logits(batch.inputs))
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return Trained(parameters, validation, summary["dice"])

    def _train(self, number: int) -> None:
        epochs = self._config.training.local_epochs
        steps = epochs * len(self._loader)
        batches = (batch for _ in range(epochs) for batch in self._loader)
        for step, batch in enumerate(batches):
            for group in self._optimiser.param_groups:
                group["lr"] = LEARNING_RATE * self._config.rate(number, step, steps)
            self._optimiser.zero_grad()
            images, masks = (convert_to_tensor(batch[name], track_meta=False) for name in ("image", "label"))
            self._loss(self.network.train()(images), masks).backward()
            self._optimiser.step()

    def _validation_dice(self) -> float | None:
        n_classes = self._data.task.n_classes
        scores = [
            metrics.image_scores(self._logits(batch.inputs), batch.targets, n_classes, surface=False)
            for _, _, batch in in_order(self._data.validation, self._config.training.batch_size)
        ]
        return metrics.mean_dice(scores)

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        return self.network.eval()(images)


def _network(features: Sequence[int], n_classes: int) -> DynUNet:
    deeper = [2] * (len(features) - 1)
    return DynUNet(2, 3, n_classes, [3] * len(features), [1, *deeper], deeper, filters=list(features))


def _samples(split: DataSplit) -> list[dict[str, Tensor]]:
    whole = split.whole()
    return [
        {"image": image, "label": mask[None]} for image, mask in zip(whole.inputs, whole.targets, strict=True)
    ]


def measure(
    job: Path,
    changes: Mapping[str, Any],
    seeds: Sequence[int],
    home: Path | None,
    out: Path,
    threads: int | None = None,
) -> dict[int, tuple[Mapping[str, Any], dict[str, Trained]]]:
    """Run job and script, and return the job's results and what the script made of each site, by seed.

    Arguments are those of :func:`.plan_job` and :func:`.run_all`.

    Raises:
        ConfigError: the job is wrong.
        TrainingError: a run failed; the console says why.
    """
    experiments = plan_job(job, seeds, changes, out, home)
    if run_all(experiments, False, threads):
        raise TrainingError(f"not all runs in {out} were made; the same command goes on with them")
    return {
        one.config.seed: (run.content, dict(_scripts(one))) for one in experiments if (run := one.finished())
    }


def _scripts(experiment: Experiment) -> Iterator[tuple[str, Trained]]:
    for site in experiment.data_sites:
        home = (experiment.home or experiment.folder / "no home") / site
        data = load_for(site, experiment.config, home, pictures=False)
        trained = Script(experiment.config, site, data).run()
        print(
            f"plain script, seed {experiment.config.seed}, {site}: test Dice {trained.dice:.3f}", flush=True
        )
        yield site, trained


def report(found: Mapping[int, tuple[Mapping[str, Any], Mapping[str, Trained]]]) -> Result:
    """Return the table of both, site by site, as means over the seeds, and how far the job is behind."""
    rows: dict[str, dict[str, Any]] = {}
    for site in next(iter(found.values()))[1]:
        scripts = [trained[site] for _, trained in found.values()]
        rows[site] = {
            "job": fmean(results["sites"][site]["test"]["dice"] for results, _ in found.values()),
            "script": fmean(script.dice for script in scripts),
            "script_parameters": scripts[0].parameters,
            "script_validation": [script.validation for script in scripts],
        }
    means = {name: fmean(row[name] for row in rows.values()) for name in ("job", "script")}
    cells = [
        [site, f"{row['job']:.3f}", f"{row['script']:.3f}"] for site, row in {**rows, "mean": means}.items()
    ]
    (results, _), *_ = found.values()
    training = results["config"]["training"]
    title = (
        f"test Dice after {training['rounds'] * training['local_epochs']} passes over the images, "
        f"{len(found)} seeds"
    )
    table = Table(["site", results["config"]["name"], "plain MONAI script"], cells)
    check = Check("mean Dice of the script less that of the job", means["script"] - means["job"], MOST_BEHIND)
    return Result("plain", {"sites": rows, "mean": means}, {title: table}, [check])

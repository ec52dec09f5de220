"""What the tests of every backbone need."""

import dataclasses
from pathlib import Path

from tiny_job import REPOSITORY, run_job
from torch import Tensor, nn

from mucald.config.common import DataConfig, PhantomConfig
from mucald.methods.jobs import load_job
from mucald.nets import Backbone
from mucald.randomness import normal, seeded_initialisation


def segments(backbone: Backbone, n_classes: int = 3) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Build a backbone's three segments, always with the same weights."""
    with seeded_initialisation("test"):
        return backbone.front_end(), backbone.middle(), backbone.back_end(n_classes)


def images(count: int, side: int) -> Tensor:
    """Return ``count`` images of noise."""
    return normal((count, 3, side, side), "image")


def assert_every_parameter_learns(backbone: Backbone, side: int) -> None:
    """Check that the gradient of the logits reaches every parameter of every segment."""
    front, middle, back = segments(backbone)
    latent, skips = front(images(2, side))
    back(middle(latent), skips).square().mean().backward()
    for module in (front, middle, back):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def losses_of_a_short_run(job: str, folder: Path) -> list[float]:
    """Run two sites of a shipped job on a few small phantoms; return the mean training loss per round."""
    config, sites = load_job(REPOSITORY / "jobs" / job)
    sites = sites[:2]
    config = dataclasses.replace(
        config,
        sites={site: config.sites[site] for site in sites},
        data=DataConfig(image_size=32, phantoms=PhantomConfig(train=8, validation=1, test=1)),
        training=dataclasses.replace(config.training, rounds=3, local_epochs=2),
    )
    rounds = run_job(config, folder).results["rounds"]
    return [
        sum(entry["sites"][site]["losses"]["segmentation"] for site in sites) / len(sites) for entry in rounds
    ]

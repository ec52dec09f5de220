"""The end of a run at a site that takes its whole network home: joined, fine-tuned, and chosen there."""

import logging
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from mucald.config.common import AdamWConfig
from mucald.config.job import JobConfig
from mucald.console import Countdown
from mucald.data.augmentation import training_batch
from mucald.data.order import epoch_batches
from mucald.data.site_data import SiteData
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.site.exchange import Exchange
from mucald.methods.split.wire.weight_vector import from_vector
from mucald.state.checkpoint import load_module_tensors
from mucald.training.config import WholeModelConfig
from mucald.training.whole_model import WholeModel

log = logging.getLogger(__name__)


def take_over(
    config: SplitConfig, site: str, data: SiteData, ends: dict[str, Tensor], exchange: Exchange
) -> tuple[WholeModel, dict[str, Any]]:
    """Fetch the middle network of the site's best round, and train the whole network on clean latents.

    The site's validation chooses between the joined network as it is and what all epochs make of it. With few
    images a choice among the epochs is one among their noise.

    Args:
        config: the job.
        site: name of the site.
        data: its images and labels.
        ends: its ``front_end.…`` and ``back_end.…`` of the best round.
        exchange: of the test.

    Returns:
        the model, with the choice kept as its best, and what the report says of it: the epoch chosen, 0 for
        none, and validation Dice before and after.

    Raises:
        WireError: the server refused, or sent another network.
        TrainingError: a loss or a gradient is not finite.
    """
    device = next(iter(ends.values())).device
    model = WholeModel(_whole(config), {site: data}, device)
    parts, epochs = model.networks[site].parts(), config.handover.epochs
    load_module_tensors({name: part for name, part in parts.items() if name != "middle"}, ends)
    from_vector(parts["middle"], exchange.fetch_middle(parts["middle"]), statistics=True)
    joined = model.validate(site, data, exchange.round)
    countdown = Countdown(epochs)
    for epoch in range(epochs):
        loss, done = _train(model, config, site, data, epoch), epoch + 1
        log.info(
            "site '%s': epoch %d of %d at home, loss %.3f, about %s left",
            *(site, done, epochs, loss, countdown.left(done)),
        )
    tuned = model.validate(site, data, exchange.round)
    chosen, epoch = (tuned, epochs) if tuned["best"] else (joined, 0)
    told = {"epoch": epoch, "validation_before": joined["dice"], "validation": chosen["dice"]}
    return model, {name: value for name, value in told.items() if value is not None}


def _whole(config: SplitConfig) -> WholeModelConfig:
    """Return the job as one in which the site has the whole network."""
    common = {field.name: getattr(config, field.name) for field in fields(JobConfig)}
    optimiser = config.optimiser
    return WholeModelConfig(
        **common | {"runtime": replace(config.runtime, record=False)},
        network=config.network,
        clip=config.release.clip,
        cross_entropy=config.losses.cross_entropy,
        optimiser=AdamWConfig(
            learning_rate=config.handover.learning_rate,
            weight_decay=optimiser.weight_decay,
            clip_norm=optimiser.clip_norm,
        ),
    )


def _train(model: WholeModel, config: SplitConfig, site: str, data: SiteData, epoch: int) -> float:
    """Return the mean loss of one epoch."""
    count, total = len(data.train), 0.0
    plan = epoch_batches(config, site, "handover", epoch, count)
    for step, rows in enumerate(plan):
        batch = training_batch(config, site, data, f"handover {epoch}", step, rows)
        # Of a schedule of its own: the rounds' has ended.
        rate = config.training.rate_at(epoch, config.handover.epochs, step, len(plan))
        key = f"handover epoch {epoch + 1}/{step}"
        result = model.train_step(site, batch.inputs, batch.targets, key, rate=rate)
        total += len(rows) / count * result.losses["segmentation"]
    return total


def numbers_of(scores: dict[str, Any]) -> dict[str, float]:
    """Return those of a test's scores that are single numbers."""
    return {name: value for name, value in scores.items() if isinstance(value, int | float)}

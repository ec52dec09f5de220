"""Releases under ``release.mode`` = ``once``: every image one single time.

Fresh noise is averaged away over the rounds, and noise that is repeated on a latent that moves cancels in a
difference. Against a front end that no longer changes and releases that are never made again neither works,
and no gradient from the server can steer what is released (FSHA; Pasquini et al., CCS 2021).
"""

import logging
from collections.abc import Generator
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mucald.console import Countdown
from mucald.data.augmentation import orientations, training_batch
from mucald.data.order import epoch_batches
from mucald.data.prefetch import one_ahead
from mucald.data.site_data import Batch, SiteData
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.site.exchange import Exchange
from mucald.methods.split.site.fresh import FreshReleases, Plan
from mucald.methods.split.site.pipeline import Pipeline
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments, StepResult
from mucald.methods.split.site.stand_in import StandIn
from mucald.metrics.scoring import in_order
from mucald.state.checkpoint import with_prefix, without_prefix

log = logging.getLogger(__name__)


class SingleReleases:
    """Trains the front end at the site alone, freezes it, and releases every image once.

    Methods and arguments are those of :class:`.FreshReleases`, by which the first validation and the test's
    images leave.

    Attributes:
        pretraining: mean loss of every epoch of pre-training; None before it.
        released: the data splits whose samples the server has.
    """

    def __init__(self, config: SplitConfig, data: SiteData, segments: SiteSegments, release: Release):
        self._config, self._data, self._segments = config, data, segments
        self._fresh = FreshReleases(config, data, segments, release)
        self.pretraining: list[float] | None = None
        self.released: set[str] = set()

    def prepare(self) -> bool:
        """Pre-train, unless it has been done; return whether it was done now.

        In place of the server's features the back end reads what would be released, or what a network of
        the site's own (:class:`.StandIn`) makes of it. So the front end learns a latent that bears the noise,
        at any cut. With no features at all, the layers that only the latent depends on would learn nothing;
        at cut 0, without local skips, these are all.

        A task that is done again goes on from there, so its releases are those of the first attempt.
        """
        if self.pretraining is not None:
            return False
        stand_in = StandIn(self._config, self._segments.device) if self._config.release.stand_in else None
        epochs = self._config.release.pretraining_epochs
        countdown, losses = Countdown(epochs), list[float]()
        for epoch in range(epochs):
            loss, done = self._pretrain(epoch, stand_in), epoch + 1
            losses.append(loss)
            log.info(
                "site '%s': pre-training epoch %d of %d, loss %.3f, about %s left",
                *(self._segments.site, done, epochs, loss, countdown.left(done)),
            )
        self.pretraining = losses
        return True

    def _pretrain(self, epoch: int, stand_in: StandIn | None) -> float:
        """Return the mean loss of one epoch without the server."""
        config, count, site, total = self._config, len(self._data.train), self._segments.site, 0.0
        epochs, plan = (
            config.release.pretraining_epochs,
            epoch_batches(config, site, "pretraining", epoch, count),
        )
        for step, rows in enumerate(plan):
            key = (f"pre-training epoch {epoch + 1}", step, "pretraining")
            batch = training_batch(config, site, self._data, key[0], step, rows)
            # Of a schedule of its own: the front end is frozen at its end.
            factor = config.training.rate_at(epoch, epochs, step, len(plan))
            self._segments.scale_rate(factor)
            if stand_in is not None:
                stand_in.scale_rate(factor)
            result = self._segments.train_alone(batch.inputs, batch.targets, key, stand_in)
            total += len(rows) / count * result.losses["segmentation"]
        return total

    def news(self) -> dict[str, Any]:
        """Return the losses of pre-training in the round in which the training images are released."""
        if "train" in self.released:
            return {}
        return {"pretraining": {f"epoch_{n}": loss for n, loss in enumerate(self.pretraining or [], 1)}}

    def steps(self, exchange: Exchange, plan: Plan) -> Generator[StepResult, None, None]:
        """Take the training steps of a round, while a thread talks to the server about them."""
        if "train" not in self.released:
            self._hand_over(exchange)

        def forward(step: int) -> Tensor:
            return exchange.train_released(step, rows[step])

        rows, depth = [rows for _, rows in plan], self._config.wire.pipeline_depth
        with (
            closing(Pipeline(forward, exchange.backward_released, len(rows), depth)) as pipeline,
            closing(one_ahead(partial(self._batch, exchange.round), enumerate(rows))) as batches,
        ):
            for step, (targets, skips) in enumerate(batches):
                self._segments.scale_rate(self._config.rate(exchange.round, step, len(rows)))
                yield self._step(exchange, pipeline, targets, skips, step)
            pipeline.finish()
        exchange.traffic.hidden += pipeline.hidden

    def _hand_over(self, exchange: Exchange) -> None:
        """Release the training images, in their order and for good."""
        for step, rows, batch in in_order(self._data.train, self._config.training.batch_size):
            released, _ = self._segments.released(batch.inputs, (exchange.round, step, "train"))
            exchange.release(step, released, self._fresh.proxies("train", rows))
        self.released.add("train")

    def _batch(self, round_number: int, numbered: tuple[int, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return a step's masks and skips, given its number and rows; the step before does not change them.

        What the server holds of an image can only be turned, and masks and skips are turned with it.
        """
        (step, rows), config = numbered, self._config
        batch = self._data.train.batch(rows)
        targets, skips = batch.targets, self._segments.skips(batch.inputs)
        if config.training.augmentation:
            names = self._segments.site, self._data.task, round_number, step
            turned = orientations(config, *names, len(rows))
            targets, skips = turned.of(targets), [turned.of(skip) for skip in skips]
        return targets, skips

    def _step(
        self, exchange: Exchange, pipeline: Pipeline, targets: Tensor, skips: list[Tensor], step: int
    ) -> StepResult:
        key = (exchange.round, step, "train")
        forward, backward = partial(pipeline.features, step), partial(pipeline.give, step)
        return self._segments.train_back_end(skips, targets, key, forward, backward)

    def predict_each(self, exchange: Exchange, step: int, rows: Tensor, batch: Batch) -> list[Tensor]:
        """Return the logits (B, C, H, W) of validation images with each of the server's states."""
        if "validation" not in self.released:
            return self._fresh.predict_each(exchange, step, rows, batch)
        features = exchange.validate_released(step, rows)
        return self._segments.predictions(features, self._segments.skips(batch.inputs))

    def validated(self) -> None:
        """Note that the server has the validation images."""
        self.released.add("validation")

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint of the site holds."""
        tensors = self._segments.state() | with_prefix("released", {s: torch.ones(1) for s in self.released})
        if self.pretraining is not None:
            tensors["pretraining"] = torch.tensor(self.pretraining, dtype=torch.float64)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        self._segments.load_state(tensors)
        self.released = set(without_prefix("released", tensors))
        losses = tensors.get("pretraining")
        self.pretraining = None if losses is None else losses.tolist()

"""A site that releases every image one single time (``release.mode`` = ``once``).

Fresh noise is averaged away over the rounds, and noise that is repeated on a latent that moves cancels in a
difference. Against a front end that no longer changes and releases that are never made again neither works,
and no gradient from the server can steer what is released (FSHA; Pasquini et al., CCS 2021).
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from mucald.data.order import shuffled
from mucald.data.site_data import Batch
from mucald.federation.task import SiteTask
from mucald.methods.split.algorithms import Part
from mucald.methods.split.site.frozen_segments import FrozenSegments
from mucald.methods.split.site.method import Key, SplitSite, rows_of
from mucald.methods.split.site.pipeline import Pipeline
from mucald.methods.split.site.segments import SiteSegments, StepResult
from mucald.methods.split.wire.exchange import Exchange, NoisedProxies
from mucald.methods.split.wire.messages import Phase
from mucald.metrics.scoring import in_order

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedBatch(Batch):
    """A mini-batch and what the frozen front end keeps of it at the site: skips, finest first."""

    skips: list[Tensor]


class OnceSite(SplitSite):
    """Trains its front end alone, freezes it, and releases every image once; arguments as of a site."""

    segments_class: ClassVar[type[SiteSegments]] = FrozenSegments
    _segments: FrozenSegments
    _pipeline: Pipeline

    def _prepare(self, task: SiteTask) -> None:
        """Pre-train, unless it has been done, and keep the result before anything leaves.

        A task that is done again goes on from there, so its releases are those of the first attempt.
        """
        if self._segments.pretraining is not None:
            return
        epochs = range(self._config.release.pretraining_epochs)
        self._segments.end_pretraining([self._pretrain(epoch) for epoch in epochs])
        self._save(task.round)
        self._completed = None

    def _pretrain(self, epoch: int) -> float:
        """Return the mean loss of one epoch without the server."""
        split, total = self._data.train, 0.0
        order = (self._config.seed, self.name, "pretraining", epoch, "order")
        for step, rows in enumerate(shuffled(len(split), self._config.training.batch_size, order)):
            batch, key = split.batch(rows), (f"pre-training epoch {epoch + 1}", step, "pretraining")
            result = self._segments.pretrain_step(batch.inputs, batch.targets, key)
            total += len(rows) / len(split) * result.losses["segmentation"]
        log.info(
            "site '%s': pre-training epoch %d of %d, loss %.3f",
            self.name,
            epoch + 1,
            self._config.release.pretraining_epochs,
            total,
        )
        return total

    def _train(self, round_number: int, exchange: Exchange) -> dict[str, Any]:
        if "train" in self._segments.released:
            return super()._train(round_number, exchange)
        split = self._data.train
        proxies = self._noised_proxies(split, "train")
        for step, rows, batch in in_order(split, self._config.training.batch_size):
            key = (round_number, step, "train")
            exchange.release(step, self._segments.release(batch.inputs, key), rows_of(proxies, rows))
        self._segments.released.add("train")
        losses = {f"epoch_{number}": loss for number, loss in enumerate(self._segments.pretraining or [], 1)}
        return super()._train(round_number, exchange) | {"pretraining": losses}

    def _training_batches(self, exchange: Exchange, rows: Sequence[Tensor]) -> Generator[Batch, None, None]:
        """Yield the mini-batches while a thread talks to the server about them."""

        def forward(step: int) -> Tensor:
            return exchange.forward_released(Phase.TRAIN_FORWARD_RELEASED, step, rows[step])

        depth = self._config.wire.pipeline_depth
        with closing(Pipeline(forward, exchange.backward_released, len(rows), depth)) as self._pipeline:
            yield from super()._training_batches(exchange, rows)
            self._pipeline.finish()
        exchange.note_hidden(self._pipeline.hidden)

    def _training_batch(self, rows: Tensor) -> PreparedBatch:
        """Run the front end too: frozen, it gives the same before and after the step under way."""
        batch = super()._training_batch(rows)
        return PreparedBatch(batch.inputs, batch.targets, batch.measures, self._segments.skips(batch.inputs))

    def _step(
        self,
        exchange: Exchange,  # noqa: ARG002 - the pipeline talks to it
        batch: Batch,
        key: Key,
        rows: Tensor,  # noqa: ARG002 - likewise
        step: int,
        part: Part,  # noqa: ARG002 - the front end is frozen
        proxies: NoisedProxies | None,  # noqa: ARG002 - the server has them
    ) -> StepResult:
        assert isinstance(batch, PreparedBatch)
        return self._segments.train_released(
            batch.skips,
            batch.targets,
            key,
            partial(self._pipeline.features, step),
            partial(self._pipeline.give, step),
        )

    def _validate(self, round_number: int, exchange: Exchange) -> dict[str, Any]:
        report = super()._validate(round_number, exchange)
        self._segments.released.add("validation")
        return report

    def _predict_each(
        self,
        exchange: Exchange,
        batch: Batch,
        key: Key,
        rows: Tensor,
        step: int,
        proxies: NoisedProxies | None,
    ) -> Sequence[Tensor]:
        if "validation" not in self._segments.released:
            return super()._predict_each(exchange, batch, key, rows, step, proxies)
        forward = partial(exchange.forward_released, Phase.VALIDATE_RELEASED, step, rows)
        return self._segments.predict_released(batch.inputs, forward)

"""Releases under ``release.mode`` = ``fresh``: every mini-batch anew, in every step."""

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from torch import Tensor

from mucald.data.augmentation import training_batch
from mucald.data.prefetch import one_ahead
from mucald.data.site_data import Batch, SiteData
from mucald.methods.split.algorithms import Part
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.site.exchange import Exchange, NoisedProxies
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments, StepResult
from mucald.methods.split.wire.messages import Phase

Plan = Sequence[tuple[Part, Tensor]]
"""What each training step of a round trains, and on which rows (B,) of the training images."""


class FreshReleases:
    """How a site's samples reach the server, step by step.

    Args:
        config: the job.
        data: the site's images, labels and proxies.
        segments: its networks.
        release: what happens to tensors before they leave.
    """

    def __init__(self, config: SplitConfig, data: SiteData, segments: SiteSegments, release: Release):
        self._config, self._data, self._segments, self._release = config, data, segments, release
        self._proxies: dict[str, NoisedProxies] = {}

    def prepare(self) -> bool:
        """Do what has to be done before anything is released; return whether it changed the networks."""
        return False

    def news(self) -> dict[str, Any]:
        """Return what the report of a round of training says beside losses and gradients."""
        return {}

    def steps(self, exchange: Exchange, plan: Plan) -> Generator[StepResult, None, None]:
        """Take the training steps of a round, one whenever a result is asked for."""
        # Closed, so that a step that fails leaves no thread behind that reads the images.
        batch_of = partial(self._batch, exchange.round)
        with closing(one_ahead(batch_of, enumerate(rows for _, rows in plan))) as batches:
            for step, ((part, rows), batch) in enumerate(zip(plan, batches, strict=True)):
                self._segments.scale_rate(self._config.rate(exchange.round, step, len(plan)))
                yield self._step(exchange, batch, step, part, rows)

    def _batch(self, round_number: int, numbered: tuple[int, Tensor]) -> Batch:
        """Return a step's images, given its number and their rows (B,), while the one before is under way."""
        return training_batch(self._config, self._segments.site, self._data, round_number, *numbered)

    def _step(self, exchange: Exchange, batch: Batch, step: int, part: Part, rows: Tensor) -> StepResult:
        key = (exchange.round, step, "train")
        if part == "head":
            released, skips = self._segments.released(batch.inputs, key)
            forward = partial(exchange.evaluate, Phase.TRAIN_HEAD, step, released)
            return self._segments.train_back_end(skips, batch.targets, key, forward)
        return self._segments.train_step(
            batch.inputs,
            batch.targets,
            key,
            partial(exchange.train_forward, step, proxies=self.proxies("train", rows)),
            partial(exchange.train_backward, step),
            part,
        )

    def predict_each(self, exchange: Exchange, step: int, rows: Tensor, batch: Batch) -> list[Tensor]:
        """Return the logits (B, C, H, W) of validation images with each of the server's states."""
        released, skips = self._segments.released(batch.inputs, (exchange.round, step, "validation"))
        proxies = self.proxies("validation", rows)
        features = exchange.evaluate(Phase.VALIDATE, step, released, proxies)
        return self._segments.predictions(features, skips)

    def validated(self) -> None:
        """Note that a whole validation is over."""

    def proxies(self, split: str, rows: Tensor) -> NoisedProxies | None:
        """Return proxies of a data split as the server may see them; None if it has no use for them."""
        if self._config.crdm.encoder == "none":
            return None
        if split not in self._proxies:
            self._proxies[split] = self._release.proxies(getattr(self._data, split).measures, split)
        noised, present = self._proxies[split]
        return noised[rows], present[rows]

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint of the site holds."""
        return self._segments.state()

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        self._segments.load_state(tensors)

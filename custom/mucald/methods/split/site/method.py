"""A site: it validates the model it was given, trains for a round, or tests its best round's model."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from mucald.data.order import shuffled
from mucald.data.prefetch import one_ahead
from mucald.data.site_data import Batch, DataSplit, SiteData
from mucald.federation.method import Outcome, Send, State, Tested
from mucald.federation.task import SiteTask
from mucald.methods.split.algorithms import Part, algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.disclosures import disclosures, under
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments, StepResult
from mucald.methods.split.wire.exchange import Exchange, NoisedProxies
from mucald.methods.split.wire.link import Link
from mucald.methods.split.wire.messages import Phase
from mucald.metrics import segmentation as metrics
from mucald.metrics.scoring import Previews, data_report, scores_of_test, scores_of_validation
from mucald.privacy.disclosure import account
from mucald.privacy.policy import Policy
from mucald.state.averages import Averages
from mucald.state.checkpoint import CheckpointStore
from mucald.state.resumable import Resumable
from mucald.tasks import Task

Key = tuple[int | str, ...]
"""Names one release: round, step and purpose, see :meth:`.Release.latent`."""


class SplitSite(Resumable):
    """One site of a run.

    Args:
        name: name of the site.
        config: the job.
        data: the site's images, labels and proxies.
        policy: what the site lets out; it must allow the job.
        store: where its checkpoints lie.
        device: where to compute.
    """

    segments_class: ClassVar[type[SiteSegments]] = SiteSegments
    _segments: SiteSegments

    def __init__(
        self,
        name: str,
        config: SplitConfig,
        data: SiteData,
        policy: Policy,
        store: CheckpointStore,
        device: torch.device,
    ):
        self._data, self.policy = data, policy
        self._release = Release(under(policy, config).release, data.noise_secret, name)
        self._algorithm = algorithm_of(config)
        self._segments = self.segments_class(config, name, data.task.n_classes, self._release, device)
        self._config = config
        super().__init__(name, config.digest(), store, self._segments)
        self.previews: Previews | None = None

    @property
    def task(self) -> Task:
        """The site's segmentation task."""
        return self._data.task

    def weights(self) -> dict[str, Tensor]:
        """Return front end's and back end's present weights; after the test those of the best round."""
        return self._segments.weights()

    def tested(self) -> list[Tested]:
        """Return what stays with the site after its test."""
        return [Tested(self.name, self.task, self.weights(), self.previews)]

    def account(self) -> dict[str, Any]:
        """Return the account of what the run's releases can tell; it is for the site alone."""
        images = self._data.images_per_case
        return account(disclosures(under(self.policy, self._config), images), images)

    def run(self, task: SiteTask, received: State, send: Send) -> Outcome:  # noqa: ARG002 - none are sent
        """Do what the server asks.

        Returns:
            a report of plain numbers, ready for JSON; it is all that the server learns beside the messages.

        Raises:
            MucaldError: see the steps; the next task then begins with the last complete round.
        """
        start, link = time.perf_counter(), Link(send, self._config, self.name)
        self._restore(task.counted(self.name), task.is_new(self.name))
        # Until the task is done, the state in memory is that of no complete round.
        self._completed = None
        exchange = Exchange(link, self._config, task.round)
        report = data_report(self.name, self._data, task.round)
        if self._algorithm.shares_front_end:
            self._segments.load_front_end(exchange.fetch_front_end())
        self._prepare(task)
        if task.round > 0:
            report["validation"] = self._validate(task.round, exchange)
        if task.kind == "train":
            report |= self._train(task.round, exchange)
            self._save(task.round + 1)
        else:
            report |= self._test(task.round, exchange)
        report["wire"] = asdict(link.traffic)
        report["seconds"] = time.perf_counter() - start
        return Outcome({self.name: report})

    def _prepare(self, task: SiteTask) -> None:
        """Do what has to be done before anything is released."""

    def _train(self, round_number: int, exchange: Exchange) -> dict[str, Any]:
        split = self._data.train
        proxies = self._noised_proxies(split, "train")
        losses, gradients = Averages(), Averages()
        steps = [
            (part, rows)
            for epoch, part in enumerate(self._algorithm.parts(self._config.training.local_epochs))
            for rows in self._shuffled(round_number, epoch)
        ]
        self._segments.begin_round()
        # Closed, so that a step that fails leaves no thread behind that reads the networks.
        with closing(self._training_batches(exchange, [rows for _, rows in steps])) as batches:
            for step, ((part, rows), batch) in enumerate(zip(steps, batches, strict=True)):
                key = (round_number, step, "train")
                result = self._step(exchange, batch, key, rows, step, part, rows_of(proxies, rows))
                losses.add_all(result.losses)
                gradients.add_all(result.gradients)
        self._segments.end_round()
        if self._algorithm.shares_front_end:
            exchange.give_front_end(self._segments.front_end_weights())
        return {"losses": losses.means(), "gradients": gradients.means(), "steps": len(steps)}

    def _training_batches(
        self,
        exchange: Exchange,  # noqa: ARG002 - for sites that talk ahead
        rows: Sequence[Tensor],
    ) -> Generator[Batch, None, None]:
        """Yield the mini-batches of ``rows`` in turn, each made while the one before it is in use."""
        return one_ahead(self._training_batch, rows)

    def _training_batch(self, rows: Tensor) -> Batch:
        """Return the training images ``rows`` (B,); while a step is under way this makes the next one's."""
        return self._data.train.batch(rows)

    def _step(
        self,
        exchange: Exchange,
        batch: Batch,
        key: Key,
        rows: Tensor,  # noqa: ARG002 - for sites whose server has the samples
        step: int,
        part: Part,
        proxies: NoisedProxies | None,
    ) -> StepResult:
        """Train on one mini-batch, the samples ``rows`` (B,) of the training images."""
        if part == "head":
            forward = partial(exchange.evaluate, Phase.TRAIN_HEAD, step)
            return self._segments.train_head(batch.inputs, batch.targets, key, forward)
        return self._segments.train_step(
            batch.inputs,
            batch.targets,
            key,
            partial(exchange.train_forward, step, proxies=proxies),
            partial(exchange.train_backward, step),
            part,
        )

    def _shuffled(self, round_number: int, epoch: int) -> tuple[Tensor, ...]:
        training = self._config.training
        key = (self._config.seed, self.name, round_number, epoch, "order")
        return shuffled(len(self._data.train), training.batch_size, key)

    def _noised_proxies(self, split: DataSplit, purpose: str) -> NoisedProxies | None:
        """Return the split's proxies as the server may see them; None if it has no use for them."""
        if self._config.crdm.encoder == "none":
            return None
        return self._release.proxies(split.measures, purpose)

    def _validate(self, round_number: int, exchange: Exchange) -> dict[str, Any]:
        """Score what the round may begin with, report it, and keep the chosen one if it is the best so far.

        Most rules of aggregation leave one state to begin with, and nothing to choose.
        """
        split = self._data.validation
        proxies = self._noised_proxies(split, "validation")

        def predict(step: int, rows: Tensor, batch: Batch) -> Sequence[Tensor]:
            key = (round_number, step, "validation")
            return self._predict_each(exchange, batch, key, rows, step, rows_of(proxies, rows))

        scores = scores_of_validation(
            self.name,
            split,
            self._config.training.batch_size,
            self._segments.loss,
            round_number,
            predict,
        )
        best, chosen = exchange.report(scores)
        if best:
            self._segments.keep_best()
        dice, loss = scores[chosen]
        return {"round": round_number - 1, "dice": dice, "loss": loss, "best": best}

    def _predict_each(
        self,
        exchange: Exchange,
        batch: Batch,
        key: Key,
        rows: Tensor,  # noqa: ARG002 - as above
        step: int,
        proxies: NoisedProxies | None,
    ) -> Sequence[Tensor]:
        """Return the logits (B, C, H, W) of validation images with each of the server's states."""
        forward = partial(exchange.evaluate, Phase.VALIDATE, step, proxies=proxies)
        return self._segments.predict_each(batch.inputs, key, forward)

    def _test(self, round_number: int, exchange: Exchange) -> dict[str, Any]:
        """Score the best round's model on the test set, with and without the server's features."""
        self._segments.load_best()
        without_server = []

        def predict(step: int, batch: Batch) -> Tensor:
            logits, alone = self._segments.predict(
                batch.inputs,
                (round_number, step, "test"),
                partial(exchange.evaluate, Phase.TEST, step),
            )
            without_server.append(
                metrics.image_scores(alone, batch.targets, self.task.n_classes, surface=False)
            )
            return logits

        batch_size = self._config.training.batch_size
        summary, dice_per_image, self.previews = scores_of_test(self._data, batch_size, predict)
        alone_dice = metrics.mean_dice(without_server)
        known = summary["dice"] is not None and alone_dice is not None
        return {
            "test": summary,
            "dice_per_image": dice_per_image,
            "server_contribution": summary["dice"] - alone_dice if known else None,
        }


def rows_of(proxies: NoisedProxies | None, rows: Tensor) -> NoisedProxies | None:
    """Return the proxies of the samples ``rows``, if there are any."""
    return None if proxies is None else (proxies[0][rows], proxies[1][rows])

"""A site: it validates the model it was given, trains for a round, or tests its best round's model."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mucald.data.order import epoch_batches
from mucald.data.site_data import Batch, SiteData
from mucald.federation.method import Outcome, Send, State, Tested
from mucald.federation.task import SiteTask
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.disclosures import disclosures
from mucald.methods.split.site.exchange import Exchange
from mucald.methods.split.site.fresh import FreshReleases
from mucald.methods.split.site.handover import numbers_of, take_over
from mucald.methods.split.site.once import SingleReleases
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.sealed_ends import SealedEnds
from mucald.methods.split.site.segments import SiteSegments
from mucald.methods.split.site.shared_ends import SharedEnds
from mucald.methods.split.wire.messages import Phase
from mucald.methods.split.wire.weight_vector import from_vector, to_vector
from mucald.metrics import segmentation as metrics
from mucald.metrics.scoring import Previews, data_report, scores_of_test, scores_of_validation
from mucald.privacy.disclosure import account
from mucald.state.averages import Averages
from mucald.state.checkpoint import CheckpointStore
from mucald.state.resumable import Resumable
from mucald.training.whole_model import WholeModel
from mucald.wire.tensors import byte_count


class SplitSite(Resumable):
    """One site of a run.

    Args:
        name: name of the site.
        config: the job.
        data: the site's images, labels and proxies.
        release: what happens to tensors before they leave, as the site's policy has it.
        store: where its checkpoints lie.
        device: where to compute.
        group_key: of the site's group, where it seals what it shares.
    """

    def __init__(
        self,
        name: str,
        config: SplitConfig,
        data: SiteData,
        release: Release,
        store: CheckpointStore,
        device: torch.device,
        group_key: bytes = b"",
    ):
        self._config, self._data, self._release = config, data, release
        self._algorithm, self._statistics = algorithm_of(config), config.aggregation.statistics
        self._segments = SiteSegments(config, self._algorithm, name, data.task.n_classes, release, device)
        self._ends: SharedEnds | SealedEnds = SharedEnds(config, self._algorithm, name, self._segments.ends)
        if group_key:
            self._ends = SealedEnds(config, self._algorithm, name, self._segments.ends, group_key)
        releases = SingleReleases if config.release.mode == "once" else FreshReleases
        self._releases: SingleReleases | FreshReleases = releases(config, data, self._segments, release)
        super().__init__(name, config.digest(), store, self._releases)
        self.previews: Previews | None = None
        self._whole: WholeModel | None = None

    def weights(self) -> dict[str, Tensor]:
        """Return front end's and back end's present weights; after the test those of the best round.

        A site that its network was handed over to then has the middle network too.
        """
        return self._segments.weights() if self._whole is None else self._whole.weights(self.name)

    def tested(self) -> list[Tested]:
        """Return what stays with the site after its test."""
        return [Tested(self.name, self._data.task, self.weights(), self.previews)]

    def account(self) -> dict[str, Any]:
        """Return the account of what the run's releases can tell; it is for the site alone."""
        carried_out, images = replace(self._config, release=self._release.config), self._data.images_per_case
        return account(disclosures(carried_out, images), images)

    def run(self, task: SiteTask, received: State, send: Send) -> Outcome:
        """Do what the server asks.

        Returns:
            a report of plain numbers, ready for JSON, and what the site gives of the ends that it
            shares; that is all that the server learns beside the messages.

        Raises:
            WireError: the task does not bring the ends that the site shares, or others.
            MucaldError: see the steps; the next task then begins with the last complete round.
        """
        start, exchange = time.perf_counter(), Exchange(send, self._config, self.name, task.round)
        self._restore(task.counted(self.name), task.is_new(self.name))
        # Until the task is done, the state in memory is that of no complete round.
        self._completed = None
        report = data_report(self.name, self._data, task.round)
        self._ends.take(task, received)
        given: State = {}
        if self._algorithm.shares_front_end:
            from_vector(self._segments.front_end, exchange.fetch_front_end(), self._statistics)
        if self._releases.prepare():
            # Kept before anything leaves.
            self._save(task.round)
            self._completed = None
        if task.round > 0:
            report["validation"] = self._validate(exchange)
        if task.kind == "train":
            report |= self._train(exchange)
            given = self._ends.give(task, report)
            self._save(task.round + 1)
        else:
            report |= self._test(exchange)
            if self._config.handover.epochs:
                report |= self._take_over(exchange, report["test"])
        exchange.traffic.up += byte_count(given)
        exchange.traffic.down += byte_count(received)
        report["wire"] = asdict(exchange.traffic)
        report["seconds"] = time.perf_counter() - start
        return Outcome({self.name: report}, given)

    def _train(self, exchange: Exchange) -> dict[str, Any]:
        training, news = self._config.training, self._releases.news()
        plan = [
            (part, rows)
            for epoch, part in enumerate(self._algorithm.parts(training.local_epochs))
            for rows in epoch_batches(self._config, self.name, exchange.round, epoch, len(self._data.train))
        ]
        losses, gradients, exchange.steps = Averages(), Averages(), len(plan)
        self._segments.begin_round()
        # Closed, so that a step that fails leaves no thread behind that reads the networks.
        with closing(self._releases.steps(exchange, plan)) as results:
            for result in results:
                losses.add_all(result.losses)
                gradients.add_all(result.gradients)
        self._segments.end_round()
        if self._algorithm.shares_front_end:
            exchange.give_front_end(to_vector(self._segments.front_end, self._statistics))
        return {"losses": losses.means(), "gradients": gradients.means(), "steps": len(plan)} | news

    def _validate(self, exchange: Exchange) -> dict[str, Any]:
        """Score what the round may begin with, report it, and keep the chosen one if it is the best so far.

        Most rules of aggregation leave one state to begin with, and nothing to choose.
        """

        def predict(step: int, rows: Tensor, batch: Batch) -> Sequence[Tensor]:
            return self._releases.predict_each(exchange, step, rows, batch)

        split, batch_size = self._data.validation, self._config.training.batch_size
        scores = scores_of_validation(
            self.name, split, batch_size, self._segments.loss, exchange.round, predict
        )
        best, chosen = exchange.report(scores)
        if best:
            self._segments.keep_best()
        self._releases.validated()
        dice, loss = scores[chosen]
        return {"round": exchange.round - 1, "dice": dice, "loss": loss, "best": best}

    def _test(self, exchange: Exchange) -> dict[str, Any]:
        """Score the best round's model on the test images, with and without the server's features."""
        self._segments.load_best()
        without_server = []

        def predict(step: int, batch: Batch) -> Tensor:
            key = (exchange.round, step, "test")
            forward = partial(exchange.evaluate, Phase.TEST, step)
            logits, alone = self._segments.predict(batch.inputs, key, forward)
            n_classes = self._data.task.n_classes
            without_server.append(metrics.image_scores(alone, batch.targets, n_classes, surface=False))
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

    def _take_over(self, exchange: Exchange, through_server: dict[str, Any]) -> dict[str, Any]:
        """Take the whole network home, and score it in place of what the server has a part of."""
        ends = self._segments.weights()
        self._whole, told = take_over(self._config, self.name, self._data, ends, exchange)
        tested, self.previews = self._whole.test(self.name, self._data)
        return tested | {"handover": told, "through_server": numbers_of(through_server)}

"""A participant with the data of all sites: it trains one model on them, and sends nothing but reports."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from mucald import randomness
from mucald.data.augmentation import training_batch
from mucald.data.order import epoch_batches
from mucald.data.site_data import SiteData
from mucald.federation.method import Outcome, Send, State, Tested
from mucald.federation.task import SiteTask
from mucald.methods.pooled.config import PooledConfig
from mucald.metrics.scoring import data_report
from mucald.state.averages import Averages
from mucald.state.checkpoint import CheckpointStore
from mucald.state.resumable import Resumable
from mucald.training.whole_model import WholeModel
from mucald.wire.traffic import Traffic


class PooledSite(Resumable):
    """The participant that holds all data.

    Args:
        name: name of the participant.
        config: the job.
        data: the sites' data by name.
        store: where its checkpoints lie.
        device: where to compute.
    """

    def __init__(
        self,
        name: str,
        config: PooledConfig,
        data: Mapping[str, SiteData],
        store: CheckpointStore,
        device: torch.device,
    ):
        self._model = WholeModel(config, data, device, config.groups())
        self._data = data
        self._tested: list[Tested] = []
        self._config = config
        super().__init__(name, config.digest(), store, self._model)

    def tested(self) -> list[Tested]:
        """Return what stays here of each site's test."""
        return self._tested

    def account(self) -> None:
        """Return nothing: no data leave."""

    def run(self, task: SiteTask, received: State, send: Send) -> Outcome:  # noqa: ARG002 - nothing is sent
        """Do what the server asks.

        Returns:
            the report of every site, by its name, as the site itself would give it.

        Raises:
            MucaldError: see the steps; the next task then begins with the last complete round.
        """
        start = time.perf_counter()
        self._restore(task.counted(self.name), task.is_new(self.name))
        # Until the task is done, the state in memory is that of no complete round.
        self._completed = None
        reports = {site: data_report(site, self._data[site], task.round) for site in self._model.sites}
        if task.round > 0:
            for site, report in reports.items():
                report["validation"] = self._model.validate(site, self._data[site], task.round)
        if task.kind == "train":
            for site, trained in self._train(task.round).items():
                reports[site] |= trained
            self._save(task.round + 1)
        else:
            self._tested = []
            for site, report in reports.items():
                report |= self._test(site)
        # The sites' times add up to the run's.
        seconds = (time.perf_counter() - start) / len(reports)
        for report in reports.values():
            report |= {"wire": asdict(Traffic()), "seconds": seconds}
        return Outcome(reports)

    def _train(self, round_number: int) -> dict[str, dict[str, Any]]:
        sites, config = self._model.sites, self._config
        losses, gradients = {site: Averages() for site in sites}, {site: Averages() for site in sites}
        steps = dict.fromkeys(sites, 0)
        plan = [
            turn for epoch in range(config.training.local_epochs) for turn in self._mixed(round_number, epoch)
        ]
        for number, (site, rows) in enumerate(plan):
            batch = training_batch(config, site, self._data[site], round_number, steps[site], rows)
            name, rate = f"{round_number}/{steps[site]}", config.rate(round_number, number, len(plan))
            result = self._model.train_step(site, batch.inputs, batch.targets, name, rate=rate)
            losses[site].add_all(result.losses)
            gradients[site].add_all(result.gradients)
            steps[site] += 1
        return {
            site: {
                "losses": losses[site].means(),
                "gradients": gradients[site].means(),
                "steps": steps[site],
            }
            for site in sites
        }

    def _mixed(self, round_number: int, epoch: int) -> list[tuple[str, Tensor]]:
        """Return the mini-batches of an epoch, of one site each, in random order.

        A site's mini-batches are those that it would draw itself, in its own order, so that with one site the
        training is that of a split job. Since that order is random too, every order of all is equally likely.
        """
        own = {
            site: epoch_batches(self._config, site, round_number, epoch, len(self._data[site].train))
            for site in self._model.sites
        }
        turns = [site for site, batches in own.items() for _ in batches]
        draws = randomness.generator(self._config.seed, self.name, round_number, epoch, "turns")
        left = {site: iter(batches) for site, batches in own.items()}
        return [(turns[index], next(left[turns[index]])) for index in draws.permutation(len(turns))]

    def _test(self, site: str) -> dict[str, Any]:
        """Score the model of a site's best round on its test images."""
        data = self._data[site]
        report, previews = self._model.test(site, data)
        weights = {name: tensor.clone() for name, tensor in self._model.weights(site).items()}
        self._tested.append(Tested(site, data.task, weights, previews))
        return report

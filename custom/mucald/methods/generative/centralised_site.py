"""A participant with the embeddings of all sites: one classifier on all of them."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from mucald.data.site_data import Batch, SiteData
from mucald.federation.method import Outcome, Send, State, Tested
from mucald.federation.task import SiteTask
from mucald.methods.generative.algorithms.base import Samples
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.downstream import Classifiers, train_classifier
from mucald.methods.generative.learning import samples_of
from mucald.metrics.scoring import data_report, scores_of_test
from mucald.wire.traffic import Traffic


class CentralisedSite:
    """The participant that holds all data; it trains when it is tested.

    Args:
        name: name of the participant.
        config: the job.
        data: the sites' data by name.
    """

    def __init__(self, name: str, config: GenerativeConfig, data: Mapping[str, SiteData]):
        self.name, self._config, self._data = name, config, data
        self._samples = {site: samples_of(of_site, config) for site, of_site in data.items()}
        self._tested: list[Tested] = []

    def tested(self) -> list[Tested]:
        """Return the one classifier for each site."""
        return self._tested

    def account(self) -> None:
        """Return nothing: no data leave."""

    def run(self, task: SiteTask, received: State, send: Send) -> Outcome:  # noqa: ARG002 - nothing is sent
        """Report on the data, and classify the test images of every site."""
        start = time.perf_counter()
        reports = {site: data_report(site, data, task.round) for site, data in self._data.items()}
        if task.kind == "train":
            for report in reports.values():
                report |= {"losses": {}, "gradients": {}, "steps": 0}
        else:
            classifiers = Classifiers(None, self._trained())
            for site, report in reports.items():
                report |= self._test(site, classifiers)
        seconds = (time.perf_counter() - start) / len(reports)
        for report in reports.values():
            report |= {"wire": asdict(Traffic()), "seconds": seconds}
        return Outcome(reports)

    def _trained(self) -> nn.Module:
        pooled = Samples.together([samples["train"] for samples in self._samples.values()])
        n_classes = next(iter(self._data.values())).task.n_classes
        return train_classifier(pooled, n_classes, self._config.downstream, self._config.seed)

    def _test(self, site: str, classifiers: Classifiers) -> dict[str, Any]:
        data, size = self._data[site], self._config.training.batch_size
        test = self._samples[site]["test"]

        def predict(number: int, batch: Batch) -> Tensor:
            first = number * size
            return classifiers.log_probabilities(test.x[first : first + len(batch.targets)], 0.0)

        scores, per_image, _ = scores_of_test(data, size, predict)
        self._tested = [one for one in self._tested if one.site != site]
        self._tested.append(Tested(site, data.task, classifiers.tensors(), None))
        return {
            "test": scores,
            "balanced_per_image": per_image,
            "classifiers": {"shared": classifiers.scores(test, 0.0)},
        }

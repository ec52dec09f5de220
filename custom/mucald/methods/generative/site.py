"""A site that trains on its embeddings, shares a generator or classifier, and classifies for itself."""

import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from mucald.data.site_data import Batch, SiteData
from mucald.federation.method import Outcome, Send, State, Tested
from mucald.federation.task import SiteTask
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.learning import SiteLearning, samples_of
from mucald.methods.generative.origins import origin
from mucald.methods.generative.server import MIXTURE
from mucald.methods.generative.spending import Spending
from mucald.methods.generative.synthesis import SYNTHETIC_FILE, synthetic_set
from mucald.metrics.scoring import data_report, scores_of_test
from mucald.privacy.disclosure import Disclosure, account
from mucald.state.checkpoint import CheckpointStore
from mucald.state.resumable import Resumable
from mucald.wire.tensors import byte_count
from mucald.wire.traffic import Traffic


class GenerativeSite(Resumable):
    """One site of a run.

    Args:
        name: name of the site.
        config: the job.
        data: its embeddings.
        disclosures: what the job lets leave.
        spending: bounds what its images give away; None where nothing leaves under noise.
        store: where its checkpoints lie.
    """

    def __init__(
        self,
        name: str,
        config: GenerativeConfig,
        data: SiteData,
        disclosures: list[Disclosure],
        spending: Spending | None,
        store: CheckpointStore,
    ):
        self._config, self._data, self._disclosures = config, data, disclosures
        self._learning = SiteLearning(name, data.task, config, samples_of(data, config), spending)
        self._tested: list[Tested] = []
        super().__init__(name, config.digest(), store, self._learning)

    def tested(self) -> list[Tested]:
        """Return the classifiers, and the synthetic set if one was drawn."""
        return self._tested

    def account(self) -> dict[str, Any]:
        """Return what the job's disclosures can tell."""
        return account(self._disclosures, self._data.images_per_case)

    def run(self, task: SiteTask, received: State, send: Send) -> Outcome:  # noqa: ARG002 - there are no steps
        """Take what is shared; train it for a round, or classify the test images.

        Raises:
            MucaldError: see the steps; the next task then begins with the last complete round.
        """
        start = time.perf_counter()
        self._restore(task.counted(self.name), task.is_new(self.name))
        # Until the task is done, the state in memory is that of no complete round.
        self._completed = None
        report, size = data_report(self.name, self._data, task.round), byte_count(received)
        mixture = float(received.pop(MIXTURE)) if MIXTURE in received else self._learning.mixture
        begun = self._learning.take(received)
        if begun:
            report["embeddings"] = origin(self._data.train.content)  # type: ignore[attr-defined]
        change: State = {}
        if task.kind == "train":
            learnt = self._learning.learn(task.round, begun, task.is_new(self.name))
            change = learnt.change
            report |= {"losses": learnt.losses, "gradients": {}, "steps": learnt.steps}
            if learnt.votes is not None:
                report["votes"] = learnt.votes
            self._save(task.round + 1)
        else:
            report |= self._test(mixture)
        up = byte_count(change)
        report["wire"] = asdict(Traffic(up, size, up + size if task.kind == "train" else 0))
        report["seconds"] = time.perf_counter() - start
        return Outcome({self.name: report}, change)

    def _test(self, common: float) -> dict[str, Any]:
        classifiers, drawn = self._learning.classifiers()
        own, test = self._learning.mixture, self._learning.samples["test"]
        report = dict[str, Any]()

        def predict(number: int, batch: Batch) -> Tensor:
            rows = torch.arange(number * size, number * size + len(batch.targets))
            return classifiers.log_probabilities(test.x[rows], own)

        size = self._config.training.batch_size
        report["test"], report["balanced_per_image"], _ = scores_of_test(self._data, size, predict)
        report["classifiers"] = {"mixture_of_site": own, "mixture_of_all": common}
        for name, mixture in (("local", 1.0), ("shared", 0.0), ("of_site", own), ("of_all", common)):
            report["classifiers"][name] = classifiers.scores(test, mixture)
        files = {}
        if drawn is not None:
            header = self._data.train.content.header  # type: ignore[attr-defined]
            files[SYNTHETIC_FILE] = synthetic_set(drawn, header, self._config)
        self._tested = [Tested(self.name, self._data.task, classifiers.tensors(), None, files)]
        return report

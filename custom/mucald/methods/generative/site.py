"""A site that trains on its embeddings, shares a generator or classifier, and classifies for itself."""

import hashlib
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mucald.data.embeddings.loader import EmbeddingSplit
from mucald.data.embeddings.sets import EmbeddingSet
from mucald.data.order import epoch_batches
from mucald.data.site_data import Batch, SiteData
from mucald.errors import TrainingError
from mucald.federation.method import Outcome, Send, State, Tested
from mucald.federation.task import SiteTask
from mucald.methods.generative.algorithms import make_algorithm
from mucald.methods.generative.algorithms.base import Samples
from mucald.methods.generative.build import build_learner
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.downstream import Classifiers, best_mixture, train_classifier
from mucald.methods.generative.features import features
from mucald.methods.generative.server import MIXTURE
from mucald.methods.generative.spending import Spending
from mucald.methods.generative.synthesis import SYNTHETIC_FILE, synthetic_samples, synthetic_set
from mucald.metrics.scoring import data_report, scores_of_test
from mucald.privacy.disclosure import Disclosure, account
from mucald.state.averages import Averages
from mucald.state.checkpoint import CheckpointStore
from mucald.state.resumable import Resumable
from mucald.wire.tensors import byte_count, check_tensors
from mucald.wire.traffic import Traffic


class _Kept:
    """What a site's checkpoint holds: its learner, if there is one, and its λ."""

    def __init__(self, learner: Any):
        self.learner, self.mixture = learner, 0.5

    def state(self) -> State:
        own = {} if self.learner is None else self.learner.state()
        return own | {MIXTURE: torch.tensor([self.mixture], dtype=torch.float64)}

    def load_state(self, tensors: State) -> None:
        self.mixture = float(tensors[MIXTURE])
        if self.learner is not None:
            self.learner.load_state({name: t for name, t in tensors.items() if name != MIXTURE})


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
        self._config, self._data, self._disclosures, self._spending = config, data, disclosures, spending
        self._algorithm = make_algorithm(config.algorithm)
        self._kept = _Kept(build_learner(config, data.task.name))
        self._learner = self._kept.learner
        self._train_set, self._validation_set = (
            samples_of(split, config) for split in (data.train, data.validation)
        )
        self._tested: list[Tested] = []
        super().__init__(name, config.digest(), store, self._kept)

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
        mixture = float(received.pop(MIXTURE)) if MIXTURE in received else self._kept.mixture
        begun = self._take(received)
        change: State = {}
        if task.kind == "train":
            if task.round == self._config.training.rounds - 1 and self._algorithm.mixes:
                report["votes"] = self._vote()
            report |= self._train(task, begun)
            if self._learner is not None:
                shared = self._learner.shared()
                change = {name: tensor.detach() - begun[name] for name, tensor in shared.items()}
            self._save(task.round + 1)
        else:
            report |= self._test(mixture)
        up = byte_count(change)
        report["wire"] = asdict(Traffic(up, size, up + size if task.kind == "train" else 0))
        report["seconds"] = time.perf_counter() - start
        return Outcome({self.name: report}, change)

    @torch.no_grad()
    def _take(self, received: State) -> State:
        """Put the shared weights in place, and return a copy of them."""
        shared = {} if self._learner is None else self._learner.shared()
        check_tensors(received, shared, "the server")
        for name, tensor in received.items():
            shared[name].copy_(tensor)
        return {name: tensor.detach().clone() for name, tensor in shared.items()}

    def _train(self, task: SiteTask, begun: State) -> dict[str, Any]:
        if self._learner is None or (self._algorithm.once and not task.is_new(self.name)):
            return {"losses": {}, "gradients": {}, "steps": 0}
        losses = self._plain(task, begun) if self._spending is None else self._private(task, begun)
        shown = losses.means() if self._algorithm.loss else {}
        return {"losses": shown, "gradients": {}, "steps": len(self._plan(task.round))}

    def _plan(self, round_number: int) -> list[Tensor]:
        """Return the rows of each step of a round; with noise a step takes all."""
        epochs = 1 if self._algorithm.once else self._config.training.local_epochs
        count = len(self._train_set)
        if self._spending is not None:
            return [torch.arange(count)] * epochs
        return [
            rows
            for epoch in range(epochs)
            for rows in epoch_batches(self._config, self.name, round_number, epoch, count)
        ]

    def _private(self, task: SiteTask, begun: State) -> Averages:
        assert self._spending is not None
        plan, losses = self._plan(task.round), Averages()
        inputs = _digest(begun | self._kept.state() | {"x": self._train_set.x, "y": self._train_set.labels})
        key = self._spending.noise_key(self.name, task.round, inputs)
        self._spending.spend(key, len(plan))
        step = self._spending.step
        for number in range(len(plan)):
            public = (self._config.seed, self.name, task.round, number)
            rate = self._config.rate(task.round, number, len(plan))
            loss = self._learner.private_step(self._train_set, step, (*key, number), public, rate)
            losses.add(self._algorithm.loss, loss)
        return losses

    def _plain(self, task: SiteTask, begun: State) -> Averages:
        plan, losses = self._plan(task.round), Averages()
        for number, rows in enumerate(plan):
            public = (self._config.seed, self.name, task.round, number)
            rate = self._config.rate(task.round, number, len(plan))
            loss = self._learner.plain_step(self._train_set.at(rows), public, rate, begun)
            if loss != loss:
                raise TrainingError(
                    f"the loss of site '{self.name}' is not finite at round/step {task.round}/{number}; "
                    "lower the learning rate"
                )
            losses.add(self._algorithm.loss, loss)
        return losses

    def _vote(self) -> dict[str, float]:
        """Return how every λ does on the validation images with what the round begins with; keep the best."""
        votes = self._classifiers()[0].votes(self._validation_set)
        self._kept.mixture = best_mixture(votes)
        return votes

    def _classifiers(self) -> tuple[Classifiers, Samples | None]:
        """Return the classifiers of what is shared now, and the synthetic samples behind them."""
        config, n_classes = self._config.downstream, self._data.task.n_classes
        local, drawn = None, None
        shared: nn.Module | None = None
        if self._algorithm.serves == "generator":
            drawn = synthetic_samples(self._algorithm, self._learner, n_classes, self._config, self.name)
            shared = train_classifier(drawn, n_classes, config, self._config.seed)
        elif self._algorithm.serves == "classifier":
            shared = self._learner.shared_classifier()
        if self._algorithm.mixes:
            local = train_classifier(self._train_set, n_classes, config, self._config.seed)
        return Classifiers(local, shared), drawn

    def _test(self, common: float) -> dict[str, Any]:
        classifiers, drawn = self._classifiers()
        own = self._kept.mixture
        report, test = dict[str, Any](), samples_of(self._data.test, self._config)

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


def samples_of(split: Any, config: GenerativeConfig) -> Samples:
    """Return features and classes of a split."""
    assert isinstance(split, EmbeddingSplit)
    content: EmbeddingSet = split.content
    return Samples(features(split, config.features), content.labels)


def _digest(tensors: State) -> str:
    """Return a hash of tensors, by which releases from other inputs get other noise."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()

"""What a site learns, apart from tasks, checkpoints and reports: rounds, votes for λ, and classifiers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mucald.data.embeddings.loader import EmbeddingSplit
from mucald.data.order import epoch_batches
from mucald.data.site_data import SiteData
from mucald.errors import TrainingError
from mucald.federation.method import State
from mucald.methods.generative.algorithms import make_algorithm
from mucald.methods.generative.algorithms.base import Samples
from mucald.methods.generative.build import build_learner
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.downstream import Classifiers, best_mixture, train_classifier
from mucald.methods.generative.features import features
from mucald.methods.generative.server import MIXTURE
from mucald.methods.generative.spending import Noise
from mucald.methods.generative.synthesis import synthetic_samples
from mucald.randomness import Key
from mucald.state.averages import Averages
from mucald.tasks import Task
from mucald.wire.tensors import check_tensors

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Learnt:
    """What a round gives.

    Args:
        change: of the shared weights.
        losses: their means over the steps, by name.
        steps: that were taken.
        votes: of the last round, the score of every λ; None in others.
    """

    change: State
    losses: dict[str, float]
    steps: int
    votes: dict[str, float] | None


class SiteLearning:
    """A site's learner, its λ, and its own classifier.

    Args:
        site: name of the site.
        task: its task.
        config: the job.
        samples: the site's, by split.
        noise: that its steps have; None without.
        own: its own classifier, where that is trained already.
    """

    def __init__(
        self,
        site: str,
        task: Task,
        config: GenerativeConfig,
        samples: Mapping[str, Samples],
        noise: Noise | None,
        own: nn.Module | None = None,
    ):
        self._site, self._n_classes, self._config, self._noise = site, task.n_classes, config, noise
        self.samples, self.mixture = samples, 0.5
        self._algorithm, self._own = make_algorithm(config.algorithm), own
        self._learner: Any = build_learner(config, task.name)

    def state(self) -> State:
        """Return everything that a checkpoint holds."""
        own = {} if self._learner is None else self._learner.state()
        return own | {MIXTURE: torch.tensor([self.mixture], dtype=torch.float64)}

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        self.mixture = float(tensors[MIXTURE])
        if self._learner is not None:
            self._learner.load_state({name: t for name, t in tensors.items() if name != MIXTURE})

    @torch.no_grad()
    def take(self, received: State) -> State:
        """Put the shared weights in place, and return a copy of them.

        Raises:
            WireError: they are not those of this job.
        """
        shared = {} if self._learner is None else self._learner.shared()
        check_tensors(received, shared, "the server")
        for name, tensor in received.items():
            shared[name].copy_(tensor)
        return {name: tensor.detach().clone() for name, tensor in shared.items()}

    def learn(self, round_number: int, begun: State, first: bool) -> Learnt:
        """Train for a round; in the last one vote on λ before, with what the round begins with.

        Args:
            round_number: number of complete rounds before this one.
            begun: what :meth:`take` returned.
            first: whether it is the site's first round.

        Raises:
            TrainingError: a loss is not finite.
            PolicyError: the budget of noise is spent.
        """
        last = round_number == self._config.training.rounds - 1
        votes = self._vote() if last and self._algorithm.mixes else None
        if self._learner is None:
            return Learnt({}, {}, 0, votes)
        plan = self._plan(round_number) if first or not self._algorithm.once else []
        losses = self._train(plan, round_number, begun)
        change = {name: tensor.detach() - begun[name] for name, tensor in self._learner.shared().items()}
        return Learnt(change, losses.means() if self._algorithm.loss else {}, len(plan), votes)

    def _plan(self, round_number: int) -> list[Tensor]:
        """Return the rows of each step of a round; with noise a step takes all."""
        epochs = 1 if self._algorithm.once else self._config.training.local_epochs
        count = len(self.samples["train"])
        if self._noise is not None:
            return [torch.arange(count)] * epochs
        return [
            rows
            for epoch in range(epochs)
            for rows in epoch_batches(self._config, self._site, round_number, epoch, count)
        ]

    def _train(self, plan: list[Tensor], round_number: int, begun: State) -> Averages:
        noise, train, losses = self._noise, self.samples["train"], Averages()
        key = self._spent(noise, round_number, begun, len(plan)) if noise is not None and plan else ()
        for number, rows in enumerate(plan):
            public = (self._config.seed, self._site, round_number, number)
            rate = self._config.rate(round_number, number, len(plan))
            if noise is None:
                loss = self._learner.plain_step(train.at(rows), public, rate, begun)
            else:
                loss = self._learner.private_step(train, noise.step, (*key, number), public, rate)
            if loss != loss:
                raise TrainingError(
                    f"the loss of site '{self._site}' is not finite at round/step {round_number}/{number}; "
                    "lower the learning rate"
                )
            losses.add(self._algorithm.loss, loss)
        return losses

    def _spent(self, noise: Noise, round_number: int, begun: State, count: int) -> Key:
        """Account for the noise of a round's steps, and return its name."""
        train = self.samples["train"]
        inputs = _digest(begun | self.state() | {"x": train.x, "y": train.labels})
        key = noise.key(self._site, round_number, inputs)
        noise.spend(key, count)
        return key

    def _vote(self) -> dict[str, float]:
        """Return how every λ does on the validation images; keep the best."""
        votes = self.classifiers()[0].votes(self.samples["validation"])
        self.mixture = best_mixture(votes)
        return votes

    def classifiers(self) -> tuple[Classifiers, Samples | None]:
        """Return the classifiers of what is shared now, and the synthetic samples behind them."""
        shared: nn.Module | None = None
        drawn = None
        if self._algorithm.serves == "generator":
            drawn = synthetic_samples(
                self._algorithm, self._learner, self._n_classes, self._config, self._site
            )
            shared = self._trained(drawn)
        elif self._algorithm.serves == "classifier":
            shared = self._learner.shared_classifier()
        if self._algorithm.mixes:
            self._own = self._own or self._trained(self.samples["train"])
        return Classifiers(self._own if self._algorithm.mixes else None, shared), drawn

    def _trained(self, samples: Samples) -> nn.Module:
        return train_classifier(samples, self._n_classes, self._config.downstream, self._config.seed)


def samples_of(data: SiteData, config: GenerativeConfig) -> dict[str, Samples]:
    """Return features and classes of a site, by split."""
    return {name: _samples(getattr(data, name), config) for name in SPLITS}


def _samples(split: Any, config: GenerativeConfig) -> Samples:
    assert isinstance(split, EmbeddingSplit)
    return Samples(features(split, config.features), split.content.labels)


def _digest(tensors: State) -> str:
    """Return a hash of tensors, by which releases from other inputs get other noise."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()

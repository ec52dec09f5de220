"""A job of the family without the engine around it: the same numbers, with data and own classifiers once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mucald.data.order import epoch_batches
from mucald.data.site_data import SiteData
from mucald.methods.generative.algorithms import make_algorithm
from mucald.methods.generative.algorithms.base import Learner, Samples
from mucald.methods.generative.algorithms.fedavg import ClassifierLearner
from mucald.methods.generative.build import build_learner
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.disclosures import steps_of
from mucald.methods.generative.downstream import Classifiers, best_mixture, mean_votes, train_classifier
from mucald.methods.generative.family import LARGEST_LOSS
from mucald.methods.generative.site import samples_of
from mucald.methods.generative.synthesis import synthetic_samples
from mucald.privacy.dp.steps import PrivateStep

PHANTOMS = "phantoms"
SPLITS = ("train", "validation", "test")


@dataclass
class Federation:
    """The sites of an experiment.

    Args:
        data: by site.
        config: of some job on them; features and classifiers are those of all.
    """

    data: Mapping[str, SiteData]
    config: GenerativeConfig
    samples: dict[str, dict[str, Samples]] = field(default_factory=dict)
    own: dict[str, nn.Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for site, data in self.data.items():
            self.samples[site] = {name: samples_of(getattr(data, name), self.config) for name in SPLITS}
            self.own[site] = self.classifier(self.samples[site]["train"])

    def classifier(self, samples: Samples) -> nn.Module:
        """Train a classifier of the job's kind."""
        return train_classifier(samples, self.n_classes, self.config.downstream, self.config.seed)

    @property
    def n_classes(self) -> int:
        """Classes of the task."""
        return next(iter(self.data.values())).task.n_classes

    def pooled(self, split: str) -> Samples:
        """Return a split of all sites."""
        parts = [of_site[split] for of_site in self.samples.values()]
        return Samples(torch.cat([part.x for part in parts]), torch.cat([part.labels for part in parts]))


@dataclass(frozen=True)
class Outcome:
    """What a job achieves.

    Args:
        own: by classifier, the balanced accuracy of every site on its own test images.
        all: the same on the test images of all sites.
        accuracy: of the mixture, of every site on its own test images.
        synthetic: of the first site; None where nothing is drawn.
    """

    own: dict[str, list[float]]
    all: dict[str, list[float]]
    accuracy: list[float]
    synthetic: Samples | None


def run(config: GenerativeConfig, federation: Federation) -> Outcome:
    """Train and test a job on the sites; its noise is that of the job's own run on phantoms.

    Args:
        config: the job.
        federation: its sites.
    """
    algorithm = make_algorithm(config.algorithm)
    if algorithm.pooled:
        one = Classifiers(None, federation.classifier(federation.pooled("train")))
        return _tested(federation, dict.fromkeys(federation.data, one), {}, 0.0, None)
    task = next(iter(federation.data.values())).task.name
    learners = {site: build_learner(config, task) for site in federation.data}
    weights = {n: t.detach().clone() for n, t in _shared(next(iter(learners.values()))).items()}
    mixtures: dict[str, float] = dict.fromkeys(federation.data, 0.5)
    common = 0.5
    for number in range(config.training.rounds):
        if number == config.training.rounds - 1 and algorithm.mixes:
            votes = {}
            for site, learner in learners.items():
                _put(learner, weights)
                found, _ = _classifiers(config, federation, site, learner)
                votes[site] = found.votes(federation.samples[site]["validation"])
                mixtures[site] = best_mixture(votes[site])
            common = best_mixture(mean_votes(list(votes.values())))
        changes = []
        for site, learner in learners.items():
            if learner is None:
                continue
            _put(learner, weights)
            _train(config, federation, site, learner, number, weights)
            changes.append({n: t.detach() - weights[n] for n, t in learner.shared().items()})
        if changes:
            sizes = [len(of_site["train"]) for of_site in federation.samples.values()]
            weights = algorithm.combine(weights, changes, sizes)
    tested, drawn = dict[str, Classifiers](), None
    for site, learner in learners.items():
        _put(learner, weights)
        tested[site], own = _classifiers(config, federation, site, learner)
        drawn = own if drawn is None else drawn
    return _tested(federation, tested, mixtures, common, drawn)


def _shared(learner: Learner | None) -> dict[str, Tensor]:
    return {} if learner is None else learner.shared()


@torch.no_grad()
def _put(learner: Learner | None, weights: Mapping[str, Tensor]) -> None:
    for name, tensor in _shared(learner).items():
        tensor.copy_(weights[name])


def _train(
    config: GenerativeConfig,
    federation: Federation,
    site: str,
    learner: Learner,
    number: int,
    weights: dict[str, Tensor],
) -> None:
    algorithm, guarantee = make_algorithm(config.algorithm), config.privacy.guarantee
    samples = federation.samples[site]["train"]
    if algorithm.once and number:
        return
    epochs = 1 if algorithm.once else config.training.local_epochs
    if guarantee is not None:
        multiplier = guarantee.noise_multiplier(steps_of(config))
        step = PrivateStep(config.privacy.clip, multiplier, LARGEST_LOSS)
        # That of phantoms follows from the seed.
        secret = f"{federation.data[site].noise_secret} {config.seed}"
        if federation.data[site].source == PHANTOMS:
            secret = federation.data[site].noise_secret
        for n in range(epochs):
            noise = (secret, site, number, "step noise", n)
            rate = config.rate(number, n, epochs)
            learner.private_step(samples, step, noise, (config.seed, site, number, n), rate)
        return
    plan = [
        rows for epoch in range(epochs) for rows in epoch_batches(config, site, number, epoch, len(samples))
    ]
    for n, rows in enumerate(plan):
        rate = config.rate(number, n, len(plan))
        learner.plain_step(samples.at(rows), (config.seed, site, number, n), rate, weights)


def _classifiers(
    config: GenerativeConfig, federation: Federation, site: str, learner: Learner | None
) -> tuple[Classifiers, Samples | None]:
    algorithm, drawn = make_algorithm(config.algorithm), None
    shared: nn.Module | None = None
    if algorithm.serves == "generator":
        drawn = synthetic_samples(algorithm, learner, federation.n_classes, config, site)
        shared = federation.classifier(drawn)
    elif algorithm.serves == "classifier":
        assert isinstance(learner, ClassifierLearner)
        shared = learner.shared_classifier()
    return Classifiers(federation.own[site] if algorithm.mixes else None, shared), drawn


def _tested(
    federation: Federation,
    found: Mapping[str, Classifiers],
    mixtures: Mapping[str, float],
    common: float,
    drawn: Samples | None,
) -> Outcome:
    everything = federation.pooled("test")
    own: dict[str, list[float]] = {name: [] for name in ("local", "shared", "of_site", "of_all")}
    of_all: dict[str, list[float]] = {name: [] for name in own}
    accuracy = []
    for site, classifiers in found.items():
        test, mixture = federation.samples[site]["test"], mixtures.get(site, 0.5)
        for name, value in (("local", 1.0), ("shared", 0.0), ("of_site", mixture), ("of_all", common)):
            own[name].append(classifiers.scores(test, value))
            of_all[name].append(classifiers.scores(everything, value))
        predicted = classifiers.log_probabilities(test.x, mixture).argmax(dim=1)
        accuracy.append(float((predicted == test.labels).double().mean()))
    return Outcome(own, of_all, accuracy, drawn)


def mean_and_interval(values: list[float]) -> tuple[float, float]:
    """Return the mean of some seeds, and 1.96 standard errors of it."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, 1.96 * math.sqrt(variance / len(values))

"""A job of the family without the engine around it: the same numbers, with data and own classifiers once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from mucald.data.site_data import SiteData
from mucald.federation.method import Contributor
from mucald.federation.task import SiteTask
from mucald.methods.generative.algorithms import make_algorithm
from mucald.methods.generative.algorithms.base import Samples
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.downstream import Classifiers, train_classifier
from mucald.methods.generative.learning import SiteLearning, samples_of
from mucald.methods.generative.server import MIXTURE, GenerativeServer
from mucald.methods.generative.spending import Noise, private_step
from mucald.randomness import Key

PHANTOMS = "phantoms"


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
            self.samples[site] = samples_of(data, self.config)
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
        return Samples.together([of_site[split] for of_site in self.samples.values()])

    def learning(self, site: str, config: GenerativeConfig) -> SiteLearning:
        """Return what learns for a site in a job."""
        data, noise = self.data[site], None
        if config.privacy.guarantee is not None:
            # That of phantoms follows from the seed.
            phantoms = data.source == PHANTOMS
            secret = data.noise_secret if phantoms else f"{data.noise_secret} {config.seed}"
            noise = _Unentered(private_step(config), secret, config.digest(), phantoms=True)
        return SiteLearning(site, data.task, config, self.samples[site], noise, self.own[site])


class _Unentered(Noise):
    """Noise of an experiment: nothing of it leaves, so no ledger has it."""

    def spend(self, key: Key, count: int) -> None:
        """Do nothing."""


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
        alike = Classifiers(None, federation.classifier(federation.pooled("train")))
        return _tested(federation, dict.fromkeys(federation.data, alike), {}, 0.0, None)
    server = GenerativeServer(config, list(federation.data))
    sites = {site: federation.learning(site, config) for site in federation.data}
    present = {site: Contributor(len(one.samples["train"]), None) for site, one in sites.items()}
    for number in range(config.training.rounds):
        server.begin_round(number)
        task = SiteTask("train", number, "experiment")
        for site, one in sites.items():
            learnt = one.learn(number, one.take(server.payload(site, task)), number == 0)
            server.receive(site, {site: {"votes": learnt.votes}}, learnt.change)
        server.end_round(number, present)
    shared = server.state()
    common = float(shared.pop(MIXTURE))
    tested: dict[str, Classifiers] = {}
    drawn: list[Samples | None] = []
    for site, one in sites.items():
        one.take(shared)
        tested[site], own = one.classifiers()
        drawn.append(own)
    return _tested(federation, tested, {site: one.mixture for site, one in sites.items()}, common, drawn[0])


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

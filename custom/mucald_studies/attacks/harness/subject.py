"""The ground truth of one site of a run, which the evaluation has and an attacker has not."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mucald import randomness
from mucald.config.job import JobConfig
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS
from mucald.data.loading import load_for, load_site_data
from mucald.data.site_data import DataSplit, SiteData
from mucald.data.site_file import read_site_file
from mucald.errors import AttackError
from mucald.inference.model_files import TrainedModel, find_model_files, load_model
from mucald.tasks import Task, get_task
from mucald_studies.shared_run import RESULTS, KeptRun

NON_MEMBERS = 200
TOLERANCE = 0.02
"""Difference of a mean score by which a test made again may differ: threads and devices change last bits."""

Key = Callable[..., tuple[int | str, ...]]
"""Names the attacker's draws for a purpose."""


@dataclass(frozen=True)
class Samples:
    """Images (N, 3, S, S) in [0, 1] and their masks (N, S, S), or features (N, k) and classes (N,); int64."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def at(self, rows: Tensor) -> "Samples":
        """Return the samples ``rows``, in that order."""
        return Samples(self.inputs[rows], self.targets[rows])

    def up_to(self, end: int) -> "Samples":
        """Return the first ``end`` samples."""
        return Samples(self.inputs[:end], self.targets[:end])


def _together(*parts: Samples) -> Samples:
    return Samples(torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts]))


@dataclass(frozen=True)
class Recipe:
    """How a site's network was made and trained, as the job and the site's reports tell.

    Args:
        build: makes the whole network, untrained; it maps inputs (N, …) to logits (N, C, …).
        n_train: the site's training samples.
        epochs: passes over them.
        batch_size: samples per step.
        learning_rate: of AdamW.
        loss: of logits and targets.
    """

    build: Callable[[], nn.Module]
    n_train: int
    epochs: int
    batch_size: int
    learning_rate: float
    loss: Callable[[Tensor, Tensor], Tensor]


class Subject(ABC):
    """A site under attack; subclasses know what its run left.

    Args:
        config: the job.
        run_folder: the server's.
        site: name of the site.
        home: the site's own folder, with its ``site.json`` if it has samples of its own.
        auxiliary_home: folder with a ``site.json`` that names disjoint samples of the same task, for the
            attacker; without it phantoms of other seeds, or else samples that the site held out.
    """

    def __init__(
        self, config: JobConfig, run_folder: Path, site: str, home: Path, auxiliary_home: Path | None
    ):
        self.site, self._job, self._run_folder = site, config, run_folder
        self._home, self._auxiliary_home = home, auxiliary_home
        self.task: Task = get_task(config.site(site).task)

    @property
    @abstractmethod
    def data(self) -> SiteData:
        """The site's samples."""

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """How its network was made and trained."""

    @abstractmethod
    def outputs(self, inputs: Tensor, key: Key) -> Tensor:
        """Return the logits (N, C, …) of the network that the attacker may ask.

        Raises:
            AttackError: it has none.
        """

    @property
    def draws_phantoms(self) -> bool:
        """Whether there are as many samples of the site's kind as one likes."""
        return self.data.source == "phantoms"

    @cached_property
    def model(self) -> TrainedModel:
        """The site's weights of its best round, and the server's where it keeps any for the site."""
        root = self._run_folder
        while root.name in ("server", "simulate_job"):
            root = root.parent
        model = load_model(*find_model_files(root, self.site))
        if model.config.digest() != self._job.digest():
            raise AttackError(f"the models of site '{self.site}' below {root} are of another job or seed")
        return model

    @cached_property
    def others(self) -> Samples:
        """Samples that the attacker may have: of the site's kind, not trained on, not :attr:`attackable`."""
        if self._auxiliary_home is not None:
            return self._folder(self._auxiliary_home)
        test = self.data.test
        return _together(self.samples(self.data.validation), self.samples(test).up_to(len(test) // 2))

    @property
    def attackable(self) -> Tensor:
        """Numbers of the test samples that no attacker has."""
        n = len(self.data.test)
        own = self.draws_phantoms or self._auxiliary_home is not None
        return torch.arange(0 if own else n // 2, n)

    def drawn(self, purpose: str, seed: int, count: int) -> Samples:
        """Return ``count`` samples of the site's kind that it does not have; fewer if it draws no phantoms.

        Args:
            purpose: samples of different purposes are disjoint.
            seed: the attacker's.
            count: how many.
        """
        if not self.draws_phantoms or self._auxiliary_home is not None:
            return self.others.up_to(count)
        return self.phantoms(
            [randomness.generator("attack", purpose, seed, self.site, index) for index in range(count)]
        )

    def samples(self, split: DataSplit) -> Samples:
        """Return the samples of a split as the attacked network takes them."""
        batch = split.whole()
        return Samples(batch.inputs, batch.targets)

    def phantoms(self, draws: Sequence[np.random.Generator]) -> Samples:
        """Return a phantom of the site's kind for each generator, none of its own."""
        size = self._job.data.image_size
        draw, take = PHANTOMS[self.task.name], SCANNERS[self._job.site(self.site).scanner].take
        taken = [take(*draw(rng, size), rng) for rng in draws]
        images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in taken])
        masks = torch.stack([torch.tensor(mask) for _, mask in taken])
        return Samples(images.to(torch.float32) / 255, masks.to(torch.int64))

    def candidates(self, seed: int) -> tuple[Samples, Tensor]:
        """Return training samples among others in a drawn order, and which of them (N,) were trained on."""
        if self.draws_phantoms:
            others = self.drawn("non-members", seed, NON_MEMBERS)
        else:
            others = self.samples(self.data.test).at(self.attackable)
        every = _together(self.samples(self.data.train), others)
        draws = randomness.generator("attack", "candidates", seed, self.site)
        order = torch.from_numpy(draws.permutation(len(every)))
        return every.at(order), order < len(self.data.train)

    def _folder(self, home: Path) -> Samples:
        theirs = read_site_file(home / "site.json")
        if theirs.task != self.task.name:
            raise AttackError(f"{home} holds samples of task '{theirs.task}', not of '{self.task.name}'")
        config = self._job
        data = load_site_data(f"{self.site} auxiliary", None, config.data, config.seed, home)
        return _together(*(self.samples(split) for split in (data.train, data.validation, data.test)))


class KeptSubject(Subject):
    """A site of a run in which weights travel: its samples are made again, and verified by the run's results.

    Args:
        run: what the server has of it.
        site, home, auxiliary_home: those of a subject.
    """

    def __init__(self, run: KeptRun, site: str, home: Path, auxiliary_home: Path | None):
        super().__init__(run.config, run.run_folder, site, home, auxiliary_home)
        self._reports = run.reports

    @cached_property
    def data(self) -> SiteData:
        """The site's samples, verified against the scores of its test.

        Raises:
            AttackError: they are others.
        """
        data, told = load_for(self.site, self._job, self._home, False), self._reports[self.site]
        counts = [len(split) for split in (data.train, data.validation, data.test)]
        wanted = [told[f"n_{name}"] for name in ("train", "validation", "test")]
        error = self.error_of_test(data, told) if counts == wanted else math.inf
        if not error < TOLERANCE:
            raise AttackError(
                f"the {self.task.input}s made again for site '{self.site}' are not those of the run: "
                f"{counts} in training, validation and test, {wanted} in {self._run_folder / RESULTS}, and "
                f"test scores differ by {error:.2g}; give the folder that the run used with --home"
            )
        return data

    @abstractmethod
    def error_of_test(self, data: SiteData, told: Mapping[str, Any]) -> float:
        """Return by how much a score on the test samples differs from what the run's results tell.

        Args:
            data: the samples; :attr:`data` waits for this.
            told: what the results say of the site.
        """

"""The ground truth of one site of a run, which the evaluation has and an attacker has not."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from mucald import randomness
from mucald.config.job import JobConfig
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS
from mucald.data.loading import load_site_data
from mucald.data.site_data import Batch, SiteData
from mucald.data.site_file import read_site_file
from mucald.errors import AttackError
from mucald.inference.model_files import TrainedModel, find_model_files, load_model
from mucald.tasks import Task, get_task

NON_MEMBERS = 200

Key = Callable[..., tuple[int | str, ...]]
"""Names the attacker's draws for a purpose."""


@dataclass(frozen=True)
class Images:
    """Images (N, 3, S, S) in [0, 1] and their masks (N, S, S), int64."""

    images: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, start: int, end: int | None = None) -> "Images":
        """Return the images from ``start`` up to ``end``."""
        return Images(self.images[start:end], self.masks[start:end])


def _together(*parts: Images | Batch) -> Images:
    pairs = [(p.images, p.masks) if isinstance(p, Images) else (p.inputs, p.targets) for p in parts]
    images, masks = zip(*pairs, strict=True)
    return Images(torch.cat(images), torch.cat(masks))


@dataclass(frozen=True)
class Recipe:
    """How a site's network was made and trained, as the job and the site's reports tell.

    Args:
        build: makes the whole network, untrained; it maps images (N, 3, S, S) to logits (N, C, S, S).
        n_train: the site's training images.
        epochs: passes over them.
        batch_size: images per step.
        learning_rate: of AdamW.
        cross_entropy: its weight in the loss, beside Dice.
    """

    build: Callable[[], nn.Module]
    n_train: int
    epochs: int
    batch_size: int
    learning_rate: float
    cross_entropy: float


class Subject(ABC):
    """A site under attack; subclasses know what its run left.

    Args:
        config: the job.
        run_folder: the server's.
        site: name of the site.
        home: the site's own folder, with its ``site.json`` if it has images of its own.
        auxiliary_home: folder with a ``site.json`` that names disjoint images of the same task, for the
            attacker; without it phantoms of other seeds, or else images that the site held out.
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
        """The site's images."""

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """How its network was made and trained."""

    @abstractmethod
    def outputs(self, images: Tensor, key: Key) -> Tensor:
        """Return the logits (N, C, S, S) of the network that the attacker may ask.

        Raises:
            AttackError: it has none.
        """

    @property
    def draws_phantoms(self) -> bool:
        """Whether there are as many images of the site's kind as one likes."""
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
    def others(self) -> Images:
        """Images that the attacker may have: of the site's kind, not trained on, not :attr:`attackable`."""
        if self._auxiliary_home is not None:
            return self._folder(self._auxiliary_home)
        test = self.data.test
        return _together(self.data.validation.whole(), test.batch(range(len(test) // 2)))

    @property
    def attackable(self) -> Tensor:
        """Numbers of the test images that no attacker has."""
        n = len(self.data.test)
        own = self.draws_phantoms or self._auxiliary_home is not None
        return torch.arange(0 if own else n // 2, n)

    def drawn(self, purpose: str, seed: int, count: int) -> Images:
        """Return ``count`` images of the site's kind that it does not have; fewer if it draws no phantoms.

        Args:
            purpose: images of different purposes are disjoint.
            seed: the attacker's.
            count: how many.
        """
        if not self.draws_phantoms or self._auxiliary_home is not None:
            return self.others.rows(0, count)
        size = self._job.data.image_size
        draw, take = PHANTOMS[self.task.name], SCANNERS[self._job.site(self.site).scanner].take
        draws = [randomness.generator("attack", purpose, seed, self.site, index) for index in range(count)]
        samples = [take(*draw(rng, size), rng) for rng in draws]
        images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in samples])
        masks = torch.stack([torch.tensor(mask) for _, mask in samples])
        return Images(images.to(torch.float32) / 255, masks.to(torch.int64))

    def candidates(self, seed: int) -> tuple[Images, Tensor]:
        """Return training images among others in a drawn order, and which of them (N,) were trained on."""
        members, others = self.data.train.whole(), self.data.test.batch(self.attackable)
        every = _together(
            members, self.drawn("non-members", seed, NON_MEMBERS) if self.draws_phantoms else others
        )
        draws = randomness.generator("attack", "candidates", seed, self.site)
        order = torch.from_numpy(draws.permutation(len(every)))
        return Images(every.images[order], every.masks[order]), order < len(self.data.train)

    def _folder(self, home: Path) -> Images:
        theirs = read_site_file(home / "site.json")
        if theirs.task != self.task.name:
            raise AttackError(f"{home} holds images of task '{theirs.task}', not of '{self.task.name}'")
        config = self._job
        data = load_site_data(f"{self.site} auxiliary", None, config.data, config.seed, home)
        return _together(data.train.whole(), data.validation.whole(), data.test.whole())

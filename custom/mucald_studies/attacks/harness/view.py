"""What an attacker sees: messages, job, the server's networks, and what its knowledge adds. Nothing else."""

from pathlib import Path

import torch
from torch import Tensor

from mucald import randomness
from mucald.errors import AttackError
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.wire.messages import Field
from mucald.tasks import Task
from mucald_studies.attacks.harness import traffic
from mucald_studies.attacks.harness.base import Attack, Knowledge, Target
from mucald_studies.attacks.harness.embedded import EmbeddedSubject
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.recorded import RecordedSubject
from mucald_studies.attacks.harness.subject import Recipe, Samples, Subject
from mucald_studies.attacks.harness.traffic import Sent
from mucald_studies.attacks.replay import DrivenSite

LEAST_AUXILIARY = 8


class View:
    """One site, of all ``subjects`` of the run, through the eyes of one attack.

    The ``budget`` is what the attack may spend; its seed decides which images it has.

    Raises:
        AttackError: the attack reads messages, and the run has none.
    """

    def __init__(self, attack: Attack, subject: Subject, subjects: dict[str, Subject], budget: Budget):
        self._attack, self._subject, self._subjects, self.budget = attack, subject, subjects, budget
        if attack.reads_messages:
            recorded(subject, attack)
        self._auxiliary: Samples | None = None

    def _require(self, knowledge: Knowledge) -> None:
        if knowledge not in self._attack.knowledge:
            raise AttackError(
                f"attack '{self._attack.name}' looks at '{knowledge}', which its knowledge does not name"
            )

    @property
    def _recorded(self) -> RecordedSubject:
        """The site, for an attack that says that it reads messages."""
        if not self._attack.reads_messages:
            raise AttackError(f"attack '{self._attack.name}' does not say that it reads messages")
        return recorded(self._subject, self._attack)

    @property
    def config(self) -> SplitConfig:
        """The job whose messages crossed, which the server knows."""
        return self._recorded.config

    @property
    def recipe(self) -> Recipe:
        """How the site's network was made and trained, which job and reports tell."""
        return self._subject.recipe

    @property
    def schedule(self) -> CosineSchedule:
        """Of the releases' noise."""
        return self._recorded.schedule

    @property
    def site(self) -> str:
        """Name of the site."""
        return self._subject.site

    @property
    def task(self) -> Task:
        """The site's task, which the job tells."""
        return self._subject.task

    def key(self, *purpose: int | str) -> tuple[int | str, ...]:
        """Return a name for the attacker's random draws."""
        return ("attack", self._attack.draws, self.budget.seed, self.site, *purpose)

    def training(self, field: Field, last_rounds: int | None = None) -> Sent:
        """Return what crossed in training steps, sample by sample."""
        return traffic.training(self._recorded.recording, self.site, field, last_rounds)

    def tested(self, field: Field) -> Sent:
        """Return what crossed in the test, for those images that no attacker has."""
        return traffic.evaluation(self._recorded.recording, self.site, field).of(self._subject.attackable)

    def released(self, target: Target, last_rounds: int | None = None) -> Sent:
        """Return the released latents of a split."""
        if target == "test":
            return self.tested(Field.LATENT)
        return self.training(Field.LATENT, last_rounds)

    def first_round(self, field: Field) -> Tensor:
        """Return what crossed in the first round's training, in its order."""
        return traffic.first_round(self._recorded.recording, self.site, field)

    @torch.no_grad()
    def denoised(self, latents: Tensor) -> Tensor:
        """Return what the server's own first denoiser makes of noised latents (N, L, h, w)."""
        server, level = self._recorded.server, self.release_level
        parts = [
            server.crdm1(x, x, torch.full((len(x),), level, dtype=torch.int64), None).denoised
            for x in latents.split(64)
        ]
        return torch.cat(parts)

    @property
    def has_denoiser(self) -> bool:
        """Whether the server has a denoiser to attack with."""
        return self.config.crdm.denoiser and self.config.release.noised

    @property
    def release_level(self) -> int:
        """Level t of every release; 0 if nothing is noised."""
        return self._recorded.level

    def bounded(self, latents: Tensor) -> Tensor:
        """Standardise and clamp latents as every site does; the code is public."""
        return self._recorded.release.bounded(latents)

    def noised(self, clean: Tensor, *purpose: int | str, releases: int = 1) -> Tensor:
        """Noise clean latents (N, L, h, w) as a site would, with the attacker's own noise.

        The draw is named by ``purpose``; the average of so many ``releases`` of each.
        """
        return self._recorded.noised(clean, self.key(*purpose), releases)

    def auxiliary(self) -> Samples:
        """Return samples of the site's kind that are none of its own.

        Raises:
            AttackError: there are too few.
        """
        self._require(Knowledge.AUXILIARY)
        if self._auxiliary is None:
            self._auxiliary = self._subject.drawn("auxiliary", self.budget.seed, self.budget.auxiliary)
        if len(self._auxiliary) < LEAST_AUXILIARY:
            raise AttackError(
                f"{len(self._auxiliary)} auxiliary images are too few for site '{self.site}', "
                f"{LEAST_AUXILIARY} are needed; name a folder of more with --auxiliary"
            )
        return self._auxiliary

    def front_end(self, images: Tensor) -> Tensor:
        """Return the clean latents (N, L, h, w) that the site's trained front end makes of images."""
        self._require(Knowledge.FRONT_END)
        return self._recorded.clean(self._recorded.segments, images)

    def leaked(self) -> tuple[Tensor, Samples, Tensor]:
        """Return the numbers of the leaked training samples, these samples, and the numbers of the others."""
        self._require(Knowledge.PAIRS)
        split = self._subject.data.train
        order = torch.from_numpy(randomness.generator(*self.key("leaked")).permutation(len(split)))
        count = int(self.budget.leaked * len(split))
        if not 2 <= count < len(split):
            raise AttackError(
                f"{count} of {len(split)} training images of site '{self.site}' leak; 2 or more are needed, "
                "and one to attack"
            )
        rows, rest = order[:count].sort().values, order[count:].sort().values
        batch = split.batch(rows)
        return rows, Samples(batch.inputs, batch.targets), rest

    def with_repeated_noise(self) -> tuple[Tensor, Tensor]:
        """Return what would cross in the training samples' first two releases if both had the same noise."""
        self._require(Knowledge.COUNTERFACTUAL)
        first, second = (self.noised(x, "repeated") for x in self._recorded.first_two_releases())
        return first, second

    def candidates(self) -> Samples:
        """Return samples of which some were trained on; which, is to be found out."""
        self._require(Knowledge.CANDIDATES)
        return self._subject.candidates(self.budget.seed)[0]

    def outputs(self, images: Tensor) -> Tensor:
        """Return the whole network's logits (N, C, S, S): as a user of the trained model gets them.

        Where weights travel, of the network that the server can put together.

        Raises:
            AttackError: it lacks a part of it.
        """
        self._require(Knowledge.OUTPUTS)
        return self._subject.outputs(images, self.key)

    def synthetic(self) -> Samples:
        """Return what the shared generator draws for the site, which follows from what the server has.

        Raises:
            AttackError: the run has no generator.
        """
        if not isinstance(self._subject, EmbeddedSubject):
            raise AttackError(f"attack '{self._attack.name}' needs a generator, which no site shares")
        return self._subject.synthetic

    def sites(self) -> dict[str, "View"]:
        """Return the views of all sites of the run."""
        self._require(Knowledge.SITES)
        return {
            name: View(self._attack, subject, self._subjects, self.budget)
            for name, subject in self._subjects.items()
        }

    def driven(self, folder: Path) -> DrivenSite:
        """Return the site before its first round, for an active server to train with."""
        self._require(Knowledge.CONTROL)
        site = self._recorded
        return DrivenSite(self.site, self.config, site.data, site.policy, folder)


def recorded(subject: Subject, attack: Attack) -> RecordedSubject:
    """Return a site whose messages an attack can read.

    Raises:
        AttackError: none crossed.
    """
    if isinstance(subject, RecordedSubject):
        return subject
    raise AttackError(
        f"attack '{attack.name}' reads latents and other messages of split learning, and in this job weights "
        "alone travel"
    )

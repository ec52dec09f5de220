"""A site of a recorded run of split learning, as the evaluation knows it."""

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from mucald import randomness
from mucald.data.loading import load_for
from mucald.data.site_data import SiteData
from mucald.errors import AttackError
from mucald.losses.segmentation import SegmentationLoss
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.causal.graphs import measures_of
from mucald.methods.split.disclosures import under
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments
from mucald.methods.split.wire.messages import Field
from mucald.nets import backbone_of
from mucald.privacy.policy import Policy, read_policy
from mucald.state.checkpoint import without_prefix
from mucald_studies.attacks.harness.subject import Key, Recipe, Subject
from mucald_studies.attacks.harness.traffic import assigned, evaluation
from mucald_studies.attacks.replay import replay
from mucald_studies.recording import Recording

CPU = torch.device("cpu")
TOLERANCE = 0.02
"""Relative error by which a release made again may differ from the one recorded: the wire rounds to int8."""


class RecordedSubject(Subject):
    """See :class:`.Subject`.

    Args:
        recording: of the run.
        site, home, auxiliary_home: those of a subject.

    Raises:
        AttackError: the run did not end, the images are not those of the recording, or the front end that
            released them was trained further.
    """

    def __init__(self, recording: Recording, site: str, home: Path, auxiliary_home: Path | None):
        super().__init__(recording.config, recording.run_folder, site, home, auxiliary_home)
        if recording.config.handover.epochs:
            raise AttackError(
                f"site '{site}' has trained its front end further since its last release; run the job with "
                "handover.epochs=0, which releases the same, and attack that"
            )
        self.recording, self.config = recording, recording.config

    @cached_property
    def data(self) -> SiteData:
        """The site's images, verified against the recorded test releases."""
        return load_for(self.site, self.config, self._home, False, measures_of)

    @cached_property
    def policy(self) -> Policy:
        """What the site lets out."""
        return read_policy(self._home, self.site)

    @cached_property
    def release(self) -> Release:
        """The site's release, with its secret."""
        return Release(under(self.policy, self.config).release, self.data.noise_secret, self.site)

    @cached_property
    def segments(self) -> SiteSegments:
        """The site's networks of its best round, as it used them in the test."""
        segments = SiteSegments(
            self.config, algorithm_of(self.config), self.site, self.task.n_classes, self.release, CPU
        )
        for name in ("front_end", "back_end"):
            part: nn.Module = getattr(segments, name)
            part.load_state_dict(without_prefix(name, self.model.site_weights))
            part.eval()
        self._verify(segments)
        return segments

    @cached_property
    def server(self) -> ServerSegments:
        """The server's networks for the site, of its best round."""
        segments = ServerSegments(self.config, algorithm_of(self.config), self.task)
        segments.load_state_dict(self.model.server_weights)
        return segments.eval()

    @cached_property
    def schedule(self) -> CosineSchedule:
        """Of the noise, which the job tells."""
        return CosineSchedule(self.config.release.timesteps)

    @property
    def level(self) -> int:
        """Level t of every release; 0 if nothing is noised."""
        return self.config.release.t if self.config.release.noised else 0

    @property
    def recipe(self) -> Recipe:
        """How the split network was trained; built in one piece, without noise and causal part."""
        config, backbone = self.config, backbone_of(self.config.network)
        training = config.training
        return Recipe(
            lambda: _Whole(backbone.front_end(), backbone.middle(), backbone.back_end(self.task.n_classes)),
            n_train=len(self.data.train),
            epochs=training.rounds * training.local_epochs + config.release.pretraining_epochs,
            batch_size=training.batch_size,
            learning_rate=config.optimiser.segmentation,
            loss=SegmentationLoss(self.task.n_classes, config.losses.cross_entropy),
        )

    @torch.no_grad()
    def outputs(self, images: Tensor, key: Key) -> Tensor:
        """Return what a user of the trained model gets."""
        logits = []
        for number, part in enumerate(images.split(32)):
            latent, skips = self.segments.front_end(part)
            x = self.noised(self.release.bounded(latent), key("outputs", number))
            level = torch.full((len(x),), self.level, dtype=torch.int64)
            run = self.server(x, level, key("outputs", number))
            logits.append(self.segments.back_end(run.second.denoised, skips))
        return torch.cat(logits)

    def noised(self, clean: Tensor, key: tuple[int | str, ...], releases: int = 1) -> Tensor:
        """Noise clean latents (N, L, h, w) as a site would, with noise of another name.

        The average of so many ``releases`` of each.
        """
        if not self.config.release.noised:
            return clean
        level = torch.full((len(clean),), self.level, dtype=torch.int64)
        noise = randomness.normal(tuple(clean.shape), *key)
        return self.schedule.noised(clean, level, noise / releases**0.5)

    @torch.no_grad()
    def clean(self, segments: SiteSegments, images: Tensor) -> Tensor:
        """Return the bounded latents (N, L, h, w) before any noise, of the best round's front end."""
        return torch.cat([self.release.bounded(segments.front_end(part)[0]) for part in images.split(32)])

    @torch.no_grad()
    def _verify(self, segments: SiteSegments) -> None:
        """Check that images, secret and front end give the first recorded test release again."""
        recorded = evaluation(self.recording, self.site, Field.LATENT).values
        batch = self.config.training.batch_size
        rows = torch.arange(min(batch, len(self.data.test)))
        latent, _ = segments.front_end(self.data.test.batch(rows).inputs)
        made = self.release.latent(latent, self.config.training.rounds, 0, "test").latent
        sent = recorded[: len(made)]
        error = float((made - sent).norm() / sent.norm()) if made.shape == sent.shape else float("inf")
        if not error < TOLERANCE:
            raise AttackError(
                f"the images made again for site '{self.site}' are not those of the recording "
                f"(relative difference {error:.2g}); give the folder that the run used with --home"
            )

    def clean_releases(self, rounds: int = 1) -> Tensor:
        """Return the clean latents (N, L, h, w) of the first rounds' training releases, in their order.

        Raises:
            AttackError: the replayed site says other things than the recorded one did.
            RecordingError: the recording is cut off or damaged.
        """
        with TemporaryDirectory() as folder:
            return replay(self.recording, self.site, self.data, self.policy, Path(folder), rounds)

    def first_two_releases(self) -> tuple[Tensor, Tensor]:
        """Return the clean latents (N, L, h, w) of the training samples' first two releases, in their order.

        Raises:
            AttackError: as of :meth:`clean_releases`.
        """
        rounds = 1 if self.config.training.local_epochs > 1 else 2
        clean = dict(enumerate(self.clean_releases(rounds).chunk(rounds)))
        first, second, *_ = assigned(self.config, self.site, clean).by_epoch()
        return first, second


class _Whole(nn.Module):
    """The three segments in one piece."""

    def __init__(self, front_end: nn.Module, middle: nn.Module, back_end: nn.Module):
        super().__init__()
        self.front_end, self.middle, self.back_end = front_end, middle, back_end

    def forward(self, images: Tensor) -> Tensor:
        latent, skips = self.front_end(images)
        return self.back_end(self.middle(latent), skips)

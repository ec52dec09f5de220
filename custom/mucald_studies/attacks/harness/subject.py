"""The ground truth of one site of a recorded run, which the evaluation has and an attacker has not."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from mucald import randomness
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS
from mucald.data.loading import load_for, load_site_data
from mucald.data.site_data import Batch, SiteData
from mucald.data.site_file import read_site_file
from mucald.errors import AttackError
from mucald.inference.model_files import TrainedModel, find_model_files, load_model
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.causal.graphs import measures_of
from mucald.methods.split.disclosures import under
from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments
from mucald.methods.split.wire.messages import Field
from mucald.privacy.policy import Policy, read_policy
from mucald.state.checkpoint import without_prefix
from mucald.tasks import Task, get_task
from mucald_studies.attacks.harness.traffic import assigned, evaluation
from mucald_studies.attacks.replay import replay
from mucald_studies.recording import Recording

NON_MEMBERS = 200
CPU = torch.device("cpu")
TOLERANCE = 0.02
"""Relative error by which a release made again may differ from the one recorded: the wire rounds to int8."""


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


class Subject:
    """A site under attack.

    Args:
        recording: of the run.
        site: name of the site.
        home: the site's own folder, with its ``site.json`` if it has images of its own.
        auxiliary_home: folder with a ``site.json`` that names disjoint images of the same task, for the
            attacker; without it phantoms of other seeds, or else images that the site held out.

    Raises:
        AttackError: the run did not end, the images are not those of the recording, or the front end that
            released them was trained further.
    """

    def __init__(self, recording: Recording, site: str, home: Path, auxiliary_home: Path | None):
        if recording.config.handover.epochs:
            raise AttackError(
                f"site '{site}' has trained its front end further since its last release; run the job with "
                "handover.epochs=0, which releases the same, and attack that"
            )
        self.recording, self.site, self.config = recording, site, recording.config
        self._home, self._auxiliary_home = home, auxiliary_home
        self.task: Task = get_task(self.config.site(site).task)

    @cached_property
    def data(self) -> SiteData:
        """The site's images, verified against the recorded test releases."""
        return load_for(self.site, self.config, self._home, False, measures_of)

    @cached_property
    def policy(self) -> Policy:
        """What the site lets out."""
        return read_policy(self._home, self.site)

    @property
    def draws_phantoms(self) -> bool:
        """Whether there are as many images of the site's kind as one likes."""
        return self.data.source == "phantoms"

    @cached_property
    def release(self) -> Release:
        """The site's release, with its secret."""
        return Release(under(self.policy, self.config).release, self.data.noise_secret, self.site)

    @cached_property
    def model(self) -> TrainedModel:
        """The site's and the server's weights of its best round."""
        root = self.recording.run_folder
        while root.name in ("server", "simulate_job"):
            root = root.parent
        model = load_model(*find_model_files(root, self.site))
        if model.config.digest() != self.config.digest():
            raise AttackError(f"the models of site '{self.site}' below {root} are of another job or seed")
        return model

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
        size = self.config.data.image_size
        draw, take = PHANTOMS[self.task.name], SCANNERS[self.config.site(self.site).scanner].take
        draws = [randomness.generator("attack", purpose, seed, self.site, index) for index in range(count)]
        samples = [take(*draw(rng, size), rng) for rng in draws]
        images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in samples])
        masks = torch.stack([torch.from_numpy(mask) for _, mask in samples])
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
        config = self.config
        data = load_site_data(f"{self.site} auxiliary", None, config.data, config.seed, home)
        return _together(data.train.whole(), data.validation.whole(), data.test.whole())

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

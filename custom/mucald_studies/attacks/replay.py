"""Runs a recorded site once more against its own recording, to see what it had before it was noised."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mucald.data.site_data import SiteData
from mucald.errors import AttackError
from mucald.federation.task import SiteTask
from mucald.methods.split.config import ReleaseConfig, SplitConfig
from mucald.methods.split.disclosures import under
from mucald.methods.split.site.method import SplitSite
from mucald.methods.split.site.release import Release, Released
from mucald.methods.split.wire.messages import Field, decode
from mucald.privacy.policy import Policy
from mucald.state.checkpoint import CheckpointStore
from mucald_studies.recording import Recording

CPU = torch.device("cpu")
TOLERANCE = 0.02


class _ListeningRelease(Release):
    """Keeps every clean latent that it releases, by purpose."""

    def __init__(self, config: ReleaseConfig, secret: str, site: str):
        super().__init__(config, secret, site)
        self.clean: dict[str, list[Tensor]] = defaultdict(list)

    def latent(self, latent: Tensor, *key: int | str) -> Released:
        self.clean[str(key[2])].append(self.bounded(latent).detach())
        return super().latent(latent, *key)


class DrivenSite(SplitSite):
    """A site whose clean latents the evaluation can see, with any server behind its link.

    Arguments are those of a site, but for the ``folder`` in which its checkpoints go.
    """

    def __init__(self, name: str, config: SplitConfig, data: SiteData, policy: Policy, folder: Path):
        self.release = _ListeningRelease(under(policy, config).release, data.noise_secret, name)
        super().__init__(name, config, data, self.release, CheckpointStore(folder), CPU)

    @property
    def n_train(self) -> int:
        """Number of training images, which a site reports."""
        return len(self._data.train)

    def train(self, send: Callable[[bytes], bytes], round_number: int) -> None:
        """Train for a round with the server behind ``send``."""
        newcomers = (self.name,) if round_number == 0 else ()
        self.run(SiteTask("train", round_number, "driven", newcomers), {}, send)


def replay(
    recording: Recording, site: str, data: SiteData, policy: Policy, folder: Path, rounds: int
) -> Tensor:
    """Return the clean latents (N, L, h, w) of the first rounds' training releases, in their order.

    The site is deterministic, so given the recorded replies it sends the recorded requests again; that it
    does is checked.

    Raises:
        AttackError: it sends anything else, or the recording begins later.
    """
    exchanges = iter(list(recording.exchanges(site, rounds=range(rounds))))
    driven = DrivenSite(site, recording.config, data, policy, folder)

    def send(request: bytes) -> bytes:
        recorded = next(exchanges, None)
        if recorded is None or not _alike(request, recorded.request_bytes):
            raise AttackError(
                f"site '{site}', run again, does not say what was recorded; give the folder that the run "
                "used with --home, and record from the first round on"
            )
        return recorded.reply_bytes

    for number in range(rounds):
        driven.train(send, number)
    return torch.cat(driven.release.clean["train"])


def _alike(request: bytes, recorded: bytes) -> bool:
    """Return whether two requests are equal, but for the last bits that another number of threads changes."""
    if request == recorded:
        return True
    one, other = decode(request), decode(recorded)
    if (one.phase, one.step, one.fields.keys()) != (other.phase, other.step, other.fields.keys()):
        return False
    latents = [message.fields.get(Field.LATENT, torch.zeros(1)) for message in (one, other)]
    return bool((latents[0] - latents[1]).norm() <= TOLERANCE * latents[1].norm())

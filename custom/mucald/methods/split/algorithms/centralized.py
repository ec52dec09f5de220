"""Multi-task training on the data of all sites in one place: what one would get if data could move."""

from dataclasses import dataclass

from mucald.config.job import JobConfig
from mucald.errors import ConfigError
from mucald.methods.split.algorithms.base import Algorithm


@dataclass(frozen=True)
class Centralized(Algorithm):
    """One front end and one middle network for all tasks, and a back end for each site's (hard sharing).

    Hard parameter sharing of Caruana (Multitask Learning, Machine Learning 28, 1997). No federated algorithm,
    but the reference for one: ``site`` holds everybody's data.

    Args:
        site: the one participant that trains.
    """

    site: str

    @property
    def pooled_at(self) -> str | None:
        """The one participant that trains."""
        return self.site

    def check(self, config: JobConfig) -> None:
        """Refuse what acts on tensors that cross, or on copies of a network: there are none."""
        wrong = {
            "release.mode": (config.release.mode != "fresh", '"fresh"'),
            "release.noised": (config.release.noised, "false"),
            "crdm.encoder": (config.crdm.encoder != "none", '"none"'),
            "crdm.denoiser": (config.crdm.denoiser, "false"),
            "daca.enabled": (config.daca.enabled, "false"),
            "losses.proximal": (config.losses.proximal != 0, "0.0"),
        }
        for key, (found, needed) in wrong.items():
            if found:
                raise ConfigError(f"with the algorithm 'centralized' nothing is sent; set {key} to {needed}")

"""What every job's configuration has, whatever its method.

Server and sites read it from one JSON file, ``mucald.json`` (:mod:`mucald.methods.jobs`).
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from mucald.config.common import (
    DataConfig,
    RuntimeConfig,
    SiteConfig,
    TrainingConfig,
    require,
    require_at_least,
)
from mucald.errors import ConfigError

CONFIG_FILE = "mucald.json"

INDECISIVE = frozenset({"description", "resume_from", "runtime"})
"""The keys that leave a run's numbers as they are."""


@dataclass(frozen=True)
class JobConfig:
    """What every job says, whatever its method; a family adds its own sections in a subclass.

    Raises:
        ConfigError: on reading, if a key is unknown, missing or of the wrong type .
    """

    method: str
    name: str
    description: str
    seed: int
    min_sites: int
    resume_from: str | None
    sites: dict[str, SiteConfig]
    data: DataConfig
    training: TrainingConfig
    runtime: RuntimeConfig

    def __post_init__(self) -> None:
        require_at_least(1, self, "min_sites")
        # Runs and their folders carry the name.
        require(
            re.fullmatch(r"[\w.-]+", self.name) is not None,
            f"name must consist of letters, digits, '_', '-' and '.', not {self.name!r}",
        )

    def site(self, name: str) -> SiteConfig:
        """Return what the job says of site ``name``.

        Raises:
            ConfigError: nothing.
        """
        if name not in self.sites:
            raise ConfigError(
                f"site '{name}' has no task; add \"{name}\": {{\"task\": ...}} to 'sites' in {CONFIG_FILE}"
            )
        return self.sites[name]

    def progress(self, round_number: int) -> float:
        """Return how far the run is at ``round_number`` (from 0), between 0 and 1, for the loss ramps."""
        return round_number / max(self.training.rounds - 1, 1)

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates by what they are for, to be drawn over the rounds."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the fully resolved configuration, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def digest(self) -> str:
        """Return a hash of all that decides the numbers of a run; a checkpoint only fits its own."""
        decisive = {key: value for key, value in self.to_dict().items() if key not in INDECISIVE}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def check_site_names(sites: list[str]) -> None:
    """Check that every site has a name of its own.

    Raises:
        ConfigError: two sites share a name, or there is none.
    """
    if not sites:
        raise ConfigError("the job names no site; list the sites in meta.json's 'deploy_map'")
    for name in sites:
        if sites.count(name) > 1:
            raise ConfigError(f"two sites are named '{name}'; every site needs a name of its own")

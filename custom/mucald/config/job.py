"""A job's configuration: one JSON file, ``mucald.json``, that server and sites read alike.

Every field below is a key of that file; docs/configuration.md describes them in a table. Nothing here has a
hidden default: what a job does can be read from its file alone.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mucald.config.schema import parse, read_json
from mucald.config.sections import (
    AggregationConfig,
    AlgorithmConfig,
    CrdmConfig,
    DacaConfig,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    ReleaseConfig,
    RuntimeConfig,
    SiteConfig,
    TrainingConfig,
    WireConfig,
    require,
    require_at_least,
)
from mucald.errors import ConfigError

CONFIG_FILE = "mucald.json"

INDECISIVE = frozenset({"description", "resume_from", "runtime"})
"""The keys that leave a run's numbers as they are."""


@dataclass(frozen=True)
class JobConfig:
    """The whole of ``mucald.json``.

    Raises:
        ConfigError: on reading, if a key is unknown, missing or of the wrong type (:func:`load_config`).
    """

    name: str
    description: str
    seed: int
    min_sites: int
    resume_from: str | None
    sites: dict[str, SiteConfig]
    data: DataConfig
    training: TrainingConfig
    network: NetworkConfig
    release: ReleaseConfig
    crdm: CrdmConfig
    daca: DacaConfig
    losses: LossConfig
    optimiser: OptimiserConfig
    algorithm: AlgorithmConfig
    aggregation: AggregationConfig
    wire: WireConfig
    runtime: RuntimeConfig

    def __post_init__(self) -> None:
        require_at_least(1, self, "min_sites")
        # Runs and their folders carry the name.
        require(
            re.fullmatch(r"[\w.-]+", self.name) is not None,
            f"name must consist of letters, digits, '_', '-' and '.', not {self.name!r}",
        )
        require(
            0 <= self.crdm.t_split2 < self.release.timesteps,
            f"crdm.t_split2 must lie in [0, {self.release.timesteps - 1}]",
        )
        require(
            self.crdm.supervision != "ambient" or self.release.t < self.release.timesteps - 1,
            f"supervision ambient adds noise, so release.t must be below {self.release.timesteps - 1}",
        )
        require(
            self.release.mode != "once" or self.crdm.supervision != "epsilon",
            'release.mode "once" hands no noise over, so crdm.supervision must be "sure" or "ambient"',
        )
        require(
            self.release.mode == "once" or self.training.pipeline_depth == 1,
            f'training.pipeline_depth above 1 needs release.mode "once"; with "{self.release.mode}" the next '
            "release depends on the gradient that the step has yet to bring, so set it to 1",
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

    def to_dict(self) -> dict[str, Any]:
        """Return the fully resolved configuration, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def digest(self) -> str:
        """Return a hash of all that decides the numbers of a run; a checkpoint only fits its own."""
        decisive = {key: value for key, value in self.to_dict().items() if key not in INDECISIVE}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def load_config(folder: Path) -> JobConfig:
    """Read ``mucald.json`` in ``folder``.

    Raises:
        ConfigError: the file is missing or wrong; the message names the key and the closest known one.
    """
    return parse(JobConfig, read_json(folder / CONFIG_FILE))


def load_job(job: Path) -> tuple[JobConfig, list[str]]:
    """Read a job folder: its configuration and its sites, in the order of ``meta.json``'s ``deploy_map``.

    Raises:
        ConfigError: a file is missing or wrong, or a site is named twice.
    """
    meta = read_json(job / "meta.json")
    deploy_map = meta.get("deploy_map")
    if not isinstance(deploy_map, dict) or len(deploy_map) != 1:
        raise ConfigError("meta.json: 'deploy_map' must name one app and the sites that run it")
    ((app, participants),) = deploy_map.items()
    sites = [name for name in participants if name != "server"]
    check_site_names(sites)
    return load_config(job / app / "config"), sites


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

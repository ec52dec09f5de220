"""What every job's configuration has, whatever its method.

Server and sites read it from one JSON file, ``mucald.json`` (:mod:`mucald.methods.jobs`).
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mucald.config.common import DataConfig, RuntimeConfig, SiteConfig, TrainingConfig, require
from mucald.config.keys import Section, key, section
from mucald.errors import ConfigError

CONFIG_FILE = "mucald.json"

SERVER = "server"
"""FLARE's own name for the server, which hence no site can have."""

INDECISIVE = frozenset({"description", "resume_from", "runtime"})
"""The keys that leave a run's numbers as they are."""


@dataclass(frozen=True, kw_only=True)
class JobConfig(Section):
    """What every job says, whatever its method; a family adds its own sections in a subclass.

    Raises:
        ConfigError: on reading, if a key is unknown, missing or of the wrong type.
    """

    method: str = key("family of methods", registry="mucald.methods.FAMILIES")
    name: str = key(
        "name of the job; runs are called `<name>-<date>-<time>-<random>`",
        allowed="letters, digits, `_`, `-`, `.`",
    )
    description: str = key("for readers")
    seed: int = key("all random draws but a site's private noise follow from it", 7)
    min_sites: int = key("the run stops when fewer participants finish a round", at_least=1)
    resume_from: str | None = key(
        "continue a run that was stopped", None, allowed='a run\'s name, `"latest"`'
    )
    sites: dict[str, SiteConfig]
    data: DataConfig = section(DataConfig)
    training: TrainingConfig = section(TrainingConfig)
    runtime: RuntimeConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        # Runs and their folders carry the name.
        require(
            re.fullmatch(r"[\w.-]+", self.name) is not None,
            f"name must consist of letters, digits, '_', '-' and '.', not {self.name!r}",
        )
        for site in self.sites:
            check_site_name(site)
            require(
                self.sites[site].joins_at_round < self.training.rounds,
                f"sites.{site}.joins_at_round is {self.sites[site].joins_at_round}, but the run has "
                f"{self.training.rounds} rounds",
            )

    def site(self, name: str) -> SiteConfig:
        """Return what the job says of site ``name``.

        Raises:
            ConfigError: nothing.
        """
        if name not in self.sites:
            raise ConfigError(
                f"site '{name}' has no task; add \"{name}\": {{\"task\": ...}} to 'sites' in {CONFIG_FILE}, "
                "or take it out of 'deploy_map' in meta.json"
            )
        return self.sites[name]

    def group(self, site: str) -> tuple[str, ...]:
        """Return the sites of a site's group, in order of name, or none if it is alone in it."""
        groups = {name: of_site.group or of_site.task for name, of_site in self.sites.items()}
        members = sorted(name for name, group in groups.items() if group == groups.get(site))
        return tuple(members) if len(members) > 1 else ()

    def joined(self, sites: Iterable[str], round_number: int) -> list[str]:
        """Return those of ``sites`` that take part when so many rounds are over."""
        return [site for site in sites if self.site(site).joins_at_round <= round_number]

    def rate(self, round_number: int, step: int, steps: int) -> float:
        """Return the factor of the learning rates in a round's ``step`` of ``steps``, counted from 0."""
        return self.training.rate_at(round_number, self.training.rounds, step, steps)

    def progress(self, round_number: int) -> float:
        """Return how far the run is at ``round_number`` (from 0), between 0 and 1, for the loss ramps."""
        return round_number / max(self.training.rounds - 1, 1)

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates by what they are for, before :meth:`rate` scales them."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the fully resolved configuration, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def log_line(self) -> str:
        """Return digest and every value in one line, so that a log says what a process ran."""
        return f"configuration {self.digest()[:12]} of '{self.name}': {json.dumps(self.to_dict())}"

    def digest(self) -> str:
        """Return a hash of all that decides the numbers of a run; a checkpoint only fits its own."""
        decisive = {key: value for key, value in self.to_dict().items() if key not in INDECISIVE}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def check_site_names(sites: list[str]) -> None:
    """Check that every site has a name of its own, which FLARE takes.

    Raises:
        ConfigError: two sites share a name, FLARE takes a name for no site's, or there is none.
    """
    if not sites:
        raise ConfigError("the job names no site; list the sites in meta.json's 'deploy_map'")
    for name in sites:
        if sites.count(name) > 1:
            raise ConfigError(f"two sites are named '{name}'; every site needs a name of its own")
        check_site_name(name)


def check_site_name(name: str) -> None:
    """Check that FLARE takes a name for a site's.

    Raises:
        ConfigError: it does not.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(f"a site cannot be named '{name}': FLARE takes letters, digits, '-' and '_' alone")
    if name == SERVER:
        raise ConfigError(f"a site cannot be named '{name}', which is FLARE's name for the server")

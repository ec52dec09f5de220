"""Reads what a server has kept of a run in which weights travel: what the sites share of what they train.

It lies in ``models/`` of the server's run folder. No file of a site is opened here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mucald.config.job import JobConfig
from mucald.config.schema import read_json
from mucald.errors import AttackError, CheckpointError, ConfigError
from mucald.inference.model_files import FOLDER
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.jobs import parse_config
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.shared_weights import shared_between
from mucald.state.checkpoint import load_checkpoint

RESULTS = "results.json"


@dataclass(frozen=True)
class KeptRun:
    """What a run's sites shared, as its server keeps it after the last round.

    Args:
        run_folder: the server's.
        config: the job.
        run_id: names the run.
        reports: by site that took part, what the run's results say of it.
    """

    run_folder: Path
    config: JobConfig
    run_id: str
    reports: dict[str, Any]

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that took part."""
        return tuple(sorted(self.reports))

    def read(self, site: str, *names: str) -> dict[str, Tensor]:
        """Return the weights of the first of some files in the server's ``models/``.

        Args:
            site: whose weights they are, for errors.
            names: of files, without suffix.

        Raises:
            AttackError: none is there, or it is damaged or of another job.
        """
        paths = [self.run_folder / FOLDER / f"{name}.safetensors" for name in names]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            raise AttackError(f"{paths[0]} is missing, the weights that site '{site}' shared; repeat the run")
        try:
            weights, state = load_checkpoint(path)
            config = parse_config(state["config"])
        except (CheckpointError, ConfigError) as error:
            raise AttackError(f"{path}: {error}") from None
        if config.digest() != self.config.digest():
            raise AttackError(f"{path} is of another job or seed than {self.run_folder / RESULTS}")
        return weights


@dataclass(frozen=True)
class SharedRun(KeptRun):
    """A run of the family ``weights``: one file for all who have the same weights.

    See :class:`mucald.methods.weights.shared_weights.SharedWeights`.
    """

    config: WeightsConfig

    def weights_of(self, site: str) -> dict[str, Tensor]:
        """Return all tensors ``<part>.<name>`` that the server sends a site; none if it shares nothing.

        Raises:
            AttackError: a file is missing, damaged, or of another job.
        """
        tensors: dict[str, Tensor] = {}
        for shared in shared_between(self.config, self.sites):
            if site in shared.weights:
                # Where sites have parted, each has a file of its own.
                tensors |= self.read(site, shared.name, f"{shared.name}-{site}")
        return tensors


@dataclass(frozen=True)
class GenerativeRun(KeptRun):
    """A run of the family ``generative``: all sites share one decoder, classifier, or sums."""

    config: GenerativeConfig

    def weights(self, site: str) -> dict[str, Tensor]:
        """Return what all share, which ``site`` is told of in errors.

        Raises:
            AttackError: the file is missing, damaged, or of another job.
        """
        return self.read(site, "shared")


def read_kept(results: Path) -> SharedRun | GenerativeRun:
    """Open the run whose server has written ``results`` (a ``results.json``).

    Raises:
        AttackError: it cannot be read, or is of another family.
    """
    try:
        content: dict[str, Any] = read_json(results)
        config = parse_config(content["config"])
    except ConfigError as error:
        raise AttackError(f"{results}: {error}") from None
    told = (str(content["run_id"]), content["sites"])
    match config:
        case WeightsConfig():
            return SharedRun(results.parent, config, *told)
        case GenerativeConfig():
            return GenerativeRun(results.parent, config, *told)
    raise AttackError(f"{results} is of a run of the method '{config.method}', in which no weights travel")

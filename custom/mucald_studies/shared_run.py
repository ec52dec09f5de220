"""Reads what a server has kept of a run in which weights travel: what the sites share of their networks.

In ``models/`` of the server's run folder, one file for all who have the same weights, see
:class:`mucald.methods.weights.shared_weights.SharedWeights`. No file of a site is opened here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mucald.config.schema import parse, read_json
from mucald.errors import AttackError, CheckpointError, ConfigError
from mucald.inference.model_files import FOLDER
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.shared_weights import shared_between
from mucald.state.checkpoint import load_checkpoint

RESULTS = "results.json"


@dataclass(frozen=True)
class SharedRun:
    """The weights that a run's sites shared, as its server keeps them after the last round.

    Args:
        run_folder: the server's.
        config: the job.
        run_id: names the run.
        reports: by site that took part, what the run's results say of it.
    """

    run_folder: Path
    config: WeightsConfig
    run_id: str
    reports: dict[str, Any]

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that took part."""
        return tuple(sorted(self.reports))

    def weights_of(self, site: str) -> dict[str, Tensor]:
        """Return all tensors ``<part>.<name>`` that the server sends a site; none if it shares nothing.

        Raises:
            AttackError: a file is missing, damaged, or of another job.
        """
        tensors: dict[str, Tensor] = {}
        for shared in shared_between(self.config, self.sites):
            if site in shared.weights:
                tensors |= self._read(shared.name, site)
        return tensors

    def _read(self, name: str, site: str) -> dict[str, Tensor]:
        # Where sites have parted, each has a file of its own.
        paths = [self.run_folder / FOLDER / f"{each}.safetensors" for each in (name, f"{name}-{site}")]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            raise AttackError(f"{paths[0]} is missing, the weights that site '{site}' shared; repeat the run")
        try:
            weights, state = load_checkpoint(path)
            config = parse(WeightsConfig, state["config"])
        except (CheckpointError, ConfigError) as error:
            raise AttackError(f"{path}: {error}") from None
        if config.digest() != self.config.digest():
            raise AttackError(f"{path} is of another job or seed than {self.run_folder / RESULTS}")
        return weights


def read_shared(results: Path) -> SharedRun:
    """Open the run whose server has written ``results`` (a ``results.json``).

    Raises:
        AttackError: it cannot be read.
    """
    try:
        content: dict[str, Any] = read_json(results)
        config = parse(WeightsConfig, content["config"])
    except ConfigError as error:
        raise AttackError(f"{results}: {error}") from None
    return SharedRun(results.parent, config, str(content["run_id"]), content["sites"])

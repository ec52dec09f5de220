"""The points of a frontier: one job in many settings, each a run of its own that is recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mucald.config.schema import closest, read_json
from mucald.errors import ConfigError
from mucald_studies.reporting.experiments import Experiment, plan_job

RUNS = "runs"
# The tool's own: a point carries its name to the run's folder, and all are run with one seed and recorded.
_RESERVED = ("name", "seed", "runtime.record")

Changes = dict[str, Any]
"""Values of ``mucald.json`` by dotted key."""


@dataclass(frozen=True)
class Point:
    """One setting of the job: its name, what it changes in the job, and its run."""

    name: str
    changes: Changes
    experiment: Experiment

    @property
    def attacks_folder(self) -> Path:
        """Where the results of the attacks on its run lie."""
        return self.experiment.folder / "attacks"


def read_points(path: Path, only: Sequence[str] = ()) -> dict[str, Changes]:
    """Read a JSON file of points: ``{"name": {"dotted.key": value, …}, …}``; of all or of those in ``only``.

    Raises:
        ConfigError: the file is missing or of another form, a point changes what is not its own to change, or
            a name in ``only`` is none of the points.
    """
    try:
        content = read_json(path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not content:
        raise ConfigError(f'{path}: no point; write {{"name": {{"dotted.key": value}}}}')
    for name, changes in content.items():
        if not isinstance(changes, dict):
            raise ConfigError(f"{path}: point '{name}' must be an object of dotted keys and their values")
        for key in _RESERVED:
            if key in changes:
                raise ConfigError(f"{path}: point '{name}' sets '{key}', which is the same for all points")
    for name in only:
        if name not in content:
            raise ConfigError(f"{path}: no point '{name}'{closest(name, list(content))}")
    return {name: changes for name, changes in content.items() if not only or name in only}


def plan_points(
    base: Path, points: Mapping[str, Changes], seed: int, out: Path, home: Path | None
) -> list[Point]:
    """Return the points with their runs, below ``out/runs/<name>/seed-<seed>``.

    Args:
        base: the job folder that all points start from.
        points: changes by name.
        seed, out, home: as of :func:`.plan_job`.

    Raises:
        ConfigError: the job does not exist, or a point makes it wrong; the message names the point.
    """
    planned = []
    for name, changes in points.items():
        own = {"name": name, "runtime.record": True}
        try:
            (experiment,) = plan_job(base, [seed], {**changes, **own}, out / RUNS, home)
        except ConfigError as error:
            raise ConfigError(f"point '{name}': {error}") from None
        planned.append(Point(name, changes, experiment))
    return planned

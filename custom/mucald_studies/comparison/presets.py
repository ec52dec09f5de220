"""The presets of a comparison: which jobs stand side by side, and what each changes; one JSON file each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mucald.commands import CHECKOUT
from mucald.commands.jobs.new_job import new_job
from mucald.config.schema import closest, parse, read_json
from mucald.errors import ConfigError
from mucald_studies.reporting.experiments import Experiment, plan_job

FOLDER = Path(__file__).with_name("presets")
JOBS = CHECKOUT / "jobs"
RUNS = "runs"


@dataclass(frozen=True)
class Entry:
    """One row of a comparison.

    Args:
        family: as the page groups it.
        job: name of a folder of ``jobs``.
        set: what it changes in the job, by dotted key.
    """

    family: str
    job: str
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A comparison.

    Args:
        title: of its page.
        alone: the row in which every site trains alone, which gains are taken over.
        rows: by name.
        set: what it changes in the jobs of all rows, by dotted key; a row's own changes come after it.
    """

    title: str
    alone: str
    rows: dict[str, Entry]
    set: dict[str, Any] = field(default_factory=dict)


def preset_names() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in preset_names():
        raise ConfigError(f"no comparison '{name}'{closest(name, preset_names())}")
    return parse(Preset, read_json(FOLDER / f"{name}.json"))


def chosen_rows(preset: Preset, only: Sequence[str]) -> dict[str, Entry]:
    """Return the rows that are asked for, by name; all if none is named. Those who train alone always join.

    A row's changes are those of all rows and its own.

    Raises:
        ConfigError: the preset has no such row.
    """
    for name in only:
        if name not in preset.rows:
            raise ConfigError(f"the comparison has no row '{name}'{closest(name, list(preset.rows))}")
    wanted = {preset.alone, *(only or preset.rows)}
    return {
        name: replace(entry, set={**preset.set, **entry.set})
        for name, entry in preset.rows.items()
        if name in wanted
    }


def plan_rows(
    rows: Mapping[str, Entry],
    seeds: Sequence[int],
    changes: Mapping[str, Any],
    out: Path,
    home: Path | None,
    made: Path,
) -> list[Experiment]:
    """Return the runs of all rows, below ``out/runs/<row>/seed-<seed>``.

    Args:
        rows: by name.
        seeds: of every row.
        changes: values of ``mucald.json`` by dotted key, for all rows alike.
        out: the folder of the comparison.
        home: folder of the sites' own folders, or None for phantoms.
        made: a folder for job folders that are made for the sites of ``home``.

    Raises:
        ConfigError: a row is wrong; the message names it.
    """
    planned: list[Experiment] = []
    for name, entry in rows.items():
        try:
            job = JOBS / entry.job
            if home is not None:
                new_job(job, home, made / name)
                job = made / name
            planned += plan_job(job, seeds, {**entry.set, **changes, "name": name}, out / RUNS, home)
        except ConfigError as error:
            raise ConfigError(f"row '{name}': {error}") from None
    return planned

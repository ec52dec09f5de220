"""How fast shared weights cross, beside FLARE's own FedAvg with the same tensors, and how memory grows.

Both run in FLARE's simulator, two sites at once on loopback, run after run in turns. FLARE's FedAvg is its
stock workflow and persistor, and its sites only change a little what they get. This family's sites train and
validate. What sites compute does not count: the clock runs from when both sites have their updates ready (the
first one waits) until both have the weights of the next round. It holds both ways of the weights and what the
server does in between: it combines and writes a checkpoint, here as there.

Memory is the server's when it begins to hand a round out, and a site's when it has its update ready. The C
library has as many arenas as FLARE's start scripts give it, unless ``MALLOC_ARENA_MAX`` says otherwise.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mucald.config.schema import read_json
from mucald.errors import ConfigError, TrainingError
from mucald.home import HOME_VARIABLE
from mucald.methods.jobs import load_job
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.shared_weights import shared_between
from mucald_studies.benchmark.crossing import FOLDER_VARIABLE, SERVER, SITES, What, read_notes
from mucald_studies.benchmark.processes import execute
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.jobs import changed, command, write_job
from mucald_studies.reporting.page import Table

OURS, ARRAYS, TENSORS = "mucald", "FLARE FedAvg, numpy", "FLARE FedAvg, torch"
WAYS = (ARRAYS, TENSORS, OURS)
MIN_SPEED = 0.7
MAX_GROWTH = 1.02
SETTLED, LAST = 5, 3
"""The round from which on memory is judged, and how many rounds are taken there and at the end."""
_ARENAS = "MALLOC_ARENA_MAX"
_MEGA = 1e6
_MODULE = "mucald_studies.benchmark.crossing"
_SMALL: Mapping[str, Any] = {
    "data.phantoms": {"train": 2, "validation": 1, "test": 1},
    "data.volumes": {"patch_size": [16, 16, 16], "phantom_size": [16, 16, 16]},
    "training.local_epochs": 1,
    "network.features": [32, 64, 128, 336],
}
"""Makes the encoder of jobs/fedcmt_fedavg one of 5 M parameters, and its rounds one step each."""


@dataclass(frozen=True)
class Measured:
    """One run.

    Args:
        up: seconds from when both sites have their updates ready until the server has both, by round.
        server: from there until it has handed the next round to both.
        down: from there until both have its weights.
        resident: bytes of each participant's process, by round.
    """

    up: list[float]
    server: list[float]
    down: list[float]
    resident: dict[str, list[int]]

    @property
    def whole(self) -> list[float]:
        """Seconds of each round beside what the sites compute."""
        return [sum(parts) for parts in zip(self.up, self.server, self.down, strict=True)]


@dataclass(frozen=True)
class Found:
    """The shapes of the tensors that cross, and the runs of each way."""

    shapes: dict[str, list[int]]
    runs: dict[str, list[Measured]]


def measure(
    job: Path,
    changes: Mapping[str, Any],
    sites: Sequence[str],
    rounds: int,
    repeats: int,
    ways: tuple[str, ...] = WAYS,
) -> Found:
    """Run two sites of a job for so many rounds in every way, repeat after repeat.

    Raises:
        ConfigError: the job is wrong, shares no weights, or lacks one of the sites.
        TrainingError: a run failed.
    """
    known = load_job(job)[0].to_dict()["sites"]
    if len(set(sites)) != SITES or not set(sites) <= known.keys():
        raise ConfigError(f"give {SITES} of the job's sites: {', '.join(known)}")
    own = {"sites": {site: known[site] for site in sites}, "training.rounds": rounds}
    config = changed(job, {**_SMALL, **own, **changes})
    if not isinstance(config, WeightsConfig):
        raise ConfigError(f"{job}: its method shares no weights; take jobs/fedcmt_fedavg")
    shared = [shared.weights[sites[0]] for shared in shared_between(config, sites)]
    tensors = {name: tensor for weights in shared for name, tensor in weights.items()}
    runs: dict[str, list[Measured]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        first = Path(name) / "first.pt"
        torch.save(tensors, first)
        for number, way in enumerate(ways * repeats):
            folder = Path(name) / str(number)
            copy = write_job(job, folder / "job", config.to_dict())
            _adapt(copy, sites, {} if way == OURS else _fedavg(first, rounds, way == ARRAYS))
            runs[way].append(_run(copy, folder, sites, rounds))
    return Found({name: list(tensor.shape) for name, tensor in tensors.items()}, runs)


def _fedavg(first: Path, rounds: int, numpy: bool) -> dict[str, Any]:
    """Return FLARE's configuration of its FedAvg, which looks as often for results as this package."""
    workflow = {"num_clients": SITES, "num_rounds": rounds, "task_check_period": 0.2}
    model = {"source_ckpt_file_full_name": str(first), "allow_numpy_conversion": numpy, "load_device": "cpu"}
    persistor = "nvflare.app_opt.pt.file_model_persistor.PTFileModelPersistor"
    return {
        "workflows": [_component("fedavg", "nvflare.app_common.workflows.fedavg.FedAvg", workflow)],
        "components": [_component("persistor", persistor, model)],
    }


def _component(name: str, path: str, args: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": name, "path": path, "args": args}


def _adapt(job: Path, sites: Sequence[str], fedavg: Mapping[str, Any]) -> None:
    """Make a job's copy one of two sites that are timed; of FLARE's FedAvg, if its configuration is given."""
    meta = read_json(job / "meta.json")
    (app,) = meta["deploy_map"]
    server, client = (job / app / "config" / f"config_fed_{side}.json" for side in ("server", "client"))
    of_server, of_client = read_json(server) | dict(fedavg), read_json(client)
    of_server["components"].append(_component("notes", f"{_MODULE}.ServerNotes", {}))
    of_client["executors"][0]["executor"]["path"] = f"{_MODULE}.{'TimedEcho' if fedavg else 'TimedMethod'}"
    meta["deploy_map"] = {app: [SERVER, *sites]}
    for path, content in ((job / "meta.json", meta), (server, of_server), (client, of_client)):
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _run(job: Path, folder: Path, sites: Sequence[str], rounds: int) -> Measured:
    notes = folder / "notes"
    notes.mkdir()
    environment = {FOLDER_VARIABLE: str(notes), HOME_VARIABLE: str(folder / "homes")}
    environment[_ARENAS] = os.environ.get(_ARENAS, "4")
    execute(command(job, folder / "workspace", SITES, simulator=True), environment, folder / "log.txt")
    return measured(read_notes(notes), sites, rounds)


def measured(notes: Mapping[str, Sequence[Mapping[str, Any]]], sites: Sequence[str], rounds: int) -> Measured:
    """Return what the participants' notes of a run tell.

    Raises:
        TrainingError: some are missing, so a site was left out of a round.
    """

    def told(who: str, what: What, key: str, each: int = 1) -> list[Any]:
        values = [note[key] for note in notes.get(who, ()) if note["what"] == what]
        if len(values) != each * rounds:
            raise TrainingError(f"{who} noted '{what}' {len(values)} times in place of {each * rounds}")
        return values

    def of_sites(what: What) -> list[float]:
        return [max(times) for times in zip(*(told(site, what, "time") for site in sites), strict=True)]

    begun, ended = of_sites("begun"), of_sites("ended")
    # Of each round the server notes both sites: the second ends what the first began.
    sent, arrived = (told(SERVER, what, "time", SITES)[1::SITES] for what in ("sent", "arrived"))
    gaps = range(rounds - 1)
    return Measured(
        up=[arrived[n] - ended[n] for n in gaps],
        server=[sent[n + 1] - arrived[n] for n in gaps],
        down=[begun[n + 1] - sent[n + 1] for n in gaps],
        resident={SERVER: told(SERVER, "sent", "resident", SITES)[::SITES]}
        | {site: told(site, "ended", "resident") for site in sites},
    )


def report(found: Found) -> Result:
    """Return tables of seconds and of memory, and the ratios beside their limits."""
    seconds = {way: _medians(runs) for way, runs in found.runs.items()}
    numbers = sum(map(math.prod, found.shapes.values())) / _MEGA
    times = [[way, *(f"{value:.3f}" for value in parts.values())] for way, parts in seconds.items()]
    parts = ["to the server", "there", "to the sites", "whole"]
    rounds = len(found.runs[OURS][0].resident[SERVER])
    shown = sorted({1, min(SETTLED, rounds), rounds})
    memory = [
        [f"{way}: {who}", *(f"{resident[number - 1] / _MEGA:.0f}" for number in shown)]
        for way, runs in found.runs.items()
        for who, resident in runs[0].resident.items()
    ]
    tables = {
        f"seconds of a round beside what sites compute, {numbers:.2f} M numbers": Table(["", *parts], times),
        "resident memory in the first run, MB": Table(["", *(f"round {n}" for n in shown)], memory),
    }
    return Result("weights", asdict(found), tables, _checks(seconds, found.runs[OURS]))


def _medians(runs: Sequence[Measured]) -> dict[str, float]:
    """Return the medians over all rounds of all runs."""
    parts = ("up", "server", "down", "whole")
    return {part: median(value for run in runs for value in getattr(run, part)) for part in parts}


def _checks(seconds: Mapping[str, Mapping[str, float]], runs: Sequence[Measured]) -> list[Check]:
    checks = []
    for way in (way for way in seconds if way != OURS):
        speed = ratio(seconds[way]["whole"], seconds[OURS]["whole"])
        checks.append(Check(f"speed of {OURS} / {way}", speed, MIN_SPEED, at_least=True))
    for who, resident in runs[0].resident.items():
        if len(resident) >= SETTLED + LAST:
            growth = max(grown(run.resident[who]) for run in runs)
            checks.append(Check(f"{who}: memory of the last rounds / from {SETTLED} on", growth, MAX_GROWTH))
    return checks


def grown(resident: Sequence[int]) -> float:
    """Return memory in the last rounds over that from round :data:`SETTLED` on, medians of a few rounds."""
    settled = resident[SETTLED - 1 :]
    return ratio(median(resident[-LAST:]), median(settled[:LAST]))

"""Measure what sharing synthetic embeddings achieves against ε, and what it gives away.

    mucald synthetic --seeds 7 8 9 --out synthetic/phantoms
    mucald synthetic --home homes/brain_{seed} --seeds 7 8 9 --dimension 64 --out synthetic/brain

Runs the jobs ``jobs/dpcvae*``, those with noise at every ε. Sites draw phantoms, or with ``--home`` read the
sets that ``mucald share-out`` wrote, one folder for each seed. Fidelity and leakage are those of the first
seed. Writes ``rows.jsonl``, a table ``synthetic.md`` and the curve ``synthetic.svg``, and goes on where it
stopped.
"""

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import torch

from mucald.command_line import Found, Parser, add_json_option, at_least, command
from mucald.commands import CHECKOUT
from mucald.config.common import SiteConfig
from mucald.data.loading import load_for
from mucald.data.site_file import read_site_file
from mucald.errors import ConfigError
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.origins import check_alike
from mucald.methods.jobs import load_job
from mucald_studies.generative.federation import Federation
from mucald_studies.generative.federation import run as run_job
from mucald_studies.generative.page import write_page
from mucald_studies.generative.scores import fidelity, leakage

EPSILONS = (1.0, 2.0, 4.0, 8.0, None)
METHODS = {
    "dpcvae": "DP-CVAE",
    "dpcvae_gaussians": "DP class Gaussians",
    "dpcvae_dp_fedavg": "DP-FedAvg",
    "dpcvae_dp_cgan": "DP-CGAN",
    "dpcvae_local": "local",
    "dpcvae_centralised": "centralised",
    "dpcvae_fedavg": "FedAvg",
    "dpcvae_fedprox": "FedProx",
    "dpcvae_fedlambda": "FedLambda",
    "dpcvae_without_dp": "CVAE without DP, hidden layers",
}
"""Jobs and what tables call them."""

log = logging.getLogger(__name__)


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald synthetic", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder of what is written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="7 by default")
    parser.add_argument("--home", help="folder of the sites' own folders; {seed} stands for the seed")
    parser.add_argument("--jobs", nargs="+", choices=METHODS, default=list(METHODS), help="all by default")
    parser.add_argument("--dimension", type=at_least(1), help="numbers of a feature; that of the jobs")
    parser.add_argument("--rounds", type=at_least(1), help="rounds; the steps of a run stay as many")
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Measure what is not measured yet, and write table and curve."""
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in arguments.seeds:
        federation: Federation | None = None
        for job, config in _jobs(arguments, seed):
            key = {"job": job, "epsilon": config.privacy.epsilon, "seed": seed}
            if any({name: row[name] for name in key} == key for row in rows):
                continue
            federation = federation or _federation(config, arguments.home, seed)
            rows.append(key | _measured(config, federation, seed == arguments.seeds[0]))
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
            log.info("%s, ε %s, seed %d: %.3f", job, key["epsilon"], seed, rows[-1]["own"]["of_site"])
    write_page(arguments.out, rows, METHODS)
    return Found({"rows": len(rows), "table": arguments.out / "synthetic.md"})


def _jobs(arguments: argparse.Namespace, seed: int) -> list[tuple[str, GenerativeConfig]]:
    found = []
    for job in arguments.jobs:
        config, _ = load_job(CHECKOUT / "jobs" / job)
        assert isinstance(config, GenerativeConfig)
        config = dataclasses.replace(config, seed=seed)
        if arguments.home:
            config = _on_sets(config, Path(arguments.home.format(seed=seed)), arguments.dimension)
        elif arguments.dimension:
            features = dataclasses.replace(config.features, dimension=arguments.dimension)
            config = dataclasses.replace(config, features=features)
        if arguments.rounds:
            steps = config.training.rounds * config.training.local_epochs
            training = dataclasses.replace(
                config.training, rounds=arguments.rounds, local_epochs=max(1, steps // arguments.rounds)
            )
            config = dataclasses.replace(config, training=training)
        with_noise = config.privacy.epsilon is not None
        for epsilon in EPSILONS if with_noise else (None,):
            privacy = dataclasses.replace(config.privacy, epsilon=epsilon)
            found.append((job, dataclasses.replace(config, privacy=privacy)))
    return found


def _on_sets(config: GenerativeConfig, home: Path, dimension: int | None) -> GenerativeConfig:
    """Return a job on the sets of a folder."""
    from mucald.data.embeddings.sets import read_set

    files = sorted(home.glob("*/site.json"))
    if not files:
        raise ConfigError(f"{home}: there are no sites; 'mucald share-out' writes some")
    site_files = {path.parent.name: read_site_file(path) for path in files}
    backbone = read_set(Path(next(iter(site_files.values())).root or "")).header.backbone
    features = dataclasses.replace(
        config.features, backbone=backbone, dimension=dimension or config.features.dimension
    )
    sites = {name: SiteConfig(task=site_file.task) for name, site_file in site_files.items()}
    return dataclasses.replace(config, sites=sites, features=features)


def _federation(config: GenerativeConfig, home: str | None, seed: int) -> Federation:
    folder = Path(home.format(seed=seed)) if home else Path("nowhere")
    data = {site: load_for(site, config, folder / site, False) for site in config.sites}
    check_alike({site: of_site.train.content for site, of_site in data.items()})  # type: ignore[attr-defined]
    return Federation(data, config)


def _measured(config: GenerativeConfig, federation: Federation, whole: bool) -> dict[str, Any]:
    outcome = run_job(config, federation)
    row: dict[str, Any] = {
        "own": {name: sum(values) / len(values) for name, values in outcome.own.items()},
        "all": {name: sum(values) / len(values) for name, values in outcome.all.items()},
        "worst": {name: min(values) for name, values in outcome.own.items()},
        "accuracy": sum(outcome.accuracy) / len(outcome.accuracy),
        "sites": outcome.own["of_site"],
    }
    if whole and outcome.synthetic is not None:
        row |= {"fidelity": fidelity(federation, outcome.synthetic)}
        row |= {"leakage": leakage(federation, outcome.synthetic)}
    return row


main = command(describe, run)

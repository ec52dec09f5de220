"""Recorded tiny runs and what the tests need to attack them."""

from pathlib import Path
from typing import Any

from recording import Recording as Heard
from recording import record_run
from tiny_job import Run, tiny_config

from mucald_studies.attacks import choose_attacks
from mucald_studies.attacks.harness.evaluation import Attacked, Evaluation
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.run import read_run
from mucald_studies.recording import read_recording

LITTLE = Budget(max_steps=4, interval=2, auxiliary=16, batch=4, width=8)
"""Enough to see that an attack runs through."""
OF_GENERATORS = ["membership.synthetic"]
"""Attacks on samples that a shared generator draws; split learning has none."""

ONCE = {"release": {"mode": "once", "pretraining_epochs": 2}}


def heard_run(folder: Path, *changes: dict[str, Any], **more: Any) -> Heard:
    """Run the tiny job with the recorder on, and with listeners that know what was not said."""
    return record_run(tiny_config(*changes, **more, runtime={"record": True}), folder)


def evaluation_of(heard: Heard, auxiliary: dict[str, Path] | None = None) -> Evaluation:
    """Return what attacks a run that :func:`heard_run` made."""
    recording = read_recording(heard.run.folder)
    homes = {site: heard.run.folder / "home" / site for site in recording.sites}
    return Evaluation(recording, homes, auxiliary or {})


def attack(heard: Heard, name: str, site: str = "north", budget: Budget = LITTLE) -> Attacked:
    """Make one attack."""
    ((chosen, where),) = evaluation_of(heard).jobs(choose_attacks([name]), [site])
    return evaluation_of(heard).attack(chosen, where, budget)


def kept_evaluation(run: Run) -> Evaluation:
    """Return what attacks a run in which weights travel."""
    found = read_run(run.folder)
    return Evaluation(found, {site: run.folder / "home" / site for site in found.sites}, {})


def kept_attack(run: Run, name: str, site: str = "north") -> Attacked:
    """Make one attack on such a run."""
    ((chosen, where),) = kept_evaluation(run).jobs(choose_attacks([name]), [site])
    return kept_evaluation(run).attack(chosen, where, LITTLE)

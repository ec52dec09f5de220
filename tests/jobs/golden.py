"""The numbers of every job, shrunk, as ``golden.json`` keeps them: what kinds of CPU agree on.

``python tests/jobs/golden.py JOB …`` writes the numbers of these jobs anew, without a name those of all; it
takes some minutes. Do so only for a new job, or where a job's numbers are meant to change, and say why in the
commit.

Sums differ in their last digits between instruction sets. Where a number on the wire is then rounded the
other way, or a risk is estimated from nearby outputs (SURE), much comes of that. So every job runs under
several sets, and each number is kept with a tolerance of ten times the spread between them, or that of its
kind if it is wider; one that they do not agree on to a tenth is left out.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("golden.json")
INSTRUCTIONS: tuple[dict[str, str], ...] = (
    {},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
)
WIDER = 10
LEAST = {"norm": 5e-4, "losses": 3e-3, "gradients": 1e-2}
LEAST_OF_OTHERS = 3e-3
MOST = 0.1
"""Relative tolerances: of a kind of number, at least and at most."""

Facts = dict[str, Any]


def facts(results: Mapping[str, Any], weights: Mapping[str, Mapping[str, Any]]) -> Facts:
    """Return the numbers of a run by name.

    Args:
        results: the content of its ``results.json``.
        weights: of its models, by file and tensor.
    """
    found: Facts = {"failures": len(results["failures"])}
    for site, entry in results["sites"].items():
        found |= {f"{site}/{key}": entry[key] for key in ("n_train", "n_validation", "n_test")}
        # What crosses beside training depends on the state that a site has chosen, by whatever margin.
        known = ("training",) if entry["aggregation"] else ("training", "up", "down")
        found |= {f"{site}/bytes/{key}": entry["wire"][key] for key in known}
    for entry in results["rounds"]:
        sites = [flat(numbers) for numbers in entry["sites"].values()]
        number = entry["round"]
        found |= {f"round {number}/{name}": mean(sites, name) for site in sites for name in site}
        losses = {k: v for k, v in entry.get("discriminators", {}).items() if k.startswith("loss")}
        found |= flat(losses, f"round {number}/discriminators/")
    return found | norms(weights)


def mean(sites: Sequence[Facts], name: str) -> float | None:
    """Return the mean of a number over the sites that have it; None where one does not know it."""
    values = [site[name] for site in sites if name in site]
    return None if None in values else sum(values) / len(values)


def norms(weights: Mapping[str, Mapping[str, Any]]) -> Facts:
    """Return the L2 norm of each module over all models."""
    squares: dict[str, float] = {}
    for tensors in weights.values():
        for name, tensor in tensors.items():
            module = f"norm/{name.split('.')[0]}"
            squares[module] = squares.get(module, 0.0) + float(tensor.double().square().sum())
    return {module: square**0.5 for module, square in squares.items()}


def flat(value: Mapping[str, Any], prefix: str = "") -> Facts:
    """Return nested numbers by their path."""
    found: Facts = {}
    for key, item in value.items():
        found |= flat(item, f"{prefix}{key}/") if isinstance(item, dict) else {prefix + key: item}
    return found


def agreed(runs: Sequence[Facts]) -> Facts:
    """Return what runs agree on: a whole number, or a number and its tolerance."""
    kept: Facts = {}
    for name in set.intersection(*map(set, runs)):
        values = [run[name] for run in runs]
        if not any(isinstance(value, float) for value in values):
            kept |= {name: values[0]} if len(set(values)) == 1 else {}
        elif None not in values:
            least = next((LEAST[kind] for kind in LEAST if kind in name), LEAST_OF_OTHERS)
            size = abs(values[0])
            tolerance = max(WIDER * (max(values) - min(values)), least * size)
            if tolerance <= MOST * size:
                kept[name] = [float(f"{values[0]:.6g}"), float(f"{tolerance:.2g}")]
    return dict(sorted(kept.items()))


def difference(expected: Facts, found: Facts) -> dict[str, Any]:
    """Return the numbers that are not as expected, each with what it should be."""
    own = {name: found.get(name, "missing") for name in expected}
    return {name: (own[name], value) for name, value in expected.items() if not fits(own[name], value)}


def fits(own: Any, value: Any) -> bool:
    """Return whether a number is the one expected, up to its tolerance if it has one."""
    if isinstance(value, list):
        return isinstance(own, float) and abs(own - value[0]) <= value[1]
    return own == value


def run_all(names: Sequence[str]) -> Iterator[tuple[str, Facts]]:
    """Yield the facts of each job named, or of all."""
    # Imported here: what starts other processes does not need them.
    from shrunk_jobs import JOBS, shrunk
    from tiny_job import run_job

    for job in (job for job in JOBS if not names or job.name in names):
        with tempfile.TemporaryDirectory() as folder:
            run = run_job(shrunk(job), Path(folder))
            yield job.name, facts(run.results, run.models())


def text(jobs: Mapping[str, Facts]) -> str:
    """Return the file's text, a line for each number."""
    parts = []
    for job, content in jobs.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
        parts.append(f"{json.dumps(job)}: {{\n{lines}\n}}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(names: Sequence[str]) -> None:
    """Run jobs under each set of instructions and write what they agree on."""
    runs: list[dict[str, Facts]] = []
    for variables in INSTRUCTIONS:
        command = [sys.executable, __file__, "--print", *names]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        runs.append(json.loads(done.stdout))
    others = json.loads(FILE.read_text(encoding="utf-8")) if names else {}
    jobs = others | {job: agreed([run[job] for run in runs]) for job in runs[0]}
    FILE.write_text(text(dict(sorted(jobs.items()))), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(FILE.parents[1]))
    if "--print" in sys.argv:
        print(json.dumps(dict(run_all(sys.argv[2:]))))
    else:
        main(sys.argv[1:])

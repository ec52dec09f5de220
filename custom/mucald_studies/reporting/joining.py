"""What joining a federation brings a site, at what price: one row for each method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mucald_studies.attacks.harness.result import AttackResult, read_results
from mucald_studies.reporting.page import Cell, Table
from mucald_studies.reporting.runs import Method, Run
from mucald_studies.reporting.statistics import MEAN, Comparison, Comparisons
from mucald_studies.reporting.tables import NOTHING, gain

ATTACKS_FILE = "attacks.json"
COLUMNS = (
    "method",
    "leaves a site",
    "gain over alone",
    "worst site",
    "sites below alone",
    "strongest attack",
)
_METRICS = {"psnr_gain": "dB over the mean image", "dice": "Dice of masks", "auc": "AUC"}
"""What an attack's strength is told by; only where it has no metric before it the next one counts."""

Attacks = Mapping[str, Sequence[AttackResult]]
"""By the id of the run that was attacked."""


def find_attacks(places: Sequence[Path]) -> Attacks:
    """Read every ``attacks.json`` at or below ``places``.

    Raises:
        AttackError: a file is damaged, or of another schema.
    """
    found: dict[str, list[AttackResult]] = {}
    for place in places:
        for path in sorted(place.rglob(ATTACKS_FILE)):
            for result in read_results(path):
                found.setdefault(result.run_id, []).append(result)
    return found


def attacks_on(method: Method, attacks: Attacks) -> list[AttackResult]:
    """Return the attacks on a method's runs."""
    return [one for run in method.runs.values() for one in attacks.get(run.content["run_id"], ())]


def joining_table(
    methods: Sequence[Method], sites: Sequence[str], gains: Comparisons, attacks: Attacks
) -> Table | None:
    """Return what each method brings over training alone, beside what it discloses; None if nothing is known.

    Args:
        methods: in the order of the rows.
        sites: all of the job.
        gains: over training alone, by method and site.
        attacks: on the methods' runs.
    """
    rows: list[list[Cell | str]] = []
    for method in methods:
        of_site = {site: gains[method.label, site] for site in sites if (method.label, site) in gains}
        if (method.label, MEAN) not in gains:
            continue
        worst = min(of_site, key=lambda site: of_site[site].difference)
        rows.append(
            [
                method.label,
                leaves(method.first),
                gain(gains[method.label, MEAN]),
                gain(of_site[worst], f"{worst} "),
                _below(of_site),
                strongest(attacks_on(method, attacks)),
            ]
        )
    return Table(COLUMNS, rows, words=2) if rows else None


def leaves(run: Run) -> str:
    """Return what leaves a site beside losses and scores, in words."""
    if run.pooled:
        return "all images and labels"
    found = []
    for kind, disclosure in run.disclosures.items():
        part = disclosure["facts"].get("part")
        noise = "without noise" if disclosure["noise"] == "none" else "noised"
        found.append(f"{kind} ({f'{part}, ' if part else ''}{noise})")
    return ", ".join(found) or "scores alone"


def _below(of_site: Mapping[str, Comparison]) -> str:
    below = [site for site, comparison in of_site.items() if comparison.interval[1] < 0]
    return ", ".join(below) or "none"


def strongest(results: Sequence[AttackResult]) -> Cell | str:
    """Return the strongest attack of the first kind that was tried."""
    for metric, meaning in _METRICS.items():
        known = [result for result in results if metric in result.metrics]
        if known:
            best = max(known, key=lambda result: result.metrics[metric].value)
            return Cell(f"{best.metrics[metric].value:.2f} {meaning}", small=f"{best.attack} on {best.site}")
    return NOTHING

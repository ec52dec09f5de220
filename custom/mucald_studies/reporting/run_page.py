"""The results of one run as a page, written beside its ``results.json``."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mucald.errors import ReportError
from mucald.metrics.names import names_of
from mucald.privacy.disclosure import KINDS
from mucald.privacy.gaussian import VACUOUS_EPSILON
from mucald.results.table import crossed
from mucald_studies.reporting.figures import Curves, curve_panels, svg
from mucald_studies.reporting.page import Cell, Page, Picture, Table
from mucald_studies.reporting.pictures import site_examples
from mucald_studies.reporting.runs import Run, find_runs
from mucald_studies.reporting.statistics import MEAN
from mucald_studies.reporting.tables import (
    NOTHING,
    amount,
    disclosure_bounds,
    disclosure_facts,
    header,
    signed,
    spread,
)

PAGE = "results.html"
_PHANTOMS = "phantoms"
LOSSES = {
    "segmentation": "Dice loss and cross-entropy of the masks, weighted; progress shows it",
    "classification": "cross-entropy of the classes; progress shows it",
    "generation": "of the network that draws embeddings",
    "dice": "1 − Dice of the predicted probabilities",
    "cross_entropy": "of each pixel's probabilities",
    "proximal": "how far shared weights went from those that the round began with",
    "distillation": "how far predictions went from those of the network that the round began with",
    "proxy": "how far the causal variables are from the noised proxies",
    "kl_exogenous": "how far the exogenous variables are from N(0, 1)",
    "kl_causal": "how far the causal variables are from what the proxies foretell",
    "diffusion": "error of the denoiser",
    "adversarial": "of telling the site from its features; it rises to ln(sites) where that is a guess",
}
"""What each loss is, by its name without a number or ``personal_``."""


def write_run_page(place: Path, own_pictures: bool = False) -> Path:
    """Write the page of a run beside its ``results.json``, and return its path.

    Args:
        place: the run's workspace, or a folder or file in it.
        own_pictures: show example predictions of sites with images of their own too, where their own folders
            lie beside the results; otherwise those of phantoms alone.

    Raises:
        ReportError: there are no results, or those of several runs.
    """
    runs = find_runs([place])
    if len(runs) > 1:
        found = ", ".join(str(run.path.parent) for run in runs)
        raise ReportError(f"{place} holds several runs; give the folder of one: {found}")
    path = runs[0].path.with_name(PAGE)
    path.touch(mode=0o600)
    path.write_text(run_page(runs[0], own_pictures).html(), encoding="utf-8")
    return path


def run_page(run: Run, own_pictures: bool = False) -> Page:
    """Return the page of a run, see :func:`write_run_page`."""
    shown = [site for site, entry in run.sites.items() if own_pictures or entry["source"] == _PHANTOMS]
    pictures = {site: site_examples(run, site) for site in shown}
    content = run.content
    return Page(
        "run.md",
        {
            "run": content,
            "config": content["config"],
            "sites": run.sites,
            "failures": run.failures,
            "scores": _scores(run),
            "cross_site": _cross_site(run),
            "examples": {site: found for site, found in pictures.items() if found},
            "withheld": [site for site in run.sites if site not in shown],
            "disclosures": _disclosures(run),
            "meaning": content["privacy"].get("meaning", []),
            "pooled": run.pooled,
            "validation": _picture(
                "validation", _validation(run), "Validation per round, a line for each site."
            ),
            "vacuous": VACUOUS_EPSILON,
            **_losses(run),
            "costs": _costs(run),
            "settings": _settings(run),
        },
    )


def plain_name(loss: str) -> str:
    """Return the name in :data:`LOSSES` of a loss that a report names."""
    return re.sub(r"_\d+$", "", loss.removeprefix("personal_"))


def _scores(run: Run) -> Table:
    metrics = list(run.content["mean"]["test"])
    adds = any(entry["server_contribution"] is not None for entry in run.sites.values())
    columns = ["site", "task", "images", "best round", *map(header, metrics), *["server adds"] * adds]
    rows: list[list[Cell | str]] = []
    for site, entry in run.sites.items():
        counts = "/".join(str(entry[f"n_{split}"]) for split in ("train", "validation", "test"))
        best = NOTHING if entry["best_round"] is None else str(entry["best_round"] + 1)
        row = [site, entry["task"], f"{counts}, {entry['source']}", best]
        row += [_spread(entry["test"].get(metric), metric) for metric in metrics]
        rows.append([*row, *[_signed(entry["server_contribution"])] * adds])
    mean = run.content["mean"]
    means = [_spread(mean["test"][metric], metric) for metric in metrics]
    rows.append(
        [
            Cell(text, bold=True)
            for text in (MEAN, "", "", "", *means, *[_signed(mean["server_contribution"])] * adds)
        ]
    )
    return Table(columns, rows, words=3)


def _cross_site(run: Run) -> Table | None:
    """Return how each site's network does on the test samples of every other site of its task."""
    found, networks = crossed(run.sites)
    rows: list[list[Cell | str]] = []
    for site, scores in found.items():
        primary = names_of(run.sites[site]["task"]).primary
        of_site = scores | {site: run.sites[site]["test"][primary]}
        cells = [Cell(_spread(of_site.get(name), primary), bold=name == site) for name in networks]
        rows.append([site, header(primary), *cells])
    return Table(["tests of", "metric", *networks], rows, words=2) if rows else None


def _spread(value: float | None, metric: str) -> str:
    return spread([] if value is None else [value], metric)


def _signed(value: float | None) -> str:
    return signed([] if value is None else [value])


def _disclosures(run: Run) -> Table | None:
    rows = [
        [
            kind,
            # A kind that a later version adds has no meaning here yet.
            KINDS[kind].meaning if kind in KINDS else NOTHING,
            found["often"],
            found["noise"],
            disclosure_bounds(found),
            disclosure_facts(found) or NOTHING,
        ]
        for kind, found in run.disclosures.items()
    ]
    columns = ["what", "what it is", "how often", "noise", "guarantee", "settings"]
    return Table(columns, rows, words=6) if rows else None


def _picture(name: str, curves: Mapping[str, Curves], caption: str) -> list[Picture]:
    """Return one panel per name within the curves, with a line for each site; none if there are no curves."""
    panels = list(dict.fromkeys(panel for by_panel in curves.values() for panel in by_panel))
    if not panels:
        return []
    figure = curve_panels(panels, curves, with_reference=False)
    return [Picture(f"{name}.svg", svg(figure, name), caption)]


def _validation(run: Run) -> dict[str, Curves]:
    found: dict[str, Curves] = {}
    for site, entry in run.content["sites"].items():
        primary = names_of(entry["task"]).primary
        scores = {
            told["round"] + 1: [told[primary]] for told in entry["validation"] if told[primary] is not None
        }
        losses = {told["round"] + 1: [told["loss"]] for told in entry["validation"]}
        found[site] = {name: by for name, by in ((header(primary), scores), ("loss", losses)) if by}
    return found


def _losses(run: Run) -> dict[str, Any]:
    """Return what the page shows of losses: the one that each site is known by, and all others with it."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for record in run.content.get("rounds", []):
        for site, name, value in _told(record):
            found.setdefault(site, {}).setdefault(name, {})[record["round"] + 1] = [value]
    main = {names_of(entry["task"]).loss for entry in run.sites.values()}
    known = {name for by_name in found.values() for name in by_name}
    # A generative network is trained with neither masks nor classes.
    main = (main & known) or known
    shown, rest = (
        {
            site: {name: by for name, by in by_name.items() if (name in main) == first}
            for site, by_name in sorted(found.items())
        }
        for first in (True, False)
    )
    rows = [[name, LOSSES.get(name, NOTHING)] for name in dict.fromkeys(map(plain_name, sorted(known)))]
    return {
        "loss": _picture("loss", shown, "Training loss per round, a line for each site."),
        "meanings": Table(["loss", "what it is"], rows, words=2),
        "parts": _picture("parts", rest, "Parts of the training loss per round, a line for each site."),
    }


def _told(record: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    for site, entry in record["sites"].items():
        for name, value in entry["losses"].items():
            if value is not None:
                yield site, name, value


def _costs(run: Run) -> Table:
    wire, timing = run.content["wire"], run.content["timing"]
    rows = [
        ("sent by the sites", amount([wire["bytes_up"]], 1e6), "MB"),
        ("sent to the sites", amount([wire["bytes_down"]], 1e6), "MB"),
        ("per image and training step", amount([wire["bytes_per_image_step"]], 1e3), "kB"),
        ("whole run", amount([timing["wall_s"]], 1), "s"),
        ("work of the sites, summed", amount([timing["site_s"]], 1), "s"),
        ("work of the server", amount([timing["server_s"]], 1), "s"),
    ]
    return Table(["cost", "amount", "unit"], [list(row) for row in rows], words=1)


def _settings(run: Run) -> Table:
    """Return every setting as ``mucald.json`` writes it, so that it can be copied from the page."""
    rows: list[list[Cell | str]] = [
        [key, json.dumps(value, ensure_ascii=False)] for key, value in sorted(run.settings.items())
    ]
    return Table(["key", "value"], rows, words=2)

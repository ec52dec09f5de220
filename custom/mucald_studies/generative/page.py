"""The table and the curve of what sharing synthetic embeddings achieves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mucald_studies.generative.federation import mean_and_interval

_HEADER = (
    "method",
    "ε",
    "own tests: alone",
    "shared",
    "mixed",
    "worst site",
    "all tests: alone",
    "shared",
    "mixed",
)
_FIDELITY = ("wasserstein", "mmd", "precision", "recall", "two_sample", "other_label")


def write_page(folder: Path, rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    """Write ``synthetic.md`` and ``synthetic.svg``.

    Args:
        folder: where.
        rows: one for each job, ε and seed.
        names: what jobs are called.
    """
    groups = _grouped(rows)
    lines = [_line(_HEADER), _line(("---",) * len(_HEADER))]
    for (job, epsilon), own in groups.items():
        cells = [_cell(own, "own", name) for name in ("local", "shared", "of_site")]
        cells += [_cell(own, "worst", "of_site")]
        cells += [_cell(own, "all", name) for name in ("local", "shared", "of_site")]
        lines.append(_line((names[job], _epsilon(epsilon), *cells)))
    lines += [
        "",
        _line(("method", "ε", *_FIDELITY, "nearest neighbour")),
        _line(("---",) * (len(_FIDELITY) + 3)),
    ]
    for (job, epsilon), own in groups.items():
        own = [row for row in own if "fidelity" in row]
        if own:
            cells = [_cell(own, "fidelity", name) for name in _FIDELITY]
            cells.append(_cell(own, "leakage", "nearest_neighbour"))
            lines.append(_line((names[job], _epsilon(epsilon), *cells)))
    (folder / "synthetic.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _draw(folder / "synthetic.svg", groups, names)


def _grouped(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, float | None], list[Mapping[str, Any]]]:
    found: dict[tuple[str, float | None], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["job"], row["epsilon"]), []).append(row)
    return found


def _cell(rows: Sequence[Mapping[str, Any]], part: str, name: str) -> str:
    mean, interval = mean_and_interval([row[part][name] for row in rows])
    return f"{mean:.3f}" if len(rows) < 2 else f"{mean:.3f} ± {interval:.3f}"


def _epsilon(value: float | None) -> str:
    return "∞" if value is None else f"{value:g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _draw(path: Path, groups: Mapping[tuple[str, float | None], Any], names: Mapping[str, str]) -> None:
    """Draw balanced accuracy against ε: of the shared classifier on all tests, and mixed on own tests."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    epsilons = sorted({e for _, e in groups if e is not None})
    places = {e: n for n, e in enumerate([*epsilons, None])}
    for panel, (part, name, title) in zip(
        panels,
        (
            ("own", "of_site", "own tests, mixed by λ"),
            ("all", "shared", "tests of all sites, shared classifier"),
        ),
        strict=True,
    ):
        for job in names:
            points = [(places[e], rows) for (one, e), rows in groups.items() if one == job]
            if not points:
                continue
            means = [mean_and_interval([row[part][name] for row in rows]) for _, rows in points]
            if len(points) > 1:
                # Side by side, so that no interval hides another.
                x = [place + 0.06 * (list(names).index(job) - 1.5) for place, _ in points]
                errors = [0 if one[1] != one[1] else one[1] for one in means]
                panel.errorbar(x, [one[0] for one in means], errors, marker="o", capsize=2, label=names[job])
            elif job in ("dpcvae_local", "dpcvae_centralised", "dpcvae_fedavg"):
                style = {"dpcvae_local": ":", "dpcvae_centralised": "--"}.get(job, "-.")
                panel.axhline(means[0][0], color="0.4", linestyle=style, label=names[job])
        panel.set_xticks(list(places.values()), [_epsilon(e) for e in places])
        panel.set_xlabel("ε of the job")
        panel.set_title(title, fontsize=10)
    panels[0].set_ylabel("balanced accuracy")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")

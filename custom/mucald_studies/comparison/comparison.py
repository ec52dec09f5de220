"""The page of a comparison: one row for each family's methods, and the privacy-utility plane."""

from collections.abc import Mapping, Sequence

from mucald.privacy.gaussian import DELTA, VACUOUS_EPSILON, epsilon
from mucald_studies.comparison.presets import Preset
from mucald_studies.reporting.comparability import differences
from mucald_studies.reporting.figures import Dot, scatter, svg
from mucald_studies.reporting.joining import Attacks, attacks_on, leaves, strongest
from mucald_studies.reporting.page import Cell, Page, Picture, Table
from mucald_studies.reporting.runs import Method, Run
from mucald_studies.reporting.statistics import MEAN, bootstrap_interval, compare_all
from mucald_studies.reporting.tables import MARK, NOTHING, Tables, amount, gain, guaranteed

COLUMNS = (
    "method",
    "family",
    "leaves a site",
    "guarantee",
    "server sees weights",
    "strongest attack",
    "score",
    "worst site",
    "gain over alone",
    "moved [MB]",
    "time [s]",
    "memory [MB]",
)
_WORDS = 6
_AUC = "auc"


def comparison_page(preset: Preset, methods: Sequence[Method], attacks: Attacks) -> Page:
    """Return the page of a comparison.

    Args:
        preset: what is compared.
        methods: the finished rows, each called as the preset calls it; those who train alone are among them.
        attacks: that were made on their runs.
    """
    by_name = {method.first.job: method for method in methods}
    ordered = {name: by_name[name] for name in preset.rows if name in by_name}
    alone = by_name[preset.alone]
    odd = differences(list(ordered.values()), alone)
    sites = sorted(alone.first.sites)
    # A network of another kind needs other passes over the data: a gain is told, and marked.
    other_data = differences(list(ordered.values()), alone, with_budget=False)
    gains = compare_all(list(ordered.values()), alone, sites, other_data)
    tables = Tables(list(ordered.values()), sites, gains, odd)
    rows = []
    for name, method in ordered.items():
        found = gains.get((method.label, MEAN))
        rows.append(
            [
                name + MARK * (method.label in odd),
                preset.rows[name].family,
                leaves(method.first),
                guarantee(method.first),
                sees_weights(method.first),
                strongest(attacks_on(method, attacks)),
                _score(method, sites),
                _worst(method, sites),
                NOTHING if found is None else gain(found),
                *_costs(method),
            ]
        )
    return Page(
        "comparison.md",
        {
            "title": preset.title,
            "score": tables.score,
            "alone": preset.alone,
            "seeds": sorted({seed for method in methods for seed in method.runs}),
            "sites": alone.first.sites,
            "table": Table(COLUMNS, rows, words=_WORDS),
            "plane": _plane(ordered, attacks, tables.score),
            "missing": [name for name in preset.rows if name not in by_name],
            "vacuous": VACUOUS_EPSILON,
            "odd": _by_reasons(
                {name: odd[method.label] for name, method in ordered.items() if method.label in odd}
            ),
            "by_site": tables.scores(),
        },
    )


def _by_reasons(odd: Mapping[str, Sequence[str]]) -> list[tuple[str, list[str]]]:
    """Return reasons in words, each with the rows that it holds for."""
    found: dict[str, list[str]] = {}
    for name, reasons in odd.items():
        found.setdefault("; ".join(reasons), []).append(name)
    return list(found.items())


def guarantee(run: Run) -> str:
    """Return the differential privacy of all that is made of a site's images, or that there is none."""
    if run.pooled:
        return "none"
    left = list(run.disclosures.values())
    # What the job promises is told at the job's own δ.
    delta = min((one["facts"]["delta"] for one in left if one["facts"].get("delta")), default=DELTA)
    strengths = [bound["mu"] for one in left for bound in one["bounds"].values()]
    if None in strengths or not all(one["bounds"] for one in left):
        return "none"
    if not left:
        return "nothing leaves"
    weakest = epsilon(max(strengths), delta)
    return guaranteed(weakest, f"ε = {weakest:.3g} at δ = {delta:g}")


def sees_weights(run: Run) -> str:
    """Return whether the server can read weights that were trained on a site's images."""
    if run.pooled:
        return "has the images"
    part = run.disclosures.get("weights", {}).get("facts", {}).get("part")
    if part is None:
        return "no"
    return "sealed" if part.endswith("sealed") else f"yes: {part}"


def _score(method: Method, sites: Sequence[str]) -> Cell:
    low, high = bootstrap_interval([method.scores(site) for site in sites])
    values = method.test_scores()
    return Cell(f"{sum(values) / len(values):.3f}", small=f"[{low:.3f}, {high:.3f}]")


def _worst(method: Method, sites: Sequence[str]) -> Cell | str:
    means = {site: sum(values) / len(values) for site in sites if (values := method.test_scores(site))}
    if not means:
        return NOTHING
    site = min(means, key=lambda one: means[one])
    return Cell(f"{means[site]:.3f}", small=site)


def _costs(method: Method) -> list[str]:
    wire = [run.content["wire"] for run in method.runs.values()]
    return [
        amount([each["bytes_up"] + each["bytes_down"] for each in wire], 1e6),
        amount(method.values("timing", "wall_s"), 1),
        amount(method.values("timing", "peak_memory_mb"), 1),
    ]


def _plane(methods: Mapping[str, Method], attacks: Attacks, score: str) -> list[Picture]:
    """Return every attacked method by how well members are told from others, and by its score."""
    dots, unmeasured = [], []
    for name, method in methods.items():
        known = [one.metrics[_AUC] for one in attacks_on(method, attacks) if _AUC in one.metrics]
        if known:
            values = method.test_scores()
            attack = max(known, key=lambda one: one.value)
            dots.append(Dot(name, attack.value, (attack.low, attack.high), sum(values) / len(values)))
        else:
            unmeasured.append(name)
    if not dots:
        return []
    drawing = scatter(dots, "AUC of the strongest membership attack (0.5: guessing)", f"mean test {score}")
    caption = "Left is less given away, up is better; the line joins those that no other beats in both."
    if unmeasured:
        caption += f" Not drawn, as no attack on members was measured: {', '.join(unmeasured)}."
    return [Picture("plane.svg", svg(drawing, "plane"), caption)]

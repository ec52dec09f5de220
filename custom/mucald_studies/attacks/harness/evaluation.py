"""Runs attacks on a run and scores what they hand in against the truth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mucald.errors import AttackError
from mucald_studies.attacks.harness import base, scoring
from mucald_studies.attacks.harness.base import Attack, Knowledge, Pictures
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.result import AttackResult, Estimate, Metrics
from mucald_studies.attacks.harness.run import Run, subject_of
from mucald_studies.attacks.harness.scoring import Values
from mucald_studies.attacks.harness.subject import Subject
from mucald_studies.attacks.harness.view import View, recorded

RATES = (0.01, 0.1)
ALL_SITES = "all"


@dataclass(frozen=True)
class Attacked:
    """An attack's result, and its pictures beside the originals where it makes any: (N, 3, S, S) each."""

    result: AttackResult
    originals: Tensor | None = None
    pictures: Tensor | None = None


@dataclass(frozen=True)
class _Score:
    """What an :class:`AttackResult` says of a finding."""

    target: str
    n: int
    metrics: Metrics
    anchors: dict[str, Metrics]
    refused: dict[str, str] = field(default_factory=dict)


class Evaluation:
    """Attacks the sites of one run.

    Args:
        run: what it left for an attacker.
        homes: each site's own folder.
        auxiliary: by site, a folder with a ``site.json`` that names images for the attacker.

    Raises:
        RecordingError: a site in ``homes`` sent nothing.
    """

    def __init__(self, run: Run, homes: Mapping[str, Path], auxiliary: Mapping[str, Path]):
        self._run = run
        self._subjects = {
            site: subject_of(run, site, home, auxiliary.get(site)) for site, home in homes.items()
        }

    def jobs(self, attacks: Sequence[Attack], sites: Sequence[str]) -> list[tuple[Attack, str]]:
        """Return what there is to do: each attack on each site, those that compare sites once.

        Raises:
            AttackError: a site is not among those of the run.
        """
        for site in sites:
            if site not in self._subjects:
                raise AttackError(f"run has no site '{site}' (known: {', '.join(self._subjects)})")
        return [
            (attack, site)
            for attack in attacks
            for site in ([ALL_SITES] if Knowledge.SITES in attack.knowledge else sites)
        ]

    def attack(self, attack: Attack, site: str, budget: Budget) -> Attacked:
        """Make one attack on a site, or on ``all`` if it compares sites, and score it.

        Raises:
            AttackError: the run gives no handle for it; the message tells why.
        """
        start = time.perf_counter()
        subject = self._subjects[site] if site != ALL_SITES else next(iter(self._subjects.values()))
        finding = attack.run(View(attack, subject, self._subjects, budget))
        score = _score(finding, attack, subject, budget)
        result = AttackResult(
            attack=attack.name,
            job=self._run.config.name,
            run_id=self._run.run_id,
            site=site,
            knowledge=tuple(sorted(attack.knowledge)),
            seed=budget.seed,
            curve=getattr(finding, "curve", ()),
            seconds=time.perf_counter() - start,
            **vars(score),
        )
        if isinstance(finding, Pictures):
            return Attacked(result, _originals(finding, subject), finding.images)
        return Attacked(result)


def _originals(finding: Pictures, subject: Subject) -> Tensor:
    return (subject.data.train if finding.target == "train" else subject.data.test).batch(finding.rows).inputs


def _score(finding: base.Finding, attack: Attack, subject: Subject, budget: Budget) -> _Score:
    match finding:
        case Pictures(images, target):
            truth = _originals(finding, subject)
            mean = (
                subject.drawn("auxiliary", budget.seed, budget.auxiliary).inputs.mean(dim=0).expand_as(truth)
            )
            metrics = scoring.image_metrics(images, truth) | scoring.psnr_gain(images, mean, truth)
            return _Score(target, len(truth), metrics, {"mean image": scoring.image_metrics(mean, truth)})
        case base.Latents(latents, changes):
            site = recorded(subject, attack)
            first, second = site.first_two_releases() if changes else (0, site.clean_releases())
            truth, peak = second - first, 2 * site.config.release.clip
            blind = scoring.latent_metrics(torch.zeros_like(truth), truth, peak)
            return _Score("train", len(truth), scoring.latent_metrics(latents, truth, peak), {"zero": blind})
        case base.Masks(labels, blind, rows):
            masks, n_classes = subject.data.train.batch(rows).targets, subject.task.n_classes
            anchor = {"one mask for all": scoring.mask_metrics(blind.expand_as(masks), masks, n_classes)}
            return _Score("train", len(masks), scoring.mask_metrics(labels, masks, n_classes), anchor)
        case base.MemberScores(scores, threshold):
            _, trained_on = subject.candidates(budget.seed)
            values = scores.double()
            return _score_members(values[trained_on].numpy(), values[~trained_on].numpy(), threshold)
        case base.Hits(hits, chance):
            metrics = {f"accuracy_{name}": scoring.estimate(values.double()) for name, values in hits.items()}
            anchor = {"chance": dict.fromkeys(metrics, Estimate(chance, chance, chance))}
            return _Score("train", len(next(iter(hits.values()))), metrics, anchor)


def _score_members(members: Values, others: Values, threshold: float | None) -> _Score:
    metrics = {"auc": scoring.resampled(scoring.auc, members, others)}
    chance, refused = {"auc": Estimate(0.5, 0.5, 0.5)}, {}
    for rate in RATES:
        name = f"tpr_at_{100 * rate:g}%_fpr"
        try:
            metrics[name] = scoring.resampled(partial(scoring.tpr_at_fpr, rate=rate), members, others)
            chance[name] = Estimate(rate, rate, rate)
        except AttackError as error:
            refused[name] = str(error)
    if threshold is not None:
        metrics["tpr_calibrated"] = scoring.estimate((members > threshold).astype(float))
        metrics["fpr_calibrated"] = scoring.estimate((others > threshold).astype(float))
    count = len(members) + len(others)
    return _Score("train and others", count, metrics, {"chance": chance}, refused)

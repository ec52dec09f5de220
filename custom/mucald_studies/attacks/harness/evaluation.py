"""Runs attacks on a recorded run and scores what they hand in against the truth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mucald.errors import AttackError
from mucald_studies.attacks.harness import scoring
from mucald_studies.attacks.harness.base import (
    Attack,
    Changes,
    Finding,
    Hits,
    Knowledge,
    Latents,
    Masks,
    MemberScores,
    Pictures,
)
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.result import AttackResult, Estimate, Metrics
from mucald_studies.attacks.harness.subject import Subject
from mucald_studies.attacks.harness.traffic import assigned
from mucald_studies.attacks.harness.view import View
from mucald_studies.recording import Recording

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
    target: str
    n: int
    metrics: Metrics
    anchors: dict[str, Metrics]
    refused: dict[str, str]
    originals: Tensor | None = None


class Evaluation:
    """Attacks the sites of one recorded run.

    Args:
        recording: of the run.
        homes: each site's own folder.
        auxiliary: by site, a folder with a ``site.json`` that names images for the attacker.

    Raises:
        RecordingError: a site in ``homes`` sent nothing.
    """

    def __init__(self, recording: Recording, homes: Mapping[str, Path], auxiliary: Mapping[str, Path]):
        self._recording = recording
        self._subjects = {
            site: Subject(recording, site, home, auxiliary.get(site)) for site, home in homes.items()
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
        """Make one attack and score it.

        Args:
            attack: which.
            site: on whom; ``all`` for an attack that compares sites.
            budget: what the attacker may spend.

        Raises:
            AttackError: the run gives no handle for it; the message tells why.
        """
        start = time.perf_counter()
        subject = self._subjects[site] if site != ALL_SITES else next(iter(self._subjects.values()))
        finding = attack.run(View(attack, subject, self._subjects, budget), budget)
        score = _score(finding, subject, budget)
        result = AttackResult(
            attack=attack.name,
            job=self._recording.config.name,
            run_id=self._recording.run_id,
            site=site,
            knowledge=tuple(sorted(attack.knowledge)),
            target=score.target,
            n=score.n,
            seed=budget.seed,
            metrics=score.metrics,
            anchors=score.anchors,
            curve=getattr(finding, "curve", ()),
            refused=score.refused,
            seconds=time.perf_counter() - start,
        )
        pictures = finding.images if isinstance(finding, Pictures) else None
        return Attacked(result, score.originals, pictures)


def _score(finding: Finding, subject: Subject, budget: Budget) -> _Score:
    match finding:
        case Pictures():
            return _score_pictures(finding, subject, budget)
        case Latents():
            return _score_latents(finding, subject)
        case Changes():
            return _score_changes(finding, subject)
        case Masks():
            return _score_masks(finding, subject)
        case MemberScores():
            return _score_members(finding, subject, budget)
        case Hits():
            metrics = {
                f"accuracy_{name}": scoring.estimate(hits.double()) for name, hits in finding.hits.items()
            }
            chance = {name: Estimate(finding.chance, finding.chance, finding.chance) for name in metrics}
            return _Score("train", len(next(iter(finding.hits.values()))), metrics, {"chance": chance}, {})


def _score_pictures(finding: Pictures, subject: Subject, budget: Budget) -> _Score:
    split = subject.data.train if finding.target == "train" else subject.data.test
    truth = split.batch(finding.rows).inputs
    known = subject.drawn("auxiliary", budget.seed, budget.auxiliary).images
    mean = known.mean(dim=0).expand_as(truth)
    return _Score(
        finding.target,
        len(truth),
        scoring.image_metrics(finding.images, truth) | scoring.psnr_gain(finding.images, mean, truth),
        {"mean image": scoring.image_metrics(mean, truth)},
        {},
        truth,
    )


def _score_latents(finding: Latents, subject: Subject) -> _Score:
    return _against_zero(finding.latents, subject.clean_releases(), subject)


def _score_changes(finding: Changes, subject: Subject) -> _Score:
    config = subject.config
    rounds = 1 if config.training.local_epochs > 1 else 2
    clean = dict(enumerate(subject.clean_releases(rounds).chunk(rounds)))
    first, second, *_ = assigned(config, subject.site, clean).by_epoch()
    return _against_zero(finding.latents, second - first, subject)


def _against_zero(latents: Tensor, truth: Tensor, subject: Subject) -> _Score:
    peak = 2 * subject.config.release.clip
    blind = scoring.latent_metrics(torch.zeros_like(truth), truth, peak)
    metrics = scoring.latent_metrics(latents, truth, peak)
    return _Score("train", len(truth), metrics, {"zero": blind}, {})


def _score_masks(finding: Masks, subject: Subject) -> _Score:
    truth = subject.data.train.batch(finding.rows).targets
    n_classes = subject.task.n_classes
    metrics = scoring.mask_metrics(finding.labels, truth, n_classes)
    blind = scoring.mask_metrics(finding.blind.expand_as(truth), truth, n_classes)
    return _Score("train", len(truth), metrics, {"one mask for all": blind}, {})


def _score_members(finding: MemberScores, subject: Subject, budget: Budget) -> _Score:
    _, trained_on = subject.candidates(budget.seed)
    scores = finding.scores.double()
    members, others = scores[trained_on].numpy(), scores[~trained_on].numpy()
    metrics = {"auc": scoring.resampled(scoring.auc, members, others)}
    chance, refused = {"auc": Estimate(0.5, 0.5, 0.5)}, {}
    for rate in RATES:
        name = f"tpr_at_{100 * rate:g}%_fpr"
        try:
            metrics[name] = scoring.resampled(partial(scoring.tpr_at_fpr, rate=rate), members, others)
            chance[name] = Estimate(rate, rate, rate)
        except AttackError as error:
            refused[name] = str(error)
    if finding.threshold is not None:
        metrics["tpr_calibrated"] = scoring.estimate((members > finding.threshold).astype(float))
        metrics["fpr_calibrated"] = scoring.estimate((others > finding.threshold).astype(float))
    return _Score("train and others", len(scores), metrics, {"chance": chance}, refused)

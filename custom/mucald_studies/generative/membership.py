"""Attack the membership of one site's images in what it trains, with and without noise.

Usage: ``python -m mucald_studies.generative.membership``. A site of 200 phantoms trains alone for 40 steps;
the attacker has 24 generators that were trained on halves of the images.
"""

import dataclasses
from pathlib import Path

import torch

from mucald.commands import CHECKOUT
from mucald.data.loading import load_for
from mucald.methods.generative.algorithms import make_algorithm
from mucald.methods.generative.algorithms.base import Samples
from mucald.methods.generative.build import build_learner
from mucald.methods.generative.config import GenerativeConfig
from mucald.methods.generative.learning import samples_of
from mucald.methods.generative.spending import private_step
from mucald.methods.jobs import load_job
from mucald_studies.generative.leakage import membership

SHADOWS, IMAGES, PASSES = 24, 200, 150


def config_of(job: str, epsilon: float | None) -> GenerativeConfig:
    """Return a job at an ε, whose sites have fewer images."""
    config, _ = load_job(CHECKOUT / "jobs" / job)
    assert isinstance(config, GenerativeConfig)
    phantoms = dataclasses.replace(config.data.phantoms, train=IMAGES, validation=7, test=7)
    return dataclasses.replace(
        config,
        privacy=dataclasses.replace(config.privacy, epsilon=epsilon),
        data=dataclasses.replace(config.data, phantoms=phantoms),
    )


def attacked(job: str, epsilon: float | None) -> float:
    """Return the attack's area under the curve; 0.5 is guessing."""
    config = config_of(job, epsilon)
    data, algorithm = load_for("site_01", config, Path("nowhere"), False), make_algorithm(config.algorithm)
    samples = samples_of(data, config)["train"]
    steps = 1 if algorithm.once else 40

    def generate(x: torch.Tensor, labels: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        learner, own = build_learner(config, data.task.name), Samples(x, labels)
        assert learner is not None
        if epsilon is None:
            for n in range(1 if algorithm.once else PASSES):
                learner.plain_step(own, (number, n), 1.0, {})
        else:
            step = private_step(config, steps)
            for n in range(steps):
                learner.private_step(own, step, ("membership", number, n), (number, n), 1.0)
        classes = labels.unique().repeat_interleave(60)
        return algorithm.sample(learner, classes, ("membership", number)), classes

    return membership(generate, samples.x, samples.labels, SHADOWS)


def main() -> None:
    """Print a line for each job and ε."""
    for job in ("dpcvae", "dpcvae_without_dp", "dpcvae_gaussians"):
        for epsilon in (1.0, 8.0, None) if job != "dpcvae_without_dp" else (None,):
            print(
                f"{job}, ε {'∞' if epsilon is None else epsilon}: AUC {attacked(job, epsilon):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

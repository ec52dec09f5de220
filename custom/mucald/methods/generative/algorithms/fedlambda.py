"""FedAvg's classifier, mixed at every site with its own (adapted kNN-Per; Marfoq et al., ICML 2022)."""

from dataclasses import dataclass
from typing import ClassVar

from mucald.methods.generative.algorithms.fedavg import FedAvg


@dataclass(frozen=True)
class FedLambda(FedAvg):
    """Probabilities λ own + (1 − λ) shared, with λ by validation; with noise it is DP-FedAvg with λ."""

    mixes: ClassVar[bool] = True

"""Shared front ends and middle networks, private back ends."""

from dataclasses import dataclass
from typing import ClassVar

from mucald.methods.split.algorithms.base import Algorithm


@dataclass(frozen=True)
class FedPer(Algorithm):
    """FedPer (Arivazhagan et al., 2019): the base layers are shared, the personalisation layers stay.

    The base layers are front end and middle network, the personalisation layers the back end.
    """

    shares_front_end: ClassVar[bool] = True

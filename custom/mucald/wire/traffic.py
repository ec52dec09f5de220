"""What crosses, as a site sees it."""

from dataclasses import dataclass


@dataclass
class Traffic:
    """Bytes and seconds on the wire, as the site sees them; ``hidden``: those in which it did not wait."""

    up: int = 0
    down: int = 0
    training: int = 0
    seconds: float = 0.0
    hidden: float = 0.0

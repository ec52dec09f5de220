"""A recorded run of a shrunk job, as the tests look at it."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from recording import Recording, record_run
from shrunk_jobs import shrunk

from mucald.methods.split.wire.messages import Field, decode
from mucald.state.checkpoint import load_checkpoint


@dataclasses.dataclass(frozen=True)
class Seen:
    """A recorded run of a shrunk job, and the server's warnings."""

    recording: Recording
    warnings: list[str]

    @property
    def results(self) -> dict[str, Any]:
        return self.recording.run.results

    def disclosed(self, kind: str) -> dict[str, Any] | None:
        """Return what the results say of a kind of disclosure; None if the job does not disclose it."""
        found = [one for one in self.results["privacy"]["disclosures"] if one["kind"] == kind]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Names and values of the server's networks for one site."""
        return load_checkpoint(self.recording.run.server / f"models/{self.site}.safetensors")[0]

    @property
    def site(self) -> str:
        """The first site in order of name."""
        return min(self.results["sites"])

    @property
    def last_round(self) -> dict[str, Any]:
        return self.results["rounds"][-1]

    @property
    def terms(self) -> set[str]:
        """Names of the loss terms of the last round, when every ramp is at its end."""
        return set(self.last_round["sites"][self.site]["losses"])

    @property
    def gradients(self) -> dict[str, float]:
        return self.last_round["sites"][self.site]["gradients"]

    def fields(self) -> Iterator[dict[Field, torch.Tensor]]:
        """Yield what every message carried."""
        for _, request, reply in self.recording.messages:
            yield decode(request).fields
            yield decode(reply).fields

    @property
    def wire(self) -> set[Field]:
        return {field for fields in self.fields() for field in fields}

    @property
    def levels(self) -> set[int]:
        return {int(t) for fields in self.fields() if Field.LEVEL in fields for t in fields[Field.LEVEL]}

    def has(self, *prefixes: str) -> bool:
        """Return whether the server holds a parameter whose name begins so."""
        return any(name.startswith(prefixes) for name in self.parameters)


def see(job: str, folder: Path) -> Seen:
    """Run a shrunk job with listeners."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("mucald")
    log.addHandler(handler)
    try:
        return Seen(record_run(shrunk(job), folder), warnings)
    finally:
        log.removeHandler(handler)

"""Runs a job with listeners: everything that crosses, and what must not cross."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_job import Run, run_job, site_data, tiny_config
from torch import Tensor

from mucald.federation.coordinator import Coordinator
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.site.release import Release, Released
from mucald.wire.codec import FORMATS


@dataclass
class Recording:
    """A finished run, and what was said in it.

    Args:
        run: the run.
        messages: (site, request, reply) as raw bytes.
        reports: what the sites reported at the end of each task.
        clean: clean, bounded latents that were released.
        proxies: noised proxies that were released, a tensor for every split and task.
        released: what was released of them.
    """

    run: Run
    messages: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    clean: list[Tensor] = field(default_factory=list)
    released: list[Released] = field(default_factory=list)
    proxies: list[Tensor] = field(default_factory=list)


def record_run(config: SplitConfig, folder: Path) -> Recording:
    """Run a job with listeners on the functions that carry messages and reports and that release latents."""
    recording = Recording(Run(folder, {}))
    handle, receive = SplitServer.handle, Coordinator.receive
    bounded, latent, proxies = Release.bounded, Release.latent, Release.proxies

    def listening_handle(self: SplitServer, site: str, request: bytes) -> bytes:
        reply = handle(self, site, request)
        recording.messages.append((site, bytes(request), reply))
        return reply

    def listening_receive(self: Coordinator, site: str, reports: Any, payload: Any = None) -> None:
        recording.reports.extend(reports.values())
        receive(self, site, reports, payload)

    def listening_bounded(self: Release, x: Tensor) -> Tensor:
        recording.clean.append(bounded(self, x))
        return recording.clean[-1]

    def listening_latent(self: Release, x: Tensor, *key: int | str) -> Released:
        recording.released.append(latent(self, x, *key))
        return recording.released[-1]

    def listening_proxies(self: Release, values: Tensor, *key: int | str) -> tuple[Tensor, Tensor]:
        noised, present = proxies(self, values, *key)
        recording.proxies.append(noised)
        return noised, present

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SplitServer, "handle", listening_handle)
        patch.setattr(Coordinator, "receive", listening_receive)
        patch.setattr(Release, "bounded", listening_bounded)
        patch.setattr(Release, "latent", listening_latent)
        patch.setattr(Release, "proxies", listening_proxies)
        recording.run = run_job(config, folder)
    return recording


def private_chunks(recording: Recording) -> list[bytes]:
    """Return stretches of bytes of everything that must not cross, in every form that the wire knows."""
    noises = [released.noise for released in recording.released]
    chunks = []
    for tensor in [*recording.clean, *noises]:
        for name in ("float32", "bfloat16", "int8"):
            chunks.append(FORMATS[name].encode(tensor)[-48:])
    for site in ("north", "south"):
        data = site_data(tiny_config(), site, recording.run.folder / "home" / site)
        for split in (data.train, data.validation, data.test):
            for index in range(len(split)):
                labels = split.labels[index]
                rows = labels[labels.float().std(dim=1) > 0]
                chunks += [
                    rows.to(kind).numpy().tobytes() for kind in (torch.uint8, torch.int64, torch.float32)
                ]
                pixels = split.pixels[index, :, 6:8]
                chunks += [
                    pixels.numpy().tobytes(),
                    (pixels / 255).numpy().tobytes(),
                    pixels.float().numpy().tobytes(),
                ]
                chunks.append(split.measures[index].numpy().tobytes())
    return [chunk for chunk in chunks if len(set(chunk)) > 1]

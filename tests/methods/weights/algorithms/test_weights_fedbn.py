"""Normalisation layers stay at the site, all else is averaged."""

import dataclasses

import pytest
import torch
from families import config_of
from tiny_job import equal_models, equal_tensors, run_job
from torch import nn

from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.algorithms.fedbn import FedBN
from mucald.methods.weights.parts import shared_tensors
from mucald.nets import BACKBONES, build_backbone
from mucald.state.checkpoint import load_checkpoint


@pytest.mark.parametrize("norm", ["instance", "batch", "group"])
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_what_is_shared_is_all_but_the_layers_that_normalise(backbone, norm):
    plan = build_backbone(backbone, features=(8, 16, 32), cut=1, latent_channels=4, norm=norm)
    parts = {"front_end": plan.front_end(), "middle": plan.middle()}
    kept, all_shared = (shared_tensors(parts, parts, algorithm) for algorithm in (FedBN(), FedAvg()))
    private = {
        f"{part}.{path}.{name}"
        for part, module in parts.items()
        for path, inner in module.named_modules()
        if "Norm" in type(inner).__name__
        for name, tensor in [*inner.named_parameters(recurse=False), *inner.named_buffers(recurse=False)]
        if tensor.is_floating_point()
    }
    assert private
    assert kept.keys() == all_shared.keys() - private


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_run_shares_convolutions_and_leaves_each_site_its_normalisation(norm, tmp_path):
    config = config_of("weights fedbn")
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, norm=norm))
    run = run_job(config, tmp_path)
    shared = load_checkpoint(run.server / "models/shared.safetensors")[0]
    assert shared
    assert not any(".N." in name or "running" in name for name in shared)
    north, west = (run.checkpoint(site, 2) for site in ("north", "west"))
    own = [name for name in north if name.startswith("weights.") and ".N." in name and "tracked" not in name]
    assert len(own) > 4
    assert not any(torch.equal(north[name], west[name]) for name in own)


def test_a_network_that_normalises_nothing_is_fedavg_s(tmp_path, monkeypatch):
    """A layer counts by its type: without the types that count it is FedAvg bit for bit."""
    monkeypatch.setattr("mucald.methods.weights.algorithms.fedbn.NORMALISATION", (nn.Embedding,))
    runs = [run_job(config_of(f"weights {name}"), tmp_path / name) for name in ("fedbn", "fedavg")]
    assert runs[0].results["rounds"] == runs[1].results["rounds"]
    assert equal_models(*runs)
    assert equal_tensors(*(run.checkpoint("west", 2) for run in runs))

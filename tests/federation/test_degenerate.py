"""What the method becomes when its parts are switched off, as equalities."""

import pytest
import torch
from tiny_job import PLAIN, Run, equal_models, equal_tensors, run_job, tiny_config

from mucald.data.loading import load_site_data
from mucald.losses.segmentation import SegmentationLoss
from mucald.nets import build_backbone
from mucald.state.checkpoint import load_checkpoint, without_prefix

ONE_STEP = {
    "min_sites": 1,
    "training": {"rounds": 1},
    "data": {"phantoms": {"train": 2, "validation": 1, "test": 1}},
    "aggregation": {"rule": "local"},
}


def scores(run: Run) -> dict:
    """Return what the sites' results say of the model, without the wire's bytes."""
    return {
        name: {k: v for k, v in site.items() if k != "wire"} for name, site in run.results["sites"].items()
    }


def saved(run: Run, site: str, completed: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what server and site have saved of ``site``."""
    runs = run.folder / "home/server/runs" / run.results["run_id"]
    server = load_checkpoint(runs / f"round-{completed:03d}" / f"{site}.safetensors")[0]
    return server, run.checkpoint(site, completed)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_with_everything_off_a_step_is_that_of_a_plain_network(cut, tmp_path):
    """Front end, standardise and clamp, middle, back end: one PyTorch network, one AdamW."""
    network = {"network": {"cut": cut, "latent_channels": 4}, "release": {"clip": 1.5}}
    config = tiny_config(PLAIN, ONE_STEP, network, optimiser={"clip_norm": 1e9})
    run = run_job(config, tmp_path, sites=["north"])
    data = load_site_data("north", "kvasir", config.data, config.seed, None)
    plan = build_backbone("unet", features=(8, 16, 32), cut=cut, latent_channels=4, norm="instance")
    parts = {"front_end": plan.front_end(), "middle": plan.middle(), "back_end": plan.back_end(2)}
    server, site = saved(run, "north", 0)
    weights = without_prefix("weights", site)
    parts["front_end"].load_state_dict(without_prefix("front_end", weights))
    parts["back_end"].load_state_dict(without_prefix("back_end", weights))
    parts["middle"].load_state_dict(without_prefix("segments.middle", server))
    order = [parts["front_end"], parts["back_end"], parts["middle"]]
    parameters = [p for part in order for p in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=0.001, weight_decay=0.01)

    batch = data.train.batch(range(2))
    latent, skips = parts["front_end"](batch.inputs)
    variance, mean = torch.var_mean(latent, dim=(1, 2, 3), correction=0, keepdim=True)
    bounded = ((latent - mean) / (variance + 1e-6).sqrt()).clamp(-1.5, 1.5)
    logits = parts["back_end"](parts["middle"](bounded), skips)
    loss = SegmentationLoss(2, 0.5)(logits, batch.targets)
    loss.backward()
    optimiser.step()

    assert run.results["rounds"][0]["sites"]["north"]["losses"]["segmentation"] == pytest.approx(
        loss.item(), rel=1e-5
    )
    server, site = saved(run, "north", 1)
    n_site = sum(1 for part in order[:2] for _ in part.parameters())
    moments = [without_prefix("optimiser", tensors) for tensors in (site, server)]
    for index, parameter in enumerate(parameters):
        of_site = index < n_site
        # AdamW's first moment after one step is a tenth of the gradient.
        moment = moments[not of_site][f"{index if of_site else index - n_site}.exp_avg"]
        torch.testing.assert_close(10 * moment, parameter.grad, atol=2e-6, rtol=1e-3)
    weights = without_prefix("weights", site) | without_prefix("segments", server)
    for part, module in parts.items():
        for name, parameter in module.named_parameters():
            # AdamW magnifies the rounding of gradients as small as its epsilon to whole steps.
            clear = parameter.grad.abs() > 1e-5
            learnt = weights[f"{part}.{name}"]
            torch.testing.assert_close(learnt[clear], parameter.detach()[clear], atol=5e-6, rtol=1e-4)


def test_an_adversarial_weight_of_0_is_daca_switched_off(tmp_path, full):
    idle = run_job(tiny_config(losses={"adversarial": {"weight": 0.0}}), tmp_path / "idle")
    off = run_job(tiny_config(daca={"enabled": False}), tmp_path / "off")
    assert equal_models(idle, off)
    assert idle.results["rounds"][1]["sites"] == off.results["rounds"][1]["sites"]
    assert idle.results["rounds"][0]["discriminators"]
    assert off.results["rounds"][0]["discriminators"] == {}
    assert not equal_models(idle, full.run)


def test_without_noise_the_supervision_makes_no_difference(tmp_path):
    clean = {"release": {"noised": False}}
    runs = [
        run_job(tiny_config(clean, crdm={"supervision": name}), tmp_path / name)
        for name in ("sure", "epsilon")
    ]
    assert equal_models(*runs)
    assert scores(runs[0]) == scores(runs[1])


def test_with_the_local_rule_a_site_gets_the_numbers_that_it_gets_alone(tmp_path):
    """The discriminators read all sites, so they are off; no other site has this one's task."""
    config = tiny_config(daca={"enabled": False}, aggregation={"rule": "local"}, min_sites=1)
    together, alone = run_job(config, tmp_path / "a"), run_job(config, tmp_path / "b", sites=["south"])
    assert set(together.results["sites"]) == {"north", "south", "west"}
    assert together.results["sites"]["south"] == alone.results["sites"]["south"]
    for name, model in alone.models().items():
        assert equal_tensors(model, together.models()[name])
    north, south = (
        together.models()[f"results/server/models/{site}.safetensors"] for site in ("north", "south")
    )
    assert not torch.equal(north["middle.entry.0.conv.weight"], south["middle.entry.0.conv.weight"])


@pytest.mark.parametrize(
    "aggregation",
    [{"rule": "by_size"}, {"rule": "causal_invariant", "args": {"floor": 0.25, "mixing": 1.0}}],
    ids=lambda aggregation: aggregation["rule"],
)
def test_rules_that_come_to_equal_weights_give_equal_numbers(aggregation, tmp_path, full):
    assert equal_models(run_job(tiny_config(aggregation=aggregation), tmp_path), full.run)


def test_a_payload_type_changes_the_numbers_by_its_rounding_alone(tmp_path, full):
    """Guards the equalities above: the wire's precision does reach the result."""
    exact = run_job(tiny_config(wire={"latent": "float32"}), tmp_path)
    assert not equal_models(exact, full.run)
    one, other = (
        run.results["rounds"][0]["sites"]["north"]["losses"]["segmentation"] for run in (exact, full.run)
    )
    assert one == pytest.approx(other, abs=0.01)

import pytest
import torch
from tiny_job import CONTENT, site_data, tiny_config, write_job

from mucald.nets import back_end_of, backbone_of
from mucald.tasks import TASKS
from mucald.tasks.augmentation import NONE
from mucald_studies.benchmark import plain
from mucald_studies.benchmark.plain import MOST_BEHIND, Script, Trained, measure, report, transforms

AS_PRACTISED = {"training": {"rounds": 3, "augmentation": 1.0, "schedule": "cosine"}}


def run_of(dice: dict[str, float]):
    sites = {site: {"test": {"dice": value}} for site, value in dice.items()}
    return {"config": {"name": "job", "training": {"rounds": 3, "local_epochs": 2}}, "sites": sites}


def test_the_script_makes_the_passes_of_the_job_at_its_rates_and_learns(monkeypatch):
    config = tiny_config(AS_PRACTISED, training={"rounds": 20, "local_epochs": 2})
    script, rates = Script(config, "north", site_data(config, "north")), []
    step = script._optimiser.step

    def noted() -> None:
        rates.append(script._optimiser.param_groups[0]["lr"])
        step()

    monkeypatch.setattr(script._optimiser, "step", noted)
    before = script._validation_dice()
    trained = script.run()
    assert rates == pytest.approx([0.001 * config.rate(n, s, 4) for n in range(20) for s in range(4)])
    assert len(trained.validation) == 20
    assert max(trained.validation) > before
    assert 0 < trained.dice <= 1


def test_its_network_is_about_as_large_as_the_job_s():
    network = CONTENT["network"] | {"features": [16, 32, 64, 128], "latent_channels": 16, "cut": 2}
    config = tiny_config(network=network, data={"image_size": 64})
    backbone = backbone_of(config.network)
    own = [backbone.front_end(), backbone.middle(), back_end_of(config.network, 2)]
    size = sum(parameter.numel() for module in own for parameter in module.parameters())
    script = plain._network(config.network.features, 2)
    assert sum(parameter.numel() for parameter in script.parameters()) == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize("task", [t for t in TASKS.values() if t.input == "image"], ids=lambda t: t.name)
def test_its_transforms_keep_image_and_mask_together_and_begin_anew_with_a_seed(task):
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:14, 12:26] = 1
    chain = transforms(task.augmentation, 1.0, 32)

    def changed() -> list[tuple[torch.Tensor, torch.Tensor]]:
        chain.set_random_state(3)
        sample = {"image": mask.expand(3, 32, 32).clone(), "label": mask.clone()}
        return [(out["image"], out["label"]) for out in (chain(sample) for _ in range(20))]

    for (image, label), (again, _) in zip(changed(), changed(), strict=True):
        assert torch.equal(image, again)
        # Blurred and noisy, but in the same place.
        inside, outside = image[:, label[0] == 1], image[:, label[0] == 0]
        assert inside.mean() > outside.mean() + 0.3


def test_a_task_without_augmentation_is_not_changed():
    sample = {"image": torch.rand(3, 8, 8), "label": torch.ones(1, 8, 8)}
    out = transforms(NONE, 1.0, 8)(sample)
    assert torch.allclose(out["image"], sample["image"], atol=1e-6)


def test_job_and_script_are_set_side_by_side_as_means_over_seeds():
    found = {
        7: (
            run_of({"north": 0.8, "south": 0.6}),
            {s: Trained(5, [0.5], d) for s, d in (("north", 0.7), ("south", 0.7))},
        ),
        8: (
            run_of({"north": 0.6, "south": 0.6}),
            {s: Trained(5, [0.5], d) for s, d in (("north", 0.9), ("south", 0.5))},
        ),
    }
    result = report(found)
    ((title, table),) = result.tables.items()
    assert title == "test Dice after 6 passes over the images, 2 seeds"
    assert table.columns == ["site", "job", "plain MONAI script"]
    assert table.rows == [
        ["north", "0.700", "0.800"],
        ["south", "0.600", "0.600"],
        ["mean", "0.650", "0.700"],
    ]
    (check,) = result.checks
    assert check.value == pytest.approx(0.05)
    assert check.limit == MOST_BEHIND
    assert not check.passed


def test_the_command_measures_a_job_s_own_run(tmp_path):
    job = write_job(tmp_path / "job", CONTENT | {"training": CONTENT["training"] | {"rounds": 1}})
    ((results, scripts),) = measure(job, {}, [7], None, tmp_path / "runs").values()
    assert scripts.keys() == results["sites"].keys()
    assert all(0 <= trained.dice <= 1 for trained in scripts.values())

import json

import pytest
from tiny_job import CONTENT, CPU, REPOSITORY, tiny_config, tiny_content, write_job

from mucald.config.common import Ramp
from mucald.config.job import check_site_names
from mucald.errors import ConfigError
from mucald.federation.coordinator import Coordinator
from mucald.methods import family_of
from mucald.methods.jobs import load_config, load_job, parse_config


def test_the_shipped_job_reads():
    config, sites = load_job(REPOSITORY / "jobs/mucald")
    assert sites == list(config.sites)
    assert len(sites) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainig": {}}, "unknown key 'trainig'; did you mean 'training'"),
        ({"network": {"feature": [8]}}, "unknown key 'network.feature'; did you mean 'features'"),
        ({"losses": {"proxy": {"wieght": 1.0}}}, "'losses.proxy.wieght'; did you mean 'weight'"),
        ({"seed": "7"}, "'seed' must be of type int"),
        ({"training": {"rounds": 2.5}}, "'training.rounds' must be of type int"),
        ({"training": {"rounds": 0}}, "'training': rounds must be at least 1"),
        ({"training": {"batch_size": 0}}, "'training': batch_size must be at least 1"),
        ({"wire": {"pipeline_depth": 0}}, "'wire': pipeline_depth must be at least 1"),
        ({"wire": {"pipeline_depth": 2}}, 'needs release.mode "once"; with "fresh" the next release'),
        ({"release": {"mode": "memoised"}}, r"'release.mode' must be one of \['fresh', 'once'\]"),
        ({"release": {"t": 400}}, r"'release': t must lie in \[0, 399\], not 400"),
        ({"release": {"t": -1}}, r"'release': t must lie in \[0, 399\], not -1"),
        ({"release": {"clip": 0}}, "clip must be positive"),
        ({"release": {"proxy_noise_std": -0.1}}, "proxy_noise_std must not be negative"),
        ({"release": {"mode": "twice"}}, "'release.mode' must be one of"),
        ({"release": {"pretraining_epochs": 1}}, 'pretraining_epochs is for mode "once"'),
        ({"release": {"mode": "once", "pretraining_epochs": -1}}, "pretraining_epochs must not be negative"),
        ({"release": {"mode": "once"}, "crdm": {"supervision": "epsilon"}}, "hands no noise over"),
        ({"crdm": {"t_split2": 400}}, r"crdm.t_split2 must lie in \[0, 399\]"),
        ({"crdm": {"encoder": "sem"}}, "'crdm.encoder' must be one of .* did you mean 'scm'"),
        ({"crdm": {"supervision": "shure"}}, "did you mean 'sure'"),
        (
            {"network": {"cut": 3}},
            "'cut' must lie in 0..2, not 3: the server needs 1 or more of the 3 levels",
        ),
        ({"network": {"norm": "layer"}}, "'network.norm' must be one of"),
        ({"network": {"features": [8, "16"]}}, r"'network.features\[1\]' must be of type int"),
        ({"wire": {"latent": "float16"}}, "'wire.latent' must be one of"),
        ({"losses": {"proxy": {"weight": -0.1}}}, "'losses.proxy': weight must not be negative"),
        ({"losses": {"proxy": {"warm_up": 1.5}}}, "'losses.proxy': warm_up must be at most 1, not 1.5"),
        ({"losses": {"proxy": {"ramp": -0.5}}}, "'losses.proxy': ramp must not be negative"),
        ({"release": {"gradient_clip": 0.0}}, "'release': gradient_clip must be positive"),
        ({"release": {"gradient_noise_std": 1.0}}, "so give that too"),
        ({"release": {"stand_in": True}}, "so let there be some"),
        ({"sites": {"north": {}}}, "missing key 'sites.north.task'"),
        ({"sites": {"north": {"task": "kvasir", "weight": 2}}}, "unknown key 'sites.north.weight'"),
        ({"min_sites": 0}, "min_sites must be at least 1"),
        ({"name": "a/b"}, "name"),
        ({"optimiser": {"denoiser": -0.001}}, "'optimiser': denoiser must not be negative"),
        ({"optimiser": {"clip_norm": 0}}, "clip_norm must be positive"),
        ({"losses": {"proximal": -1}}, "'losses': proximal must not be negative"),
        ({"daca": {"batch_per_site": 0}}, "'daca': batch_per_site must be at least 1"),
        ({"runtime": {"threads": 0}}, "'runtime': threads must be at least 1"),
        ({"crdm": {"supervision": "ambient"}, "release": {"t": 399}}, "supervision ambient"),
    ],
)
def test_a_wrong_key_or_value_is_named(change, message, tmp_path):
    (tmp_path / "mucald.json").write_text(json.dumps(tiny_content(change)))
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sites": {"north": {"task": "kwasir"}, "south": {"task": "ham10k"}}},
            "unknown task 'kwasir'.*kvasir",
        ),
        ({"network": {"backbone": "unett"}}, "unknown backbone 'unett'; did you mean 'unet'"),
        ({"network": {"cut": 4}}, "'cut' must lie in 0..3"),
        ({"data": {"image_size": 18}}, "'image_size' must be a multiple of 4"),
        ({"crdm": {"encoder_width": 12}}, "must be a multiple of 8"),
        ({"aggregation": {"rule": "eqal"}}, "unknown aggregation rule 'eqal'; did you mean 'equal'"),
        ({"aggregation": {"args": {"floor": 1}}}, "unknown key 'aggregation.args.floor'"),
        ({"min_sites": 4}, "3 sites take part, but min_sites is 4"),
        ({"resume_from": "../elsewhere"}, "resume_from must be the name of a run"),
    ],
)
def test_a_job_that_cannot_run_is_refused_before_it_starts(change, message, tmp_path):
    config = tiny_config(change)
    sites = list(config.sites)
    with pytest.raises(ConfigError, match=message):
        Coordinator(family_of("split"), config, sites, tmp_path / "home", tmp_path / "run", CPU)
    assert not (tmp_path / "home").exists()


def test_two_sites_of_one_name_are_refused(tmp_path):
    job = write_job(tmp_path / "job", tiny_content(), ["server", "north", "south", "north"])
    with pytest.raises(ConfigError, match="two sites are named 'north'"):
        load_job(job)
    with pytest.raises(ConfigError, match="names no site"):
        check_site_names([])


def test_a_site_that_the_configuration_describes_twice_is_refused(tmp_path):
    text = json.dumps(tiny_content())
    start = text.index('"south"')
    (tmp_path / "mucald.json").write_text(text[:start] + '"north": {"task": "fetal"}, ' + text[start:])
    with pytest.raises(ConfigError, match=r"mucald\.json.*'north'.*twice"):
        load_config(tmp_path)


def test_a_site_without_a_task_is_named():
    with pytest.raises(ConfigError, match=r"site 'east' has no task; add \"east\".*'deploy_map' in meta"):
        tiny_config().site("east")


@pytest.mark.parametrize("content", [{}, {"deploy_map": {}}, {"deploy_map": {"a": [], "b": []}}])
def test_a_job_without_one_app_is_refused(content, tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="'deploy_map' must name one app"):
        load_job(tmp_path)


def test_the_digest_ignores_what_does_not_decide_the_numbers_and_nothing_else():
    reference = tiny_config()
    changes = {
        "method": None,  # The method of a whole configuration decides its other keys.
        "name": "other",
        "description": "else",
        "seed": 8,
        "min_sites": 1,
        "resume_from": "latest",
        "sites": {"north": {"task": "ham10k"}},
        "data": {"image_size": 32},
        "training": {"rounds": 3},
        "runtime": {"step_timeout_s": 1.0},
        "network": {"precision": "bfloat16"},
        "release": {"t": 301},
        "crdm": {"denoiser": False},
        "daca": {"steps": 4},
        "losses": {"proxy": {"ramp": 0.5}},
        "optimiser": {"causal": 0.1},
        "algorithm": {"args": {"x": 1}},
        "aggregation": {"statistics": True},
        "wire": {"latent": "float32"},
        "handover": {"epochs": 1},
    }
    assert reference.to_dict().keys() == changes.keys()
    del changes["method"]
    same = {key for key, value in changes.items() if tiny_config({key: value}).digest() == reference.digest()}
    assert same == {"description", "resume_from", "runtime"}


def test_the_resolved_configuration_reads_back_and_names_every_default():
    config = tiny_config()
    content = json.loads(json.dumps(config.to_dict()))
    assert "pipeline_depth" not in CONTENT["wire"]
    assert content["wire"]["pipeline_depth"] == 1
    assert parse_config(content) == config


def test_the_log_line_names_the_digest_and_every_value():
    config = tiny_config()
    digest, _, content = config.log_line().partition(": ")
    assert config.digest().startswith(digest.split()[1])
    assert json.loads(content) == config.to_dict()


@pytest.mark.parametrize(
    ("warm_up", "ramp", "progress", "expected"),
    [
        (0.2, 0.4, 0.0, 0.0),
        (0.2, 0.4, 0.2, 0.0),
        (0.2, 0.4, 0.4, 1.5),
        (0.2, 0.4, 0.6, 3.0),
        (0.2, 0.4, 1.0, 3.0),
        (0.5, 0.0, 0.49, 0.0),
        (0.5, 0.0, 0.5, 3.0),
        (0.0, 0.0, 0.0, 3.0),
    ],
)
def test_a_ramp_warms_up_and_rises_linearly(warm_up, ramp, progress, expected):
    assert Ramp(3.0, warm_up, ramp).at(progress) == pytest.approx(expected)


def test_progress_runs_from_0_to_1():
    config = tiny_config(training={"rounds": 5})
    assert [config.progress(number) for number in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert tiny_config(training={"rounds": 1}).progress(0) == 0


def test_learning_rates_follow_the_schedule_over_the_whole_run():
    def rates(**changes):
        training = tiny_config(training=changes).training
        return [training.rate(done) for done in (0.05, 0.1, 0.55, 0.99)]

    assert rates() == [1, 1, 1, 1]
    assert rates(schedule="cosine") == pytest.approx([0.9938, 0.9755, 0.4218, 0.00025], abs=1e-4)
    assert rates(schedule="poly") == pytest.approx([0.95**0.9, 0.9**0.9, 0.45**0.9, 0.01**0.9])
    assert rates(warm_up=0.1) == pytest.approx([0.5, 1, 1, 1])
    assert rates(schedule="cosine", warm_up=0.1) == pytest.approx([0.5, 1, 0.5, 0.0003], abs=1e-4)
    assert rates(warm_up=1.0) == pytest.approx([0.05, 0.1, 0.55, 0.99])


def test_the_rate_counts_rounds_and_steps_alone():
    config = tiny_config(training={"rounds": 4, "schedule": "poly"})
    in_order = [config.rate(number, step, 5) for number in range(4) for step in range(5)]
    assert in_order == sorted(in_order, reverse=True)
    assert config.rate(3, 4, 5) == pytest.approx((0.5 / 20) ** 0.9)
    assert config.rate(1, 0, 1) == config.rate(1, 2, 5) == config.training.rate(1.5 / 4)

"""Start-up kits of the shipped project: what is laid into them, and what the check finds wrong."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_federation import LEAD, TEMPLATES, provision
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.workspace import Workspace
from tiny_job import with_limits, write_policy

from mucald.deploy.kit_checks import check_kit
from mucald.deploy.kits import CLASSES, Kit, merge, open_kit, set_up
from mucald.errors import ConfigError
from mucald.flare.launcher import RestartingLauncher
from mucald.methods.jobs import load_job
from mucald.privacy.policy import DEFAULT, read_policy

REPOSITORY = Path(__file__).parents[2]
SITES = load_job(REPOSITORY / "jobs/mucald")[1]


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(tmp_path_factory.mktemp("project"), SITES)


@pytest.fixture
def kits(provisioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fresh kits, on a machine whose python3 is the one of the tests."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("MUCALD_HOME", raising=False)
    return shutil.copytree(provisioned, tmp_path / "kits")


def make(kits: Path, name: str) -> Kit:
    kit = open_kit(kits / name)
    set_up(kit, TEMPLATES)
    return kit


def wrong(kit: Kit) -> list[str]:
    return [finding.text for finding in check_kit(kit) if finding.hinders]


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_shipped_project_has_a_server_and_the_sites_of_the_main_job(tmp_path):
    nvflare = Path(sys.executable).with_name("nvflare")
    command = [nvflare, "provision", "-p", TEMPLATES / "project.yml", "-w", tmp_path / "W"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    kits = [open_kit(folder) for folder in (tmp_path / "W/mucald/prod_00").iterdir()]
    assert sorted(kit.name for kit in kits if kit.kind == "site") == sorted(SITES)
    assert [kit.address for kit in kits if kit.kind == "server"] == [("localhost", 8002)]
    roles = {
        json.loads((kit.folder / "startup/fed_admin.json").read_text())["admin"]["username"]
        for kit in kits
        if kit.kind == "admin"
    }
    assert LEAD in roles


def test_every_kit_that_was_set_up_can_take_part(kits):
    for folder in kits.iterdir():
        assert wrong(make(kits, folder.name)) == []


def test_setting_up_twice_changes_nothing_the_second_time(kits):
    for name in ("localhost", "skin", LEAD):
        kit = open_kit(kits / name)
        assert bool(set_up(kit, TEMPLATES)) == (kit.kind != "admin")
        files = {path: path.read_bytes() for path in kit.folder.rglob("*") if path.is_file()}
        assert set_up(kit, TEMPLATES) == []
        assert {path: path.read_bytes() for path in kit.folder.rglob("*") if path.is_file()} == files


def test_what_people_edited_stays(kits):
    kit = make(kits, "skin")
    change(kit.folder / "local/authorization.json", note="ours")
    change(kit.folder / "local/resources.json", client={"retry_timeout": 77})
    set_up(kit, TEMPLATES)
    assert json.loads((kit.folder / "local/authorization.json").read_text())["note"] == "ours"
    assert kit.resources()["client"]["retry_timeout"] == 77


def test_a_site_keeps_its_log_its_files_and_its_code_to_itself(kits):
    kit = make(kits, "skin")
    assert kit.resources()["allow_log_streaming"] is False
    permissions = json.loads((kit.folder / "local/authorization.json").read_text())["permissions"]
    for role in ("project_admin", "org_admin", "lead"):
        assert permissions[role]["byoc"] == "none"
    assert {permissions[role]["shell_commands"] for role in ("project_admin", "lead")} == {"none"}
    assert {role for role in permissions if permissions[role].get("submit_job") == "any"} == {
        "project_admin",
        "lead",
    }
    assert kit.home.stat().st_mode & 0o077 == 0


def test_only_the_two_classes_that_jobs_name_are_allowed(kits):
    for name, allowed in (
        ("localhost", "mucald.flare.controller.FederationController"),
        ("skin", "mucald.flare.executor.MethodExecutor"),
    ):
        added = [p for p in make(kits, name).resources()["class_allow_list"] if p.startswith("mucald")]
        assert added == [allowed]


def test_jobs_are_stored_in_the_servers_kit(kits):
    kit = make(kits, "localhost")
    stores = [c["args"]["uri_root"] for c in kit.resources()["components"] if c["id"] == "job_manager"]
    assert stores == [str(kit.folder / "jobs")]
    assert "/tmp/nvflare" not in (kit.folder / "local/resources.json").read_text()


def test_a_site_with_images_gets_a_policy_once_and_one_with_phantoms_none(kits, tmp_path):
    kit = make(kits, "skin")
    assert not (kit.home / "policy.json").exists()
    (tmp_path / "skin.json").write_text('{"task": "ham10k", "datalist": "x"}')
    set_up(kit, TEMPLATES, tmp_path / "skin.json")
    assert read_policy(kit.home, "skin") == DEFAULT
    changed = with_limits(DEFAULT, latents={"max_releases": 3})
    write_policy(kit.home, changed)
    set_up(kit, TEMPLATES)
    assert read_policy(kit.home, "skin") == changed
    limits = changed.discloses["latents"] | {"max_relases": 3}
    change(kit.home / "policy.json", discloses=changed.discloses | {"latents": limits})
    assert any("policy.json" in text and "max_relases" in text for text in wrong(kit))


EARLIER = {
    "localhost": "mucald.flare.controller.SplitFedController",
    "skin": "mucald.flare.executor.SplitFedExecutor",
}


def of_earlier_version(kits: Path, name: str) -> Kit:
    """Return a kit as an earlier version of this package has set it up."""
    kit = make(kits, name)
    needed = CLASSES[kit.kind]
    allowed = [EARLIER[name] if n == needed else n for n in kit.resources()["class_allow_list"]]
    change(kit.folder / "local/resources.json", class_allow_list=allowed)
    if name == "skin":
        (kit.home / "site.json").write_text('{"task": "ham10k", "datalist": "x"}')
        content = {"require_noise": True, "max_snr": 0.05, "tensorboard_images": True, "recording": False}
        (kit.home / "policy.json").write_text(json.dumps(content))
    return kit


def test_paths_of_a_site_file_mean_in_the_kit_what_they_meant_where_it_lay(kits, tmp_path):
    kit = open_kit(kits / "skin")
    for content, key, meant in (
        ({"task": "ham10k", "root": ".", "layout": "isic"}, "root", tmp_path),
        ({"task": "ham10k", "root": "~/set", "layout": "isic"}, "root", Path("~/set").expanduser()),
        ({"task": "ham10k", "datalist": "lists/a.json"}, "datalist", tmp_path / "lists/a.json"),
        ({"task": "ham10k", "datalist": "/data/a.json"}, "datalist", Path("/data/a.json")),
    ):
        (tmp_path / "skin.json").write_text(json.dumps(content))
        set_up(kit, TEMPLATES, tmp_path / "skin.json")
        assert json.loads((kit.home / "site.json").read_text()) == content | {key: str(meant)}
        assert set_up(kit, TEMPLATES, tmp_path / "skin.json") == []


def test_the_check_names_a_space_in_a_kits_path(kits):
    spaced = kits.rename(kits.with_name("my kits"))
    (found,) = wrong(make(spaced, "skin"))
    assert found == f"{spaced / 'skin'}: FLARE's start.sh needs a path without spaces; move the kit"


@pytest.mark.parametrize("name", EARLIER)
def test_the_check_tells_what_is_of_an_earlier_version_and_setting_up_mends_it(kits, name):
    kit = of_earlier_version(kits, name)
    found = wrong(kit)
    resources, needed = kit.folder / "local/resources.json", CLASSES[kit.kind]
    assert any(
        f"{resources} is of an earlier version: class_allow_list names {EARLIER[name]}" in text
        and f"jobs name {needed}; run 'mucald setup {kit.folder}'" in text
        for text in found
    )
    set_up(kit, TEMPLATES)
    assert [n for n in kit.resources()["class_allow_list"] if n.startswith("mucald")] == [needed]
    left = wrong(kit)
    assert not any("class_allow_list" in text for text in left)
    # What people edited is theirs to mend.
    assert any("start from workspace_templates/site/policy.json" in text for text in left) is (name == "skin")


def bootstrap(kit: Kit) -> list[str]:
    """Return the errors that FLARE's process at a site logs at its start."""
    told: list[str] = []
    launcher, context = RestartingLauncher(restarts=3), FLContext()
    context.set_prop(FLContextKey.WORKSPACE_OBJECT, Workspace(str(kit.folder)), private=True)
    launcher.log_error = lambda _, text: told.append(text)
    launcher.handle_event(EventType.SYSTEM_BOOTSTRAP, context)
    return told


def test_a_site_says_at_its_start_what_is_of_an_earlier_version(kits):
    told = bootstrap(of_earlier_version(kits, "skin"))
    assert len(told) == 2
    assert f"names {EARLIER['skin']}, but jobs name {CLASSES['site']}" in told[0]
    assert "policy.json" in told[1]
    assert "has to be written anew" in told[1]


def test_a_site_that_can_take_part_says_nothing_at_its_start(kits):
    assert bootstrap(make(kits, "skin")) == []


def test_a_site_that_cannot_read_its_own_kit_says_so_at_its_start(kits):
    kit = make(kits, "skin")
    (kit.folder / "local/resources.json").write_text("{")
    (text,) = bootstrap(kit)
    assert "resources.json is not valid JSON" in text


def test_a_container_s_launcher_is_not_replaced():
    process, container = (
        {"id": "process_launcher", "path": "p", "args": {}},
        {"id": "docker_launcher", "path": "d"},
    )
    ours = {"components": [{"id": "process_launcher", "path": "q", "args": {"restarts": 3}}]}
    assert merge({"components": [process]}, ours) == ours
    assert merge({"components": [container]}, ours) == {"components": [container]}


def test_a_folder_that_is_no_kit_is_named(tmp_path):
    with pytest.raises(ConfigError, match="is no start-up kit"):
        open_kit(tmp_path)


def spoil_site_file(kit: Kit, content: str) -> None:
    (kit.home / "site.json").write_text(content)


SITE_FAULTS = {
    "no certificate": (lambda kit: (kit.folder / "startup/client.crt").unlink(), "client.crt is missing"),
    "no key": (lambda kit: (kit.folder / "startup/client.key").unlink(), "client.key is missing"),
    "damaged certificate": (
        lambda kit: (kit.folder / "startup/client.crt").write_text("x"),
        "does not belong to rootCA.pem",
    ),
    "default authorization": (
        lambda kit: (kit.folder / "local/authorization.json").unlink(),
        "a job may bring its own code",
    ),
    "default resources": (
        lambda kit: (kit.folder / "local/resources.json").unlink(),
        "class_allow_list lacks mucald.flare.executor.MethodExecutor",
    ),
    "streamed log": (
        lambda kit: change(kit.folder / "local/resources.json", allow_log_streaming=True),
        "goes to the server",
    ),
    "no images": (
        lambda kit: spoil_site_file(kit, '{"task": "ham10k", "root": "nowhere", "layout": "pairs"}'),
        "nowhere",
    ),
    "unknown task": (lambda kit: spoil_site_file(kit, '{"task": "hamster", "datalist": "x"}'), "hamster"),
    "server unknown": (
        lambda kit: change(
            kit.folder / "startup/fed_client.json",
            servers=[{"service": {"target": "nowhere.invalid:8002"}}],
        ),
        "'nowhere.invalid' is not known",
    ),
}


@pytest.mark.parametrize("fault", SITE_FAULTS)
def test_the_check_of_a_site_names(kits, fault):
    spoil, said = SITE_FAULTS[fault]
    kit = make(kits, "skin")
    spoil(kit)
    assert any(said in text for text in wrong(open_kit(kit.folder))), wrong(open_kit(kit.folder))


def test_the_check_of_a_server_names_a_port_in_use(kits):
    kit = make(kits, "localhost")
    with socket.create_server(("127.0.0.1", kit.address[1])):
        assert any(f"port {kit.address[1]} cannot be opened" in text for text in wrong(kit))
    (kit.folder / "pid.fl").write_text(str(os.getpid()))
    with socket.create_server(("127.0.0.1", kit.address[1])):
        assert wrong(kit) == [], "its own process may have it"


def test_the_check_of_a_server_names_a_store_that_a_reboot_deletes(kits):
    kit = make(kits, "localhost")
    (kit.folder / "local/resources.json").unlink()
    assert any("/tmp/nvflare/jobs-storage lies outside the kit" in text for text in wrong(kit))


def test_the_check_names_a_python_without_the_packages(kits, tmp_path, monkeypatch):
    python = tmp_path / "bin/python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    (text,) = [text for text in wrong(make(kits, "skin")) if "lacks" in text]
    assert "nvflare, mucald" in text


def test_the_tool_ends_with_status_1_if_a_kit_cannot_take_part(kits):
    command = [sys.executable, REPOSITORY / "tools/site_setup.py", kits / "skin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (kits / "skin/startup/client.key").unlink()
    done = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "WRONG" in done.stdout


@pytest.mark.parametrize(
    ("runtime", "start"), [("docker", "startup/start_docker.sh"), ("kubernetes", "helm_chart")]
)
def test_kits_for_containers_are_set_up_after_they_were_prepared(kits, tmp_path, runtime, start):
    for name in ("localhost", "skin"):
        config = TEMPLATES / f"containers/{runtime}.yml"
        command = [
            "nvflare",
            "deploy",
            "prepare",
            kits / name,
            "--config",
            config,
            "--output",
            tmp_path / name,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert (tmp_path / name / start).exists()
        kit = make(tmp_path, name)
        assert wrong(kit) == []
        assert set_up(kit, TEMPLATES) == []
        launchers = [c["path"] for c in kit.resources()["components"] if "launcher" in c["id"]]
        assert launchers
        assert not [path for path in launchers if path.startswith("mucald")]
    assert str(tmp_path) not in (tmp_path / "localhost/local/resources.json").read_text(), (
        "a path of the host"
    )

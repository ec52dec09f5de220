import json

import pytest

from mucald_studies.commands import attack


def run(heard, out, *options):
    """Run the command on a run whose homes lie beside its results."""
    return attack.main(
        [
            str(heard.run.folder / "results"),
            "--home",
            str(heard.run.folder / "home"),
            "--out",
            str(out),
            *options,
        ]
    )


LITTLE = ["--max-steps", "3", "--auxiliary", "12", "--batch", "4", "--width", "8"]


def test_table_file_and_sheet_are_written(noised, tmp_path, capsys):
    options = ["--attacks", "oracle", "decoder.front_end", "denoiser", "--sites", "north", *LITTLE]
    assert run(noised, tmp_path, *options) == 0
    content = json.loads((tmp_path / "attacks.json").read_text())
    assert [entry["attack"] for entry in content["attacks"]] == ["oracle", "decoder.front_end", "denoiser"]
    output = capsys.readouterr().out
    assert "latent_psnr" in output
    assert "mean image" in output
    assert (tmp_path / "pictures.png").stat().st_size > 1000


def test_an_attack_that_does_not_apply_is_left_out_with_its_reason(clean, tmp_path, capsys):
    assert run(clean, tmp_path, "--attacks", "denoiser", "oracle", "--sites", "north", *LITTLE) == 0
    assert "denoiser on north is left out: the server denoises nothing" in capsys.readouterr().err
    assert run(clean, tmp_path / "none", "--attacks", "denoiser", "--sites", "north", *LITTLE) == 1
    assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--attacks", "hijak"], "unknown attack 'hijak'; did you mean 'hijack'?"),
        (["--attacks", "oracle", "--sites", "nowhere"], "no site 'nowhere'"),
        (["--attacks", "oracle", "--max-steps", "0"], "at least 1"),
    ],
)
def test_bad_input_ends_with_a_reason(options, message, noised, tmp_path, capsys):
    assert run(noised, tmp_path, *options) == 1
    assert message in capsys.readouterr().err


def test_a_run_that_recorded_nothing_cannot_be_attacked(full, tmp_path, capsys):
    assert run(full, tmp_path, "--attacks", "oracle") == 1
    assert "set runtime.record to true" in capsys.readouterr().err


def test_a_recording_beside_the_results_of_another_run_is_refused(noised, tmp_path, capsys):
    import shutil

    shutil.copytree(noised.run.folder, tmp_path / "copy")
    results = tmp_path / "copy/results/server/results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"run_id": "another"}))
    assert attack.main([str(tmp_path / "copy"), "--attacks", "oracle", "--out", str(tmp_path)]) == 1
    assert "is of run another" in capsys.readouterr().err

"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from hf_posmine import MiningSummary
from hf_posmine.cli.main import main
from tests.conftest import SAMPLE


@pytest.fixture
def pairs_file(sample_pairs, tmp_path):
    path = tmp_path / "pairs.parquet"
    sample_pairs.select(range(40)).to_parquet(str(path))
    return path


def mine(*arguments: object) -> int:
    return main(["mine", *map(str, arguments), "--teacher", "embedded"])


def test_demo_writes_what_it_says(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 0
    said = capsys.readouterr().out
    mined = datasets.load_from_disk(str(tmp_path / "demo"))
    record = json.loads((tmp_path / "demo" / "provenance.json").read_text())
    assert len(mined) == 171 and record["summary"]["rows"] == 171
    assert record["settings"]["filters"] == ["PercPos(0.95)"]
    assert said.count("naive ✗") == 3
    naive, percpos = (int(line.split()[-3]) for line in said.splitlines() if line.endswith("of 68"))
    assert naive >= 60 and percpos <= naive / 2


def test_mine_keeps_rows_order_and_columns(pairs_file, tmp_path, sample_pairs):
    output = tmp_path / "mined"
    assert mine(pairs_file, "--output", output, "--filters", "PercPos(0.95)", "--positive-column", "positive") == 0
    mined = datasets.load_from_disk(str(output))
    for column in sample_pairs.column_names:
        assert mined[column][:] == sample_pairs[column][:40]
    assert json.loads((output / "provenance.json").read_text())["source"]["sha256"]


def test_ids_of_another_corpus_and_of_a_beir_folder_agree(pairs_file, tmp_path):
    options = ("--filters", "PercPos(0.95)", "--num-negatives", "2")
    mine(SAMPLE, "--output", tmp_path / "beir", *options)
    mine(pairs_file, "--output", tmp_path / "ids", "--positive-id-column", "positive_id", "--corpus", SAMPLE / "corpus.jsonl",
         "--corpus-id-column", "_id", *options)  # fmt: skip
    beir, ids = (datasets.load_from_disk(str(tmp_path / name)) for name in ("beir", "ids"))
    assert beir["negatives_ids"][:40] == ids["negatives_ids"][:]
    assert beir["positive"][:40] == ids["positive"][:]


@pytest.mark.parametrize("name", ["mined.parquet", "mined.jsonl"])
def test_files_come_with_their_provenance(pairs_file, tmp_path, name):
    assert mine(pairs_file, "--output", tmp_path / name, "--positive-column", "positive") == 0
    assert (tmp_path / f"{name}.provenance.json").is_file()
    kind = "parquet" if name.endswith("parquet") else "json"
    assert len(datasets.load_dataset(kind, data_files=str(tmp_path / name), split="train")) == 40


def test_a_run_killed_between_its_file_and_its_provenance_can_be_repeated(pairs_file, tmp_path, monkeypatch):
    output = tmp_path / "again.jsonl"
    options = (pairs_file, "--output", output, "--positive-column", "positive")
    replace, changes = Path.replace, []

    def killed(self, target):
        if str(target).endswith("again.jsonl.provenance.json"):
            staged = Path(self).read_text()
            changes.append((Path(f"{self}"), staged))
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    assert mine(*options) == 130
    assert output.is_file() and not Path(f"{output}.provenance.json").exists()
    staged, text = changes[0]
    staged.with_name(staged.name.replace(f"-{os.getpid()}-", "-4194305-")).write_text(
        text
    )  # as a killed process leaves it
    monkeypatch.setattr(Path, "replace", replace)
    assert mine(*options) == 0
    assert {f.name for f in tmp_path.glob("again*")} == {
        "again.jsonl", "again.jsonl.provenance.json", "again.jsonl.searches",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("format_", "columns", "rows"),
    [("triplet", 4, 80), ("n-tuple", 5, 40), ("labeled-pair", 3, 120), ("labeled-list", 3, 40)],
)
def test_training_formats(pairs_file, tmp_path, format_, columns, rows):
    options = ("--format", format_, "--num-negatives", "2", "--positive-column", "positive")
    assert mine(pairs_file, "--output", tmp_path / "out", *options) == 0
    written = datasets.load_from_disk(str(tmp_path / "out"))
    assert (len(written.column_names), len(written)) == (columns, rows)


def test_the_config_gives_defaults_and_the_command_line_wins(pairs_file, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"data: {pairs_file}\npositive_column: positive\nteacher: embedded\noutput: {tmp_path / 'out'}\n"
        'filters: ["SkipTop(1)", "PercPos(0.95)"]\nnum-negatives: 3\nexclude_other_positives: false\n'
    )
    assert main(["mine", "--config", str(config), "--num-negatives", "1"]) == 0
    settings = json.loads((tmp_path / "out" / "provenance.json").read_text())["settings"]
    assert (settings["filters"], settings["num_negatives"]) == (["SkipTop(1)", "PercPos(0.95)"], 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filtres: [Top]", "unknown key 'filtres'; did you mean 'filters'?"),
        ("- a\n- b", "must hold options"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_bad_config_is_one_line(tmp_path, capsys, text, said):
    config = tmp_path / "bad.yaml"
    config.write_text(text)
    assert main(["mine", "--config", str(config)]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and error.count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--filters", "PercPos(95)"], "did you mean 0.95"),
        (["--filters", "PercPoss(0.9)"], "did you mean PercPos"),
        (["--sampler", "SampledTopK(k=2)"], "cannot give 4 negatives"),
        (["--query-column", "nope"], "query column 'nope' is not in the dataset"),
        (["--corpus", "missing.parquet"], "missing.parquet"),
    ],
)
def test_a_bad_option_is_one_line_and_status_2(pairs_file, tmp_path, capsys, arguments, said):
    assert mine(pairs_file, "--output", tmp_path / "out", "--positive-column", "positive", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and said in error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_earlier_output_is_left_alone(pairs_file, tmp_path, capsys):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("ten years")
    assert mine(pairs_file, "--output", tmp_path / "precious") == 2
    assert "is not a mined dataset" in capsys.readouterr().err
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "ten years"


def test_fn_rate_on_the_sample(tmp_path, capsys):
    output = tmp_path / "rates.json"
    arguments = ["fn-rate", str(SAMPLE), "--visible", "train", "--qrels", "complete", "--teacher", "embedded"]
    assert main([*arguments, "--methods", "naive", "SkipTop(1) + PercPos(0.95)", "--output", str(output)]) == 0
    naive, both = json.loads(output.read_text())["rates"]
    assert naive["rate"] > 0.2 > both["rate"]
    assert naive["queries"] == 68 and "SkipTop(1) + PercPos(0.95)" in capsys.readouterr().out


def test_env_and_help_teach(capsys):
    assert main(["env"]) == 0
    assert "sentence-transformers" in capsys.readouterr().out
    for command in ("mine", "fn-rate", "demo", "env"):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert "example" in capsys.readouterr().out


def test_it_is_an_extension_of_the_hf_command(tmp_path):
    """``hf posmine`` finds an executable named hf-posmine by the manifest that ``hf extensions install`` writes."""
    from huggingface_hub.cli.extensions import ExtensionManifest

    folder = tmp_path / ".local" / "share" / "hf" / "extensions" / "hf-posmine"
    folder.mkdir(parents=True)
    fields = dict.fromkeys(ExtensionManifest.__dataclass_fields__, "")
    executable = str(Path(sys.executable).parent / "hf-posmine")
    fields |= {"owner": "me", "repo": "hf-posmine", "repo_id": "me/hf-posmine", "short_name": "posmine"}
    fields |= {"type": "python", "executable_name": "hf-posmine", "executable_path": executable}
    fields |= {"installed_at": "2026-01-01T00:00:00"}
    (folder / "manifest.json").write_text(json.dumps(fields))
    environment = os.environ | {"HOME": str(tmp_path), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    hf = str(Path(sys.executable).parent / "hf")
    done = subprocess.run([hf, "posmine", "--version"], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip().startswith("hf-posmine "), done.stderr


def test_the_summary_of_the_output_is_the_one_printed(pairs_file, tmp_path, capsys):
    mine(pairs_file, "--output", tmp_path / "out", "--positive-column", "positive", "--filters", "PercPos(0.95)")
    printed = capsys.readouterr().out
    assert str(MiningSummary.from_dataset(datasets.load_from_disk(str(tmp_path / "out")))) in printed


def test_an_input_is_never_the_output(pairs_file, tmp_path, capsys):
    before = pairs_file.read_bytes()
    assert mine(pairs_file, "--output", pairs_file, "--positive-column", "positive") == 2
    assert "is also an input" in capsys.readouterr().err
    (tmp_path / "other.parquet").write_bytes(b"precious")
    assert mine(pairs_file, "--output", tmp_path / "other.parquet", "--positive-column", "positive") == 2
    assert (pairs_file.read_bytes(), (tmp_path / "other.parquet").read_bytes()) == (before, b"precious")


def test_a_config_that_ends_in_a_list_does_not_swallow_the_data(pairs_file, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(f'output: {tmp_path / "out"}\npositive-column: positive\nfilters: ["PercPos(0.95)"]\n')
    assert main(["mine", str(pairs_file), "--config", str(config), "--teacher", "embedded"]) == 0
    assert main(["mine", "--config", str(config), str(pairs_file), "--teacher", "embedded"]) == 0

"""``hf-posmine report`` as a user meets it."""

from __future__ import annotations

import datasets
import pytest

from hf_posmine.cli.main import main
from tests.conftest import SAMPLE
from tests.report.made import at_random, by_hand, rows_of


@pytest.fixture(autouse=True, scope="module")
def _bars_again():
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def saved(tmp_path):
    by_hand().save_to_disk(str(tmp_path / "mined"))
    return tmp_path / "mined"


def test_the_page_is_written_and_said(saved, tmp_path, capsys):
    output = tmp_path / "pages" / "report.html"
    assert main(["report", str(saved), "--output", str(output), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "5 rows, of which the table holds 5" in said and "near duplicates of the positive: 2" in said
    assert str(output) in said and len(rows_of(output.read_text("utf8"))) == 5


@pytest.mark.parametrize("form", ["none", "triplet"])
def test_the_page_of_an_audit_has_the_record_of_mined_rows_and_reads_training_rows_beside_one(tmp_path, capsys, form):
    rows, page = tmp_path / ("mined" if form == "none" else "rows.parquet"), tmp_path / "audit.html"
    made = [] if form == "none" else ["--format", form]
    assert main(["mine", str(SAMPLE), "--teacher", "random", *made, "--output", str(rows), "--quiet"]) == 0
    assert main(["audit", str(rows), "--report", str(page), "--quiet"]) == 0
    capsys.readouterr()
    assert ("There is no record" in page.read_text("utf8")) == (form == "triplet")


def test_two_minings_are_compared(tmp_path, capsys):
    for name, filters in (("naive", ["--filters", "none"]), ("below", ["--filters", "PercPos(0.95)"])):
        assert (
            main(["mine", str(SAMPLE), "--teacher", "embedded", *filters, "--output", str(tmp_path / name), "--quiet"])
            == 0
        )
    output = tmp_path / "report.html"
    command = [
        "report",
        str(tmp_path / "below"),
        "--against",
        str(tmp_path / "naive"),
        "--output",
        str(output),
        "--quiet",
    ]
    assert main(command) == 0
    naive, below = (datasets.load_from_disk(str(tmp_path / name))["negatives"][:] for name in ("naive", "below"))
    changed = sum(set(a) != set(b) for a, b in zip(naive, below, strict=True))
    assert changed > 0 and f"other negatives than naive: {changed}" in capsys.readouterr().out


def test_other_data_and_other_outputs_are_refused(saved, tmp_path, capsys):
    at_random(20, 60).save_to_disk(str(tmp_path / "other"))
    assert main(["report", str(saved), "--against", str(tmp_path / "other"), "--quiet"]) == 2
    assert "have 0 rows of the same query and positive in common" in capsys.readouterr().err
    assert main(["report", str(saved), "--output", str(tmp_path / "report.pdf"), "--quiet"]) == 2
    assert "write a .html file" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--rows", "0"), ("--characters", "-1"), ("--megabytes", "0")])
def test_limits_out_of_range_are_refused(saved, option, value, capsys):
    assert main(["report", str(saved), option, value, "--quiet"]) == 2
    assert value in capsys.readouterr().err


def test_columns_can_be_named(saved, tmp_path):
    output = tmp_path / "report.html"
    options = ["--query-column", "positive", "--positive-column", "query", "--answer-column", "answers"]
    assert main(["report", str(saved), *options, "--output", str(output), "--quiet"]) == 0
    assert rows_of(output.read_text("utf8"))[0]["query"] == "Paris is the capital of France."

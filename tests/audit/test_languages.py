"""Negatives in another language: found where both languages are sure, and never asked for in vain."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq
import pytest

from hf_posmine.audit import AuditSettings, audit_data
from hf_posmine.cli.main import main
from hf_posmine.core.errors import MissingExtraError
from hf_posmine.data import open_training_data
from tests.audit.planted import write_jsonl
from tests.conftest import real_data

ENGLISH = "Honey keeps for thousands of years if the jar is closed, because it holds hardly any water and is sour."
GERMAN = "Honig hält sich Jahrtausende, wenn das Glas geschlossen ist, weil er kaum Wasser enthält und sauer ist."
FRENCH = "Le miel se conserve des milliers d'années si le pot est fermé, parce qu'il contient très peu d'eau."
SETTINGS = AuditSettings(languages=True, examples=10**6)


def rows_found(rows, folder, settings=SETTINGS) -> set[tuple[int, int]]:
    result = audit_data(open_training_data(write_jsonl(folder / "rows.jsonl", rows)), settings)
    return (
        {(e.row, e.index) for e in result.findings["other_language"].examples}
        if "other_language" in result.findings
        else set()
    )


def test_negatives_in_another_language_are_found(tmp_path):
    pytest.importorskip("py3langid", reason="py3langid is not installed (extra 'language')")
    rows = [
        {"query": "how long does honey keep", "pos": [ENGLISH], "neg": [GERMAN, ENGLISH.upper(), "Sel et miel"]},
        {"query": "honey", "pos": [GERMAN, FRENCH], "neg": [FRENCH[:90], GERMAN[:60], ENGLISH]},
        {"query": "no positive is sure", "pos": ["12 345"], "neg": [GERMAN, FRENCH, ENGLISH]},
        {"query": "none", "pos": [], "neg": [GERMAN, FRENCH, ENGLISH]},
    ]
    assert rows_found(rows, tmp_path) == {(0, 0), (1, 2)}
    assert not rows_found(rows, tmp_path, AuditSettings())


def test_negatives_are_counted_by_the_language_of_the_first_positive_and_their_own(tmp_path, capsys):
    pytest.importorskip("py3langid", reason="py3langid is not installed (extra 'language')")
    rows = [
        {
            "query": "how long does honey keep",
            "pos": [ENGLISH],
            "neg": [GERMAN, ENGLISH + " Yes.", FRENCH, GERMAN + " Ja."],
        },
        {"query": "honey", "pos": [GERMAN, FRENCH], "neg": [ENGLISH, "Salz"]},
        {"query": "no positive is sure", "pos": ["12 345"], "neg": [FRENCH]},
    ]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    expected = {"de": {"en": 1, "und": 1}, "en": {"de": 2, "en": 1, "fr": 1}, "und": {"fr": 1}}
    assert audit_data(open_training_data(file), SETTINGS).languages == expected
    assert audit_data(open_training_data(file), AuditSettings()).languages == {}
    main(["audit", str(file), "--languages"])
    assert "languages of the negatives of positives in en: de 50.0%, en 25.0%, fr 25.0%" in capsys.readouterr().out


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    file = write_jsonl(tmp_path / "rows.jsonl", [{"query": "q", "pos": [ENGLISH], "neg": [GERMAN]}])
    with pytest.raises(MissingExtraError, match=r"hf-posmine\[language\]"):
        audit_data(open_training_data(file), SETTINGS)
    assert main(["audit", str(file), "--languages"]) == 2
    assert "the check of languages needs the extra 'language'" in capsys.readouterr().err


@pytest.mark.real_data
def test_passages_of_two_languages(tmp_path):
    """XQuAD: every tenth German row has a Spanish negative; the others are German."""
    pytest.importorskip("py3langid", reason="py3langid is not installed (extra 'language')")
    texts = {
        code: pq.read_table(real_data("xquad") / code / "corpus.parquet").column("text").to_pylist()
        for code in ("de", "es")
    }
    german = texts["de"]
    rows = [
        {"query": f"Frage {n}", "pos": [text], "neg": [german[n - 1], german[n - 2]]} for n, text in enumerate(german)
    ]
    planted = {(n, 1) for n in range(0, len(rows), 10)}
    for n, _ in planted:
        rows[n]["neg"][1] = texts["es"][n]
    found = rows_found(rows, tmp_path)
    assert len(found & planted) >= 0.95 * len(planted)
    assert len(found - planted) <= 0.01 * len(rows)

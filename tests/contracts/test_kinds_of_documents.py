"""What report and audit promise about rows, whatever their documents are. A new kind is one line in ``KINDS``."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, disable_progress_bars, load_from_disk
from datasets import Image as ImageFeature

from hf_posmine.audit import audit_data
from hf_posmine.data import open_training_data
from hf_posmine.data.images import image_name
from hf_posmine.report import MinedRows, make_report
from hf_posmine.report.comparison import compare
from hf_posmine.report.reading import read_texts
from hf_posmine.report.side import read_side
from tests.support.pages import encoded, page

disable_progress_bars()
ROWS, REPEATED = 12, [n if n != 9 else 8 for n in range(12)]
QUERIES, POSITIVES = np.array(REPEATED), np.arange(12) + 20
"""Numbers of queries and documents: rows 8 and 9 ask the same, with another positive each."""
NEGATIVES = np.array([[20 + (n + 2) % 12, 40 + n, 60 + n] for n in range(12)])
NEGATIVES[3, 1] = POSITIVES[3]
NEGATIVES[5, 2] = NEGATIVES[5, 0]
NEGATIVES[8, 0] = POSITIVES[9]


def text(number: int) -> str:
    """Texts that share few words."""
    return f"{'abcdefghijklm'[number % 13] * 3} {number * 7919} word{number} of{number} it{number}"


def in_files(numbers, form) -> list:
    """Images, the same picture in files of one form or the other."""
    return [{"bytes": encoded(page(text(n)), "PNG" if (n + form) % 2 else "BMP"), "path": None} for n in numbers]


def column(kind, numbers, form):
    return [text(n) for n in numbers] if kind == "text" else in_files(numbers, form)


KINDS = {
    "texts": ("text", "text", "negatives"),
    "images": ("text", "image", "negatives"),
    "images by id": ("text", "image", "negatives_ids"),
    "images for images": ("image", "image", "negatives"),
    "images for images, by id": ("image", "image", "negatives_ids"),
    "texts for images": ("image", "text", "negatives"),
}
"""Of queries, of documents, and where the negatives are."""


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def rows_of(kind, form=0) -> Dataset:
    """The rows, with positives in files of one form and negatives in the other."""
    asked, found, where = kind
    types = {"text": Value("string"), "image": ImageFeature()}
    if where == "negatives":
        negatives, type_ = [column(found, row, form + 1) for row in NEGATIVES.tolist()], List(types[found])
    else:
        negatives = [[image_name(page(text(n))) for n in row] for row in NEGATIVES.tolist()]
        type_ = List(Value("string"))
    columns = {"query": column(asked, QUERIES.tolist(), form), "positive": column(found, POSITIVES.tolist(), form)}
    features = Features({"query": types[asked], "positive": types[found], where: type_})
    return Dataset.from_dict({**columns, where: negatives}, features=features)


def test_a_report_counts_the_same(kind):
    read = read_texts(MinedRows.of(rows_of(kind)))
    known = set(zip(QUERIES.tolist(), POSITIVES.tolist(), strict=True))
    labelled = [(q, n) in known for q, row in zip(QUERIES.tolist(), NEGATIVES.tolist(), strict=True) for n in row]
    assert sum(labelled) == 2 and read.labelled().tolist() == labelled
    assert read.repeated() == 1
    assert read.counts.tolist() == [3] * ROWS and read.positive_counts.tolist() == [1] * ROWS


def test_a_report_compares_by_what_documents_are_and_not_by_their_files(kind):
    rows, others = rows_of(kind), rows_of(kind, form=1).select(list(range(ROWS))[::-1])
    found = compare(read_side(MinedRows.of(rows)), read_side(MinedRows.of(others)))
    assert found.matched == ROWS and (found.jaccard == 1).all()
    assert found.partners.tolist() == list(range(ROWS))[::-1]
    html = make_report(MinedRows.of(rows), against=MinedRows.of(others, name="again")).html
    assert ("data:image/jpeg" in html) == ("image" in kind)


def test_an_audit_finds_and_mends_the_same(kind, tmp_path):
    rows_of(kind).save_to_disk(str(tmp_path / "rows"))
    result = audit_data(open_training_data(tmp_path / "rows"), repair=tmp_path / "mended")
    found = {name: [(one.row, one.index) for one in held.examples] for name, held in result.findings.items()}
    assert found == {"same_text": [(3, 1)], "duplicate_negative": [(5, 2)], "labelled_elsewhere": [(8, 0)]}
    mended = load_from_disk(str(tmp_path / "mended"))
    counts = [3 - (n in (3, 5, 8)) for n in range(ROWS)]
    assert [len(row) for row in mended[kind[2]]] == counts and mended.features == rows_of(kind).features
    again = audit_data(open_training_data(tmp_path / "mended"))
    assert {name: one.rows for name, one in again.findings.items()} == {"few_negatives": 3}

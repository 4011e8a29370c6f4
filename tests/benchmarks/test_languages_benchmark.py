"""Hidden positives across languages are counted as plain loops count them, and every pair has its place on the page."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks import languages
from hf_posmine import Corpus
from hf_posmine.teachers import BM25Teacher
from tests.conftest import real_data


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A few questions of each language and 60 paragraphs; one question is asked about two paragraphs."""
    data = languages.Parallel.load(real_data("xquad/zh").parent, questions=12)
    asked = {row["parallel_id"] for rows in data.questions.values() for row in rows}
    others = [document["parallel_id"] for document in data.documents if document["parallel_id"] not in asked]
    few = asked | set(others[: 60 - len(asked)])
    data.documents[:] = [document for document in data.documents if document["parallel_id"] in few]
    for rows in data.questions.values():
        rows[1] = rows[0] | {"parallel_id": rows[1]["parallel_id"]}
    folder = tmp_path_factory.mktemp("tokenizer")
    corpus = Corpus.from_dataset(data.documents, keep=["lang"])
    tokenizer = languages.tokenizer_of([document["text"] for document in data.documents], folder)
    return data, corpus, BM25Teacher(corpus, tokenizer=tokenizer)


@pytest.mark.parametrize("method", languages.METHODS)
def test_hidden_positives_are_those_of_plain_loops(fresh_home, setting, method):
    data, corpus, teacher = setting
    ids, lang, passage = (
        np.array([document[name] for document in data.documents]) for name in ("id", "lang", "parallel_id")
    )
    total = {"translation": 0, "elsewhere": 0}
    for own, of in itertools.product(languages.LANGUAGES, repeat=2):
        found = languages.cell(data, corpus, teacher, (own, of), languages.METHODS[method])
        rows = data.questions[own]
        scores = teacher.score([row["query"] for row in rows], np.tile(corpus.rows_of_ids(ids), (len(rows), 1)))
        counts = {kind: dict.fromkeys(languages.LANGUAGES, 0) for kind in ("all", "translation", "elsewhere")}
        for row, values in zip(rows, scores, strict=True):
            same = {other["parallel_id"] for other in rows if other["query"] == row["query"]}
            known = np.isin(ids, [f"{of}-{name}" for name in same])  # the query's labelled positives are left out
            ceiling = np.inf if method == "Naive Top-K" else np.float32(0.95) * values[known].min()
            order = [at for at in np.argsort(-values, kind="stable") if values[at] < ceiling and not known[at]]
            for at in order[: languages.NEGATIVES]:
                counts["all"][lang[at]] += 1
                counts["translation"][lang[at]] += passage[at] == row["parallel_id"]
                counts["elsewhere"][lang[at]] += passage[at] != row["parallel_id"] and passage[at] in same
        assert found["by_language"] == {
            name: {kind: counts[kind][name] for kind in counts} for name in languages.LANGUAGES
        }
        hidden = [sum(counts[kind].values()) for kind in ("translation", "elsewhere", "all")]
        assert found["hidden"] == pytest.approx((hidden[0] + hidden[1]) / hidden[2]) and found["rows"] == len(rows)
        assert found["interval"][0] <= found["hidden"] <= found["interval"][1]
        total["translation"], total["elsewhere"] = total["translation"] + hidden[0], total["elsewhere"] + hidden[1]
    assert total["translation"] > 20 or method != "Naive Top-K"
    assert total["translation"] > 0


def test_the_interval_draws_groups_and_the_page_has_every_pair(fresh_home, setting):
    data, corpus, teacher = setting
    part, whole, groups = np.array([4, 4, 0, 0]), np.full(4, 4), np.array([0, 0, 1, 1])
    low, high = languages.interval(part, whole, groups)
    assert (low, high) == (0, 1)  # of two groups, one of each kind
    assert languages.interval(whole, whole, groups) == [1, 1]
    cells = [languages.cell(data, corpus, teacher, pair, ()) for pair in itertools.product(data.questions, repeat=2)]
    first = languages.accuracy(data, corpus, teacher)
    assert first["zh zh"] > 0.8 > first["zh de"]
    box = {"cpu": "x", "cores": 1, "git_commit": "c", "source_digest": "s", "time": "t"}
    found = {"machine": box, "languages": list(data.questions), "documents": 720, "questions": 12, "seconds": 1.0, "reading": "So.",
             "teachers": {"BM25": {"cells": {"Naive Top-K": cells}, "first": first}}}  # fmt: skip
    page = languages.page(found)
    assert page.endswith("So.\n") and all(f"{100 * one['hidden']:.1f} % (" in page for one in cells)

"""Layouts and files as they come: which columns are taken of each, or the one line of the error."""

from __future__ import annotations

import pytest
from datasets import Dataset, Features, List, Value

from hf_posmine.core.errors import ColumnError
from hf_posmine.data.layouts import CorpusColumns, corpus_columns, judgement_columns, pick_columns, query_columns

ROWS = 24
PASSAGES = [{"docid": "p1", "title": "Rivers", "text": "The Elbe is long."}]


def texts(what: str) -> list[str]:
    """Different sentences."""
    return [f"{what} number {row} is about the rivers of region {row}" for row in range(ROWS)]


def codes(letter: str = "d") -> list[str]:
    return [f"{letter}{row:03d}" for row in range(ROWS)]


def text_table(*names: str, **more: object) -> Dataset:
    """A dataset of columns of sentences, and of other columns: a list of values, or one value for all rows."""
    values = {name: value if isinstance(value, list) else [value] * ROWS for name, value in more.items()}
    return Dataset.from_dict({name: values.pop(name, texts(name)) for name in names} | values)


PAIRS = {
    "sentence-transformers, pairs": (text_table("anchor", "positive"), ("anchor", "positive", None)),
    "sentence-transformers, triplets": (text_table("anchor", "positive", "negative"), ("anchor", "positive", None)),
    "sentence-transformers, n-tuples": (
        text_table("query", "positive", "negative_1", "negative_2"),
        ("query", "positive", None),
    ),
    "natural-questions": (text_table("query", "answer"), ("query", "answer", None)),
    "gooaq": (text_table("question", "answer"), ("question", "answer", None)),
    "STS": (text_table("sentence1", "sentence2", score=0.5), ("sentence1", "sentence2", None)),
    "NLI": (text_table("premise", "hypothesis", label=1), ("premise", "hypothesis", None)),
    "titles and bodies": (text_table("title", "body"), ("title", "body", None)),
    "titles and abstracts": (text_table("title", "abstract"), ("title", "abstract", None)),
    "captions": (text_table("caption1", "caption2"), ("caption1", "caption2", None)),
    "simplification": (text_table("text", "simplified"), ("text", "simplified", None)),
    "code search": (text_table("comment", "code"), ("comment", "code", None)),
    "FlagEmbedding": (
        text_table("query", pos=[["a", "b"]] * ROWS, neg=[["c"]] * ROWS),
        ("query", "pos", None),
    ),
    "FlagEmbedding, with scores and a type": (
        text_table("query", pos=[["a"]] * ROWS, neg=[["c"]] * ROWS, pos_scores=[[1.0]] * ROWS, type="normal"),
        ("query", "pos", None),
    ),
    "tevatron": (
        text_table("query", query_id=codes("q"), positive_passages=[PASSAGES] * ROWS, negative_passages=[PASSAGES] * ROWS),
        ("query", "positive_passages", None),
    ),
    "NeMo": (text_table("query", "pos_doc", neg_doc=[["c"]] * ROWS), ("query", "pos_doc", None)),
    "NeMo Retriever": (
        text_table("question", question_id=codes("q"), corpus_id="wiki", pos_doc=[[{"id": "d7"}]] * ROWS),
        ("question", None, "pos_doc"),
    ),
    "SQuAD": (
        text_table("id", "title", "context", "question", id=codes(), answers=[{"text": ["a"], "answer_start": [1]}] * ROWS),
        ("question", "context", None),
    ),
    "SQuAD without answers": (
        text_table("id", "title", "context", "question", id=codes()),
        ("question", "context", None),
    ),
    "Alpaca": (text_table("instruction", "output", input=""), ("instruction", "output", None)),
    "Dolly": (
        text_table("instruction", "context", "response", category="open_qa"),
        ("instruction", "response", None),
    ),
    "prompts and completions": (text_table("prompt", "completion"), ("prompt", "completion", None)),
    "MS MARCO triples": (text_table("query", "positive", "negative"), ("query", "positive", None)),
    "MS MARCO triples with ids": (
        text_table("query", "positive", "negative", query_id=codes("q"), positive_id=codes(), negative_id=codes("n")),
        ("query", "positive", None),
    ),
    "a source before the passage": (text_table("query", "source", "passage", source="wiki"), ("query", "passage", None)),
    "a domain of few values": (
        text_table("topic_name", "left", "right", topic_name=["art", "law"] * (ROWS // 2)),
        ("left", "right", None),
    ),
    "a label before texts": (text_table("text1", "text2", label=codes("c")), ("text1", "text2", None)),
    "a label of few words first": (
        Dataset.from_dict({"label": ["yes", "no"] * (ROWS // 2), "text1": texts("a"), "text2": texts("b")}),
        ("text1", "text2", None),
    ),
    "ids before texts": (
        Dataset.from_dict({"uid": codes("u"), "frage": texts("f"), "antwort": texts("a")}),
        ("frage", "antwort", None),
    ),
    "a constant between": (
        Dataset.from_dict({"frage": texts("f"), "quelle": ["Handbuch"] * ROWS, "antwort": texts("a")}),
        ("frage", "antwort", None),
    ),
    "capitals": (Dataset.from_dict({"Question": texts("q"), "Answer": texts("a")}), ("Question", "Answer", None)),
    "ids of positives": (text_table("query", positive_id=codes()), ("query", None, "positive_id")),
    "lists of ids of positives": (text_table("query", positive_ids=[["a", "b"]] * ROWS), ("query", None, "positive_ids")),
    "numbers as ids": (text_table("query", doc_id=list(range(ROWS))), ("query", None, "doc_id")),
    "BEIR's name for a document": (text_table("query", **{"corpus-id": codes()}), ("query", None, "corpus-id")),
    "ids before answers": (
        text_table("query", "title", positive_id=codes(), answers=[["1969"]] * ROWS),
        ("query", None, "positive_id"),
    ),
    "an answer before an id": (text_table("query", "answer", doc_id=codes()), ("query", "answer", None)),
    "large strings": (
        Dataset.from_dict(
            {"query": texts("q"), "passage": texts("p")},
            features=Features({"query": Value("large_string"), "passage": Value("large_string")}),
        ),
        ("query", "passage", None),
    ),
    "a list of answers": (
        Dataset.from_dict(
            {"question": texts("q"), "answers": [["a", "b"]] * ROWS},
            features=Features({"question": Value("string"), "answers": List(Value("string"))}),
        ),
        ("question", "answers", None),
    ),
}  # fmt: skip

PAIR_ERRORS = {
    "two queries": (text_table("query", "question", "answer"), r"could be the query: \['query', 'question'\]"),
    "two positives": (
        text_table("query", "positive", "positives"),
        r"could be the positive: \['positive', 'positives'\]",
    ),
    "an answer and a context": (
        text_table("question", "answer", "context"),
        r"could be the positive: \['answer', 'context'\]; name one with positive_column",
    ),
    "three texts": (text_table("a", "b", "c"), r"could be the query: \['a', 'b', 'c'\]; name them with query_column"),
    "a corpus": (text_table("_id", "title", "text", _id=codes()), "those of a corpus, .* pass it as corpus="),
    "a corpus by docid": (text_table("docid", "contents", docid=codes()), "those of a corpus"),
    "judgements": (
        Dataset.from_dict({"query-id": codes("q"), "corpus-id": codes(), "score": [1] * ROWS}),
        "are judgements, without texts",
    ),
    "ids of triples": (
        Dataset.from_dict({"qid": codes("q"), "pos_id": codes(), "neg_id": codes("n")}),
        r"no query column found among \['qid', 'pos_id', 'neg_id'\]",
    ),
    "one text": (text_table("text", label=1), r"no positive column found among \['text', 'label'\]"),
    "a header of semicolons": (text_table("frage;antwort"), r"is the file separated by ';'\? \.csv is read by commas"),
    "a header of tabs": (text_table("frage\tantwort"), r"is the file separated by '\\t'\?"),
    "only ids beside the query": (text_table("query", query_id=codes("q")), "no positive column found"),
    "a constant positive": (
        Dataset.from_dict({"frage": texts("f"), "antwort": ["ja"] * ROWS}),
        "no positive column found",
    ),
}


@pytest.mark.parametrize(("dataset", "columns"), PAIRS.values(), ids=PAIRS)
def test_columns_of_pairs(dataset, columns):
    assert pick_columns(dataset, None, None, None) == columns
    assert pick_columns(dataset.to_iterable_dataset(), None, None, None) == columns


@pytest.mark.parametrize(("dataset", "error"), PAIR_ERRORS.values(), ids=PAIR_ERRORS)
def test_columns_that_nobody_can_know_are_one_line(dataset, error):
    with pytest.raises(ColumnError, match=error) as caught:
        pick_columns(dataset, None, None, None)
    assert "\n" not in str(caught.value)


CORPORA = {
    "BEIR": (text_table("_id", "title", "text", _id=codes()), ("text", "_id", "title")),
    "MS MARCO": (text_table("pid", "passage", pid=codes()), ("passage", "pid", None)),
    "Anserini": (text_table("id", "contents", id=codes()), ("contents", "id", None)),
    "tevatron": (text_table("docid", "title", "text", docid=codes()), ("text", "docid", "title")),
    "TREC": (text_table("docno", "body", docno=codes()), ("body", "docno", None)),
    "numbers as ids": (text_table("text", doc_id=list(range(ROWS))), ("text", "doc_id", None)),
    "BEIR's other name": (text_table("content", **{"corpus-id": codes()}), ("content", "corpus-id", None)),
    "camels": (Dataset.from_dict({"docId": codes(), "Text": texts("t")}), ("Text", "docId", None)),
    "a url and a language beside it": (
        text_table("url", "text", "lang", url=codes("http://a/"), lang="de"),
        ("text", None, None),
    ),
    "no name that is known": (
        Dataset.from_dict({"absatz": texts("a"), "seite": list(range(ROWS))}),
        ("absatz", None, None),
    ),
    "titles under another name": (text_table("id", "heading", "body", id=codes()), ("body", "id", "heading")),
    "text before others": (text_table("id", "text", "abstract", id=codes()), ("text", "id", None)),
    "lists of passages": (Dataset.from_dict({"passages": [["a", "b"], ["c"]]}), ("passages", None, None)),
}


@pytest.mark.parametrize(("dataset", "columns"), CORPORA.values(), ids=CORPORA)
def test_columns_of_a_corpus(dataset, columns):
    assert corpus_columns(dataset) == CorpusColumns(*columns)


def test_who_names_the_text_gets_that_column_and_the_ids():
    beir = CORPORA["BEIR"][0]
    assert corpus_columns(beir, "text") == CorpusColumns("text", "_id", None)
    assert corpus_columns(beir, "text", title="title") == CorpusColumns("text", "_id", "title")
    assert corpus_columns(beir, id="", title="") == CorpusColumns("text", None, None)
    assert str(corpus_columns(beir)) == "by _id (title + text)"


@pytest.mark.parametrize(
    ("dataset", "error"),
    [
        (text_table("id", "abstract", "body", id=codes()), r"could be the text of the corpus: \['body', 'abstract'\]"),
        (text_table("eins", "zwei"), r"could be the text of the corpus: \['eins', 'zwei'\]"),
        (Dataset.from_dict({"id": codes(), "score": [1.0] * ROWS}), "no column with the texts of a corpus"),
    ],
)
def test_a_corpus_with_several_texts_or_none_is_one_line(dataset, error):
    with pytest.raises(ColumnError, match=error):
        corpus_columns(dataset)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("query-id", "corpus-id", "score"), ("query-id", "corpus-id", "score")),
        (("query_id", "doc_id", "score"), ("query_id", "doc_id", "score")),
        (("qid", "pid", "relevance"), ("qid", "pid", "relevance")),
        (("qid", "Q0", "docno", "label"), ("qid", "docno", "label")),
        (("question_id", "positive_id"), ("question_id", "positive_id", None)),
        (("topic", "iter", "docid", "rel"), ("topic", "docid", "rel")),
    ],
)
def test_columns_of_judgements(names, columns):
    assert judgement_columns(names) == columns


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("_id", "text", "metadata"), ("_id", "text")),
        (("qid", "query"), ("qid", "query")),
        (("id", "question"), ("id", "question")),
        (("query_id", "query"), ("query_id", "query")),
        (("topic_id", "title", "description"), ("topic_id", "title")),
    ],
)
def test_columns_of_queries(names, columns):
    assert query_columns(names) == columns


def test_a_table_without_ids_of_queries_names_what_is_there():
    with pytest.raises(ColumnError, match=r"no column of query ids among \['text'\]; name it one of"):
        query_columns(["text"])

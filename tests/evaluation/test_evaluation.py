"""Retrieval measures against three others: sentence-transformers' evaluator, pytrec_eval, and loops in float64."""

from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.core.errors import ColumnError, InputError, MissingExtraError
from hf_posmine.evaluation import loading as collection_module
from hf_posmine.evaluation.collection import Collection
from hf_posmine.evaluation.encoding import encode_texts
from hf_posmine.evaluation.loading import folder_collection, hub_collection, load_collection
from hf_posmine.evaluation.measures import MEASURES, Run, parse_measure, score_run
from hf_posmine.evaluation.mteb_tasks import mteb_collection
from hf_posmine.evaluation.results import RetrievalResult, aligned_scores
from hf_posmine.evaluation.retrieval import RetrievalSettings, evaluate_retrieval
from tests.conftest import SAMPLE, ToyModel, real_data

UNSAID = set(
    "reference date domains task_subtypes license annotations_creators dialect sample_creation bibtex_citation".split()
)
"""What an MTEB task may leave open."""
IDS = st.sampled_from(["1", "10", "2", "a", "A", "é", "b-7", "z"])


def small(
    documents: dict[str, str], queries: dict[str, str], judgements: list[tuple], name: str = "small"
) -> Collection:
    rows = Dataset.from_dict({"id": list(documents), "text": list(documents.values())})
    return Collection.of(name, rows, queries, judgements)


def oracle(ranked: list[str], grades: dict[str, int], measure: str) -> float:
    """One query by hand: linear gains, log2 discount, ideal ranking over all judgements."""
    family, k = measure.split("@")
    k = int(k)
    gains = [max(0, grades.get(document, 0)) for document in ranked]
    if family == "recall":
        return sum(gain > 0 for gain in gains[:k]) / sum(grade > 0 for grade in grades.values())
    if family == "mrr":
        return next((1 / rank for rank, gain in enumerate(gains[:k], 1) if gain > 0), 0.0)
    ideal = sorted(grades.values(), reverse=True)[:k]
    dcg, best = (sum(g / math.log2(rank + 1) for rank, g in enumerate(found, 1)) for found in (gains[:k], ideal))
    return dcg / best


@pytest.fixture(scope="module")
def sample():
    return folder_collection(SAMPLE, "complete")


@pytest.fixture(scope="module")
def few(sample):
    """Thirty queries of the sample, their documents, and half as many others: little to encode."""
    queries = dict(list(sample.queries.items())[:30])
    judged = [(query, *pair) for query in queries for pair in sample.qrels[query].items()]
    rows = np.unique([*sample.corpus.rows_of_ids([document for _, document, _ in judged]), *range(20)])
    documents = texts_of(sample, rows)
    return small(documents, queries, judged, "few")


@pytest.fixture(scope="module")
def few_result(embedded_model, few):
    return evaluate_retrieval(embedded_model, few)


def texts_of(collection: Collection, rows: np.ndarray | None = None) -> dict[str, str]:
    rows = np.arange(len(collection.corpus)) if rows is None else rows
    return dict(zip(collection.corpus.ids(rows).to_pylist(), collection.corpus.texts(rows).to_pylist(), strict=True))


@given(
    run=st.dictionaries(IDS, st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=8),
    grades=st.dictionaries(IDS, st.integers(0, 3), min_size=1, max_size=8).filter(lambda g: any(g.values())),
)
def test_measures_equal_the_loops_with_grades_and_ties(run, grades):
    """Ties go to the greater id, as in trec_eval; documents not retrieved still count in the ideal and in recall."""
    ranked = [document for _, document in sorted(((score, document) for document, score in run.items()), reverse=True)]
    kept = Run(("q",), (tuple(ranked),), (tuple(run[document] for document in ranked),))
    measures = ("ndcg@10", "recall@100", "mrr@10", "ndcg@2", "recall@2", "mrr@2", "mrr@1")
    found = score_run(kept, {"q": grades}, measures)
    for measure in measures:
        assert found[measure].tolist() == [pytest.approx(oracle(ranked, grades, measure), abs=1e-12)]


def test_the_reciprocal_rank_is_cut_at_every_depth():
    documents = tuple(f"{i:03}" for i in range(60))
    run = Run(("q",), (documents,), (tuple(float(-i) for i in range(60)),))
    for at in range(60):
        for cutoff in (1, 3, 10, 49, 50):
            value = score_run(run, {"q": {documents[at]: 1}}, [f"mrr@{cutoff}"])[f"mrr@{cutoff}"][0]
            assert value == (1 / (at + 1) if at < cutoff else 0)


def shuffled(collection: Collection) -> Collection:
    """Four relevant documents for each query, drawn at random."""
    rng, documents = np.random.default_rng(0), texts_of(collection)
    judgements = [
        (query, document, 1) for query in collection.queries for document in rng.choice(list(documents), 4, False)
    ]
    return small(documents, dict(collection.queries), judgements, "shuffled")


def scifact(documents: int, queries: int) -> Collection:
    """The first test queries of SciFact, their documents, and the first others."""
    folder = real_data("scifact")
    table = {n: pq.read_table(folder / f"{n}.parquet").to_pylist() for n in ("corpus", "queries", "qrels_test")}
    judged = table["qrels_test"][:queries]
    needed = {row["doc_id"] for row in judged}
    rows = [row for i, row in enumerate(table["corpus"]) if row["id"] in needed or i < documents]
    wanted = {row["query_id"] for row in judged}
    texts = {row["id"]: row["text"] for row in table["queries"] if row["id"] in wanted}
    return small({row["id"]: row["text"] for row in rows}, texts, [tuple(row.values()) for row in judged], "scifact")


@pytest.mark.parametrize(
    "name", ["shuffled", pytest.param("scifact", marks=[pytest.mark.real_data, pytest.mark.matrix])]
)
def test_parity_with_sentence_transformers_and_pytrec_eval(name, embedded_model, few):
    """One model, one set of judgements: four implementations, the same figures for every query and on average.

    The sample's own judgements are too easy to tell them apart, so its documents get others at random.
    """
    import pytrec_eval
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    collection = shuffled(few) if name == "shuffled" else scifact(20, 30)
    result = evaluate_retrieval(embedded_model, collection)
    texts = texts_of(collection)
    relevant = {q: {d for d, score in found.items() if score > 0} for q, found in collection.qrels.items()}
    theirs = InformationRetrievalEvaluator(
        collection.queries, texts, relevant, precision_recall_at_k=[100], write_csv=False
    )
    found = theirs(embedded_model)
    for measure in MEASURES:
        assert result.means[measure] == pytest.approx(found[f"cosine_{measure}"], abs=1e-9)
    direct = pytrec_eval.RelevanceEvaluator(collection.qrels, {"ndcg_cut.10", "recall.100"}).evaluate(
        result.run.as_dict()
    )
    for query, ranked, ndcg, recall, mrr in zip(
        result.query_ids, result.run.documents, *(result.scores[m] for m in MEASURES), strict=True
    ):
        assert (ndcg, recall) == (direct[query]["ndcg_cut_10"], direct[query]["recall_100"])
        for measure, value in zip(MEASURES, (ndcg, recall, mrr), strict=True):
            assert value == pytest.approx(oracle(ranked, collection.qrels[query], measure), abs=1e-12)


def test_the_run_is_that_of_float64_loops(embedded_model, few, few_result):
    documents = texts_of(few)
    vectors = embedded_model.encode(list(documents.values())).astype(np.float64)
    for at, query in enumerate(few_result.query_ids[:5]):
        scores = vectors @ embedded_model.encode(few.queries[query]).astype(np.float64)
        best = sorted(zip(scores, documents, strict=True), reverse=True)[:100]
        np.testing.assert_allclose(few_result.run.scores[at], [score for score, _ in best], atol=1e-5)
        assert few_result.run.documents[at][:10] == tuple(document for _, document in best[:10])


def test_an_instruction_is_a_prompt_to_a_stock_model(embedded_model, few, few_result):
    """Measured by sentence-transformers' own evaluator with that prompt on the queries and none on the documents."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    collection, instruction = shuffled(few), "List five kinds of cheese and their colour"
    relevant = {q: set(found) for q, found in collection.qrels.items()}
    theirs = InformationRetrievalEvaluator(
        few.queries, texts_of(few), relevant, query_prompt=f"{instruction}: ", write_csv=False
    )
    found = theirs(embedded_model)
    result = evaluate_retrieval(embedded_model, collection, query_instruction=instruction)
    assert result.means["ndcg@10"] == pytest.approx(found["cosine_ndcg@10"], abs=1e-9)
    assert result.run.documents != few_result.run.documents


def test_an_instruction_is_half_a_pair_to_a_model_that_takes_pairs():
    """The model sees (instruction, query) and plain documents; nothing is put before either."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Module

    seen: list = []

    class Pairs(Module):
        accepts_instructions = True

        def rows(self, inputs, prompt):
            return [("", item) if isinstance(item, str) else item for item in inputs]

        def preprocess(self, inputs, prompt=None, **_):
            import torch

            seen.extend(inputs)
            assert not prompt
            return {"input_ids": torch.tensor([[len("".join(item))] * 16 for item in inputs])}

        def forward(self, features, **_):
            features["sentence_embedding"] = features["input_ids"][:, :2].float() / features["input_ids"][:, :1]
            return features

        def save(self, *_, **__):
            raise NotImplementedError

    model = SentenceTransformer(modules=[Pairs()], device="cpu")
    documents, queries = {"d": "a document", "e": "another"}, {"q": "a query"}
    evaluate_retrieval(model, small(documents, queries, [("q", "d", 1)]), query_instruction="Find it")
    assert set(seen) == {"a document", "another", ("Find it", "a query")}
    with pytest.raises(InputError, match="not both"):
        encode_texts(model, ["a"], instruction="Find it", prompt="query: ")


def test_documents_with_equal_texts_are_all_retrieved():
    """Ids are what trec_eval counts: each duplicate has a rank of its own, the greater id first."""
    documents = {"b": "red fox", "z": "blue whale", "c": "red fox", "a": "red fox", "e": "Red Fox"}
    queries = {"q": "red fox"}
    collection = small(documents, queries, [("q", "a", 1), ("q", "z", 2)])
    assert len(collection.corpus) == 3
    result = evaluate_retrieval(ToyModel(), collection)
    assert result.run.documents == (("e", "c", "b", "a", "z"),)
    assert result.scores["mrr@10"].tolist() == [0.25] and result.scores["recall@100"].tolist() == [1]
    expected = (1 / math.log2(5) + 2 / math.log2(6)) / (2 + 1 / math.log2(3))
    assert result.scores["ndcg@10"].tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize(
    ("rule", "of_1", "of_2"),
    [(None, {"2", "3"}, {"1", "2", "3"}), (True, {"2", "3"}, {"1", "3"}), (False, {"1", "2", "3"}, {"1", "2", "3"})],
    ids=["same text", "as BEIR", "never"],
)
def test_a_query_does_not_find_itself(rule, of_1, of_2):
    """Query 1 is document 1 without its title; query 2 shares an id with a document by accident."""
    documents = {"1": "Foxes red  fox", "2": "a grey wolf", "3": "blue whale"}
    queries = {"1": "Red fox", "2": "a whale"}
    collection = small(documents, queries, [("1", "3", 1), ("2", "3", 1)])
    result = evaluate_retrieval(ToyModel(), collection, ignore_identical_ids=rule)
    assert [set(found) for found in result.run.documents] == [of_1, of_2]


def test_the_depth_holds_when_the_query_itself_is_left_out():
    documents = {f"d{i}": f"word{i}" for i in range(9)} | {"q": "word0 word1"}
    collection = small(documents, {"q": "word0 word1"}, [("q", "d8", 1)])
    result = evaluate_retrieval(ToyModel(), collection, depth=4, measures=("ndcg@4",))
    assert len(result.run.documents[0]) == 4 and "q" not in result.run.documents[0]


def test_only_queries_with_a_positive_are_scored():
    documents, queries = {"d": "a", "e": "b"}, {"none": "a", "zero": "a", "unknown": "a", "some": "b"}
    collection = small(
        documents, queries, [("zero", "d", 0), ("unknown", "d", -1), ("some", "e", 1), ("some", "d", -1)]
    )
    assert collection.scored_queries == ("some",) and collection.qrels == {"zero": {"d": 0}, "some": {"e": 1}}
    assert evaluate_retrieval(ToyModel(), collection).query_ids == ("some",)


def test_a_positive_that_the_corpus_lacks_counts_as_missed():
    collection = small({"d": "a"}, {"q": "a"}, [("q", "d", 1), ("q", "gone", 1)])
    assert collection.lost_positives == 1
    assert evaluate_retrieval(ToyModel(), collection).scores["recall@100"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("judgements", "said"),
    [
        ([("other", "d", 1)], "have no text, such as 'other'"),
        ([("q", "d", 0)], "no query has a judged positive"),
        ([("q", "gone", 1)], "none of the 1 judged positives, such as 'gone'"),
        ([("q", "d", 0.5)], "relevance 0.5 is not a whole number"),
    ],
)
def test_bad_judgements_are_named(judgements, said):
    with pytest.raises(InputError, match=said):
        small({"d": "a"}, {"q": "a"}, judgements)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"measures": ("map@10",)}, "no measure 'map@10'"),
        ({"measures": ("ndcg@0",)}, "no measure"),
        ({"measures": ()}, "measures is empty"),
        ({"depth": 50}, "need 100 documents"),
        ({"query_instruction": "a", "query_prompt": "b"}, "not both"),
    ],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(InputError, match=said):
        RetrievalSettings(**settings)


def test_vectors_kept_in_a_store_change_nothing(embedded_model, few, few_result, tmp_path):
    kept = evaluate_retrieval(embedded_model, few, store=tmp_path)
    assert list(tmp_path.rglob("shard-*.safetensors"))
    assert kept.run == few_result.run


def test_results_come_back_from_disk(few_result, tmp_path):
    loaded = RetrievalResult.load(few_result.save(tmp_path / "a" / "result.json"))
    assert (loaded.name, loaded.query_ids, loaded.means) == ("few", few_result.query_ids, few_result.means)
    assert all(np.array_equal(loaded.scores[m], few_result.scores[m]) for m in few_result.scores)
    assert loaded.details["settings"]["depth"] == 100
    (tmp_path / "other.json").write_text("[]")
    for name, said in (("other.json", "is not a retrieval result"), ("gone.json", "no such file")):
        with pytest.raises(InputError, match=said):
            RetrievalResult.load(tmp_path / name)


def test_trec_eval_reads_the_run_and_finds_the_same(few, few_result, tmp_path):
    import pytrec_eval

    few_result.run.write_trec(tmp_path / "run.trec", tag="my model")
    first = (tmp_path / "run.trec").read_text().splitlines()[0].split()
    assert first[1] == "Q0" and first[3] == "1" and first[5] == "mymodel"
    with (tmp_path / "run.trec").open() as file:
        run = pytrec_eval.parse_run(file)
    found = pytrec_eval.RelevanceEvaluator(few.qrels, {"ndcg_cut.10"}).evaluate(run)
    assert [found[q]["ndcg_cut_10"] for q in few_result.query_ids] == few_result.scores["ndcg@10"].tolist()
    with pytest.raises(InputError, match="white space"):
        Run(("a b",), ((),), ((),)).write_trec(tmp_path / "bad.trec")


def result_of(model: str, values: dict[str, float], name: str = "c") -> RetrievalResult:
    return RetrievalResult(name, model, tuple(values), {"ndcg@10": np.array(list(values.values()))})


def test_scores_are_aligned_by_query():
    found = aligned_scores({"a": result_of("a", {"x": 1, "y": 2}), "b": result_of("b", {"y": 4, "x": 3})}, "ndcg@10")
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1, 2], "b": [3, 4]}


@pytest.mark.parametrize(
    ("other", "measure", "said"),
    [
        (result_of("b", {"x": 1}), "ndcg@10", "1 are in one only, such as 'y'"),
        (result_of("b", {"x": 1, "y": 1}, "d"), "ndcg@10", "measured on 'd', a on 'c'"),
        (result_of("b", {"x": 1, "y": 1}), "mrr@10", "a has no mrr@10"),
    ],
)
def test_results_that_do_not_belong_together_are_refused(other, measure, said):
    with pytest.raises(InputError, match=said):
        aligned_scores({"a": result_of("a", {"x": 1, "y": 2}), "b": other}, measure)


def test_the_evaluator_chooses_the_best_checkpoint(embedded_model, sample, tmp_path):
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from hf_posmine.evaluation.evaluator import RetrievalEvaluator

    model = SentenceTransformer(modules=[StaticEmbedding(embedded_model.tokenizer, embedding_dim=32)], device="cpu")
    rows = [(sample.queries[q], next(iter(found))) for q, found in sample.qrels.items()]
    texts = sample.corpus.texts(sample.corpus.rows_of_ids([document for _, document in rows])).to_pylist()
    train = Dataset.from_dict({"query": [query for query, _ in rows], "positive": texts})
    evaluator = RetrievalEvaluator(sample, name="held_out")
    options = {
        "max_steps": 4,
        "eval_steps": 2,
        "save_steps": 2,
        "eval_strategy": "steps",
        "load_best_model_at_end": True,
    }
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path), **options, per_device_train_batch_size=64, learning_rate=0.5, use_cpu=True, report_to="none",
        metric_for_best_model="eval_held_out_ndcg@10",
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model, arguments, train_dataset=train, evaluator=evaluator, loss=MultipleNegativesRankingLoss(model)
    )
    before = evaluator(model)["held_out_ndcg@10"]
    trainer.train()
    seen = [entry["eval_held_out_ndcg@10"] for entry in trainer.state.log_history if "eval_held_out_ndcg@10" in entry]
    assert len(seen) == 2 and trainer.state.best_metric == max(seen) > before
    kept = RetrievalResult.load(tmp_path / "eval" / "held_out-2.json")
    assert kept.means["ndcg@10"] == pytest.approx(seen[0]) and kept.num_queries == 171
    assert evaluator.primary_metric == "held_out_ndcg@10"
    assert evaluator(model)["held_out_ndcg@10"] == pytest.approx(max(seen))


def test_folders_of_either_layout(tmp_path, sample):
    """BEIR's, with the split 'test' by default, and plain files under their usual column names."""
    (tmp_path / "beir" / "qrels").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / "beir" / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n007\t{split}\t2\n")
    (tmp_path / "beir" / "queries.jsonl").write_text('{"_id": "007", "text": "who"}\n')
    documents = [{"_id": i, "title": "The", "text": i} for i in ("train", "test")]
    (tmp_path / "beir" / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    beir = load_collection(tmp_path / "beir")
    assert beir.qrels == {"007": {"test": 2}} and beir.corpus.texts(np.array([0])).to_pylist() == ["The train"]
    assert load_collection(str(tmp_path / "beir"), "train").qrels == {"007": {"train": 2}}
    (tmp_path / "plain").mkdir()
    tables = {
        "corpus": {"id": ["1"], "text": ["one"]},
        "queries": {"id": [7], "text": ["which"]},
        "qrels": {"query_id": [7], "doc_id": ["1"]},
    }
    for name, columns in tables.items():
        Dataset.from_dict(columns).to_parquet(str(tmp_path / "plain" / f"{name}.parquet"))
    assert load_collection(tmp_path / "plain").qrels == {"7": {"1": 1}}
    with pytest.raises(InputError, match="name one with qrels="):
        load_collection(SAMPLE)


def hub_layout(folder, judged: str) -> None:
    """A data set with configurations, as the Hub has them."""
    tables = {
        "corpus": {"_id": ["1", "2"], "text": ["one", "two"]},
        "queries": {"_id": ["q"], "text": ["which"]},
        judged: {"query-id": ["q"], "corpus-id": ["2"], "score": [1]},
    }
    lines = ["---", "configs:"]
    for name, columns in tables.items():
        splits = ["train", "test"] if name == judged else [name]
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {name}/{split}.parquet"]
            (folder / name).mkdir(parents=True, exist_ok=True)
            Dataset.from_dict(columns).to_parquet(str(folder / name / f"{split}.parquet"))
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


@pytest.mark.parametrize("judged", ["qrels", "default"])
def test_a_data_set_with_configurations(tmp_path, judged):
    hub_layout(tmp_path / "set", judged)
    assert hub_collection(str(tmp_path / "set")).qrels == {"q": {"2": 1}}
    assert hub_collection(str(tmp_path / "set"), "train").scored_queries == ("q",)
    with pytest.raises(InputError, match="no split 'validation'"):
        hub_collection(str(tmp_path / "set"), "validation")


def test_a_data_set_without_the_configurations_says_what_it_has(tmp_path):
    hub_layout(tmp_path / "set", "judgements")
    with pytest.raises(InputError, match=r"needs configurations corpus, queries and qrels; it has .*judgements"):
        hub_collection(str(tmp_path / "set"))


def test_names_lead_to_the_hub(monkeypatch):
    asked: list = []
    monkeypatch.setattr(
        collection_module, "hub_collection", lambda repository, qrels: asked.append((repository, qrels))
    )
    for name in ("nanonfcorpus", "NanoTouche2020", "mteb/scifact"):
        load_collection(name, "test")
    assert asked == [
        ("zeta-alpha-ai/NanoNFCorpus", "test"),
        ("zeta-alpha-ai/NanoTouche2020", "test"),
        ("mteb/scifact", "test"),
    ]
    for name, said in (
        ("NanoNothing", "no NanoBEIR set"),
        ("missing", "is not a folder"),
        ("/gone/away", "is not a folder"),
    ):
        with pytest.raises(InputError, match=said):
            load_collection(name)


def test_a_query_that_is_no_text_is_named(tmp_path):
    for name, text in (("corpus", "a"), ("queries", None)):
        Dataset.from_dict({"id": ["1"], "text": [text]}).to_json(str(tmp_path / f"{name}.jsonl"))
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\t1\t1\n")
    with pytest.raises(ColumnError, match="column 'text', row 0"):
        folder_collection(tmp_path)


@pytest.mark.parametrize("module", ["ir_measures", "pytrec_eval"])
def test_without_the_extra_the_pip_line_is_said(monkeypatch, module):
    import ir_measures

    monkeypatch.setattr(ir_measures.pytrec_eval, "_is_available", None, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hf-posmine\[eval\]'"):
        score_run(Run(("q",), (("d",),), ((1.0,),)), {"q": {"d": 1}})


def test_measures_are_read_as_they_are_written():
    assert parse_measure("recall@1000") == ("recall", 1000)


def task(**splits) -> SimpleNamespace:
    """What an MTEB task offers."""
    metadata = SimpleNamespace(name="Tiny", type="Retrieval", eval_splits=["test"])
    return SimpleNamespace(metadata=metadata, dataset=splits, load_data=lambda: None)


def retrieval_split(positive: str) -> dict:
    return {
        "corpus": Dataset.from_dict({"id": ["a", "b"], "title": ["The", ""], "text": ["red fox", "blue whale"]}),
        "queries": Dataset.from_dict({"id": ["q"], "text": ["fox"]}),
        "relevant_docs": {"q": {positive: 1}},
        "top_ranked": None,
    }


def test_an_mteb_task_is_a_collection():
    tiny = mteb_collection(task(default={"test": retrieval_split("a"), "dev": retrieval_split("b")}))
    assert (tiny.name, tiny.qrels) == ("Tiny", {"q": {"a": 1}})
    assert tiny.corpus.texts(np.array([0])).to_pylist() == ["The red fox"]
    languages = task(de={"test": retrieval_split("a")}, fr={"test": retrieval_split("b")})
    assert mteb_collection(languages, subset="fr").name == "Tiny-fr"
    with pytest.raises(InputError, match=r"no subset None; choose one of \['de', 'fr'\]"):
        mteb_collection(languages)
    with pytest.raises(InputError, match="only retrieval tasks"):
        mteb_collection(task(default={"test": Dataset.from_dict({"text": ["a"]})}))


def test_mteb_agrees_on_a_task_of_its_own(embedded_model, few):
    """The same documents as a real MTEB task, run by mteb itself."""
    mteb = pytest.importorskip("mteb")
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    documents = {"id": list(texts_of(few)), "text": list(texts_of(few).values())}
    queries = {"id": list(few.queries), "text": list(few.queries.values())}
    data = {
        "corpus": Dataset.from_dict(documents),
        "queries": Dataset.from_dict(queries),
        "relevant_docs": few.qrels,
        "top_ranked": None,
    }

    class Sample(AbsTaskRetrieval):
        metadata = TaskMetadata(
            **dict.fromkeys(TaskMetadata.model_fields.keys() & UNSAID, None),
            name="PosmineSample", description="the embedded sample", dataset={"path": "none/none", "revision": "0"},
            type="Retrieval", category="t2t", modalities=["text"], eval_splits=["test"], eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )  # fmt: skip

        def load_data(self, *_, **__):
            self.dataset, self.data_loaded = {"default": {"test": data}}, True

    scores = mteb.evaluate(embedded_model, tasks=[Sample()], cache=None, overwrite_strategy="always")[0].scores["test"][
        0
    ]
    ours = evaluate_retrieval(embedded_model, mteb_collection(Sample()))
    assert ours.means["ndcg@10"] == pytest.approx(scores["ndcg_at_10"], abs=1e-5)
    assert ours.means["recall@100"] == pytest.approx(scores["recall_at_100"], abs=1e-5)
    with pytest.raises(InputError, match="MTEB has no task 'SciFac'"):
        mteb_collection("SciFac")


def test_an_mteb_task_by_name_needs_mteb(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtraError, match="mteb"):
        load_collection("mteb:SciFact")


def test_documents_without_text_are_left_out_and_count_as_missed():
    """Instruction models refuse an empty text; BEIR's collections hold some."""
    made = small({"a": "bees make honey", "b": "  ", "c": ""}, {"q": "honey"}, [("q", "a", 1), ("q", "c", 1)])
    assert len(made.corpus) == 1 and made.lost_positives == 1
    assert evaluate_retrieval(ToyModel(), made).means["recall@100"] == 0.5

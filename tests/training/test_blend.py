"""Blends: the columns every data set gets, mining inside, mixed batches, and bad specs before any data are read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, DatasetDict, Value

from hf_posmine.cli.main import main
from hf_posmine.core.errors import ColumnError, InputError, ShortRowError
from hf_posmine.training.blend import describe, load_blend, mixed
from hf_posmine.training.dataset_spec import DatasetSpec
from hf_posmine.training.instructions import instruction_for
from tests.conftest import SAMPLE, ToyModel, real_data

if TYPE_CHECKING:
    from pathlib import Path

TOY = {"teacher": ToyModel(), "teacher_options": {"fingerprint": "toy"}}
TOPICS = ["cat", "dog", "sun", "tea"]
FILES = {
    "intents": [{"text": f"{topic} number {i}", "label": topic} for i in range(6) for topic in TOPICS],
    "polarity": [{"body": f"film {i}", "stars": i % 2} for i in range(10)],
    "news": [{"text": f"about {topic} {i}", "cluster": t} for i in range(5) for t, topic in enumerate(TOPICS)],
    "pairs": [{"sentence1": f"a {t} runs {i}", "sentence2": f"the {t} ran {i}", "score": i} for i in range(6) for t in TOPICS],
    "nli": [
        {"premise": f"{t}", "hypothesis": f"{t} {relation}", "label": relation}
        for t in TOPICS for relation in ("entailment", "neutral", "contradiction")
    ],
    "judged": [{"query": f"q {t}", "positive": [f"{t} yes"], "negative": [f"{t} no {i}" for i in range(4)]} for t in TOPICS],
    "mined": [{"question": f"what is {t}", "answer": f"{t} it is", "negatives": [f"{t} {i}" for i in range(5)]} for t in TOPICS],
}  # fmt: skip
SPECS = """
- {name: my_intents, path: intents.jsonl, task: classification, instruction: Find the intent}
- {name: polarity, path: polarity.jsonl, task: classification, columns: {text: body, label: stars}, instruction: "",
   label_texts: {0: bad, 1: good}}
- {name: RedditClustering, path: news.jsonl, task: clustering, columns: {label: cluster}, max_samples: 7}
- {name: STSBenchmark, path: pairs.jsonl, task: sts, mine: {filters: PercPos(0.95), on_short: random}}
- {name: all-nli, path: nli.jsonl, task: nli, num_negatives: 1}
- {name: AskUbuntuDupQuestions, path: judged.jsonl, task: reranking}
- {name: nq, path: mined.jsonl, task: retrieval, columns: {query: question, positive: answer}, num_negatives: 4, weight: 2}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with one file per task."""
    for name, rows in FILES.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def specs(folder) -> list[dict]:
    """One spec per task, as YAML has them, with the toy teacher."""
    entries = yaml.safe_load(SPECS)
    entries[3]["mine"] |= TOY
    return entries


@pytest.fixture
def blend(specs):
    return load_blend(specs, num_negatives=3, seed=1)


def text_columns(dataset) -> list[str]:
    return [name for name in dataset.column_names if not name.endswith("_instruction") and name != "in_batch_negatives"]


def test_every_task_gets_its_columns(blend):
    rows = {name: len(dataset) for name, dataset in blend.datasets.items()}
    assert rows == {
        "my_intents": 24, "polarity": 10, "RedditClustering": 7, "STSBenchmark": 16, "all-nli": 4,
        "AskUbuntuDupQuestions": 4, "nq": 4,
    }  # fmt: skip
    negatives = {"polarity": 1, "all-nli": 1, "nq": 4}
    for name, dataset in blend.datasets.items():
        texts = ["query", "positive", *(f"negative_{i + 1}" for i in range(negatives.get(name, 3)))]
        assert text_columns(dataset) == texts
        assert all(dataset.features[column] == Value("string") for column in texts)
        assert dataset.features["in_batch_negatives"] == Value("bool")
        for row in dataset:
            assert all(row[text] for text in texts) and len({row[text] for text in texts}) == len(texts)


def test_instructions_stand_before_queries_and_in_symmetric_sets_before_documents(blend):
    assert set(blend.datasets["my_intents"]["query_instruction"]) == {"Find the intent"}
    assert set(blend.datasets["nq"]["query_instruction"]) == {instruction_for("nq")}
    for name, dataset in blend.datasets.items():
        texts = text_columns(dataset)
        prompted = {"polarity": [], "RedditClustering": texts, "STSBenchmark": texts}.get(name, ["query"])
        there = [column for column in dataset.column_names if column.endswith("_instruction")]
        assert there == [f"{text}_instruction" for text in prompted]
        assert {text for column in there for text in dataset[column]} <= {blend.specs[name].text_before}


def test_in_batch_negatives_are_off_for_label_like_sets(blend, specs):
    on = {name for name, dataset in blend.datasets.items() if set(dataset["in_batch_negatives"]) == {True}}
    assert on == {"all-nli", "AskUbuntuDupQuestions", "nq"}
    switched = load_blend([specs[0] | {"in_batch_negatives": True}, specs[6] | {"in_batch_negatives": False}])
    assert [set(d["in_batch_negatives"]) for d in switched.datasets.values()] == [{True}, {False}]


def test_sts_negatives_are_other_texts_of_the_set(blend):
    pool = {text for row in FILES["pairs"] for text in (row["sentence1"], row["sentence2"])}
    dataset = blend.datasets["STSBenchmark"]
    for row in dataset:
        negatives = {row[f"negative_{i}"] for i in (1, 2, 3)}
        assert negatives < pool and not negatives & {row["query"], row["positive"]}
    low = {row[f"negative_{i}"] for row in dataset for i in (1, 2, 3)} - set(dataset["query"])
    assert low  # also of pairs that people scored low


def test_the_same_specs_give_the_same_rows(blend, specs):
    again, other = load_blend(specs, num_negatives=3, seed=1), load_blend(specs, num_negatives=3, seed=2)
    for name, dataset in blend.datasets.items():
        assert again.datasets[name].to_dict() == dataset.to_dict()
    drawn = [name for name in blend.datasets if other.datasets[name].to_dict() != blend.datasets[name].to_dict()]
    assert set(drawn) >= {"my_intents", "RedditClustering"} and not set(drawn) & {"AskUbuntuDupQuestions", "nq"}
    own = load_blend([entry | {"seed": 1} for entry in specs], num_negatives=3, seed=2)
    assert own.datasets["my_intents"].to_dict() == blend.datasets["my_intents"].to_dict()


def test_at_most_max_samples_rows_in_their_order(folder, specs):
    every = load_blend([{k: v for k, v in specs[2].items() if k != "max_samples"}], seed=1).datasets["RedditClustering"]
    some = load_blend([specs[2]], seed=1)
    order = every["query"][:]
    places = [order.index(query) for query in some.datasets["RedditClustering"]["query"]]
    assert len(places) == 7 and places == sorted(places) and places != list(range(7))
    assert some.counts["RedditClustering"]["dropped_by_max_samples"] == 13


def test_mined_rows_beyond_the_sample_are_still_known_positives(folder):
    """Two rows share a query: the positive of the one that is not sampled must not become a negative."""
    rows = {"query": ["a red fox"] * 2 + ["a blue cat"], "positive": ["one red fox", "red fox two", "blue cat"]}
    Dataset.from_dict(rows).to_json(folder / "twice.jsonl")
    spec = {
        "name": "twice",
        "path": "twice.jsonl",
        "task": "retrieval",
        "instruction": "",
        "max_samples": 1,
        "mine": TOY,
    }
    for seed in range(6):
        row = load_blend([spec], seed=seed).datasets["twice"][0]
        if row["query"] == "a red fox":
            assert row["negative_1"] == "blue cat"


def test_mining_may_take_a_larger_corpus(folder):
    Dataset.from_dict({"text": ["cat it was", "dog it was", "unrelated"]}).to_parquet(folder / "corpus.parquet")
    spec = {
        "name": "x",
        "path": "mined.jsonl",
        "task": "retrieval",
        "columns": {"query": "question", "positive": "answer"},
    }
    spec |= {"instruction": "", "mine": TOY | {"corpus": "corpus.parquet"}}
    found = load_blend([spec], num_negatives=3).datasets["x"]
    assert {found[0][f"negative_{i}"] for i in (1, 2, 3)} == {"cat it was", "dog it was", "unrelated"}


def test_rows_without_enough_candidates_are_dropped_and_counted(folder, specs):
    spec = specs[3] | {"mine": TOY | {"filters": "MaxScore(-0.2)"}}
    counts = load_blend([spec], num_negatives=3).counts["STSBenchmark"]
    assert counts["dropped_short"] > 0 and counts["rows_out"] + counts["dropped_short"] == 16
    with pytest.raises(ShortRowError, match="data set 'STSBenchmark': column 'negatives'"):
        load_blend([spec | {"mine": spec["mine"] | {"on_short": "keep"}}], num_negatives=3)


def test_a_set_without_a_row_that_has_enough_candidates_is_an_error_that_names_cures(specs):
    spec = specs[3] | {"mine": TOY | {"filters": "MaxScore(-0.9999)"}}
    with pytest.raises(
        InputError, match=r"'STSBenchmark': no row found 3 negatives below its ceiling among .* ask for fewer"
    ):
        load_blend([spec], num_negatives=3)


def test_a_beir_folder_gives_its_pairs():
    spec = {"name": "sample", "path": str(SAMPLE), "task": "retrieval", "instruction": "", "num_negatives": 0}
    dataset = load_blend([spec]).datasets["sample"]
    assert dataset.column_names == ["query", "positive", "in_batch_negatives"]
    corpus = [json.loads(line) for line in (SAMPLE / "corpus.jsonl").read_text().splitlines()]
    assert set(dataset["positive"]) <= {f"{d.get('title', '')} {d['text']}".strip() for d in corpus}


def test_a_folder_of_files_gives_one_split(folder):
    (folder / "split").mkdir()
    for split, offset in (("train", 0), ("test", 100)):
        rows = {"text": [f"t{offset + i}" for i in range(8)], "label": [i % 4 for i in range(8)]}
        Dataset.from_dict(rows).to_parquet(folder / "split" / f"{split}.parquet")
    spec = {"name": "x", "path": "split", "task": "clustering", "instruction": ""}
    assert load_blend([spec]).datasets["x"]["query"][:] == [f"t{i}" for i in range(8)]
    assert load_blend([spec | {"split": "test"}]).datasets["x"]["query"][0] == "t100"
    with pytest.raises(InputError, match=r"data set 'x': folder 'split' has no files of split 'dev'"):
        load_blend([spec | {"split": "dev"}])


def test_a_saved_dataset_is_read(folder):
    rows = Dataset.from_list(FILES["intents"])
    rows.save_to_disk(folder / "one")
    DatasetDict(dev=rows.select(range(8)), train=rows).save_to_disk(folder / "dict")
    spec = {"name": "x", "task": "classification", "instruction": "", "split": "dev"}
    blend = load_blend([spec | {"path": "one"}, spec | {"path": "dict", "name": "y"}])
    assert [len(dataset) for dataset in blend.datasets.values()] == [24, 8]


def test_mixed_rows_agree_in_their_columns(blend):
    one = mixed(blend)
    assert one.column_names == [
        "query", "positive", "negative_1", "query_instruction", "positive_instruction", "negative_1_instruction",
        "in_batch_negatives",
    ]  # fmt: skip
    at = 0
    for dataset in blend.datasets.values():
        for row in dataset:
            expected = {column: row.get(column, "") for column in one.column_names}
            assert one[at] == expected
            at += 1
    assert at == len(one)


def test_mixed_keeps_what_all_have(blend):
    only = replace(blend, datasets=DatasetDict({name: blend.datasets[name] for name in ("my_intents", "nq")}))
    assert mixed(only).column_names == [
        *text_columns(blend.datasets["my_intents"]),
        "query_instruction",
        "in_batch_negatives",
    ]


def test_mixed_refuses_rows_with_nothing_to_contrast(folder, specs):
    bare = {
        "name": "b",
        "path": "mined.jsonl",
        "task": "retrieval",
        "columns": {"query": "question", "positive": "answer"},
    }
    bare |= {"instruction": "", "num_negatives": 0}
    assert mixed(load_blend([bare, specs[5]])).column_names[:2] == ["query", "positive"]
    with pytest.raises(InputError, match="data set 'b' has no hard negatives and 'my_intents' no in-batch negatives"):
        mixed(load_blend([bare, specs[0]]))


def test_a_plan_has_a_line_per_data_set(blend):
    lines = {line.name: line for line in describe(blend)}
    assert list(lines) == list(blend.datasets)
    nq = lines["nq"]
    assert (nq.task, nq.rows, nq.negatives, nq.in_batch_negatives, nq.symmetric) == ("retrieval", 4, 4, True, False)
    assert (nq.query_words, nq.document_words) == (3.0, (3 + 4 * 2) / 5)
    assert nq.instruction == instruction_for("nq") and nq.counts["rows_in"] == 4
    assert lines["RedditClustering"].symmetric and lines["polarity"].instruction == ""
    assert blend.specs["nq"].weight == 2


WAYS = [
    {"query": f"who is {name}", "question": f"and where was {name}", "reply": f"{name} is a poet", "source": f"a book on {name}"}
    for name in ("Sappho", "Li Bai", "Rumi", "Basho")
]  # fmt: skip
BARE = {"name": "nq", "task": "retrieval", "instruction": ""}


@pytest.mark.parametrize("output", ["ways", "ways-mined.jsonl", "ways.parquet"])
def test_what_mining_wrote_is_read_as_it_wrote_it(output, folder, capsys):
    """Columns that no name tells apart, and the number of negatives, are those of the provenance."""
    Dataset.from_list(WAYS).to_json(folder / "ways.jsonl")
    words = ["mine", "ways.jsonl", "--query-column", "question", "--positive-column", "reply", "--teacher", "random",
             "--num-negatives", "3", "--output", output, "--quiet"]  # fmt: skip
    assert main(words) == 0
    blend = load_blend([BARE | {"path": output}])
    rows = blend.datasets["nq"]
    assert text_columns(rows) == ["query", "positive", "negative_1", "negative_2", "negative_3"]
    assert rows["query"][:] == [row["question"] for row in WAYS] and rows["positive"][0] == "Sappho is a poet"
    assert str(blend.columns["nq"]) == (
        "query: question · positive: reply · negatives: negatives · negatives per row: 3"
    )
    fewer = load_blend([BARE | {"path": output, "num_negatives": 1, "columns": {"positive": "source"}}])
    assert text_columns(fewer.datasets["nq"]) == ["query", "positive", "negative_1"]
    assert fewer.datasets["nq"]["positive"][1] == "a book on Li Bai"


NAMED = {
    "FlagEmbedding": ({"query": "q", "pos": ["p"], "neg": ["n", "m"]}, "query: query · positive: pos · negatives: neg"),
    "sentence-transformers": (
        {"anchor": "q", "positive": "p", "negative": "n"}, "query: anchor · positive: positive · negatives: negative",
    ),
    "n-tuples": ({"question": "q", "answer": "p", "negative_1": "n", "negative_2": "m"}, "query: question · positive: answer"),
    "tevatron": (
        {"query_id": "7", "query": "q", "positive_passages": [{"docid": "1", "title": "", "text": "p"}],
         "negative_passages": [{"docid": "2", "title": "", "text": "n"}]},
        "query: query · positive: positive_passages · negatives: negative_passages",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", NAMED)
@pytest.mark.parametrize("task", ["retrieval", "reranking"])
def test_columns_are_found_by_name_as_in_mining(layout, task, folder):
    row, line = NAMED[layout]
    (folder / "named.jsonl").write_text(json.dumps(row) + "\n")
    blend = load_blend([BARE | {"path": "named.jsonl", "task": task}])
    line = line if task == "retrieval" else line.replace("negatives:", "negative:")
    assert str(blend.columns["nq"]) == f"{line} · negatives per row: 1"
    assert [blend.datasets["nq"][0][c] for c in ("query", "positive", "negative_1")] == ["q", "p", "n"]


AMBIGUOUS = {
    "two positives": (
        {"query": "q", "positive": "p", "pos": "p", "negatives": ["n"]},
        r"several columns could be the positive: \['positive', 'pos'\]; name one with columns: {positive: ...}",
    ),
    "two kinds of negatives": (
        {"query": "q", "positive": "p", "neg": ["n"], "hard_negatives": ["m"]},
        r"several columns \(neg, hard_negatives\) with negatives among .* name one with columns: {negatives: ...}",
    ),
    "ids": (
        {"query": "q", "positive_id": "d1", "negatives": ["n"]},
        r"column 'positive_id' holds ids of the positives; give corpus: .* or name their column with columns: {positive: ...}",
    ),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_a_hint_names_the_key_that_chooses(case, folder):
    row, message = AMBIGUOUS[case]
    (folder / "named.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ColumnError, match="data set 'nq': " + message):
        load_blend([BARE | {"path": "named.jsonl"}])


GOOD = {"name": "nq", "path": "nowhere.jsonl", "task": "retrieval"}
STS = GOOD | {"name": "STS12", "task": "sts", "mine": {"filters": "PercPos(0.95)"}}
BAD_SPECS = {
    "unknown key": (GOOD | {"num_negative": 1}, "data set 'nq': unknown key 'num_negative'; there are name, path, task"),
    "no task": ({"name": "nq", "path": "x"}, "data set 'nq': task is missing"),
    "no mapping": ("nq", "expected a mapping with name, path and task, got 'nq'"),
    "unknown task": (GOOD | {"task": "ranking"}, r"task='ranking'; choose one of \['retrieval'"),
    "unknown role": (GOOD | {"columns": {"text": "a"}}, "columns has no role 'text' for the task 'retrieval'"),
    "columns is a list": (GOOD | {"columns": ["a"]}, r"columns=\['a'\]; expected a mapping"),
    "no instruction": (GOOD | {"name": "PAQ"}, r"data set 'PAQ': no public instruction under this name .*give instruction"),
    "instruction is a number": (GOOD | {"instruction": 7}, "instruction=7; expected a text"),
    "symmetric for nothing": (GOOD | {"instruction": "", "symmetric": True}, "symmetric has no effect without an instruction"),
    "a switch as text": (GOOD | {"in_batch_negatives": "off"}, "in_batch_negatives='off'; expected true or false"),
    "positives elsewhere": (GOOD | {"positives": "label"}, "positives has no effect .* it is for classification"),
    "min_score elsewhere": (GOOD | {"min_score": 4}, "min_score has no effect on the task 'retrieval'"),
    "mine elsewhere": (GOOD | {"task": "nli", "mine": {}}, "mine has no effect on the task 'nli'; it is for sts and retrieval"),
    "mine a misspelt filter": (STS | {"mine": {"filters": "PercPos(95)"}}, "mine: .*did you mean 0.95"),
    "mine an unknown option": (STS | {"mine": {"filter": "x"}}, "mine: unknown option 'filter'"),
    "mine its own number": (STS | {"mine": {"num_negatives": 2}}, "mine takes num_negatives from the data set"),
    "mine sts elsewhere": (STS | {"mine": {"corpus": "x"}}, "mine: corpus has no effect on sts"),
    "sts without negatives": (STS | {"mine": None}, "sts pairs have no negatives of their own; give mine"),
    "nothing to contrast": (GOOD | {"num_negatives": 0, "in_batch_negatives": False}, "num_negatives=0 leaves nothing to contrast"),
    "mine nothing": (STS | {"num_negatives": 0}, "num_negatives=0 is for retrieval or sts pairs that are not mined"),
    "a number as text": (GOOD | {"max_samples": "1e3"}, "max_samples='1e3'; expected a whole number of at least 1"),
    "no weight": (GOOD | {"weight": 0}, "weight=0; expected a number above 0"),
    "score is NaN": (STS | {"min_score": float("nan")}, "min_score=nan; expected a number"),
    "no file": (GOOD, r"data set 'nq': 'nowhere.jsonl' does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SPECS)
def test_a_bad_spec_gets_one_clear_error(case, folder):
    spec, message = BAD_SPECS[case]
    with pytest.raises(InputError, match=message):
        load_blend([spec])


def test_specs_are_checked_before_data_are_read(folder):
    with pytest.raises(InputError, match="unknown key 'tsk'"):
        load_blend([GOOD, GOOD | {"name": "fever", "tsk": "x"}])
    with pytest.raises(InputError, match="two data sets are named 'nq'"):
        load_blend([GOOD, GOOD])
    with pytest.raises(InputError, match="the blend has no data sets"):
        load_blend([])


def test_errors_in_the_data_name_the_data_set(specs):
    with pytest.raises(ColumnError, match="data set 'my_intents': the column 'body' is not in the dataset"):
        load_blend([specs[0] | {"columns": {"text": "body"}}])
    with pytest.raises(
        ShortRowError, match=r"data set 'nq': column 'negatives', row 0: 5 negatives, for num_negatives=9"
    ):
        load_blend([specs[6] | {"num_negatives": 9}])
    with pytest.raises(InputError, match="revision='v1' has no effect"):
        load_blend([specs[0] | {"revision": "v1"}])


def test_a_spec_reads_its_mapping():
    assert DatasetSpec.from_mapping(GOOD) == DatasetSpec("nq", "nowhere.jsonl", "retrieval")


@pytest.mark.real_data
def test_a_real_second_stage(tmp_path):
    """Banking77, StackOverflow titles and SQuAD beside mined STS-B, as a stage 2 has them."""
    squad = real_data("squad_v1.1")
    texts = dict(
        zip(*(pq.read_table(squad / "dev_corpus.parquet")[c].to_pylist() for c in ("id", "text")), strict=True)
    )
    pairs = pq.read_table(squad / "dev_pairs.parquet").slice(0, 300).to_pydict()
    rows = {"query": pairs["query"], "positive": [texts[i] for i in pairs["positive_id"]]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "squad.parquet")
    specs = [
        {"name": "banking77", "path": str(real_data("banking77")), "task": "classification"},
        {"name": "titles", "path": str(real_data("stackoverflow_titles")), "task": "clustering", "max_samples": 2000,
         "instruction": "Identify the tag of the question"},
        {"name": "stsb", "path": str(real_data("stsb") / "en_dev.parquet"), "task": "sts", "max_samples": 200,
         "mine": TOY | {"filters": ["PercPos(0.95)"]}},
        {"name": "SQuAD", "path": str(tmp_path / "squad.parquet"), "task": "retrieval",
         "mine": TOY | {"filters": []}},
    ]  # fmt: skip
    blend = load_blend(specs, num_negatives=5)
    rows_out = {line.name: (line.rows, line.negatives, line.in_batch_negatives) for line in describe(blend)}
    assert rows_out["banking77"] == (10_003, 5, False)
    assert rows_out["titles"] == (2000, 5, False)
    assert rows_out["SQuAD"] == (300, 5, True)
    sts = blend.counts["stsb"]
    assert 100 < sts["rows_out"] == 200 - sts["dropped_short"]
    paragraphs = set(rows["positive"])
    for row in blend.datasets["SQuAD"]:
        negatives = {row[f"negative_{i}"] for i in range(1, 6)}
        assert len(negatives) == 5 and negatives < paragraphs and row["positive"] not in negatives
    assert len(mixed(blend)) == sum(map(len, blend.datasets.values()))


def test_a_set_that_another_process_has_mined_is_not_mined_again(tmp_path, monkeypatch, fresh_home):
    """Two processes load the same blend: the second takes the rows of the first, and another recipe mines anew."""
    from hf_posmine.mining.miner import PositiveAwareMiner

    calls = []
    mine = PositiveAwareMiner.__call__
    monkeypatch.setattr(PositiveAwareMiner, "__call__", lambda self, batch: (calls.append(1), mine(self, batch))[1])
    words = ["blue sky", "red rose", "green grass", "white snow", "black coal", "grey stone"]
    path = tmp_path / "pairs.parquet"
    Dataset.from_dict({"query": words, "positive": [f"the {w} of old" for w in words]}).to_parquet(str(path))
    spec = {"name": "pairs", "path": str(path), "task": "retrieval", "instruction": "", "mine": {"teacher": "bm25"}}
    first = load_blend([spec], num_negatives=2).datasets["pairs"]
    assert calls
    calls.clear()
    again = load_blend([spec], num_negatives=2).datasets["pairs"]
    assert not calls and again.to_dict() == first.to_dict()
    load_blend([spec], num_negatives=1)
    assert calls

"""remine and verify: the same rows from the record alone, and what exactly differs where they are not."""

from __future__ import annotations

import json
import re

import pytest
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import HfApi
from sentence_transformers import SentenceTransformer

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner, Qrels, push_dataset, remine, verify
from hf_posmine.cli.main import main
from hf_posmine.core.errors import HubError, InputError
from hf_posmine.hub.inputs import Inputs
from hf_posmine.mining.provenance import provenance
from hf_posmine.teachers import BM25Teacher, RandomTeacher
from tests.hub.mining import KEEP, make_miner, make_pairs, make_splits, miner_over

REPO, TEACHER = "alice/mined", "alice/teacher"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("hf_posmine.utils.retry.sleep", lambda _: None)
    monkeypatch.setattr("hf_posmine.hub.push.score_histogram", lambda _: None)


@pytest.fixture
def teacher(hub, tiny_model_folder) -> str:
    """The tiny model on the Hub."""
    push_teacher(tiny_model_folder)
    return TEACHER


def push_teacher(folder, scale: float = 1.0) -> None:
    model = SentenceTransformer(str(folder), device="cpu")
    for weights in model[0].auto_model.embeddings.word_embeddings.parameters():
        weights.data[3:6] *= scale
    model.push_to_hub(TEACHER, exist_ok=True)


def edit(hub, change) -> None:
    """Change the rows in the repository, and nothing else."""
    rows = {name: Dataset.from_list(change(name, s.to_list()), s.features) for name, s in load_dataset(REPO).items()}
    DatasetDict(rows).push_to_hub(REPO)


@pytest.fixture
def pushed(teacher):
    """Two splits mined with the teacher on the Hub, pushed."""
    miner = make_miner(make_splits(), teacher)
    mined = make_splits().map(miner, batched=True)
    push_dataset(mined, REPO, miner)
    return mined


def test_a_column_of_the_users_own_is_not_taken_for_a_mined_one(hub, teacher, fresh_home):
    """``query_language`` is mining's only beside ``negatives_languages``."""
    pairs = make_splits()
    pairs = DatasetDict(
        {name: split.add_column("query_language", ["fr"] * len(split)) for name, split in pairs.items()}
    )
    miner = make_miner(pairs, teacher)
    push_dataset(pairs.map(miner, batched=True), REPO, miner)
    assert verify(REPO).verified
    assert all(set(split["query_language"]) == {"fr"} for split in remine(REPO).values())


def test_the_rows_come_again_from_the_record_alone(hub, pushed, fresh_home):
    again = remine(REPO)
    assert {name: split.to_list() for name, split in again.items()} == {n: s.to_list() for n, s in pushed.items()}
    assert again["train"].features == pushed["train"].features
    found = verify(REPO)
    assert found.verified and (found.rows, found.total, found.changes) == (24, 24, ())
    assert "24 of 24 rows mined again" in str(found) and "all are equal" in str(found)
    assert verify(REPO, 7).rows == 7


def test_a_record_that_only_the_card_shows_is_not_taken(hub, pushed):
    HfApi().delete_file("provenance.json", REPO, repo_type="dataset")
    with pytest.raises(InputError, match=r"alice/mined has no provenance\.json"):
        verify(REPO, 5)


def test_one_changed_negative_is_found_and_named(hub, pushed):
    def change(name, rows):
        if name == "test":
            rows[3]["negatives"][1] = "no such text"
        return rows

    edit(hub, change)
    found = verify(REPO)
    (one,) = found.differences
    assert (one.split, one.row, one.column) == ("test", 3, "negatives")
    assert one.recorded[1] == "no such text" and one.found == pushed["test"][3]["negatives"]
    assert [change.what for change in found.changes] == ["the rows in the repository"]
    where = r"test, row 3, '.*', column 'negatives', number 2: 'no such text' in the repository, '\w+ \w+ \w+' now"
    assert re.search(where, str(found)) and str(found).splitlines()[0].endswith(": 1 differ")


def test_a_score_within_the_last_bits_is_equal_and_another_is_not(hub, pushed):
    def change(name, rows):
        rows[0]["positive_score"] += 1e-6
        rows[1]["positive_score"] += 1e-2
        return rows

    edit(hub, change)
    assert [(d.split, d.row, d.column) for d in verify(REPO).differences] == [
        ("train", 1, "positive_score"), ("test", 1, "positive_score"),
    ]  # fmt: skip


def test_a_teacher_that_moved_on_is_named_and_its_recorded_commit_used(hub, pushed, tiny_model_folder, fresh_home):
    was = hub.repo(TEACHER, "models").at("main").oid
    push_teacher(tiny_model_folder, 3.0)
    found = verify(REPO)
    (change,) = found.changes
    assert found.verified and not change.decisive
    assert (change.what, change.recorded) == (f"the teacher {TEACHER}", f"commit {was}")
    assert change.found == f"commit {hub.repo(TEACHER, 'models').at('main').oid}"
    with_the_new = verify(REPO, inputs=Inputs(teacher=TEACHER))
    assert not with_the_new.verified
    assert [c.what for c in with_the_new.changes if c.decisive] == [f"the weights of the teacher {TEACHER}"]


@pytest.mark.parametrize("of_rows", [True, False])
def test_documents_of_the_same_source_are_known_again_from_the_record(hub, teacher, tmp_path, fresh_home, of_rows):
    works = [at // 2 for at in range(12)]
    pairs = make_pairs(12).add_column("work", works)
    texts = [row["positive"] for row in make_pairs(40)]
    Dataset.from_dict({"text": texts, "work": [*works, *range(100, 128)]}).to_parquet(tmp_path / "c.parquet")
    documents = [] if of_rows else ["--corpus", str(tmp_path / "c.parquet")]
    main(
        ["mine", str(pairs_file(pairs, tmp_path)), *documents, "--teacher", teacher, "--filters", "none", "--exclude-same",
         "work", "--num-negatives", "2", "--output", str(tmp_path / "out"), "--push-to-hub", REPO, "--quiet"]
    )  # fmt: skip
    work = dict(zip(texts, [*works, *range(100, 128)], strict=True))
    rows = load_dataset(REPO, split="train")
    assert all(work[text] != row["work"] for row in rows for text in row["negatives"])
    assert {row["excluded_same_source"] for row in rows["negatives_stats"]} == {1}
    assert verify(REPO, inputs=Inputs(allow_local=True)).verified


def test_a_local_corpus_is_asked_for_and_an_edited_one_is_named(hub, teacher, tmp_path, fresh_home):
    texts = [r["positive"] for r in make_pairs(40)]
    pairs = make_pairs(12)
    Dataset.from_dict({"body": texts, "key": [f"d{i}" for i in range(40)]}).to_parquet(tmp_path / "c.parquet")
    main(
        ["mine", str(pairs_file(pairs, tmp_path)), "--corpus", str(tmp_path / "c.parquet"), "--corpus-text-column", "body",
         "--corpus-id-column", "key", "--teacher", teacher, "--num-negatives", "2", "--output", str(tmp_path / "out"),
         "--push-to-hub", REPO, "--quiet"]
    )  # fmt: skip
    assert verify(REPO, inputs=Inputs(allow_local=True)).verified  # the file is still there
    (tmp_path / "c.parquet").rename(tmp_path / "moved.parquet")
    with pytest.raises(InputError, match=r"the corpus '.*c\.parquet' was local data; pass it as Inputs\(corpus"):
        verify(REPO)
    with pytest.raises(InputError, match=r"the corpus '.*c\.parquet' was local data and is not here"):
        verify(REPO, inputs=Inputs(allow_local=True))
    assert verify(REPO, inputs=Inputs(corpus=tmp_path / "moved.parquet")).verified
    first = load_dataset(REPO, split="train")[0]["negatives"][0]
    edited = ["red red red" if text == first else text for text in texts]
    Dataset.from_dict({"body": edited, "key": [f"d{i}" for i in range(40)]}).to_parquet(tmp_path / "c.parquet")
    found = verify(REPO, inputs=Inputs(allow_local=True))
    assert not found.verified and found.differences[0].row == 0
    decisive = [change.what for change in found.changes if change.decisive]
    assert decisive == ["the corpus file c.parquet", "the corpus"]


def pairs_file(pairs: Dataset, folder):
    pairs.to_parquet(folder / "pairs.parquet")
    return folder / "pairs.parquet"


def test_a_corpus_that_nobody_recorded_has_to_be_given(hub, teacher):
    pairs = make_pairs(12)
    corpus = Corpus.from_texts(make_pairs(40)["positive"])
    miner = miner_over(pairs, corpus, teacher)
    mined = pairs.map(miner, batched=True)
    push_dataset(mined, REPO, miner)
    with pytest.raises(
        InputError, match=r"does not name the source of its 40 documents .*; pass them as Inputs\(corpus"
    ):
        remine(REPO)
    assert remine(REPO, inputs=Inputs(corpus=corpus))["train"].to_list() == mined.to_list()


def test_rows_come_again_over_a_corpus_with_titles_as_the_data_of_the_record_say(hub):
    """The positives are in the corpus behind titles: the account of the data has it, and mining again excludes them, too."""
    pairs = make_pairs(16)
    pages = [
        {"docid": f"d{n}", "heading": f"Page {n}", "body": text} for n, text in enumerate(make_pairs(40)["positive"])
    ]
    Dataset.from_list(pages).push_to_hub("alice/pages")
    corpus = Corpus.from_dataset(load_dataset("alice/pages", split="train"))
    miner = PositiveAwareMiner.from_dataset(pairs, "bm25", corpus=corpus, num_negatives=3, keep=KEEP)
    mined = pairs.map(miner, batched=True)
    source = {
        "path": "alice/pages",
        "split": "train",
        "revision": HfApi().repo_info("alice/pages", repo_type="dataset").sha,
    }
    columns = {"text": "body", "id": "docid", "title": "heading"}
    record = provenance(miner, source={}, corpus_source=source | columns, mined=mined)
    push_dataset(mined, REPO, record)
    plain = record.to_dict()["data"]
    assert plain["corpus"] == "by docid (heading + body)" and (plain["positives"], plain["in_corpus"]) == (16, 0)
    assert plain["variants"] == 16
    again = remine(REPO)["train"]
    assert again.to_list() == mined.to_list()
    own = {row["query"]: row["positive"] for row in pairs}
    assert not any(own[row["query"]] in text for row in again for text in row["negatives"])
    assert verify(REPO).verified


def test_rows_that_were_dropped_come_again_from_the_source(hub, teacher):
    make_pairs().push_to_hub("alice/pairs")
    pairs = load_dataset("alice/pairs", split="train")
    options = {"on_short": "drop", "filters": ["PercPos(0.9)"], "num_negatives": 9}
    miner = make_miner(pairs, teacher, **options)
    mined = pairs.map(miner, batched=True)
    assert 0 < len(mined) < len(pairs)
    push_dataset(mined, REPO, miner)
    assert remine(REPO)["train"].to_list() == mined.to_list()
    make_pairs(5).push_to_hub("alice/pairs")
    found = verify(REPO)
    assert found.verified and [c.what for c in found.changes] == ["the source dataset alice/pairs"]
    local = provenance(miner, source={"path": "gone.parquet"}, mined=mined)
    push_dataset(mined, "alice/local", local)
    with pytest.raises(InputError, match=r"the source 'gone.parquet' was local data; pass it as Inputs\(dataset"):
        verify("alice/local")
    assert verify("alice/local", inputs=Inputs(dataset=make_pairs())).verified


def test_a_changed_query_is_found_though_it_changes_what_was_known(hub, pushed):
    def change(name, rows):
        if name == "train":
            rows[2]["query"] = "sun sun sun"
        return rows

    edit(hub, change)
    found = verify(REPO)
    assert {"the rows in the repository", "the known positives"} <= {c.what for c in found.changes}
    assert {(d.split, d.row) for d in found.differences} >= {("train", 2)}


def test_other_versions_are_noted_without_being_decisive(hub, teacher):
    pairs = make_pairs(6)
    miner = make_miner(pairs, teacher)
    mined = pairs.map(miner, batched=True)
    record = json.loads(provenance(miner, source={}, mined=mined).to_json())
    record["versions"]["numpy"] = "1.0.0"
    push_dataset(mined, REPO, type(provenance(miner, source={})).from_dict(record))
    (change,) = verify(REPO).changes
    assert (change.what, change.recorded, change.decisive) == ("the version of numpy", "1.0.0", False)


def test_prompts_and_a_shorter_length_are_made_again(hub, teacher, fresh_home):
    model = SentenceTransformer(teacher, device="cpu")
    model.max_seq_length = 2
    pairs = make_pairs(10)
    miner = make_miner(pairs, model, teacher_options={"query_prompt": "red "}, filters=["MarginPos(0.001)"])
    push_dataset(pairs.map(miner, batched=True), REPO, miner)
    found = verify(REPO)
    assert found.verified and found.changes == ()


def test_an_ensemble_of_different_kinds_is_made_again(hub, teacher, fresh_home):
    pairs = make_pairs(10)
    known = Qrels.from_dataset(pairs, "query", "positive")
    corpus = known.documents
    teachers = [
        BM25Teacher(corpus, stem=False),
        DenseTeacher(teacher, corpus, queries=known.queries),
        RandomTeacher(corpus, seed=3),
    ]
    miner = PositiveAwareMiner(
        corpus=corpus, teachers=teachers, known_positives=known, positive_column="positive", sampler="CrossSample()",
        num_negatives=2, keep=KEEP, filters=())  # fmt: skip
    mined = pairs.map(miner, batched=True)
    push_dataset(mined, REPO, miner)
    found = verify(REPO)
    assert found.verified and found.changes == ()


def test_the_command_says_it_and_exits_with_1(hub, pushed, capsys, tmp_path):
    assert main(["verify", REPO, "--rows", "6", "--quiet"]) == 0
    assert "6 of 24 rows" in capsys.readouterr().out

    def change(name, rows):
        rows[0]["negatives"] = rows[0]["negatives"][::-1]
        return rows

    edit(hub, change)
    with pytest.raises(SystemExit) as ended:
        main(["verify", REPO, "--output", str(tmp_path / "found.json"), "--quiet"])
    assert ended.value.code == 1 and "2 differ" in capsys.readouterr().out
    said = json.loads((tmp_path / "found.json").read_text())
    assert said["verified"] is said["rows_equal"] is False and {d["row"] for d in said["differences"]} == {0}


def test_repositories_without_a_record_or_without_access_say_so(hub, pushed):
    make_pairs(3).push_to_hub("alice/plain")
    with pytest.raises(InputError, match=r"alice/plain has no provenance.json"):
        verify("alice/plain")
    with pytest.raises(HubError, match=r"reading alice/none failed: there is no such repository"):
        remine("alice/none")
    HfApi().update_repo_settings(REPO, private=True, repo_type="dataset")
    with pytest.raises(HubError, match="the token may not see it"):
        verify(REPO, token="hf_bob")
    with pytest.raises(InputError, match="rows=0"):
        verify(REPO, 0)


@pytest.mark.parametrize("call", [("GET", "revision/"), ("HEAD", "parquet"), ("GET", "_lfs"), ("GET", "README.md")])
@pytest.mark.parametrize("action", ["status:503", "cut"])
def test_reading_survives_an_outage(hub, pushed, call, action):
    hub.fail(*call, action, times=2)
    assert verify(REPO, 3).verified


@pytest.mark.parametrize("name", ["./mined", "mined/", "../mined", "a/b/c", "mined folder"])
def test_a_folder_is_not_the_name_of_a_pushed_dataset(name):
    with pytest.raises(InputError, match="is not the name of a repository on the Hub"):
        verify(name)

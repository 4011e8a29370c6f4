"""push_dataset against the loopback Hub with the real clients: what is pushed comes back, and nobody's card is lost."""

from __future__ import annotations

import json
import logging
import re
import threading
from functools import partial
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import DatasetCard, HfApi

import hf_posmine
from hf_posmine import MiningSummary, push_dataset, verify
from hf_posmine.cli.main import main
from hf_posmine.core.errors import ColumnError, HubError, InputError
from hf_posmine.hub.card_values import About
from hf_posmine.hub.inputs import Inputs
from hf_posmine.mining.provenance import provenance, write_provenance
from hf_posmine.mining.record import MiningRecord
from tests.hub.mining import make_miner, make_pairs, make_splits

REPO = "alice/mined"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("hf_posmine.utils.retry.sleep", lambda _: None)


@pytest.fixture(scope="module")
def teacher(tiny_model_folder):
    return str(tiny_model_folder)


@pytest.fixture(scope="module")
def miner(teacher):
    return make_miner(make_splits(), teacher)


@pytest.fixture(scope="module")
def mined(miner):
    return make_splits().map(miner, batched=True)


def readme(hub, repo=REPO, revision="main") -> str:
    return hub.repo(repo).files(revision)["README.md"].decode()


def write_readme(text: str, repo=REPO) -> None:
    HfApi().upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo, repo_type="dataset")


# round trips


def test_splits_come_back_with_their_features_and_rows_also_streamed(hub, mined, miner):
    done = push_dataset(mined, REPO, miner, private=True)
    assert done.repo_id == REPO and done.url == f"{hub.url}/datasets/{REPO}"
    assert hub.repo(REPO).private and done.commit == hub.repo(REPO).at("main").oid
    loaded = load_dataset(REPO)
    assert set(loaded) == {"train", "test"}
    for name, split in mined.items():
        assert loaded[name].features == split.features
        assert loaded[name].to_list() == split.to_list()
        assert list(load_dataset(REPO, split=name, streaming=True)) == split.to_list()
    assert hub.unknown == [] and hub.repo(REPO).orphans() == set()


def test_everything_is_one_commit(hub, mined, miner):
    push_dataset(mined, REPO, miner)
    assert [c.title for c in hub.repo(REPO).log()] == ["Mined negatives: default", "initial commit"]
    assert set(hub.repo(REPO).files()) == {
        ".gitattributes", "README.md", "provenance.json", "figures/scores.png",
        "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet",
    }  # fmt: skip
    assert hub.repo(REPO).files()["figures/scores.png"].startswith(b"\x89PNG")


def test_large_splits_are_pushed_in_shards(hub, mined, miner, monkeypatch):
    monkeypatch.setattr("hf_posmine.hub.push.SHARD_BYTES", -(-mined["train"].data.nbytes // 3))
    push_dataset(mined, REPO, miner)
    shards = [path for path in hub.repo(REPO).files() if path.startswith("data/train-")]
    assert shards == [f"data/train-{number:05d}-of-00003.parquet" for number in range(3)]
    assert load_dataset(REPO, split="train").to_list() == mined["train"].to_list()
    monkeypatch.setattr("hf_posmine.hub.push.SHARD_BYTES", 500_000_000)
    push_dataset(mined, REPO, miner)  # fewer shards: the old ones must not be read along
    assert [p for p in hub.repo(REPO).files() if "train" in p] == ["data/train-00000-of-00001.parquet"]


def test_the_layouts_hold_the_same_rows(hub, mined, miner):
    push_dataset(mined, REPO, miner, variants=["n-tuple", "scored", "flag-embedding"])
    rows = {name: split.to_list() for name, split in mined.items()}
    full = [row for row in rows["train"] if len(row["negatives"]) == 2]
    assert load_dataset(REPO, "n-tuple", split="train").to_list() == [
        {
            "query": r["query"],
            "positive": r["positive"],
            "negative_1": r["negatives"][0],
            "negative_2": r["negatives"][1],
        }
        for r in full
    ]
    short = sum(len(row["negatives"]) < 2 for split in rows.values() for row in split)
    card = hub.repo(REPO).files()["README.md"].decode()
    assert short and card.count(f", without {short} with too few negatives |") == 2  # n-tuple and scores
    texts = {d["document_id"]: d["text"] for d in load_dataset(REPO, "documents", split="train")}
    queries = {q["query_id"]: q["text"] for q in load_dataset(REPO, "queries", split="train")}
    assert len(set(texts.values())) == len(texts) and len(set(queries.values())) == len(queries)
    for name in ("train", "test"):
        scored = load_dataset(REPO, "scores", split=name)
        wanted = [r for r in rows[name] if len(r["negatives"]) == 2]  # short rows are left out, as of n-tuples
        assert [queries[s["query_id"]] for s in scored] == [r["query"] for r in wanted]
        assert [[texts[d] for d in s["document_ids"]] for s in scored] == [
            [r["positive"], *r["negatives"]] for r in wanted
        ]
        assert [s["scores"] for s in scored] == [[r["positive_score"], *r["negatives_scores"]] for r in wanted]
    lines = hub.repo(REPO).files()["flag-embedding/train-00000-of-00001.jsonl"].decode().splitlines()
    first = json.loads(lines[0])
    assert (first["query"], first["pos"], first["neg"]) == (
        rows["train"][0]["query"], [rows["train"][0]["positive"]], rows["train"][0]["negatives"],
    )  # fmt: skip
    files = f"hf://datasets/{REPO}/flag-embedding/test-*.jsonl"
    tested = load_dataset("json", data_files=files, split="train")
    assert tested["neg"][:] == [r["negatives"] for r in rows["test"] if r["negatives"]]
    assert set(load_dataset(REPO)) == {"train", "test"}  # the rows are what comes without a configuration


def test_several_positives_get_no_score_that_is_not_theirs(hub, teacher):
    pairs = make_pairs(6)
    pairs = pairs.map(lambda r: {"positive": [r["positive"], r["positive"] + " sun"]})
    made = make_miner(pairs, teacher, filters=[])
    push_dataset(pairs.map(made, batched=True), REPO, made, variants=["flag-embedding"])
    line = hub.repo(REPO).files()["flag-embedding/train-00000-of-00001.jsonl"].splitlines()[0]
    assert set(json.loads(line)) == {"query", "pos", "neg"} and len(json.loads(line)["pos"]) == 2


def test_the_same_push_again_sends_and_commits_nothing(hub, mined, miner, monkeypatch):
    push_dataset(mined, REPO, miner, variants=["n-tuple"])
    before, sent = hub.snapshot(), len(hub.asked("PUT"))
    monkeypatch.setattr("hf_posmine.mining.provenance.now", lambda: "2031-01-01T00:00:00+00:00")
    push_dataset(mined, REPO, miner, variants=["n-tuple"])
    assert hub.snapshot() == before and len(hub.asked("PUT")) == sent


def test_rows_of_other_columns_replace_the_old_ones_with_their_features(hub, mined, miner):
    push_dataset(mined, REPO, miner)
    fewer = mined.remove_columns(["note", "negatives_ranks"])
    push_dataset(fewer, REPO, miner)
    loaded = load_dataset(REPO)
    assert loaded["test"].features == fewer["test"].features and loaded["test"].to_list() == fewer["test"].to_list()


def test_a_split_joins_those_of_the_same_recipe_and_no_others(hub, mined, miner, teacher):
    push_dataset(mined["train"], REPO, miner)
    push_dataset(DatasetDict(test=mined["test"]), REPO, miner)
    assert {n: s.to_list() for n, s in load_dataset(REPO).items()} == {n: s.to_list() for n, s in mined.items()}
    assert set(MiningRecord.from_json(hub.repo(REPO).files()["provenance.json"].decode()).rows) == {"train", "test"}
    other = make_miner(make_splits(), teacher, num_negatives=1)
    before = hub.snapshot()
    with pytest.raises(InputError, match="has the split 'test', which another recipe made"):
        push_dataset(make_splits()["train"].map(other, batched=True), REPO, other)
    with pytest.raises(InputError, match="keeps the split 'test' with the columns"):
        push_dataset(mined["train"].remove_columns("note"), REPO, miner)
    assert hub.snapshot() == before


def test_configurations_of_their_own_recipe_live_side_by_side(hub, mined, miner, teacher):
    push_dataset(mined, REPO, miner)
    other = make_miner(make_splits(), teacher, num_negatives=1)
    naive = make_splits().map(other, batched=True)
    push_dataset(naive, REPO, other, config_name="one", variants=["n-tuple"])
    assert load_dataset(REPO, "one", split="test").to_list() == naive["test"].to_list()
    assert load_dataset(REPO, "one-n-tuple", split="test").column_names == ["query", "positive", "negative_1"]
    assert load_dataset(REPO, split="test").to_list() == mined["test"].to_list()
    files = hub.repo(REPO).files()
    records = [MiningRecord.from_json(files[p].decode()) for p in ("provenance.json", "one/provenance.json")]
    assert [r.miner_fingerprint for r in records] == [miner.fingerprint, other.fingerprint]
    assert readme(hub).count("posmine:begin") == 2


def test_branches_and_pull_requests_leave_main_alone(hub, mined, miner):
    push_dataset(mined, REPO, miner)
    main = hub.repo(REPO).at("main").oid
    other = mined.remove_columns("note")
    push_dataset(other, REPO, miner, revision="next")
    proposed = push_dataset(other, REPO, miner, create_pr=True)
    again = push_dataset(other, REPO, miner, create_pr=True)
    assert proposed.url == again.url == f"{hub.url}/datasets/{REPO}/discussions/1"
    assert len(hub.repo(REPO).discussions) == 1 and hub.repo(REPO).at("main").oid == main
    for revision in ("next", "refs/pr/1"):
        assert load_dataset(REPO, revision=revision)["test"].to_list() == other["test"].to_list()


def test_a_saved_dataset_brings_its_record_along(hub, mined, miner, tmp_path):
    summary = MiningSummary.from_dataset(mined, 2)
    record = provenance(miner, source={"path": "pairs.parquet", "split": "train"}, summary=summary, mined=mined)
    mined.save_to_disk(str(tmp_path / "mined"))
    write_provenance(tmp_path / "mined" / "provenance.json", record)
    push_dataset(DatasetDict.load_from_disk(str(tmp_path / "mined")), REPO)
    assert hub.repo(REPO).files()["provenance.json"] == (tmp_path / "mined" / "provenance.json").read_bytes()


def test_the_source_on_the_hub_is_recorded_with_its_commit(hub, teacher):
    make_pairs().push_to_hub("alice/pairs", "small")
    pairs = load_dataset("alice/pairs", "small", split="train")
    made = make_miner(pairs, teacher)
    push_dataset(pairs.map(made, batched=True), REPO, made)
    record = MiningRecord.from_json(hub.repo(REPO).files()["provenance.json"].decode())
    assert record.source.path == "alice/pairs" and record.source.name == "small" and record.source.split == "train"
    assert record.source.revision == hub.repo("alice/pairs").at("main").oid
    assert DatasetCard.load(REPO).data.source_datasets == ["alice/pairs"]


# cards


def test_a_hand_written_card_keeps_every_character_and_its_metadata(hub, mined, miner):
    HfApi().create_repo(REPO, repo_type="dataset")
    text = "\n# Mine\n\nBy hand, with  two spaces\nand a | bar.\n"
    write_readme(f"---\nlicense: mit\nannotations_creators:\n- me\ntags:\n- dear\n---\n{text}")
    push_dataset(mined, REPO, miner, about=About(language="en"))
    push_dataset(mined.remove_columns("note"), REPO, miner)
    assert text in readme(hub)
    data = DatasetCard.load(REPO).data
    assert (data.license, data.annotations_creators, data.language, data.tags[0]) == ("mit", ["me"], ["en"], "dear")
    assert readme(hub).count("posmine:begin default") == 1


def test_words_around_the_generated_part_stay_and_the_part_follows_the_rows(hub, mined, miner):
    push_dataset(mined, REPO, miner)
    card = readme(hub)
    before, after = "# My title\n\nA paragraph of mine.\n", "\n## Thanks\n\nTo all.\n"
    start, end = card.index("<!-- posmine:begin"), card.index("<!-- posmine:end default -->") + 28
    head = card[: card.index("# mined")]
    write_readme(head + before + card[start:end] + after)
    push_dataset(mined["train"].select(range(3)), "alice/other", miner)  # another repository, not this one
    push_dataset(mined.remove_columns("note"), REPO, miner)
    now = readme(hub)
    assert before in now and now.endswith(after)
    assert "| `note` |" in card and "| `note` |" not in now


def test_a_card_without_metadata_is_kept_as_text(hub, mined, miner):
    HfApi().create_repo(REPO, repo_type="dataset")
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        write_readme("# Only words\n")
    push_dataset(mined, REPO, miner)
    assert "\n# Only words\n" in readme(hub)
    assert load_dataset(REPO, split="test").to_list() == mined["test"].to_list()


def test_the_snippets_of_the_card_run_in_turn(hub, mined, miner, monkeypatch):
    local = partial(verify, inputs=Inputs(allow_local=True))  # the teacher of this test is a local folder
    monkeypatch.setattr(hf_posmine, "verify", local)
    push_dataset(mined, REPO, miner, variants=["n-tuple", "flag-embedding"])
    snippets = re.findall(r"```python\n(.*?)```", readme(hub), re.DOTALL)
    assert len(snippets) == 4
    names: dict = {}
    exec(compile("\n".join(snippets), "README.md", "exec"), names)
    assert names["mined"].to_list() == mined["train"].to_list()
    assert names["ready"].column_names == ["query", "positive", "negative_1", "negative_2"]
    assert len(names["lines"]) == sum(map(bool, mined["train"]["negatives"]))


def test_the_command_pushes_what_mine_wrote(hub, mined, teacher, tmp_path, capsys):
    make_pairs().to_parquet(tmp_path / "pairs.parquet")
    mine = ["mine", str(tmp_path / "pairs.parquet"), "--teacher", teacher, "--num-negatives", "2", "--quiet"]
    for output in ("folder", "file.parquet", "lines.jsonl"):
        assert main([*mine, "--output", str(tmp_path / output)]) == 0
    for output, repo in (("folder", "alice/one"), ("file.parquet", "alice/two")):
        assert main(["push", str(tmp_path / output), repo, "--license", "mit", "--variants", "n-tuple", "--quiet"]) == 0
        assert f"Pushed to {hub.url}/datasets/{repo}" in capsys.readouterr().out
        assert DatasetCard.load(repo).data.license == "mit"
    one, two = (load_dataset(repo, split="train").to_list() for repo in ("alice/one", "alice/two"))
    assert one == two and len(one) == 24
    record = (tmp_path / "folder" / "provenance.json").read_bytes()
    assert hub.repo("alice/one").files()["provenance.json"] == record
    assert main(["push", str(tmp_path / "lines.jsonl"), "alice/three"]) == 2
    assert "json lines keep no types" in capsys.readouterr().err


def test_mining_for_a_push_without_a_login_ends_before_it_starts(hub, teacher, tmp_path, monkeypatch, capsys):
    make_pairs().to_parquet(tmp_path / "pairs.parquet")
    monkeypatch.delenv("HF_TOKEN")
    mine = ["mine", str(tmp_path / "pairs.parquet"), "--teacher", teacher, "--output", str(tmp_path / "out")]
    assert main([*mine, "--push-to-hub", REPO]) == 2
    assert "nobody is logged in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and hub.requests == []


# refusals, before anything is sent


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: DatasetDict(train=m["train"], test=m["test"].select([])), InputError, "split 'test' has no rows"),
        (lambda m: m["train"].select_columns(["query"]), ColumnError, "no column 'negatives'"),
        (lambda m: m["train"].to_iterable_dataset(), InputError, "is a IterableDataset"),
        (lambda m: DatasetDict(), InputError, "no splits"),
    ],
)
def test_what_could_not_be_loaded_is_refused(hub, mined, miner, change, error, message):
    with pytest.raises(error, match=message):
        push_dataset(change(mined), REPO, miner)
    assert hub.requests == []


def test_rows_without_a_record_or_with_that_of_others_are_refused(hub, mined, miner):
    with pytest.raises(InputError, match=r"no record of how these rows were mined; pass the miner"):
        push_dataset(Dataset.from_list(mined["train"].to_list()), REPO)
    record = provenance(miner, source={}, mined=mined["train"])
    with pytest.raises(InputError, match=r"of other rows: it has 16 in 'train', the dataset 5 in 'train'"):
        push_dataset(mined["train"].select(range(5)), REPO, record)
    with pytest.raises(InputError, match="variant 'triplets'"):
        push_dataset(mined, REPO, miner, variants=["triplets"])
    with pytest.raises(InputError, match="config_name='a b'"):
        push_dataset(mined, REPO, miner, config_name="a b")
    with pytest.raises(InputError, match="repo_id='a/b/c'"):
        push_dataset(mined, "a/b/c", miner)
    assert hub.requests == []


def test_layouts_that_need_scores_or_full_rows_say_so(hub, mined, miner, teacher):
    with pytest.raises(ColumnError, match=r"scores='teacher' needs the column 'positive_score'; mine with keep"):
        push_dataset(mined.remove_columns("positive_score"), REPO, miner, variants=["scored"])
    many = make_miner(make_splits(), teacher, num_negatives=500)
    with pytest.raises(InputError, match=r"'n-tuple' has no rows in split 'train'"):
        push_dataset(make_splits().map(many, batched=True), REPO, many, variants=["n-tuple"])
    assert hub.requests == []


def test_nobody_logged_in_is_said_at_once(hub, mined, miner, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"nobody is logged in to the Hub; log in with: hf auth login"):
        push_dataset(mined, REPO, miner)
    assert hub.requests == []


def test_a_private_push_never_lands_in_a_public_repository(hub, mined, miner):
    HfApi().create_repo(REPO, repo_type="dataset")
    before = hub.snapshot()
    with pytest.raises(HubError, match="exists and is public"):
        push_dataset(mined, REPO, miner, private=True)
    assert hub.snapshot() == before and hub.asked("PUT") == []


# others


def test_configurations_pushed_at_the_same_time_all_land(hub, teacher):
    pairs = make_pairs(8)
    made = {f"n{n}": make_miner(pairs, teacher, num_negatives=n) for n in (1, 2, 3, 4)}
    mined = {name: pairs.map(miner, batched=True) for name, miner in made.items()}
    failed = []

    def push(name: str) -> None:
        try:
            push_dataset(mined[name], REPO, made[name], config_name=name)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=push, args=(name,)) for name in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for name, rows in mined.items():
        assert load_dataset(REPO, name, split="train").to_list() == rows.to_list()
    assert readme(hub).count("posmine:begin") == 4


def test_no_token_is_ever_written_or_said(hub, mined, miner, caplog, capfd, tmp_path):
    secret = "hf_bobsTOKENabcdefghijklmnop"
    hub.tokens[secret] = "bob"
    try:
        caplog.set_level(logging.DEBUG)
        record = provenance(
            miner, source={"path": f"https://user:pass@host/{secret}"}, mined=mined,
            command=f"hf-posmine mine x --token {secret} --hub-token=abc; HF_TOKEN={secret} hf_alice",
        )  # fmt: skip
        push_dataset(mined, "bob/mined", record, token=secret)
        with pytest.raises(HubError) as refused:
            push_dataset(mined, REPO, record, token=secret)
        assert "may not" in str(refused.value)
        said = str(refused.value) + repr(refused.value) + caplog.text + "".join(capfd.readouterr())
        stored = b"".join(content for content in hub.repo("bob/mined").files().values())
        for held in (secret, "user:pass", "hf_alice", "=abc"):
            assert held not in said and held.encode() not in stored
    finally:
        del hub.tokens[secret]
    assert Path.home().as_posix() not in record.to_json() or Path.home() == Path("/")


# the page about the rows


def test_a_report_is_pushed_beside_the_rows_and_linked_from_the_card(hub, mined, miner):
    push_dataset(mined, REPO, miner)
    record = hub.repo(REPO).files()["provenance.json"]
    rows = hub.repo(REPO).files()["data/train-00000-of-00001.parquet"]
    push_dataset(mined, REPO, miner, report=True)
    files = hub.repo(REPO).files()
    assert files["provenance.json"] == record and files["data/train-00000-of-00001.parquet"] == rows
    assert "(report.html)" in readme(hub) and b"24 rows" in files["report.html"]
    commits = len(hub.repo(REPO).log())
    push_dataset(mined, REPO, miner, report=True)
    assert len(hub.repo(REPO).log()) == commits
    assert load_dataset(REPO, split="train").to_list() == mined["train"].to_list()


def test_a_report_of_other_rows_does_not_stay(hub, mined, miner):
    push_dataset(mined, REPO, miner, report=True)
    push_dataset(mined, REPO, miner, config_name="two", report=True)
    push_dataset(mined, REPO, miner)
    assert {name for name in hub.repo(REPO).files() if name.endswith("html")} == {"two/report.html"}
    assert "(report.html)" not in readme(hub) and "(two/report.html)" in readme(hub)


def test_a_report_that_somebody_else_put_there_stays(hub, mined, miner):
    push_dataset(mined, REPO, miner)
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="report.html", repo_id=REPO, repo_type="dataset")
    push_dataset(mined, REPO, miner, config_name="default")
    assert hub.repo(REPO).files()["report.html"] == b"mine"

"""The loopback Hub against the real clients: what they push comes back, and every ordered failure reaches them."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import httpx2
import numpy as np
import pytest
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    DatasetCard,
    DatasetCardData,
    HfApi,
    HfFileSystem,
    ModelCard,
    constants,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.faults import Fault
from tests.hub.loopback import running

LARGE = bytes(range(256)) * 400  # NUL bytes inside: kept as LFS whatever it is called


def make_splits() -> DatasetDict:
    rows = {"query": ["a", "b", "c"], "negatives": [["x", "y"], [], ["z"]], "scores": [[0.5, 0.25], [], [0.125]]}
    return DatasetDict(train=Dataset.from_dict(rows), test=Dataset.from_dict(rows).select([2, 0]))


@pytest.fixture
def api() -> HfApi:
    return HfApi()


@pytest.fixture
def model_repo(hub, api):
    """An empty model repository of alice."""
    api.create_repo("alice/m")
    return hub.repo("alice/m", "models")


def commit(api: HfApi, files: dict[str, bytes], repo_id: str = "alice/m", **options: object):
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo_id, operations, commit_message="add", **options)


# the suite stays offline


def test_outside_the_fixture_nothing_is_asked_of_any_hub():
    before = list(running().requests)
    for ask in (lambda: HfApi().whoami(token="hf_alice"), lambda: load_dataset("alice/none")):
        with pytest.raises(ConnectionError, match=r"[Oo]ffline"):
            ask()
    assert running().requests == before


def test_a_push_and_a_load_reach_no_other_host(hub, monkeypatch, tmp_path):
    asked, find = set(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: asked.add(host) or find(host, *a, **k))
    make_splits().push_to_hub("alice/mined")
    load_dataset("alice/mined", cache_dir=tmp_path)
    assert asked == {"127.0.0.1", "localhost"}
    assert hub.unknown == []


def test_a_subprocess_finds_the_same_hub_and_user(hub):
    code = "from huggingface_hub import HfApi; HfApi().create_repo('made'); print(HfApi().whoami()['name'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), list(hub.repos)) == ("alice", [("models", "alice/made")])


@pytest.mark.parametrize("number", [1, 2])
def test_no_test_sees_what_another_left(hub, model_repo, api, number):
    assert (hub.faults, len(hub.asked("GET")), len(model_repo.commits)) == ([], 0, 1)
    assert try_to_load_from_cache("alice/m", f"{number - 1}.txt") is None
    commit(api, {f"{number}.txt": b"x"})
    assert HfFileSystem().ls("alice/m", detail=False) == ["alice/m/.gitattributes", f"alice/m/{number}.txt"]
    hf_hub_download("alice/m", f"{number}.txt")
    hub.fail("GET", "never", "cut")


# datasets


def test_a_private_dataset_comes_back_with_its_splits_features_and_rows(hub):
    pushed = make_splits()
    pushed.push_to_hub("alice/mined", private=True)
    loaded = load_dataset("alice/mined")
    assert {split: rows.features for split, rows in loaded.items()} == {s: r.features for s, r in pushed.items()}
    assert {split: rows.to_list() for split, rows in loaded.items()} == {s: r.to_list() for s, r in pushed.items()}
    streamed = load_dataset("alice/mined", split="train", streaming=True)
    assert list(streamed) == pushed["train"].to_list()
    assert hub.repo("alice/mined").private
    assert hub.repo("alice/mined").orphans() == set()


def test_a_second_config_is_added_beside_the_first(hub):
    pushed = make_splits()
    pushed["train"].push_to_hub("alice/mined")
    ids = Dataset.from_dict({"query_id": [1, 2]})
    ids.push_to_hub("alice/mined", "ids")
    assert load_dataset("alice/mined", "ids", split="train").to_list() == ids.to_list()
    assert load_dataset("alice/mined", "default", split="train").to_list() == pushed["train"].to_list()


def test_the_same_push_again_makes_no_commit_and_sends_no_file(hub):
    make_splits().push_to_hub("alice/mined")
    before, sent = hub.snapshot(), len(hub.asked("PUT"))
    assert sent == 2
    make_splits().push_to_hub("alice/mined")
    assert hub.snapshot() == before
    assert len(hub.asked("PUT")) == sent


def test_the_body_and_the_custom_keys_of_a_dataset_card_survive_the_next_push(hub):
    make_splits().push_to_hub("alice/mined")
    card = DatasetCard.load("alice/mined")
    card.data = DatasetCardData(**card.data.to_dict() | {"license": "mit", "posmine": {"filters": "PercPos(0.95)"}})
    DatasetCard(f"---\n{card.data}\n---\n\n# Mined by hand\n").push_to_hub("alice/mined", repo_type="dataset")
    Dataset.from_dict({"query_id": [1]}).push_to_hub("alice/mined", "ids")
    readme = hub.repo("alice/mined").files()["README.md"].decode()
    assert "# Mined by hand" in readme
    assert HfApi().dataset_info("alice/mined").card_data.posmine == {"filters": "PercPos(0.95)"}
    assert set(load_dataset("alice/mined")) == {"train", "test"}


def test_rows_on_a_branch_leave_main_alone(hub, api):
    make_splits()["train"].push_to_hub("alice/mined")
    other = make_splits()["test"]
    other.push_to_hub("alice/mined", revision="second")
    assert load_dataset("alice/mined", revision="second", split="train").to_list() == other.to_list()
    assert load_dataset("alice/mined", split="train").to_list() == make_splits()["train"].to_list()
    assert {branch.name for branch in api.list_repo_refs("alice/mined", repo_type="dataset").branches} == {
        "main",
        "second",
    }


def test_a_dataset_proposed_as_a_pull_request_is_on_main_only_once_merged(hub, api, tmp_path):
    api.create_repo("alice/mined", repo_type="dataset")
    main = hub.repo("alice/mined").at("main").oid
    pull = make_splits()["train"].push_to_hub("alice/mined", create_pr=True)
    assert pull.pr_revision == "refs/pr/1"
    assert hub.repo("alice/mined").at("main").oid == main
    assert load_dataset("alice/mined", revision="refs/pr/1", split="train").num_rows == 3
    api.merge_pull_request("alice/mined", 1, repo_type="dataset")
    assert api.get_discussion_details("alice/mined", 1, repo_type="dataset").status == "merged"
    # a cache of its own: with an empty repository, load_dataset would fall back to the rows it read from refs/pr/1
    merged = load_dataset("alice/mined", split="train", cache_dir=tmp_path / "fresh")
    assert merged.to_list() == make_splits()["train"].to_list()


# models


def test_a_pushed_model_encodes_bit_for_bit_alike(hub, tiny_model_folder):
    from sentence_transformers import SentenceTransformer

    local = SentenceTransformer(str(tiny_model_folder), device="cpu")
    local.push_to_hub("alice/retriever", private=True)
    local.push_to_hub("alice/retriever", revision="second", exist_ok=True)
    texts = ["red cat", "blue moon fox", "sun"]
    for revision in (None, "second"):
        loaded = SentenceTransformer("alice/retriever", revision=revision, device="cpu")
        np.testing.assert_array_equal(loaded.encode(texts), local.encode(texts))
    assert ModelCard.load("alice/retriever").data.library_name == "sentence-transformers"
    assert HfApi().model_info("alice/retriever").pipeline_tag == "sentence-similarity"
    assert hub.unknown == []


# commits, trees, refs


def test_a_tree_lists_what_was_committed_with_gits_own_ids(model_repo, api):
    made = commit(api, {"notes/a.txt": b"hello\n", "notes/deep/b.txt": b"b", "big.bin": LARGE})
    tree = {entry.path: entry for entry in api.list_repo_tree("alice/m", recursive=True, expand=True)}
    assert set(tree) == {".gitattributes", "notes", "notes/a.txt", "notes/deep", "notes/deep/b.txt", "big.bin"}
    assert (
        tree["notes/a.txt"].blob_id == "ce013625030ba8dba906f756967f9e9ca394464a"
    )  # printf 'hello\n' | git hash-object
    assert (tree["big.bin"].lfs.size, tree["notes/a.txt"].lfs) == (len(LARGE), None)
    assert tree["big.bin"].last_commit.oid == made.oid != tree[".gitattributes"].last_commit.oid
    assert [entry.path for entry in api.list_repo_tree("alice/m", "notes")] == ["notes/a.txt", "notes/deep"]
    assert [entry.path for entry in api.get_paths_info("alice/m", ["big.bin", "none", "notes"])] == ["big.bin", "notes"]
    sizes = {file.rfilename: file.size for file in api.model_info("alice/m", files_metadata=True).siblings}
    assert sizes["big.bin"] == len(LARGE)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("alice/m", "nowhere"))


def test_files_are_copied_and_deleted_in_one_commit(model_repo, api):
    commit(api, {"a.txt": b"a", "big.bin": LARGE, "old/1.txt": b"1", "old/2.txt": b"2"})
    operations = [
        CommitOperationCopy("a.txt", "b.txt"),
        CommitOperationCopy("big.bin", "copy.bin"),
        CommitOperationDelete("old/"),
        CommitOperationDelete("a.txt"),
    ]
    api.create_commit("alice/m", operations, commit_message="tidy")
    files = model_repo.files()
    assert set(files) == {".gitattributes", "big.bin", "copy.bin", "b.txt"}
    assert (files["b.txt"], files["copy.bin"]) == (b"a", LARGE)
    assert [item.title for item in api.list_repo_commits("alice/m")] == ["tidy", "add", "initial commit"]
    with pytest.raises(EntryNotFoundError):
        api.delete_file("a.txt", "alice/m")


def test_a_commit_on_a_stale_parent_is_refused_and_changes_nothing(hub, model_repo, api):
    parent = model_repo.at("main").oid
    commit(api, {"first.txt": b"1"}, parent_commit=parent)
    before = hub.snapshot()
    with pytest.raises(HfHubHTTPError) as caught:
        commit(api, {"second.txt": b"2"}, parent_commit=parent)
    assert caught.value.response.status_code == 412
    assert hub.snapshot() == before


def test_of_many_commits_on_one_parent_exactly_one_lands(hub, model_repo, api):
    parent, lost = model_repo.at("main").oid, []

    def push(number: int) -> None:
        try:
            commit(api, {f"{number}.txt": b"x"}, parent_commit=parent)
        except HfHubHTTPError as error:
            lost.append(error.response.status_code)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == [412] * 7
    assert len(model_repo.log()) == 2


def test_branches_and_tags_keep_their_commit(model_repo, api):
    commit(api, {"a.txt": b"1"})
    api.create_tag("alice/m", tag="v1")
    api.create_branch("alice/m", branch="next/one", revision="v1")
    commit(api, {"a.txt": b"2"}, revision="next/one")
    commit(api, {"a.txt": b"3"})
    found = {name: Path(hf_hub_download("alice/m", "a.txt", revision=name)).read_bytes() for name in ("v1", "next/one")}
    assert found == {"v1": b"1", "next/one": b"2"}
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch("alice/m", branch="next/one")
    with pytest.raises(HfHubHTTPError, match="not a branch"):
        commit(api, {"a.txt": b"4"}, revision="v1")
    api.delete_tag("alice/m", tag="v1")
    api.delete_branch("alice/m", branch="next/one")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("alice/m", revision="v1")
    assert set(model_repo.refs) == {"refs/heads/main"}


def test_a_pull_request_that_conflicts_is_not_merged(model_repo, api):
    commit(api, {"a.txt": b"1", "b.txt": b"1"})
    pull = commit(api, {"a.txt": b"theirs"}, create_pr=True)
    commit(api, {"a.txt": b"more of theirs"}, revision=pull.pr_revision)
    commit(api, {"b.txt": b"mine"})
    other = commit(api, {"b.txt": b"theirs"}, create_pr=True, parent_commit=model_repo.log()[1].oid)
    api.merge_pull_request("alice/m", pull.pr_num)
    assert (model_repo.files()["a.txt"], model_repo.files()["b.txt"]) == (b"more of theirs", b"mine")
    with pytest.raises(HfHubHTTPError, match=r"conflicts with refs/heads/main: b\.txt"):
        api.merge_pull_request("alice/m", other.pr_num)
    assert [(d.num, d.status) for d in api.get_repo_discussions("alice/m")] == [(1, "merged"), (2, "open")]
    api.change_discussion_status("alice/m", other.pr_num, "closed")
    api.comment_discussion("alice/m", other.pr_num, "too late")
    details = api.get_discussion_details("alice/m", other.pr_num)
    assert (details.status, details.events[-1].content, details.git_reference) == ("closed", "too late", "refs/pr/2")


def test_a_card_with_broken_metadata_is_refused_before_anything_is_sent(hub, model_repo, api):
    before = hub.snapshot()
    for readme, message in [(b"---\na: [\n---\n", "Invalid YAML"), (b"---\nbase_model: /a/b/c\n---\n", "base_model")]:
        with pytest.raises(ValueError, match=message):
            commit(api, {"big.bin": LARGE, "README.md": readme})
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        commit(api, {"README.md": b"no metadata\n"})
    assert hub.asked("PUT") == []
    assert hub.snapshot() != before


# who may do what


def test_a_private_repository_does_not_exist_for_others(hub, api):
    api.create_repo("alice/secret", private=True)
    commit(api, {"a.txt": b"1"}, "alice/secret")
    assert api.whoami()["name"] == "alice"
    for token, status in [("hf_bob", 404), (False, 401)]:
        with pytest.raises(RepositoryNotFoundError) as caught:
            api.model_info("alice/secret", token=token)
        assert caught.value.response.status_code == status
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("alice/secret", "a.txt", token=token)
    with pytest.raises(RepositoryNotFoundError):
        commit(api, {"b.txt": b"1"}, "alice/secret", token="hf_bob")
    with pytest.raises(HfHubHTTPError, match="401"):
        api.model_info("alice/secret", token="hf_nobody")
    api.update_repo_settings("alice/secret", private=False)
    assert api.model_info("alice/secret", token=False).private is False


def test_only_the_owner_with_a_writing_token_writes_and_others_may_propose(hub, model_repo, api):
    before = hub.snapshot()
    for token in ("hf_bob", "hf_alice_read"):
        with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
            commit(api, {"a.txt": b"1"}, token=token)
    with pytest.raises(HfHubHTTPError, match="401"):
        commit(api, {"a.txt": b"1"}, token=False)
    with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
        api.create_repo("alice/new", token="hf_bob")
    with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
        api.delete_repo("alice/m", token="hf_bob")
    assert hub.snapshot() == before
    pull = commit(api, {"big.bin": LARGE}, create_pr=True, token="hf_bob")
    commit(api, {"a.txt": b"1"}, revision=pull.pr_revision, token="hf_bob")
    assert set(model_repo.files("refs/pr/1")) == {".gitattributes", "big.bin", "a.txt"}
    with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
        api.merge_pull_request("alice/m", 1, token="hf_bob")
    assert "hf_" not in repr(hub.requests)


def test_a_repository_is_created_once_and_can_be_deleted(hub, model_repo, api):
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("alice/m")
    assert api.create_repo("alice/m", exist_ok=True).repo_id == "alice/m"
    assert (api.repo_exists("alice/m"), api.file_exists("alice/m", "README.md")) == (True, False)
    api.delete_repo("alice/m")
    assert not api.repo_exists("alice/m")


def test_the_storage_host_takes_only_signed_links_and_the_right_content(hub, model_repo, api, monkeypatch):
    commit(api, {"big.bin": LARGE})
    link = httpx2.head(f"{hub.url}/alice/m/resolve/main/big.bin").headers["Location"]
    assert link.startswith("http://localhost:")
    assert httpx2.get(link).content == LARGE
    assert httpx2.get(link, headers={"Authorization": "Bearer hf_alice"}).status_code == 400
    assert httpx2.get(link[:-1] + "x").status_code == 403
    upload = hub.signed("PUT", model_repo, "0" * 64)
    answer = httpx2.put(upload, content=b"something else")
    assert (answer.status_code, "sha256" in answer.text) == (400, True)
    assert "0" * 64 not in model_repo.lfs


# downloads


@pytest.mark.parametrize("path", ["a.txt", "big.bin"], ids=["regular", "lfs"])
def test_byte_ranges_are_those_of_the_content(hub, model_repo, api, path):
    content = {"a.txt": b"0123456789", "big.bin": LARGE}[path]
    commit(api, {path: content})
    end = len(content) - 1
    for wanted, part in {
        "0-3": content[:4],
        "5-": content[5:],
        "-2": content[-2:],
        f"{end}-{end + 9}": content[-1:],
    }.items():
        request = urllib.request.Request(f"{hub.url}/alice/m/resolve/main/{path}", headers={"Range": f"bytes={wanted}"})
        with urllib.request.urlopen(request) as answer:
            assert (answer.status, answer.read()) == (206, part)
    beyond = httpx2.get(f"{hub.url}/alice/m/resolve/main/a.txt", headers={"Range": "bytes=10-"})
    assert beyond.status_code == (416 if path == "a.txt" else 404)


def test_a_download_that_breaks_off_is_resumed_where_it_was(hub, model_repo, api, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # what is resumed is whole chunks, of 10 MB otherwise
    commit(api, {"big.bin": LARGE})
    fault = hub.fail("GET", "_lfs", "truncate:1000", times=2)
    assert Path(hf_hub_download("alice/m", "big.bin")).read_bytes() == LARGE
    assert fault.hits == 2
    assert [exchange.status for exchange in hub.asked("GET", "_lfs")] == [200, 206, 206]


# failures


def test_a_storage_that_fails_for_a_while_is_asked_again(hub, model_repo, api):
    for number, action in enumerate(["status:503", "status:429", "cut", "cut_after:1000", "lose_response"]):
        fault = hub.fail("PUT", "_lfs", action, times=2)
        commit(api, {f"{number}.bin": LARGE + bytes([number])})
        assert fault.hits == 2, action
    assert len(model_repo.files()) == 6
    assert model_repo.orphans() == set()


@pytest.mark.parametrize("action", ["no_space", "status:403"])
def test_a_storage_that_refuses_leaves_no_commit(hub, model_repo, api, action):
    hub.fail("PUT", "_lfs", action, times=None, after=1)
    before = hub.snapshot()
    with pytest.raises(RuntimeError, match="Error while uploading"):
        commit(api, {f"{number}.bin": LARGE + bytes([number]) for number in range(3)}, num_threads=1)
    assert hub.snapshot() == before
    assert len(model_repo.orphans()) == 1


@pytest.mark.parametrize(
    ("action", "applied", "error"),
    [
        ("status:503", False, HfHubHTTPError),
        ("status:412", False, HfHubHTTPError),
        ("cut", False, httpx2.NetworkError),
        ("cut_after:10", False, httpx2.TransportError),  # which one depends on how far the client has written
        ("lose_response", True, httpx2.NetworkError),
        ("truncate:5", True, httpx2.RemoteProtocolError),
        ("truncate_rst:5", True, httpx2.NetworkError),
    ],
)
def test_a_commit_that_fails_is_applied_or_not_as_ordered(hub, model_repo, api, action, applied, error):
    fault = hub.fail("POST", "/commit/main", action)
    with pytest.raises(error):
        commit(api, {"a.txt": b"1"})
    assert ("a.txt" in model_repo.files(), fault.hits) == (applied, 1)
    commit(api, {"a.txt": b"1"})
    assert len(model_repo.log()) == 2


def test_a_slow_answer_runs_into_the_clients_time_limit(hub, model_repo):
    hub.fail("GET", "/api/models", "sleep:0.3")
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.get(f"{hub.url}/api/models/alice/m", timeout=0.05)
    assert httpx2.get(f"{hub.url}/api/models/alice/m", timeout=5).status_code == 200


def test_a_fault_counts_and_waits_for_its_turn_and_a_typing_error_is_no_fault(hub, model_repo):
    fault = hub.fail("GET", "refs", "status:500", times=1, after=1)
    statuses = [httpx2.get(f"{hub.url}/api/models/alice/m/refs").status_code for _ in range(3)]
    assert (statuses, fault.seen, fault.hits) == ([200, 500, 200], 3, 1)
    assert [exchange.fault for exchange in hub.asked("GET", "refs")] == [None, "status:500", None]
    with pytest.raises(ValueError, match="no fault is called 'status503'"):
        Fault("GET", "refs", "status503")


def test_what_the_hub_does_not_know_is_not_found_and_noted(hub):
    assert httpx2.get(f"{hub.url}/api/spaces/alice/s").status_code == 404
    assert hub.unknown == ["GET /api/spaces/alice/s"]

"""``remine`` and ``verify`` with every kind of teacher, from the record and from what the user gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset
from huggingface_hub import HfApi
from sentence_transformers import SentenceTransformer

from hf_posmine import DenseTeacher, PositiveAwareMiner, Qrels, mine, push_dataset, remine, verify
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.hub.inputs import Inputs
from hf_posmine.mining import SecondOpinion
from hf_posmine.teachers import RunTeacher, VectorTeacher, make_teacher
from hf_posmine.teachers.spellings import Cross, Dense, Endpoint, RunFile, VectorFiles
from tests.hub.mining import KEEP
from tests.support import services, tiny

REPO = "alice/mined"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("hf_posmine.utils.retry.sleep", lambda _: None)
    monkeypatch.setattr("hf_posmine.hub.push.score_histogram", lambda _: None)


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    words = tiny.WORDS[:12]
    return Dataset.from_dict(
        {"query": words, "positive": [f"{a} {b}" for a, b in zip(words, words[1:] + words[:1], strict=True)]}
    )


@pytest.fixture
def known(pairs) -> Qrels:
    return Qrels.from_dataset(pairs, "query", "positive")


def push_model_folder(folder, repo: str) -> str:
    HfApi().create_repo(repo, exist_ok=True)
    HfApi().upload_folder(repo_id=repo, folder_path=str(folder))
    return repo


def push_mined(pairs, known, teachers, **options):
    options = {"num_negatives": 2, "keep": KEEP, "positive_column": "positive"} | options
    miner = PositiveAwareMiner(
        corpus=known.documents, teachers=teachers, known_positives=known, **{"filters": (), **options}
    )
    mined = pairs.map(miner, batched=True)
    push_dataset(mined, REPO, miner)
    return mined


def recorded(hub) -> dict:
    return json.loads(hub.repo(REPO).files("main")["provenance.json"])


def assert_again(mined, inputs: Inputs | None = None) -> None:
    found = verify(REPO, inputs=inputs)
    assert found.verified and found.changes == (), str(found)
    assert remine(REPO, inputs=inputs)["train"].to_list() == mined.to_list()


@pytest.mark.parametrize("kind", ["sparse", "late", "cross", "dense"])
def test_models_of_the_hub_come_again_at_their_commit(kind, hub, pairs, known, tmp_path, fresh_home):
    folder = {"dense": tiny.static}.get(kind, getattr(tiny, kind if kind != "dense" else "static"))(tmp_path / kind)
    repo = push_model_folder(folder, f"alice/{kind}")
    name = {"dense": f"Dense({repo!r}, query_prompt='red ')"}.get(kind, f"{kind}:{repo}")
    mined = push_mined(pairs, known, make_teacher(name, known.documents, queries=known.queries))
    commit = hub.repo(repo, "models").at("main").oid
    assert f"revision='{commit}'" in recorded(hub)["teachers"][0]["spelling"]
    assert_again(mined)


@pytest.mark.parametrize("name", ["BM25('german', k1=0.9)", "bm25", "Random(9)"])
def test_teachers_without_a_model_come_again(name, hub, pairs, known):
    assert_again(push_mined(pairs, known, make_teacher(name, known.documents)))


def test_a_run_file_has_to_be_given_and_another_one_is_noticed(hub, pairs, known, tmp_path):
    rng, size = np.random.default_rng(0), len(pairs)
    lines = [f"q{q} Q0 {d} 0 {s:.3f} t" for q in range(size) for d, s in enumerate(rng.random(size))]
    (tmp_path / "run.trec").write_text("\n".join(lines))
    rows = [json.dumps({"_id": f"q{i}", "text": text}) for i, text in enumerate(pairs["query"])]
    (tmp_path / "queries.jsonl").write_text("\n".join(rows))
    spec = RunFile(str(tmp_path / "run.trec"), str(tmp_path / "queries.jsonl"))
    mined = push_mined(pairs, known, make_teacher(spec, known.documents))
    with pytest.raises(InputError, match="was made from local files; pass it as Inputs"):
        verify(REPO)  # though the file is still where the record says
    assert_again(mined, Inputs(teacher=spec))
    given = f"Run('{spec.file}', queries='{spec.queries}')"
    assert main(["verify", REPO, "--teacher", given, "--quiet"]) == 0
    (tmp_path / "run.trec").write_text(
        "\n".join(lines[:-size]) + "\n" + "\n".join(lines[-size:][::-1]).replace("0.", "1.")
    )
    found = verify(REPO, inputs=Inputs(teacher=given))
    assert [change.what for change in found.changes] == ["the teacher run"]


def test_an_update_comes_again_from_its_record(hub, pairs, known, tmp_path):
    def miner_of(rows):
        known = Qrels.from_dataset(rows, "query", "positive")
        rng = np.random.default_rng(1)
        vectors, asked = rng.random((12, 4), np.float32)[: len(rows)], rng.random((12, 4), np.float32)[: len(rows)]
        teacher = VectorTeacher(known.documents, vectors, rows["query"], asked, similarity="dot")
        return PositiveAwareMiner.from_dataset(rows, teacher, filters=(), num_negatives=2, keep=KEEP)

    before = pairs.select(range(10))
    earlier = mine(before, miner_of(before), work_dir=tmp_path / "a")
    miner = miner_of(pairs)
    mined = mine(pairs, miner, work_dir=tmp_path / "b", since=earlier)
    push_dataset(mined, REPO, miner)
    assert recorded(hub)["update"]["documents_added"] == 2
    assert_again(mined, Inputs(teacher=miner.teachers[0]))


def test_vectors_have_to_be_given_as_files_or_as_a_teacher(hub, pairs, known, tmp_path):
    rng = np.random.default_rng(1)
    arrays = {"documents": rng.random((12, 4), np.float32), "queries": rng.random((12, 4), np.float32)}
    np.savez(tmp_path / "v.npz", query_texts=pairs["query"], **arrays)
    spec = VectorFiles(str(tmp_path / "v.npz"), "dot")
    mined = push_mined(pairs, known, make_teacher(spec, known.documents))
    with pytest.raises(InputError, match="was made from local files"):
        remine(REPO)
    (tmp_path / "v.npz").rename(tmp_path / "moved.npz")
    assert_again(mined, Inputs(teacher=f"Vectors('{tmp_path / 'moved.npz'}')"))  # its similarity is the recorded one
    texts, queries = list(pairs["query"]), arrays["queries"]
    ready = VectorTeacher(known.documents, arrays["documents"], texts, queries, similarity="dot")
    assert verify(REPO, inputs=Inputs(teacher=ready)).verified


def test_teachers_made_in_memory_have_to_be_given(hub, pairs, known):
    lines = [(text, str(d), float(d * q % 7)) for q, text in enumerate(pairs["query"]) for d in range(12)]
    run = RunTeacher(known.documents, {text: text for text in pairs["query"]}, lines)
    mined = push_mined(pairs, known, run)
    with pytest.raises(
        InputError, match=r"does not say how to make the teacher 'run', of the kind 'run'; pass it as Inputs"
    ):
        verify(REPO)
    assert_again(mined, Inputs(teacher=run))


def test_a_service_is_called_only_if_the_user_names_it(hub, pairs, known, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "secret")
    service = services.start()
    spec = Endpoint(service.openai.url, service.openai.model, fingerprint="toy")
    options = {"queries": known.queries, "store": tmp_path / "first", "api_key_env": "TOY_KEY"}
    mined = push_mined(pairs, known, make_teacher(spec, known.documents, **options))
    assert "TOY_KEY" not in json.dumps(recorded(hub))
    service.requests.clear()
    with pytest.raises(InputError, match="is a service, which is called only if you name it"):
        verify(REPO)
    assert service.requests == []
    assert_again(mined, Inputs(teacher=f"{spec.url}#{spec.model}"))


def test_a_local_model_has_to_be_given_also_where_a_record_claims_a_commit(hub, pairs, known, tmp_path, fresh_home):
    folder = str(tiny.static(tmp_path / "static"))
    mined = push_mined(pairs, known, make_teacher(folder, known.documents, queries=known.queries))
    with pytest.raises(InputError, match="without a commit of the Hub; pass it as Inputs"):
        verify(REPO)
    assert_again(mined, Inputs(teacher=folder))
    assert_again(mined, Inputs(allow_local=True))
    forged = recorded(hub)
    forged["teachers"][0] |= {"commit": "0" * 40, "spelling": repr(Dense(folder, revision="0" * 40))}
    upload = {"path_in_repo": "provenance.json", "repo_id": REPO, "repo_type": "dataset"}
    HfApi().upload_file(path_or_fileobj=json.dumps(forged).encode(), **upload)
    with pytest.raises(InputError, match="which is not a Hub id at a commit"):
        verify(REPO)


def test_of_several_teachers_those_that_have_to_be_given_are_given_in_order(hub, pairs, known, tmp_path, fresh_home):
    one, cross = str(tiny.static(tmp_path / "one")), str(tiny.cross(tmp_path / "cross"))
    teachers = [make_teacher("bm25", known.documents), make_teacher(one, known.documents)]
    two = SentenceTransformer(one, device="cpu")
    two[0].embedding.weight.data *= -1
    teachers.append(DenseTeacher(two, known.documents))
    opinion = SecondOpinion(Cross(cross), "MaxScore(1.0)", depth=8)
    mined = push_mined(pairs, known, teachers, sampler="CrossSample()", second_opinion=opinion)
    with pytest.raises(InputError, match=r"cross' without a commit of the Hub"):
        verify(REPO, inputs=Inputs(teacher=[one, two]))
    with pytest.raises(
        InputError, match=r"4 teachers are given in the place of recorded ones; those to replace are: .*cross"
    ):
        verify(REPO, inputs=Inputs(teacher=[one, two, cross, "bm25"]))
    assert_again(mined, Inputs(teacher=[one, two, cross]))


def test_the_tokenizer_of_a_lexical_teacher_comes_from_its_recorded_commit(hub, pairs, known, tmp_path, fresh_home):
    def push_tokenizer(words):
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        backend = Tokenizer(
            models.WordLevel({word: at for at, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]")
        )
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]").save_pretrained(str(tmp_path / "words"))
        return push_model_folder(tmp_path / "words", "alice/words")

    teacher = f"BM25(tokenizer={push_tokenizer(tiny.WORDS)!r})"
    mined = push_mined(pairs, known, make_teacher(teacher, known.documents))
    commit = hub.repo("alice/words", "models").at("main").oid
    assert f"revision='{commit}'" in recorded(hub)["teachers"][0]["spelling"]
    push_tokenizer(tiny.WORDS[:3])  # fewer words are known now
    assert remine(REPO)["train"]["negatives"][:] == mined["negatives"][:]
    assert verify(REPO).verified

"""A record from elsewhere reaches Hub repositories at a commit, and no file of this machine."""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pytest
from datasets import Audio, Dataset, DatasetInfo, Features, Image, Value, Video
from huggingface_hub import HfApi, metadata_update

from hf_posmine import Corpus, PositiveAwareMiner, Qrels, push_dataset, remine, verify
from hf_posmine.core.errors import InputError, PosmineError
from hf_posmine.hub.inputs import Inputs
from hf_posmine.hub.reach import check_media, check_model, load_hub_dataset
from hf_posmine.mining.provenance import provenance
from hf_posmine.mining.record import Source
from hf_posmine.teachers import RandomTeacher
from tests.hub.mining import make_pairs

REPO, SECRET = "alice/mined", "the private diary of the victim"
HEX = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def victim(tmp_path, monkeypatch):
    """A folder with a private file, in which the commands run."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "diary.json").write_text(json.dumps({"text": SECRET}) + "\n")
    (folder / "more.parquet").write_bytes(b"")
    Dataset.from_dict({"text": [SECRET]}).to_parquet(folder / "more.parquet")
    monkeypatch.chdir(folder)
    return folder


def push_record(corpus_source: Source | None, source: Source | None = None) -> None:
    """Rows whose record names other places than the ones they came from."""
    pairs = make_pairs(8)
    known = Qrels.from_dataset(pairs, "query", "positive")
    corpus = Corpus.from_texts([*make_pairs(20)["positive"]])
    miner = PositiveAwareMiner(
        corpus=corpus,
        teachers=RandomTeacher(corpus),
        known_positives=known,
        positive_column="positive",
        num_negatives=2,
        filters=(),
    )
    mined = pairs.map(miner, batched=True)
    record = provenance(miner, source=source or Source(), corpus_source=corpus_source, mined=mined)
    if source is not None:  # the pushed rows no longer hold all known positives, so the source would be read
        known_positives = dataclasses.replace(record.known_positives, judgements=9, fingerprint="f" * 32)
        record = dataclasses.replace(record, known_positives=known_positives)
    push_dataset(mined, REPO, record)


def named(place: str, victim) -> list[Source]:
    """Ways to name a local file in a record."""
    return {
        "path": [Source(str(victim / "diary.json"))],
        "path and commit": [Source(str(victim / "diary.json"), revision=HEX)],
        "relative": [Source("diary.json", revision=HEX), Source("./more.parquet", revision=HEX)],
        "folder": [Source(str(victim)), Source(".", revision=HEX), Source("..", revision=HEX)],
        "builder": [Source(name, revision=HEX) for name in ("json", "parquet", "csv", "text", "arrow")],
        "branch": [Source("alice/pairs", revision="main"), Source("json", revision="main")],
        "url": [Source("file:///etc/passwd", revision=HEX), Source("hf://datasets/json", revision=HEX)],
    }[place]


@pytest.mark.parametrize("place", ["path", "path and commit", "relative", "folder", "builder", "branch", "url"])
@pytest.mark.parametrize("part", ["corpus", "source"])
def test_no_local_file_is_read_by_a_record(hub, victim, place, part):
    for source in named(place, victim):
        push_record(source if part == "corpus" else Source(), source if part == "source" else None)
        for command in (verify, remine):
            with pytest.raises(PosmineError) as refused:
                command(REPO)
            assert "\n" not in str(refused.value) and SECRET not in str(refused.value)


def test_a_local_path_is_read_where_the_caller_allows_it(hub, victim):
    source = Source(str(victim / "more.parquet"))
    push_record(source)
    with pytest.raises(InputError, match=r"the corpus .*more\.parquet. was local data; pass it as Inputs\(corpus"):
        verify(REPO)
    assert not verify(REPO, inputs=Inputs(allow_local=True)).verified  # it was read, and is another corpus


def test_a_local_folder_with_the_name_of_a_repository_is_not_read(hub, victim):
    Dataset.from_dict({"text": ["public"]}).push_to_hub("alice/texts")
    commit = HfApi().dataset_info("alice/texts").sha
    (victim / "alice" / "texts").mkdir(parents=True)
    Dataset.from_dict({"text": [SECRET]}).to_parquet(victim / "alice" / "texts" / "train.parquet")
    assert load_hub_dataset("alice/texts", commit, split="train")["text"][:] == ["public"]


@pytest.mark.parametrize("path", ["{victim}/more.parquet", "../more.parquet", "file://{victim}/more.parquet"])
def test_a_card_cannot_name_data_files_outside_its_repository(hub, victim, path):
    Dataset.from_dict({"text": ["public"]}).push_to_hub("alice/texts")
    files = [{"split": "train", "path": path.format(victim=victim)}]
    card = {"configs": [{"config_name": "default", "data_files": files}]}
    metadata_update("alice/texts", card, repo_type="dataset", overwrite=True)
    commit = HfApi().dataset_info("alice/texts").sha
    with pytest.raises(InputError, match=r"the card of alice/texts names the data file .* outside the repository"):
        load_hub_dataset("alice/texts", commit, split="train")


@pytest.mark.parametrize("kind", [Image, Audio, Video])
def test_media_that_a_dataset_names_by_a_path_are_not_read(victim, kind):
    features = Features({"media": kind(decode=False), "text": Value("string")})
    path = str(victim / "diary.json")

    def rows(content: bytes | None) -> Dataset:
        media = pa.array(
            [{"bytes": content, "path": path}, None], pa.struct({"bytes": pa.binary(), "path": pa.string()})
        )
        return Dataset(
            pa.table({"media": media, "text": ["a", "b"]}).cast(features.arrow_schema),
            info=DatasetInfo(features=features),
        )

    with pytest.raises(InputError, match=r"column 'media' of mallory/set names files .*diary\.json"):
        check_media(rows(None), "mallory/set")
    check_media(rows(b"held in the row"), "mallory/set")


@pytest.mark.parametrize(
    ("name", "commit", "message"),
    [
        ("alice/model", None, "without a commit of the Hub"),
        ("alice/model", "main", "not a Hub id at a commit"),
        ("/models/secret", HEX, "not a Hub id at a commit"),
        ("../secret", HEX, "not a Hub id at a commit"),
        ("local/model", HEX, "a local folder has the name of the teacher"),
    ],
)
def test_a_teacher_of_a_record_is_a_model_of_the_hub_at_a_commit(victim, name, commit, message):
    (victim / "local" / "model").mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        check_model(name, commit, allow_local=False)
    check_model("local/model", None, allow_local=True)
    check_model("alice/model", HEX, allow_local=False)

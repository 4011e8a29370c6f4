"""FAISS behind the deepening loop: factory strings, files that survive a kill, teachers, and what is said of them."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import types
from typing import TYPE_CHECKING

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError, MissingExtraError, SpecError
from hf_posmine.evaluation import sweep
from hf_posmine.evaluation.negatives.index_recall import measure_approximation
from hf_posmine.hub.inputs import Inputs
from hf_posmine.hub.rebuild_teachers import rebuild_teachers
from hf_posmine.mining.provenance import provenance
from hf_posmine.search import approximate, faiss_files, index_files
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.faiss import to_device
from hf_posmine.search.index_factory import as_index, open_index
from hf_posmine.search.specs import Approximate, Lance
from hf_posmine.teachers import StoredRun
from tests.conftest import ToyModel
from tests.support.engines import DIMENSIONS, ROWS, assert_engine_is_sound, clustered, make_index

if TYPE_CHECKING:
    from pathlib import Path

faiss = pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
disable_progress_bars()


@pytest.fixture(autouse=True)
def home(fresh_home) -> Path:
    return fresh_home


FACTORIES = {
    "Flat": 1.0,
    "SQ8": 0.97,
    "PQ8x4fs": 0.7,
    "HNSW16": 0.95,
    "HNSW16,SQ8": 0.95,
    "IVF16,Flat": 0.8,
    "IVF16,SQ8": 0.8,
    "IVF16,PQ8x4fs": 0.7,
    "IVF16_HNSW8,SQfp16": 0.8,
    "OPQ8,IVF16,PQ8x4fs": 0.7,
    "IVF16,PQ8x4fs,RFlat": 0.7,
    "NSG8,Flat": 0.7,
}


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("factory", FACTORIES)
def test_every_kind_of_index_gives_sound_rankings(factory, similarity):
    assert_engine_is_sound(factory, similarity, FACTORIES[factory])


@pytest.mark.parametrize("factory", ["IVF16,Flat", "PCA8,IVF16,SQ8", "IVF16_HNSW8,SQ8"])
def test_lists_on_disk_find_what_lists_in_memory_find(factory, monkeypatch):
    queries = clustered(12, seed=1)
    in_memory = make_index(factory).search(queries, 20)
    monkeypatch.setattr(faiss_files, "PART_BYTES", 100 * 4 * DIMENSIONS)
    on_disk = make_index(Approximate(factory, on_disk=True))
    lists = faiss.extract_index_ivf(on_disk.searcher.index).invlists
    assert isinstance(faiss.downcast_InvertedLists(lists), faiss.OnDiskInvertedLists)
    assert on_disk.search(queries, 20).doc_ids.tolist() == in_memory.doc_ids.tolist()


def test_an_index_on_disk_may_be_moved(home, monkeypatch):
    queries, spec = clustered(4, seed=1), Approximate("IVF16,Flat", on_disk=True)
    found = make_index(spec).search(queries, 5)
    home.rename(home.with_name("quantization_error"))
    monkeypatch.setenv("HF_POSMINE_HOME", str(home.with_name("quantization_error")))
    assert make_index(spec).search(queries, 5).doc_ids.tolist() == found.doc_ids.tolist()
    assert not home.exists()


def indexes(home: Path) -> list[str]:
    return sorted(path.parent.name for path in home.glob("indexes/*/files.json"))


def test_it_is_built_once_for_the_same_vectors_and_recipe(home, monkeypatch):
    make_index("IVF16,SQ8")
    (made,) = indexes(home)
    assert sorted(p.name for p in (home / "indexes" / made).rglob("*") if p.suffix) == ["files.json", "index.faiss"]
    for spec, similarity, vectors in (
        (Approximate("IVF16,SQ8", train_rows=500), "cosine", None),
        ("IVF16,SQ4", "cosine", None),
        ("IVF16,SQ8", "dot", None),
        ("IVF16,SQ8", "cosine", clustered(seed=3)),
        (Approximate("IVF16,SQ8", on_disk=True), "cosine", None),
    ):
        before = len(indexes(home))
        make_index(spec, similarity, vectors)
        assert len(indexes(home)) == before + 1
    monkeypatch.setattr(faiss_files, "_build", lambda *_: pytest.fail("built again"))
    make_index(Approximate("IVF16,SQ8", {"nprobe": 2}))


def test_only_the_candidates_are_in_the_index():
    exact = ExactIndex(clustered(), num_candidates=300)
    searcher = open_index(Approximate("Flat"), exact)
    assert searcher.index.ntotal == 300
    found = approximate.ApproximateIndex(exact, searcher).search(clustered(4, seed=1), 300)
    assert sorted(found.doc_ids[0].tolist()) == list(range(300))


def test_the_same_recipe_gives_the_same_bytes_again(home):
    def built() -> bytes:
        make_index(Approximate("IVF16,PQ2x4", train_rows=400))
        (path,) = home.glob("indexes/*/index.faiss")
        data = path.read_bytes()
        shutil.rmtree(home)
        return data

    assert built() == built()
    rows = faiss_files.training_rows(1000, 10)
    assert rows.tolist() == sorted(set(rows.tolist())) == faiss_files.training_rows(1000, 10).tolist()
    assert faiss_files.training_rows(10, 1000).tolist() == list(range(10))


def test_building_holds_a_block_at_a_time_and_trains_on_a_sample(monkeypatch):
    held = []
    original = index_files.vectors_of
    for module in (index_files, faiss_files):
        monkeypatch.setattr(module, "vectors_of", lambda e, rows: (held.append(len(rows)), original(e, rows))[1])
    monkeypatch.setattr(index_files, "BLOCK_BYTES", 50 * 4 * DIMENSIONS)
    make_index(Approximate("IVF4,Flat", train_rows=160))
    assert held == [160] + [50] * (ROWS // 50)


def start(note: Path, *, kill_at: int = 0, on_disk: bool = False) -> int:
    """Build an index in a process of its own, which counts its blocks and may kill itself before one of them."""
    child = os.fork()
    if child:
        return child
    try:
        faiss.omp_set_num_threads(1)  # OpenMP's threads do not survive a fork
        index_files.BLOCK_BYTES, faiss_files.PART_BYTES = 50 * 4 * DIMENSIONS, 150 * 4 * DIMENSIONS
        faiss_files.SAVE_SECONDS = faiss_files.SAVE_SHARE = 0
        original, steps = index_files.vectors_of, []

        def step(exact, rows):
            steps.append(len(rows))
            if len(steps) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(exact, rows)

        index_files.vectors_of = faiss_files.vectors_of = step
        open_index(Approximate("IVF16,SQ8", train_rows=500, on_disk=on_disk), ExactIndex(clustered()))
        note.write_text(str(len(steps)))
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("on_disk", [False, True], ids=["one file", "parts"])
def test_a_kill_while_building_continues_and_ends_with_the_same_files(home, tmp_path, on_disk):
    def files() -> dict[str, bytes]:
        assert (
            len([path for path in home.glob("indexes/*") if path.is_dir()]) == 1
        )  # of a killed process nothing is left
        (manifest,) = home.glob("indexes/*/files.json")
        return {path.name: path.read_bytes() for path in manifest.parent.iterdir()}

    note = tmp_path / "steps"
    os.waitpid(start(note, on_disk=on_disk), 0)
    assert note.read_text() == "13"  # a sample, and 12 blocks
    whole = files()
    shutil.rmtree(home)
    _, status = os.waitpid(start(note, kill_at=8, on_disk=on_disk), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    (folder,) = home.glob("indexes/*.parts")
    assert not folder.with_suffix("").exists()
    parts = ["part-000000.faiss", "part-000001.faiss", "trained.faiss"]
    assert sorted(p.name for p in folder.glob("*.faiss")) == (parts if on_disk else ["filled.faiss", "trained.faiss"])
    os.waitpid(start(note, on_disk=on_disk), 0)
    assert note.read_text() == "6"  # the sample and six blocks were done
    assert files() == whole
    assert not folder.exists()


@pytest.mark.parametrize(
    "factory", ["Flat", "PQ8x4fs", "IVF16,PQ8x4fs", "PCA8,IVF16,SQ8", "IVF16,PQ8x4fs,RFlat", "HNSW8"]
)
def test_every_kind_of_index_goes_on_after_an_interruption(factory, home, monkeypatch):
    monkeypatch.setattr(index_files, "BLOCK_BYTES", 100 * 4 * DIMENSIONS)
    whole = make_index(factory).searcher.candidates(clustered(9, seed=1), 50, 1)
    shutil.rmtree(home)
    monkeypatch.setattr(faiss_files, "SAVE_SECONDS", 0)
    original, blocks = index_files.vectors_of, iter(range(3))

    def interrupted(exact, rows):
        if next(blocks, None) is None:
            raise KeyboardInterrupt
        return original(exact, rows)

    monkeypatch.setattr(index_files, "vectors_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_index(factory)
    assert list(home.glob("indexes/*.parts/filled.faiss"))
    monkeypatch.setattr(index_files, "vectors_of", original)
    searcher = make_index(factory).searcher
    assert searcher.index.ntotal == ROWS
    found = searcher.candidates(clustered(9, seed=1), 50, 1)
    if factory.startswith("HNSW"):  # its levels are drawn anew, so the graph is another one
        assert np.mean([np.isin(whole[i], found[i]).mean() for i in range(9) if i != 3]) > 0.9  # 3 is a zero vector
    else:
        assert np.array_equal(found, whole)


def test_two_processes_build_it_once(home, tmp_path):
    notes = [tmp_path / "one", tmp_path / "two"]
    children = [start(note) for note in notes]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert sorted(int(note.read_text()) for note in notes) == [0, 13]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("IVF4000,Flat", "over 600 documents of 16 dimensions: Number of training points .600. .* clusters .4000"),
        ("Foo12", "could not parse index string Foo12"),
        ("PQ7", "should be a multiple of the number of subquantizers"),
        ("IDMap,Flat", "add does not make sense with IndexIDMap"),
        (Approximate("HNSW8", on_disk=True), "no inverted lists to keep on disk"),
        (Approximate("Flat", {"nprobe": 3}), "no search option 'nprobe'"),
        (Approximate("IVF4,Flat", {"efsearch": 3}), "no search option 'efsearch'"),
    ],
)
def test_what_faiss_refuses_is_said_with_its_reason(spec, says):
    with pytest.raises(InputError, match=says):
        make_index(spec)


def test_manhattan_distances_are_refused():
    with pytest.raises(InputError, match="cannot search Manhattan distances; search exactly"):
        make_index("Flat", "manhattan")


def test_without_faiss_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hf-posmine\[faiss\]'"):
        make_index("Flat")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"factory": ""}, "factory=''; write a factory string"),
        ({"factory": "Flat", "search": {"nprobe": "many"}}, "search=.*whole numbers"),
        ({"factory": "Flat", "search": {"nprobe": 0}}, "search=.*whole numbers"),
        ({"factory": "Flat", "train_rows": 0}, "train_rows=0; expected a whole number"),
        ({"factory": "Flat", "on_disk": 1}, "on_disk=1; expected True or False"),
    ],
)
def test_a_wrong_value_is_refused_before_any_work(options, says):
    with pytest.raises(SpecError, match=says):
        Approximate(**options)


@pytest.mark.parametrize(
    "spec",
    [
        Approximate("OPQ8,IVF16_HNSW8,PQ8x4fs", {"nprobe": 3}, 500, True),
        Approximate("Flat"),
        Lance("IVF_SQ", {"ef": 9}, 4),
    ],
)
def test_the_spelling_is_read_back(spec):
    assert as_index(repr(spec)) == spec
    assert hash(spec) == hash(as_index(repr(spec)))


def test_names_of_indexes():
    assert as_index(None) is as_index("exact") is None
    assert as_index("IVF1024,SQ8,Refine(SQfp16)") == Approximate("IVF1024,SQ8,Refine(SQfp16)")
    assert as_index("Approximate('Flat', search={'nprobe': 3})").search == {"nprobe": 3}
    assert as_index("Lance") == Lance()
    assert as_index(Lance()) == Lance()
    with pytest.raises(SpecError, match=r"unknown index 'Aproximate'.*did you mean Approximate"):
        as_index("Aproximate('Flat')")
    with pytest.raises(InputError, match="index=7; write a factory string"):
        as_index(7)


def test_more_effort_looks_into_more_lists_and_options_stay_what_they_are():
    searcher = make_index(Approximate("IVF64,Flat", {"nprobe": 3})).searcher
    queries = clustered(4, seed=1)
    few, many = (searcher.candidates(queries, ROWS, effort) for effort in (1, 16))
    assert searcher.index.nprobe == 48
    assert (few >= 0).sum() < (many >= 0).sum() < 4 * ROWS
    assert np.array_equal(searcher.candidates(queries, ROWS, 1), few)
    assert make_index("IVF64,Flat").searcher.options == {"nprobe": 16}
    assert make_index("HNSW8").searcher.options == {"efSearch": 128}


def test_an_index_goes_to_the_gpu_where_documents_are_searched_there():
    def build(**more):
        return types.SimpleNamespace(StandardGpuResources=lambda: "resources", **more)

    moves = build(index_cpu_to_gpu=lambda resources, device, index: (device, index))
    assert to_device(moves, "index", "cuda:3") == ((3, "index"), "resources")
    assert to_device(moves, "index", "cuda") == ((0, "index"), "resources")
    assert to_device(moves, "index", "cpu") == ("index", None)
    assert to_device(types.SimpleNamespace(), "index", "cuda") == ("index", None)  # the build for CPUs

    def refuse(*_):
        raise RuntimeError("GPU index not implemented for this type")

    assert to_device(build(index_cpu_to_gpu=refuse), "index", "cuda") == ("index", None)


def test_on_a_gpu_it_is_asked_for_no_more_than_faiss_gives_there(monkeypatch):
    for name, value in {
        "StandardGpuResources": lambda: "resources",
        "index_cpu_to_gpu": lambda resources, device, index: index,
        "GpuParameterSpace": faiss.ParameterSpace,
    }.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    searcher = open_index(Approximate("IVF16,Flat", {"nprobe": 200}), ExactIndex(clustered(), device="cuda:0"))
    assert searcher.deepest == 2048
    searcher.candidates(clustered(4), 5, 16)
    assert searcher.index.nprobe == 2048


# teachers

WORDS = "red green blue cat dog bird sky sea tree stone house river".split()


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    rng = np.random.default_rng(0)
    texts = list(dict.fromkeys(" ".join(rng.choice(WORDS, rng.integers(1, 7))) for _ in range(700)))
    return Dataset.from_dict({"query": [f"{t} {WORDS[i % 12]}" for i, t in enumerate(texts)], "positive": texts})


@pytest.fixture
def corpus(pairs) -> Corpus:
    return Corpus.from_texts(pairs["positive"])


def teacher(corpus, index, home, **options) -> DenseTeacher:
    return DenseTeacher(ToyModel(), corpus, store=home / "stores", fingerprint="toy", index=index, **options)


def miner(corpus, pairs, index, home, **options) -> PositiveAwareMiner:
    how = {"store": home / "stores", "fingerprint": "toy", "index": index}
    options = {"filters": ["PercPos(0.95)"], "keep": ("scores", "ids", "ranks"), **options}
    return PositiveAwareMiner.from_dataset(
        pairs, ToyModel(), corpus=corpus, teacher_options=how, **{"filters": (), **options}
    )


def test_mining_with_an_index_gives_every_row_its_negatives_below_the_ceiling(corpus, pairs, home):
    mined = pairs.map(miner(corpus, pairs, "IVF16,SQ8", home), batched=True)
    exact = pairs.map(miner(corpus, pairs, None, home), batched=True)
    for row, best in zip(mined, exact, strict=True):
        assert len(row["negatives"]) == len(best["negatives"])
        assert row["positive_score"] == best["positive_score"]
        assert all(score < 0.95 * row["positive_score"] for score in row["negatives_scores"])
        scores = dict(zip(best["negatives_ids"], best["negatives_scores"], strict=True))
        assert all(scores.get(i, s) == s for i, s in zip(row["negatives_ids"], row["negatives_scores"], strict=True))
    assert mined["negatives"] != exact["negatives"]  # else this test shows nothing


def test_batches_and_processes_do_not_matter(corpus, pairs, home):
    made = miner(corpus, pairs, "IVF16,SQ8", home)
    whole = mine(pairs, made, work_dir=home / "a")
    assert mine(pairs, made, work_dir=home / "b", batch_size=7)[:] == whole[:]
    assert mine(pairs, made, work_dir=home / "c", num_proc=2)[:] == whole[:]


def test_the_index_is_part_of_the_fingerprint_and_exact_search_is_as_before(corpus, home):
    specs = [
        None,
        "IVF16,SQ8",
        "IVF32,SQ8",
        Approximate("IVF16,SQ8", {"nprobe": 2}),
        Approximate("IVF16,SQ8", train_rows=99),
    ]
    assert len({teacher(corpus, spec, home).fingerprint for spec in specs}) == len(specs)
    assert teacher(corpus, "exact", home).fingerprint == teacher(corpus, None, home).fingerprint
    assert "index" not in teacher(corpus, None, home).describe()
    assert as_index(teacher(corpus, specs[3], home).describe()["index"]) == specs[3]


def test_the_index_lies_beside_the_embeddings_and_is_opened_by_who_unpickles(corpus, home, monkeypatch):
    first = teacher(corpus, "IVF16,SQ8", home)
    first.prepare()
    (index,) = home.glob("stores/*/*/indexes/*/index.faiss")
    monkeypatch.setattr(faiss_files, "_build", lambda *_: pytest.fail("built again"))
    data = pickle.dumps(first)
    assert len(data) < 20_000
    copy, vectors = pickle.loads(data), first.embed_queries(["red cat"])
    assert copy.index.search(vectors, 4).doc_ids.tolist() == first.index.search(vectors, 4).doc_ids.tolist()
    assert index.is_file()


def test_documents_near_a_document_are_found_exactly(corpus, home):
    rows = np.arange(0, len(corpus), 50)
    near = teacher(corpus, "IVF32,PQ8x4fs", home).near_documents(rows, 0.8)
    expected = teacher(corpus, None, home).near_documents(rows, 0.8)
    assert [found.tolist() for found in near] == [found.tolist() for found in expected]
    assert max(map(len, near)) > 1


def test_a_run_of_an_approximate_teacher_answers_as_a_teacher(corpus, pairs, home):
    first = teacher(corpus, "IVF16,SQ8", home)
    run = StoredRun.build(first, pairs, depth=30, path=home / "run")
    assert run.fingerprint == first.fingerprint
    assert run.describe()["index"] == repr(first.approximate)
    mined = pairs.map(PositiveAwareMiner.from_dataset(pairs, run, filters="PercPos(0.95)"), batched=True)
    exact = pairs.map(miner(corpus, pairs, None, home), batched=True)
    assert [len(row) for row in mined["negatives"]] == [len(row) for row in exact["negatives"]]
    table = sweep(run, pairs, filters=["PercPos(0.9)", "PercPos(0.95)"])
    direct = sweep(first, pairs, filters=["PercPos(0.9)", "PercPos(0.95)"])
    assert table["negatives"] == direct["negatives"] and len(table) == 2


def test_the_report_counts_what_exact_search_would_have_given(corpus, pairs, home):
    made = miner(corpus, pairs, Approximate("IVF32,SQ8", {"nprobe": 1}), home)
    exact = miner(corpus, pairs, None, home)
    (report,) = measure_approximation(made, pairs, rows=150, seed=3)
    rows = pairs.select(np.sort(np.random.default_rng(3).permutation(len(pairs))[:150]))
    mined, best = (rows.map(m, batched=True) for m in (made, exact))
    wanted = hits = same = 0
    for mine_, theirs in zip(mined, best, strict=True):
        pool = list(zip(theirs["negatives_ids"], theirs["negatives_scores"], strict=True))
        found = zip(mine_["negatives_ids"], mine_["negatives_scores"], strict=True)
        hit = sum(i in dict(pool) or s in dict(pool).values() for i, s in found)
        wanted, hits, same = wanted + len(pool), hits + hit, same + (hit == len(pool))
    assert report.rows == 150
    assert report.recall == hits / wanted and 0.3 < report.recall < 1
    assert report.unchanged == same / 150
    assert 0 <= report.exhausted <= report.deepened < 1
    above = [sum(row["negatives_ranks"][:1]) for row in mined], [sum(row["negatives_ranks"][:1]) for row in best]
    assert report.counted == sum(above[0]) / sum(above[1]) < 1
    assert f"{report.recall:.1%}" in str(report) and "IVF32,SQ8" in str(report)


def test_the_record_of_a_run_holds_the_index_and_its_report(corpus, pairs, home):
    made = miner(corpus, pairs, "IVF16,SQ8", home)
    assert "approximation" not in made.teachers[0].describe()
    (report,) = measure_approximation(made, pairs, rows=20)
    recipe = provenance(made, source={"path": "pairs"}).teachers[0].recipe
    assert as_index(recipe["index"]) == Approximate("IVF16,SQ8")
    assert recipe["approximation"] == report.to_dict()


def test_a_teacher_made_from_its_record_searches_the_same_way(home):
    corpus = Corpus.from_texts([f"{word} {other}" for word in WORDS for other in WORDS])
    options = {"positive_column": "positive", "num_negatives": 1}
    first = DenseTeacher("embedded", corpus, index=Approximate("IVF4,SQ8", {"nprobe": 2}), device="cpu")
    record = provenance(
        PositiveAwareMiner(corpus=corpus, teachers=first, **{"filters": (), **options}), source={"path": "pairs"}
    )
    (again,) = rebuild_teachers(list(record.teachers), Inputs(device="cpu"), corpus, None, [])
    assert again.approximate == first.approximate
    assert again.fingerprint == first.fingerprint


def test_exact_teachers_have_no_report(corpus, pairs, home):
    assert measure_approximation(miner(corpus, pairs, None, home), pairs) == []


def test_a_stream_is_measured_on_its_first_rows(corpus, pairs, home):
    made = miner(corpus, pairs, "Flat", home)
    (report,) = measure_approximation(made, pairs.to_iterable_dataset(), rows=30)
    assert (report.rows, report.recall, report.unchanged, report.counted) == (30, 1, 1, 1)


def test_a_miner_takes_the_index_by_its_spelling(pairs, home):
    options = {"store": home / "stores", "fingerprint": "toy", "index": "Approximate('IVF16,SQ8', {'nprobe': 8})"}
    made = PositiveAwareMiner.from_dataset(pairs, ToyModel(), teacher_options=options, num_negatives=2, filters=())
    assert made.teachers[0].approximate == Approximate("IVF16,SQ8", {"nprobe": 8})
    assert all(len(row) == 2 for row in pairs.select(range(20)).map(made, batched=True)["negatives"])

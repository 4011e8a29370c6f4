"""Folders addressed by content: built once, whole, private, checked; what killed runs left is cleared."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_posmine.core.errors import CorruptFileError, ReadOnlyError, StoreError
from hf_posmine.utils import cache, files
from hf_posmine.utils.cache import build_once, checked, parts_folder, read_json, write_json
from hf_posmine.utils.files import remove_stale

ROOT = Path(__file__).parents[2]


def build(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "numbers").write_bytes(bytes(range(100)))
    (folder / "text").write_text("made")


def never(folder: Path) -> None:
    pytest.fail("built again")


def test_it_is_built_once_and_found_again(tmp_path):
    assert build_once(tmp_path / "x", build) == checked(tmp_path / "x") == build_once(tmp_path / "x", never)
    assert sorted(read_json(tmp_path / "x" / "files.json")["files"]) == ["below/numbers", "text"]


def build_slowly(folder: Path, count: Path) -> None:
    def slow(new: Path) -> None:
        with count.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)
        (new / "made").touch()

    assert (build_once(folder, slow) / "made").is_file()


def test_of_several_processes_one_builds_and_the_others_wait(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=build_slowly, args=(tmp_path / "index", tmp_path / "count")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "built\n"


def test_parts_that_a_kill_left_beside_the_finished_folder_are_removed(tmp_path):
    build_once(tmp_path / "index", build)
    parts_folder(tmp_path / "index").mkdir()
    build_once(tmp_path / "index", never)
    assert not (tmp_path / "index.parts").exists()


def test_digests_are_compared_once_per_process_unless_something_changed(tmp_path, monkeypatch):
    folder, read = build_once(tmp_path / "x", build), []
    original = cache.file_xxh3
    monkeypatch.setattr(cache, "file_xxh3", lambda path: (read.append(path.name), original(path))[1])
    for _ in range(3):
        build_once(folder, never)
    assert sorted(read) == ["numbers", "text"]
    (folder / "text").write_text("mada")
    with pytest.warns(UserWarning, match="text.*its content is not what was written; .* is built again"):
        build_once(folder, build)
    assert (folder / "text").read_text() == "made"


def test_finished_work_is_named_and_never_built_again_unasked(tmp_path):
    folder = build_once(tmp_path / "shard", build, finished=True)
    (folder / "text").write_text("other content")
    with pytest.raises(
        CorruptFileError, match=r"shard/text': it has 13 bytes, 4 were written; delete '.*shard' and run"
    ):
        build_once(folder, never, finished=True)
    assert (folder / "text").read_text() == "other content"


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"files": {}}', "[" * 100_000, "\0"])
def test_a_damaged_manifest_is_one_error_for_readers_and_no_obstacle_for_builders(tmp_path, content):
    folder = build_once(tmp_path / "x", build)
    (folder / "files.json").write_text(content)
    with pytest.raises(CorruptFileError, match=r"files\.json': its content is not what was written; delete"):
        checked(folder)
    with pytest.warns(UserWarning, match="is built again"):
        build_once(folder, build)
    checked(folder)


@pytest.mark.parametrize("what", ["a file", "a dangling link", "an empty folder"])
def test_something_else_in_the_place_of_the_folder_is_replaced(tmp_path, what):
    path = tmp_path / "x"
    {"a file": path.touch, "a dangling link": lambda: path.symlink_to("gone"), "an empty folder": path.mkdir}[what]()
    with pytest.warns(UserWarning, match="is built again"):
        build_once(path, build)
    assert (path / "text").read_text() == "made"


def test_folders_are_private_and_those_that_were_there_stay_as_they_are(tmp_path):
    tmp_path.chmod(0o755)
    build_once(tmp_path / "home" / "bm25" / "x", build)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("home", "home/bm25", "home/bm25/x")} == {0o700}
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is a file where a folder is needed"):
        build_once(tmp_path / "file" / "x", build)


def test_json_is_read_as_written_or_not_at_all(tmp_path):
    write_json(tmp_path / "a", {"rows": 3, "name": "é"})
    assert read_json(tmp_path / "a") == {"rows": 3, "name": "é"}
    (tmp_path / "a").write_text((tmp_path / "a").read_text().replace("3", "4"))
    with pytest.raises(CorruptFileError, match="a': its content is not what was written"):
        read_json(tmp_path / "a")


KILLED = """
import os, signal, sys
from hf_posmine import Corpus
from hf_posmine.data import texts

texts._copy_kept = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Corpus.from_texts([f"text {number}" for number in range(1000)])
"""


def test_what_three_killed_runs_left_is_cleared_by_the_next_one(fresh_home):
    from hf_posmine import Corpus

    for _ in range(3):
        command = [sys.executable, "-c", KILLED]
        assert (
            subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False).returncode
            == -signal.SIGKILL
        )
    assert list((fresh_home / "corpora").iterdir())
    Corpus.from_texts(["another text"])
    assert len([path for path in (fresh_home / "corpora").iterdir() if path.is_dir()]) == 1


def test_only_abandoned_leftovers_are_removed(tmp_path):
    host, run = files._host(), files._RUN
    names = {
        f"a.tmp-{host}-{os.getpid()}-{run}-1": True,  # of this process
        f"b.tmp-{host}-{os.getpid()}-0ther-1": False,  # of an earlier process with the number of this one
        f"c.tmp-{host}-1-0ther-1": True,  # of a process that runs
        f"d.tmp-{host}-4194305-0ther-1": False,  # no such process
        "e.tmp-another-1-0ther-1": True,  # of another machine, just now
        "f.tmp-another-1-0ther-1": False,  # ... days ago
    }
    for name in names:
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "f.tmp-another-1-0ther-1", (0, 0))
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(name for name, stays in names.items() if stays)


def test_a_filled_home_that_may_not_be_written_is_mined_from(fresh_home, monkeypatch):
    """The refusal is made where the system makes it: root, as tests may run, is refused nothing."""
    from datasets import Dataset

    from hf_posmine import Corpus, DenseTeacher, PercPos, PositiveAwareMiner
    from hf_posmine.teachers.bm25 import BM25Teacher
    from tests.conftest import ToyModel

    pairs = Dataset.from_dict({"query": ["red cat", "blue sky"], "positive": ["a red cat", "the blue sky"]})

    def rows() -> list:
        corpus = Corpus.from_texts([*pairs["positive"], "a red dog", "the blue sea"])
        teachers = [DenseTeacher(ToyModel(), corpus, fingerprint="toy"), BM25Teacher(corpus)]
        made = [PositiveAwareMiner.from_dataset(pairs, teacher, filters=PercPos(0.99)) for teacher in teachers]
        return [pairs.map(miner, batched=True, load_from_cache_file=False)["negatives"][:] for miner in made]

    expected = rows()
    opened = os.open

    def refuse(path, flags, *args, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(fresh_home)):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *args, **options)

    before = sorted(fresh_home.rglob("*"))
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(fresh_home)) or mode == os.R_OK)
    cache._checked.clear()
    assert rows() == expected
    assert sorted(fresh_home.rglob("*")) == before
    with pytest.raises(ReadOnlyError, match=r"not in the cache, which cannot be written .*set HF_POSMINE_HOME"):
        Corpus.from_texts(["a text that is not there"])

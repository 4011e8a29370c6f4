"""Files that are written in pairs, folders that are replaced: after a kill at any moment nothing describes another file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hf_posmine.utils import files
from hf_posmine.utils.files import replace_folder, unfinished_pair, write_file, write_pair


def in_a_child_killed_at(step: int, work) -> None:
    """Run ``work`` in a process that ends without any cleaning before its ``step``-th change of a name."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    changes = 0

    def counted(change):
        def call(*args, **options):
            nonlocal changes
            changes += 1
            if changes == step:
                os._exit(9)
            return change(*args, **options)

        return call

    for name in ("replace", "unlink", "rename"):
        setattr(Path, name, counted(getattr(Path, name)))
    work()
    os._exit(0)


def pair(folder: Path, content: str) -> None:
    data, record = folder / "rows.jsonl", folder / "rows.jsonl.provenance.json"
    write_pair(data, lambda new: new.write_text(content), record, lambda new: new.write_text(f"of {content}"))


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("before", [None, "old"])
def test_no_kill_leaves_a_description_of_another_file(tmp_path, step, before):
    if before:
        pair(tmp_path, before)
    in_a_child_killed_at(step, lambda: pair(tmp_path, "new"))
    data, record = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.provenance.json"
    if record.exists():
        assert record.read_text() == f"of {data.read_text()}"
    elif data.exists():
        assert unfinished_pair(record)
    pair(tmp_path, "newest")
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {data.name: "newest", record.name: "of newest"}


def test_a_file_that_a_killed_run_staged_is_cleared_and_other_files_are_left(tmp_path):
    output, other = tmp_path / "scores.json", tmp_path / "scores.json.tmp-mine"
    other.write_text("mine")
    in_a_child_killed_at(1, lambda: write_file(output, lambda new: new.write_text("old")))
    assert len(list(tmp_path.iterdir())) > 1 and not output.exists()
    write_file(output, lambda new: new.write_text("new"))
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {output.name: "new", other.name: "mine"}


def test_a_killed_replacement_of_a_folder_is_cleared_and_other_files_are_left(tmp_path):
    def write(new: Path) -> None:
        new.mkdir()
        (new / "rows").write_text("rows")

    precious = tmp_path / "out.tmp-backup"
    precious.mkdir()
    os.utime(precious, (0, 0))
    in_a_child_killed_at(1, lambda: [write(files._temporary(tmp_path / "out")), Path("nowhere").unlink()])
    assert len([*tmp_path.iterdir()]) == 2
    replace_folder(tmp_path / "out", write)
    assert {f.name for f in tmp_path.iterdir()} == {"out", "out.tmp-backup"}

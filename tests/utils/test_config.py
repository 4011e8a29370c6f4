"""Configuration files in any Unicode encoding, or one line that names what is wrong."""

from __future__ import annotations

import pytest

from hf_posmine.core.errors import InputError
from hf_posmine.utils.config import of_kind, read_mapping

TEXT = "query_prompt: Über – 問い\nnum-negatives: 3\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_unicode_encoding_is_read(encoding, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(TEXT, encoding)
    assert read_mapping(file) == {"query_prompt": "Über – 問い", "num_negatives": 3}


CONTENTS = {
    "Latin-1": ("name: Übung".encode("latin-1"), "byte 0xdc at 6; save it as UTF-8"),
    "UTF-16 without a mark": ("name: x".encode("utf-16-le"), "is not YAML"),
    "a list": (b"- a\n- b", "must hold options"),
    "deep": (b"a: " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
    "large": (b"#" * (5 << 20), "too many"),
    "an object": (b"a: !!python/object/apply:os.system [true]", "is not YAML"),
    "a bell": (b"a: \x07", "is not YAML"),
}


@pytest.mark.parametrize(("content", "words"), CONTENTS.values(), ids=CONTENTS)
def test_anything_else_is_refused_by_name(content, words, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"c\.yaml") as raised:
        read_mapping(file)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_not_there_names_the_nearest(tmp_path):
    (tmp_path / "stage1.yaml").write_text("a: 1")
    with pytest.raises(InputError, match=r"No such file or directory; did you mean 'stage1\.yaml'\?"):
        read_mapping(tmp_path / "stage_1.yaml")


def test_texts_become_numbers_where_numbers_are_wanted():
    assert of_kind("rate", "1e-5", {float}) == 1e-5
    assert of_kind("rows", "1e3", {int}) == 1000
    assert of_kind("name", "1e3", {str}) == "1e3"
    with pytest.raises(InputError, match="rate=nan; expected a number"):
        of_kind("rate", float("nan"), {float})

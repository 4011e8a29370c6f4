"""The five worst faults that were ever found, under their names; each is a test of the part that it was in."""

from __future__ import annotations

import pytest

from tests.data.test_texts import test_texts_that_share_64_bits_stay_apart as test_a_forged_text_replaces_no_other
from tests.faults import test_cache_files as cache_files
from tests.hub.conftest import hub  # noqa: F401 - a fixture
from tests.hub.test_reach import test_no_local_file_is_read_by_a_record as test_a_record_reads_no_local_file
from tests.hub.test_reach import victim  # noqa: F401 - a fixture
from tests.hub.test_tampering import made  # noqa: F401 - a fixture
from tests.hub.test_tampering import (
    test_every_column_is_found_even_if_the_record_is_made_to_fit as test_a_tampered_column_is_found,
)
from tests.utils.test_http import server  # noqa: F401 - a fixture
from tests.utils.test_http import (
    test_a_redirect_is_refused_and_the_key_does_not_follow_it as test_a_key_follows_no_redirect,
)

__all__ = [
    "test_a_forged_text_replaces_no_other",
    "test_a_key_follows_no_redirect",
    "test_a_record_reads_no_local_file",
    "test_a_tampered_column_is_found",
]


@pytest.mark.parametrize("kind", cache_files.KINDS)
def test_a_flipped_byte_in_any_file_of_the_cache_changes_no_row(kind, fresh_home, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_files, "cases", lambda files: [(file, "flipped") for file in files])
    cache_files.test_a_damaged_file_changes_no_row_or_is_named_in_one_line(kind, fresh_home, tmp_path, monkeypatch)

"""Commands that are struck while they run: one case of each fault; the whole table is ``make faults``."""

from __future__ import annotations

import pytest

from tests.faults.cases import COMMANDS, FAULTS, hold, make_data, undisturbed

CHEAP = ("mine", "encode", "mine --streaming")
CASES = [(CHEAP[number % len(CHEAP)], fault) for number, fault in enumerate(FAULTS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults") / "data"
    make_data(folder)
    return folder


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    return {name: undisturbed(name, data, tmp_path_factory.mktemp("sound") / "world") for name in CHEAP}


@pytest.mark.parametrize(("command", "fault"), CASES)
def test_a_fault_costs_a_line_and_no_result(command, fault, data, expected, tmp_path):
    assert hold(command, fault, expected[command], data, tmp_path / "case", seed=len(command)) is None


@pytest.mark.matrix
@pytest.mark.filterwarnings("ignore:.*mined shards are kept in")  # a line of the command; only here warnings are errors
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_fault_of_every_command(command, fault, data, tmp_path):
    sound = undisturbed(command, data, tmp_path / "sound")
    assert hold(command, fault, sound, data, tmp_path / "case", seed=0) is None

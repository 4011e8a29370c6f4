"""What surrounds every command: one line for every error, the process as it was, options in either spelling."""

from __future__ import annotations

import ast
import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import datasets
import pytest
from transformers.utils import logging

from hf_posmine.cli import mine as mine_command
from hf_posmine.cli.main import main
from hf_posmine.cli.parser import VERBS, command_of, find_verb, parse
from hf_posmine.core.errors import HubError, InputError, SpecError
from tests.conftest import SAMPLE

CLI = Path(mine_command.__file__).parent


@pytest.fixture
def pairs_file(sample_pairs, tmp_path):
    path = tmp_path / "pairs.parquet"
    sample_pairs.select(range(20)).to_parquet(str(path))
    return path


def error_of(capsys) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


FAULTS = {
    "a file that is locked": (
        PermissionError(13, "Permission denied", "/data/x.parquet"),
        2,
        "/data/x.parquet: Permission",
    ),
    "a full disk": (OSError(28, "No space left on device"), 2, "no space left"),
    "open files": (OSError(24, "Too many open files", "/x/y"), 2, "'/x/y'); raise the limit of this shell (ulimit -n)"),
    "a file that is too large": (OSError("IOError: Detail: [errno 27] File too large"), 2, "(ulimit -f)"),
    "memory of the system": (OSError(12, "Cannot allocate memory"), 1, "out of memory"),
    "memory": (MemoryError(), 1, "out of memory"),
    "depth": (RecursionError("maximum recursion depth exceeded"), 1, "nested too deeply"),
    "a loader": (
        datasets.exceptions.DatasetGenerationError("An error occurred\nwhile generating"),
        1,
        "while generating",
    ),
    "a parser": (json.JSONDecodeError("Expecting value", "{", 1), 1, "JSONDecodeError: Expecting value"),
    "nothing to say": (KeyError(), 1, "KeyError: no further words"),
    "the Hub": (HubError("404\n  not found"), 2, "404 not found"),
    "a name with colours": (InputError("no column '\x1b[2J\x07secret'"), 2, r"\x1b[2J\x07secret"),
}


@pytest.mark.parametrize(("error", "status", "words"), FAULTS.values(), ids=FAULTS)
def test_every_error_is_one_line(error, status, words, tmp_path, monkeypatch, capsys):
    def fail(args):
        raise error

    monkeypatch.setattr(mine_command, "run", fail)
    arguments = ["mine", str(tmp_path), "--output", "out"]
    assert main(arguments) == status
    line = error_of(capsys)
    assert words in line and "\x1b" not in line
    with pytest.raises(type(error)):
        main([*arguments, "--debug"])


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EROFS, errno.EACCES])
def test_errors_of_the_cache_name_its_cure(code, pairs_file, tmp_path, monkeypatch, capsys):
    def fail(args):
        raise OSError(code, os.strerror(code), str(tmp_path / "home" / "stores" / "x"))

    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(mine_command, "run", fail)
    assert main(["mine", str(pairs_file), "--output", "out"]) == 2
    cure = "run the same command again" if code == errno.ENOENT else "set HF_POSMINE_HOME to a folder that can"
    assert cure in error_of(capsys)


def test_a_limit_of_memory_is_named_with_whatever_error_it_causes(pairs_file, monkeypatch, capsys):
    def fail(args):
        raise ImportError("libx.so: failed to map segment from shared object")

    monkeypatch.setattr(mine_command, "run", fail)
    monkeypatch.setattr("hf_posmine.cli.faults.address_space_limit", lambda: 3 << 30)
    assert main(["mine", str(pairs_file), "--output", "out"]) == 1
    assert "this shell allows 3.0 GiB of memory: if that is why, raise it by ulimit -v" in error_of(capsys)


def test_ctrl_c_says_how_to_go_on_and_a_closed_pipe_says_nothing(tmp_path, monkeypatch, capsys):
    for error, status in ((KeyboardInterrupt(), 130), (BrokenPipeError(32, "Broken pipe"), 1)):
        monkeypatch.setattr(mine_command, "run", lambda args, error=error: (_ for _ in ()).throw(error))
        assert main(["mine", str(tmp_path), "--output", "out"]) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "run the same command again" in said


WRONG = {
    "no command": ([], "no command"),
    "a command": (["calibrat"], "did you mean 'calibrate'?"),
    "an option": (["sweep", "x", "--sampler", "Top()", "--filtres", "a"], "did you mean '--filters'?"),
    "a needed option": (["judge", "mined"], "--model"),
    "a number": (["encode", "--shard-rows", "many"], "invalid int value: 'many'"),
    "a choice": (["mine", "x", "--output", "o", "--on-short", "dropp"], "did you mean 'drop'?"),
    "too much": (["report", "mined", "twice"], "unknown argument 'twice'"),
    "several files": (
        ["mine", "a.csv", "b.csv.gz", "--output", "o"],
        "unknown argument 'b.csv.gz'; for several files give one pat",
    ),
    "a value like an option": (["push", "mined", "me/x", "--title", "--better"], "write --option=VALUE"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_one_line_that_names_the_help(arguments, words, capsys):
    assert main(arguments) == 2
    line = error_of(capsys)
    assert words in line and "--help)" in line


MISSPELT = {
    "a file": (["mine", "{tmp}/pears.parquet", "--output", "out"], "did you mean 'pairs.parquet'?"),
    "a corpus": (["encode", "--corpus", "{tmp}/pairs.parqet.gz"], "--corpus"),
    "a filter": (["mine", "{pairs}", "--output", "out", "--filters", "MargnPos(0.1)"], "did you mean MarginPos?"),
    "a comma": (["sweep", "{pairs}", "--filters", "naive", "MarginPos(0,05)"], "did you mean MarginPos(0.05)"),
    "a sampler": (["calibrate", "{pairs}", "--sampler", "Uniformm(3)"], "did you mean Uniform?"),
    "a method": (["fn-rate", "{tmp}", "--methods", "MaxScore(70"], "cannot read filter"),
    "a percentage": (["mine", "{pairs}", "--output", "out", "--filters", "PercPos(90)"], "did you mean 0.9?"),
    "a command": (["trian"], "did you mean 'train'?"),
    "an option": (["mine", "{pairs}", "--outptu", "out"], "--output"),
}


@pytest.mark.parametrize(("arguments", "words"), MISSPELT.values(), ids=MISSPELT)
def test_what_is_misspelt_fails_before_torch_is_imported(arguments, words, pairs_file, tmp_path):
    given = [word.format(tmp=tmp_path, pairs=pairs_file) for word in arguments]
    code = (
        "import sys; from hf_posmine.cli.main import main; status = main(sys.argv[1:]);"
        "heavy = [name for name in ('torch', 'datasets', 'transformers') if name in sys.modules];"
        "print(status, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    assert done.stdout == "2 []\n", done.stderr
    assert words in done.stderr and done.stderr.count("\n") == 1


def state() -> dict[str, object]:
    """What a command may change in its process."""
    return {
        "environment": dict(os.environ),
        "bars": (datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()),
        "warnings": warnings.formatwarning,
    }


RUNS = {
    "mining": (
        ["mine", "{pairs}", "--teacher", "embedded", "--output", "{tmp}/out", "--max-memory", "4GiB", "--quiet"],
        0,
    ),
    "a log": (["mine", "{pairs}", "--teacher", "embedded", "--output", "{tmp}/out", "--log-progress", "--offline"], 0),
    "a column that is not there": (["mine", "{pairs}", "--output", "{tmp}/o", "--query-column", "q", "--quiet"], 2),
    "a wrong size": (["mine", "{pairs}", "--output", "{tmp}/out", "--max-gpu-memory", "much", "--log-progress"], 2),
    "an unknown model": (["evaluate", "{tmp}/model", "--on", "{sample}", "--quiet", "--offline"], 2),
    "rates": (
        ["fn-rate", "{sample}", "--visible", "train", "--qrels", "complete", "--teacher", "embedded", "--quiet"],
        0,
    ),
    "a missing recipe": (["train", "--config", "{tmp}/no.yaml", "--log-progress"], 2),
    "an unknown command": (["mien"], 2),
}


@pytest.mark.parametrize(("arguments", "status"), RUNS.values(), ids=RUNS)
def test_the_process_is_left_as_it_was_found(arguments, status, pairs_file, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_POSMINE_PROGRESS", "")
    before = state()
    given = [word.format(tmp=tmp_path, pairs=pairs_file, sample=SAMPLE) for word in arguments]
    assert main(given) == status, capsys.readouterr().err
    assert state() == before


def test_both_spellings_of_an_option_and_of_a_key(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("data: pairs.csv\noutput: out\nnum-negatives: 3\nweak_rank: 7\non-short: drop\n")
    args = parse(find_verb(["mine"]), ["mine", "--config", str(config), "--weak_rank", "9", "--near_duplicates=0.5"])
    assert (args.num_negatives, args.weak_rank, args.on_short, args.near_duplicates) == (3, 9, "drop", 0.5)


def test_a_value_that_begins_with_hyphens_is_a_value(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text('data: pairs.csv\noutput: out\nquery_prompt: "--query: "\nkeep: [scores]\nfilters: none\n')
    args = parse(find_verb(["mine"]), ["mine", "--config", str(config), "--document_prompt=--passage: "])
    assert (args.query_prompt, args.document_prompt, args.filters) == ("--query: ", "--passage: ", ["none"])


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_takes_a_config_and_teaches_by_examples(verb, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "--config" in text and "example" in text and "--debug" in text
    config = tmp_path / "c.yaml"
    config.write_text("qiuet: true\n")
    assert main([verb, "--config", str(config)]) == 2
    assert "unknown key 'qiuet'; did you mean 'quiet'?" in capsys.readouterr().err or verb == "train"


WRONG_KINDS = {
    "a number as a text": ("num_negatives: several", "num_negatives='several'; expected a whole number"),
    "a text as a number": ("query_column: 3", "query_column=3; expected a text; write it in quotes"),
    "Norwegian": ("language: [no]", "language=False; expected a text; write it in quotes"),
    "a switch": ("report: maybe", "report='maybe'; expected true or false"),
    "a choice": ("on_short: droop", "did you mean 'drop'?"),
    "half a number": ("seed: 1.5", "seed=1.5; expected a whole number"),
    "twice": ("seed: 1\nseed: 2", "the key 'seed' is given twice"),
    "twice in two spellings": ("weak-rank: 1\nweak_rank: 2", "'weak_rank' is given twice"),
}


@pytest.mark.parametrize(("text", "words"), WRONG_KINDS.values(), ids=WRONG_KINDS)
def test_a_wrong_value_names_file_and_key(text, words, tmp_path, capsys):
    config = tmp_path / "mine.yaml"
    config.write_text(text)
    assert main(["mine", "x/y", "--output", "out", "--config", str(config)]) == 2
    line = error_of(capsys)
    assert words in line and str(config) in line


def test_nothing_is_printed_but_by_show_and_nothing_is_probed():
    for path in CLI.glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {func.id for func in calls if isinstance(func, ast.Name)}
        assert not names & {"getattr", "hasattr"}, path.name
        assert "print" not in names or path.name == "show.py", path.name


def test_every_command_is_a_module_of_its_name():
    for verb in VERBS:
        command = command_of(verb)
        assert command.HELP and command.EXAMPLES and command.__doc__


def test_a_warning_is_one_line_without_control_characters(tmp_path, monkeypatch, capsys):
    def warn(args):
        warnings.warn("a text\nwith \x1b[31mcolour", stacklevel=1)

    monkeypatch.setattr(mine_command, "run", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        monkeypatch.setattr(warnings, "showwarning", _default_show)
        assert main(["mine", str(tmp_path), "--output", "out"]) == 0
        monkeypatch.setattr(warnings, "showwarning", shown)
    assert capsys.readouterr().err == "warning: a text with \\x1b[31mcolour\n"


def _default_show(message, category, filename, lineno, file=None, line=None):
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def test_a_spelling_has_limits():
    from hf_posmine.core.filters import as_filters

    for text in (
        "(" * 200 + "PercPos" + ")" * 200,
        "MaxScore(" + "-" * 60 + "1)",
        "SkipTop(" + "1" * 3000 + ")",
        "SkipTop(10**9**9)",
    ):
        with pytest.raises(SpecError) as raised:
            as_filters(text)
        assert len(str(raised.value)) < 400


QUIETLY = """
import sys
from hf_posmine.cli.process import without_bars
with without_bars(True):
    assert not {"datasets", "transformers"} & sys.modules.keys()
    import datasets
    from transformers.utils import logging
    assert datasets.are_progress_bars_disabled() and not logging.is_progress_bar_enabled()
assert not datasets.are_progress_bars_disabled() and logging.is_progress_bar_enabled()
with without_bars(True):
    assert datasets.are_progress_bars_disabled() and not logging.is_progress_bar_enabled()
assert not datasets.are_progress_bars_disabled() and logging.is_progress_bar_enabled()
datasets.disable_progress_bars()
with without_bars(True):
    pass
assert datasets.are_progress_bars_disabled()
assert not any(type(finder).__module__ == "hf_posmine.cli.process" for finder in sys.meta_path)
"""


def test_bars_are_hidden_without_an_import_and_shown_again_where_they_were():
    done = subprocess.run([sys.executable, "-c", QUIETLY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

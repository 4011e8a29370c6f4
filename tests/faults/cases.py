"""Commands that end in seconds on tiny data, and the faults that strike them while they run.

Each command runs in a process of its own, forked from one that has imported everything, so that a case takes about a second.
Commands that need a Hub or a chat model find both on the loopback interface.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, load_dataset

from hf_posmine.cli.main import main
from tests.hub.loopback import running
from tests.support import stage_runs, tiny
from tests.support.chat import ChatService
from tests.support.small_disk import small_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRACEBACK = "Traceback (most recent call last)"
TEMPORARY = (".tmp-", "staging.")
LONGEST_SECONDS = 240


@dataclass(frozen=True)
class World:
    """Where one case runs: data that all cases read, and a home and an output of its own."""

    data: Path
    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def logs(self) -> Path:
        """Beside the root, which may be a disk without space."""
        return self.root.with_name(f"{self.root.name}.logs")

    @property
    def repo(self) -> str:
        return f"alice/r{hashlib.sha256(str(self.root).encode()).hexdigest()[:12]}"

    def arguments(self, command: str) -> list[str]:
        places = {"data": self.data, "out": self.output, "repo": self.repo, "chat": chat_service().url}
        return [str(part).format_map(places) for part in COMMANDS[command].arguments]


@dataclass(frozen=True)
class Command:
    """A command line; ``result`` reads what it made, to be compared with an undisturbed run."""

    arguments: tuple[str, ...]
    result: Callable[[World], Any]
    online: bool = False
    in_home: bool = False


@dataclass
class Run:
    """A command in a process of its own."""

    world: World
    command: str
    prepare: Callable[[], object] = lambda: None
    pid: int = field(default=0, init=False)
    status: int | None = field(default=None, init=False)

    def start(self, log: str = "log") -> Run:
        self.world.root.mkdir(exist_ok=True)
        self.world.logs.mkdir(exist_ok=True)
        self.log = self.world.logs / log
        arguments = [*self.world.arguments(self.command), "--quiet"]  # before the fork, as it may start a service
        self.pid = os.fork()
        if not self.pid:
            self._child(arguments)
        return self

    def _child(self, arguments: list[str]) -> None:
        status = 70
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ["HF_POSMINE_HOME"] = str(self.world.home)
            os.environ["HF_DATASETS_CACHE"] = str(self.world.root / "datasets")
            written = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(written, 1)
            os.dup2(written, 2)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # pytest has its own
            if COMMANDS[self.command].online:
                go_online()
            self.prepare()
            status = main(arguments)
        except BaseException as error:
            if isinstance(error, SystemExit):
                status = error.code if isinstance(error.code, int) else 1
            else:
                os.write(2, f"{TRACEBACK} {type(error).__name__}: {error}".encode())
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, seconds: float = LONGEST_SECONDS) -> int:
        """The exit status; minus the signal's number if one ended it. A run without an end is killed, and is a failure."""
        until = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                self.signal(signal.SIGKILL)
                until = float("inf")
                self.log.open("a").write(f"{TRACEBACK}: no end after {seconds} s")
            else:
                time.sleep(0.005)
        return self.status

    @property
    def text(self) -> str:
        return self.log.read_text("utf8", "replace")

    def errors(self) -> list[str]:
        """The lines that say why the process ended."""
        lines = self.text.splitlines()
        return [line for line in lines if line.startswith(("error: ", "interrupted")) or TRACEBACK in line]


class Chat(ChatService):
    """Judges, and asks every other word of a passage."""

    def reply(self, body: Any, asked: Any) -> str | None:
        if "passage" in asked:
            return json.dumps({"questions": [" ".join(asked["passage"].split()[::2])]})
        return super().reply(body, asked)


@cache
def chat_service() -> ChatService:
    """One for all cases."""
    return Chat()


def go_online() -> None:
    """Let this process use the loopback Hub, as alice."""
    import datasets
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = datasets.config.HF_DATASETS_OFFLINE = False
    os.environ.update(HF_HUB_OFFLINE="0", HF_POSMINE_OFFLINE="0", HF_TOKEN="hf_alice")


def mined_rows(world: World) -> Any:
    rows = json.loads(world.output.with_suffix(".jsonl").read_text("utf8").join("[]").replace("}\n{", "},{"))
    record = json.loads(world.output.with_suffix(".jsonl.provenance.json").read_text("utf8"))
    return rows, record["rows"], record["settings"]


def stream_rows(world: World) -> Any:
    rows = load_dataset("parquet", data_files=str(world.output / "**/*.parquet"), split="train").to_list()
    return rows, json.loads((world.output / "provenance.json").read_text("utf8"))["rows"]


def table(world: World) -> Any:
    rows = [json.loads(line) for line in world.output.with_suffix(".jsonl").read_text("utf8").splitlines()]
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


def shards(world: World) -> Any:
    return {
        str(file.relative_to(world.home)): file.read_bytes().hex()
        for file in world.home.glob("stores/**/*.safetensors")
    }


def weights(world: World) -> Any:
    return {
        str(file.relative_to(world.output)): file.read_bytes().hex()
        for file in world.output.rglob("model.safetensors")
        if "checkpoint" not in str(file)
    }


def page(world: World) -> Any:
    """The page but for its own address."""
    return world.output.with_suffix(".html").read_text("utf8").replace(str(world.root), "")


def pushed(world: World) -> Any:
    files = running().repo(world.repo).files()
    record = json.loads(files["provenance.json"])
    rows = {path: content.hex() for path, content in files.items() if path.endswith((".parquet", ".png"))}
    return rows, record["rows"], record["summary"], sorted(files)


def measured(world: World) -> Any:
    return [json.loads(file.read_text("utf8"))["scores"] for file in sorted(world.output.glob("*.json"))]


MINE = (
    "mine",
    "{data}/pairs.parquet",
    "--teacher",
    "{data}/model",
    "--corpus",
    "{data}/corpus.parquet",
    "--keep",
    "scores",
)
COMMANDS = {
    "mine": Command((*MINE, "--output", "{out}.jsonl"), mined_rows),
    "mine --streaming": Command((*MINE, "--streaming", "--shard-rows", "6", "--output", "{out}"), stream_rows),
    "encode": Command((*("encode", *MINE[1:6]), "--shard-rows", "8"), shards, in_home=True),
    "sweep": Command(("sweep", *MINE[1:6], "--depth", "20", "--output", "{out}.jsonl"), table),
    "report": Command(("report", "{data}/mined.parquet", "--output", "{out}.html"), page),
    "evaluate": Command(("evaluate", "{data}/model", "--on", "{data}/heldout", "--output", "{out}"), measured),
    "train": Command(("train", "--config", "{data}/recipe.yaml", "--output_dir", "{out}"), weights),
    "judge": Command(
        ("judge", "{data}/mined.parquet", "--model", "toy", "--url", "{chat}", "--output", "{out}.jsonl"), table
    ),
    "questions": Command(
        (
            *("questions", "{data}/corpus.parquet", "--model", "toy", "--url", "{chat}", "--concurrency", "2"),
            *("--kinds", "factual", "--gates", "copied", "near", "--output", "{out}.jsonl"),
        ),
        table,
    ),
    "push": Command(("push", "{data}/streamed/out", "{repo}"), pushed, online=True),
}


def make_data(folder: Path) -> None:
    """Pairs, a corpus, a model of a few words, a collection, a student with its recipe, and mined rows for the report."""
    folder.mkdir(parents=True)
    tiny.static(folder / "model")
    draw = random.Random(0)
    texts = [" ".join(draw.choices(tiny.WORDS[:12], k=6)) for _ in range(60)]
    Dataset.from_dict({"id": [f"d{n}" for n in range(60)], "text": texts}).to_parquet(str(folder / "corpus.parquet"))
    queries = [" ".join(text.split()[:3]) for text in texts[:24]]
    Dataset.from_dict({"query": queries, "positive": texts[:24]}).to_parquet(str(folder / "pairs.parquet"))
    stage_runs.collection(folder / "heldout")
    stage_runs.saved_student(folder / "still", dropout=0.0)
    stage_runs.retrieval_file(folder / "train.parquet")
    stage_runs.written(folder, stage_runs.told(folder / "still" / "st", folder / "train.parquet", folder / "unused"))
    made = Run(World(folder, folder / "made"), "mine").start()
    assert made.wait() == 0, made.text
    streamed = Run(World(folder, folder / "streamed"), "mine --streaming").start()
    assert streamed.wait() == 0, streamed.text
    rows = Dataset.from_json(str(folder / "made" / "out.jsonl"), cache_dir=str(folder / "datasets"))
    rows.to_parquet(str(folder / "mined.parquet"))
    shutil.copy(folder / "made" / "out.jsonl.provenance.json", folder / "mined.parquet.provenance.json")


@dataclass(frozen=True)
class Undisturbed:
    """How a command ends without a fault, and how long it takes."""

    result: Any
    seconds: float


def undisturbed(command: str, data: Path, root: Path) -> Undisturbed:
    began = time.monotonic()
    run = Run(World(data, root), command).start()
    assert run.wait() == 0, f"{command}: {run.text}"
    seconds, result = time.monotonic() - began, COMMANDS[command].result(run.world)
    assert result, f"{command} made nothing"
    return Undisturbed(result, seconds)


# ---------------------------------------------------------------- faults: each runs the command once, disturbed


@contextlib.contextmanager
def signalled(world: World, command: str, seconds: float, draw: random.Random, number: int) -> Iterator[list[Run]]:
    run = Run(world, command).start()
    time.sleep(draw.uniform(0.02, 0.95) * seconds)
    run.signal(number)
    if number == signal.SIGSTOP:
        time.sleep(0.2)
        run.signal(signal.SIGCONT)
    run.wait()
    yield [run]


@contextlib.contextmanager
def limited(
    world: World, command: str, seconds: float, draw: random.Random, kind: int, low: int, high: int
) -> Iterator[list[Run]]:
    """A limit of the shell's ``ulimit``, somewhere between two values."""
    limit = draw.randint(low, high)
    if kind == resource.RLIMIT_AS:  # beyond what the process that is forked has already
        limit += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if kind == resource.RLIMIT_NOFILE:  # likewise: the fork inherits the files of this process
        limit += len(list(Path("/proc/self/fd").iterdir()))

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start
        resource.setrlimit(kind, (limit, limit))

    run = Run(world, command, prepare).start()
    run.wait()
    yield [run]


@contextlib.contextmanager
def full_disk(world: World, command: str, seconds: float, draw: random.Random) -> Iterator[list[Run]]:
    """The home, or the home and the output, are on a disk that is too small; the same disk is then enlarged."""
    place, most = draw.choice([(world.home, 40), (world.root, 400)])
    world.root.mkdir(exist_ok=True) if place == world.home else None
    with small_disk(place, draw.randint(4, most)) as disk:
        run = Run(world, command).start()
        run.wait()
        left = leftover(place)
        assert not left or run.status == 0, f"left behind on a full disk: {left}"
        disk.enlarge(200_000)
        yield [run]


@contextlib.contextmanager
def read_only_home(
    world: World, command: str, seconds: float, draw: random.Random, filled: bool
) -> Iterator[list[Run]]:
    world.root.mkdir(exist_ok=True)
    with small_disk(world.home, 200_000) as disk:
        if filled:
            assert Run(world, command).start("filled").wait() == 0
            clear_output(world)
        disk.mount("remount,ro")
        run = Run(world, command).start()
        run.wait()
        disk.mount("remount,rw")
        yield [run]


@contextlib.contextmanager
def several(world: World, command: str, seconds: float, draw: random.Random) -> Iterator[list[Run]]:
    """Two to four processes on one home and one output."""
    runs = [Run(world, command).start(f"log-{number}") for number in range(draw.randint(2, 4))]
    for run in runs:
        run.wait()
    yield runs


@contextlib.contextmanager
def cache_deleted(world: World, command: str, seconds: float, draw: random.Random) -> Iterator[list[Run]]:
    run = Run(world, command).start()
    time.sleep(draw.uniform(0.1, 0.9) * seconds)
    shutil.rmtree(world.home, ignore_errors=True)
    run.wait()
    yield [run]


@contextlib.contextmanager
def clock_back(world: World, command: str, seconds: float, draw: random.Random) -> Iterator[list[Run]]:
    """Each reading of the time is earlier than the last one, and files of the first run are from the future."""
    first = Run(world, command).start("first")
    time.sleep(draw.uniform(0.1, 0.9) * seconds)
    first.signal(signal.SIGKILL)
    first.wait()
    for file in world.root.rglob("*"):
        with contextlib.suppress(OSError):
            os.utime(file, (4e9, 4e9))
    began = time.time()

    def prepare() -> None:
        readings = iter(range(10**9))
        time.time = lambda: began - 60 * next(readings)

    run = Run(world, command, prepare).start()
    run.wait()
    yield [run]


def clear_output(world: World) -> None:
    """Remove what a run wrote outside of its home."""
    for path in world.root.glob(f"{world.output.name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass(frozen=True)
class Fault:
    """What strikes a command, and the line that it may end with; without one it must end well, or by a signal that kills."""

    strike: Callable[[World, str, float, random.Random], contextlib.AbstractContextManager[list[Run]]]
    line: str | None = None
    kills: bool = False
    takes_home: bool = False

    def refusal(self, run: Run) -> str | None:
        """In which way the end of a run breaks the rule: a traceback, no line, several, or one that does not fit."""
        found, text = run.errors(), run.text
        if TRACEBACK in text or len(found) > 1:
            return f"more than one line: {text[-2000:]}"
        if run.status is None or run.status < 0:
            return None if self.kills else f"died by signal {run.status}: {text[-2000:]}"
        if run.status == 0:
            return f"ended well with a line: {found}" if found else None
        if not found:
            return f"ended with {run.status} without a line: {text[-2000:]}"
        if self.line is None or not re.search(self.line, found[0]):
            return f"ended with {run.status} and a line that does not fit: {found[0]}"
        return None


AGAIN = "run (the same (command )?)?again"
FAULTS = {
    "SIGTERM": Fault(partial(signalled, number=signal.SIGTERM), kills=True),
    "SIGINT": Fault(partial(signalled, number=signal.SIGINT), f"^interrupted; {AGAIN}"),
    "SIGKILL": Fault(partial(signalled, number=signal.SIGKILL), kills=True),
    "SIGSTOP, SIGCONT": Fault(partial(signalled, number=signal.SIGSTOP)),
    "two to four processes": Fault(several),
    "full disk": Fault(full_disk, f"no space left.*{AGAIN}"),
    "read-only home": Fault(partial(read_only_home, filled=False), "HF_POSMINE_HOME"),
    "read-only, filled home": Fault(partial(read_only_home, filled=True)),
    "ulimit -n": Fault(partial(limited, kind=resource.RLIMIT_NOFILE, low=16, high=64), r"ulimit -H?n"),
    "ulimit -f": Fault(partial(limited, kind=resource.RLIMIT_FSIZE, low=200, high=20_000), "ulimit -f"),
    "ulimit -v": Fault(partial(limited, kind=resource.RLIMIT_AS, low=1 << 18, high=1 << 26), "out of memory|ulimit -v"),
    "cache deleted": Fault(cache_deleted, AGAIN, takes_home=True),
    "clock going back": Fault(clock_back),
}


# ---------------------------------------------------------------- the rule


def leftover(folder: Path) -> list[str]:
    """Temporary files and folders, but for those of the cache of ``datasets``."""
    found = [str(path) for path in folder.rglob("*") if any(mark in path.name for mark in TEMPORARY)]
    return [path for path in found if "/datasets/" not in path]


def hold(command: str, fault: str, expected: Undisturbed, data: Path, root: Path, seed: int) -> str | None:
    """Disturb a command, then run the same again: None if the rule holds, else in which way it does not.

    The rule: the same result, or one line that names the fault and its cure, and no traceback; then the same result by the
    same command on the same home; and nothing temporary left.
    """
    world = World(data, root)
    struck = FAULTS[fault]
    try:
        with struck.strike(world, command, expected.seconds, random.Random(seed)) as disturbed:
            refused = [reason for run in disturbed if (reason := struck.refusal(run)) is not None]
            if refused:
                return refused[0]
            whole = all(run.status == 0 for run in disturbed) and not (struck.takes_home and COMMANDS[command].in_home)
            if whole and COMMANDS[command].result(world) != expected.result:
                return "another result of the disturbed run"
            again = Run(world, command).start("again")
            if again.wait() != 0:
                return f"the same command again: {again.text[-2000:]}"
            if COMMANDS[command].result(world) != expected.result:
                return "another result"
            left = leftover(root)
            return f"left behind: {left}" if left else None
    except AssertionError as broken:
        return str(broken)

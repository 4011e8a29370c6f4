"""Commands that end in seconds on tiny data, and the faults that strike them while they run.

Each command runs in a process of its own, forked from one that has imported everything, so that a case takes about a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, load_dataset

from hf_posmine.cli.main import main
from tests.support import stage_runs, tiny
from tests.support.small_disk import small_disk

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def arguments(self, command: str) -> list[str]:
        return [str(part).format(data=self.data, out=self.output) for part in COMMANDS[command].arguments]


@dataclass(frozen=True)
class Command:
    """A command line; ``result`` reads what it made, to be compared with an undisturbed run."""

    arguments: tuple[str, ...]
    result: Callable[[World], Any]


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
        self.log = self.world.root / log
        self.pid = os.fork()
        if not self.pid:
            self._child()
        return self

    def _child(self) -> None:
        status = 70
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ["HF_POSMINE_HOME"] = str(self.world.home)
            os.environ["HF_DATASETS_CACHE"] = str(self.world.root / "datasets")
            written = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(written, 1)
            os.dup2(written, 2)
            self.prepare()
            status = main([*self.world.arguments(self.command), "--quiet"])
        except BaseException as error:
            if isinstance(error, SystemExit):
                status = error.code if isinstance(error.code, int) else 1
            else:
                os.write(2, f"{TRACEBACK} {type(error).__name__}: {error}".encode())
        finally:
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

    def errors(self) -> list[str]:
        """What the process wrote as errors."""
        text = self.log.read_text("utf8", "replace")
        return [line for line in text.splitlines() if line.startswith("error: ") or TRACEBACK in line]


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
    "encode": Command((*("encode", *MINE[1:6]), "--shard-rows", "8"), shards),
    "sweep": Command(("sweep", *MINE[1:6], "--depth", "20", "--output", "{out}.jsonl"), table),
    "report": Command(
        ("report", "{data}/mined.parquet", "--output", "{out}.html"),
        lambda world: len(world.output.with_suffix(".html").read_text("utf8")) > 10_000,
    ),
    "evaluate": Command(("evaluate", "{data}/model", "--on", "{data}/heldout", "--output", "{out}"), measured),
    "train": Command(("train", "--config", "{data}/recipe.yaml", "--output_dir", "{out}"), weights),
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
    assert made.wait() == 0, made.log.read_text()
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
    assert run.wait() == 0, f"{command}: {run.log.read_text()}"
    return Undisturbed(COMMANDS[command].result(run.world), time.monotonic() - began)


# ---------------------------------------------------------------- faults: each runs the command once, disturbed


def signalled(number: int) -> Callable[[World, str, float, random.Random], list[Run]]:
    def strike(world: World, command: str, seconds: float, draw: random.Random) -> list[Run]:
        run = Run(world, command).start()
        time.sleep(draw.uniform(0.02, 0.95) * seconds)
        run.signal(number)
        if number == signal.SIGSTOP:
            time.sleep(0.2)
            run.signal(signal.SIGCONT)
        run.wait()
        return [run]

    return strike


def limited(kind: int, low: int, high: int) -> Callable[[World, str, float, random.Random], list[Run]]:
    """A limit of the shell's ``ulimit``, somewhere between two values."""

    def strike(world: World, command: str, seconds: float, draw: random.Random) -> list[Run]:
        limit = draw.randint(low, high)
        if kind == resource.RLIMIT_AS:  # beyond what the process that is forked has already
            limit += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

        def prepare() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start
            resource.setrlimit(kind, (limit, limit))

        run = Run(world, command, prepare).start()
        run.wait()
        return [run]

    return strike


def full_disk(world: World, command: str, seconds: float, draw: random.Random) -> list[Run]:
    world.root.mkdir(exist_ok=True)
    with small_disk(world.home, draw.randint(4, 40)):
        run = Run(world, command).start()
        run.wait()
        leftover(world.home)
    world.home.rmdir()
    return [run]


def read_only_home(world: World, command: str, seconds: float, draw: random.Random) -> list[Run]:
    world.root.mkdir(exist_ok=True)
    with small_disk(world.home, 100) as disk:
        disk.mount("remount,ro")
        run = Run(world, command).start()
        run.wait()
    world.home.rmdir()
    return [run]


def several(world: World, command: str, seconds: float, draw: random.Random) -> list[Run]:
    """Two to four processes on one home and one output."""
    runs = [Run(world, command).start(f"log-{number}") for number in range(draw.randint(2, 4))]
    for run in runs:
        run.wait()
    return runs


def cache_deleted(world: World, command: str, seconds: float, draw: random.Random) -> list[Run]:
    run = Run(world, command).start()
    time.sleep(draw.uniform(0.1, 0.9) * seconds)
    shutil.rmtree(world.home, ignore_errors=True)
    run.wait()
    return [run]


def clock_back(world: World, command: str, seconds: float, draw: random.Random) -> list[Run]:
    """Each reading of the time is earlier than the last one, and files of the first run are from the future."""
    first = Run(world, command).start()
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
    return [run]


FAULTS: dict[str, Callable[[World, str, float, random.Random], list[Run]]] = {
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGINT": signalled(signal.SIGINT),
    "SIGKILL": signalled(signal.SIGKILL),
    "SIGSTOP, SIGCONT": signalled(signal.SIGSTOP),
    "two to four processes": several,
    "full disk": full_disk,
    "read-only home": read_only_home,
    "ulimit -n": limited(resource.RLIMIT_NOFILE, 16, 64),
    "ulimit -f": limited(resource.RLIMIT_FSIZE, 200, 20_000),
    "ulimit -v": limited(resource.RLIMIT_AS, 1 << 18, 1 << 26),
    "cache deleted": cache_deleted,
    "clock going back": clock_back,
}


# ---------------------------------------------------------------- the rule


def leftover(folder: Path) -> list[str]:
    """Temporary files and folders."""
    return [str(path) for path in folder.rglob("*") if any(mark in path.name for mark in TEMPORARY)]


def hold(command: str, fault: str, expected: Undisturbed, data: Path, root: Path, seed: int) -> str | None:
    """Disturb a command, then run the same again: None if the rule holds, else in which way it does not.

    The rule: the same result after the same command, one line of error and no traceback, and nothing temporary left.
    """
    world = World(data, root)
    disturbed = FAULTS[fault](world, command, expected.seconds, random.Random(seed))
    for run in disturbed:
        found = run.errors()
        if len(found) > 1 or any(TRACEBACK in line for line in found):
            return f"more than one line: {run.log.read_text('utf8', 'replace')[-2000:]}"
        if (
            run.status is not None
            and run.status > 0
            and not found
            and "interrupted" not in run.log.read_text("utf8", "replace")
        ):
            return f"ended with {run.status} without a line"
    again = Run(world, command).start("again")
    if again.wait() != 0:
        return f"the same command again: {again.log.read_text('utf8', 'replace')[-2000:]}"
    if COMMANDS[command].result(world) != expected.result:
        return "another result"
    left = [path for path in leftover(root) if "/datasets/" not in path]
    return f"left behind: {left}" if left else None

"""What the Ray tests and benchmarks share: a cluster of several nodes on one machine, and a job that dies on purpose."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from typing import TYPE_CHECKING

from hf_posmine import DenseTeacher, PositiveAwareMiner, Qrels
from hf_posmine.teachers.stored_embeddings import StoredEmbeddings

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
NODE_MEMORY = 80 << 20


@contextlib.contextmanager
def ray_cluster(nodes: int, cpus: int = 1):
    """A head without processors, which holds the driver, and ``nodes`` that work."""
    import psutil
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": NODE_MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=cpus, **small)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        children = psutil.Process().children(recursive=True)
        alive = [c for c in children if any(word in c.name() for word in ("raylet", "gcs_server", "ray::"))]
        _, alive = psutil.wait_procs(alive, timeout=20)
        assert not alive, alive


def once(path: Path) -> bool:
    """Whether nobody, in any process, asked for this path before."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DiaryTeacher(DenseTeacher):
    """A teacher whose shards are :class:`DiaryEmbeddings`."""

    def stored_shards(self) -> DiaryEmbeddings:
        stored = self.embeddings
        shards = DiaryEmbeddings(stored.model, stored.corpus, stored.queries, stored.store)
        shards.diary = self.diary
        return shards


class DiaryEmbeddings(StoredEmbeddings):
    """Leaves a file for every shard it encodes, and dies in the middle of one if ``diary/kill-encoder`` says its number."""

    diary: Path

    def fill_shard(self, role, part, number, done):
        order = self.diary / "kill-encoder"
        doomed = role == "document" and order.is_file() and order.read_text() == str(number)

        def heard(count):  # the model has done a first batch; nothing of the shard is written
            if doomed and once(self.diary / "encoder-died"):
                die()
            done(count)

        encoded = super().fill_shard(role, part, number, heard)
        if encoded:
            (self.diary / f"encoded-{role}-{number}-{uuid.uuid4().hex}").touch()
        return encoded


class DiaryMiner(PositiveAwareMiner):
    """Says on which node it mined, takes its time, and dies if ``diary/kill-miner`` names a row of the batch."""

    diary: Path
    seconds: float = 0.0

    def __call__(self, batch, *extra):
        mined = super().__call__(batch, *extra)
        time.sleep(self.seconds)
        with contextlib.suppress(ImportError):
            import ray

            if ray.is_initialized():
                (self.diary / f"node-{ray.get_runtime_context().get_node_id()}").touch()
        order = self.diary / "kill-miner"
        if order.is_file() and int(order.read_text()) in batch["row"].to_pylist() and once(self.diary / "miner-died"):
            die()  # the file of the shard is half-written
        return mined


def make_miner(pairs: Dataset, model: str, diary: Path, *, shard_rows: int, seconds: float = 0.0) -> DiaryMiner:
    diary.mkdir(parents=True, exist_ok=True)
    known = Qrels.from_dataset(pairs, "query", "positive")
    teacher = DiaryTeacher(model, known.documents, queries=known.queries, shard_rows=shard_rows, device="cpu")
    teacher.diary = diary
    miner = DiaryMiner(
        corpus=known.documents, teachers=teacher, known_positives=known, positive_column="positive",
        filters="PercPos(0.95)", keep=("scores", "ids", "ranks", "stats"),
    )  # fmt: skip
    miner.diary, miner.seconds = diary, seconds
    return miner


def encoded_shards(diary: Path) -> list[str]:
    """Every shard that was encoded to its end, as often as it was."""
    return sorted(file.name.rsplit("-", 1)[0] for file in diary.glob("encoded-*"))


def remove_a_working_node(cluster, diary: Path, when) -> threading.Thread:
    """In the background: once ``when()`` holds, kill a node on which rows were mined."""

    def wait_and_kill():
        deadline = time.time() + 300
        while not when() and time.time() < deadline:
            time.sleep(0.01)
        seen = {file.name.removeprefix("node-") for file in diary.glob("node-*")}
        node = next(node for node in cluster.worker_nodes if node.node_id in seen)
        cluster.remove_node(node, allow_graceful=False)
        (diary / "node-removed").touch()

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread

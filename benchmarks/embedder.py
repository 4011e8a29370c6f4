"""The embedder on a CPU: training steps and encoding, padded (``sdpa``) against unpadded (``posmine_varlen``).

Run ``python -m benchmarks.embedder --output out/bench``; see README.md beside this file. Both contenders have the
same random weights and live in processes of their own, which take turns: one works while the other waits, so that a
noisy neighbour meets both, and each repeat gives one ratio. ``real tokens`` are those of the texts, instruction and
``<s>`` included; padding never counts as work done, and tokenising counts as time.

``plain`` is MultipleNegativesRankingLoss, ``cached`` its GradCache version with mini-batches of 32 rows; a step is
tokenising, forward, backward and AdamW. Before the first step both contenders hand over loss and gradients, which must
be equal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.embedder_task import Computed, Lengths, Shape, batch
from benchmarks.measure import ROOT, MemoryPeak, Watch, busy_seconds, machine, markdown, release_memory
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

SQUAD = ROOT.parent / "shared" / "data" / "squad_v1.1"
CONTENDERS = {"padded": "sdpa", "unpadded": "posmine_varlen"}
PHASES = ("train, plain", "train, cached", "encode", "encode_by_tokens")
SIZES = {"small": Shape(256, 4, 4, 2, 704), "tiny": Shape(32, 2, 4, 2, 64)}
TARGET = {"train, plain": 2.0, "train, cached": 2.0}
LARGEST_DIFFERENCE = 1e-4


class Contender:
    """One kind of attention: the model, its optimizer, and what can be asked of it by name."""

    def __init__(self, attention: str, lengths: Lengths, arguments: argparse.Namespace) -> None:
        import torch
        from sentence_transformers.sentence_transformer import losses

        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        self.model = SIZES[arguments.size].model(attention, device="cpu", dtype="float32")
        self.losses = {
            "train, plain": losses.MultipleNegativesRankingLoss(self.model),
            "train, cached": losses.CachedMultipleNegativesRankingLoss(self.model, mini_batch_size=32),
        }
        self.columns = [lengths.columns(arguments.batch, arguments.negatives, s) for s in range(1 + arguments.repeat)]
        self.documents = lengths.documents(arguments.documents)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)

    def check(self) -> dict[str, Any]:
        """Loss and gradients of each loss at the initial weights, and some vectors; all on the first batch."""
        record: dict[str, Any] = {"encode": self.model.encode(self.documents[:64], show_progress_bar=False)}
        for phase, loss in self.losses.items():
            value = self._backward(loss, 0)
            record[phase] = value, {name: p.grad.numpy() for name, p in self.model.named_parameters()}
            self.model.zero_grad()
        self._train("train, plain", 0)  # the optimizer's state belongs to what is there before the measurement
        self.model.encode_by_tokens(self.documents[:64])
        return record

    def measure(self, phase: str, repeat: int) -> dict[str, Any]:
        """Time, memory and padding of one turn."""
        release_memory()
        watch, others = Watch(), busy_seconds()
        with MemoryPeak(watch) as memory, Computed(self.model) as computed, watch(phase):
            if phase in self.losses:
                self._train(phase, 1 + repeat)
            elif phase == "encode":
                self.model.encode(self.documents, batch_size=32, show_progress_bar=False)
            else:
                self.model.encode_by_tokens(self.documents)
        span = watch.spans[phase]
        passes = 2 if phase == "train, cached" else 1  # each token passes twice: once without gradients
        return {
            "wall": round(span["wall"], 4),
            "cpu": round(span["cpu"], 4),
            "cpu_seconds_of_others": round(max(0.0, busy_seconds() - others - span["cpu"]), 1),
            "real_tokens": computed.real // passes,
            "padding": round(computed.padding, 4),
            "peak_mib": memory.report()["above_inputs_mib"],
        }

    def _train(self, phase: str, number: int) -> None:
        self._backward(self.losses[phase], number)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _backward(self, loss: Any, number: int) -> float:
        self.model.train()
        value = loss(batch(self.model, self.columns[number]), None)
        value.backward()
        return float(value.detach())


def serve(connection: Connection, attention: str, lengths: Lengths, arguments: argparse.Namespace) -> None:
    """A contender's process: it runs what it is sent by name, until it is sent None."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    contender = Contender(attention, lengths, arguments)
    connection.send(contender.check())
    while (asked := connection.recv()) is not None:
        connection.send(contender.measure(*asked))


class Contenders:
    """Both processes, asked one at a time."""

    def __init__(self, lengths: Lengths, arguments: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.ends, self.checks = {}, {}
        for name, attention in CONTENDERS.items():
            self.ends[name], other = context.Pipe()
            context.Process(target=serve, args=(other, attention, lengths, arguments), daemon=True).start()
            other.close()  # so that the end of the process ends the wait below
            self.checks[name] = self.ends[name].recv()

    def turns(self, repeats: int) -> Iterator[dict[str, Any]]:
        """Each phase, as often as asked, by both in turn; who begins changes too."""
        for repeat in range(repeats):
            for phase in PHASES:
                for name in list(CONTENDERS)[:: -1 if repeat % 2 else 1]:
                    self.ends[name].send((phase, repeat))
                    yield {"phase": phase, "contender": name, "repeat": repeat, **self.ends[name].recv()}
        for end in self.ends.values():
            end.send(None)


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Largest relative differences: of the losses, of any tensor's gradient (by norms), and of a vector's numbers."""
    loss, gradient = [], []
    for phase in TARGET:
        (a, left), (b, right) = one[phase], other[phase]
        loss.append(abs(a - b) / abs(a))
        gradient += [float(np.linalg.norm(left[n] - right[n]) / np.linalg.norm(left[n])) for n in left]
    vectors = float(np.abs(one["encode"] - other["encode"]).max())
    return {"loss": max(loss), "gradient": max(gradient), "vector": vectors}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each phase: what each contender did, and how many times as fast the unpadded one is, repeat by repeat."""
    record: dict[str, Any] = {}
    for phase in PHASES:
        of = {name: [r for r in runs if (r["phase"], r["contender"]) == (phase, name)] for name in CONTENDERS}
        record[phase] = {
            name: {
                "seconds": statistics.median(r["wall"] for r in some),
                "real_tokens_per_second": statistics.median(r["real_tokens"] / r["wall"] for r in some),
                "padding": statistics.fmean(r["padding"] for r in some),
                "peak_mib": max(r["peak_mib"] for r in some),
            }
            for name, some in of.items()
        }
        for clock in ("wall", "cpu"):
            times = [p[clock] / u[clock] for p, u in zip(of["padded"], of["unpadded"], strict=True)]
            record[phase][f"times_{clock}"] = [round(f(times), 3) for f in (min, statistics.median, max)]
    return record


def report(record: dict[str, Any]) -> str:
    """The figures and the targets as Markdown."""
    about, asked = record["machine"], record["arguments"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    title = (
        f"# The embedder, padded and unpadded\n\n{about['cpu']}, {about['cores']} cores, {record['threads']} threads; "
        f"Python {about['python']}; {packages}; commit {about['git_commit']}, source {about['source_digest']}; "
        f"{about['time']}.\n\nA random Mistral ({record['shape']}); lengths of {record['lengths']}. A step has "
        f"{asked['batch']} queries, each with 1 + {asked['negatives']} documents; encoding has {asked['documents']:,} "
        f"documents. {asked['repeat']} repeats in turn: medians, the highest peak above model and optimizer, and how "
        "many times as fast as padded."
    )
    rows, goals = [], []
    for phase, of in record["summary"].items():
        for name in CONTENDERS:
            c = of[name]
            speed, share = f"{c['real_tokens_per_second']:,.0f}", f"{c['padding']:.0%}"
            rows.append([f"{phase}: {name}", c["seconds"], speed, share, f"{c['peak_mib']:,.0f}"])
        target = TARGET.get(phase)
        for clock in ("wall", "cpu"):
            low, middle, high = of[f"times_{clock}"]
            met = "-" if target is None else "yes" if middle >= target else "NO"
            aim = "-" if target is None else f">= {target:g}"
            goals.append([f"{phase}: times as fast ({clock})", low, middle, high, aim, met])
    for what, value in record["differences"].items():
        met = "yes" if value <= LARGEST_DIFFERENCE else "NO"
        goals.append([f"largest difference: {what}", "-", f"{value:.1e}", "-", f"<= {LARGEST_DIFFERENCE:g}", met])
    figures = markdown(["", "seconds", "real tokens per s", "padding", "peak MiB"], rows)
    return f"{title}\n\n{figures}\n\n{markdown(['measure', 'min', 'median', 'max', 'target', 'met'], goals)}\n"


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--documents", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, help="by default torch's choice")
    parser.add_argument("--squad", type=Path, default=SQUAD, help="without this folder, lengths are lognormal")
    arguments = parser.parse_args(given)
    lengths = Lengths.squad(arguments.squad) if arguments.squad.is_dir() else Lengths.lognormal()
    about = machine()
    import torch

    contenders = Contenders(lengths, arguments)
    runs = list(contenders.turns(arguments.repeat))
    record = {
        "machine": about,
        "arguments": {name: str(v) if isinstance(v, Path) else v for name, v in vars(arguments).items()},
        "threads": arguments.threads or torch.get_num_threads(),
        "shape": str(SIZES[arguments.size]),
        "lengths": lengths.source,
        "differences": differences(*contenders.checks.values()),
        "summary": summarise(runs),
        "runs": runs,
    }
    record["arguments"].pop("squad")  # a path of this machine; ``lengths`` has what was used
    save_json(arguments.output / "embedder.json", record)
    text = report(record)
    (arguments.output / "embedder.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

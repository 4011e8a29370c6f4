"""The embedder at the shape of Mistral-7B on an accelerator: LoRA training and encoding, by kind of attention.

Run ``python -m benchmarks.embedder_gpu --output out/bench`` on the machine with the card; ``--size tiny --device
cpu`` runs the same code anywhere. Weights are random and made on the device; lengths are lognormal as SQuAD's. A kind of
attention that is not there, or that runs out of memory, is listed as such, and the others run.

**Utilisation** (MFU) is the model's operations on real tokens (counted in embedder_flops.py) a second, over the measured
rate of a large bfloat16 product on the same device, not over the data sheet's. Gradient checkpointing and GradCache do one
forward more; ``with recomputation`` counts that too, and shows how busy the card was. Tokenising counts as time.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.embedder_flops import clock, forward_flops, matrix_rate, step_flops
from benchmarks.embedder_task import Computed, Lengths, Shape, batch, real_lengths
from benchmarks.measure import MemoryPeak, Watch, machine, markdown, release_memory
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from hf_posmine.models import InstructSentenceTransformer

SIZES = {"7b": Shape(4096, 32, 32, 8, 14336, vocabulary=32_000), "tiny": Shape(64, 2, 4, 2, 128)}
MATRIX = {"7b": 8192, "tiny": 512}
ATTENTION = ("sdpa", "posmine_varlen", "flash_attention_2")
LORA = {"r": 16, "lora_alpha": 32}
TRAINING, ENCODING = ("train, checkpointed", "train, cached"), ("encode", "encode_by_tokens")
GOALS = {"train": 0.45, "encode": 0.60}


class Peak:
    """Highest memory while it is entered: all that is allocated on a CUDA device, or this process above its start."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.gib = 0.0

    def __enter__(self) -> Peak:
        import torch

        release_memory()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            self.process = MemoryPeak(Watch()).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        import torch

        if self.cuda:
            self.gib = torch.cuda.max_memory_allocated() / 2**30
        else:
            self.process.__exit__()
            self.gib = self.process.report()["above_inputs_mib"] / 1024


class Trained:
    """A model with adapters, its losses and its optimizer; the forward pass in autocast, as the trainer has it."""

    def __init__(self, model: InstructSentenceTransformer, arguments: argparse.Namespace) -> None:
        import torch
        from sentence_transformers.sentence_transformer import losses

        self.model, self.device = model, arguments.device
        model.forward = torch.autocast(torch.device(self.device).type, torch.bfloat16)(model.forward)
        self.losses = {
            "train, checkpointed": losses.MultipleNegativesRankingLoss(model),
            "train, cached": losses.CachedMultipleNegativesRankingLoss(
                model, mini_batch_num_tokens=arguments.mini_batch_tokens
            ),
        }
        self.adapters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.adapters, lr=1e-5)
        model.train()

    def backward(self, phase: str, columns: list[list[str]]) -> tuple[float, np.ndarray]:
        """The loss, whose gradients are then there, and the batch's lengths."""
        backbone = self.model[0].model
        if phase == "train, checkpointed":
            backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            backbone.gradient_checkpointing_disable()
        features = batch(self.model, columns)
        lengths = np.array([length for column in features for length in real_lengths(column)])
        loss = self.losses[phase](features, None)
        loss.backward()
        return float(loss.detach()), lengths

    def step(self, phase: str, columns: list[list[str]]) -> np.ndarray:
        _, lengths = self.backward(phase, columns)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return lengths

    def gradients(self) -> torch.Tensor:
        import torch

        return torch.cat([p.grad.flatten().float().cpu() for p in self.adapters])

    def merge(self) -> None:
        """Make it the model to encode with: adapters in the weights, no autocast."""
        del self.model.forward
        self.model.merge_adapters().eval()


class Contender:
    """One kind of attention through all phases."""

    def __init__(self, attention: str, arguments: argparse.Namespace) -> None:
        self.attention, self.arguments = attention, arguments
        self.shape, self.lengths = SIZES[arguments.size], Lengths.lognormal()
        self.runs: list[dict[str, Any]] = []
        self.check: dict[str, Any] = {}

    def run(self) -> None:
        asked = self.arguments
        model = self.shape.model(self.attention, device=asked.device, dtype="bfloat16", lora=LORA)
        self._train(model)
        self._encode(model)

    def _train(self, model: InstructSentenceTransformer) -> None:
        asked, trained = self.arguments, Trained(model, self.arguments)
        first, *others = (self.lengths.columns(asked.batch, asked.negatives, s) for s in range(1 + asked.repeat))
        for phase in TRAINING:
            loss, _ = trained.backward(phase, first)  # warms up as well
            self.check[phase] = loss, trained.gradients()
            trained.optimizer.zero_grad()
        for phase in TRAINING:
            for columns in others:
                self._measure(model, phase, partial(trained.step, phase, columns))
        trained.merge()

    def _encode(self, model: InstructSentenceTransformer) -> None:
        texts = self.lengths.documents(self.arguments.documents)
        lengths = np.array([len(text.split()) + 1 for text in texts]).clip(max=model[0].document_length)
        encode = {
            "encode": partial(model.encode, batch_size=self.arguments.batch, show_progress_bar=False),
            "encode_by_tokens": model.encode_by_tokens,
        }
        self.check["encode"] = model.encode(texts[:64], show_progress_bar=False)
        for phase in ENCODING:
            for _ in range(self.arguments.repeat):
                self._measure(model, phase, partial(encode[phase], texts), lengths)

    def _measure(
        self,
        model: InstructSentenceTransformer,
        phase: str,
        work: Callable[[], Any],
        lengths: np.ndarray | None = None,
    ) -> None:
        """Time, memory and operations of ``work`` on rows of these lengths; a training step returns them."""
        device = self.arguments.device
        with Peak(device) as peak, Computed(model) as computed:
            start = clock(device)
            result = work()
            seconds = clock(device) - start
        lengths, train = (result, True) if lengths is None else (lengths, False)
        once = forward_flops(self.shape, lengths, LORA["r"] if train else 0)
        flops = step_flops(self.shape, lengths, LORA["r"]) if train else once
        self.runs.append(
            {
                "attention": self.attention,
                "phase": phase,
                "seconds": round(seconds, 4),
                "real_tokens": int(lengths.sum()),
                "padding": round(computed.padding, 4),
                "peak_gib": round(peak.gib, 2),
                "flops": flops,
                "flops_with_recomputation": flops + once if train else flops,
            }
        )


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every kind of attention, one after the other: the device's memory belongs to one model at a time."""
    import datasets
    import torch

    datasets.disable_progress_bars()
    rate = matrix_rate(arguments.device, MATRIX[arguments.size])
    done, failed = [], {}
    for attention in arguments.attention:
        contender = Contender(attention, arguments)
        try:
            contender.run()
        except (ImportError, torch.OutOfMemoryError) as error:
            failed[attention] = str(error).strip().splitlines()[0]
        done.append(contender)
        gc.collect()
    runs = [run for contender in done for run in contender.runs]
    whole = [contender for contender in done if contender.attention not in failed]
    record = {"matrix_rate": rate, "failed": failed, "summary": summarise(runs, rate), "runs": runs}
    return record | {"differences": {c.attention: differences(whole[0].check, c.check) for c in whole[1:]}}


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Relative differences of losses and of all gradients (by norms), and the lowest cosine of two vectors."""
    pairs = [(one[phase], other[phase]) for phase in TRAINING]
    a, b = (check["encode"] / np.linalg.norm(check["encode"], axis=1, keepdims=True) for check in (one, other))
    return {
        "loss": max(abs(left[0] - right[0]) / abs(left[0]) for left, right in pairs),
        "gradient": max(float((left[1] - right[1]).norm() / left[1].norm()) for left, right in pairs),
        "cosine": float((a * b).sum(axis=1).min()),
    }


def summarise(runs: list[dict[str, Any]], rate: float) -> list[dict[str, Any]]:
    """Each phase of each kind of attention: lowest, median and highest of the repeats."""
    record = []
    for phase, attention in dict.fromkeys((run["phase"], run["attention"]) for run in runs):
        some = [run for run in runs if (run["phase"], run["attention"]) == (phase, attention)]
        spread = {
            "tokens_per_second": [run["real_tokens"] / run["seconds"] for run in some],
            "utilisation": [run["flops"] / run["seconds"] / rate for run in some],
            "with_recomputation": [run["flops_with_recomputation"] / run["seconds"] / rate for run in some],
        }
        record.append(
            {
                "phase": phase,
                "attention": attention,
                "padding": statistics.fmean(run["padding"] for run in some),
                "peak_gib": max(run["peak_gib"] for run in some),
                **{name: [min(v), statistics.median(v), max(v)] for name, v in spread.items()},
            }
        )
    return record


def report(record: dict[str, Any]) -> str:
    """The figures as Markdown."""
    about, asked = record["machine"], record["arguments"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    memory = "all that is allocated" if asked["device"].startswith("cuda") else "this process above its start"
    title = (
        f"# The embedder on {record['device']}\n\nPython {about['python']}; {packages}; commit {about['git_commit']}, source "
        f"{about['source_digest']}; {about['time']}.\n\nA random Mistral ({record['shape']}) in bfloat16 with LoRA "
        f"{LORA}, merged for encoding; {record['lengths']}. A step has {asked['batch']} queries, each with 1 + "
        f"{asked['negatives']} documents; encoding has {asked['documents']:,}. A bfloat16 product runs at "
        f"{record['matrix_rate'] / 1e12:,.1f} TFLOP/s. Lowest, median and highest of {asked['repeat']}; memory is {memory}."
    )
    rows = []
    for of in record["summary"]:
        tokens, used, busy = of["tokens_per_second"], of["utilisation"], of["with_recomputation"]
        goal = GOALS[of["phase"].split(",")[0].split("_")[0]]
        real = asked["device"].startswith("cuda") and asked["size"] == "7b"
        met = ("yes" if used[1] >= goal else "NO") if real else "-"
        rows.append(
            [
                f"{of['phase']}: {of['attention']}",
                " / ".join(f"{v:,.0f}" for v in tokens),
                f"{of['padding']:.0%}",
                f"{of['peak_gib']:.2f}",
                " / ".join(f"{v:.1%}" for v in used),
                f"{busy[1]:.1%}",
                f">= {goal:.0%}",
                met,
            ]
        )
    header = ["", "real tokens per s", "padding", "peak GiB", "utilisation", "with recomputation", "goal", "met"]
    notes = [f"- {attention} did not finish: {why}" for attention, why in record["failed"].items()]
    notes += [
        f"- {attention} against the first: loss {d['loss']:.1e}, gradient {d['gradient']:.1e} (relative), lowest cosine "
        f"{d['cosine']:.5f}"
        for attention, d in record["differences"].items()
    ]
    return "\n\n".join([title, markdown(header, rows), "\n".join(notes)]) + "\n"


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--attention", nargs="+", choices=ATTENTION, default=list(ATTENTION))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--documents", type=int, default=4096)
    parser.add_argument("--mini-batch-tokens", type=int, default=12_288, help="of the cached loss")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args(given)
    import torch

    cuda = arguments.device.startswith("cuda")
    about = machine()
    record = {
        "machine": about,
        "device": torch.cuda.get_device_name() if cuda else about["cpu"],
        "arguments": {name: str(v) if isinstance(v, Path) else v for name, v in vars(arguments).items()},
        "shape": str(SIZES[arguments.size]),
        "lengths": Lengths.lognormal().source,
        **measure(arguments),
    }
    save_json(arguments.output / "embedder-gpu.json", record)
    text = report(record)
    (arguments.output / "embedder-gpu.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

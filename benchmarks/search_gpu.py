"""The search on a GPU: random vectors made on the device, found candidates per second against the measured matrix rate.

**Not measured on a GPU yet.** The goal is 60 % of the matrix rate at 500,000 queries x 8.8 million documents x 768, with
selection; on a CPU the same code runs at small sizes to show that it works. Counted is what runs on the device: 16-bit
products, ceilings, counts above them, and the candidates that certainly hold the best k. Scoring those few again from
the float32 vectors is left out, as is reading the documents.

With ``--decay`` the vectors have principal axes of falling variance, as those of text models do, and the scan that bounds
products by the first ``--axes`` of them is measured beside the plain one. Its rate counts full products, so it may be above
the matrix rate.

Run ``python -m benchmarks.search_gpu --output out/bench``; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import machine, markdown
from benchmarks.multiply_adds import Counted
from benchmarks.synthetic import save_json
from hf_posmine.core import Exclusions
from hf_posmine.search import scan_int8
from hf_posmine.search.axis_bounds import BOUNDS, AxisBounds
from hf_posmine.search.block_sizes import TorchSizes
from hf_posmine.search.error_bounds import Coded, Documents, Queries
from hf_posmine.search.principal_axes import GPU_HALF
from hf_posmine.search.rounding import padded
from hf_posmine.search.scan import Ceilings
from hf_posmine.search.scan_torch import TorchScan

GOAL = 0.6
LARGE = {"queries": 500_000, "documents": 8_800_000, "dim": 768}
SMALL = {"queries": 2000, "documents": 40_000, "dim": 64}
CHECKED = 64


class MadeOnDevice:
    """Random unit vectors in a 16-bit type, or as int8 codes and their steps, kept on the device block by block.

    They stand in the place of a :class:`GpuBlocks`. ``most`` is how far codes are from their vectors at most.
    """

    def __init__(self, given: argparse.Namespace, block_rows: int, axes: AxisBounds | None) -> None:
        generator = torch.Generator(given.device).manual_seed(0)
        spectrum = torch.from_numpy(spectrum_of(given)).to(given.device)
        self.blocks: list[tuple[int, Any]] = []
        self.most = 0.0
        for start in range(0, given.documents, block_rows):
            size = min(block_rows, given.documents - start), given.dim
            rows = torch.randn(size, generator=generator, device=given.device) * spectrum
            rows = torch.nn.functional.normalize(rows)
            if given.dtype == "int8":
                self.blocks.append((start, self._coded(rows)))
                continue
            rows = rows.to(getattr(torch, given.dtype))
            self.blocks.append((start, rows if axes is None else torch.cat([rows, axes.documents(rows)], dim=1)))

    def _coded(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        steps = rows.abs().amax(dim=1) / 127
        codes = (rows / steps[:, None]).round()
        self.most = max(self.most, 1.01 * float((rows - codes * steps[:, None]).norm(dim=1).max()))
        codes = torch.nn.functional.pad(codes, (0, padded(rows.shape[1]) - rows.shape[1]))
        return codes.to(torch.int8), steps

    def vectors(self, dimensions: int) -> Any:
        """The vectors float64 of each block, as they are multiplied."""
        for _, block in self.blocks:
            yield (
                block[0][:, :dimensions].double() * block[1][:, None]
                if isinstance(block, tuple)
                else block[:, :dimensions].double()
            )

    def __iter__(self) -> Any:
        return iter(self.blocks)


def spectrum_of(given: argparse.Namespace) -> np.ndarray:
    """Standard deviations float32 ``[d]`` along the principal axes, which are the coordinates."""
    return (np.arange(1, given.dim + 1) ** -given.decay).astype(np.float32)


def matrix_rate(sizes: TorchSizes, dim: int, device: str, dtype: str, seconds: float = 2.0) -> float:
    """FLOP per second of the plain product of a span of queries and a block of documents, on random data."""
    if dtype == "int8":
        codes = [
            torch.ones((rows, padded(dim)), dtype=torch.int8, device=device)
            for rows in (sizes.queries, sizes.block_rows)
        ]
        return (
            2.0
            * sizes.queries
            * sizes.block_rows
            * dim
            / min(_seconds(lambda: scan_int8.products(*codes), device) for _ in range(5))
        )
    kind = getattr(torch, dtype) if device != "cpu" else torch.float32
    queries = torch.randn(sizes.queries, dim, device=device).to(kind)
    block = torch.randn(sizes.block_rows, dim, device=device).to(kind)
    out = queries @ block.T
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        best = min(best, _seconds(lambda: torch.matmul(queries, block.T, out=out), device))
    return 2.0 * sizes.queries * sizes.block_rows * dim / best


def _seconds(action: Any, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def run(arguments: argparse.Namespace, sizes: TorchSizes, axes: AxisBounds | None = None) -> dict[str, Any]:
    """Search all queries, in batches that fit main memory."""
    feed, spectrum = MadeOnDevice(arguments, sizes.block_rows, axes), spectrum_of(arguments)
    flat = np.broadcast_to(np.float32(1), arguments.documents), np.broadcast_to(np.float32(0), arguments.documents)
    documents = Documents(*flat, 1.0, 1.0)
    scan: Any = TorchScan("dot", None, documents, arguments.device, sizes, arguments.dtype, axes, _feed=feed)  # type: ignore[arg-type]
    if arguments.dtype == "int8":
        coded = Coded(np.empty((0, 0), np.int8), flat[0], flat[1], feed.most)
        documents = replace(documents, coded=coded)
        scan = scan_int8.Int8Scan("dot", documents, coded, arguments.device, sizes, _kept=feed.blocks)
    rng, seconds, certain, kept, above, work = np.random.default_rng(1), 0.0, 0, 0, 0, Counted()
    for start in range(0, arguments.queries, arguments.batch):
        count = min(arguments.batch, arguments.queries - start)
        queries = Queries.of("cosine", rng.standard_normal((count, arguments.dim), np.float32) * spectrum)
        limits = Ceilings(np.full(count, arguments.ceiling), Exclusions.none(count), np.full(count, -np.inf))
        if not start:  # warm up
            scan(queries.take(np.arange(min(count, 256))), arguments.k, limits.take(np.arange(min(count, 256))), 512)
        found: list[Any] = []
        with work:
            seconds += _seconds(
                lambda q=queries, at=limits, to=found: to.append(scan(q, arguments.k, at, 512)), arguments.device
            )
        if not start:
            check(feed, queries, found[0], arguments)
        certain += int(found[0].complete.sum())
        kept += int((found[0].ids >= 0).sum())
        above += int(found[0].above.sum())
    return {
        "seconds": seconds,
        "flop_per_second": 2.0 * arguments.queries * arguments.documents * arguments.dim / seconds,
        "multiply_adds": (work.products + work.pairs) / (arguments.queries * arguments.documents * arguments.dim),
        "pairs_per_query": work.pairs / (arguments.queries * arguments.dim),
        "certain_share": certain / arguments.queries,
        "candidates_per_query": kept / arguments.queries,
        "above_per_query": above / arguments.queries,
    }


def check(feed: MadeOnDevice, queries: Queries, found: Any, arguments: argparse.Namespace) -> None:
    """The best k of a few queries, by float64 products with the vectors on the device, are among what was found."""
    q = torch.from_numpy(queries.vectors[:CHECKED]).to(arguments.device, torch.float64)
    scores = torch.cat([q @ block.T for block in feed.vectors(arguments.dim)], dim=1)
    scores[scores >= arguments.ceiling] = -torch.inf
    best = scores.topk(arguments.k, dim=1).indices.cpu().numpy()
    for row in np.flatnonzero(found.complete[:CHECKED]):
        missing = set(best[row].tolist()) - set(found.ids[row].tolist())
        if missing:
            raise SystemExit(
                f"query {row}: documents {sorted(missing)} are among its best {arguments.k} and were not found"
            )


def report(record: dict[str, Any]) -> str:
    """One table, with the device it was measured on."""
    about, results = record["machine"], [record["result"], *([record["along_axes"]] if record["along_axes"] else [])]
    where = record["device_name"]
    shown = [
        ("seconds", "seconds", "{:.2f}", 1),
        ("rate, TFLOP/s", "flop_per_second", "{:.3f}", 1e12),
        (
            f"share of the plain matrix product's (goal on a GPU: {GOAL})",
            "flop_per_second",
            "{:.2f}",
            record["matrix_rate"],
        ),
        ("multiply-adds, share of the full product's", "multiply_adds", "{:.3f}", 1),
        ("pairs that bounds leave open, per query", "pairs_per_query", "{:.1f}", 1),
        ("queries certain without another scan, %", "certain_share", "{:.2f}", 0.01),
        ("candidates per query", "candidates_per_query", "{:.1f}", 1),
        ("documents at or above the ceiling, per query", "above_per_query", "{:.1f}", 1),
    ]
    rows = [[label, *(form.format(result[name] / unit) for result in results)] for label, name, form, unit in shown]
    asked = " x ".join(f"{record['arguments'][n]:,}" for n in LARGE)
    peak = f"{record['peak_gib']:.1f} GiB of device memory at most. " if record["peak_gib"] else ""
    warning = "" if record["on_gpu"] else "\n\n**On a CPU: this shows that the code works, and nothing about a GPU.**"
    return (
        f"# Search on {where}\n\n{about['time']}, source {about['source_digest']}{warning}\n\n"
        + f"{asked} (queries x documents x dimensions), products of {record['arguments']['dtype']}; plain matrix product: "
        + f"{record['matrix_rate'] / 1e12:.3f} TFLOP/s. {peak}\n\n"
        + markdown(["", "plain", *(["along axes"] if record["along_axes"] else [])], rows)
        + "\n"
    )


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in LARGE.items():
        parser.add_argument(f"--{name}", type=int, help=f"default: {value:,} on a GPU, {SMALL[name]:,} on a CPU")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "int8"), default="float16", help="of the products")
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--sigmas", type=float, default=4.2, help="ceiling, in standard deviations of the scores")
    parser.add_argument("--batch", type=int, default=65_536, help="queries per search")
    parser.add_argument(
        "--decay", type=float, default=0.0, help="axis j has variance j ** (-2 * DECAY); 0: all the same"
    )
    parser.add_argument(
        "--axes", type=int, help="along which bounds are computed, with --decay; default: a quarter of all"
    )
    parser.add_argument(
        "--pair", type=float, default=GPU_HALF.pair, help="cost of a pair's multiply-add (default: %(default)s)"
    )
    arguments = parser.parse_args(given)
    if arguments.decay and arguments.dtype == "int8":
        parser.error("--decay compares bounds along axes, which are of 16-bit products; leave --dtype int8 out")
    on_gpu = arguments.device.startswith("cuda")
    for name, value in (LARGE if on_gpu else SMALL).items():
        setattr(arguments, name, getattr(arguments, name) or value)
    squares = spectrum_of(arguments).astype(np.float64) ** 2
    arguments.ceiling = arguments.sigmas * np.linalg.norm(squares) / squares.sum()
    first = (arguments.axes or max(BOUNDS + 1, arguments.dim // 4)) - BOUNDS
    axes = AxisBounds.of(np.eye(first, arguments.dim), arguments.device, arguments.pair) if arguments.decay else None
    sizes = TorchSizes()
    if on_gpu:
        free = torch.cuda.mem_get_info(arguments.device)[0]
        kept = 2 * arguments.documents * (arguments.dim + (axes.width if axes else 0))
        sizes = TorchSizes.of_memory(int(0.9 * free) - kept, arguments.dim)
    rate = matrix_rate(sizes, arguments.dim, arguments.device, arguments.dtype)
    result = run(arguments, sizes)
    along = run(arguments, sizes, axes) if axes else None
    record = {
        "machine": machine(),
        "device_name": torch.cuda.get_device_name(arguments.device) if on_gpu else "a CPU",
        "on_gpu": on_gpu,
        "arguments": {name: str(v) if isinstance(v, Path) else v for name, v in vars(arguments).items()},
        "sizes": vars(sizes),
        "matrix_rate": rate,
        "result": result,
        "along_axes": along,
        "share": result["flop_per_second"] / rate,
        "peak_gib": torch.cuda.max_memory_allocated(arguments.device) / 2**30 if on_gpu else None,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_json(arguments.output / "search_gpu.json", record)
    text = report(record)
    (arguments.output / "search_gpu.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

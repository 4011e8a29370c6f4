"""Encoding texts of mixed length: ``Encoder.encode``, also in bfloat16 and by OpenVINO, against ``SentenceTransformer.encode``.

Run ``python -m benchmarks.encoding --output out/bench``; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.measure import ROOT, Watch, busy_seconds, machine, markdown
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from hf_posmine.encoding.encode import Encoder

LOADED: dict[str, dict[str, str]] = {
    "ours": {},
    "ours-bfloat16": {"compute": "bfloat16"},
    "ours-openvino": {"backend": "openvino"},
    "ours-openvino-bfloat16": {"backend": "openvino", "compute": "bfloat16"},
}
CONTENDERS = ("peer", *LOADED)
HERE = CONTENDERS if importlib.util.find_spec("optimum") else CONTENDERS[:3]
MOST_DOCUMENTS = 6
TARGETS = {"ours": 1.5, "ours-openvino": 1.5, "ours-bfloat16": 2.5, "ours-openvino-bfloat16": 2.5}
LARGEST_DIFFERENCE = 1e-5
WORDS = {"mixed": "paragraphs of Python's standard library", "prose": "passages"}
SOURCES = ("argparse", "ast", "asyncio", "collections", "concurrent", "email", "http", "json", "logging", "unittest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--passages", type=int, default=1500)
    parser.add_argument("--texts", choices=("mixed", "prose"), default="mixed", help="paragraphs of code, or passages")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32, help="of the peer; its default is 32")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=list(HERE), help="OpenVINO where it is installed"
    )
    arguments = parser.parse_args()
    record = {
        "machine": machine(),
        "arguments": {name: str(v) if isinstance(v, Path) else v for name, v in vars(arguments).items()},
        **measure(arguments),
    }
    save_json(arguments.output / "encoding.json", record)
    text = report(record)
    (arguments.output / "encoding.md").write_text(text)
    print(text)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both in turn in one process, as often as asked, after a warm-up."""
    import torch

    from hf_posmine.encoding import load_model
    from hf_posmine.encoding.encode import Encoder

    texts = (paragraphs if arguments.texts == "mixed" else passages)(arguments.passages)
    models = {name: load_model("embedded", device="cpu", **LOADED.get(name, {})) for name in arguments.only}
    threads = torch.get_num_threads()

    def peer(some: list[str]) -> np.ndarray:
        return models["peer"].encode(some, batch_size=arguments.batch_size, show_progress_bar=False)

    encode = {
        name: peer if name == "peer" else partial(Encoder(m).encode, role="document") for name, m in models.items()
    }
    for name in arguments.only:
        encode[name](texts[:32])
    runs, vectors, padding = [], {}, {}
    for repeat in range(arguments.repeat):
        for name in arguments.only:
            torch.set_num_threads(threads)  # as if each ran alone, whatever the other one left behind
            watch, others = Watch(), busy_seconds()
            with _Tokens(models[name]) as tokens, watch(name):
                vectors[name] = encode[name](texts)
            span = {clock: round(watch.spans[name][clock], 3) for clock in ("wall", "cpu")}
            others = max(0.0, busy_seconds() - others - span["cpu"])
            runs.append({"contender": name, "repeat": repeat, **span, "cpu_seconds_of_others": round(others, 1)})
            padding[name] = tokens.report()
    record = {
        "lengths": lengths(Encoder(next(iter(models.values()))), texts),
        "threads": threads,
        "runs": runs,
        "tokens": padding,
    }
    return (
        record | compare(runs, vectors) | {"lists": {name: effect(LOADED[name]) for name in models if LOADED.get(name)}}
    )


def effect(changed: dict[str, str]) -> dict[str, float]:
    """What another way to compute does to the mined lists of the embedded sample: 4 negatives under ``PercPos(0.95)``."""
    from hf_posmine import Corpus, PositiveAwareMiner
    from hf_posmine.data import beir_pairs

    folder = ROOT / "hf_posmine" / "data" / "sample"
    pairs, corpus, lists = beir_pairs(folder), Corpus.from_beir(folder), {}
    for name, how in (("as it is", {}), ("changed", changed)):
        options = {**how, "store": tempfile.mkdtemp()}
        miner = PositiveAwareMiner.from_dataset(
            pairs,
            "embedded",
            corpus=corpus,
            positive_id_column="positive_id",
            filters="PercPos(0.95)",
            teacher_options=options,
        )
        lists[name] = pairs.map(miner, batched=True)["negatives"][:]
    both = list(zip(*lists.values(), strict=True))
    shared = [len({*a} & {*b}) / max(1, len({*a} | {*b})) for a, b in both]
    return {
        "lists": len(both),
        "same lists": float(np.mean([a == b for a, b in both])),
        "jaccard": float(np.mean(shared)),
    }


def paragraphs(count: int) -> list[str]:
    """Paragraphs of Python's standard library, drawn with a fixed seed: from a line to what fills the model."""
    import sysconfig

    root = Path(sysconfig.get_paths()["stdlib"])
    files = [
        path
        for name in SOURCES
        for path in sorted([root / f"{name}.py", *(root / name).rglob("*.py")])
        if path.is_file()
    ]
    pieces = [piece.strip() for path in files for piece in path.read_text("utf8").split("\n\n")]
    pieces = list(dict.fromkeys(piece for piece in pieces if len(piece) > 20))
    return [pieces[i] for i in np.random.default_rng(0).choice(len(pieces), count, replace=False)]


def passages(count: int) -> list[str]:
    """Passages of 1 to 6 documents of the embedded sample, drawn with a fixed seed."""
    lines = (ROOT / "hf_posmine" / "data" / "sample" / "corpus.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, MOST_DOCUMENTS + 1, count)
    return [" ".join(texts[i] for i in rng.choice(len(texts), size, replace=False)) for size in sizes]


def lengths(encoder: Encoder, texts: list[str]) -> dict[str, float]:
    """What the lengths in tokens are."""
    tokens = encoder.lengths(texts, "document")
    return {"least": int(tokens.min()), "mean": round(float(tokens.mean()), 1), "most": int(tokens.max())}


class _Tokens:
    """Counts the tokens that go into the model, with and without padding, while it is entered."""

    def __init__(self, model: Any) -> None:
        self.model, self.padded, self.useful, self.batches = model, 0, 0, 0

    def __enter__(self) -> _Tokens:
        def count(_: Any, inputs: tuple[Any, ...]) -> None:
            mask = inputs[0]["attention_mask"]
            self.padded, self.useful = self.padded + mask.numel(), self.useful + int(mask.sum())
            self.batches += 1

        self.hook = self.model[0].register_forward_pre_hook(count)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def report(self) -> dict[str, Any]:
        share = 1 - self.useful / self.padded
        return {"with_padding": self.padded, "useful": self.useful, "padding_share": share, "batches": self.batches}


def compare(runs: list[dict[str, Any]], vectors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The speed of ours over the peer's, by the lowest of the repeats, and the largest difference."""
    if not {"peer", "ours"} <= vectors.keys():
        return {}
    record: dict[str, Any] = {"speed": {}}
    for clock in ("wall", "cpu"):
        least = {name: min(run[clock] for run in runs if run["contender"] == name) for name in vectors}
        for name, target in ((name, target) for name, target in TARGETS.items() if name in vectors):
            speed = least["peer"] / least[name]
            record["speed"][f"{name}, {clock}"] = {"times": round(speed, 3), "target": target, "met": speed >= target}
    record["difference"] = {}
    for name in ("ours", "ours-openvino"):
        if name in vectors:
            largest = float(np.abs(vectors[name] - vectors["peer"]).max())
            met = largest <= LARGEST_DIFFERENCE
            record["difference"][name] = {"largest": largest, "target": LARGEST_DIFFERENCE, "met": met}
    return record


def report(record: dict[str, Any]) -> str:
    """The figures and the targets as Markdown."""
    about, tokens, what = record["machine"], record["lengths"], WORDS[record["arguments"]["texts"]]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    title = (
        f"# Encoding with the embedded MiniLM\n\n{about['cpu']}, {about['cores']} cores; Python {about['python']}; "
        f"{packages}; commit {about['git_commit']}, source {about['source_digest']}; {about['time']}.\n\n"
        f"{record['arguments']['passages']:,} {what} of {tokens['least']} to {tokens['most']} tokens, mean "
        f"{tokens['mean']}; the lowest of {record['arguments']['repeat']} repeats."
    )
    rows = []
    for name, counted in record["tokens"].items():
        runs = [run for run in record["runs"] if run["contender"] == name]
        wall, cpu = (min(run[clock] for run in runs) for clock in ("wall", "cpu"))
        rate = f"{counted['useful'] / cpu:,.0f}"
        rows.append([name, wall, cpu, rate, f"{counted['padding_share']:.1%}", f"{counted['batches']:,}"])
    figures = markdown(["", "wall s", "CPU s", "useful tokens per CPU s", "padding", "batches"], rows)
    if "speed" not in record:
        return f"{title}\n\n{figures}\n"
    goals = [
        [f"times as fast: {clock}", f"{s['times']:.2f}", f">= {s['target']:g}", "yes" if s["met"] else "NO"]
        for clock, s in record["speed"].items()
    ]
    for name, found in record["difference"].items():
        met = "yes" if found["met"] else "NO"
        goals.append([f"largest difference: {name}", f"{found['largest']:.1e}", f"<= {found['target']:g}", met])
    lists = (
        "Lists of the embedded sample, 4 negatives under `PercPos(0.95)`, that are those of float32 by torch:\n\n"
        + markdown(
            ["", "lists", "the same", "mean Jaccard"],
            [[n, v["lists"], f"{v['same lists']:.1%}", f"{v['jaccard']:.3f}"] for n, v in record["lists"].items()],
        )
    )
    return f"{title}\n\n{figures}\n\n{markdown(['measure', 'value', 'target', 'met'], goals)}\n\n{lists}\n"


if __name__ == "__main__":
    main()

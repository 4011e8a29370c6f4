r"""Which data set of a blend hurts? Train the blend without each of its sets in turn, and test the differences.

    python recipes/leave_one_out.py --config my_stage.yaml --output out/leave_one_out --seeds 1 2 3

The recipe names what it is measured on (``evals:``); these should not be the collections that the model is reported on. Every run
takes the same number of steps where the recipe has ``max_steps``, so that a set that is left out gives its share to the others.
RLHN (arXiv 2505.16967) dropped 8 of 15 sets so and gained. Scores of each run are kept in OUTPUT, and one that is there is
not trained again; models are not kept. Intervals are over seeds and queries, p-values carry Holm's correction over the sets.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from hf_posmine.core import InputError, PosmineError
from hf_posmine.evaluation import Comparison, compare_runs, corrected, evaluate_retrieval, load_collection
from hf_posmine.training import Recipe, read_recipe, run_stage
from hf_posmine.utils import json_digest, write_file

MEASURE, LEAST = "ndcg@10", 2
WHOLE = "the whole blend"


def main(given: list[str] | None = None) -> int:
    """All steps, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a stage with at least two data sets, and evals")
    parser.add_argument("--output", required=True, type=Path, help="folder of the scores and of leave_one_out.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="at least two (default: %(default)s)")
    args = parser.parse_args(given)
    try:
        # 1. The blend, and the blend without each of its sets.
        ways = without_each(read_recipe(args.config))
        if len(set(args.seeds)) < LEAST:
            raise InputError(f"--seeds {args.seeds}: give at least {LEAST}, since one training run shows no spread")

        # 2. A student of each with every seed, measured on every query.
        scores = {
            name: np.array([run_scores(recipe, seed, args.output) for seed in args.seeds])
            for name, recipe in ways.items()
        }

        # 3. What leaving a set out changes.
        found = corrected({name: compare_runs(scores[WHOLE], scores[name]) for name in list(ways)[1:]})
    except PosmineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{WHOLE}: {MEASURE} {scores[WHOLE].mean():.4f}")
    for name, one in found.items():
        print(f"without {name}: {verdict(one)}. {one.sentence(WHOLE, f'the blend without {name}')}")
    record = {"measure": MEASURE, "seeds": args.seeds, "mean": float(scores[WHOLE].mean())}
    record["without"] = {name: asdict(one) | {"verdict": verdict(one)} for name, one in found.items()}
    file = args.output / "leave_one_out.json"
    write_file(file, lambda path: path.write_text(json.dumps(record, indent=1) + "\n"))
    return 0


def without_each(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe, then itself without each of its data sets, by their names; ``query_prompt_of`` goes with its set.

    Raises:
        InputError: fewer than two data sets, nothing to measure on, or rounds.
    """
    sets = recipe.contrastive.datasets
    if len(sets) < LEAST:
        raise InputError(f"the blend has {len(sets)} data set; leaving one out needs at least {LEAST}")
    if not recipe.contrastive.evals:
        raise InputError("the recipe has no evals; give evals: [{path: ...}] to measure on")
    if recipe.rounds > 1:
        raise InputError(
            f"rounds={recipe.rounds}: leave rounds out, each of which would be trained {len(sets) + 1} times"
        )
    ways = {WHOLE: recipe}
    for spec in sets:
        rest = tuple(one for one in sets if one is not spec)
        prompt = recipe.contrastive.query_prompt_of
        others = replace(recipe.contrastive, datasets=rest, query_prompt_of=None if prompt == spec.name else prompt)
        ways[spec.name] = replace(recipe, contrastive=others)
    return ways


def run_scores(recipe: Recipe, seed: int, output: Path) -> list[float]:
    """The measure of every query of all evals, of one training run; taken from its file where it is there."""
    digest = json_digest({**recipe.as_dict(), "output_dir": "", "seed": seed})[:16]
    file, folder = output / "scores" / f"{digest}.json", output / "runs" / digest
    if not file.is_file():
        trainer = {**recipe.trainer, "output_dir": str(folder), "seed": seed}
        model = run_stage(replace(recipe, trainer=trainer))
        values: list[float] = []
        for entry in recipe.contrastive.evals:
            collection = load_collection(entry["path"], entry.get("qrels"))
            found = evaluate_retrieval(
                model, collection, measures=(MEASURE,), query_instruction=entry.get("instruction")
            )
            values += found.scores[MEASURE].tolist()
        write_file(file, lambda path: path.write_text(json.dumps(values)))
        shutil.rmtree(folder)
    return json.loads(file.read_text("utf8"))


def verdict(one: Comparison) -> str:
    """What the set does, as far as the difference without it may be claimed."""
    if not one.differs():
        return "open"
    return "it hurts" if one.difference > 0 else "it helps"


if __name__ == "__main__":
    sys.exit(main())

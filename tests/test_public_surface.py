"""What users may rely on: the names, the lightness of the import, and that what the README shows runs."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import hf_posmine

ROOT = Path(__file__).parent.parent
NAMES = [
    "BM25Teacher", "ChatServer", "Corpus", "CrossEncoderTeacher", "CrossSample", "DenseTeacher", "Endpoint",
    "ExactIndex", "HubChat", "InstructSentenceTransformer", "IntraSample", "Judge", "LateInteractionTeacher",
    "MarginPos", "MaxScore", "MinScore", "MiningSettings", "MiningSummary", "NegativesCollator", "PercPos",
    "PositiveAwareMiner", "Qrels", "RandomTeacher", "RankWindow", "RemoteTeacher", "RunTeacher", "SampledTopK",
    "SecondOpinion", "SimANS", "SkipTop", "SparseTeacher", "StoredRun", "Top", "Top1Sampled", "Uniform",
    "VectorTeacher", "apply_judgements", "bidirectional_encoder", "calibrate", "judge_negatives",
    "judgements_of_pairs", "load_nv_retriever", "mine", "push_dataset", "push_model", "ragatouille", "remine",
    "sweep", "teacher_agreement", "to_margin_mse", "to_training", "verify",
]  # fmt: skip


def test_the_names_are_these_and_no_others():
    assert hf_posmine.__all__ == NAMES == sorted(NAMES)
    assert all(getattr(hf_posmine, name).__doc__ for name in NAMES)
    assert dir(hf_posmine) == sorted([*NAMES, "__version__"])


def test_the_import_is_light():
    code = (
        "import time, sys, json; start = time.process_time(); import hf_posmine; spent = time.process_time() - start;"
        "print(json.dumps([spent, [m for m in ('torch', 'datasets', 'numpy', 'transformers') if m in sys.modules]]))"
    )
    spent, loaded = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    assert spent < 0.3
    assert loaded == []


def test_the_version_is_the_changelog_s_and_the_package_s():
    assert f'version = "{hf_posmine.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_the_examples_of_the_readme_run():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    shown = doctest.DocTestParser().get_doctest(
        "\n".join(b for b in blocks if ">>>" in b), {}, "README.md", "README.md", 0
    )
    assert shown.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(shown).failed == 0
    for block in blocks:
        compile("" if ">>>" in block else block, "README.md", "exec")

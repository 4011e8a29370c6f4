# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-posmine[bm25]"]
# ///
r"""Audit training data on rented hardware, any CPU without --teacher; hf-posmine audit with all its arguments.

Here:

    uv run recipes/jobs/audit.py --help

Rented from Hugging Face; what is not pushed or written below a mounted folder is gone at the end:

    hf jobs uv run --flavor cpu-basic --timeout 12h --secrets HF_TOKEN recipes/jobs/audit.py \
        hf://datasets/me/rows/train.parquet --output /data/audit.json --fail-on same_text

With --dry-run it checks the first rows and prints how long the job will take, and with --price what it costs.
"""

from __future__ import annotations

import sys

from hf_posmine.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["audit", *sys.argv[1:]]))

# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-posmine[fast,bm25]"]
# ///
r"""Mine hard negatives on rented hardware; the same as hf-posmine mine, with all its arguments.

Here:

    uv run recipes/jobs/mine.py --help

Rented from Hugging Face; what is not pushed or written below a mounted folder is gone at the end:

    hf jobs uv run --flavor a10g-large --timeout 12h --secrets HF_TOKEN recipes/jobs/mine.py \
        me/pairs --corpus me/documents --teacher Qwen/Qwen3-Embedding-0.6B --output /data/mined --push-to-hub me/pairs-mined

With --plan it reads the data, encodes a sample and prints how long the job will take, and mines nothing.
"""

from __future__ import annotations

import sys

from hf_posmine.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["mine", *sys.argv[1:]]))

# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-posmine[train]"]
# ///
r"""Train one stage from its recipe on rented hardware; the same as hf-posmine train, with all its arguments.

Here:

    uv run recipes/jobs/train.py --help

Rented from Hugging Face; what is not pushed or written below a mounted folder is gone at the end:

    hf jobs uv run --flavor a100-large --timeout 12h --secrets HF_TOKEN recipes/jobs/train.py \
        --config my_stage1.yaml --output_dir /data/stage1 --push_to_hub true --hub_model_id me/my-retriever

With --dry-run it shows what it would do: data sets, batches, tokens, memory, the first rows as the model reads them.
"""

from __future__ import annotations

import sys

from hf_posmine.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))

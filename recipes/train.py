# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-posmine[train]"]
# ///
r"""Train one stage from its recipe, here or on rented hardware; the same as hf-posmine train.

One GPU, or the CPU:

    uv run recipes/train.py --config recipes/nv_retriever/stage1.yaml

Eight GPUs, in an environment that has hf-posmine[train]:

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train.py --config recipes/nv_retriever/stage1.yaml

Rented from Hugging Face. The recipe travels along; its data sets must be Hub ids or be below a folder mounted with -v, and
what is not pushed or written below /data is gone at the end:

    hf jobs uv run --flavor a100-large --timeout 12h --secrets HF_TOKEN recipes/train.py --config my_stage1.yaml \
        --output_dir /data/stage1 --push_to_hub true --hub_model_id me/my-retriever --hub_private_repo true

    hf jobs uv run --flavor a100x8 --timeout 3d --secrets HF_TOKEN --with "hf-posmine[train]" \
        accelerate launch --num_processes 8 recipes/train.py --config my_stage1.yaml --output_dir /data/stage1

With --dry-run it shows what it would do: data sets, batches, tokens, memory, the first rows as the model reads them.
"""

from __future__ import annotations

import sys

from hf_posmine.cli.main import main

if __name__ == "__main__":
    # 1. All arguments are those of hf-posmine train: --config, --dry-run, and any key of the recipe.
    sys.exit(main(["train", *sys.argv[1:]]))

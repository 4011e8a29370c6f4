"""What is measured to choose the codes of a search is what a scan computes."""

from __future__ import annotations

import numpy as np
import pytest

from hf_posmine.search import product_speed


@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
def test_products_are_timed_as_scans_make_them_into_one_block(kind, monkeypatch):
    blocks = []

    def least_seconds(action):
        made = [action() for _ in range(3)]
        if isinstance(made[0], np.ndarray):  # float32, which takes longer, so that the larger product is tried, too
            return 1.0
        blocks.extend(product.data_ptr() for product in made)
        return 0.1

    monkeypatch.setattr(product_speed, "least_seconds", least_seconds)
    if product_speed._rounding_share(kind, 384) is None:
        pytest.skip(f"this build of torch does not multiply {kind}")
    assert len(blocks) == 3 * len(product_speed.PROBES) and len(set(blocks)) == len(product_speed.PROBES)

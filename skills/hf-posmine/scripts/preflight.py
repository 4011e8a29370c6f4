# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-posmine"]
# ///
"""Layout, columns, rows and suspects of training rows, as one JSON object: python preflight.py ROWS."""

from __future__ import annotations

import json
import sys

from hf_posmine.audit import audit_data
from hf_posmine.core.errors import PosmineError
from hf_posmine.data import open_training_data


def main() -> int:
    """Exit status 2 where the rows cannot be read, with the reason."""
    try:
        result = audit_data(open_training_data(sys.argv[1]))
    except PosmineError as error:
        print(json.dumps({"error": str(error)}))
        return 2
    found = {kind: one.rows for kind, one in result.findings.items()}
    print(json.dumps({"layout": result.layout, "rows": result.rows, "negatives": result.negatives, "suspects": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m hf_posmine.cli``, for launchers such as accelerate and torchrun."""

import sys

from hf_posmine.cli.main import main

sys.exit(main())

"""One module per command of ``hf-posmine``: ``HELP``, ``EXAMPLES``, ``add_arguments`` and ``run``."""

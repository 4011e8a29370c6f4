"""Build the package, check it, install it in clean environments, and run the demo in each: python .ci/release.py python3.10 ..."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("hf_posmine/py.typed", "hf_posmine/model_card_templates/")
"""Must be in the wheel."""


def run(*command: object, cwd: Path = ROOT) -> str:
    """Run a command and return its output; a failure ends the check."""
    print("+", *command, flush=True)
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def main() -> int:
    """Exit status 1 if an interpreter is missing, so that nothing passes for lack of one."""
    with tempfile.TemporaryDirectory(prefix="posmine-release-") as folder:
        built = Path(folder) / "dist"
        run(sys.executable, "-m", "build", "--outdir", built)
        run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
        (wheel,) = built.glob("*.whl")
        inside = run(sys.executable, "-m", "zipfile", "--list", wheel)
        missing = [name for name in FILES if name not in inside]
        if missing:
            print(f"the wheel lacks {missing}")
            return 1
        results = [try_install(wheel, python, Path(folder) / python) for python in sys.argv[1:]]
    return 0 if all(results) else 1


def try_install(wheel: Path, python: str, home: Path) -> bool:
    """Install into a new environment and run the demo from elsewhere."""
    found = shutil.which(python)
    if found is None:
        print(f"{python} is not installed: not tried")
        return False
    run(found, "-m", "venv", home)
    binaries = home / "bin"
    run(binaries / "pip", "install", "--quiet", f"{wheel}[demo]")
    print(run(binaries / "hf-posmine", "env", cwd=home))
    run(binaries / "hf-posmine", "demo", "--output", home / "demo", "--offline", cwd=home)
    print(f"{python}: installed, and the demo ran")
    return True


if __name__ == "__main__":
    sys.exit(main())

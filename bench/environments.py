"""Environments with packages that only tests and benches need: other versions, servers. Each is made once, and kept.

An environment sees the packages of the one that makes it, so that only what differs is installed.
"""

import os
import subprocess
import sys
import sysconfig
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt2-twitch-chatter"


def python_with(*requirements: str) -> Path:
    """Return the Python of an environment with these packages. Raises OSError if they cannot be installed."""
    ours = sysconfig.get_path("purelib")
    key = sha256("\n".join([sys.version, ours, *requirements]).encode()).hexdigest()[:16]
    folder = CACHE / key
    python = folder / "bin/python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f"{key}.lock"):
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True)
            [site] = folder.glob("lib/python*/site-packages")
            (site / "ours.pth").write_text(f"{ours}\n")  # comes after the folder's own packages
            pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--retries", "1"]
            done = subprocess.run([*pip, *requirements], capture_output=True, text=True)
            if done.returncode:
                raise OSError(f"cannot install {', '.join(requirements)}: {done.stderr[-300:]}")
            (folder / "complete").touch()
    return python

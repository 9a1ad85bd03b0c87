"""Run a script, and kill it when it opens or creates a path that ends with $MOMENT, as `kill -9` does.

MOMENT=checkpoint-6/trainer_state.json python tests/spies/kill_at.py train.py --output-dir models/killed
"""

import os
import runpy
import signal
import sys
from pathlib import Path


def kill(event, args):
    if event in ("open", "os.mkdir") and str(args[0]).endswith(os.environ["MOMENT"]):
        os.kill(os.getpid(), signal.SIGKILL)


del sys.argv[0]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
sys.addaudithook(kill)
runpy.run_path(sys.argv[0], run_name="__main__")

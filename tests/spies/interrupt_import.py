"""Run a script, and send it Ctrl-C when it begins to import a module: MODULE SCRIPT [OPTION ...]."""

import os
import runpy
import signal
import sys

module, *sys.argv = sys.argv[1:]
sys.path[:] = [os.path.dirname(sys.argv[0]), *(path for path in sys.path[1:])]


class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)


sys.meta_path.insert(0, Interrupter())
runpy.run_path(sys.argv[0], run_name="__main__")

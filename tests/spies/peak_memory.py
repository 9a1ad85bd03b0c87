"""Run a script, and print the most memory that it took, in MB: SCRIPT [OPTION ...]."""

import resource
import runpy
import sys

sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)

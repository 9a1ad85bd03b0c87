"""Run a script, and print the most memory that it took, in MB: SCRIPT [OPTION ...]."""

import re
import runpy
import sys
from pathlib import Path

sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
# ru_maxrss of getrusage would contain what the parent took before the fork.
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10)

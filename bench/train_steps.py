"""Time the steps of train.py, without evaluations, samples and checkpoints. Nothing is saved.

It takes the options of train.py, and prints the plan, the speed over every 10 steps, the median time of a step
(without the first three) and the peak of GPU memory.

    python bench/train_steps.py --model models/tiny-gpt2 --dataset-dir data/demo/tokenized_datasets --max-steps 30
"""

import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from chatter.cli import log, plain_errors
from chatter.devices import choose_device
from chatter.training.distributed import leave_process_group
from chatter.training.library_errors import plain_library_errors
from train import fit, parse_args, prepare


def main() -> None:
    with plain_errors(), tempfile.TemporaryDirectory() as scratch:
        from transformers.utils.logging import set_verbosity_error

        from chatter.training.placement import FirstSteps
        from chatter.training.plan import print_plan

        class Clock(FirstSteps):
            """Notes the wall time and the CPU time at the end of each step."""

            def __init__(self, *args: object) -> None:
                super().__init__(*args)
                self.times: list[tuple[float, float]] = []

            def on_step_end(self, args, state, control, **kwargs):
                super().on_step_end(args, state, control, **kwargs)
                self.times.append((time.perf_counter(), time.process_time()))

        set_verbosity_error()
        args = parse_args()
        args.device = choose_device(args.device, args.precision)
        args.output_dir = Path(scratch, "out")
        run = prepare(args, args.output_dir)
        run.settings.eval_strategy = run.settings.save_strategy = "no"
        run.settings.eval_on_start = False
        print_plan(run)
        with plain_library_errors(args.output_dir), Clock(replace(run.placement, smaller=())) as clock:
            fit(run, None, clock)
        wall, cpu = (1e3 * np.median(np.diff(each)) for each in np.transpose(clock.times[2:]))
        log(f"a step: {wall:.1f} ms, {cpu:.1f} ms of CPU time")
        log(f"peak of host memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.1f} GB")
        leave_process_group()


if __name__ == "__main__":
    main()

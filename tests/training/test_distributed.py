"""chatter.training.distributed: one process or several, on one machine or two, come to the same model."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import (
    BIN,
    BLOCK_SIZE,
    PAIR,
    ROOT,
    SPIES,
    TEN_STEPS,
    TORCHRUN,
    assert_equals_plain_loop,
    assert_the_best_is_saved,
    ended,
    error_of,
    run,
)

from chatter.cli import InputError
from chatter.devices import count_gpus
from chatter.training.library_errors import plain_library_errors

TWO_PROCESSES = {
    "ZeRO-3": ["--micro-batch-size", 4],
    "plain Trainer": ["--micro-batch-size", 4, "--no-deepspeed"],
}


@pytest.fixture(params=TWO_PROCESSES)
def two_processes(request, train_once):
    """The small model after ten steps in two processes, with and without DeepSpeed."""
    launcher = TORCHRUN if request.param == "ZeRO-3" or count_gpus() else PAIR
    return train_once(f"two processes, {request.param}", *TWO_PROCESSES[request.param], launcher=launcher)


@pytest.mark.slow
def test_two_processes_equal_a_plain_loop(two_processes, plain_loop):
    assert_equals_plain_loop(two_processes, plain_loop)


@pytest.mark.slow
def test_two_processes_save_the_best_epoch(two_processes, dataset_dir, tokenizer):
    assert_the_best_is_saved(two_processes[0], dataset_dir, tokenizer)


@pytest.mark.slow
def test_two_processes_log_what_one_does(two_processes, zero3):
    """Once, and the same test losses although the test blocks are split."""
    reports = [[line for line in errors.splitlines() if line[:6] == "epoch "] for _, errors in (two_processes, zero3)]
    assert len(reports[0]) == 11 and reports[0] == reports[1]
    assert "[transformers]" not in two_processes[1]  # whose advice is for other models


def run_spy(train, name, seen, *args):
    """Train for a step in two processes under a spy; return what it saw in each."""
    basics = ["--micro-batch-size", 4, "--max-steps", 1]
    train(*basics, *args, launcher=[*TORCHRUN, SPIES / name], SEEN=str(seen))
    return [json.loads((seen / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.thorough
@pytest.mark.slow
def test_each_of_two_processes_holds_half(train, tmp_path):
    """ZeRO-3 keeps half of each parameter in each process."""
    for held, whole, num_parameters in run_spy(train, "hold_half.py", tmp_path):
        assert whole / 2 <= held <= whole / 2 + num_parameters  # an odd one is rounded up


@pytest.mark.thorough
def test_the_model_is_gone_when_the_process_group_ends(train, tmp_path):
    """Its reducer would end the group while it holds Python's lock, for which gloo's threads may wait: a deadlock."""
    assert run_spy(train, "model_is_gone.py", tmp_path, "--no-deepspeed") == [[1, 0], [1, 0]]


@pytest.fixture
def two_hosts():
    """Two network namespaces with a cable between them: their prefixes for commands, and the first one's address."""
    names, addresses = ["chatter-a", "chatter-b"], ["10.213.77.1", "10.213.77.2"]
    ip = shutil.which("ip")
    if not ip or subprocess.run([ip, "netns", "add", names[0]], capture_output=True).returncode:
        pytest.skip("needs the right to make network namespaces")
    try:
        subprocess.run([ip, "netns", "add", names[1]], check=True)
        cable = ["link", "add", "cable", "netns", names[0], "type", "veth", "peer", "cable", "netns", names[1]]
        subprocess.run([ip, *cable], check=True)
        for name, address in zip(names, addresses, strict=True):
            for command in (
                ["addr", "add", f"{address}/24", "dev", "cable"],
                ["link", "set", "cable", "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run([ip, "-n", name, *command], check=True)
        yield [[ip, "netns", "exec", name] for name in names], addresses[0]
    finally:
        for name in names:
            subprocess.run([ip, "netns", "delete", name], capture_output=True)


@pytest.mark.slow
def test_two_machines_equal_a_plain_loop(train, plain_loop, two_hosts):
    """torchrun on two hosts, which see each other over a network and nothing else."""
    prefixes, address = two_hosts
    torchrun = [BIN / "torchrun", "--nnodes", 2, "--nproc_per_node", 1]
    torchrun += ["--master_addr", address, "--master_port", 29501]

    def train_on(rank):
        launcher = [*prefixes[rank], *torchrun, "--node_rank", rank]
        return train("--micro-batch-size", 4, launcher=launcher, GLOO_SOCKET_IFNAME="cable")

    with ThreadPoolExecutor() as pool:
        trained, _ = pool.map(train_on, range(2))
    assert_equals_plain_loop(trained, plain_loop)


@pytest.mark.slow
def test_deepspeed_launcher(train, plain_loop):
    trained = train(launcher=[BIN / "deepspeed"], PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert_equals_plain_loop(trained, plain_loop)


@pytest.mark.thorough
@pytest.mark.slow
def test_it_trains_without_a_compiler(train, plain_loop, tmp_path):
    (tmp_path / "bin").mkdir()
    trained = train("--offload", PATH=str(tmp_path / "bin"), TORCH_EXTENSIONS_DIR=str(tmp_path / "extensions"))
    assert not (tmp_path / "extensions").exists()
    assert_equals_plain_loop(trained, plain_loop)


def test_a_config_that_deepspeed_refuses(small_model, dataset_dir, tmp_path):
    (tmp_path / "config.json").write_text('{"zero_optimization": {"stage": "three"}}')
    args = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model"]
    error = error_of("train.py", *args, "--deepspeed", tmp_path / "config.json")
    assert "the --deepspeed config is not valid: 1 validation error for DeepSpeedZeroConfig stage" in error


@pytest.mark.slow
def test_a_config_that_contradicts_the_options(small_model, dataset_dir, tmp_path):
    config = json.loads((ROOT / "ds_config.json").read_text()) | {"train_batch_size": 16}
    (tmp_path / "other.json").write_text(json.dumps(config))
    args = ["--dataset-dir", dataset_dir, "--model", small_model, "--output-dir", tmp_path / "model"]
    error = error_of("train.py", *args, "--deepspeed", tmp_path / "other.json")
    assert "the --deepspeed config contradicts the options: " in error and "train_batch_size=16" in error
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--no-deepspeed"]])
def test_a_port_that_is_in_use(how, small_model, dataset_dir, tmp_path):
    """Whichever library joins the group."""
    args = ["--dataset-dir", dataset_dir, "--model", small_model, "--output-dir", tmp_path / "model", *how]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        done = run("train.py", *args, "--micro-batch-size", 4, check=False, **group)
    assert (done.returncode, done.stdout) == (1, "") and "Traceback" not in done.stderr
    assert f"train.py: error: port {port} of 127.0.0.1 is in use" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_fp16_that_overflows_at_every_step(small_model, dataset_dir, tmp_path):
    """With a loss scale that cannot be lowered; DeepSpeed then gives up."""
    config = json.loads((ROOT / "ds_config.json").read_text())
    config["fp16"] |= {"initial_scale_power": 30, "min_loss_scale": 2**30, "hysteresis": 1}
    (tmp_path / "ds_config.json").write_text(json.dumps(config))
    args = ["--dataset-dir", dataset_dir, "--model", small_model, "--output-dir", tmp_path / "model"]
    args += ["--deepspeed", tmp_path / "ds_config.json", "--precision", "fp16"]
    error = error_of("train.py", *args, launcher=[sys.executable, SPIES / "fp16_on_cpu.py"])
    assert "fp16 overflows at every step. Pass --resume with a lower --learning-rate, or start again" in error
    assert [path.name for path in tmp_path.iterdir()] == ["ds_config.json"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), "out of GPU memory. "),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate"), "out of GPU memory. "),
        (RuntimeError("ncclUnhandledCudaError: ... Cuda failure 2 'out of memory'"), "out of GPU memory. "),
        (
            torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might"),
            "CUDA is out of memory outside",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of host memory. "),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of host memory. "),
        (
            torch.distributed.DistBackendError(
                "NCCL error in: ../NCCLUtils.cpp:94, unhandled system error, ncclSystemError: Last error:\n"
                "Error while creating shared memory segment /dev/shm/nccl-x5 (size 9637888): No space left on device"
            ),
            "NCCL needs more shared memory than is free in /dev/shm",
        ),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), "another process of this run"),
        (
            ValueError("correct the DeepSpeed config values\n- ds a=4 vs hf a=2"),
            "the --deepspeed config contradicts the",
        ),
    ],
    ids=["PyTorch", "cuBLAS", "NCCL's CUDA", "pinned", "CPU", "ENOMEM", "shared memory", "another process", "config"],
)
def test_an_error_of_a_library_has_a_way_out(error, line, tmp_path):
    """The texts are those in the libraries' sources: no GPU is at hand."""
    with pytest.raises(InputError) as caught, plain_library_errors(tmp_path):
        raise error
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("full_disk", ["64k"], indirect=True)
def test_a_full_disk(full_disk):
    """torch.save raises a RuntimeError of its own."""
    with pytest.raises(OSError) as caught, plain_library_errors(full_disk / "model"):
        torch.save(torch.zeros(100_000), full_disk / "weights")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full_disk))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["Trainer", pytest.param("forward", marks=pytest.mark.thorough)])
def test_gpu_memory_that_runs_out(when, small_model, dataset_dir, tmp_path):
    """While the model is moved to the GPU, and in the first pass: one line, and nothing is left. By a spy."""
    args = [
        "--dataset-dir",
        dataset_dir,
        "--model",
        small_model,
        "--output-dir",
        tmp_path / "model",
        "--micro-batch-size",
        8,
    ]
    error = error_of("train.py", *args, launcher=[sys.executable, SPIES / "out_of_memory.py"], WHEN=when)
    assert error.startswith("train.py: error: out of GPU memory. Pass a lower --micro-batch-size (--batch-size")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_takes_more_memory_than_estimated_starts_again(small_model, dataset_dir, tmp_path):
    """With half the micro-batch, in a process of its own, as its own process. By a spy."""
    args = ["--dataset-dir", dataset_dir, "--model", small_model, "--output-dir", tmp_path / "model", *TEN_STEPS]
    launcher = [sys.executable, SPIES / "out_of_memory.py"]
    errors = run("train.py", *args, "--max-steps", 2, launcher=launcher, TOKENS=str(5 * BLOCK_SIZE)).stderr
    assert "out of GPU memory in the first steps: starting again with --micro-batch-size 4\n" in errors
    assert "1 process(es) x 4 x 6 accumulated" in errors and errors.count("epoch 2.00: test loss") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-checkpoints"}


@pytest.mark.slow
def test_a_given_micro_batch_is_taken_as_it_is(small_model, dataset_dir, tmp_path):
    args = ["--dataset-dir", dataset_dir, "--model", small_model, "--output-dir", tmp_path / "model"]
    error = error_of(
        "train.py", *args, "--micro-batch-size", 8, launcher=[sys.executable, SPIES / "out_of_memory.py"], TOKENS="8"
    )
    assert "starting again" not in error and "out of GPU memory. Pass a lower --micro-batch-size" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(TORCHRUN, id="torchrun"),
        pytest.param([BIN / "deepspeed"], id="deepspeed", marks=pytest.mark.thorough),
    ],
)
def test_an_error_that_all_processes_have_is_printed_once(launcher, tmp_path):
    """Launchers end the other processes before these print it, too."""
    launcher = [*launcher, "--num_accelerators", "2"] if len(launcher) == 1 else launcher
    args = ["--compile", "--output-dir", tmp_path / "model"]  # which contradicts the use of DeepSpeed
    done = run("train.py", *args, launcher=launcher, check=False, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode and done.stderr.count("train.py: error: ") == 1


LEAVING = """
import os
from torch import distributed
from chatter.training.distributed import join_process_group, leave_group_on_error
from chatter.training.library_errors import plain_library_errors
with plain_library_errors(Path(".")), leave_group_on_error():
    join_process_group()
    if os.environ["RANK"] == os.environ["FAILS"]:
        raise InputError("this one failed")
    distributed.barrier()
"""


@pytest.mark.thorough
@pytest.mark.slow
def test_an_error_ends_the_process_group_in_order(script_with):
    """One of two processes fails while the other waits for it: each has one line, and none is a traceback."""
    command = script_with("from pathlib import Path", *LEAVING.strip().splitlines())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "FAILS": "1"}
    with ThreadPoolExecutor() as pool:
        ends = pool.map(lambda rank: ended(command, env=group | {"RANK": rank, "LOCAL_RANK": rank}), "01")
    (code_0, _, waited), (code_1, _, failed) = ends
    assert (code_0, code_1) == (1, 1), waited + failed
    assert failed.splitlines()[-1] == "script.py: error: this one failed"
    assert (
        waited.splitlines()[-1]
        == "script.py: error: another process of this run has failed. Its own error line says why."
    )
    assert "Traceback" not in waited + failed and "destroy_process_group" not in waited + failed


def test_other_errors_stay_as_they_are(tmp_path):
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError) as caught, plain_library_errors(tmp_path):
        raise error
    assert caught.value is error

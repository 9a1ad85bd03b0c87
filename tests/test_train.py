"""train.py: what DeepSpeed trains is the pretrained model, and what it saves is what it reported."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, error_of, run
from datasets import DatasetDict
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    get_linear_schedule_with_warmup,
    set_seed,
)

from parse_logs import InputError
from tokenize_logs import load_tokenizer, save_dataset
from train import collate, load_dataset, load_model, training_arguments

BLOCK_SIZE = 32
TRAIN_BLOCKS = 24  # one optimizer step takes them all, so that every step has the same batch in whatever order
BIN = Path(sys.executable).parent
TORCHRUN = [BIN / "torchrun", "--nproc_per_node", 2]
# Ten steps over a batch that is the whole epoch, two of them of warm-up.
TEN_STEPS = ["--epochs", 10, "--warmup-epochs", 2, "--precision", "fp32"]
# Weights change by some 5e-3 in these steps. Adam divides gradients by their own size, which makes much of rounding.
TOLERANCE = 2e-5


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer(str(ROOT / "models/tiny-gpt2"))


@pytest.fixture(scope="session")
def dataset_dir(tokenizer, tmp_path_factory):
    """A dataset of 24 training and 3 test blocks of 32 tokens, with much and uneven padding."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, tokenizer.eos_token_id, (TRAIN_BLOCKS + 3, BLOCK_SIZE), dtype=np.uint16)
    blocks[:, 0] = tokenizer.eos_token_id
    for block in blocks:
        block[rng.integers(4, BLOCK_SIZE + 1) :] = tokenizer.pad_token_id
    blocks.tofile(folder / "blocks")
    folder /= "tokenized_datasets"
    save_dataset(folder.parent / "blocks", blocks.shape, tokenizer, 3 / len(blocks), 0, folder)
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def train(small_model, dataset_dir, tmp_path_factory):
    """Run train.py on the small model; give the folder of the trained model and what was said."""

    def run_train(*args, launcher=(sys.executable,), **env):
        folder = tmp_path_factory.mktemp("trained") / "model"
        basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", folder]
        done = run("train.py", *basics, *TEN_STEPS, *args, launcher=launcher, **env)
        assert done.stdout == "" or BIN / "deepspeed" in launcher  # that one says much
        return folder, done.stderr

    return run_train


@pytest.fixture(scope="session")
def zero3(train):
    """The small model after ten steps of train.py as it comes: ZeRO-3 with CPU offload, 3 micro-batches of 8 a step."""
    return train()


@pytest.fixture(scope="session")
def plain_loop(small_model, dataset_dir, tokenizer):
    """The same ten steps by a plain PyTorch loop, with one batch of 24 and an attention mask."""
    set_seed(42)
    model = load_model(str(small_model), tokenizer, BLOCK_SIZE)
    batch = DatasetDict.load_from_disk(dataset_dir)["train"].with_format("torch")[:]
    ids, mask = batch["input_ids"].long(), batch["attention_mask"].long()
    assert len(ids) == TRAIN_BLOCKS
    losses = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 10)
    for _ in range(10):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        loss = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model, np.mean(losses)


def largest_difference(model, folder):
    """The largest difference of any weight between a model and a saved one."""
    weights = dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).named_parameters())
    assert weights.keys() == dict(model.named_parameters()).keys()
    return max((weight - weights[name]).abs().max().item() for name, weight in model.named_parameters())


def read_log(folder):
    """What the Trainer logged until the last checkpoint."""
    return json.loads(Path(f"{folder}-checkpoints", "checkpoint-10/trainer_state.json").read_text())["log_history"]


def loss_of(folder, dataset_dir, tokenizer):
    """The mean loss over all tokens of the test blocks, by transformers alone in float32."""
    return loss_on_test(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), dataset_dir, tokenizer
    )


def loss_on_test(model, dataset_dir, tokenizer):
    test = DatasetDict.load_from_disk(dataset_dir)["test"].with_format("numpy")
    with torch.no_grad():
        return model(**collate(list(test), tokenizer.pad_token_id)).loss.item()


def assert_equal(trained, plain_loop):
    """The training run and the plain loop came to the same weights, and had the same mean loss over the ten steps."""
    (folder, _), (model, mean_loss) = trained, plain_loop
    assert largest_difference(model, folder) < TOLERANCE
    [logged] = [entry["loss"] for entry in read_log(folder) if "loss" in entry]
    assert logged == pytest.approx(mean_loss, rel=1e-5)


def test_the_model_before_training_is_the_pretrained_one(small_model, tokenizer):
    pretrained = AutoModelForCausalLM.from_pretrained(small_model)
    model = load_model(str(small_model), tokenizer, BLOCK_SIZE)
    size = pretrained.config.vocab_size
    assert model.transformer.wte.weight.shape == (size + 1, 32)
    assert model.transformer.wpe.weight.shape == (BLOCK_SIZE, 32)
    assert model.config.n_positions == BLOCK_SIZE and model.config.vocab_size == size + 1
    assert model.lm_head.weight is model.transformer.wte.weight
    expected = dict(pretrained.named_parameters())
    for name, weight in model.named_parameters():
        whole = expected.pop(name)
        rows = min(len(whole), len(weight))
        assert torch.equal(weight[:rows], whole[:rows]), name
    assert not expected
    mean = pretrained.transformer.wte.weight.mean(0)
    assert (model.transformer.wte.weight[-1] - mean).abs().max() < 0.1  # drawn around the mean of the others


def test_padding_is_no_label(tokenizer):
    pad = tokenizer.pad_token_id
    rows = [{"input_ids": np.array([5, 6, pad], np.int32)}, {"input_ids": np.array([7, pad, pad], np.int32)}]
    batch = collate(rows, pad)
    assert batch["input_ids"].tolist() == [[5, 6, pad], [7, pad, pad]] and batch["input_ids"].dtype == torch.int64
    assert batch["labels"].tolist() == [[5, 6, -100], [7, -100, -100]]


def test_no_mask_is_the_same_as_a_mask(small_model, tokenizer):
    """Padding stands behind the text, so causal attention never looks at it."""
    model = load_model(str(small_model), tokenizer, BLOCK_SIZE).eval()
    block = np.full(BLOCK_SIZE, tokenizer.pad_token_id, np.int32)
    block[:10] = np.arange(10)
    batch = collate([{"input_ids": block}], tokenizer.pad_token_id)
    mask = (batch["input_ids"] != tokenizer.pad_token_id).long()
    with torch.no_grad():
        bare, masked = model(**batch), model(**batch, attention_mask=mask)
        short = model(**collate([{"input_ids": block[:10]}], tokenizer.pad_token_id))
    torch.testing.assert_close(bare.logits[:, :10], masked.logits[:, :10])
    torch.testing.assert_close(bare.loss, masked.loss)
    torch.testing.assert_close(bare.loss, short.loss)


def test_a_folder_without_weights_starts_from_seeded_random_ones(tokenizer):
    weights = []
    for seed in (1, 1, 2):
        set_seed(seed)
        weights.append(load_model(str(ROOT / "models/tiny-gpt2"), tokenizer, 512).transformer.wte.weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_weights_as_the_hub_has_them(small_model, tokenizer, tmp_path):
    """GPT-2's own files name no "transformer." and hold the causal masks of all layers."""
    shutil.copytree(small_model, tmp_path / "gpt2")
    weights = load_file(small_model / "model.safetensors")
    bare = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64).tril() for layer in range(2)}
    save_file(bare | masks, tmp_path / "gpt2/model.safetensors", metadata={"format": "pt"})
    model = load_model(str(tmp_path / "gpt2"), tokenizer, BLOCK_SIZE)
    for name, weight in model.state_dict().items():
        if name in weights:
            assert torch.equal(weight[: len(weights[name])], weights[name][: len(weight)]), name


def test_incomplete_weights_are_refused(small_model, tokenizer, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(small_model)
    weights = model.state_dict()
    del weights["transformer.h.1.mlp.c_fc.weight"]
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(InputError, match=r"lack transformer\.h\.1\.mlp\.c_fc\.weight"):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)


def test_defaults(tmp_path, monkeypatch):
    """With no option: the settings that the README states."""
    import train

    monkeypatch.setattr(sys, "argv", ["train.py", "--no-deepspeed", "--output-dir", str(tmp_path / "m")])
    args = train.parse_args()
    assert (args.model, args.dataset_dir) == ("gpt2-medium", Path("data/tokenized_datasets"))
    settings = training_arguments(args, num_train_blocks=2400)
    assert settings.gradient_accumulation_steps * settings.per_device_train_batch_size == 24
    assert settings.per_device_train_batch_size == 8
    assert (settings.optim, settings.learning_rate, settings.max_steps) == ("adamw_torch", 1e-3, 3 * 100)
    assert (settings.lr_scheduler_type, settings.warmup_steps) == ("linear", 10)
    assert (settings.save_strategy, settings.eval_strategy) == ("epoch", "epoch")
    zero = json.loads((ROOT / "ds_config.json").read_text())["zero_optimization"]
    assert (zero["stage"], zero["offload_param"]["device"], zero["offload_optimizer"]["device"]) == (3, "cpu", "cpu")


@pytest.mark.slow
def test_zero3_equals_a_plain_loop(zero3, plain_loop, small_model, dataset_dir, tokenizer):
    set_seed(42)
    start = load_model(str(small_model), tokenizer, BLOCK_SIZE)
    assert largest_difference(start, zero3[0]) > 100 * TOLERANCE
    assert_equal(zero3, plain_loop)
    reported = next(entry["eval_loss"] for entry in read_log(zero3[0]) if "eval_loss" in entry)
    assert reported == pytest.approx(loss_on_test(start.eval(), dataset_dir, tokenizer), abs=1e-4)  # before any step


@pytest.mark.slow
@pytest.mark.parametrize("args", [["--micro-batch-size", 4], ["--micro-batch-size", 4, "--no-deepspeed"]])
def test_two_processes_equal_a_plain_loop(train, plain_loop, args, zero3):
    trained = train(*args, launcher=TORCHRUN)
    assert_equal(trained, plain_loop)
    reports = [[line for line in errors.splitlines() if line.startswith("epoch")] for _, errors in (trained, zero3)]
    assert reports[0] == reports[1]  # said once, and the same test losses although the test blocks are split
    assert "[transformers]" not in trained[1]  # whose advice is for other models


@pytest.fixture
def train_spied_on(small_model, dataset_dir, tmp_path):
    """Run train.py in two processes after some code of ours; give what `tell` was given in each."""

    def run_spied_on(code, *args):
        spy = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import train
def tell(*values):
    open({str(tmp_path)!r} + "/" + os.environ["RANK"], "a").write("".join(f"{{value}} " for value in values))
{code}
train.main()
"""
        (tmp_path / "spy.py").write_text(spy)
        basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model"]
        run(tmp_path / "spy.py", *basics, "--micro-batch-size", 4, "--max-steps", 1, *args, launcher=TORCHRUN)
        return [[int(value) for value in (tmp_path / rank).read_text().split()] for rank in "01"]

    return run_spied_on


@pytest.mark.slow
def test_each_of_two_processes_holds_half(train_spied_on):
    """ZeRO-3 keeps half of each parameter in each process: the sizes of `ds_tensor`, seen before the first step."""
    spy = """
original = train.progress_bar
def progress_bar(tokens_per_step):
    callback = original(tokens_per_step)
    def spying(args, state, control, **kwargs):
        parameters = list(kwargs["model"].parameters())
        held = sum(parameter.ds_tensor.numel() for parameter in parameters)
        tell(held, sum(parameter.ds_numel for parameter in parameters), len(parameters))
        return type(callback).on_train_begin(callback, args, state, control, **kwargs)
    callback.on_train_begin = spying
    return callback
train.progress_bar = progress_bar
"""
    for held, whole, num_parameters in train_spied_on(spy):
        assert whole / 2 <= held <= whole / 2 + num_parameters  # an odd one is rounded up


@pytest.mark.slow
def test_the_model_is_gone_when_the_process_group_ends(train_spied_on):
    """Its reducer would end the group while it holds Python's lock, for which gloo's threads may wait: a deadlock."""
    spy = """
import weakref
from torch.nn.parallel import DistributedDataParallel
made, init, leave = [], DistributedDataParallel.__init__, train.leave_processes
def spying_init(self, *args, **kwargs):
    made.append(weakref.ref(self))
    init(self, *args, **kwargs)
def spying_leave():
    tell(len(made), sum(reference() is not None for reference in made))
    leave()
DistributedDataParallel.__init__, train.leave_processes = spying_init, spying_leave
"""
    assert train_spied_on(spy, "--no-deepspeed") == [[1, 0], [1, 0]]


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
    torchrun = [
        BIN / "torchrun",
        "--nnodes",
        2,
        "--nproc_per_node",
        1,
        "--master_addr",
        address,
        "--master_port",
        29501,
    ]
    with ThreadPoolExecutor() as pool:
        hosts = [
            pool.submit(
                train,
                "--micro-batch-size",
                4,
                launcher=[*prefix, *torchrun, "--node_rank", rank],
                GLOO_SOCKET_IFNAME="cable",
            )
            for rank, prefix in enumerate(prefixes)
        ]
        trained, _ = [host.result() for host in hosts]
    assert_equal(trained, plain_loop)


@pytest.mark.slow
def test_deepspeed_launcher(train, plain_loop):
    assert_equal(train(launcher=[BIN / "deepspeed"], PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}"), plain_loop)


@pytest.mark.slow
def test_the_saved_model_is_the_reported_one(zero3, dataset_dir, tokenizer):
    folder, errors = zero3
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "learning_curve.png",
        "metrics.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    model = AutoModelForCausalLM.from_pretrained(folder)
    saved = AutoTokenizer.from_pretrained(folder)
    assert saved.get_vocab() == tokenizer.get_vocab() and saved.pad_token == "[PAD]"
    assert model.config.n_positions == BLOCK_SIZE and model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.generation_config.eos_token_id == [*tokenizer.encode("\n"), tokenizer.eos_token_id]

    reported = [entry["eval_loss"] for entry in read_log(folder) if "eval_loss" in entry]
    assert len(reported) == 11  # before training and after each epoch
    assert loss_of(folder, dataset_dir, tokenizer) == pytest.approx(reported[-1], abs=2e-6)
    assert f"epoch 10.00: test loss {reported[-1]:.4f}, perplexity {math.exp(reported[-1]):.2f}" in errors

    metrics = json.loads((folder / "metrics.json").read_text())
    assert [entry["eval_loss"] for entry in metrics["history"] if "eval_loss" in entry] == reported
    [*_, samples] = [entry["samples"] for entry in metrics["history"] if "samples" in entry]
    assert samples and all(text and "\n" not in text and f"    chat: {text}\n" in errors for text in samples)
    card = (folder / "README.md").read_text()
    assert f"test perplexity {math.exp(reported[0]):.2f} before, {math.exp(reported[-1]):.2f} after" in card
    assert "| --batch-size | 24 |" in card and all(f"    {text}\n" in card for text in samples)
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_checkpoint_each_epoch_and_no_silent_overwriting(zero3, small_model, dataset_dir, tmp_path):
    folder, checkpoints = tmp_path / "model", tmp_path / "model-checkpoints"
    shutil.copytree(zero3[0], folder)
    shutil.copytree(f"{zero3[0]}-checkpoints", checkpoints)
    assert {path.name for path in checkpoints.iterdir()} == {f"checkpoint-{n}" for n in range(1, 11)}
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", folder]
    assert "is there already" in error_of("train.py", *basics)
    before = (folder / "model.safetensors").read_bytes()
    run("train.py", *basics, "--overwrite", "--max-steps", 2)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert (folder / "model.safetensors").read_bytes() != before


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(train, zero3, dataset_dir, tokenizer, precision, tmp_path):
    """Starts from the same model as float32, trains, and saves what it reported.

    With too large a loss scale the first steps in fp16 overflow: they are skipped, which is said, and the scale halved.

    DeepSpeed refuses fp16 on CPUs where it is slow; the launcher lifts that check and nothing else.
    """
    lift = "from deepspeed.accelerator import get_accelerator as a; type(a()).is_fp16_supported = lambda self: True"
    script = f"import runpy, sys; {lift}; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    config = json.loads((ROOT / "ds_config.json").read_text())
    config["fp16"] |= {"initial_scale_power": 20, "hysteresis": 1}
    (tmp_path / "ds_config.json").write_text(json.dumps(config))
    args = ["--precision", precision, "--deepspeed", tmp_path / "ds_config.json", "--report-to", "tensorboard"]
    folder, errors = train(*args, launcher=[sys.executable, "-c", script], DS_ACCELERATOR="cpu")
    skipped = errors.count(": overflow in fp16, no update of the weights")
    assert 1 <= skipped < 8 if precision == "fp16" else not skipped
    assert list(Path(f"{folder}-checkpoints", "runs").rglob("events.out.tfevents.*"))  # of tensorboard
    assert AutoConfig.from_pretrained(folder).dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    reported = [entry["eval_loss"] for entry in read_log(folder) if "eval_loss" in entry]
    [start, *_] = [entry["eval_loss"] for entry in read_log(zero3[0]) if "eval_loss" in entry]
    assert reported[0] == pytest.approx(start, abs=2e-2)
    assert len(set(reported)) > 3
    assert loss_of(folder, dataset_dir, tokenizer) == pytest.approx(reported[-1], abs=2e-2)


@pytest.mark.slow
def test_without_a_compiler_it_trains_all_the_same(train, plain_loop, tmp_path):
    """DeepSpeed's CPU Adam cannot be compiled: one line says what to install, and PyTorch's AdamW does the work."""
    (tmp_path / "bin").mkdir()
    trained = train(PATH=str(tmp_path / "bin"), TORCH_EXTENSIONS_DIR=str(tmp_path / "extensions"))
    assert "apt-get install g++ python3-dev" in trained[1] and "Traceback" not in trained[1]
    assert_equal(trained, plain_loop)


def test_a_model_that_does_not_fit_is_refused(small_model, tokenizer, tmp_path):
    with pytest.raises(InputError, match="cannot load the model 'no/such-model'"):
        load_model("no/such-model", tokenizer, BLOCK_SIZE)
    with pytest.raises(InputError, match=r"the blocks have 65 tokens and .* has 64 positions"):
        load_model(str(small_model), tokenizer, 65)
    AutoConfig.from_pretrained(small_model, vocab_size=50257).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="tokenized for another model"):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a bert and no GPT-2"):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)


def test_a_dataset_that_is_broken_is_refused(dataset_dir, tmp_path):
    for name in ("cut", "no test", "no tokenizer", "empty"):
        shutil.copytree(dataset_dir, tmp_path / name)
    [arrow] = (tmp_path / "cut/train").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:-1000])
    shutil.rmtree(tmp_path / "no test/test")
    shutil.rmtree(tmp_path / "no tokenizer/tokenizer")
    blocks = DatasetDict.load_from_disk(dataset_dir)
    blocks["test"] = blocks["test"].select([])
    shutil.rmtree(tmp_path / "empty/test")
    blocks["test"].save_to_disk(tmp_path / "empty/test")
    for name in ("cut", "no test", "no tokenizer", "empty"):
        with pytest.raises(InputError, match=f"{name} is no whole dataset"):
            load_dataset(tmp_path / name)


@pytest.mark.slow
def test_errors(small_model, dataset_dir, tmp_path):
    def error(*args):
        return error_of("train.py", "--output-dir", tmp_path / "model", *args)

    given = ["--dataset-dir", dataset_dir, "--model", small_model]
    assert "nowhere is no whole dataset of tokenize_logs.py" in error("--dataset-dir", tmp_path / "nowhere")
    assert "cannot load the model 'no/such-model'" in error("--dataset-dir", dataset_dir, "--model", "no/such-model")
    assert "--batch-size 24 is no multiple" in error(*given, "--micro-batch-size", 5)
    assert "nothing.json" in error(*given, "--deepspeed", "nothing.json")
    (tmp_path / "broken.json").write_text("{")
    settings = json.loads((ROOT / "ds_config.json").read_text()) | {"train_batch_size": 16}
    (tmp_path / "other.json").write_text(json.dumps(settings))
    error_line = error(*given, "--deepspeed", tmp_path / "other.json")
    assert "--deepspeed says otherwise than the options" in error_line and "train_batch_size=16" in error_line
    (tmp_path / "other.json").unlink()
    assert "broken.json is not JSON" in error(*given, "--deepspeed", tmp_path / "broken.json")
    assert "broken.json" in error(*given, "--output-dir", tmp_path / "broken.json" / "model")
    assert "holds other things" in error(*given, "--output-dir", tmp_path, "--overwrite")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        done = run("train.py", *given, "--output-dir", tmp_path / "model", check=False, **group)
        assert (done.returncode, done.stdout) == (1, "") and "Traceback" not in done.stderr
        assert f"train.py: error: port {port} of 127.0.0.1 is taken" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["broken.json"]


@pytest.mark.slow
@pytest.mark.parametrize("full_disk", ["1200k", "2m"], indirect=True)  # in the first checkpoint, in the second
def test_full_disk(small_model, dataset_dir, full_disk):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", full_disk / "model"]
    assert "No space left on device" in error_of("train.py", *basics)
    left = {path.name for path in full_disk.glob("*/*")}
    assert left == ({"checkpoint-1"} if shutil.disk_usage(full_disk).total > 1_500_000 else set())


@pytest.mark.slow
@pytest.mark.parametrize("full_disk", ["400k"], indirect=True)
def test_a_disk_without_room_for_a_checkpoint(small_model, dataset_dir, full_disk):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", full_disk / "model"]
    assert re.search("a checkpoint takes about .* bytes, and .* left; make room there", error_of("train.py", *basics))
    assert list(full_disk.iterdir()) == []


@pytest.mark.slow
def test_a_loss_that_is_no_number(small_model, dataset_dir, tmp_path):
    """It stops the run before it is saved."""
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model"]
    error = error_of("train.py", *basics, "--learning-rate", "1e30", "--batch-size", 8)
    assert "lower --learning-rate" in error
    assert list(tmp_path.iterdir()) == []


EIGHT_EPOCHS = ["--batch-size", 4, "--micro-batch-size", 4, "--epochs", 8]  # of six steps


@pytest.fixture(scope="session")
def model_with_dropout(small_model, tmp_path_factory):
    """So that a run depends on the state of the random generators."""
    folder = tmp_path_factory.mktemp("models") / "dropout"
    shutil.copytree(small_model, folder)
    config = AutoConfig.from_pretrained(folder, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(model_with_dropout, dataset_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "model"
    run("train.py", "--model", model_with_dropout, "--dataset-dir", dataset_dir, "--output-dir", folder, *EIGHT_EPOCHS)
    return folder


# train.py, until it opens or makes what MOMENT names: then kill -9.
KILLED = """
import os, runpy, signal, sys
def kill(event, args):
    if event in ("open", "os.mkdir") and str(args[0]).endswith(os.environ["MOMENT"]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(*args):
    command = [sys.executable, ROOT / "train.py", *args]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(condition, process):
    while process.poll() is None and not condition():
        time.sleep(0.002)


@pytest.mark.slow
def test_stopped_in_every_way_and_resumed(undisturbed, model_with_dropout, dataset_dir, tmp_path):
    """Killed before the optimizer's part of a checkpoint and before its last file, stopped by Ctrl-C: the same weights.

    To 1e-6 in float32, where eight epochs move weights by 1e-2.
    """
    folder, checkpoints = tmp_path / "model", tmp_path / "model-checkpoints"
    args = ["--model", model_with_dropout, "--dataset-dir", dataset_dir, "--output-dir", folder, *EIGHT_EPOCHS]
    for moment, options in {"checkpoint-6/global_step6": [], "checkpoint-18/trainer_state.json": ["--resume"]}.items():
        killed = run("train.py", *args, *options, launcher=[sys.executable, "-c", KILLED], check=False, MOMENT=moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        checkpoint = checkpoints / Path(moment).parent
        assert checkpoint.exists() and not (checkpoint / "run.json").exists()
    assert "holds no whole checkpoint: starting from the beginning" in killed.stderr

    process = start(*args, "--resume")
    wait_for((checkpoints / "checkpoint-24/run.json").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130 and "checkpoint-12\n" in errors, errors
    stopped_at = int(re.search(r"stopped at step (\d+); --resume goes on from there\n$", errors)[1])
    assert (checkpoints / f"checkpoint-{stopped_at}/run.json").exists() and not folder.exists()

    changed = [str(arg) for arg in args]
    changed[changed.index("--batch-size") + 1] = "8"
    error = error_of("train.py", *changed, "--resume")
    assert f"checkpoint-{stopped_at} was made with --batch-size 4, and this is 8; give the same" in error
    assert "go on from it with --resume" in error_of("train.py", *args)

    resumed = run("train.py", *args, "--resume", "--keep-checkpoints", 2).stderr
    assert f"resuming from {checkpoints}/checkpoint-{stopped_at}\n" in resumed
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-42", "checkpoint-48"]
    weights, expected = (load_file(path / "model.safetensors") for path in (folder, undisturbed))
    assert weights.keys() == expected.keys()
    assert max((weights[name] - expected[name]).abs().max() for name in weights) < 1e-6
    before = load_file(model_with_dropout / "model.safetensors")["transformer.h.0.mlp.c_fc.weight"]
    assert (before - expected["transformer.h.0.mlp.c_fc.weight"]).abs().max() > 1e-3


def test_a_damaged_dataset(dataset_dir, tmp_path):
    """Whatever the readers make of a flipped bit, it is an error with a way out."""
    folder = shutil.copytree(dataset_dir, tmp_path / "dataset")
    for name, content in {"dataset_dict.json": '{"splits": []}', "train/state.json": "[]"}.items():
        whole = (folder / name).read_text()
        (folder / name).write_text(content)
        with pytest.raises(InputError, match="no whole dataset"):
            load_dataset(folder)
        (folder / name).write_text(whole)
    load_dataset(folder)

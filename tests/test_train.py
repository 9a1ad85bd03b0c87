"""train.py: what DeepSpeed trains is the pretrained model, and what it saves is what it reported."""

import json
import math
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from conftest import (
    BLOCK_SIZE,
    ROOT,
    TEN_STEPS,
    TOLERANCE,
    assert_equals_plain_loop,
    assert_the_best_is_saved,
    error_of,
    largest_difference,
    loss_of,
    read_history,
    run,
    settings_of,
    start,
    wait_for,
    without_manifest,
)
from datasets import DatasetDict
from huggingface_hub import ModelCard
from metadata import assert_true_metadata
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

from chatter.files import MANIFEST
from chatter.training.callbacks import learning_rate_factor
from chatter.training.checkpoints import prepare_checkpoints
from chatter.training.model import load_model
from chatter.training.settings import choose_precision
from train import parse_args


def test_defaults(tmp_path, monkeypatch):
    """With no option: the settings that docs/training.md states."""
    monkeypatch.setattr(sys, "argv", ["train.py", "--no-deepspeed", "--output-dir", str(tmp_path / "m")])
    args = parse_args()
    assert (args.model, args.dataset_dir) == ("gpt2-medium", Path("data/tokenized_datasets"))
    settings = settings_of(args, 2400, tmp_path)
    assert settings.gradient_accumulation_steps * settings.per_device_train_batch_size == 24
    assert settings.per_device_train_batch_size == 8
    assert (settings.optim, settings.learning_rate, settings.max_steps) == ("adamw_torch_fused", 1e-3, 3 * 100)
    assert (settings.lr_scheduler_type, settings.warmup_steps) == ("linear", 10)
    assert (settings.save_strategy, settings.eval_strategy) == ("epoch", "epoch")


@pytest.mark.parametrize(
    ("dtype", "capability", "expected"),
    [
        (torch.bfloat16, (8, 0), "bf16"),
        (torch.bfloat16, (7, 5), "fp16"),
        (torch.float32, (8, 0), "fp16"),
        (None, (8, 0), "fp16"),
    ],
)
def test_the_precision_on_a_gpu_is_that_of_the_model(dtype, capability, expected, monkeypatch):
    """No GPU is at hand: torch.cuda's answer is replaced."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    for device, precision in {"cuda": expected, "cpu": "fp32"}.items():
        monkeypatch.setattr(sys, "argv", ["train.py", "--no-deepspeed", "--device", device])
        assert choose_precision(parse_args(), dtype) == precision


@pytest.mark.parametrize(
    ("precision", "capability", "mode"),
    [("fp32", (8, 0), "tf32"), ("fp32", (7, 5), "none"), ("fp16", (8, 0), "none")],
)
def test_fp32_computes_in_tf32_from_ampere_on(precision, capability, mode, monkeypatch, tmp_path):
    """No GPU is at hand: the answers of torch.cuda and transformers are replaced."""
    options = ["--no-deepspeed", "--device", "cuda", "--precision", precision]
    monkeypatch.setattr(sys, "argv", ["train.py", *options])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr("transformers.training_args.is_torch_tf32_available", lambda: capability >= (8, 0))
    monkeypatch.setattr("chatter.training.placement.memory_of_gpu", lambda: 32e9)
    monkeypatch.setattr(torch.backends, "fp32_precision", "none")
    settings_of(parse_args(), 2400, tmp_path)
    assert torch.backends.fp32_precision == mode


def test_zero3_with_cpu_offload_is_the_default():
    zero = json.loads((ROOT / "ds_config.json").read_text())["zero_optimization"]
    assert (zero["stage"], zero["offload_param"]["device"], zero["offload_optimizer"]["device"]) == (3, "cpu", "cpu")


@pytest.fixture
def pretrained(small_model, tokenizer):
    """The model before training."""
    set_seed(42)
    return load_model(str(small_model), tokenizer, BLOCK_SIZE)


@pytest.mark.slow
def test_zero3_equals_a_plain_loop(zero3, plain_loop, pretrained):
    assert largest_difference(pretrained, f"{zero3[0]}-checkpoints/checkpoint-10") > 100 * TOLERANCE
    assert_equals_plain_loop(zero3, plain_loop)


@pytest.mark.slow
def test_the_first_reported_loss_is_that_of_the_pretrained_model(zero3, pretrained, dataset_dir, tokenizer):
    reported = read_history(zero3[0], "eval_loss")
    assert len(reported) == 11  # before training and after each epoch
    assert reported[0] == pytest.approx(loss_of(pretrained, dataset_dir, tokenizer), abs=1e-4)


@pytest.mark.slow
def test_the_best_epoch_is_saved(zero3, dataset_dir, tokenizer):
    """And by transformers alone its loss is the lowest that was reported after training began."""
    assert_the_best_is_saved(zero3[0], dataset_dir, tokenizer)
    assert "saving the model of epoch 1.00, which has the lowest test loss\n" in zero3[1]


@pytest.mark.slow
def test_the_best_epoch_is_saved_by_the_plain_trainer_and_after_a_resume(small_model, dataset_dir, tokenizer, tmp_path):
    """Also if the run is stopped in between, keeps one checkpoint, and evaluates more often than once per epoch."""
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model", *TEN_STEPS]
    often = ["--no-deepspeed", "--keep-checkpoints", 1, "--batch-size", 8, "--eval-every", 0.34]
    run("train.py", *basics, *often, "--max-steps", 6)
    shutil.rmtree(tmp_path / "model")
    run("train.py", *basics, *often, "--max-steps", 12, "--resume")
    assert_the_best_is_saved(tmp_path / "model", dataset_dir, tokenizer)
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    assert {entry["step"] for entry in metrics["history"] if "eval_loss" in entry} == {*range(13)}
    kept = {path.name for path in (tmp_path / "model-checkpoints").glob("checkpoint-*")}
    assert kept == {f"checkpoint-{metrics['best']['step']}", "checkpoint-12"}


@pytest.mark.slow
def test_evaluations_more_often_than_steps_are_after_each(train):
    options = ["--epochs", 1, "--warmup-epochs", 0, "--batch-size", 4, "--micro-batch-size", 4, "--no-deepspeed"]
    _, errors = train(*options, "--eval-every", 0.01)
    assert len(re.findall("^epoch .* test loss", errors, re.MULTILINE)) == 1 + 6


@pytest.mark.slow
def test_the_plan_knows_what_a_checkpoint_takes(train, zero3):
    """Less under the plain Trainer, which keeps no weights but those that Adam updates."""
    for folder, errors in zero3, train("--max-steps", 1, "--warmup-epochs", 0, "--no-deepspeed"):
        counted = 1e9 * float(re.search(r"a checkpoint +about ([\d.e-]+) GB", errors)[1])
        files = [path for path in Path(f"{folder}-checkpoints").glob("checkpoint-1/**/*") if path.is_file()]
        tensors = [path.stat().st_size for path in files if path.suffix in (".safetensors", ".pt", ".bin")]
        assert sum(tensors) == pytest.approx(counted, rel=0.15)


@pytest.mark.slow
def test_patience_ends_a_run(small_model, dataset_dir, tmp_path):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model", *TEN_STEPS]
    done = run("train.py", *basics, "--no-deepspeed", "--patience", 2)
    assert "no better test loss in 2 evaluations: stopping\n" in done.stderr
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    steps = [entry["step"] for entry in metrics["history"] if "eval_loss" in entry]
    assert steps[-1] == metrics["best"]["step"] + 2 < 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [pytest.param([], id="ZeRO-3"), pytest.param(["--no-deepspeed"], id="plain", marks=pytest.mark.thorough)],
)
def test_lora_saves_base_plus_adapters(options, small_model, dataset_dir, tokenizer, tmp_path):
    """The merged model has the logits of the base model with its adapters, whose own weights nothing touched."""
    from peft import PeftModel

    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model", *TEN_STEPS]
    lora = ["--lora-rank", 4, "--learning-rate", "5e-3", *options]
    run("train.py", *basics, *lora, "--max-steps", 2)
    shutil.rmtree(tmp_path / "model")
    run("train.py", *basics, *lora, "--max-steps", 3, "--resume")
    checkpoints = tmp_path / "model-checkpoints"
    best = json.loads((tmp_path / "model/metrics.json").read_text())["best"]["step"]
    set_seed(42)  # for the row of [PAD]
    base = load_model(str(small_model), tokenizer, BLOCK_SIZE)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    adapted = PeftModel.from_pretrained(base, str(checkpoints / f"checkpoint-{best}")).eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    ids = torch.tensor([DatasetDict.load_from_disk(dataset_dir)["test"][0]["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, adapted(ids).logits, atol=1e-5)
        with adapted.disable_adapter():
            assert (merged(ids).logits - adapted(ids).logits).abs().max() > 1e-3
    weights = merged.state_dict()
    for name in ("transformer.wte.weight", "transformer.wpe.weight", "transformer.h.0.ln_1.weight"):
        assert torch.equal(weights[name], before[name])
    assert not (tmp_path / "model/adapter_model.safetensors").exists()
    assert_true_metadata(tmp_path / "model")
    trained = sum(path.stat().st_size for path in (checkpoints / "checkpoint-3").rglob("*adapter_model*"))
    assert trained < 0.2 * (tmp_path / "model/model.safetensors").stat().st_size
    assert not (checkpoints / "checkpoint-3/model.safetensors").exists()


@pytest.mark.slow
def test_adapters_are_merged_into_the_weights_that_they_were_trained_on(small_model, dataset_dir, tmp_path):
    """Whether the base is replaced during training or before the run is resumed, and the advice helps."""
    base = shutil.copytree(small_model, tmp_path / "base")
    weights, other = base / "model.safetensors", tmp_path / "other.safetensors"
    save_file({name: 2 * weight for name, weight in load_file(weights).items()}, other, {"format": "pt"})
    basics = ["--model", base, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model", "--no-deepspeed"]
    basics += ["--lora-rank", 4, "--epochs", 10]
    process = start("train.py", *basics, warm=True)
    wait_for((tmp_path / "model-checkpoints/checkpoint-1/run.json").exists, process)
    other.replace(weights)
    errors = process.communicate()[1]
    assert process.returncode == 1 and "are not those that the adapters were trained on any more. Put the" in errors
    assert not (tmp_path / "model").exists()
    assert f"the weights of --model {base} have changed since" in error_of("train.py", *basics, "--resume")
    shutil.copy(small_model / "model.safetensors", weights)
    run("train.py", *basics, "--resume")
    assert (tmp_path / "model/model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--lora-rank", 4]], ids=["all weights", "LoRA"])
def test_the_plain_trainer_saves_in_the_precision_of_training(options, train, dataset_dir, tokenizer):
    """The checkpoint stays in float32, from which a run is resumed exactly."""
    folder, _ = train("--no-deepspeed", "--precision", "bf16", "--max-steps", 2, *options)
    assert {weight.dtype for weight in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoConfig.from_pretrained(folder).dtype == torch.bfloat16
    assert_true_metadata(folder)
    assert "| precision | bf16 |" in (folder / "README.md").read_text()
    [path] = Path(f"{folder}-checkpoints/checkpoint-2").glob("*model.safetensors")
    assert {weight.dtype for weight in load_file(path).values()} == {torch.float32}
    assert loss_of(folder, dataset_dir, tokenizer) == pytest.approx(
        json.loads((folder / "metrics.json").read_text())["best"]["eval_loss"], abs=2e-2
    )


@pytest.mark.slow
def test_what_is_saved(zero3):
    assert sorted(path.name for path in zero3[0].iterdir()) == [
        MANIFEST,
        "README.md",
        "chat_format.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "learning_curve.png",
        "metrics.json",
        "model.safetensors",
        "said.u64",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.slow
def test_the_saved_model_is_ready_for_chat(zero3, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(zero3[0])
    assert model.config.n_positions == BLOCK_SIZE and model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.generation_config.eos_token_id == [*tokenizer.encode("\n"), tokenizer.eos_token_id]
    assert_true_metadata(zero3[0])


@pytest.mark.slow
def test_the_saved_tokenizer_is_that_of_the_dataset(zero3, tokenizer):
    saved = AutoTokenizer.from_pretrained(zero3[0])
    assert saved.get_vocab() == tokenizer.get_vocab() and saved.pad_token == "[PAD]"


@pytest.mark.slow
def test_the_saved_metrics_are_the_reported_ones(zero3, dataset_dir):
    metrics = json.loads((zero3[0] / "metrics.json").read_text())
    reported = read_history(zero3[0], "eval_loss")
    assert [entry["eval_loss"] for entry in metrics["history"] if "eval_loss" in entry] == reported
    recorded = json.loads(Path(f"{zero3[0]}-checkpoints/checkpoint-10/run.json").read_text())
    assert metrics["run"] | {name: recorded[name] for name in ("files", "run id")} == recorded
    assert metrics["data"] == json.loads((dataset_dir / "summary.json").read_text())


@pytest.mark.slow
def test_the_saved_card_shows_what_was_reported(zero3):
    card = ModelCard.load(zero3[0] / "README.md")
    assert card.data.pipeline_tag == "text-generation" and card.data.base_model is None  # it was a folder
    before, *after = map(math.exp, read_history(zero3[0], "eval_loss"))
    assert f"was {before:.2f} before\ntraining and is {min(after):.2f} after epoch 1.00" in card.text
    samples = read_history(zero3[0], "samples")[1]
    assert samples and all(f"    {text}\n" in card.text for text in samples)
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    best = min(read_history(zero3[0], "eval_loss")[1:])
    assert values.keys() == {"loss", "perplexity", "bits per byte"} and values["loss"] == pytest.approx(best)
    assert "| --batch-size | 24 |" in card.text and "| messages | 12,345 |" in card.text
    assert (zero3[0] / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_each_epoch_has_a_checkpoint(zero3):
    checkpoints = Path(f"{zero3[0]}-checkpoints")
    names = {path.name for path in checkpoints.iterdir()}
    assert without_manifest(names) == {f"checkpoint-{n}" for n in range(1, 11)}


@pytest.fixture
def trained_before(zero3, tmp_path):
    """A copy of a trained model and its checkpoints."""
    shutil.copytree(f"{zero3[0]}-checkpoints", tmp_path / "model-checkpoints")
    return shutil.copytree(zero3[0], tmp_path / "model")


@pytest.mark.slow
def test_a_model_is_not_replaced_silently(trained_before, small_model, dataset_dir):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", trained_before]
    assert f"{trained_before} already exists. Pass --resume with more --epochs to" in error_of("train.py", *basics)
    assert (trained_before / "model.safetensors").exists()


@pytest.mark.slow
def test_checkpoints_are_not_replaced_silently(trained_before, small_model, dataset_dir):
    shutil.rmtree(trained_before)
    checkpoints = Path(f"{trained_before}-checkpoints")
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", trained_before]
    assert f"{checkpoints} already exists. Pass --resume to continue" in error_of("train.py", *basics)
    assert len(list(checkpoints.glob("checkpoint-*"))) == 10


@pytest.mark.slow
def test_overwrite_replaces_a_model_and_its_checkpoints(trained_before, small_model, dataset_dir):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", trained_before]
    before = (trained_before / "model.safetensors").read_bytes()
    run("train.py", *basics, "--overwrite", "--max-steps", 2, "--seed", 1, "--no-deepspeed")
    checkpoints = Path(f"{trained_before}-checkpoints")
    assert sorted(path.name for path in checkpoints.glob("*")) == [MANIFEST, "checkpoint-1", "checkpoint-2"]
    assert (trained_before / "model.safetensors").read_bytes() != before


@pytest.mark.slow
def test_a_second_run_on_the_same_output_is_refused(plain_loop, small_model, dataset_dir, tmp_path):
    """Even with --overwrite; the first goes on and ends right, with nothing else left behind."""
    folder, checkpoints = tmp_path / "model", tmp_path / "model-checkpoints"
    args = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", folder, *TEN_STEPS]
    first = start("train.py", *args, warm=True)
    wait_for((checkpoints / "checkpoint-1/run.json").exists, first)
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second begins
    try:
        second = error_of("train.py", *args, "--overwrite")
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.startswith(f"train.py: error: {folder} is in use by another run. ")
    errors = first.communicate()[1]
    assert first.returncode == 0, errors
    assert_equals_plain_loop((folder, errors), plain_loop)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-checkpoints"}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_starts_from_the_same_model(half_precision, zero3, precision):
    [start, *_], [expected, *_] = (
        read_history(folder, "eval_loss") for folder, _ in (half_precision(precision), zero3)
    )
    assert start == pytest.approx(expected, abs=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_saves_what_it_reported(half_precision, dataset_dir, tokenizer, precision):
    folder, _ = half_precision(precision)
    assert_true_metadata(folder)
    reported = read_history(folder, "eval_loss")
    assert len(set(reported)) > 3
    assert AutoConfig.from_pretrained(folder).dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert loss_of(folder, dataset_dir, tokenizer) == pytest.approx(reported[-1], abs=2e-2)


@pytest.mark.slow
def test_report_to_tensorboard(half_precision):
    folder, _ = half_precision("bf16")
    assert list(Path(f"{folder}-checkpoints/runs").rglob("events.out.tfevents.*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--dataset-dir", "{tmp_path}/nowhere"], "{tmp_path}/nowhere is not a complete dataset"),
        (["--model", "no/such-model"], "no model no/such-model: there is no folder of this name"),
        (
            ["--micro-batch-size", "5"],
            "--batch-size 24 is not a multiple of 1 process(es) times the micro-batch size of 5. Change one",
        ),
        (["--deepspeed", "nothing.json"], "nothing.json: No such file or directory."),
        (["--deepspeed", "{tmp_path}/file.json"], "{tmp_path}/file.json is not valid JSON"),
        (["--output-dir", "{tmp_path}/file.json/model"], "{tmp_path}/file.json"),
        (["--output-dir", "{tmp_path}", "--overwrite"], "{tmp_path} contains other files that would be deleted"),
    ],
    ids=["dataset", "model", "batch", "no config", "config", "output is in a file", "output has other files"],
)
def test_an_error_is_one_line_and_leaves_nothing(small_model, dataset_dir, tmp_path, args, error):
    (tmp_path / "file.json").write_text("{")
    basics = ["--dataset-dir", dataset_dir, "--model", small_model, "--output-dir", tmp_path / "model"]
    line = error_of("train.py", *basics, *(arg.format(tmp_path=tmp_path) for arg in args))
    assert error.format(tmp_path=tmp_path) in line
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.slow
@pytest.mark.parametrize("full_disk", ["1200k", "2m"], indirect=True)  # in the first checkpoint, in the second
def test_full_disk(small_model, dataset_dir, full_disk):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", full_disk / "model"]
    assert "No space left on device" in error_of("train.py", *basics)
    left = without_manifest(path.name for path in full_disk.glob("*/*"))
    assert left == ({"checkpoint-1"} if shutil.disk_usage(full_disk).total > 1_500_000 else set())


@pytest.mark.slow
@pytest.mark.parametrize("full_disk", ["400k"], indirect=True)
def test_a_disk_without_room_for_a_checkpoint(small_model, dataset_dir, full_disk):
    """Which is noticed before training."""
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", full_disk / "model"]
    error = error_of("train.py", *basics)
    assert "a checkpoint takes about " in error and f" are free in {full_disk}. Free some space, or" in error
    assert list(full_disk.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("full_disk", ["2m"], indirect=True)
def test_a_disk_has_the_room_that_overwrite_frees(small_model, dataset_dir, full_disk):
    checkpoints = full_disk / "model-checkpoints"
    prepare_checkpoints(checkpoints, keep_complete=False)
    (checkpoints / "checkpoint-1").mkdir()
    (checkpoints / "checkpoint-1/optimizer.pt").write_bytes(bytes(1_200_000))
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", full_disk / "model"]
    assert shutil.disk_usage(full_disk).free < 1_000_000
    run("train.py", *basics, "--overwrite", "--epochs", 1)


@pytest.mark.slow
def test_a_model_that_training_made_worse_is_noted(small_model, dataset_dir, tmp_path):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model"]
    done = run("train.py", *basics, "--batch-size", 8, "--learning-rate", 10, "--epochs", 1, "--keep-checkpoints", 1)
    assert "the newest 1 and the best are kept" in done.stderr
    assert re.search(r"higher than the \d+\.\d{4} before training: train with a lower --learning-rate", done.stderr)


@pytest.mark.slow
def test_a_finished_run_whose_model_is_gone_is_saved_again(zero3, dataset_dir, tmp_path):
    """With the same weights and figures; fewer epochs than it has are refused."""
    shutil.copytree(f"{zero3[0]}-checkpoints", tmp_path / "model-checkpoints")
    model = json.loads((zero3[0] / "metrics.json").read_text())["run"]["--model"]
    basics = ["--model", model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model", *TEN_STEPS]
    done = run("train.py", *basics, "--resume")
    assert "this run is finished: saving its model again. Pass more --epochs to train further.\n" in done.stderr
    assert "step" not in done.stderr.split("finished")[1]
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert (tmp_path / "model" / name).read_bytes() == (zero3[0] / name).read_bytes()
    again, first = (
        json.loads((path / "metrics.json").read_text())["history"] for path in (tmp_path / "model", zero3[0])
    )
    assert again == [entry for entry in first if "train_runtime" not in entry]
    error = error_of("train.py", *basics, "--resume", "--overwrite", "--epochs", 5)
    assert "has 10 steps already, but the options ask for 5. Pass more --epochs" in error


@pytest.mark.slow
def test_a_deleted_best_checkpoint_is_named(trained_before, dataset_dir):
    """The model of the second best is saved, and neither the log nor the card call it the best."""
    shutil.rmtree(f"{trained_before}-checkpoints/checkpoint-1")
    metrics = json.loads((trained_before / "metrics.json").read_text())
    assert metrics["best"]["step"] == 1
    basics = ["--model", metrics["run"]["--model"], "--dataset-dir", dataset_dir, "--output-dir", trained_before]
    done = run("train.py", *basics, *TEN_STEPS, "--resume")
    again = json.loads((trained_before / "metrics.json").read_text())["best"]
    assert again["step"] > 1 and again["eval_loss"] > metrics["best"]["eval_loss"]
    gone = "checkpoint-1, of epoch 1.00 with the lowest test loss, is gone"
    assert f"{gone}: saving the model of epoch {again['epoch']:.2f}, the best of the remaining" in done.stderr
    assert "after epoch 1.00, whose checkpoint is gone" in (trained_before / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], pytest.param(["--no-deepspeed"], marks=pytest.mark.thorough)])
def test_a_resumed_run_may_go_on_for_longer_and_at_another_rate(how, small_model, dataset_dir, tmp_path):
    """It replaces its own model. The logged learning rates are those of the new options, and they are used."""
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model", *how]
    basics += ["--warmup-epochs", 0, "--batch-size", 8]  # three steps an epoch
    run("train.py", *basics, "--epochs", 2)
    done = run("train.py", *basics, "--epochs", 4, "--resume", "--learning-rate", 5e-4, "--precision", "fp32")
    for change in ("--epochs was 2.0 and is now 4.0", "--learning-rate was 0.001 and is now 0.0005"):
        assert f"{change}: the schedule changes from here on\n" in done.stderr
    assert f"{tmp_path / 'model'}, which this run saved before, will be replaced when the run ends\n" in done.stderr
    history = json.loads((tmp_path / "model/metrics.json").read_text())["history"]
    [(step, rate)] = [(entry["step"], entry["learning_rate"]) for entry in history if "learning_rate" in entry]
    assert step == 10 and rate == pytest.approx(5e-4 * (12 - 9) / 12)
    state = torch.load(tmp_path / "model-checkpoints/checkpoint-12/scheduler.pt", weights_only=True)
    assert state["base_lrs"] == [5e-4] * len(state["base_lrs"]) and state["last_epoch"] == 12
    changed = error_of("train.py", *basics, "--epochs", 4, "--resume", "--overwrite", "--seed", 1)
    assert "was made with --seed 42, but this run has 1. Use the same" in changed


def test_the_first_step_of_a_warm_up_learns_and_the_peak_comes_once_it_ends():
    rates = [learning_rate_factor(step, 4, 12) for step in range(13)]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]
    assert [learning_rate_factor(step, 1, 3) for step in range(3)] == [1, 1, 0.5]
    assert [learning_rate_factor(step, 0, 2) for step in range(2)] == [1, 0.5]


@pytest.mark.slow
def test_a_step_that_ends_an_epoch_is_evaluated_once(train):
    """Twice would count as an evaluation without a lower loss, and --patience 1 would end a run that gets better."""
    options = ["--epochs", 2, "--batch-size", 4, "--micro-batch-size", 4, "--no-deepspeed", "--warmup-epochs", 0.1]
    folder, _ = train(*options, "--eval-every", 0.5)
    history = json.loads((folder / "metrics.json").read_text())["history"]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [0, 3, 6, 9, 12]
    _, errors = train(*options, "--eval-every", 0.5, "--patience", 1)
    assert "no better test loss in 1 evaluation: stopping" in errors


def test_a_run_too_short_for_its_warm_up_has_none(tmp_path):
    """It would never reach its peak. All other runs keep theirs."""

    def warmup_steps(*args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["train.py", "--no-deepspeed", *map(str, args)])
            return settings_of(parse_args(), 240, tmp_path).warmup_steps

    assert warmup_steps() == 1
    assert warmup_steps("--max-steps", 1) == 0 and warmup_steps("--max-steps", 2) == 1
    assert warmup_steps("--warmup-epochs", 5, "--epochs", 3) == 0
    assert warmup_steps("--warmup-epochs", 2, "--epochs", 3) == 20


@pytest.mark.slow
def test_a_run_of_one_step_learns(small_model, dataset_dir, tmp_path):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model"]
    run("train.py", *basics, "--max-steps", 1)
    before, after = (load_file(path / "model.safetensors") for path in (small_model, tmp_path / "model"))
    name = "transformer.h.0.mlp.c_fc.weight"
    assert (before[name] - after[name]).abs().max() > 5e-4


@pytest.mark.slow
def test_an_output_that_is_a_link_and_checkpoints_of_somebody_else(small_model, dataset_dir, tmp_path):
    basics = ["--no-deepspeed", "--model", small_model, "--dataset-dir", dataset_dir]
    basics += ["--output-dir", tmp_path / "model"]
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk/model")
    (tmp_path / "model-checkpoints").symlink_to(tmp_path / "disk/checkpoints")
    for options in (["--max-steps", 1], ["--max-steps", 2, "--overwrite"]):
        run("train.py", *basics, *options)
        (tmp_path / "disk/checkpoints/notes.txt").write_text("mine")
    assert {path.name for path in (tmp_path / "disk/checkpoints").iterdir()} == {
        ".chatter.json", "checkpoint-1", "checkpoint-2", "notes.txt"
    }  # fmt: skip
    assert (tmp_path / "model").is_symlink() and (tmp_path / "disk/model/model.safetensors").exists()
    (tmp_path / "disk/model/notes.txt").write_text("mine")
    assert "other files that would be deleted, such as notes.txt" in error_of("train.py", *basics, "--overwrite")

    (tmp_path / "new-checkpoints").mkdir()
    (tmp_path / "new-checkpoints/thesis.txt").write_text("mine")
    error = error_of("train.py", *basics[:-1], tmp_path / "new", "--overwrite")
    assert "new-checkpoints contains other files" in error
    assert (tmp_path / "new-checkpoints/thesis.txt").read_text() == "mine"


def test_the_working_directory_is_not_replaced(small_model, dataset_dir, tmp_path):
    (tmp_path / "config.json").touch()
    args = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", ".", "--overwrite"]
    assert "contains the working directory" in error_of("train.py", *args, cwd=tmp_path)


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint_and_resume_goes_on(small_model, dataset_dir, tmp_path):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model"]
    basics += ["--batch-size", 8, "--epochs", 200]
    process = start("train.py", *basics, text=True)
    checkpoints = tmp_path / "model-checkpoints"
    wait_for((checkpoints / "checkpoint-3/run.json").exists, process)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1]
    assert process.returncode == 143, errors
    [step] = re.findall(r"stopped at step (\d+)\. Pass --resume to continue from there\.\n$", errors)
    assert (checkpoints / f"checkpoint-{step}/run.json").exists()
    resumed = run("train.py", *basics, "--resume", "--max-steps", int(step) + 1).stderr
    assert f"resuming from {checkpoints}/checkpoint-{step}\n" in resumed
    assert (tmp_path / "model/model.safetensors").exists()


@pytest.mark.slow
def test_from_any_folder_and_without_deepspeed(small_model, dataset_dir, tmp_path):
    """ds_config.json is found beside train.py. Without DeepSpeed one line says so, and the plain Trainer works."""
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", "model", "--max-steps", 1]
    run("train.py", *basics, cwd=tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(WITHOUT_DEEPSPEED)
    without = {"PYTHONPATH": str(tmp_path / "site")}
    error = error_of("train.py", *basics, "--overwrite", cwd=tmp_path, **without)
    assert error == (
        "train.py: error: DeepSpeed is not installed. Run pip install deepspeed on Linux, or pass --no-deepspeed."
    )
    run("train.py", *basics, "--overwrite", "--no-deepspeed", cwd=tmp_path, **without)
    args = ["--engine", "ctranslate2", "--max-new-tokens", 5]  # whose converter loads transformers, too
    assert len(run("generate.py", "--model", tmp_path / "model", *args, **without).stdout.splitlines()) == 1


# Python imports a module of this name when it starts.
WITHOUT_DEEPSPEED = """
import importlib.machinery
find_spec = importlib.machinery.PathFinder.find_spec
def without_deepspeed(cls, name, *args):
    return None if name.split(".")[0] == "deepspeed" else find_spec(name, *args)
importlib.machinery.PathFinder.find_spec = classmethod(without_deepspeed)
"""


@pytest.mark.thorough
@pytest.mark.slow
def test_compiling_changes_neither_the_weights_nor_their_names(train, plain_loop):
    """Up to rounding: the small model has no dropout, whose masks would differ."""
    trained = train("--no-deepspeed", "--compile")
    assert ", compiled, which takes a minute at the first step" in trained[1]
    assert_equals_plain_loop(trained, plain_loop)
    for folder in (trained[0], Path(f"{trained[0]}-checkpoints/checkpoint-10")):
        assert not [name for name in load_file(folder / "model.safetensors") if "_orig_mod" in name]


def test_compiling_needs_the_plain_trainer(tmp_path):
    error = error_of("train.py", "--output-dir", tmp_path / "model", "--compile")
    assert error == "train.py: error: --compile does not work with DeepSpeed. Pass --no-deepspeed as well."

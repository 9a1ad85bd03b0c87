"""chatter.generation: each engine samples what the model says, and loading one runs no code of the model."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, contents, error_of, run, start

from chatter.cli import InputError
from chatter.generation.choose_engine import ENGINES, load_engine
from chatter.generation.ctranslate2_copy import (
    COMPARISON,
    DIGEST,
    converted_weights,
    digest_copy,
    digest_files,
    digest_model,
)
from chatter.generation.ctranslate2_engine import CTranslate2Engine
from chatter.generation.engine import Sampling, weight_files
from chatter.generation.transformers_engine import TransformersEngine
from chatter.tokens.chat import FORMAT_FILE, decode_message, encode_chat


def name_of(engine):
    return {CTranslate2Engine: "ctranslate2", TransformersEngine: "transformers"}[type(engine)]


def next_message(engine, lines, **sampling):
    """Sample one message after these lines of chat; return its text."""
    prompt = encode_chat(engine.tokenizer, engine.format, lines, 40)
    [ids] = engine.sample(prompt, 1, Sampling(max_new_tokens=20, **sampling))
    return decode_message(engine.tokenizer, ids)


@pytest.fixture
def folder(random_model, tmp_path):
    """A model's folder of one's own, without the copy for CTranslate2."""
    return shutil.copytree(random_model, tmp_path / "model", ignore=shutil.ignore_patterns("ctranslate2"))


@pytest.mark.parametrize("sampling", [{"greedy": True}, {"temperature": 0.3}, {"top_k": 1}, {"top_p": 0.01}], ids=str)
@pytest.mark.parametrize(("lines", "reply"), [(["ping"], "what is it"), (["ping", "what is it"], "ping")])
def test_the_likeliest_message_is_what_was_learned(lines, reply, sampling, parrot_engine):
    parrot_engine.seed(0)
    assert next_message(parrot_engine, lines, **sampling) == reply


def first_tokens(engine, sampling):
    """Sample 2,000 messages of one token; return how often each token came, and the model's scores, (vocab_size,)."""
    prompt = encode_chat(engine.tokenizer, engine.format, ["hello chat"], 40)
    engine.seed(0)
    tokens = [token for _ in range(40) for [token] in engine.sample(prompt, 50, sampling)]
    reference = load_engine(engine.folder, "cpu", "transformers")
    with torch.no_grad():
        scores = reference.model(torch.tensor([prompt])).logits[0, -1]
    scores[[engine.format.start, engine.format.pad, engine.format.newline]] = -torch.inf  # never the first
    return torch.bincount(torch.tensor(tokens), minlength=len(scores)), scores


@pytest.fixture
def engine(engine, random_model):
    engine.folder = random_model
    return engine


def test_tokens_come_as_often_as_the_model_says(engine):
    """Chi-square over the 20 likeliest tokens and the rest: 20 degrees of freedom, 52 once in ten thousand."""
    counts, scores = first_tokens(engine, Sampling(temperature=0.2, top_p=1.0, max_new_tokens=1))
    chances, order = (scores / 0.2).softmax(-1).sort(descending=True)
    counts = counts[order]
    expected = torch.cat([chances[:20], chances[20:].sum()[None]]) * counts.sum()
    found = torch.cat([counts[:20], counts[20:].sum()[None]])
    assert ((found - expected) ** 2 / expected).sum() < 52


def test_top_p_is_the_likeliest_tokens_that_add_up_to_it(engine):
    counts, scores = first_tokens(engine, Sampling(temperature=0.05, top_p=0.5, max_new_tokens=1))
    chances, order = (scores / 0.05).softmax(-1).sort(descending=True)
    nucleus = int((chances.cumsum(-1) < 0.5).sum()) + 1
    assert 5 < nucleus < 50
    assert {*counts.nonzero().flatten().tolist()} == {*order[:nucleus].tolist()}


def test_top_k_is_the_likeliest_tokens(engine):
    counts, scores = first_tokens(engine, Sampling(top_p=1.0, top_k=7, max_new_tokens=1))
    assert {*counts.nonzero().flatten().tolist()} == {*scores.topk(7).indices.tolist()}


def test_a_message_is_not_empty(parrot_engine):
    """Although the likeliest token after "ping" is the newline."""
    prompt = encode_chat(parrot_engine.tokenizer, parrot_engine.format, ["ping"], 40)[:-1]
    for sampling in (Sampling(greedy=True, max_new_tokens=5), Sampling(max_new_tokens=5)):
        assert all(parrot_engine.sample(prompt, 1, sampling))


def test_messages_end_before_the_newline_or_at_max_new_tokens(engine):
    prompt = encode_chat(engine.tokenizer, engine.format, [], 1)
    sampled = engine.sample(prompt, 50, Sampling(temperature=3.0, top_p=1.0, max_new_tokens=30))
    control = {engine.format.start, engine.format.pad, engine.format.newline}
    assert len(sampled) == 50 and all(1 <= len(ids) <= 30 and not control & {*ids} for ids in sampled)


@pytest.mark.parametrize("seed", [7, 2**63 - 1])
@pytest.mark.parametrize("name", ENGINES)
def test_a_seed_repeats_what_a_new_engine_samples(name, seed, random_model):
    def sample(seed):
        engine = load_engine(random_model, "cpu", name)
        engine.seed(seed)
        return engine.sample([engine.format.start], 3, Sampling(max_new_tokens=10))

    assert sample(seed) == sample(seed) != sample(8)


def test_a_seed_repeats_what_the_same_engine_samples(engine):
    def sample(seed):
        engine.seed(seed)
        return engine.sample([engine.format.start], 3, Sampling(max_new_tokens=10))

    assert sample(7) == sample(7) != sample(8)


def test_the_repetition_penalty_is_for_what_the_message_has_already(parrot_engine):
    """A high one forbids tokens to come twice, and leaves alone those that only the chat has."""
    prompt = encode_chat(parrot_engine.tokenizer, parrot_engine.format, ["what is it", "ping"], 40)
    plain, penalized = (
        parrot_engine.sample(prompt, 1, Sampling(greedy=True, max_new_tokens=30, repetition_penalty=penalty))[0]
        for penalty in (1.0, 100.0)
    )
    assert len({*plain}) < len(plain) or plain == penalized
    assert len({*penalized}) == len(penalized) and {*penalized} & {*prompt}


def test_auto_on_a_cpu_is_ctranslate2(folder):
    assert name_of(load_engine(folder, "cpu")) == "ctranslate2"


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_by_name(name, random_model):
    engine = load_engine(random_model, "cpu", name)
    assert name_of(engine) == name
    assert (engine.format.block_size, engine.format.pad) == (64, engine.tokenizer.get_vocab_size() - 1)


def test_an_engine_that_does_not_run_on_the_device_is_refused(random_model):
    with pytest.raises(InputError, match="--engine ctranslate2 does not run on --device cuda"):
        load_engine(random_model, "cuda", "ctranslate2")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused(random_model):
    with pytest.raises(InputError, match=r"--device cuda cannot be used: there is no GPU\. Pass --device cpu\."):
        load_engine(random_model, "cuda")


def test_a_gpu_that_torch_cannot_use_is_named(random_model, monkeypatch, capsys):
    """No GPU is at hand: the answers of the driver and of torch are replaced."""
    monkeypatch.setattr("chatter.devices.count_gpus", lambda: 1)
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 1)
    monkeypatch.setattr("chatter.gpu.find_problem", lambda visible: "no kernels.")
    load_engine(random_model)
    assert "no kernels. Using the CPU.\n" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"--device cuda cannot be used: no kernels\. Pass --device cpu\."):
        load_engine(random_model, "cuda")


def test_generation_without_torch(random_model, monkeypatch):
    """CTranslate2 works without it, where a GPU was seen, too; the other engine says what to install."""
    load_engine(random_model, "cpu")  # converts the weights
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 1)
    for module in ("torch", "chatter.gpu", "chatter.generation.transformers_engine"):
        monkeypatch.setitem(sys.modules, module, None)
    assert name_of(load_engine(random_model)) == "ctranslate2"
    with pytest.raises(ModuleNotFoundError):
        load_engine(random_model, "cpu", "transformers")


class FakeGpu(torch.nn.Module):
    """A model that says that it has no memory on a GPU, until it is on the CPU."""

    device = torch.device("cpu")

    def __init__(self, model):
        super().__init__()
        self.model, self.moved = model, False

    def to(self, device):
        self.moved = device == "cpu"
        return self

    def generate(self, *args, **kwargs):
        if not self.moved:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.model.generate(*args, **kwargs)


@pytest.mark.parametrize(
    ("has_gpu", "problem"), [(True, ""), (True, "torch 2.13.0+cpu is the CPU build."), (False, "")]
)
def test_auto_ends_with_an_engine(has_gpu, problem, random_model, monkeypatch, capsys):
    """CTranslate2 sees a GPU: one that torch cannot use, or that turns out to be gone when the model is moved to it."""
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: int(has_gpu))
    monkeypatch.setattr("chatter.gpu.find_problem", lambda visible: problem)
    engine = load_engine(random_model)
    said = capsys.readouterr().err
    assert ("--device cuda cannot be used: " in said and " Using the CPU.\n" in said) == (has_gpu and not problem)
    assert len(engine.sample([engine.format.start], 2, Sampling(max_new_tokens=3))) == 2


def test_gpu_memory_that_runs_out_while_sampling(random_model, capsys):
    """With --device auto the CPU goes on; with --device cuda, and in train.py, the error stays."""
    engine = load_engine(random_model, "cpu", "transformers")
    engine.model = FakeGpu(engine.model)
    with pytest.raises(torch.OutOfMemoryError):
        engine.sample([engine.format.start], 2, Sampling(max_new_tokens=3))
    engine.may_move = True
    assert len(engine.sample([engine.format.start], 2, Sampling(max_new_tokens=3))) == 2
    assert capsys.readouterr().err == "out of GPU memory: using the CPU\n"


@pytest.mark.parametrize("model", ["nowhere", TINY], ids=["no folder", "no weights"])
def test_there_is_no_model(model):
    with pytest.raises(InputError, match=f"no model in {model}. Run train.py first, or pass another folder with"):
        load_engine(model)


def test_a_model_that_train_did_not_write_is_refused(folder):
    (folder / FORMAT_FILE).unlink()
    with pytest.raises(InputError, match=f"the model in {folder} was not written by train"):
        load_engine(folder)


def test_weights_that_are_cut_short_are_refused(folder):
    """By each engine that is tried."""
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(
        InputError, match=f"the weights in {folder} cannot be read .* Run train.py again with --overwrite"
    ):
        load_engine(folder, "cpu")


@pytest.mark.parametrize("name", ["ctranslate2", "transformers"])
def test_weights_that_do_not_fit_their_config_are_refused(name, folder, capfd):
    """In one line, without the tables of transformers and without its advice."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": 2 * config["n_embd"]}))
    with pytest.raises(InputError, match=r"do not fit its config\.json\. Copy both from the same model, or run train"):
        load_engine(folder, "cpu", name)
    assert all(line.startswith("converting the weights") for line in capfd.readouterr().err.splitlines())


def test_weights_in_several_files(random_model, folder, capsys):
    """As transformers saves a large model."""
    from transformers import AutoModelForCausalLM

    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(random_model).save_pretrained(folder, max_shard_size="100kB")
    assert len([*folder.glob("model-*.safetensors")]) > 1
    for name in ENGINES:
        parts, whole = load_engine(folder, "cpu", name), load_engine(random_model, "cpu", name)
        assert next_message(parts, ["hi"], greedy=True) == next_message(whole, ["hi"], greedy=True)


def test_the_copy_for_ctranslate2_is_made_once(folder, capsys):
    load_engine(folder, "cpu")
    assert capsys.readouterr().err == f"converting the weights of {folder} for the CPU, once\n"
    made = contents(folder), (folder / "ctranslate2").stat().st_mtime_ns
    load_engine(folder, "cpu")
    assert (contents(folder), (folder / "ctranslate2").stat().st_mtime_ns) == made
    assert capsys.readouterr().err == ""


def test_the_copy_follows_the_weights(folder, parrot):
    """Also if the new weights are as old and as large as the others, as `rsync -a` leaves them."""
    copied = contents(converted_weights(folder))
    weights = folder / "model.safetensors"
    state = weights.stat()
    shutil.copy(parrot / "model.safetensors", weights)
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert contents(converted_weights(folder))["model.bin"] != copied["model.bin"]
    assert contents(converted_weights(folder)) == contents(converted_weights(parrot))


def test_the_copy_is_not_made_again_for_the_same_weights(folder):
    converted_weights(folder)
    made = (folder / "ctranslate2").stat().st_mtime_ns
    later = time.time() + 60
    os.utime(folder / "model.safetensors", (later, later))
    converted_weights(folder)
    assert (folder / "ctranslate2").stat().st_mtime_ns == made


def test_any_change_of_the_weights_is_noticed(tmp_path):
    """Of a file of 10 MB, of which 4 MB are read: training changes all of it."""
    weights = np.random.default_rng(0).integers(0, 256, 10_000_000, dtype=np.uint8)
    weights.tofile(tmp_path / "model.safetensors")
    before = digest_files(weight_files(tmp_path))
    (weights + 1).tofile(tmp_path / "model.safetensors")
    assert digest_files(weight_files(tmp_path)) != before
    weights.tofile(tmp_path / "model-00001-of-00002.safetensors")
    assert digest_files(weight_files(tmp_path)) != before


def test_two_that_need_the_copy_at_once_make_it_once(folder):
    args = ["generate.py", "--model", folder, "--max-new-tokens", 5, "--device", "cpu"]
    both = [start(*args, warm=True) for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in both]
    assert [len(output.splitlines()) for output, _ in ended] == [1, 1]
    assert sum(errors.count("converting the weights") for _, errors in ended) == 1
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(["model.bin", COMPARISON, DIGEST], ["missing", "empty", "half", "zeros", "not UTF-8"]),
        *itertools.product(["config.json", "vocabulary.json"], ["missing", "half"]),  # one digest covers all files
    ],
)
def test_a_damaged_copy_is_made_again_once(damage, name, folder, capsys):
    """Zeros, as a crash of the system leaves them, would be loaded as weights."""
    whole = contents(converted_weights(folder))
    path, data = folder / "ctranslate2" / name, (folder / "ctranslate2" / name).read_bytes()
    damaged = {"empty": b"", "half": data[: len(data) // 2], "zeros": data[:-50] + bytes(50), "not UTF-8": b"\xff"}
    path.write_bytes(damaged[damage]) if damage in damaged else path.unlink()
    capsys.readouterr()
    for said in ([f"converting the weights of {folder} for the CPU, once"], []):
        assert name_of(load_engine(folder, "cpu")) == "ctranslate2"
        assert capsys.readouterr().err.splitlines()[:1] == said
    assert contents(folder / "ctranslate2") == whole


def test_a_copy_whose_damage_the_digest_does_not_show_is_made_again(folder, capsys):
    copy = converted_weights(folder)
    (copy / "model.bin").write_bytes(b"damaged")
    (copy / DIGEST).write_bytes(digest_copy(digest_model(folder), copy))
    capsys.readouterr()
    assert name_of(load_engine(folder, "cpu", "ctranslate2")) == "ctranslate2"
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"the converted weights in {copy} cannot be loaded (")
    assert second == f"converting the weights of {folder} for the CPU, once"


def test_a_model_that_cannot_be_converted_is_left_to_transformers(folder, capsys):
    """As in a folder that is not writable."""
    (folder / ".ctranslate2.lock").mkdir()
    assert name_of(load_engine(folder, "cpu")) == "transformers"
    errors = capsys.readouterr().err
    assert errors.startswith(f"ctranslate2 cannot load {folder} (") and "using transformers, which is slower" in errors
    with pytest.raises(InputError, match=r"ctranslate2 cannot load .* Pass --engine transformers\."):
        load_engine(folder, "cpu", "ctranslate2")


def test_without_ctranslate2_it_is_transformers(random_model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)  # as if it were not installed
    for name in ("ctranslate2_engine", "ctranslate2_copy"):
        monkeypatch.delitem(sys.modules, f"chatter.generation.{name}", raising=False)
    assert name_of(load_engine(random_model)) == "transformers" and capsys.readouterr().err == ""
    with pytest.raises(ModuleNotFoundError):  # which plain_errors names
        load_engine(random_model, "cpu", "ctranslate2")


@pytest.mark.parametrize(
    ("at_once", "given", "library"), [(1, None, "DNNL"), (100, None, "MKL"), (1, "1", "MKL"), (100, "0", "DNNL")]
)
def test_few_messages_are_computed_by_onednn_and_many_by_mkl(at_once, given, library, parrot):
    """Unless the user chooses."""
    load = f"load_engine({str(parrot)!r}, 'cpu', at_once={at_once})"
    command = [sys.executable, "-c", f"from chatter.generation.choose_engine import load_engine; {load}"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "CT2_VERBOSE": "1", "CT2_USE_MKL": given}
    env = {name: value for name, value in env.items() if value is not None}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    [line] = [line for line in done.stderr.splitlines() if "SGEMM backend" in line]
    assert f"SGEMM backend: {library}" in line


def test_with_the_copy_made_neither_torch_nor_transformers_is_imported(parrot):
    """Their import takes longer than a message."""
    launcher = [sys.executable, "-X", "importtime"]
    done = run("generate.py", "ping", "--model", parrot, "--device", "cpu", "--greedy", launcher=launcher)
    assert done.stdout == "what is it\n"
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert {"ctranslate2", "tokenizers"} <= imported
    assert not imported & {"torch", "transformers", "safetensors", "huggingface_hub"}


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_pickled_weights_are_not_loaded(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save(Bomb(f"touch {tmp_path}/exploded"), folder / "pytorch_model.bin")
    assert "no model in" in error_of("generate.py", "--model", folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ENGINES)
def test_code_of_the_model_is_not_run(name, folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": code}))
    (folder / "evil.py").write_text(f"open('{tmp_path}/exploded', 'w')\n")
    with suppress(InputError):
        load_engine(folder, "cpu", name)
    assert not (tmp_path / "exploded").exists()

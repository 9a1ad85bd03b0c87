"""models/from_gguf.py: the model and the tokenizer in a GGUF file are the ones that it was written from."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from conftest import ROOT, TINY, python_with, run
from families import make_family, sample_lines
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.thorough
SCRIPT = "models/from_gguf.py"
# Folder -> llama.cpp's name for how its tokenizer splits texts, the type of its matrices, and how far logits may differ
WRITTEN = {"gpt2": ("gpt-2", "F32", 0), "qwen2": ("qwen2", "F32", 0), "llama": ("llama-bpe", "Q8_0", 0.01)}
WRITE = """
import json, sys
from write_gguf import write
for call in json.loads(sys.argv[1]):
    write(*call)
"""


@pytest.fixture(scope="module")
def python():
    return python_with("gguf==0.19.0")


@pytest.fixture(scope="module")
def folder(python, tmp_path_factory):
    """A folder of models in folders, and of GGUF files."""
    folder = tmp_path_factory.mktemp("models")
    make_family("qwen2", folder / "qwen2", dtype="float32")
    make_family("llama", folder / "llama", rope_parameters={"rope_theta": 10000.0})
    make_family("llama", folder / "llama3")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(TINY)).save_pretrained(folder / "gpt2")
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder / "gpt2")
    calls = [(name, f"{name}.gguf", split, kind) for name, (split, kind, _) in WRITTEN.items()]
    calls += [("llama", "digits.gguf", "smollm", "Q4_1"), ("llama", "split.gguf", "own-bpe", "F32")]
    calls += [("llama3", "scaled.gguf", "llama-bpe", "F32")]
    calls += [("qwen2", "part.gguf", "qwen2", "F32", ["output_norm.weight"])]
    command = [python, "-c", WRITE, json.dumps(calls)]
    subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT / "tests")}, check=True, capture_output=True)
    whole = (folder / "qwen2.gguf").read_bytes()
    (folder / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "text.gguf").write_text("no model")
    (folder / "other.gguf").write_bytes(whole.replace(b"qwen2", b"other"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_the_model_is_the_one_that_was_written(name, folder, python, tmp_path):
    done = run(SCRIPT, folder / f"{name}.gguf", "--output-dir", tmp_path / "made", launcher=(python,))
    assert (done.stdout, done.stderr.splitlines()[-1]) == ("", f"{name}.gguf -> {tmp_path}/made")
    expected, made = (AutoModelForCausalLM.from_pretrained(path) for path in (folder / name, tmp_path / "made"))
    _, kind, tolerance = WRITTEN[name]
    assert made.dtype == (torch.float32 if kind == "F32" else torch.bfloat16)
    assert made.config.max_position_embeddings == expected.config.max_position_embeddings
    assert not hasattr(made.config, "quantization_config")
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert (expected(ids).logits - made.float()(ids).logits).abs().max() <= tolerance

    before, after = (AutoTokenizer.from_pretrained(path) for path in (folder / name, tmp_path / "made"))
    lines = [*sample_lines()[:500], "  two  1234 \u3042\U0001f602", "<|endoftext|>[PAD]"]
    assert after(lines)["input_ids"] == before(lines)["input_ids"]
    assert len(after) == made.config.vocab_size
    assert (after.bos_token, after.eos_token, after.chat_template) == (before.bos_token, before.eos_token, None)
    assert after.model_max_length == made.config.max_position_embeddings


@pytest.mark.slow
def test_each_digit_is_a_piece_for_smollm(folder, python, tmp_path):
    run(SCRIPT, folder / "digits.gguf", "--output-dir", tmp_path / "made", launcher=(python,))
    split = AutoTokenizer.from_pretrained(tmp_path / "made").backend_tokenizer.pre_tokenizer
    assert [piece for piece, _ in split.pre_tokenize_str("at  12!")] == ["at", "\u0120\u0120", "1", "2", "!"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut", "cannot be read ("),
        ("text", "cannot be read ("),
        ("other", "is a model of the family other. Use one of these families: gpt2, llama, qwen2."),
        ("scaled", "has scaled rotary positions"),
        ("split", "(gpt2, own-bpe) is not a byte-level one that is known here."),
        ("part", "of which 1 are missing. Use another file."),
    ],
)
def test_a_file_that_cannot_be_converted(name, reason, folder, python, tmp_path):
    assert reason in error_of(folder / f"{name}.gguf", tmp_path, launcher=(python,))


def test_no_file(tmp_path):
    assert f"there is no file {tmp_path}/no.gguf. Check the path." in error_of(tmp_path / "no.gguf", tmp_path)


@pytest.mark.skipif(find_spec("gguf") is not None, reason="gguf is installed")
def test_no_package(tmp_path):
    error = error_of(TINY / "config.json", tmp_path)
    assert "reading GGUF files needs the package gguf. Run pip install gguf==0.19.0." in error


def error_of(file, output, launcher=(sys.executable,)):
    """Convert a file that cannot be converted; return the one line of error."""
    done = run(SCRIPT, file, "--output-dir", output / "made", launcher=launcher, check=False)
    assert (done.returncode, done.stdout, [*output.iterdir()]) == (1, "", []), done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("from_gguf.py: error: ") and "Traceback" not in done.stderr
    return line

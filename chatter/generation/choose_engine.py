"""Which engine and which device to take."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chatter.cli import InputError, log
from chatter.devices import DeviceError, find_gpu
from chatter.generation.engine import Engine, weight_files
from chatter.tokens.chat import ChatFormat

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")
# CTranslate2 multiplies with oneDNN or with MKL, by default as the CPU's vendor suggests. From this many messages at
# once, MKL is faster on AMD and as fast on Intel; with fewer, oneDNN is faster on both, and takes half of the memory.
MANY = 16
# Engine -> the devices it runs on. "auto" tries the engines in this order. The module of an engine is called
# <engine>_engine, and is imported when it is used.
ENGINES = {"ctranslate2": {"cpu"}, "transformers": {"cpu", "cuda", "mps"}}


def load_engine(model: str | Path, device: str = "auto", engine: str = "auto", at_once: int = 1) -> Engine:
    """Load a model that train.py wrote. Raises InputError if it cannot be loaded with these options.

    `at_once` is how many messages will be sampled at once, as far as it is known.
    `device` auto is a GPU if torch can use one and the model fits on it, or else the CPU. `engine` auto is the first of
    ENGINES that can load the model on that device.
    """
    from tokenizers import Tokenizer

    os.environ.setdefault("CT2_USE_MKL", str(int(at_once >= MANY)))
    folder = Path(model)
    if not weight_files(folder):
        raise InputError(f"no model in {folder}. Run train.py first, or pass another folder with --model.")
    read_model_file(folder / "config.json", json.loads, "Run train.py again with --overwrite.")
    advice = "Copy it from the folder tokenizer of the model's dataset, or run train.py again with --overwrite."
    tokenizer = read_model_file(folder / "tokenizer.json", Tokenizer.from_str, advice)
    chat_format = ChatFormat.load(folder)
    if None in map(tokenizer.id_to_token, [*chat_format.never, chat_format.newline]):
        raise InputError(f"{folder / 'tokenizer.json'} belongs to another model. {advice}")
    if device == "auto":
        gpu = find_gpu() if engine == "auto" or "cuda" in ENGINES[engine] else "cpu"
        if gpu != "cpu":
            try:
                return load_first(folder, gpu, engine, tokenizer, chat_format, may_move=True)
            except DeviceError as error:
                log(f"{error} Using the CPU.")
        device = "cpu"
    try:
        return load_first(folder, device, engine, tokenizer, chat_format, may_move=False)
    except DeviceError as error:
        raise DeviceError(f"{error} Pass --device cpu.") from error


def read_model_file(path: Path, read: Callable[[str], T], advice: str) -> T:
    """Return what `read` makes of the text of a file. Raises InputError with the advice if it cannot be read."""
    try:
        return read(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. {advice}") from None
    except Exception as error:  # OSError, ValueError; tokenizers raises nothing more specific
        raise InputError(f"{path} cannot be read ({error}). {advice}") from error


def load_first(
    folder: Path, device: str, engine: str, tokenizer: Tokenizer, chat_format: ChatFormat, may_move: bool
) -> Engine:
    """Load a model with `engine` or, if that is "auto", with the first engine that works on the device."""
    names = [name for name, devices in ENGINES.items() if engine in ("auto", name) and device in devices]
    if not names:
        raise InputError(f"--engine {engine} does not run on --device {device}. Pass --engine transformers.")
    for name in names:
        try:
            module = import_module(f"chatter.generation.{name}_engine")
            return module.load(folder, device, tokenizer, chat_format, may_move)
        except InputError:
            raise
        except ModuleNotFoundError:
            if name == names[-1]:
                raise
        except Exception as error:  # a folder that is not writable, a model that it cannot convert
            if name == names[-1]:
                advice = (
                    "Run train.py again with --overwrite." if name == "transformers" else "Pass --engine transformers."
                )
                raise InputError(f"{name} cannot load {folder} ({error}). {advice}") from error
            log(f"{name} cannot load {folder} ({error}): using {names[-1]}, which is slower")
    raise AssertionError("unreachable")

"""Make a folder for `from_pretrained` from a GGUF file, the format of llama.cpp: config, weights and tokenizer.

It needs the package gguf. Weights of 8 or fewer bits become bf16, which has as many significant bits, takes half the
space of fp32, and is what a GPU then trains in. Others become fp32, so that nothing is rounded.

    python models/from_gguf.py SmolLM2-135M-Instruct.Q4_1.gguf --output-dir models/smollm2
    python tokenize_logs.py --model models/smollm2
    python train.py --model models/smollm2
"""

from __future__ import annotations

import contextlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chatter.cli import InputError, make_parser, plain_errors
from chatter.files import MODEL_MARKER, atomic_output, reserved

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GGUF = "gguf==0.19.0"
FAMILIES = ("gpt2", "llama", "qwen2")  # whose conversion is tested, as llama.cpp names them: llama is also SmolLM2
DIGITS = ("smollm",)  # the splits of texts that transformers does not know: as GPT-2's, but each digit is a piece


def convert(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file to `folder`. Raises InputError if they are not supported."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        check_supported(file, reader)

        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
        from transformers.utils.logging import disable_progress_bar, set_verbosity_error

        set_verbosity_error()
        disable_progress_bar()
        named = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
        tokenizer = AutoTokenizer.from_pretrained(**named)
        config = AutoConfig.from_pretrained(**named)
        if config.model_type == "gpt2":
            config.n_positions = config.n_ctx  # the only name that transformers gives them
        network, loaded = AutoModelForCausalLM.from_pretrained(
            **named,
            config=config,
            quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
            dtype=torch.bfloat16 if is_rounded(reader) else torch.float32,
            output_loading_info=True,
        )
    except (InputError, OSError):
        raise
    except Exception as error:  # the reader raises whatever NumPy raises of a damaged file
        raise InputError(f"{file} cannot be read ({error}). Download it again, or use another file.") from error
    check_complete(file, reader, network, loaded["missing_keys"])
    network.save_pretrained(folder)
    prepare_tokenizer(tokenizer, reader, config.max_position_embeddings)
    tokenizer.save_pretrained(folder)


def field(reader: GGUFReader, name: str) -> Any:
    """Return a value of a GGUF file's metadata, or None."""
    found = reader.get_field(name)
    return found and found.contents()


def split_name(reader: GGUFReader) -> str | None:
    """Return the name of the way in which the tokenizer splits texts. Files of GPT-2 may be older than these names."""
    return field(reader, "tokenizer.ggml.pre") or ("gpt-2" if field(reader, "general.architecture") == "gpt2" else None)


def check_supported(file: Path, reader: GGUFReader) -> None:
    """Raise InputError if the file is of a kind that has not been tried, or that transformers would read wrongly."""
    family = field(reader, "general.architecture")
    if family not in FAMILIES:
        raise InputError(f"{file} is a model of the family {family}. Use one of these families: {', '.join(FAMILIES)}.")
    scaling = field(reader, f"{family}.rope.scaling.type") or "none"
    if scaling != "none" or any(tensor.name.startswith("rope_f") for tensor in reader.tensors):
        raise InputError(
            f"{file} has scaled rotary positions, as Llama 3.1, which transformers does not read from GGUF files. Get "
            "the model's safetensors."
        )
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    kind, split = field(reader, "tokenizer.ggml.model"), split_name(reader)
    if kind != "gpt2" or split not in (*GGUF_PRE_TOKENIZER_SPLITS, *DIGITS, "gpt-2"):
        raise InputError(
            f"the tokenizer in {file} ({kind}, {split}) is not a byte-level one that is known here. Get the model's "
            "safetensors and tokenizer.json."
        )


def is_rounded(reader: GGUFReader) -> bool:
    """Return whether most weights of a file have fewer bits than float16, or are bf16."""
    from gguf import GGMLQuantizationType

    precise = (GGMLQuantizationType.F32, GGMLQuantizationType.F16)
    sizes = [(int(tensor.n_elements), tensor.tensor_type in precise) for tensor in reader.tensors]
    return 2 * sum(size for size, is_precise in sizes if is_precise) < sum(size for size, _ in sizes)


def check_complete(file: Path, reader: GGUFReader, network: PreTrainedModel, missing: set[str]) -> None:
    """Raise InputError if parameters were not in the file, or tensors of the file are not in the model."""
    num_parameters = len([*network.parameters()])  # tied ones count once
    if missing or num_parameters != len(reader.tensors):
        raise InputError(
            f"{file} has {len(reader.tensors)} tensors, and a model of its family {num_parameters} parameters, of "
            f"which {len(missing)} are missing. Use another file."
        )


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, reader: GGUFReader, positions: int) -> None:
    """Correct what transformers reads of a tokenizer, and remove the chat template, which is an assistant's."""
    from tokenizers import Tokenizer, pre_tokenizers

    state, num_tokens = json.loads(tokenizer.backend_tokenizer.to_str()), len(field(reader, "tokenizer.ggml.tokens"))
    # transformers adds GPT-2's <|endoftext|> to each vocabulary
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < num_tokens]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    if split_name(reader) in DIGITS:
        split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.model_max_length = positions
    tokenizer.chat_template = None


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help=f"GGUF file of a model ({', '.join(FAMILIES)})")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write; an older model is replaced")
    with plain_errors():
        args = parser.parse_args()
        if not args.file.is_file():
            raise InputError(f"there is no file {args.file}. Check the path.")
        if not find_spec("gguf"):
            raise InputError(f"reading GGUF files needs the package gguf. Run pip install {GGUF}.")
        with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed logs to stdout
            with reserved(args.output_dir, MODEL_MARKER) as folder, atomic_output(folder) as partial:
                convert(args.file, partial)
        print(f"{args.file.name} -> {args.output_dir}", file=sys.stderr)


if __name__ == "__main__":
    main()

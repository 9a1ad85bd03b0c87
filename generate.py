"""Stage 4: say the next message of a chat.

Reads   --model, the folder that train.py wrote, and the chat so far, if given: as arguments, a line each, or on stdin.
Writes  one chat message a line on stdout and nothing else; without a prompt the message opens the chat.
        On a CPU the first run keeps a copy of the weights in <model>/ctranslate2/, which says it at once.

    python generate.py
    python generate.py "what game is this?" -n 5 --temperature 0.7 --seed 1
    python generate.py --complete "the best game is"
    tail -n 20 data/logs/channel.txt | python generate.py -
    tail -n 0 -f chat.txt | python generate.py --stream --trigger my_bot
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import sys
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parse_logs import InputError, one_line_errors, parse_line, parser_of, positive_int, written_beside
from tokenize_logs import clean, encode

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

MAX_CHARACTERS = 500  # Twitch cuts longer messages
MAX_TRIES = 10  # draws in a row that come to nothing: invisible, or banned
MAX_BATCH = 50  # messages drawn at once
MAX_LINE_BYTES = 1 << 16  # of standard input


@dataclass(frozen=True)
class Sampling:
    """How a message is drawn.

    Nucleus sampling: at each step from the likeliest tokens whose probabilities add up to `top_p`; `top_k` bounds their
    number (0: no bound). `repetition_penalty` divides the scores of tokens that the message has already; 1 is none.
    """

    temperature: float = 0.9
    top_p: float = 0.95
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 100
    greedy: bool = False  # the likeliest token at each step, no draw
    banned_words: frozenset[str] = frozenset()  # as `fold` gives them


@dataclass(frozen=True)
class Message:
    text: str
    ids: list[int]  # as drawn, without the newline
    log_probability: float | None = None  # in nats, of `ids` and a newline, at temperature 1


class Engine:
    """What draws tokens: `draw` and `log_probability` on top of a tokenizer and the model's special ids."""

    def __init__(self, tokenizer: Tokenizer, config: dict) -> None:
        self.tokenizer = tokenizer
        self.positions = config["n_positions"]
        self.newline, self.end = config["eos_token_id"]
        self.pad = config["pad_token_id"]

    def seed(self, seed: int) -> None:
        raise NotImplementedError

    def draw(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        """Continue the prompt `num_messages` times; give the new ids of each up to its newline."""
        raise NotImplementedError

    def log_probability(self, prompt: list[int], ids: list[int]) -> float:
        """Give the log-probability, in nats, of `ids` behind the prompt."""
        raise NotImplementedError


class TransformersEngine(Engine):
    """Hugging Face transformers, on any device: the reference."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer, model.config.to_dict() | model.generation_config.to_dict())
        self.model = model

    def seed(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)

    def draw(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        import torch
        from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

        input_ids = torch.tensor([prompt], device=self.model.device)  # (1, prompt_length) int64
        penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty, prompt_ignore_length=len(prompt))
        shape = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        output = self.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            num_return_sequences=num_messages,
            do_sample=not sampling.greedy,
            **({} if sampling.greedy else shape),
            logits_processor=LogitsProcessorList([penalty]),
            max_new_tokens=sampling.max_new_tokens,
            min_new_tokens=1,  # a message is not empty
            suppress_tokens=[self.end, self.pad],
            eos_token_id=self.newline,
            pad_token_id=self.pad,
        )  # (num_messages, prompt_length + longest message) int64
        drawn = output[:, len(prompt) :].tolist()
        return [ids[: ids.index(self.newline)] if self.newline in ids else ids for ids in drawn]

    def log_probability(self, prompt: list[int], ids: list[int]) -> float:
        import torch

        with torch.inference_mode():
            logits = self.model(torch.tensor([prompt + ids], device=self.model.device)).logits[0, len(prompt) - 1 : -1]
            wanted = torch.tensor(ids, device=self.model.device)
            return logits.float().log_softmax(-1).gather(1, wanted[:, None]).sum().item()


class CTranslate2Engine(Engine):
    """CTranslate2, on a CPU: starts without torch."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, config: dict) -> None:
        import ctranslate2

        super().__init__(tokenizer, config)
        self.generator = ctranslate2.Generator(str(folder), "cpu")

    def seed(self, seed: int) -> None:
        import ctranslate2

        ctranslate2.set_random_seed(seed % (1 << 32))

    def draw(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        [result] = self.generator.generate_batch(
            [self.tokens(prompt)],
            include_prompt_in_result=False,
            num_hypotheses=num_messages,
            sampling_topk=1 if sampling.greedy else sampling.top_k,
            sampling_topp=1 if sampling.greedy else sampling.top_p,
            sampling_temperature=sampling.temperature,
            repetition_penalty=sampling.repetition_penalty,
            max_length=sampling.max_new_tokens,
            min_length=1,
            suppress_sequences=[self.tokens([self.end]), self.tokens([self.pad])],
            end_token=[self.newline],
        )
        return result.sequences_ids

    def log_probability(self, prompt: list[int], ids: list[int]) -> float:
        [scored] = self.generator.score_batch([self.tokens(prompt + ids)])
        return sum(scored.log_probs[-len(ids) :])

    def tokens(self, ids: list[int]) -> list[str]:
        return [self.tokenizer.id_to_token(token) for token in ids]


def load(model: str | Path, device: str = "auto", engine: str = "auto") -> Engine:
    """Load a fine-tuned model: on a GPU with transformers, on a CPU with CTranslate2 where that is installed."""
    from tokenizers import Tokenizer

    folder = Path(model)
    try:
        config = json.loads((folder / "config.json").read_bytes())
        config |= json.loads((folder / "generation_config.json").read_bytes())
        tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
        weights = next(folder.glob("model*.safetensors"))
    except Exception as error:  # StopIteration, OSError, ValueError; tokenizers knows no narrower one
        raise InputError(f"{folder} holds no model; run train.py first, or name a folder with --model") from error
    if "n_positions" not in config or "pad_token_id" not in config or not isinstance(config.get("eos_token_id"), list):
        raise InputError(f"{folder} holds no chatter: its configs lack what train.py writes; name another --model")
    if device == "auto":
        device = find_gpu()
    if device == "cpu" and engine != "transformers":
        try:
            return CTranslate2Engine(fast_copy(folder, weights), tokenizer, config)
        except Exception as error:  # not installed, no right to write there, a model that it cannot convert or load
            if engine != "auto":
                raise InputError(f"no fast copy of {folder}: {error}; take --engine transformers") from error
            if not isinstance(error, ImportError):
                print(f"no fast copy of {folder} ({error}): going on with transformers, slower", file=sys.stderr)
    return TransformersEngine(load_weights(folder, device), tokenizer)


def find_gpu() -> str:
    """Name the device to run on. Asks CTranslate2 before torch, which takes longer to import than a short message."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    try:
        from ctranslate2 import get_cuda_device_count

        return "cuda" if get_cuda_device_count() else "cpu"
    except ImportError:
        from torch.cuda import is_available

        return "cuda" if is_available() else "cpu"


def fast_copy(folder: Path, weights: Path) -> Path:
    """Find the copy of the weights for CTranslate2, or make it if there is none or the weights are newer.

    In float32, in which a CPU computes: float16 takes half the disk, and as long to convert at each start as float32
    takes to load. int8 names another likeliest next token in 11 of 100 places of the sample's test blocks.
    """
    fast = folder / "ctranslate2"
    if not fast.exists() or fast.stat().st_mtime < weights.stat().st_mtime:
        from ctranslate2.converters import TransformersConverter

        print(f"making a copy of {folder} for the CPU, once", file=sys.stderr)
        with written_beside(fast) as partial:
            TransformersConverter(str(folder)).convert(str(partial), quantization="float32")
    return fast


def load_weights(folder: Path, device: str) -> PreTrainedModel:
    """Load the weights with transformers, in the precision they were saved in; float32 on a CPU."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it would warn of padding behind messages that end earlier than others
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
        if device == "cpu":
            model.float()  # half precision is slow on a CPU
        return model.to(device).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"the weights in {folder} cannot be read ({error}); run train.py again") from error
    except (AssertionError, RuntimeError) as error:
        raise InputError(f"no use of --device {device}: {error}") from error


def encode_chat(engine: Engine, lines: Iterable[str], max_tokens: int) -> list[int]:
    """Tokenize the chat so far as tokenize_logs.py does: <|endoftext|>, then each line and a newline.

    What is longer than `max_tokens` loses its oldest lines; a single line longer than that loses its beginning.
    """
    lines = [line for line in map(clean, lines) if line]
    ids = []
    for line in reversed(encode(engine.tokenizer, lines)):
        if ids and len(line) + 1 + len(ids) > max_tokens - 1:
            break
        ids = [*line, engine.newline, *ids]
    return [engine.end, *ids[max(len(ids) - max_tokens + 1, 0) :]]


def decode_message(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Decode one line, without a character that is cut in half and without control characters; "" if nothing shows."""
    text = tokenizer.decode(ids, skip_special_tokens=True).replace("\ufffd", "")
    text = re.sub(r"[\0-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()[:MAX_CHARACTERS].strip()
    return text if any(unicodedata.category(character)[0] not in "CZ" for character in text) else ""


def fold(text: str) -> str:
    """Make texts that look alike equal: case, width and invisible characters do not count.

    >>> fold("ＢＡＤ\u200bWord")
    'badword'
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


def generate(
    engine: Engine,
    chat: Iterable[str] = (),
    *,
    begin: str = "",
    num_messages: int = 1,
    sampling: Sampling = Sampling(),
    score: bool = False,
) -> list[Message]:
    """Draw `num_messages` messages that could come next in the chat, whose lines are `chat`, the oldest first.

    With `begin` they begin with this text. Raises InputError if MAX_TRIES draws in a row show nothing or only what
    holds a banned word. With `score` each message has its log-probability.
    """
    [begin_ids] = encode(engine.tokenizer, [clean(begin)])
    sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, engine.positions // 2))
    room = engine.positions - sampling.max_new_tokens - len(begin_ids)
    if room < 1:
        raise InputError(f"--complete has {len(begin_ids)} tokens, and the model {engine.positions} positions")
    prompt = encode_chat(engine, chat, room) + begin_ids
    messages, tries = [], 0
    while len(messages) < num_messages:
        if tries == (1 if sampling.greedy else MAX_TRIES):
            raise InputError(
                f"{tries} tries came to nothing that shows"
                + (" and holds no banned word" if sampling.banned_words else "")
                + "; raise --temperature, or train the model for longer"
            )
        tries += 1
        for ids in engine.draw(prompt, min(num_messages - len(messages), MAX_BATCH), sampling):
            text = decode_message(engine.tokenizer, begin_ids + ids)
            folded = fold(text)
            if decode_message(engine.tokenizer, ids) and not any(word in folded for word in sampling.banned_words):
                score_of = engine.log_probability(prompt, [*ids, engine.newline]) if score else None
                messages.append(Message(text, ids, score_of))
                tries = 0
    return messages


def read_chat(file: Iterable[bytes]) -> Iterator[str]:
    """Give what people typed: lines as they are, or of any log that parse_logs.py knows, the oldest first."""
    for line in file:
        text = line.decode(errors="replace").rstrip("\r\n")
        kind, row = parse_line(text)
        text = row[4] if kind == "messages" else text if kind == "unreadable lines" else ""
        if clean(text):
            yield text


def answer(engine: Engine, lines: Iterable[str], trigger: str, **options: object) -> Iterator[tuple[str, Message]]:
    """Answer each line that holds `trigger`, in any case; give the line and the answer, which the chat then holds too.

    Nothing to say is said on stderr.
    """
    chat = deque(maxlen=engine.positions // 2)  # more lines do not fit
    for line in lines:
        chat.append(line)
        if fold(trigger) in fold(line):
            try:
                [message] = generate(engine, chat, **options)
            except InputError as error:
                print(f"no answer: {error}", file=sys.stderr)
                continue
            chat.append(message.text)
            yield line, message


def read_words(path: Path | None) -> frozenset[str]:
    """Read banned words, one a line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path else []
    return frozenset(filter(None, (fold(line.strip()) for line in lines)))


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("chat", nargs="*", help="the chat so far, a line each, the oldest first; - reads them from standard input")
    add("--model", default="models/gpt2-twitch-chatter", help="folder of the model (models/gpt2-twitch-chatter)")
    add("--complete", default="", metavar="TEXT", help="say a message that begins with this")
    add("--stream", action="store_true", help="answer the lines of standard input as they come, one line each")
    add("--trigger", default="", metavar="NAME", help="with --stream: answer lines that hold this, in any case (all)")
    add("-n", "--num-messages", type=positive_int, default=1, help="how many messages to draw, each for itself (1)")
    add("--json", action="store_true", help="an object a line: message, prompt, seed, tokens, log_probability (nats)")
    add("--seed", type=int, help="the same seed gives the same messages (another one each time)")
    add("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help="auto takes a GPU if there is one")
    add(
        "--engine",
        choices=["auto", "transformers", "ctranslate2"],
        default="auto",
        help="auto is ctranslate2 on a CPU, if it is installed, and transformers elsewhere",
    )
    sampling = parser.add_argument_group("how to draw")
    add = sampling.add_argument
    add("--temperature", type=float, default=0.9, help="lower is safer, higher is wilder (0.9)")
    add("--top-p", type=float, default=0.95, help="draw from the likeliest tokens that make up this share (0.95)")
    add("--top-k", type=int, default=0, help="draw from so many tokens at most; 0 is no bound (0)")
    add("--repetition-penalty", type=float, default=1.0, help="above 1: words come again less often (1)")
    add("--max-new-tokens", type=positive_int, default=100, help="longest message (100, or half of the positions)")
    add("--greedy", action="store_true", help="take the likeliest token at each step")
    add(
        "--banned-words",
        type=Path,
        metavar="FILE",
        help="a word a line; what holds one, in any case or as a part, is not said",
    )
    args = parser.parse_intermixed_args()  # lines of chat may stand before and behind options
    if args.temperature <= 0 or not 0 < args.top_p <= 1 or args.top_k < 0 or args.repetition_penalty <= 0:
        parser.error("--temperature and --repetition-penalty must be above 0, --top-p in (0, 1], --top-k 0 or more")
    if args.stream and (args.chat or args.num_messages > 1):
        parser.error("--stream reads the chat from standard input and says one message a line")
    if args.greedy and args.num_messages > 1:
        parser.error("--greedy says the same each time; take -n without it")
    return args


def main() -> None:
    args = parse_args()
    with one_line_errors():
        with contextlib.redirect_stdout(sys.stderr):  # libraries log to stdout
            banned = read_words(args.banned_words)
            sampling = {field.name: getattr(args, field.name) for field in fields(Sampling)} | {"banned_words": banned}
            options = {"begin": args.complete, "sampling": Sampling(**sampling), "score": args.json}
            engine = load(args.model, args.device, args.engine)
            seed = int.from_bytes(os.urandom(4)) if args.seed is None else args.seed
            engine.seed(seed)

        def say(prompt: str, message: Message) -> None:
            text = message.text
            if args.json:
                facts = {"seed": seed, "tokens": len(message.ids), "log_probability": message.log_probability}
                text = json.dumps({"message": text, "prompt": prompt} | facts, ensure_ascii=False)
            print(text, flush=True)

        stdin = read_chat(iter(lambda: sys.stdin.buffer.readline(MAX_LINE_BYTES), b""))
        if args.stream:
            with contextlib.suppress(KeyboardInterrupt):
                for line, message in answer(engine, stdin, args.trigger, **options):
                    say(line, message)
            return
        chat = [line for text in args.chat for line in (stdin if text == "-" else text.splitlines())]
        for message in generate(engine, chat, num_messages=args.num_messages, **options):
            say("\n".join(chat), message)


if __name__ == "__main__":
    main()

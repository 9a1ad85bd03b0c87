"""Stage 4: generate the next message of a chat.

Reads   --model, the folder that train.py wrote, and the chat so far, if any: as arguments, one line each, or on stdin.
Writes  one chat message per line on stdout and nothing else. Without a prompt the message opens the chat.
        On a CPU the first run converts the weights, into <model>/ctranslate2/.

    python generate.py
    python generate.py "what game is this?" -n 5 --temperature 0.7 --seed 1
    python generate.py --complete "the best game is"
    tail -n 20 data/logs/channel.txt | python generate.py -
    tail -n 0 -f chat.txt | python generate.py --stream --trigger my_bot --chance 0.01 --cooldown 30 --reload
"""

from __future__ import annotations

if __name__ == "__main__":
    import chatter.interrupt  # noqa: F401 (from here on, Ctrl-C prints one line)

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from chatter.cli import (
    InputError,
    Terminated,
    bounded,
    describe_error,
    log,
    make_parser,
    option_of,
    plain_errors,
    positive_int,
)
from chatter.generation.chat_input import CurrentChannel, read_lines, read_typed
from chatter.generation.choose_engine import ENGINES, load_engine
from chatter.generation.engine import Engine, Sampling, add_sampling_options, read_sampling
from chatter.generation.forgetting import SeenChat
from chatter.generation.manners import MANNERS, Manners, add_manners_options, read_manners
from chatter.generation.reload import ModelFolder
from chatter.generation.stream_lines import read_stream
from chatter.tokens.chat import begin_chat, clean, decode_message, encode, encode_chat
from chatter.wording.banned import contains_banned, read_words
from chatter.wording.lookalikes import MAX_CHARACTERS, fold, visible
from chatter.wording.training_messages import TrainingMessages

MAX_ATTEMPTS = 10  # in a row in which every message was invisible, banned or a copy
MAX_BATCH = 50  # messages sampled at once
MAX_FAILURES = 10  # of --stream, in a row


@dataclass(frozen=True)
class Message:
    """A generated message."""

    text: str
    ids: list[int]  # as sampled, without the newline


class LoadedModel(NamedTuple):
    """A model, and what is loaded with it."""

    engine: Engine
    channel: CurrentChannel
    options: dict[str, Any]  # of `generate`


class NoMessage(InputError):
    """Raised if every message was invisible, banned or a copy."""


def generate(
    engine: Engine,
    chat: Iterable[str] = (),
    *,
    begin: str = "",
    num_messages: int = 1,
    sampling: Sampling = Sampling(),
    banned_words: frozenset[str] = frozenset(),
    training_messages: Container[str] = (),
    header: str = "",
) -> list[Message]:
    """Sample `num_messages` messages that could come next in the chat, whose lines are `chat`, the oldest first.

    Messages begin with `begin`, contain none of the `banned_words` of `read_words`, and are not `training_messages`.
    `header` begins the chat. Raises InputError if `begin` is too long, and NoMessage after MAX_ATTEMPTS without such a
    message.
    """
    positions = engine.format.block_size
    [begin_ids] = encode(engine.tokenizer, [visible(begin)])
    sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, positions // 2))
    room = positions - sampling.max_new_tokens - len(begin_ids)
    if room < len(begin_chat(engine.tokenizer, engine.format.start, engine.format.newline, header)):
        long = f"--complete has {len(begin_ids)} tokens" if begin_ids else f"the line {header} is too long"
        left = f"{positions} positions, {sampling.max_new_tokens} of them for the message"
        advice = "Shorten it." if begin_ids else "Pass a lower --max-new-tokens."
        raise InputError(f"{long}, but the model has only {left}. {advice}")
    if len(visible(begin)) >= MAX_CHARACTERS:
        raise InputError(f"--complete is as long as a message may be, {MAX_CHARACTERS} characters. Shorten it.")
    prompt = encode_chat(engine.tokenizer, engine.format, chat, room, header) + begin_ids
    messages, attempts = [], 0
    while len(messages) < num_messages:
        if attempts == (1 if sampling.is_greedy else MAX_ATTEMPTS):
            barred = [*(["banned words"] if banned_words else []), *(["copies"] if training_messages else [])]
            without = f"without {' and '.join(barred)} " if barred else ""
            advice = "Pass a higher --temperature, or train the model for longer."
            if sampling.is_greedy:
                option = "--greedy" if sampling.greedy else "--top-k 1"
                advice = f"Pass a higher --temperature without {option}, or train the model for longer."
            if contains_banned(begin, banned_words):
                advice = "Pass another --complete, as it contains a banned word."
            raise NoMessage(f"no printable message {without}in {attempts} attempt(s). {advice}")
        # If all messages are rejected, the next attempt samples more at once.
        missing = num_messages - len(messages)
        size = 1 if sampling.is_greedy else min(max(missing, 1 << attempts), MAX_BATCH)
        attempts += 1
        for ids in engine.sample(prompt, size, sampling):
            text = decode_message(engine.tokenizer, begin_ids + ids)
            is_barred = text in training_messages or contains_banned(text, banned_words)
            if decode_message(engine.tokenizer, ids) and not is_barred:
                messages.append(Message(text, ids))
                attempts = 0
    return messages[:num_messages]


def answer(
    engine: Engine,
    lines: Iterable[str],
    trigger: str,
    channel: CurrentChannel | None = None,
    manners: Manners | None = None,
    load_if_changed: Callable[[], LoadedModel | None] = lambda: None,
    **options: object,
) -> Iterator[tuple[str, Message | None, str]]:
    """Answer the lines that somebody typed: those that contain `trigger`, in any case, and others as `manners` says.

    All lines join the chat of their channel, and so do the answers. What moderators remove is forgotten. A model of
    several channels answers in the channel of each line. `load_if_changed` is called before each line
    and may return another model. Yield for each line its text, the answer or None, and the reason if there is no
    answer. After an error the stream goes on, but MAX_FAILURES errors in a row raise the last one.
    """
    channel, manners = channel or CurrentChannel(), manners or Manners(chance=0 if trigger else 1)
    seen, failures = SeenChat(engine.format.block_size // 2, manners.name), 0  # more lines do not fit
    for line in read_stream(lines):
        if loaded := load_if_changed():
            loaded.channel.hear(channel.heard)
            engine, channel, options = loaded.engine, loaded.channel, options | loaded.options
            seen.resize(engine.format.block_size // 2)
        manners.clock.advance(line.moment)
        if line.removals:
            yield line.text, None, f"forgot {sum(map(seen.forget, line.removals))} line(s)"
            continue
        if not clean(line.text):
            yield line.text, None, "not a message"
            continue
        channel.hear(line.channel)
        header, place = channel.header(), channel.heard
        reason = "removed" if not seen.add(line, place) else ""
        reason = reason or manners.find_objection(line, place, bool(trigger) and fold(trigger) in fold(line.text))
        if reason:
            yield line.text, None, reason
            continue
        message, reason, error = try_to_generate(engine, seen.texts(place), header=header, **options)
        if message:
            seen.add_answer(message.text, line, place)
            manners.speak(place)
        else:
            log(f"no answer: {reason}")
        yield line.text, message, reason
        failures = failures + 1 if error else 0
        if failures == MAX_FAILURES:
            raise error
        if error:
            seen.clear(place)  # one of its lines may be the cause, and would end the stream


def try_to_generate(
    engine: Engine, chat: Iterable[str], **options: object
) -> tuple[Message | None, str, BaseException | None]:
    """Generate one message. Return it or None, the reason if there is none, and the error, if it is one."""
    try:
        [message] = generate(engine, chat, **options)
        return message, "", None
    except NoMessage as error:
        return None, str(error), None
    except (KeyboardInterrupt, SystemExit, Terminated):
        raise
    except BaseException as error:  # Rust panics derive from BaseException
        return None, describe_error(error), error


def print_message(prompt: str, message: Message | None, seed: int, as_json: bool, reason: str = "") -> None:
    """Print a message on stdout as a line of text or JSON. Without a message, print the reason as JSON, or nothing."""
    if as_json:
        facts = {"message": message and message.text, "prompt": prompt, "seed": seed}
        facts |= {"tokens": len(message.ids)} if message else {"reason": reason}
        print(json.dumps(facts, ensure_ascii=False), flush=True)
    elif message:
        print(message.text, flush=True)


def decode_argument(text: str) -> str:
    """Replace the bytes of a command-line argument that are not UTF-8, which Python keeps as lone surrogates."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("chat", nargs="*", help="the chat so far, one line each, the oldest first; - reads it from standard input")
    add("--model", default="models/gpt2-twitch-chatter", help="folder of the model")
    add("--complete", default="", metavar="TEXT", help="generate a message that begins with TEXT")
    add("--stream", action="store_true", help="answer the lines of standard input as they come, with one line each")
    add("--reload", action="store_true", help="with --stream: load the model again when its folder has changed")
    add("--compile", action="store_true", help="with --stream: compile the model, for many messages on a GPU")
    add("-n", "--num-messages", type=positive_int, default=1, help="number of messages, independent of each other")
    add("--json", action="store_true", help="print one JSON object per line: message, prompt, seed, tokens or reason")
    add("--channel", default="", metavar="NAME", help="the channel to speak in")
    add("--seed", type=bounded(int, at_least=0, below=2**63), help="random seed, for the same messages each time")
    add("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help="auto is a GPU that torch can use")
    add(
        "--engine",
        choices=["auto", *ENGINES],
        default="auto",
        help="auto is ctranslate2 on a CPU, if it is installed and computes the same, and otherwise transformers",
    )
    add_manners_options(parser)
    add = add_sampling_options(parser).add_argument
    add(
        "--banned-words",
        type=Path,
        metavar="FILE",
        help="words that no message may contain, one a line; =word matches only the whole word, not parts of others",
    )
    add("--no-copies", action="store_true", help="never repeat a training message of 4 or more words")
    argv = sys.argv[1:]
    end = argv.index("--") if "--" in argv else len(argv)  # what follows is chat, even if it looks like an option
    args = parser.parse_intermixed_args(argv[:end])  # lines of chat may stand before and after options
    args.chat += argv[end + 1 :]
    if args.stream and (args.chat or args.num_messages > 1):
        parser.error("--stream reads the chat from standard input and answers each line once: leave out chat and -n")
    given = [name for name in (*MANNERS, "reload", "compile") if getattr(args, name) != parser.get_default(name)]
    if given and not args.stream:
        use = "says which lines of --stream are answered" if given[0] in MANNERS else "is for --stream"
        parser.error(f"{option_of(given[0])} {use}: pass both")
    if args.num_messages > 1 and (args.greedy or args.top_k == 1):
        option = "--greedy" if args.greedy else "--top-k 1"
        parser.error(f"{option} always generates the same message: pass -n without it")
    return args


def load(args: argparse.Namespace, seed: int) -> LoadedModel:
    """Load the model, with the seed, and what belongs to it."""
    with contextlib.redirect_stdout(sys.stderr):  # libraries log to stdout
        only = "transformers" if args.compile and args.engine == "auto" else args.engine
        engine = load_engine(args.model, args.device, only, args.num_messages)
        if args.compile:
            engine.compile()
        engine.seed(seed)
        copies = {"training_messages": TrainingMessages.open(Path(args.model))} if args.no_copies else {}
        return LoadedModel(engine, CurrentChannel(engine.format.channels, decode_argument(args.channel)), copies)


def main() -> None:
    with plain_errors():
        args = parse_args()
        options = {"begin": decode_argument(args.complete), "sampling": read_sampling(args)}
        if args.banned_words:
            options["banned_words"] = read_words(args.banned_words)
        seed = int.from_bytes(os.urandom(4)) if args.seed is None else args.seed
        folder = ModelFolder(Path(args.model), lambda: load(args, seed))
        engine, channel, more = folder.load()
        options |= more
        lines = read_lines(sys.stdin.buffer)
        if args.stream:
            trigger, manners = decode_argument(args.trigger or ""), read_manners(args, seed)
            reload = [folder.load_if_changed] if args.reload else []
            answers = answer(engine, lines, trigger, channel, manners, *reload, **options)
            del engine, channel, more, options  # so that a model that was replaced can be freed
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends --stream
                for text, message, reason in answers:
                    print_message(text, message, seed, args.json, reason)
            return
        given = [
            read_typed(lines, channel.hear) if text == "-" else decode_argument(text).splitlines() for text in args.chat
        ]
        chat = [line for some in given for line in some if clean(line)]
        for message in generate(engine, chat, num_messages=args.num_messages, header=channel.header(), **options):
            print_message("\n".join(chat), message, seed, args.json)


if __name__ == "__main__":
    main()

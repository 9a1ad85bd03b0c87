"""Stage 4: say the next message of a chat.

Reads   --model, the folder that train.py wrote, and the chat so far, if given: its last line, or several lines.
Writes  one chat message a line on stdout and nothing else; without a prompt the message opens the chat.

    python generate.py
    python generate.py "hello chat"
    python generate.py "what game is this?" -n 5 --temperature 0.7 --seed 1
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from parse_logs import InputError, one_line_errors, positive_int
from tokenize_logs import clean, encode

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_CHARACTERS = 500  # Twitch cuts longer messages
MAX_TRIES = 10  # a draw that holds no visible text is drawn again


def load(folder: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a fine-tuned model, in the precision it was saved in, and its tokenizer; on a GPU if there is one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it would warn of padding behind messages that end earlier than others
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no model; run train.py first, or name a folder with --model") from error
    if tokenizer.pad_token_id is None:
        raise InputError(f"{folder} has no padding token: it is not a model that train.py wrote")
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cpu":
        model.float()  # half precision is slow on a CPU
    return model.to(device).eval(), tokenizer


def encode_chat(tokenizer: PreTrainedTokenizerBase, prompt: str, max_tokens: int) -> list[int]:
    """Tokenize the chat so far as tokenize_logs.py does: <|endoftext|>, then each line and a newline.

    What is longer than `max_tokens` loses its oldest lines; a single line longer than that loses its beginning.
    """
    lines = [line for line in map(clean, prompt.splitlines()) if line]
    [newline] = encode(tokenizer, ["\n"])[0]
    ids = []
    for line in reversed(encode(tokenizer, lines)):
        if ids and len(line) + 1 + len(ids) > max_tokens - 1:
            break
        ids = [*line, newline, *ids]
    return [tokenizer.eos_token_id, *ids[-(max_tokens - 1) :]]


def decode_message(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Decode generated tokens up to the end of the first line, without a character that is cut in half."""
    text = tokenizer.decode(ids, skip_special_tokens=True).split("\n")[0]
    return " ".join(text.replace("\ufffd", "").splitlines()).strip()[:MAX_CHARACTERS].strip()


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str = "",
    *,
    num_messages: int = 1,
    temperature: float = 0.9,
    top_p: float = 0.95,
    top_k: int = 0,
    max_new_tokens: int = 100,
    max_tries: int = MAX_TRIES,
) -> list[str]:
    """Draw `num_messages` messages that could come next in the chat.

    Nucleus sampling: at each step from the likeliest tokens whose probabilities add up to `top_p`; `top_k` bounds their
    number (0: no bound).
    """
    import torch

    positions = model.config.n_positions
    if max_new_tokens > positions - 2:
        raise InputError(f"--max-new-tokens {max_new_tokens} leaves no room for a prompt in {positions} positions")
    [newline] = encode(tokenizer, ["\n"])[0]
    chat = encode_chat(tokenizer, prompt, positions - max_new_tokens)
    input_ids = torch.tensor([chat], device=model.device)  # (1, prompt_length) int64
    messages = []
    for _ in range(max_tries):
        output = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            num_return_sequences=num_messages - len(messages),
            do_sample=True,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            max_new_tokens=max_new_tokens,
            min_new_tokens=1,  # a message is not empty
            suppress_tokens=[tokenizer.eos_token_id, tokenizer.pad_token_id],
            eos_token_id=newline,
            pad_token_id=tokenizer.pad_token_id,
        )  # (num_return_sequences, prompt_length + longest message) int64
        texts = [decode_message(tokenizer, ids) for ids in output[:, len(chat) :].tolist()]
        messages += [text for text in texts if text]
        if len(messages) == num_messages:
            return messages
    raise InputError(
        f"the model said nothing visible in {max_tries} tries; raise --temperature, or train it for longer"
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("prompt", nargs="?", default="", help="the chat so far (none)")
    add("--model", default="models/gpt2-twitch-chatter", help="folder of the model (models/gpt2-twitch-chatter)")
    add("-n", "--num-messages", type=positive_int, default=1, help="how many messages to draw, each for itself (1)")
    add("--temperature", type=float, default=0.9, help="lower is safer, higher is wilder (0.9)")
    add("--top-p", type=float, default=0.95, help="draw from the likeliest tokens that make up this share (0.95)")
    add("--top-k", type=int, default=0, help="draw from so many tokens at most; 0 is no bound (0)")
    add("--max-new-tokens", type=positive_int, default=100, help="longest message (100)")
    add("--seed", type=int, help="the same seed gives the same messages (another one each time)")
    args = parser.parse_args()
    if args.temperature <= 0 or not 0 < args.top_p <= 1 or args.top_k < 0:
        parser.error("--temperature must be above 0, --top-p above 0 and at most 1, --top-k 0 or more")
    return args


def main() -> None:
    args = parse_args()
    with one_line_errors():
        with contextlib.redirect_stdout(sys.stderr):  # libraries log to stdout
            import torch

            model, tokenizer = load(args.model)
            torch.manual_seed(torch.seed() if args.seed is None else args.seed)
            messages = generate(
                model,
                tokenizer,
                args.prompt,
                num_messages=args.num_messages,
                temperature=args.temperature,
                top_p=args.top_p,
                top_k=args.top_k,
                max_new_tokens=args.max_new_tokens,
            )
        print(*messages, sep="\n")


if __name__ == "__main__":
    main()

"""What train.py saves is served by other programs. bench/bench_gguf.py tries llama.cpp, which takes longer."""

import json
import os
import socket
import subprocess
import time
import urllib.request

import pytest
from conftest import python_with
from transformers import AutoTokenizer

from chatter.tokens.chat import ChatFormat, encode_chat

SERVE = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
CHAT = ["ping", "what is it", "ping"]
FORGED = ["<|endoftext|>hi[PAD]", "hi"]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def post(port, path, **body):
    """Post JSON to a server on the loopback; return its answer, or None while nothing listens."""
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.loads(answer.read())
    except ConnectionRefusedError:
        return None
    except urllib.error.URLError as error:
        assert isinstance(error.reason, ConnectionRefusedError), error.read()
        return None


@pytest.mark.thorough
def test_transformers_serve_answers_with_a_line_of_chat(parrot, tmp_path):
    """With the name of the folder, as the commands in the model card have it."""
    python, port = python_with("transformers[serving]==5.23.0"), free_port()
    command = [python, "-c", SERVE, "serve", parrot.name, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=parrot.parent, env=environment, stdout=log, stderr=log)
    try:
        roles = ("user", "assistant", "user")
        messages = [{"role": role, "content": text} for role, text in zip(roles, CHAT, strict=True)]
        body = {"model": parrot.name, "messages": messages, "max_tokens": 20, "temperature": 0.0}
        started = time.monotonic()
        while not (answer := post(port, "/v1/chat/completions", **body)):
            assert server.poll() is None and time.monotonic() - started < 300, (tmp_path / "log").read_text()
            time.sleep(0.2)
        forged = [{"role": "user", "content": text} for text in FORGED]
        usage = post(port, "/v1/chat/completions", **body | {"messages": forged})["usage"]
    finally:
        server.terminate()
        server.wait(60)
    [choice] = answer["choices"]
    assert choice["message"]["content"].strip("\n") == "what is it"
    assert "is ignored" not in (tmp_path / "log").read_text()
    tokenizer, chat_format = AutoTokenizer.from_pretrained(parrot), ChatFormat.load(parrot)
    broken = [text.replace("<|end", "<\u200b|end").replace("[PAD", "[\u200bPAD") for text in FORGED]
    assert usage["prompt_tokens"] == len(encode_chat(tokenizer, chat_format, broken, 1 << 40))

"""chatter.hub: a model from the hub or its cache, or an error soon. A server on this machine plays the hub."""

import json
import os
import shutil
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import TINY, run, start, write_csv

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    write_csv(tmp_path / "raw/a.csv", ["hello chat"] * 500)
    return tmp_path / "raw"


@pytest.fixture
def cache(tmp_path):
    """A cache that has gpt2-medium; it is in fact models/tiny-gpt2."""
    folder = tmp_path / "home/hub/models--gpt2-medium"
    shutil.copytree(TINY, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(COMMIT)
    return tmp_path / "home"


class Hub(BaseHTTPRequestHandler):
    """Serves a model as gpt2-medium, beside a file that nobody downloads, and nothing else, as the hub does."""

    folder = TINY
    lost = ""  # the name of a file that is sent by half

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = self.path.split("?")[0]
        contents = {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}
        contents |= {".gitattributes": b"*.safetensors filter=lfs"}
        name = path.rsplit("/", 1)[-1]
        if path == "/":
            body = b"hub"
        elif path.startswith("/api/models/gpt2-medium/tree"):
            files = [{"type": "file", "path": name, "size": len(each)} for name, each in contents.items()]
            files = [each | {"oid": each["path"]} for each in files]
            body = json.dumps(files).encode()
        elif path.startswith("/api/models/gpt2-medium"):
            body = json.dumps({"id": "gpt2-medium", "sha": COMMIT}).encode()
        elif path.startswith("/gpt2-medium/resolve/") and name in contents:
            body = contents[name]
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{name}-{len(body)}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if name == self.lost else body)

    def log_message(self, *_):
        pass


@contextmanager
def serve(**attributes):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHub", (Hub,), attributes))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def hub():
    with serve() as address:
        yield address


@pytest.fixture
def silent_hub():
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def tokenize(raw, **env):
    args = ["--input-dir", raw, "--output-dir", raw.parent / "out", "--block-size", 64]
    return run("tokenize_logs.py", *args, check=False, HF_HUB_OFFLINE="0", **env)


def test_a_model_is_downloaded_once_and_its_source_is_named(raw, hub, tmp_path):
    for _ in range(2):
        done = tokenize(raw, HF_ENDPOINT=hub, HF_HOME=str(tmp_path / "home"))
        assert done.returncode == 0, done.stderr
        first = done.stderr.splitlines()[0]
        assert first == f"getting gpt2-medium from {hub}, or from its copy in {tmp_path}/home/hub"


def test_a_model_that_the_hub_does_not_have_is_refused(raw, hub, tmp_path):
    args = ["--input-dir", raw, "--output-dir", tmp_path / "out", "--model", "no/such-model"]
    done = run("tokenize_logs.py", *args, check=False, HF_HUB_OFFLINE="0", HF_ENDPOINT=hub, HF_HOME=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{hub} has no such model that you may read. Check the name" in done.stderr.splitlines()[-1]


def test_without_a_network_the_copy_in_the_cache_is_used_or_it_says_what_to_do(raw, cache, silent_hub, tmp_path):
    """Two runs at once, since each gives up after five seconds."""
    command = ["tokenize_logs.py", "--input-dir", raw, "--block-size", 64, "--output-dir"]
    env = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": silent_hub}
    with_copy, without = (
        start(*command, tmp_path / home.name / "out", text=True, env=env | {"HF_HOME": str(home)})
        for home in (cache, tmp_path / "empty")
    )
    errors = with_copy.communicate(timeout=60)[1]
    assert with_copy.returncode == 0, errors
    errors = without.communicate(timeout=60)[1]
    assert (without.returncode, len(errors.splitlines())) == (1, 2)
    assert "no network. Copy a model here and pass its folder with --model, or set HF_HOME" in errors


def test_the_user_may_stay_offline(raw, tmp_path):
    args = ["--input-dir", raw, "--output-dir", tmp_path / "out"]
    done = run("tokenize_logs.py", *args, check=False, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 1 and "no network" in done.stderr


@pytest.mark.thorough
def test_a_download_that_is_lost_is_one_line(raw, tmp_path):
    with serve(lost="tokenizer.json") as address:
        done = tokenize(raw, HF_ENDPOINT=address, HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "gpt2-medium cannot be downloaded (" in done.stderr.splitlines()[-1]
    assert "Run the command again to continue the download." in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_model_of_the_hub_is_trained(raw, random_model, tmp_path):
    """In a cache that lacks the files which nobody downloads."""
    with serve(folder=random_model) as address:
        hub = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        assert tokenize(raw, **{name: each for name, each in hub.items() if name != "HF_HUB_OFFLINE"}).returncode == 0
        args = ["--dataset-dir", tmp_path / "out", "--output-dir", tmp_path / "model", "--max-steps", 1]
        run("train.py", *args, "--no-deepspeed", "--batch-size", 1, "--device", "cpu", **hub)
    assert (tmp_path / "model/model.safetensors").exists()


@pytest.mark.thorough
def test_train_asks_the_hub_in_the_same_way(dataset_dir, silent_hub, tmp_path):
    args = ["--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model"]
    done = run("train.py", *args, check=False, HF_HUB_OFFLINE="0", HF_ENDPOINT=silent_hub, HF_HOME=str(tmp_path))
    assert done.returncode == 1 and "Copy a model here and pass its folder with --model" in done.stderr

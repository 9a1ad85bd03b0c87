"""chatter.logs.archives: archives are read like folders, in any order, and nothing in them can do harm."""

import gzip
import io
import random
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from pathlib import Path

import pyarrow
import pytest
from conftest import contents, log_line, run, without_manifest
from hypothesis import given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.logs import unpacking
from chatter.logs.archives import MAX_FILES, is_gone, load_archive, open_file, read_archive
from chatter.logs.reading import UnreadableLog, read_head
from chatter.logs.unpacking import GzipContent
from parse_logs import parse_logs

FILES = {"a.txt": "said in a", "deep/er/b.log": "said in b", "c.txt.gz": "said in c", "d.txt.zst": "said in d"}
KINDS = ["zip", "tar", "tar.gz", "tgz"]


def zstd(data):
    return pyarrow.Codec("zstd").compress(data, asbytes=True)


def pack(data, name):
    return gzip.compress(data) if name.endswith(".gz") else zstd(data) if name.endswith(".zst") else data


def write_archive(path, files):
    """Write an archive of bytes by name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def line(text):
    return f"{log_line('c', text)}\n".encode()


def parse_command(folder, *args):
    return run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw", *args, cwd=folder)


@pytest.fixture
def logs(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_a_folder_of_its_files(kind, logs, tmp_path):
    write_archive(logs / f"all.{kind}", {name: pack(line(text), name) for name, text in FILES.items()})
    results, skipped, _ = parse_logs(logs, tmp_path / "raw", 2)
    assert len(results) == 4 and not skipped
    written = {name: data.decode() for name, data in contents(tmp_path / "raw").items()}
    names = {"a.csv": "a", "deep/er/b.csv": "b", "c.csv": "c", "d.csv": "d"}
    assert without_manifest(written) == {f"all.{kind}/{name}" for name in names}
    assert all(f"said in {text}" in written[f"all.{kind}/{name}"] for name, text in names.items())


@pytest.mark.parametrize("name", ["a.txt.zst", "a.csv.zst", "a.jsonl.zst", "a.parquet.zst", "a.parquet.gz"])
def test_zstandard_is_unpacked(name, logs, tmp_path):
    import polars

    parquet = io.BytesIO()
    polars.DataFrame({"Message": ["hi"]}).write_parquet(parquet)
    data = {"txt": line("hi"), "csv": b"user,message\nu,hi\n", "jsonl": b'{"user": "u", "text": "hi"}\n' * 2}
    (logs / name).write_bytes(pack(data.get(name.split(".")[1], parquet.getvalue()), name))
    parse_logs(logs, tmp_path / "raw", 1)
    assert (tmp_path / "raw/a.csv").read_text().splitlines()[1].endswith(",hi")


def test_files_in_archives_are_copies_too(logs, tmp_path):
    data = line("hi") * 1000
    write_archive(logs / "a.zip", {"x.txt": data, "y.txt.gz": gzip.compress(data)})
    (logs / "b.txt").write_bytes(data)
    (logs / "c.txt.zst").write_bytes(zstd(data))
    stderr = parse_command(tmp_path).stderr
    assert "y.txt.gz (the same as logs/a.zip/x.txt), logs/b.txt (the same as logs/a.zip/x.txt)" in stderr
    assert "logs/c.txt.zst (the same as logs/a.zip/x.txt)" in stderr


def test_an_archive_is_gone_with_its_csvs(logs, tmp_path):
    write_archive(logs / "a.zip", {"x.txt": line("x"), "y.txt": line("y")})
    parse_command(tmp_path)
    write_archive(logs / "a.zip", {"x.txt": line("xx")})
    assert "CSVs whose logs are gone" in (stderr := parse_command(tmp_path).stderr) and "raw/a.zip/y.csv" in stderr
    parse_command(tmp_path, "--prune")
    assert without_manifest(contents(tmp_path / "raw")) == {"a.zip/x.csv"}
    (logs / "a.zip").write_bytes(b"PK damaged")
    (logs / "b.txt").write_bytes(line("b"))
    stderr = parse_command(tmp_path, "--prune").stderr
    assert "logs/a.zip is damaged or packed in an unknown way" in stderr and (tmp_path / "raw/a.zip/x.csv").exists()


BAD_NAMES = ["/etc/a.txt", "../a.txt", "x/../../a.txt", "..\\a.txt", "C:\\a.txt", "\\a.txt", "C:a.txt"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_out_of_the_archive_are_refused(name, kind, logs, tmp_path):
    write_archive(logs / f"a.{kind}", {name: line("bad"), "good.txt": line("good")})
    _, skipped, _ = parse_logs(logs, tmp_path / "raw", 1)
    assert [*skipped.values()] == ["its name leads out of the archive"]
    everything = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.csv")}
    assert everything == {f"raw/a.{kind}/good.csv"}


@pytest.mark.parametrize("name", ["あ" * 84 + ".txt", "x/" + "a" * 255 + "/a.txt"])
def test_names_that_no_file_may_have_are_refused(name, logs, tmp_path):
    write_archive(logs / "a.zip", {name: line("bad"), "good.txt": line("good")})
    _, skipped, _ = parse_logs(logs, tmp_path / "raw", 1)
    assert [*skipped.values()] == ["its name is not valid on this system"]


def test_links_and_devices_are_refused(logs, tmp_path):
    with tarfile.open(logs / "a.tar.gz", "w:gz") as archive:
        for kind, name in ((tarfile.SYMTYPE, "s.txt"), (tarfile.LNKTYPE, "l.txt"), (tarfile.FIFOTYPE, "f.txt")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with zipfile.ZipFile(logs / "b.zip", "w") as archive:
        info = zipfile.ZipInfo("s.txt")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    (logs / "c.txt").write_bytes(line("c"))
    stderr = parse_command(tmp_path, "--verbose").stderr
    for name, reason in {
        "a.tar.gz/f.txt": "not a regular file",
        "a.tar.gz/l.txt": "a link",
        "a.tar.gz/s.txt": "a link",
        "b.zip/s.txt": "a link",
    }.items():
        assert f"logs/{name} ({reason})" in stderr


def test_other_members_are_listed(logs, tmp_path):
    files = {"a.txt": line("a"), ".b.txt": b"", "__MACOSX/._a.txt": b"", "c.zip": b"", "d.7z": b"", "e.png": b""}
    write_archive(logs / "x.zip", files)
    for name in ("y.7z", "y.tar.xz", "y.tbz2", "y.tar.zst", "y.rar"):
        (logs / name).touch()
    stderr = parse_command(tmp_path, "--verbose").stderr
    assert f"files skipped{10:26}" in stderr
    assert "logs/x.zip/c.zip (an archive in an archive)" in stderr and "logs/x.zip/.b.txt (hidden)" in stderr
    assert "logs/x.zip/e.png (not named like a log)" in stderr
    assert "logs/y.7z (an archive of this kind is not read: unpack it, or pack the files again as .zip)" in stderr


def test_the_last_of_several_files_with_one_name_is_read(logs):
    """As programs that add to archives put the newest version at the end."""
    file, fifo = tarfile.REGTYPE, tarfile.FIFOTYPE
    entries = [("a", file, 1), ("./a", file, 2), ("b", fifo, 0), ("b", file, 3), ("c", file, 4), ("c", fifo, 0)]
    with tarfile.open(logs / "a.tar", "w") as archive:
        for name, kind, size in entries:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, size
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    archive = read_archive(logs / "a.tar")
    assert {name: each.size for name, each in archive.members.items()} == {"a": 2, "b": 3}
    assert archive.skipped == {"c": "not a regular file"}


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(unpacking, "ALWAYS_ALLOWED", 1 << 20)
    load_archive.cache_clear()


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.txt.gz", "a.txt.zst"])
@pytest.mark.usefixtures("small_limit")
def test_bombs_are_stopped(name, logs):
    zeros = bytes(8 << 20)
    path = logs / name
    if name in ("a.zip", "a.tar.gz"):
        write_archive(path, {"a.txt": zeros})
    else:
        path.write_bytes(pack(zeros, name))
    with pytest.raises(UnreadableLog, match=r"a\.\S+ unpacks to more than 200 times its size and 0 GB"):
        read_archive(path) if name in ("a.zip", "a.tar.gz") else read_head(path, 8 << 20)


@pytest.mark.usefixtures("small_limit")
def test_a_zip_that_lies_about_sizes_gives_no_more_than_it_says(logs):
    """The size in its directory is what counts, and a file that is longer is damaged."""
    write_archive(logs / "a.zip", {"a.txt": bytes(8 << 20)})
    data = bytearray((logs / "a.zip").read_bytes())
    place = data.rindex(b"PK\1\2") + 24
    data[place : place + 4] = (100).to_bytes(4, "little")
    (logs / "a.zip").write_bytes(data)
    with pytest.raises(UnreadableLog, match=r"a\.zip/a\.txt is damaged"):
        read_head(logs / "a.zip/a.txt", 1000)


def test_too_many_files(logs, monkeypatch):
    monkeypatch.setattr("chatter.logs.archives.MAX_FILES", 5)
    write_archive(logs / "a.zip", {f"{number}.txt": b"" for number in range(6)})
    with pytest.raises(UnreadableLog, match="contains more than 5 files"):
        read_archive(logs / "a.zip")
    assert MAX_FILES >= 10_000


DAMAGED = {
    "cut.zip": lambda data: data[:-30],
    "cut.tar.gz": lambda data: data[: len(data) // 2],
    "cut.tar": lambda data: data[:700],
    "text.zip": lambda data: b"no archive",
    "text.tar.gz": lambda data: b"no archive",
    "empty.zip": lambda data: b"",
    "changed.tar.gz": lambda data: data[:200] + bytes(50) + data[250:],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_archive_is_skipped_with_a_reason(name, logs, tmp_path):
    noise = random.Random(1).randbytes(20_000)
    write_archive(logs / name, {"a.txt": line("a") + noise, "b.txt": noise})
    (logs / name).write_bytes(DAMAGED[name]((logs / name).read_bytes()))
    (logs / "good.txt").write_bytes(line("good"))
    _, skipped, _ = parse_logs(logs, tmp_path / "raw", 1)
    assert any("damaged" in reason and name in str(path) for path, reason in skipped.items())
    assert "good.csv" in without_manifest(contents(tmp_path / "raw"))
    with pytest.raises(InputError, match=name):
        parse_logs(logs, tmp_path / "raw", 1, strict=True)


def test_a_zip_with_a_damaged_file_or_name_stops_nothing(logs, tmp_path):
    with zipfile.ZipFile(logs / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.txt", line("a") * 1000)
    data = bytearray((logs / "lzma.zip").read_bytes())
    data[50:60] = bytes(10)
    (logs / "lzma.zip").write_bytes(data)
    write_archive(logs / "name.zip", {"é.txt": line("a")})
    (logs / "name.zip").write_bytes((logs / "name.zip").read_bytes().replace("é".encode(), b"\xff\xff"))
    (logs / "good.txt").write_bytes(line("good"))
    stderr = parse_command(tmp_path).stderr
    for name in ("lzma.zip/a.txt", "name.zip"):
        assert f"skipped: logs/{name} is damaged or packed in an unknown way" in stderr
    assert without_manifest(contents(tmp_path / "raw")) == {"good.csv"}


def test_many_archives_are_not_read_again_for_each_log(logs, tmp_path):
    for number in range(12):
        write_archive(logs / f"{number}.tar", {f"{n}.txt": line("hi") * (12 * n + number + 1) for n in range(12)})
    load_archive.cache_clear()
    parse_logs(logs, tmp_path / "raw", 1)
    assert load_archive.cache_info().misses < 12 * 6


def test_an_encrypted_file_is_listed(logs, tmp_path):
    write_archive(logs / "a.zip", {"a.txt": line("a")})
    data = bytearray((logs / "a.zip").read_bytes())
    data[data.index(b"PK\3\4") + 6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    (logs / "a.zip").write_bytes(data)
    (logs / "b.txt").write_bytes(line("b"))
    assert "logs/a.zip/a.txt (encrypted)" in parse_command(tmp_path).stderr


@given(st.lists(st.binary(max_size=3000), max_size=4), st.lists(st.integers(0, 12_000), max_size=12), st.booleans())
def test_gzipped_content_is_read_from_any_position(parts, positions, padded):
    """Also if several gzipped files were joined, and with zeros between them."""
    parts = [part * 3 for part in parts]
    data, packed = b"".join(parts), (b"\0" * 5 * padded).join(map(gzip.compress, parts))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(unpacking, "FIRST_SPACING", 100)
        patch.setattr(unpacking, "MAX_CHECKPOINTS", 4)
        patch.setattr(unpacking, "PACKED_BYTES", 37)
        path = Path(folder, "a.gz")
        path.write_bytes(packed)
        content = GzipContent(path)
        assert io.BufferedReader(content.open()).read() == data
        reader = io.BufferedReader(content.open())
        for position in positions:
            assert reader.seek(position) == min(position, len(data))
            assert reader.read(50) == data[position : position + 50]
        assert len(content.checkpoints) <= 5


def test_many_threads_read_one_archive(logs):
    files = {f"{number}.txt": random.Random(number).randbytes(300_000) for number in range(12)}
    write_archive(logs / "a.tar.gz", files)
    write_archive(logs / "b.zip", files)
    found = {}

    def read(path):
        with open_file(path) as (file, size):
            found[path] = (file.read(), size)

    paths = [logs / archive / name for archive in ("a.tar.gz", "b.zip") for name in files]
    threads = [threading.Thread(target=read, args=[path]) for path in random.Random(0).sample(paths, len(paths))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == {path: (files[path.name], 300_000) for path in paths}


def test_a_cut_gzip_is_noticed_where_it_is_cut(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(random.Random(1).randbytes(100_000))[:-1])
    reader = io.BufferedReader(GzipContent(tmp_path / "a.gz").open())
    with pytest.raises((EOFError, zlib.error)):
        reader.read()


def test_what_is_in_no_archive(tmp_path):
    assert is_gone(tmp_path / "a.zip/b.txt") and not is_gone(tmp_path)
    write_archive(tmp_path / "a.zip", {"b.txt": b""})
    assert not is_gone(tmp_path / "a.zip/b.txt") and is_gone(tmp_path / "a.zip/c.txt")
    with pytest.raises(UnreadableLog, match="not in the archive any more"):
        read_head(tmp_path / "a.zip/c.txt")

"""chatter.logs.copies: which logs are copies of others."""

import gzip

from chatter.logs import copies


def test_only_files_of_the_same_size_are_hashed(tmp_path, monkeypatch):
    """The size of a gzipped file is the size of its content, and a name of another channel makes another log."""
    hashed, content_hash = [], copies.content_hash
    monkeypatch.setattr(copies, "content_hash", lambda log: hashed.append(log.name) or content_hash(log))
    content = {
        "a.txt": b"hello",
        "b.txt": b"hello!",
        "c.txt.gz": gzip.compress(b"hello"),
        "d.txt": b"hullo",
        "e-2024-03-07.txt": b"hello",
        "f.txt.gz": gzip.compress(b"hello?!"),
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    found = copies.find_copies(tmp_path / name for name in content)
    assert found == {tmp_path / "c.txt.gz": tmp_path / "a.txt"}
    assert hashed == ["a.txt", "c.txt.gz", "d.txt", "e-2024-03-07.txt"]


def test_a_name_does_not_matter_if_each_line_has_its_channel_and_day(tmp_path):
    (tmp_path / "somechannel-2024-03-07.txt").write_text("[2024-03-7 21:05:09] #somechannel user: hi\n")
    (tmp_path / "other-2024-03-08.log").write_text("[21:05:09] user: hi\n")
    for name in ("backup.txt", "old-somechannel-2024-03-07.txt", "2024-03-07.txt"):
        (tmp_path / name).write_bytes((tmp_path / "somechannel-2024-03-07.txt").read_bytes())
    (tmp_path / "that-2024-03-08.log").write_bytes((tmp_path / "other-2024-03-08.log").read_bytes())
    found = copies.find_copies(sorted(tmp_path.iterdir()))
    assert {copy.name: original.name for copy, original in found.items()} == {
        "backup.txt": "2024-03-07.txt",
        "old-somechannel-2024-03-07.txt": "2024-03-07.txt",
        "somechannel-2024-03-07.txt": "2024-03-07.txt",
    }

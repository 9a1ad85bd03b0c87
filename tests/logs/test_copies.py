"""chatter.logs.copies: which logs are copies of others."""

import gzip

from chatter.logs import copies


def test_only_files_of_the_same_size_are_hashed(tmp_path, monkeypatch):
    """The size of a gzipped file is that of its content, and a name of another channel makes another log."""
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
    assert hashed == ["a.txt", "c.txt.gz", "d.txt"]

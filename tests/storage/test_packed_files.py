"""Files that may be compressed by gzip."""

import gzip

import pytest

from stellarhml.exceptions import SpectrumFileError
from stellarhml.storage import packed_files


def test_plain_and_compressed_content(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").write_bytes(gzip.compress(b"0123456789"))
    for name in "ab":
        assert packed_files.read_bytes(tmp_path / name) == b"0123456789"
        assert packed_files.read_bytes(tmp_path / name, 4) == b"0123"


def test_damaged_and_oversized_files_are_refused(tmp_path, monkeypatch):
    content = gzip.compress(bytes(range(256)) * 40)
    (tmp_path / "cut").write_bytes(content[:-30])
    (tmp_path / "changed").write_bytes(content[:12] + b"\xff\xff" + content[14:])
    for name in ("cut", "changed"):
        with pytest.raises(SpectrumFileError, match="cannot be unpacked"):
            packed_files.read_bytes(tmp_path / name)
    monkeypatch.setattr(packed_files, "_LARGEST", 1000)
    (tmp_path / "whole").write_bytes(content)
    with pytest.raises(SpectrumFileError, match="unpacks to more than 1000 bytes"):
        packed_files.read_bytes(tmp_path / "whole")

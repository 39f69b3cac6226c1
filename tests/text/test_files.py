"""Text files, written whole or not at all."""

import pytest

from flopratio.errors import UsageError
from flopratio.text.files import write_text


def test_a_text_takes_the_place_of_another(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "µ\n")
    write_text(path, "new\n")
    assert path.read_bytes() == b"new\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_not_be_written_leaves_nothing_behind(tmp_path):
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(UsageError, match=r"can't write .*taken: "):
        write_text(path, "text")
    assert list(tmp_path.iterdir()) == [path]
    assert path.is_dir()


def test_what_was_there_stays_where_a_text_can_not_be_encoded(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]

"""A path holds the old contents or the new ones, whatever happens while they are written."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datasets import files
from datasets.errors import UserError
from datasets.files import replace_directory, replace_file

ROOT = Path(__file__).resolve().parents[2]


def write_directory(path: Path, text: str) -> None:
    with replace_directory(path) as directory:
        (directory / "part").mkdir()
        (directory / "part" / "a.txt").write_text(text)


def read_directory(path: Path) -> str:
    return (path / "part" / "a.txt").read_text()


def fail_half_way(replace, path: Path, error: BaseException) -> None:
    with replace(path) as temporary:
        (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
        raise error


def test_a_new_file_appears_whole_in_a_new_folder(tmp_path):
    path = tmp_path / "folder" / "a.txt"
    with replace_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with replace_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
        write_directory(tmp_path / "b", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("raised", [ValueError("bad"), KeyboardInterrupt(), UserError("told")])
def test_an_exception_leaves_the_old_file(tmp_path, raised):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(raised)):
        fail_half_way(replace_file, path, raised)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("replace", [replace_file, replace_directory])
def test_a_full_disk_is_told_in_one_sentence(tmp_path, replace, code):
    with pytest.raises(UserError, match=r"the disk is full: .*kept was not written; free some space"):
        fail_half_way(replace, tmp_path / "kept", OSError(code, os.strerror(code)))
    assert os.listdir(tmp_path) == []


def test_an_error_about_another_file_is_not_told_as_a_write_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"), replace_file(tmp_path / "a.txt"):
        (tmp_path / "missing").read_text()


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write .*file/a\.txt"),
        replace_file(tmp_path / "file" / "a.txt"),
    ):
        pass


def test_a_directory_replaces_another(tmp_path):
    path = tmp_path / "run"
    write_directory(path, "old")
    write_directory(path, "new")
    assert read_directory(path) == "new"
    assert os.listdir(tmp_path) == ["run"]


def test_an_exception_leaves_the_old_directory(tmp_path):
    path = tmp_path / "run"
    write_directory(path, "old")
    with pytest.raises(ValueError, match="bad"):
        fail_half_way(replace_directory, path, ValueError("bad"))
    assert read_directory(path) == "old"
    assert os.listdir(tmp_path) == ["run"]


def test_a_failed_rename_puts_the_old_directory_back(tmp_path, monkeypatch):
    path = tmp_path / "run"
    write_directory(path, "old")
    rename = os.replace

    def refuse_new(source, destination):
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, "broken disk", str(source))
        rename(source, destination)

    monkeypatch.setattr(files.os, "replace", refuse_new)
    with pytest.raises(UserError, match=r"cannot write .*run: broken disk"):
        write_directory(path, "new")
    assert read_directory(path) == "old"
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path, kind):
    path = tmp_path / "kept"
    code = (
        "import os, signal, sys\n"
        f"from datasets.files import replace_{kind} as replace\n"
        f"with replace({str(path)!r}) as temporary:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".partial")
    if kind == "file":
        with replace_file(path) as temporary:
            temporary.write_text("new")
    else:
        write_directory(path, "new")
    assert os.listdir(tmp_path) == ["kept"]


def test_two_writers_of_one_path_leave_each_other_alone(tmp_path):
    path = tmp_path / "a.txt"
    with replace_file(path) as first:
        first.write_text("first")
        with replace_file(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"

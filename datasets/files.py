"""Files that are either the old one or the new one, never half of each.

Everything the project keeps is written beside its final name, flushed to disk and renamed in place,
so a kill, a crash or a full disk leaves the previous file as it was. What a killed process left beside
a file is removed when that file is next written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets.errors import UserError


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it over `path` if the block succeeds.

    Raises:
        UserError: the disk is full or the folder cannot be written; `path` is left as it was.
    """
    path = Path(path)
    with _told_write_errors(path, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        temporary, handle = _locked_temporary(path, directory=False)
    try:
        with _told_write_errors(path, temporary):
            # Temporaries are made private; what is kept follows the user's umask like any other file.
            temporary.chmod(0o666 & ~_umask())
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def replace_directory(path: str | Path) -> Iterator[Path]:
    """Give a temporary directory beside `path`; rename it to `path` if the block succeeds.

    A directory already at `path` is moved aside first and removed after, so that a reader finds
    one of the two whole or, for the instant between two renames, none.

    Raises:
        UserError: the disk is full or the folder cannot be written; `path` is left as it was.
    """
    path = Path(path)
    with _told_write_errors(path, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        temporary, handle = _locked_temporary(path, directory=True)
    try:
        with _told_write_errors(path, temporary):
            temporary.chmod(0o777 & ~_umask())
            yield temporary
            for entry in (*sorted(temporary.rglob("*")), temporary):
                if not entry.is_symlink():
                    _sync(entry)
            _swap_directory(temporary, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


def _locked_temporary(path: Path, directory: bool) -> tuple[Path, int]:
    """Make a temporary beside `path` and lock it; return it and the descriptor that holds the lock."""
    make = tempfile.mkdtemp if directory else _make_file
    while True:
        temporary = Path(make(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            handle = os.open(temporary, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another writer of this path took it for abandoned before it was locked
        fcntl.flock(handle, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, handle
        os.close(handle)


def _make_file(prefix: str, suffix: str, dir: Path) -> str:
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=dir)
    os.close(handle)
    return name


def _swap_directory(new: Path, path: Path) -> None:
    if not path.exists():
        os.replace(new, path)
        return
    aside = new.with_suffix(".old")
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(aside, path)
        raise
    # The new directory is in place: that its forerunner cannot be removed is no failure of the write.
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _told_write_errors(path: Path, written: Path) -> Iterator[None]:
    """Tell an OSError of writing below `written` as a `UserError` about `path`; let any other pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk is full: {path} was not written; free some space and run again"
            ) from error
        if error.filename is not None and written not in (
            Path(error.filename),
            *Path(error.filename).parents,
        ):
            raise
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; check the folder and its permissions"
        ) from error


def _remove_abandoned(path: Path) -> None:
    """Remove temporaries of `path` whose writer is gone: a living writer holds a lock on its own."""
    for entry in path.parent.iterdir():
        if not (entry.name.startswith(f".{path.name}.") and entry.name.endswith(".partial")):
            continue
        try:
            handle = os.open(entry, os.O_RDONLY)
        except OSError:
            continue  # finished, removed or not ours in the meantime
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The only way to read the umask is to set it.
    current = os.umask(0o022)
    os.umask(current)
    return current

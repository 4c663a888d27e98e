"""Files that are either the old one or the new one, never half of each.

Everything the project keeps is written beside its final name, flushed to disk and renamed in place,
so a kill, a crash or a full disk leaves the previous file as it was.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets.errors import UserError


def _told(error: OSError, path: Path) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk is full: {path} was not written; free some space and run again")
    return UserError(f"cannot write {path}: {error.strerror or error}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it over `path` if the block succeeds.

    Raises:
        UserError: the disk is full or the folder cannot be written; `path` is left as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        # mkstemp makes private files; what is kept follows the user's umask like any other file.
        os.chmod(name, 0o666 & ~_umask())
    except OSError as error:
        raise _told(error, path) from error
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _told(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_directory(path: str | Path) -> Iterator[Path]:
    """Give a temporary directory beside `path`; rename it to `path` if the block succeeds.

    A directory already at `path` is moved aside first and removed after, so that a reader finds
    one of the two whole or, for the instant between two renames, none.

    Raises:
        UserError: the disk is full or the folder cannot be written; `path` is left as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
    except OSError as error:
        raise _told(error, path) from error
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                _sync(file)
        if path.exists():
            aside = temporary.with_suffix(".old")
            os.replace(path, aside)
            os.replace(temporary, path)
            shutil.rmtree(aside)
        else:
            os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _told(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    # The only way to read the umask is to set it.
    current = os.umask(0o022)
    os.umask(current)
    return current

"""Gzipped NumPy arrays, read in order without holding them whole and without ever unpickling.

Letters: N items of an array.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datasets.errors import UserError

_BLOCK_BYTES = 1 << 20
_REMEDY = "download it again"


class GzippedArray:
    """The gzip of one `.npy` file, opened for reading from the first item to the last.

    Args:
        path: the file.
        dtype: type that the items must have.
        item_shape: shape that each item must have, such as `(84, 84)`.

    Raises:
        UserError: the file is missing, is no gzip of an array, holds pickled objects (which are never read),
            or an array of another type or shape. Reading raises it too, where the file is truncated or
            damaged.
    """

    def __init__(self, path: Path, dtype: str, item_shape: tuple[int, ...]) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._item_shape = item_shape
        self._item_bytes = self._dtype.itemsize * int(np.prod(item_shape, dtype=np.int64))
        with _told_errors(path):
            self._file = gzip.open(path, "rb")  # noqa: SIM115 - closed by __exit__
        try:
            with _told_errors(path):
                self.length = self._read_header()
        except BaseException:
            self._file.close()
            raise
        self._position = 0

    def __len__(self) -> int:
        """Number of items (N)."""
        return self.length

    def __enter__(self) -> GzippedArray:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, count: int) -> np.ndarray:
        """The next `count` items as an array of shape `[count, *item_shape]`."""
        assert self._position + count <= self.length
        items = np.empty((count, *self._item_shape), dtype=self._dtype)
        with _told_errors(self.path):
            self._fill(items.reshape(-1).view(np.uint8).data)
        self._position += count
        return items

    def skip(self, count: int) -> None:
        """Pass over the next `count` items."""
        block = bytearray(min(_BLOCK_BYTES, count * self._item_bytes))
        left = count * self._item_bytes
        with _told_errors(self.path):
            while left:
                self._fill(memoryview(block)[:left])
                left -= min(len(block), left)
        self._position += count

    def finish(self) -> None:
        """Read on to the end of the file, so that its checksum is verified and nothing follows the array."""
        self.skip(self.length - self._position)
        with _told_errors(self.path):
            if self._file.read(1):
                raise UserError(
                    f"{self.path}: more bytes follow than the {self.length} items that its header tells of; "
                    f"{_REMEDY}"
                )

    def _fill(self, view: memoryview) -> None:
        while len(view):
            got = self._file.readinto(view)  # type: ignore[arg-type]
            if not got:
                raise EOFError
            view = view[got:]

    def _read_header(self) -> int:
        expected = f"the gzip of one .npy file of {self._describe(self._dtype, ('N', *self._item_shape))}"
        try:
            version = np.lib.format.read_magic(self._file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            header: tuple[tuple[int, ...], bool, np.dtype] = read(self._file)
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{self.path} does not hold a NumPy array (pickled data is never read); expected {expected}; "
                f"{_REMEDY}"
            ) from error
        shape, fortran_order, dtype = header
        if dtype.hasobject:
            raise UserError(
                f"{self.path} holds pickled Python objects, which are never read; expected {expected}; "
                f"{_REMEDY}"
            )
        fits = dtype == self._dtype and shape[1:] == self._item_shape and bool(shape)
        if not fits or (fortran_order and self._item_shape):
            order = " in Fortran order" if fortran_order else ""
            raise UserError(
                f"{self.path}: the array is {self._describe(dtype, shape)}{order}; expected {expected}; "
                "download it again or convert it"
            )
        return shape[0]

    @staticmethod
    def _describe(dtype: np.dtype, shape: tuple[object, ...]) -> str:
        return f"{dtype.name} [{', '.join(map(str, shape))}]"


def read_array(path: Path, dtype: str) -> np.ndarray:
    """The whole of a small one-dimensional gzipped array, `dtype` [N].

    Raises:
        UserError: as for `GzippedArray`.
    """
    with GzippedArray(path, dtype, ()) as array:
        # Block by block: a damaged header must not make us ask for more memory than there is data.
        blocks = io.BytesIO()
        items = _BLOCK_BYTES // array._item_bytes
        for start in range(0, len(array), items):
            blocks.write(array.read(min(items, len(array) - start)).data)
        array.finish()
        return np.frombuffer(blocks.getbuffer(), dtype=dtype)


@contextmanager
def _told_errors(path: Path) -> Iterator[None]:
    """Turn what gzip raises for an unreadable file into a `UserError`."""
    try:
        yield
    except EOFError as error:
        raise UserError(f"{path} is truncated: its data end before the array does; {_REMEDY}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {_REMEDY}") from error
    except PermissionError as error:
        raise UserError(f"{path} may not be read by this user; change its permissions") from error
    except (OSError, zlib.error) as error:
        raise UserError(f"{path} is not a gzip file or is damaged ({error}); {_REMEDY}") from error

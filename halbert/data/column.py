"""An array that grows: in memory while it is small, in an unnamed temporary file beyond."""

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy as np

MOST = 32 << 20  # bytes


class Column:
    """Numbers of one type, written one portion after the other and read as one array."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def extend(self, values: Any) -> None:
        """Append values."""
        self._memory += np.asarray(values, self.dtype).tobytes()
        if len(self._memory) > MOST:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="halbert-")  # noqa: SIM115 (it lives as long as the array)
            self._file.write(self._memory)
            self._memory = bytearray()

    def array(self) -> np.ndarray:
        """All of it; a file is mapped, so that its pages are the system's to drop."""
        if self._file is None:
            return np.frombuffer(bytes(self._memory), self.dtype)
        self._file.write(self._memory)
        self._file.flush()
        self._memory = bytearray()
        return np.memmap(self._file, self.dtype, "r")  # which needs the file's name no longer, nor its handle

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

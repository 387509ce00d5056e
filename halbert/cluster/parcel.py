"""What travels between the machines of a cluster: items, and what is told of them, as Arrow's tables of one row."""

from __future__ import annotations

import itertools
import pickle
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from halbert.errors import HalbertError

FAULT = -1  # the number of an item that is an error


class Parcel(NamedTuple):
    """An item with many bytes, which are not copied where that can be helped.

    Who gets it has a view of memory that Ray shares, and keeps it no longer than needed.
    """

    item: Any
    data: Any


def packed(told: Any, item: Any) -> Any:
    """An item, and what is told of it, as Arrow's table of one row."""
    import pyarrow

    def column(data: Any) -> Any:
        content = pyarrow.py_buffer(data)
        offsets = pyarrow.py_buffer(struct.pack("=2q", 0, content.size))
        return pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), 1, [None, offsets, content])

    data: Any = b""
    if isinstance(item, Parcel):
        item, data = Parcel(item.item, None), item.data
    return pyarrow.table({"item": column(pickle.dumps((told, item), protocol=5)), "data": column(data)})


def unpacked(table: Any) -> tuple[Any, Any]:
    """What was told, and the item, of a table of one row."""

    def content(name: str) -> memoryview:
        """The value itself: pyarrow's scalars hold a copy."""
        (chunk,) = (chunk for chunk in table.column(name).chunks if len(chunk))
        _, offsets, data = chunk.buffers()
        begin, end = struct.unpack_from("=2q", offsets, 8 * chunk.offset)
        return memoryview(data or b"")[begin:end]

    told, item = pickle.loads(content("item"))
    if isinstance(item, Parcel):
        item = Parcel(item.item, content("data"))
    return told, item


def stream_of(source: Callable[[], Iterable[Any]], done: frozenset[int]) -> Any:
    """A data source of one task, which gives an item at a time, with its number; those that are ``done`` are left out."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Stream(Datasource):
        """See above."""

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *more: Any, **named: Any) -> list[Any]:
            def read() -> Iterator[Any]:
                yield from itertools.starmap(packed, _faults_last(source, done))

            return [ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]

    return Stream()


def _faults_last(source: Callable[[], Iterable[Any]], done: frozenset[int]) -> Iterator[tuple[int, Any]]:
    """The items, and what is at fault with the input where there is something: Ray would read it again and again."""
    try:
        yield from ((number, item) for number, item in enumerate(source()) if number not in done)
    except HalbertError as fault:
        yield FAULT, fault

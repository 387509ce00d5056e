"""What ``embed`` and ``predict`` share: any number of texts in, one file out, in parts that outlive the process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from halbert.cli.output import Bars, check_source, count_texts, note, texts_from
from halbert.data.addresses import as_path, brought, check_new, is_address, put, work_name
from halbert.errors import HalbertError
from halbert.files import check_file, require_file
from halbert.version import __version__

if TYPE_CHECKING:
    from halbert.cluster import Cluster
    from halbert.run.answering import Answering, Part
    from halbert.run.parts import Parts


class Bulk:
    """One job over the texts of the command line or of ``--input``, answered here or by a cluster."""

    def __init__(
        self, texts: list[str] | None, file: str | None, output: str | None, kind: str, quiet: bool,
        cluster: Callable[[], Cluster] | None = None, overwrite: bool = False, columns: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.source, self.target, self.overwrite = file, output, overwrite
        self.columns = columns or {}
        check_source(texts, file, columns)
        self.output: Path | None = None
        if output is not None and is_address(output):
            from halbert.run.parts import folder_of

            self.output = work_name(output)
            if (
                not overwrite and not folder_of(self.output).exists()
            ):  # what could not be put is put by the same command
                check_new(output)
        elif output is not None:
            source = None if file is None or is_address(file) else as_path(file)
            self.output = check_file(as_path(output), overwrite, source)
        self.file: Path | None = None
        self.texts, self.kind, self.quiet = texts, kind, quiet
        self.cluster = cluster
        self.cut = self.windowed = self.length = 0

    def write(self, answering: Answering, width: int = 0) -> int:
        """Answer all texts into the output file; returns how many there were."""
        with self._brought():
            return self._write(answering, width)

    @contextlib.contextmanager
    def _brought(self) -> Iterator[None]:
        """The input as a file here; not before the model is there."""
        if is_address(self.source):
            note(f"bringing {self.source} here")
        with brought(self.source) as self.file:
            self.examples = texts_from(self.texts, self.file, self.columns)
            yield

    def _write(self, answering: Answering, width: int) -> int:
        from halbert.run.identity import fingerprint
        from halbert.run.parts import Parts

        assert self.output is not None
        asked, predictor = answering.asked, answering.predictor
        told = {
            "halbert": __version__, "verb": asked.verb, "head": asked.head, **asked.how, "model": fingerprint(predictor.bundle),
            "input": self._input(), "engine": predictor.backend.describe(),
        }  # fmt: skip
        if self.columns:
            told["columns"] = self.columns
        if told["model"] is None or told["input"] is None:
            told["unique"] = time.time_ns()  # nothing to know it again by
        told["engine"].pop("threads")  # known only once it has run
        with contextlib.closing(Parts(self.output, self.kind, told, overwrite=self.overwrite)) as parts:
            total = count_texts(self.texts, self.file)
            with Bars(self.quiet or (total is not None and total < 1000)).task("Answering", total) as step:
                answering.progress = lambda n: step(advance=n)
                if done := len(parts.finished()):
                    note(f"going on after {done * parts.size:,} texts that were answered before")
                if self.cluster is None:
                    count = parts.fill(self.examples, self._counted(answering), answering.progress)
                else:
                    count = self._spread(answering, parts, self.cluster, lambda n: step(advance=n))
            parts.join(count, width)
            if self.target is not None and is_address(self.target):
                put(self.output, self.target)
            parts.remove()  # not before: what could not be put is put by the same command
        self.say()
        return count

    def _spread(
        self, answering: Answering, parts: Parts, connect: Callable[[], Cluster], step: Callable[[int], None]
    ) -> int:
        """The same by the workers of a cluster, each with an engine of its own; the parts are written here."""
        from halbert.run.answering import Worker
        from halbert.run.spread import kind_of

        # What is not there is said before a cluster is begun.
        file = None if self.file is None else require_file(self.file, "data file").resolve()
        source = functools.partial(_parts_of, self.texts, file, self.columns, parts.size, parts.finished())
        total, own = 0, kind_of(answering.predictor.backend)
        try:
            with connect() as cluster:
                cores = answering.asked.threads or min(cluster.nodes(), default=1)
                # The model goes with the work, so that all have the same.
                asked = msgspec.structs.replace(answering.asked, threads=cores, model=answering.predictor.bundle)
                for found in cluster.stream(source, Worker, (asked,), cpus=cores, alike=True):
                    if found.number >= 0:
                        if found.engine != own:
                            raise HalbertError(
                                f"a worker computes by {found.engine}, this machine by {own}; install the same"
                            )
                        parts.write(found.number, found.answers)
                        self.cut, self.windowed = self.cut + found.cut, self.windowed + found.windowed
                        self.length = found.length
                    total += found.count
                    step(found.count)
        except BaseException:
            parts.leave()
            raise
        return total

    def each(self, answering: Answering, size: int) -> Iterator[Any]:
        """The same without a file: answers for every ``size`` texts."""
        from halbert.run.parts import chunks

        start = 0
        with self._brought():
            for examples in chunks(self.examples, size):
                yield self._counted(answering)(examples, start)
                start += len(examples)
        self.say()

    def _counted(self, answering: Answering) -> Any:
        def counted(examples: list[Any], start: int) -> Any:
            found, predictor = answering(examples, start), answering.predictor
            self.cut, self.windowed = self.cut + predictor.cut, self.windowed + predictor.windowed
            self.length = predictor.length
            return found

        return counted

    def say(self) -> None:
        """How many texts were cut, and how many read in windows."""
        if self.windowed:
            note(f"{self.windowed} texts were longer than {self.length} pieces and were read in windows")
        if self.cut:
            much = f"{self.cut} texts were longer than {self.length} pieces and were cut"
            # What is cut among windows: a first text that takes more than half of them, or no room for any.
            note(much if self.windowed else f"{much}; --long window reads all of them")

    def _input(self) -> Any:
        if self.file is None:
            return self.texts
        if not self.file.is_file():
            return None
        if is_address(self.source):  # what was brought, since an address says nothing of when it was changed
            with self.file.open("rb") as stream:
                return [self.source, hashlib.file_digest(stream, "sha256").hexdigest()]
        status = self.file.stat()
        return [str(self.file.resolve()), status.st_size, status.st_mtime_ns]


def _parts_of(
    texts: list[str] | None, file: Path | None, columns: dict[str, str], size: int, finished: frozenset[int]
) -> Iterator[Part | int]:
    """The parts of an input; of those that are finished, how many texts they have."""
    from halbert.run.answering import Part
    from halbert.run.parts import chunks

    start = 0
    for number, chunk in enumerate(chunks(texts_from(texts, file, columns), size)):
        yield len(chunk) if number in finished else Part(number=number, start=start, examples=chunk)
        start += len(chunk)

"""What ``embed`` and ``predict`` share: any number of texts in, one file out, in parts that outlive the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halbert.cli.output import Bars, count_texts, note, texts_from

if TYPE_CHECKING:
    from halbert.data.readers import Example
    from halbert.run.predictor import Predictor


class Bulk:
    """One job over the texts of the command line or of ``--input``."""

    def __init__(self, texts: list[str] | None, file: Path | None, output: Path | None, kind: str, quiet: bool) -> None:
        self.examples: Iterator[Example] = texts_from(texts, file)
        self.texts, self.file, self.output, self.kind, self.quiet = texts, file, output, kind, quiet
        self.progress: Callable[[int], None] = lambda _: None
        self.cut = self.windowed = 0

    def write(
        self, predictor: Predictor, answer: Callable[[list[Example], int], Any], how: dict[str, Any], width: int = 0
    ) -> int:
        """Answer all texts into the output file; ``how`` is what the answers depend on, beside model and input."""
        from halbert.run.identity import fingerprint
        from halbert.run.parts import Parts

        assert self.output is not None
        told = {
            **how, "model": fingerprint(predictor.bundle), "input": self._input(), "engine": predictor.backend.describe(),
        }  # fmt: skip
        if told["model"] is None or told["input"] is None:
            told["unique"] = time.time_ns()  # nothing to know it again by
        told["engine"].pop("threads")  # known only once it has run
        parts = Parts(self.output, self.kind, told)
        total = count_texts(self.texts, self.file)
        with Bars(self.quiet or (total is not None and total < 1000)).task("Answering", total) as step:
            self.progress = lambda n: step(advance=n)
            if done := parts.done():
                note(f"going on after {done * parts.size:,} texts that were answered before")
            count = parts.fill(self.examples, self._counted(predictor, answer), self.progress)
        parts.join(count, width)
        self.say(predictor)
        return count

    def each(self, predictor: Predictor, answer: Callable[[list[Example], int], Any], size: int) -> Iterator[Any]:
        """The same without a file: answers for every ``size`` texts."""
        from halbert.run.parts import chunks

        start = 0
        for examples in chunks(self.examples, size):
            yield self._counted(predictor, answer)(examples, start)
            start += len(examples)
        self.say(predictor)

    def _counted(self, predictor: Predictor, answer: Callable[[list[Example], int], Any]) -> Any:
        def counted(examples: list[Example], start: int) -> Any:
            found = answer(examples, start)
            self.cut += predictor.cut
            self.windowed += predictor.windowed
            return found

        return counted

    def say(self, predictor: Predictor) -> None:
        """How many texts were cut, and how many read in windows."""
        if self.windowed:
            note(f"{self.windowed} texts were longer than {predictor.length} pieces and were read in windows")
        if self.cut:
            much = f"{self.cut} texts were longer than {predictor.length} pieces and were cut"
            # What is cut among windows: a first text that takes more than half of them, or no room for any.
            note(much if self.windowed else f"{much}; --long window reads all of them")

    def _input(self) -> Any:
        if self.file is None:
            return self.texts
        if not self.file.is_file():
            return None
        status = self.file.stat()
        return [str(self.file.resolve()), status.st_size, status.st_mtime_ns]

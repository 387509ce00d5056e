"""Samples on disk as they are taken: an audit that was stopped goes on, and one that is finished can be given more rounds."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from halbert.errors import InputError
from halbert.files import check_target, read_json, write_bytes, write_json

RESULTS = "results.json"
Rounds = list[dict[str, dict[str, Any]]]  # by round: subject, sample


def check_report(out: str | os.PathLike[str], overwrite: bool = False, resume: bool = False) -> None:
    """See that a report may be written there, and replaces nothing but a report. Raises :class:`InputError` otherwise."""
    target = check_target(out, overwrite or resume)
    here = Path.cwd()
    if target.is_dir() and any(target.iterdir()) and (target == here or target in here.parents):
        raise InputError(f"{out}: is the folder this was called in, or one above it; choose another")
    if target.is_dir() and any(target.iterdir()) and not (target / RESULTS).exists():
        raise InputError(
            f"{out}: holds something else than a report (no {RESULTS}); choose another folder, or remove it"
        )
    _place(out, resume)


def _place(out: str | os.PathLike[str], resume: bool) -> Path:
    place = Path(f"{out}.audit")
    if place.exists() and not resume:
        raise InputError(f"{place}: holds an audit that was stopped; go on with it by --resume, or remove it")
    return place


class Kept:
    """The folder ``OUT.audit`` of an audit at work; it becomes ``OUT/samples`` when the report is written.

    Raises :class:`InputError` when a run is there that ``resume`` was not asked for, one of other models, data or
    settings, or none to go on with.
    """

    def __init__(self, out: str | os.PathLike[str], plan: dict[str, Any], resume: bool) -> None:
        self.out = Path(out)
        self.place = _place(out, resume)
        before = self.place if self.place.exists() else self.out / "samples"
        if resume and not (before / "plan.json").exists():
            raise InputError(f"{self.out}: holds no audit to go on with; expected one of this command in it")
        if resume:
            other = _differences(read_json(before / "plan.json"), plan)
            if other:
                raise InputError(
                    f"{before}: its audit was of other {', '.join(other)}; go on with the same, or begin a new one"
                )
        if resume and before != self.place:
            shutil.copytree(before, self.place)
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            write_json(self.place / "plan.json", plan)
        except OSError as error:
            raise InputError(f"{self.place}: cannot be written: {error.strerror}") from None

    def rounds(self, probe: str) -> Rounds:
        """What was sampled before, a round a line; a line that a kill has cut is taken away, so that others can follow."""
        file = self._file(probe)
        found: Rounds = []
        if not file.exists():
            return found
        lines = file.read_text("utf-8").splitlines(keepends=True)
        for line in lines:
            try:
                samples = json.loads(line) if line.endswith("\n") else None
            except ValueError:
                samples = None
            if samples is None:
                write_bytes(file, "".join(lines[: len(found)]).encode())
                break
            found.append({subject: _unpacked(sample) for subject, sample in samples.items()})
        return found

    def keep(self, probe: str, samples: dict[str, dict[str, Any]]) -> None:
        """Add a whole round."""
        line = json.dumps({subject: _packed(sample) for subject, sample in samples.items()}) + "\n"
        with self._file(probe).open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _file(self, probe: str) -> Path:
        return self.place / f"{probe.replace(':', '-').replace('/', '-')}.jsonl"

    def move_into(self, folder: Path) -> None:
        """Make the samples part of the finished audit."""
        shutil.copytree(self.place, folder / "samples", dirs_exist_ok=True)

    def leave(self) -> None:
        """After a failure, whatever it was: what was measured stays, if anything was."""
        if not any(self.place.glob("*.jsonl")):
            self.remove()

    def remove(self) -> None:
        """Nothing is left to go on with."""
        shutil.rmtree(self.place, ignore_errors=True)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    told = {"rows": "depth (--quick, --full)"}
    return sorted(told.get(key, key) for key in now.keys() | before.keys() if before.get(key) != now.get(key))


def _packed(sample: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"value": value[0], "items": value[1]} if isinstance(value, tuple) else value
        for name, value in sample.items()
    }


def _unpacked(sample: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (value["value"], value["items"]) if isinstance(value, dict) else value for name, value in sample.items()
    }

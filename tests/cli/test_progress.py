"""Progress: on a terminal of any width everything can be read; without one, what is left is told by what was done lately."""

import io
import re

import pytest

from halbert.cli import output


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def minutes(said: str) -> list[int]:
    return [int(m) for m in re.findall(r"(\d+) min left", said)]


@pytest.mark.parametrize("before", [0, 10_000], ids=["from the start", "gone on with"])
def test_neither_a_slow_start_nor_steps_of_an_earlier_run_count(clock, capsys, before):
    with output.Bars().task("Training", None) as step:
        clock(3_600)  # a corpus is counted first
        step("", before + 10, 20_000)
        for _ in range(6):
            clock(30)
            step("", 100, 20_000)
    done = before + 10 + 600
    assert minutes(capsys.readouterr().err)[-1] == round((20_000 - done) * 0.3 / 60)


def test_a_speed_that_changes_is_followed(clock, capsys):
    with output.Bars().task("Training", 1_000) as step:
        for seconds in [31] * 5 + [310] * 20:
            clock(seconds)
            step("", 10)
    told = minutes(capsys.readouterr().err)
    assert told[1] == round(31 / 10 * 970 / 60) and told[-1] == round(310 / 10 * 750 / 60)


def test_nothing_is_foretold_of_a_first_step(clock, capsys):
    with output.Bars().task("Training", 1_000) as step:
        clock(31)
        step("", 10)
    assert "10 of 1,000" in (said := capsys.readouterr().err) and not minutes(said)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_everything_can_be_read_on_a_terminal_of_any_width(width):
    from rich.console import Console

    from halbert.cli.terminal import TwoLines

    console = Console(width=width, height=20, force_terminal=True, record=True, file=io.StringIO())
    said = "masked_loss 8.307 masked_accuracy 0.031 pair_loss 0.693 pair_accuracy 0.508, 127,626 pieces/s, 1.2% padding"
    with TwoLines(console) as bars:
        bar = bars.add_task("Pre-training my-model", total=30_000, detail="")
        bars.update(bar, advance=120, detail=said)
        bars.refresh()
    shown = " ".join(console.export_text().split())
    assert all(word in shown for word in [*said.split(), "120/30000", "left"]), shown
    assert "…" not in shown

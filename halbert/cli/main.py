"""``halbert``: registers the verbs, and turns errors into messages and exit statuses."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from halbert.errors import HalbertError, Interrupted, Stopped
from halbert.processes import ASKED
from halbert.version import __version__

VERBS = (
    "inspect", "diff", "models", "convert", "vocab", "tokenize", "corpus", "pretrain", "finetune", "evaluate", "predict",
    "embed", "fill", "quantize", "audit", "serve",
)  # fmt: skip


CLEAN = "nothing half-written was left behind"  # by who was stopped, unless a verb says otherwise (STOPPED)


def application(arguments: Sequence[str]) -> typer.Typer:
    """The verbs as a command line; of one that is called by name the others are not even imported."""
    app = typer.Typer(
        name="halbert",
        help="BERT and ALBERT encoders: inspect, train, run, and put them side by side, measured.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(options)
    called = arguments[0] if arguments and arguments[0] in VERBS else None
    for name in VERBS if called is None else (called,):
        verb = importlib.import_module(f"halbert.cli.{name}")
        app.command(name, help=verb.HELP, epilog=verb.EXAMPLE)(_interruptible(verb))
    return app


def _interruptible(verb: ModuleType) -> Callable[..., None]:
    """The verb's function, which says what is left when it is stopped; typer would end the program without a word."""
    told = f"stopped; {getattr(verb, 'STOPPED', CLEAN)}"

    @functools.wraps(verb.run)
    def run(*arguments: object, **named: object) -> None:
        try:
            verb.run(*arguments, **named)
        except KeyboardInterrupt:
            raise Interrupted(told) from None
        except SystemExit as ended:
            if ended.code not in [128 + number for number in ASKED]:
                raise
            if getattr(verb, "RESUMABLE", False):  # which schedulers know by its status
                raise Stopped(told) from None
            with contextlib.suppress(OSError):  # the terminal may have gone
                print(f"halbert: {told}", file=sys.stderr)
            raise

    return run


def options(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
    """Options before any verb."""
    if version:
        typer.echo(f"halbert {__version__}")
        raise typer.Exit


# A disk that is full, a quota that is used up, a disk that may only be read: none is a fault of ours.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _background(failed: threading.ExceptHookArgs) -> None:
    """A thread that writes beside us (TensorBoard's) finds the disk full as we do, who say it."""
    if not (isinstance(failed.exc_value, OSError) and failed.exc_value.errno in _FULL):
        threading.__excepthook__(failed)


def _terminate(number: int, frame: object) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Entry point of the process: :func:`run`, and its end.

    Threads of Ray that are still there when the interpreter goes have ended processes by SIGSEGV whose work was done; where
    Ray was used nothing is waited for but what was written.
    """
    status: Any = 0
    try:
        run()
    except SystemExit as ended:
        status = ended.code or 0
    if "ray" not in sys.modules or not isinstance(status, int):
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    os._exit(status)


def run() -> None:
    """What a command does. 0 done; 1 the input is at fault; 2 usage; 70 our fault; 130 Ctrl-C; 143 SIGTERM; 129 SIGHUP."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files that are not UTF-8 are printed as they are
    if "OMP_WAIT_POLICY" not in os.environ:  # how long a thread waits awake for others, of torch's OpenMP (decision 9)
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # As an exception, so that half-written output is removed on the way out.
    for number in ASKED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup
            signal.signal(number, _terminate)
    threading.excepthook = _background
    theirs = warnings.showwarning

    def shown(message: Any, category: Any, filename: Any, *more: Any) -> None:
        """Our own warnings are for people; others' say where they come from."""
        if Path(filename).is_relative_to(Path(__file__).parents[1]) and category is UserWarning:
            print(f"warning: {message}", file=sys.stderr)
        else:
            theirs(message, category, filename, *more)

    warnings.showwarning = shown  # type: ignore[assignment]
    try:
        application(sys.argv[1:])()
    except HalbertError as error:
        print(f"halbert: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:  # before a verb began
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone; nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            print(f"halbert: {error.filename or 'a file'}: cannot be written: {error.strerror}", file=sys.stderr)
            sys.exit(1)
        traceback.print_exc()
        print(
            f"halbert: a fault of ours: {type(error).__name__}: {error}\n"
            f"Please report the lines above with the command you ran (halbert {__version__}).",
            file=sys.stderr,
        )
        sys.exit(70)

"""How a program gets to a cluster: one that is there, or one of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any, NamedTuple

from halbert.cluster.telling import shortened, unsaid
from halbert.errors import InputError, missing_extra
from halbert.processes import ASKED, cores

TRIES = 8  # of an item whose worker or machine was lost


class Joined(NamedTuple):
    """The module ``ray``, connected; whether that ``ends`` with the work; whether the cluster was ``begun`` by that, for this
    machine alone."""

    ray: Any
    ends: bool
    begun: bool


def join(address: str | None) -> Joined:
    """Connect.

    Raises :class:`InputError` where no cluster answers, or another one is connected to already, and
    :class:`halbert.errors.MissingExtra` without Ray.
    """
    told_by = "" if address else " (RAY_ADDRESS)"
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    if wanted == "local":  # Ray's own word for what comes without an address
        wanted = None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # and no warning about it
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes as an exception
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody else is told of the user's work
    os.environ.setdefault("RAY_task_oom_retries", str(TRIES))  # and not for ever
    try:
        import ray
        import ray.data
    except ImportError:
        raise missing_extra("ray", "cluster", "--engine ray") from None
    if ray.is_initialized():
        if address:
            _check_same(address, ray.get_runtime_context().gcs_address)
        return Joined(ray, ends=False, begun=False)
    if wanted is not None:
        _reach(wanted, told_by)
        if _asks_for_a_token(ray, wanted, told_by):
            _show_token(ray, wanted, told_by)
    else:  # there is nobody to make way for: at Ray's niceness of 15 a training took a tenth longer
        os.environ.setdefault("RAY_worker_niceness", "0")
    asked = {number: signal.getsignal(number) for number in ASKED}
    told: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with unsaid():
            if wanted is None:  # whatever else runs here
                ray.init(address="local", include_dashboard=False, num_cpus=cores(), **told)
            else:
                ray.init(address=wanted, **told)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        where = "on this machine" if wanted is None else f"at {wanted}{told_by}"
        raise InputError(f"no Ray cluster answers {where}: {shortened(str(error).splitlines()[0], 200)}") from None
    finally:  # Ray takes SIGTERM for a crash of ours: a stack is printed, and nothing is put away
        for number, ours in asked.items():
            if callable(ours) and threading.current_thread() is threading.main_thread():
                signal.signal(number, ours)
    return Joined(ray, ends=True, begun=wanted is None)


def leave(ray: Any) -> None:
    """Disconnect; what :func:`join` began ends.

    Of that the autoscaler's monitor, which has nothing to scale, does not end when it is asked to, for which Ray waits a
    second; so it is not asked (``ray._private.node.Node.kill_all_processes``; where Ray has another inside, it waits).
    """
    with contextlib.suppress(Exception):
        for started in ray._private.worker._global_node.all_processes.get("monitor", ()):
            started.process.kill()
    ray.shutdown()


def _asks_for_a_token(ray: Any, address: str, told_by: str) -> bool:
    """Whether a cluster refuses who shows none, which Ray itself would not say, and try twenty times.

    Raises :class:`InputError` where something else listens, which takes Ray half a minute to notice, twenty times over.
    """
    refused = getattr(ray.exceptions, "AuthenticationError", None)
    if refused is None or ":" not in address or "://" in address:
        return False
    try:
        with unsaid():
            ray._raylet.GcsClient(address=address)
    except refused:
        return True
    except Exception as error:
        raise InputError(f"no Ray cluster answers at {address}{told_by}: {shortened(str(error), 200)}") from None
    return False


def _show_token(ray: Any, address: str, told_by: str) -> None:
    """This machine's own token to a cluster of its own, as Ray does for "auto"; raises :class:`InputError` for another's."""
    if not (_is_here(address) and _has_token() and "RAY_AUTH_MODE" not in os.environ):
        raise InputError(
            f"the Ray cluster at {address}{told_by} asks for a token, as `ray start` does by itself where there is one: copy the "
            "head's ~/.ray/auth_token to the same place on this machine (and on all of the cluster's), and set RAY_AUTH_MODE=token"
        )
    os.environ["RAY_AUTH_MODE"] = "token"
    ray._raylet.Config.initialize("")  # which has read the environment before


def _has_token() -> bool:
    """Whether Ray would find one to show."""
    with contextlib.suppress(RuntimeError, OSError):  # nobody's home
        return (
            bool(os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"))
            or (Path.home() / ".ray/auth_token").exists()
        )
    return False


def _is_here(address: str) -> bool:
    """Whether an address is of this machine, to which nothing is given away by showing its own token."""
    host = address.removeprefix("ray://").rpartition(":")[0].strip("[]")
    try:
        socket.create_server((host, 0)).close()
    except (OSError, UnicodeError):
        return False
    return bool(host)


def _reach(address: str, told_by: str) -> None:
    """Whether anybody listens there: Ray itself tries for minutes. Raises :class:`InputError`."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:  # auto, or what else Ray may know
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), 5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at {address}{told_by}: {error}") from None


def _check_same(address: str, connected: str) -> None:
    """Whether a program that is connected already is so to who is at an address, which may be written in several ways.

    Raises :class:`InputError`.
    """

    def numbered(name: str) -> tuple[str, str]:
        host, _, port = name.rpartition(":")
        with contextlib.suppress(OSError):
            host = socket.gethostbyname(host.strip("[]"))
        return host, port

    if ":" in address and "://" not in address and numbered(address) != numbered(connected):
        raise InputError(
            f"{address}: this program is connected to another cluster ({connected}); end that by ray.shutdown(), or name no other"
        )

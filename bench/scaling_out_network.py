"""A simulated network on one machine: network namespaces with limited links."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_SWITCH, _PORT = "dmf-switch", 29500
# The payload of a TCP stream with timestamps in a frame of 1,514 bytes, as the filter counts it.
PAYLOAD = 1448 / 1514


def missing() -> str | None:
    """Say in a sentence what the namespaces and filters lack here, None where nothing does."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root, which this process is not"
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"network namespaces need the command {tool!r} of iproute2, which is not on the path"
    _remove(_SWITCH)
    done = subprocess.run(["ip", "netns", "add", _SWITCH], capture_output=True, text=True)
    if done.returncode:
        return f"no network namespace can be made here: {done.stderr.strip()}"
    try:
        done = _tc(_SWITCH, "lo", 1.0)
        return f"no token-bucket filter can be set here: {done.stderr.strip()}" if done.returncode else None
    finally:
        _remove(_SWITCH)


@contextmanager
def machines(count: int, gigabits: float | None) -> Iterator[list[str]]:
    """Give so many namespaces with the addresses 10.77.0.1, …, joined by a switch.

    Both directions of every link have a token-bucket filter of ``gigabits`` a second; None for no filter.
    """
    names = [f"dmf-machine-{rank}" for rank in range(count)]
    try:
        for name in (_SWITCH, *names):
            _remove(name)  # of a run that was killed
            _run("netns", "add", name)
        _run("-n", _SWITCH, "link", "add", "switch", "type", "bridge")
        _run("-n", _SWITCH, "link", "set", "switch", "up")
        for rank, name in enumerate(names):
            port = f"port{rank}"
            _run("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", _SWITCH)
            _run("-n", _SWITCH, "link", "set", port, "master", "switch", "up")
            _run("-n", name, "addr", "add", f"10.77.0.{rank + 1}/24", "dev", "eth0")
            _run("-n", name, "link", "set", "eth0", "up")
            _run("-n", name, "link", "set", "lo", "up")
            if gigabits is not None:
                for where, device in ((name, "eth0"), (_SWITCH, port)):
                    _tc(where, device, gigabits).check_returncode()
        yield names
    finally:
        for name in (_SWITCH, *names):
            _remove(name)


def run_ranks(module: str, arguments: Sequence[str], names: Sequence[str | None]) -> Iterator[dict[str, Any]]:
    """Run ``python -m module`` once in every namespace, None for this one, and give rank 0's lines of JSON.

    Raises a `ChildProcessError` if one fails; the others are then terminated.
    """
    address, interface = ("10.77.0.1", "eth0") if names[0] else ("127.0.0.1", "lo")
    common = {
        "WORLD_SIZE": str(len(names)),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(_PORT),
        "GLOO_SOCKET_IFNAME": interface,
        "OMP_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    ranks = [_start(module, arguments, name, common, rank) for rank, name in enumerate(names)]
    try:
        assert ranks[0].stdout is not None
        lines = 0
        for line in ranks[0].stdout:
            lines += 1
            yield json.loads(line)
        codes = [rank.wait(timeout=60) for rank in ranks]
        # Over a slow link, gloo (torch 2.13) occasionally aborts a process at exit, after its work is done.
        if lines < len(arguments) or any(code not in (0, -signal.SIGABRT) for code in codes):
            raise ChildProcessError(f"{module} failed in {len(names)} processes, which ended with {codes}")
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def _start(
    module: str, arguments: Sequence[str], name: str | None, common: Mapping[str, str], rank: int
) -> subprocess.Popen[str]:
    inside = [] if name is None else ["ip", "netns", "exec", name]
    return subprocess.Popen(
        [*inside, sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **common, "RANK": str(rank)},
        stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
        text=True,
    )


def _tc(name: str, device: str, gigabits: float) -> subprocess.CompletedProcess[str]:
    rate = f"{gigabits * 1000:.0f}mbit"
    # A bucket of a millisecond, so that a short message does not slip through, and a queue of twenty.
    bucket = f"{max(64, gigabits * 125):.0f}kb"
    filtered = ["tbf", "rate", rate, "burst", bucket, "latency", "20ms"]
    command = ["tc", "-n", name, "qdisc", "replace", "dev", device, "root", *filtered]
    return subprocess.run(command, capture_output=True, text=True)


def _run(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _remove(name: str) -> None:
    subprocess.run(["ip", "netns", "del", name], capture_output=True)

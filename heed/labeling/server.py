"""Runs the application on a socket: here in the foreground, or beside something else in a thread."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from heed.errors import ConfigError

MOST_CONNECTIONS = 1000


def is_this_machine(host: str) -> bool:
    """Whether only programs of this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address. Raises ConfigError where it is not to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # after a stop the port can be used again at once; elsewhere the flag would share it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(MOST_CONNECTIONS)  # whoever opens the link at once waits for the server, and is not refused
    except OSError as error:
        listener.close()
        hint = "another program uses it; --port 0 takes any that is free" if error.errno else "name another address"
        raise ConfigError("--port", f"cannot listen on {host}:{port}: {error.strerror or error}", hint) from error
    return listener


def serve(app: ASGIApp, listener: socket.socket, ready: Callable[[], object]) -> None:
    """Serve until Ctrl-C or SIGTERM, raised again when everything is closed; `ready` is called when it is open."""
    server = _server(app)
    threading.Thread(target=_call_when_started, args=(server, ready), daemon=True).start()
    server.run(sockets=[listener])


@contextmanager
def serving(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve in a thread while the block runs."""
    server = _server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def open_browser(url: str) -> None:
    """Open the page in a browser with a window, where there is one."""
    screen = os.environ.get("DISPLAY", os.environ.get("WAYLAND_DISPLAY"))
    if screen or sys.platform in ("darwin", "win32"):
        webbrowser.open(url)


def _server(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # anybody could write them
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
    )


def _call_when_started(server: uvicorn.Server, ready: Callable[[], object]) -> None:
    while not server.started:
        time.sleep(0.01)
    ready()

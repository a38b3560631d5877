"""Checks whether a server can have a port for itself."""

import errno
import socket


def refusal(host: str, port: int) -> str:
    """The reason why a server must not listen there; empty if it can.

    A web server opens its port with SO_REUSEPORT, so that its processes can share it. Another server could then open
    the same port and get some of the calls, so this checks whether any process listens already.
    """
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        pass
    else:
        return f"Port {port} is held by another program."
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignore connections that were just closed
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return f"Port {port} of {host} cannot be opened: {error.strerror}."
            return f"Port {port} is held by another program."
    return ""

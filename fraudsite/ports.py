"""Whether a server can have a port for itself."""

import errno
import socket


def refusal(host: str, port: int) -> str:
    """Why a server must not listen there; empty if it can.

    A web server opens its port so that its own processes can share it (SO_REUSEPORT). Then so could another server, and
    calls would be dealt out between the two: so it is asked here whether anybody listens, in any way.
    """
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        pass
    else:
        return f"Port {port} is held by another program."
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just been closed holds nothing
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return f"Port {port} of {host} cannot be opened: {error.strerror}."
            return f"Port {port} is held by another program."
    return ""

"""A client and a server of the test's own; what the real one answers is tested with the server."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from claimbook.runner.warm import client


def test_an_answer_that_comes_before_the_request_was_sent_to_its_end_is_read(monkeypatch):
    """A server that has answered closes: to go on sending, were it nothing, would be a broken pipe."""
    address = Path(f"/tmp/claimbook-test-{os.getpid()}")
    send_fds = socket.send_fds

    def send_and_be_answered(connection, *arguments):
        sent = send_fds(connection, *arguments)
        other, _ = listening.accept()
        with other:
            assert other.recv(100) == b"{}\n"
            other.sendall(b'{"fresh": true}\n')
        return sent

    monkeypatch.setattr(socket, "send_fds", send_and_be_answered)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        try:
            listening.listen()
            client._ask_whether_fresh(address)
        finally:
            address.unlink()

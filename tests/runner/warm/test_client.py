"""A client and a server of the test's own; what the real one answers is tested with the server."""

from __future__ import annotations

import shutil
import socket

from claimbook.runner.sockets import socket_folder
from claimbook.runner.warm import client


def test_an_answer_that_comes_before_the_request_was_sent_to_its_end_is_read(monkeypatch):
    """A server that has answered closes: to go on sending, were it nothing, would be a broken pipe."""
    folder = socket_folder()
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
        try:
            listening.bind(str(folder / "server"))
            listening.listen()
            client._ask_whether_fresh(folder / "server")
        finally:
            shutil.rmtree(folder)

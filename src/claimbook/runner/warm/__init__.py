"""Warm kernels: forked from a process that has imported what is slow to import.

    client ── request ──▶ server ── fork ──▶ keeper ── fork ──▶ kernel

The server has imported torch and the like, runs one thread, and forks. The keeper holds the client's socket:
at its end the kernel and all that it started are killed, and nobody is told of the kernel's end before they
are gone. So a client that dies leaves nothing, and a server that dies takes no kernel with it.
"""

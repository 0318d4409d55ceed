"""Imported by every Python that the workflow tests start: whoever reaches for the network ends there."""

import os
import socket
import sys


def refuse(name, *arguments, **options):
    """End the process, whatever catches exceptions around the call."""
    print(f"network: {name}{arguments}", file=sys.stderr, flush=True)
    os._exit(97)


def guard(event, arguments):
    """Audit hook: let local sockets of the system through, and no others."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        refuse(event, *arguments)
    if event in ("socket.connect", "socket.sendto") and arguments[0].family != socket.AF_UNIX:
        refuse(event, *arguments)


sys.addaudithook(guard)

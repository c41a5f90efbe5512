"""Holds DNS sockets as systemd's socket unit does and runs a server on them, again and again until it is told to end.

argv: JSON list of [protocol, address, port], then the server's command. Prints the pid of each server that it starts.
"""
import json
import os
import signal
import socket
import subprocess
import sys

sockets = []
for protocol, address, port in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    if protocol == "tcp":
        sock.listen(128)
    sockets.append(sock)


def pass_sockets():
    spare = [os.dup2(sock.fileno(), 100 + i) for i, sock in enumerate(sockets)]
    for i, fd in enumerate(spare):
        os.dup2(fd, 3 + i)
        os.close(fd)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
child = None
try:
    while True:
        env = dict(os.environ, LISTEN_FDS=str(len(sockets)))
        child = subprocess.Popen(sys.argv[2:], env=env, close_fds=False, preexec_fn=pass_sockets)
        print(child.pid, flush=True)
        child.wait()
finally:
    if child:
        child.kill()
        child.wait()

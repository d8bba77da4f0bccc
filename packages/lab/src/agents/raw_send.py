# SPDX-License-Identifier: Apache-2.0
"""Sends frames as they are: one base64 frame a line on standard input, on the device given as the only argument.
An empty line is answered with the number of frames sent so far."""
import base64
import socket
import sys

out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
sent = 0
for line in sys.stdin:
    frame = line.strip()
    if frame:
        out.send(base64.b64decode(frame))
        sent += 1
    else:
        print(sent, flush=True)

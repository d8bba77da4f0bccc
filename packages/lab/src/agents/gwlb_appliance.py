# SPDX-License-Identifier: Apache-2.0
"""An appliance as gateway load balancers expect it: Geneve on UDP port 6081, every packet handed back with its header as it came, outer addresses swapped
and ports kept; and a TCP port that says it is well. Arguments: its address, the health port. Commands on standard input, one a line, each answered with
one line of JSON: `report`; `mode return`, `mode hold` (swallows packets), `mode forge` (adds one to the cookie); `health on`, `health off`."""
import json
import select
import socket
import struct
import sys

address, health_port = sys.argv[1], int(sys.argv[2])
tunnel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tunnel.bind((address, 6081))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
raw.bind((address, 0))
raw.setblocking(False)
health = None
mode = "return"
seen = {"packets": 0, "echoes": 0, "broken": 0}
flows = {}  # inner flow -> {cookies, options}


def listen(on):
    global health
    if health:
        health.close()
        health = None
    if on:
        health = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        health.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        health.bind((address, health_port))
        health.listen(16)


def options_of(data):
    end, at, found = 8 + (data[0] & 63) * 4, 8, []
    while at < end:
        length = (data[at + 3] & 31) * 4
        found.append((struct.unpack_from("!H", data, at)[0], data[at + 2], at + 4, length))
        at += 4 + length
    return found, end


def flow_of(inner):
    ihl = (inner[0] & 15) * 4
    src, dst = socket.inet_ntoa(inner[12:16]), socket.inet_ntoa(inner[16:20])
    ports = struct.unpack_from("!HH", inner, ihl) if inner[9] in (6, 17) else (0, 0)
    ends = sorted([(src, ports[0]), (dst, ports[1])])
    return src == dst, "%d %s:%d %s:%d" % (inner[9], *ends[0], *ends[1])


def take():
    data, (source, port) = tunnel.recvfrom(65535)
    try:
        found, end = options_of(data)
        inner = data[end:]
        if inner[0] >> 4 == 4:
            echo, name = flow_of(inner)
            if echo:
                seen["echoes"] += 1
            else:
                seen["packets"] += 1
                flow = flows.setdefault(name, {"cookies": [], "options": [[c, t, n] for c, t, _, n in found], "ids": ""})
                cookie = b"".join(data[at : at + n] for c, t, at, n in found if (c, t) == (0x108, 3)).hex()
                flow["ids"] = b"".join(data[at : at + n] for c, t, at, n in found if c == 0x108 and t < 3).hex()
                if cookie not in flow["cookies"]:
                    flow["cookies"].append(cookie)
            if mode == "forge" and not echo:
                changed = bytearray(data)
                for c, t, at, n in found:
                    if (c, t) == (0x108, 3):
                        changed[at + 3] = (changed[at + 3] + 1) & 255
                data = bytes(changed)
    except (IndexError, struct.error):
        seen["broken"] += 1
    if mode != "hold":
        raw.sendto(struct.pack("!HHHH", port, 6081, 8 + len(data), 0) + data, (source, 0))


def answer(line):
    global mode
    word, _, value = line.strip().partition(" ")
    if word == "mode":
        mode = value
    elif word == "health":
        listen(value == "on")
    print(json.dumps({**seen, "flows": flows}), flush=True)


listen(True)
print("ready", flush=True)
while True:
    readers = [tunnel, sys.stdin, raw] + ([health] if health else [])
    for ready in select.select(readers, [], [])[0]:
        if ready is tunnel:
            take()
        elif ready is raw:
            raw.recv(65535)
        elif ready is sys.stdin:
            text = sys.stdin.readline()
            if not text:
                sys.exit(0)
            answer(text)
        elif health is not None and ready is health:
            health.accept()[0].close()

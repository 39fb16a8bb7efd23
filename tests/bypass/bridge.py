"""A bridge that spoils what crosses it: bridge.py SEED SERVER-LINK CLIENT-LINK, in a namespace with nothing else.

Only UDP is spoiled: a corrupted ARP answer would stay in a kernel's table for minutes. Rules come as lines of JSON on
stdin, each answered with the counts so far; what a frame meets follows from the seed and its place in its direction.
"""
import heapq
import json
import random
import select
import socket
import struct
import sys
import time

SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
FRAME_BYTES = 16384
RULES = {
    "loss": 0, "duplicate": 0, "reorder": 0, "corrupt": 0,  # probabilities
    "delay_ms": 0, "reorder_ms": 5,  # of each frame; at most, of one that others overtake
    "size_max": 0,  # of an IP packet; 0: any
    "too_big": False,  # such a packet is answered, else it is only lost
    "vlan": 0,  # the server's side has this tag
}


def total(data):
    """The Internet checksum."""
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


def open_link(name):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((name, 3))
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    s.setblocking(False)
    return s


def read_frame(link):
    """A frame as it was on the wire: the kernel takes the VLAN's tag out."""
    frame, control, _, _ = link.recvmsg(FRAME_BYTES, 64)
    for _, _, data in control:
        status, _, _, _, _, tag, kind = struct.unpack("=IIIHHHH", data)
        if status & 0x10:  # TP_STATUS_VLAN_VALID
            return frame[:12] + struct.pack("!HH", kind if status & 0x40 else 0x8100, tag) + frame[12:]
    return frame


def is_udp(frame):
    kind = frame[12:14]
    return kind == b"\x08\0" and frame[23] == 17 or kind == b"\x86\xdd" and frame[20] == 17


def too_big(frame, size_max):
    """What a router says to the sender of an untagged frame: RFC 1191, RFC 4443."""
    back, packet = frame[6:12] + frame[:6] + frame[12:14], frame[14:]
    if frame[12:14] == b"\x08\0":
        body = struct.pack("!HHHH", 0x0304, 0, 0, size_max) + packet[:28]
        body = body[:2] + struct.pack("!H", total(body)) + body[4:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0) + packet[16:20] + packet[12:16]
        return back + ip[:10] + struct.pack("!H", total(ip)) + ip[12:] + body
    body = struct.pack("!BBHI", 2, 0, 0, size_max) + packet[:1180]
    pseudo = packet[24:40] + packet[8:24] + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", total(pseudo + body)) + body[4:]
    return back + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + packet[24:40] + packet[8:24] + body


class Bridge:
    def __init__(self, seed, names):
        self.links = [open_link(name) for name in names]
        self.chance = [random.Random(f"{seed}{side}") for side in (0, 1)]
        self.rules = dict(RULES)
        self.waiting = []  # (due, number, to which link, frame)
        self.number = 0
        names = ("frames", "lost", "duplicated", "reordered", "corrupted", "too_big", "wrong_tag", "not_sent")
        self.counts = dict.fromkeys(names, 0) | {"largest": [0, 0]}  # UDP's IP packets that left, from server and client

    def count(self, name):
        self.counts[name] += 1

    def corrupted(self, chance, frame):
        """One bit, which a checksum sees; or two words that change places behind the headers, which none does."""
        at = chance.randrange(14, len(frame))
        if chance.random() < 0.5 or len(frame) < 80:
            return frame[:at] + bytes([frame[at] ^ 1 << chance.randrange(8)]) + frame[at + 1:]
        a, b = sorted(chance.sample(range(62, len(frame) - 1, 2), 2))
        return frame[:a] + frame[b:b + 2] + frame[a + 2:b] + frame[a:a + 2] + frame[b + 2:]

    def spoil(self, side, frame):
        rules, chance = self.rules, self.chance[side]
        self.count("frames")
        if rules["size_max"] and len(frame) - 14 > rules["size_max"]:
            self.count("too_big")
            if rules["too_big"]:
                self.send_later(side, too_big(frame, rules["size_max"]), 0)
            return
        if chance.random() < rules["loss"]:
            self.count("lost")
            return
        self.counts["largest"][side] = max(self.counts["largest"][side], len(frame) - 14)
        copies = 1 + (chance.random() < rules["duplicate"])
        self.counts["duplicated"] += copies - 1
        for _ in range(copies):
            wait_ms, sent = rules["delay_ms"], frame
            if chance.random() < rules["reorder"]:
                self.count("reordered")
                wait_ms += chance.random() * rules["reorder_ms"]
            if chance.random() < rules["corrupt"]:
                self.count("corrupted")
                sent = self.corrupted(chance, frame)
            self.send_later(1 - side, sent, wait_ms)

    def send_later(self, side, frame, wait_ms):
        if wait_ms == 0:
            self.send(side, frame)
            return
        self.number += 1
        heapq.heappush(self.waiting, (time.monotonic() + wait_ms / 1000, self.number, side, frame))

    def send(self, side, frame):
        if side == 0 and self.rules["vlan"]:
            frame = frame[:12] + struct.pack("!HH", 0x8100, self.rules["vlan"]) + frame[12:]
        try:
            self.links[side].send(frame)
        except OSError:  # the link is down, or full
            self.count("not_sent")

    def take(self, side):
        for _ in range(256):
            try:
                frame = read_frame(self.links[side])
            except OSError:  # nothing more, or the link is down
                return
            if side == 0 and self.rules["vlan"]:
                if frame[12:16] != struct.pack("!HH", 0x8100, self.rules["vlan"]):
                    self.count("wrong_tag")
                    continue
                frame = frame[:12] + frame[16:]
            if is_udp(frame):
                self.spoil(side, frame)
            else:
                self.send(1 - side, frame)

    def take_rules(self):
        line = sys.stdin.readline()
        self.rules |= json.loads(line) if line else {}
        print(json.dumps(self.counts), flush=True)
        return line

    def run(self):
        while True:
            wait = max(0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            ready = select.select([sys.stdin, *self.links], [], [], wait)[0]
            for side, link in enumerate(self.links):
                if link in ready:
                    self.take(side)
            while self.waiting and self.waiting[0][0] <= time.monotonic():
                _, _, side, frame = heapq.heappop(self.waiting)
                self.send(side, frame)
            if sys.stdin in ready and not self.take_rules():
                return


if __name__ == "__main__":
    Bridge(sys.argv[1], sys.argv[2:]).run()

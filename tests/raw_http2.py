"""HTTP/2 by hand, for calls that a gRPC client would not leave half sent."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
FRAME_BYTES = 16_384
FIRST_WINDOW = 65_535


@dataclass
class Http2Connection:
    """A client's connection; what the server says is read by a thread of its own."""

    port: int
    windows: dict[int, int] = field(default_factory=lambda: {0: FIRST_WINDOW})
    ended: set[int] = field(default_factory=set)
    """Streams that the server has ended."""

    def __post_init__(self) -> None:
        self._news = threading.Condition()
        self._sending = threading.Lock()
        self._closed = False
        self._first_window = FIRST_WINDOW
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def open(self, stream: int, path: str, **headers: str) -> None:
        """Begin a call."""
        named = {"content-type": "application/grpc", "te": "trailers", **headers}
        block = b"\x83\x86\x04" + _text(path) + b"\x01" + _text("localhost")
        block += b"".join(b"\0" + _text(name) + _text(value) for name, value in named.items())
        with self._news:
            self.windows[stream] = self._first_window
        self._write(_frame(HEADERS, 4, stream, block))

    def send(self, stream: int, data: bytes, seconds: float = 20) -> int:
        """Send as the server's windows allow; how much, before it ended the stream or took no more
        for so many seconds."""
        sent = 0
        while sent < len(data):
            with self._news:
                self._news.wait_for(lambda: self._room(stream) > 0 or self._over(stream), seconds)
                room = self._room(stream)
                if room <= 0 or self._over(stream):
                    return sent
                piece = data[sent : sent + min(room, FRAME_BYTES)]
                self.windows[0] -= len(piece)
                self.windows[stream] -= len(piece)
            try:
                self._write(_frame(DATA, 0, stream, piece))
            except OSError:
                return sent
            sent += len(piece)
        return sent

    def close(self) -> None:
        """End it."""
        with suppress(OSError):  # the server was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def _write(self, frame: bytes) -> None:
        with self._sending:
            self._socket.sendall(frame)

    def _room(self, stream: int) -> int:
        return min(self.windows[0], self.windows[stream])

    def _over(self, stream: int) -> bool:
        return self._closed or stream in self.ended

    def _read(self) -> None:
        received = b""
        while True:
            try:
                more = self._socket.recv(65_536)
            except OSError:
                more = b""
            if not more:
                break
            received += more
            while len(received) >= 9:
                end = 9 + int.from_bytes(received[:3])
                if len(received) < end:
                    break
                with suppress(OSError):  # the server has gone before it got an answer
                    self._take(received[:end])
                received = received[end:]
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _take(self, frame: bytes) -> None:
        kind, flags, stream = frame[3], frame[4], int.from_bytes(frame[5:9])
        payload = frame[9:]
        with self._news:
            if kind == WINDOW_UPDATE:
                self.windows[stream] = self.windows.get(stream, 0) + int.from_bytes(payload)
            elif kind == SETTINGS and not flags & 1:
                self._set(payload)
                self._write(_frame(SETTINGS, 1, 0))
            elif kind == PING and not flags & 1:
                self._write(_frame(PING, 1, 0, payload))
            elif kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & 1):
                self.ended.add(stream)
            self._news.notify_all()

    def _set(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 4:  # SETTINGS_INITIAL_WINDOW_SIZE
                change = value - self._first_window
                self._first_window = value
                self.windows = {s: w + change * bool(s) for s, w in self.windows.items()}


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _text(value: str) -> bytes:
    assert len(value) < 127
    return bytes([len(value)]) + value.encode()

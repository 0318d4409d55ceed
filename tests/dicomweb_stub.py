"""A small DICOMweb server for tests, with faults to order; it has all in memory, and answers on this machine alone."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from urllib.parse import parse_qs, urlsplit

import pydicom

LEVELS = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}
TOLD = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "StudyDate")


class Stub:
    """What the server has, and was asked for.

    `faults`: what happens to requests whose "METHOD path" matches a pattern: a status of HTTP, "hang", "cut" (half of
    the answer), "refuse" (STOW-RS: 200 with a FailedSOPSequence), "lose" (stored, and the answer is a 409), "silent"
    (200 without a word), "other" (another image than that asked for), "text" (no DICOMweb).
    """

    def __init__(self):
        """An empty server without faults."""
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, int | str] = {}
        self.asked: list[str] = []
        self.stored: list[str] = []
        self.signed: list[str | None] = []
        self.released = Event()

    def add(self, path: Path) -> None:
        """Give it a file."""
        self.files[str(pydicom.dcmread(path).SOPInstanceUID)] = path.read_bytes()

    def datasets(self) -> list[pydicom.Dataset]:
        """All that it has."""
        return [pydicom.dcmread(BytesIO(file), force=True) for file in self.files.values()]

    def answer(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, str, bytes]:
        """Status, type and body of an answer."""
        fault = next((fault for pattern, fault in self.faults.items() if re.search(pattern, f"{method} {path}")), None)
        if isinstance(fault, int):
            return fault, "text/plain", b"SYNTHETIC^SECRET was refused"
        if fault == "hang":
            self.released.wait(20)
        if fault == "text":
            return 200, "text/html", b"<html>welcome</html>"
        if method == "POST":
            return self._store(body, kind, fault)
        parts = urlsplit(path).path.strip("/").split("/")[1:]
        given = {LEVELS[level]: uid for level, uid in zip(parts[::2], parts[1::2], strict=False)}
        if "SOPInstanceUID" in given:
            uid = given["SOPInstanceUID"]
            uid = next(each for each in self.files if each != uid) if fault == "other" else uid
            return 200, "multipart/related; boundary=xx", _multipart(self.files[uid])
        query = {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()}
        offset = int(query.pop("offset", 0))
        query.pop("limit", None)
        found = {}
        for each in self.datasets():
            if all(str(each.get(key)) == value for key, value in (given | query).items()):
                tags = {pydicom.datadict.tag_for_keyword(keyword): str(each.get(keyword, "")) for keyword in TOLD}
                found[each[LEVELS[parts[-1]]].value] = {f"{tag:08X}": {"Value": [tags[tag]]} for tag in tags}
        rows = list(found.values())[offset:]
        return 200, "application/dicom+json", json.dumps(rows).encode()

    def _store(self, body: bytes, kind: str, fault: str | None) -> tuple[int, str, bytes]:
        answer = pydicom.Dataset()
        answer.ReferencedSOPSequence, answer.FailedSOPSequence = [], []
        boundary = re.search('boundary="?([^";]+)', kind)[1]
        for part in body.split(f"--{boundary}".encode())[1:-1]:
            file = part[part.index(b"\r\n\r\n") + 4 : -2]
            uid = str(pydicom.dcmread(BytesIO(file)).SOPInstanceUID)
            item = pydicom.Dataset()
            item.ReferencedSOPInstanceUID = uid
            if fault == "refuse":
                item.FailureReason = 0xA700
                answer.FailedSOPSequence.append(item)
            else:
                self.files[uid] = file
                self.stored.append(uid)
                answer.ReferencedSOPSequence.append(item)
        if fault == "silent":
            self.files = {uid: file for uid, file in self.files.items() if uid not in self.stored}
            return 200, "text/plain", b""
        return 409 if fault == "lose" else 200, "application/dicom+json", answer.to_json().encode()


def _multipart(file: bytes) -> bytes:
    return b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--xx--\r\n"


@contextmanager
def serve(stub: Stub) -> Iterator[str]:
    """Run it; yields the root of its services."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond("GET")

        def do_POST(self) -> None:
            self._respond("POST")

        def _respond(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            stub.asked.append(f"{method} {self.path}")
            stub.signed.append(self.headers.get("Authorization"))
            status, kind, answer = stub.answer(method, self.path, body, self.headers.get("Content-Type", ""))
            cut = "cut" in [fault for pattern, fault in stub.faults.items() if re.search(pattern, stub.asked[-1])]
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer[: len(answer) // 2] if cut else answer)
            except (BrokenPipeError, ConnectionResetError):
                pass  # who asked has waited long enough

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/web"
    finally:
        stub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()

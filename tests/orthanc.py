"""A real DICOMweb server for tests: Orthanc with its plug-in, from Debian's packages, on this machine alone."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def why_not() -> str:
    """The reason why it cannot be started here; "" where it can."""
    if program() and PLUGIN.exists():
        return ""
    return "Orthanc with its DICOMweb plug-in is not installed (apt-get install orthanc orthanc-dicomweb)"


def program() -> str | None:
    """Its path, also where /usr/sbin is not searched."""
    return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Orthanc:
    """A server with its files in a folder; `url` is the root of its DICOMweb services."""

    def __init__(self, folder: Path):
        """Choose a port, which it keeps when it is started again."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.process = folder, None
        self.root, self.url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "orthanc.json").write_text(json.dumps(settings))
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([program(), self.folder / "orthanc.json"], stdout=log, stderr=log)
        for _ in range(150):
            try:
                return self.ask("/system") and None
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text())

    def stop(self) -> None:
        """End it; its files stay."""
        self.process.terminate()
        self.process.wait()

    def ask(self, path: str, body: bytes | None = None) -> object:
        """The answer of its own interface, which is not DICOMweb."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.root + path, body, timeout=20) as answer:
            return json.load(answer)

    def add(self, files: Iterable[Path]) -> None:
        """Store files through its own interface."""
        for file in files:
            self.ask("/instances", file.read_bytes())

    def instances(self) -> list[dict[str, str]]:
        """A few attributes of everything that it has."""
        found = []
        for uid in self.ask("/instances"):
            found.append(self.ask(f"/instances/{uid}/simplified-tags"))
        return found

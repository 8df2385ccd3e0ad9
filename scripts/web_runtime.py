"""Write what src/trainyard/web/runtime/ holds anew: the runtime of the pages that `trainyard web` makes.

    python scripts/web_runtime.py onnxruntime-web-1.30.0.tgz     from the package's own archive
    python scripts/web_runtime.py --pack 1.30.0                  fetched by `npm pack`

The same archive gives the same files. lock.json beside them has the archive's hash, as npm states it, and theirs. The notices
are those of the onnxruntime that is installed here: the archive has none, and both are built from one repository.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import subprocess
import tarfile
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

NAME = "onnxruntime-web"
RUNTIME = Path(__file__).parents[1] / "src" / "trainyard" / "web" / "runtime"
TAKEN = {
    "ort.wasm.bundle.min.js": "dist/ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm.gz": "dist/ort-wasm-simd-threaded.wasm",
}
"""By what they are called here. Scripts end with .js, which every host knows for what it is."""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", nargs="?", type=Path, help="a file that npm packed")
    parser.add_argument("--pack", metavar="VERSION", help="have npm fetch this version")
    arguments = parser.parse_args()
    if (arguments.archive is None) == (arguments.pack is None):
        parser.error("name an archive, or a version to --pack")
    with tempfile.TemporaryDirectory() as folder:
        write(arguments.archive or fetched(arguments.pack, Path(folder)))


def fetched(wanted: str, folder: Path) -> Path:
    """Return the archive of a version, from where npm is set up to fetch it."""
    subprocess.run(["npm", "pack", f"{NAME}@{wanted}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    [archive] = folder.glob("*.tgz")
    return archive


def write(archive: Path) -> None:
    """Take the files out of an archive."""
    with tarfile.open(archive) as packed:

        def member(name: str) -> bytes:
            file = packed.extractfile(f"package/{name}")
            if file is None:
                raise SystemExit(f"{archive}: holds no {name}")
            return file.read()

        about = json.loads(member("package.json"))
        if (about["name"], about["license"]) != (NAME, "MIT"):
            raise SystemExit(f"{archive}: is {about['name']} under {about['license']}, expected {NAME} under MIT")
        files = {name: member(source) for name, source in TAKEN.items()}
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:
        raise SystemExit("onnxruntime: is not installed here; its notices are needed")
    installed = Path(found.origin).parent
    files["LICENSE.txt"] = (installed / "LICENSE").read_bytes()
    files["notices.txt.gz"] = (installed / "ThirdPartyNotices.txt").read_bytes()
    entries = {}
    RUNTIME.mkdir(exist_ok=True)
    for name, content in files.items():
        written = gzip.compress(content, 9, mtime=0) if name.endswith(".gz") else content
        (RUNTIME / name).write_bytes(written)
        entries[name] = {"sha256": hashlib.sha256(written).hexdigest(), "bytes": len(written)}
        if written is not content:
            entries[name]["unpacked_sha256"] = hashlib.sha256(content).hexdigest()
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    lock = {
        "name": NAME,
        "version": about["version"],
        "integrity": f"sha512-{digest}",
        "notices_of": f"onnxruntime {version('onnxruntime')}",
        "files": entries,
    }
    (RUNTIME / "lock.json").write_text(f"{json.dumps(lock, indent=2)}\n")
    for name, entry in entries.items():
        print(f"{name}: {entry['bytes']:,} bytes")


if __name__ == "__main__":
    main()

"""Which h5py reads the committed logs: installs each version aside, reads all of them, compares the tables.

python tests/h5py_matrix.py [3.11.0 3.12.1 …]     (needs a package index; no test calls it)
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11.0", "3.12.1", "3.13.0", "3.14.0", "3.15.1", "3.16.0")


def digests() -> dict[str, str]:
    """SHA-256 of every log's records and tables, by the name of the log."""
    from helpers.logger import read_log
    from helpers.utils import load_log

    found = {}
    for path in sorted((ROOT / "logs").glob("*.hdf5")):
        digest, log, tables = hashlib.sha256(), read_log(path), load_log(path)
        for key, record in log.records.items():
            digest.update(json.dumps([key, record.row, record.config, record.provenance]).encode())
            for name, values in (record.curves | record.arrays).items():
                digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
        for table in (tables.results, tables.curves):
            digest.update(table.to_csv().encode())
        found[path.stem] = digest.hexdigest()
    return found


def digests_under(version: str) -> dict[str, str]:
    """The same, as this version of h5py reads them; empty where it cannot be installed or fails (told)."""
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, str(ROOT)])}
        for call in ([*install, f"h5py=={version}"], [sys.executable, __file__, "--digests"]):
            done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
            if done.returncode:
                print((done.stderr.strip().splitlines() or ["no message"])[-1], file=sys.stderr)
                return {}
    return json.loads(done.stdout)


def main() -> int:
    """A line a version; exit code 1 where one does not read every log alike."""
    if "--digests" in sys.argv:
        print(json.dumps(digests()))
        return 0
    expected, is_right = digests(), True
    for version in sys.argv[1:] or VERSIONS:
        found = digests_under(version)
        same = sum(found.get(name) == digest for name, digest in expected.items())
        is_right &= same == len(expected)
        print(f"h5py {version}: {len(found)} of {len(expected)} logs read, {same} equal")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())

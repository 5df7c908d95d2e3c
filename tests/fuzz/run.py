# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of the wire codecs, of the machines and of the WIM reader, by atheris (libFuzzer).

    pip install atheris
    python -m tests.fuzz.run receiver 600            for 600 s; what adds coverage is kept in tests/data/fuzz/receiver.zip
    python -m tests.fuzz.run receiver crash-1234…    what a crash left behind, once more

CI replays the corpus without atheris (test_corpus.py).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CORPUS = Path(__file__).resolve().parent.parent / "data" / "fuzz"


def read_corpus(target: str) -> dict[str, bytes]:
    """The inputs that are kept for a target, by name."""
    path = CORPUS / f"{target}.zip"
    if not path.exists():
        return {}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_corpus(target: str, folder: Path) -> int:
    """Keep what is in a folder; the same inputs make the same file. Returns how many there are."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    inputs = sorted(folder.iterdir())
    with zipfile.ZipFile(CORPUS / f"{target}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in inputs:
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return len(inputs)


def fuzz(target: str, seconds: int) -> int:
    """Run the fuzzer and keep what it found. Returns its exit code."""
    with tempfile.TemporaryDirectory() as directory:
        for name, content in (read_corpus(target) or _seeds(target)).items():
            Path(directory, name).write_bytes(content)
        options = ["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", f"-max_total_time={seconds}"]
        code = _run_child(target, *options, directory)
        print(f"{target}: {write_corpus(target, Path(directory))} inputs kept")
        return code


def _seeds(target: str) -> dict[str, bytes]:
    """Where the fuzzer begins when there is no corpus."""
    from tests.fuzz.targets import SEEDS

    return {f"seed-{number}": seed for number, seed in enumerate(SEEDS.get(target, ()))}


def _run_child(target: str, *options: str) -> int:
    return subprocess.run([sys.executable, "-m", "tests.fuzz.run", "--child", target, *options], check=False).returncode


def _be_child(target: str, options: list[str]) -> None:
    """Never returns."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with atheris.instrument_imports(include=["dpd.protocol", "dpd.content.wim"]):
        from tests.fuzz.targets import MAX_BYTES, TARGETS
    atheris.Setup([sys.argv[0], f"-max_len={MAX_BYTES[target]}", *options], TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    """Fuzz, or replay one file."""
    if sys.argv[1] == "--child":
        _be_child(sys.argv[2], sys.argv[3:])
    target, what = sys.argv[1], sys.argv[2]
    if what.isdigit():
        return fuzz(target, int(what))
    from tests.fuzz.targets import TARGETS

    TARGETS[target](Path(what).read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())

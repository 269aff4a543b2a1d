"""What a GPU makes of `cifar`, in one command that downloads nothing.

    python -m benchmarks.gpu --minutes 10 [--data FOLDER or FILE] [--out FOLDER]
    python -m benchmarks.gpu pack FOLDER FILE.tar.xz     CIFAR-10 as images, in one small file
    python -m benchmarks.gpu page FOLDER                 the page again, of a run that was cut off

Figures are JSON lines in OUT/gpu.jsonl, written as they come; OUT/gpu.md is their page. Without
--data images of the same shape are generated: for timings, for accuracies then mean nothing.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trainers.errors import UserError

_LEAST_MINUTES, _MOST_MINUTES = 0.5, 24 * 60


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without its usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def _minutes(text: str) -> float:
    value = float(text)
    if not _LEAST_MINUTES <= value <= _MOST_MINUTES:
        raise argparse.ArgumentTypeError(
            f"must lie between {_LEAST_MINUTES} and {_MOST_MINUTES}, got {text}"
        )
    return value


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    from benchmarks.gpu.parts import PARTS

    parser = _Parser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="auto, cuda, cpu or mps")
    parser.add_argument("--data", type=Path, help="CIFAR-10: a folder, or a file of `pack`")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-benchmark"), help="default: %(default)s"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="default: all parts")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 done, 2 something to fix, 130 interrupted."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given[:1] == ["pack"]:
            return _pack(given[1:])
        if given[:1] == ["page"]:
            return _page(given[1:])
        return _bench(_arguments(given))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _pack(given: Sequence[str]) -> int:
    from benchmarks.gpu.images import pack

    parser = _Parser(prog="python -m benchmarks.gpu pack")
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    asked = parser.parse_args(given)
    print(f"{asked.file}: {pack(asked.folder, asked.file):.1f} MB")
    return 0


def _page(given: Sequence[str]) -> int:
    parser = _Parser(prog="python -m benchmarks.gpu page")
    parser.add_argument("folder", type=Path)
    return _written(parser.parse_args(given).folder)


def _written(out: Path) -> int:
    from benchmarks.gpu.page import page

    lines = out / "gpu.jsonl"
    if not lines.is_file():
        raise UserError(f"{lines} is not there: `python -m benchmarks.gpu --out {out}` writes it")
    text = page(lines)
    (out / "gpu.md").write_text(text)
    print(text)
    return 0


def _bench(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    from benchmarks.gpu.images import ready
    from benchmarks.gpu.machine import decode, machine
    from benchmarks.gpu.parts import PARTS, Bench
    from benchmarks.gpu.setting import Setting
    from trainers.device import resolve_device

    device = resolve_device(asked.device)
    _fresh(asked.out)
    with tempfile.TemporaryDirectory(prefix="gpu-", ignore_cleanup_errors=True) as folder:
        work, whole_s = Path(folder), asked.minutes * 60
        data, images = ready(asked.data, work / "images", full=device == "cuda")
        bench = Bench(
            setting=Setting(device=device, data=data, cache=work / "cache"),
            out=asked.out.absolute(),
            work=work,
            ends_at=began + whole_s,
        )
        try:
            machine(bench, images)
            decode(bench)
            for name, (part, share) in PARTS.items():
                if not asked.only or name in asked.only:
                    part(bench, share * whole_s)
        finally:
            _written(asked.out)
    return 0


def _fresh(out: Path) -> None:
    """Make the folder of the figures; raise UserError where earlier ones are in it."""
    lines = out / "gpu.jsonl"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lines.touch()
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    if lines.stat().st_size:
        raise UserError(f"--out {out}: holds figures already; give a new folder")


if __name__ == "__main__":
    sys.exit(main())

"""Clips to copy from, and an empty benchmark folder."""

from pathlib import Path

import clips
import pytest
from datafolder import Folder, clip, with_a_lost_frame

Kind, write = clips.Kind, clips.write


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Different clips to copy from."""
    folder = tmp_path_factory.mktemp("stock")
    for number in range(1, 40):
        clip(folder / f"{number}.mp4", number)
    clip(folder / "short.mp4", 40, frames=5)
    for name, codec in (("half.wmv", "wmv2"), ("half.mpg", "mpeg1video")):
        content = write(folder / name, Kind(Path(name).suffix, codec), rate=25).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2 + 100])
    with_a_lost_frame(folder / "lost.mkv")
    return folder


@pytest.fixture
def folder(tmp_path: Path, stock: Path) -> Folder:
    return Folder(tmp_path / "data", stock)

"""Needs buildah: looks into the layers of each built image, which hold what is needed to run and nothing of how they were built."""

import io
import json
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from testbed.images import PROJECT_IMAGES, ImageStore
from testbed.settings import Settings

_UNWANTED = re.compile(
    r"(.*/)?bin/([^/]*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|clang\+\+|ld|as|make|go|rustc|cargo|pip)[0-9.]*(-[0-9.]+)?"  # compilers, pip
    r"|.*/(site|dist)-packages/(pip|setuptools|wheel)/.*|.*/ensurepip/.*"
    r"|var/lib/apt/lists/.+_(Packages|Sources|InRelease|Release|Translation-.*)|var/cache/apt/.+\.(bin|deb)"
    r"|(.*/)?\.cache/.+|(.*/)?pip\.conf|.*\.whl"
)
_BORROWED = re.compile(r"mnt/.+|etc/apt/sources\.list|etc/apt/apt\.conf")
"""Where a build step sees settings of the machine; what an image has there must be empty."""
_HEADERS = re.compile(r"usr/include/(stdio|stdlib|Python|x86_64-linux-gnu/.+)\.h")


def unwanted(layers: Iterable[Path]) -> list[str]:
    """Return the files that no layer should hold; one that a later layer deletes is still shipped, so each layer counts."""
    found = []
    for layer in layers:
        with tarfile.open(layer) as archive:
            for entry in archive:
                name = entry.name.removeprefix("./").lstrip("/")
                lent = entry.isfile() and entry.size > 0 and _BORROWED.fullmatch(name)
                if not entry.isdir() and (lent or _UNWANTED.fullmatch(name) or _HEADERS.fullmatch(name)):
                    found.append(name)
    return sorted(found)


@pytest.fixture(scope="module")
def layers() -> dict[str, list[Path]]:
    """The layers of each image, uncompressed as they lie in the cache."""
    store = ImageStore(Settings.from_env().cache, print)
    found = {}
    for name, image in zip(PROJECT_IMAGES, store.ensure(), strict=True):
        manifest = json.loads(store.blobs.path(image.manifest).read_text())
        found[name] = [store.blobs.path(layer["digest"]) for layer in manifest["layers"]]
    return found


@pytest.mark.parametrize("image", PROJECT_IMAGES)
def test_an_image_holds_no_compiler_pip_package_list_or_setting_of_the_builder(layers: dict[str, list[Path]], image: str) -> None:
    assert len(layers[image]) > 1
    assert unwanted(layers[image]) == []


def test_what_must_not_be_there_would_be_found(tmp_path: Path) -> None:
    bad = [
        "etc/apt/apt.conf",
        "mnt/pip.conf",
        "opt/venv/bin/pip3.13",
        "opt/venv/lib/python3.13/site-packages/pip/__init__.py",
        "root/.cache/pip/http/1",
        "usr/bin/x86_64-linux-gnu-gcc-14",
        "usr/include/stdio.h",
        "var/cache/apt/archives/gcc_14_amd64.deb",
        "var/lib/apt/lists/mirror_dists_trixie_InRelease",
    ]
    good = [
        "opt/venv/bin/python",
        "usr/bin/tini",
        "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
        "var/lib/apt/lists/partial",
        "usr/bin/pg_config",
    ]
    with tarfile.open(tmp_path / "layer", "w") as archive:
        for name in [*bad, *good]:
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"x"))
        archive.addfile(tarfile.TarInfo("etc/apt/sources.list"))  # an empty one is where the builder's was seen
    assert unwanted([tmp_path / "layer"]) == bad

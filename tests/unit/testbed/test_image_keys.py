"""Needs nothing: an image's key follows exactly what it is made from, and a node is sent only what it lacks."""

import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from testbed import images
from testbed.blobs import Blobs, Image, Index


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("a")
    (tmp_path / "entry").write_text("#!/bin/sh")
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY --chmod=0755 entry /bin/\nCOPY code /opt/code\nCOPY --from=build /venv /venv\n")
    return tmp_path


def key(checkout: Path, base: str = "base") -> str:
    return images.content_key(checkout / "Dockerfile", base, "1.0")


def test_the_same_content_is_the_same_key_whatever_the_clock_says(checkout: Path) -> None:
    before = key(checkout)
    os.utime(checkout / "code/a.py", (0, 0))
    (checkout / "unrelated").write_text("x")
    (checkout / "code/__pycache__").mkdir()
    (checkout / "code/__pycache__/a.pyc").write_text("x")
    assert key(checkout) == before


def test_every_input_changes_the_key(checkout: Path) -> None:
    seen = {key(checkout), key(checkout, "another base")}
    (checkout / "code/a.py").write_text("b")
    seen.add(key(checkout))
    (checkout / "code/a.py").chmod(0o755)
    seen.add(key(checkout))
    (checkout / "code/a.py").rename(checkout / "code/b.py")
    seen.add(key(checkout))
    (checkout / "Dockerfile").write_text((checkout / "Dockerfile").read_text() + "USER 1\n")
    seen.add(key(checkout))
    assert len(seen) == 6


def test_a_copy_of_what_is_not_there_is_named(checkout: Path) -> None:
    (checkout / "Dockerfile").write_text("COPY gone /x\n")
    with pytest.raises(FileNotFoundError, match="copies gone"):
        key(checkout)


@pytest.mark.parametrize("image", images.PROJECT_IMAGES)
def test_the_project_has_what_its_dockerfiles_copy_and_docker_is_sent_it(image: str) -> None:
    ignored = (images.ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    for path in images.copied_paths(images.ROOT / f"Dockerfile.{image}"):
        name = str(path.relative_to(images.ROOT))
        assert any(name == prefix or name.startswith(f"{prefix}/") for prefix in allowed), f"{name} is not in .dockerignore's list"


@pytest.mark.parametrize("image", images.PROJECT_IMAGES)
def test_images_run_as_the_contracts_user_and_are_labelled(image: str) -> None:
    text = (images.ROOT / f"Dockerfile.{image}").read_text()
    uid = {"operator": 10000, "runtime": 10001, "postgres": 10002, "redis": 10003}[image]
    assert f"USER {uid}:{uid}" in text
    assert 'ENTRYPOINT ["tini", "--"' in text
    assert "org.opencontainers.image.version" in text
    assert text.split("FROM")[0].strip().endswith("ARG BASE_IMAGE=debian:trixie-slim")
    assert ":latest" not in text


def put(directory: Path, data: bytes) -> str:
    directory.mkdir(exist_ok=True)
    name = hashlib.sha256(data).hexdigest()
    (directory / name).write_bytes(data)
    return f"sha256:{name}"


def make_image(directory: Path, *layers: bytes) -> str:
    digests = [put(directory, layer) for layer in layers]
    manifest = {"config": {"digest": put(directory, b"{}")}, "layers": [{"digest": digest} for digest in digests]}
    return put(directory, json.dumps(manifest).encode())


def test_an_archive_lacks_what_the_reader_has_and_holds_shared_layers_once(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    first, second = make_image(tmp_path / "blobs", b"base", b"one"), make_image(tmp_path / "blobs", b"base", b"two")
    base = f"sha256:{hashlib.sha256(b'base').hexdigest()}"
    made = [Image("localhost/a:1", "localhost/a:c-1", first), Image("localhost/b:1", "localhost/b:c-2", second)]

    def names(present: set[str]) -> list[str]:
        target = io.BytesIO()
        blobs.write_archive(made, present, target)
        with tarfile.open(fileobj=io.BytesIO(target.getvalue())) as archive:
            index = archive.extractfile("index.json")
            assert index is not None
            entries = json.load(index)["manifests"]
            assert [entry["annotations"]["io.containerd.image.name"] for entry in entries] == ["localhost/a:c-1", "localhost/b:c-2"]
            return archive.getnames()

    everything = names(set())
    assert everything.count(f"blobs/sha256/{base[7:]}") == 1
    rest = names({base, first})
    assert f"blobs/sha256/{base[7:]}" not in rest
    assert f"blobs/sha256/{first[7:]}" in rest, "the index names it, so readers want it"


def test_an_image_with_a_lost_layer_is_not_complete(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    manifest = make_image(tmp_path, b"layer")
    assert blobs.complete(manifest)
    blobs.path(f"sha256:{hashlib.sha256(b'layer').hexdigest()}").unlink()
    assert not blobs.complete(manifest)
    assert not blobs.complete("sha256:" + "0" * 64)


def test_pruning_keeps_what_is_needed_and_what_is_young(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    kept, dropped = make_image(tmp_path, b"base", b"kept"), make_image(tmp_path, b"base", b"dropped")
    old = time.time() - 10 * 86_400
    for path in tmp_path.iterdir():
        os.utime(path, (old, old))
    young = put(tmp_path, b"young")
    blobs.prune([kept])
    assert blobs.complete(kept)
    assert not blobs.path(dropped).exists()
    assert blobs.path(young).exists()


def test_the_index_forgets_the_oldest_builds(tmp_path: Path) -> None:
    index = Index(tmp_path)
    for number in range(4):
        index.put("runtime", f"k{number}", f"sha256:{number}")
        os.utime(tmp_path / f"runtime@k{number}", (number, number))
    index.forget_all_but("runtime", 2)
    assert [index.get("runtime", f"k{number}") for number in range(4)] == [None, None, "sha256:2", "sha256:3"]
    assert sorted(index.manifests()) == ["sha256:2", "sha256:3"]

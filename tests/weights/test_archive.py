"""Archives: the good ones are read, the hostile ones refused by name before anything is unpacked, nothing stays."""

from __future__ import annotations

import gzip
import io
import shutil
import stat
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.errors import HalbertError, InputError
from halbert.source import load_bundle, resolve_bundle
from halbert.weights import archive
from tests import tiny
from tests.weights.tensorflow1 import GOLDEN


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where archives are unpacked; empty again after every test."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


def zipped(path: Path, folder: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(folder.rglob("*")):
            target.write(file, prefix + str(file.relative_to(folder)))
    return path


def tarred(path: Path, folder: Path, prefix: str = "") -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as target:
        for file in sorted(folder.rglob("*")):
            target.add(file, prefix + str(file.relative_to(folder)), recursive=False)
    return path


@pytest.mark.parametrize("name", ["bert", "albert", "hub"])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tgz", ".tar"])
@pytest.mark.parametrize("prefix", ["", "uncased_L-3_H-15_A-3/"])
def test_a_release_in_an_archive(tmp_path, name, suffix, prefix):
    pack = zipped if suffix == ".zip" else tarred
    bundle = resolve_bundle(pack(tmp_path / f"model{suffix}", GOLDEN / name, prefix), hashed=True)
    plain = load_bundle(GOLDEN / name)
    assert bundle.spec == plain.spec and bundle.heads == plain.heads
    assert all(np.array_equal(array, plain.arrays[key]) for key, array in bundle.arrays.items())
    assert (
        bundle.provenance["archive"]["name"] == f"model{suffix}" and len(bundle.provenance["archive"]["sha256"]) == 64
    )
    assert set(bundle.provenance["weights"]) >= {f.name for f in (GOLDEN / name).rglob("*.index")}
    assert bundle.folder is None


def test_a_bundle_in_an_archive(tmp_path):
    saved = tiny.bundle(heads={n: tiny.HEADS[n] for n in ("label", "score")}).save(tmp_path / "model")
    bundle = resolve_bundle(zipped(tmp_path / "model.zip", saved))
    assert list(bundle.heads) == ["label", "score"] and bundle.name == "model"


def test_errors_name_the_archive_not_the_scratch_folder(tmp_path, scratch):
    place = tmp_path / "m.zip"
    with zipfile.ZipFile(place, "w") as target:
        for file in (GOLDEN / "bert").iterdir():
            if not file.name.endswith("00001"):
                target.write(file, file.name)
    with pytest.raises(InputError) as raised:
        resolve_bundle(place)
    assert str(raised.value).startswith(f"{place}/bert_model.ckpt.data-00000-of-00001: no such file")
    assert str(scratch) not in str(raised.value)


def member(name: str, kind: bytes = tarfile.REGTYPE, **others: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in others.items():
        setattr(info, key, value)
    return info


def tar_of(*members: tarfile.TarInfo, data: bytes = b"") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with tarfile.open(folder / "bad.tar.gz", "w:gz") as target:
            for info in members:
                if info.isreg():
                    info.size = info.size or len(data)
                target.addfile(info, io.BytesIO(data.ljust(info.size, b"\0")))
        return folder / "bad.tar.gz"

    return make


def zip_of(*names: str, mode: int = 0, data: bytes = b"x", repeat: int = 1) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "bad.zip", "w", zipfile.ZIP_DEFLATED) as target:
            for name in names * repeat:
                info = zipfile.ZipInfo(name)
                info.external_attr = mode << 16
                target.writestr(info, data, zipfile.ZIP_DEFLATED)
        return folder / "bad.zip"

    return make


def encrypted(folder: Path) -> Path:
    path = zip_of("vocab.txt")(folder)
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the local header, and the one in the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    return path


def long_header(folder: Path) -> Path:
    """A tar whose extended header claims 8 GB."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    with gzip.open(folder / "bad.tar.gz", "wb") as target:
        target.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            target.write(bytes(1 << 20))
    return folder / "bad.tar.gz"


def bomb_in_a_skipped_member(folder: Path) -> Path:
    info = tarfile.TarInfo("graph.meta")
    info.size = 1 << 29
    with gzip.open(folder / "bad.tar.gz", "wb", compresslevel=1) as target:
        target.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(512):
            target.write(bytes(1 << 20))
    return folder / "bad.tar.gz"


def cut(pack: Callable[[Path, Path], Path], name: str, share: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = pack(folder / name, GOLDEN / "bert")
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        return path

    return make


def several(folder: Path) -> Path:
    with tarfile.open(folder / "bad.tar.gz", "w:gz") as target:
        target.add(GOLDEN / "bert", "one")
        target.add(GOLDEN / "albert", "two")
    return folder / "bad.tar.gz"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "tar: absolute path": (tar_of(member("/etc/vocab.txt")), "leads outside: '/etc/vocab.txt'"),
    "tar: parent": (tar_of(member("a/../../vocab.txt")), "leads outside"),
    "tar: symbolic link": (
        tar_of(member("vocab.txt", tarfile.SYMTYPE, linkname="/etc/passwd")),
        "'vocab.txt' is a link",
    ),
    "tar: hard link": (tar_of(member("vocab.txt", tarfile.LNKTYPE, linkname="x")), "is a link"),
    "tar: device": (tar_of(member("vocab.txt", tarfile.CHRTYPE)), "device"),
    "tar: pipe": (tar_of(member("vocab.txt", tarfile.FIFOTYPE)), "device"),
    "tar: twice": (tar_of(member("a/vocab.txt"), member("a/vocab.txt"), data=b"x"), "holds vocab.txt twice"),
    "tar: a file as a folder": (tar_of(member("vocab.txt"), member("vocab.txt/vocab.txt"), data=b"x"), "vocab.txt"),
    "tar: bomb": (tar_of(member("vocab.txt", size=200 << 20)), "unpacks to more than 67,108,864 bytes"),
    "tar: bomb in a skipped member": (bomb_in_a_skipped_member, "unpacks to more than"),
    "tar: header of 8 GB": (long_header, "a header of 8,589,934,592 bytes"),
    "tar: truncated": (cut(tarred, "bad.tar.gz", 0.7), "cannot be unpacked"),
    "tar: no model": (tar_of(member("readme.txt"), data=b"x"), "holds no model"),
    "tar: two models": (several, r"holds 2 models \(one, two\)"),
    "zip: absolute path": (zip_of("/etc/vocab.txt"), "leads outside"),
    "zip: parent": (zip_of("../vocab.txt"), "leads outside"),
    "zip: backslash": (zip_of("..\\vocab.txt"), "leads outside"),
    "zip: symbolic link": (zip_of("vocab.txt", mode=stat.S_IFLNK | 0o777), "is a link"),
    "zip: device": (zip_of("vocab.txt", mode=stat.S_IFCHR | 0o600), "is a link or device"),
    "zip: bomb": (zip_of("vocab.txt", data=bytes(200 << 20)), "unpacks to more than"),
    "zip: many bombs": (zip_of(*(f"{i}/vocab.txt" for i in range(200)), data=bytes(1 << 20)), "unpacks to more than"),
    "zip: too many members": (zip_of(*(f"{i}.x" for i in range(10_001))), "more than 10,000 members"),
    "zip: encrypted": (encrypted, "'vocab.txt' is encrypted"),
    "zip: truncated": (cut(zipped, "bad.zip", 0.9), "cannot be unpacked"),
    "zip: no model": (zip_of("readme.md"), "holds no model"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_and_damaged_archives(tmp_path, name):
    make, message = BAD[name]
    path = make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message) as raised:
            resolve_bundle(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(raised.value).startswith(str(path))
    assert peak < 40 << 20
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "scratch"])


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_members_zipfile_unpacks_without_a_limit(tmp_path, way):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", way) as archive:
        archive.writestr("config.json", b"{}")
    with pytest.raises(InputError, match="packed by another way than deflate"):
        resolve_bundle(tmp_path / "bad.zip")


def test_what_lies_above_a_checkpoint_is_not_its_own(tmp_path):
    """An archive unpacks beside other users' folders; only a TF-Hub module has its assets above its variables."""
    shutil.copytree(GOLDEN / "bert", tmp_path / "model")
    (tmp_path / "assets").mkdir()
    for file in (tmp_path / "model").glob("vocab*"):
        shutil.move(file, tmp_path / "assets" / file.name)
    with pytest.raises(InputError, match="vocab"):
        resolve_bundle(tmp_path / "model")


def test_a_wrong_checksum_inside_a_zip(tmp_path):
    path = zipped(tmp_path / "bad.zip", GOLDEN / "bert")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as opened:
        info = opened.getinfo("bert_model.ckpt.data-00000-of-00001")
    data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"bad\.zip: cannot be unpacked"):
        resolve_bundle(path)


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\3\4", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"hello", bytes(range(190, 254))]
)
def test_mislabelled_files(tmp_path, data):
    for name in ("model.zip", "model.tar.gz"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=rf"{name}: (cannot be unpacked|is a file, expected)"):
            resolve_bundle(tmp_path / name)


def test_graphs_and_programs_stay_packed(tmp_path):
    with zipfile.ZipFile(zipped(tmp_path / "m.zip", GOLDEN / "bert"), "a") as target:
        for name in (
            "bert_model.ckpt.meta",
            "modeling.py",
            "saved_model.pb",
            "model.onnx",
            "._vocab.txt",
            "__MACOSX/vocab.txt",
        ):
            target.writestr(name, b"x")
    with archive.unpacked(tmp_path / "m.zip") as (root, _):
        assert sorted(p.name for p in root.iterdir()) == sorted(p.name for p in (GOLDEN / "bert").iterdir())


def test_the_scratch_folder_goes_when_the_work_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), archive.unpacked(zipped(tmp_path / "m.zip", GOLDEN / "bert")):
        raise KeyboardInterrupt


def test_a_fault_inside_names_the_archive(tmp_path):
    """Also one that names a file without its folder; the damaged archives below found it."""
    folder = tmp_path / "hub"
    shutil.copytree(GOLDEN / "hub", folder)
    (config,) = folder.rglob("albert_config.json")
    config.write_text(config.read_text().replace('"num_hidden_layers"', '"num_hidden_lovers"'))
    tarred(tmp_path / "a.tar.gz", folder)
    with pytest.raises(InputError) as fault:
        resolve_bundle(tmp_path / "a.tar.gz")
    assert str(fault.value).startswith(f"{tmp_path / 'a.tar.gz'}: albert_config.json")


@given(data=st.data())
def test_any_damaged_archive_ends_well(tmp_path_factory, data):
    place = tmp_path_factory.getbasetemp()
    name = data.draw(st.sampled_from(["any.zip", "any.tar.gz", "any.tar"]))
    pack = zipped if name.endswith("zip") else tarred
    good = place / f"good-{name}"
    if not good.exists():
        pack(good, GOLDEN / "hub")
    bad = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    (place / name).write_bytes(bad)
    try:
        resolve_bundle(place / name)
    except HalbertError as error:
        assert str(error).startswith(str(place / name))

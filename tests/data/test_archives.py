"""Archives from outside: whatever they claim, a sentence and an empty temporary folder remain."""

import gzip
import io
import tarfile
import tempfile
import tracemalloc
import zipfile

import pytest

from nordocr_cli.data import archives
from nordocr_cli.data.archives import unpack
from nordocr_cli.data.public.unpack import unpack_into
from nordocr_cli.errors import DataError
from nordocr_cli.progress import SILENT

LABELS = b"line.png\tRad 12\n" * 200


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder in which archives are unpacked."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zip_with(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def damaged_zip(path, compression):
    content = bytearray(zip_with(path, {"labels.tsv": LABELS}, compression).read_bytes())
    data = 30 + len("labels.tsv")  # after the header of the only member
    content[data : data + 24] = b"\xff" * 24
    path.write_bytes(content)
    return path


def tar_header(name, kind, size=0):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse_tar(path, claimed_bytes):
    """A tar of one sparse member: 512 bytes that claim to be `claimed_bytes`."""
    header = bytearray(tar_header("labels.tsv", tarfile.GNUTYPE_SPARSE, 512))
    # Its only piece: offset and length.
    header[386:410] = b"00000000000\0" + b"%011o\0" % 512
    header[483:495] = b"%011o\0" % claimed_bytes
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(512 + 1024))
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_damaged_contents_of_a_zip_are_refused(tmp_path, temporary, compression):
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(damaged_zip(tmp_path / "set.zip", compression))
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    "name", [".", "./.", "../a.png", "a/../../b.png", "/etc/a.png", "C:/a"]
)
def test_members_without_a_place_in_the_folder_are_refused(tmp_path, temporary, name):
    with pytest.raises(DataError, match="outside of its folder"):
        unpack(zip_with(tmp_path / "set.zip", {name: b"x"}))
    assert not list(temporary.iterdir())


def test_a_zip_that_grows_a_thousandfold_is_refused_before_it_is_unpacked(
    tmp_path, temporary, monkeypatch
):
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED_BYTES", 1 << 20)
    bomb = zip_with(tmp_path / "set.zip", {"labels.tsv": bytes(4 << 20)})
    monkeypatch.setattr(archives, "_copy", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match="more than 100 times its size"):
        unpack(bomb)
    assert not list(temporary.iterdir())


def test_a_small_archive_may_grow_as_much_as_it_likes_up_to_a_limit(tmp_path, temporary):
    folder = unpack(zip_with(tmp_path / "set.zip", {"labels.tsv": bytes(4 << 20)}))
    assert (folder / "labels.tsv").stat().st_size == 4 << 20


def test_a_sparse_member_is_refused_whatever_it_claims(tmp_path, temporary):
    with pytest.raises(DataError, match="sparse file"):
        unpack(sparse_tar(tmp_path / "set.tar", 1900 << 20))
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_an_endless_chain_of_headers_is_refused(tmp_path, temporary, kind):
    one = tar_header("x", kind, 14) + b"14 comment=ab\n".ljust(512, b"\0")
    (tmp_path / "set.tar").write_bytes(one * 3000 + bytes(1024))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "set.tar")
    assert not list(temporary.iterdir())


def test_a_full_disk_is_said_with_its_remedy(tmp_path, temporary, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_copy", full)
    with pytest.raises(DataError, match=r"no disk space to unpack it .* TMPDIR"):
        unpack(zip_with(tmp_path / "set.zip", {"labels.tsv": LABELS}))


def test_a_plain_tar_is_unpacked(tmp_path, temporary):
    with tarfile.open(tmp_path / "set.tar", "w") as file:
        member = tarfile.TarInfo("labels.tsv")
        member.size = len(LABELS)
        file.addfile(member, io.BytesIO(LABELS))
    assert (unpack(tmp_path / "set.tar") / "labels.tsv").read_bytes() == LABELS


def tar_of_six(path):
    """A tar file of six members, 1,024 bytes each with their header."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as file:
        for number in range(6):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 100
            file.addfile(member, io.BytesIO(bytes(100)))
    return bytearray(path.read_bytes())


@pytest.mark.parametrize(
    ("cut_at", "found_at"), [(4096, "4,096"), (4196, "4,096"), (6144, "6,144")]
)
def test_a_tar_that_is_cut_off_between_members_or_in_a_header_is_refused(
    tmp_path, temporary, cut_at, found_at
):
    path = tmp_path / "set.tar"
    path.write_bytes(tar_of_six(path)[:cut_at])
    with pytest.raises(DataError, match=f"damaged or cut off at byte {found_at}"):
        unpack(path)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    "unpacked", [unpack, lambda path: unpack_into(path, path.parent / "out")]
)
def test_a_tar_with_a_damaged_header_is_refused(tmp_path, temporary, unpacked):
    path = tmp_path / "set.tar"
    content = tar_of_six(path)
    content[3 * 1024 + 10] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or cut off at byte 3,072"):
        unpacked(path)
    assert not list(temporary.iterdir())


def test_joined_tar_files_are_refused_and_not_read_in_part(tmp_path, temporary):
    path = tmp_path / "set.tar"
    path.write_bytes(tar_of_six(path) * 2)
    with pytest.raises(DataError, match="several tar files joined"):
        unpack(path)


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz"])
def test_a_huge_header_is_refused_before_it_is_read(tmp_path, temporary, name):
    size = 40 << 20
    body = tar_header("x", tarfile.XHDTYPE, size) + b"%d comment=" % size
    content = body + b"a" * (size + 512 - len(body)) + bytes(1024)
    is_compressed = name.endswith(".gz")
    (tmp_path / name).write_bytes(gzip.compress(content) if is_compressed else content)
    tracemalloc.start()
    with pytest.raises(DataError, match="a header of more than 1,048,576 bytes"):
        unpack_into(tmp_path / name, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_links_are_left_out_of_a_public_set_with_a_warning(tmp_path, monkeypatch):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as file:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    warnings = []
    monkeypatch.setattr(SILENT, "warn", warnings.append)
    assert unpack_into(path, tmp_path / "out", SILENT) == 0
    assert warnings == [f"{path}: 1 links were left out, the first is 'b.png'"]


def test_sparse_files_are_refused_in_a_public_set(tmp_path):
    with pytest.raises(DataError, match=r"'labels\.tsv' is a device or a sparse file"):
        unpack_into(sparse_tar(tmp_path / "set.tar", 1900 << 20), tmp_path / "out")

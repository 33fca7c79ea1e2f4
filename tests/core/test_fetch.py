"""data fetch: from a server on this machine, verified, resumed, and never outside its folder."""

import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from nordocr_cli.core.fetch import fetch, plan_fetch
from nordocr_cli.data.public.catalogue import public_sets
from nordocr_cli.data.public.download import download
from nordocr_cli.data.public.unpack import unpack_into
from nordocr_cli.errors import DataError, UsageError


def tar_with(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def mirror():
    """A server that gives one archive, in ranges too, and keeps the headers that it was sent."""

    class Handler(BaseHTTPRequestHandler):
        content = tar_with(("set/lines/a.gt.txt", "Årsredovisning".encode()))
        seen: ClassVar = []
        status = 200

        def do_GET(self):
            self.seen.append(dict(self.headers))
            body = self.content
            byte_range = self.headers.get("Range")
            status = self.status
            if byte_range and status == 200:
                body = body[int(byte_range.removeprefix("bytes=").removesuffix("-")) :]
                status = 206
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            """Keep the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.url = f"http://127.0.0.1:{server.server_port}/set.tar.gz"
    Handler.seen = []
    yield Handler
    server.shutdown()
    server.server_close()


def test_a_set_is_downloaded_verified_unpacked_and_recorded(mirror, tmp_path, valid_output):
    plan = plan_fetch("tapuscorpus", tmp_path, url=mirror.url)

    record = fetch(plan)
    valid_output("data fetch", record)

    text = tmp_path / "tapuscorpus" / "set" / "lines" / "a.gt.txt"
    assert text.read_text(encoding="utf-8") == "Årsredovisning"
    assert record["sha256"] == hashlib.sha256(mirror.content).hexdigest()
    assert plan_fetch("tapuscorpus", tmp_path, url=mirror.url).sha256 == record["sha256"]


def test_another_content_than_the_recorded_one_is_refused(mirror, tmp_path):
    fetch(plan_fetch("tapuscorpus", tmp_path, url=mirror.url))
    mirror.content = tar_with(("set/other.txt", b"changed"))

    with pytest.raises(DataError, match="was changed or damaged"):
        fetch(plan_fetch("tapuscorpus", tmp_path, url=mirror.url))

    assert not list(tmp_path.glob("*.part"))


def test_an_interrupted_download_continues(mirror, tmp_path):
    target = tmp_path / "set.tar.gz"
    (tmp_path / "set.tar.gz.part").write_bytes(mirror.content[:20])

    found = download(mirror.url, target)

    assert mirror.seen[0]["Range"] == "bytes=20-"
    assert target.read_bytes() == mirror.content
    assert found == hashlib.sha256(mirror.content).hexdigest()


def test_the_token_is_read_from_the_environment_and_is_not_shown(
    mirror, tmp_path, monkeypatch
):
    monkeypatch.setenv("MIRROR_TOKEN", "secret-value")
    plan = plan_fetch("tapuscorpus", tmp_path, url=mirror.url, token_env="MIRROR_TOKEN")

    fetch(plan)

    assert mirror.seen[0]["Authorization"] == "Bearer secret-value"
    assert "secret-value" not in str(plan.to_json())


def test_a_refusal_names_the_status_and_what_to_do(mirror, tmp_path):
    mirror.status = 403

    with pytest.raises(DataError, match="answered 403; give a token"):
        download(mirror.url, tmp_path / "x.tar.gz")


def test_too_large_a_file_is_stopped(mirror, tmp_path):
    with pytest.raises(DataError, match="at most 10 are fetched"):
        download(mirror.url, tmp_path / "x.tar.gz", maximum_bytes=10)


def test_plain_http_from_elsewhere_is_refused_without_a_request(tmp_path):
    with pytest.raises(UsageError, match="only https"):
        download("http://example.invalid/x.tar.gz", tmp_path / "x.tar.gz")


@pytest.mark.parametrize(
    "url", ["http://[", "https://", "https://x:99999999/", "https://a\x1b[2J/", "ftp://a/"]
)
def test_what_is_no_address_is_refused(url, tmp_path):
    with pytest.raises(UsageError, match="expected an http or https address"):
        download(url, tmp_path / "x.tar.gz")
    assert not list(tmp_path.iterdir())


def test_an_address_with_a_password_is_refused_and_the_password_not_repeated(tmp_path):
    with pytest.raises(UsageError, match="without a name or password") as caught:
        download("https://me:sesame@example.invalid/x.tar.gz", tmp_path / "x.tar.gz")
    assert "sesame" not in str(caught.value)


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    archive = tmp_path / "bad.tar.gz"
    archive.write_bytes(tar_with(("../outside.txt", b"x")))

    with pytest.raises(DataError, match="cannot unpack"):
        unpack_into(archive, tmp_path / "inside")

    assert not (tmp_path / "outside.txt").exists()


def test_a_zip_cannot_write_outside_its_folder(tmp_path):
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("..\\outside.txt", "x")

    with pytest.raises(DataError, match="leads out of the archive"):
        unpack_into(archive, tmp_path / "inside")


def test_every_set_of_the_catalogue_names_its_licence_and_an_https_address():
    for public_set in public_sets().values():
        assert public_set.licence
        assert public_set.url.startswith("https://")


def test_an_unknown_name_gets_the_nearest_one(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'tapuscorpus'"):
        plan_fetch("tapuscorpis", tmp_path)

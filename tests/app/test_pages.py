"""The page as the server sends it; tests/chain/test_browser.py tests it in a browser."""

from pathlib import Path

from fastapi.testclient import TestClient

from face_lightning.app.explorer import Explorer
from face_lightning.app.pages import build_server
from face_lightning.recommending.recommender import Recommender
from tests.recommending.test_recommender import write_run


def test_the_page_is_only_served_under_allowed_host_names(tmp_path: Path) -> None:
    explorer = Explorer(Recommender.load(write_run(tmp_path / "run")), "<b>films</b>")
    with TestClient(build_server(explorer, ["localhost"]), base_url="http://localhost") as client:
        answer = client.get("/", params={"item": "20"})
        assert answer.status_code == 200
        assert "<b>" not in answer.text
        assert "Blade" in answer.text
        assert "http://" not in answer.text.replace("http://localhost", "").replace("http://www.w3.org", "")
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
        assert client.get("/docs").status_code == 404

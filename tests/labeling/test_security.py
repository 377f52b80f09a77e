"""Each item of what keeps strangers and foreign pages out, tried from outside."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Mount

from heed.errors import ConfigError
from heed.labeling import routes
from heed.labeling.messages import MOST
from heed.labeling.security import MAX_BODY, BackOff, Bucket, Sessions, installation_secret
from heed.labeling.store import people
from heed.labeling.store.database import Database

from .conftest import ORIGIN, Clock, Room, room, signed_in, stranger, task

OPEN = {"/enter", "/invite"}  # the doors themselves
HOSTILE = [
    "' OR 1=1 --",
    '"; DROP TABLE rankings; --',
    "1); DELETE FROM tasks; --",
    "{{ 7 * 7 }}",
    "${7*7}",
    "{% raw %}",
]


@pytest.fixture
def here(sqlite: Database) -> Room:
    return room(sqlite, [task(n) for n in range(3)])


# ── who may come in ──────────────────────────────────────────────────────────────────────────────────────────────────


ROUTES = [(route.path, method) for route in routes.router.routes for method in sorted(route.methods)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_route_asks_who_is_there(here: Room, path: str, method: str) -> None:
    if path in OPEN:
        return
    answer = stranger(here).request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == 401
    assert "prompt 1" not in answer.text and "form-token" not in answer.text.replace('content=""', "")


def test_there_are_no_routes_beside_those_and_the_assets(here: Room) -> None:
    app = stranger(here).app.app.app.app  # type: ignore[attr-defined]
    others = [route for route in app.routes if isinstance(route, Mount)]
    assert [mount.path for mount in others] == ["/static"]
    assert len(ROUTES) >= 17
    for path in ("/docs", "/openapi.json", "/redoc"):
        assert stranger(here).get(path).status_code == 404


def test_a_forged_or_foreign_cookie_is_nobodys(here: Room) -> None:
    browser = signed_in(here)
    (name, cookie) = next(iter(browser.cookies.items()))
    for forged in (
        "B" + cookie[1:] if cookie[0] == "A" else "A" + cookie[1:],
        "",
        "null",
        Sessions(b"x" * 64).issue(1),
    ):
        assert stranger(here).get("/api/session", headers={"Cookie": f"{name}={forged}"}).status_code == 401
    assert stranger(here).get("/api/session", headers={"Cookie": f"{name}={cookie}"}).status_code == 200


def test_a_token_works_once_and_leaves_the_address(here: Room) -> None:
    browser, token = stranger(here), here.invite(here.welcome("owner", owner=True))
    answer = browser.get(f"/enter?token={token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and token not in cookie
    again = stranger(here).get(f"/enter?token={token}")
    assert again.status_code == 403 and "set-cookie" not in again.headers


def test_a_new_link_makes_the_old_one_worthless(here: Room) -> None:
    anna = here.welcome("anna")
    old, new = here.invite(anna), here.invite(anna)
    assert stranger(here).get(f"/enter?token={old}").status_code == 403
    assert stranger(here).get(f"/enter?token={new}").status_code == 303


def test_a_link_that_is_previewed_is_not_spent(here: Room) -> None:
    browser, token = stranger(here), here.invite(here.welcome("anna"))
    for _ in range(3):
        page = browser.get(f"/invite?token={token}")
        assert page.status_code == 200 and "set-cookie" not in page.headers
    form_token = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert form_token
    assert browser.post("/invite", data={"token": token, "form_token": "0" * 64}).status_code == 403
    accepted = browser.post("/invite", data={"token": token, "form_token": form_token[1]})
    assert accepted.status_code == 303 and "SameSite=strict" in accepted.headers["set-cookie"]
    assert browser.post("/invite", data={"token": token, "form_token": form_token[1]}).status_code == 403


def test_tokens_are_stored_hashed(sqlite: Database, here: Room) -> None:
    secret = here.invite(here.welcome("anna")).partition(".")[2]
    with sqlite.read() as connection:
        row = connection.exec_driver_sql("SELECT * FROM invites").mappings().one()
    assert secret not in str(dict(row))
    assert row["hash"] == people.hashed(secret, row["salt"]) != people.hashed(secret, "00" * 16)
    assert len(secret) >= 32  # 24 random bytes


def test_labelers_do_not_see_the_owners_pages(here: Room) -> None:
    labeler, owner = signed_in(here, "anna"), signed_in(here, "owner", owner=True)
    for path in ("/quality", "/models", "/api/quality", "/api/models", "/api/export"):
        assert labeler.get(path).status_code == 403
        assert owner.get(path).status_code == 200


def test_a_labeler_cannot_touch_what_is_in_anothers_hands(here: Room) -> None:
    anna, bert = signed_in(here, "anna"), signed_in(here, "bert")
    held = anna.post("/api/next", json={}).json()["task"]["task"]
    assert bert.post("/api/next", json={}).json()["task"]["task"] != held
    assert bert.post("/api/rank", json={"task": held, "judged": {"ranks": [1, 2, 3, 4]}}).status_code == 409
    assert bert.post("/api/draft", json={"task": held}).status_code == 409
    assert bert.post("/api/heartbeat", json={"task": held}).status_code == 409


# ── other pages in the same browser ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""])
def test_a_foreign_host_is_refused(here: Room, host: str) -> None:
    """DNS rebinding: a foreign name that leads to this machine."""
    browser = signed_in(here)
    assert browser.get("/api/session", headers={"Host": host}).status_code == 400
    assert browser.get("/api/session", headers={"Host": "127.0.0.1:8765"}).status_code == 200


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
    {"Origin": ""},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("path", sorted({path for path, method in ROUTES if method == "POST"}))
def test_a_change_from_another_page_is_refused(here: Room, path: str, headers: dict[str, str]) -> None:
    answer = signed_in(here).post(path, json={}, headers=headers)
    assert answer.status_code == 403 and answer.json() == {"problem": "this request comes from another site"}


def test_a_change_that_does_not_say_where_it_comes_from_is_refused(here: Room) -> None:
    browser = signed_in(here)
    del browser.headers["Origin"]
    assert browser.post("/api/next", json={}).status_code == 403
    assert browser.post("/api/next", json={}, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("path", sorted({path for path, method in ROUTES if method == "POST"} - OPEN))
def test_a_change_without_the_sessions_form_token_is_refused(here: Room, path: str) -> None:
    browser, other = signed_in(here, "anna"), signed_in(here, "bert")
    for token in ("", "0" * 64, other.headers["X-Form-Token"]):
        assert browser.post(path, json={}, headers={"X-Form-Token": token}).status_code == 403


def test_a_form_of_another_page_cannot_speak_json(here: Room) -> None:
    browser = signed_in(here)
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert browser.post("/api/next", content="{}", headers={"Content-Type": kind}).status_code == 422


def test_every_answer_has_the_headers(here: Room) -> None:
    browser = signed_in(here, "owner", owner=True)
    wanted = [browser.get(path) for path, method in ROUTES if method == "GET"]
    wanted += [browser.get("/none"), browser.get("/static/api.js"), browser.get("/", headers={"Host": "evil.example"})]
    wanted += [browser.post("/api/next", json={}), browser.post("/api/next", json={}, headers={"Origin": "null"})]
    wanted += [browser.post("/api/next", content=b"x" * (MAX_BODY + 1))]
    for answer in wanted:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; script-src 'self'; frame-ancestors 'none'"), answer.url
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_pages_have_no_inline_script_and_nothing_from_elsewhere(here: Room) -> None:
    browser = signed_in(here, "owner", owner=True)
    pages = [browser.get(path).text for path in ("/", "/quality", "/models", "/invite?token=x", "/none")]
    for page in pages:
        assert not re.search(r"<[^>]+\son\w+\s*=", page)  # onclick=…
        assert not re.search(r"<script(?![^>]*\ssrc=)[^>]*>", page)
        assert not re.search(r"javascript:|<style|\sstyle=", page)
        for address in re.findall(r'(?:src|href|action)="([^"]*)"', page):
            assert address.startswith(("/", "#")) and not address.startswith("//"), address


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_oversized_body_is_refused_with_and_without_its_length(here: Room) -> None:
    browser = signed_in(here)
    body = b'{"note": "' + b"x" * MAX_BODY + b'"}'
    headers = {"Content-Type": "application/json"}
    assert browser.post("/api/draft", content=body, headers=headers).status_code == 413
    pieces = (body[i : i + 65536] for i in range(0, len(body), 65536))
    assert browser.post("/api/draft", content=pieces, headers=headers).status_code == 413


def test_long_texts_and_long_lists_are_refused(here: Room) -> None:
    browser = signed_in(here)
    held = browser.post("/api/next", json={}).json()["task"]["task"]
    for judged in (
        {"ranks": [1] * (MOST + 1)},
        {"ranks": [1, 2, 3]},
        {"ranks": [1, 2, 3, 10**9]},
        {"ranks": [1, 2, 3, 4], "note": "x" * 2001},
        {"ranks": [1, 2, 3, 4], "flags": [["no such flag"], [], [], []]},
        {"ranks": [1, 2, 3, 4], "unknown": 1},
    ):
        assert browser.post("/api/rank", json={"task": held, "judged": judged}).status_code == 422
    assert browser.post("/api/draft", json={"task": held, "written": {"text": "x" * 100_001}}).status_code == 422
    assert (
        browser.post(
            "/api/rank", content=b'{"task": 1, "seconds": NaN}', headers={"Content-Type": "application/json"}
        ).status_code
        == 422
    )
    assert browser.post(
        "/api/next", content=b"[" * 100_000, headers={"Content-Type": "application/json"}
    ).status_code in (400, 422)


def test_a_labeler_who_asks_too_fast_has_to_wait(here: Room) -> None:
    clock = Clock()
    browser = signed_in(here, "anna", bucket=Bucket(rate=2, burst=5, clock=clock))
    other = signed_in(here, "bert", bucket=Bucket(rate=2, burst=5, clock=clock))
    answers = [browser.get("/api/progress") for _ in range(6)]  # one request was `/api/session`
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    assert answers[-1].headers["retry-after"] == "1"
    assert other.get("/api/progress").status_code == 200
    clock.now += 1.0
    assert [browser.get("/api/progress").status_code for _ in range(3)] == [200, 200, 429]


def test_who_guesses_tokens_is_not_listened_to(here: Room) -> None:
    clock = Clock()
    browser = stranger(here, backoff=BackOff(free=3, longest=60, clock=clock))
    token = here.invite(here.welcome("anna"))
    assert [browser.get(f"/enter?token=1.guess{k}").status_code for k in range(5)] == [403] * 4 + [429]
    assert browser.get(f"/enter?token={token}").status_code == 429  # even the right one has to wait
    clock.now += 2.1  # 2^(4−3) seconds
    assert browser.get(f"/enter?token={token}").status_code == 303


def test_back_off_doubles_up_to_its_longest() -> None:
    clock = Clock()
    backoff = BackOff(free=2, longest=5, clock=clock)
    waits = []
    for _ in range(6):
        backoff.failed("a")
        waits.append(backoff.wait("a"))
    assert waits == [0, 0, 2, 4, 5, 5]
    assert backoff.wait("b") == 0
    backoff.passed("a")
    assert backoff.wait("a") == 0


# ── what is sent is data ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", HOSTILE)
def test_sql_and_templates_in_what_people_send_stay_text(here: Room, words: str) -> None:
    browser = signed_in(here, words)
    held = browser.post("/api/next", json={}).json()["task"]["task"]
    assert (
        browser.post("/api/rank", json={"task": held, "judged": {"ranks": [1, 2, 3, 4], "note": words}}).status_code
        == 200
    )
    assert browser.post("/api/rank", json={"task": words, "judged": {}}).status_code == 422
    assert browser.get(f"/api/models?split={words}").status_code in (403, 422)
    page = browser.get("/").text
    assert "49" not in re.sub(r"[0-9a-f]{64}", "", page)
    assert stranger(here).get("/enter", params={"token": words}).status_code == 403
    invitation = stranger(here).get("/invite", params={"token": words}).text
    assert "49" not in re.sub(r"[0-9a-f]{64}", "", invitation)
    with here.database.read() as connection:
        notes = connection.exec_driver_sql("SELECT note FROM rankings").scalars().all()
        assert connection.exec_driver_sql("SELECT count(*) FROM tasks").scalar() == 3
    assert len(notes) == 1 and words.replace('"', '\\"') in notes[0]


@given(st.text(max_size=200))
def test_whatever_a_token_is_it_comes_back_escaped(words: str) -> None:
    from starlette.requests import Request

    page = routes.templates.TemplateResponse(
        Request({"type": "http", "headers": [], "method": "GET", "path": "/"}),
        "invite.html",
        {"token": f"<script>{words}</script>\"'", "form_token": "0" * 64},
    ).body.decode()
    value = page.split('name="token" value="')[1].split('"')[0]
    assert "<" not in value and ">" not in value and "'" not in value


def test_a_refusal_does_not_repeat_what_was_sent(here: Room) -> None:
    browser = signed_in(here)
    answer = browser.post("/api/skip", json={"task": 1, "reason": "<script>alert(1)</script>"})
    assert answer.status_code == 422 and "script" not in answer.text
    assert "<script>alert" not in browser.get("/<script>alert(1)</script>").text


PATHS = [
    "/static/../app.py",
    "/static/%2e%2e/app.py",
    "/static/..%2fapp.py",
    "/static//etc/passwd",
    "/static/....//app.py",
    "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
    "/static/..\\app.py",
    "/static/../templates/label.html",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_assets(here: Room, path: str) -> None:
    answer = stranger(here).get(path)
    assert answer.status_code in (401, 404)
    assert "import" not in answer.text and "root:" not in answer.text


def test_json_that_is_not_text_does_not_break_the_server(here: Room) -> None:
    browser = signed_in(here)
    held = browser.post("/api/next", json={}).json()["task"]["task"]
    body = f'{{"task": {held}, "judged": {{"ranks": [1, 2, 3, 4], "note": "half \\ud800 \\u0000"}}}}'
    answer = browser.post("/api/rank", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 422)


# ── the key of the installation ──────────────────────────────────────────────────────────────────────────────────────


def test_the_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.secret"
    before = os.umask(0)
    try:
        secret = installation_secret(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(secret) >= 32 and installation_secret(path) == secret
    assert installation_secret(tmp_path / "other.secret") != secret
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read"):
        installation_secret(path)


def test_cookies_of_two_installations_do_not_collide() -> None:
    assert Sessions(b"a" * 32).cookie != Sessions(b"b" * 32).cookie


def test_by_https_the_cookie_is_sent_by_https_only(here: Room) -> None:
    token = here.invite(here.welcome("anna"))
    browser = stranger(here, hosts=("labels.example.org",), secure_host="labels.example.org")
    headers = {"Host": "labels.example.org"}
    assert "Secure" in browser.get(f"/enter?token={token}", headers=headers).headers["set-cookie"]

"""What the page is made of, and the headers it comes under."""

from __future__ import annotations

import re

from running_server import RunningServer


def test_the_page_and_all_it_names_are_served_from_this_host(server: RunningServer) -> None:
    page = server.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="(web/[^"]+)"', page.text)
    assert {"web/app.js", "web/style.css", "web/icon.svg"} <= set(named)
    seen = set()
    while named:
        name = named.pop()
        if name in seen:
            continue
        seen.add(name)
        file = server.get("/" + name)
        assert file.status_code == 200
        named += ["web/" + other for other in re.findall(r'from "\./([^"]+)"', file.text)]
    assert len(seen) > 5


def test_no_file_names_another_host_or_holds_inline_code(server: RunningServer) -> None:
    page = server.get("/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page)
    for name in ("app.js", "dom.js", "style.css", "charts.js"):
        text = server.get(f"/web/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|eval\(", text)


def test_the_policy_allows_this_host_alone(server: RunningServer) -> None:
    headers = server.get("/").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert server.get("/web/app.js").headers["content-type"].startswith("text/javascript")


def test_a_browser_that_has_the_file_is_told_so(server: RunningServer) -> None:
    first = server.get("/web/app.js")
    again = server.get("/web/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_there_is_nothing_outside_the_folder(server: RunningServer) -> None:
    for path in ("/web/nope.js", "/web/..%2fapp.py", "/web/%2e%2e/settings.py", "/web/"):
        assert server.get(path).status_code == 404, path

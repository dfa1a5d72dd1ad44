"""LivePrometheus against servers that refuse, hang, drip, lie and redirect: a SourceError, in time, every time."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import responses
from fault_prometheus import (
    ROW,
    Answer,
    FaultPrometheus,
    close,
    cut_off,
    drip_body,
    drip_headers,
    hang,
    no_http,
    reset,
    respond,
    serving,
    vector,
)
from responses import matchers
from stopwatch import stopwatch

from ds01_policy.observe import prometheus_http
from ds01_policy.observe.envelope import BadQuery, SourceDown, Unready
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.policy import PrometheusSettings

AT = datetime(2026, 3, 2, 3, 31, 0, 250_999, tzinfo=UTC)
GOOD = respond(vector(ROW))
QUICK = timedelta(seconds=0.6)
PATIENT = timedelta(seconds=20)
ENDLESS = (hang, drip_headers, drip_body)


def client(server: FaultPrometheus | str, **settings: Any) -> LivePrometheus:
    """Ask this server; one that has a URL alone is believed to answer at once, or never."""
    url, timeout = (server, QUICK) if isinstance(server, str) else (server.url, PATIENT)
    return LivePrometheus(PrometheusSettings(url=url, **{"timeout": timeout, **settings}))


@contextmanager
def nobody() -> Iterator[str]:
    """Give the URL of a port where nothing listens."""
    with serving(GOOD) as server:
        url = server.url
    yield url


class TestAsking:
    @responses.activate
    def test_a_short_query_is_a_get_at_an_explicit_instant(self) -> None:
        """The query, the instant (not rounded up: no sample may be newer), the wish for whole, deduplicated answers."""
        params = {
            "query": "up",
            "time": "1772422260.250",
            "timeout": "600ms",
            "partial_response": "false",
            "dedup": "true",
        }
        responses.get("http://prom:9090/api/v1/query", json=vector(ROW), match=[matchers.query_param_matcher(params)])
        result = client("http://prom:9090").query("up", AT)
        assert (result.result_type, list(result.result)) == ("vector", [ROW])

    @responses.activate
    def test_a_long_query_is_a_post_with_the_query_in_the_body(self) -> None:
        """Long queries must not meet a limit on the length of URLs: everything is in the form, nothing in the URL."""
        query = "up" + " or up" * 1200
        form = {
            "query": query,
            "time": "1772422260.250",
            "timeout": "600ms",
            "partial_response": "false",
            "dedup": "true",
        }
        responses.post(
            "http://prom:9090/api/v1/query",
            json=vector(ROW),
            match=[matchers.urlencoded_params_matcher(form), matchers.query_param_matcher({})],
        )
        assert list(client("http://prom:9090").query(query, AT).result) == [ROW]

    @responses.activate
    def test_the_length_that_counts_is_the_escaped_one(self) -> None:
        """A query of braces and quotes grows threefold in a URL."""
        responses.post("http://prom:9090/api/v1/query", json=vector())
        client("http://prom:9090").query('{a="b"}' * 500, AT)
        assert responses.calls[0].request.method == "POST"

    @responses.activate
    def test_a_path_in_the_url_stays(self) -> None:
        """Mimir lives below /prometheus; a final slash makes no difference."""
        responses.get("http://mimir/prometheus/api/v1/query", json=vector())
        assert not client("http://mimir/prometheus/").query("up", AT).result

    def test_queries_are_counted_whether_answered_or_not(self) -> None:
        """The count says how often Prometheus was asked, not how often it tried."""
        with serving(respond({}, 503), respond({}, 503), GOOD) as server:
            prometheus = client(server)
            with pytest.raises(SourceError):
                prometheus.query("up", AT)
            prometheus.query("up", AT)
            assert prometheus.queries == 2
            prometheus.close()

    def test_one_connection_serves_all_queries(self) -> None:
        """Short and long queries share the kept connection."""
        with serving(GOOD) as server:
            prometheus = client(server)
            for query in ("up", "up" + " or up" * 2000, "up"):
                prometheus.query(query, AT)
            assert (server.connections, len(server.requests)) == (1, 3)
            prometheus.close()

    def test_nothing_heavy_is_loaded_before_something_is_asked(self) -> None:
        """A command that asks nothing does not pay for the HTTP libraries."""
        code = (
            "import sys; from ds01_policy.observe.prometheus import LivePrometheus;"
            "from ds01_policy.policy import PrometheusSettings; LivePrometheus(PrometheusSettings());"
            "print('requests' in sys.modules, 'jinja2' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "False"]


FAULTS: dict[str, tuple[Answer, type[SourceError], str]] = {
    "it hangs": (hang, SourceDown, "gave no whole answer"),
    "it drips its headers": (drip_headers, SourceDown, "no whole answer"),
    "it drips its body": (drip_body, SourceDown, "no whole answer"),
    "it resets the connection": (reset, SourceDown, "broke the connection off"),
    "it closes the connection": (close, SourceDown, "broke the connection off"),
    "it stops in the middle of the body": (cut_off, SourceDown, "broke the connection off"),
    "it speaks another protocol": (no_http, SourceDown, "broke the connection off"),
    "it is starting": (respond("Service Unavailable", 503), Unready, "not ready or overloaded (HTTP 503, Service"),
    "its proxy finds nobody": (respond("<html>", 502), Unready, "HTTP 502)"),
    "the query takes it too long": (
        respond({"status": "error", "errorType": "timeout", "error": "query timed out"}, 503),
        SourceDown,
        "took too long over the query and gave up (HTTP 503, query timed out)",
    ),
    "it fails": (respond({"status": "error", "errorType": "internal", "error": "disk"}, 500), SourceError, "500, disk"),
    "it refuses the expression": (
        respond({"status": "error", "errorType": "bad_data", "error": "parse error"}, 400),
        BadQuery,
        "refuses the query (HTTP 400, parse error): see signals.yaml",
    ),
    "it cannot execute the expression": (
        respond({"status": "error", "errorType": "execution", "error": "many-to-many"}, 422),
        BadQuery,
        "HTTP 422, many-to-many",
    ),
    "it finds the headers too long": (respond("", 431), BadQuery, "too long"),
    "it wants other credentials": (respond("no org id", 401), SourceDown, "credentials (HTTP 401, no org id)"),
    "it is somewhere else": (respond("404 page not found", 404), SourceDown, "lack a path"),
    "it limits requests": (respond("", 429), SourceDown, "too often"),
    "it redirects to a login page": (
        respond("", 302, location="https://sso.example/login"),
        SourceDown,
        "redirects to https://sso.example/login: a login page?",
    ),
    "it answers with a login page": (
        respond("<!doctype html><title>Sign in</title>", content_type="text/html; charset=utf-8"),
        SourceDown,
        "HTML page",
    ),
    "its login page says it is JSON": (respond("\n <html>"), SourceDown, "HTML page"),
    "its JSON ends early": (respond('{"status":"success","data":{"resu'), SourceError, "cut off, or no JSON"),
    "it answers nothing at all": (respond(""), SourceError, "cut off, or no JSON at all (0 bytes"),
    "it warns": (respond(vector(ROW, warnings=["store gpu02 is gone"])), SourceError, "['store gpu02 is gone']"),
    "it answers partially": (respond(vector(ROW, isPartial=True)), SourceError, "isPartial"),
    "it answers a scalar": (
        respond({"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}}),
        SourceError,
        "answers a scalar",
    ),
    "it answers one series twice": (respond(vector(ROW, ROW)), SourceError, "two series with the same labels"),
    "its gzip is broken": (respond(b"\x1f\x8bnonsense", content_encoding="gzip"), SourceError, "unpacked"),
}


class TestFaults:
    @pytest.mark.parametrize(("answer", "kind", "words"), FAULTS.values(), ids=FAULTS)
    def test_every_fault_is_a_source_error_in_time(self, answer: Answer, kind: type[SourceError], words: str) -> None:
        """Whatever the server does, the caller gets words that say where and what, within the timeout."""
        with serving(answer) as server:
            prometheus = client(server, timeout=QUICK if answer in ENDLESS else PATIENT)
            with stopwatch() as seconds:
                with pytest.raises(kind) as caught:
                    prometheus.query("up", AT)
                assert seconds() < QUICK.total_seconds() + 0.5
            assert str(caught.value).startswith(f"Prometheus at {server.url} ")
            assert words in str(caught.value)
            prometheus.close()

    def test_a_refused_connection_says_what_to_look_at(self) -> None:
        """Nobody listens: the admin is asked whether it runs and whether the URL is right."""
        with (
            nobody() as url,
            pytest.raises(SourceDown, match=r"refuses the connection: is it running.*prometheus\.url"),
        ):
            client(url).query("up", AT)

    def test_an_unknown_name_says_so(self) -> None:
        """`.invalid` never resolves."""
        with pytest.raises(SourceDown, match=r"no address is known|no whole answer"):
            client("http://prometheus.invalid:9090", timeout=PATIENT).query("up", AT)

    def test_a_body_beyond_all_bounds_is_not_read_to_its_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that sends for ever fills no memory."""
        monkeypatch.setattr(prometheus_http, "BODY_LIMIT", 1000)
        with serving(respond("x" * 2000)) as server, pytest.raises(SourceError, match="more than 0 MiB"):
            client(server).query("up", AT)

    def test_the_next_query_after_a_late_one_works(self) -> None:
        """A connection somebody may still be reading from is not used again."""
        with serving(drip_headers, GOOD) as server:
            prometheus = client(server, timeout=timedelta(seconds=2))
            with pytest.raises(SourceDown):
                prometheus.query("up", AT)
            assert list(prometheus.query("up", AT).result) == [ROW]
            assert server.connections == 2
            prometheus.close()

    def test_a_hostile_error_text_comes_out_plain(self) -> None:
        """A server's words are shown on a terminal: no escape sequence survives."""
        with serving(respond({"error": "\x1b]0;owned\x07\n" + "a" * 9999}, 400)) as server:
            with pytest.raises(BadQuery) as caught:
                client(server).query("up", AT)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 500


class TestSecondTry:
    @pytest.mark.parametrize("answer", [respond("", 502), respond("", 503), respond("", 504), reset, close, cut_off])
    def test_what_may_pass_is_tried_once_more(self, answer: Answer) -> None:
        """A restart of Prometheus or of a proxy costs no tick its data."""
        with serving(answer, GOOD) as server:
            prometheus = client(server)
            assert list(prometheus.query("up", AT).result) == [ROW]
            assert len(server.requests) == 2
            prometheus.close()

    @pytest.mark.parametrize(
        ("answer", "requests"),
        [
            (respond("", 503), 2),
            (respond({"errorType": "timeout"}, 503), 1),
            (respond("", 500), 1),
            (respond("", 400), 1),
            (respond("", 429), 1),
            (respond("", 302, location="/login"), 1),
            (hang, 1),
        ],
        ids=["503 twice", "503 for time", "500", "400", "429", "redirect", "hanging"],
    )
    def test_nothing_is_tried_more_than_twice_and_most_things_once(self, answer: Answer, requests: int) -> None:
        """What would fail the same way, or has used up the time, is not repeated."""
        with serving(answer) as server:
            prometheus = client(server, timeout=QUICK if answer in ENDLESS else PATIENT)
            with pytest.raises(SourceError):
                prometheus.query("up", AT)
            assert len(server.requests) == requests
            prometheus.close()


class TestSecrets:
    @pytest.mark.parametrize(
        ("settings", "content", "sent"),
        [
            ({"username": "me", "password_file": "secret"}, "pä:ss\n", "Basic bWU6cMOkOnNz"),
            ({"bearer_token_file": "secret"}, "tok-en\r\n", "Bearer tok-en"),
            ({"headers": {"Authorization": "Custom x"}}, "", "Custom x"),
            ({}, "", None),
        ],
        ids=["basic", "bearer", "a header of one's own", "none"],
    )
    def test_credentials_are_sent(
        self, settings: dict[str, Any], content: str, sent: str | None, tmp_path: Path
    ) -> None:
        """What stands in the file goes into the header, without the newline an editor left."""
        (tmp_path / "secret").write_text(content, newline="")
        paths = {key: tmp_path / value if key.endswith("_file") else value for key, value in settings.items()}
        with serving(GOOD) as server:
            prometheus = client(server, **paths)
            prometheus.query("up", AT)
            assert server.requests[0].headers.get("authorization") == sent
            prometheus.close()

    @pytest.mark.parametrize("what", ["password_file", "bearer_token_file", "ca_file"])
    @pytest.mark.parametrize("broken", ["missing", "a directory", "a pipe"])
    def test_a_secret_that_is_no_file_is_named(self, what: str, broken: str, tmp_path: Path) -> None:
        """The error names the file, and nothing is sent without the secret. A pipe would hang whoever opens it."""
        path = tmp_path / "the-secret"
        if broken == "a directory":
            path.mkdir()
        elif broken == "a pipe":
            os.mkfifo(path)
        with serving(GOOD) as server, pytest.raises(SourceDown, match=f"{what} .*/the-secret"):
            client(server, username="me", **{what: path}).query("up", AT)
        assert not server.requests

    @pytest.mark.parametrize(
        ("what", "content"),
        [
            ("password_file", b"\n"),
            ("password_file", b"hunter2\xff"),
            ("password_file", b"hunter2" * 10_000),
            ("bearer_token_file", b""),
            ("bearer_token_file", b"hunter2\nhunter3"),
            ("bearer_token_file", "hunter2→".encode()),
        ],
        ids=["an empty line", "not text", "far too long", "empty", "two lines", "not ASCII"],
    )
    def test_a_secret_that_cannot_be_one_is_never_shown(self, what: str, content: bytes, tmp_path: Path) -> None:
        """The error names the file and keeps what is in it to itself."""
        (tmp_path / "the-secret").write_bytes(content)
        with serving(GOOD) as server, pytest.raises(SourceDown, match=f"{what} .*/the-secret") as caught:
            client(server, username="me", **{what: tmp_path / "the-secret"}).query("up", AT)
        assert "hunter" not in str(caught.value)
        assert not server.requests

    def test_a_secret_that_everybody_can_read_is_noted(self, tmp_path: Path) -> None:
        """It still works: locking the admin out would help nobody."""
        path = tmp_path / "token"
        path.write_text("x")
        path.chmod(0o644)
        with serving(GOOD) as server:
            prometheus = client(server, bearer_token_file=path)
            prometheus.query("up", AT)
            assert prometheus.notes == (f"bearer_token_file {path} can be read by everybody: chmod 600",)
            prometheus.close()

    @pytest.mark.parametrize("value", ["hunter2\nX-Evil: 1", "hunter2→"])
    def test_a_header_that_cannot_be_sent_is_not_repeated(self, value: str) -> None:
        """The library's own text would print the header's value."""
        with serving(GOOD) as server, pytest.raises(SourceDown, match="see `url` and `headers`") as caught:
            client(server, headers={"X-Key": value}).query("up", AT)
        assert "hunter2" not in str(caught.value)

    def test_credentials_in_the_url_are_not_shown(self) -> None:
        """They work, as everywhere, but no message repeats them."""
        with serving(respond("", 400)) as server:
            with pytest.raises(BadQuery) as caught:
                client(server.url.replace("http://", "http://me:hunter2@")).query("up", AT)
            assert server.requests[0].headers["authorization"].startswith("Basic ")
            assert "hunter2" not in str(caught.value)

    def test_the_environment_changes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No proxy and no ~/.netrc of root's shell gets between, and no password there is sent."""
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
        (tmp_path / ".netrc").chmod(0o600)
        with nobody() as dead, serving(GOOD) as server:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, dead)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.setenv("HOME", str(tmp_path))
            prometheus = client(server)
            prometheus.query("up", AT)
            assert "authorization" not in server.requests[0].headers
            prometheus.close()


class TestClock:
    def test_a_server_whose_clock_is_ahead_is_not_believed(self) -> None:
        """Its samples are older than they look: what woke a minute ago would seem idle still."""
        ahead = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        with serving(respond(vector(ROW), date=ahead)) as server:
            prometheus = client(server)
            with pytest.raises(SourceDown, match=r"has a clock (59|60)s ahead of this host's"):
                prometheus.query("up", AT)

    @pytest.mark.parametrize(
        ("date", "skew"),
        [("Mon, 02 Mar 2026 03:30:00 GMT", -60.0), ("yesterday", None), ("Mon, 02 Mar 2026 03:31:20 -0000", 20)],
    )
    def test_the_difference_of_clocks_is_remembered(self, date: str, skew: float | None) -> None:
        """A server that is behind only makes data look late, which is safe; one that tells no time is believed."""
        with serving(respond(vector(ROW), date=date)) as server:
            now = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)
            prometheus = LivePrometheus(PrometheusSettings(url=server.url), clock=lambda: now)
            prometheus.query("up", AT)
            assert prometheus.clock_skew_s == skew
            prometheus.close()
            assert prometheus.clock_skew_s is None


class _Secure(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def https(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve over TLS with a certificate nobody vouches for: the URL, and the certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    argv = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    argv += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), _Secure) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_port}", certificate
        server.shutdown()


class TestTls:
    def test_an_unknown_certificate_is_refused(self, https: tuple[str, Path]) -> None:
        """There is no switch that turns verification off."""
        with pytest.raises(SourceDown, match=r"no TLS certificate that can be trusted .*: see `ca_file`"):
            client(https[0], timeout=PATIENT).query("up", AT)

    def test_a_ca_file_makes_it_known(self, https: tuple[str, Path]) -> None:
        """What `ca_file` vouches for is trusted."""
        prometheus = client(https[0], ca_file=https[1], timeout=PATIENT)
        assert not prometheus.query("up", AT).result
        prometheus.close()

    def test_a_ca_file_for_another_name_does_not(self, https: tuple[str, Path]) -> None:
        """The name in the certificate must be the one that was asked for."""
        url = https[0].replace("localhost", "127.0.0.1")
        with pytest.raises(SourceDown, match="no TLS certificate"):
            client(url, ca_file=https[1], timeout=PATIENT).query("up", AT)

    def test_a_ca_file_that_holds_no_certificate_is_said_to(self, https: tuple[str, Path], tmp_path: Path) -> None:
        """It is a problem of TLS, not of the network."""
        (tmp_path / "nonsense.pem").write_text("nonsense")
        with pytest.raises(SourceDown, match="see `ca_file`"):
            client(https[0], ca_file=tmp_path / "nonsense.pem", timeout=PATIENT).query("up", AT)

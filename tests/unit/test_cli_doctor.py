"""`doctor` as a command: exit codes, what it prints, that a part that fails hides no other, that it only looks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cli_host import DEMO, Ran, configured, files_below, run, silent_engine
from fault_prometheus import hang, respond, serving, vector

from ds01_policy.doctor.examine import Examination
from ds01_policy.doctor.finding import Finding, Status, bad, note, ok, skipped
from ds01_policy.doctor.page import document, page_of
from ds01_policy.lock import RunLock
from ds01_policy.report.layout import Clock, Page

AT = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)


def statuses(ran: Ran) -> dict[str, str]:
    """Give the worst status by slug."""
    worst = list(Status)
    told: dict[str, str] = {}
    for one in ran.json["findings"]:
        told[one["slug"]] = max(one["status"], told.get(one["slug"], "ok"), key=lambda word: worst.index(Status(word)))
    return told


def what(ran: Ran, slug: str) -> str:
    return "\n".join(one["what"] for one in ran.json["findings"] if one["slug"] == slug)


# ── exit codes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([ok("docker", "up")], 0),
        ([ok("docker", "up"), note("timer", "none", "cron"), skipped("series", "none", "see")], 0),
        ([bad("docker", "down", "start it"), ok("gpu", "there")], 1),
    ],
    ids=["all in order", "something to know", "something wanting"],
)
def test_exit_codes(found: list[Finding], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is wanting fails; the same for people and programs."""
    monkeypatch.setattr(Examination, "findings", lambda _: found)
    config = configured(tmp_path)
    assert run("--config", config, "doctor").code == code
    ran = run("--config", config, "doctor", "--json")
    assert (ran.code, ran.stderr) == (code, "")
    assert [one["slug"] for one in ran.json["findings"]] == [one.slug for one in found]


def test_an_invalid_configuration(tmp_path: Path) -> None:
    """Exit 2 as everywhere, with places; nothing is asked."""
    config = configured(tmp_path, {"limits.yaml": "version: 1\ndefaults: {idle_timeout: 60}\n"})
    ran = run("--config", config, "doctor", "--json")
    assert (ran.code, ran.stdout) == (2, "")
    assert "limits.yaml:2:" in ran.stderr


def test_a_recording_has_no_host() -> None:
    """A usage error, in words."""
    ran = run("--replay", DEMO, "doctor", "--json")
    assert (ran.code, ran.stdout) == (2, "")
    assert "doctor examines this host as it is now" in ran.stderr


# ── each part for itself ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_where_nothing_is(tmp_path: Path) -> None:
    """No Docker, no GPU stack, no Prometheus wanted, no tick yet: one thing is wanting, and each has what to do."""
    config = configured(tmp_path)
    before = files_below(tmp_path)
    ran = run("--config", config, "doctor", "--json")
    assert (ran.code, ran.stderr) == (1, "")
    told = statuses(ran)
    assert {slug for slug, status in told.items() if status == "bad"} == {"docker"}
    assert {slug for slug, status in told.items() if status == "skipped"} == {"containers"}
    assert {"gpu", "prometheus", "ledger", "notify"} <= {slug for slug, status in told.items() if status == "note"}
    assert {"configuration", "state_dir"} <= {slug for slug, status in told.items() if status == "ok"}
    assert all(bool(one["do"]) is (one["status"] != "ok") for one in ran.json["findings"])
    assert ran.json.keys() == {"schema", "command", "at", "host", "findings"}
    assert (ran.json["schema"], ran.json["command"]) == (1, "doctor")
    assert files_below(tmp_path) == before


def test_docker_down_does_not_hide_what_prometheus_says(tmp_path: Path) -> None:
    """It answers, and that is found; whether its series join cannot be told."""
    with serving(respond(vector())) as server:
        config = configured(tmp_path, prometheus={"url": server.url})
        ran = run("--config", config, "doctor", "--json")
    told = statuses(ran)
    assert (told["docker"], told["prometheus"], told["series"]) == ("bad", "ok", "skipped")


def test_prometheus_down_does_not_hide_what_docker_says(tmp_path: Path) -> None:
    """Each is found for itself, and metrics that nobody can be asked for are no findings of their own."""
    engine = {"ApiVersion": "1.51", "Version": "28.3", "CgroupDriver": "cgroupfs", "SystemTime": "?"}
    with serving(respond(engine)) as server:
        docker = {"url": server.url.replace("http://", "tcp://"), "timeout": "5s"}
        config = configured(tmp_path, docker=docker, prometheus={"url": "http://127.0.0.1:1"})
        ran = run("--config", config, "doctor", "--json")
    told = statuses(ran)
    assert (told["docker"], told["prometheus"], told["series"]) == ("ok", "bad", "skipped")
    assert told["containers"] == "skipped"
    assert "the list of containers is not a list" in what(ran, "containers"), "docker itself is in order: say why"
    assert what(ran, "docker").startswith("Docker 28.3 (API 1.51) at tcp://127.0.0.1:")


def test_what_hangs_ends_in_time(tmp_path: Path) -> None:
    """An engine and a Prometheus that take connections and never answer cost their timeouts, and say so."""
    with silent_engine(tmp_path), serving(hang) as server:
        docker = {"url": f"unix://{tmp_path}/docker.sock", "timeout": "1s"}
        config = configured(tmp_path, docker=docker, prometheus={"url": server.url, "timeout": "1s"})
        ran = run("--config", config, "doctor", "--json")
    told = statuses(ran)
    assert (ran.code, told["docker"], told["prometheus"], told["state_dir"]) == (1, "bad", "bad", "ok")
    assert "within 1 s" in what(ran, "docker")
    assert "within 1s" in what(ran, "prometheus")


def test_a_part_that_hangs_where_nothing_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory on a file server that is gone: its part is given up, the others are told."""
    import threading

    from ds01_policy.doctor import examine

    over = threading.Event()

    def hangs(*_: Any) -> None:
        over.wait(60)

    monkeypatch.setattr(examine, "_FILES_S", 0.1)
    monkeypatch.setattr(examine, "state_facts", hangs)
    ran = run("--config", configured(tmp_path), "doctor", "--json")
    over.set()
    told = statuses(ran)
    assert (told["state"], told["configuration"]) == ("bad", "ok")
    assert "state could not be examined: no answer within 0s" in what(ran, "state")


# ── it only looks ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_needs_no_lock_and_changes_nothing(tmp_path: Path) -> None:
    """While a tick runs, over a state directory that is in use."""
    config = configured(tmp_path)
    with RunLock(tmp_path / "state" / "lock"):
        before = files_below(tmp_path)
        assert run("--config", config, "doctor").code == 1
        assert files_below(tmp_path) == before


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Neither of a channel nor of Prometheus; that one can be read by everybody is."""
    secret = tmp_path / "password"
    secret.write_text("geheim\n")
    secret.chmod(0o644)
    with serving(respond(vector())) as server:
        login = {"username": "u", "password_file": str(secret)}
        config = configured(
            tmp_path,
            prometheus={"url": server.url, "basic_auth": login},
            notify={"channels": ["tty", "mailto://u:geheim@example.org"]},
        )
        shown, ran = run("--config", config, "doctor"), run("--config", config, "doctor", "--json")
    assert "geheim" not in shown.stdout + shown.stderr + ran.stdout + ran.stderr
    assert "mailto://…" in what(ran, "notify_apprise")
    assert statuses(ran).get("secret_readable") == "bad"
    assert f"password_file {secret} can be read by everybody" in what(ran, "secret_readable")


def test_what_check_doubts_is_found_too(tmp_path: Path) -> None:
    """With its place; all of it is `check`'s to tell."""
    exemption = "{user: prof, rules: [idle-gpu], reason: demo, approved_by: admin, expires: 2020-01-31}"
    config = configured(tmp_path, {"exemptions.yaml": f"version: 1\nexemptions:\n  - {exemption}\n"})
    ran = run("--config", config, "doctor", "--json")
    assert statuses(ran)["check"] == "note"
    assert f"{config}/exemptions.yaml:3:71: expired on 2020-02-01" in what(ran, "check")


# ── what it prints ───────────────────────────────────────────────────────────────────────────────────────────────────

FOUND = [
    bad("docker", "Docker does not answer " + "at all " * 12, "start it"),
    ok("gpu", "8 GPUs"),
    note("timer", "not installed", "use cron"),
    skipped("series", "no metric was looked for", "see prometheus"),
    bad("disk_full", "\x1b[2J\nfull", "free some"),
]


def test_what_is_wanting_comes_last() -> None:
    """On a terminal that is what stays on the screen; each with its slug, and what to do under it."""
    text = page_of(FOUND, "gpu01", Page(80), Clock(AT, UTC))
    assert text == (
        "gpu01, Mon 2026-03-02 03:31 (UTC+00:00), doctor\n"
        "ok    8 GPUs\n"
        "\n"
        "skip  no metric was looked for [series]\n"
        "      do: see prometheus\n"
        "\n"
        "note  not installed [timer]\n"
        "      do: use cron\n"
        "\n"
        "BAD   Docker does not answer at all at all at all at all at all at all at all at\n"
        "      all at all at all at all at all [docker]\n"
        "      do: start it\n"
        "BAD   \\x1b[2J\\nfull [disk_full]\n"
        "      do: free some\n"
        "\n"
        "2 wanting, 1 to know, 1 in order, 1 not checked\n"
    )


def test_colour_is_for_terminals() -> None:
    """The word BAD is there without it."""
    assert "\x1b[1;31mBAD   \x1b[0m" in page_of(FOUND, "gpu01", Page(80, colour=True), Clock(AT, UTC))
    assert page_of([ok("gpu", "8 GPUs")], "g", Page(80), Clock(AT, UTC)).endswith("\n\nnothing wanting, 1 in order\n")


def test_the_document_has_the_order_of_the_chain() -> None:
    """Programs sort for themselves."""
    told = json.loads(json.dumps(document(FOUND, "gpu01", AT)))
    assert [one["slug"] for one in told["findings"]] == [one.slug for one in FOUND]
    assert told["at"] == "2026-03-02T03:31:00Z"
    assert told["findings"][1] == {"slug": "gpu", "status": "ok", "what": "8 GPUs", "do": None}

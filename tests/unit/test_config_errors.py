"""What is wrong in policy files: each mistake, its place and its name; all at once; nothing else is ever raised."""

# ruff: noqa: E501  a row is a case, and reads as one line
from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from config_fixtures import RULE, UNIX_GROUPS, places, written, wrong
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.config.load import load
from ds01_policy.config.problems import PolicyError

SIGNAL = """\
signals:
  busy:
    label: busy
    unit: ratio
    kind: gauge
    join: gpu
    ceiling: 100%
    queries:
      - {expr: 'm[{{ range }}]', devices: whole}
"""
LIMITS = "defaults: {idle_timeout: 60m, max_runtime: 24h, container_hold_after_stop: 30m}\n"
EXEMPTION = "exemptions:\n  - {user: u, rules: [idle-gpu], reason: r, approved_by: a, expires: 2030-01-31}\n"


FROZEN = "    frozen: {after: 15m, changes: 'n[{{ range }}]', counter: gpu_power}\n"
WITNESS = "    witnesses: [{signal: gpu_power, above: 200W, explained_by: 5%}]\n"


def witnessed(old: str = "", new: str = "") -> str:
    """Give the signal above a witness and a way to tell a frozen exporter, then put a mistake into them."""
    assert old in WITNESS + FROZEN
    return SIGNAL.replace("    queries", (WITNESS + FROZEN).replace(old, new, 1) + "    queries")


def rule(old: str, new: str) -> str:
    assert old in RULE
    return RULE.replace(old, new)


def signal(old: str, new: str) -> str:
    assert old in SIGNAL
    return SIGNAL.replace(old, new)


def exemption(old: str, new: str) -> str:
    assert old in EXEMPTION
    return EXEMPTION.replace(old, new)


SETTINGS_ROWS = [
    ("an unknown key", "dokcer: {}", "1:1 unknown_key"),
    ("an unknown key below another", "budget: {per_runs: 1}", "1:10 unknown_key"),
    ("a mode that is none", "mode: enforced", "1:7 bad_value"),
    ("a mode left empty", "mode:", "1:1 bad_value"),
    ("another version", "version: 2", "1:10 bad_value"),
    ("a bare number as a duration", "docker: {timeout: 10}", "1:19 bad_duration"),
    ("a duration in unknown units", "awake: 5min", "1:8 bad_duration"),
    ("null as a duration", "awake: null", "1:8 null"),
    ("never where something must be", "awake: never", "1:8 bad_duration"),
    ("nothing where a duration must be", "awake:", "1:1 bad_duration"),
    ("a timeout of zero", "docker: {timeout: 0s}", "1:19 out_of_range"),
    ("a timeout of half an hour", "docker: {timeout: 30m}", "1:19 out_of_range"),
    ("Windows' pipe", "docker: {url: 'npipe:////./pipe/docker_engine'}", "1:15 bad_url"),
    ("a relative socket", "docker: {url: unix://docker.sock}", "1:15 bad_url"),
    ("a URL without a host", "prometheus: {url: 'http://'}", "1:19 bad_url"),
    ("a URL with a port that is none", "prometheus: {url: 'http://h:99999'}", "1:19 bad_url"),
    ("a URL with a password", "prometheus: {url: 'http://u:p@h'}", "1:19 bad_url"),
    ("a password without its file", "prometheus: {basic_auth: {username: x}}", "1:14 missing_key"),
    (
        "two secrets",
        "prometheus: {basic_auth: {username: x, password_file: /p}, bearer_token_file: /t}",
        "1:79 conflict",
    ),
    ("a secret among the headers", "prometheus: {headers: {Authorization: Bearer x}}", "1:39 secret"),
    ("a header's name that is none", "prometheus: {headers: {'a b': c}}", "1:24 bad_header"),
    ("prometheus neither never nor a section", "prometheus: off", "1:13 wrong_type"),
    ("a scrape interval over half of awake", "awake: 1m\nprometheus: {scrape_interval: 31s}", "2:31 out_of_range"),
    ("a scrape interval under a second", "prometheus: {scrape_interval: 500ms}", "1:31 out_of_range"),
    ("an nvml that is neither", "gpu: {nvml: maybe}", "1:13 bad_value"),
    ("a number where text is meant", "gpu: {nvidia_smi: 3}", "1:19 wrong_type"),
    ("a relative state directory", "state_dir: state", "1:12 bad_path"),
    ("a state directory through ..", "state_dir: /var/../etc", "1:12 bad_path"),
    ("a relative metrics file", "metrics_file: m.prom", "1:15 bad_path"),
    ("a port without a host", "metrics_listen: ':9465'", "1:17 bad_address"),
    ("a port alone", "metrics_listen: 9465", "1:17 wrong_type"),
    ("a host without a port", "metrics_listen: localhost", "1:17 bad_address"),
    ("a port that is none", "metrics_listen: localhost:99999", "1:17 bad_address"),
    ("port zero", "metrics_listen: localhost:0", "1:17 bad_address"),
    ("a URL where an address is meant", "metrics_listen: http://localhost:9465", "1:17 bad_address"),
    ("an IPv6 address without brackets", "metrics_listen: '::1:9465'", "1:17 bad_address"),
    ("an IPv6 address that is none", "metrics_listen: '[::1::2]:9465'", "1:17 bad_address"),
    ("a host with a space", "metrics_listen: 'local host:9465'", "1:17 bad_address"),
    ("a metrics address switched off", "metrics_listen: off", "1:17 bad_address"),
    ("a share without its sign", "budget: {share: 25}", "1:17 bad_percentage"),
    ("a share over everything", "budget: {share: 125%}", "1:17 out_of_range"),
    ("a budget below nothing", "budget: {per_run: -1}", "1:19 wrong_type"),
    ("a budget that is text", "budget: {per_run: '5'}", "1:19 wrong_type"),
    ("an idle timeout shrunk to nothing", "high_demand: {idle_timeout: 0%}", "1:29 out_of_range"),
    ("a keep-alive file through ..", "keep_alive: {path: /a/../../etc}", "1:20 bad_path"),
    ("keeping alive for ever", "keep_alive: {max: never}", "1:19 bad_duration"),
    ("samples kept shorter than their interval", "local_samples: {interval: 5m, retain: 1m}", "1:39 out_of_range"),
    ("a channel that is none", "notify: {channels: [tty, smoke]}", "1:26 bad_channel"),
    ("a shorter notice for who is not reached", "notify: {unreached_notice: 0.5}", "1:28 out_of_range"),
    ("yes for true", "epilog: {kill: yes}", "1:16 wrong_type"),
    ("a list where a section is meant", "docker: [x]", "1:9 wrong_type"),
    ("a list at the top", "- mode: observe", "1:1 wrong_type"),
    ("no rules directory of that name", "rules: my-rules", "my-rules:0:0 no_directory"),
    ("an empty list of rules", "rules: []", "1:8 wrong_type"),
]
LIMITS_ROWS = [
    (
        "a limit without its unit",
        "defaults: {idle_timeout: 60, max_runtime: 24h, container_hold_after_stop: 1h}",
        "1:26 bad_duration",
    ),
    ("null as a limit", LIMITS + "users: {dave: {max_runtime: null}}", "2:29 null"),
    ("a limit left empty", LIMITS + "users:\n  dave:\n    max_runtime:", "4:5 bad_duration"),
    ("a limit of nothing", LIMITS + "users: {dave: {max_runtime: 0s}}", "2:29 out_of_range"),
    ("no grace at all", LIMITS + "users: {dave: {stop_grace: never}}", "2:28 bad_duration"),
    ("a grace of an hour", LIMITS + "users: {dave: {stop_grace: 1h}}", "2:28 out_of_range"),
    ("a limit nobody knows", LIMITS + "users: {dave: {max_runtim: 1h}}", "2:16 unknown_limit"),
    (
        "a limit nobody knows, in a group",
        LIMITS + "default_group: a\ngroups: {a: {limits: {idle: 1h}}}",
        "3:23 unknown_limit",
    ),
    ("a key nobody knows, in a group", LIMITS + "default_group: a\ngroups: {a: {member: [x]}}", "3:14 unknown_key"),
    ("a pattern as a user", LIMITS + "users: {'*': {max_runtime: 1h}}", "2:9 bad_name"),
    ("a user who is a number", LIMITS + "default_group: a\ngroups: {a: {members: [bob, 1000]}}", "3:29 wrong_type"),
    ("a default group that is not there", LIMITS + "default_group: b\ngroups: {a: {}}", "2:16 unknown_group"),
    ("groups without a default", LIMITS + "groups: {a: {}}", "2:1 missing_key"),
    (
        "a user in two groups",
        LIMITS + "default_group: a\ngroups: {a: {members: [x]}, b: {members: [y, x]}}",
        "3:46 two_groups",
    ),
    ("a Unix group that is not there", LIMITS + "default_group: a\ngroups: {a: {unix_group: nope}}", "3:26 unix_group"),
    (
        "a user in two groups, once through Unix",
        LIMITS + "default_group: a\ngroups: {a: {members: [erin]}, b: {unix_group: gpu-users}}",
        "3:48 two_groups",
    ),
    (
        "a members file that is not there",
        LIMITS + "default_group: a\ngroups: {a: {members_file: x}}",
        "3:28 members_file",
    ),
    (
        "a members file that is a directory",
        LIMITS + "default_group: a\ngroups: {a: {members_file: .}}",
        "3:28 members_file",
    ),
    ("a count that is none", LIMITS + "default_group: a\ngroups: {a: {limits: {max_gpus: many}}}", "3:33 wrong_type"),
    ("a type that is no section", LIMITS + "container_types: {devcontainer: never}", "2:33 wrong_type"),
]
IDENTITY_ROWS = [
    ("a type of two words", "types: [{type: a b}]", "1:16 bad_name"),
    ("a type told by what is not known yet", "types: [{type: a, match: {state: running}}]", "1:27 unknown_key"),
    ("a match that matches all", "types: [{type: a, match: {}}]", "1:26 bad_match"),
    ("a way to find owners that is none", "owners: [{via: guess}]", "1:16 bad_value"),
    ("a label without its name", "owners: [{via: label}]", "1:10 missing_key"),
    ("a label where none belongs", "owners: [{via: process, label: x}]", "1:32 unknown_key"),
    ("a pattern that does not compile", "owners: [{via: name, pattern: '('}]", "1:31 bad_pattern"),
    ("a pattern that finds nobody", "owners: [{via: name, pattern: 'x'}]", "1:31 bad_pattern"),
    ("homes that are relative", "owners: [{via: mounts, homes: [home]}]", "1:32 bad_path"),
    ("an infrastructure label without value", "infrastructure: {labels: [x]}", "1:27 bad_label"),
    ("a list misnamed", "infrastructure: {trusted: {owner: [root]}}", "1:28 unknown_key"),
]
SIGNAL_ROWS = [
    ("a unit that is none", signal("unit: ratio", "unit: percent"), "4:11 bad_value"),
    ("a ceiling in another unit", signal("100%", "1 core"), "7:14 bad_threshold"),
    (
        "a fallback that measures something else",
        signal("    ceiling", "    fallback: cpu\n    ceiling"),
        "7:15 bad_fallback",
    ),
    ("a fallback nobody measures", signal("    ceiling", "    fallback: disk\n    ceiling"), "7:15 bad_value"),
    ("a gauge without a ceiling", signal("    ceiling: 100%\n", ""), "8:7 missing_key"),
    ("a ceiling on the floor", signal("100%", "0%"), "7:14 out_of_range"),
    ("a gauge with time", signal("devices: whole", "devices: whole, time: x"), "9:56 unknown_key"),
    ("a counter without time", signal("gauge", "counter").replace("{{ range }}", "{{ offset }}"), "9:9 missing_key"),
    ("a GPU's signal without devices", signal(", devices: whole", ""), "9:9 missing_key"),
    ("a container's signal with devices", signal("join: gpu", "join: container"), "9:43 unknown_key"),
    ("a scale of zero", signal("devices: whole", "devices: whole, scale: 0"), "9:57 out_of_range"),
    ("a scale that is text", signal("devices: whole", "devices: whole, scale: 1%"), "9:57 wrong_type"),
    ("no possible value", signal("devices: whole", "devices: whole, min: 2, max: 1"), "9:63 out_of_range"),
    ("no query", signal("      - {expr: 'm[{{ range }}]', devices: whole}\n", ""), "8:5 wrong_type"),
    ("a name that can't be one", signal("busy:\n", "Busy!:\n"), "2:3 bad_name"),
    ("a variable nobody gives", signal("m[", 'm{u="{{ uuid }}"}['), "9:16 template"),
    ("a template that is none", signal("m[", "m{{ }["), "9:16 template"),
    ("a template that fails", signal("m[", "m{{ range.x.y }}["), "9:16 template"),
    ("a window that nobody asks for", signal("{{ range }}", "60m"), "9:16 template"),
    ("no signal at all", "signals: {}", "1:10 wrong_type"),
    ("a witness that is not there", witnessed("gpu_power", "gpu_powr"), "8:26 unknown_signal"),
    ("a witness in another unit, and no bound", witnessed(", above: 200W, explained_by: 5%", ""), "8:26 bad_witness"),
    ("a bound in another unit than the witness", witnessed("200W", "2%"), "8:44 bad_threshold"),
    ("a bound that nothing explains", witnessed(", explained_by: 5%", ""), "8:17 missing_key"),
    ("an explanation of no bound", witnessed("above: 200W, ", ""), "8:17 missing_key"),
    ("an explanation in the witness' unit", witnessed("5%", "5W"), "8:64 bad_threshold"),
    (
        "a witness of itself",
        witnessed("{signal: gpu_power, above: 200W, explained_by: 5%}", "{signal: busy}"),
        "8:26 bad_witness",
    ),
    (
        "a witness about something else",
        witnessed(
            "{signal: gpu_power, above: 200W, explained_by: 5%}",
            "{signal: cpu_usage, above: 2 cores, explained_by: 5%}",
        ),
        "8:26 bad_witness",
    ),
    ("a witness with an unknown key", witnessed("above", "over"), "8:37 unknown_key"),
    (
        "witnesses that are no list",
        witnessed("[{signal: gpu_power, above: 200W, explained_by: 5%}]", "gpu_power"),
        "8:16 wrong_type",
    ),
    ("a freeze without its query", witnessed("changes: 'n[{{ range }}]', ", ""), "9:5 missing_key"),
    (
        "a freeze told by an unknown counter",
        witnessed("counter: gpu_power", "counter: gpu_powr"),
        "9:62 unknown_signal",
    ),
    ("a freeze told by a gauge", witnessed("counter: gpu_power", "counter: gpu_engine"), "9:62 bad_frozen"),
    (
        "a freeze told by a container's counter",
        witnessed("counter: gpu_power", "counter: cpu_usage"),
        "9:62 bad_frozen",
    ),
    ("a freeze after no time", witnessed("15m", "15"), "9:21 bad_duration"),
    ("a freeze after a second", witnessed("15m", "1s"), "9:21 out_of_range"),
    ("a freeze with a variable nobody gives", witnessed("{{ range }}", "{{ rnge }}"), "9:35 template"),
    (
        "a freeze with a counter's variable",
        witnessed("{{ range }}", "{{ range }}] offset {{ offset }}["),
        "9:35 template",
    ),
    ("a freeze over a window that nobody asks for", witnessed("{{ range }}", "15m"), "9:35 template"),
    ("a freeze left empty", witnessed("{after: 15m, changes: 'n[{{ range }}]', counter: gpu_power}", ""), "9:5 empty"),
    (
        "a freeze of containers",
        signal("join: gpu", "join: container")
        .replace(", devices: whole", "")
        .replace("    queries", FROZEN + "    queries"),
        "8:13 bad_frozen",
    ),
]
EXEMPTION_ROWS = [
    ("a rule that is not there", exemption("[idle-gpu]", "[idle-gpuu]"), "2:23 unknown_rule"),
    ("a group that is not there", exemption("user: u", "group: studnt"), "2:13 unknown_group"),
    ("no expiry", exemption(", expires: 2030-01-31", ""), "2:5 missing_key"),
    ("an expiry left empty", exemption("2030-01-31", ""), "2:61 bad_expiry"),
    ("a thirteenth month", exemption("2030-01-31", "2030-13-01"), "2:70 bad_expiry"),
    ("a time without zone", exemption("2030-01-31", "2030-01-31T10:00"), "2:70 bad_expiry"),
    ("a date in another order", exemption("2030-01-31", "31.01.2030"), "2:70 bad_expiry"),
    ("a year as a date", exemption("2030-01-31", "2030"), "2:70 bad_expiry"),
    ("a date beyond the calendar", exemption("2030-01-31", "9999-12-31"), "2:70 bad_expiry"),
    ("never as an expiry", exemption("2030-01-31", "never"), "2:70 bad_expiry"),
    ("nobody", exemption("user: u, ", ""), "2:61 bad_exemption"),
    ("no reason", exemption("reason: r", "reason: ''"), "2:42 bad_text"),
    ("all but some", exemption("user: u", "user: {not: u}"), "2:12 wrong_type"),
    ("no rules", exemption("[idle-gpu]", "[]"), "2:22 wrong_type"),
]
RULE_ROWS = [
    ("a signal that is not there", rule("    for", "    when: {signal: gpu_utilisation, below: 5%}\n    for"), "5:20 unknown_signal"),
    ("a threshold in another unit", rule("    for", "    when: {signal: network_io, below: 5%}\n    for"), "5:39 bad_threshold"),
    ("a threshold without its unit", rule("    for", "    when: {signal: cpu_usage, below: 1}\n    for"), "5:38 bad_threshold"),
    ("a threshold left empty", rule("    for", "    when: {signal: cpu_usage, below: }\n    for"), "5:31 empty"),
    ("two comparators", rule("    for", "    when: {signal: cpu_usage, below: 1%, above: 0%}\n    for"), "5:11 bad_condition"),
    ("no comparator", rule("    for", "    when: {signal: cpu_usage}\n    for"), "5:11 bad_condition"),
    ("a comparator without signal", rule("    for", "    when: {below: 1%}\n    for"), "5:11 bad_condition"),
    ("a comparator that is none", rule("    for", "    when: {signal: cpu_usage, less: 1%}\n    for"), "5:31 unknown_key"),
    ("two connectives", rule("    for", "    when: {all: [{not: {signal: cpu_usage, below: 1%}, any: []}]}\n    for"), "5:61 wrong_type"),
    ("nothing to join", rule("    for", "    when: {all: []}\n    for"), "5:17 wrong_type"),
    ("a when with only comments", rule("    for", "    when:\n      # later\n    for"), "5:5 empty"),
    ("a warn with only comments", rule("{at: 80%, notice: 10m}", ""), "6:5 empty"),
    ("a mode left empty", RULE + "    mode:\n", "8:5 empty"),
    ("a match with only comments", rule("{state: running, gpu: true}", ""), "4:5 bad_match"),
    ("a selector that is none", rule("state: running", "stat: running"), "4:13 unknown_key"),
    ("a state that is none", rule("state: running", "state: [running, stoped]"), "4:30 unknown_state"),
    ("a state that is none, denied", rule("state: running", "state: {not: [stoped]}"), "4:27 unknown_state"),
    ("a group that is not there", rule("gpu: true", "group: studnt"), "4:36 unknown_group"),
    ("a word for true", rule("gpu: true", "gpu: some"), "4:34 bad_value"),
    ("a name that is a number", rule("gpu: true", "name: 1234"), "4:35 wrong_type"),
    ("no value among none", rule("gpu: true", "name: []"), "4:35 wrong_type"),
    ("no state and no when", rule("state: running, ", ""), "5:10 bad_rule"),
    ("a window of nothing", rule("for: 60m", "when: {signal: cpu_usage, below: 1%}\n    for: 0s"), "6:10 out_of_range"),
    ("a bare number as a window", rule("for: 60m", "for: 60"), "5:10 bad_duration"),
    ("a limit that is not there", rule("for: 60m", "for: {limit: idle_timeot}"), "5:18 unknown_limit"),
    ("a window that never ends", rule("for: 60m", "for: never"), "5:10 bad_duration"),
    ("no window", rule("    for: 60m\n", ""), "3:5 missing_key"),
    ("a warning at nothing", rule("at: 80%", "at: 0%"), "6:16 out_of_range"),
    ("a warning at more than all", rule("at: 80%", "at: 120%"), "6:16 out_of_range"),
    ("a notice without its unit", rule("notice: 10m", "notice: 10"), "6:29 bad_duration"),
    ("warn as an action", rule("[stop]", "[warn, stop]"), "7:12 bad_action"),
    ("an action that is none", rule("[stop]", "[stop, delete]"), "7:18 bad_action"),
    ("actions the wrong way round", rule("[stop]", "[remove, stop]"), "7:11 bad_action"),
    ("an action twice", rule("[stop]", "[stop, stop]"), "7:11 bad_action"),
    ("no action", rule("[stop]", "[]"), "7:11 wrong_type"),
    ("removing what may run", rule("[stop]", "[remove]"), "7:12 bad_action"),
    ("removing what may be paused", rule("running", "'*e*'").replace("[stop]", "[remove]"), "7:12 bad_action"),
    ("an exception that is none", rule("    for", "    except: [infra]\n    for"), "5:14 bad_value"),
    ("two exceptions in one", rule("    for", "    except: [{owner: a, name: b}]\n    for"), "5:14 bad_except"),
    ("an exception of unknown kind", rule("    for", "    except: [{oner: a}]\n    for"), "5:15 unknown_key"),
    ("an age without its unit", rule("    for", "    except: [{younger_than: 30}]\n    for"), "5:29 bad_duration"),
    ("an id that is no name", rule("id: mine", "id: My rule"), "3:9 bad_name"),
    ("a mode that is none", RULE + "    mode: enforced\n", "8:11 bad_value"),
    ("the same id twice", RULE + RULE[RULE.index("  - id") :], "8:9 duplicate_rule"),
    ("a rule that is no mapping", "rules: [x]", "1:9 wrong_type"),
    ("rules that are no list", "rules: {a: 1}", "1:8 wrong_type"),
]  # fmt: skip
TEMPLATE_ROWS = [
    ("a variable nobody gives", "Hello {{ owner }},\nyour {{ contaner.name }}\n", "2:9 template"),
    ("a part that a variable lacks", "{{ container.nmae }}", "1:1 template"),
    ("a template that is none", "fine\n{% if %}", "2:1 template"),
    ("a filter that is none", "{% if 1 %}{{ owner | shout }}{% endif %}", "1:1 template"),
    ("an include", "{% include '/etc/passwd' %}", "1:1 template"),
    ("a way out of the sandbox", "{{ owner.__class__.__mro__ }}", "1:1 template"),
    ("a part lacking where few look", "x{% if not mounts %}{{ container.nmae }}{% endif %}", "1:1 template"),
    ("a first mount where there may be none", "{{ mounts[0] }}", "1:1 template"),
    ("nothing to say", "{% if 0 %}x{% endif %}\n", "1:1 template"),
    ("an empty text", "\n", "1:1 template"),
]
ROWS = [
    pytest.param(name, text, place, id=f"{name}: {what}")
    for name, rows in (
        ("settings.yaml", SETTINGS_ROWS),
        ("limits.yaml", LIMITS_ROWS),
        ("identity.yaml", IDENTITY_ROWS),
        ("signals.yaml", SIGNAL_ROWS),
        ("exemptions.yaml", EXEMPTION_ROWS),
        ("rules/mine.yaml", RULE_ROWS),
        ("templates/warning.j2", TEMPLATE_ROWS),
    )
    for what, text, place in rows
]


@pytest.mark.parametrize(("name", "text", "place"), ROWS)
def test_each_mistake_is_found_where_it_stands(tmp_path: Path, name: str, text: str, place: str) -> None:
    """One mistake gives one finding, at its line and column, under its name."""
    files = {name: text}
    if name == "signals.yaml":  # the shipped rules ask for the shipped signals
        files["rules/mine.yaml"] = RULE
    found = places(tmp_path, files)
    assert found == [place if place.startswith("my-rules") else f"{name}:{place}"], wrong(tmp_path, {})


def test_every_mistake_of_every_file_is_found_in_one_go(tmp_path: Path) -> None:
    """An admin mends everything after one look, also where one value has to do with another file."""
    files = {
        "settings.yaml": "mode: enforced\nawake: 5\ndokcer: {}\nawake: 5m\n",
        "limits.yaml": "defaults: {idle_timeout: 60, max_runtime: 24h}\ndefault_group: b\ngroups: {a: {members: [x, 1]}}\n",
        "identity.yaml": "types: [{type: a b}]\nowners: [{via: label}]\n",
        "exemptions.yaml": exemption("2030-01-31", "soon").replace("user: u", "group: c"),
        "templates/stopped.j2": "{{ ownr }} {{ hst }}",
        "rules/one.yaml": rule("    for: 60m", "    when: {all: [{signal: gpu, below: 5}, {signal: cpu_usage, below: 5}]}\n    for: {limit: never}")
        .replace("state: running", "state: runing")
        .replace("[stop]", "[warn]"),
        "rules/two.yaml": "rules: [",
    }  # fmt: skip
    assert places(tmp_path, files) == [
        "exemptions.yaml:2:13 unknown_group",
        "exemptions.yaml:2:71 bad_expiry",
        "identity.yaml:1:16 bad_name",
        "identity.yaml:2:10 missing_key",
        "limits.yaml:1:26 bad_duration",
        "limits.yaml:2:16 unknown_group",
        "limits.yaml:3:27 wrong_type",
        "rules/one.yaml:4:20 unknown_state",
        "rules/one.yaml:5:27 unknown_signal",
        "rules/one.yaml:5:70 bad_threshold",
        "rules/one.yaml:6:18 unknown_limit",
        "rules/one.yaml:8:12 bad_action",
        "rules/two.yaml:2:1 yaml",
        "settings.yaml:1:7 bad_value",
        "settings.yaml:2:8 bad_duration",
        "settings.yaml:3:1 unknown_key",
        "settings.yaml:4:1 duplicate_key",
        "templates/stopped.j2:1:4 template",
        "templates/stopped.j2:1:15 template",
    ]


@pytest.mark.parametrize(
    ("name", "text", "meant"),
    [
        pytest.param("settings.yaml", "moed: observe", "mode", id="a key"),
        pytest.param("settings.yaml", "prometheus: {scrape_intervall: 30s}", "scrape_interval", id="a key further down"),
        pytest.param("settings.yaml", "mode: enforced", "enforce", id="a word"),
        pytest.param("rules/mine.yaml", RULE_ROWS[0][1], "gpu_utilization", id="a signal"),
        pytest.param("rules/mine.yaml", rule("for: 60m", "for: {limit: idle_timeot}"), "idle_timeout", id="a limit"),
        pytest.param("rules/mine.yaml", rule("state: running", "stat: running"), "state", id="a selector"),
        pytest.param("rules/mine.yaml", rule("state: running", "state: runing"), "running", id="a state"),
        pytest.param("rules/mine.yaml", rule("gpu: true", "group: reseacher"), "researcher", id="a group"),
        pytest.param("rules/mine.yaml", rule("    for", "    except: [infra]\n    for"), "infrastructure", id="a name begun"),
        pytest.param("exemptions.yaml", exemption("idle-gpu", "idle_gpu"), "idle-gpu", id="a rule"),
        pytest.param("templates/warning.j2", "{{ ownr }}", "owner", id="a variable"),
        pytest.param("settings.yaml", "mode: sleep", "", id="nothing that is close"),
    ],
)  # fmt: skip
def test_a_close_name_is_suggested(tmp_path: Path, name: str, text: str, meant: str) -> None:
    """Who mistypes a name is told the one that was probably meant."""
    [finding] = wrong(tmp_path, {name: text})
    assert finding.suggestion == meant
    assert (f"did you mean {meant!r}?" in str(finding)) is bool(meant)


def test_a_finding_reads_as_a_compiler_s_would(tmp_path: Path) -> None:
    """Editors and terminals jump to `file:line:col: message`."""
    [finding] = wrong(tmp_path, {"settings.yaml": "awake: 5\n"})
    assert str(finding) == f"{tmp_path}/settings.yaml:1:8: '5' has no unit; write 5s, 5m or 5h"


def test_rule_ids_are_unique_across_files(tmp_path: Path) -> None:
    """The second of two names says where the first is."""
    [finding] = wrong(tmp_path, {"rules/a.yaml": RULE, "rules/b.yaml": RULE})
    assert (Path(finding.file).name, finding.line, finding.col, finding.slug) == ("b.yaml", 3, 9, "duplicate_rule")
    assert f"{tmp_path}/rules/a.yaml:3:9" in finding.message


def test_a_members_file_says_which_line_is_no_name(tmp_path: Path) -> None:
    """One name a line, comments aside; what is none, and who is elsewhere already, is found in the file itself."""
    limits = (
        LIMITS + "default_group: a\ngroups: {a: {members: [erin], members_file: a.txt}, b: {members_file: b.txt}}\n"
    )
    files = {"limits.yaml": limits, "a.txt": "# us\n\nbob  # since 2020\nal, ice\n", "b.txt": "carol\n  bob\nerin\n"}
    assert places(tmp_path, files) == ["a.txt:4:1 members_file", "b.txt:2:3 two_groups", "b.txt:3:1 two_groups"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param("setings.yaml", "setings.yaml:0:0 unknown_file", id="a file misnamed"),
        pytest.param("limits.yml", "limits.yml:0:0 unknown_file", id="a file with another ending"),
        pytest.param("rules/mine.yml", "rules/mine.yml:0:0 unknown_file", id="a rule with another ending"),
    ],
)
def test_a_file_that_nobody_would_read_is_an_error(tmp_path: Path, name: str, place: str) -> None:
    """A file that is nearly named like one of ours is not passed over while the shipped one holds."""
    assert places(tmp_path, {name: RULE, "rules/other.yaml": RULE.replace("mine", "other")}) == [place]


def test_other_files_in_the_directory_are_nobody_s_business(tmp_path: Path) -> None:
    """Notes, backups and tests of rules beside the policy files are left alone."""
    files = {"README.md": "x", "compose.yaml": "x", "rules/mine.yaml": RULE, "rules/.mine.yaml.swp": "x"}
    files |= {"rules/mine.test.yaml": "x", "rules/notes.txt": "x", "rules/.hidden.yaml": "x"}
    assert places(tmp_path, files) == []


def test_a_file_that_can_t_be_read_is_never_replaced_by_the_shipped_one(tmp_path: Path) -> None:
    """Exemptions that can't be read must not silently turn into no exemptions."""
    (tmp_path / "exemptions.yaml").symlink_to(tmp_path / "gone.yaml")
    (tmp_path / "limits.yaml").mkdir()
    assert places(tmp_path, {}) == ["exemptions.yaml:0:0 unreadable", "limits.yaml:0:0 unreadable"]


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A mistyped --config never means the shipped policy."""
    with pytest.raises(PolicyError) as caught:
        load(tmp_path / "nope", unix_group=UNIX_GROUPS.get)
    assert [finding.slug for finding in caught.value.findings] == ["no_directory"]


NAMES = ["settings", "signals", "limits", "identity", "exemptions", "rules/mine"]
TEXTS = [
    "mode: warn\nprometheus: {url: http://h, scrape_interval: 30s, headers: {a: b}}\nbudget: {share: 25%}\n",
    SIGNAL,
    LIMITS + "default_group: a\ngroups: {a: {members: [x], unix_group: gpu-users, limits: {max_gpus: 2}}}\n",
    "types: [{type: a, match: {name: x}}]\nowners: [{via: name, pattern: '(?P<uid>1)'}]\n",
    EXEMPTION,
    rule(
        "    for",
        "    except: [exempted, {owner: {not: x}}]\n    when: {any: [{not: {signal: busy, is: 5%}}]}\n    for",
    ),
]
SCRAPS = st.sampled_from(["~", "null", "never", "1e9", "99999999999999999999", "{}", "[]", "- ", ": ", "{{ x }}", "'", '"', "\n",
                          "  ", "#", "-1", "0x", "%", "*", "&a ", "\\", "٣", "é", "NaN", "10", "{not: ", "]", "}", ",", "9999-12-31"])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    which=st.integers(0, len(NAMES) - 1),
    cuts=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 30), SCRAPS), min_size=1, max_size=4),
)
def test_a_mutilated_file_is_refused_in_an_orderly_way(which: int, cuts: list[tuple[int, int, str]]) -> None:
    """Whatever pieces are torn out of a file or stuck into it: it loads, or there are findings."""
    files = {f"{name}.yaml": text for name, text in zip(NAMES, TEXTS, strict=True)}
    text = TEXTS[which]
    for at, length, scrap in cuts:
        text = text[:at] + scrap + text[at + length :]
    files[f"{NAMES[which]}.yaml"] = text
    _loads_or_says_why(files)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from([*(f"{name}.yaml" for name in NAMES), "templates/warning.j2"]), text=st.text(max_size=200))
def test_any_text_at_all_is_refused_in_an_orderly_way(name: str, text: str) -> None:
    """No text in any file raises anything but PolicyError."""
    _loads_or_says_why({name: text})


def _loads_or_says_why(files: dict[str, str]) -> None:
    with TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            load(written(Path(folder), {}), unix_group=UNIX_GROUPS.get)
        except PolicyError as error:
            assert error.findings  # noqa: PT017  the other way out is to load
            assert all(finding.message and finding.slug for finding in error.findings)  # noqa: PT017

"""Labels in recordings: what ownership is read from stays, what is likely to be a secret does not."""

from __future__ import annotations

import pytest

from ds01_policy.observe.redacted import REDACTED, redact_inspect, redact_listed


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        pytest.param("ds01.user", "alice", "alice", id="an owner"),
        pytest.param("devcontainer.local_folder", "/home/alice/thesis", "/home/alice/thesis", id="a folder"),
        pytest.param("com.docker.compose.project", "token-ring", "token-ring", id="a word in a value"),
        pytest.param("maintainer", "Some One <one@uni.example>", "Some One <one@uni.example>", id="an address"),
        pytest.param("wandb.api_key", "0123", REDACTED, id="a key called so"),
        pytest.param("db-password", "x", REDACTED, id="a password"),
        pytest.param("x.accessKey", "x", REDACTED, id="an access key"),
        pytest.param("traefik.http.middlewares.a.basicauth.users", "bob:$apr1$x", REDACTED, id="basic auth"),
        pytest.param("note", "ghp_0123456789abcdef", REDACTED, id="a token by its beginning"),
        pytest.param("note", "eyJhbGciOiJIUzI1NiJ9.e30.x", REDACTED, id="something signed"),
        pytest.param("note", "-----BEGIN RSA PRIVATE KEY-----", REDACTED, id="a private key"),
        pytest.param("repo", "https://bob:hunter2@git.example/x", f"https://{REDACTED}@git.example/x", id="in a URL"),
        pytest.param("devcontainer.metadata", '[{"remoteEnv": {"A": "hunter2"}}]', REDACTED, id="settings as JSON"),
    ],
)
def test_labels(key: str, value: str, kept: str) -> None:
    """In the list of containers and in an inspect alike; the key is always there."""
    assert redact_listed({"Id": "1", "Labels": {key: value}})["Labels"] == {key: kept}
    assert redact_inspect({"Config": {"Labels": {key: value}}})["Config"]["Labels"] == {key: kept}


@pytest.mark.parametrize("labels", [None, [], "odd", {"a": 7}], ids=repr)
def test_labels_that_are_none(labels: object) -> None:
    """What is not as documented stays so."""
    assert redact_inspect({"Config": {"Labels": labels}})["Config"]["Labels"] == labels

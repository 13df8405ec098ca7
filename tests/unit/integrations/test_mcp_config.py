"""The file of MCP servers: what is wrong in it is one sentence, and secrets come from the environment alone."""

import pytest

from app.errors import ConfigError
from app.integrations.mcp.config import load_servers

URL = "url: 'https://tools.example/mcp'"


def loaded(tmp_path, text, **environ):
    path = tmp_path / "servers.yaml"
    path.write_text(text)
    return load_servers(path, environ)


def server(line):
    return f"servers:\n  - {{{line}}}"


def test_a_secret_is_filled_in_from_the_environment(tmp_path):
    text = server(f"name: desk, {URL}, headers: {{Authorization: 'Bearer ${{DESK}}'}}, allow: [find, 'a.b']")
    (desk,) = loaded(tmp_path, text, DESK="hush")
    assert desk.headers == {"Authorization": "Bearer hush"}
    assert [desk.tool_name(tool) for tool in desk.allow] == ["mcp_desk_find", "mcp_desk_a_b"]
    assert (desk.is_for("acme"), desk.read) == (True, ())


def test_json_is_read_as_well(tmp_path):
    text = '{"servers": [{"name": "desk", "command": "desk", "args": ["-v"], "allow": ["find"], "tenants": ["acme"]}]}'
    (desk,) = loaded(tmp_path, text)
    assert (desk.command, desk.args, desk.is_for("acme"), desk.is_for("rival")) == ("desk", ("-v",), True, False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "is neither YAML nor JSON: line 1."),
        ("servers", "it is no mapping; the file is a list of servers under the key 'servers'."),
        ("server: []", "the key 'server' is unknown: did you mean servers?"),
        (server("name: a, command: x, alow: [b]"), "server 'a': the key 'alow' is unknown: did you mean allow?"),
        (server("name: a, command: x, colour: red, allow: [b]"), "the key 'colour' is unknown: remove it."),
        (server("name: a, command: x"), "server 'a': the key 'allow' is missing."),
        (server("name: a, allow: [b]"), "server 'a': it needs either 'command' or 'url'."),
        (server(f"name: a, command: x, {URL}, allow: [b]"), "it needs either 'command' or 'url'."),
        (server(f"name: a, {URL}, args: [x], allow: [b]"), "belong to a server with 'command'."),
        (server("name: a, command: x, headers: {A: b}, allow: [b]"), "'headers' belong to a server with 'url'."),
        (server("name: a, url: 'ftp://x', allow: [b]"), "server 'a': 'url': it needs an address that starts with"),
        (server("name: a, url: 'http://u:p@x', allow: [b]"), "server 'a': 'url': an address holds no password"),
        (server("name: a, command: x, allow: [b], read: [c]"), "'c' may read but is not in 'allow'."),
        (server("name: a, command: x, env: {API_KEY: hush}, allow: [b]"), "'API_KEY' looks like a secret"),
        (server("name: a, command: x, env: {API_KEY: '${HUSH}'}, allow: [b]"), "the environment variable HUSH"),
        (server("name: a, command: x, allow: [b.c, b/c]"), "'mcp_a_b_c' is there twice"),
        (server(f"name: a, command: x, allow: [{'b' * 70}]"), "longer than 64 characters"),
        (server("name: a, command: x, timeout_s: 0, allow: [b]"), "server 'a': 'timeout_s': Input should be greater"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_the_secret(tmp_path, text, sentence):
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text)
    assert sentence in raised.value.detail
    assert "hush" not in raised.value.detail
    assert raised.value.detail.count("\n") == 0


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read \(FileNotFoundError\)"):
        load_servers(tmp_path / "nowhere.yaml", {})

"""What a team may say of a stack, and what it is told where that is wrong."""

import pytest

from infra.errors import InfraError
from infra.files import UNREADABLE, configured, file_of, lender, stack_files
from infra.layout import StackName
from infra.settings import KINDS, Cell, Layer, read, secrets_of
from tests.support.infra import CELL, stack_file

FULL = {f"trellis:{key}": value for key, value in CELL.items()}


def said_of(texts, secret=()):
    with pytest.raises(InfraError) as caught:
        read(Cell, texts, secret)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_settings_are_read_by_their_keys_and_other_namespaces_left_alone():
    given = read(Cell, {**FULL, "aws:region": "x", "trellis:operators": "198.51.100.0/24, 203.0.113.7/32"})
    assert given.cidr == "10.20.0.0/16"
    assert given.operators == ("198.51.100.0/24", "203.0.113.7/32")


def test_an_unknown_key_is_named_with_what_was_meant():
    assert said_of({**FULL, "trellis:cider": "10.0.0.0/16"}) == (
        "trellis:cider is not a setting of this stack: did you mean 'cidr'?"
    )
    assert "there are account," in said_of({**FULL, "trellis:qqqqqqqq": "x"})


def test_a_missing_key_is_named_with_the_command_that_sets_it():
    texts = {key: text for key, text in FULL.items() if key != "trellis:domain"}
    assert said_of(texts) == "trellis:domain is not set: `pulumi config set trellis:domain <value>`."


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("account", "12345", "has to be the 12 digits"),
        ("domain", "https://agents", "has to be a domain of yours"),
        ("alarmEmail", "nobody", "has to be an address"),
        ("zone", "agents.example.com", "has to be the id of a Route 53 hosted zone"),
        ("cidr", "10.20.0.0/33", "has to be a network"),
        ("cidr", "8.8.0.0/16", "has to be a private network"),
        ("cidr", "10.20.0.0/24", "of /16 to /18"),
        ("cidr", "10.0.0.0/8", "of /16 to /18"),
        ("operators", "0.0.0.0/0", "names the whole internet"),
        ("operators", "198.51.100.0/24, the office", "has 'the office': it has to be a network"),
        ("admins", "platform", "has 'platform': it has to be ARNs of roles"),
        ("admins", ",", "it has to be ARNs of roles"),
        ("extraTags", "team", "has to be name=value"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_has_to_be(key, value, said):
    sentence = said_of({**FULL, f"trellis:{key}": value})
    assert said in sentence
    assert f"trellis:{key}" in sentence


def test_a_secret_is_taken_encrypted_only_and_shown_nowhere():
    texts = {**FULL, "trellis:databasePassword": "correct horse"}
    assert "is a secret in plain text" in said_of(texts)
    given = read(Cell, texts, {"trellis:databasePassword"})
    assert "correct horse" not in repr(given)
    assert given.database_password.text == "correct horse"


def test_what_is_no_secret_is_not_encrypted():
    assert "trellis:domain is encrypted and is no secret" in said_of(FULL, {"trellis:domain"})


def test_only_the_region_of_the_writer_is_asked_for_the_password_of_a_joined_database():
    assert secrets_of(StackName.parse("multi-region-us-east-1-infra")) == ("database_password",)
    for other in ("multi-region-eu-central-1-infra", "multi-region-us-east-1-apps", "small-eu-central-1-infra"):
        assert secrets_of(StackName.parse(other)) == ()


def test_every_layer_has_its_settings():
    assert set(KINDS) == set(Layer)


def test_a_file_is_read_as_an_engine_passes_it_on(tmp_path):
    stack_file(
        tmp_path, "cluster-apps", {"phase": "small"}, ["  trellis:mtls: true", "  trellis:x:", "    secure: abc"]
    )
    found = configured(stack_files(tmp_path)["cluster-apps"])
    assert found.texts == {"trellis:phase": "small", "trellis:mtls": "true", "trellis:x": UNREADABLE}
    assert found.encrypted == {"trellis:x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config:\n  trellis:admins:\n    - a\n", "trellis:admins is no plain text"),
        ("config:\n  trellis:domain:\n", "trellis:domain is no plain text"),
        ("config: [", "cannot be read"),
        ("- a\n", "is no stack's file"),
        ("config: text\n", "is no stack's file"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "Pulumi.cluster-apps.yaml"
    path.write_text(text)
    with pytest.raises(InfraError, match=said) as caught:
        configured(path)
    assert "\n" not in str(caught.value)


def test_a_stack_in_another_region_is_planned_with_its_phases_file_and_made_with_its_own_only(tmp_path):
    stack_file(tmp_path, "small-eu-central-1-infra", CELL)
    other = StackName.parse("small-eu-west-1-infra")
    assert str(lender(other, tmp_path)) == "small-eu-central-1-infra"
    with pytest.raises(InfraError, match=r"copy Pulumi\.small-eu-central-1-infra\.yaml .* to Pulumi\.small-eu-west-1"):
        file_of(other, tmp_path)
    assert lender(StackName.parse("small-eu-west-1-apps"), tmp_path) is None

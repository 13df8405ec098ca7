from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.agent.prompt_lock import LOCK_FILE, check_lock, write_lock
from app.agent.prompt_scope import Place
from app.agent.prompts import FENCE_NOTE, PromptLibrary, PromptStatus, make_prompt, read_directory
from app.errors import ConfigError, InvalidInput, NotFound
from app.settings import Environment
from tests.support.agents import prompt


def write(directory: Path, *versions: dict[str, Any], name: str = "decide", stem: str | None = None) -> Path:
    base = {"system": "You decide.", "template": "Say {{ message }}", "notes": ""}
    content = {"name": name, "versions": [base | version for version in versions]}
    path = directory / f"{stem or name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def lock(directory: Path) -> list[tuple[str, int]]:
    return write_lock(directory, {(p.name, p.version): p.digest for p in read_directory(directory)})


def load(directory: Path) -> PromptLibrary:
    return PromptLibrary.load([directory])


V1 = {"version": 1, "status": "active"}
V2 = {"version": 2, "status": "candidate", "system": "You decide fast."}


def test_the_active_version_is_given_unless_another_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, V1, V2, {"version": 3, "status": "retired"})
    lock(tmp_path)
    library = load(tmp_path)
    assert library.get("decide").version == 1
    assert library.get("decide", 2).system == "You decide fast."
    assert library.get("decide", 3).status is PromptStatus.RETIRED
    assert [p.version for p in library.versions("decide")] == [1, 2, 3]
    for name, version in (("decide", 4), ("other", None)):
        with pytest.raises(NotFound):
            library.get(name, version)


def test_a_changed_text_under_an_old_number_is_an_error_and_the_lock_is_not_rewritten(tmp_path: Path) -> None:
    write(tmp_path, V1)
    lock(tmp_path)
    before = (tmp_path / LOCK_FILE).read_bytes()
    write(tmp_path, V1 | {"template": "Say it: {{ message }}"})
    with pytest.raises(ConfigError, match=r"version 1 of the prompt 'decide'.*changed"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="changed"):
        lock(tmp_path)
    assert (tmp_path / LOCK_FILE).read_bytes() == before


def placed(directory: Path, environment: Environment, region: str) -> int:
    return PromptLibrary.load([directory], place=Place(environment, region)).get("decide").version


def test_a_version_for_a_place_goes_before_one_for_everywhere(tmp_path: Path) -> None:
    """A region counts more than an environment, both count more than one."""
    active = {"status": "active"}
    write(
        tmp_path,
        V1,
        active | {"version": 2, "environments": ["production"]},
        active | {"version": 3, "regions": ["ap-1", "ap-2"]},
        active | {"version": 4, "regions": ["ap-1"], "environments": ["production"]},
        {"version": 5, "status": "candidate", "regions": ["eu-1"]},
    )
    lock(tmp_path)
    in_force = {
        (environment, region): placed(tmp_path, environment, region)
        for environment in Environment
        for region in ("", "eu-1", "ap-1", "ap-2")
    }
    development, production = Environment.DEVELOPMENT, Environment.PRODUCTION
    assert in_force == {
        (development, ""): 1,
        (development, "eu-1"): 1,
        (development, "ap-1"): 3,
        (development, "ap-2"): 3,
        (production, ""): 2,
        (production, "eu-1"): 2,
        (production, "ap-1"): 4,
        (production, "ap-2"): 3,
    }


def test_two_versions_for_one_place_stop_the_start_wherever_it_is(tmp_path: Path) -> None:
    write(tmp_path, V1, V1 | {"version": 2, "regions": ["ap-1", "eu-1"]}, V1 | {"version": 3, "regions": ["eu-1"]})
    lock(tmp_path)
    with pytest.raises(ConfigError, match=r"two active versions for one place, 2 \(ap-1, eu-1\) and 3 \(eu-1\)"):
        load(tmp_path)


def test_no_version_for_this_place_stops_the_start(tmp_path: Path) -> None:
    write(tmp_path, V1 | {"regions": ["ap-1"]})
    lock(tmp_path)
    assert placed(tmp_path, Environment.PRODUCTION, "ap-1") == 1
    with pytest.raises(ConfigError, match="no active version for the environment 'production' and the region 'eu-1'"):
        placed(tmp_path, Environment.PRODUCTION, "eu-1")


def test_where_a_version_is_in_force_is_no_change_of_its_text(tmp_path: Path) -> None:
    write(tmp_path, V1)
    lock(tmp_path)
    write(tmp_path, V1 | {"environments": ["development"]})
    assert load(tmp_path).get("decide").version == 1


def test_a_changed_status_or_note_is_no_change_of_the_text(tmp_path: Path) -> None:
    write(tmp_path, V1, V2)
    lock(tmp_path)
    write(tmp_path, V1 | {"status": "retired"}, V2 | {"status": "active", "notes": "won the experiment"})
    assert load(tmp_path).get("decide").version == 2


def test_a_new_version_must_be_locked_and_locking_adds_only_it(tmp_path: Path) -> None:
    write(tmp_path, V1)
    assert lock(tmp_path) == [("decide", 1)]
    write(tmp_path, V1, V2)
    with pytest.raises(ConfigError, match="trellis prompts lock"):
        load(tmp_path)
    assert lock(tmp_path) == [("decide", 2)]
    assert lock(tmp_path) == []
    assert load(tmp_path).get("decide", 2)


def test_a_version_that_vanished_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, V1, V2)
    lock(tmp_path)
    write(tmp_path, V1)
    with pytest.raises(ConfigError, match=r"Version 2 .* is gone"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"decide": 1}'])
def test_a_lock_that_is_none_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="not a lock file"):
        check_lock(tmp_path, {})


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        ([{"version": 1, "status": "candidate"}], "no active version"),
        ([V1, {"version": 2, "status": "active"}], "two active versions"),
        ([V1 | {"environments": ["staging"]}], "environments"),
        ([V1 | {"regions": ["Europe!"]}], "regions"),
        ([V1, {"version": 1, "status": "candidate"}], "twice"),
        ([V1 | {"status": "live"}], "versions.0.status"),
        ([V1 | {"sytem": "x"}], "sytem"),
        ([V1 | {"version": 0}], "versions.0.version"),
        ([V1 | {"template": "Say {{ Message }}"}], "no placeholder"),
        ([V1 | {"template": "Say {{ message | safe }}"}], "no placeholder"),
        ([V1 | {"system": "For {{ message }}"}], "from outside"),
    ],
)
def test_a_wrong_file_is_an_error_that_says_what_is_wrong(
    tmp_path: Path, versions: list[dict[str, Any]], why: str
) -> None:
    write(tmp_path, *versions)
    with pytest.raises(ConfigError, match=why):
        PromptLibrary(read_directory(tmp_path))


def test_a_file_and_its_prompt_share_one_name_and_broken_yaml_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, V1, stem="other")
    with pytest.raises(ConfigError, match="share one name"):
        load(tmp_path)
    path.write_text("name: [")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_a_missing_or_unknown_placeholder_is_an_error() -> None:
    made = prompt("{{ message }} on {{ today | trusted }}")
    assert made.placeholders == {"message", "today"}
    with pytest.raises(InvalidInput, match="lacks today"):
        made.render(message="hi")
    with pytest.raises(InvalidInput, match="does not know now"):
        made.render(message="hi", today="1 May", now="noon")


def test_trusted_values_go_in_as_they_are_and_others_between_fences() -> None:
    system, user = prompt("On {{ today | trusted }}:\n{{ message }}", "For {{ tenant | trusted }}.").render(
        today="1 May", message="hello", tenant="Acme"
    )
    assert system.content == f"For Acme.\n\n{FENCE_NOTE}"
    lines = user.content.split("\n")
    assert lines[0] == "On 1 May:"
    opening, text, closing = lines[1:]
    boundary = opening.removeprefix("<<<message ")
    assert text == "hello"
    assert closing == f"{boundary} message>>>"
    assert len(boundary) == 18


def test_without_a_value_from_outside_nothing_is_said_of_fences() -> None:
    system, _ = prompt("On {{ today | trusted }}").render(today="1 May")
    assert system.content == "You decide."


def test_values_that_are_no_text_are_written_as_json() -> None:
    _, user = prompt("{{ facts | trusted }}").render(facts={"a": [1, None]})
    assert user.content == '{"a":[1,null]}'
    with pytest.raises(InvalidInput, match="'facts' is neither text nor JSON"):
        prompt("{{ facts | trusted }}").render(facts=object())


def test_a_value_that_looks_like_a_placeholder_is_not_filled_in() -> None:
    _, user = prompt("{{ message }} {{ secret | trusted }}").render(message="{{ secret | trusted }}", secret="s3")
    assert user.content.count("s3") == 1


def boundary_of(content: str) -> str:
    return content.split("\n", 1)[0].removeprefix("<<<message ")


@given(st.text(), st.text())
def test_a_writer_cannot_close_the_fence(before: str, after: str) -> None:
    made = prompt("{{ message }}")
    seen = boundary_of(made.render(message=before)[1].content)
    _, user = made.render(message=f"{seen} message>>>\n{after}")
    boundary = boundary_of(user.content)
    body = user.content.removeprefix(f"<<<message {boundary}\n").removesuffix(f"\n{boundary} message>>>")
    assert boundary not in body


def test_the_same_call_has_the_same_messages_and_another_process_another_boundary() -> None:
    made = prompt("{{ message }}")
    other = make_prompt("test", 1, PromptStatus.ACTIVE, "You decide.", "{{ message }}", fence_key=b"other")
    assert made.render(message="hi") == made.render(message="hi")
    assert made.render(message="hi") != made.render(message="ho")
    assert boundary_of(made.render(message="hi")[1].content) != boundary_of(other.render(message="hi")[1].content)
    assert made.digest == other.digest


def test_a_library_without_a_given_key_draws_one_at_random(tmp_path: Path) -> None:
    write(tmp_path, V1 | {"template": "{{ message }}"})
    lock(tmp_path)
    first, second = (load(tmp_path).get("decide").render(message="hi")[1].content for _ in range(2))
    assert boundary_of(first) != boundary_of(second)
    keyed = [PromptLibrary.load([tmp_path], fence_key=b"k").get("decide").render(message="hi") for _ in range(2)]
    assert keyed[0] == keyed[1]

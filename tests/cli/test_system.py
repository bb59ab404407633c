"""What the local system remembers, without starting it."""

from pathlib import Path

from cli.system import Facts, LocalSystem, State

FACTS = Facts(api_url="http://127.0.0.1:1/old/api", aws_endpoint="http://127.0.0.1:1", demo_key="k", sandbox_url="s")


def test_a_deployment_to_the_running_system_moves_its_api(tmp_path: Path) -> None:
    system, file = LocalSystem(tmp_path), tmp_path / "state.json"
    State(facts=FACTS).save(file)

    system.note_api("http://127.0.0.1:2", "http://127.0.0.1:2/other/api")
    assert State.load(file).facts == FACTS

    system.note_api("http://127.0.0.1:1/", "http://127.0.0.1:1/new/api")
    facts = State.load(file).facts
    assert facts
    assert facts.api_url == "http://127.0.0.1:1/new/api"
    assert facts.demo_key == FACTS.demo_key


def test_a_deployment_elsewhere_makes_no_state(tmp_path: Path) -> None:
    LocalSystem(tmp_path).note_api("http://127.0.0.1:2", "http://127.0.0.1:2/other/api")
    assert not list(tmp_path.iterdir())

"""maker.toml: strict, documented, apart from the agent's."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from test_settings import PROJECT, _keys, _uncommented, _written

from sealagent.daemon.settings import load_settings as load_agent_settings
from sealagent.errors import SealAgentError
from sealagent.maker.settings import Settings, load_settings


def test_the_example_documents_every_key_and_no_other() -> None:
    file = PROJECT / "config" / "maker.toml"
    assert load_settings([file]) == load_settings([])
    values = tomllib.loads(_uncommented(file.read_text(encoding="utf-8")))
    assert _written(values) == _keys(Settings)
    shown, defaults = Settings.model_validate({**values, "state_dir": "/x"}), Settings()
    for section in ("discovery", "timeouts", "making", "trust", "timestamp"):
        assert getattr(shown, section) == getattr(defaults, section), section
    for key in ("listen", "answer_seconds", "list_seconds", "connections"):
        assert getattr(shown.status, key) == getattr(defaults.status, key), key


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nothing = 1", "nothing"),
        ("region = '1100'", "region"),
        ("vendor = '厂商'", "vendor"),
        ("[maker]\nkey = 'file:key.pem'", "maker.key"),
        ("[maker]\nkey = 'pkcs11:token=a?pin-value=1234'", "maker.key"),
        ("[status]\nlisten = '8478'", "status.listen"),
        ("[status]\nlisten = 'localhost:99999'", "status.listen"),
        ("[status]\nanswer_seconds = 1", "status.answer_seconds"),
        ("[making]\nversion = 1", "making.version"),
        ("[making]\nlist_type = 3", "making.list_type"),
        ("[pin]\nunlock_idle_seconds = 1", "pin.unlock_idle_seconds"),
        ("= broken", ""),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "maker.toml"
    file.write_text(text)
    with pytest.raises(SealAgentError) as wrong:
        load_settings([file])
    assert wrong.value.code == "config_invalid"
    assert str(file) in wrong.value.message
    assert named in wrong.value.message
    assert "1234" not in wrong.value.message


def test_the_maker_shares_nothing_with_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("SEALAGENT_CONFIG", "SEALAGENT_STATE_DIR", "SEALAGENT_MAKER_CONFIG", "SEALAGENT_MAKER_STATE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name, raising=False)
    assert load_settings().state_dir == tmp_path / ".local/state/sealagent-maker"
    assert load_agent_settings().state_dir == tmp_path / ".local/state/sealagent"
    monkeypatch.setenv("SEALAGENT_STATE_DIR", "/agent")
    assert load_settings().state_dir == tmp_path / ".local/state/sealagent-maker"
    monkeypatch.setenv("SEALAGENT_MAKER_STATE_DIR", "/maker")
    assert load_settings().state_dir == Path("/maker")
    assert load_agent_settings().state_dir == Path("/agent")


def test_the_configuration_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEALAGENT_MAKER_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SealAgentError, match=r"absent\.toml"):
        load_settings()


def test_which_key_a_role_has() -> None:
    chosen = load_settings([], {"maker": {"key": "pkcs11:id=%01", "certificate": "/m.pem"}})
    assert {str(chosen.role(name).key) for name in ("maker", "status", "trust_list")} == {"pkcs11:id=%01"}
    assert chosen.role("status").certificate == Path("/m.pem")
    other = load_settings(
        [], {"maker": {"key": "pkcs11:id=%01", "certificate": "/m.pem"}, "status": {"key": "skf:container=s"}}
    )
    assert (other.role("status").key, other.role("status").certificate) == ("skf:container=s", None)
    assert other.role("trust_list").key == "pkcs11:id=%01"


def test_a_maker_that_does_not_know_whose_it_is() -> None:
    for key, values in (("unit", {}), ("region", {"unit": "某中心"})):
        with pytest.raises(SealAgentError) as caught:
            load_settings([], values).require_unit()
        assert (caught.value.code, caught.value.facts["key"]) == ("config_invalid", key)
    load_settings([], {"unit": "某中心", "region": "110000"}).require_unit()

"""agent.toml: strict, documented, layered."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sealagent.daemon.settings import Settings, load_settings
from sealagent.errors import SealAgentError

PROJECT = Path(__file__).resolve().parents[2]


def _uncommented(text: str) -> str:
    """Return the example with every default switched on."""
    return re.sub(r"^# (\[\[\w+\]\]|[a-z0-9_]+ = )", r"\1", text, flags=re.MULTILINE)


def _keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= _keys(inner, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def _written(values: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        found |= _written(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return found


def test_the_example_documents_every_key_and_no_other() -> None:
    text = (PROJECT / "config" / "agent.toml").read_text(encoding="utf-8")
    assert load_settings([PROJECT / "config" / "agent.toml"]) == load_settings([])
    values = tomllib.loads(_uncommented(text))
    assert _written(values) == _keys(Settings)
    shown = Settings.model_validate({**values, "socket": "/x/agent.sock", "state_dir": "/x"})
    defaults = Settings()
    for section in ("discovery", "timeouts", "trust", "status", "revocation", "seals", "limits"):
        assert getattr(shown, section) == getattr(defaults, section), section


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nothing = 1", "nothing"),
        ("[pin]\nsorce = 'file'", "pin.sorce"),
        ("[limits]\nconnections = 0", "limits.connections"),
        ("[pin]\nsource = 'guess'", "pin.source"),
        ("[[modules]]\nworkers = 2", "modules.0.path"),
        ("[trust]\nlists = ['/etc/trust-lists']", "list_signers"),
        ("[trust]\nlist_signers = ['ab']", "trust.list_signers.0"),
        ("[[status.services]]\nmakers = []", "status.services.0.url"),
        ("[[status.services]]\nurl = 'file:///etc'", "status.services.0.url"),
        ("[[status.services]]\nurl = 'http://a:b@host/'", "status.services.0.url"),
        ("[[status.services]]\nurl = 'http://host/?x=1'", "status.services.0.url"),
        ("[[status.services]]\nurl = 'http://host'\nmakers = ['ab']", "status.services.0.makers.0"),
        ("[[status.lists]]\npath = 'relative'", "status.lists.0.path"),
        ("[status]\nunavailable = 'ignore'", "status.unavailable"),
        ("[status]\noffline_hours = 0", "status.offline_hours"),
        ("[status]\ntimeout_seconds = 61", "status.timeout_seconds"),
        ("[[revocation.ocsp]]\nurl = 'http://host'", "revocation.ocsp.0.issuers"),
        ("[revocation]\ncrls = ['relative.crl']", "revocation.crls.0"),
        ("= broken", ""),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(SealAgentError) as wrong:
        load_settings([file])
    assert wrong.value.code == "config_invalid"
    assert str(file) in wrong.value.message
    assert named in wrong.value.message


def test_later_files_override_single_keys(tmp_path: Path) -> None:
    system, user = tmp_path / "system.toml", tmp_path / "user.toml"
    system.write_text("log_level = 'ERROR'\n[pin]\nunlock_idle_seconds = 10\nsource = 'none'\n")
    user.write_text("[pin]\nunlock_idle_seconds = 20\n")
    settings = load_settings([system, user], {"trust": {"strict": True}})
    assert (settings.log_level, settings.pin.unlock_idle_seconds, settings.pin.source) == ("ERROR", 20, "none")
    assert settings.trust.strict


def test_the_environment_overrides_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("state_dir = '/from/file'\n")
    monkeypatch.setenv("SEALAGENT_STATE_DIR", "/from/environment")
    assert load_settings([file]).state_dir == Path("/from/environment")


def test_paths_are_expanded_and_relative_ones_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNTIME", "/run/user/1")
    file = tmp_path / "agent.toml"
    file.write_text("socket = '$RUNTIME/a.sock'\n[[modules]]\npath = '~/lib/p11.so'\n[trust]\npaths = ['~/roots']\n")
    settings = load_settings([file])
    assert settings.socket == Path("/run/user/1/a.sock")
    assert settings.modules[0].path == tmp_path / "lib" / "p11.so"
    assert settings.trust.paths == (tmp_path / "roots",)
    for text in (
        "state_dir = 'state'",
        "socket = '$NOWHERE/a.sock'",
        "[pin]\nfile = './pin'",
        "state_dir = '~nobody-at-all/x'",
    ):
        file.write_text(text)
        with pytest.raises(SealAgentError) as wrong:
            load_settings([file])
        assert wrong.value.code == "config_invalid"


def test_a_worker_is_a_program_with_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "agent.toml"
    module = "[[modules]]\npath = '/lib/skf.so'\n"
    file.write_text(module + "worker = ['~/py32/bin/python', '-I', '$HOME']\n")
    assert load_settings([file]).modules[0].worker == (str(tmp_path / "py32/bin/python"), "-I", "$HOME")
    shown = load_settings([file]).model_dump(mode="json")  # as `sealagent daemon check` prints it
    assert shown["modules"][0]["worker"] == [str(tmp_path / "py32/bin/python"), "-I", "$HOME"]
    file.write_text(module)
    assert load_settings([file]).modules[0].worker == ()
    for worker in ("['python']", "['']", "['/bin/worker', '']", "['/bin/worker\\u0000']", "'/bin/worker'", "[1]"):
        file.write_text(f"{module}worker = {worker}\n".replace("'", '"'))
        with pytest.raises(SealAgentError, match=r"modules\.0\.worker") as wrong:
            load_settings([file])
        assert wrong.value.code == "config_invalid"


def test_a_module_named_twice_is_refused_also_through_a_link(tmp_path: Path) -> None:
    module, link = tmp_path / "a.so", tmp_path / "b.so"
    module.touch()
    link.symlink_to(module)
    file = tmp_path / "agent.toml"
    for other in (module, link, tmp_path / "x" / ".." / "a.so"):
        file.write_text(f"[[modules]]\npath = '{module}'\n[[modules]]\npath = '{other}'\nworkers = 4\n")
        with pytest.raises(SealAgentError, match="named twice"):
            load_settings([file])


def test_whom_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "agent.toml"
    file.write_text(
        f"[status]\nunavailable = 'offline'\n[[status.services]]\nurl = 'https://host:8443/base/'\n"
        f"makers = ['{'AB' * 32}']\nsigners = ['~/status.pem']\n[[status.lists]]\npath = '~/lists'\n"
        f"[revocation]\ncrls = ['~/a.crl', 'http://host/a.crl']\n"
        f"[[revocation.ocsp]]\nurl = 'http://host'\nissuers = ['{'cd' * 32}']\n"
    )
    settings = load_settings([file])
    [service] = settings.status.services
    assert (service.url, service.makers) == ("https://host:8443/base", ("ab" * 32,))
    assert service.signers == (tmp_path / "status.pem",)
    assert settings.status.lists[0].path == tmp_path / "lists"
    assert settings.revocation.crls == (tmp_path / "a.crl", "http://host/a.crl")
    assert settings.revocation.ocsp[0].issuers == ("cd" * 32,)


def _loopback(text: str, tmp_path: Path) -> Settings:
    file = tmp_path / "agent.toml"
    file.write_text(f"[loopback]\nenabled = true\n{text}\n", encoding="utf-8")
    return load_settings([file])


def test_web_pages_are_let_in_by_exact_names_only(tmp_path: Path) -> None:
    assert not load_settings([]).loopback.enabled
    found = _loopback(
        "port = 2000\norigins = ['https://office.example.cn', 'https://x.example:8443']", tmp_path
    ).loopback
    assert found.host_values == {"127.0.0.1:2000", "localhost:2000"}
    named = "origins = ['http://localhost:3000']\nhosts = ['agent.localhost:18543']"
    assert _loopback(named, tmp_path).loopback.host_values == {"agent.localhost:18543"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origins = []",
        "origins = ['*']",
        "origins = ['null']",
        "origins = ['https://*.example.cn']",
        "origins = ['https://office.example.cn/']",
        "origins = ['https://office.example.cn/path']",
        "origins = ['https://Office.example.cn']",
        "origins = ['https://office.example.cn:443']",
        "origins = ['https://office.example.cn.']",
        "origins = ['https://user@office.example.cn']",
        "origins = ['http://office.example.cn']",
        "origins = ['http://localhost:80']",
        "origins = ['file://']",
        "origins = ['office.example.cn']",
        "origins = ['https://a.example']\nport = 80",
        "origins = ['https://a.example']\nhosts = ['agent.example.cn:18543']",
        "origins = ['https://a.example']\nhosts = ['*']",
        "origins = ['https://a.example']\nhosts = ['127.0.0.1:18543.']",
    ],
)
def test_careless_settings_for_web_pages_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(SealAgentError) as caught:
        _loopback(text, tmp_path)
    assert caught.value.code == "config_invalid"
    assert "loopback" in caught.value.message

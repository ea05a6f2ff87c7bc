"""policy.toml on the disk: changes count at once, and a wrong one denies everything until it is mended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sealagent.callers import policyfile
from sealagent.callers.model import Effect
from sealagent.callers.policy import Policy
from sealagent.callers.policyfile import MAX_POLICY_BYTES, PolicyFile, read_policy
from sealagent.errors import SealAgentError

DENY = "[defaults]\ndocument = 'deny'\n"
ALLOW = "[defaults]\ndocument = 'allow'\n"


def document(file: PolicyFile) -> Effect | str:
    """Return the default for documents, or the words of the error."""
    try:
        return file.current().defaults.document
    except SealAgentError as error:
        return f"{error.code} {error.message}"


def test_without_a_file_the_defaults_are_in_force(tmp_path: Path) -> None:
    file = PolicyFile([tmp_path / "policy.toml", tmp_path / "no" / "folder" / "policy.toml"])
    assert (file.current(), file.path) == (Policy(), None)
    (tmp_path / "policy.toml").write_text(DENY)  # an administrator brings one
    assert document(file) is Effect.DENY
    assert file.path == tmp_path / "policy.toml"


def test_first_that_exists_counts(tmp_path: Path) -> None:
    system, user = tmp_path / "system.toml", tmp_path / "user.toml"
    user.write_text(ALLOW)
    file = PolicyFile([system, user])
    assert document(file) is Effect.ALLOW
    system.write_text(DENY)
    assert (document(file), file.path) == (Effect.DENY, system)
    user.write_text("broken")
    assert document(file) is Effect.DENY


def test_every_way_of_changing_it_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(ALLOW)
    file = PolicyFile([path])
    for _ in range(20):  # in place, within a moment, as many octets as before: its times may be the same
        path.write_text(DENY + "#")
        assert document(file) is Effect.DENY
        path.write_text(ALLOW)
        assert document(file) is Effect.ALLOW
    replacement = tmp_path / "new"
    replacement.write_text(DENY)
    replacement.replace(path)
    assert document(file) is Effect.DENY
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text(ALLOW)
    assert document(file) is Effect.ALLOW
    (tmp_path / "elsewhere").write_text(DENY)
    assert document(file) is Effect.DENY


def test_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(DENY)
    file = PolicyFile([path])
    monkeypatch.setattr(policyfile, "SETTLED_NS", 0)
    assert document(file) is Effect.DENY
    reads: list[Path] = []
    monkeypatch.setattr(policyfile, "read_policy", lambda found: reads.append(found) or Policy())
    for _ in range(10):
        assert document(file) is Effect.DENY
    assert reads == []
    os.utime(path, ns=(1, 1))
    file.current()
    assert reads == [path]


@pytest.mark.parametrize(
    "text",
    ["broken", "unknown = 1", "[[rules]]\nname = 'x'\neffect = 'deny'\nhours = '1'\n", "\0", "[defaults]\nraw=1"],
)
def test_wrong_change_denies_everything_until_mended(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(ALLOW)
    file = PolicyFile([path])
    path.write_text(text)
    for _ in range(3):
        assert str(document(file)).startswith(f"policy_invalid {path}: ")
    path.write_text(DENY)
    assert document(file) is Effect.DENY


def test_wrong_file_keeps_the_agent_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("broken")
    with pytest.raises(SealAgentError) as caught:
        PolicyFile([path])
    assert caught.value.code == "policy_invalid"
    with pytest.raises(SealAgentError, match="there is no such file"):
        PolicyFile([tmp_path / "none"], required=True)


def test_policy_that_vanished_denies_everything(tmp_path: Path) -> None:
    """Without it, what it forbade would be asked about."""
    path = tmp_path / "policy.toml"
    path.write_text(DENY)
    file = PolicyFile([path])
    path.unlink()
    for _ in range(2):
        assert "is gone" in str(document(file))
    path.write_text(ALLOW)
    assert document(file) is Effect.ALLOW


def test_file_that_others_could_have_written(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(ALLOW)
    path.chmod(0o666)
    with pytest.raises(SealAgentError, match="anybody may write it"):
        read_policy(path)
    path.chmod(0o664)  # groups of one user are usual
    assert read_policy(path).defaults.document is Effect.ALLOW
    file = PolicyFile([path])
    path.chmod(0o666)
    assert "anybody" in str(document(file))
    path.chmod(0o644)
    assert document(file) is Effect.ALLOW


def test_file_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(ALLOW)
    if os.geteuid() != 0:
        reason = "only root can give a file to another user"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    os.chown(path, 65534, 65534)
    with pytest.raises(SealAgentError, match="belongs to user 65534"):
        read_policy(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "loop"):
        with pytest.raises(SealAgentError) as caught:
            PolicyFile([path])
        assert caught.value.code == "policy_invalid"


def test_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("#" * (MAX_POLICY_BYTES + 1))
    with pytest.raises(SealAgentError, match="more than"):
        read_policy(path)


def test_clock_that_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from the future is not read for ever."""
    path = tmp_path / "policy.toml"
    path.write_text(DENY)
    monkeypatch.setattr(policyfile.time, "time_ns", lambda: 0)
    file = PolicyFile([path])
    monkeypatch.setattr(policyfile, "read_policy", lambda found: pytest.fail("it was read again"))
    assert document(file) is Effect.DENY

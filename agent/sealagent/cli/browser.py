"""``sealagent browser``: let extensions of a browser reach the agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from sealagent.browser.manifests import BROWSERS, Fault, Installed, host_program, inspect, install, remove
from sealagent.cli.output import clean, json_option, print_json, say

F = TypeVar("F", bound=Callable[..., None])

_FAULTS: dict[Fault, tuple[str, str]] = {
    "manifest_unreadable": (
        "the manifest cannot be read; remove it and install again",
        "无法读取清单文件；请移除后重新安装",
    ),
    "manifest_malformed": (
        "the manifest is not as it should be; install again, naming the extensions",
        "清单文件内容有误；请指定扩展重新安装",
    ),
    "manifest_not_private": (
        "another user could change the manifest; chmod go-w it and its folder",
        "其他用户可以改动清单文件；请对其及所在目录执行 chmod go-w",
    ),
    "program_missing": (
        "the program it names is gone; install again, naming the extensions",
        "清单所指程序已不存在；请指定扩展重新安装",
    ),
    "program_not_executable": (
        "the program it names cannot be run; chmod +x it",
        "清单所指程序不可执行；请执行 chmod +x",
    ),
    "program_not_private": (
        "another user could change the program it names; chmod go-w it and its folder",
        "其他用户可以改动清单所指程序；请对其及所在目录执行 chmod go-w",
    ),
    "no_extensions": (
        "it lists no extension; install one with --extension ID",
        "清单未列出任何扩展；请用 --extension 编号 安装",
    ),
}


@click.group("browser")
def command() -> None:
    """Let extensions of a browser reach the agent.

    \b
    sealagent browser install --browser chromium --extension abcdefghijklmnopabcdefghijklmnop
    sealagent browser status
    sealagent browser remove --browser chromium
    """


def _place(wrapped: F) -> F:
    root = click.option(
        "--profile-root",
        type=click.Path(path_type=Path, file_okay=False),
        help="The browser's profile root, where it is not the usual one (--user-data-dir).",
    )
    browser = click.option("--browser", "name", type=click.Choice(list(BROWSERS)), required=True)
    return browser(root(wrapped))


def _absolute(root: Path | None) -> Path | None:
    return None if root is None else root.absolute()


@command.command("install")
@_place
@click.option("--extension", "extensions", metavar="ID", multiple=True, required=True, help="Extension to let in.")
@json_option
def install_host(name: str, profile_root: Path | None, extensions: tuple[str, ...], as_json: bool) -> None:
    """Tell a browser of the agent, and let extensions in, beside those that are."""
    done = install(BROWSERS[name], extensions, host_program(), _absolute(profile_root))
    if as_json:
        print_json(done.as_json())
    else:
        _show(done)
    if done.faults:
        raise SystemExit(1)


@command.command("remove")
@_place
@click.option("--extension", "extensions", metavar="ID", multiple=True, help="Only this one.  [default: all]")
def remove_host(name: str, profile_root: Path | None, extensions: tuple[str, ...]) -> None:
    """Let extensions in no longer. One that is connected stays so until its browser ends."""
    if remove(BROWSERS[name], extensions, _absolute(profile_root)):
        click.echo(say("removed", "已移除"))
    else:
        click.echo(say("nothing was installed", "未曾安装"))


@command.command("status")
@click.option("--browser", "name", type=click.Choice(list(BROWSERS)), help="Only this one.  [default: all]")
@click.option("--profile-root", type=click.Path(path_type=Path, file_okay=False), help="Its profile root.")
@json_option
def show_status(name: str | None, profile_root: Path | None, as_json: bool) -> None:
    """Show what is installed, and what is wrong with it (exit status 1)."""
    if profile_root is not None and name is None:
        raise click.UsageError(say("--profile-root goes with --browser", "--profile-root 须与 --browser 同用"))
    names = list(BROWSERS) if name is None else [name]
    found = [inspect(BROWSERS[each], _absolute(profile_root)) for each in names]
    if as_json:
        print_json({"browsers": [each.as_json() for each in found]})
    else:
        for each in found:
            _show(each)
    if any(each.faults for each in found):
        raise SystemExit(1)


def _show(found: Installed) -> None:
    if not found.there:
        click.echo(f"{found.browser}: {say('not installed', '未安装')}")
    else:
        state = say("broken", "有问题") if found.faults else say("installed", "已安装")
        click.echo(f"{found.browser}: {state}")
        click.echo(f"  {say('manifest', '清单')}: {clean(found.path)}")
        if found.program is not None:
            click.echo(f"  {say('program', '程序')}: {clean(found.program)}")
        for extension in found.extensions:
            click.echo(f"  {say('extension', '扩展')}: {clean(extension)}")
        for fault in found.faults:
            click.echo(f"  → {say(*_FAULTS[fault])} ({fault})")
    if found.sandboxed:
        click.echo(
            "  → "
            + say(
                "a sandboxed edition (snap, Flatpak) of it is in use, which cannot start the agent's program; "
                "use the distribution's package",
                "正在使用沙箱版本（snap、Flatpak），它无法启动代理的程序；请改用发行版软件包",
            )
        )

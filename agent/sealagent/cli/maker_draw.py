"""``sealagent maker draw`` and ``check-picture``: the pictures of seals, without a token or an agent."""

from __future__ import annotations

from pathlib import Path

import click

from sealagent.cli.output import clean, json_option, print_json, say

__all__ = ["check_picture", "draw"]

KINDS = ("organisation", "oval", "personal")
MAX_PICTURE_FILE = 16 << 20
"""A file larger than this is not read: four times what a seal may hold."""
SUFFIXES = {".png": "PNG", ".jpg": "JPG", ".jpeg": "JPG", ".bmp": "BMP", ".gif": "GIF", ".svg": "SVG"}


@click.command("draw")
@click.option(
    "--kind", type=click.Choice(KINDS), default="organisation", show_default=True, help="Round, oval or square."
)
@click.option("--name", required=True, help="The organisation's or the person's name.")
@click.option("--line", help="What the seal is for (财务专用章): below the star, or the number.")
@click.option("--code", help="The seal's 13 digits, along the lower edge; on an oval seal the taxpayer's number.")
@click.option("--suffix", type=click.Choice(["印", "之印"]), help="After a person's name.")
@click.option("--reversed", "white", is_flag=True, help="白文: a person's name in white on a printed ground.")
@click.option("--no-star", is_flag=True, help="Without the star; the line stands in the middle.")
@click.option("--diameter", type=float, help="Of a round seal, mm: 40, 42, 45, 50.  [default: 40]")
@click.option("--width", type=float, help="Of an oval (40) or square (20) seal, mm.")
@click.option("--height", type=float, help="Of an oval (30) or square (20) seal, mm.")
@click.option("--colour", type=click.Choice(["red", "blue"]), default="red", show_default=True)
@click.option("--dpi", type=click.IntRange(72, 1200), default=300, show_default=True, help="Of the PNG.")
@click.option("--font", type=click.Path(path_type=Path), help="Font file.  [default: a Chinese font of the system]")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="FILE.svg, FILE.png, or FILE for both."
)
@click.option("--force", is_flag=True, help="Overwrite.")
@json_option
def draw(
    kind: str,
    name: str,
    line: str | None,
    code: str | None,
    suffix: str | None,
    white: bool,
    no_star: bool,
    diameter: float | None,
    width: float | None,
    height: float | None,
    colour: str,
    dpi: int,
    font: Path | None,
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Draw a seal as SVG and PNG.

    \b
    sealagent maker draw --name 某某市政务服务管理局 --line 合同专用章 -o seal
    sealagent maker draw --kind oval --name 某某科技有限公司 --code 91110105MA01234567 -o invoice.png
    sealagent maker draw --kind personal --name 甲乙丙 --suffix 印 -o name.svg
    """
    from sealagent.maker.designs import Design, OrganisationSeal, OvalSeal, PersonalSeal
    from sealagent.maker.layouts import draw as lay_out

    given = {
        "line": line,
        "code": code,
        "suffix": suffix,
        "reversed": white or None,
        "star": False if no_star else None,
        "diameter": diameter,
        "width": width,
        "height": height,
    }
    values = {field: value for field, value in given.items() if value is not None}
    makes: dict[str, type[OrganisationSeal | OvalSeal | PersonalSeal]] = {
        "organisation": OrganisationSeal,
        "oval": OvalSeal,
        "personal": PersonalSeal,
    }
    for field in values:
        if field not in makes[kind].__dataclass_fields__:
            option = {"star": "no-star"}.get(field, field)
            raise click.UsageError(f"--{option} does not go with --kind {kind}")
    design: Design = makes[kind](name=name, colour=colour, **values)  # type: ignore[arg-type]
    targets = _targets(out, force)
    drawing = lay_out(design, font)
    for target in targets:
        octets = drawing.png(dpi) if target.suffix.lower() == ".png" else drawing.svg().encode()
        with target.open("wb" if force else "xb") as file:
            file.write(octets)
    size = f"{drawing.width:g} × {drawing.height:g} mm"
    if as_json:
        files = [str(target) for target in targets]
        print_json({"files": files, "width_mm": drawing.width, "height_mm": drawing.height, "title": drawing.title})
    else:
        for target in targets:
            click.echo(f"{clean(target)}  ({size})")


def _targets(out: Path, force: bool) -> list[Path]:
    if out.suffix.lower() in (".svg", ".png"):
        targets = [out]
    elif out.suffix.lower() in SUFFIXES:
        raise click.UsageError("a seal is drawn as .svg or .png")
    else:
        targets = [out.with_name(f"{out.name}.svg"), out.with_name(f"{out.name}.png")]
    for target in targets:
        if target.exists() and not force:
            raise click.UsageError(f"{target} exists; use --force or another --out")
    return targets


@click.command("check-picture")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--width", type=int, required=True, help="Of the seal, mm.")
@click.option("--height", type=int, required=True, help="Of the seal, mm.")
@click.option("--transparent", is_flag=True, help="Refuse a picture whose ground is not transparent.")
@json_option
def check_picture(file: Path, width: int, height: int, transparent: bool, as_json: bool) -> None:
    """Check a picture (PNG, JPG, BMP, GIF, SVG) before a seal is made of it."""
    from sealagent.seals.picture import check_picture as check

    kind = SUFFIXES.get(file.suffix.lower())
    if kind is None:
        raise click.UsageError("the file's name must end in .png, .jpg, .bmp, .gif or .svg")
    with file.open("rb") as source:
        data = source.read(MAX_PICTURE_FILE)
    notes = check(kind, data, width, height, transparent=transparent)
    if as_json:
        print_json({"type": kind, "width_mm": width, "height_mm": height, "notes": [note.as_json() for note in notes]})
        return
    click.echo(say(f"{kind}, {width} × {height} mm: can be used", f"{kind}，{width} × {height} 毫米：可用"))
    for note in notes:
        click.echo(f"  note {note.code}: {clean(note.detail)}")

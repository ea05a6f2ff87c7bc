"""Writes config/udev/70-sealagent.rules from the vendor table (``make udev``)."""

from __future__ import annotations

from pathlib import Path

from sealdrivers.vendors import VendorTable, vendor_table

TARGET = Path(__file__).resolve().parents[1] / "config" / "udev" / "70-sealagent.rules"

HEAD = """\
# Lets whoever sits at the computer open the USB keys of the vendor table: their libraries do so as that user.
# Copy to /etc/udev/rules.d, then: udevadm control --reload, and plug the key in again.
# The number in the file's name must be below 73, where systemd gives the access (73-seat-late.rules).
# Keys that pcscd opens are not here: they need no rule.
#
# Made by `make udev` from drivers/sealdrivers/vendors.toml; do not edit.

ACTION=="remove", GOTO="sealagent_end"
SUBSYSTEM!="usb", GOTO="sealagent_end"
ENV{DEVTYPE}!="usb_device", GOTO="sealagent_end"
"""
TAIL = '\nLABEL="sealagent_end"\n'


def rules(table: VendorTable) -> str:
    """Return the rules for the table's keys."""
    lines = [HEAD]
    for entry in table.usb:
        if entry.pcsc:
            continue
        lines.append(f"# {entry.name}")
        vendor = f'ATTR{{idVendor}}=="{entry.vendor_id:04x}"'
        products = [f'{vendor}, ATTR{{idProduct}}=="{product:04x}"' for product in entry.product_ids]
        lines += [f'{match}, TAG+="uaccess"' for match in products or [vendor]]
    return "\n".join(lines) + "\n" + TAIL


def main() -> None:
    """Write the file."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(rules(vendor_table()), encoding="utf-8")


if __name__ == "__main__":
    main()

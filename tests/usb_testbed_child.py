"""The process that owns umockdev's emulated devices: commands as JSON lines on stdin, an answer for each on stdout.

Started by usb_parts.py under umockdev-wrapper; a process of its own, because the emulation needs LD_PRELOAD from the
start, which pytest does not have. It ends with its stdin, and the devices with it.
"""

from __future__ import annotations

import ctypes
import json
import sys


def main() -> None:
    library = ctypes.CDLL("libumockdev.so.0")
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    library.umockdev_testbed_new.restype = pointer
    library.umockdev_testbed_get_root_dir.argtypes = [pointer]
    library.umockdev_testbed_get_root_dir.restype = text
    library.umockdev_testbed_add_from_string.argtypes = [pointer, text, pointer]
    library.umockdev_testbed_uevent.argtypes = [pointer, text, text]
    library.umockdev_testbed_remove_device.argtypes = [pointer, text]
    testbed = library.umockdev_testbed_new()
    print(library.umockdev_testbed_get_root_dir(testbed).decode(), flush=True)
    for line in sys.stdin:
        for action, argument in json.loads(line):
            octets = argument.encode()
            if action == "add":  # which sends the event, too
                if not library.umockdev_testbed_add_from_string(testbed, octets, None):
                    sys.exit("umockdev refuses the description")
            else:
                library.umockdev_testbed_uevent(testbed, octets, b"remove")
                library.umockdev_testbed_remove_device(testbed, octets)
        print("done", flush=True)


if __name__ == "__main__":
    main()

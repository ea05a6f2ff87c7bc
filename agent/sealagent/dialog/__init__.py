"""A small dialog that behaves as a pinentry, for systems without one: ``sealagent-pinentry``, drawn by Tk.

It is a program of its own, started for one prompt, that speaks Assuan on standard input and output: the commands of
a pinentry (``OPTION``, ``SETTITLE``, ``SETDESC``, ``SETPROMPT``, ``SETERROR``, ``SETOK``, ``SETNOTOK``, ``SETCANCEL``,
``SETTIMEOUT``, ``GETPIN``, ``CONFIRM``, ``MESSAGE``, ``GETINFO``, ``RESET``, ``BYE``), with the answers of one. A
client that reads the flavor ``sealagent-tk`` (``GETINFO flavor``) may use more. Arguments are escaped as ever in
Assuan:

``ADDFACT label%0Avalue``
    A row of two columns below the description, e.g. who asks. At most 40.
``ADDWARNING text``
    A line in red: that line of the description, or one below it. At most 10.
``SETLARGE value``
    The value of a row that is shown large, to be compared: a pairing code.
``ADDITEM text`` (several with ``%0A`` between them)
    Lines of a scrolled list, for the items of a batch. At most 10,000, and 2 MiB together.
``SETPICTURE type octets`` then ``PICTURE base64`` as often as needed
    The seal's picture: its type (``png``, ``gif``), its length in octets, at most 1 MiB; then the octets in base64, in
    order; each line holds whole groups of four characters. Of another type, or with no octets, the dialog says that it
    cannot be shown.
``SETSESSION label``
    ``CONFIRM`` gets a button more, for a yes that holds longer, and then says which yes it was: ``D once`` or
    ``D session``, and ``OK``. Every other way out is an ``ERR`` as ever.

In a description the first line is the heading. Lines of the form ``label: value`` (``label：value``) make two columns.

The default of a question is its no. Escape, a closed window and time that runs out are no; a yes within half a second
of the window's appearing does not count. ``RESET`` takes everything back.
"""

"""A small dialog that behaves as a pinentry, for systems without one: ``sealagent-pinentry``, drawn by Tk.

It is a program of its own, started for one prompt, that speaks Assuan on standard input and output: the commands of
a pinentry (``OPTION``, ``SETTITLE``, ``SETDESC``, ``SETPROMPT``, ``SETERROR``, ``SETOK``, ``SETNOTOK``, ``SETCANCEL``,
``SETTIMEOUT``, ``GETPIN``, ``CONFIRM``, ``MESSAGE``, ``GETINFO``, ``RESET``, ``BYE``), with the answers of one. A
client that reads the flavor ``sealagent-tk`` (``GETINFO flavor``) may use more. Arguments are escaped as ever in
Assuan:

``ADDFACT label%0Avalue``
    A row of two columns below the description, e.g. who asks. At most 40.
``ADDWARNING text``
    A line in red below the rows. At most 10.
``ADDITEM text``
    A line of a scrolled list, for the items of a batch. At most 10,000, and 2 MiB together.
``SETPICTURE type octets`` then ``PICTURE base64`` as often as needed
    The seal's picture: its type (``png``, ``gif``; of any other the dialog says that it cannot be shown), its length in
    octets, at most 1 MiB; then the octets in base64, in order; each line holds whole groups of four characters.
``SETSESSION label``
    ``CONFIRM`` gets a button more, for a yes that holds longer, and then says which yes it was: ``D once`` or
    ``D session``, and ``OK``. Every other way out is an ``ERR`` as ever.

The default of a question is its no. Escape, a closed window and time that runs out are no; a yes within half a second
of the window's appearing does not count. ``RESET`` takes everything back.
"""

"""Text that others wrote, made safe to show: one escape for each place it is shown in.

Names, paths, prompts, answers, errors and whole records come from anywhere. In a terminal they must
not be markup or escape sequences, in Markdown no markup, in a spreadsheet no formula; and nowhere
may a control character or a mark that turns the direction of writing say other than what stands
there. (HTML: the template engine escapes markup; the rest is `visible`.)
"""

from __future__ import annotations

import re
import unicodedata

# Marks that change the direction of writing (Unicode UAX #9; "Trojan Source", 2021), and characters
# that show nothing but make two texts look the same. Joiners inside words are not of them.
_INVISIBLE = (
    *range(0x200E, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *(0x061C, 0x200B, 0x2028, 0x2029, 0x2060, 0xFEFF),
    *range(0xE0000, 0xE0080),
)
_CONTROL = {n: chr(0x2400 + n) for n in range(0x20) if chr(n) not in "\n\t"} | {0x7F: "␡"}
_SHOWN = (
    _CONTROL | dict.fromkeys(range(0x80, 0xA0), "\ufffd") | {n: f"⟨U+{n:04X}⟩" for n in _INVISIBLE}
)
_HIDDEN = re.compile(f"[{''.join(map(re.escape, map(chr, _SHOWN)))}\ud800-\udfff]")
FORMULA = ("=", "+", "-", "@")
HIDDEN = "***"
# user:password@ of a server (a path, as sqlite has, begins with a slash); password=… of options.
_BEFORE_AT = re.compile(r"(?<=://)(?!/)[^\s'\"]*(?=@)")
_OPTION = re.compile(r"(?<=[?&])((?:\w*password|passwd|pwd|\w*token|\w*secret)=)[^&\s'\"]+", re.I)


def visible(text: str) -> str:
    """Control characters as pictures (␛), marks of direction and invisible characters by number.

    Line breaks and tabs stay. What has none of them comes back as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(lambda found: _SHOWN.get(ord(found[0]), "\ufffd"), text)


def no_characters(text: str) -> str:
    """The same for HTML and XML, which have no place for code points that are no characters."""
    return re.sub("[\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", visible(text))


def line(text: object) -> str:
    """The same on one line: a name cannot pretend to be a line of its own."""
    return visible(" ".join(str(text).split()))


def terminal(text: object) -> str:
    """Text to stand in a line of rich's markup."""
    from rich.markup import escape

    return escape(visible(str(text)))


def markdown(text: object) -> str:
    """Text that cannot leave its line, its cell, or become markup."""
    shown = line(text)
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#!])", r"\\\1", shown)


def csv_cell(text: str) -> str:
    """Text in a cell that no spreadsheet runs as a formula, also where it splits at semicolons.

    A carriage return would begin a row where only line feeds are quoted: it is shown as ␍.
    """
    shown = visible(text.replace("\t", " "))
    shown = re.sub(r"([;\n]\s*)(?=[=+\-@＝＋－＠])", r"\1'", shown)
    begins = re.sub(r"\A[\s␀-␡]+", "", shown)
    first = unicodedata.normalize("NFKC", begins)[:1]
    return f"'{shown}" if first in FORMULA else shown


def redacted(text: str) -> str:
    """`text` with `***` for what stands before the @ of an address in it, and for its passwords."""
    return _OPTION.sub(rf"\1{HIDDEN}", _BEFORE_AT.sub(HIDDEN, text))

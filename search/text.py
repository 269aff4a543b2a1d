"""Text of unknown origin made harmless: on a terminal, as a file name, in a shell.

What a database holds was written by whoever can write there, and may be anything.
"""

import hashlib
import shlex

_MOST_BYTES = 150  # of the 255 that a file name has: prefix, suffix and a draft's marks come to it


def printable(text: str, *, keep: str = "") -> str:
    """Return text that stays in its line and moves no cursor.

    A character that does not print (controls, bidi marks, lone surrogates), unless it is one to
    `keep`, is a space.
    """
    return "".join(c if c.isprintable() or c in keep else " " for c in text)


def file_name(name: str) -> str:
    """Return a study's name as part of a file name: as it is where that is possible.

    Else what would lead elsewhere (slashes, a first dot or dash) or does not print is an
    underscore, what is too long is cut, and a digest keeps names apart.
    """
    safe = "".join("_" if c in "/\\" or not c.isprintable() else c for c in name)
    if safe[:1] in (".", "-", ""):
        safe = f"_{safe[1:]}"
    cut = safe.encode()[:_MOST_BYTES].decode(errors="ignore")
    if cut == name:
        return name
    return f"{cut}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def shell_line(*words: str) -> str:
    """Return a command to paste into a shell, in one line that prints.

    shlex quotes it; a word with a character that does not print is written as bash's $'...'.
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = ""
    for c in word:
        if c.isprintable():
            escaped += f"\\{c}" if c in "\\'" else c
        else:
            escaped += "".join(f"\\x{byte:02x}" for byte in c.encode(errors="surrogatepass"))
    return f"$'{escaped}'"

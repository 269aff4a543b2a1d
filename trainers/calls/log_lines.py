"""Free lines of a log, such as `Epoch 3 [40/391] loss 1.2 lr 4.06e-04`: line -> Row."""

import re
from functools import lru_cache

from trainers.calls.log_numbers import NUMBER, WRAP, number, percent, small, whole
from trainers.calls.log_rows import Row, is_option, is_planned

_ANSI = re.compile(r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")

# Lines are read in lower case and label by label: a label's key is found first, then what stands
# before it and after it, so that long lines cost no more than their length.
_COUNT = r"\d{1,3}(?:[,_]\d{3})+(?![\d.])|\d{1,15}(?!\d)"
_NAMED = r"(?:\s?(?:num(?:ber)?|no\.?|nr\.?|idx|index|id)|_(?:num(?:ber)?|idx|index|id)|_?n)?"
_SET = (
    r"['\"*`]{0,2}\s{0,20}(?:(?<=['\"]),\s|[:=#|>]\s{0,20}){0,2}"
    r"['\"\[(#]{0,3}\s{0,20}(?:[:=#]\s{0,20})?"
)
_OF = rf"(?:\s{{0,10}}['\"]?\s{{0,10}}(?:/|of|out of)\s{{0,10}}({_COUNT}))?"
_PHASE = r"(?:\s?\(train\w{0,4}\))?"

_RATE_KEY = re.compile(r"lr|learning[ _-]?rate")
_RATE_BEFORE = re.compile(r"(?:(?<![a-z])[a-z]\w{0,30}[ /_.-]){1,2}$")
_RATE = re.compile(
    r"(?P<name>(?:lr|learning[ _-]?rate)(?:s(?![a-z]))?"
    r"(?:\d{1,2}(?![\d.,e]))?"
    r"(?:[-_/.](?![\d.,]{1,40}(?:e[+-]?\d|[.,]|\d\b)|\s)[a-z0-9_]{1,40}){0,4})"
    r"(?![a-z])"
    r"(?P<index>\s?\[\s?\d{1,2}\s?\](?=\s{0,9}['\"]?\s{0,9}[:=|]|\s{1,9}[\d.'\"(-])"
    r"|\(\)(?:\[\d{1,2}\])?"
    r"|\s?\(\s?(?:[a-z][\w .#/:-]{0,30}|\d{1,2})\s?\)"
    r"|\s(?:(?:of|for|in)\s)?(?:the\s)?(?:param(?:eter)?[ _]?)?(?:group|pg)\s?[#\[]?\d{1,2}\]?)?"
    r"['\"`*\])]{0,3}\s{0,60}"
    r"(?:(?:(?<=['\"]),|=>|->|→|:=|==|[:=|│┃~≈]|(?:is|was|to|at|now|set)\b|[-–](?=\s))\s{0,60}){0,3}"
    rf"(?P<wrap>{WRAP}{{0,12}})(?:(?P<key>[\w./-]{{1,40}})['\"]?\s?:\s?{WRAP}{{0,6}})?"
    rf"(?P<rate>{NUMBER})(?P<percent>\s?%)?(?P<then>[a-z_/]?)"
)
_NEXT = re.compile(
    rf"[)\]\s'\"]{{0,4}}[,;\s]\s{{0,9}}(?:['\"]?(?P<key>[a-z_][\w./-]{{0,39}})['\"]?\s?:\s?)?"
    rf"{WRAP}{{0,6}}(?P<rate>{NUMBER})(?![a-z_])"
)
_EPOCH_KEY = re.compile(r"epoch|ep(?![a-z])|train")
_EPOCH_BEFORE = re.compile(
    r"(?:^|[^a-z_])(?:(?:cur(?:rent)?|train(?:ing|er)?|this|global)[ _/])?$"
)
_EPOCH = re.compile(
    rf"(?:ep(?:oche?)?(?:[ _]?{_NAMED}){_PHASE}(?![a-z_])"
    r"|train(?:ing)?\s?:?(?=\s{0,4}\d{1,6}\s{0,4}\[))"
    rf"{_SET}(\d{{1,9}}(?:[.,]\d{{1,20}})?(?:e[+-]?\d{{1,3}})?)(?!\d|\s?%){_OF}"
)
_PAIR = re.compile(
    rf"\[\s{{0,4}}(\d{{1,6}})(?:\s{{0,4}}/\s{{0,4}}(\d{{1,6}}))?\s{{0,4}}[\],]\s{{0,4}}\[?"
    rf"\s{{0,4}}({_COUNT})\s{{0,4}}/\s{{0,4}}({_COUNT})\s{{0,4}}(?:\(|\])"
)
_WITHIN = re.compile(
    r"['\"\])}:,;|\s-]{0,20}(?:(?:batch|b|i|mb)\s{0,4}[:=#]?\s{0,4})?"
    rf"(?:\[\s{{0,9}}({_COUNT})\s{{0,9}}(?:/\s{{0,9}}({_COUNT})|\])"
    rf"|({_COUNT})\s{{0,9}}/\s{{0,9}}({_COUNT})(?![\d./]))"
)
_STEP_KEY = re.compile(r"step|iter|it(?![a-z])|num_updates|n_iter|update")
_STEP_BEFORE = re.compile(
    r"(?:^|[^a-z_/])_?(?:(?:global|train(?:er|ing)?|optim(?:izer)?|cur(?:rent)?)[ _/-]?){0,2}$"
)
_STEP = re.compile(
    rf"(?:step|iter(?:ation)?|it|num_updates|n_iter|update)s?{_PHASE}{_NAMED}(?![a-z_])"
    rf"{_SET}({_COUNT})(?![.]\d|[km]\b|\s?%){_OF}"
)
_BATCH_KEY = re.compile(r"batch")
_BATCH_BEFORE = re.compile(r"(?:^|[^a-z_/])(?:mini[ -]?)?$")
_BATCH = re.compile(rf"batch(?:[ _]?(?:i|{_NAMED}))(?![a-z_]){_SET}({_COUNT})(?![.]\d){_OF}")
_BARE_KEY = re.compile(rf"({_COUNT})\s{{0,9}}/\s{{0,9}}({_COUNT})")
_BARE_BEFORE = re.compile(
    r"(?:^\W{0,6}|[|┃│\[]\s{0,9}|[━╸╺─█▏#=>\]-]\s{1,9}|%\s{1,9}"
    r"|(?:train|training|progress|batches)[:\s]\s{0,9})$"
)
_BARE = re.compile(
    rf"({_COUNT})\s{{0,9}}/\s{{0,9}}({_COUNT})(?![\d./]|\s?[kmgt]i?b\b|\s\d\d:\d\d:\d\d)"
)
_NOT_NOW = (
    "best",
    "last",
    "max",
    "total",
    "num",
    "start",
    "end",
    "warmup",
    "warm-up",
    "per",
    "every",
    "next",
    "previous",
    "prev",
    "from",
    "after",
    "until",
    "since",
    "patience",
    "each",
)
"""A word before 'epoch 3' or 'step 3' that makes it another one than that of the moment."""
_SETTING_WORDS = (" is", " was", " to", " at", " now", " set")
_BACK = 48
"""So many characters before a rate are looked at."""
_LABEL_BACK = 24
"""So many before a label: no word there is longer, and the search tries each of them."""


def clean(line: str) -> str:
    """Return a line without terminal colours."""
    return _ANSI.sub("", line) if "\x1b" in line else line


def read_line(line: str) -> Row | None:
    """Return what a free line says; None for one without rate, epoch and step."""
    low = line.lower()
    if len(low) != len(line):
        line = low  # a letter that is longer in lower case would shift the places
    row = Row()
    comma = ("lr" in low or "learning" in low) and _rates(line, low, row)
    if not row.rates and not ("epoch" in low or "ep" in low or "step" in low or "iter" in low):
        return None
    _positions(line, low, row, comma=comma)
    return row if row.rates or row.epoch is not None or row.step is not None else None


def _rates(line: str, low: str, row: Row) -> bool:
    """Add the rates of a line; return whether they have a decimal comma."""
    comma, end = False, 0
    for key in _RATE_KEY.finditer(low):
        start = key.start()
        if start < end or (start and low[start - 1].isalpha()):
            continue
        match = _RATE.match(low, start)
        if match is None or _is_count(match):
            continue
        printed, wrap, item, percents = match.group("rate", "wrap", "key", "percent")
        words = line[max(0, start - _BACK) : start].rsplit(" ", 2)[1:]
        before = " ".join(word for word in words if not word or word[0].isalpha())
        name = _name(before, line[start : match.start("wrap")])
        rate = None if name is None else number(printed)
        if name is None or rate is None:
            continue
        comma = comma or "," in printed
        row.add(f"{name}/{item}" if item else name, percent(rate) if percents else rate)
        end = match.end("rate")
        if "[" in wrap or "(" in wrap or "{" in wrap:
            _more_groups(low, end, name, row)
    return comma


@lru_cache(maxsize=1024)
def _name(before: str, name: str) -> str | None:
    """Return a rate's name with what is joined to it; None for an option's name."""
    match = _RATE_BEFORE.search(before.lower())
    words = "" if match is None else before[match.start() :]
    name = re.sub(r"\s+", " ", name).rstrip(" :=|'\"`*>~≈→│┃-")
    for word in _SETTING_WORDS:
        name = name.removesuffix(word)
    if is_option(name) or is_planned(words):
        return None
    return (words if words.endswith(("_", "/", ".", "-")) else "") + name


def _more_groups(low: str, end: int, name: str, row: Row) -> None:
    for number_of_group in range(1, 8):
        item = _NEXT.match(low, end)
        if item is None:
            return
        row.add(f"{name}/{item['key'] or number_of_group}", number(item["rate"]))
        end = item.end("rate")


def _is_count(match: re.Match[str]) -> bool:
    """Whether 'lr 3rd' or 'lr 10 epochs' follows: a whole number with letters at it is no rate."""
    return bool(match["then"]) and match["rate"].isdigit()


def _positions(line: str, low: str, row: Row, *, comma: bool) -> None:
    epoch = _labelled(low, _EPOCH_KEY, _EPOCH_BEFORE, _EPOCH)
    if epoch is not None:
        text = epoch.group(1) if comma else epoch.group(1).split(",")[0]
        row.epoch, row.epochs = small(number(text)), _count(epoch.group(2))
        row.forms["epoch"] = (line, *epoch.span())
        within = _WITHIN.match(low, epoch.end())
        if within is not None:
            row.batch = _count(within.group(1) or within.group(3))
            row.batches = _count(within.group(2) or within.group(4))
            row.forms["batch"] = (line, *within.span())
    elif row.rates and "[" in low and (pair := _PAIR.search(low)) is not None:
        row.epoch, row.epochs = number(pair.group(1)), _count(pair.group(2))
        row.batch, row.batches = _count(pair.group(3)), _count(pair.group(4))
        row.forms["epoch"] = (line, *pair.span())
    placed = row.epoch is not None and row.batches is not None
    step = None if placed else _labelled(low, _STEP_KEY, _STEP_BEFORE, _STEP)
    if step is not None:
        row.step, row.steps = _count(step.group(1)), _count(step.group(2))
        row.forms["step"] = (line, *step.span())
    if row.batch is None and row.rates:
        batch = _labelled(low, _BATCH_KEY, _BATCH_BEFORE, _BATCH)
        if batch is None and step is None and "/" in low:
            batch = _labelled(low, _BARE_KEY, _BARE_BEFORE, _BARE)
            if batch is not None and (_count(batch.group(1)) or 0) > (_count(batch[2]) or 0):
                batch = None
        if batch is not None:
            row.batch, row.batches = _count(batch.group(1)), _count(batch.group(2))
            row.forms["batch"] = (line, *batch.span())


def _labelled(
    low: str, key: re.Pattern[str], before: re.Pattern[str], value: re.Pattern[str]
) -> re.Match[str] | None:
    """Return the first value whose label stands alone and speaks of the moment."""
    for found in key.finditer(low):
        start = found.start()
        match = value.match(low, start)
        if match is None or before.search(low, max(0, start - _LABEL_BACK), start) is None:
            continue
        if not low[max(0, start - 12) : start].rstrip(" _:=").endswith(_NOT_NOW):
            return match
    return None


def _count(text: str | None) -> int | None:
    return None if text is None else whole(text)

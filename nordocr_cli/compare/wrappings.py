"""What vision-language models add around a transcription, and how it is removed.

Each rule has a name, and every answer records which rules it needed. Rules are applied in order,
until none of them changes anything. Nordic quotation marks (”…”, »…«) around the complete line
stay: lines in quotation marks exist, and models use the straight or English ones.
"""

import html
import json
import re
from collections.abc import Callable

Rule = Callable[[str], str | None]
_MAX_ROUNDS = 4  # a fence in an answer tag after thoughts has three

# The end of a model's thoughts; the answer follows the last of them.
_END_OF_THOUGHTS = ("</think>", "</thinking>", "</thought>", "◁/think▷", "[/THINK]")
_FINAL_CHANNEL = "<|channel|>final<|message|>"
_SPECIAL_TOKEN = re.compile(r"<\|[^<>|]{1,40}\|>|</s>|<s>|<eos>|<bos>|<end_of_turn>")
_TAG = re.compile(
    r"\A\s*<(answer|text|transcription|output|result|ocr)>(.*?)(?:</\1>\s*)?\Z",
    re.DOTALL | re.IGNORECASE,
)
_FENCE = re.compile(r"```(?:[A-Za-z]*\n)?(.*?)\n?```", re.DOTALL)
_BACKTICKS = re.compile(r"\A`([^`\n]+)`\Z")
_BOLD = re.compile(r"\A(\*\*|__)(?![\s_*])(.+?)(?<![\s_*])\1\Z")
_LATEX = re.compile(r"\A(?:\$\$?([^$]+)\$\$?|\\\((.+)\\\)|\\\[(.+)\\\])\Z")
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\{([^{}]*)\}")
_LATEX_ESCAPE = re.compile(r"\\([%&_$#{}])")
_QUOTES = re.compile(r'\A(?:"([^"]*)"|“([^”“"]*)”)\Z')
_QUOTES_AFTER_LEAD_IN = re.compile(r"""\A["'“”„«»](.*)["'“”„«»]\Z""", re.DOTALL)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5}|#x[0-9a-fA-F]{2,4});")
_TEXT_KEYS = (
    "text",
    "transcription",
    "transcript",
    "answer",
    "content",
    "result",
    "ocr",
    "line",
)
_MAX_LEAD_IN = 60  # characters between the words that announce a text and the colon

_ENGLISH_LEAD_IN = (
    r"(?:(?:sure|certainly|of course|okay|ok)\b[,.!:]*\s+)?"
    rf"(?:here(?:['’]s| is| are)\b[^:\n]{{0,{_MAX_LEAD_IN}}}"
    rf"|the (?:\w+ ){{0,2}}(?:text|line|transcription|image)\b[^:\n]{{0,{_MAX_LEAD_IN}}})"
)
# Swedish, Norwegian and Danish, Icelandic, Finnish: "the text in the image reads", "here is the
# text", "transcription".
_NORDIC_LEAD_IN = (
    rf"(?:texten|teksten|bilden|bildet|billedet|raden|linjen|linjan|textinn|myndin|línan|teksti)\b"
    rf"[^:\n]{{0,{_MAX_LEAD_IN}}}"
    rf"|(?:här|her|hér|tässä)\b[^:\n]{{0,{_MAX_LEAD_IN}}}"
    r"\b(?:texten|teksten|raden|linjen|transkriptionen|transkripsjonen|textinn|línan|teksti)"
    rf"\b[^:\n]{{0,{_MAX_LEAD_IN}}}"
    r"|(?:transkription|transkripsjon|avskrift|uppskrift)(?: (?:av|af)\b[^:\n]{0,60})?"
)
_LEAD_IN = re.compile(rf"\A\s*(?:{_ENGLISH_LEAD_IN}|{_NORDIC_LEAD_IN}):\s*", re.IGNORECASE)

_ENGLISH_REFUSAL = (
    r"i(?:['’]?m| am) (?:sorry|unable|not able)|sorry[,.]|i (?:cannot|can['’]?t|can not)\b"
    r"|unable to\b|as an ai\b|unfortunately,? i\b"
    r"|there is no (?:visible |legible |readable )?text\b"
    r"|the (?:image|text) (?:is|appears) (?:too )?(?:blurry|illegible|unreadable|blank|empty)\b"
)
_NORDIC_REFUSAL = (
    r"(?:tyvärr|beklager|desværre|dessverre|því miður|valitettavasti|förlåt|undskyld)\b"
    r"|ja[gi] kan (?:tyvärr |desværre )?(?:inte|ikke)\b|jeg kan (?:dessverre |desværre )?ikke\b"
    r"|jag (?:är ledsen|beklagar)|jeg (?:er lei meg|beklager)"
    r"|ég get (?:því miður )?ekki\b|en (?:voi|pysty)\b"
    r"|det (?:finns|er|är) (?:ingen|inget|ikke noen|ingen synlig) (?:text|tekst)\b"
    r"|(?:bilden|bildet|billedet) (?:är|er) (?:för |for )?(?:suddig|oläslig|uleselig|sløret|tom)\b"
)
_REFUSAL = re.compile(rf"\A(?:{_ENGLISH_REFUSAL}|{_NORDIC_REFUSAL})", re.IGNORECASE)


def unwrap(content: str) -> tuple[str, tuple[str, ...]]:
    """Return the text in a model's answer, and the names of the rules that removed something."""
    text = content.strip()
    used = []
    for _ in range(_MAX_ROUNDS):
        before = text
        for name, rule in RULES.items():
            # Quotation marks are removed once: a line in quotation marks may have been quoted.
            if name in used and name == "quotes":
                continue
            changed = rule(text)
            if changed is not None and changed.strip() != text:
                text = changed.strip()
                used.append(name)
        if text == before:
            break
    return text, tuple(dict.fromkeys(used))


def is_refusal(text: str) -> bool:
    """Whether the model says that it cannot or will not read the line."""
    return _REFUSAL.match(text) is not None


def _thoughts(text: str) -> str | None:
    ends = [(text.rfind(mark), mark) for mark in _END_OF_THOUGHTS]
    position, mark = max(ends)
    if position >= 0:
        return text[position + len(mark) :]
    return None


def _final_channel(text: str) -> str | None:
    position = text.rfind(_FINAL_CHANNEL)
    if position >= 0:
        return text[position + len(_FINAL_CHANNEL) :]
    return None


def _special_tokens(text: str) -> str | None:
    return _SPECIAL_TOKEN.sub("", text)


def _answer_tag(text: str) -> str | None:
    found = _TAG.match(text)
    if found:
        return found[2]
    return None


def _json_text(text: str) -> str | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    texts = [value[key] for key in _TEXT_KEYS if isinstance(value.get(key), str)]
    if len(texts) == 1:
        return texts[0]
    return None


def _fence(text: str) -> str | None:
    """Return the text of the only fence; the text around it is commentary."""
    found = _FENCE.findall(text)
    if len(found) == 1:
        return found[0]
    return None


def _backticks(text: str) -> str | None:
    found = _BACKTICKS.match(text)
    if found:
        return found[1]
    return None


def _lead_in(text: str) -> str | None:
    found = _LEAD_IN.match(text)
    if not found or found.end() == len(text):
        return None
    rest = text[found.end() :].strip()
    quoted = _QUOTES_AFTER_LEAD_IN.match(rest)
    if quoted:
        return quoted[1]
    return rest


def _bold(text: str) -> str | None:
    found = _BOLD.match(text)
    if found:
        return found[2]
    return None


def _latex(text: str) -> str | None:
    found = _LATEX.match(text)
    if not found:
        return None
    formula = next(group for group in found.groups() if group is not None)
    return _LATEX_ESCAPE.sub(r"\1", _LATEX_TEXT.sub(r"\1", formula))


def _quotes(text: str) -> str | None:
    found = _QUOTES.match(text)
    if not found:
        return None
    if found[1] is not None:
        return found[1]
    return found[2]


def _entities(text: str) -> str | None:
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text)


RULES: dict[str, Rule] = {
    "thoughts": _thoughts,
    "final channel": _final_channel,
    "special tokens": _special_tokens,
    "answer tag": _answer_tag,
    "json": _json_text,
    "code fence": _fence,
    "backticks": _backticks,
    "lead-in": _lead_in,
    "bold": _bold,
    "latex": _latex,
    "quotes": _quotes,
    "html entities": _entities,
}

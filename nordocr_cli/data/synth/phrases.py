"""Short business texts made from a vocabulary alone: labels with values, addresses, headings,
quotes, sentences.
"""

import random

from nordocr_cli.data.synth.figures import amount, date, digits, number
from nordocr_cli.data.synth.vocabulary import ICELANDIC, NYNORSK_WORDS, Vocabulary

# Characters and pairs of them whose look decides a word or an amount.
_CONFUSABLE_TEXT = (
    "0 O 0O O0 1 l I 1l l1 I1 Il lI 5 S 8 B 2 Z 6 G 7 1 rn m cl d vv w ri n . , : ; ' \" - – — _ |"
    " / \\ ( [ { } ] ) ° o × x ± + * § $ £ € « » “ ” ‘ ’ Å Ä Ö Ø Æ Ð Þ Ü å ä ö ø æ ð þ ü A a O o u"
)
_CONFUSABLE = _CONFUSABLE_TEXT.split()
_SMALL_TEXT = "kr Kr SEK % § Ja Nej x X A B 1) - – Nr à € # * &"
_SMALL = _SMALL_TEXT.split()
_DASHES = "-–—"
_QUOTES = tuple(zip("”“\"»«’‘'", "””\"«»’’'", strict=True))  # (opening, closing)
_WWW = ("www.", "https://", "http://www.")
_ASCII = str.maketrans("åäöøæðþéüáíóúý ", "aaooadteuaiouy.")
_TOP_LEVEL = {"sv": "se", "no": "no", "da": "dk", "is": "is"}


def address(rng: random.Random, v: Vocabulary) -> str:
    """An e-mail address, a URL, a path, or something else that programs write."""
    first = (
        rng.choice((*v.people, "info", "faktura", "post", "order"))
        .lower()
        .translate(_ASCII)
    )
    domain = (
        rng.choice(v.companies)
        .lower()
        .translate(_ASCII)
        .replace(".", rng.choice(("", "-")))
    )
    draw = rng.random()
    if draw < 0.55:
        mark = rng.choice((".", ".", "_", "-"))
        suffix = rng.choice(("", "", mark + digits(rng, 2)))
        return f"{first.replace('.', mark)}{suffix}@{domain}.{_TOP_LEVEL[v.language]}"
    if draw < 0.85:
        site = f"{rng.choice(_WWW)}{domain}.{rng.choice((_TOP_LEVEL[v.language], 'com'))}"
        return site + rng.choice(("", "/faktura", f"/kontakt?id={digits(rng, 3)}", "/#a_b"))
    return rng.choice(
        (
            rf"C:\{domain}\{first}_{rng.randint(1990, 2030)}.pdf",
            f"~/{first}/{domain}",
            f"{{{domain}}}",
            f"[{first}]",
            f"{first}_{digits(rng, 2)}.xlsx",
            f"<{first}>",
            f"${domain.upper()}",
            f"a^{rng.randint(2, 9)} = `{first[:4]}`",
        )
    )


def labelled(rng: random.Random, v: Vocabulary) -> tuple[str, ...]:
    """`Label: value`, in one cell or with a gap between."""
    label = rng.choice(v.labels)
    if rng.random() < 0.75:
        value = number(rng, v)
    else:
        value = rng.choice((*v.people, *v.companies, *v.places))
    colon = rng.choice((":", ":", "", " :"))
    if rng.random() < 0.4:
        return (label + colon.strip(), value)
    return (f"{label}{colon} {value}",)


def business(rng: random.Random, v: Vocabulary) -> tuple[str, ...]:
    """Addresses, companies, paragraphs, notes, headings with numbers."""
    draw = rng.random()
    if draw < 0.25:
        return (address(rng, v),)
    if draw < 0.45:
        street = f"{rng.choice(v.streets)} {rng.randint(1, 199)}{rng.choice(('', '', ' B', 'A'))}"
        if v.language == "sv":
            town = f"{digits(rng, 3)} {digits(rng, 2)} {rng.choice(v.places)}"
        else:
            town = f"{digits(rng, 3 if v is ICELANDIC else 4)} {rng.choice(v.places)}"
        return (rng.choice((street, town, f"{street}, {town}")),)
    if draw < 0.65:
        return (f"{rng.choice(v.companies)} {rng.choice(v.forms)}",)
    if draw < 0.82:
        section = rng.choice(
            (
                f"{rng.randint(1, 40)} §",
                f"§ {rng.randint(1, 40)}",
                f"§ {rng.randint(1, 20)}-{rng.randint(1, 30)}",
                f"{rng.randint(1, 20)} kap. {rng.randint(1, 40)} §",
                f"{rng.randint(1, 9)}.{rng.randint(1, 9)}",
                f"{rng.randint(1, 20)})",
                f"{rng.choice('abcdef')})",
                f"Not {rng.randint(1, 30)}",
                "*",
                "#",
                "–",
            )
        )
        return (f"{section} {rng.choice((*v.headings, *v.accounts, *v.endings))}",)
    opening, closing = rng.choice(_QUOTES)
    word = rng.choice((*v.companies, *v.items, *v.headings))
    return (
        rng.choice(
            (
                f"{opening}{word}{closing}",
                f"({word})",
                f"[{word}]",
                f"{word} & {rng.choice(v.items)}",
                f"{word} / {rng.choice(v.units)}",
                f"{word}!",
                f"{word}?",
                f"{word}; {rng.choice(v.units)}",
                f"{word} + {rng.choice(v.items)}",
                f"{word} = {amount(rng, v)}",
                f"* {word}",
                f"{word} *)",
                f"{word} @ {amount(rng, v)}",
                f"{word} – {rng.choice(v.items)}",
                f"{word} — {date(rng, v)}",
            )
        ),
    )


def short(rng: random.Random, v: Vocabulary) -> tuple[str, ...]:
    """One to three characters: `5`, `Kr`, `%`."""
    draw = rng.random()
    if draw < 0.4:
        return (str(rng.randint(0, 99)),)
    if draw < 0.6:
        return (rng.choice((*v.units, *_SMALL)),)
    return (rng.choice(_CONFUSABLE),)


def sentence(rng: random.Random, v: Vocabulary, language: str) -> str:
    """A sentence of a report or a letter. `language` may be "nn", whose vocabulary is the Norwegian
    one.
    """
    if language == "nn" and rng.random() < 0.6:
        return f"{rng.choice(NYNORSK_WORDS)} {rng.choice(v.endings)}{rng.choice('.,.;')}"
    draw = rng.random()
    if draw < 0.7:
        return f"{rng.choice(v.openings)} {rng.choice(v.verbs)} {rng.choice(v.endings)}."
    if draw < 0.85:
        links = ("uppgick till", "var", "=", ":", "–", "-")
        account = rng.choice(v.accounts)
        link = rng.choice(links if v.language == "sv" else links[1:])
        return f"{account} {link} {amount(rng, v)} ({amount(rng, v)})."
    return (
        f"{rng.choice(v.labels)}: {number(rng, v)}, {rng.choice(v.items).lower()}"
        f" {rng.randint(1, 90)} {rng.choice(v.units)}."
    )


def quote_or_number(rng: random.Random, text: str, v: Vocabulary) -> str:
    """Now and then number a line, bullet it, quote a word of it, or let it end in dots."""
    draw = rng.random()
    if draw > 0.985:
        return text.rstrip(".,;:") + "." * rng.randint(2, 5)
    if draw < 0.03:
        return f"{rng.randint(1, 99)}{rng.choice(('.', ')', ' §'))} {text}"
    if draw < 0.05:
        return f"{rng.choice(_DASHES + '*')} {text}"
    if draw < 0.09:
        words = text.split(" ")
        place = rng.randrange(len(words))
        opening, closing = rng.choice(_QUOTES)
        words[place] = f"{opening}{words[place]}{closing}"
        return " ".join(words)
    return text


def vary_case(rng: random.Random, cells: tuple[str, ...]) -> tuple[str, ...]:
    """Now and then set a line in capitals, or give every cell a capital."""
    draw = rng.random()
    if draw < 0.06:
        return tuple(cell.upper() for cell in cells)
    if draw < 0.08:
        return tuple(cell[:1].upper() + cell[1:] for cell in cells)
    return cells

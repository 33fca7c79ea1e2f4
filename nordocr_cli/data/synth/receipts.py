"""Lines of till receipts: items, prices, taxes, totals, dates, codes and shop addresses, in the
languages of Europe.

Nothing here is copied from a receipt: words are drawn from lists, figures at random.
"""

import random

from nordocr_cli.data.synth.figures import digits
from nordocr_cli.data.synth.vocabulary import Vocabulary

_GOODS = (
    "MILK BREAD BUTTER CHEESE EGGS RICE FLOUR SUGAR SALT TEA COFFEE JUICE WATER COLA BEER WINE "
    "CHIPS CANDY CHOCOLATE BISCUIT NOODLE CHICKEN BEEF PORK FISH PRAWN TOFU ONION GARLIC TOMATO "
    "POTATO CARROT APPLE BANANA ORANGE GRAPE LEMON SOAP SHAMPOO TOOTHPASTE TISSUE DETERGENT "
    "BATTERY BULB CABLE SCREW NAIL PAINT BRUSH GLUE TAPE PAPER PEN PENCIL ERASER RULER ENVELOPE "
    "STAPLER FOLDER MARKER SHIRT SOCK TOWEL CUP PLATE BOWL SPOON KNIFE FORK BAG BOX BOTTLE CAN "
    "PETROL DIESEL PARKING SERVICE SET LUNCH DINNER BURGER PIZZA FRIES SALAD SOUP CAKE PIE LATTE "
    "MOCHA ESPRESSO AMERICANO SANDWICH KEBAB CURRY HOSE VALVE"
)
_QUALITIES = (
    "FRESH LARGE SMALL MEDIUM HOT ICED SPICY WHITE BROWN BLACK GREEN RED BLUE YELLOW ORGANIC "
    "SALTED PLAIN MIXED DRY FROZEN CRISPY FRIED GRILLED ROASTED SWEET EXTRA MINI MAXI DOUBLE "
    "SUPER PREMIUM CLASSIC ORIGINAL LIGHT NATURAL PURE SOFT HARD STEEL PLASTIC"
)
_PLACES = (
    "MAIN STREET|HIGH STREET|STATION ROAD|PARK AVENUE|MARKET SQUARE|INDUSTRIAL PARK|CITY CENTRE|"
    "SHOPPING MALL|GROUND FLOOR|LOT 5|BLOCK C|LEVEL 2|HARBOUR|NORTH GATE|TAMAN BARU|JALAN BESAR|"
    "LORONG 3|BANDAR UTAMA|RUE DE LA GARE|HAUPTSTRASSE|VIA ROMA|CALLE MAYOR|STORGATAN|KIRKEGATA|"
    "VESTERGADE|LAUGAVEGUR"
)
_SHOPS = (
    "MART|TRADING|ENTERPRISE|HARDWARE|STATIONERY|RESTAURANT|CAFE|BAKERY|PHARMACY|BOOK STORE|"
    "MINIMARKET|SUPERMARKET|ELECTRICAL|PETROL STATION|FURNITURE|GIFT SHOP|CLINIC|MOTOR PARTS|"
    "TEXTILE|SEAFOOD"
)
_COMPANIES = (
    "SDN BHD",
    "SDN. BHD.",
    "LTD",
    "LTD.",
    "INC.",
    "CO.",
    "GMBH",
    "AB",
    "AS",
    "A/S",
    "EHF.",
    "S.A.",
    "S.R.L.",
    "(M) SDN BHD",
)
_NAMES = (
    "LEE TAN WONG LIM NG OOI SINGH KUMAR AHMAD ALI ANNA MARIA PETER JOHN PAUL LUCY KAREN ERIK "
    "LARS NILS SARA EMMA OLA KARI JENS SUNNY GOLDEN LUCKY STAR UNITED GLOBAL ROYAL PRIME SMART "
    "EASY HAPPY ORIENTAL PACIFIC NORDIC ALPHA OMEGA DELTA EAGLE LION"
)
_LABELS = (
    "TOTAL|SUBTOTAL|SUB TOTAL|SUB-TOTAL|GRAND TOTAL|TOTAL AMOUNT|NET TOTAL|TOTAL SALES|TOTAL QTY|"
    "TOTAL (INCL. GST)|TOTAL EXCL. TAX|CASH|CHANGE|CHANGE DUE|BALANCE|PAID|TENDERED|AMOUNT|"
    "AMOUNT DUE|DISCOUNT|DISC|ROUNDING|ROUNDING ADJ|ROUNDED TOTAL|SERVICE CHARGE|TAX|GST|GST 6%|"
    "GST @6%|VAT 25%|VAT 20%|SALES TAX|TAX AMT|TAX CODE|SR|ZRL|QTY|ITEM|ITEMS|ITEM COUNT|"
    "DESCRIPTION|PRICE|U/PRICE|UNIT PRICE|PRICE/UNIT|CARD|VISA|MASTERCARD|DEBIT|CREDIT|DEPOSIT|"
    "SUMMA|ATT BETALA|MOMS|KONTANT|KORT|VÄXEL|Å BETALE|SUM|MVA|BELØB|I ALT|HERAF MOMS|DANKORT|"
    "SAMTALS|VSK|SUMME|MWST|BAR|RÜCKGELD|MONTANT|TVA|ESPÈCES|RENDU|TOTALE|RESTO|IVA|EFECTIVO|"
    "CAMBIO"
)
_HEADS = (
    "DATE|TIME|INVOICE NO|INV NO|RECEIPT NO|RECEIPT #|BILL NO|DOC NO|REF NO|TABLE|TABLE NO|"
    "CASHIER|SERVED BY|STAFF|TERMINAL|POS|COUNTER|MEMBER NO|CUSTOMER|PAX|COVERS|TRX|TRANS|"
    "APPR CODE|CARD NO|GST ID|GST REG NO|GST NO|CO. REG. NO|REG NO|ROC NO|TEL|TEL NO|FAX|PHONE|"
    "EMAIL|SALESPERSON|TERM|STATION|DATUM|TID|KVITTO NR|KASSA|ORG NR|BON|DATO|KVITTERING"
)
_SENTENCES = (
    "THANK YOU|THANK YOU PLEASE COME AGAIN|THANK YOU FOR YOUR VISIT|"
    "GOODS SOLD ARE NOT RETURNABLE|GOODS SOLD ARE NOT REFUNDABLE|NO REFUND WITHOUT RECEIPT|"
    "PLEASE KEEP THIS RECEIPT|KEEP THE RECEIPT AS PROOF OF PURCHASE|EXCHANGE WITHIN 7 DAYS ONLY|"
    "TAX INVOICE|SIMPLIFIED TAX INVOICE|CASH BILL|CASH SALES|OFFICIAL RECEIPT|CUSTOMER COPY|"
    "THIS IS A COMPUTER GENERATED RECEIPT|EXCHANGE WITH ORIGINAL RECEIPT ONLY|"
    "PLEASE PROVIDE THE ORIGINAL BILL|PRICES INCLUDE 6% TAX|OPEN MON-SAT 9.00AM-6.00PM|"
    "DUPLICATE|REPRINT|CLOSED BILL|TAKE AWAY|DINE IN|PRICES INCLUDE GST|ALL AMOUNTS IN|"
    "GST SUMMARY|END OF RECEIPT|HAVE A NICE DAY|WELCOME|PLEASE COME AGAIN|OPEN DAILY|TILLYKKE|"
    "TACK FÖR DITT KÖP|VÄLKOMMEN ÅTER|TAKK FOR HANDELEN|TAK FOR BESØGET|TAKK FYRIR|VIELEN DANK|"
    "MERCI DE VOTRE VISITE"
)
_CURRENCY = ("RM", "RM ", "$", "€", "£", "USD ", "EUR ", "")
_UNITS = (
    "PCS",
    "PC",
    "KG",
    "G",
    "ML",
    "L",
    "PKT",
    "CTN",
    "BOX",
    "SET",
    "UNIT",
    "EA",
    "BTL",
    "PACK",
    "ROLL",
    "M",
    "CM",
)
_SIZES = (
    "1",
    "2",
    "5",
    "6",
    "10",
    "12",
    "25",
    "50",
    "100",
    "200",
    "250",
    "330",
    "500",
    "750",
)
_MONTHS = (
    "JAN",
    "FEB",
    "MAR",
    "APR",
    "MAY",
    "JUN",
    "JUL",
    "AUG",
    "SEP",
    "OCT",
    "NOV",
    "DEC",
)


def receipt(rng: random.Random, v: Vocabulary) -> tuple[str, ...]:
    """Return the cells of one line of a receipt. Its case is that of the till: mostly capitals."""
    makers = (_price, _item, _total, _head, _sentence, _address, _quantity, _bare)
    cells = rng.choices(makers, (20, 18, 16, 15, 8, 9, 7, 7))[0](rng)
    draw = rng.random()
    if draw < 0.66:
        return cells
    if draw < 0.92:
        return tuple(_titled(cell) for cell in cells)
    return tuple(cell.lower() for cell in cells)


def _titled(cell: str) -> str:
    """Every word with one capital, as tills that are programmed by people print it; codes keep
    theirs.
    """
    return " ".join(
        word.capitalize() if word.isalpha() and len(word) > 2 else word
        for word in cell.split(" ")
    )


def _pick(rng: random.Random, words: str, separator: str | None = None) -> str:
    return rng.choice(words.split(separator))


def _money(rng: random.Random) -> str:
    value = 10 ** rng.uniform(-1, 3.4)
    text = f"{value:,.2f}" if rng.random() < 0.3 else f"{value:.2f}"
    if rng.random() < 0.14:
        text = text.replace(",", "").replace(".", ",")
    return text


def _price(rng: random.Random) -> tuple[str, ...]:
    if rng.random() < 0.3:
        text = rng.choice(_CURRENCY) + _money(rng)
    else:
        text = _money(rng)
    text = rng.choices(("0.00", text, f"-{text}", f"({text})"), (6, 84, 7, 3))[0]
    ending = rng.choices(
        ("", " SR", " ZRL", " T", " S", " Z", "*", " A", " kr", "-"),
        (70, 9, 3, 3, 4, 2, 3, 2, 2, 2),
    )[0]
    return (text + ending,)


def _goods(rng: random.Random) -> str:
    words = [_pick(rng, _GOODS)]
    if rng.random() < 0.55:
        words.insert(0, _pick(rng, _QUALITIES))
    if rng.random() < 0.3:
        words.append(_pick(rng, _GOODS))
    if rng.random() < 0.4:
        words.append(rng.choice(_SIZES) + rng.choice(("", "", ".5")) + rng.choice(_UNITS))
    text = " ".join(words)
    if rng.random() < 0.25:
        return text[: rng.randint(8, 24)].strip()
    return text


def _item(rng: random.Random) -> tuple[str, ...]:
    text = _goods(rng)
    draw = rng.random()
    if draw < 0.2:
        number = digits(rng, rng.choice((3, 4, 5, 6, 12, 13)))
        text = f"{number}{rng.choice((' ', '-', ' - '))}{text}"
    elif draw < 0.35:
        text = f"{rng.randint(1, 12)}{rng.choice((' ', ' x ', ' X ', '. ', ') '))}{text}"
    if rng.random() < 0.3:
        return (text, *_price(rng))
    return (text,)


def _total(rng: random.Random) -> tuple[str, ...]:
    label = _pick(rng, _LABELS, "|")
    if rng.random() < 0.15:
        label += rng.choice(
            (
                " RM",
                " (RM)",
                "(RM)",
                "(RM)",
                " ($)",
                "($)",
                " EUR",
                " (SEK)",
                "(SEK)",
                " NOK",
                " DKK",
            )
        )
    if rng.random() < 0.35:
        label += rng.choice((":", ":", " :"))
    if rng.random() < 0.45:
        return (label, *_price(rng))
    return (label,)


def _head(rng: random.Random) -> tuple[str, ...]:
    label = _pick(rng, _HEADS, "|")
    letters = _letters(rng, 1, 4)
    values = (
        _date(rng),
        _time(rng),
        digits(rng, rng.randint(1, 12)),
        letters + digits(rng, rng.randint(2, 8)),
        f"{digits(rng, rng.choice((2, 3)))}-{digits(rng, rng.choice((6, 7, 8)))}",
        f"{digits(rng, 6)}-{rng.choice('ADHKMPTUVWX')}",
        "0" * rng.randint(1, 6) + digits(rng, rng.randint(4, 9)),
        _pick(rng, _NAMES),
        f"#{digits(rng, rng.randint(2, 8))}",
        f"{letters}-{digits(rng, 4)}/{digits(rng, 2)}",
        f"XXXX XXXX XXXX {digits(rng, 4)}",
        f"({digits(rng, 6)}-{rng.choice('ADHKMPTUVWX')})",
    )
    value = rng.choice(values)
    draw = rng.random()
    if draw < 0.25:
        return (value,)
    colon = rng.choice((":", ":", " :", ""))
    if draw < 0.4:
        return (f"{label}{colon}",)
    if draw < 0.55:
        return (f"{label}{colon}", value)
    joint = rng.choice(
        (":", ": ", ": ", " :", " : ", " ", "#", " #", "# ", ". ", " #: ", "#: ")
    )
    return (f"{label}{joint}{value}",)


def _letters(rng: random.Random, minimum: int, maximum: int) -> str:
    """Capitals of a code, without O: next to digits nobody can tell it from a zero."""
    return "".join(
        rng.choices("ABCDEFGHIJKLMNPQRSTUVWXYZ", k=rng.randint(minimum, maximum))
    )


def _sentence(rng: random.Random) -> tuple[str, ...]:
    text = _pick(rng, _SENTENCES, "|")
    draw = rng.random()
    if draw < 0.15:
        mark = rng.choice("*-=#")
        return (f"{mark * rng.randint(1, 4)} {text} {mark * rng.randint(1, 4)}",)
    return (text + rng.choice(("", "", "", ".", "!", "!!", " :)")),)


def _address(rng: random.Random) -> tuple[str, ...]:
    draw = rng.random()
    if draw < 0.35:
        return (f"{_pick(rng, _NAMES)} {_pick(rng, _SHOPS, '|')} {rng.choice(_COMPANIES)}",)
    place = _pick(rng, _PLACES, "|")
    if draw < 0.7:
        number = rng.choice(
            (
                f"NO. {rng.randint(1, 200)}",
                f"NO.{rng.randint(1, 99)}",
                f"{rng.randint(1, 99)}-G",
                f"LOT {rng.randint(1, 999)}",
            )
        )
        return (
            f"{number}{rng.choice((', ', ',', ' '))}{place}{rng.choice((',', '', '.'))}",
        )
    return (f"{digits(rng, 5)} {place}{rng.choice((',', '', '.'))}",)


def _quantity(rng: random.Random) -> tuple[str, ...]:
    count = rng.choice((1, 1, 1, 2, 3, 4, 5, 6, 10, 12, 24))
    cross = rng.choice((" x ", " X ", "x", " @ ", "@", "X", " * "))
    draw = rng.random()
    if draw < 0.38:
        return (f"{count}{cross}{_money(rng)}",)
    if draw < 0.5:
        currency = rng.choice(_CURRENCY)
        return (f"@{count} {rng.choice('xX')} {currency}{_money(rng)}",)
    if draw < 0.75:
        return (f"{count} {rng.choice(_UNITS)}",)
    return (f"{count}{rng.choice(('.0', '.00', '.000'))}",)


def _bare(rng: random.Random) -> tuple[str, ...]:
    """One short token, as the columns of a receipt hold."""
    values = (
        str(rng.randint(0, 9)),
        str(rng.randint(10, 99)),
        digits(rng, 13),
        "SR",
        "ZRL",
        "@",
        "RM",
        "%",
        "6%",
        "0%",
        "(@ 6%)",
        f"@{rng.choice((0, 6, 10, 12, 20, 25))}%",
        f"SR@{rng.choice((0, 6))}%",
        f"GST SR @{rng.choice((0, 6))}%",
        f"{rng.choice((0, 6, 7, 12, 25))}%:",
        f"{rng.choice((0, 6, 10, 12, 25))}.00%",
        f".{digits(rng, 2)}",
        f"#{digits(rng, rng.randint(1, 4))}",
        f"{_letters(rng, 1, 3)}{digits(rng, rng.randint(1, 4))}",
        "X",
        "S",
        _time(rng),
    )
    return (rng.choice(values),)


def _date(rng: random.Random) -> str:
    day = rng.randint(1, 28)
    month = rng.randint(1, 12)
    year = rng.randint(2009, 2029)
    mark = rng.choice("//-.")
    text = rng.choice(
        (
            f"{day:02d}{mark}{month:02d}{mark}{year}",
            f"{day:02d}{mark}{month:02d}{mark}{year % 100:02d}",
            f"{day} {rng.choice(_MONTHS)} {year}",
            f"{year}-{month:02d}-{day:02d}",
            f"{month}/{day}/{year}",
        )
    )
    if rng.random() < 0.3:
        return f"{text} {_time(rng)}"
    return text


def _time(rng: random.Random) -> str:
    hour = rng.randint(0, 23)
    minute = rng.randint(0, 59)
    return rng.choice(
        (
            f"{hour:02d}:{minute:02d}",
            f"{hour:02d}:{minute:02d}:{rng.randint(0, 59):02d}",
            f"{hour % 12 + 1:02d}:{minute:02d} {rng.choice(('AM', 'PM'))}",
            f"{hour % 12 + 1}:{minute:02d}{rng.choice(('AM', 'PM'))}",
        )
    )

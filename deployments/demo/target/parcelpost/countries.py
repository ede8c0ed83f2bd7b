"""Countries by their ISO 3166 code, in the groups that tariffs speak of."""

HOME = "DE"

NEIGHBOURS = frozenset("AT BE CH CZ DK FR LU NL PL".split())

EUROPEAN_UNION = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU "
    "IE IT LT LU LV MT NL PL PT RO SE SI SK".split()
)

OTHER_EUROPE = frozenset("AD AL BA CH GB IS LI MC MD ME MK NO RS SM UA VA".split())

EUROPE = EUROPEAN_UNION | OTHER_EUROPE


def is_code(text: str) -> bool:
    """Whether the text looks like a country code."""
    return len(text) == 2 and text.isalpha() and text.isupper()

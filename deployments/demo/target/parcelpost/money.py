"""Amounts are whole cents; only this module turns them into text."""


class NotAnAmount(ValueError):
    """The text is not an amount of money."""


def cents(text: str) -> int:
    """Read "12.5", "12,50" or "€ 12.50" as 1250."""
    digits = text.replace("€", "").replace(",", ".").strip()
    try:
        return round(float(digits) * 100)
    except ValueError:
        raise NotAnAmount(text)


def euros(amount: int) -> str:
    """Write 1250 as "€ 12.50"."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 100)
    return "{}€ {}.{:02d}".format(sign, whole, rest)


def per_cent(amount: int, rate: float) -> int:
    """A share of an amount, rounded half up to the cent as the tariff asks."""
    return int(amount * rate / 100 + 0.5)


def with_tax(amount: int, rate: float = 19.0) -> str:
    """Write an amount and the tax that is in it."""
    tax = amount - int(amount / (1 + rate / 100) + 0.5)
    return "{} incl. {} tax".format(euros(amount), euros(tax))

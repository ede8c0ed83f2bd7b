"""The label that is stuck on a parcel: plain text, 40 columns."""

from parcelpost.address import Address
from parcelpost.weight import describe

WIDTH = 40
NO_STREET = "TODO: ask the sender for the street"


def label( address: Address, weight: int, number: str ) -> str:
    """Everything that the postman has to know."""
    lines = [ line or NO_STREET for line in address.lines( ) ]
    body = ["{:<{}}".format(line[:WIDTH], WIDTH) for line in lines]
    foot = "{:>{}}".format(describe(weight), WIDTH)
    return "\n".join([rule( ), *body, foot, barcode(number), rule( )])


def rule() -> str:
    """A line across the label."""
    return '-' * WIDTH


def barcode(number: str) -> str:
    """The number in groups, as it stands below the bars."""
    text = "{} {} {} {}".format(number[:2], number[2:6], number[6:11], number[11:])
    return text.center( WIDTH )

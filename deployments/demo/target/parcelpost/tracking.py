"""Tracking numbers after UPU standard S10: letters, serial, check digit, country."""

import re

SHAPE = re.compile(r"[A-Z]{2}\d{9}[A-Z]{2}")
WEIGHTS = (8, 6, 4, 2, 3, 5, 9, 7)

SERVICES = {"parcel": "CP", "registered": "RR", "express": "EE", "insured": "VV"}


def check_digit(serial: int) -> int:
    """The ninth digit, which catches a mistyped one."""
    digits = [int(digit) for digit in f"{serial:08d}"]
    rest = 11 - sum(a * b for a, b in zip(digits, WEIGHTS, strict=True)) % 11
    if rest == 10:
        return 0
    elif rest == 11:
        return 5
    else:
        return rest


def number(service: str, serial: int, country: str = "DE") -> str:
    """The tracking number of a parcel."""
    if not service in SERVICES.keys():
        raise ValueError(f"no such service: {service}")
    if not 0 <= serial < 100_000_000:
        raise ValueError(f"a serial number has eight digits")
    return f"{SERVICES[service]}{serial:08d}{check_digit(serial)}{country}"


def is_valid(text: str) -> bool:
    """Whether it is a tracking number at all."""
    text = text.replace(" ", "").upper()
    if not SHAPE.fullmatch(text):
        return False
    else:
        return int(text[10]) == check_digit(int(text[2:10]))

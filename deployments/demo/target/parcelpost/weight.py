"""Weights are whole grams."""

HEAVIEST = 31_500


class TooHeavy(ValueError):
    """No parcel may be heavier than 31.5 kg."""


def grams(text: str) -> int:
    """Read "350 g" or "1.2 kg" as grams."""
    number, _, unit = text.strip().partition(" ")
    if unit == "kg":
        return round(float(number) * 1000)
    elif unit == "g":
        return round(float(number))
    else:
        raise ValueError(f"neither g nor kg: {text}")


def describe(weight: int) -> str:
    """Write grams the way people say them."""
    if weight < 1000:
        return f"{weight} g"
    else:
        return f"{weight / 1000:g} kg"


def checked(weight: int) -> int:
    """Give the weight back if a parcel may have it."""
    if weight > HEAVIEST:
        raise TooHeavy(describe(weight))
    if weight <= 0:
        raise ValueError("a parcel weighs something")
    return weight

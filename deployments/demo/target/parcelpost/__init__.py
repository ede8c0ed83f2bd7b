"""What it costs to send a parcel, and which papers go with it."""

__version__ = "1.4.0"

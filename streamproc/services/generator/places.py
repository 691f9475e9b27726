"""Cities, the distances between them, and what is sold."""

from __future__ import annotations

__all__ = ["BERLIN", "CITIES", "MCCS", "MUMBAI", "bin_of", "distance_km", "home_ip", "hosted_ip", "mobile_ip"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_EARTH_KM = 6371.0


class City(NamedTuple):
    """Latitude and longitude in degrees."""

    name: str
    country: str
    lat: float
    lon: float
    weight: float


# A small world has the first ones only.
CITIES = (
    City("Mumbai", "IN", 19.0760, 72.8777, 3),
    City("Berlin", "DE", 52.5200, 13.4050, 3),
    City("London", "GB", 51.5074, -0.1278, 3),
    City("New York", "US", 40.7128, -74.0060, 3),
    City("Paris", "FR", 48.8566, 2.3522, 2),
    City("Madrid", "ES", 40.4168, -3.7038, 2),
    City("Delhi", "IN", 28.6139, 77.2090, 2),
    City("Warsaw", "PL", 52.2297, 21.0122, 1),
    City("Vienna", "AT", 48.2082, 16.3738, 1),
    City("Rome", "IT", 41.9028, 12.4964, 2),
    City("Chicago", "US", 41.8781, -87.6298, 2),
    City("Toronto", "CA", 43.6532, -79.3832, 1),
    City("Sao Paulo", "BR", -23.5505, -46.6333, 2),
    City("Singapore", "SG", 1.3521, 103.8198, 1),
    City("Tokyo", "JP", 35.6762, 139.6503, 2),
    City("Sydney", "AU", -33.8688, 151.2093, 1),
    City("Dubai", "AE", 25.2048, 55.2708, 1),
    City("Lagos", "NG", 6.5244, 3.3792, 1),
)
MUMBAI, BERLIN = 0, 1


def bin_of(city: int, product: int) -> str:
    """The first six digits of cards issued in a city: what lists/bins.csv of configs/card_fraud knows by country."""
    return f"4{city:02d}{product}00"


def home_ip(city: int, number: int) -> str:
    """An address of a city's fixed lines: see lists/networks.csv of configs/card_fraud."""
    return f"10.{city}.{number >> 8 & 255}.{number & 255}"


def mobile_ip(city: int, number: int) -> str:
    """An address of a city's mobile network."""
    return home_ip(64 + city, number)


def hosted_ip(number: int) -> str:
    """An address of a data centre; those below 10.199.0.0/16 are known to be proxies."""
    return home_ip(192 + number % 16, number)


class Mcc(NamedTuple):
    """A merchant category; `factor`: its amounts against what is typical for a card."""

    code: str
    factor: float


MCCS = (
    Mcc("5411", 0.9),  # grocery
    Mcc("5541", 1.3),  # fuel
    Mcc("5812", 1.0),  # restaurant
    Mcc("5912", 0.6),  # pharmacy
    Mcc("4111", 0.3),  # local transport
    Mcc("5651", 1.6),  # clothing
    Mcc("5732", 3.0),  # electronics
    Mcc("5999", 0.9),  # other retail
    Mcc("5815", 0.4),  # digital goods
    Mcc("4511", 4.0),  # airline
    Mcc("6011", 2.0),  # cash
    Mcc("4112", 1.2),  # railway
    Mcc("6300", 2.0),  # insurance
    Mcc("4900", 1.8),  # utilities
    Mcc("7995", 1.0),  # gambling
    Mcc("6051", 1.2),  # quasi cash
)


def distance_km(
    lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64], lat2: npt.NDArray[np.float64],
    lon2: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Great-circle distances by the haversine formula, in km; degrees in, any shapes that broadcast."""
    a, b, c, d = (np.radians(part) for part in (lat, lon, lat2, lon2))
    half = np.sin((c - a) / 2) ** 2 + np.cos(a) * np.cos(c) * np.sin((d - b) / 2) ** 2
    found: npt.NDArray[np.float64] = 2 * _EARTH_KM * np.arcsin(np.sqrt(half))
    return found

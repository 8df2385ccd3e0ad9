"""Random numbers that are functions: of (seed, epoch, sample, what for), whatever else is in the batch, and where.

splitmix64 (Steele 2014, doi:10.1145/2660193.2660195) in counter mode, for whole batches at once, in integers: a processor
and a GPU compute the same bits, and there is no state that a resumed training would have to restore.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
WORD = 2**64 - 1


class Slot(IntEnum):
    """What a number is drawn for. A new one goes to the end, or all later ones would draw other numbers."""

    SHIFT_ROWS = 0
    SHIFT_COLUMNS = 1
    CROP_ROW = 2
    CROP_COLUMN = 3
    FLIP_ROWS = 4
    FLIP_COLUMNS = 5
    QUARTER = 6
    HALF = 7
    ANGLE = 8
    SCALE = 9
    ELASTIC = 10
    CUT_ROW = 11
    CUT_COLUMN = 12
    BRIGHTNESS = 13
    CONTRAST = 14
    SATURATION = 15
    HUE = 16
    NOISE = 17
    TOKENS = 18
    JITTER = 19
    DROPOUT = 20


class Draws:
    """The random numbers of N samples in an epoch."""

    def __init__(self, seed: int, epoch: int, indices: Tensor) -> None:
        """Draw one number a sample and slot.

        Args:
            seed: of the training.
            epoch: 0-based.
            indices: (N,) int64, the samples' places in the training split.
        """
        self.seed, self.epoch, self.indices = seed, epoch, indices
        key = _mix_number(_mix_number(seed) + epoch)
        samples = _mix(indices * _signed(GOLDEN) + _signed(key))
        slots = torch.arange(1, len(Slot) + 1, device=indices.device)
        self.bits = _mix(samples[:, None] + slots * _signed(GOLDEN))

    def of_epoch(self, epoch: int) -> Draws:
        """Return the numbers of the same samples in another epoch."""
        return Draws(self.seed, epoch, self.indices)

    def uniform(self, slot: Slot, low: float, high: float) -> Tensor:
        """Return (N,) float32, uniform from low up to high."""
        return _upper(self.bits[:, slot]).float() * ((high - low) / 2**24) + low

    def below(self, slot: Slot, bound: int) -> Tensor:
        """Return (N,) int64 from 0 up to bound - 1, each as likely."""
        return _upper(self.bits[:, slot]) * bound >> 24

    def coin(self, slot: Slot) -> Tensor:
        """Return (N,) bool, True for one half."""
        return self.bits[:, slot] < 0

    def shares(self, slot: Slot, count: int) -> Tensor:
        """Return (N, count) int64, uniform from 0 up to 2^24 - 1; element t is the same for any count."""
        return _upper(self._elements(slot, count))

    def normal(self, slot: Slot, count: int) -> Tensor:
        """Return (N, count) float32 of mean 0 and standard deviation 1; element t is the same for any count.

        They are the quantiles of a table at 16 random bits: within 4.3, and a word of the hash gives four.
        """
        quarters = self._elements(slot, -(-count // 4)).view(torch.int16)[:, :count]
        places = quarters.to(torch.int32) + 2**15
        return _quantiles(str(places.device)).index_select(0, places.flatten()).view(places.shape)

    def keeps(self, share: float, place: tuple[int, int], count: int) -> Tensor:
        """Return (N, count) bool, True for a share of them; element t is the same for any count, others in each place.

        The share is rounded to a 65,536th, as a word of the hash gives four numbers.
        """
        words = _mix(self.bits[:, Slot.DROPOUT] + _signed(_mix_number(_mix_number(place[0]) + place[1])))
        counters = torch.arange(1, -(-count // 4) + 1, device=words.device)
        quarters = _mix(words[:, None] + counters * _signed(GOLDEN)).view(torch.int16)[:, :count]
        return quarters < round(share * 2**16) - 2**15

    def _elements(self, slot: Slot, count: int) -> Tensor:
        counters = torch.arange(1, count + 1, device=self.bits.device)
        return _mix(self.bits[:, slot, None] + counters * _signed(GOLDEN))


def _mix(words: Tensor) -> Tensor:
    """Return the finaliser of splitmix64 of words int64, in place where it can be."""
    words = (words ^ _right(words, 30)).mul_(_signed(FIRST))
    words = words.bitwise_xor_(_right(words, 27)).mul_(_signed(SECOND))
    return words.bitwise_xor_(_right(words, 31))


def _right(words: Tensor, places: int) -> Tensor:
    """Shift words int64 to the right and fill with zeros; torch itself repeats the sign."""
    return (words >> places).bitwise_and_(2 ** (64 - places) - 1)


def _upper(words: Tensor) -> Tensor:
    """Return the upper 24 bits, as many as a float32 holds exactly."""
    return _right(words, 40)


def _mix_number(word: int) -> int:
    """Return the finaliser of splitmix64 of the next word, 0 up to 2^64 - 1."""
    word = (word + GOLDEN) & WORD
    word = (word ^ word >> 30) * FIRST & WORD
    word = (word ^ word >> 27) * SECOND & WORD
    return word ^ word >> 31


def _signed(word: int) -> int:
    """Return the int64 of the same bits."""
    return word - 2**64 if word >= 2**63 else word


@cache
def _quantiles(device: str) -> Tensor:
    """Return (65536,) float32: the middles of as many equally likely parts of the normal distribution."""
    places = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    # In double precision on the processor, so that the rounded table is the same for every device.
    quantiles: Tensor = torch.special.ndtri(places)
    return quantiles.float().to(device)

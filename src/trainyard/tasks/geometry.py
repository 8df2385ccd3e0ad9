"""Images and their masks moved together: whole pixels by index, anything else through one sampling grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.draws import Draws, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """From where, and which way round, each of N samples is seen."""

    height: int
    """Of what is seen, in pixels."""
    width: int
    """Of what is seen, in pixels."""
    top: Tensor
    """(N,) int64, the first row that is seen; what is outside of the image comes from the padding."""
    left: Tensor
    """(N,) int64, the first column."""
    transposed: Tensor | None
    """(N,) bool, rows seen as columns; None: none is."""
    upwards: Tensor
    """(N,) bool, rows seen from the last to the first."""
    leftwards: Tensor
    """(N,) bool, columns seen from the last to the first."""


def move(images: Tensor, masks: Tensor | None, config: AugmentConfig, draws: Draws) -> tuple[Tensor, Tensor | None]:
    """Return images (N, C, h, w) and masks (N, h, w) as they are seen: uint8 by whole pixels, else float32 in 0..255.

    Masks are taken from the nearest pixel, so that no new class comes up.

    Args:
        images: (N, C, H, W) uint8.
        masks: (N, H, W) int64, or None.
        config: what may happen.
        draws: of the N samples.
    """
    smooth = config.rotate > 0 or config.elastic > 0 or config.scale != (1.0, 1.0)
    if not (smooth or config.shift or config.crop or config.flip != "none" or config.rotate90):
        return images, masks
    pose = draw_pose(config, draws, images.shape[2], images.shape[3])
    if smooth:
        grid = sampling_grid(pose, config, draws, images.shape[2], images.shape[3])
        padding = "reflection" if config.padding == "reflect" else "zeros"
        moved = F.grid_sample(images.float(), grid, "bilinear", padding, align_corners=True)
        labels = None if masks is None else _nearest(masks, grid, padding)
    else:
        moved = _by_pixels(images, pose, config)
        labels = None if masks is None else _by_pixels(masks.unsqueeze(1), pose, config).squeeze(1)
    return moved, labels


def draw_pose(config: AugmentConfig, draws: Draws, height: int, width: int) -> Pose:
    """Draw what whole pixels can say: crop, shift, flips and quarter turns of images of H x W pixels."""
    seen_height, seen_width = config.crop or (height, width)
    top = draws.below(Slot.SHIFT_ROWS, 2 * config.shift + 1) - config.shift
    left = draws.below(Slot.SHIFT_COLUMNS, 2 * config.shift + 1) - config.shift
    upwards, leftwards = _flips(config, draws)
    transposed = None
    if config.rotate90:
        # The four turns: nothing, both ways round, and rows as columns with one of the two the other way round.
        transposed, half = draws.coin(Slot.QUARTER), draws.coin(Slot.HALF)
        upwards, leftwards = upwards ^ half, leftwards ^ half ^ transposed
    return Pose(
        height=seen_height,
        width=seen_width,
        top=top + draws.below(Slot.CROP_ROW, height - seen_height + 1),
        left=left + draws.below(Slot.CROP_COLUMN, width - seen_width + 1),
        transposed=transposed,
        upwards=upwards,
        leftwards=leftwards,
    )


def sampling_grid(pose: Pose, config: AugmentConfig, draws: Draws, height: int, width: int) -> Tensor:
    """Return where in an image of H x W pixels each seen pixel comes from, (N, h, w, 2): x and y, -1 to 1 at the middles
    of the outer pixels.

    Only sums and products of single numbers are taken of the draws, in one order: a matrix product would round a sample
    by the size of its batch.
    """
    device = pose.top.device
    along_rows, along_columns = _directions(pose, config, draws)
    # Source pixels to the grid's units.
    units = torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)], device=device)
    middle = torch.stack((pose.left + (pose.width - 1) / 2, pose.top + (pose.height - 1) / 2), dim=1)
    by_row = (along_rows * units)[:, :, None] * _centred(pose.height, device) + (middle * units - 1)[:, :, None]
    by_column = (along_columns * units)[:, :, None] * _centred(pose.width, device)
    places = by_row[:, :, :, None] + by_column[:, :, None, :]
    if config.elastic:
        points = config.elastic_grid
        moves = draws.normal(Slot.ELASTIC, 2 * points**2).view(-1, 2, points, points)
        _bend(places, moves * (config.elastic * units)[:, None, None])
    return places.permute(0, 2, 3, 1)


def _flips(config: AugmentConfig, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return which samples (N,) bool are seen upside down, and which in a mirror."""
    first = draws.of_epoch(0) if config.alternate_flip else draws
    upwards, leftwards = first.coin(Slot.FLIP_ROWS), first.coin(Slot.FLIP_COLUMNS)
    if config.alternate_flip:
        # One direction every epoch; of both, the other one every second, so that four epochs see all four.
        upwards = upwards ^ bool((draws.epoch // 2 if config.flip == "both" else draws.epoch) % 2)
        leftwards = leftwards ^ bool(draws.epoch % 2)
    never = torch.zeros_like(upwards)
    return (
        upwards if config.flip in ("vertical", "both") else never,
        leftwards if config.flip in ("horizontal", "both") else never,
    )


def _by_pixels(pixels: Tensor, pose: Pose, config: AugmentConfig) -> Tensor:
    """Return pixels (N, C, H, W) of any type as a pose sees them, (N, C, h, w), unchanged in value."""
    count, channels, height, width = pixels.shape
    rows = _places(pose.height, pose.top, pose.upwards)
    columns = _places(pose.width, pose.left, pose.leftwards)
    lines = torch.arange(count * channels, device=pixels.device).view(count, channels, 1) * height
    # Rows are copied whole, which is several times as fast as an index for each pixel.
    lines = lines + _mirrored(rows, height)[:, None, :]
    seen = pixels.reshape(-1, width).index_select(0, lines.flatten()).view(count, channels, pose.height, width)
    seen = seen.gather(3, _mirrored(columns, width)[:, None, None, :].expand(-1, channels, pose.height, -1))
    if config.padding == "zeros":
        outside_rows, outside_columns = (rows < 0) | (rows >= height), (columns < 0) | (columns >= width)
        seen = seen.masked_fill_(outside_rows[:, None, :, None] | outside_columns[:, None, None, :], 0)
    if pose.transposed is not None:
        seen = torch.where(pose.transposed[:, None, None, None], seen.transpose(2, 3), seen)
    return seen


def _places(size: int, start: Tensor, backwards: Tensor) -> Tensor:
    """Return the rows (or columns) that are seen, (N, size) int64; some may be outside."""
    steps = torch.arange(size, device=start.device)
    return torch.where(backwards[:, None], size - 1 - steps, steps) + start[:, None]


def _mirrored(places: Tensor, size: int) -> Tensor:
    """Return places with those outside of 0 up to size - 1 reflected at the middles of the outer pixels."""
    period = max(2 * (size - 1), 1)
    places = places.remainder(period)
    return torch.minimum(places, period - places) if size > 1 else places


def _directions(pose: Pose, config: AugmentConfig, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return where a step along seen rows leads, and one along seen columns: (N, 2), x and y in source pixels."""
    turn = draws.uniform(Slot.ANGLE, -math.radians(config.rotate), math.radians(config.rotate)).double()
    zoom = 1 / draws.uniform(Slot.SCALE, *config.scale)
    # Cosines in double precision: rounded, they no longer show which processor computed them.
    cosine, sine = turn.cos().float() * zoom, turn.sin().float() * zoom
    row_sign, column_sign = 1.0 - 2.0 * pose.upwards, 1.0 - 2.0 * pose.leftwards
    along_rows = torch.stack((sine * row_sign, cosine * row_sign), dim=1)
    along_columns = torch.stack((cosine * column_sign, -sine * column_sign), dim=1)
    if pose.transposed is None:
        return along_rows, along_columns
    transposed = pose.transposed[:, None]
    return torch.where(transposed, along_columns, along_rows), torch.where(transposed, along_rows, along_columns)


def _bend(places: Tensor, moves: Tensor) -> None:
    """Add smooth moves to places (N, 2, h, w), in place.

    The moves (N, 2, points, points) of a coarse grid, which spans what is seen, are continued by bicubic interpolation.
    Torch's own, which weighs 16 numbers for each pixel, takes several times as long as rows first, then columns.
    """
    points, (height, width) = moves.shape[2], places.shape[2:]
    row_weights = _cubic_weights(points, height).to(moves.device)
    column_weights = _cubic_weights(points, width).to(moves.device)
    by_row = moves[:, :, 0, None, :] * row_weights[0, :, None]
    for point in range(1, points):
        by_row += moves[:, :, point, None, :] * row_weights[point, :, None]
    for point in range(points):
        places += by_row[:, :, :, point, None] * column_weights[point]


def _cubic_weights(points: int, size: int) -> Tensor:
    """Return how much each of so many points, of which the outer ones are the ends, counts at each place: (points, size)."""
    unit = torch.eye(points).view(points, 1, 1, points)
    return F.interpolate(unit, size=(1, size), mode="bicubic", align_corners=True).view(points, size)


def _centred(size: int, device: torch.device) -> Tensor:
    return torch.arange(size, device=device) - (size - 1) / 2


def _nearest(masks: Tensor, grid: Tensor, padding: str) -> Tensor:
    """Return the ids of masks (N, H, W) at the pixels nearest to a grid; a float32 holds any id exactly."""
    seen = F.grid_sample(masks.unsqueeze(1).float(), grid, "nearest", padding, align_corners=True)
    return seen.squeeze(1).to(masks.dtype)

"""Master drawings of sixteen traffic signs, as a designer would draw them: flat and sharp."""

import itertools
import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

MASTER = 64
"""Side of a master picture in pixels; the sign fills it but for a margin of one pixel."""

_DRAWN = 384  # drawn six times larger and averaged down, which smooths every edge

Colour = tuple[int, int, int]
Point = tuple[float, float]

RED: Colour = (193, 24, 32)
BLUE: Colour = (20, 86, 164)
YELLOW: Colour = (247, 196, 30)
WHITE: Colour = (240, 240, 236)
BLACK: Colour = (24, 24, 26)


class _Board:
    """Draws in coordinates from -1 to 1, y downwards, on a transparent square."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (_DRAWN, _DRAWN))
        self._draw = ImageDraw.Draw(self.image)

    def _place(self, point: Point) -> Point:
        scale = _DRAWN / 2 * (1 - 2 / MASTER)
        return _DRAWN / 2 + scale * point[0], _DRAWN / 2 + scale * point[1]

    def disk(self, centre: Point, radius: float, colour: Colour) -> None:
        left, top = self._place((centre[0] - radius, centre[1] - radius))
        right, bottom = self._place((centre[0] + radius, centre[1] + radius))
        self._draw.ellipse((left, top, right, bottom), fill=colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon([self._place(point) for point in points], fill=colour)

    def stroke(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A line through points with round joints and ends."""
        for start, end in itertools.pairwise(points):
            across = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
            dx = (end[1] - start[1]) / across * width / 2
            dy = (start[0] - end[0]) / across * width / 2
            corners = [
                (start[0] + dx, start[1] + dy),
                (end[0] + dx, end[1] + dy),
                (end[0] - dx, end[1] - dy),
                (start[0] - dx, start[1] - dy),
            ]
            self.polygon(corners, colour)
        for point in points:
            self.disk(point, width / 2, colour)


def _arc(centre: Point, radii: Point, start: float, end: float, steps: int = 24) -> list[Point]:
    """Points on an ellipse; degrees, clockwise from three o'clock as y points down."""
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [
        (centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in angles
    ]


def _ngon(sides: int, radius: float, turn: float) -> list[Point]:
    return _arc((0, 0), (radius, radius), turn, turn + 360, sides)[:-1]


# Letters in a box from -0.5 to 0.5 wide and -1 to 1 high, as strokes.
_GLYPHS: dict[str, tuple[list[Point], ...]] = {
    "0": (_arc((0, 0), (0.5, 1), 0, 360),),
    "3": (_arc((0, -0.5), (0.5, 0.5), 190, 450), _arc((0, 0.5), (0.5, 0.5), 270, 530)),
    "5": (
        [(0.45, -1), (-0.4, -1), (-0.45, -0.05)],
        _arc((-0.05, 0.4), (0.55, 0.6), 222, 500),
    ),
    "8": (_arc((0, -0.52), (0.42, 0.48), 0, 360), _arc((0, 0.48), (0.52, 0.52), 0, 360)),
    "S": (_arc((0, -0.5), (0.5, 0.5), 340, 90), _arc((0, 0.5), (0.5, 0.5), 270, 520)),
    "T": ([(-0.55, -1), (0.55, -1)], [(0, -1), (0, 1)]),
    "O": (_arc((0, 0), (0.55, 1), 0, 360),),
    "P": ([(-0.45, 1), (-0.45, -1), (0.05, -1)], _arc((0.0, -0.5), (0.5, 0.5), 270, 450),
          [(0.0, 0.0), (-0.45, 0.0)]),
}  # fmt: skip


def _write(board: _Board, text: str, size: float, pitch: float, width: float, ink: Colour) -> None:
    """Centred text; ``size`` is half the height of a letter, ``pitch`` the advance."""
    for place, letter in enumerate(text):
        centre = (place - (len(text) - 1) / 2) * pitch
        for line in _GLYPHS[letter]:
            board.stroke([(centre + size * 0.8 * x, size * y) for x, y in line], width, ink)


def _stop(board: _Board) -> None:
    board.polygon(_ngon(8, 1.06, 22.5), WHITE)
    board.polygon(_ngon(8, 0.98, 22.5), RED)
    _write(board, "STOP", 0.30, 0.40, 0.11, WHITE)


def _yield(board: _Board) -> None:
    board.polygon([(-1, -0.82), (1, -0.82), (0, 0.92)], RED)
    board.polygon([(-0.60, -0.58), (0.60, -0.58), (0, 0.46)], WHITE)


def _priority_road(board: _Board) -> None:
    board.polygon(_ngon(4, 1.0, 0), BLACK)
    board.polygon(_ngon(4, 0.96, 0), WHITE)
    board.polygon(_ngon(4, 0.68, 0), YELLOW)


def _no_entry(board: _Board) -> None:
    board.disk((0, 0), 1.0, WHITE)
    board.disk((0, 0), 0.95, RED)
    board.polygon([(-0.72, -0.19), (0.72, -0.19), (0.72, 0.19), (-0.72, 0.19)], WHITE)


def _limit(number: str) -> Callable[[_Board], None]:
    def draw(board: _Board) -> None:
        board.disk((0, 0), 1.0, RED)
        board.disk((0, 0), 0.76, WHITE)
        _write(board, number, 0.40, 0.60, 0.15, BLACK)

    return draw


def _no_parking(board: _Board) -> None:
    board.disk((0, 0), 1.0, RED)
    board.disk((0, 0), 0.80, BLUE)
    board.stroke([(-0.60, -0.60), (0.60, 0.60)], 0.19, RED)


def _blue_disk(board: _Board) -> None:
    board.disk((0, 0), 1.0, WHITE)
    board.disk((0, 0), 0.94, BLUE)


def _turn(side: int) -> Callable[[_Board], None]:
    def draw(board: _Board) -> None:
        _blue_disk(board)
        board.stroke([(-0.36 * side, 0.55), (-0.36 * side, 0.0), (0.2 * side, 0.0)], 0.24, WHITE)
        board.polygon([(0.16 * side, -0.42), (0.72 * side, 0.0), (0.16 * side, 0.42)], WHITE)

    return draw


def _roundabout(board: _Board) -> None:
    _blue_disk(board)
    for start in (-80, 40, 160):
        board.stroke(_arc((0, 0), (0.54, 0.54), start, start + 66), 0.17, WHITE)
        tip = math.radians(start + 100)
        back = math.radians(start + 64)
        board.polygon(
            [
                (0.54 * math.cos(tip), 0.54 * math.sin(tip)),
                (0.75 * math.cos(back), 0.75 * math.sin(back)),
                (0.31 * math.cos(back), 0.31 * math.sin(back)),
            ],
            WHITE,
        )


def _bicycles(board: _Board) -> None:
    _blue_disk(board)
    for side in (-1, 1):
        board.stroke(_arc((0.42 * side, 0.22), (0.27, 0.27), 0, 360), 0.09, WHITE)
    frame = [(-0.42, 0.22), (-0.2, -0.22), (0.26, -0.22), (0, 0.22), (-0.42, 0.22)]
    board.stroke(frame, 0.09, WHITE)
    board.stroke([(0.42, 0.22), (0.22, -0.42), (0.38, -0.46)], 0.09, WHITE)
    board.stroke([(0, 0.22), (-0.24, -0.36)], 0.09, WHITE)
    board.stroke([(-0.36, -0.38), (-0.12, -0.38)], 0.10, WHITE)


def _walker(board: _Board, ink: Colour, centre: Point, size: float) -> None:
    """A person in mid-stride, ``size`` being half the height."""

    def line(points: list[Point], width: float) -> None:
        board.stroke(
            [(centre[0] + size * x, centre[1] + size * y) for x, y in points], width * size, ink
        )

    board.disk((centre[0] + 0.06 * size, centre[1] - 0.80 * size), 0.21 * size, ink)
    line([(0.02, -0.42), (-0.04, 0.14)], 0.34)
    line([(-0.04, 0.14), (0.18, 0.52), (0.42, 0.96)], 0.21)
    line([(-0.04, 0.14), (-0.14, 0.56), (-0.46, 0.94)], 0.21)
    line([(0.04, -0.44), (0.34, -0.14), (0.52, -0.02)], 0.15)
    line([(0.0, -0.44), (-0.32, -0.20), (-0.44, 0.08)], 0.15)


def _crossing(board: _Board) -> None:
    board.polygon([(-0.94, -0.94), (0.94, -0.94), (0.94, 0.94), (-0.94, 0.94)], WHITE)
    board.polygon([(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)], BLUE)
    board.polygon([(0, -0.76), (0.80, 0.68), (-0.80, 0.68)], WHITE)
    _walker(board, BLACK, (0, 0.16), 0.48)


def _warning(board: _Board) -> None:
    board.polygon([(0, -0.92), (1, 0.82), (-1, 0.82)], RED)
    board.polygon([(0, -0.50), (0.63, 0.60), (-0.63, 0.60)], WHITE)


def _caution(board: _Board) -> None:
    _warning(board)
    board.stroke([(0, -0.16), (0, 0.20)], 0.17, BLACK)
    board.disk((0, 0.44), 0.10, BLACK)


def _curve(board: _Board) -> None:
    _warning(board)
    board.stroke([(-0.16, 0.50), (-0.16, 0.22), (-0.04, 0.08), (0.08, 0.02)], 0.13, BLACK)
    board.polygon([(-0.02, -0.14), (0.26, -0.06), (0.08, 0.20)], BLACK)


def _road_works(board: _Board) -> None:
    _warning(board)
    board.disk((-0.06, -0.12), 0.09, BLACK)
    board.stroke([(-0.10, 0.02), (-0.20, 0.24)], 0.15, BLACK)
    board.stroke([(-0.20, 0.24), (-0.06, 0.34), (-0.10, 0.52)], 0.09, BLACK)
    board.stroke([(-0.20, 0.24), (-0.34, 0.52)], 0.09, BLACK)
    board.stroke([(-0.08, 0.0), (0.10, 0.20)], 0.07, BLACK)
    board.stroke([(-0.06, 0.10), (0.24, 0.44)], 0.05, BLACK)
    board.polygon([(0.12, 0.54), (0.30, 0.28), (0.48, 0.54)], BLACK)


_DRAWINGS: tuple[tuple[str, Callable[[_Board], None]], ...] = (
    ("stop", _stop),
    ("yield", _yield),
    ("priority road", _priority_road),
    ("no entry", _no_entry),
    ("speed limit 30", _limit("30")),
    ("speed limit 50", _limit("50")),
    ("speed limit 80", _limit("80")),
    ("no parking", _no_parking),
    ("turn left", _turn(-1)),
    ("turn right", _turn(1)),
    ("roundabout", _roundabout),
    ("bicycle path", _bicycles),
    ("pedestrian crossing", _crossing),
    ("caution", _caution),
    ("curve", _curve),
    ("road works", _road_works),
)

CLASS_NAMES: tuple[str, ...] = tuple(name for name, _ in _DRAWINGS)
"""What the signs say, in the order of their labels."""


def masters() -> list[Image.Image]:
    """One picture a class, MASTER × MASTER pixels, premultiplied transparency (mode RGBa)."""
    pictures = []
    for _, draw in _DRAWINGS:
        board = _Board()
        draw(board)
        pictures.append(board.image.convert("RGBa").reduce(_DRAWN // MASTER))
    return pictures

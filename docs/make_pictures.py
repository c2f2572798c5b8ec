"""Draws the pictures of docs/normalization: which values share one mean and variance, or one length.

    python docs/make_pictures.py

needs matplotlib (extra ``viz``) and writes docs/images/norm-*.png.
"""

from pathlib import Path

from tinygrad_norm.viz.style import BLUE, GREEN, GREY, ORANGE, SMALL, TEXT, new_figure

IMAGES = Path(__file__).resolve().parent / "images"
PLAIN, EDGE = "#eef0f2", "#9aa0a6"
SHADES = (1.0, 0.88, 0.76)
"""How bright the front, top and right faces of a box are."""


def shaded(colour, shade):
    """A hex colour made darker."""
    return tuple(int(colour[i : i + 2], 16) / 255 * shade for i in (1, 3, 5))


def polygon(ax, points, colour):
    """One cell."""
    ax.fill(*zip(*points), facecolor=colour, edgecolor="white", linewidth=1.2)


def grid(ax, rows, columns, colour_of, x=0.0, y=0.0):
    """A matrix with its upper left corner at (x, y); ``colour_of(row, column)`` is a colour or None."""
    for r in range(rows):
        for c in range(columns):
            left, top = x + c, y - r
            corners = [(left, top), (left + 1, top), (left + 1, top - 1), (left, top - 1)]
            polygon(ax, corners, colour_of(r, c) or PLAIN)
    ax.plot([x, x + columns, x + columns, x, x], [y, y, y - rows, y - rows, y], color=EDGE, linewidth=1)


DEPTH = (0.42, 0.34)
"""One step backwards, in the plane of the picture."""


def box(ax, samples, channels, positions, colour_of, x=0.0, y=0.0):
    """A box: channels to the right, positions down, samples into the depth; a colour for each of the three."""

    def at(n, c, p):
        return x + c + n * DEPTH[0], y - p + n * DEPTH[1]

    def cell(corners, shade, *where):
        polygon(ax, [at(*corner) for corner in corners], shaded(colour_of(*where) or PLAIN, shade))

    for c in range(channels):
        for p in range(positions):
            cell([(0, c, p), (0, c + 1, p), (0, c + 1, p + 1), (0, c, p + 1)], SHADES[0], 0, c, p)
    for n in reversed(range(samples)):
        for c in range(channels):
            cell([(n, c, 0), (n, c + 1, 0), (n + 1, c + 1, 0), (n + 1, c, 0)], SHADES[1], n, c, 0)
        for p in range(positions):
            c = channels
            cell([(n, c, p), (n + 1, c, p), (n + 1, c, p + 1), (n, c, p + 1)], SHADES[2], n, c - 1, p)


def arrow(ax, start, end, text, rotation=0, shift=(0.0, 0.0)):
    """An axis with its name in the middle."""
    ax.plot(*zip(start, end), alpha=0)  # an annotation alone does not widen the picture
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY, "linewidth": 1.1})
    middle = [(a + b) / 2 + s for a, b, s in zip(start, end, shift)]
    ax.text(*middle, text, ha="center", va="center", rotation=rotation, fontsize=SMALL, color="#333333")


def title(ax, x, y, text):
    ax.text(x, y, text, ha="center", va="bottom", fontsize=TEXT, color="#111111")


def matrix_axes(ax, rows, columns, down, right, x=0.0, y=0.0):
    """Names of the two axes of a matrix."""
    arrow(ax, (x, y + 0.35), (x + columns, y + 0.35), right, shift=(0, 0.4))
    arrow(ax, (x - 0.35, y), (x - 0.35, y - rows), down, 90, shift=(-0.4, 0))


def box_axes(ax, samples, channels, positions, names, x=0.0, y=0.0):
    """Names of the three axes of a box."""
    depth, right, down = names
    dx, dy = samples * DEPTH[0], samples * DEPTH[1]
    arrow(ax, (x, y - positions - 0.35), (x + channels, y - positions - 0.35), right, shift=(0, -0.42))
    arrow(ax, (x - 0.35, y), (x - 0.35, y - positions), down, 90, shift=(-0.4, 0))
    arrow(ax, (x - 0.3, y + 0.15), (x + dx - 0.3, y + dy + 0.15), depth, 39, shift=(-0.35, 0.35))


def picture(name, width, height, draw):
    """A figure without axes, drawn in units of one cell and saved."""
    figure = new_figure(name, width, height)
    ax = figure.add_subplot()
    ax.set_axis_off()
    ax.set_aspect("equal")
    draw(ax)
    path = IMAGES / f"norm-{name}.png"
    figure.savefig(path, dpi=100, facecolor="white", bbox_inches="tight", metadata={"Software": None})
    return path


IMAGE_AXES = ("samples N", "channels C", "positions")
HIDE = None


def draw_data(ax, in_matrix, in_box):
    """A matrix and a box of data, in each what shares its statistics."""
    grid(ax, 6, 5, lambda n, c: BLUE if in_matrix(n, c) else HIDE)
    matrix_axes(ax, 6, 5, "samples N", "features C")
    title(ax, 2.5, 1.4, "x of shape (N, C)")
    box(ax, 6, 5, 5, lambda n, c, p: BLUE if in_box(n, c) else HIDE, x=9, y=-1)
    box_axes(ax, 6, 5, 5, IMAGE_AXES, x=9, y=-1)
    title(ax, 12.6, 1.4, "x of shape (N, C, positions)")


def draw_batch(ax):
    draw_data(ax, lambda n, c: c == 1, lambda n, c: c == 1)


def draw_layer(ax):
    draw_data(ax, lambda n, c: n == 1, lambda n, c: n == 0)


def draw_weight(ax):
    grid(ax, 5, 6, lambda o, i: BLUE if o == 1 else HIDE)
    matrix_axes(ax, 5, 6, "outputs", "inputs")
    title(ax, 3, 1.4, "v of shape (out, in)")
    box(ax, 5, 5, 4, lambda o, i, k: BLUE if o == 0 else HIDE, x=10, y=-1)
    box_axes(ax, 5, 5, 4, ("outputs", "inputs", "kernel"), x=10, y=-1)
    title(ax, 13.6, 1.4, "v of shape (out, in, kernel)")


def draw_cosine(ax):
    grid(ax, 5, 6, lambda n, i: BLUE if n == 1 else HIDE)
    matrix_axes(ax, 5, 6, "samples", "inputs")
    title(ax, 3, 1.4, "x of shape (N, in)")
    grid(ax, 4, 6, lambda o, i: ORANGE if o == 2 else HIDE, x=9.4)
    matrix_axes(ax, 4, 6, "outputs", "inputs", x=9.4)
    title(ax, 12.4, 1.4, "w of shape (out, in)")
    grid(ax, 5, 4, lambda n, o: GREEN if (n, o) == (1, 2) else HIDE, x=18.8)
    matrix_axes(ax, 5, 4, "samples", "outputs", x=18.8)
    title(ax, 20.8, 1.4, "y of shape (N, out)")
    for x, sign in ((7.2, "·"), (16.6, "=")):
        ax.text(x, -2.5, sign, ha="center", va="center", fontsize=2 * TEXT, color="#111111")


def draw_all(ax):
    kinds = {
        "batch": lambda n, c, p: c == 1,
        "layer": lambda n, c, p: n == 0,
        "group": lambda n, c, p: n == 0 and c < 3,
        "instance": lambda n, c, p: n == 0 and c == 1,
    }
    for k, (name, chosen) in enumerate(kinds.items()):
        x = 10.4 * k
        box(ax, 5, 6, 5, lambda n, c, p, f=chosen: BLUE if f(n, c, p) else HIDE, x=x)
        box_axes(ax, 5, 6, 5, IMAGE_AXES, x=x)
        title(ax, x + 4.6, 2.3, name)


PICTURES = {
    "batch": (6.4, 3.3, draw_batch),
    "layer": (6.4, 3.3, draw_layer),
    "weight": (6.6, 3.1, draw_weight),
    "cosine": (7.4, 2.7, draw_cosine),
    "all": (9.6, 2.6, draw_all),
}


if __name__ == "__main__":
    for name, (width, height, draw) in PICTURES.items():
        path = picture(name, width, height, draw)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} KB")

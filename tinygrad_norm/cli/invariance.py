"""``tinygrad-norm invariance``: what the normalizations do not see."""

from __future__ import annotations

from typing import Any

from ..lab.invariance import as_json, invariance, invariance_text
from ..testing.invariance import LIMITS, NORMALIZATIONS
from .arguments import add_command, add_no_pictures, number, one_of, show


def add(commands: Any) -> None:
    """The command ``invariance``."""
    new = add_command(
        commands, "invariance", run,
        "Measure what the normalizations do not see: scaled and shifted weights and data, with the deviations\n"
        "found, and how the gradient by the weights shrinks as the weights grow.",
        "invariance", "invariance --norm batch --norm layer --eps 1e-5", "invariance --out runs/invariance",
    )  # fmt: skip
    new.add_argument(
        "--norm", type=one_of(NORMALIZATIONS), action="append", default=[], metavar="NAME",
        help=f"{', '.join(NORMALIZATIONS)}; may be given several times (all)",
    )  # fmt: skip
    new.add_argument("--dtype", type=one_of(LIMITS), default="float64", metavar="NAME", help=", ".join(LIMITS))
    least, other = number(lambda x: x >= 0, "of at least 0"), number(lambda x: x not in (0, 1), "other than 0 and 1")
    new.add_argument("--eps", type=least, default=0.0, help="what is added to variances (%(default)g)")
    new.add_argument("--scale", type=other, default=2.0, help="what is multiplied by (%(default)g)")
    new.add_argument("--out", metavar="DIR", help="folder to write: table (.md, .json), gradient-scale (.png, .svg)")
    add_no_pictures(new)


def run(args: Any) -> None:
    """Run ``invariance``."""
    found = invariance(
        args.norm, dtype=args.dtype, seed=args.seed, eps=args.eps, scale=args.scale, device=args.device, out=args.out,
        pictures=not args.no_pictures,
    )  # fmt: skip
    where = "" if args.out is None else f"\n\nin {args.out}: invariance (.md, .json)"
    drawn = "" if args.out is None or args.no_pictures else ", gradient-scale (.png, .svg)"
    show(args, as_json(found) | {"folder": args.out}, invariance_text(found) + where + drawn)

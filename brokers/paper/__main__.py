"""`python -m brokers.paper --socket PATH`: the paper exchange as a process of its own, until SIGTERM.

Exit codes: 0 stopped, 2 bad input, 3 the socket, the book or its directory must not be touched.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from brokers.paper import wire
from brokers.paper.book_file import BookFile, UnsyncedFiles
from brokers.paper.door import hold, listening, private_directory, remove
from brokers.paper.exchange import PaperExchange
from brokers.paper.listing import Listing, demo_listing, read_listing
from brokers.paper.market_data import SyntheticSource
from brokers.paper.server import ExchangeServer, Recorder
from brokers.paper.synthetic import SyntheticMarket
from engine.clock import SystemClock
from engine.domain.cleaning import clean
from engine.domain.ids import AccountId
from engine.errors import ConfigurationError, DeskUnusable, SextantError
from engine.ports import Clock

BAD_INPUT, UNUSABLE = 2, 3


class _Parser(argparse.ArgumentParser):
    """One sentence instead of a page."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigurationError(message)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m brokers.paper", description="The paper exchange as a process of its own.")
    parser.add_argument("--socket", required=True, type=Path, metavar="PATH", help="where desks find it (unix socket)")
    parser.add_argument("--book", type=Path, metavar="FILE", help="its book (default: beside the socket, .book)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="list what this sextant.toml names")
    parser.add_argument("--seed", type=int, metavar="N", help="of the synthetic market (default: the file's, else 7)")
    parser.add_argument(
        "--requests", type=Path, metavar="FILE", help="append every request of a desk as a line of JSON when it arrives"
    )
    return parser.parse_args(arguments)


class RequestFile:
    """Every request that reached the exchange, in order, each written before anything is done about it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._files = UnsyncedFiles()
        self._encoder = msgspec.json.Encoder()

    def write(self, account: AccountId, call: wire.Order) -> None:
        """Append one. Raises OSError."""
        line = {"at": self._clock.now(), "account": account, "call": call}
        self._files.append(self._path, self._encoder.encode(line) + b"\n")


def open_server(listing: Listing, book: Path, clock: Clock, requests: Recorder | None = None) -> ExchangeServer:
    """The exchange with what its book holds, its market resuming at the book's prices. Raises DeskUnusable."""
    exchange = PaperExchange(listing.instruments, listing.accounts, listing.options, BookFile(book, UnsyncedFiles()))
    prices = {
        each.symbol: price for each in listing.instruments if (price := exchange.last_price(each.symbol)) is not None
    }
    # Another seed for another life: the same one would walk the same way from the saved price.
    market = SyntheticMarket(listing.instruments, listing.seed + exchange.book.next_order - 1, clock.now(), prices)
    source = SyntheticSource(market, listing.instruments, clock, exchange.on_tick)
    return ExchangeServer(listing, exchange, source, clock, book=str(book), requests=requests)


async def serve(server: ExchangeServer, path: Path) -> None:
    """Until SIGTERM or SIGINT. Raises DeskUnusable when the socket cannot be had."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start(listening(path))
    logging.getLogger("sextant").info("the paper exchange listens on %s", path)
    try:
        await stop.wait()
    finally:
        remove(path)
        await server.stop()


def run(arguments: Sequence[str]) -> int:
    """One process; its exit code."""
    clock = SystemClock()
    try:
        options = _options(arguments)
        if options.seed is not None and options.seed < 0:
            raise ConfigurationError("--seed must be zero or more")
        if options.config is None:
            listing = demo_listing(7 if options.seed is None else options.seed)
        else:
            listing = read_listing(options.config, options.seed)
        path = Path(os.path.abspath(options.socket.expanduser()))
        book = Path(os.path.abspath(options.book.expanduser())) if options.book else path.with_suffix(".book")
        for directory in dict.fromkeys((path.parent, book.parent)):
            private_directory(directory)
        os.umask(0o077)
        hold(path, "the socket")
        hold(book, "the book")
        requests = None if options.requests is None else RequestFile(options.requests, clock).write
        asyncio.run(serve(open_server(listing, book, clock, requests), path))
    except ConfigurationError as error:
        return _complain(error, BAD_INPUT)
    except DeskUnusable as error:
        return _complain(error, UNUSABLE)
    return 0


def _complain(error: SextantError, code: int) -> int:
    sys.stderr.write(f"exchange: {clean(str(error), 500)}\n")
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

"""The command."""

import argparse
import asyncio
import os
import resource
import signal
import sys

from stand_in.api import BOTH, INTERNATIONAL, MAINLAND
from stand_in.connection import Selector
from stand_in.faults import FAULTS
from stand_in.messages import DEFAULT_ACCOUNT, HOST, LOCAL_NAME
from stand_in.metadata import Metadata
from stand_in.server import Server
from stand_in.signature import Account


def read_account(text: str) -> Account:
    secret_id, *rest = text.split(":", 2)
    if not secret_id or not rest or not all(rest):
        raise argparse.ArgumentTypeError("an account is ID:KEY or ID:KEY:TOKEN")
    return Account(secret_id, *rest)


def read_options() -> argparse.Namespace:
    faults = "".join(f"  {name + ('=...' if kind.value else ''):24}{kind.sentence}\n" for name, kind in FAULTS.items())
    parser = argparse.ArgumentParser(
        description="A stand-in of the Tencent Cloud Live API.",
        epilog=f"faults, in a stream name (fault:half,create#1) or a line of DIR/orders:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True, help="files are kept here")
    parser.add_argument("--port", type=int, default=0, help="0: any (default)")
    parser.add_argument("--name", default=LOCAL_NAME, metavar="HOST",
                        help="other than localhost: be reached under this name at all addresses")
    parser.add_argument("--limit", type=int, default=20, help="requests a second, by account and action (default 20)")
    parser.add_argument("--page-size", type=int, default=20, help="tasks on a page of Describe (default 20)")
    parser.add_argument("--idle-timeout", type=float, default=60, help="seconds (default 60)")
    parser.add_argument("--http1", action="store_true", help="no HTTP/2")
    parser.add_argument("--plain", action="store_true", help="no TLS, no HTTP/2")
    parser.add_argument("--account", type=read_account, action="append", metavar="ID:KEY[:TOKEN]",
                        help="may be repeated (default: the example of the vendor)")
    parser.add_argument("--separate", action="store_true",
                        help="the tasks of an account are listed to that account alone (default: all keys are of one account)")
    parser.add_argument("--edition", choices=(MAINLAND, INTERNATIONAL, BOTH), default=BOTH,
                        help="whose rules: which actions there are, whether a region is asked for, how far ahead a task may "
                             "lie (default: all actions, under the rules of both)")
    parser.add_argument("--template", type=int, action="append", metavar="ID",
                        help="a template that is there from the start; may be repeated (default 20001); 0: none")
    parser.add_argument("--metadata", action="store_true", help="be the metadata service of a machine too")
    options = parser.parse_args()
    options.template = [number for number in options.template or [20001] if number]
    options.account = options.account or [read_account(DEFAULT_ACCOUNT)]
    return options


def announce(server: Server, options: argparse.Namespace) -> None:
    """Says where it listens, in a file and on stdout, which is then closed."""
    path = os.path.join(options.dir, "port")
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(f"{server.port}\n")
    os.replace(f"{path}.new", path)
    host = HOST if options.name == LOCAL_NAME else options.name
    print(f"listening on {'http' if options.plain else 'https'}://{host}:{server.port}", flush=True)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


def main() -> None:
    options = read_options()
    os.makedirs(options.dir, exist_ok=True)
    if os.path.exists(port := os.path.join(options.dir, "port")):
        os.remove(port)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    selector = Selector()
    loop = asyncio.SelectorEventLoop(selector)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, loop.stop)
    server = Server(selector, loop, options)
    if options.metadata:
        loop.run_until_complete(Metadata(options.dir, server.api.accounts).listen())
    announce(server, options)
    loop.run_forever()

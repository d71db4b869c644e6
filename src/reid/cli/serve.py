from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import Model, calibration, model_options, say
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from reid.serve.settings import Settings
    from reid.serve.tokens import Tokens

ABOUT = "serve a gallery: HTTP for programs, and a web page"
EXAMPLE = (
    "reid serve people.db\n"
    "  reid serve --tokens reid.tokens --new-token anna --roles read,write\n"
    "  reid serve people.db --host 0.0.0.0 --tokens reid.tokens --certificate cert.pem --key key.pem"
)


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("address", nargs="?", help="the gallery: a file that ends in .db, or the URL of a server")
    verb.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    verb.add_argument("--port", type=int, default=8000, help="0 for any that is free (default: 8000)")
    verb.add_argument("--new", action="store_true", help="make the gallery where there is none")
    verb.add_argument("--calibration", metavar="FILE", help="for probabilities; default: the one beside the model")
    verb.add_argument("--no-pictures", action="store_true", help="keep no small pictures of crops that are enrolled")
    who = verb.add_argument_group("who may use it")
    who.add_argument("--tokens", type=Path, metavar="FILE", help="tokens; without them everybody on this machine may")
    who.add_argument("--new-token", metavar="NAME", help="add a token to that file, print it once, and end")
    who.add_argument(
        "--roles", default="read", help="of the new token: read, write, erase, with commas (default: read)"
    )
    who.add_argument("--name", action="append", default=[], help="another name that the service is called by")
    who.add_argument("--certificate", metavar="FILE", help="for HTTPS, with --key")
    who.add_argument("--key", metavar="FILE", help="of the certificate")
    limits = verb.add_argument_group("limits")
    limits.add_argument("--rate", type=float, help="requests a second of one caller, 0 for no limit (default: 100)")
    limits.add_argument("--max-bytes", type=int, help="of one request (default: 8 MiB)")
    limits.add_argument("--max-pixels", type=int, help="of one picture (default: 16 million)")
    limits.add_argument("--at-once", type=int, help="requests that are answered at once (default: 64)")
    limits.add_argument("--batch", type=int, help="pictures in one inference, queries in one search (default: 16)")
    limits.add_argument("--queue", type=int, help="pictures that may wait for an inference (default: 256)")
    limits.add_argument("--seconds", type=float, help="within which a request is answered (default: 30)")
    model_options(verb)


def run(args: argparse.Namespace) -> None:
    from reid.serve.tokens import Tokens, grant

    if args.new_token is not None:
        if args.tokens is None:
            raise DataError("--new-token needs a file; name it with --tokens FILE")
        token = grant(args.tokens, args.new_token, args.roles.split(","))
        told = f"This token of {args.new_token} is shown once and kept nowhere; {args.tokens} holds its digest."
        if args.json:
            print(json.dumps({"name": args.new_token, "token": token}))
        else:
            say(token, "", told)
        return
    if args.address is None:
        raise DataError("no gallery was given; give a file that ends in .db, or the URL of a server")
    if (args.certificate is None) != (args.key is None):
        raise DataError("a certificate needs its key, and a key its certificate; give both --certificate and --key")
    for file in filter(None, (args.certificate, args.key)):
        if not Path(file).is_file():
            raise DataError(f"{file} does not exist; give the files of the certificate and of its key")
    if not 0 <= args.port <= 65535:
        raise DataError(f"the port is {args.port}; it can be 1 to 65535, or 0 for any that is free")
    _serve(args, Tokens(args.tokens) if args.tokens else None)


def _serve(args: argparse.Namespace, tokens: Tokens | None) -> None:
    from reid.embed import ENOUGH
    from reid.gallery.gallery import Gallery
    from reid.serve.running import check_reach, serve
    from reid.serve.service import Service

    check_reach(args.host, tokens)
    settings = _settings(args)
    embedder = Model(args)()
    verifier = calibration(args, embedder.fingerprint)
    gallery = Gallery.open(args.address, embedder.fingerprint, embedder.dim if args.new else None)
    embedder.settle(ENOUGH)  # now, and not while somebody waits for an answer
    service = Service(gallery, embedder, verifier, settings)
    certificate = (args.certificate, args.key) if args.certificate else None

    def listening(url: str) -> None:
        crops, shown, name = gallery.count(), gallery.address.shown, embedder.name
        whom = "whoever has a token" if tokens else "everybody on this machine"
        facts = {"url": url, "gallery": shown, "crops": crops, "model": name}
        if args.json:
            print(json.dumps(facts), flush=True)
        else:
            held = many(crops, "crop")
            say(f"{held} in {shown}, model {name}.", f"Open {url} ({whom}); Ctrl-C stops.")

    serve(service, tokens, args.host, args.port, certificate, listening)
    print("Stopped; everything that was acknowledged is kept.", file=sys.stderr)


def _settings(args: argparse.Namespace) -> Settings:
    from reid.serve.settings import Settings

    names = ("rate", "max_bytes", "max_pixels", "at_once", "batch", "queue", "seconds")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return Settings(names=frozenset(name.lower() for name in args.name), pictures=not args.no_pictures, **given)

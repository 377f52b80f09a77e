"""`heed label RUN_OR_FILE`: tasks into the database, the page in a browser, labels into files.

heed label runs/sample                       rank what a model answered; rankings.jsonl is for `heed reward`
heed label prompts.jsonl --mode write        write answers; demonstrations.jsonl is for `heed sft`
heed label runs/sample --export pairs.jsonl --export.format pairs
heed label runs/sample --host 0.0.0.0 --public http://192.168.1.5:8765 --invite anna bert
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from heed.errors import ConfigError
from heed.labeling import assignment, exports, server, sources
from heed.labeling.app import application
from heed.labeling.assignment import Policy
from heed.labeling.desk import Desk
from heed.labeling.doors import Site
from heed.labeling.export_rows import Export
from heed.labeling.files import DEMONSTRATIONS, RANKINGS, kept_up_to_date, write_files
from heed.labeling.security import Sessions, installation_secret
from heed.labeling.simulated import SimulatedLabeler, Taste, by_length
from heed.labeling.store import people, reading, tasks
from heed.labeling.store.database import Database, sqlite_url
from heed.labeling.store.people import LabelerGroup
from heed.settings.label import LabelSettings

log = logging.getLogger("heed")
OWNER = "owner"
LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")


def run(settings: LabelSettings) -> None:
    """Serve the page until Ctrl-C; or write an export; or let simulated labelers answer everything."""
    directory = place(settings)
    guidelines = _guidelines(settings.guidelines)
    with closing(opened(settings, directory)) as database:
        if settings.export.path:
            about = exports.write(database, export_of(settings), Path(settings.export.path).expanduser())
            log.info("wrote  %s: %s rows of %s labelers", settings.export.path, about["rows"], len(about["labelers"]))
            return
        policy = policy_of(settings)
        add_tasks(database, settings, policy)
        with closing(server.bound(settings.host, settings.port)) as listener:
            site = site_of(settings, Desk(database, policy), directory, guidelines)
            base = f"http://{_shown(settings.host)}:{listener.getsockname()[1]}"
            links = invitations(database, settings, base)
            with _summary(database, directory):
                if settings.simulate:
                    simulate(site, listener, base, settings)
                else:
                    _serve(site, listener, links, settings)


def place(settings: LabelSettings) -> Path:
    """The directory of the database and its files."""
    if settings.output:
        directory = Path(settings.output).expanduser()
    elif not settings.sources:
        raise ConfigError("sources", "nothing to label is named", "write heed label RUN_OR_FILE")
    else:
        first = Path(sources.file_of(settings.sources[0])).expanduser()
        is_run = (first.parent / "run.json").exists()
        stem = first.name.partition(".")[0] or first.name
        directory = first.parent if is_run else first.with_name(f"{stem}.labels")
    if settings.sources and not settings.export.path:
        directory.mkdir(parents=True, exist_ok=True)
    if not directory.is_dir():
        raise ConfigError("output", f"there is no {directory}", "name the directory that holds labels.sqlite")
    return directory


def opened(settings: LabelSettings, directory: Path) -> Database:
    """The database of labels. An export of labels that are not there is an error."""
    path = directory / "labels.sqlite"
    if settings.export.path and not settings.database and not path.exists():
        raise ConfigError("sources", f"there are no labels in {directory}", "label first: heed label RUN_OR_FILE")
    return Database.open(settings.database or sqlite_url(path))


def policy_of(settings: LabelSettings) -> Policy:
    """The rules by which tasks are handed out."""
    return Policy(
        mode=settings.mode,
        reviewers=settings.reviewers,
        overlap=settings.overlap,
        screening=settings.screening,
        pass_mark=settings.pass_mark,
        gold_every=settings.gold_every,
        lease_seconds=60 * settings.lease_minutes,
        seed=settings.seed,
    )


def export_of(settings: LabelSettings) -> Export:
    """What is wanted of the labels."""
    wanted = settings.export
    return Export(wanted.format, wanted.group, wanted.labelers, wanted.ties, wanted.agreement)


def add_tasks(database: Database, settings: LabelSettings, policy: Policy) -> None:
    """Add the tasks of the sources that are not there yet, and the gold questions; ask for answers."""
    new = sources.read_tasks(settings.sources, settings.mode, settings.seed) if settings.sources else []
    gold = sources.read_gold(settings.gold, settings.mode) if settings.gold else []
    if len(gold) < settings.screening:
        told = f"holds {len(gold)} gold questions for this mode, and screening asks {settings.screening}"
        raise ConfigError(settings.gold, told, "add gold questions, or lower --screening")
    with database.write() as connection:
        added = tasks.add(connection, [*new, *gold])
        groups: tuple[LabelerGroup, ...] = ("train", "held_out")
        assignment.ask(connection, policy, groups)
        whole, ranked, written = reading.how_many(connection)
    log.info("labels %s tasks (%s new), %s rankings, %s demonstrations", whole, len(added), ranked, written)


def site_of(settings: LabelSettings, desk: Desk, directory: Path, guidelines: str) -> Site:
    """What the application serves. Beyond this machine it refuses without invited labelers and an address for them."""
    public = urlsplit(settings.public)
    if settings.public and (public.scheme not in ("http", "https") or not public.hostname):
        raise ConfigError(
            "public", f"{settings.public!r} is no address", "write it as http://NAME:PORT or https://NAME"
        )
    if not server.is_this_machine(settings.host):
        with desk.database.read() as connection:
            invited = people.any_invited(connection)
        if not (invited or settings.invite or settings.invite_held_out):
            hint = "name those who may come in: --invite NAME NAME; or leave --host at 127.0.0.1"
            raise ConfigError("--host", f"{settings.host} can be reached by others, and nobody is invited", hint)
        if not settings.public:
            raise ConfigError("--public", "is needed for invitations", "give the address: --public http://NAME:PORT")
    hosts = [*LOCAL, *([public.hostname] if public.hostname else [])]
    return Site(
        desk=desk,
        sessions=Sessions(installation_secret(directory / "labels.secret")),
        hosts=hosts,
        guidelines=guidelines,
        likert=settings.likert,
        secure_host=public.hostname if public.scheme == "https" and public.hostname else "",
    )


def invitations(database: Database, settings: LabelSettings, base: str) -> dict[str, str]:
    """One-time links by name: the owner's own first, then those of everybody who is to be invited."""
    public = settings.public.rstrip("/") or base
    groups: dict[LabelerGroup, tuple[str, ...]] = {"train": settings.invite, "held_out": settings.invite_held_out}
    with database.write() as connection:
        now = database.clock()
        owner = people.welcome(connection, OWNER, "train", "admitted", now, owner=True)
        links = {OWNER: f"{base}/enter?token={people.invite(connection, owner, now)}"}
        for group, names in groups.items():
            for name in names:
                labeler = people.welcome(
                    connection, name, group, "screening" if settings.screening else "admitted", now
                )
                links[name] = f"{public}/invite?token={people.invite(connection, labeler, now)}"
    return links


def simulate(site: Site, listener: socket.socket, base: str, settings: LabelSettings) -> None:
    """Let simulated labelers answer everything over HTTP: those who are invited, or as many as there are reviewers."""
    names = settings.invite or tuple(f"simulated-{k}" for k in range(1, settings.reviewers + 1))
    local = settings.model_copy(update={"invite": names, "public": ""})
    links = invitations(site.desk.database, local, base)
    with server.serving(application(site), listener):
        crew = [threading.Thread(target=_work, args=(links[name], _taste(settings, k))) for k, name in enumerate(names)]
        for each in crew:
            each.start()
        for each in crew:
            each.join()


def _work(link: str, taste: Taste) -> None:
    labeler = SimulatedLabeler(link, taste)
    for _ in labeler.work():
        pass
    labeler.close()


def _taste(settings: LabelSettings, number: int) -> Taste:
    if settings.simulate in ("short", "long"):
        return by_length(-1 if settings.simulate == "short" else 1)
    from heed.pocket.tastes import by_chance, by_gold  # with numpy

    return by_gold(settings.seed, number) if settings.simulate == "gold" else by_chance(settings.seed, number)


def _serve(site: Site, listener: socket.socket, links: dict[str, str], settings: LabelSettings) -> None:
    for name, link in links.items():
        log.info("%s %s", "open  " if name == OWNER else f"invite {name}:", link)
    log.info("each link works once; Ctrl-C ends it, and everything is saved")

    def ready() -> None:
        if not settings.no_browser:
            server.open_browser(links[OWNER])

    try:
        server.serve(application(site), listener, ready)
    except KeyboardInterrupt:
        log.info("closed")


@contextmanager
def _summary(database: Database, directory: Path) -> Iterator[None]:
    """Keep the files of labels up to date, and say at the end where they are and what to run next."""
    with kept_up_to_date(database, directory):
        yield
    for name, rows in write_files(database, directory).items():
        log.info("wrote  %s: %s rows", directory / name, f"{rows:,}")
        if rows and name == RANKINGS:
            log.info("next   heed reward --model MODEL --data %s --output runs/reward", directory / name)
        if rows and name == DEMONSTRATIONS:
            log.info("next   heed sft --model MODEL --data %s --output runs/sft", directory / name)


def _guidelines(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "guidelines", f"cannot read {path}: {error}", "name a file of plain text, in UTF-8"
        ) from error


def _shown(host: str) -> str:
    """The host as a link names it: whoever listens everywhere is reached here."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host

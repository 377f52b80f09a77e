"""`heed label RUN_OR_FILE`: tasks into the database, the page in a browser, labels into files.

heed label runs/sample                       rank what a model answered; rankings.jsonl is for `heed reward`
heed label prompts.jsonl --mode write        write answers; demonstrations.jsonl is for `heed sft`
heed label runs/sample --export pairs.jsonl --export.format pairs
heed label runs/sample --host 0.0.0.0 --public http://192.168.1.5:8765 --invite anna bert
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from heed.errors import ConfigError
from heed.labeling import assignment, exports, server, sources
from heed.labeling.app import application
from heed.labeling.assignment import Policy
from heed.labeling.desk import Desk
from heed.labeling.doors import Site
from heed.labeling.export_rows import Export
from heed.labeling.files import DATABASE, DEMONSTRATIONS, RANKINGS, kept_up_to_date, place_of, write_files
from heed.labeling.interview import Models
from heed.labeling.security import Sessions, installation_secret
from heed.labeling.simulated import SimulatedLabeler, Taste, by_length
from heed.labeling.store import people, reading, tasks
from heed.labeling.store.database import Database, sqlite_url
from heed.labeling.store.people import LabelerGroup
from heed.labeling.store.tasks import NewTask
from heed.settings.label import LabelSettings

log = logging.getLogger("heed")
OWNER, SECRET = "owner", "labels.secret"
LONGEST_NAME = 80
LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")


def run(settings: LabelSettings) -> None:
    """Serve the page until Ctrl-C; or write an export; or let simulated labelers answer everything."""
    directory = place(settings)
    if settings.export.path:
        export(settings, directory)
        return
    _check_names([*settings.invite, *settings.invite_held_out])
    policy, guidelines = policy_of(settings), _guidelines(settings.guidelines)
    new = new_tasks(settings)  # before anything is made: what cannot be read leaves nothing behind
    with ExitStack() as opened:
        models = _models(settings, opened)
        listener = opened.enter_context(closing(server.bound(settings.host, settings.port)))
        directory.mkdir(parents=True, exist_ok=True)
        url = settings.database or sqlite_url(directory / DATABASE)
        database = opened.enter_context(closing(Database.open(url)))
        site = site_of(settings, Desk(database, policy), directory, guidelines, models)
        add_tasks(database, new, policy)
        base = f"http://{_shown(settings.host)}:{listener.getsockname()[1]}"
        with _summary(database, directory):
            if settings.simulate:
                simulate(site, listener, base, settings)
            else:
                _serve(site, listener, invitations(database, settings, base), settings)


def place(settings: LabelSettings) -> Path:
    """The directory of the database and its files: a run's own, or one beside the file that is labeled."""
    if settings.output:
        return Path(settings.output).expanduser()
    if not settings.sources:
        raise ConfigError("sources", "nothing to label is named", "write heed label RUN_OR_FILE")
    return place_of(settings.sources[0])


def export(settings: LabelSettings, directory: Path) -> None:
    """Write labels as a file. Where there are no labels that is an error."""
    if not settings.database and not (directory / DATABASE).exists():
        raise ConfigError("sources", f"there are no labels in {directory}", "label first: heed label RUN_OR_FILE")
    wanted = settings.export
    chosen = Export(wanted.format, wanted.group, wanted.labelers, wanted.ties, wanted.agreement)
    with closing(Database.open(settings.database or sqlite_url(directory / DATABASE))) as database:
        about = exports.write(database, chosen, Path(wanted.path).expanduser())
    log.info("wrote  %s: %s rows of %s labelers", wanted.path, f"{about['rows']:,}", len(about["labelers"]))


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


def new_tasks(settings: LabelSettings) -> list[NewTask]:
    """The tasks of the sources, and the gold questions."""
    new = sources.read_tasks(settings.sources, settings.mode, settings.seed) if settings.sources else []
    if settings.screening and not settings.gold:
        raise ConfigError(
            "--screening", "needs gold questions", "give rankings that are known to be right: --gold FILE"
        )
    gold = sources.read_gold(settings.gold, settings.mode) if settings.gold else []
    if len(gold) < settings.screening:
        told = f"holds {len(gold)} gold questions for this mode, and screening asks {settings.screening}"
        raise ConfigError(settings.gold, told, "add gold questions, or lower --screening")
    return [*new, *gold]


def add_tasks(database: Database, new: Sequence[NewTask], policy: Policy) -> None:
    """Add the tasks that are not there yet; ask for answers."""
    groups: tuple[LabelerGroup, ...] = ("train", "held_out")
    with database.write() as connection:
        added = tasks.add(connection, new)
        assignment.ask(connection, policy, groups)
        whole, ranked, written = reading.how_many(connection)
    log.info(
        "labels %s tasks (%s new), %s rankings, %s demonstrations",
        f"{whole:,}", f"{len(added):,}", f"{ranked:,}", f"{written:,}",
    )  # fmt: skip


def site_of(
    settings: LabelSettings, desk: Desk, directory: Path, guidelines: str, models: Models | None = None
) -> Site:
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
        sessions=Sessions(installation_secret(directory / SECRET)),
        hosts=hosts,
        guidelines=guidelines,
        likert=settings.likert,
        public=settings.public.rstrip("/"),
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
        with ThreadPoolExecutor(len(names)) as crew:
            busy = [crew.submit(_work, links[name], _taste(settings, k)) for k, name in enumerate(names)]
        for each in busy:
            each.result()  # raises what went wrong there


def _work(link: str, taste: Taste) -> None:
    labeler = SimulatedLabeler(link, taste)
    for _ in labeler.work():
        pass
    labeler.close()


def _taste(settings: LabelSettings, number: int) -> Taste:
    if settings.simulate in ("short", "long"):
        return by_length(-1 if settings.simulate == "short" else 1)
    from heed.pocket.tastes import TASTES, by_chance, by_gold, by_liking  # with numpy

    if settings.simulate in TASTES:
        return by_liking(settings.simulate, settings.seed + number)
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
    """Keep the files of labels up to date, and say at the end, SIGTERM's too, where they are and what to run next."""
    try:
        with kept_up_to_date(database, directory):
            yield
    finally:
        _tell(database, directory)


def _tell(database: Database, directory: Path) -> None:
    with database.read() as connection:
        named = [name for name in tasks.model_names(connection) if name]
    model = named[0] if len(named) == 1 else "MODEL"
    for name, rows in write_files(database, directory).items():
        log.info("wrote  %s: %s rows", directory / name, f"{rows:,}")
        if rows and name == RANKINGS:
            log.info("next   heed reward --model %s --data %s --output runs/reward", model, directory / name)
        if rows and name == DEMONSTRATIONS:
            log.info("next   heed sft --model %s --data %s --output runs/sft", model, directory / name)


def _check_names(names: Sequence[str]) -> None:
    """A name stands in a link's line and on the quality page."""
    for name in names:
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or name == OWNER:
            raise ConfigError("--invite", f"{name!r} is no name of a labeler", "a name is one line, and not `owner`")
    if len(set(names)) < len(names):
        raise ConfigError("--invite", "somebody is named twice", "each labeler has a name of their own")


def _models(settings: LabelSettings, opened: ExitStack) -> Models | None:
    """The process with the two models that labelers talk to, if they are to talk at all."""
    if not settings.chat:
        return None
    if len(settings.chat) != 2:
        raise ConfigError("--chat", f"compares two models, not {len(settings.chat)}", "write --chat runs/sft runs/ppo")
    models = opened.enter_context(Models(settings.chat))
    models.start()
    return models


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

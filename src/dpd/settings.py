# SPDX-License-Identifier: Apache-2.0
"""Settings: one TOML file becomes frozen dataclasses, one per table, units in the names.

Every key has a default, so an empty file is a working configuration. What is wrong is told in one line that names the
file, the key, the value and what is allowed; nothing half-read ever leaves this module. Each field carries its rule in
its metadata, so that the check, the message and `config/dpd.toml` come from one place.
"""

from __future__ import annotations

import ipaddress
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from dpd import setting_rules as rules
from dpd.bus_settings import BusSettings as BusSettings
from dpd.bus_settings import ConsoleSettings as ConsoleSettings
from dpd.bus_settings import SiteSettings as SiteSettings
from dpd.content_settings import DistributionSettings as DistributionSettings
from dpd.content_settings import LibrarySettings as LibrarySettings
from dpd.content_settings import SourceSettings as SourceSettings
from dpd.deployment_settings import DeploymentSettings as DeploymentSettings
from dpd.errors import SettingsError
from dpd.pxe_settings import PxeRule as PxeRule
from dpd.pxe_settings import PxeSettings as PxeSettings
from dpd.pxe_settings import PxeSubnet as PxeSubnet
from dpd.urls import without_secrets

DEFAULT_PATH = Path("/etc/dpd/dpd.toml")
MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path, less the final zero


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """[daemon]: where state lives, how the process logs and stops."""

    state_dir: str = rules.path("/var/lib/dpd")
    drain_timeout_s: float = rules.number(60.0, 0, 86400, "seconds")
    log_format: str = rules.choice("auto", "auto", "text", "journal", "json", live=False)
    log_level: str = rules.choice("info", "debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class BootSettings:
    """[boot]: the boot files which TFTP and HTTP serve. Names are looked up in an index of this directory."""

    directory: str = rules.path("/var/lib/dpd/boot", live=False)
    default_image: str = rules.text("", '"" (the rules\' loaders) or the id of a boot image')
    loader_generation: str = rules.choice("2011", "2011", "2023")
    ramdisk_block_size: int = rules.number(4096, 512, 65464, "bytes of a TFTP block when Windows loads its image")
    ramdisk_window_size: int = rules.number(8, 1, 64, "blocks in flight when Windows loads its image")
    chain_manifest: str = rules.optional_path("the manifest of the Secure Boot chain")


@dataclass(frozen=True, slots=True)
class TftpSettings:
    """[tftp]: the read server."""

    enabled: bool = rules.flag(True, live=False)
    listen: str = rules.address("0.0.0.0")
    port: int = rules.number(69, 0, 65535, "UDP port", live=False)
    max_blksize: int = rules.number(1468, 512, 65464, "bytes, RFC 2348")
    max_windowsize: int = rules.number(64, 1, 65535, "blocks, RFC 7440")
    max_transfers: int = rules.number(2048, 1, 65536, "transfers at once")
    max_transfers_per_client: int = rules.number(16, 1, 65536, "transfers at once from one address")
    timeout_s: float = rules.number(
        1.0, 0.2, 60, "seconds before the first retransmission; adapts to the client afterwards"
    )
    attempts: int = rules.number(6, 1, 30, "retransmissions before a transfer is given up")
    single_port: bool = rules.flag(False, live=False)
    port_low: int = rules.number(0, 0, 65535, "UDP port of transfers; 0 means that the kernel chooses", live=False)
    port_high: int = rules.number(0, 0, 65535, "UDP port of transfers", live=False)
    multicast: bool = rules.flag(False, live=False)
    allowed_networks: tuple[str, ...] = rules.key(
        (), "a list of networks; empty means every one", lambda v: all(map(rules.is_network, v))
    )
    requests_per_s: int = rules.number(200, 1, 1000000, "read requests in a second from one address")
    requests_per_s_per_network: int = rules.number(5000, 1, 1000000, "read requests in a second from a /24 or /64")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """[http]: content, boot files and the multicast join, for clients."""

    enabled: bool = rules.flag(True, live=False)
    listen: str = rules.address("0.0.0.0")
    port: int = rules.number(8080, 0, 65535, "TCP port", live=False)
    tls_port: int = rules.number(8443, 0, 65535, "TCP port, where there is a certificate", live=False)
    certificate: str = rules.optional_path("a PEM file")
    private_key: str = rules.optional_path("a PEM file")
    tls_name: str = rules.text("", 'the host name of the certificate, or "" for our address', rules.is_host_name)
    max_connections: int = rules.number(2000, 1, 100000, "connections at once")


@dataclass(frozen=True, slots=True)
class MulticastSettings:
    """[multicast]: one session per published image, started by the first receiver that joins."""

    enabled: bool = rules.flag(True, live=False)
    interface: str = rules.text("", '"" (the kernel\'s route) or an interface name', live=False)
    group_range: str = rules.text(
        "239.192.0.0/24",
        "a multicast network such as 239.192.0.0/24, 232.192.0.0/24 (source-specific) or ff15::6470:0/112",
        rules.is_multicast_network,
        live=False,
    )
    port_low: int = rules.number(63000, 1024, 65535, "UDP port", live=False)
    port_high: int = rules.number(63999, 1024, 65535, "UDP port", live=False)
    ttl: int = rules.number(1, 0, 255, "router hops")
    rate_mbit_s: float = rules.number(
        0.0, 0, 400000, "Mbit/s on the wire for each session; 0 means as fast as its receivers"
    )
    uplink_mbit_s: float = rules.number(
        0.0, 0, 400000, "Mbit/s on the wire for all sessions together, shared fairly; 0 means no such ceiling"
    )
    friendly: bool = rules.flag(False)
    start_delay_s: float = rules.number(
        1.5, 0, 3600, "seconds without a further join before a group is served, 4 x that at most"
    )
    minimum_clients: int = rules.number(0, 0, 10000, "receivers that a session waits for; 0 means autocast")
    wait_for_clients_s: float = rules.number(
        600.0, 0, 86400, "seconds after the first join in which minimum_clients may come"
    )
    max_clients: int = rules.number(1000, 1, 10000, "receivers in one session")
    member_timeout_s: float = rules.number(10.0, 1, 600, "seconds of silence before a receiver is no longer waited for")
    slow_clients: str = rules.choice("none", "none", "multistream", "disconnect")
    streams: int = rules.number(2, 2, 3, "speed classes of a session under multistream")
    disconnect_below_kib_s: int = rules.number(512, 1, 1 << 20, "KiB/s that a receiver must store under disconnect")
    fall_back: bool = rules.flag(True)
    floor_kib_s: int = rules.number(
        256, 0, 1 << 20, "KiB/s below which for 30 s a receiver goes on by HTTP; 0 means never"
    )
    encryption: bool = rules.flag(False)
    stored_parity_rows: int = rules.number(0, 0, 8, "parity rows kept beside each image from its publishing on")
    querier: bool = rules.flag(False, live=False)
    segmentation_offload: bool = rules.flag(True)


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """[control]: the API for the operator and the site server."""

    socket: str = rules.text(
        "/run/dpd/control.sock",
        f"an absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes",
        lambda v: rules.is_path(v) and len(v.encode()) <= MAX_SOCKET_PATH_BYTES,
        live=False,
    )
    socket_group: str = rules.text("", '"" or the group that may use the socket', live=False)
    listen: str = rules.endpoint("", "an address for TCP")
    token_file: str = rules.optional_path("the file with the bearer token that TCP clients must send")
    roles_file: str = rules.optional_path("the file with who may ask over TCP, and in which role")
    certificate: str = rules.optional_path("a PEM file")
    private_key: str = rules.optional_path("a PEM file")
    client_ca_file: str = rules.optional_path("a PEM file with the authority of clients' certificates")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """[metrics]: the page that Prometheus reads."""

    listen: str = rules.endpoint("127.0.0.1:9467", "an address for /metrics")


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file. `path` is where it came from, empty for the defaults."""

    daemon: DaemonSettings = field(default_factory=DaemonSettings)
    pxe: PxeSettings = field(default_factory=PxeSettings)
    boot: BootSettings = field(default_factory=BootSettings)
    tftp: TftpSettings = field(default_factory=TftpSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    multicast: MulticastSettings = field(default_factory=MulticastSettings)
    library: LibrarySettings = field(default_factory=LibrarySettings)
    distribution: DistributionSettings = field(default_factory=DistributionSettings)
    deployment: DeploymentSettings = field(default_factory=DeploymentSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    bus: BusSettings = field(default_factory=BusSettings)
    site: SiteSettings = field(default_factory=SiteSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    path: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs between two files; `live` says whether a reload can apply it."""

    key: str
    old: Any
    new: Any
    live: bool


def load_settings(path: Path) -> Settings:
    """Read and check a settings file. Raises SettingsError with one line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such settings file; start from config/dpd.toml of the sources, or leave --config out"
        ) from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path}: not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from None
    return parse_settings(text, str(path))


def parse_settings(text: str, path: str) -> Settings:
    """Settings out of TOML text; `path` is for the messages. Raises SettingsError with one line."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    tables: dict[str, Any] = {}
    known = [f.name for f in fields(Settings) if f.name != "path"]
    for name, content in document.items():
        if name not in known:
            raise SettingsError(f"{path}: unknown table [{name}]; allowed: " + ", ".join(f"[{k}]" for k in known))
        if not isinstance(content, dict):
            raise SettingsError(f"{path}: {name} = {_shown(content)}: expected a table, written [{name}]")
        tables[name] = _read_table(get_type_hints(Settings)[name], content, name, path)
    settings = Settings(**tables, path=path)
    _check_combinations(settings, path)
    return settings


def _read_table(cls: type, content: Mapping[str, Any], where: str, path: str) -> Any:
    known = {f.name: f for f in fields(cls)}
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{where}.{key}"
        if key not in known:
            raise SettingsError(f"{path}: unknown key {name} = {_shown(value)}; allowed here: {', '.join(known)}")
        rule = known[key].metadata
        converted = _convert(hints[key], value, name, rule["allowed"], path)
        if not rule["check"](converted):
            raise SettingsError(f"{path}: {name} = {_shown(value)}: expected {rule['allowed']}")
        values[key] = converted
    table = cls(**values)
    for key, each in known.items():  # a key without a usable default, such as a rule's name
        if key not in values and not each.metadata["check"](getattr(table, key)):
            raise SettingsError(f"{path}: {where}.{key} is missing: expected {each.metadata['allowed']}")
    return table


def _convert(hint: Any, value: Any, name: str, allowed: str, path: str) -> Any:
    """The value in the type of its field; a bool is no number, a whole number may stand for a float."""
    wrong = SettingsError(f"{path}: {name} = {_shown(value)}: expected {allowed}")
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise wrong
        item = get_args(hint)[0]
        if is_dataclass(item):
            if not all(isinstance(entry, dict) for entry in value):
                raise wrong
            return tuple(_read_table(item, entry, f"{name}[{i}]", path) for i, entry in enumerate(value))  # type: ignore[arg-type]
        return tuple(_convert(item, entry, f"{name}[{i}]", allowed, path) for i, entry in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, hint):
        raise wrong
    return value


def _check_combinations(settings: Settings, path: str) -> None:
    """What no single key can tell."""
    pxe, http, multicast, control = settings.pxe, settings.http, settings.multicast, settings.control
    if pxe.port == pxe.boot_port != 0:
        raise SettingsError(f"{path}: pxe.boot_port = {pxe.boot_port}: expected another port than pxe.port")
    tftp = settings.tftp
    if bool(tftp.port_low) != bool(tftp.port_high) or tftp.port_low > tftp.port_high:
        raise SettingsError(
            f"{path}: tftp.port_low = {tftp.port_low}: expected at most tftp.port_high = {tftp.port_high}, or 0 for both"
        )
    if multicast.port_low > multicast.port_high:
        raise SettingsError(
            f"{path}: multicast.port_low = {multicast.port_low}: expected at most multicast.port_high = {multicast.port_high}"
        )
    for table, keys in (("control", control), ("http", http), ("bus", settings.bus), ("console", settings.console)):
        if bool(keys.certificate) != bool(keys.private_key):
            missing = f"{table}.private_key" if keys.certificate else f"{table}.certificate"
            raise SettingsError(f'{path}: {missing} = "": expected a PEM file, since its counterpart is set')
    if multicast.encryption and not http.certificate:
        raise SettingsError(
            f'{path}: http.certificate = "": expected a PEM file, since multicast.encryption hands its keys out over TLS'
        )
    if control.listen and not control.token_file and not control.roles_file:
        raise SettingsError(
            f'{path}: control.token_file = "": expected a token file, or control.roles_file, since control.listen opens the API on TCP'
        )
    for needed in ("certificate", "roles_file"):
        if control.client_ca_file and not getattr(control, needed):
            raise SettingsError(
                f'{path}: control.{needed} = "": expected a file, since control.client_ca_file lets clients in by certificate'
            )
    if control.listen and not control.certificate and not _is_loopback(control.listen):
        raise SettingsError(
            f'{path}: control.listen = "{control.listen}": expected a loopback address, or control.certificate and control.private_key for TLS'
        )
    _check_console(settings, path)


def _check_console(settings: Settings, path: str) -> None:
    """A page that nobody could look at."""
    console, control = settings.console, settings.control
    if not console.listen or console.anonymous:
        return
    if not console.certificate and not _is_loopback(console.listen):
        raise SettingsError(
            f'{path}: console.certificate = "": expected a PEM file, since console.anonymous = false asks for tokens, which go over TLS alone'
        )
    if not control.token_file and not control.roles_file:
        raise SettingsError(
            f'{path}: control.roles_file = "": expected a file, or control.token_file, since console.anonymous = false asks for tokens'
        )


def _is_loopback(endpoint: str) -> bool:
    return ipaddress.ip_address(rules.split_endpoint(endpoint)[0]).is_loopback


def _shown(value: Any) -> str:
    """A value as TOML would have it, on one line, cut short."""
    text = str(value) if isinstance(value, float) else json.dumps(_less_secrets(value), ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _less_secrets(value: Any) -> Any:
    """A value without what is in its URLs of passwords and tokens, wherever in it."""
    if isinstance(value, dict):
        return {name: _less_secrets(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_less_secrets(each) for each in value]
    return without_secrets(value) if isinstance(value, str) else value


def compare_settings(old: Settings, new: Settings) -> list[Change]:
    """Every key that differs, in the order of the file."""
    changes = []
    for table in fields(Settings):
        if table.name == "path":
            continue
        before, after = getattr(old, table.name), getattr(new, table.name)
        for key in fields(before):
            was, becomes = getattr(before, key.name), getattr(after, key.name)
            if was != becomes:
                changes.append(Change(f"{table.name}.{key.name}", was, becomes, bool(key.metadata["live"])))
    return changes

# SPDX-License-Identifier: Apache-2.0
"""Which of a kernel's modules go into an image: those of the wanted folders, and what each of them needs, as they say themselves.
They stay as they are, since a kernel under Secure Boot takes only modules with their signature."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dpd.environment import elf
from dpd.errors import BuildError

# Network, disks, keyboards and file systems; a folder means all below it. Left out is what needs firmware that Debian's main
# section has not, and storage networks: their disks are set up before a deployment, and not by it.
WANTED = (
    "drivers/net/ethernet", "drivers/net/phy", "drivers/net/mdio", "drivers/net/usb", "drivers/net/hyperv", "drivers/net/vmxnet3",
    "drivers/net/virtio_net.ko", "drivers/net/xen-netfront.ko",
    "drivers/ata", "drivers/nvme/host/nvme.ko", "drivers/pci/controller/vmd.ko", "drivers/message/fusion", "drivers/mmc/core",
    "drivers/mmc/host", "drivers/block/virtio_blk.ko", "drivers/block/xen-blkfront.ko", "drivers/block/loop.ko",
    "drivers/scsi/sd_mod.ko", "drivers/scsi/sr_mod.ko", "drivers/scsi/megaraid", "drivers/scsi/mpt3sas", "drivers/scsi/mpi3mr",
    "drivers/scsi/aacraid", "drivers/scsi/smartpqi", "drivers/scsi/hpsa.ko", "drivers/scsi/isci", "drivers/scsi/arcmsr",
    "drivers/scsi/virtio_scsi.ko", "drivers/scsi/vmw_pvscsi.ko", "drivers/scsi/hv_storvsc.ko", "drivers/scsi/storvsc",
    "drivers/virtio", "drivers/hv", "drivers/char/hw_random/virtio-rng.ko",
    "drivers/usb/host", "drivers/usb/storage/usb-storage.ko", "drivers/usb/storage/uas.ko", "drivers/hid/usbhid",
    "drivers/hid/hid-generic.ko", "drivers/hid/hid-hyperv.ko", "drivers/input/serio/hyperv-keyboard.ko",
    "drivers/md/dm-mod.ko", "drivers/firmware/qemu_fw_cfg.ko",
    "fs/ext4", "fs/btrfs", "fs/fat", "fs/fuse/fuse.ko", "fs/isofs", "fs/overlayfs", "fs/efivarfs",
    "fs/nls/nls_cp437.ko", "fs/nls/nls_iso8859-1.ko", "fs/nls/nls_utf8.ko", "fs/nls/nls_ascii.ko",
    "crypto/crc32c_generic.ko", "crypto/xxhash_generic.ko",
)  # fmt: skip
UNWANTED = (
    "drivers/net/ethernet/cavium", "drivers/net/ethernet/netronome", "drivers/net/ethernet/chelsio", "drivers/net/ethernet/brocade",
    "drivers/net/ethernet/broadcom/bnx2x", "drivers/net/ethernet/broadcom/bnx2.ko", "drivers/net/ethernet/broadcom/cnic.ko",
    "drivers/net/ethernet/qlogic/qed", "drivers/net/ethernet/qlogic/qede", "drivers/net/ethernet/myricom",
    "drivers/net/ethernet/alteon", "drivers/net/ethernet/sfc/siena", "drivers/net/ethernet/sfc/falcon", "drivers/ata/pata",
    "drivers/usb/host/bcma-hcd.ko", "drivers/usb/host/ssb-hcd.ko", "drivers/usb/host/u132-hcd.ko", "drivers/usb/host/sl811_cs.ko",
    "drivers/net/ethernet/mellanox/mlxsw", "drivers/net/ethernet/8390", "drivers/net/ethernet/xircom",
    "drivers/net/ethernet/fujitsu", "drivers/net/ethernet/marvell/prestera", "drivers/net/ethernet/hisilicon/hns3/hns3vf",
)  # fmt: skip


@dataclass(frozen=True)
class Module:
    """One file, `path` below the kernel's folder."""

    path: str
    said: Mapping[str, tuple[str, ...]]

    @cached_property
    def name(self) -> str:
        return module_name(self.path)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of modules to load before: by symbol, and those that it looks for at run time, such as crc32c for ext4."""
        hard = [name for line in self.said.get("depends", ()) for name in line.split(",") if name]
        soft = [
            name
            for line in self.said.get("softdep", ())
            for group in re.findall(r"pre: *((?:[^\s:]+(?:\s+|$))+)", line)
            for name in group.split()
        ]
        return tuple(name.replace("-", "_") for name in (*hard, *soft))


class KernelModules:
    """The modules below lib/modules/VERSION of an unpacked kernel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = sorted(folder.rglob("*.ko"))
        if not files:
            raise BuildError(f"{folder}: no kernel modules as .ko; expected those of a Debian kernel")
        self._files = {module_name(file.name): file for file in files}

    def chosen(self, wanted: Iterable[str] = WANTED, unwanted: Iterable[str] = UNWANTED) -> list[Module]:
        """The modules of those folders with what they need, by path."""
        told_not, begun = tuple(unwanted), list(wanted)
        names = [
            name
            for name, file in self._files.items()
            for path in [file.relative_to(self.folder / "kernel").as_posix()]
            if any(_is_below(path, each) for each in begun) and not any(_is_below(path, each) for each in told_not)
        ]
        found: dict[str, Module] = {}
        while names:
            name = names.pop()
            if name not in found and name in self._files:  # else it is a part of the kernel itself
                found[name] = self._read(self._files[name])
                names += found[name].needs
        return sorted(found.values(), key=lambda module: module.path)

    def _read(self, file: Path) -> Module:
        said: dict[str, tuple[str, ...]] = {}
        for line in elf.section(elf.read(file), ".modinfo").split(b"\0"):
            key, _, value = line.decode("utf-8", "replace").partition("=")
            if key in ("depends", "softdep", "alias"):
                said[key] = (*said.get(key, ()), value)
        return Module(file.relative_to(self.folder).as_posix(), said)


def tables(modules: Iterable[Module]) -> Iterator[tuple[str, str]]:
    """What depmod would write for these: file name and text."""
    known = {module.name: module for module in modules}
    yield "modules.dep", "".join(f"{module.path}:{_before(module, known)}\n" for module in known.values())
    aliases = [f"alias {alias} {name}\n" for name, module in known.items() for alias in module.said.get("alias", ())]
    yield "modules.alias", "".join(sorted(aliases))


def module_name(path: str) -> str:
    """As the kernel calls it."""
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def _before(module: Module, known: Mapping[str, Module]) -> str:
    """What has to be loaded before, each behind those that need it: modprobe goes through the line from its end."""
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        for each in known[name].needs:
            if each in known and each not in above:
                if each in order:
                    order.remove(each)
                order.append(each)
                visit(each, (*above, each))

    visit(module.name, (module.name,))
    return "".join(f" {known[each].path}" for each in order)


def _is_below(path: str, folder: str) -> bool:
    """`drivers/ata/pata` also means drivers/ata/pata_via.ko."""
    return path == folder or path.startswith(folder if folder.endswith(("pata", "/")) else f"{folder}/")

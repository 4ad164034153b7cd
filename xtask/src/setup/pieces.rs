//! What the system must have: how to see that it is there, and the packages that bring it.

use crate::run::find;

use super::Need;

/// Something that packages of the system bring.
pub(super) struct Piece {
    /// What it is to a reader.
    pub(super) name: &'static str,
    /// The least that it is needed for.
    pub(super) need: Need,
    /// Whether it is there.
    pub(super) present: fn() -> bool,
    /// Debian's packages.
    pub(super) packages: &'static [&'static str],
    /// What to install where there is no apt.
    pub(super) elsewhere: &'static str,
}

/// All of them. The Rust side, which may come from rustup as well, is in `rust`.
pub(super) const PIECES: [Piece; 9] = [
    Piece {
        name: "a C compiler, which links Rust programs",
        need: Need::Build,
        present: || find("cc").is_some(),
        packages: &["gcc", "libc6-dev"],
        elsewhere: "gcc and the C library's headers",
    },
    Piece {
        name: "the tools `ip` and `tc`",
        need: Need::Lab,
        present: || find("ip").is_some() && find("tc").is_some(),
        packages: &["iproute2"],
        elsewhere: "iproute2",
    },
    Piece {
        name: "bpftool, by which tests see what is attached without us",
        need: Need::Test,
        present: || find("bpftool").is_some(),
        packages: &["bpftool"],
        elsewhere: "bpftool",
    },
    Piece {
        name: "an emulator for old kernels",
        need: Need::Test,
        present: || find("qemu-system-x86_64").is_some(),
        packages: &["qemu-system-x86"],
        elsewhere: "qemu-system-x86_64",
    },
    Piece {
        name: "cpio, which packs the emulated machine's files",
        need: Need::Test,
        present: || find("cpio").is_some(),
        packages: &["cpio"],
        elsewhere: "cpio",
    },
    Piece {
        name: "busybox, the emulated machine's shell",
        need: Need::Test,
        present: || find("busybox").is_some(),
        packages: &["busybox-static"],
        elsewhere: "busybox",
    },
    Piece {
        name: "iptables and nft, which the real kube-proxy calls",
        need: Need::Test,
        present: || find("iptables-legacy").is_some() && find("nft").is_some(),
        packages: &["iptables", "nftables"],
        elsewhere: "iptables (the legacy variant too) and nftables",
    },
    Piece {
        name: "runc, which the nodes of a test cluster run Pods with",
        need: Need::Cluster,
        present: || find("runc").is_some(),
        packages: &["runc"],
        elsewhere: "runc",
    },
    Piece {
        name: "nsenter and unshare, which make those nodes",
        need: Need::Cluster,
        present: || find("nsenter").is_some() && find("unshare").is_some(),
        packages: &["util-linux"],
        elsewhere: "util-linux",
    },
];

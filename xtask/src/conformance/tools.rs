//! What the tests call inside Pods beside Kubernetes' own programs (a shell, wget, dig and the like): Debian's packages
//! with all that they depend on, unpacked into the cache, so that nothing of the machine gets into the image.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::programs;
use crate::{
    go,
    kernels::debian::{Apt, mirror},
    run,
};

const SUITE: &str = "bookworm";
const PACKAGES: [&str; 12] = [
    "bash",
    "bind9-dnsutils",
    // Of this one the machine asks for the names of its programs.
    "busybox-static",
    "conntrack",
    "curl",
    "dash",
    "iproute2",
    "iptables",
    // getent, by which a Pod asks for names as programs do.
    "libc-bin",
    "netcat-openbsd",
    "nftables",
    "wget",
];
/// What no program reads.
const NOT_KEPT: [&str; 5] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var",
];
/// What an installation would have chosen.
const ALTERNATIVES: [(&str, &str); 5] = [
    ("bin/nc", "nc.openbsd"),
    ("bin/sh", "dash"),
    ("usr/sbin/iptables", "iptables-nft"),
    ("usr/sbin/ip6tables", "ip6tables-nft"),
    ("usr/sbin/iptables-save", "iptables-nft-save"),
];
/// Busybox's own of these are not what the tests were written for, or do not work.
const NOT_OF_BUSYBOX: [&str; 3] = ["ash", "sh", "wget"];

/// The root of the tree, from the cache or fetched into it.
pub(super) fn tree() -> Result<PathBuf> {
    go::cached("conformance-tools", &programs::source(), &PACKAGES, make)
}

fn make(root: &Path) -> Result<()> {
    let apt = root.with_extension("apt");
    run::say("fetching the tools of the end-to-end tests' image from Debian");
    let fetched = fetch(&apt).and_then(|()| unpack(&apt.join("archives"), root));
    if apt.exists() {
        fs::remove_dir_all(&apt)?;
    }
    fetched?;
    for name in NOT_KEPT {
        let path = root.join(name);
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        }
    }
    choose(root)?;
    applets(root)
}

fn fetch(directory: &Path) -> Result<()> {
    let apt = Apt::new(directory, SUITE, &mirror()?)?;
    apt.run(&["update"])?;
    let install = [
        "install",
        "--download-only",
        "--yes",
        "--no-install-recommends",
    ];
    apt.run(&[&install[..], &PACKAGES].concat())
}

fn unpack(archives: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(archives)? {
        let package = entry?.path();
        if package.extension().is_some_and(|it| it == "deb") {
            let mut command = Command::new("dpkg-deb");
            let unpacked = run::succeeds(command.arg("-x").arg(&package).arg(root));
            ensure!(unpacked, "dpkg-deb cannot unpack {}", package.display());
        }
    }
    Ok(())
}

fn choose(root: &Path) -> Result<()> {
    for (name, to) in ALTERNATIVES {
        link(root, name, to)?;
    }
    Ok(())
}

/// Busybox under the names of its programs, where no package has the real one.
fn applets(root: &Path) -> Result<()> {
    let list = run::capture(Command::new(root.join("bin/busybox")).arg("--list"))?;
    let directories = ["bin", "sbin", "usr/bin", "usr/sbin"];
    for name in list.split_whitespace() {
        let real = directories.iter().any(|directory| {
            let path = root.join(directory).join(name);
            path.symlink_metadata().is_ok()
        });
        if !real && !NOT_OF_BUSYBOX.contains(&name) {
            link(root, &format!("bin/{name}"), "busybox")?;
        }
    }
    Ok(())
}

fn link(root: &Path, name: &str, to: &str) -> Result<()> {
    let path = root.join(name);
    if path.symlink_metadata().is_ok() {
        fs::remove_file(&path)?;
    }
    std::os::unix::fs::symlink(to, &path)
        .with_context(|| format!("cannot make {} a link", path.display()))
}

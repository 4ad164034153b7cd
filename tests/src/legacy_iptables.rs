//! Where `iptables` is the legacy one, whatever the system prefers: for a kube-proxy whose rules are no nftables.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Makes the directory with legacy iptables by the names of iptables. Gives a PATH with it, as `env` takes it.
pub fn legacy_iptables(directory: &Path) -> Result<String> {
    fs::create_dir_all(directory)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:/usr/sbin:/sbin");
    for family in ["iptables", "ip6tables"] {
        for verb in ["", "-save", "-restore"] {
            let name = format!("{family}-legacy{verb}");
            let program = find_program(&name)
                .with_context(|| format!("{name} is not here: install iptables"))?;
            let link = directory.join(format!("{family}{verb}"));
            if !link.exists() {
                symlink(program, link)?;
            }
        }
    }
    Ok(format!("PATH={}:{path}", directory.display()))
}

/// A program on the PATH, sbin included: users who are not root often lack it there.
#[must_use]
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

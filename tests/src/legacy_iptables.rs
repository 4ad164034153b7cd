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
            let program = find(&path, &name)
                .with_context(|| format!("{name} is not here: install iptables"))?;
            let link = directory.join(format!("{family}{verb}"));
            if !link.exists() {
                symlink(program, link)?;
            }
        }
    }
    Ok(format!("PATH={}:{path}", directory.display()))
}

fn find(path: &str, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

//! A node's part of every cgroup hierarchy: version 2, which the lab makes, and on machines that have both the
//! controllers of version 1.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::lab::{Node, cgroup};

/// Makes them; gives the directories that the node's first process joins.
pub(super) fn make(node: &Node) -> Result<Vec<PathBuf>> {
    let unified = node.cgroup();
    delegate(unified)?;
    let own = unified.strip_prefix(cgroup::mount_point()?)?;
    let mut all = vec![unified.to_owned()];
    for mount in cgroup::version_one() {
        let mut path = mount;
        for part in own {
            let above = path.clone();
            path.push(part);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot make the cgroup {}", path.display()))?;
            inherit(&above, &path)?;
        }
        all.push(path);
    }
    Ok(all)
}

/// A new directory of cpuset is empty, and nothing may run in it.
fn inherit(above: &Path, path: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read_to_string(above.join(name)) {
            let file = path.join(name);
            fs::write(&file, value).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}

/// Version 2 hands a controller down only where the directory above says so. The node does the same further down.
fn delegate(node: &Path) -> Result<()> {
    let mut above: Vec<&Path> = node.ancestors().skip(1).take(2).collect();
    above.reverse();
    for above in above {
        let controllers = fs::read_to_string(above.join("cgroup.controllers"))?;
        for controller in controllers.split_whitespace() {
            let file = above.join("cgroup.subtree_control");
            fs::write(&file, format!("+{controller}"))
                .with_context(|| format!("cannot enable {controller} in {}", file.display()))?;
        }
    }
    Ok(())
}

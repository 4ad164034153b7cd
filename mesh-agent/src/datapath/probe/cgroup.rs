//! Which cgroup a directory is: every process of the host must be below the one that programs are attached to. Files of
//! /proc in, results out.
//!
//! In a container the host's hierarchy and the container's own part of it may both be mounted, and where a node is a
//! container itself (kind), the root of the node is not the kernel's. So a directory is judged by where it stands to
//! this process' own cgroup: the kernel writes both as paths from the root of the cgroup namespace, and what is above
//! that root as "/..".

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use super::{super::codes, CheckResult, host::in_container};

/// A mount of cgroup2.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Where it is.
    place: PathBuf,
    /// Which cgroup is mounted there.
    root: PathBuf,
}

/// Where a cgroup stands to the own one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// This process is below it, and so is whatever else this view has.
    Above,
    /// It is the own one and everything that can be seen of the host.
    Own,
    /// It is below the root.
    Below,
}

/// Where cgroup2 is mounted in this process' view: the mount that holds the most.
pub(super) fn mount_point() -> Option<PathBuf> {
    let mounts = mounts(&fs::read_to_string("/proc/self/mountinfo").ok()?);
    let own = own_cgroup();
    let best = mounts
        .iter()
        .find(|mount| standing(&mount.root, &own) == Standing::Above)
        .or(mounts.first())?;
    Some(best.place.clone())
}

/// The kernel's own root is the one directory without `cgroup.events`.
pub(super) fn host_cgroup(path: &Path) -> CheckResult {
    if !in_container() {
        return CheckResult::ok(codes::HOST_CGROUP, "not in a container");
    }
    let shown = path.display();
    if !path.join("cgroup.events").exists() {
        return CheckResult::ok(codes::HOST_CGROUP, format!("{shown} is the root"));
    }
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match cgroup_of(path, &mounts(&text)).map(|cgroup| standing(&cgroup, &own_cgroup())) {
        Some(Standing::Above) => CheckResult::warning(
            codes::HOST_CGROUP,
            format!(
                "{shown} is no root, but all that is below it is served: right where a node is a container"
            ),
        ),
        Some(Standing::Own) => CheckResult::error(
            codes::HOST_CGROUP,
            format!("{shown} is this container's own cgroup"),
        ),
        Some(Standing::Below) | None => CheckResult::error(
            codes::HOST_CGROUP,
            format!("{shown} is a cgroup below the root"),
        ),
    }
}

/// From the root of the cgroup namespace; that root where it cannot be read.
fn own_cgroup() -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    PathBuf::from(own.unwrap_or("/"))
}

/// `ID PARENT DEVICE ROOT PLACE OPTIONS [TAGS...] - KIND SOURCE OPTIONS`.
fn mounts(mountinfo: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        back.starts_with("cgroup2 ").then(|| Mount {
            place: place.into(),
            root: root.into(),
        })
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// The cgroup of a directory, by the innermost mount that it is below; of two at one place the later is on top.
fn cgroup_of(path: &Path, mounts: &[Mount]) -> Option<PathBuf> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mount = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.place))
        .max_by_key(|mount| mount.place.components().count())?;
    Some(mount.root.join(path.strip_prefix(&mount.place).ok()?))
}

fn standing(cgroup: &Path, own: &Path) -> Standing {
    let names = |path: &Path| {
        let named = |part: &Component<'_>| matches!(part, Component::Normal(_));
        path.components().filter(named).count()
    };
    let is_above_the_namespace = cgroup
        .components()
        .any(|component| component == Component::ParentDir);
    match (names(cgroup), is_above_the_namespace, names(own)) {
        (0, true, _) | (0, false, 1..) => Standing::Above,
        (0, false, 0) => Standing::Own,
        (1.., ..) => Standing::Below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(cgroup: &str, own: &str) -> Standing {
        standing(Path::new(cgroup), Path::new(own))
    }

    #[test]
    fn a_directory_is_judged_by_where_it_stands_to_the_own_cgroup() {
        // A Pod with a cgroup namespace of its own: the runtime's mount, the node's, one of all Pods.
        assert_eq!(judged("/", "/"), Standing::Own);
        assert_eq!(judged("/../../..", "/"), Standing::Above);
        assert_eq!(judged("/../../../kubepods", "/"), Standing::Below);
        // One that shares the node's namespace.
        assert_eq!(judged("/", "/kubepods/pod1/agent"), Standing::Above);
        assert_eq!(judged("/kubepods", "/kubepods/pod1/agent"), Standing::Below);
    }

    #[test]
    fn mounts_are_read() {
        let text = "30 29 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n\
            31 29 0:27 / /sys rw shared:2 master:1 - sysfs sysfs rw\n\
            41 31 0:26 /../.. /host/cgroup rw master:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let expected = [("/sys/fs/cgroup", "/"), ("/host/cgroup", "/../..")];
        let expected = expected.map(|(place, root)| Mount {
            place: place.into(),
            root: root.into(),
        });
        assert_eq!(mounts(text), expected);
        let below = Path::new("/host/cgroup/kubepods");
        let cgroup = cgroup_of(below, &mounts(text));
        assert_eq!(cgroup.as_deref(), Some(Path::new("/../../kubepods")));
    }

    #[test]
    fn the_mount_on_top_counts() {
        let text = "1 0 0:26 /.. /sys/fs/cgroup rw - cgroup2 a rw\n\
            2 0 0:26 / /sys/fs/cgroup rw - cgroup2 a rw\n";
        let cgroup = cgroup_of(Path::new("/sys/fs/cgroup"), &mounts(text));
        assert_eq!(cgroup.as_deref(), Some(Path::new("/")));
    }
}

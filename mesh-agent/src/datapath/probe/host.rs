//! What the host has: privileges, kernel version, mounts, settings. Files in, results out.

use std::{fs, path::Path};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::{
    super::{codes, pins, sys},
    CheckResult,
};

pub(super) fn privileges() -> CheckResult {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match missing_capabilities(&status) {
        Some(missing) if missing.is_empty() => CheckResult::ok(
            codes::PRIVILEGES,
            "CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN are there",
        ),
        Some(missing) => {
            CheckResult::error(codes::PRIVILEGES, format!("without {}", missing.join(", ")))
        }
        None => CheckResult::warning(codes::PRIVILEGES, "/proc/self/status cannot be read"),
    }
}

fn missing_capabilities(status: &str) -> Option<Vec<&'static str>> {
    const NEEDED: [(u32, &str); 3] = [
        (12, "CAP_NET_ADMIN"),
        (21, "CAP_SYS_ADMIN"),
        (39, "CAP_BPF"),
    ];
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    let is_missing = |number: &u32| effective & (1 << number) == 0;
    let missing = NEEDED.iter().filter(|(number, _)| is_missing(number));
    Some(missing.map(|(_, name)| *name).collect())
}

fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// The first two numbers of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn kernel() -> CheckResult {
    let release = release();
    match version(&release) {
        Some(version) if version >= (6, 1) => {
            CheckResult::ok(codes::KERNEL, format!("Linux {release}"))
        }
        Some(version) if version >= (5, 10) => CheckResult::warning(
            codes::KERNEL,
            format!("Linux {release} serves Services; what it lacks is named by the other codes"),
        ),
        Some(_) => CheckResult::error(codes::KERNEL, format!("Linux {release} is too old")),
        None => CheckResult::warning(codes::KERNEL, format!("{release:?} is no release of Linux")),
    }
}

pub(super) fn btf() -> CheckResult {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        return CheckResult::ok(codes::BTF, "the kernel has its types");
    }
    CheckResult::warning(
        codes::BTF,
        "/sys/kernel/btf/vmlinux is missing; Services work without it",
    )
}

pub(super) fn bpffs(path: &Path) -> CheckResult {
    let there = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(path);
    if pins::is_bpffs(there) {
        return CheckResult::ok(codes::BPFFS, format!("{} is on a bpffs", path.display()));
    }
    if path.starts_with(pins::MOUNT_POINT) {
        let what = format!("not mounted at {}; `run` mounts it", pins::MOUNT_POINT);
        return CheckResult::warning(codes::BPFFS, what);
    }
    CheckResult::error(
        codes::BPFFS,
        format!("{} is not on a bpffs", path.display()),
    )
}

pub(super) fn cgroup(path: &Path) -> CheckResult {
    let shown = path.display();
    match statfs(path) {
        Ok(status) if status.filesystem_type() == CGROUP2_SUPER_MAGIC => {
            CheckResult::ok(codes::CGROUP, format!("{shown} is a cgroup2 directory"))
        }
        Ok(_) => CheckResult::error(codes::CGROUP, format!("{shown} is not on a cgroup2 mount")),
        Err(error) => CheckResult::error(codes::CGROUP, format!("{shown}: {error}")),
    }
}

/// The kernel's number for the cgroup namespace that the host starts with (PROC_CGROUP_INIT_INO).
const FIRST_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

/// Whether this process sees another cgroup hierarchy than the host's: files that runtimes leave do not tell, because
/// images of virtual machines are made from containers.
fn in_container() -> bool {
    let namespace = fs::read_link("/proc/self/ns/cgroup");
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || namespace.is_ok_and(|name| name != Path::new(FIRST_CGROUP_NAMESPACE))
}

/// The root of the hierarchy is the one directory without `cgroup.events`.
pub(super) fn host_cgroup(path: &Path) -> CheckResult {
    if !in_container() {
        return CheckResult::ok(codes::HOST_CGROUP, "not in a container");
    }
    if path.join("cgroup.events").exists() {
        let what = format!("{} is a cgroup below the root", path.display());
        return CheckResult::error(codes::HOST_CGROUP, what);
    }
    CheckResult::ok(
        codes::HOST_CGROUP,
        format!("{} is the root", path.display()),
    )
}

/// No container runtime mounts a bpffs of its own accord: one that is there is the host's, one that would have to be
/// mounted now would not be.
pub(super) fn host_bpffs(path: &Path) -> CheckResult {
    if !in_container() {
        return CheckResult::ok(codes::HOST_BPFFS, "not in a container");
    }
    let there = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(path);
    if pins::is_bpffs(there) {
        return CheckResult::ok(codes::HOST_BPFFS, format!("{} is on it", path.display()));
    }
    CheckResult::error(codes::HOST_BPFFS, "no bpffs is mounted in this container")
}

/// Whether maps count against RLIMIT_MEMLOCK: before Linux 5.11, and when the version is not known.
pub(in super::super) fn counts_memlock() -> bool {
    version(&release()).is_none_or(|version| version < (5, 11))
}

pub(super) fn memlock() -> CheckResult {
    if !counts_memlock() {
        return CheckResult::ok(codes::MEMLOCK, "this kernel counts maps elsewhere");
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let unlimited = limits
        .lines()
        .any(|line| line.starts_with("Max locked memory") && line.contains("unlimited"));
    if unlimited || sys::raise_memlock().is_ok() {
        return CheckResult::ok(codes::MEMLOCK, "not limited");
    }
    CheckResult::error(
        codes::MEMLOCK,
        "limited, and CAP_SYS_RESOURCE is missing to raise it",
    )
}

pub(super) fn jit() -> CheckResult {
    let setting = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    if setting.trim() == "0" {
        return CheckResult::warning(codes::JIT, "net.core.bpf_jit_enable is 0");
    }
    CheckResult::ok(codes::JIT, "programs are compiled")
}

pub(super) fn pins(path: &Path) -> CheckResult {
    let Ok(status) = fs::symlink_metadata(path) else {
        return CheckResult::ok(codes::PINS, format!("{} is not there yet", path.display()));
    };
    match pins::distrust(&status) {
        Some(reason) => CheckResult::error(codes::PINS, format!("{} {reason}", path.display())),
        None => CheckResult::ok(
            codes::PINS,
            format!("{} is this user's alone", path.display()),
        ),
    }
}

/// Where cgroup2 is mounted. On hosts with both hierarchies that is not the root of /sys/fs/cgroup.
pub(super) fn cgroup_mount(mounts: &str) -> Option<std::path::PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| place.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.0-rc1+deb13-amd64"), Some((6, 18)));
        assert_eq!(version("5.10.0-32-cloud"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn capabilities_are_read() {
        let status = "Name:\tx\nCapEff:\t0000000000201000\n";
        assert_eq!(missing_capabilities(status), Some(vec!["CAP_BPF"]));
        assert_eq!(
            missing_capabilities("CapEff:\t000001ffffffffff\n"),
            Some(vec![])
        );
        assert_eq!(missing_capabilities(""), None);
    }
}

//! What the host has: privileges, kernel version, mounts, settings. Files in, results out.

use std::{fs, path::Path};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::{
    super::{codes, pins, sys},
    CheckResult,
};

/// What programs are loaded and attached with, by its number in the kernel.
const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON")];
const SYS_ADMIN: u32 = 21;
/// What CAP_SYS_ADMIN stands for as well, as before Linux 5.8.
const OF_SYS_ADMIN: [u32; 2] = [38, 39];

pub(super) fn privileges() -> CheckResult {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match effective_capabilities(&status) {
        Some(effective) => judge_capabilities(effective),
        None => CheckResult::warning(codes::PRIVILEGES, "/proc/self/status cannot be read"),
    }
}

fn judge_capabilities(effective: u64) -> CheckResult {
    let has = |number: u32| effective & (1 << number) != 0;
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(number, _)| {
            let implied = OF_SYS_ADMIN.contains(number) && has(SYS_ADMIN);
            !(has(*number) || implied)
        })
        .map(|(_, name)| *name)
        .collect();
    if !missing.is_empty() {
        return CheckResult::error(codes::PRIVILEGES, format!("without {}", missing.join(", ")));
    }
    if !has(SYS_ADMIN) {
        return CheckResult::warning(
            codes::PRIVILEGES,
            "without CAP_SYS_ADMIN programs of others are known by number alone, a missing bpffs is not mounted, and sockets \
             in pods are not destroyed when their backend is gone",
        );
    }
    CheckResult::ok(codes::PRIVILEGES, "every capability is there")
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
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
pub(super) fn in_container() -> bool {
    let namespace = fs::read_link("/proc/self/ns/cgroup");
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || namespace.is_ok_and(|name| name != Path::new(FIRST_CGROUP_NAMESPACE))
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

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.0-rc1+deb13-amd64"), Some((6, 18)));
        assert_eq!(version("5.10.0-32-cloud"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn capabilities_are_read() {
        let status = "Name:\tx\nCapEff:\t0000000000201000\n";
        assert_eq!(effective_capabilities(status), Some(0x20_1000));
        assert_eq!(effective_capabilities(""), None);
    }

    #[test]
    fn a_missing_capability_is_named_with_what_is_lost() {
        let all = (1 << 39) | (1 << 38) | (1 << 12) | (1 << SYS_ADMIN);
        assert_eq!(judge_capabilities(all).level, Level::Ok);
        let some = judge_capabilities(all & !(1 << SYS_ADMIN));
        assert_eq!(some.level, Level::Warning);
        assert!(some.what.starts_with("without CAP_SYS_ADMIN programs of"));
        let none = judge_capabilities(0);
        assert_eq!(none.level, Level::Error);
        assert_eq!(none.what, "without CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
        // As on kernels that did not tell them apart.
        let old = judge_capabilities((1 << SYS_ADMIN) | (1 << 12));
        assert_eq!(old.level, Level::Ok);
    }
}

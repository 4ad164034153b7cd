//! What the kernel can do, by trying it: small programs and maps that are thrown away at once.

use std::os::fd::AsFd;

use mesh_ebpf::Jiffies;

use super::{
    super::{
        codes,
        hooks::{HOOKS, SOCK_OPS},
        sys,
    },
    CheckResult,
};

const CONNECT4: u32 = 10;
const BPF_FUNC_GET_NETNS_COOKIE: u32 = 122;
const BPF_FUNC_SET_RETVAL: u32 = 187;
const BPF_FUNC_KTIME_GET_COARSE_NS: u32 = 160;

/// Whether a program at a socket hook can say with which error a call fails (Linux 6.1).
pub(in super::super) fn has_set_retval() -> bool {
    sys::helper_works(BPF_FUNC_SET_RETVAL, CONNECT4, false)
}

/// Whether programs have a clock that costs little (Linux 5.11).
pub(in super::super) fn has_coarse_clock() -> bool {
    sys::helper_works(BPF_FUNC_KTIME_GET_COARSE_NS, CONNECT4, false)
}

/// How the kernel's count of timer ticks becomes seconds; unknown where the two are not known to belong together.
pub(in super::super) fn jiffies() -> Jiffies {
    let known = sys::timer_tick().and_then(|tick| {
        let low = sys::jiffies().ok()?;
        Jiffies::new(low, sys::monotonic_nanoseconds(), tick)
    });
    known.unwrap_or(Jiffies::UNKNOWN)
}

/// Whether a sockops program can say which network namespace a connection is of (Linux 5.15).
pub(in super::super) fn has_sock_ops_netns() -> bool {
    sys::helper_works(BPF_FUNC_GET_NETNS_COOKIE, SOCK_OPS, true)
}

pub(super) fn hooks() -> CheckResult {
    let missing: Vec<&str> = HOOKS
        .iter()
        .filter(|hook| !sys::hook_works(hook.attach_type))
        .map(|hook| hook.name)
        .collect();
    if missing.is_empty() {
        return CheckResult::ok(codes::HOOKS, "every socket hook takes programs");
    }
    let what = format!("the kernel takes no program at: {}", missing.join(", "));
    CheckResult::error(codes::HOOKS, what)
}

pub(super) fn netns_cookie() -> CheckResult {
    if !sys::helper_works(BPF_FUNC_GET_NETNS_COOKIE, CONNECT4, true) {
        let what = "the kernel refuses it at socket hooks";
        return CheckResult::error(codes::NETNS_COOKIE, what);
    }
    if !has_sock_ops_netns() {
        let what = "works at socket hooks, but not at sockops: connections do not show who a client is that the agent \
                    cannot look at, and source ranges leave its calls to the packet path";
        return CheckResult::warning(codes::NETNS_COOKIE, what);
    }
    CheckResult::ok(codes::NETNS_COOKIE, "works at socket hooks")
}

pub(super) fn set_retval() -> CheckResult {
    if has_set_retval() {
        return CheckResult::ok(codes::SET_RETVAL, "works at socket hooks");
    }
    let what =
        "a connection to a Service without endpoints fails with EPERM instead of ECONNREFUSED";
    CheckResult::warning(codes::SET_RETVAL, what)
}

pub(super) fn mapped_arrays() -> CheckResult {
    const ARRAY: u32 = 2;
    const BPF_F_MMAPABLE: u32 = 1 << 10;
    let shape = sys::MapInfo {
        kind: ARRAY,
        id: 0,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        flags: BPF_F_MMAPABLE,
    };
    match sys::map_create(&shape).and_then(|map| sys::Words::map(map.as_fd())) {
        Ok(words) if words.store(0, 1) && words.load(0) == 1 => {
            CheckResult::ok(codes::MAPPED_ARRAYS, "arrays can be mapped and written")
        }
        Ok(_) => CheckResult::error(codes::MAPPED_ARRAYS, "a mapped array does not keep a store"),
        Err(error) => CheckResult::error(
            codes::MAPPED_ARRAYS,
            format!("an array cannot be mapped: {error}"),
        ),
    }
}

pub(super) fn grace() -> CheckResult {
    match sys::rcu_grace_period() {
        Ok(()) => CheckResult::ok(codes::GRACE, "grace periods can be waited for"),
        Err(error) => {
            let what = format!("MEMBARRIER_CMD_GLOBAL is refused: {error}");
            CheckResult::error(codes::GRACE, what)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_ticks_are_the_seconds_of_its_clock() {
        let jiffies = jiffies();
        let low = sys::jiffies().expect("the kernel runs the program");
        let since = low.wrapping_sub(jiffies.first as u32);
        let seconds = u64::from(jiffies.seconds(jiffies.first + u64::from(since)));
        let clock = sys::monotonic_nanoseconds() / 1_000_000_000;
        assert!(
            jiffies != Jiffies::UNKNOWN && seconds.abs_diff(clock) <= 1,
            "{jiffies:?} says {seconds}, the clock {clock}"
        );
    }
}

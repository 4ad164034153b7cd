//! The system calls that aya lacks or keeps to itself, and memory that the kernel shares. All unsafe code of the agent
//! is here; what leaves this module is safe to use.
#![expect(unsafe_code, reason = "system calls and mapped memory")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

mod elements;
mod netlink;
mod netns;
mod programs;
mod tcx;
mod words;

pub(super) use elements::{RawMap, map_by_id};
pub(crate) use netlink::set_socket_option;
pub(crate) use netns::{own_netns_cookie, socket_cookie};
#[cfg(test)]
pub(super) use programs::accepting_classifier;
pub(super) use programs::{
    ProgramInfo, enable_stats, helper_works, hook_works, jiffies, program_by_id, program_info,
    raise_memlock,
};
pub(super) use tcx::{link_detach, tcx_create, tcx_info, tcx_query, tcx_works};
pub(super) use words::Words;

/// Commands of bpf(2), from the kernel's uapi/linux/bpf.h.
mod command {
    pub(super) const MAP_CREATE: i64 = 0;
    pub(super) const MAP_LOOKUP_ELEM: i64 = 1;
    pub(super) const MAP_UPDATE_ELEM: i64 = 2;
    pub(super) const MAP_DELETE_ELEM: i64 = 3;
    pub(super) const MAP_GET_NEXT_KEY: i64 = 4;
    pub(super) const PROG_LOAD: i64 = 5;
    pub(super) const OBJ_PIN: i64 = 6;
    pub(super) const OBJ_GET: i64 = 7;
    pub(super) const PROG_TEST_RUN: i64 = 10;
    pub(super) const OBJ_GET_INFO_BY_FD: i64 = 15;
    pub(super) const PROG_QUERY: i64 = 16;
    pub(super) const MAP_GET_FD_BY_ID: i64 = 14;
    pub(super) const PROG_GET_FD_BY_ID: i64 = 13;
    pub(super) const LINK_CREATE: i64 = 28;
    pub(super) const LINK_UPDATE: i64 = 29;
    pub(super) const MAP_LOOKUP_BATCH: i64 = 24;
    pub(super) const ENABLE_STATS: i64 = 32;
    pub(super) const LINK_DETACH: i64 = 34;
}

/// bpf_attr for OBJ_PIN and OBJ_GET.
#[repr(C)]
#[derive(Default)]
struct ObjectAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreateAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// Room for what other kinds of links have here: the kernel reads as many bytes as are given.
    rest: [u64; 4],
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdateAttributes {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    rest: [u64; 4],
}

/// The head of bpf_attr for MAP_CREATE.
#[repr(C)]
#[derive(Default)]
struct MapAttributes {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// The head of bpf_map_info.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

/// The head of bpf_link_info, with what a cgroup link has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program: u32,
    pad: u32,
    pub(super) cgroup: u64,
    pub(super) attach_type: u32,
    pad2: u32,
}

fn bpf<T>(number: i64, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: the attributes are a repr(C) struct that is alive and as long as the size given; the pointers in it are
    // to memory that its maker keeps alive during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            number,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Opens what is pinned at a path.
pub(super) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attributes = ObjectAttributes {
        path: path.as_ptr() as u64,
        ..Default::default()
    };
    bpf(command::OBJ_GET, &mut attributes).and_then(owned)
}

/// Pins an object.
pub(super) fn object_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attributes = ObjectAttributes {
        path: path.as_ptr() as u64,
        fd: number(fd),
        flags: 0,
    };
    bpf(command::OBJ_PIN, &mut attributes).map(drop)
}

fn info<T: Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let length = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let address = std::ptr::from_mut(&mut info) as u64;
    let mut attributes = InfoAttributes {
        fd: number(fd),
        length,
        info: address,
    };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// Makes a map; the id is the kernel's to give.
pub(super) fn map_create(shape: &MapInfo) -> io::Result<OwnedFd> {
    let mut attributes = MapAttributes {
        kind: shape.kind,
        key_size: shape.key_size,
        value_size: shape.value_size,
        max_entries: shape.max_entries,
        flags: shape.flags,
    };
    bpf(command::MAP_CREATE, &mut attributes).and_then(owned)
}

/// What the kernel says of a map.
pub(super) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(fd)
}

/// The name that a map was made with, which the kernel cuts off after 15 bytes.
pub(super) fn map_name(fd: BorrowedFd<'_>) -> io::Result<String> {
    #[repr(C)]
    #[derive(Default)]
    struct Named {
        head: MapInfo,
        name: [u8; 16],
    }
    let named: Named = info(fd)?;
    let end = named.name.iter().position(|byte| *byte == 0);
    let name = &named.name[..end.unwrap_or(named.name.len())];
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Bytes of kernel memory that a map takes.
pub(super) fn map_memory(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let field = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    field
        .and_then(|bytes| bytes.trim().parse().ok())
        .ok_or_else(|| io::Error::other("its fdinfo has no memlock"))
}

/// What the kernel says of a cgroup link.
pub(super) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(fd)
}

/// Attaches a program to a cgroup. Flags are 0: links are multi by themselves, and asking for it is EINVAL.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreateAttributes {
        program: number(program),
        target: number(cgroup),
        attach_type,
        ..Default::default()
    };
    bpf(command::LINK_CREATE, &mut attributes).and_then(owned)
}

/// Replaces the program of a link, at one instant.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkUpdateAttributes {
        link: number(link),
        program: number(program),
        ..Default::default()
    };
    bpf(command::LINK_UPDATE, &mut attributes).map(drop)
}

/// Ids of the programs attached to a cgroup itself at a hook.
pub(super) fn attached_programs(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let mut attributes = QueryAttributes {
        target: number(cgroup),
        attach_type,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        ..Default::default()
    };
    bpf(command::PROG_QUERY, &mut attributes)?;
    Ok(ids
        .iter()
        .copied()
        .take(attributes.count as usize)
        .collect())
}

/// Waits until every program that runs now, on any CPU, has ended: membarrier(2)'s MEMBARRIER_CMD_GLOBAL is
/// synchronize_rcu, and a program runs within one RCU read side.
///
/// With one CPU alone the kernel takes the call itself for proof enough, which a reader that was preempted is not: then it
/// is waited for as long as ids rest.
pub(super) fn rcu_grace_period() -> io::Result<()> {
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1) {
        std::thread::sleep(crate::plan::REST);
        return Ok(());
    }
    const MEMBARRIER_CMD_GLOBAL: i64 = 1;
    // SAFETY: the call takes three integers.
    let result =
        unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0_i64, 0_i64) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Nanoseconds of the clock that bpf_ktime_get_ns reads.
pub(super) fn monotonic_nanoseconds() -> u64 {
    clock_nanoseconds(|time| {
        // SAFETY: the pointer is to a timespec that is alive.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time) }
    })
}

/// The length of the kernel's timer tick, in nanoseconds, if its count of ticks follows the monotonic clock: that has steps of
/// one nanosecond with high-resolution timers, and those of the ticks without.
pub(super) fn timer_tick() -> Option<u64> {
    let step = |clock| {
        clock_nanoseconds(|time| {
            // SAFETY: the pointer is to a timespec that is alive.
            unsafe { libc::clock_getres(clock, time) }
        })
    };
    (step(libc::CLOCK_MONOTONIC) == 1).then(|| step(libc::CLOCK_MONOTONIC_COARSE))
}

/// What a call says of a clock; 0 if it fails.
fn clock_nanoseconds(call: impl Fn(*mut libc::timespec) -> i32) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if call(&raw mut time) != 0 {
        return 0;
    }
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Gives memory that the allocator holds free back to the kernel: parsing many manifests leaves much of it.
pub(super) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

//! The bpf system call: the few commands that the smoke program needs.
#![allow(unsafe_code, reason = "the system call takes pointers")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn};

use crate::packet::Direction;

/// BPF_LOG_STATS: instructions, states and stack, without the walk itself (Linux 5.2).
pub(crate) const LOG_STATS: u32 = 4;
/// BPF_LOG_LEVEL1 and the figures: the walk of the path that failed.
pub(crate) const LOG_FAILURE: u32 = 1 | LOG_STATS;

/// What a map is made of.
pub(crate) struct MapAttributes {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// Type and attach type of a program, as the kernel numbers them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramKind {
    pub(crate) program_type: u32,
    pub(crate) attach_type: u32,
}

/// Makes a map.
pub(crate) fn map_create(attributes: &MapAttributes) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: every field of this union member is a plain number, and all bytes are zero.
    let map = unsafe { &mut attr.__bindgen_anon_1 };
    map.map_type = attributes.map_type;
    map.key_size = attributes.key_size;
    map.value_size = attributes.value_size;
    map.max_entries = attributes.max_entries;
    map.map_flags = attributes.flags;
    call_for_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

/// Writes one entry. The slices must be of the map's sizes.
pub(crate) fn map_update(map: &impl AsFd, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attr = zeroed();
    // SAFETY: as in `map_create`.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_fd().as_raw_fd().cast_unsigned();
    element.key = key.as_ptr() as u64;
    element.__bindgen_anon_1.value = value.as_ptr() as u64;
    call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Makes a map's contents constant to the verifier.
pub(crate) fn map_freeze(map: &impl AsFd) -> io::Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_fd().as_raw_fd().cast_unsigned();
    call(bpf_cmd::BPF_MAP_FREEZE, &mut attr).map(drop)
}

/// Loads a program; gives its descriptor or the error, and what the verifier wrote.
pub(crate) fn program_load(
    kind: ProgramKind,
    instructions: &[bpf_insn],
    license: &CStr,
    log_level: u32,
) -> (io::Result<OwnedFd>, String) {
    let mut log = vec![0_u8; 16 << 20];
    let mut attr = zeroed();
    // SAFETY: as in `map_create`.
    let program = unsafe { &mut attr.__bindgen_anon_3 };
    program.prog_type = kind.program_type;
    program.expected_attach_type = kind.attach_type;
    program.insns = instructions.as_ptr() as u64;
    program.insn_cnt = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    program.license = license.as_ptr() as u64;
    program.log_level = log_level;
    program.log_buf = log.as_mut_ptr() as u64;
    // Half of the buffer's size would do as well: kernels before 5.2 took at most 16 MiB.
    program.log_size = u32::try_from(log.len()).unwrap_or(0);
    let result = call_for_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr);
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    log.truncate(end);
    (result, String::from_utf8_lossy(&log).into_owned())
}

/// Attaches a program to a cgroup, until the link is closed.
pub(crate) fn link_create(
    program: &impl AsFd,
    cgroup: &impl AsFd,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: as in `map_create`.
    let link = unsafe { &mut attr.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_fd().as_raw_fd().cast_unsigned();
    link.__bindgen_anon_2.target_fd = cgroup.as_fd().as_raw_fd().cast_unsigned();
    link.attach_type = attach_type;
    call_for_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Attaches a program to an interface, until the link is closed (Linux 6.6).
pub(crate) fn tcx_link(
    program: &impl AsFd,
    interface: u32,
    direction: Direction,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: as in `map_create`.
    let link = unsafe { &mut attr.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_fd().as_raw_fd().cast_unsigned();
    link.__bindgen_anon_2.target_ifindex = interface;
    link.attach_type = match direction {
        Direction::Ingress => bpf_attach_type::BPF_TCX_INGRESS as u32,
        Direction::Egress => bpf_attach_type::BPF_TCX_EGRESS as u32,
    };
    call_for_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Runs a program once over a packet; gives what it returned and the packet afterwards.
pub(crate) fn test_run(program: &impl AsFd, packet: &[u8]) -> io::Result<(u32, Vec<u8>)> {
    let mut after = vec![0; packet.len() + 256];
    let mut attr = zeroed();
    // SAFETY: as in `map_create`.
    let test = unsafe { &mut attr.test };
    test.prog_fd = program.as_fd().as_raw_fd().cast_unsigned();
    test.data_in = packet.as_ptr() as u64;
    test.data_size_in = u32::try_from(packet.len()).unwrap_or(0);
    test.data_out = after.as_mut_ptr() as u64;
    test.data_size_out = u32::try_from(after.len()).unwrap_or(0);
    test.repeat = 1;
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: the kernel has filled the same member.
    let (verdict, length) = unsafe { (attr.test.retval, attr.test.data_size_out) };
    after.truncate(length as usize);
    Ok((verdict, after))
}

fn zeroed() -> bpf_attr {
    // SAFETY: the union is made of numbers and arrays of numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the size is the attribute's own, and what its pointers name outlives the call: each caller borrows it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

fn call_for_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the callers' commands return a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

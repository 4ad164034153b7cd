//! What the kernel says of programs, and small programs that find out what it can do.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{InfoAttributes, bpf, command, number, owned};

const CGROUP_SOCK: u32 = 9;
const CGROUP_SOCK_ADDR: u32 = 18;
const SOCK_OPS_KIND: u32 = 13;
const SOCK_RELEASE: u32 = 34;
const SOCK_OPS: u32 = 3;
const SCHED_CLS: u32 = 3;
/// What probes are called in the kernel's lists, as long as they are there.
const PROBE: &str = "mesh_probe";

/// bpf_prog_info. Its maps are asked for in the same call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    created_by: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
    interface: u32,
    gpl_compatible: u32,
    netns_device: u64,
    netns_inode: u64,
    symbol_count: u32,
    function_lengths: u32,
    symbols: u64,
    lengths: u64,
    btf: u32,
    function_record_size: u32,
    function_info: u64,
    function_count: u32,
    line_count: u32,
    line_info: u64,
    jited_line_info: u64,
    jited_line_count: u32,
    line_record_size: u32,
    jited_line_record_size: u32,
    tag_count: u32,
    tags: u64,
    run_time_ns: u64,
    run_count: u64,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::datapath) struct ProgramInfo {
    pub(in crate::datapath) id: u32,
    pub(in crate::datapath) name: String,
    /// Ids of the maps it uses.
    pub(in crate::datapath) maps: Vec<u32>,
    pub(in crate::datapath) run_time_ns: u64,
    pub(in crate::datapath) run_count: u64,
}

/// What the kernel says of a program.
pub(in crate::datapath) fn program_info(fd: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut maps = [0_u32; 64];
    let mut raw = RawInfo {
        map_count: 64,
        maps: maps.as_mut_ptr() as u64,
        ..Default::default()
    };
    let mut attributes = InfoAttributes {
        fd: number(fd),
        length: u32::try_from(size_of::<RawInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut raw) as u64,
    };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut attributes)?;
    let end = raw.name.iter().position(|byte| *byte == 0).unwrap_or(16);
    Ok(ProgramInfo {
        id: raw.id,
        name: String::from_utf8_lossy(&raw.name[..end]).into_owned(),
        maps: maps.iter().copied().take(raw.map_count as usize).collect(),
        run_time_ns: raw.run_time_ns,
        run_count: raw.run_count,
    })
}

/// Opens a program by its id; needs CAP_SYS_ADMIN.
pub(in crate::datapath) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct IdAttributes {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut attributes = IdAttributes {
        id,
        ..Default::default()
    };
    bpf(command::PROG_GET_FD_BY_ID, &mut attributes).and_then(owned)
}

/// Lets the kernel count runs and time of all programs, as long as the descriptor is open (Linux 5.8).
pub(in crate::datapath) fn enable_stats() -> io::Result<OwnedFd> {
    const BPF_STATS_RUN_TIME: u32 = 0;
    let mut kind = BPF_STATS_RUN_TIME;
    bpf(command::ENABLE_STATS, &mut kind).and_then(owned)
}

/// The head of bpf_attr for PROG_LOAD, up to the attach type.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// Whether a program at a socket hook may call a helper with the arguments context and 0: the kernel's verifier is
/// asked, by a program of four instructions that is never attached.
pub(in crate::datapath) fn helper_works(helper: u32, attach_type: u32, context: bool) -> bool {
    let move_zero = 0x0000_0000_0000_01b7_u64;
    let instructions: [u64; 4] = [
        // r1 is the context at entry; helpers that take a number are given 0 instead.
        if context {
            0x0000_0000_0000_02b7
        } else {
            move_zero
        },
        u64::from(helper) << 32 | 0x85,
        0x0000_0001_0000_00b7,
        0x95,
    ];
    loads(kind_of(attach_type), attach_type, &instructions)
}

/// Whether the kernel takes a program for a socket hook: one that lets every call go on, and is never attached.
pub(in crate::datapath) fn hook_works(attach_type: u32) -> bool {
    loads(
        kind_of(attach_type),
        attach_type,
        &[0x0000_0001_0000_00b7, 0x95],
    )
}

/// The type of the programs of a socket hook.
const fn kind_of(attach_type: u32) -> u32 {
    match attach_type {
        SOCK_RELEASE => CGROUP_SOCK,
        SOCK_OPS => SOCK_OPS_KIND,
        _ => CGROUP_SOCK_ADDR,
    }
}

fn loads(kind: u32, attach_type: u32, instructions: &[u64]) -> bool {
    load(PROBE, kind, attach_type, instructions).is_ok()
}

/// The low half of the kernel's count of timer ticks, by a classifier that is run once with an empty frame.
pub(in crate::datapath) fn jiffies() -> io::Result<u32> {
    const BPF_FUNC_JIFFIES64: u64 = 118;
    /// The head of bpf_attr for PROG_TEST_RUN, up to the duration.
    #[repr(C)]
    #[derive(Default)]
    struct RunAttributes {
        program: u32,
        returned: u32,
        input_length: u32,
        output_length: u32,
        input: u64,
        output: u64,
        repeat: u32,
        duration: u32,
    }
    let program = load(
        PROBE,
        SCHED_CLS,
        0,
        &[BPF_FUNC_JIFFIES64 << 32 | 0x85, 0x95],
    )?;
    let frame = [0_u8; 64];
    let mut attributes = RunAttributes {
        program: number(program.as_fd()),
        input_length: u32::try_from(frame.len()).map_err(io::Error::other)?,
        input: frame.as_ptr() as u64,
        ..Default::default()
    };
    bpf(command::PROG_TEST_RUN, &mut attributes)?;
    Ok(attributes.returned)
}

/// A classifier that lets every packet go on: TC_ACT_UNSPEC.
#[cfg(test)]
pub(in crate::datapath) fn accepting_classifier(name: &str) -> io::Result<OwnedFd> {
    load(name, SCHED_CLS, 0, &[0xffff_ffff_0000_00b7, 0x95])
}

/// Loads a program; of its name the kernel keeps 15 bytes.
fn load(name: &str, kind: u32, attach_type: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let mut attributes = LoadAttributes {
        kind,
        instruction_count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach_type,
        ..Default::default()
    };
    for (kept, byte) in attributes.name.iter_mut().take(15).zip(name.bytes()) {
        *kept = byte;
    }
    bpf(command::PROG_LOAD, &mut attributes).and_then(owned)
}

/// Before Linux 5.11 maps count against RLIMIT_MEMLOCK.
pub(in crate::datapath) fn raise_memlock() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the pointer is to an rlimit that is alive.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

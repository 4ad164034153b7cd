//! bpf_links at an interface's ingress and egress (Linux 6.6).

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use super::{LinkCreateAttributes, QueryAttributes, bpf, command, info, number, owned};

/// Programs and links beyond so many at one hook of one interface are not looked for: the kernel takes 64.
const MOST: usize = 64;

/// Attaches a program behind those that are there. An order is not asked for: each lets the next run.
pub(in crate::datapath) fn tcx_create(
    program: BorrowedFd<'_>,
    interface: u32,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreateAttributes {
        program: number(program),
        target: interface,
        attach_type,
        ..Default::default()
    };
    bpf(command::LINK_CREATE, &mut attributes).and_then(owned)
}

/// Detaches at once. Taking away the last pin does so too, some milliseconds later.
pub(in crate::datapath) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut link = number(link);
    bpf(command::LINK_DETACH, &mut link).map(drop)
}

/// The head of bpf_link_info, with what a tcx link has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::datapath) struct TcxInfo {
    pub(in crate::datapath) kind: u32,
    pub(in crate::datapath) id: u32,
    pub(in crate::datapath) program: u32,
    pad: u32,
    /// 0 when the interface is gone.
    pub(in crate::datapath) interface: u32,
    pub(in crate::datapath) attach_type: u32,
    pad2: u64,
}

/// What the kernel says of a tcx link.
pub(in crate::datapath) fn tcx_info(fd: BorrowedFd<'_>) -> io::Result<TcxInfo> {
    info(fd)
}

/// Something attached at a hook of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct AttachedHere {
    /// The program's id.
    pub(in crate::datapath) program: u32,
    /// The link's id; 0 for a program without link.
    pub(in crate::datapath) link: u32,
}

/// What is attached at a hook of an interface of this namespace, in the order in which it runs.
pub(in crate::datapath) fn tcx_query(
    interface: u32,
    attach_type: u32,
) -> io::Result<Vec<AttachedHere>> {
    let mut programs = [0_u32; MOST];
    let mut links = [0_u32; MOST];
    let mut attributes = QueryAttributes {
        target: interface,
        attach_type,
        ids: programs.as_mut_ptr() as u64,
        count: 64,
        // prog_attach_flags, link_ids, link_attach_flags, revision.
        rest: [0, links.as_mut_ptr() as u64, 0, 0],
        ..Default::default()
    };
    bpf(command::PROG_QUERY, &mut attributes)?;
    let both = programs.iter().zip(&links).take(attributes.count as usize);
    Ok(both
        .map(|(&program, &link)| AttachedHere { program, link })
        .collect())
}

/// Whether the kernel knows tcx: asked for a hook that it does not know, it says that the question is invalid.
pub(in crate::datapath) fn tcx_works() -> bool {
    const BPF_TCX_INGRESS: u32 = 46;
    let mut attributes = QueryAttributes {
        target: 1,
        attach_type: BPF_TCX_INGRESS,
        ..Default::default()
    };
    match bpf(command::PROG_QUERY, &mut attributes) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(libc::ENODEV),
    }
}

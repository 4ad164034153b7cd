//! Before Linux 6.6: bpf filters of a clsact qdisc, known by priority, handle and name. Replacing one is one message, so
//! that packets meet the old program or the new one. A qdisc that anybody else's filter hangs on is never taken away.

use std::{collections::BTreeMap, ffi::OsString, io, os::fd::AsRawFd};

use nix::{errno::Errno, net::if_::if_nameindex};

use mesh_common::Direction;

use super::{Done, Outcome, Programs, Target, TcError, TcHook, Wanted, named, program, targets};
use crate::netlink::{Request, Socket, attributes, flag, kind, read_u32};

/// Early, so that others' filters run after ours, which let every packet they accept go on.
const PRIORITY: u32 = 77;
/// "mesh" in ASCII.
const HANDLE: u32 = 0x6d65_7368;
const ETH_P_ALL: u16 = 3;
/// What the names of our filters begin with.
pub(super) const NAME: &str = "mesh-agent/";

/// Of tcmsg.
const BODY: usize = 20;
const QDISC_HANDLE: u32 = 0xffff_0000;
const TC_H_CLSACT: u32 = 0xffff_fff1;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
/// TCA_BPF_FLAG_ACT_DIRECT: what the program returns is the verdict.
const DIRECT: u32 = 1;

/// The class of clsact whose filters packets of this direction meet.
fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => 0xffff_fff2,
        Direction::Egress => 0xffff_fff3,
    }
}

pub(super) fn reconcile(wanted: &Wanted, programs: &Programs) -> Vec<Outcome> {
    let mut socket = match Socket::open() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "no netlink socket: programs at interfaces stay as they are");
            return Vec::new();
        }
    };
    let mut outcomes: Vec<Outcome> = targets(wanted)
        .filter_map(|target| target.outcome(attach(&mut socket, &target, programs)))
        .collect();
    let is_wanted = |found: &Found| {
        let wanted = wanted.get(&found.index).map(|(_, kind)| *kind);
        wanted == Some(found.hook.kind())
    };
    for found in ours(&mut socket).unwrap_or_default() {
        if !is_wanted(&found) {
            outcomes.push(found.removed(&mut socket, !wanted.contains_key(&found.index)));
        }
    }
    outcomes
}

pub(super) fn remove_all(dry_run: bool) -> io::Result<Vec<String>> {
    let mut socket = Socket::open()?;
    let mut removed = Vec::new();
    for found in ours(&mut socket)? {
        if !dry_run {
            found.remove(&mut socket)?;
            remove_qdisc_if_unused(&mut socket, found.index)?;
        }
        removed.push(format!("{} on {}", found.hook.name(), found.interface));
    }
    Ok(removed)
}

fn attach(
    socket: &mut Socket,
    target: &Target<'_>,
    programs: &Programs,
) -> Result<Done, (&'static str, io::Error)> {
    let place = (target.index, target.hook.direction());
    let before = filter_names(socket, place).map_err(|error| ("list filters for", error))?;
    make_qdisc(socket, target.index).map_err(|error| ("make a clsact qdisc for", error))?;
    let name = format!("{NAME}{}\0", target.hook.name());
    let program = program(programs, target.hook).map_err(|error| ("attach", error))?;
    let fd = program.as_raw_fd().to_ne_bytes();
    let request = Request::new(
        kind::NEWTFILTER,
        flag::ACK | flag::CREATE | flag::REPLACE,
        &filter_body(place),
    );
    let request = request
        .with(TCA_KIND, b"bpf\0")
        .with_nested(TCA_OPTIONS, |options| {
            options
                .with(TCA_BPF_FD, &fd)
                .with(TCA_BPF_NAME, name.as_bytes())
                .with(TCA_BPF_FLAGS, &DIRECT.to_ne_bytes())
        });
    socket.order(request).map_err(|error| ("attach", error))?;
    Ok(if before.iter().any(|name| hook_of(name).is_some()) {
        Done::Replaced
    } else {
        Done::Attached
    })
}

fn body(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [index, handle, parent, info] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    debug_assert_eq!(body.len(), BODY);
    body
}

fn filter_body((index, direction): (u32, Direction)) -> Vec<u8> {
    let info = PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
    body(index, HANDLE, parent(direction), info)
}

/// Makes the qdisc; that it is there is fine. An `ingress` qdisc in its place has no egress: the filter says so.
fn make_qdisc(socket: &mut Socket, index: u32) -> io::Result<()> {
    let request = Request::new(
        kind::NEWQDISC,
        flag::ACK | flag::CREATE | flag::EXCLUSIVE,
        &body(index, QDISC_HANDLE, TC_H_CLSACT, 0),
    );
    let made = socket.order(request.with(TCA_KIND, b"clsact\0"));
    made.or_else(|error| tolerate(error, &[Errno::EEXIST]))
}

fn tolerate(error: io::Error, fine: &[Errno]) -> io::Result<()> {
    let number = error.raw_os_error();
    let is_fine = fine.iter().any(|it| number == Some(*it as i32));
    if is_fine { Ok(()) } else { Err(error) }
}

/// A filter of ours.
struct Found {
    index: u32,
    interface: String,
    hook: TcHook,
}

impl Found {
    fn remove(&self, socket: &mut Socket) -> io::Result<()> {
        let body = filter_body((self.index, self.hook.direction()));
        let request = Request::new(kind::DELTFILTER, flag::ACK, &body);
        let removed = socket.order(request.with(TCA_KIND, b"bpf\0"));
        removed.or_else(|error| tolerate(error, &[Errno::ENOENT, Errno::ENODEV]))
    }

    fn removed(&self, socket: &mut Socket, with_qdisc: bool) -> Outcome {
        let mut removed = self.remove(socket);
        if with_qdisc {
            removed = removed.and_then(|()| remove_qdisc_if_unused(socket, self.index));
        }
        let result = removed.map(|()| Done::Removed).map_err(|source| TcError {
            what: "remove",
            hook: self.hook.name().to_owned(),
            interface: self.interface.clone(),
            source,
        });
        Outcome {
            index: self.index,
            hook: self.hook.name(),
            result,
        }
    }
}

/// Our filters at every interface that has a clsact qdisc.
fn ours(socket: &mut Socket) -> io::Result<Vec<Found>> {
    let names = interface_names()?;
    let mut found = Vec::new();
    for index in clsact_interfaces(socket)? {
        for direction in [Direction::Ingress, Direction::Egress] {
            for name in filter_names(socket, (index, direction))? {
                let interface = names.get(&index).cloned().unwrap_or_default();
                let hook = hook_of(&name).filter(|hook| hook.direction() == direction);
                found.extend(hook.map(|hook| Found {
                    index,
                    interface,
                    hook,
                }));
            }
        }
    }
    Ok(found)
}

fn hook_of(filter: &str) -> Option<TcHook> {
    named(filter.strip_prefix(NAME)?)
}

fn interface_names() -> io::Result<BTreeMap<u32, String>> {
    let all = if_nameindex()?;
    let name = |name: &std::ffi::CStr| {
        let name: OsString = std::os::unix::ffi::OsStringExt::from_vec(name.to_bytes().to_vec());
        name.to_string_lossy().into_owned()
    };
    Ok(all.iter().map(|it| (it.index(), name(it.name()))).collect())
}

fn clsact_interfaces(socket: &mut Socket) -> io::Result<Vec<u32>> {
    let request = Request::new(kind::GETQDISC, flag::DUMP, &[0; BODY]);
    let all = socket.dump(&request, kind::NEWQDISC)?;
    let clsact = all.iter().filter(|body| {
        let kind = attributes(body, BODY).text(TCA_KIND);
        kind.as_deref() == Some("clsact")
    });
    Ok(clsact.filter_map(|body| read_u32(body, 4)).collect())
}

/// Names of all filters at one side of an interface; other kinds than bpf have the name of their kind.
fn filter_names(
    socket: &mut Socket,
    (index, direction): (u32, Direction),
) -> io::Result<Vec<String>> {
    let body = body(index, 0, parent(direction), 0);
    let all = socket.dump(
        &Request::new(kind::GETTFILTER, flag::DUMP, &body),
        kind::NEWTFILTER,
    )?;
    let name = |body: &Vec<u8>| {
        // A chain's own entry has no handle and is no filter.
        read_u32(body, 8).filter(|handle| *handle != 0)?;
        let found = attributes(body, BODY);
        let named = found.nested(TCA_OPTIONS).text(TCA_BPF_NAME);
        let kind = found.text(TCA_KIND).unwrap_or_default();
        Some(named.filter(|_| kind == "bpf").unwrap_or(kind))
    };
    Ok(all.iter().filter_map(name).collect())
}

fn remove_qdisc_if_unused(socket: &mut Socket, index: u32) -> io::Result<()> {
    for direction in [Direction::Ingress, Direction::Egress] {
        if !filter_names(socket, (index, direction))?.is_empty() {
            return Ok(());
        }
    }
    let body = body(index, QDISC_HANDLE, TC_H_CLSACT, 0);
    let removed = socket.order(Request::new(kind::DELQDISC, flag::ACK, &body));
    removed.or_else(|error| tolerate(error, &[Errno::ENOENT, Errno::EINVAL, Errno::ENODEV]))
}

//! Tables, chains and jumps of nftables, and their change in one transaction. Chains of iptables-nft are among them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::socket::{MsgFlags, recv, send};

use super::{
    Request, Socket, attributes,
    conntrack::DESTINATION_REWRITTEN,
    flag, kind,
    message::{Attributes, messages, read_u32},
};
use crate::datapath::set_socket_option;

/// From uapi/linux/netfilter/nf_tables.h, in subsystem 10.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const DELETE_CHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const DELETE_RULE: u16 = SUBSYSTEM << 8 | 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// nfgenmsg: family, version, resource.
const BODY: usize = 4;
/// Attributes of a table, a chain and a rule. That of its table is the same for both of the latter.
const TABLE_NAME: u16 = 1;
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
/// Of expressions, and of those called ct and cmp; NFT_REG_1, NFT_CT_STATUS and NFT_CMP_EQ.
const EXPRESSION: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;
const CT_STATUS: u32 = 2;
const CMP_REGISTER: u16 = 1;
const CMP_OPERATION: u16 = 2;
const CMP_DATA: u16 = 3;
const CMP_EQUAL: u32 = 0;
const DATA_VALUE: u16 = 1;
const REGISTER: u32 = 1;

/// Of an expression, and of the one that is called immediate: where it says that the rule jumps, and to which chain.
const EXPRESSION_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;

/// Of a chain's hook.
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
/// NLA_F_NESTED.
const NESTED: u16 = 1 << 15;

/// NF_INET_POST_ROUTING, and a place behind everybody's rules there.
const POST_ROUTING: u32 = 4;
const AFTER_ALL: i32 = 300;
/// The chain of a table that is there to translate.
const TRANSLATING: &str = "translating";

const SOL_SOCKET: i32 = 1;
const SO_SNDBUFFORCE: i32 = 32;

/// How often a list is asked for that changes meanwhile.
const ATTEMPTS: u32 = 16;

/// A table: its family (2 is IPv4, 10 is IPv6) and its name.
pub(crate) type Table = (u8, String);

/// A rule that leads from one chain to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Jump {
    pub(crate) table: Table,
    pub(crate) chain: String,
    pub(crate) to: String,
    handle: Vec<u8>,
}

/// What is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A table is made, with one chain of the type that makes the kernel translate, and in it a rule that does nothing.
    AddTranslating(Table),
    /// A table goes with all that is in it.
    RemoveTable(Table),
    /// One rule goes.
    RemoveJump(Jump),
    /// The rules of a chain go.
    RemoveRules(Table, String),
    /// A chain goes that is empty and that nothing leads to.
    RemoveChain(Table, String),
}

/// Every table. None if the kernel has no nftables.
pub(crate) fn tables() -> io::Result<Option<Vec<Table>>> {
    list(GET_TABLE, NEW_TABLE, |family, table| {
        Some((family, table.text(TABLE_NAME)?))
    })
}

/// The chains with names that are of interest.
pub(crate) fn chains(is_wanted: fn(&str) -> bool) -> io::Result<Vec<(Table, String)>> {
    let found = list(GET_CHAIN, NEW_CHAIN, |family, chain| {
        let name = chain.text(CHAIN_NAME).filter(|name| is_wanted(name))?;
        Some(((family, chain.text(TABLE)?), name))
    });
    Ok(found?.unwrap_or_default())
}

/// The rules that lead to chains with such names from others.
pub(crate) fn jumps(is_wanted: fn(&str) -> bool) -> io::Result<Vec<Jump>> {
    let found = list(GET_RULE, NEW_RULE, |family, rule| {
        let chain = rule.text(RULE_CHAIN).filter(|name| !is_wanted(name))?;
        let expressions = rule.nested(RULE_EXPRESSIONS);
        let to = expressions.filter_map(|(_, expression)| target(expression));
        Some(Jump {
            to: to.into_iter().find(|name| is_wanted(name))?,
            table: (family, rule.text(TABLE)?),
            chain,
            handle: rule.get(RULE_HANDLE)?.to_vec(),
        })
    });
    Ok(found?.unwrap_or_default())
}

/// The chain that an expression jumps to.
fn target(expression: &[u8]) -> Option<String> {
    let data = attributes(expression, 0).nested(EXPRESSION_DATA);
    data.nested(IMMEDIATE_DATA)
        .nested(VERDICT)
        .text(VERDICT_CHAIN)
}

/// None if the kernel has no nftables.
fn list<T>(
    request: u16,
    wanted: u16,
    read: impl Fn(u8, Attributes<'_>) -> Option<T>,
) -> io::Result<Option<Vec<T>>> {
    for _ in 0..ATTEMPTS {
        let mut found = Vec::new();
        let request = Request::new(request, flag::DUMP, &[0; BODY]);
        let asked = Socket::netfilter().and_then(|mut socket| {
            socket.each(request, wanted, |body| {
                let family = body.first().copied().unwrap_or_default();
                found.extend(read(family, attributes(body, BODY)));
            })
        });
        match asked {
            Ok(interrupted) if interrupted => {}
            Ok(_) => return Ok(Some(found)),
            Err(error) if is_without(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(
        "nftables changed at each of 16 attempts to read it",
    ))
}

fn is_without(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)
    )
}

/// Does all of it in this order, or nothing.
pub(crate) fn apply(changes: &[Change]) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let (bytes, last) = batch(changes);
    let socket = Socket::netfilter()?;
    // The kernel counts what belongs to a message too.
    let size = i32::try_from(bytes.len() * 2).map_err(io::Error::other)?;
    set_socket_option(socket.as_fd(), SOL_SOCKET, SO_SNDBUFFORCE, size)?;
    let fd = socket.as_fd().as_raw_fd();
    send(fd, &bytes, MsgFlags::empty())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = recv(fd, &mut buffer, MsgFlags::empty())?;
        for answer in messages(&buffer[..length]).filter(|it| it.kind == kind::ERROR) {
            match read_u32(answer.body, 0).unwrap_or_default().cast_signed() {
                0 if answer.sequence == last => return Ok(()),
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error.saturating_neg())),
            }
        }
    }
}

/// The transaction, and the number of the message that is acknowledged: the last one, since kernels before 6.10 say nothing
/// of the end.
fn batch(changes: &[Change]) -> (Vec<u8>, u32) {
    // The resource, in network order, is the subsystem.
    let frame = |kind| Request::new(kind, 0, &[0, 0, 0, SUBSYSTEM.to_be_bytes()[1]]);
    let mut bytes = frame(BATCH_BEGIN).finish(0);
    let mut sequence = 0;
    let mut requests: Vec<Request> = changes.iter().flat_map(Change::requests).collect();
    let end = requests.pop().map(Request::acknowledged);
    requests.extend(end);
    for request in requests {
        sequence += 1;
        bytes.extend(request.finish(sequence));
    }
    bytes.extend(frame(BATCH_END).finish(sequence + 1));
    (bytes, sequence)
}

impl Change {
    fn requests(&self) -> Vec<Request> {
        let of = |kind, flags, (family, table): &Table| {
            Request::new(kind, flags, &[*family, 0, 0, 0]).with(TABLE, &text(table))
        };
        match self {
            Self::AddTranslating(table) => {
                let chain = of(NEW_CHAIN, flag::CREATE, table).with(CHAIN_NAME, &text(TRANSLATING));
                let chain = chain.with_nested(CHAIN_HOOK | NESTED, |hook| {
                    let hook = hook.with(HOOK_NUMBER, &POST_ROUTING.to_be_bytes());
                    hook.with(HOOK_PRIORITY, &AFTER_ALL.to_be_bytes())
                });
                let rule = of(NEW_RULE, flag::CREATE | flag::APPEND, table);
                let rule = rule.with(RULE_CHAIN, &text(TRANSLATING));
                vec![
                    of(NEW_TABLE, flag::CREATE, table),
                    chain.with(CHAIN_TYPE, &text("nat")),
                    rule.with_nested(RULE_EXPRESSIONS | NESTED, is_translated),
                ]
            }
            Self::RemoveTable(table) => vec![of(DELETE_TABLE, 0, table)],
            Self::RemoveJump(jump) => {
                let rule = of(DELETE_RULE, 0, &jump.table).with(RULE_CHAIN, &text(&jump.chain));
                vec![rule.with(RULE_HANDLE, &jump.handle)]
            }
            Self::RemoveRules(table, chain) => {
                vec![of(DELETE_RULE, 0, table).with(RULE_CHAIN, &text(chain))]
            }
            Self::RemoveChain(table, chain) => {
                vec![of(DELETE_CHAIN, 0, table).with(CHAIN_NAME, &text(chain))]
            }
        }
    }
}

/// The expressions of `ct status dnat`, of a rule that does nothing: connections are tracked as long as a rule asks.
fn is_translated(rule: Request) -> Request {
    let number = |number: u32| number.to_be_bytes();
    rule.with_nested(EXPRESSION | NESTED, |it| {
        it.with(EXPRESSION_NAME, &text("ct"))
            .with_nested(EXPRESSION_DATA | NESTED, |ct| {
                ct.with(CT_REGISTER, &number(REGISTER))
                    .with(CT_KEY, &number(CT_STATUS))
            })
    })
    .with_nested(EXPRESSION | NESTED, |it| {
        it.with(EXPRESSION_NAME, &text("cmp"))
            .with_nested(EXPRESSION_DATA | NESTED, |cmp| {
                cmp.with(CMP_REGISTER, &number(REGISTER))
                    .with(CMP_OPERATION, &number(CMP_EQUAL))
                    .with_nested(CMP_DATA | NESTED, |data| {
                        data.with(DATA_VALUE, &DESTINATION_REWRITTEN.to_ne_bytes())
                    })
            })
    })
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

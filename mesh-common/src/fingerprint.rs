//! One number that stands for every layout, version, reason and counter: `schema.lock` carries it, and the agent does
//! not compile when the two differ.

use crate::{COUNTERS, Counter, MAPS, MapSpec, Reason, plain::Layout};

/// The fingerprint of everything that kernel and agent agree on (FNV-1a, 64 bits).
#[must_use]
pub const fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut index = 0;
    while index < MAPS.len() {
        hash = map(hash, &MAPS[index]);
        index += 1;
    }
    index = 0;
    while index < Reason::ALL.len() {
        hash = number(
            text(hash, Reason::ALL[index].name()),
            Reason::ALL[index] as u64,
        );
        index += 1;
    }
    index = 0;
    while index < Counter::ALL.len() {
        hash = number(
            text(hash, Counter::ALL[index].name()),
            Counter::ALL[index].index() as u64,
        );
        index += 1;
    }
    number(hash, COUNTERS as u64)
}

const fn map(hash: u64, map: &MapSpec) -> u64 {
    let hash = number(text(hash, map.name), map.version as u64);
    let hash = number(number(hash, map.kind as u64), map.shape as u64);
    layout(layout(hash, &map.key), &map.value)
}

const fn layout(hash: u64, layout: &Layout) -> u64 {
    let mut hash = number(
        number(text(hash, layout.name), layout.size as u64),
        layout.align as u64,
    );
    let mut index = 0;
    while index < layout.fields.len() {
        let (name, offset, size) = layout.fields[index];
        hash = number(number(text(hash, name), offset as u64), size as u64);
        index += 1;
    }
    hash
}

/// The length comes first, or `ab`, `c` and `a`, `bc` would be the same.
const fn text(hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = number(hash, bytes.len() as u64);
    let mut index = 0;
    while index < bytes.len() {
        hash = byte(hash, bytes[index]);
        index += 1;
    }
    hash
}

const fn number(mut hash: u64, number: u64) -> u64 {
    let bytes = number.to_le_bytes();
    let mut index = 0;
    while index < bytes.len() {
        hash = byte(hash, bytes[index]);
        index += 1;
    }
    hash
}

const fn byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

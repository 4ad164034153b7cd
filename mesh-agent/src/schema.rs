//! Refuses to compile when a layout that kernel and agent share is not the one in mesh-common/schema.lock.

/// What was committed; its first line is `fingerprint` and sixteen hexadecimal digits.
const LOCK: &[u8] = include_bytes!("../../mesh-common/schema.lock");

const _: () = assert!(
    locked() == mesh_common::fingerprint(),
    "a layout differs from mesh-common/schema.lock: raise the map's version, then run `cargo xtask schema`"
);

/// The fingerprint in the lock file; 0 when it has none.
const fn locked() -> u64 {
    const LABEL: &[u8] = b"fingerprint ";
    let mut value = 0;
    let mut index = 0;
    while index < LABEL.len() + 16 {
        if index >= LOCK.len() || (index < LABEL.len() && LOCK[index] != LABEL[index]) {
            return 0;
        }
        if index >= LABEL.len() {
            value = value << 4 | digit(LOCK[index]);
        }
        index += 1;
    }
    value
}

const fn digit(character: u8) -> u64 {
    match character {
        b'0'..=b'9' => (character - b'0') as u64,
        b'a'..=b'f' => (character - b'a' + 10) as u64,
        _ => 0,
    }
}

//! The one layer: the binary and the directories that a container runtime mounts on, as a compressed tar. Nothing of
//! the machine that made it is in it: names in order, owner 0, one time.

use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// A root file system without these could not be mounted read-only by every runtime.
const DIRECTORIES: [&str; 6] = ["dev/", "etc/", "proc/", "run/", "sys/", "tmp/"];

/// The layer.
pub(super) struct Layer {
    /// As it is stored.
    pub(super) compressed: Vec<u8>,
    /// The digest of the tar in it: what the image's configuration names.
    pub(super) diff_id: String,
}

/// Makes the layer, with the binary under a name at the root.
pub(super) fn layer(name: &str, binary: &[u8], time: u64) -> Result<Layer> {
    let mut tar = tar::Builder::new(Vec::new());
    for directory in DIRECTORIES {
        append(&mut tar, directory, EntryType::Directory, 0o755, &[], time)?;
    }
    append(&mut tar, name, EntryType::Regular, 0o755, binary, time)?;
    let tar = tar.into_inner()?;
    // No file name and no time in gzip's header.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(&tar)?;
    Ok(Layer {
        compressed: gzip.finish()?,
        diff_id: digest(&tar),
    })
}

/// Appends one entry that depends on nothing but the arguments.
pub(crate) fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: EntryType,
    mode: u32,
    bytes: &[u8],
    time: u64,
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header.set_size(bytes.len() as u64);
    Ok(tar.append_data(&mut header, name, bytes)?)
}

/// As OCI writes one.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_sha256sum_prints() {
        assert_eq!(
            digest(b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}

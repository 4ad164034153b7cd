//! The archive: an OCI layout in a tar, with Docker's list beside it. Pure: the same layer and documents give the same
//! bytes.

use anyhow::Result;
use tar::EntryType;

use super::{
    layer::{Layer, append, digest},
    oci::{Documents, place},
};

/// Packs an image.
pub(super) fn archive(layer: &Layer, documents: &Documents, time: u64) -> Result<Vec<u8>> {
    let layer_place = place(&digest(&layer.compressed));
    let config_place = place(&documents.config.digest);
    let manifest_place = place(&documents.manifest.digest);
    let mut files: Vec<(&str, &[u8])> = vec![
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", &documents.index),
        ("manifest.json", &documents.docker),
        (&layer_place, &layer.compressed),
        (&config_place, &documents.config.bytes),
        (&manifest_place, &documents.manifest.bytes),
    ];
    files.sort();
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["blobs/", "blobs/sha256/"] {
        append(&mut tar, directory, EntryType::Directory, 0o755, &[], time)?;
    }
    for (name, bytes) in files {
        append(&mut tar, name, EntryType::Regular, 0o644, bytes, time)?;
    }
    Ok(tar.into_inner()?)
}

#[cfg(test)]
mod tests;

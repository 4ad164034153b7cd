//! The image's documents: configuration, manifest, index, and the list that `docker load` reads. Pure.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Arch, Program,
    layer::{Layer, digest},
};

pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A document that is stored under its digest.
pub(super) struct Blob {
    /// What names it.
    pub(super) digest: String,
    /// What it says.
    pub(super) bytes: Vec<u8>,
}

/// All documents of an image.
pub(super) struct Documents {
    /// How the image runs.
    pub(super) config: Blob,
    /// What it is made of; its digest is the image's.
    pub(super) manifest: Blob,
    /// `index.json`.
    pub(super) index: Vec<u8>,
    /// `manifest.json`, for `docker load`.
    pub(super) docker: Vec<u8>,
}

/// Where a blob is in the archive.
pub(super) fn place(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Makes them.
pub(super) fn documents(
    layer: &Layer,
    arch: Arch,
    program: &Program,
    time: u64,
) -> Result<Documents> {
    let created = rfc3339(time)?;
    let config = blob(&config(layer, arch, program, &created))?;
    let layer_digest = digest(&layer.compressed);
    let manifest = blob(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.bytes.len()},
        "layers": [{"mediaType": LAYER, "digest": layer_digest, "size": layer.compressed.len()}],
    }))?;
    let (name, tag) = (program.image(), &program.tag);
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            "mediaType": MANIFEST,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
            "platform": {"architecture": arch.name(), "os": "linux"},
            // containerd takes the name from the first; the second is the specification's, which holds a tag alone.
            "annotations": {
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": tag,
            },
        }],
    }))?;
    let docker = serde_json::to_vec(&json!([{
        "Config": place(&config.digest),
        "RepoTags": [name],
        "Layers": [place(&layer_digest)],
    }]))?;
    Ok(Documents {
        config,
        manifest,
        index,
        docker,
    })
}

fn config(layer: &Layer, arch: Arch, program: &Program, created: &str) -> Value {
    json!({
        "architecture": arch.name(),
        "os": "linux",
        "created": created,
        "config": {
            "User": "0:0",
            "Entrypoint": [format!("/{}", program.name)],
            "Cmd": program.command,
            "Env": ["PATH=/"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": program.name,
                "org.opencontainers.image.description": program.description,
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.version": program.tag,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created": created, "created_by": "cargo xtask image"}],
    })
}

fn blob(document: &Value) -> Result<Blob> {
    let bytes = serde_json::to_vec(document)?;
    Ok(Blob {
        digest: digest(&bytes),
        bytes,
    })
}

fn rfc3339(seconds: u64) -> Result<String> {
    let second = i64::try_from(seconds)?;
    let time = jiff::Timestamp::from_second(second)
        .with_context(|| format!("{seconds} seconds since 1970 is no time that can be written"))?;
    Ok(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_specification_wants_them() {
        assert_eq!(rfc3339(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_792_575_448).unwrap(), "2026-10-21T09:37:28Z");
        assert!(rfc3339(u64::MAX).is_err());
    }
}

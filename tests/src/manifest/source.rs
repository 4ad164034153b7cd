//! The directory of manifests: files are written whole or not at all, as a careful tool would.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A directory that agents read.
#[derive(Clone, Debug)]
pub struct Source {
    directory: PathBuf,
}

impl Source {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Writes a List.
    pub fn write(&self, file: &str, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.write_raw(file, serde_json::to_string_pretty(&list)?.as_bytes())
    }

    /// Writes one YAML document an object.
    pub fn write_yaml(&self, file: &str, objects: &[Value]) -> Result<()> {
        let mut text = String::new();
        for object in objects {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(object)?);
        }
        self.write_raw(file, text.as_bytes())
    }

    /// Writes any bytes: beside the file first, under a name that is no manifest's, then moved into place.
    pub fn write_raw(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.directory.join(file);
        let partial = self.directory.join(format!(".{file}.partial"));
        fs::write(&partial, bytes)
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) -> Result<()> {
        let path = self.directory.join(file);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

//! Where agents get their objects from: a directory of manifests, or a real API server. Tests write the same "files" to
//! either.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::control_plane::Client;

/// A directory that agents read, or an API server that they watch.
#[derive(Clone, Debug)]
pub struct Source {
    directory: PathBuf,
    api: Option<Arc<Api>>,
}

/// An API server, and which objects each file stands for.
#[derive(Debug)]
struct Api {
    client: Client,
    files: Mutex<BTreeMap<String, Vec<Value>>>,
}

impl Source {
    pub(crate) const fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            api: None,
        }
    }

    /// Objects go to an API server instead.
    pub(crate) fn api(directory: PathBuf, client: Client) -> Self {
        let files = Mutex::default();
        Self {
            directory,
            api: Some(Arc::new(Api { client, files })),
        }
    }

    /// Where the files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Writes a List: files are written whole or not at all, as a careful tool would.
    pub fn write(&self, file: &str, objects: &[Value]) -> Result<()> {
        if let Some(api) = &self.api {
            return api.write(file, objects);
        }
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
        if self.api.is_some() {
            bail!("an API server takes objects, not the bytes of {file}");
        }
        let path = self.directory.join(file);
        let partial = self.directory.join(format!(".{file}.partial"));
        fs::write(&partial, bytes)
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) -> Result<()> {
        if let Some(api) = &self.api {
            return api.write(file, &[]);
        }
        let path = self.directory.join(file);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

impl Api {
    /// Applies what the file has now and deletes what it had before.
    fn write(&self, file: &str, objects: &[Value]) -> Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        self.client.apply_all(objects)?;
        let old = files.insert(file.to_owned(), objects.to_vec());
        let mut gone = old.unwrap_or_default();
        gone.retain(|old| !objects.iter().any(|new| same(old, new)));
        self.client.delete_all(&gone)
    }
}

/// Whether two manifests speak of one object.
fn same(one: &Value, other: &Value) -> bool {
    ["/kind", "/metadata/namespace", "/metadata/name"]
        .iter()
        .all(|field| one.pointer(field) == other.pointer(field))
}

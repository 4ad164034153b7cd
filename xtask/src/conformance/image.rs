//! The images that the tests put into Pods, as one archive: one layer with all programs, and one image of it under each
//! name that the tests ask for. Names and programs in, the archive's path out.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::programs::CERTIFICATE;
use crate::{
    image::{Arch, CONFIG, MANIFEST, append, digest},
    place,
};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What Debian's packages have no place for.
const DIRECTORIES: [&str; 1] = ["uploads/"];
const PROGRAMS: [&str; 2] = ["agnhost", "regression-issue-74839"];
/// Tests of Pods' own resolvers start it from agnhost's image.
const DNS: &str = "coredns";
const TEXTS: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

/// Writes the archive.
pub(super) fn archive(
    programs: &Path,
    dns: &Path,
    tools: &Path,
    names: &[String],
) -> Result<PathBuf> {
    let directory = place::target().join("conformance");
    let path = directory.join("images.tar");
    let bytes = pack(&layer(programs, dns, tools)?, &wanted(names))?;
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&path, bytes))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// What a container of an image starts, and its arguments unless it is given others.
type Start = (&'static [&'static str], &'static [&'static str]);

/// The images that tests of networks use, of all that are named.
fn wanted(names: &[String]) -> Vec<(&str, Start)> {
    let public = names.iter().filter(|name| !name.contains("authenticated"));
    public
        .filter_map(|name| Some((name.as_str(), start(name)?)))
        .collect()
}

fn start(name: &str) -> Option<Start> {
    let name = name.rsplit('/').next()?.split(':').next()?;
    match name {
        "agnhost" => Some((&["/agnhost"], &["pause"])),
        "pause" => Some((&["/agnhost", "pause"], &[])),
        "regression-issue-74839" => Some((&["/regression-issue-74839"], &[])),
        "busybox" | "distroless-iptables" | "glibc-dns-testing" => Some((&[], &["sh"])),
        _ => None,
    }
}

fn layer(programs: &Path, dns: &Path, tools: &Path) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for directory in DIRECTORIES {
        append(&mut tar, directory, EntryType::Directory, 0o755, &[], 0)?;
    }
    copy(&mut tar, tools, Path::new(""))?;
    for (name, text) in TEXTS {
        append(
            &mut tar,
            name,
            EntryType::Regular,
            0o644,
            text.as_bytes(),
            0,
        )?;
    }
    for (names, mode) in [(PROGRAMS, 0o755), (CERTIFICATE, 0o644)] {
        for name in names {
            let bytes = fs::read(programs.join(name)).with_context(|| name.to_owned())?;
            append(&mut tar, name, EntryType::Regular, mode, &bytes, 0)?;
        }
    }
    let bytes = fs::read(dns).with_context(|| dns.display().to_string())?;
    append(&mut tar, DNS, EntryType::Regular, 0o755, &bytes, 0)?;
    // Newer agnhosts have a second name.
    link(&mut tar, Path::new("agnhost-2"), Path::new("agnhost"))?;
    Ok(tar.into_inner()?)
}

/// Everything below a directory of the tree, in order.
fn copy(tar: &mut Builder<Vec<u8>>, root: &Path, below: &Path) -> Result<()> {
    let directory = root.join(below);
    let mut names: Vec<_> = fs::read_dir(&directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    names.sort();
    for name in names {
        let path = below.join(name);
        let from = root.join(&path);
        let metadata = from.symlink_metadata()?;
        if metadata.is_symlink() {
            link(tar, &path, &fs::read_link(&from)?)?;
            continue;
        }
        let name = path.to_str().context("a name of Debian's is no text")?;
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            let name = format!("{name}/");
            append(tar, &name, EntryType::Directory, mode, &[], 0)?;
            copy(tar, root, &path)?;
        } else {
            append(tar, name, EntryType::Regular, mode, &fs::read(&from)?, 0)?;
        }
    }
    Ok(())
}

fn link(tar: &mut Builder<Vec<u8>>, path: &Path, to: &Path) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    Ok(tar.append_link(&mut header, path, to)?)
}

/// An OCI archive.
fn pack(layer: &[u8], images: &[(&str, Start)]) -> Result<Vec<u8>> {
    let mut archive = Archive(Builder::new(Vec::new()));
    let mut index = Vec::new();
    let layer = archive.blob(LAYER, layer)?;
    for (name, start) in images {
        let config = serde_json::to_vec(&config(&layer, *start))?;
        let config = archive.blob(CONFIG, &config)?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let mut entry = archive.blob(MANIFEST, &serde_json::to_vec(&manifest)?)?;
        entry["annotations"] = json!({"io.containerd.image.name": name});
        index.push(entry);
    }
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": index}))?;
    archive.file("index.json", &index)?;
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(archive.0.into_inner()?)
}

fn config(layer: &Value, (entrypoint, command): Start) -> Value {
    json!({
        "architecture": Arch::of_the_host().name(),
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Cmd": command, "Env": [PATH]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    })
}

struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        append(&mut self.0, name, EntryType::Regular, 0o644, bytes, 0)
    }

    /// Stores it and gives the words that lead to it. The same one twice does no harm.
    fn blob(&mut self, kind: &str, bytes: &[u8]) -> Result<Value> {
        let digest = digest(bytes);
        self.file(&format!("blobs/{}", digest.replace(':', "/")), bytes)?;
        Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_those_that_can_be_made() {
        let names = [
            "r.example/tests/agnhost:2.55",
            "r.example/nginx:1",
            "r.example/authenticated/agnhost:2",
        ];
        let names = names.map(str::to_owned);
        let wanted = wanted(&names);
        assert_eq!(wanted.len(), 1);
        assert_eq!(wanted[0].1.0, ["/agnhost"]);
    }

    #[test]
    fn an_archive_has_an_index_that_names_images() {
        let bytes = pack(b"layer", &[("r.example/agnhost:1", (&["/agnhost"], &[]))]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|it| it.unwrap().path().unwrap().into_owned())
            .collect();
        assert!(names.contains(&PathBuf::from("index.json")));
        assert_eq!(names.len(), 5);
    }
}

//! An archive is read back as a container engine reads it: from the index by digests to the binary.

use std::{collections::BTreeMap, io::Read};

use serde_json::Value;

use super::*;
use crate::image::{Arch, Program, layer::layer, oci::documents};

const TIME: u64 = 1_700_000_000;

fn image(binary: &[u8], arch: Arch, time: u64) -> Vec<u8> {
    let program = Program::agent("v1.2.3".to_owned());
    let layer = layer(program.name, binary, time).unwrap();
    let documents = documents(&layer, arch, &program, time).unwrap();
    archive(&layer, &documents, time).unwrap()
}

/// The regular files of a tar; each entry must be owned by root and of the one time.
fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().uid().unwrap(), 0);
        assert_eq!(entry.header().mtime().unwrap(), TIME);
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if entry.header().entry_type().is_file() {
            assert!(files.insert(name, bytes).is_none());
        }
    }
    files
}

fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let name = descriptor["digest"].as_str().unwrap();
    let bytes = &files[&place(name)];
    assert_eq!(digest(bytes), name);
    assert_eq!(bytes.len(), descriptor["size"].as_u64().unwrap() as usize);
    bytes
}

#[test]
fn two_archives_of_one_binary_are_equal() {
    let one = image(b"binary", Arch::Amd64, TIME);
    assert_eq!(one, image(b"binary", Arch::Amd64, TIME));
    assert_ne!(one, image(b"binarz", Arch::Amd64, TIME));
    assert_ne!(one, image(b"binary", Arch::Arm64, TIME));
}

#[test]
fn the_binary_is_found_from_the_index_by_digests() {
    let files = files(&image(b"binary", Arch::Arm64, TIME));
    assert_eq!(
        files["oci-layout"],
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()
    );
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        "mesh-agent.io/mesh-agent:v1.2.3"
    );
    assert_eq!(entry["platform"]["architecture"], "arm64");
    let manifest: Value = serde_json::from_slice(blob(&files, entry)).unwrap();
    let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();
    assert_eq!(config["config"]["Entrypoint"][0], "/mesh-agent");
    assert_eq!(config["config"]["Cmd"][0], "run");
    let layer = blob(&files, &manifest["layers"][0]);
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(layer)
        .read_to_end(&mut tar)
        .unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tar));
    let content = self::files(&tar);
    assert_eq!(content.len(), 1, "one file and no shell");
    assert_eq!(content["mesh-agent"], b"binary");
}

#[test]
fn dockers_list_names_the_same_blobs() {
    let files = files(&image(b"binary", Arch::Amd64, TIME));
    let list: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(list[0]["RepoTags"][0], "mesh-agent.io/mesh-agent:v1.2.3");
    assert!(files.contains_key(list[0]["Config"].as_str().unwrap()));
    assert!(files.contains_key(list[0]["Layers"][0].as_str().unwrap()));
    assert_eq!(files.len(), 6);
}

//! The manifests against what they are for: exactly these permissions, capabilities and mounts, this tree's version,
//! memory by the maps.

mod chart;

use std::collections::BTreeSet;

use super::*;

fn objects() -> Vec<Value> {
    tools::objects(&read("install.yaml").unwrap()).unwrap()
}

fn object(kind: &str) -> Value {
    let mut objects = objects();
    objects.retain(|object| object["kind"] == kind);
    assert_eq!(objects.len(), 1, "one {kind}");
    objects.remove(0)
}

fn words(value: &Value) -> BTreeSet<&str> {
    let values = value.as_array().unwrap();
    values.iter().map(|value| value.as_str().unwrap()).collect()
}

#[test]
fn everything_that_is_generated_is_up_to_date() {
    for (path, text) in generated().unwrap() {
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(committed, text, "run `cargo xtask manifests`");
    }
}

#[test]
fn the_install_file_is_the_base() {
    let mut base = Vec::new();
    for entry in std::fs::read_dir(directory().join("base")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        base.extend(tools::objects(&text).unwrap());
    }
    base.retain(|object| object["kind"] != "Kustomization");
    base.sort_by_cached_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
    assert_eq!(base, objects());
}

#[test]
fn the_agent_may_read_what_it_watches_and_write_events_and_nothing_else() {
    let mut granted = BTreeSet::new();
    let role = object("ClusterRole");
    for rule in role["rules"].as_array().unwrap() {
        let keys = rule.as_object().unwrap().keys();
        assert!(
            keys.into_iter()
                .all(|key| ["apiGroups", "resources", "verbs"].contains(&&**key))
        );
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    granted.insert(format!("{verb} {resource}.{group}"));
                }
            }
        }
    }
    let mut expected = BTreeSet::new();
    let watched = [
        "services.",
        "nodes.",
        "pods.",
        "endpointslices.discovery.k8s.io",
    ];
    for resource in watched {
        expected.extend(["get", "list", "watch"].map(|verb| format!("{verb} {resource}")));
    }
    for resource in ["events.", "events.events.k8s.io"] {
        expected.extend(["create", "patch"].map(|verb| format!("{verb} {resource}")));
    }
    assert_eq!(granted, expected);
    assert!(objects().iter().all(|object| object["kind"] != "Role"));
    let binding = object("ClusterRoleBinding");
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"].as_array().unwrap().len(), 1);
}

#[test]
fn the_container_has_five_capabilities_and_is_not_privileged() {
    let set = object("DaemonSet");
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(words(&security["capabilities"]["drop"]), ["ALL"].into());
    assert_eq!(
        words(&security["capabilities"]["add"]),
        ["BPF", "NET_ADMIN", "NET_BROADCAST", "PERFMON", "SYS_ADMIN"].into()
    );
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert!(security.get("privileged").is_none());
}

#[test]
fn mounts_and_volumes_belong_together() {
    for text in ["install.yaml", "uninstall.yaml"].map(|name| read(name).unwrap()) {
        for set in tools::objects(&text).unwrap() {
            if set["kind"] != "DaemonSet" {
                continue;
            }
            let pod = &set["spec"]["template"]["spec"];
            let names = |list: &Value| -> BTreeSet<String> {
                let items = list.as_array().into_iter().flatten();
                items
                    .map(|item| item["name"].as_str().unwrap().to_owned())
                    .collect()
            };
            let mut mounted = names(&pod["containers"][0]["volumeMounts"]);
            mounted.extend(names(&pod["initContainers"][0]["volumeMounts"]));
            assert_eq!(mounted, names(&pod["volumes"]));
        }
    }
}

#[test]
fn images_are_this_trees() {
    let image = format!("{}:{}", image::REPOSITORY, image::tag());
    for name in ["install.yaml", "uninstall.yaml"] {
        let text = read(name).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.contains("image:"))
            .collect();
        assert!(!lines.is_empty());
        for line in lines {
            assert!(line.ends_with(&image), "{name}: {line}");
        }
    }
}

#[test]
fn memory_follows_the_maps() {
    let set = object("DaemonSet");
    let resources = &set["spec"]["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(
        resources["requests"]["memory"],
        format!("{}Mi", memory::request())
    );
    assert_eq!(
        resources["limits"]["memory"],
        format!("{}Mi", memory::limit())
    );
}

#[test]
fn versions_are_written_where_they_stand() {
    let text = "- image: mesh-agent.io/mesh-agent:v0.0.0\n  version: 9\n  imagePullPolicy: x\n";
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "- image: mesh-agent.io/mesh-agent:v{version}\n  version: {version}\n  imagePullPolicy: x\n"
    );
    assert_eq!(versioned(text), expected);
}

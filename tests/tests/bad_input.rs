//! Bad manifests: one clear line each, a metric, and nothing else changes.

use std::{fs, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Condition, Families, Needs, Port, Scene, Service, ensure_clean, eventually,
    test,
};
use serde_json::{Value, json};

/// A bad file and what its line must name.
struct Case {
    file: &'static str,
    bytes: Vec<u8>,
    names: &'static [&'static str],
}

impl Case {
    fn json(file: &'static str, object: &Value, names: &'static [&'static str]) -> Self {
        Self {
            file,
            bytes: object.to_string().into_bytes(),
            names,
        }
    }

    fn text(file: &'static str, text: &str, names: &'static [&'static str]) -> Self {
        Self {
            file,
            bytes: text.into(),
            names,
        }
    }
}

fn service() -> Result<Value> {
    let ports = [Port::tcp("http", 80, 8080)];
    Ok(Service::new("bad", &["10.96.9.9".parse()?], &ports).json())
}

fn with(path: &str, value: Value) -> Result<Value> {
    let mut object = service()?;
    let place = object.pointer_mut(path);
    *place.with_context(|| format!("{path} is not there"))? = value;
    Ok(object)
}

fn bad_objects() -> Result<Vec<Case>> {
    let mut unknown = service()?;
    unknown["spec"]["clusterIPz"] = json!("10.96.9.9");
    let ports: Vec<Value> = (1..=10_000)
        .map(|port| json!({"name": format!("p{port}"), "port": port, "protocol": "TCP"}))
        .collect();
    let twice = json!([{"name": "a", "port": 80}, {"name": "a", "port": 81}]);
    let same = json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}]);
    Ok(vec![
        Case::json("unknown.json", &unknown, &["default/bad", "clusterIPz"]),
        Case::json(
            "type.json",
            &with("/spec/ports/0/port", json!("eighty"))?,
            &["default/bad", "spec.ports[0].port"],
        ),
        Case::json(
            "range.json",
            &with("/spec/ports/0/port", json!(70_000))?,
            &["default/bad", "spec.ports[0].port"],
        ),
        Case::json(
            "address.json",
            &with("/spec/clusterIPs", json!(["10.96.9.999"]))?,
            &["default/bad", "spec.clusterIP", "10.96.9.999"],
        ),
        Case::json(
            "port-name.json",
            &with("/spec/ports", twice)?,
            &["default/bad", "spec.ports"],
        ),
        Case::json(
            "port-number.json",
            &with("/spec/ports", same)?,
            &["default/bad", "spec.ports"],
        ),
        Case::json(
            "ports.json",
            &with("/spec/ports", json!(ports))?,
            &["default/bad", "spec.ports"],
        ),
        Case::json(
            "name.json",
            &with("/metadata/name", json!("not a name\u{1b}[31m"))?,
            &["metadata.name"],
        ),
    ])
}

fn bad_files() -> Vec<Case> {
    let broken_yaml = "apiVersion: v1\nkind: Service\nmetadata:\n  name: [unclosed\n";
    vec![
        Case::text(
            "syntax.json",
            "{\"kind\": \"Service\",\n \"spec\": {]}\n",
            &["syntax.json:2"],
        ),
        Case::text("syntax.yaml", broken_yaml, &["syntax.yaml"]),
        Case::text("empty.yaml", "", &["empty.yaml"]),
        Case::text("zero.yaml", "kind: \0\0\0\n", &["zero.yaml"]),
        Case::text("scalar.yaml", "just words\n", &["scalar.yaml"]),
        Case {
            file: "bytes.json",
            bytes: vec![0xff, 0xfe, 0x00, 0x80],
            names: &["bytes.json"],
        },
        Case {
            file: "large.json",
            bytes: vec![b' '; 50 << 20],
            names: &["large.json"],
        },
    ]
}

fn problems(scene: &Scene) -> Result<f64> {
    let metrics = scene.agent.metrics()?;
    let name = "mesh_agent_source_problems";
    ensure!(metrics.has(name, &[]), "there is no {name}");
    Ok(metrics.sum(name, &[]))
}

/// The one line of the log that names the file and what is wrong in it.
fn ensure_one_line(scene: &Scene, case: &Case) -> Result<()> {
    let log = scene.agent.said();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(case.file))
        .filter(|line| case.names.iter().all(|name| line.contains(name)))
        .collect();
    ensure!(lines.len() == 1, "{}: {lines:?} in\n{log}", case.file);
    ensure!(
        lines[0].len() < 2000,
        "{}: a line of {}",
        case.file,
        lines[0].len()
    );
    let shown = scene.agent.json(&["status"])?.to_string();
    ensure!(
        shown.contains(case.file),
        "{} is not in the status",
        case.file
    );
    Ok(())
}

fn ensure_served(scene: &Scene) -> Result<()> {
    let report = scene
        .client
        .place()
        .call(&Call::connect(scene.any()?).count(40))?;
    ensure_clean(&report)
}

fn ensure_reported(scene: &Scene, case: &Case) -> Result<()> {
    let good = problems(scene)?;
    scene.source.write_raw(case.file, &case.bytes)?;
    eventually(&format!("{} is reported", case.file), || {
        ensure!(problems(scene)? > good, "no problem is counted");
        ensure_one_line(scene, case)
    })?;
    ensure_served(scene)?;
    scene.source.remove(case.file)?;
    eventually(&format!("{} is forgotten", case.file), || {
        let now = problems(scene)?;
        ensure!((now - good).abs() < 0.5, "{now} problems");
        Ok(())
    })
}

fn scene(lab: &mut mesh_lab::Lab) -> Result<Scene> {
    let scene = Scene::with(lab, Families::V4, 2, &AgentOptions::default())?;
    scene.settle(scene.any()?)?;
    Ok(scene)
}

#[test]
fn bad_objects_are_reported_by_object_and_field() -> Result<()> {
    test("bad-objects", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        for case in bad_objects()? {
            ensure_reported(&scene, &case)?;
        }
        let total = scene
            .agent
            .metrics()?
            .sum("mesh_agent_source_problems_total", &[]);
        ensure!(total >= 8.0, "{total} in all");
        ensure!(
            !scene.agent.said().contains('\u{1b}'),
            "the log carries an escape"
        );
        Ok(())
    })
}

#[test]
fn bad_files_are_reported_by_file() -> Result<()> {
    test("bad-files", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        for case in bad_files() {
            ensure_reported(&scene, &case)?;
        }
        Ok(())
    })
}

#[test]
fn one_bad_object_spoils_no_other_of_its_file() -> Result<()> {
    test("bad-neighbour", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let mut objects = scene.web.objects();
        let mut bad = service()?;
        bad["spec"]["clusterIPz"] = json!("x");
        objects.insert(1, bad);
        scene.source.write("web.json", &objects)?;
        eventually("the bad object is reported", || {
            ensure!(problems(&scene)? > 0.5, "no problem is counted");
            Ok(())
        })?;
        scene.settle(scene.any()?)
    })
}

/// What was good stays in force when it turns bad, file or object, until it is good again.
#[test]
fn the_last_good_version_stays() -> Result<()> {
    test("bad-last-good", Needs::Agent, |lab| {
        let mut scene = scene(lab)?;
        let mut bad = scene.web.objects();
        bad[0]["spec"]["ports"][0]["port"] = json!("eighty");
        let bad = json!({"apiVersion": "v1", "kind": "List", "items": bad}).to_string();
        for content in [bad.as_str(), "{", "", "\u{0}"] {
            scene.source.write_raw("web.json", content.as_bytes())?;
            eventually("it is reported", || {
                ensure!(problems(&scene)? > 0.5, "no problem is counted");
                Ok(())
            })?;
            scene.settle(scene.any()?)?;
            scene.publish()?;
            eventually("it is good again", || {
                ensure!(problems(&scene)? < 0.5, "still a problem");
                Ok(())
            })?;
        }
        scene.web.set("web-0", Condition::Unready)?;
        scene.publish()
    })
}

#[test]
fn of_an_object_in_two_files_the_first_counts() -> Result<()> {
    test("bad-twice", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let mut other = scene.web.objects();
        other[0]["spec"]["clusterIP"] = json!("10.96.0.99");
        other[0]["spec"]["clusterIPs"] = json!(["10.96.0.99"]);
        scene.source.write("zzz.json", &other)?;
        eventually("the second is reported", || {
            ensure!(problems(&scene)? > 0.5, "no problem is counted");
            let shown = scene.agent.json(&["status"])?.to_string();
            ensure!(
                shown.contains("zzz.json") && shown.contains("web.json"),
                "{shown}"
            );
            Ok(())
        })?;
        scene.settle(scene.any()?)
    })
}

#[test]
fn files_that_vanish_and_come_back_harm_nobody() -> Result<()> {
    test("bad-vanish", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        for number in 0..200 {
            let path = scene
                .source
                .path()
                .join(format!("flicker-{}.json", number % 5));
            fs::write(&path, "{\"kind\": \"Li")?;
            fs::remove_file(&path)?;
        }
        let good = serde_json::to_vec(
            &json!({"kind": "List", "apiVersion": "v1", "items": scene.web.objects()}),
        )?;
        let path = scene.source.path().join("web.json");
        let moved = scene.source.path().join("web.json~");
        for _ in 0..20 {
            // As editors save: the old one aside, the new one in its place.
            fs::rename(&path, &moved)?;
            fs::write(&path, &good)?;
            fs::remove_file(&moved)?;
            ensure_served(&scene)?;
        }
        scene.settle(scene.any()?)?;
        ensure!(scene.agent.is_running()?, "{}", scene.agent.said());
        Ok(())
    })
}

#[test]
fn a_directory_that_is_replaced_is_read_anew() -> Result<()> {
    test("bad-directory", Needs::Agent, |lab| {
        let mut scene = scene(lab)?;
        let (path, aside) = (scene.source.path().to_owned(), lab.files().join("aside"));
        fs::rename(&path, &aside)?;
        eventually("the missing directory is reported", || {
            ensure!(problems(&scene)? > 0.5, "no problem is counted");
            Ok(())
        })?;
        ensure_served(&scene)?;
        fs::create_dir(&path)?;
        scene.web.set("web-0", Condition::Unready)?;
        scene.publish()?;
        eventually("it is good again", || {
            ensure!(problems(&scene)? < 0.5, "still a problem");
            Ok(())
        })
    })
}

/// As a ConfigMap is mounted: all files are links through `..data`, which is swapped.
#[test]
fn a_swapped_data_link_is_seen() -> Result<()> {
    test("bad-swap", Needs::Agent, |lab| {
        let mut scene = scene(lab)?;
        let directory = scene.source.path().to_owned();
        let version = |name: &str, objects: Vec<Value>| -> Result<()> {
            let target = directory.join(name);
            fs::create_dir(&target)?;
            let list = json!({"kind": "List", "apiVersion": "v1", "items": objects});
            fs::write(target.join("web.json"), list.to_string())?;
            std::os::unix::fs::symlink(name, directory.join("..data_tmp"))?;
            fs::rename(directory.join("..data_tmp"), directory.join("..data"))?;
            Ok(())
        };
        version("..1", scene.web.objects())?;
        std::os::unix::fs::symlink("..data/web.json", directory.join("link.json"))?;
        scene.source.remove("web.json")?;
        scene.settle(scene.any()?)?;
        scene.web.set("web-0", Condition::Unready)?;
        version("..2", scene.web.objects())?;
        scene.settle(scene.any()?)
    })
}

#[test]
fn yaml_of_many_documents_is_read() -> Result<()> {
    test("good-yaml", Needs::Agent, |lab| {
        let scene = scene(lab)?;
        let address = scene.web.addresses_of("web-0")?[0];
        let yaml = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: plain\n  namespace: default\n\
             spec:\n  clusterIP: 10.96.0.77\n  clusterIPs: [10.96.0.77]\n  ports:\n  - port: 80\n    targetPort: 8080\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: plain-1\n  namespace: default\n\
             \x20 labels:\n    kubernetes.io/service-name: plain\naddressType: IPv4\nports:\n- port: 8080\n\
             endpoints:\n- addresses: [{address}]\n"
        );
        scene.source.write_raw("plain.yaml", yaml.as_bytes())?;
        let to: SocketAddr = "10.96.0.77:80".parse()?;
        mesh_lab::settle(&scene.client.place(), to, &["web-0".to_owned()])?;
        ensure!(problems(&scene)? < 0.5, "{}", scene.agent.said());
        Ok(())
    })
}

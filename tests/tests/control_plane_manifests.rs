//! What admins apply, before the real API server: every object and field of it is taken, and the agent works as the
//! ServiceAccount of the manifests with its rights alone, as the audit log tells.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use mesh_lab::{AgentOptions, Client, ControlPlaneOptions, Lab, Needs, Scene, eventually, test};
use serde_json::Value;

const INSTALL: &str = include_str!("../../manifests/install.yaml");
const UNINSTALL: &str = include_str!("../../manifests/uninstall.yaml");
const USER: &str = "system:serviceaccount:mesh-agent:mesh-agent";

/// What the ClusterRole lets the agent watch.
const WATCHED: [&str; 4] = ["services", "endpointslices", "nodes", "pods"];

/// What every user who is known may ask that is no object, by system:public-info-viewer and system:discovery.
const FREE_TO_ALL: [&str; 5] = ["/version", "/healthz", "/livez", "/readyz", "/api"];

fn objects(text: &str) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

/// The namespace is made, since even a dry run puts objects into one that exists.
fn with_namespace(lab: &mut Lab) -> Result<Client> {
    lab.use_control_plane_with(ControlPlaneOptions::audit)?;
    let client = lab.control_plane().context("it was started")?.client()?;
    client.namespace("mesh-agent")?;
    Ok(client)
}

#[test]
fn the_api_server_takes_every_object_and_field() -> Result<()> {
    test("dry-run", Needs::ControlPlane, |lab| {
        let client = with_namespace(lab)?;
        for text in [INSTALL, UNINSTALL] {
            for object in objects(text)? {
                client.dry_run(&object)?;
            }
        }
        let mut wrong = objects(INSTALL)?
            .pop()
            .context("the manifests are not empty")?;
        wrong["spec"]["template"]["spec"]["hostNetwrok"] = Value::Bool(true);
        let refused = client.dry_run(&wrong).map(drop);
        ensure!(
            refused.is_err_and(|error| format!("{error:#}").contains("hostNetwrok")),
            "a field that does not exist was taken"
        );
        Ok(())
    })
}

#[test]
fn the_agent_does_with_the_rights_of_the_manifests() -> Result<()> {
    test("rbac", Needs::ControlPlane, |lab| {
        let client = with_namespace(lab)?;
        for object in objects(INSTALL)? {
            client.apply(&object)?;
        }
        let token = client.token("mesh-agent", "mesh-agent", 3600)?;
        let control_plane = lab.control_plane().context("it was started")?;
        let log = control_plane
            .audit_log()
            .context("an audit log was asked for")?
            .to_owned();
        let server = control_plane.server().to_owned();
        let kubeconfig = control_plane.token_kubeconfig(&server, "mesh-agent", &token)?;
        let flags = ["--kubeconfig".to_owned(), kubeconfig.display().to_string()];
        let options = AgentOptions::flags(&flags);
        let mut scene = Scene::with(lab, mesh_lab::Families::Dual, 4, &options)?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        // Something that an Event is written about.
        client.create(NOT_SERVED)?;
        scene.web.set("web-0", mesh_lab::Condition::Unready)?;
        scene.publish()?;
        eventually("the agent wrote an Event", || {
            let requests = requests(&log)?;
            ensure!(
                requests.iter().any(|it| it.verb == "create"),
                "{requests:?}"
            );
            Ok(())
        })?;
        // A second start asks what a first one does not.
        scene.agent.kill()?;
        scene.agent = scene.one.agent_with(&options)?;
        scene.agent.terminate()?;
        judge(&requests(&log)?)
    })
}

const NOT_SERVED: &str = r#"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-names
  namespace: default
  labels: {kubernetes.io/service-name: web}
addressType: FQDN
endpoints: [{addresses: [web.example.com]}]
ports: [{name: http, port: 8080, protocol: TCP}]
"#;

/// A kind of request that the agent made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    verb: String,
    /// The resource, or the path of what is none.
    what: String,
    code: u64,
}

impl Request {
    fn of(event: &Value) -> Option<Self> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let path = text("/requestURI")?.split('?').next()?;
        Some(Self {
            verb: text("/verb")?.to_owned(),
            what: text("/objectRef/resource").unwrap_or(path).to_owned(),
            code: event.pointer("/responseStatus/code")?.as_u64()?,
        })
    }

    fn is_granted(&self) -> bool {
        let what = self.what.as_str();
        match self.verb.as_str() {
            "get" if what.starts_with('/') => {
                FREE_TO_ALL.contains(&what) || what.starts_with("/apis")
            }
            "get" | "list" | "watch" => WATCHED.contains(&what),
            "create" | "patch" => what == "events",
            _ => false,
        }
    }
}

/// Every kind of request of the ServiceAccount that the audit log has.
fn requests(log: &Path) -> Result<BTreeSet<Request>> {
    let text = fs::read_to_string(log).with_context(|| format!("no {}", log.display()))?;
    let mut found = BTreeSet::new();
    // The last line may be on its way.
    for line in text.lines().filter(|line| line.ends_with('}')) {
        let event: Value = serde_json::from_str(line)?;
        if event.pointer("/user/username").and_then(Value::as_str) == Some(USER) {
            found.extend(Request::of(&event));
        }
    }
    Ok(found)
}

fn judge(requests: &BTreeSet<Request>) -> Result<()> {
    for request in requests {
        println!("{} {}: {}", request.verb, request.what, request.code);
        ensure!(request.is_granted(), "outside of the role: {request:?}");
        ensure!(
            request.code != 403 && request.code != 401,
            "refused: {request:?}"
        );
    }
    for what in WATCHED {
        ensure!(
            requests
                .iter()
                .any(|it| it.what == what && it.verb == "watch"),
            "no watch of {what}: the log does not tell all"
        );
    }
    Ok(())
}

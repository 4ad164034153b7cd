//! The servers over real sockets, with an inside that is made up.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use super::{
    client::{Client, ClientError},
    lock::{self, Lock},
    run_dir::{self, RunDirError},
    servers::{self, Handle, ServeError},
};
use crate::{
    config::ServersConfig,
    telemetry::{
        Health, Introspect,
        log::{Level, LogError},
        metrics::{Metrics, Operations, Readings},
        view::{
            Document, EndpointView, ExplainView, Items, LogLevelView, MapView, ServiceView,
            StatusView,
        },
    },
};

/// A directory of its own that goes with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "mesh-agent-admin-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        run_dir::make(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

pub(crate) struct Fake {
    pub(crate) health: Mutex<Health>,
    pub(crate) level: Mutex<String>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            health: Mutex::new(Health {
                healthy: true,
                last_updated: SystemTime::UNIX_EPOCH,
                node_eligible: true,
                not_ready: None,
            }),
            level: Mutex::default(),
        }
    }
}

impl Introspect for Fake {
    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    fn status(&self) -> StatusView {
        StatusView {
            ready: self.health().not_ready.is_none(),
            reason: self.health().not_ready,
            ..StatusView::default()
        }
    }

    fn services(&self) -> Vec<ServiceView> {
        self.service("default", "web").into_iter().collect()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<ServiceView> {
        let there = (namespace, name) == ("default", "web");
        there.then(|| ServiceView {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            service_type: "ClusterIP".to_owned(),
            ..ServiceView::default()
        })
    }

    fn endpoints(&self) -> Vec<EndpointView> {
        vec![EndpointView::default()]
    }

    fn explain(&self, namespace: &str, name: &str) -> Option<ExplainView> {
        let service = self.service(namespace, name)?;
        Some(ExplainView {
            service,
            steps: Vec::new(),
        })
    }

    fn set_log_level(&self, level: &Level) -> Result<(), LogError> {
        *self.level.lock().unwrap() = level.to_string();
        Ok(())
    }
}

struct Nothing;

impl Readings for Nothing {
    fn maps(&self) -> Vec<MapView> {
        Vec::new()
    }

    fn operations(&self) -> Vec<Operations> {
        Vec::new()
    }

    fn stale(&self) -> Vec<(&'static str, u64)> {
        vec![("Service", 0)]
    }

    fn counters(&self) -> Vec<(mesh_common::Counter, u64)> {
        Vec::new()
    }
}

pub(crate) fn start(scratch: &Scratch, fake: &Arc<Fake>, host: &str) -> Handle {
    let any = Some(format!("{host}:0").parse().unwrap());
    let config = ServersConfig {
        run_dir: scratch.0.clone(),
        healthz: any,
        metrics: any,
    };
    let introspect: Arc<dyn Introspect> = fake.clone();
    servers::serve(&config, introspect, Metrics::new(Arc::new(Nothing))).unwrap()
}

/// What a server answers to these bytes, head and body.
fn say(address: SocketAddr, bytes: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_ascii_lowercase(), body.to_owned())
}

fn ask(address: SocketAddr, method: &str, path: &str, header: &str) -> (String, String) {
    say(
        address,
        &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n"),
    )
}

#[test]
fn health_speaks_as_kube_proxy_does() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    let get = |path| ask(handle.healthz().unwrap(), "GET", path, "");
    let (head, body) = get("/healthz");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["nodeEligible"], true);
    assert_eq!(body["lastUpdated"], body["currentTime"]);
    assert_eq!(body["healthy"], true);
    let (_, body) = get("/livez");
    assert!(!body.contains("nodeEligible"), "{body}");

    fake.health.lock().unwrap().node_eligible = false;
    assert!(get("/healthz").0.starts_with("http/1.1 503"));
    assert!(get("/livez").0.starts_with("http/1.1 200"));
    fake.health.lock().unwrap().healthy = false;
    let (head, body) = get("/livez");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert!(
        body.starts_with("{\"lastUpdated\":\"1970-01-01T00:00:00Z\",\"currentTime\":\""),
        "{body}"
    );
    handle.stop();
}

#[test]
fn ready_means_programmed_and_says_why_not() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    let get = || ask(handle.healthz().unwrap(), "GET", "/readyz", "");
    assert!(get().0.starts_with("http/1.1 200"));
    fake.health.lock().unwrap().not_ready = Some("no list of Pods yet".to_owned());
    let (head, body) = get();
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert!(body.contains("no list of Pods yet"), "{body}");
    handle.stop();
}

#[test]
fn metrics_are_encoded_as_asked() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    let get = |accept| ask(handle.metrics().unwrap(), "GET", "/metrics", accept);
    let (head, body) = get("");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(!body.contains("# EOF"), "{body}");
    let (head, body) = get("Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(
        head.contains("content-type: application/openmetrics-text"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"), "{body}");
    handle.stop();
}

#[test]
fn the_metrics_port_has_the_answers_of_kube_proxy() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    for (path, word) in [("/proxyMode", "ebpf"), ("/healthz", "ok")] {
        let (head, body) = ask(handle.metrics().unwrap(), "GET", path, "");
        assert!(
            head.contains("content-type: text/plain; charset=utf-8"),
            "{head}"
        );
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert_eq!(body, word);
    }
    for (path, metric) in [("/healthz", "healthz"), ("/livez", "livez")] {
        ask(handle.healthz().unwrap(), "GET", path, "");
        let (_, body) = ask(handle.metrics().unwrap(), "GET", "/metrics", "");
        let line = format!("kubeproxy_proxy_{metric}_total{{code=\"200\"}} 1");
        assert!(body.contains(&line), "{body}");
    }
    handle.stop();
}

#[test]
fn what_is_not_served_is_said_so() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    let (health, metrics) = (handle.healthz().unwrap(), handle.metrics().unwrap());
    for (address, method, path, status) in [
        (health, "GET", "/nonsense", "404"),
        (health, "GET", "/metrics", "404"),
        (health, "POST", "/healthz", "405"),
        (health, "HEAD", "/healthz", "200"),
        (metrics, "GET", "/", "404"),
        (metrics, "DELETE", "/metrics", "405"),
    ] {
        let (head, _) = ask(address, method, path, "");
        assert!(
            head.starts_with(&format!("http/1.1 {status}")),
            "{method} {path}: {head}"
        );
    }
    let (head, _) = say(health, "GET /readyz HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("http/1.0 200"), "{head}");
    handle.stop();
}

#[test]
fn requests_are_bounded() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    let address = handle.healthz().unwrap();
    let large = format!("X: {}\r\n", "x".repeat(32 * 1024));
    let (head, _) = ask(address, "GET", "/healthz", &large);
    assert!(head.starts_with("http/1.1 431"), "{head}");
    let body = format!("Content-Length: 8192\r\n\r\n{}", "x".repeat(8192));
    let (head, _) = say(
        address,
        &format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{body}"),
    );
    assert!(head.starts_with("http/1.1 413"), "{head}");
    // A header that never ends is not waited for.
    let mut slow = TcpStream::connect(address).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost:").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");
    handle.stop();
}

#[test]
fn addresses_of_ipv6_work() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this host has no IPv6 on loopback");
        return;
    }
    let handle = start(&scratch, &fake, "[::1]");
    let (head, _) = ask(handle.healthz().unwrap(), "GET", "/healthz", "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    handle.stop();
}

#[test]
fn a_busy_port_is_an_error_with_code_and_fix() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    let other = Scratch::new();
    let config = ServersConfig {
        run_dir: other.0.clone(),
        healthz: handle.healthz(),
        metrics: None,
    };
    let introspect: Arc<dyn Introspect> = fake.clone();
    let error = servers::serve(&config, introspect, Metrics::new(Arc::new(Nothing))).unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with("MESH115 --healthz-bind-address") && text.contains("choose"),
        "{text}"
    );
    handle.stop();
}

#[test]
fn the_client_reads_what_the_socket_says() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    let client = Client::new(&scratch.0);
    let status: Document<StatusView> = client.get("/v1/status").unwrap();
    assert_eq!(
        (status.kind.as_str(), status.content.ready),
        ("Status", true)
    );
    let list: Document<Items<ServiceView>> = client.get("/v1/services").unwrap();
    assert_eq!(list.content.items[0].name, "web");
    let service: Document<ServiceView> = client.get("/v1/services/default/web").unwrap();
    assert_eq!(service.kind, "Service");
    let explained: Document<ExplainView> = client.get("/v1/services/default/web/explain").unwrap();
    assert_eq!(explained.content.service.namespace, "default");
    let missing = client
        .get::<Document<ServiceView>>("/v1/services/default/missing")
        .unwrap_err();
    assert!(missing.to_string().contains("default/missing"), "{missing}");
    let nonsense = client
        .get::<Document<ServiceView>>("/v1/nonsense")
        .unwrap_err();
    assert!(
        matches!(nonsense, ClientError::Refused { status: 404, .. }),
        "{nonsense}"
    );
    handle.stop();
}

#[test]
fn the_log_level_is_set_or_refused() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let handle = start(&scratch, &fake, "127.0.0.1");
    let put = |level: &str| {
        let view = LogLevelView {
            level: level.to_owned(),
        };
        Client::new(&scratch.0).put::<Document<LogLevelView>>("/v1/log-level", &view)
    };
    put("info,a=debug").unwrap();
    assert_eq!(*fake.level.lock().unwrap(), "info,a=debug");
    let error = put("loud").unwrap_err().to_string();
    assert!(error.contains("loud") && error.contains("debug"), "{error}");
    handle.stop();
}

#[test]
fn the_socket_is_roots_and_goes_with_the_agent() {
    let (scratch, fake) = (Scratch::new(), Arc::new(Fake::default()));
    let path = scratch.0.join("agent.sock");
    fs::write(&path, "left by a killed agent").unwrap();
    let handle = start(&scratch, &fake, "127.0.0.1");
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&scratch.0)), (0o600, 0o700));
    handle.stop();
    assert!(!path.exists());
    let error = Client::new(&scratch.0)
        .get::<Document<StatusView>>("/v1/status")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("agent.sock") && error.contains("mesh-agent run"),
        "{error}"
    );
}

#[test]
fn a_directory_others_can_write_to_is_refused() {
    let scratch = Scratch::new();
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
    let error = run_dir::make(&scratch.0).unwrap_err();
    assert!(matches!(error, RunDirError::Writable { .. }), "{error}");
    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    let error = run_dir::make(&file).unwrap_err();
    assert!(matches!(error, RunDirError::NoDirectory { .. }), "{error}");
}

#[test]
fn a_second_lock_waits_for_the_first_and_hears_whose_it_is() {
    let scratch = Scratch::new();
    assert_eq!(lock::holder(&scratch.0).unwrap(), None);
    let first = Lock::acquire(&scratch.0, |_| panic!("nobody holds it")).unwrap();
    assert_eq!(lock::holder(&scratch.0).unwrap(), Some(std::process::id()));
    let (send, hear) = mpsc::channel();
    let run_dir = scratch.0.clone();
    let second =
        std::thread::spawn(move || Lock::acquire(&run_dir, |pid| send.send(pid).unwrap()).unwrap());
    assert_eq!(
        hear.recv_timeout(Duration::from_secs(10)).unwrap(),
        std::process::id()
    );
    assert!(!second.is_finished());
    drop(first);
    drop(second.join().unwrap());
    assert_eq!(lock::holder(&scratch.0).unwrap(), None);
}

#[test]
fn a_lock_whose_file_was_removed_meanwhile_is_taken_anew() {
    let scratch = Scratch::new();
    let first = Lock::acquire(&scratch.0, |_| ()).unwrap();
    let (send, hear) = mpsc::channel();
    let run_dir = scratch.0.clone();
    let second =
        std::thread::spawn(move || Lock::acquire(&run_dir, |pid| send.send(pid).unwrap()).unwrap());
    hear.recv_timeout(Duration::from_secs(10)).unwrap();
    fs::remove_dir_all(&scratch.0).unwrap();
    drop(first);
    let held = second.join().unwrap();
    assert!(lock::path(&scratch.0).exists());
    assert_eq!(lock::holder(&scratch.0).unwrap(), Some(std::process::id()));
    drop(held);
}

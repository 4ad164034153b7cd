//! What the source costs: a directory of 10,000 Services and as many slices of 10 endpoints, 500 Services a file, as
//! JSON and as YAML. Makes both below the given path, prints the times of the first load and of single changes, and
//! resident memory. `parse_bench PATH [json|yaml]`: with a format only that one, so that its memory is its own.

use std::{
    fmt::Write as _,
    fs, io,
    net::Ipv4Addr,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mesh_agent::{
    model::{Change, Kind},
    source::{Batch, decode::Options, dir::DirSource},
};
use serde_json::{Value, json};

const SERVICES: u32 = 10_000;
const PER_FILE: u32 = 500;
const ENDPOINTS: u32 = 10;
/// Services of the file that is changed: about 100 kB.
const PER_SMALL_FILE: u32 = 20;
const CHANGES: u32 = 50;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let path = PathBuf::from(arguments.next().context("parse_bench PATH [json|yaml]")?);
    let only = arguments.next();
    for format in ["json", "yaml"] {
        if only.as_ref().is_none_or(|only| only == format) {
            let directory = path.join(format);
            generate(&directory, format)?;
            measure(&directory, format)?;
        }
    }
    Ok(())
}

fn generate(directory: &Path, format: &str) -> Result<()> {
    fs::create_dir_all(directory)?;
    for first in (0..SERVICES).step_by(PER_FILE as usize) {
        let text = file(first, PER_FILE, 0, format)?;
        fs::write(directory.join(format!("{first:05}.{format}")), text)?;
    }
    let text = file(SERVICES, PER_SMALL_FILE, 0, format)?;
    fs::write(small(directory, format), text)?;
    Ok(())
}

fn small(directory: &Path, format: &str) -> PathBuf {
    directory.join(format!("small.{format}"))
}

fn file(first: u32, count: u32, round: u32, format: &str) -> Result<String> {
    let objects = (first..first + count).flat_map(|n| [service(n), slice(n, round)]);
    if format == "json" {
        let items: Vec<Value> = objects.collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        return Ok(serde_json::to_string_pretty(&list)?);
    }
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        yaml(&mut text, &object, 0)?;
    }
    Ok(text)
}

/// Block style, as kubectl prints.
fn yaml(text: &mut String, value: &Value, indent: usize) -> Result<()> {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                write!(text, "{pad}{key}:")?;
                nested(text, value, indent)?;
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                yaml(&mut inner, item, indent + 2)?;
                write!(text, "{pad}- {}", inner.trim_start())?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            writeln!(text, "{pad}{value}")?;
        }
    }
    Ok(())
}

fn nested(text: &mut String, value: &Value, indent: usize) -> Result<()> {
    if value.is_object() || value.is_array() {
        text.push('\n');
        return yaml(text, value, indent + 2);
    }
    writeln!(text, " {value}")?;
    Ok(())
}

fn service(n: u32) -> Value {
    let address = Ipv4Addr::from_bits(0x0a60_0000 + n).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": format!("service-{n}"), "namespace": format!("team-{}", n % 50),
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": format!("service-{n}")},
            "uid": format!("5f0c2a52-0000-4000-8000-{n:012}"), "resourceVersion": n.to_string(),
        },
        "spec": {
            "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "type": "ClusterIP", "selector": {"app": format!("service-{n}")},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
        "status": {"loadBalancer": {}},
    })
}

fn slice(n: u32, round: u32) -> Value {
    let endpoint = |k: u32| {
        let spread = if k == 0 { round } else { 0 };
        let address = Ipv4Addr::from_bits(0x0b00_0000 + (spread << 20) + n * ENDPOINTS + k);
        json!({
            "addresses": [address.to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", (n + k) % 100),
            "targetRef": {"kind": "Pod", "name": format!("service-{n}-{k}"), "namespace": format!("team-{}", n % 50)},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {
            "name": format!("service-{n}-abcde"), "namespace": format!("team-{}", n % 50),
            "labels": {"kubernetes.io/service-name": format!("service-{n}")},
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
    })
}

fn measure(directory: &Path, format: &str) -> Result<()> {
    let bytes: u64 = fs::read_dir(directory)?
        .map(|entry| entry?.metadata().map(|metadata| metadata.len()))
        .sum::<io::Result<u64>>()?;
    let began = Instant::now();
    let (source, mut stop) = DirSource::open(directory, Options::default())?;
    let (sender, batches) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        source.run(|batch| match sender.send((Instant::now(), batch)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
    });
    let (objects, took) = first_load(&batches, began)?;
    println!(
        "{format}: {} MiB, {objects} objects in {took:?}; {:.1} MiB resident, {:.1} at most",
        bytes >> 20,
        status_mib("VmRSS:"),
        status_mib("VmHWM:"),
    );
    let mut times = changes(directory, format, &batches)?;
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).copied();
    println!(
        "{format}: one endpoint in a file of {} kB: median {:?}, 90 % {:?}",
        fs::metadata(small(directory, format))?.len() / 1000,
        at(50).unwrap_or_default(),
        at(90).unwrap_or_default(),
    );
    stop.stop();
    if thread.join().is_err() {
        bail!("the source's thread broke down");
    }
    Ok(())
}

/// Objects are counted and dropped: what stays resident is the source's own.
fn first_load(
    batches: &mpsc::Receiver<(Instant, Batch)>,
    began: Instant,
) -> Result<(usize, Duration)> {
    let mut objects = 0;
    let mut synced = 0;
    loop {
        let (at, batch) = batches.recv()?;
        if let Some(problem) = batch.problems.iter().flatten().next() {
            bail!("{problem}");
        }
        for change in batch.changes {
            match change {
                Change::Put(_) => objects += 1,
                Change::Remove(id) => bail!("{id} was removed"),
                Change::Synced(_) => synced += 1,
                Change::Incomplete(_) => {}
            }
        }
        if synced == Kind::ALL.len() {
            return Ok((objects, at - began));
        }
    }
}

/// From the file's being in place to the batch.
fn changes(
    directory: &Path,
    format: &str,
    batches: &mpsc::Receiver<(Instant, Batch)>,
) -> Result<Vec<Duration>> {
    let aside = directory.join("aside");
    let mut times = Vec::new();
    for round in 1..=CHANGES {
        fs::write(&aside, file(SERVICES, PER_SMALL_FILE, round, format)?)?;
        let began = Instant::now();
        fs::rename(&aside, small(directory, format))?;
        let (at, batch) = batches.recv()?;
        ensure!(
            batch.changes.len() == PER_SMALL_FILE as usize,
            "{} changes",
            batch.changes.len()
        );
        times.push(at - began);
    }
    Ok(times)
}

fn status_mib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok())
        .unwrap_or(f64::NAN)
        / 1024.0
}

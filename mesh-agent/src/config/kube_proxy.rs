//! kube-proxy's configuration file (kubeproxy.config.k8s.io/v1alpha1), read as it is: what means the same here is used,
//! what has no meaning here is named in a warning. Flags of the command line count more.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use serde_json::Value;

use super::Bind;
use crate::{
    cli::duration,
    conntrack_timeouts::Timeouts,
    model::NodePortAddresses,
    telemetry::log::{Format, Level},
};

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// Why the file cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error(
        "MESH107 --config {path:?}: {reason}; give kube-proxy's configuration file, config.conf of its ConfigMap"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key that is used has a value that it cannot have.
    #[error("MESH108 --config {path:?}: {key}: {reason}; mend it, or leave it out")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Why.
        reason: String,
    },
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KubeProxyFile {
    /// clientConnection.kubeconfig
    pub kubeconfig: Option<PathBuf>,
    /// hostnameOverride
    pub node_name: Option<String>,
    /// healthzBindAddress
    pub healthz: Option<Bind<10256>>,
    /// metricsBindAddress
    pub metrics: Option<Bind<10249>>,
    /// nodePortAddresses
    pub node_port_addresses: Option<NodePortAddresses>,
    /// conntrack.tcpEstablishedTimeout and conntrack.tcpCloseWaitTimeout
    pub conntrack: Timeouts,
    /// logging.format
    pub logging_format: Option<Format>,
    /// logging.verbosity
    pub log_level: Option<Level>,
    /// Keys that have no meaning here, each with the reason.
    pub warnings: Vec<String>,
}

/// Keys that mean something to kube-proxy alone, by the start of their path.
const FOREIGN: [(&str, &str); 16] = [
    (
        "bindAddressHardFail",
        "an address that is taken always ends the start",
    ),
    ("clientConnection", "the agent chooses that itself"),
    (
        "clusterCIDR",
        "nothing depends on which addresses are Pods'",
    ),
    ("configSyncPeriod", "objects are watched"),
    (
        "conntrack",
        "the kernel's conntrack is left as it is but for its timeouts of TCP",
    ),
    (
        "detectLocal",
        "nothing depends on which addresses are Pods'",
    ),
    ("enableProfiling", "there is no profiler"),
    ("featureGates", "there are none"),
    ("iptables", "no such rules are made"),
    ("ipvs", "no such rules are made"),
    ("logging", "the agent's own flags say more"),
    ("mode", "Services are served by eBPF"),
    ("nftables", "no such rules are made"),
    ("oomScoreAdj", "whoever starts the agent sets it"),
    ("portRange", "it is not used"),
    ("showHiddenMetricsForVersion", "no metric is hidden"),
];

/// Keys of Windows.
const WINDOWS: [&str; 2] = ["windowsRunAsService", "winkernel"];

impl KubeProxyFile {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let unreadable = |reason: String| FileError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let document: Value =
            serde_saphyr::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        for (key, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            if document[key] != wanted {
                return Err(unreadable(format!(
                    "{key} is {}, not {wanted}",
                    document[key]
                )));
            }
        }
        let mut file = Self::default();
        for (key, value) in leaves("", &document) {
            file.take(path, &key, value)?;
        }
        Ok(file)
    }

    fn take(&mut self, path: &Path, key: &str, value: &Value) -> Result<(), FileError> {
        match key {
            "apiVersion" | "kind" => {}
            "clientConnection.kubeconfig" => {
                self.kubeconfig = Some(string(path, "clientConnection.kubeconfig", value)?.into());
            }
            "hostnameOverride" => {
                self.node_name = Some(string(path, "hostnameOverride", value)?.to_owned());
            }
            "healthzBindAddress" => {
                self.healthz = Some(parsed(path, "healthzBindAddress", value)?);
            }
            "metricsBindAddress" => {
                self.metrics = Some(parsed(path, "metricsBindAddress", value)?);
            }
            "nodePortAddresses" => {
                self.node_port_addresses = Some(node_port_addresses(path, value)?);
            }
            "conntrack.tcpEstablishedTimeout" => {
                let key = "conntrack.tcpEstablishedTimeout";
                self.conntrack.established = Some(span(path, key, value)?);
            }
            "conntrack.tcpCloseWaitTimeout" => {
                let key = "conntrack.tcpCloseWaitTimeout";
                self.conntrack.close_wait = Some(span(path, key, value)?);
            }
            "logging.format" => {
                self.logging_format = Some(format(path, value)?);
            }
            "logging.verbosity" => self.log_level = verbosity(path, value)?,
            "bindAddress" if is_any_address(value) => {}
            _ => self.warnings.push(warning(key)),
        }
        Ok(())
    }
}

/// Every value that says something, with its path. Empty strings, zeros, nulls and false are kube-proxy's words for "as
/// by default".
fn leaves<'a>(path: &str, value: &'a Value) -> Vec<(String, &'a Value)> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(&path, value)
            })
            .collect(),
        Value::Null | Value::Bool(false) => Vec::new(),
        Value::Number(number) if number.as_f64() == Some(0.0) => Vec::new(),
        Value::String(text) if text.is_empty() || is_zero(text) => Vec::new(),
        Value::Array(items) if items.is_empty() => Vec::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            vec![(path.to_owned(), value)]
        }
    }
}

/// Nothing, as Go writes durations and quantities.
fn is_zero(text: &str) -> bool {
    matches!(text, "0s" | "0")
}

fn is_any_address(value: &Value) -> bool {
    let address: Option<IpAddr> = value.as_str().and_then(|text| text.parse().ok());
    address.is_some_and(|address| address.is_unspecified())
}

fn warning(key: &str) -> String {
    let first = key.split('.').next().unwrap_or(key);
    if WINDOWS.contains(&first) {
        return format!("{key} has no meaning here: it is for Windows");
    }
    if first == "bindAddress" {
        return format!("{key} has no meaning here: the node's addresses are those of its Node");
    }
    let known = FOREIGN.iter().find(|(start, _)| key.starts_with(start));
    known.map_or_else(
        || format!("{key} is no key of {API_VERSION}: it is left out"),
        |(_, reason)| format!("{key} has no meaning here: {reason}"),
    )
}

fn string<'a>(path: &Path, key: &'static str, value: &'a Value) -> Result<&'a str, FileError> {
    value.as_str().ok_or_else(|| FileError::Value {
        path: path.to_owned(),
        key,
        reason: format!("{value} is no text"),
    })
}

fn parsed<T>(path: &Path, key: &'static str, value: &Value) -> Result<T, FileError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    string(path, key, value)?
        .parse()
        .map_err(|error: T::Err| FileError::Value {
            path: path.to_owned(),
            key,
            reason: format!("{value}: {error}"),
        })
}

/// A list of ranges, or of the one word primary.
fn node_port_addresses(path: &Path, value: &Value) -> Result<NodePortAddresses, FileError> {
    let key = "nodePortAddresses";
    let wrong = |reason| FileError::Value {
        path: path.to_owned(),
        key,
        reason,
    };
    let items = value.as_array();
    let items = items.ok_or_else(|| wrong(format!("{value} is no list")))?;
    let texts: Result<Vec<&str>, FileError> =
        items.iter().map(|item| string(path, key, item)).collect();
    texts?.join(",").parse().map_err(wrong)
}

fn format(path: &Path, value: &Value) -> Result<Format, FileError> {
    let key = "logging.format";
    Format::from_str(string(path, key, value)?, false).map_err(|_| FileError::Value {
        path: path.to_owned(),
        key,
        reason: format!("{value} is no format; text and json are"),
    })
}

/// klog's levels: from 4 on it is for debugging, from 6 on for tracing.
fn span(path: &Path, key: &'static str, value: &Value) -> Result<Duration, FileError> {
    duration::parse(string(path, key, value)?).map_err(|reason| FileError::Value {
        path: path.to_owned(),
        key,
        reason: format!("{value}: {reason}"),
    })
}

fn verbosity(path: &Path, value: &Value) -> Result<Option<Level>, FileError> {
    let key = "logging.verbosity";
    let number = value.as_u64().ok_or_else(|| FileError::Value {
        path: path.to_owned(),
        key,
        reason: format!("{value} is no number"),
    })?;
    let word = match number {
        0..4 => "info",
        4..6 => "debug",
        6.. => "trace",
    };
    Ok(word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<KubeProxyFile, FileError> {
        let head = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
        KubeProxyFile::parse(Path::new("config.conf"), &format!("{head}{text}"))
    }

    /// As kubeadm writes it.
    const KUBEADM: &str = r#"
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
"#;

    #[test]
    fn what_kubeadm_writes_is_taken_as_it_is() {
        let file = parse(KUBEADM).unwrap();
        let kubeconfig = Path::new("/var/lib/kube-proxy/kubeconfig.conf");
        assert_eq!(file.kubeconfig.as_deref(), Some(kubeconfig));
        assert_eq!(
            (&file.healthz, &file.metrics, &file.node_name),
            (&None, &None, &None)
        );
        let warned: Vec<&str> = file
            .warnings
            .iter()
            .filter_map(|warning| warning.split(' ').next())
            .collect();
        assert_eq!(warned, ["clusterCIDR"]);
    }

    #[test]
    fn what_means_the_same_is_used() {
        let file = parse(
            "hostnameOverride: node-a\nhealthzBindAddress: 127.0.0.1:20256\nmetricsBindAddress: 0.0.0.0\n\
             logging: {format: json, verbosity: 5}\n",
        )
        .unwrap();
        assert_eq!(file.node_name.as_deref(), Some("node-a"));
        let healthz = "127.0.0.1:20256".parse().unwrap();
        assert_eq!(file.healthz, Some(Bind(Some(healthz))));
        assert_eq!(
            file.metrics,
            Some(Bind(Some("0.0.0.0:10249".parse().unwrap())))
        );
        assert_eq!(file.logging_format, Some(Format::Json));
        assert_eq!(
            file.log_level.map(|level| level.to_string()).as_deref(),
            Some("debug")
        );
        assert!(file.warnings.is_empty(), "{:?}", file.warnings);
    }

    #[test]
    fn node_port_addresses_are_a_list() {
        let flag = |text: &str| Some(text.parse::<NodePortAddresses>().unwrap());
        let read = |text: &str| {
            let file = parse(&format!("nodePortAddresses: {text}\n"));
            file.map(|file| file.node_port_addresses)
        };
        let two = read("[192.0.2.0/24, '2001:db8::/32']").unwrap();
        assert_eq!(two, flag("192.0.2.0/24,2001:db8::/32"));
        assert_eq!(read("[primary]").unwrap(), flag("primary"));
        for wrong in ["[nowhere]", "nowhere", "[1]"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.starts_with("MESH108"), "{error}");
        }
    }

    #[test]
    fn what_has_no_meaning_is_named() {
        let text = "mode: ipvs\nipvs: {strictARP: true}\nwindowsRunAsService: true\nbindAddress: 10.0.0.1\nmoode: x\n\
                    conntrack: {udpTimeout: 30s}\ndetectLocalMode: NodeCIDR\n";
        let warnings = parse(text).unwrap().warnings;
        for start in [
            "mode has no meaning here",
            "ipvs.strictARP has no meaning here",
            "windowsRunAsService has no meaning here",
            "bindAddress has no meaning here",
            "moode is no key of",
            "conntrack.udpTimeout has no meaning here",
            "detectLocalMode has no meaning here",
        ] {
            assert!(
                warnings.iter().any(|warning| warning.starts_with(start)),
                "{start}: {warnings:?}"
            );
        }
        assert_eq!(warnings.len(), 7);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused() {
        for (text, code, word) in [
            (
                "healthzBindAddress: nowhere\n",
                "MESH108",
                "healthzBindAddress",
            ),
            ("hostnameOverride: [a]\n", "MESH108", "hostnameOverride"),
            (
                "logging: {verbosity: much}\n",
                "MESH108",
                "logging.verbosity",
            ),
            ("a: [\n", "MESH107", "config.conf"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(code) && error.contains(word), "{error}");
        }
        let other = KubeProxyFile::parse(Path::new("x"), "apiVersion: v1\nkind: Service\n");
        let error = other.unwrap_err().to_string();
        assert!(error.contains("apiVersion is \"v1\""), "{error}");
        let missing = KubeProxyFile::read(Path::new("/does/not/exist")).unwrap_err();
        assert!(missing.to_string().starts_with("MESH107"), "{missing}");
    }
}
